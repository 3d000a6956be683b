//! Snapshots to disk: when one is taken, who waits for it, and how the last one ended.
//!
//! Taking one is to clone the roots of the databases; the rest is a job for the thread that saves,
//! which does one after the other. Its outcome comes back through [`Engine::finish_save`]. A save
//! that was cancelled is over for everybody, though its thread has yet to notice: the next one is
//! taken at once and its job stands in line behind it.
//!
//! What the snapshot keeps in memory while the dataset changes is not data and makes no key go
//! (`structs::pins`); `snapshot-memory-limit` ends the save that keeps more.

use super::clock::Now;
use super::standstill::Deed;
use super::{ClientId, Effect, Engine};
use crate::command::CommandError;
use crate::keyspace::Keyspace;
use crate::persist::aof::manifest;
use crate::persist::aof::rewrite::{Opened, Rewritten};
use crate::persist::rdb::{Dataset, SaveOptions};
use crate::persist::snapshot::{self, Progress, SnapshotError, SnapshotFile};
use crate::resp::ReplyBuf;
use crate::structs::pins;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Work for the thread that writes files.
pub type SaveJob = Box<dyn FnOnce() -> SaveOutcome + Send>;

/// What such work came to.
pub enum SaveOutcome {
    Snapshot(Result<(), SnapshotError>),
    /// The append-only file's next increment.
    AofOpened(io::Result<Opened>),
    /// The append-only file's new base.
    AofRewritten(io::Result<Rewritten>),
}

/// What SAVE answers then; the log says more.
const SAVE_FAILED: CommandError = CommandError::Fixed("ERR");

/// After a failure, save points rest for so long.
const RETRY_AFTER_US: u64 = 5_000_000;

/// What has been saved, and what is being saved.
///
/// Ages are taken on the monotonic clock, so that no save waits for a wall clock that was set back.
pub struct Saving {
    /// The saves whose threads have not answered yet, oldest first: at most one that is not
    /// cancelled, the last.
    running: VecDeque<Running>,
    /// Another save is to start when nothing else is written.
    pub is_scheduled: bool,
    pub last_succeeded: bool,
    last_try_us: u64,
    pub last_duration_seconds: Option<u64>,
    /// When the dataset was last as it is on disk.
    last_save: Now,
    /// The dirty count of what the last file holds.
    pub dirty_at_save: u64,
    /// Saves begun.
    pub saves_total: u64,
    /// The most that the last save kept in memory.
    pub last_pinned_bytes: u64,
}

struct Running {
    started_us: u64,
    dirty: u64,
    keys_total: u64,
    progress: Arc<Progress>,
    purpose: Purpose,
    is_cancelled: bool,
    /// Why it failed, if it was not its thread's doing.
    failure: Option<String>,
    pinned_peak_bytes: u64,
}

/// For whom a save runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Background,
    /// A client waits (SAVE).
    Client(ClientId),
    /// A client waits for the file to be empty, and is not told if it cannot be (FLUSHALL).
    Flush(ClientId),
    /// The server ends after it.
    Shutdown,
}

impl Default for Saving {
    fn default() -> Self {
        Saving {
            running: VecDeque::new(),
            is_scheduled: false,
            last_succeeded: true,
            last_try_us: 0,
            last_duration_seconds: None,
            last_save: Now::default(),
            dirty_at_save: 0,
            saves_total: 0,
            last_pinned_bytes: 0,
        }
    }
}

impl Saving {
    fn current(&self) -> Option<&Running> {
        self.running.back().filter(|running| !running.is_cancelled)
    }

    pub fn is_running(&self) -> bool {
        self.current().is_some()
    }

    /// Whether the thread has yet to end a save, be it a cancelled one.
    pub fn is_ending(&self) -> bool {
        !self.running.is_empty()
    }

    /// How long the running save has taken so far.
    pub fn current_seconds(&self, now: Now) -> Option<u64> {
        let running = self.current()?;
        Some(now.mono_us.saturating_sub(running.started_us) / 1_000_000)
    }

    /// How many keys the running save has written, and of how many.
    pub fn keys(&self) -> (u64, u64) {
        self.current().map_or((0, 0), |running| (running.progress.keys(), running.keys_total))
    }

    /// The most that the running save has kept in memory.
    pub fn pinned_peak_bytes(&self) -> u64 {
        self.current().map_or(0, |running| running.pinned_peak_bytes)
    }

    pub(super) fn note_pinned(&mut self, bytes: u64) {
        if let Some(running) = self.running.back_mut() {
            running.pinned_peak_bytes = running.pinned_peak_bytes.max(bytes);
        }
    }

    /// Has the running save stop; false if there is none.
    pub fn cancel(&mut self) -> bool {
        let running = self.running.back_mut().filter(|running| !running.is_cancelled);
        let Some(running) = running else { return false };
        running.is_cancelled = true;
        running.progress.cancel();
        true
    }

