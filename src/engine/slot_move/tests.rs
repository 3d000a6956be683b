//! Moves between two engines in this process, a letter at a time.

use super::{LinkId, News, Order, Said};
use crate::cluster::machine::Event;
use crate::config::ProtectedAction;
use crate::engine::pause::{PauseMode, PauseOwner};
use crate::engine::testing::{Bench, config, text};
use crate::engine::{ClientId, Peer, ServerParts};
use crate::keyspace::slot::Slot;
use crate::persist::disk::MemoryDisk;
use crate::resp::request::{Limits, RequestReader};
use crate::structs::prng::Prng;
use std::collections::VecDeque;
use std::sync::Arc;

const SOURCE: &str = "1111111111111111111111111111111111111111";
const TARGET: &str = "2222222222222222222222222222222222222222";
const BUSY: &str = "-TRYAGAIN Another move of slots is under way here|";

/// The slot of `{a}`, and what is asked for with it.
const SLOT: u16 = 15495;
const MOVE: &str = "CLUSTER MIGRATESLOTS SLOTSRANGE 15490 15499 NODE";
const MOVED: &str = "-MOVED 15495 10.0.0.2:7002|";

fn node_text(is_source: bool, source_slots: &str, target_slots: &str) -> String {
    let me = |is_me: bool| if is_me { "myself,master" } else { "master" };
    format!(
        "{SOURCE} 10.0.0.1:7001@17001 {} - 0 0 1 connected {source_slots}\n\
         {TARGET} 10.0.0.2:7002@17002 {} - 0 0 2 connected {target_slots}\n\
         vars currentEpoch 2 lastVoteEpoch 0\n",
        me(is_source),
        me(!is_source)
    )
}

/// A node of a cluster that is up, over a disk.
fn node(text: &str, disk: Option<&Arc<MemoryDisk>>) -> Bench {
    let mut config = config(&[("cluster-require-full-coverage", "no")]);
    config.enable_debug_command = ProtectedAction::Yes;
    config.cluster_enabled = true;
    config.appendonly = disk.is_some();
    let disk = disk.map_or_else(Arc::default, Arc::clone);
    let parts = ServerParts { disk: disk as _, ..ServerParts::default() };
    let mut bench = Bench::over(config, parts);
    bench.engine.join_cluster(Some(text.as_bytes())).expect("the file is sound");
    if bench.engine.config().appendonly {
        let end = bench.engine.load_here().expect("it loads");
        bench.engine.open_aof(&end).expect("memory takes all");
    }
    bench.engine.start_replication(Default::default());
    for _ in 0..3 {
        bench.engine.tell_cluster(Event::Tick);
        bench.advance(2100);
    }
    bench
}

/// Two nodes, and what is under way from one to the other.
struct Pair {
    source: Bench,
    target: Bench,
    /// Whom the target takes the source for.
    client: Option<ClientId>,
    mail: VecDeque<Mail>,
    /// What was said and is to be answered.
    owed: VecDeque<(LinkId, Option<Said>)>,
    link: LinkId,
}

enum Mail {
    Request(LinkId, Option<Said>, Vec<u8>),
    Poured(LinkId),
}

impl Pair {
    fn new() -> Pair {
        Pair::over(None)
    }

    /// With a disk for the target's AOF.
    fn over(disk: Option<&Arc<MemoryDisk>>) -> Pair {
        assert_eq!(Slot::of(b"{a}").number(), SLOT);
        let (of_source, of_target) = ("8000-16383", "0-7999");
        Pair {
            source: node(&node_text(true, of_source, of_target), None),
            target: node(&node_text(false, of_source, of_target), disk),
            client: None,
            mail: VecDeque::new(),
            owed: VecDeque::new(),
            link: 0,
        }
    }

    fn begin(&mut self) {
        self.source.expect(&format!("{MOVE} {TARGET}"), "+OK|");
    }

