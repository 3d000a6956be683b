//! What the engine wants done in the world around it.
//!
//! Effects are a closed set, so all ways in which the engine reaches out are visible here. The
//! driver carries them out in order, after the command that left them and before the next one.

use super::ClientId;
use super::cluster::BusErrand;
use super::loading::reload::Reload;
use super::migrate;
use super::replication::LinkOrder;
use super::saving::SaveJob;
use super::sentinel::Errand;
use super::slot_move;
use super::transfer::Transfer;
use crate::command::CommandError;
use crate::config::{Apply, Config, Directive};
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

/// A change of the listening addresses, or of TLS, that waits for the driver.
pub struct ListenChange {
    pub client: ClientId,
    pub directives: Vec<&'static Directive>,
    /// What to go back to.
    pub previous: Box<Config>,
    /// What follows from the directives.
    pub acts: Vec<Apply>,
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
    /// Drop a connection when its output has left.
    CloseWhenSent { client: ClientId },
    /// Run a job; its reply is handed to `Engine::finish_job`.
    Run { client: ClientId, job: Job },
    /// Sync a file on another thread; the outcome goes to `Engine::finish_sync`.
    Sync(SyncRequest),
    /// Run a job that writes files, when those before it have ended; its outcome is handed to
    /// `Engine::finish_save`.
    Save(SaveJob),
    /// Load the dataset anew, for which everybody waits (DEBUG RELOAD, DEBUG LOADAOF); the outcome
    /// goes to `Engine::finish_reload`.
    Reload { client: ClientId, reload: Reload },
    /// What a Sentinel wants done; what comes of it goes to `Engine::tell_sentinel`.
    Sentinel(Errand),
    /// What the cluster wants done on its bus; what comes of it goes to `Engine::tell_cluster`.
    Bus(BusErrand),
    /// Free something big elsewhere.
    Free(Garbage),
    /// The executor itself is to stand still (DEBUG SLEEP).
    Sleep(Duration),
    /// The listening addresses or the settings of TLS changed: open the new ones, then close the
    /// old; the outcome goes to `Engine::finish_listening`.
    Listen(Box<ListenChange>),
    /// Something is to be done with the connection to our primary.
    Link(LinkOrder),
    /// Small packets to this client may wait for more to come, or not.
    Delay { client: ClientId, delays: bool },
    /// Send a snapshot to replicas, on another thread; what becomes of it goes to
    /// `Engine::finish_transfer`.
    Transfer(Box<Transfer>),
    /// Keys are to go to another server; what becomes of it goes to `Engine::finish_migration`.
    Migrate(Box<migrate::Order>),
    /// Something is to be said to another node for a move of slots; what comes of it goes to
    /// `Engine::tell_slot_link`.
    SlotMove(Box<slot_move::Order>),
    /// The log's level or file changed.
    Log,
    /// Things stand otherwise now.
    Stand(Standing),
    /// All is done that had to be done before the end: exit with this code.
    Exit(i32),
}

/// The effects that wait to be carried out, in the order in which that is to be done.
///
/// Who causes an effect knows its place: most stand behind what was caused before; the messages of
/// what is done before a command go in front of its reply ([`Effects::open_front`]), and the reply
/// of a request that has waited goes in front of what it causes ([`Effects::reserve_answer`]). So
/// nobody sorts them afterwards.
#[derive(Default)]
pub struct Effects {
    queue: Vec<Effect>,
    front: Option<Front>,
    message_bytes: u64,
}

/// What a client is told in front of the reply that it is about to get.
struct Front {
    client: ClientId,
    bytes: ReplyBuf,
}

/// The place of an answer that is not known yet.
#[must_use = "an empty answer is sent unless it is filled in or given up"]
pub struct AnswerPlace(usize);

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        match effect {
            Effect::Push { client, bytes } => self.message(client, bytes),
            Effect::Broadcast { clients, bytes } => self.broadcast(clients, bytes),
            other => self.queue.push(other),
        }
    }

    fn message(&mut self, client: ClientId, bytes: ReplyBuf) {
        self.message_bytes += bytes.own_memory() as u64;
        match &mut self.front {
            Some(front) if front.client == client => front.bytes.append(bytes),
            _ => self.queue.push(Effect::Push { client, bytes }),
        }
    }

    fn broadcast(&mut self, mut clients: Vec<ClientId>, bytes: SharedBytes) {
        self.message_bytes += (size_of_val(&clients[..]) + bytes.capacity()) as u64;
        if let Some(front) = &mut self.front {
            let count = clients.len();
            clients.retain(|receiver| *receiver != front.client);
            if clients.len() < count {
                front.bytes.append_shared(&bytes);
            }
        }
        if !clients.is_empty() {
            self.queue.push(Effect::Broadcast { clients, bytes });
        }
    }

    /// From here on, what this client is told goes in front of the reply that it is about to get.
    pub fn open_front(&mut self, client: ClientId) {
        self.front = Some(Front { client, bytes: ReplyBuf::new() });
    }

    /// Writes what has been put in front of the client's reply.
    pub fn close_front(&mut self, out: &mut ReplyBuf) {
        if let Some(front) = self.front.take().filter(|front| !front.bytes.is_empty()) {
            out.append(front.bytes);
        }
    }

    /// Keeps a place for an answer to a client, in front of what making it may cause.
    pub fn reserve_answer(&mut self, client: ClientId) -> AnswerPlace {
        self.queue.push(Effect::Push { client, bytes: ReplyBuf::new() });
        AnswerPlace(self.queue.len() - 1)
    }

    /// The answer for which a place was kept.
    pub fn fill_in(&mut self, AnswerPlace(at): AnswerPlace, bytes: ReplyBuf) {
        if let Effect::Push { bytes: place, .. } = &mut self.queue[at] {
            self.message_bytes += bytes.own_memory() as u64;
            *place = bytes;
        }
    }

    /// There is no answer.
    pub fn give_up(&mut self, AnswerPlace(at): AnswerPlace) {
        self.queue.remove(at);
    }

    /// The memory of all messages so far, sent or not: for differences.
    pub fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes out what stands behind the first `count` effects.
    pub fn take_behind(&mut self, count: usize) -> Vec<Effect> {
        self.queue.split_off(count.min(self.queue.len()))
    }

    /// The effects since the last call, in order.
    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.queue)
    }
}
