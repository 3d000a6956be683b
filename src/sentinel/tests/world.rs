//! A group of Sentinels over modelled servers, on one seed: links that delay, cut and lose, clocks
//! that stand still, crashes that leave only what was written.
//!
//! A modelled server knows what a Sentinel asks of one, and nothing else. Whatever happens, the
//! world writes down who was told of which vote, who was elected in which epoch, and who was
//! promoted in which: [`World::check`] fails when that is not as it has to be.

use super::{bulk, lines_of, simple};
use crate::resp::frame::{self, Frame};
use crate::resp::{Protocol, ReplyBuf, command};
use crate::sentinel::{
    Action, Answer, Event, HELLO_CHANNEL, Moment, Sentinel, Surroundings, WireId,
};
use crate::structs::prng::Prng;
use std::collections::{BTreeMap, BTreeSet};

pub type Place = (String, u16);

/// Whom a connection leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    Server(usize),
    Sentinel(usize),
}

/// A modelled server.
pub struct Server {
    pub is_up: bool,
    pub master: Option<Place>,
    pub runs: u64,
    pub priority: i64,
    pub offset: u64,
    /// What it answers PING, if not PONG.
    pub pong: Option<Frame>,
    link_down_since_ms: Option<u64>,
}

/// A Sentinel: its machine while it runs, and its file.
pub struct Node {
    pub machine: Option<Sentinel>,
    pub file: String,
    pub my_id: String,
    /// Its rounds begin again then.
    pub stalls_until_ms: u64,
    pub can_save: bool,
    next_tick_ms: u64,
    /// Clients that wait for the file: whose wire, which generation, what they get.
    waiting: Vec<(usize, WireId, Answer, Vec<u8>)>,
}

/// A connection of a Sentinel.
struct Wire {
    peer: Peer,
    subscribed: bool,
    transaction: Option<Vec<Vec<String>>>,
    /// Bytes on their way arrive no earlier than those before them.
    there_ms: u64,
    back_ms: u64,
}

enum Delivery {
    Up,
    Down,
    Request(Vec<String>),
    Reply(Vec<u8>),
}

pub struct World {
    pub now_ms: u64,
    pub servers: Vec<Server>,
    pub nodes: Vec<Node>,
    pub prng: Prng,
    /// Pairs that do not hear each other, though connections stay.
    pub deaf: BTreeSet<(usize, Peer)>,
    pub delay_ms: u64,
    wires: BTreeMap<(usize, WireId), Wire>,
    queue: BTreeMap<(u64, u64), (usize, WireId, Delivery)>,
    writes: BTreeMap<(u64, u64), (usize, u64, String)>,
    order: u64,
    /// For whom a Sentinel said to have voted: by its id and the epoch.
    votes: BTreeMap<(String, u64), String>,
    leaders: BTreeMap<u64, BTreeSet<String>>,
    promoted: BTreeMap<u64, BTreeSet<u16>>,
    pub faults: Vec<String>,
}

const SERVER_PORT: u16 = 7000;
const SENTINEL_PORT: u16 = 26000;
pub const NAME: &str = "m";

fn server_port(index: usize) -> u16 {
    SERVER_PORT + index as u16
}

impl World {
    /// So many Sentinels, who know nothing but the master, over so many servers.
    pub fn new(seed: u64, sentinels: usize, servers: usize, quorum: u32) -> World {
        let mut world = World {
            now_ms: 1000,
            servers: Vec::new(),
            nodes: Vec::new(),
            prng: Prng::seeded(seed),
            deaf: BTreeSet::new(),
            delay_ms: 20,
            wires: BTreeMap::new(),
            queue: BTreeMap::new(),
            writes: BTreeMap::new(),
            order: 0,
            votes: BTreeMap::new(),
            leaders: BTreeMap::new(),
            promoted: BTreeMap::new(),
            faults: Vec::new(),
        };
        for index in 0..servers {
            let master = (index > 0).then(|| ("127.0.0.1".to_owned(), SERVER_PORT));
            world.servers.push(Server {
                is_up: true,
                master,
                runs: 1,
                priority: 100,
                offset: 10,
                pong: None,
                link_down_since_ms: None,
            });
        }
        for index in 0..sentinels {
            let file = format!(
                "monitor {NAME} 127.0.0.1 {SERVER_PORT} {quorum}\n\
                 down-after-milliseconds {NAME} 1500\nfailover-timeout {NAME} 6000\n"
            );
            world.nodes.push(Node {
                machine: None,
                file,
                my_id: String::new(),
                stalls_until_ms: 0,
                can_save: true,
                next_tick_ms: 0,
                waiting: Vec::new(),
            });
            world.start(index);
        }
        world
    }

