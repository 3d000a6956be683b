//! Commands that wait for a key: who waits, for how long, and who is served when the key comes.
//!
//! A command that finds nothing keeps its request with the session and stands in line at each of
//! its keys. When a key of the kind that it waits for appears, the dispatcher runs the request
//! again, as if the client had sent it now: so a served command and one that did not have to wait
//! are the same code, and what is taken out of a list goes into the client's output in the same
//! breath. To hand the value over beside the handler was refused, since every blocking command
//! would then exist twice. Served first is who came first at the key; a client whose second try
//! finds nothing keeps its place.

use super::clients_by_key::ClientsByKey;
use super::session::Suspension;
use super::standstill::Deed;
use super::{Caller, ClientId, Clients, Cx, Effect, Engine, dispatch};
use crate::command::{Args, CommandError, CommandId, Hashed};
use crate::keyspace::Key;
use crate::resp::{OwnedRequest, ReplyBuf};
use crate::structs::long_double::LongDouble;
use crate::types::Kind;
use std::collections::BTreeSet;

/// What one client waits for.
pub struct Wait {
    id: CommandId,
    request: OwnedRequest,
    db: usize,
    keys: Vec<Box<[u8]>>,
    awaited: Awaited,
    /// On the monotonic clock; `None` waits for ever.
    deadline_ms: Option<u64>,
}

/// What a client waits for at its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// A value of this kind.
    Value(Kind),
    /// The same, or that a value of this kind is there no more.
    Change(Kind),
}

impl Awaited {
    fn fits(self, found: Option<Kind>) -> bool {
        match self {
            Awaited::Value(kind) => found == Some(kind),
            Awaited::Change(_) => true,
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Awaited::Change(_))
    }
}

/// Who waits for which key, and until when.
#[derive(Default)]
pub struct WaitTable {
    lines: ClientsByKey,
    deadlines: BTreeSet<(u64, ClientId)>,
    clients: usize,
    /// Those of them who also wait for values to go.
    for_changes: ClientsByKey,
}

impl WaitTable {
    /// The number of waiting clients.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The number of keys somebody waits for.
    pub fn keys(&self) -> usize {
        self.lines.len()
    }

    /// The number of keys that somebody waits to see go.
    pub fn keys_watched_for_absence(&self) -> usize {
        self.for_changes.len()
    }

    /// The number of clients who do not wait for ever.
    pub fn timeouts(&self) -> usize {
        self.deadlines.len()
    }

    /// When, on the monotonic clock, the first of them has waited long enough.
    pub fn earliest_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(at_ms, _)| *at_ms)
    }

    fn add(&mut self, client: ClientId, wait: &Wait) {
        for key in &wait.keys {
            self.lines.add(wait.db, key, client);
            if wait.awaited.is_change() {
                self.for_changes.add(wait.db, key, client);
            }
        }
        self.deadlines.extend(wait.deadline_ms.map(|at_ms| (at_ms, client)));
        self.clients += 1;
    }

    fn remove(&mut self, client: ClientId, wait: &Wait) {
        for key in &wait.keys {
            self.lines.remove(wait.db, key, client);
            if wait.awaited.is_change() {
                self.for_changes.remove(wait.db, key, client);
            }
        }
        if let Some(at_ms) = wait.deadline_ms {
            self.deadlines.remove(&(at_ms, client));
        }
        self.clients -= 1;
    }
}

/// A client is gone or is sure to go: nothing is to be taken out of a key for it.
pub fn forget_wait(clients: &mut Clients, waits: &mut WaitTable, client: ClientId) {
    if let Some(wait) = clients.get_mut(client).and_then(|session| session.wait.take()) {
        waits.remove(client, &wait);
    }
}

/// How a client that waits is sent on its way without what it waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// As if its time were over.
    TimedOut,
    /// With an error that says that somebody else wanted it so.
    Unblocked,
}

/// Reads a timeout in seconds, with fractions, as milliseconds rounded up; 0 waits for ever.
pub fn timeout_ms(cx: &Cx<'_>, args: &mut Args<'_>) -> u64 {
    let out_of_range = CommandError::Fixed("ERR timeout is out of range");
    let read = |text: &[u8]| {
        let not_a_number = CommandError::Fixed("ERR timeout is not a float or out of range");
        let ms = LongDouble::parse(text).ok_or(not_a_number)?.scaled_up(1000);
        let negative = CommandError::Fixed("ERR timeout is negative");
        let ms = u64::try_from(ms).map_err(|_| negative)?;
        let ms_max = i64::MAX as u64 - cx.server.clock.unix_ms();
        if ms > ms_max { Err(out_of_range) } else { Ok(ms) }
    };
    let text = args.bytes();
    read(text).unwrap_or_else(|error| {
        args.fail(error);
        0
    })
}

