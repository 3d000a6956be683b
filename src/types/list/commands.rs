//! The list commands, by theme, and what several of them share.
//!
//! A record stands with its handler in the file of its theme: [`ends`] (pushing and popping),
//! [`read`], [`edit`], [`moves`], [`blocking`]. A writer checks the key's kind first, changes the
//! entry through the functions here, which choose the form, and deletes the key when nothing is
//! left.

mod blocking;
mod edit;
mod ends;
mod moves;
mod read;

use super::{End, ListRef, NodeLimit, Quicklist, Value};
use crate::command::{Command, CommandError, KeyFlags};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Entry, Key, NewValue, ValueRef};
use crate::resp::Reply;
use crate::structs::SharedBytes;
use crate::structs::listpack::{self, Element, Listpack};
use crate::types::{Encoding, Kind, Object, WrongType};
use std::ops::{ControlFlow, Range};
use triomphe::Arc;

pub static COMMANDS: &[&Command] = &[
    &blocking::BLMOVE,
    &blocking::BLMPOP,
    &blocking::BLPOP,
    &blocking::BRPOP,
    &blocking::BRPOPLPUSH,
    &read::LINDEX,
    &edit::LINSERT,
    &read::LLEN,
    &moves::LMOVE,
    &moves::LMPOP,
    &ends::LPOP,
    &read::LPOS,
    &ends::LPUSH,
    &ends::LPUSHX,
    &read::LRANGE,
    &edit::LREM,
    &edit::LSET,
    &edit::LTRIM,
    &ends::RPOP,
    &moves::RPOPLPUSH,
    &ends::RPUSH,
    &ends::RPUSHX,
];

const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const INSERTS: KeyFlags = KeyFlags::RW.or(KeyFlags::INSERT);
const DELETES: KeyFlags = KeyFlags::RW.or(KeyFlags::DELETE);

/// An argument that becomes an element: its bytes, and its own buffer if it has one.
type ValueArg<'a> = (&'a [u8], Option<&'a SharedBytes>);

const FITS: &str = "a listpack of a list is far from its largest size";

fn list_of(entry: &Entry) -> Result<ListRef<'_>, WrongType> {
    match entry.value() {
        ValueRef::List(list) => Ok(list),
        _ => Err(WrongType),
    }
}

/// The list that a writer is to change, without a trace of the look.
fn list_to_change<'a>(cx: &'a Cx<'_>, key: &Key<'_>) -> Result<Option<ListRef<'a>>, CommandError> {
    Ok(cx.keys.peek(key).map(list_of).transpose()?)
}

fn limit_of(cx: &Cx<'_>) -> NodeLimit {
    let limit = NodeLimit::of(cx.server.config.list_max_listpack_size);
    limit.with_large_from(cx.server.large_elements_from)
}

fn write_value(reply: &mut Reply<'_>, value: Value<'_>) {
    match value {
        Value::Packed(Element::Int(number)) => reply.bulk_i64(number),
        Value::Packed(Element::Str(text)) => reply.bulk(text),
        Value::Plain(bytes) => reply.bulk_shared(bytes),
    }
}

/// Answers with a range of elements, from its start or backwards.
fn write_range(reply: &mut Reply<'_>, list: ListRef<'_>, range: Range<usize>, backwards: bool) {
    reply.array(range.len());
    let _ = list.walk(range, backwards, |_, value| {
        write_value(reply, value);
        ControlFlow::Continue(())
    });
}

