//! Where a command's keys stand in its request, and how they are found.
//!
//! A key spec says where to begin (at a position, or after a keyword) and how to go on (a range
//! with a step, or a counted list). Routing, ACL, COMMAND GETKEYS, tracking and the record of hot
//! keys all find keys through [`find_keys`], so there is one answer to "which keys does this
//! request touch". A spec that cannot describe all keys of its command is marked INCOMPLETE, and
//! its record has a function that can.
//!
//! What is found is not a list of positions but the few rows in which they stand, however many they
//! are: so finding allocates nothing, and a gate can afford it for each request.

use super::{Command, flags::bit_set};
use crate::resp::Request;
use crate::structs::number::parse_i64;

bit_set! {
    /// How a command treats the keys that a spec finds.
    KeyFlags {
        RO = "RO",
        RW = "RW",
        OW = "OW",
        RM = "RM",
        ACCESS = "access",
        UPDATE = "update",
        INSERT = "insert",
        DELETE = "delete",
        NOT_KEY = "not_key",
        INCOMPLETE = "incomplete",
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// Where the keys of a command stand.
#[derive(Clone, Copy)]
pub struct KeySpec {
    pub flags: KeyFlags,
    pub begin: Begin,
    pub find: Find,
    pub notes: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Index(u16),
    /// The argument after the first `keyword` found from `start` on (backwards when negative).
    Keyword {
        keyword: &'static str,
        start: i16,
    },
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// From the beginning to `last` (relative to it; negative counts from the end of the
    /// request), by `step`. A `limit` of n takes only the first n-th part when `last` is -1.
    Range {
        last: i16,
        step: u16,
        limit: u16,
    },
    /// A count of keys at `count`, the first key at `first`, both relative to the beginning.
    Counted {
        count: u16,
        first: u16,
        step: u16,
    },
    Unknown,
}

impl KeySpec {
    /// The key at `index`.
    pub const fn one(index: u16, flags: KeyFlags) -> KeySpec {
        KeySpec::range(index, 0, 1, flags)
    }

    /// Keys from `index` to the `last` argument (negative from the end), every `step`.
    pub const fn range(index: u16, last: i16, step: u16, flags: KeyFlags) -> KeySpec {
        let find = Find::Range { last, step, limit: 0 };
        KeySpec { flags, begin: Begin::Index(index), find, notes: "" }
    }

    /// A count at `index`, then as many keys.
    pub const fn counted(index: u16, flags: KeyFlags) -> KeySpec {
        let find = Find::Counted { count: 0, first: 1, step: 1 };
        KeySpec { flags, begin: Begin::Index(index), find, notes: "" }
    }

    /// Keys that only running the command can tell.
    pub const fn unknown(flags: KeyFlags) -> KeySpec {
        KeySpec { flags, begin: Begin::Unknown, find: Find::Unknown, notes: "" }
    }

    /// The key after a keyword.
    pub const fn after(keyword: &'static str, start: i16, flags: KeyFlags) -> KeySpec {
        let find = Find::Range { last: 0, step: 1, limit: 0 };
        KeySpec { flags, begin: Begin::Keyword { keyword, start }, find, notes: "" }
    }

    pub const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = notes;
        self
    }

    pub const fn find(mut self, find: Find) -> KeySpec {
        self.find = find;
        self
    }

    /// Whether it finds all arguments from its beginning on.
    pub fn is_rest(&self) -> bool {
        matches!(self.find, Find::Range { last: -1, step: 1, limit: 0 })
    }

    fn first(&self, request: &Request<'_>) -> Option<usize> {
        match self.begin {
            Begin::Index(index) => Some(usize::from(index)),
            Begin::Keyword { keyword, start } => {
                let count = request.len();
                let is_it = |i: &usize| request.arg(*i).eq_ignore_ascii_case(keyword.as_bytes());
                let found = if start >= 0 {
                    (usize::try_from(start).unwrap_or(0)..count).find(is_it)
                } else {
                    let from = count.checked_sub(usize::from(start.unsigned_abs()))?;
                    (1..=from).rev().find(is_it)
                };
                found.map(|i| i + 1)
            }
            Begin::Unknown => None,
        }
    }

    /// What this spec finds, or `None` if the request does not fit it.
    fn row(&self, request: &Request<'_>) -> Option<KeyRow> {
        let count = request.len();
        let begin = self.first(request)?;
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let end = if last >= 0 {
                    begin.checked_add(usize::from(last.unsigned_abs()))?
                } else if limit > 1 {
                    let span = count.checked_sub(begin)? / usize::from(limit);
                    (begin + span).checked_sub(usize::from(last.unsigned_abs()))?
                } else {
                    count.checked_sub(usize::from(last.unsigned_abs()))?
                };
                (begin, end, usize::from(step))
            }
            Find::Counted { count: count_at, first, step } => {
                let at = begin + usize::from(count_at);
                if at >= count {
                    return None;
                }
                let keys = usize::try_from(parse_i64(request.arg(at))?).ok()?;
                let first = begin + usize::from(first);
                let step = usize::from(step);
                let last = first.checked_add(keys.checked_sub(1)?.checked_mul(step)?)?;
                (first, last, step)
            }
            Find::Unknown => return None,
        };
        let fits = first <= last && last < count && step > 0;
        fits.then_some(KeyRow { first, last, step, flags: self.flags })
    }
}

