//! Values as numbers: HINCRBY and HINCRBYFLOAT.
//!
//! A missing field counts as 0. HINCRBYFLOAT is replayed as an HSET of its result, so that a
//! replica need not agree on the arithmetic.

use super::{UPDATES, edit_or_make, limits};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
    Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::structs::listpack::Element;
use crate::structs::long_double::LongDouble;
use crate::structs::number::{I64Buf, format_i64, parse_i64};

const COUNTS: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);

pub(super) static HINCRBY: Command = Command {
    name: "hincrby",
    member_at: 2,
    since: "2.0.0",
    group: Group::Hash,
    summary: "Adds a number to a field's integer; a missing field counts as 0.",
    arity: Arity::exactly(4),
    flags: COUNTS,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::string("field"), Arg::integer("increment")],
    reply: Shape::Integer,
    example: "> HINCRBY page visits 5\n(integer) 5\n> HINCRBY page visits -2\n(integer) 3",
    run: hincrby,
    ..Command::BASE
};

fn hincrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let name = args.bytes();
    let increment = args.integer();
    args.done()?;
    let limits = limits(cx);
    let sum = edit_or_make(cx, &key, |hash| {
        let old = match hash.get(name) {
            None => Some(0),
            Some(Element::Int(value)) => Some(value),
            Some(Element::Str(text)) => parse_i64(text),
        };
        let old = old.ok_or(CommandError::Fixed("ERR hash value is not an integer"))?;
        let sum = old.checked_add(increment).ok_or(CommandError::IncrementOverflow)?;
        hash.set_keeping(name, format_i64(sum, &mut I64Buf::new()), &limits);
        Ok::<i64, CommandError>(sum)
    })??;
    cx.keys.changed(&key, EventClasses::HASH, "hincrby");
    cx.reply.integer(sum);
    Ok(())
}

pub(super) static HINCRBYFLOAT: Command = Command {
    name: "hincrbyfloat",
    member_at: 2,
    since: "2.6.0",
    group: Group::Hash,
    summary: "Adds a floating point number to a field's number; a missing field counts as 0.",
    arity: Arity::exactly(4),
    flags: COUNTS,
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::string("field"), Arg::double("increment")],
    reply: Shape::Bulk,
    example: "> HSET item price 10.5\n(integer) 1\n> HINCRBYFLOAT item price 0.1\n\"10.6\"",
    run: hincrbyfloat,
    ..Command::BASE
};

fn hincrbyfloat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let name = args.bytes();
    let increment = LongDouble::parse(args.bytes()).ok_or(CommandError::NotFloat)?;
    args.done()?;
    if increment.is_nan() || increment.is_infinite() {
        return Err(CommandError::Fixed("ERR value is NaN or Infinity"));
    }
    let limits = limits(cx);
    let (text, is_timed) = edit_or_make(cx, &key, |hash| {
        let mut buffer = I64Buf::new();
        let old = hash.get(name).unwrap_or(Element::Int(0));
        let old = LongDouble::parse(old.bytes(&mut buffer))
            .ok_or(CommandError::Fixed("ERR hash value is not a float"))?;
        let sum = old + increment;
        if sum.is_nan() || sum.is_infinite() {
            return Err(CommandError::NanOrInfinity);
        }
        let mut text = Vec::new();
        sum.format_human(&mut text);
        hash.set_keeping(name, &text, &limits);
        Ok((text, hash.expiry_of(name).flatten().is_some()))
    })??;
    cx.keys.changed(&key, EventClasses::HASH, "hincrbyfloat");
    if is_timed {
        // A plain HSET would let the field live for good.
        let words: [&[u8]; 7] = [b"HSETEX", key.bytes, b"KEEPTTL", b"FIELDS", b"1", name, &text];
        cx.propagate_as(&words);
    } else {
        cx.propagate_as(&[b"HSET", key.bytes, name, &text]);
    }
    cx.reply.bulk(&text);
    Ok(())
}
