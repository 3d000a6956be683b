//! WAIT and WAITAOF: clients who wait until others have what they have written.
//!
//! What a client has written ends at an offset of the history, and at one of what goes to the
//! append-only file. Replicas say how far they are; asked once a turn if somebody waits. So
//! whether the wait is over is a comparison of numbers, looked at when one of them has moved.

use super::set_slot::Then;
use crate::command::{CommandError, CommandId};
use crate::engine::core::Core;
use crate::engine::dispatch::write_error;
use crate::engine::gates::NO_GOOD_REPLICAS;
use crate::engine::waiting::{Line, Reason, Wait};
use crate::engine::{ClientId, Cx, Effect, Engine, Server, Session};
use crate::persist::aof::Mode;
use crate::resp::{Reply, ReplyBuf};

/// Where what a client has written ends.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    pub history: i64,
    pub aof: u64,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// So many replicas have carried it out.
    Applied { replicas: i64 },
    /// It is safe in our own append-only file, if that is wanted, and in those of so many replicas.
    Durable { here: bool, replicas: i64 },
}

/// A client's wait.
pub struct CopiesWait {
    pub id: CommandId,
    pub written: Written,
    pub wanted: Copies,
    /// What the client has asked for is done when they have it, and not before.
    pub then: Option<Then>,
}

/// What there is so far.
#[derive(Clone, Copy)]
enum Found {
    Applied(usize),
    Durable { here: bool, replicas: usize },
}

impl Copies {
    fn is_met_by(self, found: Found) -> bool {
        let enough = |found: usize, wanted: i64| i64::try_from(found).is_ok_and(|n| n >= wanted);
        match (self, found) {
            (Copies::Applied { replicas }, Found::Applied(n)) => enough(n, replicas),
            (Copies::Durable { here, replicas }, Found::Durable { here: is_here, replicas: n }) => {
                (is_here || !here) && enough(n, replicas)
            }
            _ => false,
        }
    }

    pub(super) fn wants_replicas(self) -> bool {
        match self {
            Copies::Applied { replicas } | Copies::Durable { replicas, .. } => replicas > 0,
        }
    }
}

fn write(found: Found, reply: &mut Reply<'_>) {
    match found {
        Found::Applied(count) => reply.integer(count as i64),
        Found::Durable { here, replicas } => {
            reply.array(2);
            reply.integer(i64::from(here));
            reply.integer(replicas as i64);
        }
    }
}

impl Server {
    fn found(&self, wanted: Copies, written: Written) -> Found {
        let feeders = &self.replication.feeders;
        match wanted {
            Copies::Applied { .. } => Found::Applied(feeders.acknowledged(written.history)),
            Copies::Durable { .. } => {
                let here = self.aof.synced_stream().is_some_and(|upto| upto >= written.aof);
                Found::Durable { here, replicas: feeders.synced(written.history) }
            }
        }
    }

    /// Where the stream is now, for a client that has just written.
    #[inline]
    pub(in crate::engine) fn written_now(&self) -> Written {
        Written { history: self.replication_offset(), aof: self.propagation.offset() }
    }

    /// What the append-only file holds safely, as an offset of the history; none without a file.
    pub(super) fn synced_replication_offset(&mut self) -> Option<i64> {
        if self.aof.mode() == Mode::Off {
            self.replication.marks.clear();
            return None;
        }
        let upto = self.aof.synced_stream()?;
        let marks = &mut self.replication.marks;
        while let Some(mark) = marks.pop_front_if(|mark| mark.aof <= upto) {
            self.replication.synced = self.replication.synced.max(mark.history);
        }
        Some(self.replication.synced)
    }

    /// Remembers, at a turn's end, which offsets of the two belong together.
    pub(super) fn mark_turn(&mut self) {
        /// More than a second of turns need not be told apart one by one.
        const MARKS_MAX: usize = 1024;
        if self.aof.mode() == Mode::Off || !self.is_replica() {
            return;
        }
        let now = self.written_now();
        let marks = &mut self.replication.marks;
        if marks.back() == Some(&now) {
            return;
        }
        if marks.len() >= MARKS_MAX {
            marks.pop_back();
        }
        marks.push_back(now);
    }
}

