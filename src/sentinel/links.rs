//! The connections to an instance: one for commands, and to servers one for messages.
//!
//! A link belongs to one instance, but for those to other Sentinels: one that watches several
//! masters with us is several instances and has one link. A connection has a number of its own, by
//! which what is still heard of one that was given up is told apart.
//!
//! Invariant: replies are taken in the order in which commands were sent, and a connection that
//! says what nobody has asked for is closed.

use super::instances::{Flags, Id, Kind};
use super::{Action, HELLO_CHANNEL, Level, Sentinel};
use crate::resp::command;
use crate::resp::frame::Frame;
use std::collections::{BTreeMap, VecDeque};

/// Commands that may wait for their replies, for each owner of a link.
pub const PENDING_MAX: usize = 100;

/// The number of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WireId(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkKey(u64);

/// What a reply is the reply to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// Something whose reply changes nothing.
    Nothing,
    Ping(Id),
    Info(Id),
    Publish(Id),
    MasterDown(Id),
}

pub struct Wire {
    pub id: WireId,
    pub since_ms: u64,
    /// Our address on it, once it is there.
    pub local_ip: Option<String>,
    awaited: VecDeque<Awaited>,
}

pub struct Link {
    pub owners: usize,
    /// One of its connections is to be made.
    pub is_disconnected: bool,
    pub commands: Option<Wire>,
    pub messages: Option<Wire>,
    pub last_message_ms: u64,
    /// When a ping was last answered as by somebody who lives.
    pub last_ok_ms: u64,
    /// Since when a ping waits for an answer.
    pub ping_since_ms: Option<u64>,
    pub last_ping_ms: Option<u64>,
    pub last_pong_ms: u64,
    pub last_dial_ms: Option<u64>,
}

impl Link {
    fn new(now_ms: u64) -> Link {
        Link {
            owners: 1,
            is_disconnected: true,
            commands: None,
            messages: None,
            last_message_ms: 0,
            last_ok_ms: now_ms,
            // As if a ping had been sent: one that is never reached is to be found down, too.
            ping_since_ms: Some(now_ms),
            last_ping_ms: None,
            last_pong_ms: now_ms,
            last_dial_ms: None,
        }
    }

    /// Whether a reply is still to come.
    pub fn awaits(&self, awaited: Awaited) -> bool {
        self.commands.as_ref().is_some_and(|wire| wire.awaited.contains(&awaited))
    }

    pub fn pending(&self) -> usize {
        let wires = self.commands.iter().chain(&self.messages);
        wires.map(|wire| wire.awaited.len()).sum()
    }
}

/// Which of a link's connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Commands,
    Messages,
}

#[derive(Default)]
pub struct Links {
    all: BTreeMap<LinkKey, Link>,
    wires: BTreeMap<WireId, (LinkKey, Purpose)>,
    next: u64,
}

impl Links {
    pub fn add(&mut self, now_ms: u64) -> LinkKey {
        self.next += 1;
        let key = LinkKey(self.next);
        self.all.insert(key, Link::new(now_ms));
        key
    }

    /// Time begins: nobody has been silent before.
    pub fn begin(&mut self, now_ms: u64) {
        for link in self.all.values_mut() {
            link.last_ok_ms = now_ms;
            link.ping_since_ms = Some(now_ms);
            link.last_pong_ms = now_ms;
        }
    }

    pub fn get(&self, key: LinkKey) -> &Link {
        self.all.get(&key).expect("a link lives as long as its instances")
    }

    pub fn get_mut(&mut self, key: LinkKey) -> &mut Link {
        self.all.get_mut(&key).expect("a link lives as long as its instances")
    }

    fn wire_mut(&mut self, key: LinkKey, purpose: Purpose) -> &mut Option<Wire> {
        let link = self.get_mut(key);
        match purpose {
            Purpose::Commands => &mut link.commands,
            Purpose::Messages => &mut link.messages,
        }
    }

    pub fn note_up(&mut self, id: WireId, local_ip: String) {
        let Some((key, purpose)) = self.wires.get(&id).copied() else { return };
        if let Some(wire) = self.wire_mut(key, purpose) {
            wire.local_ip = Some(local_ip);
        }
    }

    fn open(&mut self, key: LinkKey, purpose: Purpose, now_ms: u64) -> WireId {
        self.next += 1;
        let id = WireId(self.next);
        self.wires.insert(id, (key, purpose));
        let wire = Wire { id, since_ms: now_ms, local_ip: None, awaited: VecDeque::new() };
        *self.wire_mut(key, purpose) = Some(wire);
        id
    }

