//! Locks of files on disks that have no system under them.

use super::FileLock;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The files that are locked.
#[derive(Clone, Default)]
pub struct Locks(Arc<Mutex<BTreeSet<PathBuf>>>);

struct Held {
    locks: Locks,
    path: PathBuf,
}

impl Locks {
    /// Locks a file, or says that it is locked.
    pub fn take(&self, path: &Path) -> io::Result<FileLock> {
        let is_free = self.with(|paths| paths.insert(path.to_owned()));
        match is_free {
            true => Ok(Box::new(Held { locks: self.clone(), path: path.to_owned() })),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.with(|paths| paths.remove(&self.path));
    }
}
