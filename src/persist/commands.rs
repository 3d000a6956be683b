//! The commands of this room: snapshots of everything, and single values as payloads.

mod migrate;
mod payload;
mod saving;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[
    &saving::BGSAVE,
    &payload::DUMP,
    &saving::LASTSAVE,
    &migrate::MIGRATE,
    &payload::RESTORE,
    &payload::RESTORE_ASKING,
    &saving::SAVE,
];
