//! The states of the handshake, a test a row of the table of states; and what holds in each.

use super::{ALL, At, Bench, set_primary};
use crate::repl::ids::History;
use crate::repl::link::{Auth, Closed, Event, Link, LinkEvent, Primary, Purpose};
use crate::structs::prng::Prng;

const BEFORE: &str = "- Before turning into a replica, using my own master parameters to \
     synthesize a cached master: I may be able to synchronize with the new master with just a \
     partial transfer.";

#[test]
fn a_primary_is_dialled_at_once() {
    let mut bench = Bench::new();
    let expected =
        [BEFORE, "- Connecting to MASTER h:1", "- MASTER <-> REPLICA sync started", "dial 1 h:1"];
    assert_eq!(bench.tell(set_primary("h", 1)), expected);
    assert_eq!(bench.tell(set_primary("h", 1)), [""; 0], "it is followed already");
}

/// The histories of two shards have nothing in common, whatever state it was in.
#[test]
fn who_joins_another_shard_offers_nothing_of_its_own() {
    for at in ALL {
        let mut bench = Bench::at(at);
        bench.tell(Event::SetPrimary { host: "i", port: 2, purpose: Purpose::Copy });
        assert_eq!(bench.link.applied_offset(), None, "{at:?}");
        bench.hear(LinkEvent::Connected);
        ["+PONG", "+OK"].into_iter().for_each(|line| _ = bench.line(line));
        let asked = bench.line("+OK");
        assert_eq!(asked.last().map(String::as_str), Some("send PSYNC ? -1"), "{at:?}");
    }
}

#[test]
fn a_configured_primary_is_dialled_at_the_first_tick() {
    let primary = Primary { host: "h".to_owned(), port: 1 };
    let history = History::new(super::id(b'a'), 100);
    let cases = [
        (None, "send PSYNC ? -1".to_owned()),
        (Some(7), format!("send PSYNC {} 101", super::name('a'))),
    ];
    for (db, asked) in cases {
        let mut bench = Bench::new();
        bench.link = Link::configured(history, primary.clone(), db);
        assert_eq!(bench.link.word(), "connect");
        let dialled = bench.tell(Event::Tick);
        assert_eq!(dialled[0], "- Connecting to MASTER h:1");
        bench.hear(LinkEvent::Connected);
        bench.line("+PONG");
        bench.line("+OK");
        assert_eq!(*bench.line("+OK").last().expect("it asks"), asked);
    }
}

#[test]
fn a_dial_that_failed_is_repeated_after_a_second() {
    let cases = [
        (LinkEvent::DialFailed("no name"), "# Unable to connect to MASTER: no name"),
        (LinkEvent::ConnectFailed("refused"), "# Error condition on socket for SYNC: refused"),
        (
            LinkEvent::Closed(Closed::ByPeer),
            "# Error condition on socket for SYNC: connection lost",
        ),
    ];
    for (event, line) in cases {
        let mut bench = Bench::at(At::Connecting);
        assert_eq!(bench.hear(event), [line]);
        assert_eq!(bench.link.word(), "connect");
        assert_eq!(bench.pass(999), [""; 0]);
        let expected =
            ["- Connecting to MASTER h:1", "- MASTER <-> REPLICA sync started", "dial 2 h:1"];
        assert_eq!(bench.pass(1), expected);
    }
}

#[test]
fn a_primary_is_pinged_when_it_is_connected() {
    let mut bench = Bench::at(At::Connecting);
    let expected = ["- Non blocking connect for SYNC fired the event.", "send PING"];
    assert_eq!(bench.hear(LinkEvent::Connected), expected);
}

#[test]
fn answers_to_ping() {
    let table = [
        ("+PONG", true),
        ("+anything", true),
        ("-NOAUTH Authentication required.", true),
        ("-NOPERM no", true),
        ("-ERR operation not permitted", true),
        ("-LOADING Redis is loading the dataset in memory", false),
        ("-MASTERDOWN Link with MASTER is down", false),
        ("-MISCONF Redis is configured", false),
        ("-ERR unknown", false),
        ("", false),
        ("HTTP/1.1 400 Bad Request", false),
    ];
    for (line, is_alive) in table {
        let mut bench = Bench::at(At::Ping);
        let done = bench.line(line);
        if is_alive {
            let expected = [
                "- Master replied to PING, replication can continue...",
                "send REPLCONF listening-port 6380 | REPLCONF capa eof capa psync2",
            ];
            assert_eq!(done, expected, "{line}");
        } else {
            let refused = format!("# Error reply to PING from master: '{line}'");
            assert_eq!(done, [refused.as_str(), "close"], "{line}");
            assert_eq!(bench.pass(999), [""; 0], "{line}");
            assert_eq!(bench.pass(1).len(), 3, "{line}");
        }
    }
}

