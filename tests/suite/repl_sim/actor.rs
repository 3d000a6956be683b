//! Clients: what they ask for, and what they make of the answers.

use crate::answer::{Answer, encode, read};
use rufous::engine::ClientId;
use rufous::structs::prng::Prng;
use std::collections::VecDeque;

/// The database that nobody empties, where the writes are of which we keep account.
pub const LEDGER_DB: usize = 9;

/// What is to come.
#[derive(Debug)]
enum Expected {
    Anything,
    Echo(String),
    /// The reply to the write of this number.
    Write(u64),
    /// How many copies of it there are.
    Copies(u64),
}

/// What a client has learnt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learnt {
    /// A write was taken.
    Taken(u64),
    /// So many replicas have a write.
    Copied { number: u64, copies: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It does all sorts of things.
    Wild { flushes: Flushes },
    /// It makes writes that are kept account of.
    Writer,
    /// It listens.
    Subscriber,
}

/// What a client empties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushes {
    Nothing,
    /// Databases, but for that of the account.
    Some,
    All,
}

pub struct Actor {
    pub kind: Kind,
    /// Where it is connected: the node, its life, the connection.
    pub at: Option<(usize, u64, ClientId)>,
    input: Vec<u8>,
    pending: VecDeque<Expected>,
    echoes: u64,
}

/// By which the key of a write is told.
pub fn ledger_key(number: u64) -> String {
    format!("w:{number}")
}

fn words(line: &str) -> Vec<u8> {
    let parts: Vec<&str> = line.split(' ').collect();
    encode(&parts)
}

impl Actor {
    pub fn new(kind: Kind) -> Actor {
        let (input, pending) = (Vec::new(), VecDeque::new());
        Actor { kind, at: None, input, pending, echoes: 0 }
    }

    /// A new connection; what it says first.
    pub fn connect(&mut self, at: (usize, u64, ClientId)) -> Vec<u8> {
        self.at = Some(at);
        self.input.clear();
        self.pending.clear();
        match self.kind {
            Kind::Wild { .. } => Vec::new(),
            Kind::Writer => {
                self.pending.push_back(Expected::Anything);
                words(&format!("SELECT {LEDGER_DB}"))
            }
            Kind::Subscriber => words("SUBSCRIBE ch1 ch2"),
        }
    }

    pub fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What it asks for next, if it is not about to wait.
    pub fn ask(&mut self, prng: &mut Prng, numbers: &mut u64) -> Vec<u8> {
        if self.pending.len() > 6 || prng.below(2) == 0 {
            return Vec::new();
        }
        match self.kind {
            Kind::Wild { flushes } => self.ask_wildly(prng, flushes),
            Kind::Writer => self.write(prng, numbers),
            Kind::Subscriber => Vec::new(),
        }
    }

    fn write(&mut self, prng: &mut Prng, numbers: &mut u64) -> Vec<u8> {
        *numbers += 1;
        let number = *numbers;
        let mut bytes = words(&format!("SET {} 1", ledger_key(number)));
        self.pending.push_back(Expected::Write(number));
        if prng.below(2) == 0 {
            let copies = 1 + prng.below(2);
            bytes.extend(words(&format!("WAIT {copies} {}", 100 + prng.below(1000))));
            self.pending.push_back(Expected::Copies(number));
        }
        bytes
    }

    fn ask_wildly(&mut self, prng: &mut Prng, flushes: Flushes) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in wild_lines(prng, flushes) {
            bytes.extend(line);
            self.pending.push_back(Expected::Anything);
        }
        self.echoes += 1;
        let token = format!("token:{:?}:{}", self.at, self.echoes).replace(' ', "");
        bytes.extend(words(&format!("ECHO {token}")));
        self.pending.push_back(Expected::Echo(token));
        bytes
    }

    /// Something has come; what it says.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Learnt> {
        self.input.extend_from_slice(bytes);
        let mut learnt = Vec::new();
        while let Some((answer, len)) = read(&self.input) {
            self.input.drain(..len);
            if self.kind == Kind::Subscriber {
                check_message(&answer);
                continue;
            }
            let expected = self.pending.pop_front();
            let expected = expected.unwrap_or_else(|| panic!("nobody asked for {answer:?}"));
            learnt.extend(understand(expected, answer));
        }
        learnt
    }
}

fn understand(expected: Expected, answer: Answer) -> Option<Learnt> {
    match (expected, answer) {
        (Expected::Echo(token), Answer::Bulk(text)) => {
            assert_eq!(token.as_bytes(), text, "it is the reply to another request");
            None
        }
        (Expected::Echo(token), other) => {
            let is_refusal = matches!(other, Answer::Error(_));
            assert!(is_refusal, "{token}: {other:?}");
            None
        }
        (Expected::Write(number), Answer::Simple(_)) => Some(Learnt::Taken(number)),
        (Expected::Copies(number), Answer::Integer(copies)) => {
            let copies = usize::try_from(copies).expect("a count");
            Some(Learnt::Copied { number, copies })
        }
        (Expected::Write(_) | Expected::Copies(_), other) => {
            assert!(matches!(other, Answer::Error(_)), "{other:?}");
            None
        }
        (Expected::Anything, _) => None,
    }
}

