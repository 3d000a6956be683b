//! Strings: bytes, which some commands read as numbers.
//!
//! The value itself lives in the keyspace's entry; this room holds what is done with it:
//! [`commands`], and the alignment behind LCS ([`lcs`]).

pub mod commands;
pub mod lcs;

pub use commands::COMMANDS;
