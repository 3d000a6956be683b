//! Nodes of a cluster as processes: their bus, by who speaks it and by who does not, and the file
//! that they live by.
//!
//! What nodes make of what others say is told in tests of the machine; here it is sockets, files
//! and processes. Where a test plays a node, it speaks the bus itself.

use crate::client::Client;
use crate::interop;
use crate::ports;
use crate::server::{RUFOUS, Server, wait_for};
use crate::sim_disk::{Mishap, SimDisk, libc_error};
use crate::tls::info_of;
use crate::tls_client::{Dial, TlsClient, fixture};
use rufous::cluster::flags::Flags;
use rufous::cluster::id::NodeId;
use rufous::cluster::slot_set::SlotBits;
use rufous::cluster::wire::{self, Body, HEAD_LEN, Header, Kind, Packet, Ports, Publish};
use rufous::persist::disk::Disk;
use rufous::persist::nodes::{NodesFile, Version};
use rufous::structs::prng::Prng;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A node in a process of its own.
struct Node {
    server: Server,
    bus: u16,
}

const FILE: &str = "nodes.conf";

impl Node {
    fn start() -> Node {
        Node::with("")
    }

    /// Starts one with more lines in its configuration.
    fn with(lines: &str) -> Node {
        let bus = ports::free();
        let server = Server::with_file(&format!(
            "save \"\"\nlogfile log\ncluster-enabled yes\ncluster-port {bus}\n\
             cluster-node-timeout 2000\n{lines}"
        ));
        Node { server, bus }
    }

    fn restart(self) -> Node {
        Node { server: self.server.restart(), ..self }
    }

    fn file(&self) -> String {
        self.server.file(FILE)
    }

    /// What the file says of this node.
    fn own_line(&self) -> Vec<String> {
        let file = self.file();
        let line = file.lines().find(|line| line.contains("myself"));
        line.expect("a node knows itself").split(' ').map(str::to_owned).collect()
    }

    fn id(&self) -> String {
        self.own_line().swap_remove(0)
    }

    fn await_in_file(&self, part: &str) {
        wait_for(part, || self.file().contains(part).then_some(()));
    }

    fn await_log(&self, part: &str) {
        wait_for(part, || self.server.file("log").contains(part).then_some(()));
    }

    fn ping(&self) {
        assert_eq!(self.server.connect().run("PING").print(), "PONG");
    }

    fn info(&self, field: &str) -> u64 {
        let value = info_of(&mut self.server.connect(), field);
        value.expect("it is there").parse().expect("it is a number")
    }
}

/// A node that a test plays.
#[derive(Clone, Copy)]
struct Actor {
    id: NodeId,
    ports: Ports,
}

impl Actor {
    fn new(number: u8, ports: Ports) -> Actor {
        Actor { id: NodeId::from_random([number; 20]), ports }
    }

    /// One at whose port nobody listens.
    fn nowhere(number: u8) -> Actor {
        Actor::new(number, Ports { client: 1, other: 0, bus: 2 })
    }

    fn header(&self) -> Header<'static> {
        Header {
            sender: self.id,
            flags: Flags::PRIMARY,
            current_epoch: 0,
            config_epoch: 0,
            slots: SlotBits::EMPTY,
            offset: 0,
            primary: None,
            ip: None,
            ports: self.ports,
            is_down: true,
            is_paused: false,
            forces_ack: false,
        }
    }

    fn say(&self, kind: Kind) -> Vec<u8> {
        self.header().ping(kind, &[], &[])
    }
}

/// A connection of the bus.
struct Wire {
    client: Client,
    input: Vec<u8>,
}

impl Wire {
    fn dial(port: u16) -> Wire {
        Wire { client: Client::connect(port).expect("it listens"), input: Vec::new() }
    }

    /// Waits until somebody connects.
    fn accept(listener: &TcpListener) -> Wire {
        listener.set_nonblocking(true).expect("it is a socket");
        let (stream, _) = wait_for("somebody connects", || listener.accept().ok());
        stream.set_nonblocking(false).expect("it is a socket");
        Wire { client: Client::over(stream).expect("it is a socket"), input: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    /// The next packet; nothing if the connection has ended.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(len) = whole(&self.input) {
                return Some(self.input.drain(..len).collect());
            }
            let (more, ended) = self.client.receive_raw(|bytes| !bytes.is_empty());
            self.input.extend(more);
            if ended && whole(&self.input).is_none() {
                return None;
            }
        }
    }

    /// The id in the next packet, which must be of this kind.
    fn expect(&mut self, kind: Kind) -> String {
        sender_of(&self.receive().expect("it is answered"), kind)
    }

    /// Reads until the connection ends; a node that never ends it fails the test.
    fn expect_end(&mut self) {
        while self.receive().is_some() {}
    }
}

fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEAD_LEN>()?;
    let len = wire::length(head, 1 << 20).expect("nodes send packets");
    (bytes.len() >= len).then_some(len)
}

fn sender_of(packet: &[u8], kind: Kind) -> String {
    let packet = Packet::parse(packet).expect("nodes send packets");
    assert_eq!(packet.kind(), Some(kind));
    let Packet::Full(header, Body::Ping(_) | Body::Pong(_) | Body::Meet(_)) = packet else {
        panic!("it says who it is")
    };
    header.sender.to_string()
}

/// Has a node meet another one, and the cluster of that.
fn meet(node: &Node, port: u16, bus: u16) {
    let line = format!("CLUSTER MEET 127.0.0.1 {port} {bus}");
    assert_eq!(node.server.connect().run(&line).print(), "OK");
}

// ----------------------------------------------------------------------------------------- the bus

#[test]
fn a_stranger_is_answered_and_not_remembered() {
    let node = Node::start();
    let mut wire = Wire::dial(node.bus);
    for _ in 0..3 {
        wire.send(&Actor::nowhere(1).say(Kind::Ping));
        assert_eq!(wire.expect(Kind::Pong), node.id());
    }
    assert_eq!(node.file().lines().count(), 2, "itself, and the epochs");
    assert_eq!(node.info("cluster_connections"), 0);
}

/// Both ways: the one who was met dials too, and each says who it is.
#[test]
fn who_is_met_is_dialled_and_known_after_a_restart() {
    let node = Node::start();
    let listener = ports::taken();
    let bus = listener.local_addr().expect("it is bound").port();
    let actor = Actor::new(7, Ports { client: 1, other: 0, bus });
    let mut out = Wire::dial(node.bus);
    out.send(&actor.say(Kind::Meet));
    out.expect(Kind::Pong);
    let mut back = Wire::accept(&listener);
    let id = node.id();
    assert_eq!(back.expect(Kind::Ping), id);
    back.send(&actor.say(Kind::Pong));
    node.await_in_file(actor.id.as_str());
    assert_eq!(node.info("cluster_connections"), 2);
    wait_for("memory of links is counted", || (node.info("mem_cluster_links") > 0).then_some(()));
    let node = node.restart();
    assert_eq!(node.id(), id, "it is the same node");
    // It dials those whom it knows.
    drop(back);
    let mut back = Wire::accept(&listener);
    while back.receive().is_none_or(|packet| sender_of(&packet, Kind::Ping) != id) {
        back = Wire::accept(&listener);
    }
}

#[test]
fn nodes_that_hear_of_each_other_form_a_cluster() {
    let nodes: Vec<Node> = (0..4).map(|_| Node::start()).collect();
    for node in &nodes[1..] {
        meet(&nodes[0], node.server.port, node.bus);
    }
    let ids: Vec<String> = nodes.iter().map(Node::id).collect();
    for node in &nodes {
        ids.iter().for_each(|id| node.await_in_file(id));
        wait_for("nobody else is there", || {
            (node.file().lines().count() == nodes.len() + 1).then_some(())
        });
    }
    let nodes: Vec<Node> = nodes.into_iter().map(Node::restart).collect();
    assert_eq!(nodes.iter().map(Node::id).collect::<Vec<_>>(), ids);
}

#[test]
fn who_does_not_speak_as_nodes_do_is_hung_up_on_and_named() {
    let node = Node::start();
    let mut huge = Actor::nowhere(1).say(Kind::Ping);
    huge[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut short = huge.clone();
    short[4..8].copy_from_slice(&15u32.to_be_bytes());
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 16], &huge[..HEAD_LEN], &short] {
        let mut wire = Wire::dial(node.bus);
        wire.send(bytes);
        wire.expect_end();
    }
    node.await_log("Bad message length or signature received on the Cluster bus from 127.0.0.1:");
    // What could be a packet for a subscriber is too long for one whom nobody knows.
    let mut wire = Wire::dial(node.bus);
    let message = vec![b'x'; 1 << 20];
    let publish = Publish { channel: b"c", message: &message, is_sharded: false };
    wire.send(&Actor::nowhere(1).header().publish(&publish)[..HEAD_LEN]);
    wire.expect_end();
    node.ping();
}

