//! What scripts can set, and what the functions that set it say about their arguments.

use crate::script::codec::Seen;
use crate::structs::general::push_general;
use crate::structs::number::{is_space, parse_f64_prefix};
use smallvec::{SmallVec, smallvec};

/// What becomes of an infinity or of what is no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidNumbers {
    Refused,
    Written,
    Null,
}

/// Settings outlive the run that made them; each library that `cjson.new` makes has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Arrays that are too sparse become objects rather than errors.
    pub sparse_convert: bool,
    /// An array is too sparse if it is so many times longer than its elements are many, unless
    /// this is 0.
    pub sparse_ratio: i32,
    /// No array is too sparse up to this length.
    pub sparse_safe: i32,
    pub encode_max_depth: i32,
    pub decode_max_depth: i32,
    pub encode_number_precision: i32,
    pub encode_invalid_numbers: InvalidNumbers,
    pub decode_invalid_numbers: bool,
    /// Whether the encoder's buffer outlives a call.
    pub encode_keep_buffer: bool,
    /// Whether empty arrays are marked, so that they become arrays again.
    pub decode_array_with_array_mt: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            encode_number_precision: 14,
            encode_invalid_numbers: InvalidNumbers::Refused,
            decode_invalid_numbers: true,
            encode_keep_buffer: true,
            decode_array_with_array_mt: false,
        }
    }
}

/// The functions of the library that set something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    EncodeSparseArray,
    EncodeMaxDepth,
    DecodeMaxDepth,
    EncodeNumberPrecision,
    EncodeKeepBuffer,
    EncodeInvalidNumbers,
    DecodeInvalidNumbers,
    DecodeArrayWithArrayMt,
}

impl Setting {
    pub const ALL: [Setting; 8] = [
        Setting::EncodeSparseArray,
        Setting::EncodeMaxDepth,
        Setting::DecodeMaxDepth,
        Setting::EncodeNumberPrecision,
        Setting::EncodeKeepBuffer,
        Setting::EncodeInvalidNumbers,
        Setting::DecodeInvalidNumbers,
        Setting::DecodeArrayWithArrayMt,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Setting::EncodeSparseArray => "encode_sparse_array",
            Setting::EncodeMaxDepth => "encode_max_depth",
            Setting::DecodeMaxDepth => "decode_max_depth",
            Setting::EncodeNumberPrecision => "encode_number_precision",
            Setting::EncodeKeepBuffer => "encode_keep_buffer",
            Setting::EncodeInvalidNumbers => "encode_invalid_numbers",
            Setting::DecodeInvalidNumbers => "decode_invalid_numbers",
            Setting::DecodeArrayWithArrayMt => "decode_array_with_array_mt",
        }
    }

    fn arguments_max(self) -> usize {
        if self == Setting::EncodeSparseArray { 3 } else { 1 }
    }
}

