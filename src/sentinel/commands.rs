//! SENTINEL, which only a Sentinel has. What it does is in [`super::answers`].

use crate::command::{
    Arg, Args, Arity, Command, CommandResult, Deprecated, Flags, Group, Shape, help,
};
use crate::engine::Cx;
use crate::resp::Request;

pub static COMMANDS: &[&Command] = &[&SENTINEL];

/// What all of them share: one handler, since the machine reads the words.
const BASE: Command = Command {
    since: "2.8.4",
    group: Group::Sentinel,
    flags: Flags::ADMIN.or(Flags::SENTINEL).or(Flags::ONLY_SENTINEL),
    run: sentinel,
    ..Command::BASE
};

static SENTINEL: Command = Command {
    name: "sentinel",
    summary: "Holds the commands of a Sentinel.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[
        &CKQUORUM,
        &CONFIG,
        &DEBUG,
        &FAILOVER,
        &FLUSHCONFIG,
        &GET_MASTER,
        &GET_PRIMARY,
        &HELP,
        &INFO_CACHE,
        &IS_MASTER_DOWN,
        &IS_PRIMARY_DOWN,
        &MASTER,
        &MASTERS,
        &MONITOR,
        &MYID,
        &PENDING_SCRIPTS,
        &PRIMARIES,
        &PRIMARY,
        &REMOVE,
        &REPLICAS,
        &RESET,
        &SENTINELS,
        &SET,
        &SIMULATE_FAILURE,
        &SLAVES,
    ],
    ..BASE
};

fn sentinel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let request = args.request();
    let words: Vec<&[u8]> = request.iter().skip(1).collect();
    cx.ask_sentinel(&words)
}

const OPINION: &[Arg] =
    &[Arg::string("ip"), Arg::integer("port"), Arg::integer("current-epoch"), Arg::string("runid")];

/// The values of options that are passwords.
fn is_password(request: &Request<'_>, place: usize) -> bool {
    let is_secret = |option: &[u8]| {
        option.eq_ignore_ascii_case(b"auth-pass") || option.eq_ignore_ascii_case(b"sentinel-pass")
    };
    place > 2 && is_secret(request.arg(place - 1))
}

static CKQUORUM: Command = Command {
    name: "ckquorum",
    summary: "Says whether enough Sentinels are there to find a master down and to fail it over.",
    complexity: "O(N) with N Sentinels",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Simple,
    ..BASE
};

static CONFIG: Command = Command {
    name: "config",
    since: "6.2.0",
    summary: "Reads or changes what holds for all masters.",
    complexity: "O(N) with N options",
    arity: Arity::at_least(4),
    secrets: is_password,
    ..BASE
};

static DEBUG: Command = Command {
    name: "debug",
    since: "7.0.0",
    summary: "Shows or changes how often and how long things are done.",
    complexity: "O(N) with N options",
    arity: Arity::at_least(2),
    args: &[Arg::block("data", &[Arg::string("parameter"), Arg::string("value")])
        .optional()
        .multiple()],
    ..BASE
};

static FAILOVER: Command = Command {
    name: "failover",
    summary: "Fails a master over without asking other Sentinels.",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Ok,
    ..BASE
};

static FLUSHCONFIG: Command = Command {
    name: "flushconfig",
    summary: "Writes the configuration file, state included.",
    complexity: "O(N) with N masters, replicas and Sentinels",
    arity: Arity::exactly(2),
    reply: Shape::Ok,
    ..BASE
};

static GET_MASTER: Command = Command {
    name: "get-master-addr-by-name",
    summary: "Returns the address of a master.",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    ..BASE
};

static GET_PRIMARY: Command = Command {
    name: "get-primary-addr-by-name",
    summary: "Returns the address of a master, by the name that Valkey has for this.",
    arity: Arity::exactly(3),
    args: &[Arg::string("primary-name")],
    ..BASE
};

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    run: help::subcommands,
    ..BASE
};

static INFO_CACHE: Command = Command {
    name: "info-cache",
    since: "3.2.0",
    summary: "Returns the last answers to INFO of masters and their replicas.",
    complexity: "O(N) with N instances",
    arity: Arity::at_least(3),
    args: &[Arg::string("nodename").multiple()],
    reply: Shape::Array,
    ..BASE
};

