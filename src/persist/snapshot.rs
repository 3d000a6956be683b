//! A snapshot file: written beside the old one under another name, synced, then put in its place.
//!
//! Whatever fails on the way, the file that was there stays as it was and the other one is removed.
//! The name is durable when the directory has been synced, and only then is the snapshot a success.
//! The work runs on a thread of its own over a dataset that nobody changes any more.

use super::disk::{Disk, DiskFile};
use super::rdb::{self, Dataset, SaveError, SaveOptions, Written};
use crate::config::os_reason;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// With incremental syncing, the file is synced each time that it has grown by so much: a single
/// sync at the end would keep the disk from everybody else for as long as it takes.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// How far a save has come, and the wish that it should stop; both threads hold it.
#[derive(Default)]
pub struct Progress {
    keys: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    pub fn set_keys(&self, keys: u64) {
        self.keys.store(keys, Ordering::Relaxed);
    }

    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// Why there is no new snapshot file.
#[derive(Debug)]
pub enum SnapshotError {
    Cancelled,
    /// A step failed; the text names it, as the log is to say it.
    Failed(String),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Cancelled => f.write_str("the save was cancelled"),
            SnapshotError::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// One snapshot to be written.
pub struct SnapshotFile {
    pub disk: Arc<dyn Disk>,
    pub directory: PathBuf,
    pub name: String,
    /// The name under which it is written.
    pub temporary_name: String,
    pub dataset: Dataset,
    pub options: SaveOptions,
    pub progress: Arc<Progress>,
    pub syncs_incrementally: bool,
    pub delay: KeyDelay,
}

impl SnapshotFile {
    pub fn write(self) -> Result<(), SnapshotError> {
        let temporary = self.directory.join(&self.temporary_name);
        let written = self.write_to(&temporary);
        if written.is_err() {
            // If it cannot be removed either, the next save overwrites it.
            let _ = self.disk.remove(&temporary);
        }
        written
    }

    fn write_to(&self, temporary: &Path) -> Result<(), SnapshotError> {
        let root = self.directory.display();
        let file = self.disk.create(temporary).map_err(|error| {
            SnapshotError::Failed(format!(
                "Failed opening the temp RDB file {} (in server root dir {root}) for saving: {}",
                self.temporary_name,
                os_reason(&error)
            ))
        })?;
        self.fill(&*file)?;
        let target = self.directory.join(&self.name);
        self.disk.rename(temporary, &target).map_err(|error| {
            SnapshotError::Failed(format!(
                "Error moving temp DB file {} on the final destination {} (in server root dir \
                 {root}): {}",
                self.temporary_name,
                self.name,
                os_reason(&error)
            ))
        })?;
        self.disk.sync_directory(&self.directory).map_err(|error| {
            let reason = os_reason(&error);
            SnapshotError::Failed(format!("Failed to fsync directory while saving DB: {reason}"))
        })
    }

