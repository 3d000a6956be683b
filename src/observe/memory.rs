//! The allocator's figures, as INFO and eviction see them.
//!
//! jemalloc counts for each thread what it has handed out and taken back, in two words that the
//! thread may read directly. Most threads here live as long as the process, so the sum of their
//! words is the memory in use: exact, and free for those who allocate. Those that come and go are
//! read by nobody else, since their words go with them: they tell what they hold.
//!
//! The allocator holds a reserve of address space, which costs no page. When the system refuses
//! memory to somebody who cannot do without, the reserve is given up for it, and whoever would make
//! the data grow is refused until there is as much again. So no single small allocation, of which
//! there are too many to ask before each, ends the process.

#![allow(unsafe_code)]

use crate::structs::memory;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use tikv_jemallocator::Jemalloc;

/// jemalloc's settings, read before `main`. Huge pages spare the random lookups of a big keyspace
/// a page walk each; what speaks against them elsewhere, that a fork then copies two megabytes
/// for one written byte, cannot happen here, where nothing forks.
// SAFETY: jemalloc declares the symbol as a pointer to a NUL-terminated string, null for none,
// which is what an optional reference to its first byte is; the name is jemalloc's alone.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static JEMALLOC_SETTINGS: Option<&'static u8> = Some(&b"thp:always\0"[0]);

/// How much is held in reserve.
const RESERVE_BYTES: usize = 64 << 20;

/// Where the reserve lies; null when it is spent.
static RESERVE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Takes the reserve, again if it was spent; false if the system refuses it.
pub fn hold_reserve() -> bool {
    if !RESERVE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    let (nowhere, access) = (std::ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: without an address nothing that is there is mapped anew.
    let mapped = unsafe { mmap_anonymous(nowhere, RESERVE_BYTES, access, MapFlags::PRIVATE) };
    let Ok(mapped) = mapped else { return false };
    // Two threads at once would take two, of which one is given back.
    unmap(RESERVE.swap(mapped, Ordering::Relaxed));
    true
}

/// Gives the reserve up; false if there was none.
#[cold]
fn spend_reserve() -> bool {
    unmap(RESERVE.swap(std::ptr::null_mut(), Ordering::Relaxed))
}

fn unmap(mapped: *mut c_void) -> bool {
    // SAFETY: the address came from `hold_reserve`, whoever swapped it out is alone with it, and
    // nothing is ever put there.
    !mapped.is_null() && unsafe { munmap(mapped, RESERVE_BYTES).is_ok() }
}

/// Whether the reserve is spent and there is no memory to make up for it.
pub fn is_short() -> bool {
    // What the allocator got of the reserve it may keep for later: then there is memory again,
    // though the system has none for a new reserve.
    !hold_reserve() && !memory::is_there_for(RESERVE_BYTES)
}

/// jemalloc, with the reserve behind it.
pub struct Allocator;

/// What the system refuses is tried once more if the reserve can be had for it.
#[inline]
fn or_of_reserve(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let got = allocate();
    if got.is_null() && !memory::is_asking() && spend_reserve() { allocate() } else { got }
}

// SAFETY: all calls are jemalloc's, with what the callers vouch for; one that failed has changed
// nothing and may be made again.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        or_of_reserve(|| unsafe { Jemalloc.alloc(layout) })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        or_of_reserve(|| unsafe { Jemalloc.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer, which is jemalloc's.
        unsafe { Jemalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // SAFETY: the caller's pointer, which is jemalloc's and stays as it is by a failure.
        or_of_reserve(|| unsafe { Jemalloc.realloc(pointer, layout, len) })
    }
}

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

/// More threads than will ever live as long as the process: 128 may serve clients.
const THREADS_MAX: usize = 160;

/// The counted threads, from the first on. There is no lock around them, because the sum is read
/// before each command that may make the data grow.
static THREADS: [OnceLock<ThreadCounters>; THREADS_MAX] = [const { OnceLock::new() }; THREADS_MAX];
static THREAD_COUNT: AtomicUsize = AtomicUsize::new(0);

/// What threads that come and go have told: allocated by them, and not freed by them. What one
/// allocates another may free, so this alone is no amount of memory.
static PASSING_BYTES: AtomicI64 = AtomicI64::new(0);

impl ThreadCounters {
    /// Those of the calling thread, to be read as long as it lives.
    fn own() -> Option<ThreadCounters> {
        let allocated = counter(c"thread.allocatedp")?;
        Some(ThreadCounters { allocated, freed: counter(c"thread.deallocatedp")? })
    }

