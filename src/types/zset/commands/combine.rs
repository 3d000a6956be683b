//! Several sorted sets at once: unions, intersections, differences, and what they store.
//!
//! Sets are taken as sorted sets of score 1. What only reads is handed to another thread when it is
//! long; what stores its result runs here, since the next command must see it.

use std::collections::HashMap;

use super::{begin_members, store, write_member};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::INLINE_ELEMENTS_MAX;
use crate::keyspace::{Entry, Key, ValueRef};
use crate::resp::Reply;
use crate::structs::listpack::Element;
use crate::structs::number::I64Buf;
use crate::types::set::SetRef;
use crate::types::zset::ZSetRef;
use crate::types::{Kind, WrongType};

const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const WEIGHTS: Arg = Arg::integer("weight").token("WEIGHTS").optional().multiple();
const AGGREGATE: Arg = Arg::one_of(
    "aggregate",
    &[Arg::flag("sum", "SUM"), Arg::flag("min", "MIN"), Arg::flag("max", "MAX")],
)
.token("AGGREGATE")
.optional();
const WITHSCORES: Arg = Arg::flag("withscores", "WITHSCORES").optional();
const NUMKEYS: Arg = Arg::integer("numkeys");
const SOURCES: Arg = Arg::key("key").multiple();
const STORED: Arg = Arg::key("key").key_spec(1).multiple();

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Union,
    Intersection,
    Difference,
}

/// What the commands have in common.
const COMBINES: Command = Command {
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: "O(N*log(N)) with N members in all of the sorted sets",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::SORTED_SET,
    keys: &[KeySpec::counted(1, READS)],
    reply: Shape::Array,
    ..Command::BASE
};

/// What those that store have in common.
const STORES: Command = Command {
    since: "2.0.0",
    arity: Arity::at_least(4),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE)), KeySpec::counted(2, READS)],
    reply: Shape::Integer,
    ..COMBINES
};

pub(super) static ZUNION: Command = Command {
    name: "zunion",
    summary: "Returns the members that any of the sorted sets has.",
    args: &[NUMKEYS, SOURCES, WEIGHTS, AGGREGATE, WITHSCORES],
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n\
              > ZUNION 2 y z WITHSCORES\n1) \"a\"\n2) \"3\"\n3) \"b\"\n4) \"9\"",
    run: |cx, args| answer(cx, args, How::Union, "zunion"),
    ..COMBINES
};

pub(super) static ZINTER: Command = Command {
    name: "zinter",
    summary: "Returns the members that all of the sorted sets have.",
    args: &[NUMKEYS, SOURCES, WEIGHTS, AGGREGATE, WITHSCORES],
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n\
              > ZINTER 2 y z WITHSCORES\n1) \"a\"\n2) \"3\"",
    run: |cx, args| answer(cx, args, How::Intersection, "zinter"),
    ..COMBINES
};

pub(super) static ZDIFF: Command = Command {
    name: "zdiff",
    summary: "Returns the members of the first sorted set that none of the others has.",
    args: &[NUMKEYS, SOURCES, WITHSCORES],
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n> ZDIFF 2 z y\n1) \"b\"",
    run: |cx, args| answer(cx, args, How::Difference, "zdiff"),
    ..COMBINES
};

pub(super) static ZINTERCARD: Command = Command {
    name: "zintercard",
    since: "7.0.0",
    summary: "Counts the members that all of the sorted sets have, up to a limit.",
    args: &[NUMKEYS, SOURCES, Arg::integer("limit").token("LIMIT").optional()],
    reply: Shape::Integer,
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n\
              > ZINTERCARD 2 y z\n(integer) 1",
    run: zintercard,
    ..COMBINES
};

pub(super) static ZUNIONSTORE: Command = Command {
    name: "zunionstore",
    summary: "Stores the members that any of the sorted sets has, and counts them.",
    args: &[Arg::key("destination"), NUMKEYS, STORED, WEIGHTS, AGGREGATE],
    example: "> ZADD z 2 a 9 b\n(integer) 2\n> ZUNIONSTORE u 1 z WEIGHTS 2\n(integer) 2\n\
              > ZSCORE u a\n\"4\"",
    run: |cx, args| store_result(cx, args, How::Union, "zunionstore"),
    ..STORES
};

pub(super) static ZINTERSTORE: Command = Command {
    name: "zinterstore",
    summary: "Stores the members that all of the sorted sets have, and counts them.",
    args: &[Arg::key("destination"), NUMKEYS, STORED, WEIGHTS, AGGREGATE],
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n\
              > ZINTERSTORE i 2 y z AGGREGATE MAX\n(integer) 1\n> ZSCORE i a\n\"2\"",
    run: |cx, args| store_result(cx, args, How::Intersection, "zinterstore"),
    ..STORES
};

