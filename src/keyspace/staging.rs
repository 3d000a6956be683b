//! Keys that come with their slots from another node, and are nobody's to see until the slots are
//! ours.
//!
//! They lie in a database of their own. So no walk, count, sample, expiry or eviction of the others
//! meets them: what becomes of them is their owner's to say until he has let go. What he says is
//! carried out by ordinary commands, for which that database stands in the place of the first one
//! ([`Keyspace::enter_staging`]). When the slots are ours their parts go over whole, which takes as
//! long as looking at the lengths of their segments. Keys among the others that every door has to
//! hide were refused: one that expires here, while its owner gives it more time, would be lost.

use super::slot::{SLOTS, Slot};
use super::{Db, Entry, ExpiryRule, Keyspace, Snapshot};

/// What is on its way.
pub struct Staging {
    /// The name of the move.
    job: Box<str>,
    slots: Vec<Slot>,
    /// Of each slot, whether it is one of them.
    has: Box<[bool]>,
    db: Db,
    rule_outside: ExpiryRule,
}

/// The same as it was at one moment.
#[derive(Clone)]
pub struct StagedSnapshot {
    pub job: Box<str>,
    pub slots: Vec<Slot>,
    pub keys: Snapshot,
}

impl Staging {
    pub fn job(&self) -> &str {
        &self.job
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.has[usize::from(slot.number())]
    }

    /// How many keys have come; of no use while commands work on them.
    pub fn len(&self) -> usize {
        self.db.len()
    }

    pub fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    pub fn db(&self) -> &Db {
        &self.db
    }
}

impl Keyspace {
    pub fn staging(&self) -> Option<&Staging> {
        self.staging.as_deref()
    }

    /// Begins to take in slots. What was on its way before is dropped.
    pub fn stage(&mut self, job: &str, slots: Vec<Slot>) {
        self.unstage();
        let mut has = vec![false; SLOTS].into_boxed_slice();
        slots.iter().for_each(|slot| has[usize::from(slot.number())] = true);
        let (db, rule_outside) = (Db::new(self.secret), self.expiry_rule);
        self.staging = Some(Box::new(Staging { job: job.into(), slots, has, db, rule_outside }));
    }

    /// Puts a key in that has been read from a file. False if there is nothing on its way, or the
    /// key is there already.
    pub fn load_staged(&mut self, entry: Entry) -> bool {
        let hash = self.hasher().hash(entry.key());
        let Some(staging) = &mut self.staging else { return false };
        staging.db.insert(hash, entry).is_none()
    }

    /// From here on commands of the first database work on what is on its way. Nobody hears of
    /// it, and nothing expires. False if there is nothing.
    pub fn enter_staging(&mut self) -> bool {
        let Some(staging) = &mut self.staging else { return false };
        std::mem::swap(&mut staging.db, &mut self.dbs[0]);
        staging.rule_outside = std::mem::replace(&mut self.expiry_rule, ExpiryRule::Ignore);
        self.changes.is_silent = true;
        true
    }

    pub fn leave_staging(&mut self) {
        let staging = self.staging.as_mut().expect("it was entered");
        std::mem::swap(&mut staging.db, &mut self.dbs[0]);
        self.expiry_rule = staging.rule_outside;
        self.changes.is_silent = false;
    }

    /// What is on its way is not wanted.
    pub fn unstage(&mut self) {
        let Some(staging) = self.staging.take() else { return };
        let bytes = staging.db.overhead_bytes();
        self.changes.discard_db(staging.db, bytes);
    }

    /// The slots are ours: their keys are, too. How many these are.
    pub fn merge_staging(&mut self) -> usize {
        let Some(mut staging) = self.staging.take() else { return 0 };
        let mut merged = 0;
        for slot in staging.slots {
            let part = staging.db.take_slot(slot);
            merged += part.len();
            let replaced = self.dbs[0].put_slot(slot, part);
            let bytes = replaced.iter().map(Entry::heap_bytes).sum();
            self.changes.discard_slot(replaced, bytes);
        }
        self.changes.dirty += merged as u64;
        merged
    }

    /// Exchanges what is on its way for that of a keyspace that was made [`Keyspace::aside`].
    pub fn exchange_staging(&mut self, other: &mut Keyspace) {
        std::mem::swap(&mut self.staging, &mut other.staging);
    }

    /// What is on its way, as it is now. To be taken on the thread that writes.
    pub fn staged_snapshot(&self) -> Option<StagedSnapshot> {
        let staging = self.staging()?;
        let keys = staging.db.snapshot(self.now_ms);
        Some(StagedSnapshot { job: staging.job.clone(), slots: staging.slots.clone(), keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{HashSecret, NewValue};
    use crate::structs::prng::Prng;
    use crate::types::Encoding;

    fn space() -> Keyspace {
        Keyspace::new(1, HashSecret::new([7; 16]).of_cluster(), Prng::seeded(1))
    }

    fn entry(name: &[u8], expiry_ms: Option<u64>) -> Entry {
        Entry::new(name, NewValue::Bytes(b"value"), Encoding::of_whole(b"value"), expiry_ms)
    }

    fn put(space: &mut Keyspace, name: &[u8], expiry_ms: Option<u64>) {
        let hash = space.hasher().hash(name);
        space.insert_loaded(0, hash, entry(name, expiry_ms));
    }

    #[test]
    fn what_is_on_its_way_is_seen_by_nobody_until_it_is_there() {
        let mut space = space();
        let slot = Slot::of(b"{a}1");
        put(&mut space, b"{b}1", None);
        space.stage("job", vec![slot]);
        assert!(space.enter_staging());
        put(&mut space, b"{a}1", Some(5));
        put(&mut space, b"{a}2", None);
        space.leave_staging();
        space.now_ms = 100;
        assert!(!space.expire_due(10), "its time is its owner's to say");
        assert_eq!((space.db(0).len(), space.db(0).slot_len(slot)), (1, 0));
        assert_eq!(space.staging().map(Staging::len), Some(2));
        assert_eq!(space.merge_staging(), 2);
        assert_eq!((space.db(0).len(), space.db(0).slot_len(slot)), (3, 2));
        assert!(space.staging().is_none());
        space.expire_due(10);
        assert_eq!(space.db(0).len(), 2, "now it is ours");
    }

    #[test]
    fn what_is_not_wanted_leaves_nothing() {
        let mut space = space();
        space.stage("job", vec![Slot::of(b"{a}1")]);
        assert!(space.load_staged(entry(b"{a}1", None)));
        assert!(!space.load_staged(entry(b"{a}1", None)), "it is there");
        space.unstage();
        assert!(!space.load_staged(entry(b"{a}1", None)));
        assert!(!space.enter_staging());
        assert_eq!((space.db(0).len(), space.merge_staging()), (0, 0));
    }

    #[test]
    fn what_was_there_gives_way() {
        let mut space = space();
        let slot = Slot::of(b"{a}1");
        put(&mut space, b"{a}old", None);
        space.stage("job", vec![slot]);
        assert!(space.load_staged(entry(b"{a}new", None)));
        space.merge_staging();
        assert!(space.db(0).contains(b"{a}new") && !space.db(0).contains(b"{a}old"));
        assert_eq!((space.db(0).len(), space.db(0).slot_len(slot)), (1, 1));
    }
}