static IS_MASTER_DOWN: Command = Command {
    name: "is-master-down-by-addr",
    summary: "Says whether a master is down, and may vote for who asks.",
    arity: Arity::exactly(6),
    args: OPINION,
    reply: Shape::Array,
    ..BASE
};

static IS_PRIMARY_DOWN: Command = Command {
    name: "is-primary-down-by-addr",
    summary: "Says whether a master is down, by the name that Valkey has for this.",
    arity: Arity::exactly(6),
    args: OPINION,
    reply: Shape::Array,
    ..BASE
};

static MASTER: Command = Command {
    name: "master",
    summary: "Describes a master.",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Map,
    ..BASE
};

static MASTERS: Command = Command {
    name: "masters",
    summary: "Describes all masters.",
    complexity: "O(N) with N masters",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    ..BASE
};

static MONITOR: Command = Command {
    name: "monitor",
    summary: "Begins to watch a master.",
    arity: Arity::exactly(6),
    args: &[Arg::string("name"), Arg::string("ip"), Arg::integer("port"), Arg::integer("quorum")],
    reply: Shape::Ok,
    ..BASE
};

static MYID: Command = Command {
    name: "myid",
    since: "6.2.0",
    summary: "Returns the id of this Sentinel.",
    arity: Arity::exactly(2),
    reply: Shape::Bulk,
    ..BASE
};

static PENDING_SCRIPTS: Command = Command {
    name: "pending-scripts",
    summary: "Lists the scripts that run or wait.",
    complexity: "O(N) with N scripts",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    ..BASE
};

static PRIMARIES: Command = Command {
    name: "primaries",
    summary: "Describes all masters, by the name that Valkey has for this.",
    complexity: "O(N) with N masters",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    ..BASE
};

static PRIMARY: Command = Command {
    name: "primary",
    summary: "Describes a master, by the name that Valkey has for this.",
    arity: Arity::exactly(3),
    args: &[Arg::string("primary-name")],
    reply: Shape::Map,
    ..BASE
};

static REMOVE: Command = Command {
    name: "remove",
    summary: "Ends the watch over a master.",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Ok,
    ..BASE
};

static REPLICAS: Command = Command {
    name: "replicas",
    since: "5.0.0",
    summary: "Describes the replicas of a master.",
    complexity: "O(N) with N replicas",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Array,
    ..BASE
};

static RESET: Command = Command {
    name: "reset",
    summary: "Forgets what was found out about the masters whose names match.",
    complexity: "O(N) with N masters",
    arity: Arity::exactly(3),
    args: &[Arg::pattern("pattern")],
    reply: Shape::Integer,
    ..BASE
};

static SENTINELS: Command = Command {
    name: "sentinels",
    summary: "Describes the other Sentinels that watch a master.",
    complexity: "O(N) with N Sentinels",
    arity: Arity::exactly(3),
    args: &[Arg::string("master-name")],
    reply: Shape::Array,
    ..BASE
};

static SET: Command = Command {
    name: "set",
    summary: "Changes how a master is watched.",
    complexity: "O(N) with N options",
    arity: Arity::at_least(5),
    secrets: is_password,
    args: &[
        Arg::string("master-name"),
        Arg::block("data", &[Arg::string("option"), Arg::string("value")]).multiple(),
    ],
    reply: Shape::Ok,
    ..BASE
};

static SIMULATE_FAILURE: Command = Command {
    name: "simulate-failure",
    since: "3.2.0",
    summary: "Has this Sentinel crash at a certain point of a failover.",
    arity: Arity::at_least(3),
    args: &[Arg::one_of(
        "mode",
        &[
            Arg::flag("crash-after-election", "CRASH-AFTER-ELECTION"),
            Arg::flag("crash-after-promotion", "CRASH-AFTER-PROMOTION"),
            Arg::flag("help", "HELP"),
        ],
    )
    .multiple()],
    ..BASE
};

static SLAVES: Command = Command {
    name: "slaves",
    since: "2.8.0",
    summary: "Describes the replicas of a master.",
    complexity: "O(N) with N replicas",
    arity: Arity::exactly(3),
    deprecated: Some(Deprecated { since: "5.0.0", replaced_by: "`SENTINEL REPLICAS`" }),
    args: &[Arg::string("master-name")],
    reply: Shape::Array,
    ..BASE
};
