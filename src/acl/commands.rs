//! ACL: who may do what, and what was refused.

use super::check::{self, Asked, Denial};
use super::log::Entry;
use super::{DEFAULT, Selector, SetError, User, file};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Lookup,
    Shape, help,
};
use crate::config::commands::rewrite_file;
use crate::config::os_reason;
use crate::engine::Cx;
use crate::resp::{OwnedRequest, Reply, Request};
use std::rc::Rc;

pub static COMMANDS: &[&Command] = &[&ACL];

const OPEN: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SENTINEL);
const COMMON: Flags = OPEN.or(Flags::ADMIN);

const BASE: Command =
    Command { since: "6.0.0", group: Group::Server, flags: COMMON, ..Command::BASE };

static ACL: Command = Command {
    name: "acl",
    summary: "Holds the commands about users and what they may do.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    flags: Flags::SENTINEL,
    subcommands: &[
        &CAT, &DELUSER, &DRYRUN, &GENPASS, &GETUSER, &HELP, &LIST, &LOAD, &LOG, &SAVE, &SETUSER,
        &USERS, &WHOAMI,
    ],
    ..BASE
};

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL),
    reply: Shape::Array,
    run: help::subcommands,
    ..BASE
};

static CAT: Command = Command {
    name: "cat",
    summary: "Lists the categories, or the commands of one.",
    complexity: "O(N) with N commands",
    arity: Arity::at_least(2),
    flags: OPEN,
    args: &[Arg::string("category").optional()],
    reply: Shape::Array,
    example: "> ACL CAT nosuch\n(error) ERR Unknown category 'nosuch'",
    run: cat,
    ..BASE
};

fn cat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("ACL", args.request().arg(1)));
    }
    if args.is_empty() {
        cx.reply.array(Categories::all().count());
        Categories::all().for_each(|(name, _)| cx.reply.bulk(name.as_bytes()));
        return Ok(());
    }
    let name = args.bytes();
    let category = Categories::by_name(name).ok_or_else(|| {
        const SHOWN_BYTES_MAX: usize = 128;
        let name = String::from_utf8_lossy(&name[..name.len().min(SHOWN_BYTES_MAX)]);
        CommandError::err(format_args!("Unknown category '{name}'"))
    })?;
    let header = cx.reply.begin_deferred();
    let rows = cx.server.table.rows().iter();
    let mut count = 0;
    for row in rows.filter(|row| row.command.categories().has(category)) {
        cx.reply.bulk(row.full_name.as_bytes());
        count += 1;
    }
    cx.reply.end_array(header, count);
    Ok(())
}

/// Who is spoken of, and what is said of them, is nothing for logs.
fn is_about_users(_: &Request<'_>, place: usize) -> bool {
    place > 1
}

static SETUSER: Command = Command {
    name: "setuser",
    summary: "Makes a user, or changes what it may do.",
    complexity: "O(N+M) with N rules and M clients",
    arity: Arity::at_least(3),
    history: &[
        ("6.2.0", "Took channel patterns."),
        ("7.0.0", "Took selectors and key permissions for reading and writing alone."),
    ],
    secrets: is_about_users,
    args: &[Arg::string("username"), Arg::string("rule").optional().multiple()],
    reply: Shape::Ok,
    example: "> ACL SETUSER app on >secret ~app:* +@read\nOK\n> ACL DRYRUN app GET app:1\nOK",
    run: setuser,
    ..BASE
};

fn setuser(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    let rules: Vec<&[u8]> = rest(args);
    let server = &cx.server;
    let changed = server.users.changed(name, &rules, &server.table, server.beginning());
    cx.put_user(changed.map_err(wire)?);
    cx.reply.ok();
    Ok(())
}

fn rest<'a>(args: &mut Args<'a>) -> Vec<&'a [u8]> {
    (0..args.remaining()).map(|_| args.bytes()).collect()
}

fn wire(error: SetError) -> CommandError {
    let text = match error {
        SetError::BadName => b"ERR Usernames can't contain spaces or null characters".to_vec(),
        SetError::Unmatched(word) => {
            [b"ERR Unmatched parenthesis in acl selector starting at '", &word[..], b"'."].concat()
        }
        SetError::Rule(rule, error) => {
            let begin = b"ERR Error in ACL SETUSER modifier '";
            [begin, &rule[..], b"': ", error.text().as_bytes()].concat()
        }
    };
    CommandError::Bytes(text.into_boxed_slice())
}

static DELUSER: Command = Command {
    name: "deluser",
    summary: "Removes users, and closes the connections that act as them.",
    complexity: "O(N+M) with N users and M clients",
    arity: Arity::at_least(3),
    secrets: is_about_users,
    args: &[Arg::string("username").multiple()],
    reply: Shape::Integer,
    example: "> ACL SETUSER app\nOK\n> ACL DELUSER app nobody\n(integer) 1",
    run: deluser,
    ..BASE
};

fn deluser(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let names = rest(args);
    if names.contains(&DEFAULT) {
        return Err(CommandError::Fixed("ERR The 'default' user cannot be removed"));
    }
    let removed = cx.remove_users(&names);
    cx.reply.integer(i64::try_from(removed).expect("counts of things in memory fit"));
    Ok(())
}

