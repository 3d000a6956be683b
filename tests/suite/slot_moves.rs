//! Slots that go whole between nodes in processes of their own, under clients who write, and with
//! nodes that are killed in the middle.

use crate::answer::Answer;
use crate::client::Client;
use crate::ports;
use crate::server::{Server, wait_for};
use crate::tls::info_of;
use crate::tls_client::fixture;
use rufous::keyspace::slot::Slot;
use rufous::structs::prng::Prng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

struct Node {
    server: Server,
    bus: u16,
    /// The port that others are to know it by.
    known_port: u16,
    id: String,
}

impl Node {
    fn start(lines: &str) -> Node {
        let (bus, tls_port) = (ports::free(), ports::free());
        let lines = lines.replace("TLS_PORT", &tls_port.to_string());
        let server = Server::with_file(&format!(
            "save \"\"\nlogfile log\ncluster-enabled yes\ncluster-port {bus}\n\
             cluster-node-timeout 2000\nrepl-diskless-sync-delay 0\n\
             enable-debug-command yes\n{lines}"
        ));
        let known_port = if lines.contains("tls-port") { tls_port } else { server.port };
        let mut node = Node { server, bus, known_port, id: String::new() };
        node.id = text(&node.connect().run("CLUSTER MYID"));
        node
    }

    /// A client that says who it is, if that is asked.
    fn connect(&self) -> Client {
        let mut client = self.server.connect();
        if client.run("PING").print().contains("NOAUTH") {
            assert_eq!(client.run("AUTH secret").print(), "OK");
        }
        client
    }

    fn run(&self, line: &str) -> Answer {
        self.connect().run(line)
    }

    fn restart(self) -> Node {
        Node { server: self.server.restart(), ..self }
    }
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{}", other.print()),
    }
}

/// Waits until all nodes see a cluster that is up, of so many nodes.
fn await_up(nodes: &[Node]) {
    for node in nodes {
        wait_for("the cluster is up", || {
            let info = text(&node.run("CLUSTER INFO"));
            let known = format!("cluster_known_nodes:{}\r", nodes.len());
            let has = |line: &str| info.contains(line);
            (has("cluster_state:ok") && has("cluster_slots_ok:16384\r") && has(&known))
                .then_some(())
        });
    }
}

/// Two primaries, the first with all slots below 8192, and for each a replica.
fn four(lines: &str) -> Vec<Node> {
    let nodes: Vec<Node> = (0..4).map(|_| Node::start(lines)).collect();
    assert_eq!(nodes[0].run("CLUSTER ADDSLOTSRANGE 0 8191").print(), "OK");
    assert_eq!(nodes[1].run("CLUSTER ADDSLOTSRANGE 8192 16383").print(), "OK");
    // Two that begin with one epoch settle that, but that takes its time.
    for (number, node) in nodes.iter().enumerate() {
        let epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1);
        assert_eq!(node.run(&epoch).print(), "OK");
    }
    for node in &nodes[1..] {
        let line = format!("CLUSTER MEET 127.0.0.1 {} {}", node.known_port, node.bus);
        assert_eq!(nodes[0].run(&line).print(), "OK");
    }
    await_up(&nodes);
    for at in 0..2 {
        let line = format!("CLUSTER REPLICATE {}", nodes[at].id);
        let is_known = || (nodes[at + 2].run(&line).print() == "OK").then_some(());
        wait_for("the replica knows its primary", is_known);
        await_link(&nodes[at + 2]);
    }
    nodes
}

fn await_link(replica: &Node) {
    wait_for("the replica is in step", || {
        let link = info_of(&mut replica.connect(), "master_link_status");
        (link.as_deref() == Some("up")).then_some(())
    });
}

/// The state of a node's newest move, as its fields tell it.
fn newest(node: &Node) -> Option<BTreeMap<String, String>> {
    let Answer::Array(moves) = node.run("CLUSTER GETSLOTMIGRATIONS") else { return None };
    let Answer::Array(fields) = moves.first()? else { return None };
    let word = |answer: &Answer| match answer {
        Answer::Integer(number) => number.to_string(),
        other => text(other),
    };
    Some(fields.chunks(2).map(|pair| (word(&pair[0]), word(&pair[1]))).collect())
}

