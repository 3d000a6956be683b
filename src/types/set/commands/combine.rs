//! Several sets at once: SINTER, SUNION, SDIFF, what they store, SINTERCARD; and SMEMBERS.
//!
//! A missing key is an empty set. What only reads is handed to another thread when it is long; what
//! stores its result runs here, since the next command must see it.

use std::ops::ControlFlow;

use super::{put, rules, set_of, write_members};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::commands::elements::{is_long, write_element};
use crate::keyspace::{Entry, Key, Keys};
use crate::resp::Reply;
use crate::types::WrongType;
use crate::types::set::algebra;
use crate::types::set::value::{Rules, SetRef, SetValue};

const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const SOURCES: &[Arg] = &[Arg::key("key").multiple()];
const STORES: &[KeySpec] =
    &[KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE)), KeySpec::range(2, -1, 1, READS)];
/// As Redis tells of SINTERSTORE, which reads its destination no more than the others do.
const INTER_STORES: &[KeySpec] =
    &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE)), KeySpec::range(2, -1, 1, READS)];
const STORE_ARGS: &[Arg] = &[Arg::key("destination"), Arg::key("key").key_spec(1).multiple()];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Combination {
    Intersection,
    Union,
    Difference,
}

pub(super) static SMEMBERS: Command = Command {
    name: "smembers",
    group: Group::Set,
    summary: "Returns all members of a set.",
    complexity: "O(N) with N members, on another thread when they are many",
    arity: Arity::exactly(2),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: UNORDERED,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key")],
    reply: Shape::Set,
    example: "> SADD s 2 1\n(integer) 2\n> SMEMBERS s\n1) \"1\"\n2) \"2\"",
    run: sinter,
    ..Command::BASE
};

pub(super) static SINTER: Command = Command {
    name: "sinter",
    group: Group::Set,
    summary: "Returns the members that all of the sets have.",
    complexity: "O(N*M) with N members in the smallest of M sets",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: UNORDERED,
    keys: &[KeySpec::range(1, -1, 1, READS)],
    args: SOURCES,
    reply: Shape::Set,
    example: "> SADD s 1 2 3\n(integer) 3\n> SADD t 2 3 4\n(integer) 3\n> SINTER s t\n1) \"2\"\n\
              2) \"3\"",
    run: sinter,
    ..Command::BASE
};

fn sinter(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, Combination::Intersection)
}

pub(super) static SUNION: Command = Command {
    name: "sunion",
    group: Group::Set,
    summary: "Returns the members that any of the sets has.",
    complexity: "O(N) with N members in all sets together",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: UNORDERED,
    keys: &[KeySpec::range(1, -1, 1, READS)],
    args: SOURCES,
    reply: Shape::Set,
    example: "> SADD s 1 2\n(integer) 2\n> SADD t 2 3\n(integer) 2\n> SUNION s t\n1) \"1\"\n\
              2) \"2\"\n3) \"3\"",
    run: sunion,
    ..Command::BASE
};

fn sunion(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, Combination::Union)
}

pub(super) static SDIFF: Command = Command {
    name: "sdiff",
    group: Group::Set,
    summary: "Returns the members of the first set that none of the others has.",
    complexity: "O(N*M) with N members in the first of M sets",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: UNORDERED,
    keys: &[KeySpec::range(1, -1, 1, READS)],
    args: SOURCES,
    reply: Shape::Set,
    example: "> SADD s 1 2 3\n(integer) 3\n> SADD t 2\n(integer) 1\n> SDIFF s t\n1) \"1\"\n\
              2) \"3\"",
    run: sdiff,
    ..Command::BASE
};

fn sdiff(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, Combination::Difference)
}

pub(super) static SINTERSTORE: Command = Command {
    name: "sinterstore",
    group: Group::Set,
    summary: "Stores the members that all of the sets have, and counts them.",
    complexity: "O(N*M) with N members in the smallest of M sets",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::SET,
    keys: INTER_STORES,
    args: STORE_ARGS,
    reply: Shape::Integer,
    example: "> SADD s 1 2 3\n(integer) 3\n> SADD t 2 3 4\n(integer) 3\n\
              > SINTERSTORE both s t\n(integer) 2",
    run: sinterstore,
    ..Command::BASE
};

fn sinterstore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    store(cx, args, Combination::Intersection, "sinterstore")
}

