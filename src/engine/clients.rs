//! The client table: sessions in reused slots, named by slot and number.
//!
//! A client's number is never used again, so an id that outlives its client (in a wait list, in a
//! job's answer, in an effect on its way) finds nothing instead of finding somebody else. Nobody
//! holds a pointer to a session.

use super::Session;
use super::session::ClientKind;

/// A client's name: its slot, and the number that makes the slot's use unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClientId {
    slot: u32,
    number: u64,
}

impl ClientId {
    /// The id that CLIENT ID shows: unique for the life of the server.
    pub fn number(self) -> u64 {
        self.number
    }

    /// The place of this client in tables kept beside the engine's.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What the table has counted of a client's memory.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counted {
    kind: ClientKind,
    total_bytes: usize,
    buffer_bytes: usize,
    /// The connection is being closed: nothing is counted any more.
    pub(super) is_closing: bool,
}

/// The memory of all clients, as of each one's last turn.
#[derive(Clone, Copy, Default, Debug)]
pub struct ClientMemory {
    by_kind: [usize; 4],
    /// Buffers of all clients, which make no key go.
    pub buffer_bytes: usize,
}

impl ClientMemory {
    pub fn of(&self, kind: ClientKind) -> usize {
        self.by_kind[kind as usize]
    }
}

#[derive(Default)]
pub struct Clients {
    slots: Vec<Option<Session>>,
    free: Vec<u32>,
    last_number: u64,
    memory: ClientMemory,
}

impl Clients {
    /// Adds a session made for the id it gets.
    pub fn add(&mut self, make: impl FnOnce(ClientId) -> Session) -> ClientId {
        self.last_number += 1;
        // The slot that was left last is taken first, so this table and those beside it grow no
        // longer than the most clients that there were at once.
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 clients")
        });
        let id = ClientId { slot, number: self.last_number };
        self.slots[id.slot()] = Some(make(id));
        self.recount(id);
        id
    }

    /// The memory of all clients.
    pub fn memory(&self) -> &ClientMemory {
        &self.memory
    }

    /// Counts a client's memory anew, after the driver has left new figures.
    #[inline]
    pub fn recount(&mut self, id: ClientId) {
        let slot = self.slots.get_mut(id.slot()).and_then(Option::as_mut);
        let Some(session) = slot.filter(|session| session.id == id) else { return };
        let before = session.counted;
        // It was taken off the sums, and its last figures must not bring it back.
        if before.is_closing {
            return;
        }
        session.counted = Counted {
            kind: session.kind,
            total_bytes: session.memory_bytes(),
            buffer_bytes: session.buffer_bytes(),
            is_closing: false,
        };
        let after = session.counted;
        self.uncount(before);
        self.memory.by_kind[after.kind as usize] += after.total_bytes;
        self.memory.buffer_bytes += after.buffer_bytes;
    }

    /// A client's connection is being closed: what it holds is as good as free.
    pub fn count_out(&mut self, id: ClientId) {
        let Some(session) = self.get_mut(id) else { return };
        let before = std::mem::take(&mut session.counted);
        session.counted.is_closing = true;
        self.uncount(before);
    }

    fn uncount(&mut self, counted: Counted) {
        self.memory.by_kind[counted.kind as usize] -= counted.total_bytes;
        self.memory.buffer_bytes -= counted.buffer_bytes;
    }

    pub fn remove(&mut self, id: ClientId) -> Option<Session> {
        self.count_out(id);
        self.get(id)?;
        self.free.push(id.slot);
        self.slots[id.slot()].take()
    }

    pub fn get(&self, id: ClientId) -> Option<&Session> {
        self.slots.get(id.slot())?.as_ref().filter(|session| session.id == id)
    }

    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut Session> {
        self.slots.get_mut(id.slot())?.as_mut().filter(|session| session.id == id)
    }

    pub fn by_number(&self, number: u64) -> Option<&Session> {
        // Only operators name clients by number, so no map is kept up to date for it.
        self.iter().find(|session| session.id.number() == number)
    }

    /// All sessions, oldest first.
    pub fn iter_by_age(&self) -> Vec<&Session> {
        let mut all: Vec<&Session> = self.iter().collect();
        all.sort_by_key(|session| session.id.number());
        all
    }

    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().flatten()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::session::Peer;

    #[test]
    fn a_reused_slot_does_not_answer_to_the_old_id() {
        let mut clients = Clients::default();
        let first = clients.add(|id| Session::new(id, Peer::internal(), 0));
        assert!(clients.remove(first).is_some());
        let second = clients.add(|id| Session::new(id, Peer::internal(), 0));
        assert_eq!(first.slot(), second.slot());
        assert!(clients.get(first).is_none() && clients.remove(first).is_none());
        assert_eq!(clients.get(second).map(|s| s.id), Some(second));
        assert_eq!(clients.len(), 1);
    }

    #[test]
    fn memory_is_counted_by_kind_until_the_client_is_closed() {
        let mut clients = Clients::default();
        let own = size_of::<Session>();
        let one = clients.add(|id| Session::new(id, Peer::internal(), 0));
        let two = clients.add(|id| Session::new(id, Peer::internal(), 0));
        let figures = |clients: &Clients| {
            let memory = clients.memory();
            (memory.of(ClientKind::Normal), memory.of(ClientKind::Pubsub), memory.buffer_bytes)
        };
        assert_eq!(figures(&clients), (2 * own, 0, 0));
        let session = clients.get_mut(two).expect("it is there");
        session.kind = ClientKind::Pubsub;
        session.io.query_bytes = 1000;
        session.io.output_bytes = 500;
        clients.recount(two);
        assert_eq!(figures(&clients), (own, own + 1500, 1000), "the output is part of the data");
        clients.count_out(one);
        clients.recount(one);
        assert_eq!(figures(&clients), (0, own + 1500, 1000));
        assert!(clients.remove(one).is_some() && clients.remove(two).is_some());
        assert_eq!(figures(&clients), (0, 0, 0));
    }
}
