//! What a command did to the keyspace, collected while it runs.
//!
//! Lists are filled only for those who listen ([`Observers`]), so that a server without watchers,
//! caching clients and notifications pays one comparison for a change.

use super::{Db, Entry, SlotPart};
use crate::config::EventClasses;
use crate::structs::pins;
use crate::types::hash::Field;
use crate::types::{Kind, Object};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};

/// Who wants to hear of changes.
#[derive(Clone, Copy, Default)]
pub struct Observers {
    /// Some client watches keys or caches them: touched keys are listed.
    pub touched_keys: bool,
    /// What readers find expired stays until its primary says that it is gone.
    pub leaves_expired: bool,
    /// Some client waits for a key: keys that come are listed.
    pub awaited_keys: bool,
    /// The classes of keyspace events that are listened to.
    pub events: EventClasses,
    /// Somebody replays the write stream: deleted expired keys are listed.
    pub propagation: bool,
}

/// A key whose value or expiry changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TouchedKey {
    pub db: usize,
    pub key: Box<[u8]>,
}

/// Fields of a hash that were taken away because their time had come.
pub struct ExpiredFields {
    pub db: usize,
    pub key: Box<[u8]>,
    pub fields: Vec<Field>,
}

/// A keyspace event, in the words of the notification channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyEvent {
    pub db: usize,
    pub class: EventClasses,
    pub name: &'static str,
    pub key: Box<[u8]>,
}

/// What another thread should free.
pub enum Garbage {
    /// An entry and its heap bytes.
    Entry(Entry, usize),
    Fields(Vec<Field>),
    /// A database and, about, its bytes.
    Db(Box<Db>, usize),
    /// The keys of a slot and, about, their bytes.
    Slot(Box<SlotPart>, usize),
}

impl Garbage {
    /// How many objects go with it, for the lazyfree counters.
    pub fn objects(&self) -> u64 {
        match self {
            Garbage::Entry(..) => 1,
            Garbage::Fields(fields) => fields.len() as u64,
            Garbage::Db(db, _) => db.len() as u64,
            Garbage::Slot(part, _) => part.len() as u64,
        }
    }

    /// The bytes that [`Changes::garbage_bytes`] counted for it.
    pub fn bytes(&self) -> u64 {
        match self {
            Garbage::Entry(_, bytes) | Garbage::Db(_, bytes) | Garbage::Slot(_, bytes) => {
                *bytes as u64
            }
            Garbage::Fields(_) => 0,
        }
    }
}

/// The event of a key whose time had come.
const EXPIRED: &str = "expired";

/// A value with more heap bytes than this is freed off the executor.
const FREE_INLINE_BYTES_MAX: usize = 256 * 1024;

/// The record of a command's doings; the dispatcher drains it.
#[derive(Default)]
pub struct Changes {
    pub observers: Observers,
    /// What is done is told nobody: it is done to keys that nobody can know of.
    pub(super) is_silent: bool,
    /// Changes to the dataset since the start, in Redis's counting.
    pub dirty: u64,
    /// What went by itself since the start, which is in nobody's counting.
    removed: u64,
    pub touched: Vec<TouchedKey>,
    /// Keys that have come and may be what somebody waits for, oldest first.
    offered: VecDeque<TouchedKey>,
    events: RefCell<Vec<KeyEvent>>,
    /// Keys deleted because their time had come, oldest first.
    pub expired: Vec<TouchedKey>,
    /// Keys deleted to make room, oldest first.
    pub evicted: Vec<TouchedKey>,
    /// Keys deleted with their slots.
    pub dropped: Vec<TouchedKey>,
    /// Fields deleted because their time had come, oldest first.
    expired_fields: Vec<ExpiredFields>,
    pub garbage: Vec<Garbage>,
    /// Bytes of the entries that were ever given to the thread that frees.
    pub garbage_bytes: u64,
    found_expired: RefCell<Vec<(usize, Box<[u8]>)>>,
}

impl Changes {
    /// A number that stays the same as long as the dataset does.
    pub fn total(&self) -> u64 {
        self.dirty + self.removed
    }

