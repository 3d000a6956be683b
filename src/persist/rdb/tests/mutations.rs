//! Payloads and files of all forms, damaged at random: whatever comes of it, it is an error or a
//! value that can be read, written and used.
//!
//! What is damaged are the bytes before the checksum; with a right checksum nobody could tell them
//! from what a server wrote. The recorded payloads are the seeds, and the old forms by hand.

use super::old_forms::{Item, ziplist, zipmap};
use super::{limits, string};
use crate::keyspace::Entry;
use crate::keyspace::digest::Digest;
use crate::persist::rdb::{LoadOptions, Loader, Record, SaveVersion, dump, form, restore, verify};
use crate::structs::prng::Prng;

/// Damaged payloads of each seed. `RUFOUS_MUTATIONS` asks for more.
const EACH: u64 = 2000;

fn each() -> u64 {
    let wanted = std::env::var("RUFOUS_MUTATIONS").ok();
    wanted.map_or(EACH, |wanted| wanted.parse().expect("RUFOUS_MUTATIONS is a number"))
}

/// Form and value of payloads.
fn seeds() -> Vec<Vec<u8>> {
    let text = include_str!("../../../../tests/fixtures/rdb/payloads.txt");
    let payloads = text.lines().filter(|line| line.starts_with("payload"));
    let digits = payloads.map(|line| line.rsplit(' ').next().expect("it has a word").as_bytes());
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("it is hexadecimal") as u8;
    let bytes = digits.map(|digits| {
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<u8>>()
    });
    let mut seeds: Vec<Vec<u8>> = bytes.map(|bytes| bytes[..bytes.len() - 10].to_vec()).collect();
    let items: Vec<Item<'_>> = (0..30)
        .map(|number| match number % 3 {
            0 => Item::Text(&b"a text that is not so short"[..number]),
            _ => Item::Number(number as i64 * 1999),
        })
        .collect();
    let scores: Vec<Item<'_>> =
        (0..20).flat_map(|number| [Item::Number(number), Item::Number(number * 7)]).collect();
    let map = zipmap(&[(b"a", b"1"), (b"field", b"value"), (b"", &[b'x'; 260])], 2);
    let timed = b"\x88\x13\0\0\0\0\0\0\x03\x01\x01a\x011\x47\xd1\x01b\x012\x00\x01c\x013";
    for (number, value) in [
        (form::LIST_ZIPLIST, string(&ziplist(&items))),
        (
            form::LIST_QUICKLIST,
            [vec![2], string(&ziplist(&items)), string(&ziplist(&scores))].concat(),
        ),
        (form::HASH_ZIPLIST, string(&ziplist(&scores))),
        (form::ZSET_ZIPLIST, string(&ziplist(&scores))),
        (form::HASH_ZIPMAP, string(&map)),
        (form::ZSET, b"\x03\x01a\x031.5\x01b\xff\xc0\x07\x0220".to_vec()),
        (form::LIST, b"\x03\x01a\x031.5\x01b".to_vec()),
        (form::HASH_TIMED, timed.to_vec()),
    ] {
        seeds.push([vec![number], value].concat());
    }
    seeds
}

fn damage(bytes: &mut Vec<u8>, prng: &mut Prng) {
    for _ in 0..=prng.below(3) {
        let at = prng.below(bytes.len() as u64) as usize;
        match prng.below(8) {
            0 | 1 => bytes[at] ^= 1 << prng.below(8),
            2 | 3 => bytes[at] = prng.next_u64() as u8,
            4 => bytes[at] = [0, 1, 0x7f, 0x80, 0x81, 0xc3, 0xfe, 0xff][prng.below(8) as usize],
            5 => bytes.insert(at, prng.next_u64() as u8),
            6 if bytes.len() > 1 => drop(bytes.remove(at)),
            6 => {}
            _ => {
                let end = (at + prng.below(9) as usize).min(bytes.len());
                let from = prng.below(bytes.len() as u64 - (end - at) as u64 + 1) as usize;
                bytes.copy_within(from..from + (end - at), at);
            }
        }
    }
}

