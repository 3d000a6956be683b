//! The cluster: which node has which slot, and what becomes of a request that came to another.

pub mod file;
pub mod flags;
pub mod id;
pub mod route;
pub mod show;
pub mod slot_set;
pub mod table;
mod text;
pub mod time;
pub mod wire;
