//! How the cluster is shown to clients: CLUSTER NODES, SLOTS, SHARDS and INFO.
//!
//! Clients take these apart byte by byte, so texts are made here and nowhere else. Lists are given
//! as shapes, which a command writes as its protocol has it. What a client is shown depends on its
//! own connection ([`Asking`]): the address of its family, the port with or without TLS.
//!
//! All nodes answer SLOTS alike, down to the order of replicas: clients compare.

use super::flags::Flags;
use super::id::NodeId;
use super::links::Links;
use super::table::{Node, NodeKey, Table, Way};
use super::time::Now;
use super::wire::Kind;
use crate::keyspace::slot::Slot;
use std::fmt::Write as _;

/// What the answer depends on beside the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking {
    pub is_tls: bool,
    pub is_ipv6: bool,
    pub prefers: Endpoint,
}

/// What clients are to connect to (cluster-preferred-endpoint-type).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    Ip,
    Hostname,
    /// Whatever they are connected to already, but for the port.
    Unknown,
}

impl Asking {
    /// The address for a client of this family.
    pub fn ip<'n>(&self, node: &'n Node) -> &'n str {
        let names = node.names();
        let told = if self.is_ipv6 { &names.client_ipv6 } else { &names.client_ipv4 };
        if told.is_empty() { &node.place().ip } else { told }
    }

    /// Where to find the node, as errors and SHARDS have it.
    pub fn endpoint<'n>(&self, node: &'n Node) -> &'n str {
        match self.prefers {
            Endpoint::Ip => self.ip(node),
            Endpoint::Hostname if node.names().hostname.is_empty() => "?",
            Endpoint::Hostname => &node.names().hostname,
            Endpoint::Unknown => "",
        }
    }

    pub fn port(&self, node: &Node) -> u16 {
        node.place().client_port(self.is_tls)
    }

    /// The end of a MOVED or ASK.
    pub fn redirection(&self, node: &Node) -> String {
        format!("{}:{}", self.endpoint(node), self.port(node))
    }
}

/// CLUSTER NODES.
pub fn nodes(table: &Table, now: Now, asking: &Asking) -> String {
    let mut out = String::new();
    for key in table.keys() {
        push_node(&mut out, table, key, now, asking);
        out.push('\n');
    }
    out
}

/// Lines of CLUSTER NODES for the replicas of a node (CLUSTER REPLICAS).
pub fn replicas(table: &Table, of: NodeKey, now: Now, asking: &Asking) -> Vec<String> {
    let line = |key| {
        let mut line = String::new();
        push_node(&mut line, table, key, now, asking);
        line
    };
    table.replicas(of).map(line).collect()
}

fn push_node(out: &mut String, table: &Table, key: NodeKey, now: Now, asking: &Asking) {
    let node = table.node(key);
    let (ip, port, bus_port) = (asking.ip(node), asking.port(node), node.place().bus_port);
    push(out, format_args!("{} {ip}:{port}@{bus_port}", node.id()));
    if !node.names().hostname.is_empty() {
        push(out, format_args!(",{}", node.names().hostname));
    }
    push_state(out, table, key, now);
}

/// What follows a node's addresses, in replies as in the file.
pub(super) fn push_state(out: &mut String, table: &Table, key: NodeKey, now: Now) {
    let node = table.node(key);
    let is_me = key == table.me();
    push(out, format_args!(" {} ", node.flags()));
    match node.primary() {
        Some(primary) => out.push_str(table.node(primary).id().as_str()),
        None => out.push('-'),
    }
    let (ping, pong) = match is_me {
        true => (0, 0),
        false => {
            (now.unix_ms_of(node.health.ping_sent_ms), now.unix_ms_of(node.health.pong_received_ms))
        }
    };
    let link = if is_me || node.health.is_linked { "connected" } else { "disconnected" };
    push(out, format_args!(" {ping} {pong} {} {link}", table.epoch_of(key)));
    for (first, last) in node.slots().runs() {
        match first == last {
            true => push(out, format_args!(" {first}")),
            false => push(out, format_args!(" {first}-{last}")),
        }
    }
    if is_me {
        push_ways(out, table);
    }
}

