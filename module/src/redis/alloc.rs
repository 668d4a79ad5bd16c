//! The allocator: Redis' own, so that INFO memory and maxmemory see what the module holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

use redis_module::raw;

/// Redis' allocator promises no more than this (its fallback puts one word before each block).
const REDIS_ALIGN: usize = 8;

/// Redis' allocator; the system's until the server has handed over its own.
pub struct ModuleAlloc;

// SAFETY: each block is freed by the allocator that gave it: the API is set once, before the first allocation of the
// module, and never unset. Blocks with more than REDIS_ALIGN carry the address of their real start one word before them.
unsafe impl GlobalAlloc for ModuleAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the contract of GlobalAlloc; the static is written once, at load.
        unsafe {
            let Some(alloc) = raw::RedisModule_Alloc else { return System.alloc(layout) };
            if layout.align() <= REDIS_ALIGN {
                return alloc(layout.size()).cast();
            }
            let Some(size) = layout.size().checked_add(layout.align() + size_of::<usize>()) else { return null_mut() };
            let start: *mut u8 = alloc(size).cast();
            if start.is_null() {
                return start;
            }
            let first = start.add(size_of::<usize>());
            let block = first.add(first.align_offset(layout.align()));
            block.cast::<*mut u8>().sub(1).write_unaligned(start);
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` or `realloc` above with this layout.
        unsafe {
            let Some(free) = raw::RedisModule_Free else { return System.dealloc(block, layout) };
            let start =
                if layout.align() <= REDIS_ALIGN { block } else { block.cast::<*mut u8>().sub(1).read_unaligned() };
            free(start.cast());
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as `dealloc`; the copy is of the smaller of both sizes.
        unsafe {
            match raw::RedisModule_Realloc {
                Some(realloc) if layout.align() <= REDIS_ALIGN => realloc(block.cast(), size).cast(),
                _ => {
                    let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
                    let fresh = self.alloc(wanted);
                    if !fresh.is_null() {
                        std::ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    fresh
                }
            }
        }
    }
}
