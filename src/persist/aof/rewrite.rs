//! What a rewrite does to the disk, on a thread of its own: the next increment, the base, and the
//! manifest that joins them.
//!
//! Each step leaves a set of files that loads: a file is complete and synced before a manifest
//! names it, and is deleted only when no manifest does. The steps are functions over a [`Disk`]
//! and a manifest of their own; the AOF goes by the new manifest when it is told of the outcome.

use super::manifest::{BaseForm, Manifest, Place, write_all};
use super::mark::Key;
use crate::persist::disk::{Disk, DiskFile};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a rewrite's increment follows the old files or replaces them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The increment is listed behind the others before anything is written to it.
    Following,
    /// The increment is listed together with its base: what lies before it is of no use.
    Fresh,
    /// The AOF is off: there is a base and no increment.
    Detached,
}

/// The increment that is to be appended to next.
pub struct Opened {
    pub kind: Kind,
    /// The file, which begins with the key; none if the AOF is off.
    pub file: Option<(Arc<dyn DiskFile>, Key)>,
    pub manifest: Manifest,
}

/// The outcome of a whole rewrite.
pub struct Rewritten {
    pub manifest: Manifest,
    pub base_bytes: u64,
}

/// Makes the next increment. One that follows the others is listed at once, still empty.
pub fn open(
    disk: &dyn Disk,
    place: &Place,
    mut manifest: Manifest,
    kind: Kind,
    key: Key,
) -> io::Result<Opened> {
    disk.create_directory(&place.directory).inspect_err(|error| {
        tracing::warn!(
            "Can't open or create append-only dir {}: {}",
            place.directory.display(),
            crate::config::os_reason(error)
        );
    })?;
    if manifest.is_empty() {
        disk.sync_directory(place.parent())?;
        // ORDER: where there are files there has been a manifest, or they have lost it.
        manifest.store(disk, place)?;
    }
    let name = match kind {
        Kind::Following => manifest.add_increment(place).name.clone(),
        Kind::Fresh => {
            let name = place.temporary_increment_name();
            // A file of this name may still be appended to by a rewrite that has failed.
            let _ = disk.remove(&place.path(&name));
            name
        }
        Kind::Detached => return Ok(Opened { kind, file: None, manifest }),
    };
    let file = begin_increment(disk, &place.path(&name), &key).inspect_err(|error| {
        let reason = crate::config::os_reason(error);
        tracing::warn!("Can't open the append-only file {name}: {reason}");
    })?;
    if kind == Kind::Following {
        // ORDER: the name of the file is durable before the manifest that names it.
        disk.sync_directory(&place.directory)?;
        manifest.store(disk, place)?;
        tracing::info!("Creating AOF incr file {name} on background rewrite");
    }
    Ok(Opened { kind, file: Some((file, key)), manifest })
}

/// Makes a file that holds its key, durably: no loss of power takes it from marks behind it.
pub fn begin_increment(disk: &dyn Disk, path: &Path, key: &Key) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(path)?;
    write_all(&*file, &key.line())?;
    file.sync()?;
    Ok(file)
}

/// Writes the content of a base; the callback is told of progress and may have it stop.
pub type WriteBase = Box<
    dyn FnOnce(&mut dyn Write, &mut dyn FnMut(u64) -> ControlFlow<()>) -> io::Result<()> + Send,
>;

/// All that the writing of a base needs.
pub struct BaseJob {
    pub disk: Arc<dyn Disk>,
    pub place: Place,
    pub manifest: Manifest,
    pub kind: Kind,
    pub form: BaseForm,
    pub process_id: u32,
    pub syncs_in_steps: bool,
    pub keeps_history: bool,
    /// The increment that belongs to the base.
    pub write: WriteBase,
    pub is_cancelled: Arc<AtomicBool>,
}

/// So many bytes of a base are synced at once.
const SYNC_STEP_BYTES: u64 = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;

impl BaseJob {
    pub fn run(self) -> io::Result<Rewritten> {
        let temporary = self.place.path(&self.place.temporary_base_name(self.process_id));
        let disk = Arc::clone(&self.disk);
        self.run_with(&temporary).inspect_err(|_| {
            // What is left of it is only in the way.
            let _ = disk.remove(&temporary);
        })
    }

