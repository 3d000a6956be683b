//! Who a connection is and what it speaks: AUTH, HELLO, SELECT, PING, ECHO, RESET, QUIT.

use super::client::set_name;
use crate::acl::DEFAULT;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, DatabaseUse, Deprecated,
    Flags, Group, Shape, Traits, database_at,
};
use crate::engine::session::{Asking, ClientKind, ReplyMode};
use crate::engine::{Cx, delivery, transaction};
use crate::resp::{Protocol, Request};

pub static COMMANDS: &[&Command] =
    &[&ASKING, &AUTH, &ECHO, &HELLO, &PING, &QUIT, &READONLY, &READWRITE, &RESET, &SELECT];

const OPEN: Flags = Flags::NOSCRIPT
    .or(Flags::LOADING)
    .or(Flags::STALE)
    .or(Flags::FAST)
    .or(Flags::NO_AUTH)
    .or(Flags::ALLOW_BUSY);
const ANYTIME: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::FAST);

static AUTH: Command = Command {
    name: "auth",
    group: Group::Connection,
    summary: "Authenticates the connection by a password, or by a user and a password.",
    complexity: "O(N) with N passwords of the user",
    arity: Arity::at_least(2),
    flags: OPEN.or(Flags::SENTINEL),
    acl: Categories::CONNECTION,
    history: &[("6.0.0", "Took a user name in front of the password.")],
    secrets: |_, place| place > 0,
    args: &[Arg::string("username").optional().since("6.0.0"), Arg::string("password")],
    reply: Shape::Ok,
    example: "> CONFIG SET requirepass secret\nOK\n> AUTH secret\nOK\n\
              > AUTH wrong\n(error) WRONGPASS invalid username-password pair or user is disabled.",
    run: auth,
    ..Command::BASE
};

