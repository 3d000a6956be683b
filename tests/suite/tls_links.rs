//! What a server itself connects to by TLS, or is asked by: primaries and replicas, Sentinels,
//! scrapers, the check of its health, and the public tools.

use crate::answer::Answer;
use crate::client::Client;
use crate::interop::{is_skipped, is_there};
use crate::ports;
use crate::server::{RUFOUS, Server, wait_for};
use crate::tls::{Secure, info_of, start, start_as};
use crate::tls_client::{Dial, TlsClient, fixture};
use std::process::{Command, Stdio};

const LINKED: [(&str, &str); 3] = [
    ("tls-replication", "yes"),
    ("repl-diskless-sync-delay", "0"),
    ("enable-debug-command", "yes"),
];

fn follow(replica: &Secure, primary: &Secure) {
    let mut client = replica.server.connect();
    let port = primary.port.to_string();
    assert_eq!(client.call(&["REPLICAOF", "127.0.0.1", &port]).expect("it answers").print(), "OK");
    await_link(&mut client);
}

fn await_link(client: &mut Client) {
    wait_for("the link", || (info_of(client, "master_link_status")? == "up").then_some(()));
}

fn expect_equal(one: &Secure, other: &Secure) {
    let mut clients = [one.server.connect(), other.server.connect()];
    wait_for("equal offsets and datasets", || {
        let [one, other] = clients.each_mut().map(|client| {
            Some((info_of(client, "master_repl_offset")?, client.run("DEBUG DIGEST").print()))
        });
        (one? == other?).then_some(())
    });
}

/// Some keys, and some that take more than a portion.
fn fill(secure: &Secure) {
    let mut client = secure.server.connect();
    client.run("DEBUG POPULATE 20000 key 100");
    for size in [16_384, 65_536, 1_000_000, 8_000_000] {
        client.call(&["SET", &format!("big:{size}"), &"x".repeat(size)]);
    }
}

/// A first copy in full, a stream of changes, and a part of it again after the link was cut.
fn replicate(primary: &Secure, replica: &Secure) {
    fill(primary);
    follow(replica, primary);
    expect_equal(primary, replica);
    let mut client = primary.server.connect();
    for index in 0..2000 {
        client.run(&format!("SET later:{index} {index}"));
    }
    client.call(&["SET", "big", &"y".repeat(3_000_000)]);
    expect_equal(primary, replica);
    let full = |client: &mut Client| info_of(client, "sync_full").expect("it is there");
    let before = full(&mut client);
    client.run("CLIENT KILL TYPE replica");
    client.run("INCR after");
    await_link(&mut replica.server.connect());
    expect_equal(primary, replica);
    assert_eq!(full(&mut client), before, "what was missed comes from the backlog");
}

#[test]
fn servers_replicate_by_tls() {
    for threads in [&[][..], &[("io-threads", "3"), ("events-per-io-thread", "0")]] {
        let directives = [&LINKED[..], threads].concat();
        replicate(&start(&directives), &start(&directives));
    }
}

#[test]
fn several_replicas_get_one_snapshot_by_tls_and_without() {
    let primary = start(&LINKED);
    fill(&primary);
    let replicas = [start(&LINKED), start(&LINKED)];
    let plain = Server::start(RUFOUS, &[("enable-debug-command".into(), "yes".into())]);
    let mut client = plain.connect();
    let port = primary.server.port.to_string();
    client.call(&["REPLICAOF", "127.0.0.1", &port]);
    replicas.iter().for_each(|replica| follow(replica, &primary));
    await_link(&mut client);
    replicas.iter().for_each(|replica| expect_equal(&primary, replica));
    let digest = primary.server.connect().run("DEBUG DIGEST");
    assert_eq!(client.run("DEBUG DIGEST"), digest);
}

