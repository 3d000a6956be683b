//! A server that is a node of a cluster: who tells the machine what happens, and who carries out
//! what it wants.
//!
//! The machine lies in [`Server::cluster`], where ordinary servers have nothing. What it wants done
//! on the bus and with its file leaves as [`BusErrand`]s; the rest is ours: roles, pauses, keys of
//! slots that are lost, messages, and lines of the log.

mod slots;
#[cfg(test)]
mod tests;
pub mod usage;

use super::bus::{LinkBytes, Saver};
use super::pause::{PauseMode, PauseOwner};
use super::{ClientId, Core, Cx, Effect, Engine, Server, Session};
use crate::cluster::admin::{Done, Request};
use crate::cluster::debug::KillRefusal;
use crate::cluster::file::{self, BUS_PORT_OFFSET, Corrupt};
use crate::cluster::id::{ID_LEN, NodeId, ShardId};
use crate::cluster::links::{Direction, LinkId};
use crate::cluster::machine::{Action, Cluster, Event, Facts, Level, Settings};
use crate::cluster::saves::Ticket;
use crate::cluster::show::{Asking, Endpoint};
use crate::cluster::table::{Names, Table};
use crate::cluster::time::Now;
use crate::command::{CommandError, CommandResult};
use crate::config::{Config, EndpointType, PrimaryAddress, Text};
use crate::keyspace::slot::Slot;
use crate::pubsub::Topic;
use crate::repl::link::{Link, Primary, Purpose};
use crate::resp::{Reply, ReplyBuf};
use crate::structs::prng::Prng;
use std::collections::BTreeMap;

/// What the machine has the driver do. What comes of it goes to [`Engine::tell_cluster`].
pub enum BusErrand {
    Dial {
        link: LinkId,
        ip: String,
        port: u16,
    },
    Send {
        link: LinkId,
        bytes: Vec<u8>,
    },
    /// End the connection; nothing more of it is told.
    Close(LinkId),
    /// Write nodes.conf, and have it safe on disk if it is synced. Texts are written in order; of
    /// those that wait the last is enough.
    Save {
        text: String,
        is_synced: bool,
        saver: Saver,
    },
}

/// A client who waits until what it has changed is in the file.
struct Unsaved {
    ticket: Ticket,
    client: ClientId,
    reply: ReplyBuf,
}

/// What makes a server a node of a cluster.
pub struct Member {
    pub machine: Cluster,
    prng: Prng,
    /// Who is answered when the file is safe.
    unsaved: Vec<Unsaved>,
    /// How far our data was when it was last looked at.
    offset: u64,
    /// The offset that the machine was last told of while it waited for one.
    offset_told: Option<u64>,
    /// What clients who wait or listen have been told of.
    seen: slots::Seen,
    /// What the connections of the bus take, as the driver last told.
    pub link_bytes: BTreeMap<LinkId, LinkBytes>,
}

impl Member {
    fn new(machine: Cluster, prng: Prng) -> Member {
        let seen = slots::Seen::default();
        let link_bytes = BTreeMap::new();
        let (unsaved, offset, offset_told) = (Vec::new(), 0, None);
        Member { machine, prng, unsaved, offset, offset_told, seen, link_bytes }
    }
}

impl Server {
    /// The time, as the cluster goes by it.
    pub fn cluster_now(&self) -> Now {
        let now = self.clock.now();
        Now { ms: now.mono_us / 1000, unix_ms: now.unix_us / 1000 }
    }
}

