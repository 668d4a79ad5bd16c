//! Running a client's script as that client.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

use redis_module::raw;

use super::abi::RawString;
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
#[derive(Debug)]
pub enum Ran {
    /// With an error of the script or of the server.
    Failed,
    Answered(CallReply),
}

/// A reply of RM_Call, freed when dropped. The server takes it apart only where it is asked for a part.
#[derive(Debug)]
pub struct CallReply(*mut raw::RedisModuleCallReply);

impl CallReply {
    /// Made of nothing but its bytes.
    fn is_error(&self) -> bool {
        let mut len = 0;
        // SAFETY: the reply is live, and its bytes with it.
        unsafe {
            let start = api!(RedisModule_CallReplyProto)(self.0, &mut len);
            len > 0 && !start.is_null() && *start.cast::<u8>() == b'-'
        }
    }

    /// The text of a string or an error; None for anything else.
    pub fn text(&self) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: the reply is live, and its text with it.
        unsafe {
            let start = api!(RedisModule_CallReplyStringPtr)(self.0, &mut len);
            (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast(), len))
        }
    }
}

/// Most words that are handed over one by one; the add scripts have 11 to 17.
const FEW: usize = 20;

/// Formats of RM_Call: one with [`FEW`] words before the flags, to be cut to their number, and one with a vector of words.
/// For single words the server makes a vector of the right size at once.
type Format = (&'static CStr, &'static CStr);

const AS_CLIENT: Format = (c"ssssssssssssssssssss!0CEM", c"!0CEMv");
const AS_SERVER: Format = (c"ssssssssssssssssssss!0EM", c"!0EMv");

/// # Safety
/// `words` must be live strings.
unsafe fn call(
    context: Context,
    command: &CStr,
    (few, many): Format,
    words: &[*mut RawString],
) -> *mut raw::RedisModuleCallReply {
    let (context, command) = (context.0, command.as_ptr());
    // SAFETY: the server's function, looked up before anything runs.
    let call = unsafe { api!(RedisModule_Call) };
    let Some(unused) = FEW.checked_sub(words.len()) else {
        // SAFETY: "v" takes a pointer to strings and their count.
        return unsafe { call(context, command, many.as_ptr(), words.as_ptr().cast_mut(), words.len()) };
    };
    let mut all = [null_mut(); FEW];
    all[..words.len()].copy_from_slice(words);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = all;
    let format = few[unused..].as_ptr();
    // SAFETY: each "s" takes a string; what is behind those that the format names is not looked at.
    unsafe { call(context, command, format, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t) }
}

impl Drop for CallReply {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_FreeCallReply)(self.0) };
    }
}

impl Context {
    /// Runs EVAL or EVALSHA with the words of this command after its name, with the client's rights, in its protocol, and
    /// answers the client with what comes back, byte for byte. Effects go to AOF and replicas. `M`: without it Redis 7.2 and
    /// later let a script that a module runs write over maxmemory.
    pub fn run_script(self, command: &CStr, args: Args<'_>) -> Ran {
        let run = |format: Format| {
            // SAFETY: they are the arguments of the running command, alive until it returns.
            unsafe {
                *libc::__errno_location() = 0;
                let reply = call(self, command, format, args.after_name());
                ((!reply.is_null()).then(|| CallReply(reply)), *libc::__errno_location())
            }
        };
        let (mut reply, mut error) = run(AS_CLIENT);
        if error == libc::ENOTSUP {
            // A client without a user, such as the link to the primary, has all rights.
            drop(reply);
            (reply, error) = run(AS_SERVER);
        }
        match reply {
            Some(reply) => self.forward(command, reply, error),
            None => {
                self.reply(&Reply::Error(format!("ERR the server refused {}", command.to_string_lossy())));
                Ran::Failed
            }
        }
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

    fn forward(self, command: &CStr, reply: CallReply, error: i32) -> Ran {
        let failed = reply.is_error();
        if failed && error == libc::EACCES && !reply.text().is_some_and(|text| text.starts_with(b"NOPERM")) {
            // Redis 7.0 words a denial of RM_Call in its own way; clients know this one.
            let name = command.to_string_lossy().to_lowercase();
            self.reply(&Reply::Error(format!("NOPERM this user has no permissions to run the '{name}' command")));
            return Ran::Failed;
        }
        // SAFETY: context and reply are live; the server copies what it sends.
        unsafe { api!(RedisModule_ReplyWithCallReply)(self.0, reply.0) };
        if failed { Ran::Failed } else { Ran::Answered(reply) }
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
