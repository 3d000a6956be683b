//! Connections between nodes, as queues of bytes that move when the seed says so.
//!
//! A wire may be cut, so that both ends hear of it when they have read what was on its way, or fall
//! silent, so that one of them, or none, ever hears again.

use super::cluster::Slot;
use rufous::engine::ClientId;
use rufous::repl::link::{Attempt, LinkEvent};
use rufous::structs::prng::Prng;
use std::collections::VecDeque;

/// One direction.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// The sending end has closed it.
    has_ended: bool,
    /// Nothing arrives any more, the end neither.
    is_silent: bool,
}

impl Way {
    /// Takes off what arrives now, at most so much.
    fn arrive(&mut self, most: usize) -> Vec<u8> {
        let count = if self.is_silent { 0 } else { self.bytes.len().min(most) };
        self.bytes.drain(..count).collect()
    }

    fn is_over(&self) -> bool {
        self.has_ended && self.bytes.is_empty() && !self.is_silent
    }

    fn cut(&mut self, prng: &mut Prng) {
        let left = prng.below(self.bytes.len() as u64 + 1) as usize;
        self.bytes.truncate(left);
        self.has_ended = true;
    }
}

/// Which node, in which of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub node: usize,
    pub life: u64,
}

pub struct Wire {
    pub from: Place,
    attempt: Attempt,
    pub to: Place,
    /// The connection at the end that was called, once it has been accepted.
    client: Option<ClientId>,
    opens_us: u64,
    is_refused: bool,
    up: Way,
    down: Way,
    /// How much may be on its way in one direction.
    room: usize,
    /// How much moves at once, at most.
    pace: u64,
}

impl Wire {
    pub fn new(from: Place, attempt: Attempt, to: Place, opens_us: u64, prng: &mut Prng) -> Wire {
        let pace = [30, 2000, 100_000, 1 << 30][prng.below(4) as usize];
        Wire {
            from,
            attempt,
            to,
            client: None,
            opens_us,
            is_refused: false,
            up: Way::default(),
            down: Way::default(),
            room: 1 << (10 + prng.below(9)),
            pace,
        }
    }

    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Both ends will hear of it.
    pub fn cut(&mut self, prng: &mut Prng) {
        self.up.cut(prng);
        self.down.cut(prng);
        (self.up.is_silent, self.down.is_silent) = (false, false);
    }

    /// Nobody hears of it, or one of them.
    pub fn silence(&mut self, prng: &mut Prng) {
        match prng.below(4) {
            0 => self.up.is_silent = true,
            1 => self.down.is_silent = true,
            _ => (self.up.is_silent, self.down.is_silent) = (true, true),
        }
    }

    pub fn is_silent(&self) -> bool {
        self.up.is_silent || self.down.is_silent
    }

    pub fn speed_up(&mut self) {
        self.pace = 1 << 30;
        self.room = 1 << 20;
    }

    fn is_caller_there(&self, slots: &[Slot]) -> bool {
        let slot = &slots[self.from.node];
        let node = slot.node.as_ref().filter(|_| slot.life == self.from.life);
        node.is_some_and(|node| node.world.port.attempt == Some(self.attempt))
    }

    fn is_called_there(&self, slots: &[Slot]) -> bool {
        let slot = &slots[self.to.node];
        let node = slot.node.as_ref().filter(|_| slot.life == self.to.life);
        let conn = node.zip(self.client).and_then(|(node, client)| node.world.conns.get(&client));
        conn.is_some_and(|conn| !conn.is_closed)
    }

    /// Moves what is on its way; false if there is nothing left of it.
    pub fn pump(&mut self, slots: &mut [Slot], now_us: u64, prng: &mut Prng) -> bool {
        if self.client.is_none() {
            let is_wanted = self.is_caller_there(slots);
            return is_wanted && (now_us < self.opens_us || self.open(slots));
        }
        let (caller, called) = (self.is_caller_there(slots), self.is_called_there(slots));
        self.up.has_ended |= !caller;
        self.down.has_ended |= !called;
        if caller {
            self.pump_caller(slots, prng);
        }
        if called {
            self.pump_called(slots, prng);
        }
        caller || called
    }

    fn open(&mut self, slots: &mut [Slot]) -> bool {
        let address = format!("n{}:{}", self.from.node, 40_000 + self.opens_us % 20_000);
        let called = &mut slots[self.to.node];
        self.to.life = called.life;
        let node = called.node.as_mut().filter(|_| !self.is_refused);
        self.client = node.map(|node| node.accept(&address));
        let caller = slots[self.from.node].node.as_mut().expect("it was seen to be there");
        let event = match self.client {
            Some(_) => LinkEvent::Connected,
            None => LinkEvent::ConnectFailed("Connection refused"),
        };
        caller.engine.tick(caller.world.clocks.now());
        caller.engine.tell_link_of(self.attempt, event);
        self.client.is_some()
    }

    fn pump_caller(&mut self, slots: &mut [Slot], prng: &mut Prng) {
        let node = slots[self.from.node].node.as_mut().expect("it was seen to be there");
        let port = &mut node.world.port;
        if !self.up.has_ended {
            let count = port.outgoing.len().min(self.room.saturating_sub(self.up.bytes.len()));
            self.up.bytes.extend(port.outgoing.drain(..count));
        }
        if !port.is_full() {
            let bytes = self.down.arrive(prng.below(self.pace) as usize + 1);
            if !bytes.is_empty() {
                port.receive(&mut node.engine, &bytes);
            }
            if self.down.is_over() && port.ended.is_none() {
                port.ended = Some(String::new());
            }
        }
    }

    fn pump_called(&mut self, slots: &mut [Slot], prng: &mut Prng) {
        let node = slots[self.to.node].node.as_mut().expect("it was seen to be there");
        let client = self.client.expect("it was accepted");
        let now_us = node.world.clocks.mono_us;
        let conn = node.world.conns.get_mut(&client).expect("it was seen to be there");
        if !self.down.has_ended {
            let room = self.room.saturating_sub(self.down.bytes.len());
            let bytes = match conn.is_lent() {
                true => conn.take_lent(room, now_us),
                false => conn.take(&mut node.engine, client, room),
            };
            self.down.bytes.extend(bytes);
        }
        let bytes = self.up.arrive(prng.below(self.pace) as usize + 1);
        conn.receive(&bytes);
        if self.up.is_over() {
            conn.is_closed = true;
        }
    }
}
