//! One database: a trie of entries, with the count of keys that have an expiry and the sum of
//! those expiries, so that INFO's averages are exact and free.

use super::field_deadlines::{FieldDeadlines, HashDeadline};
use super::{Entry, HashSecret, Key, KeyHash};
use crate::structs::pins::{self, Pin};
use crate::structs::prng::Prng;
use crate::structs::trie::{Slot, Trie};
use crate::types::hash::Field;
use crate::types::{Kind, Object};
use triomphe::Arc;

/// A database as it was at one moment; any thread may read it.
#[derive(Clone)]
pub struct Snapshot {
    pub entries: Trie<Entry>,
    pub now_ms: u64,
    /// How many keys have an expiry.
    pub expiring: u64,
    /// How many hashes have fields that expire.
    pub hashes_with_deadlines: usize,
    /// Goes after the entries, so that what they keep counts as pinned until it is free.
    _pin: Pin,
}

impl Snapshot {
    /// Every entry whose time has not come.
    pub fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_expired(self.now_ms))
    }

    /// Visits those among about `count` entries, as [`Db::scan`] does, that are wanted and live.
    pub fn scan(
        &self,
        from: u64,
        count: usize,
        wants: impl Fn(&Entry) -> bool,
        mut visit: impl FnMut(&Entry),
    ) -> u64 {
        self.entries.scan(from, count, |entry| {
            if wants(entry) && !entry.is_expired(self.now_ms) {
                visit(entry);
            }
        })
    }
}

#[derive(Clone)]
pub struct Db {
    entries: Trie<Entry>,
    expiring: u64,
    /// Sum of all expiry times, for their average.
    expiry_sum_ms: u128,
    field_deadlines: FieldDeadlines,
}

impl Db {
    pub fn new(secret: HashSecret) -> Db {
        Db {
            entries: Trie::new(secret),
            expiring: 0,
            expiry_sum_ms: 0,
            field_deadlines: FieldDeadlines::default(),
        }
    }

    /// All keys, those whose time has come included until they are taken away.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys have an expiry.
    pub fn expiring(&self) -> u64 {
        self.expiring
    }

    /// Mean time to live of the keys that have an expiry.
    pub fn average_ttl_ms(&self, now_ms: u64) -> u64 {
        let Some(average) = self.expiry_sum_ms.checked_div(u128::from(self.expiring)) else {
            return 0;
        };
        u64::try_from(average).unwrap_or(u64::MAX).saturating_sub(now_ms)
    }

    pub fn earliest_deadline_ms(&self) -> u64 {
        self.entries.earliest_deadline()
    }

    pub fn earliest_field_deadline_ms(&self) -> u64 {
        self.field_deadlines.earliest_ms()
    }

    /// How many hashes have fields that expire.
    pub fn hashes_with_deadlines(&self) -> usize {
        self.field_deadlines.len()
    }

    /// Takes at most `max` hashes out of the index that may have fields whose time has come; true
    /// if there may be more. They must go through [`Db::take_expired_fields`] at once.
    pub(super) fn take_due_hashes(
        &mut self,
        at_ms: u64,
        max: usize,
        out: &mut Vec<HashDeadline>,
    ) -> bool {
        self.field_deadlines.take_due(at_ms, max, out)
    }

    /// Takes fields out of a hash that expire at `at_ms` or earlier, within a budget from which
    /// they or the work are subtracted, and indexes the hash as it is then. The answer is whether
    /// there may be more.
    pub(super) fn take_expired_fields(
        &mut self,
        key: &Key<'_>,
        at_ms: u64,
        budget: &mut usize,
    ) -> (Vec<Field>, bool) {
        let Some(entry) = self.entries.get_mut(key.hash(), key.bytes) else {
            return (Vec::new(), false);
        };
        let taken = match entry.object_mut() {
            Some(Object::Hash(table)) if *budget > 0 => {
                Arc::make_mut(table).take_expired(at_ms, budget)
            }
            _ => Vec::new(),
        };
        let after_ms = field_deadline_ms(entry);
        self.field_deadlines.set(self.entries.secret(), key.hash(), key.bytes, after_ms);
        (taken, after_ms <= at_ms)
    }

