//! The waiting room: every client whose next request may not run now, with what it waits for, until
//! when, and what it is told when that is over.
//!
//! A client waits in one of three ways. Its request was not taken and is to be tried again
//! ([`Reason::Unpause`], [`Reason::Disk`], [`Reason::Script`], [`Reason::Move`]). It was taken, and
//! somebody will answer it ([`Reason::Answer`], [`Reason::End`]). Or it is kept here and runs again
//! when a key has come ([`Reason::Key`]; who is served then is [`super::blocking`]'s). Whoever
//! brings about what is waited for says so here and knows nothing of the clients. What a client
//! waits for stands in its session, so an entry of a line that is of yesterday wakes nobody.

use super::clients_by_key::ClientsByKey;
use super::replication::acks::CopiesWait;
use super::session::Asking;
use super::standstill::Deed;
use super::{ClientId, Clients, Cx, Effect, Engine, Server};
use crate::command::{CommandError, CommandId};
use crate::resp::{OwnedRequest, ReplyBuf};
use crate::types::Kind;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What a client waits for.
pub enum Reason {
    /// Its request may be tried again when writes, or all commands, are no longer paused.
    Unpause,
    /// Its write may be tried again when the disk has caught up.
    Disk,
    /// The command that is under way is to end, or to be late.
    Script,
    /// A key that it writes is to have gone to another server, or not.
    Move,
    /// A job, a save, the driver or the end of what it has begun answers it.
    Answer,
    /// The server ends, or cannot.
    End,
    /// A key is to come, or to go.
    Key(KeyWait),
    /// Replicas are to have what the client has written.
    Copies(Box<CopiesWait>),
}

/// The lines in which clients stand for one thing that comes for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    Unpause,
    Disk,
    Script,
    Move,
    End,
    Copies,
}

const LINES: usize = 6;

impl Reason {
    fn line(&self) -> Option<Line> {
        match self {
            Reason::Unpause => Some(Line::Unpause),
            Reason::Disk => Some(Line::Disk),
            Reason::Script => Some(Line::Script),
            Reason::Move => Some(Line::Move),
            Reason::End => Some(Line::End),
            Reason::Copies(_) => Some(Line::Copies),
            Reason::Answer | Reason::Key(_) => None,
        }
    }
}

/// A request that waits for keys.
pub struct KeyWait {
    pub(super) id: CommandId,
    pub(super) request: OwnedRequest,
    pub(super) db: usize,
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) awaited: Awaited,
    pub(super) asking: Asking,
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
    pub(super) fn fits(self, found: Option<Kind>) -> bool {
        match self {
            Awaited::Value(kind) => found == Some(kind),
            Awaited::Change(_) => true,
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Awaited::Change(_))
    }
}

/// A client's stay in the waiting room.
pub struct Wait {
    pub reason: Reason,
    /// On the monotonic clock; `None` waits for ever.
    deadline_ms: Option<u64>,
    /// Writes what the client is told when it has waited long enough.
    time_out: fn(&mut Cx<'_>),
}

impl Wait {
    /// A stay that only what is waited for ends.
    pub fn for_ever(reason: Reason) -> Wait {
        Wait { reason, deadline_ms: None, time_out: |_| {} }
    }

