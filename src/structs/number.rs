//! Numbers as text: the strict integer grammar, doubles in and doubles out.
//!
//! A key that holds `12` may be kept as an integer only if printing the integer gives back the very
//! same bytes, so the integer grammar is the canonical one: no plus sign, no leading zero, no
//! space, no `-0`. Doubles follow C's `strtod` on the way in (exponents, hexadecimal floats,
//! infinities) and the layout that Redis has used since 7.2 on the way out.
//!
//! `str::parse` was refused for integers: it takes `+1` and `007`. The standard library's float
//! printing was refused because its layout differs; zmij gives the shortest digits and this file
//! lays them out.
//!
//! Invariant: `parse_i64(format_i64(v)) == v` for each `v`, and nothing else parses to `v`.

/// Integers up to this magnitude print without a fraction or an exponent: 2^62.
const PLAIN_INTEGER_MAX: f64 = 4_611_686_018_427_387_904.0;

/// Room for the longest text `format_i64` writes.
#[derive(Default)]
pub struct I64Buf(itoa::Buffer);

impl I64Buf {
    pub fn new() -> I64Buf {
        I64Buf(itoa::Buffer::new())
    }
}

pub fn format_i64(value: i64, buffer: &mut I64Buf) -> &[u8] {
    buffer.0.format(value).as_bytes()
}

pub fn format_u64(value: u64, buffer: &mut I64Buf) -> &[u8] {
    buffer.0.format(value).as_bytes()
}

/// Parses a canonical decimal integer; exactly the texts that `format_i64` writes are taken.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Eighteen digits cannot overflow; only longer texts need the checks.
    if digits.len() <= 18 {
        let mut value = 0i64;
        for &byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        }
        return Some(if negative { value.wrapping_neg() } else { value });
    }
    let magnitude = parse_digits(digits)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Parses an unsigned number as SCAN takes its cursor: a canonical `i64` must not be negative, and
/// what is no canonical `i64` goes by C's `strtoull`, which skips white space and takes signs (a
/// minus sign wraps around) and leading zeros.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
    let (negative, digits) = split_sign(&text[blanks..]);
    let magnitude = parse_digits(digits)?;
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// C's `isspace` in the C locale.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Takes a leading plus or minus off; true means minus.
pub(super) fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

/// Parses a double as Redis takes one from a client: all of the text by `strtod`'s grammar. Refused
/// are NaN, texts that overflow, and texts that underflow to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let Ok(value) = fast_float2::parse::<f64, _>(text) else {
        return parse_hex(text)?.to_f64();
    };
    if value.is_nan() {
        return None;
    }
    if value.is_infinite() && !names_infinity(text) {
        return None;
    }
    if value == 0.0 && !is_written_zero(text) {
        return None;
    }
    Some(value)
}

/// Parses a double as Redis takes the bounds of a range: `strtod` by itself, which skips leading
/// white space, takes no text at all for zero, and lets overflow be infinite.
pub fn parse_f64_bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
    let text = &text[blanks..];
    let value = match fast_float2::parse::<f64, _>(text) {
        Ok(value) => value,
        Err(_) => parse_hex(text)?.to_f64()?,
    };
    (!value.is_nan()).then_some(value)
}

/// Parses the double that a text begins with, by `strtod`'s grammar but for leading white space,
/// and says how long it is. What overflows is infinite, what underflows is zero.
pub fn parse_f64_prefix(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, rest) = split_sign(text);
    if let Some(len) = hex_len(rest) {
        let len = text.len() - rest.len() + len;
        return Some((parse_hex(&text[..len])?.to_f64_or_limit(), len));
    }
    if rest.len() >= 3 && rest[..3].eq_ignore_ascii_case(b"nan") {
        let len = text.len() - rest.len() + 3;
        return Some((
            f64::NAN.copysign(if negative { -1.0 } else { 1.0 }),
            len + payload_len(&text[len..]),
        ));
    }
    fast_float2::parse_partial(text).ok()
}

