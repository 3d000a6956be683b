//! Carrying out the primary's stream.
//!
//! It has been decided elsewhere: no gate is asked, nothing expires by our clock, nobody is
//! answered. What is left of a command is its handler and all that surrounds one, with a client of
//! its own, whose database and open transaction are the stream's. That a command fails here and
//! did not there means that the two datasets differ, which the log is told at length.

use super::LinkOrder;
use crate::command::{Command, CommandError, Flags, Lookup, Traits};
use crate::config::PropagationError;
use crate::engine::call::{self, Frame};
use crate::engine::core::Core;
use crate::engine::dispatch::{self, hash_leading_keys};
use crate::engine::gates::{self, Asked};
use crate::engine::session::ClientKind;
use crate::engine::{
    Caller, ClientId, Cx, Effect, Engine, Peer, Prepared, Server, Session, transaction,
};
use crate::keyspace::{KeyHash, TouchedKey};
use crate::repl::link::{Attempt, Closed, Event, LinkEvent, Wants};
use crate::resp::{ReplyBuf, Request};
use bytes::Bytes;

impl Core<'_> {
    /// The stream begins, in this database.
    pub(super) fn employ_applier(&mut self, db: u32) {
        let mono_ms = self.server.clock.mono_ms();
        let address = match self.server.replication.link.primary() {
            Some(primary) => format!("{}:{}", primary.host, primary.port),
            None => return,
        };
        if self.server.replication.backlog.is_none() {
            self.begin_backlog();
        }
        let user = self.server.superuser();
        let peer = Peer { address: address.into(), ..Peer::internal() };
        let db = (db as usize).min(self.space.db_count() - 1);
        let client = self.clients.add(|id| Session {
            kind: ClientKind::Primary,
            db,
            user,
            ..Session::new(id, peer, mono_ms)
        });
        self.server.replication.applier = Some(client);
    }

    /// A client of a writable replica has changed these keys: what it gave a time to live is ours
    /// to take away.
    pub(in crate::engine) fn note_own_keys(&mut self, touched: &[TouchedKey]) {
        let own = &mut self.server.replication.own_expiries;
        for key in touched {
            match self.space.deadline_of(key.db, &key.key) {
                Some(_) => _ = own.insert((key.db, key.key.clone())),
                None => _ = own.remove(&(key.db, key.key.clone())),
            }
        }
    }

    /// There is no stream any more: what of a transaction had come is forgotten.
    pub(super) fn dismiss_applier(&mut self) {
        let Some(client) = self.server.replication.applier.take() else { return };
        transaction::unwatch(self.clients, &mut self.server.watched, client);
        self.clients.remove(client);
    }
}

impl Server {
    /// Whether the stream waits for a disk that takes nothing. Redis ends the process there;
    /// waiting loses nothing, and ends by itself when there is room.
    fn stops_at_disk_errors(&mut self) -> bool {
        const TELL_EVERY_MS: u64 = 10_000;
        let fails = self.aof.has_fault() || self.has_failing_snapshots();
        if !fails {
            return false;
        }
        let goes_on = self.config.replica_ignore_disk_write_errors;
        let now_ms = self.clock.mono_ms();
        let told_ms = &mut self.replication.told_of_disk_ms;
        if told_ms.is_none_or(|then_ms| now_ms.saturating_sub(then_ms) >= TELL_EVERY_MS) {
            *told_ms = Some(now_ms);
            if goes_on {
                tracing::warn!(
                    "Replica is applying a command even though it is unable to write to disk."
                );
            } else {
                tracing::warn!(
                    "Replica is unable to write commands to disk: the stream waits until it can."
                );
            }
        }
        !goes_on
    }
}

const NOT_FOR_STREAMS: CommandError =
    CommandError::Fixed("ERR Command not allowed in a replication stream");

/// Whether a primary has a reason to send a command. What concerns the server and its connections
/// is none of its business: that could end the link, or the server, whose stream is just run.
fn fits_stream(command: &Command) -> bool {
    const CONCERNS_DATA: Flags = Flags::WRITE.or(Flags::READONLY).or(Flags::MAY_REPLICATE);
    command.flags.intersects(CONCERNS_DATA) || command.traits.has(Traits::FITS_STREAM)
}

impl Engine {
    pub fn is_replica(&self) -> bool {
        self.server.is_replica()
    }

    pub fn link_attempt(&self) -> Option<Attempt> {
        self.server.replication.link.attempt()
    }

    /// What the bytes of the link are to it.
    pub fn link_wants(&self) -> Wants {
        self.server.replication.link.wants()
    }

    /// So many bytes have come from our primary.
    pub fn count_link_input(&mut self, bytes: usize) {
        self.server.stats.replication_input_bytes += bytes as u64;
    }

    /// Something has happened to a connection to our primary.
    pub fn tell_link_of(&mut self, attempt: Attempt, event: LinkEvent<'_>) {
        self.core().tell_link(Event::Of(attempt, event));
    }

    pub(super) fn applier(&self) -> Option<ClientId> {
        self.server.replication.applier
    }

    /// Whether the stream may go on: nobody is in the middle of something, clients are not paused,
    /// who would see the data change, and what is carried out is safe, if it is to be.
    pub(super) fn may_apply(&mut self) -> bool {
        let is_paused = self.server.pause.is_active(self.server.clock.mono_ms(), true);
        self.server.under_way.is_none()
            && !is_paused
            && !self.server.is_about_to_sleep
            && !self.server.stops_at_disk_errors()
    }

    /// Whether the last command of the stream stands within a transaction.
    pub(super) fn is_applying_transaction(&self) -> bool {
        let session = self.applier().and_then(|client| self.clients.get(client));
        session.is_some_and(|session| session.transaction.is_some())
    }

