//! A node of a cluster as its clients see it. `bar` has slot 5061, which is this node's; `foo` has
//! 12182, which is another one's; the slot of `nobody` is nobody's.

use crate::engine::Peer;
use crate::engine::testing::{Bench, config};
use crate::keyspace::slot::Slot;

const ME: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";
const MOVED: &str = "-MOVED 12182 10.0.0.2:7002|";

/// What nodes.conf may say of the slots.
struct Told<'t> {
    mine: &'t str,
    others: &'t str,
    role: &'t str,
}

const TOLD: Told = Told { mine: "0-8191", others: "8192-12000 12002-16383", role: "master -" };

fn node(told: &Told<'_>, directives: &[(&str, &str)]) -> Bench {
    let all = [&[("cluster-require-full-coverage", "no")], directives];
    let mut config = config(&all.concat());
    config.cluster_enabled = true;
    let mut bench = Bench::with(config);
    let Told { mine, others, role } = told;
    let text = format!(
        "{ME} 10.0.0.1:7001@17001 myself,{role} 0 0 1 connected {mine}\n\
         {OTHER} 10.0.0.2:7002@17002,two.example.org master - 0 0 2 connected {others}\n\
         vars currentEpoch 2 lastVoteEpoch 0\n"
    );
    bench.engine.join_cluster(Some(text.as_bytes())).expect("the file is sound");
    for _ in 0..2 {
        tick(&mut bench);
        bench.advance(2100);
    }
    tick(&mut bench);
    bench
}

fn tick(bench: &mut Bench) {
    bench.engine.tell_cluster(crate::cluster::machine::Event::Tick);
}

fn plain() -> Bench {
    node(&TOLD, &[])
}

#[test]
fn a_configuration_that_says_nothing_leaves_the_machine_as_it_is_by_itself() {
    let told = super::cluster_settings(&crate::config::Config::default());
    assert_eq!(told, crate::cluster::machine::Settings::default());
}

