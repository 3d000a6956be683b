//! Giving a key a time to live, and taking it away: EXPIRE and its kin, PERSIST.
//!
//! Whatever way the time was given, it becomes a Unix time in milliseconds at once, and that is
//! what the write stream says: a replica that replays it later must not add the delay. A time that
//! has come deletes the key at once, and the stream says so. The alternative, to store it and let
//! expiry find it, would let a reader in the same transaction see the key.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Condition, Flags, Group,
    KeyFlags, KeySpec, Shape, TimeForm,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::structs::number::{I64Buf, format_i64, parse_i64};

/// What the four have in common.
const COMMON: Command = Command {
    group: Group::Generic,
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    history: &[("7.0.0", "Took NX, XX, GT and LT.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    reply: Shape::Integer,
    ..Command::BASE
};

const CONDITION: Arg = Condition::ARG.since("7.0.0");

pub(super) static EXPIRE: Command = Command {
    name: "expire",
    summary: "Lets a key live for so many seconds more.",
    args: &[Arg::key("key"), Arg::integer("seconds"), CONDITION],
    example: "> SET k v\nOK\n> EXPIRE k 10\n(integer) 1\n> EXPIRE k 20 NX\n(integer) 0\n\
              > EXPIRE nothing 10\n(integer) 0",
    run: expire,
    ..COMMON
};

fn expire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::Seconds, "expire")
}

pub(super) static EXPIREAT: Command = Command {
    name: "expireat",
    since: "1.2.0",
    summary: "Lets a key live until a Unix time in seconds.",
    args: &[Arg::key("key"), Arg::unix_time("unix-time-seconds"), CONDITION],
    example: "> SET k v\nOK\n> EXPIREAT k 1293840000\n(integer) 1\n> EXISTS k\n(integer) 0",
    run: expireat,
    ..COMMON
};

fn expireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::UnixSeconds, "expireat")
}

pub(super) static PEXPIRE: Command = Command {
    name: "pexpire",
    since: "2.6.0",
    summary: "Lets a key live for so many milliseconds more.",
    args: &[Arg::key("key"), Arg::integer("milliseconds"), CONDITION],
    example: "> SET k v\nOK\n> PEXPIRE k 99999\n(integer) 1\n> TTL k\n(integer) 100",
    run: pexpire,
    ..COMMON
};

fn pexpire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::Milliseconds, "pexpire")
}

pub(super) static PEXPIREAT: Command = Command {
    name: "pexpireat",
    since: "2.6.0",
    summary: "Lets a key live until a Unix time in milliseconds.",
    args: &[Arg::key("key"), Arg::unix_time("unix-time-milliseconds"), CONDITION],
    example: "> SET k v\nOK\n> PEXPIREAT k 33177117420000\n(integer) 1\n\
              > PEXPIRETIME k\n(integer) 33177117420000",
    run: pexpireat,
    ..COMMON
};

fn pexpireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::UnixMilliseconds, "pexpireat")
}

fn set_expiry(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    form: TimeForm,
    command: &'static str,
) -> CommandResult {
    let key = args.key();
    let time = args.bytes();
    // What is wrong with the options is told before what is wrong with the time.
    let condition = read_conditions(args)?;
    let time = parse_i64(time).ok_or(CommandError::NotInteger)?;
    let at_ms = form.unix_ms(time, cx.keys.now_ms(), command)?;
    let Some(entry) = cx.keys.peek(&key) else {
        cx.reply.integer(0);
        return Ok(());
    };
    if !condition.allows(entry.expiry_ms(), at_ms) {
        cx.reply.integer(0);
        return Ok(());
    }
    cx.reply.integer(1);
    match u64::try_from(at_ms) {
        Ok(later_ms) if later_ms > cx.keys.horizon_ms() => {
            cx.keys.set_expiry(&key, Some(later_ms));
            propagate(cx, args, at_ms, form);
            cx.keys.changed(&key, EventClasses::GENERIC, "expire");
        }
        _ => delete_at_once(cx, &key),
    }
    Ok(())
}

fn delete_at_once(cx: &mut Cx<'_>, key: &Key<'_>) {
    cx.keys.delete(key);
    if cx.is_propagating() {
        let lazily = cx.server.config.lazyfree_lazy_expire;
        cx.propagate_as(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
    }
    cx.keys.changed(key, EventClasses::GENERIC, "del");
}

/// Tells the write stream the absolute time, with the condition as it was given.
fn propagate(cx: &mut Cx<'_>, args: &Args<'_>, at_ms: i64, form: TimeForm) {
    if form == TimeForm::UnixMilliseconds || !cx.is_propagating() {
        return;
    }
    let mut digits = I64Buf::new();
    let request = args.request();
    let mut words: Vec<&[u8]> = request.iter().collect();
    words[0] = b"PEXPIREAT";
    words[2] = format_i64(at_ms, &mut digits);
    cx.propagate_as(&words);
}

fn read_conditions(args: &mut Args<'_>) -> Result<Condition, CommandError> {
    let mut condition = Condition::default();
    while let Some(option) = args.peek() {
        if !condition.option(args) {
            return Err(unsupported(option));
        }
    }
    if condition.none && (condition.some || condition.earlier || condition.later) {
        return Err(CommandError::Fixed(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if condition.earlier && condition.later {
        return Err(CommandError::Fixed(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(condition)
}

/// Names the option up to its first NUL byte, where Redis's text ends.
fn unsupported(option: &[u8]) -> CommandError {
    let end = option.iter().position(|byte| *byte == 0).unwrap_or(option.len());
    CommandError::Bytes([b"ERR Unsupported option ", &option[..end]].concat().into_boxed_slice())
}

pub(super) static PERSIST: Command = Command {
    name: "persist",
    since: "2.2.0",
    group: Group::Generic,
    summary: "Lets a key live for good.",
    arity: Arity::exactly(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> EXPIRE k 10\n(integer) 1\n> PERSIST k\n(integer) 1\n\
              > TTL k\n(integer) -1\n> PERSIST k\n(integer) 0",
    run: persist,
    ..Command::BASE
};

fn persist(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let has_expiry = cx.keys.peek(&key).is_some_and(|entry| entry.expiry_ms().is_some());
    if has_expiry {
        cx.keys.set_expiry(&key, None);
        cx.keys.changed(&key, EventClasses::GENERIC, "persist");
    }
    cx.reply.integer(i64::from(has_expiry));
    Ok(())
}
