//! CLUSTER SETSLOT, which a primary has its replicas do before it does it itself.
//!
//! Whoever takes over from it then goes on with the slot as it is. The client waits until those
//! replicas have it that understand it, and only then it is done. It may come to nothing: the
//! client goes away or is sent away, its time is over, or what was right when it asked is so no
//! more. Then the replicas have what their primary does not have, and keep it: a slot that is open
//! on them alone can neither be mended by tools nor closed by another node. So they are told how
//! the slot stands here. To do it for a client that has gone would leave who was answered
//! NOREPLICAS with a slot that changes later, and would still need the same words for what is
//! refused in the end; so there is one way for all.
//!
//! The same words go to who was sent a snapshot in between, which holds neither what was told
//! before it nor what was done after it.

#[cfg(test)]
mod tests;

use super::acks::{Copies, CopiesWait, copies_of};
use crate::cluster::admin::Request;
use crate::cluster::id::NodeId;
use crate::cluster::setslot::{By, SetSlot};
use crate::cluster::table::{Table, Way};
use crate::command::{CommandId, CommandResult};
use crate::engine::core::Core;
use crate::engine::dispatch::write_error;
use crate::engine::waiting::{Line, Reason, Wait};
use crate::engine::{Caller, ClientId, Clients, Cx, Effect, Server};
use crate::keyspace::slot::Slot;
use crate::resp::ReplyBuf;

/// What is done when the replicas have it.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    SetSlot(Told),
    /// Slots are taken that have come by this move.
    TakeSlots(NodeId),
}

/// What replicas have been told of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    slot: Slot,
    how: SetSlot,
    /// The last snapshot that was begun for a replica before they were told.
    snapshot: u64,
}

impl Told {
    fn request(self) -> Request {
        Request::SetSlot { slot: self.slot, how: self.how, by: By::Client }
    }
}

impl Then {
    fn told(self) -> Option<Told> {
        match self {
            Then::SetSlot(told) => Some(told),
            Then::TakeSlots(_) => None,
        }
    }
}

/// Has the replicas be told what the running client asks for by these words, and does it when
/// those have it who understand it. Those who may leave us by it are not waited for: nobody of
/// them takes over from us.
pub fn do_behind_replicas(
    cx: &mut Cx<'_>,
    words: &[&[u8]],
    (slot, how): (Slot, SetSlot),
    timeout_ms: u64,
) -> CommandResult {
    let told = Told { slot, how, snapshot: cx.server.replication.transfers.last() };
    let feeders = &cx.server.replication.feeders;
    let wanted = feeders.iter().filter(|feeder| feeder.knows_set_slot()).count();
    if cx.server.is_set_slot_heard() {
        cx.server.propagation.tell_replicas(cx.keys.db, words.iter().copied());
    }
    let machine = cx.server.cluster.as_deref().map(|member| &member.machine);
    let leave = machine.is_some_and(|machine| machine.leaves_no_slot(slot, how));
    if wanted == 0 || leave || !cx.caller.may_answer_late() {
        return cx.administrate_and_answer(told.request());
    }
    wait_for_replicas(cx, wanted, Then::SetSlot(told), timeout_ms);
    Ok(())
}

/// Has the running client wait until so many replicas have what has been written, and what it has
/// asked for be done then.
pub fn wait_for_replicas(cx: &mut Cx<'_>, wanted: usize, then: Then, timeout_ms: u64) {
    let id = cx.session().last_command.expect("a client's command is running");
    let (wanted, written) = (Copies::Applied { replicas: wanted as i64 }, cx.server.written_now());
    let reason = Reason::Copies(Box::new(CopiesWait { id, written, wanted, then: Some(then) }));
    let deadline_ms = (timeout_ms > 0).then(|| cx.server.clock.mono_ms() + timeout_ms);
    cx.is_blocked = true;
    cx.wait(Wait::until(reason, deadline_ms, |_| {}));
    cx.server.replication.asks_for_acks = true;
}

