//! Members in order: the counted tree of a big sorted set.
//!
//! A [`Member`] is one shared allocation of score and bytes, which the trie and the tree both point
//! to. A leaf of the tree repeats the score beside the pointer: a search then stays within the leaf
//! but for equal scores. Leaves of pointers alone would take a third less, and a cache miss for
//! every comparison.
//!
//! Invariant: a slot's score is its member's, and slots ascend by [`compare`].

use std::cmp::Ordering;
use std::ops::Range;

use crate::structs::blob::Blob;
use crate::structs::counted_tree::{CountedTree, Keyed, Leaf, Leaves};
use crate::structs::trie::Item;
use crate::types::MemberHash;
use smallvec::SmallVec;

const SCORE_WIDTH: usize = size_of::<f64>();

/// The most bytes of a member that is put together on the stack.
const STACK_LEN: usize = 256;

/// A leaf holds so many members at the most.
const LEAF_MAX: usize = 64;
/// A leaf grows by so many at a time, which is a size class of the allocator.
const LEAF_STEP: usize = 8;

/// The order of a sorted set. Scores are never NaN.
#[inline]
pub fn compare(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    if a.0 < b.0 {
        Ordering::Less
    } else if a.0 > b.0 {
        Ordering::Greater
    } else {
        a.1.cmp(b.1)
    }
}

/// A member with its score.
#[derive(Clone, Debug)]
pub struct Member(Blob);

impl Member {
    pub fn new(score: f64, bytes: &[u8]) -> Member {
        let mut whole: SmallVec<[u8; STACK_LEN]> = SmallVec::new();
        whole.extend_from_slice(&score.to_le_bytes());
        whole.extend_from_slice(bytes);
        Member(Blob::new(&whole))
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0.as_bytes()[SCORE_WIDTH..]
    }

    #[inline]
    pub fn score(&self) -> f64 {
        let score = self.0.as_bytes().first_chunk().expect("a member begins with its score");
        f64::from_le_bytes(*score)
    }

    /// Whether anybody else holds it.
    pub fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

impl Item for Member {
    type Hash = MemberHash;

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.bytes()
    }

    #[inline]
    fn deadline_ms(&self) -> u64 {
        u64::MAX
    }

    #[inline(always)]
    fn prefetch(&self) {
        self.0.prefetch();
    }
}

/// A member in a leaf.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    score: f64,
    member: Member,
}

impl Slot {
    fn of(member: Member) -> Slot {
        Slot { score: member.score(), member }
    }

    #[inline]
    fn is_less(&self, score: f64, bytes: &[u8]) -> bool {
        self.score < score || (self.score == score && self.member.bytes() < bytes)
    }
}

/// A leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Run(Vec<Slot>);

impl Leaf for Run {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Slot>()
    }
}

impl Keyed<Slot> for Run {
    const JOINED_MAX: usize = LEAF_MAX / 2;

    fn key(&self) -> Slot {
        self.0.last().expect("a leaf in the tree is not empty").clone()
    }

    fn has_key(&self, key: &Slot) -> bool {
        self.0.last().is_some_and(|slot| slot.member.0.is_same(&key.member.0))
    }

    fn absorb(&mut self, next: &Run) {
        self.0.reserve_exact(next.0.len().next_multiple_of(LEAF_STEP));
        self.0.extend_from_slice(&next.0);
    }
}

impl Run {
    /// Puts a slot in its place; yields what had to be split off.
    fn insert(&mut self, slot: Slot) -> Option<Run> {
        let at = self.0.partition_point(|own| own.is_less(slot.score, slot.member.bytes()));
        if self.0.len() < LEAF_MAX {
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(LEAF_STEP);
            }
            self.0.insert(at, slot);
            return None;
        }
        // A sequence that only grows at its end is to have full leaves.
        let cut = if at == LEAF_MAX { LEAF_MAX } else { LEAF_MAX / 2 };
        let mut second = Run(Vec::with_capacity(LEAF_MAX - cut + LEAF_STEP));
        second.0.extend(self.0.drain(cut..));
        if at > cut || cut == LEAF_MAX {
            second.0.insert(at - cut, slot);
        } else {
            self.0.insert(at, slot);
        }
        Some(second)
    }
}

