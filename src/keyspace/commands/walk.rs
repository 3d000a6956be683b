//! All keys: KEYS, SCAN, RANDOMKEY.
//!
//! KEYS over a big database reads a snapshot on another thread, so that only its caller waits for
//! it. SCAN goes by hash order, so its cursor survives all growing and shrinking: what is there
//! from the first call to the last is returned exactly once. Neither shows a key whose time has
//! come.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::parse_scan_cursor;
use crate::keyspace::{Entry, Snapshot};
use crate::resp::{Reply, ReplyBuf};
use crate::structs::glob::{self, Case};
use crate::types::Kind;

/// A walk over at most so many keys costs less than handing it to another thread.
const INLINE_KEYS_MAX: usize = 1000;

pub(super) static KEYS: Command = Command {
    name: "keys",
    group: Group::Generic,
    summary: "Lists the keys that match a pattern.",
    complexity: "O(N) with N keys in the database, on another thread when they are many",
    arity: Arity::exactly(2),
    flags: Flags::READONLY,
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    args: &[Arg::pattern("pattern")],
    reply: Shape::Array,
    example: "> MSET one 1 two 2\nOK\n> KEYS t*\n1) \"two\"",
    run: keys,
    ..Command::BASE
};

fn keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_literal = !args.peek().is_some_and(|pattern| pattern.iter().any(is_special));
    if is_literal {
        let key = args.key();
        let found = cx.keys.peek(&key).is_some();
        cx.reply.array(usize::from(found));
        if found {
            cx.reply.bulk(key.bytes);
        }
        return Ok(());
    }
    let pattern = args.bytes();
    args.done()?;
    let snapshot = cx.keys.db().snapshot(cx.keys.now_ms());
    if cx.keys.db().len() <= INLINE_KEYS_MAX {
        list_matching(&snapshot, pattern, &mut cx.reply);
        return Ok(());
    }
    let (pattern, protocol) = (pattern.to_vec(), cx.reply.protocol());
    cx.answer_by(Box::new(move || {
        let mut out = ReplyBuf::new();
        list_matching(&snapshot, &pattern, &mut out.writer(protocol));
        out
    }));
    Ok(())
}

/// Whether a byte of a pattern may stand for something else than itself.
fn is_special(byte: &u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

fn list_matching(snapshot: &Snapshot, pattern: &[u8], reply: &mut Reply<'_>) {
    let deferred = reply.begin_deferred();
    let mut listed = 0;
    for entry in snapshot.live() {
        if pattern == b"*" || glob::matches(pattern, entry.key(), Case::Sensitive) {
            reply.bulk(entry.key());
            listed += 1;
        }
    }
    reply.end_array(deferred, listed);
}

pub(super) static RANDOMKEY: Command = Command {
    name: "randomkey",
    group: Group::Generic,
    summary: "Returns some key of the database.",
    arity: Arity::exactly(1),
    flags: Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS),
    acl: Categories::KEYSPACE,
    tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
    reply: Shape::BulkOrNull,
    example: "> RANDOMKEY\n(nil)\n> SET k v\nOK\n> RANDOMKEY\n\"k\"",
    run: randomkey,
    ..Command::BASE
};

fn randomkey(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    match cx.keys.random() {
        Some(entry) => cx.reply.bulk(entry.key()),
        None => cx.reply.null(),
    }
    Ok(())
}

pub(super) static SCAN: Command = Command {
    name: "scan",
    since: "2.8.0",
    group: Group::Generic,
    summary: "Lists keys piece by piece: each call returns the cursor for the next one.",
    complexity: "O(1) for a call, O(N) for a whole walk over N keys",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS),
    acl: Categories::KEYSPACE,
    tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
    history: &[("6.0.0", "Took TYPE.")],
    args: &[
        Arg::integer("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::integer("count").token("COUNT").optional(),
        Arg::string("type").token("TYPE").optional().since("6.0.0"),
    ],
    reply: Shape::Array,
    example: "> SET k v\nOK\n> SCAN 0\n1) \"0\"\n2) 1) \"k\"",
    run: scan,
    ..Command::BASE
};

