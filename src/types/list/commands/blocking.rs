//! The list commands that wait for an element: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP.
//!
//! Each takes what is there as its sibling without B does, and waits only for what is not. In the
//! write stream they stand as that sibling, so that whoever replays the stream never waits.

use super::moves::{ENDS, MANY_POP_ARGS, MOVE, TAKES, end, move_element, pop_many};
use super::{changed, delete_ranges, list_of, list_to_change, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags, Group,
    KeySpec, ManyPop,
};
use crate::engine::Cx;
use crate::engine::blocking::{keys_before_last, timeout_ms};
use crate::keyspace::Key;
use crate::types::Kind;
use crate::types::list::End;

const FRACTIONS: &[(&str, &str)] = &[("6.0.0", "Took fractions of a second.")];

const POP: Command = Command {
    group: Group::List,
    since: "2.0.0",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::BLOCKING),
    acl: Categories::LIST,
    history: FRACTIONS,
    keys: &[KeySpec::range(1, -2, 1, TAKES)],
    args: &[Arg::key("key").multiple(), Arg::double("timeout")],
    ..Command::BASE
};

pub(super) static BLPOP: Command = Command {
    name: "blpop",
    summary: "Takes the first element of the first list that has any, or waits for one.",
    example: "> RPUSH b 1 2\n(integer) 2\n> BLPOP a b 0\n1) \"b\"\n2) \"1\"",
    run: |cx, args| pop(cx, args, End::Left),
    ..POP
};

pub(super) static BRPOP: Command = Command {
    name: "brpop",
    summary: "Takes the last element of the first list that has any, or waits for one.",
    example: "> RPUSH b 1 2\n(integer) 2\n> BRPOP a b 0\n1) \"b\"\n2) \"2\"",
    run: |cx, args| pop(cx, args, End::Right),
    ..POP
};

fn pop(cx: &mut Cx<'_>, args: &mut Args<'_>, end: End) -> CommandResult {
    let keys = keys_before_last(args);
    let timeout_ms = timeout_ms(cx, args);
    args.done()?;
    for key in &keys {
        if pop_one(cx, key, end)? {
            return Ok(());
        }
    }
    cx.wait_for(args, &keys, Kind::List, timeout_ms);
    Ok(())
}

/// Takes an element and answers with the key and it; false if there is none.
fn pop_one(cx: &mut Cx<'_>, key: &Key<'_>, end: End) -> Result<bool, CommandError> {
    let Some(len) = list_to_change(cx, key)?.map(|list| list.len()) else { return Ok(false) };
    let index = if end == End::Left { 0 } else { len - 1 };
    let Cx { keys, reply, .. } = &mut *cx;
    let list = list_of(keys.peek(key).expect("found above"))?;
    reply.array(2);
    reply.bulk(key.bytes);
    write_value(reply, list.get(index).expect("a list is never empty"));
    let is_gone = delete_ranges(cx, key, len, std::slice::from_ref(&(index..index + 1)));
    changed(cx, key, end.popped(), 1, is_gone);
    cx.propagate_as(&[end.popped().as_bytes(), key.bytes]);
    Ok(true)
}

pub(super) static BLMOVE: Command = Command {
    name: "blmove",
    since: "6.2.0",
    summary: "Moves an element between ends of two lists, or waits for one.",
    arity: Arity::exactly(6),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::BLOCKING),
    args: &[
        Arg::key("source"),
        Arg::key("destination").key_spec(1),
        Arg::one_of("wherefrom", ENDS),
        Arg::one_of("whereto", ENDS),
        Arg::double("timeout"),
    ],
    example: "> RPUSH a 1 2\n(integer) 2\n> BLMOVE a b RIGHT LEFT 0\n\"2\"",
    run: blmove,
    ..MOVE
};

fn blmove(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (source, destination) = (args.key(), args.key());
    let ends = (end(args)?, end(args)?);
    move_or_wait(cx, args, &source, &destination, ends)
}

pub(super) static BRPOPLPUSH: Command = Command {
    name: "brpoplpush",
    since: "2.2.0",
    summary: "Moves the last element of a list to the start of another, or waits for one.",
    arity: Arity::exactly(4),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::BLOCKING),
    history: FRACTIONS,
    deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "BLMOVE with RIGHT and LEFT" }),
    args: &[Arg::key("source"), Arg::key("destination").key_spec(1), Arg::double("timeout")],
    example: "> RPUSH a 1 2\n(integer) 2\n> BRPOPLPUSH a b 0\n\"2\"",
    run: brpoplpush,
    ..MOVE
};

fn brpoplpush(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (source, destination) = (args.key(), args.key());
    move_or_wait(cx, args, &source, &destination, (End::Right, End::Left))
}

fn move_or_wait(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    source: &Key<'_>,
    destination: &Key<'_>,
    ends: (End, End),
) -> CommandResult {
    let timeout_ms = timeout_ms(cx, args);
    args.done()?;
    if move_element(cx, source, destination, ends)? {
        if cx.is_propagating() {
            let request = args.request();
            let words: Vec<&[u8]> = request.iter().skip(1).take(request.len() - 2).collect();
            let verb: &[u8] = if words.len() == 2 { b"rpoplpush" } else { b"lmove" };
            cx.propagate_as(&[&[verb], &words[..]].concat());
        }
    } else if !cx.caller.may_answer_late() {
        cx.reply.null();
    } else {
        cx.wait_for(args, &[*source], Kind::List, timeout_ms);
    }
    Ok(())
}

pub(super) static BLMPOP: Command = Command {
    name: "blmpop",
    since: "7.0.0",
    summary: "Takes elements from an end of the first list that has any, or waits for one.",
    complexity: "O(N+M) with N keys and M elements taken",
    arity: Arity::at_least(5),
    history: &[],
    keys: &[KeySpec::counted(2, TAKES)],
    args: BLMPOP_ARGS,
    example: "> RPUSH b 1 2\n(integer) 2\n> BLMPOP 0 2 a b LEFT\n1) \"b\"\n2) 1) \"1\"",
    run: blmpop,
    ..POP
};

const BLMPOP_ARGS: &[Arg] = &[
    Arg::double("timeout"),
    MANY_POP_ARGS[0],
    MANY_POP_ARGS[1],
    MANY_POP_ARGS[2],
    MANY_POP_ARGS[3],
];

fn blmpop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    // What is asked for is judged before the timeout, which stands before it.
    let mut ahead = args.clone();
    ahead.bytes();
    let pop = ManyPop::read(&mut ahead, end)?;
    let timeout_ms = timeout_ms(cx, args);
    args.check()?;
    if pop_many(cx, &pop)? {
        return Ok(());
    }
    cx.wait_for(args, &pop.keys, Kind::List, timeout_ms);
    Ok(())
}
