//! The answers to PSYNC, a test a row of the table of answers; and how a failover ends.

use super::{At, Bench, id, name};
use crate::repl::ids::ReplicationId;
use crate::repl::link::{Closed, Event, LinkEvent, Purpose};

const DONE: [&str; 3] = [
    "- Successful partial resynchronization with master.",
    "- MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.",
    "stream db=0",
];

#[test]
fn a_full_sync_is_announced() {
    let mut bench = Bench::at(At::Psync);
    let line = format!("+FULLRESYNC {} 500", name('f'));
    assert_eq!(bench.line(&line), [format!("- Full resync from master: {}:500", name('f'))]);
    assert_eq!(bench.link.word(), "sync");
    assert_eq!(bench.link.applied_offset(), Some(100), "nothing is lost yet");
}

#[test]
fn a_full_sync_of_an_unknown_moment_goes_on() {
    for line in ["+FULLRESYNC", "+FULLRESYNC short 1", "+FULLRESYNC"] {
        let mut bench = Bench::at(At::Psync);
        assert_eq!(bench.line(line), ["# Master replied with wrong +FULLRESYNC syntax."]);
        bench.line("$10");
        bench.hear(LinkEvent::Loaded { db: 2, fresh: id(b'x') });
        assert_eq!(bench.link.word(), "connected");
        assert_eq!((bench.link.history().id(), bench.link.applied_offset()), (id(b'x'), None));
        assert_eq!(bench.pass(2000), [""; 0], "there is no offset to acknowledge");
    }
}

#[test]
fn a_continuation_goes_on_with_the_stream() {
    for line in ["+CONTINUE".to_owned(), format!("+CONTINUE {}", name('a'))] {
        let mut bench = Bench::at(At::Psync);
        assert_eq!(bench.line(&line), DONE, "{line}");
        assert_eq!(bench.link.history().second_id(), ReplicationId::NONE);
        assert_eq!(bench.link.applied_offset(), Some(100));
        assert_eq!(bench.pass(1000), ["send REPLCONF ACK 100"]);
    }
}

#[test]
fn a_continuation_under_a_new_id_is_taken_over() {
    let mut bench = Bench::at(At::Psync);
    let renamed = format!("- Master replication ID changed to {}", name('c'));
    let expected = [DONE[0], &renamed, "ids renamed", "cut replicas", DONE[1], DONE[2]];
    assert_eq!(bench.line(&format!("+CONTINUE {}", name('c'))), expected);
    let history = bench.link.history();
    assert_eq!((history.id(), history.second_id()), (id(b'c'), id(b'a')));
    assert_eq!((history.offset(), history.second_offset_end()), (100, 101));
}

#[test]
fn what_was_not_asked_for_is_not_continued() {
    let mut bench = Bench::at(At::Loading);
    bench.hear(LinkEvent::Flushed { fresh: id(b'x') });
    bench.now_ms += 1000;
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    bench.hear(LinkEvent::Connected);
    bench.line("+PONG");
    bench.line("+OK");
    let expected =
        ["- Partial resynchronization not possible (no cached master)", "send PSYNC ? -1"];
    assert_eq!(bench.line("+OK"), expected);
    let expected = ["# Unexpected reply to PSYNC from master: +CONTINUE", "close"];
    assert_eq!(bench.line("+CONTINUE"), expected);
    assert_eq!(bench.pass(999), [""; 0]);
}

#[test]
fn a_primary_that_cannot_just_now_is_asked_again() {
    for line in ["-NOMASTERLINK Can't SYNC while not connected with my master", "-LOADING busy"] {
        let mut bench = Bench::at(At::Psync);
        let later = "- Master is currently unable to PSYNC but should be in the future:";
        assert_eq!(bench.line(line), [&format!("{later} {line}"), "close"]);
        assert_eq!(bench.link.applied_offset(), Some(100));
        assert_eq!(bench.pass(999), [""; 0]);
        assert_eq!(bench.pass(1).last().expect("it dials"), "dial 2 h:1");
    }
}

