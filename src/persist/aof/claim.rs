//! The claim on the files of an AOF: two servers that append to one file, or replace the manifest
//! under each other, ruin it.
//!
//! It is a lock on a file beside the AOF's, which the system lets go when the process ends, however
//! it does: so no crash leaves one behind, though the file stays. The file has the AOF's name and
//! not the directory's, because servers whose AOFs have different names may share a directory.

use super::manifest::Place;
use crate::config::os_reason;
use crate::persist::disk::{Disk, FileLock};
use std::io;

/// Another process has the AOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

/// What keeps others from the AOF; nothing if it is not used.
#[derive(Default)]
pub struct Claim(Option<FileLock>);

impl Claim {
    /// Takes the AOF for this process, unless it has it. Where files cannot be locked, which some
    /// file systems cannot, it goes without.
    pub fn take(&mut self, disk: &dyn Disk, place: &Place) -> Result<(), InUse> {
        // A directory that cannot be made is told of by whoever makes a file in it.
        if self.0.is_some() || disk.create_directory(&place.directory).is_err() {
            return Ok(());
        }
        let name = place.lock_name();
        match disk.lock(&place.path(&name)) {
            Ok(lock) => self.0 = Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(InUse),
            Err(error) => {
                let reason = os_reason(&error);
                tracing::warn!(
                    "Can't lock {name}: {reason}. Nothing keeps another server from this log."
                );
            }
        }
        Ok(())
    }

    pub fn release(&mut self) {
        self.0 = None;
    }
}
