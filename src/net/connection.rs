//! One client's connection: its task reads and parses ([`super::reading`]), the executor runs what
//! was parsed and writes the replies ([`super::turn`]).
//!
//! The two share the connection through cells, never at the same time: all run on one thread and
//! nobody waits while holding a borrow. The task is polled once for each arrival of data in the
//! ordinary case; the executor wakes it only when input came while requests were queued, or when
//! output is left that the socket would not take.

use super::inbox::Inbox;
use super::outbox::Outbox;
use super::stream::Stream;
use crate::engine::ClientId;
use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

pub struct Connection {
    pub client: ClientId,
    pub stream: RefCell<Stream>,
    pub inbox: RefCell<Inbox>,
    pub outbox: RefCell<Outbox>,
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
    /// Input has come that was not read because requests were queued.
    pub is_hungry: Cell<bool>,
    /// It has taken in much and is to be polled when others have had their turn.
    pub is_heavy: Cell<bool>,
    /// The socket would not take all output.
    pub wants_write: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    pub fn new(client: ClientId, stream: Stream, inbox: Inbox) -> Connection {
        Connection {
            client,
            stream: RefCell::new(stream),
            inbox: RefCell::new(inbox),
            outbox: RefCell::default(),
            is_ready: Cell::new(false),
            is_dirty: Cell::new(false),
            is_suspended: Cell::new(false),
            is_closed: Cell::new(false),
            is_held: Cell::new(false),
            has_written: Cell::new(false),
            is_hungry: Cell::new(false),
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
