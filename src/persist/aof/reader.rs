//! Reads the commands of an AOF back, and tells where a damaged one breaks off.
//!
//! The grammar is strict: arrays of bulk strings with their line ends, and between commands lines
//! that begin with `#`. Some of those mean something here: `#TS:<seconds>` says when what follows
//! was written, and the key and the [marks](super::mark) say what was. A reader as lenient as
//! Redis's, which takes any two bytes for a line end, would read on through a page of zeros.
//!
//! Invariant: memory grows with what was read, never with what a length announces.

use super::mark::{Key, Mark, Mismatch, Vouched};
use super::notes::ORIGIN_PREFIX;
use crate::persist::crc64::Sum;
use crate::repl::ids::Origin;
use crate::resp::OwnedRequest;
use crate::resp::request::SHARED_LEN_MIN;
use crate::structs::SharedBytes;
use std::fmt;
use std::io::{self, Read};

/// What comes next in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    Command,
    /// What follows was written at this time.
    Time(u64),
    /// The dataset is this moment of a history, as long as nothing follows.
    Origin(Origin),
    End,
}

#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    /// Something else stands where a command must be, in the command or the announced turn that
    /// begins at `start`.
    Format {
        start: u64,
        at: u64,
    },
    /// The file ends within the command or the announced turn that begins at `start`.
    Truncated {
        start: u64,
    },
    /// A mark tells of other bytes.
    Mismatch(Mismatch),
}

impl From<Mismatch> for ReadError {
    fn from(mismatch: Mismatch) -> ReadError {
        ReadError::Mismatch(mismatch)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{}", crate::config::os_reason(error)),
            ReadError::Format { at, .. } => write!(f, "no command at offset {at}"),
            ReadError::Truncated { start } => {
                write!(f, "the command at offset {start} is not complete")
            }
            ReadError::Mismatch(Mismatch::Sum { start, end }) => {
                write!(f, "wrong checksum of the bytes between offsets {start} and {end}")
            }
            ReadError::Mismatch(Mismatch::Torn { start, end }) => {
                write!(f, "an empty page between offsets {start} and {end}")
            }
            ReadError::Mismatch(Mismatch::Misplaced { at }) => {
                write!(f, "the mark at offset {at} was not written there")
            }
        }
    }
}

impl std::error::Error for ReadError {}

const CHUNK_BYTES: usize = 256 * 1024;
/// The longest line between commands, and the longest header of a word.
const NOTE_BYTES_MAX: usize = 1024;
const HEADER_BYTES_MAX: usize = 32;

pub struct CommandReader<R> {
    source: R,
    /// The file's length: what lies beyond it is not waited for.
    len: u64,
    buffer: Vec<u8>,
    /// The part of the buffer that is not parsed yet begins here.
    at: usize,
    /// The file's offset of the buffer's first byte.
    origin: u64,
    at_end: bool,
    vouched: Vouched,
    /// Where a key holds from on that is not in the file.
    later: Option<(u64, Key)>,
    /// The part of the buffer that was not told to `vouched` yet begins here.
    summed: usize,
    note: u64,
    /// Where the last command begins, or the announced turn that it is in.
    command_start: u64,
    /// The places of the words of the command that is being read.
    words: Vec<(usize, usize)>,
}

/// Parsing stopped before the end of an item.
enum Stop {
    /// More bytes are needed.
    Short,
    /// This cannot be right; the place in the buffer.
    Wrong(usize),
    /// The item ends behind the end of the file.
    Beyond,
}

impl<R: Read> CommandReader<R> {
    /// A reader of a file of `len` bytes from `offset` on, where `source` stands. Marks that are
    /// wrong are errors if it `checks` them.
    pub fn new(source: R, len: u64, offset: u64, checks: bool) -> CommandReader<R> {
        CommandReader {
            source,
            len,
            buffer: Vec::new(),
            at: 0,
            origin: offset,
            at_end: false,
            vouched: Vouched::new(offset, checks),
            later: None,
            summed: 0,
            note: 0,
            command_start: offset,
            words: Vec::new(),
        }
    }

