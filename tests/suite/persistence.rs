//! What outlives a process: snapshots taken on demand, by save points and at the end.

use crate::answer::Answer;
use crate::client::Client;
use crate::server::{self, Server};
use std::process::Command;

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn text(client: &mut Client, words: &[&str]) -> String {
    match client.call(words) {
        Some(Answer::Bulk(bytes) | Answer::Simple(bytes) | Answer::Error(bytes)) => {
            String::from_utf8_lossy(&bytes).into_owned()
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

/// A field of INFO.
fn info(client: &mut Client, field: &str) -> String {
    let report = text(client, &["INFO", "everything"]);
    let line = report.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} is not told")).to_owned()
}

/// Asks until a field has a value.
fn wait_for(client: &mut Client, field: &str, value: &str) {
    let what = format!("INFO says {field}:{value}");
    server::wait_for(&what, || (info(client, field) == value).then_some(()));
}

/// One of each kind, of several encodings.
fn fill(client: &mut Client) {
    let long = "long ".repeat(1000);
    for words in [
        &["SET", "int", "12345"][..],
        &["SET", "text", "some text"],
        &["SET", "long", &long],
        &["SET", "timed", "1", "EX", "100000"],
        &["RPUSH", "list", "a", "b", "1", &long],
        &["SADD", "ints", "1", "2", "70000"],
        &["SADD", "words", "a", "b"],
        &["HSET", "hash", "f", "v", "g", "1"],
        &["ZADD", "zset", "1.5", "a", "-inf", "b"],
        &["XADD", "stream", "1-1", "f", "v"],
        &["XGROUP", "CREATE", "stream", "group", "0"],
        &["XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream", ">"],
        &["PFADD", "hll", "a", "b", "c"],
    ] {
        assert!(!matches!(client.call(words), None | Some(Answer::Error(_))), "{words:?}");
    }
    client.call(&["SELECT", "9"]);
    for index in 0..1000 {
        let index = index.to_string();
        client.call(&["HSET", "big", &index, "value"]);
        client.call(&["ZADD", "scores", &index, &index]);
        client.call(&["SADD", "members", &format!("member:{index}")]);
        client.call(&["RPUSH", "queue", &index, &long]);
    }
    client.call(&["SELECT", "0"]);
}

const NEVER_BY_ITSELF: &str = "save \"\"\nenable-debug-command yes\n";

#[test]
fn what_was_saved_is_there_after_a_kill() {
    let server = Server::with_file(NEVER_BY_ITSELF);
    let mut client = server.connect();
    fill(&mut client);
    let digest = text(&mut client, &["DEBUG", "DIGEST"]);
    assert_eq!(client.call(&["SAVE"]), Some(ok()));
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    client.call(&["SET", "late", "1"]);
    let server = server.restart();
    let mut client = server.connect();
    wait_for(&mut client, "loading", "0");
    assert_eq!(text(&mut client, &["DEBUG", "DIGEST"]), digest);
    assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), "15");
    assert_eq!(client.call(&["EXISTS", "late"]), Some(Answer::Integer(0)));
}

#[test]
fn bgsave_goes_on_beside_writes_and_holds_what_was_there_when_it_began() {
    const KEYS: &str = "20000";
    let server = Server::with_file(&format!("{NEVER_BY_ITSELF}rdb-key-save-delay 20\n"));
    let mut client = server.connect();
    client.call(&["DEBUG", "POPULATE", KEYS]);
    let digest = text(&mut client, &["DEBUG", "DIGEST"]);
    assert_eq!(text(&mut client, &["BGSAVE"]), "Background saving started");
    assert_eq!(text(&mut client, &["BGSAVE"]), "ERR Background save already in progress");
    assert_eq!(info(&mut client, "rdb_bgsave_in_progress"), "1");
    assert_eq!(info(&mut client, "current_save_keys_total"), KEYS);
    let mut written = 0;
    while info(&mut client, "rdb_bgsave_in_progress") == "1" {
        client.call(&["SET", &format!("key:{}", written % 20_000), "changed"]);
        client.call(&["SET", &format!("new:{written}"), "value"]);
        written += 1;
    }
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), (2 * written).to_string());
    let server = server.restart();
    let mut client = server.connect();
    wait_for(&mut client, "loading", "0");
    assert_eq!(text(&mut client, &["DEBUG", "DIGEST"]), digest);
}

#[test]
fn a_save_can_be_called_off() {
    let server = Server::with_file(&format!("{NEVER_BY_ITSELF}rdb-key-save-delay 10000\n"));
    let mut client = server.connect();
    let none = "ERR Background saving is currently not in progress or scheduled";
    assert_eq!(text(&mut client, &["BGSAVE", "CANCEL"]), none);
    client.call(&["DEBUG", "POPULATE", "1000"]);
    text(&mut client, &["BGSAVE"]);
    assert_eq!(text(&mut client, &["BGSAVE", "CANCEL"]), "Background saving cancelled");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
    // The save is over at once, and its file when the thread that writes it has noticed.
    let is_gone = || server.names().iter().all(|name| !name.ends_with(".rdb")).then_some(());
    server::wait_for("the unfinished file is removed", is_gone);
}

#[test]
fn a_save_point_saves() {
    let server = Server::with_file("save 1 5\nhz 100\n");
    let mut client = server.connect();
    for index in 0..5 {
        client.call(&["SET", &format!("k{index}"), "v"]);
    }
    wait_for(&mut client, "rdb_saves", "1");
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
}

