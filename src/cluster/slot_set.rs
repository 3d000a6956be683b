//! A set of slots, one bit each, as it stands in packets: slot `s` is bit `s % 8` of byte `s / 8`.
//!
//! What a packet says is looked at where it lies ([`SlotBits`]); only what is kept is copied.

use crate::keyspace::slot::{SLOTS, Slot};
use std::fmt;

pub const SLOT_BYTES: usize = SLOTS / 8;

/// A set that lies somewhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SlotBits<'b>(pub &'b [u8; SLOT_BYTES]);

impl<'b> SlotBits<'b> {
    pub const EMPTY: SlotBits<'static> = SlotBits(&[0; SLOT_BYTES]);

    pub fn has(self, slot: Slot) -> bool {
        self.0[byte_of(slot)] & bit_of(slot) != 0
    }

    /// Sixty-four slots each, the first in the lowest bit.
    fn words(self) -> impl Iterator<Item = u64> + use<'b> {
        let (words, _) = self.0.as_chunks();
        words.iter().map(|word| u64::from_le_bytes(*word))
    }

    pub fn len(self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(self) -> bool {
        self.words().all(|word| word == 0)
    }

    /// The slots, in order. Words without any are passed over.
    pub fn iter(self) -> impl Iterator<Item = Slot> + use<'b> {
        (0..).zip(self.words()).flat_map(|(at, word)| bits_of(word).map(move |bit| slot(at, bit)))
    }

    /// The first and the last slot of each run of neighbours.
    pub fn runs(self) -> Vec<(Slot, Slot)> {
        let mut runs = Vec::new();
        let (mut first, mut is_in) = (None, 0);
        for (at, word) in (0..).zip(self.words()) {
            // Bits that differ from the one before: there runs begin and end.
            let turns = word ^ (word << 1 | is_in);
            is_in = word >> 63;
            for bit in bits_of(turns) {
                match first.take() {
                    None => first = Some(slot(at, bit)),
                    Some(begun) => runs.push((begun, before(at, bit))),
                }
            }
        }
        let last = Slot::all().next_back().expect("there are slots");
        runs.extend(first.map(|begun| (begun, last)));
        runs
    }

    pub fn to_set(self) -> SlotSet {
        SlotSet(Box::new(*self.0))
    }
}

impl fmt::Debug for SlotBits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.runs();
        f.debug_list().entries(runs.iter().map(|(first, last)| format!("{first}-{last}"))).finish()
    }
}

/// A set of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u8; SLOT_BYTES]>);

impl SlotSet {
    pub fn new() -> SlotSet {
        SlotBits::EMPTY.to_set()
    }

    pub fn bits(&self) -> SlotBits<'_> {
        SlotBits(&self.0)
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.bits().has(slot)
    }

    pub fn insert(&mut self, slot: Slot) {
        self.0[byte_of(slot)] |= bit_of(slot);
    }

    pub fn remove(&mut self, slot: Slot) {
        self.0[byte_of(slot)] &= !bit_of(slot);
    }

    /// Takes out what another set has.
    pub fn remove_all(&mut self, other: SlotBits) {
        let bytes = self.0.iter_mut().zip(other.0);
        bytes.for_each(|(byte, other)| *byte &= !other);
    }
}

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Slot>>(slots: T) -> SlotSet {
        let mut set = SlotSet::new();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bits().fmt(f)
    }
}

/// The numbers of the bits of a word that are set.
fn bits_of(mut word: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(u64::from(bit))
    })
}

fn slot(word: u64, bit: u64) -> Slot {
    Slot::new(word * 64 + bit).expect("the set has no others")
}

fn before(word: u64, bit: u64) -> Slot {
    Slot::new(word * 64 + bit - 1).expect("a run has begun before it ends")
}

fn byte_of(slot: Slot) -> usize {
    usize::from(slot.number()) / 8
}

fn bit_of(slot: Slot) -> u8 {
    1 << (slot.number() % 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    fn slot(number: u64) -> Slot {
        Slot::new(number).expect("in range")
    }

    #[test]
    fn bits_lie_as_on_the_wire() {
        let set: SlotSet = [0, 9, 16383].map(slot).into_iter().collect();
        let bytes = set.bits().0;
        assert_eq!((bytes[0], bytes[1], bytes[2047]), (1, 2, 128));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 3);
    }

    #[test]
    fn runs_are_of_neighbours() {
        let runs = |numbers: &[u64]| {
            let set: SlotSet = numbers.iter().map(|number| slot(*number)).collect();
            let runs = set.bits().runs();
            runs.iter().map(|(first, last)| (first.number(), last.number())).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[]), []);
        let all: Vec<u64> = (0..SLOTS as u64).collect();
        assert_eq!(runs(&all), [(0, 16383)]);
        assert_eq!(runs(&[63, 64, 127, 128, 16383]), [(63, 64), (127, 128), (16383, 16383)]);
        assert_eq!(runs(&[5, 6, 7, 8, 10, 16382, 16383]), [(5, 8), (10, 10), (16382, 16383)]);
    }

    #[test]
    fn it_does_what_a_list_of_flags_does() {
        let mut prng = Prng::seeded(1);
        let mut model = vec![false; SLOTS];
        let mut set = SlotSet::new();
        for _ in 0..20_000 {
            let number = prng.below(SLOTS as u64);
            let is_in = prng.below(2) == 0;
            model[number as usize] = is_in;
            if is_in { set.insert(slot(number)) } else { set.remove(slot(number)) }
        }
        let numbers = |set: &SlotSet| set.bits().iter().map(Slot::number).collect::<Vec<_>>();
        let expected: Vec<u16> =
            (0..).zip(&model).filter(|(_, has)| **has).map(|(n, _)| n).collect();
        assert_eq!(numbers(&set), expected);
        assert_eq!(set.bits().len(), expected.len());
        assert!(Slot::all().all(|slot| set.has(slot) == model[usize::from(slot.number())]));
        let mut neighbours: Vec<(u16, u16)> = Vec::new();
        for number in &expected {
            match neighbours.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => neighbours.push((*number, *number)),
            }
        }
        let runs = set.bits().runs();
        let runs = runs.iter().map(|(first, last)| (first.number(), last.number()));
        assert_eq!(runs.collect::<Vec<_>>(), neighbours);
        let odd: SlotSet = Slot::all().filter(|slot| slot.number() % 2 == 1).collect();
        set.remove_all(odd.bits());
        let even: Vec<u16> = expected.into_iter().filter(|number| number % 2 == 0).collect();
        assert_eq!(numbers(&set), even);
    }
}
