//! Plays transcripts: against an engine in process, against the binary over TCP, and against real
//! Redis where there is one, which checks the expectations themselves: the 7.0 that Debian has, and
//! an 8.2 for all that came after it.
//!
//! `RT=text` plays only the files whose path contains the text. `UPDATE=1` fills in the replies
//! of steps that have none: a real Redis's where the step holds there, ours otherwise, which is
//! then marked as such.

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::local::Local;
use crate::server::{self, Server};
use crate::shape;
use crate::transcript::{Action, Scope, Step, Transcript, fits, print, print_raw};
use rufous::command::Table;
use rufous::engine::{ClientId, Session};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// All transcript files, sorted.
pub fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut found = Vec::new();
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("it is a directory") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rt") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Engine,
    Tcp,
    /// Redis 7.0.
    Redis,
    /// Redis 8.2.
    Redis8,
}

impl Place {
    /// Whether `name` in a transcript means this place.
    fn is(self, name: &str) -> bool {
        match name {
            "engine" => self == Place::Engine,
            "tcp" => self == Place::Tcp,
            "rufous" => !self.is_redis(),
            "redis" => self.is_redis(),
            "redis7" => self == Place::Redis,
            "redis8" => self == Place::Redis8,
            _ => panic!("no place is called {name}"),
        }
    }

    fn is_redis(self) -> bool {
        matches!(self, Place::Redis | Place::Redis8)
    }

    fn suits(self, protocol: u8, scope: &Scope) -> bool {
        scope.resp.is_none_or(|resp| resp == protocol)
            && scope.only.as_ref().is_none_or(|name| self.is(name))
            && !scope.not_on.iter().any(|name| self.is(name))
    }

    fn start(self, config: &[(String, String)]) -> Box<dyn World> {
        match self {
            Place::Engine => {
                Box::new(InProcess { local: Local::start(config), clients: BTreeMap::new() })
            }
            Place::Tcp => Box::new(Remote::start(server::RUFOUS, config)),
            Place::Redis => Box::new(Remote::start("redis-server", config)),
            Place::Redis8 => {
                let binary = redis8().expect("it was looked for before");
                Box::new(Remote::start(&binary, config))
            }
        }
    }
}

/// A server as a transcript sees it; clients are called by name.
trait World {
    /// Connects a client; false if it is connected already.
    fn connect(&mut self, client: &str) -> bool;
    fn send(&mut self, client: &str, bytes: &[u8]);
    fn receive(&mut self, client: &str) -> Received;
    fn receive_raw(&mut self, client: &str, enough: &dyn Fn(&[u8]) -> bool) -> (Vec<u8>, bool);
    /// Returns when the client's last request waits for something; false if it does not.
    fn wait_until_blocked(&mut self, client: &str) -> bool;
    /// The number that the server knows a connected client by.
    fn id(&mut self, client: &str) -> u64;
    /// Whether anything has come for the client that it has not taken.
    fn has_input(&mut self, client: &str) -> bool;
    fn forget(&mut self, client: &str);
    /// Moves the clock; false if it is not ours.
    fn advance(&mut self, by: Duration) -> bool;
}

enum Received {
    Answer(Answer),
    Nothing,
    End,
}

struct InProcess {
    local: Local,
    clients: BTreeMap<String, ClientId>,
}

impl World for InProcess {
    fn connect(&mut self, client: &str) -> bool {
        if self.clients.contains_key(client) {
            return false;
        }
        let id = self.local.connect();
        self.clients.insert(client.to_owned(), id);
        true
    }

    fn send(&mut self, client: &str, bytes: &[u8]) {
        self.local.send(self.clients[client], bytes);
    }

    fn receive(&mut self, client: &str) -> Received {
        let id = self.clients[client];
        match self.local.receive(id) {
            Some(answer) => Received::Answer(answer),
            None if self.local.is_closed(id) || self.local.has_exited() => Received::End,
            None => Received::Nothing,
        }
    }

    fn receive_raw(&mut self, client: &str, _: &dyn Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
        self.local.receive_raw(self.clients[client])
    }

    fn wait_until_blocked(&mut self, client: &str) -> bool {
        let session = self.local.engine.clients.get(self.clients[client]);
        session.is_some_and(Session::is_blocked)
    }

