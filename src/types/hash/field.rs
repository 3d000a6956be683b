//! A field of a big hash: its name and its value, immutable, behind one thin, counted pointer.
//!
//! ```text
//! name len (u8, or ff and u64) | name ... | value ...
//! ```
//! A field that expires has the long length with its top bit set, and the time behind it, so that
//! fields that do not expire pay nothing for those that do.
//!
//! Both lie in one [`Blob`], because whoever finds the name wants the value. The length of the
//! value is what is left. A pair of pointers was refused: the slots of a trie are copied whole
//! when a snapshot shares them, and a table of wide slots has fewer in a cache line.
//!
//! Invariant: a field's bytes are what [`Field::new`] put together, so its parts are there.

use crate::structs::blob::Blob;
use crate::structs::trie::Item;
use crate::types::MemberHash;
use smallvec::SmallVec;

/// The short length that says that the long one follows.
const IS_LONG: u8 = u8::MAX;
const LONG_WIDTH: usize = size_of::<u64>();

/// The bit of a long length that says that the time of expiry follows.
const IS_TIMED: u64 = 1 << 63;

/// The most bytes of a field that is put together on the stack.
const STACK_LEN: usize = 256;

/// A name and its value. See the head of this file.
#[derive(Clone)]
pub struct Field(Blob);

const _: () = assert!(size_of::<Option<Field>>() == size_of::<usize>());

impl Field {
    pub fn new(name: &[u8], value: &[u8], expiry_ms: Option<u64>) -> Field {
        let mut bytes: SmallVec<[u8; STACK_LEN]> = SmallVec::new();
        match u8::try_from(name.len()) {
            Ok(len) if len != IS_LONG && expiry_ms.is_none() => bytes.push(len),
            _ => {
                bytes.push(IS_LONG);
                let timed = if expiry_ms.is_some() { IS_TIMED } else { 0 };
                bytes.extend_from_slice(&(name.len() as u64 | timed).to_le_bytes());
                if let Some(at_ms) = expiry_ms {
                    bytes.extend_from_slice(&at_ms.to_le_bytes());
                }
            }
        }
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        Field(Blob::new(&bytes))
    }

    #[inline]
    pub fn name(&self) -> &[u8] {
        self.parts().0
    }

    #[inline]
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// The name and the value.
    #[inline]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.0.as_bytes();
        match bytes.split_first().expect("a field has a length") {
            (&IS_LONG, rest) => {
                let (len, rest) = split_long(rest);
                let rest = if len & IS_TIMED == 0 { rest } else { split_long(rest).1 };
                rest.split_at((len & !IS_TIMED) as usize)
            }
            (len, rest) => rest.split_at(usize::from(*len)),
        }
    }

    /// When it expires, in Unix milliseconds.
    #[inline]
    pub fn expiry_ms(&self) -> Option<u64> {
        match self.0.as_bytes().split_first() {
            Some((&IS_LONG, rest)) => {
                let (len, rest) = split_long(rest);
                (len & IS_TIMED != 0).then(|| split_long(rest).0)
            }
            _ => None,
        }
    }

    /// The memory it takes, whoever shares it.
    /// Whether a snapshot shares it.
    pub fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

fn split_long(bytes: &[u8]) -> (u64, &[u8]) {
    let (number, rest) = bytes.split_first_chunk::<LONG_WIDTH>().expect("a long number follows");
    (u64::from_le_bytes(*number), rest)
}

impl Item for Field {
    type Hash = MemberHash;

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.name()
    }

    #[inline]
    fn deadline_ms(&self) -> u64 {
        self.expiry_ms().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn prefetch(&self) {
        self.0.prefetch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_parts() {
        let lens = [0, 1, 7, 254, 255, 256, 5000];
        for name_len in lens {
            for value_len in lens {
                let name: Vec<u8> = (0..name_len).map(|i| i as u8).collect();
                let value = vec![0xff; value_len];
                for expiry_ms in [None, Some(0), Some(u64::MAX - 1)] {
                    let field = Field::new(&name, &value, expiry_ms);
                    let shared = field.clone();
                    drop(field);
                    assert_eq!(shared.parts(), (&name[..], &value[..]));
                    assert_eq!(shared.expiry_ms(), expiry_ms);
                    assert!(shared.memory_bytes() > name_len + value_len);
                }
            }
        }
    }
}
