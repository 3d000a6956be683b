//! What is new in streams, for whoever reads alone (XREAD) or in a group (XREADGROUP); both may
//! wait for it.
//!
//! A waiter's `$` becomes the last ID of the moment when its wait begins, since the request runs
//! again when something comes. A reader in a group also wakes when its key or group goes away: its
//! second run then fails as a first one would.

use super::{
    INVALID_ID, Rewriting, changed_quietly, edit_stream, is_long, no_key_or_group, stream_of,
    write_entries, write_entry, write_id,
};
use crate::command::{
    self, Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Find, Flags,
    KeyFlags, KeySpec,
};
use crate::engine::Cx;
use crate::engine::waiting::Awaited;
use crate::keyspace::Key;
use crate::resp::{Deferred, OwnedRequest, Protocol, Reply};
use crate::types::Kind;
use crate::types::stream::{ConsumerId, Entries, Group, Pending, Stream, StreamId};

const fn keys_after_streams(start: i16) -> KeySpec {
    let find = Find::Range { last: -1, step: 1, limit: 2 };
    KeySpec::after("STREAMS", start, KeyFlags::RO.or(KeyFlags::ACCESS)).find(find)
}

const COUNT: Arg = Arg::integer("count").token("COUNT").optional();
const BLOCK: Arg = Arg::integer("milliseconds").token("BLOCK").optional();
const STREAMS: Arg =
    Arg::block("streams", &[Arg::key("key").multiple(), Arg::string("id").multiple()])
        .token("STREAMS");

pub(super) static XREAD: Command = Command {
    name: "xread",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Returns the entries of streams after given IDs, or waits for some.",
    complexity: "O(N) with N entries in the answer",
    arity: Arity::at_least(4),
    flags: Flags::BLOCKING.or(Flags::READONLY),
    acl: Categories::STREAM,
    keys: &[keys_after_streams(1)],
    args: &[COUNT, BLOCK, STREAMS],
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XREAD STREAMS s 0\n1) 1) \"s\"\n\
              \x20  2) 1) 1) \"1-1\"\n         \
              2) 1) \"f\"\n            2) \"v\"",
    run: xread,
    ..Command::BASE
};

pub(super) static XREADGROUP: Command = Command {
    name: "xreadgroup",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Returns new entries to a consumer of a group, or those it has, or waits for some.",
    complexity: "O(N) with N entries in the answer",
    arity: Arity::at_least(7),
    flags: Flags::BLOCKING.or(Flags::WRITE),
    acl: Categories::STREAM,
    keys: &[keys_after_streams(4)],
    args: &[
        Arg::block("group-block", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
        COUNT,
        BLOCK,
        Arg::flag("noack", "NOACK").optional(),
        STREAMS,
    ],
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XGROUP CREATE s g 0\nOK\n\
              > XREADGROUP GROUP g c STREAMS s >\n1) 1) \"s\"\n   2) 1) 1) \"1-1\"\n         \
              2) 1) \"f\"\n            2) \"v\"",
    run: xreadgroup,
    ..Command::BASE
};

/// A group and a consumer in it, by name.
#[derive(Clone, Copy)]
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
}

/// The words of XREAD and XREADGROUP.
struct Options<'a> {
    /// 0 stands for all.
    count: usize,
    /// In milliseconds; 0 waits for ever, `None` not at all.
    timeout_ms: Option<u64>,
    reader: Option<Reader<'a>>,
    acknowledges: bool,
    /// How many words come before the first key.
    words_before: usize,
    keys: Vec<Key<'a>>,
    from: Vec<&'a [u8]>,
}

/// Which entries of a stream are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    After(StreamId),
    /// What the group has not delivered yet.
    New,
}

/// Which of the two commands runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Alone,
    InGroup,
}

impl Reads {
    fn name(self) -> &'static str {
        if self == Reads::Alone { "xread" } else { "xreadgroup" }
    }
}

