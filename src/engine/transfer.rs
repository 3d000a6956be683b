//! A snapshot on its way to replicas: what the driver is asked to send, and what it tells of it.
//!
//! Who carries it out decides how. The encoding is a function of the dataset and the options, so
//! one that falls behind the others can be served by another pass over the same dataset.

use super::{ClientId, Engine};
use crate::observe::traffic::SenderTraffic;
use crate::persist::fan::Content;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One replica that is sent a snapshot.
pub struct Recipient {
    pub client: ClientId,
    /// What it is sent before the line that says how the snapshot ends.
    pub prelude: Vec<u8>,
    /// Set when its connection has ended, or is to end.
    pub is_gone: Arc<AtomicBool>,
}

/// A snapshot that is to be sent. Nothing else is written to these clients until it is reported.
pub struct Transfer {
    pub number: u64,
    pub recipients: Vec<Recipient>,
    pub content: Content,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransferReport {
    /// A replica has been sent all of it.
    Sent { client: ClientId },
    /// A replica's connection has ended; the text says why.
    Lost { client: ClientId, reason: String },
    /// A replica has taken nothing for too long.
    TimedOut { client: ClientId },
    /// Nobody is sent anything any more. What could not be made, if it failed.
    Ended { number: u64, failure: Option<String> },
}

impl Engine {
    /// Where those count what they write who send snapshots.
    pub fn sender_traffic(&self) -> Arc<SenderTraffic> {
        Arc::clone(self.server.traffic.senders())
    }
}
