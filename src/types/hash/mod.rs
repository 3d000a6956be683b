//! Hashes: fields with their values.
//!
//! A small hash is a listpack in which fields and values take turns, in the order in which the
//! fields came. It becomes a [`HashTable`] when it outgrows its [`Limits`] and never turns back,
//! so a hash at a limit does not flutter. [`HashRef`] reads either where it lies, [`HashMut`]
//! changes either.
//!
//! As soon as a field has a time to live the hash is a table, in which a field holds its own time;
//! while it keeps to the limits it is called `listpackex`. A packed form with times is refused:
//! all walks would have to know a third layout. A field whose time has come is not there for any
//! reader of a [`HashRef`]. It is taken out by whoever writes to it through a [`HashMut`], which
//! tells of it, or by the active cycle.
//!
//! Invariant: a listpack of a hash has an even number of elements, and no field twice.

mod commands;
mod field;
mod table;

use triomphe::Arc;

use crate::config::Config;
use crate::structs::listpack::{self, Element, Listpack, TooLong};
use crate::structs::number::I64Buf;
use crate::structs::prng::Prng;
use crate::structs::trie::{HashSecret, Item};
use crate::types::Encoding;

pub use commands::COMMANDS;
pub use field::Field;
pub use table::{HashTable, LiveFields, LiveTable};

/// How large a listpack may become, and the hash of the tables.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_listpack_entries: usize,
    /// The longest name or value of a field.
    pub max_listpack_value: usize,
    pub secret: HashSecret,
}

impl Limits {
    /// As a configuration has it.
    #[inline]
    pub fn of(config: &Config, secret: HashSecret) -> Limits {
        Limits {
            max_listpack_entries: config.hash_max_listpack_entries,
            max_listpack_value: config.hash_max_listpack_value,
            secret,
        }
    }
}

/// A hash, to be read.
#[derive(Clone, Copy, Debug)]
pub enum HashRef<'a> {
    Listpack(Listpack<'a>),
    Table(LiveTable<'a>),
}

impl<'a> HashRef<'a> {
    /// The hash as it is at a time: fields whose time has come then are not there. At the time 0
    /// no field has expired.
    #[inline]
    pub fn at(self, now_ms: u64) -> HashRef<'a> {
        match self {
            HashRef::Listpack(_) => self,
            HashRef::Table(live) => HashRef::Table(LiveTable::new(live.table(), now_ms)),
        }
    }

    pub fn len(self) -> usize {
        match self {
            HashRef::Listpack(listpack) => listpack.len() / 2,
            HashRef::Table(table) => table.len(),
        }
    }

    /// How many fields lie in it, their time come or not.
    pub fn held(self) -> usize {
        match self {
            HashRef::Table(live) => live.table().len(),
            packed => packed.len(),
        }
    }

    /// Whether fields may lie in it that are not there.
    pub fn has_due(self) -> bool {
        matches!(self, HashRef::Table(live) if live.has_due())
    }

    /// The memory of a table; packed bytes are few.
    pub fn table_bytes(self) -> usize {
        match self {
            HashRef::Table(live) => live.table().memory_bytes(),
            _ => 0,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    #[inline]
    pub fn get(self, name: &[u8]) -> Option<Element<'a>> {
        match self {
            HashRef::Listpack(listpack) => {
                let position = listpack.find(name, 1)?;
                Some(listpack.at(listpack.next(position)))
            }
            HashRef::Table(table) => table.field(name).map(|field| Element::Str(field.value())),
        }
    }

    /// When a field expires; `None` if there is no such field.
    pub fn expiry_of(self, name: &[u8]) -> Option<Option<u64>> {
        match self {
            HashRef::Listpack(listpack) => listpack.find(name, 1).map(|_| None),
            HashRef::Table(table) => table.field(name).map(Field::expiry_ms),
        }
    }

    /// All fields with their values. Those of a table are texts, whatever they look like.
    pub fn iter(self) -> Fields<'a> {
        match self {
            HashRef::Listpack(listpack) => Fields::Listpack(listpack.iter()),
            HashRef::Table(table) => Fields::Table(table.iter()),
        }
    }

    /// A field with its value, each with the same chance; `None` if there is none, or if they are
    /// few among many whose time has come.
    pub fn random(self, prng: &mut Prng) -> Option<(Element<'a>, Element<'a>)> {
        match self {
            HashRef::Listpack(listpack) => {
                let index = prng.below(self.len() as u64).cast_signed() * 2;
                let position = listpack.seek(index)?;
                Some((listpack.at(position), listpack.at(listpack.next(position))))
            }
            HashRef::Table(table) => table.random(prng).map(elements),
        }
    }
}

