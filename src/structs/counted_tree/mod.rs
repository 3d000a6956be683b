//! A counted copy-on-write B+tree: a sequence of leaves that hold elements, found by element index.
//!
//! Every inner node knows of each child how many elements, leaves and bytes are below it, so an
//! index leads to its leaf in O(log n), and totals are read off. Nodes are shared pointers: a clone
//! is O(1), and a writer copies the nodes on its path that somebody else still holds. What an
//! element is, is the leaf's business; leaves are addressed by their number in the sequence, and
//! those of an ordered sequence by a key as well: each child holds the key of its last leaf, so one
//! descent finds, counts and changes. A skip list or a linked list of leaves was refused: neither
//! can be shared with a snapshot.
//!
//! Invariants: all leaves are at one depth; an inner node has at most `FANOUT` children, and, the
//! root apart, at least one; the sums of a child are those of what is below it. Nodes may be sparse
//! at the ends of the sequence and where a range was removed, which costs depth nowhere.

mod node;
#[cfg(test)]
mod tests;

use crate::structs::pins;
use node::{Child, Inner, Node, inner_mut, leaf_mut};
use std::ops::Range;
use triomphe::Arc;

/// A leaf, as far as the tree must know it.
pub trait Leaf: Clone {
    /// How many elements it holds.
    fn count(&self) -> usize;
    /// How many heap bytes it holds.
    fn bytes(&self) -> usize;
}

/// A leaf with a key by which an ordered sequence is searched. Leaves of a sequence without order
/// have no more than `()`.
pub trait Keyed<K>: Leaf {
    /// A leaf that loses elements by [`CountedTree::update`] is joined with a neighbour if both
    /// together have so many elements at the most.
    const JOINED_MAX: usize = 0;

    /// The key of its last element; there is one.
    fn key(&self) -> K;

    /// Whether this is its key, or may stay it: a cheap question, asked after each change.
    fn has_key(&self, key: &K) -> bool;

    /// Adds the elements of the leaf after it.
    fn absorb(&mut self, _next: &Self) {
        unreachable!("only leaves that say up to which size are joined");
    }
}

impl<L: Leaf> Keyed<()> for L {
    fn key(&self) {}

    fn has_key(&self, (): &()) -> bool {
        true
    }
}

/// What is below a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    elements: usize,
    leaves: usize,
    bytes: usize,
}

impl Sums {
    fn of(leaf: &impl Leaf) -> Sums {
        Sums { elements: leaf.count(), leaves: 1, bytes: leaf.bytes() }
    }

    fn add(&mut self, other: Sums) {
        self.elements += other.elements;
        self.leaves += other.leaves;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Sums) {
        self.elements -= other.elements;
        self.leaves -= other.leaves;
        self.bytes -= other.bytes;
    }
}

/// Where an element is: the number of its leaf, and its index in the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub leaf: usize,
    pub offset: usize,
}

/// A sequence of leaves. Cloning it takes a snapshot.
#[derive(Clone, Debug)]
pub struct CountedTree<L, K = ()> {
    root: Arc<Inner<L, K>>,
    sums: Sums,
}

impl<L: Keyed<K>, K: Clone> Default for CountedTree<L, K> {
    fn default() -> Self {
        CountedTree { root: Arc::new(Inner::empty()), sums: Sums::default() }
    }
}

