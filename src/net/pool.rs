//! Buffers that connections borrow while they have something in them, so that an idle connection
//! holds none and a busy server's buffers stay in the caches.

use std::cell::RefCell;

/// What a read of short requests takes from a socket at most.
pub const READ_BYTES: usize = 16 * 1024;
/// Buffers that grew beyond this are freed, not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const KEPT_MAX: usize = 256;

#[derive(Default)]
pub struct BufferPool {
    input: RefCell<Vec<Vec<u8>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    pub fn input(&self) -> Vec<u8> {
        self.input.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    pub fn give_input(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.input.borrow_mut();
        if (READ_BYTES..=KEPT_BYTES_MAX).contains(&buffer.capacity()) && kept.len() < KEPT_MAX {
            kept.push(buffer);
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
