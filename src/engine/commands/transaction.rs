//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Shape, Traits,
};
use crate::engine::program::{Program, Step};
use crate::engine::propagate::Position;
use crate::engine::transaction::{self, Queued};
use crate::engine::{Caller, Cx};
use crate::resp::{OwnedRequest, ReplyBuf, Request};

pub static COMMANDS: &[&Command] = &[&DISCARD, &EXEC, &MULTI, &UNWATCH, &WATCH];

const CONTROL: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST);

static MULTI: Command = Command {
    name: "multi",
    since: "1.2.0",
    group: Group::Transactions,
    summary: "Opens a transaction: the commands that follow are queued until EXEC.",
    arity: Arity::exactly(1),
    flags: CONTROL.or(Flags::ALLOW_BUSY),
    traits: Traits::RUNS_IN_MULTI.or(Traits::FITS_STREAM),
    acl: Categories::TRANSACTION,
    reply: Shape::Ok,
    example: "> MULTI\nOK\n> SET k 1\nQUEUED\n> INCR k\nQUEUED\n> EXEC\n1) OK\n2) (integer) 2",
    run: multi,
    ..Command::BASE
};

fn multi(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    // The transaction that is open goes on: Redis lets EXEC run what was queued.
    if cx.session().transaction.is_some() {
        return Err(CommandError::Fixed("ERR MULTI calls can not be nested"));
    }
    cx.session_mut().transaction = Some(Box::default());
    cx.reply.ok();
    Ok(())
}

static EXEC: Command = Command {
    name: "exec",
    since: "1.2.0",
    group: Group::Transactions,
    summary: "Runs the queued commands of the transaction, nothing in between.",
    complexity: "That of the queued commands",
    arity: Arity::exactly(1),
    flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SKIP_SLOWLOG),
    traits: Traits::RUNS_IN_MULTI.or(Traits::RUNS_THE_QUEUE).or(Traits::FITS_STREAM),
    acl: Categories::TRANSACTION,
    example: "> MULTI\nOK\n> PING\nQUEUED\n> EXEC\n1) PONG",
    run: exec,
    ..Command::BASE
};

fn exec(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let Some(pending) = cx.session().transaction.as_ref() else {
        return Err(CommandError::Fixed("ERR EXEC without MULTI"));
    };
    let spoilt = pending.is_spoilt();
    let broken = cx.session().watch_broken || transaction::has_expired_watch(cx);
    // However it ends, the client is out of the transaction, and its watches are gone.
    let pending = transaction::leave(cx).expect("checked above");
    if spoilt {
        return Err(CommandError::ExecAbort);
    }
    if broken {
        cx.reply.null_array();
        return Ok(());
    }
    let queued = pending.into_queued();
    cx.reply.array(queued.len());
    let stream_start = cx.server.propagation.position();
    let (running, reply) = (OwnedRequest::default(), ReplyBuf::new());
    cx.go_on_with(Queue { queued: queued.into_iter(), running, reply, stream_start });
    Ok(())
}

/// The commands of a transaction.
///
/// There was room for all of them, queue and all, or EXEC would not run: half a transaction is
/// worse than some bytes too many. Each request is freed when it has run, being data by then.
struct Queue {
    queued: std::vec::IntoIter<Queued>,
    running: OwnedRequest,
    reply: ReplyBuf,
    stream_start: Position,
}

impl Program for Queue {
    fn caller(&self) -> Caller {
        Caller::Exec
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Step {
        let has_run = !self.running.as_request().is_empty();
        if has_run && self.reply.is_empty() {
            // CLIENT REPLY says nothing, but an array that lacks an element would take the next
            // reply for it.
            cx.reply.ok();
        }
        self.reply.set_aside_if_full();
        cx.reply.buffer().take_from(&mut self.reply);
        if let Some(next) = self.queued.next() {
            self.running = next.request;
            return Step::Call(next.id);
        }
        cx.server.propagation.wrap_transaction(self.stream_start);
        // The end of the transaction stands in the stream already, if it is needed.
        cx.propagate_as(&[]);
        Step::Done(Ok(()))
    }

    fn call(&mut self) -> (Request<'_>, &mut ReplyBuf) {
        (self.running.as_request(), &mut self.reply)
    }
}

static DISCARD: Command = Command {
    name: "discard",
    since: "2.0.0",
    group: Group::Transactions,
    summary: "Drops the queued commands and ends the transaction.",
    complexity: "O(N) with N queued commands",
    arity: Arity::exactly(1),
    flags: CONTROL.or(Flags::ALLOW_BUSY),
    traits: Traits::RUNS_IN_MULTI.or(Traits::FITS_STREAM),
    acl: Categories::TRANSACTION,
    reply: Shape::Ok,
    example: "> MULTI\nOK\n> PING\nQUEUED\n> DISCARD\nOK",
    run: discard,
    ..Command::BASE
};

fn discard(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.session().transaction.is_none() {
        return Err(CommandError::Fixed("ERR DISCARD without MULTI"));
    }
    transaction::leave(cx);
    cx.reply.ok();
    Ok(())
}

static WATCH: Command = Command {
    name: "watch",
    since: "2.2.0",
    group: Group::Transactions,
    summary: "Makes the next EXEC depend on these keys staying as they are.",
    complexity: "O(1) for each key",
    arity: Arity::at_least(2),
    flags: CONTROL.or(Flags::ALLOW_BUSY),
    traits: Traits::RUNS_IN_MULTI,
    acl: Categories::TRANSACTION,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    args: &[Arg::key("key").multiple()],
    reply: Shape::Ok,
    example: "> WATCH k\nOK\n> SET k 1\nOK\n> MULTI\nOK\n> PING\nQUEUED\n> EXEC\n(nil)",
    run: watch,
    ..Command::BASE
};

fn watch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.session().transaction.is_some() {
        return Err(CommandError::Fixed("ERR WATCH inside MULTI is not allowed"));
    }
    // A broken watch cannot be mended by watching more.
    let broken = cx.session().watch_broken;
    while !args.is_empty() {
        let key = args.key();
        if !broken {
            transaction::watch(cx, &key);
        }
    }
    cx.reply.ok();
    Ok(())
}

static UNWATCH: Command = Command {
    name: "unwatch",
    since: "2.2.0",
    group: Group::Transactions,
    summary: "Forgets all keys that the connection watches.",
    arity: Arity::exactly(1),
    flags: CONTROL.or(Flags::ALLOW_BUSY),
    acl: Categories::TRANSACTION,
    reply: Shape::Ok,
    example: "> WATCH k\nOK\n> UNWATCH\nOK",
    run: unwatch,
    ..Command::BASE
};

fn unwatch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let client = cx.client;
    transaction::unwatch(cx.clients, &mut cx.server.watched, client);
    cx.reply.ok();
    Ok(())
}
