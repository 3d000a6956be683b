//! XINFO: a stream, its groups and their consumers seen from outside.

use super::{no_group, stream_of, write_entries, write_entry, write_id};
use crate::command::help;
use crate::command::{
    self, Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::keyspace::commands::elements::INLINE_ELEMENTS_MAX;
use crate::resp::Reply;
use crate::types::stream::{Consumer, Entries, EntryRef, Group, Stream, StreamId};

pub(super) static XINFO: Command = Command {
    name: "xinfo",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Holds the commands that tell about streams.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    acl: Categories::STREAM,
    subcommands: &[&CONSUMERS, &GROUPS, &HELP, &STREAM],
    ..Command::BASE
};

const SUBCOMMAND: Command = Command {
    since: "5.0.0",
    group: command::Group::Stream,
    flags: Flags::READONLY,
    acl: Categories::STREAM,
    keys: &[KeySpec::one(2, KeyFlags::RO.or(KeyFlags::ACCESS))],
    ..Command::BASE
};

/// The stream of a key that must be there.
fn stream<'a>(cx: &'a Cx<'_>, key: &Key<'_>) -> Result<&'a Stream, CommandError> {
    Ok(stream_of(cx.keys.read(key).ok_or(CommandError::NoSuchKey)?)?)
}

static CONSUMERS: Command = Command {
    name: "consumers",
    summary: "Lists the consumers of a group.",
    arity: Arity::exactly(4),
    tips: &["nondeterministic_output"],
    history: &[("7.2.0", "Tells `inactive`; `idle` counts attempts now.")],
    args: &[Arg::key("key"), Arg::string("group")],
    reply: Shape::Array,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XINFO CONSUMERS s g\n(empty array)",
    run: consumers,
    ..SUBCOMMAND
};

fn consumers(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name) = (args.key(), args.bytes());
    args.done()?;
    let now_ms = super::now_ms(cx);
    stream(cx, &key)?;
    let Cx { keys, reply, .. } = cx;
    let stream = stream_of(keys.peek(&key).expect("it was just found"))?;
    let group = stream.groups.get(name).ok_or_else(|| no_group(&key, name))?;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk(b"idle");
        reply.integer(now_ms.saturating_sub(consumer.seen_ms).max(0));
        reply.bulk(b"inactive");
        reply.integer(consumer.active_ms.map_or(-1, |at_ms| now_ms.saturating_sub(at_ms)));
    }
    Ok(())
}

static GROUPS: Command = Command {
    name: "groups",
    summary: "Lists the groups of a stream.",
    arity: Arity::exactly(3),
    history: &[("7.0.0", "Tells `entries-read` and `lag`.")],
    args: &[Arg::key("key")],
    reply: Shape::Array,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XINFO GROUPS s\n1)  1) \"name\"\n\
              \x20   2) \"g\"\n    \
              3) \"consumers\"\n    4) (integer) 0\n    5) \"pending\"\n    6) (integer) 0\n    \
              7) \"last-delivered-id\"\n    8) \"0-0\"\n    9) \"entries-read\"\n   10) (nil)\n   \
              11) \"lag\"\n   12) (integer) 0",
    run: groups,
    ..SUBCOMMAND
};

fn groups(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    stream(cx, &key)?;
    let Cx { keys, reply, .. } = cx;
    let stream = stream_of(keys.peek(&key).expect("it was just found"))?;
    reply.array(stream.groups.len());
    for (name, group) in stream.groups.iter() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumer_count() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending().len() as i64);
        write_progress(reply, group, &stream.entries);
    }
    Ok(())
}

/// How far a group has come: three fields of a map.
fn write_progress(reply: &mut Reply<'_>, group: &Group, entries: &Entries) {
    reply.bulk(b"last-delivered-id");
    write_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    write_known(reply, group.entries_read);
    reply.bulk(b"lag");
    write_known(reply, group.lag(entries));
}

fn write_known(reply: &mut Reply<'_>, number: Option<i64>) {
    match number {
        Some(number) => reply.integer(number),
        None => reply.null(),
    }
}

static STREAM: Command = Command {
    name: "stream",
    summary: "Tells about a stream, and in full about its entries and groups.",
    arity: Arity::at_least(3),
    history: &[
        ("6.0.0", "Took `FULL`."),
        ("7.0.0", "Tells what was added and deleted, and how far groups have come."),
        ("7.2.0", "Tells `active-time`; `seen-time` counts attempts now."),
    ],
    args: &[
        Arg::key("key"),
        Arg::block(
            "full-block",
            &[Arg::flag("full", "FULL"), Arg::integer("count").token("COUNT").optional()],
        )
        .optional(),
    ],
    reply: Shape::Map,
    example: "> XINFO STREAM s\n(error) ERR no such key",
    run: stream_command,
    ..SUBCOMMAND
};