    /// Delivers one letter; false if there is none.
    fn step(&mut self) -> bool {
        self.source.turn();
        self.target.turn();
        self.collect_answers();
        while let Some(order) = self.source.next_slot_order() {
            self.take_order(order);
        }
        let Some(mail) = self.mail.pop_front() else { return false };
        match mail {
            Mail::Poured(link) => self.source.engine.tell_slot_link(link, News::Poured),
            Mail::Request(link, said, bytes) => {
                let Some(client) = self.client else { return true };
                self.owed.push_back((link, said));
                let reply = run_raw(&mut self.target, client, &bytes);
                self.answer(&reply);
            }
        }
        true
    }

    fn run(&mut self) {
        let steps = (0..100_000).take_while(|_| self.step()).count();
        assert!(steps < 100_000, "it does not come to an end");
    }

    fn take_order(&mut self, order: Order) {
        match order {
            Order::Open { link, .. } => {
                self.client = Some(self.target.engine.connect(Peer::internal()));
                self.link = link;
                self.source.engine.tell_slot_link(link, News::Connected);
            }
            Order::Say { link, what, bytes } => {
                self.mail.push_back(Mail::Request(link, Some(what), bytes.to_vec()));
            }
            Order::Pour { link, pour } => {
                let all = pour.pieces().chain([pour.end()]);
                let all = all.map(|bytes| Mail::Request(link, None, bytes.to_vec()));
                self.mail.extend(all.collect::<Vec<_>>());
                self.mail.push_back(Mail::Poured(link));
            }
            Order::Close(_) => self.end_link(),
        }
    }

    fn end_link(&mut self) {
        self.mail.clear();
        self.owed.clear();
        if let Some(client) = self.client.take() {
            self.target.engine.disconnect(client);
            self.target.turn();
        }
    }

    /// What the target has answered late.
    fn collect_answers(&mut self) {
        if let Some(client) = self.client {
            let heard = self.target.heard(client);
            self.answer(&heard);
        }
    }

    fn answer(&mut self, replies: &str) {
        for reply in replies.split_terminator('|') {
            let (link, said) = self.owed.pop_front().expect("it was asked");
            let Some(said) = said else {
                assert_eq!(reply, "+OK");
                continue;
            };
            let answer = match reply.split_at(1) {
                ("+", text) => Ok(text.into()),
                (_, text) => Err(text.strip_prefix("ERR ").unwrap_or(text).into()),
            };
            self.source.engine.tell_slot_link(link, News::Answered(said, answer));
        }
    }

    /// What the source's last move has come to.
    fn state(&self) -> &'static str {
        let jobs = &self.source.engine.server.slot_moves.exports;
        jobs.last().map_or("none", |job| job.export.state.word())
    }

    fn message(&self) -> &str {
        let jobs = &self.source.engine.server.slot_moves.exports;
        jobs.last().map_or("", |job| &job.export.message)
    }

    /// Steps until the move has come to a state.
    fn run_to(&mut self, state: &str) {
        let reached = (0..10_000).any(|_| self.state() == state || !self.step());
        assert!(reached && self.state() == state, "{}: {}", self.state(), self.message());
    }
}

/// Has a client send bytes, and yields what it is answered.
fn run_raw(bench: &mut Bench, client: ClientId, bytes: &[u8]) -> String {
    const ALL: Limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
    let mut reader = RequestReader::new();
    reader.feed(bytes);
    assert_eq!(reader.parse(&ALL), Ok(1));
    let words: Vec<Vec<u8>> = reader.request(0).iter().map(<[u8]>::to_vec).collect();
    let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
    let before = std::mem::replace(&mut bench.client, client);
    let reply = bench.run(&words);
    bench.client = before;
    text(&reply)
}

