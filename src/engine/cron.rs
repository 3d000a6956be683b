//! What happens without a request: expiry, timeouts, samples, the end of a pause.

use super::{ClientId, Effect, Engine, dispatch};
use crate::keyspace::AccessPolicy;

/// Keys taken away in one go, so that a burst of expiries is spread over turns.
const EXPIRE_BATCH: usize = 200;

impl Engine {
    /// Runs what is due now; the driver calls it `hz` times a second and when
    /// [`Engine::next_deadline_ms`] has come.
    pub fn cron(&mut self) {
        let mono_ms = self.server.clock.mono_ms();
        self.server.stats.sample(mono_ms);
        let used = (self.server.parts.memory)().used_bytes;
        self.server.memory_peak = self.server.memory_peak.max(used);
        self.close_idle_clients(mono_ms);
        if self.server.pause.until_ms().is_some_and(|until_ms| mono_ms >= until_ms) {
            self.end_pause();
        }
    }

    /// Takes away keys whose time has come; true if more are due.
    pub fn expire_due(&mut self) -> bool {
        self.server.clock.lap_ns();
        let more = self.keyspace.expire_due(EXPIRE_BATCH);
        dispatch::settle(&mut self.keyspace, &mut self.clients, &mut self.server);
        self.server.stats.expire_cycle_us += self.server.clock.lap_ns() / 1000;
        more
    }

    /// When, on the wall clock, the next key may expire.
    pub fn next_expiry_unix_ms(&self) -> Option<u64> {
        let at_ms = self.keyspace.earliest_deadline_ms();
        (self.keyspace.expires_actively && at_ms != u64::MAX).then_some(at_ms)
    }

    /// SIGTERM or SIGINT came: ends the process in good order.
    pub fn shut_down_by_signal(&mut self) {
        tracing::warn!("User requested shutdown...");
        tracing::warn!("Redis is now ready to exit, bye bye...");
        self.server.effects.push(Effect::Exit(0));
    }

    /// Ends CLIENT PAUSE and lets the waiting clients try again.
    pub fn end_pause(&mut self) {
        for client in self.server.pause.end() {
            self.wake(client);
        }
    }

    /// Lets a waiting client's next request be tried.
    pub fn wake(&mut self, client: ClientId) {
        if let Some(session) = self.clients.get_mut(client) {
            session.suspension = None;
            self.server.effects.push(Effect::Wake { client });
        }
    }

    fn close_idle_clients(&mut self, mono_ms: u64) {
        let timeout_ms = u64::try_from(self.server.config.timeout).unwrap_or(0) * 1000;
        if timeout_ms == 0 {
            return;
        }
        let is_idle = |last_ms: u64| mono_ms.saturating_sub(last_ms) > timeout_ms;
        let idle: Vec<ClientId> = (self.clients.iter())
            .filter(|session| session.suspension.is_none() && is_idle(session.last_active_ms))
            .map(|session| session.id)
            .collect();
        for client in idle {
            tracing::debug!("Closing idle client");
            self.server.effects.push(Effect::Close { client });
        }
    }

    /// Brings everything that depends on a directive in line with the configuration.
    pub(crate) fn apply_whole_config(&mut self) {
        let config = &self.server.config;
        let access = &mut self.keyspace.access;
        access.policy = if config.maxmemory_policy.is_lfu() {
            AccessPolicy::Frequency
        } else {
            AccessPolicy::Recency
        };
        access.lfu_log_factor = u32::try_from(config.lfu_log_factor).unwrap_or(10);
        access.lfu_decay_minutes = u32::try_from(config.lfu_decay_time).unwrap_or(1);
        self.keyspace.changes.observers.events = config.notify_keyspace_events;
    }
}
