//! What a native makes before it becomes a string of Lua's.
//!
//! Such a buffer is no memory of the interpreter's, and counts against what its state may hold all
//! the same: what a script has made for it is held for that script. So it grows only by asking
//! whoever keeps the account, and what is appended to it has been asked for. It never ends the
//! process: a system without memory refuses as the account does.

use crate::structs::memory;

/// Keeps count of the memory that outputs take.
pub trait Account {
    /// Counts a buffer of another size; false, and nothing is counted, if there is no room for it.
    fn resize(&self, old_bytes: usize, new_bytes: usize) -> bool;
}

/// There is no memory for so much output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

pub struct Output<'a> {
    bytes: Vec<u8>,
    account: &'a dyn Account,
    counted: usize,
}

impl<'a> Output<'a> {
    pub fn new(account: &'a dyn Account) -> Output<'a> {
        Output { bytes: Vec::new(), account, counted: 0 }
    }

    /// Where so many bytes may be appended.
    #[inline]
    pub fn room_for(&mut self, bytes: usize) -> Result<&mut Vec<u8>, Full> {
        if bytes > self.bytes.capacity() - self.bytes.len() {
            self.grow(bytes)?;
        }
        Ok(&mut self.bytes)
    }

    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.room_for(bytes.len())?.extend_from_slice(bytes);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Twice as much is asked for, so that a long output is not moved for each piece of it, and no
    /// more than is needed where that is too much.
    #[cold]
    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        /// Most outputs are small.
        const FIRST_BYTES: usize = 512;
        let needed = self.bytes.len().checked_add(bytes).ok_or(Full)?;
        let ample = needed.max(self.counted.saturating_mul(2)).max(FIRST_BYTES);
        match self.set_capacity(ample) {
            Err(Full) if needed < ample => self.set_capacity(needed),
            outcome => outcome,
        }
    }

    fn set_capacity(&mut self, capacity: usize) -> Result<(), Full> {
        if !self.account.resize(self.counted, capacity) {
            return Err(Full);
        }
        let more = capacity - self.bytes.len();
        if memory::asking(|| self.bytes.try_reserve_exact(more)).is_err() {
            self.account.resize(capacity, self.counted);
            return Err(Full);
        }
        self.counted = capacity;
        Ok(())
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.account.resize(self.counted, 0);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::cell::Cell;

    /// An account of its own.
    pub struct Limit {
        pub used: Cell<usize>,
        pub max: usize,
    }

    impl Limit {
        pub fn of(max: usize) -> Limit {
            Limit { used: Cell::new(0), max }
        }
    }

    impl Account for Limit {
        fn resize(&self, old: usize, new: usize) -> bool {
            let used = (self.used.get() - old).saturating_add(new);
            let has_room = new <= old || used <= self.max;
            if has_room {
                self.used.set(used);
            }
            has_room
        }
    }

    #[test]
    fn an_output_takes_what_the_account_gives_and_gives_it_back() {
        let limit = Limit::of(10_000);
        let mut output = Output::new(&limit);
        assert_eq!((output.len(), limit.used.get()), (0, 0));
        for _ in 0..99 {
            assert_eq!(output.append(&[7; 100]), Ok(()));
            assert!((output.len()..=10_000).contains(&limit.used.get()));
        }
        assert_eq!(output.append(&[7; 101]), Err(Full));
        assert_eq!(output.room_for(usize::MAX), Err(Full));
        assert_eq!(output.append(&[7; 100]), Ok(()));
        assert_eq!((output.as_slice(), limit.used.get()), (&[7; 10_000][..], 10_000));
        let mut other = Output::new(&limit);
        assert_eq!(other.append(&[1]), Err(Full));
        drop(output);
        assert_eq!((limit.used.get(), other.append(&[1])), (0, Ok(())));
        drop(other);
        assert_eq!(limit.used.get(), 0);
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let limit = Limit::of(usize::MAX);
        let mut output = Output::new(&limit);
        assert_eq!(output.append(&[1]), Ok(()));
        let before = limit.used.get();
        assert_eq!(output.room_for(isize::MAX as usize).err(), Some(Full));
        assert_eq!((limit.used.get(), output.as_slice()), (before, &[1][..]));
    }
}
