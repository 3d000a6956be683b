//! What the driver tells of the bus and asks for it: its connections, and the file of the node.

use super::cluster::BusErrand;
use super::{ClientId, Cx, Effect, Engine, Server};
use crate::cluster::file;
use crate::cluster::links::LinkId;
use crate::cluster::machine::Event;
use crate::cluster::saves::Ticket;
use crate::command::CommandError;
use crate::config::Config;
use crate::persist::disk::Disk;
use crate::resp::ReplyBuf;
use std::net::IpAddr;
use std::sync::Arc;

/// For whom the file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saver {
    /// The machine, which waits for this one. Without its file the node must not go on, for it
    /// would forget what it has promised.
    Machine(Ticket),
    /// A client, which waits for it.
    Client(ClientId),
    /// The server ends, whatever comes of it.
    End,
}

/// What a connection of the bus takes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkBytes {
    /// What has yet to be sent, and what the packets take that it is in.
    pub queued: usize,
    pub queue: usize,
    /// What has come of packets that are not yet whole.
    pub input: usize,
}

impl Server {
    /// How many places for connections the bus takes from clients: strangers have theirs, too.
    pub(super) fn bus_places(&self) -> usize {
        let there = self.cluster.as_ref().map_or(0, |member| member.link_bytes.len());
        self.cluster_connections().max(there)
    }

    /// What the connections of the bus take, in bytes.
    pub fn bus_bytes(&self) -> usize {
        let links = self.cluster.iter().flat_map(|member| member.link_bytes.values());
        links.map(|link| link.queue + link.input).sum()
    }

    /// What the node knows, as the file has it.
    pub fn nodes_text(&self) -> Option<String> {
        let member = self.cluster.as_ref()?;
        Some(file::print(member.machine.table(), self.cluster_now()))
    }

    /// Has the file written for somebody, and synced; false if this is no node of a cluster.
    pub fn save_nodes(&mut self, saver: Saver) -> bool {
        let Some(text) = self.nodes_text() else { return false };
        let errand = BusErrand::Save { text, is_synced: true, saver };
        self.effects.push(Effect::Bus(errand));
        true
    }

    pub(super) fn save_nodes_before_end(&mut self) {
        if self.save_nodes(Saver::End) {
            tracing::info!("Saving the cluster configuration file before exiting.");
        }
    }
}

impl Cx<'_> {
    /// Has nodes.conf written, and answers by what comes of it.
    pub fn save_nodes_and_answer(&mut self) {
        if !self.caller.may_answer_late() {
            self.server.save_nodes(Saver::End);
            return self.reply.ok();
        }
        self.wait_for_answer();
        self.server.save_nodes(Saver::Client(self.client));
    }
}

/// Why a server with such a configuration cannot be a node, in Redis's words.
pub fn unfit(config: &Config) -> Option<&'static str> {
    let client_port = if config.tls_cluster { config.tls_port } else { config.port };
    if config.cluster_port == 0 && client_port > u16::MAX - file::BUS_PORT_OFFSET {
        return Some(
            "Redis port number too high. Cluster communication port is 10,000 port numbers higher \
             than your Redis port. Your Redis port number must be 55535 or less.",
        );
    }
    let is_bound = !config.bind.0.is_empty();
    (!is_bound).then_some("No bind address is configured, but it is required for the Cluster bus.")
}

