//! MIGRATE between two servers: that values arrive as they were, and that no target, however it
//! behaves, holds up those who do not wait for it.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::interop::{is_skipped, is_there};
use crate::ports;
use crate::rdb;
use crate::server::{RUFOUS, Server, wait_for};
use crate::tls;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

const READING: &str = "(error) IOERR error or timeout reading to target instance";
const WRITING: &str = "(error) IOERR error or timeout writing to target instance";

fn start(binary: &str) -> Server {
    // What Redis 7.0 can read.
    let old = ("rdb-save-version".to_owned(), "10".to_owned());
    Server::start(binary, if binary == RUFOUS { std::slice::from_ref(&old) } else { &[] })
}

/// The reply to MIGRATE with these words behind the port; `''` is an empty one.
fn migrate(client: &mut Client, port: u16, words: &str) -> String {
    let port = port.to_string();
    let mut all = vec!["MIGRATE", "127.0.0.1", &port];
    all.extend(words.split(' ').map(|word| if word == "''" { "" } else { word }));
    client.call(&all).expect("it answers").print()
}

/// What a key holds, and when it expires.
fn facts(client: &mut Client, key: &str) -> (Vec<String>, i64) {
    let held = [&["DEBUG", "DIGEST-VALUE", key], &["OBJECT", "ENCODING", key]]
        .map(|words| client.call(words).expect("it answers").print());
    let Some(Answer::Integer(at_ms)) = client.call(&["PEXPIRETIME", key]) else {
        panic!("{key} is not there")
    };
    (held.into(), at_ms)
}

/// Moves a value of each type and encoding, some of which expire. Only servers that are alike have
/// the same names for encodings.
fn move_all(from: &Server, to: &Server, are_alike: bool) {
    let (mut source, mut target) = (from.connect(), to.connect());
    let mut expected = BTreeMap::new();
    for (index, case) in rdb::cases().into_iter().enumerate() {
        for command in &case.commands {
            source.call(command);
        }
        source.call(&["RENAME", "k", &case.name]);
        if index % 3 == 0 {
            source.call(&["PEXPIREAT", &case.name, "4102444800123"]);
        }
        expected.insert(case.name.clone(), facts(&mut source, &case.name));
    }
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let port = to.port.to_string();
    let (first, rest) = names.split_at(names.len() / 2);
    for key in first {
        let words = ["MIGRATE", "127.0.0.1", &port, key, "3", "20000"];
        assert_eq!(source.call(&words).expect("it answers").print(), "OK", "{key}");
    }
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "3", "20000", "KEYS"];
    words.extend(rest);
    assert_eq!(source.call(&words).expect("it answers").print(), "OK");
    assert_eq!(source.run("DBSIZE"), Answer::Integer(0));
    target.run("SELECT 3");
    for (key, (held, at_ms)) in &expected {
        let found = facts(&mut target, key);
        let is_same = if are_alike { &found.0 == held } else { found.0[0] == held[0] };
        assert!(is_same, "{key}: {held:?} became {:?}", found.0);
        // A time to live goes over as what is left of it, so what it takes to go over is added.
        let late_ms = found.1 - at_ms;
        assert!((0..60_000).contains(&late_ms), "{key}: {late_ms}");
    }
}

#[test]
fn values_move_between_servers_of_ours() {
    move_all(&start(RUFOUS), &start(RUFOUS), true);
}

#[test]
fn values_move_to_a_real_redis_and_from_it() {
    if is_skipped() || !is_there("redis-server") {
        return;
    }
    move_all(&start(RUFOUS), &start("redis-server"), false);
    move_all(&start("redis-server"), &start(RUFOUS), false);
}

