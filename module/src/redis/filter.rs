//! The command filter: renames a command that a recogniser of ours knows. It sees every command of every client, before
//! AUTH, also those of the replication link, of scripts and of other modules; on Redis 7.0 a paused command twice.
//!
//! It only compares and renames: no state, no allocation where nothing is renamed, no policy, no log on the way.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use redis_module::raw;

use super::string::bytes;
use super::{Context, api};
use crate::entry::guarded;

/// The words of a command that passes by.
#[derive(Clone, Copy)]
pub struct Passing {
    filter: *mut raw::RedisModuleCommandFilterCtx,
    words: usize,
}

impl Passing {
    pub fn len(self) -> usize {
        self.words
    }

    pub fn is_empty(self) -> bool {
        self.words == 0
    }

    /// A word, the command's name being the first; nothing past the end. Not to be kept beyond the call.
    pub fn get<'a>(self, index: usize) -> &'a [u8] {
        // SAFETY: the server hands out a live string of the command, or null past the end; nothing is inserted or replaced
        // while the recogniser looks at it.
        unsafe {
            let string = api!(RedisModule_CommandFilterArgGet)(self.filter, index as i32);
            if string.is_null() { &[] } else { bytes(string) }
        }
    }
}

/// Answers the new name of a command, or None to let it pass.
pub type Rename = fn(Passing) -> Option<&'static str>;

static RENAME: OnceLock<Rename> = OnceLock::new();
/// A panic in the recogniser switches it off: better unguarded than a log line for each command.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Registers the filter. The last step of the load: a load that fails afterwards would leave it dangling.
pub fn register(context: Context, rename: Rename) -> bool {
    let flags = raw::REDISMODULE_CMDFILTER_NOSELF as i32;
    // SAFETY: the callback has the signature asked for and lives as long as the module, which is never unloaded.
    RENAME.set(rename).is_ok()
        && unsafe { !api!(RedisModule_RegisterCommandFilter)(context.0, Some(filter), flags).is_null() }
}

extern "C" fn filter(context: *mut raw::RedisModuleCommandFilterCtx) {
    let Some(rename) = RENAME.get().filter(|_| !BROKEN.load(Ordering::Relaxed)) else { return };
    // SAFETY: the context of the filter lives through this call.
    let words = unsafe { api!(RedisModule_CommandFilterArgsCount)(context) };
    let passing = Passing { filter: context, words: usize::try_from(words).unwrap_or(0) };
    match guarded("the command filter", || rename(passing)) {
        Some(None) => {}
        Some(Some(name)) => {
            // SAFETY: the string is new and becomes the server's; the old one is freed by it.
            unsafe {
                let name = api!(RedisModule_CreateString)(null_mut(), name.as_ptr().cast(), name.len());
                api!(RedisModule_CommandFilterArgReplace)(context, 0, name);
            }
        }
        None => BROKEN.store(true, Ordering::Relaxed),
    }
}