impl Engine {
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.server.parts.disk)
    }

    pub fn nodes_text(&self) -> Option<String> {
        self.server.nodes_text()
    }

    /// What all connections of the bus take now.
    pub fn note_bus(&mut self, links: impl Iterator<Item = (LinkId, LinkBytes)>) {
        let Some(member) = &mut self.server.cluster else { return };
        member.link_bytes = links.collect();
        for (link, bytes) in &member.link_bytes {
            member.machine.set_queued(*link, bytes.queue);
        }
    }

    /// What one of them takes now.
    pub fn note_bus_link(&mut self, link: LinkId, bytes: LinkBytes) {
        let Some(member) = &mut self.server.cluster else { return };
        if let Some(known) = member.link_bytes.get_mut(&link) {
            *known = bytes;
            member.machine.set_queued(link, bytes.queue);
        }
    }

    /// Whether it is known to whom a connection belongs.
    pub fn knows_bus_link(&self, link: LinkId) -> bool {
        self.server.cluster.as_ref().is_some_and(|member| member.machine.knows_link(link))
    }

    /// Whether somebody who connects to the bus from there is heard: while the server is protected
    /// only from this machine, or whence a node is known to be.
    pub fn may_dial_bus(&self, ip: IpAddr) -> bool {
        if ip.is_loopback() || self.server.config.tls_cluster || !self.is_protected() {
            return true;
        }
        let Some(member) = &self.server.cluster else { return false };
        let ip = ip.to_string();
        member.machine.table().iter().any(|(_, node)| node.place().ip == ip)
    }

    /// The file was written, or could not be; the log says why.
    pub fn finish_saving_nodes(&mut self, saver: Saver, result: Result<(), String>) {
        match (saver, result) {
            (Saver::End, _) => {}
            (Saver::Machine(ticket), result) => {
                self.tell_cluster(Event::Saved { ticket, ok: result.is_ok() });
            }
            (Saver::Client(client), result) => {
                let reply = match result {
                    Ok(()) => Ok(ReplyBuf::with_written(b"+OK\r\n".to_vec())),
                    Err(reason) => Err(CommandError::err(format_args!(
                        "error saving the cluster node config: {reason}"
                    ))),
                };
                self.finish_job(client, reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Now, Seed, ServerParts};

    fn node() -> Engine {
        let config = Config { cluster_enabled: true, ..Config::default() };
        let seed = Seed { hash_key: [7; 16], prng: 7 };
        let mut engine = Engine::new(config, ServerParts::default(), seed);
        engine.tick(Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000_000 });
        engine.join_cluster(None).expect("there is no file that could be wrong");
        engine
    }

    #[test]
    fn a_node_ends_without_its_file_and_only_for_its_own_sake() {
        let mut engine = node();
        let mut ends_by = |saver, result| {
            engine.finish_saving_nodes(saver, result);
            engine.take_effects().iter().any(|effect| matches!(effect, Effect::Exit(1)))
        };
        let machine = Saver::Machine(Ticket::default());
        assert!(!ends_by(machine, Ok(())));
        assert!(!ends_by(Saver::End, Err("full".into())));
        assert!(ends_by(machine, Err("full".into())));
    }

    #[test]
    fn who_has_no_room_for_a_bus_is_no_node() {
        let too_high = |port| unfit(&Config { port, ..Config::default() }).is_some();
        assert_eq!([55_535, 55_536].map(too_high), [false, true]);
        let told = Config { port: 60_000, cluster_port: 1, ..Config::default() };
        assert_eq!(unfit(&told), None);
        let by_tls = Config { port: 60_000, tls_port: 7_000, tls_cluster: true, ..told.clone() };
        assert_eq!(unfit(&Config { cluster_port: 0, ..by_tls }), None);
        let nowhere = Config { bind: crate::config::BindAddresses(Vec::new()), ..told };
        assert!(unfit(&nowhere).is_some());
    }

    #[test]
    fn a_protected_node_hears_its_machine_and_its_friends() {
        let mut engine = node();
        let ip = |text: &str| text.parse::<IpAddr>().expect("it is one");
        assert!(engine.may_dial_bus(ip("127.0.0.1")) && engine.may_dial_bus(ip("::1")));
        assert!(!engine.may_dial_bus(ip("10.0.0.1")));
        engine.server.config.protected_mode = false;
        assert!(engine.may_dial_bus(ip("10.0.0.1")));
    }

    #[test]
    fn what_links_take_is_added_up() {
        let mut engine = node();
        let link = engine.number_bus_link().expect("it is a node");
        let bytes = LinkBytes { queued: 1, queue: 20, input: 300 };
        engine.note_bus([(link, bytes)].into_iter());
        assert_eq!(engine.server.bus_bytes(), 320);
        assert!(!engine.knows_bus_link(link));
        engine.note_bus(std::iter::empty());
        assert_eq!(engine.server.bus_bytes(), 0);
    }
}
