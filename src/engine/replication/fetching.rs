//! Taking in the snapshot that a primary sends.
//!
//! It is read on another thread as it arrives and goes into a dataset aside, which takes the place
//! of the one there is in one step when all of it is there. Until then the old one is served, as
//! `replica-serve-stale-data` allows, or clients are told to wait, where there is nothing worth
//! serving; and a snapshot that is cut or corrupt has changed nothing. The cost is that there are
//! two datasets for a while: where `maxmemory` says that there is no room for two, the old one goes
//! first.

use super::LinkOrder;
use crate::config::DisklessLoad;
use crate::engine::core::Core;
use crate::engine::loading::{Load, Step};
use crate::engine::{Effect, Engine, Server};
use crate::keyspace::Keyspace;
use crate::persist::aof::AofEnd;
use crate::persist::load::{Batch, LoadError, Reading};
use crate::persist::rdb::{LoadOptions, RdbError};
use crate::repl::link::answers::Payload;
use crate::repl::link::{Attempt, LinkEvent, LoadFailure};
use std::ops::ControlFlow;

const EMPTY_PRIMARY: &str = "The master's dataset is empty and of another history, and \
replica-keep-data-from-empty-primary is set: the data here is kept. Set it to 'no', or use \
REPLICAOF NO ONE.";

/// A snapshot that is being taken in.
pub struct Fetch {
    attempt: Attempt,
    load: Load,
    payload: Payload,
    /// All of it has arrived.
    is_whole: bool,
    /// It has been read to its end.
    is_read: bool,
    /// The old dataset is served meanwhile, as one of another moment of the same history.
    pub is_async: bool,
    /// The database that the stream goes on in.
    stream_db: u32,
    /// It is another moment of the history that our dataset belongs to.
    is_same_history: bool,
    /// Which slots are on their way.
    slot_states: Option<Vec<u8>>,
}

impl Core<'_> {
    pub(super) fn begin_fetch(&mut self, payload: Payload, is_same_history: bool) {
        let Some(attempt) = self.server.replication.link.attempt() else { return };
        let is_empty = self.space.dbs().iter().all(|db| db.is_empty());
        let mode = self.server.config.repl_diskless_load;
        // Whoever is to keep what it has until it has seen the other must have room for both.
        let keeps = self.server.config.replica_keep_data_from_empty_primary;
        let wants = mode == DisklessLoad::FlushBeforeLoad || self.lacks_room();
        let empties = !is_empty && !keeps && wants;
        let is_async = mode == DisklessLoad::SwapDb && is_same_history && !empties;
        let is_shown = is_empty || empties || (mode == DisklessLoad::SwapDb && !is_async);
        if empties {
            self.flush_before_load();
        }
        let total_bytes = match payload {
            Payload::Length(bytes) => bytes,
            Payload::EndMark(_) => 0,
        };
        tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        let load = Load::of_link(self, total_bytes, is_shown);
        let reading = Box::new(self.server.link_reading(self.space, payload));
        self.server.replication.fetch = Some(Fetch {
            attempt,
            load,
            payload,
            is_whole: false,
            is_read: false,
            is_async,
            is_same_history,
            stream_db: 0,
            slot_states: None,
        });
        self.server.effects.push(Effect::Link(LinkOrder::Read { attempt, reading }));
    }

    /// Whether two datasets would be more than memory is allowed to hold.
    fn lacks_room(&self) -> bool {
        let max = self.server.config.maxmemory;
        let used = (self.server.parts.used_memory)() as u64;
        let lacks = max > 0 && used.saturating_mul(2) > max;
        if lacks {
            tracing::info!(
                "MASTER <-> REPLICA sync: maxmemory leaves no room for two datasets, so the old \
                 one goes before the new one is loaded"
            );
        }
        lacks
    }

    fn flush_before_load(&mut self) {
        tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        let aside = self.space.aside();
        self.replace_dataset(aside, Default::default());
        let fresh = self.server.fresh_id();
        self.tell_attempt(LinkEvent::Flushed { fresh });
    }

    /// The snapshot is not wanted any more.
    pub(super) fn abort_fetch(&mut self) {
        let Some(fetch) = self.server.replication.fetch.take() else { return };
        tracing::warn!("Internal error in RDB reading from the link -> it ends too early");
        tracing::info!("MASTER <-> REPLICA sync: Discarding temporary DB in background");
        fetch.load.abandon(self);
        self.server.effects.push(Effect::Link(LinkOrder::StopReading));
    }

    /// Whether the snapshot is that of a primary that has lost everything, it seems, and we are the
    /// last who have it.
    fn is_to_be_refused(&self, fetch: &Fetch) -> bool {
        self.server.config.replica_keep_data_from_empty_primary
            && !fetch.is_same_history
            && fetch.load.is_empty(self.space)
            && self.space.dbs().iter().any(|db| !db.is_empty())
    }

    /// The snapshot is whole and read: it becomes the dataset, or cannot.
    fn finish_fetch(&mut self) {
        let Some(mut fetch) = self.server.replication.fetch.take() else { return };
        if self.is_to_be_refused(&fetch) {
            fetch.load.abandon(self);
            let failure = LoadFailure::Ours(EMPTY_PRIMARY);
            return self.tell_attempt(LinkEvent::LoadFailed(failure));
        }
        tracing::info!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
        match fetch.load.step(self) {
            Step::Done(AofEnd { .. }) => {}
            _ => return self.tell_attempt(LinkEvent::LoadFailed(LoadFailure::Corrupt)),
        }
        tracing::info!("MASTER <-> REPLICA sync: Discarding old DB in background");
        self.space.changes.dirty += 1;
        let fresh = self.server.fresh_id();
        self.tell_attempt(LinkEvent::Loaded { db: fetch.stream_db, fresh });
        self.server.take_slot_states(fetch.slot_states.as_deref().unwrap_or_default());
        self.server.restart_aof(self.space);
    }
}

