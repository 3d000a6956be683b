//! A cluster in one process: many machines, one clock, and a network that delays, loses and is cut.
//!
//! A connection keeps the order of what is sent on it. What is lost is lost alone, which is worse
//! than what TCP does. Primaries stream what is written to their replicas, all of it each time. A
//! machine that begins again has what was last saved of its file, and a save takes its time. The
//! same seed gives the same run.

use super::moves::{Delivered, Moving};
use crate::cluster::admin::{Done, Refusal, Request};
use crate::cluster::file;
use crate::cluster::flags::Flags;
use crate::cluster::id::{NodeId, ShardId};
use crate::cluster::links::LinkId;
use crate::cluster::machine::{Action, Cluster, Event, Facts, Settings, TICK_MS};
use crate::cluster::saves::Ticket;
use crate::cluster::table::{Node, Place, Table};
use crate::cluster::time::Now;
use crate::cluster::wire::{Body, Kind, Packet};
use crate::keyspace::slot::{SLOTS, Slot};
use crate::structs::prng::Prng;
use std::collections::{BTreeMap, BTreeSet};

pub const TIMEOUT_MS: u64 = 2000;
const UNIX_MS: u64 = 1_700_000_000_000;
const BUS_PORT: u16 = 17000;
const STREAM_MS: u64 = 50;
/// How often tables are looked through from end to end, at most.
const TABLES_MS: u64 = 5000;

pub struct World {
    pub peers: Vec<Peer>,
    pub now_ms: u64,
    /// One packet in so many is lost; none if 0.
    pub loss: u64,
    pub delay_ms: u64,
    /// A save takes up to so long.
    pub disk_ms: u64,
    /// From whom nothing reaches whom.
    pub cuts: BTreeSet<(usize, usize)>,
    pub settings: Settings,
    /// How often it is looked whether all is as it must be.
    pub check_ms: u64,
    checked_ms: u64,
    tables_checked_ms: u64,
    /// Somebody has told two nodes that they have a slot.
    pub is_misled: bool,
    /// Whom who voted for under which epoch.
    votes: BTreeMap<(NodeId, u64), usize>,
    written: u64,
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
    /// The writes that it has, in order.
    pub writes: Vec<(Slot, u64)>,
    pub moving: Moving,
    pub offset: u64,
    /// The messages for its subscribers.
    pub heard: Vec<Vec<u8>>,
    pub writes_paused_until_ms: u64,
    /// Its stream comes so much later than other things.
    pub lag_ms: u64,
    /// It neither reads nor writes, and its sockets stay open.
    pub is_paused: bool,
    /// How far the clock that people read is off.
    pub clock_ms: i64,
    /// When something last came of its primary's stream.
    streamed_ms: Option<u64>,
    /// When all that is being written to its disk is there.
    pub disk_free_ms: u64,
    /// How many times it has begun.
    pub life: u64,
    /// How new what it may know of each other one is.
    news_ms: Vec<u64>,
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
    Saved { at: usize, life: u64, ticket: Ticket, text: String },
    Stream { from: usize, to: usize, life: u64, offset: u64, sent: Sent },
    Move(Delivered),
}

/// What a primary's stream has brought.
struct Sent {
    writes: Vec<(Slot, u64)>,
    moving: Moving,
}

impl Delivery {
    /// It is about this connection, as the given node has it.
    fn is_for(&self, number: usize, id: LinkId) -> bool {
        match self {
            Delivery::Tick(_)
            | Delivery::Saved { .. }
            | Delivery::Stream { .. }
            | Delivery::Move(_) => false,
            Delivery::Dial { from, link, .. } => (*from, *link) == (number, id),
            Delivery::Connected { at, link }
            | Delivery::Closed { at, link }
            | Delivery::Packet { at, link, .. } => (*at, *link) == (number, id),
        }
    }
}

pub fn settings() -> Settings {
    Settings { node_timeout_ms: TIMEOUT_MS, port: 7000, bus_port: BUS_PORT, ..Settings::default() }
}

