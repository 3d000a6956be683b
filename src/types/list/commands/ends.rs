//! Pushing to and popping from the ends: LPUSH, RPUSH, LPUSHX, RPUSHX, LPOP, RPOP.

use super::{
    INSERTS, ValueArg, changed, delete_range, limit_of, list_of, push_to_existing, push_to_new,
    shrink, write_range, write_value,
};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::types::WrongType;
use crate::types::list::End;
use smallvec::SmallVec;

const PUSH: Command = Command {
    group: Group::List,
    complexity: "O(N) with N elements pushed",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, INSERTS)],
    args: &[Arg::key("key"), Arg::string("element").multiple()],
    reply: Shape::Integer,
    ..Command::BASE
};

const POP: Command = Command {
    group: Group::List,
    complexity: "O(N) with N elements popped",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::LIST,
    history: &[("6.2.0", "Took a count.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::integer("count").optional().since("6.2.0")],
    ..Command::BASE
};

pub(super) static LPUSH: Command = Command {
    name: "lpush",
    summary: "Puts elements before the first one, one after the other.",
    history: &[("2.4.0", "Took several elements.")],
    example: "> LPUSH k a b\n(integer) 2\n> LRANGE k 0 -1\n1) \"b\"\n2) \"a\"",
    run: |cx, args| push(cx, args, End::Left, false),
    ..PUSH
};

pub(super) static RPUSH: Command = Command {
    name: "rpush",
    summary: "Puts elements after the last one.",
    history: &[("2.4.0", "Took several elements.")],
    example: "> RPUSH k a b\n(integer) 2\n> LRANGE k 0 -1\n1) \"a\"\n2) \"b\"",
    run: |cx, args| push(cx, args, End::Right, false),
    ..PUSH
};

pub(super) static LPUSHX: Command = Command {
    name: "lpushx",
    since: "2.2.0",
    summary: "Puts elements before the first one if there is a list.",
    history: &[("4.0.0", "Took several elements.")],
    example: "> LPUSHX k a\n(integer) 0\n> RPUSH k a\n(integer) 1\n> LPUSHX k b\n(integer) 2",
    run: |cx, args| push(cx, args, End::Left, true),
    ..PUSH
};

pub(super) static RPUSHX: Command = Command {
    name: "rpushx",
    since: "2.2.0",
    summary: "Puts elements after the last one if there is a list.",
    history: &[("4.0.0", "Took several elements.")],
    example: "> RPUSHX k a\n(integer) 0\n> RPUSH k a\n(integer) 1\n> RPUSHX k b\n(integer) 2",
    run: |cx, args| push(cx, args, End::Right, true),
    ..PUSH
};

fn push(cx: &mut Cx<'_>, args: &mut Args<'_>, end: End, must_exist: bool) -> CommandResult {
    let key = args.key();
    // All at once: whether they fit the packed form is decided once, by all of them.
    let mut values = SmallVec::<[ValueArg<'_>; 4]>::new();
    while !args.is_empty() {
        values.push(args.value());
    }
    args.done()?;
    let len = match push_to_existing(cx, &key, end, &values)? {
        Some(len) => len,
        None if must_exist => {
            cx.reply.integer(0);
            return Ok(());
        }
        None => push_to_new(cx, &key, end, &values),
    };
    changed(cx, &key, end.pushed(), values.len(), false);
    cx.reply.integer(len as i64);
    Ok(())
}

pub(super) static LPOP: Command = Command {
    name: "lpop",
    summary: "Takes elements from the start.",
    example: "> RPUSH k a b c\n(integer) 3\n> LPOP k\n\"a\"\n> LPOP k 2\n1) \"b\"\n2) \"c\"",
    run: |cx, args| pop(cx, args, End::Left),
    ..POP
};

pub(super) static RPOP: Command = Command {
    name: "rpop",
    summary: "Takes elements from the end.",
    example: "> RPUSH k a b c\n(integer) 3\n> RPOP k\n\"c\"\n> RPOP k 2\n1) \"b\"\n2) \"a\"",
    run: |cx, args| pop(cx, args, End::Right),
    ..POP
};

fn pop(cx: &mut Cx<'_>, args: &mut Args<'_>, end: End) -> CommandResult {
    let (name, is_left) = (end.popped(), end == End::Left);
    let key = args.key();
    if args.remaining() > 1 {
        return Err(CommandError::WrongArity(name));
    }
    let count = (!args.is_empty()).then(|| args.integer_or(CommandError::MustBePositive));
    args.done()?;
    let count = count.map(u64::try_from).transpose().map_err(|_| CommandError::MustBePositive)?;
    let limit = limit_of(cx);
    let Cx { keys, reply, .. } = &mut *cx;
    let popped = keys.edit(&key, |entry| {
        let list = list_of(entry)?;
        let len = list.len();
        let taken = len.min(usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX));
        let range = if is_left { 0..taken } else { len - taken..len };
        match count {
            Some(_) => write_range(reply, list, range.clone(), !is_left),
            None => write_value(reply, list.get(range.start).expect("a list is never empty")),
        }
        // A list that is used up goes as a whole, below.
        if taken < len {
            delete_range(entry, range);
            shrink(entry, limit);
        }
        Ok::<_, WrongType>((taken, taken == len))
    });
    let Some(popped) = popped else {
        if count.is_some() {
            reply.null_array()
        } else {
            reply.null()
        }
        return Ok(());
    };
    let (taken, is_gone) = popped?;
    if is_gone {
        keys.delete(&key);
    }
    if taken > 0 {
        changed(cx, &key, name, taken, is_gone);
    }
    Ok(())
}
