//! The tree is a sequence whatever is done to it, and snapshots stay what they were.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rufous::structs::counted_tree::{CountedTree, Leaf, Place};

#[derive(Clone, Debug, PartialEq)]
struct Run(Vec<u32>);

impl Leaf for Run {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        4 * self.0.len()
    }
}

#[derive(Arbitrary, Debug)]
enum Change {
    Insert(u16, u8),
    PushFront(u8),
    PushBack(u8),
    Fill(u16),
    Edit(u16),
    Split(u16),
    Remove(u16, u16),
    Locate(u16),
    Snapshot,
}

fn fresh(len: u8) -> Run {
    Run((0..1 + u32::from(len % 8)).collect())
}

fn place_in(model: &[Run], index: usize) -> Option<Place> {
    let mut offset = index;
    for (leaf, run) in model.iter().enumerate() {
        if offset < run.0.len() {
            return Some(Place { leaf, offset });
        }
        offset -= run.0.len();
    }
    None
}

fn change(tree: &mut CountedTree<Run>, model: &mut Vec<Run>, change: &Change) {
    let leaves = model.len();
    let at = |at: &u16| usize::from(*at) % (leaves + 1);
    match change {
        Change::Insert(number, len) => {
            tree.insert(at(number), fresh(*len));
            model.insert(at(number), fresh(*len));
        }
        Change::PushFront(len) => {
            tree.push_front(fresh(*len));
            model.insert(0, fresh(*len));
        }
        Change::PushBack(len) => {
            tree.push_back(fresh(*len));
            model.push(fresh(*len));
        }
        Change::Fill(count) => {
            for n in 0..count % 1000 {
                tree.push_back(fresh(n as u8));
                model.push(fresh(n as u8));
            }
        }
        Change::Edit(number) if at(number) < leaves => {
            assert_eq!(tree.edit(at(number), |run| run.0.push(7)), Some(()));
            model[at(number)].0.push(7);
        }
        Change::Split(number) if at(number) < leaves => {
            let split = |run: &mut Run| Run(run.0.split_off(run.0.len() / 2));
            tree.split(at(number), split);
            let second = split(&mut model[at(number)]);
            model.insert(at(number) + 1, second);
        }
        Change::Remove(start, count) => {
            let range = at(start)..leaves.min(at(start) + usize::from(*count));
            tree.remove(range.clone());
            model.drain(range);
        }
        Change::Locate(index) => {
            assert_eq!(tree.locate(usize::from(*index)), place_in(model, usize::from(*index)));
        }
        Change::Edit(_) | Change::Split(_) | Change::Snapshot => {}
    }
}

fn assert_same(tree: &CountedTree<Run>, model: &[Run]) {
    assert_eq!(tree.leaf_count(), model.len());
    assert_eq!(tree.count(), model.iter().map(Leaf::count).sum::<usize>());
    assert!(tree.leaves(0..model.len()).eq(model.iter()));
    assert!(tree.leaves(0..model.len()).rev().eq(model.iter().rev()));
}

fuzz_target!(|changes: Vec<Change>| {
    let (mut tree, mut model) = (CountedTree::default(), Vec::new());
    let mut snapshots = Vec::new();
    for step in &changes {
        if model.len() > 20_000 {
            break;
        }
        change(&mut tree, &mut model, step);
        if matches!(step, Change::Snapshot) && snapshots.len() < 8 {
            snapshots.push((tree.clone(), model.clone()));
        }
    }
    assert_same(&tree, &model);
    for (tree, model) in snapshots {
        assert_same(&tree, &model);
    }
});
