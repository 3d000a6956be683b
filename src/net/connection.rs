//! One client's connection: its task reads and parses ([`super::reading`]), the executor runs what
//! was parsed and writes the replies ([`super::turn`]).
//!
//! The two share the connection through cells, never at the same time: all run on one thread and
//! nobody waits while holding a borrow. The task is polled once for each arrival of data in the
//! ordinary case; the executor wakes it only when it had to stop reading, or when output is left
//! that the socket would not take.

use super::stream::Stream;
use crate::engine::hold::Holds;
use crate::engine::{ClientId, Engine, Prepared};
use crate::keyspace::KeyHash;
use crate::resp::{ProtocolError, ReplyBuf, RequestReader};
use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::Instant;

pub struct Connection {
    pub client: ClientId,
    pub io: RefCell<Io>,
    /// In the list of connections with requests to run.
    pub is_ready: Cell<bool>,
    /// In the list of connections with output to write.
    pub is_dirty: Cell<bool>,
    /// The engine does not take this client's requests now, but its socket is watched.
    pub is_suspended: Cell<bool>,
    /// Ends as soon as the task is polled.
    pub is_closed: Cell<bool>,
    /// Some of the output waits for the log.
    pub is_held: Cell<bool>,
    /// Its last batch of commands has written.
    pub has_written: Cell<bool>,
    /// The task stopped reading because requests were queued.
    pub has_paused_reading: Cell<bool>,
    /// It has taken in much and is to be polled when others have had their turn.
    pub is_heavy: Cell<bool>,
    /// The socket would not take all output.
    pub wants_write: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The buffers of a connection, and what the executor keeps with them.
pub struct Io {
    pub stream: Stream,
    pub reader: RequestReader,
    pub out: ReplyBuf,
    /// What the executor found out about the first queued requests, and the hashes of their keys.
    pub prepared: Vec<Prepared>,
    pub hashes: Vec<KeyHash>,
    /// The input broke the protocol: said and closed after the requests before it.
    pub failure: Option<ProtocolError>,
    /// No more requests are run; the connection ends when the output has left.
    pub is_closing: bool,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// What of the output must wait for the log.
    pub holds: Holds,
    /// Since when the output has been over the soft limit.
    pub over_soft_limit: Option<Instant>,
}

impl Connection {
    pub fn new(client: ClientId, stream: Stream) -> Connection {
        Connection {
            client,
            io: RefCell::new(Io {
                stream,
                reader: RequestReader::new(),
                out: ReplyBuf::new(),
                prepared: Vec::new(),
                hashes: Vec::new(),
                failure: None,
                is_closing: false,
                read_bytes: 0,
                written_bytes: 0,
                holds: Holds::default(),
                over_soft_limit: None,
            }),
            is_ready: Cell::new(false),
            is_dirty: Cell::new(false),
            is_suspended: Cell::new(false),
            is_closed: Cell::new(false),
            is_held: Cell::new(false),
            has_written: Cell::new(false),
            has_paused_reading: Cell::new(false),
            is_heavy: Cell::new(false),
            wants_write: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Has the task polled again.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection; what is buffered is dropped.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.wake();
    }

    pub fn remember_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Io {
    /// Something for the executor: requests to run, or a failure to report.
    pub fn has_work(&self) -> bool {
        self.reader.pending() > 0 || self.failure.is_some()
    }

    /// Tells the engine what the connection holds, for CLIENT LIST and the limits.
    pub fn leave_figures(&self, engine: &mut Engine, client: ClientId) {
        let Some(session) = engine.clients.get_mut(client) else { return };
        let query_bytes = self.reader.query_len();
        session.io.query_bytes = query_bytes;
        session.io.query_free_bytes = self.reader.buffer_memory().saturating_sub(query_bytes);
        session.io.argv_bytes = if query_bytes == 0 { 0 } else { self.reader.argv_len() };
        session.io.output_bytes = self.out.len();
        session.io.output_own_bytes = self.out.own_memory();
        engine.clients.recount(client);
    }
}
