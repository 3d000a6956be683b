//! Who has read which key since it last changed.
//!
//! Keys are kept by their bytes. Their hashes would take less, but a key that is forgotten for lack
//! of room must be named to those who have read it, and two keys of one hash would be one. Rows lie
//! side by side, found by a table of their places, so that any of them can be drawn at random in
//! constant time; the last row moves to the place of the one that goes. A row's readers are sorted:
//! reading a key again that a thousand others have read costs ten comparisons.

use crate::engine::ClientId;
use crate::keyspace::{Key, KeyHash};
use crate::structs::prng::Prng;
use crate::structs::trie::ItemHash as _;
use hashbrown::HashTable;

struct Row {
    hash: KeyHash,
    key: Box<[u8]>,
    /// Sorted, without duplicates, never empty.
    readers: Vec<ClientId>,
}

impl Row {
    /// What it takes, beside what the allocator adds.
    fn bytes(&self) -> usize {
        size_of::<Row>() + self.key.len() + self.readers.len() * size_of::<ClientId>()
    }
}

#[derive(Default)]
pub struct Readers {
    rows: Vec<Row>,
    places: HashTable<usize>,
    items: usize,
    bytes: usize,
}

impl Readers {
    /// The number of keys.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of pairs of a key and a reader.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The memory of all rows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clear(&mut self) {
        *self = Readers::default();
    }

    pub fn add(&mut self, key: &Key<'_>, reader: ClientId) {
        let rows = &mut self.rows;
        if let Some(place) =
            self.places.find(key.hash().bits(), |place| *rows[*place].key == *key.bytes)
        {
            let readers = &mut rows[*place].readers;
            if let Err(at) = readers.binary_search(&reader) {
                readers.insert(at, reader);
                self.items += 1;
                self.bytes += size_of::<ClientId>();
            }
            return;
        }
        let place = rows.len();
        let row = Row { hash: key.hash(), key: key.bytes.into(), readers: vec![reader] };
        self.bytes += row.bytes();
        rows.push(row);
        self.places.insert_unique(key.hash().bits(), place, |place| rows[*place].hash.bits());
        self.items += 1;
    }

    /// Forgets a key; who has read it.
    pub fn take(&mut self, key: &Key<'_>) -> Option<Vec<ClientId>> {
        let is_it = |place: &usize| *self.rows[*place].key == *key.bytes;
        let place = *self.places.find(key.hash().bits(), is_it)?;
        Some(self.remove(place).readers)
    }

    /// Forgets any key.
    pub fn take_random(&mut self, prng: &mut Prng) -> Option<(Box<[u8]>, Vec<ClientId>)> {
        if self.rows.is_empty() {
            return None;
        }
        let place = prng.below(self.rows.len() as u64) as usize;
        let row = self.remove(place);
        Some((row.key, row.readers))
    }

    /// Forgets readers who are gone, and keys that nobody else has read, in `count` rows before
    /// `end`; where those begin that were not looked at.
    pub fn forget_gone(
        &mut self,
        end: usize,
        count: usize,
        is_there: impl Fn(ClientId) -> bool,
    ) -> usize {
        let end = end.min(self.rows.len());
        let start = end.saturating_sub(count);
        // From the last to the first: the row that takes a removed one's place was looked at.
        for place in (start..end).rev() {
            let readers = &mut self.rows[place].readers;
            let before = readers.len();
            readers.retain(|reader| is_there(*reader));
            if readers.is_empty() {
                // What goes counts as it is.
                self.items -= before;
                self.bytes -= before * size_of::<ClientId>();
                self.remove(place);
            } else if readers.len() < before {
                let gone = before - readers.len();
                readers.shrink_to_fit();
                self.items -= gone;
                self.bytes -= gone * size_of::<ClientId>();
            }
        }
        start
    }

    fn remove(&mut self, place: usize) -> Row {
        let hash = self.rows[place].hash;
        let Ok(entry) = self.places.find_entry(hash.bits(), |other| *other == place) else {
            unreachable!("each row has its place");
        };
        entry.remove();
        let row = self.rows.swap_remove(place);
        self.items -= row.readers.len();
        self.bytes -= row.bytes();
        // The last row has moved here, unless it was the one.
        if let Some(moved) = self.rows.get(place) {
            let old = self.rows.len();
            let found = self.places.find_mut(moved.hash.bits(), |other| *other == old);
            *found.expect("each row has its place") = place;
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Clients, Peer, Session};
    use std::collections::{BTreeMap, BTreeSet};

    /// Whatever is read and forgotten, a map of sets says the same.
    #[test]
    fn random_reads_agree_with_a_map_of_sets() {
        let mut prng = Prng::seeded(5);
        let mut clients = Clients::default();
        let ids: Vec<ClientId> =
            (0..6).map(|_| clients.add(|id| Session::new(id, Peer::internal(), 0))).collect();
        let mut readers = Readers::default();
        let mut model: BTreeMap<Vec<u8>, BTreeSet<ClientId>> = BTreeMap::new();
        for _ in 0..5000 {
            let key = vec![b'a' + prng.below(20) as u8];
            // Few hashes, so that keys share them.
            let hash = KeyHash::poor(u64::from(key[0] % 7));
            match prng.below(9) {
                8 => {
                    let gone = ids[prng.below(6) as usize];
                    let mut end = readers.len();
                    while end > 0 {
                        let count = 1 + prng.below(5) as usize;
                        end = readers.forget_gone(end, count, |reader| reader != gone);
                    }
                    model.values_mut().for_each(|readers| readers.retain(|id| *id != gone));
                    model.retain(|_, readers| !readers.is_empty());
                }
                0 => {
                    let taken = readers.take(&Key::hashed(&key, hash)).map(BTreeSet::from_iter);
                    assert_eq!(taken, model.remove(&key));
                }
                1 => {
                    if let Some((key, taken)) = readers.take_random(&mut prng) {
                        assert_eq!(model.remove(&*key), Some(taken.into_iter().collect()));
                    }
                }
                _ => {
                    let reader = ids[prng.below(6) as usize];
                    readers.add(&Key::hashed(&key, hash), reader);
                    model.entry(key).or_default().insert(reader);
                }
            }
            assert_eq!(readers.len(), model.len());
            assert_eq!(readers.items(), model.values().map(BTreeSet::len).sum::<usize>());
            assert_eq!(readers.bytes(), readers.rows.iter().map(Row::bytes).sum::<usize>());
        }
    }
}
