//! Keys and their hashes: the one place in which a key is hashed.
//!
//! A hash is a type of its own, so that the compiler tells it from the hash of a member of a
//! collection, which may be the same text. Whoever has a key and wants to look it up asks for a
//! [`Key`], by [`super::Keyspace::key`] or [`super::Keys::key`]; the arguments of commands are
//! keys already. Nobody else makes hashes of keys, except for tries, which make the same ones.
//!
//! In a cluster the hash of a key begins with its slot, so who has the one has the other: the gate
//! that redirects asks no key twice, and the keys of a slot lie side by side.

use super::slot::{SLOT_BITS, Slot};
use crate::structs::trie::{HashSecret, ItemHash};

/// The hash of a key. In all databases of a server, and in all tables of keys, it is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHash(u64);

const _: () = assert!(size_of::<KeyHash>() == size_of::<u64>());

impl KeyHash {
    /// As poor a hash as a test likes.
    #[cfg(test)]
    pub fn poor(bits: u64) -> KeyHash {
        KeyHash(bits)
    }

    /// The key's slot, in a cluster.
    #[inline]
    pub fn slot(self) -> Slot {
        Slot::of_hash(self.0)
    }
}

impl ItemHash for KeyHash {
    #[inline(always)]
    fn of(secret: HashSecret, key: &[u8]) -> KeyHash {
        let hash = secret.sip13(key);
        match secret.is_of_cluster() {
            false => KeyHash(hash),
            true => KeyHash(Slot::of(key).first_bits() | hash >> SLOT_BITS),
        }
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        self.0
    }

    /// In a cluster the keys of one slot must be told apart, too. Who walks there by a C `int` is
    /// not known; JavaScript's numbers have 53 bits.
    fn cursor_bits(secret: HashSecret) -> u32 {
        if secret.is_of_cluster() { 48 } else { 31 }
    }
}

/// A key with its hash, which is computed once and goes with the key from the prefetch to the
/// last lookup.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    hash: KeyHash,
}

impl<'a> Key<'a> {
    /// A key that has been hashed before.
    #[inline]
    pub fn hashed(bytes: &'a [u8], hash: KeyHash) -> Key<'a> {
        Key { bytes, hash }
    }

    #[inline(always)]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// What hashes the keys of a server, for those who do not have its keyspace at hand.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher(HashSecret);

impl KeyHasher {
    pub fn new(secret: HashSecret) -> KeyHasher {
        KeyHasher(secret)
    }

    #[inline]
    pub fn hash(self, key: &[u8]) -> KeyHash {
        KeyHash::of(self.0, key)
    }

    #[inline]
    pub fn key<'a>(self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.hash(bytes) }
    }
}