    fn fill(&self, file: &dyn DiskFile) -> Result<(), SnapshotError> {
        let mut out = Growing { file, syncs: self.syncs_incrementally, unsynced: 0 };
        let mut watch = |keys| {
            self.progress.set_keys(keys);
            self.delay.wait(keys, || self.progress.is_cancelled());
            match self.progress.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let step = |name| move |error| SnapshotError::Failed(write_error(name, &error));
        match rdb::write(&self.dataset, &self.options, &mut out, &mut watch) {
            Ok(written) => tell_losses(&written),
            Err(SaveError::CalledOff) => return Err(SnapshotError::Cancelled),
            Err(SaveError::Io(error)) => return Err(step("rdbSaveRio")(error)),
        }
        file.sync().map_err(step("fsync"))
    }
}

/// The name under which a process writes its snapshot.
pub fn temporary_name(process_id: u32) -> String {
    format!("temp-{process_id}.rdb")
}

/// What stands before that name while DEBUG RELOAD writes, beside a save that may be under way.
pub const RELOAD_PREFIX: &str = "reload-";

/// Removes the unfinished snapshots of processes that are gone, among them one that had our number
/// before us. Another file is never touched, whatever it is called.
pub fn remove_leftovers(
    disk: &dyn Disk,
    directory: &Path,
    own_process_id: u32,
    is_running: &dyn Fn(u32) -> bool,
) {
    for name in disk.list(directory).unwrap_or_default() {
        let digits = name.strip_prefix(RELOAD_PREFIX).unwrap_or(&name).strip_prefix("temp-");
        let digits = digits.and_then(|rest| rest.strip_suffix(".rdb"));
        let Some(writer) = digits.and_then(|digits| digits.parse::<u32>().ok()) else { continue };
        let is_ours = name.strip_prefix(RELOAD_PREFIX).unwrap_or(&name) == temporary_name(writer);
        if is_ours && (writer == own_process_id || !is_running(writer)) {
            match disk.remove(&directory.join(&name)) {
                Ok(()) => tracing::info!("Removed {name}, which an interrupted save left behind"),
                Err(error) => {
                    tracing::warn!("Can't remove the old file {name}: {}", os_reason(&error));
                }
            }
        }
    }
}

/// What the file's version cannot hold is missed by whoever loads it.
pub fn tell_losses(written: &Written) {
    let hashes = written.hashes_without_expiry;
    if hashes > 0 {
        tracing::warn!("The fields of {hashes} hashes were saved without their expiry");
    }
}

fn write_error(step: &str, error: &io::Error) -> String {
    format!("Write error while saving DB to the disk({step}): {}", os_reason(error))
}

/// A file that is written to its end, and synced now and then.
struct Growing<'a> {
    file: &'a dyn DiskFile,
    syncs: bool,
    unsynced: u64,
}

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.append(bytes)?;
        // Whoever waits for this processor need not wait for the end of a time slice.
        thread::yield_now();
        self.unsynced += written as u64;
        if self.syncs && self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pause that tests ask for, so that a save or a load lasts: so many microseconds for each key,
/// or, if negative, one microsecond for each so many keys. It may change while one waits.
#[derive(Clone, Default)]
pub struct KeyDelay(Arc<AtomicI32>);

/// Whoever calls a save off, or wants no delay any more, waits no longer than this.
const DELAY_SLICE_MAX: Duration = Duration::from_millis(10);

impl KeyDelay {
    /// From now on it is this, as the directive says it.
    pub fn set(&self, us: i32) {
        self.0.store(us, Ordering::Relaxed);
    }

    /// How long to wait after so many keys.
    pub fn after(&self, keys: u64) -> Duration {
        Duration::from_micros(match self.0.load(Ordering::Relaxed) {
            0 => 0,
            us if us > 0 => u64::from(us.unsigned_abs()),
            every if keys.is_multiple_of(u64::from(every.unsigned_abs())) => 1,
            _ => 0,
        })
    }

    /// Waits, if it is time to, after so many keys, unless it is called off meanwhile.
    pub fn wait(&self, keys: u64, is_called_off: impl Fn() -> bool) {
        let mut waited = Duration::ZERO;
        loop {
            let left = self.after(keys).saturating_sub(waited);
            if left.is_zero() || is_called_off() {
                return;
            }
            let slice = left.min(DELAY_SLICE_MAX);
            thread::sleep(slice);
            waited += slice;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::disk::MemoryDisk;

    #[test]
    fn only_snapshots_of_processes_that_are_gone_are_removed() {
        let disk = MemoryDisk::default();
        let directory = Path::new("d");
        let names = [
            "temp-7.rdb",
            "temp-8.rdb",
            "temp-9.rdb",
            "temp-07.rdb",
            "temp-.rdb",
            "temp-mine.rdb",
            "temp-8.rdb.bak",
            "reload-temp-7.rdb",
            "reload-temp-8.rdb",
            "reload-temp-08.rdb",
            "reload-dump.rdb",
            "dump.rdb",
        ];
        for name in names {
            disk.create(&directory.join(name)).expect("it is memory");
        }
        remove_leftovers(&disk, directory, 9, &|process| process == 7);
        let mut left = disk.list(directory).expect("it is memory");
        left.sort();
        let mut expected: Vec<&str> = names.to_vec();
        expected.retain(|name| !["temp-8.rdb", "temp-9.rdb", "reload-temp-8.rdb"].contains(name));
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
