//! Values and times in one go: HGETDEL, HGETEX and HSETEX.
//!
//! What they did is replayed in simpler words: HDEL, HPEXPIREAT, HPERSIST, or an HSETEX without a
//! condition and with an absolute time.

use super::expire::{FIELDS, NOT_POSITIVE, Told, read_names};
use super::read::write_or_null;
use super::{edit_hash, edit_or_make, limits, read_hash};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape, TimeForm,
};
use crate::config::EventClasses;
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::structs::listpack::Element;
use crate::structs::number::{I64Buf, format_i64};

/// What the three have in common.
const COMMON: Command = Command {
    since: "8.0.0",
    group: Group::Hash,
    complexity: "O(N) with N fields named",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Categories::HASH,
    reply: Shape::Array,
    ..Command::BASE
};

const TIMES: [Arg; 4] = [
    Arg::integer("seconds").token("EX"),
    Arg::integer("milliseconds").token("PX"),
    Arg::unix_time("unix-time-seconds").token("EXAT"),
    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
];

pub(super) static HGETDEL: Command = Command {
    name: "hgetdel",
    summary: "Returns the values of fields and removes the fields.",
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))],
    args: &[Arg::key("key"), FIELDS],
    example: "> HSET h a 1\n(integer) 1\n> HGETDEL h FIELDS 2 a b\n1) \"1\"\n2) (nil)\n\
              > EXISTS h\n(integer) 0",
    run: hgetdel,
    ..COMMON
};

fn hgetdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    read_hash(&cx.keys, &key)?;
    let names = read_names(args, NOT_POSITIVE)?;
    take_fields(cx, &key, &names)
}

/// Answers with the values of fields, and removes them.
fn take_fields(cx: &mut Cx<'_>, key: &Key<'_>, names: &[&[u8]]) -> CommandResult {
    let mut told = Told::default();
    // A field that is named twice is gone the second time.
    let values = edit_hash(cx, key, |hash| {
        let take = |name| {
            let value = hash.get(name).map(Element::to_vec);
            told.remove(hash, name);
            value
        };
        names.iter().copied().map(take).collect::<Vec<_>>()
    })?;
    cx.reply.array(names.len());
    for value in values.unwrap_or_else(|| vec![None; names.len()]) {
        write_or_null(&mut cx.reply, value.as_deref().map(Element::Str));
    }
    told.tell(cx, key, 0);
    Ok(())
}

fn write_values(cx: &mut Cx<'_>, key: &Key<'_>, names: &[&[u8]]) -> CommandResult {
    let hash = read_hash(&cx.keys, key)?;
    cx.reply.array(names.len());
    for name in names {
        write_or_null(&mut cx.reply, hash.and_then(|hash| hash.get(name)));
    }
    Ok(())
}

pub(super) static HGETEX: Command = Command {
    name: "hgetex",
    summary: "Returns the values of fields and sets until when they live.",
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::one_of(
            "expiration",
            &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Arg::flag("persist", "PERSIST")],
        )
        .optional(),
        FIELDS,
    ],
    example: "> HSET h a 1\n(integer) 1\n> HGETEX h EX 100 FIELDS 1 a\n1) \"1\"\n\
              > HTTL h FIELDS 1 a\n1) (integer) 100\n> HGETEX h PERSIST FIELDS 1 a\n1) \"1\"\n\
              > HTTL h FIELDS 1 a\n1) (integer) -1",
    run: hgetex,
    ..COMMON
};

fn hgetex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let horizon_ms = cx.keys.horizon_ms();
    read_hash(&cx.keys, &key)?;
    let lifetime = read_lifetime(args, cx.keys.now_ms(), "persist", "hgetex")?;
    let names = read_names(args, NOT_POSITIVE)?;
    if let Some(Lifetime::At(at_ms)) = lifetime
        && at_ms <= horizon_ms
    {
        return take_fields(cx, &key, &names);
    }
    write_values(cx, &key, &names)?;
    let limits = limits(cx);
    let mut told = Told::default();
    match lifetime {
        None | Some(Lifetime::Unsaid) => {}
        Some(Lifetime::At(at_ms)) => {
            edit_hash(cx, &key, |hash| {
                for name in &names {
                    if hash.get(name).is_some() {
                        told.expire(hash, name, at_ms, horizon_ms, &limits);
                    }
                }
            })?;
        }
        Some(Lifetime::Word) => {
            edit_hash(cx, &key, |hash| {
                for name in &names {
                    if hash.expiry_of(name).flatten().is_some() {
                        told.persist(hash, name, &limits);
                    }
                }
            })?;
        }
    }
    let at_ms = if let Some(Lifetime::At(at_ms)) = lifetime { at_ms } else { 0 };
    told.tell(cx, &key, at_ms);
    Ok(())
}

/// What a command says of the time that fields have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Unsaid,
    At(u64),
    /// PERSIST of HGETEX, KEEPTTL of HSETEX.
    Word,
}

/// The options of HSETEX, which stand before FIELDS.
struct Options {
    lifetime: Lifetime,
    /// FNX: no field may be there. FXX: all must be.
    all_there: Option<bool>,
}

