//! The append-only file: every write in the order in which it happened, in files that Redis reads.
//!
//! [`state`] is the heart, a state machine that appends, writes and says what is to be synced, and
//! turns over to a new base; `notes` writes what stands between commands; [`manifest`] names the
//! files that make up the AOF; [`rewrite`] replaces them by a new base; [`commands`] turns a
//! dataset into commands for a base in that form. What loads an AOF finds it by [`find`], reads it
//! through [`source`], which has its commands from a [`reader`], and appends to it from [`start`]
//! on. [`mark`] is how a file tells what was written and what was durable; [`damage`] judges by it,
//! and `mend` acts. Threads, turns and replies are the engine's and net's.

pub mod check;
pub mod claim;
pub mod commands;
pub mod damage;
pub mod find;
pub mod manifest;
pub mod mark;
mod mend;
mod notes;
mod options;
mod pending;
pub mod reader;
pub mod rewrite;
pub mod source;
pub mod start;
pub mod state;

pub use manifest::{BaseForm, Manifest, Place};
pub use notes::FileEnd;
pub use options::{Moment, Options};
pub use source::{AofEnd, Unloadable};
pub use state::{Aof, Mode, SyncOutcome, SyncRequest};
