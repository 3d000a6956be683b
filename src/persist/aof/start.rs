//! Before the first command: finding the AOF of an older server, and opening the last increment.

use super::manifest::{AofFile, Manifest, Place, Role, TakenOver, remove_unlisted_base, write_all};
use super::mark::Key;
use super::rewrite::{begin_increment, delete_history};
use super::{Aof, FileEnd, Moment, Options};
use crate::config::os_reason;
use crate::persist::disk::{Disk, DiskFile};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The increment that the log goes on in.
struct LastIncrement {
    file: Arc<dyn DiskFile>,
    end: FileEnd,
}

/// Takes over the single file of an older server, if there is one and no AOF yet.
pub fn upgrade(disk: &dyn Disk, place: &Place, manifest: &mut Manifest) -> io::Result<()> {
    let old = place.parent().join(&place.prefix);
    let is_there = |path: &Path| disk.len(path).is_ok();
    let has_begun = manifest.increments.is_empty()
        && manifest.base.as_ref().is_some_and(|base| base.name == place.prefix)
        && !is_there(&place.path(&place.prefix));
    if !(manifest.is_empty() || has_begun) || !is_there(&old) {
        return Ok(());
    }
    disk.create_directory(&place.directory).inspect_err(|error| {
        let directory = place.directory.display();
        tracing::warn!("Can't open or create append-only dir {directory}: {}", os_reason(error));
    })?;
    manifest.base = Some(AofFile { name: place.prefix.clone(), seq: 1, role: Role::Base });
    // ORDER: listed first, since a file that is moved and not listed would be an empty AOF.
    manifest.store(disk, place)?;
    disk.sync_directory(place.parent())?;
    disk.rename(&old, &place.path(&place.prefix)).inspect_err(|error| {
        let (name, directory) = (&place.prefix, place.directory.display());
        let reason = os_reason(error);
        tracing::warn!(
            "Error trying to move the old AOF file {name} into dir {directory}: {reason}"
        );
    })?;
    disk.sync_directory(&place.directory)?;
    disk.sync_directory(place.parent())?;
    tracing::info!(
        "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
        place.prefix,
        place.directory.display()
    );
    Ok(())
}

impl Aof {
    /// Opens the log for appending, when the dataset is loaded up to this end of its last file;
    /// makes its files if there are none, with a base of these bytes.
    pub fn open(
        &mut self,
        end: &FileEnd,
        empty_base: &[u8],
        unix_us: u64,
        now: Moment,
    ) -> io::Result<()> {
        let (disk, place, options) = (Arc::clone(&self.disk), self.place.clone(), self.options);
        let mut manifest = self.manifest.clone();
        let key = self.keys.draw(unix_us);
        let go_on = GoOn { options: &options, end, empty_base, key };
        let opened = open(&*disk, &place, &mut manifest, go_on)?;
        if !options.keeps_history {
            delete_history(&*disk, &place, &mut manifest);
        }
        let closed = manifest.files().map(|file| disk.len(&place.path(&file.name)).unwrap_or(0));
        self.closed_bytes = closed.sum::<u64>().saturating_sub(opened.end.len);
        remove_unlisted_base(&*disk, &place, &manifest);
        self.manifest = manifest;
        self.start(opened.file, opened.end, now);
        Ok(())
    }
}

/// How far the log was read, and what is needed to go on.
struct GoOn<'a> {
    options: &'a Options,
    /// The end of the last file, if there are files.
    end: &'a FileEnd,
    /// The bytes of a base without keys.
    empty_base: &'a [u8],
    /// The key of an increment that begins.
    key: Key,
}

/// Opens the last increment to append to it, and makes what is missing of the AOF. What was loaded
/// is durable when this returns. One that another server began is taken over: the manifest holds
/// the key of our marks in it, which tell that what lies before them was durable.
fn open(
    disk: &dyn Disk,
    place: &Place,
    manifest: &mut Manifest,
    go_on: GoOn<'_>,
) -> io::Result<LastIncrement> {
    disk.create_directory(&place.directory).inspect_err(|error| {
        let directory = place.directory.display();
        tracing::warn!("Can't open or create append-only dir {directory}: {}", os_reason(error));
    })?;
    disk.sync_directory(place.parent())?;
    let before = manifest.clone();
    if manifest.is_empty() {
        // ORDER: where there are files there has been a manifest, or they have lost it.
        manifest.store(disk, place)?;
        let name = manifest.replace_base(place, go_on.options.base_form, 0).name.clone();
        let file = disk.create(&place.path(&name))?;
        write_all(&*file, go_on.empty_base)?;
        file.sync()?;
        tracing::info!("Creating AOF base file {name} on server start");
    } else if let Some(base) = manifest.base.as_ref().filter(|base| base.name == place.prefix) {
        disk.open(&place.path(&base.name))?.sync()?;
    }
    let mut open = None;
    if let Some(last) = manifest.increments.last() {
        let name = &last.name;
        let opened = disk.open(&place.path(name)).inspect_err(|error| {
            tracing::warn!("Can't open the append-only file {name}: {}", os_reason(error));
        })?;
        opened.sync()?;
        let mut end = go_on.end.clone();
        if end.key.is_none() {
            let (seq, from, key) = (last.seq, end.len, go_on.key.clone());
            end = FileEnd::of_taken_over(end.len, key.clone());
            manifest.taken_over = Some(TakenOver { seq, from, key });
        }
        open = Some((opened, end));
    }
    let is_new = open.is_none();
    let (file, end) = match open {
        Some(open) => open,
        None => (begin(disk, place, manifest, &go_on.key)?, FileEnd::of_new(go_on.key)),
    };
    if *manifest != before {
        // ORDER: names are durable before the manifest that names them.
        disk.sync_directory(&place.directory)?;
        manifest.store(disk, place)?;
    }
    let verb = if is_new { "Creating" } else { "Opening" };
    let name = &manifest.increments.last().expect("there is one now").name;
    tracing::info!("{verb} AOF incr file {name} on server start");
    Ok(LastIncrement { file, end })
}

/// Begins another increment.
fn begin(
    disk: &dyn Disk,
    place: &Place,
    manifest: &mut Manifest,
    key: &Key,
) -> io::Result<Arc<dyn DiskFile>> {
    let name = manifest.add_increment(place).name.clone();
    begin_increment(disk, &place.path(&name), key).inspect_err(|error| {
        tracing::warn!("Can't open the append-only file {name}: {}", os_reason(error));
    })
}
