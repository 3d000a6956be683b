//! What monitoring tools read, taken apart as they take it apart: redis_exporter, the agents of
//! DataDog and New Relic, Grafana's data source. And the ways by which no such tool is needed:
//! the endpoint for Prometheus and the health check.

use crate::answer::Answer;
use crate::client::Client;
use crate::ports;
use crate::server::{RUFOUS, Server};
use redis::HotkeysResponse;
use std::collections::BTreeMap;
use std::process::{Command, Output};

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(bytes) | Answer::Verbatim(bytes) | Answer::Simple(bytes) => {
            String::from_utf8(bytes.clone()).expect("it is text")
        }
        other => panic!("no text: {other:?}"),
    }
}

fn elements(answer: &Answer) -> &[Answer] {
    let Answer::Array(elements) = answer else { panic!("no list: {answer:?}") };
    elements
}

fn number(answer: &Answer) -> i64 {
    let Answer::Integer(number) = answer else { panic!("no number: {answer:?}") };
    *number
}

/// A server that did a bit of everything.
fn used() -> (Server, Client) {
    let directives = [("latency-monitor-threshold", "10"), ("slowlog-log-slower-than", "10000")];
    let directives = directives.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Server::start(RUFOUS, &directives);
    let mut client = server.connect();
    for line in [
        "CLIENT SETNAME redis_exporter",
        "SET k v EX 1000",
        "GET k",
        "LPUSH k x",
        "SET odd:key v",
        "HSET h f v",
        "HEXPIRE h 1000 FIELDS 1 f",
        "DEBUG SLEEP 0.02",
        "NOSUCH",
    ] {
        client.run(line);
    }
    (server, client)
}

/// A field with parts as `a=1,b=2`.
fn parts(value: &str) -> Vec<(&str, f64)> {
    (value.split(','))
        .map(|part| {
            let words: Vec<&str> = part.split('=').collect();
            let [name, value] = words[..] else { panic!("{part} has not one =") };
            (name, value.parse().unwrap_or_else(|_| panic!("{part} is no number")))
        })
        .collect()
}

#[test]
fn info_is_sections_of_fields() {
    let (_server, mut client) = used();
    let info = text(&client.run("INFO ALL"));
    let mut section = "";
    let mut fields: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for line in info.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            section = title;
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line} has no colon"));
        assert!(fields.insert((section, name), value).is_none(), "{name} twice in {section}");
    }
    for (section, name) in [
        ("Server", "uptime_in_seconds"),
        ("Clients", "connected_clients"),
        ("Memory", "used_memory"),
        ("Memory", "maxmemory"),
        ("Persistence", "rdb_changes_since_last_save"),
        ("Stats", "total_commands_processed"),
        ("Stats", "keyspace_hits"),
        ("Replication", "connected_slaves"),
        ("CPU", "used_cpu_sys"),
        ("Cluster", "cluster_enabled"),
    ] {
        let value = fields.get(&(section, name)).unwrap_or_else(|| panic!("no {name}"));
        assert!(value.parse::<f64>().is_ok(), "{name}:{value}");
    }
    let names = |section: &str| -> Vec<(&str, &str)> {
        fields.iter().filter(|((own, _), _)| *own == section).map(|((_, n), v)| (*n, *v)).collect()
    };
    for (name, value) in names("Commandstats") {
        assert!(name.starts_with("cmdstat_"));
        let order: Vec<&str> = parts(value).iter().map(|part| part.0).collect();
        let wanted = ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"];
        assert_eq!(order, wanted, "{name}");
    }
    assert!(names("Commandstats").iter().any(|(name, _)| *name == "cmdstat_client|setname"));
    for (name, value) in names("Latencystats") {
        assert!(name.starts_with("latency_percentiles_usec_"));
        let order: Vec<&str> = parts(value).iter().map(|part| part.0).collect();
        assert_eq!(order, ["p50", "p99", "p99.9"], "{name}");
    }
    assert_eq!(
        names("Errorstats"),
        [("errorstat_ERR", "count=1"), ("errorstat_WRONGTYPE", "count=1")]
    );
    let [(database, value)] = names("Keyspace")[..] else { panic!("one database has keys") };
    let order: Vec<&str> = parts(value).iter().map(|part| part.0).collect();
    assert_eq!((database, &order[..]), ("db0", &["keys", "expires", "avg_ttl", "subexpiry"][..]));
}

