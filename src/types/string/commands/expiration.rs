//! The options EX, PX, EXAT and PXAT, and the fixed expiry arguments of SETEX and PSETEX.
//!
//! Reading the option and judging its number are apart, because Redis complains of any unknown
//! option before it looks at a number, and GETEX answers for a missing key before that.

use crate::command::{Args, CommandError};
use crate::structs::number::parse_i64;

/// In what an expiry is given.
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
        let is_in_seconds = matches!(self.form, TimeForm::Seconds | TimeForm::UnixSeconds);
        let scale = if is_in_seconds { 1000 } else { 1 };
        let start_ms = if self.form.is_absolute() { 0 } else { now_ms };
        let at_ms = u64::try_from(given)
            .ok()
            .filter(|given| *given > 0)
            .and_then(|given| given.checked_mul(scale))
            .filter(|ms| i64::try_from(*ms).is_ok())
            .and_then(|ms| ms.checked_add(start_ms))
            .filter(|ms| i64::try_from(*ms).is_ok());
        at_ms.ok_or(CommandError::InvalidExpire(command))
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
