//! Members in order: ZRANGE and the older commands for its parts.

use std::ops::Range;

use super::{begin_members, store, write_member, zset_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags, Group,
    KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::is_long;
use crate::resp::Reply;
use crate::structs::memory::Growth;
use crate::structs::number::parse_i64;
use crate::types::zset::{LexRange, ScoreRange, ZSetRef};

pub(super) const BAD_SCORE: CommandError = CommandError::Fixed("ERR min or max is not a float");
pub(super) const BAD_LEX: CommandError =
    CommandError::Fixed("ERR min or max not valid string range item");

/// The ranks between two, both included, which may count from the end.
pub(super) fn ranks(len: usize, start: i64, stop: i64) -> Range<usize> {
    let from_start = |rank: i64| {
        let from_end = || (len as i64).saturating_add(rank);
        if rank < 0 { from_end() } else { rank }
    };
    let start = usize::try_from(from_start(start).max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from(from_start(stop).saturating_add(1)).unwrap_or(0).min(len);
    if start < end { start..end } else { 0..0 }
}

pub(super) fn ranks_by_score(zset: ZSetRef<'_>, range: ScoreRange) -> Range<usize> {
    let start = zset.rank_where(|score, _| range.is_after(score));
    start..zset.rank_where(|score, _| range.is_not_before(score)).max(start)
}

pub(super) fn ranks_by_lex(zset: ZSetRef<'_>, range: LexRange<'_>) -> Range<usize> {
    let start = zset.rank_where(|_, member| range.is_after(member));
    start..zset.rank_where(|_, member| range.is_not_before(member)).max(start)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range that a command asks for.
#[derive(Clone, Copy)]
struct Query {
    /// `None` where an argument may still say it.
    by: Option<By>,
    is_reverse: Option<bool>,
    /// The result is stored, with its scores in any case.
    may_store: bool,
}

const BYS: Arg =
    Arg::one_of("sortby", &[Arg::flag("byscore", "BYSCORE"), Arg::flag("bylex", "BYLEX")])
        .optional()
        .since("6.2.0");
const LIMIT: Arg =
    Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional();
const WITHSCORES: Arg = Arg::flag("withscores", "WITHSCORES").optional();

/// What the commands have in common.
const READS: Command = Command {
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: "O(log(N)+M) with N members in the sorted set and M returned",
    arity: Arity::at_least(4),
    flags: Flags::READONLY,
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    reply: Shape::Array,
    ..Command::BASE
};

pub(super) static ZRANGE: Command = Command {
    name: "zrange",
    since: "1.2.0",
    summary: "Returns the members of a range by rank, score or text.",
    history: &[("6.2.0", "Took `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
    args: &[
        Arg::key("key"),
        Arg::string("start"),
        Arg::string("stop"),
        BYS,
        Arg::flag("rev", "REV").optional().since("6.2.0"),
        LIMIT.since("6.2.0"),
        WITHSCORES,
    ],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZRANGE z 0 -2\n1) \"a\"\n2) \"b\"\n\
              > ZRANGE z (1 +inf BYSCORE LIMIT 1 1\n1) \"c\"",
    run: |cx, args| answer(cx, args, Query { by: None, is_reverse: None, may_store: false }),
    ..READS
};

pub(super) static ZREVRANGE: Command = Command {
    name: "zrevrange",
    since: "1.2.0",
    summary: "Returns the members between two ranks, counted from the highest score.",
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` argument",
    }),
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop"), WITHSCORES],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZREVRANGE z 0 1\n1) \"c\"\n2) \"b\"",
    run: |cx, args| {
        answer(cx, args, Query { by: Some(By::Rank), is_reverse: Some(true), may_store: false })
    },
    ..READS
};

pub(super) static ZRANGEBYSCORE: Command = Command {
    name: "zrangebyscore",
    since: "1.0.5",
    summary: "Returns the members between two scores.",
    history: &[("2.0.0", "Took `WITHSCORES`.")],
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `BYSCORE` argument",
    }),
    args: &[
        Arg::key("key"),
        Arg::double("min"),
        Arg::double("max"),
        WITHSCORES.since("2.0.0"),
        LIMIT,
    ],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZRANGEBYSCORE z (1 3\n1) \"b\"\n2) \"c\"",
    run: |cx, args| {
        answer(cx, args, Query { by: Some(By::Score), is_reverse: Some(false), may_store: false })
    },
    ..READS
};

pub(super) static ZREVRANGEBYSCORE: Command = Command {
    name: "zrevrangebyscore",
    since: "2.2.0",
    summary: "Returns the members between two scores, highest first.",
    history: &[("2.1.6", "Took exclusive ends.")],
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
    }),
    args: &[Arg::key("key"), Arg::double("max"), Arg::double("min"), WITHSCORES, LIMIT],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZREVRANGEBYSCORE z 3 (1\n1) \"c\"\n2) \"b\"",
    run: |cx, args| {
        answer(cx, args, Query { by: Some(By::Score), is_reverse: Some(true), may_store: false })
    },
    ..READS
};

pub(super) static ZRANGEBYLEX: Command = Command {
    name: "zrangebylex",
    summary: "Returns the members between two texts.",
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `BYLEX` argument",
    }),
    args: &[Arg::key("key"), Arg::string("min"), Arg::string("max"), LIMIT],
    example: "> ZADD z 0 a 0 b 0 c\n(integer) 3\n> ZRANGEBYLEX z [b +\n1) \"b\"\n2) \"c\"",
    run: |cx, args| {
        answer(cx, args, Query { by: Some(By::Lex), is_reverse: Some(false), may_store: false })
    },
    ..READS
};

pub(super) static ZREVRANGEBYLEX: Command = Command {
    name: "zrevrangebylex",
    summary: "Returns the members between two texts, last first.",
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
    }),
    args: &[Arg::key("key"), Arg::string("max"), Arg::string("min"), LIMIT],
    example: "> ZADD z 0 a 0 b 0 c\n(integer) 3\n> ZREVRANGEBYLEX z + [b\n1) \"c\"\n2) \"b\"",
    run: |cx, args| {
        answer(cx, args, Query { by: Some(By::Lex), is_reverse: Some(true), may_store: false })
    },
    ..READS
};

pub(super) static ZRANGESTORE: Command = Command {
    name: "zrangestore",
    since: "6.2.0",
    summary: "Stores the members of a range in another sorted set, and counts them.",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[
        KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
        KeySpec::one(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
    ],
    args: &[
        Arg::key("dst"),
        Arg::key("src").key_spec(1),
        Arg::string("min"),
        Arg::string("max"),
        Arg::one_of("sortby", &[Arg::flag("byscore", "BYSCORE"), Arg::flag("bylex", "BYLEX")])
            .optional(),
        Arg::flag("rev", "REV").optional(),
        LIMIT,
    ],
    reply: Shape::Integer,
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZRANGESTORE top z 0 1 REV\n(integer) 2",
    run: zrangestore,
    ..READS
};

fn zrangestore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (destination, source) = (args.key(), args.key());
    let plan = Plan::read(args, Query { by: None, is_reverse: None, may_store: true })?;
    let found = cx.keys.read(&source).map(zset_of).transpose()?;
    let mut members = Vec::new();
    let mut growth = Growth::default();
    for (member, score) in found.into_iter().flat_map(|zset| zset.range(plan.ranks(zset))) {
        let member = member.to_vec();
        // It is held twice when it is stored.
        if !growth.is_there_for(2 * member.len()) {
            return Err(CommandError::NoMemory);
        }
        members.push((member, score));
    }
    let members = members.iter().map(|(member, score)| (member.as_slice(), *score));
    store(cx, &destination, "zrangestore", members);
    Ok(())
}

/// The ends of a range, read but not yet applied to a sorted set.
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

/// A whole query.
struct Plan<'a> {
    ends: Ends<'a>,
    is_reverse: bool,
    with_scores: bool,
    offset: i64,
    limit: i64,
}

impl<'a> Plan<'a> {
    fn read(args: &mut Args<'a>, query: Query) -> Result<Plan<'a>, CommandError> {
        let (first, second) = (args.bytes(), args.bytes());
        let Query { mut by, mut is_reverse, may_store } = query;
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        while !args.is_empty() {
            if !may_store && args.option("withscores") {
                with_scores = true;
            } else if args.remaining() >= 3 && args.option("limit") {
                (offset, limit) = (args.integer(), args.integer());
                args.check()?;
            } else if query.is_reverse.is_none() && is_reverse.is_none() && args.option("rev") {
                is_reverse = Some(true);
            } else if by.is_none() && args.option("bylex") {
                by = Some(By::Lex);
            } else if by.is_none() && args.option("byscore") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let (by, is_reverse) = (by.unwrap_or(By::Rank), is_reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(CommandError::Fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::Fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = if is_reverse { (second, first) } else { (first, second) };
        let integer = |text| parse_i64(text).ok_or(CommandError::NotInteger);
        let ends = match by {
            By::Rank => Ends::Rank(integer(first)?, integer(second)?),
            By::Score => Ends::Score(ScoreRange::parse(min, max).ok_or(BAD_SCORE)?),
            By::Lex => Ends::Lex(LexRange::parse(min, max).ok_or(BAD_LEX)?),
        };
        Ok(Plan { ends, is_reverse, with_scores, offset, limit })
    }

    /// The ranks that the query finds, counted from the lowest score.
    fn ranks(&self, zset: ZSetRef<'_>) -> Range<usize> {
        let len = zset.len();
        let found = match &self.ends {
            Ends::Rank(start, stop) if self.is_reverse => {
                let ranks = ranks(len, *start, *stop);
                return len - ranks.end..len - ranks.start;
            }
            Ends::Rank(start, stop) => return ranks(len, *start, *stop),
            Ends::Score(range) => ranks_by_score(zset, *range),
            Ends::Lex(range) => ranks_by_lex(zset, *range),
        };
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let offset = offset.min(found.len());
        let count = usize::try_from(self.limit).unwrap_or(usize::MAX).min(found.len() - offset);
        if self.is_reverse {
            let end = found.end - offset;
            end - count..end
        } else {
            let start = found.start + offset;
            start..start + count
        }
    }
}

fn answer(cx: &mut Cx<'_>, args: &mut Args<'_>, query: Query) -> CommandResult {
    let key = args.key();
    let plan = Plan::read(args, query)?;
    let Some(zset) = cx.keys.read(&key).map(zset_of).transpose()? else {
        cx.reply.array(0);
        return Ok(());
    };
    let ranks = plan.ranks(zset);
    let (is_reverse, with_scores) = (plan.is_reverse, plan.with_scores);
    match zset {
        ZSetRef::Table(table) if is_long(ranks.len(), table.len(), table.memory_bytes()) => {
            let table = table.clone();
            cx.answer_by(move |reply| {
                write(reply, ZSetRef::Table(&table), ranks, is_reverse, with_scores);
                Ok(())
            })
        }
        zset => {
            write(&mut cx.reply, zset, ranks, is_reverse, with_scores);
            Ok(())
        }
    }
}

fn write(
    reply: &mut Reply<'_>,
    zset: ZSetRef<'_>,
    ranks: Range<usize>,
    is_reverse: bool,
    with_scores: bool,
) {
    begin_members(reply, ranks.len(), with_scores);
    let mut members = zset.range(ranks);
    let mut next = || if is_reverse { members.next_back() } else { members.next() };
    while let Some(member) = next() {
        write_member(reply, member, with_scores);
    }
}
