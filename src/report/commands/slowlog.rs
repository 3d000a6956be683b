//! SLOWLOG.

use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape, help,
};
use crate::engine::Cx;
use crate::observe::slow_log::Numbered;

const COUNT_DEFAULT: i64 = 10;

const COMMON: Flags = Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE);

pub(super) static SLOWLOG: Command = Command {
    name: "slowlog",
    since: "2.2.12",
    group: Group::Server,
    summary: "Holds the commands about slow commands.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&GET, &HELP, &LEN, &RESET],
    ..Command::BASE
};

static GET: Command = Command {
    name: "get",
    since: "2.2.12",
    group: Group::Server,
    summary: "Returns the last slow commands, the newest first.",
    complexity: "O(N) with N entries returned",
    arity: Arity::at_least(2),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "nondeterministic_output"],
    history: &[("4.0.0", "Tells the client's address and name.")],
    args: &[Arg::integer("count").optional()],
    reply: Shape::Array,
    example: "> CONFIG SET slowlog-log-slower-than -1\nOK\n> SLOWLOG RESET\nOK\n\
              > SLOWLOG GET\n(empty array)",
    run: get,
    ..Command::BASE
};

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const RANGE: CommandError =
        CommandError::Fixed("ERR count should be greater than or equal to -1");
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("SLOWLOG", args.request().arg(1)));
    }
    let count = if args.is_empty() { COUNT_DEFAULT } else { args.integer_or(RANGE) };
    args.done()?;
    if count < -1 {
        return Err(RANGE);
    }
    let slow_log = &cx.server.slow_log;
    let shown = usize::try_from(count).unwrap_or(usize::MAX).min(slow_log.len());
    let reply = &mut cx.reply;
    reply.array(shown);
    for Numbered { id, entry } in slow_log.iter().take(shown) {
        reply.array(6);
        reply.integer(id.cast_signed());
        reply.integer(entry.unix_seconds.cast_signed());
        reply.integer(entry.elapsed_us.cast_signed());
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(entry.client_name.as_bytes());
    }
    Ok(())
}

static HELP: Command = Command {
    name: "help",
    since: "6.2.0",
    group: Group::Server,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static LEN: Command = Command {
    name: "len",
    since: "2.2.12",
    group: Group::Server,
    summary: "Returns how many slow commands are remembered.",
    arity: Arity::exactly(2),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
    reply: Shape::Integer,
    example: "> CONFIG SET slowlog-log-slower-than -1\nOK\n> SLOWLOG RESET\nOK\n\
              > SLOWLOG LEN\n(integer) 0",
    run: len,
    ..Command::BASE
};

fn len(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.integer(cx.server.slow_log.len() as i64);
    Ok(())
}

static RESET: Command = Command {
    name: "reset",
    since: "2.2.12",
    group: Group::Server,
    summary: "Forgets the slow commands.",
    complexity: "O(N) with N entries remembered",
    arity: Arity::exactly(2),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    reply: Shape::Ok,
    example: "> SLOWLOG RESET\nOK",
    run: reset,
    ..Command::BASE
};

fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.server.slow_log.clear();
    cx.reply.ok();
    Ok(())
}
