//! Publish and subscribe: who listens to what, and what a message looks like on the wire.
//!
//! [`Registry`] knows the listeners of each channel, pattern and shard channel, and each listener's
//! [`Subscriptions`] know what it listens to; the two are changed together, here only. Who the
//! listeners are is the engine's business: the registry is generic over their names. [`message`]
//! encodes a message once for all receivers that speak the same protocol, and [`notify`] words the
//! channels of keyspace events.

pub mod commands;
pub mod message;
mod names;
pub mod notify;
mod registry;

pub use registry::{Registry, Subscriptions, Topic, TopicCounts};
