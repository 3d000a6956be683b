//! An engine driven in process: no sockets, and a clock that only moves when it is told to.
//!
//! It does what the turn loop does, for one request at a time: parse, run, carry out effects.
//! Jobs run at once, as if another thread had been very fast.

use crate::answer::{self, Answer};
use rufous::config;
use rufous::engine::hold::Told;
use rufous::engine::{ClientId, Driver, Engine, Job, Now, Peer, Seed, ServerParts, Verdict};
use rufous::resp::{Protocol, ReplyBuf, RequestReader};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub struct Local {
    pub engine: Engine,
    world: World,
}

/// All there is around the engine.
struct World {
    now: Now,
    clients: BTreeMap<ClientId, Connection>,
    /// Clients who may go on.
    ready: VecDeque<ClientId>,
    /// The engine asked for the process to end.
    has_exited: bool,
    /// How many jobs have run.
    jobs: usize,
}

#[derive(Default)]
struct Connection {
    reader: RequestReader,
    output: Vec<u8>,
    is_suspended: bool,
    is_closed: bool,
}

impl Local {
    /// A fresh engine, configured as by these directives on the command line.
    pub fn start(directives: &[(String, String)]) -> Local {
        let mut args = vec![b"--save".to_vec(), Vec::new()];
        let debug = ("enable-debug-command".to_owned(), "yes".to_owned());
        for (name, value) in directives.iter().chain([&debug]) {
            args.push(format!("--{name}").into_bytes());
            let words = rufous::structs::words::split(value.as_bytes());
            args.extend(words.unwrap_or_else(|_| vec![value.clone().into_bytes()]));
        }
        let loaded =
            config::load(&args, &mut config::Disk::default()).expect("the directives are good");
        let seed = Seed { hash_key: [7; 16], prng: 7 };
        let mut engine = Engine::new(loaded.config, ServerParts::default(), seed);
        let now = Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000_000 };
        engine.tick(now);
        let world = World {
            now,
            clients: BTreeMap::new(),
            ready: VecDeque::new(),
            has_exited: false,
            jobs: 0,
        };
        Local { engine, world }
    }

    /// How many replies another thread would have written.
    pub fn jobs(&self) -> usize {
        self.world.jobs
    }

    pub fn has_exited(&self) -> bool {
        self.world.has_exited
    }

    pub fn connect(&mut self) -> ClientId {
        let id = self.engine.connect(Peer::internal());
        self.world.clients.insert(id, Connection::default());
        id
    }

    /// Moves the clock. Keys that are due are left for commands to find.
    pub fn advance(&mut self, by: Duration) {
        let by_us = u64::try_from(by.as_micros()).expect("tests do not wait for ages");
        self.world.now.unix_us += by_us;
        self.world.now.mono_us += by_us;
        self.engine.tick(self.world.now);
        self.engine.cron();
        self.engine.end_waits();
        self.serve();
    }

    /// Hands bytes to the server as if they had come from the client's socket.
    pub fn send(&mut self, client: ClientId, bytes: &[u8]) {
        let Some(connection) = self.world.clients.get_mut(&client) else { return };
        connection.reader.feed(bytes);
        self.world.ready.push_back(client);
        self.serve();
    }

    /// Sends a request and takes its reply, if there is one already.
    pub fn call<A: AsRef<[u8]>>(&mut self, client: ClientId, words: &[A]) -> Option<Answer> {
        self.send(client, &answer::encode(words));
        self.receive(client)
    }

    /// The next reply that is there.
    pub fn receive(&mut self, client: ClientId) -> Option<Answer> {
        let connection = self.world.clients.get_mut(&client)?;
        let (answer, len) = answer::read(&connection.output)?;
        connection.output.drain(..len);
        Some(answer)
    }

    /// All bytes that are there, and whether the connection has ended.
    pub fn receive_raw(&mut self, client: ClientId) -> (Vec<u8>, bool) {
        let Some(connection) = self.world.clients.get_mut(&client) else {
            return (Vec::new(), true);
        };
        (std::mem::take(&mut connection.output), connection.is_closed)
    }

    /// Whether bytes are there that were not taken.
    pub fn has_output(&self, client: ClientId) -> bool {
        self.world.clients.get(&client).is_some_and(|connection| !connection.output.is_empty())
    }

    pub fn is_closed(&self, client: ClientId) -> bool {
        self.world.clients.get(&client).is_none_or(|connection| connection.is_closed)
    }

    /// Runs what clients have sent as far as it can be run, with a turn for each request.
    fn serve(&mut self) {
        self.end_turn();
        while let Some(client) = self.world.ready.pop_front() {
            while self.world.serve_one(&mut self.engine, client) {
                self.end_turn();
            }
            self.end_turn();
        }
    }

    /// A turn, and all turns that a command takes which has been put aside.
    fn end_turn(&mut self) {
        self.world.end_turn(&mut self.engine);
        while self.engine.is_under_way() {
            self.world.end_turn(&mut self.engine);
        }
    }
}

impl World {
    /// Runs one request; false if there is none that may run.
    fn serve_one(&mut self, engine: &mut Engine, client: ClientId) -> bool {
        let Some(connection) = self.clients.get_mut(&client) else { return false };
        if connection.is_closed || connection.is_suspended {
            return false;
        }
        let parsed =
            connection.reader.parse(&engine.reading().limits(engine.is_authenticated(client)));
        if connection.reader.pending() == 0 {
            if let Err(failure) = parsed {
                let mut out = ReplyBuf::new();
                out.writer(Protocol::Resp2).error(&failure.reply_text());
                connection.output.extend(out.to_vec());
                self.close(engine, client);
            }
            return false;
        }
        engine.tick(self.now);
        let mut out = ReplyBuf::new();
        let verdict = engine.run(client, connection.reader.request(0), &mut out);
        connection.output.extend(out.to_vec());
        if verdict != Verdict::Postponed {
            connection.reader.pop_front();
        }
        match verdict {
            Verdict::Done => {}
            Verdict::Suspended | Verdict::Postponed => connection.is_suspended = true,
            Verdict::Closing | Verdict::Dropped => self.close(engine, client),
        }
        true
    }
}

impl Driver for World {
    fn send(&mut self, _engine: &mut Engine, client: ClientId, bytes: ReplyBuf, _told: Told) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.output.extend(bytes.to_vec());
        }
    }

    fn run(&mut self, engine: &mut Engine, client: ClientId, job: Job) {
        self.jobs += 1;
        engine.finish_job(client, job());
    }

    fn wake(&mut self, _engine: &mut Engine, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.is_suspended = false;
            self.ready.push_back(client);
        }
    }

    fn close(&mut self, engine: &mut Engine, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client)
            && !connection.is_closed
        {
            connection.is_closed = true;
            engine.disconnect(client);
        }
    }

    fn sleep(&mut self, duration: Duration) -> Now {
        let by_us = u64::try_from(duration.as_micros()).expect("a short sleep");
        self.now.unix_us += by_us;
        self.now.mono_us += by_us;
        self.now
    }

    fn exit(&mut self, _code: i32) {
        self.has_exited = true;
    }
}
