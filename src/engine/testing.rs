//! For the tests of rooms that play commands against an engine in this process.
//!
//! A [`Bench`] is an engine with one client on it, on which commands are typed as a line of words.
//! Its clock stands until it is moved, and what the engine wants done is done at once, but for the
//! jobs of saves where a test wants to see what happens until they run.

use super::hold::Told;
use super::migrate;
use super::propagate::Reader;
use super::saving::SaveJob;
use super::slot_move;

use super::{ClientId, Driver, Engine, Job, Now, Peer, Seed, ServerParts};
use crate::config::{Config, EventClasses, SetBy};
use crate::keyspace::KeyEvent;
use crate::resp::{OwnedRequest, ReplyBuf};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The wall clock's first reading; the monotonic clock begins with a millisecond.
pub const START_MS: u64 = 1_700_000_000_000;

pub struct Bench {
    pub engine: Engine,
    /// Whose commands `run` and `ask` run.
    pub client: ClientId,
    /// What the wall clock is off.
    pub offset_ms: i64,
    now_ms: u64,
    world: World,
}

/// What is around the engine.
struct World {
    client: ClientId,
    /// What the client is told by the request that runs.
    out: ReplyBuf,
    /// What clients are told at other times, and others than that client.
    heard: BTreeMap<ClientId, Vec<u8>>,
    /// Who may go on after a wait, and who was closed.
    woken: Vec<ClientId>,
    closed: Vec<ClientId>,
    /// The process has ended with this code.
    exit: Option<i32>,
    now: Now,
    jobs: usize,
    /// The jobs of saves that have not run, where the test runs them.
    held_saves: Option<VecDeque<SaveJob>>,
    /// What is put aside goes on when the test ends a turn.
    steps: bool,
    /// Moves that the test carries out, if it does.
    held_moves: Option<VecDeque<migrate::Order>>,
    /// What moves of slots say to other nodes.
    slot_orders: VecDeque<slot_move::Order>,
}

impl Driver for World {
    fn send(&mut self, _engine: &mut Engine, client: ClientId, bytes: ReplyBuf, _told: Told) {
        if client == self.client {
            self.out.append(bytes);
        } else {
            self.heard.entry(client).or_default().extend(bytes.to_vec());
        }
    }

    fn wake(&mut self, _engine: &mut Engine, client: ClientId) {
        self.woken.push(client);
    }

    fn close(&mut self, _engine: &mut Engine, client: ClientId) {
        self.closed.push(client);
    }

    fn exit(&mut self, code: i32) {
        self.exit = Some(code);
    }

    fn sleep(&mut self, _duration: Duration) -> Now {
        self.now
    }

    fn run(&mut self, engine: &mut Engine, client: ClientId, job: Job) {
        self.jobs += 1;
        engine.finish_job(client, job());
    }

    fn migrate(&mut self, engine: &mut Engine, order: migrate::Order) {
        match &mut self.held_moves {
            Some(held) => held.push_back(order),
            None => engine.finish_migration(order.failed(migrate::Failure::Writing)),
        }
    }

    fn slot_move(&mut self, _engine: &mut Engine, order: slot_move::Order) {
        self.slot_orders.push_back(order);
    }

    fn save(&mut self, engine: &mut Engine, job: SaveJob) {
        match &mut self.held_saves {
            Some(held) => held.push_back(job),
            None => {
                self.jobs += 1;
                engine.finish_save(job());
            }
        }
    }
}

impl Default for Bench {
    fn default() -> Bench {
        Bench::with(Config::default())
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench::default()
    }

    pub fn with(config: Config) -> Bench {
        Bench::over(config, ServerParts::default())
    }

    /// Over a clock, an allocator or a disk of the test's own.
    pub fn over(config: Config, parts: ServerParts) -> Bench {
        let mut engine = Engine::new(config, parts, Seed::default());
        let client = engine.connect(Peer::internal());
        let world = World {
            client,
            out: ReplyBuf::new(),
            heard: BTreeMap::new(),
            woken: Vec::new(),
            closed: Vec::new(),
            exit: None,
            now: Now::default(),
            jobs: 0,
            held_saves: None,
            steps: false,
            held_moves: None,
            slot_orders: VecDeque::new(),
        };
        let mut bench = Bench { engine, client, offset_ms: 0, now_ms: 0, world };
        bench.advance(0);
        bench
    }

