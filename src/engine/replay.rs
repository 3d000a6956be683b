//! Loads the append-only log: reads its files in order and runs their commands, in steps, so that
//! whoever drives it can serve clients in between.
//!
//! Commands run without a gate, without being recorded, and as inside a transaction, so that none
//! waits or leaves its work to another thread. Nothing expires meanwhile: a deletion that mattered
//! is in the log. A transaction is run when its EXEC is read, so one that breaks off has not
//! happened.
//!
//! Where a file cannot be read on, [`damage`] says what to do. What a crash can have left at the
//! end of the last file is cut off here, and kept in a file of its own; anything else ends the
//! start.

use super::{Caller, ClientId, Cx, Engine, Peer, Session, dispatch};
use crate::command::{CommandError, Lookup};
use crate::config::os_reason;
use crate::keyspace::{HashSecret, Keyspace};
use crate::persist::aof::FileEnd as LogEnd;
use crate::persist::aof::damage::{self, Verdict};
use crate::persist::aof::manifest::{
    LoadError, LogFile, Manifest, Role, holds_nothing, numbered_files, remove_unlisted_base,
    write_all,
};
use crate::persist::aof::reader::{CommandReader, Item, ReadError};
use crate::persist::aof::start::{self, GoOn};
use crate::persist::load::Reading;
use crate::resp::{OwnedRequest, Protocol, ReplyBuf};
use crate::structs::prng::Prng;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Commands that one step runs at most.
const STEP_COMMANDS: usize = 1024;

/// What one step came to.
pub enum ReplayStep {
    More,
    /// The next file is a snapshot, or begins with one: it is to be read and its batches loaded,
    /// then [`Engine::finish_snapshot_of`] goes on.
    Snapshot(PathBuf),
    Done(ReplayEnd),
    /// The log cannot be loaded; the reason has been logged.
    Failed,
}

/// Where the log goes on.
#[derive(Clone, Default)]
pub struct ReplayEnd {
    /// Of the last file.
    pub file: LogEnd,
    pub base_bytes: u64,
}

/// The loading of a log.
pub struct Replay {
    files: VecDeque<LogFile>,
    /// The files from the first on, for another try.
    all: Vec<LogFile>,
    open: Option<OpenFile>,
    /// The file that is being read as a snapshot.
    snapshot: Option<LogFile>,
    client: ClientId,
    command: OwnedRequest,
    end: ReplayEnd,
    started_us: u64,
}

/// A file that is being read.
struct OpenFile {
    file: LogFile,
    len: u64,
    reader: CommandReader<Box<dyn Read + Send>>,
    /// The commands of a transaction that has not ended, and where it began.
    transaction: Option<(u64, Vec<OwnedRequest>)>,
    /// Up to here its commands were run.
    run_to: u64,
    /// Where it was cut off.
    cut_at: Option<u64>,
    started_us: u64,
    /// Progress that INFO has been told of.
    told: u64,
}

/// What became of a file.
enum FileEnd {
    More,
    Ended,
    Failed,
    /// What was run must be undone: the file is shorter now.
    Again,
}

/// The log cannot be loaded; the reason has been logged.
#[derive(Debug)]
pub struct Unloadable;

impl Engine {
    /// Finds the log: what its manifest names, or the single file of an older server. None if
    /// there is none yet.
    pub fn find_log(&mut self) -> Result<Option<Replay>, Unloadable> {
        if !self.server.claim_log() {
            return Err(Unloadable);
        }
        if !self.read_manifest()? {
            self.tell_of_lost_manifest();
            tracing::warn!(
                "Put the manifest back, or move the files to another directory to begin without \
                 what they hold."
            );
            return Err(Unloadable);
        }
        let aof = &mut self.server.aof;
        let (disk, place) = (Arc::clone(&aof.disk), aof.place.clone());
        let mut manifest = aof.manifest.clone();
        start::upgrade(&*disk, &place, &mut manifest).map_err(|error| {
            tracing::warn!("Can't take over the old AOF file: {}", os_reason(&error));
            Unloadable
        })?;
        aof.manifest = manifest;
        if aof.manifest.is_empty() {
            self.server.tell_of_ignored_snapshot();
            return Ok(None);
        }
        self.begin_replay().map(Some).ok_or(Unloadable)
    }

