//! Reads the commands of a log back, and tells where a damaged one breaks off.
//!
//! The grammar is strict: arrays of bulk strings with their line ends, and between commands lines
//! that begin with `#`. Two of those mean something here: `#TS:<seconds>` says when what follows
//! was written, and `#CRC:<16 hex digits>:<n>` holds the checksum of all bytes of the file before
//! the line and says that the first n of them were durable then. A reader as lenient as Redis's,
//! which takes any two bytes for a line end, would read on through a page of zeros.
//!
//! Invariant: memory grows with what was read, never with what a length announces.

use crate::persist::crc64::Sum;
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
    End,
}

#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    /// Something else stands where a command must be, in the command at `start`.
    Format {
        start: u64,
        at: u64,
    },
    /// The file ends within the command that begins at `start`.
    Truncated {
        start: u64,
    },
    /// The checksum before the line at `at` is wrong; the bytes before `good` are right.
    Checksum {
        good: u64,
        at: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{}", crate::config::os_reason(error)),
            ReadError::Format { at, .. } => write!(f, "no command at offset {at}"),
            ReadError::Truncated { start } => {
                write!(f, "the command at offset {start} is not complete")
            }
            ReadError::Checksum { good, at } => {
                write!(f, "wrong checksum of the bytes between offsets {good} and {at}")
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
    crc: Sum,
    /// The part of the buffer that the checksum does not cover yet begins here.
    summed: usize,
    checks: bool,
    /// The last place up to which a checksum vouches.
    good: u64,
    /// The file has such lines.
    has_checksums: bool,
    /// How much of the file was durable once, by its own account.
    durable: u64,
    note: u64,
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
    /// A reader of a file of `len` bytes from `offset` on, where `source` stands. Checksums are
    /// verified if `crc` is that of the bytes before.
    pub fn new(source: R, len: u64, offset: u64, crc: Option<Sum>) -> CommandReader<R> {
        CommandReader {
            source,
            len,
            buffer: Vec::new(),
            at: 0,
            origin: offset,
            at_end: false,
            checks: crc.is_some(),
            crc: crc.unwrap_or_default(),
            summed: 0,
            good: offset,
            has_checksums: false,
            durable: 0,
            note: 0,
            words: Vec::new(),
        }
    }

    /// Where the next item begins.
    pub fn offset(&self) -> u64 {
        self.origin + self.at as u64
    }

    /// Where the last line between commands began.
    pub fn note_offset(&self) -> u64 {
        self.note
    }

    /// How much of the file was durable once, as the lines say that were read.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The last place that a checksum vouches for, if the file has checksums and so much follows
    /// without one that its line must be missing.
    pub fn unvouched_from(&self) -> Option<u64> {
        let is_much = self.offset() - self.good >= PAGE_BYTES;
        (self.has_checksums && is_much).then_some(self.good)
    }

    /// The checksum of all that was read.
    pub fn checksum(&mut self) -> Sum {
        self.sum_up();
        self.crc.clone()
    }

    /// Reads the next command into `command`, or says what else comes next.
    pub fn next(&mut self, command: &mut OwnedRequest) -> Result<Item, ReadError> {
        loop {
            let start = self.offset();
            let parsed = match self.buffer.get(self.at) {
                None => Err(Stop::Short),
                Some(b'#') => match self.parse_note()? {
                    Ok(None) => continue,
                    Ok(Some(seconds)) => return Ok(Item::Time(seconds)),
                    Err(stop) => Err(stop),
                },
                Some(_) => self.parse_command(),
            };
            match parsed {
                Ok(end) => {
                    self.take_words(command);
                    self.at = end;
                    return Ok(Item::Command);
                }
                Err(Stop::Wrong(place)) => {
                    let at = self.origin + place as u64;
                    return Err(ReadError::Format { start, at });
                }
                Err(Stop::Beyond) => return Err(ReadError::Truncated { start }),
                Err(Stop::Short) if !self.at_end => self.fill().map_err(ReadError::Io)?,
                Err(Stop::Short) if self.at == self.buffer.len() => return Ok(Item::End),
                Err(Stop::Short) => return Err(ReadError::Truncated { start }),
            }
        }
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
        if self.checks {
            self.crc.add(&self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
    }

    /// Reads a line between commands: the time that it tells, if it is one of those.
    fn parse_note(&mut self) -> Result<Result<Option<u64>, Stop>, ReadError> {
        let line = &self.buffer[self.at..];
        let line = &line[..line.len().min(NOTE_BYTES_MAX)];
        let end = match memchr::memchr2(b'\n', 0, line) {
            Some(end) if line[end] == b'\n' => end,
            Some(zero) => return Ok(Err(Stop::Wrong(self.at + zero))),
            None if line.len() < NOTE_BYTES_MAX => return Ok(Err(Stop::Short)),
            None => return Ok(Err(Stop::Wrong(self.at))),
        };
        let text = line[..end].trim_ascii_end();
        let seconds = text.strip_prefix(b"#TS:").and_then(decimal);
        if let Some((sum, durable)) = text.strip_prefix(b"#CRC:").and_then(parse_checksum)
            && self.checks
        {
            self.sum_up();
            let at = self.offset();
            if self.crc.value() != sum {
                return Err(ReadError::Checksum { good: self.good, at });
            }
            // The line itself is right too, and may be the last of what was durable.
            self.good = at + end as u64 + 1;
            self.has_checksums = true;
            self.durable = self.durable.max(durable);
        }
        self.note = self.offset();
        self.at += end + 1;
        Ok(Ok(seconds))
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

/// The sum and the durable length that a checksum line holds behind its name.
fn parse_checksum(text: &[u8]) -> Option<(u64, u64)> {
    let (sum, durable) = text.split_at_checked(16)?;
    let sum = u64::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    match durable.strip_prefix(b":") {
        Some(digits) => Some((sum, decimal(digits)?)),
        None => durable.is_empty().then_some((sum, 0)),
    }
}

/// What follows a damaged place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Aftermath {
    /// Whole commands in a row behind it.
    pub commands: u64,
    /// How much of the file was durable, by the account of lines behind it.
    pub durable: u64,
    /// The damaged place lies in bytes that are zero up to the end of a page: what a loss of
    /// power leaves of a page that was never written.
    pub is_hole: bool,
}

/// What is searched behind a damaged place; more would only make a big number bigger.
const SEARCHED_BYTES_MAX: u64 = 64 << 20;
const PAGE_BYTES: u64 = 4096;

/// Looks at what follows the command at `start`, which breaks off at `at`. `source` stands at
/// `start`.
pub fn look_behind(source: impl Read, start: u64, at: u64) -> io::Result<Aftermath> {
    let mut tail = Vec::new();
    source.take(SEARCHED_BYTES_MAX).read_to_end(&mut tail)?;
    let broken = usize::try_from(at - start).unwrap_or(usize::MAX).min(tail.len());
    let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES - start;
    let page_end = usize::try_from(page_end).unwrap_or(usize::MAX).min(tail.len());
    let hole = &tail[broken..page_end];
    let mut aftermath = Aftermath {
        is_hole: !hole.is_empty() && hole.iter().all(|byte| *byte == 0),
        ..Aftermath::default()
    };
    let mut place = 1;
    while let Some(found) = tail.get(place..).and_then(|rest| memchr::memchr2(b'*', b'#', rest)) {
        place += found;
        let rest = &tail[place..];
        let note = rest.strip_prefix(b"#CRC:").and_then(|line| {
            let end = memchr::memchr(b'\r', &line[..line.len().min(64)])?;
            parse_checksum(&line[..end])
        });
        if let Some((_, durable)) = note {
            aftermath.durable = aftermath.durable.max(durable);
        }
        match crate::resp::command::read(rest) {
            Some((_, len)) => {
                aftermath.commands += 1;
                place += len;
            }
            None => place += 1,
        }
    }
    Ok(aftermath)
}

/// The first page between two offsets of a file, and not before `durable`, that is all zeros.
/// `source` stands at `start`.
pub fn first_hole(
    source: impl Read,
    start: u64,
    end: u64,
    durable: u64,
) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    source.take((end - start).min(SEARCHED_BYTES_MAX)).read_to_end(&mut bytes)?;
    let first = start.next_multiple_of(PAGE_BYTES);
    let skipped = usize::try_from(first - start).unwrap_or(usize::MAX);
    let pages = bytes.get(skipped..).unwrap_or_default().chunks_exact(PAGE_BYTES as usize);
    let mut pages = (first..).step_by(PAGE_BYTES as usize).zip(pages);
    let found = pages.find(|(at, page)| *at >= durable && page.iter().all(|byte| *byte == 0));
    Ok(found.map(|(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::command;

    fn read_all(bytes: &[u8], checks: bool) -> (Vec<String>, Option<ReadError>, u64) {
        let crc = checks.then(Sum::default);
        let mut reader = CommandReader::new(bytes, bytes.len() as u64, 0, crc);
        let mut command = OwnedRequest::default();
        let mut found = Vec::new();
        loop {
            match reader.next(&mut command) {
                Ok(Item::End) => return (found, None, reader.offset()),
                Ok(Item::Time(seconds)) => found.push(format!("@{seconds}")),
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

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        command::put(&mut bytes, [&b"SELECT"[..], b"0"].into_iter());
        bytes.extend(b"#TS:17\r\n");
        command::put(&mut bytes, [&b"SET"[..], b"k", b"v"].into_iter());
        let mut crc = Sum::default();
        crc.add(&bytes);
        bytes.extend(format!("#CRC:{:016x}:9\r\n", crc.value()).into_bytes());
        command::put(&mut bytes, [&b"DEL"[..], b"k"].into_iter());
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
                Some(ReadError::Truncated { start }) => assert_eq!(start, end),
                Some(error) => panic!("{cut}: {error}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_before_a_checksum_is_found() {
        let bytes = sample();
        let covered = bytes.windows(5).position(|at| at == b"#CRC:").expect("there is one");
        for bit in 0..covered * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, error, _) = read_all(&flipped, true);
            // A command may be taken for a line between commands, but not before a checksum.
            assert!(error.is_some(), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn no_length_reserves_memory() {
        for text in ["*1\r\n$99999999999\r\nx", "*99999999999\r\n$1\r\nx\r\n", "*1\r\n$-1\r\n"] {
            let (found, error, _) = read_all(text.as_bytes(), false);
            assert!(found.is_empty() && error.is_some());
        }
    }

    #[test]
    fn what_follows_a_wrong_length_is_counted() {
        let mut bytes = b"*2\r\n$90000000\r\nGET\r\n$1\r\nk\r\n".to_vec();
        for _ in 0..7 {
            command::put(&mut bytes, [&b"SET"[..], b"k", b"v"].into_iter());
        }
        bytes.extend(b"#CRC:0000000000000000:77\r\n");
        let found = look_behind(&bytes[..], 0, 4).expect("it is memory");
        assert_eq!(found, Aftermath { commands: 7, durable: 77, is_hole: false });
        let mut holed = bytes[..20].to_vec();
        holed.resize(4096, 0);
        let found = look_behind(&holed[..], 0, 20).expect("it is memory");
        assert!(found.is_hole && found.commands == 0);
    }
}
