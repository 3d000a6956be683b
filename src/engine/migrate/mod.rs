//! MIGRATE: keys that go to another server, while this one goes on.
//!
//! The command notes the entries of its keys as they are and leaves an [`Order`], by which somebody
//! else dials, encodes and talks ([`exchange`]). What the target has acknowledged comes back in a
//! [`Report`], and only then keys are deleted, by one DEL of the write stream. So a target that
//! hangs, or a value of gigabytes, is the matter of the client that asked. Redis stands still
//! meanwhile; clients that see the keys as they were lose nothing by that they may go on to read.
//!
//! Who writes to one of the keys waits until the move is over: the gate looks for their names
//! ([`must_wait`]), whatever the database, since requests may change it on the way. Not everybody
//! can be made to wait: a script may write keys that it has not named, keys expire and are flushed.
//! So nothing relies on it. What is deleted is the very entry that was sent, which nobody can have
//! changed in place while the move holds it; a key that has another one by now is sent again, over
//! the copy that the target has from us.
//!
//! Within a transaction or a script the reply is a part of another one. There the command runs to
//! its end as a [`Program`] that waits: like a long script it holds everybody up, and what is seen
//! is whole.

pub mod exchange;
#[cfg(test)]
mod tests;

use super::core::Core;
use super::gates::Asked;
use super::program::{Failure as Failed, Program, Step};
use super::propagate::Targets;
use super::standstill::Deed;
use super::waiting::Line;
use super::{Caller, ClientId, Cx, Effect, Engine, call, gates};
use crate::command::{Command, CommandError, CommandResult, Flags, KeyFlags, Traits, find_keys};
use crate::config::EventClasses;
use crate::keyspace::Entry;
use crate::persist::rdb::SaveOptions;
use crate::resp::{ReplyBuf, Request};
use crate::structs::pins::{self, Pin};
use exchange::Plan;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// So many moves are under way at a time. Who comes later waits, and holds nothing.
const MOVES_MAX: usize = 64;

/// A key that has changed while it was sent is sent again so often.
const SENDS_MAX: u32 = 4;

/// As whom the target is to know us.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    pub user: Option<Box<[u8]>>,
    pub password: Box<[u8]>,
}

/// Where keys go.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub host: Box<str>,
    /// As the client has named it.
    pub port: Box<str>,
    pub auth: Option<Auth>,
    pub is_secure: bool,
}

/// What MIGRATE asks for.
pub struct Wish {
    pub target: Target,
    pub db: i64,
    /// The longest time in which nothing may get on.
    pub timeout: Duration,
    pub copies: bool,
    pub replaces: bool,
}

/// What is to be said to whom. What becomes of it is told by a [`Report`].
pub struct Order {
    pub number: u64,
    pub target: Target,
    pub timeout: Duration,
    pub plan: Plan,
}

/// Why a move did not come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    Connecting,
    Writing,
    Reading,
    /// The target has answered an error.
    Refused(Box<[u8]>),
    NoMemory,
}

/// What has become of an order.
pub struct Report {
    pub number: u64,
    /// Which of the keys the target has by it.
    pub acked: Vec<bool>,
    pub failure: Option<Failure>,
}

impl Order {
    /// What is to be told of it if nothing was done.
    pub fn failed(&self, failure: Failure) -> Report {
        let Order { number, plan, .. } = self;
        let acked = vec![false; plan.entries.len()];
        Report { number: *number, acked, failure: Some(failure) }
    }
}

impl Failure {
    fn into_error(self) -> CommandError {
        let failed = |doing| {
            let text = format!("IOERR error or timeout {doing} to target instance");
            CommandError::Text(text.into_boxed_str())
        };
        match self {
            // Redis's words, which mean the server.
            Failure::Connecting => {
                CommandError::Fixed("IOERR error or timeout connecting to the client")
            }
            Failure::Writing => failed("writing"),
            Failure::Reading => failed("reading"),
            Failure::Refused(text) => {
                let text = [b"ERR Target instance replied with error: ", &*text].concat();
                CommandError::Bytes(text.into_boxed_slice())
            }
            Failure::NoMemory => CommandError::NoMemory,
        }
    }
}