/// All members in order. Cloning it takes a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(CountedTree<Run, Slot>);

impl Order {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.count()
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.bytes()
    }

    /// How many members `is_before` holds of; it must hold of all before them.
    pub fn rank_where(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        let is_before = |slot: &Slot| is_before(slot.score, slot.member.bytes());
        let (elements, leaf) = self.0.search(is_before);
        elements + leaf.map_or(0, |leaf| leaf.0.partition_point(is_before))
    }

    pub fn rank_of(&self, score: f64, bytes: &[u8]) -> usize {
        let is_before = |slot: &Slot| slot.is_less(score, bytes);
        let (elements, leaf) = self.0.search(is_before);
        elements + leaf.map_or(0, |leaf| leaf.0.partition_point(is_before))
    }

    /// Adds a member that is not there.
    pub fn insert(&mut self, member: Member) {
        let slot = Slot::of(member);
        if self.0.leaf_count() == 0 {
            let mut first = Run::default();
            first.insert(slot);
            self.0.push_back(first);
            return;
        }
        let (score, member) = (slot.score, slot.member.clone());
        let is_before = |key: &Slot| key.is_less(score, member.bytes());
        self.0.update(is_before, |leaf| ((), leaf.insert(slot)));
    }

    /// Removes a member that is there.
    pub fn remove(&mut self, member: &Member) {
        let (score, bytes) = (member.score(), member.bytes());
        self.0.update(
            |key| key.is_less(score, bytes),
            |leaf| {
                let at = leaf.0.partition_point(|slot| slot.is_less(score, bytes));
                debug_assert_eq!(leaf.0[at].member.bytes(), bytes);
                leaf.0.remove(at);
                ((), None)
            },
        );
    }

    /// Removes the members of a range of ranks.
    pub fn remove_range(&mut self, ranks: Range<usize>) {
        let mut left = ranks.len();
        while left > 0 {
            let place = self.0.locate(ranks.start).expect("the ranks are there");
            let leaf = self.0.leaf(place.leaf).expect("it was just found");
            let count = left.min(leaf.0.len() - place.offset);
            if count == leaf.0.len() {
                self.0.remove(place.leaf..place.leaf + 1);
            } else {
                self.0.edit(place.leaf, |leaf| {
                    leaf.0.drain(place.offset..place.offset + count);
                });
            }
            left -= count;
        }
    }

    /// The members of a range of ranks, from both ends.
    pub fn range(&self, ranks: Range<usize>) -> Members<'_> {
        let none = Members { leaves: self.0.leaves(0..0), front: [].iter(), back: [].iter() };
        let Some(last) = ranks.end.checked_sub(1).filter(|_| !ranks.is_empty()) else {
            return none;
        };
        let (Some(first), Some(last)) = (self.0.locate(ranks.start), self.0.locate(last)) else {
            return none;
        };
        let slots = |number| &self.0.leaf(number).expect("it was just located").0;
        if first.leaf == last.leaf {
            let front = slots(first.leaf)[first.offset..=last.offset].iter();
            return Members { front, ..none };
        }
        Members {
            leaves: self.0.leaves(first.leaf + 1..last.leaf),
            front: slots(first.leaf)[first.offset..].iter(),
            back: slots(last.leaf)[..=last.offset].iter(),
        }
    }
}

/// Members in order, from both ends.
pub struct Members<'a> {
    leaves: Leaves<'a, Run, Slot>,
    front: std::slice::Iter<'a, Slot>,
    back: std::slice::Iter<'a, Slot>,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a Member;

    #[inline]
    fn next(&mut self) -> Option<&'a Member> {
        loop {
            if let Some(slot) = self.front.next() {
                return Some(&slot.member);
            }
            match self.leaves.next() {
                Some(leaf) => self.front = leaf.0.iter(),
                None => return self.back.next().map(|slot| &slot.member),
            }
        }
    }
}

impl DoubleEndedIterator for Members<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(slot) = self.back.next_back() {
                return Some(&slot.member);
            }
            match self.leaves.next_back() {
                Some(leaf) => self.back = leaf.0.iter(),
                None => return self.front.next_back().map(|slot| &slot.member),
            }
        }
    }
}
