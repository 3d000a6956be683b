//! A slot that goes to another node as a whole: what its owner does, step by step, as a machine.
//!
//! The slots' keys go as they are at one moment, and behind them what is written to them since.
//! When little of that is left, writes to these slots wait; when the target has all of it, it is
//! asked to take them. It claims them under a new epoch, of which everybody hears as of every
//! claim. So no client is ever asked to look in two places, and there is one owner at every moment:
//! this node until it hears the claim, as after a failover.
//!
//! **The time in which the target may claim is over before writes go on here.** It is told how long
//! it has, counted from when it last answered, which is before it was asked and so by any clock
//! before our own time runs out. Whether it has claimed cannot be known when the connection breaks
//! in between: writes then wait for the claim, or until it can no longer come.

use super::id::NodeId;
use crate::keyspace::slot::Slot;

#[cfg(test)]
mod tests;

/// Of the time in which writes may wait, in this part the target may claim. The rest is for the
/// claim to be made safe, on a disk that may be slow, and to come.
const CLAIM_DIVISOR: u64 = 4;

/// A target that is busy with another move is asked again.
const RETRY_MS: u64 = 200;

/// The numbers that bound a move.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest time in which writes wait.
    pub pause_ms: u64,
    /// They begin to wait when no more bytes than this are on their way.
    pub lag_bytes: u64,
    /// How long the claim of a target that has told of it may take to be heard.
    pub claim_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Another move comes first, or the target is busy.
    Waiting,
    Connecting,
    /// The target has yet to say whether it takes them.
    Offering,
    /// It does; the keys are to be kept as they are.
    Accepted,
    Sending,
    /// All keys were sent; what is written follows.
    Streaming,
    /// Writes are to wait, from the end of this turn on.
    Pausing,
    /// Writes wait, and the target has not all of them yet.
    Draining,
    /// The target was asked to take the slots.
    Taking,
    /// It says that it has taken them; that is to be heard from the cluster.
    Taken,
    Success,
    Failed,
    Cancelled,
}

impl State {
    pub fn is_over(self) -> bool {
        matches!(self, State::Success | State::Failed | State::Cancelled)
    }

    /// Whether it is the move's turn.
    pub fn is_under_way(self) -> bool {
        self != State::Waiting && !self.is_over()
    }

    /// Whether what is written to the slots is to be sent.
    pub fn is_sending(self) -> bool {
        use State::{Draining, Pausing, Sending, Streaming, Taken, Taking};
        matches!(self, Sending | Streaming | Pausing | Draining | Taking | Taken)
    }

