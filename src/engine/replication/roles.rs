//! Who leads: REPLICAOF, promotion, and the hand-over to a replica (FAILOVER).
//!
//! A change of role is one step between commands. What a primary has written until then is in its
//! history, counted and kept, before it becomes somebody's replica; what it writes after it was
//! promoted has a name of its own. In a hand-over writes wait until the replica has all of them,
//! so none is lost, and whoever waited is answered by the new order.

use super::feeders::Feeder;
use crate::config::{PrimaryAddress, Text};
use crate::engine::core::Core;
use crate::engine::pause::{PauseMode, PauseOwner};
use crate::engine::waiting::{Release, Wait};
use crate::engine::{Caller, Cx};
use crate::engine::{Effect, Engine, Server};
use crate::repl::link::{Event, Primary, Purpose};
use crate::resp::ReplyBuf;

/// A hand-over that is under way.
#[derive(Default)]
pub enum Failover {
    #[default]
    None,
    /// Writes are paused until a replica has all of them.
    Syncing(Plan),
    /// The replica has been asked to take our place.
    HandingOver(Primary),
}

/// To whom, and until when.
pub struct Plan {
    pub target: Option<Primary>,
    /// On the monotonic clock.
    pub deadline_ms: Option<u64>,
    /// When the time is over the target takes over as it is.
    pub forces: bool,
}

impl Failover {
    /// The state in the words of INFO.
    pub fn word(&self) -> &'static str {
        match self {
            Failover::None => "no-failover",
            Failover::Syncing(_) => "waiting-for-sync",
            Failover::HandingOver(_) => "failover-in-progress",
        }
    }

    pub fn is_under_way(&self) -> bool {
        !matches!(self, Failover::None)
    }
}

/// Whether a replica is the one of this address.
fn is_at(feeder: &Feeder, address: &Primary) -> bool {
    feeder.ip().eq_ignore_ascii_case(&address.host) && feeder.announced.port == address.port
}

impl Server {
    /// The replica of this address.
    pub fn replica_at(&self, address: &Primary) -> Option<&Feeder> {
        self.replication.feeders.iter().find(|feeder| is_at(feeder, address))
    }
}