static GETUSER: Command = Command {
    name: "getuser",
    summary: "Describes a user.",
    complexity: "O(N) with N rules",
    arity: Arity::exactly(3),
    history: &[
        ("6.2.0", "Added the channel patterns."),
        ("7.0.0", "Added selectors, and wrote keys and channels as rules."),
    ],
    secrets: is_about_users,
    args: &[Arg::string("username")],
    example: "> ACL GETUSER nobody\n(nil)",
    run: getuser,
    ..BASE
};

fn getuser(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    args.done()?;
    let Some(user) = cx.server.users.find(name).map(Rc::clone) else {
        cx.reply.null();
        return Ok(());
    };
    let reply = &mut cx.reply;
    reply.map(3 + fields_of(user.root()));
    reply.bulk(b"flags");
    let flags: Vec<&str> = user.flags().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords().len());
    user.passwords().for_each(|password| reply.bulk(password.as_bytes()));
    describe(reply, user.root());
    reply.bulk(b"selectors");
    reply.array(user.others().len());
    for selector in user.others() {
        reply.map(fields_of(selector));
        describe(reply, selector);
    }
    Ok(())
}

/// Databases are shown where something was said of them, as Redis knows no rights to them.
fn fields_of(selector: &Selector) -> usize {
    3 + usize::from(selector.databases.word().is_some())
}

fn describe(reply: &mut Reply<'_>, selector: &Selector) {
    let mut field = |name: &str, words: &[Vec<u8>]| {
        reply.bulk(name.as_bytes());
        reply.bulk(&words.join(&b' '));
    };
    field("commands", &selector.command_words());
    field("keys", &selector.keys.words());
    field("channels", &selector.channels.words());
    if let Some(word) = selector.databases.word() {
        field("databases", &[word.into_bytes()]);
    }
}

static LIST: Command = Command {
    name: "list",
    summary: "Describes all users, one a line, as the file of users does.",
    complexity: "O(N) with N users",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    example: "> ACL LIST\n1) \"user default on nopass *~* &* +@all\"",
    run: list,
    ..BASE
};

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    list_users(cx, |user| user.line())
}

fn list_users(cx: &mut Cx<'_>, show: impl Fn(&User) -> Vec<u8>) -> CommandResult {
    let users = cx.server.users.iter();
    cx.reply.array(users.len());
    users.for_each(|user| cx.reply.bulk(&show(user)));
    Ok(())
}

static USERS: Command = Command {
    name: "users",
    summary: "Lists the names of all users.",
    complexity: "O(N) with N users",
    arity: Arity::exactly(2),
    reply: Shape::Array,
    example: "> ACL USERS\n1) \"default\"",
    run: users,
    ..BASE
};

fn users(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    list_users(cx, |user| user.name().to_vec())
}

static WHOAMI: Command = Command {
    name: "whoami",
    summary: "Returns the name of the user that the connection acts as.",
    arity: Arity::exactly(2),
    flags: OPEN,
    reply: Shape::BulkOrNull,
    example: "> ACL WHOAMI\n\"default\"",
    run: whoami,
    ..BASE
};

fn whoami(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let name = cx.server.user_of(cx.session()).name().to_vec();
    cx.reply.bulk(&name);
    Ok(())
}

static GENPASS: Command = Command {
    name: "genpass",
    summary: "Draws a password that nobody can guess.",
    arity: Arity::at_least(2),
    flags: OPEN,
    args: &[Arg::integer("bits").optional()],
    reply: Shape::Bulk,
    example: "> ACL GENPASS 0\n(error) ERR ACL GENPASS argument must be the number of bits for the \
              output password, a positive number up to 4096",
    run: genpass,
    ..BASE
};

fn genpass(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const BITS_MAX: i64 = 4096;
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("ACL", args.request().arg(1)));
    }
    let bits = if args.is_empty() { 256 } else { args.integer() };
    args.done()?;
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(CommandError::Fixed(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    let digits = usize::try_from(bits).unwrap_or_default().div_ceil(4);
    // The engine's own numbers can be foretold, which passwords must not be.
    let mut bytes = vec![0; digits.div_ceil(2)];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::err(format_args!("no randomness: {error}")))?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    cx.reply.bulk(text.as_bytes());
    Ok(())
}

static DRYRUN: Command = Command {
    name: "dryrun",
    since: "7.0.0",
    summary: "Says whether a user may run a command, without running it.",
    complexity: "O(N) with N rules",
    arity: Arity::at_least(4),
    secrets: is_about_users,
    args: &[
        Arg::string("username"),
        Arg::string("command"),
        Arg::string("arg").optional().multiple(),
    ],
    example: "> ACL SETUSER app +get ~k\nOK\n> ACL DRYRUN app GET k\nOK\n\
              > ACL DRYRUN nobody GET k\n(error) ERR User 'nobody' not found",
    run: dryrun,
    ..BASE
};

