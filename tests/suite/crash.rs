//! What the append-only file promises, kept against every fault of the disk.
//!
//! An engine runs a scenario over a simulated disk: writes of several clients, transactions,
//! scripts, some of which are put aside while the disk is written to, functions and libraries,
//! values longer than a page and full of what an AOF is made of, rewrites, with syncs and jobs that
//! end whenever the seed says. Each write adds its number to one list, so that the list says which
//! writes there are; what else it does follows from its number. Every call to the disk is failed
//! once, and the power is cut after every call, with checksums and without, while the AOF is busy
//! and while it rests. What is loaded then must be a prefix of what was written, and hold what the
//! policy promises. What was durable and is damaged later must never be cut off.

use crate::answer::encode;
use crate::sim_disk::{Mishap, PAGE, SimDisk, libc_error};
use rufous::config::{AppendFsync, Config};
use rufous::engine::hold::{Holds, Told};
use rufous::engine::{
    ClientId, Driver, Effect, Engine, Now, Peer, SaveJob, SaveOutcome, Seed, ServerParts,
};
use rufous::keyspace::digest;
use rufous::persist::aof::check::{Console, Repair, check_aof};
use rufous::persist::aof::{SyncOutcome, SyncRequest};
use rufous::persist::disk::Disk;
use rufous::resp::{OwnedRequest, ReplyBuf};
use rufous::structs::prng::Prng;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const START_US: u64 = 1_700_000_000_000_000;

/// What is played.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    policy: AppendFsync,
    checksums: bool,
    /// Writes come in bursts, with pauses in which the AOF comes to rest.
    rests: bool,
}

impl Scenario {
    fn of(policy: AppendFsync) -> Scenario {
        Scenario { policy, checksums: true, rests: false }
    }
}

/// A write as its client knows it.
struct Written {
    number: u64,
    /// Where in the client's output its reply ends.
    reply_end: u64,
    acked_us: Option<u64>,
}

struct Sim {
    engine: Engine,
    client: ClientId,
    disk: SimDisk,
    world: World,
    /// Writes in their order; a number is given once, whether it is taken or refused.
    writes: Vec<Written>,
    refused: u64,
    rests: bool,
}

/// Threads that take their time, and a client whose output is held as the net holds it.
struct World {
    now_us: u64,
    prng: Prng,
    syncs: VecDeque<(u64, SyncRequest)>,
    saves: VecDeque<SaveJob>,
    holds: Holds,
    /// Bytes of output so far, and how many of them have left.
    output: u64,
    left: u64,
}

impl World {
    fn new(now_us: u64, seed: u64) -> World {
        World {
            now_us,
            prng: Prng::seeded(seed),
            syncs: VecDeque::new(),
            saves: VecDeque::new(),
            holds: Holds::default(),
            output: 0,
            left: 0,
        }
    }

    fn now(&self) -> Now {
        Now { unix_us: START_US + self.now_us, mono_us: self.now_us }
    }

    /// What has been added to the client's output tells of this.
    fn tell(&mut self, engine: &Engine, told: Told) {
        self.holds.tell(told, engine.release(), self.left, self.output);
    }

    fn flush(&mut self, engine: &Engine) {
        let free = self.holds.free(self.left, engine.release());
        self.left = self.output.min(self.left.saturating_add(free as u64));
    }
}

impl Driver for World {
    fn send(&mut self, engine: &mut Engine, _client: ClientId, bytes: ReplyBuf, told: Told) {
        self.output += bytes.len() as u64;
        self.tell(engine, told);
    }

