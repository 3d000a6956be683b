//! The allocator's figures, as INFO and eviction see them.
//!
//! jemalloc counts for each thread what it has handed out and taken back, in two words that the
//! thread may read directly. Few threads live here, and all as long as the process, so their sum
//! is the memory in use: exact, and free for those who allocate.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// jemalloc's settings, read before `main`. Huge pages spare the random lookups of a big keyspace
/// a page walk each; what speaks against them elsewhere, that a fork then copies two megabytes
/// for one written byte, cannot happen here, where nothing forks.
// SAFETY: jemalloc declares the symbol as a pointer to a NUL-terminated string, null for none,
// which is what an optional reference to its first byte is; the name is jemalloc's alone.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static JEMALLOC_SETTINGS: Option<&'static u8> = Some(&b"thp:always\0"[0]);

/// What the allocator says of the process; zero where it does not say.
#[derive(Clone, Copy, Default, Debug)]
pub struct MemoryFigures {
    /// Bytes handed out and not yet given back: `used_memory`.
    pub used_bytes: usize,
    pub active_bytes: usize,
    pub resident_bytes: usize,
}

/// A thread's two counters, which jemalloc keeps in the thread's own storage.
#[derive(Clone, Copy)]
struct ThreadCounters {
    allocated: &'static AtomicU64,
    freed: &'static AtomicU64,
}

static THREADS: Mutex<Vec<ThreadCounters>> = Mutex::new(Vec::new());

/// Counts what the calling thread allocates. Every thread that lives as long as the process calls
/// this once; what others allocate is not counted.
pub fn count_this_thread() {
    let (Some(allocated), Some(freed)) =
        (counter(c"thread.allocatedp"), counter(c"thread.deallocatedp"))
    else {
        return;
    };
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.push(ThreadCounters { allocated, freed });
}

/// Bytes in use, over all counted threads.
pub fn used_bytes() -> usize {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = threads.iter().fold(0u64, |sum, thread| {
        let allocated = thread.allocated.load(Ordering::Relaxed);
        sum.wrapping_add(allocated).wrapping_sub(thread.freed.load(Ordering::Relaxed))
    });
    usize::try_from(sum.cast_signed().max(0)).unwrap_or(usize::MAX)
}

/// All figures; refreshes the allocator's own statistics, which takes some microseconds.
pub fn figures() -> MemoryFigures {
    let mut epoch = 1u64;
    write(c"epoch", &mut epoch);
    MemoryFigures {
        used_bytes: used_bytes(),
        active_bytes: read(c"stats.active").unwrap_or(0),
        resident_bytes: read(c"stats.resident").unwrap_or(0),
    }
}

/// Gives unused memory back to the system (MEMORY PURGE).
pub fn purge() -> bool {
    // 4096 is jemalloc's MALLCTL_ARENAS_ALL.
    control(c"arena.4096.purge", None, None)
}

/// Has a thread of the allocator's own give unused memory back, so that no command's free waits
/// for the system.
pub fn purge_in_background(enabled: bool) {
    let mut enabled = enabled;
    let place = (std::ptr::from_mut(&mut enabled).cast(), size_of::<bool>());
    control(c"background_thread", None, Some(place));
}

fn counter(name: &'static CStr) -> Option<&'static AtomicU64> {
    let address: *mut u64 = {
        let mut value: *mut u64 = std::ptr::null_mut();
        let size = size_of::<*mut u64>();
        let done = control(name, Some((std::ptr::from_mut(&mut value).cast(), size)), None);
        if done { value } else { std::ptr::null_mut() }
    };
    // SAFETY: jemalloc documents the pointer as valid for the thread's life, which is the
    // process's by the contract of `count_this_thread`. The words are aligned, written by their
    // thread only, and a torn read cannot happen on the 64-bit machines that we build for.
    (!address.is_null()).then(|| unsafe { AtomicU64::from_ptr(address) })
}

fn read(name: &'static CStr) -> Option<usize> {
    let mut value = 0usize;
    let place = (std::ptr::from_mut(&mut value).cast(), size_of::<usize>());
    control(name, Some(place), None).then_some(value)
}

fn write(name: &'static CStr, value: &mut u64) {
    control(name, None, Some((std::ptr::from_mut(value).cast(), size_of::<u64>())));
}

fn control(
    name: &'static CStr,
    old: Option<(*mut c_void, usize)>,
    new: Option<(*mut c_void, usize)>,
) -> bool {
    let (old, mut old_size) = old.unwrap_or((std::ptr::null_mut(), 0));
    let (new, new_size) = new.unwrap_or((std::ptr::null_mut(), 0));
    let old_size = if old.is_null() { std::ptr::null_mut() } else { &raw mut old_size };
    // SAFETY: the name ends in NUL; `old` and `new` are null or point to places of the sizes that
    // go with them, which outlive the call.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), old, old_size, new, new_size) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_thread_shows_what_it_holds() {
        // Tests may run on the system's allocator, which has no counters: then nothing is shown.
        count_this_thread();
        let before = used_bytes();
        let held = vec![1u8; 1 << 20];
        let after = used_bytes();
        assert!(after == before || after >= before + held.len() / 2);
    }
}