/// A move that is under way.
struct Move {
    /// Who waits for it; nobody, if it is a part of something that waits by itself.
    client: Option<ClientId>,
    /// What waits for it by itself, as long as that lives.
    program: Weak<()>,
    /// Where the keys are.
    db: usize,
    entries: Vec<Entry>,
    /// What goes meanwhile stays in memory until this goes.
    _pin: Pin,
    wish: Wish,
    sends: u32,
    /// What the first thing was that went wrong.
    failure: Option<CommandError>,
}

#[derive(Default)]
pub struct Moves {
    under_way: BTreeMap<u64, Move>,
    /// The names of their keys, with how many moves have each.
    held: BTreeMap<Box<[u8]>, u32>,
    /// What has come back and was not looked at yet.
    reports: BTreeMap<u64, Report>,
    last_number: u64,
    /// Connections that are kept for the next move.
    pub cached_sockets: Arc<AtomicUsize>,
}

impl Moves {
    #[inline]
    pub fn are_none(&self) -> bool {
        self.under_way.is_empty()
    }

    fn hold(&mut self, entries: &[Entry]) {
        for entry in entries {
            *self.held.entry(entry.key().into()).or_default() += 1;
        }
    }

    fn release(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Some(count) = self.held.get_mut(entry.key()) else { continue };
            *count -= 1;
            if *count == 0 {
                self.held.remove(entry.key());
            }
        }
    }

    /// A report that nothing waits for by itself.
    fn take_report(&mut self) -> Option<Report> {
        let has_program = |number: &u64| {
            let moving = self.under_way.get(number);
            moving.is_some_and(|moving| moving.program.strong_count() > 0)
        };
        let number = *self.reports.keys().find(|number| !has_program(number))?;
        self.reports.remove(&number)
    }

    /// An order is not to be carried out.
    pub(super) fn refuse(&mut self, order: &Order) {
        self.reports.insert(order.number, order.failed(Failure::Connecting));
    }
}

/// Whether a request waits until a move is over.
pub(super) fn must_wait(cx: &Cx<'_>, asked: &Asked<'_>, flags: Flags) -> bool {
    let moves = &cx.server.moves;
    if asked.command.traits.has(Traits::MOVES_KEYS) && moves.under_way.len() >= MOVES_MAX {
        return true;
    }
    let is_held = |command: &Command, request: &Request<'_>| {
        let found = find_keys(command, request);
        found.is_some_and(|found| {
            let mut written = found.keys().filter(|key| !key.flags.has(KeyFlags::RO));
            written.any(|key| moves.held.contains_key(request.arg(key.index)))
        })
    };
    if !flags.intersects(Flags::WRITE.or(Flags::MAY_REPLICATE)) {
        return false;
    }
    let queued = cx.session().transaction.as_ref().map(|transaction| transaction.queued());
    let mut queued =
        queued.filter(|_| asked.command.traits.has(Traits::RUNS_THE_QUEUE)).into_iter();
    is_held(asked.command, &asked.request)
        || queued.any(|queued| {
            queued.iter().any(|queued| {
                let command = cx.server.table.row(queued.id).command;
                !command.flags.has(Flags::READONLY)
                    && is_held(command, &queued.request.as_request())
            })
        })
}

/// Has the entries of keys sent to another server; the reply is that of MIGRATE.
pub fn begin(cx: &mut Cx<'_>, entries: Vec<Entry>, wish: Wish) -> CommandResult {
    let waits = cx.caller.may_answer_late();
    if !waits && !matches!(cx.caller, Caller::Exec | Caller::Script) {
        return Err(CommandError::Fixed("ERR keys cannot be moved by what is replayed"));
    }
    let alive = Arc::new(());
    let moving = Move {
        client: waits.then_some(cx.client),
        program: if waits { Weak::new() } else { Arc::downgrade(&alive) },
        db: cx.keys.db,
        entries,
        _pin: pins::hold(),
        wish,
        sends: 0,
        failure: None,
    };
    let number = cx.core().begin_move(moving);
    if waits {
        cx.wait_for_answer();
    } else {
        cx.go_on_with(Moving { number, _alive: alive });
    }
    Ok(())
}

