//! What a value says of itself and is wrong about: counts, lengths and times. A file is loaded with
//! what its elements say, and the key is named; a payload is refused.

use super::*;
use crate::command::FIELD_EXPIRY_MAX_MS;
use crate::keyspace::digest::Digest;
use crate::structs::listpack::{self, Element, Listpack};
use crate::types::stream::{Entries, NodeLimits, StreamId};

/// The entry of a file with one key, and how many keys were mended.
fn loaded_one(number: u8, value: &[u8]) -> Result<(Entry, u64), RdbError> {
    let mut file = b"REDIS0012".to_vec();
    file.extend_from_slice(&[number, 3, b'k', b'e', b'y']);
    file.extend_from_slice(value);
    file.push(0xff);
    file.extend(crate::persist::crc64::of(&file).to_le_bytes());
    let mut loader = Loader::new(&file[..], LoadOptions::new(limits()));
    let Some(Record::Entry { entry, .. }) = loader.next_record()? else { panic!("no key") };
    assert!(loader.next_record()?.is_none());
    Ok((entry, loader.counts().mended))
}

fn digest(entry: &Entry) -> Digest {
    let mut digest = Digest::default();
    digest.mix_value(entry);
    digest
}

/// A wrong value is refused in a payload, and what is right when it stands in a file.
fn assert_mended(number: u8, wrong: &[u8], right: &[u8]) {
    let expected = restored(number, right).expect("it is right");
    assert!(restored(number, wrong).is_err());
    let (entry, mended) = loaded_one(number, wrong).expect("it is mended");
    assert_eq!((digest(&entry), mended), (digest(&expected), 1));
    let again = payload::dump(&entry, SaveVersion::V12, false);
    assert_eq!(again, payload::dump(&expected, SaveVersion::V12, false));
}

fn packed(texts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = listpack::new_empty();
    listpack::extend(&mut bytes, texts.iter().map(|text| Element::of(text))).expect("it is short");
    bytes
}

fn with_count(mut bytes: Vec<u8>, count: u16) -> Vec<u8> {
    bytes[4..6].copy_from_slice(&count.to_le_bytes());
    bytes
}

#[test]
fn a_wrong_count_of_elements_is_mended() {
    let pairs = packed(&[b"a", b"1", b"b", b"2", b"c", b"3"]);
    let members = packed(&[b"a", b"b", b"c"]);
    let triples = packed(&[b"a", b"1", b"5000", b"b", b"2", b"0"]);
    let node = |bytes: &[u8]| [&[2][..], &string(bytes)].concat();
    let list = |first: &[u8]| [&[2][..], &node(first), &node(&members)].concat();
    for count in [0, 1, 2, 4, 5, 7, 8, 100, 65_534] {
        let wrong = |bytes: &[u8]| with_count(bytes.to_vec(), count);
        for number in [form::HASH_LISTPACK, form::ZSET_LISTPACK] {
            assert_mended(number, &string(&wrong(&pairs)), &string(&pairs));
        }
        assert_mended(form::SET_LISTPACK, &string(&wrong(&members)), &string(&members));
        let timed = |bytes: &[u8]| [&5000u64.to_le_bytes()[..], &string(bytes)].concat();
        assert_mended(form::HASH_LISTPACK_TIMED, &timed(&wrong(&triples)), &timed(&triples));
        let one = |bytes: &[u8]| [&[1][..], &node(bytes)].concat();
        assert_mended(form::LIST_QUICKLIST_2, &one(&wrong(&members)), &one(&members));
        assert_mended(form::LIST_QUICKLIST_2, &list(&wrong(&members)), &list(&members));
    }
}

#[test]
fn lengths_that_lead_elsewhere_are_refused_in_files_too() {
    let right = packed(&[b"a", b"1", b"b", b"2"]);
    for (at, value) in [(0, 5), (0, 200), (6, 0xbf), (8, 9), (9, 0xf0), (right.len() - 1, 0)] {
        let mut wrong = with_count(right.clone(), 9);
        wrong[at] = value;
        for number in [form::HASH_LISTPACK, form::ZSET_LISTPACK, form::SET_LISTPACK] {
            assert!(loaded_one(number, &string(&wrong)).is_err(), "{at}");
        }
    }
    let odd = with_count(packed(&[b"a", b"1", b"b"]), 4);
    assert!(loaded_one(form::HASH_LISTPACK, &string(&odd)).is_err());
}