/// How many entries are told in full if nobody says.
const FULL_COUNT: i64 = 10;

fn stream_command(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.check()?;
    stream(cx, &key)?;
    let full = full_count(args)?;
    let stream = stream_of(cx.keys.peek(&key).expect("it was just found"))?;
    if is_long(stream, full.unwrap_or(1)) {
        let stream = stream.clone();
        return cx.answer_by(move |reply| {
            write_stream(reply, &stream, full);
            Ok(())
        });
    }
    let Cx { keys, reply, .. } = cx;
    write_stream(reply, stream_of(keys.peek(&key).expect("it was just found"))?, full);
    Ok(())
}

/// Whether to tell of so many entries is to be done by another thread.
fn is_long(stream: &Stream, max: usize) -> bool {
    let pending = stream.groups.iter().map(|(_, group)| group.pending().len());
    // Each is told twice, of its group and of its consumer.
    let pending = pending.map(|len| 2 * len.min(max)).fold(0, usize::saturating_add);
    super::is_long(&stream.entries, StreamId::MIN, StreamId::MAX, max)
        || pending > INLINE_ELEMENTS_MAX
}

/// Tells of a stream, in full with so many entries.
fn write_stream(reply: &mut Reply<'_>, stream: &Stream, full: Option<usize>) {
    let entries = &stream.entries;
    reply.map(if full.is_some() { 9 } else { 10 });
    let mut number = |name: &[u8], number: u64| {
        reply.bulk(name);
        reply.integer(number.cast_signed());
    };
    number(b"length", entries.len() as u64);
    number(b"radix-tree-keys", entries.node_count() as u64);
    // Redis's tree has at least one node more than keys.
    number(b"radix-tree-nodes", entries.node_count() as u64 + 1);
    let first_id = entries.first_id().unwrap_or_default();
    reply.bulk(b"last-generated-id");
    write_id(reply, entries.last_id);
    reply.bulk(b"max-deleted-entry-id");
    write_id(reply, entries.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.integer(entries.entries_added.cast_signed());
    reply.bulk(b"recorded-first-entry-id");
    write_id(reply, first_id);
    match full {
        None => write_ends(reply, stream),
        Some(max) => write_full(reply, stream, max),
    }
}

/// How many entries are to be told in full; `None` if it is not to be in full.
fn full_count(args: &mut Args<'_>) -> Result<Option<usize>, CommandError> {
    let options = args.remaining();
    if options == 0 {
        return Ok(None);
    }
    let is_known = matches!(options, 1 | 3) && args.option("full");
    if !is_known || (options == 3 && !args.option("count")) {
        return Err(CommandError::subcommand_syntax("XINFO", args.request().arg(1)));
    }
    let count = if options == 3 { args.integer() } else { FULL_COUNT };
    args.check()?;
    let count = if count < 0 { FULL_COUNT } else { count };
    // 0 stands for all.
    Ok(Some(usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX)))
}

fn write_ends(reply: &mut Reply<'_>, stream: &Stream) {
    reply.bulk(b"groups");
    reply.integer(stream.groups.len() as i64);
    let mut all = stream.entries.all();
    let first = all.next();
    let last = stream.entries.all().next_back();
    let write = |reply: &mut Reply<'_>, entry: Option<EntryRef<'_>>| match entry {
        Some(entry) => write_entry(reply, &entry),
        None => reply.null(),
    };
    reply.bulk(b"first-entry");
    write(reply, first);
    reply.bulk(b"last-entry");
    write(reply, last);
}

fn write_full(reply: &mut Reply<'_>, stream: &Stream, max: usize) {
    reply.bulk(b"entries");
    write_entries(reply, stream.entries.all(), max);
    reply.bulk(b"groups");
    reply.array(stream.groups.len());
    for (name, group) in stream.groups.iter() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        write_progress(reply, group, &stream.entries);
        reply.bulk(b"pel-count");
        reply.integer(group.pending().len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(max));
        for (id, record) in group.pending().iter().take(max) {
            reply.array(4);
            write_id(reply, id);
            reply.bulk(group.consumer(record.consumer).name());
            reply.integer(record.delivered_ms);
            reply.integer(record.deliveries.cast_signed());
        }
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            write_consumer(reply, group, consumer, max);
        }
    }
}

fn write_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, max: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_ms.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending().len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().len().min(max));
    for (id, ()) in consumer.pending().iter().take(max) {
        let record = group.pending().get(id).expect("the group has what a consumer has");
        reply.array(3);
        write_id(reply, id);
        reply.integer(record.delivered_ms);
        reply.integer(record.deliveries.cast_signed());
    }
}

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    keys: &[],
    reply: Shape::Array,
    run: help::subcommands,
    ..SUBCOMMAND
};
