//! Keys opened by the key API, for reading or for writing: looks and changes that cost no command. What changes is not told
//! to anybody here; that is the work of [`super::queue_store`].

use std::ffi::{c_int, c_longlong};
use std::ops::Deref;
use std::ptr::null_mut;

use redis_module::raw;

use super::abi::{OK, RawString};
use super::string::OwnedString;
use super::{Context, api};
use crate::queue::store::{End, Kind, Ttl};

/// Whether a look at the key counts as use of it (OBJECT IDLETIME).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Yes,
    No,
}

/// What ZADD did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Changed,
    AsBefore,
}

/// An id of a stream's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId {
    pub ms: u64,
    pub seq: u64,
}

impl Context {
    /// Whether there is such a key. A look does not count as use.
    pub(super) fn has_key(self, name: &OwnedString) -> bool {
        // SAFETY: context and name are live.
        unsafe { api!(RedisModule_KeyExists)(self.0, name.as_ptr()) == 1 }
    }
}

/// A key opened for reading. Closed when dropped.
pub(super) struct ReadKey(*mut raw::RedisModuleKey);

impl ReadKey {
    /// None where there is no such key. A look does not count as use: OBJECT IDLETIME stays what it is.
    pub fn open(context: Context, name: &[u8]) -> Option<Self> {
        Self::open_named(context, &OwnedString::new(name))
    }

    /// [`ReadKey::open`] for a name that is a string of the server already.
    pub fn open_named(context: Context, name: &OwnedString) -> Option<Self> {
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NOTOUCH) as c_int;
        // SAFETY: context and name are live; the server keeps its own reference to the name.
        let key: *mut raw::RedisModuleKey = unsafe { api!(RedisModule_OpenKey)(context.0, name.as_ptr(), mode).cast() };
        (!key.is_null()).then_some(Self(key))
    }

    pub fn raw(&self) -> *mut raw::RedisModuleKey {
        self.0
    }

    pub fn kind(&self) -> Kind {
        // SAFETY: the key is open.
        match unsafe { api!(RedisModule_KeyType)(self.0) } as isize {
            raw::REDISMODULE_KEYTYPE_EMPTY => Kind::None,
            raw::REDISMODULE_KEYTYPE_STRING => Kind::String,
            raw::REDISMODULE_KEYTYPE_LIST => Kind::List,
            raw::REDISMODULE_KEYTYPE_HASH => Kind::Hash,
            raw::REDISMODULE_KEYTYPE_SET => Kind::Set,
            raw::REDISMODULE_KEYTYPE_ZSET => Kind::ZSet,
            raw::REDISMODULE_KEYTYPE_STREAM => Kind::Stream,
            _ => Kind::Other,
        }
    }

    /// Elements; 0 where there is nothing.
    pub fn len(&self) -> u64 {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ValueLength)(self.0) as u64 }
    }

    pub fn ttl(&self) -> Ttl {
        // SAFETY: the key is open.
        match unsafe { api!(RedisModule_GetExpire)(self.0) } {
            ms if ms < 0 => Ttl::Never,
            ms => Ttl::Millis(ms as u64),
        }
    }

    pub fn hget(&self, field: &OwnedString) -> Option<OwnedString> {
        if self.kind() != Kind::Hash {
            return None;
        }
        let mut value: *mut raw::RedisModuleString = null_mut();
        // SAFETY: an open hash; one field and one place for its value, ended by NULL; the value is ours to free.
        unsafe {
            let none = null_mut::<raw::RedisModuleString>();
            api!(RedisModule_HashGet)(self.0, raw::REDISMODULE_HASH_NONE as c_int, field.as_ptr(), &mut value, none);
            OwnedString::from_raw(value)
        }
    }

    pub fn zscore(&self, member: &OwnedString) -> Option<f64> {
        if self.kind() != Kind::ZSet {
            return None;
        }
        let mut score = 0.0;
        // SAFETY: an open sorted set.
        (unsafe { api!(RedisModule_ZsetScore)(self.0, member.as_ptr(), &mut score) } == OK).then_some(score)
    }

    /// The first `count` members of a sorted set; None where this is none. A third of what ZRANGE costs.
    pub fn first_members(&self, count: u64) -> Option<Vec<Vec<u8>>> {
        if self.kind() != Kind::ZSet {
            return None;
        }
        let mut members = Vec::with_capacity(count.min(self.len()) as usize);
        // SAFETY: an open sorted set; each element is ours to free; the range is stopped before the key closes.
        unsafe {
            if api!(RedisModule_ZsetFirstInScoreRange)(self.0, f64::NEG_INFINITY, f64::INFINITY, 0, 0) != OK {
                return None;
            }
            while (members.len() as u64) < count {
                let mut score = 0.0;
                let Some(member) = OwnedString::from_raw(api!(RedisModule_ZsetRangeCurrentElement)(self.0, &mut score))
                else {
                    break;
                };
                members.push(member.as_bytes().to_vec());
                if api!(RedisModule_ZsetRangeNext)(self.0) == 0 {
                    break;
                }
            }
            api!(RedisModule_ZsetRangeStop)(self.0);
        }
        Some(members)
    }

    /// Lowest score of all.
    pub fn first_score(&self) -> Option<f64> {
        self.ranged(|key| {
            // SAFETY: an open sorted set, by `ranged`.
            unsafe { api!(RedisModule_ZsetFirstInScoreRange)(key, f64::NEG_INFINITY, f64::INFINITY, 0, 0) }
        })
    }

    /// Highest score within `min..=max`.
    pub fn last_score(&self, min: f64, max: f64) -> Option<f64> {
        // SAFETY: as above.
        self.ranged(|key| unsafe { api!(RedisModule_ZsetLastInScoreRange)(key, min, max, 0, 0) })
    }

    fn ranged(&self, start: impl FnOnce(*mut raw::RedisModuleKey) -> c_int) -> Option<f64> {
        if self.kind() != Kind::ZSet || start(self.0) != OK {
            return None;
        }
        let mut score = 0.0;
        // SAFETY: a range is started; the element is ours to free; the range is stopped before the key closes.
        let found = unsafe {
            let found = OwnedString::from_raw(api!(RedisModule_ZsetRangeCurrentElement)(self.0, &mut score));
            api!(RedisModule_ZsetRangeStop)(self.0);
            found
        };
        found.map(|_| score)
    }
}