    /// Reads the manifest, so that what is written next gets names that are free; false if there
    /// is none, though there are files that it must have listed.
    fn read_manifest(&mut self) -> Result<bool, Unloadable> {
        let aof = &mut self.server.aof;
        let found = Manifest::load(&*aof.disk, &aof.place).map_err(|error| {
            tell_of_manifest(&error);
            Unloadable
        })?;
        let is_there = found.is_some();
        let mut manifest = found.unwrap_or_default();
        let mut has_files = false;
        if manifest.is_empty() {
            let files = numbered_files(&*aof.disk, &aof.place);
            has_files = !files.is_empty();
            manifest.skipped = files.last().map_or(0, |(number, _)| *number);
        }
        aof.manifest = manifest;
        Ok(is_there || !has_files)
    }

    /// Reads the manifest of a log that is not to be loaded.
    pub fn find_manifest(&mut self) -> Result<(), Unloadable> {
        if !self.read_manifest()? {
            self.tell_of_lost_manifest();
        }
        self.server.in_log_directory(remove_unlisted_base);
        Ok(())
    }

    fn tell_of_lost_manifest(&self) {
        let aof = &self.server.aof;
        let files = numbered_files(&*aof.disk, &aof.place);
        let names: Vec<String> = files.into_iter().map(|(_, name)| name).collect();
        tracing::warn!(
            "The AOF manifest {} is missing, but there are AOF files in {}: {}",
            aof.place.manifest_name(),
            aof.place.directory.display(),
            names.join(", ")
        );
    }

    /// Begins to load the files of the log's manifest; none if one of them is missing.
    fn begin_replay(&mut self) -> Option<Replay> {
        let aof = &self.server.aof;
        let all: Vec<LogFile> = aof.manifest.files().cloned().collect();
        let mut total = 0;
        for file in &all {
            match aof.disk.len(&aof.place.path(&file.name)) {
                Ok(len) => total += len,
                Err(error) => {
                    let reason = os_reason(&error);
                    tracing::warn!("The append log file {} doesn't exist: {reason}", file.name);
                    self.tell_which_files_are_there();
                    return None;
                }
            }
        }
        let mono_ms = self.server.clock.mono_ms();
        let client = self.clients.add(|id| Session::new(id, Peer::internal(), mono_ms));
        self.server.loading = Some(super::loading::Loading {
            started: self.server.clock.now(),
            total_bytes: total,
            ..super::loading::Loading::default()
        });
        Some(Replay {
            files: all.iter().cloned().collect(),
            all,
            open: None,
            snapshot: None,
            client,
            command: OwnedRequest::default(),
            end: ReplayEnd::default(),
            started_us: self.server.clock.now().mono_us,
        })
    }

    fn tell_which_files_are_there(&self) {
        let aof = &self.server.aof;
        let mut names = aof.disk.list(&aof.place.directory).unwrap_or_default();
        names.sort();
        tracing::warn!("Files in {}: {}", aof.place.directory.display(), names.join(", "));
    }

    /// Loads on for a while.
    pub fn step_replay(&mut self, replay: &mut Replay) -> ReplayStep {
        if replay.open.is_none() {
            let Some(file) = replay.files.pop_front() else { return self.end_replay(replay) };
            if self.begins_with_snapshot(&file) {
                let is_old = file.name == self.server.aof.place.prefix;
                tracing::info!(
                    "{}",
                    match is_old {
                        true => "Reading RDB preamble from AOF file...",
                        false => "Reading RDB base file on AOF loading...",
                    }
                );
                let path = self.server.aof.place.path(&file.name);
                replay.snapshot = Some(file);
                return ReplayStep::Snapshot(path);
            }
            match self.open_replayed(file, 0) {
                Some(open) => replay.open = Some(open),
                None => return ReplayStep::Failed,
            }
        }
        match self.replay_some(replay) {
            FileEnd::More => ReplayStep::More,
            FileEnd::Failed => ReplayStep::Failed,
            FileEnd::Ended => {
                self.end_file(replay);
                ReplayStep::More
            }
            FileEnd::Again => {
                for index in 0..self.keyspace.db_count() {
                    self.keyspace.take_db(index);
                }
                replay.files = replay.all.iter().cloned().collect();
                replay.open = None;
                ReplayStep::More
            }
        }
    }

