//! Serving replicas: who may continue where it was, snapshots for those who may not, and the
//! stream for all.
//!
//! Every replica reads the backlog from a place of its own. It is handed what follows while little
//! of what it has got is unsent, so a slow one costs the memory of the stream once, and delays
//! nobody. Those at the same place are handed the same bytes. Snapshots are taken when a turn has
//! ended, where the dataset and the offset belong together; sending them is the driver's, beside
//! the executor, so one that comes late need not wait for those that are under way.

use super::feeders::{Announced, Feeder, Filter, Stage};
use crate::command::{CommandError, CommandResult};
use crate::engine::core::Core;
use crate::engine::propagate::Reader;
use crate::engine::session::ClientKind;
use crate::engine::standstill::Deed;
use crate::engine::transfer::{Recipient, Transfer, TransferReport};
use crate::engine::{ClientId, Cx, Effect, Engine, Server, Session};
use crate::keyspace::Keyspace;
use crate::persist::fan::{Content, Framing, Timeout};
use crate::persist::rdb::{Dataset, SaveOptions};
use crate::persist::snapshot::Progress;
use crate::repl::ids::{ID_LEN, Refusal};
use crate::repl::link::answers::END_MARK_LEN;
use crate::resp::ReplyBuf;
use crate::structs::{SharedBytes, number};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So much of the stream may lie unsent with the driver for a replica.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// It is handed more when so much of it is left.
const UNSENT_BYTES_LOW: usize = 256 << 10;
/// So many snapshots are sent at once: each has a thread, and keeps a moment of the dataset. Who
/// comes later waits for one of them to end, and shares the next with whoever waits, too.
const TRANSFERS_MAX: usize = 8;
/// What is handed out in one piece.
const PIECE_BYTES_MAX: usize = 64 << 10;

const PING: &[u8] = b"*1\r\n$4\r\nping\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Snapshots that are being sent.
#[derive(Default)]
pub struct Transfers {
    last: u64,
    /// To how many replicas all of each has been sent.
    running: BTreeMap<u64, usize>,
    /// How long a replica may take nothing of it.
    pub(super) timeout: Timeout,
}

impl Transfers {
    pub fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// The number of the one that was begun last.
    pub(super) fn last(&self) -> u64 {
        self.last
    }
}

/// What a replica asks for.
#[derive(Clone, Copy)]
pub enum Request<'a> {
    /// SYNC, which knows of no history.
    Sync,
    /// PSYNC, with the id and the first byte that it lacks.
    Psync { id: &'a [u8], from: &'a [u8] },
}

const PENDING_OUTPUT: CommandError =
    CommandError::Fixed("ERR SYNC and PSYNC are invalid with pending output");
const NO_END_MARK: CommandError =
    CommandError::Fixed("ERR Filtered replica requires EOF capability");
const NOT_CONNECTED: CommandError =
    CommandError::Fixed("NOMASTERLINK Can't SYNC while not connected with my master");

/// The running client is to be a replica of ours.
pub fn serve(cx: &mut Cx<'_>, request: Request<'_>) -> CommandResult {
    if cx.server.is_replica() && !cx.server.replication.link.is_connected() {
        return Err(NOT_CONNECTED);
    }
    if cx.session().io.output_bytes > 0 || !cx.reply.buffer().is_empty() {
        return Err(PENDING_OUTPUT);
    }
    let feeder = new_feeder(cx.session(), request, cx.server.clock.mono_ms());
    if feeder.announced.filter.is_some() && !feeder.announced.reads_end_mark {
        return Err(NO_END_MARK);
    }
    if let Request::Psync { id, from } = request {
        let Some(from) = number::parse_i64(from) else {
            let name = feeder.name();
            tracing::warn!("Replica {name} asks for synchronization but with a wrong offset");
            return Err(CommandError::NotInteger);
        };
        tracing::info!("Replica {} asks for synchronization", feeder.name());
        if continue_from(cx, id, from, &feeder) {
            return Ok(());
        }
    } else {
        tracing::info!("Replica {} asks for synchronization", feeder.name());
    }
    cx.server.stats.sync_full += 1;
    if cx.server.replication.backlog.is_none() {
        begin_history(cx);
    }
    let delays = cx.server.config.repl_diskless_sync_delay > 0 && !is_by_length(cx.server, &feeder);
    if delays {
        tracing::info!("Delay next BGSAVE for diskless SYNC");
    }
    take_in(cx, feeder);
    Ok(())
}

