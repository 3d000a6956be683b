//! A full sync, from its header to the dataset that it brings or does not bring.
//!
//! Who loads tells three things beside success and failure: that the old dataset was emptied, from
//! when on our history is nobody's; that the snapshot has arrived as a whole, from when on the link
//! may be lost without harm; and how a failure came about. A snapshot that is broken will most
//! likely be broken again, and costs the primary one more each time, so the next one waits.

use super::answers::{Moment, Payload};
use super::attempt::{By, Reason};
use super::context::Context;
use super::stream::Keep;
use super::{
    Action, Link, LoadFailure, LoadFrom, NewIds, RELOAD_MS_MAX, REPORT_MS, RETRY_MS, Stage, State,
    Transfer,
};
use crate::repl::ids::ReplicationId;

impl Link {
    /// The transfer, once something is being loaded.
    fn load(&mut self) -> Option<&mut Transfer> {
        match &mut self.state {
            State::Transfer(transfer) if transfer.stage != Stage::Header => Some(transfer),
            _ => None,
        }
    }

    pub(super) fn watch_transfer(&mut self, cx: &mut Context) {
        let State::Transfer(Transfer { stage, .. }) = self.state else { return };
        let is_awaited = !matches!(stage, Stage::Received { .. });
        if is_awaited && cx.since(self.io_ms) > cx.settings.timeout_ms {
            cx.warn(
                "Timeout receiving bulk data from MASTER... If the problem persists try to set the \
                 'repl-timeout' parameter in redis.conf to a larger value.",
            );
            self.end(By::Us, cx);
            self.redial(Reason::Failure, cx);
        } else if stage == Stage::Header && self.is_line_late(cx) {
            let why = "I/O error reading bulk count from MASTER: the line does not end";
            self.give_up(By::Us, why, cx);
        } else {
            self.keep_alive(cx);
        }
    }

    /// A primary hears of us while we load, or it would take us for dead.
    pub(super) fn keep_alive(&mut self, cx: &mut Context) {
        let Some(transfer) = self.load() else { return };
        let is_lost = matches!(transfer.stage, Stage::Received { is_lost: true, .. });
        if !is_lost && cx.since(transfer.newline_ms) >= REPORT_MS {
            transfer.newline_ms = cx.now_ms;
            cx.act(Action::Send(b"\n".to_vec()));
        }
    }

    pub(super) fn close_transfer(&mut self, text: &str, cx: &mut Context) {
        let State::Transfer(transfer) = &mut self.state else { return };
        match &mut transfer.stage {
            Stage::Received { is_lost, .. } => return *is_lost = true,
            Stage::Header => {
                cx.warn(format!("I/O error reading bulk count from MASTER: {text}"));
            }
            Stage::Loading(_) => {
                cx.warn(format!("I/O error trying to sync with MASTER: {text}"));
            }
        }
        self.end(By::Peer, cx);
        self.redial(Reason::Failure, cx);
    }

    pub(super) fn flush(&mut self, fresh: ReplicationId, cx: &mut Context) {
        if self.load().is_none() {
            return;
        }
        self.discard(cx);
        self.history.forget(fresh);
        cx.act(Action::NewIds(NewIds::Replaced));
        cx.act(Action::CutReplicas);
    }

    pub(super) fn receive(&mut self) {
        if let State::Transfer(transfer) = &mut self.state
            && let Stage::Loading(payload) = transfer.stage
        {
            transfer.stage = Stage::Received { payload, is_lost: false };
        }
    }

    /// The snapshot is the dataset now.
    pub(super) fn adopt(&mut self, db: u32, fresh: ReplicationId, cx: &mut Context) {
        let Some(&mut Transfer { moment, stage, .. }) = self.load() else { return };
        let (Stage::Loading(payload) | Stage::Received { payload, .. }) = stage else { return };
        cx.notice("MASTER <-> REPLICA sync: Finished with success");
        self.stream_db = moment.map(|_| db);
        let Moment { id, offset } = moment.unwrap_or(Moment { id: fresh, offset: 0 });
        self.history.adopt(id, offset);
        self.failed_loads = 0;
        cx.act(Action::NewIds(NewIds::Replaced));
        cx.act(Action::CutReplicas);
        if matches!(stage, Stage::Received { is_lost: true, .. }) {
            self.state = State::Connected;
            self.lose(By::Peer, Keep::History, cx);
            return self.redial(Reason::Lost, cx);
        }
        // One that knows no acknowledgements sends by length.
        self.acks_blindly = matches!(payload, Payload::EndMark(_));
        self.begin_stream(db, cx);
        self.acknowledge(cx);
    }

    pub(super) fn fail_load(&mut self, failure: LoadFailure, cx: &mut Context) {
        let Some(transfer) = self.load() else { return };
        // There is no load any more that could be aborted.
        transfer.stage = Stage::Header;
        match failure {
            LoadFailure::EndMark => cx.warn("Replication stream EOF marker is broken"),
            LoadFailure::Ours(text) => cx.warn(text),
            LoadFailure::ShortRead => cx.warn(
                "Failure loading rdb format from socket, assuming connection error, resuming \
                 operation.",
            ),
            LoadFailure::Corrupt => cx.warn(match cx.settings.load_from {
                LoadFrom::Socket => {
                    "Failed trying to load the MASTER synchronization DB from socket, check server \
                     logs."
                }
                LoadFrom::Disk => {
                    "Failed trying to load the MASTER synchronization DB from disk, check server \
                     logs."
                }
            }),
        }
        self.end(By::Us, cx);
        if failure == LoadFailure::ShortRead {
            return self.redial(Reason::Failure, cx);
        }
        let wait_ms = RETRY_MS.saturating_mul(1 << self.failed_loads.min(16)).min(RELOAD_MS_MAX);
        self.failed_loads = self.failed_loads.saturating_add(1);
        self.retry_in(wait_ms, cx);
    }
}
