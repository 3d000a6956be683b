//! A node of the cluster as a machine: it is told what happened, and says what is to be done.
//!
//! It has no socket, no clock, no file and no keyspace, so a test has hundreds of them. What
//! happens to it is an [`Event`]; what it wants done is an [`Action`], in order. What only the rest
//! of the server knows it is told with each event ([`Facts`]).
//!
//! Rules lie by theme: who is in the cluster (`membership.rs`), what nodes say of each other
//! (`gossip.rs`), who is down (`failure.rs`), who takes over from it (`election.rs`, and when that
//! is asked for `manual.rs`), roles (`roles.rs`), replicas that move to where they are missed
//! (`moving.rs`), who has which slot (`claims.rs`, `setslot.rs`), whether the cluster is up
//! (`state.rs`), and what time brings (`timers.rs`). What a rule finds out is written into the
//! table; what follows from that for all of them is done once, when the event is over: whether the
//! cluster is up, and the file (`saves.rs`).

use super::debug::{Debug, Fate};
use super::election::Election;
use super::flags::Flags;
use super::id::NodeId;
use super::links::{Direction, Link, LinkId, Links};
use super::manual::Manual;
use super::membership::Blacklist;
use super::saves::{Saves, Ticket};
use super::setslot::Handed;
use super::show::Traffic;
use super::state::State;
use super::table::{Names, NodeKey, Place, Table};
use super::time::Now;
use super::timers::Looks;
use super::wire::{Body, Header, Kind, Packet, Ports, Publish};
use crate::keyspace::slot::Slot;
use crate::structs::prng::Prng;

/// Further than all elections of a cluster's life.
const EPOCH_LEAP: u64 = 1 << 48;

const DROPPED: &str = "Dropping packet that matches debug drop filter";

/// How often the machine wants to hear that time has passed.
pub const TICK_MS: u64 = 100;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub node_timeout_ms: u64,
    /// How old a pong is when the next ping goes out; by itself half of the above.
    pub ping_interval_ms: Option<u64>,
    pub requires_full_coverage: bool,
    pub allows_replica_migration: bool,
    /// So many replicas a primary keeps when others are given some of its own.
    pub migration_barrier: usize,
    pub never_fails_over: bool,
    /// How many node timeouts a replica's data may be old for it to take over; 0 for any.
    pub replica_validity_factor: u64,
    /// How often a primary's stream has something at least.
    pub replica_ping_period_s: u64,
    pub manual_failover_timeout_ms: u64,
    /// So much may wait to be sent on a connection; anything if 0.
    pub link_bytes_max: usize,
    /// The bus has TLS, and so the port that packets name first.
    pub is_tls: bool,
    /// Replication has TLS, and so the port of a primary that it goes to.
    pub replicates_by_tls: bool,
    /// Where others are to find this node, if that is not whence it comes.
    pub announce_ip: Option<String>,
    pub port: u16,
    pub tls_port: u16,
    pub bus_port: u16,
    pub names: Names,
    pub blacklist_ttl_s: u64,
}

/// Those of a node whose configuration says nothing.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_timeout_ms: 15_000,
            ping_interval_ms: None,
            requires_full_coverage: true,
            allows_replica_migration: true,
            migration_barrier: 1,
            never_fails_over: false,
            replica_validity_factor: 10,
            replica_ping_period_s: 10,
            manual_failover_timeout_ms: 5000,
            link_bytes_max: 0,
            is_tls: false,
            replicates_by_tls: false,
            announce_ip: None,
            port: 6379,
            tls_port: 0,
            bus_port: 16_379,
            names: Names::default(),
            blacklist_ttl_s: 60,
        }
    }
}

