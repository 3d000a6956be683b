//! The three encodings of a set, and when one becomes another.
//!
//! [`SetRef`] reads any of them where it lies; [`SetValue`] owns one and grows it by Redis's rules:
//! integers stay an intset up to a size; the first other member makes it a listpack if it is small
//! enough, else a trie; a listpack that outgrows its limits becomes a trie. No set turns back when
//! it shrinks, so a set at a limit does not flutter.

use std::iter::FusedIterator;

use triomphe::Arc;

use super::SetTable;
use crate::config::Config;
use crate::structs::blob::Blob;
use crate::structs::intset::{self, Intset};
use crate::structs::listpack::{self, Element, Listpack, TooLong};
use crate::structs::number::{I64Buf, format_i64, parse_i64};
use crate::structs::prng::Prng;
use crate::structs::trie::{self, HashSecret};
use crate::types::{Encoding, MemberHash};

/// An intset never has more members, whatever the configuration says.
const INTSET_ENTRIES_MAX: usize = 1 << 30;

/// How large the packed encodings may become, and the hash of the tries.
#[derive(Clone, Copy)]
pub struct Rules {
    pub max_intset_entries: usize,
    pub max_listpack_entries: usize,
    pub max_listpack_value: usize,
    pub secret: HashSecret,
}

impl Rules {
    /// As a configuration has it.
    #[inline]
    pub fn of(config: &Config, secret: HashSecret) -> Rules {
        Rules {
            max_intset_entries: config.set_max_intset_entries,
            max_listpack_entries: config.set_max_listpack_entries,
            max_listpack_value: config.set_max_listpack_value,
            secret,
        }
    }
}

