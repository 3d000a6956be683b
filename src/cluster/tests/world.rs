//! A cluster in one process: many machines, one clock, and a network that delays, loses and is cut.
//!
//! A connection keeps the order of what is sent on it. What is lost is lost alone, which is worse
//! than what TCP does. The same seed gives the same run.

use crate::cluster::admin::{Done, Refusal, Request};
use crate::cluster::file;
use crate::cluster::flags::Flags;
use crate::cluster::id::{NodeId, ShardId};
use crate::cluster::links::LinkId;
use crate::cluster::machine::{Action, Cluster, Event, Facts, Settings, TICK_MS};
use crate::cluster::table::{Names, Table};
use crate::cluster::time::Now;
use crate::keyspace::slot::{SLOTS, Slot};
use crate::structs::prng::Prng;
use std::collections::{BTreeMap, BTreeSet};

pub const TIMEOUT_MS: u64 = 2000;
const UNIX_MS: u64 = 1_700_000_000_000;
const BUS_PORT: u16 = 17000;

pub struct World {
    pub peers: Vec<Peer>,
    pub now_ms: u64,
    /// One packet in so many is lost; none if 0.
    pub loss: u64,
    pub delay_ms: u64,
    /// From whom nothing reaches whom.
    pub cuts: BTreeSet<(usize, usize)>,
    prng: Prng,
    queue: BTreeMap<(u64, u64), Delivery>,
    sequence: u64,
}

pub struct Peer {
    pub cluster: Cluster,
    pub ip: String,
    pub log: Vec<String>,
    pub saved: String,
    pub replicates: Option<(String, bool)>,
    /// It neither reads nor writes, and its sockets stay open.
    pub is_paused: bool,
    links: BTreeMap<LinkId, End>,
}

/// The other end of a connection.
#[derive(Clone, Copy)]
struct End {
    peer: usize,
    link: Option<LinkId>,
    /// When the last of what was sent arrives.
    arrives_ms: u64,
}

enum Delivery {
    Tick(usize),
    Dial { from: usize, link: LinkId, to: usize },
    Connected { at: usize, link: LinkId },
    Closed { at: usize, link: LinkId },
    Packet { at: usize, link: LinkId, bytes: Vec<u8> },
}

impl Delivery {
    /// It is about this connection, as the given node has it.
    fn is_for(&self, number: usize, id: LinkId) -> bool {
        match self {
            Delivery::Tick(_) => false,
            Delivery::Dial { from, link, .. } => (*from, *link) == (number, id),
            Delivery::Connected { at, link }
            | Delivery::Closed { at, link }
            | Delivery::Packet { at, link, .. } => (*at, *link) == (number, id),
        }
    }
}

fn settings() -> Settings {
    Settings {
        node_timeout_ms: TIMEOUT_MS,
        ping_interval_ms: None,
        requires_full_coverage: true,
        allows_replica_migration: true,
        never_fails_over: false,
        is_tls: false,
        announce_ip: None,
        port: 7000,
        tls_port: 0,
        bus_port: BUS_PORT,
        names: Names::default(),
        blacklist_ttl_s: 60,
    }
}

impl World {
    pub fn new(count: usize, seed: u64) -> World {
        let mut prng = Prng::seeded(seed);
        let mut draw = || std::array::from_fn(|_| prng.next_u64() as u8);
        let peers = (0..count).map(|number| {
            let table = Table::new(NodeId::from_random(draw()), ShardId::from_random(draw()));
            Peer {
                cluster: Cluster::new(settings(), table),
                ip: format!("10.0.0.{number}"),
                log: Vec::new(),
                saved: String::new(),
                replicates: None,
                is_paused: false,
                links: BTreeMap::new(),
            }
        });
        let mut world = World {
            peers: peers.collect(),
            now_ms: 10_000,
            loss: 0,
            delay_ms: 20,
            cuts: BTreeSet::new(),
            prng,
            queue: BTreeMap::new(),
            sequence: 0,
        };
        for number in 0..count {
            let first_ms = world.now_ms + world.prng.below(TICK_MS);
            world.schedule(first_ms, Delivery::Tick(number));
        }
        world
    }

    /// One whose nodes know each other and share all slots, with epochs of their own.
    pub fn formed(count: usize, seed: u64) -> World {
        let mut world = World::new(count, seed);
        for number in 0..count {
            world.ask(number, Request::SetConfigEpoch(number as u64 + 1)).expect("it is alone");
            let slots = Slot::all().filter(|s| usize::from(s.number()) * count / SLOTS == number);
            world.ask(number, Request::AddSlots(slots.collect())).expect("they are free");
        }
        for number in 1..count {
            world.meet(number, number - 1);
        }
        world.run_until(60_000, World::agrees);
        world
    }

    pub fn id(&self, number: usize) -> NodeId {
        self.peers[number].cluster.table().myself().id()
    }

    pub fn meet(&mut self, number: usize, other: usize) {
        let request =
            Request::Meet { ip: self.peers[other].ip.clone(), port: 7000, bus_port: BUS_PORT };
        self.ask(number, request).expect("it is never refused");
    }

