//! A replica's side of the link to its primary, as a machine.
//!
//!     None -> Connect -> Connecting -> Ping -> Handshake -> Psync --+CONTINUE--------> Connected
//!               ^                                             |                          ^  |
//!               |                                             +-> Transfer --loaded------+  |
//!               +----------- whatever fails, and a link that was lost ----------------------+
//!
//! It is told what happened and when (`Link::on`) and answers with what is to be done, in that
//! order. Every event has a defined outcome in every state; what a state does not wait for changes
//! nothing. An attempt is one connection, from the dial to its end, and has a number, by which what
//! is still heard of one that was given up is told apart. A callback for each socket event, which
//! cancels what is under way, was refused: there the late ones are races.
//!
//! What can be continued is the server's own history (`ids::History`), and not a copy of what the
//! link had: a replica's history is its primary's. `stream_db` says whether that holds, so there is
//! one offset, and it cannot differ from itself. It holds from a full sync on, or from when a
//! primary steps down, across lost links and moves to other primaries, until the dataset is emptied
//! for a load, or the stream turns out broken.
//!
//! The words of the log are Redis's, since people search for them; "MASTER" included.

pub mod answers;
mod attempt;
mod context;
mod handshake;
mod lines;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;

use self::answers::{Moment, Payload};
use self::attempt::Reason;
use self::context::Context;
use self::handshake::Question;
use super::ids::{History, ReplicationId};
use std::collections::VecDeque;

/// A line of the handshake that begins is complete within this time.
const LINE_MS_MAX: u64 = 5000;
const HANDSHAKE_LINE_BYTES_MAX: usize = 256;
const HEADER_LINE_BYTES_MAX: usize = 1024;
/// How often a primary is told how far we are, or that we live.
const REPORT_MS: u64 = 1000;
/// When to try again after a failure that another try at once would not mend.
const RETRY_MS: u64 = 1000;
/// The same for snapshots that cannot be loaded, where each further failure doubles it up to this.
const RELOAD_MS_MAX: u64 = 60_000;
/// No two dials are closer, whatever goes wrong, unless somebody asks for the second.
const REDIAL_MS_MIN: u64 = 100;

/// The number of a connection, from its dial to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt(u64);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Primary {
    pub host: String,
    pub port: u16,
}

/// Why a primary is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Follow,
    /// Its data is another history than ours: nothing of ours is of use.
    Copy,
    /// It is a replica of ours, and is to take our place.
    Failover,
}

#[derive(Clone)]
pub struct Auth {
    pub user: Option<Vec<u8>>,
    pub password: Vec<u8>,
}

/// Where a snapshot goes as it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadFrom {
    Socket,
    Disk,
}

