//! Snapshots written and read back, and bytes by hand for the forms that nobody writes any more.

mod mends;
mod mutations;
mod old_forms;
mod passes;

use super::*;
use crate::keyspace::{Entry, HashSecret, KeyHasher, Keyspace, NewValue};
use crate::structs::prng::Prng;
use crate::types::{Encoding, Object};
use std::ops::ControlFlow;

fn limits() -> Limits {
    Limits::of(&crate::config::Config::default(), HashSecret::new([1; 16]))
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
    let mut space = Keyspace::new(2, HashSecret::new([1; 16]), Prng::seeded(1));
    let values: Vec<Vec<u8>> = (0..2000)
        .map(|number: usize| match number % 4 {
            0 => number.to_string().into_bytes(),
            1 => vec![b'x'; number],
            2 => format!("value {number}").into_bytes(),
            _ => (0..number * 40).map(|i| ((i * i) >> 3) as u8).collect(),
        })
        .collect();
    for (number, value) in values.iter().enumerate() {
        let key = format!("key {number}").into_bytes();
        let expiry_ms = number.is_multiple_of(3).then_some(5000 + number as u64);
        let entry = Entry::new(&key, NewValue::Bytes(value), Encoding::of_whole(value), expiry_ms);
        space.insert_loaded(number % 2, space.key(&key).hash(), entry);
    }
    let dbs = (0..2).map(|index| (index, space.db(index).snapshot(0))).collect();
    let aux = vec![("redis-bits".into(), b"64".to_vec())];
    let dataset = Dataset { dbs, aux, functions: vec![b"#!lua name=f".to_vec()], staged: None };
    for compresses in [false, true] {
        let options = SaveOptions { compresses, ..SaveOptions::default() };
        let bytes = written(&dataset, &options);
        let entries = loaded(&bytes).expect("it was just written");
        assert_eq!(entries.len(), values.len());
        for entry in entries {
            let key = String::from_utf8_lossy(entry.key()).into_owned();
            let number: usize = key[4..].parse().expect("it is a number");
            assert_eq!(entry.string(), Some(&values[number][..]));
            assert_eq!(entry.expiry_ms().is_some(), number.is_multiple_of(3));
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

/// The payload of a value: its form and its bytes, with what a version 11 puts behind them.
fn payload(number: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = [&[number], value, &11u16.to_le_bytes()].concat();
    payload.extend_from_slice(&crate::persist::crc64::of(&payload).to_le_bytes());
    payload
}

/// What a payload gives a key.
fn restored(number: u8, value: &[u8]) -> Result<Entry, RdbError> {
    let payload = payload(number, value);
    restore(verify(&payload, false).expect("it is ours"), b"key", None, &limits())
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut sink = Sink::in_memory(false);
    sink.string(text);
    sink.into_bytes()
}

#[test]
fn what_follows_a_value_must_be_right() {
    let good = payload(form::STRING, &string(b"value"));
    assert!(verify(&good, false).is_some());
    assert!(verify(&[], true).is_none());
    assert!(verify(&good[..9], true).is_none());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(verify(&bad, false).is_none(), "{at}");
    }
    let mut newer = good[..good.len() - 10].to_vec();
    newer.extend_from_slice(&[VERSION_MAX as u8 + 1, 0]);
    newer.extend_from_slice(&[0; 8]);
    assert!(verify(&newer, true).is_none());
    // Bytes after the value are none of it.
    assert!(restored(form::STRING, &[string(b"value"), vec![0]].concat()).is_err());
}

#[test]
fn heads_and_opcodes_are_looked_at() {
    let fails = |bytes: &[u8]| loaded(bytes).err().map(|error| error.to_string());
    let table: [(&[u8], &str); 10] = [
        (b"REDIT0011\xff", "Wrong signature trying to load DB from file"),
        (b"REDIS0000\xff", "Can't handle RDB format version 0"),
        (b"REDIS0013\xff", "Can't handle RDB format version 13"),
        (b"VALKEY011\xff", "Can't handle RDB format version 11"),
        (b"VALKEY081\xff", "Can't handle RDB format version 81"),
        (b"REDIS0011\xf6", "Pre-release function format not supported"),
        (b"REDIS0011\xf3", "Invalid object type: 243"),
        (b"REDIS0011\x08", "Invalid object type: 8"),
        (b"REDIS0011\xf4\x80\x80\x00\x00\x00\x00\x00", "Slot info of a slot that no cluster has"),
        (
            b"REDIS0011\x07\x01k\x81\x00\x00\x00\x00\x00\x00\x00\x01\x00",
            "The RDB file contains module data I can't load: no matching module type 'AAAAAAAAA'",
        ),
    ];
    for (bytes, text) in table {
        assert_eq!(fails(bytes).as_deref(), Some(text), "{}", bytes.escape_ascii());
    }
    assert!(loaded(b"REDIS0001\xff").is_ok());
    assert!(loaded(b"REDIS0004\xff").is_ok(), "there is no checksum yet");
    assert!(loaded(b"REDIS0005\xff\0\0\0\0\0\0\0\0").is_ok(), "a checksum of 0 is none");
    assert!(loaded(b"VALKEY080\xff\0\0\0\0\0\0\0\0").is_ok());
}

#[test]
fn what_stands_before_a_key_belongs_to_it() {
    let file = [
        &b"REDIS0009\xfe\x03\xfb\x02\x01"[..],
        b"\xfd\x01\x00\x00\x00\x00\x01a\x01x",
        b"\xf8\x05\x00\x01b\x01y",
        b"\xfc\x88\x13\x00\x00\x00\x00\x00\x00\xf9\x07\x00\x01c\x01z",
        b"\xff\0\0\0\0\0\0\0\0rest",
    ]
    .concat();
    let mut options = LoadOptions::new(limits());
    options.now_ms = 2000;
    options.drops_expired = true;
    options.access.set_now(100_000);
    let mut loader = Loader::new(&file[..], options);
    let mut seen = Vec::new();
    while let Some(record) = loader.next_record().expect("it is fine") {
        match record {
            Record::Entry { entry, hash } => {
                assert_eq!(hash, KeyHasher::new(HashSecret::new([1; 16])).hash(entry.key()));
                seen.push((entry.key().to_vec(), entry.expiry_ms(), entry.clock()));
            }
            Record::SelectDb(db) => assert_eq!(db, 3),
            Record::Resize { keys, expiring } => assert_eq!((keys, expiring), (2, 1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(b"b".to_vec(), None, 95), (b"c".to_vec(), Some(5000), 100)]);
    assert_eq!(loader.counts(), Counts { loaded: 2, expiring: 2, expired: 1, empty: 0, mended: 0 });
    assert!(loader.lacks_checksum());
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut loader.into_rest(), &mut rest).expect("it is memory");
    assert_eq!(rest, b"rest");
}

#[test]
fn a_reader_of_few_bytes_at_a_time_is_enough() {
    struct Trickle<'a>(&'a [u8]);
    impl std::io::Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let len = into.len().min(3).min(self.0.len());
            let (now, later) = self.0.split_at(len);
            into[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }
    let value: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let mut file = b"REDIS0011\x00\x03key".to_vec();
    file.extend(string(&value));
    file.push(0xff);
    let sum = crate::persist::crc64::of(&file);
    file.extend_from_slice(&sum.to_le_bytes());
    for total_bytes in [None, Some(file.len() as u64)] {
        let options = LoadOptions { total_bytes, ..LoadOptions::new(limits()) };
        let mut loader = Loader::new(Trickle(&file), options);
        let Ok(Some(Record::Entry { entry, .. })) = loader.next_record() else { panic!() };
        assert_eq!(entry.string(), Some(&value[..]));
        assert!(matches!(loader.next_record(), Ok(None)));
        assert_eq!(loader.position(), file.len() as u64);
    }
}

#[test]
fn no_declared_length_reserves_memory() {
    // A string, a compressed one, and counts of elements, all of more than there is.
    let huge = b"\x81\x00\x00\x00\xff\xff\xff\xff\xff";
    for number in [form::STRING, form::LIST, form::SET, form::ZSET_2, form::HASH, form::STREAM_3] {
        assert!(restored(number, huge).is_err());
        let mut file = b"REDIS0011".to_vec();
        file.extend_from_slice(&[number, 1, b'k']);
        file.extend_from_slice(huge);
        file.extend_from_slice(b"some bytes");
        // Without a known length too.
        assert!(matches!(loaded(&file), Err(RdbError::Truncated | RdbError::Corrupt(_))));
    }
    let compressed = b"\xc3\x05\x81\x00\x00\x00\xff\xff\xff\xff\xff\x00a\xe0\xff\x00";
    assert!(restored(form::STRING, compressed).is_err());
}