/// A key of each kind in the slot of `{a}`, small and large.
fn fill(bench: &mut Bench) {
    let long = "x".repeat(700_000);
    for line in [
        "SET {a}string v",
        "SET {a}expiring v PX 100000000",
        &format!("SET {{a}}long {long}"),
        "RPUSH {a}list a b c",
        "SADD {a}set a b c",
        "SADD {a}ints 1 2 3",
        "ZADD {a}zset 1 a 2.5 b",
        "HSET {a}hash f v g w",
        "HSET {a}timed f v g w",
        "HPEXPIRE {a}timed 50000000 FIELDS 1 f",
        "XADD {a}stream 1-1 f v",
        "XGROUP CREATE {a}stream g 0",
        "XREADGROUP GROUP g c STREAMS {a}stream >",
        "PFADD {a}hll a b c",
        &format!("XADD {{a}}bigstream 1-1 f {long}"),
        "XADD {a}bigstream 2-1 f v",
        "XGROUP CREATE {a}bigstream g 0",
        "XREADGROUP GROUP g c STREAMS {a}bigstream >",
        "XDEL {a}bigstream 2-1",
        "SET other 1",
    ] {
        bench.ask(line);
    }
    for chunk in 0..60 {
        let members: Vec<String> =
            (0..100).map(|n| format!("member-with-a-long-name:{chunk}:{n}")).collect();
        bench.ask(&format!("SADD {{a}}bigset {}", members.join(" ")));
        bench.ask(&format!("RPUSH {{a}}biglist {}", members.join(" ")));
        let pairs: Vec<String> = members.iter().map(|name| format!("{name} {chunk}")).collect();
        bench.ask(&format!("HSET {{a}}bighash {}", pairs.join(" ")));
        let scored: Vec<String> = members.iter().map(|name| format!("{chunk} {name}")).collect();
        bench.ask(&format!("ZADD {{a}}bigzset {}", scored.join(" ")));
    }
}

const KEYS: [&str; 18] = [
    "string",
    "expiring",
    "long",
    "list",
    "set",
    "ints",
    "zset",
    "hash",
    "timed",
    "stream",
    "hll",
    "bigset",
    "biglist",
    "bighash",
    "bigzset",
    "bigstream",
    "counter",
    "gone",
];

/// What the keys of the slot hold, and when they expire.
fn facts(bench: &mut Bench) -> Vec<String> {
    let mut facts = Vec::new();
    for key in KEYS {
        facts.push(bench.ask(&format!("DEBUG DIGEST-VALUE {{a}}{key}")));
        facts.push(bench.ask(&format!("PEXPIRETIME {{a}}{key}")));
    }
    facts.push(bench.ask("HPEXPIRETIME {a}timed FIELDS 2 f g"));
    facts.push(bench.ask("XPENDING {a}stream g"));
    facts.push(bench.ask("XPENDING {a}bigstream g - + 10"));
    facts
}

#[test]
fn all_keys_of_slots_go_and_nothing_else_does() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    let before = facts(&mut pair.source);
    pair.begin();
    pair.run();
    assert_eq!((pair.state(), pair.message()), ("success", ""));
    assert_eq!(facts(&mut pair.target), before);
    assert_eq!(pair.target.ask("CLUSTER COUNTKEYSINSLOT 15495"), ":16|");
    pair.source.expect("GET {a}string", MOVED);
    pair.source.expect("GET other", "$1|1|");
    assert_eq!((pair.source.keys(), pair.target.keys()), (1, 16));
    assert!(!pair.source.engine.server.propagation.is_active(), "nobody reads it any more");
}

#[test]
fn until_the_slots_are_ours_their_keys_are_nobodys_to_see() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.source.ask("PEXPIRE {a}string 5");
    pair.begin();
    pair.run_to("paused");
    pair.target.advance(60_000);
    pair.target.expire_all();
    pair.target.expect_all(&[
        ("DBSIZE", ":0|"),
        ("KEYS *", "*0|"),
        ("RANDOMKEY", "$-1|"),
        ("SCAN 0", "*2|$1|0|*0|"),
        ("CLUSTER COUNTKEYSINSLOT 15495", ":0|"),
        ("GET {a}string", "-MOVED 15495 10.0.0.1:7001|"),
    ]);
    let staged = pair.target.engine.keyspace.staging().map_or(0, |staging| staging.len());
    assert_eq!(staged, 16, "what is to expire is its owner's to say");
}

