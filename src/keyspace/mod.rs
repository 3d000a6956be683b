//! The keyspace: databases of entries.

pub mod entry;