impl Core<'_> {
    fn begin_move(&mut self, moving: Move) -> u64 {
        let moves = &mut self.server.moves;
        moves.last_number += 1;
        let number = moves.last_number;
        moves.hold(&moving.entries);
        self.send(number, moving);
        number
    }

    fn send(&mut self, number: u64, mut moving: Move) {
        let SaveOptions { version, compresses, .. } =
            SaveOptions::of(&self.server.config, &self.space.access);
        let plan = Plan {
            auth: moving.wish.target.auth.clone(),
            db: moving.wish.db,
            entries: moving.entries.clone(),
            // What it has of what is sent again it has from us.
            replaces: moving.wish.replaces || moving.sends > 0,
            is_asking: self.space.secret().is_of_cluster(),
            version,
            compresses,
            now_ms: self.space.now_ms,
        };
        let (target, timeout) = (moving.wish.target.clone(), moving.wish.timeout);
        moving.sends += 1;
        self.server.moves.under_way.insert(number, moving);
        let order = Order { number, target, timeout, plan };
        self.server.effects.push(Effect::Migrate(Box::new(order)));
    }

    /// Deletes what the target has. The outcome of the move, unless it goes on with keys that have
    /// changed, or is unknown.
    fn settle_move(&mut self, report: Report) -> Option<Settled> {
        let number = report.number;
        let mut moving = self.server.moves.under_way.remove(&number)?;
        if let Some(failure) = report.failure {
            moving.failure.get_or_insert(failure.into_error());
        }
        let mut settled = Settled { client: moving.client, deleted: Vec::new(), result: Ok(()) };
        let mut changed = Vec::new();
        let entries = std::mem::take(&mut moving.entries);
        if self.server.is_read_only_replica() {
            // What becomes of the keys is its primary's to say now.
            moving.failure.get_or_insert(gates::IS_REPLICA);
        } else if !moving.wish.copies {
            let acked = entries.iter().zip(&report.acked).filter(|(_, acked)| **acked);
            for (entry, _) in acked {
                match self.delete_moved(moving.db, entry) {
                    Gone::Deleted => settled.deleted.push(entry.key().into()),
                    Gone::Before => {}
                    Gone::Changed(now) => changed.push(now),
                }
            }
        }
        if moving.failure.is_none() && !changed.is_empty() {
            if moving.sends < SENDS_MAX {
                self.server.moves.hold(&changed);
                self.release_moved(entries);
                moving.entries = changed;
                self.propagate_moved(moving.db, &settled.deleted);
                self.send(number, moving);
                return None;
            }
            moving.failure = Some(CommandError::Fixed(
                "ERR A key has changed again and again while it was migrated",
            ));
        }
        self.release_moved(entries);
        self.propagate_moved(moving.db, &settled.deleted);
        settled.result = moving.failure.map_or(Ok(()), Err);
        self.server.wake_line(self.clients, Line::Move);
        Some(settled)
    }

    /// Deletes a key if its entry is the one that was sent.
    fn delete_moved(&mut self, db: usize, entry: &Entry) -> Gone {
        let key = self.space.key(entry.key());
        match self.space.db(db).get(&key) {
            None => Gone::Before,
            Some(now) if !now.is_same(entry) => Gone::Changed(now.clone()),
            Some(_) => {
                let mut keys = self.space.keys(db);
                if !keys.delete(&key) {
                    // Its time has come, of which everybody is told otherwise.
                    return Gone::Before;
                }
                keys.changed(&key, EventClasses::GENERIC, "del");
                Gone::Deleted
            }
        }
    }

    /// These keys are held no more. What was kept of them may be the last that is left, and large.
    fn release_moved(&mut self, entries: Vec<Entry>) {
        self.server.moves.release(&entries);
        entries.into_iter().for_each(|entry| self.space.changes.discard(entry));
    }

    /// Tells those who replay what we write that keys are gone.
    fn propagate_moved(&mut self, db: usize, deleted: &[Box<[u8]>]) {
        if deleted.is_empty() {
            return;
        }
        let keys = deleted.iter().map(|key| &**key);
        let words: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain(keys).collect();
        self.server.propagation.replace(db, &words);
    }
}

