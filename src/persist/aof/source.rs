//! Reads an AOF for whoever loads it: its files in their order, and the commands of each.
//!
//! A source is asked for one part after the other and does a bounded piece of work for each. It
//! knows nobody who runs commands. Those of a transaction are told of together, when its EXEC was
//! read, so one that breaks off has not happened.
//!
//! Where a file cannot be read on, [`mend`] decides. What a crash can have left at the end of the
//! last file is cut off; if it has been told of in part, the source begins anew.

use super::manifest::{AofFile, Manifest, Place, Role};
use super::mend::Damage;
use super::reader::{CommandReader, Item, ReadError};
use super::{Aof, FileEnd};
use crate::config::os_reason;
use crate::persist::disk::Disk;
use crate::repl::ids::Origin;
use crate::resp::OwnedRequest;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// The AOF cannot be loaded; the reason has been logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unloadable;

/// What the directives say of reading.
#[derive(Clone, Copy)]
pub struct ReadOptions {
    /// Marks that are wrong are errors.
    pub checks: bool,
    /// What a crash has left at the end may be cut off.
    pub cuts: bool,
}

/// What comes next in an AOF. It is handed out for each command, so what is large and rare is
/// boxed.
pub enum Part {
    /// Nothing is to be done yet.
    More,
    /// The next file is a snapshot, or begins with one: whoever asks reads it and says so by
    /// [`AofSource::pass_snapshot`].
    Snapshot(PathBuf),
    /// The commands of a file follow, which begin in the first database.
    Begun,
    /// A command is to be run, or all those of a transaction: [`AofSource::commands`].
    Commands,
    /// A file was read to its end.
    Ended(Box<AofFile>),
    /// What was told so far is to be forgotten and comes again, but for the end of it.
    Anew,
    /// All files were read.
    Done(Box<AofEnd>),
    /// It cannot be read on; the reason has been logged.
    Failed,
}

/// Where the AOF goes on.
#[derive(Clone, Default)]
pub struct AofEnd {
    /// Of the last file.
    pub file: FileEnd,
    pub base_bytes: u64,
    /// Which moment of which history the dataset is, if nothing follows what says so.
    pub origin: Origin,
}

pub struct AofSource {
    disk: Arc<dyn Disk>,
    place: Place,
    manifest: Manifest,
    options: ReadOptions,
    files: Vec<AofFile>,
    /// How many of them were begun.
    begun: usize,
    total_bytes: u64,
    /// Of the files that were read to their end.
    closed_bytes: u64,
    /// How much of the file that was begun last is a snapshot, which is not read here.
    snapshot_bytes: Option<u64>,
    open: Option<OpenFile>,
    /// What is to be run, or the commands of a transaction that has not ended.
    commands: Vec<OwnedRequest>,
    /// How many of them there are; the others are room for those that come.
    count: usize,
    end: AofEnd,
}

/// A file whose commands are being read.
struct OpenFile {
    len: u64,
    reader: CommandReader<Box<dyn Read + Send>>,
    /// Where the transaction began that has not ended.
    transaction: Option<u64>,
    /// Up to here its commands were told of.
    told: u64,
    /// Where it was cut off.
    cut_at: Option<u64>,
}

impl AofSource {
    /// The files of an AOF's manifest, all of which must be there.
    pub(super) fn open(aof: &Aof, options: ReadOptions) -> Result<AofSource, Unloadable> {
        let mut source = AofSource {
            disk: Arc::clone(&aof.disk),
            place: aof.place.clone(),
            files: aof.manifest.files().cloned().collect(),
            manifest: aof.manifest.clone(),
            options,
            begun: 0,
            total_bytes: 0,
            closed_bytes: 0,
            snapshot_bytes: None,
            open: None,
            commands: vec![OwnedRequest::default()],
            count: 0,
            end: AofEnd::default(),
        };
        source.total_bytes = source.measure()?;
        Ok(source)
    }

    fn measure(&self) -> Result<u64, Unloadable> {
        let mut total = 0;
        for file in &self.files {
            total += self.disk.len(&self.place.path(&file.name)).map_err(|error| {
                let reason = os_reason(&error);
                tracing::warn!("The append log file {} doesn't exist: {reason}", file.name);
                self.tell_which_files_are_there();
                Unloadable
            })?;
        }
        Ok(total)
    }

