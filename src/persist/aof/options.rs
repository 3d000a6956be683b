//! What the append-only file is told: by the configuration, and by the clock.

use super::manifest::BaseForm;
use crate::config::AppendFsync;

/// What the configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    pub policy: AppendFsync,
    pub timestamps: bool,
    pub checksums: bool,
    /// Files that are not needed any more stay (a directive for tests).
    pub keeps_history: bool,
    pub base_form: BaseForm,
    /// A rewrite syncs its file while it grows.
    pub syncs_in_steps: bool,
    /// No syncs while a snapshot is written, unless every write is synced.
    pub no_sync_during_saves: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            policy: AppendFsync::EverySecond,
            timestamps: false,
            checksums: true,
            keeps_history: false,
            base_form: BaseForm::Rdb,
            syncs_in_steps: true,
            no_sync_during_saves: false,
        }
    }
}

/// A moment as the AOF needs it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Moment {
    pub mono_us: u64,
    pub unix_seconds: u64,
}
