//! Giving fields a time to live: HEXPIRE and its kin.
//!
//! As with keys, any time becomes a Unix time in milliseconds at once, which is what the write
//! stream says, and a field whose time has come already is removed at once, which the stream says
//! as an HDEL.

use super::{edit_hash, limits, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Condition,
    FIELD_EXPIRY_MAX_MS, Flags, Group, KeyFlags, KeySpec, Shape, TimeForm,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Entry, Key};
use crate::structs::number::{I64Buf, format_i64};
use crate::types::hash::{HashMut, Limits};

pub(super) const NO_FIELD: i64 = -2;
const NOT_ALLOWED: i64 = 0;
const SET: i64 = 1;
const REMOVED: i64 = 2;

pub(super) const FIELDS: Arg =
    Arg::block("fields", &[Arg::integer("numfields"), Arg::string("field").multiple()])
        .token("FIELDS");

/// What the four have in common.
const COMMON: Command = Command {
    since: "7.4.0",
    group: Group::Hash,
    complexity: "O(N) with N fields named",
    arity: Arity::at_least(6),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    reply: Shape::Array,
    ..Command::BASE
};

pub(super) static HEXPIRE: Command = Command {
    name: "hexpire",
    summary: "Lets fields live for so many seconds more.",
    args: &[Arg::key("key"), Arg::integer("seconds"), Condition::ARG, FIELDS],
    example: "> HSET h a 1\n(integer) 1\n> HEXPIRE h 10 FIELDS 2 a b\n\
              1) (integer) 1\n2) (integer) -2\n> HEXPIRE h 20 NX FIELDS 1 a\n1) (integer) 0\n\
              > HEXPIRE h 0 FIELDS 1 a\n1) (integer) 2",
    run: hexpire,
    ..COMMON
};

fn hexpire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::Seconds, "hexpire")
}

pub(super) static HEXPIREAT: Command = Command {
    name: "hexpireat",
    summary: "Lets fields live until a Unix time in seconds.",
    args: &[Arg::key("key"), Arg::unix_time("unix-time-seconds"), Condition::ARG, FIELDS],
    example: "> HSET h a 1\n(integer) 1\n> HEXPIREAT h 33177117420 FIELDS 1 a\n1) (integer) 1",
    run: hexpireat,
    ..COMMON
};

fn hexpireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::UnixSeconds, "hexpireat")
}

pub(super) static HPEXPIRE: Command = Command {
    name: "hpexpire",
    summary: "Lets fields live for so many milliseconds more.",
    args: &[Arg::key("key"), Arg::integer("milliseconds"), Condition::ARG, FIELDS],
    example: "> HSET h a 1\n(integer) 1\n> HPEXPIRE h 99999 FIELDS 1 a\n1) (integer) 1",
    run: hpexpire,
    ..COMMON
};

fn hpexpire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::Milliseconds, "hpexpire")
}

pub(super) static HPEXPIREAT: Command = Command {
    name: "hpexpireat",
    summary: "Lets fields live until a Unix time in milliseconds.",
    args: &[Arg::key("key"), Arg::unix_time("unix-time-milliseconds"), Condition::ARG, FIELDS],
    example: "> HSET h a 1\n(integer) 1\n> HPEXPIREAT h 33177117420000 FIELDS 1 a\n\
              1) (integer) 1\n> HPEXPIRETIME h FIELDS 1 a\n1) (integer) 33177117420000",
    run: hpexpireat,
    ..COMMON
};

fn hpexpireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_expiry(cx, args, TimeForm::UnixMilliseconds, "hpexpireat")
}

