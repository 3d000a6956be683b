//! Whether the system has memory for something large.
//!
//! An allocation that fails ends the process, and few containers let one ask before. So whoever is
//! about to need much because a client said so asks here: the memory is reserved, untouched, and
//! given back, and the allocator has it at hand for what follows on this thread. What nobody has
//! thought of is the matter of the allocator's reserve (`observe::memory`), which is not spent on
//! whoever asks.

use std::cell::Cell;

/// Less is not asked for: a system without that much has no memory for anything.
const ASKED_BYTES_MIN: usize = 1 << 20;

/// Whether so many bytes can be had in one piece.
#[inline]
pub fn is_there_for(bytes: usize) -> bool {
    bytes < ASKED_BYTES_MIN || can_be_reserved(bytes)
}

#[cold]
fn can_be_reserved(bytes: usize) -> bool {
    asking(|| Vec::<u8>::new().try_reserve_exact(bytes)).is_ok()
}

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Reserves memory that the caller can do without.
pub fn asking<T>(reserve: impl FnOnce() -> T) -> T {
    let before = IS_ASKING.replace(true);
    let reserved = reserve();
    IS_ASKING.set(before);
    reserved
}

/// Whether this thread can do without the memory that it is asking for.
pub fn is_asking() -> bool {
    IS_ASKING.get()
}

/// What is copied piece by piece, for whoever does not know in advance how much it will be.
#[derive(Default)]
pub struct Growth {
    unasked_bytes: usize,
}

impl Growth {
    /// Each question is about so much more than it has to be: smaller pieces follow unasked.
    const AHEAD_BYTES: usize = 4 << 20;

    /// Whether there is memory for so many bytes more.
    #[inline]
    pub fn is_there_for(&mut self, bytes: usize) -> bool {
        self.unasked_bytes = self.unasked_bytes.saturating_add(bytes);
        if self.unasked_bytes < ASKED_BYTES_MIN {
            return true;
        }
        let due = std::mem::take(&mut self.unasked_bytes);
        can_be_reserved(due.saturating_add(Growth::AHEAD_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_not_there() {
        assert!(is_there_for(0) && is_there_for(1000) && is_there_for(2 << 20));
        assert!(!is_there_for(isize::MAX as usize) && !is_there_for(usize::MAX));
    }

    #[test]
    fn growth_is_asked_for_as_it_adds_up() {
        let mut growth = Growth::default();
        assert!((0..4096).all(|_| growth.is_there_for(1 << 10)));
        assert!(!growth.is_there_for(isize::MAX as usize) && !growth.is_there_for(usize::MAX));
        assert!(growth.is_there_for(1 << 10));
    }

    #[test]
    fn whoever_asks_is_known_until_the_answer() {
        assert!(!is_asking());
        assert!(asking(|| asking(is_asking) && is_asking()));
        assert!(!is_asking());
    }
}
