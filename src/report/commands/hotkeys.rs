//! HOTKEYS: the keys that are used most and the largest ones.
//!
//! The record is always kept, so GET answers without START. In Redis 8.6, whose documentation this
//! follows, it answers null then. START measures beside it, without fading, with a sample of its
//! own; its result stands in place of the record until RESET.

use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape, help,
};
use crate::engine::{Cx, hot_keys};
use crate::observe::hot_keys::{
    HALF_LIFE_SECONDS, Ranking, Rankings, SAMPLE_MEAN, Session, Totals,
};
use crate::resp::Reply;
use crate::types::Kind;

/// Keys of each ranking that are shown unless COUNT says otherwise, and the most it may say.
const COUNT_DEFAULT: usize = 10;
const COUNT_MAX: i64 = 64;

const SUBCOMMAND: Command = Command {
    since: "8.6.0",
    group: Group::Server,
    arity: Arity::exactly(2),
    flags: Flags::ADMIN.or(Flags::NOSCRIPT),
    tips: &["request_policy:special"],
    ..Command::BASE
};

pub(super) static HOTKEYS: Command = Command {
    name: "hotkeys",
    since: "8.6.0",
    group: Group::Server,
    summary: "Holds the commands about hot and large keys.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&GET, &HELP, &RESET, &START, &STOP],
    ..Command::BASE
};

static GET: Command = Command {
    name: "get",
    summary: "Returns the keys that cost the most, and the largest ones.",
    complexity: "O(K) with K keys returned",
    reply: Shape::Array,
    run: get,
    ..SUBCOMMAND
};

/// What GET answers from: a measurement, or the record.
struct Answer<'a> {
    is_active: bool,
    ratio: u64,
    count: usize,
    rankings: &'a Rankings,
    has_time: bool,
    has_bytes: bool,
    started_unix_ms: u64,
    duration_ms: u64,
    spent: Totals,
}

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    hot_keys::refresh(cx.server, cx.keys.space());
    let totals = hot_keys::totals(cx.server, &(cx.server.parts.process)());
    let server = &*cx.server;
    let now = server.clock.now();
    let answer = match &server.hot_keys.session {
        Some(session) => {
            let until_ms = session.ended.map_or(server.clock.mono_ms(), |ended| ended.mono_ms);
            Answer {
                is_active: session.ended.is_none(),
                ratio: session.ratio,
                count: session.count,
                rankings: &session.rankings,
                has_time: session.has_time,
                has_bytes: session.has_bytes,
                started_unix_ms: session.started_unix_ms,
                duration_ms: until_ms.saturating_sub(session.started_mono_ms),
                spent: session.ended.map_or(totals.since(session.totals), |ended| ended.spent),
            }
        }
        None => Answer {
            is_active: false,
            ratio: u64::from(SAMPLE_MEAN),
            count: COUNT_DEFAULT,
            rankings: &server.hot_keys.rankings,
            has_time: true,
            has_bytes: true,
            started_unix_ms: server.clock.started().unix_us / 1000,
            duration_ms: now.mono_us.saturating_sub(server.clock.started().mono_us) / 1000,
            spent: totals,
        },
    };
    let reply = &mut cx.reply;
    reply.array(1);
    write_answer(reply, &answer);
    write_largest(reply, &server.hot_keys.big);
    Ok(())
}

fn write_answer(reply: &mut Reply<'_>, answer: &Answer<'_>) {
    const ALWAYS: usize = 10;
    reply.map(ALWAYS + if answer.has_time { 3 } else { 0 } + if answer.has_bytes { 2 } else { 0 });
    field(reply, "tracking-active", u64::from(answer.is_active));
    field(reply, "sample-ratio", answer.ratio);
    reply.bulk(b"selected-slots");
    reply.array(1);
    reply.array(2);
    reply.integer(0);
    reply.integer(16383);
    field(reply, "all-commands-all-slots-us", answer.spent.command_us);
    field(reply, "net-bytes-all-commands-all-slots", answer.spent.net_bytes);
    field(reply, "collection-start-time-unix-ms", answer.started_unix_ms);
    field(reply, "collection-duration-ms", answer.duration_ms);
    let rankings = answer.rankings;
    if answer.has_time {
        field(reply, "total-cpu-time-user-ms", answer.spent.user_ms);
        field(reply, "total-cpu-time-sys-ms", answer.spent.system_ms);
    }
    if answer.has_bytes {
        field(reply, "total-net-bytes", answer.spent.net_bytes);
    }
    if answer.has_time {
        write_ranking(reply, "by-cpu-time-us", &rankings.by_time, answer.count, 1000.0);
    }
    if answer.has_bytes {
        write_ranking(reply, "by-net-bytes", &rankings.by_bytes, answer.count, 1.0);
    }
    write_ranking(reply, "by-calls", &rankings.by_calls, answer.count, 1.0);
    field(reply, "half-life-seconds", HALF_LIFE_SECONDS);
}

fn field(reply: &mut Reply<'_>, name: &str, value: u64) {
    reply.bulk(name.as_bytes());
    reply.integer(value.cast_signed());
}

fn write_ranking(reply: &mut Reply<'_>, name: &str, ranking: &Ranking, count: usize, unit: f64) {
    let top = ranking.top(count);
    reply.bulk(name.as_bytes());
    reply.array(top.len() * 2);
    for (key, weight) in top {
        reply.bulk(&key.key);
        reply.integer((weight / unit).round() as i64);
    }
}

