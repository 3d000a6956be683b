//! The append-only file of real processes: what survives being killed, what a real Redis reads of
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

/// The digest of the dataset when all of it is loaded; Redis answers before, too.
fn digest(client: &mut Client) -> Answer {
    // DEBUG answers while an AOF is being loaded, too.
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
        &["DEL", "stream"][..],
        &["SET", "text", "some text"],
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

/// Asks for INFO until it has a line.
fn wait_for_info(client: &mut Client, line: &str) {
    wait_for(line, || {
        let Answer::Bulk(info) = client.run("INFO persistence") else { panic!("INFO answers") };
        String::from_utf8_lossy(&info).contains(line).then_some(())
    });
}

fn wait_for_rewrite(client: &mut Client) {
    wait_for_info(client, "aof_rewrite_in_progress:0");
}

fn check(tool: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(tool).args(args).output().expect("the tool can be run");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

#[test]
fn an_aof_moves_to_a_real_redis_and_back() {
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
                .is_ok_and(|bytes| bytes.windows(5).any(|window| window == b"#MARK"))
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

/// A snapshot and the base of an AOF hold libraries in one form; one that cannot be loaded is said
/// to be the reason why the server does not start.
#[test]
fn a_library_that_cannot_be_loaded_keeps_the_server_from_starting() {
    const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    const BASE: &str = "appendonlydir/appendonly.aof.2.base.rdb";
    for (directives, file, last) in [
        ("save \"\"", "dump.rdb", "Fatal error loading the DB, check server logs. Exiting."),
        (
            "save \"\"\nappendonly yes",
            BASE,
            "Error reading the RDB base file appendonly.aof.2.base.rdb, AOF loading aborted",
        ),
    ] {
        let server = Server::with_file(&format!("{directives}\nrdbchecksum no\n"));
        let mut client = server.connect();
        client.call(&["FUNCTION", "LOAD", LIBRARY]);
        client.run("SAVE");
        if file == BASE {
            client.run("BGREWRITEAOF");
            wait_for_rewrite(&mut client);
        }
        let (code, log) = server.restart_expecting_failure(file, |bytes| {
            let at = bytes.windows(17).position(|window| window == b"register_function");
            bytes[at.expect("the library is in it")] = b'x';
        });
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("Failed loading library, Error registering functions: "), "{log}");
        assert!(log.contains(last), "{log}");
    }
}

#[test]
fn a_lost_manifest_ends_the_start_and_the_files_are_named_and_kept() {
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    server.connect().run("SET k v");
    let name = "appendonlydir/appendonly.aof.1.incr.aof";
    server.kill();
    std::fs::remove_file(server.path(MANIFEST)).expect("it was there");
    let (code, said) = server.restart_expecting_failure(name, |_| ());
    assert_eq!(code, Some(1), "{said}");
    for file in ["appendonly.aof.manifest", "appendonly.aof.1.base.rdb, appendonly.aof.1.incr.aof"]
    {
        assert!(said.contains(file), "{said}");
    }
}

#[test]
fn files_without_a_manifest_are_not_written_over_by_a_server_without_an_aof() {
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    server.connect().run("SET k v");
    let path = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    server.kill();
    let written = std::fs::read(&path).expect("it was written");
    std::fs::remove_file(server.path(MANIFEST)).expect("it was there");
    let text = server.config_file().replace("appendonly yes", "appendonly no");
    std::fs::write(server.path("redis.conf"), text).expect("the file is ours");
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(number(&mut client, "DBSIZE"), 0);
    client.run("SET k w");
    client.run("CONFIG SET appendonly yes");
    wait_for_rewrite(&mut client);
    assert_eq!(std::fs::read(&path).expect("it is still there"), written);
    assert!(server.file(MANIFEST).contains("appendonly.aof.2.incr.aof"));
    let server = server.restart_with("appendonly yes\n");
    assert_eq!(number(&mut server.connect(), "DBSIZE"), 1);
}

#[test]
fn zeros_are_data_after_an_orderly_end_whoever_wrote_them() {
    let zeros = vec![0; 20_000];
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    let mut client = server.connect();
    client.call(&[&b"SET"[..], b"first", &zeros]);
    client.run("CONFIG SET aof-checksum no");
    client.call(&[&b"SET"[..], b"second", &zeros]);
    client.run("SET third v");
    client.send(&answer::encode(&["SHUTDOWN"]));
    assert_eq!(server.wait(), Some(0));
    let path = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let mut bytes = std::fs::read(&path).expect("it was written");
    // So would Redis go on in the file.
    bytes.extend(answer::encode(&[&b"SELECT"[..], b"0"]));
    bytes.extend(answer::encode(&[&b"SET"[..], b"fourth", &zeros]));
    bytes.extend(answer::encode(&[&b"SET"[..], b"fifth", b"v"]));
    std::fs::write(&path, bytes).expect("the file is ours");
    let server = server.restart();
    assert_eq!(number(&mut server.connect(), "DBSIZE"), 5);
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(number(&mut client, "DBSIZE"), 5);
    assert_eq!(client.run("GET fourth"), Answer::Bulk(zeros));
    let files = std::fs::read_dir(server.path("appendonlydir")).expect("it is there");
    let names = files.map(|file| file.expect("it can be read").file_name());
    let mut cut = names.filter(|name| name.to_string_lossy().contains(".cut-"));
    assert_eq!(cut.next(), None, "nothing was cut off");
}

/// What an earlier build has accepted and written is bounded, and no field lives for ever by it.
#[test]
fn a_time_of_a_field_that_is_refused_today_is_bounded_in_an_aof() {
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    let mut client = server.connect();
    client.run("HSET h f v");
    client.send(&answer::encode(&["SHUTDOWN"]));
    assert_eq!(server.wait(), Some(0));
    let path = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let mut bytes = std::fs::read(&path).expect("it was written");
    let time = i64::MAX.to_string();
    bytes.extend(answer::encode(&["HPEXPIREAT", "h", &time, "FIELDS", "1", "f"]));
    std::fs::write(&path, bytes).expect("the file is ours");
    let server = server.restart();
    assert_eq!(number(&mut server.connect(), "DBSIZE"), 1);
    let answer = server.connect().run("HPEXPIRETIME h FIELDS 1 f");
    assert_eq!(answer, Answer::Array(vec![Answer::Integer((1 << 46) - 1)]));
}

#[test]
fn an_end_while_the_disk_takes_nothing_is_an_error_and_loses_nothing_acknowledged() {
    let server = Server::with_file("save \"\"\nappendonly yes");
    // Files cannot grow beyond some ten thousand bytes.
    let mut server = server.restart_under("ulimit -f 64; trap '' XFSZ");
    let mut client = server.connect();
    assert_eq!(number(&mut client, "DBSIZE"), 0);
    let value = "v".repeat(1000);
    for index in 0..20 {
        let reply = client.call(&["SET", &index.to_string(), &value]);
        assert_eq!(reply, Some(Answer::Simple(b"OK".to_vec())));
    }
    // Its reply waits until the disk takes it.
    client.send(&answer::encode(&["SET", "big", &"v".repeat(100_000)]));
    let mut other = server.connect();
    wait_for_info(&mut other, "aof_last_write_status:err");
    other.send(&answer::encode(&["SHUTDOWN"]));
    assert_eq!(server.wait(), Some(1));
    let server = server.restart();
    assert_eq!(number(&mut server.connect(), "DBSIZE"), 20);
}

#[cfg(target_os = "linux")]
#[test]
fn a_reply_that_waited_for_the_disk_comes_without_another_request() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    for policy in ["always", "everysec", "no"] {
        let server = Server::with_file(&format!("save \"\"\nappendonly yes\nappendfsync {policy}"));
        let server = server.restart_under("ulimit -S -f 64; trap '' XFSZ");
        let mut client = server.connect();
        assert_eq!(number(&mut client, "DBSIZE"), 0);
        client.send(&answer::encode(&["SET", "big", &"v".repeat(100_000)]));
        // It stays, for its end would be an event as well.
        let mut other = server.connect();
        wait_for_info(&mut other, "aof_last_write_status:err");
        let pid = Pid::from_raw(server.pid().cast_signed());
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(pid, Resource::Fsize, unlimited).expect("the process is ours");
        assert_eq!(client.receive(), Some(Answer::Simple(b"OK".to_vec())), "{policy}");
    }
}

#[cfg(unix)]
#[test]
fn files_of_the_aof_are_for_their_owner_to_write_and_as_narrow_as_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    for (umask, directory, file) in [("000", 0o755, 0o644), ("027", 0o750, 0o640)] {
        let server = Server::with_file("save \"\"");
        let server = server.restart_under(&format!("umask {umask}"));
        let mut client = server.connect();
        client.run("CONFIG SET appendonly yes");
        wait_for_rewrite(&mut client);
        let mode = |name: &str| {
            let metadata = std::fs::metadata(server.path(name)).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("appendonlydir"), directory, "{umask}");
        for name in ["manifest", "1.base.rdb", "1.incr.aof"] {
            assert_eq!(mode(&format!("appendonlydir/appendonly.aof.{name}")), file, "{umask}");
        }
    }
}

