//! Taking in a dataset: from a snapshot file, or by running the commands of an AOF.
//!
//! A [`Load`] is a machine that is driven from outside, a step at a time, so that whoever drives it
//! can serve clients in between, and may read a snapshot on a thread of its own: the net at the
//! start, and [`Load::run`] where everybody waits. It reads nothing itself: the parts of an AOF
//! come from a source of the room for persistence, and a snapshot comes ready made, in batches,
//! from whoever was asked to read it.
//!
//! Commands of an AOF run without a gate, without being recorded, and as inside a transaction, so
//! that none waits or leaves its work to another thread. Nothing expires meanwhile: a deletion that
//! mattered is in the AOF.
//!
//! Where the dataset goes is the [`target`]'s to know: at the start into the keyspace itself, else
//! aside, so that a load that fails has changed nothing.

pub mod reload;
pub mod target;
#[cfg(test)]
mod tests;

use super::clock::Now;
use super::core::Core;
use super::scripting::functions::Functions;
use super::{Caller, ClientId, Cx, Engine, Peer, Session, call};
use crate::command::Lookup;
use crate::keyspace::Keyspace;
use crate::persist::aof::manifest::{AofFile, Role, remove_unlisted_base};
use crate::persist::aof::source::{AofSource, Part, ReadOptions};
use crate::persist::aof::{AofEnd, Unloadable};
use crate::persist::load::{Batch, LoadError, Reading, SnapshotSource};
use crate::persist::rdb::{LoadOptions, Staged};
use crate::resp::{OwnedRequest, ReplyBuf};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use target::Target;

/// Parts of an AOF that one step takes at most.
const STEP_PARTS: usize = 1024;

/// How far a load has come.
#[derive(Clone, Default)]
pub struct Loading {
    pub started: Now,
    /// The size of what is read; 0 if it is not known.
    pub total_bytes: u64,
    pub loaded_bytes: u64,
    /// The memory that the file's server used when it wrote it.
    pub used_memory_then: u64,
}

impl Loading {
    pub fn percent(&self) -> f64 {
        match self.expected_bytes() {
            0 => 0.0,
            // What is a guess may be too low, and there is no more than all.
            expected => (self.loaded_bytes as f64 * 100.0 / expected as f64).min(100.0),
        }
    }

    /// The size of what is read. Of a stream whose end is marked, for want of it, what the data
    /// took in the memory of whoever sends it.
    fn expected_bytes(&self) -> u64 {
        if self.total_bytes > 0 { self.total_bytes } else { self.used_memory_then }
    }

    pub fn elapsed_seconds(&self, now: Now) -> u64 {
        now.mono_us.saturating_sub(self.started.mono_us) / 1_000_000
    }

    /// A guess from the time that the part before this took.
    pub fn eta_seconds(&self, now: Now) -> u64 {
        let elapsed = self.elapsed_seconds(now);
        if elapsed == 0 {
            return 1;
        }
        let left = self.expected_bytes().saturating_sub(self.loaded_bytes);
        elapsed.saturating_mul(left) / (self.loaded_bytes + 1)
    }
}

/// What the last load came to.
#[derive(Clone, Copy, Default)]
pub struct LastLoad {
    pub keys_loaded: u64,
    pub keys_expired: u64,
}

/// What one step came to.
pub enum Step {
    More,
    /// This snapshot is to be read. Its batches go to [`Load::take_in`]; then
    /// [`Load::finish_file`] is told how it went, and the next step goes on.
    NeedFile(Box<SnapshotSource>),
    /// The dataset is there. This is where its AOF goes on, if it has one.
    Done(AofEnd),
    /// There will be no dataset; the reason has been logged.
    Failed,
}

/// The loading of a dataset.
pub struct Load {
    origin: Origin,
    target: Target,
    /// Function libraries of the snapshot that is read, or was read last.
    functions: Vec<Vec<u8>>,
    /// The libraries that were there before an AOF, whose commands are about those that are there:
    /// they come back if it cannot be loaded.
    functions_before: Option<Functions>,
    /// How much was read of the snapshot that is being read.
    snapshot_bytes: u64,
    /// Why that one cannot be loaded.
    fault: Option<LoadError>,
    /// Everybody is told that the dataset is being loaded, and nothing happens by itself.
    is_shown: bool,
    /// It goes into the keyspace itself.
    is_live: bool,
    started_us: u64,
}

enum Origin {
    /// A snapshot file, until it is asked for.
    Snapshot(Option<Box<SnapshotSource>>),
    Aof(Box<Replay>),
}

struct Replay {
    source: AofSource,
    /// On whose behalf its commands run.
    client: ClientId,
    /// When the first command of the file was read.
    file_started_us: u64,
}

