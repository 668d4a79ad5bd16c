//! `CONFIG GET/SET bull.*`: numbers and switches behind atomics.

use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use redis_module::raw;

use super::abi::{OK, RawString};
use super::{Context, api};

/// Where a setting lives.
#[derive(Debug)]
pub enum Place {
    Number { value: &'static AtomicI64, default: i64, min: i64, max: i64, memory: bool },
    Switch { value: &'static AtomicBool, default: bool },
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
