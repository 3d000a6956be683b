//! The stream commands, by theme, and what several of them share.
//!
//! A record stands with its handler in the file of its theme: [`add`] (entries in, trimming),
//! [`range`] (entries by ID), [`read`] (XREAD and XREADGROUP, which may wait), [`delete`],
//! [`group`] (groups and consumers), [`pending`] (what is not acknowledged), [`claim`] (who has
//! it), [`info`]. A group's doings stand in the write stream as XCLAIM and XGROUP, with times and
//! counts written out, so that whoever replays them comes to the same state.

mod add;
mod claim;
mod delete;
mod group;
mod info;
mod pending;
mod range;
mod read;
#[cfg(test)]
mod tests;

use triomphe::Arc;

use super::{Bound, Entries, EntryRef, Group, IdBuf, NodeLimits, Pending, Stream, StreamId};
use crate::command::{Args, Command, CommandError};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::commands::elements::{self, write_element};
use crate::keyspace::{Entry, Key, NewValue};
use crate::resp::Reply;
use crate::structs::number::{I64Buf, format_i64};
use crate::types::{Encoding, Kind, Object, WrongType};

pub static COMMANDS: &[&Command] = &[
    &pending::XACK,
    &delete::XACKDEL,
    &add::XADD,
    &claim::XAUTOCLAIM,
    &claim::XCLAIM,
    &delete::XDEL,
    &delete::XDELEX,
    &group::XGROUP,
    &info::XINFO,
    &range::XLEN,
    &pending::XPENDING,
    &range::XRANGE,
    &read::XREAD,
    &read::XREADGROUP,
    &range::XREVRANGE,
    &delete::XSETID,
    &add::XTRIM,
];

const INVALID_ID: CommandError =
    CommandError::Fixed("ERR Invalid stream ID specified as stream command argument");

/// The stream of an entry.
fn stream_of(entry: &Entry) -> Result<&Stream, WrongType> {
    match entry.object() {
        Some(Object::Stream(stream)) => Ok(stream),
        _ => Err(WrongType),
    }
}

/// Whether a key that is to be changed is there and holds a stream, without a trace of the look.
fn is_stream(cx: &Cx<'_>, key: &Key<'_>) -> Result<bool, WrongType> {
    Ok(cx.keys.peek(key).map(stream_of).transpose()?.is_some())
}

/// Changes the stream of a key; `None` if there is no such key.
fn edit_stream<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl FnOnce(&mut Stream, &mut Reply<'_>) -> R,
) -> Result<Option<R>, WrongType> {
    let Cx { keys, reply, .. } = cx;
    let edited = keys.edit(key, |entry| match entry.object_mut() {
        Some(Object::Stream(stream)) => Ok(edit(Arc::make_mut(stream), reply)),
        _ => Err(WrongType),
    });
    edited.transpose()
}

/// Makes a key of a stream where there is no key.
fn put_stream(cx: &mut Cx<'_>, key: &Key<'_>, stream: Stream) {
    let value = NewValue::Object(Kind::Stream, Object::Stream(Arc::new(stream)));
    let entry = Entry::new(key.bytes, value, Encoding::Stream, None);
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash(), entry);
}

/// Frees what a stream no longer has: elsewhere if it is much.
fn discard(cx: &mut Cx<'_>, stream: Stream) {
    let value = NewValue::Object(Kind::Stream, Object::Stream(Arc::new(stream)));
    cx.keys.space().changes.discard(Entry::new(b"", value, Encoding::Stream, None));
}

fn limits(cx: &Cx<'_>) -> NodeLimits {
    let config = &cx.server.config;
    NodeLimits {
        max_bytes: config.stream_node_max_bytes,
        max_entries: config.stream_node_max_entries,
    }
}

fn now_ms(cx: &Cx<'_>) -> i64 {
    i64::try_from(cx.keys.now_ms()).expect("the clock is far from its end")
}

/// Tells of a change, by so many entries, that watchers do not hear of: Redis does not tell them
/// what happens to groups.
fn changed_quietly(cx: &mut Cx<'_>, count: usize) {
    cx.keys.space().changes.dirty += count as u64;
}

fn event(cx: &mut Cx<'_>, key: &Key<'_>, event: &'static str) {
    cx.keys.event(key, EventClasses::STREAM, event);
}

/// Tells those who wait that a stream has another entry, or a group less.
fn offer(cx: &mut Cx<'_>, key: &Key<'_>) {
    let db = cx.keys.db;
    cx.keys.space().changes.offer(db, key.bytes);
}

/// The next argument as an ID that is no end of a range.
fn id(args: &mut Args<'_>) -> Result<StreamId, CommandError> {
    let text = args.bytes();
    args.check()?;
    StreamId::parse(text, 0).ok_or(INVALID_ID)
}