/// What the configuration says of this node.
pub(super) fn cluster_settings(config: &Config) -> Settings {
    let or = |announced: u16, port: u16| if announced == 0 { port } else { announced };
    let text = |text: &Option<Text>| {
        text.as_ref().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let announced_ip = text(&config.cluster_announce_ip);
    Settings {
        node_timeout_ms: config.cluster_node_timeout,
        ping_interval_ms: Some(config.cluster_ping_interval).filter(|ms| *ms > 0),
        requires_full_coverage: config.cluster_require_full_coverage,
        allows_replica_migration: config.cluster_allow_replica_migration,
        migration_barrier: config.cluster_migration_barrier as usize,
        never_fails_over: config.cluster_replica_no_failover,
        replica_validity_factor: config.cluster_replica_validity_factor.into(),
        replica_ping_period_s: config.repl_ping_replica_period.into(),
        manual_failover_timeout_ms: config.cluster_manual_failover_timeout,
        link_bytes_max: usize::try_from(config.cluster_link_sendbuf_limit).unwrap_or(usize::MAX),
        is_tls: config.tls_cluster,
        replicates_by_tls: config.tls_replication,
        announce_ip: Some(announced_ip).filter(|ip| !ip.is_empty()),
        port: or(config.cluster_announce_port, config.port),
        tls_port: or(config.cluster_announce_tls_port, config.tls_port),
        bus_port: or(config.cluster_announce_bus_port, bus_port(config)),
        names: Names {
            hostname: text(&config.cluster_announce_hostname),
            nodename: text(&config.cluster_announce_human_nodename),
            client_ipv4: text(&config.cluster_announce_client_ipv4),
            client_ipv6: text(&config.cluster_announce_client_ipv6),
        },
        blacklist_ttl_s: config.cluster_blacklist_ttl,
    }
}

impl Server {
    /// How far our data is; 0 as a replica that has none, or is taking in other data. One that
    /// only waits for that has what it had.
    fn cluster_offset(&mut self) -> u64 {
        let offset = match &self.replication {
            primary if !primary.is_replica() => Some(self.replication_offset()),
            empty if empty.fetch.is_some() => Some(0),
            replica => replica.link.applied_offset(),
        };
        let Some(member) = &mut self.cluster else { return 0 };
        member.offset = offset.map_or(member.offset, i64::unsigned_abs);
        member.offset
    }

    /// What is on its way to a connection waits there until the driver tells otherwise.
    fn count_queued(&mut self, link: LinkId, bytes: usize) {
        if let Some(member) = &mut self.cluster
            && let Some(known) = member.link_bytes.get_mut(&link)
        {
            known.queued += bytes;
            known.queue += bytes;
        }
    }

    /// What replicas are told of slots on their way, by name.
    pub(super) fn slot_states(&self) -> Option<(Box<str>, Vec<u8>)> {
        let text = self.cluster.as_ref()?.machine.ways_text()?;
        Some(("cluster-slot-states".into(), text.into_bytes()))
    }

    /// What our primary has told so; without a word no slot is on its way.
    pub(super) fn take_slot_states(&mut self, text: &[u8]) {
        if let Some(member) = &mut self.cluster
            && !member.machine.take_ways_text(text)
        {
            tracing::warn!("The primary's snapshot has slot states that cannot be read");
        }
    }

    /// How long ago something came of our primary's stream.
    fn stream_age_ms(&self) -> u64 {
        let link = &self.replication.link;
        let since_ms = match link.is_connected() {
            true => link.io_ms(),
            false => link.down_ms(),
        };
        since_ms.map_or(u64::MAX, |since_ms| self.clock.mono_ms().saturating_sub(since_ms))
    }

    /// How many connections the bus has when all nodes are there.
    pub fn cluster_connections(&self) -> usize {
        self.cluster.as_deref().map_or(0, |member| 2 * (member.machine.table().count() - 1))
    }

    /// How a client is told where nodes are.
    pub fn asking_of(&self, session: &Session) -> Asking {
        Asking {
            is_tls: session.peer.is_tls,
            is_ipv6: session.peer.is_ipv6(),
            prefers: match self.config.cluster_preferred_endpoint_type {
                EndpointType::Ip => Endpoint::Ip,
                EndpointType::Hostname => Endpoint::Hostname,
                EndpointType::Unknown => Endpoint::Unknown,
            },
        }
    }
}

/// The port on which the bus listens.
pub fn bus_port(config: &Config) -> u16 {
    let client_port = if config.tls_cluster { config.tls_port } else { config.port };
    match config.cluster_port {
        0 => client_port.saturating_add(BUS_PORT_OFFSET),
        port => port,
    }
}

fn random_id(prng: &mut Prng) -> [u8; ID_LEN / 2] {
    let mut bytes = [0; ID_LEN / 2];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&prng.next_u64().to_le_bytes()[..chunk.len()]);
    }
    bytes
}

impl Engine {
    /// Makes this server a node of a cluster, before anybody is served, with what its file says of
    /// that if there is one.
    pub fn join_cluster(&mut self, text: Option<&[u8]>) -> Result<(), Corrupt> {
        let mut prng = Prng::seeded(self.server.prng.next_u64());
        let settings = cluster_settings(&self.server.config);
        let mut fresh_shard = || ShardId::from_random(random_id(&mut prng));
        let table = match text {
            Some(text) => {
                let now = self.server.cluster_now();
                let loaded = file::parse(text, now, settings.is_tls, &mut fresh_shard)?;
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!("Node configuration loaded, I'm {}", loaded.table.myself().id());
                loaded.table
            }
            None => {
                let shard = fresh_shard();
                let id = NodeId::from_random(random_id(&mut prng));
                tracing::info!("No cluster configuration found, I'm {id}");
                Table::new(id, shard)
            }
        };
        let machine = Cluster::new(settings, table);
        self.server.cluster = Some(Box::new(Member::new(machine, prng)));
        self.server.follow_usage();
        self.follow_as_the_file_says();
        Ok(())
    }