fn restored(body: &[u8]) -> Option<Entry> {
    let payload = [body, &[12, 0], &[0; 8]].concat();
    let payload = verify(&payload, true).expect("the version is known");
    restore(payload, b"key", None, &limits()).ok()
}

/// A value that was let in is one: it can be walked, and what is written of it is read again.
fn check(entry: &Entry) {
    let digest = |entry: &Entry| {
        let mut digest = Digest::default();
        digest.mix_value(entry);
        digest
    };
    let payload = dump(entry, SaveVersion::V12, true);
    let again = restore(verify(&payload, false).expect("it is ours"), b"key", None, &limits());
    assert_eq!(digest(&again.expect("it is ours")), digest(entry));
}

#[test]
fn damaged_payloads_are_refused_or_are_values() {
    let mut prng = Prng::seeded(41);
    let (mut tried, mut accepted) = (0u64, 0u64);
    let compressed = seeds();
    let plain = compressed.iter().map(|seed| {
        let entry = restored(seed).expect("it is not damaged");
        check(&entry);
        let payload = dump(&entry, SaveVersion::V12, false);
        payload[..payload.len() - 10].to_vec()
    });
    let plain: Vec<_> = plain.filter(|plain| !compressed.contains(plain)).collect();
    for seed in compressed.iter().chain(&plain) {
        // Long ones take longer, and have no more to break.
        for _ in 0..each() * 300 / (300 + seed.len() as u64) {
            let mut body = seed.clone();
            damage(&mut body, &mut prng);
            tried += 1;
            if let Some(entry) = restored(&body) {
                check(&entry);
                accepted += 1;
            }
        }
    }
    println!("{tried} damaged payloads, {accepted} accepted");
    assert!(tried > each() * 20 && accepted * 50 > tried && accepted * 10 < tried * 9);
}

/// The entry of a file with one key that has this form and value, and whether it was mended.
fn loaded_one(body: &[u8]) -> Option<(Entry, bool)> {
    let (number, value) = body.split_first()?;
    let file = [&b"REDIS0012"[..], &[*number], b"\x03key", value, &[0xff; 9]].concat();
    let options = LoadOptions { has_checksum: false, ..LoadOptions::new(limits()) };
    let mut loader = Loader::new(&file[..], options);
    match loader.next_record() {
        Ok(Some(Record::Entry { entry, .. })) => Some((entry, loader.counts().mended > 0)),
        _ => None,
    }
}

#[test]
fn damaged_values_in_files_are_refused_or_are_values() {
    let mut prng = Prng::seeded(47);
    let (mut accepted, mut mended) = (0u64, 0u64);
    for seed in seeds() {
        for _ in 0..each() * 100 / (300 + seed.len() as u64) {
            let mut body = seed.clone();
            damage(&mut body, &mut prng);
            if let Some((entry, is_mended)) = loaded_one(&body) {
                check(&entry);
                accepted += 1;
                mended += u64::from(is_mended);
            }
        }
    }
    println!("{accepted} damaged values accepted, {mended} of them mended");
    assert!(mended * 200 > accepted && mended * 2 < accepted);
}

#[test]
fn damaged_files_are_read_to_an_error_or_the_end() {
    let file = include_bytes!("../../../../tests/fixtures/rdb/every-type.rdb");
    let mut prng = Prng::seeded(43);
    for _ in 0..each() / 50 {
        let mut bytes = file.to_vec();
        damage(&mut bytes, &mut prng);
        let options = LoadOptions { has_checksum: false, ..LoadOptions::new(limits()) };
        let mut loader = Loader::new(&bytes[..], options);
        while let Ok(Some(_)) = loader.next_record() {}
        assert!(loader.position() <= bytes.len() as u64);
    }
}
