//! What strange peers do to replication: those that are many, come again and again, or speak as
//! other servers do.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::interop::{is_skipped, is_there};
use crate::replication::{await_link, follow, info, number, start, start_as};
use crate::server::{Server, wait_for};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// What a server sends to who asks for a snapshot in the way of old, up to its end.
fn take_snapshot(client: &mut Client) -> Vec<u8> {
    client.send(b"SYNC\r\n");
    let (bytes, has_ended) = client.receive_raw(|bytes| snapshot_len(bytes).is_some());
    assert!(!has_ended, "{}", bytes.escape_ascii());
    bytes
}

/// How long the snapshot at the begin of these bytes is, if all of it is there.
fn snapshot_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.iter().position(|byte| *byte == b'$')?;
    let line_len = bytes[header..].windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(&bytes[header + 1..header + line_len]).ok()?;
    let len: usize = digits.parse().expect("it is a length");
    (bytes.len() >= header + line_len + 2 + len).then_some(len)
}

#[test]
fn a_primary_sends_as_many_snapshots_as_are_asked_for() {
    let primary = start(&[]);
    let mut client = primary.connect();
    client.run("SET k v");
    let used_before = number(&mut client, "used_memory");
    for _ in 0..200 {
        assert!(!take_snapshot(&mut primary.connect()).is_empty());
    }
    assert_eq!(client.run("GET k"), Answer::Bulk(b"v".to_vec()));
    wait_for("their memory to be given back", || {
        (number(&mut client, "used_memory") < used_before + (8 << 20)).then_some(())
    });
}

/// What a script makes a primary of, for one replica.
struct Primary {
    listener: TcpListener,
}

impl Primary {
    fn of(replica: &mut Client) -> Primary {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port().to_string();
        assert_eq!(
            replica.call(&["REPLICAOF", "127.0.0.1", &port]).expect("it answers").print(),
            "OK"
        );
        Primary { listener }
    }

    /// The connection of a replica that has been sent a snapshot of nothing.
    fn serve(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().expect("the replica dials");
        let snapshot = [&b"REDIS0011\xff"[..], &[0; 8]].concat();
        let full = format!("+FULLRESYNC {} 10\r\n${}\r\n", "d".repeat(40), snapshot.len());
        let answers =
            [&b"+PONG\r\n"[..], b"+OK\r\n+OK\r\n", &[full.as_bytes(), &snapshot].concat()];
        for answer in answers {
            let count = stream.read(&mut [0; 1024]).expect("it asks");
            assert!(count > 0, "it hangs up");
            stream.write_all(answer).expect("it listens");
        }
        stream
    }
}

/// What concerns the server, its clients or the link could end any of them.
#[test]
fn a_stream_carries_nothing_but_data() {
    let replica = start(&[]);
    let mut client = replica.connect();
    let mut stream = Primary::of(&mut client).serve();
    let foreign = [
        "REPLICAOF NO ONE",
        "SLAVEOF 127.0.0.1 1",
        "PSYNC ? -1",
        "SYNC",
        "FAILOVER ABORT",
        "CLIENT KILL TYPE master SKIPME no",
        "CLIENT PAUSE 100000",
        "CLIENT REPLY OFF",
        "SHUTDOWN NOSAVE",
        "CONFIG SET replica-read-only no",
        "DEBUG RELOAD",
        "MONITOR",
        "SUBSCRIBE c",
        "QUIT",
        "RESET",
        "WAIT 1 0",
    ];
    for (count, line) in foreign.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let value = count.to_string();
        let set = encode(&["SET", "k", &value]);
        let whole = [encode(&["MULTI"]), encode(&words), set, encode(&["EXEC"])].concat();
        stream.write_all(&[encode(&words), whole].concat()).expect("the link is up");
        wait_for(line, || (client.run("GET k").print() == format!("\"{value}\"")).then_some(()));
        assert_eq!(info(&mut client, "master_link_status").as_deref(), Some("up"), "{line}");
        let errors = number(&mut client, "unexpected_error_replies");
        assert_eq!(errors, 2 * (count as i64 + 1), "{line}");
    }
}

