//! HSCAN: the fields of a hash piece by piece.
//!
//! A listpack is small, so one call returns all of it. A table goes by hash order, so its cursor
//! survives all growing and shrinking. As in Redis the options are not even read when there is no
//! such key.

use super::{INLINE_FIELDS_MAX, READS, answer_about, read_hash, write_element};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeySpec,
    Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::parse_scan_cursor;
use crate::resp::{Reply, ReplyBuf};
use crate::structs::glob::{self, Case};
use crate::structs::listpack::Element;
use crate::structs::number::I64Buf;
use crate::types::hash::HashRef;

const COUNT_DEFAULT: usize = 10;

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
        Arg::flag("novalues", "NOVALUES").optional(),
    ],
    history: &[("7.4.0", "Could leave the values out.")],
    reply: Shape::Array,
    example: "> HSET user name Ada\n(integer) 1\n> HSCAN user 0\n\
              1) \"0\"\n2) 1) \"name\"\n   2) \"Ada\"",
    run: hscan,
    ..Command::BASE
};

fn hscan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let cursor = parse_scan_cursor(args.bytes())?;
    let Some(hash) = read_hash(&cx.keys, &key)? else {
        write_page(&mut cx.reply, Listed::Both, |_| 0);
        return Ok(());
    };
    let page = Page::read(args)?;
    match hash {
        HashRef::Listpack(_) => page.write_all(&mut cx.reply, hash),
        HashRef::Table(live) if page.count.min(live.table().len()) > INLINE_FIELDS_MAX => {
            let table = live.table().clone();
            let pattern = page.pattern.map(<[u8]>::to_vec);
            let Page { count, listed, .. } = page;
            answer_about(cx, table, move |table, reply| {
                let page = Page { pattern: pattern.as_deref(), count, listed };
                page.write_from(reply, HashRef::Table(table), cursor);
            });
        }
        HashRef::Table(_) => page.write_from(&mut cx.reply, hash, cursor),
    }
    Ok(())
}

/// What a call asks for.
#[derive(Clone, Copy)]
struct Page<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    listed: Listed,
}

/// What of each field is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    Both,
    Names,
}

impl<'a> Page<'a> {
    fn read(args: &mut Args<'a>) -> Result<Page<'a>, CommandError> {
        let mut page = Page { pattern: None, count: COUNT_DEFAULT, listed: Listed::Both };
        while !args.is_empty() {
            if args.option_with_value("count") {
                let count = args.integer_in(1..=i64::MAX, CommandError::Syntax);
                page.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if args.option_with_value("match") {
                page.pattern = Some(args.bytes()).filter(|pattern| *pattern != b"*");
            } else if args.option("novalues") {
                page.listed = Listed::Names;
            } else {
                return Err(CommandError::Syntax);
            }
            args.check()?;
        }
        Ok(page)
    }

    fn takes(self, name: Element<'_>) -> bool {
        let fits =
            |pattern| glob::matches(pattern, name.bytes(&mut I64Buf::new()), Case::Sensitive);
        self.pattern.is_none_or(fits)
    }

    fn write_all(self, reply: &mut Reply<'_>, hash: HashRef<'_>) {
        write_page(reply, self.listed, |visit| {
            hash.iter().filter(|(name, _)| self.takes(*name)).for_each(visit);
            0
        });
    }

    fn write_from(self, reply: &mut Reply<'_>, hash: HashRef<'_>, cursor: u64) {
        let HashRef::Table(table) = hash else { return self.write_all(reply, hash) };
        write_page(reply, self.listed, |visit| {
            table.scan(cursor, self.count, |field| {
                let (name, value) = field.parts();
                if self.takes(Element::Str(name)) {
                    visit((Element::Str(name), Element::Str(value)));
                }
            })
        });
    }
}

/// Writes the next cursor, which `walk` answers, and the fields that it visits.
fn write_page(
    reply: &mut Reply<'_>,
    listed: Listed,
    walk: impl FnOnce(&mut dyn FnMut((Element<'_>, Element<'_>))) -> u64,
) {
    let mut fields = ReplyBuf::new();
    let mut writer = fields.writer(reply.protocol());
    let mut len = 0;
    let cursor = walk(&mut |(name, value)| {
        write_element(&mut writer, name);
        len += 1;
        if listed == Listed::Both {
            write_element(&mut writer, value);
            len += 1;
        }
    });
    reply.array(2);
    reply.bulk_fmt(format_args!("{cursor}"));
    reply.array(len);
    reply.buffer().append(fields);
}
