//! From a parsed request to its reply: through the gates, and what surrounds a handler.
//!
//! Handlers do one job. Counting, timing, error replies, queueing in a transaction, expired keys,
//! watches, events and propagation happen here, once, for every command and for every way of
//! calling one (directly, by EXEC, later by scripts).

use super::gates::{self, Admission, Asked};
use super::program::{Program, Step};
use super::session::ReplyMode;
use super::standstill::Deed;
use super::waiting::Wait;
use super::{Caller, ClientId, Clients, Cx, Effect, Engine, Server};
use super::{hot_keys, transaction};
use crate::command::table::{Row, Table};
use crate::command::{
    self, Args, Command, CommandError, CommandId, Flags, Group, Hashed, Lookup, Traits,
};
use crate::keyspace::entry::KEY_MAX;
use crate::keyspace::{KeyHash, KeyHasher, Keyspace};
use crate::observe::slow_log::{self, SlowEntry};
use crate::resp::{OwnedRequest, ReplyBuf, Request, looks_like_http};
use std::ops::Range;

/// A request whose command has been looked up and whose leading keys have been hashed.
#[derive(Clone)]
pub struct Prepared {
    lookup: Lookup,
    hashes: Range<usize>,
}

impl Prepared {
    pub(super) fn new(lookup: Lookup, start: usize, end: usize) -> Prepared {
        Prepared { lookup, hashes: start..end }
    }

    /// The member that is looked up in the value of the first key, with the key's hash.
    pub fn member<'a>(
        &self,
        table: &Table,
        all: &[KeyHash],
        request: &Request<'a>,
    ) -> Option<(KeyHash, &'a [u8])> {
        let Lookup::Found(id) = self.lookup else { return None };
        let at = usize::from(table.row(id).command.member_at);
        let key_hash = *all.get(self.hashes.clone())?.first()?;
        (0 < at && at < request.len()).then(|| (key_hash, request.arg(at)))
    }

    /// Which of the arguments the hashes in `all` belong to.
    pub fn hashed<'a>(&self, table: &Table, all: &'a [KeyHash]) -> Hashed<'a> {
        let Lookup::Found(id) = self.lookup else { return Hashed::default() };
        let found = table.row(id).prefetch;
        let (first, step) = (usize::from(found.first), usize::from(found.step));
        Hashed { first, step, hashes: &all[self.hashes.clone()] }
    }
}

/// At most so many keys of one request are hashed ahead.
const PREFETCH_KEYS_MAX: usize = 64;

pub(super) fn hash_leading_keys(
    row: &Row,
    request: &Request<'_>,
    hasher: KeyHasher,
    hashes: &mut Vec<KeyHash>,
) {
    let positions = row.prefetch.positions(request).take(PREFETCH_KEYS_MAX);
    hashes.extend(positions.map(|at| hasher.hash(request.arg(at))));
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was answered; the next one may run.
    Done,
    /// It was taken; its reply and the leave to go on come later, by effects.
    Suspended,
    /// It was not taken and must be tried again when the client is woken.
    Postponed,
    /// The connection is to be closed when the output has left.
    Closing,
    /// The connection is to be closed without an answer.
    Dropped,
}

pub(super) fn execute(
    engine: &mut Engine,
    client: ClientId,
    prepared: Prepared,
    request: Request<'_>,
    hashed: Hashed<'_>,
    out: &mut ReplyBuf,
) -> Verdict {
    if engine.server.tracking.is_active() {
        engine.server.effects.open_front(client);
        engine.server.limit_tracked_keys(&mut engine.clients);
        engine.server.effects.close_front(out);
    }
    let start = out.mark();
    let mut cx = Cx::new(engine, client, Caller::Client, out);
    if prepared.lookup == Lookup::Unknown && looks_like_http(request.arg(0)) {
        return refuse_http(&mut cx);
    }
    let verdict = match resolve(&cx, prepared.lookup, &request) {
        Err((id, error)) => {
            reject(&mut cx, id, &error, &request);
            Verdict::Done
        }
        Ok((id, command)) => pass_gates(&mut cx, &Asked { id, command, request, hashed }),
    };
    if verdict == Verdict::Postponed {
        return verdict;
    }
    let session = cx.session_mut();
    let silent = session.reply_mode != ReplyMode::On;
    session.reply_mode = match session.reply_mode {
        ReplyMode::SkipNext => ReplyMode::SkipThis,
        ReplyMode::SkipThis => ReplyMode::On,
        mode => mode,
    };
    session.drops_late_reply = silent && verdict == Verdict::Suspended;
    if session.tracking.is_some() {
        end_caching(&mut cx, prepared.lookup);
    }
    let session = cx.session_mut();
    let closing = session.closes_after_reply;
    if silent {
        out.truncate(start);
    }
    if engine.keyspace.changes.has_offers() {
        engine.serve_waits();
    }
    if closing { Verdict::Closing } else { verdict }
}

