//! Writing fields: HSET, HMSET, HSETNX and HDEL.

use super::{edit_hash, edit_or_make, limits};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags, Group,
    KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;

const SETS: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);

const FIELDS: Arg = Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple();

pub(super) static HSET: Command = Command {
    name: "hset",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Sets fields of a hash and tells how many of them are new.",
    complexity: "O(N) with N fields to set",
    arity: Arity::at_least(4),
    flags: SETS,
    acl: Categories::HASH,
    history: &[("4.0.0", "Took several fields.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), FIELDS],
    reply: Shape::Integer,
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HSET user name Grace\n(integer) 0",
    run: hset,
    ..Command::BASE
};

fn hset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let created = set_fields(cx, args, "hset")?;
    cx.reply.integer(created);
    Ok(())
}

pub(super) static HMSET: Command = Command {
    name: "hmset",
    since: "2.0.0",
    group: Group::Hash,
    summary: "Sets fields of a hash.",
    complexity: "O(N) with N fields to set",
    arity: Arity::at_least(4),
    flags: SETS,
    acl: Categories::HASH,
    deprecated: Some(Deprecated {
        since: "4.0.0",
        replaced_by: "`HSET` with multiple field-value pairs",
    }),
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), FIELDS],
    reply: Shape::Ok,
    example: "> HMSET user name Ada born 1815\nOK\n> HGET user born\n\"1815\"",
    run: hmset,
    ..Command::BASE
};

fn hmset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_fields(cx, args, "hmset")?;
    cx.reply.ok();
    Ok(())
}

/// Sets the fields that the arguments name and answers how many of them are new.
fn set_fields(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    command: &'static str,
) -> Result<i64, CommandError> {
    let key = args.key();
    if !args.remaining().is_multiple_of(2) {
        return Err(CommandError::WrongArity(command));
    }
    let count = args.remaining() / 2;
    let limits = limits(cx);
    let created = edit_or_make(cx, &key, |hash| {
        // So many fields most likely outgrow the packed form, in which each would be searched for
        // from the front.
        hash.prepare_for(count, &limits);
        let mut fields = args.clone();
        let mut created = 0;
        while !fields.is_empty() {
            let (name, value) = (fields.bytes(), fields.bytes());
            created += i64::from(hash.set(name, value, &limits));
        }
        created
    })?;
    changed(cx, &key, "hset", count);
    Ok(created)
}

/// Tells a change of so many fields.
pub(super) fn changed(cx: &mut Cx<'_>, key: &Key<'_>, event: &'static str, fields: usize) {
    cx.keys.changed(key, EventClasses::HASH, event);
    cx.keys.space().changes.dirty += fields as u64 - 1;
}

pub(super) static HSETNX: Command = Command {
    name: "hsetnx",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Sets a field that is not there yet.",
    arity: Arity::exactly(4),
    flags: SETS,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[Arg::key("key"), Arg::string("field"), Arg::string("value")],
    reply: Shape::Integer,
    example: "> HSETNX user name Ada\n(integer) 1\n> HSETNX user name Grace\n(integer) 0\n\
              > HGET user name\n\"Ada\"",
    run: hsetnx,
    ..Command::BASE
};

fn hsetnx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (name, value) = (args.bytes(), args.bytes());
    args.done()?;
    let limits = limits(cx);
    let is_new =
        edit_or_make(cx, &key, |hash| hash.get(name).is_none() && hash.set(name, value, &limits))?;
    if is_new {
        changed(cx, &key, "hset", 1);
    }
    cx.reply.integer(i64::from(is_new));
    Ok(())
}

pub(super) static HDEL: Command = Command {
    name: "hdel",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Removes fields from a hash; a hash without fields is removed itself.",
    complexity: "O(N) with N fields to remove",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::HASH,
    history: &[("2.4.0", "Took several fields.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("field").multiple()],
    reply: Shape::Integer,
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HDEL user born died\n(integer) 1",
    run: hdel,
    ..Command::BASE
};

fn hdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let edited = edit_hash(cx, &key, |hash| {
        let mut deleted = 0;
        // What is left to remove cannot be in an empty hash.
        while !args.is_empty() && !hash.is_empty() {
            deleted += usize::from(hash.remove(args.bytes()));
        }
        (deleted, hash.is_empty())
    })?;
    let (deleted, is_empty) = edited.unwrap_or((0, false));
    if deleted > 0 {
        if is_empty {
            cx.keys.delete(&key);
        }
        changed(cx, &key, "hdel", deleted);
        if is_empty {
            cx.keys.event(&key, EventClasses::GENERIC, "del");
        }
    }
    cx.reply.integer(deleted as i64);
    Ok(())
}
