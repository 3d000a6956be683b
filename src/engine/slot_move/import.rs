//! The target of a move: keys that come lie aside until the slots are ours.
//!
//! The source is a client here, whose requests are carried out one after the other. When it goes
//! before the slots were taken, what has come is dropped. A move that this node has asked for
//! (CLUSTER MIGRATION IMPORT) begins with a connection of ours to the source, on which it is asked
//! now and then how far it is, so that a move that ends there ends here.

use super::export::{request, request_with_slots};
use super::{BUSY, ImportJob, News, Said, error, runs};
use crate::cluster::admin::Request;
use crate::cluster::flags::Flags;
use crate::cluster::id::NodeId;
use crate::command::{CommandError, CommandResult};
use crate::engine::replication::set_slot::{Then, wait_for_replicas};
use crate::engine::waiting::{Release, Wait};
use crate::engine::{Caller, ClientId, Core, Cx, Effect, Engine, Server};
use crate::keyspace::slot::Slot;
use crate::resp::ReplyBuf;

/// How often a source is asked how far it is.
const ASK_EVERY_MS: u64 = 1000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportState {
    /// The source has yet to hear that we want the slots.
    Asking,
    /// It has, and is to connect.
    Waiting,
    Receiving,
    /// All is here, and our replicas have it, or will.
    Taking,
    Success,
    Failed,
    Cancelled,
}

impl ImportState {
    pub fn is_over(self) -> bool {
        matches!(self, ImportState::Success | ImportState::Failed | ImportState::Cancelled)
    }

    /// As tools are shown it.
    pub fn word(self) -> &'static str {
        match self {
            ImportState::Asking => "connecting",
            ImportState::Waiting => "waiting",
            ImportState::Receiving => "receiving",
            ImportState::Taking => "taking-over",
            ImportState::Success => "success",
            ImportState::Failed => "failed",
            ImportState::Cancelled => "cancelled",
        }
    }
}

/// What somebody wants of another node.
pub struct Wish {
    pub id: NodeId,
    pub source: NodeId,
    pub slots: Vec<Slot>,
}

