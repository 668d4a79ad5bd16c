//! The command filter: renames a command that a recogniser of ours knows. It sees every command of every client, before
//! AUTH, also those of the replication link, of scripts and of other modules; on Redis 7.0 a paused command twice.
//!
//! It only compares and renames: no state of a command, no allocation, no policy, no log on the way.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use redis_module::raw;

use super::context::server_version;
use super::string::{Args, OwnedString, bytes};
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

/// Answers the place of a command's new name among those registered, or None to let it pass.
pub type Rename = fn(Passing) -> Option<usize>;

struct Filter {
    rename: Rename,
    /// Fewest words of a command that the recogniser may know.
    least_words: i32,
    names: Vec<OwnedString>,
}

// SAFETY: the strings are made, handed out and compared on the main thread only; the static that holds them is never
// dropped.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

/// From this version on threads of Redis drop the words of commands beside the main thread, which counts references for itself:
/// a string that is ours as well could be freed under us. There each command has a string of its own, and is recognised twice.
const WORDS_MAY_BE_DROPPED_ELSEWHERE: i32 = 0x0008_0300;

static FILTER: OnceLock<Filter> = OnceLock::new();
/// A panic in the recogniser switches it off: better unguarded than a log line for each command.
static BROKEN: AtomicBool = AtomicBool::new(false);
/// The place of the name that was given last.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Registers the filter. The last step of the load: a load that fails afterwards would leave it dangling.
///
/// `names` may hold the same name at several places: a command that is renamed tells by the place, see [`Args::renamed`],
/// what the recogniser found.
pub fn register(context: Context, least_words: usize, names: &[&str], rename: Rename) -> bool {
    let flags = raw::REDISMODULE_CMDFILTER_NOSELF as i32;
    let names = names.iter().map(|name| OwnedString::new(name.as_bytes())).collect();
    let filter_of_ours = Filter { rename, least_words: i32::try_from(least_words).unwrap_or(i32::MAX), names };
    // SAFETY: the callback has the signature asked for and lives as long as the module, which is never unloaded.
    FILTER.set(filter_of_ours).is_ok()
        && unsafe { !api!(RedisModule_RegisterCommandFilter)(context.0, Some(filter), flags).is_null() }
}

extern "C" fn filter(context: *mut raw::RedisModuleCommandFilterCtx) {
    let Some(filter) = FILTER.get() else { return };
    // SAFETY: the context of the filter lives through this call.
    let words = unsafe { api!(RedisModule_CommandFilterArgsCount)(context) };
    // Most commands leave here.
    if words < filter.least_words || BROKEN.load(Ordering::Relaxed) {
        return;
    }
    let passing = Passing { filter: context, words: usize::try_from(words).unwrap_or(0) };
    match guarded("the command filter", || (filter.rename)(passing)) {
        Some(None) => {}
        Some(Some(place)) => {
            let Some(name) = filter.names.get(place) else { return };
            LAST.store(place, Ordering::Relaxed);
            let kept = server_version() < WORDS_MAY_BE_DROPPED_ELSEWHERE;
            let name = if kept { name.clone() } else { OwnedString::new(name.as_bytes()) };
            // SAFETY: the reference becomes the server's; that to the old string is dropped by it.
            unsafe { api!(RedisModule_CommandFilterArgReplace)(context, 0, name.into_raw()) };
        }
        None => BROKEN.store(true, Ordering::Relaxed),
    }
}

impl Args<'_> {
    /// The place of the name that the filter gave this command; None where its sender named it, and on servers where no name
    /// is kept. The filter saw these arguments, unless a filter of another module has changed them since.
    pub fn renamed(self) -> Option<usize> {
        let names = &FILTER.get()?.names;
        // The names are kept, so nothing else can lie where they do.
        let is_ours = |name: &OwnedString| self.is_named(name);
        let last = LAST.load(Ordering::Relaxed);
        if names.get(last).is_some_and(is_ours) { Some(last) } else { names.iter().position(is_ours) }
    }
}
