//! SORT and SORT_RO: the elements of a list, set or sorted set in another order, with what other
//! keys hold for them.
//!
//! All weights are found first, so that sorting compares plain values. A long sort that stores
//! nothing runs on another thread, over the entry and, where patterns name other keys, a snapshot
//! of the database; one that stores runs here, since the next command must see its result.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, FoundKeys, Group,
    KeyFlags, KeySpec, Shape,
};
use crate::config::EventClasses;
use crate::engine::{Caller, Cx};
use crate::keyspace::slot::Slot;
use crate::keyspace::{Entry, Key, Keys, Snapshot, ValueRef};
use crate::resp::{Reply, Request};
use crate::structs::memory::Growth;
use crate::structs::number::{I64Buf, parse_f64};
use crate::types::set::SetRef;
use crate::types::{WrongType, list, zset};
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

/// More elements than this are sorted by another thread.
const INLINE_ELEMENTS_MAX: usize = 10_000;

const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const STORES: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);
const PATTERN_KEYS: KeySpec = KeySpec::unknown(READS)
    .notes("The keys of BY and GET: their names come from the elements of the sorted key");
const STORE_KEY: KeySpec =
    KeySpec::unknown(STORES).notes("The key of STORE, which may stand anywhere among the options");

const KEY: Arg = Arg::key("key");
const BY: Arg = Arg::pattern("by-pattern").display("pattern").token("BY").key_spec(1).optional();
const LIMIT: Arg =
    Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional();
const GET: Arg = Arg::pattern("get-pattern")
    .display("pattern")
    .token("GET")
    .key_spec(1)
    .optional()
    .multiple_token();
const ORDER: Arg =
    Arg::one_of("order", &[Arg::flag("asc", "ASC"), Arg::flag("desc", "DESC")]).optional();
const ALPHA: Arg = Arg::flag("sorting", "ALPHA").optional();

pub(super) static SORT: Command = Command {
    name: "sort",
    group: Group::Generic,
    summary: "Sorts the elements of a list, set or sorted set, and may store the result.",
    complexity: "O(N*log(N)) with N elements",
    arity: Arity::at_least(2),
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Categories::SET.or(Categories::SORTED_SET).or(Categories::LIST).or(Categories::DANGEROUS),
    keys: &[KeySpec::one(1, READS), PATTERN_KEYS, STORE_KEY],
    key_finder: Some(sort_keys),
    args: &[
        KEY,
        BY,
        LIMIT,
        GET,
        ORDER,
        ALPHA,
        Arg::key("destination").token("STORE").key_spec(2).optional(),
    ],
    example: "> RPUSH l 10 9 1\n(integer) 3\n> SORT l\n1) \"1\"\n2) \"9\"\n3) \"10\"\n\
              > SORT l DESC LIMIT 0 2 STORE top\n(integer) 2",
    run: sort,
    ..Command::BASE
};

fn sort(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    run(cx, args, Storing::Allowed)
}

pub(super) static SORT_RO: Command = Command {
    name: "sort_ro",
    since: "7.0.0",
    group: Group::Generic,
    summary: "Sorts the elements of a list, set or sorted set.",
    complexity: "O(N*log(N)) with N elements, on another thread when they are many",
    arity: Arity::at_least(2),
    flags: Flags::READONLY,
    acl: Categories::SET.or(Categories::SORTED_SET).or(Categories::LIST).or(Categories::DANGEROUS),
    keys: &[KeySpec::one(1, READS), PATTERN_KEYS],
    key_finder: Some(sort_ro_keys),
    args: &[KEY, BY, LIMIT, GET, ORDER, ALPHA],
    reply: Shape::Array,
    example: "> RPUSH l 10 9 1\n(integer) 3\n> SORT_RO l ALPHA\n1) \"1\"\n2) \"10\"\n3) \"9\"",
    run: sort_ro,
    ..Command::BASE
};

fn sort_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    run(cx, args, Storing::Refused)
}

/// The sorted key and, if the request stores, the last key it names for that.
fn sort_keys(request: &Request<'_>) -> Option<FoundKeys> {
    let mut found = sort_ro_keys(request)?;
    let mut at = 2;
    while at < request.len() {
        let is_word = |word: &[u8]| request.arg(at).eq_ignore_ascii_case(word);
        at += match () {
            () if is_word(b"limit") => 3,
            () if is_word(b"get") || is_word(b"by") => 2,
            () if is_word(b"store") && at + 1 < request.len() => {
                found = sort_ro_keys(request)?.and(at + 1, STORES);
                2
            }
            () => 1,
        };
    }
    Some(found)
}

