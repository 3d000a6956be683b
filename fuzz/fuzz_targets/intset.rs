//! Bytes that pass the check are safe to read and to change, and changes do what they do to a set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::structs::intset::{self, Intset};
use std::collections::BTreeSet;

fuzz_target!(|input: (Option<u8>, Vec<u8>, Vec<(bool, u8, i64)>)| {
    let (width, mut bytes, changes) = input;
    if let Some(width) = width
        && bytes.len() >= 8
    {
        // A header that fits, so that the integers are reached.
        let width = [2u32, 4, 8][usize::from(width) % 3];
        let count = (bytes.len() - 8) as u32 / width;
        bytes.truncate(8 + (count * width) as usize);
        bytes[..4].copy_from_slice(&width.to_le_bytes());
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
    }
    if intset::validate(&bytes, false) {
        assert_eq!(Intset::trusted(&bytes).iter().count(), Intset::trusted(&bytes).len());
    }
    if !intset::validate(&bytes, true) {
        bytes = intset::new_empty();
    }
    let mut model: BTreeSet<i64> = Intset::trusted(&bytes).iter().collect();
    for (adds, shift, value) in changes {
        let value = value >> (shift % 64);
        if adds {
            assert_eq!(intset::add(&mut bytes, value), model.insert(value));
        } else {
            assert_eq!(intset::remove(&mut bytes, value), model.remove(&value));
        }
        assert!(model.is_empty() || intset::validate(&bytes, true));
        let view = Intset::trusted(&bytes);
        assert!(view.iter().eq(model.iter().copied()));
        assert_eq!(view.contains(value), model.contains(&value));
    }
});
