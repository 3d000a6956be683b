//! Servers that follow each other, seen from outside: ours among themselves, and with real ones.

use crate::answer::Answer;
use crate::client::Client;
use crate::interop::{is_skipped, is_there};
use crate::server::{RUFOUS, Server, wait_for};
use rufous::structs::prng::Prng;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

pub fn start(directives: &[(&str, &str)]) -> Server {
    start_as(RUFOUS, directives)
}

pub fn start_as(binary: &str, directives: &[(&str, &str)]) -> Server {
    let own = [("repl-diskless-sync-delay", "0"), ("enable-debug-command", "yes")];
    let all = own.iter().chain(directives);
    let all: Vec<_> = all.map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Server::start(binary, &all)
}

pub fn info(client: &mut Client, field: &str) -> Option<String> {
    let Some(Answer::Bulk(text)) = client.call(&["INFO", "everything"]) else { return None };
    let text = String::from_utf8_lossy(&text).into_owned();
    let prefix = format!("{field}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

pub fn number(client: &mut Client, field: &str) -> i64 {
    let text = info(client, field).unwrap_or_else(|| panic!("no {field}"));
    text.parse().unwrap_or_else(|_| panic!("{field}:{text}"))
}

pub fn follow(replica: &Server, primary: &Server) {
    let mut client = replica.connect();
    let port = primary.port.to_string();
    assert_eq!(client.call(&["REPLICAOF", "127.0.0.1", &port]).expect("it answers").print(), "OK");
    await_link(replica);
}

pub fn await_link(replica: &Server) {
    let mut client = replica.connect();
    wait_for("the link", || (info(&mut client, "master_link_status")? == "up").then_some(()));
}

/// Waits until all have carried out as much as the first has written.
fn await_equal_offsets(servers: &[&Server]) {
    let mut clients: Vec<Client> = servers.iter().map(|server| server.connect()).collect();
    wait_for("equal offsets", || {
        let mut offsets = clients.iter_mut().map(|client| number(client, "master_repl_offset"));
        let first = offsets.next()?;
        offsets.all(|offset| offset == first).then_some(())
    });
}

fn digest(server: &Server) -> String {
    server.connect().run("DEBUG DIGEST").print()
}

/// Keys still expire, so it may take a while until all have heard of it.
pub fn expect_equal(servers: &[&Server]) {
    await_equal_offsets(servers);
    wait_for("equal datasets", || {
        let digests: Vec<String> = servers.iter().map(|server| digest(server)).collect();
        digests.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    });
}

/// Writes of all kinds, over databases, transactions and scripts.
fn write_at_random(client: &mut Client, prng: &mut Prng, count: usize) {
    for _ in 0..count {
        let n = prng.below(50);
        let key = format!("k{n}");
        let value = prng.below(1000).to_string();
        let line = match prng.below(16) {
            0 => format!("SELECT {}", prng.below(3)),
            1 => format!("INCR n{n}"),
            2 => format!("RPUSH l{n} {value}"),
            3 => format!("SADD s{n} {value}"),
            4 => format!("HSET h{n} f{value} {value}"),
            5 => format!("ZADD z{n} {value} m{value}"),
            6 => format!("XADD x{n} * f {value}"),
            7 => format!("SPOP s{n}"),
            8 => format!("LPOP l{n}"),
            9 => format!("DEL {key}"),
            10 => format!("SET {key} {value} PX 3"),
            11 => format!("INCRBYFLOAT float{n} 0.1"),
            12 => format!("EXPIRE n{n} 1000"),
            13 => "EVAL return{redis.call('incr','a'),redis.call('incr','b')} 0".to_owned(),
            14 => "MULTI".to_owned(),
            _ => format!("SET {key} {value}"),
        };
        client.run(&line);
        if line == "MULTI" {
            client.run(&format!("APPEND a{n} x"));
            client.run(&format!("SETRANGE a{n} 3 {value}"));
            client.run("EXEC");
        }
    }
}

#[test]
fn a_replica_gets_what_was_there_and_what_follows() {
    let (primary, replica) = (start(&[]), start(&[]));
    let mut prng = Prng::seeded(15);
    let mut writer = primary.connect();
    write_at_random(&mut writer, &mut prng, 2000);
    replica.connect().run("SET old data");
    follow(&replica, &primary);
    write_at_random(&mut writer, &mut prng, 2000);
    expect_equal(&[&primary, &replica]);
    let mut reader = replica.connect();
    assert_eq!(reader.run("EXISTS old").print(), "(integer) 0");
    assert_eq!(info(&mut reader, "role").as_deref(), Some("slave"));
    let error = "(error) READONLY You can't write against a read only replica.";
    assert_eq!(reader.run("SET k v").print(), error);
    assert_eq!(info(&mut writer, "connected_slaves").as_deref(), Some("1"));
    let line = info(&mut writer, "slave0").expect("there is one");
    let start = format!("ip=127.0.0.1,port={},state=online,offset=", replica.port);
    assert!(line.starts_with(&start), "{line}");
}

#[test]
fn replicas_of_replicas_continue_where_links_were_cut() {
    let servers: Vec<Server> = (0..4).map(|_| start(&[])).collect();
    let all: Vec<&Server> = servers.iter().collect();
    for pair in all.windows(2) {
        follow(pair[1], pair[0]);
    }
    let mut prng = Prng::seeded(3);
    let mut writer = servers[0].connect();
    for round in 0..12 {
        write_at_random(&mut writer, &mut prng, 100);
        let victim = &servers[1 + round % 3];
        await_link(victim);
        assert_eq!(victim.connect().run("CLIENT KILL TYPE master").print(), "(integer) 1");
    }
    expect_equal(&all);
    let full: i64 = all.iter().map(|server| number(&mut server.connect(), "sync_full")).sum();
    assert_eq!(full, 3, "each was sent one snapshot, and continued from then on");
}

#[test]
fn a_promoted_replica_is_continued_by_the_others_and_by_the_old_primary() {
    let servers: Vec<Server> = (0..3).map(|_| start(&[])).collect();
    follow(&servers[1], &servers[0]);
    follow(&servers[2], &servers[0]);
    let mut prng = Prng::seeded(8);
    // What it took away later would be a part of its history that nobody else has.
    servers[0].connect().run("DEBUG SET-ACTIVE-EXPIRE 0");
    write_at_random(&mut servers[0].connect(), &mut prng, 200);
    await_equal_offsets(&servers.iter().collect::<Vec<_>>());
    let old_id = info(&mut servers[0].connect(), "master_replid");
    assert_eq!(servers[1].connect().run("REPLICAOF NO ONE").print(), "OK");
    let mut promoted = servers[1].connect();
    assert_eq!(info(&mut promoted, "master_replid2"), old_id);
    write_at_random(&mut promoted, &mut prng, 200);
    follow(&servers[0], &servers[1]);
    follow(&servers[2], &servers[1]);
    write_at_random(&mut promoted, &mut prng, 200);
    expect_equal(&servers.iter().collect::<Vec<_>>());
    assert_eq!(number(&mut promoted, "sync_full"), 0);
    assert_eq!(number(&mut promoted, "sync_partial_ok"), 2);
}

#[test]
fn a_restarted_server_is_continued() {
    let files = "enable-debug-command yes\nrepl-diskless-sync-delay 0\nsave 3600 1";
    let (primary, replica) = (Server::with_file(files), start(&[]));
    follow(&replica, &primary);
    write_at_random(&mut primary.connect(), &mut Prng::seeded(4), 300);
    await_equal_offsets(&[&primary, &replica]);
    let primary = primary.end_and_restart();
    await_link(&replica);
    write_at_random(&mut primary.connect(), &mut Prng::seeded(5), 300);
    expect_equal(&[&primary, &replica]);
    assert_eq!(number(&mut primary.connect(), "sync_full"), 0);
    assert_eq!(number(&mut primary.connect(), "sync_partial_ok"), 1);
}

#[test]
fn a_server_that_restarts_from_its_append_only_file_is_continued() {
    let files = "enable-debug-command yes\nrepl-diskless-sync-delay 0\nsave \"\"\nappendonly yes";
    let (primary, replica) = (Server::with_file(files), Server::with_file(files));
    follow(&replica, &primary);
    write_at_random(&mut primary.connect(), &mut Prng::seeded(6), 300);
    await_equal_offsets(&[&primary, &replica]);
    wait_for("the first base of the replica", || {
        (info(&mut replica.connect(), "aof_rewrite_in_progress")? == "0").then_some(())
    });
    let _ = replica.connect().call(&["CONFIG", "REWRITE"]);
    let replica = replica.end_and_restart();
    await_link(&replica);
    assert_eq!(number(&mut primary.connect(), "sync_full"), 1);
    let primary = primary.end_and_restart();
    await_link(&replica);
    write_at_random(&mut primary.connect(), &mut Prng::seeded(7), 300);
    expect_equal(&[&primary, &replica]);
    assert_eq!(number(&mut primary.connect(), "sync_full"), 0);
}

#[test]
fn an_empty_primary_is_not_copied_by_who_is_to_keep_its_data() {
    let primary = start(&[]);
    let replica = start(&[("replica-keep-data-from-empty-primary", "yes")]);
    let mut client = replica.connect();
    client.run("SET mine 1");
    client.call(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    let mut other = primary.connect();
    wait_for("a refused snapshot", || (number(&mut other, "sync_full") > 0).then_some(()));
    wait_for("another try", || (number(&mut other, "sync_full") > 1).then_some(()));
    assert_eq!(client.run("GET mine").print(), "\"1\"");
    client.run("CONFIG SET replica-keep-data-from-empty-primary no");
    await_link(&replica);
    assert_eq!(client.run("GET mine").print(), "(nil)");
}

#[test]
fn gates_of_replication_answer_in_both_protocols() {
    let (primary, replica) = (start(&[]), start(&[("replica-serve-stale-data", "no")]));
    let mut client = replica.connect();
    // Nobody listens there.
    client.run("REPLICAOF 127.0.0.1 1");
    let down = "(error) MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to \
                'no'.";
    for protocol in ["HELLO 2", "HELLO 3"] {
        client.run(protocol);
        assert_eq!(client.run("GET k").print(), down);
        assert_eq!(client.run("EVAL return(1) 0").print(), down);
        assert_eq!(client.run("PING").print(), down);
        assert!(matches!(client.run("ROLE"), Answer::Array(_)));
    }
    client.run("HELLO 2");
    let stale =
        |line: &str| format!("#!lua flags=allow-stale,no-writes\nreturn redis.call({line})");
    let inner = client.call(&["EVAL", &stale("'get', 'k'"), "0"]).expect("it answers").print();
    assert!(inner.starts_with("(error) ERR Can not execute the command on a stale replica"));
    let inner = client.call(&["EVAL", &stale("'info', 'server'"), "0"]).expect("it answers");
    assert!(inner.print().contains("redis_version"));
    assert_eq!(client.run("FCALL absent 0").print(), "(error) ERR Function not found");
    assert!(client.run("EVALSHA 0 0").print().starts_with("(error) NOSCRIPT"));
    let port = primary.port.to_string();
    client.call(&["REPLICAOF", "127.0.0.1", &port]);
    await_link(&replica);
    let read_only = "(error) READONLY You can't write against a read only replica.";
    for line in ["SET k v", "PFADD k v", "GEORADIUS k 0 0 1 m STORE x"] {
        assert_eq!(client.run(line).print(), read_only, "{line}");
    }
    let in_script = client.run("EVAL return(redis.call('set','k','v')) 0").print();
    let start = "(error) READONLY You can't write against a read only replica. script: ";
    assert!(in_script.starts_with(start), "{in_script}");
    for line in ["PFCOUNT k", "PUBLISH c m", "BITFIELD_RO k GET u8 0"] {
        assert!(!client.run(line).print().starts_with("(error)"), "{line}");
    }
    let mut writer = primary.connect();
    writer.run("CONFIG SET min-replicas-to-write 2 min-replicas-max-lag 10");
    let too_few = "(error) NOREPLICAS Not enough good replicas to write.";
    assert_eq!(writer.run("SET k v").print(), too_few);
    writer.run("CONFIG SET min-replicas-to-write 1");
    wait_for("a good replica", || (writer.run("SET k v").print() == "OK").then_some(()));
}

#[test]
fn clients_wait_for_copies() {
    let (primary, replica) = (start(&[]), start(&[("appendonly", "yes")]));
    follow(&replica, &primary);
    let mut client = primary.connect();
    client.run("SET k v");
    assert_eq!(client.run("WAIT 1 10000").print(), "(integer) 1");
    assert_eq!(client.run("WAIT 2 1").print(), "(integer) 1");
    let durable = "1) (integer) 0\n2) (integer) 1";
    assert_eq!(client.run("WAITAOF 0 1 20000").print().trim_end(), durable);
    client.run("MULTI");
    client.run("WAIT 2 0");
    assert_eq!(client.run("EXEC").print().trim_end(), "1) (integer) 1");
    let refused = replica.connect().run("WAIT 1 0").print();
    assert!(refused.starts_with("(error) ERR WAIT cannot be used with replica"), "{refused}");
}

#[test]
fn a_hand_over_loses_nothing() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut writer = primary.connect();
    let mut acknowledged = 0;
    let mut failover = primary.connect();
    for n in 0.. {
        if n == 200 {
            assert_eq!(failover.run("FAILOVER").print(), "OK");
        }
        match writer.run("INCR counter") {
            Answer::Integer(value) => acknowledged = value,
            Answer::Error(text) => {
                assert!(text.starts_with(b"READONLY"), "{}", String::from_utf8_lossy(&text));
                break;
            }
            other => panic!("{}", other.print()),
        }
        assert!(n < 1_000_000, "the hand-over does not come to an end");
    }
    let mut promoted = replica.connect();
    assert_eq!(promoted.run("GET counter").print(), format!("\"{acknowledged}\""));
    assert_eq!(info(&mut promoted, "role").as_deref(), Some("master"));
    await_link(&primary);
    promoted.run("INCR counter");
    expect_equal(&[&replica, &primary]);
    assert_eq!(number(&mut promoted, "sync_full"), 0, "the old primary continues");
}

#[test]
fn what_expires_is_the_primarys_to_say() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut writer = primary.connect();
    writer.run("DEBUG SET-ACTIVE-EXPIRE 0");
    writer.run("SET k v PX 1");
    await_equal_offsets(&[&primary, &replica]);
    let mut reader = replica.connect();
    wait_for("the key to expire", || (reader.run("GET k").print() == "(nil)").then_some(()));
    assert_eq!(reader.run("DBSIZE").print(), "(integer) 1");
    writer.run("GET k");
    await_equal_offsets(&[&primary, &replica]);
    assert_eq!(reader.run("DBSIZE").print(), "(integer) 0");
}

#[test]
fn keys_of_a_writable_replica_expire_by_its_own_clock() {
    let (primary, replica) = (start(&[]), start(&[("replica-read-only", "no")]));
    follow(&replica, &primary);
    primary.connect().run("SET theirs v PX 1000000");
    await_equal_offsets(&[&primary, &replica]);
    let mut client = replica.connect();
    assert_eq!(number(&mut client, "slave_expires_tracked_keys"), 0);
    client.run("SET own v PX 1000000");
    assert_eq!(number(&mut client, "slave_expires_tracked_keys"), 1);
    client.run("PERSIST own");
    assert_eq!(number(&mut client, "slave_expires_tracked_keys"), 0);
    client.run("SET short v PX 1");
    // Nobody asks for the key: it goes by itself.
    wait_for("the key to go", || (client.run("DBSIZE").print() == "(integer) 2").then_some(()));
    assert_eq!(number(&mut client, "slave_expires_tracked_keys"), 0);
}

/// Begins to follow a primary whose snapshot takes long, and waits until some of it has come.
fn begin_to_follow(replica: &Server, primary: &Server) {
    let mut client = replica.connect();
    client.call(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    wait_for("a part of the snapshot", || {
        let bytes = info(&mut client, "master_sync_read_bytes")?;
        bytes.parse::<i64>().is_ok_and(|bytes| bytes > 0).then_some(())
    });
}

#[test]
fn who_turns_away_from_a_snapshot_keeps_what_it_had() {
    let slow = start(&[("rdb-key-save-delay", "1000")]);
    slow.connect().run("DEBUG POPULATE 100000");
    let (other, replica) = (start(&[]), start(&[]));
    other.connect().run("SET theirs 1");
    let mut client = replica.connect();
    client.run("SET mine 1");
    begin_to_follow(&replica, &slow);
    assert_eq!(client.run("GET mine").print(), "\"1\"");
    assert_eq!(client.run("REPLICAOF NO ONE").print(), "OK");
    assert_eq!(info(&mut client, "role").as_deref(), Some("master"));
    assert_eq!(client.run("DBSIZE").print(), "(integer) 1");
    assert_eq!(client.run("SET mine 2").print(), "OK");
    // The same by following somebody else.
    begin_to_follow(&replica, &slow);
    assert_eq!(client.run("GET mine").print(), "\"2\"");
    follow(&replica, &other);
    expect_equal(&[&other, &replica]);
}

/// Redis answers LOADING to REPLICAOF then, and the replica cannot be used until all has come.
#[test]
fn a_load_that_clients_wait_for_ends_when_it_is_not_wanted() {
    let slow = start(&[("rdb-key-save-delay", "1000")]);
    slow.connect().run("DEBUG POPULATE 100000");
    let replica = start(&[]);
    begin_to_follow(&replica, &slow);
    let mut client = replica.connect();
    wait_for("the load", || (info(&mut client, "loading")? == "1").then_some(()));
    let loading = client.run("GET k").print();
    assert!(loading.starts_with("(error) LOADING "), "{loading}");
    assert_eq!(client.run("REPLICAOF NO ONE").print(), "OK");
    assert_eq!(info(&mut client, "loading").as_deref(), Some("0"));
    assert_eq!(client.run("DBSIZE").print(), "(integer) 0");
    assert_eq!(client.run("SET mine 1").print(), "OK");
    // The delay also holds for a snapshot that is under way.
    begin_to_follow(&replica, &slow);
    slow.connect().run("CONFIG SET rdb-key-save-delay 0");
    expect_equal(&[&slow, &replica]);
}

#[test]
fn messages_reach_those_who_listen_at_a_replica() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut listener = replica.connect();
    listener.run("SUBSCRIBE news");
    primary.connect().run("PUBLISH news hello");
    let message = listener.receive().expect("it is told").print();
    assert_eq!(message.trim_end(), "1) \"message\"\n2) \"news\"\n3) \"hello\"");
}

/// A primary that says what it is told to, to whoever connects.
fn tell_hostile(listener: &TcpListener, answers: &[&[u8]]) {
    let (mut stream, _) = listener.accept().expect("the replica dials");
    for answer in answers {
        let mut asked = [0; 1024];
        if stream.read(&mut asked).is_err() || stream.write_all(answer).is_err() {
            return;
        }
    }
    // What it does with that shows by its ending the connection, or by its waiting.
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(50)));
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn primaries_that_lie_harm_nothing() {
    let replica = start(&[]);
    let mut client = replica.connect();
    client.run("SET mine 1");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    client.call(&["REPLICAOF", "127.0.0.1", &port]);
    let greeting: &[u8] = b"+PONG\r\n";
    let agreed: &[u8] = b"+OK\r\n+OK\r\n";
    let id = "a".repeat(40);
    let full = format!("+FULLRESYNC {id} 10\r\n");
    let after_full = |rest: &[u8]| [full.as_bytes(), rest].concat();
    let endless = vec![b'x'; 100_000];
    let answers: Vec<Vec<u8>> = vec![
        endless.clone(),
        format!("+FULLRESYNC {id} 99999999999999999999\r\n$5\r\nabcde").into_bytes(),
        after_full(b"$-1\r\n"),
        after_full(b"$99999999999999999999\r\n"),
        after_full(b"$9223372036854775807\r\nREDIS0011"),
        after_full(b"$20\r\nREDIS0011xxxxxxxxxxx"),
        after_full(b"$EOF:short\r\n"),
        after_full(
            &[&b"$EOF:"[..], &[b'm'; 40], b"\r\nREDIS0011\xff", &[0; 8], &[b'n'; 40]].concat(),
        ),
        after_full(&endless),
        b"-ERR no\r\n".to_vec(),
        b"$5\r\nhello\r\n".to_vec(),
    ];
    for answer in &answers {
        tell_hostile(&listener, &[greeting, agreed, answer]);
        assert_eq!(client.run("GET mine").print(), "\"1\"", "{}", answer.escape_ascii());
    }
}

