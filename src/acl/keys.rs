//! Patterns of keys and of channels, ready to be matched for each request.
//!
//! Most patterns are a name, or a name and a star. The part before the first special byte is
//! compared at once; only what that leaves is given to the glob, so a user of twenty patterns costs
//! little more than one of two.

use crate::command::KeyFlags;
use crate::structs::glob::{self, Case};

/// How a key may be used, or is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u8);

impl Access {
    /// Whatever is found out of a key without its data: anybody who may use the key at all.
    pub const NONE: Access = Access(0);
    pub const READ: Access = Access(1);
    pub const WRITE: Access = Access(2);
    pub const ALL: Access = Access(3);

    /// The letters in front of a tilde, and what stands behind it.
    pub fn parse(text: &[u8]) -> Option<(Access, &[u8])> {
        let tilde = text.iter().position(|byte| *byte == b'~')?;
        let mut access = Access::NONE;
        for letter in &text[..tilde] {
            let one = match letter.to_ascii_uppercase() {
                b'R' => Access::READ,
                b'W' => Access::WRITE,
                _ => return None,
            };
            if access.has(one) {
                return None;
            }
            access = access.or(one);
        }
        (access != Access::NONE).then_some((access, &text[tilde + 1..]))
    }

    /// What a command needs that uses a key so.
    #[inline]
    pub fn needed(flags: KeyFlags) -> Access {
        const WRITES: KeyFlags = KeyFlags::INSERT.or(KeyFlags::UPDATE).or(KeyFlags::DELETE);
        let read = if flags.has(KeyFlags::ACCESS) { Access::READ } else { Access::NONE };
        let write = if flags.intersects(WRITES) { Access::WRITE } else { Access::NONE };
        read.or(write)
    }

    pub const fn or(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    #[inline]
    pub const fn has(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }

    /// What stands in front of a pattern in a rule.
    fn mark(self) -> &'static str {
        match self {
            Access::READ => "%R~",
            Access::WRITE => "%W~",
            _ => "~",
        }
    }
}

/// How what follows the begin of a pattern is matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    Nothing,
    Anything,
    Glob,
}

/// A glob pattern with its plain begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: Box<[u8]>,
    begin_len: usize,
    rest: Rest,
}

impl Pattern {
    pub fn new(text: &[u8]) -> Pattern {
        let special = text.iter().position(|byte| b"*?[\\".contains(byte));
        let begin_len = special.unwrap_or(text.len());
        let rest = match &text[begin_len..] {
            [] => Rest::Nothing,
            stars if stars.iter().all(|byte| *byte == b'*') => Rest::Anything,
            _ => Rest::Glob,
        };
        Pattern { text: text.into(), begin_len, rest }
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }

    #[inline]
    pub fn matches(&self, name: &[u8]) -> bool {
        let begin = &self.text[..self.begin_len];
        if !name.starts_with(begin) {
            return false;
        }
        match self.rest {
            Rest::Nothing => name.len() == begin.len(),
            // As everywhere, no pattern but the empty one matches the empty name.
            Rest::Anything => !name.is_empty(),
            Rest::Glob => glob::matches(&self.text, name, Case::Sensitive),
        }
    }

    /// Whether it matches everything.
    pub fn is_everything(&self) -> bool {
        self.begin_len == 0 && self.rest == Rest::Anything
    }

    /// Whether it matches each name that begins so.
    pub fn covers(&self, prefix: &[u8]) -> bool {
        self.rest == Rest::Anything && prefix.starts_with(&self.text[..self.begin_len])
    }
}

/// The keys that a selector is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    All,
    Some(Vec<(Access, Pattern)>),
}

impl Keys {
    /// Adds a pattern; to one that is known its access is added. False if there is nothing to add,
    /// since all keys are in already.
    #[must_use]
    pub fn add(&mut self, access: Access, text: &[u8]) -> bool {
        let Keys::Some(patterns) = self else { return false };
        match patterns.iter_mut().find(|(_, pattern)| *pattern.text == *text) {
            Some((known, _)) => *known = known.or(access),
            None => patterns.push((access, Pattern::new(text))),
        }
        true
    }

    #[inline]
    pub fn allow(&self, key: &[u8], needed: Access) -> bool {
        match self {
            Keys::All => true,
            Keys::Some(patterns) => {
                patterns.iter().any(|(access, pattern)| access.has(needed) && pattern.matches(key))
            }
        }
    }

    /// Whether every key may be used so.
    pub fn allow_all(&self, needed: Access) -> bool {
        self.any(needed, Pattern::is_everything)
    }

