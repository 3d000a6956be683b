//! The stream commands against an engine in process: what is replayed, which events are told, and
//! that a replayed stream comes to the same state.

use crate::config::{Config, EventClasses};
use crate::engine::testing::{Bench, START_MS, text};
use crate::structs::prng::Prng;

fn bench() -> Bench {
    let config = Config { stream_node_max_entries: 4, ..Config::default() };
    Bench::with(config).recording(EventClasses::ALL)
}

/// Runs a line and returns what is replayed for it.
fn replayed_for(bench: &mut Bench, line: &str) -> Vec<String> {
    bench.replayed();
    let reply = bench.ask(line);
    assert!(!reply.starts_with('-'), "{line}: {reply}");
    bench.replayed()
}

#[test]
fn what_is_replayed_does_not_depend_on_time_or_nodes() {
    let mut bench = bench();
    let id = |seq: u64| format!("{START_MS}-{seq}");
    assert_eq!(replayed_for(&mut bench, "XADD s * f v"), [format!("XADD s {} f v", id(0))]);
    assert_eq!(
        replayed_for(&mut bench, &format!("XADD s NOMKSTREAM {START_MS}-* f v")),
        [format!("XADD s NOMKSTREAM {} f v", id(1))]
    );
    assert_eq!(
        replayed_for(&mut bench, "XADD s MAXLEN ~ 1 LIMIT 8 * f v"),
        [format!("XADD s MAXLEN = 3 {} f v", id(2))]
    );
    assert_eq!(
        replayed_for(&mut bench, &format!("XADD s MAXLEN 9 {} f v", id(3))),
        [format!("XADD s MAXLEN 9 {} f v", id(3))]
    );
    for _ in 0..4 {
        bench.ask("XADD s * f v");
    }
    assert_eq!(replayed_for(&mut bench, "XTRIM s MAXLEN ~ 1"), ["XTRIM s MAXLEN = 4"]);
    assert_eq!(
        replayed_for(&mut bench, "XADD s MINID ~ 5 * f v"),
        [format!("XADD s MINID = {} {} f v", id(4), id(8))]
    );
    assert_eq!(replayed_for(&mut bench, "XTRIM s MAXLEN ~ 1"), ["XTRIM s MAXLEN = 1"]);
    assert!(replayed_for(&mut bench, "XTRIM s MAXLEN ~ 1").is_empty());
}