/// What is set now, which is what each of the functions returns.
pub type Answers = SmallVec<[Seen<'static>; 3]>;

/// A bad argument: which one (from 1), and what the parentheses of the error's text say.
#[derive(PartialEq, Eq, Debug)]
pub struct ArgumentError {
    pub argument: usize,
    pub text: String,
}

impl Settings {
    /// Sets what arguments are given and not nil, in their order: what precedes a bad one is set.
    pub fn set(
        &mut self,
        setting: Setting,
        arguments: &[Seen<'_>],
    ) -> Result<Answers, ArgumentError> {
        let max = setting.arguments_max();
        if arguments.len() > max {
            return Err(fault(max + 1, "found too many arguments"));
        }
        let argument = |number: usize| arguments.get(number - 1).copied().unwrap_or(Seen::Nil);
        let first = argument(1);
        Ok(match setting {
            Setting::EncodeSparseArray => smallvec![
                set_flag(&mut self.sparse_convert, first)?,
                set_integer(&mut self.sparse_ratio, 2, argument(2), 0, i32::MAX)?,
                set_integer(&mut self.sparse_safe, 3, argument(3), 0, i32::MAX)?,
            ],
            Setting::EncodeMaxDepth => {
                smallvec![set_integer(&mut self.encode_max_depth, 1, first, 1, i32::MAX)?]
            }
            Setting::DecodeMaxDepth => {
                smallvec![set_integer(&mut self.decode_max_depth, 1, first, 1, i32::MAX)?]
            }
            Setting::EncodeNumberPrecision => {
                smallvec![set_integer(&mut self.encode_number_precision, 1, first, 1, 14)?]
            }
            Setting::EncodeKeepBuffer => smallvec![set_flag(&mut self.encode_keep_buffer, first)?],
            Setting::EncodeInvalidNumbers => {
                smallvec![set_invalid_numbers(&mut self.encode_invalid_numbers, first)?]
            }
            Setting::DecodeInvalidNumbers => {
                smallvec![set_flag(&mut self.decode_invalid_numbers, first)?]
            }
            Setting::DecodeArrayWithArrayMt => {
                smallvec![set_flag(&mut self.decode_array_with_array_mt, first)?]
            }
        })
    }
}

fn fault(argument: usize, text: impl Into<String>) -> ArgumentError {
    ArgumentError { argument, text: text.into() }
}

fn type_fault(argument: usize, expected: &str, given: Seen<'_>) -> ArgumentError {
    fault(argument, format!("{expected} expected, got {}", given.type_name()))
}

fn set_integer(
    setting: &mut i32,
    number: usize,
    argument: Seen<'_>,
    min: i32,
    max: i32,
) -> Result<Seen<'static>, ArgumentError> {
    if argument != Seen::Nil {
        let value = number_of(argument).ok_or_else(|| type_fault(number, "number", argument))?;
        let value = to_c_int(value);
        if !(min..=max).contains(&value) {
            // The library names the first argument whichever it was.
            return Err(fault(1, format!("expected integer between {min} and {max}")));
        }
        *setting = value;
    }
    Ok(Seen::Number(f64::from(*setting)))
}

fn set_flag(setting: &mut bool, argument: Seen<'_>) -> Result<Seen<'static>, ArgumentError> {
    match argument {
        Seen::Nil => {}
        Seen::Boolean(value) => *setting = value,
        other => *setting = option_of(other, &["off", "on"])? == 1,
    }
    Ok(Seen::Boolean(*setting))
}

fn set_invalid_numbers(
    setting: &mut InvalidNumbers,
    argument: Seen<'_>,
) -> Result<Seen<'static>, ArgumentError> {
    let options = [InvalidNumbers::Refused, InvalidNumbers::Written, InvalidNumbers::Null];
    match argument {
        Seen::Nil => {}
        Seen::Boolean(value) => *setting = options[usize::from(value)],
        other => *setting = options[option_of(other, &["off", "on", "null"])?],
    }
    Ok(match setting {
        InvalidNumbers::Refused => Seen::Boolean(false),
        InvalidNumbers::Written => Seen::Boolean(true),
        InvalidNumbers::Null => Seen::String(b"null"),
    })
}

/// Which of the options the first argument is; a number is taken for its text.
fn option_of(argument: Seen<'_>, options: &[&str]) -> Result<usize, ArgumentError> {
    let mut printed = Vec::new();
    let text = match argument {
        Seen::String(text) => text,
        Seen::Number(value) => {
            // What is no number has no sign that could be relied on.
            push_general(if value.is_nan() { f64::NAN } else { value }, 14, &mut printed);
            &printed
        }
        other => return Err(type_fault(1, "string", other)),
    };
    // Texts end at a NUL where the library compares and prints them.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_it = |option: &&str| option.as_bytes() == text;
    let unknown = || fault(1, format!("invalid option '{}'", String::from_utf8_lossy(text)));
    options.iter().position(is_it).ok_or_else(unknown)
}

/// A number, or a text that Lua takes for one.
fn number_of(argument: Seen<'_>) -> Option<f64> {
    match argument {
        Seen::Number(value) => Some(value),
        Seen::String(text) => {
            let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
            let (value, len) = parse_f64_prefix(&text[blanks..])?;
            text[blanks + len..].iter().all(|byte| is_space(*byte)).then_some(value)
        }
        _ => None,
    }
}

/// What C makes of a number on its way into an `int`, by way of a 64-bit integer.
fn to_c_int(value: f64) -> i32 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let wide = if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN };
    wide as i32
}