fn check_message(answer: &Answer) {
    let Answer::Array(parts) = answer else { panic!("no message: {answer:?}") };
    let text = |at: usize| match parts.get(at) {
        Some(Answer::Bulk(text)) => text.clone(),
        _ => Vec::new(),
    };
    let is_known = [&b"ch1"[..], b"ch2"].contains(&&text(1)[..]);
    let is_whole = match &text(0)[..] {
        b"subscribe" => true,
        b"message" => text(2).starts_with(b"said"),
        _ => false,
    };
    assert!(is_known && is_whole, "{answer:?}");
}

const SCRIPT: &str = "redis.call('incr', KEYS[1]) redis.call('rpush', KEYS[2], ARGV[1]) \
                      return redis.call('spop', KEYS[3])";

/// It is put aside between its writes, and turns end meanwhile.
const SLOW_SCRIPT: &str = "redis.call('incr', KEYS[1]) for _ = 1, 1100000 do end \
                           redis.call('rpush', KEYS[2], 'slow')";
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('add', function(KEYS) \
                       return redis.call('incr', KEYS[1]) end)";

/// One request, or several that belong together.
fn wild_lines(prng: &mut Prng, flushes: Flushes) -> Vec<Vec<u8>> {
    let n = prng.below(12);
    let value = prng.below(1000);
    if flushes != Flushes::Nothing && prng.below(25) == 0 {
        return vec![words(match prng.below(6) {
            0 => "FLUSHDB",
            1 => "SWAPDB 0 1",
            2 => "SWAPDB 1 2",
            3 | 4 if flushes == Flushes::All => "FLUSHALL",
            5 if flushes == Flushes::All => "FLUSHALL ASYNC",
            _ => "FLUSHDB ASYNC",
        })];
    }
    if prng.below(300) == 0 {
        return vec![encode(&["EVAL", SLOW_SCRIPT, "2", &format!("n{n}"), &format!("l{n}")])];
    }
    let line = match prng.below(35) {
        31 => return vec![encode(&["FUNCTION", "LOAD", "REPLACE", LIBRARY])],
        32 => format!("FCALL add 1 n{n}"),
        33 => "BLPOP never 0".to_owned(),
        0 => format!("SELECT {}", prng.below(3)),
        1 => format!("INCR n{n}"),
        2 | 3 => format!("RPUSH l{n} {value}"),
        4 => format!("SADD s{n} {value} {n}"),
        5 => format!("HSET h{n} f{value} {value}"),
        6 => format!("ZADD z{n} {value} m{}", value % 9),
        7 => format!("XADD x{n} MAXLEN ~ 5 * f {value}"),
        8 => format!("SPOP s{n} {}", 1 + n % 3),
        9 => format!("LPOP l{n}"),
        10 => format!("DEL n{n} s{n}"),
        11 => format!("SET k{n} {value} PX {}", 1 + prng.below(400)),
        12 => format!("INCRBYFLOAT float{n} 0.1"),
        13 => format!("PEXPIRE l{n} {}", 1 + prng.below(500)),
        14 => format!("BLPOP l{n} 0.{}", 1 + n % 5),
        15 => format!("BLMOVE l{n} l{} LEFT RIGHT 0.{}", (n + 1) % 12, 1 + n % 5),
        16 => format!("BZPOPMIN z{n} 0.{}", 1 + n % 5),
        17 => format!("XREAD BLOCK {} STREAMS x{n} $", 50 + value),
        18 => return vec![encode(&["PUBLISH", if n < 6 { "ch1" } else { "ch2" }, "said so"])],
        19 => format!("HPEXPIRE h{n} {} FIELDS 1 f{value}", 1 + prng.below(300)),
        20 => format!("GETEX k{n} PX 100"),
        21 => format!("SET big{} {}", n % 2, "v".repeat(prng.below(30_000) as usize)),
        22 => format!("RENAME k{n} k{}", (n + 1) % 12),
        23 => format!("PFADD pf{n} {value}"),
        24 => format!("PFMERGE pf{n} pf{}", (n + 1) % 12),
        25 => format!("WAIT 1 {}", 1 + prng.below(300)),
        26 => return transaction(prng, n, value),
        27 | 28 => {
            let keys = [format!("n{n}"), format!("l{n}"), format!("s{n}"), value.to_string()];
            let [a, b, c, d] = &keys;
            return vec![encode(&["EVAL", SCRIPT, "3", a, b, c, d])];
        }
        29 => format!("GET k{n}"),
        30 => format!("SETRANGE r{n} {} x", value % 40),
        _ => format!("SET k{n} {value}"),
    };
    vec![words(&line)]
}

fn transaction(prng: &mut Prng, n: u64, value: u64) -> Vec<Vec<u8>> {
    let mut lines = vec![words("MULTI")];
    for _ in 0..1 + prng.below(4) {
        lines.push(words(&match prng.below(6) {
            0 => format!("SELECT {}", prng.below(3)),
            1 => format!("APPEND a{n} x"),
            2 => format!("RPUSH l{n} {value}"),
            3 => format!("SPOP s{n}"),
            4 => format!("PEXPIRE a{n} 200"),
            _ => format!("PUBLISH ch1 said{n}"),
        }));
    }
    lines.push(words("EXEC"));
    lines
}
