//! The 80-bit long double of x87, as far as INCRBYFLOAT and HINCRBYFLOAT need it: parse, add,
//! print.
//!
//! Redis computes these two in C's `long double`, and users rely on it: 0.1 + 0.2 is 0.3 there,
//! where doubles give 0.30000000000000004. A decimal type was refused: it would give other digits
//! for long fractions, and it has not the range. So this is a small soft float: a 64-bit mantissa
//! times a power of two, each operation rounded to nearest, ties to even (`docs/adr/0018`).
//!
//! Numbers of ordinary size are converted with 128-bit integers. Long texts and large exponents go
//! through a bignum; the text is at most 5 KB and the exponent is cut to the format's range first,
//! so the work is bounded (well under a millisecond).
//!
//! Invariant: a finite number's mantissa has its top bit set unless the exponent is the smallest;
//! zero has the smallest exponent.

use std::ops::Add;

use super::number::{BinaryFormat, parse_exponent, parse_hex, split_sign};

/// Texts must be shorter than this, as in Redis.
const TEXT_LEN_MAX: usize = 5 * 1024;

const EXPONENT_MIN: i64 = -16_445;

const EXTENDED: BinaryFormat =
    BinaryFormat { mantissa_bits: 64, exponent_min: EXPONENT_MIN, exponent_max: 16_320 };

/// The decimal digits printed after the point: 17, of which trailing zeros are cut.
const FRACTION_SCALE: u128 = 100_000_000_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// `mantissa * 2^exponent`.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
    Nan,
}

impl LongDouble {
    fn finite(negative: bool, (mantissa, exponent): (u64, i64)) -> LongDouble {
        LongDouble { negative, class: Class::Finite { mantissa, exponent } }
    }

    fn infinite(negative: bool) -> LongDouble {
        LongDouble { negative, class: Class::Infinite }
    }

