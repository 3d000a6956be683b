//! Loads beside a dataset that is served: nobody sees one that is not whole, and all are told of
//! one that is.

use super::reload::Reload;
use super::target::Target;
use super::{Load, Loading, Step};
use crate::config::{Config, ProtectedAction};
use crate::engine::testing::{Bench, text};
use crate::engine::{ClientId, Peer, ServerParts};
use crate::persist::disk::{Disk, MemoryDisk};
use crate::persist::load::{Batch, LoadError, SnapshotSource};
use std::ops::ControlFlow;
use std::sync::Arc;

fn bench_on(disk: &Arc<MemoryDisk>, config: Config) -> Bench {
    let config = Config { enable_debug_command: ProtectedAction::Yes, ..config };
    Bench::over(config, ServerParts { disk: Arc::clone(disk) as _, ..ServerParts::default() })
}

/// A disk with a snapshot of some thousand keys in two databases.
fn saved() -> Arc<MemoryDisk> {
    let disk = Arc::default();
    let mut bench = bench_on(&disk, Config::default());
    for index in 0..5000 {
        bench.ask(&format!("SET new:{index} v"));
    }
    bench.ask("RPUSH list new");
    bench.ask("SET both new");
    bench.ask("SELECT 3");
    bench.ask("SET elsewhere v");
    bench.expect("SAVE", "+OK|");
    disk
}

/// A server on that disk that holds something else.
fn bench_with_old(disk: &Arc<MemoryDisk>) -> Bench {
    let mut bench = bench_on(disk, Config::default());
    bench.expect_all(&[("SET old v", "+OK|"), ("SET both old", "+OK|")]);
    bench
}

/// The file's batches, as another thread reads them.
fn batches(source: SnapshotSource) -> (Vec<Batch>, Result<(), LoadError>) {
    let mut batches = Vec::new();
    let read = source.read(&mut |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    });
    (batches, read)
}

/// Drives a load, and looks between any two steps whether the old dataset is served.
fn load_beside(bench: &mut Bench, mut load: Load) -> bool {
    loop {
        bench.expect_all(&[("GET old", "$1|v|"), ("DBSIZE", ":2|"), ("GET new:1", "$-1|")]);
        bench.advance(1);
        match load.step(&mut bench.engine.core()) {
            Step::More => {}
            Step::NeedFile(source) => {
                let (batches, read) = batches(*source);
                assert!(batches.len() > 2, "there is something in between");
                for batch in batches {
                    let taken = load.take_in(&mut bench.engine.core(), batch);
                    assert!(taken.is_continue());
                    bench.expect_all(&[("GET old", "$1|v|"), ("DBSIZE", ":2|")]);
                }
                load.finish_file(read);
            }
            Step::Done(_) => return true,
            Step::Failed => return false,
        }
    }
}

fn begin_beside(bench: &mut Bench) -> Load {
    let target = Target::aside(&bench.engine.keyspace);
    Load::of_snapshot(&mut bench.engine.core(), target)
}

#[test]
fn the_old_dataset_is_served_until_the_new_one_takes_its_place_at_once() {
    let mut bench = bench_with_old(&saved());
    let load = begin_beside(&mut bench);
    assert!(load_beside(&mut bench, load));
    bench.expect_all(&[
        ("DBSIZE", ":5002|"),
        ("EXISTS old", ":0|"),
        ("GET both", "$3|new|"),
        ("SELECT 3", "+OK|"),
        ("DBSIZE", ":1|"),
    ]);
    assert_eq!(bench.info("rdb_last_load_keys_loaded"), "5003");
}

/// Cuts the snapshot file short, or, without a length, takes it away.
fn damage(bench: &Bench, disk: &MemoryDisk, len: Option<u64>) {
    let path = bench.engine.server.snapshot_path();
    match len {
        Some(len) => disk.open(&path).and_then(|file| file.truncate(len)),
        None => disk.remove(&path),
    }
    .expect("memory takes all");
}

#[test]
fn a_load_that_fails_has_changed_nothing() {
    let disk = saved();
    let mut bench = bench_with_old(&disk);
    damage(&bench, &disk, Some(50_000));
    bench.expect_all(&[("WATCH old both", "+OK|")]);
    let load = begin_beside(&mut bench);
    assert!(!load_beside(&mut bench, load));
    let refusal = "-ERR Error trying to load the RDB dump, check server logs.|";
    for line in ["DEBUG RELOAD NOSAVE", "DEBUG RELOAD NOSAVE NOFLUSH MERGE"] {
        bench.expect(line, refusal);
        bench.expect_all(&[("DBSIZE", ":2|"), ("GET both", "$3|old|")]);
    }
    damage(&bench, &disk, None);
    bench.expect("DEBUG RELOAD NOSAVE", refusal);
    bench.expect_all(&[("DBSIZE", ":2|"), ("MULTI", "+OK|"), ("PING", "+QUEUED|")]);
    bench.expect("EXEC", "*1|+PONG|");
}

