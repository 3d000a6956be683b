//! What clients are sent that they did not ask for just now: published messages, keyspace events,
//! the lines of MONITOR.
//!
//! All of it leaves as effects, so it stands behind the reply of the command that caused it, the
//! whole reply of EXEC included, for the running client as for all others.

use super::session::ReplyMode;
use super::{Caller, ClientId, Clients, Cx, Effect, Effects, Server};
use crate::command::{Command, Flags};
use crate::config::quote::{quote_to, quoted_len};
use crate::keyspace::KeyEvent;
use crate::keyspace::slot::Slot;
use crate::pubsub::{Topic, message, notify};
use crate::resp::{Protocol, ReplyBuf, Request};
use crate::structs::{SharedBytes, memory};

/// Those who get the same message, by the protocol they speak.
#[derive(Default)]
pub(super) struct Receivers {
    resp2: Vec<ClientId>,
    resp3: Vec<ClientId>,
}

impl Receivers {
    pub(super) fn add(&mut self, client: ClientId, protocol: Protocol) {
        match protocol {
            Protocol::Resp2 => self.resp2.push(client),
            Protocol::Resp3 => self.resp3.push(client),
        }
    }

    fn of(listeners: impl Iterator<Item = ClientId>, clients: &Clients) -> Receivers {
        let count = listeners.size_hint().0;
        let mut receivers = Receivers { resp2: Vec::with_capacity(count), resp3: Vec::new() };
        for client in listeners {
            let session = clients.get(client).expect("who is gone listens to nothing");
            receivers.add(client, session.protocol);
        }
        receivers
    }
}

impl Server {
    /// Sends a message to all who listen; how many they are.
    pub fn publish(
        &mut self,
        clients: &Clients,
        topic: Topic,
        channel: &[u8],
        message: &[u8],
    ) -> usize {
        let receivers = Receivers::of(self.pubsub.listeners(topic, channel), clients);
        let word = if topic == Topic::ShardChannel { "smessage" } else { "message" };
        let encode = |protocol| message::for_channel(protocol, word, channel, message);
        if let (Some(usage), Topic::ShardChannel) = (&mut self.slot_usage, topic) {
            let len = |protocol| encode(protocol).len() as u64;
            let (two, three) = (receivers.resp2.len() as u64, receivers.resp3.len() as u64);
            let bytes = two * len(Protocol::Resp2) + three * len(Protocol::Resp3);
            usage.count_out(Slot::of(channel), bytes);
        }
        let mut count = send(&mut self.effects, receivers, encode);
        if topic == Topic::ShardChannel {
            return count;
        }
        for pattern in self.pubsub.matching(channel) {
            let listeners = self.pubsub.listeners(Topic::Pattern, pattern);
            let receivers = Receivers::of(listeners, clients);
            let encode = |protocol| message::for_pattern(protocol, pattern, channel, message);
            count += send(&mut self.effects, receivers, encode);
        }
        count
    }

    /// Nobody is to listen to a shard channel here any more: its listeners are told so, as if they
    /// had asked for it.
    pub fn end_shard_channel(&mut self, clients: &mut Clients, name: &[u8]) {
        let listeners: Vec<ClientId> = self.pubsub.listeners(Topic::ShardChannel, name).collect();
        for client in listeners {
            let Some(session) = clients.get_mut(client) else { continue };
            let Some(own) = session.subscriptions.as_deref_mut() else { continue };
            self.pubsub.unsubscribe(own, Topic::ShardChannel, name);
            let left = own.count(Topic::ShardChannel);
            session.leave_pubsub_if_idle();
            let mut bytes = ReplyBuf::new();
            let reply = &mut bytes.writer(session.protocol);
            message::confirm(reply, "sunsubscribe", Some(name), left);
            self.effects.push(Effect::Push { client, bytes });
        }
    }

    /// Hands keyspace events to those who listen, in order.
    pub fn publish_events(&mut self, clients: &Clients, events: Vec<KeyEvent>) {
        let classes = self.config.notify_keyspace_events;
        if !self.pubsub.is_empty() {
            for told in events.iter().flat_map(|event| notify::notifications(classes, event)) {
                self.publish(clients, Topic::Channel, &told.channel, told.message);
            }
        }
        if let Some(collected) = &mut self.collected_events {
            collected.extend(events);
        }
    }