    fn begins_with_snapshot(&self, file: &LogFile) -> bool {
        let aof = &self.server.aof;
        let mut magic = Vec::new();
        let source = aof.disk.read(&aof.place.path(&file.name));
        let read = source.and_then(|source| source.take(5).read_to_end(&mut magic));
        read.is_ok() && magic == b"REDIS"
    }

    /// How the snapshot at the front of a log is read: nothing in it has expired yet.
    pub fn reading_of_log(&self) -> Reading {
        let mut reading = self.reading();
        reading.options.drops_expired = false;
        reading
    }

    /// A snapshot of so many bytes was loaded: the commands behind it are next. False if they
    /// cannot be read.
    pub fn finish_snapshot_of(&mut self, replay: &mut Replay, bytes: u64) -> bool {
        let Some(file) = replay.snapshot.take() else { return false };
        replay.open = self.open_replayed(file, bytes);
        replay.open.is_some()
    }

    /// Reads a snapshot and loads it, on this thread: how many bytes it has.
    pub fn load_snapshot_of_log(
        &mut self,
        path: &Path,
    ) -> Result<u64, crate::persist::load::LoadError> {
        let disk = Arc::clone(&self.server.aof.disk);
        let mut bytes = 0;
        let mut batches = Vec::new();
        self.reading_of_log().read_file(&*disk, path, &mut |batch| {
            batches.push(batch);
            ControlFlow::Continue(())
        })?;
        for batch in batches {
            bytes = batch.bytes_read;
            self.load(batch)?;
        }
        Ok(bytes)
    }

    /// Opens a file to read its commands from `offset` on.
    fn open_replayed(&mut self, file: LogFile, offset: u64) -> Option<OpenFile> {
        let aof = &self.server.aof;
        let path = aof.place.path(&file.name);
        let opened = aof.disk.len(&path).and_then(|len| {
            let mut source = aof.disk.read(&path)?;
            io::copy(&mut (&mut source).take(offset), &mut io::sink())?;
            Ok((len, source))
        });
        let (len, source) = opened
            .inspect_err(|error| {
                tracing::warn!(
                    "Fatal error: can't open the append log file {} for reading: {}",
                    file.name,
                    os_reason(error)
                );
            })
            .ok()?;
        let checks = self.server.config.aof_checksum;
        let taken_over = self.server.aof.manifest.taken_over(&file);
        let reader = CommandReader::new(source, len, offset, checks).taken_over(taken_over);
        if let Some(session) = self.clients.iter_mut().find(|s| s.peer.fd == -1) {
            session.db = 0;
        }
        let started_us = self.server.clock.now().mono_us;
        Some(OpenFile {
            file,
            len,
            reader,
            transaction: None,
            run_to: offset,
            cut_at: None,
            started_us,
            told: offset,
        })
    }

    /// Runs some commands of the open file.
    fn replay_some(&mut self, replay: &mut Replay) -> FileEnd {
        let Replay { open, command, client, .. } = replay;
        let Some(open) = open else { return FileEnd::Ended };
        for _ in 0..STEP_COMMANDS {
            match open.reader.next(command) {
                Ok(Item::Command) => {
                    if !self.replay_command(open, *client, command) {
                        return FileEnd::Failed;
                    }
                }
                Ok(Item::Time(_)) => {}
                Ok(Item::End) => match &open.transaction {
                    None => return FileEnd::Ended,
                    Some((start, _)) => {
                        let (start, name) = (*start, &open.file.name);
                        tracing::warn!(
                            "Revert incomplete MULTI/EXEC transaction in AOF file {name}"
                        );
                        return self.judge(replay, ReadError::Truncated { start });
                    }
                },
                Err(error) => return self.judge(replay, error),
            }
        }
        let read = open.reader.offset();
        if let Some(loading) = &mut self.server.loading {
            loading.loaded_bytes += read - open.told;
            open.told = read;
        }
        FileEnd::More
    }