#[test]
fn writes_to_the_slots_wait_while_they_are_handed_over() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("paused");
    let (writer, other) = (pair.source.client, pair.source.connect());
    assert_eq!(pair.source.ask_as(writer, "SET {a}string w"), "", "it waits");
    pair.source.client = other;
    pair.source.expect_all(&[
        ("GET {a}string", "$1|v|"),
        ("SET other 2", "+OK|"),
        ("EVAL return(redis.call('set','other','3')) 1 other", "+OK|"),
    ]);
    let third = pair.source.connect();
    assert_eq!(pair.source.ask_as(third, "FLUSHALL"), "", "it would write everywhere");
    let fourth = pair.source.connect();
    let script = "EVAL return(redis.call('set','{a}x','3')) 1 other";
    assert!(pair.source.ask_as(fourth, script).starts_with("-"), "it names the slot too late");
    let script = "EVAL return(redis.call('flushall')) 1 other";
    assert!(pair.source.ask_as(fourth, script).starts_with("-"), "it names none");
    let fifth = pair.source.connect();
    for line in ["MULTI", "SET other 3", "FLUSHALL"] {
        pair.source.ask_as(fifth, line);
    }
    assert_eq!(pair.source.ask_as(fifth, "EXEC"), "", "it waits as a whole");
    pair.run();
    assert_eq!(pair.state(), "success");
    assert!(pair.source.has_woken(writer) && pair.source.has_woken(third));
    pair.source.ask_as(writer, "SET {a}string w");
    assert_eq!(pair.source.ask_as(writer, "SET {a}string w"), MOVED);
}

#[test]
fn writes_do_not_wait_for_longer_than_the_directive_says() {
    let mut pair = Pair::new();
    pair.source.expect("CONFIG SET cluster-slot-migration-write-pause-timeout 100", "+OK|");
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("paused");
    let writer = pair.source.client;
    assert_eq!(pair.source.ask_as(writer, "SET {a}string w"), "", "it waits");
    pair.source.advance(99);
    pair.source.engine.cron();
    assert_eq!(pair.state(), "paused");
    pair.source.advance(1);
    pair.source.engine.cron();
    assert_eq!((pair.state(), pair.message()), ("failed", "Writes had to wait for too long"));
    pair.source.turn();
    assert!(pair.source.has_woken(writer));
    assert_eq!(pair.source.ask_as(writer, "SET {a}string w"), "+OK|");
    // And a target that is asked too late does not take them.
    pair.run();
    assert!(pair.target.engine.keyspace.staging().is_none());
}

#[test]
fn writes_wait_when_as_little_is_left_as_the_directive_says() {
    let mut pair = Pair::new();
    pair.source.expect("CONFIG SET cluster-slot-migration-handoff-max-lag-bytes 100", "+OK|");
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("snapshotting");
    let line = format!("SET {{a}}string {}", "x".repeat(200));
    pair.source.expect(&line, "+OK|");
    pair.run_to("streaming");
    pair.source.expect("SET other 2", "+OK|");
    pair.source.expect("SET {a}string w", "+OK|");
    pair.run();
    assert_eq!((pair.state(), pair.message()), ("success", ""));
    pair.target.expect("GET {a}string", "$1|w|");
}

/// Both ends of a move show it, in the words of Redis 8.4 and of Valkey 9.
#[test]
fn a_move_is_shown_at_both_ends() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run();
    let id = pair.source.engine.server.slot_moves.exports[0].id;
    let ends = [("migrate", "EXPORT"), ("import", "IMPORT")];
    for (bench, (redis, valkey)) in [&mut pair.source, &mut pair.target].into_iter().zip(ends) {
        let reply = bench.ask(&format!("CLUSTER MIGRATION STATUS ID {id}"));
        let head = format!(
            "*1|*24|$2|id|$40|{id}|$5|slots|$11|15490-15499|$6|source|$40|{SOURCE}|$4|dest|$40|\
             {TARGET}|$9|operation|${}|{redis}|$5|state|$9|completed|$10|last_error|$0||$7|\
             retries|:0|$11|create_time|:",
            redis.len()
        );
        assert!(reply.starts_with(&head), "{reply}");
        assert_eq!(bench.ask("CLUSTER MIGRATION STATUS ALL"), reply);
        assert_eq!(bench.ask(&format!("CLUSTER MIGRATION STATUS ID {SOURCE}")), "*0|");
        let reply = bench.ask("CLUSTER GETSLOTMIGRATIONS");
        let head = format!(
            "*1|*24|$4|name|$40|{id}|$9|operation|$6|{valkey}|$11|slot_ranges|$11|15490-15499|\
             $11|target_node|$40|{TARGET}|$11|source_node|$40|{SOURCE}|$11|create_time|:"
        );
        assert!(reply.starts_with(&head), "{reply}");
        assert!(reply.contains("|$5|state|$7|success|$7|message|$0||$8|cow_size|:0|"), "{reply}");
        bench.ask("HELLO 3");
        assert!(bench.ask("CLUSTER GETSLOTMIGRATIONS").starts_with("*1|%12|$4|name|"));
        assert!(bench.ask("CLUSTER MIGRATION STATUS").starts_with("*1|%12|$2|id|"));
    }
}