#[test]
fn broken_streams_end_the_link_and_are_not_carried_out() {
    let replica = start(&[]);
    let mut client = replica.connect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    client.call(&["REPLICAOF", "127.0.0.1", &port]);
    let id = "b".repeat(40);
    let snapshot = {
        let donor = start(&[]);
        donor.connect().run("SET theirs 1");
        donor.connect().run("SAVE");
        std::fs::read(donor.path("dump.rdb")).expect("it was saved")
    };
    let full = format!("+FULLRESYNC {id} 10\r\n${}\r\n", snapshot.len());
    let synced = [full.as_bytes(), &snapshot].concat();
    let streams: &[&[u8]] = &[
        b"SET theirs 2\r\n",
        b"*1\r\n$-7\r\n",
        b"*3\r\n$3\r\nSET\r\n$6\r\ntheirs\r\n$9223372036854775807\r\nx",
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$6\r\ntheirs\r\n$1\r\n2\r\n",
        b"*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n",
    ];
    for stream in streams {
        // Whoever was broken off may first ask to continue, which is refused.
        let answer = [&synced, *stream].concat();
        tell_hostile(&listener, &[b"+PONG\r\n", b"+OK\r\n+OK\r\n", &answer]);
        wait_for("the snapshot to be loaded", || {
            (client.run("GET theirs").print() == "\"1\"").then_some(())
        });
        wait_for("the stream to be looked at", || {
            let read = info(&mut client, "slave_read_repl_offset")?.parse::<usize>().ok()?;
            let is_down = info(&mut client, "master_link_status")? == "down";
            (is_down || read >= 10 + stream.len()).then_some(())
        });
        assert_eq!(client.run("GET theirs").print(), "\"1\"", "{}", stream.escape_ascii());
    }
}

