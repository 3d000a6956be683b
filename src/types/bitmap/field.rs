//! Integers of 1 to 64 bits at any bit of a string, the highest bit first.
//!
//! A field lies in at most nine bytes, which are read and written as one 128-bit number; going bit
//! by bit was refused, as being slower and no shorter. What is added to a field is worked out in
//! 128 bits too, so that no width overflows on the way to its own limits.

/// How wide a field is, and whether it has a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldType {
    is_signed: bool,
    bits: u32,
}

/// What becomes of a number that its field cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// It keeps its low bits.
    Wrap,
    /// It becomes the nearest that the field can hold.
    Saturate,
    /// It is refused.
    Fail,
}

/// A field touches at most so many bytes.
const SPAN_BYTES: usize = 9;

impl FieldType {
    /// A signed field has 1 to 64 bits, an unsigned one at most 63: no reply could show more.
    pub fn new(is_signed: bool, bits: i64) -> Option<FieldType> {
        let max = if is_signed { 64 } else { 63 };
        let bits = u32::try_from(bits).ok().filter(|bits| (1..=max).contains(bits))?;
        Some(FieldType { is_signed, bits })
    }

    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The field at a bit of a string, behind whose end there are zeros.
    pub fn read(self, bytes: &[u8], at: u64) -> i64 {
        let start = usize::try_from(at / 8).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or(&[]);
        let raw = self.shifted(span(rest), at) & self.mask();
        self.value_of(raw)
    }

    /// Writes a field that lies within the string. Of the value only the field's bits count.
    pub fn write(self, bytes: &mut [u8], at: u64, value: i64) {
        let rest = &mut bytes[(at / 8) as usize..];
        let shift = self.shift(at);
        let mask = self.mask() << shift;
        let value = (i128::from(value).cast_unsigned() << shift) & mask;
        let changed = ((span(rest) & !mask) | value).to_be_bytes();
        let len = rest.len().min(SPAN_BYTES);
        rest[..len].copy_from_slice(&changed[..len]);
    }

    /// What the field holds after `old` was overwritten by a value; `None` if it is refused.
    pub fn fit(self, value: i64, overflow: Overflow) -> Option<i64> {
        // An unsigned field takes a negative number for one of 64 bits without sign.
        let value = if self.is_signed { i128::from(value) } else { value.cast_unsigned().into() };
        self.limit(value, overflow)
    }

    /// The sum of a field's value and an increment; `None` if it is refused.
    pub fn add(self, old: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.limit(i128::from(old) + i128::from(increment), overflow)
    }

    fn limit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let max = (self.mask() >> u32::from(self.is_signed)).cast_signed();
        let min = if self.is_signed { -max - 1 } else { 0 };
        let limited = value.clamp(min, max);
        match overflow {
            _ if limited == value => Some(value as i64),
            Overflow::Wrap => Some(self.value_of(value.cast_unsigned() & self.mask())),
            Overflow::Saturate => Some(limited as i64),
            Overflow::Fail => None,
        }
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// The distance of the field's lowest bit from that of the span.
    fn shift(self, at: u64) -> u32 {
        u128::BITS - (at % 8) as u32 - self.bits
    }

    fn shifted(self, span: u128, at: u64) -> u128 {
        span >> self.shift(at)
    }

    /// The number that the field's bits stand for.
    fn value_of(self, raw: u128) -> i64 {
        let is_negative = self.is_signed && raw >> (self.bits - 1) != 0;
        let extended = if is_negative { raw | !self.mask() } else { raw };
        extended as i64
    }
}