#[test]
fn requests_go_to_the_owner_of_their_slot() {
    assert_eq!((Slot::of(b"bar").number(), Slot::of(b"foo").number()), (5061, 12182));
    let mut bench = plain();
    bench.expect_all(&[
        ("SET bar 1", "+OK|"),
        ("GET foo", MOVED),
        ("SET foo 1", MOVED),
        ("MGET bar foo", "-CROSSSLOT Keys in request don't hash to the same slot|"),
        ("MGET bar {bar}2", "*2|$1|1|$-1|"),
        ("PING", "+PONG|"),
        ("EVAL return(1) 1 foo", MOVED),
        ("EVAL return(1) 0", ":1|"),
        ("SSUBSCRIBE foo", MOVED),
        ("SPUBLISH foo x", MOVED),
        ("BLPOP foo 0", MOVED),
        ("CLUSTER KEYSLOT foo", ":12182|"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode|"),
        ("SELECT 0", "+OK|"),
        ("SWAPDB 0 1", "-ERR SWAPDB is not allowed in cluster mode|"),
        ("REPLICAOF NO ONE", "-ERR REPLICAOF not allowed in cluster mode.|"),
    ]);
    assert_eq!(bench.info_lines("errorstats", "errorstat_MOVED"), ["errorstat_MOVED:count=6"]);
    assert_eq!(bench.info("redis_mode"), "cluster");
    let name = (0..).map(|n| n.to_string()).find(|n| Slot::of(n.as_bytes()).number() == 12001);
    let line = format!("GET {}", name.expect("some key has the slot"));
    bench.expect(&line, "-CLUSTERDOWN Hash slot not served|");
}

#[test]
fn a_transaction_is_served_where_its_keys_are() {
    let mut bench = plain();
    bench.expect_all(&[
        ("MULTI", "+OK|"),
        ("SET bar 1", "+QUEUED|"),
        ("SET {bar}2 1", "+QUEUED|"),
        ("EXEC", "*2|+OK|+OK|"),
        ("MULTI", "+OK|"),
        ("SET foo 1", MOVED),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
        ("MULTI", "+OK|"),
        ("SET bar 1", "+QUEUED|"),
        ("SET b 1", "+QUEUED|"),
        ("EXEC", "-CROSSSLOT Keys in request don't hash to the same slot|"),
        ("EXEC", "-ERR EXEC without MULTI|"),
    ]);
}

#[test]
fn a_slot_on_its_way_is_asked_for_where_its_keys_are() {
    let leaves = format!("0-8191 [5061->-{OTHER}] [12182-<-{OTHER}]");
    let mut bench = node(&Told { mine: &leaves, ..TOLD }, &[]);
    bench.expect_all(&[
        ("GET bar", "-ASK 5061 10.0.0.2:7002|"),
        ("SET bar 1", "-ASK 5061 10.0.0.2:7002|"),
        ("SPUBLISH bar 1", ":0|"),
        ("GET foo", MOVED),
        ("ASKING", "+OK|"),
        ("SET foo 1", "+OK|"),
        ("GET foo", MOVED),
        ("ASKING", "+OK|"),
        ("MGET foo {foo}2", "-TRYAGAIN Multiple keys request during rehashing of slot|"),
        ("ASKING", "+OK|"),
        ("MSET foo 1 {foo}2 2", "-TRYAGAIN Multiple keys request during rehashing of slot|"),
        ("ASKING", "+OK|"),
        ("MULTI", "+OK|"),
        ("SET foo 2", "+QUEUED|"),
        ("GET foo", "+QUEUED|"),
        ("EXEC", "*2|+OK|$1|2|"),
        ("GET foo", MOVED),
        ("ASKING", "+OK|"),
        ("PING", "+PONG|"),
        ("GET foo", MOVED),
        ("ASKING", "+OK|"),
        ("GETSET foo 3", "$1|2|"),
    ]);
    assert_eq!(bench.ask("CLUSTER GETKEYSINSLOT 12182 10"), "*1|$3|foo|");
    assert_eq!(bench.ask("CLUSTER COUNTKEYSINSLOT 12182"), ":1|");
}

/// A key whose time has come is not here, though it is still there.
#[test]
fn an_expired_key_of_a_leaving_slot_is_asked_for_elsewhere() {
    let mut bench = plain();
    bench.expect("SET bar 1 PX 10", "+OK|");
    let leaves = format!("0-8191 [5061->-{OTHER}]");
    let text = format!(
        "{ME} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected {leaves}\n\
         {OTHER} 10.0.0.2:7002@17002 master - 0 0 2 connected 8192-16383\n"
    );
    bench.engine.join_cluster(Some(text.as_bytes())).expect("the file is sound");
    bench.advance(0);
    tick(&mut bench);
    bench.advance(2100);
    bench.advance(2100);
    tick(&mut bench);
    tick(&mut bench);
    assert_eq!(bench.keys(), 1, "nobody has taken it away");
    bench.expect("GET bar", "-ASK 5061 10.0.0.2:7002|");
    assert_eq!(bench.keys(), 1, "looking for it changes nothing");
}

#[test]
fn replicas_serve_those_who_read_there() {
    let role = format!("slave {OTHER}");
    let mut bench = node(&Told { mine: "", others: "0-16383", role: &role }, &[]);
    bench.expect_all(&[
        ("GET foo", MOVED),
        ("READONLY", "+OK|"),
        ("GET foo", "$-1|"),
        ("SET foo 1", MOVED),
        ("MULTI", "+OK|"),
        ("GET foo", "+QUEUED|"),
        ("EXEC", "*1|$-1|"),
        ("READWRITE", "+OK|"),
        ("GET foo", MOVED),
        ("READONLY", "+OK|"),
        ("RESET", "+RESET|"),
        ("GET foo", MOVED),
    ]);
}

/// Its file says so, and nothing else has happened yet.
#[test]
fn who_was_a_replica_is_one_from_the_start() {
    let role = format!("slave {OTHER}");
    let mut bench = node(&Told { mine: "", others: "0-16383", role: &role }, &[]);
    let lines = bench.info_lines("replication", "master_");
    assert_eq!(&lines[..2], ["master_host:10.0.0.2", "master_port:7002"]);
    assert_eq!(bench.info("role"), "slave");
}

#[test]
fn endpoints_are_named_as_it_is_wanted() {
    for (kind, told) in
        [("ip", "10.0.0.2"), ("hostname", "two.example.org"), ("unknown-endpoint", "")]
    {
        let mut bench = node(&TOLD, &[("cluster-preferred-endpoint-type", kind)]);
        bench.expect("GET foo", &format!("-MOVED 12182 {told}:7002|"));
    }
    let mut bench = plain();
    bench.client = bench.engine.connect(Peer { is_tls: true, ..Peer::internal() });
    bench.expect("GET foo", "-MOVED 12182 10.0.0.2:0|");
}

#[test]
fn scripts_stay_on_their_node() {
    let mut bench = plain();
    let mut eval = |script: &str, keys: &[&str], reply: &str| {
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(|key| key.as_bytes()));
        let got = crate::engine::testing::text(&bench.run(&words));
        assert!(got.starts_with(reply), "{script}: {got}");
    };
    eval(
        "return redis.call('get', 'foo')",
        &["bar"],
        "-ERR Script attempted to access a non local key in a cluster node script: ",
    );
    eval("return redis.call('get', 'b')", &["bar"], "$-1|");
    eval(
        "return redis.call('mget', 'bar', 'b')",
        &["bar"],
        "-ERR Command 'mget' in script attempted to access keys that don't hash to the same slot",
    );
    eval(
        "#!lua\nreturn redis.call('get', 'b')",
        &["bar"],
        "-ERR Script attempted to access keys that do not hash to the same slot",
    );
    eval("#!lua flags=allow-cross-slot-keys\nreturn redis.call('get', 'b')", &["bar"], "$-1|");
    eval(
        "#!lua flags=no-cluster\nreturn 1",
        &[],
        "-ERR Can not run script on cluster, 'no-cluster' flag is set.",
    );
}