#[test]
fn packets_may_come_in_pieces_and_many_at_once() {
    let node = Node::start();
    let mut wire = Wire::dial(node.bus);
    let ping = Actor::nowhere(1).say(Kind::Ping);
    for portion in [1, 15, 16, 17, 2000] {
        ping.chunks(portion).for_each(|bytes| wire.send(bytes));
        wire.expect(Kind::Pong);
    }
    wire.send(&ping.repeat(100));
    (0..100).for_each(|_| _ = wire.expect(Kind::Pong));
    // A newer node may know more.
    let mut unknown = ping.clone();
    unknown[12..14].copy_from_slice(&77u16.to_be_bytes());
    wire.send(&[unknown, ping].concat());
    wire.expect(Kind::Pong);
}

#[test]
fn who_connects_and_says_nothing_does_not_stay() {
    let node = Node::with("cluster-node-timeout 500\n");
    let mut silent = Wire::dial(node.bus);
    let mut halfway = Wire::dial(node.bus);
    halfway.send(&Actor::nowhere(1).say(Kind::Ping)[..1000]);
    silent.expect_end();
    halfway.expect_end();
}

#[test]
fn strangers_make_place_for_strangers() {
    let node = Node::start();
    let mut wires: Vec<Wire> = Vec::new();
    let mut friend = Wire::dial(node.bus);
    friend.send(&Actor::nowhere(1).say(Kind::Meet));
    friend.expect(Kind::Pong);
    for _ in 0..300 {
        let mut wire = Wire::dial(node.bus);
        wire.send(&Actor::nowhere(2).say(Kind::Ping));
        wires.push(wire);
    }
    wires[..100].iter_mut().for_each(Wire::expect_end);
    let last = wires.last_mut().expect("there are some");
    last.expect(Kind::Pong);
    // Who is being met is no stranger.
    friend.send(&Actor::nowhere(1).say(Kind::Ping));
    friend.expect(Kind::Pong);
    node.ping();
}

/// Who takes no answers is not read from, so neither memory nor anybody's turn is his.
#[test]
fn a_flood_costs_neither_memory_nor_clients() {
    let node = Node::start();
    let pings = Actor::nowhere(1).say(Kind::Ping).repeat(64);
    let floods: Vec<std::thread::JoinHandle<()>> = (0..4)
        .map(|_| {
            let wire = Wire::dial(node.bus);
            let mut writer = wire.client.writer();
            let pings = pings.clone();
            std::thread::spawn(move || {
                // It ends when nothing more is taken, or the connection has ended.
                while writer.is_taken(&pings, Duration::from_secs(1)) {}
                drop(wire);
            })
        })
        .collect();
    let mut client = node.server.connect();
    for _ in 0..2000 {
        assert_eq!(client.run("PING").print(), "PONG");
        if floods.iter().all(std::thread::JoinHandle::is_finished) {
            break;
        }
    }
    assert!(node.info("mem_cluster_links") < 8 << 20);
    drop(node);
    floods.into_iter().for_each(|flood| flood.join().expect("it ends"));
}

// ----------------------------------------------------------------------------------- by command

fn is_ok(client: &mut Client, known: usize) -> Option<()> {
    let info = client.run("CLUSTER INFO").print();
    let has = |line: &str| info.contains(line);
    let all = has("cluster_slots_ok:16384") && has(&format!("cluster_known_nodes:{known}\\r"));
    (has("cluster_state:ok") && all).then_some(())
}

/// Each gets its share of the slots.
fn share_slots(clients: &mut [Client]) {
    let share = 16_384 / clients.len();
    let count = clients.len();
    for (number, client) in clients.iter_mut().enumerate() {
        let last = if number + 1 == count { 16_383 } else { (number + 1) * share - 1 };
        let line = format!("CLUSTER ADDSLOTSRANGE {} {last}", number * share);
        assert_eq!(client.run(&line).print(), "OK");
    }
}

