//! Threads that serve sockets beside the executor's (`io-threads`).
//!
//! The executor hands connections over to them and gets batches of requests back, parsed, looked up
//! and hashed; it runs them and hands the replies over. Nobody shares anything but rings of letters
//! ([`mail`]), a bell each ([`bell`]), and a few counters.
//!
//! `bell` and `mail` take their atomics from here, where `proofs/` puts others in their place: it
//! runs the two files through all orders that memory and scheduler allow.

mod bell;
pub mod fleet;
pub mod letters;
mod mail;
pub mod worker;

use std::sync;