impl Server {
    /// How a snapshot of the primary is read.
    fn link_reading(&self, space: &Keyspace, payload: Payload) -> Reading {
        let mut options = LoadOptions::of(&self.config, space);
        // What has expired is the primary's to say.
        options.drops_expired = false;
        options.has_checksum &= !self.skips_checksums;
        options.total_bytes = match payload {
            Payload::Length(bytes) => Some(bytes),
            Payload::EndMark(_) => None,
        };
        Reading { options, delay: self.load_delay.clone() }
    }

    /// A dataset is being taken in from the primary while the old one is served.
    pub fn is_loading_aside(&self) -> bool {
        self.replication.fetch.as_ref().is_some_and(|fetch| fetch.is_async)
    }
}

/// Why a snapshot cannot be had, as the link is to take it.
fn failure_of(error: &LoadError, is_whole: bool) -> LoadFailure<'static> {
    match error {
        LoadError::Rdb { error: RdbError::Truncated, .. } if !is_whole => LoadFailure::ShortRead,
        _ => LoadFailure::Corrupt,
    }
}

impl Engine {
    pub(super) fn link_payload(&self) -> Option<Payload> {
        self.server.replication.fetch.as_ref().map(|fetch| fetch.payload)
    }

    /// Takes in some of the primary's snapshot; whether more of it is wanted.
    pub fn take_in_snapshot(&mut self, attempt: Attempt, mut batch: Batch) -> ControlFlow<()> {
        let Some(mut fetch) = self.server.replication.fetch.take_if(|own| own.attempt == attempt)
        else {
            return ControlFlow::Break(());
        };
        fetch.stream_db = batch.origin.stream_db.unwrap_or(fetch.stream_db);
        if let Some(states) = batch.slot_states.take() {
            fetch.slot_states = Some(states);
        }
        let taken = fetch.load.take_in(&mut self.core(), batch);
        self.server.replication.fetch = Some(fetch);
        taken
    }

    /// The primary's snapshot has been read to its end, or cannot be.
    pub fn end_snapshot(&mut self, attempt: Attempt, read: Result<(), LoadError>) {
        let Some(fetch) = &mut self.server.replication.fetch else { return };
        if fetch.attempt != attempt {
            return;
        }
        if let Err(error) = &read {
            let failure = failure_of(error, fetch.is_whole);
            if !matches!(error, LoadError::CalledOff) {
                error.tell();
            }
            return self.refuse_snapshot(failure);
        }
        fetch.is_read = true;
        fetch.load.finish_file(Ok(()));
        if fetch.is_whole {
            self.core().finish_fetch();
        }
    }

    /// What arrives as a snapshot is none, or none that can be had.
    pub(super) fn refuse_snapshot(&mut self, failure: LoadFailure<'_>) {
        if let Some(fetch) = self.server.replication.fetch.take() {
            fetch.load.abandon(&mut self.core());
        }
        self.core().tell_attempt(LinkEvent::LoadFailed(failure));
    }

    /// Whether the snapshot that arrives has been read to its end.
    pub(super) fn has_read_snapshot(&self) -> bool {
        self.server.replication.fetch.as_ref().is_some_and(|fetch| fetch.is_read)
    }

    /// All of the snapshot has arrived.
    pub(super) fn end_incoming_snapshot(&mut self) {
        self.core().tell_attempt(LinkEvent::Received);
        let Some(fetch) = &mut self.server.replication.fetch else { return };
        fetch.is_whole = true;
        if fetch.is_read {
            self.core().finish_fetch();
        }
    }
}
