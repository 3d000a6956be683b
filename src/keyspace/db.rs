//! One database: a trie of entries, with the count of keys that have an expiry and the sum of
//! those expiries, so that INFO's averages are exact and free.

use super::field_deadlines::{FieldDeadlines, HashDeadline};
use super::slot::{SLOT_BITS, Slot};
use super::slots::{SlotFigures, Slots};
use super::{Entry, HashSecret, Key, KeyHash};
use crate::structs::pins::{self, Pin};
use crate::structs::prng::Prng;
use crate::structs::trie::{self, Trie};
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

    /// The same of one slot, in a cluster.
    pub fn live_in(&self, slot: Slot) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter_prefix(slot.prefix());
        entries.filter(|entry| !entry.is_expired(self.now_ms))
    }

    /// Visits those among about `count` entries, as [`Db::scan`] does, that are wanted and live.
    pub fn scan(
        &self,
        slot: Option<Slot>,
        from: u64,
        count: usize,
        wants: impl Fn(&Entry) -> bool,
        mut visit: impl FnMut(&Entry),
    ) -> u64 {
        scan(&self.entries, slot, from, count, |entry| {
            if wants(entry) && !entry.is_expired(self.now_ms) {
                visit(entry);
            }
        })
    }
}

fn scan(
    entries: &Trie<Entry>,
    slot: Option<Slot>,
    from: u64,
    count: usize,
    visit: impl FnMut(&Entry),
) -> u64 {
    match slot {
        None => entries.scan(from, count, visit),
        Some(slot) => entries.scan_prefix(slot.prefix(), from, count, visit),
    }
}

#[derive(Clone)]
pub struct Db {
    entries: Trie<Entry>,
    expiring: u64,
    /// Sum of all expiry times, for their average.
    expiry_sum_ms: u128,
    field_deadlines: FieldDeadlines,
    /// The same figures of each slot, in a cluster.
    slots: Option<Box<Slots>>,
}

/// What was in a slot.
pub struct SlotPart {
    entries: Trie<Entry>,
    figures: SlotFigures,
    field_deadlines: FieldDeadlines,
}

impl SlotPart {
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Visits about `count` entries from a cursor on; the next cursor, 0 at the end.
    pub fn scan(&self, from: u64, count: usize, visit: impl FnMut(&Entry)) -> u64 {
        self.entries.scan(from, count, visit)
    }

    /// The entries alone, for who frees them.
    pub fn into_entries(self) -> Trie<Entry> {
        self.entries
    }
}

impl Db {
    pub fn new(secret: HashSecret) -> Db {
        Db {
            entries: Trie::new(secret),
            expiring: 0,
            expiry_sum_ms: 0,
            field_deadlines: FieldDeadlines::default(),
            slots: secret.is_of_cluster().then(|| Box::new(Slots::new())),
        }
    }

