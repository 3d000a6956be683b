//! What every step of the machine has at hand: the time, what is configured, and where it notes
//! what is to be done.

use super::{Action, Level, Settings};

pub struct Context<'c> {
    pub now_ms: u64,
    pub settings: &'c Settings,
    actions: &'c mut Vec<Action>,
}

impl<'c> Context<'c> {
    pub fn new(now_ms: u64, settings: &'c Settings, actions: &'c mut Vec<Action>) -> Context<'c> {
        Context { now_ms, settings, actions }
    }

    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn notice(&mut self, text: impl Into<String>) {
        self.act(Action::Log(Level::Notice, text.into()));
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        self.act(Action::Log(Level::Warning, text.into()));
    }

    /// How long ago that was. The clock of the caller may have stood at nothing then.
    pub fn since(&self, then_ms: u64) -> u64 {
        self.now_ms.saturating_sub(then_ms)
    }
}

/// What a peer sent, fit for a line of the log.
pub fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, "?")
}
