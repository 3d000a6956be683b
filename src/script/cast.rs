//! Numbers of Lua as integers, as C converts them on x86-64: what is after the point is cut off,
//! and what does not fit gives what the processor gives then. Rust's own conversion saturates, and
//! scripts see the difference.

/// C's `(long)`: what is out of range is the smallest there is.
pub fn to_i64(number: f64) -> i64 {
    const LIMIT: f64 = -(i64::MIN as f64);
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

/// C's `(unsigned long)`: the upper half is converted with its lowest number taken away.
pub fn to_u64(number: f64) -> u64 {
    const HALF: f64 = (1_u64 << 63) as f64;
    if number >= HALF { to_i64(number - HALF) as u64 ^ 1 << 63 } else { to_i64(number) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_what_the_processor_makes_of_it() {
        let signed = [0.0, -0.9, 1.9, -1.5, 9e18, 1e19, -1e19, f64::NAN, f64::INFINITY];
        let min = i64::MIN;
        let expected = [0, 0, 1, -1, 9_000_000_000_000_000_000, min, min, min, min];
        assert_eq!(signed.map(to_i64), expected);
        let unsigned = [0.0, 1.9, -1.0, 1e19, 18_446_744_073_709_551_616.0, f64::INFINITY];
        let expected = [0, 1, u64::MAX, 10_000_000_000_000_000_000, 0, 0];
        assert_eq!(unsigned.map(to_u64), expected);
        assert_eq!([f64::NAN, f64::NEG_INFINITY].map(to_u64), [1 << 63; 2]);
    }
}