    pub fn ask(&mut self, number: usize, request: Request) -> Result<Done, Refusal> {
        let mut actions = Vec::new();
        let (now, facts) = (self.now(), Facts { offset: 1, has_keys: &|_| false });
        let cluster = &mut self.peers[number].cluster;
        let done = cluster.administrate(request, &facts, now, &mut self.prng, &mut actions);
        self.carry_out(number, actions);
        done
    }

    /// All know all, all slots are served, everybody says the same of them and nobody is down.
    pub fn agrees(&self) -> bool {
        let count = self.peers.len();
        let running = || self.peers.iter().filter(|peer| !peer.is_paused);
        let views = || running().map(|peer| view(peer.cluster.table()));
        let first = views().next();
        running().all(|peer| {
            let is_whole = |table: &Table| {
                table.count() == count && table.assigned_count() == SLOTS && {
                    table.iter().all(|(_, node)| !node.has(Flags::PFAIL.or(Flags::FAIL)))
                }
            };
            peer.cluster.is_up() && is_whole(peer.cluster.table())
        }) && views().all(|view| Some(view) == first)
    }

    pub fn run_for(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.step(end_ms) {}
        self.now_ms = end_ms;
        self.check();
    }

    /// Runs until something holds, and says how long that took. It must within the given time.
    pub fn run_until(&mut self, ms: u64, holds: impl Fn(&World) -> bool) -> u64 {
        let (begin_ms, end_ms) = (self.now_ms, self.now_ms + ms);
        while !holds(self) {
            let until_ms = self.now_ms + TICK_MS;
            assert!(until_ms <= end_ms, "not within {ms} ms:\n{}", self.describe());
            while self.step(until_ms) {}
            self.now_ms = until_ms;
            self.check();
        }
        self.now_ms - begin_ms
    }

