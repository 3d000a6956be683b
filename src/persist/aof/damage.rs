//! Judges a damaged place of an AOF: what a crash or a loss of power leaves at its end is cut off,
//! anything else is refused, since cutting it would throw away what was durable.
//!
//! Evidence is what no client can write: the end of the file, a page of zeros where the grammar
//! wants something else, a mark that tells of other bytes, and marks behind the damage. Bytes
//! within a declared length are none, whatever they look like. A file without a key, such as Redis
//! writes, has only the first two.

use super::mark::{Key, MARK_BYTES_MAX, Mark, Mismatch, PAGE_BYTES};
use super::reader::ReadError;
use std::io::{self, Read};

/// What is to be done about a damaged place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A crash has left it: what follows this offset is cut off.
    Cut(u64),
    /// It is not to be explained that way. The file was durable up to this offset once.
    Refuse { durable: u64 },
}

/// A source of the file's bytes from an offset on.
pub type Reopen<'a> = &'a dyn Fn(u64) -> io::Result<Box<dyn Read + Send>>;

/// Where the damaged part of a file begins: with a whole command, transaction or announced turn.
pub fn place_of(error: &ReadError, transaction: Option<u64>) -> u64 {
    let start = match error {
        ReadError::Io(_) => 0,
        ReadError::Format { start, .. } | ReadError::Truncated { start } => *start,
        ReadError::Mismatch(Mismatch::Sum { start, .. } | Mismatch::Torn { start, .. }) => *start,
        ReadError::Mismatch(Mismatch::Misplaced { at }) => *at,
    };
    transaction.map_or(start, |transaction| start.min(transaction))
}

/// Decides about a file that cannot be read on, with a transaction that began at an offset and
/// has not ended.
pub fn judge(
    error: &ReadError,
    transaction: Option<u64>,
    key: Option<&Key>,
    reopen: Reopen<'_>,
) -> io::Result<Verdict> {
    let place = place_of(error, transaction);
    let later = match key {
        Some(key) => marks_behind(reopen(place)?, place, key)?,
        None => Later::default(),
    };
    let is_torn = match error {
        // A mark stands where there was no command when it was written: the length is wrong.
        ReadError::Truncated { .. } => later.marks == 0,
        ReadError::Format { at, .. } => place > 0 && is_hole(reopen(*at)?, *at)?,
        ReadError::Mismatch(Mismatch::Torn { .. }) => true,
        ReadError::Mismatch(_) | ReadError::Io(_) => false,
    };
    Ok(match is_torn && later.durable <= place {
        true => Verdict::Cut(place),
        false => Verdict::Refuse { durable: later.durable },
    })
}

/// Whether the bytes from `at` on are zeros up to the end of their page: what a loss of power
/// leaves of a page that was never written.
fn is_hole(source: impl Read, at: u64) -> io::Result<bool> {
    let mut rest = Vec::new();
    source.take(PAGE_BYTES - at % PAGE_BYTES).read_to_end(&mut rest)?;
    Ok(!rest.is_empty() && rest.iter().all(|byte| *byte == 0))
}

/// What the marks behind a damaged place say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Later {
    marks: u64,
    durable: u64,
}

const CHUNK_BYTES: u64 = 1 << 20;

/// Searches the marks behind a place, at which `source` stands. One that stands at the place
/// itself announces the turn that is damaged.
fn marks_behind(mut source: impl Read, place: u64, key: &Key) -> io::Result<Later> {
    let mut later = Later::default();
    let mut window = Vec::new();
    let mut origin = place;
    loop {
        let read = (&mut source).take(CHUNK_BYTES).read_to_end(&mut window)?;
        let (mut at, mut done) = (0, 0);
        while let Some((found, mark)) = Mark::find(key, &window[at..]) {
            at += found + 1;
            if let Some(mark) = mark.filter(|_| origin + at as u64 > place + 1) {
                later.marks += 1;
                later.durable = later.durable.max(mark.durable);
                done = at;
            }
        }
        if read == 0 {
            return Ok(later);
        }
        // A mark may go on in the next chunk; one that was found is found once.
        let kept = window.len().saturating_sub(MARK_BYTES_MAX - 1).max(done);
        window.drain(..kept);
        origin += kept as u64;
    }
}
