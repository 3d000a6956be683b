//! What goes through the sockets, counted by the thread that serves them.
//!
//! Each thread alone writes its own counters, so they are plain loads and stores; who reads them
//! from elsewhere sees a sum that was true a moment ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one thread, in cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub struct ThreadTraffic {
    reads: Counter,
    read_bytes: Counter,
    writes: Counter,
    written_bytes: Counter,
    /// Connections that the thread serves now; its keeper writes this one.
    clients: AtomicU64,
}

impl ThreadTraffic {
    pub fn count_read(&self, bytes: usize) {
        self.reads.add(1);
        self.read_bytes.add(bytes as u64);
    }

    pub fn count_write(&self, bytes: usize) {
        self.writes.add(1);
        self.written_bytes.add(bytes as u64);
    }

    pub fn set_clients(&self, count: u64) {
        self.clients.store(count, Ordering::Relaxed);
    }

    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    pub fn totals(&self) -> Totals {
        Totals {
            reads: self.reads.get(),
            read_bytes: self.read_bytes.get(),
            writes: self.writes.get(),
            written_bytes: self.written_bytes.get(),
        }
    }
}

/// System calls and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

impl Totals {
    fn zip(self, other: Totals, with: impl Fn(u64, u64) -> u64) -> Totals {
        Totals {
            reads: with(self.reads, other.reads),
            read_bytes: with(self.read_bytes, other.read_bytes),
            writes: with(self.writes, other.writes),
            written_bytes: with(self.written_bytes, other.written_bytes),
        }
    }
}

/// What leaves by threads that come and go, and count together.
#[derive(Default)]
pub struct SenderTraffic {
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

impl SenderTraffic {
    pub fn count_write(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        Totals {
            writes: self.writes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            ..Totals::default()
        }
    }
}

/// The traffic of all threads; the first is the executor's.
pub struct Traffic {
    threads: Arc<[ThreadTraffic]>,
    senders: Arc<SenderTraffic>,
    /// What there was at the last CONFIG RESETSTAT.
    at_reset: Totals,
    beside_at_reset: Totals,
}

fn sum(threads: &[ThreadTraffic]) -> Totals {
    let all = threads.iter().map(ThreadTraffic::totals);
    all.fold(Totals::default(), |sum, own| sum.zip(own, u64::wrapping_add))
}

impl Traffic {
    pub fn new(threads: usize) -> Traffic {
        let threads = (0..threads.max(1)).map(|_| ThreadTraffic::default()).collect();
        Traffic {
            threads,
            senders: Arc::default(),
            at_reset: Totals::default(),
            beside_at_reset: Totals::default(),
        }
    }

    /// The counters themselves, for those who count.
    pub fn threads(&self) -> &Arc<[ThreadTraffic]> {
        &self.threads
    }

    /// Where those count who send snapshots to replicas.
    pub fn senders(&self) -> &Arc<SenderTraffic> {
        &self.senders
    }

    fn since_start(&self) -> Totals {
        sum(&self.threads).zip(self.senders.totals(), u64::wrapping_add)
    }

    /// All of it since the last reset.
    pub fn totals(&self) -> Totals {
        self.since_start().zip(self.at_reset, u64::wrapping_sub)
    }

    /// What the threads that serve sockets beside the executor's have moved.
    pub fn totals_beside(&self) -> Totals {
        sum(&self.threads[1..]).zip(self.beside_at_reset, u64::wrapping_sub)
    }

    pub fn reset(&mut self) {
        self.at_reset = self.since_start();
        self.beside_at_reset = sum(&self.threads[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_are_summed_since_the_last_reset() {
        let mut traffic = Traffic::new(2);
        traffic.threads()[0].count_read(10);
        traffic.threads()[1].count_read(5);
        traffic.threads()[1].count_write(7);
        traffic.senders().count_write(100);
        let expected = Totals { reads: 2, read_bytes: 15, writes: 2, written_bytes: 107 };
        assert_eq!(traffic.totals(), expected);
        assert_eq!(traffic.totals_beside().written_bytes, 7);
        traffic.reset();
        assert_eq!(traffic.totals(), Totals::default());
        traffic.threads()[0].count_write(3);
        assert_eq!(traffic.totals(), Totals { writes: 1, written_bytes: 3, ..Totals::default() });
    }
}
