//! Nodes of the counted tree: how an edit, an insertion and a removal go down and come back up.
//!
//! They recurse, since each level must mend its sums and its shape after the one below; the depth
//! is the tree's, a handful. A full node that was grown at an end is split there, so that a
//! sequence built by pushing has full nodes; any other is split in the middle.

use super::{Leaf, Place, Sums};
use std::ops::Range;
use triomphe::Arc;

/// So many children an inner node may have.
pub(super) const FANOUT: usize = 32;

/// A node with fewer children, once a removal met it, is joined with a neighbour.
const SPARSE: usize = 8;

#[derive(Clone, Debug)]
pub(super) enum Node<L> {
    Leaf(Arc<L>),
    Inner(Arc<Inner<L>>),
}

#[derive(Clone, Debug)]
pub(super) struct Child<L> {
    pub sums: Sums,
    pub node: Node<L>,
}

#[derive(Clone, Debug)]
pub(super) struct Inner<L> {
    pub children: Vec<Child<L>>,
}

impl<L: Leaf> Child<L> {
    pub fn of_leaf(leaf: L) -> Child<L> {
        Child { sums: Sums::of(&leaf), node: Node::Leaf(Arc::new(leaf)) }
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

impl<L: Leaf> Inner<L> {
    pub fn empty() -> Inner<L> {
        Inner { children: Vec::new() }
    }

    fn sums(&self) -> Sums {
        let mut total = Sums::default();
        for child in &self.children {
            total.add(child.sums);
        }
        total
    }

    /// The child that holds an element; the place is made relative to it.
    pub fn child_of_element(&self, place: &mut Place) -> &Child<L> {
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
    pub fn inner_above(&self, number: usize, start: &mut usize) -> Option<&Inner<L>> {
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

    /// Changes a leaf; yields its sums before and after.
    pub fn edit<R>(&mut self, number: usize, edit: impl FnOnce(&mut L) -> R) -> (Sums, Sums, R) {
        let (at, start) = self.child_of_leaf(number);
        let child = &mut self.children[at];
        let (old, new, result) = match &mut child.node {
            Node::Inner(below) => Arc::make_mut(below).edit(number - start, edit),
            Node::Leaf(leaf) => {
                let result = edit(Arc::make_mut(leaf));
                (child.sums, Sums::of(&**leaf), result)
            }
        };
        child.sums.subtract(old);
        child.sums.add(new);
        (old, new, result)
    }

    /// Puts a leaf before the one with this number; yields what had to be split off.
    pub fn insert(&mut self, number: usize, leaf: Child<L>) -> Option<Child<L>> {
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
            let second = Arc::make_mut(below).insert(number - start, leaf)?;
            child.sums.subtract(second.sums);
            self.children.insert(at + 1, second);
            if at == 0 && number == 0 { 0 } else { at + 1 }
        };
        if self.children.len() <= FANOUT {
            return None;
        }
        let cut = match at {
            0 => 1,
            FANOUT => FANOUT,
            _ => self.children.len() / 2,
        };
        let second = Inner { children: self.children.split_off(cut) };
        Some(Child { sums: second.sums(), node: Node::Inner(Arc::new(second)) })
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
                removed.add(child.sums);
                return false;
            }
            if let Node::Inner(below) = &mut child.node
                && !within.is_empty()
            {
                let gone = Arc::make_mut(below).remove(within.start - start..within.end - start);
                child.sums.subtract(gone);
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
        let is_sparse = |child: &Child<L>| match &child.node {
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
        let first = Arc::make_mut(first);
        first.children.extend(second.children.iter().cloned());
        let second = match first.children.len() {
            0..=FANOUT => None,
            total => Some(Inner { children: first.children.split_off(total / 2) }),
        };
        self.children[left].sums.add(right.sums);
        if let Some(second) = second {
            let sums = second.sums();
            self.children[left].sums.subtract(sums);
            self.children.insert(left + 1, Child { sums, node: Node::Inner(Arc::new(second)) });
        }
    }

    /// The depth of the leaves below, all invariants checked.
    #[cfg(test)]
    pub fn check(&self, is_root: bool) -> usize {
        assert!(self.children.len() <= FANOUT && (is_root || !self.children.is_empty()));
        let depths: Vec<usize> = (self.children.iter())
            .map(|child| match &child.node {
                Node::Leaf(leaf) => {
                    assert_eq!(child.sums, Sums::of(&**leaf));
                    0
                }
                Node::Inner(inner) => {
                    assert_eq!(child.sums, inner.sums());
                    inner.check(false)
                }
            })
            .collect();
        assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
        1 + depths.first().copied().unwrap_or(0)
    }
}
