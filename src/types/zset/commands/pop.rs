//! Taking members from either end: ZPOPMIN, ZPOPMAX, ZMPOP.
//!
//! [`take`] is what the blocking forms need as well: it removes and tells, and leaves the reply to
//! its caller.

use super::{changed, edit_zset, zset_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, ManyPop, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::resp::Protocol;
use crate::structs::number::{I64Buf, format_i64};
use crate::types::WrongType;
use crate::types::zset::Member;

/// Which end members are taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Min,
    Max,
}

pub(super) const TAKES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

const POPS: Command = Command {
    since: "5.0.0",
    group: Group::SortedSet,
    complexity: "O(log(N)*M) with N members in the sorted set and M taken",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::one(1, TAKES)],
    args: &[Arg::key("key"), Arg::integer("count").optional()],
    reply: Shape::Array,
    ..Command::BASE
};

pub(super) static ZPOPMIN: Command = Command {
    name: "zpopmin",
    summary: "Takes the members with the lowest scores.",
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZPOPMIN z\n1) \"a\"\n2) \"1\"",
    run: |cx, args| zpop(cx, args, End::Min),
    ..POPS
};

pub(super) static ZPOPMAX: Command = Command {
    name: "zpopmax",
    summary: "Takes the members with the highest scores.",
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZPOPMAX z\n1) \"b\"\n2) \"2\"",
    run: |cx, args| zpop(cx, args, End::Max),
    ..POPS
};

fn zpop(cx: &mut Cx<'_>, args: &mut Args<'_>, end: End) -> CommandResult {
    let key = args.key();
    if args.remaining() > 1 {
        return Err(CommandError::Syntax);
    }
    let has_count = !args.is_empty();
    let mut count = 1;
    if has_count {
        count = args.integer_or(CommandError::MustBePositive);
        args.done()?;
    }
    let count = usize::try_from(count).map_err(|_| CommandError::MustBePositive)?;
    let taken = take(cx, &key, end, count)?.unwrap_or_default();
    let is_nested = has_count && cx.reply.protocol() == Protocol::Resp3;
    cx.reply.array(if is_nested { taken.len() } else { taken.len() * 2 });
    for member in &taken {
        if is_nested {
            cx.reply.array(2);
        }
        cx.reply.bulk(member.bytes());
        cx.reply.double(member.score());
    }
    Ok(())
}

/// Takes up to `count` members from an end, and tells; `None` if there is no key.
pub(super) fn take(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    end: End,
    count: usize,
) -> Result<Option<Vec<Member>>, WrongType> {
    let Some(entry) = cx.keys.peek(key) else { return Ok(None) };
    let len = zset_of(entry)?.len();
    let count = count.min(len);
    if count == 0 {
        return Ok(Some(Vec::new()));
    }
    let taken = edit_zset(cx, key, |zset| match end {
        End::Min => zset.take_range(0..count),
        End::Max => {
            let mut taken = zset.take_range(len - count..len);
            taken.reverse();
            taken
        }
    })?;
    changed(cx, key, popped(end), count, count == len);
    Ok(taken)
}

pub(super) const MANY_POP_ARGS: &[Arg] = &[
    Arg::integer("numkeys"),
    Arg::key("key").multiple(),
    Arg::one_of("where", &[Arg::flag("min", "MIN"), Arg::flag("max", "MAX")]),
    Arg::integer("count").token("COUNT").optional(),
];

pub(super) static ZMPOP: Command = Command {
    name: "zmpop",
    since: "7.0.0",
    summary: "Takes members from an end of the first sorted set that is there.",
    arity: Arity::at_least(4),
    flags: Flags::WRITE,
    keys: &[KeySpec::counted(1, TAKES)],
    args: MANY_POP_ARGS,
    reply: Shape::Any,
    example: "> ZADD z 1 a\n(integer) 1\n> ZMPOP 2 none z MIN\n1) \"z\"\n2) 1) 1) \"a\"\n      \
              2) \"1\"\n> ZMPOP 1 z MAX\n(nil)",
    run: zmpop,
    ..POPS
};

fn zmpop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let pop = ManyPop::read(args, end)?;
    if !pop_many(cx, &pop)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// The next argument as an end of a sorted set.
pub(super) fn end(args: &mut Args<'_>) -> Result<End, CommandError> {
    if args.option("MIN") {
        Ok(End::Min)
    } else if args.option("MAX") {
        Ok(End::Max)
    } else {
        Err(CommandError::Syntax)
    }
}

/// Takes from the first sorted set that is there and answers with it; false if none is.
pub(super) fn pop_many(cx: &mut Cx<'_>, pop: &ManyPop<'_, End>) -> Result<bool, CommandError> {
    for key in &pop.keys {
        let Some(taken) = take(cx, key, pop.end, pop.count)? else { continue };
        if cx.is_propagating() {
            let mut digits = I64Buf::new();
            let count = format_i64(taken.len() as i64, &mut digits);
            cx.propagate_as(&[popped(pop.end).as_bytes(), key.bytes, count]);
        }
        cx.reply.array(2);
        cx.reply.bulk(key.bytes);
        cx.reply.array(taken.len());
        for member in &taken {
            cx.reply.array(2);
            cx.reply.bulk(member.bytes());
            cx.reply.double(member.score());
        }
        return Ok(true);
    }
    Ok(false)
}

/// The event of taking from an end, and the command that does it.
pub(super) fn popped(end: End) -> &'static str {
    if end == End::Min { "zpopmin" } else { "zpopmax" }
}
