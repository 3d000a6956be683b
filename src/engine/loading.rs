//! Taking in a dataset that is read from a file on another thread.
//!
//! Entries come ready made, in batches, so the executor only puts them in their places; between
//! batches clients are answered, most of them with -LOADING.

use super::Engine;
use super::clock::Now;
use crate::persist::load::{Batch, LoadError, Reading};
use crate::persist::rdb::LoadOptions;
use crate::persist::snapshot::KeyDelay;

/// How far a load has come.
#[derive(Clone, Default)]
pub struct Loading {
    pub started: Now,
    /// The size of what is read; 0 if it is not known.
    pub total_bytes: u64,
    pub loaded_bytes: u64,
    /// The memory that the file's server used when it wrote it.
    pub used_memory_then: u64,
}

impl Loading {
    pub fn percent(&self) -> f64 {
        match self.total_bytes {
            0 => 0.0,
            total => self.loaded_bytes as f64 * 100.0 / total as f64,
        }
    }

    pub fn elapsed_seconds(&self, now: Now) -> u64 {
        now.mono_us.saturating_sub(self.started.mono_us) / 1_000_000
    }

    /// A guess from the time that the part before this took.
    pub fn eta_seconds(&self, now: Now) -> u64 {
        let elapsed = self.elapsed_seconds(now);
        if elapsed == 0 {
            return 1;
        }
        let left = self.total_bytes.saturating_sub(self.loaded_bytes);
        elapsed.saturating_mul(left) / (self.loaded_bytes + 1)
    }
}

/// What the last load came to.
#[derive(Clone, Copy, Default)]
pub struct LastLoad {
    pub keys_loaded: u64,
    pub keys_expired: u64,
}

impl Engine {
    /// A file of so many bytes is going to be read.
    pub fn begin_loading(&mut self, total_bytes: u64) {
        let started = self.server.clock.now();
        self.server.last_load = LastLoad::default();
        self.server.loading = Some(Loading { started, total_bytes, ..Loading::default() });
    }

    /// Takes in what has been read.
    pub fn load(&mut self, batch: Batch) -> Result<(), LoadError> {
        if let Some(loading) = &mut self.server.loading {
            loading.loaded_bytes = batch.bytes_read;
            loading.used_memory_then = batch.used_memory_then;
        }
        self.server.last_load.keys_expired = batch.keys_expired;
        self.server.last_load.keys_loaded += batch.entries.len() as u64;
        self.server.function_libraries.extend(batch.functions);
        let db = batch.db;
        self.keyspace.load(db, batch.entries).map_err(|key| LoadError::Duplicate { key, db })
    }

    /// How a file of this moment is read.
    pub fn reading(&self) -> Reading {
        let config = &self.server.config;
        Reading {
            options: LoadOptions { drops_expired: true, ..LoadOptions::of(config, &self.keyspace) },
            delay: KeyDelay(config.key_load_delay),
        }
    }

    /// All has been read, or loading was given up.
    pub fn end_loading(&mut self) {
        self.server.loading = None;
        let now = self.server.clock.now();
        self.server.saving.note_saved(now, self.keyspace.changes.dirty);
    }
}
