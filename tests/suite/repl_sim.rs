//! Replication on one seed: engines, the wires between them, their disks and their clients, and
//! whatever goes wrong with them.
//!
//! Nothing here sleeps, and nothing runs beside it: a seed is a history, and plays the same again.
//! After some hundred steps of it all faults end, everybody is told to follow one primary, and then
//! it is seen whether all have the same, and have what was promised. What must hold at all times is
//! in `repl_sim/watch.rs`.
//!
//! `REPL_SIM_SEED=n` plays that seed alone, `REPL_SIM_SEEDS=n` so many of them, and with
//! `REPL_SIM_TRACE=1` (and `--nocapture`) all is told that happens.

mod actor;
mod cluster;
mod conn;
mod node;
mod port;
mod watch;
mod wire;

use cluster::{Cluster, address};
use rufous::keyspace::digest;
use std::ops::Range;

/// What may happen in a history.
#[derive(Clone, Copy)]
pub struct Profile {
    name: &'static str,
    /// The fewest and the most nodes.
    nodes: (u64, u64),
    steps: u64,
    /// In one of so many steps, or never.
    cuts: u64,
    silences: u64,
    kills: u64,
    orders: u64,
    failovers: u64,
    restarts: u64,
    clock_steps: u64,
    full_disks: u64,
    /// Dials and snapshots of a hundred that fail.
    dials_fail: u64,
    transfers_fail: u64,
    flushes: bool,
    small_backlogs: bool,
    logs: bool,
}

const CALM: Profile = Profile {
    name: "calm",
    nodes: (2, 4),
    steps: 300,
    cuts: 0,
    silences: 0,
    kills: 0,
    orders: 0,
    failovers: 0,
    restarts: 0,
    clock_steps: 40,
    full_disks: 0,
    dials_fail: 0,
    transfers_fail: 0,
    flushes: true,
    small_backlogs: false,
    logs: true,
};

const CUTS: Profile = Profile { name: "cuts", cuts: 12, silences: 60, dials_fail: 20, ..CALM };

const HANDED_OVER: Profile = Profile { name: "failover", nodes: (2, 4), failovers: 30, ..CALM };

const WILD: Profile = Profile {
    name: "wild",
    nodes: (2, 5),
    cuts: 15,
    silences: 60,
    kills: 60,
    orders: 25,
    failovers: 60,
    full_disks: 100,
    dials_fail: 15,
    transfers_fail: 20,
    small_backlogs: true,
    ..CALM
};

/// Servers end in good order, and are started again.
const RESTARTS: Profile = Profile { name: "restarts", restarts: 80, logs: false, ..CALM };

/// Says which seed it was when a history ends badly.
struct Announcement(Profile, u64);

