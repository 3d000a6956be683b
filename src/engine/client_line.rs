//! The line that CLIENT LIST and the log print for a client.
//!
//! Exporters split it at spaces and each field at its only `=`; the order of the fields is
//! Redis's, and new ones go to the end.

use super::{Server, Session};
use crate::resp::Protocol;
use std::fmt::Write;

/// Describes a client, without a line end.
pub fn describe(server: &Server, session: &Session) -> String {
    let mono_ms = server.clock.mono_ms();
    let seconds_since = |then_ms: u64| mono_ms.saturating_sub(then_ms) / 1000;
    let transaction = session.transaction.as_deref();
    let io = &session.io;
    let command = session.last_command.map_or("NULL", |id| server.table.row(id).full_name);
    // Redis keeps the first 16 KB apart from the rest; watchers alarm on the rest.
    let at_hand = io.output_bytes.min(16 * 1024);
    let beyond = io.output_bytes - at_hand;
    let protocol = if session.protocol == Protocol::Resp3 { 3 } else { 2 };
    let listening = session.subscriptions.as_deref().map(|own| own.counts()).unwrap_or_default();
    let mut line = String::with_capacity(400);
    let written = write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
         multi={} watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} \
         oll={} omem={} tot-mem={} events=r cmd={command} user={} redir={} resp={protocol} \
         lib-name={} lib-ver={} io-thread={} tot-net-in={} tot-net-out={} tot-cmds={}",
        session.id.number(),
        session.peer.address,
        session.peer.local_address,
        session.peer.fd,
        session.name,
        seconds_since(session.created_ms),
        seconds_since(session.last_active_ms),
        session.flag_letters(),
        session.db,
        listening.channels,
        listening.patterns,
        listening.shard_channels,
        transaction.map_or(-1, |t| t.len() as i64),
        session.watched.len(),
        io.query_bytes,
        io.query_free_bytes,
        io.argv_bytes,
        transaction.map_or(0, |t| t.memory()),
        at_hand,
        at_hand,
        at_hand,
        usize::from(beyond > 0),
        beyond,
        session.memory_bytes(),
        server.user_of(session).shown_name(),
        session.redirect_number(),
        session.library_name,
        session.library_version,
        io.thread,
        io.read_bytes_total,
        io.written_bytes_total,
        session.commands_total,
    );
    written.expect("writing to a string cannot fail");
    line
}
