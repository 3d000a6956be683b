//! Full syncs: the header, the load, and how either fails.

use super::{At, Bench, id, name, set_primary};
use crate::repl::ids::{History, ReplicationId};
use crate::repl::link::{Closed, Event, LinkEvent, LoadFailure, LoadFrom, Progress};

#[test]
fn headers_begin_a_load() {
    let mark = "m".repeat(40);
    let (a, f) = (name('a'), name('f'));
    let table = [
        (&f, LoadFrom::Socket, "$1000".to_owned(), "1000".to_owned(), false),
        (&a, LoadFrom::Disk, format!("$EOF:{mark}"), mark.clone(), true),
        (&f, LoadFrom::Socket, format!("$EOF:{mark}\r"), mark.clone(), false),
    ];
    for (of, load_from, line, payload, is_same) in table {
        let mut bench = Bench::at(At::Psync);
        bench.settings.load_from = load_from;
        bench.line(&format!("+FULLRESYNC {of} 500"));
        assert_eq!(bench.line(""), [""; 0]);
        let to = if load_from == LoadFrom::Disk { "to disk" } else { "to parser" };
        let logged = match line.starts_with("$EOF") {
            true => format!("receiving streamed RDB from master with EOF {to}"),
            false => format!("receiving 1000 bytes from master {to}"),
        };
        let expected = [
            format!("- MASTER <-> REPLICA sync: {logged}"),
            format!("load {payload} Some(({of}, 500)) same={is_same}"),
        ];
        assert_eq!(bench.line(&line), expected);
    }
}

#[test]
fn what_is_no_header_ends_the_sync() {
    let bad = "Bad bulk length from MASTER:";
    let foreign = "Bad protocol from MASTER, the first byte is not '$' (we received";
    let sure = "are you sure the host and port are right?";
    let table = [
        ("-ERR no", "# MASTER aborted replication with an error: ERR no".to_owned()),
        ("-", "# MASTER aborted replication with an error: ".to_owned()),
        ("$-1", format!("# {bad} '$-1'")),
        ("$99999999999999999999", format!("# {bad} '$99999999999999999999'")),
        ("$EOF:short", format!("# {bad} '$EOF:short'")),
        ("+OK", format!("# {foreign} '+OK'), {sure}")),
    ];
    for (line, logged) in table {
        let mut bench = Bench::at(At::Header);
        assert_eq!(bench.line(line), [logged.as_str(), "close"], "{line}");
        assert_eq!(bench.link.applied_offset(), Some(100), "{line}: what we have is good");
        assert_eq!(bench.pass(999), [""; 0], "{line}");
        assert_eq!(bench.pass(1).len(), 3, "{line}");
    }
}

#[test]
fn a_loaded_snapshot_is_the_history_from_then_on() {
    for at in [At::Loading, At::Received] {
        let mut bench = Bench::at(at);
        bench.tell(Event::Synced(Some(33)));
        let expected = [
            "- MASTER <-> REPLICA sync: Finished with success",
            "ids replaced",
            "cut replicas",
            "stream db=3",
            "send REPLCONF ACK 500 FACK 33",
        ];
        assert_eq!(bench.hear(LinkEvent::Loaded { db: 3, fresh: id(b'x') }), expected, "{at:?}");
        assert_eq!(*bench.link.history(), History::new(id(b'f'), 500));
        assert_eq!((bench.link.stream_db(), bench.link.down_ms()), (Some(3), None));
    }
}

#[test]
fn progress_is_counted() {
    let mut bench = Bench::at(At::Header);
    assert_eq!(bench.link.progress(), Some(Progress { bytes_total: None, bytes_read: 0 }));
    bench.hear(LinkEvent::Bytes(7));
    bench.line("$1000");
    bench.hear(LinkEvent::Bytes(400));
    bench.hear(LinkEvent::Bytes(5));
    let progress = Progress { bytes_total: Some(1000), bytes_read: 405 };
    assert_eq!(bench.link.progress(), Some(progress));
    bench.hear(LinkEvent::Received);
    assert_eq!(bench.link.progress(), Some(progress));
    assert_eq!(Bench::at(At::Connected).link.progress(), None);
}