/// Has the running client wait, or answers it if there is nothing to wait for.
pub fn wait(cx: &mut Cx<'_>, wanted: Copies, deadline_ms: Option<u64>) {
    let written = cx.session().written;
    let found = cx.server.found(wanted, written);
    if wanted.is_met_by(found) || !cx.caller.may_answer_late() {
        return write(found, &mut cx.reply);
    }
    let id = cx.session().last_command.expect("a client's command is running");
    let reason = Reason::Copies(Box::new(CopiesWait { id, written, wanted, then: None }));
    cx.is_blocked = true;
    cx.wait(Wait::until(reason, deadline_ms, |_| {}));
    if wanted.wants_replicas() {
        cx.server.replication.asks_for_acks = true;
    }
}

impl CopiesWait {
    /// What there is at the end of the wait.
    pub fn answer(&self, cx: &mut Cx<'_>) {
        if self.then.is_some() {
            return write_error(cx, &NO_GOOD_REPLICAS);
        }
        write(cx.server.found(self.wanted, self.written), &mut cx.reply);
    }
}

/// Why a client's wait for its own file cannot end well.
pub const AOF_IS_OFF: CommandError = CommandError::Fixed(
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
);

pub(super) fn copies_of(session: &Session) -> Option<&CopiesWait> {
    match &session.wait.as_deref()?.reason {
        Reason::Copies(copies) => Some(copies),
        _ => None,
    }
}

impl Core<'_> {
    fn answer_copies(&mut self, client: ClientId, error: Option<CommandError>) {
        let Some(session) = self.clients.get(client) else { return };
        let Some(copies) = copies_of(session) else { return };
        if let Some(then) = copies.then {
            return self.do_now(client, copies.id, then);
        }
        let (id, found) = (copies.id, self.server.found(copies.wanted, copies.written));
        let mut bytes = ReplyBuf::new();
        let mut reply = bytes.writer(session.protocol);
        let failed = error.is_some();
        match &error {
            Some(error) => reply.error(&error.text()),
            None => write(found, &mut reply),
        }
        self.server.waiting.leave(self.clients, client);
        self.server.stats.called(id, 0, failed);
        let is_silenced = (self.clients.get_mut(client))
            .is_some_and(|session| std::mem::take(&mut session.drops_late_reply));
        if !is_silenced {
            self.server.effects.push(Effect::Push { client, bytes });
        }
        self.server.effects.push(Effect::Wake { client });
    }
}

impl Engine {
    /// One of the numbers has moved: those are answered who have waited for it.
    pub(in crate::engine) fn end_waits_for_copies(&mut self) {
        let server = &mut self.server;
        if server.is_line_empty(Line::Copies) {
            return;
        }
        let (is_aof_on, mut ended) = (server.aof.mode() != Mode::Off, Vec::new());
        for client in server.in_line(&self.clients, Line::Copies) {
            let Some(copies) = self.clients.get(client).and_then(copies_of) else { continue };
            let found = server.found(copies.wanted, copies.written);
            let waits_here = matches!(copies.wanted, Copies::Durable { here: true, .. });
            if copies.wanted.is_met_by(found) {
                ended.push((client, None));
            } else if waits_here && !is_aof_on {
                ended.push((client, Some(AOF_IS_OFF)));
            }
        }
        for (client, error) in ended {
            self.core().answer_copies(client, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{Bench, config};

    /// What was written before anybody counted is at the beginning of the history, where a replica
    /// is not that has only been sent its snapshot.
    #[test]
    fn a_replica_that_has_said_nothing_holds_nothing() {
        let mut bench = Bench::with(config(&[("repl-diskless-sync", "no")]));
        let writer = bench.client;
        bench.expect("SET k v", "+OK|");
        let replica = bench.connect();
        bench.ask("PSYNC ? -1");
        bench.turn();
        assert!(bench.heard(replica).starts_with("+FULLRESYNC "));
        bench.client = writer;
        let line = &bench.info_lines("replication", "slave0:")[0];
        assert!(line.contains("state=online,offset=0,"), "{line}");
        assert_eq!(bench.ask("WAIT 1 100"), "", "it is waited for");
        bench.ask_as(replica, "REPLCONF ACK 0");
        bench.turn();
        assert_eq!(bench.heard(writer), ":1|");
    }

    #[test]
    fn a_replica_that_has_come_back_is_one_copy() {
        let mut bench = Bench::with(config(&[("repl-diskless-sync", "no")]));
        let writer = bench.client;
        for port in ["7001", "7001", "7002", "0", "0"] {
            bench.connect();
            bench.ask(&format!("REPLCONF listening-port {port}"));
            bench.ask("PSYNC ? -1");
            bench.turn();
            bench.ask("REPLCONF ACK 0");
        }
        assert_eq!(bench.ask_as(writer, "WAIT 0 0"), ":4|");
        assert_eq!(bench.info("connected_slaves"), "5");
    }
}
