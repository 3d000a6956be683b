//! Zipmaps, the small hashes of versions before 4: read only.
//!
//! ```text
//! count u8 (254 and more: walk) | length | field | length | slack u8 | value | slack ... | ff
//! length: u8 below 254, or fe and u32
//! ```
//! A length has one form only: a long one for a small number was a way to have a check and a walk
//! see different fields.

use crate::persist::rdb::error::RdbError;

const END: u8 = 0xff;
const LONG: u8 = 0xfe;

const MALFORMED: RdbError = RdbError::Corrupt("Zipmap integrity check failed.");

/// Visits fields and values. When bytes turn out malformed, some have been visited.
pub fn for_each<'z>(
    bytes: &'z [u8],
    mut visit: impl FnMut(&'z [u8], &'z [u8]),
) -> Result<(), RdbError> {
    let (&stored_count, rest) = bytes.split_first().ok_or(MALFORMED)?;
    let (&end, mut rest) = rest.split_last().ok_or(MALFORMED)?;
    if end != END {
        return Err(MALFORMED);
    }
    let mut count = 0usize;
    while !rest.is_empty() {
        let (field, value, after) = pair(rest).ok_or(MALFORMED)?;
        visit(field, value);
        rest = after;
        count += 1;
    }
    let is_counted = stored_count >= LONG || usize::from(stored_count) == count;
    if is_counted && count > 0 { Ok(()) } else { Err(MALFORMED) }
}

/// The first field with its value, and what follows them.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (len, rest) = length(bytes)?;
    let (field, rest) = rest.split_at_checked(len)?;
    let (len, rest) = length(rest)?;
    let (&slack, rest) = rest.split_first()?;
    let (value, rest) = rest.split_at_checked(len)?;
    let (_, rest) = rest.split_at_checked(usize::from(slack))?;
    Some((field, value, rest))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.split_first()? {
        (&END, _) => None,
        (&LONG, rest) => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u32::from_le_bytes(*len);
            (len >= u32::from(LONG)).then_some((len as usize, rest))
        }
        (&len, rest) => Some((usize::from(len), rest)),
    }
}