pub(super) static ZDIFFSTORE: Command = Command {
    name: "zdiffstore",
    since: "6.2.0",
    summary: "Stores the members of the first sorted set that no other has, and counts them.",
    args: &[Arg::key("destination"), NUMKEYS, STORED],
    example: "> ZADD y 1 a\n(integer) 1\n> ZADD z 2 a 9 b\n(integer) 2\n\
              > ZDIFFSTORE d 2 z y\n(integer) 1",
    run: |cx, args| store_result(cx, args, How::Difference, "zdiffstore"),
    ..STORES
};

/// A set or sorted set, to be read. It holds its entry, so that any thread may do so.
struct Source {
    entry: Option<Entry>,
    weight: f64,
}

impl Source {
    fn of(entry: Option<&Entry>) -> Result<Source, WrongType> {
        match entry.map(Entry::kind) {
            None | Some(Kind::Set | Kind::ZSet) => {
                Ok(Source { entry: entry.cloned(), weight: 1.0 })
            }
            Some(_) => Err(WrongType),
        }
    }

    fn zset(&self) -> Option<ZSetRef<'_>> {
        match self.entry.as_ref()?.value() {
            ValueRef::ZSet(zset) => Some(zset),
            _ => None,
        }
    }

    fn set(&self) -> Option<SetRef<'_>> {
        match self.entry.as_ref()?.value() {
            ValueRef::Set(set) => Some(set),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        self.zset().map_or(0, ZSetRef::len) + self.set().map_or(0, SetRef::len)
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.set() {
            Some(set) => set.contains(member).then_some(1.0),
            None => self.zset()?.score(member),
        }
    }

    fn members(&self) -> impl Iterator<Item = (Element<'_>, f64)> {
        let ranked = self.zset().map(|zset| zset.range(0..zset.len()));
        let members = self.set().map(SetRef::iter);
        ranked.into_iter().flatten().chain(members.into_iter().flatten().map(|m| (m, 1.0)))
    }

    fn weighed(&self, score: f64) -> f64 {
        let product = self.weight * score;
        if product.is_nan() { 0.0 } else { product }
    }
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, own: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum if (own + other).is_nan() => 0.0,
            Aggregate::Sum => own + other,
            Aggregate::Min => {
                if other < own {
                    other
                } else {
                    own
                }
            }
            Aggregate::Max => {
                if other > own {
                    other
                } else {
                    own
                }
            }
        }
    }
}

/// A whole request.
struct Plan {
    how: How,
    sources: Vec<Source>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// What a command is for, which decides the options it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Answer,
    Store,
    Count,
}

impl Plan {
    fn read(
        cx: &Cx<'_>,
        args: &mut Args<'_>,
        how: How,
        purpose: Purpose,
        command: &str,
    ) -> Result<Plan, CommandError> {
        let count = args.integer();
        args.check()?;
        if count < 1 {
            let text = format_args!("at least 1 input key is needed for '{command}' command");
            return Err(CommandError::err(text));
        }
        let count = usize::try_from(count).ok().filter(|count| *count <= args.remaining());
        let count = count.ok_or(CommandError::Syntax)?;
        let keys: Vec<Key<'_>> = (0..count).map(|_| args.key()).collect();
        let sources = keys.iter().map(|key| Source::of(cx.keys.read(key)));
        let sources = sources.collect::<Result<_, WrongType>>()?;
        let aggregate = Aggregate::Sum;
        let mut plan = Plan { how, sources, aggregate, with_scores: false, limit: 0 };
        while !args.is_empty() {
            plan.read_option(args, purpose)?;
        }
        if how != How::Difference {
            plan.sources.sort_by_key(Source::len);
        }
        Ok(plan)
    }

