//! When saves and rewrites run, and what a snapshot that is held does to everybody else.

use super::*;
use crate::config::{Config, EvictionPolicy, SetBy};
use crate::engine::{Peer, Seed, ServerParts};
use crate::resp::OwnedRequest;
use std::cell::Cell;

thread_local! {
    static USED: Cell<usize> = const { Cell::new(0) };
}

const START_US: u64 = 1_700_000_000_000_000;

/// A server whose saving thread runs when the test says so.
struct Bench {
    engine: Engine,
    client: ClientId,
    mono_us: u64,
    /// What the wall clock is off.
    offset_us: i64,
    jobs: VecDeque<SaveJob>,
}

impl Bench {
    fn start(config: Config) -> Bench {
        USED.set(50);
        let parts = ServerParts { used_memory: || USED.get(), ..ServerParts::default() };
        let mut engine = Engine::new(config, parts, Seed::default());
        engine.tick(Now { unix_us: START_US, mono_us: 1000 });
        let client = engine.connect(Peer::internal());
        let mut bench =
            Bench { engine, client, mono_us: 1000, offset_us: 0, jobs: VecDeque::new() };
        bench.turn();
        bench
    }

    /// Switches the append-only log on, without a turn in between.
    fn with_log(mut self) -> Bench {
        assert_eq!(self.ask("CONFIG SET appendonly yes"), "+OK");
        self.run_jobs();
        self
    }

    fn advance(&mut self, ms: u64) {
        self.mono_us += ms * 1000;
        let unix_us = (START_US + self.mono_us).saturating_add_signed(self.offset_us);
        self.engine.tick(Now { unix_us, mono_us: self.mono_us });
        self.engine.cron();
        self.turn();
    }

    fn turn(&mut self) {
        self.engine.end_turn();
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Save(job) => self.jobs.push_back(job),
                Effect::Sync(request) => self.engine.finish_sync(request.run()),
                _ => {}
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = ReplyBuf::new();
        self.engine.run(self.client, OwnedRequest::from_args(&words).as_request(), &mut out);
        self.turn();
        String::from_utf8_lossy(&out.to_vec()).trim_end().to_owned()
    }

    /// The saving thread ends one job.
    fn run_job(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else { return false };
        self.engine.finish_save(job());
        self.turn();
        true
    }

    fn run_jobs(&mut self) {
        while self.run_job() {
            self.advance(1);
        }
    }

    fn info(&mut self, name: &str) -> String {
        let text = self.ask("INFO everything");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("INFO has no {name}")).to_owned()
    }

    fn keys(&self) -> usize {
        self.engine.keyspace.db(0).len()
    }
}

fn config(lines: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, value) in lines {
        let by = SetBy { loading: false, local: true };
        config.set(&[(name.as_bytes(), value.as_bytes())], by).expect("the directive is right");
    }
    config
}

#[test]
fn save_points_do_not_wait_for_a_clock_that_was_set_back() {
    let mut bench = Bench::start(config(&[("save", "60 1")]));
    bench.ask("SET a 1");
    bench.advance(59_000);
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    bench.offset_us = -3_600_000_000;
    bench.advance(2_000);
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    bench.advance(5_000);
    assert_eq!(bench.info("rdb_current_bgsave_time_sec"), "5");
    bench.run_jobs();
    assert_eq!(bench.info("rdb_last_bgsave_time_sec"), "5");
    let saved = START_US / 1_000_000 - 3600 + 66;
    assert_eq!(bench.ask("LASTSAVE"), format!(":{saved}"));
}

