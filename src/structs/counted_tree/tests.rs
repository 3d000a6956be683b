//! The tree against a vector of leaves, with snapshots held while it changes.

use super::{CountedTree, Leaf, Place};
use crate::structs::prng::Prng;

impl Leaf for Vec<u32> {
    fn count(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        4 * self.len()
    }
}

type Model = Vec<Vec<u32>>;

fn assert_same(tree: &CountedTree<Vec<u32>>, model: &Model) {
    tree.root.check(true);
    assert_eq!(
        tree.sums,
        tree.root.children.iter().fold(super::Sums::default(), |mut sum, c| {
            sum.add(c.sums);
            sum
        })
    );
    assert_eq!(tree.leaf_count(), model.len());
    assert_eq!(tree.count(), model.iter().map(Vec::len).sum::<usize>());
    assert!(tree.leaves(0..model.len()).eq(model.iter()));
    assert!(tree.leaves(0..model.len()).rev().eq(model.iter().rev()));
    assert_eq!((tree.first(), tree.last()), (model.first(), model.last()));
}

fn place_in(model: &Model, index: usize) -> Option<Place> {
    let mut offset = index;
    for (leaf, elements) in model.iter().enumerate() {
        if offset < elements.len() {
            return Some(Place { leaf, offset });
        }
        offset -= elements.len();
    }
    None
}

/// One random change of both.
fn step(prng: &mut Prng, tree: &mut CountedTree<Vec<u32>>, model: &mut Model, grows: bool) {
    let leaves = model.len();
    let at = prng.below(leaves as u64 + 1) as usize;
    let fresh: Vec<u32> = (0..1 + prng.below(5)).map(|_| prng.below(1000) as u32).collect();
    match prng.below(if grows { 12 } else { 16 }) {
        0..4 => {
            tree.insert(at, fresh.clone());
            model.insert(at, fresh);
        }
        4..6 => {
            tree.push_front(fresh.clone());
            model.insert(0, fresh);
        }
        6..8 => {
            tree.push_back(fresh.clone());
            model.push(fresh);
        }
        8 if at < leaves => {
            assert_eq!(tree.edit(at, |leaf| leaf.push(7)), Some(()));
            model[at].push(7);
        }
        9 if at < leaves => {
            tree.split(at, |leaf| leaf.split_off(leaf.len() / 2));
            let half = model[at].len() / 2;
            let second = model[at].split_off(half);
            model.insert(at + 1, second);
        }
        10..=12 if at < leaves => {
            tree.remove(at..at + 1);
            model.remove(at);
        }
        13.. => {
            let end = (at + prng.below(1 + leaves as u64 / 3) as usize).min(leaves);
            tree.remove(at..end);
            model.drain(at..end);
        }
        _ => {
            assert_eq!(tree.edit(leaves, |_| ()), None);
            let is_there = tree.edit_last(|leaf| leaf.push(9)).is_some();
            assert_eq!(is_there, model.last_mut().map(|leaf| leaf.push(9)).is_some());
        }
    }
}

#[test]
fn it_is_a_sequence_whatever_is_done_to_it() {
    for seed in 0..6 {
        let mut prng = Prng::seeded(seed);
        let (mut tree, mut model) = (CountedTree::default(), Model::new());
        let mut snapshots = Vec::new();
        for round in 0..4000 {
            step(&mut prng, &mut tree, &mut model, round % 2000 < 1500);
            if round % 97 == 0 {
                assert_same(&tree, &model);
                snapshots.push((tree.clone(), model.clone()));
            }
            let index = prng.below(tree.count() as u64 + 2) as usize;
            assert_eq!(tree.locate(index), place_in(&model, index));
        }
        assert_same(&tree, &model);
        for (tree, model) in snapshots {
            assert_same(&tree, &model);
        }
    }
}

#[test]
fn pushing_fills_nodes_and_the_depth_stays_small() {
    let (mut back, mut front) = (CountedTree::default(), CountedTree::default());
    for i in 0..40_000 {
        back.push_back(vec![i]);
        front.push_front(vec![i]);
    }
    for tree in [&back, &front] {
        // Three levels hold 32768 leaves if they are full.
        assert_eq!(tree.root.check(true), 4);
        assert_eq!(tree.count(), 40_000);
    }
    assert!(back.leaves(100..20_000).map(|leaf| leaf[0]).eq(100..20_000));
    back.remove(10..39_990);
    assert!(back.leaves(0..20).map(|leaf| leaf[0]).eq((0..10).chain(39_990..40_000)));
    back.remove(0..20);
    assert_eq!((back.leaf_count(), back.bytes() < 1000), (0, true));
}