    fn run_with(mut self, temporary: &Path) -> io::Result<Rewritten> {
        let file = self.disk.create(temporary)?;
        let mut out = SteppedWriter::new(file, self.syncs_in_steps);
        let is_cancelled = Arc::clone(&self.is_cancelled);
        let mut watch = move |_| match is_cancelled.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let write = std::mem::replace(&mut self.write, Box::new(|_, _| Ok(())));
        write(&mut out, &mut watch)?;
        let base_bytes = out.finish()?;
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        let name = temporary.file_name().unwrap_or_default().display();
        tracing::info!("Successfully created the temporary AOF base file {name}");
        self.publish(temporary, base_bytes)
    }

    /// Gives the new files their names and lists them in place of the old ones.
    fn publish(&self, temporary: &Path, base_bytes: u64) -> io::Result<Rewritten> {
        let (disk, place) = (&*self.disk, &self.place);
        let mut manifest = self.manifest.clone();
        let mut increment = None;
        if self.kind == Kind::Fresh {
            increment = Some(manifest.add_increment(place).name.clone());
        }
        let kept = usize::from(self.kind != Kind::Detached);
        let base = manifest.replace_base(place, self.form, kept).name.clone();
        disk.rename(temporary, &place.path(&base))?;
        if let Some(increment) = increment {
            disk.rename(&place.path(&place.temporary_increment_name()), &place.path(&increment))?;
        }
        disk.sync_directory(&place.directory)?;
        manifest.skipped = 0;
        manifest.store(disk, place)?;
        tracing::info!("Successfully renamed the temporary AOF base file into {base}");
        if self.manifest.base.is_some() {
            self.remove_failed(&manifest);
        }
        if !self.keeps_history {
            delete_history(disk, place, &mut manifest);
        }
        Ok(Rewritten { manifest, base_bytes })
    }
}

impl BaseJob {
    /// Deletes what rewrites have left that had renamed their files and failed then. Their numbers
    /// were skipped since the last one that succeeded, so that nobody else has files of these.
    fn remove_failed(&self, manifest: &Manifest) {
        let place = &self.place;
        let skipped = |last: u64| last.saturating_sub(self.manifest.skipped)..=last;
        let bases = manifest.base.iter().flat_map(|base| skipped(base.seq)).flat_map(|seq| {
            [BaseForm::Rdb, BaseForm::Commands].map(|form| place.base_name(seq, form))
        });
        let increments = manifest.increments.last().into_iter();
        let increments = increments.flat_map(|last| skipped(last.seq));
        for name in bases.chain(increments.map(|seq| place.increment_name(seq))) {
            if !manifest.names(&name) {
                let _ = self.disk.remove(&place.path(&name));
            }
        }
    }
}

/// Deletes what is no part of the AOF any more. What cannot be deleted stays listed, and a
/// manifest that cannot be stored lists what is gone: neither does harm.
pub fn delete_history(disk: &dyn Disk, place: &Place, manifest: &mut Manifest) {
    if manifest.history.is_empty() {
        return;
    }
    let is_left = |error: io::Error| error.kind() != io::ErrorKind::NotFound;
    manifest.history.retain(|file| {
        tracing::info!("Removing the history file {} in the background", file.name);
        disk.remove(&place.path(&file.name)).is_err_and(is_left)
    });
    // ORDER: durably gone before no manifest names them, or a loss of power brings them back as
    // files that nobody knows. If they are not, the next one who reads the manifest deletes them.
    if disk.sync_directory(&place.directory).is_ok() {
        let _ = manifest.store(disk, place);
    }
}

/// A file that is written in big pieces and synced in steps, so that the disk never gets a
/// gigabyte at once to keep everybody else waiting.
struct SteppedWriter {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
    syncs_in_steps: bool,
}

impl SteppedWriter {
    fn new(file: Arc<dyn DiskFile>, syncs_in_steps: bool) -> SteppedWriter {
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        SteppedWriter { file, buffer, written: 0, synced: 0, syncs_in_steps }
    }

    /// Writes and syncs the rest; the length of the file.
    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync()?;
        Ok(self.written)
    }
}

impl Write for SteppedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all(&*self.file, &self.buffer)?;
        // As when a snapshot is saved: others need not wait for the end of a time slice.
        std::thread::yield_now();
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.syncs_in_steps && self.written - self.synced >= SYNC_STEP_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }
}
