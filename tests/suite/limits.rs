//! Numbers at the edges, put wherever a command takes a number: an error or an answer, never a
//! panic, never silence, and never memory for what was only declared.
//!
//! The requests are made from the argument trees of the command table, over keys of every type, so
//! a new command is tried by being listed. In process all of them are tried; where a real Redis is
//! installed, it and our binary must give the same answers too. What differs for a reason is said
//! in [`DIFFERING`].

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::interop::is_there;
use crate::local::Local;
use crate::server::{RUFOUS, Server};
use rufous::command::table::Row;
use rufous::command::{Arg, ArgKind, Flags, Table};
use std::collections::BTreeSet;
use std::process::Command;

/// What is put in place of a number.
const EDGES: &[&str] = &[
    "0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "2147483649",
    "4294967295",
    "4294967296",
    "4294967297",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1.5",
    "",
    "x",
];

/// The key `k`, once of each type. Collections have one element, so that nothing is left to chance.
const KEYS: &[&[&str]] = &[
    &["SET", "k", "5"],
    &["SET", "k", "text"],
    &["RPUSH", "k", "v"],
    &["SADD", "k", "v"],
    &["HSET", "k", "v", "5"],
    &["ZADD", "k", "1.5", "v"],
    &["DEL", "k"],
    &["XADD", "k", "1-1", "f", "v"],
];

/// Arguments that are written as strings but read as numbers.
fn is_number(arg: &Arg) -> bool {
    match arg.kind {
        ArgKind::Integer | ArgKind::UnixTime => true,
        ArgKind::String | ArgKind::Double => ["start", "stop", "timeout"].contains(&arg.name),
        _ => false,
    }
}

/// How many numbers an argument can take.
fn numbers(arg: &Arg) -> usize {
    match arg.kind {
        ArgKind::OneOf(parts) | ArgKind::Block(parts) => parts.iter().map(numbers).sum(),
        _ => usize::from(is_number(arg)),
    }
}

/// Writes a request in which the number `wanted` is `edge`, everything else is harmless, and
/// nothing stands that need not.
struct Filler<'a> {
    wanted: usize,
    edge: &'a str,
    seen: usize,
    words: Vec<String>,
}

impl Filler<'_> {
    fn fill(&mut self, arg: &Arg) {
        let holds_wanted = (self.seen..self.seen + numbers(arg)).contains(&self.wanted);
        if arg.optional && !holds_wanted {
            self.seen += numbers(arg);
            return;
        }
        self.words.extend(arg.token.map(str::to_owned));
        match arg.kind {
            _ if is_number(arg) => {
                let is_wanted = self.seen == self.wanted;
                self.put(if is_wanted { self.edge } else { "1" });
                self.seen += 1;
            }
            ArgKind::Block(parts) => parts.iter().for_each(|part| self.fill(part)),
            ArgKind::OneOf(choices) => self.choose(choices),
            ArgKind::Key => self.put("k"),
            ArgKind::String if arg.name == "encoding" => self.put("u8"),
            ArgKind::String => self.put("v"),
            ArgKind::Pattern => self.put("*"),
            ArgKind::Double => self.put("1.5"),
            ArgKind::PureToken | ArgKind::Integer | ArgKind::UnixTime => {}
        }
    }

    /// The choice with the wanted number, or else the first.
    fn choose(&mut self, choices: &[Arg]) {
        let start = self.seen;
        let mut at = start;
        let mut chosen = None;
        for choice in choices {
            let count = numbers(choice);
            if (at..at + count).contains(&self.wanted) {
                chosen = Some((choice, at));
            }
            at += count;
        }
        if let Some((choice, at)) = chosen.or_else(|| choices.first().map(|c| (c, start))) {
            self.seen = at;
            self.fill(choice);
        }
        self.seen = at;
    }

    fn put(&mut self, word: &str) {
        self.words.push(word.to_owned());
    }
}

