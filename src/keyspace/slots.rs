//! How much each slot holds, in a cluster.

use super::slot::{SLOTS, Slot};
use crate::structs::prng::Prng;

/// So many slots are counted together, for who draws one of them.
const GROUP: usize = 128;

/// What a slot holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SlotFigures {
    pub keys: u32,
    pub expiring: u32,
    /// Of all expiry times.
    pub expiry_sum_ms: u128,
}

#[derive(Clone)]
pub struct Slots {
    figures: Box<[SlotFigures]>,
    /// The keys of each group of slots.
    groups: Box<[u64]>,
}

impl Slots {
    pub fn new() -> Slots {
        let figures = vec![SlotFigures::default(); SLOTS].into();
        Slots { figures, groups: vec![0; SLOTS / GROUP].into() }
    }

    pub fn of(&self, slot: Slot) -> SlotFigures {
        self.figures[slot.number() as usize]
    }

    #[inline]
    pub fn count_key(&mut self, slot: Slot) {
        self.figures[slot.number() as usize].keys += 1;
        self.groups[slot.number() as usize / GROUP] += 1;
    }

    #[inline]
    pub fn uncount_key(&mut self, slot: Slot) {
        self.figures[slot.number() as usize].keys -= 1;
        self.groups[slot.number() as usize / GROUP] -= 1;
    }

    pub fn count_expiry(&mut self, slot: Slot, at_ms: u64) {
        let figures = &mut self.figures[slot.number() as usize];
        figures.expiring += 1;
        figures.expiry_sum_ms += u128::from(at_ms);
    }

    pub fn uncount_expiry(&mut self, slot: Slot, at_ms: u64) {
        let figures = &mut self.figures[slot.number() as usize];
        figures.expiring -= 1;
        figures.expiry_sum_ms -= u128::from(at_ms);
    }

    /// A slot holds this from now on; what it held before.
    pub fn replace(&mut self, slot: Slot, figures: SlotFigures) -> SlotFigures {
        let before = std::mem::replace(&mut self.figures[slot.number() as usize], figures);
        let group = &mut self.groups[slot.number() as usize / GROUP];
        *group = *group + u64::from(figures.keys) - u64::from(before.keys);
        before
    }

    /// A slot, by chance: each as likely as it has keys. None if none has any.
    pub fn draw(&self, prng: &mut Prng) -> Option<Slot> {
        let keys: u64 = self.groups.iter().sum();
        if keys == 0 {
            return None;
        }
        let mut left = prng.below(keys);
        let mut group = 0;
        while left >= self.groups[group] {
            left -= self.groups[group];
            group += 1;
        }
        let mut at = group * GROUP;
        while left >= u64::from(self.figures[at].keys) {
            left -= u64::from(self.figures[at].keys);
            at += 1;
        }
        Slot::new(at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_drawn_as_often_as_it_has_keys() {
        let mut slots = Slots::new();
        let mut prng = Prng::seeded(5);
        assert_eq!(slots.draw(&mut prng), None);
        let held = [(0, 1), (127, 2), (128, 4), (9_000, 8), (16_383, 1)];
        for (number, keys) in held {
            let slot = Slot::new(number).expect("it is one");
            (0..keys + 1).for_each(|_| slots.count_key(slot));
            slots.uncount_key(slot);
        }
        let mut drawn = [0u32; SLOTS];
        for _ in 0..16_000 {
            drawn[slots.draw(&mut prng).expect("there are keys").number() as usize] += 1;
        }
        for (number, keys) in held {
            let count = drawn[number as usize];
            assert!(count.abs_diff(keys * 1_000) < 200, "{number}: {count}");
        }
        assert_eq!(drawn.iter().sum::<u32>(), 16_000);
    }
}
