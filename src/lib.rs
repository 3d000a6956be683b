//! Rufous: a Redis-compatible in-memory data structure server.
//!
//! The tour, in reading order:
//! - [`structs`]: containers and text/number routines that know nothing of a server;
//! - [`resp`]: the wire protocol, requests in and replies out;
//! - [`config`]: one row a directive, the file grammar, rewriting;
//! - [`types`]: the values a key can hold and their encodings;
//! - [`keyspace`]: databases, entries, expiry;
//! - [`command`]: what a command record is, the argument cursor, error texts, the table;
//! - [`acl`]: users, their passwords, and what each of them may do;
//! - [`pubsub`]: who listens to which channel, and what messages look like;
//! - [`repl`]: histories of writes, and a replica's side of the link to its primary;
//! - [`cluster`]: which node has which slot, and the bus on which nodes agree, as a machine;
//! - [`persist`]: RDB files, the append-only file, and when a write is durable;
//! - [`sentinel`]: a Sentinel, which watches masters and fails them over, as a machine;
//! - [`observe`]: what is counted and measured;
//! - [`engine`]: the single-threaded executor, pure: requests and time in, replies and effects out;
//! - [`report`]: INFO, metrics, and the commands that show what was counted;
//! - [`net`]: sockets, turns and threads around the engine, the only room that knows tokio;
//! - [`cli`]: what the command line asks for.

pub mod acl;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod config;
pub mod engine;
pub mod keyspace;
pub mod net;
pub mod observe;
pub mod persist;
pub mod pubsub;
pub mod repl;
pub mod report;
pub mod resp;
pub mod script;
pub mod sentinel;
pub mod structs;
pub mod types;