    fn id(&mut self, client: &str) -> u64 {
        self.clients[client].number()
    }

    fn has_input(&mut self, client: &str) -> bool {
        self.local.has_output(self.clients[client])
    }

    fn forget(&mut self, client: &str) {
        self.clients.remove(client);
    }

    fn advance(&mut self, by: Duration) -> bool {
        self.local.advance(by);
        true
    }
}

struct Remote {
    server: Server,
    clients: BTreeMap<String, Client>,
}

impl Remote {
    fn start(binary: &str, config: &[(String, String)]) -> Remote {
        Remote { server: Server::start(binary, config), clients: BTreeMap::new() }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).expect("it was connected before")
    }

    /// What a server that tells about its clients says in a field about this one.
    fn field(&mut self, observer: &mut Client, client: &str, name: &str) -> Option<String> {
        let address = format!(" addr={} ", self.client(client).local_address());
        let Answer::Bulk(list) = observer.run("CLIENT LIST") else { return None };
        let list = String::from_utf8_lossy(&list).into_owned();
        let line = list.lines().find(|line| line.contains(&address))?;
        line.split(' ').find_map(|field| field.strip_prefix(name)).map(str::to_owned)
    }
}

const BLOCKING_MAX: Duration = Duration::from_secs(20);

impl World for Remote {
    fn connect(&mut self, client: &str) -> bool {
        if self.clients.contains_key(client) {
            return false;
        }
        let connected = self.server.connect();
        self.clients.insert(client.to_owned(), connected);
        true
    }

    fn send(&mut self, client: &str, bytes: &[u8]) {
        self.client(client).send(bytes);
    }

    fn receive(&mut self, client: &str) -> Received {
        self.client(client).receive().map_or(Received::End, Received::Answer)
    }

    fn receive_raw(&mut self, client: &str, enough: &dyn Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
        self.client(client).receive_raw(enough)
    }

    fn wait_until_blocked(&mut self, client: &str) -> bool {
        let mut observer = self.server.connect();
        let start = Instant::now();
        while start.elapsed() < BLOCKING_MAX {
            let flags = self.field(&mut observer, client, "flags=");
            if flags.is_some_and(|flags| flags.contains('b')) {
                return true;
            }
        }
        false
    }

    fn id(&mut self, client: &str) -> u64 {
        let mut observer = self.server.connect();
        let id = self.field(&mut observer, client, "id=");
        id.and_then(|id| id.parse().ok()).expect("the client is connected")
    }

    fn has_input(&mut self, client: &str) -> bool {
        self.client(client).has_input()
    }

    fn forget(&mut self, client: &str) {
        self.clients.remove(client);
    }

    fn advance(&mut self, _: Duration) -> bool {
        false
    }
}

/// What differed, or with `recorded` what was said where nothing was expected.
#[derive(Default)]
pub struct Outcome {
    pub differences: String,
    recorded: BTreeMap<usize, String>,
}

struct Player<'a> {
    place: Place,
    protocol: u8,
    transcript: &'a Transcript,
    world: Box<dyn World>,
    client: String,
    /// Who waits since the last request, and must do so until the next one.
    waiting: Option<String>,
    table: &'a Table,
    records: bool,
    outcome: Outcome,
}

/// Plays one transcript in one place and protocol.
pub fn play(
    transcript: &Transcript,
    place: Place,
    protocol: u8,
    table: &Table,
    records: bool,
) -> Outcome {
    let mut player = Player {
        place,
        protocol,
        transcript,
        world: place.start(&transcript.config),
        client: "main".to_owned(),
        waiting: None,
        table,
        records,
        outcome: Outcome::default(),
    };
    player.run();
    player.outcome
}

/// Lines that say what happened instead of a reply or after it.
const BLOCKED: &str = "(blocked)";
const NONE: &str = "(none)";
const CLOSED: &str = "(closed)";

/// What a recording asks after raw bytes.
const MARK: &str = "mark of the end";
const MARK_REPLY: &[u8] = b"$15\r\nmark of the end\r\n";

