//! What an operator sees: counters, INFO, memory figures.
//!
//! Counting is done where things happen and must cost next to nothing; this room owns the
//! counters and words the reports.

pub mod clients;
pub mod commands;
pub mod hot_keys;
pub mod info;
pub mod latency;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod slow_log;
pub mod stats;
