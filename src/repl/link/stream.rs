//! The live stream: how far it is applied, that the primary is told, and what is kept of it when
//! the link is lost.

use super::attempt::{By, Reason};
use super::context::Context;
use super::handshake::acknowledgement;
use super::{Action, Closed, Link, REPORT_MS, State};

/// What is told of an offset that there is not.
const UNKNOWN_OFFSET: i64 = -1;

/// What is left of a link that was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The stream can be continued where it was applied up to.
    History,
    Nothing,
}

impl Link {
    pub(super) fn begin_stream(&mut self, db: u32, cx: &mut Context) {
        self.state = State::Connected;
        self.io_ms = cx.now_ms;
        self.ack_ms = cx.now_ms;
        self.down_ms = None;
        cx.act(Action::BeginStream { db });
    }

    pub(super) fn watch_stream(&mut self, cx: &mut Context) {
        if cx.since(self.io_ms) > cx.settings.timeout_ms {
            cx.warn("MASTER timeout: no data nor PING received...");
            self.lose(By::Us, Keep::History, cx);
            self.redial(Reason::Lost, cx);
        } else if cx.since(self.ack_ms) >= REPORT_MS {
            self.acknowledge(cx);
        }
    }

    /// A primary that told no offset could make nothing of one. If it streams its snapshot, it
    /// sends nothing more until it hears that we have it, and may not be listening at once.
    pub(super) fn acknowledge(&mut self, cx: &mut Context) {
        let (offset, synced) = match self.stream_db {
            Some(_) => (self.history.offset(), self.synced),
            None if self.acks_blindly => (UNKNOWN_OFFSET, None),
            None => return,
        };
        if self.is_connected() {
            self.ack_ms = cx.now_ms;
            cx.act(Action::Send(acknowledgement(offset, synced)));
        }
    }

    pub(super) fn apply(&mut self, bytes: u64, db: u32, cx: &mut Context) {
        if !self.is_connected() {
            return self.stray(cx);
        }
        self.history.advance(bytes);
        self.unapplied = self.unapplied.saturating_sub(bytes);
        self.stream_db = self.stream_db.map(|_| db);
    }

    /// Something was applied that no present stream has brought. The dataset is no longer what our
    /// offset says, so it must not be continued from there.
    pub(super) fn stray(&mut self, cx: &mut Context) {
        match self.state {
            State::None => {}
            State::Connected => {
                self.lose(By::Us, Keep::Nothing, cx);
                self.redial(Reason::Lost, cx);
            }
            _ => self.discard(cx),
        }
    }

    pub(super) fn close_stream(&mut self, reason: Closed, cx: &mut Context) {
        if reason == Closed::Inline {
            cx.warn(
                "WARNING: Receiving inline protocol from master, master stream corruption? Closing \
                 the master connection and discarding the cached master.",
            );
        }
        let keep = match reason {
            Closed::Protocol | Closed::Inline => Keep::Nothing,
            Closed::ByPeer | Closed::Error(_) | Closed::WriteFailed(_) => Keep::History,
        };
        self.lose(By::Peer, keep, cx);
        self.redial(Reason::Lost, cx);
    }

    /// What arrived and was not applied, an open transaction too, is forgotten: the primary sends
    /// it again.
    pub(super) fn lose(&mut self, by: By, keep: Keep, cx: &mut Context) {
        self.end(by, cx);
        cx.notice("Connection with master lost.");
        self.unapplied = 0;
        self.down_ms = Some(cx.now_ms);
        match keep {
            Keep::History if self.stream_db.is_some() => {
                cx.notice("Caching the disconnected master state.");
            }
            Keep::History => {}
            Keep::Nothing => self.discard(cx),
        }
    }
}
