//! Before anything is loaded: which files the AOF consists of, and what the log is told
//! where they are not to be had.

use super::Aof;
use super::manifest::{LoadError, Manifest, numbered_files};
use super::source::{AofSource, ReadOptions, Unloadable};
use super::start;
use crate::config::os_reason;

impl Aof {
    /// Finds the AOF: what its manifest names, or the single file of an older server. None if
    /// there is none yet.
    pub fn find(&mut self, options: ReadOptions) -> Result<Option<AofSource>, Unloadable> {
        if !self.read_manifest()? {
            self.tell_of_lost_manifest();
            tracing::warn!(
                "Put the manifest back, or move the files to another directory to begin without \
                 what they hold."
            );
            return Err(Unloadable);
        }
        let mut manifest = self.manifest.clone();
        start::upgrade(&*self.disk, &self.place, &mut manifest).map_err(|error| {
            tracing::warn!("Can't take over the old AOF file: {}", os_reason(&error));
            Unloadable
        })?;
        self.manifest = manifest;
        if self.manifest.is_empty() {
            return Ok(None);
        }
        AofSource::open(self, options).map(Some)
    }

    /// Reads the manifest of an AOF that is not to be loaded.
    pub fn find_manifest(&mut self) -> Result<(), Unloadable> {
        if !self.read_manifest()? {
            self.tell_of_lost_manifest();
        }
        Ok(())
    }

    /// Reads the manifest, so that what is written next gets names that are free; false if there
    /// is none, though there are files that it must have listed.
    fn read_manifest(&mut self) -> Result<bool, Unloadable> {
        let found = Manifest::load(&*self.disk, &self.place).map_err(|error| {
            tell_of_manifest(&error);
            Unloadable
        })?;
        let is_there = found.is_some();
        let mut manifest = found.unwrap_or_default();
        let mut has_files = false;
        if manifest.is_empty() {
            let files = numbered_files(&*self.disk, &self.place);
            has_files = !files.is_empty();
            manifest.skipped = files.last().map_or(0, |(number, _)| *number);
        }
        self.manifest = manifest;
        Ok(is_there || !has_files)
    }

    fn tell_of_lost_manifest(&self) {
        let files = numbered_files(&*self.disk, &self.place);
        let names: Vec<String> = files.into_iter().map(|(_, name)| name).collect();
        tracing::warn!(
            "The AOF manifest {} is missing, but there are AOF files in {}: {}",
            self.place.manifest_name(),
            self.place.directory.display(),
            names.join(", ")
        );
    }
}

fn tell_of_manifest(error: &LoadError) {
    match error {
        LoadError::Unreadable(path, error) => tracing::warn!(
            "Fatal error: can't open the AOF manifest file {} for reading: {}",
            path.display(),
            os_reason(error)
        ),
        LoadError::Malformed(error) => {
            tracing::warn!("*** FATAL AOF MANIFEST FILE ERROR ***");
            if let Some((number, line)) = &error.line {
                tracing::warn!("Reading the manifest file, at line {number}");
                tracing::warn!(">>> '{line}'");
            }
            tracing::warn!("{error}");
        }
    }
}
