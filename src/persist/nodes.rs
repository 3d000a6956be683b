//! nodes.conf on the disk: kept for one node, and replaced as a whole.
//!
//! The lock lies on the file itself, where nodes of other makes look for one too, and goes along
//! when the file is replaced: the new one is locked before it gets the name. Redis's lock stays on
//! the file that was there first, so that from the first change on a second server may start on
//! what is there now.
//!
//! What is written is on the disk before it gets the name, also where nobody waits for that: it
//! replaces what others may have heard of, which a loss of power must not leave empty. Without that
//! the name alone may come later.

use super::disk::{Disk, DiskFile, FileLock};
use crate::config::os_reason;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What stands between the name of the file and what tells one that is being written from others.
const TEMPORARY: &str = ".tmp-";

pub struct NodesFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    temporary: PathBuf,
    /// On the file that has the name now.
    _lock: FileLock,
}

/// What the file is to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub text: String,
    /// Somebody waits until a loss of power cannot undo it.
    pub is_synced: bool,
}

impl NodesFile {
    /// Takes the file, which is made if it is not there, for this process; what it holds, if that
    /// is anything. A relative name stays where it is now, whatever directory is worked in later.
    pub fn open(
        disk: Arc<dyn Disk>,
        name: &Path,
        process_id: u32,
    ) -> Result<(NodesFile, Option<Vec<u8>>), Unopened> {
        let unopened = |fault| Unopened { name: name.to_owned(), fault };
        let locking = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock => unopened(Fault::InUse),
            _ => unopened(Fault::Unlocked(error)),
        };
        let path = std::path::absolute(name).map_err(locking)?;
        let lock = disk.lock(&path).map_err(locking)?;
        let text = read(&*disk, &path).map_err(|error| unopened(Fault::Unread(error)))?;
        let temporary = format!("{}{TEMPORARY}{process_id}", path.display());
        let file = NodesFile { disk, path, temporary: temporary.into(), _lock: lock };
        file.remove_leftovers();
        Ok((file, Some(text).filter(|text| !text.is_empty())))
    }

    pub fn write(&mut self, version: &Version) -> Result<(), NotWritten> {
        if let Err(not_written) = self.replace(version.text.as_bytes()) {
            // It is in nobody's way.
            let _ = self.disk.remove(&self.temporary);
            return Err(not_written);
        }
        match version.is_synced {
            true => self.disk.sync_directory(self.directory()).map_err(at(Step::SyncDirectory)),
            false => Ok(()),
        }
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), NotWritten> {
        let lock = self.disk.lock(&self.temporary).map_err(at(Step::Open))?;
        let file = self.disk.create(&self.temporary).map_err(at(Step::Open))?;
        append(&*file, text)?;
        file.sync().map_err(at(Step::Sync))?;
        self.disk.rename(&self.temporary, &self.path).map_err(at(Step::Rename))?;
        self._lock = lock;
        Ok(())
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Who has the lock is the only one to write, so what else is half written is of the dead.
    fn remove_leftovers(&self) {
        let Some(name) = self.path.file_name() else { return };
        let prefix = format!("{}{TEMPORARY}", name.display());
        let Ok(names) = self.disk.list(self.directory()) else { return };
        let is_ours = |name: &&String| {
            name.strip_prefix(&prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            })
        };
        for name in names.iter().filter(is_ours) {
            let _ = self.disk.remove(&self.directory().join(name));
        }
    }
}

/// All of the file; nothing if there is none, on disks whose locks make none.
fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match disk.read(path) {
        Ok(mut file) => file.read_to_end(&mut text).map(|_| text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error),
    }
}

fn append(file: &dyn DiskFile, text: &[u8]) -> Result<(), NotWritten> {
    let mut written = 0;
    while written < text.len() {
        match file.append(&text[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(NotWritten { step: Step::Write(written), error }),
        }
    }
    Ok(())
}

/// The file cannot be had. What it says is Redis's.
#[derive(Debug)]
pub struct Unopened {
    name: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    /// Another server has it.
    InUse,
    Unlocked(io::Error),
    Unread(io::Error),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.display();
        match &self.fault {
            Fault::InUse => write!(
                f,
                "Sorry, the cluster configuration file {name} is already used by a different \
                 Redis Cluster node. Please make sure that different nodes use different cluster \
                 configuration files."
            ),
            Fault::Unlocked(error) => {
                let reason = os_reason(error);
                write!(f, "Can't open {name} in order to acquire a lock: {reason}")
            }
            Fault::Unread(error) => {
                write!(f, "Loading the cluster node config from {name}: {}", os_reason(error))
            }
        }
    }
}

