//! The write stream: what replicas and the append-only file will replay.
//!
//! A command that changed something is recorded with its own words, or with those the handler
//! gave instead, at once in the form in which it travels: RESP arrays of bulk strings, with a
//! SELECT where the database changes. A list of commands that is encoded later was refused: it
//! cost an allocation for each word. Without anybody to replay the stream nothing is recorded.
//!
//! What is recorded is closed when a turn ends, so what readers find is whole commands and whole
//! transactions. A reader is an offset into the stream ([`Propagation::read`]); all of them share
//! the bytes, which stay until the last has read them ([`Propagation::forget_before`]). The memory
//! of what everybody has done with is written to again.

use crate::resp::command;
use crate::script::vm::target;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// What is allocated at once, and written to again when all have read it.
const BUFFER_BYTES: usize = 64 * 1024;
/// A buffer that a huge command has made is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// One command of the stream, as tests read it.
#[cfg(test)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Propagated {
    pub db: usize,
    pub words: Vec<Box<[u8]>>,
}

/// A place in the stream, to wrap what comes after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    offset: u64,
    commands: u64,
}

/// Which readers of the stream what a command does is for; a script may say so (redis.set_repl).
/// That a key has expired or was evicted is for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets(u8);

impl Targets {
    pub const NONE: Targets = Targets(target::NONE);
    pub const AOF: Targets = Targets(target::AOF);
    pub const REPLICAS: Targets = Targets(target::REPLICAS);
    pub const ALL: Targets = Targets(target::ALL);

    /// A mask of [`target`].
    pub const fn of_mask(mask: u8) -> Targets {
        Targets(mask & target::ALL)
    }

    /// Whether anybody who reads the stream is meant: the AOF is its one reader.
    fn reads_anybody(self) -> bool {
        self.0 & target::AOF != 0
    }
}

impl Default for Targets {
    fn default() -> Targets {
        Targets::ALL
    }
}

#[derive(Default)]
pub struct Propagation {
    active: bool,
    /// Whom what the running command does is for.
    targets: Targets,
    /// What is closed and not forgotten yet, oldest first, and where it ends.
    closed: VecDeque<Bytes>,
    closed_end: u64,
    /// What is recorded behind it.
    open: BytesMut,
    /// The database that the stream is in; unknown to whoever starts to read it.
    db: Option<usize>,
    /// Commands recorded so far.
    commands: u64,
    /// Words given by the running command instead of its own.
    replaced: Replaced,
    /// From here on all belongs to a command that has not ended.
    kept_from: Option<u64>,
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

#[derive(Default)]
struct Replaced {
    is_given: bool,
    bytes: Vec<u8>,
    /// Each command's database and where it ends.
    ends: Vec<(usize, usize)>,
}

impl Replaced {
    fn clear(&mut self) {
        self.is_given = false;
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Propagation {
    /// From here on what commands do is for these readers.
    #[inline]
    pub fn aim_at(&mut self, targets: Targets) {
        self.targets = targets;
    }

    /// Starts or stops recording. What nobody has taken when it stops is of no use to anybody.
    pub fn set_active(&mut self, active: bool) {
        self.active = active;
        self.db = None;
        if !active {
            // Offsets never go back.
            self.closed_end += self.open.len() as u64;
            self.closed.clear();
            self.kept_from = None;
            self.open = BytesMut::new();
        } else if self.open.capacity() == 0 {
            self.open = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }

    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Has the next command stand behind a SELECT: a new reader begins with it.
    pub fn forget_db(&mut self) {
        self.db = None;
    }

    /// Records these words in place of the running command's own.
    pub fn replace(&mut self, db: usize, words: &[&[u8]]) {
        if !self.active {
            return;
        }
        self.replaced.is_given = true;
        if !words.is_empty() {
            command::put(&mut self.replaced.bytes, words.iter().copied());
            self.replaced.ends.push((db, self.replaced.bytes.len()));
        }
    }

    /// The running command ended; `changed` says whether it changed the dataset.
    #[inline]
    pub fn finish<'w>(
        &mut self,
        db: usize,
        changed: bool,
        words: impl ExactSizeIterator<Item = &'w [u8]>,
    ) {
        if !self.active {
            return;
        }
        if !self.targets.reads_anybody() {
            self.replaced.clear();
        } else if self.replaced.is_given {
            self.finish_replaced();
        } else if changed {
            self.record(db, words);
        }
    }

    fn finish_replaced(&mut self) {
        let mut replaced = std::mem::take(&mut self.replaced);
        let mut start = 0;
        for (db, end) in replaced.ends.drain(..) {
            self.select(db);
            self.open.extend_from_slice(&replaced.bytes[start..end]);
            self.commands += 1;
            start = end;
        }
        replaced.clear();
        self.replaced = replaced;
    }

    fn record<'w>(&mut self, db: usize, words: impl ExactSizeIterator<Item = &'w [u8]>) {
        self.select(db);
        command::put(&mut self.open, words);
        self.commands += 1;
    }

    #[inline]
    fn select(&mut self, db: usize) {
        if self.db != Some(db) {
            self.db = Some(db);
            let number = db.to_string();
            command::put(&mut self.open, [&b"SELECT"[..], number.as_bytes()].into_iter());
        }
    }

    /// A key was deleted by the server's own doing.
    pub fn deletion(&mut self, db: usize, key: &[u8], lazily: bool) {
        if self.active {
            let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
            self.record(db, [verb, key].into_iter());
        }
    }

    /// Fields of a hash were deleted by the server's own doing.
    pub fn field_deletion<'n>(
        &mut self,
        db: usize,
        key: &'n [u8],
        names: impl Iterator<Item = &'n [u8]>,
    ) {
        if self.active {
            let words: Vec<&[u8]> = [&b"HDEL"[..], key].into_iter().chain(names).collect();
            self.record(db, words.into_iter());
        }
    }

