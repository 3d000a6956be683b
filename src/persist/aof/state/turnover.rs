//! The AOF turns over: a base of the dataset as it is now, and an increment behind it, replace the
//! files there are.
//!
//! Threads make the files; this says what they are to make, and when the AOF goes on in the next
//! increment: at the end of the turn at which the dataset is photographed, and not before the
//! increment in front of it is durable. One that is of no use any more is void: its threads are
//! waited for, since their files are in the way of the next one's, and what they say is dropped.

use super::{Aof, Fault, Mode};
use crate::persist::aof::mark::KEY_LINE_BYTES;
use crate::persist::aof::notes::Notes;
use crate::persist::aof::options::Moment;
use crate::persist::aof::rewrite::{Kind, Opened, Rewritten};

/// What a rewrite is at.
#[derive(Default)]
pub enum Rewrite {
    #[default]
    Idle,
    /// A thread makes the next increment.
    Opening,
    /// The next increment is there; the old one is written out at the next turn's end.
    Opened(Opened),
    /// The old increment is being synced up to here; then the next one is appended to.
    Turning { opened: Opened, upto: u64 },
    /// A thread writes the base.
    Writing(Kind),
}

impl Rewrite {
    /// Whether nothing is written, since the increment in front is not known to be durable.
    pub fn is_turning(&self) -> bool {
        matches!(self, Rewrite::Turning { .. })
    }

    /// Whether what is appended belongs to a base that nobody lists yet.
    pub fn is_fresh(&self) -> bool {
        matches!(self, Rewrite::Writing(Kind::Fresh))
    }

    /// Whether an increment that is durable up to there can be followed by the next one.
    pub fn waits_for(&self, synced: u64) -> bool {
        matches!(self, Rewrite::Turning { upto, .. } if synced >= *upto)
    }
}

impl Aof {
    /// Whether only a rewrite makes the AOF whole.
    pub fn wants_rewrite(&self) -> bool {
        let is_broken = matches!(self.fault, Some(Fault::Sync(_)));
        (is_broken || self.mode == Mode::Waiting) && matches!(self.rewrite, Rewrite::Idle)
    }

    /// Whether the files of a rewrite are being made, be it for nothing.
    pub fn is_rewriting(&self) -> bool {
        !matches!(self.rewrite, Rewrite::Idle)
    }

    /// Whether a rewrite is under way that will be of use.
    pub fn is_rewriting_on(&self) -> bool {
        self.is_rewriting() && !self.is_rewrite_void
    }

    /// Begins a rewrite: the increment that is to be opened on another thread. Refused while
    /// another one runs, and while the disk takes no writes.
    pub fn begin_rewrite(&mut self) -> Option<Kind> {
        let kind = match (self.mode, &self.fault) {
            _ if self.is_rewriting() => return None,
            (Mode::On, None) => Kind::Following,
            (Mode::On, Some(Fault::Write(_))) => return None,
            (Mode::Off, _) => Kind::Detached,
            _ => Kind::Fresh,
        };
        self.rewrite = Rewrite::Opening;
        self.is_rewrite_void = false;
        Some(kind)
    }

    /// The next increment was opened, or not; false if the rewrite has ended with that.
    pub fn finish_opening(&mut self, opened: Opened) -> bool {
        if std::mem::take(&mut self.is_rewrite_void) {
            self.manifest = opened.manifest;
            self.rewrite = Rewrite::Idle;
            return false;
        }
        self.rewrite = Rewrite::Opened(opened);
        true
    }

    /// A rewrite could not open its files or write its base.
    pub fn fail_rewrite(&mut self) {
        self.rewrite = Rewrite::Idle;
        // The disk may know the names by now that the next try would use.
        self.manifest.skipped += 1;
        self.is_rewrite_void = false;
        if self.mode == Mode::Waiting {
            self.current = None;
            self.in_flight = None;
        }
    }

    /// At the end of a turn, with all its bytes appended: whether the dataset is to be
    /// photographed now for the base. What is appended from here on goes to the next increment.
    pub fn reaches_snapshot(&mut self, now: Moment) -> bool {
        let Rewrite::Opened(opened) = &self.rewrite else { return false };
        let kind = opened.kind;
        if kind == Kind::Following {
            self.write(now);
            if !self.pending.is_empty() {
                return false;
            }
        }
        let Rewrite::Opened(opened) = std::mem::take(&mut self.rewrite) else {
            return false;
        };
        self.base_stream = self.cursor;
        match kind {
            Kind::Following => {
                let upto = self.tail.written;
                let key = opened.file.as_ref().map(|(_, key)| key.clone());
                self.notes = Notes::of_new(key);
                let is_synced = self.tail.synced >= upto && self.in_flight.is_none();
                self.rewrite = Rewrite::Turning { opened, upto };
                if is_synced {
                    self.turn(now);
                }
            }
            Kind::Detached => self.rewrite = Rewrite::Writing(Kind::Detached),
            Kind::Fresh => {
                // Bytes that the old file would not take are part of the base.
                self.pass_over();
                self.in_flight = None;
                self.oldest_us = None;
                self.closed_bytes = 0;
                if let Some((file, key)) = opened.file {
                    self.notes = Notes::of_new(Some(key));
                    self.enter(file, KEY_LINE_BYTES);
                }
                self.tail.synced = self.tail.appended;
                self.rewrite = Rewrite::Writing(Kind::Fresh);
            }
        }
        true
    }

    /// Whether the base may be written: not before the old increment is durable.
    pub fn may_write_base(&self) -> Option<Kind> {
        match self.rewrite {
            Rewrite::Writing(kind) => Some(kind),
            _ => None,
        }
    }

    /// A base was written and listed.
    pub fn finish_rewrite(&mut self, rewritten: Rewritten) -> bool {
        let state = std::mem::take(&mut self.rewrite);
        let is_void = std::mem::take(&mut self.is_rewrite_void);
        self.manifest = rewritten.manifest;
        let Rewrite::Writing(kind) = state else { return false };
        self.closed_bytes = rewritten.base_bytes;
        if is_void {
            return false;
        }
        self.synced_stream = self.synced_stream.max(self.base_stream);
        if kind == Kind::Fresh {
            self.mode = Mode::On;
            self.fault = None;
            self.frozen = None;
        }
        true
    }

    /// The running rewrite is of no use any more. A next increment that is listed already stays
    /// listed, empty, until a later rewrite makes it history.
    pub(super) fn give_up_rewrite(&mut self) {
        match std::mem::take(&mut self.rewrite) {
            Rewrite::Idle => {}
            Rewrite::Opened(opened) | Rewrite::Turning { opened, .. } => {
                self.manifest = opened.manifest;
            }
            running => {
                self.rewrite = running;
                self.is_rewrite_void = true;
            }
        }
    }

    /// The old increment is durable: the next one is appended to.
    pub(super) fn turn(&mut self, now: Moment) {
        let Rewrite::Turning { opened, .. } = std::mem::take(&mut self.rewrite) else {
            return;
        };
        self.closed_bytes += self.current.as_ref().map_or(0, |current| current.len);
        if let Some((file, _)) = opened.file {
            self.enter(file, KEY_LINE_BYTES);
        }
        self.manifest = opened.manifest;
        self.rewrite = Rewrite::Writing(Kind::Following);
        self.write(now);
    }
}