fn new_feeder(session: &Session, request: Request<'_>, now_ms: u64) -> Feeder {
    let (ip, port) = session.peer.address.rsplit_once(':').unwrap_or((&session.peer.address, "0"));
    Feeder {
        client: session.id,
        announced: session.announced.as_deref().cloned().unwrap_or_default(),
        peer_ip: ip.into(),
        peer_port: port.into(),
        stage: Stage::Waiting { since_ms: now_ms },
        acknowledges: matches!(request, Request::Psync { .. }),
        cursor: 0,
        unsent_bytes: 0,
        ack: -1,
        has_loaded: false,
        synced: -1,
        ack_ms: now_ms,
        over_soft_limit_ms: None,
        is_gone: Arc::default(),
    }
}

/// A stream that nobody has counted so far is counted from now on, under a name of its own.
fn begin_history(cx: &mut Cx<'_>) {
    let fresh = cx.server.fresh_id();
    cx.server.replication.link.forget_history(fresh);
    cx.core().begin_backlog();
    let history = cx.server.replication.history();
    tracing::info!(
        "Replication backlog created, my new replication IDs are '{}' and '{}'",
        history.id(),
        history.second_id()
    );
}

/// Lets a replica continue where it was, if what it lacks is here.
fn continue_from(cx: &mut Cx<'_>, id: &[u8], from: i64, feeder: &Feeder) -> bool {
    let replication = &cx.server.replication;
    let history = *replication.history();
    let name = feeder.name();
    let backlog = replication.backlog.as_ref();
    let first = backlog.map(|backlog| backlog.start().saturating_add(1).cast_signed());
    // What nobody has counted has not been written under the history's name.
    let is_counted = cx.server.is_history_counted(cx.keys.space().changes.total());
    let refusal = match history.may_continue(id, from, first) {
        Ok(()) if is_counted => None,
        Ok(()) => Some(Refusal::OutOfRange),
        Err(refusal) => Some(refusal),
    };
    let Some(refusal) = refusal else {
        accept(cx, from, feeder);
        return true;
    };
    let asked = String::from_utf8_lossy(id);
    match refusal {
        Refusal::OtherHistory if id == b"?" => {
            tracing::info!("Full resync requested by replica {name}");
        }
        Refusal::OtherHistory => tracing::info!(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for \
             '{}', my replication IDs are '{}' and '{}')",
            asked.escape_debug(),
            history.id(),
            history.second_id()
        ),
        Refusal::PastSwitch { up_to } => tracing::info!(
            "Partial resynchronization not accepted: Requested offset for second ID was {from}, \
             but I can reply up to {up_to}"
        ),
        Refusal::OutOfRange => tracing::info!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request \
             was: {from})."
        ),
    }
    if id != b"?" {
        cx.server.stats.sync_partial_err += 1;
    }
    false
}

fn accept(cx: &mut Cx<'_>, from: i64, feeder: &Feeder) {
    if cx.server.replication.backlog.is_none() {
        // It lacks nothing, and what comes from now on is kept.
        cx.core().begin_backlog();
    }
    let id = cx.server.replication.history().id();
    match feeder.announced.knows_psync2 {
        true => cx.reply.simple(format!("CONTINUE {id}").as_bytes()),
        false => cx.reply.simple(b"CONTINUE"),
    }
    let cursor = from.saturating_sub(1).unsigned_abs();
    let end = cx.server.replication.backlog.as_ref().map_or(cursor, |backlog| backlog.end());
    tracing::info!(
        "Partial resynchronization request from {} accepted. Sending {} bytes of backlog starting \
         from offset {from}.",
        feeder.name(),
        end.saturating_sub(cursor)
    );
    cx.server.stats.sync_partial_ok += 1;
    let announced = feeder.announced.clone();
    let (peer_ip, peer_port) = (feeder.peer_ip.clone(), feeder.peer_port.clone());
    let stage = Stage::Fed;
    let ack = from.saturating_sub(1);
    let is_gone = Arc::default();
    take_in(cx, Feeder { announced, peer_ip, peer_port, stage, cursor, ack, is_gone, ..*feeder });
}