    pub(super) fn takes_ack_request(&mut self) -> bool {
        std::mem::take(&mut self.server.replication.ack_is_wanted)
    }

    /// Looks up what a command of the stream names, by the names that commands really have, and
    /// hashes its keys.
    pub(super) fn prepare_applied(
        &self,
        request: &Request<'_>,
        hashes: &mut Vec<KeyHash>,
    ) -> Prepared {
        let lookup = self.server.table.lookup_in_aof(request);
        let start = hashes.len();
        if let Lookup::Found(id) = lookup {
            let row = self.server.table.row(id);
            if row.command.arity.accepts(request.len()) {
                hash_leading_keys(row, request, self.keyspace.hasher(), hashes);
            }
        }
        Prepared::new(lookup, start, hashes.len())
    }

    pub(super) fn prefetch_applied(&self, hashes: &[KeyHash]) {
        if let Some(client) = self.applier() {
            self.prefetch(self.database_of(client), hashes);
        }
    }

    /// Carries out a command of the stream.
    pub(super) fn apply(
        &mut self,
        client: ClientId,
        prepared: &Prepared,
        request: Request<'_>,
        hashes: &[KeyHash],
    ) {
        let mono_ms = self.server.clock.mono_ms();
        let mut unread = ReplyBuf::new();
        let hashed = prepared.hashed(&self.server.table, hashes);
        self.keyspace.expiry_rule = Caller::Primary.expiry_rule();
        let mut cx = Cx::new(self, client, Caller::Primary, &mut unread);
        cx.session_mut().last_active_ms = mono_ms;
        match dispatch::resolve(&cx, prepared.lookup(), &request) {
            Err((_, error)) => dispatch::write_error(&mut cx, &error),
            Ok((_, command)) if !fits_stream(command) => {
                dispatch::write_error(&mut cx, &NOT_FOR_STREAMS);
            }
            Ok((id, command)) => {
                cx.session_mut().last_command = Some(id);
                let asked = Asked { id, command, request, hashed };
                let is_queued = cx.session().transaction.is_some()
                    && !command.traits.has(Traits::RUNS_IN_MULTI);
                if is_queued {
                    dispatch::queue(&mut cx, &asked);
                } else {
                    gates::begin_usage_of_applied(&mut cx, &asked);
                    if let Some(frame) = call::call(&mut cx, &asked) {
                        Frame::finish(*frame, &mut cx, &request);
                    }
                    cx.server.end_usage(Caller::Primary, 0);
                }
            }
        }
        self.keyspace.expiry_rule = Caller::Client.expiry_rule();
        if unread.first_byte() == Some(b'-') {
            self.tell_of_failure(&request, &unread);
        }
        if self.keyspace.changes.has_offers() {
            self.serve_waits();
        }
    }

    /// Two servers that should hold the same do not.
    #[cold]
    fn tell_of_failure(&mut self, request: &Request<'_>, reply: &ReplyBuf) {
        let text = reply.to_vec();
        let error = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
        let error = error.strip_prefix('-').unwrap_or(&error).to_owned();
        let name = String::from_utf8_lossy(request.arg(0)).to_lowercase();
        tracing::warn!(
            "== CRITICAL == This replica is sending an error to its master: '{error}' after \
             processing the command '{name}'"
        );
        self.server.stats.unexpected_error_replies += 1;
        let panics = match self.server.config.propagation_error_behavior {
            PropagationError::Ignore => false,
            // Where clients write, too, the two differ anyway.
            PropagationError::Panic | PropagationError::PanicOnReplicas => {
                self.server.config.replica_read_only
            }
        };
        assert!(!panics, "a command of the primary failed: {error}");
    }

    /// A part of the stream has been carried out: it is part of our own, too.
    pub(super) fn relay(&mut self, bytes: Bytes) {
        if let Some(backlog) = &mut self.server.replication.backlog {
            backlog.push(bytes);
        }
    }

    /// So many bytes of the stream have been carried out.
    pub(super) fn note_applied(&mut self, bytes: u64) {
        let db = self.applier().and_then(|client| self.clients.get(client));
        let db = db.map_or(0, |session| u32::try_from(session.db).unwrap_or(0));
        self.core().tell_attempt(LinkEvent::Applied { bytes, db });
    }

    /// A client wants our link to the primary to end (CLIENT KILL).
    pub(in crate::engine) fn end_link_of(&mut self, client: ClientId) -> bool {
        let is_link = self.applier() == Some(client);
        if is_link {
            // In this order: what is told may have another connection made.
            self.server.effects.push(Effect::Link(LinkOrder::Close));
            self.core().tell_attempt(LinkEvent::Closed(Closed::ByPeer));
        }
        is_link
    }

    /// Takes away what clients of a writable replica gave a time to live that is over.
    pub(super) fn expire_own_keys(&mut self) {
        let Engine { keyspace, server, .. } = self;
        if server.replication.own_expiries.is_empty() {
            return;
        }
        let now_ms = keyspace.now_ms;
        server.replication.own_expiries.retain(|(db, key)| match keyspace.deadline_of(*db, key) {
            Some(at_ms) if at_ms >= now_ms => true,
            Some(_) => !keyspace.expire_key(*db, key),
            None => false,
        });
        call::settle(&mut self.keyspace, &mut self.clients, &mut self.server, None);
    }

    /// What the append-only file holds safely, as an offset of the history, for the primary.
    pub(super) fn note_synced_offset(&mut self) {
        let synced = self.server.synced_replication_offset();
        self.core().tell_link(Event::Synced(synced));
    }
}
