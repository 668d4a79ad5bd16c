//! The context that Redis hands to every callback: flags, the database, rights, time.

use std::ffi::{CStr, c_int};

use redis_module::raw;

use super::abi::RawContext;
use super::api;
use super::string::OwnedString;

/// A context of the server. Never outlives the callback it was handed to, and stays on its thread.
#[derive(Clone, Copy)]
pub struct Context(pub(super) *mut RawContext);

/// Where a command runs, as far as it changes what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// From a client that can be blocked.
    Client,
    /// Inside MULTI, a script or another module: the client cannot be blocked.
    Nested,
}

/// What a command is about to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Context {
    fn flags(self) -> u32 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetContextFlags)(self.0) as u32 }
    }

    pub fn setting(self) -> Setting {
        let nested = raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
        if self.flags() & nested != 0 { Setting::Nested } else { Setting::Client }
    }

    pub fn is_primary(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_MASTER != 0
    }

    pub fn is_cluster(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER != 0
    }

    pub fn is_loading(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_LOADING != 0
    }

    /// A timer or event may write: this node is a primary, is not loading, and no client pause or failover is on.
    pub fn may_write_unasked(self) -> bool {
        // SAFETY: the function takes nothing.
        let avoid = unsafe { raw::RedisModule_AvoidReplicaTraffic.map(|avoid| avoid()) };
        self.is_primary() && !self.is_loading() && avoid != Some(1)
    }

    pub fn db(self) -> i32 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetSelectedDb)(self.0) }
    }

    pub fn select(self, db: i32) -> bool {
        // SAFETY: the context is live; a wrong number is refused by the server.
        unsafe { api!(RedisModule_SelectDb)(self.0, db) == 0 }
    }

    /// The user of the calling client. Only in commands: in a timer there is none, and the server would crash.
    pub fn user(self) -> Option<User> {
        // SAFETY: the context is live; the name is ours to free.
        unsafe { OwnedString::from_raw(api!(RedisModule_GetCurrentUserName)(self.0)) }.map(User)
    }

    /// The server's own rights check for each key, for the user of the calling client.
    /// The first key that is not covered, if any.
    pub fn first_denied<'k>(self, keys: impl IntoIterator<Item = &'k [u8]>, access: Access) -> Option<&'k [u8]> {
        self.user()?.first_denied(keys, access).ok().flatten()
    }

    /// A field of INFO as a number; None where it is not there.
    pub fn server_number(self, section: &CStr, field: &CStr) -> Option<u64> {
        let [number] = self.server_numbers(section, [field]);
        number
    }

    /// Keys with an expiry in the context's database; None where the server does not say.
    pub fn volatile_keys(self) -> Option<u64> {
        let field = std::ffi::CString::new(format!("db{}", self.db())).ok()?;
        // SAFETY: the data is ours until freed, once; the value lives as long and is copied before.
        let text = unsafe {
            let info = api!(RedisModule_GetServerInfo)(self.0, c"keyspace".as_ptr());
            let value = api!(RedisModule_ServerInfoGetFieldC)(info, field.as_ptr());
            let text = (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo)(self.0, info);
            text?
        };
        text.split(',').find_map(|part| part.strip_prefix("expires="))?.parse().ok()
    }

    /// Several fields of one section: the server makes all of it for each call.
    pub fn server_numbers<const N: usize>(self, section: &CStr, fields: [&CStr; N]) -> [Option<u64>; N] {
        // SAFETY: the data is ours until freed, once.
        unsafe {
            let info = api!(RedisModule_GetServerInfo)(self.0, section.as_ptr());
            let numbers = fields.map(|field| {
                let mut error = 0;
                let value = api!(RedisModule_ServerInfoGetFieldUnsigned)(info, field.as_ptr(), &mut error);
                (error == 0).then_some(value)
            });
            api!(RedisModule_FreeServerInfo)(self.0, info);
            numbers
        }
    }

    /// Sets all options of the module, in one call: each call replaces what the one before has set. Only while the module
    /// loads.
    ///
    /// - Keys that are opened for writing count as changed only where `signal_modified` says so.
    /// - Valkey 9 hears that CLUSTER MIGRATESLOTS may move slots with this module loaded, which it refuses otherwise: all
    ///   that the module knows of a queue comes from its keys, and the server refuses writes to a slot that this node does
    ///   not serve, ours too. Other servers do not: the same bit could come to mean something else on Redis.
    pub fn set_options(self) {
        // SAFETY: probed; takes nothing.
        let known = unsafe { raw::RedisModule_GetModuleOptionsAll.map_or(0, |all| all()) };
        let mut options = raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED as c_int;
        if known & OPTION_SLOT_MIGRATION != 0 && self.has_server_field(c"server", c"valkey_version") {
            options |= OPTION_SLOT_MIGRATION;
        }
        // SAFETY: the context is that of the load; the options are ones that the server knows.
        unsafe { api!(RedisModule_SetModuleOptions)(self.0, options) };
    }

    fn has_server_field(self, section: &CStr, field: &CStr) -> bool {
        // SAFETY: the data is ours until freed, once; the value lives as long and is only compared with null.
        unsafe {
            let info = api!(RedisModule_GetServerInfo)(self.0, section.as_ptr());
            let found = !api!(RedisModule_ServerInfoGetFieldC)(info, field.as_ptr()).is_null();
            api!(RedisModule_FreeServerInfo)(self.0, info);
            found
        }
    }
}

