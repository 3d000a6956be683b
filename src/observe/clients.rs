//! The line that CLIENT LIST and the log print for a client.

use crate::engine::{Engine, Session};

pub fn describe(_engine: &Engine, session: &Session) -> String {
    format!("id={} addr={}", session.id.number(), session.peer.address)
}
