//! What is known of one node.
//!
//! What must agree with other nodes or with the slots is private to the table, whose primitives
//! keep it right. [`Health`] is what time does to a node; anybody may write it down.

use super::super::flags::Flags;
use super::super::id::{NodeId, ShardId};
use super::super::slot_set::{SlotBits, SlotSet};
use super::NodeKey;
use std::collections::BTreeMap;

pub struct Node {
    pub(super) id: NodeId,
    pub(super) shard: ShardId,
    pub(super) flags: Flags,
    pub(super) config_epoch: u64,
    pub(super) primary: Option<NodeKey>,
    pub(super) slots: SlotSet,
    pub(super) slot_count: usize,
    pub(super) place: Place,
    pub(super) names: Names,
    pub(super) offset: u64,
    pub health: Health,
}

/// Where a node is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    /// Empty if it is not known.
    pub ip: String,
    /// 0 if there is none, as for the next.
    pub port: u16,
    pub tls_port: u16,
    pub bus_port: u16,
}

impl Place {
    /// That of clients that use TLS, or of those that do not; 0 if these are not served.
    pub fn client_port(&self, is_tls: bool) -> u16 {
        if is_tls { self.tls_port } else { self.port }
    }
}

/// What a node wants to be called, each empty if it does not say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    pub hostname: String,
    /// For people, in logs.
    pub nodename: String,
    /// The addresses that clients are told instead of the node's own.
    pub client_ipv4: String,
    pub client_ipv6: String,
}

/// When what was heard of a node. Times are of the monotonic clock; none means never.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Health {
    pub known_since_ms: u64,
    /// We have a connection to it.
    pub is_linked: bool,
    /// A ping is open since then.
    pub ping_sent_ms: Option<u64>,
    pub pong_received_ms: Option<u64>,
    pub data_received_ms: Option<u64>,
    pub fail_since_ms: Option<u64>,
    pub offset_told_ms: Option<u64>,
    /// When it was last sent a MEET, unless it has dialled us since: then it knows us.
    pub meet_sent_ms: Option<u64>,
    /// Whom we voted for to take over from it, and when.
    pub voted_for: Option<(NodeId, u64)>,
    /// The epoch under which it asked for our vote and was told of a slot that its primary has
    /// given away, and when.
    pub told_of_gift: Option<(u64, u64)>,
    /// Since when it has no replica that is up, and should have one.
    pub orphaned_since_ms: Option<u64>,
    /// Who said when that it fails.
    pub reports: BTreeMap<NodeKey, u64>,
}

impl Node {
    pub(super) fn new(id: NodeId, shard: ShardId, flags: Flags) -> Node {
        Node {
            id,
            shard,
            flags,
            config_epoch: 0,
            primary: None,
            slots: SlotSet::new(),
            slot_count: 0,
            place: Place::default(),
            names: Names::default(),
            offset: 0,
            health: Health::default(),
        }
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }

    pub fn flags(&self) -> Flags {
        self.flags
    }

    pub fn has(&self, any_of: Flags) -> bool {
        self.flags.has(any_of)
    }

    /// Its own one, which of a replica says nothing.
    pub fn config_epoch(&self) -> u64 {
        self.config_epoch
    }

    /// Of a replica, if it is known.
    pub fn primary(&self) -> Option<NodeKey> {
        self.primary
    }

    pub fn slots(&self) -> SlotBits<'_> {
        self.slots.bits()
    }

    pub fn slot_count(&self) -> usize {
        self.slot_count
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// How far its history is, as it said last.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn is_primary(&self) -> bool {
        self.has(Flags::PRIMARY)
    }

    pub fn is_replica(&self) -> bool {
        self.has(Flags::REPLICA)
    }

    /// A primary with slots: its word counts.
    pub fn votes(&self) -> bool {
        self.is_primary() && self.slot_count > 0
    }
}