    /// Has the running save stop and counts it as failed.
    pub(super) fn fail(&mut self, reason: String) {
        if self.cancel()
            && let Some(running) = self.running.back_mut()
        {
            running.failure = Some(reason);
        }
    }

    /// The dataset is now as it is on disk.
    pub fn note_saved(&mut self, now: Now, dirty: u64) {
        self.last_save = now;
        self.dirty_at_save = dirty;
    }

    /// The server has started: what is there counts as saved.
    pub fn note_start(&mut self, now: Now) {
        if self.last_save == Now::default() {
            self.last_save = now;
        }
    }

    pub fn last_save_unix_seconds(&self) -> u64 {
        self.last_save.unix_us / 1_000_000
    }
}

impl super::Server {
    /// All keys were removed, which the file is to show at once. True if the client is to wait.
    pub fn save_after_flush(&mut self, space: &Keyspace, client: ClientId, may_wait: bool) -> bool {
        self.saving.cancel();
        if self.config.save.0.is_empty() || !self.may(Deed::Save) {
            return false;
        }
        if !may_wait {
            self.saving.is_scheduled = true;
            return false;
        }
        self.save(space, Purpose::Flush(client));
        true
    }

    /// Starts the last save.
    pub(super) fn save_before_end(&mut self, space: &Keyspace) {
        self.save(space, Purpose::Shutdown);
    }

    /// Starts a save for nobody in particular.
    pub fn save_in_background(&mut self, space: &Keyspace) {
        tracing::info!("Background saving started by pid {}", self.parts.process_id);
        self.save(space, Purpose::Background);
    }

    /// Starts a save for which a client waits.
    pub fn save_for(&mut self, space: &Keyspace, client: ClientId) {
        self.save(space, Purpose::Client(client));
    }

    fn save(&mut self, space: &Keyspace, purpose: Purpose) {
        let progress = Arc::new(Progress::default());
        let dataset = self.dataset(space);
        let started_us = self.clock.now().mono_us;
        self.saving.saves_total += 1;
        self.saving.last_try_us = started_us;
        self.saving.running.push_back(Running {
            started_us,
            dirty: space.changes.dirty,
            keys_total: space.dbs().iter().map(|db| db.len() as u64).sum(),
            progress: Arc::clone(&progress),
            purpose,
            is_cancelled: false,
            failure: None,
            pinned_peak_bytes: 0,
        });
        let file = self.snapshot_file(space, dataset, progress);
        let job: SaveJob = Box::new(move || SaveOutcome::Snapshot(file.write()));
        self.effects.push(Effect::Save(job));
    }

    /// Where the snapshot file is.
    pub fn snapshot_path(&self) -> PathBuf {
        self.config.dir.0.as_path().join(self.config.dbfilename.to_string_lossy().as_ref())
    }

    fn temporary_snapshot_name(&self) -> String {
        snapshot::temporary_name(self.parts.process_id)
    }

    /// At the start: removes what interrupted saves and rewrites of ours have left.
    pub fn remove_leftovers(&mut self, is_running: &dyn Fn(u32) -> bool) {
        let directory = self.config.dir.0.as_path();
        let own = self.parts.process_id;
        snapshot::remove_leftovers(&*self.parts.disk, directory, own, is_running);
        self.in_aof_directory(|disk, place, _| {
            let is_over = |writer| writer == own || !is_running(writer);
            manifest::remove_temporaries(disk, place, is_over);
        });
    }

    /// The process is about to end, whatever is being written.
    pub fn remove_unfinished_snapshot(&self) {
        if self.saving.is_ending() {
            let path = self.config.dir.0.as_path().join(self.temporary_snapshot_name());
            let _ = self.parts.disk.remove(&path);
        }
    }

    /// What a save of this moment writes, and where.
    pub fn snapshot_file(
        &self,
        space: &Keyspace,
        dataset: Dataset,
        progress: Arc<Progress>,
    ) -> SnapshotFile {
        SnapshotFile {
            disk: Arc::clone(&self.parts.disk),
            directory: self.config.dir.0.as_path().to_owned(),
            name: self.config.dbfilename.to_string_lossy().into_owned(),
            temporary_name: self.temporary_snapshot_name(),
            dataset,
            options: SaveOptions::of(&self.config, &space.access),
            progress,
            syncs_incrementally: self.config.rdb_save_incremental_fsync,
            delay: self.save_delay.clone(),
        }
    }

    /// All databases as they are now, with what a file tells of its origin.
    pub fn dataset(&self, space: &Keyspace) -> Dataset {
        let used_memory = (self.parts.used_memory)();
        let mut texts = vec![
            ("redis-ver", crate::config::REDIS_VERSION.to_owned()),
            ("redis-bits", usize::BITS.to_string()),
            ("ctime", self.clock.unix_seconds().to_string()),
            ("used-mem", used_memory.to_string()),
            ("aof-base", "0".to_owned()),
        ];
        texts.extend(self.origin_texts());
        let dbs = space.dbs().iter().enumerate().filter(|(_, db)| !db.is_empty());
        Dataset {
            dbs: dbs.map(|(index, db)| (index, db.snapshot(space.now_ms))).collect(),
            aux: texts.into_iter().map(|(name, text)| (name.into(), text.into_bytes())).collect(),
            functions: self.scripting.functions.codes(),
            staged: space.staged_snapshot(),
        }
    }
}

