//! How long fields have to live, and until when, and letting them live for good: HTTL, HPTTL,
//! HEXPIRETIME, HPEXPIRETIME and HPERSIST.

use super::expire::{FIELDS, NO_FIELD, NOT_POSITIVE, Told, read_names};
use super::{READS, edit_hash, limits, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;

const NO_EXPIRY: i64 = -1;
const PERSISTED: i64 = 1;

/// What the readers have in common.
const COMMON: Command = Command {
    since: "7.4.0",
    group: Group::Hash,
    complexity: "O(N) with N fields named",
    arity: Arity::at_least(5),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::HASH,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), FIELDS],
    reply: Shape::Array,
    ..Command::BASE
};

pub(super) static HTTL: Command = Command {
    name: "httl",
    summary: "Returns the seconds that fields have to live.",
    tips: &["nondeterministic_output"],
    example: "> HSET h a 1 b 2\n(integer) 2\n> HEXPIRE h 100 FIELDS 1 a\n1) (integer) 1\n\
              > HTTL h FIELDS 3 a b c\n1) (integer) 100\n2) (integer) -1\n3) (integer) -2",
    run: httl,
    ..COMMON
};

fn httl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let now_ms = cx.keys.now_ms();
    answer(cx, args, |at_ms| at_ms.saturating_sub(now_ms).div_ceil(1000))
}

pub(super) static HPTTL: Command = Command {
    name: "hpttl",
    summary: "Returns the milliseconds that fields have to live.",
    tips: &["nondeterministic_output"],
    example: "> HSET h a 1\n(integer) 1\n> HPTTL h FIELDS 2 a b\n1) (integer) -1\n2) (integer) -2",
    run: hpttl,
    ..COMMON
};

fn hpttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let now_ms = cx.keys.now_ms();
    answer(cx, args, |at_ms| at_ms.saturating_sub(now_ms))
}

pub(super) static HEXPIRETIME: Command = Command {
    name: "hexpiretime",
    summary: "Returns until when fields live, in seconds of Unix time.",
    example: "> HSET h a 1\n(integer) 1\n> HEXPIREAT h 33177117420 FIELDS 1 a\n1) (integer) 1\n\
              > HEXPIRETIME h FIELDS 1 a\n1) (integer) 33177117420",
    run: hexpiretime,
    ..COMMON
};

fn hexpiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, |at_ms| at_ms.div_ceil(1000))
}

pub(super) static HPEXPIRETIME: Command = Command {
    name: "hpexpiretime",
    summary: "Returns until when fields live, in milliseconds of Unix time.",
    example: "> HSET h a 1\n(integer) 1\n> HEXPIREAT h 33177117420 FIELDS 1 a\n1) (integer) 1\n\
              > HPEXPIRETIME h FIELDS 1 a\n1) (integer) 33177117420000",
    run: hpexpiretime,
    ..COMMON
};

fn hpexpiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    answer(cx, args, |at_ms| at_ms)
}

fn answer(cx: &mut Cx<'_>, args: &mut Args<'_>, convert: impl Fn(u64) -> u64) -> CommandResult {
    let key = args.key();
    let hash = read_hash(&cx.keys, &key)?;
    let names = read_names(args, NOT_POSITIVE)?;
    cx.reply.array(names.len());
    for name in names {
        let expiry = hash.and_then(|hash| hash.expiry_of(name));
        cx.reply.integer(match expiry {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(at_ms)) => convert(at_ms).cast_signed(),
        });
    }
    Ok(())
}

pub(super) static HPERSIST: Command = Command {
    name: "hpersist",
    summary: "Lets fields live for good.",
    flags: Flags::WRITE.or(Flags::FAST),
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    example: "> HSET h a 1\n(integer) 1\n> HEXPIRE h 100 FIELDS 1 a\n1) (integer) 1\n\
              > HPERSIST h FIELDS 2 a b\n1) (integer) 1\n2) (integer) -2\n\
              > HTTL h FIELDS 1 a\n1) (integer) -1",
    run: hpersist,
    ..COMMON
};

fn hpersist(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    read_hash(&cx.keys, &key)?;
    let names = read_names(args, NOT_POSITIVE)?;
    let limits = limits(cx);
    let mut told = Told::default();
    let answers = edit_hash(cx, &key, |hash| {
        let apply = |name| match hash.expiry_of(name) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(_)) => {
                told.persist(hash, name, &limits);
                PERSISTED
            }
        };
        names.iter().copied().map(apply).collect::<Vec<i64>>()
    })?;
    cx.reply.array(names.len());
    for answer in answers.unwrap_or_else(|| vec![NO_FIELD; names.len()]) {
        cx.reply.integer(answer);
    }
    told.tell(cx, &key, 0);
    Ok(())
}
