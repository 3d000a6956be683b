//! What only a socket shows: pieces, pipelines, hanging up, refusals, signals.

use crate::answer::{self, Answer, encode};
use crate::client::Client;
use crate::server::{RUFOUS, Server, wait_for};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn directive(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::rufous();
    let mut client = server.connect();
    let request = [encode(&["SET", "key", "some value"]), b"GET key\r\n".to_vec()].concat();
    for byte in request {
        client.send(&[byte]);
    }
    assert_eq!(client.receive(), Some(ok()));
    assert_eq!(client.receive(), Some(Answer::Bulk(b"some value".to_vec())));
}

#[test]
fn pipelines_are_answered_in_order_and_apart() {
    const REQUESTS: usize = 20_000;
    let server = Server::rufous();
    let mut clients = [server.connect(), server.connect(), server.connect()];
    for (number, client) in clients.iter_mut().enumerate() {
        let words = |index: usize| encode(&["ECHO", &format!("{number}-{index}")]);
        // Written from another thread, as the replies must be read meanwhile.
        let pipeline: Vec<u8> = (0..REQUESTS).flat_map(words).collect();
        std::thread::scope(|scope| {
            let mut writer = client.writer();
            scope.spawn(move || writer.send(&pipeline));
            for index in 0..REQUESTS {
                let expected = Answer::Bulk(format!("{number}-{index}").into_bytes());
                assert_eq!(client.receive(), Some(expected));
            }
        });
    }
}

/// Requests of very many clients wait in the kernel, and are all there when the server looks.
#[test]
fn very_many_clients_that_ask_at_once_are_all_answered() {
    const CLIENTS: usize = 700;
    let server = Server::rufous();
    let mut sleeper = server.connect();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    // Whoever has sent something may have been given to another thread.
    for client in &mut clients {
        assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
    }
    for round in 0..3 {
        sleeper.send(&encode(&["DEBUG", "SLEEP", "0.2"]));
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&encode(&["ECHO", &format!("{round}-{number}")]));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let expected = Answer::Bulk(format!("{round}-{number}").into_bytes());
            assert_eq!(client.receive(), Some(expected));
        }
        assert_eq!(sleeper.receive(), Some(ok()));
    }
}

/// Has the server look at all its clients' input more than once.
fn let_it_read(observer: &mut Client) {
    for _ in 0..200 {
        observer.run("PING");
    }
}

/// Asks until INFO has a line.
fn wait_for_line(observer: &mut Client, line: &str) {
    let has_line = |info: Answer| match info {
        Answer::Bulk(text) => String::from_utf8_lossy(&text).lines().any(|it| it == line),
        _ => false,
    };
    wait_for(line, || has_line(observer.run("INFO everything")).then_some(()));
}

#[test]
fn what_comes_while_a_client_waits_runs_after_its_wait() {
    let server = Server::start(RUFOUS, &[directive("rdb-key-save-delay", "1000000")]);
    let mut observer = server.connect();
    observer.run("DEBUG POPULATE 1000");
    let element = Answer::Array(["l", "x"].map(|it| Answer::Bulk(it.into())).into());
    let cases = [
        ("BLPOP l 0", "blocked_clients:1", "RPUSH l x", Some(element)),
        ("SAVE", "rdb_bgsave_in_progress:1", "BGSAVE CANCEL", None),
    ];
    for (waits, line, ends, reply) in cases {
        let mut client = server.connect();
        client.send(&encode(&waits.split(' ').collect::<Vec<_>>()));
        wait_for_line(&mut observer, line);
        client.send(&encode(&["INCR", "n"]));
        let_it_read(&mut observer);
        assert_eq!(observer.run("EXISTS n"), Answer::Integer(0), "{waits}");
        observer.run(ends);
        let first = client.receive();
        match reply {
            Some(reply) => assert_eq!(first, Some(reply)),
            None => assert!(matches!(first, Some(Answer::Error(_))), "{first:?}"),
        }
        assert_eq!(client.receive(), Some(Answer::Integer(1)), "{waits}");
        observer.run("DEL n");
    }
}

