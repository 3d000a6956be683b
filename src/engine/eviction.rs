//! Staying within `maxmemory`: before each command, and in slices between turns.
//!
//! What counts is the data. Buffers of clients beyond a small allowance, what the freeing thread
//! has yet to free, what scripts have left and what only snapshots keep are taken off the
//! allocator's figure, so slow readers, a freed collection, a large script or a save do not make
//! the data go. (In Redis the buffers of ordinary
//! clients do, which has emptied whole caches.) A key that goes while a snapshot shares it is off
//! the figure at once, though its memory is free only later. Clients have a limit of their own,
//! `maxmemory-clients`, and so have snapshots, `snapshot-memory-limit`. A request that is to become
//! data counts as data, by itself and in a transaction.
//!
//! A command that finds too much data makes keys go for at most half a millisecond, more with a
//! higher `maxmemory-eviction-tenacity`, and runs. What is left to do is done by the timer, in
//! slices between which others are served. Only when no key may go is a command that would need
//! memory refused.
//!
//! Invariant: deciding that there is room reads the allocator's counters and nothing else.

use super::gates::Asked;
use super::session::ClientKind;
use super::standstill::Deed;
use super::{Clients, Cx, Effect, Engine, Server, call};
use crate::command::{CommandError, Flags};
use crate::keyspace::{Eviction, Keyspace};
use crate::structs::pins;

/// Buffers up to this, or to a twentieth of `maxmemory`, count with the data: the memory in use is
/// then within the limit as long as nothing is unusual, and no more than that share of the data
/// can ever go for them.
const BUFFER_ALLOWANCE_MIN: u64 = 1 << 20;
const BUFFER_ALLOWANCE_SHARE: u64 = 20;

/// Keys between two looks at the clock.
const KEYS_BETWEEN_CLOCKS: usize = 16;

/// How an attempt to stay within the limit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// There is room.
    Enough,
    /// Keys went, and more have to go.
    Making,
    /// No key may go.
    None,
}

/// The state of eviction, for the timer and INFO.
#[derive(Default)]
pub struct EvictionState {
    /// The timer goes on with it.
    is_running: bool,
    /// Since when there is too much data, on the monotonic clock.
    exceeded_since_us: Option<u64>,
    exceeded_total_us: u64,
    /// Bytes of entries that the freeing thread has freed, as the driver last told.
    pub freed_garbage_bytes: u64,
}

impl EvictionState {
    /// How long there has been too much data all in all, but for the present time.
    pub fn exceeded_total_ms(&self) -> u64 {
        self.exceeded_total_us / 1000
    }

    /// How long there has been too much data now.
    pub fn exceeded_now_ms(&self, mono_us: u64) -> u64 {
        self.exceeded_since_us.map_or(0, |since_us| mono_us.saturating_sub(since_us) / 1000)
    }

    /// The counters of CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        self.exceeded_since_us = None;
        self.exceeded_total_us = 0;
    }

    fn note(&mut self, room: Room, mono_us: u64) {
        if room != Room::Enough {
            self.exceeded_since_us.get_or_insert(mono_us);
        } else if let Some(since_us) = self.exceeded_since_us.take() {
            self.exceeded_total_us += mono_us.saturating_sub(since_us);
        }
    }
}

/// The gate: makes room if there is none, and refuses commands that would need memory if that
/// fails.
#[inline]
pub(super) fn there_is_room(
    cx: &mut Cx<'_>,
    asked: &Asked<'_>,
    flags: Flags,
) -> Result<(), CommandError> {
    let maxmemory = cx.server.config.maxmemory;
    if maxmemory == 0 {
        return Ok(());
    }
    // The allocator's figure is never below what counts, so where it is within the limit nothing
    // has to be summed up. After an excess the slow way notes that it is over.
    let has_room = (cx.server.parts.used_memory)() as u64 <= maxmemory;
    if has_room && cx.server.eviction.exceeded_since_us.is_none() {
        return Ok(());
    }
    // The request of a client that has waited is in no buffer, so it counts with the data anyway.
    let own_bytes = match flags.has(Flags::DENYOOM) && cx.caller.is_first_try() {
        true => asked.request.payload_len() as u64,
        false => 0,
    };
    make_room_for(cx, flags, own_bytes)
}

