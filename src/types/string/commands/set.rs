//! Commands that write whole strings: SET, SETEX, PSETEX, SETNX, MSET, MSETNX.
//!
//! A plain SET takes the short way: one descent into the keyspace, nothing parsed. With a time to
//! live it is replayed as `SET key value PXAT time`, whatever form the time was given in. A time
//! that has passed is stored all the same, and the key is gone for whoever looks: so replicas and
//! the append-only file, which must not decide by their own clocks, take the same way.

use super::{INSERTS, OVERWRITES, UPDATES, ValueArg, store, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Expiration,
    Flags, FoundKeys, Group, KeyFlags, KeySpec, Shape, TimeForm,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Expiry, Key};
use crate::resp::Request;
use crate::structs::number::{I64Buf, format_i64};

const WRITES: Flags = Flags::WRITE.or(Flags::DENYOOM);

pub(super) static SET: Command = Command {
    name: "set",
    group: Group::String,
    summary: "Sets a key to a string, whatever it held.",
    arity: Arity::at_least(3),
    flags: WRITES,
    acl: Categories::STRING,
    history: &[
        ("2.6.12", "Took the options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "Took the option `KEEPTTL`."),
        ("6.2.0", "Took the options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "Took `NX` and `GET` together."),
    ],
    keys: &[KeySpec::one(1, UPDATES.or(KeyFlags::VARIABLE_FLAGS))
        .notes("RW and ACCESS due to the optional `GET` argument")],
    key_finder: Some(set_keys),
    args: &[
        Arg::key("key"),
        Arg::string("value"),
        Arg::one_of("condition", &[Arg::flag("nx", "NX"), Arg::flag("xx", "XX")])
            .optional()
            .since("2.6.12"),
        Arg::flag("get", "GET").optional().since("6.2.0"),
        Arg::one_of(
            "expiration",
            &[
                Arg::integer("seconds").token("EX").since("2.6.12"),
                Arg::integer("milliseconds").token("PX").since("2.6.12"),
                Arg::unix_time("unix-time-seconds").token("EXAT").since("6.2.0"),
                Arg::unix_time("unix-time-milliseconds").token("PXAT").since("6.2.0"),
                Arg::flag("keepttl", "KEEPTTL").since("6.0.0"),
            ],
        )
        .optional(),
    ],
    example: "> SET k v\nOK\n> SET k w NX\n(nil)\n> SET k w XX GET\n\"v\"\n> SET k x EX 0\n\
              (error) ERR invalid expire time in 'set' command",
    run: set,
    ..Command::BASE
};

/// With GET the key's value is read, without it is only overwritten.
fn set_keys(request: &Request<'_>) -> Option<FoundKeys> {
    let reads = request.iter().skip(3).any(is_get);
    Some(FoundKeys::one(1, if reads { UPDATES } else { OVERWRITES }))
}

fn is_get(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"GET")
}

/// Whether the key must be there or must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// What SET is to do with the key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifetime<'a> {
    Forever,
    Kept,
    Until(Expiration<'a>),
}

struct SetOptions<'a> {
    condition: Condition,
    answers_old: bool,
    lifetime: Lifetime<'a>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: &mut Args<'a>) -> Result<SetOptions<'a>, CommandError> {
        let mut condition = Condition::Always;
        let mut answers_old = false;
        let mut lifetime = Lifetime::Forever;
        while !args.is_empty() {
            let so_far = match lifetime {
                Lifetime::Until(expiration) => Some(expiration),
                _ => None,
            };
            if condition != Condition::IfPresent && args.option("NX") {
                condition = Condition::IfAbsent;
            } else if condition != Condition::IfAbsent && args.option("XX") {
                condition = Condition::IfPresent;
            } else if args.option("GET") {
                answers_old = true;
            } else if so_far.is_none() && args.option("KEEPTTL") {
                lifetime = Lifetime::Kept;
            } else if lifetime != Lifetime::Kept
                && let Some(expiration) = Expiration::option(args, so_far)
            {
                lifetime = Lifetime::Until(expiration);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(SetOptions { condition, answers_old, lifetime })
    }
}

fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let value = args.value();
    // The plain SET, which most are, does not look for options.
    if args.is_empty() {
        args.check()?;
        store(cx, &key, value, Expiry::Never);
        cx.keys.changed(&key, EventClasses::STRING, "set");
        cx.reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(args)?;
    args.done()?;
    set_with_options(cx, &key, value, &options, args.request())
}

fn set_with_options(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    value: ValueArg<'_>,
    options: &SetOptions<'_>,
    request: Request<'_>,
) -> CommandResult {
    let now_ms = cx.keys.now_ms();
    let expiry = match options.lifetime {
        Lifetime::Forever => Expiry::Never,
        Lifetime::Kept => Expiry::Keep,
        Lifetime::Until(expiration) => Expiry::AtMs(expiration.at_ms(now_ms, "set")?),
    };
    if options.answers_old {
        write_value(cx, key)?;
    }
    let may = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => !cx.keys.exists(key),
        Condition::IfPresent => cx.keys.exists(key),
    };
    if may {
        store(cx, key, value, expiry);
        cx.keys.changed(key, EventClasses::STRING, "set");
        if let (Expiry::AtMs(at_ms), Lifetime::Until(expiration)) = (expiry, options.lifetime) {
            tell_expiry(cx, key, value.0, expiration.form, at_ms);
        } else if options.answers_old && cx.is_propagating() {
            // Without GET: nobody hears the old value where it is replayed.
            let words: Vec<&[u8]> = (request.iter().enumerate())
                .filter(|(at, word)| *at < 3 || !is_get(word))
                .map(|(_, word)| word)
                .collect();
            cx.propagate_as(&words);
        }
    }
    match (options.answers_old, may) {
        (true, _) => {}
        (false, true) => cx.reply.ok(),
        (false, false) => cx.reply.null(),
    }
    Ok(())
}

/// The rest of a SET with a time to live: its event, and the words it is replayed by.
fn tell_expiry(cx: &mut Cx<'_>, key: &Key<'_>, value: &[u8], form: TimeForm, at_ms: u64) {
    cx.keys.event(key, EventClasses::GENERIC, "expire");
    // As a moment: where it is replayed later, a time to live would begin anew.
    if form != TimeForm::UnixMilliseconds && cx.is_propagating() {
        let mut buffer = I64Buf::new();
        let at_ms = i64::try_from(at_ms).expect("expiries are checked to be within i64");
        let at_ms = format_i64(at_ms, &mut buffer);
        cx.propagate_as(&[b"SET", key.bytes, value, b"PXAT", at_ms]);
    }
}

pub(super) static SETEX: Command = Command {
    name: "setex",
    since: "2.0.0",
    group: Group::String,
    summary: "Sets a key to a string that expires after some seconds.",
    arity: Arity::exactly(4),
    flags: WRITES,
    acl: Categories::STRING,
    deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `EX` argument" }),
    keys: &[KeySpec::one(1, OVERWRITES)],
    args: &[Arg::key("key"), Arg::integer("seconds"), Arg::string("value")],
    reply: Shape::Ok,
    example: "> SETEX k 100 v\nOK\n> SETEX k 0 v\n\
              (error) ERR invalid expire time in 'setex' command",
    run: setex,
    ..Command::BASE
};

fn setex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_for(cx, args, TimeForm::Seconds, "setex")
}

pub(super) static PSETEX: Command = Command {
    name: "psetex",
    since: "2.6.0",
    group: Group::String,
    summary: "Sets a key to a string that expires after some milliseconds.",
    arity: Arity::exactly(4),
    flags: WRITES,
    acl: Categories::STRING,
    deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `PX` argument" }),
    keys: &[KeySpec::one(1, OVERWRITES)],
    args: &[Arg::key("key"), Arg::integer("milliseconds"), Arg::string("value")],
    reply: Shape::Ok,
    example: "> PSETEX k 100000 v\nOK\n> GET k\n\"v\"",
    run: psetex,
    ..Command::BASE
};