#[test]
fn the_end_saves_if_there_are_save_points_or_it_is_told_to() {
    for (points, words, is_saved) in [
        ("save 3600 1\n", &["SHUTDOWN"][..], true),
        ("save 3600 1\n", &["SHUTDOWN", "NOSAVE"], false),
        ("save \"\"\n", &["SHUTDOWN"], false),
        ("save \"\"\n", &["SHUTDOWN", "SAVE"], true),
    ] {
        let mut server = Server::with_file(points);
        let mut client = server.connect();
        client.call(&["SET", "k", "v"]);
        assert_eq!(client.call(words), None, "{words:?}");
        assert_eq!(server.wait(), Some(0));
        let has_file = server.names().contains(&"dump.rdb".to_owned());
        assert_eq!(has_file, is_saved, "{points} {words:?}");
    }
}

#[test]
fn a_signal_saves_too() {
    let mut server = Server::with_file("save 3600 1\n");
    server.connect().call(&["SET", "k", "v"]);
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(server.wait(), Some(0));
    assert!(server.names().contains(&"dump.rdb".to_owned()));
}

#[test]
fn a_directory_that_is_gone_fails_the_save_and_the_writes_until_it_is_back() {
    let server = Server::with_file("save 3600 1\nhz 100\n");
    let mut client = server.connect();
    client.call(&["SET", "k", "v"]);
    server.hide_directory();
    text(&mut client, &["BGSAVE"]);
    wait_for(&mut client, "rdb_last_bgsave_status", "err");
    let refused = text(&mut client, &["SET", "k", "w"]);
    assert!(refused.starts_with("MISCONF Redis is configured to save RDB snapshots"), "{refused}");
    assert_eq!(text(&mut client, &["PING"]), refused);
    assert_eq!(text(&mut client, &["GET", "k"]), "v");
    assert_eq!(text(&mut client, &["SHUTDOWN"]), "ERR Errors trying to SHUTDOWN. Check logs.");
    server.show_directory();
    assert_eq!(client.call(&["SAVE"]), Some(ok()));
    assert_eq!(client.call(&["SET", "k", "w"]), Some(ok()));
    assert_eq!(client.call(&["PING"]), Some(Answer::Simple(b"PONG".to_vec())));
}

#[test]
fn clients_are_told_while_the_dataset_is_read() {
    let server = Server::with_file(NEVER_BY_ITSELF);
    let mut client = server.connect();
    client.call(&["DEBUG", "POPULATE", "20000"]);
    client.call(&["SAVE"]);
    let server =
        server.restart_with("key-load-delay 100\nloading-process-events-interval-bytes 1024\n");
    let mut client = server.connect();
    assert_eq!(info(&mut client, "loading"), "1");
    let loading = "LOADING Redis is loading the dataset in memory";
    assert_eq!(text(&mut client, &["GET", "key:1"]), loading);
    assert_eq!(text(&mut client, &["CONFIG", "SET", "appendonly", "no"]), loading);
    assert!(info(&mut client, "loading_total_bytes").parse::<u64>().is_ok_and(|n| n > 0));
    let pid = server.pid().to_string();
    let mut server = server;
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_damaged_file_keeps_the_server_from_starting() {
    let server = Server::with_file(NEVER_BY_ITSELF);
    let mut client = server.connect();
    fill(&mut client);
    client.call(&["SAVE"]);
    let (code, log) = server.restart_expecting_failure("dump.rdb", |bytes| {
        bytes.truncate(bytes.len() / 2);
    });
    assert_eq!(code, Some(1));
    assert!(
        log.contains("Short read or OOM loading DB. Unrecoverable error, aborting now."),
        "{log}"
    );
}

#[test]
fn when_flushall_answers_the_file_is_empty_too() {
    let server = Server::with_file("save 3600 1\n");
    let mut client = server.connect();
    fill(&mut client);
    client.call(&["SAVE"]);
    assert_eq!(client.call(&["FLUSHALL"]), Some(ok()));
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    let server = server.restart();
    let mut client = server.connect();
    wait_for(&mut client, "loading", "0");
    assert_eq!(client.call(&["DBSIZE"]), Some(Answer::Integer(0)));
}

#[test]
fn flushall_calls_a_save_off() {
    let server = Server::with_file(&format!("{NEVER_BY_ITSELF}rdb-key-save-delay 1000000\n"));
    let mut client = server.connect();
    client.call(&["DEBUG", "POPULATE", "1000"]);
    text(&mut client, &["BGSAVE"]);
    assert_eq!(client.call(&["FLUSHALL"]), Some(ok()));
    wait_for(&mut client, "rdb_bgsave_in_progress", "0");
    assert_ne!(info(&mut client, "rdb_changes_since_last_save"), "0");
}

#[test]
fn the_end_waits_for_the_first_base_of_an_aof_unless_by_force() {
    let mut server = Server::with_file(&format!("{NEVER_BY_ITSELF}rdb-key-save-delay 1000000\n"));
    let mut client = server.connect();
    client.call(&["DEBUG", "POPULATE", "1000"]);
    assert_eq!(client.call(&["CONFIG", "SET", "appendonly", "yes"]), Some(ok()));
    wait_for(&mut client, "aof_rewrite_in_progress", "1");
    assert_eq!(text(&mut client, &["SHUTDOWN"]), "ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(client.call(&["SHUTDOWN", "FORCE"]), None);
    assert_eq!(server.wait(), Some(0));
}
