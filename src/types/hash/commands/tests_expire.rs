//! Fields that expire, against an engine in process with a clock of the test.

use std::collections::BTreeMap;

use super::tests::Bench;
use crate::engine::Now;
use crate::keyspace::digest;
use crate::structs::prng::Prng;

const START_MS: u64 = 1_700_000_000_000;

fn tick(bench: &mut Bench, at_ms: u64) {
    bench.engine.tick(Now { unix_us: at_ms * 1000, ..Now::default() });
}

/// The clock moves, and what is due is taken away.
fn tick_and_expire(bench: &mut Bench, at_ms: u64) {
    tick(bench, at_ms);
    while bench.engine.expire_due() {}
}

#[test]
fn what_is_done_to_times_is_told() {
    let mut bench = Bench::new();
    let cases: [(&str, &str, &[&str], &str); 16] = [
        ("HSET h a 1 b 2 c 3", ":3|", &["new", "hset"], "HSET h a 1 b 2 c 3"),
        (
            "HEXPIRE h 10 FIELDS 2 a x",
            "*2|:1|:-2|",
            &["hexpire"],
            "HPEXPIREAT h 1700000010000 FIELDS 1 a",
        ),
        ("HEXPIRE h 5 GT FIELDS 2 a b", "*2|:0|:0|", &[], ""),
        ("HEXPIRE h 20 NX FIELDS 1 a", "*1|:0|", &[], ""),
        ("HTTL h FIELDS 3 a b x", "*3|:10|:-1|:-2|", &[], ""),
        ("HINCRBYFLOAT h a 1", "$1|2|", &["hincrbyfloat"], "HSETEX h KEEPTTL FIELDS 1 a 2"),
        ("HINCRBY h a 1", ":3|", &["hincrby"], "HINCRBY h a 1"),
        ("HPTTL h FIELDS 1 a", "*1|:10000|", &[], ""),
        ("HPERSIST h FIELDS 2 a b", "*2|:1|:-1|", &["hpersist"], "HPERSIST h FIELDS 1 a"),
        ("HPEXPIRE h 0 FIELDS 1 b", "*1|:2|", &["hdel"], "HDEL h b"),
        (
            "HGETEX h PX 7 FIELDS 2 a b",
            "*2|$1|3|$-1|",
            &["hexpire"],
            "HPEXPIREAT h 1700000000007 FIELDS 1 a",
        ),
        ("HSET h a 4", ":0|", &["hset"], "HSET h a 4"),
        ("HTTL h FIELDS 1 a", "*1|:-1|", &[], ""),
        (
            "HSETEX h FXX EX 3 FIELDS 1 a 5",
            ":1|",
            &["hset", "hexpire"],
            "HSETEX h PXAT 1700000003000 FIELDS 1 a 5",
        ),
        ("HSETEX h FNX EX 3 FIELDS 1 a 5", ":0|", &[], ""),
        ("HGETDEL h FIELDS 2 a c", "*2|$1|5|$1|3|", &["hdel", "del"], "HDEL h a c"),
    ];
    for (line, reply, events, replayed) in cases {
        assert_eq!(bench.ask(line), reply, "{line}");
        let (told, commands, _) = bench.told();
        let told: Vec<_> = told.iter().filter(|name| *name != "new").collect();
        let events: Vec<_> = events.iter().filter(|name| **name != "new").collect();
        assert_eq!(
            (format!("{told:?}"), commands.join(";")),
            (format!("{events:?}"), replayed.to_owned()),
            "{line}"
        );
    }
    assert_eq!(bench.ask("EXISTS h"), ":0|");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 0);
}

#[test]
fn a_key_goes_with_its_last_field() {
    let mut bench = Bench::new();
    bench.ask("HSETEX h PX 10 FIELDS 2 a 1 b 2");
    bench.ask("HPEXPIRE h 20 FIELDS 1 b");
    assert_eq!(bench.ask("OBJECT ENCODING h"), "$10|listpackex|");
    bench.ask("COPY h copy");
    bench.ask("RENAME h g");
    bench.told();
    tick(&mut bench, START_MS + 10);
    assert_eq!(bench.ask("HLEN g"), ":2|");
    tick_and_expire(&mut bench, START_MS + 11);
    assert_eq!(bench.ask("HGETALL g"), "*2|$1|b|$1|2|");
    assert_eq!(bench.told().0, ["hexpired", "hexpired"]);
    bench.ask("HPERSIST copy FIELDS 1 b");
    bench.told();
    tick_and_expire(&mut bench, START_MS + 21);
    assert_eq!(bench.ask("EXISTS g copy"), ":1|");
    let (events, commands, _) = bench.told();
    assert_eq!(
        (events, commands),
        (vec!["hexpired".to_owned(), "del".to_owned()], vec!["HDEL g b".to_owned()])
    );
    assert_eq!(bench.engine.keyspace.earliest_deadline_ms(), u64::MAX);
    bench.ask("HEXPIRE copy 10 FIELDS 1 b");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 1);
    bench.ask("SET copy text");
    assert_eq!(bench.engine.keyspace.db(0).hashes_with_deadlines(), 0);
}

