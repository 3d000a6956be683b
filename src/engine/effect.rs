//! What the engine wants done in the world around it.
//!
//! Effects are a closed set, so all ways in which the engine reaches out are visible here. The
//! driver carries them out in order, after the command that left them and before the next one.

use super::ClientId;
use super::saving::SaveJob;
use crate::command::CommandError;
use crate::config::{Config, Directive};
use crate::keyspace::Garbage;
use crate::persist::aof::SyncRequest;
use crate::resp::{Protocol, ReplyBuf};
use crate::structs::SharedBytes;
use std::time::Duration;

/// Work that would stall the executor; it runs on another thread over data of its own (a
/// snapshot, a file's new text) and yields the reply.
pub type Job = Box<dyn FnOnce() -> JobReply + Send>;

/// What a job answers its client: a whole reply, encoded for the client's protocol.
pub type JobReply = Result<ReplyBuf, CommandError>;

/// A change of the listening addresses that waits for the driver.
pub struct ListenChange {
    pub client: ClientId,
    pub directive: &'static Directive,
    /// What to go back to.
    pub previous: Box<Config>,
    pub protocol: Protocol,
}

/// How things stand with the server, for whoever watches over the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Loading,
    Ready,
    Stopping,
    SavingLast,
    /// It was to end, and lives on for this reason.
    CannotEnd(&'static str),
}

pub enum Effect {
    /// Bytes for a client other than the running one, or outside of any command.
    Push { client: ClientId, bytes: ReplyBuf },
    /// The same bytes for several clients.
    Broadcast { clients: Vec<ClientId>, bytes: SharedBytes },
    /// A waiting client's next request may be tried.
    Wake { client: ClientId },
    /// A deadline was set that comes before all others.
    WakeTimer,
    /// Drop a connection at once, unread input and unsent output with it.
    Close { client: ClientId },
    /// Run a job; its reply is handed to `Engine::finish_job`.
    Run { client: ClientId, job: Job },
    /// Sync a file on another thread; the outcome goes to `Engine::finish_sync`.
    Sync(SyncRequest),
    /// Run a job that writes files, when those before it have ended; its outcome is handed to
    /// `Engine::finish_save`.
    Save(SaveJob),
    /// Load the append-only log anew, in place of the dataset (DEBUG LOADAOF), by
    /// `Engine::reload_log`.
    ReloadLog { client: ClientId },
    /// Free something big elsewhere.
    Free(Garbage),
    /// The executor itself is to stand still (DEBUG SLEEP).
    Sleep(Duration),
    /// The listening addresses changed: open the new ones, then close the old; the outcome goes
    /// to `Engine::finish_listening`.
    Listen(Box<ListenChange>),
    /// The log's level or file changed.
    Log,
    /// Things stand otherwise now.
    Stand(Standing),
    /// All is done that had to be done before the end: exit with this code.
    Exit(i32),
}
