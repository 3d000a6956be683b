//! Before the first command: finding the log of an older server, and opening the last increment.

use super::log::Options;
use super::manifest::{LogFile, Manifest, Place, Role, remove_temporaries, write_all};
use crate::config::os_reason;
use crate::persist::disk::{Disk, DiskFile};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The increment that the log goes on in.
pub struct LastIncrement {
    pub file: Arc<dyn DiskFile>,
    /// It holds nothing yet.
    pub is_new: bool,
}

/// The directory that holds the log's directory.
fn parent(place: &Place) -> &Path {
    match place.directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Takes over the single file of an older server, if there is one and no log yet.
pub fn upgrade(disk: &dyn Disk, place: &Place, manifest: &mut Manifest) -> io::Result<()> {
    let old = parent(place).join(&place.prefix);
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
    manifest.base = Some(LogFile { name: place.prefix.clone(), seq: 1, role: Role::Base });
    // ORDER: listed first, since a file that is moved and not listed would be an empty log.
    manifest.store(disk, place)?;
    disk.sync_directory(parent(place))?;
    disk.rename(&old, &place.path(&place.prefix)).inspect_err(|error| {
        let (name, directory) = (&place.prefix, place.directory.display());
        let reason = os_reason(error);
        tracing::warn!(
            "Error trying to move the old AOF file {name} into dir {directory}: {reason}"
        );
    })?;
    disk.sync_directory(&place.directory)?;
    disk.sync_directory(parent(place))?;
    tracing::info!(
        "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
        place.prefix,
        place.directory.display()
    );
    Ok(())
}

/// Opens the last increment to append to it, and makes what is missing of the log; the bytes are
/// those of a base without keys.
pub fn open(
    disk: &dyn Disk,
    place: &Place,
    manifest: &mut Manifest,
    options: &Options,
    empty_base: &[u8],
) -> io::Result<LastIncrement> {
    disk.create_directory(&place.directory).inspect_err(|error| {
        let directory = place.directory.display();
        tracing::warn!("Can't open or create append-only dir {directory}: {}", os_reason(error));
    })?;
    disk.sync_directory(parent(place))?;
    remove_temporaries(disk, &place.directory);
    let before = manifest.clone();
    if manifest.is_empty() {
        let name = manifest.replace_base(place, options.base_form, 0).name.clone();
        let file = disk.create(&place.path(&name))?;
        write_all(&*file, empty_base)?;
        file.sync()?;
        tracing::info!("Creating AOF base file {name} on server start");
    }
    let is_new = manifest.increments.is_empty();
    if is_new {
        manifest.add_increment(place);
    }
    let name = &manifest.increments.last().expect("there is one now").name;
    let path = place.path(name);
    let file = if is_new { disk.create(&path) } else { disk.open(&path) };
    let file = file.inspect_err(|error| {
        tracing::warn!("Can't open the append-only file {name}: {}", os_reason(error));
    })?;
    if *manifest != before {
        // ORDER: names are durable before the manifest that names them.
        disk.sync_directory(&place.directory)?;
        manifest.store(disk, place)?;
    }
    let verb = if is_new { "Creating" } else { "Opening" };
    tracing::info!("{verb} AOF incr file {name} on server start");
    Ok(LastIncrement { file, is_new })
}
