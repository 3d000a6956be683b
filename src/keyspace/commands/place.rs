//! A value under another key or in another database: RENAME, RENAMENX, MOVE, COPY.
//!
//! A value changes place by its pointer, never by its contents, so a big value costs what a small
//! one does; a copy shares its value with the original until one of the two is written. The new
//! place counts as a new key: what it held is deleted first, and its access clock starts afresh.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, DatabaseUse, Flags, Group,
    KeyFlags, KeySpec, Shape, database_at,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::resp::Request;

pub(super) static RENAME: Command = Command {
    name: "rename",
    group: Group::Generic,
    summary: "Gives a key another name; what was there under that name is deleted.",
    arity: Arity::exactly(3),
    flags: Flags::WRITE,
    acl: Categories::KEYSPACE,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
    ],
    args: &[Arg::key("key"), Arg::key("newkey").key_spec(1)],
    reply: Shape::Ok,
    example: "> SET k v\nOK\n> RENAME k l\nOK\n> GET l\n\"v\"\n\
              > RENAME nothing k\n(error) ERR no such key",
    run: rename,
    ..Command::BASE
};

fn rename(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    rename_unless(cx, args, |_| false)?;
    cx.reply.ok();
    Ok(())
}

pub(super) static RENAMENX: Command = Command {
    name: "renamenx",
    group: Group::Generic,
    summary: "Gives a key another name if there is no key of that name.",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    history: &[("3.2.0", "Answered 0, not an error, when the two names are the same.")],
    keys: &[
        KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::one(2, KeyFlags::OW.or(KeyFlags::INSERT)),
    ],
    args: &[Arg::key("key"), Arg::key("newkey").key_spec(1)],
    reply: Shape::Integer,
    example: "> MSET k 1 l 2\nOK\n> RENAMENX k l\n(integer) 0\n> RENAMENX k m\n(integer) 1",
    run: renamenx,
    ..Command::BASE
};

fn renamenx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let renamed = rename_unless(cx, args, |target_exists| target_exists)?;
    cx.reply.integer(i64::from(renamed));
    Ok(())
}

/// Renames a key unless the fact whether the target exists forbids it; whether it was renamed.
fn rename_unless(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    forbids: impl Fn(bool) -> bool,
) -> Result<bool, CommandError> {
    let (from, to) = (args.key(), args.key());
    args.done()?;
    if !cx.keys.exists(&from) {
        return Err(CommandError::NoSuchKey);
    }
    if from.bytes == to.bytes {
        return Ok(false);
    }
    cx.keys.remove_if_expired(&to);
    if forbids(cx.keys.exists(&to)) {
        return Ok(false);
    }
    let entry = cx.keys.take(&from).expect("it was there");
    cx.keys.put_as(&to, &entry);
    cx.keys.touch(&from);
    cx.keys.event(&from, EventClasses::GENERIC, "rename_from");
    cx.keys.changed(&to, EventClasses::GENERIC, "rename_to");
    Ok(true)
}

pub(super) static MOVE: Command = Command {
    name: "move",
    group: Group::Generic,
    summary: "Moves a key to another database, unless that has a key of this name.",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
    databases: DatabaseUse::Named(|request| [database_at(request, 2), None]),
    args: &[Arg::key("key"), Arg::integer("db")],
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> MOVE k 1\n(integer) 1\n> EXISTS k\n(integer) 0\n\
              > MOVE k 0\n(error) ERR source and destination objects are the same",
    run: move_,
    ..Command::BASE
};

fn move_(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.server.config.cluster_enabled {
        return Err(CommandError::Fixed("ERR MOVE is not allowed in cluster mode"));
    }
    let key = args.key();
    let db = db_index(cx, args);
    args.done()?;
    if db == cx.keys.db {
        return Err(CommandError::SameObject);
    }
    let may_move = cx.keys.exists(&key) && {
        let mut target = cx.keys.other(db);
        target.remove_if_expired(&key);
        !target.exists(&key)
    };
    if may_move {
        let entry = cx.keys.take(&key).expect("it was there");
        cx.keys.other(db).put_as(&key, &entry);
        cx.keys.touch(&key);
        cx.keys.event(&key, EventClasses::GENERIC, "move_from");
        cx.keys.other(db).changed(&key, EventClasses::GENERIC, "move_to");
    }
    cx.reply.integer(i64::from(may_move));
    Ok(())
}

/// The next argument as a database that exists.
fn db_index(cx: &Cx<'_>, args: &mut Args<'_>) -> usize {
    let index = args.integer_32();
    let db = usize::try_from(index).ok().filter(|db| *db < cx.keys.db_count());
    db.unwrap_or_else(|| {
        args.fail(CommandError::DbIndexOutOfRange);
        0
    })
}

pub(super) static COPY: Command = Command {
    name: "copy",
    since: "6.2.0",
    group: Group::Generic,
    summary: "Copies a key's value and expiry to another key.",
    complexity: "O(1); the two share the value until one of them is written",
    arity: Arity::at_least(3),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::KEYSPACE,
    keys: &[
        KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
    ],
    databases: DatabaseUse::Named(copied_to),
    args: &[
        Arg::key("source"),
        Arg::key("destination").key_spec(1),
        Arg::integer("destination-db").token("DB").optional(),
        Arg::flag("replace", "REPLACE").optional(),
    ],
    reply: Shape::Integer,
    example: "> SET k v\nOK\n> COPY k l\n(integer) 1\n> GET l\n\"v\"\n> COPY k l\n(integer) 0\n\
              > COPY k l REPLACE\n(integer) 1",
    run: copy,
    ..Command::BASE
};

/// The last database that the options name is the one that counts.
fn copied_to(request: &Request<'_>) -> [Option<usize>; 2] {
    let (mut at, mut db) = (3, None);
    while at < request.len() {
        let names_db = request.arg(at).eq_ignore_ascii_case(b"db");
        if names_db {
            db = database_at(request, at + 1);
        }
        at += if names_db { 2 } else { 1 };
    }
    [db, None]
}

fn copy(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (from, to) = (args.key(), args.key());
    let (mut db, mut replaces) = (cx.keys.db, false);
    while !args.is_empty() {
        if args.option("replace") {
            replaces = true;
        } else if args.option_with_value("db") {
            db = db_index(cx, args);
        } else {
            args.check()?;
            return Err(CommandError::Syntax);
        }
    }
    args.done()?;
    if cx.server.config.cluster_enabled && (cx.keys.db != 0 || db != 0) {
        return Err(CommandError::Fixed(
            "ERR Copying to another database is not allowed in cluster mode",
        ));
    }
    if db == cx.keys.db && from.bytes == to.bytes {
        return Err(CommandError::SameObject);
    }
    // A second count on the entry keeps it while the target is written.
    let entry = cx.keys.read(&from).cloned();
    let mut target = cx.keys.other(db);
    let copied = entry.is_some_and(|entry| {
        target.remove_if_expired(&to);
        let may_copy = replaces || !target.exists(&to);
        if may_copy {
            target.put_as(&to, &entry);
            target.changed(&to, EventClasses::GENERIC, "copy_to");
        }
        may_copy
    });
    cx.reply.integer(i64::from(copied));
    Ok(())
}
