//! What nodes say of each other: pings, and the gossip in them.
//!
//! Each ping tells of a tenth of the nodes, drawn at random, and of all that the sender cannot
//! reach. So what one knows all know soon, and what many cannot reach is soon agreed upon.

use super::flags::Flags;
use super::id::ShardId;
use super::links::LinkId;
use super::machine::{Cluster, Cx, Level};
use super::table::NodeKey;
use super::wire::{Extension, Gossip, IpText, Kind, Ping};

const GOSSIP_MIN: usize = 3;
/// How far a clock may be ahead of ours for its times to be believed.
const CLOCK_MS: u64 = 500;

/// Nobody can be reached there, or should not be.
const DOWN: Flags = Flags::PFAIL.or(Flags::FAIL);
const UNREACHABLE: Flags = Flags::HANDSHAKE.or(Flags::NOADDR);

impl Cluster {
    pub(super) fn send_ping(&mut self, link: LinkId, kind: Kind, cx: &mut Cx) {
        let Some(receiver) = self.links.find(link).map(|link| link.node) else { return };
        if let Some(key) = receiver.filter(|key| self.links.to(*key) == Some(link))
            && kind == Kind::Ping
        {
            self.table.health_mut(key).ping_sent_ms = Some(cx.now.ms);
        }
        self.follow_handed();
        let drawn = self.draw(receiver, cx);
        let entries: Vec<Gossip> = drawn.iter().map(|key| self.gossip_of(*key, cx)).collect();
        let takes = receiver.is_some_and(|key| self.table.node(key).has(Flags::EXTENSIONS));
        let extensions = if takes { self.extensions(cx) } else { Vec::new() };
        let bytes = self.header().ping(kind, &entries, &extensions);
        self.traffic.count_sent(kind);
        cx.send(link, bytes);
    }

    /// Says to somebody what there is to say, and has it answered; but a ping that is open already
    /// stays the one that is waited for.
    pub(super) fn speak_to(&mut self, key: NodeKey, link: LinkId, cx: &mut Cx) {
        let is_asked = self.table.node(key).health.ping_sent_ms.is_some();
        let kind = if is_asked { Kind::Pong } else { Kind::Ping };
        self.send_ping(link, kind, cx);
    }

    /// Of whom the next ping tells.
    fn draw(&self, receiver: Option<NodeKey>, cx: &mut Cx) -> Vec<NodeKey> {
        let others = self.table.count().saturating_sub(2);
        let wanted = (self.table.count() / 10).max(GOSSIP_MIN).min(others);
        let mut drawn = Vec::with_capacity(wanted);
        for _ in 0..wanted * 3 {
            if drawn.len() == wanted {
                break;
            }
            let number = cx.prng.below(self.table.numbers() as u64);
            let Some(key) = self.table.nth(number as usize) else { continue };
            let node = self.table.node(key);
            let is_one_of_us = key == self.table.me() || Some(key) == receiver;
            let is_of_use = node.health.is_linked || node.slot_count() > 0;
            let may_be_told = is_of_use && !node.has(UNREACHABLE.or(Flags::PFAIL));
            if !is_one_of_us && may_be_told && !drawn.contains(&key) {
                drawn.push(key);
            }
        }
        let failing = self.table.failing().filter(|(_, node)| !node.has(UNREACHABLE));
        drawn.extend(failing.map(|(key, _)| key));
        drawn
    }

