//! All keys: KEYS, SCAN, RANDOMKEY.
//!
//! KEYS over a big database reads a snapshot on another thread, so that only its caller waits for
//! it. SCAN goes by hash order, so its cursor survives all growing and shrinking: what is there
//! from the first call to the last is returned exactly once. Neither shows a key whose time has
//! come.

use super::elements::{ScanOptions, Scanned, parse_scan_cursor, write_scan_page};
use crate::command::{Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, Shape};
use crate::engine::Cx;
use crate::keyspace::slot::Slot;
use crate::keyspace::{Entry, Snapshot};
use crate::resp::Reply;
use crate::structs::glob::{self, Case};

/// A walk over at most so many keys costs less than handing it to another thread.
const INLINE_KEYS_MAX: usize = 1000;

pub(super) static KEYS: Command = Command {
    name: "keys",
    group: Group::Generic,
    summary: "Lists the keys that match a pattern.",
    complexity: "O(N) with N keys in the database, on another thread when they are many",
    arity: Arity::exactly(2),
    flags: Flags::READONLY,
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    args: &[Arg::pattern("pattern")],
    reply: Shape::Array,
    example: "> MSET one 1 two 2\nOK\n> KEYS t*\n1) \"two\"",
    run: keys,
    ..Command::BASE
};

fn keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_literal = !args.peek().is_some_and(|pattern| pattern.iter().any(is_special));
    if is_literal {
        let key = args.key();
        let found = cx.keys.peek(&key).is_some();
        cx.reply.array(usize::from(found));
        if found {
            cx.reply.bulk(key.bytes);
        }
        return Ok(());
    }
    let pattern = args.bytes();
    args.done()?;
    let slot = cx.keys.db().slot_of_pattern(pattern);
    let snapshot = cx.keys.db().snapshot(cx.keys.horizon_ms());
    if keys_among(cx, slot) <= INLINE_KEYS_MAX {
        list_matching(&snapshot, slot, pattern, &mut cx.reply);
        return Ok(());
    }
    let pattern = pattern.to_vec();
    cx.answer_by(move |reply| {
        list_matching(&snapshot, slot, &pattern, reply);
        Ok(())
    })
}

/// Whether a byte of a pattern may stand for something else than itself.
fn is_special(byte: &u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

/// How many keys are walked over.
fn keys_among(cx: &Cx<'_>, slot: Option<Slot>) -> usize {
    let db = cx.keys.db();
    slot.map_or_else(|| db.len(), |slot| db.slot_len(slot))
}

fn list_matching(snapshot: &Snapshot, slot: Option<Slot>, pattern: &[u8], reply: &mut Reply<'_>) {
    match slot {
        None => list_among(snapshot.live(), pattern, reply),
        Some(slot) => list_among(snapshot.live_in(slot), pattern, reply),
    }
}

fn list_among<'e>(entries: impl Iterator<Item = &'e Entry>, pattern: &[u8], reply: &mut Reply<'_>) {
    let deferred = reply.begin_deferred();
    let mut listed = 0;
    for entry in entries {
        if pattern == b"*" || glob::matches(pattern, entry.key(), Case::Sensitive) {
            reply.bulk(entry.key());
            listed += 1;
        }
    }
    reply.end_array(deferred, listed);
}

pub(super) static RANDOMKEY: Command = Command {
    name: "randomkey",
    group: Group::Generic,
    summary: "Returns some key of the database.",
    arity: Arity::exactly(1),
    flags: Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS),
    acl: Categories::KEYSPACE,
    tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
    reply: Shape::BulkOrNull,
    example: "> RANDOMKEY\n(nil)\n> SET k v\nOK\n> RANDOMKEY\n\"k\"",
    run: randomkey,
    ..Command::BASE
};

fn randomkey(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    match cx.keys.random() {
        Some(entry) => cx.reply.bulk(entry.key()),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(super) static SCAN: Command = Command {
    name: "scan",
    since: "2.8.0",
    group: Group::Generic,
    summary: "Lists keys piece by piece: each call returns the cursor for the next one.",
    complexity: "O(1) for a call, O(N) for a whole walk over N keys",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS),
    acl: Categories::KEYSPACE,
    tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
    history: &[("6.0.0", "Took TYPE.")],
    args: &[
        Arg::integer("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
        Arg::string("type").token("TYPE").optional().since("6.0.0"),
    ],
    reply: Shape::Array,
    example: "> SET k v\nOK\n> SCAN 0\n1) \"0\"\n2) 1) \"k\"",
    run: scan,
    ..Command::BASE
};

fn scan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let cursor = parse_scan_cursor(args.bytes())?;
    let options = ScanOptions::read(args, Scanned::Keys)?;
    let count = options.count;
    let slot = options.pattern().and_then(|pattern| cx.keys.db().slot_of_pattern(pattern));
    if count <= INLINE_KEYS_MAX || keys_among(cx, slot) <= INLINE_KEYS_MAX {
        let Cx { keys, reply, .. } = cx;
        write_scan_page(reply, |page| {
            let takes = |entry: &Entry| options.takes_entry(entry);
            keys.scan(slot, cursor, count, takes, |entry| page.list(entry.key()))
        });
        return Ok(());
    }
    let snapshot = cx.keys.db().snapshot(cx.keys.horizon_ms());
    cx.answer_by(move |reply| {
        write_scan_page(reply, |page| {
            let takes = |entry: &Entry| options.takes_entry(entry);
            snapshot.scan(slot, cursor, count, takes, |entry| page.list(entry.key()))
        });
        Ok(())
    })
}
