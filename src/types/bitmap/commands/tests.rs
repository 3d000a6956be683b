//! The bitmap commands against an engine in process: limits, encodings, and what is told.

use crate::engine::testing::Bench;

/// The reply, and how many changes were counted.
fn reply_and_changes(bench: &mut Bench, line: &str) -> (String, u64) {
    let before = bench.dirty();
    (bench.ask(line), bench.dirty() - before)
}

const OFFSET: &str = "-ERR bit offset is not an integer or out of range|";

#[test]
fn offsets_beyond_the_limit_reserve_nothing() {
    let mut bench = Bench::new();
    let offsets =
        ["-1", "4294967296", "4294967297", "9223372036854775807", "-9223372036854775808", "x", ""];
    for offset in offsets {
        assert_eq!(bench.ask(&format!("SETBIT k {offset} 1")), OFFSET);
        assert_eq!(bench.ask(&format!("GETBIT k {offset}")), OFFSET);
        assert_eq!(bench.ask(&format!("BITFIELD k SET u8 {offset} 1")), OFFSET);
        assert_eq!(bench.ask(&format!("BITFIELD k GET u8 {offset}")), OFFSET);
    }
    for index in ["9223372036854775807", "1152921504606846976", "68719476736", "-1", "#1", ""] {
        assert_eq!(bench.ask(&format!("BITFIELD k INCRBY i64 #{index} 1")), OFFSET);
    }
    // The field begins within the limit and ends beyond it.
    assert_eq!(bench.ask("BITFIELD k SET u8 4294967295 1"), OFFSET);
    assert_eq!(bench.ask("EXISTS k"), ":0|");
    bench.engine.server.config.proto_max_bulk_len = 2;
    assert_eq!(bench.ask("SETBIT k 15 1"), ":0|");
    assert_eq!(bench.ask("SETBIT k 16 1"), OFFSET);
    assert_eq!(bench.ask("STRLEN k"), ":2|");
}

#[test]
fn every_integer_argument_takes_every_integer() {
    let mut bench = Bench::new();
    bench.ask("SET k foobar");
    let edges: [i64; 13] = [
        0,
        1,
        -1,
        (1 << 31) - 1,
        1 << 31,
        -(1 << 31),
        (1 << 32) - 1,
        1 << 32,
        (1 << 32) + 1,
        -(1 << 32),
        1 << 60,
        i64::MAX,
        i64::MIN,
    ];
    for a in edges {
        for b in edges {
            for unit in ["BYTE", "BIT"] {
                assert!(bench.ask(&format!("BITCOUNT k {a} {b} {unit}")).starts_with(':'));
                assert!(bench.ask(&format!("BITPOS k 1 {a} {b} {unit}")).starts_with(':'));
                assert!(bench.ask(&format!("BITPOS k 0 {a} {b} {unit}")).starts_with(':'));
            }
            for way in ["WRAP", "SAT", "FAIL"] {
                let line = format!("BITFIELD f OVERFLOW {way} SET i64 0 {a} INCRBY i64 0 {b}");
                assert!(bench.ask(&line).starts_with("*2|:"));
                let line = format!("BITFIELD f OVERFLOW {way} SET u63 0 {a} INCRBY u63 0 {b}");
                assert!(bench.ask(&line).starts_with("*2|"));
            }
        }
        let reply = bench.ask(&format!("SETBIT k 0 {a}"));
        assert_eq!(reply.starts_with(':'), a == 0 || a == 1);
    }
}

#[test]
fn only_changes_are_counted() {
    let mut bench = Bench::new();
    let cases = [
        ("SETBIT k 7 0", ":0|", 1),
        ("SETBIT k 7 0", ":0|", 0),
        ("SETBIT k 7 1", ":0|", 1),
        ("BITFIELD k SET u8 0 1", "*1|:1|", 0),
        ("BITFIELD k SET u8 0 2 INCRBY u8 0 1", "*2|:1|:3|", 2),
        ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 255", "*1|$-1|", 0),
        ("BITFIELD k GET u8 0", "*1|:3|", 0),
        ("BITFIELD k", "*0|", 0),
        ("BITOP OR to k k", ":1|", 1),
        ("BITOP AND to none", ":0|", 1),
        ("BITOP AND to none", ":0|", 0),
    ];
    for (line, reply, dirty) in cases {
        assert_eq!(reply_and_changes(&mut bench, line), (reply.to_owned(), dirty), "{line}");
    }
}

#[test]
fn strings_of_all_encodings_are_edited() {
    let mut bench = Bench::new();
    let long = "x".repeat(5000);
    for value in ["12345", "short", &long] {
        bench.ask(&format!("SET k {value}"));
        assert_eq!(bench.ask("BITPOS k 1"), if value == "12345" { ":2|" } else { ":1|" });
        assert_eq!(bench.ask("SETBIT k 0 1"), ":0|");
        assert_eq!(bench.ask("OBJECT ENCODING k"), "$3|raw|");
        assert_eq!(bench.ask("BITPOS k 1"), ":0|");
        assert_eq!(bench.ask("SETBIT k 0 0"), ":1|");
        assert_eq!(bench.ask("GET k"), format!("${}|{value}|", value.len()));
    }
    // A snapshot keeps its bits.
    let snapshot = bench.engine.keyspace.db(0).snapshot(0);
    bench.ask("SETBIT k 0 1");
    let kept = snapshot.entries.iter().next().expect("the key is there");
    assert_eq!(kept.string(), Some(long.as_bytes()));
}
