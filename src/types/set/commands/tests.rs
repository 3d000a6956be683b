//! The set commands against an engine in process: encodings, what is replayed, events, and a model.

use crate::config::EventClasses;
use crate::engine::testing::Bench;
use crate::structs::prng::Prng;
use std::collections::BTreeSet;

fn bench() -> Bench {
    Bench::new().recording(EventClasses::ALL.or(EventClasses::NEW))
}

fn count(bench: &mut Bench, line: &str) -> i64 {
    bench.ask(line).trim_matches([':', '|']).parse().expect("an integer reply")
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!(" {n}")).collect()
}

#[test]
fn a_set_grows_through_its_encodings_and_never_back() {
    let mut bench = bench();
    bench.expect_all(&[("sadd s 1 2 3", ":3|"), ("sadd s 3 4", ":1|")]);
    assert_eq!(bench.encoding("s"), "intset");
    bench.expect_all(&[("sadd s x", ":1|"), ("sismember s 4", ":1|"), ("sismember s 04", ":0|")]);
    assert_eq!(bench.encoding("s"), "listpack");
    bench.ask("srem s x");
    assert_eq!(bench.encoding("s"), "listpack");
    let long = "y".repeat(65);
    bench.expect_all(&[(&format!("sadd s {long}"), ":1|"), (&format!("srem s {long}"), ":1|")]);
    assert_eq!(bench.encoding("s"), "hashtable");
    assert_eq!(count(&mut bench, "scard s"), 4);

    bench.ask(&format!("sadd many{}", numbers(0..512)));
    assert_eq!(bench.encoding("many"), "intset");
    bench.ask("sadd many 512");
    assert_eq!(bench.encoding("many"), "hashtable");
    bench.ask(&format!("sadd hinted{}", numbers(0..513)));
    assert_eq!(bench.encoding("hinted"), "hashtable");
    bench.ask(&format!("sadd few{}", numbers(0..128)));
    bench.ask("sadd few x");
    assert_eq!(bench.encoding("few"), "hashtable", "a listpack of 129 would be too long");
    bench.ask(&format!("sadd fewer{} x", numbers(0..127)));
    assert_eq!(bench.encoding("fewer"), "listpack");
}

#[test]
fn events_and_replay_tell_what_happened() {
    let mut bench = bench();
    bench.ask("sadd s a");
    assert_eq!(bench.replayed(), ["sadd s a"]);
    assert_eq!(bench.told(), ["new s", "sadd s"]);
    bench.ask("sadd s a");
    assert_eq!((bench.replayed().len(), bench.told().len()), (0, 0));
    bench.ask("spop s");
    assert_eq!(bench.replayed(), ["SREM s a"]);
    assert_eq!(bench.told(), ["spop s", "del s"]);
    bench.ask("sadd s 1 2 3");
    bench.ask("spop s 5");
    assert_eq!(bench.replayed(), ["sadd s 1 2 3", "DEL s"]);
    assert_eq!(bench.told(), ["new s", "sadd s", "spop s", "del s"]);
    bench.ask("sadd s 1");
    bench.ask("smove s t 1");
    bench.ask("sinterstore t t nothing");
    assert_eq!(bench.replayed(), ["sadd s 1", "smove s t 1", "sinterstore t t nothing"]);
    let events = bench.told();
    assert_eq!(events[..6], ["new s", "sadd s", "srem s", "del s", "new t", "sadd t"]);
    assert_eq!(events.last().map(String::as_str), Some("del t"));
}

#[test]
fn a_popped_count_is_replayed_in_pieces() {
    let mut bench = bench();
    bench.ask(&format!("sadd s{}", numbers(0..5000)));
    bench.replayed();
    let popped = bench.list("spop s 3000");
    let replayed = bench.replayed();
    let named: BTreeSet<&str> = replayed
        .iter()
        .flat_map(|line| line.split(' ').skip(2))
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(replayed.iter().filter(|line| line.starts_with("SREM s ")).count(), 3);
    assert_eq!(named, popped.iter().map(String::as_str).collect());
    assert_eq!(count(&mut bench, "scard s"), 2000);
    assert_eq!(bench.list("spop s 1950").len(), 1950);
    assert_eq!(bench.encoding("s"), "listpack", "the few that stay are a new set");
    assert_eq!(count(&mut bench, "scard s"), 50);
}

#[test]
fn errors_come_in_redis_order() {
    let mut bench = bench();
    bench.ask("set str x");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
    let range = "-ERR value is out of range, must be positive|";
    bench.expect_all(&[
        ("sadd str a", wrong),
        ("smove nothing str a", ":0|"),
        ("sinter nothing str", wrong),
        ("sinterstore str nothing nothing", ":0|"),
        ("exists str", ":0|"),
        ("set str x", "+OK|"),
        ("spop str -1", range),
        ("spop str x", range),
        ("spop str 1 2", "-ERR syntax error|"),
        ("spop nothing 1", "*0|"),
        ("srandmember str x", "-ERR value is not an integer or out of range|"),
        (
            "srandmember nothing -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807|",
        ),
        ("sintercard 0 str", "-ERR numkeys should be greater than 0|"),
        ("sintercard 2 str", "-ERR Number of keys can't be greater than number of args|"),
        ("sintercard 1 str limit -1", "-ERR LIMIT can't be negative|"),
        ("sintercard 1 str foo 1", "-ERR syntax error|"),
        ("sintercard 1 str", wrong),
        ("sscan nothing x", "-ERR invalid cursor|"),
        ("sscan nothing 0 foo", "*2|$1|0|*0|"),
        ("sscan str 0 foo", wrong),
    ]);
}