    fn moment(&self) -> Moment {
        Moment { mono_ms: self.now_ms, unix_ms: 1_000_000_000 + self.now_ms }
    }

    /// Starts a Sentinel from its file.
    pub fn start(&mut self, index: usize) {
        let port = SENTINEL_PORT + index as u16;
        let surroundings = Surroundings { port, ..Surroundings::default() };
        let seed = self.prng.next_u64();
        let mut machine = Sentinel::new(surroundings, Prng::seeded(seed));
        machine.read(&lines_of(&self.nodes[index].file)).expect("it was written by a machine");
        self.nodes[index].machine = Some(machine);
        self.nodes[index].next_tick_ms = self.now_ms + self.prng.below(100);
    }

    /// Ends a Sentinel in the middle of whatever it did: what was not written yet is lost.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].machine = None;
        self.nodes[index].waiting.clear();
        self.wires.retain(|(owner, _), _| *owner != index);
        self.writes.retain(|_, (owner, ..)| *owner != index);
        self.cut_all_to(Peer::Sentinel(index));
    }

    pub fn kill_server(&mut self, index: usize) {
        self.servers[index].is_up = false;
        self.cut_all_to(Peer::Server(index));
    }

    pub fn start_server(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.is_up = true;
        server.runs += 1;
        server.offset = server.offset.saturating_sub(3);
    }

    /// Ends connections; their owners hear of it.
    fn cut_all_to(&mut self, peer: Peer) {
        let cut = self.wires.iter().filter(|(_, wire)| wire.peer == peer).map(|(key, _)| *key);
        for (owner, wire) in cut.collect::<Vec<_>>() {
            self.schedule(owner, wire, Delivery::Down, false);
        }
    }

    /// Cuts connections by chance.
    pub fn cut_some(&mut self) {
        let keys: Vec<_> = self.wires.keys().copied().collect();
        for (owner, wire) in keys {
            if self.prng.below(3) == 0 {
                self.schedule(owner, wire, Delivery::Down, false);
            }
        }
    }

    fn schedule(&mut self, owner: usize, wire: WireId, delivery: Delivery, is_there: bool) {
        let delay_ms = 1 + self.prng.below(self.delay_ms);
        let Some(known) = self.wires.get_mut(&(owner, wire)) else { return };
        let last_ms = if is_there { &mut known.there_ms } else { &mut known.back_ms };
        let at_ms = (self.now_ms + delay_ms).max(*last_ms);
        *last_ms = at_ms;
        self.order += 1;
        self.queue.insert((at_ms, self.order), (owner, wire, delivery));
    }

    /// Lets so much time pass.
    pub fn run(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms += 10;
            self.live();
            while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= self.now_ms) {
                let (owner, wire, delivery) = entry.remove();
                self.deliver(owner, wire, delivery);
            }
            while let Some(entry) = self.writes.first_entry().filter(|e| e.key().0 <= self.now_ms) {
                let (owner, generation, text) = entry.remove();
                self.finish_write(owner, generation, text);
            }
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                let is_due =
                    self.now_ms >= node.next_tick_ms && self.now_ms >= node.stalls_until_ms;
                if node.machine.is_some() && is_due {
                    self.nodes[index].next_tick_ms = self.now_ms + 50 + self.prng.below(50);
                    self.tell(index, Event::Tick);
                }
            }
        }
    }

    /// Servers replicate.
    fn live(&mut self) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            if !server.is_up {
                continue;
            }
            let Some((_, port)) = server.master.clone() else {
                self.servers[index].offset += 1;
                self.servers[index].link_down_since_ms = None;
                continue;
            };
            let of = usize::from(port - SERVER_PORT);
            let offset = self.servers.get(of).filter(|master| master.is_up).map(|m| m.offset);
            let server = &mut self.servers[index];
            match offset {
                Some(offset) if of != index => {
                    server.offset = offset;
                    server.link_down_since_ms = None;
                }
                _ => _ = server.link_down_since_ms.get_or_insert(self.now_ms),
            }
        }
    }

    pub fn tell(&mut self, index: usize, event: Event) {
        let moment = self.moment();
        let Some(machine) = &mut self.nodes[index].machine else { return };
        machine.on(event, moment);
        self.settle(index);
    }

    fn settle(&mut self, index: usize) {
        let Some(machine) = &mut self.nodes[index].machine else { return };
        let (actions, my_id) = (machine.take_actions(), machine.my_id().to_owned());
        self.nodes[index].my_id = my_id;
        for action in actions {
            self.carry_out(index, action);
        }
    }

    fn carry_out(&mut self, index: usize, action: Action) {
        match action {
            Action::Dial { wire, port, .. } => self.dial(index, wire, port),
            Action::Close { wire } => _ = self.wires.remove(&(index, wire)),
            Action::Send { wire, bytes } => {
                let (words, _) = command::read(&bytes).expect("it is whole");
                let words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
                self.schedule(index, wire, Delivery::Request(words.collect()), true);
            }
            Action::Persist { generation } => {
                let machine = self.nodes[index].machine.as_ref().expect("it has just acted");
                let line = |(key, rest): (&'static str, Vec<u8>)| {
                    let key = key.strip_prefix("sentinel ").expect("all begin so");
                    format!("{key} {}\n", String::from_utf8_lossy(&rest))
                };
                let text: String = machine.lines().into_iter().map(line).collect();
                self.order += 1;
                let at_ms = self.now_ms + self.prng.below(60);
                let last_ms = self.writes.iter().filter(|(_, write)| write.0 == index);
                let last_ms = last_ms.map(|((at_ms, _), _)| *at_ms).max().unwrap_or(0);
                self.writes.insert((at_ms.max(last_ms), self.order), (index, generation, text));
            }
            Action::Publish { channel: "+elected-leader", .. } => self.note_leader(index),
            _ => {}
        }
    }

    fn finish_write(&mut self, index: usize, generation: u64, text: String) {
        let result = match self.nodes[index].can_save {
            true => Ok(()),
            false => Err("No space left on device".to_owned()),
        };
        if result.is_ok() {
            self.nodes[index].file = text;
        }
        let has_failed = result.is_err();
        self.tell(index, Event::Saved { generation, result });
        let waiting = std::mem::take(&mut self.nodes[index].waiting);
        for (asker, wire, answer, bytes) in waiting {
            let Answer::WhenSaved { generation: wanted, otherwise } = &answer else { continue };
            if generation < *wanted {
                self.nodes[index].waiting.push((asker, wire, answer, bytes));
                continue;
            }
            let mut other = ReplyBuf::new();
            let _ = otherwise.write(&mut other.writer(Protocol::Resp2));
            let bytes = if has_failed { other.to_vec() } else { bytes };
            self.send_opinion(index, asker, wire, bytes);
        }
    }

    fn dial(&mut self, index: usize, wire: WireId, port: u16) {
        let peer = match port {
            port if port >= SENTINEL_PORT => Peer::Sentinel(usize::from(port - SENTINEL_PORT)),
            port => Peer::Server(usize::from(port - SERVER_PORT)),
        };
        let is_there = match peer {
            Peer::Server(at) => self.servers.get(at).is_some_and(|server| server.is_up),
            Peer::Sentinel(at) => self.nodes.get(at).is_some_and(|node| node.machine.is_some()),
        };
        let new = Wire { peer, subscribed: false, transaction: None, there_ms: 0, back_ms: 0 };
        self.wires.insert((index, wire), new);
        if self.deaf.contains(&(index, peer)) {
            return;
        }
        self.schedule(index, wire, if is_there { Delivery::Up } else { Delivery::Down }, false);
    }

    fn deliver(&mut self, owner: usize, wire: WireId, delivery: Delivery) {
        let Some(known) = self.wires.get(&(owner, wire)) else { return };
        let peer = known.peer;
        if self.deaf.contains(&(owner, peer)) && !matches!(delivery, Delivery::Down) {
            return;
        }
        match delivery {
            Delivery::Up => {
                self.tell(owner, Event::WireUp { wire, local_ip: "127.0.0.1".to_owned() });
            }
            Delivery::Down => {
                self.wires.remove(&(owner, wire));
                self.tell(owner, Event::WireDown { wire, reason: "cut".to_owned() });
            }
            Delivery::Request(words) => match peer {
                Peer::Server(server) => self.serve(owner, wire, server, &words),
                Peer::Sentinel(other) => self.ask_sentinel(owner, wire, other, &words),
            },
            Delivery::Reply(bytes) => {
                let decoded = frame::decode(&bytes, Protocol::Resp2).expect("it is sound");
                let (frame, _) = decoded.expect("it is whole");
                self.tell(owner, Event::Reply { wire, frame });
            }
        }
    }

    /// What a server answers.
    fn serve(&mut self, owner: usize, wire: WireId, index: usize, words: &[String]) {
        if !self.servers[index].is_up {
            return;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let known = self.wires.get_mut(&(owner, wire)).expect("it was just there");
        let is_exec = words == ["EXEC"];
        if let Some(transaction) = known.transaction.as_mut().filter(|_| !is_exec) {
            transaction.push(words.iter().map(|word| (*word).to_owned()).collect());
            return self.answer(owner, wire, &simple("QUEUED"));
        }
        match words.as_slice() {
            ["PING"] => {
                let pong = self.servers[index].pong.clone().unwrap_or(simple("PONG"));
                self.answer(owner, wire, &pong);
            }
            ["INFO"] => {
                let info = self.info(index);
                self.answer(owner, wire, &bulk(&info));
            }
            ["MULTI"] => {
                known.transaction = Some(Vec::new());
                self.answer(owner, wire, &simple("OK"));
            }
            ["EXEC"] => {
                let commands = known.transaction.take().unwrap_or_default();
                self.answer(owner, wire, &Frame::Array(Vec::new()));
                self.reconfigure(owner, wire, index, &commands);
            }
            ["SUBSCRIBE", channel] => {
                known.subscribed = true;
                let frame = Frame::Array(vec![bulk("subscribe"), bulk(channel), Frame::Integer(1)]);
                self.answer(owner, wire, &frame);
            }
            ["PUBLISH", _, text] => {
                self.answer(owner, wire, &Frame::Integer(1));
                self.publish(index, text);
            }
            _ => self.answer(owner, wire, &simple("OK")),
        }
    }

    fn publish(&mut self, index: usize, text: &str) {
        let is_listener = |wire: &Wire| wire.subscribed && wire.peer == Peer::Server(index);
        let listeners = self.wires.iter().filter(|(_, wire)| is_listener(wire));
        for (owner, wire) in listeners.map(|(key, _)| *key).collect::<Vec<_>>() {
            let frame = Frame::Array(vec![bulk("message"), bulk(HELLO_CHANNEL), bulk(text)]);
            self.answer(owner, wire, &frame);
        }
    }

    /// A transaction of SLAVEOF: all other connections of the server end.
    fn reconfigure(&mut self, owner: usize, wire: WireId, index: usize, commands: &[Vec<String>]) {
        for command in commands {
            let [name, host, port] = command.as_slice() else { continue };
            if name != "SLAVEOF" {
                continue;
            }
            self.servers[index].master = match port.parse::<u16>() {
                Ok(port) => Some((host.clone(), port)),
                Err(_) => {
                    self.note_promotion(owner, index);
                    None
                }
            };
        }
        let others = self
            .wires
            .iter()
            .filter(|(key, other)| other.peer == Peer::Server(index) && **key != (owner, wire));
        for (owner, wire) in others.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.schedule(owner, wire, Delivery::Down, false);
        }
    }

    fn info(&self, index: usize) -> String {
        let server = &self.servers[index];
        let mut text = format!("# Server\r\nrun_id:{:020}{:020}\r\n", index, server.runs);
        let own = server_port(index);
        match &server.master {
            None => {
                text.push_str("role:master\r\n");
                let is_ours = |other: &&Server| {
                    other.is_up && other.master.as_ref().is_some_and(|(_, port)| *port == own)
                };
                for (at, replica) in self.servers.iter().enumerate() {
                    if is_ours(&replica) {
                        let port = server_port(at);
                        text.push_str(&format!(
                            "slave{at}:ip=127.0.0.1,port={port},state=online\r\n"
                        ));
                    }
                }
            }
            Some((host, port)) => {
                let down = server.link_down_since_ms.map(|at| (self.now_ms - at) / 1000);
                text.push_str(&format!(
                    "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\n\
                     master_link_status:{}\r\n",
                    if down.is_some() { "down" } else { "up" }
                ));
                if let Some(seconds) = down {
                    text.push_str(&format!("master_link_down_since_seconds:{seconds}\r\n"));
                }
                text.push_str(&format!(
                    "slave_priority:{}\r\nslave_repl_offset:{}\r\nreplica_announced:1\r\n",
                    server.priority, server.offset
                ));
            }
        }
        text
    }

    /// What another Sentinel answers.
    fn ask_sentinel(&mut self, owner: usize, wire: WireId, other: usize, words: &[String]) {
        let moment = self.moment();
        let Some(machine) = &mut self.nodes[other].machine else { return };
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        match words[0] {
            b"SENTINEL" => {
                let mut out = ReplyBuf::new();
                let answer = machine.command(&words[1..], &mut out.writer(Protocol::Resp2), moment);
                let bytes = out.to_vec();
                self.settle(other);
                match answer {
                    Ok(Answer::Now) => self.send_opinion(other, owner, wire, bytes),
                    Ok(answer) => self.nodes[other].waiting.push((owner, wire, answer, bytes)),
                    Err(error) => panic!("a Sentinel asks what is refused: {error}"),
                }
            }
            b"PUBLISH" => {
                machine.hear(words[2], moment);
                self.settle(other);
                self.answer(owner, wire, &Frame::Integer(1));
            }
            b"PING" => self.answer(owner, wire, &simple("PONG")),
            _ => self.answer(owner, wire, &simple("OK")),
        }
    }

    fn answer(&mut self, owner: usize, wire: WireId, frame: &Frame) {
        let mut out = ReplyBuf::new();
        put(&mut out.writer(Protocol::Resp2), frame);
        self.schedule(owner, wire, Delivery::Reply(out.to_vec()), false);
    }

    /// A vote leaves: the same voter must never have told of another one in this epoch.
    fn send_opinion(&mut self, voter: usize, owner: usize, wire: WireId, bytes: Vec<u8>) {
        let decoded = frame::decode(&bytes, Protocol::Resp2).expect("it is sound");
        if let Some((Frame::Array(parts), _)) = decoded
            && let [_, Frame::Bulk(leader), Frame::Integer(epoch)] = parts.as_slice()
            && leader != b"*"
        {
            let leader = String::from_utf8_lossy(leader).into_owned();
            let key = (self.nodes[voter].my_id.clone(), *epoch as u64);
            let known = self.votes.entry(key).or_insert_with(|| leader.clone());
            if *known != leader {
                self.faults.push(format!("{voter} votes for {known} and {leader} in {epoch}"));
            }
            self.expect_written(voter, *epoch as u64);
        }
        self.schedule(owner, wire, Delivery::Reply(bytes), false);
    }

    /// A vote that a Sentinel tells of, its file holds.
    fn expect_written(&mut self, index: usize, epoch: u64) {
        let key = format!("leader-epoch {NAME} ");
        let written = self.nodes[index].file.lines().find_map(|line| line.strip_prefix(&key));
        let written = written.and_then(|text| text.parse().ok()).unwrap_or(0);
        if epoch > written {
            self.faults.push(format!("{index} votes in {epoch}, and its file knows {written}"));
        }
    }

    fn failover_epoch(&self, index: usize) -> u64 {
        let machine = self.nodes[index].machine.as_ref().expect("it has just acted");
        let master = machine.master_by_name(NAME.as_bytes()).expect("it is never removed");
        machine.instances[master].group.failover_epoch
    }

    fn note_leader(&mut self, index: usize) {
        let epoch = self.failover_epoch(index);
        let leaders = self.leaders.entry(epoch).or_default();
        leaders.insert(self.nodes[index].my_id.clone());
        if leaders.len() > 1 {
            self.faults.push(format!("epoch {epoch} has several leaders"));
        }
    }

    fn note_promotion(&mut self, by: usize, index: usize) {
        if self.nodes[by].machine.is_none() {
            return;
        }
        let epoch = self.failover_epoch(by);
        let promoted = self.promoted.entry(epoch).or_default();
        promoted.insert(server_port(index));
        if promoted.len() > 1 {
            self.faults.push(format!("epoch {epoch} promotes {promoted:?}"));
        }
    }

    /// Where a Sentinel says that the master is.
    pub fn master_told(&self, index: usize) -> u16 {
        let machine = self.nodes[index].machine.as_ref().expect("it runs");
        let master = machine.master_by_name(NAME.as_bytes()).expect("it is never removed");
        machine.current_address(master).port
    }

    pub fn failovers(&self) -> usize {
        self.promoted.len()
    }

    /// Whether all agree: every Sentinel on one master, which is one, and every server on it.
    pub fn disagreement(&self) -> Option<String> {
        let told: BTreeSet<u16> = (0..self.nodes.len()).map(|at| self.master_told(at)).collect();
        if told.len() != 1 {
            return Some(format!("the Sentinels say {told:?}"));
        }
        let port = *told.first().expect("there is one");
        for (index, server) in self.servers.iter().enumerate() {
            let wanted = (server_port(index) != port).then_some(port);
            let of = server.master.as_ref().map(|(_, port)| *port);
            if of != wanted {
                return Some(format!("server {index} is of {of:?}, not of {wanted:?}"));
            }
        }
        None
    }
}

fn put(reply: &mut crate::resp::Reply<'_>, frame: &Frame) {
    match frame {
        Frame::Simple(text) => reply.simple(text),
        Frame::Error(text) => reply.error(text),
        Frame::Integer(value) => reply.integer(*value),
        Frame::Bulk(payload) => reply.bulk(payload),
        Frame::Array(elements) => {
            reply.array(elements.len());
            elements.iter().for_each(|element| put(reply, element));
        }
        _ => reply.null(),
    }
}
