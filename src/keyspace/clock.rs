//! When an entry was last used, or how often: the 24 bits that eviction decides on.
//!
//! Under an LRU policy the bits are seconds of the wall clock modulo 2^24; under an LFU policy
//! they are 16 bits of minutes and an 8-bit logarithmic counter, as Redis keeps them, so that RDB
//! hints and OBJECT FREQ mean the same.

use crate::structs::prng::Prng;
use std::cell::Cell;

/// What the 24 bits mean now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessPolicy {
    #[default]
    Recency,
    Frequency,
}

/// A new entry starts with this count, so that it is not the first to go.
const LFU_INIT: u8 = 5;
const LRU_MASK: u32 = (1 << 24) - 1;

/// The clock that entries are stamped with.
#[derive(Clone)]
pub struct AccessClock {
    pub policy: AccessPolicy,
    pub lfu_log_factor: u32,
    /// Minutes after which the counter loses one; 0 never.
    pub lfu_decay_minutes: u32,
    now_seconds: u32,
    draws: Cell<u64>,
}

impl Default for AccessClock {
    fn default() -> Self {
        AccessClock {
            policy: AccessPolicy::Recency,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            now_seconds: 0,
            draws: Cell::new(0x9E37_79B9_7F4A_7C15),
        }
    }
}

impl AccessClock {
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_seconds = ((now_ms / 1000) & u64::from(LRU_MASK)) as u32;
    }

    /// The value of `lru_clock` in INFO.
    pub fn seconds(&self) -> u32 {
        self.now_seconds
    }

    /// The stamp of a new entry.
    pub fn fresh(&self) -> u32 {
        match self.policy {
            AccessPolicy::Recency => self.now_seconds,
            AccessPolicy::Frequency => self.minutes() << 8 | u32::from(LFU_INIT),
        }
    }

    /// The stamp after one more access to an entry stamped `old`.
    pub fn touched(&self, old: u32) -> u32 {
        match self.policy {
            AccessPolicy::Recency => self.now_seconds,
            AccessPolicy::Frequency => {
                let counter = self.increment(self.frequency(old));
                self.minutes() << 8 | u32::from(counter)
            }
        }
    }

    /// Seconds since the last access, by a stamp of the recency policy.
    pub fn idle_seconds(&self, stamp: u32) -> u64 {
        u64::from(self.now_seconds.wrapping_sub(stamp) & LRU_MASK)
    }

    /// A stamp as if the last access had been so long ago.
    pub fn idle_stamp(&self, idle_seconds: u64) -> u32 {
        self.now_seconds.wrapping_sub((idle_seconds & u64::from(LRU_MASK)) as u32) & LRU_MASK
    }

    /// A stamp with this counter.
    pub fn frequency_stamp(&self, counter: u8) -> u32 {
        self.minutes() << 8 | u32::from(counter)
    }

    /// The logarithmic access counter of a stamp, decayed to now.
    pub fn frequency(&self, stamp: u32) -> u8 {
        let counter = (stamp & 0xff) as u8;
        let elapsed = self.minutes().wrapping_sub(stamp >> 8) & 0xffff;
        let periods = elapsed.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        counter.saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
    }

    /// How little an entry is used, by a stamp of the frequency policy: first by the decayed
    /// counter, then by the minutes since the last access.
    pub fn disuse(&self, stamp: u32) -> u64 {
        let minutes = self.minutes().wrapping_sub(stamp >> 8) & 0xffff;
        u64::from(u8::MAX - self.frequency(stamp)) << 16 | u64::from(minutes)
    }

    fn minutes(&self) -> u32 {
        (self.now_seconds / 60) & 0xffff
    }

    /// One more access counts with a probability that falls as the counter grows.
    fn increment(&self, counter: u8) -> u8 {
        if counter == u8::MAX {
            return counter;
        }
        let base = u32::from(counter.saturating_sub(LFU_INIT));
        let odds = f64::from(base) * f64::from(self.lfu_log_factor) + 1.0;
        let mut prng = Prng::seeded(self.draws.get());
        self.draws.set(prng.next_u64());
        if prng.f64_unit() < 1.0 / odds { counter + 1 } else { counter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recency_wraps_and_idles() {
        let mut clock = AccessClock::default();
        clock.set_now(1_700_000_000_000);
        let stamp = clock.fresh();
        clock.set_now(1_700_000_010_000);
        assert_eq!(clock.idle_seconds(stamp), 10);
        assert_eq!(clock.idle_seconds(clock.idle_stamp(1000)), 1000);
    }

    #[test]
    fn frequency_grows_logarithmically_and_decays() {
        let mut clock = AccessClock { policy: AccessPolicy::Frequency, ..Default::default() };
        clock.set_now(1_700_000_000_000);
        let mut stamp = clock.fresh();
        for _ in 0..100 {
            stamp = clock.touched(stamp);
        }
        let counter = clock.frequency(stamp);
        assert!((6..40).contains(&counter), "100 accesses count about ten: {counter}");
        clock.set_now(1_700_000_000_000 + 3 * 60_000);
        assert_eq!(clock.frequency(stamp), counter - 3);
    }
}
