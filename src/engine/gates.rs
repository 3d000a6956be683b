//! The gates: what a request must pass before its command runs, whoever has it run.
//!
//! A client's request is not the only one that comes here. The request of a client who waits runs
//! again when the key has come, which may be much later: what was allowed then may not be now, so
//! it is asked again what can have changed. The commands of a transaction were asked when they were
//! queued, and EXEC answers for all of them; what is asked of each once more is what another client
//! may have taken from this one since. A log holds what has been done, and is asked nothing.
//!
//! A refused request is answered with the error and counts as rejected. Where the client had waited
//! its wait is over by that, as in Redis, and who stands behind it in line is served.

mod scripts;

use super::session::ClientKind;
use super::waiting::Reason;
use super::{Caller, Cx, Server, eviction};
use crate::command::{Command, CommandError, CommandId, Flags, Hashed, Traits};
use crate::resp::{Protocol, Request};
pub(super) use scripts::{NOT_FOR_SCRIPTS, may_replay, may_write as script_may_write};

/// A request as it stands at the gates: with its command, and the keys that were hashed ahead.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub id: CommandId,
    pub command: &'static Command,
    pub request: Request<'a>,
    pub hashed: Hashed<'a>,
}

/// What is to happen with an admitted request.
pub enum Admission {
    Run,
    Queue,
    Postpone(Reason),
}

type Passed = Result<(), CommandError>;

/// For whom a rule holds.
#[derive(Clone, Copy)]
struct Callers(u8);

impl Callers {
    /// What a client sends, when it sends it.
    const REQUEST: Callers = Callers::only(Caller::Client);
    /// The same, and again when it runs after a wait.
    const EACH_TRY: Callers = Callers::REQUEST.and(Caller::Retry);
    /// Everything that runs on behalf of a client.
    #[cfg_attr(not(test), expect(dead_code, reason = "no right of a user can change yet"))]
    const EACH_CALL: Callers = Callers::EACH_TRY.and(Caller::Exec).and(Caller::Script);
    /// What a script asks for.
    const SCRIPT: Callers = Callers::only(Caller::Script);

    const fn only(caller: Caller) -> Callers {
        Callers(1 << caller as u8)
    }

    const fn and(self, caller: Caller) -> Callers {
        Callers(self.0 | 1 << caller as u8)
    }

    const fn has(self, caller: Caller) -> bool {
        self.0 & 1 << caller as u8 != 0
    }
}

