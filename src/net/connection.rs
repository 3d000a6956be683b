//! One client's connection: its task reads and parses, the executor runs what was parsed and
//! writes the replies.
//!
//! The two share the connection through cells, never at the same time: all run on one thread and
//! nobody waits while holding a borrow. The task is polled once for each arrival of data in the
//! ordinary case; the executor wakes it only when it had to stop reading, or when output is left
//! that the socket would not take.

use super::stream::Stream;
use super::{Net, pool::BufferPool, turn};
use crate::engine::hold::Holds;
use crate::engine::{ClientId, Prepared};
use crate::keyspace::KeyHash;
use crate::resp::{ProtocolError, ReplyBuf, RequestReader};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
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

    fn remember_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// The task of a connection.
pub async fn serve(net: Rc<Net>, connection: Rc<Connection>) {
    std::future::poll_fn(|cx| poll(&net, &connection, cx)).await;
    net.forget(&connection);
}

fn poll(net: &Rc<Net>, connection: &Rc<Connection>, cx: &mut Context<'_>) -> Poll<()> {
    connection.remember_waker(cx);
    if connection.is_closed.get() {
        return Poll::Ready(());
    }
    if connection.wants_write.get() {
        match connection.io.borrow().stream.poll_write_ready(cx) {
            Poll::Ready(Ok(())) => net.mark_dirty(connection),
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => {}
        }
    }
    let mut taken = 0;
    loop {
        if connection.is_closed.get() {
            return Poll::Ready(());
        }
        if !may_read(connection) {
            connection.has_paused_reading.set(true);
            return Poll::Pending;
        }
        if taken >= TAKEN_MAX {
            net.mark_heavy(connection);
        }
        if connection.is_heavy.get() {
            return Poll::Pending;
        }
        match poll_read(connection, &net.buffers, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                // It is told so before it is closed.
                net.mark_ready(connection);
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(read)) => {
                taken += read;
                parse(net, connection, read);
            }
        }
    }
}

/// What a connection takes in before others have their turn.
const TAKEN_MAX: usize = 64 * 1024;

/// When the requests of so many connections wait, they are run before more is read: each of them
/// holds a buffer, and thousands that wake up at once would hold thousands.
const READY_MAX: usize = 256;

/// Reading goes on while nothing is queued, and for a client that waits, so that its hanging up
/// is seen.
fn may_read(connection: &Connection) -> bool {
    let io = connection.io.borrow();
    let idle = io.reader.pending() == 0 && io.failure.is_none();
    !io.is_closing && (idle || connection.is_suspended.get())
}

fn poll_read(
    connection: &Connection,
    buffers: &BufferPool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let io = &mut *connection.io.borrow_mut();
    if !io.reader.has_buffer() {
        io.reader.attach_buffer(buffers.input());
    }
    let Ok(room) = io.reader.room() else {
        io.failure = Some(ProtocolError::NoMemory);
        return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
    };
    let polled = io.stream.poll_read(cx, room);
    match &polled {
        Poll::Ready(Ok(n)) => io.read_bytes += *n as u64,
        _ => {
            if let Some(buffer) = io.reader.detach_buffer() {
                buffers.give_input(buffer);
            }
        }
    }
    polled
}

fn parse(net: &Rc<Net>, connection: &Rc<Connection>, read: usize) {
    {
        let engine = net.engine.borrow();
        let io = &mut *connection.io.borrow_mut();
        if let Err(failure) = io.reader.parse(&engine.request_limits(connection.client)) {
            io.failure = Some(failure);
        }
    }
    if net.count_input(connection, read) {
        connection.close();
    } else if connection.io.borrow().has_work() && !connection.is_suspended.get() {
        // Who waits for a reply gets the next one after it: what was read meanwhile runs then.
        net.mark_ready(connection);
        if net.ready.borrow().len() >= READY_MAX {
            turn::run_early(net);
        }
    }
}

impl Io {
    /// Something for the executor: requests to run, or a failure to report.
    pub fn has_work(&self) -> bool {
        self.reader.pending() > 0 || self.failure.is_some()
    }
}
