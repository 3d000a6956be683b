//! The task of a connection: it reads and parses, and marks what the executor is to run.

use super::connection::Connection;
use super::pool::BufferPool;
use super::shared::Net;
use super::{holds, turn};
use crate::engine::client_line;
use crate::resp::ProtocolError;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The task of a connection.
pub async fn serve(net: Rc<Net>, connection: Rc<Connection>) {
    std::future::poll_fn(|cx| poll(&net, &connection, cx)).await;
    end(&net, &connection);
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
    if count_input(net, connection, read) {
        connection.close();
    } else if connection.io.borrow().has_work() && !connection.is_suspended.get() {
        // Who waits for a reply gets the next one after it: what was read meanwhile runs then.
        net.mark_ready(connection);
        if net.ready.borrow().len() >= READY_MAX {
            turn::run_early(net);
        }
    }
}

/// Counts what was read; true if the client has sent more than it may before any of it is
/// executed.
fn count_input(net: &Net, connection: &Connection, read: usize) -> bool {
    let held = connection.io.borrow().reader.buffered_len();
    let mut engine = net.engine.borrow_mut();
    engine.server.stats.reads_total += 1;
    engine.server.stats.net_input_bytes += read as u64;
    connection.io.borrow().leave_figures(&mut engine, connection.client);
    if engine.has_too_large_clients() {
        net.executor.notify_one();
    }
    if held <= engine.server.config.client_query_buffer_limit {
        return false;
    }
    if let Some(session) = engine.clients.get(connection.client) {
        let line = client_line::describe(&engine.server, session);
        tracing::warn!("Closing client that reached max query buffer length: {line}");
    }
    engine.server.stats.query_limit_disconnections += 1;
    engine.clients.count_out(connection.client);
    true
}

/// The connection has ended: its client is gone.
fn end(net: &Net, connection: &Rc<Connection>) {
    connection.is_closed.set(true);
    holds::let_go(net, connection);
    net.forget(connection);
    let mut engine = net.engine.borrow_mut();
    engine.disconnect(connection.client);
    if engine.is_under_way() {
        // A script that stood in the debugger goes on without its client.
        net.executor.notify_one();
    }
    drop(engine);
    if let Some(buffer) = connection.io.borrow_mut().reader.detach_buffer() {
        net.buffers.give_input(buffer);
    }
}
