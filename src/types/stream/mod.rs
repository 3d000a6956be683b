//! Streams: entries of fields and values in the order of their IDs, and groups of consumers who
//! share the reading of them.
//!
//! A [`Stream`] is a [`Log`] of entries and its [`Groups`], apart so that a command can read the
//! one while it changes the other. Both are copy-on-write throughout: cloning a stream for a
//! snapshot costs two counts, and a writer copies the nodes it changes.

mod commands;
mod entries;
mod group;
mod id;
mod node;
mod pending;
#[cfg(test)]
mod tests;
mod trim;

pub use commands::COMMANDS;
pub use entries::Entries;
pub use group::{Consumer, ConsumerId, Group, Groups, Pending};
pub use id::{Bound, IdBuf, NewId, StreamId};
pub use node::{Counts, EntryRef, Node, NodeLimits, Pairs};
pub use pending::IdMap;
pub use trim::{References, Threshold, Trim, Trimmed};

/// A stream. Cloning it takes a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub entries: Entries,
    pub groups: Groups,
}

impl Stream {
    pub fn memory_bytes(&self) -> usize {
        size_of::<Stream>() + self.entries.memory_bytes() + self.groups.memory_bytes()
    }
}