    fn tell_which_files_are_there(&self) {
        let mut names = self.disk.list(&self.place.directory).unwrap_or_default();
        names.sort();
        tracing::warn!("Files in {}: {}", self.place.directory.display(), names.join(", "));
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How much was read, snapshots that are not passed yet left out.
    pub fn bytes_read(&self) -> u64 {
        self.closed_bytes + self.open.as_ref().map_or(0, |open| open.reader.offset())
    }

    /// The name of the file that was begun last.
    pub fn file_name(&self) -> &str {
        self.current().map_or("", |file| &file.name)
    }

    fn current(&self) -> Option<&AofFile> {
        self.files.get(self.begun.checked_sub(1)?)
    }

    /// What is to be run now.
    pub fn commands(&self) -> &[OwnedRequest] {
        &self.commands[..self.count]
    }

    /// The snapshot was read and has so many bytes: the commands behind it are next.
    pub fn pass_snapshot(&mut self, bytes: u64) {
        self.snapshot_bytes = Some(bytes);
    }

    /// Reads on; the wall clock's time goes into the name of a file that keeps what is cut off.
    pub fn next(&mut self, unix_ms: u64) -> Part {
        if self.open.is_some() {
            self.read_on(unix_ms)
        } else if let Some(bytes) = self.snapshot_bytes.take() {
            self.begin_commands(bytes)
        } else {
            self.turn_over()
        }
    }

    /// Goes on with the next file.
    fn turn_over(&mut self) -> Part {
        let Some(file) = self.files.get(self.begun) else {
            return Part::Done(Box::new(self.end.clone()));
        };
        let path = self.place.path(&file.name);
        let is_old = file.name == self.place.prefix;
        self.begun += 1;
        if !self.begins_with_snapshot() {
            return self.begin_commands(0);
        }
        tracing::info!(
            "{}",
            match is_old {
                true => "Reading RDB preamble from AOF file...",
                false => "Reading RDB base file on AOF loading...",
            }
        );
        Part::Snapshot(path)
    }

    fn begins_with_snapshot(&self) -> bool {
        let mut magic = Vec::new();
        let source = self.disk.read(&self.place.path(self.file_name()));
        let read = source.and_then(|source| source.take(5).read_to_end(&mut magic));
        read.is_ok() && magic == b"REDIS"
    }

    /// Opens the current file to read its commands from an offset on.
    fn begin_commands(&mut self, offset: u64) -> Part {
        let Some(file) = self.current() else { return Part::Failed };
        let path = self.place.path(&file.name);
        let opened = self.disk.len(&path).and_then(|len| {
            let mut source = self.disk.read(&path)?;
            io::copy(&mut (&mut source).take(offset), &mut io::sink())?;
            Ok((len, source))
        });
        let (len, source) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(
                    "Fatal error: can't open the append log file {} for reading: {}",
                    file.name,
                    os_reason(&error)
                );
                return Part::Failed;
            }
        };
        let taken_over = self.manifest.taken_over(file);
        let reader = CommandReader::new(source, len, offset, self.options.checks);
        let reader = reader.taken_over(taken_over);
        self.open = Some(OpenFile { len, reader, transaction: None, told: offset, cut_at: None });
        Part::Begun
    }

    /// Reads one command of the open file, or what stands between two.
    fn read_on(&mut self, unix_ms: u64) -> Part {
        let Some(open) = &mut self.open else { return Part::Failed };
        if open.transaction.is_none() {
            self.commands.truncate(1);
            self.count = 0;
        }
        if self.commands.len() == self.count {
            self.commands.push(OwnedRequest::default());
        }
        let item = open.reader.next(&mut self.commands[self.count]);
        match (item, open.transaction) {
            (Ok(Item::Command), _) => self.take_command(),
            (Ok(Item::Time(_)), _) => Part::More,
            (Ok(Item::Origin(origin)), _) => {
                self.end.origin = origin;
                Part::More
            }
            (Ok(Item::End), None) => self.close(),
            (Ok(Item::End), Some(start)) => {
                let name = self.file_name();
                tracing::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {name}");
                self.mend(&ReadError::Truncated { start }, unix_ms)
            }
            (Err(error), _) => self.mend(&error, unix_ms),
        }
    }

    /// Tells of the command that was read, or keeps it until its transaction ends.
    fn take_command(&mut self) -> Part {
        let Some(open) = &mut self.open else { return Part::Failed };
        self.end.origin = Origin::default();
        let request = self.commands[self.count].as_request();
        let is = |name: &[u8]| request.arg(0).eq_ignore_ascii_case(name);
        if open.transaction.is_some() && !is(b"exec") {
            self.count += 1;
            return Part::More;
        }
        if open.transaction.is_none() && is(b"multi") {
            open.transaction = Some(open.reader.command_start());
            return Part::More;
        }
        if open.transaction.take().is_none() {
            self.count = 1;
        }
        open.told = open.reader.offset();
        Part::Commands
    }

    /// The open file was read to its end.
    fn close(&mut self) -> Part {
        let (Some(mut open), Some(file)) = (self.open.take(), self.current().cloned()) else {
            return Part::Failed;
        };
        self.count = 0;
        self.closed_bytes += open.reader.offset();
        self.end.file = FileEnd {
            len: open.cut_at.unwrap_or(open.reader.offset()),
            key: open.reader.key().cloned(),
            sum: open.reader.unvouched_sum().filter(|_| open.cut_at.is_none()),
            is_sealed: open.reader.is_sealed() && open.cut_at.is_none(),
        };
        if file.role == Role::Base {
            self.end.base_bytes = open.len;
        }
        Part::Ended(Box::new(file))
    }

    /// The open file cannot be read on: it ends before the damage, or the AOF cannot be loaded.
    fn mend(&mut self, error: &ReadError, unix_ms: u64) -> Part {
        let (Some(open), Some(file)) = (&self.open, self.current()) else { return Part::Failed };
        let damage = Damage {
            disk: &*self.disk,
            place: &self.place,
            file,
            later: &self.files[self.begun..],
            error,
            transaction: open.transaction,
            key: open.reader.key_of_marks(),
        };
        let Some(end) = damage.mend(self.options.cuts, unix_ms) else { return Part::Failed };
        if open.told > end {
            self.begin_anew();
            return Part::Anew;
        }
        if let Some(open) = &mut self.open {
            open.cut_at = Some(end);
        }
        self.close()
    }

    fn begin_anew(&mut self) {
        self.begun = 0;
        self.closed_bytes = 0;
        self.open = None;
        self.count = 0;
        self.end = AofEnd::default();
    }
}
