//! The hash commands against an engine in process: RESP3 replies, what is replayed, events, and
//! answers that another thread writes.

use std::collections::BTreeSet;

use crate::config::EventClasses;
use crate::engine::testing::Bench;
use crate::keyspace::commands::elements::INLINE_ELEMENTS_MAX;
use crate::keyspace::digest::Digest;

pub(super) fn bench() -> Bench {
    Bench::new().recording(EventClasses::ALL)
}

/// The events and the replayed commands since the last call, and how much was changed.
pub(super) fn told(bench: &mut Bench) -> (Vec<String>, Vec<String>, u64) {
    let events = bench.events().iter().map(|event| event.name.to_owned()).collect();
    let dirty = std::mem::take(&mut bench.engine.keyspace.changes.dirty);
    (events, bench.replayed(), dirty)
}

/// Makes a hash `big` of so many fields.
fn fill(bench: &mut Bench, count: usize) {
    for i in 0..count {
        bench.ask(&format!("HSET big field:{i} value"));
    }
}

/// The words of a reply of any shape.
pub(super) fn items(bench: &mut Bench, line: &str) -> Vec<String> {
    let reply = bench.ask(line);
    let words = reply.split('|').filter(|w| !w.starts_with(['*', '$', '%']) && !w.is_empty());
    words.map(str::to_owned).collect()
}

#[test]
fn writes_tell_what_they_did() {
    let cases: [(&str, &[&str], &str, u64); 13] = [
        ("HSET h a 1 b 2 a 3", &["hset"], "HSET h a 1 b 2 a 3", 3),
        ("HMSET h a 1", &["hset"], "HMSET h a 1", 1),
        ("HSETNX h a 1", &[], "", 0),
        ("HSETNX h c 1", &["hset"], "HSETNX h c 1", 1),
        ("HINCRBY h a 4", &["hincrby"], "HINCRBY h a 4", 1),
        ("HINCRBYFLOAT h a 0.5", &["hincrbyfloat"], "HSET h a 5.5", 1),
        ("HINCRBY h a 4", &[], "", 0),
        ("HDEL h none", &[], "", 0),
        ("HDEL h a none a b", &["hdel"], "HDEL h a none a b", 2),
        ("HDEL h c d", &["hdel", "del"], "HDEL h c d", 1),
        ("HDEL h c", &[], "", 0),
        ("HINCRBYFLOAT n f 2", &["hincrbyfloat"], "HSET n f 2", 1),
        ("HSETNX m f 2", &["hset"], "HSETNX m f 2", 1),
    ];
    let mut bench = bench();
    for (line, events, replayed, dirty) in cases {
        bench.ask(line);
        let (told, commands, changes) = told(&mut bench);
        assert_eq!(told, events, "{line}");
        assert_eq!((commands.join(";"), changes), (replayed.to_owned(), dirty), "{line}");
    }
    assert_eq!(bench.ask("EXISTS h"), ":0|");
}

#[test]
fn resp3_has_maps_and_pairs() {
    let mut bench = bench();
    bench.ask("HELLO 3");
    for encoding in ["listpack", "hashtable"] {
        if encoding == "hashtable" {
            bench.ask("CONFIG SET hash-max-listpack-entries 0");
        }
        bench.ask("HSET h f v");
        assert_eq!(bench.ask("OBJECT ENCODING h").split('|').nth(1), Some(encoding));
        let cases = [
            ("HGETALL h", "%1|$1|f|$1|v|"),
            ("HKEYS h", "*1|$1|f|"),
            ("HGETALL none", "%0|"),
            ("HGET h none", "_|"),
            ("HRANDFIELD none", "_|"),
            ("HRANDFIELD h 1 WITHVALUES", "*1|*2|$1|f|$1|v|"),
            ("HRANDFIELD h -2 WITHVALUES", "*2|*2|$1|f|$1|v|*2|$1|f|$1|v|"),
            ("HRANDFIELD h 9 WITHVALUES", "*1|*2|$1|f|$1|v|"),
            ("HSCAN h 0", "*2|$1|0|*2|$1|f|$1|v|"),
        ];
        for (line, reply) in cases {
            assert_eq!(bench.ask(line), reply, "{line}");
        }
    }
}

#[test]
fn draws_are_distinct_and_spread() {
    for count in [20, 1000] {
        let mut bench = bench();
        fill(&mut bench, count);
        for wanted in [2, 7, count / 3, count / 2, count - 1, count, count + 5] {
            let drawn = items(&mut bench, &format!("HRANDFIELD big {wanted}"));
            let distinct: BTreeSet<&String> = drawn.iter().collect();
            assert_eq!((drawn.len(), distinct.len()), (wanted.min(count), wanted.min(count)));
        }
        let drawn: BTreeSet<String> =
            items(&mut bench, &format!("HRANDFIELD big -{}", count * 20)).into_iter().collect();
        assert_eq!(drawn.len(), count, "some field never came");
        // Each field has the same chance to be among those that one walk takes.
        let mut hits = vec![0u32; count];
        for _ in 0..400 {
            for name in items(&mut bench, &format!("HRANDFIELD big {}", count / 2)) {
                hits[name["field:".len()..].parse::<usize>().expect("a number")] += 1;
            }
        }
        assert!(hits.iter().all(|hits| (120..280).contains(hits)), "{hits:?}");
    }
}

