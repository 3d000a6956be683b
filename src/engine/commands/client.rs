//! CLIENT: what a connection is called, what it wants, and who else is connected.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Shape,
    Traits, help,
};
use crate::engine::client_line::describe;
use crate::engine::pause::{PauseMode, PauseOwner};
use crate::engine::session::{ClientKind, ReplyMode};
use crate::engine::waiting::Release;
use crate::engine::{ClientId, Cx, Effect, Server, Session, delivery};

mod capa;
mod tracking;

pub static COMMANDS: &[&Command] = &[&CLIENT];

/// The flags that all of these share.
const COMMON: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SENTINEL);

static CLIENT: Command = Command {
    name: "client",
    since: "2.4.0",
    group: Group::Connection,
    summary: "Holds the commands about client connections.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    flags: Flags::SENTINEL,
    traits: Traits::KEEPS_CACHING,
    subcommands: &[
        &tracking::CACHING,
        &capa::CAPA,
        &GETNAME,
        &tracking::GETREDIR,
        &HELP,
        &ID,
        &INFO,
        &KILL,
        &LIST,
        &NO_EVICT,
        &NO_TOUCH,
        &PAUSE,
        &REPLY,
        &SETINFO,
        &SETNAME,
        &tracking::TRACKING,
        &tracking::TRACKINGINFO,
        &UNBLOCK,
        &UNPAUSE,
    ],
    ..Command::BASE
};

static HELP: Command = Command {
    name: "help",
    since: "5.0.0",
    group: Group::Connection,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL),
    acl: Categories::CONNECTION,
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static ID: Command = Command {
    name: "id",
    since: "5.0.0",
    group: Group::Connection,
    summary: "Returns the connection's id, which no other connection ever gets.",
    arity: Arity::exactly(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    reply: Shape::Integer,
    run: id,
    ..Command::BASE
};

fn id(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.integer(cx.client.number().cast_signed());
    Ok(())
}

static INFO: Command = Command {
    name: "info",
    since: "6.2.0",
    group: Group::Connection,
    summary: "Describes the connection in the format of CLIENT LIST.",
    arity: Arity::exactly(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output"],
    reply: Shape::Bulk,
    run: info,
    ..Command::BASE
};

fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let line = describe(cx.server, cx.session()) + "\n";
    cx.reply.verbatim(b"txt", line.as_bytes());
    Ok(())
}

static LIST: Command = Command {
    name: "list",
    since: "2.4.0",
    group: Group::Connection,
    summary: "Describes the open connections, one a line.",
    complexity: "O(N) with N connections",
    arity: Arity::at_least(2),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    tips: &["nondeterministic_output"],
    history: &[
        ("2.8.12", "Each connection got an id."),
        ("5.0.0", "Took TYPE."),
        ("6.2.0", "Took ID, and showed the local address."),
    ],
    args: &[
        Arg::one_of("client-type", CLIENT_TYPES).token("TYPE").since("5.0.0").optional(),
        Arg::integer("client-id").token("ID").since("6.2.0").optional().multiple(),
    ],
    reply: Shape::Bulk,
    run: list,
    ..Command::BASE
};

const CLIENT_TYPES: &[Arg] = &[
    Arg::flag("normal", "NORMAL"),
    Arg::flag("master", "MASTER"),
    Arg::flag("replica", "REPLICA"),
    Arg::flag("pubsub", "PUBSUB"),
];
/// The same with the dates at which CLIENT KILL came to take them.
const KILLED_TYPES: &[Arg] = &[
    Arg::flag("normal", "NORMAL"),
    Arg::flag("master", "MASTER").since("3.2.0"),
    Arg::flag("slave", "SLAVE"),
    Arg::flag("replica", "REPLICA").since("5.0.0"),
    Arg::flag("pubsub", "PUBSUB"),
];

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut text = String::new();
    let mut put = |server: &_, session: &Session| {
        text.push_str(&describe(server, session));
        text.push('\n');
    };
    if args.remaining() == 2 && args.option("type") {
        let kind = client_kind(args)?;
        for session in cx.clients.iter_by_age().into_iter().filter(|s| s.kind == kind) {
            put(cx.server, session);
        }
    } else if args.remaining() > 1 && args.option("id") {
        while !args.is_empty() {
            let number = args.integer_or(CommandError::Fixed("ERR Invalid client ID"));
            args.check()?;
            if let Some(session) = cx.clients.by_number(number.cast_unsigned()) {
                put(cx.server, session);
            }
        }
    } else {
        args.done()?;
        for session in cx.clients.iter_by_age() {
            put(cx.server, session);
        }
    }
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn client_kind(args: &mut Args<'_>) -> Result<ClientKind, CommandError> {
    let name = args.bytes();
    ClientKind::by_name(name).ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        CommandError::err(format_args!("Unknown client type '{name}'"))
    })
}