#[test]
fn client_list_is_fields_with_one_equals_sign() {
    let (server, mut client) = used();
    let mut evil = server.connect();
    evil.run("CLIENT SETINFO LIB-NAME a/b");
    let refused = evil.call(&["CLIENT", "SETNAME", "with space"]);
    assert!(matches!(refused, Some(Answer::Error(_))));
    let list = text(&client.run("CLIENT LIST"));
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert!(line.starts_with("id=") && line.contains(" addr=127.0.0.1:"), "{line}");
        for token in line.split(' ') {
            assert_eq!(token.matches('=').count(), 1, "{token} of {line}");
        }
        for wanted in ["name", "age", "idle", "flags", "db", "omem", "cmd", "user", "resp"] {
            assert!(line.contains(&format!(" {wanted}=")), "no {wanted} in {line}");
        }
    }
}

#[test]
fn latency_and_slow_commands_are_lists_of_known_length() {
    let (_server, mut client) = used();
    let latest = client.run("LATENCY LATEST");
    let [row] = elements(&latest) else { panic!("one event: {latest:?}") };
    let [event, at, last, max] = elements(row) else { panic!("four columns: {row:?}") };
    assert_eq!(text(event), "command");
    assert!(number(at) > 1_600_000_000 && number(last) >= 20 && number(max) >= number(last));
    let histograms = client.run("LATENCY HISTOGRAM");
    for pair in elements(&histograms).chunks(2) {
        let [command, figures] = pair else { panic!("a command has figures") };
        let [_, calls, _, buckets] = elements(figures) else { panic!("{}", text(command)) };
        let counts: Vec<i64> = elements(buckets).chunks(2).map(|pair| number(&pair[1])).collect();
        assert_eq!(counts.last(), Some(&number(calls)), "the last bucket has all calls");
        assert!(counts.is_sorted());
    }
    assert_eq!(client.run("SLOWLOG LEN"), Answer::Integer(1));
    let log = client.run("SLOWLOG GET 1");
    let [entry] = elements(&log) else { panic!("one entry: {log:?}") };
    let [id, at, us, words, address, name] = elements(entry) else { panic!("six columns") };
    assert_eq!((number(id), text(name).as_str()), (0, "redis_exporter"));
    assert!(number(at) > 1_600_000_000 && number(us) >= 20_000);
    assert_eq!(elements(words).len(), 3);
    assert!(text(address).starts_with("127.0.0.1:"));
}

#[test]
fn the_configuration_is_a_map_of_words() {
    let (_server, mut client) = used();
    let all = client.run("CONFIG GET *");
    let all: BTreeMap<String, String> =
        elements(&all).chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    for name in ["databases", "maxclients", "maxmemory", "repl-backlog-size", "io-threads"] {
        assert!(all[name].parse::<u64>().is_ok(), "{name}");
    }
    let limits: Vec<&str> = all["client-output-buffer-limit"].split(' ').collect();
    assert_eq!(limits.len(), 12, "{limits:?}");
    assert_eq!(client.run("COMMAND INFO COMMANDLOG"), Answer::Array(vec![Answer::Null]));
}