    /// How far the stream has come, to wrap what a command or a transaction adds.
    #[inline]
    pub fn position(&self) -> Position {
        Position { offset: self.offset(), commands: self.commands }
    }

    /// Wraps what was added since `position` in MULTI and EXEC, if it is more than one command.
    #[inline]
    pub fn wrap_transaction(&mut self, position: Position) {
        if self.commands > position.commands + 1 {
            self.wrap(position.offset);
        }
    }

    #[cold]
    fn wrap(&mut self, start: u64) {
        // Recording may have been stopped meanwhile, by a command of the transaction.
        let Some(start) = start.checked_sub(self.closed_end) else { return };
        let start = usize::try_from(start).expect("it is in memory");
        if start > self.open.len() {
            return;
        }
        // As Redis 7.2 and later do, MULTI stands before the SELECT of its first command.
        let end = self.open.len();
        self.open.extend_from_slice(MULTI);
        self.open.copy_within(start..end, start + MULTI.len());
        self.open[start..start + MULTI.len()].copy_from_slice(MULTI);
        self.open.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        self.commands += 2;
    }

    /// Keeps what comes from here on open until [`Propagation::let_go`]: a command that has been
    /// put aside is to be read as a whole.
    pub fn keep_open(&mut self, from: Position) {
        self.kept_from = Some(from.offset.clamp(self.closed_end, self.offset()));
    }

    pub fn let_go(&mut self) {
        self.kept_from = None;
    }

    /// The end of what can be told of: of what belongs to a command that has not ended nobody can
    /// know.
    pub fn told_offset(&self) -> u64 {
        self.kept_from.unwrap_or_else(|| self.offset())
    }

    /// How many bytes are recorded that are not closed yet.
    pub fn open_bytes(&self) -> usize {
        self.open.len()
    }

    /// Closes what is recorded: a turn ends.
    #[inline]
    pub fn close(&mut self) {
        let end = match self.kept_from {
            Some(offset) => usize::try_from(offset - self.closed_end).expect("it is in memory"),
            None => self.open.len(),
        };
        if end == 0 {
            return;
        }
        let bytes = self.open.split_to(end).freeze();
        self.closed_end += bytes.len() as u64;
        self.closed.push_back(bytes);
        if self.open.capacity() > KEPT_BYTES_MAX {
            self.open = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }

    /// What is closed from an offset on, as far as it lies in one piece, and the offset behind it.
    /// Nothing if all has been read. The offset is one that this gave, or [`Propagation::offset`].
    pub fn read(&self, from: u64) -> Option<(Bytes, u64)> {
        let mut start = self.closed_end;
        for bytes in self.closed.iter().rev() {
            let end = start;
            start -= bytes.len() as u64;
            if start <= from && from < end {
                let skipped = usize::try_from(from - start).expect("it is in memory");
                return Some((bytes.slice(skipped..), end));
            }
        }
        None
    }

    /// Every reader has come to here.
    pub fn forget_before(&mut self, offset: u64) {
        let mut start = self.closed_end - self.closed.iter().map(|b| b.len() as u64).sum::<u64>();
        while let Some(bytes) = self.closed.front() {
            start += bytes.len() as u64;
            if start > offset {
                return;
            }
            self.closed.pop_front();
        }
    }

    /// Where the stream ends, in bytes since the start of the server.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.closed_end + self.open.len() as u64
    }

    #[cfg(test)]
    fn take_all(&mut self) -> Vec<u8> {
        self.close();
        self.closed.drain(..).flatten().collect()
    }