#[test]
fn a_primary_hears_of_a_load_once_a_second() {
    for at in [At::Loading, At::Received] {
        let mut bench = Bench::at(at);
        assert_eq!(bench.pass(999), [""; 0], "{at:?}");
        assert_eq!(bench.pass(1), ["send \\n"], "{at:?}");
        assert_eq!(bench.pass(0), [""; 0], "{at:?}");
        assert_eq!(bench.pass(5000), ["send \\n"], "{at:?}");
    }
    let mut bench = Bench::at(At::Loading);
    bench.now_ms += 1000;
    assert_eq!(bench.hear(LinkEvent::Bytes(1)), ["send \\n"], "however seldom it ticks");
    assert_eq!(bench.hear(LinkEvent::Bytes(1)), [""; 0]);
    assert_eq!(Bench::at(At::Header).pass(5000), [""; 0], "nothing is loaded");
}

#[test]
fn silence_ends_a_transfer() {
    for at in [At::Header, At::Loading] {
        let mut bench = Bench::at(at);
        bench.now_ms += 50_000;
        match at {
            At::Header => bench.line(""),
            _ => bench.hear(LinkEvent::Bytes(1)),
        };
        assert!(!bench.pass(60_000).iter().any(|action| action == "close"), "{at:?}");
        let done = bench.pass(1);
        let mut expected = vec![
            "# Timeout receiving bulk data from MASTER... If the problem persists try to set the \
             'repl-timeout' parameter in redis.conf to a larger value.",
            "close",
            "- Reconnecting to MASTER h:1 after failure",
            "- MASTER <-> REPLICA sync started",
            "dial 2 h:1",
        ];
        if at == At::Loading {
            expected.insert(1, "abort load");
        }
        assert_eq!(done, expected, "{at:?}");
    }
}

#[test]
fn a_load_that_has_all_it_needs_may_take_long() {
    let mut bench = Bench::at(At::Received);
    for _ in 0..100 {
        assert_eq!(bench.pass(60_000), ["send \\n"]);
    }
    bench.hear(LinkEvent::Loaded { db: 0, fresh: id(b'x') });
    assert_eq!(bench.pass(999), [""; 0], "the primary's silence counts from here");
    assert_eq!(bench.link.word(), "connected");
}

#[test]
fn a_transfer_that_breaks_is_begun_again_at_once() {
    let table = [
        (At::Header, "# I/O error reading bulk count from MASTER: reset", None),
        (At::Loading, "# I/O error trying to sync with MASTER: reset", Some("abort load")),
    ];
    for (at, logged, abort) in table {
        let mut bench = Bench::at(at);
        bench.now_ms += 100;
        let mut expected = vec![logged];
        expected.extend(abort);
        expected.extend([
            "- Reconnecting to MASTER h:1 after failure",
            "- MASTER <-> REPLICA sync started",
            "dial 2 h:1",
        ]);
        assert_eq!(bench.hear(LinkEvent::Closed(Closed::Error("reset"))), expected, "{at:?}");
        assert_eq!(bench.link.applied_offset(), Some(100), "{at:?}: what we have is good");
    }
}

/// A load of many minutes is not begun again for a link that can be continued.
#[test]
fn a_link_that_is_lost_while_all_is_there_spoils_nothing() {
    let mut bench = Bench::at(At::Received);
    bench.now_ms += 5000;
    assert_eq!(bench.hear(LinkEvent::Closed(Closed::ByPeer)), [""; 0]);
    assert_eq!(bench.pass(100_000), [""; 0], "nobody is there to hear of it");
    let expected = [
        "- MASTER <-> REPLICA sync: Finished with success",
        "ids replaced",
        "cut replicas",
        "- Connection with master lost.",
        "- Caching the disconnected master state.",
        "- Reconnecting to MASTER h:1",
        "- MASTER <-> REPLICA sync started",
        "dial 2 h:1",
    ];
    assert_eq!(bench.hear(LinkEvent::Loaded { db: 3, fresh: id(b'x') }), expected);
    bench.hear(LinkEvent::Connected);
    bench.line("+PONG");
    bench.line("+OK");
    assert_eq!(bench.line("+OK")[1], format!("send PSYNC {} 501", name('f')));
    assert_eq!(*bench.line("+CONTINUE").last().expect("it goes on"), "stream db=3");
}

