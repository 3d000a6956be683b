//! The end of a connection, wherever it was served.

use super::connection::{Connection, Place};
use super::holds;
use super::shared::Net;
use crate::engine::Engine;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// The connection has ended: its client is gone.
pub fn end(net: &Net, engine: &mut Engine, connection: &Rc<Connection>) {
    connection.is_closed.set(true);
    if let Some(thread) = connection.thread() {
        net.fleet.count_out(thread);
    }
    holds::let_go(net, connection);
    if connection.is_lent.get() {
        call_back(net, connection);
    } else if let Place::Here(stream) = &mut *connection.place.borrow_mut() {
        stream.say_farewell();
    }
    net.forget(connection);
    engine.disconnect(connection.client);
    if engine.is_under_way() {
        // A script that stood in the debugger goes on without its client.
        net.executor.notify_one();
    }
    if let Some(inbox) = &mut *connection.inbox.borrow_mut() {
        inbox.give_back(&net.buffers);
    }
}

/// Has the sender that writes to the socket let it go: as long as it has it, the peer would not
/// hear of the end.
fn call_back(net: &Net, connection: &Connection) {
    let lent = net.lent.borrow();
    let own = lent.iter().filter(|(client, _)| *client == connection.client);
    own.for_each(|(_, is_gone)| is_gone.store(true, Ordering::Relaxed));
    if let Place::Here(stream) = &*connection.place.borrow() {
        stream.shut_down();
    }
}
