//! Clusters whose nodes are real ones and ours: each make inherits from the other, follows it,
//! and gives slots to it and takes them, by the public tool that people use for it.
//!
//! Each test has a cluster of its own, of few nodes with short timeouts. Where the tool would have
//! to be killed in the middle of a reshard, the test does what the tool does, and stops there.

use crate::answer::Answer;
use crate::interop;
use crate::ports;
use crate::rdb;
use crate::server::{RUFOUS, Server, wait_for};
use crate::tls::info_of;
use rufous::keyspace::slot::{SLOTS, Slot};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Make {
    Ours,
    Real,
}

use Make::{Ours, Real};

impl Make {
    fn binary(self) -> &'static str {
        match self {
            Ours => RUFOUS,
            Real => "redis-server",
        }
    }

    /// Redis 7.0 reads no newer values than those of its time.
    fn server(self, lines: &str) -> Server {
        let version = if self == Ours { "rdb-save-version 10\n" } else { "" };
        let always = "save \"\"\nenable-debug-command yes\n";
        Server::of_file(self.binary(), &format!("{always}{version}{lines}"))
    }
}

struct Node {
    make: Make,
    server: Server,
    bus: u16,
    id: String,
}

impl Node {
    fn start(make: Make) -> Node {
        let bus = ports::free();
        let server = make.server(&format!(
            "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 2000\n\
             repl-ping-replica-period 1\nrepl-diskless-sync-delay 0\n"
        ));
        let id = text(&server.connect().run("CLUSTER MYID"));
        Node { make, server, bus, id }
    }

    fn run(&self, line: &str) -> Answer {
        self.server.connect().run(line)
    }

    fn must(&self, line: &str) {
        assert_eq!(self.run(line).print(), "OK", "{line}");
    }

    fn info(&self, field: &str) -> Option<String> {
        info_of(&mut self.server.connect(), field)
    }

    fn is_primary(&self) -> bool {
        self.info("role").as_deref() == Some("master")
    }

    fn is_in_step(&self) -> bool {
        self.info("master_link_status").as_deref() == Some("up")
    }

    fn digest(&self) -> Answer {
        self.run("DEBUG DIGEST")
    }

    /// Whose slots are whose, as this one sees it. Redis 7.0 has replicas in the order in which it
    /// heard of them.
    fn slots(&self) -> Vec<Vec<String>> {
        let runs = elements(self.run("CLUSTER SLOTS")).into_iter();
        let row = |run| {
            let mut words: Vec<String> = elements(run).iter().map(Answer::print).collect();
            words[3..].sort();
            words
        };
        runs.map(row).collect()
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn restart(self) -> Node {
        Node { server: self.server.restart_as(self.make.binary()), ..self }
    }
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(text) | Answer::Simple(text) | Answer::Verbatim(text) => {
            String::from_utf8_lossy(text).into_owned()
        }
        other => panic!("{other:?} is no text"),
    }
}

fn elements(answer: Answer) -> Vec<Answer> {
    let Answer::Array(elements) = answer else { panic!("{answer:?} is no list") };
    elements
}

fn are_there() -> bool {
    !interop::is_skipped() && ["redis-server", "redis-cli"].into_iter().all(interop::is_there)
}

