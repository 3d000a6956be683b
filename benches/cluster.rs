//! A big cluster on a simulated network: how much time its nodes take to keep each other informed.
//!
//! It is measured once, from end to end: the machines are what takes the time, and ten minutes of
//! three hundred of them say more than a call of one. Nodes, seconds and the seed are arguments:
//! `cargo bench --bench cluster -- 300 600 1`.

use rufous::cluster::flags::Flags;
use rufous::cluster::id::{NodeId, ShardId};
use rufous::cluster::links::LinkId;
use rufous::cluster::machine::{Action, Cluster, Event, Facts, Settings, TICK_MS};
use rufous::cluster::table::{Place, Table};
use rufous::cluster::time::Now;
use rufous::cluster::wire::Kind;
use rufous::keyspace::slot::{SLOTS, Slot};
use rufous::structs::prng::Prng;
use std::time::Instant;

const UNIX_MS: u64 = 1_700_000_000_000;
const BUS_PORT: u16 = 16_379;
/// A packet takes up to so long.
const DELAY_MS: u64 = 20;
/// More than anything is scheduled ahead.
const WHEEL_MS: u64 = 256;

struct Peer {
    cluster: Cluster,
    ip: String,
    /// By the number of a connection: who is at its other end, which there has another number.
    ends: Vec<Option<End>>,
}

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
    Packet { at: usize, link: LinkId, bytes: Vec<u8> },
    Saved { at: usize, ticket: rufous::cluster::saves::Ticket },
}

struct Net {
    peers: Vec<Peer>,
    now_ms: u64,
    prng: Prng,
    /// What is due at each millisecond, in order.
    wheel: Vec<Vec<Delivery>>,
    actions: Vec<Action>,
}

impl Net {
    fn new(count: usize, seed: u64) -> Net {
        let mut prng = Prng::seeded(seed);
        let mut draw = || std::array::from_fn(|_| prng.next_u64() as u8);
        let names: Vec<(NodeId, ShardId)> = (0..count)
            .map(|_| (NodeId::from_random(draw()), ShardId::from_random(draw())))
            .collect();
        let peers = (0..count).map(|number| Peer {
            cluster: Cluster::new(Settings::default(), table_of(number, &names)),
            ip: ip_of(number),
            ends: Vec::new(),
        });
        let mut net = Net {
            peers: peers.collect(),
            now_ms: 10_000,
            prng,
            wheel: (0..WHEEL_MS).map(|_| Vec::new()).collect(),
            actions: Vec::new(),
        };
        for number in 0..count {
            let first_ms = net.now_ms + net.prng.below(TICK_MS);
            net.schedule(first_ms, Delivery::Tick(number));
        }
        net
    }

    fn schedule(&mut self, at_ms: u64, delivery: Delivery) {
        self.wheel[(at_ms % WHEEL_MS) as usize].push(delivery);
    }

    fn run_for(&mut self, ms: u64) {
        for _ in 0..ms {
            let due = std::mem::take(&mut self.wheel[(self.now_ms % WHEEL_MS) as usize]);
            due.into_iter().for_each(|delivery| self.deliver(delivery));
            self.now_ms += 1;
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Tick(number) => {
                self.schedule(self.now_ms + TICK_MS, Delivery::Tick(number));
                self.tell(number, Event::Tick);
            }
            Delivery::Dial { from, link, to } => self.accept(from, link, to),
            Delivery::Connected { at, link } => {
                let own_ip = ip_of(at);
                self.tell(at, Event::Connected { link, own_ip: &own_ip });
            }
            Delivery::Packet { at, link, bytes } => self.tell(at, Event::Packet(link, &bytes)),
            Delivery::Saved { at, ticket } => self.tell(at, Event::Saved { ticket, ok: true }),
        }
    }

    fn tell(&mut self, number: usize, event: Event) {
        let facts =
            Facts { offset: 1, stream_age_ms: 0, paused_offset: None, has_keys: &|_| false };
        let now = Now { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms };
        let mut actions = std::mem::take(&mut self.actions);
        self.peers[number].cluster.handle(event, &facts, now, &mut self.prng, &mut actions);
        actions.drain(..).for_each(|action| self.carry_out(number, action));
        self.actions = actions;
    }