/// A set, to be read.
#[derive(Clone, Copy, Debug)]
pub enum SetRef<'a> {
    Intset(Intset<'a>),
    Listpack(Listpack<'a>),
    Table(&'a Arc<SetTable>),
}

impl<'a> SetRef<'a> {
    pub fn len(self) -> usize {
        match self {
            SetRef::Intset(intset) => intset.len(),
            SetRef::Listpack(listpack) => listpack.len(),
            SetRef::Table(table) => table.len(),
        }
    }

    /// The memory of a table; packed bytes are few.
    pub fn table_bytes(self) -> usize {
        match self {
            SetRef::Table(table) => table.memory_bytes(),
            _ => 0,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether a text is a member.
    pub fn contains(self, member: &[u8]) -> bool {
        match self {
            SetRef::Intset(intset) => parse_i64(member).is_some_and(|value| intset.contains(value)),
            SetRef::Listpack(listpack) => listpack.find(member, 0).is_some(),
            SetRef::Table(table) => table.contains(member),
        }
    }

    /// Whether the member of another set is one of this; `hash` is its hash if this is a table.
    pub(super) fn contains_element(self, element: Element<'_>, hash: Option<MemberHash>) -> bool {
        match (self, element) {
            (SetRef::Intset(intset), Element::Int(value)) => intset.contains(value),
            (SetRef::Table(table), element) => {
                let hash = hash.expect("the members of other sets are hashed for a table");
                table.contains_hashed(hash, element.bytes(&mut I64Buf::new()))
            }
            (set, element) => set.contains(element.bytes(&mut I64Buf::new())),
        }
    }

    /// All members. Those of a table are texts, whatever they look like.
    pub fn iter(self) -> Members<'a> {
        match self {
            SetRef::Intset(intset) => Members::Intset(intset, 0),
            SetRef::Listpack(listpack) => Members::Listpack(listpack.iter()),
            SetRef::Table(table) => Members::Table(table.iter()),
        }
    }

    /// A member, each with the same chance.
    pub fn random(self, prng: &mut Prng) -> Option<Element<'a>> {
        match self {
            SetRef::Intset(intset) => {
                intset.get(prng.below(intset.len() as u64) as usize).map(Element::Int)
            }
            SetRef::Listpack(listpack) => listpack.get(prng.below(listpack.len() as u64) as i64),
            SetRef::Table(table) => {
                table.random(prng).map(|member| Element::Str(member.as_bytes()))
            }
        }
    }

    /// The set to keep: packed bytes are copied, a table is shared.
    pub fn to_value(self) -> SetValue {
        match self {
            SetRef::Intset(_) => {
                let mut bytes = intset::new_empty();
                for element in self.iter() {
                    if let Element::Int(value) = element {
                        intset::add(&mut bytes, value);
                    }
                }
                SetValue::Intset(bytes)
            }
            SetRef::Listpack(listpack) => SetValue::Listpack(listpack.as_bytes().to_vec()),
            SetRef::Table(table) => SetValue::Table(table.clone()),
        }
    }
}

/// An iterator over the members of a set.
pub enum Members<'a> {
    Intset(Intset<'a>, usize),
    Listpack(listpack::Iter<'a>),
    Table(trie::Iter<'a, Blob>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Members::Intset(intset, at) => {
                let value = intset.get(*at)?;
                *at += 1;
                Some(Element::Int(value))
            }
            Members::Listpack(iter) => iter.next().map(|(_, element)| element),
            Members::Table(iter) => iter.next().map(|member| Element::Str(member.as_bytes())),
        }
    }
}

impl FusedIterator for Members<'_> {}

/// A set of one's own.
#[derive(Clone, Debug)]
pub enum SetValue {
    Intset(Vec<u8>),
    Listpack(Vec<u8>),
    Table(Arc<SetTable>),
}

impl SetValue {
    /// An empty set that can hold `first`, for about `hint` members.
    pub fn new_for(first: &[u8], hint: usize, rules: &Rules) -> SetValue {
        if hint <= rules.max_intset_entries && parse_i64(first).is_some() {
            SetValue::new_intset()
        } else if hint <= rules.max_listpack_entries {
            SetValue::new_listpack()
        } else {
            SetValue::new_table(rules)
        }
    }

    pub fn new_intset() -> SetValue {
        SetValue::Intset(intset::new_empty())
    }

    pub fn new_listpack() -> SetValue {
        SetValue::Listpack(listpack::new_empty())
    }

    pub fn new_table(rules: &Rules) -> SetValue {
        SetValue::Table(Arc::new(SetTable::new(rules.secret)))
    }

    /// The set that packed bytes hold.
    pub fn packed(encoding: Encoding, bytes: Vec<u8>) -> SetValue {
        match encoding {
            Encoding::Intset => SetValue::Intset(bytes),
            _ => SetValue::Listpack(bytes),
        }
    }

    pub fn as_ref(&self) -> SetRef<'_> {
        match self {
            SetValue::Intset(bytes) => SetRef::Intset(Intset::trusted(bytes)),
            SetValue::Listpack(bytes) => SetRef::Listpack(Listpack::trusted(bytes)),
            SetValue::Table(table) => SetRef::Table(table),
        }
    }

    pub fn encoding(&self) -> Encoding {
        match self {
            SetValue::Intset(_) => Encoding::Intset,
            SetValue::Listpack(_) => Encoding::Listpack,
            SetValue::Table(_) => Encoding::Hashtable,
        }
    }

    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a packed set a table if `hint` members to come would make it one anyway.
    pub fn prepare_for(&mut self, hint: usize, rules: &Rules) {
        let outgrows = match self {
            SetValue::Intset(_) => hint > rules.max_intset_entries,
            SetValue::Listpack(_) => hint > rules.max_listpack_entries,
            SetValue::Table(_) => false,
        };
        if outgrows {
            self.make_table(rules);
        }
    }

    /// Adds a member; false if it was there.
    pub fn add(&mut self, member: &[u8], rules: &Rules) -> bool {
        match self {
            SetValue::Table(table) => Arc::make_mut(table).insert(member),
            SetValue::Listpack(_) => self.add_to_listpack(member, rules),
            SetValue::Intset(bytes) => {
                let Some(value) = parse_i64(member) else {
                    self.leave_intset(member, rules);
                    return self.add(member, rules);
                };
                if !intset::add(bytes, value) {
                    return false;
                }
                let most = rules.max_intset_entries.min(INTSET_ENTRIES_MAX);
                if Intset::trusted(bytes).len() > most {
                    self.make_table(rules);
                }
                true
            }
        }
    }

    /// Adds the member of another set; false if it was there.
    pub fn add_element(&mut self, element: Element<'_>, rules: &Rules) -> bool {
        self.add(element.bytes(&mut I64Buf::new()), rules)
    }

    fn add_to_listpack(&mut self, member: &[u8], rules: &Rules) -> bool {
        let SetValue::Listpack(bytes) = self else { unreachable!("the caller has matched") };
        let listpack = Listpack::trusted(bytes);
        if listpack.find(member, 0).is_some() {
            return false;
        }
        let fits =
            listpack.len() < rules.max_listpack_entries && member.len() <= rules.max_listpack_value;
        if !fits || listpack::append(bytes, member).is_err() {
            self.make_table(rules);
            return self.add(member, rules);
        }
        true
    }

    /// Makes an intset whatever can hold its integers and this member too.
    fn leave_intset(&mut self, member: &[u8], rules: &Rules) {
        let SetValue::Intset(bytes) = self else { unreachable!("the caller has matched") };
        let intset = Intset::trusted(bytes);
        let ends = [intset.get(0), intset.iter().next_back()];
        let longest = ends.into_iter().flatten().map(|value| Element::Int(value).text_len()).max();
        let fits = intset.len() < rules.max_listpack_entries
            && member.len() <= rules.max_listpack_value
            && longest.unwrap_or(0) <= rules.max_listpack_value;
        match if fits { listpack_of(intset) } else { Err(TooLong) } {
            Ok(bytes) => *self = SetValue::Listpack(bytes),
            Err(TooLong) => self.make_table(rules),
        }
    }

    fn make_table(&mut self, rules: &Rules) {
        let mut table = SetTable::new(rules.secret);
        for element in self.as_ref().iter() {
            table.insert(element.bytes(&mut I64Buf::new()));
        }
        *self = SetValue::Table(Arc::new(table));
    }

    /// Makes a set of integers an intset if it is small enough for one.
    pub(super) fn prefer_intset(&mut self, rules: &Rules) {
        if self.len() > rules.max_intset_entries.min(INTSET_ENTRIES_MAX) {
            return;
        }
        let mut bytes = intset::new_empty();
        for element in self.as_ref().iter() {
            let Some(value) = parse_i64(element.bytes(&mut I64Buf::new())) else { return };
            intset::add(&mut bytes, value);
        }
        *self = SetValue::Intset(bytes);
    }
}

