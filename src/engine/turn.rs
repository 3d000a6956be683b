//! What the driver of an engine tells it and asks it, turn by turn.
//!
//! A connection is the driver's: its socket, what has come in, what has to go out. The engine is
//! told how much that is, by figures that come with each batch of requests and go with its replies,
//! and says what follows from them. So a driver names no part of an engine, and does not care how
//! the parts are made; on which thread a connection lives is not the engine's business.

use super::client_line::describe;
use super::clock::Ticks;
use super::session::{ClientKind, IoFigures, Peer, Session};
use super::{ClientId, Engine, Now};
use crate::config::{Config, OutputLimit};
use crate::keyspace::KeyHash;
use crate::observe::tls::TlsReport;
use crate::observe::traffic::ThreadTraffic;
use crate::resp::{Protocol, ProtocolError, ReplyBuf};
use std::sync::Arc;

/// What a connection holds of its client's input, and has read in all.
#[derive(Clone, Copy, Default, Debug)]
pub struct InputFigures {
    pub query_bytes: usize,
    pub query_free_bytes: usize,
    pub argv_bytes: usize,
    pub read_bytes_total: u64,
}

/// What a connection holds of its client's output, and has written in all.
#[derive(Clone, Copy, Default, Debug)]
pub struct OutputFigures {
    pub bytes: usize,
    /// What of it is no part of the data.
    pub own_bytes: usize,
    pub written_bytes_total: u64,
}

impl IoFigures {
    fn take_input(&mut self, input: InputFigures) {
        self.query_bytes = input.query_bytes;
        self.query_free_bytes = input.query_free_bytes;
        self.argv_bytes = input.argv_bytes;
        self.read_bytes_total = input.read_bytes_total;
    }

    fn take_output(&mut self, output: OutputFigures) {
        self.output_bytes = output.bytes;
        self.output_own_bytes = output.own_bytes;
        self.written_bytes_total = output.written_bytes_total;
    }
}

/// A client that has not authenticated is closed when so many bytes of replies wait for it.
const UNAUTHENTICATED_MAX_BYTES: u64 = 256 * 1024;

const TOO_MANY_CLIENTS: &str = "-ERR max number of clients reached\r\n";
const TOO_MANY_CONNECTIONS: &str = "-ERR max number of clients + cluster connections reached\r\n";
const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Redis you may \
adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG \
SET protected-mode no' from the loopback interface by connecting to Redis from the same host the \
server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. \
Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the \
protected mode by editing the Redis configuration file, and setting the protected mode option to \
'no', and then restarting the server. 3) If you started the server manually just for testing, \
restart it with the '--protected-mode no' option. 4) Set up an authentication password for the \
default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

impl Engine {
    pub fn config(&self) -> &Config {
        &self.server.config
    }

    /// The clock that commands are measured with, in nanoseconds.
    pub fn ticks(&self) -> Ticks {
        self.server.parts.ticks
    }

    /// The counters of the threads that serve sockets; the first is the executor's.
    pub fn traffic(&self) -> Arc<[ThreadTraffic]> {
        Arc::clone(self.server.traffic.threads())
    }

