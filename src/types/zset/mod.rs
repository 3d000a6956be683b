//! Sorted sets: members with a score each, in the order of score and then member.
//!
//! A small one is a listpack in which members and scores take turns, in order. It becomes a
//! [`ZSetTable`] when it outgrows its [`Limits`] and does not turn back by itself. [`ZSetRef`]
//! reads either where it lies, [`ZSetMut`] changes either. Every range, by rank, by score or by
//! member, is turned into one of ranks first, so there is one way to read and one to remove.
//!
//! Invariant: the elements of a listpack are ordered as [`order::compare`] says, no member is there
//! twice, and no score is NaN.

mod bounds;
mod commands;
mod order;
mod table;
mod value;

pub use bounds::{LexRange, ScoreRange};
pub use commands::COMMANDS;
pub(crate) use commands::{changed, edit_or_make, edit_zset, limits, read, store, zset_of};
pub use order::{Member, compare};
pub use table::ZSetTable;
pub use value::{Limits, ZSetMut, ZSetRef, pack, pair_of};
