//! Client-side caching: who may hold a copy of which key, and who is told when a key changes.
//!
//! A client that tracks by default is told once of each key that it has read, when the key first
//! changes after that; the table of readers then forgets the key. A client that tracks by prefix
//! is told of all changes under its prefixes, at the end of the turn, each key once. What is told
//! goes to the client itself as a RESP3 push, or to the client it redirects to, which may listen
//! in RESP2 on a channel made for this.
//!
//! Everything leaves as effects, so a client that changes what it caches hears of it after the
//! reply, after the whole reply of EXEC. Who is gone is taken out of the table soon after, a part
//! of the table at a time: going itself would otherwise cost as much as what a client has read.

mod prefixes;
mod readers;

use super::delivery::Receivers;
use super::{ClientId, Clients, Cx, Effect, Server, Session};
use crate::command::{Command, Flags, Traits, find_keys};
use crate::keyspace::{KeyHasher, TouchedKey};
use crate::resp::{Protocol, ReplyBuf, Request};
use crate::structs::prng::Prng;
use prefixes::Prefixes;
use readers::Readers;
use std::collections::BTreeSet;

/// The channel on which a RESP2 client hears of changed keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// So many keys a command may forget to bring the table back under its limit.
const EVICTIONS_MAX: usize = 1000;

/// So many keys are looked at in a turn of the timer for readers who are gone.
const SWEPT_MAX: usize = 20_000;

/// Which keys a client is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Those it has read.
    Read,
    /// Those it has read by commands that followed CLIENT CACHING YES.
    OptIn,
    /// Those it has read but by commands that followed CLIENT CACHING NO.
    OptOut,
    /// Those under its prefixes.
    Broadcast,
}

/// What one client wants to be told.
pub struct Interest {
    pub mode: Mode,
    pub redirect: Option<ClientId>,
    /// The client that is redirected to was gone when it was to be told.
    pub is_redirect_broken: bool,
    /// It is not told of what it changed itself.
    pub skips_own: bool,
    /// CLIENT CACHING was given for the command, or the transaction, that is to come.
    pub is_caching_given: bool,
    pub prefixes: BTreeSet<Box<[u8]>>,
}

impl Interest {
    /// Whether the keys that the running command reads are remembered.
    fn remembers(&self) -> bool {
        match self.mode {
            Mode::Read => true,
            Mode::OptIn => self.is_caching_given,
            Mode::OptOut => !self.is_caching_given,
            Mode::Broadcast => false,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let prefixes = self.prefixes.iter().map(|prefix| prefix.len() + size_of::<Box<[u8]>>());
        size_of::<Interest>() + prefixes.sum::<usize>()
    }
}

/// What is no longer as clients may have it.
enum Stale<'a> {
    Keys(&'a [&'a [u8]]),
    Everything,
}

/// The state of client-side caching that belongs to no client.
#[derive(Default)]
pub struct Tracking {
    readers: Readers,
    prefixes: Prefixes,
    clients: usize,
    /// Somebody who may be in the table of readers is gone.
    has_gone: bool,
    /// The rows before this one are still to be looked at for readers who are gone.
    unswept: usize,
}

impl Tracking {
    /// The number of clients that track.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The number of keys that somebody has read.
    pub fn keys(&self) -> usize {
        self.readers.len()
    }

    /// The number of pairs of a key and a client that has read it.
    pub fn items(&self) -> usize {
        self.readers.items()
    }

    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether anybody cares about changed keys.
    pub fn is_active(&self) -> bool {
        self.clients > 0
    }

    /// Begins to track for a client, or goes on in another way.
    pub fn start(&mut self, session: &mut Session, interest: Interest) {
        let id = session.id;
        for prefix in &interest.prefixes {
            self.prefixes.add(prefix, id);
        }
        match session.tracking.as_deref_mut() {
            None => {
                self.clients += 1;
                session.tracking = Some(Box::new(interest));
            }
            Some(known) => {
                let mut prefixes = std::mem::take(&mut known.prefixes);
                prefixes.extend(interest.prefixes);
                let is_caching_given = known.is_caching_given;
                *known = Interest { prefixes, is_caching_given, ..interest };
            }
        }
    }

