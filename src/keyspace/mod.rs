//! The keyspace: databases of entries, with expiry, and a record of what each command did to it.
//!
//! Reading never changes it: a key whose time has come is absent for every reader, and is taken
//! away later by whoever may write (the dispatcher after the command, or the active cycle). That
//! lets lookups borrow the keyspace shared, and keeps "absent" one idea on primaries, on replicas
//! and in snapshots.
//!
//! What a command did is collected in [`Changes`] while it runs and drained by the dispatcher:
//! the dirty count, touched keys for WATCH and caching clients, keyspace events, deleted expired
//! keys for the replication stream, and garbage for the thread that frees. So the keyspace knows
//! nobody who listens.

mod changes;
mod clock;
pub mod commands;
mod db;
pub mod digest;
pub mod entry;
mod evict;
mod field_deadlines;
mod key;
mod keys;
pub mod slot;
mod slots;
mod staging;
mod value;

pub use crate::structs::trie::HashSecret;
pub use changes::{Changes, ExpiredFields, Garbage, KeyEvent, Observers, TouchedKey};
pub use clock::{AccessClock, AccessPolicy};
pub use db::{Db, SlotPart, Snapshot};
pub use entry::{Entry, NewValue};
pub use evict::Eviction;
pub use key::{Key, KeyHash, KeyHasher};
pub use keys::{Expiry, Keys};
pub use staging::{StagedSnapshot, Staging};
pub use value::ValueRef;

use slot::Slot;

use crate::config::EventClasses;
use crate::structs::prng::Prng;
use crate::types::Kind;
use smallvec::SmallVec;
use std::cell::Cell;

/// What looking after one hash costs, in fields: its table, its key and its place in the index go
/// with its last field.
const HASH_COST: usize = 8;

/// What becomes of keys, and of fields of hashes, whose time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpiryRule {
    /// They are not there for anybody, and taken away sooner or later.
    Delete,
    /// They are there like all others: a log is replayed, in which a deletion that mattered stands.
    Ignore,
}

/// Counters that INFO shows.
#[derive(Default)]
pub struct KeyspaceStats {
    pub hits: Cell<u64>,
    pub misses: Cell<u64>,
    pub expired: u64,
    /// Expired keys that the active cycle, not a command, took away.
    pub expired_actively: u64,
    /// Fields of hashes whose time had come.
    pub expired_fields: u64,
    /// Keys deleted to make room.
    pub evicted: u64,
}

/// All databases and what belongs to all of them.
pub struct Keyspace {
    dbs: Vec<Db>,
    secret: HashSecret,
    /// The wall clock of the running command: no command sees time move.
    pub now_ms: u64,
    /// What becomes of keys whose time has come.
    pub expiry_rule: ExpiryRule,
    pub access: AccessClock,
    pub stats: KeyspaceStats,
    pub changes: Changes,
    pub prng: Prng,
    /// Keys that are likely to be evicted next.
    eviction: evict::Pool,
    /// Whether the active cycle runs (DEBUG SET-ACTIVE-EXPIRE).
    pub expires_actively: bool,
    /// Slots that come from another node.
    staging: Option<Box<Staging>>,
}

impl Keyspace {
    pub fn new(databases: usize, secret: HashSecret, prng: Prng) -> Keyspace {
        Keyspace {
            dbs: (0..databases).map(|_| Db::new(secret)).collect(),
            secret,
            now_ms: 0,
            expiry_rule: ExpiryRule::Delete,
            access: AccessClock::default(),
            stats: KeyspaceStats::default(),
            changes: Changes::default(),
            prng,
            eviction: evict::Pool::default(),
            expires_actively: true,
            staging: None,
        }
    }

    /// What keys, and members of collections, are hashed under.
    pub fn secret(&self) -> HashSecret {
        self.secret
    }

    pub fn hasher(&self) -> KeyHasher {
        KeyHasher::new(self.secret)
    }

