//! Commands with words that are none of theirs, called by scripts: an error each, or what the
//! command makes of them; and an error means that nothing was done.
//!
//! The words are those of each command's example, of which some are left out, or replaced by
//! others, by seeds. What a client may send is tried in `limits`; here each goes through a script
//! that catches the error, so that what has been done for it by then would stay.

use crate::answer::{self, Answer};
use crate::local::Local;
use crate::play;
use crate::shape;
use crate::transcript::{Action, Transcript};
use rufous::command::{Flags, Table};
use rufous::engine::ClientId;
use rufous::engine::propagate::Reader;
use rufous::structs::prng::Prng;

/// Calls its arguments as a command, and says whether that failed and what it said.
const CALL: &str = "local r = redis.pcall(unpack(ARGV)) \
                    return {type(r) == 'table' and r.err or false, r}";
const TRIALS: usize = 12;

/// Words that are wrong nearly everywhere.
fn odd_words() -> Vec<Vec<u8>> {
    let texts =
        ["", "0", "-1", "nan", "inf", "-inf", "1e400", "9223372036854775807", "*", "$", "\0"];
    let far = ["-9223372036854775808", "18446744073709551616", "1.5", "(", "[", "+", "-", "COUNT"];
    let mut words: Vec<Vec<u8>> =
        texts.iter().chain(&far).map(|text| text.as_bytes().to_vec()).collect();
    words.push(vec![b'9'; 400]);
    words.push(vec![0xff; 70_000]);
    words
}

/// The command's words with something wrong about them.
fn spoilt(words: &[Vec<u8>], odd: &[Vec<u8>], prng: &mut Prng) -> Vec<Vec<u8>> {
    let mut words = words.to_vec();
    for _ in 0..1 + prng.below(2) {
        let own = 1 + prng.below(words.len() as u64) as usize;
        let other = odd[prng.below(odd.len() as u64) as usize].clone();
        match prng.below(5) {
            0 => words.truncate(own),
            1 if own < words.len() => {
                words.remove(own);
            }
            2 => words.insert(own.min(words.len()), other),
            3 => words.push(other),
            _ if own < words.len() => words[own] = other,
            _ => words.extend(std::iter::repeat_n(other, 5)),
        }
    }
    words
}

/// A server whose stream of writes is recorded, and how far that was looked at.
struct World {
    local: Local,
    client: ClientId,
    read: u64,
}

impl World {
    fn new(transcript: &Transcript) -> World {
        let mut local = Local::start(&transcript.config);
        local.engine.server.propagation.set_active(Reader::Aof, true);
        local.engine.keyspace.changes.observers.propagation = true;
        let client = local.connect();
        World { local, client, read: 0 }
    }

    fn digest(&mut self) -> Option<Answer> {
        self.local.call(self.client, &["DEBUG", "DIGEST"])
    }

    /// What was written since this was last asked.
    fn written(&mut self) -> Vec<u8> {
        let stream = &mut self.local.engine.server.propagation;
        stream.close();
        let mut written = Vec::new();
        while let Some((bytes, end)) = stream.read(self.read) {
            written.extend_from_slice(&bytes);
            self.read = end;
        }
        self.read = stream.offset();
        written
    }

    /// Has a script call these words; what is wrong about what came of it.
    fn fault(&mut self, words: &[Vec<u8>], refused: &mut usize) -> Option<String> {
        let before = self.digest();
        self.written();
        let script = ["EVAL", CALL, "0"].map(|word| word.as_bytes().to_vec());
        let request: Vec<Vec<u8>> = script.into_iter().chain(words.iter().cloned()).collect();
        self.local.send(self.client, &answer::encode(&request));
        let answers: Vec<Answer> = std::iter::from_fn(|| self.local.receive(self.client)).collect();
        let [Answer::Array(answer)] = &answers[..] else {
            return Some(format!("it is answered by {answers:?}"));
        };
        let failed = matches!(answer.first(), Some(Answer::Bulk(_)));
        *refused += usize::from(failed);
        let written = self.written();
        if failed && !written.is_empty() {
            return Some(format!("{answer:?}, and {} was written", written.escape_ascii()));
        }
        (failed && self.digest() != before).then(|| format!("{answer:?}, and the data changed"))
    }
}

#[test]
fn odd_words_are_refused_to_scripts_and_change_nothing() {
    let (table, odd) = (Table::new(), odd_words());
    let (mut faults, mut refused) = (Vec::new(), 0);
    for row in table.rows() {
        let transcript = play::example(row.full_name, row.command.example);
        let mut world = World::new(&transcript);
        for step in &transcript.steps {
            let Action::Call(words) = &step.action else { continue };
            let own = shape::row(&table, words).filter(|own| own.full_name == row.full_name);
            if own.is_some_and(|own| !own.command.flags.has(Flags::NOSCRIPT)) {
                for seed in 0..TRIALS {
                    let words = spoilt(words, &odd, &mut Prng::seeded(seed as u64));
                    let Some(fault) = world.fault(&words, &mut refused) else { continue };
                    let shown: Vec<String> = words
                        .iter()
                        .map(|word| answer::quoted(&word[..word.len().min(50)]))
                        .collect();
                    faults.push(format!("{}: {fault}", shown.join(" ")));
                }
            }
            world.local.call(world.client, words);
        }
    }
    assert!(refused > table.rows().len(), "only {refused} were refused");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
