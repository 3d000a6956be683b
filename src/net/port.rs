//! What the executor and the task of the link to our primary share.
//!
//! Both run on one thread, and neither waits while it holds a borrow.

use crate::engine::replication::inlet::Inlet;
use crate::repl::link::Attempt;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use tokio::sync::{Notify, mpsc};

#[derive(Default)]
pub struct Port {
    pub attempt: Cell<Option<Attempt>>,
    pub inlet: RefCell<Inlet>,
    pub outgoing: RefCell<Vec<u8>>,
    /// The task has something to do: to write, to read on, or to end.
    pub wake: Notify,
    /// How the connection has ended, which is told when all before it was looked at.
    pub ended: RefCell<Option<String>>,
    /// Where the snapshot goes that arrives, and a part of it for which there was no room.
    pub snapshot: RefCell<Option<mpsc::Sender<Bytes>>>,
    pub piece: RefCell<Option<Bytes>>,
}

impl Port {
    /// Nothing of the connection is wanted any more.
    pub fn end(&self) {
        self.attempt.set(None);
        self.inlet.borrow_mut().end();
        self.outgoing.borrow_mut().clear();
        self.ended.take();
        self.stop_reading();
        self.wake.notify_one();
    }

    /// Nothing more of the snapshot is wanted.
    pub fn stop_reading(&self) {
        self.snapshot.take();
        self.piece.take();
    }
}