    /// As tools are shown it.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Connecting => "connecting",
            State::Offering | State::Accepted => "establishing",
            State::Sending => "snapshotting",
            State::Streaming => "streaming",
            State::Pausing | State::Draining => "paused",
            State::Taking | State::Taken => "handing-over",
            State::Success => "success",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'e> {
    /// No other move is under way.
    Turn,
    Connected,
    Accepted,
    /// The target does not take them; perhaps it does later, if it is busy.
    Refused {
        reason: &'e str,
        is_busy: bool,
    },
    /// The keys have been kept as they are, and what is written since is recorded.
    Kept,
    /// The target has all keys that were kept.
    Poured,
    /// So many bytes of what was written were sent, since the beginning.
    Said(u64),
    /// So many of them the target has carried out.
    Acked(u64),
    /// Nobody is in the middle of a write any more, and what was written was sent.
    Still,
    /// The target says that it has taken the slots.
    Taken,
    /// The cluster says so.
    Claimed,
    /// The connection has ended.
    Lost(&'e str),
    /// Something has happened by which the move cannot go on.
    Spoilt(&'e str),
    Cancel,
    Tick,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Dial,
    Offer,
    /// Writes to the slots wait.
    Pause,
    /// Ask the target to take the slots, for which it has so long since it last answered.
    Take {
        valid_ms: u64,
    },
    /// Nothing is to be sent any more, and writes may go on.
    End,
}

/// A move, as its source has it.
#[derive(Clone, Debug)]
pub struct Export {
    pub state: State,
    pub target: NodeId,
    pub slots: Vec<Slot>,
    /// Why it is over.
    pub message: String,
    /// How long writes have waited in the end.
    pub paused_for_ms: u64,
    /// The bytes of what was written that were sent, and carried out.
    pub said: u64,
    pub acked: u64,
    /// Since when writes wait, and until when at most.
    paused: Option<(u64, u64)>,
    is_lost: bool,
    retry_ms: u64,
}

impl Export {
    pub fn new(target: NodeId, slots: Vec<Slot>) -> Export {
        Export {
            state: State::Waiting,
            target,
            slots,
            message: String::new(),
            paused_for_ms: 0,
            said: 0,
            acked: 0,
            paused: None,
            is_lost: false,
            retry_ms: 0,
        }
    }

    /// Whether it waits for nothing but its turn.
    pub fn wants_turn(&self, now_ms: u64) -> bool {
        self.state == State::Waiting && self.retry_ms <= now_ms
    }

    /// Whether writes to its slots wait.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// What follows from what has happened; the time is that of the clock that measures.
    pub fn handle(&mut self, event: Event<'_>, now_ms: u64, bounds: &Bounds) -> Option<Action> {
        if self.state.is_over() {
            return None;
        }
        match event {
            Event::Cancel => return self.cancel(now_ms),
            Event::Spoilt(reason) => return self.spoil(reason, now_ms),
            Event::Lost(reason) => return self.lose(reason, now_ms),
            Event::Claimed => return self.take_claim(now_ms),
            Event::Tick => return self.tick(now_ms),
            Event::Said(said) => self.said = said,
            Event::Acked(acked) => self.acked = acked,
            _ => {}
        }
        match (self.state, event) {
            (State::Waiting, Event::Turn) => self.go_on(State::Connecting, Action::Dial),
            (State::Connecting, Event::Connected) => self.go_on(State::Offering, Action::Offer),
            (State::Offering, Event::Accepted) => self.wait_in(State::Accepted),
            (State::Offering, Event::Refused { is_busy: true, .. }) => {
                self.retry_ms = now_ms + RETRY_MS;
                self.go_on(State::Waiting, Action::End)
            }
            (State::Accepted, Event::Kept) => self.wait_in(State::Sending),
            (State::Sending, Event::Poured) => {
                self.state = State::Streaming;
                self.pause_if_little_is_left(now_ms, bounds)
            }
            (State::Streaming, _) => self.pause_if_little_is_left(now_ms, bounds),
            (State::Pausing, Event::Still) => {
                self.state = State::Draining;
                self.ask_if_all_is_there(now_ms)
            }
            (State::Draining, _) => self.ask_if_all_is_there(now_ms),
            (State::Taking, Event::Taken) => {
                let (since_ms, until_ms) = self.paused.unwrap_or((now_ms, now_ms));
                self.paused = Some((since_ms, until_ms.max(now_ms + bounds.claim_ms)));
                self.wait_in(State::Taken)
            }
            (_, Event::Refused { reason, .. }) => self.end(State::Failed, reason, now_ms),
            _ => None,
        }
    }

    fn go_on(&mut self, state: State, action: Action) -> Option<Action> {
        self.state = state;
        Some(action)
    }

    fn wait_in(&mut self, state: State) -> Option<Action> {
        self.state = state;
        None
    }

    fn pause_if_little_is_left(&mut self, now_ms: u64, bounds: &Bounds) -> Option<Action> {
        if self.said - self.acked > bounds.lag_bytes {
            return None;
        }
        self.paused = Some((now_ms, now_ms.saturating_add(bounds.pause_ms)));
        self.go_on(State::Pausing, Action::Pause)
    }

    fn ask_if_all_is_there(&mut self, now_ms: u64) -> Option<Action> {
        let (since_ms, until_ms) = self.paused.filter(|_| self.acked == self.said)?;
        let ends_ms = since_ms + (until_ms - since_ms) / CLAIM_DIVISOR;
        let valid_ms = ends_ms.saturating_sub(now_ms);
        if valid_ms == 0 {
            return self.end(State::Failed, "Writes had to wait for too long", now_ms);
        }
        self.go_on(State::Taking, Action::Take { valid_ms })
    }

    fn take_claim(&mut self, now_ms: u64) -> Option<Action> {
        if matches!(self.state, State::Taking | State::Taken) {
            return self.end(State::Success, "", now_ms);
        }
        self.end(State::Failed, "The target has claimed the slots without the move", now_ms)
    }

    fn cancel(&mut self, now_ms: u64) -> Option<Action> {
        let is_too_late = matches!(self.state, State::Taking | State::Taken);
        if is_too_late { None } else { self.end(State::Cancelled, "Cancelled by a client", now_ms) }
    }

    fn spoil(&mut self, reason: &str, now_ms: u64) -> Option<Action> {
        if matches!(self.state, State::Taking | State::Taken) {
            // It may be the target's already.
            return self.lose(reason, now_ms);
        }
        self.end(State::Failed, reason, now_ms)
    }

    fn lose(&mut self, reason: &str, now_ms: u64) -> Option<Action> {
        if matches!(self.state, State::Taking | State::Taken) {
            // It may have heard us.
            self.is_lost = true;
            reason.clone_into(&mut self.message);
            return None;
        }
        self.end(State::Failed, reason, now_ms)
    }

    fn tick(&mut self, now_ms: u64) -> Option<Action> {
        let (_, until_ms) = self.paused?;
        if now_ms < until_ms {
            return None;
        }
        let reason = match self.is_lost {
            true => std::mem::take(&mut self.message),
            false if self.state == State::Taken => "The target's claim was not heard".to_owned(),
            false => "Writes had to wait for too long".to_owned(),
        };
        self.end(State::Failed, &reason, now_ms)
    }

    fn end(&mut self, state: State, reason: &str, now_ms: u64) -> Option<Action> {
        if let Some((since_ms, _)) = self.paused.take() {
            self.paused_for_ms = now_ms.saturating_sub(since_ms);
        }
        reason.clone_into(&mut self.message);
        self.go_on(state, Action::End)
    }
}
