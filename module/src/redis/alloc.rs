//! The allocator: Redis' own, so that INFO memory and maxmemory see what the module holds.
//!
//! Redis asks the size of each block it gives and takes, which costs more than the block. So small blocks that are freed
//! are kept for the next of their size: an add needs dozens for a moment each. Only the main thread keeps any, so they
//! have an end whatever threads come and go, and they count as used memory, for they stay with the module.

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
/// Blocks kept of each class: 140 KB at most.
const KEPT: u32 = 32;

/// Free blocks of one class, each with the address of the next in its first word.
struct Class {
    first: Cell<*mut u8>,
    count: Cell<u32>,
}

struct Kept {
    /// This thread keeps blocks.
    on: Cell<bool>,
    classes: [Class; CLASSES],
}

thread_local! {
    // Needs no destructor, so it can be used at any moment of a thread.
    static KEPT_HERE: Kept = const {
        Kept {
            on: Cell::new(false),
            classes: [const { Class { first: Cell::new(null_mut()), count: Cell::new(0) } }; CLASSES],
        }
    };
}

/// Lets this thread keep blocks, for as long as it lives; what it has kept when it ends is lost. For the main thread.
pub fn keep_here() {
    KEPT_HERE.with(|kept| kept.on.set(true));
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
    KEPT_HERE.with(|kept| {
        let Class { first, count } = &kept.classes[class];
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

/// False where enough are kept, or none are on this thread.
///
/// # Safety
/// `block` must be a block of this class that is no longer used.
unsafe fn keep(class: usize, block: *mut u8) -> bool {
    KEPT_HERE.with(|kept| {
        let Class { first, count } = &kept.classes[class];
        if !kept.on.get() || count.get() == KEPT {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, REDIS_ALIGN).expect("a layout")
    }

    /// Blocks of the last class, which are freed by the system at the end.
    fn blocks(count: usize) -> Vec<*mut u8> {
        // SAFETY: the size is not 0.
        (0..count).map(|_| unsafe { System.alloc(layout(KEPT_BYTES)) }).collect()
    }

    fn free(blocks: Vec<*mut u8>) {
        // SAFETY: made by `blocks`, and taken back where they were kept.
        blocks.into_iter().for_each(|block| unsafe { System.dealloc(block, layout(KEPT_BYTES)) });
    }

    #[test]
    fn sizes_have_classes_that_hold_them() {
        for size in 1..=KEPT_BYTES {
            let (class, bytes) = class(layout(size)).expect("a class");
            assert!(class < CLASSES && bytes >= size && bytes - size < STEP && bytes == (class + 1) * STEP);
        }
        for other in [layout(0), layout(KEPT_BYTES + 1), Layout::from_size_align(64, 16).expect("a layout")] {
            assert_eq!(class(other), None);
        }
    }

    #[test]
    fn a_thread_keeps_none_until_told_and_then_so_many() {
        std::thread::spawn(|| {
            let last = CLASSES - 1;
            let blocks = blocks(KEPT as usize + 1);
            // SAFETY: blocks of the class that nobody uses.
            unsafe {
                assert!(!keep(last, blocks[0]));
                keep_here();
                let kept = blocks.iter().filter(|&&block| keep(last, block)).count();
                assert_eq!(kept, KEPT as usize);
            }
            // The last one comes back first.
            let back: Vec<_> = std::iter::from_fn(|| take(last)).collect();
            assert!(back.iter().eq(blocks[..KEPT as usize].iter().rev()));
            assert_eq!(take(0), None);
            free(blocks);
        })
        .join()
        .expect("no assertion fails");
    }
}
