//! The string commands, by theme, and what several of them share.
//!
//! A record stands with its handler in the file of its theme: [`read`], [`set`], [`exchange`]
//! (reads that also write), [`edit`] (parts of a string), [`arithmetic`], [`lcs`]. A long argument
//! is kept and a long value answered without copying it ([`NewValue::Shared`],
//! `Reply::bulk_shared`).

mod arithmetic;
mod edit;
mod exchange;
mod lcs;
mod read;
mod set;
#[cfg(test)]
mod tests;

use crate::command::{Command, CommandError, KeyFlags};
use crate::engine::Cx;
use crate::keyspace::{Entry, Expiry, Key, NewValue};
use crate::resp::Reply;
use crate::resp::reply::SPLICE_LEN_MIN;
use crate::structs::SharedBytes;
use crate::types::{Encoding, WrongType};

pub static COMMANDS: &[&Command] = &[
    &edit::APPEND,
    &arithmetic::DECR,
    &arithmetic::DECRBY,
    &read::GET,
    &exchange::GETDEL,
    &exchange::GETEX,
    &read::GETRANGE,
    &exchange::GETSET,
    &arithmetic::INCR,
    &arithmetic::INCRBY,
    &arithmetic::INCRBYFLOAT,
    &lcs::LCS,
    &read::MGET,
    &set::MSET,
    &set::MSETNX,
    &set::PSETEX,
    &set::SET,
    &set::SETEX,
    &set::SETNX,
    &edit::SETRANGE,
    &read::STRLEN,
    &read::SUBSTR,
];

/// Reads the value.
const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
/// Reads the value and overwrites it.
const UPDATES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);
/// Overwrites the value unread.
const OVERWRITES: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);
/// Writes a value where there was none.
const INSERTS: KeyFlags = KeyFlags::OW.or(KeyFlags::INSERT);

/// An argument that becomes a value: its bytes, and its own buffer if it has one.
type ValueArg<'a> = (&'a [u8], Option<&'a SharedBytes>);

/// Sets a key as SET does: the value is labelled by its bytes and kept without copying if long.
#[inline]
fn store(cx: &mut Cx<'_>, key: &Key<'_>, (bytes, shared): ValueArg<'_>, expiry: Expiry) {
    let value = match shared {
        Some(shared) => NewValue::Shared(shared.clone()),
        None => NewValue::Bytes(bytes),
    };
    cx.keys.set_string(key, value, Encoding::of_whole(bytes), expiry);
}

/// Answers with an entry's string.
#[inline]
fn write_string(reply: &mut Reply<'_>, entry: &Entry) -> Result<(), WrongType> {
    let bytes = entry.string().ok_or(WrongType)?;
    if bytes.len() >= SPLICE_LEN_MIN
        && let Some(shared) = entry.shared_string()
    {
        reply.bulk_shared(shared);
    } else {
        reply.bulk(bytes);
    }
    Ok(())
}

/// Answers with a key's string or null, as GET does, and says whether the key is there.
#[inline]
fn write_value(cx: &mut Cx<'_>, key: &Key<'_>) -> Result<bool, CommandError> {
    match cx.keys.read(key) {
        Some(entry) => {
            write_string(&mut cx.reply, entry)?;
            Ok(true)
        }
        None => {
            cx.reply.null();
            Ok(false)
        }
    }
}