static KILL: Command = Command {
    name: "kill",
    since: "2.4.0",
    group: Group::Connection,
    summary: "Closes connections: the one at an address, or all that fit the filters.",
    complexity: "O(N) with N connections",
    arity: Arity::at_least(3),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    history: &[
        ("2.8.12", "Took filters."),
        ("3.2.0", "Took the type master."),
        ("5.0.0", "Took replica beside slave."),
        ("6.2.0", "Took LADDR."),
    ],
    args: &[Arg::one_of(
        "filter",
        &[
            Arg::string("old-format").display("ip:port").deprecated_since("2.8.12"),
            Arg::one_of(
                "new-format",
                &[
                    Arg::integer("client-id").token("ID").since("2.8.12").optional(),
                    Arg::one_of("client-type", KILLED_TYPES)
                        .token("TYPE")
                        .since("2.8.12")
                        .optional(),
                    Arg::string("username").token("USER").optional(),
                    Arg::string("addr").display("ip:port").token("ADDR").optional(),
                    Arg::string("laddr")
                        .display("ip:port")
                        .token("LADDR")
                        .since("6.2.0")
                        .optional(),
                    Arg::one_of("skipme", &[Arg::flag("yes", "YES"), Arg::flag("no", "NO")])
                        .token("SKIPME")
                        .optional(),
                    Arg::integer("maxage").token("MAXAGE").since("7.4.0").optional(),
                ],
            )
            .multiple(),
        ],
    )],
    run: kill,
    ..Command::BASE
};

/// Which connections CLIENT KILL means.
#[derive(Default)]
struct KillFilter<'a> {
    id: Option<u64>,
    kind: Option<ClientKind>,
    user: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    skips_me: bool,
    age_seconds_min: Option<u64>,
}

impl KillFilter<'_> {
    fn matches(&self, session: &Session, server: &Server, me: ClientId) -> bool {
        let mono_ms = server.clock.mono_ms();
        let user = server.user_of(session).name();
        let age_seconds = mono_ms.saturating_sub(session.created_ms) / 1000;
        !(self.skips_me && session.id == me)
            && self.id.is_none_or(|id| id == session.id.number())
            && self.kind.is_none_or(|kind| kind == session.kind)
            && self.user.is_none_or(|wanted| wanted == user)
            && self.address.is_none_or(|address| address == session.peer.address.as_bytes())
            && self.local_address.is_none_or(|a| a == session.peer.local_address.as_bytes())
            && self.age_seconds_min.is_none_or(|min| age_seconds >= min)
    }
}

fn kill(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_old_form = args.remaining() == 1;
    let filter = if is_old_form {
        KillFilter { address: Some(args.bytes()), ..KillFilter::default() }
    } else {
        kill_filter(cx, args)?
    };
    let me = cx.client;
    let doomed: Vec<ClientId> = (cx.clients.iter_by_age().into_iter())
        .filter(|session| filter.matches(session, cx.server, me))
        .map(|session| session.id)
        .collect();
    for client in &doomed {
        if *client == me {
            cx.session_mut().closes_after_reply = true;
        } else {
            delivery::forget(cx.clients, cx.server, *client);
            cx.effect(Effect::Close { client: *client });
        }
    }
    match (is_old_form, doomed.is_empty()) {
        (true, true) => return Err(CommandError::Fixed("ERR No such client")),
        (true, false) => cx.reply.ok(),
        (false, _) => cx.reply.integer(doomed.len() as i64),
    }
    Ok(())
}

