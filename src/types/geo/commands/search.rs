//! GEOSEARCH and its elders GEORADIUS and GEORADIUSBYMEMBER, each answering or storing.
//!
//! All of them are one search with one list of options; what differs is which options are taken and
//! where center and radius stand. A search of many candidates is answered by another thread, unless
//! it stores its result, which the next command must see.

use super::{READS, UNITS, read_place, read_unit, write_distance, write_place};
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Deprecated, Flags,
    FoundKeys, Group, KeyFlags, KeySpec, Shape as ReplyShape,
};
use crate::engine::Cx;
use crate::keyspace::{Entry, Key};
use crate::resp::{Reply, Request};
use crate::structs::number::I64Buf;
use crate::types::geo::{Found, Place, Search, Shape, Unit};
use crate::types::zset::{self, ZSetRef};
use std::ops::Range;

/// More candidates than this are measured by another thread.
const INLINE_PLACES_MAX: usize = 20_000;

const STORES: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);

const UNIT: Arg = Arg::one_of("unit", UNITS);
const WITHCOORD: Arg = Arg::flag("withcoord", "WITHCOORD").optional();
const WITHDIST: Arg = Arg::flag("withdist", "WITHDIST").optional();
const WITHHASH: Arg = Arg::flag("withhash", "WITHHASH").optional();
const ORDER: Arg =
    Arg::one_of("order", &[Arg::flag("asc", "ASC"), Arg::flag("desc", "DESC")]).optional();
const COUNT: Arg = Arg::block(
    "count-block",
    &[Arg::integer("count").token("COUNT"), Arg::flag("any", "ANY").optional()],
)
.optional();
const COUNT_WITH_LATER_ANY: Arg = Arg::block(
    "count-block",
    &[Arg::integer("count").token("COUNT"), Arg::flag("any", "ANY").optional().since("6.2.0")],
)
.optional();
const STORE: Arg = Arg::one_of(
    "store",
    &[
        Arg::key("storekey").display("key").token("STORE").key_spec(1),
        Arg::key("storedistkey").display("key").token("STOREDIST").key_spec(2),
    ],
)
.optional();
const FROM: Arg = Arg::one_of(
    "from",
    &[
        Arg::string("member").token("FROMMEMBER"),
        Arg::block("fromlonlat", &[Arg::double("longitude"), LATITUDE]).token("FROMLONLAT"),
    ],
);
const BY: Arg = Arg::one_of(
    "by",
    &[
        Arg::block("circle", &[RADIUS.token("BYRADIUS"), UNIT]),
        Arg::block("box", &[Arg::double("width").token("BYBOX"), Arg::double("height"), UNIT]),
    ],
);
const LONGITUDE: Arg = Arg::double("longitude");
const LATITUDE: Arg = Arg::double("latitude");
const RADIUS: Arg = Arg::double("radius");

/// What all searches have in common.
const SEARCHES: Command = Command {
    since: "6.2.0",
    group: Group::Geo,
    complexity: "O(N+log(M)) with N members around the shape and M in the sorted set",
    arity: Arity::at_least(7),
    flags: Flags::READONLY,
    acl: Categories::GEO,
    history: &[("7.0.0", "Took units in upper case.")],
    keys: &[KeySpec::one(1, READS)],
    reply: ReplyShape::Array,
    ..Command::BASE
};

pub(super) static GEOSEARCH: Command = Command {
    name: "geosearch",
    summary: "Finds the members within a circle or a box.",
    args: &[Arg::key("key"), FROM, BY, ORDER, COUNT, WITHCOORD, WITHDIST, WITHHASH],
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST\n\
              1) 1) \"Catania\"\n   2) \"56.4413\"\n2) 1) \"Palermo\"\n   2) \"190.4424\"",
    run: |cx, args| run(cx, args, Kind::Search),
    ..SEARCHES
};

