//! What the server is told of a change that was made by the key API: commands for AOF and replicas, signals, events.
//!
//! It changes nothing itself.

use std::ffi::{CStr, c_int};

use super::abi::RawString;
use super::string::OwnedString;
use super::{Context, api};

impl Context {
    /// A core command for AOF and replicas, whose effect is in the keyspace already. `key` is its first argument.
    pub(super) fn replicate(self, command: &CStr, key: &OwnedString, rest: &[*mut RawString]) {
        let mut rest = rest;
        let first = [key.as_ptr()];
        // SAFETY: "v" takes a pointer to strings and their count; the server takes references of its own.
        unsafe {
            if rest.is_empty() {
                rest = &[];
            }
            api!(RedisModule_Replicate)(
                self.0,
                command.as_ptr(),
                c"vv".as_ptr(),
                first.as_ptr(),
                first.len(),
                rest.as_ptr(),
                rest.len(),
            );
        }
    }

    /// WATCH and client tracking hear of a change.
    pub(super) fn signal_modified(self, key: &OwnedString) {
        // SAFETY: context and name are live.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.0, key.as_ptr()) };
    }

    pub(super) fn notify(self, kind: c_int, event: &CStr, key: &OwnedString) {
        // SAFETY: context, event and name are live.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent)(self.0, kind, event.as_ptr(), key.as_ptr()) };
    }
}