#[test]
fn long_replies_come_from_another_thread() {
    let mut bench = bench();
    let all: String = numbers(0..120_000);
    bench.ask(&format!("sadd s{all}"));
    bench.ask("sadd t 7 x");
    assert_eq!(bench.list("smembers s").len(), 120_000);
    assert_eq!(bench.list("sunion s t").len(), 120_001);
    assert_eq!(bench.list("sdiff s t").len(), 119_999);
    assert_eq!(bench.list("sinter s t"), ["7"]);
    assert_eq!(count(&mut bench, "sintercard 1 s"), 120_000);
    assert_eq!(bench.list("srandmember s 110000").len(), 110_000);
    assert_eq!(bench.list("spop s 200000").len(), 120_000);
    assert_eq!(count(&mut bench, "exists s"), 0);
}

#[test]
fn sscan_returns_each_member_once() {
    let mut bench = bench();
    bench.ask(&format!("sadd s{}", numbers(0..3000)));
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    for pages in 0.. {
        assert!(pages <= 3000, "the scan does not end");
        let reply = bench.ask(&format!("sscan s {cursor} count 50"));
        let parts: Vec<&str> = reply.split('|').collect();
        cursor = parts[2].to_owned();
        seen.extend(parts[4..].iter().skip(1).step_by(2).map(|word| (*word).to_owned()));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 3000);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 3000);
}

/// A key out of few, and a member that is an integer as often as not.
fn random_word(prng: &mut Prng) -> String {
    match prng.below(3) {
        0 => format!("m{}", prng.below(40)),
        1 => (prng.next_u64() as i64 >> prng.below(64)).to_string(),
        _ => prng.below(60).to_string(),
    }
}

#[test]
fn sets_do_as_tree_sets_in_every_encoding() {
    let mut prng = Prng::seeded(77);
    for limit in [0, 4, 16, 512] {
        let mut bench = bench();
        for name in ["set-max-intset-entries", "set-max-listpack-entries"] {
            bench.ask(&format!("config set {name} {limit}"));
        }
        let mut model = vec![BTreeSet::<String>::new(); 4];
        for _ in 0..1500 {
            let (a, b) = (prng.below(4) as usize, prng.below(4) as usize);
            let to = prng.below(4) as usize;
            let word = random_word(&mut prng);
            match prng.below(9) {
                0..3 => {
                    let is_new = i64::from(model[a].insert(word.clone()));
                    assert_eq!(count(&mut bench, &format!("sadd k{a} {word}")), is_new);
                }
                3 => {
                    let was = i64::from(model[a].remove(&word));
                    assert_eq!(count(&mut bench, &format!("srem k{a} {word}")), was);
                }
                4 => {
                    let count = prng.below(6) as usize;
                    for member in bench.list(&format!("spop k{a} {count}")) {
                        assert!(model[a].remove(&member));
                    }
                }
                5 => {
                    let union = model[a].union(&model[b]).cloned().collect();
                    bench.ask(&format!("sunionstore k{to} k{a} k{b}"));
                    model[to] = union;
                }
                6 => {
                    let both = model[a].intersection(&model[b]).cloned().collect();
                    bench.ask(&format!("sinterstore k{to} k{a} k{b}"));
                    model[to] = both;
                }
                7 => {
                    let rest = model[a].difference(&model[b]).cloned().collect();
                    bench.ask(&format!("sdiffstore k{to} k{a} k{b}"));
                    model[to] = rest;
                }
                _ => {
                    let moves = model[a].contains(&word);
                    assert_eq!(
                        count(&mut bench, &format!("smove k{a} k{b} {word}")),
                        i64::from(moves)
                    );
                    if moves {
                        model[a].remove(&word);
                        model[b].insert(word);
                    }
                }
            }
            let listed: BTreeSet<String> =
                bench.list(&format!("smembers k{to}")).into_iter().collect();
            assert_eq!(listed, model[to]);
            assert_eq!(count(&mut bench, &format!("scard k{a}")), model[a].len() as i64);
            assert_eq!(count(&mut bench, &format!("exists k{a}")), i64::from(!model[a].is_empty()));
        }
    }
}

#[test]
fn an_endless_draw_ends_in_an_error() {
    let mut bench = bench();
    let member = "m".repeat(1 << 20);
    bench.ask(&format!("SADD s {member}"));
    for count in ["-9223372036854775807", "-600"] {
        assert_eq!(bench.ask(&format!("SRANDMEMBER s {count}")), "-ERR value is out of range|");
    }
    assert!(bench.ask("SRANDMEMBER s -2").starts_with("*2|"));
}
