//! Connections of the bus: one that we dialled and one that was accepted, for each node.
//!
//! On the one that we dialled go our pings and all that we send by ourselves; on the other one only
//! answers. A connection has a number, by which what is still heard of one that was given up is
//! told apart.

use super::table::NodeKey;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(u64);

impl LinkId {
    /// Small ones come first, and none is used again.
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// We dialled.
    To,
    /// It was accepted.
    From,
}

impl Direction {
    pub fn word(self) -> &'static str {
        match self {
            Direction::To => "to",
            Direction::From => "from",
        }
    }
}

pub struct Link {
    pub direction: Direction,
    /// Whose it is: of an accepted one not before its first packet.
    pub node: Option<NodeKey>,
    pub is_connected: bool,
    pub created_ms: u64,
    /// The other end, and ours, as the sockets have it.
    pub peer_ip: String,
    pub peer_port: u16,
    pub own_ip: String,
    /// What waits to be sent, as the shell has told.
    pub queued_bytes: usize,
}

impl Link {
    /// As log lines name the other end.
    pub fn peer(&self) -> String {
        format!("{}:{}", self.peer_ip, self.peer_port)
    }
}

#[derive(Default)]
pub struct Links {
    last: u64,
    all: BTreeMap<LinkId, Link>,
    /// By the number of a node.
    to: Vec<Option<LinkId>>,
    from: Vec<Option<LinkId>>,
}

impl Links {
    /// A number for a connection, which no other one has had.
    pub fn number(&mut self) -> LinkId {
        self.last += 1;
        LinkId(self.last)
    }

    pub fn find(&self, id: LinkId) -> Option<&Link> {
        self.all.get(&id)
    }

    pub fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.all.get_mut(&id)
    }

    /// The one that we dialled, be it connected or not yet.
    pub fn to(&self, node: NodeKey) -> Option<LinkId> {
        self.to.get(node.number()).copied().flatten()
    }

    pub fn from(&self, node: NodeKey) -> Option<LinkId> {
        self.from.get(node.number()).copied().flatten()
    }

    /// The one that we dialled, if it is connected.
    pub fn connected(&self, node: NodeKey) -> Option<LinkId> {
        self.to(node).filter(|id| self.all.get(id).is_some_and(|link| link.is_connected))
    }

    /// All that we dialled and that are connected.
    pub fn all_connected(&self) -> Vec<(NodeKey, LinkId)> {
        let dialled = self.to.iter().flatten();
        let connected = dialled.filter_map(|id| {
            let link = self.all.get(id).filter(|link| link.is_connected)?;
            Some((link.node?, *id))
        });
        connected.collect()
    }

    pub fn add(&mut self, id: LinkId, link: Link) {
        if let (Direction::To, Some(node)) = (link.direction, link.node) {
            *entry(&mut self.to, node) = Some(id);
        }
        self.all.insert(id, link);
    }

    /// Says whose an accepted connection is; the one that was its before, if any.
    pub fn bind(&mut self, id: LinkId, node: NodeKey) -> Option<LinkId> {
        let before = self.all.get_mut(&id)?.node.replace(node);
        if let Some(before) = before.filter(|before| self.from(*before) == Some(id)) {
            *entry(&mut self.from, before) = None;
        }
        entry(&mut self.from, node).replace(id).filter(|old| *old != id)
    }

    pub fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.all.remove(&id)?;
        if let Some(node) = link.node {
            let of_node = match link.direction {
                Direction::To => &mut self.to,
                Direction::From => &mut self.from,
            };
            entry(of_node, node).take_if(|own| *own == id);
        }
        Some(link)
    }

    /// Those of a node.
    pub fn of(&self, node: NodeKey) -> Vec<LinkId> {
        self.to(node).into_iter().chain(self.from(node)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.all.iter().map(|(id, link)| (*id, link))
    }
}

fn entry(of_nodes: &mut Vec<Option<LinkId>>, node: NodeKey) -> &mut Option<LinkId> {
    if of_nodes.len() <= node.number() {
        of_nodes.resize(node.number() + 1, None);
    }
    &mut of_nodes[node.number()]
}