    /// Ends tracking for a client.
    pub fn stop(&mut self, session: &mut Session) {
        let Some(interest) = session.tracking.take() else { return };
        self.clients -= 1;
        self.has_gone |= interest.mode != Mode::Broadcast;
        for prefix in &interest.prefixes {
            self.prefixes.remove(prefix, session.id);
        }
    }
}

impl Cx<'_> {
    /// Remembers what the running command has read, if its client wants that.
    #[inline]
    pub(super) fn remember_reads(&mut self, command: &'static Command, request: &Request<'_>) {
        // What a script reads is what the commands read that it runs.
        let reads =
            command.flags.has(Flags::READONLY) && !command.traits.has(Traits::RUNS_A_SCRIPT);
        if reads && self.server.tracking.is_active() {
            self.remember_keys(command, request);
        }
    }

    #[cold]
    fn remember_keys(&mut self, command: &'static Command, request: &Request<'_>) {
        let wanted = self.session().tracking.as_deref().is_some_and(Interest::remembers);
        if !wanted {
            return;
        }
        let client = self.client;
        let Some(found) = find_keys(command, request) else { return };
        for found in found.keys() {
            let key = self.keys.key(request.arg(found.index));
            self.server.tracking.readers.add(&key, client);
        }
    }

    /// The same as [`Server::invalidate_everything`].
    pub fn invalidate_everything(&mut self) {
        self.server.invalidate_everything(self.clients);
    }
}

impl Server {
    /// Tells all who track that no key is as they know it, since a database has been emptied.
    pub(super) fn invalidate_everything(&mut self, clients: &mut Clients) {
        // Those, too, of whom nobody tracks any more.
        self.tracking.readers.clear();
        if self.tracking.clients == 0 {
            return;
        }
        let all: Vec<ClientId> =
            clients.iter().filter(|s| s.tracking.is_some()).map(|s| s.id).collect();
        self.tell(clients, &all, &Stale::Everything);
    }

    /// Tells of changed keys: those who have read them now, those who track by prefix later.
    pub(super) fn invalidate(
        &mut self,
        clients: &mut Clients,
        running: Option<ClientId>,
        hasher: KeyHasher,
        touched: &[TouchedKey],
    ) {
        for TouchedKey { key, .. } in touched {
            self.tracking.prefixes.note(key, running);
            let Some(readers) = self.tracking.readers.take(&hasher.key(key)) else {
                continue;
            };
            self.tell_readers(clients, &readers, running, key);
        }
    }

    /// Takes clients that no longer track out of a part of the table.
    pub(super) fn forget_gone_readers(&mut self, clients: &Clients) {
        let tracking = &mut self.tracking;
        if tracking.unswept == 0 && std::mem::take(&mut tracking.has_gone) {
            tracking.unswept = tracking.readers.len();
        }
        if tracking.unswept > 0 {
            let is_there = |reader| {
                let session = clients.get(reader);
                session.is_some_and(|session| session.tracking.is_some())
            };
            tracking.unswept = tracking.readers.forget_gone(tracking.unswept, SWEPT_MAX, is_there);
        }
    }

    fn tell_readers(
        &mut self,
        clients: &mut Clients,
        readers: &[ClientId],
        running: Option<ClientId>,
        key: &[u8],
    ) {
        let wants = |client: &&ClientId| {
            let interest = clients.get(**client).and_then(|session| session.tracking.as_deref());
            interest.is_some_and(|interest| {
                let is_own = interest.skips_own && running == Some(**client);
                interest.mode != Mode::Broadcast && !is_own
            })
        };
        let told: Vec<ClientId> = readers.iter().filter(wants).copied().collect();
        self.tell(clients, &told, &Stale::Keys(&[key]));
    }

