//! When saves and rewrites run, and what a snapshot that is held does to everybody else.

use super::*;
use crate::config::{Config, EvictionPolicy};
use crate::engine::testing::{Bench, START_MS, config};
use crate::engine::{Peer, ServerParts};
use crate::resp::OwnedRequest;
use std::cell::Cell;

thread_local! {
    static USED: Cell<usize> = const { Cell::new(0) };
}

/// A server whose saving thread runs when the test says so.
fn start(directives: &[(&str, &str)]) -> Bench {
    start_with(config(directives))
}

fn start_with(config: Config) -> Bench {
    USED.set(50);
    let parts = ServerParts { used_memory: || USED.get(), ..ServerParts::default() };
    let mut bench = Bench::over(config, parts).holding_saves();
    bench.turn();
    bench
}

/// With the append-only file switched on, without a turn in between.
fn start_with_aof(directives: &[(&str, &str)]) -> Bench {
    let mut bench = start(directives);
    bench.expect("CONFIG SET appendonly yes", "+OK|");
    run_jobs(&mut bench);
    bench
}

/// The clock moves, and the timer does what is due.
fn advance(bench: &mut Bench, ms: u64) {
    bench.advance(ms);
    bench.engine.cron();
    bench.turn();
}

fn run_jobs(bench: &mut Bench) {
    for jobs in 0.. {
        assert!(jobs < 100, "one job of a save leads to the next without end");
        if !bench.run_held_save() {
            return;
        }
        advance(bench, 1);
    }
}

#[test]
fn save_points_do_not_wait_for_a_clock_that_was_set_back() {
    let mut bench = start(&[("save", "60 1")]);
    bench.ask("SET a 1");
    advance(&mut bench, 59_000);
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    bench.offset_ms = -3_600_000;
    advance(&mut bench, 2_000);
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    advance(&mut bench, 5_000);
    assert_eq!(bench.info("rdb_current_bgsave_time_sec"), "5");
    run_jobs(&mut bench);
    assert_eq!(bench.info("rdb_last_bgsave_time_sec"), "5");
    let saved = START_MS / 1000 - 3600 + 66;
    assert_eq!(bench.ask("LASTSAVE"), format!(":{saved}|"));
}

#[test]
fn a_save_can_begin_while_a_cancelled_one_ends() {
    let mut bench = start(&[("save", "")]);
    bench.ask("SET a 1");
    assert_eq!(bench.ask("BGSAVE"), "+Background saving started|");
    assert_eq!(bench.ask("BGSAVE"), "-ERR Background save already in progress|");
    assert_eq!(bench.ask("BGSAVE CANCEL"), "+Background saving cancelled|");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(bench.ask("BGSAVE"), "+Background saving started|");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    assert!(bench.run_held_save(), "the cancelled one ends");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    assert!(bench.run_held_save());
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(bench.info("rdb_changes_since_last_save"), "0");
    assert_eq!(bench.info("rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_rewrite_can_begin_while_a_stopped_one_ends() {
    let mut bench = start_with_aof(&[("save", "")]);
    let started = "+Background append only file rewriting started|";
    assert_eq!(bench.ask("BGREWRITEAOF"), started);
    let refused = "-ERR Background append only file rewriting already in progress|";
    assert_eq!(bench.ask("BGREWRITEAOF"), refused);
    assert_eq!(bench.ask("CONFIG SET appendonly no"), "+OK|");
    assert_eq!(bench.info("aof_rewrite_in_progress"), "0");
    assert_eq!(bench.ask("BGREWRITEAOF"), started);
    assert_eq!(bench.info("aof_rewrite_in_progress"), "1");
    assert_eq!(bench.ask("BGREWRITEAOF"), refused);
    let before = bench.info("aof_rewrites");
    advance(&mut bench, 100);
    run_jobs(&mut bench);
    advance(&mut bench, 100);
    run_jobs(&mut bench);
    assert_eq!(bench.info("aof_rewrite_in_progress"), "0");
    assert_eq!(bench.info("aof_last_bgrewrite_status"), "ok");
    assert_eq!(bench.info("aof_rewrites_consecutive_failures"), "0");
    assert_ne!(bench.info("aof_rewrites"), before);
}

/// What a server does under its limit while a snapshot is held: the allocator's figure moves as
/// writes, evictions and copies move it.
#[test]
fn what_a_snapshot_keeps_makes_no_key_go() {
    let value = "v".repeat(500);
    let mut bench = start_with(Config {
        maxmemory: 10 << 20,
        maxmemory_policy: EvictionPolicy::AllkeysRandom,
        ..config(&[("save", "")])
    });
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    bench.ask("BGSAVE");
    USED.set((10 << 20) - 1000);
    let mut overwritten = 0;
    for n in 0..500 {
        // The new value is in use, and so is the old one still.
        USED.set(USED.get() + 528);
        overwritten += 528;
        bench.ask(&format!("SET key:{n} {value}"));
    }
    let pinned: u64 = bench.info("mem_snapshot_pinned").parse().expect("a number");
    assert!((overwritten..overwritten * 3).contains(&pinned), "{pinned} of {overwritten}");
    assert_eq!((bench.keys(), bench.engine.keyspace.stats.evicted), (1000, 0));
    assert!(bench.info("current_cow_size").parse::<u64>().expect("a number") >= overwritten);
    assert_eq!(bench.info("current_cow_peak"), bench.info("current_cow_size"));
    let stats = bench.ask("MEMORY STATS");
    assert!(stats.contains(&format!("$15|snapshot.pinned|:{pinned}|")), "{stats}");
    // A key that goes while the snapshot shares it is off the figure.
    let excess = 20 * 528;
    USED.set((10 << 20) + usize::try_from(pinned).expect("small") + excess);
    bench.ask("GET nothing");
    let gone = 1000 - bench.keys();
    assert!((5..100).contains(&gone), "{gone} keys went for the bytes of 20");
    run_jobs(&mut bench);
    assert_eq!(bench.info("mem_snapshot_pinned"), "0");
    assert!(bench.info("rdb_last_cow_size").parse::<u64>().expect("a number") >= pinned);
}

#[test]
fn big_values_that_go_while_a_snapshot_shares_them_are_pinned() {
    let mut bench = start(&[("save", ""), ("set-max-listpack-entries", "1")]);
    for n in 0..20_000 {
        bench.ask(&format!("SADD set member:{n}"));
        bench.ask(&format!("RPUSH list element:{n}"));
        bench.ask(&format!("ZADD zset {n} member:{n}"));
        bench.ask(&format!("HSET hash field:{n} value:{n}"));
    }
    bench.ask("BGSAVE");
    for key in ["set", "list", "zset", "hash"] {
        let bytes = bench.ask(&format!("MEMORY USAGE {key} SAMPLES 0"));
        let bytes: u64 = bytes.trim_matches([':', '|']).parse().expect("a number");
        // Some of it is its own by now.
        bench.ask(match key {
            "set" => "SADD set one",
            "list" => "RPUSH list one",
            "zset" => "ZADD zset 1 one",
            _ => "HSET hash one 1",
        });
        let before: u64 = bench.info("mem_snapshot_pinned").parse().unwrap();
        bench.ask(&format!("UNLINK {key}"));
        let after: u64 = bench.info("mem_snapshot_pinned").parse().unwrap();
        assert!(after - before > bytes * 8 / 10, "{key}: {} of {bytes}", after - before);
        assert!(after - before < bytes * 11 / 10, "{key}: {} of {bytes}", after - before);
    }
    run_jobs(&mut bench);
    assert_eq!(bench.info("mem_snapshot_pinned"), "0");
}

#[test]
fn values_that_come_and_go_during_a_save_are_not_pinned() {
    let mut bench = start(&[("save", "")]);
    bench.ask("SET k v");
    bench.ask("BGSAVE");
    let big = "x".repeat(600_000);
    for _ in 0..20 {
        bench.ask(&format!("SET big {big}"));
        bench.ask("DEL big");
    }
    let pinned: u64 = bench.info("mem_snapshot_pinned").parse().unwrap();
    assert!(pinned < 10_000, "{pinned}");
}

#[test]
fn a_database_that_is_flushed_during_a_save_is_pinned() {
    let mut bench = start_with_aof(&[("save", "")]);
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} v"));
    }
    bench.ask("BGREWRITEAOF");
    bench.run_held_save();
    USED.set(100_000);
    bench.ask("FLUSHALL ASYNC");
    let pinned: u64 = bench.info("mem_snapshot_pinned").parse().unwrap();
    assert!((50_000..=100_000).contains(&pinned), "{pinned}");
}

