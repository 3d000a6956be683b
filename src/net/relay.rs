//! Connections that live on other threads: how they go there and come back, and what goes to and
//! fro.

use super::connection::{Connection, Place};
use super::ending::end;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::shared::Net;
use super::stream::{Luggage, Stream};
use super::threads::letters::{Order, Report, Then};
use crate::engine::{ClientId, Engine};
use crate::resp::ReplyBuf;
use std::rc::Rc;

/// Takes in what the threads have reported: requests to run, above all.
pub fn collect(net: &Rc<Net>, engine: &mut Engine) {
    let mut reports = net.reports.take();
    net.fleet.collect(&mut reports);
    for report in &reports {
        // All at once, so that the caches are filled while the first are looked at.
        if let Report::Requests { inbox, .. } = report {
            inbox.prefetch();
        }
    }
    for report in reports.drain(..) {
        take_in(net, engine, report);
    }
    *net.reports.borrow_mut() = reports;
}

fn take_in(net: &Rc<Net>, engine: &mut Engine, report: Report) {
    match report {
        Report::Requests { client, inbox } => {
            let Some(connection) = net.connection(client) else { return };
            *connection.inbox.borrow_mut() = Some(inbox);
            net.mark_ready(&connection);
        }
        Report::Input { client, figures, is_too_long } => {
            engine.note_input(client, figures);
            if is_too_long && let Some(connection) = net.connection(client) {
                engine.close_long_query(client);
                net.close(&connection);
            }
        }
        Report::Output { client, figures } => {
            let Some(connection) = net.connection(client) else { return };
            let mut outbox = connection.outbox.borrow_mut();
            outbox.set_stuck(figures.bytes > 0);
            engine.note_output(client, outbox.figures());
        }
        Report::Ended { client } => {
            if let Some(connection) = net.connection(client) {
                end(net, engine, &connection);
            }
        }
        Report::Home { client, socket, inbox, rest } => {
            come_home(net, engine, client, (socket, inbox, rest));
        }
        Report::Stays { client } => {
            let Some(connection) = net.connection(client) else { return };
            let thread = connection.thread().expect("whoever stays has been away");
            connection.place.replace(Place::There(thread));
            if connection.inbox.borrow().is_none() && !connection.is_suspended.get() {
                // Its wait may have ended while it was thought to be on its way.
                net.order(thread, Order::Wake { client });
            }
            net.mark_dirty(&connection);
        }
    }
}

/// Has another thread serve a connection from now on, if nothing of it is under way.
pub fn leave(net: &Net, engine: &mut Engine, connection: &Rc<Connection>, thread: usize) {
    let is_idle = connection.inbox.borrow().as_ref().is_some_and(|inbox| !inbox.has_work())
        && connection.outbox.borrow().out.is_empty()
        && !connection.outbox.borrow().is_closing
        && !connection.is_closed.get()
        && !connection.is_ready.get()
        && !connection.is_suspended.get()
        && !connection.is_lent.get()
        && !engine.is_replica_client(connection.client);
    if !is_idle {
        return;
    }
    let Place::Here(stream) = connection.place.replace(Place::There(thread)) else {
        unreachable!("only connections that are here leave");
    };
    net.fleet.count_in(thread);
    engine.note_thread(connection.client, thread + 1);
    // The task finds nothing to serve any more.
    connection.stay.set(connection.stay.get().wrapping_add(1));
    connection.wake();
    let client = connection.client;
    // Nobody has it then, so nobody will report its end.
    let Ok(socket) = stream.pack() else { return end(net, engine, connection) };
    let inbox = connection.inbox.take().expect("it was just seen");
    let written = connection.outbox.borrow_mut().begin_relay();
    net.order(thread, Order::Take { client, socket, inbox, written });
}

fn come_home(
    net: &Rc<Net>,
    engine: &mut Engine,
    client: ClientId,
    (socket, inbox, rest): (Luggage, Box<Inbox>, ReplyBuf),
) {
    let Some(connection) = net.connection(client) else { return };
    let thread = connection.thread().expect("it has been away");
    let is_gone = connection.is_closed.get();
    let Some(stream) = Stream::unpack(socket).ok().filter(|_| !is_gone) else {
        return end(net, engine, &connection);
    };
    net.fleet.count_out(thread);
    engine.note_thread(client, 0);
    connection.place.replace(Place::Here(stream));
    connection.outbox.borrow_mut().end_relay(rest);
    let has_work = inbox.has_work();
    *connection.inbox.borrow_mut() = Some(inbox);
    if has_work && !connection.is_suspended.get() {
        net.mark_ready(&connection);
    }
    if !connection.outbox.borrow().out.is_empty() || connection.outbox.borrow().is_closing {
        net.mark_dirty(&connection);
    }
    let stay = connection.stay.get();
    net.arrivals.borrow_mut().push((connection, stay));
    net.has_arrivals.notify_one();
}

/// Asks for a connection that its thread has. It may be that it cannot be given back now.
pub fn recall(net: &Net, connection: &Connection) {
    let thread = match *connection.place.borrow() {
        Place::There(thread) => thread,
        Place::Here(_) | Place::Returning(_) => return,
    };
    if connection.inbox.borrow().is_none() {
        connection.place.replace(Place::Returning(thread));
        net.order(thread, Order::Recall { client: connection.client });
    }
}

/// Hands over what may leave, and the inbox if there is nothing more to run.
pub fn send_off(
    net: &Net,
    engine: &Engine,
    connection: &Connection,
    outbox: &mut Outbox,
    free: usize,
) {
    let Place::There(thread) = *connection.place.borrow() else { return };
    let client = connection.client;
    let bytes = outbox.take(free);
    let is_closing = outbox.is_closing;
    let closes = is_closing && outbox.out.is_empty();
    // Without its inbox the thread reads nothing more of who is to be closed, though what it is
    // told before that may have to wait here.
    let leaves = |_: &mut Box<Inbox>| !is_closing && !connection.is_ready.get();
    match connection.inbox.borrow_mut().take_if(leaves) {
        Some(inbox) => {
            let suspends = connection.is_suspended.get();
            // Who waits stays: its waking could not be told to a thread that gives it away.
            let is_idle = !suspends && outbox.out.is_empty();
            let is_to_leave = net.fleet.is_to_leave(thread) || engine.is_replica_client(client);
            let goes_home = is_idle && is_to_leave;
            if goes_home {
                connection.place.replace(Place::Returning(thread));
            }
            let then = Then { suspends, goes_home };
            net.order(thread, Order::Return { client, inbox, bytes, then });
        }
        None if bytes.is_empty() && !closes => {}
        None => net.order(thread, Order::Send { client, bytes: Box::new(bytes), closes }),
    }
}