fn psetex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_for(cx, args, TimeForm::Milliseconds, "psetex")
}

fn set_for(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    form: TimeForm,
    command: &'static str,
) -> CommandResult {
    let key = args.key();
    let number = args.bytes();
    let value = args.value();
    args.done()?;
    let at_ms = Expiration { form, number }.at_ms(cx.keys.now_ms(), command)?;
    store(cx, &key, value, Expiry::AtMs(at_ms));
    cx.keys.changed(&key, EventClasses::STRING, "set");
    tell_expiry(cx, &key, value.0, form, at_ms);
    cx.reply.ok();
    Ok(())
}

pub(super) static SETNX: Command = Command {
    name: "setnx",
    group: Group::String,
    summary: "Sets a key to a string unless the key is there.",
    arity: Arity::exactly(3),
    flags: WRITES.or(Flags::FAST),
    acl: Categories::STRING,
    deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `NX` argument" }),
    keys: &[KeySpec::one(1, INSERTS)],
    args: &[Arg::key("key"), Arg::string("value")],
    reply: Shape::Integer,
    example: "> SETNX k v\n(integer) 1\n> SETNX k w\n(integer) 0\n> GET k\n\"v\"",
    run: setnx,
    ..Command::BASE
};

fn setnx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let value = args.value();
    args.done()?;
    let may = !cx.keys.exists(&key);
    if may {
        store(cx, &key, value, Expiry::Never);
        cx.keys.changed(&key, EventClasses::STRING, "set");
    }
    cx.reply.integer(i64::from(may));
    Ok(())
}

pub(super) static MSET: Command = Command {
    name: "mset",
    since: "1.0.1",
    group: Group::String,
    summary: "Sets several keys to strings at once.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(3),
    flags: WRITES,
    acl: Categories::STRING,
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    keys: &[KeySpec::range(1, -1, 2, OVERWRITES)],
    args: &[Arg::block("data", &[Arg::key("key"), Arg::string("value")]).multiple()],
    reply: Shape::Ok,
    example: "> MSET a 1 b 2\nOK\n> GET b\n\"2\"\n> MSET a 1 b\n\
              (error) ERR wrong number of arguments for 'mset' command",
    run: mset,
    ..Command::BASE
};

fn mset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(CommandError::WrongArity("mset"));
    }
    store_pairs(cx, args);
    args.done()?;
    cx.reply.ok();
    Ok(())
}

pub(super) static MSETNX: Command = Command {
    name: "msetnx",
    since: "1.0.1",
    group: Group::String,
    summary: "Sets several keys to strings at once, unless one of the keys is there.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(3),
    flags: WRITES,
    acl: Categories::STRING,
    keys: &[KeySpec::range(1, -1, 2, INSERTS)],
    args: &[Arg::block("data", &[Arg::key("key"), Arg::string("value")]).multiple()],
    reply: Shape::Integer,
    example: "> MSETNX a 1 b 2\n(integer) 1\n> MSETNX b 3 c 4\n(integer) 0\n> GET c\n(nil)",
    run: msetnx,
    ..Command::BASE
};

fn msetnx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(CommandError::WrongArity("msetnx"));
    }
    // All keys are asked for before the first is set: it is all of them or none.
    let mut ahead = args.clone();
    let mut any_exists = false;
    while !ahead.is_empty() && !any_exists {
        let key = ahead.key();
        ahead.bytes();
        any_exists = cx.keys.exists(&key);
    }
    if !any_exists {
        store_pairs(cx, args);
    }
    cx.reply.integer(i64::from(!any_exists));
    Ok(())
}

/// Sets the keys of the key and value pairs that are left, of which there is an even number.
fn store_pairs(cx: &mut Cx<'_>, args: &mut Args<'_>) {
    while !args.is_empty() {
        let key = args.key();
        let value = args.value();
        store(cx, &key, value, Expiry::Never);
        cx.keys.changed(&key, EventClasses::STRING, "set");
    }
}