#[test]
fn long_values_come_back_whole() {
    let server = Server::rufous();
    let mut client = server.connect();
    let mixed = |index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8;
    let value: Vec<u8> = (0..40 << 20).map(mixed).collect();
    assert_eq!(client.call(&[b"SET".as_slice(), b"k", &value]), Some(ok()));
    assert_eq!(client.call(&["GET", "k"]), Some(Answer::Bulk(value)));
}

#[test]
fn who_hangs_up_after_asking_is_answered_first() {
    let server = Server::rufous();
    let mut client = server.connect();
    client.send(&encode(&["PING"]).repeat(100));
    client.finish();
    for _ in 0..100 {
        assert_eq!(client.receive(), Some(Answer::Simple(b"PONG".to_vec())));
    }
    assert_eq!(client.receive(), None);
}

#[test]
fn who_hangs_up_leaves_nothing_behind() {
    let server = Server::rufous();
    let mut observer = server.connect();
    for _ in 0..50 {
        let mut client = server.connect();
        client.run("WATCH k");
        client.run("MULTI");
        client.send(b"*2\r\n$3\r\nGET\r\n$1000\r\nunfinished");
    }
    wait_until_alone(&mut observer);
}

/// Waits until the server has seen that all other clients left.
fn wait_until_alone(observer: &mut Client) {
    let ends = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    let is_alone = |list: &Answer| matches!(list, Answer::Bulk(text) if ends(text) == 1);
    let start = Instant::now();
    while !is_alone(&observer.run("CLIENT LIST")) {
        assert!(start.elapsed() < Duration::from_secs(20), "clients that left are listed");
    }
}

#[test]
fn too_many_clients_are_refused_with_a_reason() {
    let server = Server::start(RUFOUS, &[directive("maxclients", "2")]);
    let pong = Answer::Simple(b"PONG".to_vec());
    let mut first = server.connect();
    // Whoever saw that the server is up may still be there.
    wait_until_alone(&mut first);
    let mut second = server.connect();
    assert_eq!(second.run("PING"), pong);
    let refused = server.connect().receive();
    let reason = b"ERR max number of clients reached".to_vec();
    assert_eq!(refused, Some(Answer::Error(reason)));
    assert_eq!(first.run("PING"), pong);
}

#[test]
fn who_does_not_read_is_dropped_at_the_output_limit() {
    let limit = directive("client-output-buffer-limit", "normal 1mb 0 0");
    let server = Server::start(RUFOUS, &[limit]);
    let mut greedy = server.connect();
    let value = vec![b'x'; 1 << 20];
    greedy.call(&[b"SET".as_slice(), b"k", &value]);
    greedy.send(&encode(&["GET", "k"]).repeat(64));
    let mut observer = server.connect();
    let start = Instant::now();
    loop {
        let Answer::Bulk(list) = observer.run("CLIENT LIST") else { panic!("no list") };
        if list.iter().filter(|byte| **byte == b'\n').count() == 1 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "a client holds all its replies");
    }
}

#[test]
fn an_endless_request_is_dropped_at_the_query_limit() {
    let server = Server::start(RUFOUS, &[directive("client-query-buffer-limit", "1mb")]);
    let mut client = server.connect();
    client.send(b"*2\r\n$4\r\nECHO\r\n$100000000\r\n");
    client.send(&vec![b'x'; 4 << 20]);
    assert_eq!(client.receive(), None);
    assert_eq!(server.connect().run("PING"), Answer::Simple(b"PONG".to_vec()));
}

/// Waits, without a limit of its own: the test run has one.
fn signalled(server: &mut Server, signal: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("kill").args([signal, &pid]).status();
    assert!(status.expect("kill is installed").success());
}

#[test]
fn a_signal_ends_the_server_in_good_order() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::rufous();
        server.connect().run("SET k v");
        signalled(&mut server, signal);
        assert_eq!(server.wait(), Some(0), "{signal}");
    }
}

#[test]
fn shutdown_ends_the_server() {
    let mut server = Server::rufous();
    let mut client = server.connect();
    assert_eq!(client.call(&["SHUTDOWN", "NOSAVE"]), None);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_bad_directive_keeps_the_server_from_starting() {
    let mut command = Command::new(RUFOUS);
    command.args(["--nosuchdirective", "1"]).stdin(Stdio::null());
    let output = command.output().expect("the binary can be run");
    assert!(!output.status.success());
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("FATAL CONFIG FILE ERROR"), "{said}");
    assert!(said.contains("nosuchdirective"), "{said}");
}

