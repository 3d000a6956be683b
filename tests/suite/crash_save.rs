//! What a snapshot file promises, kept against every fault of the disk.
//!
//! An engine saves one dataset, is changed, and saves again over a simulated disk. Each call of the
//! second save is failed once, and the power is cut after each. The file is then the old dataset or
//! the new one, whole, and the new one if SAVE said so.

use crate::sim_disk::{Mishap, SimDisk, libc_error};
use rufous::config::Config;
use rufous::engine::hold::Told;
use rufous::engine::loading::Load;
use rufous::engine::loading::target::Target;
use rufous::engine::{ClientId, Driver, Engine, Now, Peer, Seed, ServerParts};
use rufous::keyspace::digest;
use rufous::resp::{OwnedRequest, ReplyBuf};
use rufous::structs::prng::Prng;
use std::sync::Arc;
use std::time::Duration;

const FAULTS: [Mishap; 4] = [
    Mishap::Fails(libc_error::EIO),
    Mishap::Fails(libc_error::ENOSPC),
    Mishap::FailsHalfway(libc_error::ENOSPC),
    Mishap::FailsHalfway(libc_error::EIO),
];
/// Ways in which what was not synced may survive a loss of power.
const SURVIVALS: u64 = 12;

const NOW: Now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000_000 };

fn engine_on(disk: &SimDisk) -> (Engine, ClientId) {
    let parts = ServerParts { disk: Arc::new(disk.clone()), ..ServerParts::default() };
    let mut engine = Engine::new(Config::default(), parts, Seed { hash_key: [7; 16], prng: 7 });
    engine.tick(NOW);
    let client = engine.connect(Peer::internal());
    (engine, client)
}

/// The client's output.
struct Output(ReplyBuf);

impl Driver for Output {
    fn send(&mut self, _engine: &mut Engine, _client: ClientId, bytes: ReplyBuf, _told: Told) {
        self.0.append(bytes);
    }

    fn wake(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn close(&mut self, _engine: &mut Engine, _client: ClientId) {}

    fn sleep(&mut self, _duration: Duration) -> Now {
        NOW
    }
}

/// Runs a request and the save that it may start; the reply.
fn ask(engine: &mut Engine, client: ClientId, words: &[&[u8]]) -> Vec<u8> {
    let mut out = Output(ReplyBuf::new());
    engine.run(client, OwnedRequest::from_args(words).as_request(), &mut out.0);
    out.carry_out(engine);
    out.0.to_vec()
}

fn save(engine: &mut Engine, client: ClientId) -> bool {
    ask(engine, client, &[b"SAVE"]) == b"+OK\r\n"
}

/// Gives keys values that follow from the generation: some bigger than a page, some of many parts.
fn fill(engine: &mut Engine, client: ClientId, generation: u64) {
    let mut prng = Prng::seeded(generation);
    for index in 0..30 {
        let key = format!("k{}", index + generation * 10);
        let len = if index % 7 == 0 { 20_000 } else { prng.below(300) };
        let value: Vec<u8> = (0..len).map(|_| prng.below(256) as u8).collect();
        ask(engine, client, &[b"SET", key.as_bytes(), &value]);
        let member = prng.below(1 << 40).to_string();
        ask(engine, client, &[b"SADD", b"set", member.as_bytes()]);
        ask(engine, client, &[b"XADD", b"stream", b"*", b"f", member.as_bytes()]);
    }
    ask(engine, client, &[b"PEXPIREAT", b"set", b"4000000000000"]);
}

fn digest_of(engine: &Engine) -> String {
    format!("{:?}", digest::of_dataset(&engine.keyspace))
}

/// The dataset of the file on a disk.
fn saved(disk: &SimDisk, what: &str) -> String {
    let (mut engine, _) = engine_on(disk);
    let load = Load::of_snapshot(&mut engine.core(), Target::live());
    assert!(load.run(&mut engine.core()).is_ok(), "{what}: the file cannot be loaded");
    digest_of(&engine)
}

/// An engine that has saved once and was changed since, and the digests before and after.
struct Scene {
    disk: SimDisk,
    engine: Engine,
    client: ClientId,
    old: String,
    new: String,
}

impl Scene {
    fn new() -> Scene {
        let disk = SimDisk::new();
        let (mut engine, client) = engine_on(&disk);
        fill(&mut engine, client, 0);
        assert!(save(&mut engine, client));
        let old = digest_of(&engine);
        fill(&mut engine, client, 1);
        ask(&mut engine, client, &[b"DEL", b"k3"]);
        let new = digest_of(&engine);
        assert_ne!(old, new);
        Scene { disk, engine, client, old, new }
    }

    /// Checks what is on a disk; `is_new` if it must be the new dataset.
    fn check(&self, disk: &SimDisk, is_new: bool, what: &str) {
        let found = saved(disk, what);
        let is_fine = found == self.new || (!is_new && found == self.old);
        assert!(is_fine, "{what}: the file is neither what it was nor what was saved");
    }

    fn check_after_cuts(&self, is_new: bool, what: &str) {
        for seed in 0..SURVIVALS {
            let back = self.disk.after_power_cut(&mut Prng::seeded(seed));
            self.check(&back, is_new, &format!("{what}, survival {seed}"));
        }
    }
}

/// The calls that the second save makes: how many came before, and the last.
fn calls() -> (u64, u64) {
    let mut scene = Scene::new();
    let before = scene.disk.calls();
    assert!(save(&mut scene.engine, scene.client));
    let last = scene.disk.calls();
    assert!(last - before >= 6, "create, writes, sync, rename and the sync of the directory");
    (before, last)
}

#[test]
fn a_save_that_fails_at_any_call_leaves_the_old_file_or_the_new_one() {
    let (before, last) = calls();
    for mishap in FAULTS {
        for call in before + 1..=last {
            let what = format!("{mishap:?} at call {}", call - before);
            let mut scene = Scene::new();
            scene.disk.arrange(call, mishap);
            let is_saved = save(&mut scene.engine, scene.client);
            scene.check(&scene.disk, is_saved, &what);
            scene.check_after_cuts(is_saved, &what);
            let names = scene.disk.names();
            assert_eq!(names.len(), 1, "{what}: {names:?}");
            assert!(save(&mut scene.engine, scene.client), "{what}: it recovers");
            scene.check_after_cuts(true, &what);
        }
    }
}

#[test]
fn a_loss_of_power_after_any_call_leaves_the_old_file_or_the_new_one() {
    let (before, last) = calls();
    for call in before + 1..=last {
        let what = format!("power cut after call {}", call - before);
        let mut scene = Scene::new();
        scene.disk.arrange(call, Mishap::PowerCut);
        let is_saved = save(&mut scene.engine, scene.client);
        assert_eq!(is_saved, call == last, "{what}");
        scene.check_after_cuts(is_saved, &what);
    }
}

#[test]
fn what_a_loss_of_power_left_is_no_obstacle_to_the_next_save() {
    let (before, last) = calls();
    for call in before + 1..=last {
        let mut scene = Scene::new();
        scene.disk.arrange(call, Mishap::PowerCut);
        save(&mut scene.engine, scene.client);
        let back = scene.disk.after_power_cut(&mut Prng::seeded(call));
        let (mut engine, client) = engine_on(&back);
        fill(&mut engine, client, 2);
        assert!(save(&mut engine, client), "call {call}");
        assert_eq!(saved(&back, "after the cut"), digest_of(&engine));
    }
}
