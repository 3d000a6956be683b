//! The commands of publish and subscribe.
//!
//! What SUBSCRIBE and its kin answer is no reply but a message for each name; they are sent even
//! to a client that has turned its replies off.

mod introspect;
mod publish;
mod subscribe;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[
    &subscribe::PSUBSCRIBE,
    &publish::PUBLISH,
    &introspect::PUBSUB,
    &subscribe::PUNSUBSCRIBE,
    &publish::SPUBLISH,
    &subscribe::SSUBSCRIBE,
    &subscribe::SUBSCRIBE,
    &subscribe::SUNSUBSCRIBE,
    &subscribe::UNSUBSCRIBE,
];