impl Peer {
    fn new(table: Table, ip: String) -> Peer {
        Peer {
            cluster: Cluster::new(settings(), table),
            ip,
            log: Vec::new(),
            saved: String::new(),
            replicates: None,
            writes: Vec::new(),
            moving: Moving::default(),
            offset: 1,
            heard: Vec::new(),
            writes_paused_until_ms: 0,
            lag_ms: 0,
            is_paused: false,
            clock_ms: 0,
            streamed_ms: None,
            disk_free_ms: 0,
            life: 0,
            news_ms: Vec::new(),
            links: BTreeMap::new(),
        }
    }

    /// Has the machine do something, with the facts that it is to have.
    fn with<T>(&mut self, now: Now, act: impl FnOnce(&mut Cluster, &Facts, Now) -> T) -> T {
        let is_paused = now.ms < self.writes_paused_until_ms;
        let unix_ms = now.unix_ms.saturating_add_signed(self.clock_ms);
        let now = Now { unix_ms, ..now };
        let facts = Facts {
            offset: self.offset,
            stream_age_ms: self.streamed_ms.map_or(u64::MAX, |ms| now.age_ms(ms)),
            paused_offset: Some(self.offset).filter(|_| is_paused),
            has_keys: &|slot| self.writes.iter().any(|(written, _)| *written == slot),
        };
        act(&mut self.cluster, &facts, now)
    }

    pub fn is_primary(&self) -> bool {
        self.cluster.table().myself().is_primary()
    }

    pub fn serves(&self, slot: Slot, now_ms: u64) -> bool {
        let table = self.cluster.table();
        let is_served = self.cluster.is_up()
            && table.owner(slot) == Some(table.me())
            && !self.moving.is_handing(slot);
        is_served && !self.is_paused && now_ms >= self.writes_paused_until_ms
    }
}

