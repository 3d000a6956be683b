//! The entries of a stream: nodes in the order of their IDs, in a counted copy-on-write tree.
//!
//! A node's key is the ID of its last entry, so that one descent leads to the node in which an ID
//! is or a range begins. Elements are live entries: how many there are, and which nodes a trimming
//! to a length takes, is read off the tree. Redis keeps the first ID and the length beside the
//! nodes; here both are asked of them, so they cannot differ.
//!
//! Invariants: no node is without live entries; no entry's ID is beyond `last_id`.

use super::node::{Counts, EntryRef, Node, NodeEntries, NodeLimits};
use super::{NewId, StreamId};
use crate::structs::counted_tree::{CountedTree, Leaves};
use crate::structs::listpack::TooLong;

/// The entries of a stream and what has happened to them. Cloning it takes a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub(super) nodes: CountedTree<Node, StreamId>,
    pub last_id: StreamId,
    /// The highest ID that was deleted, not trimmed.
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.nodes.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn node_count(&self) -> usize {
        self.nodes.leaf_count()
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.nodes.shared_share()
    }

    pub fn memory_bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// The nodes in order, for those who write them out.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.leaves(0..self.nodes.leaf_count())
    }

    /// Adds a node of foreign bytes behind the others; `None` if it is none or not in order. One
    /// without live entries is passed over.
    pub fn push_node(&mut self, master: StreamId, bytes: Vec<u8>) -> Option<Counts> {
        let (node, counts) = Node::of_listpack(master, bytes)?;
        if self.nodes.last().is_some_and(|last| node.first() <= last.last()) {
            return None;
        }
        if node.live() > 0 {
            self.nodes.push_back(node);
        }
        Some(counts)
    }

    /// The ID of an entry to be added; `None` if it would not be beyond the last one.
    pub fn next_id(&self, wanted: NewId, now_ms: u64) -> Option<StreamId> {
        let id = match wanted {
            NewId::Auto if now_ms > self.last_id.ms => StreamId::new(now_ms, 0),
            NewId::Auto => self.last_id.next()?,
            NewId::AutoSequence(ms) if ms == self.last_id.ms => {
                StreamId::new(ms, self.last_id.seq.checked_add(1)?)
            }
            NewId::AutoSequence(ms) => StreamId::new(ms, 0),
            NewId::Given(id) => id,
        };
        (id > self.last_id).then_some(id)
    }

    /// Adds an entry, of which the fields and values take turns, with an ID that
    /// [`Log::next_id`] allows.
    pub fn append(
        &mut self,
        id: StreamId,
        pairs: &[&[u8]],
        limits: NodeLimits,
    ) -> Result<(), TooLong> {
        let bytes = pairs.iter().map(|text| text.len()).fold(0, usize::saturating_add);
        let appended = self.nodes.edit_last(|node| {
            if node.has_room(bytes, limits) {
                return Ok(node.append(id, pairs));
            }
            node.shrink();
            Err(node.next_capacity(limits))
        });
        match appended {
            Some(Ok(result)) => result?,
            Some(Err(capacity)) => self.nodes.push_back(Node::new(id, pairs, capacity)?),
            None => self.nodes.push_back(Node::new(id, pairs, 0)?),
        }
        self.last_id = id;
        self.entries_added = self.entries_added.wrapping_add(1);
        Ok(())
    }

    /// The live entries of a range of IDs, both ends included, from both ends.
    pub fn range(&self, start: StreamId, end: StreamId) -> EntryRange<'_> {
        let first = self.nodes.number_where(|last| *last < start);
        let beyond = match self.nodes.number_where(|last| *last < end) {
            last if start <= end => (last + 1).min(self.nodes.leaf_count()),
            _ => first,
        };
        EntryRange {
            nodes: self.nodes.leaves(first..beyond.max(first)),
            front: None,
            back: None,
            start,
            end,
        }
    }

    /// About how many entries a range has: so many or a node or two more.
    pub fn len_within(&self, start: StreamId, end: StreamId) -> usize {
        let (before, _) = self.nodes.search(|last| *last < start);
        let (before_last, last) = self.nodes.search(|last| *last < end);
        (before_last + last.map_or(0, Node::live)).saturating_sub(before)
    }

    pub fn all(&self) -> EntryRange<'_> {
        self.range(StreamId::MIN, StreamId::MAX)
    }

    pub fn get(&self, id: StreamId) -> Option<EntryRef<'_>> {
        let (_, node) = self.nodes.search(|last| *last < id);
        let entry = node?.entries().find(|entry| entry.id >= id);
        entry.filter(|entry| entry.id == id)
    }

    /// The ID of the first live entry.
    pub fn first_id(&self) -> Option<StreamId> {
        self.nodes.first()?.entries().next().map(|entry| entry.id)
    }

    /// The ID of the first entry that is held, deleted or not.
    pub fn first_held_id(&self) -> Option<StreamId> {
        self.nodes.first().map(Node::first)
    }

    /// The ID of the last live entry.
    pub fn last_live_id(&self) -> Option<StreamId> {
        self.nodes.last()?.entries().next_back().map(|entry| entry.id)
    }

    /// Deletes an entry; false if it is not there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        // A look first, so that a snapshot's nodes are not copied for nothing.
        if self.get(id).is_none() {
            return false;
        }
        self.remove(id);
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    /// Takes away an entry that is there, without leaving a trace of its ID.
    pub(super) fn remove(&mut self, id: StreamId) {
        self.nodes.update(|last| *last < id, |node| (node.delete(id), None));
    }

    /// Whether an entry at or after an ID was deleted, as far as the highest deleted one tells.
    pub fn has_gap_from(&self, id: StreamId) -> bool {
        self.max_deleted_id != StreamId::MIN
            && id <= self.max_deleted_id
            && self.first_id().is_some_and(|first| first <= self.max_deleted_id)
    }

    /// How many entries were ever added up to this one, if that can be known.
    pub fn entries_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added.cast_signed();
        if added == 0 || id == self.last_id {
            return Some(added);
        }
        let Some(first) = self.first_id() else {
            return (id < self.last_id).then_some(added);
        };
        let has_gaps = self.max_deleted_id != StreamId::MIN && self.max_deleted_id >= first;
        if id > self.last_id || has_gaps {
            return None;
        }
        let before_first = added.wrapping_sub_unsigned(self.len() as u64);
        match id.cmp(&first) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// The live entries of a range, from both ends.
pub struct EntryRange<'a> {
    nodes: Leaves<'a, Node, StreamId>,
    front: Option<NodeEntries<'a>>,
    back: Option<NodeEntries<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for EntryRange<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        loop {
            let next = match &mut self.front {
                Some(entries) => entries.next(),
                None => None,
            };
            match next {
                Some(entry) if entry.id < self.start => {}
                Some(entry) => return (entry.id <= self.end).then_some(entry),
                None => match self.nodes.next() {
                    Some(node) => self.front = Some(node.entries()),
                    // What the other end has begun is the last there is.
                    None => self.front = Some(self.back.take()?),
                },
            }
        }
    }
}

impl<'a> DoubleEndedIterator for EntryRange<'a> {
    fn next_back(&mut self) -> Option<EntryRef<'a>> {
        loop {
            let next = match &mut self.back {
                Some(entries) => entries.next_back(),
                None => None,
            };
            match next {
                Some(entry) if entry.id > self.end => {}
                Some(entry) => return (entry.id >= self.start).then_some(entry),
                None => match self.nodes.next_back() {
                    Some(node) => self.back = Some(node.entries()),
                    None => self.back = Some(self.front.take()?),
                },
            }
        }
    }
}
