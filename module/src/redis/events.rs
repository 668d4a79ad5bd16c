//! What the server tells: keys that changed, databases that were emptied or loaded.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use redis_module::raw;

use super::abi::{OK, RawContext, RawString};
use super::string::bytes;
use super::{Context, api};
use crate::entry::guarded;

/// A change of the keyspace as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One database was emptied, or all of them (None).
    Flushed(Option<i32>),
    /// Data was loaded from disk or a primary.
    Loaded,
    Swapped(i32, i32),
}

/// A hash was written or a key went. `gone` tells which.
pub type OnKey = fn(Context, key: &[u8], gone: bool);
pub type OnChange = fn(Change);

static ON_KEY: OnceLock<OnKey> = OnceLock::new();
static ON_CHANGE: OnceLock<OnChange> = OnceLock::new();

/// Subscribes. Only while the module loads.
pub fn subscribe(context: Context, on_key: OnKey, on_change: OnChange) -> bool {
    if ON_KEY.set(on_key).is_err() || ON_CHANGE.set(on_change).is_err() {
        return false;
    }
    let kinds = (raw::REDISMODULE_NOTIFY_HASH | raw::REDISMODULE_NOTIFY_GENERIC) as c_int;
    let event = |id: u64, version: u64| raw::RedisModuleEvent { id, dataver: version };
    // SAFETY: callbacks have the signatures asked for and live as long as the module, which is never unloaded.
    unsafe {
        let subscribe = api!(RedisModule_SubscribeToServerEvent);
        api!(RedisModule_SubscribeToKeyspaceEvents)(context.0, kinds, Some(key_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_FLUSHDB, 1), Some(server_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_LOADING, 1), Some(server_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_SWAPDB, 1), Some(server_event)) == OK
    }
}

extern "C" fn key_event(context: *mut RawContext, _kind: c_int, event: *const c_char, key: *mut RawString) -> c_int {
    // SAFETY: the server's strings live through the call.
    let (event, key) = unsafe { (CStr::from_ptr(event).to_bytes(), bytes(key)) };
    // The only keys of interest; everything else leaves here.
    if key.ends_with(b":meta")
        && let Some(on_key) = ON_KEY.get()
    {
        let gone = matches!(event, b"del" | b"expired" | b"evicted" | b"rename_from" | b"move_from");
        guarded("a keyspace event", || on_key(Context(context), key, gone));
    }
    OK
}

unsafe extern "C" fn server_event(
    _context: *mut RawContext,
    event: raw::RedisModuleEvent,
    sub: u64,
    data: *mut c_void,
) {
    let change = match event.id {
        raw::REDISMODULE_EVENT_FLUSHDB if sub == raw::REDISMODULE_SUBEVENT_FLUSHDB_END => {
            // SAFETY: flush events carry this struct.
            let db = unsafe { (*data.cast::<raw::RedisModuleFlushInfo>()).dbnum };
            Change::Flushed((db >= 0).then_some(db))
        }
        raw::REDISMODULE_EVENT_LOADING
            if matches!(sub, raw::REDISMODULE_SUBEVENT_LOADING_ENDED | raw::REDISMODULE_SUBEVENT_LOADING_FAILED) =>
        {
            Change::Loaded
        }
        raw::REDISMODULE_EVENT_SWAPDB => {
            // SAFETY: swap events carry this struct.
            let swap = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
            Change::Swapped(swap.dbnum_first, swap.dbnum_second)
        }
        _ => return,
    };
    if let Some(on_change) = ON_CHANGE.get() {
        guarded("a server event", || on_change(change));
    }
}