/// What a server logs that cannot start; dates and process ids are cut off.
fn last_words(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(RUFOUS);
    command.args(arguments).args(["--save", ""]).stdin(Stdio::null());
    let output = command.output().expect("the binary can be run");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert_eq!(output.stderr, b"", "all is said in the log");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let warnings = said.lines().filter_map(|line| line.split_once(" # "));
    let warnings = warnings.map(|(_, text)| text.to_owned());
    warnings.filter(|text| !text.contains("has no effect")).collect()
}

#[test]
fn addresses_that_cannot_be_opened_are_told_of() {
    let busy = crate::ports::taken();
    let port = busy.local_addr().expect("it is bound").port().to_string();
    let could_not =
        |address: &str| format!("Warning: Could not create server TCP listening socket {address}");
    for dash in ["", "-"] {
        assert_eq!(
            last_words(&["--port", &port, "--bind", &format!("{dash}127.0.0.1")]),
            [
                could_not(&format!("127.0.0.1:{port}: bind: Address already in use")),
                format!("Failed listening on port {port} (tcp), aborting."),
            ]
        );
    }
    let missing = could_not("192.0.2.1:7: bind: Cannot assign requested address");
    assert_eq!(
        last_words(&["--port", "7", "--bind", "192.0.2.1"]),
        [missing.as_str(), "Failed listening on port 7 (tcp), aborting."]
    );
    assert_eq!(
        last_words(&["--port", "7", "--bind", "-192.0.2.1"]),
        [missing.as_str(), "Configured to not listen anywhere, exiting."]
    );
    assert_eq!(last_words(&["--port", "0"]), ["Configured to not listen anywhere, exiting."]);
    let long = "x".repeat(200);
    for (path, reason) in [
        ("/nosuch/x.sock", "bind: No such file or directory"),
        ("/", "bind: Address already in use"),
        (&long, "unix socket path too long (200), must be under 108"),
    ] {
        let expected = format!("Failed opening Unix socket: {reason}");
        assert_eq!(last_words(&["--port", "0", "--unixsocket", path]), [expected]);
    }
}

