//! Counting bits and finding the first one of a kind, in any range of bits.
//!
//! Whole bytes in the middle of a range are taken in blocks, the bits at its edges by masks. Blocks
//! are counted with carry-save adders: the bits of eight vectors are summed into bit planes, so
//! that one vector in eight must be counted. Without the instruction that counts bits, which not
//! every processor we run on has, that is six times as fast as counting each word.

use std::ops::Range;

/// Four words that are worked on together.
type Lanes = [u64; 4];

const LANES_BYTES: usize = size_of::<Lanes>();
const BLOCK_BYTES: usize = 8 * LANES_BYTES;

/// Counts the ones in a range of bits, which lies within `bytes`.
pub fn count_ones_in(bytes: &[u8], range: Range<u64>) -> u64 {
    let Some(cut) = Cut::new(&range) else { return 0 };
    let edges = u64::from((cut.first_byte(bytes) & cut.first_mask).count_ones())
        + u64::from((cut.last_byte(bytes) & cut.last_mask).count_ones());
    edges + count_ones(&bytes[cut.middle])
}

/// The first bit of that value in a range of bits, which lies within `bytes`.
pub fn first_bit_in(bytes: &[u8], bit: bool, range: Range<u64>) -> Option<u64> {
    let cut = Cut::new(&range)?;
    // Looking for a zero is looking for a one among the inverted bits.
    let flip = if bit { 0 } else { u8::MAX };
    let in_byte = |byte: u8, mask: u8| {
        let ones = (byte ^ flip) & mask;
        (ones != 0).then(|| u64::from(ones.leading_zeros()))
    };
    if let Some(at) = in_byte(cut.first_byte(bytes), cut.first_mask) {
        return Some(cut.first as u64 * 8 + at);
    }
    let middle = &bytes[cut.middle.clone()];
    if let Some(index) = first_byte_other_than(middle, flip) {
        let at = in_byte(middle[index], u8::MAX).expect("the byte has such a bit");
        return Some((cut.middle.start + index) as u64 * 8 + at);
    }
    let at = in_byte(cut.last_byte(bytes), cut.last_mask)?;
    Some(cut.last as u64 * 8 + at)
}

/// A range of bits as the bits of its first byte, whole bytes, and the bits of its last byte.
struct Cut {
    first: usize,
    first_mask: u8,
    middle: Range<usize>,
    last: usize,
    last_mask: u8,
}

impl Cut {
    /// `None` if the range is empty.
    fn new(range: &Range<u64>) -> Option<Cut> {
        if range.start >= range.end {
            return None;
        }
        let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
        let first_mask = u8::MAX >> (range.start % 8);
        let last_mask = u8::MAX << (7 - (range.end - 1) % 8);
        Some(if first == last {
            Cut { first, first_mask: first_mask & last_mask, middle: 0..0, last, last_mask: 0 }
        } else {
            Cut { first, first_mask, middle: first + 1..last, last, last_mask }
        })
    }

    fn first_byte(&self, bytes: &[u8]) -> u8 {
        bytes[self.first]
    }

    fn last_byte(&self, bytes: &[u8]) -> u8 {
        bytes[self.last]
    }
}

/// The first byte that differs from `byte`.
fn first_byte_other_than(bytes: &[u8], byte: u8) -> Option<usize> {
    let differs = |block: &[u8]| block.iter().fold(0, |all, b| all | (b ^ byte)) != 0;
    let skipped = bytes.chunks(BLOCK_BYTES).position(differs)? * BLOCK_BYTES;
    let within = bytes[skipped..].iter().position(|b| *b != byte);
    within.map(|at| skipped + at)
}

fn count_ones(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    let (mut ones, mut twos, mut fours) = ([0; 4], [0; 4], [0; 4]);
    let mut eights = 0;
    for block in blocks {
        let (vectors, _) = block.as_chunks::<LANES_BYTES>();
        let (twos_a, sum) = add(ones, load(&vectors[0]), load(&vectors[1]));
        let (twos_b, sum) = add(sum, load(&vectors[2]), load(&vectors[3]));
        let (fours_a, sum_twos) = add(twos, twos_a, twos_b);
        let (twos_a, sum) = add(sum, load(&vectors[4]), load(&vectors[5]));
        let (twos_b, sum) = add(sum, load(&vectors[6]), load(&vectors[7]));
        let (fours_b, sum_twos) = add(sum_twos, twos_a, twos_b);
        let (carried, sum_fours) = add(fours, fours_a, fours_b);
        (ones, twos, fours) = (sum, sum_twos, sum_fours);
        eights += count_lanes(carried);
    }
    let blocks = 8 * eights + 4 * count_lanes(fours) + 2 * count_lanes(twos) + count_lanes(ones);
    blocks + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

#[inline(always)]
fn load(bytes: &[u8; LANES_BYTES]) -> Lanes {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
}

/// Adds three bits in each place: the carries, and the sums.
#[inline(always)]
fn add(a: Lanes, b: Lanes, c: Lanes) -> (Lanes, Lanes) {
    let half: Lanes = std::array::from_fn(|i| a[i] ^ b[i]);
    let carry = std::array::from_fn(|i| (a[i] & b[i]) | (half[i] & c[i]));
    let sum = std::array::from_fn(|i| half[i] ^ c[i]);
    (carry, sum)
}

#[inline(always)]
fn count_lanes(lanes: Lanes) -> u64 {
    lanes.iter().map(|word| u64::from(word.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    fn bit_at(bytes: &[u8], at: u64) -> bool {
        bytes[(at / 8) as usize] & (0x80 >> (at % 8)) != 0
    }

    #[test]
    fn ranges_do_as_bit_by_bit() {
        let mut prng = Prng::seeded(7);
        for round in 0..400 {
            let len = prng.below(1200) as usize + 1;
            // Long runs of one value, so that finding has something to skip.
            let mut bytes = vec![if round % 2 == 0 { 0 } else { u8::MAX }; len];
            for _ in 0..prng.below(4) * prng.below(300) {
                let at = prng.below(len as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            for _ in 0..20 {
                let start = prng.below(len as u64 * 8 + 1);
                let end = prng.below(len as u64 * 8 + 1);
                let ones = (start..end).filter(|at| bit_at(&bytes, *at)).count();
                assert_eq!(count_ones_in(&bytes, start..end), ones as u64);
                for bit in [false, true] {
                    let first = (start..end).find(|at| bit_at(&bytes, *at) == bit);
                    assert_eq!(first_bit_in(&bytes, bit, start..end), first, "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn the_empty_string_has_no_bits() {
        assert_eq!(count_ones_in(b"", 0..0), 0);
        assert_eq!(first_bit_in(b"", false, 0..0), None);
    }
}
