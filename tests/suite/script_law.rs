//! The law of scripts: what a script gets of a command is what its client would have got, it does
//! the same to the data, and the write stream says the same of it.
//!
//! Every example and every transcript is played twice in process, once as it stands and once with
//! each command that scripts may have called by a script; after each step both are compared.

use crate::answer::{self, Answer};
use crate::local::Local;
use crate::play;
use crate::shape;
use crate::transcript::{Action, Scope, Step, Transcript};
use rufous::command::table::Row;
use rufous::command::{Flags, Table};
use rufous::engine::ClientId;
use rufous::engine::propagate::Reader;
use rufous::engine::session::ClientKind;
use std::collections::{BTreeMap, BTreeSet};

/// Commands of which a script gets something else, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("select", "a script selects a database for itself"),
    ("info", "it tells of scripts, too"),
    ("memory|stats", "it tells of scripts, too"),
    ("slowlog|len", "so does the slow log"),
];

/// Both of a transcript.
struct Pair<'t> {
    transcript: &'t Transcript,
    table: &'t Table,
    protocol: u8,
    /// As it stands, and by scripts.
    worlds: [Local; 2],
    /// Reads of the write stream so far.
    read: [u64; 2],
    clients: BTreeMap<String, ClientId>,
    client: String,
    faults: Vec<String>,
    /// The commands that scripts have called.
    called: BTreeSet<&'static str>,
}

/// The write stream is recorded, though there is no AOF.
fn start(transcript: &Transcript) -> Local {
    let mut local = Local::start(&transcript.config);
    local.engine.server.propagation.set_active(Reader::Aof, true);
    local.engine.keyspace.changes.observers.propagation = true;
    local
}

