//! MessagePack, as the library `cmsgpack` 0.4.0 reads and writes it for scripts.
//!
//! It knows the format of 2013 without its binary strings and extensions. A number that is an
//! integer is written as one, else as the shorter float if that is exact; a table is an array if
//! its keys are 1 to their count; what no format has, and tables deeper than 16, become nil.

mod pack;
mod unpack;

pub use pack::pack;
pub use unpack::{Unpacked, unpack};

use std::fmt;

/// The values of the library's fields of these names.
pub const NAME: &str = "cmsgpack";
pub const VERSION: &str = "lua-cmsgpack 0.4.0";
pub const COPYRIGHT: &str = "Copyright (C) 2012, Salvatore Sanfilippo";
pub const DESCRIPTION: &str = "MessagePack C implementation for Lua";

/// What is wrong with the arguments of the library's functions, as the parentheses of an error
/// about argument 0 of `pack` say it.
pub const NO_INPUT: &str = "MessagePack pack needs input.";
pub const TOO_MANY_ARGUMENTS: &str = "Too many arguments for MessagePack pack.";

/// What is wrong with the input, or with a value that was to be packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    MissingBytes,
    BadFormat,
    /// The library prints the input's length where its text speaks of a limit.
    InvalidRequest {
        offset: i64,
        len: usize,
    },
    OffsetTooLarge {
        offset: i64,
        len: usize,
    },
    IndexIsNil,
    IndexIsNan,
    StackOverflow(&'static str),
}

impl Fault {
    /// Whether the error's text begins with the script's name and line, as that of an error that a
    /// library raises does; not so one that the interpreter raises meanwhile.
    pub fn has_place(self) -> bool {
        !matches!(self, Fault::IndexIsNil | Fault::IndexIsNan)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::MissingBytes => f.write_str("Missing bytes in input."),
            Fault::BadFormat => f.write_str("Bad data format in input."),
            Fault::InvalidRequest { offset, len } => write!(
                f,
                "Invalid request to unpack with offset of {} and limit of {len}.",
                offset as i32
            ),
            Fault::OffsetTooLarge { offset, len } => {
                write!(f, "Start offset {} greater than input length {len}.", offset as i32)
            }
            Fault::IndexIsNil => f.write_str("table index is nil"),
            Fault::IndexIsNan => f.write_str("table index is NaN"),
            Fault::StackOverflow(what) => write!(f, "stack overflow ({what})"),
        }
    }
}
