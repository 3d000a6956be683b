//! What the four functions do with a matcher: where a search begins, and how it goes on behind a
//! match. What they call or look up for a match is their caller's.

use super::matcher::{Capture, Matcher, Meter};
use super::{Pattern, PatternError};
use crate::script::output::{Full, Output};
use crate::structs::number::{I64Buf, format_i64};
use std::ops::Range;

/// Where a search begins that is told to at `init`, which counts from 1, or back from the end.
pub fn start_of(init: i64, len: usize) -> usize {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = if init < 0 { init.saturating_add(len).saturating_add(1) } else { init };
    (from_front.max(1) - 1).min(len) as usize
}

/// How far `gmatch` has come. Its subject and pattern are handed in each time, since they live as
/// long as its caller keeps them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Gmatch {
    /// Where the next match is sought; beyond the end when there are no more.
    pub at: usize,
}

impl Gmatch {
    /// The next match, whose captures the matcher then has.
    pub fn next(
        &mut self,
        matcher: &mut Matcher<'_, '_>,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Range<usize>>, PatternError> {
        let found = matcher.find(self.at, meter)?;
        if let Some(found) = &found {
            self.at = found.end + usize::from(found.is_empty());
        }
        Ok(found)
    }
}

/// A `gsub` that goes from match to match. After each one its caller puts something in its place.
pub struct Gsub<'p, 's, 'o> {
    matcher: Matcher<'p, 's>,
    /// What lies before it is in `out`, or replaced.
    copied: usize,
    /// Where the next match is sought.
    from: usize,
    found: Range<usize>,
    count: usize,
    count_max: usize,
    is_over: bool,
    out: Output<'o>,
    /// So much of it has been counted as steps.
    counted: usize,
}

impl<'p, 's, 'o> Gsub<'p, 's, 'o> {
    /// The whole text goes to `out`.
    pub fn new(
        pattern: &'p Pattern,
        subject: &'s [u8],
        count_max: usize,
        out: Output<'o>,
    ) -> Gsub<'p, 's, 'o> {
        Gsub {
            matcher: Matcher::new(pattern, subject),
            copied: 0,
            from: 0,
            found: 0..0,
            count: 0,
            count_max,
            is_over: false,
            out,
            counted: 0,
        }
    }

    /// Whether there is another match, which is to be replaced before the next one is sought.
    pub fn next(&mut self, meter: &mut Meter<'_>) -> Result<bool, PatternError> {
        if self.is_over || self.count >= self.count_max {
            return Ok(false);
        }
        let Some(found) = self.matcher.find(self.from, meter)? else {
            self.is_over = true;
            return Ok(false);
        };
        self.copy_until(found.start)?;
        self.copied = found.end;
        self.from = found.end + usize::from(found.is_empty());
        self.is_over = self.matcher.is_anchored();
        meter.spend_fast(self.out.len() - self.counted)?;
        self.counted = self.out.len();
        self.found = found;
        self.count += 1;
        Ok(true)
    }

    fn copy_until(&mut self, end: usize) -> Result<(), PatternError> {
        let subject = self.matcher.subject;
        self.put(&subject[self.copied..end])
    }

    /// How many values the match has, and each of them.
    pub fn values(&self) -> usize {
        self.matcher.values()
    }

    pub fn value(&self, own: usize) -> Result<Capture<'s>, PatternError> {
        self.matcher.value(own, &self.found)
    }

    /// Puts bytes in the place of the match.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), PatternError> {
        self.out.append(bytes).map_err(|Full| PatternError::NoMemory)
    }

    /// Leaves the match as it is.
    pub fn keep(&mut self) -> Result<(), PatternError> {
        let subject = self.matcher.subject;
        self.put(&subject[self.found.clone()])
    }

    /// Puts what a template says in the place of the match: `%0` is all of it, `%1` to `%9` are
    /// its captures, and a `%` before anything else only takes itself away. At the template's end
    /// it becomes a NUL, the one that Lua 5.1 finds behind the string.
    pub fn expand(&mut self, template: &[u8]) -> Result<(), PatternError> {
        let mut rest = template;
        while let Some(plain_len) = memchr::memchr(b'%', rest) {
            self.put(&rest[..plain_len])?;
            let escaped = rest.get(plain_len + 1).copied().unwrap_or(0);
            match escaped {
                b'0' => self.keep()?,
                b'1'..=b'9' => self.put_capture(usize::from(escaped - b'1'))?,
                _ => self.put(&[escaped])?,
            }
            rest = rest.get(plain_len + 2..).unwrap_or_default();
        }
        self.put(rest)
    }

    fn put_capture(&mut self, own: usize) -> Result<(), PatternError> {
        match self.value(own)? {
            Capture::Text(text) => self.put(text),
            Capture::Position(position) => {
                self.put(format_i64(position as i64, &mut I64Buf::new()))
            }
        }
    }

    /// The whole text, and how many matches were replaced.
    pub fn finish(mut self) -> Result<(Output<'o>, usize), PatternError> {
        self.copy_until(self.matcher.subject.len())?;
        Ok((self.out, self.count))
    }
}
