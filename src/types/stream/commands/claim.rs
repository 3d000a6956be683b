//! Pending entries given to another consumer: XCLAIM by ID, XAUTOCLAIM by age.

use super::{
    INVALID_ID, Rewriting, changed_quietly, edit_stream, no_key_or_group, start_of, stream_of,
    write_entry, write_id,
};
use crate::command::{
    self, Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::resp::Reply;
use crate::types::stream::{ConsumerId, Entries, Group, Pending, StreamId};

pub(super) static XCLAIM: Command = Command {
    name: "xclaim",
    since: "5.0.0",
    group: command::Group::Stream,
    summary: "Gives pending entries to a consumer, if they have been idle for long enough.",
    complexity: "O(log N) for each entry, with N pending in the group",
    arity: Arity::at_least(6),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::string("group"),
        Arg::string("consumer"),
        Arg::string("min-idle-time"),
        Arg::string("id").multiple(),
        Arg::integer("ms").token("IDLE").optional(),
        Arg::unix_time("unix-time-milliseconds").token("TIME").optional(),
        Arg::integer("count").token("RETRYCOUNT").optional(),
        Arg::flag("force", "FORCE").optional(),
        Arg::flag("justid", "JUSTID").optional(),
        Arg::string("lastid").token("LASTID").optional(),
    ],
    reply: Shape::Array,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XGROUP CREATE s g 0\nOK\n\
              > XCLAIM s g c 0 1-1 FORCE JUSTID\n1) \"1-1\"",
    run: xclaim,
    ..Command::BASE
};

/// What XCLAIM is to write into the records.
struct Claim {
    min_idle_ms: i64,
    delivered_ms: i64,
    deliveries: Option<u64>,
    forces: bool,
    just_ids: bool,
    last_id: StreamId,
}

impl Claim {
    fn read(args: &mut Args<'_>, min_idle_ms: i64, now_ms: i64) -> Result<Claim, CommandError> {
        let mut claim = Claim {
            min_idle_ms,
            delivered_ms: now_ms,
            deliveries: None,
            forces: false,
            just_ids: false,
            last_id: StreamId::MIN,
        };
        // A time that makes no sense is that of now: clients' clocks differ.
        let sane = |ms: Option<i64>| ms.filter(|ms| (0..=now_ms).contains(ms)).unwrap_or(now_ms);
        while !args.is_empty() {
            if args.option("force") {
                claim.forces = true;
            } else if args.option("justid") {
                claim.just_ids = true;
            } else if args.option_with_value("idle") {
                let idle_ms = number(args, "ERR Invalid IDLE option argument for XCLAIM")?;
                claim.delivered_ms = sane(now_ms.checked_sub(idle_ms));
            } else if args.option_with_value("time") {
                let at_ms = number(args, "ERR Invalid TIME option argument for XCLAIM")?;
                claim.delivered_ms = sane(Some(at_ms));
            } else if args.option_with_value("retrycount") {
                let count = number(args, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                claim.deliveries = u64::try_from(count).ok();
            } else if args.option_with_value("lastid") {
                claim.last_id = StreamId::parse(args.bytes(), 0).ok_or(INVALID_ID)?;
            } else {
                let option = args.bytes();
                let head = b"ERR Unrecognized XCLAIM option '";
                return Err(super::named_error(&[head, option, b"'"]));
            }
        }
        Ok(claim)
    }
}

/// The next arguments as long as they are IDs; what is none may be an option.
fn leading_ids(args: &mut Args<'_>) -> Vec<StreamId> {
    let mut all = Vec::new();
    while let Some(id) = args.peek().and_then(|text| StreamId::parse(text, 0)) {
        args.bytes();
        all.push(id);
    }
    all
}

fn number(args: &mut Args<'_>, error: &'static str) -> Result<i64, CommandError> {
    let number = args.integer_or(CommandError::Fixed(error));
    args.check()?;
    Ok(number)
}

fn xclaim(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.key(), args.bytes(), args.bytes());
    check_group(cx, &key, name)?;
    let now_ms = super::now_ms(cx);
    let min_idle_ms = number(args, "ERR Invalid min-idle-time argument for XCLAIM")?;
    let ids = leading_ids(args);
    let claim = Claim::read(args, min_idle_ms, now_ms)?;
    let rewriting = Rewriting::new(cx, &key, name);
    let claimer = edit_stream(cx, &key, |stream, reply| {
        let group = stream.groups.get_mut(name).expect("it was just found");
        let advances = claim.last_id > group.last_id;
        group.last_id = group.last_id.max(claim.last_id);
        let mut claimer = Claimer::new(group, consumer, now_ms, rewriting);
        let array = reply.begin_deferred();
        for id in ids {
            claimer.claim(&stream.entries, group, id, &claim, reply);
        }
        reply.end_array(array, claimer.claimed);
        if advances && claimer.changes == 0 {
            claimer.rewriting.position(group);
            claimer.changes += 1;
        }
        claimer
    })?;
    claimer.expect("the stream was just found").finish(cx, &key, consumer);
    Ok(())
}

