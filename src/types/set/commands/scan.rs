//! SSCAN: the members of a set piece by piece.

use super::set_of;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::keyspace::commands::elements::{ScanOptions, ScanPage, Scanned, scan_elements};
use crate::types::WrongType;
use crate::types::set::value::SetRef;

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
    scan_elements(cx, args, Scanned::Members, |entry| Ok(set_of(entry)?.len()), list_members)
}

fn list_members(entry: &Entry, cursor: u64, options: &ScanOptions, page: &mut ScanPage<'_>) -> u64 {
    match set_of(entry) {
        Ok(SetRef::Table(table)) => table.scan(cursor, options.count, |member| {
            if options.takes_name(member) {
                page.list(member);
            }
        }),
        Ok(packed) => {
            let taken = packed.iter().filter(|member| options.takes_element(*member));
            taken.for_each(|member| page.list_element(member));
            0
        }
        Err(WrongType) => 0,
    }
}