/// All requests with a number at an edge that a command's argument tree makes.
fn requests(row: &Row) -> Vec<Vec<String>> {
    let count: usize = row.command.args.iter().map(numbers).sum();
    let request = |wanted: usize, edge: &str| {
        let words = row.full_name.split('|').map(str::to_owned).collect();
        let mut filler = Filler { wanted, edge, seen: 0, words };
        row.command.args.iter().for_each(|arg| filler.fill(arg));
        filler.words
    };
    (0..count).flat_map(|wanted| EDGES.iter().map(move |edge| request(wanted, edge))).collect()
}

fn leaves(table: &Table) -> impl Iterator<Item = &Row> {
    table.rows().iter().filter(|row| !row.command.is_container())
}

/// The most memory this process has had, in bytes.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().map_or(0, |kb| kb.parse::<usize>().unwrap_or(0) * 1024)
}

/// Far above what the tests use, far below what the edges declare. The longest string that a
/// number may make is half of it.
const MEMORY_MAX: usize = 1 << 30;

/// Whether a request need not be answered at once.
fn may_wait(row: &Row) -> bool {
    row.command.flags.has(Flags::BLOCKING)
}

fn try_edge(local: &mut Local, row: &Row, key: &[&str], words: &[String]) {
    let client = local.connect();
    local.call(client, &["FLUSHALL"]);
    local.call(client, key);
    let answer = local.call(client, words);
    assert!(answer.is_some() || may_wait(row), "no answer to {words:?} over {key:?}");
    assert!(
        local.has_exited() || !local.is_closed(client),
        "{words:?} over {key:?} ends the connection"
    );
    let observer = local.connect();
    let pong = local.call(observer, &["PING"]);
    assert_eq!(pong, Some(Answer::Simple(b"PONG".to_vec())), "{words:?} over {key:?}");
}

/// Set for the process in which the edges are tried.
const ALONE: &str = "RUFOUS_SUITE_ALONE";