#[test]
fn a_save_can_begin_while_a_cancelled_one_ends() {
    let mut bench = Bench::start(config(&[("save", "")]));
    bench.ask("SET a 1");
    assert_eq!(bench.ask("BGSAVE"), "+Background saving started");
    assert_eq!(bench.ask("BGSAVE"), "-ERR Background save already in progress");
    assert_eq!(bench.ask("BGSAVE CANCEL"), "+Background saving cancelled");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(bench.ask("BGSAVE"), "+Background saving started");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    assert!(bench.run_job(), "the cancelled one ends");
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "1");
    assert!(bench.run_job());
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(bench.info("rdb_changes_since_last_save"), "0");
    assert_eq!(bench.info("rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_rewrite_can_begin_while_a_stopped_one_ends() {
    let mut bench = Bench::start(config(&[("save", "")])).with_log();
    let started = "+Background append only file rewriting started";
    assert_eq!(bench.ask("BGREWRITEAOF"), started);
    let refused = "-ERR Background append only file rewriting already in progress";
    assert_eq!(bench.ask("BGREWRITEAOF"), refused);
    assert_eq!(bench.ask("CONFIG SET appendonly no"), "+OK");
    assert_eq!(bench.info("aof_rewrite_in_progress"), "0");
    assert_eq!(bench.ask("BGREWRITEAOF"), started);
    assert_eq!(bench.info("aof_rewrite_in_progress"), "1");
    assert_eq!(bench.ask("BGREWRITEAOF"), refused);
    let before = bench.info("aof_rewrites");
    bench.advance(100);
    bench.run_jobs();
    bench.advance(100);
    bench.run_jobs();
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
    let mut bench = Bench::start(Config {
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
    let stats = bench.ask("MEMORY STATS").replace("\r\n", " ");
    assert!(stats.contains(&format!("$15 snapshot.pinned :{pinned} ")), "{stats}");
    // A key that goes while the snapshot shares it is off the figure.
    let excess = 20 * 528;
    USED.set((10 << 20) + usize::try_from(pinned).expect("small") + excess);
    bench.ask("GET nothing");
    let gone = 1000 - bench.keys();
    assert!((5..100).contains(&gone), "{gone} keys went for the bytes of 20");
    bench.run_jobs();
    assert_eq!(bench.info("mem_snapshot_pinned"), "0");
    assert!(bench.info("rdb_last_cow_size").parse::<u64>().expect("a number") >= pinned);
}

#[test]
fn big_values_that_go_while_a_snapshot_shares_them_are_pinned() {
    let mut bench = Bench::start(config(&[("save", ""), ("set-max-listpack-entries", "1")]));
    for n in 0..20_000 {
        bench.ask(&format!("SADD set member:{n}"));
        bench.ask(&format!("RPUSH list element:{n}"));
        bench.ask(&format!("ZADD zset {n} member:{n}"));
        bench.ask(&format!("HSET hash field:{n} value:{n}"));
    }
    bench.ask("BGSAVE");
    for key in ["set", "list", "zset", "hash"] {
        let bytes: u64 = bench.ask(&format!("MEMORY USAGE {key} SAMPLES 0"))[1..].parse().unwrap();
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
    bench.run_jobs();
    assert_eq!(bench.info("mem_snapshot_pinned"), "0");
}

#[test]
fn values_that_come_and_go_during_a_save_are_not_pinned() {
    let mut bench = Bench::start(config(&[("save", "")]));
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
    let mut bench = Bench::start(config(&[("save", "")])).with_log();
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} v"));
    }
    bench.ask("BGREWRITEAOF");
    bench.run_job();
    USED.set(100_000);
    bench.ask("FLUSHALL ASYNC");
    let pinned: u64 = bench.info("mem_snapshot_pinned").parse().unwrap();
    assert!((50_000..=100_000).contains(&pinned), "{pinned}");
}

#[test]
fn a_snapshot_that_keeps_too_much_is_given_up() {
    let value = "v".repeat(500);
    let mut bench = Bench::start(config(&[("save", ""), ("snapshot-memory-limit", "100kb")]));
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    bench.ask("BGSAVE");
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    assert_eq!(bench.info("rdb_bgsave_in_progress"), "0");
    bench.run_jobs();
    assert_eq!(bench.info("rdb_last_bgsave_status"), "err");
    assert_eq!(bench.keys(), 1000);
    bench.ask("CONFIG SET snapshot-memory-limit 0");
    bench.ask("BGSAVE");
    for n in 0..1000 {
        bench.ask(&format!("SET key:{n} {value}"));
    }
    bench.advance(100);
    bench.run_jobs();
    assert_eq!(bench.info("rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_rewrite_whose_snapshot_keeps_too_much_is_given_up() {
    let value = "v".repeat(500);
    let limit = [("save", ""), ("snapshot-memory-limit", "100kb")];
    let mut bench = Bench::start(config(&limit)).with_log();
    let write_all = |bench: &mut Bench| {
        for n in 0..1000 {
            bench.ask(&format!("SET key:{n} {value}"));
        }
    };
    write_all(&mut bench);
    bench.ask("BGREWRITEAOF");
    assert!(bench.run_job(), "the next increment is opened");
    write_all(&mut bench);
    bench.run_jobs();
    assert_eq!(bench.info("aof_last_bgrewrite_status"), "err");
    assert!(bench.info("aof_last_cow_size").parse::<u64>().expect("a number") > 100_000);
    assert_eq!((bench.info("mem_snapshot_pinned").as_str(), bench.keys()), ("0", 1000));
    bench.ask("CONFIG SET snapshot-memory-limit 0");
    bench.ask("BGREWRITEAOF");
    bench.run_jobs();
    assert_eq!(bench.info("aof_last_bgrewrite_status"), "ok");
}

#[test]
fn what_a_timer_causes_tells_of_its_write() {
    let mut bench = Bench::start(config(&[("save", "")])).with_log();
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
    bench.mono_us += 200_000;
    bench.engine.tick(Now { unix_us: START_US, mono_us: bench.mono_us });
    bench.engine.cron();
    bench.engine.end_turn();
    let told = bench.engine.told();
    let pushes = bench.engine.take_effects().into_iter();
    let pushes = pushes.filter(|effect| matches!(effect, Effect::Push { .. })).count();
    assert_eq!((pushes, told.of_writes), (1, true));
    assert!(told.offset > before, "the removal from the list is what it tells of");
}