#[test]
fn a_scan_sees_each_field_once() {
    let mut bench = bench();
    fill(&mut bench, 3000);
    for options in ["", " COUNT 1", " COUNT 333", " MATCH field:*7 COUNT 50"] {
        let (mut seen, mut cursor) = (Vec::new(), "0".to_owned());
        for pages in 0.. {
            assert!(pages <= 3000, "the scan does not end");
            let page = items(&mut bench, &format!("HSCAN big {cursor}{options}"));
            cursor.clone_from(&page[0]);
            assert!(page[1..].iter().skip(1).step_by(2).all(|value| value == "value"));
            seen.extend(page[1..].iter().step_by(2).cloned());
            if cursor == "0" {
                break;
            }
        }
        let distinct: BTreeSet<&String> = seen.iter().collect();
        let expected = if options.contains("MATCH") { 300 } else { 3000 };
        assert_eq!((seen.len(), distinct.len()), (expected, expected), "{options}");
    }
}

#[test]
fn long_answers_are_written_elsewhere() {
    let mut bench = bench();
    fill(&mut bench, INLINE_ELEMENTS_MAX + 1);
    let lines = [
        ("HGETALL big", 2 * (INLINE_ELEMENTS_MAX + 1)),
        ("HKEYS big", INLINE_ELEMENTS_MAX + 1),
        ("HVALS big", INLINE_ELEMENTS_MAX + 1),
        ("HSCAN big 0 COUNT 1000000", 2 * (INLINE_ELEMENTS_MAX + 1) + 1),
        ("HRANDFIELD big 1000000", INLINE_ELEMENTS_MAX + 1),
        ("HRANDFIELD big -100001", INLINE_ELEMENTS_MAX + 1),
    ];
    for (done, (line, count)) in lines.into_iter().enumerate() {
        assert_eq!(items(&mut bench, line).len(), count, "{line}");
        assert_eq!(bench.jobs(), done + 1, "{line}");
    }
    bench.ask("HLEN big");
    bench.ask("HRANDFIELD big 10");
    assert_eq!(bench.jobs(), lines.len());
}

#[test]
fn digests_do_not_depend_on_the_encoding() {
    let mut bench = bench();
    bench.ask("HSET packed a 1 b two c 3");
    bench.ask("CONFIG SET hash-max-listpack-entries 0");
    bench.ask("HSET table c 3 a 1 b two");
    bench.ask("HSET swapped a two b 1 c 3");
    let digest = |key: &str| {
        let keyspace = &bench.engine.keyspace;
        let entry = keyspace.db(0).get(&keyspace.key(key.as_bytes()));
        let mut digest = Digest::default();
        digest.mix_value(entry.expect("the key is there"));
        digest
    };
    assert_eq!(digest("packed"), digest("table"));
    assert_ne!(digest("packed"), digest("swapped"));
}

#[test]
fn an_endless_draw_ends_in_an_error() {
    let mut bench = bench();
    let name = "n".repeat(1 << 20);
    bench.ask(&format!("HSET h {name} v"));
    for line in ["HRANDFIELD h -9223372036854775807", "HRANDFIELD h -600 WITHVALUES"] {
        assert_eq!(bench.ask(line), "-ERR value is out of range|");
    }
    assert!(bench.ask("HRANDFIELD h -2").starts_with("*2|"));
    assert!(bench.jobs() == 2, "long because of their bytes, the second one");
    let info = bench.ask("INFO commandstats errorstats");
    assert!(info.contains("cmdstat_hrandfield:calls=3,") && info.contains("failed_calls=2|"));
    assert!(info.contains("errorstat_ERR:count=2|"));
}

#[test]
fn names_alone_can_be_scanned() {
    let mut bench = bench();
    bench.ask("HSET h a 1");
    assert_eq!(bench.ask("HSCAN h 0 NOVALUES"), "*2|$1|0|*1|$1|a|");
    assert_eq!(bench.ask("HSCAN h 0 MATCH b NOVALUES COUNT 5"), "*2|$1|0|*0|");
    bench.ask("SADD s a");
    let only = "-ERR NOVALUES option can only be used in HSCAN|";
    assert_eq!(bench.ask("SSCAN s 0 NOVALUES"), only);
    assert_eq!(bench.ask("SCAN 0 NOVALUES"), only);
}
