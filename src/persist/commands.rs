//! The commands of this room: snapshots on demand.

mod saving;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[&saving::BGSAVE, &saving::LASTSAVE, &saving::SAVE];
