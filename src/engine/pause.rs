//! CLIENT PAUSE: until when which clients wait.

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum PauseMode {
    /// Commands that may write wait.
    Writes,
    /// Every command waits.
    All,
}

#[derive(Default)]
pub struct Pause {
    current: Option<(PauseMode, u64)>,
}

impl Pause {
    /// Pauses until a moment of the monotonic clock. A pause in force is never made shorter or
    /// weaker by another one.
    pub fn start(&mut self, mode: PauseMode, until_ms: u64) {
        let (old_mode, old_until) = self.current.unwrap_or((mode, until_ms));
        self.current = Some((mode.max(old_mode), until_ms.max(old_until)));
    }

    pub fn end(&mut self) {
        self.current = None;
    }

    pub fn is_active(&self, mono_ms: u64, writes: bool) -> bool {
        match self.current {
            Some((mode, until_ms)) => mono_ms < until_ms && (mode == PauseMode::All || writes),
            None => false,
        }
    }

    /// When the pause ends by itself.
    pub fn until_ms(&self) -> Option<u64> {
        self.current.map(|(_, until_ms)| until_ms)
    }

    /// The wire name for INFO: what is paused, and until when.
    pub fn mode(&self, mono_ms: u64) -> Option<(PauseMode, u64)> {
        self.current.filter(|(_, until_ms)| mono_ms < *until_ms)
    }
}
