//! The allocator: Redis' own, so that INFO memory and maxmemory see what the module holds.
//!
//! Redis asks the size of each block it gives and takes, which costs more than the block. So small blocks that are freed
//! are kept for the next of their size, a few a thread: an add needs dozens for a moment each.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

use redis_module::raw;

/// Redis' allocator promises no more than this (its fallback puts one word before each block).
const REDIS_ALIGN: usize = 8;

/// Redis' allocator; the system's until the server has handed over its own.
pub struct ModuleAlloc;

/// Blocks up to this many bytes are kept, by classes of [`STEP`] bytes.
const KEPT_BYTES: usize = 512;
const STEP: usize = 32;
const CLASSES: usize = KEPT_BYTES / STEP;
/// Blocks kept of each class: 140 KB a thread at most.
const KEPT: u32 = 32;

/// Free blocks of one class, each with the address of the next in its first word.
struct Class {
    first: Cell<*mut u8>,
    count: Cell<u32>,
}

thread_local! {
    // Needs no destructor, so it can be used at any moment of a thread. What a thread that ends has kept is lost.
    static CLASSES_KEPT: [Class; CLASSES] =
        const { [const { Class { first: Cell::new(null_mut()), count: Cell::new(0) } }; CLASSES] };
}

/// The class of a layout, and the size of its blocks.
fn class(layout: Layout) -> Option<(usize, usize)> {
    if layout.align() > REDIS_ALIGN || layout.size() == 0 || layout.size() > KEPT_BYTES {
        return None;
    }
    let class = (layout.size() - 1) / STEP;
    Some((class, (class + 1) * STEP))
}

fn take(class: usize) -> Option<*mut u8> {
    CLASSES_KEPT.with(|classes| {
        let Class { first, count } = &classes[class];
        let block = first.get();
        if block.is_null() {
            return None;
        }
        // SAFETY: a kept block holds the address of the next one, and is at least STEP bytes long.
        first.set(unsafe { block.cast::<*mut u8>().read_unaligned() });
        count.set(count.get() - 1);
        Some(block)
    })
}

/// False where enough are kept.
///
/// # Safety
/// `block` must be a block of this class that is no longer used.
unsafe fn keep(class: usize, block: *mut u8) -> bool {
    CLASSES_KEPT.with(|classes| {
        let Class { first, count } = &classes[class];
        if count.get() == KEPT {
            return false;
        }
        // SAFETY: by the caller; the block is at least STEP bytes long.
        unsafe { block.cast::<*mut u8>().write_unaligned(first.get()) };
        first.set(block);
        count.set(count.get() + 1);
        true
    })
}

// SAFETY: each block is freed by the allocator that gave it: the API is set once, before the first allocation of the
// module, and never unset. Blocks with more than REDIS_ALIGN carry the address of their real start one word before them.
// A small block has the size of its class from the start, so it serves any layout of that class.
unsafe impl GlobalAlloc for ModuleAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the contract of GlobalAlloc; the static is written once, at load.
        unsafe {
            let Some(alloc) = raw::RedisModule_Alloc else { return System.alloc(layout) };
            if let Some((class, size)) = class(layout) {
                return take(class).unwrap_or_else(|| alloc(size).cast());
            }
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
            if class(layout).is_some_and(|(class, _)| keep(class, block)) {
                return;
            }
            let start =
                if layout.align() <= REDIS_ALIGN { block } else { block.cast::<*mut u8>().sub(1).read_unaligned() };
            free(start.cast());
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as `dealloc`; the copy is of the smaller of both sizes.
        unsafe {
            let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
            let (old, new) = (class(layout), class(wanted));
            match raw::RedisModule_Realloc {
                Some(_) if old.is_some() && old == new => block,
                Some(realloc) if layout.align() <= REDIS_ALIGN && old.is_none() && new.is_none() => {
                    realloc(block.cast(), size).cast()
                }
                _ => {
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
