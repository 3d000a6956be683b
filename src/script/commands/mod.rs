//! The commands of scripts.

mod eval;
mod function;
mod script;

use crate::command::{Args, Command};

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

/// Whether what follows FLUSH is nothing, or one of its options. What is flushed is freed at once
/// in any case: an interpreter's state is no other thread's to free.
fn is_flush(args: &mut Args<'_>) -> bool {
    let is_known = args.is_empty() || args.option("sync") || args.option("async");
    is_known && args.is_empty()
}
