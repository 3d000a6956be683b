//! Snapshots to disk: when one is taken, who waits for it, and how the last one ended.
//!
//! Taking one is to clone the roots of the databases; the rest is a job for the thread that saves,
//! which does one at a time. Its outcome comes back through [`Engine::finish_save`]. A save that
//! was cancelled is running until its thread says that it has stopped; what comes after it waits.

use super::{ClientId, Effect, Engine};
use crate::command::CommandError;
use crate::keyspace::Keyspace;
use crate::persist::aof::manifest;
use crate::persist::aof::rewrite::{Opened, Rewritten};
use crate::persist::rdb::{Dataset, SaveOptions};
use crate::persist::snapshot::{self, KeyDelay, Progress, SnapshotError, SnapshotFile};
use crate::resp::ReplyBuf;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Work for the thread that writes files.
pub type SaveJob = Box<dyn FnOnce() -> SaveOutcome + Send>;

/// What such work came to.
pub enum SaveOutcome {
    Snapshot(Result<(), SnapshotError>),
    /// The append-only log's next increment.
    LogOpened(io::Result<Opened>),
    /// The append-only log's new base.
    LogRewritten(io::Result<Rewritten>),
}

/// What SAVE answers then; the log says more.
const SAVE_FAILED: CommandError = CommandError::Fixed("ERR");

/// After a failure, save points rest for so long.
const RETRY_AFTER_SECONDS: u64 = 5;

/// What has been saved, and what is being saved.
pub struct Saving {
    running: Option<Running>,
    /// Another save is to start when nothing else is written.
    pub is_scheduled: bool,
    pub last_succeeded: bool,
    pub last_try_unix_seconds: u64,
    pub last_duration_seconds: Option<u64>,
    pub last_save_unix_seconds: u64,
    /// The dirty count of what the last file holds.
    pub dirty_at_save: u64,
    /// Saves begun.
    pub saves_total: u64,
}

struct Running {
    started_unix_seconds: u64,
    dirty: u64,
    keys_total: u64,
    progress: Arc<Progress>,
    purpose: Purpose,
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
            running: None,
            is_scheduled: false,
            last_succeeded: true,
            last_try_unix_seconds: 0,
            last_duration_seconds: None,
            last_save_unix_seconds: 0,
            dirty_at_save: 0,
            saves_total: 0,
        }
    }
}

impl Saving {
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How long the running save has taken so far.
    pub fn current_seconds(&self, now_unix_seconds: u64) -> Option<u64> {
        let running = self.running.as_ref()?;
        Some(now_unix_seconds.saturating_sub(running.started_unix_seconds))
    }

    /// How many keys the running save has written, and of how many.
    pub fn keys(&self) -> (u64, u64) {
        let running = self.running.as_ref();
        running.map_or((0, 0), |running| (running.progress.keys(), running.keys_total))
    }

    /// Has the running save stop; false if there is none.
    pub fn cancel(&mut self) -> bool {
        if let Some(running) = &self.running {
            running.progress.cancel();
        }
        self.running.is_some()
    }
}

impl super::Server {
    /// All keys were removed, which the file is to show at once. True if the client is to wait.
    pub fn save_after_flush(&mut self, space: &Keyspace, client: ClientId, may_wait: bool) -> bool {
        let is_stopping = self.saving.cancel();
        if self.config.save.0.is_empty() || self.loading.is_some() {
            return false;
        }
        if is_stopping || !may_wait {
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
        let now_unix_seconds = self.clock.unix_seconds();
        self.saving.saves_total += 1;
        self.saving.last_try_unix_seconds = now_unix_seconds;
        self.saving.running = Some(Running {
            started_unix_seconds: now_unix_seconds,
            dirty: space.changes.dirty,
            keys_total: space.dbs().iter().map(|db| db.len() as u64).sum(),
            progress: Arc::clone(&progress),
            purpose,
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
    pub fn remove_leftovers(&self, is_running: &dyn Fn(u32) -> bool) {
        let directory = self.config.dir.0.as_path();
        let own = self.parts.process_id;
        snapshot::remove_leftovers(&*self.parts.disk, directory, own, is_running);
        manifest::remove_temporaries(&*self.aof.disk, &self.aof.place);
    }

    /// The process is about to end, whatever is being written.
    pub fn remove_unfinished_snapshot(&self) {
        if self.saving.is_running() {
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
            delay: KeyDelay(self.config.rdb_key_save_delay),
        }
    }

    /// All databases as they are now, with what a file tells of its origin.
    pub fn dataset(&self, space: &Keyspace) -> Dataset {
        let used_memory = (self.parts.used_memory)();
        let texts = [
            ("redis-ver", crate::config::REDIS_VERSION.to_owned()),
            ("redis-bits", usize::BITS.to_string()),
            ("ctime", self.clock.unix_seconds().to_string()),
            ("used-mem", used_memory.to_string()),
            ("aof-base", "0".to_owned()),
        ];
        let dbs = space.dbs().iter().enumerate().filter(|(_, db)| !db.is_empty());
        Dataset {
            dbs: dbs.map(|(index, db)| (index, db.snapshot(space.now_ms))).collect(),
            aux: texts.into_iter().map(|(name, text)| (name.into(), text.into_bytes())).collect(),
            functions: self.function_libraries.clone(),
        }
    }
}

impl Engine {
    /// Starts a save if one is due: scheduled, or by a save point.
    pub(super) fn save_if_due(&mut self) {
        let server = &mut self.server;
        let is_busy = server.saving.is_running() || server.aof.is_rewriting();
        if is_busy || server.loading.is_some() || server.shutdown.is_some() {
            return;
        }
        let saving = &server.saving;
        let now = server.clock.unix_seconds();
        let rests = now.saturating_sub(saving.last_try_unix_seconds) <= RETRY_AFTER_SECONDS
            && !saving.last_succeeded;
        if rests {
            return;
        }
        if saving.is_scheduled {
            server.saving.is_scheduled = false;
            return server.save_in_background(&self.keyspace);
        }
        let changes = self.keyspace.changes.dirty - saving.dirty_at_save;
        let age = now.saturating_sub(saving.last_save_unix_seconds);
        let points = &server.config.save.0;
        let due = points.iter().find(|point| changes >= point.changes && age > point.seconds);
        if let Some(point) = due {
            tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            server.save_in_background(&self.keyspace);
        }
    }

    fn ok_for(&self, client: ClientId) -> ReplyBuf {
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
            SaveOutcome::LogOpened(result) => self.finish_opening_log(result),
            SaveOutcome::LogRewritten(result) => self.finish_rewriting_log(result),
        }
    }

    fn finish_snapshot(&mut self, result: Result<(), SnapshotError>) {
        let saving = &mut self.server.saving;
        let Some(running) = saving.running.take() else { return };
        let now = self.server.clock.unix_seconds();
        let in_background = running.purpose == Purpose::Background;
        saving.last_duration_seconds = Some(now.saturating_sub(running.started_unix_seconds));
        match &result {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                saving.last_succeeded = true;
                saving.last_save_unix_seconds = now;
                saving.dirty_at_save = running.dirty;
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
        self.server.go_on_with_shutdown(&self.keyspace);
    }
}
