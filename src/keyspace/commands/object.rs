//! OBJECT: what the server knows of a value beside its contents.
//!
//! The encodings are Redis's names for Redis's thresholds, whatever lies in memory, because users
//! tune by them. Looking at a value this way is no use of it: access clocks stay.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape, help,
};
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::structs::number::parse_i64;
use crate::types::Encoding;

pub(super) static OBJECT: Command = Command {
    name: "object",
    since: "2.2.3",
    group: Group::Generic,
    summary: "Holds the commands about how a value is kept.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&ENCODING, &FREQ, &HELP, &IDLETIME, &REFCOUNT],
    ..Command::BASE
};

/// What the subcommands about a key have in common.
const ABOUT_KEY: Command = Command {
    since: "2.2.3",
    group: Group::Generic,
    arity: Arity::exactly(3),
    flags: Flags::READONLY,
    acl: Categories::KEYSPACE,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(2, KeyFlags::RO)],
    args: &[Arg::key("key")],
    ..Command::BASE
};

static ENCODING: Command = Command {
    name: "encoding",
    summary: "Names the encoding of a value.",
    reply: Shape::BulkOrNull,
    example: "> SET k 12\nOK\n> OBJECT ENCODING k\n\"int\"\n> OBJECT ENCODING nothing\n(nil)",
    run: encoding,
    ..ABOUT_KEY
};

fn encoding(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    match cx.keys.look_quietly(&key) {
        Some(entry) => cx.reply.bulk(encoding_name(entry).as_bytes()),
        None => cx.reply.null(),
    }
    Ok(())
}

fn encoding_name(entry: &Entry) -> &'static str {
    entry.encoding().name()
}

static FREQ: Command = Command {
    name: "freq",
    since: "4.0.0",
    summary: "Returns the logarithmic count of a key's accesses.",
    reply: Shape::IntegerOrNull,
    example: "> CONFIG SET maxmemory-policy allkeys-lfu\nOK\n> SET k v\nOK\n\
              > OBJECT FREQ k\n(integer) 5",
    run: freq,
    ..ABOUT_KEY
};

fn freq(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let Some(clock) = cx.keys.look_quietly(&key).map(Entry::clock) else {
        cx.reply.null();
        return Ok(());
    };
    if !cx.server.config.maxmemory_policy.is_lfu() {
        return Err(CommandError::Fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take some \
             time to adjust.",
        ));
    }
    cx.reply.integer(i64::from(cx.keys.space().access.frequency(clock)));
    Ok(())
}

static IDLETIME: Command = Command {
    name: "idletime",
    summary: "Returns the seconds since a key was last used.",
    reply: Shape::IntegerOrNull,
    example: "> SET k v\nOK\n> OBJECT IDLETIME k\n(integer) 0",
    run: idletime,
    ..ABOUT_KEY
};

fn idletime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let Some(clock) = cx.keys.look_quietly(&key).map(Entry::clock) else {
        cx.reply.null();
        return Ok(());
    };
    if cx.server.config.maxmemory_policy.is_lfu() {
        return Err(CommandError::Fixed(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    cx.reply.integer(cx.keys.space().access.idle_seconds(clock).cast_signed());
    Ok(())
}

static REFCOUNT: Command = Command {
    name: "refcount",
    summary: "Returns how many keys share a value; it is always one or, for small integers, many.",
    reply: Shape::IntegerOrNull,
    example: "> SET k v\nOK\n> OBJECT REFCOUNT k\n(integer) 1",
    run: refcount,
    ..ABOUT_KEY
};

/// Redis keeps one object for each of these integers and answers this count for it.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

fn refcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let config = &cx.server.config;
    let may_share = config.maxmemory == 0 || !config.maxmemory_policy.reads_clocks();
    match cx.keys.look_quietly(&key) {
        Some(entry) => {
            let is_shared = may_share && is_small_integer(entry);
            cx.reply.integer(if is_shared { SHARED_REFCOUNT } else { 1 });
        }
        None => cx.reply.null(),
    }
    Ok(())
}

fn is_small_integer(entry: &Entry) -> bool {
    let value = entry.string().filter(|_| entry.encoding() == Encoding::Int);
    value.and_then(parse_i64).is_some_and(|value| SHARED_INTEGERS.contains(&value))
}

static HELP: Command = Command {
    name: "help",
    since: "6.2.0",
    group: Group::Generic,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    acl: Categories::KEYSPACE,
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};
