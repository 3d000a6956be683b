//! The longest common subsequence of two byte strings, by bit-parallel dynamic programming.
//!
//! Neighbouring cells of the classic table `L(i, j)` (the length for the first `i` bytes of `a` and
//! the first `j` of `b`) differ by 0 or 1, so a row is kept as one bit a column: clear where
//! `L(i, j) = L(i, j - 1) + 1`. A whole row follows from the one above it by an addition, an AND
//! and an OR over words of 64 columns (Hyyrö 2004). The plain table, which Redis fills, was
//! refused: it takes 32 times the memory and some 50 times the time.
//!
//! Walking back needs no lengths either. Where the bytes differ, `L(i, j)` is the larger of the
//! cells above and to the left, so the one above is the larger of the two just where the bit is
//! clear. Hence the ranges come out as Redis's walk over the table finds them.
//!
//! Invariant: the bits beyond the last column are never read.

/// Bytes of the masks are looked up by this many slots: one for each byte value.
const BYTE_VALUES: usize = 256;

/// One maximal run of common bytes: where it starts in either string, and its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    pub a_start: usize,
    pub b_start: usize,
    pub len: usize,
}

/// For each byte that `a` has, the columns of `b` that hold it.
struct Masks {
    words: usize,
    /// The number of a byte's mask plus one; 0 for bytes that `a` does not have.
    slots: [u16; BYTE_VALUES],
    bits: Vec<u64>,
}

impl Masks {
    /// Only the bytes of `a` get masks, so that a short `a` costs little beside a very long `b`.
    fn new(a: &[u8], b: &[u8]) -> Masks {
        let words = b.len().div_ceil(64);
        let mut slots = [0; BYTE_VALUES];
        let mut count = 0u16;
        for byte in a {
            let slot = &mut slots[usize::from(*byte)];
            if *slot == 0 {
                count += 1;
                *slot = count;
            }
        }
        let mut bits = vec![0; usize::from(count) * words];
        for (column, byte) in b.iter().enumerate() {
            if let Some(slot) = slots[usize::from(*byte)].checked_sub(1) {
                bits[usize::from(slot) * words + column / 64] |= 1 << (column % 64);
            }
        }
        Masks { words, slots, bits }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let slot = usize::from(self.slots[usize::from(byte)] - 1);
        &self.bits[slot * self.words..][..self.words]
    }
}

/// Turns the row above into the next one.
fn step(row: &mut [u64], mask: &[u64]) {
    let mut carry = false;
    for (word, mask) in row.iter_mut().zip(mask) {
        let common = *word & mask;
        let (sum, over) = word.overflowing_add(common);
        let (sum, over_by_carry) = sum.overflowing_add(u64::from(carry));
        carry = over || over_by_carry;
        *word = sum | (*word & !mask);
    }
}

/// The length, in memory linear in the lengths of the strings.
pub fn length(a: &[u8], b: &[u8]) -> usize {
    let masks = Masks::new(a, b);
    let mut row = vec![u64::MAX; masks.words];
    for byte in a {
        step(&mut row, masks.of(*byte));
    }
    let set_in_last = |last: u64| match b.len() % 64 {
        0 => last.count_zeros(),
        columns => (last | u64::MAX << columns).count_zeros(),
    };
    let (last, full) = match row.split_last() {
        Some((last, full)) => (set_in_last(*last), full),
        None => (0, &[][..]),
    };
    full.iter().map(|word| word.count_zeros() as usize).sum::<usize>() + last as usize
}

/// All rows of the table, to walk back through.
pub struct Alignment<'s> {
    a: &'s [u8],
    b: &'s [u8],
    words: usize,
    rows: Vec<u64>,
}

impl<'s> Alignment<'s> {
    pub fn new(a: &'s [u8], b: &'s [u8]) -> Alignment<'s> {
        let masks = Masks::new(a, b);
        let words = masks.words;
        let mut rows = vec![0; a.len() * words];
        let mut row = vec![u64::MAX; words];
        for (i, byte) in a.iter().enumerate() {
            step(&mut row, masks.of(*byte));
            rows[i * words..][..words].copy_from_slice(&row);
        }
        Alignment { a, b, words, rows }
    }

    /// Whether `L(i, j)` is more than `L(i, j - 1)`; both indexes are at least 1.
    fn grows_at(&self, i: usize, j: usize) -> bool {
        let word = self.rows[(i - 1) * self.words + (j - 1) / 64];
        word >> ((j - 1) % 64) & 1 == 0
    }

    /// Calls `visit` with the positions of each common byte, from the last to the first.
    fn walk_back(&self, mut visit: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                i -= 1;
                j -= 1;
                visit(i, j);
            } else if self.grows_at(i, j) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    /// The common subsequence.
    pub fn bytes(&self) -> Vec<u8> {
        let mut common = Vec::new();
        self.walk_back(|i, _| common.push(self.a[i]));
        common.reverse();
        common
    }

    /// The length of the subsequence and its runs, the last run first.
    pub fn matches(&self) -> (usize, Vec<Match>) {
        let mut len = 0;
        let mut matches: Vec<Match> = Vec::new();
        self.walk_back(|i, j| {
            len += 1;
            match matches.last_mut() {
                Some(run) if run.a_start == i + 1 && run.b_start == j + 1 => {
                    *run = Match { a_start: i, b_start: j, len: run.len + 1 };
                }
                _ => matches.push(Match { a_start: i, b_start: j, len: 1 }),
            }
        });
        (len, matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    /// The plain table and the walk over it.
    fn by_table(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<(usize, usize)>) {
        let mut table = vec![vec![0u32; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let (mut common, mut pairs) = (Vec::new(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                common.push(a[i]);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        common.reverse();
        (common, pairs)
    }

    #[test]
    fn agrees_with_the_plain_table() {
        let mut prng = Prng::seeded(17);
        for round in 0..400 {
            let letters = 1 + prng.next_u64() % if round % 2 == 0 { 3 } else { 200 };
            let mut string = || -> Vec<u8> {
                let len = prng.next_u64() % if round % 3 == 0 { 200 } else { 20 };
                (0..len).map(|_| (prng.next_u64() % letters) as u8).collect()
            };
            let (a, b) = (string(), string());
            let (common, pairs) = by_table(&a, &b);
            assert_eq!(length(&a, &b), common.len());
            let alignment = Alignment::new(&a, &b);
            assert_eq!(alignment.bytes(), common);
            let (len, matches) = alignment.matches();
            assert_eq!(len, common.len());
            let walked: Vec<(usize, usize)> = (matches.iter())
                .flat_map(|m| (0..m.len).rev().map(|k| (m.a_start + k, m.b_start + k)))
                .collect();
            assert_eq!(walked, pairs);
        }
    }

    #[test]
    fn columns_at_the_borders_of_words_count() {
        for len in [0, 1, 63, 64, 65, 127, 128, 129] {
            let same = vec![b'x'; len];
            assert_eq!(length(&same, &same), len);
            assert_eq!(Alignment::new(&same, &same).matches().0, len);
            assert_eq!(length(&same, b"y"), 0);
            assert_eq!(length(b"", &same), 0);
        }
    }
}
