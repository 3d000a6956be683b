//! Streams against plain maps, with snapshots held while they change.

use super::{Counts, Entries, Group, NewId, Node, NodeLimits, Pending, StreamId, Threshold, Trim};
use crate::structs::prng::Prng;
use std::collections::BTreeMap;

type Fields = Vec<Vec<u8>>;
type Model = BTreeMap<StreamId, Fields>;

fn read(entries: &Entries) -> Vec<(StreamId, Fields)> {
    entries.all().map(|entry| (entry.id, fields(&entry))).collect()
}

fn fields(entry: &super::EntryRef<'_>) -> Fields {
    entry.pairs().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect()
}

fn assert_same(entries: &Entries, model: &Model, prng: &mut Prng) {
    assert_eq!(entries.len(), model.len());
    assert!(read(entries).iter().map(|(id, all)| (id, all)).eq(model.iter()));
    assert!(entries.all().rev().map(|entry| entry.id).eq(model.keys().rev().copied()));
    assert_eq!(entries.first_id(), model.keys().next().copied());
    assert_eq!(entries.last_live_id(), model.keys().next_back().copied());
    let [start, end] = [(); 2].map(|()| StreamId::new(prng.below(600), prng.below(4)));
    let expected: Vec<StreamId> = if start <= end {
        model.range(start..=end).map(|(id, _)| *id).collect()
    } else {
        Vec::new()
    };
    assert!(entries.range(start, end).map(|entry| entry.id).eq(expected.iter().copied()));
    assert!(
        entries.range(start, end).rev().map(|entry| entry.id).eq(expected.iter().rev().copied())
    );
    assert_eq!(entries.get(start).is_some(), model.contains_key(&start));
    let mut both = entries.range(start, end);
    let mut met = Vec::new();
    while let Some(entry) = if met.len() % 3 == 0 { both.next_back() } else { both.next() } {
        met.push(entry.id);
    }
    met.sort();
    assert_eq!(met, expected);
    for node in entries.nodes() {
        let loaded = Node::of_listpack(node.master(), node.as_bytes().to_vec());
        let loaded = loaded.map(|(loaded, counts)| (loaded.last(), counts));
        assert_eq!(loaded, Some((node.last(), Counts::Right)));
        assert!(node.live() > 0);
    }
}

fn random_pairs(prng: &mut Prng) -> Fields {
    let count = 1 + prng.below(3);
    let is_same = prng.below(3) > 0;
    let field = |at: u64, prng: &mut Prng| {
        if is_same { format!("f{at}") } else { prng.below(300).to_string() }
    };
    (0..2 * count)
        .map(|at| match at % 2 {
            0 => field(at, prng).into_bytes(),
            _ => vec![b'v'; prng.below(40) as usize],
        })
        .collect()
}

fn trim_model(model: &mut Model, threshold: Threshold) -> usize {
    let before = model.len();
    match threshold {
        Threshold::Length(max) => {
            while model.len() as u64 > max {
                model.pop_first();
            }
        }
        Threshold::Id(min) => model.retain(|id, _| *id >= min),
    }
    before - model.len()
}

fn step(prng: &mut Prng, entries: &mut Entries, model: &mut Model, limits: NodeLimits) {
    match prng.below(100) {
        0..55 => {
            let wanted = match prng.below(3) {
                0 => NewId::Auto,
                1 => NewId::AutoSequence(entries.last_id.ms),
                _ => NewId::Given(StreamId::new(entries.last_id.ms + prng.below(3), prng.below(4))),
            };
            let Some(id) = entries.next_id(wanted, prng.below(600)) else {
                assert!(matches!(wanted, NewId::Given(id) if id <= entries.last_id));
                return;
            };
            let pairs = random_pairs(prng);
            let words: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
            entries.append(id, &words, limits).expect("short");
            model.insert(id, pairs);
        }
        55..90 => {
            let at = prng.below(model.len() as u64 + 1) as usize;
            let id = model.keys().nth(at).copied().unwrap_or(StreamId::new(at as u64, 9));
            assert_eq!(entries.delete(id), model.remove(&id).is_some());
        }
        90..93 => {
            let is_length = prng.below(2) == 0;
            let threshold = match model.keys().nth(prng.below(8) as usize) {
                Some(id) if !is_length => Threshold::Id(*id),
                _ => Threshold::Length((model.len() as u64).saturating_sub(prng.below(12))),
            };
            let trim = Trim { threshold, is_approximate: false, limit: None };
            assert_eq!(entries.trim(&trim).count, trim_model(model, threshold));
        }
        _ => {
            let limit = prng.below(12);
            let threshold = Threshold::Length(prng.below(model.len() as u64 + 1));
            let trim = Trim { threshold, is_approximate: true, limit: Some(limit) };
            let trimmed = entries.trim(&trim).count;
            assert!(trimmed as u64 <= limit);
            let left = (model.len() - trimmed) as u64;
            trim_model(model, Threshold::Length(left));
        }
    }
}

