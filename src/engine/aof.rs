//! The append-only file as part of the engine: what a turn hands over, rewrites, the gates.
//!
//! The AOF itself is a state machine of the room for persistence; here it meets the write stream,
//! the configuration and the keyspace. A turn's bytes are appended and written when the turn
//! ends; the dataset is photographed between turns, so that a base and the increment behind it
//! meet at a command's end. What takes long leaves as effects: syncs, and the two jobs of a
//! rewrite (open the next increment; write the base), whose outcomes come back by
//! [`Engine::finish_sync`] and [`Engine::finish_save`].

use super::propagate::Reader;
use super::saving::SaveOutcome;
use super::standstill::Deed;
use super::waiting::Line;
use super::{Effect, Engine, Server};
use crate::command::CommandError;
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::persist::aof::rewrite::{self, BaseJob, Opened, Rewritten, WriteBase};
use crate::persist::aof::{
    Aof, AofEnd, BaseForm, Manifest, Mode, Moment, Options, Place, SyncOutcome, commands,
};
use crate::persist::disk::Disk;
use crate::persist::rdb::{self, SaveError, SaveOptions};
use crate::structs::pins;
use crate::structs::prng::Prng;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many rewrites in a row may fail before the next one has to wait.
const FAILURES_MAX: u64 = 3;
const DELAY_MINUTES_MAX: u64 = 60;
/// A rewrite without which no write is taken is tried again after this.
const URGENT_DELAY_US: u64 = 1_000_000;

/// Rewrites of the AOF: what is planned, what runs, how the last ones went.
pub struct Rewrites {
    pub is_scheduled: bool,
    started_us: Option<u64>,
    pub last_seconds: Option<u64>,
    pub last_failed: bool,
    pub total: u64,
    pub consecutive_failures: u64,
    delay_minutes: u64,
    next_try_us: Option<u64>,
    /// The AOF's size after the last rewrite, or at the start.
    pub base_size_bytes: u64,
    is_cancelled: Arc<AtomicBool>,
    /// The form of the running rewrite's base.
    form: BaseForm,
    /// What will write the base of the moment at which the next increment began.
    base: Option<WriteBase>,
    /// The running one is cancelled, and another one was begun that waits for its end.
    restarts: bool,
    /// The running one is not wanted any more: that it comes to nothing is no failure.
    is_stopped: bool,
    pinned_peak_bytes: u64,
    /// The most that the snapshot of the last rewrite kept in memory.
    pub last_pinned_bytes: u64,
}

impl Default for Rewrites {
    fn default() -> Self {
        Rewrites {
            is_scheduled: false,
            started_us: None,
            last_seconds: None,
            last_failed: false,
            total: 0,
            consecutive_failures: 0,
            delay_minutes: 0,
            next_try_us: None,
            base_size_bytes: 0,
            is_cancelled: Arc::default(),
            form: BaseForm::Rdb,
            base: None,
            restarts: false,
            is_stopped: false,
            pinned_peak_bytes: 0,
            last_pinned_bytes: 0,
        }
    }
}

impl Rewrites {
    /// The most that the running rewrite's snapshot has kept in memory.
    pub fn pinned_peak_bytes(&self) -> u64 {
        self.pinned_peak_bytes
    }

    pub(super) fn note_pinned(&mut self, bytes: u64) {
        if self.started_us.is_some() {
            self.pinned_peak_bytes = self.pinned_peak_bytes.max(bytes);
        }
    }

