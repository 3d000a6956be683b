//! The generic commands over an engine in this process: whole requests in, protocol out.

use crate::config::EventClasses;
use crate::engine::testing::{Bench, START_MS, text};
use crate::keyspace::KeyEvent;
use crate::structs::prng::Prng;
use std::collections::{BTreeMap, BTreeSet};

fn bench() -> Bench {
    Bench::new().recording(EventClasses::NONE)
}

fn watch_events(bench: &mut Bench, letters: &str) {
    let classes = EventClasses::from_letters(letters.as_bytes()).expect("letters of classes");
    bench.engine.keyspace.changes.observers.events = classes;
}

/// The events since the last call: `name key@db`.
fn told_with_db(bench: &mut Bench) -> Vec<String> {
    let told = |event: &KeyEvent| format!("{} {}@{}", event.name, text(&event.key), event.db);
    bench.events().iter().map(told).collect()
}

const NOT_INTEGER: &str = "-ERR value is not an integer or out of range|";
const NOT_INT_32: &str =
    "-ERR value is out of range, value must between -2147483648 and 2147483647|";
const NX_CLASH: &str = "-ERR NX and XX, GT or LT options at the same time are not compatible|";
const GT_CLASH: &str = "-ERR GT and LT options at the same time are not compatible|";

/// The edges of every integer argument.
const EDGES: [i64; 11] = [
    0,
    1,
    -1,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31) - 1,
    1 << 32,
    -(1 << 32) - 1,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