/// What only the rest of the server knows.
pub struct Facts<'f> {
    /// How far our history is: the stream as a primary, what was applied of it as a replica. 0
    /// until there is any data.
    pub offset: u64,
    /// Of a replica, how long ago something came of its primary's stream, or since when that is
    /// broken; without end if there never was any.
    pub stream_age_ms: u64,
    /// Where our stream ends since writes are paused ([`Action::PauseWrites`]), while they are.
    pub paused_offset: Option<u64>,
    pub has_keys: &'f dyn Fn(Slot) -> bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// Time has passed.
    Tick,
    /// Somebody connected, with the addresses of both ends.
    Accepted { link: LinkId, peer_ip: &'e str, peer_port: u16, own_ip: &'e str },
    /// What was dialled is connected.
    Connected { link: LinkId, own_ip: &'e str },
    /// It has ended, or was never connected.
    Closed(LinkId),
    /// One whole packet, as long as its head says.
    Packet(LinkId, &'e [u8]),
    /// A save has ended. One that others wait for is to be told of.
    Saved { ticket: Ticket, ok: bool },
    /// Writes are paused, or the offset of a replica that waits for it has moved
    /// ([`Cluster::awaits_offset`]).
    OffsetMoved,
    /// The keys of the last run are there.
    Loaded,
    /// Somebody publishes here what others are to hear.
    Publish { channel: &'e [u8], message: &'e [u8], is_sharded: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Dial {
        link: LinkId,
        ip: String,
        port: u16,
    },
    Send {
        link: LinkId,
        bytes: Vec<u8>,
    },
    Close(LinkId),
    /// The file is to have this text, and safely so if it is synced. Then [`Event::Saved`] is due:
    /// what is to be sent after it waits here meanwhile. Of texts that wait the last is enough, if
    /// it is synced when any of them is.
    Save {
        ticket: Ticket,
        text: String,
        is_synced: bool,
    },
    /// Be a replica of the node that is there. A part of the stream may do if it is the same
    /// history.
    Replicate {
        ip: String,
        port: u16,
        is_same_history: bool,
    },
    /// Follow nobody any more.
    BecomePrimary,
    /// No write is answered until then, by the clock that measures, unless it is resumed before.
    /// [`Event::OffsetMoved`] when it is so.
    PauseWrites {
        until_ms: u64,
    },
    ResumeWrites,
    /// Its keys are no longer ours.
    DropSlot(Slot),
    /// Slots of ours are another node's: replicas are to know that before its keys go there, or
    /// one that takes over from us would take them back without a key.
    SlotsLost {
        slots: Vec<Slot>,
        to: NodeId,
    },
    /// No key is ours any more.
    DropAll,
    /// The slots are ours whose keys have come from another node: the keys are, too.
    MergeStaged,
    /// The cluster came up, or went down.
    StateChanged {
        is_up: bool,
    },
    /// A message for those who listen here.
    Deliver {
        channel: Vec<u8>,
        message: Vec<u8>,
        is_sharded: bool,
    },
    Log(Level, String),
}

/// What a rule may see and use beside the table.
pub(super) struct Cx<'c> {
    pub facts: &'c Facts<'c>,
    pub now: Now,
    pub prng: &'c mut Prng,
    pub actions: &'c mut Vec<Action>,
    /// Where those of this event begin.
    pub begin: usize,
}

impl<'c> Cx<'c> {
    pub fn new(
        facts: &'c Facts<'c>,
        now: Now,
        prng: &'c mut Prng,
        actions: &'c mut Vec<Action>,
    ) -> Cx<'c> {
        let begin = actions.len();
        Cx { facts, now, prng, actions, begin }
    }

    pub fn log(&mut self, level: Level, line: String) {
        self.actions.push(Action::Log(level, line));
    }

    pub fn notice(&mut self, line: String) {
        self.log(Level::Notice, line);
    }

    pub fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.actions.push(Action::Send { link, bytes });
    }
}

pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) table: Table,
    pub(super) links: Links,
    pub(super) traffic: Traffic,
    pub(super) state: State,
    pub(super) blacklist: Blacklist,
    pub(super) saves: Saves,
    pub(super) election: Election,
    pub(super) manual: Manual,
    pub(super) debug: Debug,
    /// Whom we turn to at the next tick, since our primary's stream has given its last slot away.
    pub(super) turns_to: Option<NodeId>,
    /// Slots that another node may take, by our leave.
    pub(super) handed: Option<Box<Handed>>,
    /// Our writes are paused, so our offset is the last.
    is_paused: bool,
    pub(super) looks: Looks,
    pub(super) tick_count: u64,
    pub(super) due: Due,
}