/// Makes a tree of a listpack that is too big once these are added.
fn make_room(entry: &mut Entry, added: &[ValueArg<'_>], limit: NodeLimit) {
    let Some(bytes) = entry.packed() else { return };
    let added_bytes: usize = added.iter().map(|(text, _)| text.len()).sum();
    let count = Listpack::trusted(bytes).len() + added.len();
    if limit.is_exceeded(bytes.len() + added_bytes, count) {
        let list = Object::List(Arc::new(Quicklist::of_listpack(bytes.to_vec())));
        entry.set_value(NewValue::Object(Kind::List, list), Encoding::Quicklist);
    }
}

/// Makes a listpack of a tree that has shrunk to one.
fn shrink(entry: &mut Entry, limit: NodeLimit) {
    let shrunk = match entry.object() {
        Some(Object::List(list)) => list.shrunk(limit).map(<[u8]>::to_vec),
        _ => None,
    };
    if let Some(bytes) = shrunk {
        entry.set_value(NewValue::Packed(Kind::List, &bytes), Encoding::Listpack);
    }
}

/// Changes a list by the function for its form.
fn edit_either<R>(
    entry: &mut Entry,
    packed: impl FnOnce(&mut Vec<u8>) -> R,
    tree: impl FnOnce(&mut Quicklist) -> R,
) -> R {
    if let Some(Object::List(list)) = entry.object_mut() {
        return tree(Arc::make_mut(list));
    }
    entry.edit_packed(packed).expect("the entry was found to be a list")
}

fn push_all(entry: &mut Entry, end: End, values: &[ValueArg<'_>], limit: NodeLimit) {
    make_room(entry, values, limit);
    edit_either(
        entry,
        |bytes| {
            for (text, _) in values {
                match end {
                    End::Left => listpack::prepend(bytes, text).expect(FITS),
                    End::Right => listpack::append(bytes, text).expect(FITS),
                }
            }
        },
        |list| {
            for (text, shared) in values {
                list.push(end, text, *shared, limit);
            }
        },
    );
}

/// Pushes values to a key that is a list; the length after it, or `None` if there is no such key.
fn push_to_existing(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    end: End,
    values: &[ValueArg<'_>],
) -> Result<Option<usize>, WrongType> {
    let limit = limit_of(cx);
    let pushed = cx.keys.edit(key, |entry| {
        list_of(entry)?;
        push_all(entry, end, values, limit);
        list_of(entry).map(ListRef::len)
    });
    pushed.transpose()
}

/// Makes a list of values at a key that is not there.
pub(crate) fn push_to_new(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    end: End,
    values: &[ValueArg<'_>],
) -> usize {
    let empty = listpack::new_empty();
    let empty = NewValue::Packed(Kind::List, &empty);
    let mut entry = Entry::new(key.bytes, empty, Encoding::Listpack, None);
    push_all(&mut entry, end, values, limit_of(cx));
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash(), entry);
    values.len()
}

/// Pushes values to a key, which becomes a list if there is none; the length after it.
fn push_to(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    end: End,
    values: &[ValueArg<'_>],
) -> Result<usize, WrongType> {
    let pushed = push_to_existing(cx, key, end, values)?;
    Ok(pushed.unwrap_or_else(|| push_to_new(cx, key, end, values)))
}

fn delete_range(entry: &mut Entry, range: Range<usize>) {
    edit_either(
        entry,
        |bytes| {
            if let Some(at) = Listpack::trusted(bytes).seek(range.start as i64) {
                listpack::delete_range(bytes, at, range.len());
            }
        },
        |list| list.delete(range.clone()),
    );
}

/// Deletes ranges of a list, the last one first, and the key if they are all of it.
fn delete_ranges(cx: &mut Cx<'_>, key: &Key<'_>, len: usize, ranges: &[Range<usize>]) -> bool {
    if ranges.iter().map(Range::len).sum::<usize>() == len {
        return cx.keys.delete(key);
    }
    let limit = limit_of(cx);
    cx.keys.edit(key, |entry| {
        for range in ranges {
            delete_range(entry, range.clone());
        }
        shrink(entry, limit);
    });
    false
}

/// Tells a change of so many elements, and whether it took the key away.
fn changed(cx: &mut Cx<'_>, key: &Key<'_>, event: &'static str, count: usize, is_gone: bool) {
    cx.keys.touch(key);
    cx.keys.event(key, EventClasses::LIST, event);
    if is_gone {
        cx.keys.event(key, EventClasses::GENERIC, "del");
    }
    cx.keys.space().changes.dirty += count as u64;
}