    /// Records what is replayed, and the events of these classes.
    pub fn recording(mut self, events: EventClasses) -> Bench {
        self.engine.server.propagation.set_active(Reader::Aof, true);
        self.engine.server.collected_events = Some(Vec::new());
        let observers = &mut self.engine.keyspace.changes.observers;
        observers.events = events.or(EventClasses::KEYEVENT);
        observers.propagation = true;
        self
    }

    /// Keeps what MIGRATE wants sent, for the test to carry out.
    pub fn holding_moves(mut self) -> Bench {
        self.world.held_moves = Some(VecDeque::new());
        self
    }

    /// The oldest of it.
    pub fn next_move(&mut self) -> Option<migrate::Order> {
        self.world.carry_out(&mut self.engine);
        self.world.held_moves.as_mut().and_then(VecDeque::pop_front)
    }

    /// The oldest of what moves of slots say to other nodes.
    pub fn next_slot_order(&mut self) -> Option<slot_move::Order> {
        self.world.carry_out(&mut self.engine);
        self.world.slot_orders.pop_front()
    }

    /// Keeps the jobs of saves until `run_held_save`; each request is a turn of its own.
    pub fn holding_saves(mut self) -> Bench {
        self.world.held_saves = Some(VecDeque::new());
        self
    }

    /// Leaves it to the test when what has been put aside goes on: a while each turn.
    pub fn stepping(mut self) -> Bench {
        self.world.steps = true;
        self
    }

    pub fn advance(&mut self, ms: u64) {
        self.move_to(self.now_ms + ms);
    }

    /// Moves the clock to so many milliseconds after the start.
    pub fn move_to(&mut self, ms: u64) {
        self.now_ms = ms;
        let unix_ms = (START_MS + self.now_ms).saturating_add_signed(self.offset_ms);
        self.world.now = Now { unix_us: unix_ms * 1000, mono_us: (1 + self.now_ms) * 1000 };
        self.engine.tick(self.world.now);
    }

    /// Takes away what is due; in how many slices.
    pub fn expire_all(&mut self) -> usize {
        let ends = |slice: &usize| *slice > 100_000 || !self.engine.expire_due();
        let slices = (1..).find(ends).unwrap_or(usize::MAX);
        assert!(slices <= 100_000, "what is due does not come to an end");
        slices
    }

    /// The whole reply to a request, once the jobs that it starts have run.
    pub fn run(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.world.carry_out(&mut self.engine);
        let mut out = ReplyBuf::new();
        self.engine.run(self.client, OwnedRequest::from_args(words).as_request(), &mut out);
        self.world.client = self.client;
        self.world.out = out;
        if self.world.held_saves.is_some() {
            self.engine.end_turn();
        }
        self.world.carry_out(&mut self.engine);
        while self.engine.is_under_way() && !self.world.steps {
            self.engine.go_on();
            self.world.carry_out(&mut self.engine);
        }
        std::mem::take(&mut self.world.out).to_vec()
    }

    /// The reply to a line of words, its line ends shown as bars; `''` is an empty word.
    pub fn ask(&mut self, line: &str) -> String {
        let word = |word| if word == "''" { b"" } else { str::as_bytes(word) };
        let words: Vec<&[u8]> = line.split(' ').map(word).collect();
        text(&self.run(&words))
    }

    pub fn expect(&mut self, line: &str, reply: &str) {
        assert_eq!(self.ask(line), reply, "{line}");
    }

    /// Pairs of a line and the reply to it, in order.
    pub fn expect_all(&mut self, pairs: &[(&str, &str)]) {
        for (line, reply) in pairs {
            self.expect(line, reply);
        }
    }

    /// Ends the turn, and does what was left to do.
    pub fn turn(&mut self) {
        self.world.end_turn(&mut self.engine);
        let late = std::mem::take(&mut self.world.out).to_vec();
        self.world.heard.entry(self.world.client).or_default().extend(late);
    }

