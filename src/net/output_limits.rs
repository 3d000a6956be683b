//! Clients that do not read what they asked for are closed (`client-output-buffer-limit`).

use super::connection::Connection;
use super::outbox::Outbox;
use super::shared::Net;
use crate::engine::Engine;
use crate::resp::ReplyBuf;
use std::time::Instant;

/// This much output is nobody's business, however low the limits are.
pub const FREE_BYTES: usize = 16 * 1024;

/// Closes the clients that have been over their soft limit for too long, though nothing was
/// written to them since.
pub fn check_all(net: &Net, engine: &mut Engine) {
    for connection in net.connections.borrow().iter().flatten() {
        let mut outbox = connection.outbox.borrow_mut();
        if outbox.over_soft_limit.is_some() && !connection.is_closed.get() {
            check(net, engine, connection, &mut outbox);
        }
    }
}

/// Closes a client whose unread output is over its limits.
pub fn check(net: &Net, engine: &mut Engine, connection: &Connection, outbox: &mut Outbox) {
    let waiting = outbox.waiting(FREE_BYTES) as u64;
    let limit = engine.output_limit(connection.client);
    let over_hard = limit.hard_bytes > 0 && waiting >= limit.hard_bytes;
    // What CLIENT LIST shows as omem is what users watch while time passes.
    let shown = waiting.saturating_sub(FREE_BYTES as u64);
    let over_soft = limit.soft_bytes > 0 && shown >= limit.soft_bytes;
    let mut too_long = false;
    if over_soft {
        let since = outbox.over_soft_limit.get_or_insert_with(Instant::now);
        too_long = since.elapsed().as_secs() >= limit.soft_seconds.max(1);
    } else {
        outbox.over_soft_limit = None;
    }
    if over_hard || too_long {
        engine.close_slow_reader(connection.client);
        // What it would not read is freed now, before other clients' output grows.
        outbox.out = ReplyBuf::new();
        net.close(connection);
    }
}