#[test]
fn bad_words_are_named() {
    let mut bench = Bench::new();
    let cases = [
        ("HEXPIRE h x FIELDS 1 a", "-ERR value is not an integer or out of range|"),
        ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0|"),
        (
            "HEXPIRE h 9223372036854775807 FIELDS 1 a",
            "-ERR invalid expire time in 'hexpire' command|",
        ),
        ("HEXPIRE h 1 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0|"),
        (
            "HEXPIRE h 1 FIELDS 9223372036854775807 a",
            "-ERR The `numfields` parameter must match the number of arguments|",
        ),
        (
            "HEXPIRE h 1 NX NX 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position|",
        ),
        (
            "HGETEX h EX 1 PX 1 FIELDS 1 a",
            "-ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified|",
        ),
        ("HGETEX h EX 0 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command|"),
        (
            "HSETEX h FNX FXX FIELDS 1 a 1",
            "-ERR Only one of FXX or FNX arguments can be specified|",
        ),
        (
            "HSETEX h FIELDS 2 a 1 b",
            "-ERR The `numfields` parameter must match the number of arguments|",
        ),
    ];
    for (line, reply) in cases {
        assert_eq!(bench.ask(line), reply, "{line}");
    }
    bench.ask("SET h text");
    assert!(bench.ask("HEXPIRE h 1 FIELDS 1 a").starts_with("-WRONGTYPE"));
    assert_eq!(bench.ask("HTTL none FIELDS 2 a b"), "*2|:-2|:-2|");
}

/// Random commands and a clock that moves, against a map; what is replayed makes the same data.
#[test]
fn hashes_with_times_do_as_a_map() {
    for (seed, entries) in [(1, 0), (2, 8), (3, 512)] {
        let mut prng = Prng::seeded(seed);
        let (mut bench, mut replica) = (Bench::new(), Bench::new());
        bench.ask(&format!("CONFIG SET hash-max-listpack-entries {entries}"));
        let mut model: BTreeMap<u64, (u64, Option<u64>)> = BTreeMap::new();
        let mut now_ms = START_MS;
        for step in 0..6000 {
            let (name, value) = (prng.below(30), prng.below(1000));
            let at_ms = now_ms + prng.below(40);
            let line = match prng.below(9) {
                0 => {
                    now_ms += prng.below(12);
                    tick(&mut bench, now_ms);
                    model.retain(|_, field| field.1.is_none_or(|at_ms| at_ms >= now_ms));
                    "PING".to_owned()
                }
                1 | 2 => {
                    model.insert(name, (value, None));
                    format!("HSET h {name} {value}")
                }
                3 => {
                    model.entry(name).or_insert((0, None)).0 += value;
                    format!("HINCRBY h {name} {value}")
                }
                4 => {
                    model.remove(&name);
                    format!("HDEL h {name}")
                }
                5 => {
                    if let Some(field) = model.get_mut(&name) {
                        field.1 = None;
                    }
                    format!("HPERSIST h FIELDS 1 {name}")
                }
                6 if at_ms > now_ms => {
                    model.insert(name, (value, Some(at_ms)));
                    format!("HSETEX h PXAT {at_ms} FIELDS 1 {name} {value}")
                }
                _ => {
                    if at_ms <= now_ms {
                        model.remove(&name);
                    } else if let Some(field) = model.get_mut(&name) {
                        field.1 = Some(at_ms);
                    }
                    format!("HPEXPIRE h {} FIELDS 1 {name}", at_ms - now_ms)
                }
            };
            bench.ask(&line);
            assert_eq!(bench.ask("HLEN h"), format!(":{}|", model.len()), "{step} {line}");
            assert_eq!(bench.ask("EXISTS h"), format!(":{}|", u8::from(!model.is_empty())));
            for (name, (value, expiry_ms)) in &model {
                let value = value.to_string();
                assert_eq!(
                    bench.ask(&format!("HGET h {name}")),
                    format!("${}|{value}|", value.len()),
                    "{step} {line}"
                );
                let answer = expiry_ms.map_or(-1, u64::cast_signed);
                assert_eq!(
                    bench.ask(&format!("HPEXPIRETIME h FIELDS 1 {name}")),
                    format!("*1|:{answer}|"),
                    "{step} {line}"
                );
            }
            for command in bench.engine.server.propagation.drain() {
                let words: Vec<&[u8]> = command.words.iter().map(|word| &**word).collect();
                replica.run(&words);
            }
            let digests = [&bench, &replica].map(|b| digest::of_dataset(&b.engine.keyspace));
            assert_eq!(digests[0], digests[1], "{step} {line}");
        }
    }
}
