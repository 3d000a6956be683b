//! What is recorded for one kind of reader: whole commands in the order in which they took effect,
//! with a SELECT where the database changes.

use crate::resp::command;
use bytes::{Bytes, BytesMut};

/// What is allocated at once, and written to again when all have read it.
const BUFFER_BYTES: usize = 64 * 1024;
/// A buffer that a huge command has made is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// A place on a tape, to wrap what comes after it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Place {
    pub offset: u64,
    commands: u64,
}

#[derive(Default)]
pub struct Tape {
    active: bool,
    /// Where what has been taken ends.
    closed_end: u64,
    /// What is recorded behind it.
    open: BytesMut,
    /// The database that the reader is in; unknown to whoever begins to read.
    db: Option<usize>,
    /// Commands recorded so far.
    commands: u64,
    /// From here on all belongs to a command that has not ended.
    kept_from: Option<u64>,
}

impl Tape {
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Starts or stops recording. What nobody has taken when it stops is of no use to anybody.
    pub fn set_active(&mut self, active: bool) {
        self.active = active;
        self.db = None;
        if !active {
            // Offsets never go back.
            self.closed_end += self.open.len() as u64;
            self.kept_from = None;
            self.open = BytesMut::new();
        } else if self.open.capacity() == 0 {
            self.open = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }

    /// Has the next command stand behind a SELECT: a new reader begins with it.
    pub fn forget_db(&mut self) {
        self.db = None;
    }

    /// Records a command; where in what is open it begins.
    #[inline]
    pub fn record<'w>(
        &mut self,
        db: usize,
        words: impl ExactSizeIterator<Item = &'w [u8]>,
    ) -> usize {
        self.select(db);
        let start = self.open.len();
        command::put(&mut self.open, words);
        self.commands += 1;
        start
    }

    /// The same with one that is written already.
    #[inline]
    pub fn copy(&mut self, db: usize, command: &[u8]) {
        self.select(db);
        self.open.extend_from_slice(command);
        self.commands += 1;
    }

    /// The database that the reader is in when it has read all.
    pub fn db(&self) -> Option<usize> {
        self.db
    }

    /// Adds a command that belongs to no database.
    pub fn append(&mut self, command: &[u8]) {
        self.open.extend_from_slice(command);
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

    /// What is recorded and was not taken, from a place in it on.
    pub fn open_from(&self, start: usize) -> &[u8] {
        &self.open[start..]
    }

    pub fn open_bytes(&self) -> usize {
        self.open.len()
    }

    /// How far it has come.
    #[inline]
    pub fn place(&self) -> Place {
        Place { offset: self.offset(), commands: self.commands }
    }

    /// Where it ends, in bytes since the start of the server.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.closed_end + self.open.len() as u64
    }

    /// The end of what can be told of: of what belongs to a command that has not ended nobody can
    /// know.
    pub fn told_offset(&self) -> u64 {
        self.kept_from.unwrap_or_else(|| self.offset())
    }

    /// Wraps what was added since a place in MULTI and EXEC, if it is more than one command.
    #[inline]
    pub fn wrap_transaction(&mut self, since: Place) {
        if self.commands > since.commands + 1 {
            self.wrap(since.offset);
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
        self.open.extend_from_slice(EXEC);
        self.commands += 2;
    }

    /// Keeps what comes from here on open until [`Tape::let_go`]: a command that has been put aside
    /// is to be read as a whole.
    pub fn keep_open(&mut self, from: Place) {
        self.kept_from = Some(from.offset.clamp(self.closed_end, self.offset()));
    }

    pub fn let_go(&mut self) {
        self.kept_from = None;
    }

    /// Takes what is recorded and may be read, if there is any: a turn ends.
    #[inline]
    pub fn close(&mut self) -> Option<Bytes> {
        let end = match self.kept_from {
            Some(offset) => usize::try_from(offset - self.closed_end).expect("it is in memory"),
            None => self.open.len(),
        };
        if end == 0 {
            return None;
        }
        let bytes = self.open.split_to(end).freeze();
        self.closed_end += bytes.len() as u64;
        if self.open.capacity() > KEPT_BYTES_MAX {
            self.open = BytesMut::with_capacity(BUFFER_BYTES);
        }
        Some(bytes)
    }

    /// Where what was taken ends.
    pub fn closed_end(&self) -> u64 {
        self.closed_end
    }
}