/// Follows a primary that does not know PSYNC by that name, and is told what follows.
fn expect_stream_without_offsets(primary: &Server, replica: &Server) {
    let mut writer = primary.connect();
    writer.run("SET k 1");
    follow(replica, primary);
    let mut reader = replica.connect();
    wait_for("the stream", || {
        writer.run("INCR k");
        let written = reader.run("GET k").print();
        (written != "\"1\"" && written != "(nil)").then_some(())
    });
    await_link(replica);
}

#[test]
fn a_primary_without_psync_is_followed() {
    for by in ["yes", "no"] {
        let text = format!(
            "rename-command PSYNC \"\"\nrepl-diskless-sync-delay 0\nrepl-diskless-sync {by}\n\
             rdb-save-version 10"
        );
        expect_stream_without_offsets(&Server::with_file(&text), &start(&[]));
        if !is_skipped() && is_there("redis-server") {
            let real = start_as("redis-server", &[]);
            expect_stream_without_offsets(&Server::with_file(&text), &real);
        }
    }
}

#[test]
fn a_replica_that_sends_no_commands_is_told_nothing() {
    let primary = start(&[]);
    let mut client = primary.connect();
    take_snapshot(&mut client);
    client.send(b"*x\r\n");
    let (told, has_ended) = client.receive_raw(|_| false);
    assert!(has_ended && told.is_empty(), "{}", told.escape_ascii());
}

/// Whoever asks for snapshots and reads none of them has no more than some threads.
#[test]
fn snapshots_that_nobody_reads_keep_others_waiting_and_end_nothing() {
    const AT_ONCE: usize = 8;
    let primary = start(&[("rdbcompression", "no")]);
    let mut client = primary.connect();
    client.run("DEBUG POPULATE 1 k 50000000");
    let ask = || {
        let mut replica = primary.connect();
        replica.run("REPLCONF capa eof");
        replica.send(b"PSYNC ? -1\r\n");
        replica
    };
    let has_begun = |bytes: &[u8]| bytes.contains(&b'+');
    // One after the other: those who ask together share a snapshot.
    let mut served: Vec<Client> = Vec::new();
    for _ in 0..AT_ONCE {
        let mut replica = ask();
        assert!(!replica.receive_raw(has_begun).1);
        served.push(replica);
    }
    let mut others = [ask(), ask()];
    for other in &mut others {
        let (told, _) = other.receive_raw(|bytes| !bytes.is_empty());
        assert!(told.iter().all(|byte| *byte == b'\n'), "it is shown that we live");
    }
    served.pop();
    for other in &mut others {
        assert!(!other.receive_raw(has_begun).1);
    }
    assert_eq!(client.run("DBSIZE").print(), "(integer) 1");
}

/// A snapshot that is whole, and whose end mark never comes.
#[test]
fn what_follows_a_snapshot_is_its_end_mark() {
    let replica = start(&[("logfile", "log")]);
    let mut client = replica.connect();
    client.run("SET mine 1");
    let primary = Primary::of(&mut client);
    let (mut stream, _) = primary.listener.accept().expect("the replica dials");
    let header = format!("+FULLRESYNC {} 10\r\n$EOF:{}\r\n", "d".repeat(40), "m".repeat(40));
    let snapshot = [header.as_bytes(), b"REDIS0011\xff", &[0; 8], &[b'n'; 40]].concat();
    for answer in [&b"+PONG\r\n"[..], b"+OK\r\n+OK\r\n", &snapshot] {
        assert!(stream.read(&mut [0; 1024]).expect("it asks") > 0);
        stream.write_all(answer).expect("it listens");
    }
    wait_for("the end of the link", || {
        let has_ended = stream.write_all(&[b'n'; 1000]).is_err();
        has_ended.then_some(())
    });
    assert!(replica.file("log").contains("Replication stream EOF marker is broken"));
    assert_eq!(client.run("GET mine").print(), "\"1\"");
}
