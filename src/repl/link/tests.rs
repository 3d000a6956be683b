mod answers;
mod states;
mod stream;
mod sync;
mod walk;

use super::answers::Payload;
use super::{
    Action, Attempt, Event, Level, Link, LinkEvent, LoadFrom, NewIds, Purpose, Settings, Wants,
};
use crate::repl::ids::{History, ReplicationId};
use crate::resp::command;

fn id(digit: u8) -> ReplicationId {
    ReplicationId::parse(&[digit; 40]).expect("it is one")
}

/// The id as it stands in lines.
fn name(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn settings() -> Settings {
    Settings {
        is_in_cluster: false,
        announce_port: 6380,
        announce_ip: None,
        auth: None,
        timeout_ms: 60_000,
        load_from: LoadFrom::Socket,
    }
}

/// How far a link has come, for tests that begin there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum At {
    None,
    Connect,
    Connecting,
    Ping,
    Handshake,
    Psync,
    Header,
    Loading,
    Received,
    Connected,
}

const ALL: [At; 10] = [
    At::None,
    At::Connect,
    At::Connecting,
    At::Ping,
    At::Handshake,
    At::Psync,
    At::Header,
    At::Loading,
    At::Received,
    At::Connected,
];

/// A link at a clock, and what it answers as text: an action a line.
struct Bench {
    link: Link,
    now_ms: u64,
    settings: Settings,
}

impl Bench {
    /// Of a primary with the history `a` at 100.
    fn new() -> Bench {
        Bench { link: Link::new(History::new(id(b'a'), 100)), now_ms: 5000, settings: settings() }
    }

    fn at(at: At) -> Bench {
        let mut bench = Bench::new();
        bench.lead(at);
        bench
    }

    /// Goes on from a server that follows nobody.
    fn lead(&mut self, at: At) {
        let full = format!("+FULLRESYNC {} 500", name('f'));
        let steps: [(At, &[LinkEvent]); 7] = [
            (At::Ping, &[LinkEvent::Connected]),
            (At::Handshake, &[LinkEvent::Line(b"+PONG")]),
            (At::Psync, &[LinkEvent::Line(b"+OK"), LinkEvent::Line(b"+OK")]),
            (At::Header, &[LinkEvent::Line(full.as_bytes())]),
            (At::Loading, &[LinkEvent::Line(b"$1000")]),
            (At::Received, &[LinkEvent::Bytes(1000), LinkEvent::Received]),
            (At::Connected, &[LinkEvent::Loaded { db: 3, fresh: id(b'x') }]),
        ];
        if at != At::None {
            self.tell(set_primary("h", 1));
        }
        if at == At::Connect {
            self.hear(LinkEvent::ConnectFailed("refused"));
        }
        for (_, events) in steps.iter().take_while(|(reached, _)| *reached <= at) {
            events.iter().for_each(|event| _ = self.hear(*event));
        }
    }

    fn tell(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        self.link.on(event, self.now_ms, &self.settings, &mut actions);
        actions.iter().map(show).collect()
    }

    /// Something happens to the present attempt.
    fn hear(&mut self, event: LinkEvent) -> Vec<String> {
        let attempt = self.link.attempt().expect("there is one");
        self.tell(Event::Of(attempt, event))
    }

    fn line(&mut self, line: &str) -> Vec<String> {
        self.hear(LinkEvent::Line(line.as_bytes()))
    }

    /// Ticks after so long.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        self.now_ms += ms;
        self.tell(Event::Tick)
    }
}

fn set_primary(host: &str, port: u16) -> Event<'_> {
    Event::SetPrimary { host, port, purpose: Purpose::Follow }
}

fn show(action: &Action) -> String {
    match action {
        Action::Dial { attempt: Attempt(number), host, port } => {
            format!("dial {number} {host}:{port}")
        }
        Action::Send(bytes) => format!("send {}", show_requests(bytes)),
        Action::BeginLoad { payload, moment, is_same_history } => {
            let payload = match payload {
                Payload::Length(length) => length.to_string(),
                Payload::EndMark(mark) => String::from_utf8_lossy(mark).into_owned(),
            };
            let moment = moment.map(|moment| (moment.id, moment.offset));
            format!("load {payload} {moment:?} same={is_same_history}")
        }
        Action::BeginStream { db } => format!("stream db={db}"),
        Action::CloseLink => "close".to_owned(),
        Action::AbortLoad => "abort load".to_owned(),
        Action::CutReplicas => "cut replicas".to_owned(),
        Action::NewIds(NewIds::Renamed) => "ids renamed".to_owned(),
        Action::NewIds(NewIds::Replaced) => "ids replaced".to_owned(),
        Action::FailoverDone => "failover done".to_owned(),
        Action::FailoverFailed(why) => format!("failover failed: {why}"),
        Action::Log(Level::Notice, text) => format!("- {text}"),
        Action::Log(Level::Warning, text) => format!("# {text}"),
    }
}

/// The words of all requests, or the bytes if they are none.
fn show_requests(mut bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    while let Some((words, length)) = command::read(bytes) {
        let words: Vec<String> = words.iter().map(|w| w.escape_ascii().to_string()).collect();
        shown.push(words.join(" "));
        bytes = &bytes[length..];
    }
    if !bytes.is_empty() {
        shown.push(bytes.escape_ascii().to_string());
    }
    shown.join(" | ")
}

#[test]
fn the_bench_comes_where_it_says() {
    let lines = |bytes_max| Wants::Lines { bytes_max };
    let expected = [
        ("none", Wants::Nothing),
        ("connect", Wants::Nothing),
        ("connecting", Wants::Nothing),
        ("handshake", lines(256)),
        ("handshake", lines(256)),
        ("handshake", lines(256)),
        ("sync", lines(1024)),
        ("sync", Wants::Snapshot),
        ("sync", Wants::Nothing),
        ("connected", Wants::Stream),
    ];
    for (at, expected) in ALL.iter().zip(expected) {
        let bench = Bench::at(*at);
        assert_eq!((bench.link.word(), bench.link.wants()), expected, "{at:?}");
    }
}
