//! Both encodings against a plain model, with snapshots held while they change.

use std::collections::BTreeMap;

use triomphe::Arc;

use crate::structs::listpack::{self, Listpack};
use crate::structs::number::I64Buf;
use crate::structs::prng::Prng;
use crate::structs::trie::HashSecret;
use crate::types::zset::{Limits, ZSetMut, ZSetRef, ZSetTable};

type Model = BTreeMap<Vec<u8>, f64>;

fn ordered(model: &Model) -> Vec<(Vec<u8>, f64)> {
    let mut all: Vec<(Vec<u8>, f64)> = model.clone().into_iter().collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    all
}

fn assert_same(zset: ZSetRef<'_>, model: &Model) {
    let expected = ordered(model);
    let read = |pair: (listpack::Element<'_>, f64)| (pair.0.to_vec(), pair.1);
    assert_eq!(zset.len(), expected.len());
    assert!(zset.range(0..zset.len()).map(read).eq(expected.iter().cloned()));
    assert!(zset.range(0..zset.len()).rev().map(read).eq(expected.iter().rev().cloned()));
    for (rank, (member, score)) in expected.iter().enumerate() {
        assert_eq!(zset.rank(member), Some((rank, *score)));
    }
    let (from, to) = (expected.len() / 3, expected.len() / 2);
    assert!(zset.range(from..to).map(read).eq(expected[from..to].iter().cloned()));
    let below = expected.iter().filter(|(_, score)| *score < 5.0).count();
    assert_eq!(zset.rank_where(|score, _| score < 5.0), below);
}

fn step(prng: &mut Prng, zset: &mut ZSetMut<'_>, model: &mut Model, limits: &Limits) {
    let member = prng.below(700).to_string().into_bytes();
    match prng.below(100) {
        0..60 => {
            let score = prng.below(40) as f64 / 4.0;
            let is_new = zset.set(&member, score, limits);
            assert_eq!(is_new, model.insert(member, score).is_none());
        }
        60..98 => assert_eq!(zset.remove(&member), model.remove(&member).is_some()),
        _ => {
            let len = zset.len();
            let start = prng.below(len as u64 + 1) as usize;
            let end = (start + prng.below(len as u64 / 2 + 1) as usize).min(len);
            let expected = ordered(model)[start..end].to_vec();
            let taken = zset.take_range(start..end);
            let taken = taken.iter().map(|member| (member.bytes().to_vec(), member.score()));
            assert!(taken.eq(expected.iter().cloned()));
            for (member, _) in &expected {
                model.remove(member);
            }
        }
    }
}

#[test]
fn either_encoding_does_as_the_model() {
    for entries in [0, 20, 10_000] {
        let limits = Limits {
            max_listpack_entries: entries,
            max_listpack_value: 64,
            secret: HashSecret::new([9; 16]),
        };
        let mut prng = Prng::seeded(entries as u64 + 1);
        let mut model = Model::new();
        let (mut bytes, mut table) = (listpack::new_empty(), None::<Arc<ZSetTable>>);
        let mut snapshots: Vec<(Arc<ZSetTable>, Model)> = Vec::new();
        for round in 0..6000 {
            let mut zset = match &mut table {
                Some(table) => ZSetMut::Table(Arc::make_mut(table)),
                None => ZSetMut::Listpack(&mut bytes),
            };
            step(&mut prng, &mut zset, &mut model, &limits);
            if let Some(outgrown) = zset.into_outgrown() {
                table = Some(outgrown);
            }
            if round % 211 == 0 {
                match &table {
                    Some(table) => {
                        table.check();
                        assert_same(ZSetRef::Table(table), &model);
                        snapshots.push((table.clone(), model.clone()));
                    }
                    None => assert_same(ZSetRef::Listpack(Listpack::trusted(&bytes)), &model),
                }
            }
        }
        assert_eq!(table.is_none(), entries == 10_000);
        for (table, model) in &snapshots {
            assert_same(ZSetRef::Table(table), model);
        }
    }
}

#[test]
fn ascending_scores_fill_the_leaves() {
    let mut table = ZSetTable::new(HashSecret::new([3; 16]));
    for i in 0..20_000u32 {
        assert!(table.set(i.to_string().as_bytes(), f64::from(i)));
    }
    table.check();
    assert!(table.memory_bytes() / table.len() < 80, "{}", table.memory_bytes() / table.len());
    while !table.is_empty() {
        let first = table.range(0..1).next().expect("it is not empty").bytes().to_vec();
        assert!(table.remove(&first));
    }
    let mut digits = I64Buf::new();
    assert_eq!(table.score(crate::structs::number::format_i64(7, &mut digits)), None);
}
