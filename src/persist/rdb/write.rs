//! Writing a dataset: the frame of a file around the records of its keys.
//!
//! Keys whose time has come are written too: who loads the file decides, since on a replica only
//! the primary's word ends a key.

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::encode::{self, Form};
use super::opcode;
use super::sink::Sink;
use super::staged;
use super::version::SaveVersion;
use crate::config::Config;
use crate::keyspace::{AccessClock, AccessPolicy, Entry, Snapshot, StagedSnapshot};

#[derive(Clone)]
pub struct SaveOptions {
    pub version: SaveVersion,
    pub compresses: bool,
    pub has_checksum: bool,
    /// The clock by which the access stamps of entries are written, in the terms of its policy;
    /// `None` writes none.
    pub access: Option<AccessClock>,
}

impl SaveOptions {
    /// What a configuration says; the clock is the keyspace's.
    pub fn of(config: &Config, access: &AccessClock) -> SaveOptions {
        let policy = config.maxmemory_policy;
        SaveOptions {
            version: match config.rdb_save_version {
                ..=10 => SaveVersion::V10,
                11 => SaveVersion::V11,
                12.. => SaveVersion::V12,
            },
            compresses: config.rdbcompression,
            has_checksum: config.rdbchecksum,
            access: (policy.is_lru() || policy.is_lfu()).then(|| access.clone()),
        }
    }
}

impl Default for SaveOptions {
    fn default() -> SaveOptions {
        SaveOptions {
            version: SaveVersion::default(),
            compresses: true,
            has_checksum: true,
            access: None,
        }
    }
}

/// What goes into a snapshot file.
#[derive(Clone, Default)]
pub struct Dataset {
    /// Databases with their indexes; empty ones are left out.
    pub dbs: Vec<(usize, Snapshot)>,
    /// Fields that describe the file.
    pub aux: Vec<(Box<str>, Vec<u8>)>,
    /// The sources of function libraries.
    pub functions: Vec<Vec<u8>>,
    /// Slots that are on their way here.
    pub staged: Option<StagedSnapshot>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub keys: u64,
    pub bytes: u64,
    /// Hashes of which the version cannot say when their fields expire.
    pub hashes_without_expiry: u64,
}

#[derive(Debug)]
pub enum SaveError {
    Io(io::Error),
    /// The watcher wanted no more.
    CalledOff,
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveError::Io(error) => error.fmt(f),
            SaveError::CalledOff => f.write_str("the save was called off"),
        }
    }
}

impl std::error::Error for SaveError {}

impl From<io::Error> for SaveError {
    fn from(error: io::Error) -> SaveError {
        SaveError::Io(error)
    }
}

/// Writes a snapshot file. `watch` is told before each key how many were written, and may end it.
pub fn write(
    dataset: &Dataset,
    options: &SaveOptions,
    out: &mut dyn Write,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Written, SaveError> {
    write_stamped(dataset, options, Stamps::Shortest, out, watch)
}

/// The same so that what several calls write of one dataset is of one length, and what one of them
/// has begun another one can end, at whatever byte.
///
/// The access stamps of entries are the only thing that goes on to change in a dataset. So those
/// are as wide as each other, and there is no checksum over them.
pub fn write_repeatably(
    dataset: &Dataset,
    options: &SaveOptions,
    out: &mut dyn Write,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Written, SaveError> {
    let has_checksum = options.has_checksum && options.access.is_none();
    let options = SaveOptions { has_checksum, ..options.clone() };
    write_stamped(dataset, &options, Stamps::OneWidth, out, watch)
}

/// How the access stamps of entries are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamps {
    Shortest,
    OneWidth,
}

fn write_stamped(
    dataset: &Dataset,
    options: &SaveOptions,
    stamps: Stamps,
    out: &mut dyn Write,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Written, SaveError> {
    let fields_expire = dataset.dbs.iter().any(|(_, db)| db.hashes_with_deadlines > 0);
    let version = options.version.for_fields(fields_expire);
    let mut sink = Sink::new(out, options.compresses, options.has_checksum);
    sink.bytes(format!("REDIS{:04}", version.number()).as_bytes());
    for (name, value) in &dataset.aux {
        sink.byte(opcode::AUX);
        sink.string(name.as_bytes());
        sink.string(value);
    }
    for source in &dataset.functions {
        sink.byte(opcode::FUNCTION);
        sink.string(source);
    }
    let mut written = Written::default();
    if let Some(staged) = &dataset.staged {
        let mut watch = || watch(written.keys);
        if staged::write(staged, version, options, &mut sink, &mut watch).is_break() {
            return Err(SaveError::CalledOff);
        }
        sink.check()?;
    }
    for (index, db) in dataset.dbs.iter().filter(|(_, db)| !db.entries.is_empty()) {
        sink.byte(opcode::SELECT_DB);
        sink.len(*index as u64);
        sink.byte(opcode::RESIZE_DB);
        sink.len(db.entries.len() as u64);
        sink.len(db.expiring);
        for entry in db.entries.iter() {
            if watch(written.keys).is_break() {
                return Err(SaveError::CalledOff);
            }
            write_expiry(entry, &mut sink);
            if let Some(access) = &options.access {
                write_stamp(entry, access, stamps, &mut sink);
            }
            written.hashes_without_expiry += u64::from(write_record(entry, version, &mut sink));
            written.keys += 1;
            sink.check()?;
        }
    }
    sink.byte(opcode::END);
    let sum = sink.finish()?;
    sink.bytes(&sum.to_le_bytes());
    sink.finish()?;
    written.bytes = sink.written();
    Ok(written)
}

fn write_expiry(entry: &Entry, sink: &mut Sink<'_>) {
    if let Some(at_ms) = entry.expiry_ms() {
        sink.byte(opcode::EXPIRE_MS);
        sink.bytes(&at_ms.to_le_bytes());
    }
}

fn write_stamp(entry: &Entry, access: &AccessClock, stamps: Stamps, sink: &mut Sink<'_>) {
    match access.policy {
        AccessPolicy::Recency => {
            sink.byte(opcode::IDLE);
            let idle_seconds = access.idle_seconds(entry.clock());
            match stamps {
                Stamps::Shortest => sink.len(idle_seconds),
                Stamps::OneWidth => sink.len_32(idle_seconds as u32),
            }
        }
        AccessPolicy::Frequency => {
            sink.byte(opcode::FREQUENCY);
            sink.byte(access.frequency(entry.clock()));
        }
    }
}

/// Writes a key with its value; whether the expiry of fields was lost.
fn write_record(entry: &Entry, version: SaveVersion, sink: &mut Sink<'_>) -> bool {
    let Form { number, loses_expiry } = encode::form_of(entry, version);
    sink.byte(number);
    sink.string(entry.key());
    encode::write_value(entry, number, sink);
    loses_expiry
}
