//! A server that is a Sentinel: the machine's commands, and who carries out what it wants.
//!
//! The machine lies in [`Server::sentinel`], where ordinary servers have nothing. Its answers may
//! have to wait, for the configuration file or for the address behind a name; what it wants done
//! in the world leaves as [`Errand`]s, but for messages and lines of the log, which are ours.

use super::{ClientId, Clients, Cx, Effect, Engine, Server};
use crate::acl::Users;
use crate::command::{CommandError, CommandResult, Table};
use crate::config::commands::rewrite_file;
use crate::config::{Config, Extent, Sentences};
use crate::observe::stats::Stats;
use crate::pubsub::Topic;
use crate::resp::{Protocol, ReplyBuf};
use crate::sentinel::{
    Action, Answer, Event, HELLO_CHANNEL, Level, Moment, Sentinel, Surroundings, WireId, config,
};
use crate::structs::prng::Prng;
use std::path::PathBuf;
use std::sync::Arc;

/// Writes the configuration file; it runs on another thread, in the order of the errands.
pub type Saving = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// What the machine has the driver do. What comes of it goes to [`Engine::tell_sentinel`].
pub enum Errand {
    Dial { wire: WireId, ip: String, port: u16, source: Option<String> },
    Close { wire: WireId },
    Send { wire: WireId, bytes: Vec<u8> },
    Save { generation: u64, saving: Saving },
    Run { job: u64, argv: Vec<String> },
    Kill { job: u64 },
    Resolve { host: String },
}

/// A client that is to get its answer later.
struct Waiting {
    client: ClientId,
    protocol: Protocol,
    words: Vec<Vec<u8>>,
    answer: Answer,
    written: ReplyBuf,
}

/// The machine, and who waits for it.
pub struct Watch {
    pub machine: Sentinel,
    waiting: Vec<Waiting>,
}

/// The round of a Sentinel is made so many times a second, and up to as many more by chance, so
/// that Sentinels that started together do not always ask for votes together.
const ROUNDS_A_SECOND: u64 = 10;

impl Server {
    /// The time, as a Sentinel goes by it.
    pub fn sentinel_moment(&self) -> Moment {
        let now = self.clock.now();
        Moment { mono_ms: now.mono_us / 1000, unix_ms: now.unix_us / 1000 }
    }

    /// Does what the machine wants done.
    fn serve_sentinel(&mut self, clients: &Clients) {
        let Some(watch) = &mut self.sentinel else { return };
        for action in watch.machine.take_actions() {
            self.carry_out(clients, action);
        }
    }

    fn carry_out(&mut self, clients: &Clients, action: Action) {
        let errand = match action {
            Action::Publish { channel, text } => {
                let (channel, text) = (channel.as_bytes(), text.as_bytes());
                self.publish(clients, Topic::Channel, channel, text);
                return;
            }
            Action::Log(level, text) => return log(level, &text),
            Action::SetLogLevel(level) => {
                let by = crate::config::SetBy { loading: false, local: true };
                // It was checked against the same words.
                let _ = self.config.set(&[(b"loglevel", level.as_bytes())], by);
                return self.effects.push(Effect::Log);
            }
            Action::Exit(code) => return self.effects.push(Effect::Exit(code)),
            Action::Dial { wire, ip, port } => {
                let source = self.config.bind_source_addr.as_ref();
                let source = source.filter(|text| !text.is_empty());
                let source = source.map(|text| text.to_string_lossy().into_owned());
                Errand::Dial { wire, ip, port, source }
            }
            Action::Close { wire } => Errand::Close { wire },
            Action::Send { wire, bytes } => Errand::Send { wire, bytes },
            Action::Persist { generation } => match self.saving_of_sentinel() {
                Some(saving) => Errand::Save { generation, saving },
                None => return,
            },
            Action::Run { job, argv } => Errand::Run { job, argv },
            Action::Kill { job } => Errand::Kill { job },
            Action::Resolve { host } => Errand::Resolve { host },
        };
        self.effects.push(Effect::Sentinel(errand));
    }

    /// Writes the configuration as it is now, whenever it runs.
    fn saving_of_sentinel(&self) -> Option<Saving> {
        let watch = self.sentinel.as_ref()?;
        let sentences =
            Sentences { keys: config::KEYS, key_of: config::key_of, lines: watch.machine.lines() };
        let config = self.config.clone();
        let users = self.user_lines();
        let path = self.parts.config_path.clone();
        Some(Box::new(move || save(&config, &users, path, &sentences)))
    }
}

fn save(
    config: &Config,
    users: &[Vec<u8>],
    path: Option<PathBuf>,
    sentences: &Sentences,
) -> Result<(), String> {
    // Without a file, in tests, there is nothing that could be lost.
    let Some(path) = path else { return Ok(()) };
    rewrite_file(&path, |old| config.rewrite_with(old, Some(users), Extent::Changed, sentences))
        .map_err(|error| crate::config::os_reason(&error))
}

fn log(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::trace!("{text}"),
        Level::Verbose => tracing::debug!("{text}"),
        Level::Notice => tracing::info!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
    }
}