/// Whoever hands over, or ends, waits for all of the stream, of which the question is the end.
#[test]
fn a_primary_that_asks_is_told_of_all_that_it_has_sent() {
    let replica = start(&[]);
    let mut client = replica.connect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    client.call(&["REPLICAOF", "127.0.0.1", &port]);
    let (mut stream, _) = listener.accept().expect("the replica connects");
    let mut read = vec![0; 1 << 16];
    let mut snapshot = b"REDIS0011\xff".to_vec();
    snapshot.extend([0; 8]);
    let full = format!("+FULLRESYNC {} 10\r\n${}\r\n", "c".repeat(40), snapshot.len());
    for answer in [b"+PONG\r\n", &b"+OK\r\n+OK\r\n"[..], &[full.as_bytes(), &snapshot].concat()] {
        let count = stream.read(&mut read).expect("it asks");
        assert!(count > 0, "it hangs up");
        stream.write_all(answer).expect("it listens");
    }
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let question = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
    stream.write_all(&[&set[..], question].concat()).expect("it listens");
    let end = 10 + set.len() + question.len();
    let expected = format!("$3\r\nACK\r\n$2\r\n{end}\r\n");
    let mut heard = String::new();
    while !heard.contains(&expected) {
        let count = stream.read(&mut read).expect("it answers");
        heard.push_str(&String::from_utf8_lossy(&read[..count]));
        let early = format!("$2\r\n{}\r\n", end - question.len());
        assert!(count > 0 && !heard.contains(&early), "{heard}");
    }
}