impl<'a> Options<'a> {
    fn read(cx: &Cx<'_>, args: &mut Args<'a>, reads: Reads) -> Result<Options<'a>, CommandError> {
        let mut options = Options {
            count: 0,
            timeout_ms: None,
            reader: None,
            acknowledges: true,
            words_before: 0,
            keys: Vec::new(),
            from: Vec::new(),
        };
        while !args.is_empty() {
            if args.option_with_value("block") {
                options.timeout_ms = Some(timeout_ms(cx, args)?);
            } else if args.option_with_value("count") {
                options.count = usize::try_from(args.integer()).unwrap_or(0);
                args.check()?;
            } else if args.option_with_value("streams") {
                options.read_streams(args, reads)?;
            } else if args.remaining() >= 3 && args.option("group") {
                if reads == Reads::Alone {
                    return Err(CommandError::Fixed(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                let (group, consumer) = (args.bytes(), args.bytes());
                options.reader = Some(Reader { group, consumer });
            } else if args.option("noack") {
                if reads == Reads::Alone {
                    return Err(CommandError::Fixed(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                options.acknowledges = false;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.keys.is_empty() {
            return Err(CommandError::Syntax);
        }
        if reads == Reads::InGroup && options.reader.is_none() {
            return Err(CommandError::Fixed("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(options)
    }

    /// All that is left: keys, then as many IDs.
    fn read_streams(&mut self, args: &mut Args<'a>, reads: Reads) -> CommandResult {
        if !args.remaining().is_multiple_of(2) {
            let latest = if reads == Reads::InGroup { '>' } else { '$' };
            return Err(CommandError::err(format_args!(
                "Unbalanced '{}' list of streams: for each stream key an ID or '{latest}' must be \
                 specified.",
                reads.name()
            )));
        }
        let count = args.remaining() / 2;
        self.words_before = args.request().len() - args.remaining();
        self.keys = (0..count).map(|_| args.key()).collect();
        self.from = (0..count).map(|_| args.bytes()).collect();
        Ok(())
    }

    /// The most entries of one stream.
    fn max(&self) -> usize {
        if self.count == 0 { usize::MAX } else { self.count }
    }
}

/// Reads a timeout in milliseconds.
fn timeout_ms(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<u64, CommandError> {
    const BAD: CommandError = CommandError::Fixed("ERR timeout is not an integer or out of range");
    let timeout_ms = args.integer_or(BAD);
    args.check()?;
    let negative = CommandError::Fixed("ERR timeout is negative");
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| negative)?;
    if timeout_ms > i64::MAX as u64 - cx.server.clock.unix_ms() {
        return Err(CommandError::Fixed("ERR timeout is out of range"));
    }
    Ok(timeout_ms)
}

/// From where a stream is to be read by whoever reads alone.
fn from_alone(text: &[u8], entries: Option<&Entries>) -> Result<From, CommandError> {
    let last_id = entries.map_or(StreamId::MIN, |entries| entries.last_id);
    match text {
        b"$" => Ok(From::After(last_id)),
        // The last entry that is there, or the next one.
        b"+" => {
            let before = entries.and_then(Entries::last_live_id).and_then(StreamId::previous);
            Ok(From::After(before.unwrap_or(last_id)))
        }
        b">" => Err(CommandError::Fixed(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
             <consumer> option.",
        )),
        text => StreamId::parse(text, 0).map(From::After).ok_or(INVALID_ID),
    }
}

fn from_in_group(text: &[u8]) -> Result<From, CommandError> {
    match text {
        b"$" => Err(CommandError::Fixed(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the \
             history of this consumer by specifying a proper ID, or use the > ID to get new \
             messages. The $ ID would just return an empty result set.",
        )),
        b"+" => Err(CommandError::Fixed(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the \
             history of this consumer by specifying a proper ID, or use the > ID to get new \
             messages. The + ID would just return an empty result set.",
        )),
        b">" => Ok(From::New),
        text => match StreamId::parse(text, 0).ok_or(INVALID_ID)? {
            StreamId::MAX => Ok(From::New),
            id => Ok(From::After(id)),
        },
    }
}

/// The parts of an answer that are written so far.
struct Answer {
    all: Deferred,
    streams: usize,
}

impl Answer {
    fn begin(reply: &mut Reply<'_>) -> Answer {
        Answer { all: reply.begin_deferred(), streams: 0 }
    }

    /// What follows is what a stream has.
    fn stream(&mut self, reply: &mut Reply<'_>, key: &[u8]) {
        self.streams += 1;
        if reply.protocol() == Protocol::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
    }

    /// Ends the answer; false if there is nothing to answer with.
    fn end(self, reply: &mut Reply<'_>) -> bool {
        let Answer { all, streams } = self;
        if streams == 0 {
            return false;
        }
        match reply.protocol() {
            Protocol::Resp2 => reply.end_array(all, streams),
            Protocol::Resp3 => reply.end_map(all, streams),
        }
        true
    }
}

fn xread(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let options = Options::read(cx, args, Reads::Alone)?;
    let mut from = Vec::with_capacity(options.keys.len());
    for (key, text) in options.keys.iter().zip(&options.from) {
        let entries = cx.keys.read(key).map(stream_of).transpose()?.map(|stream| &stream.entries);
        from.push(from_alone(text, entries)?);
    }
    let mut news = Vec::new();
    for (key, from) in options.keys.iter().zip(&from) {
        let Some(entry) = cx.keys.read(key) else { continue };
        let (entries, From::After(id)) = (&stream_of(entry)?.entries, *from) else { continue };
        let Some(start) = id.next().filter(|_| entries.last_live_id() > Some(id)) else { continue };
        news.push((key.bytes, start, entries));
    }
    if news.is_empty() {
        wait(cx, args, &options, &from, Awaited::Value(Kind::Stream));
        return Ok(());
    }
    let max = options.max();
    // A client that has waited is answered in its turn, and there is little to answer.
    if cx.caller.is_first_try()
        && news.iter().any(|(_, start, entries)| is_long(entries, *start, StreamId::MAX, max))
    {
        let own = |(key, start, entries): &(&[u8], StreamId, &Entries)| {
            (key.to_vec(), *start, (*entries).clone())
        };
        let news: Vec<(Vec<u8>, StreamId, Entries)> = news.iter().map(own).collect();
        return cx.answer_by(move |reply| {
            let news = news.iter().map(|(key, start, entries)| (&key[..], *start, entries));
            write_news(reply, news, max);
            Ok(())
        });
    }
    let reply = &mut cx.reply;
    write_news(reply, news.into_iter(), max);
    Ok(())
}

/// Answers with what is new in each stream.
fn write_news<'a>(
    reply: &mut Reply<'_>,
    news: impl Iterator<Item = (&'a [u8], StreamId, &'a Entries)>,
    max: usize,
) {
    let mut answer = Answer::begin(reply);
    for (key, start, entries) in news {
        answer.stream(reply, key);
        write_entries(reply, entries.range(start, StreamId::MAX), max);
    }
    answer.end(reply);
}

fn xreadgroup(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let options = Options::read(cx, args, Reads::InGroup)?;
    let reader = options.reader.expect("it was checked");
    // What this does stands in the write stream in other words, even if it fails.
    cx.propagate_as(&[]);
    let mut from = Vec::with_capacity(options.keys.len());
    for (key, text) in options.keys.iter().zip(&options.from) {
        let stream = cx.keys.read(key).map(stream_of).transpose()?;
        if stream.and_then(|stream| stream.groups.get(reader.group)).is_none() {
            return Err(no_key_or_group(key, reader.group, " in XREADGROUP with GROUP option"));
        }
        from.push(from_in_group(text)?);
    }
    let mut answer = Answer::begin(&mut cx.reply);
    for (key, from) in options.keys.iter().zip(&from) {
        serve(cx, key, *from, &options, reader, &mut answer)?;
    }
    if !answer.end(&mut cx.reply) {
        wait(cx, args, &options, &from, Awaited::Change(Kind::Stream));
    }
    Ok(())
}

/// Answers with nothing, now or after a wait.
fn wait(cx: &mut Cx<'_>, args: &Args<'_>, options: &Options<'_>, from: &[From], awaited: Awaited) {
    let Some(timeout_ms) = options.timeout_ms else {
        cx.reply.null_array();
        return;
    };
    let first_id = options.words_before + options.keys.len();
    let request = || {
        let mut words = OwnedRequest::default();
        for (at, word) in args.request().iter().enumerate() {
            match at.checked_sub(first_id).map(|index| from[index]) {
                Some(From::After(id)) if word == b"$" => words.push(&id.to_vec()),
                _ => words.push(word),
            }
        }
        words
    };
    cx.wait_with(request, &options.keys, awaited, timeout_ms);
}

/// Serves a consumer from one stream; its group was just found.
fn serve(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    from: From,
    options: &Options<'_>,
    reader: Reader<'_>,
    answer: &mut Answer,
) -> CommandResult {
    let mut rewriting = Rewriting::new(cx, key, reader.group);
    let now_ms = super::now_ms(cx);
    // Two lookups, as Redis counts them.
    cx.keys.read(key);
    let outcome = edit_stream(cx, key, |stream, reply| {
        let Stream { entries, groups } = stream;
        let group = groups.get_mut(reader.group).expect("it was just found");
        let (owner, is_new) = group.find_or_make(reader.consumer, now_ms);
        group.consumer_mut(owner).seen_ms = now_ms;
        let mut delivery = Delivery { group, owner, now_ms, rewriting: &mut rewriting, count: 0 };
        let serves = match from {
            From::After(id) => {
                answer.stream(reply, key.bytes);
                delivery.history(entries, id, options.max(), reply);
                true
            }
            From::New if entries.last_live_id() > Some(delivery.group.last_id) => {
                answer.stream(reply, key.bytes);
                delivery.new_entries(entries, options, reply);
                true
            }
            From::New => false,
        };
        (is_new, serves, delivery.count)
    })?;
    let Some((is_new, serves, count)) = outcome else { return Ok(()) };
    if is_new {
        super::group::consumer_made(cx, key);
        // A claim names its consumer; without one, nothing would.
        if count == 0 || !options.acknowledges {
            let mut creation = Rewriting::new(cx, key, reader.group);
            creation.consumer(reader.consumer);
            creation.finish(cx);
        }
    }
    changed_quietly(cx, usize::from(serves));
    rewriting.finish(cx);
    Ok(())
}

/// Entries on their way to a consumer.
struct Delivery<'a, 'k> {
    group: &'a mut Group,
    owner: ConsumerId,
    now_ms: i64,
    rewriting: &'a mut Rewriting<'k>,
    count: usize,
}

impl Delivery<'_, '_> {
    /// What the group has not delivered yet.
    fn new_entries(&mut self, entries: &Entries, options: &Options<'_>, reply: &mut Reply<'_>) {
        let array = reply.begin_deferred();
        let start = self.group.last_id.next();
        let range = start.into_iter().flat_map(|start| entries.range(start, StreamId::MAX));
        for entry in range.take(options.max()) {
            self.group.advance(entries, entry.id);
            write_entry(reply, &entry);
            self.count += 1;
            if !options.acknowledges {
                continue;
            }
            let (consumer, delivered_ms) = (self.owner, self.now_ms);
            let record = Pending { consumer, delivered_ms, deliveries: 1 };
            self.group.assign(entry.id, record);
            self.group.consumer_mut(consumer).active_ms = Some(delivered_ms);
            self.rewriting.claim(entry.id, record, self.group);
        }
        if self.count > 0 {
            self.rewriting.position(self.group);
        }
        reply.end_array(array, self.count);
    }

    /// What the consumer has not acknowledged; of entries that were deleted, only the ID.
    fn history(&mut self, entries: &Entries, after: StreamId, max: usize, reply: &mut Reply<'_>) {
        let own = self.group.consumer(self.owner).pending();
        let ids = after.next().into_iter().flat_map(|start| own.from(start)).take(max);
        let ids: Vec<StreamId> = ids.map(|(id, ())| id).collect();
        reply.array(ids.len());
        for id in ids {
            let Some(entry) = entries.get(id) else {
                reply.array(2);
                write_id(reply, id);
                reply.null_array();
                continue;
            };
            write_entry(reply, &entry);
            let mut record = self.group.pending().get(id).expect("the group has it as well");
            record.delivered_ms = self.now_ms;
            record.deliveries = record.deliveries.saturating_add(1);
            self.group.assign(id, record);
        }
    }
}
