//! The trie is a map whatever is done to it, a scan visits everything once, and snapshots stay
//! what they were.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rufous::structs::trie::{HashSecret, Item, ItemHash, Trie};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
struct Entry(Arc<(Vec<u8>, u32)>);

#[derive(Clone, Copy)]
struct Hash(u64);

impl ItemHash for Hash {
    fn of(secret: HashSecret, key: &[u8]) -> Hash {
        Hash(secret.sip13(key))
    }

    fn bits(self) -> u64 {
        self.0
    }
}

impl Item for Entry {
    type Hash = Hash;

    fn key(&self) -> &[u8] {
        &self.0.0
    }

    fn deadline_ms(&self) -> u64 {
        u64::MAX
    }

    fn prefetch(&self) {}
}

#[derive(Arbitrary, Debug)]
enum Change {
    Insert(u16, u32),
    InsertRange(u16, u16),
    Remove(u16),
    RemoveRange(u16, u16),
    Edit(u16, u32),
    Scan(u8),
    Snapshot,
}

type Model = BTreeMap<Vec<u8>, u32>;

fn key_of(number: u16) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn insert(trie: &mut Trie<Entry>, model: &mut Model, number: u16, value: u32) {
    let key = key_of(number);
    let old = trie.insert(trie.hash(&key), Entry(Arc::new((key.clone(), value))));
    assert_eq!(old.map(|entry| entry.0.1), model.insert(key, value));
}

fn remove(trie: &mut Trie<Entry>, model: &mut Model, number: u16) {
    let key = key_of(number);
    let old = trie.remove(trie.hash(&key), &key);
    assert_eq!(old.map(|entry| entry.0.1), model.remove(&key));
}

fn change(trie: &mut Trie<Entry>, model: &mut Model, change: &Change) {
    match change {
        Change::Insert(number, value) => insert(trie, model, *number, *value),
        Change::InsertRange(start, count) => {
            (0..count % 4096).for_each(|n| insert(trie, model, start.wrapping_add(n), n.into()));
        }
        Change::Remove(number) => remove(trie, model, *number),
        Change::RemoveRange(start, count) => {
            (0..count % 4096).for_each(|n| remove(trie, model, start.wrapping_add(n)));
        }
        Change::Edit(number, value) => {
            let key = key_of(*number);
            let hash = trie.hash(&key);
            if let Some(entry) = trie.get_mut(hash, &key) {
                Arc::make_mut(&mut entry.0).1 = *value;
                model.insert(key, *value);
            }
        }
        Change::Scan(budget) => {
            let mut found = Vec::new();
            let mut position = 0;
            loop {
                let visit = |entry: &Entry| found.push(entry.key().to_vec());
                position = trie.scan(position, usize::from(*budget), visit);
                if position == 0 {
                    break;
                }
            }
            found.sort_unstable();
            assert!(found.iter().eq(model.keys()));
        }
        Change::Snapshot => {}
    }
}

fn assert_same(trie: &Trie<Entry>, model: &Model) {
    assert_eq!(trie.len(), model.len());
    let found: BTreeMap<Vec<u8>, u32> =
        trie.iter().map(|entry| (entry.key().to_vec(), entry.0.1)).collect();
    assert_eq!(&found, model);
    assert!(model.keys().all(|key| trie.get(trie.hash(key), key).is_some()));
}

fuzz_target!(|input: ([u8; 16], Vec<Change>)| {
    let (secret, changes) = input;
    let (mut trie, mut model) = (Trie::new(HashSecret::new(secret)), Model::new());
    let mut snapshots = Vec::new();
    for step in changes.iter().take(200) {
        change(&mut trie, &mut model, step);
        if matches!(step, Change::Snapshot) && snapshots.len() < 8 {
            snapshots.push((trie.clone(), model.clone()));
        }
    }
    assert_same(&trie, &model);
    for (trie, model) in snapshots {
        assert_same(&trie, &model);
    }
});
