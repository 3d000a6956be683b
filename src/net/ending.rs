//! The end of a connection, wherever it was served.

use super::connection::Connection;
use super::holds;
use super::shared::Net;
use crate::engine::Engine;
use std::rc::Rc;

/// The connection has ended: its client is gone.
pub fn end(net: &Net, engine: &mut Engine, connection: &Rc<Connection>) {
    connection.is_closed.set(true);
    if let Some(thread) = connection.thread() {
        net.fleet.count_out(thread);
    }
    holds::let_go(net, connection);
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