#[test]
fn the_version_is_said() {
    let output = Command::new(RUFOUS).arg("--version").output().expect("the binary can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.starts_with("Redis server v=7.2"), "{said}");
}

#[test]
fn a_listener_can_move_while_clients_stay() {
    let server = Server::rufous();
    let mut client = server.connect();
    let other = Server::rufous();
    let port = other.port;
    drop(other);
    let answer = client.run(&format!("CONFIG SET port {port}"));
    assert_eq!(answer, ok());
    assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
    let mut moved = crate::client::Client::connect(port).expect("the new port is open");
    assert_eq!(moved.run("PING"), Answer::Simple(b"PONG".to_vec()));
    assert!(crate::client::Client::connect(server.port).is_err());
}

#[test]
fn replies_are_read_as_they_were_sent() {
    let wire = b"$3\r\na\r\n\r\n";
    assert_eq!(answer::read(wire), Some((Answer::Bulk(b"a\r\n".to_vec()), wire.len())));
}

/// What a server must be asked to know that nothing was lost; secrets are asked for by name.
fn all_directives(client: &mut crate::client::Client) -> Vec<(Answer, Answer)> {
    let Some(Answer::Array(words)) = client.call(&["CONFIG", "GET", "*"]) else {
        panic!("CONFIG GET is answered by an array");
    };
    words.as_chunks::<2>().0.iter().map(|[name, value]| (name.clone(), value.clone())).collect()
}

/// One directive of each kind, and those with a form of their own.
const CHANGES: &[(&str, &str)] = &[
    ("hz", "50"),
    ("maxmemory", "3221225473"),
    ("maxmemory-clients", "7%"),
    ("maxmemory-policy", "allkeys-lfu"),
    ("appendfsync", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("shutdown-on-sigint", "nosave force"),
    ("notify-keyspace-events", "KEA"),
    ("masterauth", "a \"b\" \\ \u{7}\u{fc}"),
    ("masteruser", ""),
    ("save", "900 1 300 10"),
    ("bind", "127.0.0.1 -::1"),
    ("client-output-buffer-limit", "replica 1 2 3"),
    ("latency-tracking-info-percentiles", "1 99.95"),
    ("oom-score-adj-values", "1 2 3"),
    ("proc-title-template", "{title} {{x"),
    ("slowlog-log-slower-than", "-1"),
    ("list-max-listpack-size", "-3"),
    ("hash-max-ziplist-entries", "7"),
    ("slave-priority", "3"),
];

#[test]
fn a_restart_after_config_rewrite_changes_nothing() {
    let files = [
        "",
        "# mine\nsave 900 1\nsave \"\"\nsave 60 5\n\n\nhz 20\n# more\n",
        "save 900 1\nsave \"\"\nslave-priority 7\nmaxmemory 1gb\nmaxmemory 2gb\n",
        "client-output-buffer-limit pubsub 1 1 1\nbind 127.0.0.1\nrename-command KEYS \"\"",
    ];
    for (file, changes) in files.iter().flat_map(|file| [(file, &[][..]), (file, CHANGES)]) {
        let server = Server::with_file(file);
        let mut client = server.connect();
        for (name, value) in changes {
            assert_eq!(client.call(&["CONFIG", "SET", name, value]), Some(ok()), "{name}");
        }
        let before = all_directives(&mut client);
        assert_eq!(client.run("CONFIG REWRITE"), ok());
        let written = server.config_file();
        let server = server.restart();
        let mut client = server.connect();
        assert_eq!(all_directives(&mut client), before, "{written}");
        assert_eq!(client.run("CONFIG REWRITE"), ok());
        assert_eq!(server.config_file(), written, "the second time there is nothing to do");
    }
}

#[test]
fn config_rewrite_keeps_what_people_wrote() {
    let server = Server::with_file("# mine\nsave 900 1\n\n\nsave \"\"\n  hz 20  \nhz 10\n# more");
    let mut client = server.connect();
    assert_eq!(client.run("CONFIG SET hz 30"), ok());
    assert_eq!(client.run("CONFIG REWRITE"), ok());
    let written = server.config_file();
    // The percentiles and the users are written though they are the default: Redis does so too.
    let port = server.port;
    let (kept, added) = written.split_once("\n# Generated by CONFIG REWRITE\n").expect("a mark");
    assert_eq!(
        kept,
        format!("# mine\nsave \"\"\n\nhz 30\n\n# more\nbind 127.0.0.1\nport {port}\n")
    );
    // What the command line had is written, too.
    let is_of_the_test = |line: &&str| line.starts_with("dir ") || line.contains("io-thread");
    let added: Vec<&str> = added.lines().filter(|line| !is_of_the_test(line)).collect();
    let user = "user default on nopass sanitize-payload ~* &* +@all";
    assert_eq!(added, ["latency-tracking-info-percentiles 50 99 99.9", user]);
}

/// What another thread refuses counts like any other error, also inside a transaction.
#[test]
fn late_errors_are_counted() {
    let server = Server::rufous();
    let mut client = server.connect();
    let words = ["RPUSH", "l"].into_iter().chain(std::iter::repeat_n("x", 50_000));
    client.call(&words.collect::<Vec<_>>());
    let refused = Answer::Error(b"ERR One or more scores can't be converted into double".to_vec());
    assert_eq!(client.run("SORT l"), refused);
    client.run("MULTI");
    client.run("SORT l");
    assert_eq!(client.run("EXEC"), Answer::Array(vec![refused]));
    let busy = crate::ports::taken();
    let port = busy.local_addr().expect("it is bound").port();
    let moved = client.run(&format!("CONFIG SET port {port}"));
    assert!(matches!(moved, Answer::Error(_)), "{moved:?}");
    let Answer::Bulk(info) = client.run("INFO commandstats errorstats") else {
        panic!("INFO answers a text");
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    let line = |name: &str| info.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("cmdstat_sort:calls=2,").ends_with(",failed_calls=2"), "{info}");
    assert!(line("cmdstat_config|set:calls=1,").ends_with(",failed_calls=1"), "{info}");
    assert_eq!(line("errorstat_ERR"), "errorstat_ERR:count=3");
}