    /// One that ends with this answer when its time has come.
    pub fn until(reason: Reason, deadline_ms: Option<u64>, time_out: fn(&mut Cx<'_>)) -> Wait {
        Wait { reason, deadline_ms, time_out }
    }

    pub fn key(&self) -> Option<&KeyWait> {
        match &self.reason {
            Reason::Key(wait) => Some(wait),
            _ => None,
        }
    }

    /// The command whose wait it is, if one is to be counted when that ends.
    fn command(&self) -> Option<CommandId> {
        match &self.reason {
            Reason::Key(wait) => Some(wait.id),
            Reason::Copies(wait) => Some(wait.id),
            _ => None,
        }
    }

    /// It waits for what others write, or have, as things stand with the server's role.
    pub fn depends_on_role(&self) -> bool {
        matches!(self.reason, Reason::Key(_) | Reason::Copies(_))
    }

    fn is_in(&self, line: Line) -> bool {
        self.reason.line() == Some(line)
    }
}

/// Who waits. See the head of this file.
#[derive(Default)]
pub struct WaitingRoom {
    lines: [Queue; LINES],
    at_keys: ClientsByKey,
    /// Those of them who also wait for values to go.
    for_changes: ClientsByKey,
    deadlines: BTreeSet<(u64, ClientId)>,
}

impl WaitingRoom {
    /// The number of keys somebody waits for.
    pub fn keys(&self) -> usize {
        self.at_keys.len()
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

    /// The clients in line at a key, first come first.
    pub(super) fn at_key(&self) -> &ClientsByKey {
        &self.at_keys
    }

    /// Has a client wait.
    pub fn enter(&mut self, clients: &mut Clients, client: ClientId, wait: Wait) {
        if let Some(line) = wait.reason.line() {
            self.lines[line as usize].push(client, clients);
        }
        if let Reason::Key(wait) = &wait.reason {
            self.stand_at_keys(client, wait);
        }
        self.deadlines.extend(wait.deadline_ms.map(|at_ms| (at_ms, client)));
        if let Some(session) = clients.get_mut(client) {
            session.wait = Some(Box::new(wait));
        }
    }

    fn stand_at_keys(&mut self, client: ClientId, wait: &KeyWait) {
        for key in &wait.keys {
            self.at_keys.add(wait.db, key, client);
            if wait.awaited.is_change() {
                self.for_changes.add(wait.db, key, client);
            }
        }
    }

    /// Ends a client's stay, whatever it waited for; what it was.
    pub fn leave(&mut self, clients: &mut Clients, client: ClientId) -> Option<Box<Wait>> {
        let wait = clients.get_mut(client)?.wait.take()?;
        self.strike_off(client, &wait);
        Some(wait)
    }

    /// Takes what the session held of a stay off the lists.
    pub(super) fn strike_off(&mut self, client: ClientId, wait: &Wait) {
        if let Reason::Key(wait) = &wait.reason {
            for key in &wait.keys {
                self.at_keys.remove(wait.db, key, client);
                if wait.awaited.is_change() {
                    self.for_changes.remove(wait.db, key, client);
                }
            }
        }
        if let Some(at_ms) = wait.deadline_ms {
            self.deadlines.remove(&(at_ms, client));
        }
    }
}

impl Server {
    /// What a line waits for has come: those in it who still do, first come first, wait no more.
    pub fn empty_line(&mut self, clients: &mut Clients, line: Line) -> Vec<ClientId> {
        let mut all = self.waiting.lines[line as usize].take();
        all.retain(|client| {
            let wait = clients.get(*client).and_then(|session| session.wait.as_deref());
            wait.is_some_and(|wait| wait.is_in(line))
        });
        for client in &all {
            self.waiting.leave(clients, *client);
        }
        all
    }

    /// The same; their requests are tried again.
    pub fn wake_line(&mut self, clients: &mut Clients, line: Line) {
        for client in self.empty_line(clients, line) {
            self.effects.push(Effect::Wake { client });
        }
    }

    /// Those who stand in a line, first come first.
    pub fn in_line(&self, clients: &Clients, line: Line) -> Vec<ClientId> {
        let is_in = |client: &ClientId| {
            let wait = clients.get(*client).and_then(|session| session.wait.as_deref());
            wait.is_some_and(|wait| wait.is_in(line))
        };
        self.waiting.lines[line as usize].0.iter().copied().filter(is_in).collect()
    }

    pub fn is_line_empty(&self, line: Line) -> bool {
        self.waiting.lines[line as usize].is_empty()
    }
}

const ROLE_CHANGED: &[u8] = b"UNBLOCKED force unblock from blocking operation, instance state \
changed (master -> replica?)";

const UNBLOCKED: &[u8] = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// How a client that waits for a key is sent on its way without what it waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    /// As if its time were over.
    TimedOut,
    /// With an error that says that somebody else wanted it so.
    Unblocked,
    /// With an error that says that the server is another one's replica now; its connection ends.
    RoleChanged,
    /// With an error that says who is to be asked instead.
    Redirected(CommandError),
}

impl Cx<'_> {
    /// Has the running client wait.
    pub fn wait(&mut self, wait: Wait) {
        let earliest_ms = self.server.waiting.earliest_deadline_ms();
        let deadline_ms = wait.deadline_ms;
        self.server.waiting.enter(self.clients, self.client, wait);
        if deadline_ms.is_some_and(|at_ms| earliest_ms.is_none_or(|other| at_ms < other)) {
            self.effect(Effect::WakeTimer);
        }
    }

    /// Somebody will answer the running client, who waits for it.
    pub fn wait_for_answer(&mut self) {
        self.wait(Wait::for_ever(Reason::Answer));
    }

    /// Ends a client's wait for a key, or for replicas; false if it does not wait for one.
    pub fn release(&mut self, client: ClientId, how: Release) -> bool {
        let session = self.clients.get(client);
        let wait = session.and_then(|session| session.wait.as_deref());
        let waits = wait.is_some_and(Wait::depends_on_role);
        if waits {
            self.send_away(client, how);
        }
        waits
    }

