//! Intersection, difference and union of sets in any encodings.
//!
//! Intersection and difference are one walk: the members of one set in small batches, of which each
//! other set in turn strikes out what does not pass. A batch is hashed once for all tables, and
//! each table is asked to prefetch the whole batch before it is probed, so that cache misses
//! overlap. Probing member by member through all sets would wait for every miss.

use std::ops::ControlFlow;

use triomphe::Arc;

use super::{Rules, SetRef, SetValue};
use crate::structs::listpack::Element;
use crate::structs::number::I64Buf;
use crate::types::MemberHash;

const BATCH: usize = 32;

/// Visits the members that all sets have. There must be a set.
pub fn intersect<'a>(
    sets: &[SetRef<'a>],
    visit: impl FnMut(Element<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return ControlFlow::Continue(()) };
    sift(*smallest, others, true, visit)
}

/// Visits the members of the first set that none of the others has.
pub fn subtract<'a>(
    first: SetRef<'a>,
    others: &[SetRef<'a>],
    visit: impl FnMut(Element<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut others = others.to_vec();
    // The largest is the likeliest to strike a member out.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    sift(first, &others, false, visit)
}

/// Visits the members of `first` of which each other set says `passes` when asked whether it has
/// them.
fn sift<'a>(
    first: SetRef<'a>,
    others: &[SetRef<'a>],
    passes: bool,
    mut visit: impl FnMut(Element<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let hasher = others.iter().find_map(|set| match set {
        SetRef::Table(table) => Some(*table),
        _ => None,
    });
    let mut members = first.iter();
    let mut batch: Vec<(Element<'a>, Option<MemberHash>)> = Vec::with_capacity(BATCH);
    let mut hashes = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        batch.extend(members.by_ref().take(BATCH).map(|element| {
            let hash = hasher.map(|table| table.hash(element.bytes(&mut I64Buf::new())));
            (element, hash)
        }));
        if batch.is_empty() {
            return ControlFlow::Continue(());
        }
        for other in others {
            if let SetRef::Table(table) = other {
                hashes.clear();
                hashes.extend(batch.iter().filter_map(|(_, hash)| *hash));
                table.prefetch(&hashes);
            }
            batch.retain(|(element, hash)| other.contains_element(*element, *hash) == passes);
        }
        for (element, _) in &batch {
            visit(*element)?;
        }
    }
}

/// The intersection as SINTERSTORE keeps it: an intset if it can be one.
pub fn intersection(sets: &[SetRef<'_>], rules: &Rules) -> SetValue {
    let smallest = sets.iter().min_by_key(|set| set.len());
    let mut result = match smallest {
        Some(SetRef::Intset(_)) => SetValue::new_intset(),
        _ => SetValue::new_listpack(),
    };
    let _ = intersect(sets, |element| {
        result.add_element(element, rules);
        ControlFlow::Continue(())
    });
    result.prefer_intset(rules);
    result
}

/// The difference as SDIFFSTORE keeps it.
pub fn difference(first: SetRef<'_>, others: &[SetRef<'_>], rules: &Rules) -> SetValue {
    let mut result = SetValue::new_intset();
    let _ = subtract(first, others, |element| {
        result.add_element(element, rules);
        ControlFlow::Continue(())
    });
    result
}

/// The union as SUNIONSTORE keeps it: it grows from an intset by the usual rules. A set too large
/// for anything but a table is shared rather than added member by member.
pub fn union(sets: &[SetRef<'_>], rules: &Rules) -> SetValue {
    let packed_max = rules.max_intset_entries.max(rules.max_listpack_entries);
    match largest_table(sets).filter(|(_, len)| *len > packed_max) {
        Some((place, _)) => union_onto(sets, place, rules),
        None => {
            let mut result = SetValue::new_intset();
            add_all(&mut result, sets, rules);
            result
        }
    }
}

/// The union to be read once: in ascending order if all members are integers, and otherwise a
/// table, in which members are found fast.
pub fn union_to_read(sets: &[SetRef<'_>], rules: &Rules) -> SetValue {
    if let Some((place, _)) = largest_table(sets) {
        return union_onto(sets, place, rules);
    }
    let all_integers = sets.iter().all(|set| matches!(set, SetRef::Intset(_)));
    let mut result = if all_integers { SetValue::new_intset() } else { SetValue::new_table(rules) };
    add_all(&mut result, sets, rules);
    result
}

/// The place of the largest table and its length.
fn largest_table(sets: &[SetRef<'_>]) -> Option<(usize, usize)> {
    let tables = sets.iter().enumerate().filter(|(_, set)| matches!(set, SetRef::Table(_)));
    tables.map(|(place, set)| (place, set.len())).max_by_key(|(_, len)| *len)
}

/// The union as a copy of one of the sets, which shares what the others do not change.
fn union_onto(sets: &[SetRef<'_>], place: usize, rules: &Rules) -> SetValue {
    let mut result = sets[place].to_value();
    for (at, set) in sets.iter().enumerate() {
        if at != place {
            add_all(&mut result, std::slice::from_ref(set), rules);
        }
    }
    result
}

fn add_all(result: &mut SetValue, sets: &[SetRef<'_>], rules: &Rules) {
    for set in sets {
        match (&mut *result, set) {
            (SetValue::Table(result), SetRef::Table(table)) => {
                let result = Arc::make_mut(result);
                for member in table.iter() {
                    result.insert_shared(member);
                }
            }
            (result, set) => {
                for element in set.iter() {
                    result.add_element(element, rules);
                }
            }
        }
    }
}
