//! The RDB format: snapshots of the dataset, and the payloads of DUMP and RESTORE.
//!
//! [`write`] writes a [`Dataset`] of keyspace snapshots, [`Loader`] reads a file record by record,
//! [`dump`] and [`restore`] do it with one value, [`dump_functions`] and [`functions_of`] with the
//! libraries of functions. Writing goes through a [`Sink`], reading through an [`Input`]: both keep
//! the checksum and move bytes in large pieces.
//!
//! A loader believes nothing. Each value is checked completely by the code that reads it, so that
//! there is no second opinion that a crafted payload could slip through, and no length reserves
//! memory before its bytes have come. What the bytes can hold but Redis never writes (a field
//! twice, an empty hash) is refused or passed over as Redis does with `sanitize-dump-payload yes`.
//!
//! docs/formats.md describes what is written, read and refused.

pub mod check;
mod decode;
mod encode;
mod error;
mod functions;
mod input;
mod load;
mod payload;
mod sink;
mod staged;
#[cfg(test)]
mod tests;
mod version;
mod write;

pub use check::check_file;
pub use decode::Limits;
use decode::form;
pub use error::RdbError;
pub use functions::{Functions, FunctionsError, dump_functions, functions_of};
pub use input::Input;
pub use load::{Counts, LoadOptions, Loader, Record};
pub use payload::{Verified, dump, restore, value_len, verify};
pub use sink::Sink;
pub use staged::{Staged, read as read_staged};
pub use version::SaveVersion;
pub use write::{Dataset, SaveError, SaveOptions, Written, write, write_repeatably};

/// The newest version there is to read.
pub const VERSION_MAX: u16 = 12;

/// The first version of Valkey's own, which has a magic of its own.
const VALKEY_VERSION: u16 = 80;

/// What stands before the records.
mod opcode {
    pub const SLOT_INFO: u8 = 0xf4;
    pub const FUNCTION: u8 = 0xf5;
    pub const FUNCTION_PRE_RELEASE: u8 = 0xf6;
    pub const MODULE_AUX: u8 = 0xf7;
    pub const IDLE: u8 = 0xf8;
    pub const FREQUENCY: u8 = 0xf9;
    pub const AUX: u8 = 0xfa;
    pub const RESIZE_DB: u8 = 0xfb;
    pub const EXPIRE_MS: u8 = 0xfc;
    pub const EXPIRE_SECONDS: u8 = 0xfd;
    pub const SELECT_DB: u8 = 0xfe;
    pub const END: u8 = 0xff;
}

/// The first two bits of a length, and what stands for longer ones.
mod length {
    pub const LEN_14: u8 = 0x40;
    pub const LEN_32: u8 = 0x80;
    pub const LEN_64: u8 = 0x81;
    /// Not a length: the string has the encoding in the lower six bits.
    pub const SPECIAL: u8 = 0xc0;

    pub const INT_8: u8 = 0;
    pub const INT_16: u8 = 1;
    pub const INT_32: u8 = 2;
    pub const LZF: u8 = 3;
}

/// In what container a node of a list comes.
mod container {
    pub const PLAIN: u64 = 1;
    pub const PACKED: u64 = 2;
}
