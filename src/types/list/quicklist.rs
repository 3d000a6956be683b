//! A long list: a counted tree whose leaves are listpacks, or single elements too long for one.
//!
//! Leaves are filled from the ends as Redis fills its nodes; deleting joins none, so that a list
//! goes back to one listpack when Redis's does. Invariant: no leaf is empty.

use super::NodeLimit;
use crate::structs::SharedBytes;
use crate::structs::counted_tree::{CountedTree, Leaf};
use crate::structs::listpack::{self, Gapped, Listpack};
use std::ops::Range;

/// About what an element adds to a listpack beyond its text.
const ELEMENT_OVERHEAD: usize = 8;

const FITS: &str = "a listpack of a list is far from its largest size";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

impl End {
    /// The event of pushing here.
    pub fn pushed(self) -> &'static str {
        if self == End::Left { "lpush" } else { "rpush" }
    }

    /// The event of popping here.
    pub fn popped(self) -> &'static str {
        if self == End::Left { "lpop" } else { "rpop" }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Packed(Gapped),
    Plain(SharedBytes),
}

impl Node {
    pub fn len(&self) -> usize {
        match self {
            Node::Packed(packed) => packed.listpack().len(),
            Node::Plain(_) => 1,
        }
    }

    fn of(text: &[u8], shared: Option<&SharedBytes>, limit: NodeLimit) -> Node {
        if limit.is_large(text.len()) {
            return Node::Plain(shared.cloned().unwrap_or_else(|| SharedBytes::new(text.to_vec())));
        }
        let mut packed = Gapped::default();
        packed.append(text).expect(FITS);
        Node::Packed(packed)
    }

    fn has_room(&self, len: usize, limit: NodeLimit) -> bool {
        match self {
            Node::Plain(_) => false,
            Node::Packed(_) if limit.is_large(len) => false,
            Node::Packed(packed) => {
                let bytes = packed.as_bytes().len() + len + ELEMENT_OVERHEAD;
                !limit.is_exceeded(bytes, self.len() + 1)
            }
        }
    }

    /// Puts a text at an end of a leaf that has room.
    fn push(&mut self, end: End, text: &[u8]) {
        let Node::Packed(packed) = self else { unreachable!("a plain leaf has no room") };
        let pushed = match end {
            End::Left => packed.prepend(text),
            End::Right => packed.append(text),
        };
        pushed.expect(FITS);
    }

    /// Puts a text before the element with an index in a leaf that has room.
    fn insert(&mut self, offset: usize, text: &[u8]) {
        let Node::Packed(packed) = self else { unreachable!("a plain leaf has no room") };
        packed.edit(|bytes| {
            let at = Listpack::trusted(bytes).seek(offset as i64).unwrap_or(bytes.len() - 1);
            listpack::insert(bytes, at, text).expect(FITS);
        });
    }

    /// Deletes a range of elements, which is not all of them.
    fn delete(&mut self, range: Range<usize>) {
        let len = self.len();
        let Node::Packed(packed) = self else { return };
        if range.start == 0 {
            packed.remove_first(range.len());
        } else if range.end == len {
            packed.remove_last(range.len());
        } else {
            packed.edit(|bytes| {
                if let Some(at) = Listpack::trusted(bytes).seek(range.start as i64) {
                    listpack::delete_range(bytes, at, range.len());
                }
            });
        }
    }
}

impl Leaf for Node {
    fn count(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        match self {
            Node::Packed(packed) => packed.capacity(),
            Node::Plain(bytes) => bytes.capacity(),
        }
    }
}