/// The length of the hexadecimal float that an unsigned text begins with.
fn hex_len(text: &[u8]) -> Option<usize> {
    let [b'0', b'x' | b'X', rest @ ..] = text else { return None };
    let count = |text: &[u8]| text.iter().take_while(|byte| hex_digit(**byte).is_some()).count();
    let whole = count(rest);
    let (mut len, mut digits) = (whole, whole);
    if rest.get(len) == Some(&b'.') {
        digits += count(&rest[len + 1..]);
        len = digits + 1;
    }
    if digits == 0 {
        return None;
    }
    if let [b'p' | b'P', power @ ..] = &rest[len..] {
        let exponent = split_sign(power).1;
        let digits = exponent.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            len += 1 + power.len() - exponent.len() + digits;
        }
    }
    Some(2 + len)
}

/// The length of what may follow `nan`: letters, digits and underscores in parentheses.
fn payload_len(text: &[u8]) -> usize {
    let [b'(', rest @ ..] = text else { return 0 };
    let len = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    if rest.get(len) == Some(&b')') { len + 2 } else { 0 }
}

/// Whether a text that parsed to an infinity says so, rather than overflowing.
fn names_infinity(text: &[u8]) -> bool {
    matches!(split_sign(text).1.first(), Some(b'i' | b'I'))
}

/// Whether the digits of a decimal text are all zeros, rather than underflowing to zero.
fn is_written_zero(text: &[u8]) -> bool {
    text.iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E'))
        .all(|byte| !(b'1'..=b'9').contains(byte))
}

/// A hexadecimal float: `mantissa * 2^exponent`, the lowest mantissa bit made sticky when digits
/// were dropped beyond 120 bits, which rounds to any narrower format as the full text would.
pub(super) struct HexFloat {
    pub negative: bool,
    pub mantissa: u128,
    pub exponent: i64,
}

/// Parses `[sign]0x<hex digits>[.<hex digits>][p[sign]<digits>]`.
pub(super) fn parse_hex(text: &[u8]) -> Option<HexFloat> {
    let (negative, rest) = split_sign(text);
    let [b'0', b'x' | b'X', rest @ ..] = rest else { return None };
    let mut mantissa = 0u128;
    let mut exponent = 0i64;
    let mut point_seen = false;
    let mut digits = 0usize;
    let mut used = 0usize;
    for &byte in rest {
        if byte == b'.' && !point_seen {
            point_seen = true;
        } else if let Some(digit) = hex_digit(byte) {
            digits += 1;
            if mantissa >> 116 == 0 {
                mantissa = mantissa << 4 | u128::from(digit);
                exponent -= if point_seen { 4 } else { 0 };
            } else {
                mantissa |= u128::from(digit != 0);
                exponent += if point_seen { 0 } else { 4 };
            }
        } else {
            break;
        }
        used += 1;
    }
    if digits == 0 {
        return None;
    }
    match &rest[used..] {
        [] => {}
        [b'p' | b'P', power @ ..] => exponent = exponent.saturating_add(parse_exponent(power)?),
        _ => return None,
    }
    Some(HexFloat { negative, mantissa, exponent })
}

pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Parses the signed digits of an exponent; what is beyond any float's range is cut to a number
/// that is beyond it too.
pub(super) fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i64::from(digit)).min(1 << 40);
    }
    Some(if negative { -value } else { value })
}

impl HexFloat {
    /// The nearest double; infinity on overflow, zero on underflow.
    fn to_f64_or_limit(&self) -> f64 {
        let is_large = self.exponent > 0;
        let limit = if self.mantissa != 0 && is_large { f64::INFINITY } else { 0.0 };
        self.to_f64().unwrap_or(if self.negative { -limit } else { limit })
    }

    /// The nearest double, ties to even; `None` on overflow and on underflow to zero.
    fn to_f64(&self) -> Option<f64> {
        let sign = u64::from(self.negative) << 63;
        let format = BinaryFormat { mantissa_bits: 53, exponent_min: -1074, exponent_max: 971 };
        let bits = match format.round(self.mantissa, self.exponent, false)? {
            (0, _) if self.mantissa != 0 => return None,
            (mantissa, _) if mantissa < 1 << 52 => mantissa,
            (mantissa, exponent) => {
                let biased = u64::try_from(exponent + 1075).expect("the exponent is in range");
                biased << 52 | (mantissa & ((1 << 52) - 1))
            }
        };
        Some(f64::from_bits(bits | sign))
    }
}