/// What is to be done when the event is over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Due {
    /// The file, at the next tick.
    pub save: bool,
    pub flush: bool,
    /// The file, before anything else is sent.
    pub sync: bool,
    pub state: bool,
    pub election: bool,
    /// To voters, of one that we do not reach.
    pub report: bool,
}

impl Cluster {
    pub fn new(settings: Settings, table: Table) -> Cluster {
        let mut cluster = Cluster {
            settings,
            table,
            links: Links::default(),
            traffic: Traffic::default(),
            state: State::default(),
            blacklist: Blacklist::default(),
            saves: Saves::default(),
            election: Election::default(),
            manual: Manual::default(),
            debug: Debug::default(),
            turns_to: None,
            handed: None,
            is_paused: false,
            looks: Looks::default(),
            tick_count: 0,
            due: Due { sync: true, state: true, ..Due::default() },
        };
        cluster.configure();
        cluster.look_at_all();
        cluster
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub fn links(&self) -> &Links {
        &self.links
    }

    pub fn is_up(&self) -> bool {
        self.state.is_up()
    }

    /// Where the primary is that this node follows, by address and port.
    pub fn primary_place(&self) -> Option<(&str, u16)> {
        let primary = self.table.myself().primary()?;
        let place = self.table.node(primary).place();
        let port = place.client_port(self.settings.replicates_by_tls);
        (!place.ip.is_empty() && port != 0).then_some((&place.ip, port))
    }

    /// The save that has to be safe before anybody may rely on what was done last, if it is not.
    pub fn awaited_save(&self) -> Option<Ticket> {
        self.saves.awaited()
    }

    /// For a connection that was accepted: its number.
    pub fn number_link(&mut self) -> LinkId {
        self.links.number()
    }

    /// Settings have changed: the next packets say so, and the file at the next event.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        self.configure();
        self.look_at_all();
        self.due.save = true;
        self.due.state = true;
    }

    pub fn handle(
        &mut self,
        event: Event,
        facts: &Facts,
        now: Now,
        prng: &mut Prng,
        actions: &mut Vec<Action>,
    ) {
        let cx = &mut Cx::new(facts, now, prng, actions);
        self.note_facts(facts);
        match event {
            Event::Tick => self.tick(cx),
            Event::Accepted { link, peer_ip, peer_port, own_ip } => {
                self.accepted(link, (peer_ip, peer_port), own_ip, cx);
            }
            Event::Connected { link, own_ip } => self.connected(link, own_ip, cx),
            Event::Closed(link) => self.closed(link),
            Event::Packet(link, bytes) => self.received(link, bytes, cx),
            Event::Saved { ticket, ok } => self.saved(ticket, ok, cx),
            Event::OffsetMoved => self.offset_moved(cx),
            Event::Loaded => self.check_data(cx),
            Event::Publish { channel, message, is_sharded } => {
                self.publish(&Publish { channel, message, is_sharded }, cx);
            }
        }
        self.settle(cx);
    }

    pub(super) fn note_facts(&mut self, facts: &Facts) {
        self.is_paused = facts.paused_offset.is_some() && self.manual.is_held_by_us();
        let offset = facts.paused_offset.filter(|_| self.is_paused).unwrap_or(facts.offset);
        self.table.set_offset(self.table.me(), offset);
    }

    pub(super) fn settle(&mut self, cx: &mut Cx) {
        if std::mem::take(&mut self.due.report) {
            self.report_to_voters(cx);
        }
        if std::mem::take(&mut self.due.election) {
            self.seek_election(cx);
        }
        if std::mem::take(&mut self.due.state) {
            self.update_state(cx);
        }
        self.save_what_is_due(cx);
    }