#[test]
fn replicas_that_lie_harm_nothing() {
    let primary = start(&[]);
    let requests: &[&[u8]] = &[
        b"PSYNC ? 9223372036854775807\r\n",
        b"PSYNC ? -9223372036854775808\r\n",
        b"PSYNC x x\r\n",
        b"SYNC\r\nSYNC\r\nPSYNC ? -1\r\n",
        b"REPLCONF ACK 9223372036854775807\r\n",
        b"REPLCONF ack\r\n",
        b"REPLCONF listening-port 99999999999 ip-address a=b,c capa x\r\n",
        b"SYNC\r\nREPLCONF ACK -1\r\nREPLCONF ACK 9223372036854775807 FACK x\r\n",
        b"SYNC\r\nGET k\r\n",
        b"REPLCONF rdb-filter-only \"\\xff\"\r\n",
    ];
    for request in requests {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, primary.port)).expect("open");
        stream.write_all(request).expect("it takes it");
        drop(stream);
        assert_eq!(primary.connect().run("SET k v").print(), "OK", "{}", request.escape_ascii());
    }
    let mut client = primary.connect();
    wait_for("all to be gone", || (info(&mut client, "connected_slaves")? == "0").then_some(()));
}

#[test]
fn a_replica_that_reads_nothing_is_dropped_and_delays_nobody() {
    let limits = ("client-output-buffer-limit", "replica 32mb 0 0");
    let log = ("logfile", "log");
    let primary = start(&[log, limits, ("repl-backlog-size", "1mb"), ("repl-timeout", "600")]);
    let replica = start(&[]);
    follow(&replica, &primary);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, primary.port)).expect("open");
    stream.write_all(b"SYNC\r\n").expect("it takes it");
    let mut client = primary.connect();
    wait_for("the second replica", || {
        (info(&mut client, "connected_slaves")? == "2").then_some(())
    });
    let value = "x".repeat(100_000);
    wait_for("the limit", || {
        for _ in 0..100 {
            client.call(&["SET", "k", &value]);
        }
        (info(&mut client, "connected_slaves")? == "1").then_some(())
    });
    expect_equal(&[&primary, &replica]);
    let told = primary.file("log");
    let count = number(&mut client, "client_output_buffer_limit_disconnections");
    assert_eq!(count, 1, "{told}");
    drop(stream);
}