fn kill_filter<'a>(cx: &Cx<'_>, args: &mut Args<'a>) -> Result<KillFilter<'a>, CommandError> {
    let mut filter = KillFilter { skips_me: true, ..KillFilter::default() };
    while !args.is_empty() {
        if args.option_with_value("id") {
            let error = CommandError::Fixed("ERR client-id should be greater than 0");
            let id = args.integer_or(error.clone());
            args.check()?;
            filter.id = Some(u64::try_from(id).ok().filter(|id| *id > 0).ok_or(error)?);
        } else if args.option_with_value("maxage") {
            let age = args
                .integer_or(CommandError::Fixed("ERR maxage is not an integer or out of range"));
            args.check()?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            let error = CommandError::Fixed("ERR maxage should be greater than 0");
            filter.age_seconds_min = Some(age.ok_or(error)?);
        } else if args.option_with_value("type") {
            filter.kind = Some(client_kind(args)?);
        } else if args.option_with_value("addr") {
            filter.address = Some(args.bytes());
        } else if args.option_with_value("laddr") {
            filter.local_address = Some(args.bytes());
        } else if args.option_with_value("user") {
            let user = args.bytes();
            if cx.server.users.find(user).is_none() {
                let name = String::from_utf8_lossy(user);
                return Err(CommandError::err(format_args!("No such user '{name}'")));
            }
            filter.user = Some(user);
        } else if args.option_with_value("skipme") {
            filter.skips_me = if args.option("yes") {
                true
            } else if args.option("no") {
                false
            } else {
                return Err(CommandError::Syntax);
            };
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(filter)
}

static GETNAME: Command = Command {
    name: "getname",
    since: "2.6.9",
    group: Group::Connection,
    summary: "Returns the name of the connection.",
    arity: Arity::exactly(2),
    flags: COMMON,
    acl: Categories::CONNECTION,
    reply: Shape::BulkOrNull,
    example: "> CLIENT GETNAME\n(nil)\n> CLIENT SETNAME worker-1\nOK\n\
              > CLIENT GETNAME\n\"worker-1\"",
    run: getname,
    ..Command::BASE
};

fn getname(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let name = cx.session().name.clone();
    if name.is_empty() {
        cx.reply.null()
    } else {
        cx.reply.bulk(name.as_bytes())
    }
    Ok(())
}

static SETNAME: Command = Command {
    name: "setname",
    since: "2.6.9",
    group: Group::Connection,
    summary: "Gives the connection a name for CLIENT LIST.",
    arity: Arity::exactly(3),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    args: &[Arg::string("connection-name")],
    reply: Shape::Ok,
    run: setname,
    ..Command::BASE
};

fn setname(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_name(cx, args.bytes())?;
    cx.reply.ok();
    Ok(())
}

/// Names go into CLIENT LIST, whose fields are split at spaces.
pub fn check_name(name: &[u8]) -> CommandResult {
    if is_list_word(name) {
        return Ok(());
    }
    Err(CommandError::Fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

fn is_list_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Names the running connection; an empty name takes the name away.
pub fn set_name(cx: &mut Cx<'_>, name: &[u8]) -> CommandResult {
    check_name(name)?;
    cx.session_mut().name = String::from_utf8_lossy(name).into();
    Ok(())
}

static SETINFO: Command = Command {
    name: "setinfo",
    since: "7.2.0",
    group: Group::Connection,
    summary: "Says which client library is behind the connection.",
    arity: Arity::exactly(4),
    flags: COMMON,
    acl: Categories::CONNECTION,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    args: &[Arg::one_of(
        "attr",
        &[Arg::string("libname").token("LIB-NAME"), Arg::string("libver").token("LIB-VER")],
    )],
    reply: Shape::Ok,
    example: "> CLIENT SETINFO LIB-NAME mylib\nOK",
    run: setinfo,
    ..Command::BASE
};

fn setinfo(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let attribute = args.bytes();
    let value = args.bytes();
    let is_name = attribute.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !attribute.eq_ignore_ascii_case(b"lib-ver") {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(CommandError::err(format_args!("Unrecognized option '{attribute}'")));
    }
    if !is_list_word(value) {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(CommandError::err(format_args!(
            "{attribute} cannot contain spaces, newlines or special characters."
        )));
    }
    let value = String::from_utf8_lossy(value).into();
    let session = cx.session_mut();
    if is_name {
        session.library_name = value;
    } else {
        session.library_version = value;
    }
    cx.reply.ok();
    Ok(())
}

static REPLY: Command = Command {
    name: "reply",
    since: "3.2.0",
    group: Group::Connection,
    summary: "Turns the replies of the connection on, off, or skips the next one.",
    arity: Arity::exactly(3),
    flags: COMMON,
    acl: Categories::CONNECTION,
    args: &[Arg::one_of(
        "action",
        &[Arg::flag("on", "ON"), Arg::flag("off", "OFF"), Arg::flag("skip", "SKIP")],
    )],
    reply: Shape::Ok,
    run: reply,
    ..Command::BASE
};

fn reply(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let session = cx.clients.get_mut(cx.client).expect("the running client is connected");
    if args.option("on") {
        session.reply_mode = ReplyMode::On;
        cx.reply.ok();
    } else if args.option("off") {
        session.reply_mode = ReplyMode::Off;
    } else if args.option("skip") {
        if session.reply_mode != ReplyMode::Off {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

const ON_OFF: &[Arg] = &[Arg::one_of("enabled", &[Arg::flag("on", "ON"), Arg::flag("off", "OFF")])];

fn on_or_off(args: &mut Args<'_>) -> Result<bool, CommandError> {
    let is_on = args.option("on");
    if is_on || args.option("off") { Ok(is_on) } else { Err(CommandError::Syntax) }
}

static NO_EVICT: Command = Command {
    name: "no-evict",
    since: "7.0.0",
    group: Group::Connection,
    summary: "Keeps the connection from being closed when client memory runs short.",
    arity: Arity::exactly(3),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    args: ON_OFF,
    reply: Shape::Ok,
    example: "> CLIENT NO-EVICT ON\nOK",
    run: no_evict,
    ..Command::BASE
};

fn no_evict(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.session_mut().no_evict = on_or_off(args)?;
    cx.reply.ok();
    Ok(())
}

static NO_TOUCH: Command = Command {
    name: "no-touch",
    since: "7.2.0",
    group: Group::Connection,
    summary: "Lets the connection read without counting as use of the keys.",
    arity: Arity::exactly(3),
    flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE),
    acl: Categories::CONNECTION,
    args: ON_OFF,
    reply: Shape::Ok,
    example: "> CLIENT NO-TOUCH ON\nOK",
    run: no_touch,
    ..Command::BASE
};

fn no_touch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_on = on_or_off(args)?;
    cx.session_mut().no_touch = is_on;
    cx.keys.leaves_clocks = is_on;
    cx.reply.ok();
    Ok(())
}

/// Some subcommands have a bound on their words that their arity cannot say.
fn has_words_up_to(words_max: usize, args: &Args<'_>) -> CommandResult {
    if args.remaining() <= words_max {
        return Ok(());
    }
    Err(CommandError::subcommand_syntax("CLIENT", args.request().arg(1)))
}

static PAUSE: Command = Command {
    name: "pause",
    since: "3.0.0",
    group: Group::Connection,
    summary: "Lets the commands of all clients, or only those that write, wait for a while.",
    arity: Arity::at_least(3),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    history: &[("6.2.0", "Took the modes WRITE and ALL.")],
    args: &[
        Arg::integer("timeout"),
        Arg::one_of("mode", &[Arg::flag("write", "WRITE"), Arg::flag("all", "ALL")])
            .since("6.2.0")
            .optional(),
    ],
    reply: Shape::Ok,
    run: pause,
    ..Command::BASE
};

fn pause(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    has_words_up_to(2, args)?;
    let not_integer = "ERR timeout is not an integer or out of range";
    let timeout_ms = args.integer_or(CommandError::Fixed(not_integer));
    let mode = match args.peek() {
        None => PauseMode::All,
        Some(_) if args.option("write") => PauseMode::Writes,
        Some(_) if args.option("all") => PauseMode::All,
        Some(_) => return Err(CommandError::Fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    args.done()?;
    let timeout_ms =
        u64::try_from(timeout_ms).map_err(|_| CommandError::Fixed("ERR timeout is negative"))?;
    // Redis ends a pause at a moment of Unix time, so its range is what clients see.
    if timeout_ms > (i64::MAX as u64).saturating_sub(cx.server.clock.unix_ms()) {
        return Err(CommandError::Fixed("ERR timeout is out of range"));
    }
    let until_ms = cx.server.clock.mono_ms() + timeout_ms;
    cx.server.pause.start(PauseOwner::Client, mode, until_ms);
    cx.reply.ok();
    Ok(())
}

static UNBLOCK: Command = Command {
    name: "unblock",
    since: "5.0.0",
    group: Group::Connection,
    summary: "Ends another client's wait in a blocking command.",
    complexity: "O(log N) with N clients",
    arity: Arity::at_least(3),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    args: &[
        Arg::integer("client-id"),
        Arg::one_of(
            "unblock-type",
            &[Arg::flag("timeout", "TIMEOUT"), Arg::flag("error", "ERROR")],
        )
        .optional(),
    ],
    reply: Shape::Integer,
    example: "> CLIENT UNBLOCK 999\n(integer) 0",
    run: unblock,
    ..Command::BASE
};

fn unblock(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    has_words_up_to(2, args)?;
    let mut ahead = args.clone();
    ahead.bytes();
    let how = match ahead.remaining() {
        0 => Release::TimedOut,
        _ if ahead.option("timeout") => Release::TimedOut,
        _ if ahead.option("error") => Release::Unblocked,
        _ => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(CommandError::Fixed(text));
        }
    };
    let number = args.integer();
    args.check()?;
    let client = u64::try_from(number).ok().and_then(|number| cx.clients.by_number(number));
    let released = client.map(|session| session.id).is_some_and(|id| cx.release(id, how));
    cx.reply.integer(i64::from(released));
    Ok(())
}

static UNPAUSE: Command = Command {
    name: "unpause",
    since: "6.2.0",
    group: Group::Connection,
    summary: "Ends CLIENT PAUSE.",
    complexity: "O(N) with N waiting clients",
    arity: Arity::exactly(2),
    flags: COMMON.or(Flags::ADMIN),
    acl: Categories::CONNECTION,
    reply: Shape::Ok,
    example: "> CLIENT UNPAUSE\nOK",
    run: unpause,
    ..Command::BASE
};

fn unpause(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.core().end_pause_of(PauseOwner::Client);
    cx.reply.ok();
    Ok(())
}