#[test]
fn what_the_target_refuses_stays() {
    let (from, to) = (start(RUFOUS), start(RUFOUS));
    let (mut source, mut target) = (from.connect(), to.connect());
    target.run("SET b there");
    source.run("MSET a 1 b 2 c 3");
    let busy = "(error) ERR Target instance replied with error: BUSYKEY Target key name already \
                exists.";
    assert_eq!(migrate(&mut source, to.port, "'' 0 9000 KEYS a b c"), busy);
    assert_eq!(source.run("EXISTS a b c"), Answer::Integer(1));
    assert_eq!(target.run("MGET a b c").print(), "1) \"1\"\n2) \"there\"\n3) \"3\"");
    assert_eq!(migrate(&mut source, to.port, "b 0 9000 COPY REPLACE"), "OK");
    assert_eq!((source.run("GET b").print(), target.run("GET b").print()).0, "\"2\"");
    assert_eq!(target.run("GET b").print(), "\"2\"");
    let error = migrate(&mut source, to.port, "b 99 9000");
    assert_eq!(
        error,
        "(error) ERR Target instance replied with error: ERR DB index is out of range"
    );
    // The database of a connection that is used again is known only when all went well.
    source.run("SET b 5");
    assert_eq!(migrate(&mut source, to.port, "b 0 9000 REPLACE"), "OK");
    assert_eq!(target.run("GET b").print(), "\"5\"");
}

#[test]
fn a_target_may_want_to_know_who_moves() {
    let (from, to) = (start(RUFOUS), start(RUFOUS));
    let (mut source, mut target) = (from.connect(), to.connect());
    for user in ["default >first", "mover on >second ~m* +restore +select"] {
        assert_eq!(target.run(&format!("ACL SETUSER {user}")).print(), "OK");
    }
    source.run("MSET a 1 m1 1 m2 2");
    let refused = "(error) ERR Target instance replied with error: ";
    let nobody = format!("{refused}NOAUTH Authentication required.");
    assert_eq!(migrate(&mut source, to.port, "a 0 9000"), nobody);
    assert_eq!(migrate(&mut source, to.port, "m1 0 9000 AUTH2 mover second"), "OK");
    // Who says nothing is nobody, whatever others have said on that way.
    assert_eq!(migrate(&mut source, to.port, "m2 0 9000"), nobody);
    let wrong = migrate(&mut source, to.port, "a 0 9000 AUTH wrong");
    assert!(wrong.starts_with(&format!("{refused}WRONGPASS")), "{wrong}");
    let kept_off = migrate(&mut source, to.port, "a 0 9000 AUTH2 mover second");
    assert!(kept_off.starts_with(&format!("{refused}NOPERM")), "{kept_off}");
    assert_eq!(migrate(&mut source, to.port, "a 0 9000 AUTH first"), "OK");
    assert_eq!(source.run("EXISTS a m1 m2"), Answer::Integer(1));
}

#[test]
fn a_connection_is_used_again_and_may_have_ended() {
    let from = start(RUFOUS);
    let mut source = from.connect();
    let to = Server::with_file("");
    let clients = |to: &Server| {
        let text = to.connect().run("CLIENT LIST").print();
        text.matches("id=").count() - 1
    };
    for n in 0..5 {
        source.run(&format!("SET k{n} {n}"));
        assert_eq!(migrate(&mut source, to.port, &format!("k{n} 0 9000")), "OK");
    }
    assert_eq!(clients(&to), 1);
    assert_eq!(tls::info_of(&mut source, "migrate_cached_sockets").as_deref(), Some("1"));
    // The target ends, and another one comes in its place.
    let to = to.restart();
    source.run("SET again 1");
    assert_eq!(migrate(&mut source, to.port, "again 0 9000"), "OK");
    assert_eq!(to.connect().run("GET again").print(), "\"1\"");
}

/// A target that reads and answers as it likes, then leaves or stays.
fn target(behave: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = ports::taken();
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            behave(stream);
        }
    });
    port
}

/// Reads what there is, and answers this.
fn answers(bytes: &'static [u8]) -> impl Fn(TcpStream) {
    move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(bytes);
    }
}

