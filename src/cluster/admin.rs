//! What administrators ask for (CLUSTER MEET, FORGET, ADDSLOTS and so on).
//!
//! All that can be refused is looked at before anything is changed.

use super::flags::Flags;
use super::id::{NodeId, ShardId};
use super::machine::{Action, Cluster, Cx, Facts};
use super::manual::Failover;
use super::membership::Blacklist;
use super::setslot::{By, SetSlot};
use super::table::Place;
use super::time::Now;
use crate::keyspace::slot::Slot;
use crate::structs::prng::Prng;
use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Meet {
        ip: String,
        port: u16,
        bus_port: u16,
    },
    Forget(NodeId),
    AddSlots(Vec<Slot>),
    DelSlots(Vec<Slot>),
    FlushSlots,
    SetConfigEpoch(u64),
    BumpEpoch,
    Replicate(NodeId),
    /// `user` names who asks for it in the log.
    Failover {
        how: Failover,
        user: String,
    },
    SetSlot {
        slot: Slot,
        how: SetSlot,
        by: By,
    },
    Reset(Reset),
    /// The slots are ours from now on, all of whose keys have come from their owner; unless it is
    /// too late for that, by the clock that measures.
    TakeSlots {
        slots: Vec<Slot>,
        from: NodeId,
        until_ms: u64,
        /// The owner's last one.
        epoch: u64,
    },
    /// They are another node's, which has taken them under this epoch and told us so.
    ConcedeSlots {
        slots: Vec<Slot>,
        to: NodeId,
        epoch: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    Soft,
    /// With another name, and without any epoch.
    Hard,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Ok,
    /// The epoch that this node has now.
    Bumped(u64),
    /// The epoch that it has since before.
    Still(u64),
    /// The epoch under which slots were taken.
    Taken(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    UnknownNode(NodeId),
    ForgetMyself,
    ForgetPrimary,
    SlotBusy(Slot),
    SlotUnassigned(Slot),
    NotAlone,
    HasEpoch,
    ReplicateMyself,
    ReplicateReplica,
    NotEmpty,
    FailoverOfPrimary,
    PrimaryUnknown,
    PrimaryDown,
    SetSlotOnReplica,
    NotOwner(Slot),
    AlreadyOwner(Slot),
    /// As SETSLOT calls a node that is not known, unless it is to have the slot.
    NodeNotKnown(NodeId),
    TargetIsReplica,
    HoldsKeys(Slot),
    ResetWithKeys,
    TakeOnReplica,
    /// It is not the node's that is to give it.
    NotItsOwn(Slot),
    /// SETSLOT has it on its way.
    OnItsWay(Slot),
    TakenTooLate,
    FailoverUnderWay,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownNode(id) => return write!(f, "Unknown node {id}"),
            Refusal::SlotBusy(slot) => return write!(f, "Slot {slot} is already busy"),
            Refusal::SlotUnassigned(slot) => {
                return write!(f, "Slot {slot} is already unassigned");
            }
            Refusal::NotOwner(slot) => return write!(f, "I'm not the owner of hash slot {slot}"),
            Refusal::AlreadyOwner(slot) => {
                return write!(f, "I'm already the owner of hash slot {slot}");
            }
            Refusal::NodeNotKnown(id) => return write!(f, "I don't know about node {id}"),
            Refusal::HoldsKeys(slot) => {
                return write!(
                    f,
                    "Can't assign hashslot {slot} to a different node while I still hold keys for \
                     this hash slot."
                );
            }
            Refusal::NotItsOwn(slot) => {
                return write!(f, "Slot {slot} is not assigned to the node that is to give it");
            }
            Refusal::OnItsWay(slot) => {
                return write!(f, "Slot {slot} is being migrated by CLUSTER SETSLOT");
            }
            Refusal::TakeOnReplica => "Slots can be moved to primaries only",
            Refusal::FailoverUnderWay => "A failover of this node is under way",
            Refusal::TakenTooLate => "The time in which the slots could be taken is over",
            Refusal::FailoverOfPrimary => "You should send CLUSTER FAILOVER to a replica",
            Refusal::PrimaryUnknown => "I'm a replica but my master is unknown to me",
            Refusal::PrimaryDown => "Master is down or failed, please use CLUSTER FAILOVER FORCE",
            Refusal::SetSlotOnReplica => "Please use SETSLOT only with masters.",
            Refusal::TargetIsReplica => "Target node is not a master",
            Refusal::ResetWithKeys => {
                "CLUSTER RESET can't be called with master nodes containing keys"
            }
            Refusal::ForgetMyself => "I tried hard but I can't forget myself...",
            Refusal::ForgetPrimary => "Can't forget my master!",
            Refusal::NotAlone => {
                "The user can assign a config epoch only when the node does not know any other \
                 node."
            }
            Refusal::HasEpoch => "Node config epoch is already non-zero",
            Refusal::ReplicateMyself => "Can't replicate myself",
            Refusal::ReplicateReplica => "I can only replicate a master, not a replica.",
            Refusal::NotEmpty => {
                "To set a master the node must be empty and without assigned slots."
            }
        })
    }
}

