//! An attempt's begin and end: whom to follow, the dial, and when to try again.
//!
//! What may succeed at once is tried at once (a link that was lost, a silent peer); what would fail
//! in the same way waits. The first is what keeps an outage within the primary's backlog.

use super::context::Context;
use super::handshake::request;
use super::stream::Keep;
use super::{
    Action, Attempt, Closed, LINE_MS_MAX, Link, NewIds, Primary, Purpose, REDIAL_MS_MIN, RETRY_MS,
    Stage, State,
};
use crate::repl::ids::ReplicationId;

/// Why a dial is made, as the log tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Asked,
    Lost,
    Failure,
}

/// Who ends an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Us,
    Peer,
}

impl Link {
    pub(super) fn follow(&mut self, primary: Primary, purpose: Purpose, cx: &mut Context) {
        if self.primary.as_ref() == Some(&primary) && purpose == Purpose::Follow {
            return;
        }
        match self.state {
            State::None if purpose == Purpose::Copy => {}
            State::None => self.offer_own_history(cx),
            State::Connected => self.lose(By::Us, Keep::History, cx),
            _ => self.end(By::Us, cx),
        }
        if purpose == Purpose::Copy {
            self.discard(cx);
        }
        self.primary = Some(primary);
        self.is_failover = purpose == Purpose::Failover;
        self.failed_loads = 0;
        self.dial(Reason::Asked, cx);
    }

    /// A primary that becomes a replica was written to alone until now, so whoever was its replica
    /// shares its history. What that one wrote since begins with a SELECT.
    fn offer_own_history(&mut self, cx: &mut Context) {
        cx.notice(
            "Before turning into a replica, using my own master parameters to synthesize a cached \
             master: I may be able to synchronize with the new master with just a partial \
             transfer.",
        );
        self.stream_db = Some(0);
    }

    pub(super) fn promote(&mut self, fresh: ReplicationId, cx: &mut Context) {
        match self.state {
            State::None => return,
            State::Connected => self.lose(By::Us, Keep::History, cx),
            _ => self.end(By::Us, cx),
        }
        self.discard(cx);
        let old = self.history.id();
        self.history.shift(fresh);
        cx.notice(format!(
            "Setting secondary replication ID to {old}, valid up to offset: {}. New replication ID \
             is {fresh}",
            self.history.second_offset_end(),
        ));
        cx.act(Action::NewIds(NewIds::Renamed));
        cx.act(Action::CutReplicas);
        self.state = State::None;
        self.primary = None;
        self.is_failover = false;
        self.down_ms = None;
    }

    /// The history can no longer be continued.
    pub(super) fn discard(&mut self, cx: &mut Context) {
        if self.stream_db.take().is_some() {
            cx.notice("Discarding previously cached master state.");
        }
    }

    pub(super) fn dial(&mut self, reason: Reason, cx: &mut Context) {
        let Primary { host, port } = self.primary.clone().expect("whoever dials follows somebody");
        cx.notice(match reason {
            Reason::Asked => format!("Connecting to MASTER {host}:{port}"),
            Reason::Lost => format!("Reconnecting to MASTER {host}:{port}"),
            Reason::Failure => format!("Reconnecting to MASTER {host}:{port} after failure"),
        });
        cx.notice("MASTER <-> REPLICA sync started");
        self.attempts += 1;
        self.is_live = true;
        self.state = State::Connecting;
        self.dialled_ms = Some(cx.now_ms);
        self.io_ms = cx.now_ms;
        self.line_ms = None;
        self.unapplied = 0;
        cx.act(Action::Dial { attempt: Attempt(self.attempts), host, port });
    }

    /// Tries again at once, unless the last time was just now.
    pub(super) fn redial(&mut self, reason: Reason, cx: &mut Context) {
        match self.dialled_ms {
            Some(then) if cx.since(then) < REDIAL_MS_MIN => {
                self.state = State::Connect { due_ms: then.saturating_add(REDIAL_MS_MIN) };
            }
            _ => self.dial(reason, cx),
        }
    }