#[test]
fn what_interrupted_saves_left_is_removed_at_the_start_and_nothing_else() {
    let mut server = Server::with_file("save \"\"\nappendonly yes");
    server.connect().run("SET k v");
    server.kill();
    let gone = server.pid();
    let leftovers = [
        format!("temp-{gone}.rdb"),
        format!("reload-temp-{gone}.rdb"),
        "appendonlydir/temp-appendonly.aof.manifest".to_owned(),
        format!("appendonlydir/temp-rewriteaof-bg-{gone}.aof"),
        "appendonlydir/appendonly.aof.2.base.rdb".to_owned(),
        "appendonlydir/appendonly.aof.2.base.aof".to_owned(),
    ];
    let others = [
        // Of a process that lives.
        format!("temp-{}.rdb", std::process::id()),
        format!("reload-temp-{}.rdb", std::process::id()),
        format!("appendonlydir/temp-rewriteaof-bg-{}.aof", std::process::id()),
        "temp-notes.rdb".to_owned(),
        "reload-notes.rdb".to_owned(),
        "appendonlydir/appendonly.aof.3.base.rdb".to_owned(),
        "appendonlydir/other.aof.2.base.rdb".to_owned(),
        "appendonlydir/temp-notes".to_owned(),
    ];
    for name in leftovers.iter().chain(&others) {
        std::fs::write(server.path(name), b"REDIS0011").expect("the directory is ours");
    }
    let server = server.restart();
    let is_there = |name: &String| std::path::Path::new(&server.path(name)).exists();
    // The last ones go when the AOF is loaded.
    wait_for("nothing is left", || (!leftovers.iter().any(is_there)).then_some(()));
    assert!(others.iter().all(is_there), "{others:?}");
}