    /// Everything recorded since the last call, as commands.
    #[cfg(test)]
    pub fn drain(&mut self) -> Vec<Propagated> {
        let stream = self.take_all();
        let mut rest = stream.as_slice();
        let mut db = 0;
        let mut commands = Vec::new();
        self.db = None;
        while let Some((words, len)) = command::read(rest) {
            rest = &rest[len..];
            if *words[0] == *b"SELECT" {
                db = String::from_utf8_lossy(&words[1]).parse().expect("we wrote the number");
            } else {
                commands.push(Propagated { db, words });
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    fn finish(stream: &mut Propagation, db: usize, changed: bool, text: &str) {
        stream.finish(db, changed, words(text).into_iter());
    }

    fn lines(stream: &mut Propagation) -> Vec<String> {
        let drained = stream.drain();
        let line = |command: Propagated| {
            let words: Vec<_> = command.words.iter().map(|w| String::from_utf8_lossy(w)).collect();
            format!("{} {}", command.db, words.join(" "))
        };
        drained.into_iter().map(line).collect()
    }

    #[test]
    fn the_database_is_told_when_it_changes() {
        let mut stream = Propagation::default();
        finish(&mut stream, 0, true, "SET a 1");
        assert_eq!(stream.offset(), 0, "nobody reads it");
        stream.set_active(true);
        finish(&mut stream, 3, true, "SET a 1");
        finish(&mut stream, 3, false, "GET a");
        finish(&mut stream, 0, true, "DEL b");
        let expected =
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n\
            *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n";
        stream.close();
        assert_eq!(stream.read(0).map(|(bytes, _)| bytes), Some(Bytes::from_static(expected)));
        assert_eq!(lines(&mut stream), ["3 SET a 1", "0 DEL b"]);
    }

    #[test]
    fn other_words_stand_for_the_commands_own() {
        let mut stream = Propagation::default();
        stream.set_active(true);
        stream.replace(0, &words("SET a 2"));
        stream.replace(1, &words("SET b 2"));
        stream.deletion(0, b"old", false);
        finish(&mut stream, 0, true, "INCR a");
        stream.replace(0, &[]);
        finish(&mut stream, 0, true, "XREADGROUP");
        assert_eq!(lines(&mut stream), ["0 DEL old", "0 SET a 2", "1 SET b 2"]);
    }

    #[test]
    fn what_is_not_for_the_reader_is_not_recorded() {
        let mut stream = Propagation::default();
        stream.set_active(true);
        for targets in [Targets::NONE, Targets::AOF, Targets::REPLICAS, Targets::ALL] {
            stream.aim_at(targets);
            finish(&mut stream, 0, true, &format!("SET {targets:?} v"));
            stream.replace(0, &words("SET a 2"));
            finish(&mut stream, 0, true, "INCR a");
            stream.deletion(0, b"expired", false);
        }
        let expected = [
            "DEL expired",
            "SET Targets(1) v",
            "SET a 2",
            "DEL expired",
            "DEL expired",
            "SET Targets(3) v",
            "SET a 2",
            "DEL expired",
        ];
        assert_eq!(lines(&mut stream), expected.map(|line| format!("0 {line}")));
    }

    #[test]
    fn what_belongs_together_is_a_transaction_with_all_its_selects() {
        let mut stream = Propagation::default();
        stream.set_active(true);
        let start = stream.position();
        finish(&mut stream, 2, true, "SET a 1");
        stream.wrap_transaction(start);
        let start = stream.position();
        finish(&mut stream, 1, true, "SET b 1");
        finish(&mut stream, 4, true, "SET c 1");
        stream.wrap_transaction(start);
        let expected = ["2 SET a 1", "2 MULTI", "1 SET b 1", "4 SET c 1", "4 EXEC"];
        assert_eq!(lines(&mut stream), expected);
    }

    #[test]
    fn readers_share_what_is_closed_until_the_last_has_read_it() {
        let mut stream = Propagation::default();
        stream.set_active(true);
        let mut ends = Vec::new();
        for turn in 0..5 {
            finish(&mut stream, 0, true, &format!("SET k {turn}"));
            assert_eq!(stream.read(ends.last().copied().unwrap_or(0)), None, "it is open");
            stream.close();
            ends.push(stream.offset());
        }
        let (quick, slow) = (ends[4], ends[1]);
        assert_eq!(stream.read(quick), None);
        stream.forget_before(slow.min(quick));
        let mut at = slow;
        let mut text = Vec::new();
        while let Some((bytes, end)) = stream.read(at) {
            text.extend_from_slice(&bytes);
            at = end;
        }
        assert_eq!(at, quick);
        let words = |turn: &str| format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n{turn}\r\n");
        assert_eq!(String::from_utf8(text), Ok(["2", "3", "4"].map(words).concat()));
        stream.forget_before(quick);
        assert!(stream.closed.is_empty());
        // Somewhere within a piece.
        finish(&mut stream, 0, true, "SET k 5");
        stream.close();
        let (bytes, end) = stream.read(quick + 4).expect("it is there");
        assert_eq!((&bytes[..8], end), (&b"$3\r\nSET\r"[..], stream.offset()));
    }

    #[test]
    fn offsets_go_on_when_recording_stops() {
        let mut stream = Propagation::default();
        stream.set_active(true);
        finish(&mut stream, 0, true, "SET k v");
        let start = stream.position();
        let end = stream.offset();
        stream.set_active(false);
        stream.wrap_transaction(start);
        assert_eq!((stream.offset(), stream.read(0)), (end, None));
        stream.set_active(true);
        finish(&mut stream, 0, true, "SET k v");
        stream.close();
        assert!(
            stream.read(end).is_some_and(|(bytes, _)| bytes.starts_with(b"*2\r\n$6\r\nSELECT"))
        );
    }
}
