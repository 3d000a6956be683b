//! Nodes of the counted tree: how an edit, an insertion and a removal go down and come back up.
//!
//! They recurse, since each level must mend its sums and its shape after the one below; the depth
//! is the tree's, a handful. A full node that was grown at an end is split there, so that a
//! sequence built by pushing has full nodes; any other is split in the middle.

use super::{Keyed, Leaf, Place, Sums};
use crate::structs::pins::{self, Share};
use std::ops::Range;
use triomphe::Arc;

/// So many children an inner node may have.
pub(super) const FANOUT: usize = 32;

/// A node with fewer children, once a removal met it, is joined with a neighbour.
const SPARSE: usize = 8;

#[derive(Clone, Debug)]
pub(super) enum Node<L, K> {
    Leaf(Arc<L>),
    Inner(Arc<Inner<L, K>>),
}

#[derive(Clone, Debug)]
pub(super) struct Child<L, K> {
    pub sums: Sums,
    pub node: Node<L, K>,
    /// The key of the last leaf below.
    pub key: K,
}

#[derive(Clone, Debug)]
pub(super) struct Inner<L, K> {
    pub children: Vec<Child<L, K>>,
}

/// What the change of a leaf did to a node above it.
pub(super) struct Update<L, K, R> {
    /// What was below the changed children, and what is now.
    pub old: Sums,
    pub new: Sums,
    /// Whether the key of the node is another now.
    key_changed: bool,
    /// What had to be split off the node; `new` still has it.
    pub second: Option<Child<L, K>>,
    pub result: R,
}

/// Write access to a leaf; copies it first if a snapshot shares it.
#[inline]
pub(super) fn leaf_mut<L: Leaf>(leaf: &mut Arc<L>) -> &mut L {
    pins::make_mut(leaf, |leaf| size_of::<L>() + leaf.bytes())
}

/// The same for an inner node.
#[inline]
pub(super) fn inner_mut<L: Clone, K: Clone>(inner: &mut Arc<Inner<L, K>>) -> &mut Inner<L, K> {
    pins::make_mut(inner, |inner| inner.children.capacity() * size_of::<Child<L, K>>())
}

impl<L: Keyed<K>, K: Clone> Child<L, K> {
    pub fn of_leaf(leaf: L) -> Child<L, K> {
        Child { sums: Sums::of(&leaf), key: leaf.key(), node: Node::Leaf(Arc::new(leaf)) }
    }

    /// A node that is not empty, with the sums it is known to have.
    pub fn of_inner(inner: Arc<Inner<L, K>>, sums: Sums) -> Child<L, K> {
        Child { sums, key: inner.last_key().clone(), node: Node::Inner(inner) }
    }

    /// Brings the key up to date after a change below; true if it is another.
    fn refresh_key(&mut self) -> bool {
        match &self.node {
            Node::Leaf(leaf) if leaf.has_key(&self.key) => return false,
            Node::Leaf(leaf) => self.key = leaf.key(),
            Node::Inner(below) => self.key = below.last_key().clone(),
        }
        true
    }

    /// Whether a snapshot shares the node itself, or may share what is below it.
    pub fn share(&self) -> Share<'_, Child<L, K>> {
        match &self.node {
            Node::Leaf(leaf) if leaf.is_unique() => Share::None,
            Node::Inner(inner) if inner.is_unique() => Share::Of(&inner.children),
            _ => Share::All,
        }
    }

    /// The leaf that this child is.
    pub fn leaf(&self) -> &L {
        match &self.node {
            Node::Leaf(leaf) => leaf,
            Node::Inner(_) => unreachable!("the children of a bottom node are leaves"),
        }
    }

    pub fn last_leaf(&self) -> &L {
        let mut child = self;
        while let Node::Inner(inner) = &child.node {
            child = inner.children.last().expect("only the root may be empty");
        }
        child.leaf()
    }
}

impl<L: Keyed<K>, K: Clone> Inner<L, K> {
    pub fn empty() -> Inner<L, K> {
        Inner { children: Vec::new() }
    }

    fn last_key(&self) -> &K {
        &self.children.last().expect("only the root may be empty").key
    }

    fn sums(&self) -> Sums {
        let mut total = Sums::default();
        for child in &self.children {
            total.add(child.sums);
        }
        total
    }

    /// The child that holds an element; the place is made relative to it. The nearer end of the
    /// node, which has these sums, is where the search starts: lists are used at their ends.
    pub fn child_of_element(&self, place: &mut Place, sums: Sums) -> &Child<L, K> {
        if place.offset > sums.elements / 2 {
            let mut from_end = sums.elements - place.offset;
            place.leaf += sums.leaves;
            for child in self.children.iter().rev() {
                place.leaf -= child.sums.leaves;
                if from_end <= child.sums.elements {
                    place.offset = child.sums.elements - from_end;
                    return child;
                }
                from_end -= child.sums.elements;
            }
        }
        for child in &self.children {
            if place.offset < child.sums.elements {
                return child;
            }
            place.offset -= child.sums.elements;
            place.leaf += child.sums.leaves;
        }
        unreachable!("the index was checked against the sums")
    }

