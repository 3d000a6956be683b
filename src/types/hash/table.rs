//! The hash table of a big hash: a trie of fields, so that a snapshot of it takes constant time
//! and a cursor of HSCAN survives all growing and shrinking.

use super::field::Field;
use crate::structs::prng::Prng;
use crate::structs::trie::{HashKey, Iter, Trie};

/// Fields with their values. A clone is a snapshot.
#[derive(Clone)]
pub struct HashTable {
    fields: Trie<Field>,
    /// The memory of the fields, without the trie that holds them.
    fields_bytes: usize,
}

impl HashTable {
    pub fn new(hash_key: HashKey) -> HashTable {
        HashTable { fields: Trie::new(hash_key), fields_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.get(self.fields.hash(name), name).map(Field::value)
    }

    /// Fetches what looking these names up will read.
    pub fn prefetch<'n>(&self, names: impl Iterator<Item = &'n [u8]>) {
        let hashes: Vec<u64> = names.map(|name| self.fields.hash(name)).collect();
        self.fields.prefetch(&hashes);
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        let field = Field::new(name, value);
        self.fields_bytes += field.memory_bytes();
        let replaced = self.fields.insert(self.fields.hash(name), field);
        if let Some(replaced) = &replaced {
            self.fields_bytes -= replaced.memory_bytes();
        }
        replaced.is_none()
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let removed = self.fields.remove(self.fields.hash(name), name);
        if let Some(removed) = &removed {
            self.fields_bytes -= removed.memory_bytes();
        }
        removed.is_some()
    }

    /// All fields, in hash order.
    pub fn iter(&self) -> Iter<'_, Field> {
        self.fields.iter()
    }

    /// Visits about `count` fields from a cursor on and returns the next one, 0 after the last.
    pub fn scan(&self, from: u64, count: usize, visit: impl FnMut(&Field)) -> u64 {
        self.fields.scan(from, count, visit)
    }

    /// A field, each with the same chance.
    pub fn random(&self, prng: &mut Prng) -> Option<&Field> {
        self.fields.random(&mut |bound| prng.below(bound))
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<HashTable>() + self.fields.memory_bytes() + self.fields_bytes
    }
}

impl std::fmt::Debug for HashTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashTable").field("len", &self.len()).finish_non_exhaustive()
    }
}
