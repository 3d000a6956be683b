//! A Sentinel as a machine: it watches servers, agrees with other Sentinels on which master is
//! down, and has one of its replicas take its place.
//!
//!     what happened, and when --> on, command --> what is to be done, in order
//!     a tick, a reply, a hello,   (this room)     dial, send, publish, log, persist,
//!     a file saved, a name found                  resolve, run a script
//!
//! It holds no socket, file, clock or process. The engine hands it commands and time, and the net
//! carries out its [`Action`]s, so a test plays a whole group of Sentinels over modelled servers
//! from one seed. The protocol, the words of events and the configuration file are those of Redis
//! 7.2: the members of a group need not be of one kind.
//!
//! What is persisted has a generation. Whoever must not act before the file holds something asks
//! [`Sentinel::is_saved`]: a vote counts, and is told, only from then on. Redis writes the file
//! in the middle of its timer instead, and a slow disk then makes it blind (TILT).
//!
//! Reading order: [`instances`], [`members`] and [`links`] (who is watched, over what), [`names`]
//! (addresses), [`events`], [`timers`] (the round), [`monitor`] (who is down), [`info`] and
//! [`hello`] (what others say), [`election`], [`failover`], [`config`], [`answers`], [`settings`]
//! and [`globals`] (SENTINEL), [`scripts`].

mod answers;
pub mod commands;
pub mod config;
mod election;
mod events;
mod failover;
mod globals;
mod hello;
mod info;
mod instances;
mod links;
mod members;
mod monitor;
mod names;
mod scripts;
mod settings;
#[cfg(test)]
mod tests;
mod timers;

pub use self::answers::Answer;
pub use self::links::WireId;
pub use self::scripts::ScriptEnd;
pub use self::timers::Periods;

use self::instances::{Id, Instances};
use self::links::Links;
use self::names::Names;
use self::scripts::Scripts;
use crate::resp::frame::Frame;
use crate::structs::prng::Prng;

/// Where Sentinels tell each other of themselves and of masters.
pub const HELLO_CHANNEL: &str = "__sentinel__:hello";

/// A moment: on a clock that never steps, which all decisions go by, and on the wall's, for people.
#[derive(Clone, Copy, Default, Debug)]
pub struct Moment {
    pub mono_ms: u64,
    pub unix_ms: u64,
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// Some time has passed: about ten times a second.
    Tick,
    /// A connection that was dialed is there; `local_ip` is our end of it.
    WireUp {
        wire: WireId,
        local_ip: String,
    },
    /// A connection has ended, or could not be made.
    WireDown {
        wire: WireId,
        reason: String,
    },
    Reply {
        wire: WireId,
        frame: Frame,
    },
    /// A name was looked up; nothing says that it has no address.
    Resolved {
        host: String,
        ip: Option<String>,
    },
    /// The file has been written, as it was to be in this generation, or it could not be.
    Saved {
        generation: u64,
        result: Result<(), String>,
    },
    ScriptStarted {
        job: u64,
        pid: u32,
    },
    ScriptEnded {
        job: u64,
        end: ScriptEnd,
    },
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Dial {
        wire: WireId,
        ip: String,
        port: u16,
    },
    Close {
        wire: WireId,
    },
    /// Sends a command, when the connection is there.
    Send {
        wire: WireId,
        bytes: Vec<u8>,
    },
    /// Tells clients of ours.
    Publish {
        channel: &'static str,
        text: String,
    },
    Log(Level, String),
    /// Writes the file with [`Sentinel::lines`] as they are now.
    Persist {
        generation: u64,
    },
    Run {
        job: u64,
        argv: Vec<String>,
    },
    Kill {
        job: u64,
    },
    Resolve {
        host: String,
    },
    SetLogLevel(String),
    /// Ends the process.
    Exit(i32),
}

/// How much an event matters: what is less than the log's level is not logged, [`Level::Debug`] is
/// not published, [`Level::Warning`] starts notification scripts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// What a Sentinel is told of the server that it is.
#[derive(Clone)]
pub struct Surroundings {
    /// The port at which other Sentinels find us.
    pub port: u16,
    /// What other Sentinels want to hear, unless they have a password of their own.
    pub requirepass: Option<Vec<u8>>,
    pub log_level: &'static str,
    /// Whether the file can be run.
    pub is_executable: fn(&str) -> bool,
    /// A moment in the words of C's ctime, without the line end.
    pub date: fn(u64) -> String,
}

impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            port: 26379,
            requirepass: None,
            log_level: "notice",
            is_executable: |_| true,
            date: |unix_ms| unix_ms.to_string(),
        }
    }
}

/// What holds for all masters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Globals {
    pub announce_ip: Option<String>,
    pub announce_port: u16,
    pub resolve_hostnames: bool,
    pub announce_hostnames: bool,
    pub deny_scripts_reconfig: bool,
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Default for Globals {
    fn default() -> Self {
        Globals {
            announce_ip: None,
            announce_port: 0,
            resolve_hostnames: false,
            announce_hostnames: false,
            deny_scripts_reconfig: true,
            user: None,
            password: None,
        }
    }
}

/// Failures that SENTINEL SIMULATE-FAILURE has asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Simulated {
    pub after_election: bool,
    pub after_promotion: bool,
}