impl Drop for ReadKey {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once.
        unsafe { api!(RedisModule_CloseKey)(self.0) }
    }
}

/// A key opened for writing, which need not exist yet. Nobody else may change the key meanwhile.
pub(super) struct Key(ReadKey);

impl Deref for Key {
    type Target = ReadKey;

    fn deref(&self) -> &ReadKey {
        &self.0
    }
}

impl Key {
    pub fn open(context: Context, name: &OwnedString, touch: Touch) -> Self {
        let mut mode = raw::REDISMODULE_READ | raw::REDISMODULE_WRITE;
        if touch == Touch::No {
            mode |= raw::REDISMODULE_OPEN_KEY_NOTOUCH;
        }
        // SAFETY: context and name are live; the server keeps its own reference to the name.
        Self(ReadKey(unsafe { api!(RedisModule_OpenKey)(context.0, name.as_ptr(), mode as c_int).cast() }))
    }

    /// The bytes of a string; they may move with the next call. The server keeps the value unpacked from now on, which
    /// changes neither the value nor what is saved of it.
    fn string(&mut self) -> Option<&mut [u8]> {
        if self.kind() != Kind::String {
            return None;
        }
        let mut len = 0;
        // SAFETY: an open string; the pointer is good for `len` bytes until the next call, which `self` being borrowed delays.
        unsafe {
            let start = api!(RedisModule_StringDMA)(self.0.0, &mut len, raw::REDISMODULE_WRITE as c_int);
            (!start.is_null()).then(|| std::slice::from_raw_parts_mut(start.cast::<u8>(), len))
        }
    }

