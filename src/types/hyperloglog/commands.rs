//! The HyperLogLog commands. A sketch is worked on as a whole and put back only when all of it went
//! well, so that a corrupted one is refused untouched; a dense one, which cannot be corrupted, is
//! raised in its place.

use super::{Corrupted, Form, NoSketch, REGISTERS, Registers, Sketch};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::{Entry, Expiry, Key, NewValue};
use crate::structs::SharedBytes;
use crate::types::{Encoding, WrongType};

pub static COMMANDS: &[&Command] = &[&PFADD, &PFCOUNT, &PFDEBUG, &PFMERGE, &PFSELFTEST];

impl From<NoSketch> for CommandError {
    fn from(_: NoSketch) -> CommandError {
        CommandError::Fixed("WRONGTYPE Key is not a valid HyperLogLog string value.")
    }
}

impl From<Corrupted> for CommandError {
    fn from(_: Corrupted) -> CommandError {
        CommandError::Fixed("INVALIDOBJ Corrupted HLL object detected")
    }
}

fn sketch_of(entry: &Entry) -> Result<Sketch<'_>, CommandError> {
    let bytes = entry.string().ok_or(WrongType)?;
    Ok(Sketch::new(bytes)?)
}

fn read_sketch<'c>(cx: &'c Cx<'_>, key: &Key<'_>) -> Result<Option<Sketch<'c>>, CommandError> {
    cx.keys.read(key).map(sketch_of).transpose()
}

fn new_value<'a>(bytes: Vec<u8>) -> NewValue<'a> {
    NewValue::Shared(SharedBytes::new(bytes))
}

static PFADD: Command = Command {
    name: "pfadd",
    since: "2.8.9",
    group: Group::Hyperloglog,
    summary: "Adds elements to a HyperLogLog.",
    complexity: "O(1) for each element",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Categories::HYPERLOGLOG,
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))],
    args: &[Arg::key("key"), Arg::string("element").optional().multiple()],
    reply: Shape::Integer,
    example: "> PFADD h a b c\n(integer) 1\n> PFADD h a\n(integer) 0\n> PFCOUNT h\n(integer) 3",
    run: pfadd,
    ..Command::BASE
};

fn pfadd(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let places: Vec<(usize, u8)> =
        (0..args.remaining()).map(|_| super::place_of(args.bytes())).collect();
    args.done()?;
    let bytes_max = cx.server.config.hll_sparse_max_bytes;
    let edited = cx.keys.edit(&key, |entry| match sketch_of(entry)?.form {
        Form::Dense => Ok(add_dense(entry, &places)),
        Form::Sparse => {
            let mut bytes = entry.string().expect("a sketch is a string").to_vec();
            let raised = add(&mut bytes, &places, bytes_max)?;
            if raised > 0 {
                entry.set_value(new_value(bytes), Encoding::Raw);
            }
            Ok(raised)
        }
    });
    let raised = match edited {
        Some(raised) => raised.map_err(|error: CommandError| error)?,
        None => {
            let mut bytes = super::new_sketch();
            let raised = add(&mut bytes, &places, bytes_max)?;
            super::mark_stale(&mut bytes);
            cx.keys.set_string(&key, new_value(bytes), Encoding::Raw, Expiry::Never);
            // That there is a sketch now is a change as well.
            raised + 1
        }
    };
    if raised > 0 {
        cx.keys.changed(&key, EventClasses::STRING, "pfadd");
        cx.keys.space().changes.dirty += raised - 1;
    }
    cx.reply.integer(i64::from(raised > 0));
    Ok(())
}

/// Adds elements by their places; how many raised a register.
fn add(bytes: &mut Vec<u8>, places: &[(usize, u8)], bytes_max: usize) -> Result<u64, Corrupted> {
    let mut raised = 0;
    for (index, rank) in places {
        raised += u64::from(super::raise(bytes, *index, *rank, bytes_max)?);
    }
    if raised > 0 {
        super::mark_stale(bytes);
    }
    Ok(raised)
}

/// The same for a dense sketch, in its place.
fn add_dense(entry: &mut Entry, places: &[(usize, u8)]) -> u64 {
    let mut raised = 0;
    for (index, rank) in places {
        let bytes = entry.string().expect("a sketch is a string");
        if super::raises_dense(bytes, *index, *rank) {
            let bytes = entry.string_mut().expect("a sketch is a string");
            super::raise_dense(bytes, *index, *rank);
            super::mark_stale(bytes);
            raised += 1;
        }
    }
    raised
}