/// Primaries, and behind them one replica of each, in the same order.
struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    fn form(primaries: &[Make], replicas: &[Make]) -> Cluster {
        let nodes: Vec<Node> =
            primaries.iter().chain(replicas).map(|make| Node::start(*make)).collect();
        let count = primaries.len();
        for (number, node) in nodes[..count].iter().enumerate() {
            let (first, end) = (number * SLOTS / count, (number + 1) * SLOTS / count);
            node.must(&format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1));
            node.must(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
        }
        // Who is met too slowly is met again.
        for node in &nodes[1..] {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", node.server.port, node.bus);
            wait_for("it is known", || {
                let is_known = text(&nodes[0].run("CLUSTER NODES")).contains(&node.id);
                (!is_known).then(|| nodes[0].must(&meet));
                is_known.then_some(())
            });
        }
        let cluster = Cluster { nodes };
        cluster.await_peace();
        for (primary, replica) in cluster.nodes.iter().zip(&cluster.nodes[count..]) {
            replica.must(&format!("CLUSTER REPLICATE {}", primary.id));
        }
        cluster.await_peace();
        wait_for("all see all replicas", || {
            let slots = cluster.nodes[0].slots();
            let shown = |node: &Node| slots.iter().flatten().any(|word| word.contains(&node.id));
            cluster.nodes.iter().all(shown).then_some(())
        });
        cluster
    }

    /// All are up, agree about all, and what they hold is the same where it should be.
    fn await_peace(&self) {
        let known = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
        for node in &self.nodes {
            wait_for("all know all, and serve", || {
                let info = text(&node.run("CLUSTER INFO"));
                let is_up = info.contains("cluster_state:ok") && info.contains(&known);
                (is_up && (node.is_primary() || node.is_in_step())).then_some(())
            });
        }
        wait_for("all say the same of slots", || {
            let first = self.nodes[0].slots();
            self.nodes.iter().all(|node| node.slots() == first).then_some(())
        });
    }

    fn await_same(&self, one: usize, other: usize) {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        wait_for("both hold the same", || (one.digest() == other.digest()).then_some(()));
    }

    fn at(&self, port: &str) -> &Node {
        let has = |node: &&Node| node.server.port.to_string() == port;
        self.nodes.iter().find(has).expect("it is one of them")
    }

    /// Writes as a client does who was told who has the slot.
    fn write(&self, words: &[Vec<u8>]) {
        wait_for("the cluster is up", || {
            let answer = self.write_once(words);
            let said = answer.print();
            assert!(!matches!(answer, Answer::Error(_)) || said.contains("CLUSTERDOWN"), "{said}");
            (!matches!(answer, Answer::Error(_))).then_some(())
        });
    }

    fn write_once(&self, words: &[Vec<u8>]) -> Answer {
        let answer = self.nodes[0].server.connect().call(words).expect("it answers");
        let said = answer.print();
        let Some(place) = said.strip_prefix("(error) MOVED ") else { return answer };
        let port = place.rsplit(':').next().expect("it has a port");
        self.at(port).server.connect().call(words).expect("it answers")
    }

    fn set(&self, key: &str) {
        self.write(&["SET", key, key].map(|word| word.as_bytes().to_vec()));
    }

    /// Digests of values by keys. A key that two nodes have is none that was moved.
    fn values(&self, keys: &[String]) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.is_primary()) {
            let mut client = node.server.connect();
            for key in keys {
                let digests = client.call(&["DEBUG", "DIGEST-VALUE", key]).expect("it answers");
                let digest = text(&elements(digests)[0]);
                if digest.bytes().any(|digit| digit != b'0') {
                    let twice = values.insert(key.clone(), digest);
                    assert_eq!(twice, None, "{key} is there twice");
                }
            }
        }
        values
    }

    fn tool(&self, args: &[&str]) -> String {
        let (command, rest) = args.split_first().expect("there is something to do");
        let address = self.nodes[0].address();
        run_tool(&[&[*command, &address], rest].concat())
    }

    fn await_check(&self) {
        wait_for("the tool finds nothing to mend", || {
            let said = self.tool(&["check"]);
            let is_well = said.contains("All 16384 slots covered") && !said.contains("WARNING");
            (is_well && said.contains("All nodes agree")).then_some(())
        });
    }

    fn move_slots(&self, from: usize, to: usize, count: usize) {
        let (from, to) = (&self.nodes[from].id, &self.nodes[to].id);
        let count = count.to_string();
        let named = ["--cluster-from", from, "--cluster-to", to, "--cluster-slots", &count];
        self.tool(&[&["reshard"], &named[..], &["--cluster-yes"]].concat());
    }
}

