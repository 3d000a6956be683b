//! The commands of scripts.

mod eval;
mod function;
mod script;

use crate::command::Command;

pub static COMMANDS: &[&Command] = &[
    &eval::EVAL,
    &eval::EVALSHA,
    &eval::EVALSHA_RO,
    &eval::EVAL_RO,
    &function::FCALL,
    &function::FCALL_RO,
    &function::FUNCTION,
    &script::SCRIPT,
];