impl Player<'_> {
    fn run(&mut self) {
        let mut skips_until_reset = false;
        let transcript = self.transcript;
        for step in &transcript.steps {
            if matches!(step.action, Action::Reset) {
                self.world = self.place.start(&transcript.config);
                self.client = "main".to_owned();
                self.waiting = None;
                skips_until_reset = false;
                continue;
            }
            if skips_until_reset || !self.place.suits(self.protocol, &step.scope) {
                continue;
            }
            match &step.action {
                Action::Advance(by) => skips_until_reset = !self.world.advance(*by),
                Action::Client(name) => self.client.clone_from(name),
                Action::Config(name, value) => self.configure(step, name, value),
                Action::Call(words) => self.call(step, words),
                Action::Raw(bytes) => self.raw(step, bytes),
                Action::Receive => {
                    let got = self.take(step, &[], true);
                    self.compare(step, &got);
                }
                Action::Reset => {}
            }
        }
    }

    fn connect(&mut self) {
        if self.world.connect(&self.client) && self.protocol == 3 {
            self.world.send(&self.client, &answer::encode(&["HELLO", "3"]));
            // Refused where a password is set; such files say which protocol they are for.
            self.world.receive(&self.client);
        }
    }

    fn configure(&mut self, step: &Step, name: &str, value: &str) {
        self.check_waiting(step);
        let before = std::mem::replace(&mut self.client, "config".to_owned());
        self.connect();
        self.world.send(&self.client, &answer::encode(&["CONFIG", "SET", name, value]));
        let got = self.take(step, &[], false);
        if got != "OK" {
            self.differ(step, "OK", &got);
        }
        self.client = before;
    }

    /// What is to wait for this step must not have been answered before it.
    fn check_waiting(&mut self, step: &Step) {
        if let Some(client) = self.waiting.take()
            && self.world.has_input(&client)
        {
            self.differ(step, &format!("client {client} waits until here"), "it had an answer");
        }
    }

    fn call(&mut self, step: &Step, words: &[Vec<u8>]) {
        self.check_waiting(step);
        self.connect();
        let words: Vec<Vec<u8>> = words.iter().map(|word| self.filled_in(word)).collect();
        let words = &words[..];
        self.world.send(&self.client, &answer::encode(words));
        let got = match step.expected.first().map(String::as_str) {
            Some(BLOCKED) => {
                let waits = self.world.wait_until_blocked(&self.client);
                self.waiting = Some(self.client.clone());
                if waits { BLOCKED.to_owned() } else { "an answer or no block".to_owned() }
            }
            // Whether there was an answer after all, the next reply tells.
            Some(NONE) => NONE.to_owned(),
            _ => self.take(step, words, true),
        };
        self.compare(step, &got);
    }

    /// A word of a request, with the number of a client where the transcript names it.
    fn filled_in(&mut self, word: &[u8]) -> Vec<u8> {
        let name = word.strip_prefix(b"@id:").and_then(|name| str::from_utf8(name).ok());
        name.map_or(word.to_vec(), |name| self.world.id(name).to_string().into_bytes())
    }

    /// The next reply in print, and whether the connection ended if the step cares.
    fn take(&mut self, step: &Step, words: &[Vec<u8>], checks_shape: bool) -> String {
        let mut got = match self.world.receive(&self.client) {
            Received::End => {
                self.world.forget(&self.client);
                return CLOSED.to_owned();
            }
            Received::Nothing => return NONE.to_owned(),
            Received::Answer(mut answer) => {
                if step.scope.is_unordered {
                    answer.sort();
                }
                if checks_shape && !self.place.is_redis() && !words.is_empty() {
                    let fault = shape::fault(self.table, words, &answer);
                    if let Some(fault) = fault {
                        self.differ(step, &fault, &answer.print());
                    }
                }
                print(words, &answer)
            }
        };
        let awaits_end = step.expected.last().is_some_and(|line| line == CLOSED);
        if awaits_end && matches!(self.world.receive(&self.client), Received::End) {
            got.push('\n');
            got.push_str(CLOSED);
            self.world.forget(&self.client);
        }
        got
    }

    fn raw(&mut self, step: &Step, bytes: &[u8]) {
        self.connect();
        self.world.send(&self.client, bytes);
        let expected = step.expected.clone();
        let records = expected.is_empty();
        if records {
            // The answer to one more request tells where the recorded reply ends.
            self.world.send(&self.client, &answer::encode(&["PING", MARK]));
        }
        let awaits_end = expected.last().is_some_and(|line| line == CLOSED);
        let enough = move |bytes: &[u8]| match records {
            true => bytes.ends_with(MARK_REPLY),
            false => !awaits_end && fits(&expected, &print_raw(bytes)),
        };
        let (mut bytes, has_ended) = self.world.receive_raw(&self.client, &enough);
        if let Some(reply) = bytes.strip_suffix(MARK_REPLY).filter(|_| records) {
            bytes = reply.to_vec();
        }
        let mut lines = print_raw(&bytes);
        if has_ended {
            self.world.forget(&self.client);
            lines.push_str(if lines.is_empty() { CLOSED } else { "\n(closed)" });
        }
        self.compare(step, &lines);
    }

    fn compare(&mut self, step: &Step, got: &str) {
        if step.expected.is_empty() && self.records {
            self.outcome.recorded.insert(step.line, got.to_owned());
        } else if step.expected.is_empty() {
            self.differ(step, "(nothing is written: fill in, or run with UPDATE=1)", got);
        } else if !fits(&step.expected, got) {
            self.differ(step, &step.expected.join("\n"), got);
        }
    }

    fn differ(&mut self, step: &Step, expected: &str, got: &str) {
        let root = env!("CARGO_MANIFEST_DIR");
        let path = self.transcript.path.strip_prefix(root).unwrap_or(&self.transcript.path);
        let (place, protocol) = (self.place, self.protocol);
        let what = match &step.action {
            Action::Call(words) => words.join(&b' ').escape_ascii().to_string(),
            other => format!("{other:?}"),
        };
        writeln!(
            self.outcome.differences,
            "{}:{} ({place:?}, RESP{protocol}) {what}\n  expected:\n{}\n  got:\n{}",
            path.display(),
            step.line,
            indented(expected),
            indented(got)
        )
        .expect("it is memory");
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

fn selected() -> impl Iterator<Item = Transcript> {
    let wanted = std::env::var("RT").unwrap_or_default();
    let chosen = files().into_iter().filter(move |f| f.to_string_lossy().contains(&wanted));
    chosen.map(|file| Transcript::load(&file))
}

fn updates() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn check(place: Place, protocol: u8) {
    if updates() {
        return;
    }
    let table = Table::new();
    let differences: String = selected()
        .map(|transcript| {
            // A reply that never comes ends one file, not all of them.
            let play = || play(&transcript, place, protocol, &table, false).differences;
            std::panic::catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|_| {
                format!("{} ({place:?}, RESP{protocol}) broke off\n", transcript.path.display())
            })
        })
        .collect();
    assert!(differences.is_empty(), "\n{differences}");
}

