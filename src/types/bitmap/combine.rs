//! Combining strings bit by bit into one as long as the longest; shorter ones end in zeros.
//!
//! The result is worked out in blocks that stay in the first cache while all sources pass over
//! them, so that each source is read once and the result written once, whatever the number of
//! sources. The loops over the bytes of a block are such as the compiler vectorises.

const BLOCK_BYTES: usize = 4096;

/// What BITOP can do with its sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// In the first, and in none of the others.
    Diff,
    /// In any of the others, and not in the first.
    Diff1,
    /// In the first, and in any of the others.
    AndOr,
    /// In just one of them.
    One,
}

impl Operation {
    pub const ALL: [(&'static str, Operation); 8] = [
        ("AND", Operation::And),
        ("OR", Operation::Or),
        ("XOR", Operation::Xor),
        ("NOT", Operation::Not),
        ("DIFF", Operation::Diff),
        ("DIFF1", Operation::Diff1),
        ("ANDOR", Operation::AndOr),
        ("ONE", Operation::One),
    ];

    /// Combines the sources, at least one.
    pub fn combine(self, sources: &[&[u8]]) -> Vec<u8> {
        let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
        let mut result = vec![0; len];
        for (index, block) in result.chunks_mut(BLOCK_BYTES).enumerate() {
            let len = block.len();
            let part = |source: usize| -> &[u8] {
                let rest = sources[source].get(index * BLOCK_BYTES..).unwrap_or(&[]);
                &rest[..rest.len().min(len)]
            };
            let others = (1..sources.len()).map(part);
            block_of(self, part(0), others, block);
        }
        result
    }
}

/// One block of the result, which is zero. `first` and the others may be shorter.
fn block_of<'s>(
    operation: Operation,
    first: &[u8],
    others: impl Iterator<Item = &'s [u8]>,
    block: &mut [u8],
) {
    let or = |block: &mut [u8], source: &[u8]| each(block, source, |to, from| *to |= from);
    match operation {
        Operation::And => {
            or(block, first);
            for other in others {
                and(block, other);
            }
        }
        Operation::Or => {
            or(block, first);
            others.for_each(|other| or(block, other));
        }
        Operation::Xor => {
            or(block, first);
            others.for_each(|other| each(block, other, |to, from| *to ^= from));
        }
        Operation::Not => {
            or(block, first);
            block.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Operation::AndOr => {
            others.for_each(|other| or(block, other));
            and(block, first);
        }
        Operation::Diff1 => {
            others.for_each(|other| or(block, other));
            each(block, first, |to, from| *to &= !from);
        }
        Operation::Diff => {
            or(block, first);
            others.for_each(|other| each(block, other, |to, from| *to &= !from));
        }
        Operation::One => {
            or(block, first);
            one_of(block, others);
        }
    }
}

/// Leaves in `block`, which holds the first source, the bits that only one source has.
fn one_of<'s>(block: &mut [u8], others: impl Iterator<Item = &'s [u8]>) {
    let mut repeated = [0; BLOCK_BYTES];
    for other in others {
        for ((seen, repeated), from) in block.iter_mut().zip(&mut repeated).zip(other) {
            *repeated |= *seen & from;
            *seen |= from;
        }
    }
    each(block, &repeated, |seen, repeated| *seen &= !repeated);
}

/// Beyond the source's end there are zeros.
fn and(block: &mut [u8], source: &[u8]) {
    each(block, source, |to, from| *to &= from);
    let end = source.len().min(block.len());
    block[end..].fill(0);
}

#[inline(always)]
fn each(block: &mut [u8], source: &[u8], change: impl Fn(&mut u8, u8)) {
    block.iter_mut().zip(source).for_each(|(to, from)| change(to, *from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    /// One bit of the result from that bit of each source.
    fn bit_of(operation: Operation, bits: &[bool]) -> bool {
        let (first, others) = (bits[0], &bits[1..]);
        let any_other = others.contains(&true);
        match operation {
            Operation::And => bits.iter().all(|bit| *bit),
            Operation::Or => first || any_other,
            Operation::Xor => bits.iter().fold(false, |sum, bit| sum ^ bit),
            Operation::Not => !first,
            Operation::Diff => first && !any_other,
            Operation::Diff1 => !first && any_other,
            Operation::AndOr => first && any_other,
            Operation::One => bits.iter().filter(|bit| **bit).count() == 1,
        }
    }

    #[test]
    fn blocks_do_as_bit_by_bit() {
        let mut prng = Prng::seeded(5);
        for round in 0..160 {
            let (_, operation) = Operation::ALL[round % 8];
            let count = if operation == Operation::Not { 1 } else { 1 + prng.below(5) as usize };
            let lens = [0, 1, 7, 30, 4095, 4096, 4097, 9000];
            let sources: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let len = lens[prng.below(8) as usize];
                    (0..len).map(|_| prng.next_u64() as u8).collect()
                })
                .collect();
            let refs: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let result = operation.combine(&refs);
            assert_eq!(result.len(), refs.iter().map(|source| source.len()).max().unwrap());
            for (at, byte) in result.iter().enumerate() {
                let expected = (0..8).fold(0, |expected, bit| {
                    let has = |source: &&[u8]| source.get(at).is_some_and(|b| b >> bit & 1 != 0);
                    let bits: Vec<bool> = refs.iter().map(has).collect();
                    expected | u8::from(bit_of(operation, &bits)) << bit
                });
                assert_eq!(*byte, expected, "{operation:?} at {at}");
            }
        }
    }
}