impl Pair<'_> {
    fn new<'t>(transcript: &'t Transcript, table: &'t Table, protocol: u8) -> Pair<'t> {
        Pair {
            transcript,
            table,
            protocol,
            worlds: [start(transcript), start(transcript)],
            read: [0; 2],
            clients: BTreeMap::new(),
            client: "main".to_owned(),
            faults: Vec::new(),
            called: BTreeSet::new(),
        }
    }

    fn play(&mut self) {
        let mut skips = false;
        let transcript = self.transcript;
        for step in &transcript.steps {
            if matches!(step.action, Action::Reset) {
                self.worlds = [start(transcript), start(transcript)];
                (self.read, self.clients, self.client) =
                    ([0; 2], BTreeMap::new(), "main".to_owned());
                continue;
            }
            skips |= self.worlds.iter().any(Local::has_exited);
            if skips || !is_for(&step.scope, self.protocol) {
                continue;
            }
            match &step.action {
                Action::Advance(by) => self.worlds.iter_mut().for_each(|world| world.advance(*by)),
                Action::Client(name) => self.client.clone_from(name),
                Action::Config(name, value) => {
                    let words = ["CONFIG", "SET", name, value].map(|word| word.as_bytes().to_vec());
                    self.both(&words);
                }
                Action::Call(words) => self.call(step, words),
                Action::Raw(bytes) => {
                    let client = self.connected();
                    for world in &mut self.worlds {
                        world.send(client, bytes);
                        world.receive_raw(client);
                    }
                }
                Action::Receive | Action::Reset => {}
            }
            self.compare_streams(step);
        }
        self.compare_data();
    }

    /// The client, who has the same number in both worlds.
    fn connected(&mut self) -> ClientId {
        if let Some(client) = self.clients.get(&self.client) {
            return *client;
        }
        let [client, other] = self.worlds.each_mut().map(Local::connect);
        assert_eq!(client, other);
        self.clients.insert(self.client.clone(), client);
        if self.protocol == 3 {
            self.both(&[b"HELLO".to_vec(), b"3".to_vec()]);
        }
        client
    }

    fn both(&mut self, words: &[Vec<u8>]) {
        let client = self.connected();
        for world in &mut self.worlds {
            ask(world, client, words);
        }
    }

    fn call(&mut self, step: &Step, words: &[Vec<u8>]) {
        let client = self.connected();
        let words: Vec<Vec<u8>> = words.iter().map(|word| self.filled_in(word)).collect();
        // A wrong number of words has a text of its own there.
        let fits = |row: &&Row| row.command.arity.accepts(words.len()) && self.may_be_called(row);
        let Some(row) = shape::row(self.table, &words).filter(fits) else {
            return self.both(&words);
        };
        self.called.insert(row.full_name);
        let [direct, scripted] = &mut self.worlds;
        let expected = match row.command.flags.has(Flags::BLOCKING) {
            true => ask_without_block(direct, client, &words),
            false => ask(direct, client, &words),
        };
        let body = match self.protocol {
            3 => "redis.setresp(3) return redis.pcall(unpack(ARGV))",
            _ => "return redis.pcall(unpack(ARGV))",
        };
        let own = ["EVAL", body, "0"].map(|word| word.as_bytes().to_vec());
        let jobs = scripted.jobs();
        let found = ask(scripted, client, &[&own[..], &words].concat());
        if scripted.jobs() > jobs {
            self.complain(step, "another thread answers a script".to_owned());
        }
        let expected = expected.map(|answer| in_order(by_script(answer, self.protocol)));
        let found = found.map(in_order);
        if expected != found {
            let text = |answer: Option<Answer>| answer.map_or("nothing".to_owned(), |a| a.print());
            let (expected, found) = (text(expected), text(found));
            self.complain(step, format!("a script gets\n{found}\nand not\n{expected}"));
        }
    }

    fn filled_in(&self, word: &[u8]) -> Vec<u8> {
        let name = word.strip_prefix(b"@id:").and_then(|name| str::from_utf8(name).ok());
        let client = name.and_then(|name| self.clients.get(name));
        client.map_or(word.to_vec(), |client| client.number().to_string().into_bytes())
    }

    /// Whether a script may call it in this client's place now.
    fn may_be_called(&self, row: &Row) -> bool {
        let engine = &self.worlds[1].engine;
        let Some(session) = engine.clients.get(self.clients[&self.client]) else { return false };
        let listens = session.kind != ClientKind::Normal || session.is_monitor;
        let is_held = session.transaction.is_some() || session.wait.is_some() || listens;
        let is_paused = engine.server.pause.in_force(engine.server.clock.mono_ms()).is_some();
        let is_different = DIFFERENT.iter().any(|(name, _)| *name == row.full_name);
        let is_free = !is_held && !is_paused && !engine.server.requires_auth(session);
        is_free && !is_different && !row.command.flags.has(Flags::NOSCRIPT)
    }

    fn complain(&mut self, step: &Step, what: String) {
        let (path, line) = (self.transcript.path.display(), step.line);
        self.faults.push(format!("{path}:{line} in RESP{}: {what}", self.protocol));
    }

    fn compare_streams(&mut self, step: &Step) {
        let mut texts = [String::new(), String::new()];
        for (at, world) in self.worlds.iter_mut().enumerate() {
            let stream = &mut world.engine.server.propagation;
            stream.close();
            while let Some((bytes, end)) = stream.read(self.read[at]) {
                texts[at] += &String::from_utf8_lossy(&bytes);
                self.read[at] = end;
            }
            self.read[at] = stream.offset();
        }
        let [direct, scripted] = texts;
        if direct != scripted {
            self.complain(
                step,
                format!("the stream of a script says {scripted:?}, not {direct:?}"),
            );
        }
    }

    fn compare_data(&mut self) {
        let digest = |world: &mut Local| {
            let client = world.connect();
            world.call(client, &["DEBUG", "DIGEST"])
        };
        let [direct, scripted] = self.worlds.each_mut().map(digest);
        if direct != scripted {
            self.faults.push(format!("{}: the data differs", self.transcript.path.display()));
        }
    }
}

fn is_for(scope: &Scope, protocol: u8) -> bool {
    let is_here = |name: &String| ["rufous", "engine"].contains(&name.as_str());
    scope.resp.is_none_or(|resp| resp == protocol)
        && scope.only.as_ref().is_none_or(is_here)
        && !scope.not_on.iter().any(is_here)
}

