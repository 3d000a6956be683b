//! Limits of memory, over sockets and the real allocator.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::server::{RUFOUS, Server};
use std::io::Write;
use std::net::TcpStream;

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

/// Bytes of address space that the process has.
fn address_space(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmSize:")).expect("Linux says so");
    let kilobytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kilobytes.expect("a number") * 1024
}

/// The system refuses memory: whoever asked for it is told, and the server goes on.
#[test]
fn memory_that_the_system_refuses_is_an_error() {
    let mut server = Server::rufous();
    let mut client = server.connect();
    let element = vec![b'e'; 60_000];
    let long = vec![b'v'; 24 * MEGABYTE];
    for request in [
        &[&b"SADD"[..], b"set", &element][..],
        &[b"HSET", b"hash", b"f", &element],
        &[b"SET", b"string", &long],
    ] {
        client.send(&encode(request));
        assert!(!matches!(client.receive(), Some(Answer::Error(_)) | None));
    }
    leave(&server, 96 * MEGABYTE);
    for line in [
        "SETRANGE new 500000000 x",
        "SETRANGE string 500000000 x",
        "SETBIT new 4294967295 1",
        "SETBIT string 4294967295 1",
        "BITFIELD new SET u8 #500000000 1",
        "BITFIELD string SET u8 #500000000 1",
        "SRANDMEMBER set -4000",
        "HRANDFIELD hash -4000 WITHVALUES",
        "SRANDMEMBER set -100000",
        "MULTI",
        "SRANDMEMBER set -4000",
        "EXEC",
    ] {
        let answer = client.run(line);
        let told = Answer::Error(b"OOM the system has no memory for the command.".to_vec());
        let is_told = match &answer {
            Answer::Simple(_) => ["MULTI", "SRANDMEMBER set -4000"].contains(&line),
            Answer::Array(answers) => answers.contains(&told),
            other => *other == told,
        };
        assert!(is_told, "{line}: {answer:?}");
        assert_eq!(server.connect().run("PING"), Answer::Simple(b"PONG".to_vec()), "{line}");
    }
    // An argument for which there is no memory ends its own connection, and no other's.
    let mut sender = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    sender.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n").expect("it reads");
    let chunk = vec![b'x'; MEGABYTE];
    let sent = (0..400).take_while(|_| sender.write_all(&chunk).is_ok()).count();
    assert!(sent < 400, "the connection ends where the memory does");
    assert_eq!(server.connect().run("PING"), Answer::Simple(b"PONG".to_vec()));
    assert!(server.is_running());
}

/// Leaves a server so many bytes of address space more than it has.
fn leave(server: &Server, bytes: usize) {
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed());
    let limit = Some(address_space(server.pid()) + bytes as u64);
    let limit = rustix::process::Rlimit { current: limit, maximum: limit };
    rustix::process::prlimit(pid, rustix::process::Resource::As, limit).expect("it is our child");
}

/// What commands copy of the data is refused as well when there is no memory for it, and what no
/// command has asked for comes out of the reserve.
#[test]
fn memory_for_copies_of_the_data_is_asked_for_or_reserved() {
    const MEMBERS: usize = 80;
    // What a server has made a payload with it keeps for the next one, so another makes it.
    let mut server = Server::rufous();
    let other = Server::rufous();
    let (mut client, mut dumping) = (server.connect(), other.connect());
    for n in 0..MEMBERS {
        let (name, member) = (format!("weight-{n}"), vec![b'!' + n as u8; MEGABYTE]);
        for request in [
            &[&b"SADD"[..], b"set", &member][..],
            &[b"ZADD", b"zset", b"1", &member],
            &[b"SET", name.as_bytes(), &member],
            &[b"SET", &member, b"v"],
            &[b"RPUSH", b"list", n.to_string().as_bytes()],
        ] {
            client.send(&encode(request));
            assert!(!matches!(client.receive(), Some(Answer::Error(_)) | None));
        }
        dumping.send(&encode(&[&b"ZADD"[..], b"zset", b"1", &member]));
        assert_eq!(dumping.receive(), Some(Answer::Integer(1)));
    }
    let Answer::Bulk(payload) = dumping.run("DUMP zset") else { panic!("there is a payload") };
    leave(&server, 4 * MEGABYTE);
    let told = Answer::Error(b"OOM the system has no memory for the command.".to_vec());
    for request in [
        &[&b"SUNIONSTORE"[..], b"new", b"set"][..],
        &[b"SDIFFSTORE", b"new", b"set"],
        &[b"ZUNIONSTORE", b"new", b"1", b"zset"],
        &[b"ZRANGESTORE", b"new", b"zset", b"0", b"-1"],
        &[b"SORT", b"list", b"BY", b"weight-*", b"ALPHA"],
        &[b"SORT", b"list", b"GET", b"weight-*", b"STORE", b"new"],
        &[b"RESTORE", b"new", b"0", &payload],
        &[b"SCAN", b"0", b"COUNT", b"1000"],
    ] {
        client.send(&encode(request));
        assert_eq!(client.receive().as_ref(), Some(&told), "{}", request[0].escape_ascii());
        assert_eq!(server.connect().run("PING"), Answer::Simple(b"PONG".to_vec()));
    }
    assert_eq!(client.run("EXISTS new"), Answer::Integer(0));
    assert!(server.is_running());
}
