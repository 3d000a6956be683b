//! The second half of a connection: what has to go out to a client.
//!
//! It stays with the executor, who alone knows what may leave: as much of it as the append-only
//! file holds what it tells of.

use crate::engine::hold::{Holds, Release, Told};
use crate::engine::turn::OutputFigures;
use crate::resp::ReplyBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How far the thread has come that writes what has left.
struct Relay {
    written: Arc<AtomicU64>,
    /// The same when it was last looked at: looking costs a cache line that the other has written.
    seen: u64,
    is_stuck: bool,
}

#[derive(Default)]
pub struct Outbox {
    pub out: ReplyBuf,
    /// What of it must wait for the append-only file.
    holds: Holds,
    /// No more requests are run; the connection ends when the output has left.
    pub is_closing: bool,
    /// How much has left, all in all: to the socket, or to the thread that serves it.
    left_total: u64,
    /// What that thread has done with it.
    relay: Option<Box<Relay>>,
    /// Since when the output has been over the soft limit.
    pub over_soft_limit: Option<Instant>,
}

impl Outbox {
    /// What has been added tells of this.
    pub fn mark(&mut self, told: Told, release: Release) {
        let end = self.left_total + self.out.len() as u64;
        self.holds.tell(told, release, self.left_total, end);
    }

    /// How many bytes may leave now.
    pub fn free(&mut self, release: Release) -> usize {
        if self.holds.is_empty() {
            return usize::MAX;
        }
        self.holds.free(self.left_total, release)
    }

    /// Whether some of what waits for the append-only file may leave now.
    pub fn may_go_on(&self, release: Release) -> bool {
        self.holds.may_go_on(release)
    }

    /// From now on a thread writes what leaves, and counts it in what is answered.
    pub fn begin_relay(&mut self) -> Arc<AtomicU64> {
        let written = Arc::new(AtomicU64::new(self.left_total));
        let seen = self.left_total;
        let relay = Relay { written: Arc::clone(&written), seen, is_stuck: false };
        self.relay = Some(Box::new(relay));
        written
    }

    /// The thread has given back what it has not written.
    pub fn end_relay(&mut self, rest: ReplyBuf) {
        self.relay = None;
        self.left_total -= rest.len() as u64;
        let later = std::mem::replace(&mut self.out, rest);
        self.out.append(later);
    }

    /// Takes out all there is, for one who writes it and says so by [`Outbox::pass`].
    pub fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out).to_vec()
    }

    /// The socket does not take all that its thread has, or does again.
    pub fn set_stuck(&mut self, is_stuck: bool) {
        if let Some(relay) = &mut self.relay {
            relay.is_stuck = is_stuck;
        }
    }

    /// Takes out what may leave, for the thread that writes it.
    pub fn take(&mut self, free: usize) -> ReplyBuf {
        let taken = match free < self.out.len() {
            true => self.out.split_front(free),
            false => std::mem::take(&mut self.out),
        };
        self.left_total += taken.len() as u64;
        taken
    }

    /// So many bytes have left in another way.
    pub fn pass(&mut self, count: usize) {
        self.left_total += count as u64;
    }

    /// How many bytes wait for the client to read, here or with the thread. Below `free_bytes` it
    /// may be less than what is said.
    pub fn waiting(&mut self, free_bytes: usize) -> usize {
        let Some(relay) = &mut self.relay else { return self.out.len() };
        let waiting = |seen: u64| self.out.len() + (self.left_total - seen) as usize;
        if waiting(relay.seen) > free_bytes {
            relay.seen = relay.written.load(Ordering::Relaxed).min(self.left_total);
        }
        waiting(relay.seen)
    }

    pub fn figures(&self) -> OutputFigures {
        let stuck = self.relay.as_ref().filter(|relay| relay.is_stuck);
        let written = stuck.map(|relay| relay.written.load(Ordering::Relaxed));
        let written_bytes_total = written.unwrap_or(self.left_total).min(self.left_total);
        let with_thread = (self.left_total - written_bytes_total) as usize;
        OutputFigures {
            bytes: self.out.len() + with_thread,
            own_bytes: self.out.own_memory() + with_thread,
            written_bytes_total,
        }
    }
}
