//! The keyspace as the running command sees it: one database, the command's time, and the rules
//! of access (expiry, clocks, hit counts) that no handler has to think of.

use super::slot::Slot;
use super::{AccessClock, Db, Entry, Key, KeyHash, Keyspace, NewValue, Staging};
use crate::config::EventClasses;
use crate::types::hash::Field;
use crate::types::{Encoding, Kind, WrongType};

/// What a write does to a key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    Keep,
    Never,
    AtMs(u64),
}

/// A random choice that meets expired entries is drawn again so often.
const RANDOM_DRAWS_MAX: usize = 100;

pub struct Keys<'a> {
    space: &'a mut Keyspace,
    pub db: usize,
    /// Reads do not touch access clocks (CLIENT NO-TOUCH).
    pub leaves_clocks: bool,
}

impl<'a> Keys<'a> {
    pub(super) fn new(space: &'a mut Keyspace, db: usize) -> Keys<'a> {
        Keys { space, db, leaves_clocks: false }
    }

    pub fn space(&mut self) -> &mut Keyspace {
        self.space
    }

    /// Slots that come from another node.
    pub fn staging(&self) -> Option<&Staging> {
        self.space.staging()
    }

    /// A key that does not come from the request.
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.space.key(bytes)
    }

    /// The time of the command, for what it notes or computes.
    pub fn now_ms(&self) -> u64 {
        self.space.now_ms
    }

    /// The time before which everything has expired: what expiries are compared with.
    pub fn horizon_ms(&self) -> u64 {
        self.space.horizon_ms()
    }

    /// Whether there is a key whose time has not come. Nothing comes of being asked.
    pub fn is_there(&self, bytes: &[u8]) -> bool {
        let found = self.db().get(&self.key(bytes));
        found.is_some_and(|entry| !entry.is_expired(self.space.now_ms))
    }

    pub fn db_count(&self) -> usize {
        self.space.dbs.len()
    }

    pub fn db(&self) -> &Db {
        &self.space.dbs[self.db]
    }

    /// The clock that entries are stamped with.
    pub fn access(&self) -> &AccessClock {
        &self.space.access
    }