impl Load {
    /// That of the snapshot file.
    pub fn of_snapshot(core: &mut Core<'_>, target: Target) -> Load {
        let source = core.server.snapshot_source(core.space, core.server.snapshot_path());
        let total_bytes = source.file_len().unwrap_or(0);
        Load::begin(core, Origin::Snapshot(Some(source)), target, total_bytes)
    }

    /// That of the AOF; none if there is none yet.
    pub fn of_aof(core: &mut Core<'_>, target: Target) -> Result<Option<Load>, Unloadable> {
        if !core.server.claim_aof() {
            return Err(Unloadable);
        }
        let config = &core.server.config;
        let options = ReadOptions { checks: config.aof_checksum, cuts: config.aof_load_truncated };
        let Some(source) = core.server.aof.find(options)? else { return Ok(None) };
        let mono_ms = core.server.clock.mono_ms();
        let user = core.server.superuser();
        let client =
            core.clients.add(|id| Session { user, ..Session::new(id, Peer::internal(), mono_ms) });
        let total_bytes = source.total_bytes();
        let origin = Origin::Aof(Box::new(Replay { source, client, file_started_us: 0 }));
        Ok(Some(Load::begin(core, origin, target, total_bytes)))
    }

    /// That of a snapshot of so many bytes that a primary sends, which is read elsewhere.
    /// Everybody is told to wait for it if it `is_shown`.
    pub(super) fn of_link(core: &mut Core<'_>, total_bytes: u64, is_shown: bool) -> Load {
        let target = Target::aside(core.space);
        let load = Load::begin(core, Origin::Snapshot(None), target, total_bytes);
        if is_shown {
            core.begin_loading(total_bytes);
        }
        Load { is_shown, ..load }
    }

    /// Whether nothing has been loaded aside.
    pub(super) fn is_empty(&self, live: &Keyspace) -> bool {
        self.target.is_empty(live) && self.functions.is_empty()
    }

    /// It is not wanted any more.
    pub(super) fn abandon(mut self, core: &mut Core<'_>) {
        self.target.discard(core);
        self.give_up(core);
    }

    fn begin(core: &mut Core<'_>, origin: Origin, target: Target, total_bytes: u64) -> Load {
        // An AOF runs commands, for which nothing may be saved or served, wherever they run.
        let is_live = target.is_live();
        let is_shown = is_live || matches!(origin, Origin::Aof(_));
        if is_shown {
            core.begin_loading(total_bytes);
        }
        core.server.last_load = LastLoad::default();
        let is_aof = matches!(origin, Origin::Aof(_));
        let functions_before = is_aof.then(|| std::mem::take(&mut core.server.scripting.functions));
        Load {
            origin,
            target,
            functions: Vec::new(),
            functions_before,
            snapshot_bytes: 0,
            fault: None,
            is_shown,
            is_live,
            started_us: core.server.clock.now().mono_us,
        }
    }

    /// Loads on for a while.
    pub fn step(&mut self, core: &mut Core<'_>) -> Step {
        if let Some(error) = self.fault.take() {
            self.tell_of_bad_snapshot(&error);
            return self.give_up(core);
        }
        self.target.follow(core.space);
        match &mut self.origin {
            Origin::Aof(_) => self.step_aof(core),
            Origin::Snapshot(source) => match source.take() {
                Some(source) => Step::NeedFile(source),
                None => self.finish(core, AofEnd::default()),
            },
        }
    }

    fn step_aof(&mut self, core: &mut Core<'_>) -> Step {
        if !self.functions.is_empty() {
            let codes = std::mem::take(&mut self.functions);
            match core.server.functions_of_dataset(&codes) {
                Ok(functions) => core.server.scripting.functions = functions,
                Err(error) => {
                    self.tell_of_bad_snapshot(&target::no_library(&error));
                    return self.give_up(core);
                }
            }
        }
        for _ in 0..STEP_PARTS {
            let Origin::Aof(replay) = &mut self.origin else { return Step::Failed };
            match replay.source.next(core.server.clock.unix_ms()) {
                Part::More => {}
                Part::Commands => {
                    if !replay.run_commands(core, &mut self.target) {
                        return self.give_up(core);
                    }
                }
                Part::Begun => replay.begin_file(core),
                Part::Snapshot(path) => {
                    let mut source = core.server.snapshot_source(core.space, path);
                    // Nothing in it has expired yet.
                    source.reading.options.drops_expired = false;
                    return Step::NeedFile(source);
                }
                Part::Ended(file) => {
                    replay.tell_of_file(core, &file);
                    break;
                }
                Part::Anew => {
                    self.target.empty(core.space);
                    core.server.scripting.functions = Functions::default();
                    core.server.last_load = LastLoad::default();
                    break;
                }
                Part::Failed => return self.give_up(core),
                Part::Done(end) => return self.finish(core, *end),
            }
        }
        if let (Origin::Aof(replay), Some(loading)) = (&self.origin, &mut core.server.loading) {
            loading.loaded_bytes = replay.source.bytes_read();
        }
        Step::More
    }

