//! What is done about a file of the AOF that cannot be read on.
//!
//! [`damage`] judges by what the file itself tells. What a crash can have left at the end of the
//! last file is cut off, and kept in a file of its own; anything else is left as it is, and the
//! server does not start.

use super::damage::{self, Verdict};
use super::manifest::{AofFile, Place, Role, holds_nothing, write_all};
use super::mark::Key;
use super::reader::ReadError;
use crate::config::os_reason;
use crate::persist::disk::Disk;
use std::io::{self, Read};

/// A place at which a file cannot be read on.
pub(super) struct Damage<'a> {
    pub disk: &'a dyn Disk,
    pub place: &'a Place,
    pub file: &'a AofFile,
    /// The files of the AOF that follow it.
    pub later: &'a [AofFile],
    pub error: &'a ReadError,
    /// Where the transaction began that it is in.
    pub transaction: Option<u64>,
    /// That of the marks in the file.
    pub key: Option<&'a Key>,
}

impl Damage<'_> {
    /// Cuts the damage off, if that `cuts` nothing that was durable: where the file ends now. None
    /// if it may not be or cannot be, which has been logged.
    pub fn mend(&self, cuts: bool, unix_ms: u64) -> Option<u64> {
        let (name, error) = (&self.file.name, self.error);
        let verdict = match error {
            ReadError::Io(error) => Err(io::Error::new(error.kind(), os_reason(error))),
            _ => damage::judge(error, self.transaction, self.key, &|offset| self.read_from(offset)),
        };
        match verdict {
            Ok(Verdict::Cut(at)) => self.cut(at, cuts, unix_ms).then_some(at),
            Ok(Verdict::Refuse { durable }) => {
                self.tell(durable);
                None
            }
            Err(failure) => {
                tracing::warn!(
                    "Unrecoverable error reading the append only file {name}: {error}: {}",
                    os_reason(&failure)
                );
                None
            }
        }
    }

    fn read_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut source = self.disk.read(&self.place.path(&self.file.name))?;
        io::copy(&mut (&mut source).take(offset), &mut io::sink())?;
        Ok(source)
    }

    /// Whether the file is the last one that holds anything. A base is none that has increments
    /// behind it: it was durable before it was listed.
    fn is_in_last_file(&self) -> bool {
        let is_empty = |file: &AofFile| holds_nothing(self.disk, &self.place.path(&file.name));
        let is_own_base = self.file.role == Role::Base && self.file.name != self.place.prefix;
        self.later.iter().all(|file| !is_own_base && is_empty(file))
    }

    /// Cuts off the end of the file, if it is the last one that holds anything.
    fn cut(&self, at: u64, cuts: bool, unix_ms: u64) -> bool {
        let name = &self.file.name;
        if !cuts {
            tracing::warn!(
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a \
                 backup of your AOF file, then use rufous-server --check-aof --fix <filename.\
                 manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration \
                 option to yes and restart the server."
            );
            return false;
        }
        tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
        tracing::warn!("!!! Truncating the AOF {name} at offset {at} !!!");
        if !self.is_in_last_file() {
            tracing::warn!("Fatal error: the truncated file is not the last file");
            return false;
        }
        if let Err(error) = self.move_tail(at, unix_ms) {
            tracing::warn!("Error truncating the AOF file {name}: {}", os_reason(&error));
            return false;
        }
        tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
        true
    }

    /// Keeps what is cut off in a file beside, then cuts it off.
    fn move_tail(&self, at: u64, unix_ms: u64) -> io::Result<()> {
        let mut tail = Vec::new();
        self.read_from(at)?.read_to_end(&mut tail)?;
        if !tail.is_empty() {
            let kept = format!("{}.cut-{unix_ms}", self.file.name);
            match self.keep(&kept, &tail) {
                Ok(()) => tracing::warn!("The {} bytes cut off are kept in {kept}", tail.len()),
                Err(error) => {
                    let reason = os_reason(&error);
                    tracing::warn!("The bytes cut off could not be kept in {kept}: {reason}");
                }
            }
        }
        let file = self.disk.open(&self.place.path(&self.file.name))?;
        file.truncate(at)?;
        file.sync()
    }

    fn keep(&self, name: &str, tail: &[u8]) -> io::Result<()> {
        let copy = self.disk.create(&self.place.path(name))?;
        write_all(&*copy, tail)?;
        copy.sync()
    }

    /// Says why the file is not loaded.
    fn tell(&self, durable: u64) {
        let Damage { error, file: AofFile { name, .. }, .. } = self;
        let was_durable = match durable > damage::place_of(error, self.transaction) {
            true => format!("; the file was durable up to offset {durable}"),
            false => String::new(),
        };
        let way_out = match error {
            ReadError::Mismatch(_) => {
                " If the file was edited on purpose, start once with --aof-checksum no."
            }
            _ => "",
        };
        tracing::warn!(
            "Bad file format reading the append only file {name}: {error}{was_durable}. Make a \
             backup of the file, then look at it with rufous-server --check-aof {name}; --fix cuts \
             off the damaged place and all that follows it.{way_out}"
        );
    }
}
