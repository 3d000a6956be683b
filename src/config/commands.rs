//! CONFIG: reading, changing and writing back the configuration of a running server.

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[];
