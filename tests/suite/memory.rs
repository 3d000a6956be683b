//! Limits of memory, over sockets and the real allocator.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::server::{RUFOUS, Server};

const MEGABYTE: usize = 1 << 20;

fn start(directives: &[(&str, &str)]) -> Server {
    let owned = directives.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Server::start(RUFOUS, &owned.collect::<Vec<_>>())
}

/// A number that INFO shows.
fn info(client: &mut Client, name: &str) -> usize {
    let text = match client.run("INFO everything") {
        Answer::Bulk(text) => String::from_utf8(text).expect("INFO is text"),
        other => panic!("{other:?}"),
    };
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("the field is there").parse().expect("it is a number")
}

#[test]
fn data_stays_within_the_limit_by_any_policy() {
    let policies = ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"];
    let server = start(&[("maxmemory", "8mb")]);
    let mut client = server.connect();
    let value = "v".repeat(1000);
    for policy in policies {
        client.run(&format!("CONFIG SET maxmemory-policy {policy}"));
        client.run("FLUSHALL");
        client.run("CONFIG RESETSTAT");
        for batch in 0..20 {
            let words = |n: usize| {
                encode(&["SET", &format!("key:{}", batch * 1000 + n), &value, "EX", "10000"])
            };
            let requests: Vec<u8> = (0..1000).flat_map(words).collect();
            client.send(&requests);
            for _ in 0..1000 {
                assert_eq!(client.receive(), Some(Answer::Simple(b"OK".to_vec())), "{policy}");
            }
            let used = info(&mut client, "used_memory");
            assert!(used <= 8 * MEGABYTE * 21 / 20, "{used} by {policy}");
        }
        assert!(info(&mut client, "evicted_keys") > 10_000, "{policy}");
        assert!(info(&mut client, "used_memory") > 6 * MEGABYTE, "no more than necessary goes");
    }
    client.run("CONFIG SET maxmemory-policy noeviction");
    client.run("CONFIG SET maxmemory 1mb");
    let refusal = b"OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(client.run("SET k v"), Answer::Error(refusal.to_vec()));
}

#[test]
fn what_is_declared_or_buffered_makes_no_key_go() {
    let debug = ("enable-debug-command", "yes");
    let server = start(&[("maxmemory", "8mb"), ("maxmemory-policy", "allkeys-lru"), debug]);
    let mut client = server.connect();
    client.run("DEBUG POPULATE 2000 key 1000");
    client.run("PING");
    let keys = client.run("DBSIZE");
    let mut declaring = server.connect();
    declaring.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nx");
    let mut sending = server.connect();
    sending.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000000\r\n");
    sending.send(&vec![b'x'; 16 * MEGABYTE]);
    while info(&mut client, "mem_clients_normal") < 16 * MEGABYTE {
        client.run("SET other v");
    }
    client.run("DEL other");
    assert_eq!(client.run("DBSIZE"), keys);
    assert_eq!(info(&mut client, "evicted_keys"), 0);
}

#[test]
fn the_largest_client_is_closed_when_clients_hold_too_much() {
    let server = start(&[("maxmemory-clients", "4mb")]);
    let mut client = server.connect();
    let mut small = server.connect();
    small.send(b"*2\r\n$4\r\nECHO\r\n$100000\r\nx");
    let mut large = server.connect();
    large.send(b"*2\r\n$4\r\nECHO\r\n$50000000\r\n");
    large.send(&vec![b'x'; 8 * MEGABYTE]);
    assert_eq!(large.receive(), None);
    assert_eq!(info(&mut client, "evicted_clients"), 1);
    assert_eq!(info(&mut client, "connected_clients"), 2);
    assert!(info(&mut client, "mem_clients_normal") < MEGABYTE);
}
