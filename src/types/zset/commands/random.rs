//! Random members, and all of them piece by piece: ZRANDMEMBER, ZSCAN.

use super::{INLINE_MEMBERS_MAX, begin_members, write_element, write_member, zset_of};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::parse_scan_cursor;
use crate::resp::{Reply, ReplyBuf};
use crate::structs::glob::{self, Case};
use crate::structs::number::{F64Buf, I64Buf, format_f64};
use crate::structs::prng::Prng;
use crate::types::zset::ZSetRef;

const COUNT_DEFAULT: usize = 10;

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
    const RANGE: CommandError = CommandError::Fixed(
        "ERR value is out of range, value must between -9223372036854775807 and \
         9223372036854775807",
    );
    let key = args.key();
    let mut prng = Prng::seeded(cx.server.prng.next_u64());
    if args.is_empty() {
        match cx.keys.read(&key).map(zset_of).transpose()?.and_then(|zset| zset.random(&mut prng)) {
            Some((member, _)) => write_element(&mut cx.reply, member),
            None => cx.reply.null(),
        }
        return Ok(());
    }
    let count = args.integer_in(-i64::MAX..=i64::MAX, RANGE);
    args.check()?;
    let with_scores = args.option("withscores");
    args.done()?;
    if with_scores && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(CommandError::OutOfRange);
    }
    let Some(zset) = cx.keys.read(&key).map(zset_of).transpose()? else {
        cx.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let repeats = count < 0;
    let write = move |reply: &mut Reply<'_>, zset: ZSetRef<'_>, prng: &mut Prng| {
        write_random(reply, zset, wanted, repeats, with_scores, prng);
    };
    let visited = if repeats { wanted } else { zset.len() };
    match zset {
        ZSetRef::Table(table) if visited > INLINE_MEMBERS_MAX => {
            let (table, protocol) = (table.clone(), cx.reply.protocol());
            cx.answer_by(Box::new(move || {
                let mut out = ReplyBuf::new();
                write(&mut out.writer(protocol), ZSetRef::Table(&table), &mut prng);
                out
            }));
        }
        zset => write(&mut cx.reply, zset, &mut prng),
    }
    Ok(())
}

fn write_random(
    reply: &mut Reply<'_>,
    zset: ZSetRef<'_>,
    count: usize,
    repeats: bool,
    with_scores: bool,
    prng: &mut Prng,
) {
    if repeats {
        begin_members(reply, count, with_scores);
        for _ in 0..count {
            let member = zset.random(prng).expect("a sorted set is never empty");
            write_member(reply, member, with_scores);
        }
        return;
    }
    let len = zset.len();
    let mut wanted = count.min(len);
    begin_members(reply, wanted, with_scores);
    for (place, member) in zset.range(0..len).enumerate() {
        if prng.below((len - place) as u64) < wanted as u64 {
            wanted -= 1;
            write_member(reply, member, with_scores);
        }
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
    ],
    reply: Shape::Array,
    example: "> ZADD z 1 a\n(integer) 1\n> ZSCAN z 0\n1) \"0\"\n2) 1) \"a\"\n   2) \"1\"",
    run: zscan,
    ..Command::BASE
};

fn zscan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let cursor = parse_scan_cursor(args.bytes())?;
    let Some(entry) = cx.keys.read(&key) else {
        // Redis does not look at the options then.
        cx.reply.array(2);
        cx.reply.bulk(b"0");
        cx.reply.array(0);
        return Ok(());
    };
    let zset = zset_of(entry)?;
    let (mut pattern, mut count) = (None, COUNT_DEFAULT);
    while !args.is_empty() {
        if args.option_with_value("count") {
            let value = args.integer_in(1..=i64::MAX, CommandError::Syntax);
            count = usize::try_from(value).unwrap_or(usize::MAX);
        } else if args.option_with_value("match") {
            pattern = Some(args.bytes());
        } else {
            return Err(CommandError::Syntax);
        }
        args.check()?;
    }
    let mut members = ReplyBuf::new();
    let mut writer = members.writer(cx.reply.protocol());
    let mut listed = 0;
    let mut list = |member: &[u8], score: f64| {
        if pattern.is_none_or(|pattern| glob::matches(pattern, member, Case::Sensitive)) {
            writer.bulk(member);
            writer.bulk(format_f64(score, &mut F64Buf::new()));
            listed += 2;
        }
    };
    let next = match zset {
        ZSetRef::Table(table) => {
            table.scan(cursor, count, |member| list(member.bytes(), member.score()))
        }
        zset => {
            let all = zset.range(0..zset.len());
            all.for_each(|(member, score)| list(member.bytes(&mut I64Buf::new()), score));
            0
        }
    };
    cx.reply.array(2);
    cx.reply.bulk_fmt(format_args!("{next}"));
    cx.reply.array(listed);
    cx.reply.buffer().append(members);
    Ok(())
}
