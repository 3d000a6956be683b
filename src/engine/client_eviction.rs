//! Staying within `maxmemory-clients`: the largest clients go first.
//!
//! Clients are put in classes by the power of two of their memory, and the highest class goes
//! first, within it the oldest: so one byte more or less does not decide between two clients that
//! are alike, and small clients stay. The check is a comparison of two sums, made by the driver at
//! the end of each turn, after clients that are over their output limit have gone by that.

use super::session::ClientKind;
use super::{Clients, Effect, Engine, Session};
use crate::observe::clients::describe;

/// A lower limit would leave nobody who could set a higher one.
const LIMIT_BYTES_MIN: u64 = 128 * 1024;
/// Clients with less memory than this are all of one class.
const CLASS_LOG_MIN: u32 = 15;

impl Engine {
    /// Whether clients hold more than they may together.
    #[inline]
    pub fn has_too_large_clients(&self) -> bool {
        let config = &self.server.config;
        let Some(limit) = config.maxmemory_clients.limit_bytes(config.maxmemory) else {
            return false;
        };
        evictable_bytes(&self.clients) >= limit.max(LIMIT_BYTES_MIN)
    }

    /// Closes the largest clients until the rest is within the limit.
    pub fn evict_clients(&mut self) {
        if !self.has_too_large_clients() {
            self.server.has_told_of_clients = false;
            return;
        }
        let mut candidates: Vec<_> = (self.clients.iter())
            .filter(|session| may_be_evicted(session))
            .map(|session| (std::cmp::Reverse(class_of(session)), session.id.number(), session.id))
            .collect();
        candidates.sort_unstable();
        for (_, _, client) in candidates {
            if !self.has_too_large_clients() {
                return;
            }
            let Some(session) = self.clients.get(client) else { continue };
            tracing::info!("Evicting client: {}", describe(&self.server, session));
            self.clients.count_out(client);
            self.server.stats.evicted_clients += 1;
            self.server.effects.push(Effect::Close { client });
        }
        if self.has_too_large_clients() && !self.server.has_told_of_clients {
            tracing::warn!("Over client maxmemory after evicting all evictable clients");
            self.server.has_told_of_clients = true;
        }
    }
}

fn evictable_bytes(clients: &Clients) -> u64 {
    let memory = clients.memory();
    (memory.of(ClientKind::Normal) + memory.of(ClientKind::Pubsub)) as u64
}

fn may_be_evicted(session: &Session) -> bool {
    let has_kind = matches!(session.kind, ClientKind::Normal | ClientKind::Pubsub);
    has_kind && !session.no_evict && !session.is_being_closed()
}

fn class_of(session: &Session) -> u32 {
    (usize::BITS - session.memory_bytes().leading_zeros()).max(CLASS_LOG_MIN)
}
