//! The server as a whole: databases, time, shutdown.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, DatabaseUse, Flags, Group,
    Shape, Traits, database_at,
};
use crate::config::ShutdownOptions;
use crate::engine::waiting::{Reason, Wait};
use crate::engine::{Core, Cx, eviction, transaction};
use crate::keyspace::Db;
use std::ops::Range;

pub static COMMANDS: &[&Command] =
    &[&DBSIZE, &FLUSHALL, &FLUSHDB, &LOLWUT, &SHUTDOWN, &SWAPDB, &TIME];

static DBSIZE: Command = Command {
    name: "dbsize",
    group: Group::Server,
    summary: "Returns how many keys the database has.",
    arity: Arity::exactly(1),
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    tips: &["request_policy:all_shards", "response_policy:agg_sum"],
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> DBSIZE\n(integer) 1",
    run: dbsize,
    ..Command::BASE
};

fn dbsize(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.integer(cx.keys.db().len() as i64);
    Ok(())
}

const FLUSH_ARGS: &[Arg] = &[Arg::one_of(
    "flush-type",
    &[Arg::flag("async", "ASYNC").since("4.0.0"), Arg::flag("sync", "SYNC").since("6.2.0")],
)
.optional()];

static FLUSHDB: Command = Command {
    name: "flushdb",
    group: Group::Server,
    summary: "Removes all keys of the database.",
    complexity: "O(1); the memory is freed by another thread",
    arity: Arity::at_least(1),
    flags: Flags::WRITE,
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[("4.0.0", "Took ASYNC."), ("6.2.0", "Took SYNC.")],
    args: FLUSH_ARGS,
    reply: Shape::Ok,
    example: "> SET k v\nOK\n> FLUSHDB\nOK\n> DBSIZE\n(integer) 0",
    run: flushdb,
    ..Command::BASE
};

fn flushdb(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let lazily = flush_mode(cx, args)?;
    let db = cx.keys.db;
    let removed = empty(cx, db..db + 1);
    free(cx, removed, lazily)
}

static FLUSHALL: Command = Command {
    name: "flushall",
    group: Group::Server,
    summary: "Removes all keys of all databases.",
    complexity: "O(D) with D databases; the memory is freed by another thread",
    arity: Arity::at_least(1),
    flags: Flags::WRITE,
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    history: &[("4.0.0", "Took ASYNC."), ("6.2.0", "Took SYNC.")],
    databases: DatabaseUse::All,
    args: FLUSH_ARGS,
    reply: Shape::Ok,
    example: "> SET k v\nOK\n> FLUSHALL ASYNC\nOK\n> DBSIZE\n(integer) 0",
    run: flushall,
    ..Command::BASE
};

fn flushall(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let lazily = flush_mode(cx, args)?;
    let all = 0..cx.keys.db_count();
    let (client, may_wait) = (cx.client, cx.caller.may_answer_late());
    let removed = empty(cx, all);
    if cx.server.save_after_flush(cx.keys.space(), client, may_wait) {
        cx.wait_for_answer();
        free_elsewhere(cx, removed);
        return Ok(());
    }
    free(cx, removed, lazily)
}

/// Whether the caller may go on before the memory is free.
fn flush_mode(cx: &Cx<'_>, args: &mut Args<'_>) -> Result<bool, CommandError> {
    let lazily = match args.peek() {
        None => cx.server.config.lazyfree_lazy_user_flush,
        Some(_) if args.option("async") => true,
        Some(_) if args.option("sync") => false,
        Some(_) => return Err(CommandError::Syntax),
    };
    args.done()?;
    Ok(lazily)
}

/// So many keys are freed before others go on; to free more is left to another thread, for which
/// only the caller waits.
const FREE_INLINE_KEYS_MAX: u64 = 10_000;

/// Empties databases; what was in them.
fn empty(cx: &mut Cx<'_>, dbs: Range<usize>) -> Vec<Db> {
    let mut removed = Vec::new();
    for db in dbs {
        touch_watched_keys(cx, db, None);
        removed.push(cx.keys.space().take_db(db));
        cx.offer_awaited_keys(db);
    }
    cx.invalidate_everything();
    removed.retain(|db| !db.is_empty());
    cx.keys.space().changes.dirty += key_count(&removed).max(1);
    removed
}

/// Breaks the watches of a database that is to be empty, or what another one is.
fn touch_watched_keys(cx: &mut Cx<'_>, db: usize, replacement: Option<usize>) {
    let Core { space, clients, server } = cx.core();
    let replacement = replacement.map(|other| space.db(other));
    transaction::touch_watched_keys(space, clients, &server.watched, db, replacement);
}

fn key_count(dbs: &[Db]) -> u64 {
    dbs.iter().map(|db| db.len() as u64).sum()
}

/// Frees what was in databases and answers, lazily before the memory is free.
fn free(cx: &mut Cx<'_>, removed: Vec<Db>, lazily: bool) -> CommandResult {
    if lazily {
        free_elsewhere(cx, removed);
    } else if key_count(&removed) > FREE_INLINE_KEYS_MAX {
        return cx.answer_by(move |reply| {
            drop(removed);
            reply.ok();
            Ok(())
        });
    }
    cx.reply.ok();
    Ok(())
}

fn free_elsewhere(cx: &mut Cx<'_>, removed: Vec<Db>) {
    let keys = key_count(&removed);
    let bytes_a_key = eviction::bytes_a_key(cx.keys.space(), cx.clients, cx.server, keys);
    for db in removed {
        let bytes = db.len() * bytes_a_key;
        cx.keys.space().changes.discard_db(db, bytes);
    }
}