    fn read_option(&mut self, args: &mut Args<'_>, purpose: Purpose) -> CommandResult {
        const BAD_WEIGHT: CommandError = CommandError::Fixed("ERR weight value is not a float");
        const NEGATIVE: CommandError = CommandError::Fixed("ERR LIMIT can't be negative");
        let scores = self.how != How::Difference && purpose != Purpose::Count;
        if scores && args.remaining() > self.sources.len() && args.option("weights") {
            for source in &mut self.sources {
                source.weight = args.double();
                args.check().map_err(|_| BAD_WEIGHT)?;
            }
        } else if scores && args.option_with_value("aggregate") {
            self.aggregate = match () {
                () if args.option("sum") => Aggregate::Sum,
                () if args.option("min") => Aggregate::Min,
                () if args.option("max") => Aggregate::Max,
                () => return Err(CommandError::Syntax),
            };
        } else if purpose == Purpose::Answer && args.option("withscores") {
            self.with_scores = true;
        } else if purpose == Purpose::Count && args.option_with_value("limit") {
            let limit = args.integer_or(NEGATIVE);
            args.check()?;
            self.limit = usize::try_from(limit).map_err(|_| NEGATIVE)?;
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }

    /// About how many members are visited.
    fn work(&self) -> usize {
        match self.how {
            How::Union => self.sources.iter().map(Source::len).sum(),
            _ => self.sources[0].len(),
        }
    }

    /// The score that a member of the first source has in the result, if it is in it.
    fn judge(&self, member: &[u8], score: f64) -> Option<f64> {
        let (first, others) = self.sources.split_first().expect("there is a source");
        if self.how == How::Difference {
            let is_elsewhere = others.iter().any(|other| other.score(member).is_some());
            return (!is_elsewhere).then_some(score);
        }
        others.iter().try_fold(first.weighed(score), |own, other| {
            let found = other.score(member)?;
            // Redis mends a weighed score that is not a number only where sums are formed.
            Some(self.aggregate.join(own, other.weight * found))
        })
    }

    /// What the members of the result take at most.
    fn result_bytes(&self) -> usize {
        let sizes = self.sources.iter().map(|source| source.entry.as_ref());
        let mut sizes = sizes.map(|entry| entry.map_or(0, Entry::heap_bytes));
        match self.how {
            How::Union => sizes.sum(),
            _ => sizes.next().unwrap_or(0),
        }
    }

    /// The members of the result in order.
    fn run(&self) -> Vec<(Vec<u8>, f64)> {
        let mut found: Vec<(Vec<u8>, f64)> = if self.how == How::Union {
            let mut union: HashMap<Vec<u8>, f64> = HashMap::new();
            for source in &self.sources {
                for (member, score) in source.members() {
                    let score = source.weighed(score);
                    let joined = |own: &mut f64| *own = self.aggregate.join(*own, score);
                    union.entry(member.to_vec()).and_modify(joined).or_insert(score);
                }
            }
            union.into_iter().collect()
        } else {
            let members = self.sources[0].members();
            let judged = members.filter_map(|(member, score)| {
                let score = self.judge(member.bytes(&mut I64Buf::new()), score)?;
                Some((member.to_vec(), score))
            });
            judged.collect()
        };
        found.sort_unstable_by(|a, b| crate::types::zset::compare((a.1, &a.0), (b.1, &b.0)));
        found
    }

    fn write(&self, reply: &mut Reply<'_>) -> CommandResult {
        CommandError::unless_memory(self.result_bytes())?;
        let members = self.run();
        begin_members(reply, members.len(), self.with_scores);
        for (member, score) in &members {
            write_member(reply, (Element::Str(member), *score), self.with_scores);
        }
        Ok(())
    }

    fn count(&self) -> i64 {
        let is_common = |(member, score): &(Element<'_>, f64)| {
            self.judge(member.bytes(&mut I64Buf::new()), *score).is_some()
        };
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        self.sources[0].members().filter(is_common).take(limit).count() as i64
    }
}

fn answer(cx: &mut Cx<'_>, args: &mut Args<'_>, how: How, command: &str) -> CommandResult {
    let plan = Plan::read(cx, args, how, Purpose::Answer, command)?;
    if plan.work() > INLINE_ELEMENTS_MAX {
        return cx.answer_by(move |reply| plan.write(reply));
    }
    plan.write(&mut cx.reply)
}

fn zintercard(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let plan = Plan::read(cx, args, How::Intersection, Purpose::Count, "zintercard")?;
    if plan.work() <= INLINE_ELEMENTS_MAX {
        cx.reply.integer(plan.count());
        return Ok(());
    }
    cx.answer_by(move |reply| {
        reply.integer(plan.count());
        Ok(())
    })
}

fn store_result(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    how: How,
    command: &'static str,
) -> CommandResult {
    let destination = args.key();
    let plan = Plan::read(cx, args, how, Purpose::Store, command)?;
    CommandError::unless_memory(3 * plan.result_bytes())?;
    let members = plan.run();
    drop(plan);
    let members = members.iter().map(|(member, score)| (member.as_slice(), *score));
    store(cx, &destination, command, members);
    Ok(())
}
