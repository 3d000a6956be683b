//! FUNCTION and its subcommands, FCALL and FCALL_RO.

use super::eval::number_of_keys;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape, Traits, help,
};
use crate::engine::Cx;
use crate::engine::scripting::functions::Functions;
use crate::engine::scripting::{Kind, Name, Start, err};
use crate::persist::rdb::{self, SaveOptions};
use crate::script::functions::{ENGINE, Library, Replace, RestorePolicy};
use crate::script::vm::Compiled;
use std::rc::Rc;

const READS: Flags =
    Flags::NOSCRIPT.or(Flags::SKIP_MONITOR).or(Flags::NO_MANDATORY_KEYS).or(Flags::STALE);

pub(super) static FCALL: Command = Command {
    name: "fcall",
    since: "7.0.0",
    group: Group::Scripting,
    summary: "Runs a function.",
    complexity: "That of the function",
    arity: Arity::at_least(3),
    flags: READS.or(Flags::MAY_REPLICATE),
    traits: Traits::RUNS_A_SCRIPT.or(Traits::NAMES_A_FUNCTION),
    acl: Categories::SCRIPTING,
    keys: &[KeySpec::counted(2, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
    args: &[
        Arg::string("function"),
        Arg::integer("numkeys"),
        Arg::key("key").multiple().optional(),
        Arg::string("arg").multiple().optional(),
    ],
    example: "> FUNCTION LOAD \"#!lua name=l\\n redis.register_function('f', function() return 1 \
              end)\"\n\"l\"\n> FCALL f 0\n(integer) 1",
    run: fcall,
    ..Command::BASE
};

pub(super) static FCALL_RO: Command = Command {
    name: "fcall_ro",
    summary: "Runs a function that may write nothing.",
    flags: READS.or(Flags::READONLY),
    keys: &[KeySpec::counted(2, KeyFlags::RO.or(KeyFlags::ACCESS))],
    example: "> FCALL_RO f 0\n(error) ERR Function not found",
    run: fcall_ro,
    ..FCALL
};

fn fcall(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&FCALL, &args.request());
    run_function(cx, args, false)
}

fn fcall_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&FCALL_RO, &args.request());
    run_function(cx, args, true)
}

fn run_function(cx: &mut Cx<'_>, args: &mut Args<'_>, is_read_only: bool) -> CommandResult {
    let name = args.bytes();
    let function = cx.server.scripting.functions.libraries.function(name).map(Rc::clone);
    let function = function.ok_or(CommandError::Fixed("ERR Function not found"))?;
    let bad_number = CommandError::Fixed("ERR Bad number of keys provided");
    let keys = number_of_keys(args, bad_number)?;
    let start = Start {
        kind: Kind::Function,
        name: Name::Function(Rc::clone(&function)),
        declared: Some(function.flags),
        is_read_only,
    };
    cx.start_function(start, &function.callback, keys, args)
}

pub(super) static FUNCTION: Command = Command {
    name: "function",
    since: "7.0.0",
    group: Group::Scripting,
    summary: "Looks after the libraries of functions.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&DELETE, &DUMP, &FLUSH, &HELP, &KILL, &LIST, &LOAD, &RESTORE, &STATS],
    ..Command::BASE
};

const OWN: Command = Command {
    since: "7.0.0",
    group: Group::Scripting,
    flags: Flags::NOSCRIPT,
    acl: Categories::SCRIPTING,
    ..Command::BASE
};

const WRITES: Flags = Flags::NOSCRIPT.or(Flags::WRITE);
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

/// The libraries are a part of the dataset, which has changed with them.
fn note_change(cx: &mut Cx<'_>) {
    cx.keys.space().changes.dirty += 1;
}

static DELETE: Command = Command {
    name: "delete",
    summary: "Deletes a library and its functions.",
    arity: Arity::exactly(3),
    flags: WRITES,
    tips: ALL_SHARDS,
    args: &[Arg::string("library-name")],
    reply: Shape::Ok,
    example: "> FUNCTION DELETE l\n(error) ERR Library not found",
    run: delete,
    ..OWN
};

fn delete(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    args.done()?;
    let libraries = &mut cx.server.scripting.functions.libraries;
    libraries.delete(name).map_err(|error| err(&error.text()))?;
    note_change(cx);
    cx.reply.ok();
    Ok(())
}