/// CLIENT CACHING holds for one command, or for one transaction, after it.
fn end_caching(cx: &mut Cx<'_>, lookup: Lookup) {
    let keeps_caching = match lookup {
        Lookup::Found(id) | Lookup::UnknownSubcommand(id) => {
            let row = cx.server.table.row(id);
            let container = row.parent.map_or(row.command, |id| cx.server.table.row(id).command);
            container.traits.has(Traits::KEEPS_CACHING)
        }
        Lookup::Unknown => false,
    };
    let session = cx.session_mut();
    if let Some(interest) = session.tracking.as_deref_mut() {
        interest.is_caching_given &= keeps_caching || session.transaction.is_some();
    }
}

/// The command a request names, if it exists and the request has the words it needs.
fn resolve(
    cx: &Cx<'_>,
    lookup: Lookup,
    request: &Request<'_>,
) -> Result<(CommandId, &'static Command), (Option<CommandId>, CommandError)> {
    let table = &cx.server.table;
    let id = match lookup {
        Lookup::Found(id) => id,
        Lookup::Unknown => return Err((None, unknown_command(request))),
        Lookup::UnknownSubcommand(parent) => {
            return Err((None, unknown_subcommand(table.row(parent), request.arg(1))));
        }
    };
    let row = table.row(id);
    if !row.command.arity.accepts(request.len()) {
        return Err((Some(id), CommandError::WrongArity(row.full_name)));
    }
    // The door to the keyspace for names: what no entry can hold gets no further.
    if !command::are_at_most(row.command, request, KEY_MAX) {
        return Err((Some(id), CommandError::Fixed("ERR key is longer than 4 GB")));
    }
    Ok((id, row.command))
}

/// Error texts name at most so many bytes of what was sent.
const ECHOED_BYTES_MAX: usize = 128;

pub fn unknown_command(request: &Request<'_>) -> CommandError {
    let name = request.arg(0);
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&name[..name.len().min(ECHOED_BYTES_MAX)]);
    text.extend_from_slice(b"', with args beginning with: ");
    let args_start = text.len();
    for arg in request.iter().skip(1) {
        let used = text.len() - args_start;
        if used >= ECHOED_BYTES_MAX {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(&arg[..arg.len().min(ECHOED_BYTES_MAX - used)]);
        text.extend_from_slice(b"' ");
    }
    CommandError::Bytes(text.into_boxed_slice())
}

fn unknown_subcommand(parent: &Row, name: &[u8]) -> CommandError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(&name[..name.len().min(ECHOED_BYTES_MAX)]);
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(parent.command.name.to_ascii_uppercase().as_bytes());
    text.extend_from_slice(b" HELP.");
    CommandError::Bytes(text.into_boxed_slice())
}

/// Somebody's browser was made to talk to us: no answer, and the connection ends.
fn refuse_http(cx: &mut Cx<'_>) -> Verdict {
    cx.server.warn_of_http(&cx.session().peer.address.clone());
    Verdict::Dropped
}