fn dryrun(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    let user = cx.server.users.find(name).map(Rc::clone).ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        CommandError::err(format_args!("User '{name}' not found"))
    })?;
    let words = rest(args);
    let request = OwnedRequest::from_args(&words);
    let request = request.as_request();
    let Lookup::Found(id) = cx.server.table.lookup(&request) else {
        let name = String::from_utf8_lossy(words[0]);
        return Err(CommandError::err(format_args!("Command '{name}' not found")));
    };
    let row = cx.server.table.row(id);
    if !row.command.arity.accepts(request.len()) {
        return Err(CommandError::WrongArity(row.full_name));
    }
    match check::check(&user, &Asked::new(row, &request, Some(cx.keys.db))) {
        Ok(()) => cx.reply.ok(),
        Err(denial) => {
            let text = explain(&user, row.full_name, &request, denial);
            cx.reply.bulk(&text);
        }
    }
    Ok(())
}

fn explain(user: &User, command: &str, request: &Request<'_>, denial: Denial) -> Vec<u8> {
    let user = user.name();
    let item = |at: usize, kind: &str| {
        let begin = b" has no permissions to access the '";
        [b"User ", user, &begin[..], request.arg(at), b"' ", kind.as_bytes()].concat()
    };
    match denial {
        Denial::Key(at) => item(at, "key"),
        Denial::Channel(at) => item(at, "channel"),
        Denial::Command => {
            let begin = b" has no permissions to run the '";
            [b"User ", user, &begin[..], command.as_bytes(), b"' command"].concat()
        }
        Denial::Database(db) => {
            let which = db.map_or_else(|| "s other than its own".to_owned(), |db| format!(" {db}"));
            let begin = b" has no permissions to access database";
            [b"User ", user, &begin[..], which.as_bytes()].concat()
        }
    }
}

static LOG: Command = Command {
    name: "log",
    summary: "Lists the last refusals and failed logins, or forgets them.",
    complexity: "O(N) with N entries shown",
    arity: Arity::at_least(2),
    history: &[("7.2.0", "Added entry ID, timestamp created, and timestamp last updated.")],
    args: &[
        Arg::one_of("operation", &[Arg::integer("count"), Arg::flag("reset", "RESET")]).optional()
    ],
    example: "> ACL LOG RESET\nOK\n> ACL LOG\n(empty array)",
    run: log,
    ..BASE
};

/// So many entries are shown unless somebody wants more.
const SHOWN: usize = 10;

fn log(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("ACL", args.request().arg(1)));
    }
    if args.option("reset") {
        cx.server.acl_log.clear();
        cx.reply.ok();
        return Ok(());
    }
    let wanted = if args.is_empty() { SHOWN as i64 } else { args.integer() };
    args.done()?;
    let now_ms = cx.server.clock.unix_ms();
    let entries = cx.server.acl_log.iter();
    let count = usize::try_from(wanted).unwrap_or(0).min(entries.len());
    cx.reply.array(count);
    for entry in entries.take(count) {
        show_entry(&mut cx.reply, entry, now_ms);
    }
    Ok(())
}

fn show_entry(reply: &mut Reply<'_>, entry: &Entry, now_ms: u64) {
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    reply.map(10);
    reply.bulk(b"count");
    reply.integer(integer(entry.count));
    for (name, text) in [
        ("reason", entry.event.reason.word().as_bytes()),
        ("context", entry.event.context.word().as_bytes()),
        ("object", &entry.event.object),
        ("username", &entry.event.user),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text);
    }
    reply.bulk(b"age-seconds");
    // Milliseconds since 1970 are exact in a double for ages.
    reply.double(now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(entry.client.as_bytes());
    for (name, number) in [
        ("entry-id", entry.id),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(integer(number));
    }
}

const NO_FILE: CommandError = CommandError::Fixed(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users \
     via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis \
     configuration file set) in order to store users in the Redis configuration.",
);

static LOAD: Command = Command {
    name: "load",
    summary: "Takes all users from the file of users, or none of them.",
    complexity: "O(N+M) with N rules and M clients",
    arity: Arity::exactly(2),
    reply: Shape::Ok,
    run: load,
    ..BASE
};

fn load(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.server.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    cx.load_users().map_err(|faults| CommandError::err(format_args!("{faults}")))?;
    cx.reply.ok();
    Ok(())
}

static SAVE: Command = Command {
    name: "save",
    summary: "Writes all users into the file of users.",
    complexity: "O(N) with N rules",
    arity: Arity::exactly(2),
    reply: Shape::Ok,
    run: save,
    ..BASE
};

fn save(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.server.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let path = cx.server.config.aclfile.as_path().to_owned();
    let text = file::write(&cx.server.users);
    cx.answer_by(move |reply| match rewrite_file(&path, |_| text) {
        Ok(()) => {
            reply.ok();
            Ok(())
        }
        Err(error) => {
            tracing::warn!("Writing ACL file for ACL SAVE: {}", os_reason(&error));
            Err(CommandError::Fixed(
                "ERR There was an error trying to save the ACLs. Please check the server logs for \
                 more information",
            ))
        }
    })
}
