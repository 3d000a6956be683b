//! Ziplists, the packed form of versions before 10: read only.
//!
//! ```text
//! total bytes u32 | offset of the last entry u32 | count u16 | entry ... | ff
//! entry: length of the one before (u8, or fe and u32) | encoding and length | data
//! ```
//! The lengths that lead backwards are checked on the way forwards.

use crate::persist::rdb::error::RdbError;
use crate::structs::listpack::{self, Element};

const HEADER_LEN: usize = 10;
const END: u8 = 0xff;
/// The count that stands for "too many for 16 bits: count them".
const COUNT_UNKNOWN: u16 = u16::MAX;
const LONG_PREVIOUS: u8 = 0xfe;

/// The same elements as a listpack.
pub fn to_listpack(bytes: &[u8], fault: &'static str) -> Result<Vec<u8>, RdbError> {
    let mut packed = listpack::new_empty();
    let mut is_too_long = false;
    for_each(bytes, fault, |element| {
        is_too_long = is_too_long || listpack::append_element(&mut packed, element).is_err();
    })?;
    if is_too_long { Err(RdbError::Corrupt(fault)) } else { Ok(packed) }
}

/// Visits the elements. When bytes turn out malformed, which is told as `fault`, some have been
/// visited.
pub fn for_each<'z>(
    bytes: &'z [u8],
    fault: &'static str,
    visit: impl FnMut(Element<'z>),
) -> Result<(), RdbError> {
    walk(bytes, visit).ok_or(RdbError::Corrupt(fault))
}

fn walk<'z>(bytes: &'z [u8], mut visit: impl FnMut(Element<'z>)) -> Option<()> {
    let (header, _) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let [t0, t1, t2, t3, l0, l1, l2, l3, c0, c1] = *header;
    let total = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
    let last_at = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let stored_count = u16::from_le_bytes([c0, c1]);
    let (&end, entries) = bytes[HEADER_LEN..].split_last()?;
    if total != bytes.len() || end != END {
        return None;
    }
    let (mut rest, mut previous_len, mut count) = (entries, 0, 0usize);
    let mut previous_at = HEADER_LEN;
    while !rest.is_empty() {
        previous_at = bytes.len() - 1 - rest.len();
        let (element, after) = entry(rest, previous_len)?;
        previous_len = rest.len() - after.len();
        rest = after;
        count += 1;
        visit(element);
    }
    let is_counted = stored_count == COUNT_UNKNOWN || usize::from(stored_count) == count;
    (is_counted && last_at == previous_at).then_some(())
}

/// The entry at the start of some bytes, and what follows it.
fn entry(bytes: &[u8], previous_len: usize) -> Option<(Element<'_>, &[u8])> {
    let (stored_len, rest) = match bytes.split_first()? {
        (&END, _) => return None,
        (&LONG_PREVIOUS, rest) => {
            let (len, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        (&len, rest) => (usize::from(len), rest),
    };
    if stored_len != previous_len {
        return None;
    }
    let (&encoding, rest) = rest.split_first()?;
    match encoding {
        0..0x40 => text(rest, usize::from(encoding)),
        0x40..0x80 => {
            let (&low, rest) = rest.split_first()?;
            text(rest, usize::from(encoding & 0x3f) << 8 | usize::from(low))
        }
        0x80..0xc0 => {
            let (len, rest) = rest.split_first_chunk()?;
            text(rest, u32::from_be_bytes(*len) as usize)
        }
        0xc0 => number(rest, |bytes| i16::from_le_bytes(bytes).into()),
        0xd0 => number(rest, |bytes| i32::from_le_bytes(bytes).into()),
        0xe0 => number(rest, i64::from_le_bytes),
        0xf0 => number(rest, |[a, b, c]| i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)),
        0xfe => number(rest, |bytes| i8::from_le_bytes(bytes).into()),
        0xf1..=0xfd => Some((Element::Int(i64::from(encoding & 0xf) - 1), rest)),
        _ => None,
    }
}

/// A text that is an integer is held as one in a listpack.
fn text(bytes: &[u8], len: usize) -> Option<(Element<'_>, &[u8])> {
    let (text, rest) = bytes.split_at_checked(len)?;
    Some((Element::of(text), rest))
}

fn number<const N: usize>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> i64,
) -> Option<(Element<'_>, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((Element::Int(read(*number)), rest))
}