    /// Our own line, by the settings.
    fn configure(&mut self) {
        let me = self.table.me();
        let ip = self.settings.announce_ip.clone();
        let place = Place {
            ip: ip.unwrap_or_else(|| self.table.myself().place().ip.clone()),
            port: self.settings.port,
            tls_port: self.settings.tls_port,
            bus_port: self.settings.bus_port,
        };
        self.table.set_place(me, place);
        self.table.set_names(me, self.settings.names.clone());
        let known = Flags::EXTENSIONS.or(Flags::LIGHT_HEADER);
        self.table.mark(me, known);
        match self.settings.never_fails_over {
            true => self.table.mark(me, Flags::NOFAILOVER),
            false => self.table.unmark(me, Flags::NOFAILOVER),
        }
    }
}

/// Connections.
impl Cluster {
    fn accepted(&mut self, id: LinkId, peer: (&str, u16), own_ip: &str, cx: &mut Cx) {
        let link = Link {
            direction: Direction::From,
            node: None,
            is_connected: true,
            created_ms: cx.now.ms,
            peer_ip: peer.0.to_owned(),
            peer_port: peer.1,
            own_ip: own_ip.to_owned(),
            queued_bytes: 0,
        };
        self.links.add(id, link);
    }

    pub(super) fn dial(&mut self, key: NodeKey, cx: &mut Cx) {
        let place = self.table.node(key).place();
        let id = self.links.number();
        let link = Link {
            direction: Direction::To,
            node: Some(key),
            is_connected: false,
            created_ms: cx.now.ms,
            peer_ip: place.ip.clone(),
            peer_port: place.bus_port,
            own_ip: String::new(),
            queued_bytes: 0,
        };
        cx.actions.push(Action::Dial { link: id, ip: place.ip.clone(), port: place.bus_port });
        self.links.add(id, link);
    }

    fn connected(&mut self, id: LinkId, own_ip: &str, cx: &mut Cx) {
        let Some(link) = self.links.find_mut(id) else { return };
        link.is_connected = true;
        link.own_ip = own_ip.to_owned();
        let Some(key) = link.node else { return };
        let health = self.table.health_mut(key);
        health.is_linked = true;
        // A new connection is no answer: a ping that is open stays open since it was sent.
        let open_since = health.ping_sent_ms;
        let kind = if self.table.node(key).has(Flags::MEET) { Kind::Meet } else { Kind::Ping };
        if kind == Kind::Meet {
            self.table.health_mut(key).meet_sent_ms = Some(cx.now.ms);
        }
        self.send_ping(id, kind, cx);
        if open_since.is_some() {
            self.table.health_mut(key).ping_sent_ms = open_since;
        }
    }

    pub(super) fn closed(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(id) else { return };
        self.saves.forget(id);
        if let (Direction::To, Some(key)) = (link.direction, link.node) {
            self.table.health_mut(key).is_linked = false;
            self.looks.call(0, key);
        }
    }

    pub(super) fn close(&mut self, id: LinkId, cx: &mut Cx) {
        self.closed(id);
        cx.actions.push(Action::Close(id));
    }
}

/// Packets.
impl Cluster {
    fn received(&mut self, id: LinkId, bytes: &[u8], cx: &mut Cx) {
        if self.links.find(id).is_none() {
            return;
        }
        match Packet::parse(bytes) {
            Ok(packet) => {
                if let Some(kind) = packet.kind() {
                    self.traffic.count_received(kind);
                }
                match self.debug.fate_of(packet.kind()) {
                    Fate::Taken => self.take(id, packet, cx),
                    Fate::Dropped => cx.log(Level::Warning, DROPPED.to_owned()),
                    Fate::Closes => {
                        let number = packet.kind().map_or(0, Kind::number);
                        cx.log(Level::Warning, DROPPED.to_owned());
                        self.close(id, cx);
                        let line = format!("Closing link for matching packet type {number}");
                        cx.log(Level::Warning, line);
                    }
                }
            }
            Err(fault) => {
                let peer = self.links.find(id).map(Link::peer).unwrap_or_default();
                cx.log(Level::Warning, match fault.ends_link() {
                    true => format!(
                        "Bad message length or signature received on the Cluster bus from {peer}"
                    ),
                    false => format!("Bad packet on the Cluster bus from {peer}: {fault}"),
                });
                if fault.ends_link() {
                    self.close(id, cx);
                }
            }
        }
    }