/// A primary that an authority of ours does not vouch for is none.
#[test]
fn replicas_check_their_primary() {
    let (certificate, key) = (fixture("stranger.crt"), fixture("stranger.key"));
    let own = [("tls-cert-file", certificate.as_str()), ("tls-key-file", &key)];
    let optional = [("tls-auth-clients", "no")];
    let stranger = start(&[&LINKED[..], &own, &optional].concat());
    let replica = start(&LINKED);
    let mut client = replica.server.connect();
    client.call(&["REPLICAOF", "127.0.0.1", &stranger.port.to_string()]);
    wait_for("the primary is refused", || {
        replica.server.file("log").contains("UnknownIssuer").then_some(())
    });
    assert_eq!(info_of(&mut client, "master_link_status").as_deref(), Some("down"));
    // The replica learns to trust it, and needs no more than that.
    let both = format!("{}/both.crt", std::env::temp_dir().display());
    let text =
        ["ca.crt", "other-ca.crt"].map(|name| std::fs::read(fixture(name)).expect("it is kept"));
    let both = format!("{both}.{}", replica.port);
    std::fs::write(&both, text.concat()).expect("the directory is writable");
    assert_eq!(
        client.call(&["CONFIG", "SET", "tls-ca-cert-file", &both]).expect("it answers").print(),
        "OK"
    );
    await_link(&mut client);
    std::fs::remove_file(&both).expect("it was written");
}

#[test]
fn real_servers_replicate_with_ours_by_tls() {
    if is_skipped() || !is_there("redis-server") {
        return;
    }
    let mut linked = LINKED.to_vec();
    let real = start_as("redis-server", &linked);
    linked.push(("tls-protocols", "TLSv1.3"));
    let ours = start(&linked);
    fill(&real);
    follow(&ours, &real);
    expect_same_keys(&real, &ours);
    // Redis 7.0 reads no newer version.
    let ours = start(&[&LINKED[..], &[("rdb-save-version", "10")]].concat());
    let real = start_as("redis-server", &LINKED);
    fill(&ours);
    follow(&real, &ours);
    expect_same_keys(&ours, &real);
}

/// Datasets of both, as far as numbers of keys and a large value tell.
fn expect_same_keys(one: &Secure, other: &Secure) {
    one.server.connect().run("SET last 1");
    let mut clients = [one.server.connect(), other.server.connect()];
    wait_for("equal datasets", || {
        let [one, other] = clients.each_mut().map(|client| {
            (client.run("DBSIZE"), client.run("GET last"), client.run("GET big:8000000"))
        });
        (one == other && matches!(one.2, Answer::Bulk(_))).then_some(())
    });
}

#[test]
fn redis_cli_speaks_with_ours() {
    if is_skipped() || !is_there("redis-cli") {
        return;
    }
    let secure = start(&[]);
    let cli = |args: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &secure.port.to_string()]).args(args).stdin(Stdio::null());
        let output = command.output().expect("it is installed");
        [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat()
    };
    let (ca, cert, key) = (fixture("ca.crt"), fixture("client.crt"), fixture("client.key"));
    let tls = ["--tls", "--cacert", &ca, "--cert", &cert, "--key", &key];
    let with = |words: &[&str]| cli(&[&tls[..], words].concat());
    assert_eq!(with(&["SET", "k", "v"]), "OK\n");
    assert_eq!(with(&["GET", "k"]), "v\n");
    let suites = ["--tls-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "PING"];
    assert_eq!(with(&suites), "PONG\n");
    assert!(!cli(&["--tls", "--cacert", &ca, "PING"]).contains("PONG"), "it shows no certificate");
    assert!(cli(&["PING"]).contains("Bad TLS header"), "it does not speak TLS");
}

// ------------------------------------------------------------------------------ health and metrics