static PFCOUNT: Command = Command {
    name: "pfcount",
    since: "2.8.9",
    group: Group::Hyperloglog,
    summary: "Estimates how many different elements were added to any of the HyperLogLogs.",
    complexity: "O(N) with N keys; O(1) for one whose estimate is up to date",
    arity: Arity::at_least(2),
    flags: Flags::READONLY.or(Flags::MAY_REPLICATE),
    acl: Categories::HYPERLOGLOG,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RW.or(KeyFlags::ACCESS)).notes(
        "RW because it may change the internal representation of the key, \
         and propagate to replicas",
    )],
    args: &[Arg::key("key").multiple()],
    reply: Shape::Integer,
    example: "> PFADD h a b\n(integer) 1\n> PFADD i b c\n(integer) 1\n> PFCOUNT h\n(integer) 2\n\
              > PFCOUNT h i\n(integer) 3\n> PFCOUNT nothing\n(integer) 0",
    run: pfcount,
    ..Command::BASE
};

fn pfcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let count = if args.is_empty() {
        args.done()?;
        count_one(cx, &key)?
    } else {
        let mut registers = Box::new([0; REGISTERS]);
        merge(cx, &key, &mut registers)?;
        while !args.is_empty() {
            merge(cx, &args.key(), &mut registers)?;
        }
        args.done()?;
        super::cardinality(&registers)
    };
    cx.reply.integer(count as i64);
    Ok(())
}

/// Merges a key's registers into others; its form, if it is there.
fn merge(
    cx: &Cx<'_>,
    key: &Key<'_>,
    registers: &mut Registers,
) -> Result<Option<Form>, CommandError> {
    let Some(sketch) = read_sketch(cx, key)? else { return Ok(None) };
    sketch.merge_into(registers)?;
    Ok(Some(sketch.form))
}

/// The cardinality of one sketch, which remembers it: that changes the string, so it is counted and
/// replayed as a write, but it is no event.
fn count_one(cx: &mut Cx<'_>, key: &Key<'_>) -> Result<u64, CommandError> {
    let Some(sketch) = read_sketch(cx, key)? else { return Ok(0) };
    if let Some(count) = sketch.cached_cardinality() {
        return Ok(count);
    }
    let count = super::cardinality(&*sketch.registers()?);
    cx.keys.edit(key, |entry| {
        let bytes = entry.string_mut().expect("a sketch is a string");
        super::cache_cardinality(bytes, count);
    });
    note_quiet_change(cx, key);
    Ok(count)
}

fn note_quiet_change(cx: &mut Cx<'_>, key: &Key<'_>) {
    cx.keys.touch(key);
    cx.keys.space().changes.dirty += 1;
}

static PFMERGE: Command = Command {
    name: "pfmerge",
    since: "2.8.9",
    group: Group::Hyperloglog,
    summary: "Merges HyperLogLogs into one.",
    complexity: "O(N) with N keys",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::HYPERLOGLOG,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::INSERT)),
        KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
    ],
    args: &[Arg::key("destkey"), Arg::key("sourcekey").key_spec(1).optional().multiple()],
    reply: Shape::Ok,
    example: "> PFADD h a b\n(integer) 1\n> PFADD i b c\n(integer) 1\n> PFMERGE all h i\nOK\n\
              > PFCOUNT all\n(integer) 3",
    run: pfmerge,
    ..Command::BASE
};

fn pfmerge(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let target = args.key();
    let mut registers = Box::new([0; REGISTERS]);
    let mut any_dense = merge(cx, &target, &mut registers)? == Some(Form::Dense);
    while !args.is_empty() {
        any_dense |= merge(cx, &args.key(), &mut registers)? == Some(Form::Dense);
    }
    args.done()?;
    let bytes_max = cx.server.config.hll_sparse_max_bytes;
    let old = cx.keys.peek(&target).and_then(Entry::string);
    let mut bytes = old.map_or_else(super::new_sketch, <[u8]>::to_vec);
    if any_dense && Sketch::new(&bytes)?.form == Form::Sparse {
        super::make_dense(&mut bytes)?;
    }
    for (index, rank) in registers.iter().enumerate().filter(|(_, rank)| **rank > 0) {
        super::raise(&mut bytes, index, *rank, bytes_max)?;
    }
    super::mark_stale(&mut bytes);
    cx.keys.set_string(&target, new_value(bytes), Encoding::Raw, Expiry::Keep);
    cx.keys.changed(&target, EventClasses::STRING, "pfadd");
    cx.reply.ok();
    Ok(())
}

