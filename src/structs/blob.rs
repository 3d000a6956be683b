//! Blobs: immutable bytes behind one thin, counted pointer; the members of big sets.
//!
//! ```text
//! byte 0     2    3
//!      refs  len  bytes ...          up to 254 bytes
//!      refs  ff   len u64  bytes ... beyond
//! ```
//! A member of ten bytes takes one allocation of 16. `ThinArc<(), u8>` would be as thin and needs
//! no unsafe code here, but its 16 bytes of count and length make that 32, which doubles what a
//! member costs.
//!
//! The count is 16 bits; whoever clones a blob at the cap gets a copy instead.
//!
//! Invariant: `Blob.0` points to a live allocation of just the layout that [`layout`] gives for the
//! length in its header, all of its bytes initialised; only the count is ever written after `new`,
//! and only as an atomic.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::prefetch;

const LEN_AT: usize = 2;
const SHORT_AT: usize = 3;
const LONG_AT: usize = 11;
/// The short length that says that the long one follows.
const IS_LONG: u8 = u8::MAX;

/// Half of what the counter holds: even if thousands of threads cloned a blob in the same instant,
/// each would see the cap before the counter could wrap.
const REFS_CAP: u16 = 1 << 15;

/// Shared bytes. See the head of this file.
#[repr(transparent)]
pub struct Blob(NonNull<u8>);

// SAFETY: a blob's bytes never change, and its count is kept the way `Arc` keeps it.
unsafe impl Send for Blob {}
// SAFETY: as above.
unsafe impl Sync for Blob {}

/// Where the bytes of a blob begin.
fn bytes_at(len: usize) -> usize {
    if len < usize::from(IS_LONG) { SHORT_AT } else { LONG_AT }
}

fn layout(len: usize) -> Layout {
    let size = bytes_at(len).checked_add(len);
    let layout = size.and_then(|size| Layout::from_size_align(size, align_of::<AtomicU16>()).ok());
    layout.expect("bytes in memory leave room for a header")
}

impl Blob {
    /// Starts fetching what reading it will touch.
    #[inline(always)]
    pub fn prefetch(&self) {
        prefetch::address(self.0.as_ptr());
    }

    pub fn new(bytes: &[u8]) -> Blob {
        let layout = layout(bytes.len());
        let at = bytes_at(bytes.len());
        // SAFETY: the size is never 0, since the header counts.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let start = memory.as_ptr();
        // SAFETY: the layout has room for the header and, from `at` on, for the bytes; the count is
        // aligned as the allocation is, the long length is written as bytes; nobody else knows the
        // memory.
        unsafe {
            start.cast::<u16>().write(1);
            if at == LONG_AT {
                start.add(LEN_AT).write(IS_LONG);
                let len = (bytes.len() as u64).to_le_bytes();
                start.add(SHORT_AT).cast::<[u8; 8]>().write(len);
            } else {
                start.add(LEN_AT).write(bytes.len() as u8);
            }
            start.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Blob(memory)
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.len();
        // SAFETY: by the invariant that many initialised bytes lie there, and they never change.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(bytes_at(len)), len) }
    }

    #[inline]
    fn len(&self) -> usize {
        // SAFETY: the header is always there; its length never changes.
        match unsafe { self.0.as_ptr().add(LEN_AT).read() } {
            // SAFETY: this short length says that the long one follows.
            IS_LONG => u64::from_le_bytes(unsafe {
                self.0.as_ptr().add(SHORT_AT).cast::<[u8; 8]>().read()
            }) as usize,
            len => usize::from(len),
        }
    }

    /// Whether both are the same allocation.
    #[inline]
    pub fn is_same(&self, other: &Blob) -> bool {
        self.0 == other.0
    }

    /// Whether another owner shares the allocation.
    pub fn is_shared(&self) -> bool {
        self.refs().load(Ordering::Relaxed) > 1
    }

    /// The memory it takes, whoever shares it.
    pub fn memory_bytes(&self) -> usize {
        layout(self.len()).size().next_multiple_of(16)
    }

    #[inline(always)]
    fn refs(&self) -> &AtomicU16 {
        // SAFETY: the count is always there, aligned, and accessed only as an atomic once built.
        unsafe { AtomicU16::from_ptr(self.0.as_ptr().cast()) }
    }
}

impl Clone for Blob {
    #[inline]
    fn clone(&self) -> Blob {
        // Relaxed, as in `Arc`: whoever holds a reference keeps the memory alive for the new one.
        if self.refs().fetch_add(1, Ordering::Relaxed) < REFS_CAP {
            return Blob(self.0);
        }
        self.refs().fetch_sub(1, Ordering::Relaxed);
        Blob::new(self.as_bytes())
    }
}

impl Drop for Blob {
    #[inline]
    fn drop(&mut self) {
        // The only owner needs no atomic subtraction, since nobody is left to race with.
        if self.refs().load(Ordering::Acquire) != 1 {
            if self.refs().fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            fence(Ordering::Acquire);
        }
        let layout = layout(self.len());
        // SAFETY: this was the last reference, all others' accesses came before it, and the layout
        // is the allocation's.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    #[test]
    fn blobs_do_as_vectors() {
        let mut prng = Prng::seeded(3);
        let mut blobs: Vec<(Blob, Vec<u8>)> = Vec::new();
        for _ in 0..4000 {
            let index = prng.below(blobs.len() as u64) as usize;
            match prng.below(4) {
                0 if !blobs.is_empty() => drop(blobs.swap_remove(index)),
                1 if !blobs.is_empty() => blobs.push(blobs[index].clone()),
                _ => {
                    let len = [0, 1, 5, 12, 13, 253, 254, 255, 256, 4000][prng.below(10) as usize];
                    let bytes: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
                    blobs.push((Blob::new(&bytes), bytes));
                }
            }
            let index = prng.below(blobs.len() as u64) as usize;
            if let Some((blob, bytes)) = blobs.get(index) {
                assert_eq!(blob.as_bytes(), bytes);
                assert!(blob.memory_bytes() > bytes.len());
            }
        }
        assert!(blobs.iter().all(|(blob, bytes)| blob.as_bytes() == bytes));
    }

    #[test]
    fn clones_beyond_the_cap_are_copies() {
        let blob = Blob::new(b"shared");
        let clones: Vec<Blob> = (0..70_000).map(|_| blob.clone()).collect();
        assert!(clones.iter().all(|clone| clone.as_bytes() == b"shared"));
        let sharing = clones.iter().filter(|clone| clone.0 == blob.0).count();
        assert_eq!(sharing, usize::from(REFS_CAP) - 1);
        drop(blob);
        assert!(clones.iter().all(|clone| clone.as_bytes() == b"shared"));
    }

    #[test]
    fn threads_share_blobs() {
        let blob = Blob::new(&[7; 300]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let blob = blob.clone();
                scope.spawn(move || {
                    for _ in 0..1000 {
                        assert_eq!(blob.clone().as_bytes(), [7; 300]);
                    }
                });
            }
        });
        assert_eq!(blob.refs().load(Ordering::Relaxed), 1);
    }
}
