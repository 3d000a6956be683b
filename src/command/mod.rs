//! What a command is, how its arguments are read, what its errors say, and the table of all.
//!
//! A command is one `static` [`Command`] record directly above its handler, in the `commands.rs`
//! of its room. Everything that is known about a command before it runs is in that record, and
//! everybody who must know it (dispatch, COMMAND, ACL, routing, tests, generated docs) reads it
//! from there. Handlers read their arguments through [`Args`] and fail with a [`CommandError`].
//! [`table`] joins the rooms; adding a room adds one line there, adding a command adds none.

mod args;
pub mod commands;
mod docs;
mod error;
mod flags;
pub mod help;
mod keys;
mod many_pop;
mod spec;
pub mod table;
mod time;

pub use args::{Args, Hashed};
pub use error::{CommandError, CommandResult};
pub use flags::{Categories, Flags, Traits};
pub use keys::{Begin, Find, FoundKey, FoundKeys, KeyFlags, KeySpec, are_at_most, find_keys};
pub use many_pop::ManyPop;
pub use spec::{
    Arg, ArgKind, Arity, ChannelUse, Command, DatabaseUse, Deprecated, Group, Guard, Handler,
    KeyFinder, Shape, database_at,
};
pub use table::{CommandId, Lookup, Table};
pub use time::{Condition, Expiration, FIELD_EXPIRY_MAX_MS, TimeForm};
