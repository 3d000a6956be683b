//! The write stream: what replicas and the append-only file will replay.
//!
//! A command that changed something is recorded with its own words, or with those the handler
//! gave instead, at once in the form in which it travels: RESP arrays of bulk strings, with a
//! SELECT where the database changes. A list of commands that is encoded later was refused: it
//! cost an allocation for each word. Without anybody to replay the stream nothing is recorded.
//!
//! What is recorded is closed when a turn ends, so what readers find is whole commands and whole
//! transactions. The AOF and the replicas have a [`Tape`] each, since they do not read the same: a
//! script may speak to one of them, messages and pings are for replicas alone, and a replica's
//! stream goes on with the offsets of whom it has got it from. A command for both is encoded once
//! and copied. One stream with a target on each entry was refused: the offset of a replica counts
//! the bytes that were sent to it, and who reads would have to skip.

mod tape;

use crate::resp::command;
use crate::script::vm::target;
use bytes::Bytes;
use std::collections::VecDeque;
use tape::{Place, Tape};

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
    aof: Place,
    replicas: Place,
    mover: Place,
}

/// Who reads the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    Aof,
    /// All replicas, who read the same.
    Replicas,
    /// Whoever sends slots to another node, which gets of it what is theirs.
    Mover,
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

    fn has(self, reader: Reader) -> bool {
        let own = match reader {
            Reader::Aof => target::AOF,
            Reader::Replicas | Reader::Mover => target::REPLICAS,
        };
        self.0 & own != 0
    }
}

impl Default for Targets {
    fn default() -> Targets {
        Targets::ALL
    }
}

