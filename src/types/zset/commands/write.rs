//! Writing: ZADD, ZINCRBY, ZREM and the removal of ranges.

use std::ops::Range;

use super::{changed, edit_or_make, edit_zset, limits};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::types::zset::{LexRange, Limits, ScoreRange, ZSetMut, ZSetRef};

const ADDS: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);

pub(super) static ZADD: Command = Command {
    name: "zadd",
    member_at: 3,
    since: "1.2.0",
    group: Group::SortedSet,
    summary: "Adds members to a sorted set or sets their scores; counts the new ones.",
    complexity: "O(log(N)) for each member, N being the members of the sorted set",
    arity: Arity::at_least(4),
    flags: ADDS,
    acl: Categories::SORTED_SET,
    history: &[
        ("2.4.0", "Took more than one member."),
        ("3.0.2", "Took `XX`, `NX`, `CH` and `INCR`."),
        ("6.2.0", "Took `GT` and `LT`."),
    ],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::one_of("condition", &[Arg::flag("nx", "NX"), Arg::flag("xx", "XX")])
            .optional()
            .since("3.0.2"),
        Arg::one_of("comparison", &[Arg::flag("gt", "GT"), Arg::flag("lt", "LT")])
            .optional()
            .since("6.2.0"),
        Arg::flag("change", "CH").optional().since("3.0.2"),
        Arg::flag("increment", "INCR").optional().since("3.0.2"),
        Arg::block("data", &[Arg::double("score"), Arg::string("member")]).multiple(),
    ],
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZADD z CH 3 a 2 b\n(integer) 1",
    run: zadd,
    ..Command::BASE
};

pub(super) static ZINCRBY: Command = Command {
    name: "zincrby",
    member_at: 3,
    since: "1.2.0",
    group: Group::SortedSet,
    summary: "Adds to the score of a member, which is made if there is none.",
    complexity: "O(log(N)) with N members in the sorted set",
    arity: Arity::exactly(4),
    flags: ADDS,
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), Arg::integer("increment"), Arg::string("member")],
    example: "> ZINCRBY z 2 a\n\"2\"\n> ZINCRBY z 1.5 a\n\"3.5\"",
    run: zincrby,
    ..Command::BASE
};

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
struct Options {
    only_new: bool,
    only_old: bool,
    only_greater: bool,
    only_less: bool,
    counts_changes: bool,
    increments: bool,
}

/// What ZADD did.
#[derive(Default)]
struct Outcome {
    added: usize,
    updated: usize,
    /// The score after the last member, unless an option left it alone.
    score: Option<f64>,
    is_nan: bool,
}

impl Options {
    fn read(args: &mut Args<'_>) -> Options {
        let mut options = Options::default();
        loop {
            if args.option("nx") {
                options.only_new = true;
            } else if args.option("xx") {
                options.only_old = true;
            } else if args.option("ch") {
                options.counts_changes = true;
            } else if args.option("incr") {
                options.increments = true;
            } else if args.option("gt") {
                options.only_greater = true;
            } else if args.option("lt") {
                options.only_less = true;
            } else {
                return options;
            }
        }
    }