/// Writes a key by whoever has it, as clients do.
fn write_anywhere(clients: &mut [Client], ports: &[u16], key: &str) {
    let answer = clients[0].run(&format!("SET {key} v")).print();
    let Some(moved) = answer.split("MOVED ").nth(1) else { return assert_eq!(answer, "OK") };
    let port = moved.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("{answer}"));
    let at = ports.iter().position(|other| *other == port).expect("it is one of them");
    assert_eq!(clients[at].run(&format!("SET {key} v")).print(), "OK");
}

#[test]
fn six_nodes_form_a_cluster_and_serve_all_slots() {
    let nodes: Vec<Node> = (0..6).map(|_| Node::start()).collect();
    let mut clients: Vec<Client> = nodes.iter().map(|node| node.server.connect()).collect();
    share_slots(&mut clients);
    for node in &nodes[1..] {
        let line = format!("CLUSTER MEET 127.0.0.1 {} {}", node.server.port, node.bus);
        assert_eq!(clients[0].run(&line).print(), "OK");
    }
    for client in &mut clients {
        wait_for("the cluster is up", || is_ok(client, nodes.len()));
    }
    let ports: Vec<u16> = nodes.iter().map(|node| node.server.port).collect();
    (0..100).for_each(|number| write_anywhere(&mut clients, &ports, &format!("key:{number}")));
    // All of it outlives all of them.
    let nodes: Vec<Node> = nodes.into_iter().map(Node::restart).collect();
    for node in &nodes {
        let mut client = node.server.connect();
        wait_for("the cluster is up again", || is_ok(&mut client, nodes.len()));
    }
}

/// What the tool says that makes a cluster of servers, with so many replicas for each primary.
/// Its snapshot says which moment of which history it is, and its file whom it follows.
#[test]
fn a_replica_that_begins_again_goes_on_where_it_was() {
    let (primary, replica) = (Node::start(), Node::start());
    let mut clients = [primary.server.connect(), replica.server.connect()];
    assert_eq!(clients[0].run("CLUSTER ADDSLOTSRANGE 0 16383").print(), "OK");
    meet(&primary, replica.server.port, replica.bus);
    clients.iter_mut().for_each(|client| wait_for("both are up", || is_ok(client, 2)));
    let line = format!("CLUSTER REPLICATE {}", primary.id());
    assert_eq!(clients[1].run(&line).print(), "OK");
    let is_level = |client: &mut Client| {
        let link = info_of(client, "master_link_status");
        (link.as_deref() == Some("up")).then_some(())
    };
    wait_for("the replica is in step", || is_level(&mut clients[1]));
    assert_eq!(clients[0].run("SET k 1").print(), "OK");
    assert_eq!(clients[0].run("WAIT 1 10000").print(), "(integer) 1");
    assert_eq!(clients[1].run("SAVE").print(), "OK");
    let replica = Node { server: replica.server.end_and_restart(), ..replica };
    let mut client = replica.server.connect();
    wait_for("the replica is in step again", || is_level(&mut client));
    replica.await_log("Successful partial resynchronization with master.");
    assert_eq!(client.run("READONLY").print(), "OK");
    assert_eq!(client.run("GET k").print(), "\"1\"");
}

fn create_by_tool(ports: &[u16], replicas: usize) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "create"]).stdin(Stdio::null());
    command.args(["--cluster-replicas", &replicas.to_string()]);
    command.args(ports.iter().map(|port| format!("127.0.0.1:{port}"))).arg("--cluster-yes");
    let output = command.output().expect("it is installed");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    said.concat()
}

#[test]
fn the_public_tool_creates_a_cluster() {
    if interop::is_skipped() || !interop::is_there("redis-cli") {
        return;
    }
    let nodes: Vec<Node> = (0..3).map(|_| Node::start()).collect();
    let ports: Vec<u16> = nodes.iter().map(|node| node.server.port).collect();
    let said = create_by_tool(&ports, 0);
    assert!(said.contains("[OK] All 16384 slots covered."), "{said}");
    for node in &nodes {
        let mut client = node.server.connect();
        wait_for("the cluster is up", || is_ok(&mut client, nodes.len()));
    }
}