    /// How many keys a slot holds, in a cluster.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots.of(slot).keys as usize)
    }

    /// The entries of a slot.
    pub fn slot_entries(&self, slot: Slot) -> impl Iterator<Item = &Entry> {
        self.entries.iter_prefix(slot.prefix())
    }

    /// Takes a slot out, with all that is in it. The time that takes is that of looking at the
    /// lengths of its segments.
    pub fn take_slot(&mut self, slot: Slot) -> SlotPart {
        let figures = self.replace_figures(slot, SlotFigures::default());
        SlotPart {
            entries: self.entries.take_prefix(slot.prefix()),
            figures,
            field_deadlines: self.field_deadlines.take_prefix(slot.prefix()),
        }
    }

    /// Puts in what was taken out of the same slot of a database with the same secret. What was
    /// there in its place is returned.
    pub fn put_slot(&mut self, slot: Slot, part: SlotPart) -> SlotPart {
        let replaced = self.take_slot(slot);
        self.entries.put_prefix(slot.prefix(), part.entries);
        self.field_deadlines.put_prefix(slot.prefix(), part.field_deadlines);
        self.replace_figures(slot, part.figures);
        replaced
    }

    fn replace_figures(&mut self, slot: Slot, figures: SlotFigures) -> SlotFigures {
        let Some(slots) = &mut self.slots else { return SlotFigures::default() };
        let before = slots.replace(slot, figures);
        self.expiring = self.expiring + u64::from(figures.expiring) - u64::from(before.expiring);
        self.expiry_sum_ms = self.expiry_sum_ms + figures.expiry_sum_ms - before.expiry_sum_ms;
        before
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

    /// Visits about `count` entries, of a slot or of all, from a cursor on, in hash order; the next
    /// cursor, 0 at the end.
    pub fn scan(
        &self,
        slot: Option<Slot>,
        from: u64,
        count: usize,
        visit: impl FnMut(&Entry),
    ) -> u64 {
        scan(&self.entries, slot, from, count, visit)
    }

    /// The slot in which all keys are that match a pattern, if there are slots and it is one.
    pub fn slot_of_pattern(&self, pattern: &[u8]) -> Option<Slot> {
        self.slots.as_ref().and_then(|_| Slot::of_pattern(pattern))
    }

    /// All entries in hash order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn random(&self, prng: &mut Prng) -> Option<&Entry> {
        let Some(slots) = &self.slots else {
            return self.entries.random(&mut |bound| prng.below(bound));
        };
        let slot = slots.draw(prng)?;
        let len = slots.of(slot).keys as usize;
        self.entries.random_in(slot.prefix(), len, &mut |bound| prng.below(bound))
    }

    /// A hash at a place where about as many entries are as anywhere: in a cluster, slots differ.
    fn random_hash(&self, prng: &mut Prng) -> u64 {
        let bits = prng.next_u64();
        let slot = self.slots.as_ref().and_then(|slots| slots.draw(prng));
        slot.map_or(bits, |slot| slot.first_bits() | bits >> SLOT_BITS)
    }

    /// Visits about `wanted` entries that have nothing in common, from a random place on.
    pub(super) fn sample(&self, wanted: usize, prng: &mut Prng, visit: impl FnMut(&Entry)) {
        self.entries.sample(self.random_hash(prng), wanted, visit);
    }

    /// The same with entries that have an expiry, which are found however few they are. It may
    /// take several calls to find one, if many have lost their expiry lately.
    pub(super) fn sample_expiring(
        &mut self,
        wanted: usize,
        prng: &mut Prng,
        visit: impl FnMut(&Entry),
    ) {
        let hash = self.random_hash(prng);
        self.entries.sample_with_deadlines(hash, wanted, visit);
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
            trie::Slot::Occupied(entry) => {
                let before = entry.expiry_ms();
                fields_before = field_deadline_ms(entry);
                edit(entry);
                fields_after = field_deadline_ms(entry);
                (before, entry.expiry_ms())
            }
            trie::Slot::Vacant(vacant) => {
                let entry = make();
                let after = entry.expiry_ms();
                fields_after = field_deadline_ms(&entry);
                vacant.insert(entry);
                self.count_key(key.hash());
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
        if replaced.is_none() {
            self.count_key(hash);
        }
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
        self.uncount_key(key.hash());
        self.uncount_expiry(key.hash(), entry.expiry_ms());
        self.index_fields(key.hash(), key.bytes, field_deadline_ms(&entry), u64::MAX);
        Some(entry)
    }

    /// Moves at most `max` entries whose time has come to `out`; true if there may be more.
    pub(super) fn take_expired(&mut self, now_ms: u64, max: usize, out: &mut Vec<Entry>) -> bool {
        let taken_before = out.len();
        let more = self.entries.take_expired(now_ms, max, out);
        for entry in &out[taken_before..] {
            let fields_before = field_deadline_ms(entry);
            // Only a cluster has to know the slots of those who go.
            if fields_before == u64::MAX && self.slots.is_none() {
                self.sum_without(entry.expiry_ms());
                continue;
            }
            let hash = self.entries.hash(entry.key());
            self.uncount_key(hash);
            self.uncount_expiry(hash, entry.expiry_ms());
            self.index_fields(hash, entry.key(), fields_before, u64::MAX);
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
        self.uncount_expiry(hash, before);
        if let Some(at_ms) = after {
            self.expiring += 1;
            self.expiry_sum_ms += u128::from(at_ms);
            if let Some(slots) = &mut self.slots {
                slots.count_expiry(hash.slot(), at_ms);
            }
            // A bound of what came earlier is one of what comes later; most keys that have a
            // deadline are given a later one.
            if before.is_none_or(|before_ms| at_ms < before_ms) {
                self.entries.lower_deadline(hash, at_ms);
            }
        }
    }

    fn uncount_expiry(&mut self, hash: KeyHash, expiry: Option<u64>) {
        self.sum_without(expiry);
        if let (Some(slots), Some(at_ms)) = (&mut self.slots, expiry) {
            slots.uncount_expiry(hash.slot(), at_ms);
        }
    }

    fn sum_without(&mut self, expiry: Option<u64>) {
        if let Some(at_ms) = expiry {
            self.expiring -= 1;
            self.expiry_sum_ms -= u128::from(at_ms);
        }
    }

    #[inline]
    fn count_key(&mut self, hash: KeyHash) {
        if let Some(slots) = &mut self.slots {
            slots.count_key(hash.slot());
        }
    }

    #[inline]
    fn uncount_key(&mut self, hash: KeyHash) {
        if let Some(slots) = &mut self.slots {
            slots.uncount_key(hash.slot());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{KeyHasher, NewValue};
    use crate::types::Encoding;
    use std::collections::BTreeMap;

    fn entry_of(key: &[u8], expiry_ms: Option<u64>) -> Entry {
        Entry::new(key, NewValue::Bytes(b"v"), Encoding::of_whole(b"v"), expiry_ms)
    }

    /// What each slot should hold: its keys with their expiries.
    type Model = BTreeMap<Slot, BTreeMap<Vec<u8>, Option<u64>>>;

    fn assert_holds(db: &Db, model: &Model) {
        let keys = model.values().flatten();
        let expiries: Vec<u64> = keys.clone().filter_map(|(_, expiry)| *expiry).collect();
        assert_eq!(db.len(), keys.count());
        assert_eq!(db.expiring(), expiries.len() as u64);
        assert_eq!(db.expiry_sum_ms, expiries.iter().map(|at| u128::from(*at)).sum());
        for (slot, held) in model {
            assert_eq!(db.slot_len(*slot), held.len());
            let mut found: Vec<&[u8]> = db.slot_entries(*slot).map(Entry::key).collect();
            found.sort_unstable();
            assert!(found.iter().eq(held.keys()), "{slot}");
        }
    }

    /// Slots go from one database to another and back, while keys come, go and expire.
    #[test]
    fn slots_move_whole() {
        let secret = HashSecret::new([8; 16]).of_cluster();
        let hasher = KeyHasher::new(secret);
        let mut prng = Prng::seeded(3);
        let mut dbs = [Db::new(secret), Db::new(secret)];
        let mut models = [Model::new(), Model::new()];
        for _ in 0..4_000 {
            let own = prng.below(2) as usize;
            let key = format!("{{{}}}{}", prng.below(12), prng.below(300)).into_bytes();
            let hashed = hasher.key(&key);
            let slot = hashed.hash().slot();
            assert_eq!(slot, Slot::of(&key));
            match prng.below(8) {
                0..5 => {
                    let expiry_ms = (prng.below(2) == 0).then(|| 1_000 + prng.below(1_000));
                    dbs[own].insert(hashed.hash(), entry_of(&key, expiry_ms));
                    models[own].entry(slot).or_default().insert(key, expiry_ms);
                }
                5 => {
                    dbs[own].remove(&hashed);
                    models[own].entry(slot).or_default().remove(&key);
                }
                6 => {
                    let (at_ms, mut taken) = (1_000 + prng.below(400), Vec::new());
                    while dbs[own].take_expired(at_ms, 10, &mut taken) {}
                    let live =
                        |_: &Vec<u8>, expiry: &mut Option<u64>| expiry.is_none_or(|ms| ms > at_ms);
                    models[own].values_mut().for_each(|held| held.retain(live));
                }
                _ => {
                    let part = dbs[own].take_slot(slot);
                    assert_eq!(part.len(), models[own].get(&slot).map_or(0, BTreeMap::len));
                    let replaced = dbs[1 - own].put_slot(slot, part);
                    let before = models[1 - own].remove(&slot).unwrap_or_default();
                    assert_eq!(replaced.len(), before.len());
                    let moved = models[own].remove(&slot).unwrap_or_default();
                    models[1 - own].insert(slot, moved);
                }
            }
            if prng.below(40) == 0 {
                assert_holds(&dbs[0], &models[0]);
                assert_holds(&dbs[1], &models[1]);
            }
        }
    }

    /// A pattern with a hash tag is looked for in its slot alone.
    #[test]
    fn a_walk_over_a_slot_meets_no_other_keys() {
        let secret = HashSecret::new([8; 16]).of_cluster();
        let hasher = KeyHasher::new(secret);
        let mut db = Db::new(secret);
        for n in 0..5_000u64 {
            let key = format!("{{{}}}{n}", n % 7).into_bytes();
            let expiry_ms = (n % 3 == 0).then_some(10);
            db.insert(hasher.hash(&key), entry_of(&key, expiry_ms));
        }
        let slot = db.slot_of_pattern(b"{3}*").expect("it has one");
        assert_eq!((slot, db.slot_of_pattern(b"{3*}")), (Slot::of(b"3"), None));
        assert_eq!(Db::new(HashSecret::new([8; 16])).slot_of_pattern(b"{3}*"), None);
        let wanted: Vec<Vec<u8>> = (0..5_000u64)
            .filter(|n| n % 7 == 3 && n % 3 > 0)
            .map(|n| format!("{{3}}{n}").into_bytes())
            .collect();
        let snapshot = db.snapshot(11);
        let mut listed: Vec<&[u8]> = snapshot.live_in(slot).map(Entry::key).collect();
        listed.sort_by_key(|key| (key.len(), *key));
        assert!(listed.iter().eq(wanted.iter()));
        let (mut cursor, mut visited, mut live) = (0, 0, 0);
        loop {
            cursor = db.scan(Some(slot), cursor, 10, |entry| {
                assert!(entry.key().starts_with(b"{3}"));
                visited += 1;
            });
            assert!(cursor < 1 << 53);
            if cursor == 0 {
                break;
            }
        }
        snapshot.scan(Some(slot), 0, usize::MAX, |_| true, |_| live += 1);
        assert_eq!((visited, live), (db.slot_len(slot), wanted.len()));
    }
}