/// Runs a request if the gates let its caller through. Whoever has a command run comes this way:
/// a client, the waiting room, a program. What is refused is answered with the error; nothing else
/// becomes of it.
pub(super) fn pass_gates(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Verdict {
    match gates::admit(cx, asked) {
        Err(error) => {
            reject(cx, Some(asked.id), &error, &asked.request);
            Verdict::Done
        }
        Ok(Admission::Postpone(reason)) => {
            cx.wait(Wait::for_ever(reason));
            Verdict::Postponed
        }
        Ok(Admission::Queue) => {
            queue(cx, asked);
            Verdict::Done
        }
        Ok(Admission::Run) => {
            call(cx, asked);
            let waits = cx.session().wait.is_some();
            if waits { Verdict::Suspended } else { Verdict::Done }
        }
    }
}

fn queue(cx: &mut Cx<'_>, asked: &Asked<'_>) {
    let flags = cx.server.table.row(asked.id).flags;
    let queued = OwnedRequest::new(&asked.request);
    let session = cx.session_mut();
    let transaction = session.transaction.as_mut().expect("only queued inside MULTI");
    transaction.queue(asked.id, flags, queued);
    cx.reply.simple(b"QUEUED");
}

/// A request that no handler saw: the error is the reply, and a transaction is spoilt by it.
fn reject(cx: &mut Cx<'_>, id: Option<CommandId>, error: &CommandError, request: &Request<'_>) {
    if let Some(id) = id {
        cx.server.stats.rejected(id);
    }
    let command = id.map(|id| cx.server.table.row(id).command);
    if let Some(exec) = command.filter(|command| command.traits.has(Traits::RUNS_THE_QUEUE)) {
        abort_transaction(cx, error);
        // Who watches has seen MULTI and is to see the end of it.
        return cx.show_to_monitors(exec, request);
    }
    if let Some(transaction) = cx.session_mut().transaction.as_mut() {
        transaction.spoil();
    }
    write_error(cx, error);
}

/// An EXEC that no handler saw ends the transaction and says why.
fn abort_transaction(cx: &mut Cx<'_>, error: &CommandError) {
    transaction::leave(cx);
    let text = error.text();
    let reason = text.strip_prefix(b"ERR ").unwrap_or(&text);
    let text = [b"EXECABORT Transaction discarded because of: ", reason].concat();
    write_error(cx, &CommandError::Bytes(text.into_boxed_slice()));
}

pub(super) fn write_error(cx: &mut Cx<'_>, error: &CommandError) {
    let text = error.text();
    cx.server.stats.error(&text);
    cx.reply.error(&text);
}

/// Runs a command that the gates have let through, and all that belongs to running one.
fn call(cx: &mut Cx<'_>, asked: &Asked<'_>) {
    let &Asked { id, command, request, hashed } = asked;
    let name_words = if cx.server.table.row(id).parent.is_some() { 2 } else { 1 };
    let hasher = cx.keys.space().hasher();
    let mut args = Args::new(request, name_words, hasher, hashed);
    let db = cx.keys.db;
    let dirty = cx.keys.space().changes.dirty;
    let start = cx.reply.buffer().mark();
    let len_before = cx.reply.buffer().len();

    if !cx.caller.is_within_transaction() {
        cx.session_mut().last_command = Some(id);
    }
    let began = cx.server.clock.lap();
    super::RUNNING.set(command.name);
    let result = memory_for(cx, command, &request).and_then(|()| (command.run)(cx, &mut args));
    if let (Some(program), Ok(())) = (cx.take_program(), &result) {
        drive(cx, program);
    }
    super::RUNNING.set("none");
    let result = match cx.reply.buffer().is_refused() {
        true => Err(CommandError::NoMemory),
        false => result,
    };

    let failed = result.is_err();
    if let Err(error) = result {
        cx.reply.buffer().truncate(start);
        write_error(cx, &error);
    }
    let elapsed_ns = cx.server.clock.since_ns(began);
    // A command that waits counts once, when it ends.
    if !cx.is_blocked {
        if let Some(sample) = cx.server.hot_keys.sample(elapsed_ns) {
            let reply_bytes = cx.reply.buffer().len().saturating_sub(len_before);
            hot_keys::record(cx, id, &request, db, elapsed_ns, reply_bytes, sample);
        }
        cx.server.stats.called(id, elapsed_ns, failed);
        if cx.server.config.latency_tracking {
            cx.server.stats.histograms.record(id, elapsed_ns);
        }
        let is_fast = command.flags.has(Flags::FAST);
        let event = if is_fast { "fast-command" } else { "command" };
        cx.server.observe_latency(event, elapsed_ns);
        cx.session_mut().commands_total += 1;
        if cx.server.is_slow(elapsed_ns) && !command.flags.has(Flags::SKIP_SLOWLOG) {
            remember_slow(cx, command, elapsed_ns, &request);
        }
    }

    settle_changes(cx, command, db, dirty, &request);
    if cx.caller.is_first_try() {
        cx.show_to_monitors(command, &request);
    }
    cx.remember_reads(command, &request);
}

/// Runs what a program asks for, to its end.
fn drive(cx: &mut Cx<'_>, mut program: Box<dyn Program>) {
    while let Step::Call(id) = program.step(cx) {
        let command = cx.server.table.row(id).command;
        let caller = program.caller();
        let (request, reply) = program.call();
        let asked = Asked { id, command, request, hashed: Hashed::default() };
        pass_gates(&mut cx.within(caller, reply), &asked);
    }
    // What was run may have selected a database, or another protocol.
    cx.keys.db = cx.session().db;
    cx.reply.set_protocol(cx.session().protocol);
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
    let row = cx.server.table.row(id);
    let name_words = if row.parent.is_some() { 2 } else { 1 };
    let run = row.command.run;
    let hasher = cx.keys.space().hasher();
    let mut args = Args::new(request, name_words, hasher, Hashed::default());
    // An AOF may hold commands that failed, and still do.
    let _ = run(cx, &mut args);
    settle(cx.keys.space(), cx.clients, cx.server, None);
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
    let changes = &mut space.changes;
    for key in changes.expired.drain(..) {
        server.propagation.deletion(key.db, &key.key, server.config.lazyfree_lazy_expire);
    }
    for key in changes.evicted.drain(..) {
        server.propagation.deletion(key.db, &key.key, server.config.lazyfree_lazy_eviction);
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
        changes.observers.touched_keys = !server.watched.is_empty() || server.tracking.is_active();
        server.watched.touch(clients, space, &touched);
        if server.tracking.is_active() {
            server.invalidate(clients, running, space.hasher(), &touched);
        }
    }
    let events = space.changes.take_events();
    if !events.is_empty() {
        server.publish_events(clients, events);
    }
}
