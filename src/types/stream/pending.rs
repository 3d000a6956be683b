//! Values by entry ID, in order: what a group has delivered, and what of it each consumer has.
//!
//! A counted copy-on-write tree whose leaves are short sorted arrays. A radix tree, as Redis uses,
//! takes several times the memory for IDs that mostly follow each other, and cannot be shared with
//! a snapshot.

use super::StreamId;
use crate::structs::counted_tree::{CountedTree, Keyed, Leaf};

/// A leaf holds so many values at the most.
const LEAF_MAX: usize = 64;
/// A leaf grows by so many at a time.
const LEAF_STEP: usize = 8;

#[derive(Clone, Debug)]
struct Run<T>(Vec<(StreamId, T)>);

impl<T: Copy> Leaf for Run<T> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(StreamId, T)>()
    }
}

impl<T: Copy> Keyed<StreamId> for Run<T> {
    const JOINED_MAX: usize = LEAF_MAX / 2;

    fn key(&self) -> StreamId {
        self.0.last().expect("a leaf in the tree is not empty").0
    }

    fn has_key(&self, key: &StreamId) -> bool {
        self.0.last().is_some_and(|(id, _)| id == key)
    }

    fn absorb(&mut self, next: &Run<T>) {
        self.0.reserve_exact(next.0.len().next_multiple_of(LEAF_STEP));
        self.0.extend_from_slice(&next.0);
    }
}

/// What became of a value that was to be the last one.
enum Appended {
    Added,
    /// There is no room for it.
    Full,
    /// It does not come last.
    NotLast,
}

impl<T: Copy> Run<T> {
    fn append(&mut self, id: StreamId, value: T) -> Appended {
        if self.0.last().is_none_or(|(last, _)| *last >= id) {
            return Appended::NotLast;
        }
        if self.0.len() >= LEAF_MAX {
            return Appended::Full;
        }
        if self.0.len() == self.0.capacity() {
            // It will be full soon.
            let room = self.0.len().max(LEAF_STEP).min(LEAF_MAX - self.0.len());
            self.0.reserve_exact(room);
        }
        self.0.push((id, value));
        Appended::Added
    }

    /// Sets a value; yields the old one, and what had to be split off.
    fn insert(&mut self, id: StreamId, value: T) -> (Option<T>, Option<Run<T>>) {
        let at = match self.0.binary_search_by_key(&id, |(own, _)| *own) {
            Ok(at) => return (Some(std::mem::replace(&mut self.0[at].1, value)), None),
            Err(at) => at,
        };
        if self.0.len() < LEAF_MAX {
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(LEAF_STEP);
            }
            self.0.insert(at, (id, value));
            return (None, None);
        }
        // IDs mostly come in order: leaves that grow at the end are to be full.
        let cut = if at == LEAF_MAX { LEAF_MAX } else { LEAF_MAX / 2 };
        let mut second = Run(Vec::with_capacity(LEAF_MAX - cut + LEAF_STEP));
        second.0.extend(self.0.drain(cut..));
        if at > cut || cut == LEAF_MAX {
            second.0.insert(at - cut, (id, value));
        } else {
            self.0.insert(at, (id, value));
        }
        (None, Some(second))
    }
}

/// Values by ID. Cloning it takes a snapshot.
#[derive(Clone, Debug)]
pub struct IdMap<T: Copy>(CountedTree<Run<T>, StreamId>);

impl<T: Copy> Default for IdMap<T> {
    fn default() -> IdMap<T> {
        IdMap(CountedTree::default())
    }
}

impl<T: Copy> IdMap<T> {
    pub fn len(&self) -> usize {
        self.0.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.bytes()
    }

    pub fn get(&self, id: StreamId) -> Option<T> {
        let (_, leaf) = self.0.search(|last| *last < id);
        let leaf = &leaf?.0;
        let at = leaf.binary_search_by_key(&id, |(own, _)| *own).ok()?;
        Some(leaf[at].1)
    }

    /// Sets a value and yields the old one.
    pub fn insert(&mut self, id: StreamId, value: T) -> Option<T> {
        let appended = self.0.edit_last(|leaf| leaf.append(id, value));
        match appended {
            Some(Appended::Added) => return None,
            Some(Appended::Full) => {
                let mut leaf = Run(Vec::with_capacity(LEAF_STEP));
                leaf.0.push((id, value));
                self.0.push_back(leaf);
                return None;
            }
            Some(Appended::NotLast) | None => {}
        }
        let inserted = self.0.update(|last| *last < id, |leaf| leaf.insert(id, value));
        inserted.unwrap_or_else(|| {
            self.0.push_back(Run(vec![(id, value)]));
            None
        })
    }

    pub fn remove(&mut self, id: StreamId) -> Option<T> {
        let value = self.get(id)?;
        self.0.update(
            |last| *last < id,
            |leaf| {
                if let Ok(at) = leaf.0.binary_search_by_key(&id, |(own, _)| *own) {
                    leaf.0.remove(at);
                }
                ((), None)
            },
        );
        Some(value)
    }

    /// All values from an ID on, in order.
    pub fn from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, T)> {
        let first = self.0.number_where(|last| *last < id);
        let leaves = self.0.leaves(first..self.0.leaf_count());
        leaves.flat_map(|leaf| leaf.0.iter().copied()).skip_while(move |(own, _)| *own < id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (StreamId, T)> {
        self.from(StreamId::MIN)
    }

    pub fn first(&self) -> Option<StreamId> {
        Some(self.0.first()?.0.first()?.0)
    }

    pub fn last(&self) -> Option<StreamId> {
        Some(self.0.last()?.0.last()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;
    use std::collections::BTreeMap;

    #[test]
    fn it_does_as_a_sorted_map() {
        let mut prng = Prng::seeded(7);
        let (mut map, mut model) = (IdMap::default(), BTreeMap::new());
        let mut held = (map.clone(), model.clone());
        for round in 0..6000u64 {
            let id = StreamId::new(prng.below(40), prng.below(20));
            if prng.below(5) < if round / 1500 % 2 == 0 { 4 } else { 1 } {
                assert_eq!(map.insert(id, round), model.insert(id, round));
            } else {
                assert_eq!(map.remove(id), model.remove(&id));
            }
            assert_eq!((map.len(), map.get(id)), (model.len(), model.get(&id).copied()));
            if round % 50 == 0 {
                let expected = model.range(id..).map(|(id, value)| (*id, *value));
                assert!(map.from(id).eq(expected));
                assert_eq!(map.first(), model.keys().next().copied());
                assert_eq!(map.last(), model.keys().next_back().copied());
                assert!(held.0.iter().eq(held.1.iter().map(|(id, value)| (*id, *value))));
                held = (map.clone(), model.clone());
            }
        }
    }
}
