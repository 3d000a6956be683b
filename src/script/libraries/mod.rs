//! The libraries that Redis gives to scripts beside those of the interpreter: how they are called
//! from Lua. What they do is in files that know nothing of Lua.

mod cjson;
mod cmsgpack;
mod patterns;
mod structs;
#[cfg(test)]
mod tests;
mod values;

use super::lua::Stack;

/// What the library `string` has of ours.
pub(super) use patterns::FUNCTIONS as STRING_FUNCTIONS;

/// Pushes a table of the libraries by their names.
pub(super) fn push(stack: Stack) {
    stack.push_table(0, 3);
    cjson::push_library(stack);
    stack.raw_set_name(-2, "cjson");
    cmsgpack::push_library(stack);
    stack.raw_set_name(-2, "cmsgpack");
    stack.push_library(structs::FUNCTIONS, 0);
    stack.raw_set_name(-2, "struct");
}
