//! One bit of a string: GETBIT and SETBIT.

use super::{OffsetLimit, READS, UPDATES, edit_grown};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
    Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;

pub(super) static GETBIT: Command = Command {
    name: "getbit",
    since: "2.2.0",
    group: Group::Bitmap,
    summary: "Returns one bit of a string.",
    arity: Arity::exactly(3),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::BITMAP,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("offset")],
    reply: Shape::Integer,
    example: "> SETBIT k 7 1\n(integer) 0\n> GETBIT k 7\n(integer) 1\n> GETBIT k 100\n(integer) 0",
    run: getbit,
    ..Command::BASE
};

fn getbit(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let offset = OffsetLimit::of(cx).offset(args, None);
    args.done()?;
    let bytes = cx.keys.string(&key)?.unwrap_or(b"");
    let byte = usize::try_from(offset / 8).ok().and_then(|at| bytes.get(at));
    let is_one = byte.is_some_and(|byte| byte & mask_of(offset) != 0);
    cx.reply.integer(i64::from(is_one));
    Ok(())
}

fn mask_of(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

pub(super) static SETBIT: Command = Command {
    name: "setbit",
    since: "2.2.0",
    group: Group::Bitmap,
    summary: "Sets one bit of a string, which grows to reach it, and returns the old one.",
    arity: Arity::exactly(4),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::BITMAP,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::integer("offset"), Arg::integer("value")],
    reply: Shape::Integer,
    example: "> SETBIT k 7 1\n(integer) 0\n> SETBIT k 7 0\n(integer) 1\n> GET k\n\"\\x00\"",
    run: setbit,
    ..Command::BASE
};

fn setbit(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const NO_BIT: CommandError = CommandError::Fixed("ERR bit is not an integer or out of range");
    let key = args.key();
    let offset = OffsetLimit::of(cx).offset(args, None);
    args.check()?;
    let bit = args.integer_or(NO_BIT);
    args.done()?;
    if !(0..=1).contains(&bit) {
        return Err(NO_BIT);
    }
    let at = (offset / 8) as usize;
    let (was_one, changed) = edit_grown(cx, &key, at + 1, |entry, grew| {
        let old = entry.string().expect("the entry is a string")[at];
        let was_one = old & mask_of(offset) != 0;
        let changes = was_one != (bit == 1);
        if changes {
            entry.string_mut().expect("the entry is a string")[at] = old ^ mask_of(offset);
        }
        (was_one, changes || grew)
    })?;
    if changed {
        cx.keys.changed(&key, EventClasses::STRING, "setbit");
    }
    cx.reply.integer(i64::from(was_one));
    Ok(())
}