fn auth(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let first = args.bytes();
    if args.is_empty() {
        if !cx.server.has_password() {
            return Err(CommandError::Fixed(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        cx.log_in(args.request().arg(0), DEFAULT, first)?;
    } else {
        let password = args.bytes();
        args.done()?;
        cx.log_in(args.request().arg(0), first, password)?;
    }
    cx.reply.ok();
    Ok(())
}

static HELLO: Command = Command {
    name: "hello",
    since: "6.0.0",
    group: Group::Connection,
    summary: "Greets the server: chooses the protocol version, and may authenticate and name the \
              connection.",
    arity: Arity::at_least(1),
    flags: OPEN.or(Flags::SENTINEL),
    acl: Categories::CONNECTION,
    history: &[("6.2.0", "Made the protocol version optional.")],
    secrets: is_credential,
    args: &[Arg::block(
        "arguments",
        &[
            Arg::integer("protover"),
            Arg::block("auth", &[Arg::string("username"), Arg::string("password")])
                .token("AUTH")
                .optional(),
            Arg::string("clientname").token("SETNAME").optional(),
        ],
    )
    .optional()],
    reply: Shape::Map,
    example: "> HELLO 4\n(error) NOPROTO unsupported protocol version",
    run: hello,
    ..Command::BASE
};

/// The user and the password behind the word AUTH.
fn is_credential(request: &Request<'_>, place: usize) -> bool {
    let auth = request.iter().position(|word| word.eq_ignore_ascii_case(b"auth"));
    auth.is_some_and(|auth| place == auth + 1 || place == auth + 2)
}

fn hello(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut version = None;
    if !args.is_empty() {
        version = Some(
            match args.integer_or(CommandError::Fixed(
                "ERR Protocol version is not an integer or out of range",
            )) {
                2 => Protocol::Resp2,
                3 => Protocol::Resp3,
                _ => {
                    args.check()?;
                    return Err(CommandError::Fixed("NOPROTO unsupported protocol version"));
                }
            },
        );
    }
    let (mut credentials, mut name) = (None, None);
    while !args.is_empty() {
        if args.remaining() >= 3 && args.option("auth") {
            credentials = Some((args.bytes(), args.bytes()));
        } else if args.option_with_value("setname") {
            let text = args.bytes();
            super::client::check_name(text)?;
            name = Some(text);
        } else {
            let option = String::from_utf8_lossy(args.bytes()).into_owned();
            return Err(CommandError::err(format_args!("Syntax error in HELLO option '{option}'")));
        }
    }
    // Nothing is changed before all options were read, so an error in the last one leaves the
    // connection as it was.
    if let Some((user, password)) = credentials {
        cx.log_in(args.request().arg(0), user, password)?;
    }
    if cx.server.requires_auth(cx.session()) {
        return Err(CommandError::Fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        set_name(cx, name)?;
    }
    if let Some(version) = version {
        cx.session_mut().protocol = version;
        cx.reply.set_protocol(version);
    }
    greet(cx);
    Ok(())
}

fn greet(cx: &mut Cx<'_>) {
    let role: &[u8] = if cx.server.is_replica() { b"replica" } else { b"master" };
    let number = cx.client.number();
    let is_sentinel = cx.server.sentinel.is_some();
    let mode = cx.server.mode_word();
    let reply = &mut cx.reply;
    reply.map(if is_sentinel { 6 } else { 7 });
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::config::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if reply.protocol() == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
    reply.bulk(b"mode");
    reply.bulk(mode.as_bytes());
    if !is_sentinel {
        reply.bulk(b"role");
        reply.bulk(role);
    }
    reply.bulk(b"modules");
    reply.array(0);
}

static PING: Command = Command {
    name: "ping",
    group: Group::Connection,
    summary: "Answers, so that a client knows that the connection and the server live.",
    arity: Arity::at_least(1),
    flags: Flags::FAST.or(Flags::SENTINEL),
    traits: Traits::FITS_SUBSCRIBER.or(Traits::FITS_STREAM).or(Traits::TELLS_HEALTH),
    acl: Categories::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    args: &[Arg::string("message").optional()],
    example: "> PING\nPONG\n> PING hello\n\"hello\"",
    run: ping,
    ..Command::BASE
};

fn ping(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::WrongArity("ping"));
    }
    let message = args.peek();
    // A subscriber of RESP2 knows replies from messages by their shape alone, so this is a message.
    let in_subscription =
        cx.session().kind == ClientKind::Pubsub && cx.reply.protocol() == Protocol::Resp2;
    if in_subscription {
        cx.reply.array(2);
        cx.reply.bulk(b"pong");
        cx.reply.bulk(message.unwrap_or(b""));
    } else {
        match message {
            Some(message) => cx.reply.bulk(message),
            None => cx.reply.simple(b"PONG"),
        }
    }
    Ok(())
}

static ECHO: Command = Command {
    name: "echo",
    group: Group::Connection,
    summary: "Answers with the same text.",
    arity: Arity::exactly(2),
    flags: ANYTIME,
    acl: Categories::CONNECTION,
    args: &[Arg::string("message")],
    reply: Shape::Bulk,
    example: "> ECHO hello\n\"hello\"",
    run: echo,
    ..Command::BASE
};

fn echo(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.bulk(args.bytes());
    Ok(())
}

static SELECT: Command = Command {
    name: "select",
    group: Group::Connection,
    summary: "Moves the connection to another database.",
    arity: Arity::exactly(2),
    flags: ANYTIME,
    traits: Traits::FITS_STREAM,
    acl: Categories::CONNECTION,
    databases: DatabaseUse::Named(|request| [database_at(request, 1), None]),
    args: &[Arg::integer("index")],
    reply: Shape::Ok,
    example: "> SELECT 1\nOK\n> SELECT 99\n(error) ERR DB index is out of range",
    run: select,
    ..Command::BASE
};

fn select(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let index = args.integer_32();
    args.done()?;
    if cx.server.cluster.is_some() && index != 0 {
        return Err(CommandError::Fixed("ERR SELECT is not allowed in cluster mode"));
    }
    let db = usize::try_from(index).ok().filter(|db| *db < cx.keys.db_count());
    cx.select(db.ok_or(CommandError::DbIndexOutOfRange)?);
    cx.reply.ok();
    Ok(())
}

static RESET: Command = Command {
    name: "reset",
    since: "6.2.0",
    group: Group::Connection,
    summary: "Puts the connection back to how it was when it was opened.",
    arity: Arity::exactly(1),
    flags: OPEN,
    traits: Traits::RUNS_IN_MULTI.or(Traits::FITS_SUBSCRIBER),
    acl: Categories::CONNECTION,
    reply: Shape::Simple,
    example: "> SELECT 1\nOK\n> RESET\nRESET",
    run: reset,
    ..Command::BASE
};

fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if matches!(cx.session().kind, ClientKind::Replica | ClientKind::Primary) {
        return Err(CommandError::Fixed("ERR can only reset normal client connections"));
    }
    transaction::leave(cx);
    let session = cx.clients.get_mut(cx.client).expect("the running client is connected");
    delivery::end_interests(session, cx.server);
    cx.select(0);
    // As for a new connection: whoever had to give a password has to give it again.
    let user = cx.server.first_user();
    let session = cx.session_mut();
    session.protocol = Protocol::Resp2;
    session.user = user;
    session.name = "".into();
    session.reads_from_replica = false;
    session.asking = Asking::No;
    session.is_redirected = false;
    session.reply_mode = ReplyMode::On;
    session.no_touch = false;
    session.no_evict = false;
    cx.reply.set_protocol(Protocol::Resp2);
    cx.keys.leaves_clocks = false;
    cx.reply.simple(b"RESET");
    Ok(())
}

static QUIT: Command = Command {
    name: "quit",
    group: Group::Connection,
    summary: "Ends the connection when its replies have been sent.",
    arity: Arity::at_least(1),
    flags: OPEN,
    traits: Traits::RUNS_IN_MULTI.or(Traits::FITS_SUBSCRIBER),
    acl: Categories::CONNECTION,
    deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "just closing the connection" }),
    reply: Shape::Ok,
    example: "> QUIT\nOK",
    run: quit,
    ..Command::BASE
};