    fn take(&mut self, id: LinkId, packet: Packet, cx: &mut Cx) {
        let (header, body) = match packet {
            Packet::Full(header, body) => (header, body),
            Packet::Light(message) => return self.take_light(id, message, cx),
            Packet::Unknown(number) => {
                return cx.log(Level::Warning, format!("Received unknown packet type: {number}"));
            }
        };
        let sender = self.sender(id, &header, cx);
        if let Some(sender) = sender {
            if self.is_leap(sender, &header) {
                let named = self.named(sender);
                let epoch = header.current_epoch.max(header.config_epoch);
                let line = format!("Ignoring a packet of {named}: nobody votes for epoch {epoch}.");
                return cx.log(Level::Warning, line);
            }
            self.hear(sender, &header, &body, cx);
            // Who asks for something says as what it does, which may be news.
            if matches!(body, Body::AuthRequest | Body::ManualFailoverStart) {
                self.take_configuration(sender, &header, cx);
            }
        }
        match body {
            Body::Ping(ping) => self.take_ping(id, sender, Kind::Ping, &header, &ping, cx),
            Body::Pong(ping) => self.take_ping(id, sender, Kind::Pong, &header, &ping, cx),
            Body::Meet(ping) => self.take_ping(id, sender, Kind::Meet, &header, &ping, cx),
            Body::Fail(node) => self.take_fail(sender, header.sender, node, cx),
            Body::Update(update) => {
                if let Some(sender) = sender {
                    self.take_update(sender, &update, cx);
                }
            }
            Body::Publish(message) if sender.is_some() => deliver(message, cx),
            Body::AuthRequest => self.take_request(id, sender, &header, cx),
            Body::AuthAck => self.take_vote(sender, &header),
            Body::ManualFailoverStart => self.take_manual_start(sender, cx),
            // There are no modules, and of strangers nothing else is taken.
            _ => {}
        }
    }

    fn take_light(&mut self, id: LinkId, message: Publish, cx: &mut Cx) {
        let node = self.links.find(id).and_then(|link| link.node);
        match node.filter(|key| !self.table.node(*key).has(Flags::HANDSHAKE)) {
            Some(sender) => {
                self.table.health_mut(sender).data_received_ms = Some(cx.now.ms);
                deliver(message, cx);
            }
            None => self.close(id, cx),
        }
    }

    /// Who sends, if it is known. What we dialled belongs to whom it was dialled for; what was
    /// accepted to whoever speaks on it.
    fn sender(&mut self, id: LinkId, header: &Header, cx: &mut Cx) -> Option<NodeKey> {
        let link = self.links.find(id)?;
        let is_met = |key: &NodeKey| !self.table.node(*key).has(Flags::HANDSHAKE);
        if link.direction == Direction::To
            && let Some(known) = link.node.filter(is_met)
        {
            return Some(known).filter(|key| self.table.node(*key).id() == header.sender);
        }
        let sender = self.table.find(header.sender)?;
        if link.direction == Direction::From && link.node != Some(sender) {
            self.bind(id, sender, cx);
        }
        Some(sender)
    }

    /// An epoch that no election comes to, from one who has no say in them: were it believed, there
    /// would soon be no greater one. Who knows nobody with a say yet believes whom it meets.
    fn is_leap(&self, sender: NodeKey, header: &Header) -> bool {
        let epoch = header.current_epoch.max(header.config_epoch);
        let is_far = epoch > self.table.current_epoch().saturating_add(EPOCH_LEAP);
        is_far && !self.table.node(sender).votes() && self.table.size() > 0
    }

    pub(super) fn bind(&mut self, id: LinkId, node: NodeKey, cx: &mut Cx) {
        self.table.health_mut(node).meet_sent_ms = None;
        if let Some(old) = self.links.bind(id, node) {
            self.close(old, cx);
        }
    }

