//! The executor: it owns all that can change, takes requests and the time, and yields replies and
//! effects.
//!
//! The engine holds no socket, no file and no thread, and it never waits. Whoever drives it (the
//! turn loop in `net`, or a test) tells it the time by [`Engine::tick`], hands it requests by
//! [`Engine::execute`], and carries out the [`Effect`]s it leaves behind. So it runs in a test
//! without a port or a sleep, and a cluster of engines can be simulated from one seed.
//!
//! Reading order: [`session`], [`clients`] and [`users`] (who asks), [`cx`] (what a handler may
//! touch), [`gates`] (what a request must pass), [`dispatch`] (through the gates), [`call`]
//! (what surrounds a handler), [`program`] (commands that run others), [`under_way`] (those that
//! take long), [`transaction`], [`scripting`], [`waiting`], [`blocking`],
//! [`eviction`], [`saving`], [`loading`], [`migrate`], [`shutdown`], [`cron`].

pub mod aof;
pub mod blocking;
pub mod bus;
mod call;
pub mod caller;
mod client_eviction;
pub mod client_line;
pub mod clients;
mod clients_by_key;
pub mod clock;
pub mod cluster;
pub mod commands;
mod core;
mod cron;
mod cx;
mod delivery;
mod dispatch;
pub mod driver;
mod effect;
pub mod eviction;
mod gates;
pub mod hold;
pub mod hot_keys;
pub mod loading;
pub mod migrate;
mod openness;
pub mod pause;
mod program;
pub mod propagate;
pub mod reading;
pub mod replication;
pub mod saving;
pub mod scripting;
pub mod sentinel;
pub mod server;
pub mod session;
mod shutdown;
pub mod slot_move;
pub mod standstill;
#[cfg(test)]
pub mod testing;
pub mod tracking;
pub mod transaction;
pub mod transfer;
pub mod turn;
mod under_way;
pub mod users;
pub mod waiting;

pub use self::core::Core;
pub use caller::Caller;
pub use clients::{ClientId, Clients};
pub use clock::{Clock, Now};
pub use cluster::BusErrand;
pub use cx::Cx;
pub use dispatch::{Prepared, Verdict};
pub use driver::Driver;
use effect::AnswerPlace;
pub use effect::{Effect, Effects, Job, JobReply, ListenChange, Standing};
pub use reading::Reading;
pub use saving::{SaveJob, SaveOutcome};
pub use sentinel::Errand;
pub use server::{Server, ServerParts};
pub use session::{CertificateNames, Peer, Session};

use crate::command::CommandError;
use crate::command::table::RenameError;
use crate::config::{Apply, Config};
use crate::keyspace::{Entry, HashSecret, Key, KeyHash, Keyspace};
use crate::persist::aof::mark::KeySource;
use crate::resp::{ReplyBuf, Request};
use crate::structs::prng::Prng;
use crate::types::{MemberHash, Object};
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;

/// Where the engine's randomness comes from. The two are apart because ids that everybody sees
/// are drawn from one, and the order of keys must not be guessed from them.
#[derive(Clone, Copy, Default)]
pub struct Seed {
    pub hash_key: [u8; 16],
    pub prng: u64,
}

thread_local! {
    static RUNNING: Cell<&'static str> = const { Cell::new("none") };
}

/// The command that runs on this thread, for the report of a panic.
pub fn running_command() -> &'static str {
    RUNNING.get()
}

pub struct Engine {
    pub keyspace: Keyspace,
    pub clients: Clients,
    pub server: Server,
    /// The end of the write stream when output was last handed out.
    told_upto: u64,
    commands_before_turn: u64,
}

impl Engine {
    /// An engine with an empty keyspace. The same parts, seed included, make the same run.
    pub fn new(config: Config, parts: ServerParts, seed: Seed) -> Engine {
        let mut prng = Prng::seeded(seed.prng);
        let databases = usize::try_from(config.databases).expect("the directive's bounds fit");
        let secret = HashSecret::new(seed.hash_key);
        let secret = if config.cluster_enabled { secret.of_cluster() } else { secret };
        let keyspace = Keyspace::new(databases, secret, Prng::seeded(prng.next_u64()));
        let mut server = Server::new(config, parts, &mut prng);
        server.aof.keys = KeySource::new(seed.hash_key);
        let clients = Clients::default();
        let (told_upto, commands_before_turn) = (0, 0);
        let mut engine = Engine { keyspace, clients, server, told_upto, commands_before_turn };
        engine.server.follow_config(&mut engine.keyspace);
        engine.core().follow_requirepass();
        engine
    }

    /// Tells the engine what time it is; called at least once a turn.
    pub fn tick(&mut self, now: Now) {
        self.server.clock.tick(now);
        self.keyspace.now_ms = now.unix_us / 1000;
        self.keyspace.access.set_now(self.keyspace.now_ms);
        self.server.saving.note_start(now);
        self.expire_few_fields();
    }