impl Core<'_> {
    /// Follows a primary from now on.
    pub fn follow_primary(&mut self, primary: &Primary, purpose: Purpose) {
        let was_primary = !self.server.is_replica();
        if was_primary {
            self.step_down();
        }
        let host = Text::from(primary.host.as_bytes());
        self.server.config.replicaof = Some(PrimaryAddress { host, port: primary.port });
        let host = &primary.host;
        self.tell_link(Event::SetPrimary { host, port: primary.port, purpose });
        self.server.follow_readers(self.space);
        self.server.effects.push(Effect::Log);
    }

    /// What was written as a primary is counted and kept; what waits for writes waits in vain.
    fn step_down(&mut self) {
        self.count_own_writes();
        if !self.server.is_history_counted(self.space.changes.total()) {
            let fresh = self.server.fresh_id();
            self.server.replication.link.forget_history(fresh);
        }
        self.begin_backlog_if_none();
        self.send_waiters_away();
    }

    /// What this turn has recorded belongs to the history.
    pub(in crate::engine) fn count_own_writes(&mut self) {
        let Some(bytes) = self.server.propagation.take_for_replicas() else { return };
        let len = bytes.len() as u64;
        if let Some(backlog) = &mut self.server.replication.backlog {
            backlog.push(bytes);
        }
        self.tell_link(Event::Written(len));
    }

    fn begin_backlog_if_none(&mut self) {
        if self.server.replication.backlog.is_none() {
            self.server.begin_backlog();
        }
    }

    /// Clients who wait for keys or replicas would be served by a state that is not theirs.
    fn send_waiters_away(&mut self) {
        let waiting: Vec<_> = (self.clients.iter())
            .filter(|session| session.wait.as_deref().is_some_and(Wait::depends_on_role))
            .map(|session| session.id)
            .collect();
        for client in waiting {
            let mut nothing = ReplyBuf::new();
            let Core { space, clients, server } = self;
            Cx::of(space, clients, server, client, Caller::Client, &mut nothing)
                .send_away(client, Release::RoleChanged);
        }
    }

    /// Follows nobody any more.
    pub fn promote(&mut self) {
        if !self.server.is_replica() {
            return;
        }
        let fresh = self.server.fresh_id();
        self.tell_link(Event::NoOne { fresh });
        self.server.config.replicaof = None;
        self.begin_backlog_if_none();
        self.server.replication.no_replicas_ms = self.server.clock.mono_ms();
        self.server.follow_readers(self.space);
        self.server.effects.push(Effect::Log);
    }

    /// Writes wait until a replica has all of them, which then takes our place.
    pub fn begin_failover(&mut self, plan: Plan) {
        match &plan.target {
            Some(Primary { host, port }) => tracing::info!("FAILOVER requested to {host}:{port}."),
            None => tracing::info!("FAILOVER requested to any replica."),
        }
        self.server.pause.start(PauseOwner::Failover, PauseMode::Writes, u64::MAX);
        self.server.replication.failover = Failover::Syncing(plan);
        self.server.replication.asks_for_acks = true;
    }

    /// The replica has taken our place.
    pub(super) fn end_failover(&mut self) {
        self.server.replication.failover = Failover::None;
        self.end_pause_of(PauseOwner::Failover);
    }

    /// All stays as it was before the hand-over.
    pub fn abort_failover(&mut self, reason: &str) {
        let failover = std::mem::take(&mut self.server.replication.failover);
        let target = match &failover {
            Failover::None => return,
            Failover::Syncing(plan) => plan.target.as_ref(),
            Failover::HandingOver(target) => Some(target),
        };
        match target {
            Some(Primary { host, port }) => {
                tracing::info!("FAILOVER to {host}:{port} aborted: {reason}");
            }
            None => tracing::info!("FAILOVER aborted: {reason}"),
        }
        if matches!(failover, Failover::HandingOver(_)) {
            self.promote();
        }
        self.end_pause_of(PauseOwner::Failover);
    }

    fn hand_over_to(&mut self, target: &Primary) {
        self.server.replication.failover = Failover::HandingOver(target.clone());
        self.follow_primary(target, Purpose::Failover);
    }
}

/// What a hand-over is to do next.
enum Next {
    Wait,
    HandOver(Primary),
    GiveUp,
}

impl Server {
    /// Whether a replica has come far enough, or the time is over.
    fn next_of_failover(&self) -> Next {
        let Failover::Syncing(plan) = &self.replication.failover else { return Next::Wait };
        let offset = self.replication_offset();
        let is_synced = |feeder: &&Feeder| feeder.is_copy() && feeder.ack == offset;
        let is_target =
            |feeder: &&Feeder| plan.target.as_ref().is_none_or(|target| is_at(feeder, target));
        let mut feeders = self.replication.feeders.iter();
        if let Some(feeder) = feeders.find(|feeder| is_target(feeder) && is_synced(feeder)) {
            let target = Primary { host: feeder.ip().to_owned(), port: feeder.announced.port };
            let (host, port) = (&target.host, target.port);
            tracing::info!("Failover target {host}:{port} is synced, failing over.");
            return Next::HandOver(target);
        }
        let now_ms = self.clock.mono_ms();
        if plan.deadline_ms.is_none_or(|at_ms| now_ms < at_ms) {
            return Next::Wait;
        }
        let Some(target) = plan.target.clone().filter(|_| plan.forces) else {
            return Next::GiveUp;
        };
        let (host, port) = (&target.host, target.port);
        tracing::info!("FAILOVER to {host}:{port} time out exceeded, failing over.");
        Next::HandOver(target)
    }
}

impl Engine {
    /// Goes on with a hand-over, if there is one.
    pub(super) fn failover_cron(&mut self) {
        match self.server.next_of_failover() {
            Next::Wait => {}
            Next::HandOver(target) => self.core().hand_over_to(&target),
            Next::GiveUp => self.core().abort_failover("Replica never caught up before timeout"),
        }
    }
}
