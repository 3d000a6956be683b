//! Output that waits until what it tells of is on disk.
//!
//! Each turn marks what it added to a connection's output with the place in the write stream that
//! it tells of; the output leaves as far as its marks have been reached, and connections that have
//! more are looked at again when the append-only file has come further.

use super::connection::Connection;
use super::outbox::Outbox;
use super::shared::Net;
use crate::engine::Engine;
use crate::engine::hold::{Release, Told};
use std::rc::Rc;

/// The turn's output tells of what was written so far: the replies of its commands, that is; what
/// came by effects has been marked already.
pub fn mark_output(net: &Net, engine: &mut Engine) {
    let (told, release) = (engine.told(), engine.release());
    let told = Told { of_writes: false, ..told };
    for connection in net.dirty.borrow().iter() {
        mark(connection, &mut connection.outbox.borrow_mut(), told, release);
        connection.has_written.set(false);
    }
}

/// Whether output that tells of this would have to wait.
pub fn would_hold(connection: &Connection, told: Told, release: Release) -> bool {
    release.holds(told.of_writes_if(connection.has_written.get()))
}

/// What has been added to a connection's output tells of this.
pub fn mark(connection: &Connection, outbox: &mut Outbox, told: Told, release: Release) {
    outbox.mark(told.of_writes_if(connection.has_written.get()), release);
}

/// Has the output written of the connections whose first mark has been reached.
pub fn release_held(net: &Net, engine: &Engine) {
    let release = engine.release();
    if net.released.replace(Some(release)) == Some(release) || net.held.borrow().is_empty() {
        return;
    }
    let mut held = net.held.borrow_mut();
    held.retain(|connection| {
        if !connection.outbox.borrow().may_go_on(release) {
            return true;
        }
        connection.is_held.set(false);
        net.mark_dirty(connection);
        false
    });
}

/// Keeps in mind that a connection has output that waits for the AOF.
pub fn hold(net: &Net, connection: &Rc<Connection>) {
    if !connection.is_held.replace(true) {
        net.held.borrow_mut().push(Rc::clone(connection));
    }
}

/// Drops what a closed connection waited with.
pub fn let_go(net: &Net, connection: &Rc<Connection>) {
    if connection.is_held.take() {
        net.held.borrow_mut().retain(|held| !Rc::ptr_eq(held, connection));
    }
}
