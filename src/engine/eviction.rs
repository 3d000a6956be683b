//! Staying within `maxmemory`: before each command, and in slices between turns.
//!
//! What counts is the data. Buffers of clients, and what the freeing thread has yet to free, are
//! taken off the allocator's figure, so a slow reader or a freed collection makes no key go. (In
//! Redis the buffers of ordinary clients do, which has emptied whole caches.) Clients have a limit
//! of their own, `maxmemory-clients`.
//!
//! A command that finds too much data makes keys go for at most half a millisecond, more with a
//! higher `maxmemory-eviction-tenacity`, and runs. What is left to do is done by the timer, in
//! slices between which others are served. Only when no key may go is a command that would need
//! memory refused.
//!
//! Invariant: deciding that there is room reads the allocator's counters and nothing else.

use super::{Clients, Cx, Effect, Engine, Server, dispatch};
use crate::command::{CommandError, Flags};
use crate::keyspace::{Eviction, Keyspace};

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
pub(super) fn there_is_room(cx: &mut Cx<'_>, flags: Flags) -> Result<(), CommandError> {
    let maxmemory = cx.server.config.maxmemory;
    if maxmemory == 0 {
        return Ok(());
    }
    let has_room = (cx.server.parts.used_memory)() as u64 <= maxmemory;
    if has_room && cx.server.eviction.exceeded_since_us.is_none() {
        return Ok(());
    }
    make_room_for(cx, flags)
}

#[cold]
fn make_room_for(cx: &mut Cx<'_>, flags: Flags) -> Result<(), CommandError> {
    // The reply under way is a buffer too, of which the figures do not know yet.
    let counted = cx.session().io.output_own_bytes;
    let unknown = cx.reply.buffer().own_memory().saturating_sub(counted);
    let room = make_room(cx.keys.space(), cx.clients, cx.server, unknown as u64);
    if room == Room::None && flags.has(Flags::DENYOOM) {
        return Err(CommandError::OutOfMemory);
    }
    Ok(())
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
    let freed = server.eviction.freed_garbage_bytes;
    let garbage = space.changes.garbage_bytes.saturating_sub(freed);
    clients.memory().buffer_bytes as u64 + garbage
}

fn counted_bytes(space: &Keyspace, clients: &Clients, server: &Server) -> u64 {
    let used = (server.parts.used_memory)() as u64;
    used.saturating_sub(not_counted_bytes(space, clients, server))
}

fn go_on_later(server: &mut Server) {
    if !server.eviction.is_running {
        server.eviction.is_running = true;
        server.effects.push(Effect::WakeTimer);
    }
}

/// Makes keys go until there is room or the time is over. `unknown_buffer_bytes` are bytes of
/// buffers that the clients' figures do not hold yet.
fn make_room(
    space: &mut Keyspace,
    clients: &mut Clients,
    server: &mut Server,
    unknown_buffer_bytes: u64,
) -> Room {
    let mono_ms = server.clock.mono_ms();
    // While clients are paused the data is to stay as it is.
    let room = if server.pause.is_active(mono_ms, true) {
        Room::Enough
    } else {
        evict(space, clients, server, unknown_buffer_bytes)
    };
    if room == Room::Making {
        go_on_later(server);
    } else {
        server.eviction.is_running = false;
    }
    let mono_us = server.clock.now().mono_us;
    server.eviction.note(room, mono_us);
    // What was spent here is not the command's time.
    server.clock.lap_ns();
    room
}

fn evict(space: &mut Keyspace, clients: &mut Clients, server: &mut Server, unknown: u64) -> Room {
    let limit = server.config.maxmemory.saturating_add(unknown);
    if server.config.maxmemory == 0 || counted_bytes(space, clients, server) <= limit {
        return Room::Enough;
    }
    let policy = server.config.maxmemory_policy;
    let samples = server.config.maxmemory_samples as usize;
    let limit_ns = time_limit_ns(server.config.maxmemory_eviction_tenacity);
    let started = (server.parts.ticks)();
    let mut room = Room::Enough;
    let mut keys = 0;
    while counted_bytes(space, clients, server) > limit {
        if space.evict_one(policy, samples) == Eviction::Nothing {
            room = Room::None;
            break;
        }
        keys += 1;
        if keys % KEYS_BETWEEN_CLOCKS == 0 {
            // Entries that another thread frees, events and deletions are handed on in between.
            dispatch::settle(space, clients, server);
            if (server.parts.ticks)().saturating_sub(started) > limit_ns {
                room = Room::Making;
                break;
            }
        }
    }
    dispatch::settle(space, clients, server);
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
