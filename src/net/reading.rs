//! The task of a connection: it reads and parses, and marks what the executor is to run.

use super::connection::Connection;
use super::shared::Net;
use super::{holds, turn};
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
        match connection.stream.borrow().poll_write_ready(cx) {
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
            // Ordinarily nothing comes before the replies: then the next arrival is what has the
            // task polled again.
            let is_there = connection.stream.borrow().poll_read_ready(cx).is_ready();
            connection.is_hungry.set(is_there);
            return Poll::Pending;
        }
        if taken >= TAKEN_MAX {
            net.mark_heavy(connection);
        }
        if connection.is_heavy.get() {
            return Poll::Pending;
        }
        match poll_read(net, connection, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                // It is told so before it is closed.
                net.mark_ready(connection);
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(read)) => {
                taken += read;
                net.traffic().count_read(read);
                parse(net, connection);
            }
        }
    }
}

/// Reads once. Nothing is borrowed when it has returned: what was read may be run at once.
fn poll_read(net: &Net, connection: &Connection, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut stream = connection.stream.borrow_mut();
    connection.inbox.borrow_mut().poll_read(&mut stream, &net.buffers, cx)
}

/// What a connection takes in before others have their turn.
const TAKEN_MAX: usize = 64 * 1024;

/// When the requests of so many connections wait, they are run before more is read: each of them
/// holds a buffer, and thousands that wake up at once would hold thousands.
const READY_MAX: usize = 256;

/// Reading goes on while nothing is queued, and for a client that waits, so that its hanging up
/// is seen.
fn may_read(connection: &Connection) -> bool {
    let is_idle = !connection.inbox.borrow().has_work();
    let is_closing = connection.outbox.borrow().is_closing;
    !is_closing && (is_idle || connection.is_suspended.get())
}

fn parse(net: &Rc<Net>, connection: &Rc<Connection>) {
    let mut inbox = connection.inbox.borrow_mut();
    inbox.parse(&net.reading);
    let is_too_long = inbox.is_too_long(&net.reading);
    // Who waits for a reply gets the next one after it: what was read meanwhile runs then.
    if !is_too_long && inbox.has_work() && !connection.is_suspended.get() {
        drop(inbox);
        net.mark_ready(connection);
        if net.ready.borrow().len() >= READY_MAX {
            turn::run_early(net);
        }
        return;
    }
    let mut engine = net.engine.borrow_mut();
    engine.note_input(connection.client, inbox.figures());
    if is_too_long {
        engine.close_long_query(connection.client);
        connection.close();
    } else if engine.has_too_large_clients() {
        net.executor.notify_one();
    }
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
    connection.inbox.borrow_mut().give_back(&net.buffers);
}
