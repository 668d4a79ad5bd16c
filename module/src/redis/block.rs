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

/// Makes the calling client wait, without a limit. Not for clients inside MULTI or a script.
pub fn wait(context: Context) -> Waiting {
    // SAFETY: the context is that of a running command; the callbacks have the signatures asked for.
    let client = unsafe { api!(RedisModule_BlockClient)(context.0, Some(answer), None, Some(free), 0) };
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

/// What a lowered thread asks to run at a stretch, ns: the longest that Linux takes. From Linux 6.12 on a thread that
/// wakes takes the core from one with a longer stretch than its own; with equal ones it may wait for the next tick.
const STRETCH: u64 = 100_000_000;

/// Lowers the calling thread's share of the processor and its claim to keep a core, so that compiling does not compete
/// with the server. Not SCHED_IDLE: on a machine without a free core a load would then never end.
pub fn lower_priority() {
    const NICE: i32 = 10;
    // SAFETY: plain system calls about the calling thread; a refusal changes nothing. The kernel reads `size` bytes.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, NICE);
        let mut wish: libc::sched_attr = std::mem::zeroed();
        wish.size = size_of::<libc::sched_attr>() as u32;
        wish.sched_policy = libc::SCHED_BATCH as u32;
        wish.sched_nice = NICE;
        wish.sched_runtime = STRETCH;
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0);
    }
}