/// The reply to a request, without what else the client is told.
fn ask(world: &mut Local, client: ClientId, words: &[Vec<u8>]) -> Option<Answer> {
    world.send(client, &answer::encode(words));
    let mut answers = std::iter::from_fn(|| world.receive(client));
    let first = answers.find(|answer| !matches!(answer, Answer::Push(_)));
    answers.for_each(drop);
    first
}

/// The same of a command that would wait, as a part of a transaction, where nothing does.
fn ask_without_block(world: &mut Local, client: ClientId, words: &[Vec<u8>]) -> Option<Answer> {
    let multi = ask(world, client, &[b"MULTI".to_vec()]);
    assert_eq!(multi, Some(Answer::Simple(b"OK".to_vec())));
    let queued = ask(world, client, words);
    match ask(world, client, &[b"EXEC".to_vec()]) {
        Some(Answer::Array(mut answers)) => answers.pop(),
        _ => queued,
    }
}

/// What becomes of a reply that goes through a script.
fn by_script(answer: Answer, protocol: u8) -> Answer {
    let all = |elements: Vec<Answer>| elements.into_iter().map(|inner| by_script(inner, protocol));
    match answer {
        Answer::Integer(value) => Answer::Integer(as_double(value)),
        Answer::NullArray => Answer::Null,
        // In RESP3 a null is nil, by which an array ends; in RESP2 it is false.
        Answer::Array(elements) if protocol == 3 => {
            Answer::Array(all(elements).take_while(|inner| *inner != Answer::Null).collect())
        }
        Answer::Array(elements) => Answer::Array(all(elements).collect()),
        Answer::Map(pairs) => {
            let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let pairs = all(keys).zip(all(values));
            Answer::Map(pairs.filter(|(_, value)| *value != Answer::Null).collect())
        }
        Answer::Set(members) => Answer::Set(all(members).collect()),
        Answer::Error(text) => Answer::Error(match text.strip_prefix(b"NOPERM ") {
            Some(reason) => [b"ERR ACL failure in script: ", reason].concat(),
            None => text,
        }),
        other => other,
    }
}

/// Numbers are doubles to a script. One that is too large for an integer becomes the smallest, as
/// processors have it that Redis runs on.
fn as_double(value: i64) -> i64 {
    let double = value as f64;
    if double >= -(i64::MIN as f64) { i64::MIN } else { double as i64 }
}

/// Maps and sets have no order, and a double has many spellings.
fn in_order(answer: Answer) -> Answer {
    match answer {
        Answer::Double(text) => match text.parse::<f64>() {
            Ok(value) => Answer::Double(format!("{value:?}")),
            Err(_) => Answer::Double(text),
        },
        Answer::Array(elements) => Answer::Array(elements.into_iter().map(in_order).collect()),
        Answer::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| (in_order(key), in_order(value)));
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort_by_key(|(key, _)| key.print());
            Answer::Map(pairs)
        }
        Answer::Set(members) => {
            let mut members: Vec<_> = members.into_iter().map(in_order).collect();
            members.sort_by_key(Answer::print);
            Answer::Set(members)
        }
        other => other,
    }
}

#[test]
fn a_script_gets_what_its_client_would_get() {
    let table = Table::new();
    let examples = table.rows().iter().map(|row| play::example(row.full_name, row.command.example));
    let files = play::files();
    let transcripts = files.iter().map(|file| Transcript::load(file)).chain(examples);
    let helps = table.rows().iter().filter(|row| row.command.is_container());
    let helps = helps.map(|row| format!("> {} HELP", row.full_name));
    let more = helps.chain(["> COMMAND COUNT".to_owned()]).map(|text| play::example("more", &text));
    let (mut faults, mut called) = (Vec::new(), BTreeSet::new());
    for transcript in transcripts.chain(more) {
        for protocol in [2, 3] {
            let mut pair = Pair::new(&transcript, &table, protocol);
            pair.play();
            faults.append(&mut pair.faults);
            called.append(&mut pair.called);
        }
    }
    for row in table.rows() {
        let is_known = DIFFERENT.iter().any(|(name, _)| *name == row.full_name);
        let is_for_scripts = !row.command.is_container() && !row.command.flags.has(Flags::NOSCRIPT);
        if is_for_scripts && !is_known && !called.contains(row.full_name) {
            faults.push(format!("no script has called {}", row.full_name));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
}
