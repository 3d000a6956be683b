//! Entries by ID: XLEN, XRANGE, XREVRANGE.

use super::{end_of, is_long, start_of, stream_of, write_entries};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::resp::Reply;
use crate::types::stream::{Entries, StreamId};

pub(super) static XLEN: Command = Command {
    name: "xlen",
    since: "5.0.0",
    group: Group::Stream,
    summary: "Counts the entries of a stream.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::STREAM,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XLEN s\n(integer) 1",
    run: xlen,
    ..Command::BASE
};

fn xlen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len =
        cx.keys.read(&key).map(stream_of).transpose()?.map_or(0, |stream| stream.entries.len());
    cx.reply.integer(len as i64);
    Ok(())
}

const RANGE: Command = Command {
    since: "5.0.0",
    group: Group::Stream,
    complexity: "O(N) with N entries in the answer",
    arity: Arity::at_least(4),
    flags: Flags::READONLY,
    acl: Categories::STREAM,
    history: &[("6.2.0", "Took ends that do not belong to the range.")],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    ..Command::BASE
};

pub(super) static XRANGE: Command = Command {
    name: "xrange",
    summary: "Returns the entries between two IDs, oldest first.",
    args: &[
        Arg::key("key"),
        Arg::string("start"),
        Arg::string("end"),
        Arg::integer("count").token("COUNT").optional(),
    ],
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XRANGE s - +\n1) 1) \"1-1\"\n   2) 1) \"f\"\n\
              \x20     2) \"v\"",
    run: |cx, args| range(cx, args, false),
    ..RANGE
};

pub(super) static XREVRANGE: Command = Command {
    name: "xrevrange",
    summary: "Returns the entries between two IDs, newest first.",
    args: &[
        Arg::key("key"),
        Arg::string("end"),
        Arg::string("start"),
        Arg::integer("count").token("COUNT").optional(),
    ],
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XREVRANGE s + - COUNT 1\n1) 1) \"1-1\"\n   2) 1) \"f\"\n\
              \x20     2) \"v\"",
    run: |cx, args| range(cx, args, true),
    ..RANGE
};

fn range(cx: &mut Cx<'_>, args: &mut Args<'_>, backwards: bool) -> CommandResult {
    let key = args.key();
    let (first, second) = (args.bytes(), args.bytes());
    let (start, end) = if backwards { (second, first) } else { (first, second) };
    let (start, end) = (start_of(start)?, end_of(end)?);
    let mut max = None;
    while !args.is_empty() {
        if !args.option_with_value("count") {
            return Err(CommandError::Syntax);
        }
        max = Some(usize::try_from(args.integer()).unwrap_or(0));
        args.check()?;
    }
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let entries = &stream_of(entry)?.entries;
    if max == Some(0) {
        cx.reply.null_array();
        return Ok(());
    }
    let max = max.unwrap_or(usize::MAX);
    // A long answer is written from a snapshot on another thread, and others need not wait.
    if is_long(entries, start, end, max) {
        let entries = entries.clone();
        return cx.answer_by(move |reply| {
            write_range(reply, &entries, start, end, backwards, max);
            Ok(())
        });
    }
    write_range(&mut cx.reply, entries, start, end, backwards, max);
    Ok(())
}

fn write_range(
    reply: &mut Reply<'_>,
    entries: &Entries,
    start: StreamId,
    end: StreamId,
    backwards: bool,
    max: usize,
) {
    let range = entries.range(start, end);
    if backwards {
        write_entries(reply, range.rev(), max);
    } else {
        write_entries(reply, range, max);
    }
}