fn take_in(cx: &mut Cx<'_>, feeder: Feeder) {
    cx.server.replication.feeders.add(feeder);
    let client = cx.client;
    if cx.server.config.repl_disable_tcp_nodelay {
        cx.effect(Effect::Delay { client, delays: true });
    }
    cx.session_mut().kind = ClientKind::Replica;
    cx.clients.recount(client);
}

/// Whether a replica is sent a snapshot behind its length.
fn is_by_length(server: &Server, feeder: &Feeder) -> bool {
    let can_be_streamed = server.config.repl_diskless_sync && feeder.announced.reads_end_mark;
    !can_be_streamed && feeder.announced.filter.is_none()
}

impl Core<'_> {
    /// Makes the backlog, at the end of the history as it is now, and begins to record for it.
    pub fn begin_backlog(&mut self) {
        self.server.begin_backlog();
        self.server.propagation.forget_db(Reader::Replicas);
        self.server.follow_readers(self.space);
    }

    /// A replica has said how far it is.
    pub fn acknowledge(&mut self, client: ClientId, offset: i64, synced: Option<i64>) {
        let now_ms = self.server.clock.mono_ms();
        let replication = &mut self.server.replication;
        let Some(feeder) = replication.feeders.get_mut(client) else { return };
        feeder.ack = feeder.ack.max(offset);
        feeder.has_loaded |= !feeder.acknowledges || offset >= feeder.cursor.cast_signed();
        feeder.synced = feeder.synced.max(synced.unwrap_or(-1));
        feeder.ack_ms = now_ms;
        replication.copies_have_moved = true;
        if feeder.stage == Stage::Loading {
            feeder.stage = Stage::Fed;
            tracing::info!("Synchronization with replica {} succeeded", feeder.name());
        }
    }
}

impl Server {
    /// Has replicas say how far they are.
    pub(super) fn ask_for_acks(&mut self) {
        self.replication.asks_for_acks = false;
        if !self.replication.feeders.is_empty() && self.may(Deed::Ask) {
            self.propagation.record_for_replicas(GETACK);
        }
    }

    /// What a snapshot for these replicas holds.
    fn dataset_for(&self, space: &Keyspace, filter: Option<Filter>) -> Dataset {
        let mut dataset = self.dataset(space);
        if let Some(filter) = filter {
            dataset.dbs.clear();
            dataset.staged = None;
            if !filter.functions {
                dataset.functions.clear();
            }
        }
        dataset
    }
}

impl Engine {
    /// Begins to send snapshots to those who have waited for it.
    pub(super) fn begin_transfers(&mut self) {
        let replication = &self.server.replication;
        let is_waiting = |feeder: &&Feeder| matches!(feeder.stage, Stage::Waiting { .. });
        if !replication.feeders.iter().any(|feeder| is_waiting(&feeder)) {
            return;
        }
        if !self.server.may(Deed::Photograph) {
            return;
        }
        while let Some(group) = self.due_group() {
            self.begin_transfer(&group);
        }
    }

    /// Those who are to be sent the same snapshot now; none if nobody is.
    fn due_group(&self) -> Option<Vec<ClientId>> {
        let server = &self.server;
        if server.replication.transfers.running.len() >= TRANSFERS_MAX {
            return None;
        }
        let now_ms = server.clock.mono_ms();
        let waiting: Vec<(&Feeder, u64)> = (server.replication.feeders.iter())
            .filter_map(|feeder| match feeder.stage {
                Stage::Waiting { since_ms } => Some((feeder, now_ms.saturating_sub(since_ms))),
                _ => None,
            })
            .collect();
        let (first, waited_ms) = *waiting.first()?;
        let by_length = is_by_length(server, first);
        let config = &server.config;
        let delay_ms = u64::from(config.repl_diskless_sync_delay) * 1000;
        let enough = config.repl_diskless_sync_max_replicas as usize;
        let has_enough = enough > 0 && waiting.len() >= enough;
        if !by_length && waited_ms < delay_ms && !has_enough {
            return None;
        }
        let is_alike = |feeder: &Feeder| {
            is_by_length(server, feeder) == by_length
                && feeder.announced.filter == first.announced.filter
        };
        let alike = waiting.iter().filter(|(feeder, _)| is_alike(feeder));
        Some(alike.map(|(feeder, _)| feeder.client).collect())
    }

