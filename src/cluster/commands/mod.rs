//! CLUSTER: what a node shows of the cluster (`show.rs`), and what it is told to do (`change.rs`);
//! what slots cost is in `usage.rs`, and how they move whole in `slot_moves.rs`.

mod change;
mod show;
mod slot_moves;
mod usage;

use crate::cluster::id::NodeId;
use crate::cluster::table::{NodeKey, Table};
use crate::command::{
    Arg, Args, Arity, Command, CommandError, Deprecated, Flags, Group, Shape, Traits, help,
};
use crate::engine::Cx;
use crate::engine::cluster::Member;
use crate::keyspace::slot::Slot;

pub static COMMANDS: &[&Command] = &[&CLUSTER];

const BASE: Command =
    Command { since: "3.0.0", group: Group::Cluster, flags: Flags::STALE, ..Command::BASE };

/// What changes the cluster.
const CHANGE: Command = Command {
    flags: Flags::ADMIN.or(Flags::STALE).or(Flags::NO_ASYNC_LOADING),
    reply: Shape::Ok,
    ..BASE
};

/// What tools ask for while a replica loads what its primary has sent; as in Valkey.
const SHOWN_WHILE_LOADING: Flags = Flags::LOADING.or(Flags::STALE);

const UNSTABLE: &[&str] = &["nondeterministic_output"];

static CLUSTER: Command = Command {
    name: "cluster",
    summary: "Holds the commands about the cluster.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    flags: Flags::NONE,
    subcommands: &[
        &ADDSLOTS,
        &ADDSLOTSRANGE,
        &BUMPEPOCH,
        &CANCELSLOTMIGRATIONS,
        &COUNT_FAILURE_REPORTS,
        &COUNTKEYSINSLOT,
        &DELSLOTS,
        &DELSLOTSRANGE,
        &FAILOVER,
        &FLUSHSLOTS,
        &FORGET,
        &GETKEYSINSLOT,
        &GETSLOTMIGRATIONS,
        &HELP,
        &INFO,
        &KEYSLOT,
        &LINKS,
        &MEET,
        &MIGRATESLOTS,
        &MIGRATION,
        &MYID,
        &MYSHARDID,
        &NODES,
        &REPLICAS,
        &REPLICATE,
        &RESET,
        &SAVECONFIG,
        &SET_CONFIG_EPOCH,
        &SETSLOT,
        &SHARDS,
        &SLAVES,
        &SLOT_STATS,
        &SLOTMOVE,
        &SLOTS,
    ],
    ..BASE
};

const NODE_ID: &[Arg] = &[Arg::string("node-id")];
const SLOT_NUMBERS: &[Arg] = &[Arg::integer("slot").multiple()];
const SLOT_RANGES: &[Arg] =
    &[Arg::block("range", &[Arg::integer("start-slot"), Arg::integer("end-slot")]).multiple()];

static HELP: Command = Command {
    name: "help",
    since: "5.0.0",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: |cx, args| {
        member(cx)?;
        help::subcommands(cx, args)
    },
    ..BASE
};

static ADDSLOTS: Command = Command {
    name: "addslots",
    summary: "Assigns slots that nobody has to this node.",
    complexity: "O(N) with N slots",
    arity: Arity::at_least(3),
    args: SLOT_NUMBERS,
    run: change::add_slots,
    ..CHANGE
};

static ADDSLOTSRANGE: Command = Command {
    name: "addslotsrange",
    since: "7.0.0",
    summary: "Assigns ranges of slots that nobody has to this node.",
    complexity: "O(N) with N slots in the ranges",
    arity: Arity::at_least(4),
    args: SLOT_RANGES,
    run: change::add_slot_ranges,
    ..CHANGE
};

static DELSLOTS: Command = Command {
    name: "delslots",
    summary: "Has this node forget who has slots.",
    complexity: "O(N) with N slots",
    arity: Arity::at_least(3),
    args: SLOT_NUMBERS,
    run: change::del_slots,
    ..CHANGE
};

static DELSLOTSRANGE: Command = Command {
    name: "delslotsrange",
    since: "7.0.0",
    summary: "Has this node forget who has ranges of slots.",
    complexity: "O(N) with N slots in the ranges",
    arity: Arity::at_least(4),
    args: SLOT_RANGES,
    run: change::del_slot_ranges,
    ..CHANGE
};

static FLUSHSLOTS: Command = Command {
    name: "flushslots",
    summary: "Has this node, which holds no keys, give up all its slots.",
    arity: Arity::exactly(2),
    run: change::flush_slots,
    ..CHANGE
};

