//! The two encodings of a sorted set, and when one becomes the other.

use std::ops::Range;

use triomphe::Arc;

use super::ZSetTable;
use super::order::{Member, Members, compare};
use crate::config::Config;
use crate::structs::listpack::{self, Element, Listpack, TooLong};
use crate::structs::number::{F64Buf, I64Buf, format_f64, parse_f64};
use crate::structs::prng::Prng;
use crate::structs::trie::HashSecret;

/// How large a listpack may become, and the hash of the tables.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_listpack_entries: usize,
    pub max_listpack_value: usize,
    pub secret: HashSecret,
}

impl Limits {
    /// As a configuration has it.
    #[inline]
    pub fn of(config: &Config, secret: HashSecret) -> Limits {
        Limits {
            max_listpack_entries: config.zset_max_listpack_entries,
            max_listpack_value: config.zset_max_listpack_value,
            secret,
        }
    }
}

/// A sorted set, to be read.
#[derive(Clone, Copy, Debug)]
pub enum ZSetRef<'a> {
    Listpack(Listpack<'a>),
    Table(&'a Arc<ZSetTable>),
}

impl<'a> ZSetRef<'a> {
    pub fn len(self) -> usize {
        match self {
            ZSetRef::Listpack(listpack) => listpack.len() / 2,
            ZSetRef::Table(table) => table.len(),
        }
    }

    /// The memory of a table; packed bytes are few.
    pub fn table_bytes(self) -> usize {
        match self {
            ZSetRef::Table(table) => table.memory_bytes(),
            _ => 0,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            ZSetRef::Listpack(listpack) => {
                let position = listpack.find(member, 1)?;
                Some(score_of(listpack.at(listpack.next(position))))
            }
            ZSetRef::Table(table) => table.score(member),
        }
    }

    /// The rank of a member, and its score.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            ZSetRef::Listpack(listpack) => {
                let mut pairs = Pairs(listpack.iter()).enumerate();
                let found = pairs.find(|(_, (own, _))| own.is(member));
                found.map(|(rank, (_, score))| (rank, score))
            }
            ZSetRef::Table(table) => table.rank(member),
        }
    }

    /// How many members come before the first of which `is_before` does not hold.
    pub fn rank_where(self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        match self {
            ZSetRef::Listpack(listpack) => Pairs(listpack.iter())
                .take_while(|(member, score)| is_before(*score, member.bytes(&mut I64Buf::new())))
                .count(),
            ZSetRef::Table(table) => table.rank_where(is_before),
        }
    }

    /// The members of a range of ranks with their scores, from both ends.
    ///
    /// # Panics
    /// If the range goes beyond the last rank.
    pub fn range(self, ranks: Range<usize>) -> Ranked<'a> {
        match self {
            ZSetRef::Listpack(listpack) => {
                let seek = |rank: usize| listpack.seek(2 * rank as i64);
                let start = seek(ranks.start).unwrap_or(listpack.end());
                let end = seek(ranks.end).unwrap_or(listpack.end()).max(start);
                Ranked::Listpack(Pairs(listpack.iter_between(start, end)))
            }
            ZSetRef::Table(table) => Ranked::Table(table.range(ranks)),
        }
    }

    /// A member with its score, each with the same chance.
    pub fn random(self, prng: &mut Prng) -> Option<(Element<'a>, f64)> {
        match self {
            ZSetRef::Listpack(_) => {
                let rank = prng.below(self.len() as u64) as usize;
                self.range(rank..rank + 1).next()
            }
            ZSetRef::Table(table) => table.random(prng).map(pair_of),
        }
    }
}

/// The text and the score of a table's member.
pub fn pair_of(member: &Member) -> (Element<'_>, f64) {
    (Element::Str(member.bytes()), member.score())
}

fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Int(value) => value as f64,
        Element::Str(text) => parse_f64(text).unwrap_or(0.0),
    }
}

/// Members of a listpack with their scores.
pub struct Pairs<'a>(listpack::Iter<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Element<'a>, f64)> {
        let (_, member) = self.0.next()?;
        let (_, score) = self.0.next()?;
        Some((member, score_of(score)))
    }
}

impl DoubleEndedIterator for Pairs<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (_, score) = self.0.next_back()?;
        let (_, member) = self.0.next_back()?;
        Some((member, score_of(score)))
    }
}

/// Members of a range of ranks with their scores, from both ends.
pub enum Ranked<'a> {
    Listpack(Pairs<'a>),
    Table(Members<'a>),
}

impl<'a> Iterator for Ranked<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Element<'a>, f64)> {
        match self {
            Ranked::Listpack(pairs) => pairs.next(),
            Ranked::Table(members) => members.next().map(pair_of),
        }
    }
}

impl DoubleEndedIterator for Ranked<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Ranked::Listpack(pairs) => pairs.next_back(),
            Ranked::Table(members) => members.next_back().map(pair_of),
        }
    }
}

