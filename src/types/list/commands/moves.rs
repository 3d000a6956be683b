//! Moving elements between lists, and taking them from the first list that has any: LMOVE,
//! RPOPLPUSH, LMPOP.
//!
//! The blocking commands ([`super::blocking`]) do the same work through the functions here when
//! there is something to take.

use super::{
    INSERTS, ValueArg, changed, delete_ranges, limit_of, list_of, list_to_change, push_all,
    push_to, write_range, write_value,
};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags, Group,
    KeyFlags, KeySpec, ManyPop, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::structs::SharedBytes;
use crate::types::list::{End, Value};

pub(super) const TAKES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

pub(super) const ENDS: &[Arg] = &[Arg::flag("left", "LEFT"), Arg::flag("right", "RIGHT")];

pub(super) const MOVE: Command = Command {
    group: Group::List,
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, TAKES), KeySpec::one(2, INSERTS)],
    reply: Shape::BulkOrNull,
    ..Command::BASE
};

pub(super) static LMOVE: Command = Command {
    name: "lmove",
    since: "6.2.0",
    summary: "Moves an element from an end of one list to an end of another.",
    arity: Arity::exactly(5),
    args: &[
        Arg::key("source"),
        Arg::key("destination").key_spec(1),
        Arg::one_of("wherefrom", ENDS),
        Arg::one_of("whereto", ENDS),
    ],
    example: "> RPUSH a 1 2\n(integer) 2\n> LMOVE a b RIGHT LEFT\n\"2\"\n> LRANGE b 0 -1\n1) \"2\"",
    run: lmove,
    ..MOVE
};

fn lmove(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (source, destination) = (args.key(), args.key());
    let ends = (end(args)?, end(args)?);
    args.done()?;
    move_or_null(cx, &source, &destination, ends)
}

pub(super) static RPOPLPUSH: Command = Command {
    name: "rpoplpush",
    since: "1.2.0",
    summary: "Moves the last element of a list to the start of another.",
    arity: Arity::exactly(3),
    deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "LMOVE with RIGHT and LEFT" }),
    args: &[Arg::key("source"), Arg::key("destination").key_spec(1)],
    example: "> RPUSH a 1 2\n(integer) 2\n> RPOPLPUSH a b\n\"2\"",
    run: rpoplpush,
    ..MOVE
};

fn rpoplpush(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (source, destination) = (args.key(), args.key());
    args.done()?;
    move_or_null(cx, &source, &destination, (End::Right, End::Left))
}

/// The next argument as an end of a list.
pub(super) fn end(args: &mut Args<'_>) -> Result<End, CommandError> {
    if args.option("LEFT") {
        Ok(End::Left)
    } else if args.option("RIGHT") {
        Ok(End::Right)
    } else {
        Err(CommandError::Syntax)
    }
}

fn move_or_null(
    cx: &mut Cx<'_>,
    source: &Key<'_>,
    destination: &Key<'_>,
    ends: (End, End),
) -> CommandResult {
    if !move_element(cx, source, destination, ends)? {
        cx.reply.null();
    }
    Ok(())
}

/// Moves an element and answers with it; false if the source has none.
pub(super) fn move_element(
    cx: &mut Cx<'_>,
    source: &Key<'_>,
    destination: &Key<'_>,
    (from, to): (End, End),
) -> Result<bool, CommandError> {
    let Cx { keys, reply, .. } = &mut *cx;
    let Some(entry) = keys.peek(source) else { return Ok(false) };
    let list = list_of(entry)?;
    let len = list.len();
    // Both keys are looked at before anything is taken out, so that an error changes nothing.
    if let Some(other) = keys.peek(destination) {
        list_of(other)?;
    }
    let index = if from == End::Left { 0 } else { len - 1 };
    let value = list.get(index).expect("a list is never empty");
    write_value(reply, value);
    let (text, shared) = owned(value);
    let value: &[ValueArg<'_>] = &[(&text, shared.as_ref())];

    let is_rotation = source.bytes == destination.bytes;
    let mut is_gone = false;
    // In place: a list of one element must not be gone in between, and its expiry with it.
    if is_rotation {
        let limit = limit_of(cx);
        cx.keys.edit(source, |entry| {
            super::delete_range(entry, index..index + 1);
            push_all(entry, to, value, limit);
        });
    } else {
        push_to(cx, destination, to, value)?;
    }
    // ORDER: the push is told before the pop, as Redis tells them.
    cx.keys.touch(destination);
    cx.keys.event(destination, EventClasses::LIST, to.pushed());
    if !is_rotation {
        is_gone = delete_ranges(cx, source, len, std::slice::from_ref(&(index..index + 1)));
    }
    changed(cx, source, from.popped(), 1, is_gone);
    Ok(true)
}

/// A copy of an element; a long one shares its buffer instead.
fn owned(value: Value<'_>) -> (Vec<u8>, Option<SharedBytes>) {
    match value {
        Value::Plain(bytes) => (bytes.to_vec(), Some(bytes.clone())),
        Value::Packed(element) => (element.to_vec(), None),
    }
}

pub(super) static LMPOP: Command = Command {
    name: "lmpop",
    since: "7.0.0",
    group: Group::List,
    summary: "Takes elements from an end of the first list that has any.",
    complexity: "O(N+M) with N keys and M elements taken",
    arity: Arity::at_least(4),
    flags: Flags::WRITE,
    acl: Categories::LIST,
    keys: &[KeySpec::counted(1, TAKES)],
    args: MANY_POP_ARGS,
    example: "> RPUSH b 1 2 3\n(integer) 3\n> LMPOP 2 a b RIGHT COUNT 2\n\
              1) \"b\"\n2) 1) \"3\"\n   2) \"2\"",
    run: lmpop,
    ..Command::BASE
};

pub(super) const MANY_POP_ARGS: &[Arg] = &[
    Arg::integer("numkeys"),
    Arg::key("key").multiple(),
    Arg::one_of("where", ENDS),
    Arg::integer("count").token("COUNT").optional(),
];

fn lmpop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let pop = ManyPop::read(args, end)?;
    if !pop_many(cx, &pop)? {
        cx.reply.null_array();
    }
    Ok(())
}

/// Takes from the first list that has any and answers with it; false if none has.
pub(super) fn pop_many(cx: &mut Cx<'_>, pop: &ManyPop<'_, End>) -> Result<bool, CommandError> {
    for key in &pop.keys {
        let Some(len) = list_to_change(cx, key)?.map(|list| list.len()) else { continue };
        let taken = pop.count.min(len);
        let is_left = pop.end == End::Left;
        let range = if is_left { 0..taken } else { len - taken..len };
        let Cx { keys, reply, .. } = &mut *cx;
        reply.array(2);
        reply.bulk(key.bytes);
        let list = list_of(keys.peek(key).expect("found above"))?;
        write_range(reply, list, range.clone(), !is_left);
        let is_gone = delete_ranges(cx, key, len, &[range]);
        changed(cx, key, pop.end.popped(), taken, is_gone);
        // Told as what it came to, with one key: where it is replayed nobody looks for the
        // first list that has any, and nobody waits.
        if cx.is_propagating() {
            let taken = taken.to_string();
            cx.propagate_as(&[pop.end.popped().as_bytes(), key.bytes, taken.as_bytes()]);
        }
        return Ok(true);
    }
    Ok(false)
}
