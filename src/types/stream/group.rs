//! Consumer groups: what was delivered, to whom, and what is not acknowledged yet.
//!
//! A group's pending entries are held once by ID with their owner's number; each consumer holds
//! the IDs of its own. Redis shares one allocation between two radix trees instead; numbers can be
//! copied with a snapshot. Maps are sorted by name, which is the order of replies, and stand behind
//! shared pointers, so that cloning a group costs its consumers' counts and no names.
//!
//! Invariant: an ID is pending in a group exactly if it is with exactly one of its consumers, the
//! one that the group's record of it names.

use super::pending::IdMap;
use super::{Entries, StreamId};
use std::collections::BTreeMap;
use triomphe::Arc;

/// A consumer's number in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// A delivered entry that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub consumer: ConsumerId,
    pub delivered_ms: i64,
    pub deliveries: u64,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it last tried to do something.
    pub seen_ms: i64,
    /// When it last got an entry.
    pub active_ms: Option<i64>,
    pending: IdMap<()>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The IDs of the entries it has not acknowledged.
    pub fn pending(&self) -> &IdMap<()> {
        &self.pending
    }
}

/// A consumer that has more than this part of all that is pending is not taken out entry by entry.
const REBUILT_PART: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry that was delivered to anybody.
    pub last_id: StreamId,
    /// How many entries were ever read, if that is known.
    pub entries_read: Option<i64>,
    pending: IdMap<Pending>,
    numbers: Arc<BTreeMap<Arc<[u8]>, ConsumerId>>,
    /// By number; the numbers of deleted consumers are used again.
    consumers: Vec<Option<Arc<Consumer>>>,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    pub fn pending(&self) -> &IdMap<Pending> {
        &self.pending
    }

    pub fn consumer_count(&self) -> usize {
        self.numbers.len()
    }

    /// The consumers in the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.numbers.values().map(|number| self.consumer(*number))
    }

    pub fn find(&self, name: &[u8]) -> Option<ConsumerId> {
        self.numbers.get(name).copied()
    }

    pub fn consumer(&self, number: ConsumerId) -> &Consumer {
        self.consumers[number.0 as usize].as_ref().expect("numbers name consumers that are there")
    }

    pub fn consumer_mut(&mut self, number: ConsumerId) -> &mut Consumer {
        let consumer = self.consumers[number.0 as usize].as_mut();
        Arc::make_mut(consumer.expect("numbers name consumers that are there"))
    }

    /// The consumer of a name, and whether it had to be made.
    pub fn find_or_make(&mut self, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
        if let Some(number) = self.find(name) {
            return (number, false);
        }
        let name: Arc<[u8]> = Arc::from(name);
        let pending = IdMap::default();
        let consumer = Consumer { name: name.clone(), seen_ms: now_ms, active_ms: None, pending };
        let consumer = Some(Arc::new(consumer));
        // Free places are few unless consumers were deleted, and are looked for only then.
        let free = if self.numbers.len() < self.consumers.len() {
            self.consumers.iter().position(Option::is_none)
        } else {
            None
        };
        let at = match free {
            Some(at) => {
                self.consumers[at] = consumer;
                at
            }
            None => {
                self.consumers.push(consumer);
                self.consumers.len() - 1
            }
        };
        let number = ConsumerId(u32::try_from(at).expect("memory ends before the numbers do"));
        Arc::make_mut(&mut self.numbers).insert(name, number);
        (number, true)
    }

    /// Deletes a consumer with what is pending with it, and says how much that was.
    pub fn delete_consumer(&mut self, number: ConsumerId) -> usize {
        let consumer = self.consumers[number.0 as usize].take().expect("it is there");
        Arc::make_mut(&mut self.numbers).remove(&consumer.name);
        let (own, all) = (consumer.pending.len(), self.pending.len());
        if own == all {
            self.pending = IdMap::default();
        } else if own > all / REBUILT_PART {
            // What stays is copied in order, which is cheaper than so many removals.
            let mut rest = IdMap::default();
            for (id, record) in self.pending.iter().filter(|(_, own)| own.consumer != number) {
                rest.insert(id, record);
            }
            self.pending = rest;
        } else {
            for (id, ()) in consumer.pending.iter() {
                self.pending.remove(id);
            }
        }
        own
    }

    /// Makes an entry pending as this record says, whoever had it before.
    pub fn assign(&mut self, id: StreamId, record: Pending) {
        let owner = self.pending.insert(id, record).map(|old| old.consumer);
        if owner == Some(record.consumer) {
            return;
        }
        if let Some(owner) = owner {
            self.consumer_mut(owner).pending.remove(id);
        }
        self.consumer_mut(record.consumer).pending.insert(id, ());
    }

    /// Ends that an entry is pending; `None` if it was not.
    pub fn release(&mut self, id: StreamId) -> Option<Pending> {
        let record = self.pending.remove(id)?;
        self.consumer_mut(record.consumer).pending.remove(id);
        Some(record)
    }

    /// Takes note that an entry beyond the last delivered one is delivered.
    pub fn advance(&mut self, entries: &Entries, id: StreamId) {
        // One that stands before all entries says nothing of how many were read up to the first.
        let is_within = entries.first_id().is_some_and(|first| first <= self.last_id);
        let counts = is_within && !entries.has_gap_from(self.last_id);
        if let Some(read) = self.entries_read.filter(|_| counts) {
            self.entries_read = Some(read.saturating_add(1));
        } else if entries.entries_added > 0 {
            self.entries_read = entries.entries_up_to(id);
        }
        self.last_id = id;
    }

    /// How many entries are still to be delivered, if that can be known.
    pub fn lag(&self, entries: &Entries) -> Option<i64> {
        let Some(first) = entries.first_id() else { return Some(0) };
        if self.last_id < first && entries.max_deleted_id < first {
            return Some(entries.len() as i64);
        }
        let read = self.entries_read.filter(|_| !entries.has_gap_from(self.last_id));
        let read = read.or_else(|| entries.entries_up_to(self.last_id))?;
        // XSETID may say that fewer were added than a group has read.
        Some(entries.entries_added.cast_signed().wrapping_sub(read).max(0))
    }

    /// Whether an entry was delivered and acknowledged.
    fn is_done_with(&self, id: StreamId) -> bool {
        id <= self.last_id && self.pending.get(id).is_none()
    }

    fn memory_bytes(&self) -> usize {
        let of_consumer = |consumer: &Consumer| {
            size_of::<Consumer>() + consumer.name.len() + consumer.pending.memory_bytes()
        };
        size_of::<Group>()
            + self.pending.memory_bytes()
            + self.consumers().map(of_consumer).sum::<usize>()
    }

    #[cfg(test)]
    pub fn check(&self) {
        let owned: usize = self.consumers().map(|consumer| consumer.pending.len()).sum();
        assert_eq!(owned, self.pending.len());
        for (id, record) in self.pending.iter() {
            assert!(self.consumer(record.consumer).pending.get(id).is_some());
        }
    }
}