/// How a world is made.
impl World {
    pub fn new(count: usize, seed: u64) -> World {
        let mut prng = Prng::seeded(seed);
        let mut draw = || std::array::from_fn(|_| prng.next_u64() as u8);
        let peers = (0..count).map(|number| {
            let table = Table::new(NodeId::from_random(draw()), ShardId::from_random(draw()));
            Peer::new(table, format!("10.0.0.{number}"))
        });
        let mut world = World {
            peers: peers.collect(),
            now_ms: 10_000,
            loss: 0,
            delay_ms: 20,
            disk_ms: 20,
            cuts: BTreeSet::new(),
            settings: settings(),
            check_ms: TICK_MS,
            checked_ms: 0,
            tables_checked_ms: 0,
            is_misled: false,
            votes: BTreeMap::new(),
            written: 0,
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
        World::with_replicas(count, 0, seed)
    }

    fn share_slots(&mut self, primaries: usize) {
        for number in 0..self.peers.len() {
            self.ask(number, Request::SetConfigEpoch(number as u64 + 1)).expect("it is alone");
            let is_its = |slot: &Slot| usize::from(slot.number()) * primaries / SLOTS == number;
            let slots = Slot::all().filter(is_its).collect();
            self.ask(number, Request::AddSlots(slots)).expect("they are free");
        }
    }

    /// One with so many primaries, which share all slots, and so many replicas of each: node
    /// `n + primaries` is one of node `n`.
    pub fn with_replicas(primaries: usize, replicas: usize, seed: u64) -> World {
        let count = primaries * (1 + replicas);
        let mut world = World::new(count, seed);
        world.share_slots(primaries);
        for number in 1..count {
            world.meet(number, number - 1);
        }
        world.run_until(60_000, World::agrees);
        for number in primaries..count {
            let primary = world.id(number % primaries);
            world.ask(number, Request::Replicate(primary)).expect("it is a primary");
        }
        world.run_until(60_000, |world| {
            let is_there = |peer: &Peer| peer.is_primary() || peer.streamed_ms.is_some();
            world.agrees() && world.peers.iter().all(is_there)
        });
        world
    }

    /// Primaries that share all slots, and begin with files in which all that stands.
    pub fn known(count: usize, seed: u64) -> World {
        let mut world = World::new(count, seed);
        let known: Vec<(NodeId, ShardId, String)> = (0..count)
            .map(|number| {
                let node = world.peers[number].cluster.table().myself();
                (node.id(), node.shard(), world.peers[number].ip.clone())
            })
            .collect();
        for (number, (own_id, own_shard, _)) in known.iter().enumerate() {
            let mut table = Table::new(*own_id, *own_shard);
            let mut keys = Vec::new();
            for (epoch, (id, shard, ip)) in (1..).zip(&known) {
                let key = table.add(*id, *shard, Flags::PRIMARY).unwrap_or_else(|| table.me());
                let place = Place { ip: ip.clone(), port: 7000, tls_port: 0, bus_port: BUS_PORT };
                table.set_place(key, place);
                table.set_config_epoch(key, epoch);
                keys.push(key);
            }
            for slot in Slot::all() {
                table.assign(slot, keys[usize::from(slot.number()) * count / SLOTS]);
            }
            world.peers[number].cluster = Cluster::new(world.settings.clone(), table);
        }
        world
    }

    /// Has all of them, which are alone, meet the first, and waits until they agree.
    pub fn form_at_once(&mut self) {
        self.share_slots(self.peers.len());
        for number in 1..self.peers.len() {
            self.meet(number, 0);
        }
        for _ in 0..120 {
            self.run_for(1000);
            if self.agrees() {
                return;
            }
        }
        panic!("not within two minutes:\n{}", self.describe());
    }

    /// One more, which nobody knows.
    pub fn add_empty(&mut self) {
        let number = self.peers.len();
        let mut draw = || std::array::from_fn(|_| self.prng.next_u64() as u8);
        let table = Table::new(NodeId::from_random(draw()), ShardId::from_random(draw()));
        self.peers.push(Peer::new(table, format!("10.0.0.{number}")));
        self.schedule(self.now_ms + TICK_MS, Delivery::Tick(number));
        self.ask(number, Request::SetConfigEpoch(number as u64 + 1)).expect("it is alone");
    }

    pub fn configure(&mut self, settings: Settings) {
        self.peers.iter_mut().for_each(|peer| peer.cluster.set_settings(settings.clone()));
        self.settings = settings;
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
        let (now, prng) = (self.now(), &mut self.prng);
        let done = self.peers[number].with(now, |cluster, facts, now| {
            cluster.administrate(request, facts, now, prng, &mut actions)
        });
        self.carry_out(number, actions);
        done
    }
}

/// What is to hold.
impl World {
    /// All know all, all slots are served, everybody says the same of them and nobody is down.
    pub fn agrees(&self) -> bool {
        let count = self.peers.len();
        let running = || self.peers.iter().filter(|peer| !peer.is_paused);
        let down = Flags::PFAIL.or(Flags::FAIL);
        let is_whole = |table: &Table| {
            let is_well = || table.iter().all(|(_, node)| !node.has(down));
            table.count() == count && table.assigned_count() == SLOTS && is_well()
        };
        let Some(first) = running().next().map(|peer| peer.cluster.table()) else { return true };
        running().all(|peer| peer.cluster.is_up() && is_whole(peer.cluster.table()))
            && running().all(|peer| sees_the_same(peer.cluster.table(), first))
            && self.epochs_differ()
    }

    /// Those of primaries.
    fn epochs_differ(&self) -> bool {
        let primaries = || self.peers.iter().filter(|peer| peer.is_primary() && !peer.is_paused);
        let epochs = primaries().map(|peer| peer.cluster.table().myself().config_epoch());
        epochs.collect::<BTreeSet<_>>().len() == primaries().count()
    }

    fn check_tables(&mut self) {
        self.tables_checked_ms = self.now_ms;
        for (number, peer) in self.peers.iter().enumerate() {
            let checked = peer.cluster.table().check();
            checked.unwrap_or_else(|what| panic!("node {number}: {what}"));
        }
    }