fn scan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let cursor = parse_scan_cursor(args.bytes())?;
    let filter = Filter::read(args)?;
    let count = filter.count;
    if count <= INLINE_KEYS_MAX || cx.keys.db().len() <= INLINE_KEYS_MAX {
        let Cx { keys, reply, .. } = cx;
        write_page(reply, |visit| keys.scan(cursor, count, |entry| filter.takes(entry), visit));
        return Ok(());
    }
    let snapshot = cx.keys.db().snapshot(cx.keys.now_ms());
    let (filter, protocol) = (filter.into_owned(), cx.reply.protocol());
    cx.answer_by(Box::new(move || {
        let filter = filter.as_filter();
        let mut out = ReplyBuf::new();
        write_page(&mut out.writer(protocol), |visit| {
            snapshot.scan(cursor, count, |entry| filter.takes(entry), visit)
        });
        out
    }));
    Ok(())
}

/// Writes the reply of SCAN: the next cursor, which `walk` answers, and the keys that it visits.
fn write_page(reply: &mut Reply<'_>, walk: impl FnOnce(&mut dyn FnMut(&Entry)) -> u64) {
    let mut keys = ReplyBuf::new();
    let mut listed = 0;
    let mut writer = keys.writer(reply.protocol());
    let cursor = walk(&mut |entry| {
        writer.bulk(entry.key());
        listed += 1;
    });
    reply.array(2);
    reply.bulk_fmt(format_args!("{cursor}"));
    reply.array(listed);
    reply.buffer().append(keys);
}

/// Which of the visited keys SCAN returns, and how many it visits.
struct Filter<'a> {
    pattern: Option<&'a [u8]>,
    kind: Option<TypeFilter>,
    count: usize,
}

/// The type asked for; a name that no type has matches nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TypeFilter {
    Is(Kind),
    Unknown,
}

/// A filter that may go to another thread.
struct OwnedFilter {
    pattern: Option<Box<[u8]>>,
    kind: Option<TypeFilter>,
    count: usize,
}

impl OwnedFilter {
    fn as_filter(&self) -> Filter<'_> {
        Filter { pattern: self.pattern.as_deref(), kind: self.kind, count: self.count }
    }
}

const COUNT_DEFAULT: usize = 10;

impl<'a> Filter<'a> {
    fn read(args: &mut Args<'a>) -> Result<Filter<'a>, CommandError> {
        let mut filter = Filter { pattern: None, kind: None, count: COUNT_DEFAULT };
        while !args.is_empty() {
            if args.option_with_value("count") {
                let count = args.integer_in(1..=i64::MAX, CommandError::Syntax);
                filter.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if args.option_with_value("match") {
                filter.pattern = Some(args.bytes()).filter(|pattern| *pattern != b"*");
            } else if args.option_with_value("type") {
                let name = args.bytes();
                let is_named = |kind: &Kind| kind.name().as_bytes().eq_ignore_ascii_case(name);
                let kind = Kind::ALL.into_iter().find(is_named);
                filter.kind = Some(kind.map_or(TypeFilter::Unknown, TypeFilter::Is));
            } else {
                args.check()?;
                return Err(CommandError::Syntax);
            }
            args.check()?;
        }
        Ok(filter)
    }

    fn into_owned(self) -> OwnedFilter {
        let pattern = self.pattern.map(Into::into);
        OwnedFilter { pattern, kind: self.kind, count: self.count }
    }

    fn takes(&self, entry: &Entry) -> bool {
        let kind_fits = self.kind.is_none_or(|kind| kind == TypeFilter::Is(entry.kind()));
        let fits = |pattern| glob::matches(pattern, entry.key(), Case::Sensitive);
        kind_fits && self.pattern.is_none_or(fits)
    }
}