/// A binary floating-point format, its numbers seen as an integer mantissa times a power of two.
pub(super) struct BinaryFormat {
    pub mantissa_bits: u32,
    pub exponent_min: i64,
    pub exponent_max: i64,
}

impl BinaryFormat {
    /// Rounds `mantissa * 2^exponent` to the nearest number of the format, ties to even. `sticky`
    /// says that the true value lies slightly above; the mantissa must then have at least one bit
    /// more than the format. `None` is overflow.
    pub fn round(&self, mantissa: u128, exponent: i64, sticky: bool) -> Option<(u64, i64)> {
        if mantissa == 0 {
            return Some((0, self.exponent_min));
        }
        let excess = i64::from(128 - mantissa.leading_zeros()) - i64::from(self.mantissa_bits);
        let target = exponent.saturating_add(excess).max(self.exponent_min);
        let shift = target.saturating_sub(exponent);
        let mut rounded = match u32::try_from(shift) {
            Err(_) if shift < 0 => mantissa << shift.unsigned_abs(),
            Ok(0) => mantissa,
            Ok(128) => u128::from(mantissa > 1 << 127 || (mantissa == 1 << 127 && sticky)),
            Err(_) | Ok(129..) => 0,
            Ok(shift) => {
                let kept = mantissa >> shift;
                let dropped = mantissa & ((1 << shift) - 1);
                let half = 1u128 << (shift - 1);
                let up = dropped > half || (dropped == half && (sticky || kept & 1 == 1));
                kept + u128::from(up)
            }
        };
        let mut target = target;
        if rounded >> self.mantissa_bits != 0 {
            rounded >>= 1;
            target += 1;
        }
        let rounded = u64::try_from(rounded).expect("the mantissa has at most 64 bits");
        (target <= self.exponent_max).then_some((rounded, target))
    }
}

/// Room for the longest text `format_f64` writes.
pub struct F64Buf {
    text: [u8; 40],
    integer: I64Buf,
}

impl Default for F64Buf {
    fn default() -> F64Buf {
        F64Buf::new()
    }
}

impl F64Buf {
    pub fn new() -> F64Buf {
        F64Buf { text: [0; 40], integer: I64Buf::new() }
    }
}

/// Prints a double in the shortest digits that parse back to it, laid out as Redis 7.2 does:
/// integers up to 2^62 in full, small exponents as plain decimals, the rest as `1.5e+300`.
pub fn format_f64(value: f64, buffer: &mut F64Buf) -> &[u8] {
    if value != 0.0 && value.abs() <= PLAIN_INTEGER_MAX {
        let integer = value as i64;
        if integer as f64 == value {
            return format_i64(integer, &mut buffer.integer);
        }
    }
    format_f64_shortest(value, buffer)
}

/// The same without the way out for integers: large round ones get an exponent.
pub fn format_f64_shortest(value: f64, buffer: &mut F64Buf) -> &[u8] {
    if value.is_nan() {
        return b"nan";
    }
    if value.is_infinite() {
        return if value > 0.0 { b"inf" } else { b"-inf" };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { b"-0" } else { b"0" };
    }
    let mut shortest = zmij::Buffer::new();
    let digits = Digits::of(shortest.format_finite(value.abs()).as_bytes());
    let mut out = TextWriter { text: &mut buffer.text, len: 0 };
    if value < 0.0 {
        out.push(b"-");
    }
    digits.lay_out(&mut out);
    let len = out.len;
    &buffer.text[..len]
}

/// A positive number as decimal digits without zeros at either end, times a power of ten.
pub(super) struct Digits {
    digits: [u8; 20],
    len: usize,
    pub(super) exponent: i32,
}

