//! What the executor and the tasks of the bus share.
//!
//! All run on one thread, and nobody waits while it holds a borrow.

use super::keeper::{Keeper, Order};
use crate::cluster::links::LinkId;
use crate::engine::bus::{LinkBytes, Saver};
use crate::net::tls::desk::Complaints;
use crate::persist::nodes::Version;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use tokio::sync::{Mutex, Notify};

/// Connections of whom nobody knows; the oldest goes when there are more. Nodes say who they are
/// with the first packet, so that only those who are no nodes stay long.
const STRANGERS_MAX: usize = 128;

/// So many may be there also where clients have taken all places: there are files for that.
const STRANGERS_MIN: usize = 16;

#[derive(Default)]
pub struct Port {
    wires: RefCell<BTreeMap<LinkId, Rc<Wire>>>,
    /// Oldest first; some may be about to end.
    strangers: RefCell<VecDeque<Rc<Wire>>>,
    /// Held by the connection whose packets are looked at, until others than these had their turn.
    pub turn: Mutex<()>,
    pub complaints: Complaints,
    keeper: RefCell<Option<Keeper>>,
}

impl Port {
    /// A connection that we make, or that is known.
    pub fn add(&self, link: LinkId) -> Rc<Wire> {
        let wire = Rc::new(Wire::new(link));
        self.wires.borrow_mut().insert(link, Rc::clone(&wire));
        wire
    }

    /// A connection that somebody else has made. The oldest of these go for it if there are more
    /// than there is place for, beside those that are there.
    pub fn add_stranger(&self, link: LinkId, free_places: usize) -> Rc<Wire> {
        let wire = self.add(link);
        wire.is_stranger.set(true);
        let mut strangers = self.strangers.borrow_mut();
        strangers.retain(|wire| !wire.is_over());
        let most = (free_places + strangers.len()).clamp(STRANGERS_MIN, STRANGERS_MAX);
        strangers.push_back(Rc::clone(&wire));
        let too_many = strangers.len().saturating_sub(most);
        strangers.drain(..too_many).for_each(|oldest| oldest.end());
        wire
    }

    /// It is known now who is at the other end.
    pub fn befriend(&self, wire: &Wire) {
        wire.is_stranger.set(false);
        self.strangers.borrow_mut().retain(|other| other.link != wire.link);
    }

    /// Has bytes go out; what the connection takes then, if there is one.
    pub fn send(&self, link: LinkId, bytes: Vec<u8>) -> Option<LinkBytes> {
        let wires = self.wires.borrow();
        let wire = wires.get(&link)?;
        wire.outgoing.borrow_mut().push(bytes);
        wire.wake.notify_one();
        Some(wire.figures())
    }

    /// Ends a connection of which nothing more is to be told.
    pub fn close(&self, link: LinkId) {
        let wire = self.wires.borrow_mut().remove(&link);
        if let Some(wire) = wire {
            wire.end();
        }
    }

    /// The connection has ended; true if that is to be told.
    pub fn forget(&self, wire: &Wire) -> bool {
        wire.is_over.set(true);
        if wire.is_stranger.get() {
            self.befriend(wire);
        }
        self.wires.borrow_mut().remove(&wire.link).is_some()
    }

    /// What each connection takes.
    pub fn figures(&self) -> Vec<(LinkId, LinkBytes)> {
        let wires = self.wires.borrow();
        wires.iter().map(|(link, wire)| (*link, wire.figures())).collect()
    }

    pub fn set_keeper(&self, keeper: Keeper) {
        *self.keeper.borrow_mut() = Some(keeper);
    }

    pub fn save(&self, version: Version, saver: Saver) {
        if let Some(keeper) = &*self.keeper.borrow() {
            keeper.save(Order { version, saver });
        }
    }

    /// Waits until all that was to be saved is.
    pub fn finish(&self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
    }
}

/// A connection, as others than its task see it.
pub struct Wire {
    pub link: LinkId,
    pub outgoing: RefCell<Outgoing>,
    /// The task has something to do: to write, or to end.
    pub wake: Notify,
    is_over: Cell<bool>,
    /// Somebody else has made it, and nobody knows who.
    is_stranger: Cell<bool>,
    /// Something whole has come.
    pub has_spoken: Cell<bool>,
    /// What its input takes.
    pub input_bytes: Cell<usize>,
}

impl Wire {
    fn new(link: LinkId) -> Wire {
        Wire {
            link,
            outgoing: RefCell::default(),
            wake: Notify::new(),
            is_over: Cell::new(false),
            is_stranger: Cell::new(false),
            has_spoken: Cell::new(false),
            input_bytes: Cell::new(0),
        }
    }

