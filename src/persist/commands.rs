//! The commands of this room: snapshots of everything, and single values as payloads.

mod payload;
mod saving;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[
    &saving::BGSAVE,
    &payload::DUMP,
    &saving::LASTSAVE,
    &payload::RESTORE,
    &payload::RESTORE_ASKING,
    &saving::SAVE,
];
