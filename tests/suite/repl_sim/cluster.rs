//! Nodes, the wires between them and their clients, all moved by one seed.

use super::Profile;
use super::actor::{Actor, Flushes, Kind, LEDGER_DB, Learnt, ledger_key};
use super::node::{Clocks, Node, World};
use super::watch::Watch;
use super::wire::{Place, Wire};
use crate::answer::{encode, read};
use crate::sim_disk::SimDisk;
use rufous::config;
use rufous::engine::{ClientId, Engine, Seed, ServerParts};
use rufous::repl::link::LinkEvent;
use rufous::structs::prng::Prng;
use std::collections::BTreeMap;
use std::sync::Arc;

const START_US: u64 = 1_700_000_000_000_000;
const FIRST_PORT: u16 = 7000;

/// A place for a node, in whatever life it is.
pub struct Slot {
    pub node: Option<Node>,
    pub life: u64,
    disk: SimDisk,
    directives: Vec<(&'static str, String)>,
    /// What its wall clock is off.
    offset_us: i64,
    /// Since when, in steps, it has not lost anything nor been told whom to follow.
    pub steady_since: u64,
    loads: u64,
    /// The same in all its lives.
    pub all_loads: u64,
    /// Whom it followed when it left.
    followed: Option<usize>,
    /// When it is started again.
    starts_us: u64,
}

pub struct Cluster {
    pub profile: Profile,
    pub prng: Prng,
    pub slots: Vec<Slot>,
    wires: Vec<Wire>,
    actors: Vec<Actor>,
    /// Connections of operators, until they have their answer.
    orders: Vec<(usize, u64, ClientId)>,
    now_us: u64,
    pub step: u64,
    watch: Watch,
    numbers: u64,
    /// When each write was taken.
    pub taken: BTreeMap<u64, u64>,
    is_planting: bool,
    is_healing: bool,
    /// What happens is told.
    is_traced: bool,
}

pub fn address(node: usize) -> String {
    format!("n{node} {}", FIRST_PORT as usize + node)
}

impl Cluster {
    pub fn new(profile: Profile, seed: u64) -> Cluster {
        let mut prng = Prng::seeded(seed);
        let count = profile.nodes.0 + prng.below(profile.nodes.1 - profile.nodes.0 + 1);
        let mut slots = Vec::new();
        for number in 0..count as usize {
            slots.push(Slot {
                node: None,
                life: 0,
                disk: SimDisk::new(),
                directives: directives(&profile, number, &mut prng),
                offset_us: 0,
                steady_since: 0,
                loads: 0,
                all_loads: 0,
                followed: None,
                starts_us: 0,
            });
        }
        // Where everything is emptied, no account can be kept.
        let flushes = match prng.below(4) {
            _ if !profile.flushes => Flushes::Nothing,
            0 => Flushes::All,
            _ => Flushes::Some,
        };
        let wild = Kind::Wild { flushes };
        let other = if flushes == Flushes::All { wild } else { Kind::Writer };
        let kinds = [wild, wild, other, other, Kind::Subscriber];
        let mut cluster = Cluster {
            profile,
            prng,
            slots,
            wires: Vec::new(),
            actors: kinds.into_iter().map(Actor::new).collect(),
            orders: Vec::new(),
            now_us: 1_000_000,
            step: 0,
            watch: Watch::default(),
            numbers: 0,
            taken: BTreeMap::new(),
            is_planting: true,
            is_healing: false,
            is_traced: std::env::var_os("REPL_SIM_TRACE").is_some(),
        };
        for number in 0..cluster.slots.len() {
            cluster.start(number, None);
        }
        cluster
    }

    /// Tells whoever looks for the cause of something what happens.
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{:5} {:8} {}", self.step, self.now_us / 1000, what());
        }
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    pub fn any_node(&mut self) -> usize {
        self.prng.below(self.slots.len() as u64) as usize
    }

    pub fn dice(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.prng.below(one_in) == 0
    }

    pub fn node(&self, number: usize) -> Option<&Node> {
        self.slots[number].node.as_ref()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().filter_map(|slot| slot.node.as_ref())
    }