/// Makes of a table of rules the function that asks them one after the other.
macro_rules! rules {
    ($($(#[$attribute:meta])* $callers:ident: $rule:expr,)*) => {
        /// The first rule that refuses decides. `flags` are those that count.
        fn ask_rules(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
            let caller = cx.caller;
            $($(#[$attribute])* {
                if Callers::$callers.has(caller) {
                    $rule(cx, asked, flags)?;
                }
            })*
            Ok(())
        }
    };
}

// ORDER: Redis's, since a client sees which of two rules refuses.
rules! {
    REQUEST: protected_commands_are_enabled,
    EACH_TRY: client_is_authenticated,
    REQUEST: command_fits_transaction,
    SCRIPT: scripts::may_call,
    #[cfg(test)]
    EACH_CALL: tests::user_may,
    EACH_TRY: system_has_memory,
    EACH_TRY: eviction::there_is_room,
    EACH_TRY: writes_are_saved,
    EACH_TRY: aof_takes_writes,
    REQUEST: command_fits_subscriber,
    REQUEST: dataset_is_there,
    REQUEST: scripts::server_is_free,
    REQUEST: monitors_only_watch,
}

/// Whether, and how, a request may go on for the caller of this context.
pub(super) fn admit(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Result<Admission, CommandError> {
    if cx.server.under_way.is_some() && scripts::must_wait(cx, asked) {
        return Ok(Admission::Postpone(Reason::Script));
    }
    let flags = effective_flags(cx, asked);
    ask_rules(cx, asked, flags)?;
    // Whoever has waited is only served when it may run, and a part of something runs with it.
    match cx.caller {
        Caller::Client => Ok(when_to_run(cx, asked, flags)),
        _ => Ok(Admission::Run),
    }
}

fn when_to_run(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Admission {
    if is_paused_for(cx, flags) {
        return Admission::Postpone(Reason::Unpause);
    }
    if cx.session().transaction.is_some() && !asked.command.traits.has(Traits::RUNS_IN_MULTI) {
        return Admission::Queue;
    }
    let is_syncing = flags.has(Flags::WRITE) && cx.server.aof.is_syncing();
    if is_syncing && cx.server.aof_delays_writes() {
        return Admission::Postpone(Reason::Disk);
    }
    Admission::Run
}

/// A command's flags; those of one that runs a script are what the script says of itself.
pub(super) fn own_flags(cx: &Cx<'_>, asked: &Asked<'_>) -> Flags {
    let own = cx.server.table.row(asked.id).flags;
    cx.server.script_flags(asked.command, &asked.request, own)
}

/// The flags that count for a request: EXEC counts as all that it would run.
fn effective_flags(cx: &Cx<'_>, asked: &Asked<'_>) -> Flags {
    let own = own_flags(cx, asked);
    match &cx.session().transaction {
        Some(transaction) if asked.command.traits.has(Traits::RUNS_THE_QUEUE) => {
            own.or(transaction.flags())
        }
        _ => own,
    }
}

fn protected_commands_are_enabled(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    let Some(guard) = &asked.command.guard else { return Ok(()) };
    if (guard.action)(&cx.server.config).allows(cx.session().peer.is_local) {
        return Ok(());
    }
    let row = cx.server.table.row(asked.id);
    let container = row.parent.map_or(row, |parent| cx.server.table.row(parent));
    let (name, option) = (container.full_name.to_ascii_uppercase(), guard.option);
    Err(CommandError::err(format_args!(
        "{name} command not allowed. If the {option} option is set to \"local\", you can run it \
         from a local connection, otherwise you need to set this option in the configuration \
         file, and then restart the server."
    )))
}

/// A client that waits may have come when no password was needed.
fn client_is_authenticated(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    let may = asked.command.flags.has(Flags::NO_AUTH) || !cx.server.requires_auth(cx.session());
    if may { Ok(()) } else { Err(CommandError::NoAuth) }
}

fn command_fits_transaction(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    if cx.session().transaction.is_some() && asked.command.flags.has(Flags::NO_MULTI) {
        return Err(CommandError::Fixed("ERR Command not allowed inside a transaction"));
    }
    Ok(())
}

/// When only the reserve was left, the data may not grow until there is more.
fn system_has_memory(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = flags.has(Flags::DENYOOM) && (cx.server.parts.is_memory_short)();
    if is_refused { Err(CommandError::NoMemory) } else { Ok(()) }
}

const SNAPSHOTS_FAIL: CommandError = CommandError::Fixed(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
     disk. Commands that may modify the data set are disabled, because this instance is \
     configured to report errors during writes if RDB snapshotting fails \
     (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
     error.",
);

/// While snapshots cannot be written, nothing may change that would only be lost.
fn writes_are_saved(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = flags.has(Flags::WRITE) && cx.server.has_failing_snapshots();
    if is_refused { Err(SNAPSHOTS_FAIL) } else { Ok(()) }
}

impl Server {
    /// Whether snapshots cannot be written, and nothing may change until they can.
    fn has_failing_snapshots(&self) -> bool {
        !self.saving.last_succeeded
            && self.config.stop_writes_on_bgsave_error
            && !self.config.save.0.is_empty()
    }
}

/// What the append-only log cannot take must not happen.
fn aof_takes_writes(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    if flags.has(Flags::WRITE) && cx.server.aof.has_fault() {
        return cx.server.aof_takes_writes();
    }
    Ok(())
}

/// A RESP2 client that listens could not tell replies from messages.
fn command_fits_subscriber(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    let session = cx.session();
    let is_listening = session.kind == ClientKind::Pubsub && session.protocol == Protocol::Resp2;
    if !is_listening || asked.command.traits.has(Traits::FITS_SUBSCRIBER) {
        return Ok(());
    }
    Err(CommandError::err(format_args!(
        "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context",
        cx.server.table.row(asked.id).full_name
    )))
}

/// While the dataset is being read, only commands run that can do without it.
fn dataset_is_there(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = cx.server.loading.is_some() && !flags.has(Flags::LOADING);
    if is_refused { Err(CommandError::Loading) } else { Ok(()) }
}

/// What a client is shown in the order in which it happened leaves no room for replies that tell of
/// keys.
fn monitors_only_watch(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    const TOUCHES: Flags = Flags::READONLY.or(Flags::WRITE).or(Flags::MAY_REPLICATE);
    if cx.session().is_monitor && flags.intersects(TOUCHES) {
        return Err(CommandError::Fixed("ERR Replica can't interact with the keyspace"));
    }
    Ok(())
}

fn is_paused_for(cx: &mut Cx<'_>, flags: Flags) -> bool {
    let mono_ms = cx.server.clock.mono_ms();
    let writes = flags.intersects(Flags::WRITE.or(Flags::MAY_REPLICATE));
    cx.server.pause.is_active(mono_ms, writes)
}

#[cfg(test)]
mod tests;
