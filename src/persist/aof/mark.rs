//! Marks: the lines between commands by which an AOF tells what was written and what was durable.
//!
//! A file that we begin starts with a line that holds a random key, durable before the file is
//! listed. Each mark carries a tag under that key over its place in the file and all it says, so
//! nothing that a client has written can pass for one. One that stands elsewhere than it was
//! written for is still known: bytes before it were lost or added. The bytes of values are never
//! looked at to judge damage.
//!
//!     #KEY:<32 hex digits>
//!     #MARK:<tag>:<place>:<durable>:<sum>
//!     #MARK:<tag>:<place>:<durable>:<sum>:<length>:<empty pages>:<sum ahead>
//!
//! A mark vouches for what lies behind it, back to what the mark before it has vouched for: by a
//! checksum, or by dashes if there is none. It says how much of the file was durable when it was
//! written. It may announce what comes next, a turn so long that a loss of power can leave a page
//! of zeros within one word of it: how long that is, how many of its pages are zeros by right, and
//! its checksum. Announced, not summed up behind: the page with a mark behind it may be lost.
//!
//! All fields have a fixed width, so that a length is known before the line is printed. Redis and
//! its tools skip the lines; they would break one of 128 bytes in two.

use crate::persist::crc64::{self, Sum};
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24Wide};
use std::fmt::Write;
use std::hash::Hasher;

/// The unit in which a loss of power leaves zeros.
pub const PAGE_BYTES: u64 = 4096;
/// The line with the key.
pub const KEY_LINE_BYTES: u64 = 5 + 32 + 2;
/// No mark is longer.
pub const MARK_BYTES_MAX: usize = 106;
const MARK_NAME: &[u8] = b"#MARK:";
const AHEAD_MARK_BYTES: u64 = 106;
/// A length or an offset is printed in so many digits.
const LENGTH_DIGITS: usize = 12;
const PAGES_DIGITS: usize = 8;
const SUM_DIGITS: usize = 16;
const NO_SUM: &str = "----------------";

/// The secret of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Where keys come from: a secret of this run, that never leaves it.
#[derive(Clone, Default)]
pub struct KeySource {
    secret: [u8; 16],
    drawn: u64,
}

impl KeySource {
    pub fn new(secret: [u8; 16]) -> KeySource {
        KeySource { secret, drawn: 0 }
    }

    /// A key that was not drawn before; the time makes it another one if the secret is not.
    pub fn draw(&mut self, unix_us: u64) -> Key {
        self.drawn += 1;
        let mut hasher = SipHasher24Wide::new_with_key(&self.secret);
        hasher.write(b"the key of a log file");
        hasher.write_u64(self.drawn);
        hasher.write_u64(unix_us);
        Key(hasher.finish128().as_bytes())
    }
}

impl Key {
    /// The line that a file begins with.
    pub fn line(&self) -> Vec<u8> {
        format!("#KEY:{:032x}\r\n", u128::from_be_bytes(self.0)).into_bytes()
    }

    /// The key of a line without its end, if it is one.
    pub fn parse(line: &[u8]) -> Option<Key> {
        let digits = line.strip_prefix(b"#KEY:")?;
        let number = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(number, 16).ok().map(|number| Key(number.to_be_bytes()))
    }

    fn tag(&self, fields: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(fields);
        hasher.finish()
    }
}

/// What a mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The file was durable up to here.
    pub durable: u64,
    /// The checksum of what it vouches for.
    pub behind: Option<u64>,
    pub ahead: Option<Ahead>,
}

/// What a mark says of the bytes that follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    pub len: u64,
    pub empty_pages: u64,
    pub sum: Option<u64>,
}

impl Ahead {
    /// What is to be said of bytes that follow a mark at this place.
    pub fn of(bytes: &[u8], mark_at: u64, has_sum: bool) -> Ahead {
        let mut pages = EmptyPages::from(mark_at + AHEAD_MARK_BYTES);
        pages.add(bytes);
        let sum = has_sum.then(|| crc64::of(bytes));
        Ahead { len: bytes.len() as u64, empty_pages: pages.count, sum }
    }
}

impl Mark {
    /// The line for the place at which it will stand.
    pub fn print(&self, key: &Key, at: u64) -> Vec<u8> {
        let mut fields = String::new();
        put_number(&mut fields, at, LENGTH_DIGITS);
        put_number(&mut fields, self.durable, LENGTH_DIGITS);
        put_sum(&mut fields, self.behind);
        if let Some(ahead) = &self.ahead {
            put_number(&mut fields, ahead.len, LENGTH_DIGITS);
            put_number(&mut fields, ahead.empty_pages, PAGES_DIGITS);
            put_sum(&mut fields, ahead.sum);
        }
        let tag = key.tag(fields.as_bytes());
        format!("#MARK:{tag:016x}{fields}\r\n").into_bytes()
    }