/// Six nodes, by the public tool; one is killed, and comes back as a replica of its heir.
#[test]
fn a_primary_that_is_killed_is_inherited() {
    if interop::is_skipped() || !interop::is_there("redis-cli") {
        return;
    }
    let mut nodes: Vec<Node> = (0..6).map(|_| Node::start()).collect();
    let ports: Vec<u16> = nodes.iter().map(|node| node.server.port).collect();
    let said = create_by_tool(&ports, 1);
    assert!(said.contains("[OK] All 16384 slots covered."), "{said}");
    let role_of = |node: &Node| info_of(&mut node.server.connect(), "role");
    for node in &nodes[3..] {
        wait_for("it is a replica in step", || {
            let link = info_of(&mut node.server.connect(), "master_link_status");
            (link.as_deref() == Some("up")).then_some(())
        });
    }
    nodes[0].server.kill();
    let heir = wait_for("a replica takes over", || {
        (3..6).find(|at| role_of(&nodes[*at]).as_deref() == Some("master"))
    });
    wait_for("the cluster is up again", || is_ok(&mut nodes[1].server.connect(), nodes.len()));
    let first = nodes.remove(0).restart();
    wait_for("the first one follows its heir", || {
        let mut client = first.server.connect();
        let port = info_of(&mut client, "master_port")?;
        let link = info_of(&mut client, "master_link_status")?;
        (port == ports[heir].to_string() && link == "up").then_some(())
    });
}

// ---------------------------------------------------------------------------------------- the file

fn start_beside(node: &Node, program: &str) -> (Option<i32>, String) {
    let (port, bus) = (ports::free().to_string(), ports::free().to_string());
    let mut command = Command::new(program);
    command.current_dir(Path::new(&node.server.path("")));
    command.args(["--port", &port, "--bind", "127.0.0.1", "--cluster-enabled", "yes"]);
    command.args(["--cluster-port", &bus, "--save", ""]).stdin(Stdio::null());
    let output = command.output().expect("it can be run");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file was replaced since it was first locked, at the start at the latest.
#[test]
fn a_file_is_one_nodes() {
    let mut node = Node::start();
    meet(&node, 1, 2);
    let (code, said) = start_beside(&node, RUFOUS);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is already used by a different Redis Cluster node."), "{said}");
    if !interop::is_skipped() && interop::is_there("redis-server") {
        let (code, said) = start_beside(&node, "redis-server");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("is already used by a different Redis Cluster node."), "{said}");
    }
    node.server.kill();
    let node = node.restart();
    node.ping();
}

#[test]
fn a_node_does_not_start_with_a_file_that_cannot_be_meant() {
    for damage in ["x", "0123 127.0.0.1:1@2 myself,master - 0 0 0 connected\n", "\0\0\0\0\0\0"] {
        let bus = ports::free();
        let server = Server::with_file(&format!("cluster-enabled yes\ncluster-port {bus}\n"));
        let (code, said) = server.restart_expecting_failure(FILE, |bytes| {
            *bytes = damage.as_bytes().to_vec();
        });
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("Unrecoverable error: corrupted cluster config file"), "{said}");
    }
}

#[test]
fn a_node_that_cannot_keep_what_it_knows_ends() {
    let mut node = Node::start();
    let in_the_way = format!("{FILE}.tmp-{}", node.server.pid());
    let before = node.file();
    // It may just be writing what it wrote at the start once more, or about to.
    wait_for("nothing is being written", || {
        std::fs::create_dir(node.server.path(&in_the_way)).ok()
    });
    if let Ok(mut client) = Client::connect(node.server.port) {
        client.send(&crate::answer::encode(&["CLUSTER", "ADDSLOTS", "0"]));
    }
    assert_eq!(node.server.wait(), Some(1));
    let log = node.server.file("log");
    assert!(log.contains("Could not open temp cluster config file: Is a directory"), "{log}");
    assert!(log.contains("Fatal: can't update cluster config file."), "{log}");
    assert_eq!(node.file(), before);
}

#[test]
fn the_file_is_written_at_the_end() {
    let mut node = Node::start();
    let id = node.id();
    std::fs::remove_file(node.server.path(FILE)).expect("it is there");
    node.server.connect().send(&crate::answer::encode(&["SHUTDOWN"]));
    assert_eq!(node.server.wait(), Some(0));
    let log = node.server.file("log");
    assert!(log.contains("Saving the cluster configuration file before exiting."), "{log}");
    assert_eq!(node.id(), id);
}