    /// A key's value or expiry changed.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        if self.observers.touched_keys && !self.is_silent {
            self.touched.push(TouchedKey { db, key: key.into() });
        }
    }

    /// A key has come that somebody may wait for.
    pub fn offer(&mut self, db: usize, key: &[u8]) {
        if self.observers.awaited_keys && !self.is_silent {
            self.offered.push_back(TouchedKey { db, key: key.into() });
        }
    }

    /// A value is gone, for which somebody may wait until it is.
    pub fn withdraw(&mut self, db: usize, entry: &Entry) {
        if self.observers.awaited_keys && entry.kind() == Kind::Stream {
            self.offer(db, entry.key());
        }
    }

    pub fn has_offers(&self) -> bool {
        !self.offered.is_empty()
    }

    pub fn take_offered(&mut self) -> Option<TouchedKey> {
        self.offered.pop_front()
    }

    /// Something happened to a key that subscribers may want to hear.
    pub fn event(&self, db: usize, class: EventClasses, name: &'static str, key: &[u8]) {
        if self.observers.events.intersects(class) && !self.is_silent {
            self.events.borrow_mut().push(KeyEvent { db, class, name, key: key.into() });
        }
    }

    /// Whether there is nothing to tell anybody, as after most commands.
    #[inline]
    pub fn are_none(&mut self) -> bool {
        self.touched.is_empty()
            && self.events.get_mut().is_empty()
            && self.expired.is_empty()
            && self.evicted.is_empty()
            && self.dropped.is_empty()
            && self.expired_fields.is_empty()
            && self.garbage.is_empty()
    }

    /// The events since the last call, in order. A key expires once in a command, however often
    /// it was met before it was taken away: the first telling of it counts.
    pub fn take_events(&mut self) -> Vec<KeyEvent> {
        let mut events = std::mem::take(self.events.get_mut());
        if events.len() > 1 {
            let mut told = HashSet::new();
            events.retain(|event| {
                event.class != EventClasses::EXPIRED || told.insert((event.db, event.key.clone()))
            });
        }
        events
    }

    /// A key was deleted because its time had come.
    pub fn expired(&mut self, db: usize, key: &[u8]) {
        self.removed += 1;
        self.touch(db, key);
        self.event(db, EventClasses::EXPIRED, EXPIRED, key);
        if self.observers.propagation {
            self.expired.push(TouchedKey { db, key: key.into() });
        }
    }

    /// A hash was deleted because the time of all its fields had come.
    pub fn spent(&mut self, db: usize, key: &[u8]) {
        self.removed += 1;
        self.touch(db, key);
        self.event(db, EventClasses::HASH, "hexpired", key);
        self.event(db, EventClasses::GENERIC, "del", key);
        if self.observers.propagation {
            self.expired.push(TouchedKey { db, key: key.into() });
        }
    }

    /// A key was deleted with its slot, which is another node's.
    pub fn dropped(&mut self, db: usize, key: &[u8]) {
        self.dirty += 1;
        self.touch(db, key);
        self.event(db, EventClasses::GENERIC, "del", key);
        if self.observers.propagation {
            self.dropped.push(TouchedKey { db, key: key.into() });
        }
    }

    /// A key was deleted to make room.
    pub fn evicted(&mut self, db: usize, key: &[u8]) {
        self.removed += 1;
        self.touch(db, key);
        self.event(db, EventClasses::EVICTED, "evicted", key);
        if self.observers.propagation {
            self.evicted.push(TouchedKey { db, key: key.into() });
        }
    }

    /// Fields of a hash were deleted because their time had come.
    pub fn expired_fields(&mut self, db: usize, key: &[u8], fields: Vec<Field>) {
        self.removed += 1;
        self.touch(db, key);
        self.event(db, EventClasses::HASH, "hexpired", key);
        if self.observers.propagation {
            self.expired_fields.push(ExpiredFields { db, key: key.into(), fields });
        } else {
            self.discard_fields(fields);
        }
    }

    /// The fields deleted since the last call because their time had come, oldest first. They are
    /// to be given to [`Changes::discard_fields`] after use.
    pub fn take_expired_fields(&mut self) -> Vec<ExpiredFields> {
        std::mem::take(&mut self.expired_fields)
    }

    /// Frees fields: here if that is quick, else on the thread that frees.
    pub fn discard_fields(&mut self, fields: Vec<Field>) {
        if fields.iter().map(Field::memory_bytes).sum::<usize>() > FREE_INLINE_BYTES_MAX {
            self.garbage.push(Garbage::Fields(fields));
        }
    }

    /// Frees an entry: here if that is quick, else on the thread that frees.
    ///
    /// What snapshots share of it is not garbage: it stays until they end.
    pub fn discard(&mut self, entry: Entry) {
        let mut bytes = entry.heap_bytes();
        if bytes > FREE_INLINE_BYTES_MAX && !entry.is_shared() {
            let shared = entry.object().map_or(0, Object::shared_bytes);
            pins::report(shared);
            bytes -= shared.min(bytes);
            self.garbage_bytes += bytes as u64;
            self.garbage.push(Garbage::Entry(entry, bytes));
        }
    }

    /// Has what was in a slot, of about so many bytes, freed on the thread that frees.
    pub fn discard_slot(&mut self, part: SlotPart, bytes: usize) {
        if !part.is_empty() {
            self.garbage_bytes += bytes as u64;
            self.garbage.push(Garbage::Slot(Box::new(part), bytes));
        }
    }

    /// Has a database of about so many bytes freed on the thread that frees. What snapshots share
    /// of it stays until they end.
    pub fn discard_db(&mut self, db: Db, bytes: usize) {
        let shared = (bytes as f64 * db.shared_share()) as usize;
        pins::report(shared);
        let bytes = bytes - shared.min(bytes);
        self.garbage_bytes += bytes as u64;
        self.garbage.push(Garbage::Db(Box::new(db), bytes));
    }

    /// A reader met a key whose time had come. The event is told now, so that it stands before
    /// what the reader tells of the key's absence; the key itself is taken away later.
    pub(super) fn found_expired(&self, db: usize, key: &[u8]) {
        if self.observers.leaves_expired {
            return;
        }
        self.event(db, EventClasses::EXPIRED, EXPIRED, key);
        self.found_expired.borrow_mut().push((db, key.into()));
    }

    /// A hash may have lost its last field to time: it is taken away later, if so.
    pub(super) fn found_hollow(&self, db: usize, key: &[u8]) {
        if self.observers.leaves_expired {
            return;
        }
        self.found_expired.borrow_mut().push((db, key.into()));
    }

    /// What was found expired stays as it is.
    pub fn forget_found_expired(&mut self) {
        self.found_expired.get_mut().clear();
    }

    pub(super) fn take_found_expired(&mut self) -> Vec<(usize, Box<[u8]>)> {
        std::mem::take(self.found_expired.get_mut())
    }

    /// True if a reader met expired keys that are still to be taken away.
    pub fn has_found_expired(&mut self) -> bool {
        !self.found_expired.get_mut().is_empty()
    }
}
