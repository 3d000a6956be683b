//! Transcripts: what is sent and what must come back, in redis-cli's notation.
//!
//! CONTRIBUTING.md explains the notation. This file reads it and compares replies with it; who
//! answers is the business of `play`. A parse error is a panic that names file and line: the
//! files are ours.

use crate::answer::{Answer, quoted};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct Transcript {
    pub path: PathBuf,
    pub steps: Vec<Step>,
    /// Directives that stand before the first step: what the server is started with.
    pub config: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Counted from one, as editors do.
    pub line: usize,
    pub action: Action,
    /// The reply as it is printed, line by line.
    pub expected: Vec<String>,
    pub scope: Scope,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// `> SET k v`: send a request and take its reply.
    Call(Vec<Vec<u8>>),
    /// `@raw "*1\r\n"`: send these bytes; what comes back is compared as bytes.
    Raw(Vec<u8>),
    /// `@receive`: take one more reply without sending anything.
    Receive,
    /// `@config name value`: change a directive while the server runs.
    Config(String, String),
    /// `@advance 10ms`
    Advance(Duration),
    /// `@client name`: the steps after it are this client's.
    Client(String),
    /// `@reset`: go on with a fresh server.
    Reset,
}

/// Where a step holds.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `@resp 2` or `@resp 3`
    pub resp: Option<u8>,
    /// `@only place`
    pub only: Option<String>,
    /// `@not-on place`, any number of them.
    pub not_on: Vec<String>,
    /// `@unordered`
    pub is_unordered: bool,
}

impl Scope {
    fn within(&self, outer: &Scope) -> Scope {
        Scope {
            resp: self.resp.or(outer.resp),
            only: self.only.clone().or_else(|| outer.only.clone()),
            not_on: [&*self.not_on, &*outer.not_on].concat(),
            is_unordered: self.is_unordered || outer.is_unordered,
        }
    }
}

impl Transcript {
    pub fn load(path: &Path) -> Transcript {
        let text = std::fs::read_to_string(path).expect("the file is there");
        Transcript::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Transcript {
        let mut parser = Parser::default();
        for (index, line) in text.lines().enumerate() {
            if let Err(reason) = parser.line(index + 1, line) {
                panic!("{}:{}: {reason}: {line}", path.display(), index + 1);
            }
        }
        let mut steps = parser.steps;
        for step in &mut steps {
            while step.expected.last().is_some_and(|line| line.trim().is_empty()) {
                step.expected.pop();
            }
        }
        Transcript { path: path.to_owned(), steps, config: parser.config }
    }
}

#[derive(Default)]
struct Parser {
    steps: Vec<Step>,
    config: Vec<(String, String)>,
    /// Holds for the rest of the file.
    outer: Scope,
    /// Holds for the next step, or from an empty line on for all.
    next: Scope,
    has_next: bool,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if let Some(command) = line.strip_prefix("> ") {
            let words = rufous::structs::words::split(command.as_bytes());
            let words = words.map_err(|_| "unbalanced quotes")?;
            self.push(number, Action::Call(words));
        } else if let Some(directive) = line.strip_prefix('@') {
            let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            self.directive(number, word, rest.trim())?;
        } else if line.starts_with('#') {
        } else if self.has_next && line.trim().is_empty() {
            self.outer = std::mem::take(&mut self.next).within(&self.outer);
            self.has_next = false;
        } else if let Some(step) = self.steps.last_mut() {
            step.expected.push(line.to_owned());
        } else if !line.trim().is_empty() {
            return Err("a reply before any request".to_owned());
        }
        Ok(())
    }

