//! The matcher: it runs the ops of a pattern over a subject, and can be stopped at any time.
//!
//! Where a repetition could have taken another number of bytes, a [`Frame`] is left on a stack of
//! its own. Since an op leaves at most one at a time, the stack is no deeper than the pattern is
//! long. How long a match takes has no such limit (`.-.-.-b` takes the fourth power of the
//! subject), so every step is counted by the [`Meter`], which lets others in after a while.

use super::set::Class;
use super::{Needed, Op, Pattern, PatternError};
use smallvec::SmallVec;
use std::ops::Range;

/// After so many steps others are let in: less than a millisecond.
pub const PAUSE_STEPS: u32 = 1 << 16;
/// So many bytes that are compared at memory's speed count as a step.
const FAST_BYTES_PER_STEP: usize = 16;
/// A run of a class is measured in pieces of this size.
const PIECE_BYTES: usize = 1 << 14;

/// The matcher is to end.
pub struct Stopped;

/// Counts the steps of matchers.
pub struct Meter<'p> {
    left: u32,
    pause: &'p mut dyn FnMut() -> Result<(), Stopped>,
}

impl<'p> Meter<'p> {
    /// Calls `pause` each time [`PAUSE_STEPS`] have been taken. What it does may take long.
    pub fn new(pause: &'p mut dyn FnMut() -> Result<(), Stopped>) -> Meter<'p> {
        Meter { left: PAUSE_STEPS, pause }
    }

    /// The steps since the last pause, for whoever counts what many short matches took.
    pub fn steps(&self) -> u32 {
        PAUSE_STEPS - self.left
    }

    #[inline]
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), PatternError> {
        match self.left.checked_sub(u32::try_from(steps).unwrap_or(u32::MAX)) {
            Some(left @ 1..) => {
                self.left = left;
                Ok(())
            }
            _ => self.let_others_in(),
        }
    }

    #[inline]
    pub(super) fn spend_fast(&mut self, bytes: usize) -> Result<(), PatternError> {
        self.spend(bytes / FAST_BYTES_PER_STEP)
    }

    #[cold]
    fn let_others_in(&mut self) -> Result<(), PatternError> {
        self.left = PAUSE_STEPS;
        (self.pause)().map_err(|Stopped| PatternError::Stopped)
    }
}

/// What a pair of parentheses has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture<'s> {
    Text(&'s [u8]),
    /// Where in the subject, counted from 1.
    Position(usize),
}

/// Where something else could have been matched.
enum Frame {
    /// The op behind the repetition may begin at less than `at`, but not at less than `least`.
    Greedy { op: usize, least: usize, at: usize },
    /// The repetition may take the byte at `at`.
    Lazy { op: usize, at: usize },
}

/// What a step leads to: the op that is next, and where it is tried.
type Next = Option<(usize, usize)>;

/// A pattern at work on a subject.
pub struct Matcher<'p, 's> {
    pattern: &'p Pattern,
    pub(super) subject: &'s [u8],
    captures: [(usize, usize); super::CAPTURES_MAX],
    stack: SmallVec<[Frame; 8]>,
}

impl<'p, 's> Matcher<'p, 's> {
    pub fn new(pattern: &'p Pattern, subject: &'s [u8]) -> Matcher<'p, 's> {
        let captures = [(0, 0); super::CAPTURES_MAX];
        Matcher { pattern, subject, captures, stack: SmallVec::new() }
    }