impl<L: Keyed<K>, K: Clone> CountedTree<L, K> {
    /// How many elements there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.sums.elements
    }

    /// How many leaves there are.
    #[inline]
    pub fn leaf_count(&self) -> usize {
        self.sums.leaves
    }

    /// The heap bytes of the leaves and, about, of the nodes above them.
    pub fn bytes(&self) -> usize {
        let a_leaf = size_of::<L>() + size_of::<Child<L, K>>() + 2 * size_of::<usize>();
        self.sums.bytes + self.sums.leaves * a_leaf + size_of::<Inner<L, K>>()
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        match self.root.is_unique() {
            true => pins::shared_share(&self.root.children, &Child::share),
            false => 1.0,
        }
    }

    /// Where the element at an index is.
    pub fn locate(&self, index: usize) -> Option<Place> {
        if index >= self.sums.elements {
            return None;
        }
        let (mut inner, mut place) = (&*self.root, Place { leaf: 0, offset: index });
        let mut sums = self.sums;
        loop {
            let child = inner.child_of_element(&mut place, sums);
            sums = child.sums;
            match &child.node {
                Node::Leaf(_) => return Some(place),
                Node::Inner(below) => inner = below,
            }
        }
    }

    /// The leaf with this number.
    pub fn leaf(&self, number: usize) -> Option<&L> {
        let (start, children) = self.bottom_node(number)?;
        Some(children[number - start].leaf())
    }

    pub fn first(&self) -> Option<&L> {
        self.leaf(0)
    }

    pub fn last(&self) -> Option<&L> {
        self.root.children.last().map(Child::last_leaf)
    }

    /// All leaves that have their number in a range, to be read from both ends.
    ///
    /// # Panics
    /// If the range ends beyond the last leaf.
    pub fn leaves(&self, range: Range<usize>) -> Leaves<'_, L, K> {
        assert!(range.end <= self.sums.leaves, "there are {} leaves", self.sums.leaves);
        Leaves { tree: self, range, front: (0, &[]), back: (0, &[]) }
    }

    /// Changes the leaf with this number in place; `None` if there is none.
    pub fn edit<R>(&mut self, number: usize, edit: impl FnOnce(&mut L) -> R) -> Option<R> {
        if number >= self.sums.leaves {
            return None;
        }
        // To find the last leaf, nothing has to be counted.
        let number = (number + 1 < self.sums.leaves).then_some(number);
        let (old, new, result) = inner_mut(&mut self.root).edit(number, edit);
        self.sums.subtract(old);
        self.sums.add(new);
        Some(result)
    }

    /// Changes the last leaf in place; `None` if there is none. Two walks down, one to change and
    /// one to add up, cost less than to come back up through each level.
    pub fn edit_last<R>(&mut self, edit: impl FnOnce(&mut L) -> R) -> Option<R> {
        let mut inner = inner_mut(&mut self.root);
        let (old, new, key, result) = loop {
            let Child { sums, key, node } = inner.children.last_mut()?;
            match node {
                Node::Inner(below) => inner = inner_mut(below),
                Node::Leaf(leaf) => {
                    let result = edit(leaf_mut(leaf));
                    let old = std::mem::replace(sums, Sums::of(&**leaf));
                    if !leaf.has_key(key) {
                        *key = leaf.key();
                    }
                    break (old, *sums, key.clone(), result);
                }
            }
        };
        self.sums.add(new);
        self.sums.subtract(old);
        let mut inner = inner_mut(&mut self.root);
        while let Some(Child { sums, key: own, node: Node::Inner(below) }) =
            inner.children.last_mut()
        {
            sums.add(new);
            sums.subtract(old);
            *own = key.clone();
            inner = inner_mut(below);
        }
        Some(result)
    }

    /// Puts a leaf before the one with this number, or at the end.
    ///
    /// # Panics
    /// If the number is beyond the end.
    pub fn insert(&mut self, number: usize, leaf: L) {
        assert!(number <= self.sums.leaves, "there are {} leaves", self.sums.leaves);
        let leaf = Child::of_leaf(leaf);
        let sums = leaf.sums;
        let split_off = inner_mut(&mut self.root).insert(number, leaf);
        self.sums.add(sums);
        self.grow_root(split_off);
    }

    /// Puts a new root above the old one and what was split off it.
    fn grow_root(&mut self, split_off: Option<Child<L, K>>) {
        let Some(second) = split_off else { return };
        let first = std::mem::replace(&mut self.root, Arc::new(Inner::empty()));
        let mut first_sums = self.sums;
        first_sums.subtract(second.sums);
        let first = Child::of_inner(first, first_sums);
        self.root = Arc::new(Inner { children: vec![first, second] });
    }

    /// The first leaf of whose key `is_before` does not hold, which must hold of all keys before
    /// it, and how many elements come before that leaf.
    pub fn search(&self, is_before: impl Fn(&K) -> bool) -> (usize, Option<&L>) {
        let (mut inner, mut elements) = (&*self.root, 0);
        loop {
            let at = inner.children.partition_point(|child| is_before(&child.key));
            elements += inner.children[..at].iter().map(|child| child.sums.elements).sum::<usize>();
            match inner.children.get(at).map(|child| &child.node) {
                Some(Node::Inner(below)) => inner = below,
                Some(Node::Leaf(leaf)) => return (elements, Some(leaf)),
                None => return (elements, None),
            }
        }
    }

    /// The number of the leaf that [`CountedTree::search`] finds, or that of leaves.
    pub fn number_where(&self, is_before: impl Fn(&K) -> bool) -> usize {
        let (mut inner, mut number) = (&*self.root, 0);
        loop {
            let at = inner.children.partition_point(|child| is_before(&child.key));
            number += inner.children[..at].iter().map(|child| child.sums.leaves).sum::<usize>();
            match inner.children.get(at).map(|child| &child.node) {
                Some(Node::Inner(below)) => inner = below,
                Some(Node::Leaf(_)) | None => return number,
            }
        }
    }

    /// Changes in place the leaf that [`CountedTree::search`] finds, or the last one; `None` if
    /// there is no leaf. A leaf that `edit` cuts in two yields its second part, and one that it
    /// empties goes away.
    pub fn update<R>(
        &mut self,
        is_before: impl Fn(&K) -> bool,
        edit: impl FnOnce(&mut L) -> (R, Option<L>),
    ) -> Option<R> {
        if self.sums.leaves == 0 {
            return None;
        }
        let update = inner_mut(&mut self.root).update(&is_before, edit);
        self.sums.add(update.new);
        self.sums.subtract(update.old);
        self.grow_root(update.second);
        self.lower_root();
        Some(update.result)
    }

    /// Removes roots that have but one node below.
    fn lower_root(&mut self) {
        while let [Child { node: Node::Inner(only), .. }] = &self.root.children[..] {
            self.root = only.clone();
        }
    }

    pub fn push_front(&mut self, leaf: L) {
        self.insert(0, leaf);
    }

    pub fn push_back(&mut self, leaf: L) {
        self.insert(self.sums.leaves, leaf);
    }

    /// Removes the leaves that have their number in a range; what was shared with nobody is freed.
    pub fn remove(&mut self, range: Range<usize>) {
        let range = range.start.min(self.sums.leaves)..range.end.min(self.sums.leaves);
        if range.is_empty() {
            return;
        }
        if range.len() == self.sums.leaves {
            *self = CountedTree::default();
            return;
        }
        let removed = inner_mut(&mut self.root).remove(range);
        self.sums.subtract(removed);
        self.lower_root();
    }

    /// Cuts the leaf with this number in two by `split`, which keeps the first part and yields the
    /// second one.
    pub fn split(&mut self, number: usize, split: impl FnOnce(&mut L) -> L) {
        if let Some(second) = self.edit(number, split) {
            self.insert(number + 1, second);
        }
    }

    /// The children of the lowest inner node above a leaf, with the number of the first of them.
    fn bottom_node(&self, number: usize) -> Option<(usize, &[Child<L, K>])> {
        if number >= self.sums.leaves {
            return None;
        }
        let (mut inner, mut start) = (&*self.root, 0);
        while let Some(below) = inner.inner_above(number, &mut start) {
            inner = below;
        }
        Some((start, &inner.children))
    }
}

