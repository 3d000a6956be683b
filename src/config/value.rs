//! The kinds of value a directive can hold: yes/no, numbers, sizes, percentages, octal, text.
//!
//! The Rust type of a field decides how it is read and printed, through [`Setting`]; what differs
//! from row to row (bounds, units, a check) is the type's `Rule`, written in the row. The
//! alternative, one big `Value` enum, would make hot code match on a variant that can never be
//! another one; here `config.maxclients` is a `u32` and nothing else.
//!
//! Invariant: for every setting, parsing what `print` gave yields an equal setting. The refusal
//! texts are Redis's, because clients and test suites compare them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::quote::quote;
use crate::structs::number::parse_i64;

/// Why a value was refused, in the words the user sees.
pub type Reason = Cow<'static, str>;

/// Where the arguments come from; some directives read a file's repeated lines as one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A configuration file or the command line. `repeated` tells that this load has already
    /// met the directive, so a list grows instead of starting afresh.
    File { repeated: bool },
    /// CONFIG SET.
    Command,
}

/// What a row is, in data: for documentation, completion and the example file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    Memory {
        min: i128,
        max: i128,
    },
    MemoryOrPercent,
    Octal {
        min: i128,
        max: i128,
    },
    Text,
    OneOf(Vec<&'static str>),
    SomeOf(Vec<&'static str>),
    /// A form of its own, shown as a pattern such as `<seconds> <changes> ...`.
    Special(&'static str),
}

/// What CONFIG REWRITE writes after the directive's name. A directive without lines disappears
/// from the file; a line that is not forced is written only in place of an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub arguments: Vec<u8>,
    pub forced: bool,
}

/// A type that can be the field of a directive.
pub trait Setting: Sized + Clone + PartialEq {
    /// What a row adds to the type.
    type Rule: 'static;

    /// True if a line may carry several arguments; CONFIG SET then splits its value at spaces.
    const MULTI: bool = false;

    fn parse(
        rule: &Self::Rule,
        args: &[&[u8]],
        current: &Self,
        source: Source,
    ) -> Result<Self, Reason>;

    /// The text CONFIG GET shows.
    fn print(&self, rule: &Self::Rule) -> Vec<u8>;

    fn kind(rule: &Self::Rule) -> Kind;

    fn lines(&self, rule: &Self::Rule, default: &Self) -> Vec<Line> {
        vec![Line { arguments: self.print(rule), forced: self != default }]
    }
}

/// The argument of a directive that takes exactly one.
pub fn only<'a>(args: &[&'a [u8]]) -> Result<&'a [u8], Reason> {
    match args {
        [one] => Ok(one),
        _ => Err(WRONG_COUNT.into()),
    }
}

pub const WRONG_COUNT: &str = "wrong number of arguments";

// ---------------------------------------------------------------------------------------- bool

/// The rule of a yes/no row.
pub struct Bool {
    /// Set when the server cannot do it: CONFIG SET of `yes` is refused with this text. In a file
    /// it is kept, so that a configuration written for Redis still starts.
    refusal: Option<&'static str>,
}

pub const YES_NO: Bool = Bool { refusal: None };

pub const fn never_yes(refusal: &'static str) -> Bool {
    Bool { refusal: Some(refusal) }
}

impl Setting for bool {
    type Rule = Bool;

    fn parse(rule: &Bool, args: &[&[u8]], _: &Self, source: Source) -> Result<Self, Reason> {
        let text = only(args)?;
        let yes = if text.eq_ignore_ascii_case(b"yes") {
            true
        } else if text.eq_ignore_ascii_case(b"no") {
            false
        } else {
            return Err("argument must be 'yes' or 'no'".into());
        };
        match rule.refusal {
            Some(refusal) if yes && source == Source::Command => Err(refusal.into()),
            _ => Ok(yes),
        }
    }

    fn print(&self, _: &Bool) -> Vec<u8> {
        if *self { b"yes".to_vec() } else { b"no".to_vec() }
    }