fn check_health(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(RUFOUS);
    command.arg("--healthcheck").args(args).stdin(Stdio::null());
    let output = command.output().expect("the binary can be run");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn health_is_asked_by_tls() {
    let secure = start(&[("tls-auth-clients", "optional")]);
    let port = secure.port.to_string();
    let ca = fixture("ca.crt");
    let asked = |args: &[&str]| check_health(&[&["--port", &port], args].concat());
    assert_eq!(asked(&["--tls", "--cacert", &ca]), (Some(0), String::new()));
    assert_eq!(asked(&["--tls", "--insecure"]), (Some(0), String::new()));
    let (code, said) = asked(&["--tls", "--cacert", &fixture("other-ca.crt")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("UnknownIssuer"), "{said}");
    let (code, said) = asked(&[]);
    assert!(code == Some(1) && said.contains("Bad TLS header"), "{said}");
    let (code, said) = asked(&["--cacert", &ca]);
    assert!(code == Some(1) && said.contains("--tls"), "{said}");
    let asked_plain =
        check_health(&["--port", &secure.server.port.to_string(), "--tls", "--insecure"]);
    assert_eq!(asked_plain.0, Some(1));
    // A server that only speaks TLS, asked by its own file.
    let mut client = secure.connect();
    client.run("CONFIG SET tls-auth-clients yes");
    let file = format!(
        "port 0\ntls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {ca}\n",
        fixture("server.crt"),
        fixture("server.key"),
    );
    let path = secure.server.path("health.conf");
    std::fs::write(&path, file).expect("the directory is ours");
    assert_eq!(check_health(&[&path]), (Some(0), String::new()));
}

#[test]
fn metrics_are_served_by_tls() {
    let port = ports::free();
    let secure = start(&[("metrics-port", &port.to_string()), ("metrics-tls", "yes")]);
    let scrape = |dial: Dial| {
        let mut client = TlsClient::try_connect(port, &dial.ready())?;
        client.send(b"GET /metrics HTTP/1.1\r\n\r\n");
        Some(String::from_utf8_lossy(&client.receive_bytes(usize::MAX)).into_owned())
    };
    let page = scrape(Dial::default()).expect("it is served");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(page.contains("redis_tls_server_cert_expires_in_seconds "), "{page}");
    assert!(page.contains("redis_tls_handshakes_total 0"), "scrapers are no clients: {page}");
    let unknown = scrape(Dial::anonymous()).unwrap_or_default();
    assert!(!unknown.contains("200 OK"), "{unknown}");
    let mut client = secure.server.connect();
    assert_eq!(client.run("CONFIG SET metrics-tls no").print(), "OK");
    let mut plain = Client::connect(port).expect("it listens");
    plain.send(b"GET /metrics HTTP/1.1\r\n\r\n");
    let (page, _) = plain.receive_raw(|_| false);
    assert!(page.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn info_tells_when_certificates_end() {
    let (certificate, key) = (fixture("expired.crt"), fixture("expired.key"));
    let secure = start(&[("tls-client-cert-file", &certificate), ("tls-client-key-file", &key)]);
    let mut client = secure.server.connect();
    let mut number = |field: &str| -> i64 {
        let text = info_of(&mut client, field).unwrap_or_else(|| panic!("no {field}"));
        text.parse().expect("it is a number")
    };
    assert!(number("tls_server_cert_expires_in_seconds") > 365 * 86_400);
    assert!(number("tls_ca_cert_expires_in_seconds") > 365 * 86_400);
    assert!(number("tls_client_cert_expires_in_seconds") < 0);
    let serial = info_of(&mut client, "tls_server_cert_serial").expect("it is there");
    assert!(serial.chars().all(|c| c.is_ascii_hexdigit()) && serial.len() > 10, "{serial}");
    let log = secure.server.file("log");
    assert!(log.contains("The TLS certificate for outgoing connections (serial "), "{log}");
    assert!(log.contains(" has expired"), "{log}");
    let plain = Server::rufous();
    assert_eq!(info_of(&mut plain.connect(), "tls_server_cert_serial"), None);
}

// ------------------------------------------------------------------------------------- Sentinels

fn sentinel(primary: &Secure) -> Server {
    Server::sentinel(
        RUFOUS,
        &format!(
            "tls-replication yes\ntls-port {}\ntls-cert-file {}\ntls-key-file {}\n\
             tls-ca-cert-file {}\nsentinel monitor m 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 20000\n",
            ports::free(),
            fixture("server.crt"),
            fixture("server.key"),
            fixture("ca.crt"),
            primary.port,
        ),
    )
}

/// The servers' plain ports are known to the test alone: they learn of each other by TLS.
#[test]
fn sentinels_fail_over_by_tls() {
    let mut primary = start(&LINKED);
    let replica = start(&LINKED);
    follow(&replica, &primary);
    let sentinels = [sentinel(&primary), sentinel(&primary)];
    let says = |sentinel: &Server, line: &str, part: &str| {
        sentinel.connect().run(line).print().contains(part).then_some(())
    };
    for sentinel in &sentinels {
        wait_for("the Sentinel knows all", || {
            says(sentinel, "INFO sentinel", "status=ok,address=127.0.0.1")?;
            says(sentinel, "INFO sentinel", "slaves=1,sentinels=2")?;
            says(sentinel, "SENTINEL REPLICAS m", &format!("127.0.0.1:{}", replica.port))
        });
    }
    primary.server.kill();
    for sentinel in &sentinels {
        wait_for("the replica has taken over", || {
            let line = "SENTINEL GET-MASTER-ADDR-BY-NAME m";
            says(sentinel, line, &replica.port.to_string())
        });
    }
    let mut client = replica.server.connect();
    wait_for("it is a primary", || (info_of(&mut client, "role")? == "master").then_some(()));
}