static BUMPEPOCH: Command = Command {
    name: "bumpepoch",
    summary: "Gives this node an epoch above all others, unless it has the greatest.",
    arity: Arity::exactly(2),
    tips: UNSTABLE,
    reply: Shape::Simple,
    run: change::bump_epoch,
    ..CHANGE
};

static SET_CONFIG_EPOCH: Command = Command {
    name: "set-config-epoch",
    summary: "Sets the epoch of a node that is alone.",
    arity: Arity::exactly(3),
    args: &[Arg::integer("config-epoch")],
    run: change::set_config_epoch,
    ..CHANGE
};

static MEET: Command = Command {
    name: "meet",
    summary: "Has this node get to know another one, and by that its cluster.",
    arity: Arity::at_least(4),
    history: &[("4.0.0", "Took the port of the bus.")],
    args: &[
        Arg::string("ip"),
        Arg::integer("port"),
        Arg::integer("cluster-bus-port").since("4.0.0").optional(),
    ],
    run: change::meet,
    ..CHANGE
};

static FORGET: Command = Command {
    name: "forget",
    summary: "Removes a node from what this one knows.",
    arity: Arity::exactly(3),
    args: NODE_ID,
    run: change::forget,
    ..CHANGE
};

static REPLICATE: Command = Command {
    name: "replicate",
    summary: "Makes this node a replica of a primary.",
    arity: Arity::exactly(3),
    args: NODE_ID,
    run: change::replicate,
    ..CHANGE
};

static FAILOVER: Command = Command {
    name: "failover",
    summary: "Has this replica take its primary's place.",
    arity: Arity::at_least(2),
    args: &[Arg::one_of(
        "options",
        &[Arg::flag("force", "FORCE"), Arg::flag("takeover", "TAKEOVER")],
    )
    .optional()],
    run: change::fail_over,
    ..CHANGE
};

static RESET: Command = Command {
    name: "reset",
    summary: "Has this node forget the cluster and, as another node, its own name.",
    complexity: "O(N) with N nodes, and the keys of a replica",
    arity: Arity::at_least(2),
    flags: Flags::ADMIN.or(Flags::STALE).or(Flags::NOSCRIPT),
    args: &[Arg::one_of("reset-type", &[Arg::flag("hard", "HARD"), Arg::flag("soft", "SOFT")])
        .optional()],
    run: change::reset,
    ..CHANGE
};

static SAVECONFIG: Command = Command {
    name: "saveconfig",
    summary: "Writes the file in which this node keeps what it knows of the cluster.",
    arity: Arity::exactly(2),
    run: change::save_config,
    ..CHANGE
};

static SETSLOT: Command = Command {
    name: "setslot",
    summary: "Says that a slot leaves, comes or stays, or whose it is.",
    arity: Arity::at_least(4),
    traits: Traits::FITS_STREAM,
    args: &[
        Arg::integer("slot"),
        Arg::one_of(
            "subcommand",
            &[
                Arg::string("importing").display("node-id").token("IMPORTING"),
                Arg::string("migrating").display("node-id").token("MIGRATING"),
                Arg::string("node").display("node-id").token("NODE"),
                Arg::flag("stable", "STABLE"),
            ],
        ),
    ],
    run: change::set_slot,
    ..CHANGE
};

static NODES: Command = Command {
    name: "nodes",
    summary: "Shows the nodes as this one sees them, a line each.",
    complexity: "O(N) with N nodes",
    arity: Arity::exactly(2),
    flags: SHOWN_WHILE_LOADING,
    tips: UNSTABLE,
    reply: Shape::Bulk,
    run: show::nodes,
    ..BASE
};

static REPLICAS: Command = Command {
    name: "replicas",
    since: "5.0.0",
    summary: "Shows the replicas of a primary, a line each.",
    complexity: "O(N) with N replicas",
    arity: Arity::exactly(3),
    flags: Flags::ADMIN.or(Flags::STALE),
    tips: UNSTABLE,
    args: NODE_ID,
    reply: Shape::Array,
    run: show::replicas,
    ..BASE
};

static SLAVES: Command = Command {
    name: "slaves",
    since: "3.0.0",
    deprecated: Some(Deprecated { since: "5.0.0", replaced_by: "`CLUSTER REPLICAS`" }),
    ..REPLICAS
};

static SLOTS: Command = Command {
    name: "slots",
    summary: "Shows which nodes serve which slots.",
    complexity: "O(N) with N nodes",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    tips: UNSTABLE,
    history: &[("4.0.0", "Showed the ids of nodes."), ("7.0.0", "Showed other names of nodes.")],
    deprecated: Some(Deprecated { since: "7.0.0", replaced_by: "`CLUSTER SHARDS`" }),
    reply: Shape::Array,
    run: show::slots,
    ..BASE
};

