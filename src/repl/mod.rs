//! Replication, as far as it needs no dataset and no socket.
//!
//! - [`backlog`]: the last part of the stream, of which each replica reads its part;
//! - [`ids`]: the name of a history of writes, how far it has come, and who may continue it.

pub mod backlog;
pub mod ids;
