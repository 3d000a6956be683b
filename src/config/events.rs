//! Which keyspace events are published: the value of `notify-keyspace-events`.
//!
//! A set of classes in one word, so that asking "does anybody want this event" costs one AND on
//! the write path. Letters are read in any order and printed in Redis's order; `A` stands for
//! every class of events except misses and new keys. Events go nowhere unless a channel kind
//! (`K`, `E`) is set too.

use super::quote::quote;
use super::value::{Kind, Line, Reason, Setting, Source, only};

/// A set of event classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EventClasses(u16);

impl EventClasses {
    pub const NONE: Self = Self(0);
    /// Publish on `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: Self = Self(1);
    /// Publish on `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: Self = Self(1 << 1);
    pub const GENERIC: Self = Self(1 << 2);
    pub const STRING: Self = Self(1 << 3);
    pub const LIST: Self = Self(1 << 4);
    pub const SET: Self = Self(1 << 5);
    pub const HASH: Self = Self(1 << 6);
    pub const ZSET: Self = Self(1 << 7);
    pub const EXPIRED: Self = Self(1 << 8);
    pub const EVICTED: Self = Self(1 << 9);
    pub const STREAM: Self = Self(1 << 10);
    pub const KEY_MISS: Self = Self(1 << 11);
    pub const MODULE: Self = Self(1 << 12);
    pub const NEW: Self = Self(1 << 13);
    /// What the letter `A` means.
    pub const ALL: Self = Self(0b1_0111_1111_1100);

    /// Letters in the order they are printed.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if every class of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if some class of `other` is in the set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Reads letters in any order; nothing if one of them is unknown.
    pub fn from_letters(letters: &[u8]) -> Option<Self> {
        let mut classes = Self::NONE;
        for letter in letters {
            let class = match letter {
                b'A' => Self::ALL,
                letter => Self::LETTERS.iter().find(|(known, _)| known == letter)?.1,
            };
            classes = classes.or(class);
        }
        Some(classes)
    }

    /// The letters, shortest form. Redis 7.2 leaves out `n` beside `A`, so that setting what was
    /// got loses it; here it is printed.
    pub fn letters(self) -> Vec<u8> {
        let all = self.contains(Self::ALL);
        let hidden = |class: Self| all && Self::ALL.contains(class);
        let mut letters = if all { b"A".to_vec() } else { Vec::new() };
        for (letter, class) in Self::LETTERS {
            if self.contains(class) && !hidden(class) {
                letters.push(letter);
            }
        }
        letters
    }
}

impl Setting for EventClasses {
    type Rule = ();

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        Self::from_letters(only(args)?)
            .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
    }

    fn print(&self, (): &()) -> Vec<u8> {
        self.letters()
    }

    fn kind((): &()) -> Kind {
        Kind::Special("<letters out of Ag$lshzxeKEtmdn>")
    }

    fn lines(&self, (): &(), default: &Self) -> Vec<Line> {
        vec![Line { arguments: quote(&self.letters()), forced: self != default }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(letters: &str) -> Option<String> {
        let classes = EventClasses::from_letters(letters.as_bytes())?;
        Some(String::from_utf8(classes.letters()).expect("letters are ASCII"))
    }

    #[test]
    fn letters_print_in_redis_order() {
        for (written, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Kg$lshzxetd", "AK"),
            ("mEKx", "xKEm"),
            ("nz$", "$zn"),
            ("AKEm", "AKEm"),
            ("mAn", "Anm"),
        ] {
            assert_eq!(printed(written).as_deref(), Some(shown), "{written}");
        }
        assert_eq!(printed("KEq"), None);
    }

    #[test]
    fn all_is_every_class_but_misses_and_new_keys() {
        assert!(EventClasses::ALL.contains(EventClasses::MODULE.or(EventClasses::GENERIC)));
        for class in [
            EventClasses::KEY_MISS,
            EventClasses::NEW,
            EventClasses::KEYSPACE,
            EventClasses::KEYEVENT,
        ] {
            assert!(!EventClasses::ALL.intersects(class));
        }
    }
}
