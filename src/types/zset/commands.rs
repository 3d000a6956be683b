//! The sorted set commands, by theme, and what several of them share.
//!
//! A record stands with its handler in the file of its theme: [`write`] (scores set, members
//! removed), [`read`] (one member or a count), [`range`] (members in order), [`pop`] (either end),
//! [`combine`] (several sorted sets), [`random`] (ZRANDMEMBER, ZSCAN).
//! Replies of a great many members are written by another thread, from a table that is shared.

mod blocking;
mod combine;
mod pop;
mod random;
mod range;
mod read;
#[cfg(test)]
mod tests;
mod write;

use triomphe::Arc;

use super::{Limits, ZSetMut, ZSetRef, ZSetTable};
use crate::command::Command;
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::commands::elements::write_element;
use crate::keyspace::{Entry, Key, NewValue, ValueRef};
use crate::resp::{Protocol, Reply};
use crate::structs::listpack::{self, Element};
use crate::types::{Encoding, Kind, Object, WrongType};

pub static COMMANDS: &[&Command] = &[
    &blocking::BZMPOP,
    &blocking::BZPOPMAX,
    &blocking::BZPOPMIN,
    &write::ZADD,
    &read::ZCARD,
    &read::ZCOUNT,
    &combine::ZDIFF,
    &combine::ZDIFFSTORE,
    &write::ZINCRBY,
    &combine::ZINTER,
    &combine::ZINTERCARD,
    &combine::ZINTERSTORE,
    &read::ZLEXCOUNT,
    &pop::ZMPOP,
    &read::ZMSCORE,
    &pop::ZPOPMAX,
    &pop::ZPOPMIN,
    &random::ZRANDMEMBER,
    &range::ZRANGE,
    &range::ZRANGEBYLEX,
    &range::ZRANGEBYSCORE,
    &range::ZRANGESTORE,
    &read::ZRANK,
    &write::ZREM,
    &write::ZREMRANGEBYLEX,
    &write::ZREMRANGEBYRANK,
    &write::ZREMRANGEBYSCORE,
    &range::ZREVRANGE,
    &range::ZREVRANGEBYLEX,
    &range::ZREVRANGEBYSCORE,
    &read::ZREVRANK,
    &random::ZSCAN,
    &read::ZSCORE,
    &combine::ZUNION,
    &combine::ZUNIONSTORE,
];

pub(crate) fn limits(cx: &mut Cx<'_>) -> Limits {
    Limits::of(&cx.server.config, cx.keys.space().secret())
}

/// The sorted set of an entry.
#[inline]
pub(crate) fn zset_of(entry: &Entry) -> Result<ZSetRef<'_>, WrongType> {
    match entry.value() {
        ValueRef::ZSet(zset) => Ok(zset),
        _ => Err(WrongType),
    }
}

/// The sorted set of a key that may not be there, for a command that reads it.
pub(crate) fn read<'a>(cx: &'a Cx<'_>, key: &Key<'_>) -> Result<Option<ZSetRef<'a>>, WrongType> {
    cx.keys.read(key).map(zset_of).transpose()
}

/// Changes a key's sorted set; `None` if there is no such key.
pub(crate) fn edit_zset<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl FnOnce(&mut ZSetMut<'_>) -> R,
) -> Result<Option<R>, WrongType> {
    cx.keys.edit(key, |entry| edit_entry(entry, edit)).transpose()
}

fn edit_entry<R>(
    entry: &mut Entry,
    edit: impl FnOnce(&mut ZSetMut<'_>) -> R,
) -> Result<R, WrongType> {
    if entry.kind() != Kind::ZSet {
        return Err(WrongType);
    }
    if let Some(Object::ZSet(table)) = entry.object_mut() {
        return Ok(edit(&mut ZSetMut::Table(Arc::make_mut(table))));
    }
    let (result, outgrown) = entry
        .edit_packed(|bytes| {
            let mut zset = ZSetMut::Listpack(bytes);
            let result = edit(&mut zset);
            (result, zset.into_outgrown())
        })
        .expect("a sorted set that is no table is packed");
    if let Some(table) = outgrown {
        entry.set_value(new_table(table), Encoding::Skiplist);
    }
    Ok(result)
}

/// The same for a key that is made if it is not there; `edit` leaves at least one member.
pub(crate) fn edit_or_make<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl Fn(&mut ZSetMut<'_>) -> R,
) -> Result<R, WrongType> {
    if let Some(result) = edit_zset(cx, key, &edit)? {
        return Ok(result);
    }
    Ok(make(cx, key, edit))
}

/// Puts a new sorted set in place of whatever the key held.
fn make<R>(cx: &mut Cx<'_>, key: &Key<'_>, edit: impl FnOnce(&mut ZSetMut<'_>) -> R) -> R {
    let mut bytes = listpack::new_empty();
    let mut zset = ZSetMut::Listpack(&mut bytes);
    let result = edit(&mut zset);
    let entry = match zset.into_outgrown() {
        Some(table) => Entry::new(key.bytes, new_table(table), Encoding::Skiplist, None),
        None => {
            Entry::new(key.bytes, NewValue::Packed(Kind::ZSet, &bytes), Encoding::Listpack, None)
        }
    };
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash(), entry);
    result
}

/// Puts a sorted set of these members in place of whatever the key held, and tells; without members
/// the key is deleted.
pub(crate) fn store<'m>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    event: &'static str,
    members: impl ExactSizeIterator<Item = (&'m [u8], f64)> + Clone,
) {
    let count = members.len();
    cx.reply.integer(count as i64);
    cx.keys.remove_if_expired(key);
    if count > 0 {
        let limits = limits(cx);
        let longest = members.clone().map(|(member, _)| member.len()).max().unwrap_or(0);
        make(cx, key, |zset| {
            zset.prepare_for(count, longest, &limits);
            for (member, score) in members.clone() {
                zset.set(member, score, &limits);
            }
        });
        cx.keys.changed(key, EventClasses::ZSET, event);
    } else if cx.keys.delete(key) {
        cx.keys.changed(key, EventClasses::GENERIC, "del");
    }
}

fn new_table<'a>(table: Arc<ZSetTable>) -> NewValue<'a> {
    NewValue::Object(Kind::ZSet, Object::ZSet(table))
}

/// Tells of a change to a sorted set by `count` members, and deletes its key if `is_empty`.
pub(crate) fn changed(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    event: &'static str,
    count: usize,
    is_empty: bool,
) {
    cx.keys.changed(key, EventClasses::ZSET, event);
    cx.keys.space().changes.dirty += count as u64 - 1;
    if is_empty {
        cx.keys.delete(key);
        cx.keys.event(key, EventClasses::GENERIC, "del");
    }
}

/// Starts an array of so many members, which with scores are pairs of their own in RESP3.
fn begin_members(reply: &mut Reply<'_>, count: usize, with_scores: bool) {
    let is_flat = with_scores && reply.protocol() == Protocol::Resp2;
    reply.array(if is_flat { count * 2 } else { count });
}

#[inline]
fn write_member(reply: &mut Reply<'_>, member: (Element<'_>, f64), with_scores: bool) {
    if with_scores && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    write_element(reply, member.0);
    if with_scores {
        reply.double(member.1);
    }
}