/// Makes room for a request that is a buffer now and, if it may make the data grow, is to be data.
#[cold]
fn make_room_for(cx: &mut Cx<'_>, flags: Flags, own_bytes: u64) -> Result<(), CommandError> {
    if own_bytes > cx.server.config.maxmemory {
        // Nothing that could go would help.
        return Err(CommandError::OutOfMemory);
    }
    if cx.caller.is_first_try() {
        // The reply under way is a buffer too, of which the figures do not know yet.
        let written = cx.reply.buffer().own_memory();
        cx.session_mut().io.output_own_bytes = written;
        cx.clients.recount(cx.client);
    }
    cx.server.effects.open_front(cx.client);
    let room = make_room(cx.keys.space(), cx.clients, cx.server, own_bytes);
    cx.server.effects.close_front(cx.reply.buffer());
    if room == Room::None && flags.has(Flags::DENYOOM) {
        return Err(CommandError::OutOfMemory);
    }
    Ok(())
}

impl Server {
    /// Whether there was too much data when that was last looked at, before the running command.
    pub fn is_over_memory(&self) -> bool {
        self.config.maxmemory > 0 && self.eviction.exceeded_since_us.is_some()
    }
}

impl Engine {
    /// Whether keys have to go that the last slice has left: the driver then calls
    /// [`Engine::evict_more`] without delay.
    pub fn is_evicting(&self) -> bool {
        self.server.eviction.is_running
    }

    /// One slice of eviction; true if there is more to do.
    pub fn evict_more(&mut self) -> bool {
        if self.server.eviction.is_running {
            make_room(&mut self.keyspace, &mut self.clients, &mut self.server, 0);
        }
        self.server.eviction.is_running
    }
}

/// `maxmemory` was set: what is too much goes at once, in slices.
pub fn follow_limit(space: &Keyspace, clients: &Clients, server: &mut Server) {
    let maxmemory = server.config.maxmemory;
    if maxmemory == 0 {
        return;
    }
    let used = counted_bytes(space, clients, server);
    if maxmemory < used {
        tracing::warn!(
            "WARNING: the new maxmemory value set via CONFIG SET ({maxmemory}) is smaller than \
             the current memory usage ({used}). This will result in key eviction and/or the \
             inability to accept new write commands depending on the maxmemory-policy."
        );
        go_on_later(server);
    }
}

/// Bytes in use that are not to be counted as data.
pub fn not_counted_bytes(space: &Keyspace, clients: &Clients, server: &Server) -> u64 {
    not_counted_without(space, clients, server, 0)
}

/// The same without so many bytes of buffers, which are to be counted.
fn not_counted_without(
    space: &Keyspace,
    clients: &Clients,
    server: &Server,
    own_bytes: u64,
) -> u64 {
    let freed = server.eviction.freed_garbage_bytes;
    let garbage = space.changes.garbage_bytes.saturating_sub(freed);
    let allowance = (server.config.maxmemory / BUFFER_ALLOWANCE_SHARE).max(BUFFER_ALLOWANCE_MIN);
    let buffers = (clients.memory().buffer_bytes as u64).saturating_sub(own_bytes);
    let of_scripts = server.scripting.garbage_bytes() as u64;
    let replicas = clients.memory().of(ClientKind::Replica) as u64;
    let stream = server.replication.unread_bytes(server.config.repl_backlog_size) + replicas;
    buffers.saturating_sub(allowance) + garbage + of_scripts + stream + pins::bytes()
}

/// Bytes in use that count as data.
pub fn counted_bytes(space: &Keyspace, clients: &Clients, server: &Server) -> u64 {
    counted_with(space, clients, server, 0)
}