#[test]
fn those_who_wait_for_a_slot_that_leaves_are_sent_after_it() {
    let mut bench = plain();
    let waits = bench.client;
    bench.expect("BLPOP bar 0", "");
    let listens = bench.connect();
    bench.expect("SSUBSCRIBE bar", "*3|$10|ssubscribe|$3|bar|:1|");
    bench.connect();
    bench.expect("CLUSTER DELSLOTS 5061", "+OK|");
    bench.turn();
    assert_eq!(bench.heard(waits), "-CLUSTERDOWN Hash slot not served|");
    assert!(bench.has_woken(waits));
    assert_eq!(bench.heard(listens), "*3|$12|sunsubscribe|$3|bar|:0|");
    bench.expect("SPUBLISH bar 1", "-CLUSTERDOWN Hash slot not served|");
}

#[test]
fn nothing_is_served_while_the_cluster_is_down() {
    let down = [("cluster-require-full-coverage", "yes")];
    let mut bench = node(&TOLD, &down);
    bench.expect("GET bar", "-CLUSTERDOWN The cluster is down|");
    bench.expect("SPUBLISH bar 1", ":0|");
    assert!(bench.ask("CLUSTER INFO").contains("cluster_state:fail"));
    let mut bench = node(&TOLD, &[down[0], ("cluster-allow-reads-when-down", "yes")]);
    bench.expect("GET bar", "$-1|");
    bench.expect("SET bar 1", "-CLUSTERDOWN The cluster is down and only accepts read commands|");
    let mut bench = node(&TOLD, &[down[0], ("cluster-allow-pubsubshard-when-down", "no")]);
    bench.expect("SPUBLISH bar 1", "-CLUSTERDOWN The cluster is down|");
}

#[test]
fn keys_by_which_others_are_sorted_are_of_the_same_slot() {
    let mut bench = plain();
    let denied = "option of SORT denied in Cluster mode when keys formed by the pattern may be in \
                  different slots.|";
    bench.expect("SORT bar BY w_*", &format!("-ERR BY {denied}"));
    bench.expect("SORT bar GET w_*", &format!("-ERR GET {denied}"));
    bench.expect("SORT bar BY nosort GET # GET {bar}_*", "*0|");
    bench.expect("SORT bar BY {bar}_*", "*0|");
}

#[test]
fn a_server_alone_has_no_cluster() {
    let mut bench = Bench::new();
    for line in
        ["CLUSTER INFO", "CLUSTER HELP", "CLUSTER MYID", "CLUSTER SLOTS", "ASKING", "READONLY"]
    {
        bench.expect(line, "-ERR This instance has cluster support disabled|");
    }
}

#[test]
fn a_slot_that_is_dropped_is_gone_for_all() {
    use crate::config::EventClasses;
    let mut bench = plain().recording(EventClasses::GENERIC);
    bench.ask("SET bar 1");
    bench.ask("SET {bar}2 2 PX 100000");
    bench.ask("SET b 1");
    let watches = bench.connect();
    bench.ask("WATCH bar");
    bench.connect();
    bench.forget();
    bench.engine.core().drop_slot(Slot::of(b"bar"));
    assert_eq!(bench.keys(), 1, "they are gone at once");
    bench.turn();
    let mut replayed = bench.replayed();
    replayed.sort();
    assert_eq!(replayed, ["DEL bar", "DEL {bar}2"]);
    let mut told = bench.told();
    told.sort();
    assert_eq!(told, ["del bar", "del {bar}2"]);
    assert_eq!(bench.keys(), 1);
    bench.expect("CLUSTER COUNTKEYSINSLOT 5061", ":0|");
    bench.ask_as(watches, "MULTI");
    assert_eq!(bench.ask_as(watches, "EXEC"), "*-1|");
}