/// A key's position in the request, and how the command treats it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundKey {
    pub index: usize,
    pub flags: KeyFlags,
}

/// Keys at equal distances, which the command treats alike.
#[derive(Clone, Copy)]
struct KeyRow {
    first: usize,
    last: usize,
    step: usize,
    flags: KeyFlags,
}

impl KeyRow {
    const EMPTY: KeyRow = KeyRow { first: 1, last: 0, step: 1, flags: KeyFlags::NONE };

    fn is_of_keys(&self) -> bool {
        !self.flags.has(KeyFlags::NOT_KEY)
    }

    fn len(&self) -> usize {
        (self.last + 1 - self.first).div_ceil(self.step)
    }

    fn iter(self) -> impl Iterator<Item = FoundKey> {
        let positions = (self.first..=self.last).step_by(self.step);
        positions.map(move |index| FoundKey { index, flags: self.flags })
    }
}

/// No command has keys in more rows than this.
const ROWS_MAX: usize = 4;

/// Where the keys of a request stand, in the order of the command's specs.
#[derive(Clone, Copy)]
pub struct FoundKeys {
    rows: [KeyRow; ROWS_MAX],
    count: usize,
}

impl FoundKeys {
    pub const NONE: FoundKeys = FoundKeys { rows: [KeyRow::EMPTY; ROWS_MAX], count: 0 };

    /// This key alone.
    pub fn one(index: usize, flags: KeyFlags) -> FoundKeys {
        FoundKeys::NONE.and(index, flags)
    }

    /// These and one more.
    pub fn and(mut self, index: usize, flags: KeyFlags) -> FoundKeys {
        self.add(KeyRow { first: index, last: index, step: 1, flags });
        self
    }

    /// All arguments from a place on.
    pub fn rest(first: usize, request: &Request<'_>, flags: KeyFlags) -> FoundKeys {
        let mut found = FoundKeys::NONE;
        if first < request.len() {
            found.add(KeyRow { first, last: request.len() - 1, step: 1, flags });
        }
        found
    }

    fn add(&mut self, row: KeyRow) {
        self.rows[self.count] = row;
        self.count += 1;
    }