#[test]
fn failed_loads_keep_what_was_there() {
    let short = "# Failure loading rdb format from socket, assuming connection error, resuming \
                 operation.";
    let corrupt = "# Failed trying to load the MASTER synchronization DB from socket, check server \
                   logs.";
    let table = [
        (LoadFailure::ShortRead, short),
        (LoadFailure::EndMark, "# Replication stream EOF marker is broken"),
        (LoadFailure::Corrupt, corrupt),
        (LoadFailure::Ours("no space"), "# no space"),
    ];
    for (failure, logged) in table {
        for at in [At::Loading, At::Received] {
            let mut bench = Bench::at(at);
            bench.now_ms += 100;
            let done = bench.hear(LinkEvent::LoadFailed(failure));
            assert_eq!(done[..2], [logged, "close"], "{failure:?} {at:?}");
            assert_eq!(done.len() > 2, failure == LoadFailure::ShortRead, "{done:?}");
            assert_eq!(*bench.link.history(), History::new(id(b'a'), 100));
            assert_eq!(bench.link.applied_offset(), Some(100));
        }
    }
}

#[test]
fn broken_snapshots_are_asked_for_ever_more_seldom() {
    let mut bench = Bench::at(At::Loading);
    for wait_ms in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
        bench.hear(LinkEvent::LoadFailed(LoadFailure::Corrupt));
        assert_eq!(bench.pass(wait_ms - 1), [""; 0], "{wait_ms}");
        assert_eq!(bench.pass(1).len(), 3, "{wait_ms}");
        bench.hear(LinkEvent::Connected);
        for line in ["+PONG", "+OK", "+OK", &format!("+FULLRESYNC {} 1", name('f')), "$10"] {
            bench.line(line);
        }
    }
}

#[test]
fn a_snapshot_that_is_loaded_mends_the_wait_and_so_does_another_primary() {
    let fail = |bench: &mut Bench| {
        bench.hear(LinkEvent::Connected);
        for line in ["+PONG", "+OK", "+OK", &format!("+FULLRESYNC {} 1", name('f')), "$10"] {
            bench.line(line);
        }
        bench.hear(LinkEvent::LoadFailed(LoadFailure::Corrupt));
    };
    let mut bench = Bench::at(At::Connecting);
    fail(&mut bench);
    bench.pass(1000);
    fail(&mut bench);
    assert_eq!(bench.pass(1999), [""; 0]);
    bench.tell(set_primary("other", 2));
    fail(&mut bench);
    assert_eq!(bench.pass(1000).len(), 3, "another primary has another snapshot");

    bench = Bench::at(At::Loading);
    bench.hear(LinkEvent::LoadFailed(LoadFailure::Corrupt));
    bench.pass(1000);
    bench.hear(LinkEvent::Connected);
    for line in ["+PONG", "+OK", "+OK", &format!("+FULLRESYNC {} 1", name('f')), "$10"] {
        bench.line(line);
    }
    bench.hear(LinkEvent::Loaded { db: 0, fresh: id(b'x') });
    bench.now_ms += 1000;
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    fail(&mut bench);
    assert_eq!(bench.pass(1000).len(), 3, "this one could be loaded");
}

/// After that nobody may continue from us, and we from nobody.
#[test]
fn an_emptied_dataset_is_no_moment_of_the_history() {
    for at in [At::Loading, At::Received] {
        let mut bench = Bench::at(at);
        let expected =
            ["- Discarding previously cached master state.", "ids replaced", "cut replicas"];
        assert_eq!(bench.hear(LinkEvent::Flushed { fresh: id(b'x') }), expected);
        let history = *bench.link.history();
        assert_eq!((history.id(), history.second_id()), (id(b'x'), ReplicationId::NONE));
        bench.now_ms += 1000;
        bench.hear(LinkEvent::LoadFailed(LoadFailure::ShortRead));
        assert_eq!(bench.link.applied_offset(), None);
        bench.tell(Event::NoOne { fresh: id(b'y') });
        let asked = bench.link.history().may_continue(name('a').as_bytes(), 101, Some(1));
        assert!(asked.is_err(), "{at:?}");
    }
}
