//! What the append-only log promises, kept against every fault of the disk.
//!
//! An engine runs a scenario over a simulated disk: writes of several clients, transactions,
//! values longer than a page, rewrites, with syncs and jobs that end whenever the seed says. Each
//! write adds its number to one list, so that the list says which writes there are; what else it
//! does follows from its number. Every call to the disk is failed once, and the power is cut after
//! every call. What is loaded then must be a prefix of what was written, and hold what the policy
//! promises.

use crate::sim_disk::{Mishap, SimDisk, libc_error};
use rufous::config::{AppendFsync, Config};
use rufous::engine::{
    ClientId, Effect, Engine, Now, Peer, SaveJob, SaveOutcome, Seed, ServerParts,
};
use rufous::keyspace::digest;
use rufous::persist::aof::{SyncOutcome, SyncRequest};
use rufous::resp::{OwnedRequest, ReplyBuf};
use rufous::structs::prng::Prng;
use std::collections::VecDeque;
use std::sync::Arc;

const START_US: u64 = 1_700_000_000_000_000;

/// A write as its client knows it.
struct Written {
    number: u64,
    /// The reply may leave when the log has come to here.
    offset: u64,
    acked_us: Option<u64>,
}

struct Sim {
    engine: Engine,
    client: ClientId,
    disk: SimDisk,
    now_us: u64,
    prng: Prng,
    syncs: VecDeque<(u64, SyncRequest)>,
    saves: VecDeque<SaveJob>,
    /// Writes in their order; a number is given once, whether it is taken or refused.
    writes: Vec<Written>,
    refused: u64,
}

fn engine_on(disk: &SimDisk, policy: AppendFsync) -> Engine {
    let config = Config { appendonly: true, appendfsync: policy, ..Config::default() };
    let parts = ServerParts { disk: Arc::new(disk.clone()), ..ServerParts::default() };
    Engine::new(config, parts, Seed { hash_key: [7; 16], prng: 7 })
}

/// Starts an engine as the server does; what it has logged says why it cannot.
fn start(disk: &SimDisk, policy: AppendFsync, now_us: u64) -> Option<Engine> {
    let mut engine = engine_on(disk, policy);
    engine.tick(Now { unix_us: START_US + now_us, mono_us: now_us });
    let end = engine.load_log_here().ok()?;
    engine.take_effects();
    engine.open_log(&end).ok()?;
    Some(engine)
}

fn ask(engine: &mut Engine, client: ClientId, words: &[&[u8]]) -> Vec<u8> {
    let mut out = ReplyBuf::new();
    engine.run(client, OwnedRequest::from_args(words).as_request(), &mut out);
    out.to_vec()
}

/// Does the write of this number: adds it to the list, and sets a key to a value that follows
/// from it, sometimes in a transaction.
fn write(engine: &mut Engine, client: ClientId, number: u64) -> Vec<u8> {
    let mut prng = Prng::seeded(number);
    let text = number.to_string();
    let key = format!("k{}", prng.below(5));
    let len = match prng.below(12) {
        0 => 4000 + prng.below(9000),
        1 => prng.below(2000),
        _ => prng.below(40),
    };
    let value: Vec<u8> = (0..len).map(|_| 1 + prng.below(255) as u8).collect();
    if prng.below(4) > 0 {
        return ask(engine, client, &[b"RPUSH", b"log", text.as_bytes()]);
    }
    ask(engine, client, &[b"MULTI"]);
    ask(engine, client, &[b"SET", key.as_bytes(), &value]);
    ask(engine, client, &[b"RPUSH", b"log", text.as_bytes()]);
    ask(engine, client, &[b"EXEC"])
}

impl Sim {
    fn start(disk: SimDisk, policy: AppendFsync, seed: u64) -> Option<Sim> {
        let mut engine = start(&disk, policy, 1_000_000)?;
        let client = engine.connect(Peer::internal());
        Some(Sim {
            engine,
            client,
            disk,
            now_us: 1_000_000,
            prng: Prng::seeded(seed),
            syncs: VecDeque::new(),
            saves: VecDeque::new(),
            writes: Vec::new(),
            refused: 0,
        })
    }