    /// One that was a replica is one from the start, as if it were configured so, and goes on with
    /// the history that its own files are of.
    fn follow_as_the_file_says(&mut self) {
        let Some(member) = &self.server.cluster else { return };
        let Some((host, port)) = member.machine.primary_place() else { return };
        let (host, text) = (host.to_owned(), Text::from(host.as_bytes()));
        self.server.config.replicaof = Some(PrimaryAddress { host: text, port });
        let replication = &mut self.server.replication;
        replication.link = Link::configured(*replication.history(), Primary { host, port }, None);
    }

    /// Tells the machine, if there is one, what has happened.
    pub fn tell_cluster(&mut self, event: Event<'_>) {
        self.core().tell_cluster(event);
        if let Event::Saved { ticket, ok } = event {
            self.file_is_saved(ticket, ok);
        }
    }

    /// What waited for the file goes on. A node that cannot keep what it promises must not go on.
    fn file_is_saved(&mut self, saved: Ticket, ok: bool) {
        if !ok {
            tracing::warn!("Fatal: can't update cluster config file.");
            return self.server.effects.push(Effect::Exit(1));
        }
        let Some(member) = &mut self.server.cluster else { return };
        let is_safe = |waiting: &mut Unsaved| waiting.ticket <= saved;
        let safe: Vec<Unsaved> = member.unsaved.extract_if(.., is_safe).collect();
        for Unsaved { client, reply, .. } in safe {
            self.finish_job(client, Ok(reply));
        }
    }

    /// Tells the machine how far the stream is, if it waits for that.
    pub(super) fn tell_offset_to_cluster(&mut self) {
        let Some(member) = &mut self.server.cluster else { return };
        if !member.machine.awaits_offset() {
            member.offset_told = None;
            return;
        }
        let offset = self.server.cluster_offset();
        let Some(member) = &mut self.server.cluster else { return };
        if member.offset_told.replace(offset) != Some(offset) {
            self.tell_cluster(Event::OffsetMoved);
        }
    }

    /// The number of a connection to the bus that was accepted.
    pub fn number_bus_link(&mut self) -> Option<LinkId> {
        self.server.cluster.as_mut().map(|member| member.machine.number_link())
    }
}

impl Cx<'_> {
    /// Does what an administrator asks for.
    pub fn administrate(&mut self, request: Request) -> Result<Done, CommandError> {
        self.core().administrate(request)
    }

    /// The same, and answers when that is safe.
    pub fn administrate_and_answer(&mut self, request: Request) -> CommandResult {
        let done = self.administrate(request)?;
        self.answer_when_saved(|reply| match done {
            Done::Ok => reply.ok(),
            Done::Bumped(epoch) => reply.simple(format!("BUMPED {epoch}").as_bytes()),
            Done::Still(epoch) => reply.simple(format!("STILL {epoch}").as_bytes()),
            Done::Taken(epoch) => reply.simple(epoch.to_string().as_bytes()),
        });
        Ok(())
    }

    /// Answers like this when the file holds what was done: at once where nothing has to be kept,
    /// and where the answer is a part of another one.
    pub fn answer_when_saved(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let awaited = self.server.cluster.as_ref().and_then(|it| it.machine.awaited_save());
        let (Some(ticket), true) = (awaited, self.caller.may_answer_late()) else {
            return write(&mut self.reply);
        };
        let (client, mut reply) = (self.client, ReplyBuf::new());
        write(&mut reply.writer(self.reply.protocol()));
        self.wait_for_answer();
        if let Some(member) = &mut self.server.cluster {
            member.unsaved.push(Unsaved { ticket, client, reply });
        }
    }

    /// Has other nodes hear what is published here.
    pub fn publish_on_bus(&mut self, channel: &[u8], message: &[u8], is_sharded: bool) {
        self.core().tell_cluster(Event::Publish { channel, message, is_sharded });
    }
}