    /// The child above a leaf that is there, and the number of its first leaf in this node.
    fn child_of_leaf(&self, number: usize) -> (usize, usize) {
        if let Some(Child { node: Node::Leaf(_), .. }) = self.children.first() {
            return (number, number);
        }
        let mut start = 0;
        for (at, child) in self.children.iter().enumerate() {
            if number - start < child.sums.leaves {
                return (at, start);
            }
            start += child.sums.leaves;
        }
        unreachable!("the number was checked against the sums")
    }

    /// The inner node below this one and above a leaf, if there is one; `start` is the number of
    /// this node's first leaf, and then of that one's.
    pub fn inner_above(&self, number: usize, start: &mut usize) -> Option<&Inner<L, K>> {
        if let Node::Leaf(_) = self.children.first()?.node {
            return None;
        }
        let (at, offset) = self.child_of_leaf(number - *start);
        *start += offset;
        match &self.children[at].node {
            Node::Inner(below) => Some(below),
            Node::Leaf(_) => None,
        }
    }

    /// Changes a leaf, the last one if it has no number; yields its sums before and after.
    pub fn edit<R>(
        &mut self,
        number: Option<usize>,
        edit: impl FnOnce(&mut L) -> R,
    ) -> (Sums, Sums, R) {
        let (at, start) = match number {
            Some(number) => self.child_of_leaf(number),
            None => (self.children.len() - 1, 0),
        };
        let child = &mut self.children[at];
        let (old, new, result) = match &mut child.node {
            Node::Inner(below) => inner_mut(below).edit(number.map(|n| n - start), edit),
            Node::Leaf(leaf) => {
                let result = edit(leaf_mut(leaf));
                (child.sums, Sums::of(&**leaf), result)
            }
        };
        child.sums.subtract(old);
        child.sums.add(new);
        child.refresh_key();
        (old, new, result)
    }

    /// Changes the leaf that a key leads to: the first of which `is_before` does not hold, or the
    /// last. A leaf that `edit` cuts in two yields its second part; one that it empties goes away.
    pub fn update<R>(
        &mut self,
        is_before: &impl Fn(&K) -> bool,
        edit: impl FnOnce(&mut L) -> (R, Option<L>),
    ) -> Update<L, K, R> {
        let at = self.children.partition_point(|child| is_before(&child.key));
        let at = at.min(self.children.len() - 1);
        let child = &mut self.children[at];
        let mut update = match &mut child.node {
            Node::Inner(below) => inner_mut(below).update(is_before, edit),
            Node::Leaf(leaf) => {
                let (old, leaf) = (child.sums, leaf_mut(leaf));
                let (result, second) = edit(leaf);
                let second = second.map(Child::of_leaf);
                let mut new = Sums::of(leaf);
                new.add(second.as_ref().map_or(Sums::default(), |second| second.sums));
                Update { old, new, key_changed: true, second, result }
            }
        };
        child.sums.add(update.new);
        child.sums.subtract(update.old);
        let second = update.second.take();
        if let Some(second) = &second {
            child.sums.subtract(second.sums);
        }
        if child.sums.elements == 0 {
            update.old.leaves += child.sums.leaves;
            update.old.bytes += child.sums.bytes;
            self.children.remove(at);
            update.key_changed = true;
        } else {
            update.key_changed = update.key_changed && child.refresh_key();
            update.key_changed &= at + 1 == self.children.len();
        }
        if let Some(second) = second {
            self.children.insert(at + 1, second);
            update.key_changed |= at + 2 == self.children.len();
        } else if update.new.elements < update.old.elements {
            self.mend_after_removal(at, &mut update);
        }
        update.second = self.split_if_full(at + 1);
        update.key_changed |= update.second.is_some();
        update
    }

    /// Joins a child that has lost an element with a neighbour if both are small.
    fn mend_after_removal<R>(&mut self, at: usize, update: &mut Update<L, K, R>) {
        if !matches!(self.children.first(), Some(Child { node: Node::Leaf(_), .. })) {
            return self.join_if_sparse(at);
        }
        let fits = |pair: &[Child<L, K>]| match pair {
            [first, second] => first.sums.elements + second.sums.elements <= L::JOINED_MAX,
            _ => false,
        };
        let first = [Some(at), at.checked_sub(1)].into_iter().flatten();
        let Some(first) = { first }.find(|at| self.children.get(*at..at + 2).is_some_and(fits))
        else {
            return;
        };
        let second = self.children.remove(first + 1);
        let child = &mut self.children[first];
        update.old.add(child.sums);
        update.old.add(second.sums);
        if let Node::Leaf(leaf) = &mut child.node {
            let leaf = leaf_mut(leaf);
            leaf.absorb(second.leaf());
            child.sums = Sums::of(leaf);
        }
        update.new.add(child.sums);
        child.key = second.key;
    }