#[test]
fn what_is_configured_is_told() {
    let mut bench = Bench::at(At::Ping);
    bench.settings.announce_ip = Some("10.0.0.1".to_owned());
    let password = b"se\"cret".to_vec();
    bench.settings.auth = Some(Auth { user: None, password: password.clone() });
    let sent = bench.line("+PONG").remove(1);
    let rest = "REPLCONF listening-port 6380 | REPLCONF ip-address 10.0.0.1 | REPLCONF capa eof \
                capa psync2";
    assert_eq!(sent, format!("send AUTH se\\\"cret | {rest}"));

    bench = Bench::at(At::Ping);
    bench.settings.auth = Some(Auth { user: Some(b"me".to_vec()), password });
    let sent = bench.line("+PONG").remove(1);
    assert!(sent.starts_with("send AUTH me se\\\"cret | REPLCONF listening-port"), "{sent}");
}

#[test]
fn of_the_answers_only_that_to_auth_must_be_good() {
    let mut bench = Bench::at(At::Ping);
    bench.settings.announce_ip = Some("10.0.0.1".to_owned());
    bench.settings.auth = Some(Auth { user: None, password: b"x".to_vec() });
    bench.line("+PONG");
    assert_eq!(bench.line("+OK"), [""; 0]);
    let unknown = "- (Non critical) Master does not understand REPLCONF";
    assert_eq!(bench.line("-ERR a"), [format!("{unknown} listening-port: -ERR a")]);
    assert_eq!(bench.line("-ERR b"), [format!("{unknown} ip-address: -ERR b")]);
    let asked = bench.line("-ERR c\x1b[0m");
    assert_eq!(asked[0], format!("{unknown} capa: -ERR c?[0m"));
    assert_eq!(asked[2], format!("send PSYNC {} 101", super::name('a')));

    let mut bench = Bench::at(At::Ping);
    bench.settings.auth = Some(Auth { user: None, password: b"x".to_vec() });
    bench.line("+PONG");
    let refused = ["# Unable to AUTH to MASTER: -WRONGPASS no", "close"];
    assert_eq!(bench.line("-WRONGPASS no"), refused);
    assert_eq!(bench.pass(999), [""; 0]);
}

#[test]
fn a_handshake_that_breaks_is_tried_again_after_a_second() {
    let silence = "# Master did not respond to command during SYNC handshake";
    let later = "# Master did not reply to PSYNC, will try later";
    let write = Closed::WriteFailed("broken pipe");
    let table = [
        (At::Ping, Closed::ByPeer, silence),
        (At::Handshake, Closed::Error("reset"), silence),
        (At::Psync, Closed::ByPeer, later),
        (At::Handshake, write, "# Sending command to master in replication handshake: broken pipe"),
        (At::Psync, write, "# Unable to send PSYNC to master: broken pipe"),
    ];
    for (at, reason, line) in table {
        let mut bench = Bench::at(at);
        assert_eq!(bench.hear(LinkEvent::Closed(reason)), [line], "{at:?}");
        assert_eq!(bench.pass(999), [""; 0], "{at:?}");
        assert_eq!(bench.pass(1).last().expect("it dials"), "dial 2 h:1", "{at:?}");
    }
}

#[test]
fn silence_ends_a_handshake() {
    for at in [At::Connecting, At::Ping, At::Handshake, At::Psync] {
        let mut bench = Bench::at(at);
        assert_eq!(bench.pass(60_000), [""; 0], "{at:?}");
        let expected = [
            "# Timeout connecting to the MASTER...",
            "close",
            "- Reconnecting to MASTER h:1 after failure",
            "- MASTER <-> REPLICA sync started",
            "dial 2 h:1",
        ];
        assert_eq!(bench.pass(1), expected, "{at:?}");
    }
}

#[test]
fn empty_lines_before_the_answer_to_psync_are_signs_of_life() {
    let mut bench = Bench::at(At::Psync);
    for _ in 0..5 {
        assert_eq!(bench.pass(59_000), [""; 0]);
        assert_eq!(bench.line(""), [""; 0]);
        assert_eq!(bench.link.word(), "handshake");
    }
}

#[test]
fn a_line_that_does_not_end_ends_a_handshake() {
    for at in [At::Ping, At::Handshake, At::Psync, At::Header] {
        let mut bench = Bench::at(at);
        bench.hear(LinkEvent::Bytes(1));
        bench.now_ms += 4000;
        bench.hear(LinkEvent::Bytes(1));
        assert_eq!(bench.pass(1000), [""; 0], "{at:?}");
        assert_eq!(bench.pass(1)[1], "close", "{at:?}");
        assert_eq!(bench.link.word(), "connect");

        let mut bench = Bench::at(at);
        let bytes = if at == At::Header { 1024 } else { 256 };
        let refused = format!("# A line of more than {bytes} bytes from MASTER");
        assert_eq!(bench.hear(LinkEvent::LineTooLong), [refused.as_str(), "close"], "{at:?}");
    }
}