/// What the tool says that must have done what it was told to.
fn run_tool(args: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.arg("--cluster").args(args).stdin(Stdio::null());
    let output = command.output().expect("it is installed");
    let said = [output.stdout, output.stderr];
    let said = said.map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// A key of a slot.
fn key_in(slot: usize, name: &str) -> String {
    let is_there = |tag: &String| usize::from(Slot::of(tag.as_bytes()).number()) == slot;
    let tag = (0..).map(|number: u64| number.to_string()).find(is_there).expect("there are many");
    format!("{{{tag}}}{name}")
}

// --------------------------------------------------------------------------------------- failovers

/// The primary ends, its replica takes over, and it comes back as a replica of that.
fn inherit(mut cluster: Cluster, primary: usize, replica: usize) -> Cluster {
    cluster.nodes[primary].kill();
    let heir = &cluster.nodes[replica];
    wait_for("the replica takes over", || heir.is_primary().then_some(()));
    let back = cluster.nodes.remove(primary).restart();
    cluster.nodes.insert(primary, back);
    let back = &cluster.nodes[primary];
    wait_for("it follows its heir", || (!back.is_primary() && back.is_in_step()).then_some(()));
    cluster.await_peace();
    cluster.await_same(primary, replica);
    cluster
}

fn hand_over(cluster: &Cluster, primary: usize, replica: usize) {
    let (old, new) = (&cluster.nodes[primary], &cluster.nodes[replica]);
    new.must("CLUSTER FAILOVER");
    wait_for("they change places", || {
        (new.is_primary() && !old.is_primary() && old.is_in_step()).then_some(())
    });
    cluster.await_peace();
    cluster.await_same(primary, replica);
    // What one of them had is the beginning of what the other one has.
    assert_eq!(new.info("sync_full").as_deref(), Some("0"), "{:?}", new.make);
}

#[test]
fn each_make_inherits_from_the_other_and_hands_over_to_it() {
    if !are_there() {
        return;
    }
    let mut cluster = Cluster::form(&[Ours, Real, Real], &[Real, Ours, Ours]);
    let keys: Vec<String> = (0..300).map(|number| format!("key:{number}")).collect();
    keys.iter().for_each(|key| cluster.set(key));
    (0..3).for_each(|shard| cluster.await_same(shard, shard + 3));
    let before = cluster.values(&keys);
    assert_eq!(before.len(), keys.len());
    for shard in [0, 1] {
        cluster = inherit(cluster, shard, shard + 3);
        hand_over(&cluster, shard + 3, shard);
    }
    hand_over(&cluster, 2, 5);
    assert_eq!(cluster.values(&keys), before);
}

// -------------------------------------------------------------------------------------- resharding

#[test]
fn slots_move_from_each_make_to_the_other_with_values_of_each_type() {
    if !are_there() {
        return;
    }
    let cluster = Cluster::form(&[Ours, Real], &[Real, Ours]);
    let tags = [0, 3, 7].map(|slot| key_in(slot, ""));
    let mut keys = Vec::new();
    for (case, tag) in rdb::cases().iter().zip(tags.iter().cycle()) {
        let key = format!("{tag}{}", case.name.replace(' ', "-"));
        let named =
            |word: &Vec<u8>| if word == b"k" { key.clone().into_bytes() } else { word.clone() };
        for command in &case.commands {
            let words: Vec<Vec<u8>> = command.iter().map(named).collect();
            cluster.write(&words);
        }
        keys.push(key);
    }
    cluster.write(&["PEXPIREAT", &keys[0], "4102444800123"].map(|word| word.as_bytes().to_vec()));
    let before = cluster.values(&keys);
    assert_eq!(before.len(), keys.len());
    for (from, to) in [(0, 1), (1, 0)] {
        cluster.move_slots(from, to, 8);
        cluster.await_peace();
        cluster.await_check();
        assert_eq!(cluster.values(&keys), before);
        (0..2).for_each(|shard| cluster.await_same(shard, shard + 2));
    }
    // It is told as the time that is left, and so grows by what the way takes.
    let Answer::Integer(expiry_ms) = cluster.nodes[0].run(&format!("PEXPIRETIME {}", keys[0]))
    else {
        panic!("it is there")
    };
    assert!((4_102_444_800_123..4_102_444_900_000).contains(&expiry_ms), "{expiry_ms}");
}

/// How far the tool had come with a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Importing,
    Migrating,
    SomeKeys,
    AllKeys,
    TargetOwns,
}