    fn directive(&mut self, number: usize, word: &str, rest: &str) -> Result<(), String> {
        let mut scope = |set: &dyn Fn(&mut Scope)| {
            set(&mut self.next);
            self.has_next = true;
        };
        match word {
            "resp" => {
                let version = rest.parse().map_err(|_| "no protocol")?;
                scope(&|s| s.resp = Some(version));
            }
            "only" => scope(&|s| s.only = Some(rest.to_owned())),
            "not-on" => scope(&|s| s.not_on.push(rest.to_owned())),
            "unordered" => scope(&|s| s.is_unordered = true),
            "config" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                if self.steps.is_empty() {
                    self.config.push((name.to_owned(), value.to_owned()));
                } else {
                    self.push(number, Action::Config(name.to_owned(), value.to_owned()));
                }
            }
            "raw" => {
                let words = rufous::structs::words::split(rest.as_bytes());
                let words = words.map_err(|_| "unbalanced quotes")?;
                self.push(number, Action::Raw(words.concat()));
            }
            "receive" => self.push(number, Action::Receive),
            "advance" => self.push(number, Action::Advance(duration(rest).ok_or("no time")?)),
            "client" => self.push(number, Action::Client(rest.to_owned())),
            "reset" => self.push(number, Action::Reset),
            _ => return Err("an unknown directive".to_owned()),
        }
        Ok(())
    }

    fn push(&mut self, line: usize, action: Action) {
        let scope = std::mem::take(&mut self.next).within(&self.outer);
        self.has_next = false;
        self.steps.push(Step { line, action, expected: Vec::new(), scope });
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "us" => Some(Duration::from_micros(count)),
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        _ => None,
    }
}

/// Whether the lines of a reply are as expected. `*` stands for any part of a line, `...` for any
/// lines, `(any)` for any reply.
pub fn fits(expected: &[String], got: &str) -> bool {
    if expected == ["(any)"] {
        return true;
    }
    let got: Vec<&str> = got.lines().collect();
    let matches = |pattern: &String, line: &&str| line_fits(pattern.trim_end(), line.trim_end());
    sequence_fits(expected, &got, |pattern| pattern.trim() == "...", matches)
}

fn line_fits(pattern: &str, line: &str) -> bool {
    sequence_fits(pattern.as_bytes(), line.as_bytes(), |byte| *byte == b'*', |a, b| a == b)
}

/// Matches a sequence against a pattern in which some elements stand for any number of elements.
fn sequence_fits<P, T>(
    pattern: &[P],
    text: &[T],
    is_gap: impl Fn(&P) -> bool,
    equal: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if p < pattern.len() && is_gap(&pattern[p]) {
            retry = Some((p + 1, t));
            p += 1;
        } else if p < pattern.len() && equal(&pattern[p], &text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after_gap, from)) = retry {
            retry = Some((after_gap, from + 1));
            (p, t) = (after_gap, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(is_gap)
}

/// A reply as redis-cli prints it after this request: a few reports come as plain text.
pub fn print(words: &[Vec<u8>], answer: &Answer) -> String {
    match answer {
        Answer::Bulk(text) | Answer::Verbatim(text) if is_report(words) => {
            let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
            if text.is_empty() { "\"\"".to_owned() } else { text.trim_end().to_owned() }
        }
        _ => answer.print().trim_end().to_owned(),
    }
}

fn is_report(words: &[Vec<u8>]) -> bool {
    let word = |index: usize| words.get(index).map_or_else(Vec::new, |w| w.to_ascii_lowercase());
    matches!(
        (&*word(0), &*word(1)),
        (b"info" | b"lolwut", _)
            | (b"client", b"list" | b"info")
            | (b"cluster", b"nodes" | b"info")
            | (b"memory", b"doctor" | b"malloc-stats")
            | (b"latency", b"doctor" | b"graph")
            | (b"debug", b"htstats" | b"htstats-key")
    )
}

/// What came back raw, one line a wire line, so that it reads well.
pub fn print_raw(bytes: &[u8]) -> String {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(quoted).collect::<Vec<_>>().join("\n")
}

#[test]
fn patterns_fit_what_they_should() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&lines("id=* addr=*:* x"), "id=3 addr=1.2.3.4:5 x"));
    assert!(!fits(&lines("id=*y"), "id=3 addr"));
    assert!(fits(&lines("a\n...\nc"), "a\nb\nb\nc"));
    assert!(fits(&lines("...\nc\n..."), "c"));
    assert!(!fits(&lines("a\n..."), "b\na"));
    assert!(fits(&lines("(any)"), "1) 2) 3"));
}
