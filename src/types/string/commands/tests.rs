//! The string commands against an engine in process: replies, what is replayed, and events.

use crate::config::EventClasses;
use crate::engine::testing::{Bench, START_MS, text};
use crate::engine::{Effect, Verdict};
use crate::keyspace::KeyEvent;
use crate::resp::{OwnedRequest, Protocol, ReplyBuf};

fn bench() -> Bench {
    Bench::new().recording(EventClasses::ALL)
}

/// The events since the last call, as `class name key`.
fn told_with_class(bench: &mut Bench) -> Vec<String> {
    let class = |class| match class {
        EventClasses::STRING => '$',
        EventClasses::GENERIC => 'g',
        EventClasses::EXPIRED => 'x',
        _ => '?',
    };
    let told =
        |event: &KeyEvent| format!("{} {} {}", class(event.class), event.name, text(&event.key));
    bench.events().iter().map(told).collect()
}

fn expiry_ms(bench: &Bench, key: &[u8]) -> Option<u64> {
    let keyspace = &bench.engine.keyspace;
    keyspace.db(0).get(&keyspace.key(key))?.expiry_ms()
}

const SYNTAX: &str = "-ERR syntax error|";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range|";
const NOT_FLOAT: &str = "-ERR value is not a valid float|";
const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|";

#[test]
fn set_takes_all_combinations_of_options_that_make_sense() {
    let mut bench = bench();
    bench.expect_all(&[
        ("SET k 1 XX", "$-1|"),
        ("SET k 1 XX GET", "$-1|"),
        ("SET k 1 NX", "+OK|"),
        ("SET k 2 NX", "$-1|"),
        ("SET k 2 NX GET", "$1|1|"),
        ("SET k 2 xx get", "$1|1|"),
        ("SET k 3 XX XX", "+OK|"),
        ("SET new 3 NX GET", "$-1|"),
        ("GET k", "$1|3|"),
        ("SET k 3 NX XX", SYNTAX),
        ("SET k 3 XX NX", SYNTAX),
        ("SET k 3 EX", SYNTAX),
        ("SET k 3 PX", SYNTAX),
        ("SET k 3 FOO", SYNTAX),
        ("SET k 3 ''", SYNTAX),
        ("SET k 3 PERSIST", SYNTAX),
        ("SET k 3 EX 10 KEEPTTL", SYNTAX),
        ("SET k 3 KEEPTTL EX 10", SYNTAX),
        ("SET k 3 EX 10 PX 10", SYNTAX),
        ("SET k 3 PXAT 10 EXAT 10", SYNTAX),
        ("SET k 3 KEEPTTL KEEPTTL", "+OK|"),
        ("SET k 3 EX 10 EX 20", "+OK|"),
        // Options are judged before numbers, numbers before the key.
        ("SET k 3 EX x FOO", SYNTAX),
        ("SET k 3 EX x EX 5", "+OK|"),
        ("SET k 3 EX 5 EX x", NOT_INTEGER),
        ("SET k 3 EX 0 NX", "-ERR invalid expire time in 'set' command|"),
        ("SET k 3 GET EX NX", NOT_INTEGER),
        ("SET", "-ERR wrong number of arguments for 'set' command|"),
        ("SET k", "-ERR wrong number of arguments for 'set' command|"),
    ]);
}

/// Integers at the edges of what some width holds.
const EDGES: [i64; 14] = [
    0,
    1,
    -1,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    i32::MIN as i64 - 1,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    -(u32::MAX as i64),
    i64::MAX / 1000,
    i64::MAX / 1000 + 1,
    i64::MAX,
    i64::MIN,
];

#[test]
fn expiry_times_at_the_edges_are_taken_or_refused() {
    for given in EDGES {
        for (option, scale, relative) in
            [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)]
        {
            let mut bench = bench();
            let start = if relative { START_MS as i128 } else { 0 };
            let at_ms = i128::from(given) * scale + start;
            let fits = given > 0 && at_ms <= i128::from(i64::MAX);
            let refused = |name| format!("-ERR invalid expire time in '{name}' command|");
            let reply = bench.ask(&format!("SET k v {option} {given}"));
            let stored = expiry_ms(&bench, b"k");
            assert_eq!(
                reply,
                if fits { "+OK|".into() } else { refused("set") },
                "{option} {given}"
            );
            // A time in the past is stored too; the next reader finds the key gone.
            assert_eq!(stored.is_some(), fits, "{option} {given}");
            if let Some(stored) = stored {
                assert_eq!(i128::from(stored), at_ms);
            }
            bench.ask("SET k v");
            let reply = bench.ask(&format!("GETEX k {option} {given}"));
            assert_eq!(reply, if fits { "$1|v|".into() } else { refused("getex") });
            let is_past = fits && at_ms <= START_MS as i128;
            assert_eq!(bench.ask("GET k"), if is_past { "$-1|" } else { "$1|v|" });
            if relative {
                let name = if option == "EX" { "setex" } else { "psetex" };
                let reply = bench.ask(&format!("{name} k {given} v"));
                assert_eq!(reply, if fits { "+OK|".into() } else { refused(name) });
            }
        }
    }
}

