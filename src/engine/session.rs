//! What the engine knows of one client.
//!
//! A session is plain data. The socket, the parse queue and the output buffer belong to the
//! driver, which leaves their sizes here ([`IoFigures`]) for CLIENT LIST and the limits.

use super::clients::{ClientId, Counted};
use super::replication::acks::Written;
use super::replication::feeders::Announced;
use super::scripting::debugged::DebugMode;
use super::tracking::{Interest, Mode};
use super::transaction::{Transaction, WatchedKey};
use super::waiting::{Reason, Wait};
use crate::acl::User;
use crate::command::CommandId;
use crate::config::{Config, OutputLimit, TlsUser};
use crate::pubsub::Subscriptions;
use crate::resp::Protocol;
use std::rc::Rc;

/// Where a client comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: Box<str>,
    pub local_address: Box<str>,
    pub fd: i32,
    pub unix_socket: bool,
    pub is_tls: bool,
    /// On this machine: by loopback or unix socket.
    pub is_local: bool,
    /// Whom its certificate names, if it has shown one to us.
    pub certificate: Option<Box<CertificateNames>>,
}

/// Whom a certificate names that was checked. No name is empty or has a zero byte in it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CertificateNames {
    /// The first common name of the subject.
    pub common_name: Option<Box<[u8]>>,
    /// The URIs among the alternative names of the subject, in order.
    pub uris: Box<[Box<[u8]>]>,
}

impl CertificateNames {
    /// Those that may be a user's (`tls-auth-clients-user`).
    pub fn names(&self, kind: TlsUser) -> Vec<&[u8]> {
        match kind {
            TlsUser::Off => Vec::new(),
            TlsUser::CommonName => self.common_name.iter().map(|name| &**name).collect(),
            TlsUser::Uri => self.uris.iter().map(|uri| &**uri).collect(),
        }
    }
}

impl Peer {
    /// Addresses stand without brackets; those of IPv6 have more than one colon.
    pub fn is_ipv6(&self) -> bool {
        !self.unix_socket && self.address.matches(':').count() > 1
    }

    /// A client without a socket: a test, or the server itself.
    pub fn internal() -> Peer {
        Peer {
            address: "127.0.0.1:0".into(),
            local_address: "127.0.0.1:0".into(),
            fd: -1,
            unix_socket: false,
            is_tls: false,
            is_local: true,
            certificate: None,
        }
    }
}

/// Which class of output buffer limits a client falls under, and how CLIENT LIST TYPE finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientKind {
    #[default]
    Normal,
    Replica,
    Pubsub,
    Primary,
}

impl ClientKind {
    /// How much output may wait for a client of this kind.
    pub fn output_limit(self, config: &Config) -> OutputLimit {
        let limits = &config.client_output_buffer_limit;
        match self {
            ClientKind::Normal => limits.normal,
            ClientKind::Replica => limits.replica,
            ClientKind::Pubsub => limits.pubsub,
            ClientKind::Primary => OutputLimit::default(),
        }
    }

    pub fn by_name(name: &[u8]) -> Option<ClientKind> {
        let kinds = [
            ("normal", ClientKind::Normal),
            ("slave", ClientKind::Replica),
            ("replica", ClientKind::Replica),
            ("pubsub", ClientKind::Pubsub),
            ("master", ClientKind::Primary),
            ("primary", ClientKind::Primary),
        ];
        kinds.iter().find(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
    }
}

/// Which replies a client wants (CLIENT REPLY).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The reply of the command after this one is dropped.
    SkipNext,
    /// The reply of this command is dropped.
    SkipThis,
}

/// Whether a request follows an ASK redirection (ASKING).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Asking {
    #[default]
    No,
    /// The next one does, or the transaction that it begins.
    Next,
    Now,
}

impl Asking {
    /// As it is for the request after this one.
    pub fn after(self) -> Asking {
        match self {
            Asking::Next => Asking::Now,
            Asking::Now | Asking::No => Asking::No,
        }
    }
}

/// Sizes of what the driver holds for a client, as of its last turn.
#[derive(Clone, Copy, Default, Debug)]
pub struct IoFigures {
    pub query_bytes: usize,
    pub query_free_bytes: usize,
    pub argv_bytes: usize,
    pub output_bytes: usize,
    /// What the output buffer holds that is no part of the data.
    pub output_own_bytes: usize,
    pub read_bytes_total: u64,
    pub written_bytes_total: u64,
    /// The thread that serves its socket; 0 is the executor's.
    pub thread: u16,
}

pub struct Session {
    pub id: ClientId,
    pub peer: Peer,
    pub kind: ClientKind,
    pub db: usize,
    pub protocol: Protocol,
    /// Whom it acts as, once it has logged in or need not.
    pub user: Option<Rc<User>>,
    pub name: Box<str>,
    pub library_name: Box<str>,
    pub library_version: Box<str>,
    pub reply_mode: ReplyMode,
    pub no_evict: bool,
    pub no_touch: bool,
    /// READONLY was given (cluster).
    pub reads_from_replica: bool,
    /// ASKING was given (cluster).
    pub asking: Asking,
    /// A replica sends it to its primary (CLIENT CAPA redirect).
    pub is_redirected: bool,
    /// How its scripts run.
    pub debug_mode: DebugMode,
    /// A script of its own stands in the debugger: what it sends is for that.
    pub is_debugging: bool,
    /// Is shown all commands.
    pub is_monitor: bool,
    /// What it listens to.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// What it is told of changed keys.
    pub tracking: Option<Box<Interest>>,
    /// Its connection is about to be dropped: nobody is to count on it any more.
    pub is_leaving: bool,
    /// Closes once its output has left.
    pub closes_after_reply: bool,
    /// What it waits for, so that its next request may not run.
    pub wait: Option<Box<Wait>>,
    /// The answer that the client waits for is not to be sent (CLIENT REPLY).
    pub drops_late_reply: bool,
    pub transaction: Option<Box<Transaction>>,
    pub watched: Vec<WatchedKey>,
    /// A watched key was touched: EXEC will answer null.
    pub watch_broken: bool,
    /// Where what it has written ends.
    pub written: Written,
    /// What it has said of itself as a replica.
    pub announced: Option<Box<Announced>>,
    pub created_ms: u64,
    pub last_active_ms: u64,
    pub last_command: Option<CommandId>,
    pub commands_total: u64,
    pub io: IoFigures,
    /// What the client table has counted for it.
    pub(super) counted: Counted,
}

