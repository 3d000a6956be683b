//! Times and conditions as arguments: what EXPIRE, SET, GETEX, HEXPIRE and their kin share.
//!
//! Whatever way a time was given, it becomes a Unix time in milliseconds at once. Reading an option
//! and judging its number are apart, because Redis complains of any unknown option before it looks
//! at a number, and GETEX answers for a missing key before that.

use super::{Arg, Args, CommandError};
use crate::structs::number::parse_i64;

/// In what a time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeForm {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl TimeForm {
    const OPTIONS: [(&'static str, TimeForm); 4] = [
        ("EX", TimeForm::Seconds),
        ("PX", TimeForm::Milliseconds),
        ("EXAT", TimeForm::UnixSeconds),
        ("PXAT", TimeForm::UnixMilliseconds),
    ];

    pub fn is_absolute(self) -> bool {
        matches!(self, TimeForm::UnixSeconds | TimeForm::UnixMilliseconds)
    }

    /// Reads one of the words EX, PX, EXAT and PXAT if it is next.
    pub fn option(args: &mut Args<'_>) -> Option<TimeForm> {
        let found = TimeForm::OPTIONS.into_iter().find(|(word, _)| args.option(word));
        found.map(|(_, form)| form)
    }

    /// The Unix time in milliseconds; what overflows on the way is refused in the name of
    /// `command`.
    pub fn unix_ms(
        self,
        given: i64,
        now_ms: u64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let is_in_seconds = matches!(self, TimeForm::Seconds | TimeForm::UnixSeconds);
        let unit_ms = if is_in_seconds { 1000 } else { 1 };
        let start_ms = if self.is_absolute() { 0 } else { now_ms.cast_signed() };
        let at_ms = given.checked_mul(unit_ms).and_then(|ms| ms.checked_add(start_ms));
        at_ms.ok_or(CommandError::InvalidExpire(command))
    }

    /// The same, where zero and negative numbers are refused too.
    pub fn later_unix_ms(
        self,
        given: i64,
        now_ms: u64,
        command: &'static str,
    ) -> Result<u64, CommandError> {
        if given <= 0 {
            return Err(CommandError::InvalidExpire(command));
        }
        self.unix_ms(given, now_ms, command).map(i64::cast_unsigned)
    }
}

/// The last millisecond until which a field of a hash may live, which is what snapshots and DUMP
/// have room for: 46 bits.
pub const FIELD_EXPIRY_MAX_MS: u64 = (1 << 46) - 1;

impl TimeForm {
    /// The same for a field of a hash: zero is a time that has passed, and none is beyond
    /// [`FIELD_EXPIRY_MAX_MS`].
    pub fn field_unix_ms(
        self,
        given: i64,
        now_ms: u64,
        command: &'static str,
    ) -> Result<u64, CommandError> {
        if given < 0 {
            return Err(CommandError::Fixed("ERR invalid expire time, must be >= 0"));
        }
        let at_ms = self.unix_ms(given, now_ms, command)?.cast_unsigned();
        if at_ms > FIELD_EXPIRY_MAX_MS {
            return Err(CommandError::InvalidExpire(command));
        }
        Ok(at_ms)
    }
}

/// An expiry as it was given, its number unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiration<'a> {
    pub form: TimeForm,
    pub number: &'a [u8],
}

impl<'a> Expiration<'a> {
    /// Reads the option if one of the four is next and a value follows. An option may be repeated,
    /// the last one counts, but another form may not come after the first (`so_far`).
    pub fn option(args: &mut Args<'a>, so_far: Option<Expiration<'a>>) -> Option<Expiration<'a>> {
        let mut forms = TimeForm::OPTIONS.into_iter();
        let allowed = |form| so_far.is_none_or(|first| first.form == form);
        let (_, form) =
            forms.find(|(word, form)| allowed(*form) && args.option_with_value(word))?;
        Some(Expiration { form, number: args.bytes() })
    }

    /// The time in milliseconds since the Unix epoch. Zero, negative numbers and what overflows on
    /// the way are refused in the name of `command`.
    pub fn at_ms(&self, now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
        let given = parse_i64(self.number).ok_or(CommandError::NotInteger)?;
        self.form.later_unix_ms(given, now_ms, command)
    }
}

/// Which expiries may be replaced: the words NX, XX, GT and LT.
#[derive(Clone, Copy, Default)]
pub struct Condition {
    pub none: bool,
    pub some: bool,
    pub earlier: bool,
    pub later: bool,
}

impl Condition {
    /// The words in an argument tree.
    pub const ARG: Arg = Arg::one_of(
        "condition",
        &[
            Arg::flag("nx", "NX"),
            Arg::flag("xx", "XX"),
            Arg::flag("gt", "GT"),
            Arg::flag("lt", "LT"),
        ],
    )
    .optional();

    /// Reads one of the words if it is next.
    pub fn option(&mut self, args: &mut Args<'_>) -> bool {
        let words = [
            ("nx", &mut self.none),
            ("xx", &mut self.some),
            ("gt", &mut self.earlier),
            ("lt", &mut self.later),
        ];
        for (word, is_given) in words {
            if args.option(word) {
                *is_given = true;
                return true;
            }
        }
        false
    }

    /// Whether `at_ms` may replace the expiry that is there. No expiry is later than any.
    pub fn allows(self, current_ms: Option<u64>, at_ms: i64) -> bool {
        let current_ms = current_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        match current_ms {
            None => !self.some && !self.earlier,
            Some(_) if self.none => false,
            Some(current_ms) => {
                (!self.earlier || at_ms > current_ms) && (!self.later || at_ms < current_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled_and_bounded() {
        let at =
            |form, number: &str| Expiration { form, number: number.as_bytes() }.at_ms(5_000, "set");
        assert_eq!(at(TimeForm::Seconds, "2"), Ok(7_000));
        assert_eq!(at(TimeForm::Milliseconds, "2"), Ok(5_002));
        assert_eq!(at(TimeForm::UnixSeconds, "2"), Ok(2_000));
        assert_eq!(at(TimeForm::UnixMilliseconds, "2"), Ok(2));
        let max = i64::MAX as u64;
        assert_eq!(at(TimeForm::UnixMilliseconds, "9223372036854775807"), Ok(max));
        assert_eq!(at(TimeForm::UnixSeconds, "9223372036854775"), Ok(max / 1000 * 1000));
        assert_eq!(at(TimeForm::Milliseconds, "9223372036854770807"), Ok(max));
        for (form, number) in [
            (TimeForm::UnixSeconds, "9223372036854776"),
            (TimeForm::Seconds, "9223372036854775"),
            (TimeForm::Milliseconds, "9223372036854770808"),
            (TimeForm::Seconds, "0"),
            (TimeForm::UnixMilliseconds, "-1"),
            (TimeForm::Seconds, "-9223372036854775808"),
        ] {
            assert_eq!(at(form, number), Err(CommandError::InvalidExpire("set")), "{number}");
        }
        for number in ["", "x", "1.0", " 1", "9223372036854775808"] {
            assert_eq!(at(TimeForm::Seconds, number), Err(CommandError::NotInteger), "{number}");
        }
    }
}
