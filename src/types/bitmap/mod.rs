//! Bitmaps: strings read as bits, the first of which is the highest bit of the first byte.
//!
//! A bitmap is no kind of its own, so the value lies in the keyspace's entry like any string. This
//! room holds what is done with it: counting and finding bits ([`bits`]), combining strings
//! ([`combine`]), integers of any width at any bit ([`field`]), and the [`commands`]. Those three
//! are plain loops over words and blocks that the compiler turns into vector code; hand-written
//! vector code was refused, because it would need `unsafe` and is no faster than memory anyway.

pub mod bits;
pub mod combine;
pub mod commands;
pub mod field;

pub use commands::COMMANDS;