#[test]
fn a_primary_that_knows_no_psync_is_asked_for_a_snapshot() {
    let cases = [
        (
            "-ERR unknown command 'PSYNC'",
            "- Master does not support PSYNC or is in error state (reply: -ERR unknown command \
             'PSYNC')",
        ),
        ("-NOPERM no", "# Unexpected reply to PSYNC from master: -NOPERM no"),
        ("+DUALCHANNELSYNC", "# Unexpected reply to PSYNC from master: +DUALCHANNELSYNC"),
    ];
    for (line, logged) in cases {
        let mut bench = Bench::at(At::Psync);
        let expected = [logged, "- Retrying with SYNC...", "send SYNC\\r\\n"];
        assert_eq!(bench.line(line), expected);
        assert_eq!(bench.link.word(), "sync");
        bench.line("$10");
        let loaded = bench.hear(LinkEvent::Loaded { db: 0, fresh: id(b'x') });
        assert!(!loaded.iter().any(|action| action.starts_with("send")), "{loaded:?}");
        assert_eq!(bench.hear(LinkEvent::GetAck), [""; 0]);
        bench.hear(LinkEvent::Applied { bytes: 7, db: 4 });
        assert_eq!((bench.link.history().id(), bench.link.history().offset()), (id(b'x'), 7));
        bench.now_ms += 1000;
        let lost = bench.hear(LinkEvent::Closed(Closed::ByPeer));
        assert_eq!(lost[..2], ["- Connection with master lost.", "- Reconnecting to MASTER h:1"]);
    }
}

/// It may have been the name of PSYNC alone that it did not know.
#[test]
fn a_primary_that_waits_to_hear_of_a_load_hears_of_it_without_an_offset() {
    let mut bench = Bench::at(At::Psync);
    bench.line("-ERR unknown command 'PSYNC'");
    bench.line(&format!("$EOF:{}", "m".repeat(40)));
    let loaded = bench.hear(LinkEvent::Loaded { db: 0, fresh: id(b'x') });
    assert_eq!(loaded.last().expect("it is told"), "send REPLCONF ACK -1");
    assert_eq!(bench.pass(1000), ["send REPLCONF ACK -1"], "it may not have listened yet");
}

fn failing_over() -> Bench {
    let mut bench = Bench::new();
    bench.tell(Event::SetPrimary { host: "h", port: 1, purpose: Purpose::Failover });
    bench.hear(LinkEvent::Connected);
    bench.line("+PONG");
    bench.line("+OK");
    let asked = bench.line("+OK");
    assert_eq!(asked[1], format!("send PSYNC {} 101 FAILOVER", name('a')));
    bench
}

#[test]
fn a_failover_is_done_when_the_target_answers() {
    for line in ["+CONTINUE".to_owned(), format!("+FULLRESYNC {} 1", name('c'))] {
        let mut bench = failing_over();
        assert_eq!(bench.line(""), [""; 0]);
        assert_eq!(bench.line(&line)[0], "failover done", "{line}");
        bench.now_ms += 1000;
        bench.hear(LinkEvent::Closed(Closed::ByPeer));
        bench.hear(LinkEvent::Connected);
        bench.line("+PONG");
        bench.line("+OK");
        let asked = bench.line("+OK");
        assert_eq!(asked[1], format!("send PSYNC {} 101", name('a')), "once is enough");
    }
}

#[test]
fn a_failover_fails_when_the_target_refuses() {
    for line in ["-NOMASTERLINK x", "-LOADING x", "-ERR x", "-NOPERM x", "+OK"] {
        let mut bench = failing_over();
        let done = bench.line(line);
        assert_eq!(done[0], "failover failed: Failover target rejected psync request", "{line}");
        assert_eq!(done.last().expect("it ends"), "close", "{line}");
        assert_eq!(bench.link.word(), "connect", "{line}");
    }
    let mut bench = failing_over();
    let done = bench.hear(LinkEvent::LineTooLong);
    assert_eq!(done[0], "failover failed: Failover target rejected psync request");
    let mut bench = failing_over();
    let done = bench.hear(LinkEvent::Closed(Closed::WriteFailed("x")));
    assert_eq!(done[0], "failover failed: Write error to failover target");
}

#[test]
fn a_failover_whose_target_is_away_goes_on() {
    let mut bench = failing_over();
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    bench.pass(1000);
    bench.hear(LinkEvent::Connected);
    bench.line("+PONG");
    bench.line("+OK");
    assert!(bench.line("+OK")[1].ends_with(" FAILOVER"));
}