/// A user of the server by name. Main thread only, and usable after the command that named it has ended.
pub struct User(OwnedString);

// SAFETY: the string is made, read and freed on the main thread only; statics that hold it are never dropped.
unsafe impl Send for User {}

/// The user was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl User {
    /// The first key that this user, as its rights are now, may not use, if any. Errors: there is no such user.
    pub fn first_denied<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k [u8]>,
        access: Access,
    ) -> Result<Option<&'k [u8]>, Gone> {
        self.find_denied(keys, access, |key| OwnedString::new(key))
    }

    /// [`User::first_denied`] for names that are strings of the server already.
    pub fn first_denied_name<'k>(
        &self,
        names: impl IntoIterator<Item = &'k OwnedString>,
        access: Access,
    ) -> Result<Option<&'k OwnedString>, Gone> {
        self.find_denied(names, access, |name| (*name).clone())
    }

    fn find_denied<K>(
        &self,
        keys: impl IntoIterator<Item = K>,
        access: Access,
        string: impl Fn(&K) -> OwnedString,
    ) -> Result<Option<K>, Gone> {
        // SAFETY: the name is live; the user is freed below.
        let user = unsafe { api!(RedisModule_GetModuleUserFromUserName)(self.0.as_ptr()) };
        if user.is_null() {
            return Err(Gone);
        }
        let wanted = match access {
            Access::Read => raw::REDISMODULE_CMD_KEY_ACCESS,
            Access::Write => raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE,
        } as i32;
        let denied = keys.into_iter().find(|key| {
            let key = string(key);
            // SAFETY: user and key are live.
            unsafe { api!(RedisModule_ACLCheckKeyPermissions)(user, key.as_ptr(), wanted) != 0 }
        });
        // SAFETY: made above, freed once.
        unsafe { api!(RedisModule_FreeModuleUser)(user) };
        Ok(denied)
    }
}

/// `VALKEYMODULE_OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION`, which the crate does not name.
const OPTION_SLOT_MIGRATION: c_int = 1 << 5;

/// Unix time, milliseconds.
pub fn now_ms() -> u64 {
    // SAFETY: takes nothing.
    u64::try_from(unsafe { api!(RedisModule_Milliseconds)() }).unwrap_or(0)
}

/// `0xMMmmpp`; what the server calls Redis compatibility on Valkey.
pub fn server_version() -> i32 {
    // SAFETY: takes nothing.
    unsafe { api!(RedisModule_GetServerVersion)() }
}

/// The context that the crate hands to the function that loads the module.
pub fn of_load(context: &redis_module::Context) -> Context {
    Context(context.ctx)
}