impl Cluster {
    /// Does what is asked for. The file is to be safe before it is answered.
    pub fn administrate(
        &mut self,
        request: Request,
        facts: &Facts,
        now: Now,
        prng: &mut Prng,
        actions: &mut Vec<Action>,
    ) -> Result<Done, Refusal> {
        let cx = &mut Cx::new(facts, now, prng, actions);
        self.note_facts(facts);
        let done = match request {
            Request::Meet { ip, port, bus_port } => self.meet(ip, port, bus_port, cx),
            Request::Forget(id) => self.forget(id, cx),
            Request::AddSlots(slots) => self.add_slots(&slots),
            Request::DelSlots(slots) => self.del_slots(&slots),
            Request::FlushSlots => {
                self.table.unassign_all(self.table.me());
                Ok(Done::Ok)
            }
            Request::SetConfigEpoch(epoch) => self.set_own_epoch(epoch),
            Request::BumpEpoch => {
                Ok(match (self.bump_epoch(), self.table.myself().config_epoch()) {
                    (true, epoch) => Done::Bumped(epoch),
                    (false, epoch) => Done::Still(epoch),
                })
            }
            Request::Replicate(id) => self.replicate(id, cx),
            Request::Failover { how, user } => self.fail_over(how, &user, cx),
            Request::SetSlot { slot, how, by } => self.set_slot(slot, how, by, cx),
            Request::Reset(how) => self.reset(how, cx),
            Request::TakeSlots { slots, from, until_ms, epoch } => {
                self.take_slots(&slots, from, (until_ms, epoch), cx)
            }
            Request::ConcedeSlots { slots, to, epoch } => self.concede_slots(&slots, to, epoch, cx),
        }?;
        self.due.sync = true;
        self.due.state = true;
        self.settle(cx);
        Ok(done)
    }

    /// That it is under way already, or that too many are, is no error: the node is asked for
    /// again.
    fn meet(&mut self, ip: String, port: u16, bus_port: u16, cx: &mut Cx) -> Result<Done, Refusal> {
        let (port, tls_port) = if self.settings.is_tls { (0, port) } else { (port, 0) };
        let place = Place { ip, port, tls_port, bus_port };
        self.start_handshake(place, Flags::MEET, cx);
        Ok(Done::Ok)
    }

    fn forget(&mut self, id: NodeId, cx: &mut Cx) -> Result<Done, Refusal> {
        let Some(key) = self.table.find(id) else {
            let is_forgotten = self.blacklist.has(id, cx.now.ms);
            return if is_forgotten { Ok(Done::Ok) } else { Err(Refusal::UnknownNode(id)) };
        };
        if key == self.table.me() {
            return Err(Refusal::ForgetMyself);
        }
        if self.table.myself().primary() == Some(key) {
            return Err(Refusal::ForgetPrimary);
        }
        let ttl_ms = self.settings.blacklist_ttl_s.saturating_mul(1000);
        self.blacklist.add(id, cx.now.ms.saturating_add(ttl_ms));
        self.remove_node(key, cx);
        Ok(Done::Ok)
    }