    /// Puts a leaf before the one with this number; yields what had to be split off.
    pub fn insert(&mut self, number: usize, leaf: Child<L, K>) -> Option<Child<L, K>> {
        let is_bottom = !matches!(self.children.first(), Some(Child { node: Node::Inner(_), .. }));
        let at = if is_bottom {
            self.children.insert(number, leaf);
            number
        } else {
            // The end of a leaf's predecessor's node is as good a place as the start of its own.
            let (at, start) = self.child_of_leaf(number.saturating_sub(1));
            let child = &mut self.children[at];
            let Node::Inner(below) = &mut child.node else {
                unreachable!("all leaves are at one depth")
            };
            child.sums.add(leaf.sums);
            let second = inner_mut(below).insert(number - start, leaf);
            child.refresh_key();
            let second = second?;
            child.sums.subtract(second.sums);
            self.children.insert(at + 1, second);
            if at == 0 && number == 0 { 0 } else { at + 1 }
        };
        self.split_if_full(at)
    }

    /// Splits off the end of a node that has outgrown itself by the child at `at`.
    fn split_if_full(&mut self, at: usize) -> Option<Child<L, K>> {
        if self.children.len() <= FANOUT {
            return None;
        }
        let cut = match at {
            0 => 1,
            FANOUT => FANOUT,
            _ => self.children.len() / 2,
        };
        let second = Inner { children: self.children.split_off(cut) };
        if cut == FANOUT {
            // Grown at its end, it is full for good.
            self.children.shrink_to_fit();
        }
        let sums = second.sums();
        Some(Child::of_inner(Arc::new(second), sums))
    }

    /// Removes a range of leaves, but not all of them; yields their sums.
    pub fn remove(&mut self, range: Range<usize>) -> Sums {
        let (mut position, mut kept, mut removed) = (0, 0, Sums::default());
        let (mut first_cut, mut last_cut) = (None, None);
        self.children.retain_mut(|child| {
            let (start, end) = (position, position + child.sums.leaves);
            position = end;
            let within = range.start.clamp(start, end)..range.end.clamp(start, end);
            if within.len() == child.sums.leaves {
                if matches!(child.share(), Share::All) {
                    pins::report(child.sums.bytes);
                }
                removed.add(child.sums);
                return false;
            }
            if let Node::Inner(below) = &mut child.node
                && !within.is_empty()
            {
                let gone = inner_mut(below).remove(within.start - start..within.end - start);
                child.sums.subtract(gone);
                child.refresh_key();
                removed.add(gone);
                first_cut.get_or_insert(kept);
                last_cut = Some(kept);
            }
            kept += 1;
            true
        });
        for at in [last_cut, first_cut.filter(|_| first_cut != last_cut)].into_iter().flatten() {
            self.join_if_sparse(at);
        }
        removed
    }

    /// Joins a sparse child with a neighbour, or has the neighbour give it some of its children.
    fn join_if_sparse(&mut self, at: usize) {
        let is_sparse = |child: &Child<L, K>| match &child.node {
            Node::Inner(inner) => inner.children.len() < SPARSE,
            Node::Leaf(_) => false,
        };
        let left = if at + 1 < self.children.len() { at } else { at.saturating_sub(1) };
        if self.children.len() < 2 || !self.children.get(at).is_some_and(is_sparse) {
            return;
        }
        let right = self.children.remove(left + 1);
        let (Node::Inner(first), Node::Inner(second)) =
            (&mut self.children[left].node, &right.node)
        else {
            unreachable!("all leaves are at one depth")
        };
        let first = inner_mut(first);
        first.children.extend(second.children.iter().cloned());
        let second = match first.children.len() {
            0..=FANOUT => None,
            total => Some(Inner { children: first.children.split_off(total / 2) }),
        };
        self.children[left].sums.add(right.sums);
        if let Some(second) = second {
            let sums = second.sums();
            self.children[left].sums.subtract(sums);
            self.children.insert(left + 1, Child::of_inner(Arc::new(second), sums));
        }
        self.children[left].refresh_key();
    }

    /// The depth of the leaves below, all invariants checked.
    #[cfg(test)]
    pub fn check(&self, is_root: bool) -> usize {
        assert!(self.children.len() <= FANOUT && (is_root || !self.children.is_empty()));
        let depths: Vec<usize> = (self.children.iter())
            .map(|child| match &child.node {
                Node::Leaf(leaf) => {
                    assert_eq!(child.sums, Sums::of(&**leaf));
                    assert!(leaf.has_key(&child.key));
                    0
                }
                Node::Inner(inner) => {
                    assert_eq!(child.sums, inner.sums());
                    assert!(child.last_leaf().has_key(&child.key));
                    inner.check(false)
                }
            })
            .collect();
        assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
        1 + depths.first().copied().unwrap_or(0)
    }
}
