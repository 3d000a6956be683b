//! Sets of bytes, and the classes of patterns, which are such sets or something simpler.

use super::PatternError;

/// A bit for each byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set([u64; 4]);

/// What one byte of a subject is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    Any,
    Byte(u8),
    Set(Set),
}

impl Class {
    #[inline]
    pub fn has(&self, byte: u8) -> bool {
        match self {
            Class::Any => true,
            Class::Byte(own) => *own == byte,
            Class::Set(set) => set.has(byte),
        }
    }
}

impl Set {
    pub const EMPTY: Set = Set([0; 4]);

    #[inline]
    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }

    const fn with(mut self, byte: u8) -> Set {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
        self
    }

    /// The bytes from one to another, none if they are the wrong way round.
    const fn range(low: u8, high: u8) -> Set {
        let mut set = Set::EMPTY;
        let mut byte = low as u16;
        while byte <= high as u16 {
            set = set.with(byte as u8);
            byte += 1;
        }
        set
    }

    const fn or(self, other: Set) -> Set {
        let (a, b) = (self.0, other.0);
        Set([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    const fn and(self, other: Set) -> Set {
        self.not().or(other.not()).not()
    }

    const fn not(self) -> Set {
        let own = self.0;
        Set([!own[0], !own[1], !own[2], !own[3]])
    }

    /// The class that stands behind a `%`, a byte that is only itself if there is none.
    fn of_letter(letter: u8) -> Set {
        let Some(set) = class_of(letter.to_ascii_lowercase()) else {
            return Set::EMPTY.with(letter);
        };
        if letter.is_ascii_lowercase() { set } else { set.not() }
    }

    /// A set in brackets, which [`bracket_len`] has measured.
    pub fn of_bracket(bracket: &[u8]) -> Set {
        let inside = &bracket[1..bracket.len() - 1];
        match inside {
            [b'^', rest @ ..] => Set::of_members(rest).not(),
            _ => Set::of_members(inside),
        }
    }

    fn of_members(mut rest: &[u8]) -> Set {
        let mut set = Set::EMPTY;
        loop {
            (set, rest) = match rest {
                [] => return set,
                [b'%', letter, rest @ ..] => (set.or(Set::of_letter(*letter)), rest),
                [low, b'-', high, rest @ ..] => (set.or(Set::range(*low, *high)), rest),
                [byte, rest @ ..] => (set.with(*byte), rest),
            };
        }
    }
}

const DIGITS: Set = Set::range(b'0', b'9');
const LOWER: Set = Set::range(b'a', b'z');
const UPPER: Set = Set::range(b'A', b'Z');
const LETTERS: Set = LOWER.or(UPPER);
const WORDS: Set = LETTERS.or(DIGITS);
const CONTROLS: Set = Set::range(0, 0x1f).with(0x7f);
const SPACES: Set = Set::range(b'\t', b'\r').with(b' ');
const HEX_DIGITS: Set = DIGITS.or(Set::range(b'a', b'f')).or(Set::range(b'A', b'F'));
const PUNCTUATION: Set = Set::range(b'!', b'~').and(WORDS.not());

fn class_of(letter: u8) -> Option<Set> {
    Some(match letter {
        b'a' => LETTERS,
        b'c' => CONTROLS,
        b'd' => DIGITS,
        b'l' => LOWER,
        b'p' => PUNCTUATION,
        b's' => SPACES,
        b'u' => UPPER,
        b'w' => WORDS,
        b'x' => HEX_DIGITS,
        b'z' => Set::EMPTY.with(0),
        _ => return None,
    })
}

/// The class at the beginning of a pattern that has something left, and its length.
pub fn read_class(rest: &[u8]) -> Result<(Class, usize), PatternError> {
    Ok(match rest {
        [b'%', letter, ..] if letter.is_ascii_alphabetic() => {
            (Class::Set(Set::of_letter(*letter)), 2)
        }
        [b'%', byte, ..] => (Class::Byte(*byte), 2),
        [b'%'] => return Err(PatternError::EndsWithEscape),
        [b'[', ..] => {
            let len = bracket_len(rest)?;
            (Class::Set(Set::of_bracket(&rest[..len])), len)
        }
        [b'.', ..] => (Class::Any, 1),
        [byte, ..] => (Class::Byte(*byte), 1),
        [] => unreachable!("the pattern has something left"),
    })
}

/// How long a set in brackets is. Whatever stands first in it is a member, even a bracket.
pub fn bracket_len(rest: &[u8]) -> Result<usize, PatternError> {
    let mut len = if rest.get(1) == Some(&b'^') { 2 } else { 1 };
    loop {
        let byte = *rest.get(len).ok_or(PatternError::MissingBracket)?;
        len += if byte == b'%' && len + 1 < rest.len() { 2 } else { 1 };
        if rest.get(len) == Some(&b']') {
            return Ok(len + 1);
        }
    }
}