fn quit(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.session_mut().closes_after_reply = true;
    cx.reply.ok();
    Ok(())
}

static READONLY: Command = Command {
    name: "readonly",
    since: "3.0.0",
    group: Group::Cluster,
    summary: "Lets a connection to a cluster replica read.",
    arity: Arity::exactly(1),
    flags: ANYTIME,
    acl: Categories::CONNECTION,
    example: "> READONLY\n(error) ERR This instance has cluster support disabled",
    run: |cx, _| read_from_replica(cx, true),
    ..Command::BASE
};

static READWRITE: Command = Command {
    name: "readwrite",
    since: "3.0.0",
    group: Group::Cluster,
    summary: "Takes back READONLY.",
    arity: Arity::exactly(1),
    flags: ANYTIME,
    acl: Categories::CONNECTION,
    example: "> READWRITE\n(error) ERR This instance has cluster support disabled",
    run: |cx, _| read_from_replica(cx, false),
    ..Command::BASE
};

static ASKING: Command = Command {
    name: "asking",
    since: "3.0.0",
    group: Group::Cluster,
    summary: "Says that the next command follows an ASK redirection.",
    arity: Arity::exactly(1),
    flags: Flags::FAST,
    acl: Categories::CONNECTION,
    example: "> ASKING\n(error) ERR This instance has cluster support disabled",
    run: asking,
    ..Command::BASE
};

/// Without a cluster this means something to a client that would be sent to the primary.
fn read_from_replica(cx: &mut Cx<'_>, reads: bool) -> CommandResult {
    let is_in_cluster = cx.server.cluster.is_some();
    let session = cx.session_mut();
    if !is_in_cluster && !session.is_redirected {
        return Err(CommandError::NoClusterSupport);
    }
    session.reads_from_replica = reads;
    cx.reply.ok();
    Ok(())
}

fn asking(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.server.cluster.is_none() {
        return Err(CommandError::NoClusterSupport);
    }
    cx.session_mut().asking = Asking::Next;
    cx.reply.ok();
    Ok(())
}
