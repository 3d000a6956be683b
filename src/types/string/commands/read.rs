//! Commands that read strings: GET, MGET, GETRANGE and SUBSTR, STRLEN.
//!
//! A missing key reads as null for the commands that answer with a whole value, and as the empty
//! string for those that look into it.

use super::{READS, write_string, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Deprecated, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::types::WrongType;

pub(super) static GET: Command = Command {
    name: "get",
    group: Group::String,
    summary: "Returns the value of a string.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key")],
    reply: Shape::BulkOrNull,
    example: "> SET k v\nOK\n> GET k\n\"v\"\n> GET nothing\n(nil)",
    run: get,
    ..Command::BASE
};

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    write_value(cx, &key)?;
    Ok(())
}

pub(super) static MGET: Command = Command {
    name: "mget",
    group: Group::String,
    summary: "Returns the values of several strings at once.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::STRING,
    tips: &["request_policy:multi_shard"],
    keys: &[KeySpec::range(1, -1, 1, READS)],
    args: &[Arg::key("key").multiple()],
    reply: Shape::Array,
    example: "> MSET a 1 b 2\nOK\n> MGET a nothing b\n1) \"1\"\n2) (nil)\n3) \"2\"",
    run: mget,
    ..Command::BASE
};

fn mget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let key = args.key();
        let written = cx.keys.read(&key).map(|entry| write_string(&mut cx.reply, entry));
        // A key of another kind reads as null here: one of them does not spoil the others.
        if written != Some(Ok(())) {
            cx.reply.null();
        }
    }
    args.done()
}

pub(super) static GETRANGE: Command = Command {
    name: "getrange",
    since: "2.4.0",
    group: Group::String,
    summary: "Returns part of a string.",
    complexity: "O(N) with N bytes returned",
    arity: Arity::exactly(4),
    flags: Flags::READONLY,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("end")],
    reply: Shape::Bulk,
    example: "> SET k hummingbird\nOK\n> GETRANGE k 0 2\n\"hum\"\n> GETRANGE k -4 -1\n\"bird\"",
    run: getrange,
    ..Command::BASE
};

pub(super) static SUBSTR: Command = Command {
    name: "substr",
    since: "1.0.0",
    group: Group::String,
    summary: "Returns part of a string, under GETRANGE's old name.",
    complexity: "O(N) with N bytes returned",
    arity: Arity::exactly(4),
    flags: Flags::READONLY,
    acl: Categories::STRING,
    deprecated: Some(Deprecated { since: "2.0.0", replaced_by: "`GETRANGE`" }),
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("end")],
    reply: Shape::Bulk,
    example: "> SET k hummingbird\nOK\n> SUBSTR k 0 2\n\"hum\"",
    run: getrange,
    ..Command::BASE
};

fn getrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (start, end) = (args.integer(), args.integer());
    args.done()?;
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.bulk(b"");
        return Ok(());
    };
    let bytes = entry.string().ok_or(WrongType)?;
    let range = range_of(start, end, bytes.len());
    if range.len() == bytes.len() {
        write_string(&mut cx.reply, entry)?;
    } else {
        cx.reply.bulk(&bytes[range]);
    }
    Ok(())
}

/// The part of `len` bytes from `start` to `end` inclusive, either of which may count from the end.
fn range_of(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    // Two positions before the beginning meet at the first byte, unless they are in the wrong
    // order as they were given.
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_front = |at: i64| {
        let distance = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
        if at < 0 { len.saturating_sub(distance) } else { distance }
    };
    let (start, last) = (from_front(start), from_front(end));
    let end = last.saturating_add(1).min(len);
    if start < end { start..end } else { 0..0 }
}

pub(super) static STRLEN: Command = Command {
    name: "strlen",
    since: "2.2.0",
    group: Group::String,
    summary: "Returns the length of a string.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> SET k rufous\nOK\n> STRLEN k\n(integer) 6\n> STRLEN nothing\n(integer) 0",
    run: strlen,
    ..Command::BASE
};

fn strlen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len = cx.keys.string(&key)?.map_or(0, <[u8]>::len);
    cx.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::range_of;

    #[test]
    fn ranges_are_clamped_at_both_ends() {
        let cases = [
            ((0, 2, 5), 0..3),
            ((0, -1, 5), 0..5),
            ((-3, -2, 5), 2..4),
            ((-9, 1, 5), 0..2),
            ((4, 99, 5), 4..5),
            ((5, 99, 5), 0..0),
            ((3, 2, 5), 0..0),
            ((-2, -3, 5), 0..0),
            // Both before the beginning, in order: the first byte.
            ((-9, -7, 5), 0..1),
            ((0, -9, 5), 0..1),
            ((0, 0, 0), 0..0),
            ((0, -1, 0), 0..0),
            ((i64::MIN, i64::MAX, 5), 0..5),
            ((i64::MIN, i64::MIN, 5), 0..1),
            ((i64::MAX, i64::MAX, 5), 0..0),
            ((i64::MAX, i64::MIN, 5), 0..0),
        ];
        for ((start, end, len), expected) in cases {
            assert_eq!(range_of(start, end, len), expected, "{start} {end} of {len}");
        }
    }
}