    fn begin_transfer(&mut self, group: &[ClientId]) {
        let server = &mut self.server;
        // Whoever begins with the snapshot is told the database anew.
        server.propagation.forget_db(Reader::Replicas);
        server.replication.transfers.last += 1;
        let number = server.replication.transfers.last;
        let history = *server.replication.history();
        let id = history.id();
        let offset = history.offset();
        let first = server.replication.feeders.get(group[0]).expect("it is in the group");
        let (filter, by_length) = (first.announced.filter, is_by_length(server, first));
        let target = if by_length { "disk" } else { "replicas sockets" };
        tracing::info!("Starting BGSAVE for SYNC with target: {target}");
        let mut dataset = server.dataset_for(&self.keyspace, filter);
        dataset.aux.extend(server.slot_states());
        let mut recipients = Vec::new();
        for client in group {
            let Some(feeder) = server.replication.feeders.get_mut(*client) else { continue };
            feeder.stage = Stage::Sending { transfer: number, by_length };
            feeder.cursor = offset.unsigned_abs();
            feeder.unsent_bytes = 0;
            feeder.has_loaded = false;
            let prelude = match feeder.acknowledges {
                true => format!("+FULLRESYNC {id} {offset}\r\n").into_bytes(),
                false => Vec::new(),
            };
            let is_gone = Arc::clone(&feeder.is_gone);
            recipients.push(Recipient { client: *client, prelude, is_gone });
        }
        let framing = match by_length {
            true => Framing::Length,
            false => Framing::EndMark(end_mark(server)),
        };
        server.replication.transfers.running.insert(number, 0);
        let content = Content {
            dataset,
            options: SaveOptions::of(&server.config, &self.keyspace.access),
            framing,
            timeout: server.replication.transfers.timeout.clone(),
            key_delay: server.save_delay.clone(),
            progress: Arc::new(Progress::default()),
        };
        let pid = server.parts.process_id;
        tracing::info!("Background RDB transfer started by pid {pid}");
        let transfer = Transfer { number, recipients, content };
        server.effects.push(Effect::Transfer(Box::new(transfer)));
    }

    /// Something has become of a snapshot that was sent.
    pub fn finish_transfer(&mut self, report: TransferReport) {
        match report {
            TransferReport::Sent { client } => self.end_sending(client),
            TransferReport::Lost { client, reason } => {
                if self.server.replication.feeders.get(client).is_some() {
                    tracing::warn!(
                        "Diskless rdb transfer, write error sending DB to replica: {reason}"
                    );
                }
                self.server.effects.push(Effect::Close { client });
            }
            TransferReport::TimedOut { client } => {
                if let Some(feeder) = self.server.replication.feeders.get(client) {
                    let name = feeder.name();
                    tracing::warn!("Disconnecting timedout replica (full sync): {name}");
                }
                self.server.effects.push(Effect::Close { client });
            }
            TransferReport::Ended { number, failure } => self.end_transfer(number, failure),
        }
    }

