//! DEBUG: what tests and developers look inside with.
//!
//! Its subcommands are not commands of their own, as in Redis: COMMAND does not list them. Each
//! is one row here.

use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Guard, Shape,
};
use crate::config::Extent;
use crate::config::parse_size;
use crate::engine::loading::reload::{Reload, ReloadSnapshot};
use crate::engine::{Cx, Effect};
use crate::keyspace::digest::{self, Digest};
use crate::keyspace::{Entry, Expiry, NewValue};
use crate::persist::rdb::{self, SaveOptions};
use crate::resp::Protocol;
use crate::structs::glob;
use crate::types::Encoding;
use std::time::Duration;

mod cluster;

pub static COMMANDS: &[&Command] = &[&DEBUG];

static DEBUG: Command = Command {
    name: "debug",
    group: Group::Server,
    is_internal: true,
    summary: "Looks into the server, for its tests and its developers.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    flags: Flags::ADMIN
        .or(Flags::NOSCRIPT)
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::PROTECTED),
    args: &[Arg::string("subcommand"), Arg::string("arg").optional().multiple()],
    guard: Some(Guard {
        option: "enable-debug-command",
        action: |config| config.enable_debug_command,
    }),
    reply: Shape::Any,
    run: debug,
    ..Command::BASE
};

/// One subcommand: its name, the words after it, what it does, how many words it takes.
struct Row {
    name: &'static str,
    syntax: &'static str,
    doc: &'static str,
    args: std::ops::RangeInclusive<usize>,
    run: fn(&mut Cx<'_>, &mut Args<'_>) -> CommandResult,
}

const ANY: usize = usize::MAX;

static ROWS: &[Row] = &[
    Row {
        name: "aof-flush-sleep",
        syntax: " <microsec>",
        doc: "Rests before each write of the append-only file.",
        args: 1..=1,
        run: aof_flush_sleep,
    },
    Row {
        name: "change-repl-id",
        syntax: "",
        doc: "Takes another replication id.",
        args: 0..=0,
        run: change_repl_id,
    },
    Row {
        name: "close-cluster-link-on-packet-drop",
        syntax: " <0|1>",
        doc: "Ends the connection of the bus on which a packet is dropped, or not.",
        args: 1..=1,
        run: cluster::close_on_drop,
    },
    Row {
        name: "clusterlink",
        syntax: " kill <to|from|all> <node-id>",
        doc: "Ends connections of the bus.",
        args: 3..=3,
        run: cluster::kill_links,
    },
    Row {
        name: "config-rewrite-force-all",
        syntax: "",
        doc: "CONFIG REWRITE that writes all directives.",
        args: 0..=0,
        run: config_rewrite_force_all,
    },
    Row {
        name: "digest",
        syntax: "",
        doc: "Returns a digest of the whole dataset.",
        args: 0..=0,
        run: dataset_digest,
    },
    Row {
        name: "digest-value",
        syntax: " <key> [<key> ...]",
        doc: "Returns a digest of each key's value.",
        args: 0..=ANY,
        run: value_digests,
    },
    Row {
        name: "drop-cluster-packet-filter",
        syntax: " <packet-type>",
        doc: "Drops packets of a type that come by the bus; -1 drops none.",
        args: 1..=1,
        run: cluster::drop_packets,
    },
    Row {
        name: "error",
        syntax: " <text>",
        doc: "Answers with an error of this text.",
        args: 1..=1,
        run: error,
    },
    Row {
        name: "jmap",
        syntax: "",
        doc: "Is there for clients that know it from a Redis on Java; does nothing.",
        args: 0..=0,
        run: nothing,
    },
    Row {
        name: "loadaof",
        syntax: "",
        doc: "Loads the append-only file anew, in place of the dataset.",
        args: 0..=0,
        run: loadaof,
    },
    Row { name: "log", syntax: " <text>", doc: "Writes a line to the log.", args: 1..=1, run: log },
    Row {
        name: "object",
        syntax: " <key>",
        doc: "Describes a key's value from inside.",
        args: 1..=2,
        run: object,
    },
    Row { name: "panic", syntax: "", doc: "Ends the process by a panic.", args: 0..=0, run: panic },
    Row {
        name: "pause-cron",
        syntax: " <0|1>",
        doc: "Stops or starts what the server does by itself.",
        args: 1..=1,
        run: pause_cron,
    },
    Row {
        name: "populate",
        syntax: " <count> [<prefix>] [<size>]",
        doc: "Makes keys named <prefix>:<number>, those that are there excepted.",
        args: 1..=3,
        run: populate,
    },
    Row {
        name: "protocol",
        syntax: " <type>",
        doc: "Answers with a sample of a protocol type.",
        args: 1..=1,
        run: protocol,
    },
    Row {
        name: "quicklist-packed-threshold",
        syntax: " <bytes>",
        doc: "Lets list elements from this size on stand alone; 0 is as it was.",
        args: 1..=1,
        run: quicklist_packed_threshold,
    },
    Row {
        name: "reload",
        syntax: " [MERGE] [NOFLUSH] [NOSAVE]",
        doc: "Saves the dataset and loads it again.",
        args: 0..=ANY,
        run: reload,
    },
    Row {
        name: "replybuffer",
        syntax: " <PEAK-RESET-TIME|RESIZING> <value>",
        doc: "Does nothing: reply buffers are lent to clients that have replies to send.",
        args: 2..=2,
        run: nothing,
    },
    Row {
        name: "replicate",
        syntax: " <word> [<word> ...]",
        doc: "Sends replicas a command that nobody has run.",
        args: 1..=ANY,
        run: replicate,
    },
    Row {
        name: "set-active-expire",
        syntax: " <0|1>",
        doc: "Stops or starts taking expired keys away that nobody asks for.",
        args: 1..=1,
        run: set_active_expire,
    },
    Row {
        name: "set-disable-deny-scripts",
        syntax: " <0|1>",
        doc: "Lets scripts run commands that they may not, or no longer.",
        args: 1..=1,
        run: set_disable_deny_scripts,
    },
    Row {
        name: "set-skip-checksum-validation",
        syntax: " <0|1>",
        doc: "Believes payloads and snapshots without their checksums, or no longer.",
        args: 1..=1,
        run: set_skip_checksum_validation,
    },
    Row {
        name: "sleep",
        syntax: " <seconds>",
        doc: "Makes the server stand still.",
        args: 1..=1,
        run: sleep,
    },
    Row {
        name: "stringmatch-len",
        syntax: " <pattern> <length>",
        doc: "Matches a pattern against that many letters A.",
        args: 2..=2,
        run: stringmatch_len,
    },
];

