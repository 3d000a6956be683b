//! The task of a connection: it reads and parses, and marks what the executor is to run.

use super::connection::{Connection, Place};
use super::ending::end;
use super::inbox::Inbox;
use super::shared::Net;
use super::turn::run_early;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The task of a connection, until it ends or this stay of it does.
pub async fn serve(net: Rc<Net>, connection: Rc<Connection>, stay: u32) {
    std::future::poll_fn(|cx| match connection.stay.get() == stay {
        true => poll(&net, &connection, cx),
        false => Poll::Ready(()),
    })
    .await;
    if connection.stay.get() == stay {
        let mut engine = net.engine.borrow_mut();
        end(&net, &mut engine, &connection);
    }
}

fn poll(net: &Rc<Net>, connection: &Rc<Connection>, cx: &mut Context<'_>) -> Poll<()> {
    connection.remember_waker(cx);
    if connection.is_closed.get() {
        return Poll::Ready(());
    }
    let mut taken = 0;
    loop {
        if connection.is_closed.get() {
            return Poll::Ready(());
        }
        let mut place = connection.place.borrow_mut();
        let Place::Here(stream) = &mut *place else { return Poll::Ready(()) };
        if connection.wants_write.get() {
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => net.mark_dirty(connection),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if !may_read(connection) {
            // Ordinarily nothing comes before the replies: then the next arrival is what has the
            // task polled again.
            connection.is_hungry.set(stream.poll_read_ready(cx).is_ready());
            return Poll::Pending;
        }
        if taken >= TAKEN_MAX {
            net.mark_heavy(connection);
        }
        if connection.is_heavy.get() {
            return Poll::Pending;
        }
        let mut kept = connection.inbox.borrow_mut();
        let inbox = kept.as_mut().expect("it is where the socket is");
        match inbox.poll_read(stream, &net.buffers, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
                // It is told so before it is closed.
                net.mark_ready(connection);
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(read)) => {
                taken += read;
                net.traffic().count_read(read);
                inbox.parse(&net.reading);
                if look_at(net, connection, inbox) {
                    drop((place, kept));
                    run_early(net);
                }
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
    let is_idle = connection.inbox.borrow().as_ref().is_some_and(|inbox| !inbox.has_work());
    let is_closing = connection.outbox.borrow().is_closing;
    !is_closing && (is_idle || connection.is_suspended.get())
}

/// Marks what is to be run of what has come in; true if it should be run before more is read.
fn look_at(net: &Net, connection: &Rc<Connection>, inbox: &Inbox) -> bool {
    let is_too_long = inbox.is_too_long(&net.reading);
    // Who waits for a reply gets the next one after it: what was read meanwhile runs then.
    if !is_too_long && inbox.has_work() && !connection.is_suspended.get() {
        net.mark_ready(connection);
        return net.ready.borrow().len() >= READY_MAX;
    }
    let mut engine = net.engine.borrow_mut();
    engine.note_input(connection.client, inbox.figures());
    if is_too_long {
        engine.close_long_query(connection.client);
        connection.is_closed.set(true);
    } else if engine.has_too_large_clients() {
        net.executor.notify_one();
    }
    false
}

/// Serves the connections that come back from other threads.
pub async fn welcome(net: Rc<Net>) {
    loop {
        net.has_arrivals.notified().await;
        for (connection, stay) in net.arrivals.borrow_mut().drain(..) {
            tokio::task::spawn_local(serve(Rc::clone(&net), connection, stay));
        }
    }
}