impl Core<'_> {
    /// Asks the owner of slots to send them here.
    pub fn begin_import(&mut self, wish: Wish) {
        let (now_ms, unix_ms) = (self.server.clock.mono_ms(), self.server.clock.unix_ms());
        let link = self.server.open_slot_link(wish.source);
        if let (Some(link), Some(own)) = (link, self.server.own_id()) {
            let (id, own) = (wish.id.to_string(), own.to_string());
            let words = [&b"WANT"[..], id.as_bytes(), own.as_bytes()];
            self.server.say(link, Said::Want, request_with_slots(&words, &wish.slots));
        }
        let moves = &mut self.server.slot_moves;
        let job = ImportJob::new(wish, ImportState::Asking, now_ms, unix_ms);
        moves.imports.push(ImportJob { link, ..job });
        moves.open += 1;
        moves.trim();
        if link.is_none() {
            let at = self.server.slot_moves.imports.len() - 1;
            self.end_import(at, ImportState::Failed, "The address of the source is not known");
        }
    }

    /// Ends moves that come, if it is not too late; how many.
    pub fn cancel_imports(&mut self, wanted: impl Fn(&ImportJob) -> bool) -> usize {
        let jobs = self.server.slot_moves.imports.iter().enumerate();
        let may_end = |job: &ImportJob| !job.state.is_over() && job.state != ImportState::Taking;
        let open = jobs.filter(|(_, job)| may_end(job) && wanted(job));
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        for at in &open {
            let job = &self.server.slot_moves.imports[*at];
            if let Some(link) = job.link {
                let id = job.id.to_string();
                self.server.say(link, Said::Forget, request(&[b"FORGET", id.as_bytes()]));
            }
            self.end_import(*at, ImportState::Cancelled, "Cancelled by a client");
        }
        open.len()
    }

    /// What the source, or our connection to it, has said.
    pub(super) fn hear_source(&mut self, at: usize, news: News) {
        let job = &mut self.server.slot_moves.imports[at];
        match news {
            News::Answered(Said::Want, Ok(_)) if job.state == ImportState::Asking => {
                job.state = ImportState::Waiting;
            }
            News::Answered(Said::Ask, Ok(text)) if job.state == ImportState::Waiting => {
                if let Some(reason) = text.strip_prefix("over ") {
                    self.end_import(at, ImportState::Failed, &format!("At the source: {reason}"));
                }
            }
            News::Answered(_, Err(reason)) | News::Closed(reason) => {
                job.link = None;
                // Once the source is connected to us that connection counts.
                if matches!(job.state, ImportState::Asking | ImportState::Waiting) {
                    self.end_import(at, ImportState::Failed, &reason);
                }
            }
            _ => {}
        }
    }

    pub(super) fn tick_imports(&mut self) {
        self.follow_imports();
        let now_ms = self.server.clock.mono_ms();
        for at in 0..self.server.slot_moves.imports.len() {
            if self.server.slot_moves.imports[at].state == ImportState::Receiving
                && let Err(reason) = self.server.replicas_know_moves()
            {
                // One has come meanwhile.
                self.end_import(at, ImportState::Failed, &reason);
                continue;
            }
            let job = &mut self.server.slot_moves.imports[at];
            if job.state == ImportState::Waiting
                && let Some(link) = job.link
                && now_ms.saturating_sub(job.asked_ms) >= ASK_EVERY_MS
            {
                job.asked_ms = now_ms;
                let id = job.id.to_string();
                self.server.say(link, Said::Ask, request(&[b"STATE", id.as_bytes()]));
            }
        }
    }

    /// A move is over.
    fn end_import(&mut self, at: usize, state: ImportState, reason: &str) {
        let unix_ms = self.server.clock.unix_ms();
        let job = &mut self.server.slot_moves.imports[at];
        let count = job.slots.len();
        (job.state, job.message) = (state, reason.to_owned());
        (job.times.updated_ms, job.times.ended_ms) = (unix_ms, unix_ms);
        let (id, source) = (job.id, job.source);
        let (client, link) = (job.client.take(), job.link.take());
        self.server.slot_moves.open -= 1;
        if let Some(link) = link {
            self.server.close_slot_link(link);
        }
        match state {
            ImportState::Success => {
                tracing::info!("Move {id} of {count} slots from node {source}: success");
            }
            _ => {
                let word = state.word();
                tracing::warn!("Move {id} of {count} slots from node {source}: {word}, {reason}");
                self.drop_staging_of(&id.to_string());
                client.into_iter().for_each(|client| self.send_source_away(client, reason));
            }
        }
    }

    /// A source whose move has failed here. If it has asked us to take the slots and waits, it is
    /// answered, since we have not: without an answer it would have to take it that we may have,
    /// and keep its writes waiting.
    fn send_source_away(&mut self, client: ClientId, reason: &str) {
        let session = self.clients.get(client);
        let wait = session.and_then(|session| session.wait.as_deref());
        if wait.is_some_and(Wait::depends_on_role) {
            let mut nothing = ReplyBuf::new();
            let Core { space, clients, server } = self;
            Cx::of(space, clients, server, client, Caller::Client, &mut nothing)
                .send_away(client, Release::Redirected(error(reason)));
        }
        self.server.effects.push(Effect::CloseWhenSent { client });
    }

    /// What has come by a move is dropped, here and at those who replay what we write.
    fn drop_staging_of(&mut self, job: &str) {
        if self.space.staging().is_some_and(|staging| staging.job() == job) {
            self.space.unstage();
            self.tell_of_staging(job, b"DROP");
            crate::engine::call::settle(self.space, self.clients, self.server, None);
        }
    }

    fn tell_of_staging(&mut self, job: &str, word: &[u8]) {
        let words = [&b"CLUSTER"[..], b"SLOTMOVE", word, job.as_bytes()];
        self.server.propagation.tell_all(0, words.into_iter());
    }

    /// The slots are ours by now: what lies aside of them takes its place.
    pub(in crate::engine) fn merge_staging(&mut self) {
        let Some(job) = self.space.staging().map(|staging| staging.job().to_owned()) else {
            return;
        };
        self.space.merge_staging();
        self.tell_of_staging(&job, b"END");
        crate::engine::call::settle(self.space, self.clients, self.server, None);
        // Of what has come something may expire soon.
        self.server.effects.push(Effect::WakeTimer);
        let jobs = &self.server.slot_moves.imports;
        let is_it = |own: &ImportJob| !own.state.is_over() && own.id.to_string() == job;
        if let Some(at) = jobs.iter().position(is_it) {
            self.end_import(at, ImportState::Success, "");
        }
    }

    /// Whether all slots of what lies aside are those of this node's shard.
    pub(super) fn is_staging_ours(&self) -> bool {
        let (Some(staging), Some(member)) = (self.space.staging(), &self.server.cluster) else {
            return false;
        };
        let table = member.machine.table();
        let ours = Some(table.primary_of(table.me()));
        staging.slots().iter().all(|slot| table.owner(*slot) == ours)
    }

    /// What lies aside belongs to no move that is under way: it was left by the last run of this
    /// server, or by a primary whose place it has taken. The table says whose it is.
    pub(in crate::engine) fn settle_staging(&mut self) {
        let Some(staging) = self.space.staging() else { return };
        let job = staging.job().to_owned();
        let jobs = &self.server.slot_moves.imports;
        if jobs.iter().any(|own| !own.state.is_over() && own.id.to_string() == job) {
            return;
        }
        let is_ours = self.is_staging_ours();
        // What a replica has is its primary's to say, who may be in the middle of it.
        if self.server.is_replica() && !is_ours {
            return;
        }
        tracing::info!(
            "Move {job} was under way: the {} keys that had come are {}",
            staging.len(),
            if is_ours { "kept, since the slots are ours" } else { "dropped" }
        );
        if is_ours {
            self.merge_staging();
        } else {
            self.drop_staging_of(&job);
        }
    }

    /// A client has gone; perhaps it was a source.
    fn importer_has_gone(&mut self, client: ClientId) {
        let jobs = &mut self.server.slot_moves.imports;
        if let Some(at) = jobs.iter().position(|job| job.client == Some(client)) {
            jobs[at].client = None;
            self.end_import(at, ImportState::Failed, "The source has closed the connection");
        }
    }

    /// Who has which slot, or is up, has changed.
    pub(super) fn follow_imports(&mut self) {
        for at in 0..self.server.slot_moves.imports.len() {
            let job = &self.server.slot_moves.imports[at];
            let Some(member) = self.server.cluster.as_deref() else { return };
            if job.state.is_over() {
                continue;
            }
            let table = member.machine.table();
            let source = table.find(job.source);
            let has_it = |slot: &Slot| table.owner(*slot) == source;
            let reason = if table.myself().is_replica() {
                "This node is a replica now"
            } else if source.is_none_or(|key| table.node(key).has(Flags::FAIL)) {
                "The source is down"
            } else if !job.slots.iter().all(has_it) && !has_all(member, &job.slots) {
                "Slots of the move have another owner now"
            } else {
                continue;
            };
            self.end_import(at, ImportState::Failed, reason);
        }
    }
}

