//! `INFO bull`: numbers and short texts, one field a line.

use std::ffi::{CString, c_int};
use std::sync::OnceLock;

use super::abi::RawInfo;
use super::{Context, api};
use crate::entry::guarded;
use crate::text::printable;

/// A section: its name and its fields.
pub struct Section {
    pub name: &'static str,
    pub fields: Vec<(&'static str, u64)>,
}

/// Gathers the sections; must not touch the keyspace, as it also runs for a crash report.
pub type Gather = fn() -> Vec<Section>;

static GATHER: OnceLock<Gather> = OnceLock::new();

/// Registers the sections. Only while the module loads.
pub fn register(context: Context, gather: Gather) -> bool {
    // SAFETY: the callback has the signature asked for.
    GATHER.set(gather).is_ok() && unsafe { api!(RedisModule_RegisterInfoFunc)(context.0, Some(write)) == 0 }
}

extern "C" fn write(info: *mut RawInfo, for_crash_report: c_int) {
    if for_crash_report != 0 {
        return;
    }
    let Some(gather) = GATHER.get() else { return };
    let sections = guarded("INFO", gather).unwrap_or_default();
    let c = |text: &str| CString::new(printable(text.as_bytes())).unwrap_or_default();
    for section in sections {
        // SAFETY: the info context lives through the call; names are C strings.
        unsafe {
            if api!(RedisModule_InfoAddSection)(info, c(section.name).as_ptr()) != 0 {
                continue;
            }
            for (name, value) in section.fields {
                api!(RedisModule_InfoAddFieldULongLong)(info, c(name).as_ptr(), value);
            }
        }
    }
}