impl Engine {
    /// Starts a save if one is due: scheduled, or by a save point.
    pub(super) fn save_if_due(&mut self) {
        let server = &mut self.server;
        if server.is_writing_files() || !server.may(Deed::Save) {
            return;
        }
        let saving = &server.saving;
        let now_us = server.clock.now().mono_us;
        let since_try_us = now_us.saturating_sub(saving.last_try_us);
        if since_try_us <= RETRY_AFTER_US && !saving.last_succeeded {
            return;
        }
        if saving.is_scheduled {
            server.saving.is_scheduled = false;
            return server.save_in_background(&self.keyspace);
        }
        let changes = self.keyspace.changes.dirty - saving.dirty_at_save;
        let age = now_us.saturating_sub(saving.last_save.mono_us) / 1_000_000;
        let points = &server.config.save.0;
        let due = points.iter().find(|point| changes >= point.changes && age > point.seconds);
        if let Some(point) = due {
            tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            server.save_in_background(&self.keyspace);
        }
    }

    /// Ends a save, or a rewrite of the AOF, whose snapshot keeps more in memory than it may. Keys
    /// are not touched for it: they did not cause it, and none of it would be free.
    pub(super) fn limit_snapshots(&mut self) {
        let server = &mut self.server;
        if !server.saving.is_running() && !server.is_rewriting() {
            return;
        }
        let pinned_bytes = pins::bytes();
        server.saving.note_pinned(pinned_bytes);
        server.rewrites.note_pinned(pinned_bytes);
        let limit = server.config.snapshot_memory_limit;
        if limit == 0 || pinned_bytes <= limit {
            return;
        }
        let reason = format!(
            "The snapshot that is being written keeps {pinned_bytes} bytes in memory that are not \
             data any more, over snapshot-memory-limit ({limit} bytes): writing it is given up"
        );
        if server.is_rewriting() {
            tracing::warn!("{reason}");
            server.rewrites.give_up();
        }
        server.saving.fail(reason);
    }

    pub(super) fn ok_for(&self, client: ClientId) -> ReplyBuf {
        let mut reply = ReplyBuf::new();
        if let Some(session) = self.clients.get(client) {
            reply.writer(session.protocol).ok();
        }
        reply
    }

    /// A job of the saving thread ended.
    pub fn finish_save(&mut self, outcome: SaveOutcome) {
        match outcome {
            SaveOutcome::Snapshot(result) => self.finish_snapshot(result),
            SaveOutcome::AofOpened(result) => self.finish_opening_aof(result),
            SaveOutcome::AofRewritten(result) => {
                self.server.replication.copies_have_moved = true;
                self.finish_rewriting_aof(result);
            }
        }
    }

    fn finish_snapshot(&mut self, result: Result<(), SnapshotError>) {
        let pinned_bytes = pins::bytes();
        let saving = &mut self.server.saving;
        let Some(mut running) = saving.running.pop_front() else { return };
        let now = self.server.clock.now();
        let in_background = running.purpose == Purpose::Background;
        let result = match (running.failure.take(), result) {
            (Some(reason), Err(SnapshotError::Cancelled)) => Err(SnapshotError::Failed(reason)),
            (_, result) => result,
        };
        saving.last_duration_seconds =
            Some(now.mono_us.saturating_sub(running.started_us) / 1_000_000);
        saving.last_pinned_bytes = running.pinned_peak_bytes.max(pinned_bytes);
        match &result {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                saving.last_succeeded = true;
                saving.note_saved(now, running.dirty);
            }
            Err(SnapshotError::Cancelled) => {}
            Err(SnapshotError::Failed(text)) => {
                tracing::warn!("{text}");
                saving.last_succeeded &= !in_background;
            }
        }
        match (running.purpose, &result) {
            (Purpose::Background, Ok(())) => {
                tracing::info!("Background saving terminated with success");
            }
            (Purpose::Background, Err(SnapshotError::Cancelled)) => {
                tracing::warn!("Background saving was cancelled");
            }
            (Purpose::Background, Err(_)) => tracing::warn!("Background saving error"),
            (Purpose::Client(client), _) => {
                let reply = self.ok_for(client);
                self.finish_job(client, result.map(|()| reply).map_err(|_| SAVE_FAILED));
            }
            (Purpose::Flush(client), _) => {
                let reply = self.ok_for(client);
                self.finish_job(client, Ok(reply));
            }
            (Purpose::Shutdown, outcome) => return self.end_shutdown(outcome.is_ok()),
        }
        if !self.server.saving.is_ending() {
            self.server.go_on_with_shutdown(&self.keyspace);
        }
    }
}

#[cfg(test)]
mod tests;
