//! One set and its members: SADD, SREM, SMOVE, SISMEMBER, SMISMEMBER, SCARD.

use super::{add_to_entry, changed, is_empty, put, read, remove_from_entry, rules, set_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::types::WrongType;
use crate::types::set::value::SetValue;

const MEMBERS: &[Arg] = &[Arg::key("key"), Arg::string("member").multiple()];

pub(super) static SADD: Command = Command {
    name: "sadd",
    member_at: 2,
    group: Group::Set,
    summary: "Adds members to a set, which is made if there is none; counts the new ones.",
    complexity: "O(N) with N members given",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::SET,
    history: &[("2.4.0", "Took more than one member.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: MEMBERS,
    reply: Shape::Integer,
    example: "> SADD s a b\n(integer) 2\n> SADD s b c\n(integer) 1",
    run: sadd,
    ..Command::BASE
};

fn sadd(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let rules = rules(cx);
    let mut rest = args.clone();
    let members = (0..args.remaining()).map(|_| rest.bytes());
    let edited = cx.keys.edit(&key, |entry| {
        set_of(entry)?;
        Ok::<usize, WrongType>(add_to_entry(entry, members, &rules))
    });
    let added = match edited {
        Some(added) => added?,
        None => {
            let first = args.peek().unwrap_or_default();
            let mut set = SetValue::new_for(first, args.remaining(), &rules);
            let mut added = 0;
            while !args.is_empty() {
                added += usize::from(set.add(args.bytes(), &rules));
            }
            put(cx, &key, &set);
            added
        }
    };
    if added > 0 {
        changed(cx, &key, "sadd", added, false);
    }
    cx.reply.integer(added as i64);
    Ok(())
}

pub(super) static SREM: Command = Command {
    name: "srem",
    member_at: 2,
    group: Group::Set,
    summary: "Removes members from a set and counts them; an empty set goes away.",
    complexity: "O(N) with N members given",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::SET,
    history: &[("2.4.0", "Took more than one member.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: MEMBERS,
    reply: Shape::Integer,
    example: "> SADD s a b\n(integer) 2\n> SREM s a x\n(integer) 1",
    run: srem,
    ..Command::BASE
};

fn srem(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let edited = cx.keys.edit(&key, |entry| {
        set_of(entry)?;
        let (mut removed, mut is_emptied) = (0, false);
        // What is left to remove cannot be in an empty set.
        while !args.is_empty() && !is_emptied {
            if remove_from_entry(entry, args.bytes()) {
                removed += 1;
                is_emptied = is_empty(entry);
            }
        }
        Ok::<(usize, bool), WrongType>((removed, is_emptied))
    });
    let (removed, is_emptied) = edited.transpose()?.unwrap_or((0, false));
    if removed > 0 {
        changed(cx, &key, "srem", removed, is_emptied);
    }
    cx.reply.integer(removed as i64);
    Ok(())
}

pub(super) static SMOVE: Command = Command {
    name: "smove",
    group: Group::Set,
    summary: "Moves a member from one set to another.",
    arity: Arity::exactly(4),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::SET,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::one(2, KeyFlags::RW.or(KeyFlags::INSERT)),
    ],
    args: &[Arg::key("source"), Arg::key("destination").key_spec(1), Arg::string("member")],
    reply: Shape::Integer,
    example: "> SADD s a b\n(integer) 2\n> SMOVE s t a\n(integer) 1\n> SMOVE s t x\n(integer) 0",
    run: smove,
    ..Command::BASE
};

fn smove(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (source, destination) = (args.key(), args.key());
    let member = args.bytes();
    args.done()?;
    let Some(entry) = cx.keys.peek(&source) else {
        cx.reply.integer(0);
        return Ok(());
    };
    let is_member = set_of(entry)?.contains(member);
    // The other key's kind is judged before anything moves, so that an error changes nothing.
    cx.keys.peek(&destination).map(set_of).transpose()?;
    cx.reply.integer(i64::from(is_member));
    // From a set into itself: the answer is that of a move, and nothing happens that could be told.
    if !is_member || source.bytes == destination.bytes {
        return Ok(());
    }
    let is_emptied = cx.keys.edit(&source, |entry| {
        remove_from_entry(entry, member);
        is_empty(entry)
    });
    changed(cx, &source, "srem", 1, is_emptied == Some(true));
    let rules = rules(cx);
    let one = std::iter::once(member);
    let added = cx.keys.edit(&destination, |entry| add_to_entry(entry, one, &rules));
    let added = added.unwrap_or_else(|| {
        let mut set = SetValue::new_for(member, 1, &rules);
        set.add(member, &rules);
        put(cx, &destination, &set);
        1
    });
    if added > 0 {
        cx.keys.changed(&destination, EventClasses::SET, "sadd");
    }
    Ok(())
}

pub(super) static SISMEMBER: Command = Command {
    name: "sismember",
    member_at: 2,
    group: Group::Set,
    summary: "Tells whether a set has a member.",
    arity: Arity::exactly(3),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key"), Arg::string("member")],
    reply: Shape::Integer,
    example: "> SADD s a\n(integer) 1\n> SISMEMBER s a\n(integer) 1\n> SISMEMBER s b\n(integer) 0",
    run: sismember,
    ..Command::BASE
};

fn sismember(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let member = args.bytes();
    args.done()?;
    let is_member = read(cx, &key)?.is_some_and(|set| set.contains(member));
    cx.reply.integer(i64::from(is_member));
    Ok(())
}

pub(super) static SMISMEMBER: Command = Command {
    name: "smismember",
    since: "6.2.0",
    group: Group::Set,
    summary: "Tells for each of several texts whether a set has it.",
    complexity: "O(N) with N texts given",
    arity: Arity::at_least(3),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: MEMBERS,
    reply: Shape::Array,
    example: "> SADD s a\n(integer) 1\n> SMISMEMBER s a b\n1) (integer) 1\n2) (integer) 0",
    run: smismember,
    ..Command::BASE
};

fn smismember(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let set = cx.keys.read(&key).map(set_of).transpose()?;
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let member = args.bytes();
        cx.reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

pub(super) static SCARD: Command = Command {
    name: "scard",
    group: Group::Set,
    summary: "Counts the members of a set.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> SADD s a b\n(integer) 2\n> SCARD s\n(integer) 2",
    run: scard,
    ..Command::BASE
};

fn scard(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len = read(cx, &key)?.map_or(0, |set| set.len());
    cx.reply.integer(len as i64);
    Ok(())
}
