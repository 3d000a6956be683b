//! The argument cursor: handlers read their arguments through it, in order.
//!
//! It latches the first error with Redis's exact text and lets the handler read on with harmless
//! stand-ins, so that a handler asks once, by [`Args::done`], before it acts. Handlers never index
//! the request, hence cannot run past its end.

use super::{CommandError, CommandResult};
use crate::keyspace::{Key, KeyHash, KeyHasher};
use crate::resp::Request;
use crate::structs::SharedBytes;
use crate::structs::number::{parse_f64, parse_i64};

/// Reads a request's arguments from the second word on (the third for a subcommand). A clone reads
/// ahead.
#[derive(Clone)]
pub struct Args<'a> {
    request: Request<'a>,
    next: usize,
    hasher: KeyHasher,
    /// Hashes of the leading keys that the prefetch has computed, by argument position.
    hashed: Hashed<'a>,
    error: Option<CommandError>,
}

/// Hashes known beforehand: of the arguments `first`, `first + step`, and so on.
#[derive(Clone, Copy, Default)]
pub struct Hashed<'a> {
    pub first: usize,
    pub step: usize,
    pub hashes: &'a [KeyHash],
}

impl Hashed<'_> {
    /// That of the argument at this place, if it is known.
    pub fn get(&self, index: usize) -> Option<KeyHash> {
        let distance = index.checked_sub(self.first)?;
        let is_one = self.step > 0 && distance % self.step == 0;
        is_one.then(|| self.hashes.get(distance / self.step).copied())?
    }
}

impl<'a> Args<'a> {
    /// A cursor over `request` that stands behind the first `name_words` words.
    pub fn new(
        request: Request<'a>,
        name_words: usize,
        hasher: KeyHasher,
        hashed: Hashed<'a>,
    ) -> Args<'a> {
        Args { request, next: name_words, hasher, hashed, error: None }
    }

    /// The whole request, for those who pass it on.
    pub fn request(&self) -> Request<'a> {
        self.request
    }

    /// How many arguments are left.
    pub fn remaining(&self) -> usize {
        self.request.len() - self.next
    }

    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The next argument, which stays next.
    pub fn peek(&self) -> Option<&'a [u8]> {
        (self.next < self.request.len()).then(|| self.request.arg(self.next))
    }

    /// The next argument as it is.
    pub fn bytes(&mut self) -> &'a [u8] {
        match self.peek() {
            Some(arg) => {
                self.next += 1;
                arg
            }
            None => {
                self.fail(CommandError::Syntax);
                b""
            }
        }
    }

    /// The next argument with, if it was long enough to have one, its own buffer.
    pub fn value(&mut self) -> (&'a [u8], Option<&'a SharedBytes>) {
        let index = self.next;
        let bytes = self.bytes();
        let shared = if index < self.request.len() { self.request.shared(index) } else { None };
        (bytes, shared)
    }

    /// The next argument as a key.
    pub fn key(&mut self) -> Key<'a> {
        let index = self.next;
        let bytes = self.bytes();
        match self.hashed.get(index) {
            Some(hash) => {
                debug_assert_eq!(hash, self.hasher.hash(bytes), "it is that of this key");
                Key::hashed(bytes, hash)
            }
            None => self.hasher.key(bytes),
        }
    }

    /// The next argument as a signed 64-bit integer.
    pub fn integer(&mut self) -> i64 {
        self.integer_or(CommandError::NotInteger)
    }

    /// The same with an error of the caller's choice.
    pub fn integer_or(&mut self, error: CommandError) -> i64 {
        let bytes = self.bytes();
        parse_i64(bytes).unwrap_or_else(|| {
            self.fail(error);
            0
        })
    }

    /// The next argument as a signed 32-bit integer, which is what Redis reads a database index as.
    pub fn integer_32(&mut self) -> i32 {
        let value = self.integer();
        i32::try_from(value).unwrap_or_else(|_| {
            self.fail(CommandError::Fixed(
                "ERR value is out of range, value must between -2147483648 and 2147483647",
            ));
            0
        })
    }

    /// The next argument as an integer within bounds.
    pub fn integer_in(
        &mut self,
        bounds: std::ops::RangeInclusive<i64>,
        error: CommandError,
    ) -> i64 {
        let value = self.integer();
        if self.error.is_none() && !bounds.contains(&value) {
            self.fail(error);
            return *bounds.start();
        }
        value
    }

    /// The next argument as a double, infinities included.
    pub fn double(&mut self) -> f64 {
        let bytes = self.bytes();
        parse_f64(bytes).unwrap_or_else(|| {
            self.fail(CommandError::NotFloat);
            0.0
        })
    }

    /// True, and the argument is consumed, if it is this word in any letter case.
    pub fn option(&mut self, word: &str) -> bool {
        let is_it = self.peek().is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        if is_it {
            self.next += 1;
        }
        is_it
    }

    /// Like [`Args::option`] for a word that needs a value: false when nothing follows it, so that
    /// the word counts as unknown.
    pub fn option_with_value(&mut self, word: &str) -> bool {
        self.remaining() >= 2 && self.option(word)
    }

    /// Latches an error; the first one stays.
    pub fn fail(&mut self, error: CommandError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// The latched error, if any, while arguments may be left.
    pub fn check(&mut self) -> CommandResult {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The latched error, or a syntax error when arguments are left.
    pub fn done(&mut self) -> CommandResult {
        self.check()?;
        if self.is_empty() { Ok(()) } else { Err(CommandError::Syntax) }
    }
}