pub(super) static SUNIONSTORE: Command = Command {
    name: "sunionstore",
    group: Group::Set,
    summary: "Stores the members that any of the sets has, and counts them.",
    complexity: "O(N) with N members in all sets together",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::SET,
    keys: STORES,
    args: STORE_ARGS,
    reply: Shape::Integer,
    example: "> SADD s 1 2\n(integer) 2\n> SADD t 2 3\n(integer) 2\n\
              > SUNIONSTORE all s t\n(integer) 3",
    run: sunionstore,
    ..Command::BASE
};

fn sunionstore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    store(cx, args, Combination::Union, "sunionstore")
}

pub(super) static SDIFFSTORE: Command = Command {
    name: "sdiffstore",
    group: Group::Set,
    summary: "Stores the members of the first set that none of the others has, and counts them.",
    complexity: "O(N*M) with N members in the first of M sets",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::SET,
    keys: STORES,
    args: STORE_ARGS,
    reply: Shape::Integer,
    example: "> SADD s 1 2 3\n(integer) 3\n> SADD t 2\n(integer) 1\n\
              > SDIFFSTORE rest s t\n(integer) 2",
    run: sdiffstore,
    ..Command::BASE
};

fn sdiffstore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    store(cx, args, Combination::Difference, "sdiffstore")
}

pub(super) static SINTERCARD: Command = Command {
    name: "sintercard",
    since: "7.0.0",
    group: Group::Set,
    summary: "Counts the members that all of the sets have, up to a limit.",
    complexity: "O(N*M) with N members in the smallest of M sets",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::SET,
    keys: &[KeySpec::counted(1, READS)],
    args: &[
        Arg::integer("numkeys"),
        Arg::key("key").multiple(),
        Arg::integer("limit").token("LIMIT").optional(),
    ],
    reply: Shape::Integer,
    example: "> SADD s 1 2 3\n(integer) 3\n> SADD t 2 3 4\n(integer) 3\n\
              > SINTERCARD 2 s t\n(integer) 2\n> SINTERCARD 2 s t LIMIT 1\n(integer) 1",
    run: sintercard,
    ..Command::BASE
};

fn sintercard(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const TOO_FEW: CommandError = CommandError::Fixed("ERR numkeys should be greater than 0");
    const NEGATIVE: CommandError = CommandError::Fixed("ERR LIMIT can't be negative");
    let key_count = args.integer_or(TOO_FEW);
    args.check()?;
    let key_count = usize::try_from(key_count).ok().filter(|count| *count > 0).ok_or(TOO_FEW)?;
    if key_count > args.remaining() {
        return Err(CommandError::Fixed("ERR Number of keys can't be greater than number of args"));
    }
    let keys: Vec<Key<'_>> = (0..key_count).map(|_| args.key()).collect();
    let mut limit = 0;
    while !args.is_empty() {
        if !args.option_with_value("limit") {
            return Err(CommandError::Syntax);
        }
        limit = args.integer_or(NEGATIVE);
        args.check()?;
        if limit < 0 {
            return Err(NEGATIVE);
        }
    }
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let Some(sets) = all_or_none(find(&cx.keys, &keys)?) else {
        cx.reply.integer(0);
        return Ok(());
    };
    if !is_long_work(Combination::Intersection, &sets, limit) {
        let count = count_common(&sets, limit);
        cx.reply.integer(count);
        return Ok(());
    }
    let sets: Vec<SetValue> = sets.into_iter().map(SetRef::to_value).collect();
    cx.answer_by(move |reply| {
        let sets: Vec<SetRef<'_>> = sets.iter().map(SetValue::as_ref).collect();
        reply.integer(count_common(&sets, limit));
        Ok(())
    })
}

fn count_common(sets: &[SetRef<'_>], limit: usize) -> i64 {
    let mut count = 0;
    let _ = algebra::intersect(sets, |_| {
        count += 1;
        if count < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    count as i64
}

/// The sets of some keys, in order.
fn find<'a>(space: &'a Keys<'_>, keys: &[Key<'_>]) -> Result<Vec<Option<SetRef<'a>>>, WrongType> {
    keys.iter().map(|key| space.read(key).map(set_of).transpose()).collect()
}