/// The groups of a stream by name.
#[derive(Clone, Debug, Default)]
pub struct Groups(Option<Arc<ByName>>);

type ByName = BTreeMap<Box<[u8]>, Arc<Group>>;

impl Groups {
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |groups| groups.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, name: &[u8]) -> Option<&Group> {
        self.0.as_ref()?.get(name).map(|group| &**group)
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        // Looked for first, so that a name that is not there copies nothing.
        self.get(name)?;
        Arc::make_mut(self.0.as_mut()?).get_mut(name).map(Arc::make_mut)
    }

    /// Adds a group; false if there is one of this name.
    pub fn add(&mut self, name: &[u8], group: Group) -> bool {
        if self.get(name).is_some() {
            return false;
        }
        let groups = self.0.get_or_insert_with(|| Arc::new(BTreeMap::new()));
        Arc::make_mut(groups).insert(name.into(), Arc::new(group));
        true
    }

    /// Takes a group out, as the only one of others; `None` if there is none of this name.
    pub fn take(&mut self, name: &[u8]) -> Option<Groups> {
        self.get(name)?;
        let group = Arc::make_mut(self.0.as_mut()?).remove(name)?;
        Some(Groups(Some(Arc::new(BTreeMap::from([(name.into(), group)])))))
    }

    /// The groups in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        let groups = self.0.iter().flat_map(|groups| groups.iter());
        groups.map(|(name, group)| (&**name, &**group))
    }

    /// Whether every group has delivered an entry and none waits for its acknowledgement.
    pub fn are_done_with(&self, id: StreamId) -> bool {
        self.iter().all(|(_, group)| group.is_done_with(id))
    }

    /// Ends that an entry is pending, in all groups.
    pub fn release(&mut self, id: StreamId) -> bool {
        if !self.iter().any(|(_, group)| group.pending.get(id).is_some()) {
            return false;
        }
        let groups = Arc::make_mut(self.0.as_mut().expect("some group has it")).values_mut();
        for group in groups.filter(|group| group.pending.get(id).is_some()) {
            Arc::make_mut(group).release(id);
        }
        true
    }

    pub fn memory_bytes(&self) -> usize {
        self.iter().map(|(name, group)| name.len() + group.memory_bytes()).sum()
    }
}
