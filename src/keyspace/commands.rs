//! The commands that work on keys of any type.

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[];
