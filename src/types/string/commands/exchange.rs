//! Reads that also write: GETDEL, GETEX, GETSET.
//!
//! Each answers as GET does, then changes the key. None is replayed by its own words: what is
//! replayed is the change alone, with absolute times.

use super::{UPDATES, store, write_string, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Expiration,
    Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Expiry, Key};
use crate::structs::number::{I64Buf, format_i64};

pub(super) static GETDEL: Command = Command {
    name: "getdel",
    since: "6.2.0",
    group: Group::String,
    summary: "Returns the value of a string and deletes the key.",
    arity: Arity::exactly(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
    args: &[Arg::key("key")],
    reply: Shape::BulkOrNull,
    example: "> SET k v\nOK\n> GETDEL k\n\"v\"\n> GETDEL k\n(nil)",
    run: getdel,
    ..Command::BASE
};

fn getdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    if write_value(cx, &key)? && cx.keys.delete(&key) {
        cx.propagate_as(&[b"DEL", key.bytes]);
        cx.keys.changed(&key, EventClasses::GENERIC, "del");
    }
    Ok(())
}

pub(super) static GETSET: Command = Command {
    name: "getset",
    group: Group::String,
    summary: "Sets a string and returns its old value.",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::STRING,
    deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
    keys: &[KeySpec::one(1, UPDATES)],
    args: &[Arg::key("key"), Arg::string("value")],
    reply: Shape::BulkOrNull,
    example: "> GETSET k new\n(nil)\n> GETSET k newer\n\"new\"",
    run: getset,
    ..Command::BASE
};

fn getset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let value = args.value();
    args.done()?;
    write_value(cx, &key)?;
    store(cx, &key, value, Expiry::Never);
    cx.keys.changed(&key, EventClasses::STRING, "set");
    cx.propagate_as(&[b"SET", key.bytes, value.0]);
    Ok(())
}

pub(super) static GETEX: Command = Command {
    name: "getex",
    since: "6.2.0",
    group: Group::String,
    summary: "Returns the value of a string, and sets or removes its expiry.",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STRING,
    keys: &[KeySpec::one(1, UPDATES).notes("RW and UPDATE because it changes the TTL")],
    args: &[
        Arg::key("key"),
        Arg::one_of(
            "expiration",
            &[
                Arg::integer("seconds").token("EX"),
                Arg::integer("milliseconds").token("PX"),
                Arg::unix_time("unix-time-seconds").token("EXAT"),
                Arg::unix_time("unix-time-milliseconds").token("PXAT"),
                Arg::flag("persist", "PERSIST"),
            ],
        )
        .optional(),
    ],
    reply: Shape::BulkOrNull,
    example: "> SET k v\nOK\n> GETEX k EX 100\n\"v\"\n> GETEX k PERSIST\n\"v\"",
    run: getex,
    ..Command::BASE
};

/// What GETEX is to do with the key's expiry.
enum Lifetime<'a> {
    Keep,
    Persist,
    Until(Expiration<'a>),
}

impl<'a> Lifetime<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Lifetime<'a>, CommandError> {
        let (mut persists, mut expiration) = (false, None);
        while !args.is_empty() {
            if expiration.is_none() && args.option("PERSIST") {
                persists = true;
                continue;
            }
            let given = if persists { None } else { Expiration::option(args, expiration) };
            expiration = Some(given.ok_or(CommandError::Syntax)?);
        }
        Ok(match expiration {
            Some(expiration) => Lifetime::Until(expiration),
            None if persists => Lifetime::Persist,
            None => Lifetime::Keep,
        })
    }
}

fn getex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let lifetime = Lifetime::parse(args)?;
    args.done()?;
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.null();
        return Ok(());
    };
    write_string(&mut cx.reply, entry)?;
    let expires = entry.expiry_ms().is_some();
    match lifetime {
        Lifetime::Keep => {}
        Lifetime::Persist if expires => {
            cx.keys.set_expiry(&key, None);
            cx.keys.changed(&key, EventClasses::GENERIC, "persist");
            cx.propagate_as(&[b"PERSIST", key.bytes]);
        }
        Lifetime::Persist => {}
        Lifetime::Until(expiration) => {
            let at_ms = expiration.at_ms(cx.keys.now_ms(), "getex")?;
            if expiration.form.is_absolute() && at_ms <= cx.keys.horizon_ms() {
                delete_expired(cx, &key);
            } else {
                expire_at(cx, &key, at_ms);
            }
        }
    }
    Ok(())
}

/// Deletes a key that was told to expire at a time that has passed.
fn delete_expired(cx: &mut Cx<'_>, key: &Key<'_>) {
    let lazily = cx.server.config.lazyfree_lazy_expire;
    cx.keys.delete(key);
    cx.keys.changed(key, EventClasses::GENERIC, "del");
    cx.propagate_as(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
}

fn expire_at(cx: &mut Cx<'_>, key: &Key<'_>, at_ms: u64) {
    cx.keys.set_expiry(key, Some(at_ms));
    cx.keys.changed(key, EventClasses::GENERIC, "expire");
    let mut buffer = I64Buf::new();
    let at_ms = i64::try_from(at_ms).expect("expiries are checked to be within i64");
    cx.propagate_as(&[b"PEXPIREAT", key.bytes, format_i64(at_ms, &mut buffer)]);
}
