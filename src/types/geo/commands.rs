//! The commands of places: GEOADD and what reads members here, searches in [`search`].

mod search;
#[cfg(test)]
mod tests;

use super::{Place, Unit};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape,
};
use crate::engine::Cx;
use crate::keyspace::Key;
use crate::resp::Reply;
use crate::types::zset::{self, ZSetMut};

pub static COMMANDS: &[&Command] = &[
    &GEOADD,
    &GEODIST,
    &GEOHASH,
    &GEOPOS,
    &search::GEORADIUS,
    &search::GEORADIUSBYMEMBER,
    &search::GEORADIUSBYMEMBER_RO,
    &search::GEORADIUS_RO,
    &search::GEOSEARCH,
    &search::GEOSEARCHSTORE,
];

const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);

const UNITS: &[Arg] =
    &[Arg::flag("m", "M"), Arg::flag("km", "KM"), Arg::flag("ft", "FT"), Arg::flag("mi", "MI")];

static GEOADD: Command = Command {
    name: "geoadd",
    since: "3.2.0",
    group: Group::Geo,
    summary: "Adds places to a sorted set or moves them; counts the new ones.",
    complexity: "O(log(N)) for each place, N being the members of the sorted set",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::GEO,
    history: &[("6.2.0", "Took `CH`, `NX` and `XX`.")],
    keys: &[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))],
    args: &[
        Arg::key("key"),
        Arg::one_of("condition", &[Arg::flag("nx", "NX"), Arg::flag("xx", "XX")])
            .optional()
            .since("6.2.0"),
        Arg::flag("change", "CH").optional().since("6.2.0"),
        Arg::block(
            "data",
            &[Arg::double("longitude"), Arg::double("latitude"), Arg::string("member")],
        )
        .multiple(),
    ],
    reply: Shape::Integer,
    example: "> GEOADD g 13.361389 38.115556 Palermo\n(integer) 1\n> ZSCORE g Palermo\n\
              \"3479099956230698\"",
    run: geoadd,
    ..Command::BASE
};

#[derive(Clone, Copy, Default)]
struct AddOptions {
    only_new: bool,
    only_old: bool,
    counts_changes: bool,
}

impl AddOptions {
    fn read(args: &mut Args<'_>) -> AddOptions {
        let mut options = AddOptions::default();
        loop {
            if args.option("nx") {
                options.only_new = true;
            } else if args.option("xx") {
                options.only_old = true;
            } else if args.option("ch") {
                options.counts_changes = true;
            } else {
                return options;
            }
        }
    }
}

fn geoadd(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = args.key();
    let options = AddOptions::read(args);
    let words = args.remaining();
    if words == 0 || !words.is_multiple_of(3) || (options.only_new && options.only_old) {
        return Err(CommandError::Syntax);
    }
    let mut places: Vec<(u64, &[u8])> = Vec::new();
    while !args.is_empty() {
        let place = read_place(args)?;
        places.push((place.score(), args.bytes()));
    }
    args.done()?;
    let longest = places.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    let limits = zset::limits(cx);
    let edit = |zset: &mut ZSetMut<'_>| {
        zset.prepare_for(places.len(), longest, &limits);
        let (mut added, mut moved) = (0, 0);
        for (score, member) in &places {
            let score = *score as f64;
            match zset.score(member) {
                None if options.only_old => {}
                None => {
                    zset.set(member, score, &limits);
                    added += 1;
                }
                Some(old) if options.only_new || old == score => {}
                Some(_) => {
                    zset.set(member, score, &limits);
                    moved += 1;
                }
            }
        }
        (added, moved)
    };
    let (added, moved): (usize, usize) = if options.only_old {
        zset::edit_zset(cx, &key, edit)?.unwrap_or_default()
    } else {
        zset::edit_or_make(cx, &key, edit)?
    };
    if added + moved > 0 {
        zset::changed(cx, &key, "zadd", added + moved, false);
        propagate_as_zadd(cx, &key, options, &places);
    }
    cx.reply.integer(if options.counts_changes { added + moved } else { added } as i64);
    Ok(())
}

/// Replicas and logs hear of scores, so that none of them computes a place anew.
fn propagate_as_zadd(cx: &mut Cx<'_>, key: &Key<'_>, options: AddOptions, places: &[(u64, &[u8])]) {
    if !cx.is_propagating() {
        return;
    }
    let mut words: Vec<&[u8]> = vec![b"ZADD", key.bytes];
    let given = [(options.only_new, b"NX".as_slice()), (options.only_old, b"XX")];
    words.extend(given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, word)| word));
    let texts: Vec<String> = places.iter().map(|(score, _)| score.to_string()).collect();
    for ((_, member), score) in places.iter().zip(&texts) {
        words.extend([score.as_bytes(), *member]);
    }
    cx.propagate_as(&words);
}

