//! What keys there are: EXISTS, TYPE, TOUCH, and DEL and UNLINK, which make them go away.
//!
//! DEL and UNLINK differ in name only. Small values are freed at once, big ones by the thread that
//! frees, whichever of the two was asked for; Redis's choice between them would only add a stall.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;

const ARGS: &[Arg] = &[Arg::key("key").multiple()];
const SUMMED: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

pub(super) static DEL: Command = Command {
    name: "del",
    group: Group::Generic,
    summary: "Deletes keys.",
    complexity: "O(N) with N keys; big values are freed by another thread",
    arity: Arity::at_least(2),
    flags: Flags::WRITE,
    acl: Categories::KEYSPACE,
    tips: SUMMED,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))],
    args: ARGS,
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> DEL k nothing\n(integer) 1",
    run: del,
    ..Command::BASE
};

pub(super) static UNLINK: Command = Command {
    name: "unlink",
    since: "4.0.0",
    group: Group::Generic,
    summary: "Deletes keys and leaves the freeing of big values to another thread.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    tips: SUMMED,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))],
    args: ARGS,
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> UNLINK k nothing\n(integer) 1",
    run: del,
    ..Command::BASE
};

fn del(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut deleted = 0;
    while !args.is_empty() {
        let key = args.key();
        if cx.keys.delete(&key) {
            cx.keys.changed(&key, EventClasses::GENERIC, "del");
            deleted += 1;
        }
    }
    cx.reply.integer(deleted);
    Ok(())
}

pub(super) static EXISTS: Command = Command {
    name: "exists",
    group: Group::Generic,
    summary: "Counts how many of the keys there are; a key named twice counts twice.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    tips: SUMMED,
    history: &[("3.0.3", "Took more than one key.")],
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    args: ARGS,
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> EXISTS k k nothing\n(integer) 2",
    run: exists,
    ..Command::BASE
};

fn exists(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut found = 0;
    while !args.is_empty() {
        let key = args.key();
        found += i64::from(cx.keys.look(&key).is_some());
    }
    cx.reply.integer(found);
    Ok(())
}

pub(super) static TOUCH: Command = Command {
    name: "touch",
    since: "3.2.1",
    group: Group::Generic,
    summary: "Makes keys count as used now, and counts how many of them there are.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    tips: SUMMED,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    args: ARGS,
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> TOUCH k nothing\n(integer) 1",
    run: touch,
    ..Command::BASE
};

fn touch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    // Even a client that has said CLIENT NO-TOUCH means it when it says TOUCH.
    let leaves_clocks = std::mem::replace(&mut cx.keys.leaves_clocks, false);
    let mut found = 0;
    while !args.is_empty() {
        let key = args.key();
        found += i64::from(cx.keys.read(&key).is_some());
    }
    cx.keys.leaves_clocks = leaves_clocks;
    cx.reply.integer(found);
    Ok(())
}

pub(super) static TYPE: Command = Command {
    name: "type",
    group: Group::Generic,
    summary: "Names the type of a key's value.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Simple,
    example: "> SET k v\nOK\n> TYPE k\nstring\n> TYPE nothing\nnone",
    run: type_,
    ..Command::BASE
};

fn type_(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let name = cx.keys.look(&key).map_or("none", |entry| entry.kind().name());
    cx.reply.simple(name.as_bytes());
    Ok(())
}