    /// The second stage, when the keys of a client's requests are in the caches: what the members
    /// that they name will touch in big collections. Requests for one key in a row share it.
    pub fn prefetch_members<'a>(
        &self,
        client: ClientId,
        requests: impl Iterator<Item = (&'a Prepared, Request<'a>)>,
        hashes: &[KeyHash],
    ) {
        let Some(session) = self.clients.get(client) else { return };
        let db = self.keyspace.db(session.db);
        let mut found: (Option<KeyHash>, Option<&Object>) = (None, None);
        let mut members = SmallVec::<[MemberHash; 64]>::new();
        for (prepared, request) in requests {
            let Some((key_hash, member)) = prepared.member(&self.server.table, hashes, &request)
            else {
                continue;
            };
            if found.0 != Some(key_hash) {
                if let Some(object) = found.1 {
                    object.prefetch(&members);
                    members.clear();
                }
                let key = Key::hashed(request.arg(1), key_hash);
                found = (Some(key_hash), db.get(&key).and_then(Entry::object));
            }
            members.extend(found.1.and_then(|object| object.prefetch_hash(member)));
        }
        if let Some(object) = found.1 {
            object.prefetch(&members);
        }
    }

    /// Runs one request, or says why it cannot run now. The reply is appended to `out`. `hashes`
    /// are those that it was prepared with.
    pub fn execute(
        &mut self,
        client: ClientId,
        prepared: &Prepared,
        request: Request<'_>,
        hashes: &[KeyHash],
        out: &mut ReplyBuf,
    ) -> Verdict {
        let hashed = prepared.hashed(&self.server.table, hashes);
        dispatch::execute(self, client, prepared.clone(), request, hashed, out)
    }

    /// Prepares and runs one request: for drivers that have no batch to prefetch.
    pub fn run(&mut self, client: ClientId, request: Request<'_>, out: &mut ReplyBuf) -> Verdict {
        let mut hashes = Vec::new();
        let prepared = self.prepare(&request, &mut hashes);
        self.execute(client, &prepared, request, &hashes, out)
    }

    /// A client connected.
    pub fn connect(&mut self, peer: Peer) -> ClientId {
        let mono_ms = self.server.clock.mono_ms();
        self.server.stats.connections_total += 1;
        let user = self.server.first_user();
        self.clients.add(|id| Session { user, ..Session::new(id, peer, mono_ms) })
    }

    /// A client's connection ended.
    pub fn disconnect(&mut self, client: ClientId) {
        if self.is_needed(client) {
            return;
        }
        transaction::unwatch(&mut self.clients, &mut self.server.watched, client);
        delivery::forget(&mut self.clients, &mut self.server, client);
        self.forget_replica(client);
        self.note_gone_importer(client);
        self.clients.remove(client);
    }

    /// A client's job ended: the client gets its answer, if it wants one, and may go on.
    pub fn finish_job(&mut self, client: ClientId, reply: JobReply) {
        if matches!(reply, Err(CommandError::OutputTooLong)) {
            self.note_output_overrun(client);
            return self.server.effects.push(Effect::Close { client });
        }
        let bytes = reply.unwrap_or_else(|error| self.refusal(client, &error));
        let place = self.server.effects.reserve_answer(client);
        self.answer_late(client, place, bytes);
    }

    /// A client is closed because more waits for it than its limit allows.
    pub fn note_output_overrun(&mut self, client: ClientId) {
        if let Some(session) = self.clients.get(client) {
            let line = client_line::describe(&self.server, session);
            tracing::warn!(
                "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
            );
            self.server.stats.output_limit_disconnections += 1;
        }
    }

    /// The reply of a job that failed, which counts as the failure of its command.
    fn refusal(&mut self, client: ClientId, error: &CommandError) -> ReplyBuf {
        let text = error.text();
        self.server.stats.error(&text);
        let mut bytes = ReplyBuf::new();
        if let Some(session) = self.clients.get(client) {
            if let Some(id) = session.last_command {
                self.server.stats.failed(id);
            }
            bytes.writer(session.protocol).error(&text);
        }
        bytes
    }

    /// Sends a client the reply that it waits for, and lets it go on.
    fn answer_late(&mut self, client: ClientId, place: AnswerPlace, bytes: ReplyBuf) {
        let is_silenced = self
            .clients
            .get_mut(client)
            .is_some_and(|session| std::mem::take(&mut session.drops_late_reply));
        if is_silenced {
            self.server.effects.give_up(place);
        } else {
            self.server.effects.fill_in(place, bytes);
        }
        self.wake(client);
    }

    /// Gives a command another name, or none, before anybody is served.
    pub fn rename_command(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let table = Arc::get_mut(&mut self.server.table);
        table.expect("nobody reads requests yet").rename(from, to)
    }

    /// The driver followed a change of addresses or TLS, or went back to what there was because of
    /// the act that failed.
    pub fn finish_listening(&mut self, change: ListenChange, outcome: Result<(), Apply>) {
        let ListenChange { client, directives, previous, acts, protocol } = change;
        let mut answer = ReplyBuf::new();
        match outcome {
            Ok(()) => {
                crate::config::commands::follow(&mut self.core(), &acts, true);
                answer.writer(protocol).ok();
            }
            Err(failed) => {
                crate::config::commands::take_back(&mut self.core(), *previous, &acts);
                let failure = crate::config::commands::driver_failure(&directives, failed);
                answer = self.refusal(client, &failure);
            }
        }
        let place = self.server.effects.reserve_answer(client);
        self.answer_late(client, place, answer);
    }

    /// The driver has stopped the clock for a while, as it was asked to.
    fn end_sleep(&mut self, now: Now) {
        self.server.is_about_to_sleep = false;
        self.tick(now);
        self.serve_waits();
    }

    /// A turn ends: what is told once a turn is told now.
    pub fn end_turn(&mut self) {
        self.settle_moves();
        self.drive_slot_moves();
        self.server.tell_prefixes(&mut self.clients);
        self.limit_snapshots();
        self.hand_over_to_aof();
        self.hand_over_to_replicas();
        self.tell_offset_to_cluster();
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.server.effects.take()
    }

    pub fn has_effects(&self) -> bool {
        !self.server.effects.is_empty()
    }
}