/// A primary that has written nothing ends in the midst of a snapshot: who has turned to it goes
/// back to where it was, and those behind it have noticed nothing.
#[test]
fn who_turned_to_a_primary_that_ends_returns_without_a_snapshot() {
    let (first, second) = (start(&[]), start(&[]));
    let (middle, last) = (start(&[]), start(&[]));
    first.connect().run("SET a b");
    follow(&middle, &first);
    follow(&last, &middle);
    let mut dying = second.connect();
    dying.run("DEBUG POPULATE 10");
    dying.run("CONFIG SET rdb-key-save-delay 10000000");
    let port = second.port.to_string();
    middle.connect().call(&["REPLICAOF", "127.0.0.1", &port]);
    wait_for("the transfer", || (info(&mut dying, "rdb_bgsave_in_progress")? == "1").then_some(()));
    dying.call(&["SHUTDOWN", "NOSAVE"]);
    drop(second);
    follow(&middle, &first);
    expect_equal(&[&first, &middle, &last]);
    let mut client = first.connect();
    let (full, partial) =
        (number(&mut client, "sync_full"), number(&mut client, "sync_partial_ok"));
    assert_eq!((full, partial), (1, 1));
    assert_eq!(number(&mut middle.connect(), "sync_full"), 1);
}

/// What DEBUG POPULATE makes is this server's own, as in Redis.
#[test]
fn keys_made_by_debug_populate_are_not_replicated() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut client = primary.connect();
    client.run("DEBUG POPULATE 10");
    client.run("SET a b");
    await_equal_offsets(&[&primary, &replica]);
    assert_eq!(client.run("DBSIZE"), Answer::Integer(11));
    assert_eq!(replica.connect().run("DBSIZE"), Answer::Integer(1));
}