    /// Tries again later.
    pub(super) fn retry_in(&mut self, wait_ms: u64, cx: &Context) {
        self.state = State::Connect { due_ms: cx.now_ms.saturating_add(wait_ms) };
    }

    /// Ends the attempt, whatever it was at. The caller says what comes then.
    pub(super) fn end(&mut self, by: By, cx: &mut Context) {
        if let State::Transfer(transfer) = &self.state
            && transfer.stage != Stage::Header
        {
            cx.act(Action::AbortLoad);
        }
        if self.is_live && by == By::Us {
            cx.act(Action::CloseLink);
        }
        self.is_live = false;
        self.state = State::Connect { due_ms: cx.now_ms };
    }

    /// Gives up what another try at once would not mend.
    pub(super) fn give_up(&mut self, by: By, why: impl Into<String>, cx: &mut Context) {
        cx.warn(why);
        self.end(by, cx);
        self.retry_in(RETRY_MS, cx);
    }

    pub(super) fn fail_dial(&mut self, why: String, cx: &mut Context) {
        if matches!(self.state, State::Connecting) {
            self.give_up(By::Peer, why, cx);
        }
    }

    pub(super) fn greet(&mut self, cx: &mut Context) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        cx.notice("Non blocking connect for SYNC fired the event.");
        self.io_ms = cx.now_ms;
        self.state = State::Ping;
        cx.act(Action::Send(request(&[b"PING"])));
    }

    pub(super) fn watch_handshake(&mut self, cx: &mut Context) {
        if cx.since(self.io_ms) > cx.settings.timeout_ms {
            cx.warn("Timeout connecting to the MASTER...");
            self.end(By::Us, cx);
            self.redial(Reason::Failure, cx);
        } else if self.is_line_late(cx) {
            self.give_up(By::Us, self.silence(), cx);
        }
    }

    pub(super) fn is_line_late(&self, cx: &Context) -> bool {
        self.line_ms.is_some_and(|then| cx.since(then) > LINE_MS_MAX)
    }

    /// That an answer did not come.
    fn silence(&self) -> &'static str {
        match self.state {
            State::Psync => "Master did not reply to PSYNC, will try later",
            _ => "Master did not respond to command during SYNC handshake",
        }
    }

    /// So many bytes arrived. While lines are read they do not count as a sign of life: a peer that
    /// never ends a line would keep us for ever.
    pub(super) fn count(&mut self, bytes: u64, cx: &mut Context) {
        match &mut self.state {
            State::Transfer(transfer) if transfer.stage != Stage::Header => {
                transfer.bytes_read = transfer.bytes_read.saturating_add(bytes);
                self.io_ms = cx.now_ms;
                self.keep_alive(cx);
            }
            State::Connected => {
                self.unapplied = self.unapplied.saturating_add(bytes);
                self.io_ms = cx.now_ms;
            }
            _ => _ = self.line_ms.get_or_insert(cx.now_ms),
        }
    }

    pub(super) fn close(&mut self, reason: Closed, cx: &mut Context) {
        let text = reason.text();
        match &self.state {
            State::None | State::Connect { .. } => {}
            State::Connecting => {
                self.fail_dial(format!("Error condition on socket for SYNC: {text}"), cx);
            }
            State::Ping | State::Handshake(_) | State::Psync => {
                self.close_handshake(reason, cx);
            }
            State::Transfer(_) => self.close_transfer(text, cx),
            State::Connected => self.close_stream(reason, cx),
        }
    }

    fn close_handshake(&mut self, reason: Closed, cx: &mut Context) {
        let is_psync = matches!(self.state, State::Psync);
        let why = match reason {
            Closed::WriteFailed(text) if is_psync => {
                self.fail_failover("Write error to failover target", cx);
                format!("Unable to send PSYNC to master: {text}")
            }
            Closed::WriteFailed(text) => {
                format!("Sending command to master in replication handshake: {text}")
            }
            _ => self.silence().to_owned(),
        };
        self.give_up(By::Peer, why, cx);
    }

    pub(super) fn fail_failover(&mut self, why: &'static str, cx: &mut Context) {
        if std::mem::take(&mut self.is_failover) {
            cx.act(Action::FailoverFailed(why));
        }
    }
}