    fn rows(&self) -> impl Iterator<Item = &KeyRow> {
        self.rows[..self.count].iter()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = FoundKey> {
        self.rows().filter(|row| row.is_of_keys()).flat_map(|row| row.iter())
    }

    /// The keys, and what is routed as a key is without being one: the channels of shards, which
    /// are marked [`KeyFlags::NOT_KEY`].
    pub fn keys_and_channels(&self) -> impl Iterator<Item = FoundKey> {
        self.rows().flat_map(|row| row.iter())
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.rows().filter(|row| row.is_of_keys()).map(KeyRow::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All keys of a request whose arity has been checked; `None` when a spec does not fit the
/// arguments.
pub fn find_keys(command: &Command, request: &Request<'_>) -> Option<FoundKeys> {
    if let Some(finder) = command.key_finder {
        return finder(request);
    }
    let mut found = FoundKeys::NONE;
    for spec in command.keys {
        // A keyword that is absent, or ends the request after other keys, only means that the
        // request has no such keys.
        if matches!(spec.begin, Begin::Keyword { .. }) {
            let first = spec.first(request);
            if first.is_none() || (first == Some(request.len()) && !found.is_empty()) {
                continue;
            }
        }
        // More keys of an optional list: there may be none.
        if !found.is_empty() && spec.is_rest() && spec.first(request) == Some(request.len()) {
            continue;
        }
        match spec.row(request) {
            Some(row) => found.add(row),
            // Channels may be left out.
            None if spec.flags.has(KeyFlags::NOT_KEY) => {}
            None => return None,
        }
    }
    Some(found)
}

/// Whether no key of a request whose arity has been checked is longer than `max`. Where the keys
/// cannot be told, no argument may be.
#[inline]
pub fn are_at_most(command: &Command, request: &Request<'_>, max: usize) -> bool {
    !request.has_longer_than(max)
        || find_keys(command, request)
            .is_some_and(|found| found.keys().all(|key| request.arg(key.index).len() <= max))
}

/// Where a command's key stands, if it has one in each request and no more. One that has a finder
/// as well has it for how the key is treated, or its spec is marked.
pub fn only_key(command: &Command) -> Option<u16> {
    let [spec] = command.keys else { return None };
    let is_all = !spec.flags.intersects(KeyFlags::NOT_KEY.or(KeyFlags::INCOMPLETE));
    match (spec.begin, spec.find) {
        (Begin::Index(index), Find::Range { last: 0, limit: 0, .. }) if is_all => Some(index),
        _ => None,
    }
}

/// First, last and step of the first spec, as COMMAND INFO prints them (zeros when it has none).
pub fn legacy_range(command: &Command) -> (i64, i64, i64) {
    let mut merged: Option<(i64, i64, i64)> = None;
    for spec in command.keys {
        let (Begin::Index(index), Find::Range { last, step, limit: 0 }) = (spec.begin, spec.find)
        else {
            continue;
        };
        let first = i64::from(index);
        let last = if last >= 0 { first + i64::from(last) } else { i64::from(last) };
        let step = i64::from(step);
        merged = match merged {
            None => Some((first, last, step)),
            // Neighbouring specs read as one range.
            Some((f, l, 1)) if step == 1 && l + 1 == first => Some((f, last, 1)),
            kept => kept,
        };
    }
    merged.unwrap_or((0, 0, 0))
}

/// Whether the triple of [`legacy_range`] misses keys.
pub fn are_movable(command: &Command) -> bool {
    let plain = |spec: &KeySpec| {
        matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { limit: 0, .. }))
    };
    command.keys.iter().any(|spec| {
        spec.flags.has(KeyFlags::INCOMPLETE) || (!plain(spec) && !spec.flags.has(KeyFlags::NOT_KEY))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finder_beside_an_only_key_finds_that_key() {
        for row in Table::new().rows() {
            let (Some(at), Some(finder)) = (row.only_key, row.command.key_finder) else { continue };
            let words = ["name", "a", "b", "GET", "d", "e"].map(str::as_bytes);
            let request = OwnedRequest::from_args(&words);
            let found = finder(&request.as_request()).expect(row.full_name);
            let places: Vec<usize> = found.keys_and_channels().map(|key| key.index).collect();
            assert_eq!(places, [usize::from(at)], "{}", row.full_name);
        }
    }
    use crate::command::{Table, table::Row};
    use crate::resp::OwnedRequest;
    use crate::structs::SharedBytes;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// The same by way of a list, word by word: what [`find_keys`] must agree with.
    fn list_keys(command: &Command, request: &Request<'_>) -> Option<Vec<FoundKey>> {
        let mut found = Vec::new();
        for spec in command.keys.iter().filter(|spec| !spec.flags.has(KeyFlags::NOT_KEY)) {
            let first = spec.first(request);
            let is_optional = matches!(spec.begin, Begin::Keyword { .. });
            let is_at_end = first == Some(request.len()) && !found.is_empty();
            if (is_optional && first.is_none()) || (is_at_end && (is_optional || spec.is_rest())) {
                continue;
            }
            let row = spec.row(request)?;
            let mut index = row.first;
            while index <= row.last {
                found.push(FoundKey { index, flags: spec.flags });
                index += row.step;
            }
        }
        Some(found)
    }

    /// Where SORT finds its keys: the sorted one, and the last that STORE names.
    fn list_sort_keys(command: &Command, request: &Request<'_>) -> Vec<FoundKey> {
        let (reads, stores) = (command.keys[0].flags, command.keys[command.keys.len() - 1].flags);
        let mut found = vec![FoundKey { index: 1, flags: reads }];
        let mut at = 2;
        while at < request.len() {
            let word = request.arg(at).to_ascii_lowercase();
            if word == b"store" && at + 1 < request.len() {
                found.truncate(1);
                found.push(FoundKey { index: at + 1, flags: stores });
            }
            at += match &word[..] {
                b"limit" => 3,
                b"get" | b"by" => 2,
                b"store" if at + 1 < request.len() => 2,
                _ => 1,
            };
        }
        found
    }

    fn check_against_list(row: &Row, request: &Request<'_>) {
        if !row.command.arity.accepts(request.len()) {
            return;
        }
        let found = find_keys(row.command, request);
        let keys = found.map(|found| found.keys().collect::<Vec<_>>());
        assert_eq!(found.map(|found| found.len()), keys.as_ref().map(Vec::len));
        if row.command.key_finder.is_none() {
            assert_eq!(keys, list_keys(row.command, request), "{}", row.full_name);
        } else if row.full_name == "sort" {
            assert_eq!(keys, Some(list_sort_keys(row.command, request)));
        }
        let all = found.into_iter().flat_map(|found| found.keys_and_channels().collect::<Vec<_>>());
        assert!(all.into_iter().all(|word| word.index < request.len()), "{}", row.full_name);
    }

    /// The request that a line of an example sends.
    fn sent(line: &str) -> Option<OwnedRequest> {
        let words: Vec<&str> = line.strip_prefix("> ")?.split(' ').collect();
        Some(OwnedRequest::from_args(&words))
    }

    #[test]
    fn every_example_has_its_keys_where_a_list_has_them() {
        let table = Table::new();
        let examples = table.rows().iter().flat_map(|row| row.command.example.lines());
        let mut checked = 0;
        for request in examples.filter_map(sent) {
            let request = request.as_request();
            if let crate::command::Lookup::Found(id) = table.lookup(&request) {
                check_against_list(table.row(id), &request);
                checked += 1;
            }
        }
        assert!(checked > 300, "{checked}");
    }

    static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

    const WORDS: &[&str] = &[
        "k",
        "l",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "99",
        "x",
        "store",
        "STOREDIST",
        "limit",
        "get",
        "by",
        "streams",
        "keys",
        "count",
        "left",
        "u8",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_request_has_its_keys_where_a_list_has_them(
            words in proptest::collection::vec(proptest::sample::select(WORDS), 0..12),
        ) {
            for row in TABLE.rows() {
                let name = row.full_name.split('|');
                let line: Vec<&str> = name.chain(words.iter().copied()).collect();
                check_against_list(row, &OwnedRequest::from_args(&line).as_request());
            }
        }
    }

    #[test]
    fn no_command_has_keys_in_too_many_rows() {
        for row in Table::new().rows() {
            assert!(row.command.keys.len() <= ROWS_MAX, "{}", row.full_name);
        }
    }

    #[test]
    fn channels_of_shards_are_found_and_are_no_keys() {
        let table = Table::new();
        for (line, channels) in
            [("> SPUBLISH c m", 1), ("> SSUBSCRIBE c d", 2), ("> SUNSUBSCRIBE", 0)]
        {
            let request = sent(line).expect("it sends");
            let request = request.as_request();
            let id = table.by_name(request.arg(0)).expect("it is a command");
            let found = find_keys(table.row(id).command, &request).expect("it fits");
            let places: Vec<usize> = found.keys_and_channels().map(|word| word.index).collect();
            assert_eq!(places, (1..=channels).collect::<Vec<_>>(), "{line}");
            let is_channel = |word: FoundKey| word.flags.has(KeyFlags::NOT_KEY);
            assert!(found.keys_and_channels().all(is_channel) && found.is_empty(), "{line}");
            assert_eq!(found.keys().count(), 0, "{line}");
        }
    }

    #[test]
    fn keys_are_found_too_long_wherever_they_stand() {
        const MAX: usize = 100_000;
        let (table, long) = (Table::new(), SharedBytes::new(vec![b'k'; MAX + 1]));
        let refused = [
            "SET L v",
            "GET L",
            "MSET k v L v",
            "RENAME k L",
            "COPY L k",
            "SORT k STORE L",
            "GEORADIUS k 1 1 1 m STORE L",
            "XREAD STREAMS k L 0 0",
            "XREADGROUP GROUP g c STREAMS L >",
            "ZUNIONSTORE L 1 k",
            "ZUNIONSTORE k 2 k L",
            "LMPOP 1 L LEFT",
            "BLPOP k L 0",
            "BITOP AND L k k",
            "XADD L * f v",
            "HSETEX L FIELDS 1 a b",
            "RESTORE L 0 x",
            "ZUNIONSTORE L many k",
        ];
        let let_in = ["SET k L", "MSET k L k v", "SORT k BY L", "PING L", "HSET h L L", "ECHO L"];
        let is_let_in = |line: &str| {
            let mut request = OwnedRequest::default();
            for word in line.split(' ') {
                match word {
                    "L" => request.push_shared(long.clone()),
                    _ => request.push(word.as_bytes()),
                }
            }
            let name = line.split(' ').next().expect("a line has words").to_ascii_lowercase();
            let id = table.by_full_name(name.as_bytes()).expect("it is a command");
            are_at_most(table.row(id).command, &request.as_request(), MAX)
        };
        for line in refused {
            assert!(!is_let_in(line), "{line}");
        }
        for line in let_in {
            assert!(is_let_in(line), "{line}");
        }
    }
}