    fn end_sending(&mut self, client: ClientId) {
        let now_ms = self.server.clock.mono_ms();
        let Some(feeder) = self.server.replication.feeders.get_mut(client) else { return };
        let Stage::Sending { transfer, by_length } = feeder.stage else { return };
        if let Some(sent) = self.server.replication.transfers.running.get_mut(&transfer) {
            *sent += 1;
        }
        feeder.ack_ms = now_ms;
        let name = feeder.name();
        if feeder.announced.rdb_only {
            feeder.stage = Stage::Served;
            tracing::info!(
                "RDB transfer completed, rdb only replica ({name}) should be disconnected asap"
            );
        // One may have loaded all and said so before we have heard that all was sent.
        } else if by_length || feeder.has_loaded {
            feeder.stage = Stage::Fed;
            tracing::info!("Synchronization with replica {name} succeeded");
        } else {
            feeder.stage = Stage::Loading;
            tracing::info!(
                "Streamed RDB transfer with replica {name} succeeded (socket). Waiting for \
                 REPLCONF ACK from replica to enable streaming"
            );
        }
        self.feed_replicas();
    }

    fn end_transfer(&mut self, number: u64, failure: Option<String>) {
        let Some(sent) = self.server.replication.transfers.running.remove(&number) else { return };
        let feeders = self.server.replication.feeders.iter();
        for feeder in feeders.filter(|feeder| feeder.is_sent_by(number)) {
            self.server.effects.push(Effect::Close { client: feeder.client });
        }
        match failure {
            None if sent == 0 => {
                tracing::info!("Diskless rdb transfer, last replica dropped, killing fork child.")
            }
            None => {
                tracing::info!(
                    "Diskless rdb transfer, done reading from pipe, {sent} replicas still up."
                );
                tracing::info!("Background RDB transfer terminated with success");
            }
            Some(reason) => tracing::warn!("Background RDB transfer error: {reason}"),
        }
    }

    /// Hands replicas what follows, as far as each of them keeps up.
    pub(crate) fn feed_replicas(&mut self) {
        let Some(backlog) = &mut self.server.replication.backlog else { return };
        let end = backlog.end();
        loop {
            let hungry = |feeder: &&mut Feeder| {
                feeder.stage == Stage::Fed
                    && feeder.needs_stream()
                    && feeder.cursor < end
                    && feeder.unsent_bytes < UNSENT_BYTES_MAX
            };
            let mut fed = self.server.replication.feeders.iter_mut().filter(hungry);
            let Some(first) = fed.next() else { break };
            let cursor = first.cursor;
            let Some(piece) = backlog.read(cursor, PIECE_BYTES_MAX) else {
                // What it needs is not here: only a fault of ours could have dropped it.
                let client = first.client;
                first.stage = Stage::Served;
                self.server.effects.push(Effect::Close { client });
                continue;
            };
            let mut clients = SmallVec::<[ClientId; 2]>::new();
            for feeder in std::iter::once(first).chain(fed.filter(|other| other.cursor == cursor)) {
                feeder.cursor += piece.len() as u64;
                feeder.unsent_bytes += piece.len();
                clients.push(feeder.client);
            }
            self.server.stats.replication_output_bytes += (piece.len() * clients.len()) as u64;
            self.server.effects.push(match clients[..] {
                [client] => {
                    let bytes = ReplyBuf::with_written(piece.into());
                    Effect::Push { client, bytes }
                }
                _ => Effect::Broadcast {
                    clients: clients.into_vec(),
                    bytes: SharedBytes::new(piece.into()),
                },
            });
        }
        backlog.trim(self.server.replication.feeders.slowest());
        self.close_slow_replicas(end);
    }

    /// Whether a client is a replica of ours. The connection of one is on the executor's thread,
    /// since snapshots are sent from there.
    pub fn is_replica_client(&self, client: ClientId) -> bool {
        let session = self.clients.get(client);
        session.is_some_and(|session| session.kind == ClientKind::Replica)
    }

    /// So much of a replica's output has not been sent yet.
    pub(crate) fn note_unsent(&mut self, client: ClientId, bytes: usize) {
        let Some(feeder) = self.server.replication.feeders.get_mut(client) else { return };
        feeder.unsent_bytes = bytes;
        let end = self.server.replication.backlog.as_ref().map_or(0, |backlog| backlog.end());
        if bytes < UNSENT_BYTES_LOW && feeder.cursor < end && feeder.stage == Stage::Fed {
            self.feed_replicas();
        }
    }