pub(super) static GEOSEARCHSTORE: Command = Command {
    name: "geosearchstore",
    summary: "Stores the members within a circle or a box, and counts them.",
    arity: Arity::at_least(8),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: &[KeySpec::one(1, STORES), KeySpec::one(2, READS)],
    args: &[
        Arg::key("destination"),
        Arg::key("source").key_spec(1),
        FROM,
        BY,
        ORDER,
        COUNT,
        Arg::flag("storedist", "STOREDIST").optional(),
    ],
    reply: ReplyShape::Integer,
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEOSEARCHSTORE near g FROMLONLAT 15 37 BYRADIUS 100 km\n(integer) 1",
    run: |cx, args| run(cx, args, Kind::SearchStore),
    ..SEARCHES
};

/// What the searches of the first kind have in common.
const RADIUS_SEARCHES: Command = Command {
    since: "3.2.0",
    arity: Arity::at_least(6),
    history: &[("6.2.0", "Took `ANY` after `COUNT`."), ("7.0.0", "Took units in upper case.")],
    reply: ReplyShape::Any,
    ..SEARCHES
};

/// The key that is searched and, if the request stores, the last that its options name for that:
/// what the specs find is the first, which is not the one that is written.
fn radius_keys(request: &Request<'_>, options: usize) -> Option<FoundKeys> {
    let searched = FoundKeys::one(1, READS);
    let (mut found, mut at) = (searched, options);
    while at < request.len() {
        let is_word = |word: &[u8]| request.arg(at).eq_ignore_ascii_case(word);
        let stores = is_word(b"store") || is_word(b"storedist");
        if stores && at + 1 < request.len() {
            found = searched.and(at + 1, STORES);
        }
        at += if stores || is_word(b"count") { 2 } else { 1 };
    }
    Some(found)
}

pub(super) static GEORADIUS: Command = Command {
    name: "georadius",
    summary: "Finds the members within a circle, or stores them.",
    flags: Flags::WRITE.or(Flags::DENYOOM),
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with `BYRADIUS`",
    }),
    keys: &[
        KeySpec::one(1, READS),
        KeySpec::after("STORE", 6, STORES),
        KeySpec::after("STOREDIST", 6, STORES),
    ],
    key_finder: Some(|request| radius_keys(request, 6)),
    args: &[
        Arg::key("key"),
        LONGITUDE,
        LATITUDE,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_WITH_LATER_ANY,
        ORDER,
        STORE,
    ],
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEORADIUS g 15 37 100 km\n1) \"Catania\"",
    run: |cx, args| run(cx, args, Kind::Radius { around_member: false, may_store: true }),
    ..RADIUS_SEARCHES
};

pub(super) static GEORADIUS_RO: Command = Command {
    name: "georadius_ro",
    since: "3.2.10",
    summary: "Finds the members within a circle.",
    deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`GEOSEARCH` with `BYRADIUS`" }),
    args: &[
        Arg::key("key"),
        LONGITUDE,
        LATITUDE,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_WITH_LATER_ANY,
        ORDER,
    ],
    reply: ReplyShape::Array,
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEORADIUS_RO g 15 37 100 km\n1) \"Catania\"",
    run: |cx, args| run(cx, args, Kind::Radius { around_member: false, may_store: false }),
    ..RADIUS_SEARCHES
};

pub(super) static GEORADIUSBYMEMBER: Command = Command {
    name: "georadiusbymember",
    summary: "Finds the members within a circle around one, or stores them.",
    arity: Arity::at_least(5),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with `BYRADIUS` and `FROMMEMBER`",
    }),
    keys: &[
        KeySpec::one(1, READS),
        KeySpec::after("STORE", 5, STORES),
        KeySpec::after("STOREDIST", 5, STORES),
    ],
    key_finder: Some(|request| radius_keys(request, 5)),
    args: &[
        Arg::key("key"),
        Arg::string("member"),
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
        STORE,
    ],
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEORADIUSBYMEMBER g Palermo 100 km\n1) \"Palermo\"",
    run: |cx, args| run(cx, args, Kind::Radius { around_member: true, may_store: true }),
    ..RADIUS_SEARCHES
};

