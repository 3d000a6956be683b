//! What outlives the process: snapshots in RDB files, the append-only file, and the rules by which
//! a write counts as durable.
//!
//! Nothing here forks or stops the executor: files are written from snapshots of the keyspace, on
//! threads of their own. [`disk`] is the only way to the files; [`rdb`] knows the snapshot format
//! and works over any reader or writer.

pub mod aof;
pub mod commands;
pub mod crc64;
pub mod disk;
pub mod fan;
pub mod load;
pub mod lzf;
pub mod nodes;
pub mod rdb;
pub mod snapshot;