fn push_ways(out: &mut String, table: &Table) {
    for (slot, way) in table.ways() {
        let other = table.node(way.other()).id();
        match way {
            Way::LeavesTo(_) => push(out, format_args!(" [{slot}->-{other}]")),
            Way::ComesFrom(_) => push(out, format_args!(" [{slot}-<-{other}]")),
        }
    }
}

pub(super) fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes everything");
}

/// One run of slots in CLUSTER SLOTS, and who serves it: the primary, then replicas by id.
#[derive(PartialEq, Eq, Debug)]
pub struct Range<'t> {
    pub first: Slot,
    pub last: Slot,
    pub nodes: Vec<Server<'t>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server<'t> {
    /// None for null.
    pub endpoint: Option<&'t str>,
    pub port: u16,
    pub id: NodeId,
    /// By which other names it goes.
    pub others: Vec<(&'static str, &'t str)>,
}

/// CLUSTER SLOTS, by slot.
pub fn slots<'t>(table: &'t Table, asking: &Asking) -> Vec<Range<'t>> {
    let mut ranges = Vec::new();
    for (key, owner) in table.iter().filter(|(_, node)| node.slot_count() > 0) {
        let replicas = table.replicas(key).map(|replica| table.node(replica));
        let able = replicas.filter(|replica| !replica.has(Flags::FAIL) && replica.offset() != 0);
        let nodes: Vec<Server> =
            std::iter::once(owner).chain(able).map(|node| server(node, asking)).collect();
        let range = |(first, last)| Range { first, last, nodes: nodes.clone() };
        ranges.extend(owner.slots().runs().into_iter().map(range));
    }
    ranges.sort_by_key(|range| range.first);
    ranges
}

fn server<'t>(node: &'t Node, asking: &Asking) -> Server<'t> {
    let mut others = Vec::new();
    if asking.prefers != Endpoint::Ip {
        others.push(("ip", asking.ip(node)));
    }
    let hostname = node.names().hostname.as_str();
    if asking.prefers != Endpoint::Hostname && !hostname.is_empty() {
        others.push(("hostname", hostname));
    }
    let endpoint = Some(asking.endpoint(node)).filter(|_| asking.prefers != Endpoint::Unknown);
    Server { endpoint, port: asking.port(node), id: node.id(), others }
}

/// A shard in CLUSTER SHARDS.
#[derive(PartialEq, Eq, Debug)]
pub struct Shard<'t> {
    pub runs: Vec<(Slot, Slot)>,
    pub nodes: Vec<Member<'t>>,
}

#[derive(PartialEq, Eq, Debug)]
pub struct Member<'t> {
    pub id: NodeId,
    /// Shown unless 0, as the next.
    pub port: u16,
    pub tls_port: u16,
    pub ip: &'t str,
    pub endpoint: &'t str,
    /// Shown unless empty.
    pub hostname: &'t str,
    pub role: &'static str,
    pub offset: u64,
    pub health: &'static str,
}

/// CLUSTER SHARDS. A primary that fails keeps its slots there until another has them.
pub fn shards<'t>(table: &'t Table, asking: &Asking) -> Vec<Shard<'t>> {
    let shown = |keys: Vec<NodeKey>| {
        let nodes = keys.iter().map(|key| table.node(*key));
        let mut runs: Vec<(Slot, Slot)> = nodes.clone().flat_map(|n| n.slots().runs()).collect();
        runs.sort();
        Shard { runs, nodes: nodes.map(|node| member(node, asking)).collect() }
    };
    table.shards().into_values().map(shown).collect()
}

fn member<'t>(node: &'t Node, asking: &Asking) -> Member<'t> {
    let health = match node {
        failed if failed.has(Flags::FAIL) => "fail",
        empty if empty.is_replica() && empty.offset() == 0 => "loading",
        _ => "online",
    };
    Member {
        id: node.id(),
        port: node.place().port,
        tls_port: node.place().tls_port,
        ip: asking.ip(node),
        endpoint: asking.endpoint(node),
        hostname: &node.names().hostname,
        role: if node.is_replica() { "replica" } else { "master" },
        offset: node.offset(),
        health,
    }
}

