//! Reading fields: HGET, HMGET, HEXISTS, HLEN, HSTRLEN, HGETALL, HKEYS and HVALS.

use super::{READS, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::{is_long, write_element};
use crate::resp::Reply;
use crate::structs::listpack::Element;
use crate::types::hash::{HashRef, LiveTable};

const READS_FAST: Flags = Flags::READONLY.or(Flags::FAST);

pub(super) static HGET: Command = Command {
    name: "hget",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Returns the value of a field.",
    arity: Arity::exactly(3),
    flags: READS_FAST,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::string("field")],
    reply: Shape::BulkOrNull,
    example: "> HSET user name Ada\n(integer) 1\n> HGET user name\n\"Ada\"\n> HGET user age\n(nil)",
    run: hget,
    ..Command::BASE
};

fn hget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let name = args.bytes();
    args.done()?;
    let hash = read_hash(&cx.keys, &key)?;
    write_or_null(&mut cx.reply, hash.and_then(|hash| hash.get(name)));
    Ok(())
}

pub(super) fn write_or_null(reply: &mut Reply<'_>, value: Option<Element<'_>>) {
    match value {
        Some(value) => write_element(reply, value),
        None => reply.null(),
    }
}

pub(super) static HMGET: Command = Command {
    name: "hmget",
    since: "2.0.0",
    group: Group::Hash,
    summary: "Returns the values of several fields.",
    complexity: "O(N) with N fields asked for",
    arity: Arity::at_least(3),
    flags: READS_FAST,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::string("field").multiple()],
    reply: Shape::Array,
    example: "> HSET user name Ada\n(integer) 1\n> HMGET user name age\n1) \"Ada\"\n2) (nil)",
    run: hmget,
    ..Command::BASE
};

fn hmget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let hash = read_hash(&cx.keys, &key)?;
    cx.reply.array(args.remaining());
    if let Some(HashRef::Table(live)) = hash {
        let mut ahead = args.clone();
        live.table().prefetch(std::iter::from_fn(|| (!ahead.is_empty()).then(|| ahead.bytes())));
    }
    while !args.is_empty() {
        let name = args.bytes();
        write_or_null(&mut cx.reply, hash.and_then(|hash| hash.get(name)));
    }
    Ok(())
}

pub(super) static HEXISTS: Command = Command {
    name: "hexists",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Tells whether a hash has a field.",
    arity: Arity::exactly(3),
    flags: READS_FAST,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key"), Arg::string("field")],
    reply: Shape::Integer,
    example: "> HSET user name Ada\n(integer) 1\n> HEXISTS user name\n(integer) 1\n\
              > HEXISTS user age\n(integer) 0",
    run: hexists,
    ..Command::BASE
};

fn hexists(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let name = args.bytes();
    args.done()?;
    let hash = read_hash(&cx.keys, &key)?;
    cx.reply.integer(i64::from(hash.is_some_and(|hash| hash.get(name).is_some())));
    Ok(())
}

pub(super) static HLEN: Command = Command {
    name: "hlen",
    since: "2.0.0",
    group: Group::Hash,
    summary: "Returns the number of fields of a hash.",
    arity: Arity::exactly(2),
    flags: READS_FAST,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HLEN user\n(integer) 2",
    run: hlen,
    ..Command::BASE
};

fn hlen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    match read_hash(&cx.keys, &key)? {
        // Many fields may have come to their time and are to be counted out.
        Some(HashRef::Table(live)) if live.has_due() && is_long_table(live) => {
            let (table, horizon_ms) = (live.table().clone(), cx.keys.horizon_ms());
            return cx.answer_by(move |reply| {
                reply.integer(LiveTable::new(&table, horizon_ms).len() as i64);
                Ok(())
            });
        }
        hash => cx.reply.integer(hash.map_or(0, HashRef::len) as i64),
    }
    Ok(())
}

/// Whether visiting all fields of a table is to be done on another thread.
fn is_long_table(live: LiveTable<'_>) -> bool {
    let table = live.table();
    is_long(table.len(), table.len(), table.memory_bytes())
}

pub(super) static HSTRLEN: Command = Command {
    name: "hstrlen",
    member_at: 2,
    since: "3.2.0",
    group: Group::Hash,
    summary: "Returns the length of a field's value.",
    arity: Arity::exactly(3),
    flags: READS_FAST,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key"), Arg::string("field")],
    reply: Shape::Integer,
    example: "> HSET user name Ada\n(integer) 1\n> HSTRLEN user name\n(integer) 3",
    run: hstrlen,
    ..Command::BASE
};

fn hstrlen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let name = args.bytes();
    args.done()?;
    let value = read_hash(&cx.keys, &key)?.and_then(|hash| hash.get(name));
    cx.reply.integer(value.map_or(0, Element::text_len) as i64);
    Ok(())
}

/// What of each field is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    Both,
    Names,
    Values,
}

/// What the records of HGETALL, HKEYS and HVALS have in common.
const LISTS: Command = Command {
    since: "2.0.0",
    group: Group::Hash,
    complexity: "O(N) with N fields in the hash, on another thread when they are many",
    arity: Arity::exactly(2),
    flags: Flags::READONLY,
    acl: Categories::HASH,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key")],
    reply: Shape::Array,
    ..Command::BASE
};

pub(super) static HGETALL: Command = Command {
    name: "hgetall",
    summary: "Returns all fields of a hash with their values.",
    reply: Shape::Map,
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HGETALL user\n\
              1) \"name\"\n2) \"Ada\"\n3) \"born\"\n4) \"1815\"",
    run: hgetall,
    ..LISTS
};

fn hgetall(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    list(cx, args, Listing::Both)
}

pub(super) static HKEYS: Command = Command {
    name: "hkeys",
    summary: "Returns the names of all fields of a hash.",
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HKEYS user\n1) \"name\"\n2) \"born\"",
    run: hkeys,
    ..LISTS
};

fn hkeys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    list(cx, args, Listing::Names)
}

pub(super) static HVALS: Command = Command {
    name: "hvals",
    summary: "Returns the values of all fields of a hash.",
    example: "> HSET user name Ada born 1815\n(integer) 2\n> HVALS user\n1) \"Ada\"\n2) \"1815\"",
    run: hvals,
    ..LISTS
};

fn hvals(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    list(cx, args, Listing::Values)
}

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>, listing: Listing) -> CommandResult {
    let key = args.key();
    args.done()?;
    match read_hash(&cx.keys, &key)? {
        Some(HashRef::Table(live)) if is_long_table(live) => {
            let (table, horizon_ms) = (live.table().clone(), cx.keys.horizon_ms());
            return cx.answer_by(move |reply| {
                let live = LiveTable::new(&table, horizon_ms);
                write_listing(reply, HashRef::Table(live), listing);
                Ok(())
            });
        }
        Some(hash) => write_listing(&mut cx.reply, hash, listing),
        None if listing == Listing::Both => cx.reply.map(0),
        None => cx.reply.array(0),
    }
    Ok(())
}

fn write_listing(reply: &mut Reply<'_>, hash: HashRef<'_>, listing: Listing) {
    if listing == Listing::Both {
        reply.map(hash.len());
    } else {
        reply.array(hash.len());
    }
    for (name, value) in hash.iter() {
        if listing != Listing::Values {
            write_element(reply, name);
        }
        if listing != Listing::Names {
            write_element(reply, value);
        }
    }
}