impl Options {
    fn read(args: &mut Args<'_>, now_ms: u64) -> Result<Options, CommandError> {
        let mut options = Options { lifetime: Lifetime::Unsaid, all_there: None };
        while let Some(word) = args.peek().filter(|word| !word.eq_ignore_ascii_case(b"fields")) {
            if let Some(all_there) = read_condition(args) {
                if options.all_there.replace(all_there).is_some() {
                    return Err(CommandError::Fixed(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                continue;
            }
            let lifetime = read_lifetime(args, now_ms, "keepttl", "hsetex")?.ok_or_else(|| {
                let text = [b"ERR unknown argument: ", word].concat();
                CommandError::Bytes(text.into_boxed_slice())
            })?;
            if options.lifetime != Lifetime::Unsaid {
                return Err(CommandError::Fixed(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            options.lifetime = lifetime;
        }
        Ok(options)
    }
}

fn read_condition(args: &mut Args<'_>) -> Option<bool> {
    if args.option("fnx") {
        return Some(false);
    }
    args.option("fxx").then_some(true)
}

/// The next option, if it is one about time.
fn read_lifetime(
    args: &mut Args<'_>,
    now_ms: u64,
    word: &'static str,
    command: &'static str,
) -> Result<Option<Lifetime>, CommandError> {
    if args.option(word) {
        return Ok(Some(Lifetime::Word));
    }
    let Some(form) = TimeForm::option(args) else { return Ok(None) };
    let time = args.integer();
    args.check()?;
    Ok(Some(Lifetime::At(form.field_unix_ms(time, now_ms, command)?)))
}

pub(super) static HSETEX: Command = Command {
    name: "hsetex",
    summary: "Sets fields and until when they live.",
    arity: Arity::at_least(6),
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::one_of("condition", &[Arg::flag("fnx", "FNX"), Arg::flag("fxx", "FXX")]).optional(),
        Arg::one_of(
            "expiration",
            &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Arg::flag("keepttl", "KEEPTTL")],
        )
        .optional(),
        Arg::block(
            "fields",
            &[
                Arg::integer("numfields"),
                Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
            ],
        )
        .token("FIELDS"),
    ],
    reply: Shape::Integer,
    example: "> HSETEX h EX 100 FIELDS 2 a 1 b 2\n(integer) 1\n\
              > HTTL h FIELDS 1 a\n1) (integer) 100\n\
              > HSETEX h FNX FIELDS 1 a 3\n(integer) 0",
    run: hsetex,
    ..COMMON
};

fn hsetex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let options = Options::read(args, cx.keys.now_ms())?;
    let pairs = read_pairs(args)?;
    if let Some(all_there) = options.all_there {
        let hash = read_hash(&cx.keys, &key)?;
        let is_there = |name| hash.is_some_and(|hash| hash.get(name).is_some());
        if !pairs.iter().all(|(name, _)| is_there(name) == all_there) {
            cx.reply.integer(0);
            return Ok(());
        }
    }
    match options.lifetime {
        Lifetime::At(at_ms) if at_ms <= cx.keys.horizon_ms() => {
            let mut told = Told::default();
            edit_hash(cx, &key, |hash| {
                pairs.iter().for_each(|(name, _)| told.remove(hash, name));
            })?;
            told.tell(cx, &key, at_ms);
        }
        lifetime => set_pairs(cx, &key, &pairs, lifetime)?,
    }
    cx.reply.integer(1);
    Ok(())
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn read_pairs<'a>(args: &mut Args<'a>) -> Result<Vec<Pair<'a>>, CommandError> {
    if !args.option("fields") {
        return Err(CommandError::Fixed(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    const NO_NUMBER: CommandError = CommandError::Fixed("ERR invalid number of fields");
    let count = args.integer_or(NO_NUMBER);
    args.check()?;
    if !(1..=i64::from(i32::MAX)).contains(&count) {
        return Err(NO_NUMBER);
    }
    if !args.remaining().is_multiple_of(2) || usize::try_from(count) != Ok(args.remaining() / 2) {
        return Err(CommandError::WrongArity("hsetex"));
    }
    let pair = || (!args.is_empty()).then(|| (args.bytes(), args.bytes()));
    Ok(std::iter::from_fn(pair).collect())
}

fn set_pairs(
    cx: &mut Cx<'_>,
    key: &Key<'_>,
    pairs: &[Pair<'_>],
    lifetime: Lifetime,
) -> CommandResult {
    let limits = limits(cx);
    edit_or_make(cx, key, |hash| {
        hash.prepare_for(pairs.len(), &limits);
        for (name, value) in pairs {
            let expiry_ms = match lifetime {
                Lifetime::Unsaid => None,
                Lifetime::At(at_ms) => Some(at_ms),
                Lifetime::Word => hash.expiry_of(name).flatten(),
            };
            hash.set_with(name, value, expiry_ms, &limits);
        }
    })?;
    super::write::changed(cx, key, "hset", pairs.len());
    let (mut time, mut count) = (I64Buf::new(), I64Buf::new());
    let mut words: Vec<&[u8]> = vec![b"HSETEX", key.bytes];
    match lifetime {
        Lifetime::Unsaid => {}
        Lifetime::Word => words.push(b"KEEPTTL"),
        Lifetime::At(at_ms) => {
            cx.keys.event(key, EventClasses::HASH, "hexpire");
            words.extend([&b"PXAT"[..], format_i64(at_ms.cast_signed(), &mut time)]);
        }
    }
    if cx.is_propagating() {
        words.extend([&b"FIELDS"[..], format_i64(pairs.len() as i64, &mut count)]);
        words.extend(pairs.iter().flat_map(|(name, value)| [*name, *value]));
        cx.propagate_as(&words);
    }
    Ok(())
}
