//! What is known of a node in one bit each, as it stands in packets.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const PRIMARY: Flags = Flags(1);
    pub const REPLICA: Flags = Flags(1 << 1);
    /// It does not answer us.
    pub const PFAIL: Flags = Flags(1 << 2);
    /// It does not answer the majority.
    pub const FAIL: Flags = Flags(1 << 3);
    pub const MYSELF: Flags = Flags(1 << 4);
    /// It was not heard of yet; its name is made up.
    pub const HANDSHAKE: Flags = Flags(1 << 5);
    pub const NOADDR: Flags = Flags(1 << 6);
    /// It is to be sent a MEET.
    pub const MEET: Flags = Flags(1 << 7);
    /// Replicas of others may migrate to this primary if it loses its own.
    pub const MIGRATE_TO: Flags = Flags(1 << 8);
    /// A replica that does not want to be promoted.
    pub const NOFAILOVER: Flags = Flags(1 << 9);
    pub const EXTENSIONS: Flags = Flags(1 << 10);
    /// It understands messages with the short header.
    pub const LIGHT_HEADER: Flags = Flags(1 << 11);

    pub const ROLE: Flags = Flags::PRIMARY.or(Flags::REPLICA);

    /// The words for them, in the order in which CLUSTER NODES has them. The others have none.
    const WORDS: &[(Flags, &str)] = &[
        (Flags::MYSELF, "myself"),
        (Flags::PRIMARY, "master"),
        (Flags::REPLICA, "slave"),
        (Flags::PFAIL, "fail?"),
        (Flags::FAIL, "fail"),
        (Flags::HANDSHAKE, "handshake"),
        (Flags::NOADDR, "noaddr"),
        (Flags::NOFAILOVER, "nofailover"),
    ];

    pub const fn from_bits(bits: u16) -> Flags {
        Flags(bits)
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    pub const fn has(self, any_of: Flags) -> bool {
        self.0 & any_of.0 != 0
    }

    /// That of a word in a file, where newer names of the roles are known too.
    pub fn of_word(word: &[u8]) -> Option<Flags> {
        let other = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if other("noflags") {
            return Some(Flags::NONE);
        }
        let known = Flags::WORDS.iter().find(|(_, name)| other(name)).map(|(flag, _)| *flag);
        let newer = || {
            let names = [(Flags::PRIMARY, "primary"), (Flags::REPLICA, "replica")];
            names.into_iter().find(|(_, name)| other(name)).map(|(flag, _)| flag)
        };
        known.or_else(newer)
    }
}

/// Their words with commas between, as CLUSTER NODES shows them.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, word) in Flags::WORDS.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{separator}{word}")?;
            separator = ",";
        }
        if separator.is_empty() { f.write_str("noflags") } else { Ok(()) }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_the_order_of_redis_and_are_read_again() {
        let every = Flags::from_bits(u16::MAX);
        let words = "myself,master,slave,fail?,fail,handshake,noaddr,nofailover";
        assert_eq!(every.to_string(), words);
        let read = |words: &str| {
            let flags = words.split(',').map(|word| Flags::of_word(word.as_bytes()));
            flags.fold(Flags::NONE, |all, flag| all.or(flag.expect("it is known")))
        };
        assert_eq!(read(words).to_string(), words);
        assert_eq!(Flags::MEET.to_string(), "noflags");
        assert_eq!(read("noflags"), Flags::NONE);
        assert_eq!(read("primary,Replica"), Flags::ROLE);
        assert_eq!(Flags::of_word(b"fail!"), None);
    }
}