/// The first bytes as the top of a number, zeros where there are none.
fn span(bytes: &[u8]) -> u128 {
    let mut span = [0; size_of::<u128>()];
    let len = bytes.len().min(SPAN_BYTES);
    span[..len].copy_from_slice(&bytes[..len]);
    u128::from_be_bytes(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    fn types() -> impl Iterator<Item = FieldType> {
        let signed = (1..=64).filter_map(|bits| FieldType::new(true, bits));
        signed.chain((1..=63).filter_map(|bits| FieldType::new(false, bits)))
    }

    #[test]
    fn widths_have_limits() {
        for bits in [i64::MIN, -1, 0, 65, 1 << 32, (1 << 32) + 8, i64::MAX] {
            assert_eq!(FieldType::new(true, bits), None);
            assert_eq!(FieldType::new(false, bits), None);
        }
        assert_eq!(FieldType::new(false, 64), None);
        assert_eq!(types().count(), 127);
    }

    #[test]
    fn fields_do_as_bit_by_bit() {
        let mut prng = Prng::seeded(2);
        for field in types() {
            let mut bytes: Vec<u8> = (0..20).map(|_| prng.next_u64() as u8).collect();
            for _ in 0..40 {
                let at = prng.below(160 - u64::from(field.bits) + 1);
                let bit = |bytes: &[u8], at: u64| bytes[(at / 8) as usize] >> (7 - at % 8) & 1;
                let raw = (at..at + u64::from(field.bits))
                    .fold(0u128, |raw, at| raw << 1 | u128::from(bit(&bytes, at)));
                assert_eq!(field.read(&bytes, at), field.value_of(raw));
                let before = bytes.clone();
                let value = field.fit(prng.next_u64() as i64, Overflow::Wrap).unwrap();
                field.write(&mut bytes, at, value);
                assert_eq!(field.read(&bytes, at), value);
                let outside = (0..160).filter(|b| !(at..at + u64::from(field.bits)).contains(b));
                for other in outside {
                    assert_eq!(bit(&bytes, other), bit(&before, other));
                }
            }
        }
    }

    #[test]
    fn there_are_zeros_behind_the_end() {
        let field = FieldType::new(false, 16).unwrap();
        assert_eq!(field.read(&[0xab], 0), 0xab00);
        assert_eq!(field.read(&[0xab], 4), 0xb000);
        for at in [8, 9, 1 << 33, u64::MAX] {
            assert_eq!(field.read(&[0xab], at), 0);
        }
    }

    #[test]
    fn sums_stop_wrap_or_fail_at_the_limits() {
        use Overflow::{Fail, Saturate, Wrap};
        let u8s = FieldType::new(false, 8).unwrap();
        let i8s = FieldType::new(true, 8).unwrap();
        let u63s = FieldType::new(false, 63).unwrap();
        let i64s = FieldType::new(true, 64).unwrap();
        let cases = [
            (u8s, 250, 10, [Some(4), Some(255), None]),
            (u8s, 5, -10, [Some(251), Some(0), None]),
            (u8s, 5, 10, [Some(15); 3]),
            (i8s, 120, 10, [Some(-126), Some(127), None]),
            (i8s, -120, -10, [Some(126), Some(-128), None]),
            (u63s, i64::MAX, 1, [Some(0), Some(i64::MAX), None]),
            (u63s, i64::MAX, i64::MAX, [Some(i64::MAX - 1), Some(i64::MAX), None]),
            (u63s, 0, i64::MIN, [Some(0), Some(0), None]),
            (i64s, i64::MAX, 1, [Some(i64::MIN), Some(i64::MAX), None]),
            (i64s, i64::MIN, -1, [Some(i64::MAX), Some(i64::MIN), None]),
            (i64s, i64::MIN, i64::MAX, [Some(-1); 3]),
        ];
        for (field, old, increment, results) in cases {
            for (overflow, result) in [Wrap, Saturate, Fail].into_iter().zip(results) {
                assert_eq!(field.add(old, increment, overflow), result, "{field:?} {overflow:?}");
            }
        }
        assert_eq!(u8s.fit(-1, Wrap), Some(255));
        assert_eq!(u8s.fit(-1, Saturate), Some(255));
        assert_eq!(u8s.fit(-1, Fail), None);
        assert_eq!(i8s.fit(-129, Saturate), Some(-128));
        assert_eq!(i64s.fit(i64::MIN, Fail), Some(i64::MIN));
    }
}