#[test]
fn the_file_stays_where_it_was_when_the_node_moves() {
    let mut node = Node::with("enable-protected-configs yes\n");
    let other = node.server.path("other");
    std::fs::create_dir(&other).expect("the directory is ours");
    let mut client = node.server.connect();
    assert_eq!(client.call(&["CONFIG", "SET", "dir", &other]).expect("it answers").print(), "OK");
    let id = node.id();
    std::fs::remove_file(node.server.path(FILE)).expect("it is there");
    client.send(&crate::answer::encode(&["SHUTDOWN"]));
    assert_eq!(node.server.wait(), Some(0));
    assert_eq!(node.id(), id);
    assert!(!Path::new(&other).join(FILE).exists());
}

fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let directory = std::env::temp_dir().join(format!("rufous-suite-refused-{}", ports::free()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let mut command = Command::new(RUFOUS);
    command.current_dir(&directory).args(["--cluster-enabled", "yes"]).args(args);
    let output = command.stdin(Stdio::null()).output().expect("the binary can be run");
    let _ = std::fs::remove_dir_all(&directory);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn who_has_no_port_for_the_bus_does_not_start() {
    let (code, said) = refusal(&["--port", "55536"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Your Redis port number must be 55535 or less."), "{said}");
    let taken = ports::taken();
    let bus = taken.local_addr().expect("it is bound").port();
    let port = ports::free().to_string();
    let (code, said) =
        refusal(&["--port", &port, "--bind", "127.0.0.1", "--cluster-port", &bus.to_string()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("Failed listening on port {bus} (cluster), aborting.")));
}

/// Each call of the disk fails once, and the power is cut after each: what was promised is there.
#[test]
fn no_fault_of_the_disk_takes_back_what_was_synced() {
    let versions = [("first", true), ("second", false), ("third", true), ("fourth", false)]
        .map(|(text, is_synced)| Version { text: format!("{text}\n").repeat(900), is_synced });
    let faults = [
        Mishap::PowerCut,
        Mishap::Fails(libc_error::EIO),
        Mishap::FailsHalfway(libc_error::ENOSPC),
    ];
    let open = |disk: &SimDisk| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        NodesFile::open(disk, Path::new("/data/nodes.conf"), 7)
    };
    let calls = {
        let disk = SimDisk::new();
        let (mut file, _) = open(&disk).expect("the disk is well");
        versions.iter().for_each(|version| file.write(version).expect("the disk is well"));
        disk.calls()
    };
    for (call, fault) in (1..=calls).flat_map(|call| faults.map(|fault| (call, fault))) {
        for seed in 0..6 {
            let disk = SimDisk::new();
            disk.arrange(call, fault);
            let (mut kept, mut begun) = (0, 0);
            if let Ok((mut file, _)) = open(&disk) {
                for (number, version) in versions.iter().enumerate() {
                    begun = number + 1;
                    if file.write(version).is_err() {
                        break;
                    }
                    kept = if version.is_synced { begun } else { kept };
                }
            }
            let back = disk.after_power_cut(&mut Prng::seeded(seed));
            let (_, text) = open(&back).expect("the disk is well again");
            let found = match text {
                None => 0,
                Some(text) => {
                    let is_it = |version: &Version| version.text.as_bytes() == text;
                    versions.iter().position(is_it).expect("it is one of them, and whole") + 1
                }
            };
            assert!((kept..=begun).contains(&found), "{call} {fault:?} {seed}: {kept} {found}");
        }
    }
}

// --------------------------------------------------------------------------------------------- TLS

fn secure() -> Node {
    let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(fixture);
    Node::with(&format!(
        "tls-cluster yes\ntls-port {}\ntls-auth-clients no\ntls-cert-file {certificate}\n\
         tls-key-file {key}\ntls-ca-cert-file {ca}\n",
        ports::free()
    ))
}

#[test]
fn nodes_speak_by_tls_and_show_who_they_are() {
    let nodes = [secure(), secure()];
    // Both are named by the ports that their clients use by TLS.
    let port = nodes[1].server.connect().run("CONFIG GET tls-port").print();
    let port = port.rsplit('"').nth(1).and_then(|port| port.parse().ok());
    meet(&nodes[0], port.expect("it is a port"), nodes[1].bus);
    for (node, other) in [(0, 1), (1, 0)] {
        nodes[node].await_in_file(&nodes[other].id());
    }
    let ping = Actor::nowhere(1).say(Kind::Ping);
    let mut wire = TlsClient::connect(nodes[0].bus, &Dial::default().ready());
    wire.send(&ping);
    assert_eq!(wire.receive_bytes(4), b"RCmb");
    // Clients need no certificate here; nodes do.
    let mut nobody = TlsClient::try_connect(nodes[0].bus, &Dial::anonymous().ready());
    if let Some(wire) = &mut nobody {
        wire.send(&ping);
        assert!(wire.receive_bytes(1).is_empty());
    }
    let mut plain = Client::connect(nodes[0].bus).expect("it listens");
    plain.send(&ping);
    let (answer, _) = plain.receive_raw(|_| false);
    assert!(!answer.starts_with(b"RCmb"));
}

// -------------------------------------------------------------------------------------- real nodes

fn real(binary: &str) -> Option<(Server, u16)> {
    if interop::is_skipped() || !interop::is_there(binary) {
        return None;
    }
    let bus = ports::free();
    let directives = [
        ("cluster-enabled", "yes".to_owned()),
        ("cluster-port", bus.to_string()),
        ("cluster-node-timeout", "2000".to_owned()),
    ];
    let directives = directives.map(|(name, value)| (name.to_owned(), value));
    Some((Server::start(binary, &directives), bus))
}

fn real_id(real: &Server) -> String {
    real.connect().run("CLUSTER MYID").print().trim_matches('"').to_owned()
}

#[test]
fn real_nodes_and_ours_know_each_other() {
    let Some((real, _)) = real("redis-server") else { return };
    let nodes = [Node::start(), Node::start()];
    let mut client = real.connect();
    for node in &nodes {
        let (port, bus) = (node.server.port.to_string(), node.bus.to_string());
        let told = client.call(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        assert_eq!(told.expect("it answers").print(), "OK");
    }
    let id = real_id(&real);
    for (node, other) in [(0, 1), (1, 0)] {
        nodes[node].await_in_file(&id);
        nodes[node].await_in_file(&nodes[other].id());
    }
    for node in &nodes {
        let id = node.id();
        wait_for("the real node is connected to ours", || {
            let text = client.run("CLUSTER NODES").print();
            let line = text.split("\\n").find(|line| line.contains(&id))?.to_owned();
            (line.contains(" master - ") && line.contains(" connected")).then_some(())
        });
    }
}

#[test]
fn a_node_of_ours_goes_on_where_a_real_one_has_ended() {
    let Some((mut real, bus)) = real("redis-server") else { return };
    let other = Node::start();
    meet(&other, real.port, bus);
    let id = real_id(&real);
    other.await_in_file(&id);
    wait_for("the real node has written it down", || {
        real.file(FILE).contains(&other.id()).then_some(())
    });
    real.kill();
    let mut heir = Node::start();
    heir.server.kill();
    std::fs::write(heir.server.path(FILE), real.file(FILE)).expect("the directory is ours");
    let heir = heir.restart();
    assert_eq!(heir.id(), id);
    // It dials whom it knows, who finds it where it is now.
    let place = format!("{id} 127.0.0.1:{}@{}", heir.server.port, heir.bus);
    other.await_in_file(&place);
}

#[test]
fn the_public_tool_creates_a_cluster_of_real_nodes_and_ours() {
    if !interop::is_there("redis-cli") {
        return;
    }
    let Some((first, _)) = real("redis-server") else { return };
    let Some((second, _)) = real("redis-server") else { return };
    let nodes = [Node::start(), Node::start()];
    let servers = [&first, &nodes[0].server, &second, &nodes[1].server];
    let ports = servers.map(|server| server.port);
    let said = create_by_tool(&ports, 0);
    assert!(said.contains("[OK] All 16384 slots covered."), "{said}");
    let mut clients = servers.map(Server::connect);
    for client in &mut clients {
        wait_for("the cluster is up", || is_ok(client, servers.len()));
    }
    (0..100).for_each(|number| write_anywhere(&mut clients, &ports, &format!("key:{number}")));
}