    /// Runs a command, or keeps it until its transaction ends; false if there is no such command.
    fn replay_command(
        &mut self,
        open: &mut OpenFile,
        client: ClientId,
        command: &OwnedRequest,
    ) -> bool {
        let request = command.as_request();
        let verb = request.arg(0);
        if let Some((_, queued)) = &mut open.transaction {
            if !verb.eq_ignore_ascii_case(b"exec") {
                queued.push(OwnedRequest::new(&request));
                return true;
            }
            let (_, queued) = open.transaction.take().expect("it was just seen");
            open.run_to = open.reader.offset();
            return queued.iter().all(|queued| self.replay_one(open, client, queued));
        }
        if verb.eq_ignore_ascii_case(b"multi") {
            open.transaction = Some((open.reader.command_start(), Vec::new()));
            return true;
        }
        open.run_to = open.reader.offset();
        self.replay_one(open, client, command)
    }

    fn replay_one(&mut self, open: &OpenFile, client: ClientId, command: &OwnedRequest) -> bool {
        let request = command.as_request();
        let table = &self.server.table;
        let id = match table.lookup_logged(&request) {
            Lookup::Found(id) if table.row(id).command.arity.accepts(request.len()) => id,
            _ => {
                tracing::warn!(
                    "Unknown command '{}' reading the append only file {}",
                    request.arg(0).escape_ascii(),
                    open.file.name
                );
                return false;
            }
        };
        let mut unread = ReplyBuf::new();
        self.keyspace.expiry_rule = Caller::Aof.expiry_rule();
        dispatch::replay(&mut Cx::new(self, client, Caller::Aof, &mut unread), id, request);
        self.keyspace.expiry_rule = Caller::Client.expiry_rule();
        true
    }

    /// The file was read to its end.
    fn end_file(&mut self, replay: &mut Replay) {
        let Some(mut open) = replay.open.take() else { return };
        if let Some(loading) = &mut self.server.loading {
            loading.loaded_bytes += open.reader.offset().saturating_sub(open.told);
        }
        replay.end.file = LogEnd {
            len: open.cut_at.unwrap_or(open.reader.offset()),
            key: open.reader.key().cloned(),
            sum: open.reader.unvouched_sum().filter(|_| open.cut_at.is_none()),
            is_settled: open.reader.is_settled() && open.cut_at.is_none(),
        };
        let elapsed_us = self.server.clock.now().mono_us - open.started_us;
        let kind = match open.file.role {
            Role::Base => {
                replay.end.base_bytes = open.len;
                "base"
            }
            _ => "incr",
        };
        let seconds = elapsed_us as f64 / 1e6;
        tracing::info!("DB loaded from {kind} file {}: {seconds:.3} seconds", open.file.name);
    }

    fn end_replay(&mut self, replay: &mut Replay) -> ReplayStep {
        let elapsed_us = self.server.clock.now().mono_us - replay.started_us;
        tracing::info!("DB loaded from append only file: {:.3} seconds", elapsed_us as f64 / 1e6);
        self.leave_replay(replay);
        ReplayStep::Done(replay.end.clone())
    }

    /// The dataset is there, or never will be.
    fn leave_replay(&mut self, replay: &Replay) {
        self.clients.remove(replay.client);
        self.end_loading();
    }

    /// Decides what to do about a file that cannot be read on.
    fn judge(&mut self, replay: &mut Replay, error: ReadError) -> FileEnd {
        let Some(open) = &replay.open else { return FileEnd::Failed };
        let name = &open.file.name;
        let transaction = open.transaction.as_ref().map(|(start, _)| *start);
        let reopen = |offset| self.reader_at(open, offset);
        let verdict = match &error {
            ReadError::Io(error) => Err(io::Error::new(error.kind(), os_reason(error))),
            error => damage::judge(error, transaction, open.reader.key_of_marks(), &reopen),
        };
        match verdict {
            Ok(Verdict::Cut(place)) => self.cut(replay, place),
            Ok(Verdict::Refuse { durable }) => {
                tell_of_damage(name, &error, damage::place_of(&error, transaction), durable);
                FileEnd::Failed
            }
            Err(failure) => {
                tracing::warn!(
                    "Unrecoverable error reading the append only file {name}: {error}: {}",
                    os_reason(&failure)
                );
                FileEnd::Failed
            }
        }
    }

