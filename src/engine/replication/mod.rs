//! Replication as part of the engine: what we are to others, and what a primary is to us.
//!
//! The parts that need no dataset are machines of the room for replication: the link to a primary
//! ([`crate::repl::link`]), the names of histories, the backlog. Here they meet the write stream,
//! the keyspace and the clients. Serving replicas is in [`serving`]; what arrives from a primary
//! comes through [`inlet`], is loaded in [`fetching`] and carried out in [`applying`].
//!
//! One offset rules all: that of the history, which the link owns. On a primary it grows by what
//! the turn has recorded for replicas, and on a replica by what has been carried out of the
//! primary's stream, byte for byte. The backlog ends where the history does.

pub mod acks;
pub mod applying;
pub mod feeders;
pub mod fetching;
pub mod inlet;
pub mod roles;
pub mod serving;
pub mod set_slot;

use super::core::Core;
use super::propagate::Reader;
use super::{ClientId, Effect, Engine, Server};
use crate::config::{Config, DisklessLoad, PrimaryAddress, Text};
use crate::keyspace::slot::Slot;
use crate::persist::load::Reading;
use crate::repl::backlog::Backlog;
use crate::repl::ids::{History, Origin, ReplicationId};
use crate::repl::link::{
    Action, Attempt, Auth, Event, Level, Link, LinkEvent, LoadFrom, NewIds, Primary, Settings,
};
use crate::structs::prng::Prng;
use acks::Written;
use feeders::Feeders;
use fetching::Fetch;
use roles::Failover;
use serving::Transfers;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

/// What the driver is to do with the connection to our primary.
pub enum LinkOrder {
    /// Connect, and tell how that went.
    Dial {
        attempt: Attempt,
        host: String,
        port: u16,
    },
    Send(Vec<u8>),
    /// Read the snapshot that arrives, on another thread; its batches go to
    /// [`Engine::take_in_snapshot`], and how it went to [`Engine::end_snapshot`].
    Read {
        attempt: Attempt,
        reading: Box<Reading>,
    },
    /// End the connection; nothing more of it is told.
    Close,
    /// Read no more of the snapshot.
    StopReading,
}

pub struct Replication {
    pub link: Link,
    settings: Settings,
    /// The part of the stream that is kept for replicas.
    pub backlog: Option<Backlog>,
    pub feeders: Feeders,
    pub transfers: Transfers,
    /// On whose behalf the stream of the primary is carried out, while there is one.
    pub applier: Option<ClientId>,
    /// The primary has asked how far we are.
    pub ack_is_wanted: bool,
    /// Slots of which replicas were told what was not done.
    mistold_slots: BTreeSet<Slot>,
    /// The snapshot that is being taken in.
    pub fetch: Option<Fetch>,
    /// Since when there has been no replica.
    no_replicas_ms: u64,
    /// The count of changes when the backlog was given up: what changes then is in nobody's stream,
    /// and the dataset is no longer what the history's name says.
    freed_at_change: Option<u64>,
    pinged_ms: u64,
    /// When what is done each second was done last.
    second_ms: u64,
    /// Replicas are to be asked how far they are, when the turn ends.
    pub asks_for_acks: bool,
    /// A replica, or the append-only file, has come further.
    pub copies_have_moved: bool,
    pub failover: Failover,
    /// On a replica: which places of the two streams belong together, oldest first, of what the
    /// append-only file does not hold safely; and the last that it does.
    marks: VecDeque<Written>,
    synced: i64,
    /// When the log was last told that the disk takes nothing of the stream.
    told_of_disk_ms: Option<u64>,
    /// Keys to which clients of a writable replica gave a time to live, by database.
    pub own_expiries: HashSet<(usize, Box<[u8]>)>,
    /// What the snapshot that was loaded at the start says of its history.
    pub loaded: Origin,
    /// Whether the dataset that there was at the start has been loaded: before that nobody is
    /// followed.
    has_started: bool,
}

impl Replication {
    pub fn new(config: &Config, id: ReplicationId) -> Replication {
        let history = History::new(id, 0);
        let configured = |at: &PrimaryAddress| {
            let host = at.host.to_string_lossy().into_owned();
            Link::configured(history, Primary { host, port: at.port }, None)
        };
        let link = config.replicaof.as_ref().map(configured);
        Replication {
            link: link.unwrap_or_else(|| Link::new(history)),
            settings: settings_of(config),
            backlog: None,
            feeders: Feeders::default(),
            transfers: Transfers::default(),
            applier: None,
            ack_is_wanted: false,
            mistold_slots: BTreeSet::new(),
            fetch: None,
            no_replicas_ms: 0,
            freed_at_change: None,
            pinged_ms: 0,
            second_ms: 0,
            asks_for_acks: false,
            copies_have_moved: false,
            failover: Failover::None,
            marks: VecDeque::new(),
            synced: -1,
            told_of_disk_ms: None,
            own_expiries: HashSet::new(),
            loaded: Origin::default(),
            has_started: false,
        }
    }