/// The name and the value of a table's field.
#[inline]
pub fn elements(field: &Field) -> (Element<'_>, Element<'_>) {
    let (name, value) = field.parts();
    (Element::Str(name), Element::Str(value))
}

/// An iterator over the fields of a hash with their values.
pub enum Fields<'a> {
    Listpack(listpack::Iter<'a>),
    Table(LiveFields<'a>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Element<'a>, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Element<'a>, Element<'a>)> {
        match self {
            Fields::Listpack(iter) => {
                let (_, name) = iter.next()?;
                let (_, value) = iter.next()?;
                Some((name, value))
            }
            Fields::Table(iter) => iter.next().map(elements),
        }
    }
}

/// A hash, to be changed. A field whose time has come is not there; one that is written to all the
/// same is taken out first.
pub struct HashMut<'a> {
    form: Form<'a>,
    /// Fields that expire before this are not there; 0 if nothing is due.
    now_ms: u64,
    expired: Vec<Field>,
}

enum Form<'a> {
    Listpack(&'a mut Vec<u8>),
    Table(&'a mut HashTable),
    /// A table within the limits, for the times of its fields; it may have left them.
    Small {
        table: &'a mut HashTable,
        is_outgrown: bool,
    },
    /// It was a listpack; the table is to take its place, so called.
    Outgrown(Arc<HashTable>, Encoding),
}

/// What became of a hash that was changed, beside its fields.
pub struct Outcome {
    pub outgrown: Outgrown,
    /// Fields that were taken out because their time had come.
    pub expired: Vec<Field>,
}

/// Whether a hash has left its form.
pub enum Outgrown {
    No,
    /// The table is to take the listpack's place, so called.
    Listpack(Arc<HashTable>, Encoding),
    /// The table is no longer within the limits.
    Limits,
}

impl<'a> HashMut<'a> {
    #[inline]
    pub fn listpack(bytes: &'a mut Vec<u8>) -> HashMut<'a> {
        HashMut { form: Form::Listpack(bytes), now_ms: 0, expired: Vec::new() }
    }

    /// A table at a time. A hash that is held as a table within the limits is no `Hashtable`.
    #[inline]
    pub fn table(table: &'a mut HashTable, encoding: Encoding, now_ms: u64) -> HashMut<'a> {
        let has_due = table.earliest_deadline_ms() < now_ms;
        let form = match encoding {
            Encoding::Hashtable => Form::Table(table),
            _ => Form::Small { table, is_outgrown: false },
        };
        HashMut { form, now_ms: if has_due { now_ms } else { 0 }, expired: Vec::new() }
    }

    pub fn outcome(self) -> Outcome {
        let outgrown = match self.form {
            Form::Outgrown(table, encoding) => Outgrown::Listpack(table, encoding),
            Form::Small { is_outgrown: true, .. } => Outgrown::Limits,
            _ => Outgrown::No,
        };
        Outcome { outgrown, expired: self.expired }
    }

    /// The value of a field.
    pub fn get(&self, name: &[u8]) -> Option<Element<'_>> {
        match &self.form {
            Form::Listpack(bytes) => HashRef::Listpack(Listpack::trusted(bytes)).get(name),
            _ => self.field(name).map(|field| Element::Str(field.value())),
        }
    }

    /// When a field expires; `None` if there is no such field.
    pub fn expiry_of(&self, name: &[u8]) -> Option<Option<u64>> {
        match &self.form {
            Form::Listpack(_) => self.get(name).map(|_| None),
            _ => self.field(name).map(Field::expiry_ms),
        }
    }

    /// Whether nothing lies in it any more.
    pub fn is_empty(&self) -> bool {
        match &self.form {
            Form::Listpack(bytes) => Listpack::trusted(bytes).is_empty(),
            Form::Table(table) | Form::Small { table, .. } => table.is_empty(),
            Form::Outgrown(table, _) => table.is_empty(),
        }
    }

    /// Leaves the listpack if so many fields to come would not fit it, were they all new.
    pub fn prepare_for(&mut self, count: usize, limits: &Limits) {
        if count > limits.max_listpack_entries {
            self.leave_listpack(limits, Encoding::Hashtable);
            self.leave_limits();
        }
    }

    /// Sets a field that does not expire, whatever it did before; true if it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.set_with(name, value, None, limits)
    }

    /// Sets a field that stays as long as it would have.
    pub fn set_keeping(&mut self, name: &[u8], value: &[u8], limits: &Limits) {
        let expiry_ms = self.expiry_of(name).flatten();
        self.set_with(name, value, expiry_ms, limits);
    }

    /// Sets a field, and when it expires; true if it is new.
    pub fn set_with(
        &mut self,
        name: &[u8],
        value: &[u8],
        expiry_ms: Option<u64>,
        limits: &Limits,
    ) -> bool {
        let fits = name.len().max(value.len()) <= limits.max_listpack_value;
        if let Form::Listpack(bytes) = &mut self.form
            && fits
            && expiry_ms.is_none()
            && let Ok(is_new) = set_packed(bytes, name, value)
        {
            if Listpack::trusted(bytes).len() / 2 > limits.max_listpack_entries {
                self.leave_listpack(limits, Encoding::Hashtable);
            }
            return is_new;
        }
        let is_timed = fits && expiry_ms.is_some();
        let encoding = if is_timed { Encoding::Listpackex } else { Encoding::Hashtable };
        self.leave_listpack(limits, encoding);
        self.take_if_expired(name);
        let table = self.table_mut();
        let is_new = table.set(name, value, expiry_ms);
        if !fits || table.len() > limits.max_listpack_entries {
            self.leave_limits();
        }
        is_new
    }

    /// Lets a field expire, or not; there must be such a field.
    pub fn set_expiry(&mut self, name: &[u8], expiry_ms: Option<u64>, limits: &Limits) {
        if expiry_ms.is_none() && matches!(self.form, Form::Listpack(_)) {
            return;
        }
        self.leave_listpack(limits, Encoding::Listpackex);
        self.table_mut().set_expiry(name, expiry_ms);
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if let Form::Listpack(bytes) = &mut self.form {
            let Some(position) = Listpack::trusted(bytes).find(name, 1) else { return false };
            listpack::delete_range(bytes, position, 2);
            return true;
        }
        self.take_if_expired(name);
        self.table_mut().remove(name)
    }

    /// A field of a table, if its time has not come.
    fn field(&self, name: &[u8]) -> Option<&Field> {
        let table = match &self.form {
            Form::Listpack(_) => return None,
            Form::Table(table) | Form::Small { table, .. } => &**table,
            Form::Outgrown(table, _) => table,
        };
        let is_there = |field: &&Field| self.now_ms == 0 || field.deadline_ms() >= self.now_ms;
        table.field(name).filter(is_there)
    }

    /// Takes a field of a table out if its time has come.
    fn take_if_expired(&mut self, name: &[u8]) {
        let now_ms = self.now_ms;
        if now_ms != 0 {
            let expired = self.table_mut().take_if_expired(name, now_ms);
            self.expired.extend(expired);
        }
    }

    fn table_mut(&mut self) -> &mut HashTable {
        match &mut self.form {
            Form::Table(table) | Form::Small { table, .. } => table,
            Form::Outgrown(table, _) => Arc::make_mut(table),
            Form::Listpack(_) => unreachable!("the listpack was left"),
        }
    }

    /// It is large now and called so.
    fn leave_limits(&mut self) {
        match &mut self.form {
            Form::Small { is_outgrown, .. } => *is_outgrown = true,
            Form::Outgrown(_, encoding) => *encoding = Encoding::Hashtable,
            Form::Listpack(_) | Form::Table(_) => {}
        }
    }

    fn leave_listpack(&mut self, limits: &Limits, encoding: Encoding) {
        let Form::Listpack(bytes) = &self.form else { return };
        let mut table = HashTable::new(limits.secret);
        for (name, value) in HashRef::Listpack(Listpack::trusted(bytes)).iter() {
            let (mut name_buf, mut value_buf) = (I64Buf::new(), I64Buf::new());
            table.set(name.bytes(&mut name_buf), value.bytes(&mut value_buf), None);
        }
        self.form = Form::Outgrown(Arc::new(table), encoding);
    }
}

/// Sets a field of a listpack; true if it is new. If it fails, nothing was changed.
fn set_packed(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<bool, TooLong> {
    let listpack = Listpack::trusted(bytes);
    if let Some(position) = listpack.find(name, 1) {
        let position = listpack.next(position);
        listpack::replace(bytes, position, value)?;
        return Ok(false);
    }
    let end = listpack.end();
    listpack::append(bytes, name)?;
    listpack::append(bytes, value).inspect_err(|TooLong| listpack::delete(bytes, end))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn limits(entries: usize) -> Limits {
        Limits {
            max_listpack_entries: entries,
            max_listpack_value: 8,
            secret: HashSecret::new([7; 16]),
        }
    }

    fn listed(hash: HashRef<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let listed: BTreeMap<_, _> =
            hash.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(listed.len(), hash.len());
        listed
    }

    #[test]
    fn either_encoding_does_as_a_map() {
        for entries in [0, 10, 1000] {
            let limits = limits(entries);
            let mut prng = Prng::seeded(11);
            let mut map = BTreeMap::new();
            let (mut bytes, mut table) = (listpack::new_empty(), None::<Arc<HashTable>>);
            for _ in 0..3000 {
                let name = prng.below(60).to_string().into_bytes();
                let value = vec![b'v'; prng.below(9) as usize];
                let mut hash = match &mut table {
                    Some(table) => HashMut::table(Arc::make_mut(table), Encoding::Hashtable, 0),
                    None => HashMut::listpack(&mut bytes),
                };
                assert_eq!(hash.get(&name).map(Element::to_vec).as_ref(), map.get(&name));
                if prng.below(3) == 0 {
                    assert_eq!(hash.remove(&name), map.remove(&name).is_some());
                } else {
                    let is_new = hash.set(&name, &value, &limits);
                    assert_eq!(is_new, map.insert(name, value).is_none());
                }
                assert_eq!(hash.is_empty(), map.is_empty());
                if let Outgrown::Listpack(outgrown, encoding) = hash.outcome().outgrown {
                    assert!(map.len() > entries);
                    assert_eq!(encoding, Encoding::Hashtable);
                    table = Some(outgrown);
                }
                let hash = match &table {
                    Some(table) => HashRef::Table(LiveTable::new(table, 0)),
                    None => HashRef::Listpack(Listpack::trusted(&bytes)),
                };
                assert_eq!(listed(hash), map);
            }
            assert_eq!(table.is_none(), entries == 1000);
        }
    }

    #[test]
    fn long_parts_leave_the_listpack() {
        for (name, value) in [(&b"123456789"[..], &b"v"[..]), (b"name", b"123456789")] {
            let mut bytes = listpack::new_empty();
            let mut hash = HashMut::listpack(&mut bytes);
            assert!(hash.set(b"12345678", b"12345678", &limits(100)));
            assert!(matches!(hash.form, Form::Listpack(_)));
            assert!(hash.set(name, value, &limits(100)));
            let Outgrown::Listpack(table, _) = hash.outcome().outgrown else {
                panic!("a part was too long");
            };
            assert_eq!(listed(HashRef::Table(LiveTable::new(&table, 0))).len(), 2);
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut table = HashTable::new(HashSecret::new([1; 16]));
        for i in 0..500 {
            assert!(table.set(format!("f{i}").as_bytes(), b"old", None));
        }
        let (snapshot, memory) = (table.clone(), table.memory_bytes());
        for i in 0..500 {
            assert!(!table.set(format!("f{i}").as_bytes(), b"new", None));
        }
        assert_eq!(table.memory_bytes(), memory);
        let snapshot = Arc::new(snapshot);
        let seen = LiveTable::new(&snapshot, 0);
        assert!(seen.iter().all(|field| field.value() == b"old"));
        for i in 0..500 {
            assert!(table.remove(format!("f{i}").as_bytes()));
        }
        assert!(table.is_empty());
        assert_eq!(snapshot.len(), 500);
    }
}
