//! Entries in, and old ones out: XADD and XTRIM.

use smallvec::SmallVec;

use super::delete::{REFERENCES, references};
use super::{INVALID_ID, edit_stream, event, limits, offer, put_stream, write_id};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::structs::listpack;
use crate::structs::number::{I64Buf, format_i64};
use crate::types::stream::{
    Entries, NewId, References, Stream, StreamId, Threshold, Trim, Trimmed,
};

const OPERATOR: Arg =
    Arg::one_of("operator", &[Arg::flag("equal", "="), Arg::flag("approximately", "~")]).optional();

const TRIM_ARGS: &[Arg] = &[
    Arg::one_of(
        "strategy",
        &[Arg::flag("maxlen", "MAXLEN"), Arg::flag("minid", "MINID").since("6.2.0")],
    ),
    OPERATOR,
    Arg::string("threshold"),
    Arg::integer("count").token("LIMIT").optional().since("6.2.0"),
];

pub(super) static XADD: Command = Command {
    name: "xadd",
    since: "5.0.0",
    group: Group::Stream,
    summary: "Adds an entry to a stream, which is made if there is none, and answers its ID.",
    complexity: "O(1), and O(N) with N entries that are trimmed",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::STREAM,
    tips: &["nondeterministic_output"],
    history: &[
        ("6.2.0", "Took `NOMKSTREAM`, `MINID` and `LIMIT`."),
        ("7.0.0", "Took IDs of which only the milliseconds are given, as `<ms>-*`."),
        ("8.2.0", "Took `KEEPREF`, `DELREF` and `ACKED`."),
    ],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))
        .notes("It may trim, and so is no mere INSERT.")],
    args: &[
        Arg::key("key"),
        Arg::flag("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
        REFERENCES.since("8.2.0"),
        Arg::block("trim", TRIM_ARGS).optional(),
        Arg::one_of("id-selector", &[Arg::flag("auto-id", "*"), Arg::string("id")]),
        Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
    ],
    reply: Shape::BulkOrNull,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XADD s MAXLEN 1 1-* f v\n\"1-2\"\n> XLEN s\n(integer) 1",
    run: xadd,
    ..Command::BASE
};

/// What stands between the key and the fields of XADD, and after the key of XTRIM.
struct Options {
    makes_no_stream: bool,
    trim: Option<Trim>,
    references: Option<References>,
    id: Option<NewId>,
}

impl Options {
    fn read(cx: &Cx<'_>, args: &mut Args<'_>, has_id: bool) -> Result<Options, CommandError> {
        let mut options =
            Options { makes_no_stream: false, trim: None, references: None, id: None };
        let mut limit = None;
        while !args.is_empty() {
            if has_id && args.peek() == Some(b"*") {
                args.bytes();
                options.id = Some(NewId::Auto);
                break;
            } else if args.option_with_value("maxlen") {
                options.set_trim(args, |args| {
                    let length = args.integer();
                    args.check()?;
                    let error = CommandError::Fixed("ERR The MAXLEN argument must be >= 0.");
                    u64::try_from(length).map(Threshold::Length).map_err(|_| error)
                })?;
            } else if args.option_with_value("minid") {
                options.set_trim(args, |args| super::id(args).map(Threshold::Id))?;
            } else if args.option_with_value("limit") {
                let count = args.integer();
                args.check()?;
                let error = CommandError::Fixed("ERR The LIMIT argument must be >= 0.");
                limit = Some(u64::try_from(count).map_err(|_| error)?);
            } else if let Some(references) = options.unset_references(args) {
                options.references = Some(references);
            } else if !has_id {
                return Err(CommandError::Syntax);
            } else if args.option("nomkstream") {
                options.makes_no_stream = true;
            } else {
                options.id = Some(NewId::parse(args.bytes()).ok_or(INVALID_ID)?);
                break;
            }
        }
        options.set_limit(cx, limit, has_id)?;
        Ok(options)
    }

    /// What becomes of references, if that is said next and was not said before: the second time,
    /// Redis takes the word for an ID.
    fn unset_references(&self, args: &mut Args<'_>) -> Option<References> {
        if self.references.is_some() { None } else { references(args) }
    }

    /// Trims as the options say.
    fn trim(&self, stream: &mut Stream) -> Trimmed {
        let references = self.references.unwrap_or(References::Keep);
        self.trim.map_or_else(Trimmed::default, |trim| stream.trim(&trim, references))
    }