    /// The directives may have changed.
    pub fn follow(&mut self, config: &Config) {
        self.settings = settings_of(config);
        let timeout_ms = self.settings.timeout_ms;
        self.transfers.timeout.set(Duration::from_millis(timeout_ms));
        if let Some(backlog) = &mut self.backlog {
            backlog.resize(usize::try_from(config.repl_backlog_size).unwrap_or(usize::MAX));
        }
    }

    pub fn is_replica(&self) -> bool {
        self.link.primary().is_some()
    }

    /// What is kept of the stream only because some replica has not read it. Without replicas it
    /// is all kept for those that come back.
    pub fn unread_bytes(&self, backlog_size: u64) -> u64 {
        if self.feeders.is_empty() {
            return 0;
        }
        let kept = self.backlog.as_ref().map_or(0, |backlog| backlog.memory() as u64);
        kept.saturating_sub(backlog_size)
    }

    pub fn history(&self) -> &History {
        self.link.history()
    }
}

/// As whom we are known to other servers: `masteruser`, if there is one, and `masterauth`.
pub fn own_account(config: &Config) -> Option<(Option<&Text>, &Text)> {
    let is_given = |text: &&Text| !text.is_empty();
    let password = config.masterauth.as_ref().filter(is_given)?;
    Some((config.masteruser.as_ref().filter(is_given), password))
}

/// What the directives say of the link.
fn settings_of(config: &Config) -> Settings {
    let text = |text: &Text| text.as_bytes().to_vec();
    let announced = config.replica_announce_ip.as_ref().filter(|ip| !ip.is_empty());
    Settings {
        announce_port: match config.replica_announce_port {
            0 if config.tls_replication && config.tls_port != 0 => config.tls_port,
            0 => config.port,
            port => port,
        },
        announce_ip: announced.map(|ip| ip.to_string_lossy().into_owned()),
        auth: own_account(config)
            .map(|(user, password)| Auth { user: user.map(text), password: text(password) }),
        timeout_ms: u64::from(config.repl_timeout) * 1000,
        is_in_cluster: config.cluster_enabled,
        load_from: match config.repl_diskless_load {
            DisklessLoad::Disabled => LoadFrom::Disk,
            _ => LoadFrom::Socket,
        },
    }
}

/// A name for a history that nobody has.
pub fn fresh_id(prng: &mut Prng) -> ReplicationId {
    let mut bytes = [0; 20];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&prng.next_u64().to_le_bytes()[..chunk.len()]);
    }
    ReplicationId::from_random(bytes)
}

impl Server {
    /// The offset of the history, with what the turn has recorded so far.
    pub fn replication_offset(&self) -> i64 {
        let open = self.propagation.open_bytes_for(Reader::Replicas);
        self.replication.history().offset().saturating_add_unsigned(open as u64)
    }

    pub fn is_replica(&self) -> bool {
        self.replication.is_replica()
    }

    /// Which moment of which history the dataset is, for whoever loads it to go on from there.
    pub(super) fn origin(&self) -> Origin {
        let replication = &self.replication;
        if replication.backlog.is_none() && replication.link.stream_db().is_none() {
            return Origin::default();
        }
        let db = match self.is_replica() {
            true => replication.link.stream_db(),
            false => self.propagation.db_for_replicas().and_then(|db| u32::try_from(db).ok()),
        };
        Origin {
            id: Some(replication.history().id()),
            offset: Some(self.replication_offset()),
            stream_db: Some(db.unwrap_or(0)),
        }
    }

    /// The same in the words of a snapshot.
    pub(super) fn origin_texts(&self) -> Vec<(&'static str, String)> {
        let Origin { id: Some(id), offset: Some(offset), stream_db } = self.origin() else {
            return Vec::new();
        };
        vec![
            ("repl-stream-db", stream_db.unwrap_or(0).to_string()),
            ("repl-id", id.to_string()),
            ("repl-offset", offset.to_string()),
        ]
    }

    /// How many replicas were heard of lately.
    pub fn good_replicas(&self) -> usize {
        let lag_max = u64::from(self.config.min_replicas_max_lag);
        self.replication.feeders.good(self.clock.mono_ms(), lag_max)
    }

    /// Whether the dataset, which has changed so often, is what the history's name and offset say.
    pub(super) fn is_history_counted(&self, changes: u64) -> bool {
        let replication = &self.replication;
        replication.backlog.is_some() || replication.freed_at_change == Some(changes)
    }

    /// A name for a history that nobody has.
    pub(super) fn fresh_id(&mut self) -> ReplicationId {
        fresh_id(&mut self.prng)
    }

