//! Strings: bytes, which some commands read as numbers.

pub mod commands;

pub use commands::COMMANDS;
