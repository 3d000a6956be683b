//! What connections borrow while they have something in it, so that an idle connection holds none
//! and a busy server's buffers stay in the caches.

use super::intake::Intake;
use std::cell::RefCell;

/// Buffers that grew beyond this are freed, not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const KEPT_MAX: usize = 256;

#[derive(Default)]
pub struct BufferPool {
    // They are lent as they are: to move one would cost more than its box.
    #[expect(clippy::vec_box, reason = "they go in and out as boxes")]
    intakes: RefCell<Vec<Box<Intake>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    pub fn intake(&self) -> Box<Intake> {
        self.intakes.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes one back in which nothing is left.
    pub fn give_intake(&self, intake: Box<Intake>) {
        let mut kept = self.intakes.borrow_mut();
        if intake.memory() <= KEPT_BYTES_MAX && kept.len() < KEPT_MAX {
            kept.push(intake);
        }
    }

    pub fn output(&self) -> Vec<u8> {
        self.output.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_output(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.output.borrow_mut();
        if (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) && kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_or_is_too_much_is_not_kept() {
        let pool = BufferPool::default();
        let mut grown = pool.intake();
        grown.reader.feed(&vec![b'x'; 2 * KEPT_BYTES_MAX]);
        pool.give_intake(grown);
        assert_eq!(pool.intake().memory(), 0);
        for _ in 0..2 * KEPT_MAX {
            pool.give_intake(Box::default());
            pool.give_output(Vec::with_capacity(10));
            pool.give_output(Vec::new());
        }
        assert_eq!((pool.intakes.borrow().len(), pool.output.borrow().len()), (KEPT_MAX, KEPT_MAX));
    }
}