/// The system counts the memory of a process as a whole, so the edges are tried in one of their
/// own, beside which the other tests run.
#[test]
fn numbers_at_the_edges_harm_nobody() {
    if std::env::var_os(ALONE).is_some() {
        return try_edges();
    }
    let mut alone = Command::new(std::env::current_exe().expect("a test is a program"));
    alone.args(["--exact", "limits::numbers_at_the_edges_harm_nobody"]).env(ALONE, "1");
    let output = alone.output().expect("it can be run again");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

fn try_edges() {
    let table = Table::new();
    let mut tried = 0;
    for row in leaves(&table) {
        // These are about clients and the server: one is ended by them or waits for long.
        let is_fatal = ["client|kill", "client|pause", "shutdown"].contains(&row.full_name);
        let mut local = Local::start(&[]);
        for words in requests(row) {
            for key in KEYS {
                if is_fatal {
                    local = Local::start(&[]);
                    let client = local.connect();
                    local.call(client, &words);
                    continue;
                }
                try_edge(&mut local, row, key, &words);
                tried += 1;
            }
        }
    }
    assert!(tried > 5000, "only {tried} requests were made of the argument trees");
    let peak = memory_peak();
    assert!(peak < MEMORY_MAX, "{peak} bytes were used at once");
}

/// From here on a timeout is too long for a clock of 64 bits.
const TIMES: &[&str] =
    &["9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616"];
const LEAST: &[&str] = &["-9223372036854775808"];
/// Every number.
const ALL: &[&str] = EDGES;

/// Where our answer and that of Redis 7.0 or 7.2 differ for a reason, or cannot be compared: the
/// command, the numbers, the reason.
const DIFFERING: &[(&str, &[&str], &str)] = &[
    ("acl|genpass", &["1"], "draws another password"),
    ("bitcount", ALL, "takes a start alone; reads its arguments before the key, as since 7.4"),
    ("bitfield", &["4294967295"], "writes no field that reaches over the longest string's end"),
    ("bitpos", ALL, "reads its arguments before the key, as since 7.4"),
    ("blmove", TIMES, "7.0 calls what overflows negative"),
    ("blmpop", TIMES, "7.0 calls what overflows negative"),
    ("blpop", TIMES, "7.0 calls what overflows negative"),
    ("brpop", TIMES, "7.0 calls what overflows negative"),
    ("brpoplpush", TIMES, "7.0 calls what overflows negative"),
    ("bzmpop", TIMES, "7.0 calls what overflows negative"),
    ("bzpopmax", TIMES, "7.0 calls what overflows negative"),
    ("bzpopmin", TIMES, "7.0 calls what overflows negative"),
    ("client|kill", ALL, "client ids are counted from another number; MAXAGE is younger"),
    ("client|list", ALL, "shows addresses and ids"),
    ("client|pause", ALL, "everybody would wait"),
    ("client|unblock", ALL, "client ids are counted from another number"),
    ("hello", ALL, "names the version and the id"),
    ("lolwut", ALL, "draws another picture"),
    ("lpos", LEAST, "is refused since 7.2"),
    ("lrem", LEAST, "is refused since 7.4, before which it overflows"),
    (
        "lset",
        &["4294967295", "4294967296", "9223372036854775807", "-9223372036854775808"],
        "7.2 cuts the index to 32 bits",
    ),
    ("memory|usage", ALL, "the memory is another"),
    ("replicaof", ALL, "would follow somebody"),
    ("scan", ALL, "a cursor is a place in another table"),
    ("slaveof", ALL, "would follow somebody"),
    ("sscan", ALL, "an intset or listpack is answered whole, whatever the cursor; 7.0 has neither"),
    ("wait", ALL, "would wait for ever for replicas that there are not"),
    ("xread", TIMES, "7.0 lets what overflows pass"),
    ("xreadgroup", TIMES, "7.0 lets what overflows pass"),
    ("zincrby", ALL, "7.0 prints seventeen digits"),
];

fn is_excused(row: &Row, words: &[String]) -> bool {
    DIFFERING.iter().any(|(name, edges, _)| {
        *name == row.full_name && edges.iter().any(|edge| words.iter().any(|word| word == edge))
    })
}

/// One request to both; the difference, if there is one.
fn differ(clients: &mut [Client; 2], key: &[&str], words: &[String]) -> Option<String> {
    let request = [
        encode(&["SELECT", "0"]),
        encode(&["FLUSHALL"]),
        encode(key),
        encode(words),
        encode(&["SELECT", "0"]),
        encode(&["TYPE", "k"]),
    ]
    .concat();
    clients.iter_mut().for_each(|client| client.send(&request));
    let [ours, theirs] = clients.each_mut().map(|client| {
        let answers: Vec<Option<Answer>> = (0..6).map(|_| client.receive()).collect();
        let said = answers.iter().skip(3).map(|a| a.as_ref().map(Answer::print));
        said.map(|text| text.unwrap_or_else(|| "(closed)".to_owned())).collect::<Vec<_>>()
    });
    (ours != theirs)
        .then(|| format!("{words:?} over {key:?}\n  ours   {ours:?}\n  theirs {theirs:?}"))
}

#[test]
fn numbers_at_the_edges_are_answered_as_redis_answers() {
    if !is_there("redis-server") {
        return;
    }
    // What is slow is not for a comparison.
    let nothing_is_slow = [("slowlog-log-slower-than".to_owned(), "-1".to_owned())];
    let servers = [RUFOUS, "redis-server"].map(|binary| Server::start(binary, &nothing_is_slow));
    let mut clients = servers.each_ref().map(Server::connect);
    let Answer::Array(known) = clients[1].run("COMMAND LIST") else { panic!("a list of names") };
    let known: BTreeSet<String> = known.iter().map(Answer::print).collect();
    let table = Table::new();
    let mut tried = 0;
    let mut differences = Vec::new();
    for row in leaves(&table).filter(|row| known.contains(&format!("\"{}\"", row.full_name))) {
        for words in requests(row).iter().filter(|words| !is_excused(row, words)) {
            // A client that waits answers when its time is over, and some of these times never are.
            for key in KEYS.iter().filter(|key| !may_wait(row) || key[0] != "DEL") {
                differences.extend(differ(&mut clients, key, words));
                tried += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(tried > 5000, "only {tried} requests were made of the argument trees");
}
