//! MEMORY: what the memory is used for, and what may be wrong with it.
//!
//! The figures are those of INFO, from the same functions, so that the two never differ. Where
//! Redis counts tables and the objects in them, this is about the nodes of the keyspace.

use super::super::info::memory as figures;
use super::super::info::{View, human};
use super::view;
use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, KeyFlags, KeySpec, Shape,
    help,
};
use crate::engine::Cx;
use crate::engine::session::ClientKind;
use crate::resp::Reply;
use crate::structs::pins;
use std::fmt::Write;

/// Every shard has memory of its own.
const EACH_SHARD: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

pub(super) static MEMORY: Command = Command {
    name: "memory",
    since: "4.0.0",
    group: Group::Server,
    summary: "Holds the commands about memory.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&DOCTOR, &HELP, &MALLOC_STATS, &PURGE, &STATS, &USAGE],
    ..Command::BASE
};

static DOCTOR: Command = Command {
    name: "doctor",
    since: "4.0.0",
    group: Group::Server,
    summary: "Says what looks wrong with the use of memory.",
    arity: Arity::exactly(2),
    tips: EACH_SHARD,
    reply: Shape::Bulk,
    run: doctor,
    ..Command::BASE
};

/// An instance with less than this has no figures worth judging.
const JUDGED_FROM_BYTES: u64 = 5 << 20;
/// Waste below this is not worth a word.
const WASTE_BYTES_MIN: u64 = 10 << 20;
const CLIENT_BYTES_MAX: u64 = 200 << 10;
const REPLICA_BYTES_MAX: u64 = 10 << 20;

fn doctor(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let text = diagnose(&view(cx));
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// A finding is a figure, and what to do about it.
fn diagnose(view: &View<'_>) -> String {
    let used = figures::used(view);
    if used < JUDGED_FROM_BYTES {
        return "There is too little data in this instance for its figures to mean anything.\n"
            .to_owned();
    }
    let mut text = String::new();
    let mut find = |is_wrong: bool, finding: std::fmt::Arguments<'_>| {
        if is_wrong {
            write!(text, " * {finding}\n\n").expect("writing to a string cannot fail");
        }
    };
    let peak = figures::peak(view);
    let is_wasteful = |whole: u64, part: u64, tenths: u64| {
        whole * 10 > part * tenths && whole.saturating_sub(part) > WASTE_BYTES_MIN
    };
    find(
        peak * 2 > used * 3,
        format_args!(
            "Peak: up to {} have been in use, and now {} are. The allocator may keep the rest for \
             later; MEMORY PURGE gives it back to the system.",
            human(peak),
            human(used)
        ),
    );
    let (active, resident) = (view.memory.active_bytes as u64, view.memory.resident_bytes as u64);
    let process = view.process.resident_bytes;
    find(
        is_wasteful(process, used, 14),
        format_args!("Resident memory: the process takes {} for this.", human(process)),
    );
    find(
        is_wasteful(active, used, 11),
        format_args!(
            "Fragmentation: the allocator's pages take {}. After a peak or many deletions this \
             is usual, and new data fills the gaps.",
            human(active)
        ),
    );
    find(
        is_wasteful(resident, active, 11),
        format_args!("Idle pages: the allocator keeps {}. Try MEMORY PURGE.", human(resident)),
    );
    find(
        is_wasteful(process, resident, 11),
        format_args!(
            "Outside of the allocator: of {} it knows nothing.",
            human(process - resident)
        ),
    );
    let memory = view.clients.memory();
    let replicas = view.clients.iter().filter(|client| client.kind == ClientKind::Replica).count();
    let clients = (view.clients.len() - replicas).max(1) as u64;
    find(
        figures::clients(view) / clients > CLIENT_BYTES_MAX,
        format_args!(
            "Clients: {} each on average. Do some not read their replies? CLIENT LIST shows it, \
             maxmemory-clients limits it.",
            human(figures::clients(view) / clients)
        ),
    );
    find(
        memory.of(ClientKind::Replica) as u64 > REPLICA_BYTES_MAX * replicas as u64,
        format_args!("Replicas: some do not keep up; INFO replication shows which."),
    );
    if text.is_empty() {
        return "Nothing looks wrong with the use of memory.\n".to_owned();
    }
    format!("What looks wrong with the use of memory:\n\n{text}")
}