#[test]
fn hot_keys_are_understood_by_a_client_library() {
    let server = Server::rufous();
    let url = |protocol: u8| format!("redis://127.0.0.1:{}/?protocol=resp{protocol}", server.port);
    for protocol in [2, 3] {
        let client = redis::Client::open(url(protocol)).expect("a URL");
        let mut connection = client.get_connection().expect("the server is up");
        let mut run = |line: &str| -> redis::Value {
            let mut words = line.split(' ');
            let mut command = redis::cmd(words.next().expect("a command"));
            words.for_each(|word| {
                command.arg(word);
            });
            command.query(&mut connection).unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        run("HOTKEYS START METRICS 2 CPU NET COUNT 5");
        for _ in 0..50 {
            run("SET hot value");
        }
        let answer = run("HOTKEYS GET");
        let answer: HotkeysResponse = redis::from_redis_value(answer).expect("as documented");
        assert!(answer.tracking_active && answer.sample_ratio == 1);
        for ranking in [&answer.by_cpu_time_us, &answer.by_net_bytes] {
            let ranking = ranking.as_ref().expect("it was asked for");
            assert_eq!(ranking[0].key, "hot");
        }
        assert_eq!(answer.by_net_bytes.expect("it is there")[0].value, 50 * (33 + 5));
        run("HOTKEYS STOP");
        run("HOTKEYS RESET");
    }
}

fn fetch(port: u16, request: &str) -> (String, String) {
    let mut client = Client::connect(port).expect("the endpoint is open");
    client.send(request.as_bytes());
    let (bytes, ended) = client.receive_raw(|_| false);
    assert!(ended, "the endpoint closes the connection");
    let text = String::from_utf8(bytes).expect("it is text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn prometheus_reads_the_endpoint() {
    let metrics_port = ports::free();
    let directives = [("metrics-port".to_owned(), metrics_port.to_string())];
    let server = Server::start(RUFOUS, &directives);
    server.connect().run("SET k v");
    let (head, body) = fetch(metrics_port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    for line in ["redis_up 1", "redis_db_keys{db=\"db0\"} 1", "redis_commands_total{cmd=\"set\"} 1"]
    {
        assert!(body.lines().any(|own| own == line), "no {line} in {body}");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        (&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000)), "431 Request Header"),
    ] {
        let (head, _) = fetch(metrics_port, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    let absolute = format!("GET http://localhost:{metrics_port}/metrics HTTP/1.1\r\n\r\n");
    let (head, body) = fetch(metrics_port, &absolute);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.contains("redis_up 1"), "{head}");
    let (head, body) = fetch(metrics_port, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{head}\n{body}");
    // It can move, and be closed.
    let moved_port = ports::free();
    assert_eq!(text(&server.connect().run(&format!("CONFIG SET metrics-port {moved_port}"))), "OK");
    let (head, _) = fetch(moved_port, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(
        text(&server.connect().run(&format!("CONFIG SET metrics-port {metrics_port}"))),
        "OK"
    );
    // Scrapers that say nothing keep out nobody: neither clients nor those who ask.
    let _silent: Vec<Client> =
        (0..40).map(|_| Client::connect(metrics_port).expect("the kernel accepts")).collect();
    assert_eq!(text(&server.connect().run("PING")), "PONG");
    for _ in 0..20 {
        let (head, _) = fetch(metrics_port, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    }
}

fn healthcheck(args: &[&str], password: Option<&str>) -> Output {
    let mut command = Command::new(RUFOUS);
    command.args(args).env_remove("REDISCLI_AUTH");
    if let Some(password) = password {
        command.env("REDISCLI_AUTH", password);
    }
    command.output().expect("the binary can be run")
}

#[test]
fn the_health_check_exits_with_what_it_found() {
    let server = Server::rufous();
    let port = server.port.to_string();
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let well = healthcheck(&["--healthcheck", "--port", &port], None);
    assert_eq!((well.status.code(), told(&well).as_str()), (Some(0), ""));
    let mut client = server.connect();
    client.run("CONFIG SET requirepass secret");
    let cases: [(&[&str], Option<&str>, Option<&str>); 4] = [
        (&[], None, Some("The server answers: NOAUTH Authentication required.\n")),
        (&[], Some("secret"), None),
        (&["--pass", "secret"], Some("wrong"), None),
        (
            &["--pass", "wrong"],
            None,
            Some(
                "The server answers: WRONGPASS invalid username-password pair or user is \
                 disabled.\n",
            ),
        ),
    ];
    for (args, password, complaint) in cases {
        let args = [&["--healthcheck", "--port", &port][..], args].concat();
        let output = healthcheck(&args, password);
        let code = if complaint.is_some() { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{args:?} {password:?}: {}", told(&output));
        assert_eq!(told(&output), complaint.unwrap_or(""));
    }
    // Where the default user is off somebody else asks, who may do nothing else.
    client.run("AUTH secret");
    client.run("ACL SETUSER probe on >word -@all +ping");
    client.run("ACL SETUSER open on nopass -@all +ping");
    client.run("ACL SETUSER default off");
    let denied =
        "The server answers: WRONGPASS invalid username-password pair or user is disabled.\n";
    for (args, complaint) in [
        (&["--user", "probe", "--pass", "word"][..], ""),
        (&["--user", "open"], ""),
        (&["--user", "probe", "--pass", "secret"], denied),
        (&["--pass", "word"], denied),
    ] {
        let args = [&["--healthcheck", "--port", &port][..], args].concat();
        let output = healthcheck(&args, None);
        let code = if complaint.is_empty() { 0 } else { 1 };
        assert_eq!((output.status.code(), &*told(&output)), (Some(code), complaint), "{args:?}");
    }
    let nobody = healthcheck(&["--healthcheck", "--port", &ports::free().to_string()], None);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(told(&nobody).starts_with("Could not connect to 127.0.0.1:"), "{}", told(&nobody));
}

/// The file says where the server is and what its password is.
#[test]
fn the_health_check_reads_the_configuration_file() {
    let server = Server::with_file("requirepass secret");
    let path = server.path("redis.conf");
    let output = healthcheck(&[&path, "--healthcheck"], None);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let missing = healthcheck(&["/no/such/file", "--healthcheck"], None);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(missing.stderr.iter().filter(|byte| **byte == b'\n').count(), 1);
}