/// The group must be there.
fn check_group(cx: &Cx<'_>, key: &Key<'_>, name: &[u8]) -> CommandResult {
    let stream = cx.keys.read(key).map(stream_of).transpose()?;
    let group = stream.and_then(|stream| stream.groups.get(name));
    group.map(|_| ()).ok_or_else(|| no_key_or_group(key, name, ""))
}

/// One consumer who takes over entries, and what it did.
struct Claimer<'a> {
    owner: ConsumerId,
    is_new: bool,
    now_ms: i64,
    rewriting: Rewriting<'a>,
    claimed: usize,
    changes: usize,
}

impl<'a> Claimer<'a> {
    fn new(group: &mut Group, name: &[u8], now_ms: i64, rewriting: Rewriting<'a>) -> Claimer<'a> {
        let (owner, is_new) = group.find_or_make(name, now_ms);
        group.consumer_mut(owner).seen_ms = now_ms;
        Claimer { owner, is_new, now_ms, rewriting, claimed: 0, changes: 0 }
    }

    fn is_idle(&self, record: Pending, min_idle_ms: i64) -> bool {
        min_idle_ms <= 0 || self.now_ms.saturating_sub(record.delivered_ms) >= min_idle_ms
    }

    /// Takes over an entry as XCLAIM does.
    fn claim(
        &mut self,
        entries: &Entries,
        group: &mut Group,
        id: StreamId,
        claim: &Claim,
        reply: &mut Reply<'_>,
    ) {
        let known = group.pending().get(id);
        let Some(entry) = entries.get(id) else {
            if let Some(record) = known {
                self.forget(group, id, record);
            }
            return;
        };
        let old = match known {
            Some(record) if self.is_idle(record, claim.min_idle_ms) => record,
            None if claim.forces => {
                Pending { consumer: self.owner, delivered_ms: self.now_ms, deliveries: 1 }
            }
            _ => return,
        };
        let counted = old.deliveries.saturating_add(u64::from(!claim.just_ids));
        let deliveries = claim.deliveries.unwrap_or(counted);
        let delivered_ms = claim.delivered_ms;
        self.take(group, id, Pending { consumer: self.owner, delivered_ms, deliveries });
        if claim.just_ids {
            write_id(reply, id);
        } else {
            write_entry(reply, &entry);
        }
    }

    fn take(&mut self, group: &mut Group, id: StreamId, record: Pending) {
        group.assign(id, record);
        group.consumer_mut(self.owner).active_ms = Some(self.now_ms);
        self.rewriting.claim(id, record, group);
        self.claimed += 1;
        self.changes += 1;
    }

    /// Ends that an entry is pending which is in the stream no more.
    fn forget(&mut self, group: &mut Group, id: StreamId, record: Pending) {
        self.rewriting.claim(id, record, group);
        group.release(id);
        self.changes += 1;
    }

    fn finish(mut self, cx: &mut Cx<'_>, key: &Key<'_>, name: &[u8]) {
        if self.is_new {
            super::group::consumer_made(cx, key);
            if self.claimed == 0 {
                self.rewriting.consumer(name);
            }
        }
        changed_quietly(cx, self.changes);
        self.rewriting.finish(cx);
    }
}

pub(super) static XAUTOCLAIM: Command = Command {
    name: "xautoclaim",
    since: "6.2.0",
    group: command::Group::Stream,
    summary: "Gives a consumer the pending entries that have been idle for long enough.",
    complexity: "O(1) if few are asked for",
    arity: Arity::at_least(6),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::STREAM,
    tips: &["nondeterministic_output"],
    history: &[("7.0.0", "Lists the pending entries that were deleted, which it forgets.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))],
    args: &[
        Arg::key("key"),
        Arg::string("group"),
        Arg::string("consumer"),
        Arg::string("min-idle-time"),
        Arg::string("start"),
        Arg::integer("count").token("COUNT").optional(),
        Arg::flag("justid", "JUSTID").optional(),
    ],
    reply: Shape::Array,
    example: "> XADD s 1-1 f v\n\"1-1\"\n> XGROUP CREATE s g 0\nOK\n\
              > XCLAIM s g a 0 1-1 FORCE JUSTID\n1) \"1-1\"\n\
              > XAUTOCLAIM s g b 0 - JUSTID\n1) \"0-0\"\n2) 1) \"1-1\"\n3) (empty array)",
    run: xautoclaim,
    ..Command::BASE
};

/// What XAUTOCLAIM is to look at.
struct Search {
    min_idle_ms: i64,
    start: StreamId,
    count: i64,
    just_ids: bool,
}

impl Search {
    /// So many pending entries are looked at for each that is wanted.
    const ATTEMPTS: i64 = 10;
    const COUNT_MAX: i64 = i64::MAX / 16;

    fn read(args: &mut Args<'_>) -> Result<Search, CommandError> {
        const BAD_COUNT: CommandError = CommandError::Fixed("ERR COUNT must be > 0");
        let min_idle_ms = number(args, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
        let start = start_of(args.bytes())?;
        let mut search = Search { min_idle_ms, start, count: 100, just_ids: false };
        while !args.is_empty() {
            if args.option_with_value("count") {
                let count = args.integer_or(BAD_COUNT);
                args.check()?;
                if !(1..=Search::COUNT_MAX).contains(&count) {
                    return Err(BAD_COUNT);
                }
                search.count = count;
            } else if args.option("justid") {
                search.just_ids = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }
}

fn xautoclaim(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.key(), args.bytes(), args.bytes());
    let search = Search::read(args)?;
    check_group(cx, &key, name)?;
    let rewriting = Rewriting::new(cx, &key, name);
    let now_ms = super::now_ms(cx);
    let claimer = edit_stream(cx, &key, |stream, reply| {
        let group = stream.groups.get_mut(name).expect("it was just found");
        let mut claimer = Claimer::new(group, consumer, now_ms, rewriting);
        claimer.search(&stream.entries, group, &search, reply);
        claimer
    })?;
    claimer.expect("the stream was just found").finish(cx, &key, consumer);
    Ok(())
}

impl Claimer<'_> {
    /// Takes over what has been idle for long enough, as XAUTOCLAIM does, and answers.
    fn search(
        &mut self,
        entries: &Entries,
        group: &mut Group,
        search: &Search,
        reply: &mut Reply<'_>,
    ) {
        let mut claimed: Vec<StreamId> = Vec::new();
        let mut deleted: Vec<StreamId> = Vec::new();
        let (mut attempts, mut count) = (search.count * Search::ATTEMPTS, search.count);
        let mut next = Some(search.start);
        while attempts > 0 && count > 0 {
            let Some((id, record)) = next.and_then(|next| group.pending().from(next).next()) else {
                next = None;
                break;
            };
            next = id.next();
            attempts -= 1;
            if entries.get(id).is_none() {
                self.forget(group, id, record);
                deleted.push(id);
                count -= 1;
            } else if self.is_idle(record, search.min_idle_ms) {
                let deliveries = record.deliveries.saturating_add(u64::from(!search.just_ids));
                let owner = self.owner;
                let record = Pending { consumer: owner, delivered_ms: self.now_ms, deliveries };
                self.take(group, id, record);
                claimed.push(id);
                count -= 1;
            }
        }
        let next = next.and_then(|next| group.pending().from(next).next());
        reply.array(3);
        write_id(reply, next.map_or(StreamId::MIN, |(id, _)| id));
        reply.array(claimed.len());
        for id in claimed {
            match entries.get(id) {
                Some(entry) if !search.just_ids => write_entry(reply, &entry),
                _ => write_id(reply, id),
            }
        }
        reply.array(deleted.len());
        deleted.into_iter().for_each(|id| write_id(reply, id));
    }
}