/// What has become of a key that was to be deleted.
enum Gone {
    Deleted,
    /// It was gone already.
    Before,
    /// It has another entry now.
    Changed(Entry),
}

/// A move that is over.
struct Settled {
    client: Option<ClientId>,
    deleted: Vec<Box<[u8]>>,
    result: CommandResult,
}

impl Engine {
    /// An order has been carried out, or could not be.
    pub fn finish_migration(&mut self, report: Report) {
        self.server.moves.reports.insert(report.number, report);
        self.settle_moves();
    }

    /// The count of connections that are kept, for whoever keeps them.
    pub fn cached_sockets(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.server.moves.cached_sockets)
    }

    /// Looks at what has come back, unless the data is to stay as it is.
    pub(super) fn settle_moves(&mut self) {
        while !self.server.moves.reports.is_empty() && self.server.may(Deed::Move) {
            let Some(report) = self.server.moves.take_report() else { return };
            self.settle_one(report);
        }
    }

    fn settle_one(&mut self, report: Report) {
        let start = self.server.propagation.position();
        self.server.propagation.aim_at(Targets::ALL);
        let settled = self.core().settle_move(report);
        let client = settled.as_ref().and_then(|settled| settled.client);
        // The answer goes in front of what those are told who wait for the keys, or cache them.
        let place = client.map(|client| self.server.effects.reserve_answer(client));
        call::settle(&mut self.keyspace, &mut self.clients, &mut self.server, client);
        self.server.propagation.finish(0, false, [].into_iter());
        self.server.propagation.wrap_transaction(start);
        if let (Some(client), Some(place), Some(settled)) = (client, place, settled) {
            self.note_written(client, &settled.deleted);
            let bytes = self.outcome_for(client, settled.result);
            self.answer_late(client, place, bytes);
        }
        if self.keyspace.changes.has_offers() {
            self.serve_waits();
        }
    }

    fn note_written(&mut self, client: ClientId, deleted: &[Box<[u8]>]) {
        let written = self.server.written_now();
        if let Some(session) = self.clients.get_mut(client).filter(|_| !deleted.is_empty()) {
            session.written = written;
        }
    }

    fn outcome_for(&mut self, client: ClientId, result: CommandResult) -> ReplyBuf {
        if let Err(error) = result {
            return self.refusal(client, &error);
        }
        let mut bytes = ReplyBuf::new();
        if let Some(session) = self.clients.get(client) {
            bytes.writer(session.protocol).ok();
        }
        bytes
    }
}

/// MIGRATE as a part of a transaction or a script.
struct Moving {
    number: u64,
    _alive: Arc<()>,
}

impl Program for Moving {
    fn caller(&self) -> Caller {
        unreachable!("it has nothing run")
    }

    fn stands(&self, server: &super::Server) -> bool {
        !server.moves.reports.contains_key(&self.number)
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Step {
        let Some(report) = cx.server.moves.reports.remove(&self.number) else { return Step::Yield };
        match cx.core().settle_move(report) {
            None => Step::Yield,
            Some(Settled { result: Err(error), .. }) => Step::Done(Err(Failed::from(error))),
            Some(_) => {
                cx.reply.ok();
                Step::Done(Ok(()))
            }
        }
    }

    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf) {
        unreachable!("it has nothing run")
    }
}
