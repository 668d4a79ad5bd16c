//! Replies. Maps are RESP3 maps and flat arrays in RESP2, by the server's own choice.

use std::ffi::CString;

use super::Context;
use super::api;
use crate::text::printable;

/// A whole reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Integer(i64),
    Bulk(Vec<u8>),
    Text(String),
    Simple(&'static str),
    Bool(bool),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(String, Reply)>),
    /// One line that starts with its code.
    Error(String),
}

impl Reply {
    pub fn count(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub fn bulk(bytes: &[u8]) -> Self {
        Self::Bulk(bytes.to_vec())
    }
}

impl From<u64> for Reply {
    fn from(value: u64) -> Self {
        Self::count(value)
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A map with fixed names.
pub fn map<const N: usize>(fields: [(&str, Reply); N]) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Context {
    /// Answers the client. Once a command.
    pub fn reply(self, reply: &Reply) {
        // SAFETY: the context is live; pointers and lengths describe live memory; C strings end with NUL.
        unsafe {
            match reply {
                Reply::Integer(value) => api!(RedisModule_ReplyWithLongLong)(self.0, *value),
                Reply::Bulk(bytes) => {
                    api!(RedisModule_ReplyWithStringBuffer)(self.0, bytes.as_ptr().cast(), bytes.len())
                }
                Reply::Text(text) => api!(RedisModule_ReplyWithStringBuffer)(self.0, text.as_ptr().cast(), text.len()),
                Reply::Simple(text) => {
                    let text = CString::new(printable(text.as_bytes())).unwrap_or_default();
                    api!(RedisModule_ReplyWithSimpleString)(self.0, text.as_ptr())
                }
                Reply::Bool(on) => api!(RedisModule_ReplyWithLongLong)(self.0, i64::from(*on)),
                Reply::Null => api!(RedisModule_ReplyWithNull)(self.0),
                Reply::Array(items) => {
                    api!(RedisModule_ReplyWithArray)(self.0, items.len() as std::ffi::c_long);
                    items.iter().for_each(|item| self.reply(item));
                    0
                }
                Reply::Map(fields) => {
                    api!(RedisModule_ReplyWithMap)(self.0, fields.len() as std::ffi::c_long);
                    for (name, value) in fields {
                        api!(RedisModule_ReplyWithStringBuffer)(self.0, name.as_ptr().cast(), name.len());
                        self.reply(value);
                    }
                    0
                }
                Reply::Error(text) => {
                    let text = CString::new(printable(text.as_bytes())).unwrap_or_default();
                    api!(RedisModule_ReplyWithError)(self.0, text.as_ptr())
                }
            };
        }
    }
}
