//! The append-only log of real processes: what survives being killed, what a real Redis reads of
//! ours and we of its, and what the check says.

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::interop::is_there;
use crate::server::{RUFOUS, Server, wait_for};
use std::process::Command;

/// A number, asked for until the dataset is loaded.
fn number(client: &mut Client, line: &str) -> i64 {
    wait_for("the log is loaded", || match client.run(line) {
        Answer::Integer(number) => Some(number),
        Answer::Error(text) if text.starts_with(b"LOADING") => None,
        other => panic!("{line}: {other:?}"),
    })
}

fn digest(client: &mut Client) -> Answer {
    // DEBUG answers while a log is being loaded, too.
    number(client, "DBSIZE");
    client.run("DEBUG DIGEST")
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    for policy in ["always", "everysec", "no"] {
        let text = format!("save \"\"\nappendonly yes\nappendfsync {policy}");
        let server = Server::with_file(&text);
        let mut client = server.connect();
        let mut pipeline = Vec::new();
        for index in 0..20_000 {
            pipeline.extend(answer::encode(&["RPUSH", "log", &index.to_string()]));
        }
        let mut sender = client.writer();
        let sending = std::thread::spawn(move || sender.send(&pipeline));
        let mut acknowledged = 0;
        while acknowledged < 3_000 {
            match client.receive() {
                Some(Answer::Integer(len)) => acknowledged = len,
                other => panic!("{other:?}"),
            }
        }
        let server = server.restart();
        // Replies that were under way when the process died count, too.
        while let Some(Answer::Integer(len)) = client.receive() {
            acknowledged = len;
        }
        sending.join().expect("the sender ends");
        let found = number(&mut server.connect(), "LLEN log");
        assert!(found >= acknowledged, "{policy}: {found} of {acknowledged} are left");
    }
}

/// Fills a server with one of each, some of it behind the last rewrite.
fn fill(client: &mut Client) {
    let long = "long".repeat(3000);
    for words in [
        &["SET", "text", "some text"][..],
        &["SET", "long", &long],
        &["SET", "timed", "1", "EX", "100000"],
        &["RPUSH", "list", "a", "b", "1"],
        &["SADD", "ints", "1", "2", "70000"],
        &["HSET", "hash", "f", "v", "g", "1"],
        &["ZADD", "zset", "1.5", "a", "-inf", "b"],
        &["XADD", "stream", "1-1", "f", "v"],
        &["XADD", "stream", "2-1", "f", "v"],
        &["XGROUP", "CREATE", "stream", "group", "0"],
        &["XREADGROUP", "GROUP", "group", "me", "COUNT", "1", "STREAMS", "stream", ">"],
        &["XDEL", "stream", "2-1"],
        &["SELECT", "5"],
        &["SET", "there", "1"],
        &["SELECT", "0"],
    ] {
        assert!(!matches!(client.call(words), None | Some(Answer::Error(_))), "{words:?}");
    }
    for index in 0..300 {
        let index = index.to_string();
        client.call(&["RPUSH", "many", &index, &long[..100]]);
        client.call(&["HSET", "big", &index, &long[..index.len() * 7]]);
    }
}

fn wait_for_rewrite(client: &mut Client) {
    wait_for("the rewrite ends", || {
        let Answer::Bulk(info) = client.run("INFO persistence") else { panic!("INFO answers") };
        String::from_utf8_lossy(&info).contains("aof_rewrite_in_progress:0").then_some(())
    });
}

