//! The forms of old versions, and of versions to come, written by hand: no server writes them
//! here.

use super::{limits, loaded, restored, string};
use crate::keyspace::{Entry, ValueRef};
use crate::persist::rdb::form;
use crate::structs::listpack::{self, Element};
use crate::types::Encoding;
use crate::types::Object;
use crate::types::list::ListRef;

/// An entry of a ziplist.
#[derive(Clone)]
pub enum Item<'t> {
    Text(&'t [u8]),
    Number(i64),
}

fn encoded(item: &Item<'_>) -> Vec<u8> {
    match item {
        Item::Text(text) => {
            let len = text.len();
            let mut bytes = match len {
                0..0x40 => vec![len as u8],
                0x40..0x4000 => vec![0x40 | (len >> 8) as u8, len as u8],
                _ => [&[0x80], &(len as u32).to_be_bytes()[..]].concat(),
            };
            bytes.extend_from_slice(text);
            bytes
        }
        Item::Number(value @ 0..=12) => vec![0xf1 + *value as u8],
        Item::Number(value) => {
            let bytes = value.to_le_bytes();
            let (code, width) = match value {
                -128..=127 => (0xfe, 1),
                -0x8000..=0x7fff => (0xc0, 2),
                -0x80_0000..=0x7f_ffff => (0xf0, 3),
                -0x8000_0000..=0x7fff_ffff => (0xd0, 4),
                _ => (0xe0, 8),
            };
            [&[code], &bytes[..width]].concat()
        }
    }
}

pub fn ziplist(items: &[Item<'_>]) -> Vec<u8> {
    let mut entries = Vec::new();
    let (mut previous_len, mut last_at) = (0, 10);
    for item in items {
        let mut entry = match previous_len {
            0..254 => vec![previous_len as u8],
            _ => [&[0xfe], &(previous_len as u32).to_le_bytes()[..]].concat(),
        };
        entry.extend(encoded(item));
        last_at = 10 + entries.len();
        previous_len = entry.len();
        entries.extend(entry);
    }
    let total = entries.len() as u32 + 11;
    let mut bytes = total.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(last_at as u32).to_le_bytes());
    bytes.extend_from_slice(&(items.len() as u16).to_le_bytes());
    bytes.extend(entries);
    bytes.push(0xff);
    bytes
}

pub fn zipmap(pairs: &[(&[u8], &[u8])], slack: u8) -> Vec<u8> {
    let length = |len: usize| match len {
        0..254 => vec![len as u8],
        _ => [&[0xfe], &(len as u32).to_le_bytes()[..]].concat(),
    };
    let mut bytes = vec![pairs.len().min(254) as u8];
    for (field, value) in pairs {
        bytes.extend(length(field.len()));
        bytes.extend_from_slice(field);
        bytes.extend(length(value.len()));
        bytes.push(slack);
        bytes.extend_from_slice(value);
        bytes.extend(std::iter::repeat_n(b'?', slack.into()));
    }
    bytes.push(0xff);
    bytes
}

fn list_of(entry: &Entry) -> Vec<Vec<u8>> {
    let list = match entry.object() {
        Some(Object::List(list)) => ListRef::Tree(list),
        _ => ListRef::Packed(listpack::Listpack::trusted(entry.packed().expect("it is packed"))),
    };
    (0..list.len()).map(|index| list.get(index).expect("it is there").to_vec()).collect()
}

fn hash_of(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ValueRef::Hash(hash) = entry.value() else { panic!("it is a hash") };
    let mut pairs: Vec<_> =
        hash.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    pairs.sort();
    pairs
}

fn is_bad(number: u8, value: &[u8]) -> bool {
    restored(number, value).is_err()
}

