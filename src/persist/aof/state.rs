//! The append-only file as a state machine: what is appended, written, synced, and what failed.
//!
//! Three offsets into the stream of writes, `appended >= written >= synced`, say how far it has
//! come, and everything else follows from them: which replies may leave, whether new writes are
//! taken, how much a loss of power would cost now. The executor appends and writes (into the
//! page cache) at the end of each turn, before a reply leaves; syncing takes milliseconds and is
//! yielded as a [`SyncRequest`] for another thread. The machine owns no thread and reads no clock,
//! so that a test drives it through every order of events over a disk that fails.
//!
//! A sync that failed once is never asked for again: the kernel may have dropped the pages and
//! call the next one a success. The AOF is then whole again only with a new base and increment.
//!
//! Invariants: the file ends with a whole turn or `pending` begins in the middle of one; while a
//! rewrite turns to the next increment nothing is written, so that no increment can be durable
//! before the one in front of it.

mod turnover;

use super::claim::Claim;
use super::manifest::{Manifest, Place};
use super::mark::KeySource;
use super::notes::{FileEnd, Notes, Page};
use super::options::{Moment, Options};
use super::pending::Pending;
use crate::config::AppendFsync;
use crate::persist::disk::{Disk, DiskFile};
use crate::repl::ids::Origin;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use turnover::Rewrite;

/// The age at which the oldest unsynced write has a sync requested: early enough that it is
/// durable within a second if a sync takes up to half a second.
const SYNC_AGE_US: u64 = 500_000;
/// New writes wait while the oldest unsynced one is older.
const WAIT_AGE_US: u64 = 2_000_000;
/// The same error is told at most so often.
const ERROR_LOG_US: u64 = 30_000_000;

/// A file to be synced on another thread; the outcome goes to [`Aof::finish_sync`].
pub struct SyncRequest {
    pub file: Arc<dyn DiskFile>,
    pub ticket: Ticket,
}

impl SyncRequest {
    pub fn run(self) -> SyncOutcome {
        SyncOutcome { result: self.file.sync(), ticket: self.ticket }
    }
}

/// What a sync covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    file: u64,
    upto: u64,
}

pub struct SyncOutcome {
    pub result: io::Result<()>,
    pub ticket: Ticket,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Off,
    /// The AOF was switched on and waits for its first base: nothing is promised yet.
    Waiting,
    On,
}

/// Why new writes are refused.
#[derive(Debug)]
enum Fault {
    /// Bytes wait that the disk would not take; they are tried again.
    Write(io::Error),
    /// A sync failed: only a new base and increment help.
    Sync(io::Error),
}

/// The file that is appended to.
struct Current {
    file: Arc<dyn DiskFile>,
    number: u64,
    len: u64,
    /// What is taken from an offset of the stream to have the place in the file.
    origin: i128,
}

/// How far the stream has come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Progress {
    pub appended: u64,
    pub written: u64,
    pub synced: u64,
}

/// A turn's place in the AOF, and in the write stream.
struct Turn {
    end: u64,
    stream_end: u64,
}

/// A sync that runs.
struct InFlight {
    ticket: Ticket,
    /// The end of the write stream that it covers.
    stream_end: u64,
    oldest_us: u64,
}

pub struct Aof {
    pub disk: Arc<dyn Disk>,
    pub place: Place,
    pub claim: Claim,
    pub options: Options,
    pub manifest: Manifest,
    /// How far it has read the write stream.
    pub cursor: u64,
    mode: Mode,
    current: Option<Current>,
    files_opened: u64,
    pub keys: KeySource,
    pending: Pending,
    notes: Notes,
    /// Up to here the write stream is known to be durable.
    synced_stream: u64,
    /// Up to here it is in the base that is being written, or was last.
    base_stream: u64,
    /// The turns that replies may wait for, oldest first, and the last one of those before.
    turns: VecDeque<Turn>,
    /// How far the file that is appended to has come.
    tail: Progress,
    /// How far the AOF had come when it broke: what is in the new increment counts when its base
    /// does.
    frozen: Option<Progress>,
    in_flight: Option<InFlight>,
    /// When the oldest byte came that no requested sync covers.
    oldest_us: Option<u64>,
    fault: Option<Fault>,
    error_told_us: Option<u64>,
    rewrite: Rewrite,
    /// The running rewrite is of no use: its increment is broken, or the AOF was switched off.
    is_rewrite_void: bool,
    /// A snapshot is being written, whoever wants it.
    pub is_saving: bool,
    /// Writes have waited for a sync since it began.
    has_told_of_delay: bool,
    pub delayed_syncs: u64,
    /// A pause before each write, which tests ask for (DEBUG AOF-FLUSH-SLEEP).
    pub write_delay: Duration,
    /// Length of the base and of the closed increments.
    pub closed_bytes: u64,
}

