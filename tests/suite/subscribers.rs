//! Clients that listen and do not read, or listen to very much, or are gone.

use crate::answer::{Answer, encode};
use crate::local::Local;
use crate::server::{RUFOUS, Server};

fn stat(text: &Answer, name: &str) -> u64 {
    let (Answer::Bulk(text) | Answer::Verbatim(text)) = text else { panic!("{text:?}") };
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Nothing of what it would not read stays, and the log says why it is gone.
#[test]
fn a_listener_that_does_not_read_is_closed_by_its_limit() {
    let limit = "pubsub 4mb 0 0".to_owned();
    let directives = [
        ("client-output-buffer-limit".to_owned(), limit),
        ("logfile".to_owned(), "log".to_owned()),
    ];
    let server = Server::start(RUFOUS, &directives);
    let mut listener = server.connect();
    listener.run("SUBSCRIBE c");
    let mut publisher = server.connect();
    let message = "x".repeat(100_000);
    let before = stat(&publisher.run("INFO memory"), "used_memory");
    let mut sent = 0;
    while publisher.call(&["PUBLISH", "c", &message]) == Some(Answer::Integer(1)) {
        sent += 1;
        assert!(sent < 2000, "it is never closed");
    }
    let stats = publisher.run("INFO stats");
    assert_eq!(stat(&stats, "client_output_buffer_limit_disconnections"), 1);
    assert_eq!(stat(&stats, "pubsub_channels"), 0);
    let after = stat(&publisher.run("INFO memory"), "used_memory");
    assert!(after < before + 2_000_000, "{before} before, {after} after");
    let log = server.file("log");
    let told = "scheduled to be closed ASAP for overcoming of output buffer limits.";
    assert!(log.lines().any(|l| l.contains("Client id=") && l.contains(told)), "{log}");
}

/// Very many subscriptions of one client, and their end: nothing is left of them.
#[test]
fn very_many_subscriptions_come_and_go() {
    let mut local = Local::start(&[]);
    let listener = local.connect();
    for chunk in 0..20 {
        let mut words = vec!["SUBSCRIBE".to_owned()];
        words.extend((0..10_000).map(|i| format!("channel:{chunk}:{i}")));
        local.send(listener, &encode(&words));
        local.receive_raw(listener);
    }
    let other = local.connect();
    assert_eq!(local.call(other, &["PUBLISH", "channel:7:77", "x"]), Some(Answer::Integer(1)));
    assert_eq!(local.engine.server.pubsub.counts().channels, 200_000);
    local.send(listener, &encode(&["UNSUBSCRIBE"]));
    local.receive_raw(listener);
    assert!(local.engine.server.pubsub.is_empty());
    local.send(listener, &encode(&["PSUBSCRIBE", "a", "b"]));
    local.engine.disconnect(listener);
    assert!(local.engine.server.pubsub.is_empty());
}

/// Long messages are shared by their receivers, and are whole at each.
#[test]
fn long_messages_arrive_whole() {
    let server = Server::rufous();
    let message = "m".repeat(300_000);
    let mut listeners: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for listener in &mut listeners {
        listener.run("SUBSCRIBE c");
    }
    let mut publisher = server.connect();
    for _ in 0..3 {
        assert_eq!(publisher.call(&["PUBLISH", "c", &message]), Some(Answer::Integer(5)));
    }
    for listener in &mut listeners {
        for _ in 0..3 {
            let bulk = |text: &str| Answer::Bulk(text.as_bytes().to_vec());
            let expected = vec![bulk("message"), bulk("c"), bulk(&message)];
            assert_eq!(listener.receive(), Some(Answer::Array(expected)));
        }
    }
}
