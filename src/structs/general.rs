//! Doubles as C's `%g` prints them, with a precision: so many significant digits, no zeros at the
//! end, and an exponent if the number is very small or has more digits before the point.
//!
//! The digits come from zmij if the shortest ones that read back are few enough: the nearest
//! number of so few digits is then the same one. The standard library rounds the others exactly.

use super::number::{Digits, I64Buf, format_i64};
use std::io::Write;

/// Precisions go from 1 to this one, so that a double's shortest digits may be the ones asked for.
pub const PRECISION_MAX: usize = 15;

/// Integers below these print as they are at the precision that is the index.
const INTEGER_BOUNDS: [f64; PRECISION_MAX + 1] =
    [0.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Appends a double as `%.{precision}g` prints it.
pub fn push_general(value: f64, precision: usize, out: &mut Vec<u8>) {
    debug_assert!((1..=PRECISION_MAX).contains(&precision));
    if value.abs() < INTEGER_BOUNDS[precision] {
        let integer = value as i64;
        if integer as f64 == value && (integer != 0 || value.is_sign_positive()) {
            out.extend_from_slice(format_i64(integer, &mut I64Buf::new()));
            return;
        }
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if value == 0.0 {
        out.push(b'0');
    } else {
        lay_out(&digits_of(value.abs(), precision), precision, out);
    }
}

fn digits_of(value: f64, precision: usize) -> Digits {
    // Numbers below the normal ones have fewer digits than any precision asks for, and the
    // shortest of them are far from exact.
    if value >= f64::MIN_POSITIVE {
        let digits = Digits::of(zmij::Buffer::new().format_finite(value).as_bytes());
        if digits.digits().len() <= precision {
            return digits;
        }
    }
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    write!(rest, "{value:.*e}", precision - 1).expect("there is room for 17 digits");
    let left = rest.len();
    Digits::of(&text[..32 - left])
}

fn lay_out(number: &Digits, precision: usize, out: &mut Vec<u8>) {
    const ZEROS: &[u8] = b"000000000000000";
    let digits = number.digits();
    let whole = number.exponent + digits.len() as i32;
    if !(-3..=precision as i32).contains(&whole) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let power = whole - 1;
        write!(out, "e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
            .expect("a vector takes what is written");
    } else if number.exponent >= 0 {
        out.extend_from_slice(digits);
        out.extend_from_slice(&ZEROS[..number.exponent as usize]);
    } else if whole > 0 {
        out.extend_from_slice(&digits[..whole as usize]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole as usize..]);
    } else {
        out.extend_from_slice(b"0.");
        out.extend_from_slice(&ZEROS[..whole.unsigned_abs() as usize]);
        out.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64, precision: usize) -> String {
        let mut out = Vec::new();
        push_general(value, precision, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    /// The same digits by another way: always rounded exactly, then cut by hand.
    fn by_the_book(value: f64, precision: usize) -> String {
        if value == 0.0 {
            return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
        }
        let rounded = format!("{:.*e}", precision - 1, value);
        let (mantissa, power) = rounded.split_once('e').expect("it has an exponent");
        let power: i32 = power.parse().expect("it is a number");
        let cut = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if power < -4 || power >= precision as i32 {
            let sign = if power < 0 { '-' } else { '+' };
            return format!("{}e{sign}{:02}", cut(mantissa), power.abs());
        }
        cut(&format!("{:.*}", (precision as i32 - 1 - power) as usize, value))
    }

    #[test]
    fn numbers_print_as_in_c() {
        let table = [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.5, "-17.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.33333333333333"),
            (99_999_999_999_999.0, "99999999999999"),
            (100_000_000_000_000.0, "1e+14"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (15_947_634_569_000_323.0, "1.5947634569e+16"),
            (0.000_1, "0.0001"),
            (0.000_099, "9.9e-05"),
            (-1.5e-7, "-1.5e-07"),
            (1e100, "1e+100"),
            (9.999_999_999_999_99, "10"),
            (99_999_999_999_999.96, "1e+14"),
            (f64::MAX, "1.7976931348623e+308"),
            (f64::from_bits(1), "4.9406564584125e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in table {
            assert_eq!(text(value, 14), expected);
        }
        assert_eq!(text(1234.5678, 3), "1.23e+03");
        assert_eq!(text(0.5, 1), "0.5");
        assert_eq!(text(9.5, 1), "1e+01");
        assert_eq!(text(2.5, 1), "2");
    }

    proptest! {
        #[test]
        fn fast_and_exact_ways_agree(bits: u64, precision in 1usize..=PRECISION_MAX) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(text(value, precision), by_the_book(value, precision));
        }

        #[test]
        fn decimals_agree(number: i32, scale in -12i32..12, precision in 1usize..=PRECISION_MAX) {
            let value = f64::from(number) * 10f64.powi(scale);
            prop_assert_eq!(text(value, precision), by_the_book(value, precision));
        }
    }
}