static SLOT_STATS: Command = Command {
    name: "slot-stats",
    since: "8.2.0",
    summary: "Shows what the slots of this node's shard hold and cost.",
    complexity: "O(N) with N slots; O(N log N) where they are put in order",
    arity: Arity::at_least(4),
    flags: Flags::LOADING.or(Flags::STALE),
    tips: &["nondeterministic_output", "request_policy:all_shards"],
    args: &[Arg::one_of(
        "filter",
        &[
            Arg::block("slotsrange", &[Arg::integer("start-slot"), Arg::integer("end-slot")])
                .token("SLOTSRANGE"),
            Arg::block(
                "orderby",
                &[
                    Arg::string("metric"),
                    Arg::integer("limit").token("LIMIT").optional(),
                    Arg::one_of("order", &[Arg::flag("asc", "ASC"), Arg::flag("desc", "DESC")])
                        .optional(),
                ],
            )
            .token("ORDERBY"),
        ],
    )],
    reply: Shape::Array,
    run: usage::slot_stats,
    ..BASE
};

static SHARDS: Command = Command {
    name: "shards",
    since: "7.0.0",
    summary: "Shows the shards: their slots, and their nodes.",
    complexity: "O(N) with N nodes",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    tips: UNSTABLE,
    reply: Shape::Array,
    run: show::shards,
    ..BASE
};

static INFO: Command = Command {
    name: "info",
    summary: "Shows how the cluster is, as this node sees it.",
    arity: Arity::exactly(2),
    flags: SHOWN_WHILE_LOADING,
    tips: UNSTABLE,
    reply: Shape::Bulk,
    run: show::info,
    ..BASE
};

static LINKS: Command = Command {
    name: "links",
    since: "7.0.0",
    summary: "Shows the connections of the bus.",
    complexity: "O(N) with N nodes",
    arity: Arity::exactly(2),
    tips: UNSTABLE,
    reply: Shape::Array,
    run: show::links,
    ..BASE
};

static COUNT_FAILURE_REPORTS: Command = Command {
    name: "count-failure-reports",
    summary: "Returns how many nodes say lately that a node is down.",
    complexity: "O(N) with N reports",
    arity: Arity::exactly(3),
    flags: Flags::ADMIN.or(Flags::STALE),
    tips: UNSTABLE,
    args: NODE_ID,
    reply: Shape::Integer,
    run: show::count_failure_reports,
    ..BASE
};

static MYID: Command = Command {
    name: "myid",
    summary: "Returns the id of this node.",
    arity: Arity::exactly(2),
    flags: SHOWN_WHILE_LOADING,
    reply: Shape::Bulk,
    run: show::my_id,
    ..BASE
};

static MYSHARDID: Command = Command {
    name: "myshardid",
    since: "7.2.0",
    summary: "Returns the id of this node's shard.",
    arity: Arity::exactly(2),
    flags: SHOWN_WHILE_LOADING,
    tips: UNSTABLE,
    reply: Shape::Bulk,
    run: show::my_shard_id,
    ..BASE
};

static KEYSLOT: Command = Command {
    name: "keyslot",
    summary: "Returns the slot of a key.",
    complexity: "O(N) with N bytes of the key",
    arity: Arity::exactly(3),
    args: &[Arg::string("key")],
    reply: Shape::Integer,
    run: show::key_slot,
    ..BASE
};

static COUNTKEYSINSLOT: Command = Command {
    name: "countkeysinslot",
    summary: "Returns the number of keys that this node has in a slot.",
    arity: Arity::exactly(3),
    args: &[Arg::integer("slot")],
    reply: Shape::Integer,
    run: show::count_keys,
    ..BASE
};

static GETKEYSINSLOT: Command = Command {
    name: "getkeysinslot",
    summary: "Returns some of the keys that this node has in a slot.",
    complexity: "O(N) with N keys asked for",
    arity: Arity::exactly(4),
    tips: UNSTABLE,
    args: &[Arg::integer("slot"), Arg::integer("count")],
    reply: Shape::Array,
    run: show::get_keys,
    ..BASE
};

static MIGRATESLOTS: Command = Command {
    name: "migrateslots",
    since: "9.0.0",
    summary: "Has slots of this node go to other nodes, each set of them in one step.",
    complexity: "O(N) with N slots; then another thread sends their keys",
    arity: Arity::at_least(7),
    args: &[Arg::block(
        "move",
        &[
            Arg::block("range", &[Arg::integer("start-slot"), Arg::integer("end-slot")])
                .token("SLOTSRANGE")
                .multiple(),
            Arg::string("node-id").token("NODE"),
        ],
    )
    .multiple()],
    run: slot_moves::migrate_slots,
    ..CHANGE
};

