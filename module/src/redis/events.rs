//! What the server tells: keys that changed, entries added to event streams, databases that were emptied or loaded,
//! the node's part in replication.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use redis_module::raw;

use super::abi::{OK, RawContext, RawString};
use super::stream::Fresh;
use super::string::bytes;
use super::{Context, api, timer};
use crate::entry::guarded;
use crate::queue::keys::is_sub_key;

/// A change of the keyspace as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One database was emptied, or all of them (None).
    Flushed(Option<i32>),
    /// Data begins to be loaded: what is replayed has happened before.
    Loading,
    /// Data was loaded from disk or a primary.
    Loaded,
    Swapped(i32, i32),
    /// Slots are being moved, or were moved, by the server itself (CLUSTER MIGRATESLOTS).
    SlotsMoved,
    /// This node became a primary (true) or a replica.
    Primary(bool),
}

/// A hash was written or a key went. `gone` tells which.
pub type OnKey = fn(Context, key: &[u8], gone: bool);
/// A key that ends like one of a job's further keys was written or came.
pub type OnSubKey = fn(key: &[u8]);
/// An entry was added to a stream `<queue>:events`; the name comes without the suffix.
pub type OnEntry = fn(queue: &[u8], stream: Fresh);
pub type OnChange = fn(Change);

/// Where a change of a key goes to.
#[derive(Clone, Copy)]
pub struct Handlers {
    pub on_key: OnKey,
    pub on_sub_key: OnSubKey,
    pub on_entry: OnEntry,
    pub on_change: OnChange,
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// What becomes of a new entry of a stream, an [`Entries`].
static ENTRIES: AtomicU8 = AtomicU8::new(Entries::Told as u8);

#[repr(u8)]
enum Entries {
    /// The handler hears of it.
    Told,
    /// It is our own, and counted by whoever added it; or it is not the first, and the first says all.
    Kept,
    /// It is only noted that there is one.
    Noted,
}

/// Sets what becomes of entries, until it is dropped.
struct Listening;

impl Listening {
    fn by(entries: Entries) -> Self {
        ENTRIES.store(entries as u8, Ordering::Relaxed);
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        ENTRIES.store(Entries::Told as u8, Ordering::Relaxed);
    }
}

/// Tells of changes that need no handler for new entries of streams.
pub(super) fn quietly(tell: impl FnOnce()) {
    let _listening = Listening::by(Entries::Kept);
    tell();
}

/// Runs what adds entries that no handler is to hear of. Answers with whether there was one.
pub fn noting<T>(run: impl FnOnce() -> T) -> (T, bool) {
    let _listening = Listening::by(Entries::Noted);
    let made = run();
    (made, ENTRIES.load(Ordering::Relaxed) == Entries::Kept as u8)
}

/// Subscribes. Only while the module loads.
pub fn subscribe(context: Context, handlers: Handlers) -> bool {
    if HANDLERS.set(handlers).is_err() {
        return false;
    }
    // Not strings: a SET of a foreign key costs nothing.
    let kinds = raw::REDISMODULE_NOTIFY_HASH
        | raw::REDISMODULE_NOTIFY_SET
        | raw::REDISMODULE_NOTIFY_LIST
        | raw::REDISMODULE_NOTIFY_GENERIC
        | raw::REDISMODULE_NOTIFY_EXPIRED
        | raw::REDISMODULE_NOTIFY_EVICTED;
    let kinds = kinds as c_int | STREAM;
    let event = |id: u64, version: u64| raw::RedisModuleEvent { id, dataver: version };
    // SAFETY: callbacks have the signatures asked for and live as long as the module, which is never unloaded.
    unsafe {
        let subscribe = api!(RedisModule_SubscribeToServerEvent);
        // Servers that move no slots by themselves refuse it, and need not tell of it.
        subscribe(context.0, event(EVENT_SLOT_MIGRATION, 1), Some(server_event));
        api!(RedisModule_SubscribeToKeyspaceEvents)(context.0, kinds, Some(key_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_FLUSHDB, 1), Some(server_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_LOADING, 1), Some(server_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_SWAPDB, 1), Some(server_event)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_CRON_LOOP, 1), Some(cron)) == OK
            && subscribe(context.0, event(raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, 1), Some(server_event)) == OK
    }
}

const STREAM: c_int = raw::REDISMODULE_NOTIFY_STREAM;

/// VALKEYMODULE_EVENT_ATOMIC_SLOT_MIGRATION of Valkey 9, which the crate does not know.
const EVENT_SLOT_MIGRATION: u64 = 19;

extern "C" fn key_event(context: *mut RawContext, kind: c_int, event: *const c_char, key: *mut RawString) -> c_int {
    if kind == STREAM {
        let entries = ENTRIES.load(Ordering::Relaxed);
        if entries == Entries::Noted as u8 {
            ENTRIES.store(Entries::Kept as u8, Ordering::Relaxed);
        }
        if entries != Entries::Told as u8 {
            return OK;
        }
    }
    // SAFETY: the server's strings live through the call.
    let name = unsafe { bytes(key) };
    // The only keys of interest; everything else leaves here.
    if kind == STREAM {
        let Some(queue) = name.strip_suffix(b":events") else { return OK };
        // SAFETY: as above.
        if unsafe { CStr::from_ptr(event) } == c"xadd"
            && let Some(handlers) = HANDLERS.get()
        {
            // SAFETY: the key's name lives through the call.
            let stream = unsafe { Fresh::new(Context(context), key) };
            guarded("a stream's event", || (handlers.on_entry)(queue, stream));
        }
    } else if is_sub_key(name) {
        // SAFETY: as above.
        if !unsafe { is_gone(event) }
            && let Some(handlers) = HANDLERS.get()
        {
            guarded("a keyspace event", || (handlers.on_sub_key)(name));
        }
    } else if (name.ends_with(b":meta") || name.ends_with(b":guard:profile"))
        && let Some(handlers) = HANDLERS.get()
    {
        // SAFETY: as above.
        let gone = unsafe { is_gone(event) };
        guarded("a keyspace event", || (handlers.on_key)(Context(context), name, gone));
    }
    OK
}

/// # Safety
/// `event` must be a string of the server.
unsafe fn is_gone(event: *const c_char) -> bool {
    // SAFETY: by the caller.
    let event = unsafe { CStr::from_ptr(event).to_bytes() };
    matches!(event, b"del" | b"expired" | b"evicted" | b"rename_from" | b"move_from")
}

unsafe extern "C" fn cron(context: *mut RawContext, _event: raw::RedisModuleEvent, _sub: u64, _data: *mut c_void) {
    guarded("the cron", || timer::watch(Context(context)));
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
        raw::REDISMODULE_EVENT_LOADING => Change::Loading,
        raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED => {
            Change::Primary(sub == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER)
        }
        raw::REDISMODULE_EVENT_SWAPDB => {
            // SAFETY: swap events carry this struct.
            let swap = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
            Change::Swapped(swap.dbnum_first, swap.dbnum_second)
        }
        EVENT_SLOT_MIGRATION => Change::SlotsMoved,
        _ => return,
    };
    if let Some(handlers) = HANDLERS.get() {
        guarded("a server event", || (handlers.on_change)(change));
    }
}
