//! JSON, as the library `cjson` 2.1.0 reads and writes it for scripts.
//!
//! It is not quite the JSON of the standard: a number is whatever C's `strtod` takes, strings are
//! bytes that nobody validates, a table is an array if all of its keys are positive integers, and a
//! document ends at a NUL. Scripts have come to rely on each of these, so they are kept, and so
//! are the texts of its errors.

mod decode;
mod encode;
mod settings;

pub use decode::decode;
pub use encode::encode;
pub use settings::{Answers, ArgumentError, InvalidNumbers, Setting, Settings};

use std::fmt;

/// The values of the library's fields of these names.
pub const NAME: &str = "cjson";
pub const VERSION: &str = "2.1.0";

/// What is wrong with a document, or with a value that was to become one.
#[derive(PartialEq, Eq, Debug)]
pub enum Fault {
    WideUnicode,
    DecodeTooDeep { depth: usize, position: usize },
    Unexpected { expected: &'static str, found: &'static str, position: usize },
    EncodeTooDeep { depth: usize },
    NotSerialisable { type_name: &'static str, reason: &'static str },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::WideUnicode => f.write_str("JSON parser does not support UTF-16 or UTF-32"),
            Fault::DecodeTooDeep { depth, position } => {
                write!(f, "Found too many nested data structures ({depth}) at character {position}")
            }
            Fault::Unexpected { expected, found, position } => {
                write!(f, "Expected {expected} but found {found} at character {position}")
            }
            Fault::EncodeTooDeep { depth } => {
                write!(f, "Cannot serialise, excessive nesting ({depth})")
            }
            Fault::NotSerialisable { type_name, reason } => {
                write!(f, "Cannot serialise {type_name}: {reason}")
            }
        }
    }
}