    /// Whether a line is a mark, be it a right one or not.
    pub fn is_one(line: &[u8]) -> bool {
        line.starts_with(MARK_NAME)
    }

    /// The mark of a line without its end and the place that it was written for, if it was
    /// written under this key.
    pub fn parse(key: &Key, line: &[u8]) -> Option<(u64, Mark)> {
        let (tag, fields) = line.strip_prefix(MARK_NAME)?.split_at_checked(SUM_DIGITS)?;
        if hex(tag)? != key.tag(fields) {
            return None;
        }
        let mut parts = fields.strip_prefix(b":")?.split(|byte| *byte == b':');
        let at = hex(parts.next()?)?;
        let durable = hex(parts.next()?)?;
        let behind = sum(parts.next()?)?;
        let ahead = match parts.next() {
            None => None,
            Some(len) => Some(Ahead {
                len: hex(len)?,
                empty_pages: hex(parts.next()?)?,
                sum: sum(parts.next()?)?,
            }),
        };
        parts.next().is_none().then_some((at, Mark { durable, behind, ahead }))
    }

    /// The next line among some bytes that looks like a mark, and what it says if it is one.
    pub fn find(key: &Key, bytes: &[u8]) -> Option<(usize, Option<Mark>)> {
        let start = memchr::memmem::find(bytes, MARK_NAME)?;
        let line = &bytes[start..];
        let line = &line[..line.len().min(MARK_BYTES_MAX)];
        let end = memchr::memchr(b'\r', line).unwrap_or(line.len());
        Some((start, Mark::parse(key, &line[..end]).map(|(_, mark)| mark)))
    }
}

fn put_number(fields: &mut String, number: u64, digits: usize) {
    write!(fields, ":{number:0digits$x}").expect("a string takes all");
}

fn put_sum(fields: &mut String, sum: Option<u64>) {
    match sum {
        Some(sum) => put_number(fields, sum, SUM_DIGITS),
        None => write!(fields, ":{NO_SUM}").expect("a string takes all"),
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u64::from_str_radix(text, 16).ok()
}

fn sum(digits: &[u8]) -> Option<Option<u64>> {
    if digits == NO_SUM.as_bytes() { Some(None) } else { hex(digits).map(Some) }
}

/// Counts the whole pages of a file that hold nothing but zeros, as its bytes come.
#[derive(Clone, Debug)]
pub struct EmptyPages {
    at: u64,
    /// The page that is being read is empty so far, from its beginning.
    is_empty: bool,
    pub count: u64,
}

impl EmptyPages {
    /// The next byte is the file's at this offset.
    pub fn from(at: u64) -> EmptyPages {
        EmptyPages { at, is_empty: false, count: 0 }
    }

    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = self.at % PAGE_BYTES;
            let left = usize::try_from(PAGE_BYTES - within).expect("a page is small");
            let (piece, rest) = bytes.split_at(left.min(bytes.len()));
            self.is_empty = (self.is_empty || within == 0) && piece.iter().all(|byte| *byte == 0);
            self.count += u64::from(self.is_empty && piece.len() == left);
            self.is_empty &= piece.len() < left;
            self.at += piece.len() as u64;
            bytes = rest;
        }
    }
}

/// What a reader knows of the marks of a file so far.
pub struct Vouched {
    key: Option<Key>,
    /// Wrong sums and marks are errors.
    checks: bool,
    /// Up to here marks vouch.
    good: u64,
    /// Of the bytes since.
    sum: Sum,
    turn: Option<Announced>,
    /// Where a mark ends that says that all before it was durable.
    sealed: u64,
}

/// A turn that a mark has announced and that has not ended.
struct Announced {
    mark: u64,
    end: u64,
    ahead: Ahead,
    pages: EmptyPages,
}

/// Bytes that are not those which a mark tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The checksum of these bytes is wrong.
    Sum { start: u64, end: u64 },
    /// An announced turn has more empty pages than were written; it begins with its mark.
    Torn { start: u64, end: u64 },
    /// This mark was not written for its place.
    Misplaced { at: u64 },
}

impl Vouched {
    pub fn new(offset: u64, checks: bool) -> Vouched {
        let sum = Sum::default();
        Vouched { key: None, checks, good: offset, sum, turn: None, sealed: u64::MAX }
    }

    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Where the announced turn begins that is being read.
    pub fn turn_start(&self) -> Option<u64> {
        self.turn.as_ref().map(|turn| turn.mark)
    }

    /// Whether the last mark ends here and says that all before it was durable.
    pub fn is_sealed(&self, offset: u64) -> bool {
        self.sealed == offset
    }

    /// The sum of what no mark vouches for yet.
    pub fn sum(&self) -> Option<Sum> {
        (self.checks && self.key.is_some()).then(|| self.sum.clone())
    }

