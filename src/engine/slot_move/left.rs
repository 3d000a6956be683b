//! Slots that have gone to another node: their keys are out of the keyspace at once, and are told
//! to be gone a few at a time.
//!
//! Replicas and the AOF are told by DEL, as if each had been deleted, since replicas may be of
//! another make. So are caching clients and those who listen for events. All of that for a hundred
//! slots at once would hold everybody up for seconds. What is told late must not meet what has come
//! meanwhile: a slot that comes back is told of to its end before anything of it is taken in.

use crate::cluster::slot_set::SlotSet;
use crate::engine::standstill::Deed;
use crate::engine::{Core, call};
use crate::keyspace::SlotPart;
use crate::keyspace::slot::Slot;
use std::collections::VecDeque;

/// So many keys are told of in a turn.
const KEYS_A_TURN: usize = 256;

/// See the head of this file.
#[derive(Default)]
pub struct Left {
    parts: VecDeque<LeftPart>,
}

struct LeftPart {
    slot: Slot,
    part: SlotPart,
    /// How far it has been told of.
    cursor: u64,
    bytes: usize,
}

impl Left {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Core<'_> {
    /// The keys of a slot are not ours any more.
    pub(in crate::engine) fn drop_slot(&mut self, slot: Slot) {
        let part = self.space.take_slot(0, slot);
        if !part.is_empty() {
            let left = LeftPart { slot, part, cursor: 0, bytes: 0 };
            self.server.slot_moves.left.parts.push_back(left);
        }
    }

    /// Tells of some keys, at a turn's end.
    pub(super) fn tell_of_left_slots(&mut self) {
        if !self.server.may(Deed::Move) {
            return;
        }
        let mut budget = KEYS_A_TURN;
        while budget > 0
            && let Some(mut left) = self.server.slot_moves.left.parts.pop_front()
        {
            budget = budget.saturating_sub(self.tell_of(&mut left, budget));
            match left.cursor {
                0 => self.space.changes.discard_slot(left.part, left.bytes),
                _ => self.server.slot_moves.left.parts.push_front(left),
            }
        }
        call::settle(self.space, self.clients, self.server, None);
    }

    /// Tells of about so many keys of a slot; of how many.
    fn tell_of(&mut self, left: &mut LeftPart, count: usize) -> usize {
        let (mut told, mut bytes) = (0, 0);
        let changes = &mut self.space.changes;
        left.cursor = left.part.scan(left.cursor, count, |entry| {
            told += 1;
            bytes += entry.heap_bytes();
            changes.dropped(0, entry.key());
            changes.withdraw(0, entry);
        });
        left.bytes += bytes;
        told
    }

    /// Tells of all keys of slots that are ours again, or come.
    pub(super) fn tell_of_slots_that_came_back(&mut self) {
        if self.server.slot_moves.left.is_empty() {
            return;
        }
        let Some(member) = self.server.cluster.as_deref() else { return };
        let table = member.machine.table();
        let ours = table.primary_of(table.me());
        let is_back = |slot: Slot| table.owner(slot) == Some(ours) || table.way(slot).is_some();
        let parts = self.server.slot_moves.left.parts.iter();
        let back: Vec<Slot> = parts.map(|left| left.slot).filter(|slot| is_back(*slot)).collect();
        self.finish_telling_of(&back);
    }

    /// Tells of all keys of these slots at once.
    pub(super) fn finish_telling_of(&mut self, slots: &[Slot]) {
        if slots.is_empty() || self.server.slot_moves.left.is_empty() {
            return;
        }
        let wanted: SlotSet = slots.iter().copied().collect();
        let parts = &mut self.server.slot_moves.left.parts;
        let all: Vec<LeftPart> = parts.drain(..).collect();
        let (now, later): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|left| wanted.has(left.slot));
        parts.extend(later);
        for mut left in now {
            loop {
                self.tell_of(&mut left, usize::MAX);
                if left.cursor == 0 {
                    break;
                }
            }
            self.space.changes.discard_slot(left.part, left.bytes);
        }
        call::settle(self.space, self.clients, self.server, None);
    }

    /// Tells of all that is left to be told, before somebody else has the word.
    pub(in crate::engine) fn finish_telling(&mut self) {
        let parts = self.server.slot_moves.left.parts.iter();
        let all: Vec<Slot> = parts.map(|left| left.slot).collect();
        self.finish_telling_of(&all);
    }

    /// We have taken the place of a primary that was in the middle of telling of slots.
    pub(in crate::engine) fn drop_foreign_slots(&mut self) {
        let Some(member) = self.server.cluster.as_deref() else { return };
        let table = member.machine.table();
        let is_foreign = |slot: &Slot| {
            let is_anothers = table.owner(*slot).is_some_and(|owner| owner != table.me());
            is_anothers && table.way(*slot).is_none() && self.space.db(0).slot_len(*slot) > 0
        };
        let foreign: Vec<Slot> = Slot::all().filter(is_foreign).collect();
        foreign.into_iter().for_each(|slot| self.drop_slot(slot));
    }
}
