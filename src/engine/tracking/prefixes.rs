//! Who wants to hear of all keys that begin with a prefix, and which such keys have changed.
//!
//! A key's prefixes are looked up by length: as many lookups as there are lengths in use, which are
//! few, however many prefixes there are.
//!
//! Invariant: `lengths` counts the prefixes of each length; no prefix is without clients.

use crate::engine::ClientId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Prefix {
    clients: BTreeSet<ClientId>,
    changed: BTreeMap<Box<[u8]>, Option<ClientId>>,
}

/// The keys under one prefix that have changed, each with the client that did it last.
pub struct Changed {
    pub clients: Vec<ClientId>,
    pub keys: BTreeMap<Box<[u8]>, Option<ClientId>>,
}

#[derive(Default)]
pub struct Prefixes {
    by_text: BTreeMap<Box<[u8]>, Prefix>,
    lengths: BTreeMap<usize, usize>,
    /// Those with changed keys.
    pending: BTreeSet<Box<[u8]>>,
}

impl Prefixes {
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    pub fn add(&mut self, text: &[u8], client: ClientId) {
        let prefix = self.by_text.entry(text.into()).or_insert_with(|| {
            *self.lengths.entry(text.len()).or_default() += 1;
            Prefix::default()
        });
        prefix.clients.insert(client);
    }

    pub fn remove(&mut self, text: &[u8], client: ClientId) {
        let Some(prefix) = self.by_text.get_mut(text) else { return };
        prefix.clients.remove(&client);
        if !prefix.clients.is_empty() {
            return;
        }
        self.by_text.remove(text);
        self.pending.remove(text);
        let count = self.lengths.get_mut(&text.len()).expect("its length is counted");
        *count -= 1;
        if *count == 0 {
            self.lengths.remove(&text.len());
        }
    }

    /// A key changed, by the doing of that client if of any.
    pub fn note(&mut self, key: &[u8], by: Option<ClientId>) {
        for (len, _) in self.lengths.range(..=key.len()) {
            let text = &key[..*len];
            if let Some(prefix) = self.by_text.get_mut(text) {
                if prefix.changed.is_empty() {
                    self.pending.insert(text.into());
                }
                // A key that changes often in a turn is told once, of the client that did it last.
                prefix.changed.insert(key.into(), by);
            }
        }
    }

    /// What has changed since the last call, prefix by prefix.
    pub fn take_changed(&mut self) -> Vec<Changed> {
        let mut all = Vec::with_capacity(self.pending.len());
        for text in std::mem::take(&mut self.pending) {
            let prefix = self.by_text.get_mut(&text).expect("only known prefixes are pending");
            let keys = std::mem::take(&mut prefix.changed);
            all.push(Changed { clients: prefix.clients.iter().copied().collect(), keys });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Clients, Peer, Session};

    #[test]
    fn keys_are_told_once_under_each_of_their_prefixes() {
        let mut clients = Clients::default();
        let [a, b] = [(); 2].map(|()| clients.add(|id| Session::new(id, Peer::internal(), 0)));
        let mut prefixes = Prefixes::default();
        prefixes.add(b"", a);
        prefixes.add(b"user:", b);
        for key in ["user:1", "user:1", "use", "zoo"] {
            prefixes.note(key.as_bytes(), Some(a));
        }
        let told: Vec<(Vec<ClientId>, usize)> =
            prefixes.take_changed().into_iter().map(|c| (c.clients, c.keys.len())).collect();
        assert_eq!(told, [(vec![a], 3), (vec![b], 1)]);
        prefixes.note(b"user:2", None);
        prefixes.remove(b"user:", b);
        prefixes.remove(b"user:", b);
        prefixes.remove(b"", a);
        assert!(prefixes.take_changed().is_empty() && prefixes.lengths.is_empty());
    }
}