impl Cx<'_> {
    /// Has the client wait until one of these keys holds a value of this kind; then its request
    /// runs again. One that cannot be answered later is answered as if its time were over.
    pub fn wait_for(&mut self, args: &Args<'_>, keys: &[Key<'_>], kind: Kind, timeout_ms: u64) {
        let request = || OwnedRequest::new(&args.request());
        self.wait_with(request, keys, Awaited::Value(kind), timeout_ms);
    }

    /// The same with the request that is to run then, and what else may end the wait.
    pub fn wait_with(
        &mut self,
        request: impl FnOnce() -> OwnedRequest,
        keys: &[Key<'_>],
        awaited: Awaited,
        timeout_ms: u64,
    ) {
        if !self.caller.may_answer_late() {
            self.reply.null_array();
            return;
        }
        self.session_mut().suspension = Some(Suspension::Blocked);
        if self.caller == Caller::Retry {
            return;
        }
        let mut distinct: Vec<Box<[u8]>> = Vec::new();
        for key in keys {
            if !distinct.iter().any(|known| **known == *key.bytes) {
                distinct.push(key.bytes.into());
            }
        }
        let deadline_ms = (timeout_ms > 0).then(|| self.server.clock.mono_ms() + timeout_ms);
        let wait = Wait {
            id: self.session().last_command.expect("a command is running"),
            request: request(),
            db: self.keys.db,
            keys: distinct,
            awaited,
            deadline_ms,
        };
        let earliest_ms = self.server.waits.earliest_deadline_ms();
        self.server.waits.add(self.client, &wait);
        self.session_mut().wait = Some(Box::new(wait));
        self.keys.space().changes.observers.awaited_keys = true;
        if deadline_ms.is_some_and(|at_ms| earliest_ms.is_none_or(|other| at_ms < other)) {
            self.effect(Effect::WakeTimer);
        }
    }

    /// Marks the keys somebody waits for in a database whose content has been exchanged.
    pub fn offer_awaited_keys(&mut self, db: usize) {
        for key in self.server.waits.lines.keys_in(db) {
            self.keys.space().changes.offer(db, &key);
        }
    }

    /// Ends a client's wait for a key; false if it does not wait.
    pub fn release(&mut self, client: ClientId, how: Release) -> bool {
        let Some(session) = self.clients.get_mut(client) else { return false };
        let Some(wait) = session.wait.take() else { return false };
        let protocol = session.protocol;
        session.suspension = None;
        let silenced = std::mem::take(&mut session.drops_late_reply);
        self.server.waits.remove(client, &wait);
        let mut bytes = ReplyBuf::new();
        match how {
            Release::TimedOut => bytes.writer(protocol).null_array(),
            Release::Unblocked => {
                let text = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";
                self.server.stats.error(text);
                bytes.writer(protocol).error(text);
            }
        }
        self.server.stats.called(wait.id, 0, how == Release::Unblocked);
        if !silenced {
            self.effect(Effect::Push { client, bytes });
        }
        self.effect(Effect::Wake { client });
        true
    }
}

impl Engine {
    /// Sends on their way those who have waited long enough; the driver calls it when
    /// [`WaitTable::earliest_deadline_ms`] has come.
    pub fn end_waits(&mut self) {
        let mono_ms = self.server.clock.mono_ms();
        while let Some(&(at_ms, client)) = self.server.waits.deadlines.first() {
            if at_ms > mono_ms {
                return;
            }
            let mut nothing = ReplyBuf::new();
            Cx::new(self, client, Caller::Client, &mut nothing).release(client, Release::TimedOut);
        }
    }

    /// Serves those who wait for the keys that have come. Who is served may bring other keys.
    /// When nobody may be served the keys stay on offer.
    pub fn serve_waits(&mut self) {
        if !self.server.may(Deed::Serve) {
            return;
        }
        while let Some(key) = self.keyspace.changes.take_offered() {
            self.serve_line(key.db, &key.key);
        }
        self.keyspace.changes.observers.awaited_keys = self.server.waits.clients > 0;
    }

    /// Serves the clients in line at a key as long as it lasts.
    fn serve_line(&mut self, db: usize, key: &[u8]) {
        let key = self.keyspace.key(key);
        let mut place = 0;
        for _ in 0..self.server.waits.lines.count_at(db, key.bytes) {
            let Some(client) = self.server.waits.lines.nth(db, key.bytes, place) else { return };
            let kind = self.keyspace.keys(db).peek(&key).map(|entry| entry.kind());
            if kind.is_none() && self.server.waits.for_changes.is_empty() {
                return;
            }
            let wait = self.clients.get(client).and_then(|session| session.wait.as_ref());
            let fits = wait.is_some_and(|wait| wait.awaited.fits(kind));
            if !(fits && self.retry(client)) {
                place += 1;
            }
        }
    }

    /// Runs a waiting client's request again; false if it still finds nothing.
    fn retry(&mut self, client: ClientId) -> bool {
        let Some(session) = self.clients.get_mut(client) else { return false };
        let Some(wait) = session.wait.take() else { return false };
        session.suspension = None;
        let mut reply = ReplyBuf::new();
        let mut cx = Cx::new(self, client, Caller::Retry, &mut reply);
        let command = cx.server.table.row(wait.id).command;
        let before = cx.server.effects.len();
        dispatch::call(&mut cx, wait.id, command, wait.request.as_request(), Hashed::default());
        let session = cx.session_mut();
        if session.suspension == Some(Suspension::Blocked) {
            session.wait = Some(wait);
            return false;
        }
        self.server.waits.remove(client, &wait);
        // What the command caused stands behind its reply.
        let caused = self.server.effects.split_off(before);
        self.answer_late(client, reply);
        self.server.effects.extend(caused);
        true
    }
}

/// The keys of the arguments up to the last one that is read as something else.
pub fn keys_before_last<'a>(args: &mut Args<'a>) -> Vec<Key<'a>> {
    let mut keys = Vec::with_capacity(args.remaining().saturating_sub(1));
    while args.remaining() > 1 {
        keys.push(args.key());
    }
    keys
}