impl Simulated {
    fn bits(self) -> u8 {
        u8::from(self.after_election) | u8::from(self.after_promotion) << 1
    }
}

pub struct Sentinel {
    pub surroundings: Surroundings,
    my_id: String,
    /// The file has said who we are.
    is_id_kept: bool,
    current_epoch: u64,
    globals: Globals,
    periods: Periods,
    instances: Instances,
    links: Links,
    names: Names,
    scripts: Scripts,
    /// Since when nothing is done but watching, for time went in a way that it should not.
    tilt_since_ms: Option<u64>,
    last_tick_ms: Option<u64>,
    simulated: Simulated,
    prng: Prng,
    now: Moment,
    /// Counts the changes that the file is to hold.
    generation: u64,
    /// The last generation that the file holds.
    saved: u64,
    /// The last generation that could not be written, and when that was told.
    failed: Option<(u64, u64)>,
    /// The process ends when the file holds this generation.
    ends_behind: Option<u64>,
    actions: Vec<Action>,
}

impl Sentinel {
    pub fn new(surroundings: Surroundings, mut prng: Prng) -> Sentinel {
        Sentinel {
            surroundings,
            my_id: (0..5).map(|_| format!("{:08x}", prng.next_u64() as u32)).collect(),
            is_id_kept: false,
            current_epoch: 0,
            globals: Globals::default(),
            periods: Periods::default(),
            instances: Instances::default(),
            links: Links::default(),
            names: Names::default(),
            scripts: Scripts::default(),
            tilt_since_ms: None,
            last_tick_ms: None,
            simulated: Simulated::default(),
            prng,
            now: Moment::default(),
            generation: 0,
            saved: 0,
            failed: None,
            ends_behind: None,
            actions: Vec::new(),
        }
    }

    /// Takes in what has happened.
    pub fn on(&mut self, event: Event, now: Moment) {
        self.now = now;
        if self.ends_behind.is_some() && !matches!(event, Event::Saved { .. }) {
            return;
        }
        match event {
            Event::Tick => self.tick(),
            Event::WireUp { wire, local_ip } => self.links.note_up(wire, local_ip),
            Event::WireDown { wire, reason } => self.lose_wire(wire, &reason),
            Event::Reply { wire, frame } => self.take_reply(wire, frame),
            Event::Resolved { host, ip } => self.note_resolved(&host, ip),
            Event::Saved { generation, result } => self.note_saved(generation, result),
            Event::ScriptStarted { job, pid } => self.note_script(job, pid),
            Event::ScriptEnded { job, end } => self.end_script(job, end),
        }
    }

    /// What is to be done since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Forty hexadecimal digits by which other Sentinels know this one.
    pub fn my_id(&self) -> &str {
        &self.my_id
    }

    /// Has the file written as things are now.
    fn persist(&mut self) {
        self.generation += 1;
        self.actions.push(Action::Persist { generation: self.generation });
    }

    /// Whether the file holds this generation.
    pub fn is_saved(&self, generation: u64) -> bool {
        self.saved >= generation
    }

    /// The generation that was asked for last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn note_saved(&mut self, generation: u64, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.saved = self.saved.max(generation);
                self.log(Level::Notice, "Sentinel new configuration saved on disk".to_owned());
            }
            Err(reason) => {
                self.failed = Some((generation, self.now.mono_ms));
                self.log(
                    Level::Warning,
                    format!(
                        "WARNING: Sentinel was not able to save the new configuration on disk!!!: \
                         {reason}"
                    ),
                );
            }
        }
        if self.ends_behind.is_some_and(|behind| generation >= behind) {
            self.actions.push(Action::Exit(99));
        }
    }

    /// Tries again to write what could not be written: others wait for it.
    fn retry_save(&mut self) {
        let Some((generation, at_ms)) = self.failed else { return };
        if self.is_saved(generation) {
            self.failed = None;
        } else if self.now.mono_ms.saturating_sub(at_ms) >= RETRY_SAVE_MS {
            self.failed = None;
            self.persist();
        }
    }

    /// Ends as a crash would (SENTINEL SIMULATE-FAILURE), when the file is as it is to be then.
    fn crash(&mut self) {
        let text = "Sentinel CRASH because of SENTINEL simulate-failure";
        self.log(Level::Warning, text.to_owned());
        self.ends_behind = Some(self.generation);
        if self.is_saved(self.generation) {
            self.actions.push(Action::Exit(99));
        }
    }

    /// For how long something has been so; for ever if it never began.
    fn since(&self, began_ms: Option<u64>) -> u64 {
        began_ms.map_or(u64::MAX, |began| self.now.mono_ms.saturating_sub(began))
    }

    fn master_by_name(&self, name: &[u8]) -> Option<Id> {
        let mut ids = self.instances.masters().iter();
        ids.find(|id| self.instances[**id].name.as_bytes() == name).copied()
    }
}

/// A configuration that could not be written is tried again so often.
const RETRY_SAVE_MS: u64 = 1000;

/// No time is so long that several of them together would not be one.
const MS_MAX: u64 = i64::MAX as u64 / 16;

/// The number at the front of a text, as C's atoi takes it: zero if there is none.
fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].trim_start_matches('+').parse().unwrap_or(0)
}