impl Aof {
    pub fn new(disk: Arc<dyn Disk>, place: Place) -> Aof {
        Aof {
            disk,
            place,
            claim: Claim::default(),
            options: Options::default(),
            manifest: Manifest::default(),
            cursor: 0,
            mode: Mode::Off,
            current: None,
            files_opened: 0,
            keys: KeySource::default(),
            pending: Pending::default(),
            notes: Notes::new(None, 0),
            synced_stream: 0,
            base_stream: 0,
            turns: VecDeque::new(),
            tail: Progress::default(),
            frozen: None,
            in_flight: None,
            oldest_us: None,
            fault: None,
            error_told_us: None,
            rewrite: Rewrite::default(),
            is_rewrite_void: false,
            is_saving: false,
            has_told_of_delay: false,
            delayed_syncs: 0,
            write_delay: Duration::ZERO,
            closed_bytes: 0,
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether replies wait for the disk, those to readers included.
    pub fn syncs_always(&self) -> bool {
        self.mode == Mode::On && self.options.policy == AppendFsync::Always
    }

    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Begins to append to a file, all of which is durable.
    pub fn start(&mut self, file: Arc<dyn DiskFile>, end: FileEnd, now: Moment) {
        self.mode = Mode::On;
        self.enter(file, end.len);
        self.fault = None;
        self.notes = Notes::behind(end);
        if !self.notes.is_sealed() {
            self.seal();
            self.oldest_us = Some(now.mono_us);
            self.write(now);
        }
    }

    /// The AOF is to be written; it waits for a rewrite.
    pub fn wait_for_base(&mut self) {
        self.mode = Mode::Waiting;
        self.fault = None;
        self.frozen = None;
    }

    /// Stops appending. What is there is written, and synced by whoever runs the request.
    pub fn stop(&mut self, now: Moment) -> Option<SyncRequest> {
        self.write(now);
        let upto = self.tail.written;
        let request = self.current.take().map(|current| {
            let ticket = Ticket { file: current.number, upto };
            SyncRequest { file: current.file, ticket }
        });
        self.mode = Mode::Off;
        self.pending.clear();
        self.fault = None;
        self.frozen = None;
        self.in_flight = None;
        self.oldest_us = None;
        self.give_up_rewrite();
        let all = self.tail.appended;
        self.tail = Progress { appended: all, written: all, synced: all };
        request
    }

    /// Writes and syncs all there is, before the process ends, and says so by a last mark. What was
    /// acknowledged is synced even if what came behind it cannot be written.
    pub fn close(&mut self, origin: &Origin, now: Moment) -> io::Result<()> {
        self.sync_now()?;
        if self.rewrite.is_turning() {
            self.turn(now);
        }
        self.write(now);
        let synced = self.sync_now();
        self.fault_error()?;
        synced?;
        self.write_notes(|notes, page| notes.add_origin(origin, page));
        self.seal();
        self.write(now);
        self.fault_error()?;
        self.sync_now()
    }

    fn sync_now(&mut self) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        current.file.sync()?;
        self.tail.synced = self.tail.written;
        Ok(())
    }

    fn fault_error(&self) -> io::Result<()> {
        match &self.fault {
            Some(Fault::Write(error) | Fault::Sync(error)) => {
                Err(io::Error::new(error.kind(), error.to_string()))
            }
            None => Ok(()),
        }
    }

    fn enter(&mut self, file: Arc<dyn DiskFile>, len: u64) {
        self.files_opened += 1;
        let origin = i128::from(self.tail.written) - i128::from(len);
        self.current = Some(Current { file, number: self.files_opened, len, origin });
    }

    /// Appends a turn's bytes, whole commands and whole transactions, which end at this offset of
    /// the write stream.
    pub fn append(&mut self, turn: Bytes, stream_end: u64, now: Moment) {
        if self.mode == Mode::Off || turn.is_empty() {
            return;
        }
        self.oldest_us.get_or_insert(now.mono_us);
        self.write_notes(|notes, page| notes.add_turn(turn, page, now));
        self.note_turn(stream_end);
    }

    /// Has lines added to the file that what is pending goes to.
    fn write_notes(&mut self, add: impl FnOnce(&mut Notes, &mut Page<'_>)) {
        let durable = self.durable();
        let place = self.notes.place();
        let mut page = Page { pending: &mut self.pending, options: &self.options, durable };
        add(&mut self.notes, &mut page);
        self.tail.appended += self.notes.place() - place;
    }

    /// How much of the file that what is pending goes to is known to be durable.
    fn durable(&self) -> u64 {
        let current = self.current.as_ref().filter(|_| !self.rewrite.is_turning());
        let durable = current.map_or(0, |own| i128::from(self.tail.synced) - own.origin);
        u64::try_from(durable).unwrap_or(0)
    }

    /// Says by a mark that all there is in the file is durable, unless the last mark has.
    fn seal(&mut self) {
        self.write_notes(Notes::seal);
    }

    /// Remembers that the turn is in the AOF when the AOF has come to here, and forgets what has
    /// been released but for the last of it.
    fn note_turn(&mut self, stream_end: u64) {
        let released = self.released_turns();
        self.turns.drain(..released.saturating_sub(1));
        self.turns.push_back(Turn { end: self.tail.appended, stream_end });
    }

    /// How many of the turns have come as far as their replies wait for.
    fn released_turns(&self) -> usize {
        let progress = self.frozen.unwrap_or(self.tail);
        let upto = match self.options.policy {
            AppendFsync::Always => progress.synced,
            AppendFsync::EverySecond | AppendFsync::No => progress.written,
        };
        self.turns.partition_point(|turn| turn.end <= upto)
    }

    /// Seals an AOF that nobody has written to for a while and all of which is durable, so that a
    /// hole in it is known from one that a loss of power makes. The mark is synced as writes are.
    pub fn seal_if_idle(&mut self, now: Moment) {
        let is_idle = self.notes.are_idle(now);
        let is_whole = self.tail.synced == self.tail.appended && self.in_flight.is_none();
        let is_own = self.mode == Mode::On && !self.rewrite.is_turning();
        if is_idle && is_whole && is_own && self.fault.is_none() && !self.notes.is_sealed() {
            self.seal();
            self.oldest_us.get_or_insert(now.mono_us);
        }
    }

    /// Writes what is pending, all of it or nothing.
    pub fn write(&mut self, now: Moment) {
        if self.pending.is_empty() || self.rewrite.is_turning() {
            return;
        }
        if !self.write_delay.is_zero() {
            std::thread::sleep(self.write_delay);
        }
        let Some(current) = self.current.as_mut() else { return self.pass_over() };
        let Err((error, written)) = self.pending.write_to(&*current.file) else {
            current.len += self.pending.len() as u64;
            self.tail.written = self.tail.appended;
            self.pending.clear();
            if matches!(self.fault, Some(Fault::Write(_))) {
                tracing::warn!("AOF write error looks solved, Redis can write again.");
                self.fault = None;
            }
            return;
        };
        let may_tell =
            self.error_told_us.is_none_or(|at| now.mono_us.saturating_sub(at) >= ERROR_LOG_US);
        if may_tell {
            self.error_told_us = Some(now.mono_us);
            tell_of_write(&error, written, self.pending.len());
        }
        if written > 0
            && let Err(error) = current.file.truncate(current.len)
        {
            if may_tell {
                tracing::warn!(
                    "Could not remove short write from the append-only file. The next start may \
                     refuse to load it. ftruncate: {}",
                    crate::config::os_reason(&error)
                );
            }
            current.len += written as u64;
            self.tail.written += written as u64;
            self.pending.advance(written);
        }
        if !matches!(self.fault, Some(Fault::Sync(_))) {
            self.fault = Some(Fault::Write(error));
        }
    }

    /// There is no file: the next base will hold what these bytes say.
    fn pass_over(&mut self) {
        self.pending.clear();
        self.tail.written = self.tail.appended;
    }

    /// The sync that is due now, if one is.
    pub fn due_sync(&mut self, now: Moment) -> Option<SyncRequest> {
        let is_broken = matches!(self.fault, Some(Fault::Sync(_))) && !self.rewrite.is_fresh();
        if self.in_flight.is_some() || is_broken {
            return None;
        }
        let current = self.current.as_ref()?;
        let oldest_us = self.oldest_us.filter(|_| self.tail.written > self.tail.synced);
        let is_due = match self.options.policy {
            _ if self.rewrite.is_turning() => true,
            AppendFsync::Always => oldest_us.is_some(),
            AppendFsync::EverySecond => {
                let is_old = |at: u64| now.mono_us.saturating_sub(at) >= SYNC_AGE_US;
                oldest_us.is_some_and(is_old) && !self.rests()
            }
            AppendFsync::No => false,
        };
        if !is_due {
            return None;
        }
        let ticket = Ticket { file: current.number, upto: self.tail.written };
        let file = Arc::clone(&current.file);
        let oldest_us = self.oldest_us.take().unwrap_or(now.mono_us);
        if !self.pending.is_empty() {
            self.oldest_us = Some(oldest_us);
        }
        let stream_end = self.written_stream();
        self.in_flight = Some(InFlight { ticket, stream_end, oldest_us });
        Some(SyncRequest { file, ticket })
    }

    /// Syncs are left out while a snapshot is written.
    fn rests(&self) -> bool {
        self.options.no_sync_during_saves && self.is_saving
    }

    /// When [`Aof::due_sync`] will have something to say, on the monotonic clock.
    pub fn next_sync_us(&self) -> Option<u64> {
        let waits = self.in_flight.is_none() && self.current.is_some() && self.fault.is_none();
        let is_timed = self.options.policy == AppendFsync::EverySecond && !self.rests();
        self.oldest_us.filter(|_| waits && is_timed).map(|at| at + SYNC_AGE_US)
    }

    /// A sync ended.
    pub fn finish_sync(&mut self, outcome: SyncOutcome, now: Moment) {
        let Some(in_flight) = self.in_flight.take_if(|own| own.ticket == outcome.ticket) else {
            return;
        };
        self.has_told_of_delay = false;
        match outcome.result {
            Ok(()) => {
                self.tail.synced = self.tail.synced.max(outcome.ticket.upto);
                self.synced_stream = self.synced_stream.max(in_flight.stream_end);
            }
            Err(error) => {
                self.oldest_us = Some(in_flight.oldest_us);
                return self.break_down(error);
            }
        }
        if self.rewrite.waits_for(self.tail.synced) {
            self.turn(now);
        }
    }

    /// A sync failed: this file is not to be trusted any more.
    fn break_down(&mut self, error: io::Error) {
        tracing::warn!(
            "Fail to fsync the AOF file: {}. Writes are refused until a new base is on disk.",
            crate::config::os_reason(&error)
        );
        self.give_up_rewrite();
        if self.mode == Mode::On {
            self.frozen.get_or_insert(self.tail);
            self.fault = Some(Fault::Sync(error));
        }
    }

    /// The AOF's error, if new writes are refused, in the system's words.
    pub fn refusal(&self) -> Option<String> {
        self.fault.as_ref().map(|fault| match fault {
            Fault::Write(error) | Fault::Sync(error) => crate::config::os_reason(error),
        })
    }

    pub fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// Whether new writes must wait for a slow disk.
    pub fn delays_writes(&mut self, now: Moment) -> bool {
        let slow = self
            .in_flight
            .as_ref()
            .is_some_and(|sync| now.mono_us.saturating_sub(sync.oldest_us) >= WAIT_AGE_US);
        let delays = slow
            && self.mode == Mode::On
            && self.options.policy == AppendFsync::EverySecond
            && !self.rests();
        if delays && !self.has_told_of_delay {
            self.has_told_of_delay = true;
            self.delayed_syncs += 1;
            tracing::info!(
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writes wait until it \
                 has ended."
            );
        }
        delays
    }

    /// Output that tells of the write stream up to an offset may leave when this has reached it.
    pub fn released(&self) -> u64 {
        if self.mode != Mode::On {
            return u64::MAX;
        }
        let last = self.released_turns().checked_sub(1).and_then(|at| self.turns.get(at));
        last.map_or(0, |turn| turn.stream_end)
    }

    /// Up to where the write stream is durable, if it can be said: all of it, where nothing waits.
    pub fn synced_stream(&self) -> Option<u64> {
        if self.mode != Mode::On || self.has_fault() {
            return None;
        }
        let is_all = self.tail.synced == self.tail.appended;
        Some(if is_all { u64::MAX } else { self.synced_stream })
    }

    /// The end of the write stream that is written to the file.
    fn written_stream(&self) -> u64 {
        let written = self.turns.partition_point(|turn| turn.end <= self.tail.written);
        written.checked_sub(1).map_or(0, |last| self.turns[last].stream_end)
    }

    /// How long the oldest write has been waiting to be durable.
    pub fn unsynced_us(&self, now: Moment) -> u64 {
        let oldest_us = self.in_flight.as_ref().map(|sync| sync.oldest_us).or(self.oldest_us);
        oldest_us.map_or(0, |at| now.mono_us.saturating_sub(at))
    }

    pub fn is_syncing(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn buffered_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Length of all files of the AOF.
    pub fn size_bytes(&self) -> u64 {
        self.closed_bytes + self.current.as_ref().map_or(0, |current| current.len)
    }
}

fn tell_of_write(error: &io::Error, written: usize, expected: usize) {
    if written > 0 {
        tracing::warn!(
            "Short write while writing to the AOF file: (nwritten={written}, expected={expected})"
        );
    } else {
        tracing::warn!("Error writing to the AOF file: {}", crate::config::os_reason(error));
    }
}
