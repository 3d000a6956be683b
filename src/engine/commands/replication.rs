//! REPLICAOF, ROLE, WAIT, FAILOVER, and what servers say to each other: PSYNC, SYNC, REPLCONF.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags, Group,
    Shape, Traits,
};
use crate::engine::Cx;
use crate::engine::replication::acks::{self, AOF_IS_OFF, Copies};
use crate::engine::replication::feeders::Filter;
use crate::engine::replication::roles::Plan;
use crate::engine::replication::serving::{self, Request};
use crate::engine::session::ClientKind;
use crate::repl::ids::OFFSET_MAX;
use crate::repl::link::{Primary, Purpose};
use crate::structs::number::parse_i64;
use crate::structs::words;

pub static COMMANDS: &[&Command] =
    &[&FAILOVER, &PSYNC, &REPLCONF, &REPLICAOF, &ROLE, &SLAVEOF, &SYNC, &WAIT, &WAITAOF];

const ADMIN: Flags = Flags::ADMIN.or(Flags::NOSCRIPT);
const SERVED: Flags = ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_MULTI);

const HOST_AND_PORT: Arg = Arg::block("host-port", &[Arg::string("host"), Arg::integer("port")]);
const NO_ONE: Arg = Arg::block("no-one", &[Arg::flag("no", "NO"), Arg::flag("one", "ONE")]);

static REPLICAOF: Command = Command {
    name: "replicaof",
    since: "5.0.0",
    group: Group::Server,
    summary: "Makes the server a replica of another one, or a primary.",
    arity: Arity::exactly(3),
    flags: ADMIN.or(Flags::STALE).or(Flags::NO_ASYNC_LOADING),
    traits: Traits::ENDS_A_FETCH,
    args: &[Arg::one_of("args", &[HOST_AND_PORT, NO_ONE])],
    reply: Shape::Simple,
    example: "> REPLICAOF NO ONE\nOK",
    run: replicaof,
    ..Command::BASE
};

static SLAVEOF: Command = Command {
    name: "slaveof",
    since: "1.0.0",
    deprecated: Some(Deprecated { since: "5.0.0", replaced_by: "`REPLICAOF`" }),
    example: "> SLAVEOF NO ONE\nOK",
    ..REPLICAOF
};

fn replicaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.server.cluster.is_some() {
        return Err(CommandError::Fixed("ERR REPLICAOF not allowed in cluster mode."));
    }
    if cx.server.replication.failover.is_under_way() {
        return Err(CommandError::Fixed("ERR REPLICAOF not allowed while failing over."));
    }
    if args.option("no") {
        let is_whole = args.option("one");
        if is_whole {
            return stand_alone(cx);
        }
        return follow(cx, b"no", args.bytes());
    }
    let (host, port) = (args.bytes(), args.bytes());
    args.done()?;
    follow(cx, host, port)
}

fn stand_alone(cx: &mut Cx<'_>) -> CommandResult {
    if cx.server.is_replica() {
        let who = cx.description();
        tracing::info!("MASTER MODE enabled (user request from '{who}')");
        cx.core().promote();
    }
    cx.reply.ok();
    Ok(())
}

fn follow(cx: &mut Cx<'_>, host: &[u8], port: &[u8]) -> CommandResult {
    if cx.session().kind == ClientKind::Replica {
        return Err(CommandError::Fixed("ERR Command is not valid when client is a replica."));
    }
    let primary = address(host, port)?;
    if cx.server.replication.link.primary() == Some(&primary) {
        tracing::info!(
            "REPLICAOF would result into synchronization with the master we are already connected \
             with. No operation performed."
        );
        cx.reply.simple(b"OK Already connected to specified master");
        return Ok(());
    }
    let who = cx.description();
    let Primary { host, port } = &primary;
    tracing::info!("REPLICAOF {host}:{port} enabled (user request from '{who}')");
    cx.core().follow_primary(&primary, Purpose::Follow);
    cx.reply.ok();
    Ok(())
}