    fn kind(_: &Bool) -> Kind {
        Kind::Bool
    }
}

// ------------------------------------------------------------------------------------- numbers

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Integer,
    Memory,
    Octal,
}

/// The rule of a numeric row. Bounds are wider than any field so that one check serves all.
pub struct Range {
    form: Form,
    min: i128,
    max: i128,
    /// Values outside are accepted but pulled inside: `hz` has always been lenient.
    clamp: Option<(i128, i128)>,
}

pub const INT_MIN: i128 = i32::MIN as i128;
pub const INT_MAX: i128 = i32::MAX as i128;
pub const UINT_MAX: i128 = u32::MAX as i128;
pub const LONG_MAX: i128 = i64::MAX as i128;
pub const ULONG_MAX: i128 = u64::MAX as i128;

pub const fn int(min: i128, max: i128) -> Range {
    Range { form: Form::Integer, min, max, clamp: None }
}

pub const fn memory(min: i128, max: i128) -> Range {
    Range { form: Form::Memory, min, max, clamp: None }
}

pub const fn octal(min: i128, max: i128) -> Range {
    Range { form: Form::Octal, min, max, clamp: None }
}

impl Range {
    pub const fn clamped(self, low: i128, high: i128) -> Range {
        Range { clamp: Some((low, high)), ..self }
    }

    fn parse(&self, text: &[u8]) -> Result<i128, Reason> {
        let value = match self.form {
            Form::Integer => {
                parse_i64(text).ok_or("argument couldn't be parsed into an integer")?.into()
            }
            Form::Memory => size(text).ok_or("argument must be a memory value")?,
            Form::Octal => {
                octal_digits(text).ok_or("argument couldn't be parsed as an octal number")?
            }
        };
        if value < self.min || value > self.max {
            let (min, max) = (self.min, self.max);
            return Err(match self.form {
                Form::Octal => format!("argument must be between {min:o} and {max:o} inclusive"),
                _ => format!("argument must be between {min} and {max} inclusive"),
            }
            .into());
        }
        Ok(self.clamp.map_or(value, |(low, high)| value.clamp(low, high)))
    }

    fn kind(&self) -> Kind {
        let (min, max) = (self.min, self.max);
        match self.form {
            Form::Integer => Kind::Integer { min, max },
            Form::Memory => Kind::Memory { min, max },
            Form::Octal => Kind::Octal { min, max },
        }
    }
}

macro_rules! numeric_settings {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            type Rule = Range;

            fn parse(rule: &Range, args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
                let value = rule.parse(only(args)?)?;
                Ok(Self::try_from(value).expect("a row's bounds fit its field"))
            }

            fn print(&self, rule: &Range) -> Vec<u8> {
                match rule.form {
                    Form::Octal => format!("{self:o}").into_bytes(),
                    _ => self.to_string().into_bytes(),
                }
            }

            fn kind(rule: &Range) -> Kind {
                rule.kind()
            }

            fn lines(&self, rule: &Range, default: &Self) -> Vec<Line> {
                let arguments = match rule.form {
                    Form::Memory => with_unit(*self as i128),
                    _ => self.print(rule),
                };
                vec![Line { arguments, forced: self != default }]
            }
        }
    )*};
}

numeric_settings!(u16, u32, u64, usize, i32, i64);

/// Reads a decimal as the C library's `strtoll` does: blanks before it, a plus sign and leading
/// zeros are fine; what follows it is not.
pub fn lenient_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text.trim_ascii_start()).ok()?.parse().ok()
}

/// Most digits of a size.
const SIZE_DIGITS_MAX: usize = 127;

/// Reads a size with an optional unit: `k` is 1000, `kb` is 1024, any case. A unit alone is zero,
/// which Redis accepts too. The number without its unit ends at 2^64 - 1, as in Redis; times its
/// unit it may be more than any setting holds, where Redis would wrap around.
fn size(text: &[u8]) -> Option<i128> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(count);
    let factor: i128 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits.len() > SIZE_DIGITS_MAX {
        return None;
    }
    let value = digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(i128::from(value) * factor)
}