impl Core<'_> {
    /// Ends connections of the bus (DEBUG CLUSTERLINK KILL).
    pub fn kill_bus_links(
        &mut self,
        direction: Option<Direction>,
        id: NodeId,
    ) -> Result<(), KillRefusal> {
        let Some(member) = &mut self.server.cluster else { return Ok(()) };
        let mut actions = Vec::new();
        member.machine.kill_links(direction, id, &mut actions)?;
        for action in actions {
            self.act_for_cluster(action);
        }
        Ok(())
    }

    pub fn administrate(&mut self, request: Request) -> Result<Done, CommandError> {
        if let Request::TakeSlots { slots, .. } = &request
            && self.space.staging().is_none_or(|staging| staging.slots() != slots)
        {
            // The move has ended while replicas were waited for.
            return Err(CommandError::Fixed("ERR No such move is under way"));
        }
        let done = self.have_cluster(|machine, facts, now, prng, actions| {
            machine.administrate(request, facts, now, prng, actions)
        });
        done.ok_or(CommandError::NoClusterSupport)?
            .map_err(|refusal| CommandError::err(format_args!("{refusal}")))
    }

    pub fn tell_cluster(&mut self, event: Event<'_>) {
        self.have_cluster(|machine, facts, now, prng, actions| {
            machine.handle(event, facts, now, prng, actions);
        });
    }

    /// Has the machine, if there is one, do something, and does what follows.
    fn have_cluster<T>(
        &mut self,
        it_does: impl FnOnce(&mut Cluster, &Facts<'_>, Now, &mut Prng, &mut Vec<Action>) -> T,
    ) -> Option<T> {
        let now = self.server.cluster_now();
        let offset = self.server.cluster_offset();
        let space = &*self.space;
        let has_keys = |slot: Slot| space.db(0).slot_len(slot) > 0;
        let stream_age_ms = self.server.stream_age_ms();
        let is_paused = self.server.pause.is_held_by(PauseOwner::Cluster);
        let paused_offset = is_paused.then_some(offset);
        let facts = Facts { offset, stream_age_ms, paused_offset, has_keys: &has_keys };
        let member = self.server.cluster.as_deref_mut()?;
        let mut actions = Vec::new();
        let outcome = it_does(&mut member.machine, &facts, now, &mut member.prng, &mut actions);
        for action in actions {
            self.act_for_cluster(action);
        }
        self.follow_slots();
        Some(outcome)
    }

    fn act_for_cluster(&mut self, action: Action) {
        let errand = match action {
            Action::Dial { link, ip, port } => BusErrand::Dial { link, ip, port },
            Action::Send { link, bytes } => {
                self.server.count_queued(link, bytes.len());
                BusErrand::Send { link, bytes }
            }
            Action::Close(link) => BusErrand::Close(link),
            Action::Save { ticket, text, is_synced } => {
                BusErrand::Save { text, is_synced, saver: Saver::Machine(ticket) }
            }
            Action::Replicate { ip, port, is_same_history } => {
                let primary = Primary { host: ip, port };
                let purpose = if is_same_history { Purpose::Follow } else { Purpose::Copy };
                self.finish_telling();
                self.follow_primary(&primary, purpose);
                if let (Purpose::Copy, Some(member)) = (purpose, &mut self.server.cluster) {
                    member.offset = 0;
                }
                return;
            }
            Action::BecomePrimary => {
                self.promote();
                self.drop_foreign_slots();
                return self.settle_staging();
            }
            Action::PauseWrites { until_ms } => {
                // Who takes over has it from what was written before.
                self.finish_telling();
                return self.server.pause.start(PauseOwner::Cluster, PauseMode::Writes, until_ms);
            }
            Action::ResumeWrites => return self.end_pause_of(PauseOwner::Cluster),
            Action::SlotsLost { slots, to } => return self.server.tell_of_lost_slots(&slots, to),
            Action::DropSlot(slot) => return self.drop_slot(slot),
            Action::DropAll => return self.drop_all(),
            Action::MergeStaged => return self.merge_staging(),
            Action::Deliver { channel, message, is_sharded } => {
                let topic = if is_sharded { Topic::ShardChannel } else { Topic::Channel };
                self.server.publish(self.clients, topic, &channel, &message);
                return;
            }
            // Clients are looked at when all is done.
            Action::StateChanged { .. } => return,
            Action::Log(level, text) => return log(level, &text),
        };
        self.server.effects.push(Effect::Bus(errand));
    }
}

fn log(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::trace!("{text}"),
        Level::Verbose => tracing::debug!("{text}"),
        Level::Notice => tracing::info!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
    }
}
