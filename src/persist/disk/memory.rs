//! A disk in memory, for engines without a machine under them: examples, transcripts, tests.

use super::{Disk, DiskFile, FileLock, Locks};
use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Bytes = Arc<Mutex<Vec<u8>>>;

/// Files by their paths. Directories are there as soon as they are named.
#[derive(Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Bytes>>,
    locks: Locks,
}

struct MemoryFile(Bytes);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    fn file(&self, path: &Path) -> io::Result<Bytes> {
        lock(&self.files).get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// What it holds now, on a disk of its own.
    #[cfg(test)]
    pub fn copy(&self) -> MemoryDisk {
        let of_file = |bytes: &Bytes| Arc::new(Mutex::new(lock(bytes).clone()));
        let files = lock(&self.files);
        let copied = files.iter().map(|(path, bytes)| (path.clone(), of_file(bytes)));
        MemoryDisk { files: Mutex::new(copied.collect()), locks: Locks::default() }
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        lock(&self.0).truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = Bytes::default();
        lock(&self.files).insert(path.to_owned(), Arc::clone(&bytes));
        Ok(Arc::new(MemoryFile(bytes)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = Arc::clone(lock(&self.files).entry(path.to_owned()).or_default());
        Ok(Arc::new(MemoryFile(bytes)))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let bytes = lock(&*self.file(path)?).clone();
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(lock(&*self.file(path)?).len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let bytes = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        self.locks.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = lock(&self.files).remove(path);
        removed.map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn lock(&self, path: &Path) -> io::Result<FileLock> {
        self.locks.take(path)
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let files = lock(&self.files);
        let inside = files.keys().filter(|file| file.parent() == Some(path));
        let names = inside.filter_map(|file| file.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
