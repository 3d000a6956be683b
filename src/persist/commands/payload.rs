//! DUMP and RESTORE: one value as a payload, and back.
//!
//! A payload is written from the entry itself, which a count keeps while its key goes on to change,
//! so that a big one is made on the thread of long reads.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{AccessClock, AccessPolicy, Entry, Key};
use crate::persist::rdb::{self, Limits, RdbError, SaveOptions};
use crate::structs::SharedBytes;
use crate::structs::number::{I64Buf, format_u64};
use std::io::ErrorKind;

/// A value with more heap bytes is dumped off the executor.
const DUMP_INLINE_BYTES_MAX: usize = 64 << 10;

pub(super) static DUMP: Command = Command {
    name: "dump",
    since: "2.6.0",
    group: Group::Generic,
    summary: "Returns a key's value as a payload for RESTORE.",
    complexity: "O(N) with N bytes; big values are written by another thread",
    arity: Arity::exactly(2),
    flags: Flags::READONLY,
    acl: Categories::KEYSPACE,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
    args: &[Arg::key("key")],
    reply: Shape::BulkOrNull,
    example: "> DUMP nothing\n(nil)",
    run: dump,
    ..Command::BASE
};

fn dump(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    args.done()?;
    let SaveOptions { version, compresses, .. } =
        SaveOptions::of(&cx.server.config, cx.keys.access());
    let Some(entry) = cx.keys.read(&key) else {
        cx.reply.null();
        return Ok(());
    };
    if entry.heap_bytes() <= DUMP_INLINE_BYTES_MAX {
        let payload = rdb::dump(entry, version, compresses);
        cx.reply.bulk(&payload);
        return Ok(());
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| {
        // The payload while it grows, and what a long string is compressed into.
        CommandError::unless_memory(3 * entry.heap_bytes())?;
        let payload = SharedBytes::new(rdb::dump(&entry, version, compresses));
        reply.bulk_shared(&payload);
        Ok(())
    })
}

pub(super) static RESTORE: Command = Command {
    name: "restore",
    group: Group::Generic,
    flags: Flags::WRITE.or(Flags::DENYOOM),
    example: "> RESTORE k 0 \"\\x00\\xc0\\x0c\\n\\x00<*\\xf8Q\\\\\\x04\\xbc\\xd5\"\nOK\n\
              > GET k\n\"12\"\n> RESTORE k 0 x\n\
              (error) BUSYKEY Target key name already exists.\n> RESTORE k 0 x REPLACE\n\
              (error) ERR DUMP payload version or checksum are wrong",
    ..COMMON
};

pub(super) static RESTORE_ASKING: Command = Command {
    name: "restore-asking",
    since: "3.0.0",
    group: Group::Server,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::ASKING),
    is_internal: true,
    example: "> RESTORE-ASKING k 0 x\n(error) ERR DUMP payload version or checksum are wrong",
    ..COMMON
};

/// What the two have in common: the second one is for keys that move between cluster nodes.
const COMMON: Command = Command {
    since: "2.6.0",
    summary: "Gives a key the value of a payload that DUMP made.",
    complexity: "O(N) with N bytes, O(N*log(N)) for sorted sets",
    arity: Arity::at_least(4),
    acl: Categories::KEYSPACE.or(Categories::DANGEROUS),
    history: &[
        ("3.0.0", "Took REPLACE."),
        ("5.0.0", "Took ABSTTL."),
        ("5.0.0", "Took IDLETIME and FREQ."),
    ],
    keys: &[KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::integer("ttl"),
        Arg::string("serialized-value"),
        Arg::flag("replace", "REPLACE").since("3.0.0").optional(),
        Arg::flag("absttl", "ABSTTL").since("5.0.0").optional(),
        Arg::integer("seconds").token("IDLETIME").since("5.0.0").optional(),
        Arg::integer("frequency").token("FREQ").since("5.0.0").optional(),
    ],
    reply: Shape::Ok,
    run: restore,
    ..Command::BASE
};

