//! Numbers at the edges, put wherever a command takes a number: an error or an answer, never a
//! panic, and never memory for what was only declared.

use crate::answer::Answer;
use crate::local::Local;
use rufous::command::{Arg, ArgKind, Table};

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
    "",
    "x",
];

fn is_number(arg: &Arg) -> bool {
    matches!(arg.kind, ArgKind::Integer | ArgKind::UnixTime)
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
            ArgKind::PureToken => {}
            ArgKind::Block(parts) => parts.iter().for_each(|part| self.fill(part)),
            ArgKind::OneOf(choices) => self.choose(choices),
            ArgKind::Key => self.put("k"),
            ArgKind::String => self.put("v"),
            ArgKind::Pattern => self.put("*"),
            ArgKind::Double => self.put("1.5"),
            ArgKind::Integer | ArgKind::UnixTime => {
                let is_wanted = self.seen == self.wanted;
                self.put(if is_wanted { self.edge } else { "1" });
                self.seen += 1;
            }
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

/// The most memory this process has had, in bytes.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().map_or(0, |kb| kb.parse::<usize>().unwrap_or(0) * 1024)
}

/// Far above what the tests use, far below what the edges declare.
const MEMORY_MAX: usize = 1 << 30;

fn try_edge(name: &str, words: &[String]) {
    let mut local = Local::start(&[]);
    for value in ["5", "text"] {
        let client = local.connect();
        local.call(client, &["SET", "k", value]);
        local.call(client, words);
        let observer = local.connect();
        let pong = local.call(observer, &["PING"]);
        let is_paused = name == "client|pause";
        let answers = pong == Some(Answer::Simple(b"PONG".to_vec()));
        assert!(answers || is_paused || local.exited, "{words:?}: {pong:?}");
    }
}

#[test]
fn numbers_at_the_edges_harm_nobody() {
    let table = Table::new();
    let mut tried = 0;
    for row in table.rows().iter().filter(|row| !row.command.is_container()) {
        let count: usize = row.command.args.iter().map(numbers).sum();
        for (wanted, edge) in (0..count).flat_map(|w| EDGES.iter().map(move |edge| (w, edge))) {
            let words = row.full_name.split('|').map(str::to_owned).collect();
            let mut filler = Filler { wanted, edge, seen: 0, words };
            row.command.args.iter().for_each(|arg| filler.fill(arg));
            try_edge(row.full_name, &filler.words);
            tried += 1;
        }
    }
    assert!(tried > 500, "only {tried} requests were made of the argument trees");
    let peak = memory_peak();
    assert!(peak < MEMORY_MAX, "{peak} bytes were used at once");
}
