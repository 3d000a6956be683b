//! LATENCY.

use crate::command::table::Row;
use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape, help,
};
use crate::engine::{Cx, Server};
use crate::observe::latency;
use crate::resp::Reply;

const COMMON: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE);

const TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

const SUBCOMMAND: Command = Command {
    since: "2.8.13",
    group: Group::Server,
    arity: Arity::exactly(2),
    flags: COMMON,
    tips: TIPS,
    ..Command::BASE
};

pub(super) static LATENCY: Command = Command {
    name: "latency",
    since: "2.8.13",
    group: Group::Server,
    summary: "Holds the commands about latency.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&DOCTOR, &GRAPH, &HELP, &HISTOGRAM, &HISTORY, &LATEST, &RESET],
    ..Command::BASE
};

static DOCTOR: Command = Command {
    name: "doctor",
    summary: "Says what the latency spikes seen may come from.",
    reply: Shape::Bulk,
    run: doctor,
    ..SUBCOMMAND
};

fn doctor(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let threshold_ms = cx.server.config.latency_monitor_threshold;
    let text = latency::report(&cx.server.latency, threshold_ms);
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

static GRAPH: Command = Command {
    name: "graph",
    summary: "Draws the latency spikes of an event.",
    arity: Arity::exactly(3),
    args: &[Arg::string("event")],
    reply: Shape::Bulk,
    example: "> LATENCY GRAPH command\n(error) ERR No samples available for event 'command'",
    run: graph,
    ..SUBCOMMAND
};

fn graph(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    args.done()?;
    let Some(series) = cx.server.latency.event(name) else {
        let text = [b"ERR No samples available for event '", name, b"'"].concat();
        return Err(CommandError::Bytes(text.into_boxed_slice()));
    };
    let name = String::from_utf8_lossy(name);
    let text = latency::graph(&name, series, cx.server.clock.unix_seconds());
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    flags: Flags::LOADING.or(Flags::STALE),
    tips: &[],
    reply: Shape::Array,
    run: help::subcommands,
    ..SUBCOMMAND
};

static HISTOGRAM: Command = Command {
    name: "histogram",
    since: "7.0.0",
    summary: "Tells how long the calls of commands took, as counts below bounds that double.",
    complexity: "O(N) with N commands that have been called",
    arity: Arity::at_least(2),
    args: &[Arg::string("command").optional().multiple()],
    reply: Shape::Map,
    run: histogram,
    ..SUBCOMMAND
};

fn histogram(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let table = &cx.server.table;
    let mut rows: Vec<&Row> = Vec::new();
    if args.is_empty() {
        rows.extend(table.rows());
    }
    while !args.is_empty() {
        if let Some(id) = table.by_full_name(args.bytes()) {
            rows.push(table.row(id));
            rows.extend(table.children(id));
        }
    }
    rows.retain(|row| cx.server.stats.histograms.get(row.id).is_some());
    cx.reply.map(rows.len());
    for row in rows {
        write_histogram(&mut cx.reply, cx.server, row);
    }
    Ok(())
}

fn write_histogram(reply: &mut Reply<'_>, server: &Server, row: &Row) {
    let Some(histogram) = server.stats.histograms.get(row.id) else { return };
    let buckets = latency::buckets(histogram);
    reply.bulk(row.full_name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(histogram.len().cast_signed());
    reply.bulk(b"histogram_usec");
    reply.map(buckets.len());
    for (bound_us, count) in buckets {
        reply.integer(bound_us.cast_signed());
        reply.integer(count.cast_signed());
    }
}

static HISTORY: Command = Command {
    name: "history",
    summary: "Returns the last latency spikes of an event, the oldest first.",
    arity: Arity::exactly(3),
    args: &[Arg::string("event")],
    reply: Shape::Array,
    example: "> LATENCY HISTORY command\n(empty array)",
    run: history,
    ..SUBCOMMAND
};

fn history(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    args.done()?;
    let Some(series) = cx.server.latency.event(name) else {
        cx.reply.array(0);
        return Ok(());
    };
    cx.reply.array(series.spikes().len());
    for spike in series.spikes() {
        cx.reply.array(2);
        cx.reply.integer(spike.unix_seconds.cast_signed());
        cx.reply.integer(spike.ms.cast_signed());
    }
    Ok(())
}

static LATEST: Command = Command {
    name: "latest",
    summary: "Returns the last latency spike of every event, and its longest one.",
    reply: Shape::Array,
    example: "> LATENCY LATEST\n(empty array)",
    run: latest,
    ..SUBCOMMAND
};

fn latest(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.array(cx.server.latency.events().len());
    for (name, series) in cx.server.latency.events() {
        let last = series.last();
        cx.reply.array(4);
        cx.reply.bulk(name.as_bytes());
        cx.reply.integer(last.unix_seconds.cast_signed());
        cx.reply.integer(last.ms.cast_signed());
        cx.reply.integer(series.max_ms.cast_signed());
    }
    Ok(())
}

static RESET: Command = Command {
    name: "reset",
    summary: "Forgets the latency spikes of some events, or of all.",
    arity: Arity::at_least(2),
    tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
    args: &[Arg::string("event").optional().multiple()],
    reply: Shape::Integer,
    example: "> LATENCY RESET\n(integer) 0",
    run: reset,
    ..SUBCOMMAND
};

fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let monitor = &mut cx.server.latency;
    let mut forgotten = 0;
    if args.is_empty() {
        forgotten = monitor.forget_all();
    }
    while !args.is_empty() {
        forgotten += usize::from(monitor.forget(args.bytes()));
    }
    cx.reply.integer(forgotten as i64);
    Ok(())
}