    /// Whether all are up, linked, and in one history.
    pub fn is_united(&self) -> bool {
        let of = |number: usize| {
            let replication = &self.node(number)?.engine.server.replication;
            let is_linked = !replication.is_replica() || replication.link.is_connected();
            is_linked.then(|| replication.history().id())
        };
        (0..self.count()).all(|number| of(number).is_some() && of(number) == of(0))
    }

    /// A node that follows nobody.
    pub fn some_primary(&mut self) -> Option<usize> {
        let is_primary =
            |number: &usize| self.node(*number).is_some_and(|node| !node.engine.is_replica());
        let all: Vec<usize> = (0..self.count()).filter(is_primary).collect();
        let at = self.prng.below(all.len() as u64) as usize;
        all.get(at).copied()
    }

    /// Starts a node from what is on its disk.
    pub fn start(&mut self, number: usize, follows: Option<usize>) {
        let pace = 900 + self.prng.below(200);
        let seed = Seed { hash_key: [7; 16], prng: self.prng.next_u64() };
        let world_seed = self.prng.next_u64();
        let unix_us = (START_US + self.now_us).saturating_add_signed(self.slots[number].offset_us);
        let clocks = Clocks { mono_us: 1_000_000 + self.prng.below(1 << 30), unix_us, pace };
        self.trace(|| format!("n{number} starts, and follows {follows:?}"));
        let slot = &mut self.slots[number];
        let mut args = vec![b"--save".to_vec(), Vec::new()];
        let mut add = |name: &str, value: &str| {
            args.push(format!("--{name}").into_bytes());
            args.extend(value.split(' ').map(|word| word.as_bytes().to_vec()));
        };
        slot.directives.iter().for_each(|(name, value)| add(name, value));
        if let Some(primary) = follows {
            add("replicaof", &address(primary));
        }
        // Whoever starts a server has made room for it.
        slot.disk.set_full(false);
        let loaded = config::load(&args, &mut config::Disk::default()).expect("they are right");
        let is_logging = loaded.config.appendonly;
        let parts = ServerParts { disk: Arc::new(slot.disk.clone()), ..ServerParts::default() };
        let engine = Engine::new(loaded.config, parts, seed);
        let mut node = Node { engine, world: World::new(clocks, world_seed) };
        node.world.transfers_fail = self.profile.transfers_fail;
        node.engine.tick(clocks.now());
        let end = node.engine.load_here().unwrap_or_else(|_| panic!("n{number} cannot load"));
        node.engine.start_replication(end.origin);
        if is_logging {
            node.engine.open_aof(&end).expect("the disk is whole");
        }
        slot.node = Some(node);
        slot.life += 1;
        slot.loads = 0;
        slot.steady_since = self.step;
    }

    /// A node ends without a word.
    pub fn kill(&mut self, number: usize) {
        self.trace(|| format!("n{number} is killed"));
        let takes_power = self.dice(3);
        let is_silent = takes_power && self.dice(2);
        let slot = &mut self.slots[number];
        let Some(node) = slot.node.take() else { return };
        drop(node);
        slot.life += 1;
        slot.steady_since = self.step;
        slot.starts_us = self.now_us + self.prng.below(1_000_000);
        if takes_power {
            slot.disk = slot.disk.after_power_cut(&mut self.prng);
        }
        for wire in &mut self.wires {
            if wire.from.node == number || wire.to.node == number {
                match is_silent {
                    true => wire.silence(&mut self.prng),
                    false => wire.cut(&mut self.prng),
                }
            }
        }
    }

    /// An operator says something to a node.
    pub fn order(&mut self, number: usize, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.order_words(number, &words);
        if line.starts_with("REPLICAOF") {
            self.slots[number].steady_since = self.step;
        }
    }

    pub fn order_words(&mut self, number: usize, words: &[&str]) {
        self.trace(|| format!("n{number} is told {}", words.join(" ")));
        let Some(node) = &mut self.slots[number].node else { return };
        let client = node.accept("operator:1");
        let conn = node.world.conns.get_mut(&client).expect("it was just made");
        conn.receive(&encode(words));
        self.orders.push((number, self.slots[number].life, client));
    }

    /// Makes each node but the first a replica of one before it, and waits until it is.
    pub fn plant_tree(&mut self) {
        for number in 1..self.count() {
            let primary = self.prng.below(number as u64) as usize;
            self.order(number, &format!("REPLICAOF {}", address(primary)));
            for _ in 0..10_000 {
                self.pass();
                let node = self.node(number).expect("nobody has killed it");
                if node.engine.server.replication.link.is_connected() {
                    break;
                }
            }
        }
        self.is_planting = false;
    }

