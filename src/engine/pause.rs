//! Until when which clients wait, and on whose account.
//!
//! CLIENT PAUSE, a shutdown and a hand-over each pause clients for a reason of their own, and none
//! of them may end what another one has begun; what is in force is all of them together.

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum PauseMode {
    /// Commands that may write wait.
    Writes,
    /// Every command waits.
    All,
}

/// On whose account clients wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseOwner {
    /// CLIENT PAUSE.
    Client,
    /// The server ends when its replicas have all.
    Shutdown,
    /// A replica takes over when it has all.
    Failover,
    /// The same in a cluster.
    Cluster,
}

const OWNERS: usize = 4;

/// A pause that ends at a moment of the monotonic clock; at `u64::MAX` never by itself.
type Until = (PauseMode, u64);

#[derive(Default)]
pub struct Pause {
    of: [Option<Until>; OWNERS],
}

impl Pause {
    /// Pauses until a moment of the monotonic clock. A pause in force is never made shorter or
    /// weaker by another one.
    pub fn start(&mut self, owner: PauseOwner, mode: PauseMode, until_ms: u64) {
        let own = &mut self.of[owner as usize];
        let (old_mode, old_until) = own.unwrap_or((mode, until_ms));
        *own = Some((mode.max(old_mode), until_ms.max(old_until)));
    }

    /// Ends what one has begun; others' pauses stay.
    pub fn end(&mut self, owner: PauseOwner) {
        self.of[owner as usize] = None;
    }

    /// Ends those whose time is over; true if there was one.
    pub fn end_due(&mut self, mono_ms: u64) -> bool {
        let mut any = false;
        for own in &mut self.of {
            any |= own.take_if(|(_, until_ms)| *until_ms <= mono_ms).is_some();
        }
        any
    }

    pub fn is_active(&self, mono_ms: u64, writes: bool) -> bool {
        let is_in_force =
            |(mode, until_ms): &Until| mono_ms < *until_ms && (*mode == PauseMode::All || writes);
        self.of.iter().flatten().any(is_in_force)
    }

    /// Whether writes wait because somebody else is to take over.
    pub fn is_for_hand_over(&self) -> bool {
        let owners = [PauseOwner::Shutdown, PauseOwner::Failover, PauseOwner::Cluster];
        owners.into_iter().any(|owner| self.is_held_by(owner))
    }

    pub fn is_held_by(&self, owner: PauseOwner) -> bool {
        self.of[owner as usize].is_some()
    }

    /// When the first of them ends by itself.
    pub fn until_ms(&self) -> Option<u64> {
        let ends = self.of.iter().flatten().map(|(_, until_ms)| *until_ms);
        ends.filter(|until_ms| *until_ms < u64::MAX).min()
    }

    /// What is paused, by whom, and until when, for INFO.
    pub fn in_force(&self, mono_ms: u64) -> Option<(PauseMode, PauseOwner, u64)> {
        let owners =
            [PauseOwner::Client, PauseOwner::Shutdown, PauseOwner::Failover, PauseOwner::Cluster];
        let all = owners.into_iter().filter_map(|owner| {
            let (mode, until_ms) = self.of[owner as usize]?;
            (mono_ms < until_ms).then_some((mode, owner, until_ms))
        });
        all.max_by_key(|(mode, _, until_ms)| (*mode, *until_ms))
    }
}
