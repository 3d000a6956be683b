//! Fans whose outlets, waits and clock follow a script or a seed.

use super::*;
use crate::keyspace::{Entry, HashSecret, Keyspace, NewValue};
use crate::structs::prng::Prng;
use crate::types::Encoding;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

const MARK: [u8; 40] = [b'm'; 40];
const TIMEOUT: Duration = Duration::from_secs(60);

/// A ring that everybody falls out of who is a hundredth of the snapshot behind.
const SMALL: Sizes = Sizes { piece_bytes: 512, ring_bytes: 8 << 10, lead_bytes: 2 << 10 };

/// How somebody takes what he is sent.
#[derive(Clone, Default)]
struct Script {
    /// So much more with each step.
    step_bytes: usize,
    /// Only in one of so many steps.
    one_of: u64,
    /// He takes nothing more, is found to be gone, or is said to be, after so many bytes.
    stalls_at: Option<usize>,
    breaks_at: Option<usize>,
    leaves_at: Option<usize>,
}

#[derive(Default)]
struct Reader {
    script: Script,
    room: Cell<usize>,
    taken: RefCell<Vec<u8>>,
    /// At which step the last byte was taken, and when.
    last_step: Cell<u64>,
    last_taken: Cell<Duration>,
    is_gone: Arc<AtomicBool>,
    clock: Rc<Clock>,
}

#[derive(Default)]
struct Clock {
    now: Cell<Duration>,
    steps: Cell<u64>,
}

impl Reader {
    fn has_come_to(&self, at: Option<usize>) -> bool {
        at.is_some_and(|at| self.taken.borrow().len() >= at)
    }