    /// Memory of the nodes that hold the entries, and of the index of hashes.
    pub fn overhead_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.field_deadlines.memory_bytes()
    }

    /// What a key costs in the index of hashes.
    pub fn index_bytes_of(&self, key: &Key<'_>) -> usize {
        self.field_deadlines.item_bytes(key)
    }

    /// What a key costs in the nodes, on the average.
    pub fn bytes_per_slot(&self) -> i64 {
        (self.overhead_bytes() / self.len().max(1)) as i64
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.entries.shared_share()
    }

    /// The database as it is now. To be taken on the thread that writes.
    pub fn snapshot(&self, now_ms: u64) -> Snapshot {
        Snapshot {
            _pin: pins::hold(),
            entries: self.entries.clone(),
            now_ms,
            expiring: self.expiring,
            hashes_with_deadlines: self.field_deadlines.len(),
        }
    }

    pub fn get(&self, key: &Key<'_>) -> Option<&Entry> {
        self.entries.get(key.hash(), key.bytes)
    }

    /// Whether the key is there, its time come or not.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.entries.get(self.entries.hash(key), key).is_some()
    }

    /// Brings what looking up these hashes will touch into the caches.
    pub fn prefetch(&self, hashes: &[KeyHash]) {
        self.entries.prefetch(hashes);
    }

    /// Visits about `count` entries from a position in hash order on; the next position, 0 at
    /// the end.
    pub fn scan(&self, from: u64, count: usize, visit: impl FnMut(&Entry)) -> u64 {
        self.entries.scan(from, count, visit)
    }

    /// All entries in hash order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn random(&self, prng: &mut Prng) -> Option<&Entry> {
        self.entries.random(&mut |bound| prng.below(bound))
    }

    /// Visits about `wanted` entries that have nothing in common, from a random place on.
    pub(super) fn sample(&self, wanted: usize, prng: &mut Prng, visit: impl FnMut(&Entry)) {
        self.entries.sample(prng.next_u64(), wanted, visit);
    }

    /// The same with entries that have an expiry, which are found however few they are. It may
    /// take several calls to find one, if many have lost their expiry lately.
    pub(super) fn sample_expiring(
        &mut self,
        wanted: usize,
        prng: &mut Prng,
        visit: impl FnMut(&Entry),
    ) {
        self.entries.sample_with_deadlines(prng.next_u64(), wanted, visit);
    }

    /// The entry that expires first; it too may take several calls to find.
    pub(super) fn first_to_expire(&mut self) -> Option<&Entry> {
        self.entries.earliest()
    }

    /// Changes an entry in place through `edit`, which may change its value and its expiry.
    pub(super) fn edit<R>(
        &mut self,
        key: &Key<'_>,
        edit: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let entry = self.entries.get_mut(key.hash(), key.bytes)?;
        let (before, fields_before) = (entry.expiry_ms(), field_deadline_ms(entry));
        let result = edit(entry);
        let (after, fields_after) = (entry.expiry_ms(), field_deadline_ms(entry));
        self.count_expiry(key.hash(), before, after);
        self.index_fields(key.hash(), key.bytes, fields_before, fields_after);
        Some(result)
    }

    /// Changes the entry of a key, or makes one.
    pub(super) fn upsert(
        &mut self,
        key: &Key<'_>,
        edit: impl FnOnce(&mut Entry),
        make: impl FnOnce() -> Entry,
    ) {
        let mut fields_before = u64::MAX;
        let fields_after;
        let (before, after) = match self.entries.slot(key.hash(), key.bytes) {
            Slot::Occupied(entry) => {
                let before = entry.expiry_ms();
                fields_before = field_deadline_ms(entry);
                edit(entry);
                fields_after = field_deadline_ms(entry);
                (before, entry.expiry_ms())
            }
            Slot::Vacant(vacant) => {
                let entry = make();
                let after = entry.expiry_ms();
                fields_after = field_deadline_ms(&entry);
                vacant.insert(entry);
                (None, after)
            }
        };
        self.count_expiry(key.hash(), before, after);
        self.index_fields(key.hash(), key.bytes, fields_before, fields_after);
    }

    /// Adds an entry whose key is not there.
    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) -> Option<Entry> {
        let (after, fields_after) = (entry.expiry_ms(), field_deadline_ms(&entry));
        if fields_after != u64::MAX {
            self.index_fields(hash, entry.key(), u64::MAX, fields_after);
        }
        let replaced = self.entries.insert(hash, entry);
        let before = replaced.as_ref().and_then(Entry::expiry_ms);
        self.count_expiry(hash, before, after);
        if let Some(replaced) = &replaced
            && fields_after == u64::MAX
        {
            self.index_fields(hash, replaced.key(), field_deadline_ms(replaced), fields_after);
        }
        replaced
    }

    pub(super) fn remove(&mut self, key: &Key<'_>) -> Option<Entry> {
        let entry = self.entries.remove(key.hash(), key.bytes)?;
        self.uncount_expiry(entry.expiry_ms());
        self.index_fields(key.hash(), key.bytes, field_deadline_ms(&entry), u64::MAX);
        Some(entry)
    }

    /// Moves at most `max` entries whose time has come to `out`; true if there may be more.
    pub(super) fn take_expired(&mut self, now_ms: u64, max: usize, out: &mut Vec<Entry>) -> bool {
        let taken_before = out.len();
        let more = self.entries.take_expired(now_ms, max, out);
        let expiries = out[taken_before..].iter().map(Entry::expiry_ms);
        for expiry in expiries.collect::<Vec<_>>() {
            self.uncount_expiry(expiry);
        }
        for entry in &out[taken_before..] {
            let fields_before = field_deadline_ms(entry);
            if fields_before != u64::MAX {
                let hash = self.entries.hash(entry.key());
                self.index_fields(hash, entry.key(), fields_before, u64::MAX);
            }
        }
        more
    }

    fn index_fields(&mut self, hash: KeyHash, key: &[u8], before_ms: u64, after_ms: u64) {
        if before_ms != after_ms {
            self.field_deadlines.set(self.entries.secret(), hash, key, after_ms);
        }
    }

    fn count_expiry(&mut self, hash: KeyHash, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        self.uncount_expiry(before);
        if let Some(at_ms) = after {
            self.expiring += 1;
            self.expiry_sum_ms += u128::from(at_ms);
            // A bound of what came earlier is one of what comes later; most keys that have a
            // deadline are given a later one.
            if before.is_none_or(|before_ms| at_ms < before_ms) {
                self.entries.lower_deadline(hash, at_ms);
            }
        }
    }

    fn uncount_expiry(&mut self, expiry: Option<u64>) {
        if let Some(at_ms) = expiry {
            self.expiring -= 1;
            self.expiry_sum_ms -= u128::from(at_ms);
        }
    }
}

/// A time before which no field of an entry expires; `u64::MAX` when none does.
#[inline]
fn field_deadline_ms(entry: &Entry) -> u64 {
    match (entry.kind(), entry.object()) {
        (Kind::Hash, Some(Object::Hash(table))) => table.earliest_deadline_ms(),
        _ => u64::MAX,
    }
}
