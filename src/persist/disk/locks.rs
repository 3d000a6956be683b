//! Locks of files on disks that have no system under them.

use super::FileLock;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The files that are locked, each by the number of its lock.
#[derive(Clone, Default)]
pub struct Locks(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    last: u64,
    files: BTreeMap<PathBuf, u64>,
}

struct Held {
    locks: Locks,
    number: u64,
}

impl Locks {
    /// Locks a file, or says that it is locked.
    pub fn take(&self, path: &Path) -> io::Result<FileLock> {
        let number = self.with(|taken| {
            taken.last += 1;
            let number = taken.last;
            let is_free = !taken.files.contains_key(path);
            is_free.then(|| taken.files.insert(path.to_owned(), number));
            is_free.then_some(number)
        });
        match number {
            Some(number) => Ok(Box::new(Held { locks: self.clone(), number })),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// A file has another name now, and its lock with it. The one that had that name is found by
    /// none any more.
    pub fn rename(&self, from: &Path, to: &Path) {
        self.with(|taken| match taken.files.remove(from) {
            Some(number) => _ = taken.files.insert(to.to_owned(), number),
            None => _ = taken.files.remove(to),
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Taken) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.with(|taken| taken.files.retain(|_, number| *number != self.number));
    }
}