/// An address that will stand in the configuration file and in lines of INFO.
fn address(host: &[u8], port: &[u8]) -> Result<Primary, CommandError> {
    let port = parse_i64(port).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(CommandError::Fixed("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(host).into_owned();
    let is_one_word = host.chars().all(|char| !char.is_control() && !char.is_whitespace());
    match is_one_word && !host.is_empty() {
        true => Ok(Primary { host, port }),
        false => Err(CommandError::Fixed("ERR Invalid master host")),
    }
}

static ROLE: Command = Command {
    name: "role",
    since: "2.8.12",
    group: Group::Server,
    summary: "Tells whether the server is a primary, a replica or a Sentinel, and of its peers.",
    arity: Arity::exactly(1),
    flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST).or(Flags::SENTINEL),
    acl: Categories::ADMIN.or(Categories::DANGEROUS),
    reply: Shape::Array,
    example: "> ROLE\n1) \"master\"\n2) (integer) 0\n3) (empty array)",
    run: role,
    ..Command::BASE
};

fn role(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if let Some(watch) = &cx.server.sentinel {
        let names = watch.machine.master_names();
        cx.reply.array(2);
        cx.reply.bulk(b"sentinel");
        cx.reply.array(names.len());
        names.iter().for_each(|name| cx.reply.bulk(name.as_bytes()));
        return Ok(());
    }
    let replication = &cx.server.replication;
    let Some(primary) = replication.link.primary() else {
        let online: Vec<_> = replication.feeders.iter().filter(|f| f.is_online()).collect();
        cx.reply.array(3);
        cx.reply.bulk(b"master");
        cx.reply.integer(cx.server.replication_offset());
        cx.reply.array(online.len());
        for feeder in online {
            cx.reply.array(3);
            cx.reply.bulk(feeder.ip().as_bytes());
            cx.reply.bulk_i64(i64::from(feeder.announced.port));
            cx.reply.bulk_i64(feeder.shown_ack());
        }
        return Ok(());
    };
    let link = &replication.link;
    cx.reply.array(5);
    cx.reply.bulk(b"slave");
    cx.reply.bulk(primary.host.as_bytes());
    cx.reply.integer(i64::from(primary.port));
    cx.reply.bulk(link.word().as_bytes());
    let offset = link.applied_offset().filter(|_| link.is_connected());
    cx.reply.integer(offset.unwrap_or(-1));
    Ok(())
}

static PSYNC: Command = Command {
    name: "psync",
    since: "2.8.0",
    group: Group::Server,
    summary: "A replica asks for the stream from a byte on, or for a snapshot and what follows it.",
    complexity: "O(1); the snapshot is sent by another thread",
    arity: Arity::at_least(3),
    flags: SERVED,
    is_internal: true,
    args: &[Arg::string("replicationid"), Arg::integer("offset")],
    example: "> PSYNC ? x\n(error) ERR value is not an integer or out of range",
    run: psync,
    ..Command::BASE
};

const FAILING_OVER: CommandError =
    CommandError::Fixed("NOMASTERLINK Can't SYNC while failing over");

fn psync(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.session().is_fed() {
        return Ok(());
    }
    let (id, from) = (args.bytes(), args.bytes());
    if !args.is_empty() && args.option("failover") {
        take_over(cx, id)?;
    }
    if cx.server.replication.failover.is_under_way() {
        return Err(FAILING_OVER);
    }
    serving::serve(cx, Request::Psync { id, from })
}

/// Our primary wants us to take its place.
fn take_over(cx: &mut Cx<'_>, id: &[u8]) -> CommandResult {
    if !cx.server.is_replica() {
        return Err(CommandError::Fixed("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if !cx.server.replication.history().id().as_bytes().eq_ignore_ascii_case(id) {
        return Err(CommandError::Fixed("ERR PSYNC FAILOVER replid must match my replid."));
    }
    let id = String::from_utf8_lossy(id).into_owned();
    tracing::info!("Failover request received for replid {id}.");
    let who = cx.description();
    tracing::info!("MASTER MODE enabled (failover request from '{who}')");
    cx.core().promote();
    Ok(())
}

static SYNC: Command = Command {
    name: "sync",
    since: "1.0.0",
    group: Group::Server,
    summary: "A replica asks for a snapshot and what follows it.",
    complexity: "O(1); the snapshot is sent by another thread",
    arity: Arity::exactly(1),
    flags: SERVED,
    is_internal: true,
    run: sync,
    ..Command::BASE
};

fn sync(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.session().is_fed() {
        return Ok(());
    }
    if cx.server.replication.failover.is_under_way() {
        return Err(FAILING_OVER);
    }
    serving::serve(cx, Request::Sync)
}

static REPLCONF: Command = Command {
    name: "replconf",
    since: "3.0.0",
    group: Group::Server,
    summary: "A replica says something of itself, or how far it is.",
    arity: Arity::at_least(1),
    flags: ADMIN.or(Flags::LOADING).or(Flags::STALE).or(Flags::ALLOW_BUSY),
    traits: Traits::FITS_STREAM,
    is_internal: true,
    example: "> REPLCONF capa eof\nOK",
    run: replconf,
    ..Command::BASE
};

/// The longest address that a replica may tell: a host's name may be so long.
const ADDRESS_BYTES_MAX: usize = 255;

fn replconf(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if !args.remaining().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    while let Some(option) = args.peek() {
        args.bytes();
        let value = args.bytes();
        if option.eq_ignore_ascii_case(b"ack") {
            return acknowledge(cx, value, args);
        }
        if option.eq_ignore_ascii_case(b"getack") {
            // Only a primary asks.
            cx.server.replication.ack_is_wanted |= cx.session().kind == ClientKind::Primary;
            return Ok(());
        }
        note(cx, &option.to_ascii_lowercase(), value)?;
    }
    cx.reply.ok();
    Ok(())
}

/// Notes what a replica says of itself.
fn note(cx: &mut Cx<'_>, option: &[u8], value: &[u8]) -> CommandResult {
    let announced = serving::announced(cx);
    match option {
        b"listening-port" => {
            let port = parse_i64(value).ok_or(CommandError::NotInteger)?;
            announced.port = u16::try_from(port).unwrap_or(0);
        }
        b"ip-address" if value.len() > ADDRESS_BYTES_MAX => {
            return Err(CommandError::err(format_args!(
                "REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            )));
        }
        b"ip-address" => {
            let text = String::from_utf8_lossy(value);
            let is_word = !text.chars().any(|char| char.is_control() || " ,=".contains(char));
            announced.ip = (is_word && !text.is_empty()).then(|| text.as_ref().into());
        }
        b"capa" if value.eq_ignore_ascii_case(b"eof") => announced.reads_end_mark = true,
        b"capa" if value.eq_ignore_ascii_case(b"psync2") => announced.knows_psync2 = true,
        b"capa" if value.eq_ignore_ascii_case(b"slot-moves") => announced.knows_slot_moves = true,
        b"version" => announced.knows_set_slot = is_later_than(value, [7, 2, 255]),
        b"capa" => {}
        b"rdb-only" => {
            let range_error = "ERR value is out of range, value must between 0 and 1";
            let number = parse_i64(value).ok_or(CommandError::NotInteger)?;
            match number {
                0 | 1 => announced.rdb_only = number == 1,
                _ => return Err(CommandError::Fixed(range_error)),
            }
        }
        b"rdb-filter-only" => announced.filter = Some(filter(value)?),
        _ => {
            let name = String::from_utf8_lossy(option);
            return Err(CommandError::err(format_args!("Unrecognized REPLCONF option: {name}")));
        }
    }
    Ok(())
}

/// Whether a version of three numbers is later than this one.
fn is_later_than(text: &[u8], than: [i64; 3]) -> bool {
    let mut numbers = text.split(|byte| *byte == b'.').map(parse_i64);
    let mut next = || numbers.next().flatten().unwrap_or(0);
    [next(), next(), next()] > than
}

fn filter(value: &[u8]) -> Result<Filter, CommandError> {
    let missing = CommandError::Fixed("ERR Missing rdb-filter-only values");
    let words = words::split(value).map_err(|_| missing)?;
    let mut filter = Filter { functions: false };
    for word in words {
        if !word.eq_ignore_ascii_case(b"functions") {
            let word = String::from_utf8_lossy(&word);
            return Err(CommandError::err(format_args!(
                "Unsupported rdb-filter-only option: {word}"
            )));
        }
        filter.functions = true;
    }
    Ok(filter)
}

/// A replica says how far it is, and perhaps how far its append-only file is.
fn acknowledge(cx: &mut Cx<'_>, offset: &[u8], args: &mut Args<'_>) -> CommandResult {
    if cx.session().kind != ClientKind::Replica {
        return Ok(());
    }
    // What is no offset is not worth the connection. One that knows none says -1, to show that it
    // has loaded its snapshot.
    let read = |text: &[u8]| parse_i64(text).filter(|offset| *offset <= OFFSET_MAX);
    let Some(offset) = read(offset) else { return Ok(()) };
    let mut synced = None;
    if args.option("fack") {
        synced = read(args.bytes());
    }
    let client = cx.client;
    cx.core().acknowledge(client, offset, synced);
    Ok(())
}

static WAIT: Command = Command {
    name: "wait",
    since: "3.0.0",
    group: Group::Generic,
    summary: "Waits until so many replicas have what the connection has written; how many have.",
    arity: Arity::exactly(3),
    flags: Flags::BLOCKING,
    acl: Categories::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    args: &[Arg::integer("numreplicas"), Arg::integer("timeout")],
    reply: Shape::Integer,
    example: "> WAIT 0 100\n(integer) 0",
    run: wait,
    ..Command::BASE
};

fn wait(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.server.is_replica() {
        return Err(CommandError::Fixed(
            "ERR WAIT cannot be used with replica instances. Please also note that if a replica is \
             configured to be writable (which is not the default) writes to replicas are just \
             local and are not propagated.",
        ));
    }
    let replicas = args.integer();
    args.check()?;
    let deadline_ms = deadline(cx, args)?;
    acks::wait(cx, Copies::Applied { replicas }, deadline_ms);
    Ok(())
}

static WAITAOF: Command = Command {
    name: "waitaof",
    since: "7.2.0",
    summary: "Waits until what the connection has written is safe in append-only files: in the \
              server's own, if wanted, and in those of so many replicas.",
    arity: Arity::exactly(4),
    args: &[Arg::integer("numlocal"), Arg::integer("numreplicas"), Arg::integer("timeout")],
    reply: Shape::Array,
    example: "> WAITAOF 0 0 100\n1) (integer) 0\n2) (integer) 0",
    run: waitaof,
    ..WAIT
};

fn waitaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let local_error = "ERR value is out of range, value must between 0 and 1";
    let here = args.integer_in(0..=1, CommandError::Fixed(local_error)) == 1;
    let many_error = "ERR value is out of range, must be positive";
    let replicas = args.integer_in(0..=i64::MAX, CommandError::Fixed(many_error));
    args.check()?;
    let deadline_ms = deadline(cx, args)?;
    if cx.server.is_replica() {
        return Err(CommandError::Fixed(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to \
             replicas are just local and are not propagated.",
        ));
    }
    if here && !cx.server.config.appendonly {
        return Err(AOF_IS_OFF);
    }
    acks::wait(cx, Copies::Durable { here, replicas }, deadline_ms);
    Ok(())
}

/// A timeout in whole milliseconds as a moment of the monotonic clock; none waits for ever.
fn deadline(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<Option<u64>, CommandError> {
    let not_integer = "ERR timeout is not an integer or out of range";
    let timeout_ms = args.integer_or(CommandError::Fixed(not_integer));
    args.done()?;
    let timeout_ms =
        u64::try_from(timeout_ms).map_err(|_| CommandError::Fixed("ERR timeout is negative"))?;
    if timeout_ms > (i64::MAX as u64).saturating_sub(cx.server.clock.unix_ms()) {
        return Err(CommandError::Fixed("ERR timeout is out of range"));
    }
    Ok((timeout_ms > 0).then(|| cx.server.clock.mono_ms() + timeout_ms))
}

static FAILOVER: Command = Command {
    name: "failover",
    since: "6.2.0",
    group: Group::Server,
    summary: "Hands the server's place over to a replica, without losing a write.",
    arity: Arity::at_least(1),
    flags: ADMIN.or(Flags::STALE),
    args: &[
        Arg::block(
            "target",
            &[Arg::string("host"), Arg::integer("port"), Arg::flag("force", "FORCE").optional()],
        )
        .token("TO")
        .optional(),
        Arg::flag("abort", "ABORT").optional(),
        Arg::integer("milliseconds").token("TIMEOUT").optional(),
    ],
    reply: Shape::Ok,
    example: "> FAILOVER\n(error) ERR FAILOVER requires connected replicas.",
    run: failover,
    ..Command::BASE
};

/// What FAILOVER was told.
#[derive(Default)]
struct Wish {
    target: Option<Primary>,
    timeout_ms: Option<u64>,
    forces: bool,
    aborts: bool,
}

fn failover(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.server.cluster.is_some() {
        return Err(CommandError::Fixed(
            "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
        ));
    }
    let word_count = args.remaining();
    let wish = wish(args)?;
    if wish.aborts {
        if word_count > 1 {
            return Err(CommandError::Syntax);
        }
        if !cx.server.replication.failover.is_under_way() {
            return Err(CommandError::Fixed("ERR No failover in progress."));
        }
        cx.core().abort_failover("Failover manually aborted");
        cx.reply.ok();
        return Ok(());
    }
    let refusal = |text: &'static str| Err(CommandError::Fixed(text));
    if cx.server.replication.failover.is_under_way() {
        return refusal("ERR FAILOVER already in progress.");
    }
    if cx.server.is_replica() {
        return refusal("ERR FAILOVER is not valid when server is a replica.");
    }
    if cx.server.replication.feeders.is_empty() {
        return refusal("ERR FAILOVER requires connected replicas.");
    }
    if wish.forces && (wish.timeout_ms.is_none() || wish.target.is_none()) {
        return refusal(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        );
    }
    if let Some(target) = &wish.target {
        match cx.server.replica_at(target) {
            None => return refusal("ERR FAILOVER target HOST and PORT is not a replica."),
            Some(feeder) if !feeder.is_online() => {
                return refusal("ERR FAILOVER target replica is not online.");
            }
            Some(_) => {}
        }
    }
    let now_ms = cx.server.clock.mono_ms();
    let deadline_ms = wish.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms));
    cx.core().begin_failover(Plan { target: wish.target, deadline_ms, forces: wish.forces });
    cx.reply.ok();
    Ok(())
}

fn wish(args: &mut Args<'_>) -> Result<Wish, CommandError> {
    let mut wish = Wish::default();
    while !args.is_empty() {
        if wish.timeout_ms.is_none() && args.option_with_value("timeout") {
            let ms = args.integer();
            args.check()?;
            let ms = u64::try_from(ms).ok().filter(|ms| *ms > 0);
            let error = CommandError::Fixed("ERR FAILOVER timeout must be greater than 0");
            wish.timeout_ms = Some(ms.ok_or(error)?);
        } else if !wish.aborts && args.option("abort") {
            wish.aborts = true;
        } else if wish.target.is_none() && args.remaining() >= 3 && args.option("to") {
            let (host, port) = (args.bytes(), args.integer());
            args.check()?;
            // No replica has told a port that is none.
            let port = u16::try_from(port).unwrap_or(0);
            wish.target = Some(Primary { host: String::from_utf8_lossy(host).into(), port });
        } else if !wish.forces && args.option("force") {
            wish.forces = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(wish)
}