/// Reads a size as directives are written in, if it fits.
pub fn bytes(text: &[u8]) -> Option<u64> {
    size(text)?.try_into().ok()
}

/// The shortest text that [`bytes`] reads back, in powers of two.
pub fn with_unit(value: i128) -> Vec<u8> {
    for (factor, unit) in [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if value != 0 && value % factor == 0 {
            return format!("{}{unit}", value / factor).into_bytes();
        }
    }
    value.to_string().into_bytes()
}

fn octal_digits(text: &[u8]) -> Option<i128> {
    if text.is_empty() {
        return Some(0);
    }
    i64::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok().map(i128::from)
}

// --------------------------------------------------------------------------- memory or percent

/// A limit that is either absolute or a share of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Bytes(u64),
    Percent(u8),
}

pub const SIZE_OR_SHARE: () = ();

impl Budget {
    /// The limit in bytes, if there is one; a share of an unlimited memory is no limit.
    pub fn limit_bytes(self, maxmemory: u64) -> Option<u64> {
        let limit = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let share = u128::from(maxmemory) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        };
        (limit > 0).then_some(limit)
    }
}

impl Setting for Budget {
    type Rule = ();

    fn parse((): &(), args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let text = only(args)?;
        if let Some(value) = size(text) {
            let bytes = u64::try_from(value).ok().filter(|_| value <= LONG_MAX);
            return bytes.map(Self::Bytes).ok_or_else(|| {
                format!("argument must be between -100 and {LONG_MAX} inclusive").into()
            });
        }
        let share = text.strip_suffix(b"%").and_then(parse_i64).filter(|share| *share >= 0);
        match share.map(u8::try_from) {
            Some(Ok(0)) => Ok(Self::Bytes(0)),
            Some(Ok(percent)) if percent <= 100 => Ok(Self::Percent(percent)),
            Some(_) => Err("percentage argument must be less or equal to 100".into()),
            None => Err("argument must be a memory or percent value".into()),
        }
    }

    fn print(&self, (): &()) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_string().into_bytes(),
            Self::Percent(percent) => format!("{percent}%").into_bytes(),
        }
    }

    fn kind((): &()) -> Kind {
        Kind::MemoryOrPercent
    }

    fn lines(&self, rule: &(), default: &Self) -> Vec<Line> {
        let arguments = match self {
            Self::Bytes(bytes) => with_unit(i128::from(*bytes)),
            Self::Percent(_) => self.print(rule),
        };
        vec![Line { arguments, forced: self != default }]
    }
}

// ---------------------------------------------------------------------------------------- text

