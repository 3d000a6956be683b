//! From a parsed request through the gates to its reply.
//!
//! Handlers do one job. Looking up, refusing and queueing in a transaction happen here, once, for
//! every command; what surrounds a handler is [`super::call`]'s.

use super::call::{Frame, call};
use super::gates::{self, Admission, Asked};
use super::session::{Asking, ReplyMode};
use super::waiting::Wait;
use super::{Caller, ClientId, Cx, Engine, transaction, under_way};
use crate::command::table::{Row, Table};
use crate::command::{self, Command, CommandError, CommandId, Hashed, Lookup, Traits};
use crate::keyspace::entry::KEY_MAX;
use crate::keyspace::{KeyHash, KeyHasher};
use crate::resp::{Mark, OwnedRequest, ReplyBuf, Request, looks_like_http};
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

    pub(super) fn lookup(&self) -> Lookup {
        self.lookup
    }

    /// Where the hashes of its keys are among all.
    pub fn hashes_at(&self) -> Range<usize> {
        self.hashes.clone()
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
    let (len_before, was_replica) = (out.len(), engine.is_replica_client(client));
    if engine.clients.get(client).is_some_and(|session| session.is_debugging) {
        return under_way::converse(engine, client, &request, out);
    }
    let mut cx = Cx::new(engine, client, Caller::Client, out);
    if prepared.lookup == Lookup::Unknown && looks_like_http(request.arg(0)) {
        return refuse_http(&mut cx);
    }
    let resolved = resolve(&cx, prepared.lookup, &request);
    if cx.server.slot_usage.is_some() {
        begin_usage(&mut cx, &resolved, &request);
    }
    // What it has asked for, be it run or not.
    cx.session_mut().last_command = match &resolved {
        Ok((id, _)) => Some(*id),
        Err((id, _)) => *id,
    };
    let verdict = match resolved {
        Err((id, error)) => {
            reject(&mut cx, id, &error, &request);
            Verdict::Done
        }
        Ok((id, command)) => match pass_gates(&mut cx, &Asked { id, command, request, hashed }) {
            Passage::Verdict(verdict) => verdict,
            Passage::Frame(frame) => under_way::run(&mut cx, frame, &request),
        },
    };
    if verdict == Verdict::Postponed {
        return verdict;
    }
    if cx.server.slot_usage.is_some() {
        end_usage(&mut cx, verdict, len_before);
    }
    let silent = end_session_modes(&mut cx, verdict, prepared.lookup);
    if was_replica && cx.reply.buffer().len() > len_before {
        return drop_talkative(&mut cx, start);
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

/// What clients have said of the next request, or of one, is over; whether its reply is dropped.
#[inline]
fn end_session_modes(cx: &mut Cx<'_>, verdict: Verdict, lookup: Lookup) -> bool {
    let session = cx.session_mut();
    let silent = session.reply_mode != ReplyMode::On;
    session.reply_mode = match session.reply_mode {
        ReplyMode::SkipNext => ReplyMode::SkipThis,
        ReplyMode::SkipThis => ReplyMode::On,
        mode => mode,
    };
    session.drops_late_reply = silent && verdict == Verdict::Suspended;
    if session.asking != Asking::No && session.transaction.is_none() {
        session.asking = session.asking.after();
    }
    if session.tracking.is_some() {
        end_caching(cx, lookup);
    }
    silent
}

#[cold]
fn begin_usage(cx: &mut Cx<'_>, resolved: &Resolved, request: &Request<'_>) {
    let runs_the_queue =
        resolved.as_ref().is_ok_and(|(_, command)| command.traits.has(Traits::RUNS_THE_QUEUE));
    let session = cx.clients.get(cx.client).expect("the running client is connected");
    let transaction = session.transaction.as_deref().filter(|_| runs_the_queue);
    cx.server.begin_usage(request, transaction);
}

/// What is only queued counts when it runs, and what waits when it is served.
#[cold]
fn end_usage(cx: &mut Cx<'_>, verdict: Verdict, len_before: usize) {
    let is_queued = cx.session().transaction.is_some();
    if verdict == Verdict::Suspended || is_queued {
        return cx.server.give_up_usage();
    }
    let reply_bytes = cx.reply.buffer().len().saturating_sub(len_before);
    cx.server.end_usage(Caller::Client, reply_bytes);
}

/// A replica's connection carries the stream: a reply in it would be taken for a part of that.
fn drop_talkative(cx: &mut Cx<'_>, start: Mark) -> Verdict {
    let reply = cx.reply.buffer().split_off(start).to_vec();
    let name = cx.session().last_command.map_or("NULL", |id| cx.server.table.row(id).full_name);
    if let Some(error) = reply.strip_prefix(b"-") {
        let error = String::from_utf8_lossy(error.trim_ascii_end()).into_owned();
        tracing::warn!(
            "== CRITICAL == This master is sending an error to its replica: '{error}' after \
             processing the command '{name}'"
        );
        cx.server.stats.unexpected_error_replies += 1;
    }
    let who = cx.description();
    tracing::info!("Replica generated a reply to command '{name}', disconnecting it: {who}");
    Verdict::Dropped
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

/// The command that a request names, or why there is none, of which command if that is known.
pub(super) type Resolved = Result<(CommandId, &'static Command), (Option<CommandId>, CommandError)>;

/// The command a request names, if it exists and the request has the words it needs.
pub(super) fn resolve(cx: &Cx<'_>, lookup: Lookup, request: &Request<'_>) -> Resolved {
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

/// What became of a request at the gates and behind them.
pub(super) enum Passage {
    Verdict(Verdict),
    /// It runs others, which is up to who had it run.
    Frame(Box<Frame>),
}

/// Runs a request if the gates let its caller through. Whoever has a command run comes this way:
/// a client, the waiting room, a program. What is refused is answered with the error; nothing else
/// becomes of it.
pub(super) fn pass_gates(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Passage {
    Passage::Verdict(match gates::admit(cx, asked) {
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
            if let Some(frame) = call(cx, asked) {
                return Passage::Frame(frame);
            }
            let waits = cx.session().wait.is_some();
            if waits { Verdict::Suspended } else { Verdict::Done }
        }
    })
}

pub(super) fn queue(cx: &mut Cx<'_>, asked: &Asked<'_>) {
    let flags = gates::own_flags(cx, asked);
    let queued = OwnedRequest::new(&asked.request);
    let session = cx.session_mut();
    let transaction = session.transaction.as_mut().expect("only queued inside MULTI");
    transaction.queue(asked.id, flags, queued);
    cx.reply.simple(b"QUEUED");
}

/// A request that no handler saw: the error is the reply, and the transaction that its client has
/// sent it for is spoilt by it.
fn reject(cx: &mut Cx<'_>, id: Option<CommandId>, error: &CommandError, request: &Request<'_>) {
    if let Some(id) = id {
        cx.server.stats.rejected(id);
    }
    if !cx.caller.is_the_client_itself() {
        return write_error(cx, error);
    }
    let command = id.map(|id| cx.server.table.row(id).command);
    let runs_the_queue = |command: &&Command| command.traits.has(Traits::RUNS_THE_QUEUE);
    // A script that asks for it has no transaction.
    let is_own = !cx.caller.is_within_transaction();
    if let Some(exec) = command.filter(runs_the_queue).filter(|_| is_own) {
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
    if let CommandError::Redirect(_) = error {
        // Where to is what the client must know.
        return write_error(cx, error);
    }
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
