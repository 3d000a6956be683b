//! Intsets: small sets of integers as one run of bytes, laid out as Redis lays them out.
//!
//! ```text
//! width u32 (2, 4 or 8) | count u32 | integers of that width, ascending, no two equal
//! ```
//! All integers are as wide as the widest needs; an integer that needs more widens the set, and it
//! never narrows again, just as Redis has it: DUMP and RDB files take the bytes as they are. A
//! lookup is a binary search.
//!
//! Invariant: bytes that [`validate`] accepts, or that [`new_empty`], [`add`] and [`remove`] made,
//! are well-formed; what comes from outside must be validated.

const HEADER_LEN: usize = 8;

/// A reader of a well-formed intset.
#[derive(Clone, Copy)]
pub struct Intset<'a> {
    width: usize,
    /// The integers.
    bytes: &'a [u8],
}

impl<'a> Intset<'a> {
    /// Reads bytes that are known to be an intset: made by this file's functions or validated.
    #[inline]
    pub fn trusted(bytes: &'a [u8]) -> Intset<'a> {
        let width = usize::from(bytes[0]);
        debug_assert!(matches!(width, 2 | 4 | 8));
        Intset { width, bytes: &bytes[HEADER_LEN..] }
    }

    #[inline]
    pub fn len(self) -> usize {
        // The widths are powers of two, and a shift is cheaper than a division.
        self.bytes.len() >> self.width.trailing_zeros()
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The integer at a place in ascending order.
    #[inline]
    pub fn get(self, index: usize) -> Option<i64> {
        let at = index.checked_mul(self.width)?;
        read(self.bytes.get(at..)?, self.width)
    }

    /// Where an integer is, or else where it would be.
    #[inline]
    pub fn search(self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.get(middle).expect("the middle is within bounds");
            match found.cmp(&value) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    #[inline]
    pub fn contains(self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// All integers in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + 'a {
        let width = self.width;
        let integers = self.bytes.chunks_exact(width);
        integers.map(move |bytes| read(bytes, width).expect("the chunk is as wide"))
    }
}

impl std::fmt::Debug for Intset<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// An intset without integers.
pub fn new_empty() -> Vec<u8> {
    vec![2, 0, 0, 0, 0, 0, 0, 0]
}

/// Adds an integer; false if it was there.
pub fn add(intset: &mut Vec<u8>, value: i64) -> bool {
    let view = Intset::trusted(intset);
    let needed = width_of(value);
    if needed > view.width {
        // What needs more room than all others lies beyond all others.
        let index = if value < 0 { 0 } else { view.len() };
        *intset = widened(view, needed);
        insert_at(intset, index, value);
        return true;
    }
    match view.search(value) {
        Ok(_) => false,
        Err(index) => {
            insert_at(intset, index, value);
            true
        }
    }
}

/// Removes an integer; false if it was not there.
pub fn remove(intset: &mut Vec<u8>, value: i64) -> bool {
    let view = Intset::trusted(intset);
    let Ok(index) = view.search(value) else { return false };
    let width = view.width;
    let at = HEADER_LEN + index * width;
    intset.drain(at..at + width);
    write_count(intset);
    true
}

/// Whether foreign bytes are an intset. Without `deep` the order of the integers is not looked at,
/// which is enough to read them but not to find one.
pub fn validate(bytes: &[u8], deep: bool) -> bool {
    let Some((header, integers)) = bytes.split_first_chunk::<HEADER_LEN>() else { return false };
    let [w0, w1, w2, w3, c0, c1, c2, c3] = *header;
    let width @ (2 | 4 | 8) = u32::from_le_bytes([w0, w1, w2, w3]) as usize else { return false };
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    if count == 0 || count.checked_mul(width) != Some(integers.len()) {
        return false;
    }
    let intset = Intset { width, bytes: integers };
    !deep || intset.iter().zip(intset.iter().skip(1)).all(|(a, b)| a < b)
}

fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

#[inline(always)]
fn read(bytes: &[u8], width: usize) -> Option<i64> {
    Some(match width {
        2 => i64::from(i16::from_le_bytes(*bytes.first_chunk()?)),
        4 => i64::from(i32::from_le_bytes(*bytes.first_chunk()?)),
        _ => i64::from_le_bytes(*bytes.first_chunk()?),
    })
}

/// A copy with wider integers and room for one more.
fn widened(view: Intset<'_>, width: usize) -> Vec<u8> {
    let mut wide = Vec::with_capacity(HEADER_LEN + (view.len() + 1) * width);
    wide.extend_from_slice(&(width as u32).to_le_bytes());
    wide.extend_from_slice(&[0; 4]);
    for value in view.iter() {
        wide.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    write_count(&mut wide);
    wide
}

fn insert_at(intset: &mut Vec<u8>, index: usize, value: i64) {
    let width = Intset::trusted(intset).width;
    let at = HEADER_LEN + index * width;
    let old_len = intset.len();
    intset.resize(old_len + width, 0);
    intset.copy_within(at..old_len, at + width);
    intset[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    write_count(intset);
}

fn write_count(intset: &mut [u8]) {
    let count = Intset::trusted(intset).len();
    let count = u32::try_from(count).expect("intsets are converted long before");
    intset[4..8].copy_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(values: &[i64]) -> Vec<u8> {
        let mut bytes = new_empty();
        for value in values {
            add(&mut bytes, *value);
        }
        bytes
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        assert_eq!(of(&[5, -1]), [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0]);
        assert_eq!(
            of(&[5, 65_536]),
            [4, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 1, 0],
            "the wider one goes to the end"
        );
        assert_eq!(
            of(&[5, i64::MIN]),
            [8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 5, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn an_intset_does_as_a_tree_set() {
        let mut prng = Prng::seeded(11);
        for bits in [8, 17, 40, 64] {
            let (mut bytes, mut model) = (new_empty(), BTreeSet::new());
            for step in 0..4000 {
                let value = (prng.next_u64() as i64) >> (64 - bits);
                if prng.below(3) == 0 {
                    assert_eq!(remove(&mut bytes, value), model.remove(&value));
                } else {
                    assert_eq!(add(&mut bytes, value), model.insert(value));
                }
                let view = Intset::trusted(&bytes);
                assert_eq!(view.len(), model.len());
                assert_eq!(view.contains(value), model.contains(&value));
                if step % 97 == 0 {
                    assert!(view.iter().eq(model.iter().copied()));
                    assert_eq!(
                        view.get(view.len() / 2),
                        model.iter().nth(model.len() / 2).copied()
                    );
                    assert_eq!(view.get(view.len()), None);
                    assert_eq!(validate(&bytes, true), !model.is_empty());
                }
            }
        }
    }

    #[test]
    fn disorder_is_found_by_the_deep_look_only() {
        let swapped = [2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 4, 0];
        assert!(validate(&swapped, false));
        assert!(!validate(&swapped, true));
        let twice = [2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 5, 0];
        assert!(!validate(&twice, true));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            width in prop::sample::select(vec![0u8, 1, 2, 4, 8, 255]),
            count in 0u8..5,
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = vec![width, 0, 0, 0, count, 0, 0, 0];
            bytes.extend(&tail);
            for cut in 0..bytes.len() {
                validate(&bytes[..cut], true);
            }
            if validate(&bytes, true) {
                let view = Intset::trusted(&bytes);
                prop_assert!(view.iter().all(|value| view.contains(value)));
            }
        }
    }
}
