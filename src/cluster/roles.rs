//! Who is a primary, who follows whom: as nodes say of themselves, and what that means for us.

use super::election::Election;
use super::flags::Flags;
use super::machine::{Action, Cluster, Cx};
use super::table::NodeKey;
use super::wire::Header;

/// What a header said of its sender's role.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is a primary, as it was.
    Primary,
    /// It was a replica until now.
    NewPrimary,
    Replica,
}

impl Cluster {
    /// Role, slots and epoch of a known sender, in this order: slots are a primary's.
    pub(super) fn take_configuration(&mut self, sender: NodeKey, header: &Header, cx: &mut Cx) {
        if self.table.node(sender).has(Flags::HANDSHAKE) {
            return;
        }
        let role = self.take_role(sender, header, cx);
        if role == Role::Replica {
            return;
        }
        self.take_primary(sender, role, header, cx);
        if self.table.myself().primary() == Some(sender) {
            self.reconcile_ways();
        }
    }

    fn take_primary(&mut self, sender: NodeKey, role: Role, header: &Header, cx: &mut Cx) {
        let node = self.table.node(sender);
        let is_as_known = node.slots() == header.slots && !self.table.has_unclaimed(sender);
        if role == Role::NewPrimary || !is_as_known {
            self.take_claims(sender, header.config_epoch, header.slots, cx);
            self.correct(sender, header, cx);
        }
        let me = self.table.myself();
        if me.is_primary() && header.config_epoch == me.config_epoch() {
            self.resolve_collision(sender, cx);
        }
    }

    fn take_role(&mut self, sender: NodeKey, header: &Header, cx: &mut Cx) -> Role {
        let was_primary = self.table.node(sender).is_primary();
        let Some(primary) = header.primary else {
            if was_primary {
                return Role::Primary;
            }
            self.note_promotion(sender);
            self.due.save = true;
            self.due.state = true;
            return Role::NewPrimary;
        };
        let claimed = self.table.find(primary).filter(|claimed| *claimed != sender);
        if was_primary && !self.step_down(sender, claimed, header, cx) {
            return Role::Replica;
        }
        let node = self.table.node(sender);
        let follows = claimed.or(node.primary());
        if !node.is_replica() || node.primary() != follows {
            self.follow(sender, follows, cx);
        }
        Role::Replica
    }

    /// A replica is a primary now. That it was down as a replica is nothing against it: those who
    /// made it one have heard it. Whether it is still down is found anew, or its own replicas would
    /// take its place at once.
    pub(super) fn note_promotion(&mut self, key: NodeKey) {
        self.table.make_primary(key);
        self.table.unmark(key, Flags::PFAIL.or(Flags::FAIL));
        let health = self.table.health_mut(key);
        health.fail_since_ms = None;
        health.reports.clear();
        self.looks.call(0, key);
    }

    /// A primary says that it is a replica now. Its slots go to the new primary of its shard, or
    /// are nobody's if it has gone to another one. False if that is older than what we know.
    fn step_down(
        &mut self,
        sender: NodeKey,
        claimed: Option<NodeKey>,
        header: &Header,
        cx: &mut Cx,
    ) -> bool {
        let node = self.table.node(sender);
        let (known, shard, named) = (node.config_epoch(), node.shard(), self.named(sender));
        let successor = claimed.filter(|key| self.table.are_in_one_shard(*key, sender));
        let Some(successor) = successor else {
            let count = node.slot_count();
            self.table.unassign_all(sender);
            cx.notice(format!(
                "Node {named} is no longer primary of shard {shard}; removed all {count} \
                 slot(s) it used to own"
            ));
            return true;
        };
        // Whether we are a primary ourselves nobody else decides, unless that is decided.
        if successor == self.table.me() && !self.table.myself().is_primary() {
            return self.remember_election(sender, header, cx);
        }
        // One that it has sent before it had the epoch that we know of. Who has come from somewhere
        // else may have a greater one than its primary, and no slots to take with it.
        let is_old = header.current_epoch < known || self.table.node(sender).slot_count() > 0;
        if known > header.config_epoch && is_old {
            cx.notice(format!(
                "Ignore stale message from {named} in shard {shard}; gossip config epoch: {}, \
                 current config epoch: {known}",
                header.config_epoch
            ));
            return false;
        }
        if !self.table.node(successor).is_primary() {
            self.note_promotion(successor);
        }
        let epoch = header.config_epoch.max(self.table.node(successor).config_epoch());
        self.table.set_config_epoch(successor, epoch);
        self.table.move_all(sender, successor);
        self.due.sync = true;
        let by = self.named(successor);
        cx.notice(format!(
            "A failover occurred in shard {shard}; node {named} failed over to node {by} \
             with a config epoch of {epoch}"
        ));
        true
    }