fn set_expiry(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    form: TimeForm,
    command: &'static str,
) -> CommandResult {
    let key = args.key();
    read_hash(&cx.keys, &key)?;
    let mut time = args.integer();
    args.check()?;
    if cx.caller.was_accepted_before() && form == TimeForm::UnixMilliseconds {
        time = time.min(FIELD_EXPIRY_MAX_MS.cast_signed());
    }
    let horizon_ms = cx.keys.horizon_ms();
    let at_ms = form.field_unix_ms(time, cx.keys.now_ms(), command)?;
    let mut condition = Condition::default();
    condition.option(args);
    let names = read_names(args, TOO_FEW)?;
    let limits = limits(cx);
    let mut told = Told::default();
    let answers = edit_hash(cx, &key, |hash| {
        let apply = |name| {
            let current_ms = hash.expiry_of(name)?;
            if !condition.allows(current_ms, at_ms.cast_signed()) {
                return Some(NOT_ALLOWED);
            }
            Some(told.expire(hash, name, at_ms, horizon_ms, &limits))
        };
        let answers = names.iter().copied().map(apply);
        answers.map(|answer| answer.unwrap_or(NO_FIELD)).collect::<Vec<i64>>()
    })?;
    cx.reply.array(names.len());
    for answer in answers.unwrap_or_else(|| vec![NO_FIELD; names.len()]) {
        cx.reply.integer(answer);
    }
    told.tell(cx, &key, at_ms);
    Ok(())
}

/// What is said of a number of fields that is none, by HEXPIRE and its kin.
const TOO_FEW: CommandError =
    CommandError::Fixed("ERR Parameter `numFields` should be greater than 0");

/// And by the others.
pub(super) const NOT_POSITIVE: CommandError =
    CommandError::Fixed("ERR Number of fields must be a positive integer");

/// The names that follow FIELDS and their number, which are the last arguments.
pub(super) fn read_names<'a>(
    args: &mut Args<'a>,
    error: CommandError,
) -> Result<Vec<&'a [u8]>, CommandError> {
    if !args.option("fields") {
        return Err(CommandError::Fixed(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = args.integer_or(error.clone());
    args.check()?;
    if count < 1 {
        return Err(error);
    }
    if usize::try_from(count) != Ok(args.remaining()) {
        return Err(CommandError::Fixed(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(std::iter::from_fn(|| (!args.is_empty()).then(|| args.bytes())).collect())
}

/// What was done to the times of fields, to be told when all is done.
#[derive(Default)]
pub(super) struct Told<'a> {
    timed: Vec<&'a [u8]>,
    persisted: Vec<&'a [u8]>,
    removed: Vec<&'a [u8]>,
}

impl<'a> Told<'a> {
    /// Lets a field that is there expire at a time, or removes it if that has come.
    pub fn expire(
        &mut self,
        hash: &mut HashMut<'_>,
        name: &'a [u8],
        at_ms: u64,
        horizon_ms: u64,
        limits: &Limits,
    ) -> i64 {
        if at_ms <= horizon_ms {
            self.remove(hash, name);
            return REMOVED;
        }
        hash.set_expiry(name, Some(at_ms), limits);
        self.timed.push(name);
        SET
    }

    pub fn persist(&mut self, hash: &mut HashMut<'_>, name: &'a [u8], limits: &Limits) {
        hash.set_expiry(name, None, limits);
        self.persisted.push(name);
    }

    pub fn remove(&mut self, hash: &mut HashMut<'_>, name: &'a [u8]) {
        if hash.remove(name) {
            self.removed.push(name);
        }
    }

    /// Tells it, and takes the key away if its last field went.
    pub fn tell(&self, cx: &mut Cx<'_>, key: &Key<'_>, at_ms: u64) {
        let mut digits = I64Buf::new();
        let at = format_i64(at_ms.cast_signed(), &mut digits);
        tell_some(cx, key, "hexpire", &[b"HPEXPIREAT", key.bytes, at], &self.timed);
        tell_some(cx, key, "hpersist", &[b"HPERSIST", key.bytes], &self.persisted);
        if self.removed.is_empty() {
            return;
        }
        let is_last = cx.keys.peek(key).is_some_and(Entry::is_hollow);
        if is_last {
            cx.keys.delete(key);
        }
        super::write::changed(cx, key, "hdel", self.removed.len());
        if is_last {
            cx.keys.event(key, EventClasses::GENERIC, "del");
        }
        if cx.is_propagating() {
            cx.propagate_as(&[&[&b"HDEL"[..], key.bytes], &self.removed[..]].concat());
        }
    }
}

fn tell_some(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    event: &'static str,
    words: &[&[u8]],
    names: &[&[u8]],
) {
    if names.is_empty() {
        return;
    }
    super::write::changed(cx, key, event, names.len());
    if cx.is_propagating() {
        let mut digits = I64Buf::new();
        let count = format_i64(names.len() as i64, &mut digits);
        cx.propagate_as(&[words, &[b"FIELDS", count], names].concat());
    }
}