    fn check(self, words: usize) -> CommandResult {
        let Options { only_new, only_old, only_greater, only_less, .. } = self;
        if words == 0 || !words.is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        if only_new && only_old {
            return Err(CommandError::Fixed(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if (only_new && (only_greater || only_less)) || (only_greater && only_less) {
            return Err(CommandError::Fixed(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increments && words > 2 {
            return Err(CommandError::Fixed(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }

    /// Sets one score as the options have it.
    fn apply(
        self,
        zset: &mut ZSetMut<'_>,
        member: &[u8],
        score: f64,
        limits: &Limits,
        outcome: &mut Outcome,
    ) {
        outcome.score = None;
        let Some(old) = zset.score(member) else {
            if !self.only_old {
                zset.set(member, score, limits);
                outcome.added += 1;
                outcome.score = Some(score);
            }
            return;
        };
        if self.only_new {
            return;
        }
        let score = if self.increments { old + score } else { score };
        if score.is_nan() {
            outcome.is_nan = true;
            return;
        }
        if (self.only_less && score >= old) || (self.only_greater && score <= old) {
            return;
        }
        outcome.score = Some(score);
        // The same score again is no change: nothing is moved, told or counted.
        if score != old {
            zset.set(member, score, limits);
            outcome.updated += 1;
        }
    }
}

fn zadd(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let options = Options::read(args);
    add(cx, &key, options, args)
}

fn zincrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    add(cx, &key, Options { increments: true, ..Options::default() }, args)
}

fn add(cx: &mut Cx<'_>, key: &Key<'_>, options: Options, args: &mut Args<'_>) -> CommandResult {
    options.check(args.remaining())?;
    let (count, mut longest) = (args.remaining() / 2, 0);
    // All scores are read before the first is set: a bad one among many changes nothing.
    let mut pairs: smallvec::SmallVec<[(f64, &[u8]); 4]> = smallvec::SmallVec::new();
    while !args.is_empty() {
        let (score, member) = (args.double(), args.bytes());
        longest = longest.max(member.len());
        pairs.push((score, member));
    }
    args.done()?;
    let limits = limits(cx);
    let edit = |zset: &mut ZSetMut<'_>| {
        // So many members most likely outgrow the packed form, in which each would be searched
        // for from the front.
        zset.prepare_for(count, longest, &limits);
        let mut outcome = Outcome::default();
        for (score, member) in &pairs {
            options.apply(zset, member, *score, &limits, &mut outcome);
        }
        outcome
    };
    // With XX a missing key stays missing; an empty sorted set is never made.
    let outcome = if options.only_old {
        edit_zset(cx, key, edit)?.unwrap_or_default()
    } else {
        edit_or_make(cx, key, edit)?
    };
    if outcome.is_nan {
        return Err(CommandError::Fixed("ERR resulting score is not a number (NaN)"));
    }
    let total = outcome.added + outcome.updated;
    if total > 0 {
        changed(cx, key, if options.increments { "zincr" } else { "zadd" }, total, false);
    }
    match (options.increments, outcome.score) {
        (true, Some(score)) => cx.reply.double(score),
        (true, None) => cx.reply.null(),
        (false, _) if options.counts_changes => cx.reply.integer(total as i64),
        (false, _) => cx.reply.integer(outcome.added as i64),
    }
    Ok(())
}

pub(super) static ZREM: Command = Command {
    name: "zrem",
    member_at: 2,
    since: "1.2.0",
    group: Group::SortedSet,
    summary: "Removes members from a sorted set and counts them; an empty one goes away.",
    complexity: "O(M*log(N)) with M members given and N in the sorted set",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::SORTED_SET,
    history: &[("2.4.0", "Took more than one member.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("member").multiple()],
    reply: Shape::Integer,
    example: "> ZADD z 1 a 2 b\n(integer) 2\n> ZREM z a x\n(integer) 1",
    run: zrem,
    ..Command::BASE
};

fn zrem(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let edited = edit_zset(cx, &key, |zset| {
        let mut removed = 0;
        while !args.is_empty() && !zset.is_empty() {
            removed += usize::from(zset.remove(args.bytes()));
        }
        (removed, zset.is_empty())
    })?;
    let (removed, is_empty) = edited.unwrap_or((0, false));
    if removed > 0 {
        changed(cx, &key, "zrem", removed, is_empty);
    }
    cx.reply.integer(removed as i64);
    Ok(())
}

/// What the removals of ranges have in common.
const REMOVES: Command = Command {
    since: "2.8.9",
    group: Group::SortedSet,
    complexity: "O(log(N)+M) with N members in the sorted set and M removed",
    arity: Arity::exactly(4),
    flags: Flags::WRITE,
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("min"), Arg::string("max")],
    reply: Shape::Integer,
    ..Command::BASE
};

pub(super) static ZREMRANGEBYRANK: Command = Command {
    name: "zremrangebyrank",
    since: "2.0.0",
    summary: "Removes the members between two ranks and counts them.",
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZREMRANGEBYRANK z 0 1\n(integer) 2",
    run: zremrangebyrank,
    ..REMOVES
};

fn zremrangebyrank(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, start, stop) = (args.key(), args.integer(), args.integer());
    args.done()?;
    remove(cx, &key, "zremrangebyrank", |zset| super::range::ranks(zset.len(), start, stop))
}

pub(super) static ZREMRANGEBYSCORE: Command = Command {
    name: "zremrangebyscore",
    since: "1.2.0",
    summary: "Removes the members between two scores and counts them.",
    args: &[Arg::key("key"), Arg::double("min"), Arg::double("max")],
    example: "> ZADD z 1 a 2 b 3 c\n(integer) 3\n> ZREMRANGEBYSCORE z (1 +inf\n(integer) 2",
    run: zremrangebyscore,
    ..REMOVES
};

fn zremrangebyscore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let range = ScoreRange::parse(args.bytes(), args.bytes()).ok_or(super::range::BAD_SCORE)?;
    remove(cx, &key, "zremrangebyscore", |zset| super::range::ranks_by_score(zset, range))
}

pub(super) static ZREMRANGEBYLEX: Command = Command {
    name: "zremrangebylex",
    summary: "Removes the members between two texts and counts them.",
    example: "> ZADD z 0 a 0 b 0 c\n(integer) 3\n> ZREMRANGEBYLEX z [b +\n(integer) 2",
    run: zremrangebylex,
    ..REMOVES
};

fn zremrangebylex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let range = LexRange::parse(args.bytes(), args.bytes()).ok_or(super::range::BAD_LEX)?;
    remove(cx, &key, "zremrangebylex", |zset| super::range::ranks_by_lex(zset, range))
}

fn remove(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    event: &'static str,
    ranks: impl FnOnce(ZSetRef<'_>) -> Range<usize>,
) -> CommandResult {
    let Some(entry) = cx.keys.peek(key) else {
        cx.reply.integer(0);
        return Ok(());
    };
    let zset = super::zset_of(entry)?;
    let (ranks, len) = (ranks(zset), zset.len());
    let removed = ranks.len();
    if removed > 0 {
        // What is removed as a whole is freed as a whole.
        if removed < len {
            edit_zset(cx, key, |zset| zset.take_range(ranks))?;
        }
        changed(cx, key, event, removed, removed == len);
    }
    cx.reply.integer(removed as i64);
    Ok(())
}