#[test]
fn the_target_may_end_a_move_that_comes() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("snapshotting");
    (0..3).for_each(|_| _ = pair.step());
    let client = pair.client.expect("it is connected");
    pair.target.expect("CLUSTER MIGRATION CANCEL ALL", ":1|");
    assert!(pair.target.has_closed(client));
    assert!(pair.target.engine.keyspace.staging().is_none());
    pair.target.expect("CLUSTER MIGRATION CANCEL ALL", ":0|");
    let shown = pair.target.ask("CLUSTER MIGRATION STATUS");
    assert!(shown.contains("|$5|state|$8|canceled|$10|last_error|$21|Cancelled by a client|"));
}

/// A node that wants slots asks their owner for them, and hears if nothing comes of it.
#[test]
fn slots_that_are_asked_for_come_or_it_is_told_why_not() {
    let mut target = Pair::new().target;
    let said = target.ask("CLUSTER MIGRATION IMPORT 15490 15499 8000 8001");
    let id = said.trim_start_matches("$40|").trim_end_matches('|').to_owned();
    let Some(Order::Open { link, target: place, .. }) = target.next_slot_order() else {
        panic!("it dials")
    };
    assert_eq!((&*place.host, &*place.port), ("10.0.0.1", "7001"));
    let Some(Order::Say { what: Said::Want, bytes, .. }) = target.next_slot_order() else {
        panic!("it asks")
    };
    let asked = text(&bytes);
    assert!(asked.contains(&format!("|WANT|$40|{id}|$40|{TARGET}|$4|8000|$4|8001|$5|15490|")));
    let busy = "-ERR Some of the slots are being moved already|";
    target.expect("CLUSTER MIGRATION IMPORT 8001 8002", busy);
    target.engine.tell_slot_link(link, News::Answered(Said::Want, Ok("OK".into())));
    target.advance(1500);
    target.engine.cron();
    let Some(Order::Say { what: Said::Ask, .. }) = target.next_slot_order() else {
        panic!("it asks how far the source is")
    };
    let over = Ok("over Cancelled by a client".into());
    target.engine.tell_slot_link(link, News::Answered(Said::Ask, over));
    let shown = target.ask(&format!("CLUSTER MIGRATION STATUS ID {id}"));
    assert!(shown.contains("|$5|state|$6|failed|"), "{shown}");
    assert!(shown.contains("At the source: Cancelled by a client"), "{shown}");
}