    fn make_room(&self) {
        let is_due = self.clock.steps.get().is_multiple_of(self.script.one_of);
        if is_due && !self.has_come_to(self.script.stalls_at) {
            self.room.set(self.script.step_bytes);
        }
        if self.has_come_to(self.script.leaves_at) {
            self.is_gone.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Outlet for Rc<Reader> {
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(pieces.iter().any(|piece| !piece.is_empty()), "nothing is offered");
        if self.has_come_to(self.script.breaks_at) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut taken = 0;
        for piece in pieces {
            let part = &piece[..piece.len().min(self.room.get())];
            self.taken.borrow_mut().extend_from_slice(part);
            self.room.set(self.room.get() - part.len());
            taken += part.len();
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.last_step.set(self.clock.steps.get());
        self.last_taken.set(self.clock.now.get());
        Ok(taken)
    }
}

/// Everything around a fan. Who is served apart comes when the others are done, as if his thread
/// had been slow.
struct Scene {
    clock: Rc<Clock>,
    readers: Vec<Rc<Reader>>,
    fates: BTreeMap<usize, Fate>,
    apart: Vec<Fan<usize, Rc<Reader>>>,
    /// How many passes there were for those that had fallen behind.
    passes_apart: usize,
}

impl World<usize, Rc<Reader>> for Scene {
    fn now(&self) -> Duration {
        self.clock.now.get()
    }

    fn wait(&mut self, outlets: &[&Rc<Reader>], at_most: Duration) {
        assert!(!at_most.is_zero() && at_most <= LOOK_EVERY);
        self.clock.steps.set(self.clock.steps.get() + 1);
        self.readers.iter().for_each(|reader| reader.make_room());
        let comes = outlets.iter().any(|outlet| outlet.room.get() > 0);
        let waited = if comes { at_most.min(Duration::from_millis(1)) } else { at_most };
        self.clock.now.set(self.clock.now.get() + waited);
    }

    fn report(&mut self, key: usize, outlet: Rc<Reader>, fate: Fate) {
        assert!(Rc::ptr_eq(&outlet, &self.readers[key]));
        assert_eq!(self.fates.insert(key, fate), None, "it is reported once");
    }

    fn go_apart(&mut self, fan: Fan<usize, Rc<Reader>>) {
        assert!(!fan.legs.is_empty());
        self.passes_apart += 1;
        self.apart.push(fan);
    }
}

impl Scene {
    fn new(scripts: &[Script]) -> Scene {
        let clock = Rc::new(Clock::default());
        let reader = |script: &Script| {
            let script = Script { one_of: script.one_of.max(1), ..script.clone() };
            Rc::new(Reader { script, clock: Rc::clone(&clock), ..Reader::default() })
        };
        let readers = scripts.iter().map(reader).collect();
        let (fates, apart) = (BTreeMap::new(), Vec::new());
        Scene { clock, readers, fates, apart, passes_apart: 0 }
    }

    fn play(&mut self, content: &Content) {
        let recipients = self.readers.iter().enumerate().map(|(key, reader)| Recipient {
            key,
            outlet: Rc::clone(reader),
            head: prelude(key),
            is_gone: Arc::clone(&reader.is_gone),
        });
        Fan::new(recipients.collect(), SMALL).send(content, self);
        while let Some(fan) = self.apart.pop() {
            fan.go_on(content, self);
        }
        assert_eq!(self.fates.len(), self.readers.len(), "each is reported");
    }

    fn taken(&self, key: usize) -> Vec<u8> {
        self.readers[key].taken.borrow().clone()
    }
}

fn prelude(key: usize) -> Vec<u8> {
    format!("+FULLRESYNC {key}\r\n").into_bytes()
}

fn content(framing: Framing) -> Content {
    let mut space = Keyspace::new(1, HashSecret::new([1; 16]), Prng::seeded(1));
    for number in 0..1_200u32 {
        let key = format!("key {number}").into_bytes();
        let value: Vec<u8> = (0..number % 400).map(|i| ((i * number) >> 3) as u8).collect();
        let entry = Entry::new(&key, NewValue::Bytes(&value), Encoding::of_whole(&value), None);
        space.insert_loaded(0, space.key(&key).hash(), entry);
    }
    let big = vec![7; 20_000];
    let entry = Entry::new(b"big", NewValue::Bytes(&big), Encoding::of_whole(&big), None);
    space.insert_loaded(0, space.key(b"big").hash(), entry);
    let dataset = Dataset { dbs: vec![(0, space.db(0).snapshot(0))], ..Dataset::default() };
    Content {
        dataset,
        options: SaveOptions { compresses: false, ..SaveOptions::default() },
        framing,
        timeout: Timeout::of(TIMEOUT),
        key_delay: KeyDelay::default(),
        progress: Arc::default(),
    }
}

fn snapshot(content: &Content) -> Vec<u8> {
    let mut out = Vec::new();
    rdb::write(&content.dataset, &content.options, &mut out, &mut |_| ControlFlow::Continue(()))
        .expect("memory takes it");
    out
}

/// All that a recipient is to be sent.
fn whole(key: usize, content: &Content) -> Vec<u8> {
    let snapshot = snapshot(content);
    match &content.framing {
        Framing::EndMark(mark) => {
            [&prelude(key)[..], b"$EOF:", mark, b"\r\n", &snapshot, mark].concat()
        }
        Framing::Length => {
            let line = format!("${}\r\n", snapshot.len());
            [&prelude(key)[..], line.as_bytes(), &snapshot].concat()
        }
    }
}

fn steady(step_bytes: usize) -> Script {
    Script { step_bytes, ..Script::default() }
}

const FRAMINGS: [Framing; 2] = [Framing::EndMark(MARK), Framing::Length];

/// A recipient of a seed, and what is to become of it.
fn drawn(prng: &mut Prng, len: usize) -> (Script, Fate) {
    let mut script = steady(1 + prng.below(6_000) as usize);
    script.one_of = 1 + prng.below(3) * prng.below(20);
    // Before the last byte, lest it is done before it is seen.
    let at = Some(prng.below(len as u64 - 6_000) as usize);
    let fate = match prng.below(6) {
        0 => {
            script.stalls_at = at;
            Fate::TimedOut
        }
        1 => {
            script.breaks_at = at;
            Fate::Lost("connection reset".to_owned())
        }
        2 => {
            script.leaves_at = at;
            Fate::Lost("its connection has ended".to_owned())
        }
        _ => Fate::Sent,
    };
    (script, fate)
}

#[test]
fn who_lives_gets_all_of_it_whoever_else_is_there() {
    let mut passes_apart = 0;
    for framing in FRAMINGS {
        let content = content(framing);
        let len = whole(0, &content).len();
        for seed in 0..100 {
            let mut prng = Prng::seeded(seed);
            let count = 1 + prng.below(6);
            let (scripts, fates): (Vec<Script>, Vec<Fate>) =
                (0..count).map(|_| drawn(&mut prng, len)).unzip();
            let mut scene = Scene::new(&scripts);
            scene.play(&content);
            passes_apart += scene.passes_apart;
            for (key, fate) in fates.iter().enumerate() {
                assert_eq!(&scene.fates[&key], fate, "seed {seed}, recipient {key}");
                let (whole, taken) = (whole(key, &content), scene.taken(key));
                assert!(whole.starts_with(&taken), "seed {seed}, recipient {key}");
                assert_eq!(taken.len() == len, *fate == Fate::Sent, "seed {seed}, {key}");
            }
        }
    }
    assert!(passes_apart > 100, "they fall behind at all: {passes_apart}");
}

#[test]
fn one_pass_serves_those_who_keep_up() {
    let mut scene = Scene::new(&[steady(3_000), steady(3_020), steady(3_000), steady(2_990)]);
    scene.play(&content(Framing::EndMark(MARK)));
    assert_eq!(scene.passes_apart, 0);
}

#[test]
fn the_slow_do_not_slow_the_others() {
    let content = content(Framing::EndMark(MARK));
    let steps = |scripts: &[Script]| {
        let mut scene = Scene::new(scripts);
        scene.play(&content);
        assert!(scene.fates.values().all(|fate| *fate == Fate::Sent));
        (scene.readers[0].last_step.get(), scene.readers[1].last_step.get())
    };
    let slow = Script { step_bytes: 100, one_of: 50, ..Script::default() };
    let (alone, _) = steps(&[steady(2_000), steady(2_000)]);
    assert!(alone > 20, "it takes its time: {alone}");
    let beside = steps(&[steady(2_000), steady(2_000), slow.clone(), slow]);
    assert_eq!(beside, (alone, alone));
}

#[test]
fn who_takes_nothing_is_given_up_alone_and_not_before_its_time() {
    for framing in FRAMINGS {
        let content = content(framing);
        for stalls_at in [0, 10, 30, 50_000] {
            let stalled = Script { stalls_at: Some(stalls_at), ..steady(1_000) };
            let slow = Script { one_of: 500, ..steady(40_000) };
            let mut scene = Scene::new(&[steady(1_000), stalled, slow]);
            scene.play(&content);
            let fates: Vec<&Fate> = scene.fates.values().collect();
            assert_eq!(fates, [&Fate::Sent, &Fate::TimedOut, &Fate::Sent], "{stalls_at}");
            let quiet = scene.clock.now.get() - scene.readers[1].last_taken.get();
            assert!(quiet >= TIMEOUT, "{stalls_at}: {quiet:?}");
        }
    }
}

#[test]
fn nothing_is_encoded_for_nobody() {
    for framing in FRAMINGS {
        let content = content(framing);
        let breaks = Script { breaks_at: Some(2_000), ..steady(500) };
        let leaves = Script { leaves_at: Some(4_000), ..steady(500) };
        let mut scene = Scene::new(&[breaks, leaves]);
        scene.play(&content);
        assert!(content.progress.keys() < 600, "{}", content.progress.keys());
    }
}

/// A long pause at a key hides neither that all are gone nor what was there before it.
#[test]
fn pauses_at_keys_keep_nothing_back() {
    let content = content(Framing::EndMark(MARK));
    content.key_delay.set(600_000_000);
    let head = prelude(0).len() + b"$EOF:\r\n".len() + MARK.len();
    let mut scene = Scene::new(&[Script { leaves_at: Some(head), ..steady(10) }]);
    scene.play(&content);
    assert_eq!(scene.taken(0).len(), head);
    assert_eq!(content.progress.keys(), 0);
    assert!(scene.clock.now.get() < Duration::from_secs(1), "{:?}", scene.clock.now.get());
}

/// Ends the pauses when so much has been taken.
struct Hurried {
    scene: Scene,
    key_delay: KeyDelay,
}

impl World<usize, Rc<Reader>> for Hurried {
    fn now(&self) -> Duration {
        self.scene.now()
    }

    fn wait(&mut self, outlets: &[&Rc<Reader>], at_most: Duration) {
        if self.scene.clock.now.get() > Duration::from_secs(5) {
            self.key_delay.set(0);
        }
        self.scene.wait(outlets, at_most);
    }

    fn report(&mut self, key: usize, outlet: Rc<Reader>, fate: Fate) {
        self.scene.report(key, outlet, fate);
    }

    fn go_apart(&mut self, fan: Fan<usize, Rc<Reader>>) {
        self.scene.go_apart(fan);
    }
}

#[test]
fn pauses_at_keys_end_when_the_directive_is_changed() {
    let content = content(Framing::EndMark(MARK));
    content.key_delay.set(600_000_000);
    let scene = Scene::new(&[steady(10_000)]);
    let outlet = Rc::clone(&scene.readers[0]);
    let is_gone = Arc::clone(&outlet.is_gone);
    let recipient = Recipient { key: 0, outlet, head: prelude(0), is_gone };
    let mut world = Hurried { scene, key_delay: content.key_delay.clone() };
    Fan::new(vec![recipient], SMALL).send(&content, &mut world);
    assert_eq!(world.scene.taken(0), whole(0, &content));
    assert!(world.scene.clock.now.get() < Duration::from_secs(10));
}

#[test]
fn a_transfer_that_is_called_off_ends_for_all() {
    for framing in FRAMINGS {
        let content = content(framing);
        content.progress.cancel();
        let mut scene = Scene::new(&[steady(1_000), steady(0)]);
        scene.play(&content);
        let lost = Fate::Lost("the transfer was called off".to_owned());
        assert!(scene.fates.values().all(|fate| *fate == lost), "{:?}", scene.fates);
    }
}

/// A world in which each piece of the snapshot takes seconds to be made.
struct Sluggish(Scene);

impl World<usize, Rc<Reader>> for Sluggish {
    fn now(&self) -> Duration {
        let clock = &self.0.clock;
        clock.now.set(clock.now.get() + Duration::from_millis(300));
        self.0.readers.iter().for_each(|reader| reader.make_room());
        clock.now.get()
    }

    fn wait(&mut self, outlets: &[&Rc<Reader>], at_most: Duration) {
        self.0.wait(outlets, at_most);
    }

    fn report(&mut self, key: usize, outlet: Rc<Reader>, fate: Fate) {
        self.0.report(key, outlet, fate);
    }

    fn go_apart(&mut self, fan: Fan<usize, Rc<Reader>>) {
        self.0.go_apart(fan);
    }
}

/// While the snapshot is counted, who waits is sent empty lines, and then what all are sent.
#[test]
fn who_waits_for_the_length_is_sent_signs_of_life() {
    let content = content(Framing::Length);
    let scene = Scene::new(&[steady(1_000)]);
    let outlet = Rc::clone(&scene.readers[0]);
    let is_gone = Arc::clone(&outlet.is_gone);
    let recipient = Recipient { key: 0, outlet, head: prelude(0), is_gone };
    let mut world = Sluggish(scene);
    Fan::new(vec![recipient], SMALL).send(&content, &mut world);
    let (taken, whole) = (world.0.taken(0), whole(0, &content));
    let prelude = prelude(0).len();
    let lines = taken[prelude..].iter().take_while(|byte| **byte == b'\n').count();
    assert!(lines > 20, "{lines}");
    assert_eq!(taken[..prelude], whole[..prelude]);
    assert!(taken[prelude + lines..] == whole[prelude..]);
}
