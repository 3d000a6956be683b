//! What happens without a request: expiry, timeouts, samples, the end of a pause.

use super::core::Core;
use super::pause::PauseOwner;
use super::standstill::Deed;
use super::waiting::Line;
use super::{ClientId, Effect, Engine, call};

/// Keys taken away in one go, so that a burst of expiries is spread over turns.
const EXPIRE_BATCH: usize = 200;
/// The same for fields of hashes.
const EXPIRE_FIELDS_BATCH: usize = 1000;
/// How long the garbage of scripts is collected at once.
const GARBAGE_NS_MAX: u64 = 1_000_000;
/// Fields that may go whenever the clock moves.
const EXPIRE_FIELDS_TICK: usize = 200;

impl Engine {
    /// Runs what is due now; the driver calls it `hz` times a second and when
    /// [`Engine::next_deadline_ms`] has come.
    pub fn cron(&mut self) {
        self.tick_sentinel();
        self.tick_slot_moves();
        self.aof_cron();
        self.note_late_debugging();
        if !self.server.may(Deed::Cron) {
            return;
        }
        let mono_ms = self.server.clock.mono_ms();
        self.server.stats.sample(self.server.traffic.totals(), mono_ms);
        let used = (self.server.parts.used_memory)();
        self.server.memory_peak = self.server.memory_peak.max(used);
        self.close_idle_clients(mono_ms);
        self.replication_cron();
        self.server.limit_tracked_keys(&mut self.clients);
        self.server.forget_gone_readers(&self.clients);
        self.save_if_due();
        self.keep_hot_keys(mono_ms);
        self.collect_script_garbage();
        if self.server.pause.end_due(mono_ms) {
            self.core().follow_pause();
            self.serve_waits();
        }
    }

    /// Takes away some keys and fields whose time has come; true if more are due.
    pub fn expire_due(&mut self) -> bool {
        if !self.server.may(Deed::Expire) {
            return false;
        }
        self.server.clock.restart();
        let began = self.server.clock.lap();
        let more = self.keyspace.expire_due(EXPIRE_BATCH)
            | self.keyspace.expire_due_fields(EXPIRE_FIELDS_BATCH);
        call::settle(&mut self.keyspace, &mut self.clients, &mut self.server, None);
        if self.keyspace.changes.has_offers() {
            self.serve_waits();
        }
        let elapsed_ns = self.server.clock.since_ns(began);
        self.server.stats.expire_cycle_us += elapsed_ns / 1000;
        self.server.observe_latency("expire-cycle", elapsed_ns);
        more
    }

    /// Takes away the fields whose time has just come, if they are few. A hash whose last field has
    /// expired is then seldom there for those who only look for the key; for those who read the
    /// hash the fields are not there in any case.
    pub(super) fn expire_few_fields(&mut self) {
        let is_due = self.keyspace.earliest_field_deadline_ms() < self.keyspace.now_ms;
        if is_due && self.server.may(Deed::Expire) {
            self.keyspace.expire_due_fields(EXPIRE_FIELDS_TICK);
            call::settle(&mut self.keyspace, &mut self.clients, &mut self.server, None);
        }
    }

    /// When, on the wall clock, the next key or field may expire.
    pub fn next_expiry_unix_ms(&self) -> Option<u64> {
        let at_ms = self.keyspace.earliest_deadline_ms();
        let runs = self.keyspace.expires_actively && self.server.may(Deed::Expire);
        (runs && at_ms != u64::MAX).then_some(at_ms)
    }

    fn collect_script_garbage(&self) {
        let ticks = self.server.parts.ticks;
        let began = ticks();
        let is_time_left = || ticks().saturating_sub(began) < GARBAGE_NS_MAX;
        self.server.scripting.collect_garbage(is_time_left);
    }

    fn close_idle_clients(&mut self, mono_ms: u64) {
        let timeout_ms = u64::from(self.server.config.timeout) * 1000;
        if timeout_ms == 0 {
            return;
        }
        let is_idle = |last_ms: u64| mono_ms.saturating_sub(last_ms) > timeout_ms;
        let idle: Vec<ClientId> = (self.clients.iter())
            .filter(|session| !session.may_idle() && is_idle(session.last_active_ms))
            .map(|session| session.id)
            .collect();
        for client in idle {
            tracing::debug!("Closing idle client");
            self.server.effects.push(Effect::Close { client });
        }
    }
}

impl Core<'_> {
    /// Ends what one has paused, and lets the waiting clients try again.
    pub fn end_pause_of(&mut self, owner: PauseOwner) {
        self.server.pause.end(owner);
        self.follow_pause();
    }

    /// Some pause has ended: who waits tries again, and waits on if another one is in force.
    fn follow_pause(&mut self) {
        self.server.wake_line(self.clients, Line::Unpause);
        // What expired meanwhile may go.
        self.server.effects.push(Effect::WakeTimer);
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Bench;

    #[test]
    fn expired_keys_stay_while_writes_are_paused() {
        let mut bench = Bench::new();
        for line in ["SET a 1 PX 5", "SET b 1 PX 5", "CLIENT PAUSE 1000 WRITE"] {
            bench.expect(line, "+OK|");
        }
        bench.advance(100);
        assert_eq!(bench.engine.next_expiry_unix_ms(), None, "the timer is not to spin");
        assert!(!bench.engine.expire_due());
        assert_eq!(bench.ask("GET a"), "$-1|", "readers see that its time has come");
        assert_eq!((bench.engine.keyspace.stats.expired, bench.keys()), (0, 2));
        bench.ask("CLIENT UNPAUSE");
        bench.expect("GET a", "$-1|");
        assert!(bench.engine.next_expiry_unix_ms().is_some());
        bench.engine.expire_due();
        assert_eq!((bench.engine.keyspace.stats.expired, bench.keys()), (2, 0));
    }
}