#[test]
fn groups_are_replayed_as_claims() {
    let whole = |commands: &[String]| {
        let commands = commands.iter().map(String::as_str);
        ["MULTI"].into_iter().chain(commands).chain(["EXEC"]).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut bench = bench();
    for line in ["XADD s 1-0 f v", "XADD s 2-0 f v", "XGROUP CREATE s g 0"] {
        bench.ask(line);
    }
    let claim = |name: &str, id: &str, count: u64, last: &str| {
        format!(
            "XCLAIM s g {name} 0 {id} TIME {START_MS} RETRYCOUNT {count} FORCE JUSTID LASTID {last}"
        )
    };
    let position = |id: &str, read: i64| format!("XGROUP SETID s g {id} ENTRIESREAD {read}");
    assert_eq!(
        replayed_for(&mut bench, "XREADGROUP GROUP g a STREAMS s >"),
        whole(&[claim("a", "1-0", 1, "1-0"), claim("a", "2-0", 1, "2-0"), position("2-0", 2)])
    );
    assert_eq!(
        replayed_for(&mut bench, "XREADGROUP GROUP g b STREAMS s >"),
        ["XGROUP CREATECONSUMER s g b"]
    );
    assert!(replayed_for(&mut bench, "XREADGROUP GROUP g b STREAMS s 0").is_empty());
    assert_eq!(replayed_for(&mut bench, "XCLAIM s g b 0 1-0"), [claim("b", "1-0", 2, "2-0")]);
    assert_eq!(replayed_for(&mut bench, "XCLAIM s g b 0 9-0 LASTID 3-0"), [position("3-0", 2)]);
    assert_eq!(replayed_for(&mut bench, "XCLAIM s g c 0 9-0"), ["XGROUP CREATECONSUMER s g c"]);
    bench.ask("XDEL s 1-0");
    assert_eq!(
        replayed_for(&mut bench, "XAUTOCLAIM s g d 0 -"),
        whole(&[claim("b", "1-0", 2, "3-0"), claim("d", "2-0", 2, "3-0")])
    );
    assert_eq!(replayed_for(&mut bench, "XACK s g 2-0 5-0"), ["XACK s g 2-0 5-0"]);
    assert!(replayed_for(&mut bench, "XACK s g 2-0").is_empty());
    bench.ask("XADD s 4-0 f v");
    assert_eq!(
        replayed_for(&mut bench, "XREADGROUP GROUP g e NOACK STREAMS s >"),
        whole(&["XGROUP CREATECONSUMER s g e".to_owned(), position("4-0", 3)])
    );
    // Inside a transaction all of it is one.
    for line in ["MULTI", "XREADGROUP GROUP g e NOACK STREAMS s >", "SET k v", "XCLAIM s g f 0 2-0"]
    {
        bench.ask(line);
    }
    let replayed = replayed_for(&mut bench, "EXEC");
    assert_eq!(replayed, ["MULTI", "SET k v", "XGROUP CREATECONSUMER s g f", "EXEC"]);
    for line in ["MULTI", "SET k w"] {
        bench.ask(line);
    }
    assert_eq!(replayed_for(&mut bench, "EXEC"), ["SET k w"]);
}

#[test]
fn events_tell_what_happened() {
    let mut bench = bench();
    let lines: [(&str, &[&str]); 13] = [
        ("XADD s 1-0 f v", &["xadd s"]),
        ("XADD s 2-0 f v", &["xadd s"]),
        ("XADD s MAXLEN 2 3-0 f v", &["xadd s", "xtrim s"]),
        ("XTRIM s MAXLEN 2", &[]),
        ("XDEL s 9-0", &[]),
        ("XDEL s 2-0", &["xdel s"]),
        ("XSETID s 5-0", &["xsetid s"]),
        ("XGROUP CREATE s g 0", &["xgroup-create s"]),
        ("XREADGROUP GROUP g c STREAMS s >", &["xgroup-createconsumer s"]),
        ("XGROUP SETID s g 0", &["xgroup-setid s"]),
        ("XGROUP DELCONSUMER s g c", &["xgroup-delconsumer s"]),
        ("XGROUP DESTROY s g", &["xgroup-destroy s"]),
        ("XGROUP CREATE t g 0 MKSTREAM", &["xgroup-create t"]),
    ];
    for (line, events) in lines {
        bench.ask(line);
        assert_eq!(bench.told(), events, "{line}");
    }
}

#[test]
fn long_answers_are_written_by_jobs() {
    const ENTRIES: usize = 100_001;
    let mut bench = bench();
    bench.engine.server.propagation.set_active(crate::engine::propagate::Reader::Aof, false);
    for _ in 0..ENTRIES {
        bench.ask("XADD s * f v");
    }
    bench.ask("XGROUP CREATE s g 0");
    let jobs = [
        ("XRANGE s - +", 1),
        ("XRANGE s - + COUNT 5", 0),
        ("XREVRANGE s + -", 1),
        ("XREAD STREAMS s 0", 1),
        ("XREAD COUNT 5 STREAMS s 0", 0),
        ("XREADGROUP GROUP g c STREAMS s >", 0),
        ("XPENDING s g - + 200000", 1),
        ("XPENDING s g IDLE 1 - + 5 c", 1),
        ("XPENDING s g - + 5", 0),
        ("XINFO STREAM s FULL COUNT 0", 1),
        ("XINFO STREAM s FULL", 0),
        ("XINFO STREAM s", 0),
        ("XTRIM s MAXLEN 1", 0),
        ("XRANGE s - +", 0),
    ];
    for (line, expected) in jobs {
        let before = bench.jobs();
        let reply = bench.ask(line);
        assert_eq!(bench.jobs() - before, expected, "{line}");
        let is_whole = reply.len() > ENTRIES * 20 || expected == 0 || line.contains(" 5 ");
        assert!(is_whole, "{line}: {} bytes", reply.len());
    }
}

/// A stream command over few names, most of them valid.
fn random_line(prng: &mut Prng) -> String {
    let mut pick = |of: &[&str]| of[prng.below(of.len() as u64) as usize].to_owned();
    let consumer = pick(&["a", "b", "c"]);
    let (id, other) = (pick(&["1-1", "3", "5-0", "8", "13-1"]), pick(&["2", "4-1", "6", "9-9"]));
    match pick(&["add", "add", "add", "trim", "del", "read", "read", "claim", "ack", "group"])
        .as_str()
    {
        "add" => pick(&["XADD s * f v", "XADD s MAXLEN ~ 5 * f v", "XADD s ACKED MINID ~ 4 * g v"]),
        "trim" => {
            pick(&["XTRIM s MAXLEN ~ 6", "XTRIM s MAXLEN ~ 7 ACKED", "XTRIM s MINID ~ 3 DELREF"])
        }
        "del" => pick(&["XDEL s ID", "XDELEX s ACKED IDS 1 ID", "XACKDEL s g DELREF IDS 2 ID ID2"])
            .replace("ID2", &other)
            .replace("ID", &id),
        "read" => format!("XREADGROUP GROUP g {consumer} COUNT 2 STREAMS s >"),
        "claim" => match pick(&["id", "auto"]).as_str() {
            "id" => format!("XCLAIM s g {consumer} 0 {id} {other} FORCE"),
            _ => format!("XAUTOCLAIM s g {consumer} 0 - COUNT 3"),
        },
        "ack" => format!("XACK s g {id} {other}"),
        _ => match pick(&["make", "delete", "set"]).as_str() {
            "make" => format!("XGROUP CREATECONSUMER s g {consumer}"),
            "delete" => format!("XGROUP DELCONSUMER s g {consumer}"),
            _ => format!("XGROUP SETID s g {id}"),
        },
    }
}

#[test]
fn who_replays_the_write_stream_comes_to_the_same_state() {
    let mut prng = Prng::seeded(5);
    let [mut source, mut replica] = [bench(), bench()];
    replica.engine.server.propagation.set_active(crate::engine::propagate::Reader::Aof, false);
    for bench in [&mut source, &mut replica] {
        // The identifiers of the lines below are of the clock's first milliseconds.
        bench.offset_ms = -START_MS.cast_signed();
    }
    source.ask("XGROUP CREATE s g 0 MKSTREAM");
    for round in 1..1200u64 {
        for bench in [&mut source, &mut replica] {
            bench.move_to(round / 40);
        }
        source.ask(&random_line(&mut prng));
        for command in source.engine.server.propagation.drain() {
            let words: Vec<&[u8]> = command.words.iter().map(|word| &**word).collect();
            let reply = text(&replica.run(&words));
            assert!(!reply.starts_with('-'), "{reply}");
        }
        if round % 20 == 0 {
            for ask in ["DEBUG DIGEST-VALUE s", "XPENDING s g - + 1000", "XPENDING s g"] {
                assert_eq!(source.ask(ask), replica.ask(ask), "round {round}: {ask}");
            }
        }
    }
}
