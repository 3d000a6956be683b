//! What an encoder sees of Lua values, and what a decoder makes of them.
//!
//! Codecs work on a stack, as Lua's own interface does, and name nothing of Lua: each method below
//! is one or two calls of that interface. So a document becomes tables without a tree in between,
//! and a codec is tested on values that are plain data.
//!
//! Codecs keep their own list of open tables and never recurse. What a host cannot do (its memory
//! is full, the script was killed) it says by an error, which ends the codec at once; a host may
//! also unwind. Whatever then stands on the stack is the host's to drop.

use super::output::{Full, Output};

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod values;

/// Where values stand on a stack.
pub trait Host {
    /// Why the host ends a codec.
    type Error;

    /// Makes room for so many more values; false if the stack may not grow so far. Codecs ask
    /// before they push more than a host has room for anyway, which is as much as Lua promises
    /// to a function (`LUA_MINSTACK`, 20) beyond its arguments.
    fn room(&mut self, slots: usize) -> bool;

    /// Counts bytes that have been read or written one by one, and lets others in when they are
    /// many. Codecs say so for each [`PIECE_BYTES`] or less of a single value.
    fn spend_on(&mut self, bytes: usize) -> Result<(), Self::Error>;
}

/// A long string is read and written by such pieces.
pub const PIECE_BYTES: usize = 16 << 10;

/// What a decoder needs: to push values and to join them to tables.
pub trait Build: Host {
    fn nil(&mut self) -> Result<(), Self::Error>;

    /// What stands for JSON's null, since a table cannot hold nil: a light userdata of no address.
    fn null(&mut self) -> Result<(), Self::Error>;

    fn boolean(&mut self, value: bool) -> Result<(), Self::Error>;

    fn number(&mut self, value: f64) -> Result<(), Self::Error>;

    fn string(&mut self, value: &[u8]) -> Result<(), Self::Error>;

    /// Pushes an empty table that elements will be set in. So many are expected; a codec never
    /// expects more in all than its input has bytes.
    fn open_array(&mut self, expected: usize) -> Result<(), Self::Error>;

    /// Pushes an empty table that entries will be set in.
    fn open_map(&mut self, expected: usize) -> Result<(), Self::Error>;

    /// Gives the table on top the metatable that says it is an array although it is empty: one
    /// whose field `__is_cjson_array` is true.
    fn mark_array(&mut self) -> Result<(), Self::Error>;

    /// Pops a value and sets it, raw, as the element `index` (from 1) of the table below it.
    fn set_element(&mut self, index: usize) -> Result<(), Self::Error>;

    /// Pops a key and a value above it and sets them, raw, in the table below. The key is neither
    /// nil nor NaN; a value that is nil removes the entry.
    fn set_entry(&mut self) -> Result<(), Self::Error>;
}

/// A value as an encoder sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Seen<'a> {
    Nil,
    /// The light userdata of no address.
    Null,
    Boolean(bool),
    Number(f64),
    String(&'a [u8]),
    Table,
    /// Whatever no format knows, with the name of its type.
    Other(&'static str),
}

impl Seen<'_> {
    /// The name of its type, as error texts have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Seen::Nil => "nil",
            Seen::Null => "userdata",
            Seen::Boolean(_) => "boolean",
            Seen::Number(_) => "number",
            Seen::String(_) => "string",
            Seen::Table => "table",
            Seen::Other(name) => name,
        }
    }
}

/// What an encoder needs: to look at what is on top, and to walk through tables.
///
/// A walk: [`Look::begin`], then [`Look::next`] until it says false; each time it says true there
/// are a key and a value more on the stack, and the value is popped before the next call.
pub trait Look: Host {
    /// The value on top.
    fn top(&self) -> Seen<'_>;

    /// The value below the one on top: in a walk, the key.
    fn key(&self) -> Seen<'_>;

    fn pop(&mut self);

    /// Pushes what stands before the first key of the table on top.
    fn begin(&mut self) -> Result<(), Self::Error>;

    /// Pops a key and pushes the next one of the table below, with its value, raw; or pops it and
    /// says false.
    fn next(&mut self) -> Result<bool, Self::Error>;

    /// Pushes the key below the value on top once more.
    fn copy_key(&mut self) -> Result<(), Self::Error>;

    /// Pushes an element (from 1) of the table on top, raw: nil if there is none.
    fn element(&mut self, index: usize) -> Result<(), Self::Error>;

    /// Whether the table on top has the metatable that says it is an array.
    fn is_marked_array(&self) -> bool;
}

/// Why a codec ended early.
#[derive(PartialEq, Eq, Debug)]
pub enum Failed<F, E> {
    /// What it was given is at fault.
    Input(F),
    /// The host said so.
    Host(E),
    /// There is no memory for what it writes.
    Full,
}

impl<F, E> From<E> for Failed<F, E> {
    fn from(error: E) -> Self {
        Failed::Host(error)
    }
}

/// Where a codec may append so many bytes.
#[inline]
pub fn room_for<'o, F, E>(
    out: &'o mut Output<'_>,
    bytes: usize,
) -> Result<&'o mut Vec<u8>, Failed<F, E>> {
    out.room_for(bytes).map_err(|Full| Failed::Full)
}

/// Appends bytes if there is room for them.
#[inline]
pub fn append<F, E>(out: &mut Output<'_>, bytes: &[u8]) -> Result<(), Failed<F, E>> {
    room_for(out, bytes.len())?.extend_from_slice(bytes);
    Ok(())
}
