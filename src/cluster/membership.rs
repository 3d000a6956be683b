//! Who is in the cluster: meeting, names, addresses, forgetting.
//!
//! A node is met by address, under a made-up name, until it has said its own. Everybody else is
//! known by name, from nodes that are known: an address may have become another node's, or another
//! cluster's. What strangers send is answered, and not believed.

use super::flags::Flags;
use super::id::{NodeId, ShardId};
use super::links::{Direction, LinkId};
use super::machine::{Action, Cluster, Cx};
use super::table::{Names, NodeKey, Place};
use super::wire::{Extension, Header, Kind, Ping};
use std::collections::BTreeMap;

/// So many may be met at a time: anybody can ask for it who reaches the bus.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_MS_MIN: u64 = 1000;

/// Nodes that were forgotten, and until when nobody brings them back by gossip.
#[derive(Default)]
pub(super) struct Blacklist(BTreeMap<NodeId, u64>);

impl Blacklist {
    pub fn has(&self, id: NodeId, now_ms: u64) -> bool {
        self.0.get(&id).is_some_and(|until_ms| *until_ms > now_ms)
    }

    pub fn add(&mut self, id: NodeId, until_ms: u64) {
        self.0.insert(id, until_ms);
    }

    pub fn clean(&mut self, now_ms: u64) {
        self.0.retain(|_, until_ms| *until_ms > now_ms);
    }

    pub fn extensions(&self, now_ms: u64) -> impl Iterator<Item = Extension<'_>> {
        let left = move |until_ms: u64| until_ms.saturating_sub(now_ms).div_ceil(1000);
        let listed = self.0.iter().map(move |(node, until_ms)| (*node, left(*until_ms)));
        let listed = listed.filter(|(_, ttl_s)| *ttl_s > 0);
        listed.map(|(node, ttl_s)| Extension::Forgotten { node, ttl_s })
    }
}

impl Cluster {
    /// Makes the acquaintance of whoever is there; that may be under way already. None if too many
    /// are being met.
    pub(super) fn start_handshake(
        &mut self,
        place: Place,
        flags: Flags,
        cx: &mut Cx,
    ) -> Option<NodeKey> {
        let in_handshake = self.table.iter().filter(|(_, node)| node.has(Flags::HANDSHAKE));
        let is_there = |other: &Place| other.ip == place.ip && other.bus_port == place.bus_port;
        let mut count = 0;
        for (key, node) in in_handshake {
            if is_there(node.place()) {
                return Some(key);
            }
            count += 1;
        }
        if count >= HANDSHAKES_MAX {
            return None;
        }
        let mut draw = || std::array::from_fn(|_| cx.prng.next_u64() as u8);
        let (id, shard) = (NodeId::from_random(draw()), ShardId::from_random(draw()));
        let key = self.table.add(id, shard, flags.or(Flags::HANDSHAKE))?;
        self.table.set_place(key, place);
        self.table.health_mut(key).known_since_ms = cx.now.ms;
        self.looks.call(0, key);
        Some(key)
    }

    /// Whether it is known to whom a connection belongs, be it to one that is being met.
    pub fn knows_link(&self, id: LinkId) -> bool {
        self.links.find(id).is_some_and(|link| link.node.is_some())
    }

    pub(super) fn handshake_ms(&self) -> u64 {
        self.settings.node_timeout_ms.max(HANDSHAKE_MS_MIN)
    }

    pub(super) fn remove_node(&mut self, key: NodeKey, cx: &mut Cx) {
        self.links.of(key).into_iter().for_each(|link| self.close(link, cx));
        self.leave_manual(key, cx);
        self.table.remove(key);
        self.due.save = true;
        self.due.state = true;
    }

