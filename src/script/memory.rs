//! The memory of a state of the interpreter: what it holds, what it may hold, and small blocks that
//! are kept for it.
//!
//! Scripts leave many small blocks behind, which the interpreter gives back all at once when it has
//! collected garbage, and asks for again one by one. An allocator that serves everybody passes such
//! a flood on, and fetches it back; here it waits for the next scripts, up to a bound.
#![allow(unsafe_code)]

use super::lua::Stack;
use super::output::Account;
use std::alloc::{Layout, alloc, dealloc, realloc};
use std::cell::{Cell, RefCell};
use std::ptr;

/// An instruction that makes a block so long, or goes through it, is a costly one.
const LARGE_BLOCK_BYTES: usize = 1 << 20;

/// Whether one of two blocks is large.
fn is_large(one: usize, other: usize) -> bool {
    const { assert!(LARGE_BLOCK_BYTES.is_power_of_two()) };
    one | other >= LARGE_BLOCK_BYTES
}

/// What all that the interpreter keeps is aligned to.
pub(super) const ALIGNMENT: usize = 8;

/// Small blocks are of a few lengths, so that one that is kept fits the next that is asked for.
const GRAIN_BYTES: usize = 16;
const SMALL_BYTES_MAX: usize = 256;
/// So much is kept at most.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// How long a block is made.
#[inline]
fn made_bytes(asked: usize) -> usize {
    if asked <= SMALL_BYTES_MAX { asked.next_multiple_of(GRAIN_BYTES) } else { asked }
}

/// Which of the lists of kept blocks is that of a length, if there is one; there is none for zero.
#[inline]
fn class_of(asked: usize) -> usize {
    asked.wrapping_sub(1) / GRAIN_BYTES
}

/// What a state may hold, and does.
pub struct Memory {
    /// The state's, which is told to have the host look when there is a large block more.
    stack: Cell<Option<Stack>>,
    large_bytes: Cell<usize>,
    /// So much of it has come since the host has looked.
    new_large_bytes: Cell<usize>,
    used_bytes: Cell<usize>,
    max_bytes: Cell<usize>,
    /// Something has been refused.
    is_refused: Cell<bool>,
    /// Small blocks that have been given back, by their lengths.
    kept: RefCell<[Vec<*mut u8>; SMALL_BYTES_MAX / GRAIN_BYTES]>,
    kept_bytes: Cell<usize>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            stack: Cell::new(None),
            large_bytes: Cell::new(0),
            new_large_bytes: Cell::new(0),
            used_bytes: Cell::new(0),
            max_bytes: Cell::new(usize::MAX),
            is_refused: Cell::new(false),
            kept: RefCell::default(),
            kept_bytes: Cell::new(0),
        }
    }
}

impl Memory {
    pub(super) fn set_stack(&self, stack: Stack) {
        self.stack.set(Some(stack));
    }

    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    pub fn max_bytes(&self) -> usize {
        self.max_bytes.get()
    }

    pub fn set_max(&self, bytes: usize) {
        self.max_bytes.set(bytes);
    }

    /// What the state holds in large blocks.
    pub fn large_bytes(&self) -> usize {
        self.large_bytes.get()
    }

    /// How long the large blocks are, all in all, that have come since this was last asked.
    pub fn take_new_large_bytes(&self) -> usize {
        self.new_large_bytes.take()
    }

    pub fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    pub fn forget_refusal(&self) {
        self.is_refused.set(false);
    }

    fn has_room(&self, old: usize, new: usize) -> bool {
        let used = self.used_bytes.get() - old;
        new <= old || used.saturating_add(new) <= self.max_bytes.get()
    }

    /// Counts a block of another size; false if there is no room for it, which is noted.
    fn resize_block(&self, old: usize, new: usize) -> bool {
        let has_room = self.resize(old, new);
        if !has_room {
            self.is_refused.set(true);
        }
        has_room
    }

    /// Has the host look at what runs, after the instruction that asks for a large block.
    #[cold]
    fn resize_large_block(&self, old: usize, new: usize) {
        let [old, new] = [old, new].map(|bytes| if bytes < LARGE_BLOCK_BYTES { 0 } else { bytes });
        self.large_bytes.set(self.large_bytes.get() - old + new);
        if let Some(stack) = self.stack.get().filter(|_| new > old) {
            self.new_large_bytes.set(self.new_large_bytes.get().saturating_add(new));
            // The interpreter lets this be done at any time, were it in a handler of signals.
            stack.watch_each(1);
        }
    }

    /// A small block of a length, if one is kept.
    #[inline]
    fn take_kept(&self, asked: usize) -> Option<*mut u8> {
        let block = self.kept.borrow_mut().get_mut(class_of(asked))?.pop()?;
        self.kept_bytes.set(self.kept_bytes.get() - made_bytes(asked));
        Some(block)
    }

    /// Keeps a block that has been given back; false if it is none that is kept.
    #[inline]
    fn keep(&self, block: *mut u8, asked: usize) -> bool {
        let mut kept = self.kept.borrow_mut();
        let Some(blocks) = kept.get_mut(class_of(asked)) else { return false };
        let bytes = self.kept_bytes.get() + made_bytes(asked);
        if bytes > KEPT_BYTES_MAX || blocks.try_reserve(1).is_err() {
            return false;
        }
        self.kept_bytes.set(bytes);
        blocks.push(block);
        true
    }

