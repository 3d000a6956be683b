//! HSCAN: the fields of a hash piece by piece.

use super::{READS, hash_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::keyspace::commands::elements::{ScanOptions, ScanPage, Scanned, scan_elements};
use crate::structs::listpack::Element;
use crate::types::WrongType;
use crate::types::hash::{HashRef, elements};

pub(super) static HSCAN: Command = Command {
    name: "hscan",
    since: "2.8.0",
    group: Group::Hash,
    summary: "Lists fields piece by piece: each call returns the cursor for the next one.",
    complexity: "O(1) for a call, O(N) for a whole walk over N fields",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::HASH,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READS)],
    args: &[
        Arg::key("key"),
        Arg::integer("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
        Arg::flag("novalues", "NOVALUES").optional().since("7.4.0"),
    ],
    reply: Shape::Array,
    example: "> HSET user name Ada\n(integer) 1\n> HSCAN user 0\n\
              1) \"0\"\n2) 1) \"name\"\n   2) \"Ada\"",
    run: hscan,
    ..Command::BASE
};

fn hscan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    scan_elements(cx, args, Scanned::Fields, |entry| Ok(hash_of(entry, 0)?.len()), list_fields)
}

fn list_fields(entry: &Entry, cursor: u64, options: &ScanOptions, page: &mut ScanPage<'_>) -> u64 {
    let mut list = |(name, value): (Element<'_>, Element<'_>)| {
        if options.takes_element(name) {
            page.list_element(name);
            if !options.names_only {
                page.list_element(value);
            }
        }
    };
    match hash_of(entry, options.horizon_ms) {
        Ok(HashRef::Table(table)) => {
            table.scan(cursor, options.count, |field| list(elements(field)))
        }
        Ok(packed) => {
            packed.iter().for_each(list);
            0
        }
        Err(WrongType) => 0,
    }
}