    pub(super) fn take_ping(
        &mut self,
        id: LinkId,
        sender: Option<NodeKey>,
        kind: Kind,
        header: &Header,
        ping: &Ping,
        cx: &mut Cx,
    ) {
        if kind != Kind::Pong {
            self.learn_own_ip(id, kind, cx);
            if sender.is_none() && kind == Kind::Meet {
                self.meet_stranger(id, header, ping, cx);
            }
            self.send_ping(id, Kind::Pong, cx);
        }
        if let Some(sender) = sender.filter(|sender| self.table.node(*sender).has(Flags::MEET)) {
            self.table.unmark(sender, Flags::MEET);
            cx.notice(format!("Successfully completed handshake with {}", self.named(sender)));
        }
        if !self.is_whom_it_should_be(id, sender, header, cx) {
            return;
        }
        if kind == Kind::Pong {
            self.take_answer(id, cx);
        }
        let Some(sender) = sender.filter(|sender| *sender != self.table.me()) else { return };
        match header.flags.has(Flags::NOFAILOVER) {
            true => self.table.mark(sender, Flags::NOFAILOVER),
            false => self.table.unmark(sender, Flags::NOFAILOVER),
        }
        if kind == Kind::Ping && !self.table.node(sender).has(Flags::HANDSHAKE) {
            self.update_address(sender, id, header, cx);
        }
        self.take_configuration(sender, header, cx);
        self.take_gossip(sender, ping, cx);
        self.take_extensions(sender, ping, cx);
    }

    /// Those who dial us know where we are; before we know it ourselves any of them will do.
    fn learn_own_ip(&mut self, id: LinkId, kind: Kind, cx: &mut Cx) {
        let Some(link) = self.links.find(id) else { return };
        let mut place = self.table.myself().place().clone();
        let may_learn = kind == Kind::Meet || place.ip.is_empty();
        let is_news = !link.own_ip.is_empty() && link.own_ip != place.ip;
        if may_learn && is_news && self.settings.announce_ip.is_none() {
            place.ip = link.own_ip.clone();
            cx.notice(format!("IP address for this node updated to {}", place.ip));
            self.table.set_place(self.table.me(), place);
            self.due.save = true;
        }
    }

    /// Somebody wants to be met. His gossip is not read: once he is known he will say it again.
    fn meet_stranger(&mut self, id: LinkId, header: &Header, ping: &Ping, cx: &mut Cx) {
        let Some(ip) = self.ip_of_sender(id, header) else { return };
        let place = self.place_of(&ip, header.ports);
        let flags = if ping.knows_extensions { Flags::EXTENSIONS } else { Flags::NONE };
        if let Some(key) = self.start_handshake(place, flags, cx) {
            self.bind(id, key, cx);
        }
    }

    /// Where the sender says that it is, or whence it comes.
    fn ip_of_sender(&self, id: LinkId, header: &Header) -> Option<String> {
        let from = || self.links.find(id).map(|link| link.peer_ip.clone());
        header.ip.map(str::to_owned).or_else(from).filter(|ip| !ip.is_empty())
    }

    /// On a connection that we dialled: a node that was met says its name, and any other must say
    /// the one that we know it by. False if there is nothing more to do with the packet.
    fn is_whom_it_should_be(
        &mut self,
        id: LinkId,
        sender: Option<NodeKey>,
        header: &Header,
        cx: &mut Cx,
    ) -> bool {
        let Some(link) = self.links.find(id) else { return false };
        let (Direction::To, Some(key)) = (link.direction, link.node) else { return true };
        if self.table.node(key).has(Flags::HANDSHAKE) {
            return self.complete_handshake(id, key, sender, header, cx);
        }
        if self.table.node(key).id() == header.sender {
            return true;
        }
        let node = self.table.node(key);
        let age_ms = cx.now.age_ms(node.health.known_since_ms);
        cx.notice(format!(
            "PONG contains mismatching sender ID. About node {} in shard {} added {age_ms} ms ago, \
             having flags {}",
            self.named(key),
            node.shard(),
            node.flags().bits()
        ));
        // Somebody else lives there now. Where the node is now others will say.
        self.table.mark(key, Flags::NOADDR);
        self.table.set_place(key, Place::default());
        self.close(id, cx);
        self.due.save = true;
        self.due.state = true;
        false
    }

