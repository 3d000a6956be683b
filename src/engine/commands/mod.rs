//! The commands of the engine itself: connections, clients, transactions, the server.

pub mod aof;
pub mod client;
pub mod connection;
pub mod debug;
pub mod replication;
pub mod server;
pub mod transaction;