/// A leaf, for those who write lists out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafRef<'a> {
    /// A listpack.
    Packed(&'a [u8]),
    /// A single element.
    Plain(&'a [u8]),
}

#[derive(Clone, Debug, Default)]
pub struct Quicklist {
    pub(super) tree: CountedTree<Node>,
}

impl Quicklist {
    pub fn of_listpack(bytes: Vec<u8>) -> Quicklist {
        let mut list = Quicklist::default();
        list.push_packed(bytes);
        list
    }

    /// Adds a leaf of a well-formed listpack behind the others; an empty one is passed over.
    pub fn push_packed(&mut self, bytes: Vec<u8>) {
        if !Listpack::trusted(&bytes).is_empty() {
            self.tree.push_back(Node::Packed(Gapped::new(bytes)));
        }
    }

    /// Adds a leaf of a single element behind the others.
    pub fn push_plain(&mut self, bytes: SharedBytes) {
        self.tree.push_back(Node::Plain(bytes));
    }

    pub fn leaves(&self) -> impl Iterator<Item = LeafRef<'_>> {
        self.tree.leaves(0..self.tree.leaf_count()).map(|node| match node {
            Node::Packed(packed) => LeafRef::Packed(packed.as_bytes()),
            Node::Plain(bytes) => LeafRef::Plain(bytes),
        })
    }

    pub fn len(&self) -> usize {
        self.tree.count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn leaf_count(&self) -> usize {
        self.tree.leaf_count()
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.tree.shared_share()
    }

    pub fn memory_bytes(&self) -> usize {
        self.tree.bytes()
    }

    /// The listpack that the list is, if it need not be a tree.
    pub fn only_listpack(&self, limit: NodeLimit) -> Option<&[u8]> {
        match self.tree.first()? {
            Node::Packed(packed) if self.tree.leaf_count() == 1 => {
                let bytes = packed.as_bytes();
                (!limit.is_exceeded(bytes.len(), self.len())).then_some(bytes)
            }
            _ => None,
        }
    }

    /// The listpack that the list has shrunk to.
    pub fn shrunk(&self, limit: NodeLimit) -> Option<&[u8]> {
        match self.tree.first()? {
            Node::Packed(packed) if self.tree.leaf_count() == 1 => {
                let bytes = packed.as_bytes();
                limit.is_half_empty(bytes.len(), self.len()).then_some(bytes)
            }
            _ => None,
        }
    }

    pub fn push(&mut self, end: End, text: &[u8], shared: Option<&SharedBytes>, limit: NodeLimit) {
        let (leaf, node) = match end {
            End::Left => (0, self.tree.first()),
            End::Right => (self.tree.leaf_count().saturating_sub(1), self.tree.last()),
        };
        if node.is_some_and(|node| node.has_room(text.len(), limit)) {
            self.tree.edit(leaf, |node| node.push(end, text));
            return;
        }
        let node = Node::of(text, shared, limit);
        match end {
            End::Left => self.tree.push_front(node),
            End::Right => self.tree.push_back(node),
        }
    }

    /// Puts a text before the element with an index, or at the end.
    pub fn insert(
        &mut self,
        index: usize,
        text: &[u8],
        shared: Option<&SharedBytes>,
        limit: NodeLimit,
    ) {
        let Some(place) = self.tree.locate(index) else {
            return self.push(End::Right, text, shared, limit);
        };
        let has_room =
            |leaf: usize| self.tree.leaf(leaf).is_some_and(|node| node.has_room(text.len(), limit));
        if has_room(place.leaf) {
            self.tree.edit(place.leaf, |node| node.insert(place.offset, text));
            return;
        }
        if place.offset > 0 {
            self.tree.split(place.leaf, |node| {
                let Node::Packed(packed) = node else {
                    unreachable!("a plain leaf is one element")
                };
                Node::Packed(Gapped::new(packed.edit(|bytes| {
                    let at = Listpack::trusted(bytes).seek(place.offset as i64);
                    listpack::split_off(bytes, at.expect("it is there"))
                })))
            });
            // Now the element's place is at the start of a leaf, before which there is another.
            return self.insert(index, text, shared, limit);
        }
        if place.leaf > 0 && has_room(place.leaf - 1) {
            self.tree.edit(place.leaf - 1, |node| node.insert(node.len(), text));
        } else {
            self.tree.insert(place.leaf, Node::of(text, shared, limit));
        }
    }

    /// Puts a text in the place of the element with an index that is there.
    pub fn replace(
        &mut self,
        index: usize,
        text: &[u8],
        shared: Option<&SharedBytes>,
        limit: NodeLimit,
    ) {
        self.delete(index..index + 1);
        self.insert(index, text, shared, limit);
    }

    pub fn delete(&mut self, range: Range<usize>) {
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return;
        }
        let mut first = self.tree.locate(range.start).expect("it is in the list");
        let last = self.tree.locate(range.end - 1).expect("it is in the list");
        let last_len = self.tree.leaf(last.leaf).map_or(0, Node::len);
        if first.leaf == last.leaf && (first.offset > 0 || last.offset + 1 < last_len) {
            self.tree.edit(first.leaf, |node| node.delete(first.offset..last.offset + 1));
            return;
        }
        let mut end = last.leaf + 1;
        if last.offset + 1 < last_len {
            self.tree.edit(last.leaf, |node| node.delete(0..last.offset + 1));
            end -= 1;
        }
        if first.offset > 0 {
            self.tree.edit(first.leaf, |node| node.delete(first.offset..node.len()));
            first.leaf += 1;
        }
        self.tree.remove(first.leaf..end);
    }

    /// Removes up to `max` elements that are this text, the first or the last ones.
    pub fn remove(&mut self, text: &[u8], max: usize, from: End) -> usize {
        let (mut removed, mut seen) = (0, 0);
        let mut leaf = 0;
        let leaves = self.tree.leaf_count();
        while seen < leaves && removed < max {
            seen += 1;
            if from == End::Right {
                leaf = leaves - seen;
            }
            let (gone, rest) = match self.tree.leaf(leaf) {
                Some(Node::Plain(bytes)) => (usize::from(bytes.as_slice() == text), None),
                Some(Node::Packed(packed)) => {
                    match remove_matches(packed.listpack(), text, max - removed, from) {
                        Some((rest, gone)) => (gone, Some(rest)),
                        None => (0, None),
                    }
                }
                None => break,
            };
            removed += gone;
            match rest {
                Some(rest) if !Listpack::trusted(&rest).is_empty() => {
                    self.tree.edit(leaf, |node| *node = Node::Packed(Gapped::new(rest)));
                    leaf += 1;
                }
                _ if gone > 0 => self.tree.remove(leaf..leaf + 1),
                _ => leaf += 1,
            }
        }
        removed
    }
}

/// A listpack without up to `max` elements that are this text, the first or the last ones, and how
/// many they were; `None` if there are none.
pub fn remove_matches(
    listpack: Listpack<'_>,
    text: &[u8],
    max: usize,
    from: End,
) -> Option<(Vec<u8>, usize)> {
    let matches = listpack.iter().filter(|(_, element)| element.is(text)).count();
    let removed = matches.min(max);
    if removed == 0 {
        return None;
    }
    let kept_first = if from == End::Left { 0 } else { matches - removed };
    let mut rest = listpack::new_empty();
    let mut seen = 0;
    for (_, element) in listpack.iter() {
        let is_match = element.is(text);
        seen += usize::from(is_match);
        if !is_match || seen <= kept_first || seen > kept_first + removed {
            listpack::append_element(&mut rest, element).expect(FITS);
        }
    }
    Some((rest, removed))
}
