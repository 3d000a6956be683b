//! The check of a snapshot file from the command line, in the words of redis-check-rdb: scripts
//! look for its lines and its exit code.
//!
//! The file is loaded as a server would load it, key by key, and each key is dropped again.

use super::decode::Limits;
use super::error::RdbError;
use super::form;
use super::load::{Doing, LoadOptions, Loader, Record};
use crate::config::Config;
use crate::config::os_reason;
use crate::structs::trie::HashSecret;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

impl Doing {
    fn name(self) -> &'static str {
        match self {
            Doing::Start => "start",
            Doing::ReadType => "read-type",
            Doing::ReadExpire => "read-expire",
            Doing::ReadKey => "read-key",
            Doing::ReadValue => "read-object-value",
            Doing::CheckSum => "check-sum",
            Doing::ReadLen => "read-len",
            Doing::ReadAux => "read-aux",
            Doing::ReadModuleAux => "read-module-aux",
            Doing::ReadFunctions => "read-functions",
        }
    }
}

/// Checks a file and reports to `out`; whether it is fine.
pub fn check_file(path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(out, "[offset 0] Checking RDB file {}", path.display())?;
    let opened = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    match opened {
        Ok((len, file)) => Ok(check(file, Some(len), out)?.is_some()),
        Err(error) => {
            writeln!(out, "Cannot open file {}: {}", path.display(), os_reason(&error))?;
            Ok(false)
        }
    }
}

/// Checks the snapshot at the front of a file; how many bytes it has, if it is fine.
pub fn check_front(file: impl Read + Send, out: &mut dyn Write) -> io::Result<Option<u64>> {
    check(file, None, out)
}

fn check(file: impl Read + Send, len: Option<u64>, out: &mut dyn Write) -> io::Result<Option<u64>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let options = LoadOptions {
        now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        total_bytes: len,
        skips_modules: true,
        ..LoadOptions::new(Limits::of(&Config::default(), HashSecret::new([0; 16])))
    };
    let mut loader = Loader::new(file, options);
    loop {
        match loader.next_record() {
            Ok(Some(record)) => tell(&record, loader.position(), out)?,
            Ok(None) => break,
            Err(error) => {
                report(&error, &loader, out)?;
                return Ok(None);
            }
        }
    }
    let position = loader.position();
    if loader.lacks_checksum() {
        let text = "RDB file was saved with checksum disabled: no check performed.";
        writeln!(out, "[offset {position}] {text}")?;
    } else if loader.version() >= 5 {
        writeln!(out, "[offset {position}] Checksum OK")?;
    }
    writeln!(out, "[offset {position}] \\o/ RDB looks OK! \\o/")?;
    tell_counts(&loader, out)?;
    Ok(Some(position))
}

fn tell(record: &Record, position: u64, out: &mut dyn Write) -> io::Result<()> {
    match record {
        Record::SelectDb(db) => writeln!(out, "[offset {position}] Selecting DB ID {db}"),
        Record::Aux { name, value } => {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            writeln!(out, "[offset {position}] AUX FIELD {name} = '{value}'")
        }
        Record::ModuleAux(name) => writeln!(out, "[offset {position}] MODULE AUX for: {name}"),
        Record::Resize { .. } | Record::Function(_) | Record::Entry { .. } => Ok(()),
    }
}

fn report(error: &RdbError, loader: &Loader<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    match error {
        RdbError::Checksum { .. } => {
            writeln!(out, "[offset {}] RDB CRC error", loader.position())?;
        }
        _ => writeln!(out, "[offset {}] {error}", loader.position())?,
    }
    writeln!(out, "[additional info] While doing: {}", loader.doing().name())?;
    let (key, number) = loader.reading();
    if let Some(key) = key {
        writeln!(out, "[additional info] Reading key '{}'", String::from_utf8_lossy(key))?;
    }
    if let Some(number) = number {
        let name = form::find(number).map_or("unknown", |form| form.name);
        writeln!(out, "[additional info] Reading type {number} ({name})")?;
    }
    tell_counts(loader, out)
}

fn tell_counts(loader: &Loader<'_>, out: &mut dyn Write) -> io::Result<()> {
    let counts = loader.counts();
    writeln!(out, "[info] {} keys read", counts.loaded + counts.empty)?;
    writeln!(out, "[info] {} expires", counts.expiring)?;
    writeln!(out, "[info] {} already expired", counts.expired)
}