    fn end(&self) {
        self.is_over.set(true);
        self.wake.notify_one();
    }

    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub fn is_stranger(&self) -> bool {
        self.is_stranger.get()
    }

    /// Waits until the connection is not wanted any more.
    pub async fn ended(&self) {
        while !self.is_over() {
            self.wake.notified().await;
        }
    }

    fn figures(&self) -> LinkBytes {
        let outgoing = self.outgoing.borrow();
        let (queued, queue) = (outgoing.len(), outgoing.allocated_bytes());
        LinkBytes { queued, queue, input: self.input_bytes.get() }
    }
}

/// Small packets are put together up to so much, so that one system call writes them.
const PIECE_BYTES: usize = 16 * 1024;

/// What is to be sent, oldest first.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first piece has been sent.
    sent: usize,
    len: usize,
}

impl Outgoing {
    pub fn push(&mut self, bytes: Vec<u8>) {
        self.len += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + bytes.len() <= PIECE_BYTES => last.extend_from_slice(&bytes),
            _ => self.pieces.push_back(bytes),
        }
    }

    /// What goes next.
    pub fn front(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| &piece[self.sent..])
    }

    /// So much of the front is sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        self.len -= count;
        if self.pieces.front().is_some_and(|piece| piece.len() == self.sent) {
            self.pieces.pop_front();
            self.sent = 0;
        }
    }

    /// Bytes that are to be sent.
    pub fn len(&self) -> usize {
        self.len
    }

    fn allocated_bytes(&self) -> usize {
        if self.pieces.is_empty() {
            return 0;
        }
        let pieces = self.pieces.iter().map(Vec::capacity).sum::<usize>();
        pieces + self.pieces.capacity() * size_of::<Vec<u8>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::links::Links;

    fn links(count: usize) -> Vec<LinkId> {
        let mut links = Links::default();
        (0..count).map(|_| links.number()).collect()
    }

    #[test]
    fn what_is_to_be_sent_goes_in_order_and_is_counted() {
        let mut outgoing = Outgoing::default();
        let packets: Vec<Vec<u8>> = (1..200u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        packets.iter().for_each(|packet| outgoing.push(packet.clone()));
        let all = packets.concat();
        assert_eq!(outgoing.len(), all.len());
        assert!(outgoing.allocated_bytes() >= all.len());
        assert!(outgoing.pieces.len() < packets.len() / 2, "small ones are put together");
        let mut sent = Vec::new();
        while let Some(front) = outgoing.front() {
            let count = front.len().min(1000);
            sent.extend_from_slice(&front[..count]);
            outgoing.advance(count);
        }
        assert_eq!(sent, all);
        assert_eq!(outgoing.len(), 0);
    }

    #[test]
    fn the_oldest_strangers_go_and_friends_stay() {
        let port = Port::default();
        let links = links(STRANGERS_MAX + 3);
        let wires: Vec<Rc<Wire>> =
            links.iter().map(|link| port.add_stranger(*link, 1000)).collect();
        let gone = |wires: &[Rc<Wire>]| wires.iter().filter(|wire| wire.is_over()).count();
        assert_eq!(gone(&wires), 3);
        assert!(gone(&wires[..3]) == 3, "the oldest");
        assert!(port.forget(&wires[0]), "its end is told");
        port.befriend(&wires[3]);
        let more = self::links(2 * STRANGERS_MAX + 3).split_off(STRANGERS_MAX + 3);
        let _later: Vec<Rc<Wire>> =
            more.iter().map(|link| port.add_stranger(*link, 1000)).collect();
        assert!(!wires[3].is_over());
        assert_eq!(gone(&wires), wires.len() - 1);
    }

    #[test]
    fn strangers_take_no_places_that_are_not_there() {
        let port = Port::default();
        let wires: Vec<Rc<Wire>> =
            links(50).iter().map(|link| port.add_stranger(*link, 0)).collect();
        let there = wires.iter().filter(|wire| !wire.is_over()).count();
        assert_eq!(there, STRANGERS_MIN);
    }

    #[test]
    fn what_was_closed_is_told_nothing_of() {
        let port = Port::default();
        let wire = port.add(links(1)[0]);
        port.send(wire.link, vec![0; 10]);
        assert_eq!(port.figures()[0].1.queued, 10);
        port.close(wire.link);
        assert!(wire.is_over() && !port.forget(&wire));
        port.send(wire.link, vec![0; 10]);
        assert!(port.figures().is_empty());
    }
}
