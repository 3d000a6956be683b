//! What outlives the process: snapshots in RDB files, the append-only file, and the rules by which
//! a write counts as durable.
//!
//! Nothing here forks or stops the executor: files are written from snapshots of the keyspace, on
//! threads of their own. [`disk`] is the only way to the files.

pub mod aof;
pub mod crc64;
pub mod disk;
