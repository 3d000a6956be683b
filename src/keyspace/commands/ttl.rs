//! How long a key has to live, and until when: TTL, PTTL, EXPIRETIME, PEXPIRETIME.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;

const NO_KEY: i64 = -2;
const NO_EXPIRY: i64 = -1;

/// What the four have in common.
const COMMON: Command = Command {
    group: Group::Generic,
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    ..Command::BASE
};

pub(super) static TTL: Command = Command {
    name: "ttl",
    summary: "Returns the seconds that a key has to live.",
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "Answered -2 for a key that is not there.")],
    example: "> SET k v\nOK\n> TTL k\n(integer) -1\n> EXPIRE k 100\n(integer) 1\n\
              > TTL k\n(integer) 100\n> TTL nothing\n(integer) -2",
    run: ttl,
    ..COMMON
};

fn ttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let now_ms = cx.keys.now_ms();
    answer(cx, args, |at_ms| to_seconds(at_ms.saturating_sub(now_ms)))
}

pub(super) static PTTL: Command = Command {
    name: "pttl",
    since: "2.6.0",
    summary: "Returns the milliseconds that a key has to live.",
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "Answered -2 for a key that is not there.")],
    example: "> SET k v\nOK\n> PTTL k\n(integer) -1\n> PTTL nothing\n(integer) -2",
    run: pttl,
    ..COMMON
};

fn pttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let now_ms = cx.keys.now_ms();
    answer(cx, args, |at_ms| at_ms.saturating_sub(now_ms))
}

pub(super) static EXPIRETIME: Command = Command {
    name: "expiretime",
    since: "7.0.0",
    summary: "Returns until when a key lives, in seconds of Unix time.",
    example: "> SET k v\nOK\n> EXPIREAT k 33177117420\n(integer) 1\n\
              > EXPIRETIME k\n(integer) 33177117420",
    run: expiretime,
    ..COMMON
};

fn expiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, to_seconds)
}

pub(super) static PEXPIRETIME: Command = Command {
    name: "pexpiretime",
    since: "7.0.0",
    summary: "Returns until when a key lives, in milliseconds of Unix time.",
    example: "> SET k v\nOK\n> PEXPIREAT k 33177117420000\n(integer) 1\n\
              > PEXPIRETIME k\n(integer) 33177117420000",
    run: pexpiretime,
    ..COMMON
};

fn pexpiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, |at_ms| at_ms)
}

fn answer(cx: &mut Cx<'_>, args: &mut Args<'_>, convert: impl Fn(u64) -> u64) -> CommandResult {
    let key = args.key();
    args.done()?;
    let answer = match cx.keys.look(&key) {
        None => NO_KEY,
        Some(entry) => entry.expiry_ms().map_or(NO_EXPIRY, |at_ms| convert(at_ms).cast_signed()),
    };
    cx.reply.integer(answer);
    Ok(())
}

/// Rounded to the nearest second.
fn to_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}