    /// Parses all of a text by `strtold`'s grammar. Refused are NaN, texts that overflow or
    /// underflow to zero, and texts of 5 KB.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_LEN_MAX {
            return None;
        }
        if let Some(hex) = parse_hex(text) {
            let rounded = EXTENDED.round(hex.mantissa, hex.exponent, false)?;
            let underflow = rounded.0 == 0 && hex.mantissa != 0;
            return (!underflow).then(|| LongDouble::finite(hex.negative, rounded));
        }
        let (negative, rest) = split_sign(text);
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::infinite(negative));
        }
        let decimal = Decimal::parse(rest)?;
        let rounded = decimal.to_binary()?;
        let underflow = rounded.0 == 0 && !decimal.digits.is_empty();
        (!underflow).then(|| LongDouble::finite(negative, rounded))
    }

    pub fn is_nan(&self) -> bool {
        self.class == Class::Nan
    }

    pub fn is_infinite(&self) -> bool {
        self.class == Class::Infinite
    }

    /// The product with a whole number, rounded as the others are and then up to a whole number;
    /// what is too large ends at the largest.
    pub fn scaled_up(&self, factor: u32) -> i64 {
        let beyond = if self.negative { i64::MIN } else { i64::MAX };
        let Class::Finite { mantissa, exponent } = self.class else { return beyond };
        let product = u128::from(mantissa) * u128::from(factor);
        let Some((mantissa, exponent)) = EXTENDED.round(product, exponent, false) else {
            return beyond;
        };
        let mantissa = u128::from(mantissa);
        let (whole, has_rest) = match exponent {
            _ if mantissa == 0 => (0, false),
            64.. => return beyond,
            0.. => (mantissa << exponent, false),
            -127.. => {
                let whole = mantissa >> -exponent;
                (whole, whole << -exponent != mantissa)
            }
            _ => (0, true),
        };
        match i64::try_from(whole) {
            Ok(whole) if self.negative => -whole,
            Ok(whole) => whole.saturating_add(i64::from(has_rest)),
            Err(_) => beyond,
        }
    }

    /// Appends the number as `%.17Lf` prints it, with the fraction's trailing zeros cut: never an
    /// exponent, never `-0`.
    pub fn format_human(&self, out: &mut Vec<u8>) {
        let (mantissa, exponent) = match self.class {
            Class::Finite { mantissa, exponent } => (mantissa, exponent),
            Class::Infinite => {
                let text: &[u8] = if self.negative { b"-inf" } else { b"inf" };
                return out.extend_from_slice(text);
            }
            Class::Nan => return out.extend_from_slice(b"nan"),
        };
        let (whole, fraction) = split_at_point(mantissa, exponent);
        if self.negative && (whole, fraction) != (0, 0) {
            out.push(b'-');
        }
        match u32::try_from(exponent) {
            Ok(shift @ 65..) => Bignum::from(mantissa).shifted_left(shift).print(out),
            _ => out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes()),
        }
        if fraction > 0 {
            out.extend_from_slice(format!(".{fraction:017}").as_bytes());
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

impl Add for LongDouble {
    type Output = LongDouble;

    /// The sum, rounded; an infinity on overflow, NaN for infinities of unlike signs.
    fn add(self, other: LongDouble) -> LongDouble {
        match (self.class, other.class) {
            (
                Class::Finite { mantissa: left, exponent: left_exponent },
                Class::Finite { mantissa: right, exponent: right_exponent },
            ) => {
                let left = (self.negative, left, left_exponent);
                let right = (other.negative, right, right_exponent);
                if (left_exponent, left.1) >= (right_exponent, right.1) {
                    add_smaller(left, right)
                } else {
                    add_smaller(right, left)
                }
            }
            (Class::Infinite, Class::Infinite) if self.negative != other.negative => {
                LongDouble { negative: false, class: Class::Nan }
            }
            (Class::Nan | Class::Infinite, Class::Finite { .. }) | (Class::Nan, _) => self,
            _ => other,
        }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> LongDouble {
        let rounded = EXTENDED.round(u128::from(value.unsigned_abs()), 0, false);
        LongDouble::finite(value < 0, rounded.expect("63 bits fit"))
    }
}

/// Splits a number into its whole part and 17 rounded digits of its fraction. The whole part is
/// only valid for exponents up to 64; above, it is not zero.
fn split_at_point(mantissa: u64, exponent: i64) -> (u128, u128) {
    let mantissa = u128::from(mantissa);
    if exponent >= 0 {
        return (mantissa << exponent.min(64), 0);
    }
    let shift = u32::try_from(-exponent).expect("exponents are small");
    if shift >= 128 {
        // At most 2^-64, which is below half of the last digit.
        return (0, 0);
    }
    let whole = mantissa >> shift;
    let scaled = (mantissa - (whole << shift)).checked_mul(FRACTION_SCALE);
    let scaled = scaled.expect("64 bits times 57 bits");
    let digits = scaled >> shift;
    let dropped = scaled - (digits << shift);
    let half = 1u128 << (shift - 1);
    let up = dropped > half || (dropped == half && digits & 1 == 1);
    let digits = digits + u128::from(up);
    if digits == FRACTION_SCALE { (whole + 1, 0) } else { (whole, digits) }
}

/// Adds two finite numbers (sign, mantissa, exponent), of which the first has the greater or equal
/// magnitude. With 63 bits below the greater mantissa, what falls off the smaller one is sticky.
fn add_smaller(greater: (bool, u64, i64), smaller: (bool, u64, i64)) -> LongDouble {
    let (negative, mantissa, exponent) = greater;
    let distance = exponent - smaller.2;
    let wide = u128::from(mantissa) << 63;
    let unaligned = u128::from(smaller.1) << 63;
    let aligned = if distance < 128 { unaligned >> distance } else { 0 };
    let sticky = if distance < 128 { aligned << distance != unaligned } else { smaller.1 != 0 };
    let sum =
        if negative == smaller.0 { wide + aligned } else { wide - aligned - u128::from(sticky) };
    if sum == 0 {
        return LongDouble::finite(negative && smaller.0, (0, EXPONENT_MIN));
    }
    match EXTENDED.round(sum, exponent - 63, sticky) {
        Some(rounded) => LongDouble::finite(negative, rounded),
        None => LongDouble::infinite(negative),
    }
}

/// Decimal digits without zeros at either end, times a power of ten.
struct Decimal {
    /// Values, not characters.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Parses `<digits>[.<digits>][e[sign]<digits>]`, with digits on one side of the point at
    /// least.
    fn parse(text: &[u8]) -> Option<Decimal> {
        let mut digits = Vec::with_capacity(text.len());
        let mut exponent = 0i64;
        let mut point_seen = false;
        let mut digits_seen = false;
        let mut used = 0;
        for &byte in text {
            match byte {
                b'0'..=b'9' => {
                    digits_seen = true;
                    exponent -= i64::from(point_seen);
                    if byte != b'0' || !digits.is_empty() {
                        digits.push(byte - b'0');
                    }
                }
                b'.' if !point_seen => point_seen = true,
                _ => break,
            }
            used += 1;
        }
        if !digits_seen {
            return None;
        }
        match &text[used..] {
            [] => {}
            [b'e' | b'E', power @ ..] => exponent += parse_exponent(power)?,
            _ => return None,
        }
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        Some(Decimal { digits, exponent })
    }

    /// The nearest number of the format; `None` on overflow.
    fn to_binary(&self) -> Option<(u64, i64)> {
        let magnitude = i64::try_from(self.digits.len()).expect("5 KB") + self.exponent;
        if self.digits.is_empty() || magnitude < -4951 {
            return Some((0, EXPONENT_MIN));
        }
        if magnitude > 4933 {
            return None;
        }
        if self.digits.len() <= 19 {
            let integer = self
                .digits
                .iter()
                .fold(0u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(*digit)));
            match self.exponent {
                0..=19 => {
                    let scale = 10u128.pow(self.exponent.unsigned_abs() as u32);
                    return EXTENDED.round(u128::from(integer) * scale, 0, false);
                }
                -27..=-1 => return divide_by_power_of_ten(integer, self.exponent),
                _ => {}
            }
        }
        self.to_binary_by_bignum()
    }

    fn to_binary_by_bignum(&self) -> Option<(u64, i64)> {
        let power = u32::try_from(self.exponent.unsigned_abs()).expect("cut to the range");
        let mut numerator = Bignum::from_digits(&self.digits);
        if self.exponent >= 0 {
            numerator.multiply_by_power_of_five(power);
            let (top, shift, sticky) = numerator.top_128_bits();
            return EXTENDED.round(top, shift + self.exponent, sticky);
        }
        let mut denominator = Bignum::from(1);
        denominator.multiply_by_power_of_five(power);
        let (above, below) = (numerator.bits(), denominator.bits());
        if above < below {
            numerator = numerator.shifted_left(below - above);
        } else {
            denominator = denominator.shifted_left(above - below);
        }
        // Both have as many bits, so the first of 67 quotient bits, or the second, is set.
        let mut quotient = 0u128;
        for _ in 0..67 {
            quotient <<= 1;
            if numerator.subtract_if_not_less(&denominator) {
                quotient |= 1;
            }
            numerator.double();
        }
        let exponent = self.exponent + i64::from(above) - i64::from(below) - 66;
        EXTENDED.round(quotient, exponent, !numerator.is_zero())
    }
}

/// `integer * 10^exponent` for exponents from -27 to -1, by one division.
fn divide_by_power_of_ten(integer: u64, exponent: i64) -> Option<(u64, i64)> {
    let shift = u128::from(integer).leading_zeros();
    let numerator = u128::from(integer) << shift;
    let denominator = u128::from(5u64.pow(exponent.unsigned_abs() as u32));
    let quotient = numerator / denominator;
    let sticky = !numerator.is_multiple_of(denominator);
    EXTENDED.round(quotient, exponent - i64::from(shift), sticky)
}

/// An unsigned integer of any size: 32-bit limbs, the lowest first, the highest not zero.
struct Bignum(Vec<u32>);

impl From<u64> for Bignum {
    fn from(value: u64) -> Bignum {
        let mut number = Bignum(vec![value as u32, (value >> 32) as u32]);
        number.trim();
        number
    }
}

impl Bignum {
    fn from_digits(digits: &[u8]) -> Bignum {
        let mut number = Bignum(Vec::new());
        for chunk in digits.chunks(9) {
            let value = chunk.iter().fold(0, |value, digit| value * 10 + u32::from(*digit));
            number.multiply_add(10u32.pow(chunk.len() as u32), value);
        }
        number
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        let top = self.0.last().map_or(0, |limb| 32 - limb.leading_zeros());
        (self.0.len().saturating_sub(1) * 32) as u32 + top
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn multiply_by_power_of_five(&mut self, power: u32) {
        for _ in 0..power / 13 {
            self.multiply_add(5u32.pow(13), 0);
        }
        self.multiply_add(5u32.pow(power % 13), 0);
    }

    fn shifted_left(&self, shift: u32) -> Bignum {
        let mut limbs = vec![0; (shift / 32) as usize];
        let mut carry = 0u64;
        for limb in &self.0 {
            let shifted = u64::from(*limb) << (shift % 32) | carry;
            limbs.push(shifted as u32);
            carry = shifted >> 32;
        }
        limbs.push(carry as u32);
        let mut number = Bignum(limbs);
        number.trim();
        number
    }

    fn double(&mut self) {
        let mut carry = 0;
        for limb in &mut self.0 {
            let top = *limb >> 31;
            *limb = *limb << 1 | carry;
            carry = top;
        }
        if carry > 0 {
            self.0.push(carry);
        }
    }

    /// Subtracts `other` unless it is the greater one; answers whether it did.
    fn subtract_if_not_less(&mut self, other: &Bignum) -> bool {
        let by_limbs = || self.0.iter().rev().cmp(other.0.iter().rev());
        if self.0.len().cmp(&other.0.len()).then_with(by_limbs).is_lt() {
            return false;
        }
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (limb, subtrahend) in self.0.iter_mut().zip(others) {
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        self.trim();
        true
    }

    /// The highest 128 bits, how many bits are below them, and whether one of those is set.
    fn top_128_bits(&self) -> (u128, i64, bool) {
        let skipped = self.0.len().saturating_sub(4);
        let top = self.0[skipped..].iter().rev().fold(0, |top, limb| top << 32 | u128::from(*limb));
        (top, skipped as i64 * 32, self.0[..skipped].iter().any(|limb| *limb != 0))
    }

    /// Appends the decimal digits of a number that is not zero.
    fn print(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::with_capacity(self.0.len() * 32 / 29 + 1);
        while !self.is_zero() {
            let mut remainder = 0u64;
            for limb in self.0.iter_mut().rev() {
                let dividend = remainder << 32 | u64::from(*limb);
                *limb = (dividend / 1_000_000_000) as u32;
                remainder = dividend % 1_000_000_000;
            }
            self.trim();
            chunks.push(remainder);
        }
        let (highest, rest) = chunks.split_last().expect("not zero");
        out.extend_from_slice(highest.to_string().as_bytes());
        for chunk in rest.iter().rev() {
            out.extend_from_slice(format!("{chunk:09}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn human(number: LongDouble) -> String {
        let mut out = Vec::new();
        number.format_human(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    /// What INCRBYFLOAT answers; `!` is a value that is not a valid float, `!!` is a sum that is
    /// not finite.
    fn increment(value: &str, increment: &str) -> String {
        let parsed = (LongDouble::parse(value.as_bytes()), LongDouble::parse(increment.as_bytes()));
        let (Some(value), Some(increment)) = parsed else { return "!".to_owned() };
        let sum = value + increment;
        if sum.is_nan() || sum.is_infinite() { "!!".to_owned() } else { human(sum) }
    }

    /// The rows were recorded from Redis 7.0.15 on x86-64: value, increment, answer.
    #[test]
    fn sums_are_those_of_a_real_server() {
        let table = include_str!("long_double_vectors.tsv");
        let mut rows = 0;
        for row in table.lines() {
            let cells: Vec<&str> = row.split('\t').collect();
            let [value, summand, expected] = cells[..] else { panic!("malformed row {row}") };
            assert_eq!(increment(value, summand), expected, "{value} + {summand}");
            assert_eq!(increment(summand, value), expected, "{summand} + {value}");
            rows += 1;
        }
        assert!(rows > 300);
    }

    #[test]
    fn what_is_refused() {
        let long = "0".repeat(TEXT_LEN_MAX);
        for text in
            ["", " 1", "1 ", "nan", "1\0", ".", "e1", "1e", "0x", "0x1p", "inff", "- 1", &long]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(human(LongDouble::parse(&long.as_bytes()[1..]).expect("shorter")), "0");
    }

    #[test]
    fn infinities_and_integers() {
        let infinity = LongDouble::parse(b"-Infinity").expect("valid");
        let opposite = LongDouble::parse(b"+inf").expect("valid");
        assert_eq!((human(infinity), human(opposite)), ("-inf".to_owned(), "inf".to_owned()));
        assert!(infinity.add(LongDouble::from(1)).is_infinite());
        assert!(LongDouble::from(1).add(infinity).is_infinite());
        let nan = infinity.add(opposite);
        assert!(nan.is_nan() && nan.add(infinity).is_nan() && infinity.add(nan).is_nan());
        assert_eq!(human(nan), "nan");
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(human(LongDouble::from(value)), value.to_string());
            let parsed = LongDouble::parse(value.to_string().as_bytes());
            assert_eq!(parsed, Some(LongDouble::from(value)));
        }
    }

    proptest! {
        /// The direct way and the bignum's must round alike.
        #[test]
        fn short_decimals_take_either_way(
            integer in 1u64..10_000_000_000_000_000_000,
            exponent in -27i64..20,
        ) {
            let text = format!("{integer}e{exponent}");
            let decimal = Decimal::parse(text.as_bytes()).expect("valid");
            prop_assert_eq!(decimal.to_binary(), decimal.to_binary_by_bignum());
        }

        /// A double fits exactly, and so does its exact sum with a power of two near it.
        #[test]
        fn doubles_are_exact(value in -1e15f64..1e15) {
            let exact = format!("{value:.1100}");
            let parsed = LongDouble::parse(exact.as_bytes()).expect("valid");
            let doubled = LongDouble::parse(format!("{:.1100}", value * 2.0).as_bytes());
            prop_assert_eq!(Some(parsed + parsed), doubled);
            let shortest = LongDouble::parse(format!("{value:.17}").as_bytes()).expect("valid");
            let text = human(parsed);
            let printed = format!("{value:.17}");
            prop_assert_eq!(text, printed.trim_end_matches('0').trim_end_matches('.'));
            prop_assert!(!shortest.is_infinite());
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9a-fx.pe+-]{0,30}(e[-+]?[0-9]{1,5})?") {
            if let Some(number) = LongDouble::parse(text.as_bytes()) {
                let printed = human(number + number);
                prop_assert!(LongDouble::parse(printed.as_bytes()).is_some(), "{}", printed);
            }
        }
    }
}