/// What clients write while the slots go is there, as a server has it that has seen all of it.
#[test]
fn what_is_written_meanwhile_is_not_lost() {
    const LINES: [&str; 14] = [
        "INCR {a}counter",
        "APPEND {a}long y",
        "LPUSH {a}list @",
        "SPOP {a}bigset",
        "SREM {a}ints 1",
        "ZINCRBY {a}zset 1.5 a",
        "HINCRBYFLOAT {a}hash g2 0.5",
        "XADD {a}stream * f @",
        "DEL {a}gone",
        "SET {a}gone @ PX 70000000",
        "PERSIST {a}expiring",
        "INCR other",
        "EVAL redis.call('set','{a}gone','@');redis.call('incr','{a}counter') 1 {a}gone",
        "RPOPLPUSH {a}biglist {a}list",
    ];
    for seed in 0..30 {
        let mut prng = Prng::seeded(seed);
        let mut pair = Pair::new();
        fill(&mut pair.source);
        pair.begin();
        // What is there once writes wait; it takes long to look at.
        let mut handed = None;
        let mut is_left = true;
        while is_left {
            if handed.is_none() && pair.state() == "paused" {
                handed = Some(facts(&mut pair.source));
            }
            for number in 0..prng.below(4) {
                let line = LINES[prng.below(LINES.len() as u64) as usize];
                let line = line.replace('@', &format!("{number}"));
                let is_multi = prng.below(4) == 0;
                if is_multi {
                    pair.source.ask("MULTI");
                }
                let reply = pair.source.ask(&line);
                let reply = if is_multi { pair.source.ask("EXEC") } else { reply };
                // It waits, or has to go elsewhere.
                let is_late = ["-MOVED", "-EXECABORT"].iter().any(|head| reply.starts_with(head))
                    || reply.is_empty();
                assert!(!reply.starts_with("-ERR"), "{line}: {reply}");
                assert!(handed.is_none() || is_late || line == "INCR other", "{line}: {reply}");
                if is_late {
                    // Another client comes.
                    pair.source.connect();
                }
            }
            is_left = pair.step();
        }
        assert_eq!((pair.state(), pair.message()), ("success", ""), "seed {seed}");
        assert_eq!(Some(facts(&mut pair.target)), handed, "seed {seed}");
    }
}

#[test]
fn a_move_that_ends_early_leaves_all_at_its_source() {
    type Spoil = (&'static str, fn(&mut Pair));
    let spoil: [Spoil; 4] = [
        ("The connection to the node has ended", |pair| {
            let news = News::Closed("The connection to the node has ended".into());
            pair.source.engine.tell_slot_link(pair.link, news);
        }),
        ("Cancelled by a client", |pair| {
            pair.source.expect("CLUSTER CANCELSLOTMIGRATIONS", "+OK|");
        }),
        ("A command has changed all keys, as FLUSHALL does", |pair| {
            pair.source.expect("FLUSHALL", "+OK|");
        }),
        ("Slots of the move have another owner now", |pair| {
            pair.source.expect("CLUSTER DELSLOTS 15499", "+OK|");
        }),
    ];
    for (reason, spoil) in spoil {
        let mut pair = Pair::new();
        fill(&mut pair.source);
        pair.begin();
        pair.run_to("snapshotting");
        (0..3).for_each(|_| _ = pair.step());
        assert!(pair.target.engine.keyspace.staging().is_some());
        spoil(&mut pair);
        pair.run();
        assert_eq!(pair.message(), reason);
        assert!(pair.target.engine.keyspace.staging().is_none(), "{reason}");
        assert!(!pair.source.engine.server.slot_moves.are_paused());
        pair.source.expect("SET {a}string w", "+OK|");
        // What was there is no hindrance to the next one.
        pair.source.ask("CLUSTER ADDSLOTS 15499");
        pair.begin();
        pair.run();
        assert_eq!((pair.state(), pair.message()), ("success", ""), "{reason}");
        pair.target.expect("GET {a}string", "$1|w|");
    }
}

/// Its source would else have to take it that it may have taken the slots.
#[test]
fn a_target_that_waits_for_its_replicas_says_that_it_gives_up() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    let admin = pair.target.client;
    pair.target.expect("CONFIG SET repl-diskless-sync no", "+OK|");
    pair.target.connect();
    pair.target.ask("REPLCONF version 8.0.0 capa slot-moves");
    pair.target.ask("PSYNC ? -1");
    pair.target.turn();
    pair.target.ask("REPLCONF ACK 0");
    pair.target.client = admin;
    pair.begin();
    pair.run();
    assert_eq!(pair.state(), "handing-over", "the replica has acknowledged nothing");
    pair.target.ask("CLUSTER DELSLOTS 15495");
    pair.run();
    let message = "Slots of the move have another owner now";
    assert_eq!((pair.state(), pair.message()), ("failed", message));
    pair.source.expect("SET {a}string w", "+OK|");
}