    /// The same of a file that another server began and that is ours from an offset on, if what
    /// is read says so.
    pub fn taken_over(mut self, from: Option<(u64, Key)>) -> CommandReader<R> {
        self.later = from.filter(|(from, _)| *from <= self.len);
        self
    }

    /// Where the next item begins.
    pub fn offset(&self) -> u64 {
        self.origin + self.at as u64
    }

    /// Where the last command began, behind the lines before it, or the announced turn that it is
    /// in.
    pub fn command_start(&self) -> u64 {
        self.command_start
    }

    /// Where the last line between commands began.
    pub fn note_offset(&self) -> u64 {
        self.note
    }

    /// The key of what was read last.
    pub fn key(&self) -> Option<&Key> {
        self.vouched.key()
    }

    /// The key of marks that may be somewhere in the file.
    pub fn key_of_marks(&self) -> Option<&Key> {
        self.vouched.key().or(self.later.as_ref().map(|(_, key)| key))
    }

    /// Whether the file so far ends with a mark that says that all of it was durable.
    pub fn is_sealed(&self) -> bool {
        self.vouched.is_sealed(self.offset())
    }

    /// The checksum of what no mark vouches for yet.
    pub fn unvouched_sum(&mut self) -> Option<Sum> {
        self.sum_up();
        self.vouched.sum()
    }

    /// Reads the next command into `command`, or says what else comes next.
    pub fn next(&mut self, command: &mut OwnedRequest) -> Result<Item, ReadError> {
        loop {
            if self.later.as_ref().is_some_and(|(from, _)| self.offset() >= *from) {
                self.take_over();
            }
            if self.vouched.ends_turn(self.offset()) {
                self.sum_up();
                self.vouched.end_turn(self.offset())?;
            }
            let start = self.vouched.turn_start().unwrap_or(self.offset());
            let parsed = match self.buffer.get(self.at) {
                None => Err(Stop::Short),
                Some(b'#') => match self.parse_note()? {
                    Ok(None) => continue,
                    Ok(Some(item)) => return Ok(item),
                    Err(stop) => Err(stop),
                },
                Some(_) => self.parse_command(),
            };
            let is_whole = self.at == self.buffer.len() && self.vouched.turn_start().is_none();
            match parsed {
                Ok(end) => {
                    self.take_words(command);
                    self.command_start = start;
                    self.at = end;
                    return Ok(Item::Command);
                }
                Err(Stop::Wrong(place)) => {
                    let at = self.origin + place as u64;
                    return Err(ReadError::Format { start, at });
                }
                Err(Stop::Beyond) => return Err(ReadError::Truncated { start }),
                Err(Stop::Short) if !self.at_end => self.fill().map_err(ReadError::Io)?,
                Err(Stop::Short) if is_whole => return Ok(Item::End),
                Err(Stop::Short) => return Err(ReadError::Truncated { start }),
            }
        }
    }

    /// From here on the file is ours, unless it is another file by now.
    fn take_over(&mut self) {
        let offset = self.offset();
        self.sum_up();
        if let Some((_, key)) = self.later.take_if(|(from, _)| *from == offset) {
            self.vouched.begin(key, offset);
        }
        self.later = None;
    }

    /// Reads on, as much as there is already of the item that is being read.
    fn fill(&mut self) -> io::Result<()> {
        self.sum_up();
        self.buffer.drain(..self.at);
        self.origin += self.at as u64;
        self.summed -= self.at;
        self.at = 0;
        let wanted = self.buffer.len().max(CHUNK_BYTES) as u64;
        let read = (&mut self.source).take(wanted).read_to_end(&mut self.buffer)?;
        self.at_end = (read as u64) < wanted;
        Ok(())
    }