static DUMP: Command = Command {
    name: "dump",
    summary: "Returns all libraries as a payload for FUNCTION RESTORE.",
    complexity: "O(N) with N functions",
    arity: Arity::exactly(2),
    reply: Shape::Bulk,
    example: "> FUNCTION DUMP\n\"*\"",
    run: dump,
    ..OWN
};

fn dump(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let SaveOptions { version, compresses, .. } =
        SaveOptions::of(&cx.server.config, cx.keys.access());
    let libraries = cx.server.scripting.functions.libraries.iter();
    let codes = libraries.map(|library| &*library.code);
    let payload = rdb::dump_functions(codes, version, compresses);
    cx.reply.bulk(&payload);
    Ok(())
}

static FLUSH: Command = Command {
    name: "flush",
    summary: "Deletes all libraries.",
    complexity: "O(N) with N functions",
    arity: Arity::at_least(2),
    flags: WRITES,
    tips: ALL_SHARDS,
    args: &[Arg::one_of("flush-type", &[Arg::flag("async", "ASYNC"), Arg::flag("sync", "SYNC")])
        .optional()],
    reply: Shape::Ok,
    example: "> FUNCTION FLUSH\nOK",
    run: flush,
    ..OWN
};

fn flush(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 1 {
        return Err(CommandError::subcommand_syntax("FUNCTION", args.request().arg(1)));
    }
    if !super::is_flush(args) {
        return Err(CommandError::Fixed("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    cx.server.scripting.functions = Functions::default();
    note_change(cx);
    cx.reply.ok();
    Ok(())
}

static HELP: Command = Command {
    name: "help",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..OWN
};

static KILL: Command = Command {
    name: "kill",
    summary: "Ends the function that runs, unless it has written.",
    arity: Arity::exactly(2),
    flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    reply: Shape::Ok,
    example: "> FUNCTION KILL\n(error) NOTBUSY No scripts in execution right now.",
    run: kill,
    ..OWN
};

fn kill(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.server.kill_script(Kind::Function)?;
    cx.reply.ok();
    Ok(())
}

static LIST: Command = Command {
    name: "list",
    summary: "Lists the libraries and their functions.",
    complexity: "O(N) with N functions",
    arity: Arity::at_least(2),
    tips: &["nondeterministic_output_order"],
    args: &[
        Arg::string("library-name-pattern").token("LIBRARYNAME").optional(),
        Arg::flag("withcode", "WITHCODE").optional(),
    ],
    reply: Shape::Array,
    example: "> FUNCTION LIST\n(empty array)",
    run: list,
    ..OWN
};

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (mut pattern, mut with_code) = (None, false);
    while let Some(word) = args.peek() {
        if !with_code && args.option("withcode") {
            with_code = true;
        } else if pattern.is_none() && args.option("libraryname") {
            if args.is_empty() {
                return Err(CommandError::Fixed("ERR library name argument was not given"));
            }
            pattern = Some(args.bytes());
        } else {
            return Err(err(&[b"Unknown argument ", word].concat()));
        }
    }
    let libraries = &cx.server.scripting.functions.libraries;
    let shown: Vec<&Library<Compiled>> = match pattern {
        Some(pattern) => libraries.matching(pattern).collect(),
        None => libraries.iter().collect(),
    };
    cx.reply.array(shown.len());
    for library in shown {
        cx.reply.map(if with_code { 4 } else { 3 });
        cx.reply.bulk(b"library_name");
        cx.reply.bulk(&library.name);
        cx.reply.bulk(b"engine");
        cx.reply.bulk(ENGINE.as_bytes());
        cx.reply.bulk(b"functions");
        cx.reply.array(library.functions.len());
        for function in &library.functions {
            cx.reply.map(3);
            cx.reply.bulk(b"name");
            cx.reply.bulk(&function.name);
            cx.reply.bulk(b"description");
            match &function.description {
                Some(text) => cx.reply.bulk(text),
                None => cx.reply.null(),
            }
            cx.reply.bulk(b"flags");
            cx.reply.set(function.flags.names().count());
            for flag in function.flags.names() {
                cx.reply.simple(flag.as_bytes());
            }
        }
        if with_code {
            cx.reply.bulk(b"library_code");
            cx.reply.bulk(&library.code);
        }
    }
    Ok(())
}

static LOAD: Command = Command {
    name: "load",
    summary: "Loads a library, and returns its name.",
    complexity: "O(1), for what takes long to load is refused",
    arity: Arity::at_least(3),
    flags: WRITES.or(Flags::DENYOOM),
    tips: ALL_SHARDS,
    args: &[Arg::flag("replace", "REPLACE").optional(), Arg::string("function-code")],
    reply: Shape::Bulk,
    run: load,
    ..OWN
};

fn load(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut replace = Replace::No;
    while args.remaining() > 1 {
        let word = args.peek().unwrap_or_default();
        if !args.option("replace") {
            return Err(err(&[b"Unknown option given: ", word].concat()));
        }
        replace = Replace::Yes;
    }
    if args.is_empty() {
        return Err(CommandError::Fixed("ERR Function code is missing"));
    }
    let name = cx.load_library(args.bytes(), replace)?;
    note_change(cx);
    cx.reply.bulk(&name);
    Ok(())
}

static RESTORE: Command = Command {
    name: "restore",
    summary: "Takes in the libraries of a payload.",
    complexity: "O(N) with N functions",
    arity: Arity::at_least(3),
    flags: WRITES.or(Flags::DENYOOM),
    tips: ALL_SHARDS,
    args: &[
        Arg::string("serialized-value"),
        Arg::one_of(
            "policy",
            &[
                Arg::flag("flush", "FLUSH"),
                Arg::flag("append", "APPEND"),
                Arg::flag("replace", "REPLACE"),
            ],
        )
        .optional(),
    ],
    reply: Shape::Ok,
    run: restore,
    ..OWN
};

fn restore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() > 2 {
        return Err(CommandError::subcommand_syntax("FUNCTION", args.request().arg(1)));
    }
    let payload = args.bytes();
    let policy = match args.is_empty() {
        true => RestorePolicy::Append,
        false => RestorePolicy::named(args.bytes()).ok_or(CommandError::Fixed(
            "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
        ))?,
    };
    let payload = rdb::verify(payload, cx.server.skips_checksums)
        .ok_or(CommandError::Fixed("ERR DUMP payload version or checksum are wrong"))?;
    let codes = rdb::functions_of(payload);
    let codes = codes.map(|code| code.map_err(|error| err(error.to_string().as_bytes())));
    cx.restore_libraries(codes, policy)?;
    note_change(cx);
    cx.reply.ok();
    Ok(())
}

static STATS: Command = Command {
    name: "stats",
    summary: "Says which function runs, and how many there are.",
    arity: Arity::exactly(2),
    flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    reply: Shape::Map,
    run: stats,
    ..OWN
};

fn stats(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let running = cx.server.scripting.running.as_ref();
    let is_late = cx.server.under_way.as_ref().is_some_and(|under_way| under_way.is_late());
    if is_late && running.is_some_and(|running| running.kind == Kind::Script) {
        return Err(cx.server.busy_error());
    }
    cx.reply.map(2);
    cx.reply.bulk(b"running_script");
    let now = cx.server.clock.now();
    match (running, cx.server.under_way.as_deref_mut()) {
        (Some(running), Some(under_way)) if running.kind == Kind::Function => {
            cx.reply.map(3);
            cx.reply.bulk(b"name");
            cx.reply.bulk(running.name.to_string().as_bytes());
            cx.reply.bulk(b"command");
            let elapsed_ms = under_way.elapsed_ms(now);
            let request = under_way.request();
            cx.reply.array(request.len());
            for word in request.iter() {
                cx.reply.bulk(word);
            }
            cx.reply.bulk(b"duration_ms");
            cx.reply.integer(i64::try_from(elapsed_ms).unwrap_or(i64::MAX));
        }
        _ => cx.reply.null(),
    }
    let libraries = &cx.server.scripting.functions.libraries;
    cx.reply.bulk(b"engines");
    cx.reply.map(1);
    cx.reply.bulk(ENGINE.as_bytes());
    cx.reply.map(2);
    cx.reply.bulk(b"libraries_count");
    cx.reply.integer(libraries.len() as i64);
    cx.reply.bulk(b"functions_count");
    cx.reply.integer(libraries.functions_len() as i64);
    Ok(())
}