impl Session {
    /// A session as it is when a client connects; `mono_ms` is the monotonic clock.
    pub fn new(id: ClientId, peer: Peer, mono_ms: u64) -> Session {
        Session {
            id,
            peer,
            kind: ClientKind::Normal,
            db: 0,
            protocol: Protocol::Resp2,
            user: None,
            name: "".into(),
            library_name: "".into(),
            library_version: "".into(),
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            reads_from_replica: false,
            asking: Asking::No,
            is_redirected: false,
            debug_mode: DebugMode::Off,
            is_debugging: false,
            is_monitor: false,
            subscriptions: None,
            tracking: None,
            is_leaving: false,
            closes_after_reply: false,
            wait: None,
            drops_late_reply: false,
            transaction: None,
            watched: Vec::new(),
            watch_broken: false,
            written: Written::default(),
            announced: None,
            created_ms: mono_ms,
            last_active_ms: mono_ms,
            last_command: None,
            commands_total: 0,
            io: IoFigures::default(),
            counted: Counted::default(),
        }
    }

    /// All memory that the client costs: `tot-mem`.
    pub fn memory_bytes(&self) -> usize {
        let io = &self.io;
        let watched = self.watched.capacity() * size_of::<WatchedKey>();
        let input = io.query_bytes + io.query_free_bytes;
        let output = io.output_bytes.max(io.output_own_bytes);
        let subscriptions = self.subscriptions.as_deref().map_or(0, |own| own.memory_bytes());
        let tracking = self.tracking.as_deref().map_or(0, |interest| interest.memory_bytes());
        let interests = watched + subscriptions + tracking;
        size_of::<Session>() + input + output + self.queued_bytes() + interests
    }

    /// The part of it that comes and goes with what is under way, and makes no key go. What a
    /// transaction has queued is not part of it: it is on its way to be data.
    pub fn buffer_bytes(&self) -> usize {
        if self.kind == ClientKind::Replica {
            // All of it is no data, and counted so.
            return 0;
        }
        let io = &self.io;
        io.query_bytes + io.query_free_bytes + io.output_own_bytes
    }

    /// Its connection is on its way to the end.
    pub fn is_being_closed(&self) -> bool {
        self.counted.is_closing
    }

    fn queued_bytes(&self) -> usize {
        self.transaction.as_deref().map_or(0, Transaction::memory)
    }

    /// It waits for something that somebody has to do, not for its own command on another thread.
    pub fn is_blocked(&self) -> bool {
        let reason = self.wait.as_ref().map(|wait| &wait.reason);
        matches!(
            reason,
            Some(
                Reason::Key(_)
                    | Reason::Copies(_)
                    | Reason::Unpause
                    | Reason::Disk
                    | Reason::Move
                    | Reason::End
            )
        )
    }

    /// One that listens to nothing any more is a client like others.
    pub fn leave_pubsub_if_idle(&mut self) {
        if self.subscriptions.as_deref().is_none_or(|own| own.is_empty()) {
            self.subscriptions = None;
            if self.kind == ClientKind::Pubsub {
                self.kind = ClientKind::Normal;
            }
        }
    }

    /// It is shown what happens in the order in which that does: the stream, or what clients do.
    pub fn is_fed(&self) -> bool {
        self.kind == ClientKind::Replica || self.is_monitor
    }

    /// It waits for what others do: for a key, for messages, for commands to watch.
    pub fn may_idle(&self) -> bool {
        self.wait.is_some() || self.kind != ClientKind::Normal || self.is_monitor
    }

    /// The id of the client that is told of changed keys instead of this one: 0 if none is, -1 if
    /// this one wants to be told nothing.
    pub fn redirect_number(&self) -> i64 {
        let redirect = |interest: &Interest| {
            interest.redirect.map_or(0, |client| client.number().cast_signed())
        };
        self.tracking.as_deref().map_or(-1, redirect)
    }

    /// The letters of the `flags` field of CLIENT LIST.
    pub fn flag_letters(&self) -> String {
        let mut letters = String::new();
        let mut put = |is_set: bool, letter: char| {
            if is_set {
                letters.push(letter);
            }
        };
        put(self.is_monitor, 'O');
        put(self.kind == ClientKind::Replica, 'S');
        put(self.kind == ClientKind::Primary, 'M');
        put(self.kind == ClientKind::Pubsub, 'P');
        put(self.transaction.is_some(), 'x');
        put(self.is_blocked(), 'b');
        let tracking = self.tracking.as_deref();
        put(tracking.is_some(), 't');
        put(tracking.is_some_and(|interest| interest.is_redirect_broken), 'R');
        put(tracking.is_some_and(|interest| interest.mode == Mode::Broadcast), 'B');
        put(self.watch_broken, 'd');
        put(self.closes_after_reply, 'c');
        put(self.peer.unix_socket, 'U');
        put(self.reads_from_replica, 'r');
        put(self.no_evict, 'e');
        put(self.no_touch, 'T');
        if letters.is_empty() {
            letters.push('N');
        }
        letters
    }
}
