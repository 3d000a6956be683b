//! Access control: users, their passwords, and what each of them may do.
//!
//! A [`User`] has a root [`Selector`] and perhaps others. A request is allowed if one selector
//! alone allows its command, its database, all its keys and all its channels ([`check`]). Rules are
//! words (`on`, `>password`, `~app:*`, `+@read`, `rule.rs`); what they said is kept in the order in
//! which it was said, and what is asked for each request, bits by command and patterns that are
//! ready to be matched, is derived from that. [`Users`] is the table of them, `file.rs` the text of
//! it, [`log`] what was refused, [`guesses`] who has tried too many passwords.
//!
//! Users are never changed in place: whoever changes one makes another, which takes the old one's
//! place in the table and in the sessions that hold it. So a change is made as a whole or not at
//! all, and who has read a user's rights has read all of them as they were at one moment.
//!
//! Nothing here knows of clients, sockets or files: the engine asks, and does what follows.

pub mod check;
pub mod commands;
pub mod file;
pub mod guesses;
mod keys;
pub mod log;
mod rule;
mod secret;
mod selector;
mod user;
mod users;

pub use keys::{Access, Naming};
pub use rule::RuleError;
pub use selector::Selector;
pub use user::{Beginning, User};
pub use users::{DEFAULT, SetError, Users};

#[cfg(test)]
mod tests;