fn debug(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    if name.eq_ignore_ascii_case(b"help") && args.is_empty() {
        return help(cx);
    }
    let row = ROWS.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(name));
    match row {
        Some(row) if row.args.contains(&args.remaining()) => (row.run)(cx, args),
        _ => Err(CommandError::subcommand_syntax("DEBUG", name)),
    }
}

fn help(cx: &mut Cx<'_>) -> CommandResult {
    cx.reply.array(2 * ROWS.len() + 3);
    cx.reply.simple(b"DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for row in ROWS {
        let head = format!("{}{}", row.name.to_ascii_uppercase(), row.syntax);
        cx.reply.simple(head.as_bytes());
        cx.reply.simple(format!("    {}", row.doc).as_bytes());
    }
    cx.reply.simple(b"HELP");
    cx.reply.simple(b"    Print this help.");
    Ok(())
}

fn change_repl_id(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let fresh = cx.server.fresh_id();
    cx.server.replication.link.rename_history(fresh);
    cx.reply.ok();
    Ok(())
}

fn config_rewrite_force_all(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    crate::config::commands::rewrite_file_of(cx, args, Extent::Everything)
}

fn replicate(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut words = Vec::new();
    while !args.is_empty() {
        words.push(args.bytes());
    }
    let mut command = Vec::new();
    crate::resp::command::put(&mut command, words.into_iter());
    cx.server.propagation.record_for_replicas(&command);
    cx.reply.ok();
    Ok(())
}

fn dataset_digest(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let digest = digest::of_dataset(cx.keys.space());
    cx.reply.simple(digest.to_hex().as_bytes());
    Ok(())
}

fn value_digests(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let key = args.key();
        let mut digest = Digest::default();
        // Also of a key whose time has come and that is still there.
        if let Some(entry) = cx.keys.db().get(&key) {
            digest.mix_value(entry);
        }
        cx.reply.simple(digest.to_hex().as_bytes());
    }
    Ok(())
}

fn error(_: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    Err(CommandError::Bytes(args.bytes().into()))
}

fn nothing(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.ok();
    Ok(())
}

fn log(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let text = String::from_utf8_lossy(args.bytes());
    tracing::warn!("DEBUG LOG: {}", text.escape_debug());
    cx.reply.ok();
    Ok(())
}

fn object(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    if !args.is_empty() && !args.option("fast") {
        return Err(CommandError::subcommand_syntax("DEBUG", args.request().arg(1)));
    }
    let Some(entry) = cx.keys.db().get(&key) else {
        return Err(CommandError::NoSuchKey);
    };
    let access = &cx.keys.access();
    let encoding = entry.encoding().name();
    let line = format!(
        "Value at:{:p} refcount:1 encoding:{encoding} serializedlength:{} lru:{} \
         lru_seconds_idle:{}",
        entry.key().as_ptr(),
        serialized_len(cx, entry),
        entry.clock(),
        access.idle_seconds(entry.clock()),
    );
    cx.reply.simple(line.as_bytes());
    Ok(())
}

/// How long the value is in a snapshot file.
fn serialized_len(cx: &Cx<'_>, entry: &Entry) -> u64 {
    let SaveOptions { version, compresses, .. } =
        SaveOptions::of(&cx.server.config, cx.keys.access());
    rdb::value_len(entry, version, compresses)
}

fn panic(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    panic!("called from DEBUG PANIC")
}

fn pause_cron(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.server.is_cron_paused = args.integer() != 0;
    args.done()?;
    cx.reply.ok();
    Ok(())
}