static HELP: Command = Command {
    name: "help",
    since: "4.0.0",
    group: Group::Server,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static MALLOC_STATS: Command = Command {
    name: "malloc-stats",
    since: "4.0.0",
    group: Group::Server,
    summary: "Returns what the allocator says about itself.",
    complexity: "Depends on how much memory is allocated",
    arity: Arity::exactly(2),
    tips: EACH_SHARD,
    reply: Shape::Bulk,
    run: malloc_stats,
    ..Command::BASE
};

fn malloc_stats(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let report = cx.server.parts.memory_report;
    cx.answer_by(move |reply| {
        reply.verbatim(b"txt", report().as_bytes());
        Ok(())
    })
}

static PURGE: Command = Command {
    name: "purge",
    since: "4.0.0",
    group: Group::Server,
    summary: "Gives memory that the allocator keeps for later back to the system.",
    complexity: "Depends on how much there is to give back",
    arity: Arity::exactly(2),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    reply: Shape::Ok,
    run: purge,
    ..Command::BASE
};

fn purge(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if !(cx.server.parts.purge)() {
        return Err(CommandError::Fixed("ERR Error purging dirty pages"));
    }
    cx.reply.ok();
    Ok(())
}

static STATS: Command = Command {
    name: "stats",
    since: "4.0.0",
    group: Group::Server,
    summary: "Returns the figures about memory by what it is used for.",
    arity: Arity::exactly(2),
    tips: EACH_SHARD,
    reply: Shape::Map,
    run: stats,
    ..Command::BASE
};

/// A figure of MEMORY STATS.
enum Figure {
    Count(u64),
    Number(f64),
    /// What the nodes of a database take.
    Nodes(u64),
}

fn stats(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let list = list_figures(&view(cx));
    cx.reply.map(list.len());
    for (name, figure) in list {
        cx.reply.bulk(name.as_bytes());
        put_figure(&mut cx.reply, &figure);
    }
    Ok(())
}

fn put_figure(reply: &mut Reply<'_>, figure: &Figure) {
    match figure {
        Figure::Count(count) => reply.integer(i64::try_from(*count).unwrap_or(i64::MAX)),
        Figure::Number(number) => reply.double(*number),
        Figure::Nodes(bytes) => {
            reply.map(3);
            reply.bulk(b"overhead.hashtable.main");
            reply.integer(i64::try_from(*bytes).unwrap_or(i64::MAX));
            reply.bulk(b"overhead.hashtable.expires");
            reply.integer(0);
            reply.bulk(b"overhead.hashtable.slot-to-keys");
            reply.integer(0);
        }
    }
}

fn list_figures(view: &View<'_>) -> Vec<(String, Figure)> {
    let mut list = Vec::with_capacity(40);
    let mut count = |name: &str, count: u64| list.push((name.to_owned(), Figure::Count(count)));
    count("peak.allocated", figures::peak(view));
    count("total.allocated", figures::used(view));
    count("startup.allocated", figures::startup(view));
    count("snapshot.pinned", pins::bytes());
    count("replication.backlog", 0);
    count("clients.slaves", view.clients.memory().of(ClientKind::Replica) as u64);
    count("clients.normal", figures::clients(view));
    count("cluster.links", view.server.bus_bytes() as u64);
    count("aof.buffer", 0);
    let scripts = figures::scripts(view);
    count("lua.caches", scripts.eval as u64);
    count("functions.caches", scripts.library_bytes as u64);
    count("script.VMs", scripts.vm_total() as u64);
    let dbs = view.keyspace.dbs();
    for (index, db) in dbs.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        list.push((format!("db.{index}"), Figure::Nodes(db.overhead_bytes() as u64)));
    }
    let keys = dbs.iter().map(|db| db.len() as u64).sum::<u64>();
    let (used, dataset) = (figures::used(view), figures::dataset(view));
    let mut count = |name: &str, count: u64| list.push((name.to_owned(), Figure::Count(count)));
    count("overhead.total", figures::overhead(view));
    count("keys.count", keys);
    count("keys.bytes-per-key", dataset.checked_div(keys).unwrap_or(0));
    count("dataset.bytes", dataset);
    let mut number = |name: &str, part: u64, whole: u64, unit: f64| {
        let share = if whole == 0 { 0.0 } else { part as f64 * unit / whole as f64 };
        list.push((name.to_owned(), Figure::Number(share)));
    };
    let net = used.saturating_sub(figures::startup(view));
    number("dataset.percentage", dataset, net, 100.0);
    number("peak.percentage", used, figures::peak(view), 100.0);
    list_allocator_figures(view, &mut list);
    list
}

fn list_allocator_figures(view: &View<'_>, list: &mut Vec<(String, Figure)>) {
    let (active, resident) = (view.memory.active_bytes as u64, view.memory.resident_bytes as u64);
    let (used, process) = (figures::used(view), view.process.resident_bytes);
    for (name, bytes) in [("allocated", used), ("active", active), ("resident", resident)] {
        list.push((format!("allocator.{name}"), Figure::Count(bytes)));
    }
    let pairs = [
        ("allocator-fragmentation.ratio", "allocator-fragmentation.bytes", active, used),
        ("allocator-rss.ratio", "allocator-rss.bytes", resident, active),
        ("rss-overhead.ratio", "rss-overhead.bytes", process, resident),
        ("fragmentation", "fragmentation.bytes", process, used),
    ];
    for (ratio, bytes, whole, part) in pairs {
        let quotient = if part == 0 { 0.0 } else { whole as f64 / part as f64 };
        list.push((ratio.to_owned(), Figure::Number(quotient)));
        list.push((bytes.to_owned(), Figure::Count(whole.saturating_sub(part))));
    }
}

static USAGE: Command = Command {
    name: "usage",
    since: "4.0.0",
    group: Group::Server,
    summary: "Estimates the bytes that a key takes, with its value and what administers it.",
    complexity: "O(N) with N sampled elements",
    arity: Arity::at_least(3),
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, KeyFlags::RO)],
    args: &[Arg::key("key"), Arg::integer("count").token("SAMPLES").optional()],
    reply: Shape::IntegerOrNull,
    example: "> MEMORY USAGE nothing\n(nil)",
    run: usage,
    ..Command::BASE
};

fn usage(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    while !args.is_empty() {
        if !args.option_with_value("samples") {
            return Err(CommandError::Syntax);
        }
        let samples = args.integer();
        args.check()?;
        if samples < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match cx.keys.peek(&key) {
        Some(entry) => {
            let db = cx.keys.db();
            let own = entry.memory_bytes() + db.index_bytes_of(&key);
            cx.reply.integer(own as i64 + db.bytes_per_slot());
        }
        None => cx.reply.null(),
    }
    Ok(())
}