impl Core<'_> {
    /// The replicas have it.
    pub(super) fn do_now(&mut self, client: ClientId, id: CommandId, then: Then) {
        let Core { space, clients, server } = self;
        server.waiting.leave(clients, client);
        let mut bytes = ReplyBuf::new();
        let mut cx = Cx::of(space, clients, server, client, Caller::Retry, &mut bytes);
        let outcome = match then {
            Then::SetSlot(told) => cx.administrate_and_answer(told.request()),
            Then::TakeSlots(job) => cx.take_slots_now(job),
        };
        if let Err(error) = &outcome {
            write_error(&mut cx, error);
        }
        let waits = cx.session().wait.is_some();
        if let Then::SetSlot(Told { slot, snapshot, .. }) = then {
            let is_last = server.replication.transfers.last() == snapshot;
            server.end_set_slot(clients, slot, outcome.is_ok() && is_last);
        }
        server.stats.called(id, 0, outcome.is_err());
        if !waits {
            server.effects.push(Effect::Push { client, bytes });
            server.effects.push(Effect::Wake { client });
        }
    }
}

impl Server {
    /// Whether replicas are to be told: those who do not understand it would complain. If nobody is
    /// there, somebody may come back.
    fn is_set_slot_heard(&self) -> bool {
        let feeders = &self.replication.feeders;
        feeders.is_empty() || feeders.iter().any(|feeder| feeder.knows_set_slot())
    }

    /// Another node has slots that were ours. What is deleted of them comes behind this, so no
    /// replica believes itself to have slots without their keys, and none claims them if it takes
    /// over from us before it has heard of it by the bus.
    pub(in crate::engine) fn tell_of_lost_slots(&mut self, slots: &[Slot], to: NodeId) {
        if !self.is_set_slot_heard() {
            return;
        }
        let owner = to.to_string();
        for slot in slots {
            let slot = slot.to_string();
            let words = ["CLUSTER", "SETSLOT", &slot, "NODE", &owner].map(str::as_bytes);
            self.propagation.tell_replicas(0, words.into_iter());
        }
    }

    /// A client has left the waiting room, where it may have waited for replicas to know of a slot.
    /// What they were told is not done.
    pub(in crate::engine) fn give_up_set_slot(&mut self, clients: &Clients, wait: &Wait) {
        if let Reason::Copies(copies) = &wait.reason
            && let Some(told) = copies.then.and_then(Then::told)
        {
            self.end_set_slot(clients, told.slot, false);
        }
    }

    /// Tells the replicas how a slot stands here, unless that is what they have been told. If
    /// others have asked for something with the same slot, the last of them has it told.
    fn end_set_slot(&mut self, clients: &Clients, slot: Slot, is_as_told: bool) {
        let mistold = &mut self.replication.mistold_slots;
        if !is_as_told {
            mistold.insert(slot);
        }
        let is_about_it = |client: &ClientId| {
            let then = clients.get(*client).and_then(copies_of).and_then(|copies| copies.then);
            then.and_then(Then::told).is_some_and(|told| told.slot == slot)
        };
        if self.in_line(clients, Line::Copies).iter().any(is_about_it) {
            return;
        }
        let is_mistold = self.replication.mistold_slots.remove(&slot);
        // What replicas are told is our primary's to say, if we have one by now.
        if let Some(member) = self.cluster.as_deref().filter(|_| is_mistold)
            && !self.replication.is_replica()
        {
            for action in actions_to(member.machine.table(), slot) {
                let slot = slot.to_string();
                let words = ["CLUSTER", "SETSLOT", &slot].into_iter();
                let words: Vec<&[u8]> = words.chain(action.split(' ')).map(str::as_bytes).collect();
                self.propagation.tell_replicas(0, words.into_iter());
            }
        }
    }
}

/// What brings a slot to where it is, whatever has become of it.
fn actions_to(table: &Table, slot: Slot) -> impl Iterator<Item = String> {
    let id = |key| table.node(key).id();
    let owner = table.owner(slot).map(|owner| format!("NODE {}", id(owner)));
    let way = match table.way(slot) {
        None => "STABLE".to_owned(),
        Some(Way::LeavesTo(to)) => format!("MIGRATING {}", id(to)),
        Some(Way::ComesFrom(from)) => format!("IMPORTING {}", id(from)),
    };
    owner.into_iter().chain([way])
}
