//! Entries out by ID, and the counters that remember them: XDEL, XDELEX, XACKDEL, XSETID.
//!
//! XDELEX and XACKDEL say what happens to groups in which an entry is pending: it may stay so, be
//! forgotten, or keep the entry from being deleted.

use super::{INVALID_ID, changed_quietly, edit_stream, event, id, ids};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::types::stream::{References, Stream, StreamId};

pub(super) static XDEL: Command = Command {
    name: "xdel",
    since: "5.0.0",
    group: Group::Stream,
    summary: "Deletes entries and counts them; groups in which they are pending keep their IDs.",
    complexity: "O(1) for each entry",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("id").multiple()],
    reply: Shape::Integer,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XDEL s 1-1 2-1\n(integer) 1",
    run: xdel,
    ..Command::BASE
};

fn xdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    if !super::is_stream(cx, &key)? {
        cx.reply.integer(0);
        return Ok(());
    }
    let ids = ids(args)?;
    let delete = |stream: &mut Stream| ids.iter().filter(|id| stream.entries.delete(**id)).count();
    let deleted = edit_stream(cx, &key, |stream, _| delete(stream))?.unwrap_or(0);
    deleted_entries(cx, &key, deleted);
    cx.reply.integer(deleted as i64);
    Ok(())
}

fn deleted_entries(cx: &mut Cx<'_>, key: &Key<'_>, count: usize) {
    if count > 0 {
        cx.keys.changed(key, EventClasses::STREAM, "xdel");
        changed_quietly(cx, count - 1);
    }
}

/// What became of one entry, as it is answered.
#[derive(Clone, Copy)]
enum Fate {
    Missing = -1,
    Deleted = 1,
    Kept = 2,
}

/// What is to become of groups in which an entry is pending.
pub(super) const REFERENCES: Arg = Arg::one_of(
    "condition",
    &[Arg::flag("keepref", "KEEPREF"), Arg::flag("delref", "DELREF"), Arg::flag("acked", "ACKED")],
)
.optional();

/// The next argument if it is one of [`REFERENCES`].
pub(super) fn references(args: &mut Args<'_>) -> Option<References> {
    let words = [
        ("keepref", References::Keep),
        ("delref", References::Delete),
        ("acked", References::Acknowledged),
    ];
    words.into_iter().find(|(word, _)| args.option(word)).map(|(_, references)| references)
}

const IDS: Arg =
    Arg::block("ids", &[Arg::integer("numids"), Arg::string("id").multiple()]).token("IDS");

pub(super) static XDELEX: Command = Command {
    name: "xdelex",
    since: "8.2.0",
    group: Group::Stream,
    summary: "Deletes entries, with or without regard to groups, and says what became of each.",
    complexity: "O(1) for each entry and group",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), REFERENCES, IDS],
    reply: Shape::Array,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XDELEX s DELREF IDS 2 1-1 2-1\n1) (integer) 1\n\
              2) (integer) -1",
    run: xdelex,
    ..Command::BASE
};

pub(super) static XACKDEL: Command = Command {
    name: "xackdel",
    since: "8.2.0",
    group: Group::Stream,
    summary: "Acknowledges entries in a group and deletes them, unless other groups need them.",
    complexity: "O(1) for each entry and group",
    arity: Arity::at_least(6),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE).or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::string("group"), REFERENCES, IDS],
    reply: Shape::Array,
    example: "> XGROUP CREATE s g 0 MKSTREAM\nOK\n> XADD s 1-1 f v\n\"1-1\"\n\
              > XACKDEL s g IDS 1 1-1\n1) (integer) -1",
    run: xackdel,
    ..Command::BASE
};

/// Reads the words that are to be IDs and what becomes of references to them, in any order; the
/// last list of IDs counts. They are IDs only where there is something to be looked for.
fn references_and_words<'a>(
    args: &mut Args<'a>,
) -> Result<(References, Vec<&'a [u8]>), CommandError> {
    let (mut chosen, mut listed) = (None, None);
    while !args.is_empty() {
        if let Some(references) = references(args) {
            if chosen.replace(references).is_some() {
                return Err(CommandError::Syntax);
            }
        } else if args.option_with_value("ids") {
            listed = Some(counted_words(args)?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((chosen.unwrap_or(References::Keep), listed.ok_or(CommandError::Syntax)?))
}

fn counted_words<'a>(args: &mut Args<'a>) -> Result<Vec<&'a [u8]>, CommandError> {
    const NO_COUNT: CommandError =
        CommandError::Fixed("ERR Number of IDs must be a positive integer");
    const WRONG_COUNT: CommandError =
        CommandError::Fixed("ERR The `numids` parameter must match the number of arguments");
    let count = args.integer_or(NO_COUNT);
    args.check()?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(NO_COUNT)?;
    if count > args.remaining() {
        return Err(WRONG_COUNT);
    }
    Ok((0..count).map(|_| args.bytes()).collect())
}

fn xdelex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let is_there = super::is_stream(cx, &key)?;
    let (references, words) = references_and_words(args)?;
    if !is_there {
        return all_missing(cx, words.len());
    }
    delete_each(cx, &key, &words, |stream, id| {
        let may_go = references != References::Acknowledged || stream.groups.are_done_with(id);
        let fate = match (stream.entries.get(id), may_go) {
            (_, false) => Fate::Kept,
            (None, true) => Fate::Missing,
            (Some(_), true) => {
                stream.entries.delete(id);
                Fate::Deleted
            }
        };
        let released = references == References::Delete && stream.groups.release(id);
        (fate, released)
    })
}