/// The node of the entries 1-1, 1-2 (deleted), 2-1 and 3-1, of which the last has other fields.
fn node_of_four() -> Vec<u8> {
    let mut entries = Entries::default();
    let limits = NodeLimits { max_bytes: 4096, max_entries: 100 };
    for (ms, seq, field) in [(1, 1, b"f"), (1, 2, b"f"), (2, 1, b"f"), (3, 1, b"g")] {
        entries.append(StreamId::new(ms, seq), &[field, b"v"], limits).expect("it is short");
    }
    entries.delete(StreamId::new(1, 2));
    entries.nodes().next().expect("there is one").as_bytes().to_vec()
}

/// A stream in form 19 of one node.
fn stream_of(node: &[u8], len: u8) -> Vec<u8> {
    let master = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    let after = [len, 3, 1, 1, 1, 1, 2, 4, 0];
    [&[1][..], &string(&master), &string(node), &after].concat()
}

/// A listpack with other numbers at some of its places.
fn with_numbers(bytes: &[u8], changes: &[(usize, i64)]) -> Vec<u8> {
    let change = |at| changes.iter().find(|(place, _)| *place == at).map(|(_, value)| *value);
    let elements = Listpack::trusted(bytes).iter().enumerate();
    let changed = elements.map(|(at, (_, element))| change(at).map_or(element, Element::Int));
    let mut out = listpack::new_empty();
    listpack::extend(&mut out, changed).expect("it is short");
    out
}

#[test]
fn counts_within_the_nodes_of_a_stream_are_mended() {
    let node = node_of_four();
    let right = stream_of(&node, 3);
    for (live, deleted) in
        [(4, 1), (2, 1), (0, 1), (4, 0), (3, 0), (3, 2), (3, 9), (0, 0), (-1, 1), (3, -7)]
    {
        let wrong = with_numbers(&node, &[(0, live), (1, deleted)]);
        assert_mended(form::STREAM_2, &stream_of(&wrong, 3), &right);
        // The length beside the nodes is wrong in the same way.
        assert_mended(form::STREAM_2, &stream_of(&wrong, live.max(0) as u8), &right);
    }
    for count in [0, 1, 9, 65_534] {
        let wrong = with_count(node.clone(), count);
        assert_mended(form::STREAM_2, &stream_of(&wrong, 3), &right);
    }
    // What stands behind the entries, and leads back over them.
    for at in [9, 14, 19, 26] {
        assert_eq!(
            Listpack::trusted(&node).get(at),
            Some(Element::Int(if at < 26 { 4 } else { 6 }))
        );
        for count in [0, 3, 7, 500, -1] {
            let wrong = with_numbers(&node, &[(at as usize, count), (0, 77)]);
            assert_mended(form::STREAM_2, &stream_of(&wrong, 3), &right);
        }
    }
}

#[test]
fn a_node_without_entries_is_left_out_of_a_file() {
    let bare = packed(&[b"0", b"0", b"1", b"f", b"0"]);
    assert!(restored(form::STREAM_2, &stream_of(&bare, 0)).is_err());
    let (entry, mended) = loaded_one(form::STREAM_2, &stream_of(&bare, 0)).expect("it is mended");
    assert_eq!((stream(&entry).entries.node_count(), mended), (0, 1));
    assert!(loaded_one(form::STREAM_2, &stream_of(&listpack::new_empty(), 0)).is_err());
}

#[test]
fn what_is_no_count_of_a_node_is_refused_in_files_too() {
    let node = node_of_four();
    // How many fields the first entry has, the zero behind them, flags, distances out of order,
    // how many fields another entry has.
    for (at, value) in
        [(2, 0), (2, 2), (2, -1), (4, 1), (5, 4), (6, -1), (12, 0), (16, 0), (23, 0), (23, 2)]
    {
        let wrong = with_numbers(&node, &[(at, value)]);
        assert!(loaded_one(form::STREAM_2, &stream_of(&wrong, 3)).is_err(), "{at} {value}");
    }
}

