//! An engine driven in process: no sockets, and a clock that only moves when it is told to.
//!
//! It does what the turn loop does, for one request at a time: parse, run, carry out effects.
//! Jobs run at once, as if another thread had been very fast.

use crate::answer::{self, Answer};
use rufous::config;
use rufous::engine::{ClientId, Effect, Engine, Now, Peer, Seed, ServerParts, Verdict};
use rufous::resp::{Protocol, ReplyBuf, RequestReader};
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Local {
    pub engine: Engine,
    now: Now,
    clients: BTreeMap<ClientId, Connection>,
    /// The engine asked for the process to end.
    pub exited: bool,
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
        Local { engine, now, clients: BTreeMap::new(), exited: false }
    }

    pub fn connect(&mut self) -> ClientId {
        let id = self.engine.connect(Peer::internal());
        self.clients.insert(id, Connection::default());
        id
    }

    /// Moves the clock. Keys that are due are left for commands to find.
    pub fn advance(&mut self, by: Duration) {
        let by_us = u64::try_from(by.as_micros()).expect("tests do not wait for ages");
        self.now.unix_us += by_us;
        self.now.mono_us += by_us;
        self.engine.tick(self.now);
        self.engine.cron();
        self.engine.end_waits();
        self.carry_out();
    }

    /// Hands bytes to the server as if they had come from the client's socket.
    pub fn send(&mut self, client: ClientId, bytes: &[u8]) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        connection.reader.feed(bytes);
        self.serve(client);
    }

    /// Sends a request and takes its reply, if there is one already.
    pub fn call<A: AsRef<[u8]>>(&mut self, client: ClientId, words: &[A]) -> Option<Answer> {
        self.send(client, &answer::encode(words));
        self.receive(client)
    }

    /// The next reply that is there.
    pub fn receive(&mut self, client: ClientId) -> Option<Answer> {
        let connection = self.clients.get_mut(&client)?;
        let (answer, len) = answer::read(&connection.output)?;
        connection.output.drain(..len);
        Some(answer)
    }

    /// All bytes that are there, and whether the connection has ended.
    pub fn receive_raw(&mut self, client: ClientId) -> (Vec<u8>, bool) {
        let Some(connection) = self.clients.get_mut(&client) else { return (Vec::new(), true) };
        (std::mem::take(&mut connection.output), connection.is_closed)
    }

    /// Whether bytes are there that were not taken.
    pub fn has_output(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|connection| !connection.output.is_empty())
    }

    pub fn is_closed(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_none_or(|connection| connection.is_closed)
    }

    /// Runs the client's requests as far as they can be run.
    fn serve(&mut self, client: ClientId) {
        while self.serve_one(client) {
            self.carry_out();
        }
        self.carry_out();
    }

    /// Runs one request; false if there is none that may run.
    fn serve_one(&mut self, client: ClientId) -> bool {
        let engine = &mut self.engine;
        let Some(connection) = self.clients.get_mut(&client) else { return false };
        if connection.is_closed || connection.is_suspended {
            return false;
        }
        let parsed = connection.reader.parse(&engine.request_limits(client));
        if connection.reader.pending() == 0 {
            if let Err(failure) = parsed {
                let mut out = ReplyBuf::new();
                out.writer(Protocol::Resp2).error(&failure.reply_text());
                connection.output.extend(out.to_vec());
                self.close(client);
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
            Verdict::Closing | Verdict::Dropped => self.close(client),
        }
        true
    }

    fn close(&mut self, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client)
            && !connection.is_closed
        {
            connection.is_closed = true;
            self.engine.disconnect(client);
        }
    }

    fn carry_out(&mut self) {
        self.engine.end_turn();
        while self.engine.has_effects() {
            for effect in self.engine.take_effects() {
                self.carry_out_one(effect);
            }
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Push { client, bytes } => self.append(client, &bytes),
            Effect::Broadcast { clients, bytes } => {
                for client in clients {
                    self.append_bytes(client, &bytes);
                }
            }
            Effect::Run { client, job } => {
                let reply = job();
                self.engine.finish_job(client, reply);
            }
            Effect::ReloadLog { client } => self.engine.reload_log(client),
            Effect::Sync(request) => self.engine.finish_sync(request.run()),
            Effect::Save(job) => {
                let outcome = job();
                self.engine.finish_save(outcome);
            }
            Effect::Wake { client } => {
                if let Some(connection) = self.clients.get_mut(&client) {
                    connection.is_suspended = false;
                }
                self.serve(client);
            }
            Effect::Close { client } => self.close(client),
            Effect::Sleep(duration) => {
                let by_us = u64::try_from(duration.as_micros()).expect("a short sleep");
                self.now.unix_us += by_us;
                self.now.mono_us += by_us;
                self.engine.tick(self.now);
                self.engine.serve_waits();
            }
            Effect::Exit(_) => self.exited = true,
            Effect::Listen(change) => self.engine.finish_listening(*change, true),
            Effect::Free(_) | Effect::Log | Effect::Stand(_) | Effect::WakeTimer => {}
        }
    }

    fn append(&mut self, client: ClientId, bytes: &ReplyBuf) {
        self.append_bytes(client, &bytes.to_vec());
    }

    fn append_bytes(&mut self, client: ClientId, bytes: &[u8]) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.output.extend(bytes);
        }
    }
}