/// The remaining arguments as IDs.
fn ids(args: &mut Args<'_>) -> Result<Vec<StreamId>, CommandError> {
    let mut all = Vec::with_capacity(args.remaining());
    while !args.is_empty() {
        all.push(id(args)?);
    }
    Ok(all)
}

fn start_of(text: &[u8]) -> Result<StreamId, CommandError> {
    let nothing = CommandError::Fixed("ERR invalid start ID for the interval");
    Bound::parse(text, 0).ok_or(INVALID_ID)?.as_start().ok_or(nothing)
}

fn end_of(text: &[u8]) -> Result<StreamId, CommandError> {
    let nothing = CommandError::Fixed("ERR invalid end ID for the interval");
    Bound::parse(text, u64::MAX).ok_or(INVALID_ID)?.as_end().ok_or(nothing)
}

/// An error that names what the client sent: its parts in turn, names cut where C would cut them.
fn named_error(parts: &[&[u8]]) -> CommandError {
    let shown = |part: &&[u8]| {
        let end = memchr::memchr(0, part).unwrap_or(part.len());
        part[..end].to_vec()
    };
    CommandError::Bytes(parts.iter().flat_map(shown).collect())
}

fn no_key_or_group(key: &Key<'_>, group: &[u8], tail: &str) -> CommandError {
    let middle = b"' or consumer group '";
    named_error(&[b"NOGROUP No such key '", key.bytes, middle, group, b"'", tail.as_bytes()])
}

fn no_group(key: &Key<'_>, group: &[u8]) -> CommandError {
    let middle = b"' for key name '";
    named_error(&[b"NOGROUP No such consumer group '", group, middle, key.bytes, b"'"])
}

fn write_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(id.write(&mut IdBuf::new()));
}

fn write_entry(reply: &mut Reply<'_>, entry: &EntryRef<'_>) {
    reply.array(2);
    write_id(reply, entry.id);
    reply.array(entry.field_count() * 2);
    for (field, value) in entry.pairs() {
        write_element(reply, field);
        write_element(reply, value);
    }
}

/// Writes up to `max` entries and says how many they were.
fn write_entries<'a>(
    reply: &mut Reply<'_>,
    entries: impl Iterator<Item = EntryRef<'a>>,
    max: usize,
) -> usize {
    let array = reply.begin_deferred();
    let mut count = 0;
    for entry in entries.take(max) {
        write_entry(reply, &entry);
        count += 1;
    }
    reply.end_array(array, count);
    count
}

/// Whether so many entries of a range are to be written by another thread.
fn is_long(entries: &Entries, start: StreamId, end: StreamId, max: usize) -> bool {
    elements::is_long(
        entries.len_within(start, end).min(max),
        entries.len(),
        entries.memory_bytes(),
    )
}

/// The words for the write stream that one command adds, if anybody replays it.
struct Rewriting<'a> {
    is_active: bool,
    key: &'a [u8],
    group: &'a [u8],
    commands: Vec<Vec<Vec<u8>>>,
}

impl<'a> Rewriting<'a> {
    fn new(cx: &Cx<'_>, key: &Key<'a>, group: &'a [u8]) -> Rewriting<'a> {
        let is_active = cx.is_propagating();
        Rewriting { is_active, key: key.bytes, group, commands: Vec::new() }
    }

    fn push(&mut self, words: &[&[u8]]) {
        self.commands.push(words.iter().map(|word| word.to_vec()).collect());
    }

    /// An entry is pending with a consumer, or is so no longer and not in the stream either.
    fn claim(&mut self, id: StreamId, record: Pending, group: &Group) {
        if !self.is_active {
            return;
        }
        let (mut time, mut count) = (I64Buf::new(), I64Buf::new());
        self.push(&[
            b"XCLAIM",
            self.key,
            self.group,
            group.consumer(record.consumer).name(),
            b"0",
            &id.to_vec(),
            b"TIME",
            format_i64(record.delivered_ms, &mut time),
            b"RETRYCOUNT",
            format_i64(record.deliveries.cast_signed(), &mut count),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            &group.last_id.to_vec(),
        ]);
    }

    /// A group has delivered other entries than before.
    fn position(&mut self, group: &Group) {
        if self.is_active {
            let read = group.entries_read.unwrap_or(-1);
            self.push(&[
                b"XGROUP",
                b"SETID",
                self.key,
                self.group,
                &group.last_id.to_vec(),
                b"ENTRIESREAD",
                format_i64(read, &mut I64Buf::new()),
            ]);
        }
    }

    fn consumer(&mut self, name: &[u8]) {
        if self.is_active {
            self.push(&[b"XGROUP", b"CREATECONSUMER", self.key, self.group, name]);
        }
    }

    /// Propagates these words, or nothing, in place of the running command's own.
    fn finish(self, cx: &mut Cx<'_>) {
        cx.propagate_as(&[]);
        for words in &self.commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            cx.propagate_as(&words);
        }
    }
}
