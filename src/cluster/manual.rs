//! Failovers that are asked for (CLUSTER FAILOVER): a replica takes over from a primary that is up,
//! and no write is lost.
//!
//! The primary pauses writes and says how far its stream is; the replica waits until it is as far,
//! and has itself elected at once. If any of it takes too long both give up and go on as before.
//! Without the primary's help (FORCE) the replica begins at once; without anybody's (TAKEOVER) it
//! does not ask.

use super::admin::{Done, Refusal};
use super::flags::Flags;
use super::machine::{Action, Cluster, Cx};
use super::table::NodeKey;
use super::wire::{Header, Kind};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failover {
    Plain,
    Force,
    Takeover,
}

/// One that is under way, as this node has part in it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Manual {
    #[default]
    None,
    /// We are the primary, and hand slots to another node at this moment: who takes over from us is
    /// to know by our stream how that has ended.
    Postponed { replica: NodeKey, until_ms: u64 },
    /// We are the primary, and hold our writes for this replica.
    Held { replica: NodeKey, until_ms: u64 },
    /// We are the replica.
    Wanted { stage: Stage, until_ms: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The primary has yet to say how far its stream is.
    Offset,
    /// We have yet to come so far.
    Stream(u64),
    Ready,
}

impl Manual {
    pub fn is_held_by_us(self) -> bool {
        matches!(self, Manual::Held { .. })
    }

    pub fn may_start(self) -> bool {
        matches!(self, Manual::Wanted { stage: Stage::Ready, .. })
    }

    fn until_ms(self) -> Option<u64> {
        match self {
            Manual::None => None,
            Manual::Postponed { until_ms, .. }
            | Manual::Held { until_ms, .. }
            | Manual::Wanted { until_ms, .. } => Some(until_ms),
        }
    }

    /// The replica that wants to take over from us.
    fn replica(self) -> Option<NodeKey> {
        match self {
            Manual::Postponed { replica, .. } | Manual::Held { replica, .. } => Some(replica),
            Manual::None | Manual::Wanted { .. } => None,
        }
    }
}

impl Cluster {
    /// Whether a replica is about to take over from us by our leave. Until that has come to an end
    /// our own epoch stays as it is: a greater one than that under which the replica is elected
    /// would take back what it has got, and what was written to it.
    pub fn is_failing_over(&self) -> bool {
        self.manual.replica().is_some()
    }

    /// Whether [`super::machine::Event::OffsetMoved`] is waited for.
    pub fn awaits_offset(&self) -> bool {
        matches!(self.manual, Manual::Held { .. } | Manual::Wanted { stage: Stage::Stream(_), .. })
    }

    pub(super) fn fail_over(
        &mut self,
        how: Failover,
        user: &str,
        cx: &mut Cx,
    ) -> Result<Done, Refusal> {
        if self.table.myself().is_primary() {
            return Err(Refusal::FailoverOfPrimary);
        }
        let primary = self.table.myself().primary().ok_or(Refusal::PrimaryUnknown)?;
        let link = self.links.connected(primary);
        let link = link.filter(|_| !self.table.node(primary).has(Flags::FAIL));
        let until_ms = cx.now.ms + self.settings.manual_failover_timeout_ms;
        match (how, link) {
            (Failover::Plain, None) => return Err(Refusal::PrimaryDown),
            (Failover::Takeover, _) => {
                cx.notice(format!("Taking over the primary (user request from '{user}')."));
                self.bump_epoch();
                self.replace_primary(cx);
            }
            (Failover::Force, _) => {
                cx.notice(format!(
                    "Forced failover user request accepted (user request from '{user}')."
                ));
                self.manual = Manual::Wanted { stage: Stage::Ready, until_ms };
                self.due.election = true;
            }
            // One that is under way is not begun anew, or it would never end for who repeats it.
            (Failover::Plain, Some(_)) if self.manual != Manual::None => {}
            (Failover::Plain, Some(link)) => {
                cx.notice(format!(
                    "Manual failover user request accepted (user request from '{user}')."
                ));
                self.manual = Manual::Wanted { stage: Stage::Offset, until_ms };
                // A primary that has not heard yet whose replica we are would not listen. A ping
                // would have us forget an earlier one that is not answered.
                self.send_ping(link, Kind::Pong, cx);
                let kind = Kind::ManualFailoverStart;
                self.send(link, kind, |header| header.bare(kind), cx);
            }
        }
        Ok(Done::Ok)
    }

