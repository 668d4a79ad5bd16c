//! The newest entry of a stream, read where it lies: what a BullMQ event says, without its payload.

use std::ffi::c_int;
use std::ptr::null_mut;

use redis_module::raw;

use super::abi::{OK, RawString};
use super::string::OwnedString;
use super::{Context, api};

/// A stream to which an entry was just added. Lives as long as the event that tells so.
#[derive(Clone, Copy)]
pub struct Fresh {
    context: Context,
    key: *mut RawString,
}

/// The first two values of an entry.
pub struct Entry {
    /// Time in the entry's id, Unix milliseconds.
    pub ms: u64,
    pub first: OwnedString,
    pub second: Option<OwnedString>,
}

impl Fresh {
    /// # Safety
    /// `key` must be the live name of a key, for as long as the value is used.
    pub(super) unsafe fn new(context: Context, key: *mut RawString) -> Self {
        Self { context, key }
    }

    pub fn context(self) -> Context {
        self.context
    }

    /// The newest entry. Its second value is read only where `wants_second` says so of the first: values may be long.
    pub fn newest(self, wants_second: fn(&[u8]) -> bool) -> Option<Entry> {
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NOTOUCH) as c_int;
        // SAFETY: by the contract of `new`; the key is closed below.
        let key: *mut raw::RedisModuleKey = unsafe { api!(RedisModule_OpenKey)(self.context.0, self.key, mode).cast() };
        if key.is_null() {
            return None;
        }
        // SAFETY: the key is open, and is a stream where the iterator starts; values handed out are ours to free.
        unsafe {
            let start = api!(RedisModule_StreamIteratorStart);
            let entry = (start(key, raw::REDISMODULE_STREAM_ITERATOR_REVERSE as c_int, null_mut(), null_mut()) == OK)
                .then(|| {
                    let entry = read(key, wants_second);
                    api!(RedisModule_StreamIteratorStop)(key);
                    entry
                });
            api!(RedisModule_CloseKey)(key);
            entry.flatten()
        }
    }
}

/// # Safety
/// `key` must be an open stream with an iterator.
unsafe fn read(key: *mut raw::RedisModuleKey, wants_second: fn(&[u8]) -> bool) -> Option<Entry> {
    // SAFETY: by the caller.
    unsafe {
        let mut id = raw::RedisModuleStreamID { ms: 0, seq: 0 };
        let mut fields = 0;
        if api!(RedisModule_StreamIteratorNextID)(key, &mut id, &mut fields) != OK {
            return None;
        }
        let value = || {
            let (mut name, mut value) = (null_mut(), null_mut());
            let status = api!(RedisModule_StreamIteratorNextField)(key, &mut name, &mut value);
            let (_name, value) = (OwnedString::from_raw(name), OwnedString::from_raw(value));
            value.filter(|_| status == OK)
        };
        let first = value()?;
        let second = if fields > 1 && wants_second(first.as_bytes()) { value() } else { None };
        Some(Entry { ms: id.ms, first, second })
    }
}
