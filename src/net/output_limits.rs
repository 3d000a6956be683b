//! Clients that do not read what they asked for are closed (`client-output-buffer-limit`).

use super::connection::{Connection, Io};
use super::shared::Net;
use crate::config::OutputLimit;
use crate::engine::Engine;
use crate::engine::session::ClientKind;
use std::time::Instant;

/// This much output is nobody's business, however low the limits are.
pub const FREE_BYTES: usize = 16 * 1024;

/// A client that has not authenticated is closed when so many bytes of replies wait for it.
const UNAUTHENTICATED_MAX_BYTES: u64 = 256 * 1024;

/// Closes the clients that have been over their soft limit for too long, though nothing was
/// written to them since.
pub fn check_all(net: &Net, engine: &mut Engine) {
    for connection in net.connections.borrow().iter().flatten() {
        let mut io = connection.io.borrow_mut();
        if io.over_soft_limit.is_some() && !connection.is_closed.get() {
            check(engine, connection, &mut io);
        }
    }
}

/// Closes a client whose unread output is over its limits.
pub fn check(engine: &mut Engine, connection: &Connection, io: &mut Io) {
    let Some(session) = engine.clients.get(connection.client) else { return };
    let waiting = io.out.len() as u64;
    let limit = match session.kind {
        ClientKind::Normal if engine.server.requires_auth(session) => {
            OutputLimit { hard_bytes: UNAUTHENTICATED_MAX_BYTES, ..OutputLimit::default() }
        }
        kind => kind.output_limit(&engine.server.config),
    };
    let over_hard = limit.hard_bytes > 0 && waiting >= limit.hard_bytes;
    // What CLIENT LIST shows as omem is what users watch while time passes.
    let shown = waiting.saturating_sub(FREE_BYTES as u64);
    let over_soft = limit.soft_bytes > 0 && shown >= limit.soft_bytes;
    let mut too_long = false;
    if over_soft {
        let since = io.over_soft_limit.get_or_insert_with(Instant::now);
        too_long = since.elapsed().as_secs() >= limit.soft_seconds.max(1);
    } else {
        io.over_soft_limit = None;
    }
    if over_hard || too_long {
        engine.note_output_overrun(connection.client);
        // What it would not read is freed now, before other clients' output grows.
        io.out = crate::resp::ReplyBuf::new();
        engine.clients.count_out(connection.client);
        connection.close();
    }
}
