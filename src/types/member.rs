//! The hash of what lies in a collection: a field of a hash, a member of a set or sorted set.
//!
//! It is another type than the hash of a key: the two are never compared, and a key's may come to
//! hold more than what its text yields.

use crate::structs::trie::{HashSecret, ItemHash};

/// The hash of a field or member. In all collections of a server it is the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MemberHash(u64);

impl ItemHash for MemberHash {
    #[inline(always)]
    fn of(secret: HashSecret, member: &[u8]) -> MemberHash {
        MemberHash(secret.sip13(member))
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        self.0
    }
}