#[test]
fn memory_kept_for_a_slow_replica_is_counted_as_its_own() {
    let primary = start(&[("repl-backlog-size", "16kb"), ("repl-timeout", "600")]);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, primary.port)).expect("open");
    stream.write_all(b"SYNC\r\n").expect("it takes it");
    let mut client = primary.connect();
    let value = "x".repeat(100_000);
    wait_for("more than the kernel takes", || {
        client.call(&["SET", "k", &value]);
        (number(&mut client, "mem_clients_slaves") > 4_000_000).then_some(())
    });
    assert_eq!(number(&mut client, "mem_replication_backlog"), 16 << 10);
    let unread = number(&mut client, "mem_total_replication_buffers") - (16 << 10);
    assert!(unread > 1_000_000, "{unread} bytes are kept for it");
    assert!(number(&mut client, "mem_not_counted_for_evict") >= unread);
    client.run("CLIENT KILL TYPE replica");
    wait_for("the end of the replica", || {
        (number(&mut client, "mem_clients_slaves") == 0).then_some(())
    });
    let kept = number(&mut client, "mem_total_replication_buffers");
    assert_eq!(number(&mut client, "mem_replication_backlog"), kept);
    assert!(kept < 1_000_000, "{kept} bytes are kept for nobody");
    drop(stream);
}

