//! The bitmap commands, by theme: [`bit`] (one bit), [`range`] (counting and finding), [`combine`]
//! (BITOP), [`field`] (BITFIELD).
//!
//! Strings grow to reach the bits that are written, so offsets are held to `proto-max-bulk-len`
//! before anything is reserved. A string is written in its place, and only if a bit changes.

mod bit;
mod combine;
mod field;
mod range;
#[cfg(test)]
mod tests;

use crate::command::{Args, Command, CommandError, KeyFlags};
use crate::engine::Cx;
use crate::engine::session::ClientKind;
use crate::keyspace::{Entry, Expiry, Key, NewValue};
use crate::structs::SharedBytes;
use crate::structs::number::parse_i64;
use crate::types::{Encoding, WrongType};

pub static COMMANDS: &[&Command] = &[
    &range::BITCOUNT,
    &field::BITFIELD,
    &field::BITFIELD_RO,
    &combine::BITOP,
    &range::BITPOS,
    &bit::GETBIT,
    &bit::SETBIT,
];

/// Reads bits.
const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
/// Changes bits and answers with what they were.
const UPDATES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);

/// Which bits of a string the running client may name.
#[derive(Clone, Copy)]
struct OffsetLimit {
    bytes: u64,
}

impl OffsetLimit {
    const ERROR: CommandError =
        CommandError::Fixed("ERR bit offset is not an integer or out of range");

    /// What the primary has done is done: its limit may be another than ours.
    fn of(cx: &Cx<'_>) -> OffsetLimit {
        let is_primary = cx.session().kind == ClientKind::Primary;
        let configured = cx.server.config.proto_max_bulk_len as u64;
        OffsetLimit { bytes: if is_primary { isize::MAX as u64 } else { configured } }
    }

    /// The next argument as a bit's offset; `#n` counts in widths, if there is one.
    fn offset(self, args: &mut Args<'_>, width: Option<u32>) -> u64 {
        let word = args.bytes();
        let offset = match (word.strip_prefix(b"#"), width) {
            (Some(index), Some(width)) => {
                parse_i64(index).and_then(|index| index.checked_mul(i64::from(width)))
            }
            _ => parse_i64(word),
        };
        let offset = offset.and_then(|offset| u64::try_from(offset).ok());
        offset.filter(|offset| offset / 8 < self.bytes).unwrap_or_else(|| {
            args.fail(Self::ERROR);
            0
        })
    }

    /// Refuses to write `bits` from `offset` on if the string would become too long.
    fn check(self, offset: u64, bits: u32) -> Result<(), CommandError> {
        let last = offset + (u64::from(bits) - 1);
        if last / 8 < self.bytes { Ok(()) } else { Err(Self::ERROR) }
    }
}

/// Changes a string that has been grown to at least `len` bytes, and is made if it is not there.
/// Whether it grew is told to `edit`.
fn edit_grown<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    len: usize,
    edit: impl Fn(&mut Entry, bool) -> R,
) -> Result<R, CommandError> {
    let edited = cx.keys.edit(key, |entry| {
        let old_len = entry.string().ok_or(WrongType)?.len();
        let grown = old_len.max(len);
        CommandError::unless_memory(grown + grown / 4)?;
        let grows = old_len < len;
        if grows || entry.encoding() != Encoding::Raw {
            // Writing nothing at the new end labels the string as one that was edited.
            entry.set_range(old_len.max(len), b"").expect("the entry is a string");
        }
        Ok(edit(entry, grows))
    });
    if let Some(result) = edited {
        return result;
    }
    CommandError::unless_memory(len)?;
    // Zeroed memory comes from the system untouched, so a far offset costs nothing yet.
    let zeros = NewValue::Shared(SharedBytes::new(vec![0; len]));
    cx.keys.set_string(key, zeros, Encoding::Raw, Expiry::Never);
    Ok(cx.keys.edit(key, |entry| edit(entry, true)).expect("the entry was just put in"))
}