    fn reader_at(&self, open: &OpenFile, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let aof = &self.server.aof;
        let mut source = aof.disk.read(&aof.place.path(&open.file.name))?;
        io::copy(&mut (&mut source).take(offset), &mut io::sink())?;
        Ok(source)
    }

    /// Whether the file being read is the last one that holds anything. A base is none that has
    /// increments behind it: it was durable before it was listed.
    fn is_last(&self, replay: &Replay, file: &LogFile) -> bool {
        let aof = &self.server.aof;
        let is_empty = |file: &LogFile| holds_nothing(&*aof.disk, &aof.place.path(&file.name));
        let is_own_base = file.role == Role::Base && file.name != aof.place.prefix;
        replay.files.iter().all(|file| !is_own_base && is_empty(file))
    }

    /// Cuts off the end of the file being read, if it is the last one that holds anything.
    fn cut(&mut self, replay: &mut Replay, start: u64) -> FileEnd {
        let Some(open) = &replay.open else { return FileEnd::Failed };
        let name = open.file.name.clone();
        if !self.server.config.aof_load_truncated {
            tracing::warn!(
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a \
                 backup of your AOF file, then use rufous-server --check-aof --fix <filename.\
                 manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration \
                 option to yes and restart the server."
            );
            return FileEnd::Failed;
        }
        tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
        tracing::warn!("!!! Truncating the AOF {name} at offset {start} !!!");
        if !self.is_last(replay, &open.file) {
            tracing::warn!("Fatal error: the truncated file is not the last file");
            return FileEnd::Failed;
        }
        if let Err(error) = self.cut_file(open, start) {
            tracing::warn!("Error truncating the AOF file {name}: {}", os_reason(&error));
            return FileEnd::Failed;
        }
        tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
        let Some(open) = &mut replay.open else { return FileEnd::Failed };
        if open.run_to > start {
            return FileEnd::Again;
        }
        open.cut_at = Some(start);
        FileEnd::Ended
    }

    /// Keeps what is cut off in a file beside, then cuts it off.
    fn cut_file(&self, open: &OpenFile, start: u64) -> io::Result<()> {
        let aof = &self.server.aof;
        let path = aof.place.path(&open.file.name);
        let mut tail = Vec::new();
        self.reader_at(open, start)?.read_to_end(&mut tail)?;
        if !tail.is_empty() {
            let kept = format!("{}.cut-{}", open.file.name, self.server.clock.unix_ms());
            let copy = aof.disk.create(&aof.place.path(&kept)).and_then(|copy| {
                write_all(&*copy, &tail)?;
                copy.sync()
            });
            match copy {
                Ok(()) => tracing::warn!("The {} bytes cut off are kept in {kept}", tail.len()),
                Err(error) => {
                    let reason = os_reason(&error);
                    tracing::warn!("The bytes cut off could not be kept in {kept}: {reason}");
                }
            }
        }
        let file = aof.disk.open(&path)?;
        file.truncate(start)?;
        file.sync()
    }

    /// Loads the log anew, in place of the dataset, while everybody waits: for tests.
    pub fn reload_log(&mut self, client: ClientId) {
        self.hand_over_log();
        for index in 0..self.keyspace.db_count() {
            self.keyspace.take_db(index);
        }
        self.server.propagation.set_active(false);
        self.keyspace.changes.observers.propagation = false;
        let loaded = self.load_log_here();
        self.server.loading = None;
        self.server.follow_readers(&mut self.keyspace);
        self.finish_job(
            client,
            match loaded {
                Ok(_) => {
                    let mut reply = ReplyBuf::new();
                    reply.writer(Protocol::Resp2).ok();
                    Ok(reply)
                }
                Err(Unloadable) => Err(CommandError::Fixed(
                    "ERR Error trying to load the AOF files, check server logs.",
                )),
            },
        );
    }

