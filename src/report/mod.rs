//! What an operator sees: INFO, the page for Prometheus, and the commands that show what
//! [`crate::observe`] has counted.
//!
//! This room stands above the engine and reads whatever it wants to tell of; nobody but the table
//! of commands and the net knows it.

pub mod commands;
pub mod info;
pub mod metrics;
