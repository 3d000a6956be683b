//! A small seeded generator, xoshiro256**, for sampling: eviction, SRANDMEMBER, skip decisions.
//!
//! Seeded, because the same seed must replay the same run of a simulated cluster. Not for secrets:
//! run ids and hash keys come from the system. A crate was refused: the algorithm is ten lines, and
//! its numbers must not change with a dependency's version.
//!
//! Invariant: the state is never all zeros, where the generator would stay.

#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// Spreads the seed over the state by SplitMix64, so that close seeds give unlike sequences.
    pub fn seeded(seed: u64) -> Prng {
        let mut position = seed;
        let state = std::array::from_fn(|_| {
            position = position.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Prng { state }
    }

    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound`, each equally likely; zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The high half of a product is uniform but for the first few low halves, drawn again.
        let biased = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= biased {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn f64_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut generator = Prng { state: [1, 2, 3, 4] };
        let first: [u64; 4] = std::array::from_fn(|_| generator.next_u64());
        assert_eq!(first, [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn seeds_replay_and_differ() {
        let draw = |seed| -> [u64; 8] {
            let mut generator = Prng::seeded(seed);
            std::array::from_fn(|_| generator.next_u64())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(draw(0), [0; 8]);
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut generator = Prng::seeded(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[usize::try_from(generator.below(7)).expect("small")] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!((generator.below(0), generator.below(1)), (0, 0));
        assert!((0..100).all(|_| generator.below((1 << 63) + 1) <= 1 << 63));
    }

    #[test]
    fn unit_numbers_fill_the_unit() {
        let mut generator = Prng::seeded(2);
        let numbers: Vec<f64> = (0..10_000).map(|_| generator.f64_unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }
}