impl Digits {
    /// Takes apart what zmij wrote: digits, at most one point, at most one exponent.
    pub(super) fn of(text: &[u8]) -> Digits {
        let mut number = Digits { digits: [0; 20], len: 0, exponent: 0 };
        let mut point_seen = false;
        let mut zeros = 0;
        for (idx, &byte) in text.iter().enumerate() {
            match byte {
                b'.' => point_seen = true,
                b'e' => {
                    let power = parse_exponent(&text[idx + 1..]).expect("zmij writes digits");
                    number.exponent += i32::try_from(power).expect("a double's exponent is small");
                    break;
                }
                digit => {
                    number.exponent -= i32::from(point_seen);
                    if digit == b'0' {
                        zeros += 1;
                        continue;
                    }
                    if number.len > 0 {
                        number.digits[number.len..number.len + zeros].fill(b'0');
                        number.len += zeros;
                    }
                    zeros = 0;
                    number.digits[number.len] = digit;
                    number.len += 1;
                }
            }
        }
        number.exponent += i32::try_from(zeros).expect("a double's text is short");
        number
    }

    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    fn lay_out(&self, out: &mut TextWriter) {
        let digits = &self.digits[..self.len];
        let len = i32::try_from(self.len).expect("at most 17 digits");
        let power = self.exponent + len - 1;
        if self.exponent >= 0 && power < len + 7 {
            out.push(digits);
            out.push(&b"0000000"[..usize::try_from(self.exponent).expect("not negative")]);
        } else if self.exponent < 0 && (self.exponent > -7 || power.abs() < 4) {
            match usize::try_from(len + self.exponent) {
                Ok(whole) if whole > 0 => {
                    out.push(&digits[..whole]);
                    out.push(b".");
                    out.push(&digits[whole..]);
                }
                _ => {
                    let zeros = (len + self.exponent).unsigned_abs() as usize;
                    out.push(b"0.");
                    out.push(&b"0000000"[..zeros]);
                    out.push(digits);
                }
            }
        } else {
            out.push(&digits[..1]);
            if digits.len() > 1 {
                out.push(b".");
                out.push(&digits[1..]);
            }
            out.push(if power < 0 { b"e-" } else { b"e+" });
            out.push(itoa::Buffer::new().format(power.unsigned_abs()).as_bytes());
        }
    }
}

struct TextWriter<'a> {
    text: &'a mut [u8; 40],
    len: usize,
}

