//! Sets: distinct members in no order.
//!
//! Small sets are packed bytes in the keyspace's entry: an intset while all members are integers, a
//! listpack while they are few and short. Bigger ones are a trie of members ([`SetTable`]), so that
//! COPY, snapshots and long reads share them. Reading order: [`value`] (the encodings and when they
//! change), [`algebra`] (SINTER, SUNION, SDIFF), [`commands`].

pub mod algebra;
pub mod commands;
mod table;
pub mod value;

pub use commands::COMMANDS;
pub use table::SetTable;
pub use value::{Rules, SetRef, SetValue};
