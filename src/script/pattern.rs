//! Patterns of Lua 5.1: what `find`, `match`, `gmatch` and `gsub` rest on.
//!
//! A pattern is compiled to a row of [`Op`]s, which has neither branches nor loops: a repetition
//! is one op with its class. So everything about captures is known beforehand (how many there are
//! at an op, which one a `)` closes, whether a back reference has something to refer to), and the
//! matcher never has to undo one: an op that is tried again sets it again. What Lua only notices
//! when its matcher comes to it, a malformed end for one, is an op too, which fails when it is
//! reached; where it is not, there is no error. Lua's own way, which calls itself for each
//! repetition and reads each class anew for each byte, was refused: patterns come from strangers,
//! and that needs a limit of the depth.
//!
//! [`matcher`] runs the ops, counting what it does; [`search`] is what the four functions do with
//! it; [`cache`] keeps what was compiled, and `libraries` has what scripts call. Bytes are those of
//! the C locale. A pattern ends at its first NUL, as in Lua 5.1.

pub mod cache;
pub mod matcher;
pub mod search;
pub mod set;
#[cfg(test)]
mod tests;

use set::{Class, Set};
use smallvec::SmallVec;
use std::fmt;

/// So many captures a pattern may have.
pub const CAPTURES_MAX: usize = 32;
/// So many ops, each of which takes some fifty bytes. What is longer would have taken Lua's C stack
/// to its end.
const OPS_MAX: usize = 1 << 18;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternError {
    EndsWithEscape,
    MissingBracket,
    MissingFrontierSet,
    Unbalanced,
    InvalidCapture,
    TooManyCaptures,
    InvalidCaptureIndex,
    UnfinishedCapture,
    TooComplex,
    NoMemory,
    /// Whoever was let in has called it off.
    Stopped,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PatternError::EndsWithEscape => "malformed pattern (ends with '%')",
            PatternError::MissingBracket => "malformed pattern (missing ']')",
            PatternError::MissingFrontierSet => "missing '[' after '%f' in pattern",
            PatternError::Unbalanced => "unbalanced pattern",
            PatternError::InvalidCapture => "invalid pattern capture",
            PatternError::TooManyCaptures => "too many captures",
            PatternError::InvalidCaptureIndex => "invalid capture index",
            PatternError::UnfinishedCapture => "unfinished capture",
            PatternError::TooComplex => "pattern too complex",
            PatternError::NoMemory => "not enough memory",
            PatternError::Stopped => "stopped",
        })
    }
}

impl std::error::Error for PatternError {}

/// Whether a `^` at the beginning ties the pattern to where the search begins. For `gmatch` it is a
/// byte like any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caret {
    Anchor,
    Byte,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// These of the pattern's literal bytes.
    Literal {
        from: usize,
        to: usize,
    },
    One(Class),
    /// As many as there are, then fewer.
    Greedy {
        class: Class,
        least: u8,
        is_once: bool,
    },
    /// None, then more.
    Lazy(Class),
    Open(u8),
    Position(u8),
    Close(u8),
    /// What a capture holds, once more.
    Back(u8),
    Balance(u8, u8),
    Frontier(Set),
    AtEnd,
    Fail(PatternError),
}

/// What must come next.
#[derive(Clone, Copy)]
enum Needed {
    Nothing,
    Byte(u8),
    In(Set),
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    ops: SmallVec<[Op; 8]>,
    literals: SmallVec<[u8; 32]>,
    is_anchored: bool,
    captures: usize,
    /// A bit for each capture that is a position, and for each that is never closed.
    positions: u32,
    unfinished: u32,
}