    /// A replica that does not read keeps the stream in memory: not for ever.
    fn close_slow_replicas(&mut self, end: u64) {
        let now_ms = self.server.clock.mono_ms();
        let limit = self.server.config.client_output_buffer_limit.replica;
        let size = self.server.config.repl_backlog_size;
        // The backlog is kept in any case, so a limit below its size would save nothing.
        let at_least = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes.max(size) };
        let (hard, soft) = (at_least(limit.hard_bytes), at_least(limit.soft_bytes));
        let mut over = Vec::new();
        for feeder in self.server.replication.feeders.iter_mut() {
            let lag = feeder.lag_bytes(end);
            let since = match lag >= soft {
                true => Some(*feeder.over_soft_limit_ms.get_or_insert(now_ms)),
                false => None,
            };
            feeder.over_soft_limit_ms = since;
            let too_long = since.is_some_and(|since| {
                now_ms.saturating_sub(since) >= limit.soft_seconds.max(1) * 1000
            });
            if lag >= hard || too_long {
                over.push(feeder.client);
            }
        }
        for client in over {
            self.note_output_overrun(client);
            self.forget_replica(client);
            self.server.effects.push(Effect::Close { client });
        }
    }

    /// A replica's connection has ended.
    pub(crate) fn forget_replica(&mut self, client: ClientId) {
        let Some(feeder) = self.server.replication.feeders.remove(client) else { return };
        tracing::info!("Connection with replica {} lost.", feeder.name());
        self.server.replication.no_replicas_ms = self.server.clock.mono_ms();
    }

    pub(super) fn serving_cron(&mut self) {
        let now_ms = self.server.clock.mono_ms();
        let server = &mut self.server;
        if server.replication.feeders.is_empty() {
            return self.give_up_backlog(now_ms);
        }
        if now_ms.saturating_sub(self.server.replication.second_ms) >= 1000 {
            self.server.replication.second_ms = now_ms;
            self.ping_replicas(now_ms);
            self.close_silent_replicas(now_ms);
            self.keep_waiting_alive();
        }
        if let Some(end) = self.server.replication.backlog.as_ref().map(|backlog| backlog.end()) {
            self.close_slow_replicas(end);
        }
    }

    /// The stream shows replicas that we live, even if nobody writes.
    fn ping_replicas(&mut self, now_ms: u64) {
        let server = &mut self.server;
        let period_ms = u64::from(server.config.repl_ping_replica_period) * 1000;
        let is_due = now_ms.saturating_sub(server.replication.pinged_ms) >= period_ms;
        // In a cluster a replica whose offset is 0 counts as one that has no data yet.
        let is_at_start = server.cluster.is_some() && server.replication_offset() == 0;
        if (is_due || is_at_start) && !server.is_replica() && server.may(Deed::Ping) {
            server.replication.pinged_ms = now_ms;
            server.propagation.record_for_replicas(PING);
        }
    }

    fn close_silent_replicas(&mut self, now_ms: u64) {
        let server = &mut self.server;
        let timeout_ms = u64::from(server.config.repl_timeout) * 1000;
        let is_silent = |feeder: &&Feeder| {
            feeder.is_copy()
                && feeder.acknowledges
                && now_ms.saturating_sub(feeder.ack_ms) > timeout_ms
        };
        for feeder in server.replication.feeders.iter().filter(is_silent) {
            tracing::warn!("Disconnecting timedout replica (streaming sync): {}", feeder.name());
            server.effects.push(Effect::Close { client: feeder.client });
        }
    }

    /// Those who wait for a snapshot to begin are shown that we live.
    fn keep_waiting_alive(&mut self) {
        let server = &mut self.server;
        let is_waiting = |feeder: &&Feeder| matches!(feeder.stage, Stage::Waiting { .. });
        for feeder in server.replication.feeders.iter().filter(is_waiting) {
            let bytes = ReplyBuf::with_written(b"\n".to_vec());
            server.effects.push(Effect::Push { client: feeder.client, bytes });
        }
    }

    /// A primary that has had no replica for long keeps nothing for them.
    fn give_up_backlog(&mut self, now_ms: u64) {
        let server = &mut self.server;
        let ttl = server.config.repl_backlog_ttl;
        let idle_ms = now_ms.saturating_sub(server.replication.no_replicas_ms);
        let is_due = server.replication.backlog.is_some()
            && ttl > 0
            && !server.is_replica()
            && idle_ms > ttl.saturating_mul(1000);
        if !is_due {
            return;
        }
        // The history keeps its name while it does not go on uncounted.
        server.replication.backlog = None;
        server.replication.freed_at_change = Some(self.keyspace.changes.total());
        server.follow_readers(&mut self.keyspace);
        tracing::info!("Replication backlog freed after {ttl} seconds without connected replicas.");
    }
}

