//! What a group has delivered and nobody acknowledged: XACK, XPENDING.

use super::{
    changed_quietly, edit_stream, end_of, ids, no_key_or_group, start_of, stream_of, write_id,
};
use crate::command::{
    self, Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::commands::elements::INLINE_ELEMENTS_MAX;
use crate::resp::Reply;
use crate::types::stream::{Group, Pending, StreamId};
use std::borrow::Cow;

pub(super) static XACK: Command = Command {
    name: "xack",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Ends that entries are pending in a group, and counts them.",
    complexity: "O(1) for each entry",
    arity: Arity::at_least(4),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[Arg::key("key"), Arg::string("group"), Arg::string("id").multiple()],
    reply: Shape::Integer,
    example: "> XGROUP CREATE s g 0 MKSTREAM\nOK\n> XACK s g 1-1\n(integer) 0",
    run: xack,
    ..Command::BASE
};

fn xack(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name) = (args.key(), args.bytes());
    let stream = cx.keys.read(&key).map(stream_of).transpose()?;
    if stream.and_then(|stream| stream.groups.get(name)).is_none() {
        cx.reply.integer(0);
        return Ok(());
    }
    let ids = ids(args)?;
    let released = edit_stream(cx, &key, |stream, _| {
        let group = stream.groups.get_mut(name)?;
        Some(ids.iter().filter(|id| group.release(**id).is_some()).count())
    })?;
    let released = released.flatten().unwrap_or(0);
    changed_quietly(cx, released);
    cx.reply.integer(released as i64);
    Ok(())
}

pub(super) static XPENDING: Command = Command {
    name: "xpending",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Sums up or lists the entries that are pending in a group.",
    complexity: "O(N) with N entries looked at, or N consumers",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    acl: Categories::STREAM,
    tips: &["nondeterministic_output"],
    history: &[("6.2.0", "Took `IDLE`, and ends that do not belong to the range.")],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[
        Arg::key("key"),
        Arg::string("group"),
        Arg::block(
            "filters",
            &[
                Arg::integer("min-idle-time").token("IDLE").optional().since("6.2.0"),
                Arg::string("start"),
                Arg::string("end"),
                Arg::integer("count"),
                Arg::string("consumer").optional(),
            ],
        )
        .optional(),
    ],
    reply: Shape::Array,
    example: "> XGROUP CREATE s g 0 MKSTREAM\nOK\n> XPENDING s g\n1) (integer) 0\n2) (nil)\n\
              3) (nil)\n4) (nil)",
    run: xpending,
    ..Command::BASE
};

/// Which pending entries are wanted.
struct Filter<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<Cow<'a, [u8]>>,
}

impl<'a> Filter<'a> {
    /// Reads what stands after the group's name; the count is judged before the ends.
    fn read(args: &mut Args<'a>) -> Result<Option<Filter<'a>>, CommandError> {
        match args.remaining() {
            0 => return Ok(None),
            3..=6 => {}
            _ => return Err(CommandError::Syntax),
        }
        let mut min_idle_ms = 0;
        if args.option("idle") {
            min_idle_ms = args.integer();
            args.check()?;
            if args.remaining() < 3 {
                return Err(CommandError::Syntax);
            }
        }
        let (start, end, count) = (args.bytes(), args.bytes(), args.integer());
        args.check()?;
        let count = usize::try_from(count).unwrap_or(0);
        let (start, end) = (start_of(start)?, end_of(end)?);
        let consumer = (!args.is_empty()).then(|| Cow::Borrowed(args.bytes()));
        Ok(Some(Filter { min_idle_ms, start, end, count, consumer }))
    }

    /// Whether few entries are looked at.
    fn is_short(&self) -> bool {
        self.min_idle_ms == 0 && self.count <= INLINE_ELEMENTS_MAX
    }

    fn into_owned(self) -> Filter<'static> {
        let consumer = self.consumer.map(|name| Cow::Owned(name.into_owned()));
        Filter { consumer, ..self }
    }

    fn wants(&self, record: Pending, now_ms: i64) -> bool {
        self.min_idle_ms == 0 || now_ms.saturating_sub(record.delivered_ms) >= self.min_idle_ms
    }
}

fn xpending(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name) = (args.key(), args.bytes());
    args.check()?;
    let filter = Filter::read(args)?;
    let now_ms = super::now_ms(cx);
    let stream = cx.keys.read(&key).map(stream_of).transpose()?;
    let group = stream.and_then(|stream| stream.groups.get(name));
    let group = group.ok_or_else(|| no_key_or_group(&key, name, ""))?;
    let reply = &mut cx.reply;
    match filter {
        None => sum_up(reply, group),
        // Those that a filter passes over are looked at as well.
        Some(filter) if group.pending().len() > INLINE_ELEMENTS_MAX && !filter.is_short() => {
            let group = group.clone();
            let filter = filter.into_owned();
            return cx.answer_by(move |reply| {
                list(reply, &group, &filter, now_ms);
                Ok(())
            });
        }
        Some(filter) => list(reply, group, &filter, now_ms),
    }
    Ok(())
}

fn sum_up(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending().len() as i64);
    let (Some(first), Some(last)) = (group.pending().first(), group.pending().last()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(reply, first);
    write_id(reply, last);
    let owners = || group.consumers().filter(|consumer| !consumer.pending().is_empty());
    reply.array(owners().count());
    for consumer in owners() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_i64(consumer.pending().len() as i64);
    }
}

fn list(reply: &mut Reply<'_>, group: &Group, filter: &Filter<'_>, now_ms: i64) {
    let array = reply.begin_deferred();
    let mut count = 0;
    let mut write = |id: StreamId, record: Pending| {
        if filter.wants(record, now_ms) {
            reply.array(4);
            write_id(reply, id);
            reply.bulk(group.consumer(record.consumer).name());
            reply.integer(now_ms.saturating_sub(record.delivered_ms).max(0));
            reply.integer(record.deliveries.cast_signed());
            count += 1;
        }
        count < filter.count
    };
    let is_within = |id: StreamId| id <= filter.end;
    match &filter.consumer {
        _ if filter.count == 0 => {}
        None => {
            let pending = group.pending().from(filter.start);
            let _ = { pending }
                .take_while(|(id, _)| is_within(*id))
                .all(|(id, record)| write(id, record));
        }
        Some(name) => {
            if let Some(number) = group.find(name) {
                let own = group.consumer(number).pending().from(filter.start);
                let _ = { own }.take_while(|(id, ())| is_within(*id)).all(|(id, ())| {
                    let record =
                        group.pending().get(id).expect("the group has what a consumer has");
                    write(id, record)
                });
            }
        }
    }
    reply.end_array(array, count);
}
