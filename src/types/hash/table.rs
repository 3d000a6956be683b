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

    /// When a field expires; `None` if there is no such field.
    pub fn expiry_of(&self, name: &[u8]) -> Option<Option<u64>> {
        self.fields.get(self.fields.hash(name), name).map(Field::expiry_ms)
    }

    /// Lets a field expire, or not; there must be such a field.
    pub fn set_expiry(&mut self, name: &[u8], expiry_ms: Option<u64>) {
        let value = self.get(name).expect("the field is there").to_vec();
        self.set(name, &value, expiry_ms);
    }

    /// A time before which no field expires; `u64::MAX` when none is known to expire.
    #[inline]
    pub fn earliest_deadline_ms(&self) -> u64 {
        self.fields.earliest_deadline()
    }

    /// Takes out all fields that expire at `at_ms` or earlier.
    pub fn take_expired(&mut self, at_ms: u64) -> Vec<Field> {
        let mut taken = Vec::new();
        self.fields.take_expired(at_ms, usize::MAX, &mut taken);
        self.fields_bytes -= taken.iter().map(Field::memory_bytes).sum::<usize>();
        taken
    }

    /// Sets a field, and when it expires; true if it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], expiry_ms: Option<u64>) -> bool {
        let field = Field::new(name, value, expiry_ms);
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