/// A stream in form 19 as Redis 7.0 writes it: one node with the entries 1-1 and 2-1, and what the
/// test says of its length and last ID; a group with `owned` of its one pending entry's consumers.
fn stream_of_two(len: u8, last_ms: u8, is_owned: bool) -> Vec<u8> {
    let mut stream = crate::types::stream::Entries::default();
    let limits = crate::types::stream::NodeLimits { max_bytes: 4096, max_entries: 100 };
    for ms in [1, 2] {
        let id = crate::types::stream::StreamId::new(ms, 1);
        stream.append(id, &[b"f", b"v"], limits).expect("it is short");
    }
    let node = stream.nodes().next().expect("there is one");
    let mut bytes = vec![1];
    bytes.extend(string(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]));
    bytes.extend(string(node.as_bytes()));
    bytes.extend([len, last_ms, 1, 1, 1, 0, 0, 2]);
    bytes.push(1);
    bytes.extend(string(b"group"));
    bytes.extend([2, 1, 2]);
    bytes.push(1);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0; 8]);
    bytes.push(1);
    bytes.push(1);
    bytes.extend(string(b"consumer"));
    bytes.extend([0; 8]);
    bytes.push(u8::from(is_owned));
    if is_owned {
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
    bytes
}

#[test]
fn counts_of_a_stream_are_mended_in_a_file_and_refused_in_a_payload() {
    let right = stream_of_two(2, 2, true);
    let expected = restored(form::STREAM_2, &right).expect("it is right");
    for (bytes, pending) in [
        (stream_of_two(7, 2, true), 1),
        (stream_of_two(0, 2, true), 1),
        (stream_of_two(2, 1, true), 1),
        (stream_of_two(2, 2, false), 0),
    ] {
        assert!(restored(form::STREAM_2, &bytes).is_err());
        let mut file = b"REDIS0010".to_vec();
        file.extend_from_slice(&[form::STREAM_2, 1, b'k']);
        file.extend_from_slice(&bytes);
        file.push(0xff);
        file.extend(crate::persist::crc64::of(&file).to_le_bytes());
        let mut loader = Loader::new(&file[..], LoadOptions::new(limits()));
        let Ok(Some(Record::Entry { entry, .. })) = loader.next_record() else {
            panic!("it is loaded")
        };
        assert_eq!(loader.counts().mended, 1);
        let (found, expected) = (stream(&entry), stream(&expected));
        assert_eq!(found.entries.len(), 2);
        assert_eq!(found.entries.last_id, expected.entries.last_id);
        let group = found.groups.get(b"group").expect("it is there");
        assert_eq!(group.pending().len(), pending);
    }
}

/// A hash with one field that expires then.
fn timed_hash(at_ms: u64) -> Vec<u8> {
    [&at_ms.to_le_bytes()[..], &[1, 1, 1, b'f', 1, b'v']].concat()
}

#[test]
fn times_of_fields_that_no_command_sets_are_bounded() {
    let last = FIELD_EXPIRY_MAX_MS;
    let expiry = |entry: &Entry| match entry.object() {
        Some(Object::Hash(table)) => table.field(b"f").and_then(|field| field.expiry_ms()),
        _ => panic!("it is a hash"),
    };
    for at_ms in [last, last + 1, (1 << 48) - 1] {
        let entry = restored(form::HASH_TIMED, &timed_hash(at_ms)).expect("Redis 8.2 takes it");
        assert_eq!(expiry(&entry), Some(last));
    }
    for at_ms in [1 << 48, i64::MAX as u64] {
        assert!(restored(form::HASH_TIMED, &timed_hash(at_ms)).is_err());
        let mut file = b"REDIS0012".to_vec();
        file.extend_from_slice(&[form::HASH_TIMED, 1, b'k']);
        file.extend(timed_hash(at_ms));
        file.push(0xff);
        file.extend(crate::persist::crc64::of(&file).to_le_bytes());
        let mut loader = Loader::new(&file[..], LoadOptions::new(limits()));
        let Ok(Some(Record::Entry { entry, .. })) = loader.next_record() else {
            panic!("it is loaded")
        };
        assert_eq!((expiry(&entry), loader.counts().mended), (Some(last), 1));
    }
}

fn stream(entry: &crate::keyspace::Entry) -> &crate::types::stream::Stream {
    match entry.object() {
        Some(crate::types::Object::Stream(stream)) => stream,
        _ => panic!("it is a stream"),
    }
}