/// A connection in CLUSTER LINKS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkShown {
    pub direction: &'static str,
    pub node: NodeId,
    pub create_time_ms: u64,
    pub events: &'static str,
    /// What waits to be sent, and so what is kept for that.
    pub queued_bytes: usize,
}

/// CLUSTER LINKS: of each node the connection that we dialled, then the one that was accepted.
pub fn links(table: &Table, links: &Links, now: Now) -> Vec<LinkShown> {
    let ids = table
        .iter()
        .flat_map(|(key, node)| links.of(key).into_iter().map(move |link| (node.id(), link)));
    let shown = ids.filter_map(|(node, id)| {
        let link = links.find(id)?;
        Some(LinkShown {
            direction: link.direction.word(),
            node,
            create_time_ms: now.unix_ms_of(Some(link.created_ms)),
            events: if link.queued_bytes > 0 { "rw" } else { "r" },
            queued_bytes: link.queued_bytes,
        })
    });
    shown.collect()
}

/// How many packets went where.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    sent: [u64; Kind::ALL.len()],
    received: [u64; Kind::ALL.len()],
    /// Links that were closed since too much waited to be sent.
    pub limit_exceeded: u64,
}

impl Traffic {
    pub fn count_sent(&mut self, kind: Kind) {
        self.sent[usize::from(kind.number())] += 1;
    }

    pub fn count_received(&mut self, kind: Kind) {
        self.received[usize::from(kind.number())] += 1;
    }

    pub fn sent(&self, kind: Kind) -> u64 {
        self.sent[usize::from(kind.number())]
    }

    pub fn received(&self, kind: Kind) -> u64 {
        self.received[usize::from(kind.number())]
    }
}

/// CLUSTER INFO.
pub fn info(table: &Table, is_up: bool, traffic: &Traffic) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        push(&mut out, format_args!("cluster_{name}:{value}\r\n"));
    };
    let slots_of = |is_counted: fn(&Node) -> bool| {
        let counted = table.iter().filter(|(_, node)| is_counted(node));
        counted.map(|(_, node)| node.slot_count()).sum::<usize>()
    };
    line("state", &if is_up { "ok" } else { "fail" });
    line("slots_assigned", &table.assigned_count());
    line("slots_ok", &slots_of(|node| !node.has(Flags::FAIL.or(Flags::PFAIL))));
    line("slots_pfail", &slots_of(|node| node.has(Flags::PFAIL) && !node.has(Flags::FAIL)));
    line("slots_fail", &slots_of(|node| node.has(Flags::FAIL)));
    line("known_nodes", &table.count());
    line("size", &table.size());
    line("current_epoch", &table.current_epoch());
    line("my_epoch", &table.epoch_of(table.me()));
    for (counts, way) in [(&traffic.sent, "sent"), (&traffic.received, "received")] {
        let counted = Kind::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
        counted.for_each(|(kind, count)| {
            line(&format!("stats_messages_{}_{way}", kind.word()), count);
        });
        line(&format!("stats_messages_{way}"), &counts.iter().sum::<u64>());
    }
    let exceeded = traffic.limit_exceeded;
    push(&mut out, format_args!("total_cluster_links_buffer_limit_exceeded:{exceeded}\r\n"));
    out
}

/// Answers that are kept until something changes that they show, one for each way of asking.
pub struct Cached<K, T> {
    generation: u64,
    kept: Vec<(K, T)>,
}

impl<K, T> Default for Cached<K, T> {
    fn default() -> Cached<K, T> {
        Cached { generation: 0, kept: Vec::new() }
    }
}

impl<K: PartialEq, T> Cached<K, T> {
    /// The answer to one that asks so, made if it is not at hand.
    pub fn of(&mut self, table: &Table, key: K, make: impl FnOnce() -> T) -> &T {
        if self.generation != table.generation() {
            self.kept.clear();
            self.generation = table.generation();
        }
        let at = self.kept.iter().position(|(kept, _)| *kept == key).unwrap_or_else(|| {
            self.kept.push((key, make()));
            self.kept.len() - 1
        });
        &self.kept[at].1
    }
}

#[cfg(test)]
mod tests;