    /// A key that is to be looked up.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.hasher().key(bytes)
    }

    /// The time before which everything has expired, for those who ask now.
    #[inline]
    pub fn horizon_ms(&self) -> u64 {
        match self.expiry_rule {
            ExpiryRule::Delete => self.now_ms,
            ExpiryRule::Ignore => 0,
        }
    }

    pub fn db_count(&self) -> usize {
        self.dbs.len()
    }

    pub fn db(&self, index: usize) -> &Db {
        &self.dbs[index]
    }

    pub fn dbs(&self) -> &[Db] {
        &self.dbs
    }

    pub fn swap_dbs(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
    }

    /// An empty keyspace beside this one, for a dataset that is to take its place or to be added to
    /// it: keys have the same hashes in both.
    pub fn aside(&self) -> Keyspace {
        let mut aside = Keyspace::new(self.dbs.len(), self.secret, self.prng.clone());
        aside.follow(self);
        aside
    }

    /// The same with all that is in this one, which both share until one of them changes it. To be
    /// made on the thread that writes.
    pub fn copy(&self) -> Keyspace {
        Keyspace { dbs: self.dbs.clone(), ..self.aside() }
    }

    /// Sets the clocks by those of another one.
    pub fn follow(&mut self, other: &Keyspace) {
        self.now_ms = other.now_ms;
        self.access = other.access.clone();
    }

    /// Exchanges a database for that of a keyspace that was made [`Keyspace::aside`].
    pub fn exchange_db(&mut self, index: usize, other: &mut Keyspace) {
        std::mem::swap(&mut self.dbs[index], &mut other.dbs[index]);
    }

    /// Moves all entries of another keyspace here, in place of those with the same keys.
    pub fn join(&mut self, mut other: Keyspace) {
        for index in 0..self.dbs.len() {
            let keys: Vec<Box<[u8]>> = other.dbs[index].iter().map(|e| e.key().into()).collect();
            for key in keys {
                let key = self.key(&key);
                let Some(entry) = other.dbs[index].remove(&key) else { continue };
                if let Some(replaced) = self.insert_loaded(index, key.hash(), entry) {
                    self.changes.withdraw(index, &replaced);
                    self.changes.discard(replaced);
                }
                self.changes.touch(index, key.bytes);
                self.changes.offer(index, key.bytes);
            }
        }
    }

    pub fn into_dbs(self) -> Vec<Db> {
        self.dbs
    }

    /// Replaces a database by an empty one and yields what was in it.
    pub fn take_db(&mut self, index: usize) -> Db {
        std::mem::replace(&mut self.dbs[index], Db::new(self.secret))
    }

    /// Puts entries in that have been read from a file, each with the hash of its key. The key
    /// of one that is there already is an error.
    pub fn load(&mut self, db: usize, entries: Vec<(KeyHash, Entry)>) -> Result<(), Box<[u8]>> {
        const WINDOW: usize = 64;
        let db = &mut self.dbs[db];
        let mut entries = entries.into_iter();
        while !entries.as_slice().is_empty() {
            let ahead = entries.as_slice().iter().take(WINDOW);
            let hashes: SmallVec<[KeyHash; WINDOW]> = ahead.map(|(hash, _)| *hash).collect();
            db.prefetch(&hashes);
            for (hash, entry) in entries.by_ref().take(WINDOW) {
                if let Some(replaced) = db.insert(hash, entry) {
                    return Err(replaced.key().into());
                }
            }
        }
        Ok(())
    }

    /// Adds an entry that has been read from a file; yields the one whose place it took.
    pub fn insert_loaded(&mut self, db: usize, hash: KeyHash, entry: Entry) -> Option<Entry> {
        self.dbs[db].insert(hash, entry)
    }

    /// The keyspace as a client of database `db` sees it.
    pub fn keys(&mut self, db: usize) -> Keys<'_> {
        Keys::new(self, db)
    }

    /// The earliest time at which some key or field may expire, over all databases.
    pub fn earliest_deadline_ms(&self) -> u64 {
        let earliest_ms = self.dbs.iter().map(Db::earliest_deadline_ms).min();
        earliest_ms.unwrap_or(u64::MAX).min(self.earliest_field_deadline_ms())
    }

    /// The earliest time at which some field may expire, over all databases.
    pub fn earliest_field_deadline_ms(&self) -> u64 {
        self.dbs.iter().map(Db::earliest_field_deadline_ms).min().unwrap_or(u64::MAX)
    }

    /// Takes away at most `max` keys whose time has come; true if there may be more.
    pub fn expire_due(&mut self, max: usize) -> bool {
        if !self.expires_actively {
            return false;
        }
        let mut more = false;
        for index in 0..self.dbs.len() {
            let mut due = Vec::new();
            // An entry is still there in the millisecond that its expiry names.
            let before_ms = self.now_ms.saturating_sub(1);
            more |= self.dbs[index].take_expired(before_ms, max, &mut due);
            self.stats.expired += due.len() as u64;
            self.stats.expired_actively += due.len() as u64;
            for entry in due {
                self.changes.expired(index, entry.key());
                self.changes.withdraw(index, &entry);
                self.changes.discard(entry);
            }
        }
        more
    }

    /// Takes away at most `max` fields whose time has come, or does the like of it in work, and the
    /// hashes that lose their last one; true if there may be more. A field, like a key, is still
    /// there in the millisecond that it names.
    pub fn expire_due_fields(&mut self, max: usize) -> bool {
        let Some(at_ms) = self.now_ms.checked_sub(1).filter(|_| self.expires_actively) else {
            return false;
        };
        let mut left = max;
        let mut more = false;
        for index in 0..self.dbs.len() {
            if self.dbs[index].earliest_field_deadline_ms() > at_ms {
                continue;
            }
            let mut due = Vec::new();
            more |= self.dbs[index].take_due_hashes(at_ms, left / HASH_COST, &mut due);
            for hash in due {
                more |= self.expire_fields_of(index, hash.key_of_hash(), at_ms, &mut left);
                left = left.saturating_sub(HASH_COST);
            }
        }
        more
    }

    /// The same for the fields of one hash, within a budget from which they or the work are
    /// subtracted.
    fn expire_fields_of(
        &mut self,
        index: usize,
        key: &[u8],
        at_ms: u64,
        budget: &mut usize,
    ) -> bool {
        let key = self.key(key);
        if *budget > 0 && self.remove_if_expired(index, &key) {
            return false;
        }
        let (taken, more) = self.dbs[index].take_expired_fields(&key, at_ms, budget);
        if !taken.is_empty() {
            self.stats.expired_fields += taken.len() as u64;
            self.changes.expired_fields(index, key.bytes, taken);
            if self.remove_if_hollow(index, &key) {
                self.stats.expired_actively += 1;
            }
        }
        more
    }

    /// Takes all keys of a slot out, as they are. Nobody is told of them by that.
    pub fn take_slot(&mut self, db: usize, slot: Slot) -> SlotPart {
        self.dbs[db].take_slot(slot)
    }

    /// Takes away what readers of the last command found expired: keys, and hashes that lost their
    /// last field.
    pub fn reap_found_expired(&mut self) {
        for (db, key) in self.changes.take_found_expired() {
            let key = self.key(&key);
            if !self.remove_if_expired(db, &key) {
                self.remove_if_hollow(db, &key);
            }
        }
    }

    /// The kind of value that a key holds. One whose time has come holds none, and is left as it is
    /// for who asks for it.
    pub fn kind_in(&self, db: usize, key: &Key<'_>) -> Option<Kind> {
        let live = self.dbs[db].get(key).filter(|entry| !entry.is_expired(self.horizon_ms()));
        live.map(Entry::kind)
    }

    /// Whether the key is in that database, its time come.
    pub fn is_expired_in(&self, db: usize, key: &[u8]) -> bool {
        let entry = self.dbs[db].get(&self.key(key));
        entry.is_some_and(|entry| entry.is_expired(self.horizon_ms()))
    }

    /// Takes away the key if its time has come, whoever else may not.
    pub fn expire_key(&mut self, db: usize, key: &[u8]) -> bool {
        let key = self.key(key);
        self.remove_if_expired(db, &key)
    }

    /// The moment at which the key's time comes, if it is there and will.
    pub fn deadline_of(&self, db: usize, key: &[u8]) -> Option<u64> {
        self.dbs[db].get(&self.key(key))?.expiry_ms()
    }

    /// Removes the key if its time has come, as an expiry.
    fn remove_if_expired(&mut self, db: usize, key: &Key<'_>) -> bool {
        let horizon_ms = self.horizon_ms();
        let due = self.dbs[db].get(key).is_some_and(|entry| entry.is_expired(horizon_ms));
        if !due {
            return false;
        }
        let entry = self.take_out(db, key).expect("the entry was just found");
        self.stats.expired += 1;
        self.changes.expired(db, key.bytes);
        self.changes.discard(entry);
        true
    }

    /// Takes an entry out that no command deletes, for whatever reason: who waits for it is told.
    fn take_out(&mut self, db: usize, key: &Key<'_>) -> Option<Entry> {
        let entry = self.dbs[db].remove(key)?;
        self.changes.withdraw(db, &entry);
        Some(entry)
    }

    /// Removes a hash that has lost its last field to time.
    fn remove_if_hollow(&mut self, db: usize, key: &Key<'_>) -> bool {
        if !self.dbs[db].get(key).is_some_and(Entry::is_hollow) {
            return false;
        }
        let entry = self.take_out(db, key).expect("the entry was just found");
        self.stats.expired += 1;
        self.changes.touch(db, key.bytes);
        self.changes.event(db, EventClasses::GENERIC, "del", key.bytes);
        self.changes.discard(entry);
        true
    }
}
