//! COMMAND: what clients learn about commands.

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[];