    fn set_trim(
        &mut self,
        args: &mut Args<'_>,
        threshold: impl FnOnce(&mut Args<'_>) -> Result<Threshold, CommandError>,
    ) -> CommandResult {
        if self.trim.is_some() {
            return Err(CommandError::Fixed(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let is_approximate = args.option_with_value("~");
        if !is_approximate {
            args.option_with_value("=");
        }
        let threshold = threshold(args)?;
        self.trim = Some(Trim { threshold, is_approximate, limit: None });
        Ok(())
    }

    fn set_limit(&mut self, cx: &Cx<'_>, limit: Option<u64>, has_id: bool) -> CommandResult {
        const NEEDS_APPROXIMATE: CommandError = CommandError::Fixed(
            "ERR syntax error, LIMIT cannot be used without the special ~ option",
        );
        let Some(trim) = &mut self.trim else {
            if limit.is_some_and(|limit| limit > 0) {
                return Err(CommandError::Fixed(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            if !has_id {
                return Err(CommandError::Fixed(
                    "ERR syntax error, XTRIM must be called with a trimming strategy",
                ));
            }
            return if limit.is_some() { Err(NEEDS_APPROXIMATE) } else { Ok(()) };
        };
        if limit.is_some() && !trim.is_approximate {
            return Err(NEEDS_APPROXIMATE);
        }
        if trim.is_approximate {
            trim.limit = match limit {
                Some(limit) => Some(limit).filter(|limit| *limit > 0),
                None => Some(default_limit(cx.server.config.stream_node_max_entries)),
            };
        }
        Ok(())
    }
}

/// How many entries go at once if nobody says: those of so many nodes, within bounds.
fn default_limit(node_max_entries: u64) -> u64 {
    const NODES: u64 = 100;
    const ENTRIES: u64 = 10_000;
    const ENTRIES_MAX: u64 = 1_000_000;
    match node_max_entries.saturating_mul(NODES) {
        0 => ENTRIES,
        limit => limit.min(ENTRIES_MAX),
    }
}

/// Fields and values in turns.
type PairWords<'a> = SmallVec<[&'a [u8]; 16]>;

fn xadd(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const BOTTOM: CommandError =
        CommandError::Fixed("ERR The ID specified in XADD must be greater than 0-0");
    let key = args.key();
    let options = Options::read(cx, args, true)?;
    let wanted = options.id.ok_or(CommandError::WrongArity("xadd"))?;
    if args.is_empty() || !args.remaining().is_multiple_of(2) {
        return Err(CommandError::WrongArity("xadd"));
    }
    let mut pairs = PairWords::new();
    while !args.is_empty() {
        pairs.push(args.bytes());
    }
    args.done()?;
    if wanted == NewId::Given(StreamId::MIN) {
        return Err(BOTTOM);
    }
    let Some((id, trimmed)) = add(cx, &key, &options, wanted, &pairs)? else {
        cx.reply.null();
        return Ok(());
    };
    discard_old(cx, trimmed.old);
    write_id(&mut cx.reply, id);
    cx.keys.changed(&key, EventClasses::STREAM, "xadd");
    if trimmed.count > 0 {
        event(cx, &key, "xtrim");
    }
    let is_approximate = options.trim.is_some_and(|trim| trim.is_approximate);
    if cx.is_propagating() && (is_approximate || !matches!(wanted, NewId::Given(_))) {
        propagate_xadd(cx, &key, &options, id, &pairs);
    }
    offer(cx, &key);
    Ok(())
}

/// Adds an entry and trims; its ID and which entries went, or `None` if there is no stream and
/// none is to be made.
fn add(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    options: &Options,
    wanted: NewId,
    pairs: &[&[u8]],
) -> Result<Option<(StreamId, Trimmed)>, CommandError> {
    let (limits, now_ms) = (limits(cx), cx.keys.now_ms());
    let append = |stream: &mut Stream| {
        let entries = &mut stream.entries;
        if entries.last_id == StreamId::MAX {
            return Err(CommandError::Fixed(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = entries.next_id(wanted, now_ms).ok_or(CommandError::Fixed(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ))?;
        let too_large = |_| CommandError::Fixed("ERR Elements are too large to be stored");
        entries.append(id, pairs, limits).map_err(too_large)?;
        Ok((id, options.trim(stream)))
    };
    let total = pairs.iter().map(|text| text.len()).fold(0, usize::saturating_add);
    if total > listpack::BYTES_MAX {
        super::is_stream(cx, key)?;
        return Err(CommandError::Fixed("ERR Elements are too large to be stored"));
    }
    if let Some(added) = edit_stream(cx, key, |stream, _| append(stream))? {
        return added.map(Some);
    }
    if options.makes_no_stream {
        return Ok(None);
    }
    let mut stream = Stream::default();
    let added = append(&mut stream)?;
    put_stream(cx, key, stream);
    Ok(Some(added))
}

/// The command with the ID that was chosen, and with an exact trimming to where an approximate one
/// came.
fn propagate_xadd(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    options: &Options,
    id: StreamId,
    pairs: &[&[u8]],
) {
    let (trimming, id) = (trimming_done(cx, key, options), id.to_vec());
    let mut words: Vec<&[u8]> = vec![b"XADD", key.bytes];
    if options.makes_no_stream {
        words.push(b"NOMKSTREAM");
    }
    words.extend(trimming.iter().map(Vec::as_slice));
    words.push(&id);
    words.extend_from_slice(pairs);
    cx.propagate_as(&words);
}

/// The words of the exact trimming that comes to the same result as one that was just done.
fn trimming_done(cx: &Cx<'_>, key: &Key<'_>, options: &Options) -> Vec<Vec<u8>> {
    let Some(trim) = options.trim else { return Vec::new() };
    let entry = cx.keys.peek(key).expect("it was just trimmed");
    let entries = &super::stream_of(entry).expect("it was just trimmed").entries;
    let reached = match trim.threshold {
        threshold if !trim.is_approximate => threshold,
        Threshold::Id(_) => Threshold::Id(entries.first_held_id().unwrap_or(StreamId::MAX)),
        Threshold::Length(_) => Threshold::Length(entries.len() as u64),
    };
    let (strategy, threshold) = match reached {
        Threshold::Length(max) => {
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            ("MAXLEN", format_i64(max, &mut I64Buf::new()).to_vec())
        }
        Threshold::Id(min) => ("MINID", min.to_vec()),
    };
    let references = match options.references {
        None => None,
        Some(References::Keep) => Some("KEEPREF"),
        Some(References::Delete) => Some("DELREF"),
        // All of the whole nodes that went was acknowledged.
        Some(References::Acknowledged) if trim.is_approximate => None,
        Some(References::Acknowledged) => Some("ACKED"),
    };
    let mut words = vec![strategy.as_bytes().to_vec(), b"=".to_vec(), threshold];
    words.extend(references.map(|word| word.as_bytes().to_vec()));
    words
}

pub(super) static XTRIM: Command = Command {
    name: "xtrim",
    since: "5.0.0",
    group: Group::Stream,
    summary: "Deletes the oldest entries of a stream and counts them.",
    complexity: "O(N) with N entries that are deleted, a node of them at a time",
    arity: Arity::at_least(4),
    flags: Flags::WRITE,
    acl: Categories::STREAM,
    tips: &["nondeterministic_output"],
    history: &[
        ("6.2.0", "Took `MINID` and `LIMIT`."),
        ("8.2.0", "Took `KEEPREF`, `DELREF` and `ACKED`."),
    ],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), Arg::block("trim", TRIM_ARGS), REFERENCES.since("8.2.0")],
    reply: Shape::Integer,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XADD s 2-1 f v\n\"2-1\"\n> XTRIM s MINID 2\n(integer) 1",
    run: xtrim,
    ..Command::BASE
};

fn discard_old(cx: &mut Cx<'_>, old: Option<Entries>) {
    if let Some(entries) = old {
        super::discard(cx, Stream { entries, ..Stream::default() });
    }
}

fn xtrim(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let options = Options::read(cx, args, false)?;
    args.done()?;
    let trim = options.trim.ok_or(CommandError::Syntax)?;
    let trimmed = edit_stream(cx, &key, |stream, _| options.trim(stream))?.unwrap_or_default();
    discard_old(cx, trimmed.old);
    if trimmed.count > 0 {
        cx.keys.changed(&key, EventClasses::STREAM, "xtrim");
        super::changed_quietly(cx, trimmed.count - 1);
        if trim.is_approximate && cx.is_propagating() {
            let trimming = trimming_done(cx, &key, &options);
            let mut words: Vec<&[u8]> = vec![b"XTRIM", key.bytes];
            words.extend(trimming.iter().map(Vec::as_slice));
            cx.propagate_as(&words);
        }
    }
    cx.reply.integer(trimmed.count as i64);
    Ok(())
}
