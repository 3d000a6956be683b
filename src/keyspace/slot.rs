//! Hash slots: into which of the 16384 parts of a cluster a key belongs.
//!
//! A slot is CRC-16/XMODEM of the key, or of what stands between its first `{` and the next `}` if
//! that is anything, modulo 16384 (the Redis Cluster specification). In a cluster it is the first
//! bits of the key's hash, so that the keys of a slot lie side by side in the trie: they are
//! counted, listed, taken out and put in without looking at others.

use crate::structs::trie::Prefix;
use memchr::memchr;
use std::fmt;

pub const SLOTS: usize = 1 << SLOT_BITS;

/// How many bits of a hash a slot takes.
pub const SLOT_BITS: u32 = 14;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// That of a number; none if it is out of range.
    pub fn new(number: u64) -> Option<Slot> {
        (number < SLOTS as u64).then_some(Slot(number as u16))
    }

    #[inline]
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(hashed_part(key)) % SLOTS as u16)
    }

    /// The slot of whatever a glob-style pattern matches, if it is one: the pattern has a hash tag,
    /// and no letter up to its end that stands for others, or none at all.
    pub fn of_pattern(pattern: &[u8]) -> Option<Slot> {
        let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let Some(varies_from) = pattern.iter().position(is_special) else {
            return Some(Slot::of(pattern));
        };
        let literal = &pattern[..varies_from];
        tag_of(literal).map(|_| Slot::of(literal))
    }

    /// That of a hash whose first bits are a slot.
    #[inline]
    pub(super) fn of_hash(bits: u64) -> Slot {
        Slot((bits >> (64 - SLOT_BITS)) as u16)
    }

    pub fn all() -> impl DoubleEndedIterator<Item = Slot> {
        (0..SLOTS as u16).map(Slot)
    }

    pub fn number(self) -> u16 {
        self.0
    }

    /// The first bits of the hashes of its keys.
    pub(super) fn prefix(self) -> Prefix {
        Prefix::of(self.first_bits(), SLOT_BITS)
    }

    /// The least hash of one of its keys.
    #[inline]
    pub(super) fn first_bits(self) -> u64 {
        u64::from(self.0) << (64 - SLOT_BITS)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What stands between the first `{` and the next `}`; none if there is nothing.
fn tag_of(key: &[u8]) -> Option<&[u8]> {
    let open = memchr(b'{', key)?;
    let rest = &key[open + 1..];
    let close = memchr(b'}', rest)?;
    (close > 0).then_some(&rest[..close])
}

#[inline]
fn hashed_part(key: &[u8]) -> &[u8] {
    tag_of(key).unwrap_or(key)
}

const POLYNOMIAL: u16 = 0x1021;
const SLICES: usize = 8;

/// `TABLES[n][b]` is the checksum of the byte `b` with `n` zero bytes behind it.
static TABLES: [[u16; 256]; SLICES] = tables();

const fn tables() -> [[u16; 256]; SLICES] {
    let mut tables = [[0u16; 256]; SLICES];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = if crc & 0x8000 != 0 { POLYNOMIAL } else { 0 };
            crc = crc << 1 ^ carry;
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < SLICES {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = before << 8 ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// CRC-16/XMODEM, eight bytes at a time: each byte's share is looked up by itself, so the lookups
/// wait for nothing but the two bytes before (slicing, by Kounavis and Berry, 2005). Byte by byte,
/// as in the crate that the tests compare with, the slot would cost more than the hash.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(SLICES);
    for chunk in &mut chunks {
        let [high, low] = crc.to_be_bytes();
        crc = TABLES[7][usize::from(chunk[0] ^ high)]
            ^ TABLES[6][usize::from(chunk[1] ^ low)]
            ^ TABLES[5][usize::from(chunk[2])]
            ^ TABLES[4][usize::from(chunk[3])]
            ^ TABLES[3][usize::from(chunk[4])]
            ^ TABLES[2][usize::from(chunk[5])]
            ^ TABLES[1][usize::from(chunk[6])]
            ^ TABLES[0][usize::from(chunk[7])];
    }
    for byte in chunks.remainder() {
        crc = crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    #[test]
    fn the_checksum_is_that_of_the_model() {
        let mut prng = Prng::seeded(1);
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
            let model = crc16::State::<crc16::XMODEM>::calculate(&bytes);
            assert_eq!(super::crc16(&bytes), model, "{bytes:?}");
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        let table: &[(&[u8], u16)] = &[
            (b"", 0),
            (b"123456789", 12739),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"{user1000}.following", 3443),
            (b"{user1000}.followers", 3443),
            (b"user1000", 3443),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
        ];
        for (key, slot) in table {
            assert_eq!(Slot::of(key).number(), *slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_pattern_has_a_slot_if_its_tag_comes_before_what_varies() {
        let of = |pattern: &[u8]| Slot::of_pattern(pattern).map(Slot::number);
        assert_eq!(of(b"{bar}*"), Some(5061));
        assert_eq!(of(b"x{bar}"), Some(5061));
        assert_eq!(of(b"bar"), Some(5061), "it matches one key");
        for pattern in [&b"*{bar}"[..], b"{ba?}", b"{b[a]r}", b"{ba\\r}", b"{}bar*", b"{bar*"] {
            assert_eq!(of(pattern), None, "{}", pattern.escape_ascii());
        }
    }
}
