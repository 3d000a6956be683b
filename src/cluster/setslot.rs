//! Slots that leave and come one by one (CLUSTER SETSLOT), and what a node makes of the keys that
//! it finds at its start.
//!
//! A primary has its replicas do it first, so that whoever takes over from it goes on with it. So
//! what may be done is asked before that ([`Cluster::may_set_slot`]), and what is done is the same
//! for both: for a replica its primary's slots are its own.

use super::admin::{Done, Refusal};
use super::id::NodeId;
use super::machine::{Action, Cluster, Cx};
use super::slot_set::SlotSet;
use super::table::{NodeKey, Way};
use crate::keyspace::slot::Slot;

/// What is to become of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetSlot {
    Migrating(NodeId),
    Importing(NodeId),
    /// It stays where it is.
    Stable,
    Node(NodeId),
}

/// Slots that another node may take.
pub struct Handed {
    to: NodeId,
    slots: SlotSet,
    /// A claim of them is under a greater one. The node may have had them before, and what it said
    /// then may come late.
    epoch: u64,
    /// What we say that we have.
    pub shown: SlotSet,
}

/// Who wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Client,
    /// Our primary, by its stream.
    Stream,
}

impl Cluster {
    /// Whether it may be done, without doing it.
    pub fn may_set_slot(
        &self,
        slot: Slot,
        how: SetSlot,
        by: By,
        has_keys: &dyn Fn(Slot) -> bool,
    ) -> Result<(), Refusal> {
        let me = self.table.me();
        if by == By::Client && self.table.myself().is_replica() {
            return Err(Refusal::SetSlotOnReplica);
        }
        let ours = self.table.primary_of(me);
        let is_ours = self.table.owner(slot) == Some(ours);
        let primary = |id, unknown: fn(NodeId) -> Refusal| match self.table.find(id) {
            None => Err(unknown(id)),
            Some(key) if self.table.node(key).is_replica() => Err(Refusal::TargetIsReplica),
            Some(key) => Ok(key),
        };
        match how {
            SetSlot::Migrating(_) if !is_ours => Err(Refusal::NotOwner(slot)),
            SetSlot::Migrating(id) => match primary(id, Refusal::NodeNotKnown)? {
                key if key == ours => Err(Refusal::AlreadyOwner(slot)),
                _ => Ok(()),
            },
            SetSlot::Importing(_) if is_ours => Err(Refusal::AlreadyOwner(slot)),
            SetSlot::Importing(id) => match primary(id, Refusal::NodeNotKnown)? {
                // Redis takes that, and then waits for itself.
                key if key == ours => Err(Refusal::NotOwner(slot)),
                _ => Ok(()),
            },
            SetSlot::Stable => Ok(()),
            SetSlot::Node(_) if by == By::Client && self.is_failing_over() => {
                Err(Refusal::FailoverUnderWay)
            }
            SetSlot::Node(id) => match primary(id, Refusal::UnknownNode)? {
                key if self.table.owner(slot) == Some(me) && key != me && has_keys(slot) => {
                    Err(Refusal::HoldsKeys(slot))
                }
                _ => Ok(()),
            },
        }
    }

    /// Whether this shard has no slot when it is done. Its replicas turn to the new owner then, as
    /// soon as they hear of it by whatever way, and may not say any more that they have.
    pub fn leaves_no_slot(&self, slot: Slot, how: SetSlot) -> bool {
        let ours = self.table.primary_of(self.table.me());
        let goes = matches!(how, SetSlot::Node(to) if self.table.find(to) != Some(ours));
        let is_ours = self.table.owner(slot) == Some(ours);
        goes && self.table.node(ours).slot_count() == usize::from(is_ours)
    }