/// Reads a longitude and a latitude.
fn read_place(args: &mut Args<'_>) -> Result<Place, CommandError> {
    let place = Place { longitude: args.double(), latitude: args.double() };
    args.check()?;
    if place.is_on_map() {
        return Ok(place);
    }
    let Place { longitude, latitude } = place;
    let text = format_args!("invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
    Err(CommandError::err(text))
}

fn read_unit(args: &mut Args<'_>) -> Result<Unit, CommandError> {
    const UNKNOWN: CommandError =
        CommandError::Fixed("ERR unsupported unit provided. please use M, KM, FT, MI");
    Unit::parse(args.bytes()).ok_or(UNKNOWN)
}

/// Writes a distance with four decimals, a half being rounded to even.
fn write_distance(reply: &mut Reply<'_>, distance: f64) {
    const DECIMALS: u64 = 10_000;
    let scaled = (distance * DECIMALS as f64).round_ties_even();
    // What is no number, or far beyond the earth, is what the processor makes of it.
    let is_far = scaled.is_nan() || scaled.abs() >= 9_223_372_036_854_775_808.0;
    let scaled = if is_far { i64::MIN } else { scaled as i64 };
    let (sign, digits) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs());
    let (whole, decimals) = (digits / DECIMALS, digits % DECIMALS);
    reply.bulk_fmt(format_args!("{sign}{whole}.{decimals:04}"));
}

/// Writes a longitude and a latitude, each with up to 17 decimals.
fn write_place(reply: &mut Reply<'_>, place: Place) {
    reply.array(2);
    for degrees in [place.longitude, place.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double_text(if text == "-0" { "0" } else { text }.as_bytes());
    }
}

static GEODIST: Command = Command {
    name: "geodist",
    since: "3.2.0",
    group: Group::Geo,
    summary: "Measures the distance between two members.",
    arity: Arity::at_least(4),
    flags: Flags::READONLY,
    acl: Categories::GEO,
    keys: &[KeySpec::one(1, READS)],
    args: &[
        Arg::key("key"),
        Arg::string("member1"),
        Arg::string("member2"),
        Arg::one_of("unit", UNITS).optional(),
    ],
    reply: Shape::BulkOrNull,
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEODIST g Palermo Catania km\n\"166.2742\"",
    run: geodist,
    ..Command::BASE
};

fn geodist(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (key, from, to) = (args.key(), args.bytes(), args.bytes());
    let unit = match args.remaining() {
        0 => Unit::METRE,
        1 => read_unit(args)?,
        _ => return Err(CommandError::Syntax),
    };
    let scores = match zset::read(cx, &key)? {
        Some(zset) => zset.score(from).zip(zset.score(to)),
        None => None,
    };
    match scores {
        Some((from, to)) => {
            let distance_m = Place::of_score(from).distance_m(Place::of_score(to));
            write_distance(&mut cx.reply, distance_m / unit.metres);
        }
        None => cx.reply.null(),
    }
    Ok(())
}

/// What GEOHASH and GEOPOS have in common.
const READS_MEMBERS: Command = Command {
    since: "3.2.0",
    group: Group::Geo,
    complexity: "O(N) with N members given",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::GEO,
    keys: &[KeySpec::one(1, READS)],
    args: &[Arg::key("key"), Arg::string("member").multiple().optional()],
    reply: Shape::Array,
    ..Command::BASE
};

static GEOHASH: Command = Command {
    name: "geohash",
    summary: "Returns members' places as standard geohash texts.",
    example: "> GEOADD g 13.361389 38.115556 Palermo\n(integer) 1\n\
              > GEOHASH g Palermo\n1) \"sqc8b49rny0\"",
    run: geohash,
    ..READS_MEMBERS
};

fn geohash(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    for_each_member(cx, args, |reply, place| match place {
        Some(place) => reply.bulk(&place.standard_text()),
        None => reply.null(),
    })
}

static GEOPOS: Command = Command {
    name: "geopos",
    summary: "Returns members' longitudes and latitudes.",
    example: "> GEOADD g 13.361389 38.115556 Palermo\n(integer) 1\n> GEOPOS g Palermo x\n\
              1) 1) \"13.36138933897018433\"\n   2) \"38.11555639549629859\"\n2) (nil)",
    run: geopos,
    ..READS_MEMBERS
};

fn geopos(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    for_each_member(cx, args, |reply, place| match place {
        Some(place) => write_place(reply, place),
        None => reply.null_array(),
    })
}

fn for_each_member(
    cx: &mut Cx<'_>,
    args: &mut Args<'_>,
    write: impl Fn(&mut Reply<'_>, Option<Place>),
) -> CommandResult {
    let key = args.key();
    let zset = cx.keys.read(&key).map(zset::zset_of).transpose()?;
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let member = args.bytes();
        let score = zset.and_then(|zset| zset.score(member));
        write(&mut cx.reply, score.map(Place::of_score));
    }
    Ok(())
}