    fn wake(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn close(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn sleep(&mut self, _duration: Duration) -> Now {
        self.now()
    }

    fn sync(&mut self, _engine: &mut Engine, request: SyncRequest) {
        let ends_us = self.now_us + self.prng.below(300_000);
        self.syncs.push_back((ends_us, request));
    }

    fn save(&mut self, _engine: &mut Engine, job: SaveJob) {
        self.saves.push_back(job);
    }
}

fn engine_on(disk: &SimDisk, scenario: Scenario) -> Engine {
    let config = Config {
        appendonly: true,
        appendfsync: scenario.policy,
        aof_checksum: scenario.checksums,
        ..Config::default()
    };
    let parts = ServerParts { disk: Arc::new(disk.clone()), ..ServerParts::default() };
    Engine::new(config, parts, Seed { hash_key: [7; 16], prng: 7 })
}

/// Starts an engine as the server does; what it has logged says why it cannot.
fn start(disk: &SimDisk, scenario: Scenario, now_us: u64) -> Option<Engine> {
    let mut engine = engine_on(disk, scenario);
    engine.tick(Now { unix_us: START_US + now_us, mono_us: now_us });
    let end = engine.load_here().ok()?;
    engine.take_effects();
    engine.open_aof(&end).ok()?;
    Some(engine)
}

fn ask(engine: &mut Engine, client: ClientId, words: &[&[u8]]) -> Vec<u8> {
    let mut out = ReplyBuf::new();
    engine.run(client, OwnedRequest::from_args(words).as_request(), &mut out);
    while engine.is_under_way() {
        engine.end_turn();
        engine.go_on();
    }
    // The reply of what was put aside comes as an effect.
    for effect in engine.take_effects() {
        match effect {
            Effect::Push { client: receiver, bytes } if receiver == client => out.append(bytes),
            other => engine.server.effects.push(other),
        }
    }
    out.to_vec()
}

/// Bytes in which nothing is what it looks like: commands, marks and keys of AOFs, empty pages.
fn hostile_value(prng: &mut Prng, len: usize) -> Vec<u8> {
    let mut value = Vec::new();
    while value.len() < len {
        match prng.below(6) {
            0 => value.extend(b"\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
            1 => value.extend(format!("#MARK:{:016x}:00000fffffff:{:016x}\r\n", 1, 2).bytes()),
            2 => value.extend(format!("#KEY:{:032x}\r\n#CRC:{:016x}:999999\r\n", 3, 4).bytes()),
            3 => value.extend(vec![0; prng.below(13_000) as usize]),
            _ => value.extend((0..prng.below(900)).map(|_| prng.below(256) as u8)),
        }
    }
    value.truncate(len);
    value
}

/// By what the write of a number is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Commands.
    Client,
    /// Commands, a script or a function, as the number says.
    Any,
}

const SCRIPT: &str = "redis.call('set', KEYS[1], ARGV[1]) redis.call('rpush', KEYS[2], ARGV[2])";
/// It is put aside after the first of two writes, and turns end meanwhile.
const SLOW_SCRIPT: &str = "redis.call('set', KEYS[1], ARGV[1]) for _ = 1, 1100000 do end \
                           redis.call('rpush', KEYS[2], ARGV[2])";
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('write', function(KEYS, ARGV) \
                       redis.call('set', KEYS[1], ARGV[1]) redis.call('rpush', KEYS[2], ARGV[2]) \
                       end)";

/// Does the write of this number: adds it to the list, and sets a key to a value that follows
/// from it, sometimes as one.
fn write(engine: &mut Engine, client: ClientId, number: u64, by: By) -> Vec<u8> {
    let mut prng = Prng::seeded(number);
    let text = number.to_string();
    let key = format!("k{}", prng.below(5));
    let len = match prng.below(12) {
        0 => 4000 + prng.below(30_000),
        1 => prng.below(2000),
        _ => prng.below(40),
    };
    let value = hostile_value(&mut prng, len as usize);
    if prng.below(4) > 0 {
        return ask(engine, client, &[b"RPUSH", b"log", text.as_bytes()]);
    }
    let words = [b"2", key.as_bytes(), b"log", &value, text.as_bytes()];
    let call = |name, script: &'static str| [&[name, script.as_bytes()], &words[..]].concat();
    match prng.below(8) {
        0..3 if by == By::Any => ask(engine, client, &call(b"EVAL", SCRIPT)),
        3 if by == By::Any => ask(engine, client, &call(b"EVAL", SLOW_SCRIPT)),
        4 if by == By::Any => {
            ask(engine, client, &[b"MULTI"]);
            ask(engine, client, &[b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY.as_bytes()]);
            ask(engine, client, &call(b"FCALL", "write"));
            ask(engine, client, &[b"EXEC"])
        }
        _ => {
            ask(engine, client, &[b"MULTI"]);
            ask(engine, client, &[b"SET", key.as_bytes(), &value]);
            ask(engine, client, &[b"RPUSH", b"log", text.as_bytes()]);
            ask(engine, client, &[b"EXEC"])
        }
    }
}

impl Sim {
    fn start(disk: SimDisk, scenario: Scenario, seed: u64) -> Option<Sim> {
        let mut engine = start(&disk, scenario, 1_000_000)?;
        let client = engine.connect(Peer::internal());
        let world = World::new(1_000_000, seed);
        let rests = scenario.rests;
        Some(Sim { engine, client, disk, world, writes: Vec::new(), refused: 0, rests })
    }

    fn carry_out(&mut self) {
        self.world.carry_out(&mut self.engine);
        self.world.flush(&self.engine);
        if self.disk.is_off() {
            return;
        }
        for write in self.writes.iter_mut().rev() {
            if write.acked_us.is_none() && write.reply_end <= self.world.left {
                write.acked_us = Some(self.world.now_us);
            }
        }
    }

    /// Has the client say something; the reply.
    fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let reply = ask(&mut self.engine, self.client, words);
        self.world.output += reply.len() as u64;
        reply
    }

    /// Lets some time pass: syncs and jobs end, writes come, the turn ends.
    fn step(&mut self, writes: bool) {
        self.world.now_us += 10_000 + self.world.prng.below(40_000);
        self.engine.tick(self.world.now());
        let now_us = self.world.now_us;
        while let Some(idx) = self.world.syncs.iter().position(|(at_us, _)| *at_us <= now_us) {
            let (_, request) = self.world.syncs.remove(idx).expect("it was just seen");
            let outcome: SyncOutcome = request.run();
            if !self.disk.is_off() {
                self.engine.finish_sync(outcome);
            }
            self.carry_out();
        }
        if self.world.prng.below(3) == 0
            && let Some(job) = self.world.saves.pop_front()
        {
            let outcome: SaveOutcome = job();
            if !self.disk.is_off() {
                self.engine.finish_save(outcome);
            }
            self.carry_out();
        }
        let recorded = self.engine.server.propagation.offset();
        for _ in 0..if writes { self.world.prng.below(4) } else { 0 } {
            self.write();
        }
        let has_written = self.engine.server.propagation.offset() != recorded;
        if self.world.prng.below(3) == 0 {
            self.engine.cron();
        }
        self.engine.end_turn();
        self.world.carry_out(&mut self.engine);
        let told = self.engine.told();
        self.world.tell(&self.engine, Told { of_writes: has_written, ..told });
        self.carry_out();
    }

    fn write(&mut self) {
        let number = self.writes.last().map_or(0, |write| write.number + 1);
        let reply = write(&mut self.engine, self.client, number, By::Any);
        self.world.output += reply.len() as u64;
        if reply.starts_with(b"-") {
            let is_refusal = reply.starts_with(b"-MISCONF") || reply.starts_with(b"-EXECABORT");
            assert!(is_refusal, "{}", reply.escape_ascii());
            self.ask(&[b"DISCARD"]);
            self.refused += 1;
        } else {
            let reply_end = self.world.output;
            self.writes.push(Written { number, reply_end, acked_us: None });
        }
        assert_eq!(self.ask(&[b"ECHO", b"x"]), b"$1\r\nx\r\n");
    }

    fn run(&mut self, steps: u64) {
        for step in 0..steps {
            if self.disk.is_off() {
                return;
            }
            if step % 37 == 20 {
                self.ask(&[b"BGREWRITEAOF"]);
                self.carry_out();
            }
            // A pause lets the AOF be synced, settle, and be synced again.
            self.step(!self.rests || step % 75 < 8);
        }
    }

    /// Lets everything come to rest.
    fn rest(&mut self) {
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
    let mut model = engine_on(&SimDisk::new(), Scenario::of(AppendFsync::No));
    let writer = model.connect(Peer::internal());
    for number in 0..count {
        write(&mut model, writer, number, By::Client);
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

/// Bases that no manifest names.
fn unlisted_bases(disk: &SimDisk) -> Vec<PathBuf> {
    let manifest = disk.content(Path::new("appendonlydir/appendonly.aof.manifest"));
    let manifest = String::from_utf8_lossy(&manifest);
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_stray = |path: &PathBuf| {
        let name = name(path).expect("files have names");
        name.contains(".base.") && !manifest.contains(&name)
    };
    disk.names().into_iter().filter(is_stray).collect()
}

fn check_after_cut(sim: &Sim, scenario: Scenario, seed: u64, what: &str) {
    let back = sim.disk.after_power_cut(&mut Prng::seeded(seed));
    let promised = promised(sim, scenario.policy, sim.world.now_us);
    let Some(mut engine) = start(&back, scenario, sim.world.now_us + 5_000_000) else {
        panic!("{what}: the start is refused; files: {:?}", back.names());
    };
    let found = loaded(&mut engine, what);
    assert!(found >= promised, "{what}: {found} writes are left of {promised} that were promised");
    let stray = unlisted_bases(&back);
    assert!(stray.is_empty(), "{what}: {stray:?} stay for ever");
    drop(engine);
    // What was loaded is loaded again.
    let mut again = start(&back, scenario, sim.world.now_us + 6_000_000).expect("it was whole");
    assert_eq!(loaded(&mut again, what), found, "{what}");
}

/// Ways in which what was not synced may survive one loss of power.
const SURVIVALS: u64 = 4;

const POLICIES: [AppendFsync; 3] = [AppendFsync::Always, AppendFsync::EverySecond, AppendFsync::No];

/// The calls that a scenario makes when nothing goes wrong.
fn calls_of(scenario: Scenario, seed: u64, steps: u64) -> u64 {
    let mut sim = Sim::start(SimDisk::new(), scenario, seed).expect("it starts");
    sim.run(steps);
    sim.disk.calls()
}

/// Cuts the power after each call of so many runs; how many cuts it were.
fn cut_everywhere(scenario: Scenario, seeds: u64, steps: u64) -> u64 {
    let mut cuts = 0;
    for seed in 0..seeds {
        for call in 1..=calls_of(scenario, seed, steps) {
            let disk = SimDisk::new();
            disk.arrange(call, Mishap::PowerCut);
            let what = format!("{scenario:?}, seed {seed}, power cut after call {call}");
            match Sim::start(disk.clone(), scenario, seed) {
                Some(mut sim) => {
                    sim.run(steps);
                    for survival in 0..SURVIVALS {
                        let seed = call * 1000 + seed * 100 + survival;
                        check_after_cut(&sim, scenario, seed, &what);
                        cuts += 1;
                    }
                }
                None => {
                    let back = disk.after_power_cut(&mut Prng::seeded(call));
                    assert!(start(&back, scenario, 1).is_some(), "{what}: refused");
                }
            }
        }
    }
    cuts
}

fn cut_under_every_policy(checksums: bool, rests: bool) {
    let cuts = POLICIES.map(|policy| {
        let scenario = Scenario { policy, checksums, rests };
        let (seeds, steps) = if rests { (5, 170) } else { (4, 90) };
        cut_everywhere(scenario, seeds, steps)
    });
    let all: u64 = cuts.iter().sum();
    assert!(all >= 1000, "{cuts:?} cuts are too few");
}

#[test]
fn a_loss_of_power_after_any_call_loses_nothing_promised_of_a_busy_aof() {
    cut_under_every_policy(true, false);
}

#[test]
fn a_loss_of_power_after_any_call_loses_nothing_promised_of_an_aof_that_rests() {
    cut_under_every_policy(true, true);
}

#[test]
fn a_loss_of_power_loses_nothing_promised_of_a_busy_aof_without_checksums() {
    cut_under_every_policy(false, false);
}

#[test]
fn a_loss_of_power_loses_nothing_promised_of_a_resting_aof_without_checksums() {
    cut_under_every_policy(false, true);
}

/// The last increment of an AOF: its path and content.
fn last_increment(disk: &SimDisk) -> (PathBuf, Vec<u8>) {
    let names = disk.names();
    let path = names.into_iter().rfind(|name| name.extension().is_some_and(|end| end == "aof"));
    let path = path.expect("there is one");
    let content = disk.content(&path);
    (path, content)
}

/// Empties each page before that with the last mark: the AOF must not be loaded without it.
fn check_every_hole(disk: &SimDisk, scenario: Scenario, what: &str) {
    let (path, whole) = last_increment(disk);
    let mark = whole.windows(6).rposition(|at| at == b"#MARK:").expect("there are marks");
    let pages = mark / PAGE;
    assert!(pages > 3, "{what}: the log is too short to say anything");
    for page in 0..pages {
        let mut holed = whole.clone();
        let end = ((page + 1) * PAGE).min(holed.len());
        holed[page * PAGE..end].fill(0);
        if holed == whole {
            continue;
        }
        disk.put(&path, &holed);
        let found = start(disk, scenario, 9_000_000);
        assert!(found.is_none(), "{what}: page {page} of {pages} is empty, and it starts");
        assert_eq!(disk.content(&path), holed, "{what}: it is left as it is");
    }
    disk.put(&path, &whole);
}

#[test]
fn a_hole_in_what_was_durable_is_never_cut_off() {
    for (policy, checksums) in [
        (AppendFsync::EverySecond, true),
        (AppendFsync::EverySecond, false),
        (AppendFsync::Always, true),
        (AppendFsync::Always, false),
    ] {
        let scenario = Scenario { policy, checksums, rests: false };
        for seed in 0..4 {
            let what = format!("{scenario:?}, seed {seed}");
            let mut sim = Sim::start(SimDisk::new(), scenario, seed).expect("it starts");
            for _ in 0..60 {
                sim.step(true);
            }
            sim.rest();
            let calls = sim.disk.calls();
            sim.rest();
            assert_eq!(sim.disk.calls(), calls, "{what}: a log at rest is left alone");
            let back = sim.disk.after_power_cut(&mut Prng::seeded(seed));
            check_every_hole(&back, scenario, &what);
            let mut engine = start(&back, scenario, 9_000_000).expect("it was whole");
            assert_eq!(loaded(&mut engine, &what), sim.writes.len() as u64);
        }
    }
}

#[test]
fn an_orderly_end_makes_all_durable_and_says_so() {
    for (policy, checksums) in [
        (AppendFsync::No, true),
        (AppendFsync::No, false),
        (AppendFsync::EverySecond, true),
        (AppendFsync::EverySecond, false),
    ] {
        let scenario = Scenario { policy, checksums, rests: false };
        for seed in 0..4 {
            let what = format!("{scenario:?}, seed {seed}");
            let mut sim = Sim::start(SimDisk::new(), scenario, seed).expect("it starts");
            for step in 0..60 {
                if step == 30 {
                    // Switched in the middle of what a mark is to cover.
                    let value: &[u8] = if checksums { b"no" } else { b"yes" };
                    ask(&mut sim.engine, sim.client, &[b"CONFIG", b"SET", b"aof-checksum", value]);
                }
                sim.step(true);
            }
            assert!(sim.engine.close_aof(), "{what}: it ends well");
            let back = sim.disk.after_power_cut(&mut Prng::seeded(seed));
            check_every_hole(&back, scenario, &what);
            let mut engine = start(&back, scenario, 9_000_000).expect("it was whole");
            assert_eq!(loaded(&mut engine, &what), sim.writes.len() as u64);
            let (_, before) = last_increment(&back);
            assert!(engine.close_aof());
            assert_eq!(last_increment(&back).1, before, "{what}: nothing was written to it");
        }
    }
}

/// An AOF of a few hundred writes that has come to rest, and where its last increment is.
fn aof_at_rest(checksums: bool) -> (SimDisk, PathBuf, Vec<u8>) {
    let scenario = Scenario { policy: AppendFsync::EverySecond, checksums, rests: false };
    let mut sim = Sim::start(SimDisk::new(), scenario, 3).expect("it starts");
    for _ in 0..60 {
        sim.step(true);
    }
    sim.rest();
    let back = sim.disk.after_power_cut(&mut Prng::seeded(3));
    let (path, whole) = last_increment(&back);
    (back, path, whole)
}

/// What the loader makes of a file: the length that it keeps, or none if it refuses it.
fn kept_by_the_loader(disk: &SimDisk, path: &Path, bytes: &[u8]) -> Option<usize> {
    disk.put(path, bytes);
    start(disk, Scenario::of(AppendFsync::EverySecond), 9_000_000)?;
    let names = disk.names();
    let cut = names.iter().find(|name| name.to_string_lossy().contains(".cut-"));
    let kept = bytes.len() - cut.map_or(0, |cut| disk.content(cut).len());
    if let Some(cut) = cut {
        disk.remove(cut).expect("it is there");
    }
    Some(kept)
}

/// What the check makes of it: whether it is fine, and the length that --fix leaves.
fn kept_by_the_check(path: &Path, bytes: &[u8]) -> (bool, usize) {
    std::fs::write(path, bytes).expect("the temporary directory is writable");
    let check = |repair| {
        let (mut input, mut out) = (&b"y\n"[..], Vec::new());
        let mut console = Console { input: &mut input, out: &mut out };
        check_aof(path, repair, &mut console).expect("the file can be read")
    };
    let is_fine = check(Repair::None);
    check(Repair::Fix);
    (is_fine, std::fs::read(path).expect("it is there").len())
}

#[test]
fn the_check_agrees_with_the_loader_about_any_damage() {
    let directory = std::env::temp_dir().join(format!("rufous-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let (mut refused, mut cut) = (0, 0);
    for checksums in [true, false] {
        let (disk, path, whole) = aof_at_rest(checksums);
        let mut prng = Prng::seeded(9);
        for case in 0..150 {
            let mut bytes = whole.clone();
            let at = prng.below(bytes.len() as u64) as usize;
            match case % 4 {
                0 => bytes.truncate(at),
                1 => {
                    let start = at / PAGE * PAGE;
                    let end = (start + PAGE * (1 + prng.below(3) as usize)).min(bytes.len());
                    bytes[start..end].fill(0);
                }
                2 => {
                    bytes.truncate(at);
                    bytes.resize(at.next_multiple_of(PAGE), 0);
                }
                _ if checksums => bytes[at] ^= 1 << prng.below(8),
                _ => drop(bytes.splice(at..at, *b"x")),
            }
            let kept = kept_by_the_loader(&disk, &path, &bytes);
            let file = directory.join(format!("{checksums}-{case}.aof"));
            let (is_fine, fixed) = kept_by_the_check(&file, &bytes);
            let what = format!("{checksums}, case {case} at {at}: {kept:?}, {is_fine}, {fixed}");
            match kept {
                None => refused += 1,
                Some(kept) => {
                    cut += u64::from(kept < bytes.len());
                    assert_eq!(kept, fixed, "{what}");
                    assert_eq!(is_fine, kept == bytes.len(), "{what}");
                }
            }
            assert!(kept.is_some() || !is_fine, "{what}");
        }
    }
    std::fs::remove_dir_all(&directory).expect("it is ours");
    assert!(refused > 20 && cut > 20, "{refused} refused and {cut} cut: too few to say anything");
}

/// An AOF as Redis writes it, without marks.
fn put_foreign_aof(disk: &SimDisk, commands: &[u8]) -> PathBuf {
    let directory = Path::new("appendonlydir");
    let manifest = b"file appendonly.aof.1.incr.aof seq 1 type i\n";
    disk.put(&directory.join("appendonly.aof.manifest"), manifest);
    let path = directory.join("appendonly.aof.1.incr.aof");
    disk.put(&path, commands);
    path
}

#[test]
fn what_a_client_has_written_never_decides_about_the_start() {
    let scenario = Scenario::of(AppendFsync::EverySecond);
    let mut prng = Prng::seeded(1);
    let value = hostile_value(&mut prng, 60_000);
    let torn = encode(&[&b"SET"[..], b"torn", &value]);
    let before = encode(&[&b"SET"[..], b"k", b"v"]);
    for _ in 0..100 {
        let len = 1 + prng.below(torn.len() as u64 - 1) as usize;
        let own = SimDisk::new();
        let mut ours = Sim::start(own.clone(), scenario, 1).expect("it starts");
        ask(&mut ours.engine, ours.client, &[b"SET", b"k", b"v"]);
        ours.engine.end_turn();
        drop(ours);
        let (path, mut bytes) = last_increment(&own);
        bytes.extend(&torn[..len]);
        own.put(&path, &bytes);
        let foreign = SimDisk::new();
        put_foreign_aof(&foreign, &[&before[..], &torn[..len]].concat());
        for disk in [&own, &foreign] {
            let mut engine = start(disk, scenario, 9_000_000).expect("it starts");
            let client = engine.connect(Peer::internal());
            assert_eq!(ask(&mut engine, client, &[b"DBSIZE"]), b":1\r\n", "torn after {len}");
        }
    }
}

#[test]
fn a_wrong_length_that_swallows_marks_is_no_torn_end() {
    let (disk, path, whole) = aof_at_rest(true);
    let place = whole.windows(3).position(|at| at == b"$3\r").expect("there is a SET or EXEC");
    let mut bytes = whole;
    bytes.splice(place + 1..place + 2, *b"90000000");
    assert_eq!(kept_by_the_loader(&disk, &path, &bytes), None);
}

#[test]
fn an_aof_that_was_edited_is_loaded_by_those_who_say_so() {
    let (disk, path, whole) = aof_at_rest(true);
    let key_end = whole.iter().position(|byte| *byte == b'\n').expect("it has a key") + 1;
    let mut bytes = whole;
    bytes.splice(key_end..key_end, encode(&[b"PING"]));
    assert_eq!(kept_by_the_loader(&disk, &path, &bytes), None);
    let careless = Scenario { checksums: false, ..Scenario::of(AppendFsync::EverySecond) };
    let mut engine = start(&disk, careless, 9_000_000).expect("it starts");
    assert!(loaded(&mut engine, "the edited log") > 50);
}

#[test]
fn an_aof_that_another_server_began_is_taken_over() {
    let scenario = Scenario::of(AppendFsync::EverySecond);
    let disk = SimDisk::new();
    let path = put_foreign_aof(&disk, &encode(&[&b"SET"[..], b"zeros", &vec![0; 20_000]]));
    let foreign = disk.content(&path);
    let mut sim = Sim::start(disk.clone(), scenario, 1).expect("it starts");
    ask(&mut sim.engine, sim.client, &[b"SET", b"k", b"v"]);
    assert!(sim.engine.close_aof());
    drop(sim);
    let ours = disk.content(&path);
    assert!(ours.starts_with(&foreign) && ours.len() > foreign.len());
    let dbsize = |disk: &SimDisk| {
        let mut engine = start(disk, scenario, 9_000_000)?;
        let client = engine.connect(Peer::internal());
        Some(String::from_utf8_lossy(&ask(&mut engine, client, &[b"DBSIZE"])).into_owned())
    };
    assert_eq!(dbsize(&disk).as_deref(), Some(":2\r\n"));
    // A hole in what the other server wrote is one in what was durable.
    let mut holed = ours.clone();
    holed[..30].fill(0);
    disk.put(&path, &holed);
    assert_eq!(dbsize(&disk), None);
    // A torn end is one, in a file that was put in its place, too.
    let mut torn = encode(&[&b"SET"[..], b"first", b"v"]);
    torn.extend(&foreign[..foreign.len() - 5]);
    disk.put(&path, &torn);
    assert_eq!(dbsize(&disk).as_deref(), Some(":1\r\n"));
}

#[test]
fn an_end_while_the_disk_is_full_keeps_what_was_acknowledged_and_is_a_failure() {
    for policy in POLICIES {
        let scenario = Scenario::of(policy);
        let mut sim = Sim::start(SimDisk::new(), scenario, 5).expect("it starts");
        for _ in 0..30 {
            sim.step(true);
        }
        sim.disk.set_full(true);
        for _ in 0..5 {
            sim.step(true);
        }
        assert!(!sim.engine.close_aof(), "{policy:?}: it did not end well");
        let acked = sim.writes.iter().filter(|write| write.acked_us.is_some()).count() as u64;
        let back = sim.disk.after_power_cut(&mut Prng::seeded(5));
        let mut engine = start(&back, scenario, 9_000_000).expect("it loads");
        assert!(loaded(&mut engine, "after the end") >= acked, "{policy:?}");
    }
}

#[test]
fn nothing_promised_is_lost_when_any_call_fails_and_the_server_recovers() {
    for policy in POLICIES {
        let scenario = Scenario::of(policy);
        let calls = calls_of(scenario, 11, 60);
        for call in 1..=calls {
            for mishap in [
                Mishap::Fails(libc_error::EIO),
                Mishap::Fails(libc_error::ENOSPC),
                Mishap::FailsHalfway(libc_error::ENOSPC),
            ] {
                let disk = SimDisk::new();
                disk.arrange(call, mishap);
                let what = format!("{policy:?}, {mishap:?} at call {call}");
                let Some(mut sim) = Sim::start(disk, scenario, 11) else { continue };
                sim.run(60);
                sim.rest();
                assert!(sim.engine.server.aof.refusal().is_none(), "{what}: it does not recover");
                assert!(
                    policy == AppendFsync::No
                        || sim.writes.iter().all(|write| write.acked_us.is_some()),
                    "{what}: a reply is held for ever"
                );
                sim.run(10);
                check_after_cut(&sim, scenario, call, &what);
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    for policy in POLICIES {
        let disk = SimDisk::new();
        let scenario = Scenario::of(policy);
        let mut sim = Sim::start(disk.clone(), scenario, 5).expect("it starts");
        sim.run(30);
        disk.set_full(true);
        sim.run(30);
        assert!(sim.refused > 0, "{policy:?}: writes are refused");
        let unwritten = sim.writes.iter().filter(|write| write.acked_us.is_none()).count();
        assert!(unwritten > 0, "{policy:?}: whoever met the full disk has no reply");
        assert_eq!(ask(&mut sim.engine, sim.client, &[b"ECHO", b"x"]), b"$1\r\nx\r\n");
        disk.set_full(false);
        sim.rest();
        let all = sim.writes.iter().all(|write| write.acked_us.is_some());
        assert!(all, "{policy:?}: the replies leave when there is space again");
        let refused = sim.refused;
        sim.run(20);
        assert_eq!(sim.refused, refused, "{policy:?}: writes are taken again");
        check_after_cut(&sim, scenario, 5, "a full disk");
    }
}
