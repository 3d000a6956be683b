//! The first half of a connection: what has come in from a client and was not run yet.
//!
//! It needs nothing but itself and a [`Reading`], so it goes with the socket or with the executor,
//! whoever has something to do with it, and brings its own figures along.

use super::pool::BufferPool;
use super::stream::Stream;
use crate::engine::turn::InputFigures;
use crate::engine::{ClientId, Engine, Prepared, Reading, Verdict};
use crate::keyspace::KeyHash;
use crate::resp::{ProtocolError, ReplyBuf, Request, RequestReader};
use crate::structs::prefetch;
use std::io;
use std::task::{Context, Poll};

#[derive(Default)]
pub struct Inbox {
    reader: RequestReader,
    /// What was found out about the first queued requests, and the hashes of their keys.
    prepared: Vec<Prepared>,
    hashes: Vec<KeyHash>,
    /// How many of `prepared` have been taken off.
    taken: u32,
    /// The input broke the protocol: said, and the connection closed, after the requests before it.
    failure: Option<ProtocolError>,
    /// Memory for the replies, when it comes from another thread, to which they will go.
    pub reply: Vec<u8>,
    /// The client may send as much as who has authenticated.
    pub is_authenticated: bool,
    read_bytes_total: u64,
}

impl Inbox {
    pub fn new(is_authenticated: bool) -> Inbox {
        Inbox { is_authenticated, ..Inbox::default() }
    }

    /// Something for the executor: requests to run, or a failure to report.
    pub fn has_work(&self) -> bool {
        self.pending() > 0 || self.failure.is_some()
    }

    /// How many requests wait.
    pub fn pending(&self) -> usize {
        self.reader.pending()
    }

    /// The failure that comes after the requests that wait.
    pub fn take_failure(&mut self) -> Option<ProtocolError> {
        if self.pending() == 0 { self.failure.take() } else { None }
    }

    /// Reads once what the socket has; 0 bytes mean the end, and a lack of memory is a failure to
    /// report. Memory is taken only for what arrives.
    pub fn poll_read(
        &mut self,
        stream: &mut Stream,
        buffers: &BufferPool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.reader.has_buffer() {
            self.reader.attach_buffer(buffers.input());
        }
        let Ok(room) = self.reader.room() else {
            self.failure = Some(ProtocolError::NoMemory);
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        };
        let polled = stream.poll_read(cx, room);
        match &polled {
            Poll::Ready(Ok(n)) => self.read_bytes_total += *n as u64,
            _ => self.give_back(buffers),
        }
        polled
    }

    /// Queues the whole requests that there are.
    pub fn parse(&mut self, reading: &Reading) {
        if let Err(failure) = self.reader.parse(&reading.limits(self.is_authenticated)) {
            self.failure = Some(failure);
        }
    }

    /// Whether more has come than may before any of it is executed.
    pub fn is_too_long(&self, reading: &Reading) -> bool {
        self.reader.buffered_len() > reading.query_bytes_max()
    }

    /// Looks up commands and hashes keys of the first requests, as far as that has not been done;
    /// how many of at most `max` there are.
    pub fn prepare(&mut self, reading: &Reading, max: usize) -> usize {
        let count = self.pending().min(max);
        for i in self.prepared.len() - self.taken()..count {
            let prepared = reading.prepare(&self.reader.request(i), &mut self.hashes);
            self.prepared.push(prepared);
        }
        count
    }

    /// The first requests, which have been prepared, and the hashes that they refer to.
    pub fn first(&self, count: usize) -> impl Iterator<Item = (&Prepared, Request<'_>)> {
        let prepared = self.prepared[self.taken()..].iter().enumerate().take(count);
        prepared.map(|(i, prepared)| (prepared, self.reader.request(i)))
    }

    fn taken(&self) -> usize {
        self.taken as usize
    }

    /// The hashes that the prepared requests refer to.
    pub fn hashes(&self) -> &[KeyHash] {
        &self.hashes
    }

    /// The hashes of the first requests alone.
    pub fn hashes_of_first(&self, count: usize) -> &[KeyHash] {
        match &self.prepared[self.taken()..][..count] {
            [first, .., last] => &self.hashes[first.hashes_at().start..last.hashes_at().end],
            [one] => &self.hashes[one.hashes_at()],
            [] => &[],
        }
    }

    /// Has the first request run, which must have been prepared.
    pub fn run_first(&self, engine: &mut Engine, client: ClientId, out: &mut ReplyBuf) -> Verdict {
        let prepared = &self.prepared[self.taken()];
        engine.execute(client, prepared, self.reader.request(0), &self.hashes, out)
    }

    /// Takes the first request off.
    pub fn pop(&mut self) {
        self.reader.pop_front();
        self.taken += 1;
        if self.taken() == self.prepared.len() {
            self.prepared.clear();
            self.hashes.clear();
            self.taken = 0;
        }
    }

    /// Gives the buffer back if nothing in it is needed any more.
    pub fn give_back(&mut self, buffers: &BufferPool) {
        if let Some(buffer) = self.reader.detach_buffer() {
            buffers.give_input(buffer);
        }
    }

    /// Forgets what it holds; a buffer goes back if it can be used again.
    pub fn clear(&mut self, buffers: &BufferPool) {
        self.give_back(buffers);
        *self = Inbox::new(self.is_authenticated);
    }

    /// Brings what running the first requests will touch into the caches, when another thread has
    /// written it.
    pub fn prefetch(&self) {
        self.reader.prefetch();
        self.prepared.first().inspect(|prepared| prefetch::value(*prepared));
        self.hashes.first().inspect(|hash| prefetch::value(*hash));
        prefetch::address(self.reply.as_ptr());
    }

    /// The same as soon as who reads on has given an empty buffer back.
    pub fn figures_at_rest(&self) -> InputFigures {
        let figures = self.figures();
        let is_empty = figures.query_bytes == 0;
        let query_free_bytes = if is_empty { 0 } else { figures.query_free_bytes };
        InputFigures { query_free_bytes, ..figures }
    }

    pub fn figures(&self) -> InputFigures {
        let query_bytes = self.reader.query_len();
        InputFigures {
            query_bytes,
            query_free_bytes: self.reader.buffer_memory().saturating_sub(query_bytes),
            argv_bytes: if query_bytes == 0 { 0 } else { self.reader.argv_len() },
            read_bytes_total: self.read_bytes_total,
        }
    }
}