/// A string of the configuration. Bytes, not characters: passwords and paths need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(Vec<u8>);

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Text {
    fn from(text: &[u8]) -> Self {
        Self(text.to_vec())
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string_lossy())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

/// The rule of a text row: what the text must be, beyond being text.
pub struct Check(Option<TextCheck>);

/// Judges a text; a refusal comes with the reason.
pub type TextCheck = fn(&[u8]) -> Result<(), &'static str>;

pub const ANY_TEXT: Check = Check(None);

pub const fn checked(check: TextCheck) -> Check {
    Check(Some(check))
}

impl Check {
    fn run(&self, text: &[u8]) -> Result<(), Reason> {
        match self.0 {
            Some(check) => check(text).map_err(Reason::from),
            None => Ok(()),
        }
    }
}

impl Setting for Text {
    type Rule = Check;

    fn parse(rule: &Check, args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let text = only(args)?;
        rule.run(text)?;
        Ok(Self::from(text))
    }

    fn print(&self, _: &Check) -> Vec<u8> {
        self.0.clone()
    }

    fn kind(_: &Check) -> Kind {
        Kind::Text
    }

    fn lines(&self, _: &Check, default: &Self) -> Vec<Line> {
        vec![Line { arguments: quote(&self.0), forced: self != default }]
    }
}

/// Text that may be absent. The empty string stands for absence, in both directions.
impl Setting for Option<Text> {
    type Rule = Check;

    fn parse(rule: &Check, args: &[&[u8]], _: &Self, _: Source) -> Result<Self, Reason> {
        let text = only(args)?;
        rule.run(text)?;
        Ok((!text.is_empty()).then(|| Text::from(text)))
    }

    fn print(&self, _: &Check) -> Vec<u8> {
        self.as_ref().map(|text| text.0.clone()).unwrap_or_default()
    }

    fn kind(_: &Check) -> Kind {
        Kind::Text
    }

    fn lines(&self, _: &Check, default: &Self) -> Vec<Line> {
        let line = |text: &Text| Line { arguments: quote(&text.0), forced: self != default };
        self.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<S: Setting>(rule: &S::Rule, current: &S, text: &str) -> Result<String, String> {
        let parsed = S::parse(rule, &[text.as_bytes()], current, Source::Command);
        let parsed = parsed.map_err(|reason| reason.into_owned())?;
        Ok(String::from_utf8(parsed.print(rule)).expect("test values are UTF-8"))
    }

    fn refused<S: Setting>(rule: &S::Rule, current: &S, text: &str) -> String {
        read(rule, current, text).expect_err("the text is refused")
    }

    #[test]
    fn booleans_are_yes_or_no() {
        assert_eq!(read(&YES_NO, &false, "YES").unwrap(), "yes");
        assert_eq!(read(&YES_NO, &false, "no").unwrap(), "no");
        for text in ["", "true", "1", "yes "] {
            assert_eq!(refused(&YES_NO, &false, text), "argument must be 'yes' or 'no'");
        }
        let rule = never_yes("cannot");
        assert_eq!(refused(&rule, &false, "yes"), "cannot");
        assert_eq!(read(&rule, &false, "no").unwrap(), "no");
        let in_file = Source::File { repeated: false };
        assert_eq!(bool::parse(&rule, &[b"yes"], &false, in_file), Ok(true));
    }

    #[test]
    fn integers_are_strict_and_bounded() {
        let rule = int(-1, 100);
        for text in ["0", "-1", "100"] {
            assert_eq!(read(&rule, &0_i32, text).unwrap(), text);
        }
        for text in
            ["", " 1", "1 ", "+1", "01", "-0", "1.0", "1k", "9223372036854775808", "\u{661}"]
        {
            assert_eq!(
                refused(&rule, &0_i32, text),
                "argument couldn't be parsed into an integer",
                "{text}"
            );
        }
        for text in ["-2", "101", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(
                refused(&rule, &0_i32, text),
                "argument must be between -1 and 100 inclusive",
                "{text}"
            );
        }
        assert_eq!(read(&int(0, INT_MAX).clamped(1, 500), &0_u32, "9000").unwrap(), "500");
        assert_eq!(read(&int(0, INT_MAX).clamped(1, 500), &0_u32, "0").unwrap(), "1");
    }

    #[test]
    fn sizes_know_two_kinds_of_units() {
        let rule = memory(0, ULONG_MAX);
        for (text, expected) in [
            ("0", "0"),
            ("1b", "1"),
            ("1k", "1000"),
            ("1Kb", "1024"),
            ("2M", "2000000"),
            ("2mB", "2097152"),
            ("3g", "3000000000"),
            ("3gb", "3221225472"),
            ("007", "7"),
            ("", "0"),
            ("mb", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "18446744073709551615"),
        ] {
            assert_eq!(read(&rule, &0_u64, text).unwrap(), expected, "{text}");
        }
        let long = "9".repeat(SIZE_DIGITS_MAX + 1);
        for text in ["-1", "1t", "1 k", "1.5gb", &long] {
            assert_eq!(refused(&rule, &0_u64, text), "argument must be a memory value", "{text}");
        }
        for text in ["18446744073709551615kb", "17179869184gb", &format!("{}gb", &long[1..])] {
            let expected = "argument must be between 0 and 18446744073709551615 inclusive";
            assert_eq!(refused(&rule, &0_u64, text), expected, "{text}");
        }
        let bounded = memory(1 << 20, LONG_MAX);
        let expected = "argument must be between 1048576 and 9223372036854775807 inclusive";
        assert_eq!(refused(&bounded, &0_usize, "1mb1"), "argument must be a memory value");
        assert_eq!(refused(&bounded, &0_usize, "1023kb"), expected);
        assert_eq!(refused(&bounded, &0_usize, "9223372036854775808"), expected);
    }

    #[test]
    fn sizes_are_written_with_the_largest_unit_that_divides_them() {
        for value in [0, 1, 1000, 1024, 1 << 20, 3 << 20, 1 << 30, u64::MAX, 1_000_000] {
            let text = with_unit(i128::from(value));
            assert_eq!(bytes(&text), Some(value), "{}", String::from_utf8_lossy(&text));
        }
        assert_eq!(with_unit(3 << 30), b"3gb");
        assert_eq!(with_unit(1536 << 10), b"1536kb");
    }

    #[test]
    fn octal_numbers() {
        let rule = octal(0, 0o777);
        for (text, expected) in [("0", "0"), ("700", "700"), ("0755", "755"), ("", "0")] {
            assert_eq!(read(&rule, &0_u32, text).unwrap(), expected);
        }
        for text in ["8", "0x1", "7 "] {
            let expected = "argument couldn't be parsed as an octal number";
            assert_eq!(refused(&rule, &0_u32, text), expected);
        }
        for text in ["1000", "-1"] {
            let expected = "argument must be between 0 and 777 inclusive";
            assert_eq!(refused(&rule, &0_u32, text), expected);
        }
    }

    #[test]
    fn budgets_are_bytes_or_percent() {
        let none = Budget::Bytes(0);
        for (text, expected) in [("0", "0"), ("1mb", "1048576"), ("5%", "5%"), ("100%", "100%")] {
            assert_eq!(read(&(), &none, text).unwrap(), expected);
        }
        for (text, expected) in [
            ("200%", "percentage argument must be less or equal to 100"),
            ("-5%", "argument must be a memory or percent value"),
            ("%", "argument must be a memory or percent value"),
            ("5 %", "argument must be a memory or percent value"),
            ("-5", "argument must be a memory or percent value"),
        ] {
            assert_eq!(refused(&(), &none, text), expected, "{text}");
        }
        assert_eq!(Budget::Percent(5).limit_bytes(1000), Some(50));
        assert_eq!(Budget::Percent(100).limit_bytes(u64::MAX), Some(u64::MAX));
        assert_eq!(Budget::Percent(5).limit_bytes(0), None);
        assert_eq!(Budget::Bytes(7).limit_bytes(0), Some(7));
        assert_eq!(none.limit_bytes(1000), None);
    }

    #[test]
    fn text_may_be_absent_or_checked() {
        let only_a = checked(|text| if text == b"a" { Ok(()) } else { Err("not a") });
        assert_eq!(read(&only_a, &Text::default(), "a").unwrap(), "a");
        assert_eq!(refused(&only_a, &Text::default(), "b"), "not a");
        let absent: Option<Text> = None;
        assert_eq!(Setting::parse(&ANY_TEXT, &[b""], &absent, Source::Command), Ok(None));
        assert_eq!(absent.print(&ANY_TEXT), b"");
        assert_eq!(absent.lines(&ANY_TEXT, &None), []);
        let args: [&[u8]; 2] = [b"a", b"b"];
        let two = Text::parse(&ANY_TEXT, &args, &Text::default(), Source::Command);
        assert_eq!(two, Err(WRONG_COUNT.into()));
    }

    #[test]
    fn lenient_integers_read_like_the_c_library() {
        for (text, expected) in
            [("7", Some(7)), (" +07", Some(7)), ("-7", Some(-7)), ("7x", None), ("", None)]
        {
            assert_eq!(lenient_integer(text.as_bytes()), expected, "{text}");
        }
    }
}