fn sort_ro_keys(_: &Request<'_>) -> Option<FoundKeys> {
    Some(FoundKeys::one(1, READS))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Storing {
    Allowed,
    Refused,
}

/// A name for each element's value: a key, or a field of a hash, around the element.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `#`: the element itself.
    Element,
    /// Without a star it names nothing.
    Constant,
    Around {
        before: Box<[u8]>,
        after: Box<[u8]>,
        field: Option<Box<[u8]>>,
    },
}

impl Pattern {
    fn parse(text: &[u8]) -> Pattern {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else {
            return Pattern::Constant;
        };
        let (before, rest) = (&text[..star], &text[star + 1..]);
        let arrow = rest.windows(2).position(|pair| pair == b"->");
        let (after, field) = match arrow.filter(|at| at + 2 < rest.len()) {
            Some(at) => (&rest[..at], Some(rest[at + 2..].into())),
            None => (rest, None),
        };
        Pattern::Around { before: before.into(), after: after.into(), field }
    }

    /// What it stands for with this element in the star's place.
    fn value(
        &self,
        element: &[u8],
        place: &Place<'_>,
        growth: &mut Growth,
    ) -> Result<Option<Vec<u8>>, CommandError> {
        let (before, after, field) = match self {
            Pattern::Element => return copy(element, growth).map(Some),
            Pattern::Constant => return Ok(None),
            Pattern::Around { before, after, field } => (before, after, field),
        };
        let key = [before, element, after].concat();
        let Some(entry) = place.read(&key) else { return Ok(None) };
        match (field, entry.value()) {
            (None, ValueRef::String(text)) => copy(text, growth).map(Some),
            (Some(field), ValueRef::Hash(hash)) => {
                let value = hash.at(place.horizon_ms()).get(field);
                value.map(|value| copy(value.bytes(&mut I64Buf::new()), growth)).transpose()
            }
            _ => Ok(None),
        }
    }
}

/// Of each value a copy is held, and, where they are stored, a second one.
fn copy(text: &[u8], growth: &mut Growth) -> Result<Vec<u8>, CommandError> {
    match growth.is_there_for(2 * text.len()) {
        true => Ok(text.to_vec()),
        false => Err(CommandError::NoMemory),
    }
}

/// Where the keys of patterns are looked up.
enum Place<'a> {
    Live(&'a Keys<'a>),
    Frozen(&'a Snapshot),
    /// No pattern names a key.
    Nowhere,
}

impl Place<'_> {
    fn read(&self, key: &[u8]) -> Option<&Entry> {
        match self {
            Place::Live(keys) => keys.read(&keys.key(key)),
            Place::Frozen(snapshot) => {
                let entry = snapshot.entries.get(snapshot.entries.hash(key), key)?;
                (!entry.is_expired(snapshot.now_ms)).then_some(entry)
            }
            Place::Nowhere => None,
        }
    }

    fn horizon_ms(&self) -> u64 {
        match self {
            Place::Live(keys) => keys.horizon_ms(),
            Place::Frozen(snapshot) => snapshot.now_ms,
            Place::Nowhere => 0,
        }
    }
}

/// Which keys a pattern names is not known before they are read, so its user must be allowed to
/// read all of them.
fn may_name_keys(cx: &Cx<'_>, args: &Args<'_>, option: &str) -> CommandResult {
    if cx.may_read_all(&args.request()) {
        return Ok(());
    }
    Err(CommandError::err(format_args!(
        "{option} option of SORT denied due to insufficient ACL permissions."
    )))
}

/// In a cluster only keys are here that are of the slot of the sorted one.
fn stays_in_slot(cx: &Cx<'_>, args: &Args<'_>, pattern: &[u8], option: &str) -> CommandResult {
    let is_cluster = cx.server.cluster.is_some();
    if !is_cluster || Slot::of_pattern(pattern) == Some(Slot::of(args.request().arg(1))) {
        return Ok(());
    }
    Err(CommandError::err(format_args!(
        "{option} option of SORT denied in Cluster mode when keys formed by the pattern may be in \
         different slots."
    )))
}

