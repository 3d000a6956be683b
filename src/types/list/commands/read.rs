//! Commands that read lists: LINDEX, LLEN, LRANGE.

use super::{READS, list_of, write_range, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::resp::ReplyBuf;
use crate::types::list::ListRef;

/// Longer answers are written on another thread.
const INLINE_ELEMENTS_MAX: usize = 100_000;

pub(super) static LLEN: Command = Command {
    name: "llen",
    group: Group::List,
    summary: "Returns the length of a list.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> LLEN k\n(integer) 0\n> RPUSH k a b\n(integer) 2\n> LLEN k\n(integer) 2",
    run: llen,
    ..Command::BASE
};

fn llen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len = cx.keys.read(&key).map(list_of).transpose()?.map_or(0, ListRef::len);
    cx.reply.integer(len as i64);
    Ok(())
}

pub(super) static LINDEX: Command = Command {
    name: "lindex",
    group: Group::List,
    summary: "Returns the element at an index, which counts from the end if negative.",
    complexity: "O(log N) with N elements",
    arity: Arity::exactly(3),
    flags: Flags::READONLY,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("index")],
    reply: Shape::BulkOrNull,
    example: "> RPUSH k a b\n(integer) 2\n> LINDEX k -1\n\"b\"\n> LINDEX k 2\n(nil)",
    run: lindex,
    ..Command::BASE
};

fn lindex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let index = args.integer();
    let Cx { keys, reply, .. } = cx;
    let Some(entry) = keys.read(&key) else {
        reply.null();
        return Ok(());
    };
    let list = list_of(entry)?;
    args.done()?;
    match list.index(index).and_then(|index| list.get(index)) {
        Some(value) => write_value(reply, value),
        None => reply.null(),
    }
    Ok(())
}

pub(super) static LRANGE: Command = Command {
    name: "lrange",
    group: Group::List,
    summary: "Returns the elements between two indexes, both included.",
    complexity: "O(log N + M) with N elements, M of them answered",
    arity: Arity::exactly(4),
    flags: Flags::READONLY,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
    reply: Shape::Array,
    example: "> RPUSH k a b c\n(integer) 3\n> LRANGE k -2 -1\n1) \"b\"\n2) \"c\"",
    run: lrange,
    ..Command::BASE
};

fn lrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (start, stop) = (args.integer(), args.integer());
    args.done()?;
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let list = list_of(entry)?;
    let range = list.range(start, stop);
    if let ListRef::Tree(list) = list
        && range.len() > INLINE_ELEMENTS_MAX
    {
        let (list, protocol) = (list.clone(), cx.reply.protocol());
        cx.answer_by(Box::new(move || {
            let mut out = ReplyBuf::new();
            write_range(&mut out.writer(protocol), ListRef::Tree(&list), range, false);
            out
        }));
        return Ok(());
    }
    write_range(&mut cx.reply, list, range, false);
    Ok(())
}
