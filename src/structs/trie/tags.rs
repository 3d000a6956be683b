//! Finding a byte among the 48 tags of a segment, all at once, and which slots a tag prefers.
//!
//! On x86-64 three SSE2 comparisons answer it, elsewhere words of eight tags are compared by
//! arithmetic. The only unsafe thing here is to call a function that needs SSE2, which every x86-64
//! processor has; the arithmetic form stays in the tests as the oracle.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use super::segment::{CAPACITY, LINE};

const MAX_LINES: usize = CAPACITY / LINE;

/// The line that a tag prefers, by the number of lines. It is a consistent hash: when a line is
/// added, the tags that change their minds all prefer the new one.
static PREFERENCES: [[u8; 256]; MAX_LINES + 1] = preferences();

/// The line of slots that a tag prefers among so many.
#[inline(always)]
pub(super) fn line_of(tag: u8, lines: usize) -> usize {
    match PREFERENCES.get(lines) {
        Some(preferences) => preferences[tag as usize] as usize,
        None => 0,
    }
}

const fn preferences() -> [[u8; 256]; MAX_LINES + 1] {
    let mut table = [[0; 256]; MAX_LINES + 1];
    let mut lines = 2;
    while lines <= MAX_LINES {
        // Of the tags that prefer each line so far, one in `lines` takes to the new line.
        let mut seen = [0; MAX_LINES];
        let mut tag = 0;
        while tag < 256 {
            let line = table[lines - 1][tag];
            seen[line as usize] += 1;
            let moves = seen[line as usize] % lines == 0;
            table[lines][tag] = if moves { lines as u8 - 1 } else { line };
            tag += 1;
        }
        lines += 1;
    }
    table
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
    use super::{CAPACITY, MAX_LINES, line_of, matching, matching_by_words};

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
    fn tags_spread_over_the_lines_and_move_only_to_new_ones() {
        for lines in 1..=MAX_LINES {
            let mut counts = [0usize; MAX_LINES];
            for tag in 0..=255 {
                let line = line_of(tag, lines);
                counts[line] += 1;
                assert!(line < lines);
                assert!(lines == 1 || line == lines - 1 || line == line_of(tag, lines - 1));
            }
            let share = 256 / lines;
            assert!(counts[..lines].iter().all(|count| count.abs_diff(share) <= 6), "{counts:?}");
        }
    }
}
