//! BITOP: strings combined bit by bit into another.

use super::READS;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Expiry, Key, NewValue};
use crate::structs::SharedBytes;
use crate::types::Encoding;
use crate::types::bitmap::combine::Operation;

const OPERATIONS: &[Arg] = &[
    Arg::flag("and", "AND"),
    Arg::flag("or", "OR"),
    Arg::flag("xor", "XOR"),
    Arg::flag("not", "NOT"),
    Arg::flag("diff", "DIFF").since("8.2.0"),
    Arg::flag("diff1", "DIFF1").since("8.2.0"),
    Arg::flag("andor", "ANDOR").since("8.2.0"),
    Arg::flag("one", "ONE").since("8.2.0"),
];

pub(super) static BITOP: Command = Command {
    name: "bitop",
    since: "2.6.0",
    group: Group::Bitmap,
    summary: "Combines strings bit by bit and stores the result.",
    complexity: "O(N) with N bytes in all strings together",
    arity: Arity::at_least(4),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::BITMAP,
    history: &[("8.2.0", "Took the operations `DIFF`, `DIFF1`, `ANDOR` and `ONE`.")],
    keys: &[KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE)), KeySpec::range(3, -1, 1, READS)],
    args: &[
        Arg::one_of("operation", OPERATIONS),
        Arg::key("destkey"),
        Arg::key("key").key_spec(1).multiple(),
    ],
    reply: Shape::Integer,
    example: "> SET a abc\nOK\n> SET b aB\nOK\n> BITOP AND both a b\n(integer) 3\n> GET both\n\
              \"aB\\x00\"",
    run: bitop,
    ..Command::BASE
};

fn bitop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let word = args.bytes();
    let named = Operation::ALL.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    let (name, operation) = *named.ok_or(CommandError::Syntax)?;
    let target = args.key();
    check_source_count(name, operation, args.remaining())?;
    let keys: Vec<Key<'_>> = (0..args.remaining()).map(|_| args.key()).collect();
    args.done()?;
    let sources: Vec<&[u8]> = keys
        .iter()
        .map(|key| Ok(cx.keys.string(key)?.unwrap_or(b"")))
        .collect::<Result<_, CommandError>>()?;
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    CommandError::unless_memory(len)?;
    let result = operation.combine(&sources);
    let len = result.len();
    if len > 0 {
        let value = NewValue::Shared(SharedBytes::new(result));
        cx.keys.set_string(&target, value, Encoding::Raw, Expiry::Never);
        cx.keys.changed(&target, EventClasses::STRING, "set");
    } else if cx.keys.delete(&target) {
        cx.keys.changed(&target, EventClasses::GENERIC, "del");
    }
    cx.reply.integer(len as i64);
    Ok(())
}

fn check_source_count(name: &str, operation: Operation, count: usize) -> CommandResult {
    match operation {
        Operation::Not if count != 1 => {
            Err(CommandError::Fixed("ERR BITOP NOT must be called with a single source key."))
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr if count < 2 => {
            Err(CommandError::err(format_args!(
                "BITOP {name} must be called with at least two source keys."
            )))
        }
        _ => Ok(()),
    }
}