#[test]
fn slots_are_shown_and_changed_by_command() {
    let mut bench = Bench::with({
        let mut config = config(&[]);
        config.cluster_enabled = true;
        config
    });
    bench.engine.join_cluster(None).expect("there is no file");
    bench.expect_all(&[
        ("CLUSTER SLOTS", "*0|"),
        ("CLUSTER ADDSLOTS", "-ERR wrong number of arguments for 'cluster|addslots' command|"),
        ("CLUSTER ADDSLOTS 16384", "-ERR Invalid or out of range slot|"),
        ("CLUSTER ADDSLOTS 1 1", "-ERR Slot 1 specified multiple times|"),
        ("CLUSTER ADDSLOTS 1 2", "+OK|"),
        ("CLUSTER ADDSLOTS 3 2", "-ERR Slot 2 is already busy|"),
        (
            "CLUSTER ADDSLOTSRANGE 5 4",
            "-ERR start slot number 5 is greater than end slot number 4|",
        ),
        (
            "CLUSTER ADDSLOTSRANGE 5 6 7",
            "-ERR wrong number of arguments for 'cluster|addslotsrange' command|",
        ),
        ("CLUSTER ADDSLOTSRANGE 5 6 16383 16383", "+OK|"),
        ("CLUSTER DELSLOTS 9", "-ERR Slot 9 is already unassigned|"),
        ("CLUSTER DELSLOTSRANGE 1 2", "+OK|"),
        ("CLUSTER SET-CONFIG-EPOCH 7", "+OK|"),
        ("CLUSTER SET-CONFIG-EPOCH 8", "-ERR Node config epoch is already non-zero|"),
        ("CLUSTER SET-CONFIG-EPOCH -8", "-ERR Invalid config epoch specified: -8|"),
        ("CLUSTER BUMPEPOCH", "+STILL 7|"),
        ("CLUSTER MEET 127.0.0.1 x", "-ERR Invalid base port specified: x|"),
        ("CLUSTER MEET 127.0.0.1 1 y", "-ERR Invalid bus port specified: y|"),
        ("CLUSTER MEET a.b 1", "-ERR Invalid node address specified: a.b:1|"),
        ("CLUSTER FORGET abc", "-ERR Unknown node abc|"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot|"),
        ("CLUSTER GETKEYSINSLOT 1 -1", "-ERR Invalid slot or number of keys|"),
        ("CLUSTER FLUSHSLOTS", "+OK|"),
        ("CLUSTER SLOTS", "*0|"),
        ("CLUSTER X", "-ERR unknown subcommand 'X'. Try CLUSTER HELP.|"),
    ]);
    let id = bench.ask("CLUSTER MYID");
    let line = bench.ask("CLUSTER NODES");
    assert!(line.contains(&format!("{} :6379@16379 myself,master - 0 0 7 connected", &id[4..44])));
}

fn counting() -> Bench {
    let config =
        config(&[("cluster-slot-stats-enabled", "yes"), ("cluster-require-full-coverage", "no")]);
    let mut bench = Bench::with(crate::config::Config { cluster_enabled: true, ..config });
    bench.engine.join_cluster(None).expect("there is no file");
    bench.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    tick(&mut bench);
    bench.advance(2100);
    tick(&mut bench);
    bench
}

/// What was counted for the slot of `bar`: keys, bytes in, bytes out.
fn counted(bench: &mut Bench) -> [u64; 3] {
    let reply = bench.ask("CLUSTER SLOT-STATS SLOTSRANGE 5061 5061");
    let field = |name: &str| {
        let at = reply.find(&format!("|{name}|:")).expect("it is shown") + name.len() + 3;
        reply[at..].split('|').next().expect("a number").parse().expect("a number")
    };
    [field("key-count"), field("network-bytes-in"), field("network-bytes-out")]
}

#[test]
fn what_a_request_costs_is_counted_for_its_slot() {
    let mut bench = counting();
    let mut costs = |lines: &[&str], expected: [u64; 2]| {
        bench.ask("CONFIG RESETSTAT");
        lines.iter().for_each(|line| _ = bench.ask(line));
        let [_, bytes_in, bytes_out] = counted(&mut bench);
        assert_eq!([bytes_in, bytes_out], expected, "{lines:?}");
    };
    costs(&["SET bar value"], [33, 5]);
    costs(&["GET bar"], [22, 11]);
    costs(&["GET b", "PING", "INFO"], [0, 0]);
    costs(&["MULTI", "SET bar value", "EXEC"], [15 + 33 + 14, 4 + 5]);
    costs(&["MULTI", "SET bar value", "DISCARD"], [0, 0]);
    costs(&["HELLO 3", "SSUBSCRIBE bar", "HELLO 2", "SUNSUBSCRIBE bar"], [30 + 32, 34 + 36]);
    let listens = bench.connect();
    bench.expect("SSUBSCRIBE bar", "*3|$10|ssubscribe|$3|bar|:1|");
    bench.connect();
    bench.ask("CONFIG RESETSTAT");
    bench.expect("SPUBLISH bar hello", ":1|");
    assert_eq!(bench.heard(listens), "*3|$8|smessage|$3|bar|$5|hello|");
    assert_eq!(counted(&mut bench)[1..], [38, 4 + 38]);
    assert_eq!(counted(&mut bench)[0], 1);
    bench.expect("CLUSTER DELSLOTS 5061", "+OK|");
    bench.expect("CLUSTER SLOT-STATS SLOTSRANGE 5061 5061", "*0|");
    bench.expect("CLUSTER ADDSLOTS 5061", "+OK|");
    assert_eq!(counted(&mut bench), [1, 0, 0], "it was another time");
}

#[test]
fn who_waits_costs_when_it_is_served() {
    let mut bench = counting();
    let waits = bench.client;
    bench.expect("BLPOP bar 0", "");
    bench.connect();
    assert_eq!(counted(&mut bench), [0, 0, 0]);
    bench.expect("LPUSH bar value", ":1|");
    assert_eq!(bench.heard(waits), "*2|$3|bar|$5|value|");
    assert_eq!(counted(&mut bench), [0, 31 + 35, 4 + 24]);
}

#[test]
fn scripts_cost_the_slot_that_they_keep_to() {
    let mut bench = counting();
    let one = "#!lua\nredis.call('set', 'bar', 1) redis.call('get', 'bar')";
    let request = format!("*3||$4||EVAL||${}||{one}||$1||0||", one.len());
    bench.run(&[b"EVAL", one.as_bytes(), b"0"]);
    assert_eq!(counted(&mut bench), [1, request.len() as u64, 5]);
    bench.ask("CONFIG RESETSTAT");
    bench.run(&[b"EVAL", &one.as_bytes()[6..], b"1", b"bar"]);
    assert_eq!(counted(&mut bench), [1, 0, 0], "it says nothing of its slots");
    let long =
        "#!lua\nlocal n = 0 for i = 1, 3000000 do n = n + i end return redis.call('get', 'bar')";
    bench.run(&[b"EVAL", long.as_bytes(), b"1", b"bar"]);
    assert_eq!(counted(&mut bench)[2], 7, "it was put aside in between");
}

#[test]
fn slots_are_shown_in_the_order_of_what_they_cost() {
    let mut bench = counting();
    bench.ask("SET bar 1");
    bench.ask("SET foo 22222222222222");
    let first =
        |bench: &mut Bench, line: &str| bench.ask(line).split('|').nth(2).map(str::to_owned);
    for (line, slot) in [
        ("CLUSTER SLOT-STATS ORDERBY network-bytes-in LIMIT 2", ":12182"),
        ("CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1 DESC", ":5061"),
        ("CLUSTER SLOT-STATS ORDERBY key-count ASC LIMIT 1", ":0"),
    ] {
        assert_eq!(first(&mut bench, line).as_deref(), Some(slot), "{line}");
    }
    bench.expect_all(&[
        (
            "CLUSTER SLOT-STATS SLOTSRANGE 5 4",
            "-ERR Start slot number 5 is greater than end slot number 4|",
        ),
        (
            "CLUSTER SLOT-STATS ORDERBY key-count LIMIT 0",
            "-ERR Limit has to lie in between 1 and 16384 (maximum number of slots).|",
        ),
        (
            "CLUSTER SLOT-STATS ORDERBY key-count ASC DESC",
            "-ERR Multiple filters of the same type are disallowed.|",
        ),
        ("CLUSTER SLOT-STATS ORDERBY key-count X", "-ERR syntax error|"),
        ("CONFIG SET cluster-slot-stats-enabled no", "+OK|"),
        ("CLUSTER SLOT-STATS ORDERBY cpu-usec", "-ERR Unrecognized sort metric for ORDERBY.|"),
        ("CLUSTER SLOT-STATS SLOTSRANGE 5 5", "*1|*2|:5|*2|$9|key-count|:0|"),
    ]);
}