impl TextWriter<'_> {
    fn push(&mut self, bytes: &[u8]) {
        self.text[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn f64_text(value: f64) -> String {
        String::from_utf8(format_f64(value, &mut F64Buf::new()).to_vec()).expect("ASCII")
    }

    #[test]
    fn integers_are_canonical() {
        for value in [0, 1, -1, 9, 10, 123_456_789_012_345_678, i64::MAX, i64::MIN, i64::MIN + 1] {
            let mut buffer = I64Buf::new();
            assert_eq!(parse_i64(format_i64(value, &mut buffer)), Some(value));
        }
        let refused: [&[u8]; 16] = [
            b"",
            b"-",
            b"+1",
            b"-0",
            b"00",
            b"01",
            b"-01",
            b" 1",
            b"1 ",
            b"1a",
            b"a",
            b"1\0",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"18446744073709551616",
            b"99999999999999999999999999999999999999999",
        ];
        for text in refused {
            assert_eq!(parse_i64(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn cursors_go_by_strtoull() {
        let table: [(&[u8], Option<u64>); 14] = [
            (b"0", Some(0)),
            (b"17", Some(17)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-1", None),
            (b"-01", Some(u64::MAX)),
            (b"+5", Some(5)),
            (b"  5", Some(5)),
            (b"007", Some(7)),
            (b"5 ", None),
            (b"", None),
            (b"-", None),
            (b"x", None),
            (b" ", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_u64(text), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn doubles_are_taken_as_strtod_takes_them() {
        let table: [(&str, f64); 24] = [
            ("0", 0.0),
            ("1", 1.0),
            ("+1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("-1.5e-3", -0.0015),
            ("0x10", 16.0),
            ("-0X1.8p1", -3.0),
            ("0x.8", 0.5),
            ("0x1p-1074", 5e-324),
            ("0x1.fffffffffffff8p0", 2.0),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
            ("5e-324", 5e-324),
            ("0e-999999", 0.0),
            ("0x0p-99999", 0.0),
            ("1.7976931348623157e308", f64::MAX),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.8p-1074", 1e-323),
            ("007", 7.0),
            ("0x100000000000008000000000000000000000001", 5_846_006_549_323_612e33),
        ];
        for (text, expected) in &table[..23] {
            assert_eq!(parse_f64(text.as_bytes()), Some(*expected), "{text}");
        }
        // The last bit, 150 bits down, breaks the tie upwards.
        let tie = parse_f64(table[23].0.as_bytes()).expect("in range");
        assert_eq!(tie.to_bits() & 1, 1);
        assert_eq!(parse_f64(b"-0").map(f64::to_bits), Some((-0.0f64).to_bits()));
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "1e+",
            "e5",
            ".",
            "-",
            "0x",
            "0x1p",
            "0x.p1",
            "1e400",
            "-1e400",
            "1e-400",
            "0x1p1024",
            "0x1p-1076",
            "0x1p-1075",
            "0x1.fffffffffffff8p1023",
            "infx",
            "1_000",
            "1\0",
            "0x1p99999999999999999999",
            "0x1p-99999999999999999999",
            "1,5",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_laid_out_as_redis_does() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (3.5, "3.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e17, "100000000000000000"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (-1.5e-300, "-1.5e-300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (0.000_012_5, "1.25e-5"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (123_456_789.123, "123456789.123"),
            (1.234_567_890_123_45e25, "1.23456789012345e+25"),
            (0.003_141_592_653_589, "0.003141592653589"),
            (0.000_314_159_265_358_9, "3.141592653589e-4"),
            (0.000_031_415_926_535_89, "3.141592653589e-5"),
        ] {
            assert_eq!(f64_text(value), expected);
        }
    }

    #[test]
    fn the_double_that_a_text_begins_with() {
        let table: [(&[u8], f64, usize); 16] = [
            (b"12,", 12.0, 2),
            (b"-1.5e3x", -1500.0, 6),
            (b"1e+", 1.0, 1),
            (b"1.", 1.0, 2),
            (b"-.5.", -0.5, 3),
            (b"1e999", f64::INFINITY, 5),
            (b"1e-999", 0.0, 6),
            (b"0x10p1p", 32.0, 6),
            (b"0x.8", 0.5, 4),
            (b"0x1p+", 1.0, 3),
            (b"0x", 0.0, 1),
            (b"-0xg", 0.0, 2),
            (b"0x1p9999", f64::INFINITY, 8),
            (b"0x1p-9999", 0.0, 9),
            (b"infinit", f64::INFINITY, 3),
            (b"-INFINITY", f64::NEG_INFINITY, 9),
        ];
        for (text, value, len) in table {
            assert_eq!(parse_f64_prefix(text), Some((value, len)), "{}", text.escape_ascii());
        }
        for (text, len) in [(&b"nan"[..], 3), (b"-nan(1_a)b", 9), (b"NaN(a b)", 3), (b"nan(", 3)] {
            let parsed = parse_f64_prefix(text).expect("it is no number");
            assert!(parsed.0.is_nan() && parsed.1 == len, "{}", text.escape_ascii());
        }
        for text in [&b""[..], b"-", b"+-1", b" 1", b"x", b".", b"na", b"e1"] {
            assert_eq!(parse_f64_prefix(text), None, "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(parse_i64(format_i64(value, &mut I64Buf::new())), Some(value));
        }

        #[test]
        fn integer_texts_that_parse_are_what_is_printed(text in "-?[0-9]{1,20}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            } else if let Ok(value) = text.parse::<i64>() {
                prop_assert_ne!(value.to_string(), text);
            }
        }

        #[test]
        fn doubles_round_trip(bits: u64) {
            let value = f64::from_bits(bits);
            if !value.is_nan() {
                let text = f64_text(value);
                let parsed = parse_f64(text.as_bytes()).map(f64::to_bits);
                prop_assert_eq!(parsed, Some(bits), "{}", text);
            }
        }

        #[test]
        fn hexadecimal_texts_are_exact(bits: u64) {
            let value = f64::from_bits(bits & !(1 << 63));
            if value.is_finite() && value > 0.0 {
                let exponent = (value.to_bits() >> 52) as i64;
                let fraction = value.to_bits() & ((1 << 52) - 1);
                let lead = u8::from(exponent != 0);
                let text = format!("0x{lead}.{fraction:013x}p{}", exponent.max(1) - 1023);
                prop_assert_eq!(parse_f64(text.as_bytes()), Some(value), "{}", text);
            }
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            parse_i64(&text);
            parse_u64(&text);
            parse_f64(&text);
        }
    }
}
