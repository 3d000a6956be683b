//! The hash commands, by theme, and how they reach a key's hash.
//!
//! A record stands with its handler in the file of its theme: [`read`], [`write`], [`arithmetic`],
//! [`random`], [`scan`], and for fields that expire [`expire`], [`ttl`] and [`combined`]. Answers
//! that are long to write are written on another thread, over a clone of the table, which is a
//! snapshot.

mod arithmetic;
mod combined;
mod expire;
mod random;
mod read;
mod scan;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_expire;
mod ttl;
mod write;

use triomphe::Arc;

use super::{Field, HashMut, HashRef, HashTable, Limits, LiveTable, Outcome, Outgrown};
use crate::command::{Command, KeyFlags};
use crate::engine::Cx;
use crate::keyspace::{Entry, Key, Keys, NewValue, ValueRef};
use crate::structs::listpack;
use crate::types::{Encoding, Kind, Object, WrongType};

pub static COMMANDS: &[&Command] = &[
    &write::HDEL,
    &read::HEXISTS,
    &expire::HEXPIRE,
    &expire::HEXPIREAT,
    &ttl::HEXPIRETIME,
    &read::HGET,
    &read::HGETALL,
    &combined::HGETDEL,
    &combined::HGETEX,
    &arithmetic::HINCRBY,
    &arithmetic::HINCRBYFLOAT,
    &read::HKEYS,
    &read::HLEN,
    &read::HMGET,
    &write::HMSET,
    &ttl::HPERSIST,
    &expire::HPEXPIRE,
    &expire::HPEXPIREAT,
    &ttl::HPEXPIRETIME,
    &ttl::HPTTL,
    &random::HRANDFIELD,
    &scan::HSCAN,
    &write::HSET,
    &combined::HSETEX,
    &write::HSETNX,
    &read::HSTRLEN,
    &ttl::HTTL,
    &read::HVALS,
];

/// Reads values.
const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
/// Changes values that it reads.
const UPDATES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);

/// The hash of an entry at a time.
#[inline]
fn hash_of(entry: &Entry, horizon_ms: u64) -> Result<HashRef<'_>, WrongType> {
    match entry.value() {
        ValueRef::Hash(hash) => Ok(hash.at(horizon_ms)),
        _ => Err(WrongType),
    }
}

/// The hash of a key, for a command that uses it.
#[inline]
fn read_hash<'k>(keys: &'k Keys<'_>, key: &Key<'_>) -> Result<Option<HashRef<'k>>, WrongType> {
    keys.read(key).map(|entry| hash_of(entry, keys.horizon_ms())).transpose()
}

fn limits(cx: &mut Cx<'_>) -> Limits {
    Limits::of(&cx.server.config, cx.keys.space().secret())
}

/// Changes a key's hash; `None` if there is no such key. Fields whose time had come and that were
/// in the way are told of before what the command itself has to tell.
fn edit_hash<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl FnOnce(&mut HashMut<'_>) -> R,
) -> Result<Option<R>, WrongType> {
    let horizon_ms = cx.keys.horizon_ms();
    let edited = cx.keys.edit(key, |entry| edit_entry(entry, horizon_ms, edit)).transpose()?;
    Ok(edited.map(|(result, expired)| {
        if !expired.is_empty() {
            cx.keys.expired_fields(key, expired);
        }
        result
    }))
}

fn edit_entry<R>(
    entry: &mut Entry,
    horizon_ms: u64,
    edit: impl FnOnce(&mut HashMut<'_>) -> R,
) -> Result<(R, Vec<Field>), WrongType> {
    if entry.kind() != Kind::Hash {
        return Err(WrongType);
    }
    let encoding = entry.encoding();
    let run = |mut hash: HashMut<'_>| {
        let result = edit(&mut hash);
        (result, hash.outcome())
    };
    let (result, Outcome { outgrown, expired }) = match entry.object_mut() {
        Some(Object::Hash(table)) => {
            run(HashMut::table(Arc::make_mut(table), encoding, horizon_ms))
        }
        _ => {
            let edited = entry.edit_packed(|bytes| run(HashMut::listpack(bytes)));
            edited.expect("a hash that is no table is packed")
        }
    };
    match outgrown {
        Outgrown::No => {}
        Outgrown::Listpack(table, encoding) => entry.set_value(new_table(table), encoding),
        Outgrown::Limits => {
            let table = entry.object().expect("a hash that is not packed is a table").clone();
            entry.set_value(NewValue::Object(Kind::Hash, table), Encoding::Hashtable);
        }
    }
    Ok((result, expired))
}

/// Takes a key's hash away if all its fields have expired and wait to be taken.
fn bury_spent(cx: &mut Cx<'_>, key: &Key<'_>) {
    let horizon_ms = cx.keys.horizon_ms();
    let fields = match cx.keys.peek(key).and_then(Entry::object) {
        Some(Object::Hash(table)) if LiveTable::new(table, horizon_ms).is_empty() => table.len(),
        _ => return,
    };
    cx.keys.delete_spent(key, fields);
}

/// The same for a key that is made if it is not there; `edit` leaves at least one field.
fn edit_or_make<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl Fn(&mut HashMut<'_>) -> R,
) -> Result<R, WrongType> {
    bury_spent(cx, key);
    if let Some(result) = edit_hash(cx, key, &edit)? {
        return Ok(result);
    }
    let mut bytes = listpack::new_empty();
    let mut hash = HashMut::listpack(&mut bytes);
    let result = edit(&mut hash);
    let (value, encoding) = match hash.outcome().outgrown {
        Outgrown::Listpack(table, encoding) => (new_table(table), encoding),
        _ => (NewValue::Packed(Kind::Hash, &bytes), Encoding::Listpack),
    };
    let entry = Entry::new(key.bytes, value, encoding, None);
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash(), entry);
    Ok(result)
}

fn new_table<'a>(table: Arc<HashTable>) -> NewValue<'a> {
    NewValue::Object(Kind::Hash, Object::Hash(table))
}
