//! Commands that read lists: LINDEX, LLEN, LPOS, LRANGE.

use super::{READS, list_of, write_range, write_value};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::is_long;
use crate::types::list::ListRef;
use std::ops::ControlFlow;

pub(super) static LLEN: Command = Command {
    name: "llen",
    group: Group::List,
    summary: "Returns the length of a list.",
    arity: Arity::exactly(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    args: &[Arg::key("key")],
    reply: Shape::Integer,
    example: "> LLEN k\n(integer) 0\n> RPUSH k a b\n(integer) 2\n> LLEN k\n(integer) 2",
    run: llen,
    ..Command::BASE
};

fn llen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let len = cx.keys.read(&key).map(list_of).transpose()?.map_or(0, ListRef::len);
    cx.reply.integer(len as i64);
    Ok(())
}

pub(super) static LINDEX: Command = Command {
    name: "lindex",
    group: Group::List,
    summary: "Returns the element at an index, which counts from the end if negative.",
    complexity: "O(log N) with N elements",
    arity: Arity::exactly(3),
    flags: Flags::READONLY,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("index")],
    reply: Shape::BulkOrNull,
    example: "> RPUSH k a b\n(integer) 2\n> LINDEX k -1\n\"b\"\n> LINDEX k 2\n(nil)",
    run: lindex,
    ..Command::BASE
};

fn lindex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let index = args.integer();
    let Cx { keys, reply, .. } = cx;
    let Some(entry) = keys.read(&key) else {
        reply.null();
        return Ok(());
    };
    let list = list_of(entry)?;
    args.done()?;
    match list.index(index).and_then(|index| list.get(index)) {
        Some(value) => write_value(reply, value),
        None => reply.null(),
    }
    Ok(())
}

pub(super) static LPOS: Command = Command {
    name: "lpos",
    since: "6.0.6",
    group: Group::List,
    summary: "Returns the indexes of elements that are equal to one.",
    complexity: "O(N) with N elements looked at",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, READS)],
    args: &[
        Arg::key("key"),
        Arg::string("element"),
        Arg::integer("rank").token("RANK").optional(),
        Arg::integer("num-matches").token("COUNT").optional(),
        Arg::integer("len").token("MAXLEN").optional(),
    ],
    example: "> RPUSH k a b a\n(integer) 3\n> LPOS k a\n(integer) 0\n> LPOS k a COUNT 0\n\
              1) (integer) 0\n2) (integer) 2",
    run: lpos,
    ..Command::BASE
};

/// Which matches LPOS is asked for.
struct Sought {
    /// The first match that counts, 1 being the first of all; negative ones count from the end.
    rank: i64,
    /// How many matches are wanted at most, 0 for all; none for one that is not in an array.
    count: Option<u64>,
    /// How many elements are looked at, 0 for all.
    looked_at_max: u64,
}

fn lpos(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let element = args.bytes();
    let sought = Sought::read(args)?;
    let Cx { keys, reply, .. } = cx;
    let found = match keys.read(&key) {
        Some(entry) => sought.find(list_of(entry)?, element),
        None => Vec::new(),
    };
    if sought.count.is_some() {
        reply.array(found.len());
    } else if found.is_empty() {
        reply.null();
    }
    for index in found {
        reply.integer(index as i64);
    }
    Ok(())
}

impl Sought {
    fn read(args: &mut Args<'_>) -> Result<Sought, CommandError> {
        let mut sought = Sought { rank: 1, count: None, looked_at_max: 0 };
        while !args.is_empty() {
            if args.option_with_value("RANK") {
                sought.rank = args.integer();
                args.check()?;
                sought.check_rank()?;
            } else if args.option_with_value("COUNT") {
                sought.count = Some(not_negative(args, "ERR COUNT can't be negative")?);
            } else if args.option_with_value("MAXLEN") {
                sought.looked_at_max = not_negative(args, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(sought)
    }

    fn check_rank(&self) -> CommandResult {
        match self.rank {
            0 => Err(CommandError::Fixed(
                "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second \
                 ... or use negative to start from the end of the list",
            )),
            i64::MIN => Err(CommandError::Fixed(
                "ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807",
            )),
            _ => Ok(()),
        }
    }

    fn find(&self, list: ListRef<'_>, element: &[u8]) -> Vec<usize> {
        let all_if_zero = |max: u64| if max == 0 { u64::MAX } else { max };
        let wanted = all_if_zero(self.count.unwrap_or(1));
        let mut to_skip = self.rank.unsigned_abs() - 1;
        let mut to_look_at = all_if_zero(self.looked_at_max);
        let mut found = Vec::new();
        let _ = list.walk(0..list.len(), self.rank < 0, |index, value| {
            if to_look_at == 0 || found.len() as u64 == wanted {
                return ControlFlow::Break(());
            }
            to_look_at -= 1;
            if value.is(element) {
                if to_skip == 0 {
                    found.push(index);
                } else {
                    to_skip -= 1;
                }
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// The next argument as a number that is not negative.
fn not_negative(args: &mut Args<'_>, text: &'static str) -> Result<u64, CommandError> {
    let number = args.integer_or(CommandError::Fixed(text));
    args.check()?;
    u64::try_from(number).map_err(|_| CommandError::Fixed(text))
}

pub(super) static LRANGE: Command = Command {
    name: "lrange",
    group: Group::List,
    summary: "Returns the elements between two indexes, both included.",
    complexity: "O(log N + M) with N elements, M of them answered",
    arity: Arity::exactly(4),
    flags: Flags::READONLY,
    acl: Categories::LIST,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
    reply: Shape::Array,
    example: "> RPUSH k a b c\n(integer) 3\n> LRANGE k -2 -1\n1) \"b\"\n2) \"c\"",
    run: lrange,
    ..Command::BASE
};

fn lrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (start, stop) = (args.integer(), args.integer());
    args.done()?;
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let list = list_of(entry)?;
    let range = list.range(start, stop);
    if let ListRef::Tree(list) = list
        && is_long(range.len(), list.len(), list.memory_bytes())
    {
        let list = list.clone();
        return cx.answer_by(move |reply| {
            write_range(reply, ListRef::Tree(&list), range, false);
            Ok(())
        });
    }
    write_range(&mut cx.reply, list, range, false);
    Ok(())
}
