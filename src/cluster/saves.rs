//! The file before the word: what is sent after a change that must last waits until the file has
//! it.
//!
//! A vote that was given and forgotten may be given twice, and so may an epoch. What is only
//! convenient to find again is written at the next tick, and nothing waits for it. Of the saves
//! that others wait for one is under way at a time: what changes meanwhile goes into the next one,
//! so a slow disk makes for few saves and not for many that queue.

use super::file;
use super::links::LinkId;
use super::machine::{Action, Cluster, Cx};
use std::collections::VecDeque;

/// The number of a save. Once one is safe, so are those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Ticket(u64);

#[derive(Default)]
pub(super) struct Saves {
    last: Ticket,
    under_way: Option<Ticket>,
    safe: Ticket,
    /// What is sent now waits for this one, which may be yet to come.
    needed: Ticket,
    /// In the order in which it would have been sent.
    held: VecDeque<(Ticket, LinkId, Vec<u8>)>,
}

impl Saves {
    /// What has to be safe before anybody is told what was done last, if it is not.
    pub fn awaited(&self) -> Option<Ticket> {
        Some(self.needed).filter(|needed| *needed > self.safe)
    }

    fn next(&self) -> Ticket {
        Ticket(self.last.0 + 1)
    }

    /// What waits for a connection that is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.held.retain(|(_, to, _)| *to != link);
    }

    /// Takes out of the actions what may not be sent yet.
    fn hold(&mut self, actions: &mut Vec<Action>, from: usize) {
        let Some(ticket) = self.awaited() else { return };
        let held = actions.extract_if(from.., |action| matches!(action, Action::Send { .. }));
        self.held.extend(held.filter_map(|action| match action {
            Action::Send { link, bytes } => Some((ticket, link, bytes)),
            _ => None,
        }));
    }

    fn release(&mut self, actions: &mut Vec<Action>) {
        while let Some((_, link, bytes)) = self.held.pop_front_if(|(t, ..)| *t <= self.safe) {
            actions.push(Action::Send { link, bytes });
        }
    }
}

impl Cluster {
    /// Saves what is due to be saved, and sends what need not wait for that.
    pub(super) fn save_what_is_due(&mut self, cx: &mut Cx) {
        if std::mem::take(&mut self.due.sync) {
            self.saves.needed = self.saves.needed.max(self.saves.next());
        }
        self.save_next(cx);
        self.saves.hold(cx.actions, cx.begin);
    }

    fn save_next(&mut self, cx: &mut Cx) {
        let is_synced = self.saves.needed > self.saves.last;
        let is_due = is_synced || (self.due.save && self.due.flush);
        if !is_due || self.saves.under_way.is_some() {
            return;
        }
        (self.due.save, self.due.flush) = (false, false);
        let ticket = self.saves.next();
        self.saves.last = ticket;
        self.saves.under_way = Some(ticket).filter(|_| is_synced);
        let text = file::print(&self.table, cx.now);
        cx.actions.push(Action::Save { ticket, text, is_synced });
    }

    /// A save that failed leaves everything waiting: a node that cannot keep its votes has none.
    pub(super) fn saved(&mut self, ticket: Ticket, ok: bool, cx: &mut Cx) {
        if self.saves.under_way.is_none_or(|under_way| under_way > ticket) || !ok {
            return;
        }
        self.saves.under_way = None;
        self.saves.safe = ticket;
        self.saves.release(cx.actions);
        // These were sent before, and wait for nothing more.
        cx.begin = cx.actions.len();
    }
}