    /// Makes the backlog, at the end of the history as it is now, and begins to record for it.
    pub(super) fn begin_backlog(&mut self) {
        let size = usize::try_from(self.config.repl_backlog_size).unwrap_or(usize::MAX);
        let offset = self.replication.history().offset().unsigned_abs();
        self.replication.backlog = Some(Backlog::new(size, offset));
        self.replication.freed_at_change = None;
        self.replication.no_replicas_ms = self.clock.mono_ms();
    }
}

impl Core<'_> {
    /// Tells the link what has happened, and does what follows.
    pub fn tell_link(&mut self, event: Event<'_>) {
        let now_ms = self.server.clock.mono_ms();
        let mut actions = Vec::new();
        let Server { replication: Replication { link, settings, .. }, .. } = self.server;
        link.on(event, now_ms, settings, &mut actions);
        for action in actions {
            self.act(action);
        }
        if !self.server.replication.link.is_connected() {
            self.dismiss_applier();
        }
    }

    /// The same of the attempt that is under way.
    pub fn tell_attempt(&mut self, event: LinkEvent<'_>) {
        if let Some(attempt) = self.server.replication.link.attempt() {
            self.tell_link(Event::Of(attempt, event));
        }
    }

    fn act(&mut self, action: Action) {
        let order = match action {
            Action::Dial { attempt, host, port } => LinkOrder::Dial { attempt, host, port },
            Action::Send(bytes) => LinkOrder::Send(bytes),
            Action::CloseLink => LinkOrder::Close,
            Action::AbortLoad => return self.abort_fetch(),
            Action::BeginLoad { payload, is_same_history, .. } => {
                return self.begin_fetch(payload, is_same_history);
            }
            Action::BeginStream { db } => return self.employ_applier(db),
            Action::CutReplicas => return self.cut_replicas(),
            Action::NewIds(new) => return self.follow_ids(new),
            Action::FailoverDone => return self.end_failover(),
            Action::FailoverFailed(reason) => return self.abort_failover(reason),
            Action::Log(Level::Notice, text) => return tracing::info!("{text}"),
            Action::Log(Level::Warning, text) => return tracing::warn!("{text}"),
        };
        self.server.effects.push(Effect::Link(order));
    }

    /// What is kept of the stream belongs to another history now, or goes on under another name.
    fn follow_ids(&mut self, new: NewIds) {
        if new == NewIds::Replaced {
            // What was safe of the other history says nothing of this one.
            self.server.replication.marks.clear();
            self.server.replication.synced = -1;
        }
        if new == NewIds::Replaced || self.server.replication.backlog.is_none() {
            self.server.begin_backlog();
        }
    }

    /// Ends the connections of all replicas.
    pub(super) fn cut_replicas(&mut self) {
        for feeder in self.server.replication.feeders.iter() {
            self.server.effects.push(Effect::Close { client: feeder.client });
        }
    }
}

impl Engine {
    /// A turn ends: what it has recorded for replicas goes into the backlog, and to them.
    pub(super) fn hand_over_to_replicas(&mut self) {
        self.server.mark_turn();
        if std::mem::take(&mut self.server.replication.copies_have_moved) {
            self.end_waits_for_copies();
            self.failover_cron();
            self.depart_if_due();
        }
        if self.server.replication.backlog.is_none() && self.server.replication.feeders.is_empty() {
            return;
        }
        if self.server.replication.asks_for_acks {
            self.server.ask_for_acks();
        }
        self.core().count_own_writes();
        self.begin_transfers();
        self.feed_replicas();
    }

    /// The dataset that there was is loaded, from an append-only file that ends with this, or from
    /// a snapshot. If that says which moment of which history it is, that history goes on: as a
    /// replica's, whose primary may have more of it, or under a new name.
    pub fn start_replication(&mut self, of_aof: Origin) {
        self.server.replication.has_started = true;
        self.server.effects.push(Effect::Log);
        self.tell_cluster(crate::cluster::machine::Event::Loaded);
        self.core().settle_staging();
        let of_snapshot = std::mem::take(&mut self.server.replication.loaded);
        let origin = if self.server.config.appendonly { of_aof } else { of_snapshot };
        let Origin { id: Some(id), offset: Some(offset), stream_db } = origin else {
            return;
        };
        let mut history = History::new(id, offset);
        let primary = self.server.replication.link.primary().cloned();
        self.server.replication.link = match primary {
            Some(primary) => Link::configured(history, primary, Some(stream_db.unwrap_or(0))),
            None => {
                history.shift(self.server.fresh_id());
                Link::new(history)
            }
        };
        self.core().begin_backlog();
        if !self.server.is_replica() {
            // Who continues has the keys whose time has come since, and is told that they are gone.
            while self.expire_due() {}
            self.hand_over_to_replicas();
        }
    }

    /// What happens by itself, some times a second.
    pub(super) fn replication_cron(&mut self) {
        self.note_synced_offset();
        if self.server.replication.has_started {
            self.core().tell_link(Event::Tick);
        }
        self.expire_own_keys();
        self.serving_cron();
        self.failover_cron();
        self.depart_if_due();
    }
}