impl std::error::Error for Unopened {}

/// The file has what it had before. What it says is Redis's.
#[derive(Debug)]
pub struct NotWritten {
    step: Step,
    error: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    /// After so many bytes.
    Write(usize),
    Sync,
    Rename,
    SyncDirectory,
}

fn at(step: Step) -> impl FnOnce(io::Error) -> NotWritten {
    move |error| NotWritten { step, error }
}

impl NotWritten {
    /// What the system says.
    pub fn reason(&self) -> String {
        os_reason(&self.error)
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Open => f.write_str("Could not open temp cluster config file"),
            Step::Write(bytes) => {
                write!(f, "Failed after writing ({bytes}) bytes to tmp cluster config file")
            }
            Step::Sync => f.write_str("Could not sync tmp cluster config file"),
            Step::Rename => f.write_str("Could not rename tmp cluster config file"),
            Step::SyncDirectory => f.write_str("Could not sync cluster config file dir"),
        }?;
        write!(f, ": {}", self.reason())
    }
}

impl std::error::Error for NotWritten {}

#[cfg(test)]
mod tests {
    use super::super::disk::{MemoryDisk, SystemDisk};
    use super::*;
    use std::fs;

    fn version(text: &str) -> Version {
        Version { text: text.to_owned(), is_synced: true }
    }

    /// A directory that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("rufous-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("it is writable");
            Directory(path)
        }

        fn open(&self) -> Result<(NodesFile, Option<Vec<u8>>), Unopened> {
            NodesFile::open(Arc::new(SystemDisk), &self.0.join("nodes.conf"), 7)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).expect("it is there");
            names
                .map(|name| name.expect("it is there").file_name().to_string_lossy().into_owned())
                .collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_one_nodes_before_and_after_it_was_replaced() {
        let directory = Directory::new("nodes-lock");
        let (mut file, text) = directory.open().expect("nobody has it");
        assert_eq!(text, None);
        for text in ["one", "two"] {
            let refusal = directory.open().map(drop).expect_err("it is in use").to_string();
            assert!(
                refusal.contains("is already used by a different Redis Cluster node"),
                "{refusal}"
            );
            file.write(&version(text)).expect("it can be written");
        }
        assert!(directory.open().is_err());
        assert_eq!(directory.names(), ["nodes.conf"]);
        drop(file);
        let (_, text) = directory.open().expect("nobody has it any more");
        assert_eq!(text.as_deref(), Some(&b"two"[..]));
    }

    /// Whoever has opened the file just before it was replaced must not take the old one for it.
    #[test]
    fn a_lock_is_on_the_file_that_has_the_name() {
        let directory = Directory::new("nodes-inode");
        let path = directory.0.join("nodes.conf");
        let (mut file, _) = directory.open().expect("nobody has it");
        let old = fs::File::open(&path).expect("it was made");
        file.write(&version("new")).expect("it can be written");
        old.try_lock().expect("that one is nobody's now");
        assert!(directory.open().is_err());
    }

    #[test]
    fn what_was_half_written_is_removed_and_nothing_else() {
        let directory = Directory::new("nodes-left");
        let names =
            ["nodes.conf.tmp-12", "nodes.conf.tmp-12-34", "nodes.conf.tmp-x", "nodes.conf2"];
        for name in names {
            fs::write(directory.0.join(name), "x").expect("it is writable");
        }
        let (_file, _) = directory.open().expect("nobody has it");
        let mut names = directory.names();
        names.sort();
        assert_eq!(names, ["nodes.conf", "nodes.conf.tmp-x", "nodes.conf2"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let directory = Directory::new("nodes-gone");
        let (mut file, _) = directory.open().expect("nobody has it");
        fs::remove_dir_all(&directory.0).expect("it is ours");
        let told = file.write(&version("text")).expect_err("there is no directory").to_string();
        assert_eq!(told, "Could not open temp cluster config file: No such file or directory");
        let told = directory.open().map(drop).expect_err("there is no directory").to_string();
        assert!(told.ends_with("in order to acquire a lock: No such file or directory"), "{told}");
    }

    #[test]
    fn disks_in_memory_know_the_same_locks() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let open = || NodesFile::open(Arc::clone(&disk), Path::new("nodes.conf"), 7);
        let (mut file, _) = open().expect("nobody has it");
        file.write(&version("text")).expect("it can be written");
        assert!(open().is_err());
        drop(file);
        assert_eq!(open().expect("nobody has it").1.as_deref(), Some(&b"text"[..]));
    }
}
