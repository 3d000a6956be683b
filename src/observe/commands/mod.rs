//! INFO, MEMORY, MONITOR ([`monitor`]), SLOWLOG ([`slowlog`]) and LATENCY ([`latency`]).

mod latency;
mod monitor;
mod slowlog;

use super::info::{self, View};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape, help,
};
use crate::engine::Cx;

pub static COMMANDS: &[&Command] =
    &[&INFO, &latency::LATENCY, &MEMORY, &monitor::MONITOR, &slowlog::SLOWLOG];

static INFO: Command = Command {
    name: "info",
    group: Group::Server,
    summary: "Reports the state of the server as lines of fields, in sections.",
    arity: Arity::at_least(1),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL),
    acl: Categories::DANGEROUS,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    history: &[("7.0.0", "Took several sections.")],
    args: &[Arg::string("section").optional().multiple()],
    reply: Shape::Bulk,
    run: info,
    ..Command::BASE
};

fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut asked = Vec::new();
    while !args.is_empty() {
        asked.push(args.bytes());
    }
    let view = View {
        memory: (cx.server.parts.memory)(),
        process: (cx.server.parts.process)(),
        server: cx.server,
        keyspace: cx.keys.space(),
        clients: cx.clients,
    };
    let text = info::report(&view, &asked);
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

static MEMORY: Command = Command {
    name: "memory",
    since: "4.0.0",
    group: Group::Server,
    summary: "Holds the commands about memory.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&HELP, &PURGE, &USAGE],
    ..Command::BASE
};

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
            let own = entry.memory_bytes() + db.index_bytes_of(key.hash, key.bytes);
            cx.reply.integer(own as i64 + db.bytes_per_slot());
        }
        None => cx.reply.null(),
    }
    Ok(())
}
