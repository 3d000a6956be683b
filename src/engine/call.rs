//! What surrounds a handler: counting, timing, error replies, expired keys, watches, events and
//! propagation happen here, once, for every command and for every way of calling one.
//!
//! A command whose handler leaves a program is a [`Frame`] until it ends: what the begin of a call
//! has noted for its end, the program, and the call that the program is in the middle of. So a
//! transaction with a script in it is two frames, and both can be put aside together.

use super::clock::Lap;
use super::core::Core;
use super::dispatch::{self, Passage};
use super::gates::{self, Asked};
use super::hot_keys;
use super::program::{Counts, Failure, Program, Step};
use super::propagate::{Position, Targets};
use super::standstill::Deed;
use super::{ClientId, Clients, Cx, Effect, Server};
use crate::command::table::Row;
use crate::command::{Args, Command, CommandError, CommandId, CommandResult, Flags, Group, Hashed};
use crate::keyspace::Keyspace;
use crate::observe::slow_log::{self, SlowEntry};
use crate::resp::{Mark, Request};

/// A call that has begun: what its end must know.
struct Begun {
    id: CommandId,
    command: &'static Command,
    db: usize,
    dirty: u64,
    stream_start: Position,
    /// Where in the reply buffer its reply begins.
    start: Mark,
    len_before: usize,
    /// Since when it runs, and for how long it had run when it was put aside.
    began: Lap,
    spent_ns: u64,
}

/// A command whose program has not ended.
pub(super) struct Frame {
    begun: Begun,
    program: Box<dyn Program>,
    /// The call that the program is in the middle of.
    inner: Option<Box<Frame>>,
}

/// How far a frame has come.
pub(super) enum Progress {
    Ended(Result<(), Failure>),
    /// Its program has run for a while.
    Yielded,
}

/// Runs a command that the gates have let through. It has ended by that, unless it has left a
/// program.
pub(super) fn call(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Option<Box<Frame>> {
    let &Asked { id, command, request, hashed } = asked;
    let name_words = if cx.server.table.row(id).parent.is_some() { 2 } else { 1 };
    let hasher = cx.keys.space().hasher();
    let mut args = Args::new(request, name_words, hasher, hashed);
    let begun = Begun {
        id,
        command,
        db: cx.keys.db,
        dirty: cx.keys.space().changes.dirty,
        stream_start: cx.server.propagation.position(),
        start: cx.reply.buffer().mark(),
        len_before: cx.reply.buffer().len(),
        began: cx.server.clock.lap(),
        spent_ns: 0,
    };
    super::RUNNING.set(command.name);
    let result = memory_for(cx, command, &request).and_then(|()| (command.run)(cx, &mut args));
    super::RUNNING.set("none");
    if let (Some(program), Ok(())) = (cx.take_program(), &result) {
        return Some(Box::new(Frame { begun, program, inner: None }));
    }
    end(cx, &request, &begun, result.map_err(Failure::from));
    None
}

impl Frame {
    /// Runs what the program asks for, until it has ended or has run for a while.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_>) -> Progress {
        let Frame { begun, program, inner } = self;
        super::RUNNING.set(begun.command.name);
        let progress = loop {
            if let Some(called) = inner {
                let (caller, protocol) = (program.caller(), program.protocol());
                let (request, reply) = program.call();
                let mut own = cx.within(caller, protocol, reply);
                match called.drive(&mut own) {
                    Progress::Yielded => break Progress::Yielded,
                    Progress::Ended(result) => end(&mut own, &request, &called.begun, result),
                }
                *inner = None;
            }
            match program.step(cx) {
                Step::Call(id) => {
                    let &Row { command, prefetch, .. } = cx.server.table.row(id);
                    let first = usize::from(prefetch.first);
                    let known = if first > 0 { program.known_hash(first) } else { None };
                    let hashed = Hashed { first, step: 1, hashes: known.as_slice() };
                    cx.server.propagation.aim_at(program.targets());
                    let (caller, protocol) = (program.caller(), program.protocol());
                    let (request, reply) = program.call();
                    let asked = Asked { id, command, request, hashed };
                    let mut own = cx.within(caller, protocol, reply);
                    if let Passage::Frame(called) = dispatch::pass_gates(&mut own, &asked) {
                        *inner = Some(called);
                    }
                    cx.server.propagation.aim_at(Targets::ALL);
                }
                Step::Yield => break Progress::Yielded,
                Step::Done(result) => {
                    // What was run may have selected a database, or another protocol.
                    cx.keys.db = cx.session().db;
                    cx.reply.set_protocol(cx.session().protocol);
                    break Progress::Ended(result);
                }
            }
        };
        super::RUNNING.set("none");
        progress
    }

    /// Whether what it is in the middle of waits for something outside of the engine.
    pub(super) fn stands(&self, server: &Server) -> bool {
        match &self.inner {
            Some(inner) => inner.stands(server),
            None => self.program.stands(server),
        }
    }

    /// The request that its program is having run, if that one has left a program, too.
    pub(super) fn called(&mut self) -> Option<Request<'_>> {
        self.inner.is_some().then(|| self.program.call().0)
    }

    /// Runs it to its end, however long that takes.
    pub(super) fn finish(mut self, cx: &mut Cx<'_>, request: &Request<'_>) {
        loop {
            if let Progress::Ended(result) = self.drive(cx) {
                return self.end(cx, request, result);
            }
        }
    }

    pub(super) fn end(&self, cx: &mut Cx<'_>, request: &Request<'_>, result: Result<(), Failure>) {
        end(cx, request, &self.begun, result);
    }

    /// The place in the reply buffer where its reply begins.
    pub(super) fn reply_start(&self) -> Mark {
        self.begun.start
    }

    /// Where in the write stream it begins.
    pub(super) fn stream_start(&self) -> Position {
        self.begun.stream_start
    }

    /// Its reply has been moved to the begin of a buffer of its own.
    pub(super) fn has_own_buffer(&mut self) {
        self.begun.start = Mark::default();
        self.begun.len_before = 0;
    }

    /// It runs no more for the moment.
    pub(super) fn stop_clock(&mut self, server: &mut Server) {
        let begun = &mut self.begun;
        begun.spent_ns += server.clock.since_ns(begun.began);
        if let Some(inner) = &mut self.inner {
            inner.stop_clock(server);
        }
    }

    /// It runs again.
    pub(super) fn start_clock(&mut self, server: &Server) {
        self.begun.began = server.clock.lap();
        if let Some(inner) = &mut self.inner {
            inner.start_clock(server);
        }
    }
}

