//! Snapshots written and read back, and bytes by hand for the forms that nobody writes any more.

use super::*;
use crate::keyspace::{Entry, HashKey, Keyspace, NewValue};
use crate::structs::prng::Prng;
use crate::types::Encoding;
use std::ops::ControlFlow;

fn limits() -> Limits {
    Limits::of(&crate::config::Config::default(), HashKey::new([1; 16]))
}

/// All entries of a file.
fn loaded(bytes: &[u8]) -> Result<Vec<Entry>, RdbError> {
    let mut loader = Loader::new(bytes, LoadOptions::new(limits()));
    let mut entries = Vec::new();
    while let Some(record) = loader.next_record()? {
        if let Record::Entry { entry, .. } = record {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn written(dataset: &Dataset, options: &SaveOptions) -> Vec<u8> {
    let mut out = Vec::new();
    write(dataset, options, &mut out, &mut |_| ControlFlow::Continue(())).expect("memory takes it");
    out
}

#[test]
fn strings_come_back() {
    let mut space = Keyspace::new(2, HashKey::new([1; 16]), Prng::seeded(1));
    let values: Vec<Vec<u8>> = (0..2000)
        .map(|number: usize| match number % 4 {
            0 => number.to_string().into_bytes(),
            1 => vec![b'x'; number],
            2 => format!("value {number}").into_bytes(),
            _ => (0..number * 40).map(|i| (i * i >> 3) as u8).collect(),
        })
        .collect();
    for (number, value) in values.iter().enumerate() {
        let key = format!("key {number}").into_bytes();
        let expiry_ms = (number % 3 == 0).then_some(5000 + number as u64);
        let entry = Entry::new(&key, NewValue::Bytes(value), Encoding::of_whole(value), expiry_ms);
        space.insert_loaded(number % 2, space.hash_key().hash(&key), entry);
    }
    let dbs = (0..2).map(|index| (index, space.db(index).snapshot(0))).collect();
    let aux = vec![("redis-bits".into(), b"64".to_vec())];
    let dataset = Dataset { dbs, aux, functions: vec![b"#!lua name=f".to_vec()] };
    for compresses in [false, true] {
        let options = SaveOptions { compresses, ..SaveOptions::default() };
        let bytes = written(&dataset, &options);
        let entries = loaded(&bytes).expect("it was just written");
        assert_eq!(entries.len(), values.len());
        for entry in entries {
            let key = String::from_utf8_lossy(entry.key()).into_owned();
            let number: usize = key[4..].parse().expect("it is a number");
            assert_eq!(entry.string(), Some(&values[number][..]));
            assert_eq!(entry.expiry_ms().is_some(), number % 3 == 0);
            assert_eq!(entry.encoding(), Encoding::of_whole(&values[number]));
        }
        for cut in [0, 8, 9, 20, bytes.len() / 2, bytes.len() - 1] {
            assert!(matches!(loaded(&bytes[..cut]), Err(RdbError::Truncated)), "{cut}");
        }
        let mut flipped = bytes.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        assert!(matches!(loaded(&flipped), Err(RdbError::Checksum { .. })));
    }
}