    fn check(&self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let checked = peer.cluster.table().check();
            checked.unwrap_or_else(|what| panic!("node {number}: {what}"));
        }
        for number in 0..self.peers.len() {
            (0..number).for_each(|other| self.check_owners(number, other));
        }
    }

    /// No two that serve clients have a slot under one epoch.
    fn check_owners(&self, number: usize, other: usize) {
        let [one, two] = [number, other].map(|number| &self.peers[number].cluster);
        let [own, others] = [one, two].map(|cluster| cluster.table().myself());
        if one.is_up() && two.is_up() && own.config_epoch() == others.config_epoch() {
            let both = own.slots().iter().find(|slot| others.slots().has(*slot));
            assert_eq!(both, None, "nodes {number} and {other} in epoch {}", own.config_epoch());
        }
    }

    /// Something happens to somebody.
    pub fn hurt(&mut self) {
        let number = self.prng.below(self.peers.len() as u64) as usize;
        let other = self.prng.below(self.peers.len() as u64) as usize;
        match self.prng.below(6) {
            0 | 1 => self.peers[number].is_paused = !self.peers[number].is_paused,
            2 | 3 => _ = self.cuts.insert((number, other)),
            4 => self.cuts.clear(),
            _ => {
                let ip = self.peers[number].ip.clone();
                self.restart(number, &ip);
            }
        }
    }

    pub fn heal(&mut self) {
        self.loss = 0;
        self.cuts.clear();
        self.peers.iter_mut().for_each(|peer| peer.is_paused = false);
    }

    fn describe(&self) -> String {
        let lines = self.peers.iter().enumerate().map(|(number, peer)| {
            let log = peer.log.iter().rev().take(5).rev().cloned().collect::<Vec<_>>();
            let file = file::print(peer.cluster.table(), self.now());
            let is_up = peer.cluster.is_up();
            format!(
                "node {number}, up: {is_up}\n{}\n{}",
                log.join("\n"),
                &file[..file.len().min(600)]
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn now(&self) -> Now {
        Now { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms }
    }

    fn schedule(&mut self, at_ms: u64, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), delivery);
    }

    /// Delivers what is due next; false if that is later.
    fn step(&mut self, end_ms: u64) -> bool {
        let Some(next) = self.queue.first_entry() else { return false };
        let (at_ms, _) = *next.key();
        if at_ms > end_ms {
            return false;
        }
        let delivery = next.remove();
        self.now_ms = at_ms;
        match delivery {
            Delivery::Tick(number) => {
                self.schedule(at_ms + TICK_MS, Delivery::Tick(number));
                if !self.peers[number].is_paused {
                    self.tell(number, Event::Tick);
                }
            }
            Delivery::Dial { from, link, to } => self.accept(from, link, to),
            Delivery::Connected { at, link } if self.peers[at].links.contains_key(&link) => {
                let own_ip = self.peers[at].ip.clone();
                self.tell(at, Event::Connected { link, own_ip: &own_ip });
            }
            Delivery::Closed { at, link } => {
                if self.peers[at].links.remove(&link).is_some() {
                    self.tell(at, Event::Closed(link));
                }
            }
            Delivery::Packet { at, link, bytes } if self.peers[at].links.contains_key(&link) => {
                self.tell(at, Event::Packet(link, &bytes));
            }
            _ => {}
        }
        true
    }

    fn accept(&mut self, from: usize, link: LinkId, to: usize) {
        if self.peers[to].is_paused || !self.peers[from].links.contains_key(&link) {
            return;
        }
        let accepted = self.peers[to].cluster.number_link();
        let end = |peer, link| End { peer, link: Some(link), arrives_ms: 0 };
        self.peers[to].links.insert(accepted, end(from, link));
        self.peers[from].links.insert(link, end(to, accepted));
        let [peer_ip, own_ip] = [from, to].map(|number| self.peers[number].ip.clone());
        let event = Event::Accepted { link: accepted, peer_ip: &peer_ip, own_ip: &own_ip };
        self.tell(to, event);
        let at_ms = self.arrival(0);
        self.schedule(at_ms, Delivery::Connected { at: from, link });
    }

    fn tell(&mut self, number: usize, event: Event) {
        // What reaches a paused one is lost to it: it is as if it came too late.
        if self.peers[number].is_paused {
            return;
        }
        let mut actions = Vec::new();
        let (now, facts) = (self.now(), Facts { offset: 1, has_keys: &|_| false });
        let cluster = &mut self.peers[number].cluster;
        cluster.handle(event, &facts, now, &mut self.prng, &mut actions);
        self.carry_out(number, actions);
    }

    /// Not before what was sent before it.
    fn arrival(&mut self, after_ms: u64) -> u64 {
        let delay_ms = 1 + self.prng.below(self.delay_ms);
        (self.now_ms + delay_ms).max(after_ms)
    }

    fn carry_out(&mut self, number: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial { link, ip, .. } => self.dial(number, link, &ip),
                Action::Send { link, bytes } => self.send(number, link, bytes),
                Action::Close(link) => {
                    let Some(end) = self.peers[number].links.remove(&link) else { continue };
                    if let Some(link) = end.link {
                        let at_ms = self.arrival(end.arrives_ms);
                        self.schedule(at_ms, Delivery::Closed { at: end.peer, link });
                    }
                }
                Action::Save { text, .. } => self.peers[number].saved = text,
                Action::Log(_, line) => self.peers[number].log.push(line),
                Action::Replicate { ip, is_same_history, .. } => {
                    self.peers[number].replicates = Some((ip, is_same_history));
                }
                Action::DropSlot(_) | Action::StateChanged { .. } | Action::Deliver { .. } => {}
            }
        }
    }

    fn dial(&mut self, from: usize, link: LinkId, ip: &str) {
        let to = self.peers.iter().position(|peer| peer.ip == ip);
        let at_ms = self.arrival(0);
        let Some(to) = to else {
            self.peers[from].links.insert(link, End { peer: from, link: None, arrives_ms: 0 });
            return self.schedule(at_ms, Delivery::Closed { at: from, link });
        };
        self.peers[from].links.insert(link, End { peer: to, link: None, arrives_ms: 0 });
        if !self.cuts.contains(&(from, to)) && !self.cuts.contains(&(to, from)) {
            self.schedule(at_ms, Delivery::Dial { from, link, to });
        }
    }

    fn send(&mut self, from: usize, link: LinkId, bytes: Vec<u8>) {
        let Some(end) = self.peers[from].links.get(&link).copied() else { return };
        let Some(other) = end.link else { return };
        let is_lost = self.loss > 0 && self.prng.below(self.loss) == 0;
        if is_lost || self.cuts.contains(&(from, end.peer)) {
            return;
        }
        let at_ms = self.arrival(end.arrives_ms);
        if let Some(end) = self.peers[from].links.get_mut(&link) {
            end.arrives_ms = at_ms;
        }
        self.schedule(at_ms, Delivery::Packet { at: end.peer, link: other, bytes });
    }

    /// It ends, and begins again somewhere, with what its file said.
    pub fn restart(&mut self, number: usize, ip: &str) {
        let shard = self.peers[number].cluster.table().myself().shard();
        let text = self.peers[number].saved.clone().into_bytes();
        let loaded = file::parse(&text, self.now(), false, &mut || shard).expect("it is a file");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        for (link, end) in std::mem::take(&mut self.peers[number].links) {
            let at_ms = self.arrival(end.arrives_ms);
            if let Some(other) = end.link {
                self.schedule(at_ms, Delivery::Closed { at: end.peer, link: other });
            }
            self.queue.retain(|_, delivery| !delivery.is_for(number, link));
        }
        let peer = &mut self.peers[number];
        peer.cluster = Cluster::new(settings(), loaded.table);
        peer.ip = ip.to_owned();
    }

    pub fn cut_off(&mut self, number: usize) {
        for other in (0..self.peers.len()).filter(|other| *other != number) {
            self.cuts.extend([(number, other), (other, number)]);
        }
    }
}

/// Who has which slots under which epoch.
pub fn view(table: &Table) -> Vec<(NodeId, u64, Option<NodeId>, Vec<(Slot, Slot)>)> {
    let shown = table.iter().map(|(_, node)| {
        let primary = node.primary().map(|primary| table.node(primary).id());
        (node.id(), node.config_epoch(), primary, node.slots().runs())
    });
    shown.collect()
}
