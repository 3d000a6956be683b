//! The sorted set commands that wait for a member: BZPOPMIN, BZPOPMAX, BZMPOP.
//!
//! In the write stream they stand as their siblings without B, so that whoever replays the stream
//! never waits.

use super::pop::{End, MANY_POP_ARGS, TAKES, end, pop_many, popped, take};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeySpec, ManyPop,
};
use crate::engine::Cx;
use crate::engine::blocking::{keys_before_last, timeout_ms};
use crate::types::Kind;

const POP: Command = Command {
    group: Group::SortedSet,
    since: "5.0.0",
    complexity: "O(log(N)) with N members in the sorted set",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST).or(Flags::BLOCKING),
    acl: Categories::SORTED_SET,
    history: &[("6.0.0", "Took fractions of a second.")],
    keys: &[KeySpec::range(1, -2, 1, TAKES)],
    args: &[Arg::key("key").multiple(), Arg::double("timeout")],
    ..Command::BASE
};

pub(super) static BZPOPMIN: Command = Command {
    name: "bzpopmin",
    summary: "Takes the member with the lowest score of the first sorted set, or waits for one.",
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> BZPOPMIN none z 0\n1) \"z\"\n2) \"a\"\n3) \"1\"",
    run: |cx, args| pop(cx, args, End::Min),
    ..POP
};

pub(super) static BZPOPMAX: Command = Command {
    name: "bzpopmax",
    summary: "Takes the member with the highest score of the first sorted set, or waits for one.",
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> BZPOPMAX none z 0\n1) \"z\"\n2) \"b\"\n3) \"2\"",
    run: |cx, args| pop(cx, args, End::Max),
    ..POP
};

fn pop(cx: &mut Cx<'_>, args: &mut Args<'_>, end: End) -> CommandResult {
    let keys = keys_before_last(args);
    let timeout_ms = timeout_ms(cx, args);
    args.done()?;
    for key in &keys {
        let Some(taken) = take(cx, key, end, 1)? else { continue };
        cx.propagate_as(&[popped(end).as_bytes(), key.bytes]);
        cx.reply.array(3);
        cx.reply.bulk(key.bytes);
        for member in &taken {
            cx.reply.bulk(member.bytes());
            cx.reply.double(member.score());
        }
        return Ok(());
    }
    cx.wait_for(args, &keys, Kind::ZSet, timeout_ms);
    Ok(())
}

pub(super) static BZMPOP: Command = Command {
    name: "bzmpop",
    since: "7.0.0",
    summary: "Takes members from an end of the first sorted set that is there, or waits for one.",
    complexity: "O(K) + O(M*log(N)) with K keys, and M of N members taken",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::BLOCKING),
    history: &[],
    keys: &[KeySpec::counted(2, TAKES)],
    args: &[
        Arg::double("timeout"),
        MANY_POP_ARGS[0],
        MANY_POP_ARGS[1],
        MANY_POP_ARGS[2],
        MANY_POP_ARGS[3],
    ],
    example: "> ZADD z 1 a\n(integer) 1\n> BZMPOP 0 2 none z MIN\n1) \"z\"\n2) 1) 1) \"a\"\n      \
              2) \"1\"",
    run: bzmpop,
    ..POP
};

fn bzmpop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    // What is asked for is judged before the timeout, which stands before it.
    let mut ahead = args.clone();
    ahead.bytes();
    let pop = ManyPop::read(&mut ahead, end)?;
    let timeout_ms = timeout_ms(cx, args);
    args.check()?;
    if pop_many(cx, &pop)? {
        return Ok(());
    }
    cx.wait_for(args, &pop.keys, Kind::ZSet, timeout_ms);
    Ok(())
}