    fn complete_handshake(
        &mut self,
        id: LinkId,
        key: NodeKey,
        sender: Option<NodeKey>,
        header: &Header,
        cx: &mut Cx,
    ) -> bool {
        if let Some(sender) = sender {
            if sender != self.table.me() {
                self.update_address(sender, id, header, cx);
            }
            self.remove_node(key, cx);
            return false;
        }
        if !self.table.rename(key, header.sender) {
            return false;
        }
        self.table.unmark(key, Flags::HANDSHAKE);
        match header.primary {
            None => self.table.make_primary(key),
            Some(id) => {
                let primary = self.table.find(id).filter(|primary| *primary != key);
                self.table.make_replica(key, primary);
            }
        }
        self.due.save = true;
        self.due.state = true;
        true
    }

    /// Takes the address that a node has now, if it is another one. The connection on which it says
    /// so is another one than ours to it.
    fn update_address(&mut self, sender: NodeKey, id: LinkId, header: &Header, cx: &mut Cx) {
        if self.links.to(sender) == Some(id) {
            return;
        }
        let Some(ip) = self.ip_of_sender(id, header) else { return };
        let place = self.place_of(&ip, header.ports);
        self.move_node(sender, place, cx);
    }

    pub(super) fn move_node(&mut self, key: NodeKey, place: Place, cx: &mut Cx) {
        if !self.table.set_place(key, place) {
            return;
        }
        self.table.unmark(key, Flags::NOADDR);
        self.looks.call(0, key);
        if let Some(link) = self.links.to(key) {
            self.close(link, cx);
        }
        let place = self.table.node(key).place();
        let port = place.client_port(self.settings.is_tls);
        let (named, ip) = (self.named(key), place.ip.clone());
        cx.notice(format!("Address updated for node {named}, now {ip}:{port}"));
        if self.table.myself().primary() == Some(key) {
            let port = place.client_port(self.settings.replicates_by_tls);
            cx.actions.push(Action::Replicate { ip, port, is_same_history: true });
        }
        self.due.save = true;
        self.due.state = true;
    }

    /// Nodes that know of extensions have at least one, once they know that we do. Before that they
    /// say nothing, which is not to say that they are called nothing.
    fn take_extensions(&mut self, sender: NodeKey, ping: &Ping, cx: &mut Cx) {
        let mut names = Names::default();
        let mut has_any = false;
        for extension in ping.extensions() {
            has_any = true;
            match extension {
                Extension::Hostname(text) => names.hostname = text.to_owned(),
                Extension::Nodename(text) => names.nodename = text.to_owned(),
                Extension::ClientIpv4(text) => names.client_ipv4 = text.to_owned(),
                Extension::ClientIpv6(text) => names.client_ipv6 = text.to_owned(),
                Extension::Shard(shard) => {
                    let old = self.table.node(sender).shard();
                    self.table.set_shard(sender, shard);
                    self.due.save |= self.table.node(sender).shard() != old;
                }
                Extension::Forgotten { node, ttl_s } => self.forget_too(sender, node, ttl_s, cx),
                Extension::Unknown(_) => {}
            }
        }
        if has_any && self.table.set_names(sender, names) {
            self.due.save = true;
        }
    }

    /// Others were told to forget a node. One that would have itself forgotten is not understood.
    fn forget_too(&mut self, sender: NodeKey, id: NodeId, ttl_s: u64, cx: &mut Cx) {
        let Some(key) = self.table.find(id) else { return };
        if key == sender || key == self.table.me() || self.table.myself().primary() == Some(key) {
            return;
        }
        let until_ms = cx.now.ms.saturating_add(ttl_s.saturating_mul(1000));
        self.blacklist.add(id, until_ms);
        self.remove_node(key, cx);
    }
}