/// What was configured, as far as it matters here.
#[derive(Clone)]
pub struct Settings {
    /// The port that the primary is told.
    pub announce_port: u16,
    pub announce_ip: Option<String>,
    pub auth: Option<Auth>,
    pub timeout_ms: u64,
    pub load_from: LoadFrom,
    /// The primary is to know what we know of slots.
    pub is_in_cluster: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    SetPrimary {
        host: &'e str,
        port: u16,
        purpose: Purpose,
    },
    /// The server is to be a primary; its history goes on under a fresh name.
    NoOne {
        fresh: ReplicationId,
    },
    /// So many bytes were added to the stream by the server's own writes, as a primary's are.
    Written(u64),
    /// The append-only file is safe up to this offset of the history; none if there is no file.
    Synced(Option<i64>),
    /// Time has passed; to be told several times a second.
    Tick,
    Of(Attempt, LinkEvent<'e>),
}

/// What happens to an attempt.
#[derive(Clone, Copy, Debug)]
pub enum LinkEvent<'e> {
    /// There was no socket to connect, be it for want of an address.
    DialFailed(&'e str),
    ConnectFailed(&'e str),
    Connected,
    /// So many bytes arrived. Told before what is made of them; what a line leaves of them is told
    /// again, as the bytes of a snapshot or of the stream that it now is.
    Bytes(u64),
    /// One line, without its end, when lines are wanted.
    Line(&'e [u8]),
    /// More arrived than a line may have, and no end of it.
    LineTooLong,
    Closed(Closed<'e>),
    /// The dataset was emptied, for the load to come.
    Flushed {
        fresh: ReplicationId,
    },
    /// The whole snapshot has arrived: until it is loaded nothing more is read.
    Received,
    /// The snapshot has become the dataset; the stream begins in the given database. The fresh name
    /// is for the history if the primary has told none.
    Loaded {
        db: u32,
        fresh: ReplicationId,
    },
    LoadFailed(LoadFailure<'e>),
    /// So many bytes of the stream have been carried out, whole commands and transactions only;
    /// this database is selected then.
    Applied {
        bytes: u64,
        db: u32,
    },
    /// The primary asks how far we are. Told when the request itself counts as applied.
    GetAck,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed<'e> {
    ByPeer,
    Error(&'e str),
    WriteFailed(&'e str),
    /// The stream is no sequence of commands.
    Protocol,
    /// It holds inline commands, which no primary sends.
    Inline,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadFailure<'e> {
    /// It ended too early, so it was the connection.
    ShortRead,
    /// What should have been the end mark was something else.
    EndMark,
    Corrupt,
    /// It was our own disk or memory; what is to be logged of it.
    Ours(&'e str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Notice,
    Warning,
}

/// How the history's names changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewIds {
    /// The stream goes on: what is kept of it stays good.
    Renamed,
    /// Another history: what was kept of the old stream is of no use to anybody.
    Replaced,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Dial {
        attempt: Attempt,
        host: String,
        port: u16,
    },
    Send(Vec<u8>),
    /// What arrives from here on is a snapshot, of the given moment if that is known. With
    /// `is_same_history` the dataset is another moment of the same, so it may be served meanwhile.
    BeginLoad {
        payload: Payload,
        moment: Option<Moment>,
        is_same_history: bool,
    },
    /// What arrives from here on is the stream; it goes on in this database.
    BeginStream {
        db: u32,
    },
    /// End the connection, or the dial, if it has not ended; nothing more of it may be applied.
    CloseLink,
    AbortLoad,
    /// End the connections of our own replicas: they come back and learn what has changed.
    CutReplicas,
    NewIds(NewIds),
    /// The target of a failover has taken our place.
    FailoverDone,
    FailoverFailed(&'static str),
    Log(Level, String),
}

/// What the bytes of the present attempt are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// They are left unread.
    Nothing,
    Lines {
        bytes_max: usize,
    },
    Snapshot,
    Stream,
}

#[derive(Clone, Debug)]
enum State {
    None,
    Connect { due_ms: u64 },
    Connecting,
    Ping,
    Handshake(VecDeque<Question>),
    Psync,
    Transfer(Transfer),
    Connected,
}

#[derive(Clone, Debug)]
struct Transfer {
    moment: Option<Moment>,
    stage: Stage,
    bytes_read: u64,
    newline_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Header,
    Loading(Payload),
    /// All has arrived and is being loaded. The link may be lost meanwhile, which spoils nothing.
    Received {
        payload: Payload,
        is_lost: bool,
    },
}

/// How far a full sync is, for INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Not known where an end mark ends the snapshot.
    pub bytes_total: Option<u64>,
    pub bytes_read: u64,
}

#[derive(Clone, Debug)]
pub struct Link {
    history: History,
    primary: Option<Primary>,
    state: State,
    /// The database that the primary's stream goes on in; none unless our history is its history.
    stream_db: Option<u32>,
    attempts: u64,
    /// Whether the last attempt has not ended.
    is_live: bool,
    is_failover: bool,
    dialled_ms: Option<u64>,
    io_ms: u64,
    /// Since when a line has been incomplete.
    line_ms: Option<u64>,
    ack_ms: u64,
    /// The primary told no offset, and waits to hear of us all the same.
    acks_blindly: bool,
    /// Bytes of the stream that arrived and are not applied.
    unapplied: u64,
    synced: Option<i64>,
    failed_loads: u32,
    down_ms: Option<u64>,
}

impl Closed<'_> {
    fn text(&self) -> &str {
        match self {
            Closed::Error(text) | Closed::WriteFailed(text) => text,
            Closed::ByPeer | Closed::Protocol | Closed::Inline => "connection lost",
        }
    }
}

impl Link {
    /// Of a server that follows nobody.
    pub fn new(history: History) -> Link {
        Link {
            history,
            primary: None,
            state: State::None,
            stream_db: None,
            attempts: 0,
            is_live: false,
            is_failover: false,
            dialled_ms: None,
            io_ms: 0,
            line_ms: None,
            ack_ms: 0,
            acks_blindly: false,
            unapplied: 0,
            synced: None,
            failed_loads: 0,
            down_ms: None,
        }
    }

    /// Of a server that is configured to follow a primary, before its first tick. With `stream_db`
    /// it was loaded from a file that names the history, which can then be continued.
    pub fn configured(history: History, primary: Primary, stream_db: Option<u32>) -> Link {
        let state = State::Connect { due_ms: 0 };
        Link { primary: Some(primary), state, stream_db, ..Link::new(history) }
    }

    /// Appends to `actions` what is to be done.
    pub fn on(
        &mut self,
        event: Event,
        now_ms: u64,
        settings: &Settings,
        actions: &mut Vec<Action>,
    ) {
        let mut cx = Context::new(now_ms, settings, actions);
        match event {
            Event::SetPrimary { host, port, purpose } => {
                self.follow(Primary { host: host.to_owned(), port }, purpose, &mut cx);
            }
            Event::NoOne { fresh } => self.promote(fresh, &mut cx),
            Event::Written(bytes) => self.write(bytes),
            Event::Synced(offset) => self.synced = offset,
            Event::Tick => self.tick(&mut cx),
            Event::Of(attempt, event) if self.attempt() == Some(attempt) => {
                self.hear(event, &mut cx);
            }
            Event::Of(_, LinkEvent::Applied { .. }) => self.stray(&mut cx),
            Event::Of(..) => {}
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// Nobody counts what is written, so the dataset is no longer what the history's name says.
    pub fn forget_history(&mut self, fresh: ReplicationId) {
        self.history.forget(fresh);
        self.stream_db = None;
    }

    /// The history goes on under a name that nobody knows (DEBUG CHANGE-REPL-ID).
    pub fn rename_history(&mut self, fresh: ReplicationId) {
        self.history.forget(fresh);
    }

    pub fn primary(&self) -> Option<&Primary> {
        self.primary.as_ref()
    }

    /// The present attempt.
    pub fn attempt(&self) -> Option<Attempt> {
        self.is_live.then_some(Attempt(self.attempts))
    }

    pub fn wants(&self) -> Wants {
        match &self.state {
            State::None | State::Connect { .. } | State::Connecting => Wants::Nothing,
            State::Ping | State::Handshake(_) | State::Psync => {
                Wants::Lines { bytes_max: HANDSHAKE_LINE_BYTES_MAX }
            }
            State::Transfer(transfer) => match transfer.stage {
                Stage::Header => Wants::Lines { bytes_max: HEADER_LINE_BYTES_MAX },
                Stage::Loading(_) => Wants::Snapshot,
                Stage::Received { .. } => Wants::Nothing,
            },
            State::Connected => Wants::Stream,
        }
    }

    /// The state in the words of ROLE.
    pub fn word(&self) -> &'static str {
        match self.state {
            State::None => "none",
            State::Connect { .. } => "connect",
            State::Connecting => "connecting",
            State::Ping | State::Handshake(_) | State::Psync => "handshake",
            State::Transfer(_) => "sync",
            State::Connected => "connected",
        }
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// How far a full sync that is under way is.
    pub fn progress(&self) -> Option<Progress> {
        let State::Transfer(transfer) = &self.state else { return None };
        let bytes_total = match transfer.stage {
            Stage::Loading(Payload::Length(length))
            | Stage::Received { payload: Payload::Length(length), .. } => Some(length),
            _ => None,
        };
        Some(Progress { bytes_total, bytes_read: transfer.bytes_read })
    }

    /// The offset that has been applied, or that a lost link can be continued from.
    pub fn applied_offset(&self) -> Option<i64> {
        self.stream_db.map(|_| self.history.offset())
    }

    /// The offset up to which the stream has arrived.
    pub fn read_offset(&self) -> Option<i64> {
        self.applied_offset().map(|offset| offset.saturating_add_unsigned(self.unapplied))
    }

    /// The database in which the stream goes on, for the file that a restart continues from.
    pub fn stream_db(&self) -> Option<u32> {
        self.stream_db
    }

    /// When something was last heard of the primary of the present attempt.
    pub fn io_ms(&self) -> Option<u64> {
        self.is_live.then_some(self.io_ms)
    }

    /// Since when the link is down, if it ever was up.
    pub fn down_ms(&self) -> Option<u64> {
        self.down_ms
    }

    fn write(&mut self, bytes: u64) {
        // A replica's own writes, if it takes any, are in nobody's stream.
        if matches!(self.state, State::None) {
            self.history.advance(bytes);
        }
    }

    /// What happens to the present attempt.
    fn hear(&mut self, event: LinkEvent, cx: &mut Context) {
        match event {
            LinkEvent::DialFailed(text) => {
                self.fail_dial(format!("Unable to connect to MASTER: {text}"), cx);
            }
            LinkEvent::ConnectFailed(text) => {
                self.fail_dial(format!("Error condition on socket for SYNC: {text}"), cx);
            }
            LinkEvent::Connected => self.greet(cx),
            LinkEvent::Bytes(count) => self.count(count, cx),
            LinkEvent::Line(line) => self.read(line.trim_ascii_end(), cx),
            LinkEvent::LineTooLong => self.refuse_line(cx),
            LinkEvent::Closed(reason) => self.close(reason, cx),
            LinkEvent::Flushed { fresh } => self.flush(fresh, cx),
            LinkEvent::Received => self.receive(),
            LinkEvent::Loaded { db, fresh } => self.adopt(db, fresh, cx),
            LinkEvent::LoadFailed(failure) => self.fail_load(failure, cx),
            LinkEvent::Applied { bytes, db } => self.apply(bytes, db, cx),
            LinkEvent::GetAck => self.acknowledge(cx),
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        match &self.state {
            State::None => {}
            State::Connect { due_ms } => {
                if cx.now_ms >= *due_ms {
                    self.dial(Reason::Asked, cx);
                }
            }
            State::Connecting | State::Ping | State::Handshake(_) | State::Psync => {
                self.watch_handshake(cx);
            }
            State::Transfer(_) => self.watch_transfer(cx),
            State::Connected => self.watch_stream(cx),
        }
    }
}