fn all_or_none(sets: Vec<Option<SetRef<'_>>>) -> Option<Vec<SetRef<'_>>> {
    sets.into_iter().collect()
}

/// What is left to combine when missing keys have had their effect; nothing if the result is empty.
fn operands(how: Combination, sets: Vec<Option<SetRef<'_>>>) -> Vec<SetRef<'_>> {
    match how {
        Combination::Intersection => all_or_none(sets).unwrap_or_default(),
        Combination::Difference if sets[0].is_none() => Vec::new(),
        _ => sets.into_iter().flatten().collect(),
    }
}

/// What the result takes at most.
fn result_bytes(space: &Keys<'_>, keys: &[Key<'_>], how: Combination) -> usize {
    let mut sizes = keys.iter().map(|key| space.peek(key).map_or(0, Entry::heap_bytes));
    let most = match how {
        Combination::Intersection => sizes.min(),
        Combination::Difference => sizes.next(),
        Combination::Union => Some(sizes.sum()),
    };
    most.unwrap_or(0)
}

/// Whether combining, up to a limit of members, is to be done on another thread.
fn is_long_work(how: Combination, sets: &[SetRef<'_>], limit: usize) -> bool {
    let len: usize = sets.iter().map(|set| set.len()).sum();
    let mut lens = sets.iter().map(|set| set.len());
    let visited = match how {
        Combination::Intersection => lens.min(),
        Combination::Difference => lens.next(),
        Combination::Union => Some(len),
    };
    let bytes = sets.iter().map(|set| set.table_bytes()).sum();
    is_long(visited.unwrap_or(0).min(limit), len, bytes)
}

fn answer(cx: &mut Cx<'_>, args: &mut Args<'_>, how: Combination) -> CommandResult {
    let rules = rules(cx);
    let keys: Vec<Key<'_>> = (0..args.remaining()).map(|_| args.key()).collect();
    let sets = operands(how, find(&cx.keys, &keys)?);
    if !is_long_work(how, &sets, usize::MAX) {
        write(&mut cx.reply, how, &sets, &rules);
        return Ok(());
    }
    let sets: Vec<SetValue> = sets.into_iter().map(SetRef::to_value).collect();
    cx.answer_by(move |reply| {
        let sets: Vec<SetRef<'_>> = sets.iter().map(SetValue::as_ref).collect();
        write(reply, how, &sets, &rules);
        Ok(())
    })
}

/// Writes a combination as a reply. No sets at all is an empty one.
fn write(reply: &mut Reply<'_>, how: Combination, sets: &[SetRef<'_>], rules: &Rules) {
    match (how, sets) {
        (_, []) => reply.set(0),
        (_, [only]) => {
            reply.set(only.len());
            write_members(reply, *only);
        }
        (Combination::Union, sets) => {
            let union = algebra::union_to_read(sets, rules);
            reply.set(union.len());
            write_members(reply, union.as_ref());
        }
        (how, [first, others @ ..]) => {
            let deferred = reply.begin_deferred();
            let mut count = 0;
            let visit = |element| {
                write_element(reply, element);
                count += 1;
                ControlFlow::Continue(())
            };
            let _ = match how {
                Combination::Difference => algebra::subtract(*first, others, visit),
                _ => algebra::intersect(sets, visit),
            };
            reply.end_set(deferred, count);
        }
    }
}

fn store(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    how: Combination,
    event: &'static str,
) -> CommandResult {
    let rules = rules(cx);
    let destination = args.key();
    let keys: Vec<Key<'_>> = (0..args.remaining()).map(|_| args.key()).collect();
    let sets = operands(how, find(&cx.keys, &keys)?);
    CommandError::unless_memory(result_bytes(&cx.keys, &keys, how))?;
    let result = match (how, sets.as_slice()) {
        (_, []) => SetValue::new_intset(),
        (Combination::Intersection, sets) => algebra::intersection(sets, &rules),
        (Combination::Union, sets) => algebra::union(sets, &rules),
        (Combination::Difference, [first, others @ ..]) => {
            algebra::difference(*first, others, &rules)
        }
    };
    cx.reply.integer(result.len() as i64);
    if !result.is_empty() {
        put(cx, &destination, &result);
        cx.keys.changed(&destination, EventClasses::SET, event);
    } else if cx.keys.delete(&destination) {
        cx.keys.changed(&destination, EventClasses::GENERIC, "del");
    }
    Ok(())
}