    /// Forgets a connection; its number, if there was one.
    fn drop_wire(&mut self, key: LinkKey, purpose: Purpose) -> Option<WireId> {
        let id = self.wire_mut(key, purpose).take()?.id;
        self.wires.remove(&id);
        self.get_mut(key).is_disconnected = true;
        Some(id)
    }
}

impl Sentinel {
    /// An owner of a link is gone.
    pub(super) fn release_link(&mut self, key: LinkKey) {
        let link = self.links.get_mut(key);
        link.owners -= 1;
        if link.owners == 0 {
            self.close_link(key);
            self.links.all.remove(&key);
        }
    }

    pub(super) fn close_link(&mut self, key: LinkKey) {
        self.close_wire(key, Purpose::Commands);
        self.close_wire(key, Purpose::Messages);
    }

    pub(super) fn close_wire(&mut self, key: LinkKey, purpose: Purpose) {
        if let Some(wire) = self.links.drop_wire(key, purpose) {
            self.actions.push(Action::Close { wire });
        }
    }

    pub(super) fn lose_wire(&mut self, wire: WireId, reason: &str) {
        let Some((key, purpose)) = self.links.wires.get(&wire).copied() else { return };
        let was_up =
            self.links.wire_mut(key, purpose).as_ref().is_some_and(|w| w.local_ip.is_some());
        self.links.drop_wire(key, purpose);
        let kind = match purpose {
            Purpose::Commands => "-cmd-link-reconnection",
            Purpose::Messages => "-pubsub-link-reconnection",
        };
        let owner = self.instances.with_link(key).next();
        if let Some(owner) = owner.filter(|_| !was_up) {
            self.event(Level::Debug, kind, owner, &format!(" #{reason}"));
        }
    }

    /// What a command is called at an instance.
    fn called(&self, id: Id, name: &str) -> String {
        let master = self.instances.master_of(id);
        let renamed = &self.instances[master].group.renamed;
        renamed.get(&name.to_ascii_lowercase()).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// Sends a command over a connection that there is; false if there is none.
    fn send_on(
        &mut self,
        id: Id,
        purpose: Purpose,
        words: &[&[u8]],
        awaited: Option<Awaited>,
    ) -> bool {
        let name = self.called(id, std::str::from_utf8(words[0]).unwrap_or_default());
        let key = self.instances[id].link;
        let Some(wire) = self.links.wire_mut(key, purpose) else { return false };
        wire.awaited.extend(awaited);
        let mut bytes = Vec::new();
        command::put_header(&mut bytes, b'*', words.len());
        command::put_bulk(&mut bytes, name.as_bytes());
        for word in &words[1..] {
            command::put_bulk(&mut bytes, word);
        }
        self.actions.push(Action::Send { wire: wire.id, bytes });
        true
    }

    pub(super) fn send(&mut self, id: Id, words: &[&[u8]], awaited: Awaited) -> bool {
        self.send_on(id, Purpose::Commands, words, Some(awaited))
    }

    pub(super) fn send_ping(&mut self, id: Id) {
        if self.send(id, &[b"PING"], Awaited::Ping(id)) {
            let now_ms = self.now.mono_ms;
            let link = self.links.get_mut(self.instances[id].link);
            link.last_ping_ms = Some(now_ms);
            link.ping_since_ms.get_or_insert(now_ms);
        }
    }

    /// Makes the connections that are missing, at most once a period.
    pub(super) fn reconnect(&mut self, id: Id) {
        let (key, kind) = (self.instances[id].link, self.instances[id].kind);
        let link = self.links.get(key);
        let is_late = self.since(link.last_dial_ms) >= self.periods.ping_ms;
        if !link.is_disconnected || self.instances[id].address.port == 0 || !is_late {
            return;
        }
        let now_ms = self.now.mono_ms;
        self.links.get_mut(key).last_dial_ms = Some(now_ms);
        self.refresh_address(id);
        if self.instances[id].address.ip.is_empty() {
            return;
        }
        if self.links.get(key).commands.is_none() {
            self.dial(id, Purpose::Commands);
            self.send_ping(id);
        }
        if kind != Kind::Sentinel && self.links.get(key).messages.is_none() {
            self.dial(id, Purpose::Messages);
            let words: &[&[u8]] = &[b"SUBSCRIBE", HELLO_CHANNEL.as_bytes()];
            self.send_on(id, Purpose::Messages, words, None);
        }
        self.links.get_mut(key).is_disconnected = false;
    }

    fn dial(&mut self, id: Id, purpose: Purpose) {
        let (key, address) = (self.instances[id].link, self.instances[id].address.clone());
        let wire = self.links.open(key, purpose, self.now.mono_ms);
        self.links.get_mut(key).last_message_ms = self.now.mono_ms;
        self.actions.push(Action::Dial { wire, ip: address.ip, port: address.port });
        if let (user, Some(password)) = self.credentials(id) {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(user.as_deref());
            words.push(&password);
            self.send_on(id, purpose, &words, Some(Awaited::Nothing));
        }
        let suffix = if purpose == Purpose::Commands { "cmd" } else { "pubsub" };
        let name = format!("sentinel-{}-{suffix}", &self.my_id[..self.my_id.len().min(8)]);
        let words: &[&[u8]] = &[b"CLIENT", b"SETNAME", name.as_bytes()];
        self.send_on(id, purpose, words, Some(Awaited::Nothing));
    }

    /// As whom, and by which password, we log in at an instance.
    fn credentials(&self, id: Id) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        if self.instances[id].kind != Kind::Sentinel {
            let group = &self.instances[self.instances.master_of(id)].group;
            return (bytes(&group.auth_user), bytes(&group.auth_pass));
        }
        match &self.globals.password {
            Some(password) => (bytes(&self.globals.user), Some(password.as_bytes().to_vec())),
            None => (None, self.surroundings.requirepass.clone()),
        }
    }