#[derive(Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn read(args: &mut Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        while !args.is_empty() {
            if args.option("replace") {
                options.replaces = true;
            } else if args.option("absttl") {
                options.is_absolute = true;
            } else if options.frequency.is_none() && args.option_with_value("idletime") {
                let seconds = u64::try_from(integer(args)?)
                    .map_err(|_| CommandError::Fixed("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.idle_seconds = Some(seconds);
            } else if options.idle_seconds.is_none() && args.option_with_value("freq") {
                let frequency = u8::try_from(integer(args)?).map_err(|_| {
                    CommandError::Fixed("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?;
                options.frequency = Some(frequency);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// The stamp of the new entry: what was given, if it is of the policy's kind.
    fn stamp(&self, access: &AccessClock) -> u32 {
        // A time that goes back further than the clock can tell counts as long ago.
        const IDLE_MAX_SECONDS: u64 = 1 << 23;
        match (access.policy, self.idle_seconds, self.frequency) {
            (AccessPolicy::Recency, Some(seconds), _) => {
                access.idle_stamp(seconds.min(IDLE_MAX_SECONDS))
            }
            (AccessPolicy::Frequency, _, Some(frequency)) => access.frequency_stamp(frequency),
            _ => access.fresh(),
        }
    }
}

/// The next argument as an integer, its error told at once.
fn integer(args: &mut Args<'_>) -> Result<i64, CommandError> {
    let value = args.integer();
    args.check()?;
    Ok(value)
}

fn restore(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let (ttl, payload) = (args.bytes(), args.bytes());
    let options = Options::read(args)?;
    if !options.replaces && cx.keys.exists(&key) {
        return Err(CommandError::Fixed("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = crate::structs::number::parse_i64(ttl).ok_or(CommandError::NotInteger)?;
    let ttl_ms = u64::try_from(ttl_ms)
        .map_err(|_| CommandError::Fixed("ERR Invalid TTL value, must be >= 0"))?;
    let now_ms = cx.keys.now_ms();
    let start_ms = if options.is_absolute { 0 } else { now_ms };
    let expiry_ms = (ttl_ms > 0).then(|| ttl_ms.saturating_add(start_ms).min(i64::MAX as u64));
    let limits = Limits::of(&cx.server.config, cx.keys.space().secret());
    let payload = rdb::verify(payload, cx.server.skips_checksums)
        .ok_or(CommandError::Fixed("ERR DUMP payload version or checksum are wrong"))?;
    let entry = rdb::restore(payload, key.bytes, expiry_ms, &limits).map_err(|error| {
        tracing::debug!("Internal error in RDB reading: {error}");
        match error {
            RdbError::Io(error) if error.kind() == ErrorKind::OutOfMemory => CommandError::NoMemory,
            _ => CommandError::Fixed("ERR Bad data format"),
        }
    })?;
    let is_replacing = options.replaces && cx.keys.delete(&key);
    cx.keys.remove_if_expired(&key);
    if expiry_ms.is_some_and(|at_ms| at_ms <= cx.keys.horizon_ms()) {
        if is_replacing {
            delete_at_once(cx, &key);
        } else {
            cx.propagate_as(&[]);
        }
    } else {
        entry.set_clock(options.stamp(cx.keys.access()));
        put(cx, args, &key, entry, &options);
    }
    cx.reply.ok();
    Ok(())
}

/// What was there is gone, and what was to come has expired.
fn delete_at_once(cx: &mut Cx<'_>, key: &Key<'_>) {
    if cx.is_propagating() {
        let lazily = cx.server.config.lazyfree_lazy_server_del;
        cx.propagate_as(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
    }
    cx.keys.changed(key, EventClasses::GENERIC, "del");
}

fn put(cx: &mut Cx<'_>, args: &Args<'_>, key: &Key<'_>, entry: Entry, options: &Options) {
    if let Some(at_ms) = entry.expiry_ms().filter(|_| !options.is_absolute)
        && cx.is_propagating()
    {
        let mut digits = I64Buf::new();
        let mut words: Vec<&[u8]> = args.request().iter().collect();
        words[2] = format_u64(at_ms, &mut digits);
        words.push(b"ABSTTL");
        cx.propagate_as(&words);
    }
    cx.keys.put(key.hash(), entry);
    cx.keys.changed(key, EventClasses::GENERIC, "restore");
}
