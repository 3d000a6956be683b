//! The source of a move: what the machine wants done, and what it has to be told.

use super::share::share;
use super::{BUSY, ExportJob, LinkId, News, Order, Pour, Said, Times, error};
use crate::cluster::admin::{Refusal, Request};
use crate::cluster::id::NodeId;
use crate::cluster::moves::{Action, Event, Export, State};
use crate::cluster::slot_set::SlotSet;
use crate::command::{CommandError, CommandResult};
use crate::engine::standstill::Deed;
use crate::engine::waiting::Line;
use crate::engine::{Core, Effect, Server};
use crate::keyspace::slot::Slot;
use crate::persist::rdb::SaveOptions;
use crate::resp::command;
use bytes::Bytes;
use std::time::Duration;

/// What has been sent and is not carried out may be so much, unless replicas may have more wait.
const UNACKED_BYTES_MAX: u64 = 256 << 20;

/// A request of CLUSTER SLOTMOVE.
pub(super) fn request(words: &[&[u8]]) -> Bytes {
    let all = [&b"CLUSTER"[..], b"SLOTMOVE"].into_iter().chain(words.iter().copied());
    let mut bytes = Vec::new();
    command::put(&mut bytes, all.collect::<Vec<_>>().into_iter());
    bytes.into()
}

/// A request with the runs of slots behind other words.
pub(super) fn request_with_slots(words: &[&[u8]], slots: &[Slot]) -> Bytes {
    let runs = super::runs(slots);
    let numbers = runs.iter().flat_map(|(first, last)| [first.to_string(), last.to_string()]);
    let numbers: Vec<String> = numbers.collect();
    let words = words.iter().copied().chain(numbers.iter().map(String::as_bytes));
    request(&words.collect::<Vec<_>>())
}

impl Server {
    /// Whether slots of this node may go to another one.
    pub fn may_export(&self, slots: &[Slot], target: NodeId) -> CommandResult {
        let member = self.cluster.as_deref().ok_or(CommandError::NoClusterSupport)?;
        let table = member.machine.table();
        if table.myself().is_replica() {
            return Err(error("Slots can be moved by primaries only"));
        }
        let key = table.find(target).ok_or_else(|| error(format!("Unknown node {target}")))?;
        if key == table.me() {
            return Err(error("The target of the move is this node"));
        }
        if table.node(key).is_replica() {
            return Err(error(format!("Node {target} is not a primary")));
        }
        let open = self.slot_moves.exports.iter().filter(|job| !job.export.state.is_over());
        let moving: SlotSet = open.flat_map(|job| job.export.slots.iter().copied()).collect();
        for slot in slots {
            if table.owner(*slot) != Some(table.me()) {
                return Err(error(format!("Slot {slot} is not served by this node")));
            }
            if table.way(*slot).is_some() {
                return Err(error(format!("Slot {slot} is being migrated by CLUSTER SETSLOT")));
            }
            if moving.has(*slot) {
                return Err(error(format!("Slot {slot} is being moved already")));
            }
        }
        Ok(())
    }

    fn order(&mut self, order: Order) {
        self.effects.push(Effect::SlotMove(Box::new(order)));
    }

    pub(super) fn say(&mut self, link: LinkId, what: Said, bytes: Bytes) {
        self.order(Order::Say { link, what, bytes });
    }

    pub(super) fn close_slot_link(&mut self, link: LinkId) {
        self.order(Order::Close(link));
    }

    /// Connects to a node, and says who we are.
    pub(super) fn open_slot_link(&mut self, node: NodeId) -> Option<LinkId> {
        let target = self.way_to(node)?;
        let link = self.slot_moves.number_link();
        let auth = target.auth.clone();
        let timeout = Duration::from_secs(self.config.repl_timeout.into());
        self.order(Order::Open { link, target, timeout });
        if let Some(auth) = auth {
            let mut words = vec![&b"AUTH"[..]];
            words.extend(auth.user.as_deref());
            words.push(&auth.password);
            let mut bytes = Vec::new();
            command::put(&mut bytes, words.into_iter());
            self.say(link, Said::Auth, bytes.into());
        }
        Some(link)
    }
}

