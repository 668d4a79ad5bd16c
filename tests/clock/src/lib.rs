//! The time of day, moved, for the tests: preloaded into a server, it adds the milliseconds that the file `BULL_CLOCK` holds
//! (eight bytes, little endian) to what the kernel says. The monotonic clock stays as it is. Allocates nothing, since
//! allocators ask for the time. Never in a release.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use libc::{c_int, c_long, c_void, clockid_t, time_t, timespec, timeval};

/// What holds where there is no file.
static NONE: AtomicI64 = AtomicI64::new(0);
/// The mapped file; null until the first question.
static OFFSET_MS: AtomicPtr<AtomicI64> = AtomicPtr::new(null_mut());

fn offset_ms() -> i64 {
    let mut offset = OFFSET_MS.load(Ordering::Acquire);
    if offset.is_null() {
        offset = map();
        OFFSET_MS.store(offset, Ordering::Release);
    }
    // SAFETY: either NONE or eight bytes of a mapping that is never undone, aligned as pages are.
    unsafe { (*offset).load(Ordering::Relaxed) }
}

fn map() -> *mut AtomicI64 {
    let none = (&raw const NONE).cast_mut();
    // SAFETY: texts with a NUL, a descriptor of ours, and a mapping whose failure is looked at.
    unsafe {
        let path = libc::getenv(c"BULL_CLOCK".as_ptr());
        if path.is_null() {
            return none;
        }
        let file = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return none;
        }
        let mapped = libc::mmap(null_mut(), 8, libc::PROT_READ, libc::MAP_SHARED, file, 0);
        libc::close(file);
        if mapped == libc::MAP_FAILED { none } else { mapped.cast() }
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the kernel checks the pointer.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), time) } as c_int;
    if result == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        // SAFETY: the kernel has just written there.
        let time = unsafe { &mut *time };
        let ns = time.tv_nsec + offset_ms().rem_euclid(1000) * 1_000_000;
        time.tv_sec += offset_ms().div_euclid(1000) + ns / 1_000_000_000;
        time.tv_nsec = ns % 1_000_000_000;
    }
    result
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec of ours; the caller's timeval.
    unsafe {
        let result = clock_gettime(libc::CLOCK_REALTIME, &mut now);
        if result == 0 && !time.is_null() {
            *time = timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 };
        }
        result
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(seconds: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec of ours; the caller's seconds.
    unsafe {
        clock_gettime(libc::CLOCK_REALTIME, &mut now);
        if !seconds.is_null() {
            *seconds = now.tv_sec;
        }
    }
    now.tv_sec
}