    /// Loads the log on this thread, in one go.
    pub fn load_log_here(&mut self) -> Result<ReplayEnd, Unloadable> {
        let Some(mut replay) = self.find_log()? else { return Ok(ReplayEnd::default()) };
        loop {
            match self.step_replay(&mut replay) {
                ReplayStep::More => {}
                ReplayStep::Failed => return Err(Unloadable),
                ReplayStep::Done(end) => return Ok(end),
                ReplayStep::Snapshot(path) => {
                    let bytes = self.load_snapshot_of_log(&path).map_err(|error| {
                        tracing::warn!("{error}");
                        Unloadable
                    })?;
                    if !self.finish_snapshot_of(&mut replay, bytes) {
                        return Err(Unloadable);
                    }
                }
            }
        }
    }

    /// Opens the log for appending, when the dataset is loaded; makes its files if there are none.
    pub fn open_log(&mut self, end: &ReplayEnd) -> io::Result<()> {
        let server = &mut self.server;
        let disk = Arc::clone(&server.aof.disk);
        let place = server.aof.place.clone();
        let options = super::append::options(&server.config);
        let mut manifest = server.aof.manifest.clone();
        let mut empty_base = Vec::new();
        server.aof.options = options;
        let nothing = Keyspace::new(0, HashSecret::new([0; 16]), Prng::seeded(0));
        let write = server.base_of(&nothing, options.base_form);
        write(&mut empty_base, &mut |_| ControlFlow::Continue(()))?;
        let key = server.aof.keys.draw(server.clock.now().unix_us);
        let go_on = GoOn { options: &options, end: &end.file, empty_base: &empty_base, key };
        let opened = start::open(&*disk, &place, &mut manifest, go_on)?;
        if !options.keeps_history {
            crate::persist::aof::rewrite::delete_history(&*disk, &place, &mut manifest);
        }
        let closed = manifest.files().map(|file| disk.len(&place.path(&file.name)).unwrap_or(0));
        server.aof.closed_bytes = closed.sum::<u64>().saturating_sub(opened.end.len);
        server.aof.manifest = manifest;
        server.in_log_directory(remove_unlisted_base);
        server.aof.options = options;
        let now = server.moment();
        server.aof.start(opened.file, opened.end, now);
        let base_bytes = end.base_bytes;
        server.rewrites.base_size_bytes = base_bytes;
        server.follow_readers(&mut self.keyspace);
        Ok(())
    }
}

/// Says why a damaged file is not loaded.
fn tell_of_damage(name: &str, error: &ReadError, place: u64, durable: u64) {
    let was_durable = match durable > place {
        true => format!("; the file was durable up to offset {durable}"),
        false => String::new(),
    };
    let way_out = match error {
        ReadError::Mismatch(_) => {
            " If the file was edited on purpose, start once with --aof-checksum no."
        }
        _ => "",
    };
    tracing::warn!(
        "Bad file format reading the append only file {name}: {error}{was_durable}. Make a backup \
         of the file, then look at it with rufous-server --check-aof {name}; --fix cuts off the \
         damaged place and all that follows it.{way_out}"
    );
}

impl super::Server {
    /// Whoever switches the log on in the configuration file expects to see the old data.
    fn tell_of_ignored_snapshot(&self) {
        let path = self.snapshot_path();
        if self.parts.disk.len(&path).is_ok() {
            tracing::warn!(
                "{} is not loaded: appendonly is on, and there is no AOF yet. To begin one with \
                 it, start with appendonly no, then CONFIG SET appendonly yes.",
                path.display()
            );
        }
    }
}

fn tell_of_manifest(error: &LoadError) {
    match error {
        LoadError::Unreadable(path, error) => tracing::warn!(
            "Fatal error: can't open the AOF manifest file {} for reading: {}",
            path.display(),
            os_reason(error)
        ),
        LoadError::Malformed(error) => {
            tracing::warn!("*** FATAL AOF MANIFEST FILE ERROR ***");
            if let Some((number, line)) = &error.line {
                tracing::warn!("Reading the manifest file, at line {number}");
                tracing::warn!(">>> '{line}'");
            }
            tracing::warn!("{error}");
        }
    }
}
