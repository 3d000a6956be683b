//! Reading one member, or a count: ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZCARD, ZCOUNT, ZLEXCOUNT.

use super::range::{BAD_LEX, BAD_SCORE, ranks_by_lex, ranks_by_score};
use super::{read, zset_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::types::zset::{LexRange, ScoreRange};

/// What these commands have in common.
const READS: Command = Command {
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: "O(log(N)) with N members in the sorted set",
    arity: Arity::exactly(4),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    reply: Shape::Integer,
    ..Command::BASE
};

pub(super) static ZCARD: Command = Command {
    name: "zcard",
    summary: "Counts the members of a sorted set.",
    complexity: "O(1)",
    arity: Arity::exactly(2),
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZCARD z\n(integer) 2",
    run: zcard,
    ..READS
};

fn zcard(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len = read(cx, &key)?.map_or(0, |zset| zset.len());
    cx.reply.integer(len as i64);
    Ok(())
}

pub(super) static ZSCORE: Command = Command {
    name: "zscore",
    member_at: 2,
    summary: "Returns the score of a member.",
    complexity: "O(1)",
    arity: Arity::exactly(3),
    args: &[Arg::key("key"), Arg::string("member")],
    reply: Shape::Any,
    example: "> ZADD z 1.5 a\n(integer) 1\n> ZSCORE z a\n\"1.5\"\n> ZSCORE z b\n(nil)",
    run: zscore,
    ..READS
};

fn zscore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, member) = (args.key(), args.bytes());
    args.done()?;
    match read(cx, &key)?.and_then(|zset| zset.score(member)) {
        Some(score) => cx.reply.double(score),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(super) static ZMSCORE: Command = Command {
    name: "zmscore",
    since: "6.2.0",
    summary: "Returns the scores of several members.",
    complexity: "O(N) with N members given",
    arity: Arity::at_least(3),
    args: &[Arg::key("key"), Arg::string("member").multiple()],
    reply: Shape::Array,
    example: "> ZADD z 1 a\n(integer) 1\n> ZMSCORE z a b\n1) \"1\"\n2) (nil)",
    run: zmscore,
    ..READS
};

fn zmscore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let zset = cx.keys.read(&key).map(zset_of).transpose()?;
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let member = args.bytes();
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => cx.reply.double(score),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

const RANK_ARGS: &[Arg] =
    &[Arg::key("key"), Arg::string("member"), Arg::flag("withscore", "WITHSCORE").optional()];

pub(super) static ZRANK: Command = Command {
    name: "zrank",
    member_at: 2,
    since: "2.0.0",
    summary: "Returns the rank of a member, counted from the lowest score.",
    arity: Arity::at_least(3),
    history: &[("7.2.0", "Took `WITHSCORE`.")],
    args: RANK_ARGS,
    reply: Shape::Any,
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZRANK z b\n(integer) 1\n> ZRANK z x\n(nil)",
    run: zrank,
    ..READS
};

fn zrank(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    rank(cx, args, false, "zrank")
}

pub(super) static ZREVRANK: Command = Command {
    name: "zrevrank",
    member_at: 2,
    since: "2.0.0",
    summary: "Returns the rank of a member, counted from the highest score.",
    arity: Arity::at_least(3),
    history: &[("7.2.0", "Took `WITHSCORE`.")],
    args: RANK_ARGS,
    reply: Shape::Any,
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZREVRANK z b\n(integer) 0",
    run: zrevrank,
    ..READS
};

fn zrevrank(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    rank(cx, args, true, "zrevrank")
}

fn rank(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    is_reverse: bool,
    command: &'static str,
) -> CommandResult {
    let (key, member) = (args.key(), args.bytes());
    if args.remaining() > 1 {
        return Err(CommandError::WrongArity(command));
    }
    let with_score = args.option("withscore");
    args.done()?;
    let found = read(cx, &key)?.and_then(|zset| {
        let (rank, score) = zset.rank(member)?;
        Some((if is_reverse { zset.len() - 1 - rank } else { rank }, score))
    });
    match found {
        Some((rank, score)) if with_score => {
            cx.reply.array(2);
            cx.reply.integer(rank as i64);
            cx.reply.double(score);
        }
        Some((rank, _)) => cx.reply.integer(rank as i64),
        None if with_score => cx.reply.null_array(),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(super) static ZCOUNT: Command = Command {
    name: "zcount",
    since: "2.0.0",
    summary: "Counts the members between two scores.",
    args: &[Arg::key("key"), Arg::double("min"), Arg::double("max")],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZCOUNT z (1 3\n(integer) 2",
    run: zcount,
    ..READS
};

fn zcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let range = ScoreRange::parse(args.bytes(), args.bytes()).ok_or(BAD_SCORE)?;
    let count = read(cx, &key)?.map_or(0, |zset| ranks_by_score(zset, range).len());
    cx.reply.integer(count as i64);
    Ok(())
}

pub(super) static ZLEXCOUNT: Command = Command {
    name: "zlexcount",
    since: "2.8.9",
    summary: "Counts the members between two texts.",
    args: &[Arg::key("key"), Arg::string("min"), Arg::string("max")],
    example: "> ZADD z 0 a 0 b 0 c\n(integer) 3\n> ZLEXCOUNT z [b +\n(integer) 2",
    run: zlexcount,
    ..READS
};

fn zlexcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let range = LexRange::parse(args.bytes(), args.bytes()).ok_or(BAD_LEX)?;
    let count = read(cx, &key)?.map_or(0, |zset| ranks_by_lex(zset, range).len());
    cx.reply.integer(count as i64);
    Ok(())
}
