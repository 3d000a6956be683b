//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a string.
//!
//! All operations are read and checked before the first is done, so that a request with a fault
//! changes nothing; then the string grows once, to the last bit that any of them writes.

use super::{OffsetLimit, READS, UPDATES, edit_grown};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, FoundKeys, Group,
    KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::resp::Request;
use crate::structs::number::parse_i64;
use crate::types::bitmap::field::{FieldType, Overflow};

const GET_ARGS: &[Arg] = &[Arg::string("encoding"), Arg::integer("offset")];
const OVERFLOWS: &[Arg] =
    &[Arg::flag("wrap", "WRAP"), Arg::flag("sat", "SAT"), Arg::flag("fail", "FAIL")];
const WRITE_ARGS: &[Arg] = &[
    Arg::one_of("overflow-block", OVERFLOWS).token("OVERFLOW").optional(),
    Arg::one_of(
        "write-operation",
        &[
            Arg::block(
                "set-block",
                &[Arg::string("encoding"), Arg::integer("offset"), Arg::integer("value")],
            )
            .token("SET"),
            Arg::block(
                "incrby-block",
                &[Arg::string("encoding"), Arg::integer("offset"), Arg::integer("increment")],
            )
            .token("INCRBY"),
        ],
    ),
];

pub(super) static BITFIELD: Command = Command {
    name: "bitfield",
    since: "3.2.0",
    group: Group::Bitmap,
    summary: "Reads, sets and increments integers of any width at any bit of a string.",
    complexity: "O(1) for each operation",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::BITMAP,
    keys: &[KeySpec::one(1, UPDATES.or(KeyFlags::VARIABLE_FLAGS))
        .notes("This command allows both access and modification of the key")],
    key_finder: Some(bitfield_keys),
    args: &[
        Arg::key("key"),
        Arg::one_of(
            "operation",
            &[Arg::block("get-block", GET_ARGS).token("GET"), Arg::block("write", WRITE_ARGS)],
        )
        .optional()
        .multiple(),
    ],
    reply: Shape::Array,
    example: "> BITFIELD k SET u8 0 255 INCRBY u8 0 1 GET u8 0\n1) (integer) 0\n2) (integer) 0\n\
              3) (integer) 0\n> BITFIELD k OVERFLOW SAT INCRBY i5 #1 99\n1) (integer) 15",
    run: bitfield,
    ..Command::BASE
};

/// A request that only gets reads its key.
fn bitfield_keys(request: &Request<'_>) -> Option<FoundKeys> {
    let mut at = 2;
    let mut reads = true;
    while at < request.len() {
        let left = request.len() - at - 1;
        let is_word = |word: &[u8]| request.arg(at).eq_ignore_ascii_case(word);
        at += match () {
            () if is_word(b"get") && left >= 2 => 3,
            () if is_word(b"overflow") && left >= 1 => 2,
            () => {
                reads = false;
                break;
            }
        };
    }
    Some(FoundKeys::one(1, if reads { READS } else { UPDATES }))
}

fn bitfield(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    run_operations(cx, args, Writing::Allowed)
}

pub(super) static BITFIELD_RO: Command = Command {
    name: "bitfield_ro",
    since: "6.0.0",
    group: Group::Bitmap,
    summary: "Reads integers of any width at any bit of a string.",
    complexity: "O(1) for each operation",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::BITMAP,
    keys: &[KeySpec::one(1, READS)],
    args: &[
        Arg::key("key"),
        Arg::block("get-block", GET_ARGS).token("GET").optional().multiple_token(),
    ],
    reply: Shape::Array,
    example: "> SET k abc\nOK\n> BITFIELD_RO k GET u8 0 GET i4 #3\n1) (integer) 97\n\
              2) (integer) 2",
    run: bitfield_ro,
    ..Command::BASE
};

fn bitfield_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    run_operations(cx, args, Writing::Refused)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Allowed,
    Refused,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Increment(i64, Overflow),
}

#[derive(Clone, Copy)]
struct FieldOperation {
    field: FieldType,
    at: u64,
    action: Action,
}

