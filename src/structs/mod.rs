//! Containers and text/number routines. Nothing here knows of commands, clients or a server.

pub mod blob;
pub mod counted_tree;
pub mod filling;
pub mod general;
pub mod glob;
pub mod intset;
pub mod listpack;
pub mod long_double;
pub mod memory;
pub mod number;
pub mod pins;
pub mod prefetch;
pub mod prng;
pub mod recency;
pub mod trie;
pub mod words;

/// Bytes that are shared between the keyspace, its snapshots and replies on their way out; a
/// writer that finds them shared copies them first.
pub type SharedBytes = triomphe::Arc<Vec<u8>>;