    /// Another client, whose commands run from now on.
    pub fn connect(&mut self) -> ClientId {
        self.client = self.engine.connect(Peer::internal());
        self.client
    }

    /// The reply to a client's line of words.
    pub fn ask_as(&mut self, client: ClientId, line: &str) -> String {
        self.client = client;
        self.ask(line)
    }

    /// What a client has been told since the last call, but for replies that came at once.
    pub fn heard(&mut self, client: ClientId) -> String {
        text(&self.world.heard.remove(&client).unwrap_or_default())
    }

    /// Whether a client that waited may go on, since the last call.
    pub fn has_woken(&mut self, client: ClientId) -> bool {
        let count = self.world.woken.len();
        self.world.woken.retain(|woken| *woken != client);
        self.world.woken.len() < count
    }

    /// Whether the engine wanted a client's connection closed.
    pub fn has_closed(&self, client: ClientId) -> bool {
        self.world.closed.contains(&client)
    }

    /// The code with which the process was to end, if it was.
    pub fn exit_code(&self) -> Option<i32> {
        self.world.exit
    }

    /// How many jobs have run, those of saves too.
    pub fn jobs(&self) -> usize {
        self.world.jobs
    }

    /// Runs one of the jobs that were held; false if there is none.
    pub fn run_held_save(&mut self) -> bool {
        let Some(job) = self.world.held_saves.as_mut().and_then(VecDeque::pop_front) else {
            return false;
        };
        self.world.jobs += 1;
        self.engine.finish_save(job());
        self.turn();
        true
    }

    /// What was replayed since the last call, one command a line.
    pub fn replayed(&mut self) -> Vec<String> {
        let commands = self.engine.server.propagation.drain();
        commands.iter().map(|command| text(&command.words.join(&b' '))).collect()
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<KeyEvent> {
        let collected = &mut self.engine.server.collected_events;
        std::mem::take(collected.as_mut().expect("the bench records"))
    }

    /// The events since the last call, as `name key`.
    pub fn told(&mut self) -> Vec<String> {
        let told = |event: &KeyEvent| format!("{} {}", event.name, text(&event.key));
        self.events().iter().map(told).collect()
    }

    /// Drops what was replayed and told so far.
    pub fn forget(&mut self) {
        self.events();
        self.replayed();
    }

    /// How many changes were counted since the last save.
    pub fn dirty(&self) -> u64 {
        self.engine.keyspace.changes.dirty
    }

    /// How many keys the first database has, those among them whose time has come.
    pub fn keys(&self) -> usize {
        self.engine.keyspace.db(0).len()
    }

    /// The elements of a reply that is an array of bulk strings.
    pub fn list(&mut self, line: &str) -> Vec<String> {
        let reply = self.ask(line);
        assert!(reply.starts_with('*'), "{line}: {reply}");
        reply.split('|').skip(2).step_by(2).map(str::to_owned).collect()
    }

    pub fn encoding(&mut self, key: &str) -> String {
        let reply = self.ask(&format!("OBJECT ENCODING {key}"));
        reply.split('|').nth(1).unwrap_or_else(|| panic!("{key}: {reply}")).to_owned()
    }

    /// The lines of INFO that begin with a word.
    pub fn info_lines(&mut self, section: &str, prefix: &str) -> Vec<String> {
        let report = self.run(&[b"INFO", section.as_bytes()]);
        let report = String::from_utf8_lossy(&report);
        report.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    /// A field of INFO.
    pub fn info(&mut self, name: &str) -> String {
        let lines = self.info_lines("everything", &format!("{name}:"));
        let line = lines.first().unwrap_or_else(|| panic!("INFO has no {name}"));
        line[name.len() + 1..].to_owned()
    }
}

/// Bytes as tests show them: line ends are bars.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "|")
}

/// A configuration with these directives, as they stand in a file.
pub fn config(directives: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, value) in directives {
        let by = SetBy { loading: false, local: true };
        config.set(&[(name.as_bytes(), value.as_bytes())], by).expect("the directive is right");
    }
    config
}