/// What a key takes on the average, over those that are there and so many that are out already.
pub fn bytes_a_key(space: &Keyspace, clients: &Clients, server: &Server, removed: u64) -> usize {
    let keys = removed + space.dbs().iter().map(|db| db.len() as u64).sum::<u64>();
    let bytes = counted_bytes(space, clients, server) / keys.max(1);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn counted_with(space: &Keyspace, clients: &Clients, server: &Server, own_bytes: u64) -> u64 {
    let used = (server.parts.used_memory)() as u64;
    used.saturating_sub(not_counted_without(space, clients, server, own_bytes))
}

fn go_on_later(server: &mut Server) {
    if !server.eviction.is_running {
        server.eviction.is_running = true;
        server.effects.push(Effect::WakeTimer);
    }
}

/// Makes keys go until there is room, also for a request of so many bytes, or the time is over.
fn make_room(
    space: &mut Keyspace,
    clients: &mut Clients,
    server: &mut Server,
    own_bytes: u64,
) -> Room {
    let room = match server.may(Deed::Evict) {
        true => evict(space, clients, server, own_bytes),
        false => Room::Enough,
    };
    if room == Room::Making {
        go_on_later(server);
    } else {
        server.eviction.is_running = false;
    }
    let mono_us = server.clock.now().mono_us;
    server.eviction.note(room, mono_us);
    // What was spent here is not the command's time.
    server.clock.restart();
    room
}

fn evict(space: &mut Keyspace, clients: &mut Clients, server: &mut Server, own_bytes: u64) -> Room {
    let limit = server.config.maxmemory;
    if limit == 0 {
        return Room::Enough;
    }
    let policy = server.config.maxmemory_policy;
    let samples = server.config.maxmemory_samples as usize;
    let limit_ns = time_limit_ns(server.config.maxmemory_eviction_tenacity);
    let started = (server.parts.ticks)();
    // By the processor's counter, since the engine's clock stands still while a command runs.
    let elapsed_ns = |server: &Server| (server.parts.ticks)().saturating_sub(started);
    let mut room = Room::Enough;
    let mut keys = 0;
    // What has to be told of the keys that go is not there for long, and makes no more of them go.
    let told_before = server.effects.message_bytes();
    let mut told_bytes = 0;
    while counted_with(space, clients, server, own_bytes).saturating_sub(told_bytes) > limit {
        if space.evict_one(policy, samples) == Eviction::Nothing {
            room = Room::None;
            break;
        }
        keys += 1;
        if keys % KEYS_BETWEEN_CLOCKS == 0 {
            // Entries that another thread frees, events and deletions are handed on in between.
            call::settle(space, clients, server, None);
            told_bytes = server.effects.message_bytes() - told_before;
            if elapsed_ns(server) > limit_ns {
                room = Room::Making;
                break;
            }
        }
    }
    call::settle(space, clients, server, None);
    let elapsed_ns = elapsed_ns(server);
    server.observe_latency("eviction-cycle", elapsed_ns);
    room
}

/// How long a slice may take: half a millisecond at 10, from there on 15 % more with each step;
/// at 100 there is no limit.
fn time_limit_ns(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50_000 * u64::from(tenacity),
        11..=99 => (500_000.0 * 1.15f64.powi(tenacity.cast_signed() - 10)) as u64,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EventClasses, EvictionPolicy};
    use crate::engine::{ServerParts, testing::Bench};
    use std::cell::Cell;

    thread_local! {
        /// The fake allocator's figure, what one reading takes off it, and a clock.
        static USED: Cell<usize> = const { Cell::new(0) };
        static FALL: Cell<usize> = const { Cell::new(0) };
        static TICKS_NS: Cell<u64> = const { Cell::new(0) };
    }

    /// A server over a fake allocator, of which 100 bytes may be used.
    fn fixture(policy: EvictionPolicy) -> Bench {
        USED.set(50);
        FALL.set(0);
        let parts = ServerParts {
            used_memory: || {
                USED.set(USED.get().saturating_sub(FALL.get()));
                USED.get()
            },
            ticks: || {
                TICKS_NS.set(TICKS_NS.get() + 1000);
                TICKS_NS.get()
            },
            ..ServerParts::default()
        };
        let config = Config { maxmemory: 100, maxmemory_policy: policy, ..Config::default() };
        let mut bench = Bench::over(config, parts);
        bench.advance(5000);
        bench
    }

    fn fill(bench: &mut Bench, keys: usize) {
        for n in 0..keys {
            bench.expect(&format!("SET key:{n} v"), "+OK|");
        }
    }

    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.|";

    #[test]
    fn without_a_policy_commands_that_need_memory_are_refused() {
        let mut f = fixture(EvictionPolicy::NoEviction);
        assert_eq!(f.ask("SET k v"), "+OK|");
        USED.set(101);
        assert_eq!(f.ask("SET k w"), OOM);
        assert_eq!(f.ask("GET k"), "$1|v|");
        assert_eq!((f.ask("MULTI"), f.ask("SET k w")), ("+OK|".to_owned(), OOM.to_owned()));
        let spoilt = "-EXECABORT Transaction discarded because of previous errors.|";
        assert_eq!(f.ask("EXEC"), spoilt);
        assert_eq!(f.ask("DEL k"), ":1|");
        USED.set(100);
        assert_eq!(f.ask("SET k v"), "+OK|", "the limit itself may be used");
    }

    #[test]
    fn a_transaction_that_needs_memory_is_refused_as_a_whole() {
        let mut f = fixture(EvictionPolicy::NoEviction);
        f.ask("MULTI");
        assert_eq!(f.ask("SET k v"), "+QUEUED|");
        USED.set(101);
        let reason = OOM.trim_start_matches('-');
        let abort = format!("-EXECABORT Transaction discarded because of: {reason}");
        assert_eq!(f.ask("EXEC"), abort);
        f.ask("MULTI");
        assert_eq!(f.ask("GET k"), "+QUEUED|");
        assert_eq!(f.ask("EXEC"), "*1|$-1|");
    }

    #[test]
    fn what_a_transaction_has_queued_is_data() {
        let mut f = fixture(EvictionPolicy::NoEviction);
        f.engine.server.config.maxmemory = 10 << 20;
        f.ask("MULTI");
        let big = "x".repeat(3 << 20);
        let mut replies = Vec::new();
        for n in 0..5 {
            replies.push(f.ask(&format!("SET key:{n} {big}")));
            USED.set(50 + (n + 1) * (3 << 20));
        }
        assert_eq!(replies[..4], ["+QUEUED|"; 4]);
        assert_eq!(replies[4], OOM, "the queue itself is over the limit");
        assert!(f.ask("EXEC").starts_with("-EXECABORT"));
        assert_eq!(f.keys(), 0);
    }

    #[test]
    fn a_transaction_that_was_let_in_runs_as_a_whole_and_makes_no_key_go_in_between() {
        let mut f = fixture(EvictionPolicy::NoEviction);
        f.ask("MULTI");
        f.ask("SET a 1");
        f.ask("GET a");
        f.ask("SET b 1");
        FALL.set(0);
        // Each reading of the figure is higher than the one before.
        let parts = &mut f.engine.server.parts;
        parts.used_memory = || {
            USED.set(USED.get() + 20);
            USED.get()
        };
        USED.set(50);
        assert_eq!(f.ask("EXEC"), "*3|+OK|$1|1|+OK|");
        let mut f = fixture(EvictionPolicy::AllkeysRandom);
        f.ask("MULTI");
        f.ask("SET a 1");
        f.ask("CONFIG SET maxmemory 1");
        f.ask("GET a");
        assert_eq!(f.ask("EXEC"), "*3|+OK|+OK|$1|1|");
    }

    #[test]
    fn a_request_that_is_larger_than_the_limit_is_refused_and_makes_no_key_go() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        let limit = 10 << 20;
        f.engine.server.config.maxmemory = limit;
        fill(&mut f, 10);
        let big = "x".repeat(20 << 20);
        let hold = |f: &mut Bench, bytes: usize| {
            f.engine.clients.get_mut(f.client).expect("connected").io.query_bytes = bytes;
            f.engine.clients.recount(f.client);
            USED.set(50 + bytes);
        };
        hold(&mut f, big.len());
        assert_eq!(f.ask(&format!("SET key {big}")), OOM);
        assert_eq!(f.keys(), 10);
        assert_eq!(f.ask(&format!("ECHO {big}")).len(), big.len() + "$20971520||".len());
        assert_eq!(f.keys(), 10, "what is only a buffer makes no key go");
        let fits = "x".repeat(6 << 20);
        hold(&mut f, fits.len());
        USED.set((6 << 20) + (6 << 20));
        FALL.set(300 << 10);
        assert_eq!(f.ask(&format!("SET key {fits}")), "+OK|");
        assert!(f.keys() < 10, "some went for it");
    }

    #[test]
    fn keys_go_until_there_is_room() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        fill(&mut f, 100);
        USED.set(150);
        FALL.set(5);
        assert_eq!(f.ask("GET nothing"), "$-1|");
        assert_eq!((f.keys(), f.engine.keyspace.stats.evicted), (92, 8));
        assert!(!f.engine.is_evicting());
    }

    #[test]
    fn what_takes_long_is_done_in_slices() {
        let mut f = fixture(EvictionPolicy::AllkeysRandom);
        fill(&mut f, 3000);
        f.engine.server.config.maxmemory_eviction_tenacity = 1;
        USED.set(1_000_000);
        // 50 us are 50 readings of the clock; each reading takes one key more than sixteen.
        assert_eq!(f.ask("SET other v"), "+OK|", "there is progress, so the command runs");
        assert!(f.engine.is_evicting() && (1000..3000).contains(&f.keys()), "{}", f.keys());
        let mut slices = 0;
        while f.engine.evict_more() {
            slices += 1;
            assert!(slices < 10, "the eviction does not come to an end");
        }
        assert_eq!(f.keys(), 0);
        assert_eq!(f.ask("SET k v"), OOM, "nothing is left that could go");
        f.advance(1000);
        assert_eq!(f.engine.server.eviction.exceeded_now_ms(6_001_000), 1000);
        USED.set(1);
        assert_eq!(f.ask("SET k v"), "+OK|");
        assert_eq!(f.engine.server.eviction.exceeded_now_ms(6_001_000), 0);
        assert_eq!(f.engine.server.eviction.exceeded_total_ms(), 1000);
    }

    #[test]
    fn buffers_beyond_their_allowance_make_no_key_go() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        fill(&mut f, 10);
        let huge = 500 << 20;
        let session = f.engine.clients.get_mut(f.client).expect("connected");
        session.io.query_bytes = huge;
        f.engine.clients.recount(f.client);
        USED.set(huge + 50);
        assert_eq!(f.ask("SET k v"), OOM, "a small allowance counts with the data");
        assert_eq!(f.keys(), 0);
        USED.set(huge + 50 - (1 << 20));
        fill(&mut f, 10);
        assert_eq!(f.keys(), 10);
    }

    /// Otherwise the messages about keys that went would make more of them go.
    #[test]
    fn what_clients_are_told_of_it_makes_no_key_go() {
        let mut f = fixture(EvictionPolicy::AllkeysRandom);
        f.ask("HELLO 3");
        f.ask("CLIENT TRACKING on");
        for n in 0..100 {
            let key = format!("{n}:{}", "x".repeat(1000));
            f.ask(&format!("SET {key} v"));
            f.ask(&format!("GET {key}"));
        }
        USED.set(150);
        f.ask("GET nothing");
        assert_eq!(f.keys(), 100 - KEYS_BETWEEN_CLOCKS);
    }

    #[test]
    fn what_is_being_freed_makes_no_key_go() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        fill(&mut f, 10);
        f.engine.keyspace.changes.garbage_bytes = 1000;
        USED.set(1050);
        assert_eq!(f.ask("SET k v"), "+OK|");
        assert_eq!(f.keys(), 11);
        f.engine.server.eviction.freed_garbage_bytes = 1000;
        assert_eq!(f.ask("SET k v"), OOM);
    }

    #[test]
    fn evictions_are_told_and_propagated() {
        for (lazily, verb) in [(false, "DEL"), (true, "UNLINK")] {
            let mut f = fixture(EvictionPolicy::AllkeysLru);
            fill(&mut f, 1);
            f.engine.server.config.lazyfree_lazy_eviction = lazily;
            let mut f = f.recording(EventClasses::ALL);
            USED.set(105);
            FALL.set(2);
            assert_eq!(f.ask("GET key:0"), "$-1|");
            assert_eq!(f.told(), ["evicted key:0"]);
            assert_eq!(f.replayed(), [format!("{verb} key:0")]);
        }
    }

    #[test]
    fn a_watched_key_that_goes_breaks_the_watch() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        fill(&mut f, 1);
        f.ask("WATCH key:0");
        USED.set(105);
        FALL.set(2);
        f.ask("MULTI");
        f.ask("PING");
        assert_eq!(f.ask("EXEC"), "*-1|");
    }

    #[test]
    fn a_lower_limit_starts_at_once_and_a_pause_stops_it() {
        let mut f = fixture(EvictionPolicy::AllkeysLru);
        f.engine.server.config.maxmemory = 0;
        fill(&mut f, 10);
        USED.set(200);
        f.ask("CLIENT PAUSE 10000 WRITE");
        assert_eq!(f.ask("CONFIG SET maxmemory 100"), "+OK|");
        assert!(f.engine.is_evicting());
        assert!(!f.engine.evict_more() && f.keys() == 10);
        FALL.set(20);
        f.ask("CLIENT UNPAUSE");
        f.ask("GET nothing");
        assert_eq!(f.keys(), 8);
    }

    #[test]
    fn tenacity_is_a_time() {
        assert_eq!([0, 1, 10].map(time_limit_ns), [0, 50_000, 500_000]);
        assert_eq!(time_limit_ns(11), 575_000);
        assert!((120..130).contains(&(time_limit_ns(99) / 1_000_000_000)));
        assert_eq!(time_limit_ns(100), u64::MAX);
    }
}