/// Whether a pattern has nothing that means anything but itself, by Lua's list.
pub fn is_plain(pattern: &[u8]) -> bool {
    !until_nul(pattern).iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

fn until_nul(pattern: &[u8]) -> &[u8] {
    &pattern[..memchr::memchr(0, pattern).unwrap_or(pattern.len())]
}

impl Pattern {
    pub fn compile(pattern: &[u8], caret: Caret) -> Pattern {
        let text = until_nul(pattern);
        let is_anchored = caret == Caret::Anchor && text.first() == Some(&b'^');
        let mut compiler = Compiler::default();
        compiler.all(&text[usize::from(is_anchored)..]);
        Pattern {
            ops: compiler.ops,
            literals: compiler.literals,
            is_anchored,
            captures: compiler.captures,
            positions: compiler.positions,
            unfinished: compiler.open,
        }
    }

    /// What the next byte must be if the ops from here on are to match.
    #[inline]
    fn needed(&self, op: usize) -> Needed {
        for op in &self.ops[op..] {
            return match op {
                Op::Open(_) | Op::Position(_) | Op::Close(_) => continue,
                Op::Literal { from, .. } => Needed::Byte(self.literals[*from]),
                Op::One(Class::Set(set)) => Needed::In(*set),
                Op::Greedy { class: Class::Set(set), least: 1, .. } => Needed::In(*set),
                Op::Greedy { class: Class::Byte(byte), least: 1, .. } => Needed::Byte(*byte),
                _ => Needed::Nothing,
            };
        }
        Needed::Nothing
    }

    /// The pattern if it is nothing but these bytes.
    fn as_literal(&self) -> Option<&[u8]> {
        match self.ops.as_slice() {
            [Op::Literal { from, to }] => Some(&self.literals[*from..*to]),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Compiler {
    ops: SmallVec<[Op; 8]>,
    literals: SmallVec<[u8; 32]>,
    captures: usize,
    positions: u32,
    /// A bit for each capture that is not closed yet.
    open: u32,
}

/// What is read of a pattern, and how long it is.
type Read = Result<usize, PatternError>;

impl Compiler {
    fn all(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            match self.next(rest) {
                Ok(len) => rest = &rest[len..],
                // What follows is never reached.
                Err(error) => return self.ops.push(Op::Fail(error)),
            }
        }
    }

    fn next(&mut self, rest: &[u8]) -> Read {
        if self.ops.len() >= OPS_MAX {
            return Err(PatternError::TooComplex);
        }
        match rest {
            [b'(', b')', ..] => self.capture(true).map(|()| 2),
            [b'(', ..] => self.capture(false).map(|()| 1),
            [b')', ..] => self.close().map(|()| 1),
            [b'%', b'b', after @ ..] => self.balance(after).map(|()| 4),
            [b'%', b'f', after @ ..] => self.frontier(after).map(|len| 2 + len),
            [b'%', digit @ b'0'..=b'9', ..] => self.back_reference(*digit).map(|()| 2),
            [b'$'] => {
                self.ops.push(Op::AtEnd);
                Ok(1)
            }
            _ => self.item(rest),
        }
    }

    fn capture(&mut self, is_position: bool) -> Result<(), PatternError> {
        let own = self.captures;
        if own == CAPTURES_MAX {
            return Err(PatternError::TooManyCaptures);
        }
        self.captures += 1;
        let (op, mask) = match is_position {
            true => (Op::Position(own as u8), &mut self.positions),
            false => (Op::Open(own as u8), &mut self.open),
        };
        *mask |= 1 << own;
        self.ops.push(op);
        Ok(())
    }

    /// The capture that was opened last is closed first.
    fn close(&mut self) -> Result<(), PatternError> {
        let own = self.open.checked_ilog2().ok_or(PatternError::InvalidCapture)?;
        self.open &= !(1 << own);
        self.ops.push(Op::Close(own as u8));
        Ok(())
    }

    fn balance(&mut self, after: &[u8]) -> Result<(), PatternError> {
        let [opening, closing, ..] = after else { return Err(PatternError::Unbalanced) };
        self.ops.push(Op::Balance(*opening, *closing));
        Ok(())
    }

    fn frontier(&mut self, after: &[u8]) -> Read {
        if after.first() != Some(&b'[') {
            return Err(PatternError::MissingFrontierSet);
        }
        let len = set::bracket_len(after)?;
        self.ops.push(Op::Frontier(Set::of_bracket(&after[..len])));
        Ok(len)
    }

    fn back_reference(&mut self, digit: u8) -> Result<(), PatternError> {
        let is_there = |own: &usize| *own < self.captures && self.open & 1 << *own == 0;
        let own = usize::from(digit).checked_sub(usize::from(b'1')).filter(is_there);
        let own = own.ok_or(PatternError::InvalidCaptureIndex)?;
        // A position has no text that could come again.
        self.ops.push(match self.positions & 1 << own {
            0 => Op::Back(own as u8),
            _ => Op::One(Class::Set(Set::EMPTY)),
        });
        Ok(())
    }

    /// A class with what says how often.
    fn item(&mut self, rest: &[u8]) -> Read {
        let (class, len) = set::read_class(rest)?;
        let greedy = |least, is_once| Op::Greedy { class, least, is_once };
        let op = match rest.get(len) {
            Some(b'?') => greedy(0, true),
            Some(b'*') => greedy(0, false),
            Some(b'+') => greedy(1, false),
            Some(b'-') => Op::Lazy(class),
            _ => {
                self.once(class);
                return Ok(len);
            }
        };
        self.ops.push(op);
        Ok(len + 1)
    }

    fn once(&mut self, class: Class) {
        let Class::Byte(byte) = class else { return self.ops.push(Op::One(class)) };
        let from = self.literals.len();
        self.literals.push(byte);
        match self.ops.last_mut() {
            Some(Op::Literal { to, .. }) => *to += 1,
            _ => self.ops.push(Op::Literal { from, to: from + 1 }),
        }
    }
}