    /// Has the running one fail as soon as its thread notices.
    pub(super) fn give_up(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// What the directives ask of the AOF.
pub fn options(config: &Config) -> Options {
    Options {
        policy: config.appendfsync,
        timestamps: config.aof_timestamp_enabled,
        checksums: config.aof_checksum,
        keeps_history: config.aof_disable_auto_gc,
        base_form: base_form(config),
        syncs_in_steps: config.aof_rewrite_incremental_fsync,
        no_sync_during_saves: config.no_appendfsync_on_rewrite,
    }
}

fn base_form(config: &Config) -> BaseForm {
    if config.aof_use_rdb_preamble { BaseForm::Rdb } else { BaseForm::Commands }
}

impl Server {
    pub fn moment(&self) -> Moment {
        let now = self.clock.now();
        Moment { mono_us: now.mono_us, unix_seconds: now.unix_us / 1_000_000 }
    }

    /// Begins to record what commands change, or stops, as somebody replays it or nobody does.
    pub fn follow_readers(&mut self, space: &mut Keyspace) {
        let is_read = self.aof.is_on();
        if self.propagation.is_active_for(Reader::Aof) != is_read {
            self.propagation.set_active(Reader::Aof, is_read);
            self.aof.cursor = self.propagation.offset();
        }
        // What a replica hands on is its primary's stream, and nothing of its own.
        let is_fed = self.replication.backlog.is_some() && !self.is_replica();
        if self.propagation.is_active_for(Reader::Replicas) != is_fed {
            self.propagation.set_active(Reader::Replicas, is_fed);
        }
        let is_moving = self.slot_moves.records();
        if self.propagation.is_active_for(Reader::Mover) != is_moving {
            self.propagation.set_active(Reader::Mover, is_moving);
        }
        let observers = &mut space.changes.observers;
        observers.propagation = self.propagation.is_active();
        observers.leaves_expired = self.is_replica();
        observers.touched_keys |= self.takes_own_writes();
    }

    /// Nothing goes into the AOF any more; what has is synced.
    fn stop_aof(&mut self) {
        self.stop_rewrite();
        self.rewrites.base = None;
        let now = self.moment();
        if let Some(request) = self.aof.stop(now) {
            self.effects.push(Effect::Sync(request));
        }
    }

    /// The dataset is another one now: the AOF begins anew with it.
    pub(super) fn restart_aof(&mut self, space: &mut Keyspace) {
        if !self.config.appendonly {
            return;
        }
        self.stop_aof();
        self.follow_readers(space);
        self.aof.wait_for_base();
        match self.is_writing_files() {
            true => self.rewrites.is_scheduled = true,
            false => _ = self.begin_rewrite(),
        }
        self.follow_readers(space);
    }

    /// Switches the AOF on or off, as the configuration says now. Switched on, it begins with a
    /// rewrite; `may_begin` says whether that may be at once.
    pub fn switch_aof(&mut self, space: &mut Keyspace, may_begin: bool) {
        if self.config.appendonly == self.aof.is_on() {
            return;
        }
        if self.config.appendonly {
            self.aof.wait_for_base();
            if !may_begin || self.is_writing_files() {
                self.rewrites.is_scheduled = true;
                let when = match may_begin {
                    true => "but there is already another background operation",
                    false => "during a transaction",
                };
                tracing::info!(
                    "AOF was enabled {when}. An AOF background was scheduled to start when \
                     possible."
                );
            } else {
                self.begin_rewrite();
            }
        } else {
            if std::mem::take(&mut self.rewrites.is_scheduled) {
                tracing::info!(
                    "AOF was disabled but there is a scheduled AOF background, cancel it."
                );
            }
            if self.is_rewriting() {
                let pid = self.parts.process_id;
                tracing::info!("Killing running AOF rewrite child: {pid}");
            }
            self.stop_aof();
        }
        self.follow_readers(space);
        self.release_unused_aof();
    }

    /// Takes the AOF's files for this server; false, as is then logged, if another one has them.
    pub fn claim_aof(&mut self) -> bool {
        let Aof { claim, disk, place, .. } = &mut self.aof;
        let is_taken = claim.take(&**disk, place).is_ok();
        if !is_taken {
            let (directory, name) =
                (self.config.dir.0.as_path().join(&place.directory), &place.prefix);
            tracing::warn!(
                "The append only log {name} in the directory {} is in use by another server. Give \
                 each server a dir, an appenddirname or an appendfilename of its own.",
                directory.display()
            );
        }
        is_taken
    }

    /// Lets others have the AOF's files if nothing here writes to them.
    pub fn release_unused_aof(&mut self) {
        let is_used = self.config.appendonly || self.aof.is_on();
        if !is_used && self.rewrites.started_us.is_none() {
            self.aof.claim.release();
        }
    }

    /// Whether the directory may change: the files of an AOF, and the manifest that lists them, are
    /// found by it, and what was acknowledged is not to be spread over two.
    pub fn may_leave_directory(&self) -> bool {
        !self.aof.is_on() && self.rewrites.started_us.is_none()
    }

    /// Tidies up in the AOF's directory, if it is there and no other server uses the AOF.
    pub fn in_aof_directory(&mut self, act: impl FnOnce(&dyn Disk, &Place, &Manifest)) {
        let Aof { claim, disk, place, manifest, .. } = &mut self.aof;
        let is_there = disk.list(&place.directory).is_ok_and(|names| !names.is_empty());
        if is_there && claim.take(&**disk, place).is_ok() {
            act(&**disk, place, manifest);
        }
        self.release_unused_aof();
    }

    /// Deletes the history that had been kept, when it is not to be kept any more.
    pub fn drop_history(&mut self) {
        if !self.config.aof_disable_auto_gc && !self.is_writing_files() {
            let (disk, place) = (Arc::clone(&self.aof.disk), self.aof.place.clone());
            rewrite::delete_history(&*disk, &place, &mut self.aof.manifest);
        }
    }

    /// Whether a rewrite is under way that will come to something. INFO says so, and another one is
    /// refused for it; one that was cancelled is over, though its thread has yet to notice.
    pub fn is_rewriting(&self) -> bool {
        self.rewrites.restarts || (self.rewrites.started_us.is_some() && self.aof.is_rewriting_on())
    }

    /// Starts a rewrite of the AOF, behind one that was cancelled if need be; false if it cannot be
    /// now.
    pub fn begin_rewrite(&mut self) -> bool {
        self.rewrites.restarts = self.rewrites.started_us.is_some();
        if self.rewrites.restarts {
            return true;
        }
        if !self.claim_aof() {
            self.rewrites.is_scheduled = false;
            return false;
        }
        let Some(kind) = self.aof.begin_rewrite() else { return false };
        let now = self.moment();
        self.rewrites.is_scheduled = false;
        self.rewrites.started_us = Some(now.mono_us);
        self.rewrites.total += 1;
        self.rewrites.is_cancelled = Arc::default();
        self.rewrites.is_stopped = false;
        self.rewrites.pinned_peak_bytes = 0;
        self.rewrites.form = self.aof.options.base_form;
        let (disk, place) = (Arc::clone(&self.aof.disk), self.aof.place.clone());
        let manifest = self.aof.manifest.clone();
        let key = self.aof.keys.draw(self.clock.now().unix_us);
        let job =
            move || SaveOutcome::AofOpened(rewrite::open(&*disk, &place, manifest, kind, key));
        self.effects.push(Effect::Save(Box::new(job)));
        tracing::info!(
            "Background append only file rewriting started by pid {}",
            self.parts.process_id
        );
        true
    }

    /// What writes the dataset as it is now, in the form of the next base.
    pub fn base_of(&self, space: &Keyspace, form: BaseForm) -> WriteBase {
        let is_cancelled = Arc::clone(&self.rewrites.is_cancelled);
        let is_to_stop = move || is_cancelled.load(Ordering::Relaxed);
        let mut dataset = self.dataset(space);
        let delay = self.save_delay.clone();
        if form == BaseForm::Commands {
            let dataset = commands::Dataset {
                dbs: dataset.dbs,
                functions: dataset.functions,
                staged: dataset.staged,
                timestamp: self.aof.options.timestamps.then(|| self.clock.unix_seconds()),
            };
            return Box::new(move |out, watch| {
                let mut watch = |keys| {
                    delay.wait(keys, &is_to_stop);
                    watch(keys)
                };
                commands::write(&dataset, out, &mut watch)
            });
        }
        for (name, value) in &mut dataset.aux {
            if &**name == "aof-base" {
                *value = b"1".to_vec();
            }
        }
        let options = SaveOptions::of(&self.config, &space.access);
        Box::new(move |out, watch| {
            let mut watch = |keys| {
                delay.wait(keys, &is_to_stop);
                watch(keys)
            };
            match rdb::write(&dataset, &options, out, &mut watch) {
                Ok(_) => Ok(()),
                Err(SaveError::Io(error)) => Err(error),
                Err(SaveError::CalledOff) => Err(io::Error::other("cancelled")),
            }
        })
    }

    /// Has the base written for which the old increment is durable.
    fn write_base(&mut self) {
        let Some(kind) = self.aof.may_write_base() else { return };
        let Some(write) = self.rewrites.base.take() else { return };
        let options = self.aof.options;
        let job = BaseJob {
            disk: Arc::clone(&self.aof.disk),
            place: self.aof.place.clone(),
            manifest: self.aof.manifest.clone(),
            kind,
            form: self.rewrites.form,
            process_id: self.parts.process_id,
            syncs_in_steps: options.syncs_in_steps,
            keeps_history: options.keeps_history,
            write,
            is_cancelled: Arc::clone(&self.rewrites.is_cancelled),
        };
        self.effects.push(Effect::Save(Box::new(move || SaveOutcome::AofRewritten(job.run()))));
    }

    /// Whether something is being written for which automatic saves and rewrites wait.
    pub fn is_writing_files(&self) -> bool {
        self.saving.is_running() || self.rewrites.started_us.is_some()
    }

    /// Ends a running rewrite as soon as it notices: the server ends.
    pub fn cancel_rewrite(&mut self) {
        if self.is_rewriting() {
            tracing::warn!("There is a child rewriting the AOF. Killing it!");
        }
        self.stop_rewrite();
    }

    fn stop_rewrite(&mut self) {
        self.rewrites.restarts = false;
        self.rewrites.is_stopped = self.rewrites.started_us.is_some();
        self.rewrites.give_up();
    }

    fn end_rewrite(&mut self, failed: bool) {
        let now = self.moment();
        let rewrites = &mut self.rewrites;
        let is_stopped = std::mem::take(&mut rewrites.is_stopped) && failed;
        let started_us = rewrites.started_us.take().unwrap_or(now.mono_us);
        self.release_unused_aof();
        let rewrites = &mut self.rewrites;
        rewrites.base = None;
        rewrites.last_pinned_bytes = rewrites.pinned_peak_bytes.max(pins::bytes());
        if is_stopped {
            return tracing::info!("Background AOF rewrite terminated by signal");
        }
        rewrites.last_seconds = Some((now.mono_us - started_us) / 1_000_000);
        rewrites.last_failed = failed;
        if failed {
            rewrites.consecutive_failures += 1;
            rewrites.next_try_us = Some(now.mono_us + URGENT_DELAY_US);
            tracing::warn!("Background AOF rewrite terminated with error");
        } else {
            rewrites.consecutive_failures = 0;
            rewrites.delay_minutes = 0;
            rewrites.next_try_us = None;
        }
    }

    /// How long the running rewrite has been running.
    pub fn rewrite_seconds(&self) -> Option<u64> {
        let now_us = self.clock.now().mono_us;
        self.rewrites.started_us.map(|at| now_us.saturating_sub(at) / 1_000_000)
    }

    /// Whether rewrites that nobody waits for must wait, because too many have failed.
    fn is_rewrite_limited(&mut self) -> bool {
        let now_us = self.clock.now().mono_us;
        let rewrites = &mut self.rewrites;
        if rewrites.consecutive_failures < FAILURES_MAX {
            rewrites.delay_minutes = 0;
            return false;
        }
        match rewrites.next_try_us {
            Some(at) if rewrites.delay_minutes > 0 => {
                if now_us >= at {
                    rewrites.next_try_us = None;
                }
                now_us < at
            }
            _ => {
                let minutes = (rewrites.delay_minutes * 2).clamp(1, DELAY_MINUTES_MAX);
                rewrites.delay_minutes = minutes;
                rewrites.next_try_us = Some(now_us + minutes * 60_000_000);
                tracing::warn!(
                    "Background AOF rewrite has repeatedly failed and triggered the limit, will \
                     retry in {minutes} minutes"
                );
                true
            }
        }
    }

    /// Growth in percent since the last rewrite, if the AOF is so big that it matters.
    fn aof_growth(&self) -> Option<u64> {
        let size = self.aof.size_bytes();
        let percentage = u64::from(self.config.auto_aof_rewrite_percentage);
        if percentage == 0 || size <= self.config.auto_aof_rewrite_min_size {
            return None;
        }
        let base = self.rewrites.base_size_bytes.max(1);
        let growth = size.saturating_mul(100) / base;
        growth.checked_sub(100).filter(|growth| *growth >= percentage)
    }

    /// Starts the rewrite that is due.
    fn begin_due_rewrite(&mut self) {
        if self.rewrites.started_us.is_some() && !self.aof.is_rewriting() {
            // The AOF gave it up between two jobs.
            self.end_rewrite(true);
        }
        if self.is_writing_files() || self.aof.is_rewriting() || !self.may(Deed::Rewrite) {
            return;
        }
        if std::mem::take(&mut self.rewrites.restarts) {
            self.begin_rewrite();
            return;
        }
        if self.aof.wants_rewrite() {
            let now_us = self.clock.now().mono_us;
            if self.rewrites.next_try_us.is_none_or(|at| now_us >= at) {
                self.begin_rewrite();
            }
        } else if self.rewrites.is_scheduled {
            if !self.is_rewrite_limited() {
                self.begin_rewrite();
            }
        } else if self.aof.mode() == Mode::On
            && let Some(growth) = self.aof_growth()
            && !self.is_rewrite_limited()
        {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            self.begin_rewrite();
        }
    }

    /// The gate for writes: refused while the AOF cannot take them.
    pub fn aof_takes_writes(&self) -> Result<(), CommandError> {
        match self.aof.refusal() {
            None => Ok(()),
            Some(reason) => {
                let text = format!("MISCONF Errors writing to the AOF file: {reason}");
                Err(CommandError::Bytes(text.into_bytes().into_boxed_slice()))
            }
        }
    }

    /// The gate for writes: they wait while the disk is two seconds behind.
    pub fn aof_delays_writes(&mut self) -> bool {
        let now = self.moment();
        self.aof.delays_writes(now)
    }
}

impl Engine {
    /// Opens the log for appending, when the dataset is loaded; makes its files if there are none.
    pub fn open_aof(&mut self, end: &AofEnd) -> io::Result<()> {
        let server = &mut self.server;
        server.aof.options = options(&server.config);
        let nothing = Keyspace::new(0, self.keyspace.secret(), Prng::seeded(0));
        let write = server.base_of(&nothing, server.aof.options.base_form);
        let mut empty_base = Vec::new();
        write(&mut empty_base, &mut |_| ControlFlow::Continue(()))?;
        let (unix_us, now) = (server.clock.now().unix_us, server.moment());
        server.aof.open(&end.file, &empty_base, unix_us, now)?;
        server.rewrites.base_size_bytes = end.base_bytes;
        server.follow_readers(&mut self.keyspace);
        Ok(())
    }

    /// A turn ends: its writes go to the AOF.
    pub fn hand_over_to_aof(&mut self) {
        if self.server.aof.is_on() {
            let now = self.server.moment();
            let server = &mut self.server;
            let had_deadline = server.aof.next_sync_us().is_some();
            server.propagation.close();
            while let Some((turn, end)) = server.propagation.read(server.aof.cursor) {
                server.aof.cursor = end;
                server.aof.append(turn, end, now);
            }
            server.propagation.forget_before(server.aof.cursor);
            if !had_deadline && server.aof.next_sync_us().is_some() {
                server.effects.push(Effect::WakeTimer);
            }
            self.advance_aof();
        } else if self.server.rewrites.started_us.is_some() {
            self.advance_aof();
        }
    }

    /// Does what the state of the AOF allows now.
    fn advance_aof(&mut self) {
        let now = self.server.moment();
        let server = &mut self.server;
        server.aof.is_saving = server.is_writing_files();
        server.aof.seal_if_idle(now);
        server.aof.write(now);
        if server.may(Deed::Turn) && server.aof.reaches_snapshot(now) {
            server.propagation.forget_db(Reader::Aof);
            server.rewrites.base = Some(server.base_of(&self.keyspace, server.rewrites.form));
        }
        if server.aof.may_write_base().is_some() && server.rewrites.base.is_some() {
            server.write_base();
        }
        if let Some(request) = self.server.aof.due_sync(now) {
            self.server.effects.push(Effect::Sync(request));
        }
    }

    /// A sync of the AOF ended.
    pub fn finish_sync(&mut self, outcome: SyncOutcome) {
        let now = self.server.moment();
        self.server.aof.finish_sync(outcome, now);
        self.server.replication.copies_have_moved = true;
        self.server.begin_due_rewrite();
        // The next group is larger if it begins with the end of the turn that comes now.
        if !self.server.aof.syncs_always() {
            self.advance_aof();
        }
        self.wake_delayed();
    }

    /// Lets those try again whose writes waited for the disk.
    fn wake_delayed(&mut self) {
        let now = self.server.moment();
        if self.server.is_line_empty(Line::Disk) || self.server.aof.delays_writes(now) {
            return;
        }
        self.server.wake_line(&mut self.clients, Line::Disk);
    }

    /// The next increment was opened, or not.
    pub(super) fn finish_opening_aof(&mut self, result: io::Result<Opened>) {
        match result {
            Ok(opened) => {
                if !self.server.aof.finish_opening(opened) {
                    self.server.end_rewrite(true);
                }
            }
            Err(error) => self.fail_rewrite(&error),
        }
        self.server.begin_due_rewrite();
        self.advance_aof();
    }

    /// The new base is on disk, or not.
    pub(super) fn finish_rewriting_aof(&mut self, result: io::Result<Rewritten>) {
        match result {
            Ok(rewritten) => self.adopt_base(rewritten),
            Err(error) => self.fail_rewrite(&error),
        }
        self.server.begin_due_rewrite();
        self.advance_aof();
    }

    fn adopt_base(&mut self, rewritten: Rewritten) {
        let was_broken = self.server.aof.has_fault();
        if !self.server.aof.finish_rewrite(rewritten) {
            return self.server.end_rewrite(true);
        }
        tracing::info!("Background AOF rewrite terminated with success");
        self.server.end_rewrite(false);
        self.server.rewrites.base_size_bytes = self.server.aof.size_bytes();
        tracing::info!("Background AOF rewrite finished successfully");
        if was_broken {
            tracing::warn!("The append only file is whole again: writes are taken.");
        }
    }

    fn fail_rewrite(&mut self, error: &io::Error) {
        let reason = crate::config::os_reason(error);
        tracing::warn!("Write error writing append only file on disk: {reason}");
        self.server.aof.fail_rewrite();
        self.server.end_rewrite(true);
    }

    /// What the AOF needs without a request: the next try of a write, a sync that is due, a
    /// rewrite.
    pub(super) fn aof_cron(&mut self) {
        let is_rewriting = self.server.rewrites.started_us.is_some();
        let is_on = self.server.aof.is_on() && self.server.loading.is_none();
        let is_wanted = self.server.rewrites.is_scheduled || self.server.rewrites.restarts;
        if is_on || is_rewriting || is_wanted {
            self.server.begin_due_rewrite();
        }
        if is_on || is_rewriting {
            self.advance_aof();
            self.wake_delayed();
        }
    }

    /// The process ends: all that was recorded is written and synced. False if not all of it
    /// could be.
    pub fn close_aof(&mut self) -> bool {
        if !self.server.aof.is_on() {
            return true;
        }
        self.hand_over_to_aof();
        self.core().count_own_writes();
        tracing::info!("Calling fsync() on the AOF file.");
        let now = self.server.moment();
        let origin = self.server.origin();
        let closed = self.server.aof.close(&origin, now);
        if let Err(error) = &closed {
            let reason = crate::config::os_reason(error);
            tracing::warn!("Fail to fsync the AOF file: {reason}.");
            tracing::warn!("Not all that was written is in the AOF file; exiting with an error.");
        }
        closed.is_ok()
    }

    /// When the AOF has something to do, on the monotonic clock.
    pub fn next_sync_us(&self) -> Option<u64> {
        self.server.aof.next_sync_us()
    }
}