#[test]
fn no_answer_of_a_target_loses_a_key() {
    let from = start(RUFOUS);
    let mut source = from.connect();
    source.run("SET k v");
    let endless = |mut stream: TcpStream| while stream.write_all(&[b'+'; 4096]).is_ok() {};
    let all: [(u16, &str); 6] = [
        (target(drop), READING),
        (target(answers(b"+OK\r\n")), READING),
        (target(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")), READING),
        (target(answers(b"+OK\r\n$2\r\nOK\r\n")), READING),
        (target(answers(b"+OK\r\n-ERR \xff\0\r\n")), "(error) ERR Target instance replied with"),
        (target(endless), READING),
    ];
    for (port, expected) in all {
        let found = migrate(&mut source, port, "k 0 20000");
        let is_so = found.starts_with(expected) || (expected == READING && found == WRITING);
        assert!(is_so, "{found}");
        assert_eq!(source.run("GET k").print(), "\"v\"");
    }
}

#[test]
fn a_target_that_hangs_holds_up_nobody_but_writers_of_the_key() {
    let from = start(RUFOUS);
    let (mut asks, mut writes, mut others) = (from.connect(), from.connect(), from.connect());
    let port = hanging();
    asks.run("SET k v");
    asks.send(&encode(&["MIGRATE", "127.0.0.1", &port.to_string(), "k", "0", "1500"]));
    wait_for("the move begins", || {
        let list = others.run("CLIENT LIST").print();
        list.contains("cmd=migrate").then_some(())
    });
    writes.send(&encode(&["APPEND", "k", "w"]));
    assert_eq!(others.run("SET other 1").print(), "OK");
    wait_for("the writer waits", || {
        (tls::info_of(&mut others, "blocked_clients").as_deref() == Some("1")).then_some(())
    });
    assert_eq!(others.run("GET k").print(), "\"v\"");
    assert_eq!(asks.receive().expect("it answers").print(), READING);
    assert_eq!(writes.receive(), Some(Answer::Integer(2)));
    // A value that a socket does not hold is not read either, by a client that does not wait.
    asks.call(&["SET", "big", &"x".repeat(30_000_000)]);
    asks.send(&encode(&["MIGRATE", "127.0.0.1", &port.to_string(), "big", "0", "300"]));
    drop(asks);
    wait_for("the writer may write", || {
        (others.run("APPEND big y") == Answer::Integer(30_000_001)).then_some(())
    });
}

/// Takes connections and does nothing with them.
fn hanging() -> u16 {
    let hung = Mutex::new(Vec::new());
    target(move |stream| hung.lock().expect("nobody panics").push(stream))
}

#[test]
fn transactions_and_scripts_move_keys() {
    let (from, to) = (start(RUFOUS), start(RUFOUS));
    let (mut source, mut target) = (from.connect(), to.connect());
    source.run("MSET a 1 b 2 c 3");
    let port = to.port.to_string();
    source.run("MULTI");
    source.run("INCR n");
    assert_eq!(migrate(&mut source, to.port, "'' 0 9000 KEYS a b"), "QUEUED");
    source.run("EXISTS a b");
    assert_eq!(source.run("EXEC").print(), "1) (integer) 1\n2) OK\n3) (integer) 0");
    let script = "return {redis.call('migrate', '127.0.0.1', ARGV[1], KEYS[1], 0, 9000), \
                  redis.call('exists', KEYS[1])}";
    let moved = source.call(&["EVAL", script, "1", "c", &port]).expect("it answers");
    assert_eq!(moved.print(), "1) OK\n2) (integer) 0");
    assert_eq!(target.run("MGET a b c").print(), "1) \"1\"\n2) \"2\"\n3) \"3\"");
    // One that waits for nothing holds up others, and ends.
    source.run("SET k v");
    source.run("MULTI");
    assert_eq!(migrate(&mut source, hanging(), "k 0 200"), "QUEUED");
    assert_eq!(source.run("EXEC").print(), format!("1) {READING}"));
    assert_eq!(source.run("GET k").print(), "\"v\"");
}

#[test]
fn a_server_ends_in_the_middle_of_a_move() {
    let mut from = start(RUFOUS);
    let (mut asks, mut ends) = (from.connect(), from.connect());
    asks.run("SET k v");
    let words = ["MIGRATE", "127.0.0.1", &hanging().to_string(), "k", "0", "3600000"];
    asks.send(&encode(&words));
    wait_for("the move begins", || {
        ends.run("CLIENT LIST").print().contains("cmd=migrate").then_some(())
    });
    ends.send(&encode(&["SHUTDOWN", "NOSAVE"]));
    assert_eq!(from.wait(), Some(0));
}

#[test]
fn a_flood_of_moves_to_nobody_comes_to_its_end() {
    let from = start(RUFOUS);
    let port = hanging().to_string();
    let mut all: Vec<Client> = (0..200).map(|_| from.connect()).collect();
    for (n, client) in all.iter_mut().enumerate() {
        client.run(&format!("SET k{n} v"));
        client.send(&encode(&["MIGRATE", "127.0.0.1", &port, &format!("k{n}"), "0", "100"]));
    }
    for client in &mut all {
        assert_eq!(client.receive().expect("it answers").print(), READING);
    }
    assert_eq!(from.connect().run("DBSIZE"), Answer::Integer(200));
}

#[test]
fn a_server_may_be_its_own_target() {
    let from = start(RUFOUS);
    let mut client = from.connect();
    client.run("SET k v");
    assert_eq!(migrate(&mut client, from.port, "k 0 300 REPLACE"), READING);
    assert_eq!(client.run("GET k").print(), "\"v\"");
    assert_eq!(client.run("SET k w").print(), "OK");
}

#[test]
fn large_values_and_many_keys_move_whole() {
    let (from, to) = (start(RUFOUS), start(RUFOUS));
    let (mut source, mut target) = (from.connect(), to.connect());
    let mut noise = 1u64;
    let text: String = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + (noise >> 60) as u8 * 5 + (noise >> 40 & 3) as u8)
    })
    .take(20_000_000)
    .collect();
    source.call(&["SET", "text", &text]);
    source.run("DEBUG POPULATE 20000 key 10");
    let before = source.run("DEBUG DIGEST").print();
    let names: Vec<String> = (0..20_000).map(|n| format!("key:{n}")).collect();
    let port = to.port.to_string();
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "20000", "KEYS", "text"];
    words.extend(names.iter().map(String::as_str));
    assert_eq!(source.call(&words).expect("it answers").print(), "OK");
    assert_eq!(source.run("DBSIZE"), Answer::Integer(0));
    assert_eq!(target.run("DEBUG DIGEST").print(), before);
}

