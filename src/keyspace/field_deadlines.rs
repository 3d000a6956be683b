//! The index of hashes with fields that expire: for each the earliest time at which one may.
//!
//! It is a trie with deadlines like the keyspace itself, so the hashes that are due are found
//! without walking the others. A deadline in the entry was refused: it would cost every entry the
//! look at a second time, or every hash the bytes for it.
//!
//! Invariant: a hash is in the index of its database with the bound that its table keeps, and only
//! if that is a time at all. The database sees to it at every change of an entry.

use super::{Key, KeyHash};
use crate::structs::blob::Blob;
use crate::structs::trie::{HashSecret, Item, Prefix, Trie};

const TIME_WIDTH: usize = size_of::<u64>();

/// A time (u64), then the key of the hash.
#[derive(Clone)]
pub struct HashDeadline(Blob);

impl HashDeadline {
    fn new(key: &[u8], at_ms: u64) -> HashDeadline {
        HashDeadline(Blob::new(&[&at_ms.to_le_bytes()[..], key].concat()))
    }

    /// The key of the hash.
    pub fn key_of_hash(&self) -> &[u8] {
        self.parts().1
    }

    fn parts(&self) -> (u64, &[u8]) {
        let bytes = self.0.as_bytes();
        let (time, key) = bytes.split_first_chunk::<TIME_WIDTH>().expect("a time comes first");
        (u64::from_le_bytes(*time), key)
    }
}

impl Item for HashDeadline {
    type Hash = KeyHash;

    fn key(&self) -> &[u8] {
        self.parts().1
    }

    fn deadline_ms(&self) -> u64 {
        self.parts().0
    }

    fn prefetch(&self) {
        self.0.prefetch();
    }
}

/// The index of one database. Nothing is allocated while no field expires.
#[derive(Clone, Default)]
pub struct FieldDeadlines(Option<Box<Trie<HashDeadline>>>);

impl FieldDeadlines {
    pub fn earliest_ms(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |trie| trie.earliest_deadline())
    }

    /// A hash's bound was changed; `u64::MAX` takes it out of the index.
    pub fn set(&mut self, secret: HashSecret, hash: KeyHash, key: &[u8], at_ms: u64) {
        if at_ms != u64::MAX {
            let trie = self.0.get_or_insert_with(|| Box::new(Trie::new(secret)));
            trie.insert(hash, HashDeadline::new(key, at_ms));
        } else if let Some(trie) = &mut self.0 {
            trie.remove(hash, key);
            if trie.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Takes at most `max` hashes out whose bound is `at_ms` or earlier; true if there may be more.
    /// Each must be put back by [`FieldDeadlines::set`], with the bound that it has then.
    pub fn take_due(&mut self, at_ms: u64, max: usize, out: &mut Vec<HashDeadline>) -> bool {
        self.0.as_mut().is_some_and(|trie| trie.take_expired(at_ms, max, out))
    }

    /// Takes out those whose hashes begin so.
    pub fn take_prefix(&mut self, prefix: Prefix) -> FieldDeadlines {
        let part = self.0.as_mut().map(|trie| Box::new(trie.take_prefix(prefix)));
        self.0.take_if(|trie| trie.is_empty());
        FieldDeadlines(part.filter(|part| !part.is_empty()))
    }

    /// Puts in what was taken out of another, where there is nothing.
    pub fn put_prefix(&mut self, prefix: Prefix, part: FieldDeadlines) {
        let Some(part) = part.0 else { return };
        let trie = self.0.get_or_insert_with(|| Box::new(Trie::new(part.secret())));
        trie.put_prefix(prefix, *part);
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |trie| trie.len())
    }

    /// The memory of the index without its items.
    pub fn memory_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |trie| size_of::<Trie<HashDeadline>>() + trie.memory_bytes())
    }

    /// What the item of a hash costs, 0 if it has none.
    pub fn item_bytes(&self, key: &Key<'_>) -> usize {
        let item = self.0.as_ref().and_then(|trie| trie.get(key.hash(), key.bytes));
        item.map_or(0, |item| item.0.memory_bytes())
    }
}
