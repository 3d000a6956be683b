//! Where a command's keys stand in its request, and how they are found.
//!
//! A key spec says where to begin (at a position, or after a keyword) and how to go on (a range
//! with a step, or a counted list). Routing, ACL, COMMAND GETKEYS and prefetching all find keys
//! through [`find_keys`], so there is one answer to "which keys does this request touch". A spec
//! that cannot describe all keys of its command is marked INCOMPLETE.

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

    /// The positions this spec finds, or `None` if the request does not fit it.
    fn positions(&self, request: &Request<'_>) -> Option<(usize, usize, usize)> {
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
        (first <= last && last < count && step > 0).then_some((first, last, step))
    }
}

/// A key's position in the request, and how the command treats it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundKey {
    pub index: usize,
    pub flags: KeyFlags,
}

/// All keys of a request whose arity has been checked, in the order of the specs; `None` when a
/// spec does not fit the arguments.
pub fn find_keys(command: &Command, request: &Request<'_>) -> Option<Vec<FoundKey>> {
    if let Some(finder) = command.key_finder {
        return finder(request);
    }
    let mut found = Vec::new();
    for spec in command.keys {
        if spec.flags.has(KeyFlags::NOT_KEY) {
            continue;
        }
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
        let (first, last, step) = spec.positions(request)?;
        found.extend(
            (first..=last).step_by(step).map(|index| FoundKey { index, flags: spec.flags }),
        );
    }
    Some(found)
}

/// Whether no key of a request whose arity has been checked is longer than `max`. Where the keys
/// cannot be told, no argument may be.
#[inline]
pub fn are_at_most(command: &Command, request: &Request<'_>, max: usize) -> bool {
    !request.has_longer_than(max)
        || find_keys(command, request)
            .is_some_and(|keys| keys.iter().all(|key| request.arg(key.index).len() <= max))
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
    use crate::command::Table;
    use crate::resp::OwnedRequest;
    use crate::structs::SharedBytes;

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
