//! What replicas are told of a slot, and of what comes to nothing. This node has the lower half of
//! the slots, 5061 among them, and `OTHER` the upper half with 12182.

use crate::cluster::admin::Request;
use crate::cluster::id::NodeId;
use crate::cluster::machine::Event;
use crate::engine::ClientId;
use crate::engine::testing::{Bench, config};

const ME: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";
const NO_GOOD: &str = "-NOREPLICAS Not enough good replicas to write.|";

/// A primary of a cluster with some replicas that have loaded their snapshot.
struct Shard {
    bench: Bench,
    admin: ClientId,
    /// Who asks how things stand.
    asks: ClientId,
    replicas: Vec<ClientId>,
}

impl Shard {
    fn of(versions: &[&str]) -> Shard {
        Shard::with_slots("0-8191", versions)
    }

    fn with_slots(slots: &str, versions: &[&str]) -> Shard {
        let all = [("repl-diskless-sync", "no"), ("cluster-allow-replica-migration", "no")];
        let mut config = config(&all);
        config.cluster_enabled = true;
        let mut bench = Bench::with(config);
        let text = format!(
            "{ME} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected {slots}\n\
             {OTHER} 10.0.0.2:7002@17002 master - 0 0 2 connected 8192-16383\n\
             vars currentEpoch 2 lastVoteEpoch 0\n"
        );
        bench.engine.join_cluster(Some(text.as_bytes())).expect("the file is sound");
        for _ in 0..3 {
            bench.engine.tell_cluster(Event::Tick);
            bench.advance(2100);
        }
        let (admin, asks) = (bench.client, bench.connect());
        let mut shard = Shard { bench, admin, asks, replicas: Vec::new() };
        versions.iter().for_each(|version| shard.add_replica(version));
        shard
    }

    fn add_replica(&mut self, version: &str) {
        let replica = self.bench.connect();
        self.bench.ask(&format!("REPLCONF version {version}"));
        self.bench.ask("PSYNC ? -1");
        self.bench.turn();
        self.bench.ask("REPLCONF ACK 0");
        self.bench.turn();
        assert!(self.bench.heard(replica).starts_with("+FULLRESYNC "));
        self.replicas.push(replica);
    }

    /// What a replica has been told of slots since the last call.
    fn told(&mut self, replica: usize) -> Vec<String> {
        self.bench.turn();
        let heard = self.bench.heard(self.replicas[replica]);
        let told = heard.split("|$7|SETSLOT|").skip(1);
        let words = told.map(|rest| {
            let rest = rest.split("|*").next().unwrap_or_default();
            rest.split('|').filter(|word| !word.starts_with('$')).collect::<Vec<_>>().join(" ")
        });
        words.map(|line| line.trim_end().to_owned()).collect()
    }

    /// A client asks for something with a slot, which replicas are to have first.
    fn ask(&mut self, client: ClientId, action: &str) {
        let reply = self.bench.ask_as(client, &format!("CLUSTER SETSLOT {action}"));
        assert_eq!(reply, "", "it waits for replicas");
        assert_eq!(self.told(0), [action]);
    }

    fn acknowledge(&mut self, replica: usize) {
        self.bench.client = self.asks;
        let offset = self.bench.info("master_repl_offset");
        self.bench.ask_as(self.replicas[replica], &format!("REPLCONF ACK {offset}"));
        self.bench.turn();
    }

    fn is_open(&mut self, way: &str) -> bool {
        let nodes = self.bench.ask_as(self.asks, "CLUSTER NODES");
        nodes.contains(way)
    }
}

#[test]
fn what_replicas_have_is_done() {
    let mut shard = Shard::of(&["8.0.0", "8.0.0"]);
    shard.ask(shard.admin, &format!("5061 MIGRATING {OTHER}"));
    shard.acknowledge(0);
    assert!(!shard.is_open("[5061->-"));
    shard.acknowledge(1);
    assert!(shard.is_open("[5061->-"));
    assert!(shard.told(0).is_empty());
}

#[test]
fn replicas_are_told_of_what_is_not_done() {
    type Ends = fn(&mut Shard);
    let all: [(Ends, &str); 4] = [
        (|shard| shard.bench.engine.disconnect(shard.admin), ""),
        (
            |shard| {
                shard.bench.advance(2001);
                shard.bench.engine.end_waits();
            },
            NO_GOOD,
        ),
        (|shard| unblock(shard, "TIMEOUT"), NO_GOOD),
        (|shard| unblock(shard, "ERROR"), "-UNBLOCKED client unblocked via CLIENT UNBLOCK|"),
    ];
    for (end, reply) in all {
        for (action, told) in [
            (format!("5061 MIGRATING {OTHER}"), [format!("5061 NODE {ME}"), "5061 STABLE".into()]),
            (format!("5061 NODE {OTHER}"), [format!("5061 NODE {ME}"), "5061 STABLE".into()]),
            (
                format!("12182 IMPORTING {OTHER}"),
                [format!("12182 NODE {OTHER}"), "12182 STABLE".into()],
            ),
        ] {
            let mut shard = Shard::of(&["8.0.0"]);
            shard.ask(shard.admin, &action);
            end(&mut shard);
            assert_eq!(shard.told(0), told, "{action}");
            assert_eq!(shard.bench.heard(shard.admin), reply);
            shard.acknowledge(0);
            assert!(!shard.is_open("[5061->-") && !shard.is_open("[12182-<-"));
        }
    }
}

