//! Two questions that a processor answers in a few instructions, and plain code in many: where a
//! byte is among the 48 tags of a segment, and how many bits of a word are set.
//!
//! They are asked on the way to every key. On x86-64 three SSE2 comparisons find the tags. POPCNT
//! is not in the baseline that Rust compiles for, though nearly every processor has it, so it is
//! asked for at run time, a branch that is always predicted; a batched lookup takes an eighth less
//! with it. Building for a newer processor is refused as the only way, because `cargo install`
//! would miss it. The plain forms stay, for other processors and as oracles of the tests.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::segment::CAPACITY;

/// The number of bits set.
#[inline(always)]
pub(super) fn ones(word: u64) -> usize {
    #[cfg(all(target_arch = "x86_64", not(target_feature = "popcnt"), not(miri)))]
    if std::arch::is_x86_feature_detected!("popcnt") {
        let count: u64;
        // SAFETY: the processor has the instruction, which reads one register and writes another.
        unsafe {
            std::arch::asm!(
                "popcnt {count}, {word}",
                count = lateout(reg) count,
                word = in(reg) word,
                options(pure, nomem, nostack),
            );
        }
        return count as usize;
    }
    word.count_ones() as usize
}

/// The positions of a tag, as a bit mask.
#[inline(always)]
pub(super) fn matching(tags: &[u8; CAPACITY], tag: u8) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: SSE2 is part of the x86-64 baseline, so the features that the function needs are
        // there; it takes and returns plain values.
        unsafe { matching_by_sse2(tags, tag) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    matching_by_words(tags, tag)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn matching_by_sse2(tags: &[u8; CAPACITY], tag: u8) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let (words, _) = tags.as_chunks::<8>();
    let wanted = _mm_set1_epi8(tag as i8);
    let mut mask = 0;
    for i in 0..CAPACITY / 16 {
        let lower = i64::from_le_bytes(words[2 * i]);
        let upper = i64::from_le_bytes(words[2 * i + 1]);
        let equal = _mm_cmpeq_epi8(_mm_set_epi64x(upper, lower), wanted);
        mask |= (_mm_movemask_epi8(equal) as u64) << (16 * i);
    }
    mask
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn matching_by_words(tags: &[u8; CAPACITY], tag: u8) -> u64 {
    const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let wanted = u64::from(tag) * 0x0101_0101_0101_0101;
    let (words, _) = tags.as_chunks::<8>();
    let mut mask = 0;
    for (i, word) in words.iter().enumerate() {
        let differing = u64::from_le_bytes(*word) ^ wanted;
        // The top bit of each byte of `equal` says that the byte does not differ at all.
        let equal = !(((differing & LOW_SEVEN) + LOW_SEVEN) | differing | LOW_SEVEN);
        mask |= (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, matching, matching_by_words, ones};

    #[test]
    fn tags_are_found_at_every_position() {
        let mut tags = [0u8; CAPACITY];
        for (i, tag) in tags.iter_mut().enumerate() {
            *tag = (i * 41 % 97) as u8 | if i % 3 == 0 { 0x80 } else { 0 };
        }
        for tag in 0..=255 {
            let mut expected = 0u64;
            for (i, found) in tags.iter().enumerate() {
                expected |= u64::from(*found == tag) << i;
            }
            assert_eq!(matching(&tags, tag), expected);
            assert_eq!(matching_by_words(&tags, tag), expected);
        }
    }

    #[test]
    fn bits_are_counted() {
        let mut word = 1u64;
        for _ in 0..1_000 {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word >> 29;
            for masked in [word, word & word << 7, word >> 40, 0, u64::MAX] {
                assert_eq!(ones(masked), masked.count_ones() as usize);
            }
        }
    }
}