const STEPS: [Step; 5] =
    [Step::Importing, Step::Migrating, Step::SomeKeys, Step::AllKeys, Step::TargetOwns];

fn migrate(from: &Node, to: &Node, keys: &[String]) {
    let port = to.server.port.to_string();
    let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(str::to_owned);
    let words = [&head[..], keys].concat();
    // On a busy machine a cluster may be down for a moment.
    wait_for("keys are moved", || {
        let answer = from.server.connect().call(&words).expect("it answers");
        matches!(answer, Answer::Simple(_)).then_some(())
    });
}

fn begin_to_move(from: &Node, to: &Node, slot: usize, keys: &[String], last: Step) {
    for step in STEPS.into_iter().filter(|step| *step <= last) {
        match step {
            Step::Importing => to.must(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id)),
            Step::Migrating => from.must(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id)),
            Step::SomeKeys => migrate(from, to, &keys[..10]),
            Step::AllKeys => migrate(from, to, &keys[10..]),
            Step::TargetOwns => to.must(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id)),
        }
    }
}

#[test]
fn a_reshard_that_ended_at_any_step_is_mended_by_the_tool() {
    if !are_there() {
        return;
    }
    let cluster = Cluster::form(&[Ours, Real], &[Real, Ours]);
    let mut keys = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        for (number, step) in STEPS.into_iter().enumerate() {
            let slot = from * SLOTS / 2 + number;
            let tag = key_in(slot, "");
            let of_slot: Vec<String> = (0..25).map(|number| format!("{tag}{number}")).collect();
            of_slot.iter().for_each(|key| cluster.set(key));
            begin_to_move(&cluster.nodes[from], &cluster.nodes[to], slot, &of_slot, step);
            keys.extend(of_slot);
        }
    }
    let before = cluster.values(&keys);
    assert_eq!(before.len(), keys.len());
    cluster.tool(&["fix"]);
    cluster.await_check();
    cluster.await_peace();
    assert_eq!(cluster.values(&keys), before);
    (0..2).for_each(|shard| cluster.await_same(shard, shard + 2));
}

/// Who loses it stays a primary, as its configuration says. Its replica hears of it by the stream
/// that ends when it goes with the slot.
#[test]
fn the_last_slot_of_a_shard_leaves_and_its_replica_follows() {
    if !are_there() {
        return;
    }
    let mut cluster = Cluster::form(&[Ours, Ours], &[]);
    for _ in 0..2 {
        let node = Node::start(Ours);
        cluster.await_check();
        run_tool(&["add-node", &node.address(), &cluster.nodes[0].address()]);
        cluster.nodes.push(node);
        cluster.await_peace();
    }
    let (third, fourth) = (&cluster.nodes[2], &cluster.nodes[3]);
    fourth.must(&format!("CLUSTER REPLICATE {}", third.id));
    cluster.await_peace();
    cluster.await_check();
    cluster.move_slots(0, 2, 1);
    cluster.await_peace();
    third.must("CONFIG SET cluster-allow-replica-migration no");
    cluster.await_check();
    cluster.move_slots(2, 0, 1);
    let first = cluster.nodes[0].server.port.to_string();
    wait_for("the replica follows the slot", || {
        (fourth.info("master_port") == Some(first.clone()) && fourth.is_in_step()).then_some(())
    });
    cluster.await_peace();
    assert!(third.is_primary());
}

// ------------------------------------------------------------------------------ all else it can do