/// What it took in now its heir would not have, and what it does not answer keeps writes waiting.
#[test]
fn a_target_that_is_about_to_be_replaced_says_so_at_once() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("paused");
    let server = &mut pair.target.engine.server;
    server.pause.start(PauseOwner::Cluster, PauseMode::Writes, u64::MAX);
    pair.run();
    let message = "A failover of this node is under way";
    assert_eq!((pair.state(), pair.message()), ("failed", message));
    pair.source.expect("SET {a}string w", "+OK|");
}

#[test]
fn a_target_takes_in_one_move_at_a_time() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.source.expect(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 NODE {TARGET}"), "+OK|");
    let states = |pair: &Pair| {
        let jobs = &pair.source.engine.server.slot_moves.exports;
        jobs.iter().map(|job| job.export.state.word()).collect::<Vec<_>>()
    };
    let has_begun = |pair: &Pair| states(pair)[0] == "snapshotting";
    assert!((0..100).any(|_| has_begun(&pair) || !pair.step()) && has_begun(&pair));
    assert_eq!(states(&pair), ["snapshotting", "waiting"]);
    pair.target.connect();
    let offer = format!("CLUSTER SLOTMOVE OFFER {TARGET} {SOURCE} 8000 8001");
    pair.target.expect(&offer, BUSY);
    pair.run();
    assert_eq!(states(&pair), ["success", "success"]);
}

/// What the target's AOF holds makes the same, whenever it stops being written.
#[test]
fn a_target_that_ends_comes_back_with_what_is_its_own() {
    let disk = Arc::new(MemoryDisk::default());
    let mut pair = Pair::over(Some(&disk));
    fill(&mut pair.source);
    let before = facts(&mut pair.source);
    let unowned = node_text(false, "8000-16383", "0-7999");
    let owned = node_text(false, "8000-15489 15500-16383", "0-7999 15490-15499");
    pair.begin();
    pair.run_to("paused");
    for (text, keys) in [(&unowned, 0), (&owned, 16)] {
        let copy = Arc::new(disk.copy());
        let mut again = node(text, Some(&copy));
        assert_eq!(again.keys(), keys, "{text}");
        assert!(again.engine.keyspace.staging().is_none());
        if keys > 0 {
            assert_eq!(facts(&mut again), before);
        }
        again.engine.end_turn();
        let third = node(text, Some(&Arc::new(copy.copy())));
        assert_eq!(third.keys(), keys, "what became of it is written down");
    }
    pair.run();
    assert_eq!(pair.state(), "success");
    pair.target.engine.end_turn();
    let mut again = node(&owned, Some(&Arc::new(disk.copy())));
    assert_eq!(facts(&mut again), before);
    let without = node(&unowned, Some(&Arc::new(disk.copy())));
    assert_eq!(without.keys(), 0, "keys are no claim");
}

/// A snapshot that is made while slots come holds what has come, aside.
#[test]
fn snapshots_hold_what_is_on_its_way() {
    for preamble in ["yes", "no"] {
        let disk = Arc::new(MemoryDisk::default());
        let mut pair = Pair::over(Some(&disk));
        pair.target.expect(&format!("CONFIG SET aof-use-rdb-preamble {preamble}"), "+OK|");
        fill(&mut pair.source);
        let before = facts(&mut pair.source);
        pair.begin();
        pair.run_to("paused");
        pair.target.ask("BGREWRITEAOF");
        (0..3).for_each(|_| pair.target.turn());
        assert_eq!(pair.target.info("aof_rewrites"), "1");
        let owned = node_text(false, "8000-15489 15500-16383", "0-7999 15490-15499");
        let mut again = node(&owned, Some(&Arc::new(disk.copy())));
        assert_eq!(facts(&mut again), before, "{preamble}");
        pair.run();
        assert_eq!(pair.state(), "success");
    }
}

