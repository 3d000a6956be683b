//! Entries against a plain struct, seeded, with clones held alive that must not change; and a trie
//! of them against a map.

use std::collections::BTreeMap;

use super::*;
use crate::structs::trie::{HashSecret, Slot, Trie};
use crate::types::Encoding::{Embstr, Int, Raw};

/// The plain form of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    key: Vec<u8>,
    value: Vec<u8>,
    encoding: Encoding,
    expiry_ms: Option<u64>,
    clock: u32,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Bytes of a length that is often close to a border of some kind.
    fn bytes(&mut self) -> Vec<u8> {
        const BORDERS: [usize; 8] = [0, 6, 22, 38, 255, 1023, 1024, 3000];
        let len = match self.below(3) {
            0 => BORDERS[self.below(BORDERS.len())] + self.below(3),
            1 => self.below(64),
            _ => self.below(1500),
        };
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn expiry(&mut self) -> Option<u64> {
        (self.below(2) == 0).then(|| self.next())
    }
}

fn plain(entry: &Entry) -> Plain {
    Plain {
        key: entry.key().to_vec(),
        value: entry.string().expect("a string").to_vec(),
        encoding: entry.encoding(),
        expiry_ms: entry.expiry_ms(),
        clock: entry.clock(),
    }
}

fn new_value<'a>(random: &mut Random, bytes: &'a [u8]) -> NewValue<'a> {
    let shared = Arc::new(bytes.to_vec());
    match random.below(3) {
        0 => NewValue::Bytes(bytes),
        1 => NewValue::Shared(shared),
        _ => NewValue::Object(Kind::String, Object::Bytes(shared)),
    }
}

/// One random change, to an entry and to its plain form.
fn change(entry: &mut Entry, model: &mut Plain, random: &mut Random) {
    let bytes = random.bytes();
    match random.below(9) {
        0 => {
            model.expiry_ms = random.expiry();
            model.encoding = Embstr;
            model.value.clone_from(&bytes);
            entry.set(new_value(random, &bytes), Embstr, model.expiry_ms);
        }
        1 => {
            model.encoding = Int;
            model.value.clone_from(&bytes);
            entry.set_value(new_value(random, &bytes), Int);
        }
        2 => {
            model.expiry_ms = random.expiry();
            entry.set_expiry(model.expiry_ms);
        }
        3 => {
            model.encoding = Raw;
            model.value.extend_from_slice(&bytes);
            assert_eq!(entry.append(&bytes), Some(model.value.len()));
        }
        4 => {
            let offset = random.below(1200);
            model.encoding = Raw;
            model.value.resize(model.value.len().max(offset + bytes.len()), 0);
            model.value[offset..offset + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(entry.set_range(offset, &bytes), Some(model.value.len()));
        }
        5 if !model.value.is_empty() => {
            let at = random.below(model.value.len());
            model.value[at] ^= 1;
            entry.string_mut().expect("a string")[at] ^= 1;
        }
        6 => {
            model.expiry_ms = random.expiry();
            model.key = bytes;
            *entry = entry.with_key(&model.key, model.expiry_ms);
        }
        7 => {
            // A clock written through one reference shows through all; each is checked against
            // its own model, so it is written only when there is one.
            if entry.is_unique() {
                model.clock = random.next() as u32;
                entry.set_clock(model.clock);
            }
        }
        _ => assert!(entry.object().is_none() || entry.object_mut().is_some()),
    }
}

#[test]
fn changes_agree_with_a_plain_struct_and_spare_what_is_shared() {
    let rounds = if cfg!(miri) { 2 } else { 60 };
    for seed in 1..=rounds {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut entry = Entry::new(b"key", NewValue::Bytes(b"value"), Embstr, None);
        let mut model = plain(&entry);
        let mut held: Vec<(Entry, Plain)> = Vec::new();
        for _ in 0..300 {
            change(&mut entry, &mut model, &mut random);
            assert_eq!(plain(&entry), model);
            assert_eq!(entry.kind(), Kind::String);
            assert_eq!(entry.object().is_some(), entry.shared_string().is_some());
            assert!(entry.memory_bytes() >= 10 + model.key.len() + model.value.len());
            if random.below(3) == 0 {
                held.push((entry.clone(), model.clone()));
            }
            if held.len() > 8 {
                let (then, model) = held.swap_remove(random.below(8));
                assert_eq!(plain(&then), model);
            }
            // A held entry may be written too, without any effect on the others.
            if random.below(4) == 0
                && let Some((then, model)) = held.last_mut()
            {
                change(then, model, &mut random);
            }
        }
        assert!(held.iter().all(|(then, model)| plain(then) == *model));
    }
}

#[test]
fn small_strings_take_one_small_allocation() {
    let bytes = |key: usize, value: usize, expiry_ms: Option<u64>| {
        let value = vec![b'v'; value];
        Entry::new(&vec![b'k'; key], NewValue::Bytes(&value), Raw, expiry_ms).memory_bytes()
    };
    assert_eq!(bytes(16, 3, None), 32);
    assert_eq!(bytes(16, 3, Some(1)), 48);
    assert_eq!(bytes(0, 0, None), 16);
    assert_eq!(bytes(16, 6, None), 32);
    assert_eq!(bytes(16, 7, None), 48);
    assert_eq!(bytes(300, 1024, None), 1536);
}

#[test]
fn an_overwrite_of_the_same_class_stays_in_place() {
    let mut entry = Entry::new(b"0123456789abcdef", NewValue::Bytes(b"xxx"), Embstr, None);
    let address = entry.0;
    entry.set_string(b"yyyyyy", Embstr);
    assert_eq!((entry.string(), entry.0), (Some(&b"yyyyyy"[..]), address));
    let clone = entry.clone();
    entry.set_string(b"z", Embstr);
    assert_ne!(entry.0, address);
    assert_eq!(clone.string(), Some(&b"yyyyyy"[..]));
}

#[test]
fn more_references_than_the_count_holds_are_copies() {
    let entry = Entry::new(b"k", NewValue::Bytes(b"v"), Embstr, Some(7));
    let clones: Vec<Entry> = (0..70_000).map(|_| entry.clone()).collect();
    assert!(clones.iter().all(|clone| plain(clone) == plain(&entry)));
    assert!(clones.iter().any(|clone| clone.0 != entry.0));
    drop(clones);
    assert!(entry.is_unique());
}

#[test]
fn long_strings_are_shared_and_grow_with_room_to_spare() {
    let mut entry = Entry::new(b"k", NewValue::Bytes(&[b'v'; INLINE_MAX]), Raw, None);
    assert!(entry.shared_string().is_none());
    entry.append(b"w");
    let capacity = entry.shared_string().expect("long").capacity();
    assert!(capacity > 2 * INLINE_MAX);
    for _ in 0..INLINE_MAX {
        entry.append(b"w");
    }
    assert_eq!(entry.shared_string().expect("long").capacity(), capacity);
    let reply = entry.shared_string().expect("long").clone();
    entry.append(b"x");
    assert_eq!(reply.len() + 1, entry.string().expect("a string").len());
}

#[test]
fn clones_may_be_dropped_on_other_threads() {
    let entry = Entry::new(b"key", NewValue::Bytes(&[1; 2000]), Raw, Some(3));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let clones: Vec<Entry> = (0..100).map(|_| entry.clone()).collect();
            scope.spawn(move || {
                for mut clone in clones {
                    clone.set_clock(9);
                    clone.append(b"more");
                    assert_eq!(clone.string().map(<[u8]>::len), Some(2004));
                }
            });
        }
    });
    assert_eq!(entry.string(), Some(&[1; 2000][..]));
    assert!(entry.is_unique());
}