/// Whether a real Redis can be asked. Without one the check is left out, which CI does not allow.
pub fn redis_is_there() -> bool {
    if crate::interop::is_skipped() {
        return false;
    }
    crate::interop::is_there("redis-server")
}

/// The binary of a Redis 8.2, of which no distribution that CI runs on has a package: what
/// `RUFOUS_REDIS8` names, or what an earlier run of the tool that fetches one has left. Without one
/// the check is left out, and says so.
pub fn redis8() -> Option<String> {
    let is_named = std::env::var("RUFOUS_REDIS8").ok();
    let binary = is_named.clone().or_else(cached_redis8)?;
    let is_there = server::is_installed(&binary);
    assert!(is_there || is_named.is_none(), "RUFOUS_REDIS8 names {binary}, which does not run");
    is_there.then_some(binary)
}

fn cached_redis8() -> Option<String> {
    let cache = std::env::var("XDG_CACHE_HOME");
    let cache = cache.or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
    Some(format!("{}/rufous-peers/redis-server-8.2", cache.ok()?))
}

pub fn redis8_is_there() -> bool {
    if crate::interop::is_skipped() {
        return false;
    }
    let is_there = redis8().is_some();
    if !is_there {
        println!("no Redis 8.2 is there (RUFOUS_REDIS8): what only it can check is left out");
    }
    is_there
}

#[test]
fn transcripts_hold_in_the_engine_in_resp2() {
    check(Place::Engine, 2);
}

