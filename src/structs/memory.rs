//! Whether the system has memory for something large.
//!
//! An allocation that fails ends the process, and few containers let one ask before. So whoever is
//! about to need much because a client said so asks here: the memory is reserved, untouched, and
//! given back, and the allocator has it at hand for what follows on this thread.

/// Less is not asked for: a system without that much has no memory for anything.
const ASKED_BYTES_MIN: usize = 1 << 20;

/// Whether so many bytes can be had in one piece.
#[inline]
pub fn is_there_for(bytes: usize) -> bool {
    bytes < ASKED_BYTES_MIN || can_be_reserved(bytes)
}

#[cold]
fn can_be_reserved(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_not_there() {
        assert!(is_there_for(0) && is_there_for(1000) && is_there_for(2 << 20));
        assert!(!is_there_for(isize::MAX as usize) && !is_there_for(usize::MAX));
    }
}
