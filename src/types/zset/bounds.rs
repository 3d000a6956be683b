//! Ranges by score and by member, as clients write them.
//!
//! A range becomes two questions, "does this come before the range" and "is this not yet behind
//! it", which a search by order answers; so an inverted range is an empty one without a check.

use crate::structs::number::parse_f64_bound;

/// One end of a range by score.
#[derive(Clone, Copy, Debug)]
struct Score {
    value: f64,
    is_excluded: bool,
}

/// Scores between two ends.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRange {
    min: Score,
    max: Score,
}

impl Score {
    fn parse(text: &[u8]) -> Option<Score> {
        let (text, is_excluded) = match text {
            [b'(', rest @ ..] => (rest, true),
            text => (text, false),
        };
        Some(Score { value: parse_f64_bound(text)?, is_excluded })
    }
}

impl ScoreRange {
    /// Reads `1.5`, `(1.5`, `-inf`.
    pub fn parse(min: &[u8], max: &[u8]) -> Option<ScoreRange> {
        Some(ScoreRange { min: Score::parse(min)?, max: Score::parse(max)? })
    }

    pub fn is_after(self, score: f64) -> bool {
        if self.min.is_excluded { score <= self.min.value } else { score < self.min.value }
    }

    pub fn is_not_before(self, score: f64) -> bool {
        if self.max.is_excluded { score < self.max.value } else { score <= self.max.value }
    }
}

/// One end of a range by member.
#[derive(Clone, Copy, Debug)]
enum Lex<'a> {
    First,
    Last,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

/// Members between two ends.
#[derive(Clone, Copy, Debug)]
pub struct LexRange<'a> {
    min: Lex<'a>,
    max: Lex<'a>,
}

impl<'a> Lex<'a> {
    fn parse(text: &'a [u8]) -> Option<Lex<'a>> {
        match text {
            b"-" => Some(Lex::First),
            b"+" => Some(Lex::Last),
            [b'[', rest @ ..] => Some(Lex::Included(rest)),
            [b'(', rest @ ..] => Some(Lex::Excluded(rest)),
            _ => None,
        }
    }
}

impl<'a> LexRange<'a> {
    /// Reads `[member`, `(member`, `-`, `+`.
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<LexRange<'a>> {
        Some(LexRange { min: Lex::parse(min)?, max: Lex::parse(max)? })
    }

    pub fn is_after(self, member: &[u8]) -> bool {
        match self.min {
            Lex::First => false,
            Lex::Last => true,
            Lex::Included(min) => member < min,
            Lex::Excluded(min) => member <= min,
        }
    }

    pub fn is_not_before(self, member: &[u8]) -> bool {
        match self.max {
            Lex::First => false,
            Lex::Last => true,
            Lex::Included(max) => member <= max,
            Lex::Excluded(max) => member < max,
        }
    }
}
