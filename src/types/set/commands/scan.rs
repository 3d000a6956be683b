//! SSCAN: the members of a set piece by piece.
//!
//! A table goes by hash order, so the cursor survives growing and shrinking: what is there from the
//! first call to the last is returned exactly once. A packed set is returned whole by the first
//! call, whatever the cursor, since it is small.

use super::set_of;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::parse_scan_cursor;
use crate::resp::ReplyBuf;
use crate::structs::glob::{self, Case};
use crate::structs::number::I64Buf;
use crate::types::set::value::SetRef;

const COUNT_DEFAULT: usize = 10;

pub(super) static SSCAN: Command = Command {
    name: "sscan",
    since: "2.8.0",
    group: Group::Set,
    summary: "Lists the members of a set piece by piece: each call returns the next cursor.",
    complexity: "O(1) for a call, O(N) for a whole walk over N members",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[
        Arg::key("key"),
        Arg::integer("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
    ],
    reply: Shape::Array,
    example: "> SADD s 1 2\n(integer) 2\n> SSCAN s 0\n1) \"0\"\n2) 1) \"1\"\n   2) \"2\"",
    run: sscan,
    ..Command::BASE
};

fn sscan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let cursor = parse_scan_cursor(args.bytes())?;
    let Some(entry) = cx.keys.read(&key) else {
        // Redis does not look at the options then.
        cx.reply.array(2);
        cx.reply.bulk(b"0");
        cx.reply.array(0);
        return Ok(());
    };
    let set = set_of(entry)?;
    let (mut pattern, mut count) = (None, COUNT_DEFAULT);
    while !args.is_empty() {
        if args.option_with_value("count") {
            let value = args.integer_in(1..=i64::MAX, CommandError::Syntax);
            count = usize::try_from(value).unwrap_or(usize::MAX);
        } else if args.option_with_value("match") {
            pattern = Some(args.bytes()).filter(|pattern| *pattern != b"*");
        } else {
            return Err(CommandError::Syntax);
        }
        args.check()?;
    }
    let mut members = ReplyBuf::new();
    let mut writer = members.writer(cx.reply.protocol());
    let mut listed = 0;
    let mut list = |member: &[u8]| {
        let fits = |pattern| glob::matches(pattern, member, Case::Sensitive);
        if pattern.is_none_or(fits) {
            writer.bulk(member);
            listed += 1;
        }
    };
    let next = match set {
        SetRef::Table(table) => table.scan(cursor, count, list),
        set => {
            set.iter().for_each(|element| list(element.bytes(&mut I64Buf::new())));
            0
        }
    };
    cx.reply.array(2);
    cx.reply.bulk_fmt(format_args!("{next}"));
    cx.reply.array(listed);
    cx.reply.buffer().append(members);
    Ok(())
}