    /// More bytes were read, none of which are a key or a mark.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.key.is_none() {
            return;
        }
        if self.checks {
            self.sum.add(bytes);
        }
        if let Some(turn) = &mut self.turn {
            turn.pages.add(bytes);
        }
    }

    /// The file began with a key.
    pub fn begin(&mut self, key: Key, end: u64) {
        self.key = Some(key);
        self.good = end;
    }

    /// A line that looks like a mark lies between these offsets.
    pub fn meet(&mut self, line: &[u8], at: u64, end: u64) -> Result<(), Mismatch> {
        let found = self.key.as_ref().and_then(|key| Mark::parse(key, line));
        let Some((_, mark)) = found.filter(|(place, _)| *place == at && self.turn.is_none()) else {
            return if self.checks { Err(Mismatch::Misplaced { at }) } else { Ok(()) };
        };
        let is_right = mark.behind.is_none_or(|sum| sum == self.sum.value());
        if self.checks && !is_right {
            return Err(Mismatch::Sum { start: self.good, end: at });
        }
        self.vouch(end);
        self.sealed = if mark.durable >= at { end } else { u64::MAX };
        self.turn = mark.ahead.map(|ahead| Announced {
            mark: at,
            end: end.saturating_add(ahead.len),
            ahead,
            pages: EmptyPages::from(end),
        });
        Ok(())
    }

    fn vouch(&mut self, end: u64) {
        self.good = end;
        self.sum = Sum::default();
    }

    /// Whether the announced turn ends at this offset or has to have ended before.
    pub fn ends_turn(&self, offset: u64) -> bool {
        self.turn.as_ref().is_some_and(|turn| offset >= turn.end)
    }

    /// All of the announced turn was read, or more.
    pub fn end_turn(&mut self, offset: u64) -> Result<(), Mismatch> {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        let (start, end) = (turn.mark, turn.end);
        if turn.pages.count > turn.ahead.empty_pages {
            self.turn = Some(turn);
            return Err(Mismatch::Torn { start, end });
        }
        let is_right = turn.ahead.sum.is_none_or(|sum| sum == self.sum.value());
        if self.checks && (offset > end || !is_right) {
            return Err(Mismatch::Sum { start, end });
        }
        self.vouch(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        KeySource::new([3; 16]).draw(7)
    }

    fn marks() -> [Mark; 3] {
        let ahead = Ahead { len: u64::from(u32::MAX) + 9, empty_pages: 3, sum: Some(u64::MAX) };
        [
            Mark { durable: 0, behind: None, ahead: None },
            Mark { durable: 77, behind: Some(1), ahead: Some(ahead) },
            Mark {
                durable: 1 << 40,
                behind: Some(u64::MAX),
                ahead: Some(Ahead { sum: None, ..ahead }),
            },
        ]
    }

    #[test]
    fn a_mark_is_what_it_was_printed_from_and_nothing_else_is() {
        let other = KeySource::new([4; 16]).draw(7);
        for mark in marks() {
            let line = mark.print(&key(), 5);
            assert!(line.len() <= MARK_BYTES_MAX);
            let text = line.strip_suffix(b"\r\n").expect("it is a line");
            assert_eq!(Mark::parse(&key(), text), Some((5, mark)));
            assert_eq!(Mark::parse(&other, text), None, "under another key");
            for bit in 0..text.len() * 8 {
                let mut flipped = text.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let found = Mark::parse(&key(), &flipped);
                // The case of a digit of the tag says nothing.
                assert!(found.is_none() || flipped.eq_ignore_ascii_case(text));
            }
        }
        assert_eq!(marks()[1].print(&key(), 0).len() as u64, AHEAD_MARK_BYTES);
    }

    #[test]
    fn a_key_is_what_its_line_says() {
        let line = key().line();
        assert_eq!(line.len() as u64, KEY_LINE_BYTES);
        assert_eq!(Key::parse(line.trim_ascii_end()), Some(key()));
        assert_eq!(Key::parse(&line[..20]), None);
        let mut source = KeySource::new([3; 16]);
        assert_ne!(source.draw(7), source.draw(7));
    }

    #[test]
    fn empty_pages_are_whole_ones() {
        let page = PAGE_BYTES as usize;
        for (at, len, expected) in [
            (0, page, 1),
            (1, page, 0),
            (1, 2 * page, 1),
            (4095, 2 * page + 1, 2),
            (0, page - 1, 0),
        ] {
            for step in [1, 7, 4096, 100_000] {
                let mut pages = EmptyPages::from(at);
                vec![0; len].chunks(step).for_each(|piece| pages.add(piece));
                pages.add(b"x");
                assert_eq!(pages.count, expected, "{len} zeros at {at} by {step}");
            }
        }
    }
}