    fn held_bytes(self) -> i64 {
        let allocated = self.allocated.load(Ordering::Relaxed);
        allocated.wrapping_sub(self.freed.load(Ordering::Relaxed)).cast_signed()
    }
}

/// Counts what the calling thread allocates, which lives as long as the process and calls this
/// once. For one that ends before there is [`count_passing_thread`].
pub fn count_this_thread() {
    let Some(counters) = ThreadCounters::own() else { return };
    let place = THREAD_COUNT.fetch_add(1, Ordering::Relaxed);
    let place = THREADS.get(place).expect("few threads live as long as the process");
    // The place was just taken for this thread, so it is empty.
    let _ = place.set(counters);
}

/// What a thread that ends before the process does has told of its memory.
struct PassingThread {
    counters: Option<ThreadCounters>,
    told_bytes: Cell<i64>,
}

thread_local! {
    // What a thread makes first goes last: the buffers that it has kept for itself are gone then.
    static PASSING: PassingThread =
        PassingThread { counters: ThreadCounters::own(), told_bytes: Cell::new(0) };
}

impl PassingThread {
    fn tell(&self) {
        let Some(counters) = self.counters else { return };
        let held_bytes = counters.held_bytes();
        let told_bytes = self.told_bytes.replace(held_bytes);
        PASSING_BYTES.fetch_add(held_bytes - told_bytes, Ordering::Relaxed);
    }
}

impl Drop for PassingThread {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Counts what the calling thread holds, which ends before the process does. It calls this at its
/// begin, and when it has made what is to be counted at once; its end is counted by itself.
pub fn count_passing_thread() {
    PASSING.with(PassingThread::tell);
}

/// Bytes in use, over all counted threads.
pub fn used_bytes() -> usize {
    let count = THREAD_COUNT.load(Ordering::Relaxed).min(THREADS_MAX);
    let counted = THREADS[..count].iter().filter_map(OnceLock::get);
    let passing = PASSING_BYTES.load(Ordering::Relaxed);
    let sum = counted.fold(passing, |sum, thread| sum.wrapping_add(thread.held_bytes()));
    usize::try_from(sum.max(0)).unwrap_or(usize::MAX)
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
    // The thread is started behind the thread sanitizer's back, which does not survive it.
    let mut enabled = enabled && cfg!(not(tsan));
    let place = (std::ptr::from_mut(&mut enabled).cast(), size_of::<bool>());
    control(c"background_thread", None, Some(place));
}

/// What the allocator prints about itself (MEMORY MALLOC-STATS), up to a length that it stays far
/// below.
pub fn report() -> String {
    /// Appends a piece of the report to the string that `text` points to.
    unsafe extern "C" fn append(text: *mut c_void, piece: *const c_char) {
        // SAFETY: jemalloc passes the pointer it was given below, to a string that nobody else
        // uses during the call, and a piece that ends in NUL.
        let (text, piece) = unsafe { (&mut *text.cast::<String>(), CStr::from_ptr(piece)) };
        if text.len() < REPORT_BYTES_MAX {
            text.push_str(&piece.to_string_lossy());
        }
    }
    let mut text = String::new();
    let place = std::ptr::from_mut(&mut text).cast();
    // SAFETY: `append` takes what is passed with it, and no options are given.
    unsafe { tikv_jemalloc_sys::malloc_stats_print(Some(append), place, std::ptr::null()) };
    text
}

const REPORT_BYTES_MAX: usize = 4 << 20;

fn counter(name: &'static CStr) -> Option<&'static AtomicU64> {
    let address: *mut u64 = {
        let mut value: *mut u64 = std::ptr::null_mut();
        let size = size_of::<*mut u64>();
        let done = control(name, Some((std::ptr::from_mut(&mut value).cast(), size)), None);
        if done { value } else { std::ptr::null_mut() }
    };
    // SAFETY: jemalloc documents the pointer as valid for the thread's life, which is the
    // process's by the contract of `count_this_thread`, and longer than that of a `PassingThread`.
    // The words are aligned, written by their thread only, and a torn read cannot happen on the
    // 64-bit machines that we build for.
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
    fn the_reserve_is_spent_once_and_held_again() {
        assert!(hold_reserve() && hold_reserve() && !is_short());
        assert!(spend_reserve() && !spend_reserve());
        assert!(!is_short() && spend_reserve());
    }

    #[test]
    fn more_threads_pass_than_are_ever_counted_at_once() {
        for _ in 0..2 * THREADS_MAX {
            let passing = std::thread::spawn(count_passing_thread);
            passing.join().expect("there is a place for each");
        }
    }

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
