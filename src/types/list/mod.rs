//! Lists: one listpack in the entry while small, then a counted tree of listpacks.
//!
//! [`ListRef`] reads both forms; [`Quicklist`] is the second one. When a list changes its form is
//! [`NodeLimit`]'s to say, by Redis's rules: OBJECT ENCODING shows it, and so do files.

pub mod commands;
mod limit;
mod quicklist;
mod read;
#[cfg(test)]
mod tests;

pub use commands::COMMANDS;
pub(crate) use commands::push_to_new;
pub use limit::NodeLimit;
pub use quicklist::{End, LeafRef, Quicklist, remove_matches};
pub use read::{ListRef, Value};
