//! Which clients have to do with which key, first come first: those who watch it, those who wait
//! for it.
//!
//! A client stands at a key once. The keys are strangers', hence the keyed hasher.

use super::ClientId;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::RandomState;

#[derive(Default)]
pub struct ClientsByKey {
    /// By database, then key. No list is empty.
    dbs: Vec<HashMap<Box<[u8]>, VecDeque<ClientId>, RandomState>>,
    len: usize,
}

impl ClientsByKey {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts a client behind those who are at the key.
    pub fn add(&mut self, db: usize, key: &[u8], client: ClientId) {
        if self.dbs.len() <= db {
            self.dbs.resize_with(db + 1, HashMap::default);
        }
        let clients = self.dbs[db].entry(key.into()).or_default();
        self.len += usize::from(clients.is_empty());
        clients.push_back(client);
    }

    pub fn remove(&mut self, db: usize, key: &[u8], client: ClientId) {
        let Some(keys) = self.dbs.get_mut(db) else { return };
        let Some(clients) = keys.get_mut(key) else { return };
        // The one who leaves is mostly the first, who was served.
        if let Some(at) = clients.iter().position(|other| *other == client) {
            clients.remove(at);
        }
        if clients.is_empty() {
            keys.remove(key);
            self.len -= 1;
        }
    }

    /// The clients at a key, first come first.
    pub fn at(&self, db: usize, key: &[u8]) -> impl Iterator<Item = ClientId> + use<'_> {
        self.dbs.get(db).and_then(|keys| keys.get(key)).into_iter().flatten().copied()
    }

    /// The client at a place of a key's line.
    pub fn nth(&self, db: usize, key: &[u8], place: usize) -> Option<ClientId> {
        self.dbs.get(db)?.get(key)?.get(place).copied()
    }

    /// The length of a key's line.
    pub fn count_at(&self, db: usize, key: &[u8]) -> usize {
        self.dbs.get(db).and_then(|keys| keys.get(key)).map_or(0, VecDeque::len)
    }

    /// The keys of a database.
    pub fn keys_in(&self, db: usize) -> Vec<Box<[u8]>> {
        self.dbs.get(db).map_or_else(Vec::new, |keys| keys.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Clients, Peer, Session};

    #[test]
    fn clients_stand_at_a_key_in_the_order_they_came() {
        let mut clients = Clients::default();
        let [a, b, c] = [(); 3].map(|()| clients.add(|id| Session::new(id, Peer::internal(), 0)));
        let mut table = ClientsByKey::default();
        for client in [b, a, c] {
            table.add(1, b"k", client);
        }
        table.add(0, b"k", a);
        assert_eq!(table.len(), 2);
        table.remove(1, b"k", a);
        assert_eq!(table.at(1, b"k").collect::<Vec<_>>(), [b, c]);
        assert_eq!((table.nth(1, b"k", 1), table.count_at(1, b"k")), (Some(c), 2));
        table.remove(1, b"k", b);
        table.remove(1, b"k", c);
        table.remove(7, b"k", c);
        assert!(table.keys_in(1).is_empty());
        assert_eq!((table.len(), table.is_empty()), (1, false));
    }
}