    pub fn text(&mut self) -> Option<Vec<u8>> {
        self.string().map(|bytes| bytes.to_vec())
    }

    /// INCR. None where the value is not a whole number that can grow.
    pub fn incr(&mut self) -> Option<i64> {
        let old = match self.kind() {
            Kind::None => 0,
            _ => std::str::from_utf8(self.string()?).ok()?.parse::<i64>().ok()?,
        };
        let new = old.checked_add(1)?;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(new).as_bytes();
        if self.len() as usize != digits.len() {
            // SAFETY: open for writing, a string or nothing.
            unsafe { api!(RedisModule_StringTruncate)(self.0.0, digits.len()) };
        }
        let bytes = self.string().filter(|bytes| bytes.len() == digits.len())?;
        bytes.copy_from_slice(digits);
        Some(new)
    }

    /// False where the key holds something else.
    ///
    /// # Safety
    /// Field and value must be live strings of the server.
    pub unsafe fn hset(&mut self, field: *mut RawString, value: *mut RawString) -> bool {
        // SAFETY: one pair, ended by NULL. With COUNT_ALL the answer is the number of pairs set.
        unsafe {
            let none = null_mut::<raw::RedisModuleString>();
            api!(RedisModule_HashSet)(self.0.0, raw::REDISMODULE_HASH_COUNT_ALL as c_int, field, value, none) == 1
        }
    }

    pub fn push(&mut self, end: End, element: &OwnedString) -> bool {
        let place = match end {
            End::Left => raw::REDISMODULE_LIST_HEAD,
            End::Right => raw::REDISMODULE_LIST_TAIL,
        };
        // SAFETY: open for writing; the server copies the element.
        unsafe { api!(RedisModule_ListPush)(self.0.0, place as c_int, element.as_ptr()) == OK }
    }

    pub fn zadd(&mut self, score: f64, member: &OwnedString) -> Option<Placed> {
        let mut flags = 0;
        // SAFETY: open for writing; the server copies the member.
        let status = unsafe { api!(RedisModule_ZsetAdd)(self.0.0, score, member.as_ptr(), &mut flags) };
        let changed = (raw::REDISMODULE_ZADD_ADDED | raw::REDISMODULE_ZADD_UPDATED) as c_int;
        (status == OK).then_some(if flags & changed != 0 { Placed::Changed } else { Placed::AsBefore })
    }

    /// XADD with an id of the server's choice; None where the stream takes no more.
    ///
    /// # Safety
    /// `pairs` must be live strings of the server, a field before each value.
    pub unsafe fn append(&mut self, pairs: &mut [*mut RawString]) -> Option<EntryId> {
        let mut id = raw::RedisModuleStreamID { ms: 0, seq: 0 };
        let flags = raw::REDISMODULE_STREAM_ADD_AUTOID as c_int;
        // SAFETY: open for writing; by the caller; the server copies all strings.
        let status = unsafe {
            api!(RedisModule_StreamAdd)(self.0.0, flags, &mut id, pairs.as_mut_ptr(), (pairs.len() / 2) as i64)
        };
        (status == OK).then_some(EntryId { ms: id.ms, seq: id.seq })
    }

    /// XTRIM MAXLEN ~ `max`; how many went.
    pub fn trim(&mut self, max: u64) -> u64 {
        let max = c_longlong::try_from(max).unwrap_or(c_longlong::MAX);
        let flags = raw::REDISMODULE_STREAM_TRIM_APPROX as c_int;
        // SAFETY: open for writing; another type is refused.
        u64::try_from(unsafe { api!(RedisModule_StreamTrimByLength)(self.0.0, flags, max) }).unwrap_or(0)
    }
}