#[test]
fn a_log_does_as_a_map() {
    let limits = [(0, 7), (200, 0), (4096, 100), (1, 1)];
    for (seed, (max_bytes, max_entries)) in (1..).zip(limits) {
        let limits = NodeLimits { max_bytes, max_entries };
        let mut prng = Prng::seeded(seed);
        let (mut entries, mut model) = (Entries::default(), Model::new());
        let mut held = (entries.clone(), model.clone());
        for round in 0..1500 {
            step(&mut prng, &mut entries, &mut model, limits);
            if round % 10 == 0 {
                assert_same(&entries, &model, &mut prng);
            }
            if round % 100 == 0 {
                assert_same(&held.0, &held.1, &mut prng);
                held = (entries.clone(), model.clone());
            }
        }
        assert_same(&entries, &model, &mut prng);
    }
}

#[test]
fn a_group_keeps_one_owner_for_each_entry() {
    let mut prng = Prng::seeded(3);
    let mut group = Group::new(StreamId::MIN, None);
    let mut model: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
    let mut held = group.clone();
    for round in 0..4000 {
        let id = StreamId::new(1, prng.below(300));
        let name = format!("c{}", prng.below(6)).into_bytes();
        match prng.below(40) {
            0 => {
                let deleted = group.find(&name).map_or(0, |number| group.delete_consumer(number));
                let before = model.len();
                model.retain(|_, owner| *owner != name);
                assert_eq!(deleted, before - model.len());
            }
            1..24 => {
                let (consumer, _) = group.find_or_make(&name, 0);
                group.assign(id, Pending { consumer, delivered_ms: 0, deliveries: 1 });
                model.insert(id, name);
            }
            _ => assert_eq!(group.release(id).is_some(), model.remove(&id).is_some()),
        }
        if round % 100 == 0 {
            group.check();
            held.check();
            held = group.clone();
        }
        let owner = |record: Pending| group.consumer(record.consumer).name().to_vec();
        assert_eq!(group.pending().get(id).map(owner), model.get(&id).cloned());
    }
    assert!(group.pending().iter().map(|(id, _)| id).eq(model.keys().copied()));
}

#[test]
fn ids_end_where_numbers_end() {
    let mut entries = Entries::default();
    assert_eq!(entries.next_id(NewId::AutoSequence(0), 0), Some(StreamId::new(0, 1)));
    assert_eq!(entries.next_id(NewId::Auto, 0), Some(StreamId::new(0, 1)));
    entries.last_id = StreamId::new(5, u64::MAX);
    assert_eq!(entries.next_id(NewId::AutoSequence(5), 0), None);
    assert_eq!(entries.next_id(NewId::AutoSequence(4), 0), None);
    assert_eq!(entries.next_id(NewId::Auto, 3), Some(StreamId::new(6, 0)));
    entries.last_id = StreamId::MAX;
    assert_eq!(entries.next_id(NewId::Auto, u64::MAX), None);
    assert_eq!(entries.next_id(NewId::Given(StreamId::MAX), 0), None);
}

#[test]
fn foreign_bytes_are_nodes_or_refused() {
    let mut prng = Prng::seeded(11);
    let mut entries = Entries::default();
    let limits = NodeLimits { max_bytes: 0, max_entries: 0 };
    for ms in 1..8 {
        let pairs = random_pairs(&mut prng);
        let words: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
        entries.append(StreamId::new(ms, 0), &words, limits).expect("short");
    }
    entries.delete(StreamId::new(3, 0));
    let node = entries.nodes().next().expect("it has one");
    let (master, bytes) = (node.master(), node.as_bytes().to_vec());
    for at in 0..bytes.len() {
        for value in [0, 1, 2, 3, 0x7f, 0x80, 0xc0, 0xf0, 0xf4, 0xff, bytes[at] ^ 1] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let mut loaded = Entries::default();
            if loaded.push_node(master, changed).is_some() {
                assert_eq!(read(&loaded).len(), loaded.len());
                assert_eq!(loaded.all().rev().count(), loaded.len());
            }
        }
    }
    assert_eq!(Entries::default().push_node(master, b"".to_vec()), None);
    assert_eq!(entries.push_node(master, bytes), None, "it is not behind the others");
}
