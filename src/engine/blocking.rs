//! Commands that wait for a key: how a wait begins, and who is served when the key comes.
//!
//! A command that finds nothing keeps its request with the session and stands in line at each of
//! its keys. When a key of the kind that it waits for appears, the dispatcher runs the request
//! again, as if the client had sent it now: so a served command and one that did not have to wait
//! are the same code, and what is taken out of a list goes into the client's output in the same
//! breath. To hand the value over beside the handler was refused, since every blocking command
//! would then exist twice. Served first is who came first at the key; a client whose second try
//! finds nothing keeps its place.

use super::dispatch::Passage;
use super::gates::Asked;
use super::session::Asking;
use super::standstill::Deed;
use super::waiting::{Awaited, KeyWait, Reason, Wait};
use super::{Caller, ClientId, Cx, Engine, Server, dispatch};
use crate::command::{Args, CommandError, Hashed};
use crate::keyspace::{Key, Keyspace};
use crate::resp::{OwnedRequest, ReplyBuf};
use crate::structs::long_double::LongDouble;
use crate::types::Kind;

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
        self.is_blocked = true;
        // A second try leaves the wait as it is: with it go the place in line and the deadline.
        if self.caller == Caller::Retry {
            return;
        }
        // A key that is named twice is one place in line. Few keys are named, so looking through
        // them is cheaper than a set.
        let mut distinct: Vec<Box<[u8]>> = Vec::new();
        for key in keys {
            if !distinct.iter().any(|known| **known == *key.bytes) {
                distinct.push(key.bytes.into());
            }
        }
        let wait = KeyWait {
            id: self.session().last_command.expect("a command is running"),
            request: request(),
            db: self.keys.db,
            keys: distinct,
            awaited,
            asking: self.session().asking,
        };
        let deadline_ms = (timeout_ms > 0).then(|| self.server.clock.mono_ms() + timeout_ms);
        self.wait(Wait::until(Reason::Key(wait), deadline_ms, |cx| cx.reply.null_array()));
        self.keys.space().changes.observers.awaited_keys = true;
    }

    /// The same as [`Server::offer_awaited_keys`].
    pub fn offer_awaited_keys(&mut self, db: usize) {
        self.server.offer_awaited_keys(self.keys.space(), db);
    }
}

impl Server {
    /// Marks the keys somebody waits for in a database whose content has been exchanged.
    pub(super) fn offer_awaited_keys(&self, space: &mut Keyspace, db: usize) {
        for key in self.waiting.at_key().keys_in(db) {
            space.changes.offer(db, &key);
        }
    }
}

impl Engine {
    /// Serves those who wait for the keys that have come. Who is served may bring other keys.
    /// When nobody may be served the keys stay on offer.
    pub fn serve_waits(&mut self) {
        if !self.server.may(Deed::Serve) {
            return;
        }
        while let Some(key) = self.keyspace.changes.take_offered() {
            self.serve_line(key.db, &key.key);
        }
        self.keyspace.changes.observers.awaited_keys = self.server.waiting.keys() > 0;
    }

    /// Serves the clients in line at a key as long as it lasts.
    fn serve_line(&mut self, db: usize, key: &[u8]) {
        let key = self.keyspace.key(key);
        let mut place = 0;
        // Each is tried once for one arrival: who finds nothing keeps its place and is passed by.
        for _ in 0..self.server.waiting.at_key().count_at(db, key.bytes) {
            let Some(client) = self.server.waiting.at_key().nth(db, key.bytes, place) else {
                return;
            };
            let kind = self.keyspace.kind_in(db, &key);
            // The key is used up: nobody is left to serve but who waits to hear that it is gone.
            if kind.is_none() && self.server.waiting.keys_watched_for_absence() == 0 {
                return;
            }
            let wait = self.clients.get(client).and_then(|session| session.wait.as_ref()?.key());
            let fits = wait.is_some_and(|wait| wait.awaited.fits(kind));
            if !(fits && self.retry(client)) {
                place += 1;
            }
        }
    }

    /// Runs a waiting client's request again; false if it still finds nothing. One that the gates
    /// refuse now has ended by that.
    fn retry(&mut self, client: ClientId) -> bool {
        let Some(session) = self.clients.get_mut(client) else { return false };
        // It stays on the room's lists until it is known that it waits no more.
        let Some(wait) = session.wait.take() else { return false };
        let Some(key) = wait.key() else { return false };
        session.asking = key.asking;
        let mut reply = ReplyBuf::new();
        let mut cx = Cx::new(self, client, Caller::Retry, &mut reply);
        let command = cx.server.table.row(key.id).command;
        let (request, hashed) = (key.request.as_request(), Hashed::default());
        // What the command brings about, as messages to trackers, stands behind its reply, which
        // is not there yet: its place among the effects is kept.
        let place = cx.server.effects.reserve_answer(client);
        cx.server.begin_usage(&request, None);
        let asked = Asked { id: key.id, command, request, hashed };
        if let Passage::Frame(frame) = dispatch::pass_gates(&mut cx, &asked) {
            frame.finish(&mut cx, &request);
        }
        cx.session_mut().asking = Asking::No;
        if cx.is_blocked {
            cx.server.give_up_usage();
            cx.session_mut().wait = Some(wait);
            // Keys may have gone to make room, of which the client was to be told.
            match reply.is_empty() {
                true => self.server.effects.give_up(place),
                false => self.server.effects.fill_in(place, reply),
            }
            return false;
        }
        self.server.end_usage(Caller::Retry, reply.len());
        self.server.waiting.strike_off(client, &wait);
        self.answer_late(client, place, reply);
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
