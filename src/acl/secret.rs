//! Passwords as they are kept: their SHA-256, compared in a time that tells nothing.
//!
//! A slow hash was refused: logins are frequent, these are secrets between programs, which should
//! be long random words (ACL GENPASS), and files written for Redis hold this hash.

use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// The hash of a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(password: &[u8]) -> Digest {
        Digest(Sha256::digest(password).into())
    }

    /// Reads 64 hexadecimal digits in lower case.
    pub fn parse(text: &[u8]) -> Option<Digest> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether a password is one of those whose hashes these are. All are looked at, whichever it is.
pub fn is_among(password: &[u8], known: &[Digest]) -> bool {
    let given = Digest::of(password);
    let equal =
        known.iter().fold(Choice::from(0), |found, digest| found | digest.0.ct_eq(&given.0));
    equal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_and_are_read_as_they_are_written() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::parse(text.as_bytes()), Some(digest));
        let upper = text.to_ascii_uppercase();
        for wrong in [&text[1..], &upper, &text.replace('b', "g"), "", &format!("{text}0")] {
            assert_eq!(Digest::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn any_of_several_passwords_will_do() {
        let known = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"")];
        for password in [&b"a"[..], b"b", b""] {
            assert!(is_among(password, &known));
        }
        for wrong in [&b"c"[..], b"A", b"aa", b"a\0"] {
            assert!(!is_among(wrong, &known), "{wrong:?}");
        }
        assert!(!is_among(b"", &[]));
    }
}
