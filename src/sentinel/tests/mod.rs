//! A Sentinel alone: one machine, and a test that is the world around it.

mod chaos;
mod commands;
mod events;
mod files;
mod simulation;
mod world;

use super::{Action, Answer, Event, Moment, Sentinel, Surroundings, WireId};
use crate::resp::frame::Frame;
use crate::resp::{Protocol, ReplyBuf, command};
use crate::structs::prng::Prng;
use std::collections::{BTreeMap, VecDeque};

pub(super) const MY_ID: &str = "1111111111111111111111111111111111111111";
pub(super) const OTHER_ID: &str = "2222222222222222222222222222222222222222";

/// One machine, its time, and what it has wanted so far.
pub(super) struct Alone {
    pub machine: Sentinel,
    pub now_ms: u64,
    pub actions: Vec<Action>,
    /// What was sent and not answered yet.
    unanswered: BTreeMap<WireId, VecDeque<String>>,
    /// What INFO is answered with, by whoever is asked.
    pub info: Frame,
    /// Whether its file can be written; it is at once.
    pub can_save: bool,
}

impl Alone {
    /// A machine with the lines of this file.
    pub fn new(file: &str) -> Alone {
        let mut machine = Sentinel::new(Surroundings::default(), Prng::seeded(1));
        let file = format!("myid {MY_ID}\n{file}");
        machine.read(&lines_of(&file)).expect("the lines are sound");
        let (actions, unanswered) = (Vec::new(), BTreeMap::new());
        let (info, can_save) = (Frame::Null, true);
        let mut alone = Alone { machine, now_ms: 1000, actions, unanswered, info, can_save };
        alone.tick(0);
        alone
    }

    /// One that watches a master `m`, agreed upon by so many.
    pub fn watching(quorum: u32) -> Alone {
        Alone::new(&format!(
            "monitor m 10.0.0.1 6379 {quorum}\ndown-after-milliseconds m 1000\n\
             failover-timeout m 5000"
        ))
    }

    pub fn moment(&self) -> Moment {
        Moment { mono_ms: self.now_ms, unix_ms: 1_000_000 + self.now_ms }
    }

    pub fn tell(&mut self, event: Event) {
        self.machine.on(event, self.moment());
        self.settle();
    }

    /// Takes what the machine wants, and writes its file.
    pub fn settle(&mut self) {
        for action in self.machine.take_actions() {
            if let Action::Persist { generation } = action
                && self.can_save
            {
                let saved = Event::Saved { generation, result: Ok(()) };
                self.machine.on(saved, self.moment());
            }
            if let Action::Send { wire, bytes } = &action {
                self.unanswered.entry(*wire).or_default().push_back(words_of(bytes));
            }
            self.actions.push(action);
        }
    }

    /// Answers all that was sent over a connection for so long: a PING with this, INFO with
    /// what there is, everything else as who is content.
    pub fn respond(&mut self, wire: WireId, pong: &Frame, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            let asked = self.unanswered.get_mut(&wire).map(std::mem::take).unwrap_or_default();
            for line in asked {
                match line.as_str() {
                    "PING" => self.reply(wire, pong.clone()),
                    "INFO" => self.reply(wire, self.info.clone()),
                    _ => self.reply(wire, simple("OK")),
                }
            }
            if self.now_ms >= end_ms {
                return;
            }
            self.tick(100);
        }
    }

    /// Lets so much time pass, in rounds.
    pub fn tick(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            self.tell(Event::Tick);
            if self.now_ms >= end_ms {
                return;
            }
            self.now_ms = (self.now_ms + 100).min(end_ms);
        }
    }

    /// Runs SENTINEL with these words; the reply as text, `|` for line ends.
    pub fn ask(&mut self, line: &str) -> String {
        self.ask_in(line, Protocol::Resp2).0
    }

    pub fn ask_in(&mut self, line: &str, protocol: Protocol) -> (String, Option<Answer>) {
        let words: Vec<Vec<u8>> = crate::structs::words::split(line.as_bytes()).expect("it is");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut out = ReplyBuf::new();
        let moment = self.moment();
        let outcome = self.machine.command(&words, &mut out.writer(protocol), moment);
        self.settle();
        match outcome {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&out.to_vec()).replace("\r\n", "|");
                (text, Some(answer))
            }
            Err(error) => (format!("-{error}"), None),
        }
    }

    /// The fields of a map that a command answers, or of the first map of an array.
    pub fn fields(&mut self, line: &str) -> Vec<(String, String)> {
        let text = self.ask(line);
        let parts: Vec<&str> = text.split('|').collect();
        let from = parts.iter().position(|part| *part == "name").expect("it has a name");
        let values: Vec<&str> = parts[from..].iter().copied().step_by(2).collect();
        values.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    }

    pub fn field(&mut self, line: &str, name: &str) -> String {
        let fields = self.fields(line);
        fields
            .into_iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
            .unwrap_or_default()
    }

    /// Events so far, without their time, and forgets them.
    pub fn events(&mut self) -> Vec<String> {
        let told = |action: Action| match action {
            Action::Publish { channel, text } => Some(format!("{channel} {text}")),
            _ => None,
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(told).collect()
    }

    /// The connections that were asked for so far: number, address, port.
    pub fn dialed(&self) -> Vec<(WireId, String, u16)> {
        let dialed = |action: &Action| match action {
            Action::Dial { wire, ip, port } => Some((*wire, ip.clone(), *port)),
            _ => None,
        };
        self.actions.iter().filter_map(dialed).collect()
    }

    /// What was sent so far, as words.
    pub fn sent(&self, wire: WireId) -> Vec<String> {
        let sent = |action: &Action| match action {
            Action::Send { wire: to, bytes } if *to == wire => Some(words_of(bytes)),
            _ => None,
        };
        self.actions.iter().filter_map(sent).collect()
    }

    pub fn reply(&mut self, wire: WireId, frame: Frame) {
        self.tell(Event::Reply { wire, frame });
    }

    /// Says hello as another Sentinel.
    pub fn hear(&mut self, text: &str) {
        let moment = self.moment();
        self.machine.hear(text.as_bytes(), moment);
        self.settle();
    }

    /// The lines of the file as they are to be.
    pub fn file(&self) -> Vec<String> {
        let line =
            |(key, rest): (&str, Vec<u8>)| format!("{key} {}", String::from_utf8_lossy(&rest));
        self.machine.lines().into_iter().map(line).collect()
    }
}

/// A command as it was sent.
fn words_of(bytes: &[u8]) -> String {
    let (words, _) = command::read(bytes).expect("a whole command is sent at once");
    let words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

/// Lines of a file, without their first word, as words.
pub(super) fn lines_of(text: &str) -> Vec<Vec<Vec<u8>>> {
    let split =
        |line: &str| crate::structs::words::split(line.as_bytes()).expect("it is quoted well");
    text.lines().filter(|line| !line.is_empty()).map(split).collect()
}

pub(super) fn simple(text: &str) -> Frame {
    Frame::Simple(text.as_bytes().to_vec())
}

pub(super) fn bulk(text: &str) -> Frame {
    Frame::Bulk(text.as_bytes().to_vec())
}