#[test]
fn set_is_replayed_with_absolute_times_and_without_get() {
    let mut bench = bench();
    let at = START_MS + 10_000;
    let long = format!("SET k v PXAT {at}");
    let cases: [(&str, &[&str]); 16] = [
        ("SET k v", &["SET k v"]),
        ("set k v nx", &[]),
        ("SET k v XX", &["SET k v XX"]),
        ("SET k v GET", &["SET k v"]),
        ("set k get GET xx get", &["set k get xx"]),
        ("SET k v EX 10", &[&long]),
        ("SET k v PX 10000 GET", &[&long]),
        ("SET k v EXAT 1700000010 XX", &[&long]),
        ("SET k v XX PXAT 1700000010000 GET", &["SET k v XX PXAT 1700000010000 GET"]),
        ("SET k v KEEPTTL", &["SET k v KEEPTTL"]),
        ("SETEX k 10 v", &[&long]),
        ("PSETEX k 10000 v", &[&long]),
        ("SETNX k v", &[]),
        ("SETNX n v", &["SETNX n v"]),
        ("GETSET k w", &["SET k w"]),
        ("MSET a 1 b 2", &["MSET a 1 b 2"]),
    ];
    for (line, replayed) in cases {
        bench.ask(line);
        assert_eq!(bench.replayed(), replayed, "{line}");
    }
}

#[test]
fn exchanges_are_replayed_as_their_change() {
    let mut bench = bench();
    let cases: [(&str, &[&str], &[&str]); 13] = [
        ("SET k v", &["SET k v"], &["$ set k"]),
        ("GETEX k", &[], &[]),
        ("GETEX k PERSIST", &[], &[]),
        ("GETEX k EX 10", &["PEXPIREAT k 1700000010000"], &["g expire k"]),
        ("GETEX k PXAT 1700000020000", &["PEXPIREAT k 1700000020000"], &["g expire k"]),
        ("GETEX k PERSIST PERSIST", &["PERSIST k"], &["g persist k"]),
        ("GETEX k EXAT 1700000000", &["DEL k"], &["g del k"]),
        ("GETEX k EX 10", &[], &[]),
        ("GETDEL k", &[], &[]),
        ("SET k v EX 10", &["SET k v PXAT 1700000010000"], &["$ set k", "g expire k"]),
        ("GETDEL k", &["DEL k"], &["g del k"]),
        ("INCRBYFLOAT f 1.50", &["SET f 1.5 KEEPTTL"], &["$ incrbyfloat f"]),
        ("MSETNX f 1 g 2", &[], &[]),
    ];
    for (line, replayed, events) in cases {
        let dirty = bench.dirty();
        bench.ask(line);
        assert_eq!(bench.replayed(), replayed, "{line}");
        assert_eq!(told_with_class(&mut bench), events, "{line}");
        assert_eq!(bench.dirty() - dirty, replayed.len() as u64, "{line}");
    }
}

#[test]
fn edits_tell_their_events_and_count_as_changes() {
    let mut bench = bench();
    let cases: [(&str, &[&str], u64); 14] = [
        ("APPEND k 1", &["$ append k"], 1),
        ("APPEND k ''", &["$ append k"], 1),
        ("SETRANGE k 3 x", &["$ setrange k"], 1),
        ("SETRANGE k 9 ''", &[], 0),
        ("SETRANGE none 9 ''", &[], 0),
        ("INCR i", &["$ incrby i"], 1),
        ("DECRBY i 7", &["$ incrby i"], 1),
        ("INCR k", &[], 0),
        ("INCRBYFLOAT i 0", &["$ incrbyfloat i"], 1),
        ("MSET a 1 a 2", &["$ set a", "$ set a"], 2),
        ("MSETNX a 1 b 2", &[], 0),
        ("MSETNX c 1 d 2", &["$ set c", "$ set d"], 2),
        ("GETSET a 5", &["$ set a"], 1),
        ("SET past v PXAT 1", &["$ set past", "g expire past"], 1),
    ];
    for (line, events, changes) in cases {
        let dirty = bench.dirty();
        bench.ask(line);
        assert_eq!(told_with_class(&mut bench), events, "{line}");
        assert_eq!(bench.dirty() - dirty, changes, "{line}");
    }
    bench.replayed();
    // What was stored already expired goes when somebody looks.
    bench.expect_all(&[("GET past", "$-1|")]);
    assert_eq!(
        (told_with_class(&mut bench), bench.replayed()),
        (vec!["x expired past".into()], vec!["DEL past".into()])
    );
}