fn listpack_of(intset: Intset<'_>) -> Result<Vec<u8>, TooLong> {
    let mut bytes = listpack::new_empty();
    for value in intset.iter() {
        listpack::append_element(&mut bytes, Element::Int(value))?;
    }
    Ok(bytes)
}

/// Removes a member of a packed set; false if it was not there.
pub fn remove_packed(encoding: Encoding, bytes: &mut Vec<u8>, member: &[u8]) -> bool {
    if encoding == Encoding::Intset {
        return parse_i64(member).is_some_and(|value| intset::remove(bytes, value));
    }
    let Some(position) = Listpack::trusted(bytes).find(member, 0) else { return false };
    listpack::delete(bytes, position);
    true
}

/// Chooses `count` places out of `len`, any choice with the same chance; they ascend.
pub fn sample(len: usize, count: usize, prng: &mut Prng) -> impl Iterator<Item = usize> {
    let mut wanted = count;
    (0..len).filter(move |place| {
        let is_chosen = prng.below((len - place) as u64) < wanted as u64;
        wanted -= usize::from(is_chosen);
        is_chosen
    })
}

/// Takes `count` random members out of a packed set that has more.
pub fn pop_packed(
    encoding: Encoding,
    bytes: &mut Vec<u8>,
    count: usize,
    prng: &mut Prng,
) -> Vec<Blob> {
    let mut popped = Vec::with_capacity(count);
    if encoding == Encoding::Intset {
        let intset = Intset::trusted(bytes);
        let chosen = sample(intset.len(), count, prng).filter_map(|place| intset.get(place));
        for value in chosen.collect::<Vec<_>>() {
            intset::remove(bytes, value);
            popped.push(Blob::new(format_i64(value, &mut I64Buf::new())));
        }
        return popped;
    }
    let listpack = Listpack::trusted(bytes);
    let mut positions = Vec::with_capacity(count);
    let mut places = sample(listpack.len(), count, prng).peekable();
    for (place, (position, element)) in listpack.iter().enumerate() {
        if places.next_if_eq(&place).is_some() {
            positions.push(position);
            popped.push(Blob::new(element.bytes(&mut I64Buf::new())));
        }
    }
    drop(places);
    for position in positions.into_iter().rev() {
        listpack::delete(bytes, position);
    }
    popped
}

/// Takes `count` random members out of a table that has more. When few would stay, those few are
/// chosen instead, and become a set of their own, which is the second result.
pub fn pop_table(
    table: &mut SetTable,
    count: usize,
    prng: &mut Prng,
    rules: &Rules,
) -> (Vec<Blob>, Option<SetValue>) {
    let staying = table.len().saturating_sub(count);
    if staying.saturating_mul(5) > count {
        return (draw_out(table, count, prng), None);
    }
    let mut rest = SetValue::new_listpack();
    for member in draw_out(table, staying, prng) {
        match &mut rest {
            SetValue::Table(rest) => Arc::make_mut(rest).insert_shared(&member),
            rest => rest.add(member.as_bytes(), rules),
        };
    }
    (table.iter().cloned().collect(), Some(rest))
}

fn draw_out(table: &mut SetTable, count: usize, prng: &mut Prng) -> Vec<Blob> {
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let Some(member) = table.random(prng).cloned() else { break };
        table.remove(member.as_bytes());
        drawn.push(member);
    }
    drawn
}
