//! Clients that wait for an answer, and work that comes back to the main thread from the background.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use redis_module::raw;

use super::abi::{OK, RawContext, RawString};
use super::reply::Reply;
use super::{Context, api};
use crate::entry::guarded;

/// A client that waits. Answer it once; one that is dropped gets an internal error.
pub struct Waiting(Option<*mut raw::RedisModuleBlockedClient>);

// SAFETY: the server allows RM_UnblockClient from any thread; nothing else is done with the pointer.
unsafe impl Send for Waiting {}

/// Makes the calling client wait, without a limit or for at most `timeout_ms` with `on_timeout` as its answer.
/// Not for clients inside MULTI or a script.
pub fn wait(context: Context, timeout_ms: Option<u64>) -> Waiting {
    let timeout = timeout_ms.map_or(0, |ms| ms as i64);
    let on_timeout = timeout_ms.map(|_| timed_out as unsafe extern "C" fn(_, _, _) -> _);
    // SAFETY: the context is that of a running command; the callbacks have the signatures asked for.
    let client = unsafe { api!(RedisModule_BlockClient)(context.0, Some(answer), on_timeout, Some(free), timeout) };
    Waiting(Some(client))
}

impl Waiting {
    pub fn answer(mut self, reply: Reply) {
        self.unblock(reply);
    }

    fn unblock(&mut self, reply: Reply) {
        if let Some(client) = self.0.take() {
            let reply = Box::into_raw(Box::new(reply)).cast();
            // SAFETY: the client is unblocked once; `free` takes the box back.
            unsafe { api!(RedisModule_UnblockClient)(client, reply) };
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.unblock(Reply::Error("ERR internal error, see the server's log".into()));
        }
    }
}

extern "C" fn answer(context: *mut RawContext, _argv: *mut *mut RawString, _argc: c_int) -> c_int {
    // SAFETY: the private data is the box that `unblock` gave, alive until `free`.
    let reply = unsafe { api!(RedisModule_GetBlockedClientPrivateData)(context).cast::<Reply>().as_ref() };
    if let Some(reply) = reply {
        Context(context).reply(reply);
    }
    OK
}

extern "C" fn timed_out(context: *mut RawContext, _argv: *mut *mut RawString, _argc: c_int) -> c_int {
    let text = "BULLPOLICY compiling takes longer than allowed; the policy was not loaded";
    Context(context).reply(&Reply::Error(text.into()));
    OK
}

unsafe extern "C" fn free(_context: *mut RawContext, data: *mut c_void) {
    if !data.is_null() {
        // SAFETY: the box of `unblock`, freed once by the server's promise.
        drop(unsafe { Box::from_raw(data.cast::<Reply>()) });
    }
}

/// Work for the main thread.
pub type Task = Box<dyn FnOnce(Context) + Send>;

/// Runs `task` on the main thread in one of the next turns of the event loop. Any thread.
pub fn on_main_thread(task: Task) {
    let data = Box::into_raw(Box::new(task)).cast();
    // SAFETY: the server calls `run_task` once with the box; the function may be called from any thread.
    unsafe { api!(RedisModule_EventLoopAddOneShot)(Some(run_task), data) };
}

unsafe extern "C" fn run_task(data: *mut c_void) {
    // SAFETY: the box of `on_main_thread`.
    let task = unsafe { Box::from_raw(data.cast::<Task>()) };
    // SAFETY: the main thread holds the lock here; the context is freed below and not kept by a task.
    unsafe {
        let context = api!(RedisModule_GetThreadSafeContext)(null_mut());
        guarded("a background task", || task(Context(context)));
        api!(RedisModule_FreeThreadSafeContext)(context);
    }
}

/// Lowers the calling thread's share of the processor, so that compiling does not compete with the server.
pub fn lower_priority() {
    // SAFETY: plain system calls about the calling thread; a refusal changes nothing.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, 10);
    }
}