#[test]
fn expired_keys_are_gone_before_a_write_and_told_of_first() {
    for (line, reply, replayed) in [
        ("SET k w NX", "+OK|", "SET k w NX"),
        ("SETNX k w", ":1|", "SETNX k w"),
        ("APPEND k w", ":1|", "APPEND k w"),
        ("SETRANGE k 0 w", ":1|", "SETRANGE k 0 w"),
        ("INCR k", ":1|", "INCR k"),
        ("GETSET k w", "$-1|", "SET k w"),
        ("SET k w KEEPTTL", "+OK|", "SET k w KEEPTTL"),
        ("MSETNX k w", ":1|", "MSETNX k w"),
    ] {
        let mut bench = bench();
        bench.ask("SET k v PX 5");
        bench.advance(6);
        bench.forget();
        bench.expect_all(&[(line, reply)]);
        assert_eq!(bench.replayed(), ["MULTI", "DEL k", replayed, "EXEC"], "{line}");
        assert_eq!(told_with_class(&mut bench)[0], "x expired k", "{line}");
        assert_eq!(expiry_ms(&bench, b"k"), None, "{line}");
    }
    for (line, reply) in [
        ("SET k w XX", "$-1|"),
        ("SET k w XX GET", "$-1|"),
        ("GETEX k EX 10", "$-1|"),
        ("GETDEL k", "$-1|"),
        ("GET k", "$-1|"),
        ("MGET k", "*1|$-1|"),
        ("STRLEN k", ":0|"),
        ("GETRANGE k 0 -1", "$0||"),
        ("LCS k k LEN", ":0|"),
        ("SETRANGE k 5 ''", ":0|"),
    ] {
        let mut bench = bench();
        bench.ask("SET k v PX 5");
        bench.advance(6);
        bench.forget();
        bench.expect_all(&[(line, reply)]);
        assert_eq!(bench.replayed(), ["DEL k"], "{line}");
        assert_eq!(told_with_class(&mut bench), ["x expired k"], "{line}");
    }
}

#[test]
fn only_whole_overwrites_drop_the_expiry() {
    let mut bench = bench();
    let at = Some(START_MS + 10_000);
    for (line, after) in [
        ("SET k 2", None),
        ("SET k 2 KEEPTTL", at),
        ("SET k 2 XX", None),
        ("SET k 2 NX", at),
        ("SET k 2 PXAT 1700000020000", Some(START_MS + 20_000)),
        ("GETSET k 2", None),
        ("MSET k 2", None),
        ("APPEND k 2", at),
        ("SETRANGE k 0 2", at),
        ("INCR k", at),
        ("INCRBYFLOAT k 1", at),
        ("GETEX k", at),
        ("GETEX k PERSIST", None),
        ("GETEX k EX 20", Some(START_MS + 20_000)),
    ] {
        bench.ask("SET k 1 EX 10");
        bench.ask(line);
        assert_eq!(expiry_ms(&bench, b"k"), after, "{line}");
    }
}

#[test]
fn integers_count_within_64_bits() {
    let mut bench = bench();
    let overflow = "-ERR increment or decrement would overflow|";
    for old in EDGES {
        for by in EDGES {
            for (verb, sum) in [("INCRBY", old.checked_add(by)), ("DECRBY", old.checked_sub(by))] {
                bench.ask(&format!("SET k {old}"));
                let expected = match sum {
                    _ if verb == "DECRBY" && by == i64::MIN => {
                        "-ERR decrement would overflow|".into()
                    }
                    Some(sum) => format!(":{sum}|"),
                    None => overflow.to_owned(),
                };
                assert_eq!(bench.ask(&format!("{verb} k {by}")), expected, "{verb} {old} {by}");
            }
        }
    }
    for word in ["''", "x", "1.0", "+1", "01", "-0", "9223372036854775808", "1e3"] {
        bench.expect_all(&[(&format!("SET k {word}"), "+OK|"), ("INCR k", NOT_INTEGER)]);
        bench.expect_all(&[(&format!("INCRBY none {word}"), NOT_INTEGER)]);
        bench.expect_all(&[(&format!("DECRBY none {word}"), NOT_INTEGER)]);
    }
    assert_eq!(text(&bench.run(&[b"SET", b"k", b" 1"])), "+OK|");
    bench.expect_all(&[("INCR k", NOT_INTEGER), ("DECR i", ":-1|")]);
}