#[test]
fn keys_move_by_tls_if_the_cluster_speaks_it() {
    let directives = [("tls-cluster", "yes")];
    let (from, to) = (tls::start(&directives), tls::start(&directives));
    let (mut source, mut target) = (from.server.connect(), to.server.connect());
    source.run("SET k v");
    source.call(&["SET", "big", &"x".repeat(1_000_000)]);
    assert_eq!(migrate(&mut source, to.port, "'' 0 9000 KEYS k big"), "OK");
    assert_eq!(target.run("STRLEN big"), Answer::Integer(1_000_000));
    // One that does not speak it cannot be told from one that hangs up.
    source.run("SET k v");
    let plain = migrate(&mut source, to.server.port, "k 0 9000");
    assert_eq!(plain, "(error) IOERR error or timeout connecting to the client");
    assert_eq!(source.run("GET k").print(), "\"v\"");
}

/// redis-cli keeps the cursor of SCAN in a C int.
#[test]
fn redis_cli_imports_all_keys_into_a_cluster() {
    if is_skipped() || !is_there("redis-server") || !is_there("redis-cli") {
        return;
    }
    let from = start(RUFOUS);
    let mut source = from.connect();
    source.run("DEBUG POPULATE 5000 key 10");
    let enabled = ("cluster-enabled".to_owned(), "yes".to_owned());
    let cluster = Server::start("redis-server", &[enabled]);
    let mut node = cluster.connect();
    assert_eq!(node.run("CLUSTER ADDSLOTSRANGE 0 16383").print(), "OK");
    wait_for("the cluster is up", || {
        node.run("CLUSTER INFO").print().contains("cluster_state:ok").then_some(())
    });
    let [to, from] = [cluster.port, from.port].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "import", &to, "--cluster-from", &from]).stdin(Stdio::null());
    let output = command.output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said:.2000}");
    assert_eq!(source.run("DBSIZE"), Answer::Integer(0), "{said:.2000}");
    assert_eq!(node.run("DBSIZE"), Answer::Integer(5000));
}