#[test]
fn the_aof_of_renamed_commands_is_loaded() {
    let renamed = "rename-command DEL \"\"\nrename-command SET GET\nrename-command SELECT \"\"\n\
                   rename-command PEXPIREAT later\nrename-command SREM \"\"";
    let text = format!("save \"\"\nappendonly yes\nrename-command GET read\n{renamed}");
    let server = Server::with_file(&text);
    let mut client = server.connect();
    assert_eq!(client.run("GET k v"), Answer::Simple(b"OK".to_vec()));
    client.run("GET gone v PX 1");
    client.run("SADD set a b");
    client.run("SPOP set");
    client.run("EXPIRE k 1000");
    loop {
        // Whoever meets the expired key has its deletion logged.
        if client.run("EXISTS gone") == Answer::Integer(0) {
            break;
        }
    }
    let server = server.restart();
    let mut client = server.connect();
    assert_eq!(number(&mut client, "SCARD set"), 1);
    assert_eq!(client.run("read k"), Answer::Bulk(b"v".to_vec()));
    assert_eq!(number(&mut client, "TTL k"), 1000);
    assert_eq!(number(&mut client, "EXISTS gone"), 0);
    let aof = std::fs::read(server.path("appendonlydir/appendonly.aof.1.incr.aof"));
    let aof = aof.expect("it was written").to_ascii_lowercase();
    for word in ["\r\nset\r\n", "\r\nselect\r\n", "\r\nsrem\r\n", "\r\npexpireat\r\n"] {
        assert!(aof.windows(word.len()).any(|at| at == word.as_bytes()), "{word:?} by its name");
    }
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
    // A file without marks has nothing that tells a wrong length from a torn end.
    let mut holed = commands.clone();
    holed.splice(0..0, vec![0; 4096]);
    let cases =
        [(torn.to_vec(), Some(49)), (wrong_length, Some(0)), (zeros, Some(50)), (holed, None)];
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
            assert!(said.contains("no command at offset 0"), "{said}");
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

#[test]
fn a_save_that_ends_after_the_aof_was_loaded_anew_says_how_much_has_changed_since() {
    let text = "save \"\"\nappendonly yes\nenable-debug-command yes\nrdb-key-save-delay 20000";
    let server = Server::with_file(text);
    let mut client = server.connect();
    client.run("MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9");
    // Changes that the AOF does not hold one by one: more than its commands count for.
    client.run("BGREWRITEAOF");
    wait_for_rewrite(&mut client);
    client.run("BGSAVE");
    assert_eq!(client.run("DEBUG LOADAOF"), Answer::Simple(b"OK".to_vec()));
    wait_for_info(&mut client, "rdb_bgsave_in_progress:0");
    wait_for_info(&mut client, "rdb_last_bgsave_status:ok");
    assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
}