    /// Whether every key that begins so may be used so.
    pub fn allow_prefix(&self, prefix: &[u8], needed: Access) -> bool {
        self.any(needed, |pattern| pattern.covers(prefix))
    }

    fn any(&self, needed: Access, is_it: impl Fn(&Pattern) -> bool) -> bool {
        match self {
            Keys::All => true,
            Keys::Some(patterns) => {
                patterns.iter().any(|(access, pattern)| access.has(needed) && is_it(pattern))
            }
        }
    }

    /// As rules, one word each.
    pub fn words(&self) -> Vec<Vec<u8>> {
        match self {
            Keys::All => vec![b"~*".to_vec()],
            Keys::Some(patterns) => {
                let word = |(access, pattern): &(Access, Pattern)| {
                    [access.mark().as_bytes(), &pattern.text].concat()
                };
                patterns.iter().map(word).collect()
            }
        }
    }
}

/// The channels that a selector is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Channels {
    All,
    Some(Vec<Pattern>),
}

/// How a command names a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    Name,
    Pattern,
}

impl Channels {
    /// False if there is nothing to add, since all channels are in already.
    #[must_use]
    pub fn add(&mut self, text: &[u8]) -> bool {
        let Channels::Some(patterns) = self else { return false };
        if !patterns.iter().any(|pattern| *pattern.text == *text) {
            patterns.push(Pattern::new(text));
        }
        true
    }

    /// Whether a channel may be used. What a pattern would match cannot be told, so that has to be
    /// an allowed one, letter by letter.
    pub fn allow(&self, name: &[u8], naming: Naming) -> bool {
        let Channels::Some(patterns) = self else { return true };
        patterns.iter().any(|pattern| match naming {
            Naming::Name => pattern.matches(name),
            Naming::Pattern => *pattern.text == *name,
        })
    }

    pub fn words(&self) -> Vec<Vec<u8>> {
        match self {
            Channels::All => vec![b"&*".to_vec()],
            Channels::Some(patterns) => {
                patterns.iter().map(|pattern| [b"&", &*pattern.text].concat()).collect()
            }
        }
    }
}

/// The databases that a selector is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Databases {
    All,
    /// In order.
    Some(Vec<u32>),
}

impl Databases {
    #[inline]
    pub fn allow(&self, db: usize) -> bool {
        match self {
            Databases::All => true,
            Databases::Some(numbers) => {
                u32::try_from(db).is_ok_and(|db| numbers.binary_search(&db).is_ok())
            }
        }
    }

    /// As a rule; none if nothing was said.
    pub fn word(&self) -> Option<String> {
        match self {
            Databases::All => None,
            Databases::Some(numbers) if numbers.is_empty() => Some("resetdbs".to_owned()),
            Databases::Some(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                Some(format!("db={}", numbers.join(",")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pattern_matches_what_the_glob_matches(
            text in "[ab*?\\[\\]\\\\^-]{0,6}",
            name in "[ab]{0,5}",
        ) {
            let expected = glob::matches(text.as_bytes(), name.as_bytes(), Case::Sensitive);
            prop_assert_eq!(Pattern::new(text.as_bytes()).matches(name.as_bytes()), expected);
        }

        #[test]
        fn what_covers_a_prefix_matches_all_that_begins_so(
            text in "[ab*?]{0,4}",
            prefix in "[ab]{0,3}",
            tail in "[abc]{0,3}",
        ) {
            let pattern = Pattern::new(text.as_bytes());
            let name = format!("{prefix}{tail}");
            if pattern.covers(prefix.as_bytes()) && !name.is_empty() {
                prop_assert!(pattern.matches(name.as_bytes()));
            }
        }
    }

    #[test]
    fn one_pattern_must_have_all_that_is_needed() {
        let mut keys = Keys::Some(Vec::new());
        assert!(keys.add(Access::READ, b"a*") && keys.add(Access::WRITE, b"ab*"));
        assert!(keys.allow(b"ab", Access::READ) && keys.allow(b"ab", Access::WRITE));
        assert!(!keys.allow(b"ab", Access::ALL));
        assert!(keys.allow(b"a", Access::NONE) && !keys.allow(b"b", Access::NONE));
        assert!(keys.add(Access::WRITE, b"a*"));
        assert!(keys.allow(b"ab", Access::ALL));
        assert_eq!(keys.words(), [b"~a*".to_vec(), b"%W~ab*".to_vec()]);
    }
}
