//! A big set: a trie of members, with the sum of what they take, so that its memory is known
//! without a walk.

use crate::structs::blob::Blob;
use crate::structs::pins;
use crate::structs::prng::Prng;
use crate::structs::trie::{HashSecret, Item, Iter, Slot, Trie};
use crate::types::MemberHash;

/// A member of a big set.
impl Item for Blob {
    type Hash = MemberHash;

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    fn deadline_ms(&self) -> u64 {
        u64::MAX
    }

    #[inline(always)]
    fn prefetch(&self) {
        Blob::prefetch(self);
    }
}

/// A set as a trie. Cloning it is a snapshot, in constant time.
#[derive(Clone)]
pub struct SetTable {
    members: Trie<Blob>,
    member_bytes: usize,
}

impl SetTable {
    pub fn new(secret: HashSecret) -> SetTable {
        SetTable { members: Trie::new(secret), member_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The hash by which this table finds a member; the same for all tables of a server.
    #[inline]
    pub fn hash(&self, member: &[u8]) -> MemberHash {
        self.members.hash(member)
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        self.contains_hashed(self.hash(member), member)
    }

    #[inline]
    pub fn contains_hashed(&self, hash: MemberHash, member: &[u8]) -> bool {
        self.members.get(hash, member).is_some()
    }

    /// Starts fetching what lookups of these hashes will read.
    pub fn prefetch(&self, hashes: &[MemberHash]) {
        self.members.prefetch(hashes);
    }

    /// Adds a member; false if it was there.
    pub fn insert(&mut self, member: &[u8]) -> bool {
        let hash = self.hash(member);
        self.insert_with(hash, member, || Blob::new(member))
    }

    /// Adds a member that another table holds; false if it was there.
    pub fn insert_shared(&mut self, member: &Blob) -> bool {
        let hash = self.hash(member.as_bytes());
        self.insert_with(hash, member.as_bytes(), || member.clone())
    }

    #[inline]
    fn insert_with(
        &mut self,
        hash: MemberHash,
        member: &[u8],
        make: impl FnOnce() -> Blob,
    ) -> bool {
        let Slot::Vacant(vacant) = self.members.slot(hash, member) else { return false };
        let blob = vacant.insert(make());
        self.member_bytes += blob.memory_bytes();
        true
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(blob) = self.members.remove(self.hash(member), member) else { return false };
        self.member_bytes -= blob.memory_bytes();
        if blob.is_shared() {
            pins::report(blob.memory_bytes());
        }
        true
    }

    /// All members, in hash order by and large.
    pub fn iter(&self) -> Iter<'_, Blob> {
        self.members.iter()
    }

    /// Visits about `count` members in hash order, from a position on; the next position, 0 at the
    /// end.
    pub fn scan(&self, from: u64, count: usize, mut visit: impl FnMut(&[u8])) -> u64 {
        self.members.scan(from, count, |member| visit(member.as_bytes()))
    }

    /// A member, each with the same chance.
    pub fn random(&self, prng: &mut Prng) -> Option<&Blob> {
        self.members.random(&mut |bound| prng.below(bound))
    }

    /// About which part of it snapshots share, from 0 to 1.
    pub fn shared_share(&self) -> f64 {
        self.members.shared_share()
    }

    /// The memory of members and nodes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<SetTable>() + self.members.memory_bytes() + self.member_bytes
    }
}

impl std::fmt::Debug for SetTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetTable").field("len", &self.len()).finish_non_exhaustive()
    }
}