    pub(super) fn set_slot(
        &mut self,
        slot: Slot,
        how: SetSlot,
        by: By,
        cx: &mut Cx,
    ) -> Result<Done, Refusal> {
        self.may_set_slot(slot, how, by, cx.facts.has_keys)?;
        let find = |id| self.table.find(id).ok_or(Refusal::UnknownNode(id));
        match how {
            SetSlot::Migrating(id) => {
                let to = find(id)?;
                cx.notice(format!("Migrating slot {slot} to node {}", self.named(to)));
                self.table.set_way(slot, Some(Way::LeavesTo(to)));
            }
            SetSlot::Importing(id) => {
                let from = find(id)?;
                // A replica whose slot it was until now is told by the same means.
                cx.notice(format!("Importing slot {slot} from node {}", self.named(from)));
                self.table.set_way(slot, Some(Way::ComesFrom(from)));
            }
            SetSlot::Stable => {
                cx.notice(format!("Marking slot {slot} stable"));
                self.table.set_way(slot, None);
            }
            SetSlot::Node(id) => self.give_slot(slot, find(id)?, by, cx),
        }
        Ok(Done::Ok)
    }

    fn give_slot(&mut self, slot: Slot, to: NodeKey, by: By, cx: &mut Cx) {
        let ours = self.table.primary_of(self.table.me());
        let was_ours = self.table.owner(slot) == Some(ours);
        let (named, shard) = (self.named(to), self.table.node(to).shard());
        cx.notice(format!("Assigning slot {slot} to node {named} in shard {shard}"));
        if matches!(self.table.way(slot), Some(Way::LeavesTo(_))) && !(cx.facts.has_keys)(slot) {
            self.table.set_way(slot, None);
        }
        // Whoever claims it from now on, this is a new owner even if it is the old one.
        self.table.unassign(slot);
        self.table.assign(slot, to);
        if to == ours && matches!(self.table.way(slot), Some(Way::ComesFrom(_))) {
            self.take_over_slot(slot, cx);
        }
        let is_empty = was_ours && to != ours && self.table.node(ours).slot_count() == 0;
        match (by, self.settings.allows_replica_migration) {
            _ if !is_empty => {}
            (By::Client, true) => self.leave_empty_shard(to, cx),
            (By::Client, false) => self.stay_empty(to, cx),
            // It would end the stream that says so, in the middle of what it says.
            (By::Stream, true) => self.turns_to = Some(self.table.node(to).id()),
            (By::Stream, false) => {}
        }
    }

    /// Our last slot has gone, and we do not go with it.
    pub(super) fn stay_empty(&self, owner: NodeKey, cx: &mut Cx) {
        let (named, shard) = (self.named(owner), self.table.node(owner).shard());
        cx.notice(format!(
            "My last slot was migrated to node {named} in shard {shard}. I am now an empty primary."
        ));
    }

    fn leave_empty_shard(&mut self, to: NodeKey, cx: &mut Cx) {
        let (named, shard) = (self.named(to), self.table.node(to).shard());
        cx.notice(format!(
            "Lost my last slot during slot migration. Reconfiguring myself as a replica of \
             {named} in shard {shard}"
        ));
        self.become_replica(to, false, cx);
    }

    /// Goes with the last slot of our primary, unless things have changed since we were told.
    pub(super) fn turn_to_new_owner(&mut self, cx: &mut Cx) {
        let Some(to) = self.turns_to.take().and_then(|id| self.table.find(id)) else { return };
        let me = self.table.myself();
        let primary = me.primary().filter(|primary| *primary != to);
        let is_empty = |key| self.table.node(key).slot_count() == 0;
        if primary.is_some_and(is_empty) && self.table.node(to).is_primary() {
            self.leave_empty_shard(to, cx);
        }
    }

    /// A slot that was on its way to us has come. Nobody has voted for that, so it must be newer
    /// than whatever anybody knows, and known soon.
    fn take_over_slot(&mut self, slot: Slot, cx: &mut Cx) {
        self.table.set_way(slot, None);
        if self.table.myself().is_primary() {
            if self.bump_epoch() {
                cx.notice(format!("ConfigEpoch updated after importing slot {slot}"));
            }
            self.broadcast_pong(cx);
        }
    }

