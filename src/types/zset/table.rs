//! A big sorted set: a trie that finds members, and a tree that has them in order.
//!
//! Both hold the same counted allocations, so each member is stored once. A new score makes a new
//! member, since snapshots may share the old one.
//!
//! Invariant: trie and tree hold the same members.

use std::ops::Range;

use super::order::{Member, Members, Order};
use crate::structs::pins;
use crate::structs::prng::Prng;
use crate::structs::trie::{HashSecret, Slot, Trie};
use crate::types::MemberHash;

/// A sorted set as a trie and a tree. Cloning it is a snapshot, in constant time.
#[derive(Clone)]
pub struct ZSetTable {
    members: Trie<Member>,
    order: Order,
    member_bytes: usize,
}

impl ZSetTable {
    pub fn new(secret: HashSecret) -> ZSetTable {
        ZSetTable { members: Trie::new(secret), order: Order::default(), member_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(self.members.hash(member), member).map(Member::score)
    }

    /// Sets the score of a member; true if it is new.
    pub fn set(&mut self, bytes: &[u8], score: f64) -> bool {
        let hash = self.members.hash(bytes);
        let member = Member::new(score, bytes);
        self.member_bytes += member.memory_bytes();
        match self.members.slot(hash, bytes) {
            Slot::Vacant(vacant) => {
                vacant.insert(member.clone());
                self.order.insert(member);
                true
            }
            Slot::Occupied(slot) => {
                let old = std::mem::replace(slot, member.clone());
                self.order.remove(&old);
                self.uncount(&old);
                self.order.insert(member);
                false
            }
        }
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, bytes: &[u8]) -> bool {
        let Some(member) = self.members.remove(self.members.hash(bytes), bytes) else {
            return false;
        };
        self.order.remove(&member);
        self.uncount(&member);
        true
    }

    /// A member is out of both, the trie and the order.
    fn uncount(&mut self, member: &Member) {
        self.member_bytes -= member.memory_bytes();
        if member.is_shared() {
            pins::report(member.memory_bytes());
        }
    }

    /// Removes the members of a range of ranks and yields them in order.
    pub fn take_range(&mut self, ranks: Range<usize>) -> Vec<Member> {
        let taken: Vec<Member> = self.order.range(ranks.clone()).cloned().collect();
        self.order.remove_range(ranks);
        for member in &taken {
            self.members.remove(self.members.hash(member.bytes()), member.bytes());
            self.uncount(member);
        }
        taken
    }

    /// How many members come before the first of which `is_before` does not hold.
    pub fn rank_where(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        self.order.rank_where(is_before)
    }

    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.order.rank_of(score, member), score))
    }

    /// The members of a range of ranks, in order.
    pub fn range(&self, ranks: Range<usize>) -> Members<'_> {
        self.order.range(ranks)
    }

    /// Visits about `count` members from a cursor on and returns the next one, 0 after the last.
    pub fn scan(&self, from: u64, count: usize, visit: impl FnMut(&Member)) -> u64 {
        self.members.scan(from, count, visit)
    }

    /// A member, each with the same chance.
    pub fn random(&self, prng: &mut Prng) -> Option<&Member> {
        self.members.random(&mut |bound| prng.below(bound))
    }

    /// Under what a member is looked up.
    pub fn hash(&self, member: &[u8]) -> MemberHash {
        self.members.hash(member)
    }

    /// Starts fetching what lookups of these hashes will read.
    pub fn prefetch(&self, hashes: &[MemberHash]) {
        self.members.prefetch(hashes);
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.members.shared_share()
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<ZSetTable>()
            + self.members.memory_bytes()
            + self.order.memory_bytes()
            + self.member_bytes
    }

    /// Checks that trie and tree agree.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.order.len(), self.members.len());
        for (rank, member) in self.range(0..self.len()).enumerate() {
            assert_eq!(self.rank(member.bytes()), Some((rank, member.score())));
        }
    }
}

impl std::fmt::Debug for ZSetTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZSetTable").field("len", &self.len()).finish_non_exhaustive()
    }
}
