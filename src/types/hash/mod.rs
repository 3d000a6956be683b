//! Hashes: fields with their values.
//!
//! A small hash is a listpack in which fields and values take turns, in the order in which the
//! fields came. It becomes a [`HashTable`] when it outgrows its [`Limits`] and never turns back,
//! so a hash at a limit does not flutter. [`HashRef`] reads either where it lies, [`HashMut`]
//! changes either.
//!
//! Invariant: a listpack of a hash has an even number of elements, and no field twice.

mod commands;
mod field;
mod table;

use triomphe::Arc;

use crate::structs::listpack::{self, Element, Listpack, TooLong};
use crate::structs::number::I64Buf;
use crate::structs::prng::Prng;
use crate::structs::trie::{self, HashKey};
use crate::types::Object;

pub use commands::COMMANDS;
pub use field::Field;
pub use table::HashTable;

/// How large a listpack may become, and the hash of the tables.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_listpack_entries: usize,
    /// The longest name or value of a field.
    pub max_listpack_value: usize,
    pub hash_key: HashKey,
}

/// A hash, to be read.
#[derive(Clone, Copy, Debug)]
pub enum HashRef<'a> {
    Listpack(Listpack<'a>),
    Table(&'a Arc<HashTable>),
}

impl<'a> HashRef<'a> {
    /// The hash that an entry of this kind has: its packed bytes, or its object.
    #[inline]
    pub fn of(packed: Option<&'a [u8]>, object: Option<&'a Object>) -> HashRef<'a> {
        match (packed, object) {
            (Some(bytes), _) => HashRef::Listpack(Listpack::trusted(bytes)),
            (None, Some(Object::Hash(table))) => HashRef::Table(table),
            _ => unreachable!("a hash is packed or a table"),
        }
    }

    pub fn len(self) -> usize {
        match self {
            HashRef::Listpack(listpack) => listpack.len() / 2,
            HashRef::Table(table) => table.len(),
        }
    }

    /// The memory of a table; packed bytes are few.
    pub fn table_bytes(self) -> usize {
        match self {
            HashRef::Table(table) => table.memory_bytes(),
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
            HashRef::Table(table) => table.get(name).map(Element::Str),
        }
    }

    /// All fields with their values. Those of a table are texts, whatever they look like.
    pub fn iter(self) -> Fields<'a> {
        match self {
            HashRef::Listpack(listpack) => Fields::Listpack(listpack.iter()),
            HashRef::Table(table) => Fields::Table(table.iter()),
        }
    }

    /// A field with its value, each with the same chance.
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
    Table(trie::Iter<'a, Field>),
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

/// A hash, to be changed.
pub enum HashMut<'a> {
    Listpack(&'a mut Vec<u8>),
    Table(&'a mut HashTable),
    /// It was a listpack; the table is to take its place.
    Outgrown(Arc<HashTable>),
}

impl HashMut<'_> {
    pub fn as_listpack(&self) -> Option<Listpack<'_>> {
        match self {
            HashMut::Listpack(bytes) => Some(Listpack::trusted(bytes)),
            _ => None,
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &[u8]) -> Option<Element<'_>> {
        match self {
            HashMut::Listpack(bytes) => HashRef::Listpack(Listpack::trusted(bytes)).get(name),
            HashMut::Table(table) => table.get(name).map(Element::Str),
            HashMut::Outgrown(table) => table.get(name).map(Element::Str),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            HashMut::Listpack(bytes) => Listpack::trusted(bytes).is_empty(),
            HashMut::Table(table) => table.is_empty(),
            HashMut::Outgrown(table) => table.is_empty(),
        }
    }

    /// Leaves the listpack if so many fields to come would not fit it, were they all new.
    pub fn prepare_for(&mut self, count: usize, limits: &Limits) {
        if count > limits.max_listpack_entries {
            self.outgrow(limits);
        }
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> bool {
        let fits = name.len().max(value.len()) <= limits.max_listpack_value;
        if let HashMut::Listpack(bytes) = self
            && fits
            && let Ok(is_new) = set_packed(bytes, name, value)
        {
            if Listpack::trusted(bytes).len() / 2 > limits.max_listpack_entries {
                self.outgrow(limits);
            }
            return is_new;
        }
        self.outgrow(limits);
        match self {
            HashMut::Table(table) => table.set(name, value),
            HashMut::Outgrown(table) => Arc::make_mut(table).set(name, value),
            HashMut::Listpack(_) => unreachable!("the listpack was left"),
        }
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        match self {
            HashMut::Listpack(bytes) => {
                let Some(position) = Listpack::trusted(bytes).find(name, 1) else { return false };
                listpack::delete_range(bytes, position, 2);
                true
            }
            HashMut::Table(table) => table.remove(name),
            HashMut::Outgrown(table) => Arc::make_mut(table).remove(name),
        }
    }

    /// The table that is to take the listpack's place, if it was outgrown.
    pub fn into_outgrown(self) -> Option<Arc<HashTable>> {
        match self {
            HashMut::Outgrown(table) => Some(table),
            _ => None,
        }
    }

    fn outgrow(&mut self, limits: &Limits) {
        let HashMut::Listpack(bytes) = self else { return };
        let mut table = HashTable::new(limits.hash_key);
        for (name, value) in HashRef::Listpack(Listpack::trusted(bytes)).iter() {
            table.set(name.bytes(&mut I64Buf::new()), value.bytes(&mut I64Buf::new()));
        }
        *self = HashMut::Outgrown(Arc::new(table));
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
            hash_key: HashKey::new([7; 16]),
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
                    Some(table) => HashMut::Table(Arc::make_mut(table)),
                    None => HashMut::Listpack(&mut bytes),
                };
                assert_eq!(hash.get(&name).map(Element::to_vec).as_ref(), map.get(&name));
                if prng.below(3) == 0 {
                    assert_eq!(hash.remove(&name), map.remove(&name).is_some());
                } else {
                    let is_new = hash.set(&name, &value, &limits);
                    assert_eq!(is_new, map.insert(name, value).is_none());
                }
                assert_eq!(hash.is_empty(), map.is_empty());
                if let Some(outgrown) = hash.into_outgrown() {
                    assert!(map.len() > entries);
                    table = Some(outgrown);
                }
                let hash = match &table {
                    Some(table) => HashRef::Table(table),
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
            let mut hash = HashMut::Listpack(&mut bytes);
            assert!(hash.set(b"12345678", b"12345678", &limits(100)));
            assert!(hash.as_listpack().is_some());
            assert!(hash.set(name, value, &limits(100)));
            let table = hash.into_outgrown().expect("a part was too long");
            assert_eq!(listed(HashRef::Table(&table)).len(), 2);
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut table = HashTable::new(HashKey::new([1; 16]));
        for i in 0..500 {
            assert!(table.set(format!("f{i}").as_bytes(), b"old"));
        }
        let (snapshot, memory) = (table.clone(), table.memory_bytes());
        for i in 0..500 {
            assert!(!table.set(format!("f{i}").as_bytes(), b"new"));
        }
        assert_eq!(table.memory_bytes(), memory);
        assert!(snapshot.iter().all(|field| field.value() == b"old"));
        for i in 0..500 {
            assert!(table.remove(format!("f{i}").as_bytes()));
        }
        assert!(table.is_empty());
        assert_eq!(snapshot.len(), 500);
    }
}