fn check(tool: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(tool).args(args).output().expect("the tool can be run");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

#[test]
fn a_log_moves_to_a_real_redis_and_back() {
    if !is_there("redis-server") || !is_there("redis-check-aof") {
        return;
    }
    for preamble in ["yes", "no"] {
        let text = format!(
            "save \"\"\nappendonly yes\nrdb-save-version 10\nenable-debug-command yes\n\
             aof-timestamp-enabled yes\naof-use-rdb-preamble {preamble}"
        );
        let server = Server::with_file(&text);
        let mut client = server.connect();
        fill(&mut client);
        client.run("BGREWRITEAOF");
        wait_for_rewrite(&mut client);
        // Its entries cannot come a second time.
        client.run("DEL stream");
        fill(&mut client);
        let ours = digest(&mut client);
        let manifest = server.path(MANIFEST);
        for tool in [("redis-check-aof", &[&*manifest][..]), (RUFOUS, &["--check-aof", &manifest])]
        {
            let (is_fine, said) = check(tool.0, tool.1);
            assert!(is_fine && said.contains("All AOF files and manifest are valid"), "{said}");
        }
        assert!(
            std::fs::read(server.path("appendonlydir/appendonly.aof.2.incr.aof"))
                .is_ok_and(|bytes| bytes.windows(5).any(|window| window == b"#CRC:"))
        );
        let directory = server.path("");
        let of_redis: Vec<(String, String)> =
            [("dir", &*directory), ("appendonly", "yes"), ("aof-use-rdb-preamble", preamble)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        drop(client);
        let server = server.restart();
        assert_eq!(digest(&mut server.connect()), ours, "ours from ours");
        let other = Server::start("redis-server", &of_redis);
        let mut client = other.connect();
        assert_eq!(digest(&mut client), ours, "Redis reads what we wrote");
        client.run("SET by redis");
        client.run("BGREWRITEAOF");
        wait_for_rewrite(&mut client);
        client.run("SET after rewrite");
        let theirs = digest(&mut client);
        drop(other);
        let server = server.restart();
        assert_eq!(digest(&mut server.connect()), theirs, "we read what Redis wrote");
    }
}

#[test]
fn files_without_a_manifest_are_kept() {
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    server.connect().run("SET k v");
    let path = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let written = std::fs::read(&path).expect("it was written");
    server.kill();
    std::fs::remove_file(server.path(MANIFEST)).expect("it was there");
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(number(&mut client, "DBSIZE"), 0);
    client.run("SET k w");
    assert_eq!(std::fs::read(&path).expect("it is still there"), written);
    assert!(server.file(MANIFEST).contains("appendonly.aof.2.incr.aof"));
    assert_eq!(number(&mut server.restart().connect(), "DBSIZE"), 1);
}

#[test]
fn damage_is_cut_off_or_refused_and_the_check_says_so() {
    let mut commands = Vec::new();
    for index in 0..50 {
        commands.extend(answer::encode(&["RPUSH", "log", &index.to_string()]));
    }
    let torn = &commands[..commands.len() - 3];
    let mut wrong_length = commands.clone();
    let place = commands.windows(6).position(|at| at == b"$3\r\nlo").expect("it is there");
    wrong_length.splice(place + 1..place + 2, *b"90000000");
    let mut zeros = commands.clone();
    zeros.resize(8192, 0);
    let cases = [(torn.to_vec(), Some(49)), (wrong_length, None), (zeros, Some(50))];
    for (bytes, left) in cases {
        let mut server = Server::with_file("save \"\"\nappendonly yes");
        number(&mut server.connect(), "DBSIZE");
        let name = "appendonlydir/appendonly.aof.1.incr.aof";
        let path = server.path(name);
        server.kill();
        std::fs::write(&path, &bytes).expect("the file is ours");
        let (is_fine, said) = check(RUFOUS, &["--check-aof", &server.path(MANIFEST)]);
        assert!(!is_fine && said.contains("Use the --fix option to try fixing it."), "{said}");
        let Some(left) = left else {
            let (code, said) = server.restart_expecting_failure(name, |_| ());
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("49 whole commands follow"), "{said}");
            continue;
        };
        let server = server.restart();
        assert_eq!(number(&mut server.connect(), "LLEN log"), left);
        let files = std::fs::read_dir(server.path("appendonlydir")).expect("it is there");
        let names = files.map(|file| file.expect("it can be read").file_name());
        let kept = names.filter(|name| name.to_string_lossy().contains(".incr.aof.cut-"));
        assert_eq!(kept.count(), 1);
    }
}