    /// The first match that begins at `start` or later.
    pub fn find(
        &mut self,
        start: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Range<usize>>, PatternError> {
        if let Some(literal) = self.pattern.as_literal()
            && !self.pattern.is_anchored
        {
            let found = find_plain(self.subject, literal, start, meter)?;
            return Ok(found);
        }
        let mut start = start;
        while let Some(begin) = self.beginning(start, meter)? {
            if let Some(end) = self.match_at(begin, meter)? {
                return Ok(Some(begin..end));
            }
            if self.pattern.is_anchored {
                break;
            }
            start = begin + 1;
        }
        Ok(None)
    }

    /// Where a match could begin, from `start` on.
    #[inline]
    fn beginning(
        &self,
        start: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Option<usize>, PatternError> {
        if start > self.subject.len() {
            return Ok(None);
        }
        if self.pattern.is_anchored {
            return Ok(Some(start));
        }
        let behind = &self.subject[start..];
        let distance = first_needed(behind, &self.pattern.needed(0), meter)?;
        Ok(distance.map(|distance| start + distance))
    }

    /// Where a match that begins at `start` ends.
    fn match_at(
        &mut self,
        start: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Option<usize>, PatternError> {
        self.stack.clear();
        let mut next = Some((0, start));
        loop {
            meter.spend(1)?;
            next = match next {
                Some((op, at)) if op == self.pattern.ops.len() => return Ok(Some(at)),
                Some((op, at)) => self.step(op, at, meter)?,
                None if self.stack.is_empty() => return Ok(None),
                None => self.back(meter)?,
            };
        }
    }

    fn step(&mut self, op: usize, at: usize, meter: &mut Meter<'_>) -> Result<Next, PatternError> {
        let pattern = self.pattern;
        let end = match &pattern.ops[op] {
            Op::Literal { from, to } => self.literal(&pattern.literals[*from..*to], at),
            Op::One(class) => {
                self.subject.get(at).is_some_and(|byte| class.has(*byte)).then_some(at + 1)
            }
            Op::Greedy { class, least, is_once, .. } => {
                return self.greedy(op, *class, usize::from(*least), *is_once, at, meter);
            }
            Op::Lazy(_) => {
                self.stack.push(Frame::Lazy { op, at });
                Some(at)
            }
            Op::Open(own) | Op::Position(own) => {
                self.captures[usize::from(*own)].0 = at;
                Some(at)
            }
            Op::Close(own) => {
                self.captures[usize::from(*own)].1 = at;
                Some(at)
            }
            Op::Back(own) => self.back_reference(usize::from(*own), at, meter)?,
            Op::Balance(opening, closing) => self.balanced(*opening, *closing, at, meter)?,
            Op::Frontier(set) => {
                let before = at.checked_sub(1).map_or(0, |before| self.subject[before]);
                let here = self.subject.get(at).copied().unwrap_or(0);
                (!set.has(before) && set.has(here)).then_some(at)
            }
            Op::AtEnd => (at == self.subject.len()).then_some(at),
            Op::Fail(error) => return Err(*error),
        };
        Ok(end.map(|end| (op + 1, end)))
    }

    #[inline]
    fn literal(&self, literal: &[u8], at: usize) -> Option<usize> {
        self.subject[at..].starts_with(literal).then(|| at + literal.len())
    }

    fn greedy(
        &mut self,
        op: usize,
        class: Class,
        least: usize,
        is_once: bool,
        at: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Next, PatternError> {
        let limit = if is_once { self.subject.len().min(at + 1) } else { self.subject.len() };
        let end = match class {
            Class::Any => limit,
            Class::Byte(own) => {
                at + position(&self.subject[at..limit], |byte| *byte != own, meter)?
            }
            Class::Set(set) => {
                at + position(&self.subject[at..limit], |byte| !set.has(*byte), meter)?
            }
        };
        if end < at + least {
            return Ok(None);
        }
        if end == at + least {
            return Ok(Some((op + 1, end)));
        }
        // The longest run is one beside which there are shorter ones.
        self.stack.push(Frame::Greedy { op, least: at + least, at: end + 1 });
        self.back(meter)
    }

    /// Goes on where something else could have been matched last.
    fn back(&mut self, meter: &mut Meter<'_>) -> Result<Next, PatternError> {
        let subject = self.subject;
        let Some(frame) = self.stack.last_mut() else { return Ok(None) };
        match frame {
            Frame::Greedy { op, least, at } => {
                let next = *op + 1;
                let shorter = last_before(subject, *least, *at, &self.pattern.needed(next));
                meter.spend(*at - shorter.unwrap_or(*least))?;
                match shorter {
                    Some(shorter) if shorter > *least => *at = shorter,
                    _ => _ = self.stack.pop(),
                }
                Ok(shorter.map(|shorter| (next, shorter)))
            }
            Frame::Lazy { op, at } => {
                let Op::Lazy(class) = &self.pattern.ops[*op] else {
                    unreachable!("the frame is one of a lazy repetition")
                };
                let next = *op + 1;
                let longer = next_after(subject, class, *at, &self.pattern.needed(next), meter)?;
                match longer {
                    Some(longer) => *at = longer,
                    None => _ = self.stack.pop(),
                }
                Ok(longer.map(|longer| (next, longer)))
            }
        }
    }

    fn back_reference(
        &self,
        own: usize,
        at: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Option<usize>, PatternError> {
        let (from, to) = self.captures[own];
        meter.spend_fast(to - from)?;
        Ok(self.literal(&self.subject[from..to], at))
    }

    /// The end of what begins with `opening` and in which both come equally often.
    fn balanced(
        &self,
        opening: u8,
        closing: u8,
        at: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Option<usize>, PatternError> {
        if self.subject.get(at) != Some(&opening) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        let mut at = at + 1;
        for piece in self.subject[at..].chunks(PIECE_BYTES) {
            meter.spend(piece.len())?;
            for byte in piece {
                at += 1;
                if *byte == closing {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(Some(at));
                    }
                } else if *byte == opening {
                    depth += 1;
                }
            }
        }
        Ok(None)
    }

    /// How many values the match has: its captures, or the whole of it.
    pub fn values(&self) -> usize {
        self.pattern.captures.max(1)
    }

    /// One of them, counted from 0, after a match.
    pub fn value(&self, own: usize, found: &Range<usize>) -> Result<Capture<'s>, PatternError> {
        if own >= self.pattern.captures {
            let is_whole = own == 0;
            let whole = is_whole.then(|| Capture::Text(&self.subject[found.clone()]));
            return whole.ok_or(PatternError::InvalidCaptureIndex);
        }
        let (from, to) = self.captures[own];
        if self.pattern.unfinished & 1 << own != 0 {
            return Err(PatternError::UnfinishedCapture);
        }
        Ok(match self.pattern.positions & 1 << own {
            0 => Capture::Text(&self.subject[from..to]),
            _ => Capture::Position(from + 1),
        })
    }

    /// The captures alone, as `find` answers them behind where it found the match.
    pub fn captures(&self) -> usize {
        self.pattern.captures
    }

    pub(super) fn is_anchored(&self) -> bool {
        self.pattern.is_anchored
    }
}

/// Where plain bytes come first.
pub fn find_plain(
    subject: &[u8],
    text: &[u8],
    start: usize,
    meter: &mut Meter<'_>,
) -> Result<Option<Range<usize>>, PatternError> {
    let Some(behind) = subject.get(start..) else { return Ok(None) };
    let found = match text {
        [byte] => memchr::memchr(*byte, behind),
        _ => memchr::memmem::find(behind, text),
    };
    meter.spend_fast(found.unwrap_or(behind.len()))?;
    Ok(found.map(|distance| start + distance..start + distance + text.len()))
}

/// The last place from `least` on and before `at` where there is what is needed.
#[inline]
fn last_before(subject: &[u8], least: usize, at: usize, needed: &Needed) -> Option<usize> {
    let between = || subject.get(least..at.min(subject.len()));
    let distance = match needed {
        Needed::Nothing => return at.checked_sub(1).filter(|before| *before >= least),
        Needed::Byte(byte) => memchr::memrchr(*byte, between()?),
        Needed::In(set) => between()?.iter().rposition(|byte| set.has(*byte)),
    };
    distance.map(|distance| least + distance)
}

/// The next place behind `at` where there is what is needed, with nothing but the class before it.
#[inline]
fn next_after(
    subject: &[u8],
    class: &Class,
    at: usize,
    needed: &Needed,
    meter: &mut Meter<'_>,
) -> Result<Option<usize>, PatternError> {
    if !subject.get(at).is_some_and(|byte| class.has(*byte)) {
        return Ok(None);
    }
    let behind = &subject[at + 1..];
    let distance = match class {
        Class::Any => first_needed(behind, needed, meter)?,
        Class::Byte(own) => next_needed(behind, needed, |byte| byte == *own, meter)?,
        Class::Set(set) => next_needed(behind, needed, |byte| set.has(byte), meter)?,
    };
    Ok(distance.map(|distance| at + 1 + distance))
}

/// How far away what is needed is.
#[inline]
fn first_needed(
    bytes: &[u8],
    needed: &Needed,
    meter: &mut Meter<'_>,
) -> Result<Option<usize>, PatternError> {
    let Needed::Byte(byte) = needed else { return next_needed(bytes, needed, |_| true, meter) };
    let distance = memchr::memchr(*byte, bytes);
    meter.spend_fast(distance.unwrap_or(bytes.len()))?;
    Ok(distance)
}

/// How far away what is needed is, if all before it may be passed.
#[inline]
fn next_needed(
    bytes: &[u8],
    needed: &Needed,
    may_pass: impl Fn(u8) -> bool,
    meter: &mut Meter<'_>,
) -> Result<Option<usize>, PatternError> {
    let is_needed = |byte: u8| match needed {
        Needed::Nothing => true,
        Needed::Byte(own) => byte == *own,
        Needed::In(set) => set.has(byte),
    };
    if matches!(needed, Needed::Nothing) {
        return Ok(Some(0));
    }
    let end = position(bytes, |byte| is_needed(*byte) || !may_pass(*byte), meter)?;
    Ok(bytes.get(end).is_some_and(|byte| is_needed(*byte)).then_some(end))
}

/// Where the first byte is of which something is true, the length if there is none.
#[inline]
fn position(
    bytes: &[u8],
    is_it: impl Fn(&u8) -> bool,
    meter: &mut Meter<'_>,
) -> Result<usize, PatternError> {
    let mut passed = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        let found = piece.iter().position(&is_it);
        let len = found.unwrap_or(piece.len());
        meter.spend(len)?;
        passed += len;
        if found.is_some() {
            break;
        }
    }
    Ok(passed)
}
