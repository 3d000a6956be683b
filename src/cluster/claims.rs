//! Who has which slot: what a primary claims under its epoch, against what we know.
//!
//! A claim wins where nobody has the slot, where its owner no longer claims it, or where its
//! owner's epoch is smaller. A slot that its owner does not claim stays his until somebody else
//! does: a gap would take the cluster down.

use super::links::LinkId;
use super::machine::{Action, Cluster, Cx};
use super::slot_set::SlotBits;
use super::table::{Node, NodeKey, Way};
use super::wire::{Header, Kind, Update};
use crate::keyspace::slot::Slot;
use std::collections::BTreeSet;

/// What claims of one node have changed for us.
struct Lost {
    /// Ourselves, or our primary.
    ours: NodeKey,
    /// It was of our shard before.
    was_with_us: bool,
    /// Our slots, or those of our primary, that it has now.
    count: usize,
    /// Those of them that were our own.
    own: Vec<Slot>,
}

impl Cluster {
    pub(super) fn take_claims(&mut self, of: NodeKey, epoch: u64, slots: SlotBits, cx: &mut Cx) {
        let me = self.table.me();
        if of == me {
            return cx.notice("Discarding UPDATE message about myself.".to_owned());
        }
        let mut lost = self.nothing_lost(of);
        let is_silent = |slot: &Slot| !slots.has(*slot);
        let known = self.table.node(of).slots().iter();
        let open = self.table.ways().map(|(slot, _)| slot);
        let silent: BTreeSet<Slot> = known.chain(open).filter(is_silent).collect();
        slots.iter().for_each(|slot| self.take_claim(slot, of, epoch, &mut lost, cx));
        silent.into_iter().for_each(|slot| self.take_silence(slot, of, epoch, cx));
        self.follow_claims(of, epoch, &lost, cx);
    }

    /// A primary has these slots under an epoch, and what else it has then we do not know yet: that
    /// it has come to that epoch is left to be heard, or we would tell others that it has what it
    /// had before.
    pub(super) fn take_claims_of(&mut self, slots: &[Slot], of: NodeKey, epoch: u64, cx: &mut Cx) {
        let mut lost = self.nothing_lost(of);
        slots.iter().for_each(|slot| self.take_claim(*slot, of, epoch, &mut lost, cx));
        self.follow_claims(of, epoch, &lost, cx);
    }

    fn nothing_lost(&self, to: NodeKey) -> Lost {
        let me = self.table.me();
        let was_with_us = self.table.are_in_one_shard(to, me);
        Lost { ours: self.table.primary_of(me), was_with_us, count: 0, own: Vec::new() }
    }

    fn take_claim(&mut self, slot: Slot, of: NodeKey, epoch: u64, lost: &mut Lost, cx: &mut Cx) {
        let owner = self.table.owner(slot);
        if owner == Some(of) {
            return self.table.mark_claimed(slot);
        }
        if !self.may_take(slot, of, epoch) {
            return;
        }
        if owner == Some(self.table.me()) {
            lost.own.push(slot);
        }
        lost.count += usize::from(owner == Some(lost.ours));
        if let Some(owner) = owner.filter(|owner| !self.table.are_in_one_shard(*owner, of)) {
            let (from, to) = (self.named(owner), self.named(of));
            cx.notice(format!("Slot {slot} is migrated from node {from} to node {to}."));
        }
        self.turn_way(slot, of, cx);
        self.table.assign(slot, of);
        self.due.sync = true;
        self.due.state = true;
    }

    fn may_take(&self, slot: Slot, of: NodeKey, epoch: u64) -> bool {
        if self.is_handed_to(of, slot, epoch) {
            return true;
        }
        let is_older = |owner| self.table.node(owner).config_epoch() < epoch;
        let is_free = self.table.is_unclaimed(slot) && !self.is_replaced(of, epoch);
        is_free || self.table.owner(slot).is_none_or(is_older)
    }

    /// Whether another one has taken its place since it had that epoch: what it says then comes
    /// late. Real nodes take that for news of a slot that its owner does not claim.
    fn is_replaced(&self, of: NodeKey, epoch: u64) -> bool {
        let shard = self.table.node(of).shard();
        let is_heir = |(key, node): (NodeKey, &Node)| {
            key != of && node.is_primary() && node.shard() == shard && node.config_epoch() > epoch
        };
        self.table.iter().any(is_heir)
    }

    /// A slot that is on its way has a new owner. Within a shard that is a failover, which the way
    /// follows; otherwise somebody has decided something else.
    fn turn_way(&mut self, slot: Slot, owner: NodeKey, cx: &mut Cx) {
        let together = |other| self.table.are_in_one_shard(owner, other);
        let (new, what) = match self.table.way(slot) {
            Some(Way::LeavesTo(_)) if together(self.table.me()) => return,
            Some(Way::LeavesTo(other)) => {
                let what = format!("is no longer being migrated to node {}", self.named(other));
                (None, what)
            }
            Some(Way::ComesFrom(other)) if other == owner => return,
            Some(Way::ComesFrom(other)) if together(other) => {
                let what = format!("is now being imported from node {}", self.named(owner));
                (Some(Way::ComesFrom(owner)), what)
            }
            Some(Way::ComesFrom(other)) => {
                let what = format!("is no longer being imported from node {}", self.named(other));
                (None, what)
            }
            None => return,
        };
        cx.notice(format!("Slot {slot} {what}."));
        self.table.set_way(slot, new);
    }

