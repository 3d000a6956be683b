//! What each slot costs (`cluster-slot-stats-enabled`): time, and bytes in and out.
//!
//! A request is counted for the slot that its keys have, once, with all that it runs. One that
//! waits is counted when it is served; a transaction counts when EXEC runs it, with all requests
//! that led to it; a script that may work in several slots counts for none of them. As in Valkey,
//! from which the metrics are.

use super::Member;
use crate::cluster::route::Owner;
use crate::engine::gates::owner_of;
use crate::engine::propagate::Reader;
use crate::engine::transaction::Transaction;
use crate::engine::{Caller, Server};
use crate::keyspace::slot::{SLOTS, Slot};
use crate::resp::Request;

/// What was counted for a slot.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SlotUse {
    pub cpu_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The request that runs.
#[derive(Clone, Copy)]
pub struct Counted {
    slot: Option<Slot>,
    bytes_in: u64,
    /// What stood in the replicas' stream before it, and whether that begins anew.
    stream_bytes: usize,
    selects: bool,
}

pub struct Usage {
    slots: Box<[SlotUse]>,
    /// Which of them were of this node's shard when that was last looked at.
    are_ours: Box<[bool]>,
    running: Option<Counted>,
}

/// The MULTI before an EXEC.
const MULTI_BYTES: usize = b"*1\r\n$5\r\nmulti\r\n".len();
/// What a stream begins with stands for no slot.
const SELECT_BYTES: usize = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n".len();

impl Usage {
    pub fn new(member: &Member) -> Usage {
        let are_ours = Slot::all().map(|slot| is_ours(member, slot)).collect();
        Usage { slots: vec![SlotUse::default(); SLOTS].into(), are_ours, running: None }
    }

    pub fn of(&self, slot: Slot) -> SlotUse {
        self.slots[usize::from(slot.number())]
    }

    pub fn reset(&mut self) {
        self.slots.fill(SlotUse::default());
    }

    /// What was counted for slots that have come or gone says nothing any more.
    pub fn follow_owners(&mut self, member: &Member) {
        for slot in Slot::all() {
            let at = usize::from(slot.number());
            let is_ours = is_ours(member, slot);
            if std::mem::replace(&mut self.are_ours[at], is_ours) != is_ours {
                self.slots[at] = SlotUse::default();
            }
        }
    }

    fn at(&mut self, slot: Slot) -> &mut SlotUse {
        &mut self.slots[usize::from(slot.number())]
    }

    /// A message of a shard's channel went to listeners.
    pub fn count_out(&mut self, slot: Slot, bytes: u64) {
        self.at(slot).bytes_out += bytes;
    }

    /// The request that runs took so long, with all that it ran.
    pub fn count_time(&mut self, elapsed_ns: u64) {
        if let Some(slot) = self.running.and_then(|running| running.slot) {
            self.at(slot).cpu_us += elapsed_ns / 1000;
        }
    }

    /// A script works in this slot, or in several.
    pub fn follow_script(&mut self, slot: Option<Slot>) {
        if let Some(running) = &mut self.running {
            running.slot = slot;
        }
    }
}

fn is_ours(member: &Member, slot: Slot) -> bool {
    matches!(owner_of(member, slot), Owner::Myself | Owner::MyPrimary)
}

impl Server {
    /// A client's request begins, or is tried again, or comes from our primary.
    pub fn begin_usage(&mut self, request: &Request<'_>, transaction: Option<&Transaction>) {
        let stream_bytes = self.propagation.open_bytes_for(Reader::Replicas);
        let selects = self.propagation.db_for_replicas().is_none();
        let Some(usage) = &mut self.slot_usage else { return };
        let queued = transaction.map_or(0, |transaction| {
            let all = transaction.queued().iter();
            MULTI_BYTES + all.map(|queued| queued.request.as_request().wire_len()).sum::<usize>()
        });
        let bytes_in = (queued + request.wire_len()) as u64;
        usage.running = Some(Counted { slot: None, bytes_in, stream_bytes, selects });
    }

    /// Its keys have this slot.
    pub fn note_slot(&mut self, slot: Slot) {
        if let Some(usage) = &mut self.slot_usage {
            usage.follow_script(Some(slot));
        }
    }

    /// It is not counted: it waits, or is queued.
    pub fn give_up_usage(&mut self) {
        self.put_usage_aside();
    }

    /// It is put aside with what is known of it.
    pub fn put_usage_aside(&mut self) -> Option<Counted> {
        self.slot_usage.as_mut()?.running.take()
    }

    /// It goes on.
    pub fn resume_usage(&mut self, counted: Option<Counted>) {
        if let Some(usage) = &mut self.slot_usage {
            usage.running = counted;
        }
    }

    /// It has been answered.
    pub fn end_usage(&mut self, caller: Caller, reply_bytes: usize) {
        let feeders = self.replication.feeders.len();
        let stream_bytes = self.propagation.open_bytes_for(Reader::Replicas);
        let Some(usage) = &mut self.slot_usage else { return };
        let Some(running) = usage.running.take() else { return };
        let Some(slot) = running.slot else { return };
        let mut streamed = stream_bytes.saturating_sub(running.stream_bytes);
        if running.selects && streamed > 0 {
            streamed = streamed.saturating_sub(SELECT_BYTES);
        }
        let own = usage.at(slot);
        own.bytes_in += running.bytes_in;
        if caller != Caller::Primary {
            own.bytes_out += (reply_bytes + streamed * feeders) as u64;
        }
    }

    /// The directive, or what it needs, may have changed.
    pub(in crate::engine) fn follow_usage(&mut self) {
        let is_wanted = self.config.cluster_slot_stats_enabled;
        self.slot_usage = match (self.cluster.as_deref(), self.slot_usage.take()) {
            (Some(member), None) if is_wanted => Some(Box::new(Usage::new(member))),
            (Some(_), kept) if is_wanted => kept,
            _ => None,
        };
    }
}
