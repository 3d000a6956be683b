//! The public tools against our binary: what people will point at it on their first day.
//!
//! A tool that is not installed is said and left out; with `RUFOUS_REQUIRE_INTEROP` set, as CI
//! does, it is a failure.

use crate::answer::{Answer, encode};
use crate::server::{self, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

/// Whether a tool is installed. A missing one is said, and where all must be there, a failure.
pub fn is_there(program: &str) -> bool {
    if server::is_installed(program) {
        return true;
    }
    leave_out(program);
    false
}

/// Whether real servers are not to be asked although they may be there. That is no way around what
/// is required.
pub fn is_skipped() -> bool {
    let is_skipped = std::env::var_os("RUFOUS_SKIP_INTEROP").is_some();
    if is_skipped {
        leave_out("real Redis, for RUFOUS_SKIP_INTEROP,");
    }
    is_skipped
}

fn leave_out(program: &str) {
    let required = std::env::var_os("RUFOUS_REQUIRE_INTEROP").is_some();
    assert!(!required, "{program} is not installed");
    println!("{program} is not installed: its checks are left out");
}

fn redis_cli(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port.to_string()]).args(args);
    command
}

fn said(output: &Output) -> String {
    [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat()
}

/// Runs redis-cli to its end; what it said.
fn run_cli(server: &Server, args: &[&str]) -> String {
    let output = redis_cli(server, args).stdin(Stdio::null()).output().expect("it is installed");
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

/// A server with some keys to look at.
fn filled() -> Server {
    let server = Server::rufous();
    let mut client = server.connect();
    for index in 0..500 {
        client.run(&format!("SET key:{index} {index}"));
    }
    client.call(&["SET", "big", &"x".repeat(10_000)]);
    server
}

#[test]
fn redis_cli_talks_in_both_protocols() {
    if !is_there("redis-cli") {
        return;
    }
    let server = filled();
    assert_eq!(run_cli(&server, &["PING"]), "PONG\n");
    assert_eq!(run_cli(&server, &["-3", "PING"]), "PONG\n");
    assert_eq!(run_cli(&server, &["GET", "key:7"]), "7\n");
    assert_eq!(run_cli(&server, &["-3", "--no-raw", "GET", "missing"]), "(nil)\n");
    assert_eq!(run_cli(&server, &["-n", "3", "DBSIZE"]), "0\n");
    assert!(run_cli(&server, &["INFO"]).contains("redis_version:7.2"));
    assert!(run_cli(&server, &["--no-raw", "COMMAND", "DOCS", "GET"]).contains("summary"));
    assert_eq!(run_cli(&server, &["-r", "3", "INCR", "counter"]), "1\n2\n3\n");
}

#[test]
fn redis_cli_scans_and_finds_big_keys() {
    if !is_there("redis-cli") {
        return;
    }
    let server = filled();
    assert_eq!(run_cli(&server, &["--scan"]).lines().count(), 501);
    assert_eq!(run_cli(&server, &["--scan", "--pattern", "key:1*"]).lines().count(), 111);
    let big = run_cli(&server, &["--bigkeys"]);
    assert!(big.contains("Sampled 501 keys") && big.contains("\"big\""), "{big}");
    let heavy = run_cli(&server, &["--memkeys"]);
    assert!(heavy.contains("Sampled 501 keys") && heavy.contains("\"big\""), "{heavy}");
}

#[test]
fn redis_cli_pipes_a_file_in() {
    if !is_there("redis-cli") {
        return;
    }
    let server = Server::rufous();
    let mut command = redis_cli(&server, &["--pipe"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it is installed");
    let mut input = process.stdin.take().expect("it is piped");
    for index in 0..50_000 {
        let request = encode(&["SET", &format!("k{index}"), &format!("v{index}")]);
        input.write_all(&request).expect("redis-cli reads");
    }
    drop(input);
    let output = process.wait_with_output().expect("it is our child");
    assert!(said(&output).contains("errors: 0, replies: 50000"), "{}", said(&output));
    assert_eq!(server.connect().run("DBSIZE"), Answer::Integer(50_000));
}

/// Runs a form of redis-cli that never ends until it has said so many lines.
fn first_lines(server: &Server, args: &[&str], count: usize) -> Vec<String> {
    let mut command = redis_cli(server, args);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it is");
    let output = BufReader::new(process.stdout.take().expect("it is piped"));
    let lines = output.lines().take(count).map(|line| line.expect("it is text")).collect();
    process.kill().expect("it is our child");
    process.wait().expect("it is our child");
    lines
}

#[test]
fn redis_cli_watches() {
    if !is_there("redis-cli") {
        return;
    }
    let server = filled();
    let stat = first_lines(&server, &["--stat", "-i", "0.01"], 4);
    assert!(stat[0].contains("data") && stat[2].trim().starts_with("501"), "{stat:?}");
    // Without a terminal, redis-cli measures for a second and prints one line.
    let latency = run_cli(&server, &["--latency", "-i", "0.1", "--raw"]);
    let figures: Vec<f64> =
        latency.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    assert!(figures.len() >= 4, "{latency}");
}

#[test]
fn redis_benchmark_runs() {
    if !is_there("redis-benchmark") {
        return;
    }
    let server = Server::rufous();
    let port = server.port.to_string();
    let args = ["-t", "ping,set,get,incr,mset", "-n", "10000", "-P", "16", "-q"];
    let output = Command::new("redis-benchmark").args(["-p", &port]).args(args).output();
    let output = output.expect("it is installed");
    assert!(output.status.success(), "{}", said(&output));
    for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"] {
        assert!(said(&output).contains(test), "{}", said(&output));
    }
    assert!(!said(&output).to_lowercase().contains("error"), "{}", said(&output));
}

/// What redis-py does on an ordinary day.
const PYTHON: &str = r#"
import redis, sys
for protocol in (2, 3):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    assert r.ping()
    r.flushall()
    assert r.set("k", "v", ex=100) and r.get("k") == "v" and 0 < r.ttl("k") <= 100
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "c") == ["1", "2", None]
    assert r.incrby("n", 5) == 5 and r.incrbyfloat("n", 0.5) == 5.5
    assert sorted(r.scan_iter()) == ["a", "b", "k", "n"]
    with r.pipeline() as p:
        assert p.set("x", 1).incr("x").get("x").execute() == [True, 2, "2"]
    with r.pipeline() as p:
        p.watch("x")
        r.set("x", 9)
        p.multi()
        p.set("x", 10)
        try:
            p.execute()
            raise SystemExit("the watch did not break")
        except redis.WatchError:
            pass
    assert r.info()["redis_version"].startswith("7.2")
    assert r.config_get("maxmemory") == {"maxmemory": "0"}
    assert r.client_list() and r.client_info()
    assert "get" in r.command()
    try:
        r.execute_command("NOSUCH")
        raise SystemExit("no error")
    except redis.ResponseError:
        pass
print("fine")
"#;

#[test]
fn redis_py_works() {
    let import =
        Command::new("python3").args(["-c", "import redis"]).stderr(Stdio::null()).status();
    if !import.is_ok_and(|status| status.success()) {
        println!("redis-py is not installed: its checks are left out");
        return;
    }
    let server = Server::rufous();
    let mut command = Command::new("python3");
    let output = command.args(["-c", PYTHON, &server.port.to_string()]).output();
    let output = output.expect("python was there");
    assert!(output.status.success() && said(&output) == "fine\n", "{}", said(&output));
}

/// A program on a terminal of its own.
struct Terminal {
    process: std::process::Child,
    input: std::process::ChildStdin,
    output: std::process::ChildStdout,
}

impl Terminal {
    /// What it says until it has said this.
    fn until(&mut self, mark: &str) -> String {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(mark) {
            let mut byte = [0];
            let count = self.output.read(&mut byte).expect("it is our child");
            assert!(count > 0, "it has ended with {}", String::from_utf8_lossy(&said));
            said.extend(byte);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// What it says to a line.
    fn ask(&mut self, line: &str, prompt: &str) -> String {
        writeln!(self.input, "{line}").expect("it reads");
        self.until(prompt)
    }
}

/// A session of redis-cli's debugger.
fn debugger(server: &Server, mode: &str, script: &std::path::Path) -> Terminal {
    let command = format!(
        "redis-cli -p {} {mode} --eval {} k , new",
        server.port,
        script.to_str().expect("it is text")
    );
    let mut process = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let input = process.stdin.take().expect("it is piped");
    let output = process.stdout.take().expect("it is piped");
    Terminal { process, input, output }
}

#[test]
fn redis_cli_debugs_scripts() {
    const PROMPT: &str = "lua debugger> ";
    if !is_there("redis-cli") || !is_there("script") {
        return;
    }
    let server = Server::rufous();
    let path = std::env::temp_dir().join(format!("rufous-suite-{}.lua", server.port));
    let script = "local a = redis.call('set', KEYS[1], ARGV[1])\n\
                  local n = 0\n\
                  for i = 1, 3000000 do n = n + 1 end\n\
                  return {n, redis.call('get', KEYS[1])}\n";
    std::fs::write(&path, script).expect("there is room");
    for (mode, end, left) in [
        ("--ldb", "(Lua debugging session ended -- dataset changes rolled back)", "old"),
        ("--ldb-sync-mode", "(Lua debugging session ended)", "new"),
    ] {
        server.connect().run("SET k old");
        let mut session = debugger(&server, mode, &path);
        let said = session.until(PROMPT);
        assert!(said.contains("* Stopped at 1, stop reason = step over"), "{said}");
        let said = session.ask("n", PROMPT);
        assert!(said.contains("<redis> set k new") && said.contains("* Stopped at 2"), "{said}");
        assert!(session.ask("p ARGV", PROMPT).contains("<value> {\"new\"}"));
        assert!(session.ask("b 4", PROMPT).contains("  #4   return"));
        let said = session.ask("c", PROMPT);
        assert!(said.contains("* Stopped at 4, stop reason = break point"), "{said}");
        assert!(session.ask("print n", PROMPT).contains("<value> 3e+06"));
        assert!(session.ask("e KEYS[1] .. '!'", PROMPT).contains("<retval> \"k!\""));
        assert!(session.ask("list", PROMPT).contains("->#4   return"));
        let said = session.ask("c", end);
        assert!(said.contains("3000000") && said.contains("new"), "{said}");
        session.ask("quit", "quit");
        session.process.wait().expect("it is our child");
        assert_eq!(server.connect().run("GET k"), Answer::Bulk(left.into()));
    }
    let mut session = debugger(&server, "--ldb", &path);
    session.until(PROMPT);
    session.ask("abort", "(Lua debugging session ended");
    session.ask("quit", "quit");
    session.process.wait().expect("it is our child");
    std::fs::remove_file(&path).expect("it is ours");
}
