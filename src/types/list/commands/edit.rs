//! Changes within a list: LINSERT, LREM, LSET, LTRIM.

use super::{
    DELETES, FITS, INSERTS, changed, delete_ranges, edit_either, limit_of, list_to_change,
    make_room, shrink,
};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::structs::listpack::{self, Listpack};
use crate::types::list::{End, remove_matches};
use std::ops::ControlFlow;

const EDIT: Command = Command {
    group: Group::List,
    complexity: "O(N) with N elements",
    flags: Flags::WRITE,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, DELETES)],
    ..Command::BASE
};

pub(super) static LINSERT: Command = Command {
    name: "linsert",
    since: "2.2.0",
    summary: "Puts an element before or after the first one that is the pivot.",
    arity: Arity::exactly(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[KeySpec::one(1, INSERTS)],
    args: &[
        Arg::key("key"),
        Arg::one_of("where", &[Arg::flag("before", "BEFORE"), Arg::flag("after", "AFTER")]),
        Arg::string("pivot"),
        Arg::string("element"),
    ],
    reply: Shape::Integer,
    example: "> RPUSH k a c\n(integer) 2\n> LINSERT k BEFORE c b\n(integer) 3",
    run: linsert,
    ..EDIT
};

fn linsert(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let is_after = args.option("AFTER");
    if !is_after && !args.option("BEFORE") {
        return Err(CommandError::Syntax);
    }
    let (pivot, value) = (args.bytes(), args.value());
    args.done()?;
    let limit = limit_of(cx);
    let Some(list) = list_to_change(cx, &key)? else {
        cx.reply.integer(0);
        return Ok(());
    };
    let (len, mut found) = (list.len(), None);
    let _ = list.walk(0..len, false, |index, value| {
        if !value.is(pivot) {
            return ControlFlow::Continue(());
        }
        found = Some(index + usize::from(is_after));
        ControlFlow::Break(())
    });
    cx.keys.edit(&key, |entry| {
        make_room(entry, &[value], limit);
        let Some(index) = found else { return };
        edit_either(
            entry,
            |bytes| {
                let list = Listpack::trusted(bytes);
                let at = list.seek(index as i64).unwrap_or(list.end());
                listpack::insert(bytes, at, value.0).expect(FITS);
            },
            |list| list.insert(index, value.0, value.1, limit),
        );
    });
    if found.is_none() {
        cx.reply.integer(-1);
        return Ok(());
    }
    changed(cx, &key, "linsert", 1, false);
    cx.reply.integer(len as i64 + 1);
    Ok(())
}

pub(super) static LSET: Command = Command {
    name: "lset",
    summary: "Overwrites the element at an index, which counts from the end if negative.",
    complexity: "O(log N) with N elements",
    arity: Arity::exactly(4),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), Arg::integer("index"), Arg::string("element")],
    reply: Shape::Ok,
    example: "> RPUSH k a b\n(integer) 2\n> LSET k -1 c\nOK\n> LINDEX k 1\n\"c\"",
    run: lset,
    ..EDIT
};

fn lset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let index = args.integer();
    let value = args.value();
    let limit = limit_of(cx);
    let list = list_to_change(cx, &key)?.ok_or(CommandError::NoSuchKey)?;
    args.done()?;
    let index = list.index(index);
    cx.keys.edit(&key, |entry| {
        make_room(entry, &[value], limit);
        let Some(index) = index else { return };
        edit_either(
            entry,
            |bytes| {
                let at = Listpack::trusted(bytes).seek(index as i64).expect("it is in the list");
                listpack::replace(bytes, at, value.0).expect(FITS);
            },
            |list| list.replace(index, value.0, value.1, limit),
        );
        shrink(entry, limit);
    });
    if index.is_none() {
        return Err(CommandError::IndexOutOfRange);
    }
    changed(cx, &key, "lset", 1, false);
    cx.reply.ok();
    Ok(())
}

pub(super) static LREM: Command = Command {
    name: "lrem",
    summary: "Removes elements that are a text: the first ones, the last ones, or all.",
    arity: Arity::exactly(4),
    args: &[Arg::key("key"), Arg::integer("count"), Arg::string("element")],
    reply: Shape::Integer,
    example: "> RPUSH k a b a\n(integer) 3\n> LREM k -1 a\n(integer) 1\n> LREM k 0 a\n(integer) 1",
    run: lrem,
    ..EDIT
};

fn lrem(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let out_of_range = CommandError::Fixed(
        "ERR value is out of range, value must between -9223372036854775807 and \
         9223372036854775807",
    );
    let count = args.integer_in(-i64::MAX..=i64::MAX, out_of_range);
    let text = args.bytes();
    args.done()?;
    let limit = limit_of(cx);
    let Some(list) = list_to_change(cx, &key)? else {
        cx.reply.integer(0);
        return Ok(());
    };
    let len = list.len();
    let from = if count < 0 { End::Right } else { End::Left };
    let max = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(max) => max,
    };
    let removed = cx.keys.edit(&key, |entry| {
        let removed = edit_either(
            entry,
            |bytes| match remove_matches(Listpack::trusted(bytes), text, max, from) {
                Some((rest, removed)) => {
                    *bytes = rest;
                    removed
                }
                None => 0,
            },
            |list| list.remove(text, max, from),
        );
        // A list that is used up goes as a whole: to pack it first would be in vain.
        if removed > 0 && removed < len {
            shrink(entry, limit);
        }
        removed
    });
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        let is_gone = removed == len && cx.keys.delete(&key);
        changed(cx, &key, "lrem", removed, is_gone);
    }
    cx.reply.integer(removed as i64);
    Ok(())
}

pub(super) static LTRIM: Command = Command {
    name: "ltrim",
    summary: "Keeps the elements between two indexes, both included, and removes the others.",
    complexity: "O(N) with N elements removed",
    arity: Arity::exactly(4),
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
    reply: Shape::Ok,
    example: "> RPUSH k a b c\n(integer) 3\n> LTRIM k 1 -1\nOK\n> LLEN k\n(integer) 2",
    run: ltrim,
    ..EDIT
};

fn ltrim(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (start, stop) = (args.integer(), args.integer());
    args.done()?;
    if let Some(list) = list_to_change(cx, &key)? {
        let (len, kept) = (list.len(), list.range(start, stop));
        let is_gone = delete_ranges(cx, &key, len, &[kept.end..len, 0..kept.start]);
        changed(cx, &key, "ltrim", len - kept.len(), is_gone);
    }
    cx.reply.ok();
    Ok(())
}
