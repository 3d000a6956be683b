//! What is counted and measured: commands, latency, slow commands, hot and large keys, memory, the
//! process.
//!
//! Counting is done where things happen and must cost next to nothing: the engine writes into
//! these counters, and they know nothing of it. How they are worded is the business of
//! [`crate::report`].

pub mod hot_keys;
pub mod latency;
pub mod memory;
pub mod process;
pub mod slow_log;
pub mod stats;
pub mod tls;
pub mod traffic;
