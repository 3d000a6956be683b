//! What a connection reads requests into: the parser with its buffer, and what was found out about
//! the requests that wait.
//!
//! It is lent to a connection while something of it has come in and was not run. So an idle
//! connection holds none, and that of a busy thread stays in the caches, whoever has sent what.

use crate::engine::{ClientId, Engine, Prepared, Reading, Verdict};
use crate::keyspace::KeyHash;
use crate::resp::{ReplyBuf, Request, RequestReader};
use crate::structs::prefetch;

#[derive(Default)]
pub struct Intake {
    pub reader: RequestReader,
    /// What was found out about the first queued requests, and the hashes of their keys.
    prepared: Vec<Prepared>,
    hashes: Vec<KeyHash>,
    /// How many of `prepared` have been taken off.
    taken: usize,
}

impl Intake {
    /// Looks up commands and hashes keys of the first requests, as far as that has not been done;
    /// how many of at most `max` there are.
    pub fn prepare(&mut self, reading: &Reading, max: usize) -> usize {
        let count = self.reader.pending().min(max);
        for i in self.prepared.len() - self.taken..count {
            let prepared = reading.prepare(&self.reader.request(i), &mut self.hashes);
            self.prepared.push(prepared);
        }
        count
    }

    /// The first requests, which have been prepared, and the hashes that they refer to.
    pub fn first(&self, count: usize) -> impl Iterator<Item = (&Prepared, Request<'_>)> {
        let prepared = self.prepared[self.taken..].iter().enumerate().take(count);
        prepared.map(|(i, prepared)| (prepared, self.reader.request(i)))
    }

    /// The hashes that the prepared requests refer to.
    pub fn hashes(&self) -> &[KeyHash] {
        &self.hashes
    }

    /// The hashes of the first requests alone.
    pub fn hashes_of_first(&self, count: usize) -> &[KeyHash] {
        match &self.prepared[self.taken..][..count] {
            [first, .., last] => &self.hashes[first.hashes_at().start..last.hashes_at().end],
            [one] => &self.hashes[one.hashes_at()],
            [] => &[],
        }
    }

    /// Has the first request run, which must have been prepared.
    pub fn run_first(&self, engine: &mut Engine, client: ClientId, out: &mut ReplyBuf) -> Verdict {
        let prepared = &self.prepared[self.taken];
        engine.execute(client, prepared, self.reader.request(0), &self.hashes, out)
    }

    /// Takes the first request off.
    pub fn pop(&mut self) {
        self.reader.pop_front();
        self.taken += 1;
        if self.taken == self.prepared.len() {
            self.prepared.clear();
            self.hashes.clear();
            self.taken = 0;
        }
    }

    /// The memory it takes.
    pub fn memory(&self) -> usize {
        self.reader.memory()
            + self.prepared.capacity() * size_of::<Prepared>()
            + self.hashes.capacity() * size_of::<KeyHash>()
    }

    /// Brings what running the first requests will touch into the caches, when another thread has
    /// written it.
    pub fn prefetch(&self) {
        self.reader.prefetch();
        self.prepared.first().inspect(|prepared| prefetch::value(*prepared));
        self.hashes.first().inspect(|hash| prefetch::value(*hash));
    }
}
