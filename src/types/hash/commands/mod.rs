//! The hash commands, by theme, and how they reach a key's hash.
//!
//! A record stands with its handler in the file of its theme: [`read`], [`write`], [`arithmetic`],
//! [`random`], [`scan`]. Answers that are long to write are written on another thread, over a clone
//! of the table, which is a snapshot.

mod arithmetic;
mod random;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use triomphe::Arc;

use super::{HashMut, HashRef, HashTable, Limits};
use crate::command::{Command, KeyFlags};
use crate::engine::Cx;
use crate::keyspace::{Entry, Key, Keys, NewValue};
use crate::structs::listpack;
use crate::types::{Encoding, Kind, Object, WrongType};

pub static COMMANDS: &[&Command] = &[
    &write::HDEL,
    &read::HEXISTS,
    &read::HGET,
    &read::HGETALL,
    &arithmetic::HINCRBY,
    &arithmetic::HINCRBYFLOAT,
    &read::HKEYS,
    &read::HLEN,
    &read::HMGET,
    &write::HMSET,
    &random::HRANDFIELD,
    &scan::HSCAN,
    &write::HSET,
    &write::HSETNX,
    &read::HSTRLEN,
    &read::HVALS,
];

/// Reads values.
const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
/// Changes values that it reads.
const UPDATES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);

/// The hash of an entry.
#[inline]
fn hash_of(entry: &Entry) -> Result<HashRef<'_>, WrongType> {
    if entry.kind() != Kind::Hash {
        return Err(WrongType);
    }
    Ok(HashRef::of(entry.packed(), entry.object()))
}

/// The hash of a key, for a command that uses it.
#[inline]
fn read_hash<'k>(keys: &'k Keys<'_>, key: &Key<'_>) -> Result<Option<HashRef<'k>>, WrongType> {
    keys.read(key).map(hash_of).transpose()
}

fn limits(cx: &mut Cx<'_>) -> Limits {
    Limits {
        max_listpack_entries: cx.server.config.hash_max_listpack_entries,
        max_listpack_value: cx.server.config.hash_max_listpack_value,
        hash_key: cx.keys.space().hash_key(),
    }
}

/// Changes a key's hash; `None` if there is no such key.
fn edit_hash<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl FnOnce(&mut HashMut<'_>) -> R,
) -> Result<Option<R>, WrongType> {
    cx.keys.edit(key, |entry| edit_entry(entry, edit)).transpose()
}

fn edit_entry<R>(
    entry: &mut Entry,
    edit: impl FnOnce(&mut HashMut<'_>) -> R,
) -> Result<R, WrongType> {
    if entry.kind() != Kind::Hash {
        return Err(WrongType);
    }
    if entry.encoding() == Encoding::Hashtable {
        let Some(Object::Hash(table)) = entry.object_mut() else {
            unreachable!("a hash that is not packed is a table");
        };
        return Ok(edit(&mut HashMut::Table(Arc::make_mut(table))));
    }
    let (result, outgrown) = entry
        .edit_packed(|bytes| {
            let mut hash = HashMut::Listpack(bytes);
            let result = edit(&mut hash);
            (result, hash.into_outgrown())
        })
        .expect("a hash that is no table is packed");
    if let Some(table) = outgrown {
        entry.set_value(new_table(table), Encoding::Hashtable);
    }
    Ok(result)
}

/// The same for a key that is made if it is not there; `edit` leaves at least one field.
fn edit_or_make<R>(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    edit: impl Fn(&mut HashMut<'_>) -> R,
) -> Result<R, WrongType> {
    if let Some(result) = edit_hash(cx, key, &edit)? {
        return Ok(result);
    }
    let mut bytes = listpack::new_empty();
    let mut hash = HashMut::Listpack(&mut bytes);
    let result = edit(&mut hash);
    let entry = match hash.into_outgrown() {
        Some(table) => Entry::new(key.bytes, new_table(table), Encoding::Hashtable, None),
        None => {
            Entry::new(key.bytes, NewValue::Packed(Kind::Hash, &bytes), Encoding::Listpack, None)
        }
    };
    entry.set_clock(cx.keys.access().fresh());
    cx.keys.put(key.hash, entry);
    Ok(result)
}

fn new_table<'a>(table: Arc<HashTable>) -> NewValue<'a> {
    NewValue::Object(Kind::Hash, Object::Hash(table))
}