pub(super) static GEORADIUSBYMEMBER_RO: Command = Command {
    name: "georadiusbymember_ro",
    since: "3.2.10",
    summary: "Finds the members within a circle around one.",
    arity: Arity::at_least(5),
    deprecated: Some(Deprecated {
        since: "6.2.0",
        replaced_by: "`GEOSEARCH` with `BYRADIUS` and `FROMMEMBER`",
    }),
    args: &[
        Arg::key("key"),
        Arg::string("member"),
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
    ],
    reply: ReplyShape::Array,
    example: "> GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania\n(integer) 2\n\
              > GEORADIUSBYMEMBER_RO g Palermo 100 km\n1) \"Palermo\"",
    run: |cx, args| run(cx, args, Kind::Radius { around_member: true, may_store: false }),
    ..RADIUS_SEARCHES
};

/// Which of the commands it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Search,
    SearchStore,
    Radius { around_member: bool, may_store: bool },
}

impl Kind {
    fn is_search(self) -> bool {
        !matches!(self, Kind::Radius { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NearestFirst,
    FarthestFirst,
}

/// Where a search begins: the second word of GEOSEARCH excludes the first.
#[derive(Clone, Copy, PartialEq)]
enum Center {
    Given(Place),
    Member(Place),
}

/// What is written with each member.
#[derive(Clone, Copy, Default)]
struct Details {
    distance: bool,
    hash: bool,
    place: bool,
}

/// A request.
struct Query<'a> {
    center: Option<Center>,
    shape: Option<(Shape, Unit)>,
    details: Details,
    order: Option<Order>,
    count: Option<usize>,
    is_any: bool,
    store: Option<Key<'a>>,
    stores_distances: bool,
}

/// Stands for the place of a member of a set that is not there: nothing is searched then.
const NOWHERE: Place = Place { longitude: 0.0, latitude: 0.0 };

fn place_of_member(zset: Option<ZSetRef<'_>>, member: &[u8]) -> Result<Place, CommandError> {
    const UNKNOWN: CommandError = CommandError::Fixed("ERR could not decode requested zset member");
    let Some(zset) = zset else { return Ok(NOWHERE) };
    zset.score(member).map(Place::of_score).ok_or(UNKNOWN)
}

fn read_size(args: &mut Args<'_>, error: &'static str) -> Result<f64, CommandError> {
    let size = args.double();
    args.check().map_err(|_| CommandError::Fixed(error))?;
    Ok(size)
}

fn read_circle(args: &mut Args<'_>) -> Result<(Shape, Unit), CommandError> {
    let radius = read_size(args, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::Fixed("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, read_unit(args)?))
}

fn read_box(args: &mut Args<'_>) -> Result<(Shape, Unit), CommandError> {
    let width = read_size(args, "ERR need numeric width")?;
    let height = read_size(args, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::Fixed("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, read_unit(args)?))
}

impl<'a> Query<'a> {
    fn read(
        args: &mut Args<'a>,
        kind: Kind,
        zset: Option<ZSetRef<'_>>,
    ) -> Result<Query<'a>, CommandError> {
        let mut query = Query {
            center: None,
            shape: None,
            details: Details::default(),
            order: None,
            count: None,
            is_any: false,
            store: None,
            stores_distances: false,
        };
        match kind {
            Kind::Radius { around_member: false, .. } => {
                query.center = Some(Center::Given(read_place(args)?));
                query.shape = Some(read_circle(args)?);
            }
            // Redis does not look at the radius then.
            Kind::Radius { around_member: true, .. } if zset.is_none() => {
                for _ in ["member", "radius", "unit"] {
                    args.bytes();
                }
            }
            Kind::Radius { around_member: true, .. } => {
                query.center = Some(Center::Member(place_of_member(zset, args.bytes())?));
                query.shape = Some(read_circle(args)?);
            }
            Kind::Search | Kind::SearchStore => {}
        }
        while !args.is_empty() {
            let is_read = query.read_output_option(args, kind)?
                || (kind.is_search() && query.read_search_option(args, zset)?);
            if !is_read {
                return Err(CommandError::Syntax);
            }
        }
        query.check(args, kind)?;
        Ok(query)
    }

    fn read_output_option(
        &mut self,
        args: &mut Args<'a>,
        kind: Kind,
    ) -> Result<bool, CommandError> {
        let may_store = matches!(kind, Kind::Radius { may_store: true, .. });
        if args.option("withdist") {
            self.details.distance = true;
        } else if args.option("withhash") {
            self.details.hash = true;
        } else if args.option("withcoord") {
            self.details.place = true;
        } else if args.option("any") {
            self.is_any = true;
        } else if args.option("asc") {
            self.order = Some(Order::NearestFirst);
        } else if args.option("desc") {
            self.order = Some(Order::FarthestFirst);
        } else if args.option_with_value("count") {
            let count = args.integer();
            args.check()?;
            if count <= 0 {
                return Err(CommandError::Fixed("ERR COUNT must be > 0"));
            }
            self.count = Some(usize::try_from(count).unwrap_or(usize::MAX));
        } else if may_store && args.option_with_value("store") {
            (self.store, self.stores_distances) = (Some(args.key()), false);
        } else if may_store && args.option_with_value("storedist") {
            (self.store, self.stores_distances) = (Some(args.key()), true);
        } else if kind == Kind::SearchStore && args.option("storedist") {
            self.stores_distances = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn read_search_option(
        &mut self,
        args: &mut Args<'a>,
        zset: Option<ZSetRef<'_>>,
    ) -> Result<bool, CommandError> {
        let may_be_member = !matches!(self.center, Some(Center::Given(_)));
        let may_be_given = !matches!(self.center, Some(Center::Member(_)));
        let may_be_circle = !matches!(self.shape, Some((Shape::Box { .. }, _)));
        let may_be_box = !matches!(self.shape, Some((Shape::Circle { .. }, _)));
        if may_be_member && args.option_with_value("frommember") {
            self.center = Some(Center::Member(place_of_member(zset, args.bytes())?));
        } else if may_be_given && args.remaining() > 2 && args.option("fromlonlat") {
            self.center = Some(Center::Given(read_place(args)?));
        } else if may_be_circle && args.remaining() > 2 && args.option("byradius") {
            self.shape = Some(read_circle(args)?);
        } else if may_be_box && args.remaining() > 3 && args.option("bybox") {
            self.shape = Some(read_box(args)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// What no single option can tell.
    fn check(&self, args: &Args<'a>, kind: Kind) -> CommandResult {
        let Details { distance, hash, place } = self.details;
        if (self.store.is_some() || kind == Kind::SearchStore) && (distance || hash || place) {
            let what = match kind {
                Kind::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(CommandError::err(format_args!(
                "{what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let missing = |what: &str| {
            let mut text = format!("ERR exactly one of {what} can be specified for ").into_bytes();
            text.extend_from_slice(args.request().arg(0));
            Err(CommandError::Bytes(text.into()))
        };
        if kind.is_search() && self.center.is_none() {
            return missing("FROMMEMBER or FROMLONLAT");
        }
        if kind.is_search() && self.shape.is_none() {
            return missing("BYRADIUS and BYBOX");
        }
        if self.is_any && self.count.is_none() {
            return Err(CommandError::Fixed("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn plan(&self) -> Option<Plan> {
        let (Center::Given(center) | Center::Member(center)) = self.center?;
        let (shape, unit) = self.shape?;
        let is_sorted_by_default = self.count.is_some() && !self.is_any;
        Some(Plan {
            search: Search { center, shape, unit },
            order: self.order.or(is_sorted_by_default.then_some(Order::NearestFirst)),
            count: self.count,
            is_any: self.is_any,
            details: self.details,
        })
    }
}

/// What is left of a request once it is read; it may go to another thread.
#[derive(Clone, Copy)]
struct Plan {
    search: Search,
    order: Option<Order>,
    count: Option<usize>,
    is_any: bool,
    details: Details,
}

impl Plan {
    fn find<'a>(&self, zset: ZSetRef<'a>, ranks: &[Range<usize>]) -> Vec<Found<'a>> {
        let mut found = self.search.find(zset, ranks, self.count.filter(|_| self.is_any));
        match self.order {
            Some(Order::NearestFirst) => found.sort_by(Found::compare),
            Some(Order::FarthestFirst) => found.sort_by(|a, b| b.compare(a)),
            None => {}
        }
        found.truncate(self.count.unwrap_or(usize::MAX));
        found
    }

    fn write(&self, reply: &mut Reply<'_>, zset: ZSetRef<'_>, ranks: &[Range<usize>]) {
        let found = self.find(zset, ranks);
        let Details { distance, hash, place } = self.details;
        let details = usize::from(distance) + usize::from(hash) + usize::from(place);
        reply.array(found.len());
        for one in found {
            if details > 0 {
                reply.array(1 + details);
            }
            reply.bulk(one.member.bytes(&mut I64Buf::new()));
            if distance {
                write_distance(reply, one.distance_m / self.search.unit.metres);
            }
            if hash {
                reply.integer(one.score as i64);
            }
            if place {
                write_place(reply, one.place);
            }
        }
    }
}

fn run(cx: &mut Cx<'_>, args: &mut Args<'_>, kind: Kind) -> CommandResult {
    let destination = (kind == Kind::SearchStore).then(|| args.key());
    let key = args.key();
    let entry = cx.keys.read(&key);
    let zset = entry.map(zset::zset_of).transpose()?;
    let query = Query::read(args, kind, zset)?;
    let store = destination.or(query.store);
    if let Some(destination) = store {
        let entry = entry.cloned();
        let event = if kind.is_search() { "geosearchstore" } else { "georadiusstore" };
        store_found(cx, &destination, event, entry.as_ref(), &query);
        return Ok(());
    }
    let Some(((entry, zset), plan)) = entry.zip(zset).zip(query.plan()) else {
        cx.reply.array(0);
        return Ok(());
    };
    let ranks = plan.search.ranks(zset);
    if ranks.iter().map(Range::len).sum::<usize>() <= INLINE_PLACES_MAX {
        plan.write(&mut cx.reply, zset, &ranks);
        return Ok(());
    }
    let entry = entry.clone();
    cx.answer_by(move |reply| {
        let zset = zset::zset_of(&entry).expect("the entry was found to be a sorted set");
        plan.write(reply, zset, &ranks);
        Ok(())
    })
}

fn store_found(
    cx: &mut Cx<'_>,
    destination: &Key<'_>,
    event: &'static str,
    source: Option<&Entry>,
    query: &Query<'_>,
) {
    let zset = source.and_then(|entry| zset::zset_of(entry).ok());
    let found = match (zset, query.plan()) {
        (Some(zset), Some(plan)) => plan.find(zset, &plan.search.ranks(zset)),
        _ => Vec::new(),
    };
    let metres = query.shape.map_or(1.0, |(_, unit)| unit.metres);
    let scored = found.iter().map(|one| {
        let score = if query.stores_distances { one.distance_m / metres } else { one.score };
        (one.member.to_vec(), score)
    });
    let members: Vec<(Vec<u8>, f64)> = scored.collect();
    let members = members.iter().map(|(member, score)| (member.as_slice(), *score));
    let more = members.len().saturating_sub(1) as u64;
    zset::store(cx, destination, event, members);
    cx.keys.space().changes.dirty += more;
}
