//! The live stream: offsets, acknowledgements, and what is left of it when the link is lost.

use super::{At, Bench, id, name, set_primary};
use crate::repl::ids::History;
use crate::repl::link::{Attempt, Closed, Event, LinkEvent};

#[test]
fn a_primary_is_told_each_second_how_far_we_are() {
    let mut bench = Bench::at(At::Connected);
    assert_eq!(bench.pass(999), [""; 0]);
    assert_eq!(bench.pass(1), ["send REPLCONF ACK 500"]);
    assert_eq!(bench.pass(0), [""; 0]);
    bench.hear(LinkEvent::Applied { bytes: 20, db: 3 });
    bench.tell(Event::Synced(Some(510)));
    assert_eq!(bench.pass(1000), ["send REPLCONF ACK 520 FACK 510"]);
    bench.tell(Event::Synced(None));
    assert_eq!(bench.pass(1000), ["send REPLCONF ACK 520"]);
}

#[test]
fn a_primary_that_asks_is_told_at_once() {
    let mut bench = Bench::at(At::Connected);
    assert_eq!(bench.pass(500), [""; 0]);
    bench.hear(LinkEvent::Bytes(37));
    bench.hear(LinkEvent::Applied { bytes: 37, db: 3 });
    assert_eq!(bench.hear(LinkEvent::GetAck), ["send REPLCONF ACK 537"]);
    assert_eq!(bench.pass(999), [""; 0], "the second begins anew");
    assert_eq!(bench.pass(1), ["send REPLCONF ACK 537"]);
}

#[test]
fn what_arrived_and_was_not_applied_is_asked_for_again() {
    let mut bench = Bench::at(At::Connected);
    bench.hear(LinkEvent::Bytes(100));
    bench.hear(LinkEvent::Applied { bytes: 60, db: 9 });
    let offsets = (bench.link.applied_offset(), bench.link.read_offset());
    assert_eq!(offsets, (Some(560), Some(600)));
    bench.now_ms += 1000;
    let expected = [
        "- Connection with master lost.",
        "- Caching the disconnected master state.",
        "- Reconnecting to MASTER h:1",
        "- MASTER <-> REPLICA sync started",
        "dial 2 h:1",
    ];
    assert_eq!(bench.hear(LinkEvent::Closed(Closed::ByPeer)), expected);
    assert_eq!(bench.link.down_ms(), Some(bench.now_ms));
    let offsets = (bench.link.applied_offset(), bench.link.read_offset());
    assert_eq!(offsets, (Some(560), Some(560)));
    bench.hear(LinkEvent::Connected);
    bench.line("+PONG");
    bench.line("+OK");
    let expected = [
        format!("- Trying a partial resynchronization (request {}:561).", name('f')),
        format!("send PSYNC {} 561", name('f')),
    ];
    assert_eq!(bench.line("+OK"), expected);
    assert_eq!(*bench.line("+CONTINUE").last().expect("it goes on"), "stream db=9");
    assert_eq!(bench.link.down_ms(), None);
}

#[test]
fn silence_loses_the_link() {
    let mut bench = Bench::at(At::Connected);
    bench.now_ms += 30_000;
    bench.hear(LinkEvent::Bytes(14));
    assert_eq!(bench.pass(60_000), ["send REPLCONF ACK 500"]);
    let done = bench.pass(1);
    let expected = [
        "# MASTER timeout: no data nor PING received...",
        "close",
        "- Connection with master lost.",
        "- Caching the disconnected master state.",
        "- Reconnecting to MASTER h:1",
    ];
    assert_eq!(done[..5], expected);
}

#[test]
fn a_broken_stream_is_not_continued() {
    for reason in [Closed::Protocol, Closed::Inline] {
        let mut bench = Bench::at(At::Connected);
        bench.now_ms += 1000;
        let done = bench.hear(LinkEvent::Closed(reason));
        let warned = "# WARNING: Receiving inline protocol from master, master stream corruption? \
                      Closing the master connection and discarding the cached master.";
        assert_eq!(done[0] == warned, reason == Closed::Inline);
        assert_eq!(bench.link.applied_offset(), None, "{reason:?}");
        bench.hear(LinkEvent::Connected);
        bench.line("+PONG");
        bench.line("+OK");
        assert_eq!(bench.line("+OK")[1], "send PSYNC ? -1", "{reason:?}");
    }
}

/// A replica that is moved asks its new primary for the same history, and so does a primary that
/// steps down.
#[test]
fn the_history_moves_along() {
    let mut bench = Bench::at(At::Connected);
    let expected = [
        "close",
        "- Connection with master lost.",
        "- Caching the disconnected master state.",
        "- Connecting to MASTER other:2",
        "- MASTER <-> REPLICA sync started",
        "dial 2 other:2",
    ];
    assert_eq!(bench.tell(set_primary("other", 2)), expected);
    assert_eq!(bench.link.applied_offset(), Some(500));

    let mut bench = Bench::new();
    bench.tell(Event::Written(23));
    bench.tell(set_primary("h", 1));
    assert_eq!(bench.link.applied_offset(), Some(123));
    bench.tell(Event::Written(1000));
    assert_eq!(bench.link.applied_offset(), Some(123), "a replica's writes are its own");
    bench.tell(Event::NoOne { fresh: id(b'b') });
    bench.tell(Event::Written(7));
    assert_eq!((bench.link.history().offset(), bench.link.applied_offset()), (130, None));
}

#[test]
fn late_news_of_an_attempt_changes_nothing() {
    let late = Attempt(1);
    let events = [
        LinkEvent::DialFailed("x"),
        LinkEvent::ConnectFailed("x"),
        LinkEvent::Connected,
        LinkEvent::Bytes(1),
        LinkEvent::Line(b"+CONTINUE"),
        LinkEvent::LineTooLong,
        LinkEvent::Closed(Closed::Protocol),
        LinkEvent::Flushed { fresh: id(b'x') },
        LinkEvent::Received,
        LinkEvent::Loaded { db: 0, fresh: id(b'x') },
        LinkEvent::LoadFailed(crate::repl::link::LoadFailure::Corrupt),
        LinkEvent::GetAck,
    ];
    for at in [At::None, At::Connecting, At::Psync, At::Loading, At::Connected] {
        let mut bench = Bench::at(At::Connected);
        bench.tell(Event::NoOne { fresh: id(b'b') });
        bench.lead(at);
        let before = (bench.link.word(), *bench.link.history(), bench.link.io_ms());
        for event in events {
            assert_eq!(bench.tell(Event::Of(late, event)), [""; 0], "{at:?} {event:?}");
        }
        let after = (bench.link.word(), *bench.link.history(), bench.link.io_ms());
        assert_eq!(before, after, "{at:?}");
    }
}

/// It would be applied a second time.
#[test]
fn what_was_applied_of_a_link_that_was_given_up_is_not_continued() {
    let mut bench = Bench::at(At::Connected);
    let late = bench.link.attempt().expect("it is connected");
    bench.now_ms += 1000;
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    let applied = LinkEvent::Applied { bytes: 5, db: 0 };
    let expected = ["- Discarding previously cached master state."];
    assert_eq!(bench.tell(Event::Of(late, applied)), expected);
    assert_eq!(*bench.link.history(), History::new(id(b'f'), 500));

    let mut bench = Bench::at(At::Connected);
    bench.now_ms += 1000;
    let done = bench.tell(Event::Of(Attempt(99), applied));
    assert_eq!(done[0], "close");
    assert_eq!((bench.link.word(), bench.link.applied_offset()), ("connecting", None));
}
