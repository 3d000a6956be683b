//! `math.random` and `math.randomseed`: the 48-bit linear congruential generator of `drand48`
//! (POSIX), so that equal seeds give equal numbers on every machine.

use super::cast;
use super::lua::{Call, Native, Raised};

/// What scripts have of it.
pub(super) const LIBRARY: &[(&str, Native)] = &[("random", random), ("randomseed", randomseed)];

fn random(call: &Call<'_>) -> Result<usize, Raised> {
    let drawn = call.host.random.borrow_mut().fraction();
    let (low, high) = match call.len() {
        0 => {
            call.stack.push_number(drawn);
            return Ok(1);
        }
        1 => (1, bound(call, 1)),
        2 => (bound(call, 1), bound(call, 2)),
        _ => return Err(Raised::text("wrong number of arguments")),
    };
    if low > high {
        return Err(call.refuse_argument(call.len() as i32, "interval is empty"));
    }
    // The integers are C's, and so is the number of them.
    let count = high.wrapping_sub(low).wrapping_add(1);
    call.stack.push_number((drawn * f64::from(count)).floor() + f64::from(low));
    Ok(1)
}

fn bound(call: &Call<'_>, argument: i32) -> i32 {
    cast::to_i64(call.check_number(argument)) as i32
}

fn randomseed(call: &Call<'_>) -> Result<usize, Raised> {
    let seed = bound(call, 1) as u32;
    *call.host.random.borrow_mut() = Rand48::seeded(seed);
    Ok(0)
}

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// What stands below a seed's 32 bits.
const LOW_BITS: u64 = 0x330E;
/// The greatest number that is drawn.
const MAX: u32 = 0x7FFF_FFFF;

pub struct Rand48(u64);

impl Rand48 {
    /// Begins with these 32 bits.
    pub fn seeded(seed: u32) -> Rand48 {
        Rand48(u64::from(seed) << 16 | LOW_BITS)
    }

    /// A number below 1, or at most so by rounding.
    pub fn fraction(&mut self) -> f64 {
        self.0 = (self.0.wrapping_mul(MULTIPLIER) + INCREMENT) & MASK;
        let drawn = (self.0 >> 17) as u32;
        f64::from(drawn % MAX) / f64::from(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_below_one() {
        let (mut a, mut b, mut c) = (Rand48::seeded(7), Rand48::seeded(7), Rand48::seeded(8));
        let numbers: Vec<f64> = (0..1000).map(|_| a.fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().all(|number| b.fraction() == *number));
        assert!(numbers.iter().any(|number| c.fraction() != *number));
    }
}
