//! The append-only log: every write in the order in which it happened, in files that Redis reads.
//!
//! [`log`] is the heart, a state machine that appends, writes and says what is to be synced;
//! [`manifest`] names the files that make up the log; [`rewrite`] replaces them by a new base;
//! [`commands`] turns a dataset into commands for a base in that form. What loads a log finds it by
//! [`find`], reads it through [`source`], which has its commands from a [`reader`], and appends to
//! it from [`start`] on. [`mark`] is how a file tells what was written and what was durable;
//! [`damage`] judges by it, and [`mend`] acts. Threads, turns and replies are the engine's and
//! net's.

pub mod check;
pub mod claim;
pub mod commands;
pub mod damage;
pub mod find;
pub mod log;
pub mod manifest;
pub mod mark;
mod mend;
mod pending;
pub mod reader;
pub mod rewrite;
pub mod source;
pub mod start;

pub use find::Unloadable;
pub use log::{AppendLog, FileEnd, Mode, Moment, Options, SyncOutcome, SyncRequest};
pub use manifest::{BaseForm, Manifest, Place};
pub use source::LogEnd;
