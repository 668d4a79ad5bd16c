//! A module beside ours, for the tests: it has a command filter of its own, which renames `NEIGHBOUR.X` to `X` for
//! `EVAL`, `EVALSHA` and `GET`, and a command `NEIGHBOUR.CALL format command [argument ...]`, which calls another by
//! RM_Call with that format before its `v`, and answers what comes back. Never in a release.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null_mut;

use redis_module::raw;
use redis_module::{Context, RedisString, Status};

/// What the filter looks for, and what it makes of it.
const RENAMED: [(&[u8], &str); 3] =
    [(b"NEIGHBOUR.EVAL", "EVAL"), (b"NEIGHBOUR.EVALSHA", "EVALSHA"), (b"NEIGHBOUR.GET", "GET")];

macro_rules! api {
    ($name:ident) => {
        raw::$name.expect("a server with modules")
    };
}

/// The bytes of a string of the server.
///
/// # Safety
/// The string lives as long as they are used.
unsafe fn bytes<'a>(string: *const raw::RedisModuleString) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: the caller has a live string.
    unsafe {
        let start = api!(RedisModule_StringPtrLen)(string, &mut len);
        std::slice::from_raw_parts(start.cast(), len)
    }
}

extern "C" fn filter(context: *mut raw::RedisModuleCommandFilterCtx) {
    // SAFETY: the context and its first word live through the call; the new name becomes the server's.
    unsafe {
        let name = bytes(api!(RedisModule_CommandFilterArgGet)(context, 0));
        if let Some((_, to)) = RENAMED.iter().find(|(from, _)| name.eq_ignore_ascii_case(from)) {
            let to = api!(RedisModule_CreateString)(null_mut(), to.as_ptr().cast(), to.len());
            api!(RedisModule_CommandFilterArgReplace)(context, 0, to);
        }
    }
}

extern "C" fn call(context: *mut raw::RedisModuleCtx, args: *mut *mut raw::RedisModuleString, count: c_int) -> c_int {
    // SAFETY: the arguments live through the call; "v" takes a pointer to strings and their count; the reply is freed once.
    unsafe {
        let args = std::slice::from_raw_parts_mut(args, usize::try_from(count).expect("a count"));
        if args.len() < 3 {
            return api!(RedisModule_WrongArity)(context);
        }
        let text = |string: *mut raw::RedisModuleString| CString::new(bytes(string)).expect("no NUL");
        let (format, command) = (CString::new([bytes(args[1]), b"v"].concat()).expect("no NUL"), text(args[2]));
        let words = &mut args[3..];
        let reply = api!(RedisModule_Call)(context, command.as_ptr(), format.as_ptr(), words.as_mut_ptr(), words.len());
        if reply.is_null() {
            return api!(RedisModule_ReplyWithError)(context, c"ERR the call gave nothing".as_ptr());
        }
        let answered = api!(RedisModule_ReplyWithCallReply)(context, reply);
        api!(RedisModule_FreeCallReply)(reply);
        answered
    }
}

fn load(context: &Context, _args: &[RedisString]) -> Status {
    let name: *const c_char = c"NEIGHBOUR.CALL".as_ptr();
    // SAFETY: the callbacks have the signatures asked for and live as long as the module.
    let fine = unsafe {
        api!(RedisModule_CreateCommand)(context.ctx, name, Some(call), c"".as_ptr(), 0, 0, 0) == 0
            && !api!(RedisModule_RegisterCommandFilter)(context.ctx, Some(filter), 0).is_null()
    };
    if fine { Status::Ok } else { Status::Err }
}

#[allow(clippy::disallowed_methods, reason = "the macro logs fixed texts of its own")]
mod declaration {
    use super::load;

    redis_module::redis_module! {
        name: "neighbour",
        version: 1,
        allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
        data_types: [],
        init: load,
        commands: [],
    }
}
