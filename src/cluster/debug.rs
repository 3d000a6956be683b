//! What tests do to a node's connections (DEBUG): packets that are not taken, connections that end.

use super::id::NodeId;
use super::links::{Direction, LinkId};
use super::machine::{Action, Cluster};
use super::wire::Kind;
use std::fmt;

#[derive(Default)]
pub(super) struct Debug {
    dropped: Option<Kind>,
    closes_on_drop: bool,
}

/// Why no connection was ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillRefusal {
    UnknownNode(NodeId),
    Myself,
}

impl fmt::Display for KillRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KillRefusal::UnknownNode(id) => write!(f, "Unknown node {id}"),
            KillRefusal::Myself => f.write_str("Cannot free cluster link(s) to myself"),
        }
    }
}

/// What becomes of a packet.
pub(super) enum Fate {
    Taken,
    Dropped,
    /// With its connection.
    Closes,
}

impl Debug {
    pub fn fate_of(&self, kind: Option<Kind>) -> Fate {
        match (kind.is_some() && kind == self.dropped, self.closes_on_drop) {
            (false, _) => Fate::Taken,
            (true, false) => Fate::Dropped,
            (true, true) => Fate::Closes,
        }
    }
}

impl Cluster {
    /// DROP-CLUSTER-PACKET-FILTER: packets with this number are dropped, and with a number that no
    /// packet has none are.
    pub fn drop_packets(&mut self, number: i64) {
        self.debug.dropped = u16::try_from(number).ok().and_then(Kind::of_number);
    }

    /// CLOSE-CLUSTER-LINK-ON-PACKET-DROP
    pub fn close_on_drop(&mut self, closes: bool) {
        self.debug.closes_on_drop = closes;
    }

    /// CLUSTERLINK KILL; of both directions if none is given.
    pub fn kill_links(
        &mut self,
        direction: Option<Direction>,
        id: NodeId,
        actions: &mut Vec<Action>,
    ) -> Result<(), KillRefusal> {
        let key = self.table.find(id).ok_or(KillRefusal::UnknownNode(id))?;
        if key == self.table.me() {
            return Err(KillRefusal::Myself);
        }
        let is_meant = |link: &LinkId| {
            let own = self.links.find(*link).map(|link| link.direction);
            direction.is_none() || direction == own
        };
        for link in self.links.of(key).into_iter().filter(is_meant).collect::<Vec<_>>() {
            self.closed(link);
            actions.push(Action::Close(link));
        }
        Ok(())
    }
}