    fn check(&mut self) {
        self.spread_news();
        for number in 0..self.peers.len() {
            if !self.is_misled {
                (0..number).for_each(|other| self.check_owners(number, other));
            }
            self.check_majority(number);
        }
    }

    /// No two that serve clients have a slot under one epoch.
    fn check_owners(&self, number: usize, other: usize) {
        let [one, two] = [number, other].map(|number| &self.peers[number].cluster);
        let [own, others] = [one, two].map(|cluster| cluster.table().myself());
        if one.is_up() && two.is_up() && own.config_epoch() == others.config_epoch() {
            let is_given = |slot: &Slot| {
                let peers = [number, other].map(|number| &self.peers[number]);
                peers.iter().any(|peer| peer.moving.is_handing(*slot))
            };
            let mut both = own.slots().iter().filter(|slot| others.slots().has(*slot));
            let both = both.find(|slot| !is_given(slot));
            assert_eq!(both, None, "nodes {number} and {other} in epoch {}", own.config_epoch());
        }
    }

    /// Who has heard nothing of the majority for some time, be it by others, does not serve.
    fn check_majority(&mut self, number: usize) {
        let (now_ms, delay_ms) = (self.now_ms, self.delay_ms);
        let peer = &self.peers[number];
        let wait_ms = TIMEOUT_MS * 3 / 2 + 2 * TICK_MS + 2 * delay_ms;
        if peer.is_paused || !peer.cluster.is_up() {
            return;
        }
        let table = peer.cluster.table();
        let is_near = |other: usize| {
            let votes = |key| table.node(key).votes();
            let is_voter = table.find(self.id(other)).is_some_and(votes);
            is_voter && now_ms.saturating_sub(peer.news_ms[other]) <= wait_ms
        };
        let count = (0..self.peers.len()).filter(|other| is_near(*other)).count();
        assert!(count >= table.quorum(), "node {number} serves alone at {now_ms}");
    }

    /// How new what each may know of each other is by now: nodes that have anything to do with each
    /// other, in one direction at least, tell each other all they know.
    fn spread_news(&mut self) {
        let now_ms = self.now_ms;
        let count = self.peers.len();
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.news_ms.resize(count, now_ms);
            if !peer.is_paused {
                peer.news_ms[number] = now_ms;
            }
        }
        let mut left: BTreeSet<usize> =
            (0..count).filter(|number| !self.peers[*number].is_paused).collect();
        while let Some(first) = left.pop_first() {
            let group = self.near(first, &mut left);
            let newest = |of: usize| group.iter().map(|one| self.peers[*one].news_ms[of]).max();
            let news: Vec<u64> = (0..count).filter_map(newest).collect();
            group.iter().for_each(|one| self.peers[*one].news_ms.clone_from(&news));
        }
    }

    /// Takes out those who have to do with a node, and those who have to do with them.
    fn near(&self, number: usize, left: &mut BTreeSet<usize>) -> Vec<usize> {
        let is_cut = |from, to| self.cuts.contains(&(from, to)) && self.cuts.contains(&(to, from));
        let mut near = vec![number];
        let mut at = 0;
        while let Some(one) = near.get(at).copied() {
            near.extend(left.extract_if(.., |other| !is_cut(one, *other)));
            at += 1;
        }
        near
    }

    /// Whoever votes votes for one under an epoch, whatever became of it since.
    fn check_vote(&mut self, to: usize, bytes: &[u8]) {
        if let Ok(Packet::Full(header, Body::AuthAck)) = Packet::parse(bytes) {
            let vote = self.votes.entry((header.sender, header.current_epoch)).or_insert(to);
            assert_eq!(*vote, to, "{} votes twice", header.sender);
        }
    }

