//! Slots that go from node to node whole (CLUSTER MIGRATESLOTS, CLUSTER MIGRATION), and those that
//! have gone.
//!
//! The source dials the target and speaks CLUSTER SLOTMOVE, which is Rufous's own
//! (docs/formats.md). What it does step by step is decided by a machine
//! ([`crate::cluster::moves`]). `export.rs` carries that out: it keeps the keys as they are, has
//! the driver send them (`pour.rs`), cuts out of the write stream what is the slots' (`share.rs`),
//! and has writes wait in the end. `import.rs` is the target: keys lie aside
//! ([`crate::keyspace::Staging`]), where `apply.rs` works on them, until the cluster's machine
//! takes the slots. `left.rs` tells replicas and the AOF of keys that have gone.
//!
//! One move leaves a node at a time, and one comes; others wait. What a target takes in goes down
//! its own stream in the words in which it came, so its replicas and its AOF have the same aside,
//! and whoever takes over from it, or comes back, goes on by the table: the keys are its own if the
//! slots are, and else they are dropped.

mod apply;
mod export;
mod import;
mod left;
mod pour;
mod share;
#[cfg(test)]
mod tests;

use super::migrate::{Auth, Target};
use super::replication::own_account;
use super::standstill::Deed;
use super::{ClientId, Core, Cx, Engine, Server};
use crate::cluster::id::NodeId;
use crate::cluster::moves::{Bounds, Export};
use crate::cluster::slot_set::{SlotBits, SlotSet};
use crate::command::CommandError;
use crate::keyspace::slot::Slot;
use bytes::Bytes;
use left::Left;
use std::time::Duration;

pub use import::{ImportState, Wish};
pub use pour::Pour;

/// So many moves that are over are kept to be shown.
const LOG_MAX: usize = 1000;

/// What a target answers that may take the slots later.
pub const BUSY: &str = "TRYAGAIN Another move of slots is under way here";

/// A connection to another node, for a move. Numbers are not used twice.
pub type LinkId = u64;

/// What was said on a connection; the answers come in the same order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    Auth,
    Offer,
    /// What was written, up to here.
    Piece(u64),
    Take,
    /// A source is to send slots, is asked how far it is, or is to end that.
    Want,
    Ask,
    Forget,
}

/// What the driver is to do about a connection; what becomes of it goes to
/// [`Engine::tell_slot_link`].
pub enum Order {
    Open {
        link: LinkId,
        target: Target,
        timeout: Duration,
    },
    /// One request.
    Say {
        link: LinkId,
        what: Said,
        bytes: Bytes,
    },
    /// All keys of slots, from another thread, in requests of the move.
    Pour {
        link: LinkId,
        pour: Box<Pour>,
    },
    Close(LinkId),
}

/// What has become of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    Connected,
    Answered(Said, Result<Box<str>, Box<str>>),
    /// All keys have been sent and acknowledged.
    Poured,
    /// It is no more, for this reason.
    Closed(Box<str>),
}

/// When what was, by the wall clock, as tools are shown it; 0 if it has not been yet.
pub struct Times {
    pub created_ms: u64,
    pub updated_ms: u64,
    pub acked_ms: u64,
    pub ended_ms: u64,
}

/// A move that leaves, with its connection.
pub struct ExportJob {
    pub id: NodeId,
    pub export: Export,
    /// Its slots.
    set: SlotSet,
    pub times: Times,
    link: Option<LinkId>,
}

/// A move that comes.
pub struct ImportJob {
    pub id: NodeId,
    pub source: NodeId,
    pub slots: Vec<Slot>,
    pub state: ImportState,
    pub message: String,
    pub times: Times,
    /// The source's client, as long as it is one.
    client: Option<ClientId>,
    /// Our connection to the source, if we have asked for the move.
    link: Option<LinkId>,
    /// When the source answered last, by the clock that measures.
    answered_ms: u64,
    /// When it was last asked how far it is.
    asked_ms: u64,
    /// Until when the slots may be taken.
    taken_until_ms: u64,
    /// The source's epoch then.
    owners_epoch: u64,
}

#[derive(Default)]
pub struct SlotMoves {
    pub exports: Vec<ExportJob>,
    pub imports: Vec<ImportJob>,
    last_link: LinkId,
    /// The slots whose writes wait, if any do.
    paused: Option<SlotSet>,
    /// Writes are recorded for a move.
    records: bool,
    /// How many moves are not over: most servers have none, and look no further.
    open: usize,
    left: Left,
}