#[test]
fn transcripts_hold_in_the_engine_in_resp3() {
    check(Place::Engine, 3);
}

#[test]
fn transcripts_hold_over_tcp_in_resp2() {
    check(Place::Tcp, 2);
}

#[test]
fn transcripts_hold_over_tcp_in_resp3() {
    check(Place::Tcp, 3);
}

#[test]
fn transcripts_hold_on_a_real_redis_in_resp2() {
    if redis_is_there() {
        check(Place::Redis, 2);
    }
}

#[test]
fn transcripts_hold_on_a_real_redis_in_resp3() {
    if redis_is_there() {
        check(Place::Redis, 3);
    }
}

#[test]
fn transcripts_hold_on_a_redis_8_in_resp2() {
    if redis8_is_there() {
        check(Place::Redis8, 2);
    }
}

#[test]
fn transcripts_hold_on_a_redis_8_in_resp3() {
    if redis8_is_there() {
        check(Place::Redis8, 3);
    }
}

#[test]
fn missing_replies_are_recorded_when_asked_for() {
    if !updates() {
        return;
    }
    let table = Table::new();
    for transcript in selected() {
        let mut recorded = [BTreeMap::new(), BTreeMap::new()];
        for place in [Place::Engine, Place::Redis8, Place::Redis] {
            let is_there = match place {
                Place::Redis => redis_is_there(),
                Place::Redis8 => redis8_is_there(),
                Place::Engine | Place::Tcp => true,
            };
            for protocol in [2, 3].into_iter().filter(|_| is_there) {
                let outcome = play(&transcript, place, protocol, &table, true);
                let said = outcome.recorded.into_iter().map(|(line, reply)| (line, (reply, place)));
                recorded[usize::from(protocol) - 2].extend(said);
            }
        }
        fill_in(&transcript, &recorded);
    }
}

/// What was said in reply to the request of a line, and by whom.
type Recorded = BTreeMap<usize, (String, Place)>;

/// Writes recorded replies into the file; where the protocols differ, both, each with its mark.
/// What no Redis said is marked as ours.
fn fill_in(transcript: &Transcript, recorded: &[Recorded; 2]) {
    let text = std::fs::read_to_string(&transcript.path).expect("it was read before");
    let is_marked = |line: usize| {
        let step = transcript.steps.iter().find(|step| step.line == line);
        step.is_some_and(|step| step.scope.only.is_some())
    };
    let mut filled = String::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let of = |protocol: usize| recorded[protocol].get(&number);
        if of(0).or(of(1)).is_some_and(|(_, place)| !place.is_redis()) && !is_marked(number) {
            filled.push_str("@only rufous\n");
        }
        match (of(0), of(1)) {
            (Some((two, _)), Some((three, _))) if two != three => {
                let mark = filled.lines().last().filter(|l| l.starts_with('@'));
                let mark = mark.map_or_else(String::new, |mark| format!("{mark}\n"));
                write!(filled, "@resp 2\n{line}\n{two}\n{mark}@resp 3\n{line}\n{three}\n")
            }
            (Some((reply, _)), _) | (None, Some((reply, _))) => {
                write!(filled, "{line}\n{reply}\n")
            }
            (None, None) => writeln!(filled, "{line}"),
        }
        .expect("it is memory");
    }
    if filled != text {
        std::fs::write(&transcript.path, filled).expect("the file is ours");
    }
}

/// The example of a record as a transcript.
pub fn example(full_name: &str, text: &str) -> Transcript {
    Transcript::parse(Path::new(full_name), text)
}

/// Examples that show what 7.2 does otherwise than 7.0, which is what Debian ships.
const EXAMPLES_OF_7_2: &[&str] = &["command|getkeys"];

#[test]
fn examples_of_commands_are_true() {
    let table = Table::new();
    let mut differences = String::new();
    for row in table.rows().iter().filter(|row| !row.command.example.is_empty()) {
        let transcript = example(row.full_name, row.command.example);
        differences += &play(&transcript, Place::Engine, 2, &table, false).differences;
        let is_older = row.command.since < "7.1" && !EXAMPLES_OF_7_2.contains(&row.full_name);
        if is_older && redis_is_there() {
            differences += &play(&transcript, Place::Redis, 2, &table, false).differences;
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}