    fn tick(&mut self) {
        let now = Now { unix_us: START_US + self.now_us, mono_us: self.now_us };
        self.engine.tick(now);
    }

    fn carry_out(&mut self) {
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Sync(request) => {
                    let ends_us = self.now_us + self.prng.below(300_000);
                    self.syncs.push_back((ends_us, request));
                }
                Effect::Save(job) => self.saves.push_back(job),
                _ => {}
            }
        }
        let released = self.engine.server.aof.released();
        for write in self.writes.iter_mut().rev() {
            if write.acked_us.is_none() && write.offset <= released && !self.disk.is_off() {
                write.acked_us = Some(self.now_us);
            }
        }
    }

    /// Lets some time pass: syncs and jobs end, writes come, the turn ends.
    fn step(&mut self, writes: bool) {
        self.now_us += 10_000 + self.prng.below(40_000);
        self.tick();
        while let Some(idx) = self.syncs.iter().position(|(at_us, _)| *at_us <= self.now_us) {
            let (_, request) = self.syncs.remove(idx).expect("it was just seen");
            let outcome: SyncOutcome = request.run();
            if !self.disk.is_off() {
                self.engine.finish_sync(outcome);
            }
            self.carry_out();
        }
        if self.prng.below(3) == 0
            && let Some(job) = self.saves.pop_front()
        {
            let outcome: SaveOutcome = job();
            if !self.disk.is_off() {
                self.engine.finish_save(outcome);
            }
            self.carry_out();
        }
        let first = self.writes.len();
        for _ in 0..if writes { self.prng.below(4) } else { 0 } {
            let number = self.writes.last().map_or(0, |write| write.number + 1);
            let reply = write(&mut self.engine, self.client, number);
            if reply.starts_with(b"-") {
                let is_refusal = reply.starts_with(b"-MISCONF") || reply.starts_with(b"-EXECABORT");
                assert!(is_refusal, "{}", reply.escape_ascii());
                ask(&mut self.engine, self.client, &[b"DISCARD"]);
                self.refused += 1;
            } else {
                self.writes.push(Written { number, offset: 0, acked_us: None });
            }
            assert_eq!(ask(&mut self.engine, self.client, &[b"PING"]), b"+PONG\r\n");
        }
        if self.prng.below(3) == 0 {
            self.engine.cron();
        }
        self.engine.end_turn();
        let appended = self.engine.server.propagation.offset();
        for write in &mut self.writes[first..] {
            write.offset = appended;
        }
        self.carry_out();
    }

    fn run(&mut self, steps: u64) {
        for step in 0..steps {
            if self.disk.is_off() {
                return;
            }
            if step % 37 == 20 {
                ask(&mut self.engine, self.client, &[b"BGREWRITEAOF"]);
                self.carry_out();
            }
            self.step(true);
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.step(false);
        }
    }
}

/// The writes that a loaded engine holds, which must be the first ones, with all they did.
fn loaded(engine: &mut Engine, what: &str) -> u64 {
    let client = engine.connect(Peer::internal());
    let reply = ask(engine, client, &[b"LLEN", b"log"]);
    let text = String::from_utf8_lossy(&reply[1..]).trim().to_owned();
    let count: u64 = text.parse().expect("it is a number");
    let mut model = engine_on(&SimDisk::new(), AppendFsync::No);
    let writer = model.connect(Peer::internal());
    for number in 0..count {
        write(&mut model, writer, number);
    }
    let (found, expected) =
        (digest::of_dataset(&engine.keyspace), digest::of_dataset(&model.keyspace));
    assert!(found == expected, "{what}: not the first {count} writes and nothing else");
    count
}

/// The number of writes that must be there for the policy.
fn promised(sim: &Sim, policy: AppendFsync, cut_us: u64) -> u64 {
    let is_promised = |write: &&Written| match (policy, write.acked_us) {
        (AppendFsync::No, _) | (_, None) => false,
        (AppendFsync::Always, Some(_)) => true,
        (AppendFsync::EverySecond, Some(at_us)) => cut_us - at_us > 1_000_000,
    };
    sim.writes.iter().filter(is_promised).map(|write| write.number + 1).max().unwrap_or(0)
}