#[test]
fn the_tool_adds_tends_and_removes_nodes_of_both_makes() {
    if !are_there() {
        return;
    }
    let mut cluster = Cluster::form(&[Ours, Real, Ours], &[]);
    let library = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    let loaded = cluster.nodes[0].server.connect().call(&["FUNCTION", "LOAD", library]);
    assert_eq!(loaded.expect("it answers").print(), "\"l\"");
    (0..100).for_each(|number| cluster.set(&format!("key:{number}")));
    for make in [Ours, Real] {
        let node = Node::start(make);
        cluster.await_check();
        run_tool(&["add-node", &node.address(), &cluster.nodes[0].address()]);
        assert!(text_of_functions(&node).contains("\"l\""), "{make:?}");
        cluster.nodes.push(node);
        cluster.await_peace();
    }
    for (make, primary) in [(Ours, 1), (Real, 0)] {
        let node = Node::start(make);
        let id = cluster.nodes[primary].id.clone();
        let behind = ["--cluster-slave", "--cluster-master-id", &id];
        let named = [node.address(), cluster.nodes[0].address()];
        run_tool(&[&["add-node", &named[0], &named[1]], &behind[..]].concat());
        cluster.nodes.push(node);
        cluster.await_peace();
        cluster.await_same(primary, cluster.nodes.len() - 1);
    }
    balance(&cluster);
    tend(&cluster);
    import(&cluster);
    remove(cluster);
}

fn text_of_functions(node: &Node) -> String {
    node.run("FUNCTION LIST").print()
}

fn balance(cluster: &Cluster) {
    let [third, fourth, fifth] = [2, 3, 4].map(|at| cluster.nodes[at].id.as_str());
    // Few slots move, since each takes its time.
    let weights = [format!("{fourth}=0.002"), format!("{fifth}=0.003"), format!("{third}=0.99")];
    let mut args = vec!["rebalance", "--cluster-use-empty-masters", "--cluster-threshold", "1"];
    args.push("--cluster-weight");
    args.extend(weights.iter().map(String::as_str));
    cluster.tool(&args);
    cluster.await_check();
    cluster.await_peace();
    for at in [3, 4] {
        let node = &cluster.nodes[at];
        let has_slots = node.slots().iter().flatten().any(|word| word.contains(&node.id));
        assert!(has_slots, "{:?}", node.make);
    }
}

fn tend(cluster: &Cluster) {
    let said = cluster.tool(&["call", "PING"]);
    assert_eq!(said.matches("PONG").count(), cluster.nodes.len(), "{said}");
    let said = cluster.tool(&["set-timeout", "2100"]);
    assert!(said.contains(&format!("{} OK, 0 ERR", cluster.nodes.len())), "{said}");
    let place = cluster.nodes[0].server.path("backup");
    std::fs::create_dir(&place).expect("the directory is ours");
    cluster.tool(&["backup", &place]);
    let files = std::fs::read_dir(&place).expect("it is there").count();
    let primaries = cluster.nodes.iter().filter(|node| node.is_primary()).count();
    assert_eq!(files, primaries + 1, "one of each primary, and one of the nodes");
}

/// From a server that is in no cluster.
fn import(cluster: &Cluster) {
    for make in [Ours, Real] {
        let source = make.server("");
        let mut client = source.connect();
        for number in 0..1500 {
            client.run(&format!("SET imported:{make:?}:{number} x"));
        }
        client.run(&format!("RPUSH imported:{make:?}:list a b c"));
        let before = size(cluster);
        let from = format!("127.0.0.1:{}", source.port);
        cluster.tool(&["import", "--cluster-from", &from]);
        assert_eq!(size(cluster), before + 1501, "{make:?}");
        assert_eq!(client.run("DBSIZE"), Answer::Integer(0), "{make:?}");
    }
}

fn size(cluster: &Cluster) -> i64 {
    let primaries = cluster.nodes.iter().filter(|node| node.is_primary());
    let sizes = primaries.map(|node| match node.run("DBSIZE") {
        Answer::Integer(size) => size,
        other => panic!("{other:?} is no size"),
    });
    sizes.sum()
}

fn remove(mut cluster: Cluster) {
    // All that they have: it is less.
    [3, 4].into_iter().for_each(|at| cluster.move_slots(at, 0, 200));
    cluster.await_peace();
    let size_before = size(&cluster);
    for at in [6, 5, 4, 3] {
        let node = cluster.nodes.remove(at);
        cluster.tool(&["del-node", &node.id]);
        cluster.await_peace();
        assert!(text(&node.run("CLUSTER INFO")).contains("cluster_known_nodes:1\r"));
    }
    cluster.await_check();
    assert_eq!(size(&cluster), size_before);
}