    /// A replica of ours wants to take over.
    pub(super) fn take_manual_start(&mut self, sender: Option<NodeKey>, cx: &mut Cx) {
        let me = self.table.me();
        let is_ours = |key: &NodeKey| self.table.node(*key).primary() == Some(me);
        let Some(replica) = sender.filter(is_ours) else { return };
        if self.manual.replica() == Some(replica) {
            return;
        }
        let until_ms = cx.now.ms + self.settings.manual_failover_timeout_ms;
        self.manual = Manual::Postponed { replica, until_ms };
        cx.notice(format!("Manual failover requested by replica {}.", self.named(replica)));
        self.hold_writes(cx);
    }

    /// Holds our writes for a replica that wants to take over, unless we hand slots over.
    fn hold_writes(&mut self, cx: &mut Cx) {
        let Manual::Postponed { replica, until_ms } = self.manual else { return };
        if self.handed.is_some() {
            return;
        }
        self.manual = Manual::Held { replica, until_ms };
        // Longer than the replica tries: if it wins at the last moment no write was taken since.
        let until_ms = until_ms + self.settings.manual_failover_timeout_ms;
        cx.actions.push(Action::PauseWrites { until_ms });
    }

    /// The replica for which we hold our writes is told at once, and at each tick.
    fn tell_offset(&mut self, cx: &mut Cx) {
        if let Manual::Held { replica, .. } = self.manual
            && cx.facts.paused_offset.is_some()
            && let Some(link) = self.links.connected(replica)
        {
            self.send_ping(link, Kind::Ping, cx);
        }
    }

    /// Our primary says how far its stream is.
    pub(super) fn note_paused_offset(&mut self, sender: NodeKey, header: &Header, cx: &mut Cx) {
        let Manual::Wanted { stage: stage @ Stage::Offset, .. } = &mut self.manual else { return };
        if !header.is_paused || self.table.myself().primary() != Some(sender) {
            return;
        }
        *stage = Stage::Stream(header.offset);
        cx.notice(format!(
            "Received replication offset for paused primary manual failover: {}",
            header.offset
        ));
        self.compare_offsets(cx);
    }

    fn compare_offsets(&mut self, cx: &mut Cx) {
        let Manual::Wanted { stage: stage @ Stage::Stream(_), .. } = &mut self.manual else {
            return;
        };
        if let Stage::Stream(offset) = *stage
            && cx.facts.offset >= offset
        {
            *stage = Stage::Ready;
            let line = "All primary replication stream processed, manual failover can start.";
            cx.notice(line.to_owned());
            self.due.election = true;
        }
    }

    pub(super) fn offset_moved(&mut self, cx: &mut Cx) {
        self.tell_offset(cx);
        self.compare_offsets(cx);
    }

    pub(super) fn tend_manual(&mut self, cx: &mut Cx) {
        if self.manual.until_ms().is_some_and(|until_ms| cx.now.ms >= until_ms) {
            cx.notice("Manual failover timed out.".to_owned());
            self.end_manual(cx);
        }
        self.hold_writes(cx);
        self.offset_moved(cx);
    }

    /// However it ended: nobody waits for it any more.
    pub(super) fn end_manual(&mut self, cx: &mut Cx) {
        let manual = std::mem::take(&mut self.manual);
        if manual.is_held_by_us() {
            cx.actions.push(Action::ResumeWrites);
        }
    }

    /// A node is forgotten.
    pub(super) fn leave_manual(&mut self, key: NodeKey, cx: &mut Cx) {
        if self.manual.replica() == Some(key) {
            self.end_manual(cx);
        }
    }
}
