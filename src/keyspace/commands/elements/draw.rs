//! HRANDFIELD, SRANDMEMBER and ZRANDMEMBER with a count: some elements, each with the same chance.
//!
//! A negative count may draw an element again. Distinct elements are drawn from a table one by one
//! while few are wanted, since those drawn before are met seldom; otherwise one walk over all
//! elements takes each with the chance that makes the number right in the end.

use super::is_long;
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;
use crate::resp::Reply;
use crate::structs::listpack::Element;
use crate::structs::prng::Prng;
use std::collections::HashSet;

/// A draw with repetitions may ask for more than any memory holds: its reply ends in an error when
/// it is longer than the longest string can be by default.
const DRAWN_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Distinct elements are drawn one by one if they are at most this part of all.
const SPARSE_PART: usize = 3;

/// A value that elements are drawn from.
pub trait Source<'a>: Copy {
    /// An element, with what belongs to it.
    type Item: Copy;
    fn count(self) -> usize;
    /// The memory of all elements.
    fn bytes(self) -> usize;
    /// Whether one element is found in constant time.
    fn is_table(self) -> bool;
    fn random(self, prng: &mut Prng) -> Option<Self::Item>;
    fn all(self) -> impl Iterator<Item = Self::Item>;
    /// What tells an element from all others.
    fn name(item: Self::Item) -> Element<'a>;
}

/// How many elements are asked for.
#[derive(Clone, Copy)]
pub struct Draw {
    count: usize,
    repeats: bool,
    bytes_max: usize,
}

impl Draw {
    /// Reads the count.
    pub fn read(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<Draw, CommandError> {
        const RANGE: CommandError = CommandError::Fixed(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        );
        let count = args.integer_in(-i64::MAX..=i64::MAX, RANGE);
        args.check()?;
        let (count, repeats) = (count.unsigned_abs(), count < 0);
        let bytes_max = cx.output_bytes_max().min(DRAWN_BYTES_MAX);
        Ok(Draw { count: usize::try_from(count).unwrap_or(usize::MAX), repeats, bytes_max })
    }

    /// Refuses a count of which twice as much would not be an integer.
    pub fn of_pairs(self) -> Result<Draw, CommandError> {
        const PAIRS_MAX: usize = (i64::MAX / 2) as usize;
        if self.count > PAIRS_MAX { Err(CommandError::OutOfRange) } else { Ok(self) }
    }

    fn is_sparse<'a>(self, source: impl Source<'a>) -> bool {
        source.is_table() && self.count <= source.count() / SPARSE_PART
    }

    /// Whether the draw is to be made on another thread.
    pub fn is_long<'a>(self, source: impl Source<'a>) -> bool {
        let by_one = self.repeats || self.is_sparse(source);
        let visited = if by_one { self.count } else { source.count() };
        is_long(visited, source.count(), source.bytes())
    }

    /// Tells `begin` how many elements there will be, then writes each with `write`.
    pub fn write<'a, S: Source<'a>>(
        self,
        reply: &mut Reply<'_>,
        source: S,
        prng: &mut Prng,
        begin: impl FnOnce(&mut Reply<'_>, usize),
        mut write: impl FnMut(&mut Reply<'_>, S::Item),
    ) -> CommandResult {
        let mut random = || source.random(prng).expect("a value has an element");
        if self.repeats {
            begin(reply, self.count);
            let before = reply.buffer().len();
            for _ in 0..self.count {
                write(reply, random());
                if reply.buffer().len() - before > self.bytes_max {
                    let is_own = self.bytes_max == DRAWN_BYTES_MAX;
                    let error = (CommandError::OutOfRange, CommandError::OutputTooLong);
                    return Err(if is_own { error.0 } else { error.1 });
                }
            }
            return Ok(());
        }
        let mut wanted = self.count.min(source.count());
        begin(reply, wanted);
        if self.is_sparse(source) {
            let mut drawn = HashSet::with_capacity(wanted);
            while drawn.len() < wanted {
                let item = random();
                if drawn.insert(S::name(item)) {
                    write(reply, item);
                }
            }
            return Ok(());
        }
        let mut left = source.count();
        for item in source.all() {
            if prng.below(left as u64) < wanted as u64 {
                write(reply, item);
                wanted -= 1;
            }
            left -= 1;
        }
        Ok(())
    }
}
