//! Reading a snapshot file in batches of finished entries, on whatever thread has the time.
//!
//! Whoever reads only decodes: entries are made, hashed and handed on in batches, and who owns the
//! keyspace puts them in. So decoding and inserting keep two cores busy, and the executor looks at
//! its clients between batches.

use super::disk::Disk;
use super::rdb::{Limits, LoadOptions, Loader, RdbError, Record, Staged, read_staged};
use super::snapshot::KeyDelay;
use crate::config::os_reason;
use crate::keyspace::{Entry, KeyHash};
use crate::repl::ids::{OFFSET_MAX, Origin, ReplicationId};
use crate::structs::number;
use std::fmt;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries of a batch: enough that handing one over costs nothing, few enough that putting them in
/// is a short turn.
const BATCH_LEN: usize = 1024;
/// A batch of long values ends after so many bytes of the file.
const BATCH_BYTES: u64 = 1 << 20;

/// Some of the dataset.
#[derive(Default)]
pub struct Batch {
    pub db: usize,
    /// Entries with the hashes of their keys.
    pub entries: Vec<(KeyHash, Entry)>,
    pub functions: Vec<Vec<u8>>,
    /// How far the file has been read.
    pub bytes_read: u64,
    /// Keys left out so far because their time had come.
    pub keys_expired: u64,
    /// The memory that the file's server used when it wrote it.
    pub used_memory_then: u64,
    /// Which moment of which history it is.
    pub origin: Origin,
    /// Which slots are on their way, as a primary tells its replicas.
    pub slot_states: Option<Vec<u8>>,
    /// What is on its way from another node, in order.
    pub staged: Vec<Staged>,
}

#[derive(Debug)]
pub enum LoadError {
    Open {
        name: String,
        error: io::Error,
    },
    /// What is wrong, and after how many bytes.
    Rdb {
        error: RdbError,
        offset: u64,
    },
    Duplicate {
        key: Box<[u8]>,
        db: usize,
    },
    /// A library of functions that cannot be loaded, and why.
    Library(String),
    /// Whoever takes the batches wants no more.
    CalledOff,
}

const INTERNAL: &str = "Internal error in RDB reading offset";

/// One line or two, as the log is to say it.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Open { name, error } => {
                let reason = os_reason(error);
                write!(f, "Fatal error: can't open the RDB file {name} for reading: {reason}")
            }
            LoadError::Rdb { error: error @ RdbError::Checksum { .. }, offset } => {
                writeln!(f, "{error}. Aborting now.")?;
                write!(f, "{INTERNAL} {offset} -> RDB CRC error")
            }
            LoadError::Rdb { error: error @ RdbError::Truncated, offset } => {
                writeln!(f, "Short read or OOM loading DB. Unrecoverable error, aborting now.")?;
                write!(f, "{INTERNAL} {offset} -> {error}")
            }
            LoadError::Rdb { error: RdbError::Corrupt(what), offset } => {
                write!(f, "{INTERNAL} {offset} -> {what}")
            }
            LoadError::Rdb { error, .. } => error.fmt(f),
            LoadError::Duplicate { key, db } => {
                write!(f, "RDB has duplicated key '{}' in DB {db}", key.escape_ascii())
            }
            LoadError::Library(reason) => write!(f, "Failed loading library, {reason}"),
            LoadError::CalledOff => f.write_str("Loading was called off"),
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// Tells the log.
    pub fn tell(&self) {
        for line in self.to_string().lines() {
            tracing::warn!("{line}");
        }
    }
}

/// A snapshot file that is to be read, on any thread.
pub struct SnapshotSource {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    pub reading: Reading,
}

impl SnapshotSource {
    /// The file's length; none if there is no file.
    pub fn file_len(&self) -> Option<u64> {
        self.disk.len(&self.path).ok()
    }

    /// Reads it to its end, or until `take` wants no more of it.
    pub fn read(self, take: &mut dyn FnMut(Batch) -> ControlFlow<()>) -> Result<(), LoadError> {
        self.reading.read_file(&*self.disk, &self.path, take)
    }

    /// It cannot be read for a reason that is not its own.
    pub fn failure(path: &Path, error: io::Error) -> LoadError {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        LoadError::Open { name, error }
    }
}

/// How a file is read.
pub struct Reading {
    pub options: LoadOptions,
    pub delay: KeyDelay,
}

impl Reading {
    /// Reads a file to its end, or until `take` wants no more of it.
    pub fn read_file(
        mut self,
        disk: &dyn Disk,
        path: &Path,
        take: &mut dyn FnMut(Batch) -> ControlFlow<()>,
    ) -> Result<(), LoadError> {
        let file = disk.read(path).map_err(|error| SnapshotSource::failure(path, error))?;
        self.options.total_bytes = disk.len(path).ok();
        self.read(file, take)
    }

