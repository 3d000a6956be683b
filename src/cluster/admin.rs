//! What administrators ask for (CLUSTER MEET, FORGET, ADDSLOTS and so on).
//!
//! All that can be refused is looked at before anything is changed.

use super::flags::Flags;
use super::id::NodeId;
use super::machine::{Action, Cluster, Cx, Facts};
use super::table::Place;
use super::time::Now;
use crate::keyspace::slot::Slot;
use crate::structs::prng::Prng;
use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Meet { ip: String, port: u16, bus_port: u16 },
    Forget(NodeId),
    AddSlots(Vec<Slot>),
    DelSlots(Vec<Slot>),
    FlushSlots,
    SetConfigEpoch(u64),
    BumpEpoch,
    Replicate(NodeId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Ok,
    /// The epoch that this node has now.
    Bumped(u64),
    /// The epoch that it has since before.
    Still(u64),
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
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownNode(id) => return write!(f, "Unknown node {id}"),
            Refusal::SlotBusy(slot) => return write!(f, "Slot {slot} is already busy"),
            Refusal::SlotUnassigned(slot) => {
                return write!(f, "Slot {slot} is already unassigned");
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
        let cx = &mut Cx { facts, now, prng, actions };
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
        let has_keys = || Slot::all().any(|slot| (cx.facts.has_keys)(slot));
        if me.is_primary() && (me.slot_count() > 0 || has_keys()) {
            return Err(Refusal::NotEmpty);
        }
        self.become_replica(key, false, cx);
        self.broadcast_pong(cx);
        Ok(Done::Ok)
    }
}