/// The last field: of every type the largest keys, each with its database, type and bytes.
fn write_largest(reply: &mut Reply<'_>, big: &crate::observe::hot_keys::BigKeys) {
    let of_kind = |kind| big.top(kind).into_iter().map(move |big| (kind, big));
    let all: Vec<_> = Kind::ALL.into_iter().flat_map(of_kind).collect();
    reply.bulk(b"largest-keys");
    reply.array(all.len());
    for (kind, big) in all {
        reply.array(4);
        reply.bulk(&big.key.key);
        reply.integer(big.key.db as i64);
        reply.bulk(kind.name().as_bytes());
        reply.integer(big.bytes as i64);
    }
}

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..SUBCOMMAND
};

static RESET: Command = Command {
    name: "reset",
    summary: "Drops the result of a measurement that has ended.",
    reply: Shape::Ok,
    example: "> HOTKEYS RESET\nOK",
    run: reset,
    ..SUBCOMMAND
};

fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if !cx.server.hot_keys.forget_session() {
        return Err(CommandError::Fixed("ERR hotkeys tracking is in progress, stop it first"));
    }
    cx.reply.ok();
    Ok(())
}

static START: Command = Command {
    name: "start",
    summary: "Begins a measurement of what keys cost.",
    complexity: "O(1)",
    arity: Arity::at_least(4),
    args: &[
        Arg::block(
            "metrics",
            &[
                Arg::integer("count"),
                Arg::flag("cpu", "CPU").optional(),
                Arg::flag("net", "NET").optional(),
            ],
        )
        .token("METRICS"),
        Arg::integer("k").token("COUNT").optional(),
        Arg::integer("seconds").token("DURATION").optional(),
        Arg::integer("ratio").token("SAMPLE").optional(),
        Arg::block("slots", &[Arg::integer("count"), Arg::integer("slot").multiple()])
            .token("SLOTS")
            .optional(),
    ],
    reply: Shape::Ok,
    example: "> HOTKEYS START METRICS 2 CPU NET COUNT 5\nOK\n> HOTKEYS STOP\nOK\n\
              > HOTKEYS STOP\n(nil)",
    run: start,
    ..SUBCOMMAND
};

/// What START is asked for.
struct Wanted {
    has_time: bool,
    has_bytes: bool,
    count: usize,
    seconds: u64,
    ratio: u64,
}

impl Wanted {
    fn read(args: &mut Args<'_>) -> Result<Wanted, CommandError> {
        if !args.option_with_value("metrics") {
            return Err(CommandError::Fixed("ERR METRICS parameter is required"));
        }
        const METRICS: CommandError = CommandError::Fixed("ERR METRICS count must be 1 or 2");
        let metrics = args.integer_in(1..=2, METRICS);
        args.check()?;
        let (mut has_time, mut has_bytes) = (false, false);
        for _ in 0..metrics {
            if !has_time && args.option("cpu") {
                has_time = true;
            } else if !has_bytes && args.option("net") {
                has_bytes = true;
            } else {
                args.check()?;
                return Err(CommandError::Fixed(
                    "ERR METRICS count does not match number of metric types provided",
                ));
            }
        }
        let (mut count, mut seconds, mut ratio) = (COUNT_DEFAULT, 0, 1);
        while !args.is_empty() {
            if args.option_with_value("count") {
                const RANGE: CommandError =
                    CommandError::Fixed("ERR COUNT must be between 1 and 64");
                count = args.integer_in(1..=COUNT_MAX, RANGE).unsigned_abs() as usize;
            } else if args.option_with_value("duration") {
                const RANGE: CommandError =
                    CommandError::Fixed("ERR DURATION must be between 0 and 1000000");
                seconds = args.integer_in(0..=1_000_000, RANGE).unsigned_abs();
            } else if args.option_with_value("sample") {
                const RANGE: CommandError = CommandError::Fixed("ERR SAMPLE must be positive");
                ratio = args.integer_in(1..=i64::MAX, RANGE).unsigned_abs();
            } else if args.option_with_value("slots") {
                return Err(CommandError::Fixed(
                    "ERR SLOTS parameter cannot be used in non-cluster mode",
                ));
            } else {
                return Err(CommandError::Syntax);
            }
            args.check()?;
        }
        Ok(Wanted { has_time, has_bytes, count, seconds, ratio })
    }
}

fn start(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let wanted = Wanted::read(args)?;
    args.done()?;
    let mono_ms = cx.server.clock.mono_ms();
    let session = Session {
        rankings: Rankings::default(),
        has_time: wanted.has_time,
        has_bytes: wanted.has_bytes,
        count: wanted.count,
        ratio: wanted.ratio,
        started_unix_ms: cx.server.clock.unix_ms(),
        started_mono_ms: mono_ms,
        until_mono_ms: (wanted.seconds > 0).then(|| mono_ms + wanted.seconds * 1000),
        totals: hot_keys::totals(cx.server, &(cx.server.parts.process)()),
        ended: None,
    };
    if !cx.server.hot_keys.start(session) {
        return Err(CommandError::Fixed("ERR hotkeys collection is already in progress"));
    }
    cx.reply.ok();
    Ok(())
}

static STOP: Command = Command {
    name: "stop",
    summary: "Ends the measurement; its result stays until RESET or START.",
    reply: Shape::OkOrNull,
    example: "> HOTKEYS STOP\n(nil)",
    run: stop,
    ..SUBCOMMAND
};

fn stop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if hot_keys::stop(cx.server) {
        cx.reply.ok();
    } else {
        cx.reply.null();
    }
    Ok(())
}