#[test]
fn floats_add_as_long_doubles() {
    let mut bench = bench();
    bench.expect_all(&[
        ("INCRBYFLOAT f 0.1", "$3|0.1|"),
        ("INCRBYFLOAT f 0.2", "$3|0.3|"),
        ("INCRBYFLOAT f -0.3", "$1|0|"),
        ("INCRBYFLOAT f 3.0e3", "$4|3000|"),
        ("INCRBYFLOAT f x", NOT_FLOAT),
        ("INCRBYFLOAT f nan", NOT_FLOAT),
        ("INCRBYFLOAT f ''", NOT_FLOAT),
        ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity|"),
        ("INCRBYFLOAT none -inf", "-ERR increment would produce NaN or Infinity|"),
        ("GET none", "$-1|"),
        ("SET s x", "+OK|"),
        ("INCRBYFLOAT s 1", NOT_FLOAT),
    ]);
    assert_eq!(bench.encoding("f"), "embstr");
}

#[test]
fn labels_tell_how_a_string_came_to_be() {
    let mut bench = bench();
    let long = "x".repeat(45);
    for (line, label) in [
        ("SET k 12".to_owned(), "int"),
        ("APPEND k 3".to_owned(), "raw"),
        ("INCR k".to_owned(), "int"),
        ("SETRANGE k 0 9".to_owned(), "raw"),
        ("GETSET k 5".to_owned(), "int"),
        ("INCRBYFLOAT k 1".to_owned(), "embstr"),
        ("SET k abc KEEPTTL".to_owned(), "embstr"),
        (format!("SETEX k 9 {long}"), "raw"),
        ("MSET k 7".to_owned(), "int"),
        ("PSETEX k 9 7".to_owned(), "int"),
    ] {
        bench.ask(&line);
        assert_eq!(bench.encoding("k"), label, "{line}");
    }
    bench.expect_all(&[("APPEND n 12", ":2|"), ("SETRANGE r 0 12", ":2|")]);
    assert_eq!((bench.encoding("n"), bench.encoding("r")), ("int".into(), "raw".into()));
}

#[test]
fn parts_of_strings_are_read_and_written() {
    let mut bench = bench();
    bench.expect_all(&[
        ("SET k 1234", "+OK|"),
        ("GETRANGE k 1 2", "$2|23|"),
        ("SUBSTR k -2 -1", "$2|34|"),
        ("GETRANGE k 3 1", "$0||"),
        ("GETRANGE none 0 -1", "$0||"),
        ("GETRANGE k x 1", NOT_INTEGER),
        ("GETRANGE k 1 9223372036854775808", NOT_INTEGER),
        ("GETRANGE k -9223372036854775808 9223372036854775807", "$4|1234|"),
        ("SETRANGE k 1 x", ":4|"),
        ("SETRANGE k 6 yz", ":8|"),
        ("GET k", "$8|1x34\0\0yz|"),
        ("SETRANGE k -1 x", "-ERR offset is out of range|"),
        ("SETRANGE k -9223372036854775808 x", "-ERR offset is out of range|"),
        ("SETRANGE k x x", NOT_INTEGER),
        ("SETRANGE k 9223372036854775807 ''", ":8|"),
        ("STRLEN k", ":8|"),
    ]);
    for offset in ["536870912", "4294967296", "9223372036854775807"] {
        let (old, new) = (format!("SETRANGE k {offset} x"), format!("SETRANGE none {offset} x"));
        bench.expect_all(&[(&old, TOO_LONG), (&new, TOO_LONG)]);
    }
    bench.expect_all(&[("STRLEN k", ":8|"), ("STRLEN none", ":0|")]);
}

#[test]
fn growth_stops_at_the_limit_of_the_configuration() {
    let mut bench = bench();
    bench.engine.server.config.proto_max_bulk_len = 10;
    bench.expect_all(&[
        ("SETRANGE k 9 x", ":10|"),
        ("SETRANGE k 10 x", TOO_LONG),
        ("APPEND k x", TOO_LONG),
        ("APPEND k ''", ":10|"),
        ("SETRANGE new 10 x", TOO_LONG),
        ("APPEND new 12345678901", ":11|"),
    ]);
}

