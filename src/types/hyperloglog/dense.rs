//! Registers of six bits, packed from the lowest bit of the first byte on: four in three bytes.

use super::REGISTERS;

const REGISTER_BITS: usize = 6;
const MASK: u16 = (1 << REGISTER_BITS) - 1;

pub const BYTES: usize = REGISTERS * REGISTER_BITS / 8;

/// A register; `body` has all of them.
#[inline]
pub fn get(body: &[u8], index: usize) -> u8 {
    let (at, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    ((pair(body, at) >> shift) & MASK) as u8
}

#[inline]
pub fn set(body: &mut [u8], index: usize, value: u8) {
    let (at, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let changed = (pair(body, at) & !(MASK << shift)) | (u16::from(value) & MASK) << shift;
    let [low, high] = changed.to_le_bytes();
    body[at] = low;
    // The last register ends with the last byte.
    if let Some(byte) = body.get_mut(at + 1) {
        *byte = high;
    }
}

fn pair(body: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([body[at], body.get(at + 1).copied().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    #[test]
    fn registers_do_not_touch_their_neighbours() {
        let mut prng = Prng::seeded(1);
        let mut body = vec![0; BYTES];
        let mut model = vec![0; REGISTERS];
        for _ in 0..200_000 {
            let index = prng.below(REGISTERS as u64) as usize;
            model[index] = prng.below(64) as u8;
            set(&mut body, index, model[index]);
        }
        assert!((0..REGISTERS).all(|index| get(&body, index) == model[index]));
    }
}