    fn describe(&self) -> String {
        let lines = self.peers.iter().enumerate().map(|(number, peer)| {
            let log = peer.log.iter().rev().take(8).rev().cloned().collect::<Vec<_>>();
            let file = file::print(peer.cluster.table(), self.now());
            let is_up = peer.cluster.is_up();
            format!(
                "node {number}, up: {is_up}\n{}\n{}",
                log.join("\n"),
                &file[..file.len().min(1600)]
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What happens.
impl World {
    pub fn run_for(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.run_a_tick(end_ms);
        }
        if self.now_ms - self.tables_checked_ms >= TABLES_MS {
            self.check_tables();
        }
    }

    fn run_a_tick(&mut self, end_ms: u64) {
        let until_ms = end_ms.min(self.now_ms + TICK_MS);
        while self.step(until_ms) {}
        self.now_ms = until_ms;
        if until_ms - self.checked_ms >= self.check_ms {
            self.checked_ms = until_ms;
            self.check();
        }
    }

    /// Runs until something holds, and says how long that took. It must within the given time.
    pub fn run_until(&mut self, ms: u64, holds: impl Fn(&World) -> bool) -> u64 {
        let (begin_ms, end_ms) = (self.now_ms, self.now_ms + ms);
        while !holds(self) {
            assert!(self.now_ms < end_ms, "not within {ms} ms:\n{}", self.describe());
            self.run_a_tick(end_ms);
        }
        self.check_tables();
        self.now_ms - begin_ms
    }

    /// Somebody writes to whoever serves the slot; to one of them, if there are several.
    pub fn write(&mut self, slot: Slot) -> Option<usize> {
        let now_ms = self.now_ms;
        let serving: Vec<usize> =
            (0..self.peers.len()).filter(|n| self.peers[*n].serves(slot, now_ms)).collect();
        let number = *serving.get(self.prng.below(serving.len() as u64) as usize)?;
        self.written += 1;
        let peer = &mut self.peers[number];
        peer.writes.push((slot, self.written));
        peer.offset += 1;
        Some(number)
    }

    pub fn writes_of(&self, number: usize, slot: Slot) -> Vec<u64> {
        let writes = self.peers[number].writes.iter().filter(|(written, _)| *written == slot);
        writes.map(|(_, number)| *number).collect()
    }

    /// Something happens to somebody.
    pub fn hurt(&mut self) {
        let number = self.prng.below(self.peers.len() as u64) as usize;
        let other = self.prng.below(self.peers.len() as u64) as usize;
        match self.prng.below(6) {
            0 | 1 => {
                // What is read late is as new as anything to who reads it.
                self.peers[number].news_ms.clear();
                self.peers[number].is_paused = !self.peers[number].is_paused;
            }
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
        self.peers.iter_mut().for_each(|peer| peer.news_ms.clear());
    }

    pub fn draw(&mut self, bound: usize) -> usize {
        self.prng.below(bound as u64) as usize
    }

    pub fn now(&self) -> Now {
        Now { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms }
    }

    pub fn schedule_move(&mut self, at_ms: u64, delivered: Delivered) {
        self.schedule(at_ms, Delivery::Move(delivered));
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
        self.deliver(delivery);
        true
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Tick(number) => {
                self.schedule(self.now_ms + TICK_MS, Delivery::Tick(number));
                self.tell(number, Event::Tick);
                self.stream_to(number);
            }
            Delivery::Dial { from, link, to } => self.accept(from, link, to),
            Delivery::Connected { at, link } if self.peers[at].links.contains_key(&link) => {
                let own_ip = self.peers[at].ip.clone();
                self.tell(at, Event::Connected { link, own_ip: &own_ip });
            }
            Delivery::Closed { at, link } if self.peers[at].links.remove(&link).is_some() => {
                self.tell(at, Event::Closed(link));
            }
            Delivery::Packet { at, link, bytes } if self.peers[at].links.contains_key(&link) => {
                self.tell(at, Event::Packet(link, &bytes));
            }
            Delivery::Saved { at, life, ticket, text } if self.peers[at].life == life => {
                self.peers[at].saved = text;
                // The answer of the disk waits for one that is stopped.
                match self.peers[at].is_paused {
                    true => {
                        let text = self.peers[at].saved.clone();
                        let again = Delivery::Saved { at, life, ticket, text };
                        self.schedule(self.now_ms + TICK_MS, again);
                    }
                    false => self.tell(at, Event::Saved { ticket, ok: true }),
                }
            }
            Delivery::Stream { from, to, life, offset, sent } => {
                self.take_stream(from, to, life, offset, sent);
            }
            Delivery::Move(delivered) => self.go_on_with_move(delivered),
            _ => {}
        }
    }

    /// What a replica's primary has now is on its way to it.
    fn stream_to(&mut self, to: usize) {
        let Some((ip, _)) = &self.peers[to].replicates else { return };
        let Some(from) = self.peers.iter().position(|peer| peer.ip == *ip) else { return };
        let is_cut = self.cuts.contains(&(from, to)) || self.cuts.contains(&(to, from));
        let primary = &self.peers[from];
        if is_cut || primary.is_paused || self.peers[to].is_paused || primary.offset == 0 {
            return;
        }
        let sent = Sent { writes: primary.writes.clone(), moving: primary.moving.clone() };
        let offset = primary.offset;
        let delay_ms = STREAM_MS + self.peers[to].lag_ms;
        let life = self.peers[to].life;
        let stream = Delivery::Stream { from, to, life, offset, sent };
        self.schedule(self.now_ms + delay_ms, stream);
    }

    fn take_stream(&mut self, from: usize, to: usize, life: u64, offset: u64, sent: Sent) {
        let follows = self.peers[to].replicates.as_ref().map(|(ip, _)| ip);
        if follows != Some(&self.peers[from].ip) || self.peers[to].life != life {
            return;
        }
        let now_ms = self.now_ms;
        let peer = &mut self.peers[to];
        (peer.offset, peer.writes, peer.streamed_ms) = (offset, sent.writes, Some(now_ms));
        self.take_moving(to, sent.moving);
        let peer = &self.peers[to];
        if peer.cluster.awaits_offset() {
            self.tell(to, Event::OffsetMoved);
        }
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
        let event =
            Event::Accepted { link: accepted, peer_ip: &peer_ip, peer_port: 1, own_ip: &own_ip };
        self.tell(to, event);
        let at_ms = self.arrival(0);
        self.schedule(at_ms, Delivery::Connected { at: from, link });
    }

    pub fn tell(&mut self, number: usize, event: Event) {
        // What reaches a paused one is lost to it: it is as if it came too late.
        if self.peers[number].is_paused {
            return;
        }
        let mut actions = Vec::new();
        let (now, prng) = (self.now(), &mut self.prng);
        self.peers[number].with(now, |cluster, facts, now| {
            cluster.handle(event, facts, now, prng, &mut actions);
        });
        self.carry_out(number, actions);
    }

    /// Not before what was sent before it.
    pub fn arrival(&mut self, after_ms: u64) -> u64 {
        let delay_ms = 1 + self.prng.below(self.delay_ms);
        (self.now_ms + delay_ms).max(after_ms)
    }

    fn carry_out(&mut self, number: usize, actions: Vec<Action>) {
        for action in actions {
            let peer = &mut self.peers[number];
            match action {
                Action::Dial { link, ip, .. } => self.dial(number, link, &ip),
                Action::Send { link, bytes } => self.send(number, link, bytes),
                Action::Close(link) => {
                    let Some(end) = peer.links.remove(&link) else { continue };
                    if let Some(link) = end.link {
                        let at_ms = self.arrival(end.arrives_ms);
                        self.schedule(at_ms, Delivery::Closed { at: end.peer, link });
                    }
                }
                Action::Save { ticket, text, .. } => {
                    let life = peer.life;
                    // What is written first is there first.
                    let begins_ms = peer.disk_free_ms.max(self.now_ms);
                    let at_ms = begins_ms + 1 + self.prng.below(self.disk_ms);
                    peer.disk_free_ms = at_ms;
                    self.schedule(at_ms, Delivery::Saved { at: number, life, ticket, text });
                }
                Action::Log(_, line) => peer.log.push(line),
                Action::Replicate { ip, is_same_history, .. } => {
                    peer.replicates = Some((ip, is_same_history));
                    if !is_same_history {
                        (peer.offset, peer.streamed_ms) = (0, None);
                        peer.writes.clear();
                    }
                }
                Action::BecomePrimary => {
                    peer.replicates = None;
                    peer.settle_moving();
                }
                Action::PauseWrites { until_ms } => {
                    peer.writes_paused_until_ms = until_ms;
                    self.tell(number, Event::OffsetMoved);
                }
                Action::ResumeWrites => peer.writes_paused_until_ms = 0,
                Action::SlotsLost { slots, to } => peer.lose(&slots, to),
                Action::DropSlot(slot) => {
                    peer.writes.retain(|(written, _)| *written != slot);
                    peer.offset += 1;
                }
                Action::DropAll => peer.writes.clear(),
                Action::MergeStaged => peer.merge_moved(),
                Action::Deliver { message, .. } => peer.heard.push(message),
                Action::StateChanged { .. } => {}
            }
        }
        self.peers[number].follow_moves();
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
        if bytes[13] == Kind::AuthAck.number() as u8 {
            self.check_vote(end.peer, &bytes);
        }
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

    /// It ends, and begins again somewhere, with what its file said last. A replica has no data
    /// then until its primary sends it.
    pub fn restart(&mut self, number: usize, ip: &str) {
        let shard = self.peers[number].cluster.table().myself().shard();
        let text = self.peers[number].saved.clone().into_bytes();
        let loaded = file::parse(&text, self.now(), false, &mut || shard).expect("it is a file");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        self.end_links(number);
        let settings = self.settings.clone();
        let peer = &mut self.peers[number];
        let last = peer.cluster.number_link();
        peer.cluster = Cluster::new(settings, loaded.table);
        // What was sent to it before is for connections that it never had.
        while peer.cluster.number_link() < last {}
        peer.ip = ip.to_owned();
        peer.life += 1;
        peer.writes_paused_until_ms = 0;
        peer.news_ms.clear();
        (peer.streamed_ms, peer.replicates) = (None, None);
        let table = peer.cluster.table();
        if let Some(primary) = table.myself().primary() {
            peer.replicates = Some((table.node(primary).place().ip.clone(), true));
            peer.offset = 0;
        }
        self.tell(number, Event::Loaded);
    }

    /// It ends, and its connections with it.
    pub fn kill(&mut self, number: usize) {
        self.end_links(number);
        self.peers[number].is_paused = true;
    }

    fn end_links(&mut self, number: usize) {
        for (link, end) in std::mem::take(&mut self.peers[number].links) {
            let at_ms = self.arrival(end.arrives_ms);
            if let Some(other) = end.link {
                self.schedule(at_ms, Delivery::Closed { at: end.peer, link: other });
            }
            self.queue.retain(|_, delivery| !delivery.is_for(number, link));
        }
    }

    pub fn cut_off(&mut self, number: usize) {
        for other in (0..self.peers.len()).filter(|other| *other != number) {
            self.cuts.extend([(number, other), (other, number)]);
        }
    }
}

/// Of who has which slots under which epoch.
fn sees_the_same(one: &Table, other: &Table) -> bool {
    let primary = |table: &Table, node: &Node| node.primary().map(|key| table.node(key).id());
    one.iter().zip(other.iter()).all(|((key, node), (other_key, other_node))| {
        node.id() == other_node.id()
            && one.epoch_of(key) == other.epoch_of(other_key)
            && primary(one, node) == primary(other, other_node)
            && node.slots() == other_node.slots()
    })
}

/// A node, its epoch, its primary and its slots.
type Seen = (NodeId, u64, Option<NodeId>, Vec<(Slot, Slot)>);

/// Who has which slots under which epoch.
pub fn view(table: &Table) -> Vec<Seen> {
    let shown = table.iter().map(|(key, node)| {
        let primary = node.primary().map(|primary| table.node(primary).id());
        (node.id(), table.epoch_of(key), primary, node.slots().runs())
    });
    shown.collect()
}
