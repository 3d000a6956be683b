//! The cluster: which node has which slot, and what becomes of a request that came to another.

pub mod admin;
mod claims;
pub mod commands;
pub mod debug;
mod election;
mod failure;
pub mod file;
pub mod flags;
mod gossip;
pub mod id;
pub mod links;
pub mod machine;
pub mod manual;
mod membership;
pub mod moves;
mod moving;
mod publish;
mod roles;
pub mod route;
pub mod saves;
pub mod setslot;
pub mod show;
pub mod slot_set;
mod state;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod time;
mod timers;
pub mod wire;