#[test]
fn a_snapshot_that_keeps_too_much_is_given_up() {
    let value = "v".repeat(500);
    let mut bench = start(&[("save", ""), ("snapshot-memory-limit", "100kb")]);
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    bench.ask("BGSAVE");
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    run_jobs(&mut bench);
    assert_eq!(bench.info("rdb_last_bgsave_status"), "err");
    assert_eq!(bench.keys(), 1000);
    bench.ask("CONFIG SET snapshot-memory-limit 0");
    bench.ask("BGSAVE");
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    advance(&mut bench, 100);
    run_jobs(&mut bench);
    assert_eq!(bench.info("rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_rewrite_whose_snapshot_keeps_too_much_is_given_up() {
    let value = "v".repeat(500);
    let limit = [("save", ""), ("snapshot-memory-limit", "100kb")];
    let mut bench = start_with_aof(&limit);
    let write_all = |bench: &mut Bench| {
        for n in 0..1000 {
            bench.ask(&format!("SET key:{n} {value}"));
        }
    };
    write_all(&mut bench);
    bench.ask("BGREWRITEAOF");
    assert!(bench.run_held_save(), "the next increment is opened");
    write_all(&mut bench);
    run_jobs(&mut bench);
    assert_eq!(bench.info("aof_last_bgrewrite_status"), "err");
    assert!(bench.info("aof_last_cow_size").parse::<u64>().expect("a number") > 100_000);
    assert_eq!((bench.info("mem_snapshot_pinned").as_str(), bench.keys()), ("0", 1000));
    bench.ask("CONFIG SET snapshot-memory-limit 0");
    bench.ask("BGREWRITEAOF");
    run_jobs(&mut bench);
    assert_eq!(bench.info("aof_last_bgrewrite_status"), "ok");
}

#[test]
fn what_a_timer_causes_tells_of_its_write() {
    let mut bench = start_with_aof(&[("save", "")]);
    let waiter = bench.engine.connect(Peer::internal());
    let words: [&[u8]; 3] = [b"BLPOP", b"list", b"0"];
    let mut out = ReplyBuf::new();
    bench.engine.run(waiter, OwnedRequest::from_args(&words).as_request(), &mut out);
    bench.ask("MULTI");
    bench.ask("RPUSH list a");
    bench.ask("CLIENT PAUSE 100 WRITE");
    bench.ask("EXEC");
    bench.engine.told();
    let before = bench.engine.server.propagation.offset();
    bench.advance(200);
    bench.engine.cron();
    bench.engine.end_turn();
    let told = bench.engine.told();
    let pushes = bench.engine.take_effects().into_iter();
    let pushes = pushes.filter(|effect| matches!(effect, Effect::Push { .. })).count();
    assert_eq!((pushes, told.of_writes), (1, true));
    assert!(told.offset > before, "the removal from the list is what it tells of");
}
