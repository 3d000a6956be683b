//! What the executor and the threads of sockets tell each other.

use crate::engine::ClientId;
use crate::engine::turn::{InputFigures, OutputFigures};
use crate::net::inbox::Inbox;
use crate::net::stream::Luggage;
use crate::resp::ReplyBuf;
use crate::structs::SharedBytes;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What becomes of a connection when its output has been written.
#[derive(Clone, Copy, Default, Debug)]
pub struct Then {
    /// The client waits for something: what it sends meanwhile is kept.
    pub suspends: bool,
    /// The connection is to be given back, if nothing is under way.
    pub goes_home: bool,
}

/// From the executor to a thread.
pub enum Order {
    /// Serve this connection, of which so much has been written.
    Take { client: ClientId, socket: Luggage, inbox: Box<Inbox>, written: Arc<AtomicU64> },
    /// Write these replies, and read on.
    Return { client: ClientId, inbox: Box<Inbox>, bytes: ReplyBuf, then: Then },
    /// Write this; if it `closes`, the connection ends when all output has left.
    Send { client: ClientId, bytes: Box<ReplyBuf>, closes: bool },
    /// Write the same to several clients.
    Broadcast { clients: Vec<ClientId>, bytes: SharedBytes },
    /// The client does not wait any more.
    Wake { client: ClientId },
    /// Give the connection back, unless the client waits for something or is being closed.
    Recall { client: ClientId },
    /// End the connection at once.
    Close { client: ClientId },
    /// Write what sockets take, and say so by dropping this: the process is about to end.
    Finish(std::sync::mpsc::Sender<()>),
}

/// From a thread to the executor.
pub enum Report {
    /// Requests to run, or a failure to report.
    Requests { client: ClientId, inbox: Box<Inbox> },
    /// Something has come that makes no request yet; more than may, perhaps.
    Input { client: ClientId, figures: InputFigures, is_too_long: bool },
    /// The socket does not take all output, or it does again.
    Output { client: ClientId, figures: OutputFigures },
    /// The connection has ended.
    Ended { client: ClientId },
    /// The connection is given back, with what its socket has not taken.
    Home { client: ClientId, socket: Luggage, inbox: Box<Inbox>, rest: ReplyBuf },
    /// It cannot be given back now.
    Stays { client: ClientId },
}