fn unblock(shard: &mut Shard, how: &str) {
    let number = shard.admin.number();
    shard.bench.client = shard.asks;
    shard.bench.expect(&format!("CLIENT UNBLOCK {number} {how}"), ":1|");
}

/// A slot that is open already stays so on replicas.
#[test]
fn replicas_are_told_of_what_was_done_before() {
    let mut shard = Shard::of(&["8.0.0"]);
    shard.ask(shard.admin, &format!("5061 MIGRATING {OTHER}"));
    shard.acknowledge(0);
    let goes = shard.bench.connect();
    shard.ask(goes, "5061 STABLE");
    shard.bench.engine.disconnect(goes);
    assert_eq!(shard.told(0), [format!("5061 NODE {ME}"), format!("5061 MIGRATING {OTHER}")]);
}

#[test]
fn what_is_refused_in_the_end_is_not_done() {
    let mut shard = Shard::of(&["8.0.0"]);
    shard.ask(shard.admin, &format!("5061 NODE {OTHER}"));
    shard.bench.client = shard.asks;
    shard.bench.expect("SET bar 1", "+OK|");
    shard.acknowledge(0);
    assert!(shard.bench.heard(shard.admin).starts_with("-ERR Can't assign hashslot 5061"));
    assert_eq!(shard.told(0), [format!("5061 NODE {ME}"), "5061 STABLE".to_owned()]);
}

/// Of two who ask, one goes. The other one has its say, and replicas hear how it ended.
#[test]
fn the_last_who_asks_for_a_slot_has_it_told() {
    let mut shard = Shard::of(&["8.0.0"]);
    let stays = shard.bench.connect();
    shard.ask(shard.admin, &format!("5061 NODE {OTHER}"));
    shard.ask(stays, &format!("5061 MIGRATING {OTHER}"));
    shard.bench.engine.disconnect(shard.admin);
    assert!(shard.told(0).is_empty());
    shard.acknowledge(0);
    assert_eq!(shard.bench.heard(stays), "+OK|");
    assert!(shard.is_open("[5061->-"));
    assert_eq!(shard.told(0), [format!("5061 NODE {ME}"), format!("5061 MIGRATING {OTHER}")]);
}

/// It has not been told, since that was before its snapshot, in which nothing is of it.
#[test]
fn who_comes_in_between_is_told_what_was_done() {
    let mut shard = Shard::of(&["8.0.0"]);
    shard.ask(shard.admin, &format!("5061 MIGRATING {OTHER}"));
    shard.add_replica("8.0.0");
    shard.acknowledge(0);
    assert!(shard.is_open("[5061->-"));
    assert_eq!(shard.told(1), [format!("5061 NODE {ME}"), format!("5061 MIGRATING {OTHER}")]);
}

/// Those would tell their operators of an error of their primary.
#[test]
fn who_understands_nothing_of_it_is_told_nothing() {
    let mut shard = Shard::of(&["7.0.15"]);
    shard.bench.client = shard.admin;
    shard.bench.expect(&format!("CLUSTER SETSLOT 5061 MIGRATING {OTHER}"), "+OK|");
    assert!(shard.told(0).is_empty());
    assert!(shard.is_open("[5061->-"));
}

/// A replica that takes over before it hears of it by the bus would have the slot back without its
/// keys, and until then answers that there are none.
#[test]
fn replicas_know_who_has_a_slot_before_its_keys_go() {
    for (version, is_told) in [("8.0.0", true), ("7.0.15", false)] {
        let mut shard = Shard::of(&[version]);
        shard.bench.client = shard.admin;
        shard.bench.expect("SET bar 1", "+OK|");
        let to = NodeId::parse(OTHER.as_bytes()).expect("it is one");
        let slots = vec![crate::keyspace::slot::Slot::of(b"bar")];
        let request = Request::ConcedeSlots { slots, to, epoch: 3 };
        shard.bench.engine.core().administrate(request).expect("it is known");
        shard.bench.turn();
        let heard = shard.bench.heard(shard.replicas[0]);
        let told = heard.find(&format!("|$7|SETSLOT|$4|5061|$4|NODE|$40|{OTHER}|"));
        let gone = heard.find("*2|$3|DEL|$3|bar|").expect("it is deleted");
        assert_eq!(told.is_some_and(|told| told < gone), is_told, "{version}: {heard}");
    }
}

/// They may turn to the new owner, and say nothing any more.
#[test]
fn replicas_that_leave_by_it_are_not_waited_for() {
    let mut shard = Shard::with_slots("5061", &["8.0.0"]);
    shard.bench.client = shard.admin;
    shard.bench.expect(&format!("CLUSTER SETSLOT 5061 NODE {ME}"), "");
    shard.acknowledge(0);
    assert_eq!(shard.bench.heard(shard.admin), "+OK|");
    shard.bench.client = shard.admin;
    shard.bench.expect(&format!("CLUSTER SETSLOT 5061 NODE {OTHER}"), "+OK|");
    assert_eq!(shard.told(0), [format!("5061 NODE {ME}"), format!("5061 NODE {OTHER}")]);
    // The new owner may have said so before.
    shard.bench.client = shard.admin;
    shard.bench.expect(&format!("CLUSTER SETSLOT 5061 NODE {OTHER}"), "+OK|");
}
