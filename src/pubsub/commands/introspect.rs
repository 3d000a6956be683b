//! PUBSUB: which channels and patterns are listened to.

use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape, help,
};
use crate::engine::Cx;
use crate::pubsub::Topic;
use crate::structs::glob;

const FLAGS: Flags = Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE);

pub(super) static PUBSUB: Command = Command {
    name: "pubsub",
    since: "2.8.0",
    group: Group::Pubsub,
    summary: "Holds the commands about who listens to what.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&CHANNELS, &HELP, &NUMPAT, &NUMSUB, &SHARDCHANNELS, &SHARDNUMSUB],
    ..Command::BASE
};

static HELP: Command = Command {
    name: "help",
    since: "6.2.0",
    group: Group::Pubsub,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static CHANNELS: Command = Command {
    name: "channels",
    since: "2.8.0",
    group: Group::Pubsub,
    summary: "Lists the channels that somebody listens to.",
    complexity: "O(N) with N such channels",
    arity: Arity::at_least(2),
    flags: FLAGS,
    args: &[Arg::pattern("pattern").optional()],
    reply: Shape::Array,
    example: "> PUBSUB CHANNELS\n(empty array)",
    run: |cx, args| list(cx, args, Topic::Channel),
    ..Command::BASE
};

static SHARDCHANNELS: Command = Command {
    name: "shardchannels",
    since: "7.0.0",
    group: Group::Pubsub,
    summary: "Lists the shard channels that somebody listens to.",
    complexity: "O(N) with N such channels",
    arity: Arity::at_least(2),
    flags: FLAGS,
    args: &[Arg::pattern("pattern").optional()],
    reply: Shape::Array,
    example: "> PUBSUB SHARDCHANNELS\n(empty array)",
    run: |cx, args| list(cx, args, Topic::ShardChannel),
    ..Command::BASE
};

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>, topic: Topic) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("PUBSUB", args.request().arg(1)));
    }
    let pattern = args.peek();
    let fits = |name: &&[u8]| {
        pattern.is_none_or(|pattern| glob::matches(pattern, name, glob::Case::Sensitive))
    };
    let header = cx.reply.begin_deferred();
    let mut count = 0;
    for name in cx.server.pubsub.names(topic).filter(fits) {
        cx.reply.bulk(name);
        count += 1;
    }
    cx.reply.end_array(header, count);
    Ok(())
}

static NUMSUB: Command = Command {
    name: "numsub",
    since: "2.8.0",
    group: Group::Pubsub,
    summary: "Returns how many clients listen to each of the channels.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(2),
    flags: FLAGS,
    args: &[Arg::string("channel").optional().multiple()],
    reply: Shape::Array,
    example: "> PUBSUB NUMSUB news\n1) \"news\"\n2) (integer) 0",
    run: |cx, args| count_listeners(cx, args, Topic::Channel),
    ..Command::BASE
};

static SHARDNUMSUB: Command = Command {
    name: "shardnumsub",
    since: "7.0.0",
    group: Group::Pubsub,
    summary: "Returns how many clients listen to each of the shard channels.",
    complexity: "O(N) with N channels",
    arity: Arity::at_least(2),
    flags: FLAGS,
    args: &[Arg::string("shardchannel").optional().multiple()],
    reply: Shape::Array,
    example: "> PUBSUB SHARDNUMSUB news\n1) \"news\"\n2) (integer) 0",
    run: |cx, args| count_listeners(cx, args, Topic::ShardChannel),
    ..Command::BASE
};

fn count_listeners(cx: &mut Cx<'_>, args: &mut Args<'_>, topic: Topic) -> CommandResult {
    cx.reply.array(args.remaining() * 2);
    while !args.is_empty() {
        let name = args.bytes();
        cx.reply.bulk(name);
        let count = cx.server.pubsub.listener_count(topic, name);
        cx.reply.integer(i64::try_from(count).expect("counts of things in memory fit"));
    }
    Ok(())
}

static NUMPAT: Command = Command {
    name: "numpat",
    since: "2.8.0",
    group: Group::Pubsub,
    summary: "Returns how many different patterns are listened to.",
    arity: Arity::exactly(2),
    flags: FLAGS,
    reply: Shape::Integer,
    example: "> PUBSUB NUMPAT\n(integer) 0",
    run: numpat,
    ..Command::BASE
};

fn numpat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let count = cx.server.pubsub.count(Topic::Pattern);
    cx.reply.integer(i64::try_from(count).expect("counts of things in memory fit"));
    Ok(())
}