    /// Sends each group of receivers the message in its protocol.
    pub(super) fn send_each(&mut self, receivers: Receivers, encode: impl Fn(Protocol) -> Vec<u8>) {
        send(&mut self.effects, receivers, encode);
    }
}

/// Encodes a message once for each protocol that is spoken among the receivers, who share it; how
/// many receivers there are.
fn send(
    effects: &mut Effects,
    receivers: Receivers,
    encode: impl Fn(Protocol) -> Vec<u8>,
) -> usize {
    let count = receivers.resp2.len() + receivers.resp3.len();
    for (protocol, clients) in
        [(Protocol::Resp2, receivers.resp2), (Protocol::Resp3, receivers.resp3)]
    {
        if !clients.is_empty() {
            let bytes = SharedBytes::new(encode(protocol));
            effects.push(Effect::Broadcast { clients, bytes });
        }
    }
    count
}

/// What is not shown to those who watch: dangerous or talkative commands.
const HIDDEN: Flags = Flags::ADMIN.or(Flags::SKIP_MONITOR);

impl Cx<'_> {
    /// Shows the running command to those who watch (MONITOR), if there are any.
    #[inline]
    pub(super) fn show_to_monitors(&mut self, command: &Command, request: &Request<'_>) {
        if !self.server.monitors.is_empty() && !command.flags.intersects(HIDDEN) {
            self.feed_monitors(command, request);
        }
    }

    /// The same for a command that others are to stand behind which it runs.
    pub fn show_before(&mut self, command: &Command, request: &Request<'_>) {
        if !self.server.monitors.is_empty() {
            self.feed_monitors(command, request);
        }
    }

    #[cold]
    fn feed_monitors(&mut self, command: &Command, request: &Request<'_>) {
        let session = self.session();
        let unix_us = self.server.clock.lap_unix_us();
        let source = if self.caller == Caller::Script {
            "lua".to_owned()
        } else if session.peer.unix_socket {
            let path = self.server.config.unixsocket.as_ref();
            format!("unix:{}", path.map_or_else(Default::default, |path| path.to_string_lossy()))
        } else {
            session.peer.address.to_string()
        };
        let (seconds, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
        let mut line = format!("+{seconds}.{us:06} [{} {source}]", self.keys.db).into_bytes();
        let words = || {
            request.iter().enumerate().map(|(place, word)| {
                if (command.secrets)(request, place) { b"(redacted)" } else { word }
            })
        };
        let len = words().map(|word| " ".len() + quoted_len(word)).sum::<usize>() + "\r\n".len();
        if memory::asking(|| line.try_reserve_exact(len)).is_err() {
            return self.close_monitors();
        }
        for word in words() {
            line.push(b' ');
            quote_to(&mut line, word);
        }
        line.extend(b"\r\n");
        let wants = |client: &ClientId| {
            self.clients.get(*client).is_some_and(|s| s.reply_mode != ReplyMode::Off)
        };
        let clients: Vec<ClientId> = self.server.monitors.iter().copied().filter(wants).collect();
        self.effect(Effect::Broadcast { clients, bytes: SharedBytes::new(line) });
    }

    /// There is no memory for what they are to be shown: better no more than with a gap.
    fn close_monitors(&mut self) {
        for client in self.server.monitors.clone() {
            self.effect(Effect::Close { client });
        }
    }
}

/// A client is gone or is sure to go: nothing is to be sent to it, kept for it or taken out of a
/// key for it.
pub(super) fn forget(clients: &mut Clients, server: &mut Server, client: ClientId) {
    if let Some(wait) = server.waiting.leave(clients, client) {
        server.give_up_set_slot(clients, &wait);
    }
    let Some(session) = clients.get_mut(client) else { return };
    end_interests(session, server);
    session.is_leaving = true;
}

/// Ends all that makes a client be sent what it does not ask for.
pub(super) fn end_interests(session: &mut super::Session, server: &mut Server) {
    if let Some(own) = session.subscriptions.take() {
        server.pubsub.forget(*own);
    }
    if session.kind == super::session::ClientKind::Pubsub {
        session.kind = super::session::ClientKind::Normal;
    }
    if std::mem::take(&mut session.is_monitor) {
        server.monitors.retain(|monitor| *monitor != session.id);
    }
    server.tracking.stop(session);
}