/// How a node's newest move has ended.
fn await_end(node: &Node) -> String {
    wait_for("the move ends", || {
        let fields = newest(node)?;
        let is_over = ["success", "failed", "cancelled"].contains(&&*fields["state"]);
        is_over.then(|| format!("{} {}", fields["state"], fields["message"]).trim_end().to_owned())
    })
}

/// Keys with tags: so many for each of some slots.
fn keys_of_slots(slots: std::ops::Range<u16>, each: usize) -> Vec<String> {
    let mut tags = BTreeMap::new();
    let tag = |number: u32| (Slot::of(number.to_string().as_bytes()).number(), number.to_string());
    for (slot, tag) in (0..).map(tag).filter(|(slot, _)| slots.contains(slot)) {
        tags.entry(slot).or_insert(tag);
        if tags.len() == slots.len() {
            break;
        }
    }
    tags.values().flat_map(|tag| (0..each).map(move |n| format!("{{{tag}}}:{n}"))).collect()
}

/// Somebody who counts in keys, wherever they are, and is told nothing but where they have gone.
struct Counter {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, i64>>,
}

impl Counter {
    fn start(nodes: &[Node], keys: Vec<String>, seed: u64) -> Counter {
        let ports: Vec<u16> = nodes[..2].iter().map(|node| node.server.port).collect();
        let mut clients: Vec<Client> = nodes[..2].iter().map(Node::connect).collect();
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut prng = Prng::seeded(seed);
            let mut counts = BTreeMap::new();
            let mut at = 0;
            while !is_over.load(Ordering::Relaxed) {
                let key = &keys[prng.below(keys.len() as u64) as usize];
                let answer = clients[at].run(&format!("INCR {key}"));
                match answer {
                    Answer::Integer(count) => _ = counts.insert(key.clone(), count),
                    other => {
                        let said = other.print();
                        let port = said
                            .strip_prefix("(error) MOVED ")
                            .and_then(|rest| rest.rsplit(':').next()?.parse::<u16>().ok());
                        let moved = port.and_then(|to| ports.iter().position(|own| *own == to));
                        at = moved.unwrap_or_else(|| panic!("{key}: {said}"));
                    }
                }
            }
            counts
        });
        Counter { ends, thread }
    }

    fn end(self) -> BTreeMap<String, i64> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it was told nothing but where keys are")
    }
}