fn check_after_cut(sim: &Sim, policy: AppendFsync, seed: u64, what: &str) {
    let back = sim.disk.after_power_cut(&mut Prng::seeded(seed));
    let promised = promised(sim, policy, sim.now_us);
    let Some(mut engine) = start(&back, policy, sim.now_us + 5_000_000) else {
        panic!("{what}: the start is refused; files: {:?}", back.names());
    };
    let found = loaded(&mut engine, what);
    assert!(found >= promised, "{what}: {found} writes are left of {promised} that were promised");
    // What was loaded is loaded again.
    let mut again = start(&back, policy, sim.now_us + 6_000_000).expect("it was whole");
    assert_eq!(loaded(&mut again, what), found, "{what}");
}

/// Ways in which what was not synced may survive one loss of power.
const SURVIVALS: u64 = 8;

const POLICIES: [AppendFsync; 3] = [AppendFsync::Always, AppendFsync::EverySecond, AppendFsync::No];

/// The calls that a scenario makes when nothing goes wrong.
fn calls_of(policy: AppendFsync, seed: u64, steps: u64) -> u64 {
    let mut sim = Sim::start(SimDisk::new(), policy, seed).expect("it starts");
    sim.run(steps);
    sim.disk.calls()
}

#[test]
fn nothing_promised_is_lost_when_the_power_goes_after_any_call() {
    let mut cuts = 0;
    for policy in POLICIES {
        for seed in 0..8 {
            let calls = calls_of(policy, seed, 90);
            for call in 1..=calls {
                let disk = SimDisk::new();
                disk.arrange(call, Mishap::PowerCut);
                let what = format!("{policy:?}, seed {seed}, power cut after call {call}");
                match Sim::start(disk.clone(), policy, seed) {
                    Some(mut sim) => {
                        sim.run(90);
                        for survival in 0..SURVIVALS {
                            check_after_cut(
                                &sim,
                                policy,
                                call * 1000 + seed * 100 + survival,
                                &what,
                            );
                        }
                    }
                    None => {
                        let back = disk.after_power_cut(&mut Prng::seeded(call));
                        assert!(start(&back, policy, 1).is_some(), "{what}: refused");
                    }
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts} cuts are too few");
}

#[test]
fn nothing_promised_is_lost_when_any_call_fails_and_the_server_recovers() {
    for policy in POLICIES {
        let calls = calls_of(policy, 11, 60);
        for call in 1..=calls {
            for mishap in [
                Mishap::Fails(libc_error::EIO),
                Mishap::Fails(libc_error::ENOSPC),
                Mishap::FailsHalfway(libc_error::ENOSPC),
            ] {
                let disk = SimDisk::new();
                disk.arrange(call, mishap);
                let what = format!("{policy:?}, {mishap:?} at call {call}");
                let Some(mut sim) = Sim::start(disk, policy, 11) else { continue };
                sim.run(60);
                sim.settle();
                assert!(sim.engine.server.aof.refusal().is_none(), "{what}: it does not recover");
                assert!(
                    policy == AppendFsync::No
                        || sim.writes.iter().all(|write| write.acked_us.is_some()),
                    "{what}: a reply is held for ever"
                );
                sim.run(10);
                check_after_cut(&sim, policy, call, &what);
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    for policy in POLICIES {
        let disk = SimDisk::new();
        let mut sim = Sim::start(disk.clone(), policy, 5).expect("it starts");
        sim.run(30);
        disk.set_full(true);
        sim.run(30);
        assert!(sim.refused > 0, "{policy:?}: writes are refused");
        let unwritten = sim.writes.iter().filter(|write| write.acked_us.is_none()).count();
        assert!(unwritten > 0, "{policy:?}: whoever met the full disk has no reply");
        assert_eq!(ask(&mut sim.engine, sim.client, &[b"PING"]), b"+PONG\r\n");
        disk.set_full(false);
        sim.settle();
        let all = sim.writes.iter().all(|write| write.acked_us.is_some());
        assert!(all, "{policy:?}: the replies leave when there is space again");
        let refused = sim.refused;
        sim.run(20);
        assert_eq!(sim.refused, refused, "{policy:?}: writes are taken again");
        check_after_cut(&sim, policy, 5, "a full disk");
    }
}