    /// The same view of another database.
    pub fn other(&mut self, db: usize) -> Keys<'_> {
        Keys { space: self.space, db, leaves_clocks: self.leaves_clocks }
    }

    /// The entry of a key for a command that uses it: counts a hit or a miss, and an access.
    pub fn read(&self, key: &Key<'_>) -> Option<&Entry> {
        let entry = self.look(key)?;
        if !self.leaves_clocks {
            entry.set_clock(self.space.access.touched(entry.clock()));
        }
        Some(entry)
    }

    /// The entry for a command that only looks at it: counts a hit or a miss, but no access.
    pub fn look(&self, key: &Key<'_>) -> Option<&Entry> {
        let found = self.look_quietly(key);
        if found.is_none() {
            let changes = &self.space.changes;
            changes.event(self.db, EventClasses::KEY_MISS, "keymiss", key.bytes);
        }
        found
    }

    /// The same for a command whose misses are no events.
    pub fn look_quietly(&self, key: &Key<'_>) -> Option<&Entry> {
        let found = self.peek(key);
        let counter =
            if found.is_some() { &self.space.stats.hits } else { &self.space.stats.misses };
        counter.set(counter.get() + 1);
        found
    }

    /// The entry if it is there and its time has not come, counting nothing.
    pub fn peek(&self, key: &Key<'_>) -> Option<&Entry> {
        let entry = self.space.dbs[self.db].get(key)?;
        if entry.is_expired(self.horizon_ms()) {
            self.space.changes.found_expired(self.db, key.bytes);
            return None;
        }
        Some(entry)
    }

    pub fn exists(&self, key: &Key<'_>) -> bool {
        self.peek(key).is_some()
    }

    /// Visits those among about `count` entries from a cursor on, as [`Db::scan`] does, that are
    /// wanted and live.
    pub fn scan(
        &self,
        slot: Option<Slot>,
        from: u64,
        count: usize,
        wants: impl Fn(&Entry) -> bool,
        mut visit: impl FnMut(&Entry),
    ) -> u64 {
        let horizon_ms = self.horizon_ms();
        let is_live = |entry: &Entry| !entry.is_expired(horizon_ms);
        self.db().scan(slot, from, count, |entry| match (wants(entry), is_live(entry)) {
            (true, true) => visit(entry),
            (true, false) => self.space.changes.found_expired(self.db, entry.key()),
            (false, _) => {}
        })
    }

    /// A live entry, any with about the same chance. When draws meet expired entries only, the
    /// first live one from the start on is taken, so that an answer is found if there is one.
    pub fn random(&mut self) -> Option<&Entry> {
        let horizon_ms = self.horizon_ms();
        let Keyspace { dbs, prng, changes, .. } = &mut *self.space;
        let db = &dbs[self.db];
        for _ in 0..RANDOM_DRAWS_MAX {
            let entry = db.random(prng)?;
            if !entry.is_expired(horizon_ms) {
                return Some(entry);
            }
            changes.found_expired(self.db, entry.key());
        }
        db.iter().find(|entry| !entry.is_expired(horizon_ms))
    }

    /// A string's bytes.
    pub fn string(&self, key: &Key<'_>) -> Result<Option<&[u8]>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(entry) => entry.string().map(Some).ok_or(WrongType),
        }
    }

    /// Takes the key away if its time has come, so that a writer meets only live entries.
    pub fn remove_if_expired(&mut self, key: &Key<'_>) {
        self.space.remove_if_expired(self.db, key);
    }

    /// Changes a live entry in place. A change the world should hear of is told by
    /// [`Keys::changed`].
    pub fn edit<R>(&mut self, key: &Key<'_>, edit: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let (access, horizon_ms) = (&self.space.access, self.horizon_ms());
        // One descent finds the entry and whether its time has come.
        let edited = self.space.dbs[self.db].edit(key, |entry| {
            if entry.is_expired(horizon_ms) {
                return None;
            }
            entry.set_clock(access.touched(entry.clock()));
            Some(edit(entry))
        });
        if let Some(None) = edited {
            self.remove_if_expired(key);
        }
        edited.flatten()
    }

    /// Sets a key to a string value, whatever it held.
    pub fn set_string(
        &mut self,
        key: &Key<'_>,
        value: NewValue<'_>,
        encoding: Encoding,
        expiry: Expiry,
    ) {
        let space = &mut *self.space;
        let (clock, horizon_ms) = (space.access.fresh(), space.horizon_ms());
        let value = std::cell::Cell::new(Some(value));
        let take = || value.take().expect("the value is used by one of the two arms");
        let (mut replaced, mut was_expired, mut is_new) = (None, false, false);
        let at_ms = if let Expiry::AtMs(at_ms) = expiry { Some(at_ms) } else { None };
        space.dbs[self.db].upsert(
            key,
            |entry| {
                was_expired = entry.is_expired(horizon_ms);
                let keeps = expiry == Expiry::Keep && !was_expired;
                if entry.kind() == Kind::String && entry.heap_bytes() == 0 {
                    let at_ms = if keeps { entry.expiry_ms() } else { at_ms };
                    entry.set(take(), encoding, at_ms);
                } else {
                    let at_ms = if keeps { entry.expiry_ms() } else { at_ms };
                    let fresh = Entry::new(key.bytes, take(), encoding, at_ms);
                    replaced = Some(std::mem::replace(entry, fresh));
                }
                entry.set_clock(clock);
            },
            || {
                is_new = true;
                let entry = Entry::new(key.bytes, take(), encoding, at_ms);
                entry.set_clock(clock);
                entry
            },
        );
        if let Some(entry) = replaced {
            space.changes.withdraw(self.db, &entry);
            space.changes.discard(entry);
        }
        if was_expired {
            space.stats.expired += 1;
            space.changes.expired(self.db, key.bytes);
        }
        if is_new || was_expired {
            space.changes.event(self.db, EventClasses::NEW, "new", key.bytes);
        }
    }

    /// Puts an entry in place, whatever the key held.
    pub fn put(&mut self, hash: KeyHash, entry: Entry) {
        let Keyspace { dbs, changes, .. } = &mut *self.space;
        let db = &mut dbs[self.db];
        let is_new = db.get(&Key::hashed(entry.key(), hash)).is_none();
        if changes.observers.awaited_keys && entry.kind() != Kind::String {
            changes.offer(self.db, entry.key());
        }
        if is_new {
            changes.event(self.db, EventClasses::NEW, "new", entry.key());
        }
        if let Some(replaced) = db.insert(hash, entry) {
            changes.withdraw(self.db, &replaced);
            changes.discard(replaced);
        }
    }

    /// Gives `to` the value and expiry that an entry has, as a new key: what `to` held is deleted.
    pub fn put_as(&mut self, to: &Key<'_>, entry: &Entry) {
        self.delete(to);
        let entry = entry.with_key(to.bytes, entry.expiry_ms());
        entry.set_clock(self.space.access.fresh());
        self.put(to.hash(), entry);
    }

    /// Takes a live entry out.
    pub fn take(&mut self, key: &Key<'_>) -> Option<Entry> {
        self.remove_if_expired(key);
        let Keyspace { dbs, changes, .. } = &mut *self.space;
        let entry = dbs[self.db].remove(key)?;
        changes.withdraw(self.db, &entry);
        Some(entry)
    }

    /// Deletes a key; false if there was none.
    pub fn delete(&mut self, key: &Key<'_>) -> bool {
        let Some(entry) = self.take(key) else { return false };
        self.space.changes.discard(entry);
        true
    }

    /// Sets or clears the expiry of a live entry; false if there is none.
    pub fn set_expiry(&mut self, key: &Key<'_>, at_ms: Option<u64>) -> bool {
        self.remove_if_expired(key);
        let db = &mut self.space.dbs[self.db];
        db.edit(key, |entry| entry.set_expiry(at_ms)).is_some()
    }

    /// The key's value or expiry was changed: counts it, and tells whom it concerns.
    pub fn changed(&mut self, key: &Key<'_>, class: EventClasses, event: &'static str) {
        let changes = &mut self.space.changes;
        changes.dirty += 1;
        changes.touch(self.db, key.bytes);
        changes.event(self.db, class, event, key.bytes);
    }

    /// Fields of a hash were taken out because their time had come, by a command that met them.
    /// The key goes after the command if they were the last ones and nothing took their place.
    pub fn expired_fields(&mut self, key: &Key<'_>, fields: Vec<Field>) {
        self.space.stats.expired_fields += fields.len() as u64;
        self.space.changes.expired_fields(self.db, key.bytes, fields);
        self.space.changes.found_hollow(self.db, key.bytes);
    }

    /// Takes a hash away whose fields have all expired, so that a field which comes now makes
    /// another: the time to live of the old key is not the new one's.
    pub fn delete_spent(&mut self, key: &Key<'_>, fields: usize) {
        if self.delete(key) {
            self.space.stats.expired_fields += fields as u64;
            self.space.changes.spent(self.db, key.bytes);
        }
    }

    /// One more key that a change concerns which has been told.
    pub fn touch(&mut self, key: &Key<'_>) {
        self.space.changes.touch(self.db, key.bytes);
    }

    /// One more event for a change that has been told.
    pub fn event(&mut self, key: &Key<'_>, class: EventClasses, event: &'static str) {
        self.space.changes.event(self.db, class, event, key.bytes);
    }
}