    /// What every packet tells of its sender.
    fn hear(&mut self, sender: NodeKey, header: &Header, body: &Body, cx: &mut Cx) {
        if let Body::Ping(ping) | Body::Pong(ping) | Body::Meet(ping) = body
            && ping.knows_extensions
        {
            self.table.mark(sender, Flags::EXTENSIONS);
        }
        match header.flags.has(Flags::LIGHT_HEADER) {
            true => self.table.mark(sender, Flags::LIGHT_HEADER),
            false => self.table.unmark(sender, Flags::LIGHT_HEADER),
        }
        self.table.health_mut(sender).data_received_ms = Some(cx.now.ms);
        if self.table.node(sender).has(Flags::HANDSHAKE) || sender == self.table.me() {
            return;
        }
        if header.current_epoch > self.table.current_epoch() {
            self.table.raise_current_epoch(header.current_epoch);
            self.due.save = true;
        }
        let is_newer = header.config_epoch > self.table.node(sender).config_epoch();
        if header.primary.is_none() && is_newer {
            self.table.set_config_epoch(sender, header.config_epoch);
            self.due.sync = true;
            self.note_winner(header.config_epoch, cx);
        }
        self.note_epoch(sender, header.current_epoch);
        self.note_paused_offset(sender, header, cx);
        self.table.set_offset(sender, header.offset);
        self.table.health_mut(sender).offset_told_ms = Some(cx.now.ms);
        self.due.election |= self.waits_for_fellows();
    }
}

fn deliver(message: Publish, cx: &mut Cx) {
    cx.actions.push(Action::Deliver {
        channel: message.channel.to_vec(),
        message: message.message.to_vec(),
        is_sharded: message.is_sharded,
    });
}

/// Writing.
impl Cluster {
    /// Sends what `write` makes of our header.
    pub(super) fn send(
        &mut self,
        link: LinkId,
        kind: Kind,
        write: impl FnOnce(&Header) -> Vec<u8>,
        cx: &mut Cx,
    ) {
        self.follow_handed();
        let bytes = write(&self.header());
        self.traffic.count_sent(kind);
        cx.send(link, bytes);
    }

    /// To all nodes that we are connected to.
    pub(super) fn broadcast(
        &mut self,
        kind: Kind,
        write: impl FnOnce(&Header) -> Vec<u8>,
        cx: &mut Cx,
    ) {
        self.follow_handed();
        let bytes = write(&self.header());
        for (key, link) in self.links.all_connected() {
            if !self.table.node(key).has(Flags::HANDSHAKE) {
                self.traffic.count_sent(kind);
                cx.send(link, bytes.clone());
            }
        }
    }

    /// What we say of ourselves; as a replica of slots what our primary has.
    /// To be asked for behind [`Cluster::follow_handed`].
    pub(super) fn header(&self) -> Header<'_> {
        let me = self.table.myself();
        let shown = self.table.node(self.table.primary_of(self.table.me()));
        Header {
            sender: me.id(),
            flags: me.flags(),
            current_epoch: self.table.current_epoch(),
            config_epoch: shown.config_epoch(),
            slots: self.handed.as_ref().map_or(shown.slots(), |handed| handed.shown.bits()),
            offset: me.offset(),
            primary: me.primary().map(|primary| self.table.node(primary).id()),
            ip: self.settings.announce_ip.as_deref(),
            ports: self.ports_of(me.place()),
            is_down: !self.state.is_up(),
            is_paused: self.is_paused,
            forces_ack: false,
        }
    }

    pub(super) fn ports_of(&self, place: &Place) -> Ports {
        let (client, other) = match self.settings.is_tls {
            true => (place.tls_port, place.port),
            false => (place.port, place.tls_port),
        };
        Ports { client, other, bus: place.bus_port }
    }

    pub(super) fn place_of(&self, ip: &str, ports: Ports) -> Place {
        let (port, tls_port) = match self.settings.is_tls {
            true => (ports.other, ports.client),
            false => (ports.client, ports.other),
        };
        Place { ip: ip.to_owned(), port, tls_port, bus_port: ports.bus }
    }

    /// As log lines name a node: its id, and what people call it.
    pub(super) fn named(&self, key: NodeKey) -> String {
        let node = self.table.node(key);
        format!("{} ({})", node.id(), node.names().nodename)
    }
}
