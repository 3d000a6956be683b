//! The set commands, by theme, and what several of them share.
//!
//! A record stands with its handler in the file of its theme: [`member`] (one set and its members),
//! [`random`] (SPOP, SRANDMEMBER), [`combine`] (several sets), [`scan`]. Replies that walk a great
//! many members are written by another thread, from a set that is shared and not copied.

mod combine;
mod member;
mod random;
mod scan;
#[cfg(test)]
mod tests;

use triomphe::Arc;

use super::value::{self, Rules, SetRef, SetValue};
use crate::command::Command;
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::commands::elements::write_element;
use crate::keyspace::{Entry, Key, NewValue, ValueRef};
use crate::resp::Reply;
use crate::types::{Encoding, Kind, Object, WrongType};

pub static COMMANDS: &[&Command] = &[
    &member::SADD,
    &member::SCARD,
    &combine::SDIFF,
    &combine::SDIFFSTORE,
    &combine::SINTER,
    &combine::SINTERCARD,
    &combine::SINTERSTORE,
    &member::SISMEMBER,
    &combine::SMEMBERS,
    &member::SMISMEMBER,
    &member::SMOVE,
    &random::SPOP,
    &random::SRANDMEMBER,
    &member::SREM,
    &scan::SSCAN,
    &combine::SUNION,
    &combine::SUNIONSTORE,
];

fn rules(cx: &mut Cx<'_>) -> Rules {
    Rules::of(&cx.server.config, cx.keys.space().secret())
}

/// The set of an entry.
#[inline]
fn set_of(entry: &Entry) -> Result<SetRef<'_>, WrongType> {
    match entry.value() {
        ValueRef::Set(set) => Ok(set),
        _ => Err(WrongType),
    }
}

/// The set of a key that may not be there, for a command that reads it.
fn read<'a>(cx: &'a Cx<'_>, key: &Key<'_>) -> Result<Option<SetRef<'a>>, WrongType> {
    cx.keys.read(key).map(set_of).transpose()
}

fn new_value(value: &SetValue) -> NewValue<'_> {
    match value {
        SetValue::Intset(bytes) | SetValue::Listpack(bytes) => NewValue::Packed(Kind::Set, bytes),
        SetValue::Table(table) => NewValue::Object(Kind::Set, Object::Set(table.clone())),
    }
}

/// Puts a set in place of whatever the key held; without an expiry.
fn put(cx: &mut Cx<'_>, key: &Key<'_>, value: &SetValue) {
    cx.keys.remove_if_expired(key);
    let entry = Entry::new(key.bytes, new_value(value), value.encoding(), None);
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash(), entry);
}

/// Adds members to the set of an entry, which is known to be one, and answers how many are new.
fn add_to_entry<'m>(
    entry: &mut Entry,
    members: impl ExactSizeIterator<Item = &'m [u8]>,
    rules: &Rules,
) -> usize {
    if let Some(Object::Set(table)) = entry.object_mut() {
        let table = Arc::make_mut(table);
        return members.map(|member| usize::from(table.insert(member))).sum();
    }
    let encoding = entry.encoding();
    let mut converted = None;
    let added = entry.edit_packed(|bytes| {
        let mut set = SetValue::packed(encoding, std::mem::take(bytes));
        set.prepare_for(members.len(), rules);
        let added = members.map(|member| usize::from(set.add(member, rules))).sum();
        match set {
            SetValue::Intset(set) if encoding == Encoding::Intset => *bytes = set,
            SetValue::Listpack(set) if encoding == Encoding::Listpack => *bytes = set,
            set => converted = Some(set),
        }
        added
    });
    // A converted set replaces the bytes that it has left empty.
    if let Some(set) = converted {
        entry.set_value(new_value(&set), set.encoding());
    }
    added.expect("a set that is no table is packed")
}

/// Removes a member from the set of an entry, which is known to be one; false if it has no such.
fn remove_from_entry(entry: &mut Entry, member: &[u8]) -> bool {
    if let Some(Object::Set(table)) = entry.object_mut() {
        return Arc::make_mut(table).remove(member);
    }
    let encoding = entry.encoding();
    let removed = entry.edit_packed(|bytes| value::remove_packed(encoding, bytes, member));
    removed.expect("a set that is no table is packed")
}

fn is_empty(entry: &Entry) -> bool {
    set_of(entry).is_ok_and(SetRef::is_empty)
}

/// Tells of a change to a set by `count` members, and deletes its key if `is_empty`.
fn changed(cx: &mut Cx<'_>, key: &Key<'_>, event: &'static str, count: usize, is_empty: bool) {
    cx.keys.changed(key, EventClasses::SET, event);
    cx.keys.space().changes.dirty += count as u64 - 1;
    if is_empty {
        cx.keys.delete(key);
        cx.keys.event(key, EventClasses::GENERIC, "del");
    }
}

/// Writes all members of a set after the header that the caller has written.
fn write_members(reply: &mut Reply<'_>, set: SetRef<'_>) {
    for element in set.iter() {
        write_element(reply, element);
    }
}