    /// Whether slots may be taken from a node that has them, without doing it.
    pub fn may_take_slots(&self, slots: &[Slot], from: NodeId) -> Result<(), Refusal> {
        if self.table.myself().is_replica() {
            return Err(Refusal::TakeOnReplica);
        }
        let source = self.table.find(from).ok_or(Refusal::NodeNotKnown(from))?;
        let is_foreign = |slot: &&Slot| self.table.owner(**slot) != Some(source);
        if let Some(slot) = slots.iter().find(is_foreign) {
            return Err(Refusal::NotItsOwn(*slot));
        }
        match slots.iter().find(|slot| self.table.way(**slot).is_some()) {
            Some(slot) => Err(Refusal::OnItsWay(*slot)),
            None => Ok(()),
        }
    }

    /// Takes slots whose keys have all come, from an owner who waits for that. Nobody has voted for
    /// it, as with a slot that SETSLOT has brought.
    pub(super) fn take_slots(
        &mut self,
        slots: &[Slot],
        from: NodeId,
        (until_ms, epoch): (u64, u64),
        cx: &mut Cx,
    ) -> Result<Done, Refusal> {
        if cx.now.ms > until_ms {
            return Err(Refusal::TakenTooLate);
        }
        // Who takes over from us may not hear of it any more.
        if self.is_failing_over() {
            return Err(Refusal::FailoverUnderWay);
        }
        self.may_take_slots(slots, from)?;
        let (me, count) = (self.table.me(), slots.len());
        cx.notice(format!(
            "Taking over {count} slots from node {from}, all of whose keys are here"
        ));
        for slot in slots {
            self.table.unassign(*slot);
            self.table.assign(*slot, me);
        }
        // Newer than all that the owner has ever said, and than all that anybody has.
        self.table.raise_current_epoch(epoch);
        let fresh = self.table.current_epoch() + 1;
        self.table.set_config_epoch(me, fresh);
        self.due.sync = true;
        cx.actions.push(Action::MergeStaged);
        self.broadcast_pong(cx);
        Ok(Done::Taken(self.table.myself().config_epoch()))
    }

    /// From now on a node may take slots of ours, under whatever epoch that is greater than the one
    /// returned. Should our own epoch grow beyond that before it is over, we do not say any more
    /// that we have them: that would take them back. Not before, since of a slot that its owner
    /// does not claim others believe anybody.
    pub fn hand_over(&mut self, to: NodeId, slots: SlotSet) -> u64 {
        let (epoch, shown) = (self.table.current_epoch(), SlotSet::new());
        self.handed = Some(Box::new(Handed { to, slots, epoch, shown }));
        epoch
    }

    pub fn end_hand_over(&mut self) {
        self.handed = None;
    }

    pub(super) fn is_handed_to(&self, key: NodeKey, slot: Slot, epoch: u64) -> bool {
        let handed = self.handed.as_ref().filter(|handed| handed.slots.has(slot));
        let is_it = |handed: &Handed| self.table.node(key).id() == handed.to;
        handed.is_some_and(|handed| epoch > handed.epoch && is_it(handed))
    }

    pub(super) fn follow_handed(&mut self) {
        let Some(handed) = &mut self.handed else { return };
        let shown = self.table.node(self.table.primary_of(self.table.me()));
        handed.shown = shown.slots().to_set();
        if shown.config_epoch() > handed.epoch {
            handed.shown.remove_all(handed.slots.bits());
        }
    }

    /// A node has taken slots of ours, and has told us before the bus has.
    pub(super) fn concede_slots(
        &mut self,
        slots: &[Slot],
        to: NodeId,
        epoch: u64,
        cx: &mut Cx,
    ) -> Result<Done, Refusal> {
        let key = self.table.find(to).ok_or(Refusal::UnknownNode(to))?;
        // Its heir has them by now, or we have yet to hear that it is one itself.
        if self.table.node(key).is_replica() {
            return Err(Refusal::TargetIsReplica);
        }
        self.take_claims_of(slots, key, epoch, cx);
        Ok(Done::Ok)
    }