    fn sum_up(&mut self) {
        self.vouched.add(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
    }

    /// Reads a line between commands: what it tells, if it is one that does.
    fn parse_note(&mut self) -> Result<Result<Option<Item>, Stop>, ReadError> {
        let line = &self.buffer[self.at..];
        let line = &line[..line.len().min(NOTE_BYTES_MAX)];
        let end = match memchr::memchr2(b'\n', 0, line) {
            Some(end) if line[end] == b'\n' => end,
            Some(zero) => return Ok(Err(Stop::Wrong(self.at + zero))),
            None if line.len() < NOTE_BYTES_MAX => return Ok(Err(Stop::Short)),
            None => return Ok(Err(Stop::Wrong(self.at))),
        };
        let text = line[..end].trim_ascii_end();
        let seconds = text.strip_prefix(b"#TS:").and_then(decimal).map(Item::Time);
        let origin = text.strip_prefix(ORIGIN_PREFIX.as_bytes()).and_then(Origin::parse);
        let item = seconds.or(origin.map(Item::Origin));
        // As strict as the rest: a mark ends as it was written.
        let text = line[..end].strip_suffix(b"\r").unwrap_or_default();
        let key = Key::parse(text).filter(|_| self.offset() == 0);
        let is_mark = Mark::is_one(&line[..end]);
        let next = self.at + end + 1;
        self.note = self.offset();
        if is_mark || key.is_some() {
            let text = text.len();
            self.sum_up();
            let (line, end) = (&self.buffer[self.at..self.at + text], self.origin + next as u64);
            match key {
                Some(key) => self.vouched.begin(key, end),
                None => self.vouched.meet(line, self.origin + self.at as u64, end)?,
            }
            self.summed = next;
        }
        self.at = next;
        Ok(Ok(item))
    }

    /// Finds the words of the command at the front; where it ends.
    fn parse_command(&mut self) -> Result<usize, Stop> {
        self.words.clear();
        let mut at = self.at;
        let count = self.header(&mut at, b'*')?;
        // Each word takes five bytes at least.
        if count == 0 {
            return Err(Stop::Wrong(self.at));
        }
        for _ in 0..count {
            let len = self.header(&mut at, b'$')?;
            if self.origin + at as u64 + len.saturating_add(2) > self.len {
                return Err(Stop::Beyond);
            }
            let end = at + usize::try_from(len).map_err(|_| Stop::Beyond)?;
            match self.buffer.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some([b'\r', _]) => return Err(Stop::Wrong(end + 1)),
                Some(_) => return Err(Stop::Wrong(end)),
                None => return Err(Stop::Short),
            }
            self.words.push((at, end));
            at = end + 2;
        }
        Ok(at)
    }

    /// Reads `<prefix><digits>\r\n`.
    fn header(&self, at: &mut usize, prefix: u8) -> Result<u64, Stop> {
        let line = &self.buffer[*at..];
        let line = &line[..line.len().min(HEADER_BYTES_MAX)];
        for (place, byte) in line.iter().enumerate() {
            let fits = match place {
                0 => *byte == prefix,
                _ => byte.is_ascii_digit() || (*byte == b'\r' && place > 1),
            };
            if !fits {
                return Err(Stop::Wrong(*at + place));
            }
            if *byte == b'\r' {
                match line.get(place + 1) {
                    Some(b'\n') => {}
                    Some(_) => return Err(Stop::Wrong(*at + place + 1)),
                    None => return Err(Stop::Short),
                }
                let number = decimal(&line[1..place]).ok_or(Stop::Wrong(*at))?;
                *at += place + 2;
                return Ok(number);
            }
        }
        Err(if line.len() < HEADER_BYTES_MAX { Stop::Short } else { Stop::Wrong(*at) })
    }

