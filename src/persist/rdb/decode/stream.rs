//! Streams: nodes, what has happened to the entries, and the groups.
//!
//! An ID is pending with exactly one consumer. The file lists the group's pending IDs first and
//! then those of each consumer, so both lists are checked against each other before the group is
//! made: an ID that two consumers have, or one has twice, is refused. One that none has is refused
//! in a payload and left out of a file. The length, the last ID and the counts within the nodes are
//! taken from the entries of a file if they differ: Redis loads such files, and old versions have
//! written them.

use super::{Decoder, Label};
use crate::keyspace::Entry;
use crate::persist::rdb::error::RdbError;
use crate::types::stream::{ConsumerId, Counts, Entries, Group, Pending, Stream, StreamId};
use crate::types::{Encoding, Kind, Object};
use triomphe::Arc;

/// What the form holds besides entries and groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    V1,
    /// Also what was ever added and deleted, and what groups have read.
    V2,
    /// Also when consumers were active.
    V3,
}

const BAD_NODE: &str = "Stream listpack integrity check failed.";
const NO_NODE: RdbError = RdbError::Corrupt(BAD_NODE);

/// A pending entry whose consumer is found later.
struct Unowned {
    id: StreamId,
    owner: Option<ConsumerId>,
    delivered_ms: i64,
    deliveries: u64,
}

impl Decoder<'_> {
    pub(super) fn stream(&mut self, label: Label<'_>, layout: Layout) -> Result<Entry, RdbError> {
        let mut stream = Stream { entries: self.entries(layout)?, ..Stream::default() };
        for _ in 0..self.input.count(5)? {
            let (name, group) = self.group(&stream.entries, layout)?;
            if !stream.groups.add(&name, group) {
                return Err(RdbError::Corrupt("Duplicated consumer group name"));
            }
        }
        let stream = Object::Stream(Arc::new(stream));
        Ok(label.object(Kind::Stream, Encoding::Stream, stream))
    }

    fn entries(&mut self, layout: Layout) -> Result<Entries, RdbError> {
        let mut entries = Entries::default();
        for _ in 0..self.input.count(2)? {
            self.input.string_to(&mut self.first)?;
            let master = self.first.as_slice().try_into().map_err(|_| NO_NODE)?;
            let bytes = self.input.string(&mut self.scratch)?;
            match entries.push_node(id_of(master), bytes.into_owned()) {
                Some(Counts::Right) => {}
                Some(Counts::Mended) => self.mender.mend("counts of a node", BAD_NODE)?,
                None => return Err(NO_NODE),
            }
        }
        let len = self.input.length()?;
        entries.last_id = self.id()?;
        entries.entries_added = len;
        if layout >= Layout::V2 {
            // The first ID is asked of the nodes.
            self.id()?;
            entries.max_deleted_id = self.id()?;
            entries.entries_added = self.input.length()?;
        }
        if len != entries.len() as u64 {
            self.mender.mend("length", "Stream length inconsistent with rax entries")?;
        }
        if let Some(last) = entries.last_live_id().filter(|last| *last > entries.last_id) {
            self.mender.mend("last ID", "Stream with an entry beyond its last ID")?;
            entries.last_id = last;
        }
        // More may have been added than is there, not less.
        entries.entries_added = entries.entries_added.max(entries.len() as u64);
        Ok(entries)
    }

    fn group(&mut self, entries: &Entries, layout: Layout) -> Result<(Vec<u8>, Group), RdbError> {
        let mut name = Vec::new();
        self.input.string_to(&mut name)?;
        let last_id = self.id()?;
        let entries_read = match layout {
            Layout::V1 => entries.entries_up_to(last_id),
            _ => Some(self.input.length()?.cast_signed()).filter(|read| *read >= 0),
        };
        let mut group = Group::new(last_id, entries_read);
        let mut pending = self.pending()?;
        for _ in 0..self.input.count(10)? {
            self.consumer(&mut group, &mut pending, layout)?;
        }
        for entry in pending {
            let Some(consumer) = entry.owner else {
                self.mender.mend("pending entries", "Stream CG PEL entry without consumer")?;
                continue;
            };
            let Unowned { id, delivered_ms, deliveries, .. } = entry;
            group.assign(id, Pending { consumer, delivered_ms, deliveries });
        }
        Ok((name, group))
    }

    /// What is pending in a group, by ascending IDs.
    fn pending(&mut self) -> Result<Vec<Unowned>, RdbError> {
        let mut pending: Vec<Unowned> = Vec::new();
        for _ in 0..self.input.count(25)? {
            let id = id_of(&self.input.array()?);
            let delivered_ms = i64::from_le_bytes(self.input.array()?);
            let deliveries = self.input.length()?;
            pending.push(Unowned { id, owner: None, delivered_ms, deliveries });
        }
        if !pending.is_sorted_by_key(|entry| entry.id) {
            pending.sort_unstable_by_key(|entry| entry.id);
        }
        if pending.windows(2).any(|pair| pair[0].id == pair[1].id) {
            return Err(RdbError::Corrupt(
                "Duplicated global PEL entry loading stream consumer group",
            ));
        }
        Ok(pending)
    }

    fn consumer(
        &mut self,
        group: &mut Group,
        pending: &mut [Unowned],
        layout: Layout,
    ) -> Result<(), RdbError> {
        self.input.string_to(&mut self.first)?;
        let seen_ms = i64::from_le_bytes(self.input.array()?);
        let active_ms = match layout {
            Layout::V3 => Some(i64::from_le_bytes(self.input.array()?)).filter(|at| *at != -1),
            _ => Some(seen_ms),
        };
        let (number, is_new) = group.find_or_make(&self.first, seen_ms);
        if !is_new {
            return Err(RdbError::Corrupt("Duplicate stream consumer detected."));
        }
        group.consumer_mut(number).active_ms = active_ms;
        for _ in 0..self.input.count(16)? {
            let id = id_of(&self.input.array()?);
            let place = pending.binary_search_by_key(&id, |entry| entry.id);
            let entry = place.ok().map(|place| &mut pending[place]);
            let Some(entry) = entry.filter(|entry| entry.owner.is_none()) else {
                return Err(RdbError::Corrupt(
                    "Consumer entry not found in group global PEL, or in that of two consumers",
                ));
            };
            entry.owner = Some(number);
        }
        Ok(())
    }

    fn id(&mut self) -> Result<StreamId, RdbError> {
        Ok(StreamId::new(self.input.length()?, self.input.length()?))
    }
}

/// An ID in the form of a radix tree's key.
fn id_of(bytes: &[u8; 16]) -> StreamId {
    let number = u128::from_be_bytes(*bytes);
    StreamId::new((number >> 64) as u64, number as u64)
}
