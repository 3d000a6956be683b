//! A small ring with the face of `rtrb`, whose positions are loom's atomics.
//!
//! What lies in it is behind a mutex that loom does not know: it orders nothing, so all that the
//! two sides see of each other they see by the positions and the bells.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

struct Shared<T> {
    things: Mutex<VecDeque<T>>,
    head: AtomicUsize,
    tail: AtomicUsize,
    capacity: usize,
}

pub struct RingBuffer;

impl RingBuffer {
    #[expect(clippy::new_ret_no_self, reason = "the face is rtrb's")]
    pub fn new<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let shared = Arc::new(Shared {
            things: Mutex::default(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            capacity,
        });
        let producer = Producer { shared: Arc::clone(&shared), tail: 0 };
        (producer, Consumer { shared, head: 0 })
    }
}

pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
}

pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
}

/// There are not so many.
#[derive(Debug)]
pub struct ChunkError;

/// Room for so many.
pub struct WriteChunk<'a, T> {
    producer: &'a mut Producer<T>,
    count: usize,
}

impl<T> Producer<T> {
    pub fn slots(&self) -> usize {
        self.shared.capacity - (self.tail - self.shared.head.load(Ordering::Acquire))
    }

    pub fn write_chunk_uninit(&mut self, count: usize) -> Result<WriteChunk<'_, T>, ChunkError> {
        if self.slots() < count {
            return Err(ChunkError);
        }
        Ok(WriteChunk { producer: self, count })
    }
}

impl<T> WriteChunk<'_, T> {
    pub fn fill_from_iter(self, things: impl IntoIterator<Item = T>) -> usize {
        let Producer { shared, tail } = self.producer;
        let mut kept = shared.things.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(things.into_iter().take(self.count));
        drop(kept);
        *tail += self.count;
        shared.tail.store(*tail, Ordering::Release);
        self.count
    }
}

impl<T> Consumer<T> {
    pub fn slots(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire) - self.head
    }

    pub fn read_chunk(&mut self, count: usize) -> Result<Vec<T>, ChunkError> {
        if self.slots() < count {
            return Err(ChunkError);
        }
        let mut kept = self.shared.things.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept.drain(..count).collect();
        drop(kept);
        self.head += count;
        self.shared.head.store(self.head, Ordering::Release);
        Ok(taken)
    }
}