    /// Slots on their way that cannot be any more, since they are where they were to go: a replica
    /// that was away when that was said would be left with them.
    pub(super) fn reconcile_ways(&mut self) {
        let ours = self.table.primary_of(self.table.me());
        let is_over = |(slot, way): &(Slot, Way)| {
            let is_ours = self.table.owner(*slot) == Some(ours);
            matches!(way, Way::LeavesTo(_)) != is_ours
        };
        let over: Vec<Slot> = self.table.ways().filter(is_over).map(|(slot, _)| slot).collect();
        for slot in over {
            self.table.set_way(slot, None);
            self.due.save = true;
        }
    }

    /// The slots that are on their way, as snapshots for replicas have them
    /// (`cluster-slot-states`); none if there are none.
    pub fn ways_text(&self) -> Option<String> {
        let mut texts = [String::new(), String::new()];
        for (slot, way) in self.table.ways() {
            let (at, sign) = match way {
                Way::ComesFrom(_) => (0, '<'),
                Way::LeavesTo(_) => (1, '>'),
            };
            let other = self.table.node(way.other()).id();
            texts[at].push_str(&format!("{slot}{sign}{other},"));
        }
        Some(texts.concat()).filter(|text| !text.is_empty())
    }

    /// What a replica is told so by its primary's snapshot. False if it is no such text: then
    /// nothing of it is taken.
    pub fn take_ways_text(&mut self, text: &[u8]) -> bool {
        let items = text.split(|byte| *byte == b',').filter(|item| !item.is_empty());
        let Some(ways) = items.map(parse_way).collect::<Option<Vec<_>>>() else { return false };
        self.table.close_all_ways();
        for (slot, id, way) in ways {
            if let Some(key) = self.table.find(id).filter(|key| *key != self.table.me()) {
                self.table.set_way(slot, Some(way(key)));
            }
        }
        self.reconcile_ways();
        self.due.save = true;
        true
    }

    /// Whether what was kept is what we are to have. Keys of a slot that nobody has are reason to
    /// have it; those of a slot of somebody else are none, since who has it is for voters to say.
    pub(super) fn check_data(&mut self, cx: &mut Cx) {
        if self.table.myself().is_replica() {
            return;
        }
        let me = self.table.me();
        for slot in Slot::all().filter(|slot| (cx.facts.has_keys)(*slot)) {
            let is_coming = matches!(self.table.way(slot), Some(Way::ComesFrom(_)));
            match self.table.owner(slot) {
                _ if is_coming => {}
                Some(owner) if owner == me => {}
                None => {
                    cx.notice(format!(
                        "I have keys for unassigned slot {slot}. Taking responsibility for it."
                    ));
                    self.table.assign(slot, me);
                    self.due.sync = true;
                    self.due.state = true;
                }
                Some(_) => {
                    cx.notice(format!(
                        "I have keys for slot {slot}, but the slot is assigned to another node. \
                         Deleting keys in the slot."
                    ));
                    cx.actions.push(Action::DropSlot(slot));
                }
            }
        }
    }
}

/// What becomes of a slot, once it is known which node is meant.
type NamedWay = (Slot, NodeId, fn(NodeKey) -> Way);

/// `slot<id` or `slot>id`
fn parse_way(item: &[u8]) -> Option<NamedWay> {
    let at = item.iter().position(|byte| matches!(byte, b'<' | b'>'))?;
    let slot = Slot::new(crate::structs::number::parse_u64(&item[..at])?)?;
    let way = if item[at] == b'<' { Way::ComesFrom } else { Way::LeavesTo };
    Some((slot, NodeId::parse(&item[at + 1..])?, way))
}