impl Engine {
    /// Makes this server a Sentinel, before anybody is served, with the lines `sentinel ...` of its
    /// configuration. On an error, which of them is wrong and why.
    pub fn become_sentinel(
        &mut self,
        surroundings: Surroundings,
        lines: &[Vec<Vec<u8>>],
    ) -> Result<(), (usize, &'static str)> {
        let prng = Prng::seeded(self.server.prng.next_u64());
        let mut machine = Sentinel::new(surroundings, prng);
        machine.read(lines).map_err(|refused| (refused.line, refused.reason))?;
        self.server.config.appendonly = false;
        self.server.table = Arc::new(Table::for_sentinel());
        self.server.stats = Stats::new(self.server.table.len());
        // Rights are bits by command, and these are others now.
        self.server.users = Users::new(&self.server.table);
        self.core().follow_requirepass();
        self.server.sentinel = Some(Box::new(Watch { machine, waiting: Vec::new() }));
        Ok(())
    }

    /// Tells the machine, if there is one, what has happened.
    pub fn tell_sentinel(&mut self, event: Event) {
        let now = self.server.sentinel_moment();
        let Some(watch) = &mut self.server.sentinel else { return };
        let may_answer = matches!(event, Event::Saved { .. } | Event::Resolved { .. });
        let failed = match &event {
            Event::Saved { generation, result: Err(_) } => Some(*generation),
            _ => None,
        };
        watch.machine.on(event, now);
        self.server.serve_sentinel(&self.clients);
        if may_answer {
            self.answer_waiting(failed);
        }
    }

    /// Answers those for whom the time has come. `failed` could not be written.
    fn answer_waiting(&mut self, failed: Option<u64>) {
        let Some(watch) = &mut self.server.sentinel else { return };
        for waiting in std::mem::take(&mut watch.waiting) {
            let outcome = self.answer_of(waiting, failed);
            if let Some((client, reply)) = outcome {
                self.finish_job(client, reply);
            }
        }
    }

    fn answer_of(
        &mut self,
        mut waiting: Waiting,
        failed: Option<u64>,
    ) -> Option<(ClientId, Result<ReplyBuf, CommandError>)> {
        let now = self.server.sentinel_moment();
        let watch = self.server.sentinel.as_mut()?;
        match waiting.answer {
            Answer::WhenSaved { generation, .. } if watch.machine.is_saved(generation) => {}
            Answer::WhenSaved { generation, otherwise } if failed >= Some(generation) => {
                let mut other = ReplyBuf::new();
                let told = otherwise.write(&mut other.writer(waiting.protocol));
                let reply = told.map(|()| other).map_err(CommandError::Fixed);
                return Some((waiting.client, reply));
            }
            Answer::WhenResolved => {
                let words: Vec<&[u8]> = waiting.words.iter().map(Vec::as_slice).collect();
                let mut written = ReplyBuf::new();
                let outcome =
                    watch.machine.command(&words, &mut written.writer(waiting.protocol), now);
                self.server.serve_sentinel(&self.clients);
                match outcome {
                    Err(error) => return Some((waiting.client, Err(text(error)))),
                    Ok(Answer::Now) => return Some((waiting.client, Ok(written))),
                    Ok(answer) => {
                        waiting.answer = answer;
                        waiting.written = written;
                        self.server.sentinel.as_mut()?.waiting.push(waiting);
                        return None;
                    }
                }
            }
            _ => {
                watch.waiting.push(waiting);
                return None;
            }
        }
        Some((waiting.client, Ok(waiting.written)))
    }

    /// Makes the round of a Sentinel, if this is one.
    pub(super) fn tick_sentinel(&mut self) {
        if self.server.sentinel.is_some() {
            self.tell_sentinel(Event::Tick);
        }
    }

    /// How many times a second [`Engine::cron`] is to be called now.
    pub fn cron_hz(&mut self) -> u64 {
        match self.server.sentinel {
            Some(_) => ROUNDS_A_SECOND + self.server.prng.below(ROUNDS_A_SECOND),
            None => u64::from(self.server.config.hz.clamp(1, 500)),
        }
    }
}

fn text(error: std::borrow::Cow<'static, str>) -> CommandError {
    CommandError::Text(error.into_owned().into_boxed_str())
}

impl Cx<'_> {
    /// Runs SENTINEL with these words.
    pub fn ask_sentinel(&mut self, words: &[&[u8]]) -> CommandResult {
        let now = self.server.sentinel_moment();
        let (client, protocol) = (self.client, self.reply.protocol());
        let Some(watch) = &mut self.server.sentinel else { return Err(CommandError::Syntax) };
        let mut written = ReplyBuf::new();
        let outcome = watch.machine.command(words, &mut written.writer(protocol), now);
        let outcome = outcome.map_err(text);
        if let Ok(answer @ (Answer::WhenSaved { .. } | Answer::WhenResolved)) = &outcome {
            let words = words.iter().map(|word| word.to_vec()).collect();
            let answer = answer.clone();
            watch.waiting.push(Waiting { client, protocol, words, answer, written });
            self.wait_for_answer();
        } else {
            self.reply.buffer().append(written);
        }
        self.server.serve_sentinel(self.clients);
        outcome.map(drop)
    }

    /// PUBLISH at a Sentinel: only what Sentinels tell each other is heard.
    pub fn publish_to_sentinel(&mut self, channel: &[u8], message: &[u8]) -> CommandResult {
        let now = self.server.sentinel_moment();
        let Some(watch) = &mut self.server.sentinel else { return Err(CommandError::Syntax) };
        if channel != HELLO_CHANNEL.as_bytes() {
            return Err(CommandError::Fixed(
                "ERR Only HELLO messages are accepted by Sentinel instances.",
            ));
        }
        watch.machine.hear(message, now);
        self.server.serve_sentinel(self.clients);
        self.reply.integer(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