/// Every count is where its slot is, and is what was counted.
fn check_counts(nodes: &[&Node], counts: &BTreeMap<String, i64>) {
    let mut clients: Vec<Client> = nodes.iter().map(|node| node.connect()).collect();
    for (key, count) in counts {
        let answers = clients.iter_mut().map(|client| client.run(&format!("GET {key}")));
        let found: Vec<String> = answers
            .filter_map(|answer| match answer {
                Answer::Bulk(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                Answer::Null => Some("nothing".to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(found, [count.to_string()], "{key}");
    }
}

fn check_replicas(nodes: &[Node]) {
    for at in 0..2 {
        wait_for("the replica holds the same", || {
            let digest = |node: &Node| node.run("DEBUG DIGEST").print();
            (digest(&nodes[at]) == digest(&nodes[at + 2])).then_some(())
        });
        let size = |node: &Node| node.run("DBSIZE").print();
        assert_eq!(size(&nodes[at]), size(&nodes[at + 2]));
    }
}

fn migrate(nodes: &[Node], from: usize, to: usize, range: &str) {
    let line = format!("CLUSTER MIGRATESLOTS SLOTSRANGE {range} NODE {}", nodes[to].id);
    assert_eq!(nodes[from].run(&line).print(), "OK");
}

#[test]
fn slots_go_and_come_under_writes_and_no_client_notices() {
    let nodes = four("");
    let keys = keys_of_slots(0..20, 40);
    let counters: Vec<Counter> =
        (0..3).map(|n| Counter::start(&nodes, owned(&keys, n), n as u64)).collect();
    for round in 0..6 {
        let (from, to) = (round % 2, (round + 1) % 2);
        if round < 3 {
            migrate(&nodes, from, to, "0 9 10 14");
        } else {
            let id = nodes[to].run("CLUSTER MIGRATION IMPORT 0 9 10 14");
            assert_eq!(text(&id).len(), 40);
        }
        // It is begun at the one, and known at the other one when it is over there.
        let (first, second) = if round < 3 { (from, to) } else { (to, from) };
        assert_eq!(await_end(&nodes[first]), "success");
        assert_eq!(await_end(&nodes[second]), "success");
    }
    let mut counts = BTreeMap::new();
    counters.into_iter().for_each(|counter| counts.extend(counter.end()));
    assert!(counts.len() > 100, "{}", counts.len());
    check_counts(&[&nodes[0], &nodes[1]], &counts);
    check_replicas(&nodes);
    // Whoever takes over now has the slots and their keys.
    let role = |node: &Node| info_of(&mut node.connect(), "role");
    assert_eq!(nodes[2].run("CLUSTER FAILOVER").print(), "OK");
    wait_for("the replica leads", || (role(&nodes[2]).as_deref() == Some("master")).then_some(()));
    check_counts(&[&nodes[2], &nodes[1]], &counts);
}

/// Each claims under an epoch of its own what the other one gives, and neither takes back what it
/// has given.
#[test]
fn two_nodes_give_each_other_slots_at_once() {
    let nodes = four("");
    let keys = [keys_of_slots(0..5, 20), keys_of_slots(8192..8197, 20)].concat();
    let counters: Vec<Counter> =
        (0..3).map(|n| Counter::start(&nodes, owned(&keys, n), n as u64)).collect();
    for round in 0..10 {
        let (low, high) = (round % 2, (round + 1) % 2);
        migrate(&nodes, low, high, "0 4");
        migrate(&nodes, high, low, "8192 8196");
        for node in &nodes[..2] {
            wait_for("all moves of the node end well", || {
                let said = node.run("CLUSTER GETSLOTMIGRATIONS").print();
                assert!(!said.contains("\"failed\""), "{said}");
                (said.matches("\"success\"").count() == 2 * (round + 1)).then_some(())
            });
        }
    }
    let mut counts = BTreeMap::new();
    counters.into_iter().for_each(|counter| counts.extend(counter.end()));
    check_counts(&[&nodes[0], &nodes[1]], &counts);
    check_replicas(&nodes);
}

/// The keys of one of three, so that each is counted by one client.
fn owned(keys: &[String], number: usize) -> Vec<String> {
    keys.iter().skip(number).step_by(3).cloned().collect()
}

/// With writes that are safe before they are answered, and a kill at any moment: each slot has one
/// owner afterwards, who has all that was answered.
#[test]
fn a_kill_in_the_middle_leaves_one_owner_with_all_keys() {
    let mut nodes: Vec<Node> = Vec::new();
    for at in 0..2 {
        nodes.push(Node::start("appendonly yes\nappendfsync always\n"));
        let range = ["0 8191", "8192 16383"][at];
        assert_eq!(nodes[at].run(&format!("CLUSTER ADDSLOTSRANGE {range}")).print(), "OK");
        let epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1);
        assert_eq!(nodes[at].run(&epoch).print(), "OK");
    }
    let line = format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[1].server.port, nodes[1].bus);
    assert_eq!(nodes[0].run(&line).print(), "OK");
    await_up(&nodes);
    let keys = keys_of_slots(0..8, 500);
    let mut writer = nodes[0].connect();
    for key in &keys {
        assert_eq!(writer.run(&format!("SET {key} {key}-{}", "x".repeat(800))).print(), "OK");
    }
    let (mut owner, mut ended) = (0, BTreeMap::<String, usize>::new());
    for round in 0..10 {
        let victim = if round % 2 == 0 { owner } else { 1 - owner };
        migrate(&nodes, owner, 1 - owner, "0 7");
        // The further a round, the longer it is waited: from the offer to behind the end.
        let target = &nodes[1 - owner];
        let words = ["receiving", "receiving", "taking-over", "success", "success"];
        let wanted = words[round / 2];
        let mut asks = target.connect();
        for _ in 0..2000 {
            let said = asks.run("CLUSTER GETSLOTMIGRATIONS").print();
            if said.contains(wanted) || said.contains("success") {
                break;
            }
        }
        nodes[victim].server.kill();
        let killed = nodes.remove(victim);
        nodes.insert(victim, killed.restart());
        await_up(&nodes);
        let answers = nodes.iter().map(|node| node.run(&format!("GET {}", keys[0])));
        let owners: Vec<usize> = (0..)
            .zip(answers)
            .filter(|(_, answer)| matches!(answer, Answer::Bulk(_)))
            .map(|(at, _)| at)
            .collect();
        assert_eq!(owners.len(), 1, "round {round}: {owners:?}");
        *ended.entry(format!("{}", owners[0] == owner)).or_default() += 1;
        owner = owners[0];
        let mut reader = nodes[owner].connect();
        for key in &keys {
            let held = text(&reader.run(&format!("GET {key}")));
            assert!(held.starts_with(&format!("{key}-")), "round {round}: {key}");
        }
        let size = |at: usize| nodes[at].run("DBSIZE").print();
        wait_for("the other one has none of them", || {
            let sizes = (size(owner), size(1 - owner));
            (sizes == (format!("(integer) {}", keys.len()), "(integer) 0".into())).then_some(())
        });
        let settled = |node: &Node| {
            newest(node).is_none_or(|fields| {
                ["success", "failed", "cancelled"].contains(&&*fields["state"])
            })
        };
        wait_for("no move is left", || nodes.iter().all(settled).then_some(()));
    }
    assert_eq!(ended.len(), 2, "some went and some did not: {ended:?}");
}

/// Writes ten keys in each of the first three slots, and moves these and others to the second node.
fn move_thirty_keys(nodes: &[Node], range: &str) {
    let mut client = nodes[0].connect();
    for key in keys_of_slots(0..3, 10) {
        assert_eq!(client.run(&format!("SET {key} v")).print(), "OK");
    }
    migrate(nodes, 0, 1, range);
    assert_eq!(await_end(&nodes[0]), "success");
}

/// Whoever must say who he is says it to move slots, too, and by TLS where replicas speak it.
#[test]
fn nodes_that_ask_for_a_password_move_slots() {
    let nodes = four("requirepass secret\nmasterauth secret\n");
    move_thirty_keys(&nodes, "0 2");
    assert_eq!(nodes[1].run("DBSIZE"), Answer::Integer(30));
    check_replicas(&nodes);
    assert_eq!(nodes[1].run("CONFIG SET masterauth wrong").print(), "OK");
    migrate(&nodes, 1, 0, "0 2");
    let end = await_end(&nodes[1]);
    assert!(end.starts_with("failed WRONGPASS"), "{end}");
}

/// Where nodes speak TLS moves do, too, and need no other directive.
#[test]
fn slots_move_by_tls_where_nodes_speak_it() {
    let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(fixture);
    let nodes = four(&format!(
        "tls-port TLS_PORT\ntls-cluster yes\ntls-replication yes\ntls-auth-clients no\n\
         tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n"
    ));
    move_thirty_keys(&nodes, "0 2");
    assert_eq!(nodes[1].run("DBSIZE"), Answer::Integer(30));
    nodes[0].run("CLUSTER MIGRATION IMPORT 0 2");
    assert_eq!(await_end(&nodes[0]), "success");
    assert_eq!(nodes[0].run("DBSIZE"), Answer::Integer(30));
    check_replicas(&nodes);
}

/// Who gives its last slots goes with them, as by SETSLOT, and says that they have gone well.
#[test]
fn a_node_that_has_given_all_its_slots_follows_them() {
    let nodes = four("");
    move_thirty_keys(&nodes, "0 8191");
    for node in [&nodes[0], &nodes[2]] {
        wait_for("it follows its slots", || {
            let port = info_of(&mut node.connect(), "master_port")?;
            (port == nodes[1].server.port.to_string()).then_some(())
        });
        await_link(node);
        assert_eq!(node.run("DBSIZE"), Answer::Integer(30));
    }
}

/// A real server in the target's place as a replica would not have what comes.
#[test]
fn a_target_with_replicas_of_another_make_is_told_of_the_other_way() {
    let nodes = four("");
    let mut other = nodes[1].connect();
    assert_eq!(other.run("REPLCONF listening-port 7 capa eof capa psync2").print(), "OK");
    other.send(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    wait_for("it counts as a replica", || {
        let count = info_of(&mut nodes[1].connect(), "connected_slaves");
        (count.as_deref() == Some("2")).then_some(())
    });
    migrate(&nodes, 0, 1, "0 2");
    let end = await_end(&nodes[0]);
    assert!(end.contains("use CLUSTER SETSLOT and MIGRATE"), "{end}");
}