/// Another client, which is asked by this.
fn ask_as(bench: &mut Bench, client: ClientId, line: &str) -> String {
    let own = std::mem::replace(&mut bench.client, client);
    let reply = bench.ask(line);
    bench.client = own;
    reply
}

#[test]
fn all_are_told_of_a_dataset_that_takes_another_ones_place() {
    let mut bench = bench_with_old(&saved());
    let [gone, came, neither, blocked] = [(); 4].map(|()| bench.engine.connect(Peer::internal()));
    for (client, line) in [(gone, "WATCH old"), (came, "WATCH list"), (neither, "WATCH nokey")] {
        assert_eq!(ask_as(&mut bench, client, line), "+OK|");
        assert_eq!(ask_as(&mut bench, client, "MULTI"), "+OK|");
    }
    assert_eq!(ask_as(&mut bench, blocked, "BLPOP list 0"), "");
    bench.ask("HELLO 3");
    bench.expect("CLIENT TRACKING on", "+OK|");
    bench.ask("GET old");
    let told = bench.ask("DEBUG RELOAD NOSAVE");
    assert!(told.contains(">2|$10|invalidate|_|") && told.contains("+OK|"), "{told}");
    for (client, reply) in [(gone, "*-1|"), (came, "*-1|"), (neither, "*0|")] {
        assert_eq!(ask_as(&mut bench, client, "EXEC"), reply);
    }
    bench.expect("EXISTS list", ":0|");
    assert!(bench.engine.clients.get(blocked).is_some_and(|session| session.wait.is_none()));
}

#[test]
fn what_is_added_to_a_dataset_is_told_by_its_keys_and_nothing_is_if_a_key_comes_twice() {
    let mut bench = bench_with_old(&saved());
    let [kept, changed] = [(); 2].map(|()| bench.engine.connect(Peer::internal()));
    for (client, line) in [(kept, "WATCH old"), (changed, "WATCH both")] {
        ask_as(&mut bench, client, line);
        ask_as(&mut bench, client, "MULTI");
    }
    bench.expect(
        "DEBUG RELOAD NOSAVE NOFLUSH",
        "-ERR Error trying to load the RDB dump, check server logs.|",
    );
    bench.expect_all(&[("DBSIZE", ":2|"), ("DEBUG RELOAD NOSAVE NOFLUSH MERGE", "+OK|")]);
    bench.expect_all(&[("DBSIZE", ":5003|"), ("GET both", "$3|new|"), ("GET old", "$1|v|")]);
    assert_eq!(ask_as(&mut bench, kept, "EXEC"), "*0|");
    assert_eq!(ask_as(&mut bench, changed, "EXEC"), "*-1|");
}

#[test]
fn a_reload_within_a_transaction_is_made_in_its_place() {
    let mut bench = bench_with_old(&saved());
    bench.ask("MULTI");
    for line in ["GET both", "DEBUG RELOAD NOSAVE", "GET both", "DEBUG LOADAOF", "DBSIZE"] {
        bench.expect(line, "+QUEUED|");
    }
    let refusal = "-ERR DEBUG LOADAOF is not for transactions|";
    bench.expect("EXEC", &format!("*5|$3|old|+OK|$3|new|{refusal}:5002|"));
}

/// A server whose AOF has a base with function libraries, and commands behind it.
fn bench_with_log(disk: &Arc<MemoryDisk>) -> Bench {
    let config = Config { appendonly: true, ..Config::default() };
    let mut bench = bench_on(disk, config);
    let end = bench.engine.load_here().expect("there is no log yet");
    bench.engine.open_aof(&end).expect("memory takes all");
    let code = b"#!lua name=l\nredis.register_function('f', function() return 1 end)";
    assert_eq!(bench.run(&[b"FUNCTION", b"LOAD", code]), b"$1\r\nl\r\n");
    bench.expect("SET base v", "+OK|");
    bench.turn();
    bench.ask("BGREWRITEAOF");
    for _ in 0..10 {
        bench.turn();
        bench.advance(1000);
        bench.engine.cron();
    }
    assert!(!bench.engine.server.is_rewriting());
    bench.expect_all(&[("SELECT 2", "+OK|"), ("SET behind v", "+OK|")]);
    bench
}