/// A sorted set, to be changed.
pub enum ZSetMut<'a> {
    Listpack(&'a mut Vec<u8>),
    Table(&'a mut ZSetTable),
    /// It was a listpack; the table is to take its place.
    Outgrown(Arc<ZSetTable>),
}

impl ZSetMut<'_> {
    pub fn len(&self) -> usize {
        match self {
            ZSetMut::Listpack(bytes) => Listpack::trusted(bytes).len() / 2,
            ZSetMut::Table(table) => table.len(),
            ZSetMut::Outgrown(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            ZSetMut::Listpack(bytes) => ZSetRef::Listpack(Listpack::trusted(bytes)).score(member),
            ZSetMut::Table(table) => table.score(member),
            ZSetMut::Outgrown(table) => table.score(member),
        }
    }

    /// Leaves the listpack if so many members to come, or the longest of them, would not fit it.
    pub fn prepare_for(&mut self, count: usize, longest: usize, limits: &Limits) {
        if count > limits.max_listpack_entries || longest > limits.max_listpack_value {
            self.outgrow(limits);
        }
    }

    /// Sets the score of a member; true if it is new.
    pub fn set(&mut self, member: &[u8], score: f64, limits: &Limits) -> bool {
        if let ZSetMut::Listpack(bytes) = self {
            let is_old = remove_packed(bytes, member);
            let fits = is_old
                || (Listpack::trusted(bytes).len() / 2 < limits.max_listpack_entries
                    && member.len() <= limits.max_listpack_value);
            if fits && insert_packed(bytes, member, score) {
                return !is_old;
            }
            self.outgrow(limits);
            self.set(member, score, limits);
            return !is_old;
        }
        match self {
            ZSetMut::Table(table) => table.set(member, score),
            ZSetMut::Outgrown(table) => Arc::make_mut(table).set(member, score),
            ZSetMut::Listpack(_) => unreachable!("the listpack was left"),
        }
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            ZSetMut::Listpack(bytes) => remove_packed(bytes, member),
            ZSetMut::Table(table) => table.remove(member),
            ZSetMut::Outgrown(table) => Arc::make_mut(table).remove(member),
        }
    }

    /// Removes the members of a range of ranks and yields them in order.
    pub fn take_range(&mut self, ranks: Range<usize>) -> Vec<Member> {
        match self {
            ZSetMut::Listpack(bytes) => {
                let zset = ZSetRef::Listpack(Listpack::trusted(bytes));
                let taken: Vec<Member> = (zset.range(ranks.clone()))
                    .map(|(member, score)| Member::new(score, member.bytes(&mut I64Buf::new())))
                    .collect();
                if let Some(position) = Listpack::trusted(bytes).seek(2 * ranks.start as i64) {
                    listpack::delete_range(bytes, position, 2 * taken.len());
                }
                taken
            }
            ZSetMut::Table(table) => table.take_range(ranks),
            ZSetMut::Outgrown(table) => Arc::make_mut(table).take_range(ranks),
        }
    }

    /// The table that is to take the listpack's place, if it was outgrown.
    pub fn into_outgrown(self) -> Option<Arc<ZSetTable>> {
        match self {
            ZSetMut::Outgrown(table) => Some(table),
            _ => None,
        }
    }

    fn outgrow(&mut self, limits: &Limits) {
        let ZSetMut::Listpack(bytes) = self else { return };
        let mut table = ZSetTable::new(limits.secret);
        for (member, score) in Pairs(Listpack::trusted(bytes).iter()) {
            table.set(member.bytes(&mut I64Buf::new()), score);
        }
        *self = ZSetMut::Outgrown(Arc::new(table));
    }
}

fn remove_packed(bytes: &mut Vec<u8>, member: &[u8]) -> bool {
    let Some(position) = Listpack::trusted(bytes).find(member, 1) else { return false };
    listpack::delete_range(bytes, position, 2);
    true
}

/// A listpack of members that come in order.
pub fn pack<'m>(members: impl Iterator<Item = (&'m [u8], f64)>) -> Result<Vec<u8>, TooLong> {
    let mut bytes = listpack::new_empty();
    for (member, score) in members {
        listpack::append(&mut bytes, member)?;
        listpack::append(&mut bytes, packed_score(score, &mut F64Buf::new()))?;
    }
    Ok(bytes)
}

/// A score as a listpack holds it. There is no negative zero in one, in Redis either.
fn packed_score(score: f64, buffer: &mut F64Buf) -> &[u8] {
    if score == 0.0 { b"0" } else { format_f64(score, buffer) }
}

/// Puts a member that is not there in its place; false if the listpack would be too long.
fn insert_packed(bytes: &mut Vec<u8>, member: &[u8], score: f64) -> bool {
    let listpack = Listpack::trusted(bytes);
    let mut position = listpack.start();
    while position < listpack.end() {
        let score_at = listpack.next(position);
        let own = (score_of(listpack.at(score_at)), listpack.at(position));
        if compare((own.0, own.1.bytes(&mut I64Buf::new())), (score, member)).is_gt() {
            break;
        }
        position = listpack.next(score_at);
    }
    if listpack::insert(bytes, position, packed_score(score, &mut F64Buf::new())).is_err() {
        return false;
    }
    let inserted = listpack::insert(bytes, position, member);
    inserted.inspect_err(|_| listpack::delete(bytes, position)).is_ok()
}