static SWAPDB: Command = Command {
    name: "swapdb",
    since: "4.0.0",
    group: Group::Server,
    summary: "Exchanges two databases, for all connections at once.",
    complexity: "O(N) with N watched keys of the two",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    databases: DatabaseUse::Named(|request| [database_at(request, 1), database_at(request, 2)]),
    args: &[Arg::integer("index1"), Arg::integer("index2")],
    reply: Shape::Ok,
    example: "> SET k v\nOK\n> SWAPDB 0 1\nOK\n> GET k\n(nil)",
    run: swapdb,
    ..Command::BASE
};

/// The next argument as what Redis reads a database index as, which is 32 bits wide.
fn db_index(args: &mut Args<'_>, text: &'static str) -> i64 {
    let index = args.integer_or(CommandError::Fixed(text));
    if i32::try_from(index).is_err() {
        args.fail(CommandError::Fixed(text));
    }
    index
}

fn swapdb(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.server.config.cluster_enabled {
        return Err(CommandError::Fixed("ERR SWAPDB is not allowed in cluster mode"));
    }
    let first = db_index(args, "ERR invalid first DB index");
    let second = db_index(args, "ERR invalid second DB index");
    args.done()?;
    let count = cx.keys.db_count();
    let in_range = |index: i64| usize::try_from(index).ok().filter(|index| *index < count);
    let first = in_range(first).ok_or(CommandError::DbIndexOutOfRange)?;
    let second = in_range(second).ok_or(CommandError::DbIndexOutOfRange)?;
    if first != second {
        touch_watched_keys(cx, first, Some(second));
        touch_watched_keys(cx, second, Some(first));
        cx.keys.space().swap_dbs(first, second);
        cx.offer_awaited_keys(first);
        cx.offer_awaited_keys(second);
    }
    cx.keys.space().changes.dirty += 1;
    cx.reply.ok();
    Ok(())
}

static TIME: Command = Command {
    name: "time",
    since: "2.6.0",
    group: Group::Server,
    summary: "Returns the server's time: seconds since 1970, and microseconds within the second.",
    arity: Arity::exactly(1),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
    tips: &["nondeterministic_output"],
    reply: Shape::Array,
    run: time,
    ..Command::BASE
};

fn time(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let unix_us = cx.server.clock.now().unix_us;
    cx.reply.array(2);
    cx.reply.bulk_fmt(format_args!("{}", unix_us / 1_000_000));
    cx.reply.bulk_fmt(format_args!("{}", unix_us % 1_000_000));
    Ok(())
}

static SHUTDOWN: Command = Command {
    name: "shutdown",
    group: Group::Server,
    summary: "Ends the server.",
    complexity: "O(N) with N keys, when they are saved",
    arity: Arity::at_least(1),
    flags: Flags::ADMIN
        .or(Flags::NOSCRIPT)
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::NO_MULTI)
        .or(Flags::SENTINEL)
        .or(Flags::ALLOW_BUSY),
    traits: Traits::IS_BUSY_UNLESS_NOSAVE,
    history: &[("7.0.0", "Took NOW, FORCE and ABORT.")],
    args: &[
        Arg::one_of("save-selector", &[Arg::flag("nosave", "NOSAVE"), Arg::flag("save", "SAVE")])
            .optional(),
        Arg::flag("now", "NOW").since("7.0.0").optional(),
        Arg::flag("force", "FORCE").since("7.0.0").optional(),
        Arg::flag("abort", "ABORT").since("7.0.0").optional(),
    ],
    example: "> SHUTDOWN ABORT\n(error) ERR No shutdown in progress.",
    run: shutdown,
    ..Command::BASE
};

fn shutdown(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut options = ShutdownOptions::default();
    let mut aborts = false;
    while !args.is_empty() {
        if args.option("save") {
            options.save = true;
        } else if args.option("nosave") {
            options.nosave = true;
        } else if args.option("now") {
            options.now = true;
        } else if args.option("force") {
            options.force = true;
        } else if args.option("abort") {
            aborts = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let is_plain = options == ShutdownOptions::default();
    if (options.save && options.nosave) || (aborts && !is_plain) {
        return Err(CommandError::Syntax);
    }
    if aborts {
        // One that waits for replicas can be called off; one that has begun lets no command in.
        if cx.server.abort_departure(cx.clients) {
            cx.reply.ok();
            return Ok(());
        }
        return Err(CommandError::Fixed("ERR No shutdown in progress."));
    }
    if cx.server.under_way.is_some() && !options.nosave {
        // What a script has done by half is not to be saved.
        return Err(cx.server.busy_error());
    }
    cx.server.begin_shutdown(cx.keys.space(), options)?;
    cx.wait(Wait::for_ever(Reason::End));
    Ok(())
}

static LOLWUT: Command = Command {
    name: "lolwut",
    since: "5.0.0",
    group: Group::Server,
    summary: "Draws something, and says which version this is.",
    arity: Arity::at_least(1),
    flags: Flags::READONLY.or(Flags::FAST),
    args: &[Arg::integer("version").token("VERSION").optional()],
    reply: Shape::Bulk,
    run: lolwut,
    ..Command::BASE
};

/// A rufous hummingbird, seen from the side.
const HUMMINGBIRD: &str = r"
                 __
        \\      /o )________
         \\\___/ ,'
      ====      /
         /// ,-'
        // ,'
          /
";

fn lolwut(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.option_with_value("version") {
        args.integer();
        args.check()?;
    }
    let text = format!(
        "{HUMMINGBIRD}\nRedis ver. {} (Rufous {})\n",
        crate::config::REDIS_VERSION,
        env!("CARGO_PKG_VERSION")
    );
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}