    pub fn cut_some(&mut self) {
        let at = self.prng.below(self.wires.len() as u64) as usize;
        if let Some(wire) = self.wires.get_mut(at) {
            wire.cut(&mut self.prng);
        }
    }

    pub fn silence_some(&mut self) {
        let at = self.prng.below(self.wires.len() as u64) as usize;
        if let Some(wire) = self.wires.get_mut(at) {
            wire.silence(&mut self.prng);
        }
    }

    pub fn step_clock(&mut self, number: usize) {
        let by_us = self.prng.below(4_000_000).cast_signed() - 2_000_000;
        let slot = &mut self.slots[number];
        slot.offset_us += by_us;
        if let Some(node) = &mut slot.node {
            let unix_us = &mut node.world.clocks.unix_us;
            *unix_us = unix_us.saturating_add_signed(by_us);
        }
    }

    pub fn set_full(&mut self, number: usize, is_full: bool) {
        self.slots[number].disk.set_full(is_full);
    }

    /// All faults are over, and what is broken is seen to be.
    pub fn heal(&mut self) {
        self.is_healing = true;
        for wire in &mut self.wires {
            wire.speed_up();
            if wire.is_silent() {
                wire.cut(&mut self.prng);
            }
        }
        for slot in &mut self.slots {
            slot.disk.set_full(false);
            slot.starts_us = 0;
            if let Some(node) = &mut slot.node {
                node.world.transfers_fail = 0;
            }
        }
    }

    /// Some milliseconds pass.
    pub fn pass(&mut self) {
        self.step += 1;
        let dt_us = match self.prng.below(30) {
            0 => self.prng.below(1_000_000),
            1..6 => self.prng.below(200_000),
            _ => self.prng.below(20_000),
        };
        self.now_us += dt_us;
        for number in 0..self.count() {
            self.revive(number);
            if let Some(node) = &mut self.slots[number].node {
                node.world.clocks.advance(dt_us);
            }
        }
        self.act();
        let first = self.any_node();
        for number in 0..self.count() {
            self.turn((first + number) % self.count());
            self.pump();
        }
        self.hear();
        self.watch();
    }

    fn revive(&mut self, number: usize) {
        let slot = &self.slots[number];
        if slot.node.is_none() && self.now_us >= slot.starts_us {
            let count = self.count() as u64;
            let follows = match self.prng.below(3) {
                _ if self.profile.restarts > 0 => self.slots[number].followed,
                0 => None,
                _ => Some(self.prng.below(count) as usize).filter(|other| *other != number),
            };
            self.start(number, follows);
        }
    }

    fn turn(&mut self, number: usize) {
        if self.prng.below(8) == 0 {
            return;
        }
        let slot = &mut self.slots[number];
        let Some(node) = &mut slot.node else { return };
        node.turn();
        if node.world.port.loads != slot.loads {
            slot.all_loads += node.world.port.loads - slot.loads;
            slot.loads = node.world.port.loads;
            slot.steady_since = self.step;
        }
        if node.world.exit.is_some() {
            return self.leave(number);
        }
        self.dial(number);
    }

    /// A node has ended in good order: what it has said arrives.
    fn leave(&mut self, number: usize) {
        self.trace(|| format!("n{number} has left"));
        for _ in 0..4 {
            self.pump();
        }
        let slot = &mut self.slots[number];
        let node = slot.node.take().expect("it has just left");
        let primary = node.engine.server.replication.link.primary();
        slot.followed = primary.map(|primary| usize::from(primary.port.wrapping_sub(FIRST_PORT)));
        slot.life += 1;
        slot.steady_since = self.step;
        slot.starts_us = self.now_us + self.prng.below(1_000_000);
    }

