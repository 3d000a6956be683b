//! A disk that forgets: for every file and every name there is a live state and a durable one.
//!
//! What is appended is live; a sync makes it durable. When the power goes, each page that was not
//! synced is the new one or the old one (zeros behind the old end), the length is anything between
//! the two, and each change of a name that no directory sync covers has happened or has not, all by
//! a seed. Any call can be made to fail once, with or without having done half of its work. A sync
//! that fails leaves what it should have written lost, though later ones succeed, as Linux does.

use rufous::persist::disk::{Disk, DiskFile, FileLock, Locks};
use rufous::structs::prng::Prng;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub const PAGE: usize = 4096;

/// What goes wrong with one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// It fails with this error number, having done nothing.
    Fails(i32),
    /// It fails with this error number, having done half of its work if it appends.
    FailsHalfway(i32),
    /// It succeeds, and nothing after it happens.
    PowerCut,
}

#[derive(Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes before this that are not durable will never be: their sync failed.
    lost_before: usize,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made(PathBuf, usize),
    Moved(PathBuf, PathBuf, usize),
    Removed(PathBuf),
}

impl NameChange {
    fn is_in(&self, directory: &Path) -> bool {
        match self {
            NameChange::Made(path, _) | NameChange::Removed(path) => {
                path.parent() == Some(directory)
            }
            NameChange::Moved(from, to, _) => {
                from.parent() == Some(directory) || to.parent() == Some(directory)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Made(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Moved(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            NameChange::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    calls: u64,
    mishap: Option<(u64, Mishap)>,
    is_off: bool,
    /// These are no bytes of the disk: the power takes them all.
    locks: Locks,
    /// From this call on nothing can be appended.
    full_from: Option<u64>,
}

/// What a call is told to do.
enum Turn {
    Go,
    Fail(i32),
    FailHalfway(i32),
}

impl State {
    /// Counts a call and says how it goes.
    fn turn(&mut self) -> Turn {
        if self.is_off {
            return Turn::Fail(libc_error::EIO);
        }
        self.calls += 1;
        match self.mishap {
            Some((call, mishap)) if call == self.calls => match mishap {
                Mishap::Fails(code) => Turn::Fail(code),
                Mishap::FailsHalfway(code) => Turn::FailHalfway(code),
                Mishap::PowerCut => {
                    self.is_off = true;
                    Turn::Go
                }
            },
            _ => Turn::Go,
        }
    }

    fn check(&mut self) -> io::Result<()> {
        match self.turn() {
            Turn::Go => Ok(()),
            Turn::Fail(code) | Turn::FailHalfway(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

/// The numbers of the system that the tests use.
pub mod libc_error {
    pub const EIO: i32 = 5;
    pub const ENOSPC: i32 = 28;
}

#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    number: usize,
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// Has the call of this number, counted from 1, go wrong.
    pub fn arrange(&self, call: u64, mishap: Mishap) {
        self.state().mishap = Some((call, mishap));
    }

    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Has appends fail for want of space, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        let mut state = self.state();
        state.full_from = is_full.then_some(state.calls);
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Puts a file there, durably.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let number = state.files.len();
        let file = File { live: content.to_vec(), durable: content.to_vec(), lost_before: 0 };
        state.files.push(file);
        state.names.insert(path.to_owned(), number);
        state.durable_names.insert(path.to_owned(), number);
    }

    /// What is in a file.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].live.clone()
    }

    /// The disk as it comes back after the power was gone.
    pub fn after_power_cut(&self, prng: &mut Prng) -> SimDisk {
        let state = self.state();
        let mut names = state.durable_names.clone();
        let in_order = prng.below(2) == 0;
        let mut goes_on = true;
        for change in &state.changes {
            let happens = prng.below(2) == 0;
            goes_on &= happens || prng.below(3) > 0;
            if if in_order { goes_on } else { happens } {
                change.apply(&mut names);
            }
        }
        let back = SimDisk::new();
        for (path, number) in names {
            back.put(&path, &survivor(&state.files[number], prng));
        }
        back
    }
}

/// What is left of a file.
fn survivor(file: &File, prng: &mut Prng) -> Vec<u8> {
    let (live, durable) = (&file.live, &file.durable);
    let (short, long) = (live.len().min(durable.len()), live.len().max(durable.len()));
    let len = match prng.below(4) {
        0 => short,
        1 => long,
        _ => short + prng.below((long - short + 1) as u64) as usize,
    };
    let mut bytes = vec![0; len];
    let keeps_all = prng.below(3) == 0;
    for start in (0..len).step_by(PAGE) {
        let end = (start + PAGE).min(len);
        let is_new = (keeps_all || prng.below(2) == 0) && end > file.lost_before;
        let source = if is_new { live } else { durable };
        let there = end.min(source.len()).max(start);
        if there > start {
            bytes[start..there].copy_from_slice(&source[start..there]);
        }
    }
    // What was synced is there in any case, since the page cannot be older than that.
    let same = durable.iter().zip(live).take_while(|(a, b)| a == b).count().min(len);
    bytes[..same].copy_from_slice(&durable[..same]);
    bytes
}

impl DiskFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let turn = state.turn();
        let is_full = state.full_from.is_some();
        let file = &mut state.files[self.number];
        match turn {
            Turn::Go if is_full => Err(io::Error::from_raw_os_error(libc_error::ENOSPC)),
            Turn::Go => {
                file.live.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Turn::FailHalfway(_) if bytes.len() > 1 => {
                file.live.extend_from_slice(&bytes[..bytes.len() / 2]);
                Ok(bytes.len() / 2)
            }
            Turn::Fail(code) | Turn::FailHalfway(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.check();
        let file = &mut state.files[self.number];
        if outcome.is_err() {
            file.lost_before = file.live.len();
            return outcome;
        }
        let mut durable = file.live.clone();
        let lost = file.durable.len().min(durable.len())..file.lost_before.min(durable.len());
        if lost.start < lost.end {
            durable[lost].fill(0);
        }
        file.durable = durable;
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check()?;
        let len = usize::try_from(len).expect("tests are small");
        state.files[self.number].live.resize(len, 0);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.check()?;
        let number = match state.names.get(path) {
            Some(number) => {
                let number = *number;
                state.files[number].live.clear();
                number
            }
            None => {
                let number = state.files.len();
                state.files.push(File::default());
                state.change(NameChange::Made(path.to_owned(), number));
                number
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.check()?;
        let number = state.find(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let mut state = self.state();
        state.check()?;
        let number = state.find(path)?;
        Ok(Box::new(io::Cursor::new(state.files[number].live.clone())))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.check()?;
        let number = state.find(path)?;
        Ok(state.files[number].live.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        let number = state.find(from)?;
        state.change(NameChange::Moved(from.to_owned(), to.to_owned(), number));
        state.locks.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        state.find(path)?;
        state.change(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<FileLock> {
        let mut state = self.state();
        state.check()?;
        state.locks.take(path)
    }

    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        self.state().check()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.check()?;
        let names = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(names
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            state.changes.drain(..).partition(|change| change.is_in(path));
        state.changes = rest;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}