impl Drop for Announcement {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the history \"{}\" of REPL_SIM_SEED={} went wrong", self.0.name, self.1);
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Plays the histories of these seeds, or those that the environment asks for.
fn play(profile: Profile, seeds: Range<u64>) {
    let seeds = match (number_of("REPL_SIM_SEED"), number_of("REPL_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => seeds.start..seeds.start + count,
        (None, None) => seeds,
    };
    for seed in seeds {
        let _announcement = Announcement(profile, seed);
        play_one(profile, seed);
    }
}

fn play_one(profile: Profile, seed: u64) {
    let mut cluster = Cluster::new(profile, seed);
    cluster.plant_tree();
    for _ in 0..profile.steps {
        harm(&mut cluster);
        cluster.pass();
    }
    let primary = settle(&mut cluster);
    check(&cluster, primary);
}

/// Something goes wrong, or somebody orders something.
fn harm(cluster: &mut Cluster) {
    let profile = cluster.profile;
    if cluster.dice(profile.cuts) {
        cluster.cut_some();
    }
    if cluster.dice(profile.silences) {
        cluster.silence_some();
    }
    if cluster.dice(profile.clock_steps) {
        let number = cluster.any_node();
        cluster.step_clock(number);
    }
    if cluster.dice(profile.kills) {
        let number = cluster.any_node();
        cluster.kill(number);
    }
    if cluster.dice(profile.full_disks) {
        let (number, is_full) = (cluster.any_node(), cluster.dice(2));
        cluster.set_full(number, is_full);
    }
    if cluster.dice(profile.orders) {
        give_order(cluster);
    }
    // One at a time: a replica that is away is not waited for.
    let restarts = profile.restarts > 0 && cluster.step.is_multiple_of(profile.restarts);
    if restarts && cluster.is_united() {
        let number = cluster.any_node();
        cluster.order(number, "SHUTDOWN SAVE");
    }
    if cluster.dice(profile.failovers) {
        hand_over(cluster);
    }
}

fn give_order(cluster: &mut Cluster) {
    let (number, other) = (cluster.any_node(), cluster.any_node());
    let address = address(other);
    let yes = ["yes", "no"][cluster.prng.below(2) as usize];
    let line = match cluster.prng.below(19) {
        18 => "CLIENT KILL TYPE normal".to_owned(),
        16 => "DEBUG RELOAD".to_owned(),
        17 => "BGREWRITEAOF".to_owned(),
        0..4 => format!("REPLICAOF {address}"),
        4..6 => "REPLICAOF NO ONE".to_owned(),
        6 => "REPLICAOF nowhere 1".to_owned(),
        7 => "CLIENT KILL TYPE master".to_owned(),
        8 => "CLIENT KILL TYPE replica".to_owned(),
        9 => format!("CLIENT PAUSE {} WRITE", cluster.prng.below(300)),
        10 => format!("CLIENT PAUSE {} ALL", cluster.prng.below(300)),
        11 => format!("CONFIG SET repl-backlog-size {}kb", 16 << cluster.prng.below(5)),
        12 => format!("CONFIG SET repl-diskless-sync {yes}"),
        13 => format!("CONFIG SET appendonly {yes}"),
        14 => "BGSAVE".to_owned(),
        _ => ["SHUTDOWN NOSAVE", "SHUTDOWN SAVE", "SHUTDOWN NOSAVE NOW"]
            [cluster.prng.below(3) as usize]
            .to_owned(),
    };
    cluster.order(number, &line);
}

fn hand_over(cluster: &mut Cluster) {
    let is_calm = cluster.profile.orders == 0;
    let Some(number) = cluster.some_primary() else { return };
    // Only one step back can be continued from, so each must have heard of the last change.
    if is_calm && !cluster.is_united() {
        return;
    }
    let other = cluster.any_node();
    let line = match cluster.prng.below(6) {
        0 | 1 => "FAILOVER".to_owned(),
        2 => format!("FAILOVER TO {}", address(other)),
        3 => format!("FAILOVER TIMEOUT {}", 1 + cluster.prng.below(2000)),
        // One that comes too late makes two primaries.
        4 if !is_calm => "FAILOVER ABORT".to_owned(),
        _ if cluster.profile.orders > 0 => {
            format!("FAILOVER TO {} FORCE TIMEOUT {}", address(other), 1 + other)
        }
        _ => "FAILOVER".to_owned(),
    };
    cluster.order(number, &line);
}

const SERVE: &str =
    "for db = 0, 2 do redis.call('select', db) redis.call('rpush', 'never', 1, 2, 3) end";

/// All faults end, everybody follows one primary, and what is under way comes to its end.
fn settle(cluster: &mut Cluster) -> usize {
    cluster.heal();
    for _ in 0..20 {
        cluster.pass();
    }
    if cluster.profile.orders > 0 {
        for number in 0..cluster.count() {
            cluster.order(number, "FAILOVER ABORT");
        }
    }
    for step in 0.. {
        cluster.pass();
        let is_under_way =
            |node: &node::Node| node.engine.server.replication.failover.is_under_way();
        if step > 20 && !cluster.nodes().any(is_under_way) {
            break;
        }
        assert!(step < 20_000, "a hand-over does not end: {}", describe(cluster));
    }
    let primary = match cluster.some_primary() {
        Some(number) => number,
        None => cluster.any_node(),
    };
    cluster.order(primary, "REPLICAOF NO ONE");
    for number in (0..cluster.count()).filter(|number| *number != primary) {
        let line = format!("REPLICAOF {}", address(primary));
        cluster.order(number, &line);
    }
    for step in 0..20_000 {
        cluster.pass();
        // Whoever waits without an end at a primary is served; elsewhere nobody may wait.
        if step % 50 == 20 {
            cluster.order_words(primary, &["EVAL", SERVE, "0"]);
        }
        if is_settled(cluster, primary) {
            return primary;
        }
    }
    panic!("it does not come to rest: {}", describe(cluster));
}

fn is_settled(cluster: &Cluster, primary: usize) -> bool {
    let Some(leader) = cluster.node(primary) else { return false };
    let of = |node: &node::Node| {
        let history = node.engine.server.replication.history();
        (history.id(), history.offset())
    };
    let goal = of(leader);
    let is_settled = |number: usize| {
        let Some(node) = cluster.node(number) else { return false };
        let is_linked = node.engine.server.replication.link.is_connected();
        (number == primary || is_linked) && of(node) == goal
    };
    cluster.waiting_actors() == 0 && (0..cluster.count()).all(is_settled)
}

fn describe(cluster: &Cluster) -> String {
    let line = |number: usize| match cluster.node(number) {
        Some(node) => format!("n{number} {}", cluster::describe(node)),
        None => format!("n{number} is down"),
    };
    let lines: Vec<String> = (0..cluster.count()).map(line).collect();
    format!("{}; {} clients wait", lines.join("; "), cluster.waiting_actors())
}

fn check(cluster: &Cluster, primary: usize) {
    let all: Vec<_> =
        cluster.nodes().map(|node| digest::of_dataset(&node.engine.keyspace)).collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{}", describe(cluster));
    let profile = cluster.profile;
    if profile.kills == 0 && profile.orders == 0 {
        // Nobody has been told to forget anything.
        for write in cluster.taken.keys() {
            assert!(
                cluster.has_write(primary, *write),
                "write {write} was acknowledged and is lost"
            );
        }
        let loads: u64 = cluster.slots.iter().map(|slot| slot.all_loads).sum();
        let expected = cluster.count() as u64 - 1;
        assert_eq!(
            loads, expected,
            "each replica takes in one snapshot, and continues from then on"
        );
    }
}

/// What is said of a history can only be looked into if it plays the same again.
#[test]
fn a_seed_is_one_history() {
    let play = |seed| {
        let mut cluster = Cluster::new(WILD, seed);
        for _ in 0..WILD.steps {
            harm(&mut cluster);
            cluster.pass();
        }
        describe(&cluster)
    };
    for seed in 0..5 {
        assert_eq!(play(seed), play(seed));
    }
}

#[test]
fn replicas_follow_their_primaries() {
    play(CALM, 0..100);
}

#[test]
fn links_that_are_cut_are_continued() {
    play(CUTS, 0..300);
}

#[test]
fn servers_that_are_started_again_go_on() {
    play(RESTARTS, 0..150);
}

#[test]
fn a_hand_over_loses_nothing() {
    play(HANDED_OVER, 0..300);
}

#[test]
fn whatever_happens_everybody_agrees_in_the_end() {
    play(WILD, 0..250);
}

/// The same, for another processor.
#[test]
fn whatever_else_happens_everybody_agrees_in_the_end() {
    play(WILD, 1_000_000..1_000_250);
}
