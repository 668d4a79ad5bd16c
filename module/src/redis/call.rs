//! Commands to the server (RM_Call), always with `E`: a refused command is an error, never a silent nothing.

use std::ffi::CStr;

use redis_module::raw;

use super::Context;
use super::api;
use super::string::OwnedString;
use crate::queue::fields::{Known, Word};
use crate::queue::store::{StoreError, StoreResult};

/// Whether AOF and replicas receive the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `!`: a write.
    Replicated,
    /// A read.
    Local,
}

/// An answer of the server.
#[derive(Debug)]
pub enum Answer {
    Integer(i64),
    Text(Vec<u8>),
    List(Vec<Answer>),
    Nothing,
}

impl Answer {
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            _ => 0,
        }
    }

    pub fn text(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(value) => Some(value.to_string().into_bytes()),
            _ => None,
        }
    }

    pub fn texts(self) -> Vec<Vec<u8>> {
        match self {
            Self::List(items) => items.into_iter().filter_map(Self::text).collect(),
            _ => Vec::new(),
        }
    }
}

thread_local! {
    /// The fixed words as ready strings of the server, made once.
    static KNOWN: Vec<OwnedString> = Known::ALL.iter().map(|known| OwnedString::new(known.text().as_bytes())).collect();
}

/// One of the fixed words as a string of the server.
pub(super) fn with_known<T>(word: Known, work: impl FnOnce(&OwnedString) -> T) -> T {
    KNOWN.with(|known| work(&known[word as usize]))
}

/// Commands with more arguments than this use the heap for their argument list.
const INLINE: usize = 32;

impl Context {
    /// Runs a core command. Errors: the server's own text.
    pub fn call(self, command: &CStr, effect: Effect, words: &[Word]) -> StoreResult<Answer> {
        let format = match effect {
            Effect::Replicated => c"!Ev",
            Effect::Local => c"Ev",
        };
        let made: Vec<OwnedString> = words
            .iter()
            .filter_map(|word| match word {
                Word::Bytes(bytes) => Some(OwnedString::new(bytes)),
                Word::Known(_) => None,
            })
            .collect();
        KNOWN.with(|known| {
            let mut fresh = made.iter();
            let mut argv = Vec::with_capacity(INLINE.max(words.len()));
            for word in words {
                let string = match word {
                    Word::Known(word) => &known[*word as usize],
                    Word::Bytes(_) => fresh.next().expect("one was made for each"),
                };
                argv.push(string.as_ptr());
            }
            // SAFETY: "v" takes a pointer to strings and their count, all alive until the call returns.
            unsafe {
                let reply =
                    api!(RedisModule_Call)(self.0, command.as_ptr(), format.as_ptr(), argv.as_mut_ptr(), argv.len());
                if reply.is_null() {
                    return Err(StoreError(format!("the server refused {}", command.to_string_lossy())));
                }
                let answer = read(reply);
                api!(RedisModule_FreeCallReply)(reply);
                answer
            }
        })
    }
}

/// # Safety
/// `reply` must be a live reply of the server.
unsafe fn read(reply: *mut raw::RedisModuleCallReply) -> StoreResult<Answer> {
    // SAFETY: by the caller; elements live as long as their reply.
    unsafe {
        let text = || {
            let mut len = 0;
            let start = api!(RedisModule_CallReplyStringPtr)(reply, &mut len);
            if start.is_null() { Vec::new() } else { std::slice::from_raw_parts(start.cast::<u8>(), len).to_vec() }
        };
        match api!(RedisModule_CallReplyType)(reply) as isize {
            raw::REDISMODULE_REPLY_ERROR => Err(StoreError(String::from_utf8_lossy(&text()).into_owned())),
            raw::REDISMODULE_REPLY_INTEGER => Ok(Answer::Integer(api!(RedisModule_CallReplyInteger)(reply))),
            raw::REDISMODULE_REPLY_STRING => Ok(Answer::Text(text())),
            raw::REDISMODULE_REPLY_ARRAY => {
                let length = api!(RedisModule_CallReplyLength)(reply);
                let mut items = Vec::with_capacity(length);
                for index in 0..length {
                    items.push(read(api!(RedisModule_CallReplyArrayElement)(reply, index))?);
                }
                Ok(Answer::List(items))
            }
            _ => Ok(Answer::Nothing),
        }
    }
}