#[test]
fn what_cannot_be_moved_is_refused() {
    let mut pair = Pair::new();
    let source = &mut pair.source;
    let own = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 NODE {SOURCE}");
    let foreign = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 0 1 NODE {TARGET}");
    let twice = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 9001 9002 NODE {TARGET}");
    let turned = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9001 9000 NODE {TARGET}");
    let unknown = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 NODE {}", "3".repeat(40));
    source.expect_all(&[
        (&own, "-ERR The target of the move is this node|"),
        (&foreign, "-ERR Slot 0 is not served by this node|"),
        (&twice, "-ERR Slot 9001 specified multiple times|"),
        (&turned, "-ERR start slot number 9001 is greater than end slot number 9000|"),
        (&unknown, &format!("-ERR Unknown node {}|", "3".repeat(40))),
        ("CLUSTER MIGRATESLOTS SLOTSRANGE 1 NODE x y", "-ERR Invalid or out of range slot|"),
        ("CLUSTER CANCELSLOTMIGRATIONS", "-ERR No migrations ongoing|"),
        ("CLUSTER GETSLOTMIGRATIONS", "*0|"),
        ("CLUSTER MIGRATION IMPORT 9000 9001", "-ERR Slot 9000 is served by this node|"),
        ("CLUSTER MIGRATION CANCEL ALL", ":0|"),
        ("CLUSTER MIGRATION STATUS", "*0|"),
        ("CLUSTER SLOTMOVE APPLY x y", "-ERR Invalid id of a move|"),
        (&format!("CLUSTER SLOTMOVE APPLY {SOURCE} y"), "-ERR No such move is under way|"),
        (&format!("CLUSTER SLOTMOVE TAKE {SOURCE} 100 0"), "-ERR No such move is under way|"),
        (&format!("CLUSTER SLOTMOVE END {SOURCE}"), "-ERR syntax error|"),
        (&format!("CLUSTER SLOTMOVE STATE {SOURCE}"), "+over the source does not know of it|"),
    ]);
    let setslot = format!("CLUSTER SETSLOT 9000 MIGRATING {TARGET}");
    source.expect(&setslot, "+OK|");
    source.expect(
        &format!("CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 NODE {TARGET}"),
        "-ERR Slot 9000 is being migrated by CLUSTER SETSLOT|",
    );
}

/// Whoever names a move that is under way and is not its source changes nothing of it.
#[test]
fn strangers_do_not_get_into_a_move() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("paused");
    let id = pair.source.engine.server.slot_moves.exports[0].id;
    pair.target.connect();
    for line in
        [format!("CLUSTER SLOTMOVE APPLY {id} x"), format!("CLUSTER SLOTMOVE TAKE {id} 10000 0")]
    {
        pair.target.expect(&line, "-ERR No such move is under way|");
    }
    pair.run();
    assert_eq!(pair.state(), "success");
}

#[test]
fn what_is_no_command_ends_the_move() {
    let mut pair = Pair::new();
    fill(&mut pair.source);
    pair.begin();
    pair.run_to("snapshotting");
    let id = pair.source.engine.server.slot_moves.exports[0].id.to_string();
    let client = pair.client.expect("it is connected");
    let apply = |pair: &mut Pair, commands: &[u8]| {
        let words = [&b"CLUSTER"[..], b"SLOTMOVE", b"APPLY", id.as_bytes(), commands];
        let before = std::mem::replace(&mut pair.target.client, client);
        let reply = pair.target.run(&words);
        pair.target.client = before;
        text(&reply)
    };
    for commands in [
        &b"*1\r\n$3\r\nNO!\r\n"[..],
        b"*2\r\n$3\r\nSET\r\n$1\r\na\r\n",
        b"*2\r\n$3\r\nGET\r\n$1",
        b"*1\r\n$-5\r\n",
        b"*4\r\n$8\r\nSETRANGE\r\n$4\r\n{a}x\r\n$2\r\n-1\r\n$1\r\nx\r\n",
        b"*1\r\n$8\r\nFLUSHALL\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\nx\r\n",
        b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n",
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n",
        b"*2\r\n$3\r\nACL\r\n$6\r\nWHOAMI\r\n",
    ] {
        let reply = apply(&mut pair, commands);
        let is_error = reply.starts_with("-ERR");
        assert!(is_error, "{}: {reply}", commands.escape_ascii());
    }
    // The database of the others is where it was.
    assert_eq!(pair.target.ask("DBSIZE"), ":0|");
    assert!(pair.target.engine.keyspace.staging().is_some());
}