fn run_operations(cx: &mut Cx<'_>, args: &mut Args<'_>, writing: Writing) -> CommandResult {
    let key = args.key();
    let limit = OffsetLimit::of(cx);
    let operations = parse(args, limit)?;
    args.done()?;
    let is_write = |operation: &&FieldOperation| !matches!(operation.action, Action::Get);
    let end = |operation: &FieldOperation| operation.at + u64::from(operation.field.bits());
    let Some(end) = operations.iter().filter(is_write).map(end).max() else {
        let bytes = cx.keys.string(&key)?.unwrap_or(b"");
        cx.reply.array(operations.len());
        for operation in &operations {
            cx.reply.integer(operation.field.read(bytes, operation.at));
        }
        return Ok(());
    };
    if writing == Writing::Refused {
        return Err(CommandError::Fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let len = end.div_ceil(8) as usize;
    let (answers, changes) = edit_grown(cx, &key, len, |entry, grew| {
        // A string that grew was changed, even if no operation wrote to it.
        let mut changes = u64::from(grew);
        let answer = |operation: &FieldOperation| operation.perform(entry, grew, &mut changes);
        let answers: Vec<Option<i64>> = operations.iter().map(answer).collect();
        (answers, changes)
    })?;
    if changes > 0 {
        cx.keys.changed(&key, EventClasses::STRING, "setbit");
        cx.keys.space().changes.dirty += changes - 1;
    }
    cx.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(value) => cx.reply.integer(value),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

impl FieldOperation {
    /// Does it to a string that reaches as far, and yields the answer.
    fn perform(&self, entry: &mut Entry, grew: bool, changes: &mut u64) -> Option<i64> {
        let bytes = entry.string().expect("the entry is a string");
        let old = self.field.read(bytes, self.at);
        let (new, answer) = match self.action {
            Action::Get => return Some(old),
            Action::Set(value, overflow) => (self.field.fit(value, overflow)?, old),
            Action::Increment(by, overflow) => {
                let sum = self.field.add(old, by, overflow)?;
                (sum, sum)
            }
        };
        if new != old {
            let bytes = entry.string_mut().expect("the entry is a string");
            self.field.write(bytes, self.at, new);
            *changes += u64::from(!grew);
        }
        Some(answer)
    }
}

fn parse(args: &mut Args<'_>, limit: OffsetLimit) -> Result<Vec<FieldOperation>, CommandError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let Some(word) = args.peek() {
        let follow = args.remaining() - 1;
        let is_word = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is_word(b"OVERFLOW") && follow >= 1 {
            args.bytes();
            overflow = parse_overflow(args)?;
            continue;
        }
        let needed = if is_word(b"GET") { 2 } else { 3 };
        let is_known = is_word(b"GET") || is_word(b"SET") || is_word(b"INCRBY");
        if !is_known || follow < needed {
            return Err(CommandError::Syntax);
        }
        args.bytes();
        let field = parse_type(args.bytes())?;
        let at = limit.offset(args, Some(field.bits()));
        args.check()?;
        let action = if is_word(b"GET") {
            Action::Get
        } else {
            let value = args.integer();
            args.check()?;
            limit.check(at, field.bits())?;
            let is_set = is_word(b"SET");
            if is_set { Action::Set(value, overflow) } else { Action::Increment(value, overflow) }
        };
        operations.push(FieldOperation { field, at, action });
    }
    Ok(operations)
}

fn parse_overflow(args: &mut Args<'_>) -> Result<Overflow, CommandError> {
    match () {
        () if args.option("WRAP") => Ok(Overflow::Wrap),
        () if args.option("SAT") => Ok(Overflow::Saturate),
        () if args.option("FAIL") => Ok(Overflow::Fail),
        () => Err(CommandError::Fixed("ERR Invalid OVERFLOW type specified")),
    }
}

fn parse_type(word: &[u8]) -> Result<FieldType, CommandError> {
    let parsed = match word.split_first() {
        Some((b'i', bits)) => parse_i64(bits).and_then(|bits| FieldType::new(true, bits)),
        Some((b'u', bits)) => parse_i64(bits).and_then(|bits| FieldType::new(false, bits)),
        _ => None,
    };
    parsed.ok_or(CommandError::Fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. \
         Note that u64 is not supported but i64 is.",
    ))
}
