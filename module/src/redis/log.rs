//! Log lines. The text never is a format, and holds printable ASCII only.

use std::ffi::CString;
use std::ptr::null_mut;

use super::api;
use crate::text::short;

/// How loud a line is, as `loglevel` filters it.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    Notice,
    Warning,
}

/// Longest line, bytes; the server cuts at 1024 with its own prefix.
const MAX_LINE: usize = 900;

/// Writes one line to the server's log. Any thread.
pub fn log(level: Level, text: &str) {
    let level = match level {
        Level::Notice => c"notice",
        Level::Warning => c"warning",
    };
    // Printable ASCII has no NUL.
    let Ok(line) = CString::new(short(text.as_bytes(), MAX_LINE)) else { return };
    // SAFETY: "%s" takes one C string; a null context is allowed and needed off the main thread.
    unsafe { api!(RedisModule_Log)(null_mut(), level.as_ptr(), c"%s".as_ptr(), line.as_ptr()) }
}