    /// Forgets some keys if too many are remembered; their readers are told as if they had
    /// changed.
    pub(super) fn limit_tracked_keys(&mut self, clients: &mut Clients) {
        let unless_zero = |max| if max == 0 { usize::MAX } else { max };
        let keys_max = unless_zero(self.config.tracking_table_max_keys);
        let bytes_max = unless_zero(self.config.tracking_table_max_memory);
        for _ in 0..EVICTIONS_MAX {
            let readers = &self.tracking.readers;
            if readers.len() <= keys_max && readers.bytes() <= bytes_max {
                return;
            }
            let prng: &mut Prng = &mut self.prng;
            let Some((key, readers)) = self.tracking.readers.take_random(prng) else { return };
            self.tell_readers(clients, &readers, None, &key);
        }
    }

    /// Tells those who track by prefix what has changed in this turn.
    pub(super) fn tell_prefixes(&mut self, clients: &mut Clients) {
        for changed in self.tracking.prefixes.take_changed() {
            let mut all = Vec::new();
            for client in changed.clients {
                let session = clients.get(client).expect("who is gone has no prefixes");
                if session.tracking.as_deref().is_some_and(|interest| interest.skips_own) {
                    let by_others = changed.keys.iter().filter(|(_, by)| **by != Some(client));
                    let keys: Vec<&[u8]> = by_others.map(|(key, _)| &**key).collect();
                    if !keys.is_empty() {
                        self.tell(clients, &[client], &Stale::Keys(&keys));
                    }
                } else {
                    all.push(client);
                }
            }
            let keys: Vec<&[u8]> = changed.keys.keys().map(|key| &**key).collect();
            self.tell(clients, &all, &Stale::Keys(&keys));
        }
    }

    /// Tells these clients, or those they redirect to.
    fn tell(&mut self, clients: &mut Clients, told: &[ClientId], stale: &Stale<'_>) {
        let mut receivers = Receivers::default();
        for client in told {
            if let Some((receiver, protocol)) = self.receiver_for(clients, *client) {
                receivers.add(receiver, protocol);
            }
        }
        self.send_each(receivers, |protocol| encode(protocol, stale));
    }

    /// Who hears what a client is to be told, if anybody can: RESP2 has no pushes, but another
    /// connection may listen.
    fn receiver_for(
        &mut self,
        clients: &mut Clients,
        client: ClientId,
    ) -> Option<(ClientId, Protocol)> {
        let session = clients.get(client)?;
        let own_protocol = session.protocol;
        let Some(redirect) = session.tracking.as_deref()?.redirect else {
            return (own_protocol == Protocol::Resp3).then_some((client, own_protocol));
        };
        if let Some(other) = clients.get(redirect).filter(|other| !other.is_leaving) {
            let is_listening = other.kind == super::session::ClientKind::Pubsub;
            let hears = other.protocol == Protocol::Resp3 || is_listening;
            return hears.then_some((redirect, other.protocol));
        }
        let interest = clients.get_mut(client).and_then(|s| s.tracking.as_deref_mut());
        interest.expect("it was just seen").is_redirect_broken = true;
        if own_protocol == Protocol::Resp3 {
            let mut bytes = ReplyBuf::new();
            let mut reply = bytes.writer(own_protocol);
            reply.push(2);
            reply.bulk(b"tracking-redir-broken");
            reply.integer(redirect.number().cast_signed());
            self.effects.push(Effect::Push { client, bytes });
        }
        None
    }
}

fn encode(protocol: Protocol, stale: &Stale<'_>) -> Vec<u8> {
    let mut out = ReplyBuf::new();
    let mut reply = out.writer(protocol);
    match protocol {
        Protocol::Resp3 => {
            reply.push(2);
            reply.bulk(b"invalidate");
        }
        Protocol::Resp2 => {
            reply.array(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
        }
    }
    match stale {
        Stale::Everything => reply.null(),
        Stale::Keys(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
    }
    out.take_written()
}