    fn dial(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let life = slot.life;
        let Some(node) = &mut slot.node else { return };
        let Some((attempt, _, port)) = node.world.port.dial.take() else { return };
        let called = usize::from(port.wrapping_sub(FIRST_PORT));
        if called >= self.slots.len() {
            let node = self.slots[number].node.as_mut().expect("it was there");
            node.engine.tell_link_of(attempt, LinkEvent::DialFailed("Name or service not known"));
            return;
        }
        let wait_us = match self.prng.below(10) {
            0 if !self.is_healing => self.prng.below(3_000_000),
            1..4 => self.prng.below(100_000),
            _ => 0,
        };
        let (from, to) = (Place { node: number, life }, Place { node: called, life: 0 });
        let mut wire = Wire::new(from, attempt, to, self.now_us + wait_us, &mut self.prng);
        if self.is_healing || self.profile.restarts > 0 {
            wire.speed_up();
        }
        if self.is_healing {
        } else if self.prng.below(100) < self.profile.dials_fail {
            wire.refuse();
        }
        self.wires.push(wire);
    }

    fn pump(&mut self) {
        let Cluster { wires, slots, prng, now_us, .. } = self;
        wires.retain_mut(|wire| prng.below(4) == 0 || wire.pump(slots, *now_us, prng));
    }

    /// Clients connect and ask.
    fn act(&mut self) {
        for at in 0..self.actors.len() {
            let is_there = self.conn_of(at).is_some();
            if !is_there {
                let Some(place) = self.choose_place(self.actors[at].kind) else { continue };
                let first = self.actors[at].connect(place);
                self.say(at, &first);
            }
            if self.is_healing {
                continue;
            }
            let bytes = self.actors[at].ask(&mut self.prng, &mut self.numbers);
            self.say(at, &bytes);
        }
    }

    fn conn_of(&mut self, at: usize) -> Option<&mut super::conn::Conn> {
        let (number, life, client) = self.actors[at].at?;
        let slot = &mut self.slots[number];
        let node = slot.node.as_mut().filter(|_| slot.life == life)?;
        node.world.conns.get_mut(&client).filter(|conn| !conn.is_closed)
    }

    fn say(&mut self, at: usize, bytes: &[u8]) {
        if let Some(conn) = self.conn_of(at) {
            conn.receive(bytes);
        }
    }

    fn choose_place(&mut self, kind: Kind) -> Option<(usize, u64, ClientId)> {
        let leads = self.some_primary().filter(|_| kind == Kind::Writer || self.prng.below(4) > 0);
        let number = match leads {
            // The others are about to become replicas.
            _ if self.is_planting => 0,
            Some(number) => number,
            None => self.any_node(),
        };
        let slot = &mut self.slots[number];
        let client = slot.node.as_mut()?.accept("client:1");
        Some((number, slot.life, client))
    }

    /// Clients take what has come.
    fn hear(&mut self) {
        for at in 0..self.actors.len() {
            if self.prng.below(3) == 0 {
                continue;
            }
            for learnt in self.take_answers(at) {
                self.learn(at, learnt);
            }
            // Who is at a node that takes no writes looks for another one.
            if self.actors[at].kind != Kind::Subscriber && self.is_misplaced(at) && self.dice(20) {
                self.hang_up(at);
            }
        }
        let orders = std::mem::take(&mut self.orders);
        self.orders = orders.into_iter().filter(|order| self.is_unanswered(*order)).collect();
    }

    fn take_answers(&mut self, at: usize) -> Vec<Learnt> {
        let room = 1 + self.prng.below(1 << 16) as usize;
        let Some((number, life, client)) = self.actors[at].at else { return Vec::new() };
        let slot = &mut self.slots[number];
        let Some(node) = slot.node.as_mut().filter(|_| slot.life == life) else {
            return Vec::new();
        };
        let Some(conn) = node.world.conns.get_mut(&client) else { return Vec::new() };
        let bytes = conn.take(&mut node.engine, client, room);
        self.actors[at].hear(&bytes)
    }

    fn is_misplaced(&self, at: usize) -> bool {
        let Some((number, ..)) = self.actors[at].at else { return false };
        self.node(number).is_some_and(|node| node.engine.is_replica())
    }

    fn hang_up(&mut self, at: usize) {
        if let Some(conn) = self.conn_of(at) {
            conn.is_closed = true;
        }
    }

    fn is_unanswered(&mut self, (number, life, client): (usize, u64, ClientId)) -> bool {
        let slot = &mut self.slots[number];
        let Some(node) = slot.node.as_mut().filter(|_| slot.life == life) else { return false };
        let Some(conn) = node.world.conns.get_mut(&client) else { return false };
        let bytes = conn.take(&mut node.engine, client, usize::MAX);
        let has_answer = read(&bytes).is_some();
        conn.is_closed |= has_answer;
        !conn.is_closed
    }

