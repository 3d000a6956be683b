//! A dataset that a real Redis made moves to Rufous and back, by snapshot and by log.
//!
//! At each step the digests are equal, and so is what a digest does not see: groups, what is
//! pending in them, expiry. The check tools of both call the files of both valid.

use crate::answer::Answer;
use crate::client::Client;
use crate::interop::is_there;
use crate::rdb;
use crate::server::{RUFOUS, Server, wait_for};
use std::path::PathBuf;
use std::process::Command;

const TOOLS: [&str; 3] = ["redis-server", "redis-check-rdb", "redis-check-aof"];
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

/// A directory of the test's own, removed with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("rufous-migration-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Place(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Starts a server over the files that are here, and waits until it has read them.
    fn start(&self, binary: &str, directives: &[(&str, &str)]) -> Server {
        let directory = self.0.display().to_string();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut all: Vec<(String, String)> = directives.iter().map(own).collect();
        all.push(("dir".to_owned(), directory));
        if binary == RUFOUS {
            all.push(("rdb-save-version".to_owned(), "10".to_owned()));
        }
        let server = Server::start(binary, &all);
        let mut client = server.connect();
        wait_for("the dataset is loaded", || {
            (!matches!(client.run("DBSIZE"), Answer::Error(_))).then_some(())
        });
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a value of each type and encoding, groups with pending entries, and expiries.
fn fill(client: &mut Client) {
    for case in rdb::cases() {
        for command in &case.commands {
            client.call(command);
        }
        client.call(&["RENAME", "k", &case.name]);
    }
    client.run("SELECT 3");
    for index in 0..120 {
        client.run(&format!("XADD orders {}-1 id {index}", 1000 + index));
    }
    for line in [
        "XGROUP CREATE orders packers 0",
        "XGROUP CREATE orders late $",
        "XGROUP CREATE empty packers $ MKSTREAM",
        "XREADGROUP GROUP packers anna COUNT 15 STREAMS orders >",
        "XREADGROUP GROUP packers bert COUNT 5 STREAMS orders >",
        "XGROUP CREATECONSUMER orders packers idle",
        "XACK orders packers 1001-1 1003-1 1016-1",
        "XCLAIM orders packers bert 0 1005-1 RETRYCOUNT 7",
        "XDEL orders 1050-1 1060-1",
        "SET soon x PXAT 4102444800123",
        "HSET timed f v",
        "PEXPIREAT timed 4102444800456",
        "SADD gone x",
        "PEXPIRE gone 1",
    ] {
        assert!(!matches!(client.run(line), Answer::Error(_)), "{line}");
    }
    wait_for("the key expires", || (client.run("EXISTS gone") == Answer::Integer(0)).then_some(()));
    client.run("SELECT 0");
}

/// Writes that end up in an increment of the log.
fn change(client: &mut Client, mark: &str) {
    client.run("SELECT 3");
    client.run(&format!("RPUSH marks {mark}"));
    client.run("XREADGROUP GROUP packers anna COUNT 2 STREAMS orders >");
    client.run(&format!("SET mark:{mark} 1 EX 100000"));
    client.run("SELECT 0");
}

/// Rows of fields, without some of the fields.
fn rows(answer: Answer, is_kept: impl Fn(usize) -> bool) -> Vec<Answer> {
    let Answer::Array(rows) = answer else { panic!("{answer:?} are no rows") };
    let fields = |row| match row {
        Answer::Array(fields) => fields,
        other => panic!("{other:?} is no row"),
    };
    let numbered = rows.into_iter().flat_map(|row| fields(row).into_iter().enumerate());
    numbered.filter(|(index, _)| is_kept(*index)).map(|(_, field)| field).collect()
}

/// All that must be the same after a move. Times since an event go on, and Redis's log does not
/// say how many entries a group has read.
fn facts(client: &mut Client) -> Vec<Answer> {
    let mut facts = vec![client.run("DEBUG DIGEST"), client.run("DBSIZE")];
    client.run("SELECT 3");
    for line in [
        "DBSIZE",
        "XPENDING orders packers",
        "PEXPIRETIME soon",
        "PEXPIRETIME timed",
        "XLEN orders",
    ] {
        facts.push(client.run(line));
    }
    for line in ["XINFO GROUPS orders", "XINFO GROUPS empty"] {
        facts.extend(rows(client.run(line), |field| field < 8));
    }
    facts.extend(rows(client.run("XINFO CONSUMERS orders packers"), |field| field < 4));
    facts.extend(rows(client.run("XPENDING orders packers - + 1000"), |field| field != 2));
    client.run("SELECT 0");
    facts
}

/// Has the log rewritten and waits for it.
fn rewrite(client: &mut Client) {
    client.run("BGREWRITEAOF");
    let is_done = |info: &str| {
        ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_bgrewrite_status:ok"]
            .iter()
            .all(|line| info.contains(line))
    };
    wait_for("the saving ends", || {
        let Answer::Bulk(info) = client.run("INFO persistence") else { panic!("INFO answers") };
        is_done(&String::from_utf8_lossy(&info)).then_some(())
    });
}

fn assert_valid(tool: &str, args: &[&str], line: &str) {
    let output = Command::new(tool).args(args).output().expect("the tool can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains(line), "{tool} {args:?}: {said}");
}

fn check_snapshot(place: &Place) {
    let path = place.path("dump.rdb");
    assert_valid("redis-check-rdb", &[&path], "\\o/ RDB looks OK! \\o/");
    assert_valid(RUFOUS, &["--check-rdb", &path], "\\o/ RDB looks OK! \\o/");
}

fn check_aof(place: &Place) {
    let path = place.path(MANIFEST);
    assert_valid("redis-check-aof", &[&path], "All AOF files and manifest are valid");
    assert_valid(RUFOUS, &["--check-aof", &path], "All AOF files and manifest are valid");
}

fn are_installed() -> bool {
    TOOLS.iter().all(|tool| is_there(tool))
}

#[test]
fn a_dataset_moves_by_snapshot_and_back() {
    if !are_installed() {
        return;
    }
    let place = Place::new("rdb");
    let mut expected = Vec::new();
    for (binary, mark) in [("redis-server", "1"), (RUFOUS, "2"), ("redis-server", "3")] {
        let server = place.start(binary, &[]);
        let mut client = server.connect();
        if expected.is_empty() {
            fill(&mut client);
            client.run("SELECT 3");
            // Commands cannot say that a deleted entry is pending; a snapshot can.
            assert_eq!(client.run("XDEL orders 1007-1"), Answer::Integer(1));
            client.run("SELECT 0");
        } else {
            assert_eq!(facts(&mut client), expected, "as {binary} has loaded it");
        }
        change(&mut client, mark);
        expected = facts(&mut client);
        assert_eq!(client.run("SAVE"), Answer::Simple(b"OK".to_vec()));
        check_snapshot(&place);
    }
    let server = place.start(RUFOUS, &[]);
    assert_eq!(facts(&mut server.connect()), expected);
}

#[test]
fn a_dataset_moves_by_aof_and_back() {
    if !are_installed() {
        return;
    }
    for preamble in ["yes", "no"] {
        let place = Place::new(preamble);
        // With `everysec`, Redis answers before it writes while it syncs, and would lose that.
        let policy = ("appendfsync", "always");
        let directives = [("appendonly", "yes"), ("aof-use-rdb-preamble", preamble), policy];
        let mut expected = Vec::new();
        for (binary, mark) in [("redis-server", "1"), (RUFOUS, "2"), ("redis-server", "3")] {
            let server = place.start(binary, &directives);
            let mut client = server.connect();
            if expected.is_empty() {
                fill(&mut client);
            } else {
                let found = facts(&mut client);
                assert_eq!(found, expected, "as {binary} has loaded it, preamble {preamble}");
            }
            rewrite(&mut client);
            change(&mut client, mark);
            expected = facts(&mut client);
            drop(server);
            check_aof(&place);
        }
        let server = place.start(RUFOUS, &directives);
        assert_eq!(facts(&mut server.connect()), expected, "preamble {preamble}");
    }
}
