//! Our replicas, as records: how far each has come, and what it said of itself.
//!
//! A replica is a client that has sent PSYNC or SYNC. It waits for a snapshot, is sent one, and
//! from then on reads the stream from the backlog, each at a place of its own. One that could
//! continue where it was begins with the stream. What it acknowledges decides WAIT, the good
//! replicas, and who may take our place.

use crate::engine::ClientId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a replica has said of itself before it asked for anything (REPLCONF).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Announced {
    pub port: u16,
    pub ip: Option<Box<str>>,
    /// It can read a snapshot whose end is marked.
    pub reads_end_mark: bool,
    pub knows_psync2: bool,
    /// In a cluster it keeps what its primary says of slots on their way.
    pub knows_set_slot: bool,
    /// It takes in what its primary takes in of slots that come to it.
    pub knows_slot_moves: bool,
    /// It wants a snapshot and no stream.
    pub rdb_only: bool,
    /// It wants no keys, and of the rest only this.
    pub filter: Option<Filter>,
}

/// What of a dataset is sent to who wants no keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    pub functions: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It waits for a snapshot to begin, since then.
    Waiting { since_ms: u64 },
    /// It is being sent the snapshot of this transfer.
    Sending { transfer: u64, by_length: bool },
    /// It has the snapshot, and has yet to say that it has loaded it.
    Loading,
    /// It reads the stream.
    Fed,
    /// It wanted the snapshot alone, and has it.
    Served,
}

pub struct Feeder {
    pub client: ClientId,
    pub announced: Announced,
    /// Where it connects from, without the port.
    pub peer_ip: Box<str>,
    pub peer_port: Box<str>,
    pub stage: Stage,
    /// It asked with PSYNC, so it acknowledges.
    pub acknowledges: bool,
    /// Up to here the stream has been handed out to it, or is behind its snapshot.
    pub cursor: u64,
    /// What of it lies with the driver.
    pub unsent_bytes: usize,
    /// How far it has said that it is; -1 unless it has said anything, since until then not even
    /// the beginning of the history is known to be there.
    pub ack: i64,
    /// It has acknowledged the moment of its snapshot.
    pub has_loaded: bool,
    /// What its append-only file holds safely; -1 unless it has said so.
    pub synced: i64,
    pub ack_ms: u64,
    /// Since when it has been over the soft limit of output.
    pub over_soft_limit_ms: Option<u64>,
    pub is_gone: Arc<AtomicBool>,
}

impl Feeder {
    /// In the word of INFO.
    pub fn word(&self) -> &'static str {
        match self.stage {
            Stage::Waiting { .. } | Stage::Sending { .. } => "wait_bgsave",
            Stage::Loading | Stage::Fed | Stage::Served => "online",
        }
    }

    /// Whether it is being sent the snapshot of this transfer.
    pub fn is_sent_by(&self, number: u64) -> bool {
        matches!(self.stage, Stage::Sending { transfer, .. } if transfer == number)
    }

    pub fn is_online(&self) -> bool {
        matches!(self.stage, Stage::Loading | Stage::Fed | Stage::Served)
    }

    /// Whether it does as it is told of slots, and is online.
    pub fn knows_set_slot(&self) -> bool {
        self.announced.knows_set_slot && self.is_copy()
    }

    /// It holds what it acknowledges, and can stand in for us.
    pub fn is_copy(&self) -> bool {
        self.is_online() && !self.announced.rdb_only
    }

    /// The address to reach it at: what it told, or else where it connects from.
    pub fn ip(&self) -> &str {
        self.announced.ip.as_deref().unwrap_or(&self.peer_ip)
    }

    /// Its address as the log names it.
    pub fn name(&self) -> String {
        let port = self.announced.port;
        match port {
            0 => format!("{}:<unknown-replica-port>", self.ip()),
            _ => format!("{}:{port}", self.ip()),
        }
    }

    /// The offset that it has acknowledged, as it is shown.
    pub fn shown_ack(&self) -> i64 {
        self.ack.max(0)
    }

    /// Seconds since it was last heard of, which count once it is online.
    pub fn lag_seconds(&self, now_ms: u64) -> u64 {
        if self.is_online() { now_ms.saturating_sub(self.ack_ms) / 1000 } else { 0 }
    }

    /// Whether it needs the stream from its place on, now or when it has loaded its snapshot.
    pub fn needs_stream(&self) -> bool {
        !self.announced.rdb_only && !matches!(self.stage, Stage::Waiting { .. })
    }

    /// How much it has yet to read, of a stream that ends here.
    pub fn lag_bytes(&self, end: u64) -> u64 {
        let behind = if self.needs_stream() { end.saturating_sub(self.cursor) } else { 0 };
        behind.saturating_add(self.unsent_bytes as u64)
    }
}

/// All of them, first come first.
#[derive(Default)]
pub struct Feeders(Vec<Feeder>);

impl Feeders {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Feeder> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Feeder> {
        self.0.iter_mut()
    }

    pub fn get(&self, client: ClientId) -> Option<&Feeder> {
        self.0.iter().find(|feeder| feeder.client == client)
    }

    pub fn get_mut(&mut self, client: ClientId) -> Option<&mut Feeder> {
        self.0.iter_mut().find(|feeder| feeder.client == client)
    }

    pub fn add(&mut self, feeder: Feeder) {
        self.0.push(feeder);
    }

    /// It has gone; whoever sends it something is told.
    pub fn remove(&mut self, client: ClientId) -> Option<Feeder> {
        let at = self.0.iter().position(|feeder| feeder.client == client)?;
        let feeder = self.0.remove(at);
        feeder.is_gone.store(true, Ordering::Relaxed);
        Some(feeder)
    }

    /// How many have acknowledged an offset.
    pub fn acknowledged(&self, offset: i64) -> usize {
        self.count_copies(|feeder| feeder.ack >= offset)
    }

    /// How many have an offset in their append-only file.
    pub fn synced(&self, offset: i64) -> usize {
        self.count_copies(|feeder| feeder.synced >= offset)
    }

    /// How many were heard of within so many seconds.
    pub fn good(&self, now_ms: u64, lag_max: u64) -> usize {
        self.count_copies(|feeder| feeder.lag_seconds(now_ms) <= lag_max)
    }

    /// How many copies are as asked. A replica that has come back before the end of its old
    /// connection was noticed is one copy, by whichever of the two.
    fn count_copies(&self, is_so: impl Fn(&Feeder) -> bool) -> usize {
        let are_so = |feeder: &&Feeder| feeder.is_copy() && is_so(feeder);
        let same = |one: &Feeder, other: &Feeder| {
            let port = one.announced.port;
            port != 0 && port == other.announced.port && one.ip() == other.ip()
        };
        let is_first = |(at, feeder): &(usize, &Feeder)| {
            !self.0[..*at].iter().filter(are_so).any(|before| same(before, feeder))
        };
        let all = self.0.iter().enumerate().filter(|(_, feeder)| are_so(feeder));
        all.filter(is_first).count()
    }

    /// The place from which the stream is needed by the slowest.
    pub fn slowest(&self) -> Option<u64> {
        let readers = self.0.iter().filter(|feeder| feeder.needs_stream());
        readers.map(|feeder| feeder.cursor).min()
    }
}
