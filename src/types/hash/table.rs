//! The hash table of a big hash: a trie of fields, so that a snapshot of it takes constant time
//! and a cursor of HSCAN survives all growing and shrinking.
//!
//! Fields whose time has come are taken out little by little, by the active cycle and by writers
//! that meet them. Until then they lie in the table, and whoever reads it reads a [`LiveTable`],
//! to whom they are not there. A table in which nothing is due pays one comparison for that.

use super::field::Field;
use crate::structs::pins;
use crate::structs::prng::Prng;
use crate::structs::trie::{self, HashSecret, Item, Trie};
use crate::types::MemberHash;
use triomphe::Arc;

/// Fields with their values. A clone is a snapshot.
#[derive(Clone)]
pub struct HashTable {
    fields: Trie<Field>,
    /// The memory of the fields, without the trie that holds them.
    fields_bytes: usize,
    /// How many fields expire some time.
    timed: usize,
}

impl HashTable {
    pub fn new(secret: HashSecret) -> HashTable {
        HashTable { fields: Trie::new(secret), fields_bytes: 0, timed: 0 }
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A field, its time come or not.
    #[inline]
    pub fn field(&self, name: &[u8]) -> Option<&Field> {
        self.fields.get(self.fields.hash(name), name)
    }

    /// Fetches what looking these names up will read.
    pub fn prefetch<'n>(&self, names: impl Iterator<Item = &'n [u8]>) {
        let hashes: Vec<MemberHash> = names.map(|name| self.fields.hash(name)).collect();
        self.fields.prefetch(&hashes);
    }

    /// Under what a field is looked up.
    pub fn hash(&self, name: &[u8]) -> MemberHash {
        self.fields.hash(name)
    }

    /// Starts fetching what lookups of these hashes will read.
    pub fn prefetch_hashed(&self, hashes: &[MemberHash]) {
        self.fields.prefetch(hashes);
    }

    /// Lets a field expire, or not; there must be such a field.
    pub fn set_expiry(&mut self, name: &[u8], expiry_ms: Option<u64>) {
        let value = self.field(name).expect("the field is there").value().to_vec();
        self.set(name, &value, expiry_ms);
    }

    /// A time before which no field expires; `u64::MAX` exactly when none does.
    #[inline]
    pub fn earliest_deadline_ms(&self) -> u64 {
        if self.timed == 0 { u64::MAX } else { self.fields.earliest_deadline() }
    }

    /// Takes out fields that expire at `at_ms` or earlier, within a budget from which they or the
    /// work are subtracted. As long as there may be more, [`HashTable::earliest_deadline_ms`] is
    /// not later.
    pub fn take_expired(&mut self, at_ms: u64, budget: &mut usize) -> Vec<Field> {
        let mut taken = Vec::new();
        self.fields.take_expired_within(at_ms, budget, &mut taken);
        taken.iter().for_each(|field| self.uncount(field));
        taken
    }

    /// Takes out a field if it expires before `now_ms`.
    pub fn take_if_expired(&mut self, name: &[u8], now_ms: u64) -> Option<Field> {
        self.field(name).filter(|field| field.deadline_ms() < now_ms)?;
        self.take(name)
    }

    /// Sets a field, and when it expires; true if it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], expiry_ms: Option<u64>) -> bool {
        let field = Field::new(name, value, expiry_ms);
        self.fields_bytes += field.memory_bytes();
        self.timed += usize::from(expiry_ms.is_some());
        let replaced = self.fields.insert(self.fields.hash(name), field);
        if let Some(replaced) = &replaced {
            self.uncount(replaced);
        }
        replaced.is_none()
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.take(name).is_some()
    }

    fn take(&mut self, name: &[u8]) -> Option<Field> {
        let removed = self.fields.remove(self.fields.hash(name), name)?;
        self.uncount(&removed);
        Some(removed)
    }

    fn uncount(&mut self, field: &Field) {
        self.fields_bytes -= field.memory_bytes();
        if field.is_shared() {
            pins::report(field.memory_bytes());
        }
        self.timed -= usize::from(field.expiry_ms().is_some());
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.fields.shared_share()
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

/// A table, to be read: fields whose time has come are not there.
#[derive(Clone, Copy, Debug)]
pub struct LiveTable<'a> {
    table: &'a Arc<HashTable>,
    /// Fields that expire before this are not there; 0 if nothing is due.
    now_ms: u64,
}

impl<'a> LiveTable<'a> {
    #[inline]
    pub fn new(table: &'a Arc<HashTable>, now_ms: u64) -> LiveTable<'a> {
        let has_due = table.earliest_deadline_ms() < now_ms;
        LiveTable { table, now_ms: if has_due { now_ms } else { 0 } }
    }

    /// The table with all that lies in it.
    pub fn table(self) -> &'a Arc<HashTable> {
        self.table
    }

    /// Whether fields may lie in the table that are not there.
    pub fn has_due(self) -> bool {
        self.now_ms != 0
    }

    pub fn len(self) -> usize {
        match self.now_ms.checked_sub(1) {
            Some(at_ms) => self.table.len() - self.table.fields.count_due(at_ms),
            None => self.table.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn field(self, name: &[u8]) -> Option<&'a Field> {
        self.table.field(name).filter(|field| self.is_there(field))
    }

    /// All fields, in hash order.
    pub fn iter(self) -> LiveFields<'a> {
        LiveFields { fields: self.table.fields.iter(), live: self }
    }

    /// Visits about `count` fields from a cursor on and returns the next one, 0 after the last.
    pub fn scan(self, from: u64, count: usize, mut visit: impl FnMut(&Field)) -> u64 {
        self.table.fields.scan(from, count, |field| {
            if self.is_there(field) {
                visit(field);
            }
        })
    }

    /// A field, each with the same chance; `None` if there is none, or if they are few among many
    /// whose time has come.
    pub fn random(self, prng: &mut Prng) -> Option<&'a Field> {
        for _ in 0..RANDOM_DRAWS_MAX {
            let field = self.table.fields.random(&mut |bound| prng.below(bound))?;
            if self.is_there(field) {
                return Some(field);
            }
        }
        None
    }

    #[inline]
    fn is_there(self, field: &Field) -> bool {
        self.now_ms == 0 || field.deadline_ms() >= self.now_ms
    }
}

/// A random choice that meets fields whose time has come is drawn again so often.
const RANDOM_DRAWS_MAX: usize = 100;

/// An iterator over the fields that are there.
pub struct LiveFields<'a> {
    fields: trie::Iter<'a, Field>,
    live: LiveTable<'a>,
}

impl<'a> Iterator for LiveFields<'a> {
    type Item = &'a Field;

    #[inline]
    fn next(&mut self) -> Option<&'a Field> {
        let live = self.live;
        self.fields.find(|field| live.is_there(field))
    }
}