#[test]
fn long_values_are_kept_and_answered_whole() {
    let mut bench = bench();
    let long = vec![b'x'; 100_000];
    let bulk = format!("$100000|{}|", "x".repeat(100_000));
    assert_eq!(text(&bench.run(&[b"SET", b"k", &long])), "+OK|");
    assert_eq!(text(&bench.run(&[b"SET", b"k", &long, b"GET"])), bulk);
    assert_eq!(bench.ask("GET k"), bulk);
    assert_eq!(bench.ask("GETRANGE k 0 -1"), bulk);
    assert_eq!(bench.ask("MGET k none"), format!("*2|{bulk}$-1|"));
    assert_eq!(bench.ask("APPEND k y"), ":100001|");
    assert_eq!(bench.ask("GETRANGE k 99999 -1"), "$2|xy|");
}

#[test]
fn several_keys_are_set_all_or_none() {
    let mut bench = bench();
    bench.expect_all(&[
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
        ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command|"),
        ("MSETNX a 1 b 2 a 3", ":1|"),
        ("MSETNX c 1 b 2", ":0|"),
        ("MGET a b c", "*3|$1|3|$1|2|$-1|"),
        ("SETNX a 9", ":0|"),
    ]);
}

#[test]
fn lcs_answers_in_each_form() {
    let mut bench = bench();
    bench.expect_all(&[
        ("MSET a ohmytext b mynewtext", "+OK|"),
        ("LCS a b", "$6|mytext|"),
        ("LCS a b LEN", ":6|"),
        ("LCS a none", "$0||"),
        ("LCS none none LEN", ":0|"),
        ("LCS a b IDX", "*4|$7|matches|*2|*2|*2|:4|:7|*2|:5|:8|*2|*2|:2|:3|*2|:0|:1|$3|len|:6|"),
        (
            "LCS a b IDX WITHMATCHLEN MINMATCHLEN 4",
            "*4|$7|matches|*1|*3|*2|:4|:7|*2|:5|:8|:4|$3|len|:6|",
        ),
        ("LCS a b idx minmatchlen 9223372036854775807", "*4|$7|matches|*0|$3|len|:6|"),
        ("LCS a b LEN MINMATCHLEN -9223372036854775808", ":6|"),
        ("LCS a b MINMATCHLEN", SYNTAX),
        ("LCS a b MINMATCHLEN x FOO", NOT_INTEGER),
        ("LCS a b FOO MINMATCHLEN x", SYNTAX),
        ("LCS a b LEN IDX", "-ERR If you want both the length and indexes, please just use IDX.|"),
    ]);
    bench.engine.clients.get_mut(bench.client).expect("connected").protocol = Protocol::Resp3;
    bench.expect_all(&[("LCS a none IDX", "%2|$7|matches|*0|$3|len|:0|"), ("GET none", "_|")]);
    bench.engine.server.config.proto_max_bulk_len = 4 * 81 - 1;
    bench.expect_all(&[(
        "LCS a b",
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len|",
    )]);
}

#[test]
fn big_alignments_are_made_by_a_job_over_the_strings_of_the_time() {
    let mut bench = bench();
    let (a, b) = (vec![b'x'; 5_000], [vec![b'x'; 4_000], vec![b'y'; 1_000]].concat());
    bench.run(&[b"MSET", b"a", &a, b"b", &b]);
    let mut out = ReplyBuf::new();
    let request = OwnedRequest::from_args(&["LCS", "a", "b", "LEN"]);
    let verdict = bench.engine.run(bench.client, request.as_request(), &mut out);
    assert!(verdict == Verdict::Suspended && out.is_empty());
    let effects = bench.engine.take_effects();
    let [Effect::Run { .. }] = &effects[..] else { panic!("one job was expected") };
    bench.engine.keyspace.take_db(0);
    for effect in effects {
        if let Effect::Run { client, job } = effect {
            assert_eq!(job().expect("LCS answers").to_vec(), b":4000\r\n");
            bench.engine.finish_job(client, Ok(ReplyBuf::new()));
        }
    }
}

#[test]
fn get_changes_how_set_uses_its_key() {
    use crate::command::find_keys;
    let set = super::COMMANDS.iter().find(|command| command.name == "set").expect("SET is listed");
    let flags = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let found = find_keys(set, &OwnedRequest::from_args(&words).as_request());
        let found = found.expect("any request fits");
        let key = found.keys().next().expect("SET has a key");
        assert_eq!((found.len(), key.index), (1, 1));
        key.flags.names().collect::<Vec<_>>()
    };
    assert_eq!(flags("SET get get"), ["OW", "update"]);
    assert_eq!(flags("SET k v EX 9 get"), ["RW", "access", "update"]);
}

#[test]
fn commands_are_sorted() {
    assert!(super::COMMANDS.is_sorted_by(|a, b| a.name < b.name));
}