impl Core<'_> {
    /// Has slots go to another node, when those before them have gone.
    pub fn begin_export(&mut self, id: NodeId, target: NodeId, slots: Vec<Slot>) {
        let times = Times::begin(self.server.clock.unix_ms());
        let export = Export::new(target, slots);
        let moves = &mut self.server.slot_moves;
        let set = export.slots.iter().copied().collect();
        moves.exports.push(ExportJob { id, export, set, times, link: None });
        moves.open += 1;
        moves.trim();
        self.drive_export();
    }

    /// Ends moves that are under way, if it is not too late; how many.
    pub fn cancel_exports(&mut self, wanted: impl Fn(&ExportJob) -> bool) -> usize {
        let jobs = self.server.slot_moves.exports.iter().enumerate();
        let open = jobs.filter(|(_, job)| !job.export.state.is_over() && wanted(job));
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        open.iter().for_each(|at| self.tell_export(*at, Event::Cancel));
        let jobs = &self.server.slot_moves.exports;
        open.iter().filter(|at| jobs[**at].export.state == State::Cancelled).count()
    }

    /// Tells the machine of a move what has happened, and does what follows.
    fn tell_export(&mut self, at: usize, event: Event<'_>) {
        let bounds = self.server.move_bounds();
        let (now_ms, unix_ms) = (self.server.clock.mono_ms(), self.server.clock.unix_ms());
        let job = &mut self.server.slot_moves.exports[at];
        let before = job.export.state;
        let action = job.export.handle(event, now_ms, &bounds);
        if job.export.state != before {
            job.times.updated_ms = unix_ms;
            if job.export.state.is_over() {
                job.times.ended_ms = unix_ms;
                tell_of_end(job);
                self.server.slot_moves.open -= 1;
            }
        }
        match action {
            None => {}
            Some(Action::Dial) => self.dial_target(at),
            Some(Action::Offer) => self.offer(at),
            Some(Action::Pause) => {
                let set = self.server.slot_moves.exports[at].set.clone();
                self.server.slot_moves.paused = Some(set);
            }
            Some(Action::Take { valid_ms }) => {
                let job = &self.server.slot_moves.exports[at];
                let (id, link, to) = (job.id.to_string(), job.link, job.export.target);
                let Some(member) = &mut self.server.cluster else { return };
                if member.machine.is_failing_over() {
                    let reason = &Refusal::FailoverUnderWay.to_string();
                    return self.tell_export(at, Event::Refused { reason, is_busy: false });
                }
                let epoch = member.machine.hand_over(to, job.set.clone()).to_string();
                let valid = valid_ms.to_string();
                let words = [&b"TAKE"[..], id.as_bytes(), valid.as_bytes(), epoch.as_bytes()];
                let bytes = request(&words);
                link.into_iter().for_each(|link| self.server.say(link, Said::Take, bytes.clone()));
            }
            Some(Action::End) if before.is_under_way() => self.end_export(at),
            Some(Action::End) => {}
        }
    }

    fn dial_target(&mut self, at: usize) {
        let target = self.server.slot_moves.exports[at].export.target;
        match self.server.open_slot_link(target) {
            Some(link) => self.server.slot_moves.exports[at].link = Some(link),
            None => self.tell_export(at, Event::Lost("The address of the target is not known")),
        }
    }

    fn offer(&mut self, at: usize) {
        let Some(own) = self.server.own_id() else { return };
        let job = &self.server.slot_moves.exports[at];
        let (id, own) = (job.id.to_string(), own.to_string());
        let words = [&b"OFFER"[..], id.as_bytes(), own.as_bytes()];
        let bytes = request_with_slots(&words, &job.export.slots);
        let link = job.link;
        link.into_iter().for_each(|link| self.server.say(link, Said::Offer, bytes.clone()));
    }

    /// Nothing is sent any more, and who has waited to write is let through or sent on.
    fn end_export(&mut self, at: usize) {
        let moves = &mut self.server.slot_moves;
        moves.records = false;
        let was_paused = moves.paused.take().is_some();
        if let Some(member) = &mut self.server.cluster {
            member.machine.end_hand_over();
        }
        if let Some(link) = moves.exports[at].link.take() {
            self.server.close_slot_link(link);
        }
        self.server.follow_readers(self.space);
        if was_paused {
            self.server.wake_line(self.clients, Line::Unpause);
        }
    }

    /// What the target, or the connection to it, has said.
    pub(super) fn hear_target(&mut self, at: usize, news: News) {
        if matches!(news, News::Answered(..) | News::Poured) {
            let unix_ms = self.server.clock.unix_ms();
            self.server.slot_moves.exports[at].times.acked_ms = unix_ms;
        }
        match news {
            News::Connected => self.tell_export(at, Event::Connected),
            News::Poured => self.tell_export(at, Event::Poured),
            News::Closed(reason) => self.tell_export(at, Event::Lost(&reason)),
            News::Answered(_, Err(reason)) => {
                let is_busy = &*reason == BUSY;
                self.tell_export(at, Event::Refused { reason: &reason, is_busy });
            }
            News::Answered(Said::Offer, Ok(_)) => self.tell_export(at, Event::Accepted),
            News::Answered(Said::Piece(upto), Ok(_)) => self.tell_export(at, Event::Acked(upto)),
            News::Answered(Said::Take, Ok(epoch)) => {
                self.tell_export(at, Event::Taken);
                self.concede(at, &epoch);
            }
            News::Answered(..) => {}
        }
    }

    /// The target has taken the slots under this epoch: we need not wait for who tells us.
    fn concede(&mut self, at: usize, epoch: &str) {
        let export = &self.server.slot_moves.exports[at].export;
        let (slots, to) = (export.slots.clone(), export.target);
        let Ok(epoch) = epoch.parse() else { return };
        // If it cannot be, the cluster's own word is still to come.
        let _ = self.administrate(Request::ConcedeSlots { slots, to, epoch });
    }

    /// What a turn has brought for the move that is under way, or whose turn it is.
    pub(super) fn drive_export(&mut self) {
        let now_ms = self.server.clock.mono_ms();
        let moves = &self.server.slot_moves;
        let Some(at) = moves.active_export() else {
            let next = moves.exports.iter().position(|job| job.export.wants_turn(now_ms));
            return next.into_iter().for_each(|at| self.tell_export(at, Event::Turn));
        };
        // What was written while the move comes to a new state is behind that.
        for _ in 0..2 {
            self.send_share(at);
            let may_look = self.server.may(Deed::Photograph);
            match self.server.slot_moves.exports[at].export.state {
                State::Accepted if may_look => self.keep_and_pour(at),
                State::Pausing if may_look => self.tell_export(at, Event::Still),
                _ => return,
            }
        }
    }

    /// Sends what has been written to the slots.
    fn send_share(&mut self, at: usize) {
        let Some(stream) = self.server.propagation.take_for_mover() else { return };
        let job = &self.server.slot_moves.exports[at];
        if !job.export.state.is_sending() {
            return;
        }
        let shared = match share(&stream, &self.server.table, job.set.bits()) {
            Ok(shared) if shared.is_empty() => return,
            Ok(shared) => shared,
            Err(reason) => return self.tell_export(at, Event::Spoilt(reason.text())),
        };
        let (id, link) = (job.id.to_string(), job.link);
        let said = job.export.said + shared.len() as u64;
        let bytes = request(&[b"APPLY", id.as_bytes(), &shared]);
        link.into_iter().for_each(|link| {
            self.server.say(link, Said::Piece(said), bytes.clone());
        });
        self.tell_export(at, Event::Said(said));
        let export = &self.server.slot_moves.exports[at].export;
        if export.said - export.acked > self.unacked_max() {
            self.tell_export(at, Event::Spoilt("The target cannot keep up with what is written"));
        }
    }

    fn unacked_max(&self) -> u64 {
        let limit = self.server.config.client_output_buffer_limit.replica.hard_bytes;
        if limit == 0 { UNACKED_BYTES_MAX } else { limit }
    }

    /// Has the keys of the slots sent as they are now, and what is written from now on behind them.
    fn keep_and_pour(&mut self, at: usize) {
        let moves = &mut self.server.slot_moves;
        moves.records = true;
        let job = &moves.exports[at];
        let Some(link) = job.link else { return };
        let options = SaveOptions::of(&self.server.config, &self.space.access);
        let pour = Box::new(Pour {
            job: job.id.to_string().into(),
            keys: self.space.db(0).snapshot(self.space.now_ms),
            slots: job.export.slots.clone(),
            version: options.version,
            compresses: options.compresses,
        });
        self.server.follow_readers(self.space);
        self.server.order(Order::Pour { link, pour });
        self.tell_export(at, Event::Kept);
    }

    pub(super) fn tick_export(&mut self) {
        match self.server.slot_moves.active_export() {
            Some(at) => self.tell_export(at, Event::Tick),
            None => self.drive_export(),
        }
    }

    /// Who has which slot has changed.
    pub(super) fn follow_export(&mut self) {
        let jobs = 0..self.server.slot_moves.exports.len();
        for at in jobs {
            let job = &self.server.slot_moves.exports[at];
            let Some(member) = self.server.cluster.as_deref() else { return };
            if job.export.state.is_over() {
                continue;
            }
            let table = member.machine.table();
            let (target, me) = (table.find(job.export.target), table.me());
            let owned_by = |key| job.export.slots.iter().all(|slot| table.owner(*slot) == key);
            let event = if target.is_some() && owned_by(target) {
                Event::Claimed
            } else if table.myself().is_replica() {
                Event::Spoilt("This node is a replica now")
            } else if !owned_by(Some(me)) {
                Event::Spoilt("Slots of the move have another owner now")
            } else if job.export.slots.iter().any(|slot| table.way(*slot).is_some()) {
                Event::Spoilt("CLUSTER SETSLOT has slots of the move on their way")
            } else {
                continue;
            };
            self.tell_export(at, event);
        }
    }
}

fn tell_of_end(job: &ExportJob) {
    let (id, target, export) = (job.id, job.export.target, &job.export);
    let (count, word) = (export.slots.len(), export.state.word());
    match export.state {
        State::Success => tracing::info!(
            "Move {id} of {count} slots to node {target}: {word}, writes waited for {} ms",
            export.paused_for_ms
        ),
        _ => tracing::warn!(
            "Move {id} of {count} slots to node {target}: {word}, {}",
            export.message
        ),
    }
}
