//! XGROUP: groups and consumers made, moved and deleted.

use super::{
    INVALID_ID, changed_quietly, edit_stream, event, is_stream, no_group, offer, put_stream,
};
use crate::command::help;
use crate::command::{
    self, Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::types::stream::{Entries, Group, Stream, StreamId};

pub(super) static XGROUP: Command = Command {
    name: "xgroup",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Holds the commands about consumer groups.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    acl: Categories::STREAM,
    subcommands: &[&CREATE, &CREATECONSUMER, &DELCONSUMER, &DESTROY, &HELP, &SETID],
    ..Command::BASE
};

const SUBCOMMAND: Command = Command {
    since: "5.0.0",
    group: command::Group::Stream,
    flags: Flags::WRITE,
    acl: Categories::STREAM,
    ..Command::BASE
};

const ID_SELECTOR: Arg = Arg::one_of("id-selector", &[Arg::string("id"), Arg::flag("new-id", "$")]);

const ENTRIES_READ: Arg = Arg::integer("entries-read").token("ENTRIESREAD").optional();

/// Which options a subcommand knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    EntriesRead,
    EntriesReadAndMkstream,
}

/// The options after an ID: whether a stream is to be made, and how many entries count as read.
fn options(args: &mut Args<'_>, takes: Takes) -> Result<(bool, Option<i64>), CommandError> {
    let (mut makes_stream, mut entries_read) = (false, None);
    while !args.is_empty() {
        if takes == Takes::EntriesReadAndMkstream && args.option("mkstream") {
            makes_stream = true;
        } else if args.option_with_value("entriesread") {
            let count = args.integer();
            args.check()?;
            if count < -1 {
                return Err(CommandError::Fixed(
                    "ERR value for ENTRIESREAD must be positive or -1",
                ));
            }
            entries_read = Some(count).filter(|count| *count >= 0);
        } else {
            return Err(CommandError::subcommand_syntax("XGROUP", args.request().arg(1)));
        }
    }
    Ok((makes_stream, entries_read))
}

fn no_stream() -> CommandError {
    CommandError::Fixed(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want \
         to use the MKSTREAM option to create an empty stream automatically.",
    )
}

/// `$` is the last ID of the stream.
fn position(text: &[u8], entries: &Entries) -> Result<StreamId, CommandError> {
    if text == b"$" { Ok(entries.last_id) } else { StreamId::parse(text, 0).ok_or(INVALID_ID) }
}

/// Nobody has read more entries than there ever were, whatever a client says.
fn no_more_than_added(entries_read: Option<i64>, entries: &Entries) -> Option<i64> {
    let added = i64::try_from(entries.entries_added).unwrap_or(i64::MAX);
    entries_read.map(|read| read.min(added))
}

/// Changes a group that must be there.
fn edit_group<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    name: &[u8],
    edit: impl FnOnce(&mut Group, &Entries) -> R,
) -> Result<R, CommandError> {
    let edited = edit_stream(cx, key, |stream, _| {
        let group = stream.groups.get_mut(name)?;
        Some(edit(group, &stream.entries))
    })?;
    edited.ok_or_else(no_stream)?.ok_or_else(|| no_group(key, name))
}

static CREATE: Command = Command {
    name: "create",
    summary: "Makes a group that is to read the entries after an ID.",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    history: &[("7.0.0", "Took `ENTRIESREAD`.")],
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[
        Arg::key("key"),
        Arg::string("group"),
        ID_SELECTOR,
        Arg::flag("mkstream", "MKSTREAM").optional(),
        ENTRIES_READ,
    ],
    reply: Shape::Ok,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XGROUP CREATE s g $\n\
              (error) BUSYGROUP Consumer Group name already exists",
    run: create,
    ..SUBCOMMAND
};

fn create(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, at) = (args.key(), args.bytes(), args.bytes());
    args.check()?;
    let words = args.request().len();
    let (makes_stream, entries_read) = options(args, Takes::EntriesReadAndMkstream)?;
    let is_there = is_stream(cx, &key)?;
    if !is_there && !makes_stream {
        return Err(no_stream());
    }
    // The options may be repeated, but not that often.
    if words > 8 {
        return Err(CommandError::subcommand_syntax("XGROUP", args.request().arg(1)));
    }
    let add = |stream: &mut Stream| {
        let id = position(at, &stream.entries)?;
        let entries_read = no_more_than_added(entries_read, &stream.entries);
        if !stream.groups.add(name, Group::new(id, entries_read)) {
            return Err(CommandError::Fixed("BUSYGROUP Consumer Group name already exists"));
        }
        Ok(())
    };
    if is_there {
        edit_stream(cx, &key, |stream, _| add(stream))?.unwrap_or(Ok(()))?;
    } else {
        let mut stream = Stream::default();
        add(&mut stream)?;
        put_stream(cx, &key, stream);
        cx.keys.touch(&key);
    }
    cx.reply.ok();
    changed_quietly(cx, 1);
    event(cx, &key, "xgroup-create");
    Ok(())
}

