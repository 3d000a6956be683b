//! What stands between the commands of a file: marks, which say what was written and how much of
//! it is durable, and the times of commands.
//!
//! It knows the file that what is pending goes to, by its key and the place of its next byte, and
//! nothing of syncs: how much of the file is durable it is told when it writes a mark. Where a turn
//! is long, a mark goes in front of it; where turns are short, one covers many.

use super::mark::{Ahead, KEY_LINE_BYTES, Key, Mark, PAGE_BYTES};
use super::options::{Moment, Options};
use super::pending::Pending;
use crate::persist::crc64::Sum;
use crate::repl::ids::Origin;
use bytes::Bytes;

/// A mark is written behind so many bytes, or so much time. A turn of so many bytes is announced by
/// one in front: a page that a loss of power left empty is found by the commands that it tears,
/// unless it lies within one long word.
const MARKED_BYTES: u64 = PAGE_BYTES;
const MARK_AGE_US: u64 = 1_000_000;
/// When nothing has come for so long and all is durable, a mark says so.
const IDLE_US: u64 = 500_000;

/// What a line begins with that tells of the history.
pub const ORIGIN_PREFIX: &str = "#HISTORY:";

/// What the lines between commands need: they belong to the file that `pending` goes to.
pub struct Notes {
    /// None while there is no file.
    key: Option<Key>,
    /// Where in the file the next byte goes.
    place: u64,
    /// The checksum of what no mark vouches for yet, if it is known.
    sum: Option<Sum>,
    /// Bytes that no mark vouches for, and when the first of them came.
    uncovered: u64,
    uncovered_since_us: u64,
    last_us: u64,
    second: u64,
    /// The file ends with a mark that says that all before it is durable.
    is_sealed: bool,
}

/// Where lines go, and what they are to say.
pub struct Page<'a> {
    pub pending: &'a mut Pending,
    pub options: &'a Options,
    /// How much of the file is known to be durable.
    pub durable: u64,
}

impl Notes {
    pub fn new(key: Option<Key>, place: u64) -> Notes {
        Notes {
            key,
            place,
            sum: Some(Sum::default()),
            uncovered: 0,
            uncovered_since_us: 0,
            last_us: 0,
            second: 0,
            is_sealed: false,
        }
    }

    /// Those of a file that holds its key and nothing else.
    pub fn of_new(key: Option<Key>) -> Notes {
        Notes::new(key, KEY_LINE_BYTES)
    }

    /// Those that go on where a file ends.
    pub fn behind(end: FileEnd) -> Notes {
        let is_sealed = end.is_sealed;
        Notes { sum: end.sum, is_sealed, ..Notes::new(end.key, end.len) }
    }

    /// Where in the file the next byte goes.
    pub fn place(&self) -> u64 {
        self.place
    }

    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether nothing has come for a while.
    pub fn are_idle(&self, now: Moment) -> bool {
        now.mono_us.saturating_sub(self.last_us) >= IDLE_US
    }

    /// Adds a turn, and what is to be said of it.
    pub fn add_turn(&mut self, turn: Bytes, page: &mut Page<'_>, now: Moment) {
        self.last_us = now.mono_us;
        if page.options.timestamps && self.second != now.unix_seconds {
            self.second = now.unix_seconds;
            self.put(format!("#TS:{}\r\n", now.unix_seconds).into(), page);
        }
        if turn.len() as u64 >= MARKED_BYTES {
            return self.add_announced(turn, page);
        }
        if self.uncovered == 0 {
            self.uncovered_since_us = now.mono_us;
        }
        self.uncovered += turn.len() as u64;
        self.put(turn, page);
        let age_us = now.mono_us.saturating_sub(self.uncovered_since_us);
        if self.uncovered >= MARKED_BYTES || age_us >= MARK_AGE_US {
            self.mark(None, page);
        }
    }

    /// Adds a long turn behind a mark that announces it.
    fn add_announced(&mut self, turn: Bytes, page: &mut Page<'_>) {
        let ahead = Ahead::of(&turn, self.place, page.options.checksums);
        self.mark(Some(ahead), page);
        // It has its own sum.
        self.sum = None;
        self.put(turn, page);
        self.sum = Some(Sum::default());
    }

    /// Says which moment of which history the dataset is: the server ends, and nothing follows.
    pub fn add_origin(&mut self, origin: &Origin, page: &mut Page<'_>) {
        if let Some(text) = origin.print() {
            self.put(format!("{ORIGIN_PREFIX}{text}\r\n").into(), page);
        }
    }

    /// Says by a mark that all there is in the file is durable, unless the last mark has.
    pub fn seal(&mut self, page: &mut Page<'_>) {
        if !self.is_sealed {
            self.mark(None, page);
        }
    }

    /// Adds a mark: what is behind it, and how much of the file is known to be durable.
    fn mark(&mut self, ahead: Option<Ahead>, page: &mut Page<'_>) {
        let Some(key) = &self.key else { return };
        let durable = page.durable;
        let behind = self.sum.as_ref().map(Sum::value);
        let line = Mark { durable, behind, ahead }.print(key, self.place);
        let is_sealed = ahead.is_none() && durable == self.place;
        self.put(line.into(), page);
        self.is_sealed = is_sealed;
        self.sum = Some(Sum::default());
        self.uncovered = 0;
    }

    /// Adds bytes to what is to be written.
    fn put(&mut self, bytes: Bytes, page: &mut Page<'_>) {
        self.place += bytes.len() as u64;
        self.is_sealed = false;
        if !page.options.checksums {
            self.sum = None;
        } else if let Some(sum) = &mut self.sum {
            sum.add(&bytes);
        }
        page.pending.push(bytes);
    }
}

/// The end of a file that is to be appended to.
#[derive(Clone, Default)]
pub struct FileEnd {
    pub len: u64,
    /// None if the file is not one of ours.
    pub key: Option<Key>,
    /// The checksum of what no mark vouches for.
    pub sum: Option<Sum>,
    pub is_sealed: bool,
}

impl FileEnd {
    /// That of a file of another server that is ours from now on.
    pub fn of_taken_over(len: u64, key: Key) -> FileEnd {
        FileEnd { len, key: Some(key), sum: Some(Sum::default()), is_sealed: false }
    }

    /// That of a file that holds its key and nothing else, of which there is nothing to say.
    pub fn of_new(key: Key) -> FileEnd {
        let sum = Some(Sum::default());
        FileEnd { len: KEY_LINE_BYTES, key: Some(key), sum, is_sealed: true }
    }
}
