//! Running a client's script as that client.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use redis_module::raw;

use super::call::Effect::Local;
use super::string::Args;
use super::{Context, api};
use crate::redis::log::{Level, log};
use crate::redis::reply::Reply;

/// Most scripts made known without running, and their greatest size in bytes. BullMQ has a few of up to 30 KB in each
/// release; no server forgets a loaded script before SCRIPT FLUSH, so their number must have an end.
const MAX_SCRIPTS: usize = 256;
const MAX_SCRIPT_BYTES: usize = 128 * 1024;

/// How the script ended. Its reply has gone to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Ran {
    /// With an error of the script or of the server.
    Failed,
    /// With this string.
    Text(Vec<u8>),
    /// With something else, such as one of BullMQ's negative numbers.
    Other,
}

impl Context {
    /// Runs EVAL or EVALSHA with the words of this command after its name, with the client's rights, in its protocol, and
    /// answers the client with what comes back, byte for byte. Effects go to AOF and replicas. `M`: without it Redis 7.2 and
    /// later let a script that a module runs write over maxmemory.
    pub fn run_script(self, command: &CStr, args: Args<'_>) -> Ran {
        let words = args.after_name();
        let run = |format: &CStr| {
            // SAFETY: "v" takes a pointer to strings and their count; they are the arguments of the running command.
            unsafe {
                *libc::__errno_location() = 0;
                let (words, count) = (words.as_ptr().cast_mut(), words.len());
                let reply = api!(RedisModule_Call)(self.0, command.as_ptr(), format.as_ptr(), words, count);
                (reply, *libc::__errno_location())
            }
        };
        let (mut reply, mut error) = run(c"!0CEMv");
        if error == libc::ENOTSUP {
            // A client without a user, such as the link to the primary, has all rights.
            free(reply);
            (reply, error) = run(c"!0EMv");
        }
        if reply.is_null() {
            self.reply(&Reply::Error(format!("ERR the server refused {}", command.to_string_lossy())));
            return Ran::Failed;
        }
        let ran = self.forward(command, reply, error);
        free(reply);
        ran
    }

    /// Makes the server know a script that EVAL has brought and that does not run. Clients send EVAL once on a connection
    /// and EVALSHA from then on; where that stands in a MULTI, as in a flow, there is no way back to EVAL for them.
    pub fn remember_script(self, text: &[u8]) {
        static KNOWN: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
        if text.len() > MAX_SCRIPT_BYTES {
            return;
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let is_last = {
            let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get_or_insert_default();
            if known.len() == MAX_SCRIPTS && !known.contains(&hasher.finish()) {
                return;
            }
            known.insert(hasher.finish()) && known.len() == MAX_SCRIPTS
        };
        if is_last {
            log(Level::Warning, &format!("bull: {MAX_SCRIPTS} scripts were refused and loaded; more are not loaded"));
        }
        // One that does not compile is refused here, and again when it is to run.
        let _ = self.call(c"SCRIPT", Local, &[b"LOAD".as_slice().into(), text.into()]);
    }

    fn forward(self, command: &CStr, reply: *mut raw::RedisModuleCallReply, error: i32) -> Ran {
        // SAFETY: the reply is live; its text lives as long.
        let (kind, text) = unsafe {
            let mut len = 0;
            let start = api!(RedisModule_CallReplyStringPtr)(reply, &mut len);
            let text = if start.is_null() { &[] } else { std::slice::from_raw_parts(start.cast::<u8>(), len) };
            (api!(RedisModule_CallReplyType)(reply) as isize, text)
        };
        let failed = kind == raw::REDISMODULE_REPLY_ERROR;
        if failed && error == libc::EACCES && !text.starts_with(b"NOPERM") {
            // Redis 7.0 words a denial of RM_Call in its own way; clients know this one.
            let name = command.to_string_lossy().to_lowercase();
            self.reply(&Reply::Error(format!("NOPERM this user has no permissions to run the '{name}' command")));
            return Ran::Failed;
        }
        // SAFETY: context and reply are live; the server copies what it sends.
        unsafe { api!(RedisModule_ReplyWithCallReply)(self.0, reply) };
        match kind {
            _ if failed => Ran::Failed,
            raw::REDISMODULE_REPLY_STRING => Ran::Text(text.to_vec()),
            _ => Ran::Other,
        }
    }

    /// The server asks where the keys are, instead of running the command.
    pub(super) fn is_asked_for_keys(self) -> bool {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_IsKeysPositionRequest)(self.0) != 0 }
    }

    /// Tells the places of the keys of a command of EVAL's form: the number of keys stands third, the keys follow.
    pub(super) fn tell_numbered_keys(self, args: Args<'_>) {
        let count = args.get(2).and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok()).unwrap_or(0);
        if count > args.len().saturating_sub(3) {
            return;
        }
        let flags = raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;
        for place in 3..3 + count {
            // SAFETY: only called where the server asks for keys; the place is one of an argument.
            unsafe { api!(RedisModule_KeyAtPosWithFlags)(self.0, place as i32, flags as i32) };
        }
    }
}

fn free(reply: *mut raw::RedisModuleCallReply) {
    if !reply.is_null() {
        // SAFETY: a reply of RM_Call, freed once.
        unsafe { api!(RedisModule_FreeCallReply)(reply) };
    }
}