    /// Takes in what has been read of a snapshot; whether more of it is wanted.
    pub fn take_in(&mut self, core: &mut Core<'_>, batch: Batch) -> ControlFlow<()> {
        if let Some(loading) = core.server.loading.as_mut().filter(|_| self.is_shown) {
            loading.loaded_bytes = batch.bytes_read;
            loading.used_memory_then = batch.used_memory_then;
        }
        if self.is_live && matches!(self.origin, Origin::Snapshot(_)) {
            core.server.replication.loaded = batch.origin;
        }
        core.server.last_load.keys_expired = batch.keys_expired;
        core.server.last_load.keys_loaded += batch.entries.len() as u64;
        self.functions.extend(batch.functions);
        self.snapshot_bytes = batch.bytes_read;
        let db = batch.db;
        let space = self.target.space(core.space);
        batch.staged.into_iter().for_each(|staged| take_staged(space, staged));
        match self.target.space(core.space).load(db, batch.entries) {
            Ok(()) => ControlFlow::Continue(()),
            Err(key) => {
                self.fault = Some(LoadError::Duplicate { key, db });
                ControlFlow::Break(())
            }
        }
    }

    /// The snapshot was read to its end, or could not be.
    pub fn finish_file(&mut self, read: Result<(), LoadError>) {
        match (read, &mut self.origin) {
            // What was wrong with what it was read for is what is to be told.
            _ if self.fault.is_some() => {}
            (Err(error), _) => self.fault = Some(error),
            (Ok(()), Origin::Aof(replay)) => replay.source.pass_snapshot(self.snapshot_bytes),
            (Ok(()), Origin::Snapshot(_)) => {}
        }
    }

    /// Loads all of it, on this thread.
    pub fn run(mut self, core: &mut Core<'_>) -> Result<AofEnd, Unloadable> {
        loop {
            match self.step(core) {
                Step::More => {}
                Step::NeedFile(source) => {
                    let read = source.read(&mut |batch| self.take_in(core, batch));
                    self.finish_file(read);
                }
                Step::Done(end) => return Ok(end),
                Step::Failed => return Err(Unloadable),
            }
        }
    }

    /// The dataset is whole.
    fn finish(&mut self, core: &mut Core<'_>, end: AofEnd) -> Step {
        if let Err(error) = self.take_effect(core) {
            error.tell();
            return self.give_up(core);
        }
        self.leave(core);
        if self.is_shown {
            core.end_loading();
        }
        let seconds = (core.server.clock.now().mono_us - self.started_us) as f64 / 1e6;
        match &self.origin {
            Origin::Aof(_) => {
                tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
            }
            Origin::Snapshot(_) if self.is_live => {
                tracing::info!("DB loaded from disk: {seconds:.3} seconds");
            }
            Origin::Snapshot(_) => {}
        }
        Step::Done(end)
    }

    fn take_effect(&mut self, core: &mut Core<'_>) -> Result<(), LoadError> {
        match self.origin {
            Origin::Aof(_) => {
                let functions = std::mem::take(&mut core.server.scripting.functions);
                self.target.take_effect_with(core, functions);
                Ok(())
            }
            Origin::Snapshot(_) => {
                self.target.take_effect(core, std::mem::take(&mut self.functions))
            }
        }
    }

    /// The dataset will never be whole.
    fn give_up(&mut self, core: &mut Core<'_>) -> Step {
        self.leave(core);
        if let Some(functions) = self.functions_before.take() {
            core.server.scripting.functions = functions;
        }
        // Half a dataset is nobody's to see: the server stays as it is until the process ends.
        if self.is_shown && !self.is_live {
            core.server.loading = None;
        }
        Step::Failed
    }

    fn leave(&self, core: &mut Core<'_>) {
        if let Origin::Aof(replay) = &self.origin {
            core.clients.remove(replay.client);
        }
    }

    fn tell_of_bad_snapshot(&self, error: &LoadError) {
        if matches!(error, LoadError::CalledOff) {
            return;
        }
        error.tell();
        if let Origin::Aof(replay) = &self.origin {
            let name = replay.source.file_name();
            tracing::warn!("Error reading the RDB base file {name}, AOF loading aborted");
        }
    }
}