    fn carry_out(&mut self, number: usize, action: Action) {
        match action {
            Action::Dial { link, ip, .. } => {
                let to = self.peers.iter().position(|peer| peer.ip == ip).expect("all are there");
                self.connect(number, link, End { peer: to, link: None, arrives_ms: 0 });
                let at_ms = self.arrival(0);
                self.schedule(at_ms, Delivery::Dial { from: number, link, to });
            }
            Action::Send { link, bytes } => self.send(number, link, bytes),
            Action::Save { ticket, .. } => {
                self.schedule(self.now_ms + DELAY_MS, Delivery::Saved { at: number, ticket });
            }
            Action::Close(_) => panic!("nothing is wrong with any connection"),
            _ => {}
        }
    }

    fn send(&mut self, number: usize, link: LinkId, bytes: Vec<u8>) {
        let end = self.peers[number].ends[link.number()].expect("it is connected");
        let at_ms = self.arrival(end.arrives_ms);
        self.connect(number, link, End { arrives_ms: at_ms, ..end });
        let other = end.link.expect("it is connected");
        self.schedule(at_ms, Delivery::Packet { at: end.peer, link: other, bytes });
    }

    fn accept(&mut self, from: usize, link: LinkId, to: usize) {
        let accepted = self.peers[to].cluster.number_link();
        self.connect(to, accepted, End { peer: from, link: Some(link), arrives_ms: 0 });
        self.connect(from, link, End { peer: to, link: Some(accepted), arrives_ms: 0 });
        let [peer_ip, own_ip] = [from, to].map(ip_of);
        let event =
            Event::Accepted { link: accepted, peer_ip: &peer_ip, peer_port: 1, own_ip: &own_ip };
        self.tell(to, event);
        let at_ms = self.arrival(0);
        self.schedule(at_ms, Delivery::Connected { at: from, link });
    }

    fn connect(&mut self, number: usize, link: LinkId, end: End) {
        let ends = &mut self.peers[number].ends;
        if ends.len() <= link.number() {
            ends.resize(link.number() + 1, None);
        }
        ends[link.number()] = Some(end);
    }

    /// Not before what was sent before it.
    fn arrival(&mut self, after_ms: u64) -> u64 {
        (self.now_ms + 1 + self.prng.below(DELAY_MS)).max(after_ms)
    }

    fn packet_count(&self) -> u64 {
        let sent = |peer: &Peer| Kind::ALL.map(|kind| peer.cluster.traffic().sent(kind));
        self.peers.iter().flat_map(sent).sum()
    }
}

fn ip_of(number: usize) -> String {
    format!("10.0.{}.{}", number / 250, number % 250)
}

/// What a node knows of all of them, which share all slots, before it hears of any.
fn table_of(number: usize, names: &[(NodeId, ShardId)]) -> Table {
    let mut table = Table::new(names[number].0, names[number].1);
    let mut keys = Vec::new();
    for (other, (id, shard)) in names.iter().enumerate() {
        let key = table.add(*id, *shard, Flags::PRIMARY).unwrap_or_else(|| table.me());
        let place = Place { ip: ip_of(other), port: 6379, tls_port: 0, bus_port: BUS_PORT };
        table.set_place(key, place);
        table.set_config_epoch(key, other as u64 + 1);
        keys.push(key);
    }
    for slot in Slot::all() {
        table.assign(slot, keys[usize::from(slot.number()) * names.len() / SLOTS]);
    }
    table
}

fn main() {
    // Cargo adds a word of its own.
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let argument = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (count, seconds, seed) = (argument(0, 300), argument(1, 600), argument(2, 1));
    let mut net = Net::new(count as usize, seed);
    let began = Instant::now();
    net.run_for(seconds * 1000);
    let took = began.elapsed();
    assert!(net.peers.iter().all(|peer| peer.cluster.is_up()), "all are there");
    let packets = net.packet_count();
    let each_ns = took.as_nanos() as u64 / packets.max(1);
    println!("{count} nodes, {seconds} s, {packets} packets: {took:.2?}, {each_ns} ns a packet");
}