    /// A primary does not claim a slot.
    fn take_silence(&mut self, slot: Slot, of: NodeKey, epoch: u64, cx: &mut Cx) {
        if self.table.owner(slot) == Some(of) {
            self.table.mark_unclaimed(slot);
        }
        match self.table.way(slot) {
            Some(Way::LeavesTo(other)) if other != of => {
                let node = self.table.node(other);
                let is_over = node.config_epoch() < epoch || node.is_replica();
                if is_over && self.table.are_in_one_shard(other, of) {
                    let to = self.named(of);
                    cx.notice(format!(
                        "Failover occurred in migration target. Slot {slot} is now being \
                         migrated to node {to}."
                    ));
                    self.table.set_way(slot, Some(Way::LeavesTo(of)));
                    self.due.sync = true;
                }
            }
            // Its source has let go of a slot that comes to us: whoever should have told us is
            // gone.
            Some(Way::ComesFrom(other))
                if other == of && self.table.myself().is_primary() && !self.is_failing_over() =>
            {
                let from = self.named(of);
                cx.notice(format!(
                    "Slot {slot} is no longer being imported from node {from}; Clear my \
                     importing source for the slot."
                ));
                self.table.set_way(slot, None);
                if self.table.owner(slot) != Some(self.table.me()) {
                    self.table.assign(slot, self.table.me());
                    self.bump_epoch();
                }
                self.due.sync = true;
                self.due.state = true;
            }
            _ => {}
        }
    }

    /// What becomes of us when slots of ours have gone.
    fn follow_claims(&mut self, of: NodeKey, epoch: u64, lost: &Lost, cx: &mut Cx) {
        let me = self.table.me();
        let Lost { ours, was_with_us, .. } = *lost;
        let has_none = self.table.node(ours).slot_count() == 0;
        if !lost.own.is_empty() && !was_with_us {
            let to = self.table.node(of).id();
            cx.actions.push(Action::SlotsLost { slots: lost.own.clone(), to });
        }
        // Two of one shard that have no slots cannot both be its primary: the newer one is.
        let is_outdone = was_with_us
            && has_none
            && self.table.node(of).slot_count() == 0
            && self.table.myself().primary() != Some(of)
            && self.table.epoch_of(me) < epoch;
        if (lost.count > 0 && has_none) || is_outdone {
            let (named, shard) = (self.named(of), self.table.node(of).shard());
            if self.settings.allows_replica_migration || was_with_us {
                cx.notice(format!(
                    "Configuration change detected. Reconfiguring myself as a replica \
                     of node {named} in shard {shard}"
                ));
                return self.become_replica(of, was_with_us, cx);
            }
            if self.table.myself().is_primary() {
                self.stay_empty(of, cx);
            }
        }
        for slot in lost.own.iter().filter(|slot| (cx.facts.has_keys)(**slot)) {
            let named = self.named(me);
            cx.notice(format!("Deleting keys in dirty slot {slot} on node {named}"));
            cx.actions.push(Action::DropSlot(*slot));
        }
    }

    /// Tells a primary of slots that it claims and that others have under greater epochs: perhaps
    /// they cannot. Each of these is told of.
    pub(super) fn correct(&mut self, sender: NodeKey, header: &Header, cx: &mut Cx) {
        let Some(link) = self.links.connected(sender) else { return };
        let owner_of = |slot| {
            let owner = self.table.owner(slot).filter(|owner| *owner != sender)?;
            let is_newer = self.table.node(owner).config_epoch() > header.config_epoch;
            (is_newer && !self.table.is_unclaimed(slot)).then_some(owner)
        };
        let owners: BTreeSet<NodeKey> = header.slots.iter().filter_map(owner_of).collect();
        owners.into_iter().for_each(|owner| self.tell_of_claims(link, owner, cx));
    }

    /// Tells a node what another one claims.
    pub(super) fn tell_of_claims(&mut self, link: LinkId, owner: NodeKey, cx: &mut Cx) {
        let slots = self.table.claimed_by(owner);
        let node = self.table.node(owner);
        let (config_epoch, id) = (node.config_epoch(), node.id());
        let update = Update { config_epoch, node: id, slots: slots.bits() };
        self.send(link, Kind::Update, |header| header.update(&update), cx);
    }

    /// Somebody tells us who has slots that we have claimed.
    pub(super) fn take_update(&mut self, sender: NodeKey, update: &Update, cx: &mut Cx) {
        self.note_refusal(sender);
        let Some(key) = self.table.find(update.node) else { return };
        if key == self.table.me() {
            return cx.notice("Discarding UPDATE message about myself.".to_owned());
        }
        if self.table.node(key).config_epoch() >= update.config_epoch {
            return;
        }
        if !self.table.node(key).is_primary() {
            self.note_promotion(key);
        }
        self.table.set_config_epoch(key, update.config_epoch);
        self.due.sync = true;
        self.take_claims(key, update.config_epoch, update.slots, cx);
    }

    /// A greater epoch than any that we know of, without asking anybody. False if ours is that.
    pub(super) fn bump_epoch(&mut self) -> bool {
        let me = self.table.me();
        let own = self.table.node(me).config_epoch();
        if own != 0 && own == self.table.greatest_config_epoch() {
            return false;
        }
        let epoch = self.table.current_epoch() + 1;
        self.table.set_config_epoch(me, epoch);
        self.due.sync = true;
        true
    }
}