/// How elements are compared.
#[derive(Clone, PartialEq, Eq)]
enum Weight {
    None,
    Elements,
    Of(Pattern),
}

/// A request without its keys; it may go to another thread.
struct Plan {
    weight: Weight,
    gets: Vec<Pattern>,
    is_descending: bool,
    is_alphabetic: bool,
    offset: i64,
    count: i64,
}

/// What an element is sorted by.
enum Rank {
    Number(f64),
    Text(Option<Vec<u8>>),
}

impl Plan {
    fn read<'a>(
        cx: &Cx<'_>,
        args: &mut Args<'a>,
        storing: Storing,
    ) -> Result<(Plan, Option<Key<'a>>), CommandError> {
        let mut plan = Plan {
            weight: Weight::Elements,
            gets: Vec::new(),
            is_descending: false,
            is_alphabetic: false,
            offset: 0,
            count: -1,
        };
        let mut store = None;
        let mut is_constant = false;
        while !args.is_empty() {
            if args.option("asc") {
                plan.is_descending = false;
            } else if args.option("desc") {
                plan.is_descending = true;
            } else if args.option("alpha") {
                plan.is_alphabetic = true;
            } else if args.remaining() > 2 && args.option("limit") {
                (plan.offset, plan.count) = (args.integer(), args.integer());
                args.check()?;
            } else if storing == Storing::Allowed && args.option_with_value("store") {
                store = Some(args.key());
            } else if args.option_with_value("by") {
                let pattern = args.bytes();
                if pattern.contains(&b'*') {
                    stays_in_slot(cx, args, pattern, "BY")?;
                    may_name_keys(cx, args, "BY")?;
                }
                plan.weight = Weight::Of(Pattern::parse(pattern));
                // Once a constant pattern was given, a later one does not bring sorting back.
                is_constant |= !pattern.contains(&b'*');
            } else if args.option_with_value("get") {
                let text = args.bytes();
                let pattern = Pattern::parse(text);
                if pattern != Pattern::Element {
                    stays_in_slot(cx, args, text, "GET")?;
                    may_name_keys(cx, args, "GET")?;
                }
                plan.gets.push(pattern);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if is_constant {
            plan.weight = Weight::None;
        }
        Ok((plan, store))
    }

    /// Whether other keys have to be read.
    fn reads_keys(&self) -> bool {
        let names_keys = |pattern: &Pattern| matches!(pattern, Pattern::Around { .. });
        self.gets.iter().any(names_keys)
            || matches!(&self.weight, Weight::Of(pattern) if names_keys(pattern))
    }

    /// The part of so many elements that is asked for.
    fn window(&self, len: usize) -> Range<usize> {
        let within = |index: i64| usize::try_from(index.max(0)).unwrap_or(usize::MAX).min(len);
        let start = within(self.offset);
        let count = if self.count < 0 { len } else { within(self.count) };
        start..start.saturating_add(count).min(len)
    }

    /// The elements of the answer, in order.
    fn elements(
        &self,
        source: &Source<'_>,
        place: &Place<'_>,
    ) -> Result<Vec<Vec<u8>>, CommandError> {
        let window = self.window(source.len());
        if self.weight == Weight::None {
            return Ok(source.ordered(window, self.is_descending));
        }
        let elements = source.ordered(0..source.len(), false);
        let mut ranked = Vec::with_capacity(elements.len());
        let mut growth = Growth::default();
        for element in elements {
            ranked.push((self.rank(&element, place, &mut growth)?, element));
        }
        ranked.sort_by(|a, b| {
            let order = compare(a, b);
            if self.is_descending { order.reverse() } else { order }
        });
        ranked.truncate(window.end);
        Ok(ranked.drain(window.start..).map(|(_, element)| element).collect())
    }

    fn rank(
        &self,
        element: &[u8],
        place: &Place<'_>,
        growth: &mut Growth,
    ) -> Result<Rank, CommandError> {
        const NOT_A_NUMBER: CommandError =
            CommandError::Fixed("ERR One or more scores can't be converted into double");
        match (&self.weight, self.is_alphabetic) {
            (Weight::Of(pattern), true) => Ok(Rank::Text(pattern.value(element, place, growth)?)),
            // The element itself is what equal ranks are compared by.
            (_, true) => Ok(Rank::Number(0.0)),
            (Weight::Of(pattern), false) => match pattern.value(element, place, growth)? {
                Some(text) => parse_weight(&text).map(Rank::Number).ok_or(NOT_A_NUMBER),
                None => Ok(Rank::Number(0.0)),
            },
            (_, false) => parse_weight(element).map(Rank::Number).ok_or(NOT_A_NUMBER),
        }
    }

    /// What the answer has for each of its elements.
    fn for_each_value(
        &self,
        elements: Vec<Vec<u8>>,
        place: &Place<'_>,
        growth: &mut Growth,
        mut visit: impl FnMut(Option<Vec<u8>>),
    ) -> CommandResult {
        for element in elements {
            if self.gets.is_empty() {
                visit(Some(element));
                continue;
            }
            for pattern in &self.gets {
                visit(pattern.value(&element, place, growth)?);
            }
        }
        Ok(())
    }

    fn write(
        &self,
        reply: &mut Reply<'_>,
        source: &Source<'_>,
        place: &Place<'_>,
    ) -> CommandResult {
        let elements = self.elements(source, place)?;
        reply.array(elements.len() * self.gets.len().max(1));
        // The reply itself asks for its memory.
        self.for_each_value(elements, place, &mut Growth::default(), |value| match value {
            Some(value) => reply.bulk(&value),
            None => reply.null(),
        })
    }
}

fn compare(a: &(Rank, Vec<u8>), b: &(Rank, Vec<u8>)) -> Ordering {
    match (&a.0, &b.0) {
        (Rank::Number(own), Rank::Number(other)) => {
            own.partial_cmp(other).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(&b.1))
        }
        (Rank::Text(own), Rank::Text(other)) => own.cmp(other),
        (Rank::Number(_), Rank::Text(_)) | (Rank::Text(_), Rank::Number(_)) => Ordering::Equal,
    }
}