    pub(super) fn take_reply(&mut self, wire: WireId, frame: Frame) {
        let Some((key, purpose)) = self.links.wires.get(&wire).copied() else { return };
        let Some(current) = self.links.wire_mut(key, purpose) else { return };
        match (current.awaited.pop_front(), purpose) {
            (Some(awaited), _) => self.take_answer(awaited, frame),
            (None, Purpose::Messages) if !matches!(frame, Frame::Error(_)) => {
                self.links.get_mut(key).last_message_ms = self.now.mono_ms;
                self.take_message(&frame);
            }
            // Whatever an instance says unasked is the reason why it does not want us.
            (None, _) => self.close_wire(key, purpose),
        }
    }

    fn take_answer(&mut self, awaited: Awaited, frame: Frame) {
        let exists = |id: Id| self.instances.get(id).is_some();
        match awaited {
            Awaited::Ping(id) if exists(id) => self.take_pong(id, &frame),
            Awaited::Info(id) if exists(id) => {
                if let Frame::Bulk(text) | Frame::Verbatim(_, text) = frame {
                    self.take_info(id, text);
                }
            }
            Awaited::Publish(id) if exists(id) && !matches!(frame, Frame::Error(_)) => {
                self.instances[id].published_ms = self.now.mono_ms;
            }
            Awaited::MasterDown(id) if exists(id) => self.take_opinion(id, &frame),
            _ => {}
        }
    }

    fn take_pong(&mut self, id: Id, frame: &Frame) {
        let (key, now_ms) = (self.instances[id].link, self.now.mono_ms);
        self.links.get_mut(key).last_pong_ms = now_ms;
        let (Frame::Simple(text) | Frame::Error(text)) = frame else { return };
        let says = |word: &[u8]| text.starts_with(word);
        if says(b"PONG") || says(b"LOADING") || says(b"MASTERDOWN") {
            let link = self.links.get_mut(key);
            link.last_ok_ms = now_ms;
            link.ping_since_ms = None;
            if says(b"PONG") {
                self.instances[id].flags.remove(Flags::REBOOTED);
            }
        } else if says(b"BUSY") {
            let flags = self.instances[id].flags;
            if flags.has(Flags::S_DOWN) && !flags.has(Flags::SCRIPT_KILL_SENT) {
                self.send(id, &[b"SCRIPT", b"KILL"], Awaited::Nothing);
                self.instances[id].flags.add(Flags::SCRIPT_KILL_SENT);
            }
        }
    }

    /// A message on the hello channel; those of our own come back to us.
    fn take_message(&mut self, frame: &Frame) {
        let (Frame::Array(parts) | Frame::Push(parts)) = frame else { return };
        let [Frame::Bulk(word), Frame::Bulk(_), Frame::Bulk(text)] = parts.as_slice() else {
            return;
        };
        let Ok(text) = std::str::from_utf8(text) else { return };
        if word == b"message" && !text.contains(&self.my_id) {
            self.take_hello(text);
        }
    }
}
