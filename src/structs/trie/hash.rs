//! SipHash-1-3 under a secret key: the hash that orders the trie.
//!
//! Keys come from strangers, and SCAN shows them the order of the hashes, so the hash must be a
//! keyed pseudo-random function; faster unkeyed or weakly keyed hashes are refused. This is our own
//! one-shot code because lookups hash keys of 8 to 32 bytes, where the streaming interface of the
//! siphasher crate costs as much as the rounds; the crate is the oracle of the test below.

/// What a trie makes of the key of an item, to order and find it by. Each kind of trie has a type
/// of its own, so that the hash of one cannot be used in another.
pub trait ItemHash: Copy {
    fn of(secret: HashSecret, key: &[u8]) -> Self;

    /// The bits that order the items, from the highest on. All of them must look random to those
    /// who do not know the secret.
    fn bits(self) -> u64;

    /// How many of the first bits a SCAN cursor tells, by which pages end. Programs keep cursors in
    /// numbers of C's type `int` (redis-cli --cluster import is one), and get lost with more.
    fn cursor_bits(_secret: HashSecret) -> u32 {
        31
    }
}

/// A 128-bit SipHash key.
#[derive(Clone, Copy)]
pub struct HashSecret {
    k0: u64,
    k1: u64,
    /// Hashes of keys begin with their slots.
    is_of_cluster: bool,
    /// Tests make the hash as poor as they like.
    #[cfg(test)]
    weaken: fn(u64) -> u64,
}

impl HashSecret {
    pub fn new(bytes: [u8; 16]) -> HashSecret {
        let (words, _) = bytes.as_chunks::<8>();
        HashSecret {
            k0: u64::from_le_bytes(words[0]),
            k1: u64::from_le_bytes(words[1]),
            is_of_cluster: false,
            #[cfg(test)]
            weaken: |hash| hash,
        }
    }

    #[cfg(test)]
    pub(super) fn weak(bytes: [u8; 16], weaken: fn(u64) -> u64) -> HashSecret {
        HashSecret { weaken, ..HashSecret::new(bytes) }
    }

    /// The same for a member of a cluster.
    pub fn of_cluster(self) -> HashSecret {
        HashSecret { is_of_cluster: true, ..self }
    }

    #[inline]
    pub fn is_of_cluster(&self) -> bool {
        self.is_of_cluster
    }

    /// The 64-bit hash of some bytes.
    #[inline]
    pub fn sip13(&self, bytes: &[u8]) -> u64 {
        let mut state = State {
            v0: self.k0 ^ 0x736f_6d65_7073_6575,
            v1: self.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.k0 ^ 0x6c79_6765_6e65_7261,
            v3: self.k1 ^ 0x7465_6462_7974_6573,
        };
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        state.absorb(last_word(tail) | ((bytes.len() as u64) << 56));
        state.v2 ^= 0xff;
        state.round();
        state.round();
        state.round();
        let hash = state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
        #[cfg(test)]
        let hash = (self.weaken)(hash);
        hash
    }
}

impl std::fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashSecret(secret)")
    }
}

/// The bytes after the last whole word, little-endian, zero-extended.
#[inline(always)]
fn last_word(tail: &[u8]) -> u64 {
    let mut word = 0u64;
    for (i, byte) in tail.iter().enumerate() {
        word |= u64::from(*byte) << (8 * (i & 7));
    }
    word
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::HashSecret;

    #[test]
    fn agrees_with_the_siphasher_crate() {
        let mut key = [0u8; 16];
        let bytes: Vec<u8> = (0..200u32).map(|i| (i * 37 % 251) as u8).collect();
        for round in 0..8u8 {
            for (i, byte) in key.iter_mut().enumerate() {
                *byte = (i as u8).wrapping_mul(29).wrapping_add(round.wrapping_mul(83));
            }
            let oracle = siphasher::sip::SipHasher13::new_with_key(&key);
            for len in 0..bytes.len() {
                assert_eq!(HashSecret::new(key).sip13(&bytes[..len]), oracle.hash(&bytes[..len]));
            }
        }
    }
}
