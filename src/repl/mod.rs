//! Replication: the stream's backlog, of which each replica reads its part.

pub mod backlog;
