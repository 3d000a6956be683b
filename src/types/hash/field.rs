//! A field of a big hash: its name and its value, immutable, behind one thin, counted pointer.
//!
//! ```text
//! name len (u8, or ff and u64) | name ... | value ...
//! ```
//! Both lie in one [`Blob`], because whoever finds the name wants the value. The length of the
//! value is what is left. A pair of pointers was refused: the slots of a trie are copied whole
//! when a snapshot shares them, and a table of wide slots has fewer in a cache line.
//!
//! Invariant: a field's bytes are what [`Field::new`] put together, so its parts are there.

use crate::structs::blob::Blob;
use crate::structs::trie::Item;
use smallvec::SmallVec;

/// The short length that says that the long one follows.
const IS_LONG: u8 = u8::MAX;
const LONG_WIDTH: usize = size_of::<u64>();

/// The most bytes of a field that is put together on the stack.
const STACK_LEN: usize = 256;

/// A name and its value. See the head of this file.
#[derive(Clone)]
pub struct Field(Blob);

const _: () = assert!(size_of::<Option<Field>>() == size_of::<usize>());

impl Field {
    pub fn new(name: &[u8], value: &[u8]) -> Field {
        let mut bytes: SmallVec<[u8; STACK_LEN]> = SmallVec::new();
        match u8::try_from(name.len()) {
            Ok(len) if len != IS_LONG => bytes.push(len),
            _ => {
                bytes.push(IS_LONG);
                bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
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
                let (len, rest) =
                    rest.split_first_chunk::<LONG_WIDTH>().expect("a long length follows");
                rest.split_at(u64::from_le_bytes(*len) as usize)
            }
            (len, rest) => rest.split_at(usize::from(*len)),
        }
    }

    /// The memory it takes, whoever shares it.
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

impl Item for Field {
    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.name()
    }

    #[inline]
    fn deadline_ms(&self) -> u64 {
        u64::MAX
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
                let field = Field::new(&name, &value);
                let shared = field.clone();
                drop(field);
                assert_eq!(shared.parts(), (&name[..], &value[..]));
                assert!(shared.memory_bytes() > name_len + value_len);
            }
        }
    }
}
