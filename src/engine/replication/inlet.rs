//! What arrives from our primary, until it has become lines, a snapshot, or commands.
//!
//! The driver puts in the bytes as they come ([`Inlet::receive`]) and has them looked at in its
//! turns ([`Inlet::drive`]), like those of a client: so clients are served in between, and what
//! this does depends on the bytes alone, not on how they were cut. What the bytes are is the
//! link's to say.
//!
//! The stream is carried out in windows whose keys are brought into the caches first. What has
//! been carried out goes to our own replicas as it came, byte for byte, or their offsets would not
//! be the primary's.

use crate::engine::{Engine, Prepared};
use crate::keyspace::KeyHash;
use crate::repl::link::answers::{END_MARK_LEN, Payload};
use crate::repl::link::{Attempt, Closed, LinkEvent, LoadFailure, Wants};
use crate::resp::{Limits, RequestReader};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Commands that are prefetched together.
const WINDOW: usize = 64;
/// With so much unread, no more is to be put in.
const FULL_BYTES: usize = 1 << 20;
/// So much may follow a snapshot that has been read to its end before its mark does.
const BEHIND_BYTES_MAX: usize = 64 << 10;
const LIMITS: Limits = Limits { bulk_len_max: u64::MAX, authenticated: true };

/// What became of what has arrived.
pub enum Flow {
    /// All that there is has been looked at.
    Dry,
    /// Its turn is over, and there is more.
    More,
    /// Something else must end before the rest is looked at.
    Blocked,
    /// A part of the snapshot that is to be read.
    Snapshot(Bytes),
}

#[derive(Default)]
pub struct Inlet {
    attempt: Option<Attempt>,
    /// What nobody has looked at, or is not whole.
    waiting: BytesMut,
    /// How much of it the link has been told of, as what it takes it for.
    told: usize,
    kind: Kind,
}

#[derive(Default)]
enum Kind {
    #[default]
    Lines,
    Snapshot(Incoming),
    Stream(Box<Stream>),
}

/// A snapshot on its way.
struct Incoming {
    payload: Payload,
    left: u64,
    is_whole: bool,
    /// How much has come behind what was read to its end.
    behind: usize,
}

/// The stream on its way: the requests, and the bytes that they came as.
#[derive(Default)]
struct Stream {
    reader: RequestReader,
    pieces: VecDeque<Bytes>,
    /// Where in the stream the pieces begin, and where what is carried out ends.
    start: u64,
    applied: u64,
    prepared: Vec<Prepared>,
    hashes: Vec<KeyHash>,
}

impl Inlet {
    /// A connection is being made, whose bytes come from now on.
    pub fn begin(&mut self, attempt: Attempt) {
        *self = Inlet { attempt: Some(attempt), ..Inlet::default() };
    }

    /// Nothing more of the connection is wanted.
    pub fn end(&mut self) {
        *self = Inlet::default();
    }

    /// Bytes have arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Room for so many bytes to arrive.
    pub fn room(&mut self, bytes: usize) -> &mut BytesMut {
        self.waiting.reserve(bytes);
        &mut self.waiting
    }

