//! Transactions: queued commands, watched keys, and who watches what.
//!
//! A watch is broken by touching the key, by the dispatcher, at the end of the command that did
//! it. EXEC then answers null. A command that could not be queued spoils the transaction, and
//! EXEC answers EXECABORT.

use super::clients_by_key::ClientsByKey;
use super::{ClientId, Clients, Cx};
use crate::command::{CommandId, Flags};
use crate::keyspace::{Db, Keyspace, TouchedKey};
use crate::resp::OwnedRequest;

/// Commands queued by one client since MULTI.
#[derive(Default)]
pub struct Transaction {
    queued: Vec<Queued>,
    queued_bytes: usize,
    spoilt: bool,
    flags: Option<Flags>,
    /// Those that all queued commands have.
    common: Option<Flags>,
}

pub struct Queued {
    pub id: CommandId,
    pub request: OwnedRequest,
}

impl Transaction {
    pub fn queue(&mut self, id: CommandId, flags: Flags, request: OwnedRequest) {
        // A spoilt transaction will never run, so what follows need not be kept.
        if !self.spoilt {
            self.queued_bytes += size_of::<Queued>() + request.memory();
            self.queued.push(Queued { id, request });
        }
        self.flags = Some(self.flags.unwrap_or(Flags::NONE).or(flags));
        self.common = Some(self.common.map_or(flags, |common| common.and(flags)));
    }

    /// A command was refused: EXEC will abort.
    pub fn spoil(&mut self) {
        self.spoilt = true;
        self.queued.clear();
        self.queued_bytes = 0;
    }

    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    /// The flags of all queued commands together.
    pub fn flags(&self) -> Flags {
        self.flags.unwrap_or(Flags::NONE)
    }

    /// The flags that each of the queued commands has, if there are any.
    pub fn common_flags(&self) -> Option<Flags> {
        self.common
    }

    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Heap bytes of the queued requests.
    pub fn memory(&self) -> usize {
        self.queued_bytes
    }

    pub fn queued(&self) -> &[Queued] {
        &self.queued
    }

    pub fn into_queued(self) -> Vec<Queued> {
        self.queued
    }
}

/// A key as one client watches it.
pub struct WatchedKey {
    pub db: usize,
    pub key: Box<[u8]>,
    /// It was there but its time had come: its going away later breaks nothing.
    pub was_expired: bool,
}

/// Who watches which key.
#[derive(Default)]
pub struct WatchTable {
    watchers: ClientsByKey,
}

impl WatchTable {
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// The number of keys that are watched.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Breaks the watches of these keys, but for those whose key had expired before it was
    /// watched and is only gone now.
    pub fn touch(&self, clients: &mut Clients, space: &Keyspace, touched: &[TouchedKey]) {
        for key in touched {
            let is_there = || space.db(key.db).contains(&key.key);
            for client in self.watchers.at(key.db, &key.key) {
                let Some(session) = clients.get_mut(client) else { continue };
                let watched =
                    session.watched.iter_mut().find(|w| w.db == key.db && w.key == key.key);
                match watched {
                    Some(watched) if watched.was_expired && !is_there() => {
                        watched.was_expired = false;
                    }
                    _ => session.watch_broken = true,
                }
            }
        }
    }
}

/// Makes the running client watch a key; watching it twice is watching it once.
pub fn watch(cx: &mut Cx<'_>, key: &crate::keyspace::Key<'_>) {
    let db = cx.keys.db;
    let again = |w: &WatchedKey| w.db == db && *w.key == *key.bytes;
    if cx.session().watched.iter().any(again) {
        return;
    }
    let horizon_ms = cx.keys.horizon_ms();
    let entry = cx.keys.db().get(key);
    let was_expired = entry.is_some_and(|entry| entry.is_expired(horizon_ms));
    let client = cx.client;
    cx.server.watched.watchers.add(db, key.bytes, client);
    cx.session_mut().watched.push(WatchedKey { db, key: key.bytes.into(), was_expired });
    cx.keys.space().changes.observers.touched_keys = true;
}

/// Ends all watches of a client.
pub fn unwatch(clients: &mut Clients, table: &mut WatchTable, client: ClientId) {
    let Some(session) = clients.get_mut(client) else { return };
    for watched in session.watched.drain(..) {
        table.watchers.remove(watched.db, &watched.key, client);
    }
    session.watch_broken = false;
}

/// Breaks the watches of a database that is about to be emptied, or replaced by another one:
/// those whose key is there, or will be. Whether a key whose time has come stays or goes makes no
/// difference to anybody.
pub fn touch_watched_keys(
    space: &Keyspace,
    clients: &mut Clients,
    table: &WatchTable,
    db: usize,
    replacement: Option<&Db>,
) {
    for key in table.watchers.keys_in(db) {
        let looked_up = space.key(&key);
        let found = replacement.and_then(|other| other.get(&looked_up));
        let is_there = space.db(db).contains(&key);
        let will_be = found.is_some();
        let will_be_expired = found.is_some_and(|entry| entry.is_expired(space.horizon_ms()));
        if !is_there && !will_be {
            continue;
        }
        for client in table.watchers.at(db, &key) {
            let Some(session) = clients.get_mut(client) else { continue };
            let Some(watched) = session.watched.iter_mut().find(|w| w.db == db && w.key == key)
            else {
                continue;
            };
            if watched.was_expired && !will_be {
                watched.was_expired = false;
            } else if will_be_expired && (watched.was_expired || !is_there) {
                watched.was_expired = true;
            } else {
                session.watch_broken = true;
            }
        }
    }
}

/// True if a key the client watches has expired since, which nobody else may have noticed yet.
pub fn has_expired_watch(cx: &mut Cx<'_>) -> bool {
    let watched: Vec<(usize, Box<[u8]>)> = (cx.session().watched.iter())
        .filter(|w| !w.was_expired)
        .map(|w| (w.db, w.key.clone()))
        .collect();
    let space = cx.keys.space();
    watched.iter().any(|(db, key)| {
        let entry = space.db(*db).get(&space.key(key));
        entry.is_some_and(|entry| entry.is_expired(space.horizon_ms()))
    })
}

/// Takes the client out of MULTI; what it had queued.
pub fn leave(cx: &mut Cx<'_>) -> Option<Box<Transaction>> {
    let transaction = cx.session_mut().transaction.take();
    let client = cx.client;
    unwatch(cx.clients, &mut cx.server.watched, client);
    transaction
}