impl Server {
    /// Whether our replicas take in what we take in; else why not.
    fn replicas_know_moves(&self) -> Result<(), String> {
        let feeders = &self.replication.feeders;
        match feeders.iter().find(|feeder| !feeder.announced.knows_slot_moves) {
            None => Ok(()),
            Some(other) => Err(format!(
                "Replica {} of the target does not know moves of slots; use CLUSTER SETSLOT and \
                 MIGRATE",
                other.name()
            )),
        }
    }
}

fn has_all(member: &crate::engine::cluster::Member, slots: &[Slot]) -> bool {
    let table = member.machine.table();
    slots.iter().all(|slot| table.owner(*slot) == Some(table.me()))
}

impl Engine {
    pub(in crate::engine) fn note_gone_importer(&mut self, client: ClientId) {
        if !self.server.slot_moves.imports.is_empty() {
            self.core().importer_has_gone(client);
        }
    }
}

impl Cx<'_> {
    /// A source offers slots: from now on their keys come from this client.
    pub fn accept_slots(&mut self, id: NodeId, source: NodeId, slots: Vec<Slot>) -> CommandResult {
        let member = self.server.cluster.as_deref().ok_or(CommandError::NoClusterSupport)?;
        let is_coming =
            |job: &ImportJob| matches!(job.state, ImportState::Receiving | ImportState::Taking);
        let jobs = &self.server.slot_moves.imports;
        if self.keys.space().staging().is_some() || jobs.iter().any(is_coming) {
            return Err(CommandError::Fixed(BUSY));
        }
        member.machine.may_take_slots(&slots, source).map_err(error)?;
        self.server.replicas_know_moves().map_err(error)?;
        let known = jobs.iter().position(|job| job.id == id);
        let is_other = |job: &ImportJob| {
            job.state.is_over() || job.source != source || runs(&job.slots) != runs(&slots)
        };
        if known.is_some_and(|at| is_other(&jobs[at])) {
            return Err(error("The move is over"));
        }
        let client = self.client;
        self.core().take_offer(Wish { id, source, slots }, client, known);
        Ok(())
    }

    /// Takes the slots whose keys have all come, which may be done for so long since the source was
    /// last answered.
    pub fn take_slots(&mut self, id: NodeId, valid_ms: u64, epoch: u64) -> CommandResult {
        self.server.replicas_know_moves().map_err(error)?;
        let (client, now_ms) = (self.client, self.server.clock.mono_ms());
        let jobs = &mut self.server.slot_moves.imports;
        let is_it = |job: &&mut ImportJob| job.id == id && job.client == Some(client);
        let job = jobs.iter_mut().find(is_it).filter(|job| job.state == ImportState::Receiving);
        let job = job.ok_or_else(|| error("No such move is under way"))?;
        job.state = ImportState::Taking;
        job.owners_epoch = epoch;
        job.taken_until_ms = job.answered_ms.saturating_add(valid_ms);
        let left_ms = job.taken_until_ms.saturating_sub(now_ms).max(1);
        // Whoever takes over from us must have the keys, too.
        match self.server.replication.feeders.iter().filter(|feeder| feeder.is_copy()).count() {
            0 => return self.take_slots_now(id),
            replicas => wait_for_replicas(self, replicas, Then::TakeSlots(id), left_ms),
        }
        Ok(())
    }

    /// Our replicas have all of them.
    pub(in crate::engine) fn take_slots_now(&mut self, id: NodeId) -> CommandResult {
        let jobs = &self.server.slot_moves.imports;
        let job = jobs.iter().find(|job| job.id == id && job.state == ImportState::Taking);
        let job = job.ok_or_else(|| error("No such move is under way"))?;
        let (slots, from, epoch) = (job.slots.clone(), job.source, job.owners_epoch);
        let until_ms = job.taken_until_ms;
        self.administrate_and_answer(Request::TakeSlots { slots, from, until_ms, epoch })
    }

    /// Something has come of a move from its source.
    pub fn note_slot_piece(&mut self, id: NodeId) -> CommandResult {
        let (client, unix_ms) = (self.client, self.server.clock.unix_ms());
        let now_ms = self.server.clock.mono_ms();
        let jobs = &mut self.server.slot_moves.imports;
        let job = jobs.iter_mut().find(|job| job.id == id && job.client == Some(client));
        let job = job.filter(|job| job.state == ImportState::Receiving);
        let job = job.ok_or_else(|| error("No such move is under way"))?;
        (job.answered_ms, job.times.acked_ms) = (now_ms, unix_ms);
        Ok(())
    }
}

impl Core<'_> {
    fn take_offer(&mut self, offer: Wish, client: ClientId, known: Option<usize>) {
        let (now_ms, unix_ms) = (self.server.clock.mono_ms(), self.server.clock.unix_ms());
        self.finish_telling_of(&offer.slots);
        let (count, id, source) = (offer.slots.len(), offer.id, offer.source);
        tracing::info!("Move {id}: taking in {count} slots from node {source}");
        let slots = offer.slots.clone();
        self.space.stage(&id.to_string(), slots.clone());
        let moves = &mut self.server.slot_moves;
        let at = known.unwrap_or(moves.imports.len());
        if at == moves.imports.len() {
            moves.imports.push(ImportJob::new(offer, ImportState::Receiving, now_ms, unix_ms));
            moves.open += 1;
        }
        let job = &mut moves.imports[at];
        // In the order in which they lie aside.
        (job.state, job.slots, job.client) = (ImportState::Receiving, slots, Some(client));
        (job.answered_ms, job.times.updated_ms) = (now_ms, unix_ms);
        moves.trim();
    }
}