    fn learn(&mut self, at: usize, learnt: Learnt) {
        match learnt {
            Learnt::Taken(number) => _ = self.taken.insert(number, self.step),
            Learnt::Copied { number, copies } => {
                let Some(then) = self.taken.get(&number) else { return };
                let (from, ..) = self.actors[at].at.expect("it was answered");
                // Some turns may lie between a write, what becomes of it, and its answer.
                let since = then.saturating_sub(20);
                let others = (0..self.count()).filter(|other| *other != from);
                let have = others.filter(|other| {
                    self.slots[*other].steady_since >= since || self.has_write(*other, number)
                });
                let have = have.count();
                assert!(
                    have >= copies,
                    "write {number} of n{from} is on {have} other nodes, {copies} have \
                     acknowledged it: {}",
                    super::describe(self)
                );
            }
        }
    }

    /// Whether a node has the write of this number.
    pub fn has_write(&self, number: usize, write: u64) -> bool {
        let Some(node) = self.node(number) else { return false };
        let key = ledger_key(write);
        let snapshot = node.engine.keyspace.db(LEDGER_DB).snapshot(0);
        snapshot.entries.iter().any(|entry| entry.key() == key.as_bytes())
    }

    /// Who still waits for an answer, and where.
    pub fn waiting_actors(&self) -> usize {
        self.actors.iter().filter(|actor| actor.waits()).count()
    }

    fn watch(&mut self) {
        for number in 0..self.slots.len() {
            let slot = &self.slots[number];
            let Some(node) = &slot.node else { continue };
            let looks = self.prng.below(4) == 0;
            self.trace(|| format!("  n{number} {}", describe(node)));
            self.watch.look(number, slot.life, node, looks);
        }
    }
}

/// Where a node stands, in one line.
pub fn describe(node: &Node) -> String {
    let replication = &node.engine.server.replication;
    let history = replication.history();
    let stages: Vec<_> = (replication.feeders.iter())
        .map(|feeder| (feeder.name(), feeder.stage, feeder.ack))
        .collect();
    let keys: usize = node.engine.keyspace.dbs().iter().map(|db| db.len()).sum();
    format!(
        "{}:{} (before {}:{}), follows {:?}, {} {:?}, feeds {stages:?}, {keys} keys",
        history.id(),
        history.offset(),
        history.second_id(),
        history.second_offset_end(),
        replication.link.primary().map(|primary| primary.port),
        replication.link.word(),
        replication.link.progress(),
    )
}

/// What the nodes of a history are configured to do.
fn directives(profile: &Profile, number: usize, prng: &mut Prng) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = vec![
        ("port", (FIRST_PORT as usize + number).to_string()),
        ("repl-diskless-sync-delay", prng.below(2).to_string()),
        ("repl-timeout", (3 + prng.below(4)).to_string()),
        ("repl-ping-replica-period", "1".to_owned()),
        ("shutdown-timeout", if profile.restarts > 0 { 60 } else { prng.below(3) }.to_string()),
        ("repl-diskless-sync", ["yes", "no"][prng.below(2) as usize].to_owned()),
        ("enable-debug-command", "yes".to_owned()),
    ];
    let load = ["disabled", "on-empty-db", "swapdb", "flush-before-load"];
    all.push(("repl-diskless-load", load[prng.below(4) as usize].to_owned()));
    let backlog = match profile.small_backlogs {
        true => ["16kb", "32kb", "256kb"][prng.below(3) as usize],
        false => "64mb",
    };
    all.push(("repl-backlog-size", backlog.to_owned()));
    if profile.small_backlogs && prng.below(2) == 0 {
        all.push(("repl-backlog-ttl", (1 + prng.below(3)).to_string()));
    }
    if profile.small_backlogs && prng.below(2) == 0 {
        all.push(("client-output-buffer-limit", "replica 64kb 32kb 1".to_owned()));
    }
    if profile.logs && prng.below(3) == 0 {
        all.push(("appendonly", "yes".to_owned()));
        let policy = ["always", "everysec", "no"][prng.below(3) as usize];
        all.push(("appendfsync", policy.to_owned()));
    }
    all
}
