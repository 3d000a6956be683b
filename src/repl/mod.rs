//! Replication, as far as it needs no dataset and no socket.
//!
//! What is decided here is decided by pure machines: they are told what happened and what time it
//! is, and answer with what is to be done. The engine asks them and the net carries it out, so a
//! test plays every loss, delay and odd answer without a peer.
//!
//! - [`backlog`]: the last part of the stream, of which each replica reads its part;
//! - [`ids`]: the name of a history of writes, how far it has come, and who may continue it;
//! - [`link`]: a replica's side of the link to its primary.

pub mod backlog;
pub mod ids;
pub mod link;
