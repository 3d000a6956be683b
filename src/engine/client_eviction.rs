//! Staying within `maxmemory-clients`: the largest clients go first.
//!
//! Clients are put in classes by the power of two of their memory, and the highest class goes
//! first, within it the oldest: so one byte more or less does not decide between two clients that
//! are alike, and small clients stay. The check is a comparison of two sums, made by the driver
//! before each turn, for what has come in, and after it, for what has to go out; clients that are
//! over their output limit have gone by that then.

use super::client_line::describe;
use super::session::ClientKind;
use super::{Clients, Effect, Engine, Session};

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
        evictable_bytes(&self.clients) > limit.max(LIMIT_BYTES_MIN)
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
        // Sorted once: the others' memory does not change while some go.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Budget, Config};
    use crate::engine::{ClientId, Peer, testing::Bench};

    fn engine(limit: Budget) -> Engine {
        let config = Config { maxmemory_clients: limit, maxmemory: 10 << 20, ..Config::default() };
        let mut bench = Bench::with(config);
        bench.engine.disconnect(bench.client);
        bench.engine
    }

    fn client(engine: &mut Engine, bytes: usize) -> ClientId {
        let client = engine.connect(Peer::internal());
        let session = engine.clients.get_mut(client).expect("it is connected");
        session.io.query_bytes = bytes;
        engine.clients.recount(client);
        client
    }

    fn closed(engine: &mut Engine) -> Vec<ClientId> {
        engine.evict_clients();
        let effects = engine.take_effects().into_iter();
        let clients = effects.filter_map(|effect| match effect {
            Effect::Close { client } => Some(client),
            _ => None,
        });
        clients.collect()
    }

    #[test]
    fn the_largest_class_goes_first_and_only_as_many_as_need() {
        let mut engine = engine(Budget::Bytes(1 << 20));
        let small = client(&mut engine, 10_000);
        let middle = client(&mut engine, 300_000);
        let large = [700_000, 800_000].map(|bytes| client(&mut engine, bytes));
        assert_eq!(closed(&mut engine), large, "either would leave too much, together they do not");
        assert_eq!(engine.server.stats.evicted_clients, 2);
        assert!(closed(&mut engine).is_empty());
        engine.server.config.maxmemory_clients = Budget::Percent(2);
        assert_eq!(closed(&mut engine), [middle]);
        assert!(engine.clients.get(small).is_some());
    }

    #[test]
    fn whoever_asked_for_it_stays() {
        let mut engine = engine(Budget::Bytes(1));
        let kept = client(&mut engine, 200_000);
        engine.clients.get_mut(kept).expect("it is connected").no_evict = true;
        assert!(closed(&mut engine).is_empty(), "its memory counts all the same");
        assert!(engine.has_too_large_clients());
        engine.clients.get_mut(kept).expect("it is connected").no_evict = false;
        assert_eq!(closed(&mut engine), [kept]);
    }

    #[test]
    fn no_limit_closes_nobody() {
        let mut engine = engine(Budget::Bytes(0));
        client(&mut engine, 1 << 40);
        assert!(closed(&mut engine).is_empty());
    }
}