/// All that belongs to the end of a call.
#[inline]
fn end(cx: &mut Cx<'_>, request: &Request<'_>, begun: &Begun, result: Result<(), Failure>) {
    let &Begun { id, command, db, dirty, start, len_before, began, spent_ns, .. } = begun;
    let result = match cx.reply.buffer().is_refused() {
        true => Err(Failure::from(CommandError::NoMemory)),
        false => result,
    };
    let failed = result.is_err();
    if let Err(failure) = result {
        cx.reply.buffer().truncate(start);
        let text = failure.error.text();
        match failure.counts {
            Counts::AsItsOwn => cx.server.stats.error(&text),
            Counts::AsScripts => cx.server.stats.script_error(&text),
            Counts::Not => {}
        }
        cx.reply.error(&text);
    }
    let elapsed_ns = spent_ns + cx.server.clock.since_ns(began);
    // A command that waits counts once, when it ends.
    if !cx.is_blocked {
        if let Some(sample) = cx.server.hot_keys.sample(elapsed_ns) {
            let reply_bytes = cx.reply.buffer().len().saturating_sub(len_before);
            hot_keys::record(cx, id, request, db, elapsed_ns, reply_bytes, sample);
        }
        cx.server.stats.called(id, elapsed_ns, failed);
        if let Some(usage) = &mut cx.server.slot_usage
            && cx.caller.is_a_request()
        {
            usage.count_time(elapsed_ns);
        }
        if cx.server.config.latency_tracking {
            cx.server.stats.histograms.record(id, elapsed_ns);
        }
        let is_fast = command.flags.has(Flags::FAST);
        let event = if is_fast { "fast-command" } else { "command" };
        cx.server.observe_latency(event, elapsed_ns);
        cx.session_mut().commands_total += 1;
        if cx.server.is_slow(elapsed_ns) && !command.flags.has(Flags::SKIP_SLOWLOG) {
            remember_slow(cx, command, elapsed_ns, request);
        }
    }

    settle_changes(cx, command, db, dirty, request);
    if cx.server.propagation.is_active() && cx.server.propagation.position() != begun.stream_start {
        cx.session_mut().written = cx.server.written_now();
    }
    if cx.caller.is_first_try() {
        cx.show_to_monitors(command, request);
    }
    cx.remember_reads(command, request);
}

/// What a command keeps is in proportion to its arguments. A long string is kept as it came; what
/// holds several grows by copies, and so does the write stream.
fn memory_for(cx: &Cx<'_>, command: &Command, request: &Request<'_>) -> Result<(), CommandError> {
    if !request.is_long() {
        return Ok(());
    }
    let bytes = request.payload_len();
    let copies = match command.group {
        Group::String if request.len() > 1 => bytes + 3 * request.arg(1).len(),
        _ => 4 * bytes,
    };
    let stream = &cx.server.propagation;
    let streamed = if stream.is_active() { bytes + 2 * stream.open_bytes() } else { 0 };
    CommandError::unless_memory(copies + streamed)
}

#[cold]
fn remember_slow(cx: &mut Cx<'_>, command: &Command, elapsed_ns: u64, request: &Request<'_>) {
    let session = cx.session();
    let entry = SlowEntry {
        unix_seconds: cx.server.clock.unix_seconds(),
        elapsed_us: elapsed_ns / 1000,
        words: slow_log::kept_words(request, |place| (command.secrets)(request, place)),
        address: session.peer.address.clone(),
        client_name: session.name.clone(),
    };
    cx.server.slow_log.add(entry, cx.server.config.slowlog_max_len);
}