/// The leaves of a range, from both ends.
pub struct Leaves<'a, L, K> {
    tree: &'a CountedTree<L, K>,
    range: Range<usize>,
    /// The lowest inner node that was used last at each end, with its first leaf's number.
    front: (usize, &'a [Child<L, K>]),
    back: (usize, &'a [Child<L, K>]),
}

impl<'a, L: Keyed<K>, K: Clone> Leaves<'a, L, K> {
    fn at(
        tree: &'a CountedTree<L, K>,
        number: usize,
        cached: &mut (usize, &'a [Child<L, K>]),
    ) -> Option<&'a L> {
        let is_there = |(start, children): (usize, &'a [Child<L, K>])| {
            number.checked_sub(start).and_then(|at| children.get(at))
        };
        if is_there(*cached).is_none() {
            *cached = tree.bottom_node(number)?;
        }
        is_there(*cached).map(Child::leaf)
    }
}

impl<'a, L: Keyed<K>, K: Clone> Iterator for Leaves<'a, L, K> {
    type Item = &'a L;

    fn next(&mut self) -> Option<&'a L> {
        let number = self.range.next()?;
        Leaves::at(self.tree, number, &mut self.front)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl<L: Keyed<K>, K: Clone> DoubleEndedIterator for Leaves<'_, L, K> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let number = self.range.next_back()?;
        Leaves::at(self.tree, number, &mut self.back)
    }
}

impl<L: Keyed<K>, K: Clone> ExactSizeIterator for Leaves<'_, L, K> {}