/// A trie of entries against a map, with snapshots that must keep showing what was there.
#[test]
fn a_trie_of_entries_agrees_with_a_map() {
    let mut random = Random(77);
    let mut trie = Trie::new(HashSecret::new([7; 16]));
    let mut model: BTreeMap<Vec<u8>, Plain> = BTreeMap::new();
    let mut held = Vec::new();
    let steps = if cfg!(miri) { 500 } else { 30_000 };
    for step in 0..steps {
        let key = format!("key:{}", random.below(1_000)).into_bytes();
        let hash = trie.hash(&key);
        match (random.below(4), trie.slot(hash, &key)) {
            (0, Slot::Occupied(_)) => {
                let removed = trie.remove(hash, &key).expect("it was just there");
                assert_eq!(Some(plain(&removed)), model.remove(&key));
            }
            (_, Slot::Occupied(entry)) => {
                let bytes = random.bytes();
                let model = model.get_mut(&key).expect("the trie has it");
                model.value.clone_from(&bytes);
                model.encoding = Raw;
                entry.set_string(&bytes, Raw);
            }
            (_, Slot::Vacant(place)) => {
                let bytes = random.bytes();
                let expiry_ms = random.expiry();
                let new = Entry::new(&key, NewValue::Bytes(&bytes), Embstr, expiry_ms);
                model.insert(key, plain(place.insert(new)));
            }
        }
        if step % (steps / 10) == 0 {
            held.push((trie.clone(), model.clone()));
        }
    }
    held.push((trie, model));
    for (trie, model) in held {
        assert_eq!(trie.len(), model.len());
        assert!(trie.iter().all(|entry| model.get(entry.key()) == Some(&plain(entry))));
    }
}