    /// Takes a client in, or says what it is to be told before its connection is closed.
    pub fn admit(&mut self, peer: Peer) -> Result<ClientId, &'static str> {
        self.may_admit(&peer)?;
        tracing::trace!("Accepted {}", peer.address);
        let client = self.connect(peer);
        self.log_in_by_certificate(client);
        Ok(client)
    }

    /// Whether a client may be taken in now; else what it is to be told.
    pub fn may_admit(&mut self, peer: &Peer) -> Result<(), &'static str> {
        let refusal = if self.free_places() == 0 {
            match self.server.cluster {
                None => TOO_MANY_CLIENTS,
                Some(_) => TOO_MANY_CONNECTIONS,
            }
        } else if self.is_protected() && !peer.is_local {
            PROTECTED
        } else {
            return Ok(());
        };
        self.server.stats.connections_rejected += 1;
        Err(refusal)
    }

    /// How many more clients `maxclients` lets in, beside the connections of the bus.
    pub fn free_places(&self) -> usize {
        let taken = self.clients.len() + self.server.bus_places();
        (self.server.config.maxclients as usize).saturating_sub(taken)
    }

    /// What TLS is spoken with from now on.
    pub fn note_certificates(&mut self, report: TlsReport) {
        self.server.certificates = report;
    }

    /// A handshake with a client has ended, well if `Some`; then whether an earlier session was
    /// taken up.
    pub fn count_handshake(&mut self, resumed: Option<bool>) {
        let handshakes = &mut self.server.stats.handshakes;
        match resumed {
            None => handshakes.failed += 1,
            Some(is_resumed) => {
                handshakes.done += 1;
                handshakes.resumed += u64::from(is_resumed);
            }
        }
    }

    /// Whether nobody is let in from elsewhere: `protected-mode`, and there is no password.
    pub fn is_protected(&self) -> bool {
        self.server.config.protected_mode && !self.server.has_password()
    }

    /// A turn begins, before which so many bytes have been freed elsewhere.
    pub fn begin_turn(&mut self, now: Now, freed_bytes: u64) {
        self.tick(now);
        self.note_freed_bytes(freed_bytes);
        self.evict_clients();
        self.commands_before_turn = self.server.stats.commands_total;
    }

    /// A turn has ended that took so long.
    pub fn count_turn(&mut self, elapsed_us: u64) {
        self.server.stats.turn_ended(elapsed_us, self.commands_before_turn);
    }

    /// Requests are run from now on: what came before is no command's time.
    pub fn begin_commands(&mut self) {
        self.server.clock.restart();
    }

    /// How long the turn has lasted, as of the end of the last command.
    #[inline]
    pub fn turn_ns(&self) -> u64 {
        self.server.clock.since_tick_ns()
    }

    /// The end of the write stream.
    #[inline]
    pub fn stream_end(&self) -> u64 {
        self.server.propagation.offset()
    }

    /// The client's database, for which its keys are brought into the caches.
    pub fn database_of(&self, client: ClientId) -> usize {
        self.clients.get(client).map_or(0, |session| session.db)
    }

    /// Brings what these hashes will touch in a database into the caches.
    pub fn prefetch(&self, db: usize, hashes: &[KeyHash]) {
        self.keyspace.db(db).prefetch(hashes);
    }

    /// Requests of a client are about to run.
    pub fn begin_batch(&mut self, client: ClientId, input: InputFigures) {
        let mono_ms = self.server.clock.mono_ms();
        self.note(client, |session| {
            session.last_active_ms = mono_ms;
            session.io.take_input(input);
        });
    }

    /// The batch of a client has run, and its replies have been sent as far as they could be.
    pub fn end_batch(&mut self, client: ClientId, input: InputFigures, output: OutputFigures) {
        self.note(client, |session| {
            session.io.take_input(input);
            session.io.take_output(output);
        });
        self.follow_output(client, output);
    }

    /// A connection holds so much input.
    pub fn note_input(&mut self, client: ClientId, input: InputFigures) {
        self.note(client, |session| session.io.take_input(input));
    }

    /// A connection holds so much output.
    pub fn note_output(&mut self, client: ClientId, output: OutputFigures) {
        self.note(client, |session| session.io.take_output(output));
        self.follow_output(client, output);
    }

    /// A replica that has taken what it was handed is handed more.
    fn follow_output(&mut self, client: ClientId, output: OutputFigures) {
        if self.is_replica_client(client) {
            self.note_unsent(client, output.bytes);
        }
    }

    /// Leaves something with a session and counts the client's memory anew.
    fn note(&mut self, client: ClientId, leave: impl FnOnce(&mut Session)) {
        if let Some(session) = self.clients.get_mut(client) {
            leave(session);
            self.clients.recount(client);
        }
    }

    /// Another thread serves a client's socket from now on; 0 is the executor's.
    pub fn note_thread(&mut self, client: ClientId, thread: usize) {
        if let Some(session) = self.clients.get_mut(client) {
            session.io.thread = u16::try_from(thread).unwrap_or(u16::MAX);
        }
    }

    /// A client has sent more than it may before any of it is executed: its connection is closed.
    pub fn close_long_query(&mut self, client: ClientId) {
        if let Some(session) = self.clients.get(client) {
            let line = describe(&self.server, session);
            tracing::warn!("Closing client that reached max query buffer length: {line}");
        }
        self.server.stats.query_limit_disconnections += 1;
        self.clients.count_out(client);
    }

    /// A client's input broke the protocol: what it is told before its connection is closed.
    pub fn refuse_input(&mut self, client: ClientId, failure: ProtocolError, out: &mut ReplyBuf) {
        let address = self.clients.get(client).map(|session| session.peer.address.clone());
        let address = address.unwrap_or_default();
        if failure == ProtocolError::TlsHello {
            // It would read no words of ours.
            return self.server.warn_of_tls(&address);
        }
        tracing::debug!("Protocol error ({failure}) from client: addr={address}");
        let text = failure.reply_text();
        self.server.stats.error(&text);
        // A replica would take it for a part of the stream, and its own data for damaged.
        if !self.is_replica_client(client) {
            out.writer(Protocol::Resp2).error(&text);
        }
    }

    /// How much output may wait for a client.
    pub fn output_limit(&self, client: ClientId) -> OutputLimit {
        let Some(session) = self.clients.get(client) else { return OutputLimit::default() };
        match session.kind {
            ClientKind::Normal if self.server.requires_auth(session) => {
                OutputLimit { hard_bytes: UNAUTHENTICATED_MAX_BYTES, ..OutputLimit::default() }
            }
            // What a replica has not read is counted where it is kept.
            ClientKind::Replica => OutputLimit::default(),
            kind => kind.output_limit(&self.server.config),
        }
    }

    /// A client has not read what it asked for: its connection is closed.
    pub fn close_slow_reader(&mut self, client: ClientId) {
        self.note_output_overrun(client);
        self.clients.count_out(client);
    }

    /// A connection is being closed: what it holds is as good as free.
    pub fn count_out(&mut self, client: ClientId) {
        self.clients.count_out(client);
    }

    /// How many bytes another thread has freed since the process began.
    pub fn note_freed_bytes(&mut self, bytes: u64) {
        self.server.eviction.freed_garbage_bytes = bytes;
    }

    /// How many objects another thread has freed since the process began.
    pub fn note_freed_objects(&mut self, count: u64) {
        self.server.stats.lazy_freed_objects = count;
    }

    /// Housekeeping has taken so long.
    pub fn count_cron(&mut self, elapsed_us: u64) {
        self.server.stats.cron_us_total += elapsed_us;
    }

    /// Whether the client waits for something, so that its next request may not run.
    pub fn is_waiting(&self, client: ClientId) -> bool {
        self.clients.get(client).is_some_and(|session| session.wait.is_some())
    }

    /// At the start: removes what interrupted saves and rewrites of ours have left.
    pub fn remove_leftovers(&mut self, is_running: &dyn Fn(u32) -> bool) {
        self.server.remove_leftovers(is_running);
    }

    /// The process is about to end, whatever is being written.
    pub fn remove_unfinished_snapshot(&self) {
        self.server.remove_unfinished_snapshot();
    }

    pub fn is_loading(&self) -> bool {
        self.server.loading.is_some()
    }

    /// How far loading has come, for the log.
    pub fn loading_progress(&self) -> Option<String> {
        let loading = self.server.loading.as_ref()?;
        let seconds = loading.elapsed_seconds(self.server.clock.now());
        let keys = self.server.last_load.keys_loaded;
        Some(format!(
            "{:.1}% of {} bytes, {keys} keys, {} keys per second",
            loading.percent(),
            loading.total_bytes,
            keys / seconds.max(1),
        ))
    }

    /// In how many milliseconds the engine has something to do by itself, cron apart.
    pub fn ms_until_deadline(&self, now: Now) -> Option<u64> {
        if self.is_evicting() {
            return Some(0);
        }
        let until_ms = |at_ms: u64| at_ms.saturating_sub(now.mono_us / 1000) + 1;
        let waits = [
            self.next_expiry_unix_ms().map(|at_ms| at_ms.saturating_sub(now.unix_us / 1000) + 1),
            self.server.pause.until_ms().map(until_ms),
            self.next_sync_us().map(|at_us| at_us.saturating_sub(now.mono_us).div_ceil(1000)),
            self.next_time_out_ms().map(|at_ms| rounded_up(at_ms, now.mono_us)),
        ];
        waits.into_iter().flatten().min().map(|wait_ms| wait_ms.max(1))
    }
}

/// Whole milliseconds from a moment to one that is given in milliseconds, rounded up.
fn rounded_up(at_ms: u64, now_us: u64) -> u64 {
    at_ms.saturating_mul(1000).saturating_sub(now_us).div_ceil(1000)
}