    fn add_slots(&mut self, slots: &[Slot]) -> Result<Done, Refusal> {
        let busy = slots.iter().find(|slot| self.table.owner(**slot).is_some());
        if let Some(slot) = busy {
            return Err(Refusal::SlotBusy(*slot));
        }
        for slot in slots {
            self.table.set_way(*slot, None);
            self.table.assign(*slot, self.table.me());
        }
        Ok(Done::Ok)
    }

    fn del_slots(&mut self, slots: &[Slot]) -> Result<Done, Refusal> {
        let free = slots.iter().find(|slot| self.table.owner(**slot).is_none());
        if let Some(slot) = free {
            return Err(Refusal::SlotUnassigned(*slot));
        }
        slots.iter().for_each(|slot| self.table.unassign(*slot));
        Ok(Done::Ok)
    }

    fn set_own_epoch(&mut self, epoch: u64) -> Result<Done, Refusal> {
        if self.table.count() > 1 {
            return Err(Refusal::NotAlone);
        }
        if self.table.myself().config_epoch() != 0 {
            return Err(Refusal::HasEpoch);
        }
        self.table.set_config_epoch(self.table.me(), epoch);
        Ok(Done::Ok)
    }

    fn replicate(&mut self, id: NodeId, cx: &mut Cx) -> Result<Done, Refusal> {
        let key = self.table.find(id).ok_or(Refusal::UnknownNode(id))?;
        let me = self.table.myself();
        if key == self.table.me() {
            return Err(Refusal::ReplicateMyself);
        }
        if self.table.node(key).is_replica() {
            return Err(Refusal::ReplicateReplica);
        }
        if me.primary() == Some(key) {
            return Ok(Done::Ok);
        }
        if me.is_primary() && (me.slot_count() > 0 || has_any_key(cx.facts)) {
            return Err(Refusal::NotEmpty);
        }
        self.become_replica(key, false, cx);
        self.broadcast_pong(cx);
        Ok(Done::Ok)
    }

    fn reset(&mut self, how: Reset, cx: &mut Cx) -> Result<Done, Refusal> {
        let me = self.table.me();
        let was_replica = self.table.myself().is_replica();
        if !was_replica && has_any_key(cx.facts) {
            return Err(Refusal::ResetWithKeys);
        }
        for key in self.table.keys().into_iter().filter(|key| *key != me) {
            self.links.of(key).into_iter().for_each(|link| self.close(link, cx));
        }
        self.end_manual(cx);
        if was_replica {
            self.table.make_primary(me);
            self.become_primary(cx);
            cx.actions.push(Action::DropAll);
        }
        self.table.forget_all();
        self.blacklist = Blacklist::default();
        if how == Reset::Hard {
            let mut draw = || std::array::from_fn(|_| cx.prng.next_u64() as u8);
            let (id, shard) = (NodeId::from_random(draw()), ShardId::from_random(draw()));
            self.table.begin_anew(id, shard);
            cx.notice("configEpoch set to 0 via CLUSTER RESET HARD".to_owned());
            cx.notice(format!("Node hard reset, now I'm {id}"));
        }
        Ok(Done::Ok)
    }

    /// How many voters say lately that a node is down (CLUSTER COUNT-FAILURE-REPORTS).
    pub fn count_failure_reports(&mut self, id: NodeId, now: Now) -> Result<usize, Refusal> {
        let key = self.table.find(id).ok_or(Refusal::UnknownNode(id))?;
        Ok(self.report_count(key, now.ms))
    }
}

fn has_any_key(facts: &Facts) -> bool {
    Slot::all().any(|slot| (facts.has_keys)(slot))
}