impl Replay {
    fn begin_file(&mut self, core: &mut Core<'_>) {
        self.file_started_us = core.server.clock.now().mono_us;
        if let Some(session) = core.clients.get_mut(self.client) {
            session.db = 0;
        }
    }

    /// Runs what the source tells of; false if there is no such command.
    fn run_commands(&self, core: &mut Core<'_>, target: &mut Target) -> bool {
        self.source.commands().iter().all(|command| self.run_command(core, target, command))
    }

    fn run_command(
        &self,
        core: &mut Core<'_>,
        target: &mut Target,
        command: &OwnedRequest,
    ) -> bool {
        let request = command.as_request();
        let table = &core.server.table;
        let id = match table.lookup_in_aof(&request) {
            Lookup::Found(id) if table.row(id).command.arity.accepts(request.len()) => id,
            _ => {
                tracing::warn!(
                    "Unknown command '{}' reading the append only file {}",
                    request.arg(0).escape_ascii(),
                    self.source.file_name()
                );
                return false;
            }
        };
        let space = target.space(core.space);
        space.expiry_rule = Caller::Aof.expiry_rule();
        let mut unread = ReplyBuf::new();
        let Core { clients, server, .. } = core;
        let mut cx = Cx::of(space, clients, server, self.client, Caller::Aof, &mut unread);
        call::replay(&mut cx, id, request);
        space.expiry_rule = Caller::Client.expiry_rule();
        true
    }

    fn tell_of_file(&self, core: &Core<'_>, file: &AofFile) {
        let elapsed_us = core.server.clock.now().mono_us - self.file_started_us;
        let kind = if file.role == Role::Base { "base" } else { "incr" };
        let seconds = elapsed_us as f64 / 1e6;
        tracing::info!("DB loaded from {kind} file {}: {seconds:.3} seconds", file.name);
    }
}

/// Slots that were on their way here when a snapshot was made.
fn take_staged(space: &mut Keyspace, staged: Staged) {
    match staged {
        Staged::Begin { job, slots } => space.stage(&job, slots),
        Staged::Key(entry) => _ = space.load_staged(entry),
    }
}

impl Core<'_> {
    /// Files of so many bytes are going to be read, and nobody is served before that is done.
    pub fn begin_loading(&mut self, total_bytes: u64) {
        let started = self.server.clock.now();
        self.server.loading = Some(Loading { started, total_bytes, ..Loading::default() });
    }

    /// All has been read.
    pub fn end_loading(&mut self) {
        self.server.loading = None;
        let now = self.server.clock.now();
        self.server.saving.note_saved(now, self.space.changes.dirty);
    }
}

impl super::Server {
    /// A snapshot file as it is read at this moment.
    fn snapshot_source(&self, space: &Keyspace, path: PathBuf) -> Box<SnapshotSource> {
        let mut options = LoadOptions::of(&self.config, space);
        options.drops_expired = !self.is_replica();
        options.has_checksum &= !self.skips_checksums;
        let reading = Reading { options, delay: self.load_delay.clone() };
        Box::new(SnapshotSource { disk: Arc::clone(&self.parts.disk), path, reading })
    }

    /// Whoever switches the AOF on in the configuration file expects to see the old data.
    fn tell_of_ignored_snapshot(&self, snapshot: &SnapshotSource) {
        if snapshot.file_len().is_some() {
            tracing::warn!(
                "{} is not loaded: appendonly is on, and there is no AOF yet. To begin one with \
                 it, start with appendonly no, then CONFIG SET appendonly yes.",
                snapshot.path.display()
            );
        }
    }
}

impl Engine {
    /// Begins to load what there is at the start: the AOF if it is on, else the snapshot. None if
    /// there is nothing.
    pub fn first_load(&mut self) -> Result<Option<Load>, Unloadable> {
        if self.server.sentinel.is_some() {
            // It has no data, and what lies in its directory is somebody else's.
            return Ok(None);
        }
        let snapshot = self.server.snapshot_source(&self.keyspace, self.server.snapshot_path());
        if self.server.config.appendonly {
            let load = Load::of_aof(&mut self.core(), Target::live())?;
            if load.is_none() {
                self.server.tell_of_ignored_snapshot(&snapshot);
            }
            return Ok(load);
        }
        self.server.aof.find_manifest()?;
        self.server.in_aof_directory(remove_unlisted_base);
        let is_there = snapshot.file_len().is_some();
        Ok(is_there.then(|| Load::of_snapshot(&mut self.core(), Target::live())))
    }

    /// Loads what there is at the start, on this thread.
    pub fn load_here(&mut self) -> Result<AofEnd, Unloadable> {
        match self.first_load()? {
            Some(load) => load.run(&mut self.core()),
            None => Ok(AofEnd::default()),
        }
    }
}