/// A number by C's `strtod`, which skips white space and takes no text at all for zero.
fn parse_weight(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 9..=13);
    let blanks = text.iter().take_while(|byte| is_blank(byte)).count();
    parse_f64(&text[blanks..])
}

/// What is sorted.
enum Source<'a> {
    Empty,
    List(list::ListRef<'a>),
    Set(SetRef<'a>),
    ZSet(zset::ZSetRef<'a>),
}

impl<'a> Source<'a> {
    fn of(entry: Option<&'a Entry>) -> Result<Source<'a>, WrongType> {
        let Some(entry) = entry else { return Ok(Source::Empty) };
        match entry.value() {
            ValueRef::List(list) => Ok(Source::List(list)),
            ValueRef::ZSet(zset) => Ok(Source::ZSet(zset)),
            ValueRef::Set(set) => Ok(Source::Set(set)),
            _ => Err(WrongType),
        }
    }

    fn len(&self) -> usize {
        match self {
            Source::Empty => 0,
            Source::List(list) => list.len(),
            Source::Set(set) => set.len(),
            Source::ZSet(zset) => zset.len(),
        }
    }

    /// A range of the elements in their own order or, unless it is a set, in the reverse of it.
    fn ordered(&self, range: Range<usize>, is_reverse: bool) -> Vec<Vec<u8>> {
        let len = self.len();
        let mirrored = if is_reverse { len - range.end..len - range.start } else { range.clone() };
        match self {
            Source::Empty => Vec::new(),
            Source::Set(set) => {
                let members = set.iter().skip(range.start).take(range.len());
                members.map(|member| member.to_vec()).collect()
            }
            Source::List(list) => {
                let mut elements = Vec::with_capacity(range.len());
                let _ = list.walk(mirrored, is_reverse, |_, value| {
                    elements.push(value.to_vec());
                    ControlFlow::Continue(())
                });
                elements
            }
            Source::ZSet(zset) => {
                let members = zset.range(mirrored);
                let text =
                    |(member, _): (crate::structs::listpack::Element<'_>, f64)| member.to_vec();
                if is_reverse {
                    members.rev().map(text).collect()
                } else {
                    members.map(text).collect()
                }
            }
        }
    }
}

fn run(cx: &mut Cx<'_>, args: &mut Args<'_>, storing: Storing) -> CommandResult {
    let key = args.key();
    let (mut plan, store) = Plan::read(cx, args, storing)?;
    let entry = cx.keys.read(&key);
    let source = Source::of(entry)?;
    if plan.weight != Weight::None {
        CommandError::unless_memory(entry.map_or(0, Entry::heap_bytes))?;
    }
    let is_kept = store.is_some() || cx.caller == Caller::Script;
    if is_kept && plan.weight == Weight::None && matches!(source, Source::Set(_)) {
        // What is stored must not depend on the order in which a set happens to lie, nor what a
        // script does with it.
        (plan.weight, plan.is_alphabetic) = (Weight::Elements, true);
    }
    if let Some(destination) = store {
        let place = Place::Live(&cx.keys);
        let mut values = Vec::new();
        let elements = plan.elements(&source, &place)?;
        let push = |value: Option<Vec<u8>>| values.push(value.unwrap_or_default());
        plan.for_each_value(elements, &place, &mut Growth::default(), push)?;
        store_list(cx, &destination, &values);
        return Ok(());
    }
    if source.len() <= INLINE_ELEMENTS_MAX {
        return plan.write(&mut cx.reply, &source, &Place::Live(&cx.keys));
    }
    let entry = entry.cloned();
    let snapshot = plan.reads_keys().then(|| cx.keys.db().snapshot(cx.keys.horizon_ms()));
    cx.answer_by(move |reply| {
        let place = snapshot.as_ref().map_or(Place::Nowhere, Place::Frozen);
        let source = Source::of(entry.as_ref()).expect("the entry was found to be sortable");
        plan.write(reply, &source, &place)
    })
}

/// Puts a list of these values in place of whatever the key held, and tells; without values the
/// key is deleted.
fn store_list(cx: &mut Cx<'_>, key: &Key<'_>, values: &[Vec<u8>]) {
    cx.reply.integer(values.len() as i64);
    let existed = cx.keys.delete(key);
    if !values.is_empty() {
        let values: Vec<_> = values.iter().map(|value| (value.as_slice(), None)).collect();
        list::push_to_new(cx, key, list::End::Right, &values);
        cx.keys.changed(key, EventClasses::LIST, "sortstore");
        cx.keys.space().changes.dirty += values.len() as u64 - 1;
    } else if existed {
        cx.keys.changed(key, EventClasses::GENERIC, "del");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        let around = |before: &str, after: &str, field: Option<&str>| Pattern::Around {
            before: before.as_bytes().into(),
            after: after.as_bytes().into(),
            field: field.map(|field| field.as_bytes().into()),
        };
        assert_eq!(Pattern::parse(b"#"), Pattern::Element);
        assert_eq!(Pattern::parse(b"nosort"), Pattern::Constant);
        assert_eq!(Pattern::parse(b"w_*"), around("w_", "", None));
        assert_eq!(Pattern::parse(b"w_*->f"), around("w_", "", Some("f")));
        assert_eq!(Pattern::parse(b"*x->f->g*"), around("", "x", Some("f->g*")));
        // An arrow before the star, or without a field, is part of the key.
        assert_eq!(Pattern::parse(b"a->*"), around("a->", "", None));
        assert_eq!(Pattern::parse(b"*->"), around("", "->", None));
    }

    #[test]
    fn windows_stay_within_the_elements() {
        let window = |offset, count| {
            let plan = Plan {
                weight: Weight::None,
                gets: Vec::new(),
                is_descending: false,
                is_alphabetic: false,
                offset,
                count,
            };
            plan.window(10)
        };
        assert_eq!(window(0, -1), 0..10);
        assert_eq!(window(2, 3), 2..5);
        assert_eq!(window(8, 5), 8..10);
        assert_eq!(window(-3, 2), 0..2);
        assert_eq!(window(0, 0), 0..0);
        assert!(window(10, 1).is_empty());
        assert_eq!(window(i64::MIN, i64::MAX), 0..10);
        assert!(window(i64::MAX, i64::MIN).is_empty());
    }

    #[test]
    fn weights_are_read_as_c_does() {
        assert_eq!(parse_weight(b""), Some(0.0));
        assert_eq!(parse_weight(b" 1.5"), Some(1.5));
        assert_eq!(parse_weight(b"inf"), Some(f64::INFINITY));
        for text in ["1 ", "x", " ", "nan", "1e999"] {
            assert_eq!(parse_weight(text.as_bytes()), None, "{text}");
        }
    }
}
