//! Strings as numbers: INCR, DECR, INCRBY, DECRBY and INCRBYFLOAT.
//!
//! A missing key counts as 0. The key's expiry stays. INCRBYFLOAT is replayed as a SET of its
//! result, so that a replica need not agree on the arithmetic.

use super::UPDATES;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
    Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Expiry, Key, NewValue};
use crate::structs::long_double::LongDouble;
use crate::structs::number::{I64Buf, format_i64, parse_i64};
use crate::types::Encoding;

const COUNTS: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);

pub(super) static INCR: Command = Command {
    name: "incr",
    group: Group::String,
    summary: "Adds one to an integer; a missing key counts as 0.",
    arity: Arity::exactly(2),
    flags: COUNTS,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> INCR visits\n(integer) 1\n> INCR visits\n(integer) 2",
    run: incr,
    ..Command::BASE
};

fn incr(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    add(cx, &key, 1)
}

pub(super) static DECR: Command = Command {
    name: "decr",
    group: Group::String,
    summary: "Subtracts one from an integer; a missing key counts as 0.",
    arity: Arity::exactly(2),
    flags: COUNTS,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> SET seats 10\nOK\n> DECR seats\n(integer) 9",
    run: decr,
    ..Command::BASE
};

fn decr(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    add(cx, &key, -1)
}

pub(super) static INCRBY: Command = Command {
    name: "incrby",
    group: Group::String,
    summary: "Adds a number to an integer; a missing key counts as 0.",
    arity: Arity::exactly(3),
    flags: COUNTS,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::integer("increment")],
    reply: Shape::Integer,
    example: "> SET visits 10\nOK\n> INCRBY visits 5\n(integer) 15",
    run: incrby,
    ..Command::BASE
};

fn incrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let increment = args.integer();
    args.done()?;
    add(cx, &key, increment)
}

pub(super) static DECRBY: Command = Command {
    name: "decrby",
    group: Group::String,
    summary: "Subtracts a number from an integer; a missing key counts as 0.",
    arity: Arity::exactly(3),
    flags: COUNTS,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::integer("decrement")],
    reply: Shape::Integer,
    example: "> SET seats 10\nOK\n> DECRBY seats 3\n(integer) 7",
    run: decrby,
    ..Command::BASE
};

fn decrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let decrement = args.integer();
    args.done()?;
    let increment = decrement.checked_neg();
    add(cx, &key, increment.ok_or(CommandError::Fixed("ERR decrement would overflow"))?)
}

fn add(cx: &mut Cx<'_>, key: &Key<'_>, increment: i64) -> CommandResult {
    let mut buffer = I64Buf::new();
    let sum = cx.keys.edit(key, |entry| {
        let old = entry.string().ok_or(CommandError::WrongType)?;
        let old = parse_i64(old).ok_or(CommandError::NotInteger)?;
        let sum = old.checked_add(increment).ok_or(CommandError::IncrementOverflow)?;
        entry.set_string(format_i64(sum, &mut buffer), Encoding::Int);
        Ok::<i64, CommandError>(sum)
    });
    let sum = match sum {
        Some(sum) => sum?,
        None => {
            let value = NewValue::Bytes(format_i64(increment, &mut buffer));
            cx.keys.set_string(key, value, Encoding::Int, Expiry::Never);
            increment
        }
    };
    cx.keys.changed(key, EventClasses::STRING, "incrby");
    cx.reply.integer(sum);
    Ok(())
}

pub(super) static INCRBYFLOAT: Command = Command {
    name: "incrbyfloat",
    since: "2.6.0",
    group: Group::String,
    summary: "Adds a floating point number to a number; a missing key counts as 0.",
    arity: Arity::exactly(3),
    flags: COUNTS,
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::double("increment")],
    reply: Shape::Bulk,
    example: "> SET price 10.5\nOK\n> INCRBYFLOAT price 0.1\n\"10.6\"\n> INCRBYFLOAT price 1e2\n\
              \"110.6\"",
    run: incrbyfloat,
    ..Command::BASE
};

fn incrbyfloat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let increment = args.bytes();
    args.done()?;
    let sum = cx.keys.edit(&key, |entry| {
        let old = entry.string().ok_or(CommandError::WrongType)?;
        let text = sum_of(old, increment)?;
        entry.set_string(&text, label_of_float(&text));
        Ok::<Vec<u8>, CommandError>(text)
    });
    let text = match sum {
        Some(text) => text?,
        None => {
            let text = sum_of(b"0", increment)?;
            let value = NewValue::Bytes(&text);
            cx.keys.set_string(&key, value, label_of_float(&text), Expiry::Never);
            text
        }
    };
    cx.keys.changed(&key, EventClasses::STRING, "incrbyfloat");
    // As its outcome: another machine's `long double` may be of another size and round otherwise.
    cx.propagate_as(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    cx.reply.bulk(&text);
    Ok(())
}

/// The sum of two numbers as text. The value is judged before the increment, as Redis does.
fn sum_of(value: &[u8], increment: &[u8]) -> Result<Vec<u8>, CommandError> {
    let value = LongDouble::parse(value).ok_or(CommandError::NotFloat)?;
    let increment = LongDouble::parse(increment).ok_or(CommandError::NotFloat)?;
    let sum = value + increment;
    if sum.is_nan() || sum.is_infinite() {
        return Err(CommandError::NanOrInfinity);
    }
    let mut text = Vec::new();
    sum.format_human(&mut text);
    Ok(text)
}

/// A float is never labelled an integer, even when it has no fraction.
fn label_of_float(text: &[u8]) -> Encoding {
    if text.len() <= Encoding::EMBSTR_MAX_BYTES { Encoding::Embstr } else { Encoding::Raw }
}