static CANCELSLOTMIGRATIONS: Command = Command {
    name: "cancelslotmigrations",
    since: "9.0.0",
    summary: "Ends the moves of slots that this node has begun, but for one that is about to end.",
    complexity: "O(N) with N moves",
    arity: Arity::exactly(2),
    run: slot_moves::cancel_slot_migrations,
    ..CHANGE
};

static GETSLOTMIGRATIONS: Command = Command {
    name: "getslotmigrations",
    since: "9.0.0",
    summary: "Shows the moves of slots from and to this node, the newest first.",
    complexity: "O(N) with N moves",
    arity: Arity::exactly(2),
    flags: SHOWN_WHILE_LOADING,
    tips: UNSTABLE,
    reply: Shape::Array,
    run: slot_moves::get_slot_migrations,
    ..BASE
};

static MIGRATION: Command = Command {
    name: "migration",
    since: "8.4.0",
    summary: "Has slots come to this node in one step, or shows or ends such moves.",
    complexity: "O(N) with N slots, or N moves",
    arity: Arity::at_least(3),
    args: &[Arg::one_of(
        "subcommand",
        &[
            Arg::block(
                "import",
                &[
                    Arg::flag("import", "IMPORT"),
                    Arg::block("range", &[Arg::integer("start-slot"), Arg::integer("end-slot")])
                        .multiple(),
                ],
            ),
            Arg::block("cancel", &[Arg::flag("cancel", "CANCEL"), WHICH_MOVE]),
            Arg::block("status", &[Arg::flag("status", "STATUS"), WHICH_MOVE.optional()]),
        ],
    )],
    reply: Shape::Any,
    run: slot_moves::migration,
    ..CHANGE
};

const WHICH_MOVE: Arg =
    Arg::one_of("which", &[Arg::string("task-id").token("ID"), Arg::flag("all", "ALL")]);

static SLOTMOVE: Command = Command {
    name: "slotmove",
    since: "8.2.0",
    summary: "Nodes say this to each other when slots move; not for people.",
    complexity: "That of the commands in it",
    arity: Arity::at_least(4),
    flags: Flags::WRITE
        .or(Flags::DENYOOM)
        .or(Flags::ADMIN)
        .or(Flags::NOSCRIPT)
        .or(Flags::NO_MULTI)
        .or(Flags::NO_ASYNC_LOADING),
    args: &[
        Arg::string("word"),
        Arg::string("task-id"),
        Arg::string("argument").optional().multiple(),
    ],
    reply: Shape::Any,
    traits: Traits::GIVES_WAY,
    run: slot_moves::slot_move,
    ..BASE
};

/// This server as a node of its cluster.
fn member<'c>(cx: &'c Cx<'_>) -> Result<&'c Member, CommandError> {
    cx.server.cluster.as_deref().ok_or(CommandError::NoClusterSupport)
}

/// The next argument as a slot.
fn slot(args: &mut Args<'_>) -> Result<Slot, CommandError> {
    let number = crate::structs::number::parse_u64(args.bytes());
    let invalid = CommandError::Fixed("ERR Invalid or out of range slot");
    number.and_then(Slot::new).ok_or(invalid)
}

/// The next two arguments as the first and the last of some slots, which follow each other.
fn slot_range(args: &mut Args<'_>) -> Result<impl Iterator<Item = Slot> + use<>, CommandError> {
    let (first, last) = (slot(args)?, slot(args)?);
    if first > last {
        return Err(CommandError::err(format_args!(
            "start slot number {first} is greater than end slot number {last}"
        )));
    }
    let numbers = first.number()..=last.number();
    Ok(numbers.map(|number| Slot::new(number.into()).expect("it lies between two slots")))
}

fn named_twice(slot: Slot) -> CommandError {
    CommandError::err(format_args!("Slot {slot} specified multiple times"))
}

/// The next argument as the id of a node that is known.
fn node(table: &Table, args: &mut Args<'_>) -> Result<NodeKey, CommandError> {
    let word = args.bytes();
    NodeId::parse(word).and_then(|id| table.find(id)).ok_or_else(|| unknown_node(word))
}

fn unknown_node(word: &[u8]) -> CommandError {
    CommandError::Bytes([b"ERR Unknown node ", word].concat().into_boxed_slice())
}