    pub(in crate::engine) fn send_away(&mut self, client: ClientId, how: Release) {
        let Some(wait) = self.server.waiting.leave(self.clients, client) else { return };
        let Some(session) = self.clients.get_mut(client) else { return };
        let is_silenced = std::mem::take(&mut session.drops_late_reply);
        let mut bytes = ReplyBuf::new();
        let mut own = self.on_behalf_of(client, &mut bytes);
        let error = match &how {
            Release::TimedOut => None,
            Release::Unblocked => Some(Cow::Borrowed(UNBLOCKED)),
            Release::RoleChanged => Some(Cow::Borrowed(ROLE_CHANGED)),
            Release::Redirected(error) => Some(error.text()),
        };
        match (&error, &wait.reason) {
            (Some(text), _) => {
                own.server.stats.error(text);
                own.reply.error(text);
            }
            (None, Reason::Copies(copies)) => copies.answer(&mut own),
            (None, _) => (wait.time_out)(&mut own),
        }
        if let Some(id) = wait.command() {
            self.server.stats.called(id, 0, error.is_some());
        }
        if how != Release::RoleChanged {
            self.server.give_up_set_slot(self.clients, &wait);
        }
        if !is_silenced {
            self.effect(Effect::Push { client, bytes });
        }
        if how == Release::RoleChanged {
            return self.effect(Effect::CloseWhenSent { client });
        }
        self.effect(Effect::Wake { client });
    }
}

impl Engine {
    /// Sends on their way those who have waited long enough; the driver calls it when
    /// [`Engine::next_time_out_ms`] has come.
    pub fn end_waits(&mut self) {
        if !self.server.may(Deed::TimeOut) {
            return;
        }
        let mono_ms = self.server.clock.mono_ms();
        while let Some(&(at_ms, client)) = self.server.waiting.deadlines.first() {
            if at_ms > mono_ms {
                return;
            }
            let mut nothing = ReplyBuf::new();
            Cx::new(self, client, super::Caller::Client, &mut nothing)
                .send_away(client, Release::TimedOut);
        }
    }

    /// When, on the monotonic clock, the first client has waited long enough.
    pub fn next_time_out_ms(&self) -> Option<u64> {
        self.server.waiting.earliest_deadline_ms().filter(|_| self.server.may(Deed::TimeOut))
    }

    /// Lets a client go on that waits for nothing any more.
    pub fn wake(&mut self, client: ClientId) {
        self.server.waiting.leave(&mut self.clients, client);
        if self.clients.get(client).is_some() {
            self.server.effects.push(Effect::Wake { client });
        }
    }
}

/// Clients who wait for the same, first come first. Those who have left are not taken out one by
/// one but when they are more than those who are there, so the list is bounded by the living.
#[derive(Default)]
struct Queue(Vec<ClientId>);

impl Queue {
    /// A list is not looked through for less.
    const LEN_MIN: usize = 64;

    fn push(&mut self, client: ClientId, clients: &Clients) {
        if self.0.len() >= Queue::LEN_MIN + 2 * clients.len() {
            self.0.retain(|client| clients.get(*client).is_some());
        }
        self.0.push(client);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Table;
    use crate::engine::{Peer, Session};

    fn client(clients: &mut Clients) -> ClientId {
        clients.add(|id| Session::new(id, Peer::internal(), 0))
    }

    #[test]
    fn those_who_have_left_do_not_wait_for_ever() {
        let mut clients = Clients::default();
        let mut room = WaitingRoom::default();
        let stays = client(&mut clients);
        room.enter(&mut clients, stays, Wait::for_ever(Reason::Unpause));
        for _ in 0..10_000 {
            let goes = client(&mut clients);
            room.enter(&mut clients, goes, Wait::for_ever(Reason::Unpause));
            room.leave(&mut clients, goes);
            clients.remove(goes);
        }
        let line = &mut room.lines[Line::Unpause as usize];
        assert!(line.0.len() <= Queue::LEN_MIN + 4, "{}", line.0.len());
        assert_eq!(line.take().first(), Some(&stays), "who came first is first");
    }

    #[test]
    fn a_client_stands_on_no_list_when_it_has_left() {
        let mut clients = Clients::default();
        let mut room = WaitingRoom::default();
        let client = client(&mut clients);
        let wait = KeyWait {
            id: Table::new().by_name(b"blpop").expect("it is listed"),
            request: OwnedRequest::default(),
            db: 3,
            keys: vec![(*b"a").into(), (*b"b").into()],
            awaited: Awaited::Change(Kind::List),
            asking: Asking::No,
        };
        room.enter(&mut clients, client, Wait::until(Reason::Key(wait), Some(7), |_| {}));
        assert_eq!((room.keys(), room.timeouts()), (2, 1));
        assert_eq!((room.keys_watched_for_absence(), room.earliest_deadline_ms()), (2, Some(7)));
        assert!(room.leave(&mut clients, client).is_some_and(|wait| wait.key().is_some()));
        assert!(room.leave(&mut clients, client).is_none());
        assert_eq!((room.keys(), room.timeouts()), (0, 0));
        assert_eq!((room.keys_watched_for_absence(), room.earliest_deadline_ms()), (0, None));
    }
}
