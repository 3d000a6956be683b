//! A connection as the node has it that was called: a client's or a replica's.

use rufous::engine::hold::{Holds, Release, Told};
use rufous::engine::transfer::TransferReport;
use rufous::engine::turn::{InputFigures, OutputFigures};
use rufous::engine::{ClientId, Engine, Verdict};
use rufous::resp::{Protocol, ReplyBuf, RequestReader};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Conn {
    reader: RequestReader,
    out: VecDeque<u8>,
    holds: Holds,
    /// How much has left, all in all.
    left: u64,
    pub is_suspended: bool,
    /// It ends when its output has left.
    pub is_closing: bool,
    pub is_closed: bool,
    /// The engine has been told so.
    pub is_forgotten: bool,
    has_written: bool,
    /// The snapshot that is sent by it; until then the output waits.
    lent: Option<Sending>,
}

/// A snapshot on its way to one replica.
struct Sending {
    bytes: VecDeque<u8>,
    /// Behind the bytes there are the snapshot failed.
    fails: bool,
    timeout_us: u64,
    moved_us: u64,
}

/// What has become of a lent connection.
pub enum Loan {
    Goes,
    Ended(TransferReport),
    Failed,
}

impl Conn {
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.is_closed {
            self.reader.feed(bytes);
        }
    }

    /// Something is added to the output that tells of this.
    pub fn send(&mut self, bytes: &[u8], told: Told, release: Release) {
        if self.is_closed {
            return;
        }
        self.out.extend(bytes);
        self.mark(told, release);
    }

    fn mark(&mut self, told: Told, release: Release) {
        let told = told.of_writes_if(self.has_written);
        self.holds.tell(told, release, self.left, self.left + self.out.len() as u64);
    }

    pub fn mark_output(&mut self, told: Told, release: Release) {
        self.mark(Told { of_writes: false, ..told }, release);
        self.has_written = false;
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.lent.is_none()
    }

    pub fn has_ended(&self) -> bool {
        self.is_closed || self.is_closing
    }

    fn figures(&self) -> OutputFigures {
        OutputFigures {
            bytes: self.out.len(),
            own_bytes: self.out.len(),
            written_bytes_total: self.left,
        }
    }

    /// Takes out what may leave and for which there is room.
    pub fn take(&mut self, engine: &mut Engine, client: ClientId, room: usize) -> Vec<u8> {
        let free = self.holds.free(self.left, engine.release());
        let count = self.out.len().min(free).min(room);
        let taken: Vec<u8> = self.out.drain(..count).collect();
        self.left += taken.len() as u64;
        engine.note_output(client, self.figures());
        taken
    }

    /// From now on a snapshot is sent by it, behind what has not left yet.
    pub fn lend(&mut self, snapshot: Vec<u8>, fails: bool, timeout_us: u64, now_us: u64) {
        let mut bytes = std::mem::take(&mut self.out);
        self.left += bytes.len() as u64;
        bytes.extend(snapshot);
        self.lent = Some(Sending { bytes, fails, timeout_us, moved_us: now_us });
    }

    pub fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// Takes out a part of the snapshot.
    pub fn take_lent(&mut self, room: usize, now_us: u64) -> Vec<u8> {
        let Some(sending) = &mut self.lent else { return Vec::new() };
        let count = sending.bytes.len().min(room);
        if count > 0 {
            sending.moved_us = now_us;
        }
        sending.bytes.drain(..count).collect()
    }

    /// How the sending goes; when it has ended the connection is the executor's again.
    pub fn end_loan(&mut self, client: ClientId, now_us: u64) -> Loan {
        let Some(sending) = &self.lent else { return Loan::Goes };
        let loan = if self.is_closed {
            Loan::Ended(TransferReport::Lost { client, reason: "it has ended".to_owned() })
        } else if sending.bytes.is_empty() && sending.fails {
            Loan::Failed
        } else if sending.bytes.is_empty() {
            Loan::Ended(TransferReport::Sent { client })
        } else if now_us.saturating_sub(sending.moved_us) > sending.timeout_us {
            Loan::Ended(TransferReport::TimedOut { client })
        } else {
            return Loan::Goes;
        };
        self.lent = None;
        loan
    }

    /// Whether a request is there that may run.
    pub fn may_run(&mut self, engine: &Engine, client: ClientId) -> bool {
        if self.has_ended() || self.is_suspended {
            return false;
        }
        let limits = engine.reading().limits(engine.is_authenticated(client));
        let parsed = self.reader.parse(&limits);
        let pending = self.reader.pending() > 0;
        if let Err(failure) = parsed
            && !pending
        {
            let mut out = ReplyBuf::new();
            out.writer(Protocol::Resp2).error(&failure.reply_text());
            self.out.extend(out.to_vec());
            self.is_closing = true;
        }
        pending
    }

    /// Runs the first request. The caller carries out what it leaves behind.
    pub fn run(&mut self, engine: &mut Engine, client: ClientId) -> Verdict {
        engine.begin_batch(client, InputFigures::default());
        let recorded = engine.stream_end();
        let mut out = ReplyBuf::new();
        let verdict = engine.run(client, self.reader.request(0), &mut out);
        self.out.extend(out.to_vec());
        self.has_written |= engine.stream_end() != recorded;
        if verdict != Verdict::Postponed {
            self.reader.pop_front();
        }
        engine.end_batch(client, InputFigures::default(), self.figures());
        verdict
    }
}