impl SlotMoves {
    /// Whether writes to some slots wait.
    #[inline]
    pub fn are_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub fn paused_slots(&self) -> Option<SlotBits<'_>> {
        self.paused.as_ref().map(SlotSet::bits)
    }

    /// Whether somebody reads what is written.
    pub fn records(&self) -> bool {
        self.records
    }

    fn number_link(&mut self) -> LinkId {
        self.last_link += 1;
        self.last_link
    }

    /// The place of the move that is under way.
    fn active_export(&self) -> Option<usize> {
        self.exports.iter().position(|job| job.export.state.is_under_way())
    }

    fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Forgets the oldest that are over.
    fn trim(&mut self) {
        while self.exports.len() > LOG_MAX {
            let Some(at) = self.exports.iter().position(|job| job.export.state.is_over()) else {
                return;
            };
            self.exports.remove(at);
        }
        while self.imports.len() > LOG_MAX {
            let Some(at) = self.imports.iter().position(|job| job.state.is_over()) else { return };
            self.imports.remove(at);
        }
    }
}

impl ImportJob {
    fn new(wish: Wish, state: ImportState, now_ms: u64, unix_ms: u64) -> ImportJob {
        let Wish { id, source, slots } = wish;
        ImportJob {
            id,
            source,
            slots,
            state,
            message: String::new(),
            times: Times::begin(unix_ms),
            client: None,
            link: None,
            answered_ms: now_ms,
            asked_ms: now_ms,
            taken_until_ms: 0,
            owners_epoch: 0,
        }
    }
}

impl Times {
    fn begin(unix_ms: u64) -> Times {
        Times { created_ms: unix_ms, updated_ms: unix_ms, acked_ms: 0, ended_ms: 0 }
    }
}

/// Why slots cannot be asked for together.
fn error(text: impl std::fmt::Display) -> CommandError {
    CommandError::err(format_args!("{text}"))
}

/// The first and last numbers of runs of slots.
pub fn runs(slots: &[Slot]) -> Vec<(Slot, Slot)> {
    slots.iter().copied().collect::<SlotSet>().bits().runs()
}

impl Server {
    fn move_bounds(&self) -> Bounds {
        Bounds {
            pause_ms: self.config.cluster_slot_migration_write_pause_timeout,
            lag_bytes: self.config.cluster_slot_migration_handoff_max_lag_bytes,
            claim_ms: self.config.cluster_node_timeout,
        }
    }

    /// How another node is reached, if its address is known.
    fn way_to(&self, node: NodeId) -> Option<Target> {
        let table = self.cluster.as_deref()?.machine.table();
        let place = table.node(table.find(node)?).place();
        let is_secure = self.config.tls_replication;
        let port = place.client_port(is_secure);
        let is_known = !place.ip.is_empty() && port != 0;
        let host = place.ip.as_str().into();
        let auth = own_account(&self.config).map(|(user, password)| Auth {
            user: user.map(|user| user.as_bytes().into()),
            password: password.as_bytes().into(),
        });
        is_known.then(|| Target { host, port: port.to_string().into(), auth, is_secure })
    }

    fn own_id(&self) -> Option<NodeId> {
        self.cluster.as_deref().map(|member| member.machine.table().myself().id())
    }
}

impl Engine {
    /// What a turn has brought for moves.
    pub(super) fn drive_slot_moves(&mut self) {
        if !self.server.slot_moves.left.is_empty() {
            self.core().tell_of_left_slots();
        }
        if !self.server.slot_moves.is_idle() {
            self.core().drive_export();
        }
    }

    /// Time has passed.
    pub(super) fn tick_slot_moves(&mut self) {
        if !self.server.slot_moves.is_idle() {
            self.core().tick_export();
            self.core().tick_imports();
        }
    }

    /// Something has become of a connection for a move.
    pub fn tell_slot_link(&mut self, link: LinkId, news: News) {
        self.core().hear_slot_link(link, news);
    }

    /// Whether there is more to tell of slots that have gone, and it may be told.
    pub fn has_left_slots(&self) -> bool {
        !self.server.slot_moves.left.is_empty() && self.server.may(Deed::Move)
    }
}

impl Cx<'_> {
    /// A name for a move.
    pub fn fresh_move_id(&mut self) -> NodeId {
        let mut draw = || self.server.prng.next_u64() as u8;
        NodeId::from_random(std::array::from_fn(|_| draw()))
    }
}

impl Core<'_> {
    fn hear_slot_link(&mut self, link: LinkId, news: News) {
        let moves = &self.server.slot_moves;
        if let Some(at) = moves.exports.iter().position(|job| job.link == Some(link)) {
            self.hear_target(at, news);
        } else if let Some(at) = moves.imports.iter().position(|job| job.link == Some(link)) {
            self.hear_source(at, news);
        }
    }

    /// Who has which slot has changed, or who is whose primary.
    pub fn follow_slot_moves(&mut self) {
        self.tell_of_slots_that_came_back();
        if self.server.is_replica() && self.is_staging_ours() {
            // The bus has told sooner than the stream that the slots are our primary's.
            self.merge_staging();
        }
        if !self.server.slot_moves.is_idle() {
            self.follow_export();
            self.follow_imports();
        }
    }
}