    /// The same with a stream.
    pub fn read(
        self,
        stream: impl Read + Send,
        take: &mut dyn FnMut(Batch) -> ControlFlow<()>,
    ) -> Result<(), LoadError> {
        let now_unix_seconds = self.options.now_ms / 1000;
        let limits = self.options.limits;
        let mut loader = Loader::new(stream, self.options);
        let mut batch = Batch::default();
        let mut keys = 0;
        loop {
            let record = loader.next_record();
            let record =
                record.map_err(|error| LoadError::Rdb { error, offset: loader.position() })?;
            match record {
                None => break,
                Some(Record::Aux { name, value }) => {
                    note(&name, &value, now_unix_seconds, &limits, &mut batch);
                    if batch.origin.offset.is_some() {
                        // Replicas that continue from here have them, and are to be told.
                        loader.keep_expired();
                    }
                }
                Some(Record::SelectDb(db)) => {
                    hand_over(&mut batch, &loader, take)?;
                    batch.db = db;
                }
                Some(Record::Resize { .. } | Record::ModuleAux(_)) => {}
                Some(Record::Function(source)) => batch.functions.push(source),
                Some(Record::Entry { entry, hash }) => {
                    batch.entries.push((hash, entry));
                    keys += 1;
                    self.delay.wait(keys, || false);
                }
            }
            let bytes = loader.position() - batch.bytes_read;
            let len = batch.entries.len() + batch.staged.len();
            if len >= BATCH_LEN || bytes >= BATCH_BYTES {
                hand_over(&mut batch, &loader, take)?;
            }
        }
        hand_over(&mut batch, &loader, take)?;
        tell(&loader);
        Ok(())
    }
}

/// Tells the log what the file says of itself.
fn note(name: &[u8], value: &[u8], now_unix_seconds: u64, limits: &Limits, batch: &mut Batch) {
    if let Some(staged) = read_staged(name, value, limits) {
        return batch.staged.push(staged);
    }
    let text = String::from_utf8_lossy(value);
    let number = text.parse::<u64>().unwrap_or(0);
    match name {
        b"redis-ver" => tracing::info!("Loading RDB produced by Redis version {text}"),
        b"valkey-ver" => tracing::info!("Loading RDB produced by valkey version {text}"),
        b"ctime" => {
            let age = now_unix_seconds.saturating_sub(number);
            tracing::info!("RDB age {age} seconds");
        }
        b"used-mem" => {
            batch.used_memory_then = number;
            let megabytes = number as f64 / f64::from(1 << 20);
            tracing::info!("RDB memory usage when created {megabytes:.2} Mb");
        }
        b"aof-preamble" if number > 0 => tracing::info!("RDB has an AOF tail"),
        b"aof-base" if number > 0 => tracing::info!("RDB is base AOF"),
        b"repl-id" => batch.origin.id = ReplicationId::parse(value),
        b"repl-offset" => {
            let offset = number::parse_i64(value);
            batch.origin.offset = offset.filter(|offset| (0..=OFFSET_MAX).contains(offset));
        }
        b"cluster-slot-states" => batch.slot_states = Some(value.to_vec()),
        b"repl-stream-db" => batch.origin.stream_db = text.parse().ok(),
        b"aof-preamble" | b"aof-base" | b"redis-bits" | b"lua" => {}
        _ => {
            let name = String::from_utf8_lossy(name);
            if name.starts_with('%') {
                tracing::info!("RDB '{name}': {text}");
            } else {
                tracing::debug!("Unrecognized RDB AUX field: '{name}'");
            }
        }
    }
}

/// Tells the log what became of the keys.
fn tell(loader: &Loader<'_>) {
    let counts = loader.counts();
    let (loaded, expired, empty) = (counts.loaded, counts.expired, counts.empty);
    if loader.lacks_checksum() {
        tracing::info!("RDB file was saved with checksum disabled: no check performed.");
    }
    if empty == 0 {
        tracing::info!("Done loading RDB, keys loaded: {loaded}, keys expired: {expired}.");
    } else {
        tracing::info!(
            "Done loading RDB, keys loaded: {loaded}, keys expired: {expired}, empty keys \
             skipped: {empty}."
        );
    }
}

/// Hands a batch on and begins the next one.
fn hand_over(
    batch: &mut Batch,
    loader: &Loader<'_>,
    take: &mut dyn FnMut(Batch) -> ControlFlow<()>,
) -> Result<(), LoadError> {
    batch.bytes_read = loader.position();
    batch.keys_expired = loader.counts().expired;
    let next = Batch {
        db: batch.db,
        bytes_read: batch.bytes_read,
        used_memory_then: batch.used_memory_then,
        origin: batch.origin,
        ..Batch::default()
    };
    match take(std::mem::replace(batch, next)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(LoadError::CalledOff),
    }
}