fn quicklist_packed_threshold(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const TEXT: &str = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
    let bytes = parse_size(args.bytes()).filter(|bytes| *bytes < 4 << 30);
    args.done()?;
    let bytes = bytes.ok_or(CommandError::Fixed(TEXT))?;
    cx.server.large_elements_from = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    cx.reply.ok();
    Ok(())
}

fn populate(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let count = positive(args);
    let prefix = if args.is_empty() { &b"key"[..] } else { args.bytes() };
    let size = if args.is_empty() { 0 } else { positive(args) };
    args.done()?;
    if size > cx.server.config.proto_max_bulk_len as u64 {
        return Err(CommandError::StringTooLong);
    }
    let mut name = Vec::new();
    let mut value = Vec::new();
    for number in 0..count {
        name.clear();
        name.extend_from_slice(prefix);
        name.extend_from_slice(format!(":{number}").as_bytes());
        let key = cx.keys.key(&name);
        if cx.keys.exists(&key) {
            continue;
        }
        value.clear();
        value.extend_from_slice(format!("value:{number}").as_bytes());
        if size > 0 {
            value.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
        }
        let encoding = Encoding::of_whole(&value);
        cx.keys.set_string(&key, NewValue::Bytes(&value), encoding, Expiry::Never);
        // Who watches the key learns of it; replicas and the append-only file do not, as in Redis.
        let db = cx.keys.db;
        cx.keys.space().changes.touch(db, key.bytes);
    }
    cx.reply.ok();
    Ok(())
}

fn positive(args: &mut Args<'_>) -> u64 {
    let value = args.integer_or(CommandError::MustBePositive);
    u64::try_from(value).unwrap_or_else(|_| {
        args.fail(CommandError::MustBePositive);
        0
    })
}

/// What DEBUG PROTOCOL answers for a double: three digits, as Redis does, not the constant.
const SAMPLE_DOUBLE: f64 = 3141.0 / 1000.0;

fn protocol(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes().to_ascii_lowercase();
    let reply = &mut cx.reply;
    match name.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(SAMPLE_DOUBLE),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" => {
            // RESP2 knows no attributes: a client that cannot read them gets none.
            if reply.protocol() == Protocol::Resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if reply.protocol() == Protocol::Resp2 {
                return Err(CommandError::Fixed("ERR RESP2 is not supported by this command"));
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim(b"txt", b"This is a verbatim\nstring"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(CommandError::Fixed(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn set_active_expire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_on = args.bytes().first().is_some_and(|digit| (b'1'..=b'9').contains(digit));
    cx.keys.space().expires_actively = is_on;
    cx.reply.ok();
    Ok(())
}

fn aof_flush_sleep(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let us = args.integer();
    args.done()?;
    cx.server.aof.write_delay = Duration::from_micros(u64::try_from(us).unwrap_or(0));
    cx.reply.ok();
    Ok(())
}

fn set_skip_checksum_validation(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.server.skips_checksums = args.bytes().first().is_some_and(|digit| *digit != b'0');
    cx.reply.ok();
    Ok(())
}

fn set_disable_deny_scripts(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_set = args.bytes().first().is_some_and(|digit| *digit != b'0');
    cx.server.scripting.denies_nothing = is_set;
    cx.reply.ok();
    Ok(())
}

fn loadaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if !cx.caller.may_answer_late() {
        return Err(CommandError::Fixed("ERR DEBUG LOADAOF is not for transactions"));
    }
    reload_later(cx, Reload::Aof);
    Ok(())
}

fn reload(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut how = ReloadSnapshot { saves: true, empties: true, merges: false };
    while !args.is_empty() {
        if args.option("merge") {
            how.merges = true;
        } else if args.option("noflush") {
            how.empties = false;
        } else if args.option("nosave") {
            how.saves = false;
        } else {
            return Err(CommandError::Fixed(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
    }
    if cx.caller.may_answer_late() {
        reload_later(cx, Reload::Snapshot(how));
    } else {
        how.run(&mut cx.core())?;
        cx.reply.ok();
    }
    Ok(())
}

/// Has the driver load the dataset anew, for which the client waits.
fn reload_later(cx: &mut Cx<'_>, reload: Reload) {
    let client = cx.client;
    cx.wait_for_answer();
    cx.effect(Effect::Reload { client, reload });
}

/// More than a day of standing still is a slip of the pen.
const SLEEP_SECONDS_MAX: f64 = 86_400.0;

fn sleep(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let seconds = args.double().clamp(0.0, SLEEP_SECONDS_MAX);
    args.done()?;
    let duration = Duration::from_secs_f64(seconds);
    cx.server.clock.charge_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    cx.server.is_about_to_sleep = true;
    cx.effect(Effect::Sleep(duration));
    cx.reply.ok();
    Ok(())
}

fn stringmatch_len(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let pattern = args.bytes();
    let len = positive(args);
    args.done()?;
    if len > cx.server.config.proto_max_bulk_len as u64 {
        return Err(CommandError::StringTooLong);
    }
    let text = vec![b'A'; usize::try_from(len).unwrap_or(0)];
    let matches = glob::matches(pattern, &text, glob::Case::Sensitive);
    cx.reply.integer(i64::from(matches));
    Ok(())
}