    /// Whether so much waits that no more should be read.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= FULL_BYTES
    }

    /// Whether there is something to look at.
    pub fn has_work(&self) -> bool {
        let queued = match &self.kind {
            Kind::Stream(stream) => stream.reader.pending() > 0,
            _ => false,
        };
        queued || !self.waiting.is_empty()
    }

    /// Looks at what has arrived, until it has all been looked at or `is_over` says that others
    /// are to have their turn.
    pub fn drive(&mut self, engine: &mut Engine, is_over: &dyn Fn(&Engine) -> bool) -> Flow {
        loop {
            let is_current = self.attempt.is_some() && engine.link_attempt() == self.attempt;
            if !is_current {
                self.end();
                return Flow::Dry;
            }
            if engine.is_ending() {
                return Flow::Blocked;
            }
            let wants = engine.link_wants();
            self.follow(wants, engine);
            match wants {
                Wants::Nothing => return Flow::Dry,
                Wants::Lines { bytes_max } => {
                    if !self.read_line(engine, bytes_max) {
                        return Flow::Dry;
                    }
                }
                Wants::Snapshot => match self.read_snapshot(engine) {
                    Some(flow) => return flow,
                    None => continue,
                },
                Wants::Stream => match self.run_window(engine) {
                    Window::Dry => return Flow::Dry,
                    Window::Blocked => return Flow::Blocked,
                    Window::Ran if is_over(engine) => return Flow::More,
                    Window::Ran => {}
                },
            }
        }
    }

    /// Takes what arrives for what the link wants now, and tells it how much that is.
    fn follow(&mut self, wants: Wants, engine: &mut Engine) {
        let is_same = match (wants, &self.kind) {
            (Wants::Lines { .. } | Wants::Nothing, _) => true,
            (Wants::Snapshot, kind) => matches!(kind, Kind::Snapshot(_)),
            (Wants::Stream, kind) => matches!(kind, Kind::Stream(_)),
        };
        if !is_same {
            self.told = 0;
            self.kind = match wants {
                Wants::Stream => Kind::Stream(Box::default()),
                _ => engine.link_payload().map_or(Kind::Lines, |payload| {
                    let left = match payload {
                        Payload::Length(bytes) => bytes,
                        Payload::EndMark(_) => u64::MAX,
                    };
                    Kind::Snapshot(Incoming { payload, left, is_whole: false, behind: 0 })
                }),
            };
        }
        let untold = self.waiting.len() - self.told;
        if untold > 0 && wants != Wants::Nothing {
            self.told = self.waiting.len();
            engine.core().tell_attempt(LinkEvent::Bytes(untold as u64));
        }
    }

    /// Takes off what waits, of which the link knows.
    fn take(&mut self, count: usize) -> Bytes {
        self.told = self.told.saturating_sub(count);
        self.waiting.split_to(count).freeze()
    }

    /// Reads a line; false if there is none.
    fn read_line(&mut self, engine: &mut Engine, bytes_max: usize) -> bool {
        let looked_at = &self.waiting[..self.waiting.len().min(bytes_max)];
        match memchr::memchr(b'\n', looked_at) {
            Some(end) => {
                let line = self.take(end + 1);
                engine.core().tell_attempt(LinkEvent::Line(&line[..end]));
                true
            }
            None if self.waiting.len() >= bytes_max => {
                engine.core().tell_attempt(LinkEvent::LineTooLong);
                true
            }
            None => false,
        }
    }

    /// Takes off a part of the snapshot; none if it has been told that it is whole.
    fn read_snapshot(&mut self, engine: &mut Engine) -> Option<Flow> {
        let Kind::Snapshot(incoming) = &mut self.kind else { return Some(Flow::Dry) };
        let available = self.waiting.len();
        let count = match incoming.payload {
            Payload::Length(_) => {
                available.min(usize::try_from(incoming.left).unwrap_or(available))
            }
            Payload::EndMark(mark) if self.waiting.ends_with(&mark) => {
                // Behind the mark a primary sends nothing until it hears from us.
                incoming.is_whole = true;
                available - END_MARK_LEN
            }
            // What may be the begin of the mark stays until more has come.
            Payload::EndMark(_) => available.saturating_sub(END_MARK_LEN - 1),
        };
        incoming.left -= count as u64;
        incoming.is_whole |= incoming.left == 0;
        let is_whole = incoming.is_whole;
        if engine.has_read_snapshot() {
            incoming.behind += count;
            if incoming.behind > BEHIND_BYTES_MAX {
                engine.refuse_snapshot(LoadFailure::EndMark);
                return None;
            }
        }
        if count > 0 {
            let bytes = self.take(count);
            return Some(Flow::Snapshot(bytes));
        }
        if !is_whole {
            return Some(Flow::Dry);
        }
        if let Payload::EndMark(_) = incoming.payload {
            self.take(END_MARK_LEN);
        }
        engine.end_incoming_snapshot();
        None
    }

    fn run_window(&mut self, engine: &mut Engine) -> Window {
        let bytes = self.take(self.waiting.len());
        let Kind::Stream(stream) = &mut self.kind else { return Window::Dry };
        stream.put_in(bytes);
        if !engine.may_apply() {
            return Window::Blocked;
        }
        let failure = stream.parse();
        let ran = stream.run(engine);
        if !ran && failure {
            engine.core().tell_attempt(LinkEvent::Closed(Closed::Protocol));
        }
        if ran { Window::Ran } else { Window::Dry }
    }
}

enum Window {
    Dry,
    Ran,
    /// Something else must end before the stream goes on.
    Blocked,
}

impl Stream {
    fn put_in(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.reader.feed(&bytes);
            self.pieces.push_back(bytes);
        }
    }

    /// True if the stream is broken behind the commands that wait.
    fn parse(&mut self) -> bool {
        self.reader.parse(&LIMITS).is_err()
    }

    /// Carries out the next commands; false if there are none.
    fn run(&mut self, engine: &mut Engine) -> bool {
        let count = self.reader.pending().min(WINDOW);
        if count == 0 {
            return false;
        }
        self.prepare(engine, count);
        let mut end = self.applied;
        for at in 0..count {
            let Some(client) = engine.applier() else { return true };
            if self.is_inline(end) {
                engine.core().tell_attempt(LinkEvent::Closed(Closed::Inline));
                return true;
            }
            let request = self.reader.request(0);
            engine.apply(client, &self.prepared[at], request, &self.hashes);
            end = self.reader.stream_end(0);
            self.reader.pop_front();
            if !engine.is_applying_transaction() {
                self.applied = end;
            }
            if engine.takes_ack_request() {
                // It is itself a part of the stream, and whoever waits for all of that (a
                // hand-over, a shutdown) would otherwise wait for the next report.
                self.commit(engine);
                engine.core().tell_attempt(LinkEvent::GetAck);
            }
            if !engine.may_apply() {
                break;
            }
        }
        self.commit(engine);
        true
    }

    fn prepare(&mut self, engine: &Engine, count: usize) {
        self.prepared.clear();
        self.hashes.clear();
        for at in 0..count {
            let prepared = engine.prepare_applied(&self.reader.request(at), &mut self.hashes);
            self.prepared.push(prepared);
        }
        engine.prefetch_applied(&self.hashes);
    }

    /// Whether the request that begins here is no array, as all that a primary sends is.
    fn is_inline(&self, from: u64) -> bool {
        let mut skipped = usize::try_from(from - self.start).expect("it is in memory");
        for piece in &self.pieces {
            let rest = &piece[skipped.min(piece.len())..];
            skipped -= piece.len() - rest.len();
            let first = rest.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
            if let Some(byte) = first {
                return *byte != b'*';
            }
        }
        false
    }

    /// What has been carried out counts, and goes to our own replicas.
    fn commit(&mut self, engine: &mut Engine) {
        let bytes = self.applied - self.start;
        if bytes == 0 {
            return;
        }
        let mut left = bytes as usize;
        while left > 0 {
            let piece = self.pieces.front_mut().expect("it has come in pieces");
            let part = match left < piece.len() {
                true => piece.split_to(left),
                false => self.pieces.pop_front().expect("it is there"),
            };
            left -= part.len();
            engine.relay(part);
        }
        self.start = self.applied;
        engine.note_applied(bytes);
    }
}
