//! One client's connection, as the executor sees it.
//!
//! It is served on the executor's thread, where its task reads and parses ([`super::reading`]), or
//! on a thread of its own ([`super::threads`]), which hands its inbox over when there is something
//! to run. The executor runs what was parsed ([`super::turn`]); what has to go out stays with it
//! until it may leave.
//!
//! Where task and executor share the connection they do so through cells, never at the same time:
//! all run on one thread and nobody waits while holding a borrow. The task is polled once for each
//! arrival of data in the ordinary case; the executor wakes it only when input came while requests
//! were queued, or when output is left that the socket would not take.

use super::inbox::Inbox;
use super::outbox::Outbox;
use super::stream::Stream;
use crate::engine::ClientId;
use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// Where a connection's socket is.
pub enum Place {
    /// On the executor's thread.
    Here(Stream),
    /// On this thread of the fleet.
    There(usize),
    /// On its way from this thread to the executor's: nothing can be sent.
    Returning(usize),
}

pub struct Connection {
    pub client: ClientId,
    pub place: RefCell<Place>,
    /// Not there while its thread reads.
    pub inbox: RefCell<Option<Box<Inbox>>>,
    pub outbox: RefCell<Outbox>,
    /// How often it has gone to another thread. A task serves it for one stay on this one: it may
    /// have come back, and got another task, before the former has noticed that it was away.
    pub stay: Cell<u32>,
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
    /// A sender writes to the socket: nobody else does, and what is to go out waits.
    pub is_lent: Cell<bool>,
    /// Its last batch of commands has written.
    pub has_written: Cell<bool>,
    /// Input has come that was not read because requests were queued.
    pub is_hungry: Cell<bool>,
    /// It has taken in much and is to be polled when others have had their turn.
    pub is_heavy: Cell<bool>,
    /// The socket would not take all output.
    pub wants_write: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Connection {
    pub fn new(client: ClientId, stream: Stream, inbox: Box<Inbox>) -> Connection {
        Connection {
            client,
            place: RefCell::new(Place::Here(stream)),
            inbox: RefCell::new(Some(inbox)),
            outbox: RefCell::default(),
            stay: Cell::new(0),
            is_ready: Cell::new(false),
            is_dirty: Cell::new(false),
            is_suspended: Cell::new(false),
            is_closed: Cell::new(false),
            is_held: Cell::new(false),
            is_lent: Cell::new(false),
            has_written: Cell::new(false),
            is_hungry: Cell::new(false),
            is_heavy: Cell::new(false),
            wants_write: Cell::new(false),
            waker: Cell::new(None),
        }
    }

    /// Has the task polled again, if it has one on this thread.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    pub fn remember_waker(&self, cx: &Context<'_>) {
        let known = self.waker.take().filter(|known| known.will_wake(cx.waker()));
        self.waker.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
    }

    /// The thread that serves it, unless that is the executor's.
    pub fn thread(&self) -> Option<usize> {
        match *self.place.borrow() {
            Place::Here(_) => None,
            Place::There(thread) | Place::Returning(thread) => Some(thread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server has many that idle: with what the allocator and the count add, both are of classes
    /// of the allocator's.
    #[test]
    fn idle_connections_are_small() {
        assert!(size_of::<Connection>() <= 304, "{}", size_of::<Connection>());
        assert!(size_of::<Inbox>() <= 64, "{}", size_of::<Inbox>());
    }
}