/// Every kind of entry a ziplist has, with its text.
fn items(long: &[u8]) -> Vec<(Item<'_>, Vec<u8>)> {
    let mut items: Vec<(Item<'_>, Vec<u8>)> = Vec::new();
    for len in [0, 1, 63, 64, 300, 20_000] {
        items.push((Item::Text(&long[..len]), long[..len].to_vec()));
    }
    for value in [
        0,
        1,
        12,
        13,
        -1,
        127,
        -128,
        128,
        32767,
        -32768,
        32768,
        0x7f_ffff,
        -0x80_0000,
        0x80_0000,
        i64::from(i32::MIN),
        i64::from(i32::MAX) + 1,
        i64::MIN,
        i64::MAX,
    ] {
        items.push((Item::Number(value), value.to_string().into_bytes()));
    }
    items
}

#[test]
fn lists() {
    let long = vec![b'x'; 20_000];
    let (items, texts): (Vec<_>, Vec<_>) = items(&long).into_iter().unzip();
    let packed = ziplist(&items);
    let entry = restored(form::LIST_ZIPLIST, &string(&packed)).expect("it is fine");
    assert_eq!((list_of(&entry), entry.encoding()), (texts.clone(), Encoding::Quicklist));
    let nodes = [vec![2], string(&packed), string(&packed)].concat();
    let entry = restored(form::LIST_QUICKLIST, &nodes).expect("it is fine");
    assert_eq!(list_of(&entry), [texts.clone(), texts.clone()].concat());
    let mut single = vec![texts.len() as u8];
    texts.iter().for_each(|text| single.extend(string(text)));
    let entry = restored(form::LIST, &single).expect("it is fine");
    assert_eq!(list_of(&entry), texts);
    let small = ziplist(&[Item::Text(b"a"), Item::Number(7)]);
    for (number, value) in [
        (form::LIST_ZIPLIST, string(&small)),
        (form::LIST_QUICKLIST, [vec![1], string(&small)].concat()),
        (form::LIST, b"\x02\x01a\x017".to_vec()),
    ] {
        let entry = restored(number, &value).expect("it is fine");
        assert_eq!(list_of(&entry), [b"a", b"7"]);
        assert_eq!(entry.encoding(), Encoding::Listpack);
    }
    // A node without elements is passed over, a list without any is no list.
    let empty = ziplist(&[]);
    let nodes = [vec![2], string(&empty), string(&small)].concat();
    assert_eq!(list_of(&restored(form::LIST_QUICKLIST, &nodes).expect("it is")), [b"a", b"7"]);
    assert!(is_bad(form::LIST_ZIPLIST, &string(&empty)));
    assert!(is_bad(form::LIST_QUICKLIST_2, b"\x01\x03\x01a"), "there is no such container");
    assert!(is_bad(form::LIST_QUICKLIST_2, b"\x01\x01\x00"), "an element alone is long");
}

#[test]
fn ziplists_are_looked_at_as_a_whole() {
    let good = ziplist(&[Item::Text(b"abc"), Item::Number(1000), Item::Text(b"de")]);
    assert!(restored(form::LIST_ZIPLIST, &string(&good)).is_ok());
    let spoilt = |at: usize, by: u8| {
        let mut bad = good.clone();
        bad[at] = bad[at].wrapping_add(by);
        is_bad(form::LIST_ZIPLIST, &string(&bad))
    };
    // The total, the place of the last entry, the count, lengths that lead backwards, the end.
    for at in [0, 4, 8, 10, 15, 19, good.len() - 1] {
        assert!(spoilt(at, 1), "{at}");
    }
    for encoding in [0xc1, 0xff, 0xe1] {
        let mut bad = good.clone();
        bad[16] = encoding;
        assert!(is_bad(form::LIST_ZIPLIST, &string(&bad)), "{encoding:#x}");
    }
    for len in 0..good.len() {
        assert!(is_bad(form::LIST_ZIPLIST, &string(&good[..len])), "{len}");
    }
}

#[test]
fn hashes() {
    let long = vec![b'v'; 300];
    let pairs: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", &long), (b"", b"")];
    let expected: Vec<_> = [(&b""[..], &b""[..]), (b"a", b"1"), (b"b", &long)]
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    let packed = ziplist(
        &pairs.iter().flat_map(|(a, b)| [Item::Text(a), Item::Text(b)]).collect::<Vec<_>>(),
    );
    let mut single = vec![3];
    pairs.iter().for_each(|(name, value)| single.extend([string(name), string(value)].concat()));
    for (number, value, encoding) in [
        (form::HASH_ZIPMAP, string(&zipmap(&pairs, 3)), Encoding::Hashtable),
        (form::HASH_ZIPLIST, string(&packed), Encoding::Listpack),
        (form::HASH, single, Encoding::Hashtable),
    ] {
        let entry = restored(number, &value).expect("it is fine");
        assert_eq!((hash_of(&entry), entry.encoding()), (expected.clone(), encoding));
    }
    let small = zipmap(&pairs[..1], 0);
    let entry = restored(form::HASH_ZIPMAP, &string(&small)).expect("it is fine");
    assert_eq!(entry.encoding(), Encoding::Listpack);
    let many: Vec<Vec<u8>> = (0..600).map(|number: u32| number.to_string().into()).collect();
    let many: Vec<_> = many.iter().map(|text| (&text[..], &text[..])).collect();
    let entry = restored(form::HASH_ZIPMAP, &string(&zipmap(&many, 0))).expect("it is fine");
    assert_eq!((hash_of(&entry).len(), entry.encoding()), (600, Encoding::Hashtable));
    for twice in [
        (form::HASH_ZIPMAP, string(&zipmap(&[(b"a", b"1"), (b"a", b"2")], 0))),
        (form::HASH, b"\x02\x01a\x01b\x01a\x01c".to_vec()),
    ] {
        assert!(is_bad(twice.0, &twice.1));
    }
    assert!(is_bad(form::HASH_ZIPMAP, &string(&zipmap(&[], 0))), "it is empty");
}

#[test]
fn zipmaps_are_looked_at_as_a_whole() {
    let good = zipmap(&[(b"abc", b"de"), (b"f", b"")], 2);
    assert!(restored(form::HASH_ZIPMAP, &string(&good)).is_ok());
    for len in 0..good.len() {
        assert!(is_bad(form::HASH_ZIPMAP, &string(&good[..len])), "{len}");
    }
    let mut miscounted = good.clone();
    miscounted[0] = 1;
    assert!(is_bad(form::HASH_ZIPMAP, &string(&miscounted)));
    // A short length in the long form.
    let overlong = [1, 0xfe, 1, 0, 0, 0, b'a', 1, 0, b'b', 0xff];
    assert!(is_bad(form::HASH_ZIPMAP, &string(&overlong)));
}

#[test]
fn sorted_sets() {
    let scores = |entry: &Entry| -> Vec<(Vec<u8>, f64)> {
        let ValueRef::ZSet(zset) = entry.value() else { panic!("it is a sorted set") };
        zset.range(0..zset.len()).map(|(member, score)| (member.to_vec(), score)).collect()
    };
    let expected =
        vec![(b"b".to_vec(), f64::NEG_INFINITY), (b"a".to_vec(), 1.5), (b"7".to_vec(), 20.0)];
    let packed = ziplist(&[
        Item::Text(b"b"),
        Item::Text(b"-inf"),
        Item::Text(b"a"),
        Item::Text(b"1.5"),
        Item::Number(7),
        Item::Number(20),
    ]);
    for (number, value) in [
        (form::ZSET_ZIPLIST, string(&packed)),
        (form::ZSET, b"\x03\x01a\x031.5\x01b\xff\xc0\x07\x0220".to_vec()),
    ] {
        let entry = restored(number, &value).expect("it is fine");
        assert_eq!((scores(&entry), entry.encoding()), (expected.clone(), Encoding::Listpack));
    }
    // Members that are out of order are sorted.
    let unsorted = ziplist(&[Item::Text(b"a"), Item::Number(9), Item::Text(b"b"), Item::Number(3)]);
    let entry = restored(form::ZSET_ZIPLIST, &string(&unsorted)).expect("it is fine");
    assert_eq!(scores(&entry), [(b"b".to_vec(), 3.0), (b"a".to_vec(), 9.0)]);
    for bad in [
        ziplist(&[Item::Text(b"a")]),
        ziplist(&[Item::Text(b"a"), Item::Text(b"x")]),
        ziplist(&[Item::Text(b"a"), Item::Text(b"nan")]),
        ziplist(&[Item::Text(b"a"), Item::Number(1), Item::Text(b"a"), Item::Number(2)]),
    ] {
        assert!(is_bad(form::ZSET_ZIPLIST, &string(&bad)));
    }
    assert!(is_bad(form::ZSET, b"\x01\x01a\xfd"), "not a number");
    let nan = [b"\x01\x01a".as_slice(), &f64::NAN.to_le_bytes()].concat();
    assert!(is_bad(form::ZSET_2, &nan));
}

#[test]
fn sets() {
    let members = |entry: &Entry| {
        let ValueRef::Set(set) = entry.value() else { panic!("it is a set") };
        let mut members: Vec<_> = set.iter().map(Element::to_vec).collect();
        members.sort();
        members
    };
    for (value, count, encoding) in [
        (b"\x02\xc0\x05\xc0\x07".to_vec(), 2, Encoding::Intset),
        (b"\x02\xc0\x05\x01a".to_vec(), 2, Encoding::Listpack),
    ] {
        let entry = restored(form::SET, &value).expect("it is fine");
        assert_eq!((members(&entry).len(), entry.encoding()), (count, encoding));
    }
    assert!(is_bad(form::SET, b"\x02\x01a\x01a"));
    assert!(is_bad(form::SET, b"\x00"));
    let wide = [&b"\x02\x00\x00\x00\x58\x02\x00\x00"[..], &[0; 1200]].concat();
    assert!(is_bad(form::SET_INTSET, &string(&wide)), "all are the same");
    let mut wide = wide;
    for (number, place) in wide[8..].chunks_mut(2).enumerate() {
        place.copy_from_slice(&(number as u16).to_le_bytes());
    }
    let entry = restored(form::SET_INTSET, &string(&wide)).expect("it is fine");
    assert_eq!((members(&entry).len(), entry.encoding()), (600, Encoding::Hashtable));
}

/// Fields with the times at which they expire.
fn times_of(entry: &Entry) -> Vec<(Vec<u8>, Option<u64>)> {
    let Some(Object::Hash(table)) = entry.object() else { panic!("it is a table") };
    let live = crate::types::hash::LiveTable::new(table, 0);
    let mut times: Vec<_> =
        live.iter().map(|field| (field.name().to_vec(), field.expiry_ms())).collect();
    times.sort();
    times
}

#[test]
fn fields_that_expire() {
    let triples = [
        (Element::Str(b"a"), Element::Int(1), Element::Int(5000)),
        (Element::Str(b"b"), Element::Int(2), Element::Int(7000)),
        (Element::Str(b"c"), Element::Int(3), Element::Int(0)),
    ];
    let mut packed = listpack::new_empty();
    listpack::extend(&mut packed, triples.iter().flat_map(|(a, b, c)| [*a, *b, *c]))
        .expect("it is short");
    let first = 5000i64.to_le_bytes();
    let early = b"\x03\x53\x88\x01a\x011\x5b\x58\x01b\x012\x00\x01c\x013".to_vec();
    let late = [&first[..], b"\x03\x01\x01a\x011\x47\xd1\x01b\x012\x00\x01c\x013"].concat();
    for (number, value) in [
        (form::HASH_TIMED_PRE_RELEASE, early),
        (form::HASH_TIMED, late),
        (form::HASH_LISTPACK_TIMED_PRE_RELEASE, string(&packed)),
        (form::HASH_LISTPACK_TIMED, [&first[..], &string(&packed)].concat()),
    ] {
        let entry = restored(number, &value).expect("it is fine");
        let expected =
            [(b"a".to_vec(), Some(5000)), (b"b".to_vec(), Some(7000)), (b"c".to_vec(), None)];
        assert_eq!(times_of(&entry), expected, "{number}");
        assert_eq!(entry.encoding(), Encoding::Listpackex);
        assert_eq!(hash_of(&entry).len(), 3);
    }
    // In a Valkey's file the first of these numbers means another form.
    let mut file = b"VALKEY080\x16\x01k\x02\x01a\x011".to_vec();
    file.extend_from_slice(&5000i64.to_le_bytes());
    file.extend_from_slice(b"\x01b\x012");
    file.extend_from_slice(&(-1i64).to_le_bytes());
    file.extend_from_slice(b"\xff\0\0\0\0\0\0\0\0");
    let entries = loaded(&file).expect("it is fine");
    assert_eq!(times_of(&entries[0]), [(b"a".to_vec(), Some(5000)), (b"b".to_vec(), None)]);
    let negative = [&(-1i64).to_le_bytes()[..], b"\x01\x01\x01a\x011"].concat();
    assert!(is_bad(form::HASH_TIMED, &negative));
    let _ = limits();
}