    fn gossip_of(&self, key: NodeKey, cx: &Cx) -> Gossip<'_> {
        let node = self.table.node(key);
        let seconds = |time_ms| (cx.now.unix_ms_of(time_ms) / 1000) as u32;
        Gossip {
            node: node.id(),
            ping_sent_s: seconds(node.health.ping_sent_ms),
            pong_received_s: seconds(node.health.pong_received_ms),
            ip: IpText::of(&node.place().ip),
            ports: self.ports_of(node.place()),
            flags: node.flags(),
        }
    }

    fn extensions<'s>(&'s self, cx: &Cx) -> Vec<Extension<'s>> {
        let names = self.table.myself().names();
        let texts = [
            (&names.hostname, Extension::Hostname(&names.hostname)),
            (&names.nodename, Extension::Nodename(&names.nodename)),
            (&names.client_ipv4, Extension::ClientIpv4(&names.client_ipv4)),
            (&names.client_ipv6, Extension::ClientIpv6(&names.client_ipv6)),
        ];
        let said = texts.into_iter().filter(|(text, _)| !text.is_empty()).map(|(_, said)| said);
        let shard = Extension::Shard(self.table.myself().shard());
        said.chain(self.blacklist.extensions(cx.now.ms)).chain([shard]).collect()
    }

    /// A PONG to everybody: something has changed that all should know at once.
    pub(super) fn broadcast_pong(&mut self, cx: &mut Cx) {
        for (key, link) in self.links.all_connected() {
            if !self.table.node(key).has(Flags::HANDSHAKE) {
                self.send_ping(link, Kind::Pong, cx);
            }
        }
    }

    pub(super) fn take_gossip(&mut self, sender: NodeKey, ping: &Ping, cx: &mut Cx) {
        let malformed = ping.malformed_count();
        if malformed > 0 {
            let named = self.named(sender);
            let line = format!("Node {named} gossiped {malformed} nodes with invalid IDs.");
            return cx.log(Level::Warning, line);
        }
        for entry in ping.gossip() {
            match self.table.find(entry.node) {
                Some(key) if key == self.table.me() => {}
                Some(key) => self.take_word(sender, key, &entry, cx),
                None => self.take_news(&entry, cx),
            }
        }
    }

    /// What is said of a node that we know.
    fn take_word(&mut self, sender: NodeKey, key: NodeKey, entry: &Gossip, cx: &mut Cx) {
        let is_down = entry.flags.has(DOWN);
        if self.table.node(sender).votes() && sender != key {
            self.take_report(sender, key, is_down, cx);
        }
        if is_down {
            return;
        }
        let has_open_ping = self.table.node(key).health.ping_sent_ms.is_some();
        if !has_open_ping && self.report_count(key, cx.now.ms) == 0 {
            self.take_pong_of_others(key, entry, cx);
        }
        // Others reach it, and we do not: perhaps since it is somewhere else now.
        let node = self.table.node(key);
        if node.has(DOWN)
            && !entry.flags.has(Flags::NOADDR)
            && let Some(ip) = entry.ip.text()
        {
            self.move_node(key, self.place_of(ip, entry.ports), cx);
        }
    }

    /// A node that answered somebody need not be asked again by all others.
    fn take_pong_of_others(&mut self, key: NodeKey, entry: &Gossip, cx: &mut Cx) {
        let told_ms = u64::from(entry.pong_received_s) * 1000;
        if told_ms == 0 || told_ms > cx.now.unix_ms + CLOCK_MS {
            return;
        }
        let pong_ms = cx.now.ms_of_unix_s(entry.pong_received_s);
        let health = self.table.health_mut(key);
        health.pong_received_ms = health.pong_received_ms.max(Some(pong_ms));
    }

    /// A node that we do not know, by its name: it is not met by address, since that may be
    /// another's by now.
    fn take_news(&mut self, entry: &Gossip, cx: &mut Cx) {
        let Some(ip) = entry.ip.text() else { return };
        if entry.flags.has(UNREACHABLE) || self.blacklist.has(entry.node, cx.now.ms) {
            return;
        }
        let role = match entry.flags.has(Flags::REPLICA) {
            true => Flags::REPLICA,
            false => Flags::PRIMARY,
        };
        let shard = ShardId::from_random(std::array::from_fn(|_| cx.prng.next_u64() as u8));
        if let Some(key) = self.table.add(entry.node, shard, role) {
            self.table.set_place(key, self.place_of(ip, entry.ports));
            self.table.health_mut(key).known_since_ms = cx.now.ms;
            self.looks.call(0, key);
            self.due.save = true;
        }
    }
}
