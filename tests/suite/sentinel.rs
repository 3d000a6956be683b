//! Sentinels as processes: ours alone, and in one group with those of Redis, over real servers.
//!
//! The servers and the other Sentinels are those of Redis, where they are installed. What is told
//! of one machine in its own tests is not told again: here it is the wire, the file and the
//! processes.

use crate::answer::Answer;
use crate::client::Client;
use crate::interop;
use crate::server::{RUFOUS, Server, wait_for};
use std::process::{Command, Stdio};

const REDIS_SERVER: &str = "redis-server";
const REDIS_SENTINEL: &str = "redis-sentinel";

/// Whether real servers and Sentinels are there and to be used.
fn is_real_there() -> bool {
    !interop::is_skipped() && interop::is_there(REDIS_SERVER) && interop::is_there(REDIS_SENTINEL)
}

fn bulk(answer: &Answer) -> String {
    match answer {
        Answer::Bulk(text) | Answer::Simple(text) => String::from_utf8_lossy(text).into_owned(),
        other => other.print(),
    }
}

fn list(answer: Answer) -> Vec<Answer> {
    match answer {
        Answer::Array(parts) => parts,
        other => panic!("no array: {}", other.print()),
    }
}

/// The fields of a map as RESP2 has it.
fn fields(answer: Answer) -> Vec<(String, String)> {
    let texts: Vec<String> = list(answer).iter().map(bulk).collect();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn field(client: &mut Client, line: &str, name: &str) -> String {
    let found = fields(client.run(line)).into_iter().find(|(field, _)| field == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// The port at which a Sentinel says that the master is.
fn master_port(sentinel: &Server) -> u16 {
    let parts = list(sentinel.connect().run("SENTINEL GET-MASTER-ADDR-BY-NAME m"));
    bulk(&parts[1]).parse().expect("it is a port")
}

/// A master and two replicas of it.
fn servers() -> Vec<Server> {
    let master = Server::start(REDIS_SERVER, &[]);
    let of = ("replicaof".to_owned(), format!("127.0.0.1 {}", master.port));
    let replicas = (0..2).map(|_| Server::start(REDIS_SERVER, std::slice::from_ref(&of)));
    let replicas: Vec<Server> = replicas.collect();
    let mut servers = vec![master];
    servers.extend(replicas);
    let mut client = servers[0].connect();
    wait_for("both replicas are online", || {
        let info = bulk(&client.run("INFO replication"));
        (info.matches("state=online").count() == 2).then_some(())
    });
    servers
}

/// A master is down once it has been silent for longer than a busy machine makes it.
fn file(master: u16, quorum: u32) -> String {
    format!(
        "sentinel monitor m 127.0.0.1 {master} {quorum}\nsentinel down-after-milliseconds m 3000\n\
         sentinel failover-timeout m 20000\nsentinel parallel-syncs m 2\n"
    )
}

/// Waits until a Sentinel knows so many replicas and other Sentinels, and has heard of all.
fn wait_for_group(sentinel: &Server, replicas: usize, others: usize) {
    let mut client = sentinel.connect();
    wait_for("the Sentinel knows all", || {
        let fields = fields(client.run("SENTINEL MASTER m"));
        let has = |name: &str, count: usize| fields.contains(&(name.to_owned(), count.to_string()));
        let heard = list(client.run("SENTINEL REPLICAS m")).into_iter().all(|replica| {
            let fields: Vec<String> = list(replica).iter().map(bulk).collect();
            let at = fields.iter().position(|field| field == "master-link-status");
            at.is_some_and(|at| fields[at + 1] == "ok")
        });
        (has("num-slaves", replicas) && has("num-other-sentinels", others) && heard).then_some(())
    });
}

/// Waits until all Sentinels name the same master, which is another than before.
fn wait_for_switch(sentinels: &[Server], old: u16) -> u16 {
    wait_for("all Sentinels name the same new master", || {
        let ports: Vec<u16> = sentinels.iter().map(master_port).collect();
        (ports[0] != old && ports.iter().all(|port| *port == ports[0])).then_some(ports[0])
    })
}

fn wait_for_role(server: &Server, role: &str) {
    wait_for("the server has its role", || {
        // A Sentinel that gives it the role ends its connections.
        let parts = list(server.connect().call(&["ROLE"])?);
        (bulk(&parts[0]) == role).then_some(())
    });
}

#[test]
fn a_sentinel_is_no_server() {
    let sentinel = Server::sentinel(RUFOUS, "sentinel monitor m 127.0.0.1 1 2\n");
    let mut client = sentinel.connect();
    for line in
        ["GET k", "SET k v", "SELECT 0", "CONFIG GET port", "SAVE", "MULTI", "EVAL x 0", "DEBUG x"]
    {
        let said = client.run(line).print();
        assert!(said.contains("ERR unknown command"), "{line}: {said}");
    }
    let said = client.run("CLIENT NO-TOUCH ON").print();
    assert!(said.contains("ERR unknown subcommand"), "{said}");
    assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
    let hello: Vec<String> = list(client.run("HELLO 2")).iter().map(bulk).collect();
    assert!(hello.windows(2).any(|pair| pair == ["mode", "sentinel"]), "{hello:?}");
    assert!(!hello.contains(&"role".to_owned()), "{hello:?}");
    let role = list(client.run("ROLE"));
    assert_eq!(
        (bulk(&role[0]).as_str(), bulk(&list(role[1].clone())[0]).as_str()),
        ("sentinel", "m")
    );
    let refused = client.run("PUBLISH news hello").print();
    assert!(
        refused.contains("Only HELLO messages are accepted by Sentinel instances."),
        "{refused}"
    );
    assert_eq!(client.run("PUBLISH __sentinel__:hello x"), Answer::Integer(1));
    for (line, there, absent) in [
        ("INFO", "# Server\r\nredis_version", "used_memory"),
        ("INFO everything", "redis_mode:sentinel", "# Replication"),
        ("INFO sentinel", "master0:name=m,status=", "# Server"),
        ("INFO cpu", "# CPU", "# Sentinel"),
    ] {
        let info = bulk(&client.run(line));
        assert!(info.contains(there) && !info.contains(absent), "{line}: {info}");
    }
    let help: Vec<String> = list(client.run("SENTINEL HELP")).iter().map(bulk).collect();
    assert!(help[0].starts_with("SENTINEL <subcommand> "), "{help:?}");
    let said = client.run("SENTINEL SET m fake").print();
    assert!(said.contains("wrong number of arguments for 'sentinel|set' command"), "{said}");
    let said = client.run("SENTINEL NOSUCH").print();
    assert!(said.contains("ERR unknown subcommand 'NOSUCH'. Try SENTINEL HELP."), "{said}");
}

#[test]
fn a_sentinel_keeps_its_id_and_what_it_is_told_in_its_file() {
    let text = "# a comment\nsentinel down-after-milliseconds m 7000\n\n# another\n\
                sentinel monitor m 127.0.0.1 1 2\n";
    let sentinel = Server::sentinel(RUFOUS, text);
    let mut client = sentinel.connect();
    let id = bulk(&client.run("SENTINEL MYID"));
    assert_eq!(id.len(), 40);
    assert_eq!(client.run("SENTINEL MONITOR n 127.0.0.1 2 1"), Answer::Simple(b"OK".to_vec()));
    let file = sentinel.config_file();
    let kept = text.trim_end().to_owned();
    assert!(file.contains(&kept), "{file}");
    for line in [format!("sentinel myid {id}"), "sentinel monitor n 127.0.0.1 2 1".to_owned()] {
        assert!(file.lines().any(|known| known == line), "{line}: {file}");
    }
    let sentinel = sentinel.restart_sentinel(RUFOUS);
    let mut client = sentinel.connect();
    assert_eq!(bulk(&client.run("SENTINEL MYID")), id);
    assert_eq!(field(&mut client, "SENTINEL MASTER n", "quorum"), "1");
    assert_eq!(field(&mut client, "SENTINEL MASTER m", "down-after-milliseconds"), "7000");
}

#[test]
fn what_cannot_be_written_is_said_and_tried_again() {
    let sentinel = Server::sentinel(RUFOUS, "sentinel monitor m 127.0.0.1 1 2\n");
    let mut client = sentinel.connect();
    let ok = Answer::Simple(b"OK".to_vec());
    assert_eq!(client.run("SENTINEL FLUSHCONFIG"), ok);
    sentinel.hide_directory();
    let said = client.run("SENTINEL SET m quorum 3").print();
    assert!(said.contains("ERR Failed to save config file. Check server logs."), "{said}");
    sentinel.show_directory();
    wait_for("the file is written after all", || {
        sentinel.config_file().contains("sentinel monitor m 127.0.0.1 1 3").then_some(())
    });
}

#[test]
fn what_else_lies_in_its_directory_is_not_a_sentinels_business() {
    let sentinel = Server::sentinel(RUFOUS, "appendonly yes\n");
    let garbage = "no snapshot at all";
    std::fs::write(sentinel.path("dump.rdb"), garbage).expect("the directory is ours");
    let sentinel = sentinel.restart_sentinel(RUFOUS);
    assert_eq!(sentinel.file("dump.rdb"), garbage);
    assert!(sentinel.names().iter().all(|name| !name.contains("append")), "{:?}", sentinel.names());
}

#[test]
fn scripts_are_run_and_what_they_leave_open_is_theirs() {
    let script = std::env::temp_dir().join(format!("rufous-suite-{}.sh", std::process::id()));
    let told = script.with_extension("told");
    let _ = std::fs::remove_file(&told);
    let text = format!(
        "#!/bin/sh\necho \"$1|$2|$(ls -l /proc/self/fd | grep -c socket:)\" > {0}.new\n\
         mv {0}.new {0}\n",
        told.display()
    );
    std::fs::write(&script, text).expect("it is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("it is ours");
    let lines = format!(
        "sentinel monitor m 127.0.0.1 1 1\nsentinel notification-script m {}\n",
        script.display()
    );
    let sentinel = Server::sentinel(RUFOUS, &lines);
    let line = wait_for("the script has run", || std::fs::read_to_string(&told).ok());
    assert_eq!(line, "+monitor|master m 127.0.0.1 1 quorum 1|0\n", "no socket of ours is open");
    let mut client = sentinel.connect();
    wait_for("the script has ended", || {
        (client.run("SENTINEL PENDING-SCRIPTS") == Answer::Array(Vec::new())).then_some(())
    });
    let _ = std::fs::remove_file(&script);
    let _ = std::fs::remove_file(&told);
}

#[test]
fn without_a_file_of_its_own_a_sentinel_does_not_start() {
    let run = |args: &[&str]| {
        let output = Command::new(RUFOUS).args(args).stdin(Stdio::null()).output();
        let output = output.expect("the binary can be run");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = run(&["--sentinel"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("Sentinel needs config file on disk to save state. Exiting..."),
        "{said}"
    );
    let path = std::env::temp_dir().join(format!("rufous-suite-{}.conf", std::process::id()));
    std::fs::write(&path, "port 1\nsentinel down-after-milliseconds x 1\n").expect("it is ours");
    let (code, said) = run(&["--sentinel", &path.display().to_string()]);
    std::fs::remove_file(&path).expect("it is ours");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("at line 2\n>>> 'sentinel down-after-milliseconds x 1'\nNo such master with"),
        "{said}"
    );
}

/// A server that answers whoever connects with this, whatever it is asked, and hangs up.
fn liar(answer: &'static [u8]) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it listens").port();
    let met = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&met);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who has hung up already has heard enough.
            let _ = stream.and_then(|mut stream| std::io::Write::write_all(&mut stream, answer));
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    (port, met)
}

#[test]
fn peers_that_talk_nonsense_are_down_and_do_no_harm() {
    // More than any reply may have, and no end of it.
    let endless = [&b"$9223372036854775807\r\n"[..], &vec![b'x'; 16 << 20]].concat();
    let peers = [
        liar(endless.leak()),
        liar(b"$9223372036854775807\r\nx"),
        liar(b"*1000000000\r\n*1000000000\r\n:1\r\n"),
        liar(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        liar(b"\x00\xff\r\n"),
        liar(b"+OK\r\n-ERR max number of clients reached\r\n-ERR x\r\n"),
        liar(b""),
    ];
    let lines = peers.iter().enumerate().map(|(at, (port, _))| {
        format!(
            "sentinel monitor m{at} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds m{at} 1000\n"
        )
    });
    let sentinel = Server::sentinel(RUFOUS, &lines.collect::<String>());
    for (at, (_, met)) in peers.iter().enumerate() {
        let mut client = sentinel.connect();
        wait_for("the peer is met twice, and down", || {
            let flags = field(&mut client, &format!("SENTINEL MASTER m{at}"), "flags");
            let times = met.load(std::sync::atomic::Ordering::Relaxed);
            (flags.contains("s_down") && times >= 2).then_some(())
        });
    }
}

#[test]
fn clients_hear_what_happens() {
    let sentinel = Server::sentinel(RUFOUS, "");
    let (mut client, mut listener) = (sentinel.connect(), sentinel.connect());
    listener.run("PSUBSCRIBE *");
    client.run("SENTINEL MONITOR m 127.0.0.1 1 1");
    let heard: Vec<String> =
        list(listener.receive().expect("it is told")).iter().map(bulk).collect();
    assert_eq!(heard, ["pmessage", "*", "+monitor", "master m 127.0.0.1 1 quorum 1"]);
}

#[test]
fn one_of_ours_fails_real_servers_over() {
    if !is_real_there() {
        return;
    }
    let mut servers = servers();
    let old = servers[0].port;
    let sentinel = Server::sentinel(RUFOUS, &file(old, 1));
    wait_for_group(&sentinel, 2, 0);
    let mut client = sentinel.connect();
    // By hand first: the old master lives and becomes a replica.
    assert_eq!(client.run("SENTINEL FAILOVER m"), Answer::Simple(b"OK".to_vec()));
    let second = wait_for_switch(std::slice::from_ref(&sentinel), old);
    wait_for_role(&servers[0], "slave");
    wait_for_group(&sentinel, 2, 0);
    // Then by force.
    let at = servers.iter().position(|server| server.port == second).expect("it is one of them");
    servers[at].kill();
    let third = wait_for_switch(std::slice::from_ref(&sentinel), second);
    let new = servers.iter().find(|server| server.port == third).expect("it is one of them");
    wait_for_role(new, "master");
    let other = servers.iter().find(|server| ![second, third].contains(&server.port));
    let other = other.expect("there are three");
    wait_for("the other one follows", || {
        let info = bulk(&other.connect().call(&["INFO", "replication"])?);
        info.contains(&format!("master_port:{third}\r\n")).then_some(())
    });
    assert_eq!(field(&mut client, "SENTINEL MASTER m", "config-epoch"), "2");
}

/// Three of our servers, of which the first leads.
fn our_servers() -> Vec<Server> {
    let text = "repl-diskless-sync-delay 0\nsave \"\"";
    let servers: Vec<Server> = (0..3).map(|_| Server::with_file(text)).collect();
    let port = servers[0].port.to_string();
    for replica in &servers[1..] {
        replica.connect().call(&["REPLICAOF", "127.0.0.1", &port]);
    }
    let mut client = servers[0].connect();
    wait_for("both replicas are online", || {
        let info = bulk(&client.run("INFO replication"));
        (info.matches("state=online").count() == 2).then_some(())
    });
    servers
}

/// Three Sentinels of this program fail our servers over, by hand and when one is killed, and the
/// old primary that comes back follows the new one and has its data.
fn fail_ours_over(program: &str) {
    let mut servers = our_servers();
    let first = servers[0].port;
    let sentinels: Vec<Server> =
        (0..3).map(|_| Server::sentinel(program, &file(first, 2))).collect();
    sentinels.iter().for_each(|sentinel| wait_for_group(sentinel, 2, 2));
    servers[0].connect().run("SET k 1");
    let mut client = sentinels[0].connect();
    assert_eq!(client.run("SENTINEL FAILOVER m"), Answer::Simple(b"OK".to_vec()));
    let second = wait_for_switch(&sentinels, first);
    wait_for_role(&servers[0], "slave");
    sentinels.iter().for_each(|sentinel| wait_for_group(sentinel, 2, 2));
    let at = servers.iter().position(|server| server.port == second).expect("it is one of them");
    servers[at].connect().run("SET k 2");
    wait_for("all have it", || {
        let mut values = servers.iter().map(|server| bulk(&server.connect().run("GET k")));
        values.all(|value| value == "2").then_some(())
    });
    servers[at].kill();
    let third = wait_for_switch(&sentinels, second);
    let new = servers.iter().find(|server| server.port == third).expect("it is one of them");
    wait_for_role(new, "master");
    new.connect().run("SET k 3");
    let back = servers.remove(at).restart();
    wait_for_role(&back, "slave");
    wait_for("it has what was written since", || {
        (bulk(&back.connect().call(&["GET", "k"])?) == "3").then_some(())
    });
}

#[test]
fn ours_fail_our_servers_over() {
    fail_ours_over(RUFOUS);
}

#[test]
fn real_ones_fail_our_servers_over() {
    if is_real_there() {
        fail_ours_over(REDIS_SENTINEL);
    }
}

/// A group of ours and real ones over real servers: all agree on who is down and on who leads.
fn mixed_group(programs: [&str; 3]) -> (Vec<Server>, Vec<Server>) {
    let mut servers = servers();
    let old = servers[0].port;
    let sentinels: Vec<Server> =
        programs.iter().map(|program| Server::sentinel(program, &file(old, 2))).collect();
    sentinels.iter().for_each(|sentinel| wait_for_group(sentinel, 2, 2));
    servers[0].kill();
    let new = wait_for_switch(&sentinels, old);
    let promoted = servers.iter().find(|server| server.port == new).expect("it is one of them");
    wait_for_role(promoted, "master");
    for sentinel in &sentinels {
        let mut client = sentinel.connect();
        wait_for("the failover is over", || {
            (field(&mut client, "SENTINEL MASTER m", "port") == new.to_string()).then_some(())
        });
    }
    (servers, sentinels)
}

#[test]
fn ours_lead_and_follow_in_a_group_with_real_ones() {
    if !is_real_there() {
        return;
    }
    let (_servers, sentinels) = mixed_group([RUFOUS, REDIS_SENTINEL, RUFOUS]);
    // One of ours leads, and then the real one.
    for leader in [0, 1] {
        let old = master_port(&sentinels[leader]);
        let mut client = sentinels[leader].connect();
        wait_for("a replica can be promoted", || {
            let answer = client.run("SENTINEL FAILOVER m");
            (answer == Answer::Simple(b"OK".to_vec())).then_some(())
        });
        wait_for_switch(&sentinels, old);
        for sentinel in &sentinels {
            let mut client = sentinel.connect();
            wait_for("the failover is over", || {
                let flags = field(&mut client, "SENTINEL MASTER m", "flags");
                (!flags.contains("failover")).then_some(())
            });
        }
    }
    let mut epochs: Vec<String> = (sentinels.iter())
        .map(|sentinel| field(&mut sentinel.connect(), "SENTINEL MASTER m", "config-epoch"))
        .collect();
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
}

/// Commands that are answered alike whatever the group has been through.
const ALIKE: &[&str] = &[
    "SENTINEL MASTER x",
    "SENTINEL REPLICAS",
    "SENTINEL NOSUCH",
    "SENTINEL FAILOVER x",
    "SENTINEL MONITOR m 127.0.0.1 1 1",
    "SENTINEL MONITOR x 127.0.0.1 y 1",
    "SENTINEL MONITOR x 127.0.0.1 1 0",
    "SENTINEL MONITOR x nowhere 1 1",
    "SENTINEL MONITOR x 127.0.0.1 70000 1",
    "SENTINEL GET-MASTER-ADDR-BY-NAME x",
    "SENTINEL SET m quorum 0",
    "SENTINEL SET m nosuch 1",
    "SENTINEL SET m quorum",
    "SENTINEL CKQUORUM m",
    "SENTINEL CKQUORUM x",
    "SENTINEL RESET x",
    "SENTINEL PENDING-SCRIPTS",
    "SENTINEL SIMULATE-FAILURE HELP",
    "SENTINEL SIMULATE-FAILURE x",
    "SENTINEL DEBUG x 1",
    "SENTINEL DEBUG ping-period 0",
    "SENTINEL INFO-CACHE x",
    "PUBLISH a b",
    "GET k",
    "ROLE",
    "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *",
    "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *",
    "SENTINEL SET m notification-script /bin/true",
    "CLIENT NO-TOUCH ON",
];

/// What a Sentinel keeps in its file of a master, and its id.
fn state(sentinel: &Server) -> (Vec<(String, String)>, String) {
    let fields = fields(sentinel.connect().run("SENTINEL MASTER m"));
    const KEPT: &[&str] = &[
        "name",
        "ip",
        "port",
        "down-after-milliseconds",
        "config-epoch",
        "num-slaves",
        "num-other-sentinels",
        "quorum",
        "failover-timeout",
        "parallel-syncs",
    ];
    let kept = fields.into_iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
    (kept.collect(), bulk(&sentinel.connect().run("SENTINEL MYID")))
}

#[test]
fn real_ones_and_ours_read_each_others_files_and_answer_alike() {
    if !is_real_there() {
        return;
    }
    let (_servers, mut sentinels) = mixed_group([REDIS_SENTINEL, RUFOUS, REDIS_SENTINEL]);
    let names = |sentinel: &Server, line: &str| -> Vec<String> {
        let mut answer = sentinel.connect().run(line);
        if line != "SENTINEL MASTER m" {
            answer = list(answer).remove(0);
        }
        // What depends on the moment is there or not.
        const PASSING: &[&str] = &["s-down-time", "o-down-time", "failover-state"];
        let names = fields(answer).into_iter().map(|(name, _)| name);
        names.filter(|name| !PASSING.contains(&name.as_str())).collect()
    };
    for line in
        ["SENTINEL MASTER m", "SENTINEL MASTERS", "SENTINEL REPLICAS m", "SENTINEL SENTINELS m"]
    {
        assert_eq!(names(&sentinels[1], line), names(&sentinels[0], line), "{line}");
    }
    for line in ALIKE {
        let [theirs, ours] = [0, 1].map(|at| sentinels[at].connect().run(line).print());
        assert_eq!(ours, theirs, "{line}");
    }
    let before: Vec<_> = sentinels.iter().map(state).collect();
    let ours = sentinels.remove(1).restart_sentinel(REDIS_SENTINEL);
    let theirs = sentinels.remove(0).restart_sentinel(RUFOUS);
    assert_eq!(state(&ours), before[1], "{}", ours.config_file());
    assert_eq!(state(&theirs), before[0], "{}", theirs.config_file());
}