#[derive(Default)]
pub struct Propagation {
    /// Whom what the running command does is for.
    targets: Targets,
    aof: Tape,
    replicas: Tape,
    mover: Tape,
    /// What of the AOF's is closed and not forgotten yet, oldest first.
    closed: VecDeque<Bytes>,
    /// Words given by the running command instead of its own.
    replaced: Replaced,
}

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

    /// Starts or stops recording for a reader.
    pub fn set_active(&mut self, reader: Reader, active: bool) {
        self.tape(reader).set_active(active);
        if reader == Reader::Aof && !active {
            self.closed.clear();
        }
    }

    fn tape(&mut self, reader: Reader) -> &mut Tape {
        match reader {
            Reader::Aof => &mut self.aof,
            Reader::Replicas => &mut self.replicas,
            Reader::Mover => &mut self.mover,
        }
    }

    /// Whether anybody reads it.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.aof.is_active() || self.replicas.is_active() || self.mover.is_active()
    }

    pub fn is_active_for(&self, reader: Reader) -> bool {
        match reader {
            Reader::Aof => self.aof.is_active(),
            Reader::Replicas => self.replicas.is_active(),
            Reader::Mover => self.mover.is_active(),
        }
    }

    /// Has the next command stand behind a SELECT: somebody begins with it.
    pub fn forget_db(&mut self, reader: Reader) {
        self.tape(reader).forget_db();
    }

    /// Records these words in place of the running command's own.
    pub fn replace(&mut self, db: usize, words: &[&[u8]]) {
        if !self.is_active() {
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
        if !self.is_active() {
            return;
        }
        if self.replaced.is_given {
            self.finish_replaced();
        } else if changed {
            self.record(self.targets, db, words);
        }
    }

    fn finish_replaced(&mut self) {
        let Propagation { replaced, aof, replicas, mover, targets, .. } = self;
        let readers = [(Reader::Aof, aof), (Reader::Replicas, replicas), (Reader::Mover, mover)];
        for (reader, tape) in readers {
            if !tape.is_active() || !targets.has(reader) {
                continue;
            }
            let mut start = 0;
            for &(db, end) in &replaced.ends {
                tape.copy(db, &replaced.bytes[start..end]);
                start = end;
            }
        }
        replaced.clear();
    }

    /// Writes a command for all for whom it is, once.
    #[inline]
    fn record<'w>(
        &mut self,
        targets: Targets,
        db: usize,
        words: impl ExactSizeIterator<Item = &'w [u8]>,
    ) {
        let Propagation { aof, replicas, mover, .. } = self;
        let is_for = |tape: &Tape, reader| tape.is_active() && targets.has(reader);
        if is_for(mover, Reader::Mover) {
            let start = mover.record(db, words);
            for (reader, tape) in [(Reader::Aof, aof), (Reader::Replicas, replicas)] {
                if is_for(tape, reader) {
                    tape.copy(db, mover.open_from(start));
                }
            }
            return;
        }
        match (is_for(aof, Reader::Aof), is_for(replicas, Reader::Replicas)) {
            (true, true) => {
                let start = aof.record(db, words);
                replicas.copy(db, aof.open_from(start));
            }
            (true, false) => _ = aof.record(db, words),
            (false, true) => _ = replicas.record(db, words),
            (false, false) => {}
        }
    }

    /// The database that replicas are in when they have read all.
    pub fn db_for_replicas(&self) -> Option<usize> {
        self.replicas.db()
    }

    /// Records what replicas alone read, and what selects no database.
    pub fn record_for_replicas(&mut self, command: &[u8]) {
        if self.replicas.is_active() {
            self.replicas.append(command);
        }
    }

    /// Records a command that replicas alone are to run.
    pub fn tell_replicas<'w>(&mut self, db: usize, words: impl ExactSizeIterator<Item = &'w [u8]>) {
        self.record(Targets::REPLICAS, db, words);
    }

    /// Records a command that all are to run.
    pub fn tell_all<'w>(&mut self, db: usize, words: impl ExactSizeIterator<Item = &'w [u8]>) {
        self.record(Targets::ALL, db, words);
    }

    /// A key was deleted by the server's own doing.
    pub fn deletion(&mut self, db: usize, key: &[u8], lazily: bool) {
        let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        self.record(Targets::ALL, db, [verb, key].into_iter());
    }

    /// Fields of a hash were deleted by the server's own doing.
    pub fn field_deletion<'n>(
        &mut self,
        db: usize,
        key: &'n [u8],
        names: impl Iterator<Item = &'n [u8]>,
    ) {
        if self.is_active() {
            let words: Vec<&[u8]> = [&b"HDEL"[..], key].into_iter().chain(names).collect();
            self.record(Targets::ALL, db, words.into_iter());
        }
    }

    /// How far the stream has come, to wrap what a command or a transaction adds.
    #[inline]
    pub fn position(&self) -> Position {
        Position {
            aof: self.aof.place(),
            replicas: self.replicas.place(),
            mover: self.mover.place(),
        }
    }

    /// Wraps what was added since `position` in MULTI and EXEC, if it is more than one command.
    #[inline]
    pub fn wrap_transaction(&mut self, position: Position) {
        self.aof.wrap_transaction(position.aof);
        self.replicas.wrap_transaction(position.replicas);
        self.mover.wrap_transaction(position.mover);
    }

    /// Keeps what comes from here on open until [`Propagation::let_go`]: a command that has been
    /// put aside is to be read as a whole.
    pub fn keep_open(&mut self, from: Position) {
        self.aof.keep_open(from.aof);
        self.replicas.keep_open(from.replicas);
        self.mover.keep_open(from.mover);
    }

    pub fn let_go(&mut self) {
        self.aof.let_go();
        self.replicas.let_go();
        self.mover.let_go();
    }

    /// The end of what output can tell of, as the AOF counts.
    pub fn told_offset(&self) -> u64 {
        self.aof.told_offset()
    }

    /// How many bytes are recorded for a reader that are not closed yet.
    #[inline]
    pub fn open_bytes_for(&self, reader: Reader) -> usize {
        match reader {
            Reader::Aof => self.aof.open_bytes(),
            Reader::Replicas => self.replicas.open_bytes(),
            Reader::Mover => self.mover.open_bytes(),
        }
    }

    /// How many bytes are recorded that are not closed yet.
    pub fn open_bytes(&self) -> usize {
        self.aof.open_bytes() + self.replicas.open_bytes() + self.mover.open_bytes()
    }

    /// Closes what is recorded for the AOF: a turn ends.
    #[inline]
    pub fn close(&mut self) {
        self.closed.extend(self.aof.close());
    }

    /// Closes and takes what is recorded for whoever sends slots to another node.
    pub fn take_for_mover(&mut self) -> Option<Bytes> {
        self.mover.close()
    }

    /// Closes and takes what is recorded for replicas.
    #[inline]
    pub fn take_for_replicas(&mut self) -> Option<Bytes> {
        self.replicas.close()
    }

    /// What of the AOF's is closed from an offset on, as far as it lies in one piece, and the
    /// offset behind it. Nothing if all has been read. The offset is one that this gave, or
    /// [`Propagation::offset`].
    pub fn read(&self, from: u64) -> Option<(Bytes, u64)> {
        let mut start = self.aof.closed_end();
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

    /// The AOF has come to here.
    pub fn forget_before(&mut self, offset: u64) {
        let closed: u64 = self.closed.iter().map(|bytes| bytes.len() as u64).sum();
        let mut start = self.aof.closed_end() - closed;
        while let Some(bytes) = self.closed.front() {
            start += bytes.len() as u64;
            if start > offset {
                return;
            }
            self.closed.pop_front();
        }
    }

    /// Where the AOF's stream ends, in bytes since the start of the server.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.aof.offset()
    }

    #[cfg(test)]
    fn take_all(&mut self) -> Vec<u8> {
        self.close();
        self.closed.drain(..).flatten().collect()
    }

    /// Everything recorded for the AOF since the last call, as commands.
    #[cfg(test)]
    pub fn drain(&mut self) -> Vec<Propagated> {
        let stream = self.take_all();
        self.aof.forget_db();
        read_commands(&stream)
    }
}

