//! `CONFIG GET/SET bull.*`: numbers, switches and choices behind atomics, texts behind a lock.

use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use redis_module::raw;

use super::abi::{ERR, OK, RawString};
use super::string::OwnedString;
use super::{Context, api};
use crate::text::printable;

/// Where a setting lives.
#[derive(Debug)]
pub enum Place {
    Number {
        value: &'static AtomicI64,
        default: i64,
        min: i64,
        max: i64,
        memory: bool,
    },
    Switch {
        value: &'static AtomicBool,
        default: bool,
    },
    /// One of the words; the value is its index.
    Choice {
        value: &'static AtomicI64,
        default: i64,
        words: &'static [&'static str],
    },
    Text(&'static Text),
}

/// A setting that is text.
#[derive(Debug)]
pub struct Text {
    pub value: Mutex<String>,
    pub default: &'static str,
    /// It can be set at load only.
    pub immutable: bool,
    /// Refuses a value with the reason: one line.
    pub check: fn(&str) -> Result<(), String>,
}

impl Text {
    pub fn get(&self) -> String {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over a value that passes the check.
    pub fn set(&self, value: String) -> Result<(), String> {
        (self.check)(&value)?;
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }
}

/// A setting, without the module's name before it.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub place: Place,
    pub summary: &'static str,
}

/// Registers the settings and takes over what redis.conf says. Errors: the name that was refused.
pub fn register(context: Context, settings: &'static [Setting]) -> Result<(), &'static str> {
    for setting in settings {
        let name = CString::new(setting.name).expect("names of the table hold no NUL");
        // SAFETY: names live through the call; private data points at statics; callbacks have the signatures asked for.
        let status = unsafe {
            match &setting.place {
                Place::Number { value, default, min, max, memory } => {
                    let flags = if *memory { raw::REDISMODULE_CONFIG_MEMORY } else { raw::REDISMODULE_CONFIG_DEFAULT };
                    let data = std::ptr::from_ref::<AtomicI64>(value).cast_mut().cast();
                    api!(RedisModule_RegisterNumericConfig)(
                        context.0,
                        name.as_ptr(),
                        *default,
                        flags,
                        *min,
                        *max,
                        Some(get_number),
                        Some(set_number),
                        None,
                        data,
                    )
                }
                Place::Switch { value, default } => {
                    let data = std::ptr::from_ref::<AtomicBool>(value).cast_mut().cast();
                    api!(RedisModule_RegisterBoolConfig)(
                        context.0,
                        name.as_ptr(),
                        c_int::from(*default),
                        raw::REDISMODULE_CONFIG_DEFAULT,
                        Some(get_switch),
                        Some(set_switch),
                        None,
                        data,
                    )
                }
                Place::Choice { value, default, words } => {
                    let texts: Vec<CString> =
                        words.iter().map(|word| CString::new(*word).expect("words of the table hold no NUL")).collect();
                    let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
                    let numbers: Vec<c_int> = (0..words.len() as c_int).collect();
                    api!(RedisModule_RegisterEnumConfig)(
                        context.0,
                        name.as_ptr(),
                        *default as c_int,
                        raw::REDISMODULE_CONFIG_DEFAULT,
                        pointers.as_mut_ptr(),
                        numbers.as_ptr(),
                        words.len() as c_int,
                        Some(get_choice),
                        Some(set_choice),
                        None,
                        std::ptr::from_ref::<AtomicI64>(value).cast_mut().cast(),
                    )
                }
                Place::Text(text) => {
                    let default = CString::new(text.default).expect("defaults of the table hold no NUL");
                    let flags = if text.immutable {
                        raw::REDISMODULE_CONFIG_IMMUTABLE
                    } else {
                        raw::REDISMODULE_CONFIG_DEFAULT
                    };
                    api!(RedisModule_RegisterStringConfig)(
                        context.0,
                        name.as_ptr(),
                        default.as_ptr(),
                        flags,
                        Some(get_text),
                        Some(set_text),
                        None,
                        std::ptr::from_ref::<Text>(text).cast_mut().cast(),
                    )
                }
            }
        };
        if status != OK {
            return Err(setting.name);
        }
    }
    // SAFETY: the context is that of the loading module.
    if unsafe { api!(RedisModule_LoadConfigs)(context.0) } == OK {
        Ok(())
    } else {
        Err("a bull.* setting of redis.conf")
    }
}

unsafe extern "C" fn get_number(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: registered with a static atomic.
    unsafe { (*data.cast::<AtomicI64>()).load(Ordering::Relaxed) }
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut RawString,
) -> c_int {
    // SAFETY: registered with a static atomic; the server has checked the range.
    unsafe { (*data.cast::<AtomicI64>()).store(value, Ordering::Relaxed) };
    OK
}

unsafe extern "C" fn get_switch(_name: *const c_char, data: *mut c_void) -> c_int {
    // SAFETY: registered with a static atomic.
    c_int::from(unsafe { (*data.cast::<AtomicBool>()).load(Ordering::Relaxed) })
}

unsafe extern "C" fn set_switch(
    _name: *const c_char,
    value: c_int,
    data: *mut c_void,
    _error: *mut *mut RawString,
) -> c_int {
    // SAFETY: registered with a static atomic.
    unsafe { (*data.cast::<AtomicBool>()).store(value != 0, Ordering::Relaxed) };
    OK
}

unsafe extern "C" fn get_choice(_name: *const c_char, data: *mut c_void) -> c_int {
    // SAFETY: registered with a static atomic.
    unsafe { (*data.cast::<AtomicI64>()).load(Ordering::Relaxed) as c_int }
}

unsafe extern "C" fn set_choice(
    _name: *const c_char,
    value: c_int,
    data: *mut c_void,
    _error: *mut *mut RawString,
) -> c_int {
    // SAFETY: registered with a static atomic; the server has checked the word.
    unsafe { (*data.cast::<AtomicI64>()).store(i64::from(value), Ordering::Relaxed) };
    OK
}

thread_local! {
    /// What CONFIG GET was given last: the server reads it before it asks again, and frees nothing.
    static SHOWN: std::cell::RefCell<Option<OwnedString>> = const { std::cell::RefCell::new(None) };
}

unsafe extern "C" fn get_text(_name: *const c_char, data: *mut c_void) -> *mut RawString {
    // SAFETY: registered with a static.
    let text = unsafe { (*data.cast::<Text>()).get() };
    let string = OwnedString::new(text.as_bytes());
    let pointer = string.as_ptr();
    SHOWN.with(|shown| shown.replace(Some(string)));
    pointer
}

unsafe extern "C" fn set_text(
    _name: *const c_char,
    value: *mut RawString,
    data: *mut c_void,
    error: *mut *mut RawString,
) -> c_int {
    // SAFETY: registered with a static; the string is the server's, alive during the call.
    let (text, value) = unsafe {
        let mut len = 0;
        let start = api!(RedisModule_StringPtrLen)(value, &mut len);
        (
            &*data.cast::<Text>(),
            String::from_utf8_lossy(std::slice::from_raw_parts(start.cast::<u8>(), len)).into_owned(),
        )
    };
    match (text.check)(&value) {
        Ok(()) => {
            *text.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
            OK
        }
        Err(reason) => {
            let reason = printable(reason.as_bytes());
            // SAFETY: the server frees the string that explains the refusal.
            unsafe { *error = api!(RedisModule_CreateString)(null_mut(), reason.as_ptr().cast(), reason.len()) };
            ERR
        }
    }
}