    /// Our primary follows us, under an epoch that we do not know: we were elected, and began again
    /// with a file of before. Nobody else can have the epoch. False if it is nothing like that.
    fn remember_election(&mut self, sender: NodeKey, header: &Header, cx: &mut Cx) -> bool {
        let me = self.table.me();
        let is_ours = self.table.myself().primary() == Some(sender);
        if !is_ours || header.config_epoch <= self.table.epoch_of(me) {
            return false;
        }
        let (epoch, named) = (header.config_epoch, self.named(sender));
        cx.notice(format!("My primary {named} follows me: I was elected for epoch {epoch}."));
        self.table.set_config_epoch(me, epoch);
        self.replace_primary(cx);
        true
    }

    fn follow(&mut self, sender: NodeKey, primary: Option<NodeKey>, cx: &mut Cx) {
        let me = self.table.me();
        let was_with_us = primary.is_some_and(|key| self.table.are_in_one_shard(key, me));
        self.table.make_replica(sender, primary);
        self.due.save = true;
        self.due.state = true;
        let Some(primary) = primary else { return };
        let (named, of) = (self.named(sender), self.named(primary));
        let shard = self.table.node(primary).shard();
        cx.notice(format!("Node {named} is now a replica of node {of} in shard {shard}"));
        if self.table.myself().primary() == Some(sender) {
            self.follow_no_replica(was_with_us, cx);
        }
    }

    /// Whom we follow may follow somebody else by now.
    pub(super) fn follow_no_replica(&mut self, is_same_history: bool, cx: &mut Cx) {
        let Some(middle) = self.table.myself().primary() else { return };
        let Some(primary) = self.table.node(middle).primary() else { return };
        if primary == self.table.me() {
            return;
        }
        cx.notice(format!(
            "I'm a sub-replica! Reconfiguring myself as a replica of {} from {}",
            self.table.node(primary).id(),
            self.table.node(middle).id()
        ));
        self.become_replica(primary, is_same_history, cx);
    }

    /// This node is a replica of another one from now on. Its own slots must have gone.
    pub(super) fn become_replica(&mut self, of: NodeKey, is_same_history: bool, cx: &mut Cx) {
        let me = self.table.me();
        self.table.make_replica(me, Some(of));
        // What we held our writes for has happened, or will not.
        self.end_manual(cx);
        self.election = Election::default();
        if !is_same_history {
            self.table.close_all_ways();
        }
        let place = self.table.node(of).place();
        let (ip, port) = (place.ip.clone(), place.client_port(self.settings.replicates_by_tls));
        cx.actions.push(Action::Replicate { ip, port, is_same_history });
        self.due.sync = true;
        self.due.state = true;
    }

    /// Two primaries have one epoch, so neither can be newer: the one with the smaller name gets
    /// another. Nobody is asked: it matters only that they differ.
    fn resolve_collision(&mut self, sender: NodeKey, cx: &mut Cx) {
        let me = self.table.me();
        let is_theirs = self.table.node(sender).id() <= self.table.node(me).id();
        if is_theirs || self.is_failing_over() {
            return;
        }
        let epoch = self.table.current_epoch() + 1;
        self.table.set_config_epoch(me, epoch);
        self.due.sync = true;
        let named = self.named(sender);
        cx.log(
            super::machine::Level::Verbose,
            format!("configEpoch collision with node {named}. configEpoch set to {epoch}"),
        );
    }
}
