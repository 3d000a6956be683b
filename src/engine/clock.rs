//! Time as the engine is told it.
//!
//! Semantics (expiry, timeouts) follow [`Now`], which the driver passes in and which stands still
//! while a command runs. Measuring how long commands take needs a finer reading; it goes through
//! an injected function, so that a test measures zeros and the engine still reads no clock.

/// A moment on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall clock, microseconds since 1970: for everything users see.
    pub unix_us: u64,
    /// Monotonic clock, microseconds: for timeouts and ages.
    pub mono_us: u64,
}

/// A monotonic reading in nanoseconds, for measurements only.
pub type Ticks = fn() -> u64;

/// A reading of the clock, from which something is measured.
#[derive(Clone, Copy)]
pub struct Lap {
    ticks: u64,
    charged_ns: u64,
}

impl Lap {
    /// Nanoseconds from an earlier reading to this one.
    pub fn ns_since(self, earlier: Lap) -> u64 {
        self.ticks.saturating_sub(earlier.ticks)
    }
}

pub struct Clock {
    now: Now,
    started: Now,
    ticks: Ticks,
    last_ticks: u64,
    /// Ticks at the moment of `now`: commands within a turn derive their time from it.
    base_ticks: u64,
    /// Time that commands were going to take after their end, all in all.
    charged_ns: u64,
}

impl Clock {
    pub fn new(ticks: Ticks) -> Clock {
        let start = ticks();
        let zero = Now::default();
        Clock {
            now: zero,
            started: zero,
            ticks,
            last_ticks: start,
            base_ticks: start,
            charged_ns: 0,
        }
    }

    pub fn tick(&mut self, now: Now) {
        if self.started == Now::default() {
            self.started = now;
        }
        self.now = now;
        self.base_ticks = (self.ticks)();
        self.last_ticks = self.base_ticks;
    }

    /// Has it another time, for a command whose time stands still.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub fn now(&self) -> Now {
        self.now
    }

    pub fn started(&self) -> Now {
        self.started
    }

    pub fn unix_ms(&self) -> u64 {
        self.now.unix_us / 1000
    }

    pub fn unix_seconds(&self) -> u64 {
        self.now.unix_us / 1_000_000
    }

    pub fn mono_ms(&self) -> u64 {
        self.now.mono_us / 1000
    }

    pub fn uptime_seconds(&self) -> u64 {
        self.now.mono_us.saturating_sub(self.started.mono_us) / 1_000_000
    }

    /// The last reading: one reading ends a command and starts the next.
    #[inline]
    pub fn lap(&self) -> Lap {
        Lap { ticks: self.last_ticks, charged_ns: self.charged_ns }
    }

    /// Nanoseconds since a reading, whatever has been measured in between; a new reading.
    #[inline]
    pub fn since_ns(&mut self, lap: Lap) -> u64 {
        self.last_ticks = (self.ticks)();
        let elapsed_ns = self.last_ticks.saturating_sub(lap.ticks);
        elapsed_ns.saturating_add(self.charged_ns - lap.charged_ns)
    }

    /// A new reading, when what came before is nobody's.
    pub fn restart(&mut self) {
        self.last_ticks = (self.ticks)();
    }

    /// Nanoseconds from the last tick to the last lap.
    #[inline]
    pub fn since_tick_ns(&self) -> u64 {
        self.last_ticks.saturating_sub(self.base_ticks)
    }

    /// Counts, with the running command, a time that the driver is going to spend for it.
    pub fn charge_ns(&mut self, ns: u64) {
        self.charged_ns = self.charged_ns.saturating_add(ns);
    }

    /// The wall clock at the last lap, in microseconds.
    pub fn lap_unix_us(&self) -> u64 {
        self.now.unix_us + (self.last_ticks - self.base_ticks) / 1000
    }

    /// The wall clock at the last lap, in milliseconds.
    pub fn lap_unix_ms(&self) -> u64 {
        self.lap_unix_us() / 1000
    }
}
