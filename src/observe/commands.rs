//! INFO, MEMORY and their like.

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[];
