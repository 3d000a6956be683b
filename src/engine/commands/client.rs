//! CLIENT: what a connection is called, what it wants, and who else is connected.

use crate::command::{Command, CommandError, CommandResult};
use crate::engine::Cx;

pub static COMMANDS: &[&Command] = &[];

/// Names go into CLIENT LIST, whose fields are split at spaces.
pub fn check_name(name: &[u8]) -> CommandResult {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CommandError::Fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// Names the running connection; an empty name takes the name away.
pub fn set_name(cx: &mut Cx<'_>, name: &[u8]) -> CommandResult {
    check_name(name)?;
    cx.session_mut().name = String::from_utf8_lossy(name).into();
    Ok(())
}
