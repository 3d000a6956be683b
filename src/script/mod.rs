//! Lua scripts: a sandboxed state, how a script runs in it, and how values cross its border.
//!
//! [`lua`] is the door to the interpreter; [`vm`] owns the state and what scripts see of it, which
//! `prelude.lua`, [`api`], [`random`] and [`libraries`] make; [`dialect`] changes what would
//! mean something else to this interpreter; [`run`] runs one script on a stack of its own, so that
//! it can ask for a command, or be put aside, at any depth; [`convert`] turns replies into Lua
//! values and a script's value into a reply; [`debugger`] stops a script at its lines; [`cache`]
//! keeps scripts by their digest, [`functions`] keeps libraries of functions, and [`shebang`] reads
//! what either says of itself. The engine asks and answers; nothing here knows of it.
//!
//! What libraries of Lua do is done without a state: [`pattern`] matches Lua's patterns,
//! [`structs`] packs bytes, [`cast`] makes integers of numbers as C does; [`cjson`] and
//! [`cmsgpack`] read and write formats over [`codec`], which is what they see of Lua values and
//! make of them. [`output`] is what they write to. [`memory`] is what a state holds.

mod api;
mod bytecode;
pub mod cache;
pub mod cast;
pub mod cjson;
pub mod cmsgpack;
pub mod codec;
pub mod commands;
pub mod convert;
mod debugger;
mod dialect;
pub mod functions;
mod libraries;
pub mod library_error;
pub mod lua;
mod memory;
pub mod output;
pub mod pattern;
mod random;
pub mod run;
pub mod shebang;
pub mod structs;
#[cfg(test)]
mod tests;
pub mod vm;
