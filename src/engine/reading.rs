//! What is done with a request before it runs: it is parsed, its command looked up, its keys
//! hashed.
//!
//! None of this needs an engine, so that a connection's thread can do it: [`Reading`] holds what is
//! the same for all clients, and a clone of it goes to each thread. What may change while the
//! server runs are bounds, which are read anew each time.

use super::dispatch::hash_leading_keys;
use super::{ClientId, Engine, Prepared};
use crate::command::Lookup;
use crate::command::table::Table;
use crate::config::Config;
use crate::keyspace::{KeyHash, KeyHasher};
use crate::resp::{Limits, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much clients may send, as the configuration has it now.
#[derive(Default)]
pub struct InputBounds {
    bulk_len_max: AtomicU64,
    query_bytes_max: AtomicUsize,
}

impl InputBounds {
    pub(super) fn follow(&self, config: &Config) {
        self.bulk_len_max.store(config.proto_max_bulk_len as u64, Ordering::Relaxed);
        self.query_bytes_max.store(config.client_query_buffer_limit, Ordering::Relaxed);
    }
}

/// Who has not authenticated may send no more ahead, whatever others may.
const UNAUTHENTICATED_QUERY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub struct Reading {
    table: Arc<Table>,
    hasher: KeyHasher,
    bounds: Arc<InputBounds>,
}

impl Reading {
    /// What the parser allows a client who has authenticated, or has not.
    pub fn limits(&self, authenticated: bool) -> Limits {
        Limits { bulk_len_max: self.bounds.bulk_len_max.load(Ordering::Relaxed), authenticated }
    }

    /// How many bytes a client may have sent that were not executed, be it one who has
    /// authenticated or one who has not.
    pub fn query_bytes_max(&self, authenticated: bool) -> usize {
        let bytes_max = self.bounds.query_bytes_max.load(Ordering::Relaxed);
        if authenticated { bytes_max } else { bytes_max.min(UNAUTHENTICATED_QUERY_BYTES_MAX) }
    }

    /// Looks up what a request names and hashes the keys it is sure to use into `hashes`.
    pub fn prepare(&self, request: &Request<'_>, hashes: &mut Vec<KeyHash>) -> Prepared {
        prepare(&self.table, self.hasher, request, hashes)
    }
}

impl Engine {
    /// What connections read requests with.
    pub fn reading(&self) -> Reading {
        Reading {
            table: Arc::clone(&self.server.table),
            hasher: self.keyspace.hasher(),
            bounds: Arc::clone(&self.server.input_bounds),
        }
    }

    /// Whether the client may send as much as who has authenticated, or need not.
    pub fn is_authenticated(&self, client: ClientId) -> bool {
        let session = self.clients.get(client);
        session.is_none_or(|session| !self.server.requires_auth(session))
    }

    /// Looks up what a request names and hashes the keys it is sure to use into `hashes`.
    pub fn prepare(&self, request: &Request<'_>, hashes: &mut Vec<KeyHash>) -> Prepared {
        prepare(&self.server.table, self.keyspace.hasher(), request, hashes)
    }
}

fn prepare(
    table: &Table,
    hasher: KeyHasher,
    request: &Request<'_>,
    hashes: &mut Vec<KeyHash>,
) -> Prepared {
    let lookup = table.lookup(request);
    let start = hashes.len();
    if let Lookup::Found(id) = lookup {
        hash_leading_keys(table.row(id), request, hasher, hashes);
    }
    Prepared::new(lookup, start, hashes.len())
}