/// Runs a command of an AOF: no gate, no count, no reply that anybody reads, nothing recorded.
pub(super) fn replay(cx: &mut Cx<'_>, id: CommandId, request: Request<'_>) {
    // An AOF may hold commands that failed, and still do.
    let _ = replay_call(cx, id, request);
}

fn replay_call(cx: &mut Cx<'_>, id: CommandId, request: Request<'_>) -> CommandResult {
    let row = cx.server.table.row(id);
    let name_words = if row.parent.is_some() { 2 } else { 1 };
    let run = row.command.run;
    let hasher = cx.keys.space().hasher();
    let mut args = Args::new(request, name_words, hasher, Hashed::default());
    let result = run(cx, &mut args);
    if let Some(mut program) = cx.take_program() {
        replay_program(cx, &mut *program);
    }
    settle(cx.keys.space(), cx.clients, cx.server, None);
    result
}

/// Runs what a program of an AOF asks for, to its end.
fn replay_program(cx: &mut Cx<'_>, program: &mut dyn Program) {
    loop {
        match program.step(cx) {
            Step::Yield => {}
            Step::Done(_) => return,
            Step::Call(id) => {
                let protocol = program.protocol();
                let caller = program.caller();
                let (request, reply) = program.call();
                let mut own = cx.within(super::Caller::Aof, protocol, reply);
                let start = own.reply.buffer().mark();
                let result = gates::may_replay(&own, caller, id)
                    .and_then(|()| replay_call(&mut own, id, request));
                if let Err(error) = result {
                    own.reply.buffer().truncate(start);
                    own.reply.error(&error.text());
                }
            }
        }
    }
}

/// Tells the world what the command did to the keyspace.
fn settle_changes(
    cx: &mut Cx<'_>,
    command: &Command,
    db: usize,
    dirty_before: u64,
    request: &Request<'_>,
) {
    let space = cx.keys.space();
    if space.changes.has_found_expired() {
        if cx.server.may(Deed::Reap) {
            space.reap_found_expired();
        } else {
            space.changes.forget_found_expired();
        }
    }
    let changed = space.changes.dirty != dirty_before;
    let start = cx.server.propagation.position();
    settle(space, cx.clients, cx.server, Some(cx.client));
    match cx.server.table.true_name_behind(request.arg(0)) {
        None => cx.server.propagation.finish(db, changed, request.iter()),
        // Whoever replays it need not know what our clients call it.
        Some(name) => {
            let words: Vec<&[u8]> = [name].into_iter().chain(request.iter().skip(1)).collect();
            cx.server.propagation.finish(db, changed, words.into_iter());
        }
    }
    if !cx.caller.is_within_transaction() && !command.flags.has(Flags::TOUCHES_ARBITRARY_KEYS) {
        // What one command did, whoever replays it is to see as a whole.
        cx.server.propagation.wrap_transaction(start);
    }
}

/// Hands what happened to the keyspace to those whom it concerns: deleted expired keys go into
/// the write stream before the command that met them.
pub(super) fn settle(
    space: &mut Keyspace,
    clients: &mut Clients,
    server: &mut Server,
    running: Option<ClientId>,
) {
    if space.changes.are_none() {
        return;
    }
    tell_changes(space, clients, server, running);
}

fn tell_changes(
    space: &mut Keyspace,
    clients: &mut Clients,
    server: &mut Server,
    running: Option<ClientId>,
) {
    let changes = &mut space.changes;
    for key in changes.expired.drain(..) {
        server.propagation.deletion(key.db, &key.key, server.config.lazyfree_lazy_expire);
    }
    for key in changes.evicted.drain(..) {
        server.propagation.deletion(key.db, &key.key, server.config.lazyfree_lazy_eviction);
    }
    for key in changes.dropped.drain(..) {
        server.propagation.deletion(key.db, &key.key, server.config.lazyfree_lazy_server_del);
    }
    for expired in changes.take_expired_fields() {
        let names = expired.fields.iter().map(|field| field.name());
        server.propagation.field_deletion(expired.db, &expired.key, names);
        changes.discard_fields(expired.fields);
    }
    for garbage in changes.garbage.drain(..) {
        server.lazy_free_total += garbage.objects();
        server.effects.push(Effect::Free(garbage));
    }
    if !changes.touched.is_empty() {
        let touched = std::mem::take(&mut changes.touched);
        changes.observers.touched_keys =
            !server.watched.is_empty() || server.tracking.is_active() || server.takes_own_writes();
        server.watched.touch(clients, space, &touched);
        if server.takes_own_writes() && running != server.replication.applier {
            Core { space, clients, server }.note_own_keys(&touched);
        }
        if server.tracking.is_active() {
            server.invalidate(clients, running, space.hasher(), &touched);
        }
    }
    let events = space.changes.take_events();
    if !events.is_empty() {
        server.publish_events(clients, events);
    }
}