/// Cuts the link of the replica now and then while random writes go on; both must be equal then.
fn expect_equal_after_cuts(primary: &Server, replica: &Server) {
    let mut prng = Prng::seeded(77);
    let mut writer = primary.connect();
    write_at_random(&mut writer, &mut prng, 1000);
    follow(replica, primary);
    for _ in 0..5 {
        write_at_random(&mut writer, &mut prng, 400);
        replica.connect().run("CLIENT KILL TYPE master");
        await_link(replica);
    }
    expect_equal(&[primary, replica]);
}

#[test]
fn a_real_redis_is_followed() {
    if is_skipped() || !is_there("redis-server") {
        return;
    }
    for by in ["yes", "no"] {
        let primary = start_as("redis-server", &[("repl-diskless-sync", by)]);
        let replica = start(&[]);
        expect_equal_after_cuts(&primary, &replica);
        assert_eq!(number(&mut primary.connect(), "sync_full"), 1);
    }
}

#[test]
fn a_real_redis_follows() {
    if is_skipped() || !is_there("redis-server") {
        return;
    }
    for by in ["yes", "no"] {
        // Redis 7.0 reads no newer version.
        let primary = start(&[("rdb-save-version", "10"), ("repl-diskless-sync", by)]);
        let replica = start_as("redis-server", &[("repl-diskless-load", "swapdb")]);
        expect_equal_after_cuts(&primary, &replica);
        assert_eq!(number(&mut primary.connect(), "sync_full"), 1);
    }
}

#[test]
fn redis_cli_takes_a_snapshot_of_a_server() {
    if is_skipped() || !is_there("redis-cli") {
        return;
    }
    let primary = start(&[]);
    primary.connect().run("SET k v");
    primary.connect().call(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=lib\nredis.register_function('f', function() return 1 end)",
    ]);
    for (option, keys) in [("--rdb", 1), ("--functions-rdb", 0)] {
        let path = primary.path("taken.rdb");
        let port = primary.port.to_string();
        let output = std::process::Command::new("redis-cli")
            .args(["-p", &port, option, &path])
            .output()
            .expect("it is installed");
        assert!(output.status.success(), "{output:?}");
        let taken = Server::with_file("dbfilename dump.rdb");
        std::fs::copy(&path, taken.path("dump.rdb")).expect("both are ours");
        let taken = taken.restart();
        let mut client = taken.connect();
        wait_for("the keys", || {
            (client.run("DBSIZE").print() == format!("(integer) {keys}")).then_some(())
        });
        assert_eq!(client.run("FCALL f 0").print(), "(integer) 1");
    }
}
