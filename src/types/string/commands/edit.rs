//! Writes to part of a string: APPEND and SETRANGE.
//!
//! Strings that grow are held to `proto-max-bulk-len`, since a longer one could be neither read
//! nor replicated. Offsets stay 64 bits wide until they have passed that check.

use super::store;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::engine::session::ClientKind;
use crate::keyspace::{Expiry, NewValue};
use crate::structs::SharedBytes;
use crate::types::Encoding;

pub(super) static APPEND: Command = Command {
    name: "append",
    since: "2.0.0",
    group: Group::String,
    summary: "Adds bytes to the end of a string; a missing key counts as empty.",
    complexity: "O(1) amortized, with a short value",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[Arg::key("key"), Arg::string("value")],
    reply: Shape::Integer,
    example: "> APPEND k humming\n(integer) 7\n> APPEND k bird\n(integer) 11\n> GET k\n\
              \"hummingbird\"",
    run: append,
    ..Command::BASE
};

fn append(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let value = args.value();
    args.done()?;
    let limit = LengthLimit::of(cx);
    let len = cx.keys.edit(&key, |entry| {
        let old = entry.string().ok_or(CommandError::WrongType)?;
        let end = limit.check(old.len() as u64, value.0.len())? + value.0.len();
        CommandError::unless_memory(end + end / 4)?;
        Ok::<_, CommandError>(entry.append(value.0).expect("the entry is a string"))
    });
    let len = match len {
        Some(len) => len?,
        None => {
            store(cx, &key, value, Expiry::Never);
            value.0.len()
        }
    };
    cx.keys.changed(&key, EventClasses::STRING, "append");
    cx.reply.integer(len as i64);
    Ok(())
}

pub(super) static SETRANGE: Command = Command {
    name: "setrange",
    since: "2.2.0",
    group: Group::String,
    summary: "Overwrites part of a string from an offset on; gaps are filled with zeros.",
    complexity: "O(N) with N bytes written or filled",
    arity: Arity::exactly(4),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), Arg::integer("offset"), Arg::string("value")],
    reply: Shape::Integer,
    example: "> SET k hummingbird\nOK\n> SETRANGE k 7 bard\n(integer) 11\n> GET k\n\"hummingbard\"",
    run: setrange,
    ..Command::BASE
};

fn setrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let offset = args.integer();
    args.check()?;
    let value = args.bytes();
    args.done()?;
    let offset =
        u64::try_from(offset).map_err(|_| CommandError::Fixed("ERR offset is out of range"))?;
    if value.is_empty() {
        // Nothing is written, not even the gap up to the offset.
        let old = cx.keys.peek(&key).map(|entry| entry.string().ok_or(CommandError::WrongType));
        cx.reply.integer(old.transpose()?.map_or(0, <[u8]>::len) as i64);
        return Ok(());
    }
    let limit = LengthLimit::of(cx);
    let len = cx.keys.edit(&key, |entry| {
        let old = entry.string().ok_or(CommandError::WrongType)?;
        let offset = limit.check(offset, value.len())?;
        let len = old.len().max(offset + value.len());
        CommandError::unless_memory(len + len / 4)?;
        Ok::<_, CommandError>(entry.set_range(offset, value).expect("the entry is a string"))
    });
    let len = match len {
        Some(len) => len?,
        None => {
            let offset = limit.check(offset, value.len())?;
            CommandError::unless_memory(offset + value.len())?;
            // Zeroed memory comes from the system untouched, so a far offset costs nothing yet.
            let mut bytes = vec![0; offset + value.len()];
            bytes[offset..].copy_from_slice(value);
            let len = bytes.len();
            let shared = NewValue::Shared(SharedBytes::new(bytes));
            cx.keys.set_string(&key, shared, Encoding::Raw, Expiry::Never);
            len
        }
    };
    cx.keys.changed(&key, EventClasses::STRING, "setrange");
    cx.reply.integer(len as i64);
    Ok(())
}

/// How long strings may grow for the running client.
#[derive(Clone, Copy)]
struct LengthLimit(u64);

impl LengthLimit {
    /// What the primary has done is done: its limit may be another than ours.
    fn of(cx: &Cx<'_>) -> LengthLimit {
        if cx.session().kind == ClientKind::Primary {
            return LengthLimit(isize::MAX as u64);
        }
        LengthLimit(cx.server.config.proto_max_bulk_len as u64)
    }

    /// Refuses a string that would reach `added` bytes beyond `offset`; yields the offset.
    fn check(self, offset: u64, added: usize) -> Result<usize, CommandError> {
        let end = offset.checked_add(added as u64).filter(|end| *end <= self.0);
        end.and_then(|_| usize::try_from(offset).ok()).ok_or(CommandError::StringTooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_in_64_bits() {
        let limit = LengthLimit(100);
        assert_eq!(limit.check(99, 1), Ok(99));
        assert_eq!(limit.check(0, 100), Ok(0));
        for (offset, added) in [(100, 1), (0, 101), (1 << 32, 1), (u64::MAX, 1), (u64::MAX, 0)] {
            assert_eq!(limit.check(offset, added), Err(CommandError::StringTooLong));
        }
    }
}