#[test]
fn no_two_dials_after_failures_are_closer_than_a_moment() {
    let mut bench = Bench::at(At::Connected);
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    assert_eq!(bench.link.word(), "connect", "it was dialled just now");
    assert_eq!(bench.pass(99), [""; 0]);
    assert_eq!(bench.pass(1)[0], "- Connecting to MASTER h:1");
}

#[test]
fn a_line_that_has_ended_is_not_waited_for() {
    let mut bench = Bench::at(At::Ping);
    bench.hear(LinkEvent::Bytes(7));
    bench.line("+PONG");
    assert_eq!(bench.pass(6000), [""; 0]);

    let mut bench = Bench::at(At::Ping);
    bench.hear(LinkEvent::Bytes(3));
    bench.hear(LinkEvent::Closed(Closed::ByPeer));
    bench.pass(6000);
    bench.hear(LinkEvent::Connected);
    assert_eq!(bench.pass(100), [""; 0], "it was another connection's");
}

/// From each state: what is ended, and that nothing is left of it.
#[test]
fn a_promotion_ends_whatever_is_under_way() {
    for at in ALL {
        let mut bench = Bench::at(at);
        let attempt = bench.link.attempt();
        let before = *bench.link.history();
        let done = bench.tell(Event::NoOne { fresh: super::id(b'b') });
        assert_eq!(bench.link.word(), "none", "{at:?}");
        assert_eq!((bench.link.attempt(), bench.link.primary()), (None, None), "{at:?}");
        if at == At::None {
            assert_eq!(done, [""; 0], "it is one");
            continue;
        }
        let has = |line: &str| done.iter().any(|action| action == line);
        assert_eq!(has("close"), at != At::Connect, "{at:?}");
        assert_eq!(has("abort load"), matches!(at, At::Loading | At::Received), "{at:?}");
        assert!(has("ids renamed") && has("cut replicas"), "{at:?}");
        assert!(has("- Discarding previously cached master state."), "{at:?}");
        let history = bench.link.history();
        assert_eq!((history.id(), history.second_id()), (super::id(b'b'), before.id()), "{at:?}");
        assert_eq!(history.second_offset_end(), before.offset() + 1, "{at:?}");
        assert!(has(&format!(
            "- Setting secondary replication ID to {}, valid up to offset: {}. New replication ID \
             is {}",
            before.id(),
            before.offset() + 1,
            super::name('b'),
        )));
        if let Some(attempt) = attempt {
            let late = LinkEvent::Loaded { db: 0, fresh: super::id(b'x') };
            assert_eq!(bench.tell(Event::Of(attempt, late)), [""; 0], "{at:?}");
        }
        assert_eq!(bench.pass(1_000_000), [""; 0], "{at:?}");
    }
}

#[test]
fn another_primary_ends_whatever_is_under_way() {
    for at in ALL.into_iter().skip(1) {
        let mut bench = Bench::at(at);
        let attempt = bench.link.attempt();
        let done = bench.tell(set_primary("other", 2));
        let has = |line: &str| done.iter().any(|action| action == line);
        assert_eq!(has("close"), at != At::Connect, "{at:?}");
        assert_eq!(has("abort load"), matches!(at, At::Loading | At::Received), "{at:?}");
        assert_eq!(done.last().expect("it dials"), "dial 2 other:2", "{at:?}");
        assert!(!has("cut replicas") && !has("ids renamed"), "{at:?}: not before it answers");
        assert!(!has(BEFORE), "{at:?}");
        if let Some(attempt) = attempt {
            let late = bench.tell(Event::Of(attempt, LinkEvent::Closed(Closed::ByPeer)));
            assert_eq!(late, [""; 0], "{at:?}");
        }
        assert_eq!(bench.link.word(), "connecting", "{at:?}");
    }
}

/// From the seed: bytes that begin as answers do and go on anyhow.
#[test]
fn any_line_has_an_outcome() {
    let beginnings = ["", "+", "-", "$", "$EOF:", "+CONTINUE ", "+FULLRESYNC ", "-ERR "];
    let mut prng = Prng::seeded(13);
    for at in [At::Ping, At::Handshake, At::Psync, At::Header] {
        for round in 0..2000 {
            let mut bench = Bench::at(at);
            let mut line = beginnings[round % beginnings.len()].as_bytes().to_vec();
            line.extend((0..prng.below(60)).map(|_| prng.below(256) as u8));
            let done = bench.hear(LinkEvent::Line(&line));
            let has_ended = done.iter().any(|action| action == "close");
            assert_eq!(has_ended, bench.link.attempt().is_none(), "{}", line.escape_ascii());
        }
    }
}
