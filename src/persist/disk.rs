//! The disk as persistence sees it: few operations, each of which can fail or be cut off.
//!
//! All of `persist` reaches files through [`Disk`], so that the tests can put one in its place that
//! keeps a live and a durable image of every file, fails any call with any error, and loses power
//! between any two. What is appended or renamed is durable only after the sync that covers it: of
//! a file's bytes [`DiskFile::sync`], of names [`Disk::sync_directory`].

mod locks;
mod memory;

pub use locks::Locks;
pub use memory::MemoryDisk;

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// An open file that grows at its end. It may be synced on one thread while another appends.
pub trait DiskFile: Send + Sync {
    /// Appends some of the bytes, at least one; how many.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The same of several pieces, in their order; how many bytes.
    fn append_pieces(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for piece in pieces {
            match self.append(piece) {
                Ok(count) => {
                    written += count;
                    if count < piece.len() {
                        break;
                    }
                }
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
    /// Makes everything durable that was appended before this call.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to a length.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Keeps a file for whoever holds it: until it is dropped, or the process ends.
pub type FileLock = Box<dyn Any + Send + Sync>;

pub trait Disk: Send + Sync {
    /// Makes an empty file, in place of one of this name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file to append to it; makes it if it is not there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// The file's length in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Locks a file, which is made if it is not there, against all other locks, also of this
    /// process. [`io::ErrorKind::WouldBlock`] says that somebody has it. The lock goes along when
    /// the file gets another name.
    fn lock(&self, path: &Path) -> io::Result<FileLock>;
    /// Makes a directory unless it is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes the names of a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk of the system.
pub struct SystemDisk;

/// What files and directories may be used for at most; the umask takes from it, and a wide one
/// does not let everybody write what we will load.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    options
}

/// Whether it is this file that is found by the name.
fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl DiskFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        file.write(bytes)
    }

    fn append_pieces(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut file = self;
        file.write_vectored(pieces)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // Opened for appending, so that what follows a truncation goes to the new end.
        let file = appending().open(path)?;
        file.set_len(0)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(appending().open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|metadata| metadata.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn lock(&self, path: &Path) -> io::Result<FileLock> {
        loop {
            let file = appending().open(path)?;
            match file.try_lock() {
                // Who had it until now may have replaced the file since it was opened here.
                Ok(()) if has_name(&file, path)? => return Ok(Box::new(file)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