static PFDEBUG: Command = Command {
    name: "pfdebug",
    since: "2.8.9",
    group: Group::Hyperloglog,
    is_internal: true,
    summary: "Shows or converts the inside of a HyperLogLog.",
    complexity: "O(N) with N registers",
    arity: Arity::exactly(3),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::ADMIN),
    acl: Categories::HYPERLOGLOG,
    keys: &[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::ACCESS))],
    args: &[Arg::string("subcommand"), Arg::key("key")],
    example: "> PFADD h a\n(integer) 1\n> PFDEBUG ENCODING h\nsparse\n> PFDEBUG TODENSE h\n\
              (integer) 1\n> PFDEBUG ENCODING h\ndense",
    run: pfdebug,
    ..Command::BASE
};

fn pfdebug(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let subcommand = args.bytes();
    let key = args.key();
    args.done()?;
    let Some(sketch) = read_sketch(cx, &key)? else {
        return Err(CommandError::Fixed("ERR The specified key does not exist"));
    };
    let is_word = |word: &str| subcommand.eq_ignore_ascii_case(word.as_bytes());
    if is_word("getreg") {
        let registers = sketch.registers()?;
        pack(cx, &key)?;
        cx.reply.array(REGISTERS);
        registers.iter().for_each(|register| cx.reply.integer(i64::from(*register)));
    } else if is_word("decode") {
        if sketch.form != Form::Sparse {
            return Err(CommandError::Fixed("ERR HLL encoding is not sparse"));
        }
        let text = sketch.describe_runs()?;
        cx.reply.bulk(text.as_bytes());
    } else if is_word("encoding") {
        let is_sparse = sketch.form == Form::Sparse;
        cx.reply.simple(if is_sparse { b"sparse" } else { b"dense" });
    } else if is_word("todense") {
        let packed = pack(cx, &key)?;
        cx.reply.integer(i64::from(packed));
    } else {
        let text = [b"ERR Unknown PFDEBUG subcommand '", subcommand, b"'"].concat();
        return Err(CommandError::Bytes(text.into_boxed_slice()));
    }
    Ok(())
}

/// Makes a key's sketch dense; false if it was.
fn pack(cx: &mut Cx<'_>, key: &Key<'_>) -> Result<bool, CommandError> {
    let Some(sketch) = read_sketch(cx, key)? else { return Ok(false) };
    if sketch.form == Form::Dense {
        return Ok(false);
    }
    let mut bytes = sketch.bytes.to_vec();
    super::make_dense(&mut bytes)?;
    cx.keys.set_string(key, new_value(bytes), Encoding::Raw, Expiry::Keep);
    note_quiet_change(cx, key);
    Ok(true)
}

static PFSELFTEST: Command = Command {
    name: "pfselftest",
    since: "2.8.9",
    group: Group::Hyperloglog,
    is_internal: true,
    summary: "Checks that estimates are near and that both forms of a HyperLogLog agree.",
    complexity: "O(1)",
    arity: Arity::exactly(1),
    flags: Flags::ADMIN,
    acl: Categories::HYPERLOGLOG,
    reply: Shape::Ok,
    example: "> PFSELFTEST\nOK",
    run: pfselftest,
    ..Command::BASE
};

/// Redis adds ten million elements here and stands still meanwhile; a test suite is the place for
/// that, so these are as many as take a few milliseconds.
const SELF_TEST_ELEMENTS: u64 = 20_000;

fn pfselftest(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let bytes_max = cx.server.config.hll_sparse_max_bytes;
    let seed = cx.keys.space().prng.next_u64();
    let (mut bytes, mut registers) = (super::new_sketch(), Box::new([0; REGISTERS]));
    for element in 1..=SELF_TEST_ELEMENTS {
        let (index, rank) = super::place_of(&(element ^ seed).to_le_bytes());
        super::raise(&mut bytes, index, rank, bytes_max)?;
        registers[index] = rank.max(registers[index]);
    }
    if *Sketch::new(&bytes)?.registers()? != *registers {
        return Err(CommandError::Fixed("ERR TESTFAILED dense/sparse disagree"));
    }
    let error = super::cardinality(&registers).abs_diff(SELF_TEST_ELEMENTS);
    if error * 20 > SELF_TEST_ELEMENTS {
        return Err(CommandError::err(format_args!(
            "TESTFAILED Too big error. card:{SELF_TEST_ELEMENTS} abserr:{error}"
        )));
    }
    cx.reply.ok();
    Ok(())
}