static SETID: Command = Command {
    name: "setid",
    summary: "Sets the last entry that a group has delivered.",
    arity: Arity::at_least(5),
    history: &[("7.0.0", "Took `ENTRIESREAD`.")],
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), Arg::string("group"), ID_SELECTOR, ENTRIES_READ],
    reply: Shape::Ok,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XGROUP SETID s g 0\nOK",
    run: setid,
    ..SUBCOMMAND
};

fn setid(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, at) = (args.key(), args.bytes(), args.bytes());
    args.check()?;
    let words = args.request().len();
    let (_, entries_read) = options(args, Takes::EntriesRead)?;
    let outcome = edit_group(cx, &key, name, |group, entries| {
        if words != 5 && words != 7 {
            return Err(CommandError::subcommand_syntax("XGROUP", args.request().arg(1)));
        }
        // Unlike CREATE, it knows the ends of ranges.
        group.last_id = match StreamId::parse_or_end(at, 0) {
            Some(id) => id,
            None => position(at, entries)?,
        };
        group.entries_read = no_more_than_added(entries_read, entries);
        Ok(())
    })?;
    outcome?;
    cx.reply.ok();
    changed_quietly(cx, 1);
    event(cx, &key, "xgroup-setid");
    Ok(())
}

static DESTROY: Command = Command {
    name: "destroy",
    summary: "Deletes a group with its consumers; says whether there was one.",
    complexity: "O(N) with N entries pending in the group",
    arity: Arity::exactly(4),
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("group")],
    reply: Shape::Integer,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XGROUP DESTROY s g\n(integer) 1",
    run: destroy,
    ..SUBCOMMAND
};

fn destroy(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name) = (args.key(), args.bytes());
    args.done()?;
    let removed = edit_stream(cx, &key, |stream, _| stream.groups.take(name))?;
    let removed = removed.ok_or_else(no_stream)?;
    cx.reply.integer(i64::from(removed.is_some()));
    if let Some(groups) = removed {
        super::discard(cx, Stream { groups, ..Stream::default() });
        changed_quietly(cx, 1);
        event(cx, &key, "xgroup-destroy");
        offer(cx, &key);
    }
    Ok(())
}

static CREATECONSUMER: Command = Command {
    name: "createconsumer",
    since: "6.2.0",
    summary: "Makes a consumer in a group; says whether it is new.",
    arity: Arity::exactly(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[Arg::key("key"), Arg::string("group"), Arg::string("consumer")],
    reply: Shape::Integer,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XGROUP CREATECONSUMER s g c\n(integer) 1",
    run: createconsumer,
    ..SUBCOMMAND
};

fn createconsumer(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.key(), args.bytes(), args.bytes());
    args.done()?;
    let now_ms = super::now_ms(cx);
    let made = edit_group(cx, &key, name, |group, _| group.find_or_make(consumer, now_ms).1)?;
    if made {
        consumer_made(cx, &key);
    }
    cx.reply.integer(i64::from(made));
    Ok(())
}

pub(super) fn consumer_made(cx: &mut Cx<'_>, key: &Key<'_>) {
    changed_quietly(cx, 1);
    event(cx, key, "xgroup-createconsumer");
}

static DELCONSUMER: Command = Command {
    name: "delconsumer",
    summary: "Deletes a consumer and counts what was pending with it, which is pending no more.",
    arity: Arity::exactly(5),
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("group"), Arg::string("consumer")],
    reply: Shape::Integer,
    example: "> XGROUP CREATE s g $ MKSTREAM\nOK\n> XGROUP DELCONSUMER s g c\n(integer) 0",
    run: delconsumer,
    ..SUBCOMMAND
};

fn delconsumer(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.key(), args.bytes(), args.bytes());
    args.done()?;
    let pending = edit_group(cx, &key, name, |group, _| {
        group.find(consumer).map(|number| group.delete_consumer(number))
    })?;
    if pending.is_some() {
        changed_quietly(cx, 1);
        event(cx, &key, "xgroup-delconsumer");
    }
    cx.reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..SUBCOMMAND
};
