//! The client table: sessions in reused slots, named by slot and number.
//!
//! A client's number is never used again, so an id that outlives its client (in a wait list, in a
//! job's answer, in an effect on its way) finds nothing instead of finding somebody else. Nobody
//! holds a pointer to a session.

use super::Session;

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

#[derive(Default)]
pub struct Clients {
    slots: Vec<Option<Session>>,
    free: Vec<u32>,
    last_number: u64,
}

impl Clients {
    /// Adds a session made for the id it gets.
    pub fn add(&mut self, make: impl FnOnce(ClientId) -> Session) -> ClientId {
        self.last_number += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 clients")
        });
        let id = ClientId { slot, number: self.last_number };
        self.slots[id.slot()] = Some(make(id));
        id
    }

    pub fn remove(&mut self, id: ClientId) -> Option<Session> {
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
}