    /// Makes, moves or takes back a block: counts, and refuses what is too much.
    ///
    /// # Safety
    ///
    /// `block` is null and `old` zero, or it comes from here, for a length of `old`, and has not
    /// been given back.
    #[inline]
    pub(super) unsafe fn allocate(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        if old == 0 {
            let used = self.used_bytes.get().saturating_add(new);
            if used <= self.max_bytes.get()
                && let Some(block) = self.take_kept(new)
            {
                self.used_bytes.set(used);
                return block;
            }
        } else if new == 0 && self.keep(block, old) {
            self.used_bytes.set(self.used_bytes.get() - old);
            return ptr::null_mut();
        }
        // SAFETY: the caller owes the same here.
        unsafe { self.allocate_anew(block, old, new) }
    }

    /// The same, where no block that is kept will do.
    #[inline(never)]
    unsafe fn allocate_anew(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        let is_large = is_large(old, new);
        if is_large && Layout::from_size_align(new, ALIGNMENT).is_err() {
            return ptr::null_mut();
        }
        if !self.resize_block(old, new) {
            return ptr::null_mut();
        }
        if is_large {
            self.resize_large_block(old, new);
        }
        // SAFETY: `old` is the length of a block that there is, and `new` is small, or was checked.
        let layout =
            |asked| unsafe { Layout::from_size_align_unchecked(made_bytes(asked), ALIGNMENT) };
        // SAFETY: a block for a length of `old` comes from here, with the same alignment; none of
        // the lengths that are asked for is zero.
        let moved = unsafe {
            match (old, new) {
                (0, 0) => return ptr::null_mut(),
                (0, _) => alloc(layout(new)),
                (_, 0) => {
                    dealloc(block, layout(old));
                    return ptr::null_mut();
                }
                _ => realloc(block, layout(old), made_bytes(new)),
            }
        };
        if moved.is_null() {
            self.resize_block(new, old);
            if is_large {
                self.resize_large_block(new, old);
            }
            self.is_refused.set(true);
        }
        moved
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (class, blocks) in self.kept.get_mut().iter_mut().enumerate() {
            // SAFETY: what is kept was made so long, and nobody else knows it.
            unsafe {
                let made = (class + 1) * GRAIN_BYTES;
                let layout = Layout::from_size_align_unchecked(made, ALIGNMENT);
                blocks.drain(..).for_each(|block| dealloc(block, layout));
            }
        }
    }
}

impl Account for Memory {
    fn resize(&self, old_bytes: usize, new_bytes: usize) -> bool {
        let has_room = self.has_room(old_bytes, new_bytes);
        if has_room {
            self.used_bytes.set(self.used_bytes.get() - old_bytes + new_bytes);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes so many blocks of a length, and takes all of them back.
    fn flood(memory: &Memory, bytes: usize, count: usize) -> Vec<*mut u8> {
        let none = ptr::null_mut();
        // SAFETY: none is a block of no length.
        let make = |_| unsafe { memory.allocate(none, 0, bytes) };
        let blocks: Vec<*mut u8> = (0..count).map(make).collect();
        assert_eq!(memory.used_bytes(), bytes * count, "they count as they were asked for");
        for block in &blocks {
            // SAFETY: they were made so long, and each is given back once.
            assert!(unsafe { memory.allocate(*block, bytes, 0) }.is_null());
        }
        assert_eq!(memory.used_bytes(), 0);
        blocks
    }

    #[test]
    fn small_blocks_come_back_and_no_more_are_kept_than_may_be() {
        let memory = Memory::default();
        for bytes in [1, 16, 17, 255, 256, 257, 5000] {
            let mut made = flood(&memory, bytes, 10);
            let mut again = flood(&memory, bytes, 10);
            made.sort();
            again.sort();
            assert!(made == again || bytes > SMALL_BYTES_MAX, "{bytes}");
        }
        let kept = memory.kept_bytes.get();
        assert_eq!(kept, 10 * (16 + 32 + 256), "by what they were made of");
        flood(&memory, 200, 10_000);
        assert!((KEPT_BYTES_MAX - 256..=KEPT_BYTES_MAX).contains(&memory.kept_bytes.get()));
    }

    #[test]
    fn a_block_that_grows_keeps_what_is_in_it_and_a_limit_holds_for_kept_blocks() {
        let memory = Memory::default();
        // SAFETY: each block is given back as long as it is, and written to within that.
        unsafe {
            let mut block = memory.allocate(ptr::null_mut(), 0, 10);
            block.write_bytes(7, 10);
            for (old, new) in [(10, 16), (16, 100), (100, 3000), (3000, 12)] {
                block = memory.allocate(block, old, new);
                assert_eq!(std::slice::from_raw_parts(block, 10), [7; 10]);
                assert_eq!(memory.used_bytes(), new);
            }
            memory.allocate(block, 12, 0);
            memory.set_max(8);
            assert!(memory.allocate(ptr::null_mut(), 0, 12).is_null() && memory.is_refused());
            assert_eq!(memory.used_bytes(), 0);
        }
    }
}