    fn take_words(&self, command: &mut OwnedRequest) {
        command.clear();
        for (start, end) in &self.words {
            let word = &self.buffer[*start..*end];
            if word.len() >= SHARED_LEN_MIN {
                command.push_shared(SharedBytes::new(word.to_vec()));
            } else {
                command.push(word);
            }
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::mark::{Ahead, KeySource};
    use super::*;
    use crate::persist::crc64;
    use crate::resp::command;

    fn read_all(bytes: &[u8], checks: bool) -> (Vec<String>, Option<ReadError>, u64) {
        let mut reader = CommandReader::new(bytes, bytes.len() as u64, 0, checks);
        let mut command = OwnedRequest::default();
        let mut found = Vec::new();
        loop {
            assert!(found.len() <= bytes.len(), "each item takes at least a byte");
            match reader.next(&mut command) {
                Ok(Item::End) => return (found, None, reader.offset()),
                Ok(Item::Time(seconds)) => found.push(format!("@{seconds}")),
                Ok(Item::Origin(origin)) => found.push(origin.print().unwrap_or_default()),
                Ok(Item::Command) => found.push(
                    (command.as_request().iter())
                        .map(|word| word.escape_ascii().to_string())
                        .collect::<Vec<_>>()
                        .join(" "),
                ),
                Err(error) => return (found, Some(error), reader.offset()),
            }
        }
    }

    /// A file of ours: a key, some commands with a mark behind them, one that is announced.
    fn sample() -> Vec<u8> {
        let key = KeySource::new([1; 16]).draw(2);
        let mut bytes = key.line();
        let start = bytes.len();
        command::put(&mut bytes, [&b"SELECT"[..], b"0"].into_iter());
        bytes.extend(b"#TS:17\r\n");
        command::put(&mut bytes, [&b"SET"[..], b"k", b"v"].into_iter());
        let behind = Some(crc64::of(&bytes[start..]));
        let mut turn = Vec::new();
        command::put(&mut turn, [&b"DEL"[..], b"k"].into_iter());
        let at = bytes.len() as u64;
        let ahead = Some(Ahead::of(&turn, at, true));
        bytes.extend(Mark { durable: 9, behind, ahead }.print(&key, at));
        bytes.append(&mut turn);
        bytes
    }

    #[test]
    fn commands_and_notes_are_read_in_order() {
        let (found, error, end) = read_all(&sample(), true);
        assert_eq!(found, ["SELECT 0", "@17", "SET k v", "DEL k"]);
        assert!(error.is_none());
        assert_eq!(end, sample().len() as u64);
    }

    #[test]
    fn every_cut_is_told_with_the_place_of_its_command() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            let (_, error, end) = read_all(&bytes[..cut], true);
            match error {
                None => {}
                Some(ReadError::Truncated { start }) => assert!(start <= end),
                Some(error) => panic!("{cut}: {error}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sample();
        let mark = bytes.windows(6).position(|at| at == b"#MARK:").expect("there is one");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, error, _) = read_all(&flipped, true);
            // A mark may become a line that says nothing, and the case of its digits matters not.
            let is_note = (mark..mark + 6).contains(&(bit / 8));
            let is_case = flipped.eq_ignore_ascii_case(&bytes) && found.len() == 4;
            assert!(error.is_some() || is_note || is_case, "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn an_announced_turn_that_breaks_off_begins_with_its_mark() {
        let bytes = sample();
        let mark = bytes.windows(6).position(|at| at == b"#MARK:").expect("there is one");
        for cut in mark + 1..bytes.len() {
            let (_, error, _) = read_all(&bytes[..cut], true);
            let Some(ReadError::Truncated { start }) = error else { panic!("{cut}: {error:?}") };
            assert_eq!(start, mark as u64);
        }
    }

    #[test]
    fn no_length_reserves_memory() {
        for text in ["*1\r\n$99999999999\r\nx", "*99999999999\r\n$1\r\nx\r\n", "*1\r\n$-1\r\n"] {
            let (found, error, _) = read_all(text.as_bytes(), false);
            assert!(found.is_empty() && error.is_some());
        }
    }
}