fn xackdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, group) = (args.key(), args.bytes());
    let entry = cx.keys.peek(&key).map(super::stream_of).transpose()?;
    let is_there = entry.is_some_and(|stream| stream.groups.get(group).is_some());
    let (references, words) = references_and_words(args)?;
    if !is_there {
        return all_missing(cx, words.len());
    }
    delete_each(cx, &key, &words, |stream, id| {
        let own = stream.groups.get_mut(group).and_then(|group| group.release(id));
        let is_acknowledged_here = own.is_some();
        let fate = if !is_acknowledged_here {
            Fate::Missing
        } else if references == References::Acknowledged && !stream.groups.are_done_with(id) {
            Fate::Kept
        } else {
            stream.entries.delete(id);
            Fate::Deleted
        };
        let takes_all = references == References::Delete && is_acknowledged_here;
        let released = takes_all && stream.groups.release(id);
        (fate, is_acknowledged_here || released)
    })
}

fn all_missing(cx: &mut Cx<'_>, count: usize) -> CommandResult {
    cx.reply.array(count);
    (0..count).for_each(|_| cx.reply.integer(Fate::Missing as i64));
    Ok(())
}

/// Answers with what became of each entry of a stream that is there, which `delete` says along with
/// whether groups changed.
fn delete_each(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    words: &[&[u8]],
    delete: impl Fn(&mut Stream, StreamId) -> (Fate, bool),
) -> CommandResult {
    let ids = words.iter().map(|text| StreamId::parse(text, 0).ok_or(INVALID_ID));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    cx.reply.array(ids.len());
    let done = edit_stream(cx, key, |stream, reply| {
        let (len, mut released) = (stream.entries.len(), 0);
        for id in ids {
            let (fate, has_released) = delete(stream, id);
            released += usize::from(has_released);
            reply.integer(fate as i64);
        }
        (len - stream.entries.len(), released)
    })?;
    let (deleted, released) = done.expect("the stream was just seen");
    deleted_entries(cx, key, deleted);
    changed_quietly(cx, released);
    Ok(())
}

pub(super) static XSETID: Command = Command {
    name: "xsetid",
    since: "5.0.0",
    group: Group::Stream,
    summary: "Sets the last ID of a stream and, if given, its other counters.",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::STREAM,
    history: &[("7.0.0", "Took `ENTRIESADDED` and `MAXDELETEDID`.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::string("last-id"),
        Arg::integer("entries-added").token("ENTRIESADDED").optional().since("7.0.0"),
        Arg::string("max-deleted-id").token("MAXDELETEDID").optional().since("7.0.0"),
    ],
    reply: Shape::Ok,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XSETID s 5-0\nOK\n> XADD s 5-* f v\n\"5-1\"",
    run: xsetid,
    ..Command::BASE
};

fn xsetid(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let last_id = id(args)?;
    let (mut added, mut max_deleted_id) = (None, StreamId::MIN);
    while !args.is_empty() {
        if args.option_with_value("entriesadded") {
            let count = args.integer();
            args.check()?;
            let error = CommandError::Fixed("ERR entries_added must be positive");
            added = Some(u64::try_from(count).map_err(|_| error)?);
        } else if args.option_with_value("maxdeletedid") {
            max_deleted_id = id(args)?;
            if last_id < max_deleted_id {
                return Err(CommandError::Fixed(
                    "ERR The ID specified in XSETID is smaller than the provided \
                     max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let set =
        edit_stream(cx, &key, |stream, _| set_counters(stream, last_id, added, max_deleted_id))?;
    set.ok_or(CommandError::NoSuchKey)??;
    cx.reply.ok();
    changed_quietly(cx, 1);
    event(cx, &key, "xsetid");
    Ok(())
}

fn set_counters(
    stream: &mut Stream,
    last_id: StreamId,
    added: Option<u64>,
    max_deleted_id: StreamId,
) -> CommandResult {
    let entries = &mut stream.entries;
    if last_id < entries.max_deleted_id {
        return Err(CommandError::Fixed(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if let Some(top) = entries.last_live_id() {
        if last_id < top {
            return Err(CommandError::Fixed(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| (entries.len() as u64) > added) {
            return Err(CommandError::Fixed(
                "ERR The entries_added specified in XSETID is smaller than the target stream \
                 length",
            ));
        }
    }
    entries.last_id = last_id;
    entries.entries_added = added.unwrap_or(entries.entries_added);
    if max_deleted_id != StreamId::MIN {
        entries.max_deleted_id = max_deleted_id;
    }
    Ok(())
}