fn end_mark(server: &mut Server) -> [u8; END_MARK_LEN] {
    const _: () = assert!(ID_LEN == END_MARK_LEN);
    let id = server.fresh_id();
    let mut mark = [0; END_MARK_LEN];
    mark.copy_from_slice(id.as_bytes());
    mark
}

/// What a client has said of itself so far.
pub fn announced<'a>(cx: &'a mut Cx<'_>) -> &'a mut Announced {
    cx.session_mut().announced.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{Bench, config};

    /// The answer to a replica that comes back when nothing has been kept for it for a while.
    fn answer_after(expires: &str) -> String {
        let mut bench = Bench::with(config(&[("repl-backlog-ttl", "1")]));
        let writer = bench.client;
        let replica = bench.connect();
        bench.ask("PSYNC ? -1");
        bench.ask_as(writer, &format!("SET k v PX {expires}"));
        bench.turn();
        bench.engine.disconnect(replica);
        for _ in 0..30 {
            bench.advance(100);
            bench.engine.cron();
        }
        assert_eq!(bench.info("repl_backlog_active"), "0");
        bench.expire_all();
        let (id, offset) = (bench.info("master_replid"), bench.info("master_repl_offset"));
        let next = offset.parse::<i64>().expect("a number") + 1;
        let again = bench.connect();
        bench.ask("REPLCONF capa psync2");
        let mut answer = bench.ask(&format!("PSYNC {id} {next}"));
        bench.turn();
        answer.push_str(&bench.heard(again));
        answer.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Who is shown what others do cannot be shown the stream, too.
    #[test]
    fn who_watches_becomes_no_replica_nor_the_other_way_round() {
        let mut bench = Bench::with(config(&[("repl-diskless-sync", "no")]));
        let watcher = bench.connect();
        bench.expect("MONITOR", "+OK|");
        for line in ["PSYNC ? -1", "SYNC"] {
            assert_eq!(bench.ask(line), "", "{line}");
        }
        assert!(!bench.engine.is_replica_client(watcher));
        let replica = bench.connect();
        bench.ask("SYNC");
        bench.turn();
        bench.heard(replica);
        assert_eq!(bench.ask("MONITOR"), "");
        assert!(bench.engine.is_replica_client(replica) && !bench.has_closed(replica));
    }

    /// It has loaded the snapshot, of a moment that it was told nothing of.
    #[test]
    fn a_replica_that_knows_no_offset_is_fed_when_it_says_so() {
        let mut bench = Bench::with(config(&[("repl-diskless-sync-delay", "0")]));
        let writer = bench.client;
        let replica = bench.connect();
        bench.ask("REPLCONF capa eof");
        bench.ask("SYNC");
        bench.turn();
        assert!(bench.heard(replica).contains("$EOF:"));
        bench.ask_as(writer, "SET k v");
        bench.turn();
        assert_eq!(bench.heard(replica), "", "it loads");
        assert_eq!(bench.ask_as(replica, "REPLCONF ACK -1"), "");
        bench.turn();
        assert!(bench.heard(replica).ends_with("SET|$1|k|$1|v|"));
        assert_eq!(
            bench.ask_as(writer, "WAIT 1 1"),
            "",
            "it has said of no write that it is there"
        );
    }

    #[test]
    fn a_history_without_a_backlog_is_continued_while_nothing_changes() {
        assert_eq!(answer_after("100000"), "+CONTINUE");
    }

    #[test]
    fn a_key_that_has_gone_by_itself_is_a_change() {
        assert_eq!(answer_after("2500"), "+FULLRESYNC");
    }
}
