//! A table by name that grows without a pause: one client may listen to millions of channels.
//!
//! A hash table that doubles moves all it holds at once, which takes more than a second for a
//! million names. So a table that becomes large is taken apart into many small ones, which double
//! each at its own time. One table for all sizes was measured (1.2 s for the step to a million) and
//! refused, and so were small tables from the start: most clients listen to a few names, and each
//! client has three of these.
//!
//! The names come from strangers, hence the keyed hasher.
//!
//! Invariant: a name is only ever in the part that its hash chooses.

use hashbrown::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;

/// From so many names on there are parts, and below the other number one table again.
const PARTS_FROM: usize = 8192;
const PARTS_UNTIL: usize = 1024;
const PARTS: usize = 1024;

/// A table with more room than this gives it back when it is nearly empty.
const ROOM_KEPT: usize = 1024;

type Part<V> = HashMap<Rc<[u8]>, V, RandomState>;

pub struct Names<V> {
    hasher: RandomState,
    /// One, or [`PARTS`].
    parts: Vec<Part<V>>,
    len: usize,
}

impl<V> Default for Names<V> {
    fn default() -> Names<V> {
        Names { hasher: RandomState::new(), parts: Vec::new(), len: 0 }
    }
}

impl<V> Names<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many names there is room for.
    pub fn capacity(&self) -> usize {
        self.parts.iter().map(HashMap::capacity).sum()
    }

    fn place(&self, name: &[u8]) -> usize {
        if self.parts.len() <= 1 {
            return 0;
        }
        // The tables themselves go by the lowest and the highest bits.
        let point = (self.hasher.hash_one(name) >> 16) as u32;
        // The last part gets twice as many names as the first: they do not all double at once.
        let place = (1.0 + f64::from(point) / 2f64.powi(32)).log2() * PARTS as f64;
        (place as usize).min(PARTS - 1)
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    pub fn get(&self, name: &[u8]) -> Option<&V> {
        self.parts.get(self.place(name))?.get(name)
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut V> {
        Some(self.find_mut(name)?.1)
    }

    /// The name as it is held, with its value.
    pub fn find_mut(&mut self, name: &[u8]) -> Option<(&Rc<[u8]>, &mut V)> {
        let place = self.place(name);
        self.parts.get_mut(place)?.get_key_value_mut(name)
    }

    /// Adds a name that is not there.
    pub fn insert(&mut self, name: Rc<[u8]>, value: V) {
        if self.parts.is_empty() {
            self.parts.push(HashMap::with_hasher(self.hasher.clone()));
        } else if self.parts.len() == 1 && self.len >= PARTS_FROM {
            self.divide(PARTS);
        }
        let place = self.place(&name);
        let old = self.parts[place].insert(name, value);
        debug_assert!(old.is_none(), "whoever adds a name has looked for it");
        self.len += 1;
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<V> {
        let place = self.place(name);
        let part = self.parts.get_mut(place)?;
        let value = part.remove(name)?;
        self.len -= 1;
        if part.capacity() > ROOM_KEPT && part.len() < part.capacity() / 8 {
            part.shrink_to(part.len() * 2);
        }
        if self.parts.len() > 1 && self.len < PARTS_UNTIL {
            self.divide(1);
        }
        Some(value)
    }

    /// Moves all names into so many parts.
    fn divide(&mut self, count: usize) {
        let part = || HashMap::with_hasher(self.hasher.clone());
        let old = std::mem::replace(&mut self.parts, (0..count).map(|_| part()).collect());
        for (name, value) in old.into_iter().flatten() {
            let place = self.place(&name);
            self.parts[place].insert(name, value);
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Rc<[u8]>, &V)> {
        self.parts.iter().flatten()
    }

    /// In no order.
    pub fn into_entries(self) -> impl Iterator<Item = (Rc<[u8]>, V)> {
        self.parts.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;
    use std::collections::BTreeMap;

    /// It grows into parts and shrinks back, with the same content as a map.
    #[test]
    fn random_names_agree_with_a_map() {
        let mut prng = Prng::seeded(3);
        let (mut names, mut model) = (Names::default(), BTreeMap::new());
        for round in 0..120_000u64 {
            let name = prng.below(12_000).to_string();
            let name = name.as_bytes();
            let grows = round < 50_000;
            if prng.below(20) < if grows { 17 } else { 1 } {
                if !names.contains(name) {
                    names.insert(name.into(), round);
                    model.insert(name.to_vec(), round);
                }
            } else {
                assert_eq!(names.remove(name), model.remove(name));
            }
            assert_eq!(names.len(), model.len());
            assert_eq!(names.get(name), model.get(name));
            if round == 50_000 {
                assert_eq!(names.parts.len(), PARTS);
                let held: BTreeMap<Vec<u8>, u64> =
                    names.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
                assert_eq!(held, model);
            }
        }
        assert_eq!(names.parts.len(), 1);
        assert!(names.capacity() <= 2 * ROOM_KEPT.max(names.len() * 8));
        let held: BTreeMap<Vec<u8>, u64> =
            names.into_entries().map(|(name, value)| (name.to_vec(), value)).collect();
        assert_eq!(held, model);
    }
}