#[test]
fn the_first_error_in_redis_order_wins() {
    let mut f = bench();
    f.expect_all(&[
        ("SET k v", "+OK|"),
        ("EXPIRE k x FOO", "-ERR Unsupported option FOO|"),
        ("EXPIRE k x NX GT", NX_CLASH),
        ("EXPIRE k x nx xx", NX_CLASH),
        ("EXPIRE k 1 GT LT NX", NX_CLASH),
        ("EXPIRE k x gt lt", GT_CLASH),
        ("EXPIRE k x", NOT_INTEGER),
        ("EXPIRE nothing x", NOT_INTEGER),
        ("EXPIRE nothing 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
        ("COPY k k FOO", "-ERR syntax error|"),
        ("COPY k k DB", "-ERR syntax error|"),
        ("COPY k k DB x FOO", NOT_INTEGER),
        ("COPY k k FOO DB x", "-ERR syntax error|"),
        ("COPY k k DB 16 FOO", "-ERR DB index is out of range|"),
        ("COPY k k DB 4294967296", NOT_INT_32),
        ("COPY k k", "-ERR source and destination objects are the same|"),
        ("COPY k k DB 1 DB 0", "-ERR source and destination objects are the same|"),
        ("MOVE nothing x", NOT_INTEGER),
        ("MOVE nothing 16", "-ERR DB index is out of range|"),
        ("MOVE nothing 0", "-ERR source and destination objects are the same|"),
        ("RENAME nothing nothing", "-ERR no such key|"),
        ("RENAMENX nothing k", "-ERR no such key|"),
        ("SCAN x FOO", "-ERR invalid cursor|"),
        ("SCAN 0 FOO", "-ERR syntax error|"),
        ("SCAN 0 COUNT", "-ERR syntax error|"),
        ("SCAN 0 COUNT x FOO", NOT_INTEGER),
        ("SCAN 0 COUNT 0 FOO", "-ERR syntax error|"),
        ("OBJECT FOO k", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.|"),
        ("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command|"),
        ("OBJECT FREQ nothing", "$-1|"),
    ]);
    let freq = f.ask("OBJECT FREQ k");
    assert!(freq.starts_with("-ERR An LFU maxmemory policy is not selected, access frequency"));
    let option = f.run(&[b"EXPIRE", b"k", b"1", b"a\0b"]);
    assert_eq!(text(&option), "-ERR Unsupported option a|");
}

#[test]
fn expiry_takes_every_integer_that_it_can_hold() {
    let units = [("EXPIRE", 1000), ("PEXPIRE", 1), ("EXPIREAT", 1000), ("PEXPIREAT", 1)];
    for (command, unit_ms) in units {
        for edge in EDGES {
            let mut f = bench();
            f.ask("SET k v");
            let base = if command.ends_with("AT") { 0 } else { i128::from(START_MS) };
            let exact = i128::from(edge) * unit_ms + base;
            let fits =
                i64::try_from(i128::from(edge) * unit_ms).is_ok() && i64::try_from(exact).is_ok();
            let (reply, left) = match exact {
                _ if !fits => {
                    let name = command.to_ascii_lowercase();
                    (format!("-ERR invalid expire time in '{name}' command|"), ":-1|".to_owned())
                }
                at_ms if at_ms <= i128::from(START_MS) => (":1|".into(), ":-2|".into()),
                at_ms => (":1|".into(), format!(":{at_ms}|")),
            };
            f.expect(&format!("{command} k {edge}"), &reply);
            f.expect("PEXPIRETIME k", &left);
        }
    }
}

#[test]
fn integer_edges_elsewhere_are_refused_as_redis_does() {
    let mut f = bench();
    f.ask("SET k v");
    f.ask("SELECT 3");
    for edge in EDGES {
        let moved = match edge {
            0 | 1 => ":0|",
            _ if i32::try_from(edge).is_ok() => "-ERR DB index is out of range|",
            _ => NOT_INT_32,
        };
        f.expect(&format!("MOVE k {edge}"), moved);
        f.expect(&format!("COPY k k DB {edge}"), moved);
        let scanned = f.ask(&format!("SCAN 0 COUNT {edge}"));
        let whole = "*2|$1|0|*0|";
        assert_eq!(scanned, if edge < 1 { "-ERR syntax error|" } else { whole }, "{edge}");
        assert!(f.ask(&format!("SCAN {edge} COUNT 1000")).starts_with("*2|"), "{edge}");
    }
    f.expect("SCAN 9223372036854775808 COUNT 9223372036854775808", NOT_INTEGER);
}

#[test]
fn conditions_decide_which_expiry_may_be_replaced() {
    let mut f = bench();
    let cases = [
        ("NX", ":1|", ":0|", ":0|"),
        ("XX", ":0|", ":1|", ":1|"),
        ("GT", ":0|", ":0|", ":1|"),
        ("LT", ":1|", ":1|", ":0|"),
        ("XX GT", ":0|", ":0|", ":1|"),
        ("LT XX", ":0|", ":1|", ":0|"),
    ];
    for (condition, without, sooner, later) in cases {
        f.ask("SET k v");
        f.expect(&format!("EXPIRE k 100 {condition}"), without);
        f.ask("EXPIRE k 100");
        f.expect(&format!("EXPIRE k 50 {condition}"), sooner);
        f.ask("EXPIRE k 100");
        f.expect(&format!("EXPIRE k 200 {condition}"), later);
        f.ask("EXPIRE k 100");
        let same = if matches!(condition, "XX") { ":1|" } else { ":0|" };
        f.expect(&format!("EXPIRE k 100 {condition}"), same);
    }
}

#[test]
fn keys_go_when_their_time_has_come() {
    let mut f = bench();
    f.expect_all(&[
        ("SET k v", "+OK|"),
        ("PEXPIRE k 1500", ":1|"),
        ("TTL k", ":2|"),
        ("PTTL k", ":1500|"),
        ("PEXPIRETIME k", ":1700000001500|"),
        ("EXPIRETIME k", ":1700000002|"),
    ]);
    f.advance(1001);
    f.expect_all(&[("TTL k", ":0|"), ("PTTL k", ":499|"), ("EXISTS k k", ":2|")]);
    f.replayed();
    f.advance(499);
    f.expect_all(&[("PTTL k", ":0|"), ("EXISTS k", ":1|")]);
    f.advance(1);
    f.expect_all(&[
        ("EXISTS k", ":0|"),
        ("TTL k", ":-2|"),
        ("TYPE k", "+none|"),
        ("PERSIST k", ":0|"),
        ("DBSIZE", ":0|"),
        ("RANDOMKEY", "$-1|"),
    ]);
    assert_eq!(f.replayed(), ["DEL k"]);
    assert_eq!(f.engine.keyspace.stats.expired, 1);
    f.expect_all(&[("SET k v", "+OK|"), ("EXPIRE k 10", ":1|"), ("PERSIST k", ":1|")]);
    f.advance(1 << 30);
    f.expect_all(&[("TTL k", ":-1|"), ("PERSIST k", ":0|")]);
}

#[test]
fn the_write_stream_has_absolute_times() {
    let mut f = bench();
    f.ask("SET k v");
    f.replayed();
    let before = f.dirty();
    for line in ["EXPIRE k 10", "PEXPIRE k 5 LT", "EXPIREAT k 1700000009 XX GT"] {
        f.expect(line, ":1|");
    }
    f.expect("pexpireat k 1700000010000 xx", ":1|");
    f.expect("EXPIRE k 10 NX", ":0|");
    assert_eq!(
        f.replayed(),
        [
            "PEXPIREAT k 1700000010000",
            "PEXPIREAT k 1700000000005 LT",
            "PEXPIREAT k 1700000009000 XX GT",
            "pexpireat k 1700000010000 xx"
        ]
    );
    assert_eq!(f.dirty(), before + 4);
    f.expect("EXPIRE k -1", ":1|");
    f.expect("EXPIRE k -1", ":0|");
    assert_eq!(f.replayed(), ["DEL k"]);
    assert_eq!(f.dirty(), before + 5);
    f.engine.server.config.lazyfree_lazy_expire = true;
    f.ask("SET k v");
    f.expect("PEXPIREAT k 0", ":1|");
    assert_eq!(f.replayed(), ["SET k v", "UNLINK k"]);
}

#[test]
fn each_change_is_told_in_redis_words() {
    let mut f = bench();
    watch_events(&mut f, "Anm");
    let cases: &[(&str, &[&str])] = &[
        ("SET a 1", &["new a@0", "set a@0"]),
        ("SET a 2", &["set a@0"]),
        ("EXPIRE a 10", &["expire a@0"]),
        ("PERSIST a", &["persist a@0"]),
        ("PERSIST a", &[]),
        ("RENAME a b", &["new b@0", "rename_from a@0", "rename_to b@0"]),
        ("RENAME b b", &[]),
        ("COPY b c DB 1", &["new c@1", "copy_to c@1"]),
        ("COPY b c DB 1 REPLACE", &["new c@1", "copy_to c@1"]),
        ("COPY b c DB 1", &[]),
        ("COPY nothing c", &["keymiss nothing@0"]),
        ("MOVE b 1", &["new b@1", "move_from b@0", "move_to b@1"]),
        ("MOVE b 1", &[]),
        ("EXISTS b", &["keymiss b@0"]),
        ("TTL b", &["keymiss b@0"]),
        ("OBJECT ENCODING b", &[]),
        ("GET b", &["keymiss b@0"]),
        ("DEL b", &[]),
        ("SET b 1", &["new b@0", "set b@0"]),
        ("SET d 1", &["new d@0", "set d@0"]),
        ("UNLINK b nothing d", &["del b@0", "del d@0"]),
        ("SET b 1", &["new b@0", "set b@0"]),
        ("PEXPIREAT b 1", &["del b@0"]),
    ];
    for (line, events) in cases {
        f.ask(line);
        assert_eq!(told_with_db(&mut f), *events, "{line}");
    }
}

#[test]
fn an_expiry_is_told_once_and_before_the_miss() {
    let mut f = bench();
    watch_events(&mut f, "Anm");
    let cases: &[(&str, &[&str])] = &[
        ("GET k", &["expired k@0", "keymiss k@0"]),
        ("EXISTS k k", &["expired k@0", "keymiss k@0", "keymiss k@0"]),
        ("MGET a k", &["keymiss a@0", "expired k@0", "keymiss k@0"]),
        ("SET k w GET", &["expired k@0", "keymiss k@0", "new k@0", "set k@0"]),
        ("APPEND k x", &["expired k@0", "new k@0", "append k@0"]),
    ];
    for (line, events) in cases {
        f.ask("SET k v PX 10");
        f.advance(20);
        told_with_db(&mut f);
        f.ask(line);
        assert_eq!(told_with_db(&mut f), *events, "{line}");
    }
}

#[test]
fn hits_and_misses_are_counted_for_reads_only() {
    let mut f = bench();
    f.ask("SET a 1");
    let cases = [
        ("EXISTS a nothing a", 2, 1),
        ("TYPE a", 1, 0),
        ("PTTL nothing", 0, 1),
        ("OBJECT ENCODING a", 1, 0),
        ("OBJECT REFCOUNT nothing", 0, 1),
        ("TOUCH a nothing", 1, 1),
        ("COPY a b", 1, 0),
        ("EXPIRE a 10", 0, 0),
        ("PERSIST nothing", 0, 0),
        ("RENAME a c", 0, 0),
        ("DEL a b", 0, 0),
        ("KEYS *", 0, 0),
        ("SCAN 0", 0, 0),
    ];
    let counts = |f: &Bench| {
        let stats = &f.engine.keyspace.stats;
        (stats.hits.get(), stats.misses.get())
    };
    for (line, hits, misses) in cases {
        let before = counts(&f);
        f.ask(line);
        let after = counts(&f);
        assert_eq!((after.0 - before.0, after.1 - before.1), (hits, misses), "{line}");
    }
}

#[test]
fn only_use_moves_the_access_clock() {
    let mut f = bench();
    f.ask("SET k v");
    f.advance(10_000);
    for line in ["TTL k", "TYPE k", "EXISTS k", "OBJECT ENCODING k", "SCAN 0", "EXPIRE k 1000"] {
        f.ask(line);
        f.expect("OBJECT IDLETIME k", ":10|");
    }
    f.expect_all(&[("CLIENT NO-TOUCH on", "+OK|"), ("GET k", "$1|v|")]);
    f.expect_all(&[
        ("OBJECT IDLETIME k", ":10|"),
        ("TOUCH k", ":1|"),
        ("OBJECT IDLETIME k", ":0|"),
    ]);
    f.advance(5000);
    f.expect_all(&[("RENAME k l", "+OK|"), ("OBJECT IDLETIME l", ":0|")]);
}

#[test]
fn a_value_changes_place_with_its_expiry() {
    let mut f = bench();
    let big = "x".repeat(5000);
    for value in ["v", "12", big.as_str()] {
        f.ask("FLUSHALL");
        let bulk = format!("${}|{value}|", value.len());
        f.expect(&format!("SET a {value}"), "+OK|");
        let encoding = f.ask("OBJECT ENCODING a");
        f.expect_all(&[
            ("EXPIRE a 100", ":1|"),
            ("SET b old", "+OK|"),
            ("RENAMENX a b", ":0|"),
            ("RENAMENX a a", ":0|"),
            ("RENAME a a", "+OK|"),
            ("RENAME a b", "+OK|"),
            ("EXISTS a", ":0|"),
            ("TTL b", ":100|"),
            ("SET a other", "+OK|"),
            ("COPY b a", ":0|"),
            ("COPY b a replace", ":1|"),
            ("TTL a", ":100|"),
            ("COPY b a DB 1", ":1|"),
            ("MOVE a 1", ":0|"),
            ("MOVE a 2", ":1|"),
            ("EXISTS a", ":0|"),
            ("SELECT 2", "+OK|"),
            ("GET a", &bulk),
            ("TTL a", ":100|"),
            ("SELECT 0", "+OK|"),
            ("GET b", &bulk),
        ]);
        assert_eq!(f.ask("OBJECT ENCODING b"), encoding);
    }
    let space = &f.engine.keyspace;
    assert_eq!([0, 1, 2].map(|db| (space.db(db).len(), space.db(db).expiring())), [(1, 1); 3]);
}

#[test]
fn a_target_whose_time_has_come_is_no_target() {
    for line in ["COPY a b", "RENAMENX a b", "MOVE a 1"] {
        let mut f = bench();
        watch_events(&mut f, "x");
        f.expect_all(&[("SET a 1", "+OK|"), ("SET b 1", "+OK|"), ("PEXPIRE b 5", ":1|")]);
        f.expect_all(&[("COPY b a DB 1", ":1|"), ("SELECT 1", "+OK|"), ("TTL a", ":0|")]);
        f.expect("SELECT 0", "+OK|");
        f.advance(6);
        f.replayed();
        f.expect(line, ":1|");
        let gone =
            if line.starts_with("MOVE") { ("expired a@1", "a") } else { ("expired b@0", "b") };
        assert_eq!(told_with_db(&mut f), [gone.0]);
        let gone = format!("DEL {}", gone.1);
        assert_eq!(f.replayed(), ["MULTI", gone.as_str(), line, "EXEC"]);
    }
}

#[test]
fn expired_keys_go_in_the_order_in_which_they_were_met() {
    let mut f = bench();
    for key in ["a", "b", "c"] {
        f.ask(&format!("SET {key} v"));
        f.ask(&format!("PEXPIRE {key} 1"));
    }
    f.replayed();
    f.advance(2);
    f.expect("EXISTS b c a b", ":0|");
    assert_eq!(f.replayed(), ["MULTI", "DEL b", "DEL c", "DEL a", "EXEC"]);
}

#[test]
fn watches_break_where_a_key_goes_and_where_it_comes() {
    for key in ["a", "b"] {
        let mut f = bench();
        f.ask("SET a 1");
        f.ask(&format!("WATCH {key}"));
        f.ask("RENAME a b");
        f.ask("MULTI");
        f.expect("EXEC", "*-1|");
    }
}

#[test]
fn small_integers_are_shared_as_far_as_anybody_can_see() {
    let mut f = bench();
    for (value, count) in [("0", "2147483647"), ("9999", "2147483647"), ("10000", "1")] {
        f.ask(&format!("SET k {value}"));
        f.expect("OBJECT REFCOUNT k", &format!(":{count}|"));
    }
    for (value, count) in [("-1", "1"), ("x", "1"), ("007", "1")] {
        f.ask(&format!("SET k {value}"));
        f.expect("OBJECT REFCOUNT k", &format!(":{count}|"));
    }
}

/// The keys and the cursor of a SCAN reply.
fn parse_scan(reply: &str) -> (String, Vec<String>) {
    let mut payloads = reply.split('|').filter(|line| !line.starts_with(['*', '$']));
    let cursor = payloads.next().expect("a cursor").to_owned();
    (cursor, payloads.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[test]
fn scan_returns_what_stays_exactly_once() {
    let mut prng = Prng::seeded(7);
    for round in 0..20 {
        let mut f = bench();
        let stays: BTreeSet<String> = (0..prng.below(3000)).map(|n| format!("stay{n}")).collect();
        for key in &stays {
            f.ask(&format!("SET {key} v"));
        }
        let count = 1 + prng.below(200);
        let churn = prng.below(60);
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        for pages in 0.. {
            assert!(pages <= 10_000, "the scan of round {round} does not end");
            let (next, keys) = parse_scan(&f.ask(&format!("SCAN {cursor} COUNT {count}")));
            for key in keys {
                *seen.entry(key).or_default() += 1;
            }
            if next == "0" {
                break;
            }
            // redis-cli keeps it in a C int.
            assert!(next.parse::<i32>().is_ok(), "{next}");
            cursor = next;
            for _ in 0..churn {
                let n = prng.below(5000);
                let verb = if prng.below(2) == 0 { "SET" } else { "DEL" };
                let value = if verb == "SET" { " v" } else { "" };
                f.ask(&format!("{verb} fleeting{n}{value}"));
            }
        }
        assert!(stays.iter().all(|key| seen.get(key) == Some(&1)), "round {round}");
    }
}

#[test]
fn scan_and_keys_filter_and_skip_what_has_expired() {
    let mut f = bench();
    for n in 0..50 {
        f.ask(&format!("SET a{n} v"));
        f.ask(&format!("SET b{n} v"));
    }
    for n in 0..20 {
        f.ask(&format!("PEXPIRE a{n} 10"));
    }
    let scanned = |f: &mut Bench, rest: &str| {
        let (cursor, keys) = parse_scan(&f.ask(&format!("SCAN 0 COUNT 1000{rest}")));
        assert_eq!(cursor, "0");
        keys.len()
    };
    assert_eq!(scanned(&mut f, " MATCH a*"), 50);
    f.advance(11);
    assert!(f.ask("KEYS *").starts_with("*80|"));
    assert_eq!(f.keys(), 100, "KEYS takes nothing away");
    assert_eq!(scanned(&mut f, " MATCH b*") + scanned(&mut f, " TYPE list"), 50);
    assert_eq!(f.keys(), 100, "nor does SCAN what it would not return");
    assert_eq!(scanned(&mut f, ""), 80);
    assert_eq!(f.keys(), 80);
    assert_eq!(scanned(&mut f, " MATCH a*"), 30);
    assert_eq!(scanned(&mut f, " TYPE STRING MATCH b?"), 10);
    assert_eq!(scanned(&mut f, " TYPE list"), 0);
    assert_eq!(scanned(&mut f, " TYPE nonsense"), 0);
    assert!(f.ask("KEYS a1?").starts_with("*0|"));
    f.expect_all(&[("KEYS a20", "*1|$3|a20|"), ("KEYS a1", "*0|"), ("KEYS a\\20", "*1|$3|a20|")]);
}

#[test]
fn a_big_walk_goes_to_another_thread_and_says_the_same() {
    let mut f = bench();
    for n in 0..3000 {
        f.ask(&format!("SET key{n} v"));
    }
    assert!(f.ask("KEYS key1*").starts_with("*1111|"));
    let (cursor, keys) = parse_scan(&f.ask("SCAN 0 COUNT 100000 MATCH key1*"));
    assert_eq!((cursor.as_str(), keys.len()), ("0", 1111));
    f.expect_all(&[("MULTI", "+OK|"), ("KEYS key1234", "+QUEUED|"), ("KEYS *", "+QUEUED|")]);
    let replies = f.ask("EXEC");
    assert!(replies.starts_with("*2|*1|$7|key1234|*3000|"));
}

#[test]
fn a_random_key_is_a_live_one() {
    let mut f = bench();
    for n in 0..500 {
        f.ask(&format!("SET brief{n} v"));
        f.ask(&format!("PEXPIRE brief{n} 1"));
    }
    f.ask("SET alive v");
    f.advance(2);
    f.expect("RANDOMKEY", "$5|alive|");
    f.ask("DEL alive");
    for _ in 0..50 {
        f.expect("RANDOMKEY", "$-1|");
    }
    f.ask("FLUSHALL");
    let keys: BTreeSet<String> = (0..20).map(|n| format!("$2|{n:02}|")).collect();
    for n in 0..20 {
        f.ask(&format!("SET {n:02} v"));
    }
    let drawn: BTreeSet<String> = (0..1000).map(|_| f.ask("RANDOMKEY")).collect();
    assert_eq!(drawn, keys);
}