#[test]
fn a_log_that_is_loaded_anew_leaves_nothing_of_the_dataset_before() {
    let mut bench = bench_with_log(&Arc::default());
    let clients = bench.engine.clients.iter().count();
    let watching = bench.engine.connect(Peer::internal());
    ask_as(&mut bench, watching, "WATCH base");
    for _ in 0..2 {
        bench.expect("DEBUG LOADAOF", "+OK|");
        // The client is where it was.
        bench.expect_all(&[("GET behind", "$1|v|"), ("DBSIZE", ":1|")]);
        bench.expect("FCALL f 0", ":1|");
        assert_eq!(bench.engine.clients.iter().count(), clients + 1);
        assert_eq!(bench.info("rdb_last_load_keys_loaded"), "1");
    }
    ask_as(&mut bench, watching, "MULTI");
    assert_eq!(ask_as(&mut bench, watching, "EXEC"), "*-1|");
    assert_eq!(ask_as(&mut bench, watching, "DBSIZE"), ":1|");
}

#[test]
fn a_log_that_cannot_be_loaded_anew_leaves_the_dataset_as_it_was() {
    let disk = Arc::default();
    let mut bench = bench_with_log(&disk);
    let clients = bench.engine.clients.iter().count();
    bench.turn();
    let place = bench.engine.server.aof.place.clone();
    let base = bench.engine.server.aof.manifest.base.clone().expect("it was rewritten");
    let file = disk.open(&place.path(&base.name)).expect("it is there");
    file.truncate(20).expect("memory takes all");
    let refusal = "-ERR Error trying to load the AOF files, check server logs.|";
    for _ in 0..2 {
        bench.expect("DEBUG LOADAOF", refusal);
        bench.expect_all(&[("GET behind", "$1|v|"), ("SET again v", "+OK|")]);
        assert_eq!(bench.engine.clients.iter().count(), clients);
    }
    assert!(bench.engine.server.propagation.is_active(), "the log goes on");
}

#[test]
fn where_there_is_no_log_to_load_the_dataset_stays() {
    let mut bench = bench_with_old(&Arc::default());
    let before = bench.ask("DBSIZE");
    assert!(Reload::Aof.run(&mut bench.engine).is_err());
    bench.expect("DBSIZE", &before);
}

#[test]
fn a_load_of_a_log_beside_ends_in_one_step() {
    let disk = Arc::default();
    let mut bench = bench_with_log(&disk);
    bench.engine.hand_over_to_aof();
    let target = Target::aside(&bench.engine.keyspace);
    let begun = Load::of_aof(&mut bench.engine.core(), target);
    let mut load = begun.expect("it is whole").expect("it is there");
    let mut keys = Vec::new();
    loop {
        let core = &mut bench.engine.core();
        match load.step(core) {
            Step::More => {}
            Step::NeedFile(source) => {
                let (batches, read) = batches(*source);
                core.space.take_db(2);
                assert!(batches.into_iter().all(|batch| load.take_in(core, batch).is_continue()));
                load.finish_file(read);
            }
            Step::Done(end) => {
                assert!(end.base_bytes > 0 && end.file.len > 0);
                break;
            }
            Step::Failed => panic!("the log is whole"),
        }
        keys.push(bench.engine.keyspace.db(2).len());
    }
    assert!(keys.len() > 2 && keys[keys.len() - 1] == 0, "{keys:?}");
    assert_eq!(text(&bench.run(&[b"GET", b"behind"])), "$1|v|");
}

/// Of a snapshot whose end is marked nobody knows the length.
#[test]
fn progress_is_guessed_where_the_length_is_not_known() {
    let table = [
        (0, 0, 50, 0.0),
        (200, 0, 50, 25.0),
        (200, 1000, 50, 25.0),
        (0, 200, 50, 25.0),
        (0, 200, 500, 100.0),
    ];
    for (total_bytes, used_memory_then, loaded_bytes, percent) in table {
        let loading = Loading { total_bytes, used_memory_then, loaded_bytes, ..Loading::default() };
        assert_eq!(loading.percent(), percent, "{total_bytes} {used_memory_then}");
    }
}

/// Whoever wrote it down waited then, if at all.
#[test]
fn nobody_waits_for_copies_while_an_aof_is_replayed() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, Config { appendonly: true, ..Config::default() });
    let mut commands = Vec::new();
    for line in ["WAIT 1 0", "WAITAOF 0 1 0", "SET k v"] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        crate::resp::command::put(&mut commands, words.into_iter());
    }
    // As old servers kept it: one file, and no manifest.
    let place = bench.engine.server.aof.place.clone();
    let file = disk.create(&place.parent().join(&place.prefix)).expect("memory takes all");
    file.append(&commands).expect("memory takes all");
    bench.engine.load_here().expect("it loads");
    bench.expect("GET k", "$1|v|");
}
