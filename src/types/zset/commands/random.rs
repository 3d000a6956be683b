//! Random members, and all of them piece by piece: ZRANDMEMBER, ZSCAN.

use super::{begin_members, write_member, zset_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Entry;
use crate::keyspace::commands::elements::{
    Draw, ScanOptions, ScanPage, Scanned, Source, scan_elements, write_element,
};
use crate::resp::Reply;
use crate::structs::listpack::Element;
use crate::structs::number::{F64Buf, format_f64};
use crate::structs::prng::Prng;
use crate::types::WrongType;
use crate::types::zset::{ZSetRef, pair_of};

pub(super) static ZRANDMEMBER: Command = Command {
    name: "zrandmember",
    since: "6.2.0",
    group: Group::SortedSet,
    summary: "Returns random members; with a negative count, perhaps some repeatedly.",
    complexity: "O(N) with N members returned",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SORTED_SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[
        Arg::key("key"),
        Arg::block(
            "options",
            &[Arg::integer("count"), Arg::flag("withscores", "WITHSCORES").optional()],
        )
        .optional(),
    ],
    example: "> ZADD z 1 a\n(integer) 1\n> ZRANDMEMBER z\n\"a\"\n> ZRANDMEMBER z 5 WITHSCORES\n\
              1) \"a\"\n2) \"1\"",
    run: zrandmember,
    ..Command::BASE
};

fn zrandmember(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let mut prng = Prng::seeded(cx.server.prng.next_u64());
    if args.is_empty() {
        match cx.keys.read(&key).map(zset_of).transpose()?.and_then(|zset| zset.random(&mut prng)) {
            Some((member, _)) => write_element(&mut cx.reply, member),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let mut draw = Draw::read(cx, args)?;
    let with_scores = args.option("withscores");
    args.done()?;
    if with_scores {
        draw = draw.of_pairs()?;
    }
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.array(0);
        return Ok(());
    };
    let zset = zset_of(entry)?;
    if !draw.is_long(zset) {
        return write_drawn(&mut cx.reply, draw, zset, with_scores, &mut prng);
    }
    // A long answer is drawn from a snapshot on another thread, with random numbers of its own.
    let entry = entry.clone();
    cx.answer_by(move |reply| write_drawn(reply, draw, zset_of(&entry)?, with_scores, &mut prng))
}

fn write_drawn(
    reply: &mut Reply<'_>,
    draw: Draw,
    zset: ZSetRef<'_>,
    with_scores: bool,
    prng: &mut Prng,
) -> CommandResult {
    let begin = |reply: &mut Reply<'_>, count| begin_members(reply, count, with_scores);
    draw.write(reply, zset, prng, begin, |reply, member| write_member(reply, member, with_scores))
}

impl<'a> Source<'a> for ZSetRef<'a> {
    type Item = (Element<'a>, f64);

    fn count(self) -> usize {
        self.len()
    }

    fn bytes(self) -> usize {
        self.table_bytes()
    }

    fn is_table(self) -> bool {
        matches!(self, ZSetRef::Table(_))
    }

    fn random(self, prng: &mut Prng) -> Option<(Element<'a>, f64)> {
        ZSetRef::random(self, prng)
    }

    fn all(self) -> impl Iterator<Item = (Element<'a>, f64)> {
        self.range(0..self.len())
    }

    fn name((member, _): (Element<'a>, f64)) -> Element<'a> {
        member
    }
}

pub(super) static ZSCAN: Command = Command {
    name: "zscan",
    since: "2.8.0",
    group: Group::SortedSet,
    summary: "Lists members and scores piece by piece: each call returns the next cursor.",
    complexity: "O(1) for a call, O(N) for a whole walk over N members",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::SORTED_SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[
        Arg::key("key"),
        Arg::integer("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
        Arg::flag("noscores", "NOSCORES").optional(),
    ],
    reply: Shape::Array,
    example: "> ZADD z 1 a\n(integer) 1\n> ZSCAN z 0\n1) \"0\"\n2) 1) \"a\"\n   2) \"1\"",
    run: zscan,
    ..Command::BASE
};

fn zscan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    scan_elements(cx, args, Scanned::ScoredMembers, |entry| Ok(zset_of(entry)?.len()), list_members)
}

fn list_members(entry: &Entry, cursor: u64, options: &ScanOptions, page: &mut ScanPage<'_>) -> u64 {
    let mut list = |(member, score): (Element<'_>, f64)| {
        if options.takes_element(member) {
            page.list_element(member);
            if !options.names_only {
                page.list(format_f64(score, &mut F64Buf::new()));
            }
        }
    };
    match zset_of(entry) {
        Ok(ZSetRef::Table(table)) => {
            table.scan(cursor, options.count, |member| list(pair_of(member)))
        }
        Ok(packed) => {
            packed.range(0..packed.len()).for_each(list);
            0
        }
        Err(WrongType) => 0,
    }
}
