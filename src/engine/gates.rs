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

mod rights;
mod scripts;
mod slots;

use super::session::ClientKind;
use super::waiting::Reason;
use super::{Caller, Cx, Server, eviction, migrate};
use crate::cluster::admin::Refusal;
use crate::command::{Command, CommandError, CommandId, Flags, Hashed, Traits};
use crate::repl::link::Primary;
use crate::resp::{Protocol, Request};
pub(super) use scripts::{NOT_FOR_SCRIPTS, may_replay, may_write as script_may_write};
pub(super) use slots::{begin_usage_of_applied, owner_of};

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
    SCRIPT: scripts::may_have,
    EACH_CALL: rights::user_may,
    SCRIPT: scripts::may_call,
    EACH_TRY: slots::is_for_this_node,
    SCRIPT: slots::script_asks_right_node,
    REQUEST: client_is_served_here,
    EACH_TRY: system_has_memory,
    EACH_TRY: eviction::there_is_room,
    EACH_TRY: writes_are_saved,
    EACH_TRY: aof_takes_writes,
    EACH_TRY: enough_replicas_are_good,
    EACH_TRY: server_takes_writes,
    REQUEST: command_fits_subscriber,
    EACH_TRY: data_is_not_stale,
    REQUEST: dataset_is_there,
    REQUEST: scripts::server_is_free,
    REQUEST: peers_leave_keys_alone,
    REQUEST: moves_give_way_to_heirs,
}