/// The commands of a stream.
#[cfg(test)]
fn read_commands(mut rest: &[u8]) -> Vec<Propagated> {
    let mut db = 0;
    let mut commands = Vec::new();
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
        stream.set_active(Reader::Aof, true);
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
        stream.set_active(Reader::Aof, true);
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
        stream.set_active(Reader::Aof, true);
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

    /// Both read the same commands, each with the SELECTs and transactions that it needs.
    #[test]
    fn replicas_read_what_is_for_them() {
        let mut stream = Propagation::default();
        stream.set_active(Reader::Aof, true);
        finish(&mut stream, 3, true, "SET before v");
        stream.set_active(Reader::Replicas, true);
        for targets in [Targets::ALL, Targets::AOF, Targets::REPLICAS, Targets::NONE] {
            stream.aim_at(targets);
            finish(&mut stream, 3, true, &format!("SET {targets:?} v"));
        }
        stream.aim_at(Targets::ALL);
        let start = stream.position();
        stream.aim_at(Targets::REPLICAS);
        finish(&mut stream, 3, true, "SET theirs 1");
        stream.aim_at(Targets::ALL);
        stream.replace(1, &words("SET all 2"));
        finish(&mut stream, 3, true, "INCR all");
        stream.deletion(1, b"old", false);
        stream.wrap_transaction(start);
        let theirs = stream.take_for_replicas().expect("there is some");
        let text = |commands: Vec<Propagated>| -> Vec<String> {
            let line = |own: &Propagated| {
                let words = own.words.join(&b' ');
                format!("{} {}", own.db, String::from_utf8_lossy(&words))
            };
            commands.iter().map(line).collect()
        };
        let expected = [
            "3 SET Targets(3) v",
            "3 SET Targets(2) v",
            "3 MULTI",
            "3 SET theirs 1",
            "1 SET all 2",
            "1 DEL old",
            "1 EXEC",
        ];
        assert_eq!(text(read_commands(&theirs)), expected);
        assert!(theirs.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3"), "they begin with it");
        let expected = [
            "3 SET before v",
            "3 SET Targets(3) v",
            "3 SET Targets(1) v",
            "3 MULTI",
            "1 SET all 2",
            "1 DEL old",
            "1 EXEC",
        ];
        assert_eq!(lines(&mut stream), expected);
        assert_eq!(stream.take_for_replicas(), None);
    }

    #[test]
    fn what_belongs_together_is_a_transaction_with_all_its_selects() {
        let mut stream = Propagation::default();
        stream.set_active(Reader::Aof, true);
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
        stream.set_active(Reader::Aof, true);
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
        stream.set_active(Reader::Aof, true);
        finish(&mut stream, 0, true, "SET k v");
        let start = stream.position();
        let end = stream.offset();
        stream.set_active(Reader::Aof, false);
        stream.wrap_transaction(start);
        assert_eq!((stream.offset(), stream.read(0)), (end, None));
        stream.set_active(Reader::Aof, true);
        finish(&mut stream, 0, true, "SET k v");
        stream.close();
        assert!(
            stream.read(end).is_some_and(|(bytes, _)| bytes.starts_with(b"*2\r\n$6\r\nSELECT"))
        );
    }
}
