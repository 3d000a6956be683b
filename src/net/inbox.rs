//! The first half of a connection: what has come in from a client and was not run yet.
//!
//! It needs nothing but itself and a [`Reading`], so it goes with the socket or with the executor,
//! whoever has something to do with it, and brings its own figures along.

use super::intake::Intake;
use super::pool::BufferPool;
use super::stream::Stream;
use crate::engine::turn::InputFigures;
use crate::engine::{ClientId, Engine, Reading, Verdict};
use crate::keyspace::KeyHash;
use crate::resp::{ProtocolError, ReplyBuf};
use crate::structs::prefetch;
use std::io;
use std::task::{Context, Poll};

#[derive(Default)]
pub struct Inbox {
    /// Not there while nothing has come.
    intake: Option<Box<Intake>>,
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
        self.intake.as_ref().map_or(0, |intake| intake.reader.pending())
    }

    /// The requests that wait, if anything has come.
    pub fn intake(&self) -> Option<&Intake> {
        self.intake.as_deref()
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
        let intake = self.intake.get_or_insert_with(|| buffers.intake());
        let Ok(room) = intake.reader.room() else {
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
        let Some(intake) = &mut self.intake else { return };
        if let Err(failure) = intake.reader.parse(&reading.limits(self.is_authenticated)) {
            self.failure = Some(failure);
        }
    }

    /// Whether more has come than may before any of it is executed.
    pub fn is_too_long(&self, reading: &Reading) -> bool {
        let bytes_max = reading.query_bytes_max(self.is_authenticated);
        let intake = self.intake.as_ref();
        intake.is_some_and(|intake| intake.reader.buffered_len() > bytes_max)
    }

    /// Looks up commands and hashes keys of the first requests, as far as that has not been done;
    /// how many of at most `max` there are.
    pub fn prepare(&mut self, reading: &Reading, max: usize) -> usize {
        self.intake.as_mut().map_or(0, |intake| intake.prepare(reading, max))
    }

    /// The hashes of the first requests, which have been prepared.
    pub fn hashes_of_first(&self, count: usize) -> &[KeyHash] {
        self.intake.as_ref().map_or(&[], |intake| intake.hashes_of_first(count))
    }

    /// Has the first request run, which must have been prepared, and takes it off unless it is to
    /// be tried again.
    pub fn run_first(
        &mut self,
        engine: &mut Engine,
        client: ClientId,
        out: &mut ReplyBuf,
    ) -> Verdict {
        let intake = self.intake.as_mut().expect("what was prepared is there");
        let verdict = intake.run_first(engine, client, out);
        out.set_aside_if_full();
        if verdict != Verdict::Postponed {
            intake.pop();
        }
        verdict
    }

    /// Gives back what it was lent, if nothing in it is needed any more.
    pub fn give_back(&mut self, buffers: &BufferPool) {
        if let Some(intake) = self.intake.take_if(|intake| intake.reader.is_unused()) {
            buffers.give_intake(intake);
        }
    }

    /// Brings what running the first requests will touch into the caches, when another thread has
    /// written it.
    pub fn prefetch(&self) {
        self.intake.as_ref().inspect(|intake| intake.prefetch());
        prefetch::address(self.reply.as_ptr());
    }

    /// The figures as soon as who reads on has given back what is not needed.
    pub fn figures_at_rest(&self) -> InputFigures {
        let figures = self.figures();
        let is_empty = figures.query_bytes == 0;
        let query_free_bytes = if is_empty { 0 } else { figures.query_free_bytes };
        InputFigures { query_free_bytes, ..figures }
    }

    pub fn figures(&self) -> InputFigures {
        let read_bytes_total = self.read_bytes_total;
        let Some(intake) = &self.intake else {
            return InputFigures { read_bytes_total, ..InputFigures::default() };
        };
        let reader = &intake.reader;
        let query_bytes = reader.query_len();
        InputFigures {
            query_bytes,
            query_free_bytes: reader.buffer_memory().saturating_sub(query_bytes),
            argv_bytes: if query_bytes == 0 { 0 } else { reader.argv_len() },
            read_bytes_total,
        }
    }
}