/// Whether, and how, a request may go on for the caller of this context.
pub(super) fn admit(cx: &mut Cx<'_>, asked: &Asked<'_>) -> Result<Admission, CommandError> {
    if cx.server.under_way.is_some() && scripts::must_wait(cx, asked) {
        return Ok(Admission::Postpone(Reason::Script));
    }
    let flags = effective_flags(cx, asked);
    if cx.caller == Caller::Client && waits_for_new_primary(cx, flags) {
        return Ok(Admission::Postpone(Reason::Unpause));
    }
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
    if !cx.server.moves.are_none() && migrate::must_wait(cx, asked, flags) {
        return Admission::Postpone(Reason::Move);
    }
    if cx.server.slot_moves.are_paused() && slots::waits_for_owner(cx, asked, flags) {
        return Admission::Postpone(Reason::Unpause);
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
            // What only some of them may is no permission for all.
            const MAY: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::ALLOW_BUSY);
            let may = transaction.common_flags().map_or(own, |common| own.and(common)).and(MAY);
            own.or(transaction.flags()).without(MAY).or(may)
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

/// Whether a request is refused when the disk does not take what is written. By the answer to PING
/// Sentinels learn of it, as they do of Redis.
fn needs_disk(asked: &Asked<'_>, flags: Flags) -> bool {
    flags.has(Flags::WRITE) || asked.command.traits.has(Traits::TELLS_HEALTH)
}

/// While snapshots cannot be written, nothing may change that would only be lost.
fn writes_are_saved(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = needs_disk(asked, flags) && cx.server.has_failing_snapshots();
    if is_refused { Err(SNAPSHOTS_FAIL) } else { Ok(()) }
}

impl Server {
    /// Whether snapshots cannot be written, and nothing may change until they can.
    pub(super) fn has_failing_snapshots(&self) -> bool {
        !self.saving.last_succeeded
            && self.config.stop_writes_on_bgsave_error
            && !self.config.save.0.is_empty()
    }
}

/// What the append-only log cannot take must not happen.
fn aof_takes_writes(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    if needs_disk(asked, flags) && cx.server.aof.has_fault() {
        return cx.server.aof_takes_writes();
    }
    Ok(())
}

/// A client that can go to the primary is sent there, unless it has said that it reads here.
fn client_is_served_here(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    if !is_redirected(cx, flags) {
        return Ok(());
    }
    let Some(Primary { host, port }) = cx.server.replication.link.primary() else { return Ok(()) };
    Err(CommandError::Redirect(format!("REDIRECT {host}:{port}").into()))
}

/// Until the replica has taken over, nobody is there to be sent to.
fn waits_for_new_primary(cx: &Cx<'_>, flags: Flags) -> bool {
    is_redirected(cx, flags) && cx.server.replication.failover.is_under_way()
}

fn is_redirected(cx: &Cx<'_>, flags: Flags) -> bool {
    let session = cx.session();
    let reads_elsewhere = flags.has(Flags::READONLY) && !session.reads_from_replica;
    session.is_redirected && cx.server.is_replica() && (flags.has(Flags::WRITE) || reads_elsewhere)
}

pub(super) const NO_GOOD_REPLICAS: CommandError =
    CommandError::Fixed("NOREPLICAS Not enough good replicas to write.");

/// What too few would have is not written.
fn enough_replicas_are_good(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = flags.has(Flags::WRITE) && cx.server.lacks_good_replicas();
    if is_refused { Err(NO_GOOD_REPLICAS) } else { Ok(()) }
}

pub(super) const IS_REPLICA: CommandError =
    CommandError::Fixed("READONLY You can't write against a read only replica.");

/// A replica's data is its primary's.
fn server_takes_writes(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = flags.has(Flags::WRITE) && cx.server.is_read_only_replica();
    if is_refused { Err(IS_REPLICA) } else { Ok(()) }
}

const MASTER_DOWN: CommandError = CommandError::Fixed(
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
);

/// A replica that has lost its primary may be told to say so instead of serving what it has.
fn data_is_not_stale(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    let is_refused = !flags.has(Flags::STALE) && cx.server.serves_no_stale_data();
    if is_refused { Err(MASTER_DOWN) } else { Ok(()) }
}

impl Server {
    /// Whether `min-replicas-to-write` asks for more replicas than there are good ones.
    pub(super) fn lacks_good_replicas(&self) -> bool {
        let (wanted, lag_max) =
            (self.config.min_replicas_to_write, self.config.min_replicas_max_lag);
        if wanted == 0 || lag_max == 0 || self.is_replica() {
            return false;
        }
        self.good_replicas() < wanted as usize
    }

    pub(super) fn is_read_only_replica(&self) -> bool {
        self.is_replica() && self.config.replica_read_only
    }

    /// Whether clients write to a replica.
    pub(super) fn takes_own_writes(&self) -> bool {
        self.is_replica() && !self.config.replica_read_only
    }

    pub(super) fn serves_no_stale_data(&self) -> bool {
        !self.config.replica_serve_stale_data
            && self.is_replica()
            && !self.replication.link.is_connected()
    }
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
fn dataset_is_there(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    // A replica that takes in a snapshot can be told to follow somebody else instead.
    let ends_it = asked.command.traits.has(Traits::ENDS_A_FETCH);
    if ends_it && cx.server.replication.fetch.is_some() {
        return Ok(());
    }
    let is_loading = cx.server.loading.is_some() && !flags.has(Flags::LOADING);
    let is_refused =
        is_loading || (cx.server.is_loading_aside() && flags.has(Flags::NO_ASYNC_LOADING));
    if is_refused { Err(CommandError::Loading) } else { Ok(()) }
}

/// Another server is to take over from this one, and would not have what comes now: whoever asks
/// is better told at once than kept waiting until it has.
fn moves_give_way_to_heirs(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    if asked.command.traits.has(Traits::GIVES_WAY) && cx.server.pause.is_for_hand_over() {
        return Err(CommandError::err(format_args!("{}", Refusal::FailoverUnderWay)));
    }
    Ok(())
}

/// What a client is shown in the order in which it happened leaves no room for replies that tell of
/// keys.
fn peers_leave_keys_alone(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    const TOUCHES: Flags = Flags::READONLY.or(Flags::WRITE).or(Flags::MAY_REPLICATE);
    if cx.session().is_fed() && flags.intersects(TOUCHES) {
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
