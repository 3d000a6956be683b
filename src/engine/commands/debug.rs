//! DEBUG: what tests and developers look inside with.

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[];
