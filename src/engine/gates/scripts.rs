//! The gates for what scripts ask for, and for everybody while a script holds the server.

use super::{Asked, IS_REPLICA, NO_GOOD_REPLICAS, Passed, SNAPSHOTS_FAIL};
use crate::command::{CommandError, CommandId, CommandResult, Flags, Traits};
use crate::engine::{Caller, Cx};

/// Whether a request waits until the command that is under way has ended, or is late. Most that
/// would be told that the server is busy do, though they need not be.
pub(super) fn must_wait(cx: &Cx<'_>, asked: &Asked<'_>) -> bool {
    let is_late = cx.server.under_way.as_ref().is_some_and(|under_way| under_way.is_late());
    let command = asked.command;
    let is_refused_if_busy = command.traits.has(Traits::IS_BUSY_UNLESS_NOSAVE)
        && !asked.request.iter().any(|word| word.eq_ignore_ascii_case(b"nosave"));
    !is_late && (is_refused_if_busy || !command.flags.has(Flags::ALLOW_BUSY))
}

/// While a late script holds the server, only that runs which can end it or needs no data.
pub(super) fn server_is_free(cx: &mut Cx<'_>, asked: &Asked<'_>, _: Flags) -> Passed {
    let is_free = cx.server.under_way.is_none() || asked.command.flags.has(Flags::ALLOW_BUSY);
    if is_free { Ok(()) } else { Err(cx.server.busy_error()) }
}

/// What a script is told that asks for what scripts may not have.
pub(in crate::engine) const NOT_FOR_SCRIPTS: CommandError =
    CommandError::Fixed("ERR This Redis command is not allowed from script");

/// Whether a command is one for scripts.
fn is_for_scripts(cx: &Cx<'_>, flags: Flags) -> Passed {
    let is_kept_away = flags.has(Flags::NOSCRIPT) && !cx.server.scripting.denies_nothing;
    if is_kept_away { Err(NOT_FOR_SCRIPTS) } else { Ok(()) }
}

/// The same as a rule, and whether a script that runs on stale data may have this: what a user may
/// do is asked behind it.
pub(super) fn may_have(cx: &mut Cx<'_>, _: &Asked<'_>, flags: Flags) -> Passed {
    is_for_scripts(cx, flags)?;
    if !flags.has(Flags::STALE) && cx.server.serves_no_stale_data() {
        return Err(CommandError::Fixed("ERR Can not execute the command on a stale replica"));
    }
    Ok(())
}

/// Whether a command is one that the running script may have, whenever that is.
fn fits_script(cx: &Cx<'_>, flags: Flags) -> Passed {
    const CHANGES: Flags = Flags::WRITE.or(Flags::MAY_REPLICATE);
    let scripting = &cx.server.scripting;
    is_for_scripts(cx, flags)?;
    let is_read_only = scripting.running.as_ref().is_some_and(|running| running.is_read_only);
    if is_read_only && flags.intersects(CHANGES) {
        return Err(CommandError::Fixed(
            "ERR Write commands are not allowed from read-only scripts.",
        ));
    }
    Ok(())
}

/// Whether a command runs that a script of an AOF asks for. It is asked nothing that may be
/// otherwise now, but what it was refused then it did not do.
pub(in crate::engine) fn may_replay(cx: &Cx<'_>, caller: Caller, id: CommandId) -> CommandResult {
    match caller {
        Caller::Script => fits_script(cx, cx.server.table.row(id).flags),
        _ => Ok(()),
    }
}

/// Whether the running script may call a command. One that has written can be stopped no more by
/// what has come since, or half of what it does would stay.
// ORDER: Redis's.
pub(super) fn may_call(cx: &mut Cx<'_>, asked: &Asked<'_>, flags: Flags) -> Passed {
    fits_script(cx, flags)?;
    let Some(running) = &cx.server.scripting.running else { return Ok(()) };
    let (has_written, allows_oom) = (running.has_written, running.allows_oom);
    let was_over_memory = running.was_over_memory;
    if !has_written && flags.has(Flags::WRITE) {
        if cx.server.is_read_only_replica() {
            return Err(IS_REPLICA);
        }
        if cx.server.has_failing_snapshots() {
            return Err(SNAPSHOTS_FAIL);
        }
        super::aof_takes_writes(cx, asked, flags)?;
        if cx.server.lacks_good_replicas() {
            return Err(NO_GOOD_REPLICAS);
        }
    }
    if !has_written && flags.has(Flags::DENYOOM) {
        super::system_has_memory(cx, asked, flags)?;
        if was_over_memory && !allows_oom {
            return Err(CommandError::OutOfMemory);
        }
    }
    if let Some(running) = cx.server.scripting.running.as_mut() {
        running.has_written |= flags.has(Flags::WRITE);
    }
    Ok(())
}

/// Whether a script may start that says of itself that it writes.
pub(in crate::engine) fn may_write(cx: &Cx<'_>) -> CommandResult {
    if cx.server.is_read_only_replica() {
        return Err(CommandError::Fixed(
            "READONLY Can not run script with write flag on readonly replica.",
        ));
    }
    if cx.server.lacks_good_replicas() {
        return Err(NO_GOOD_REPLICAS);
    }
    if cx.server.has_failing_snapshots() {
        return Err(CommandError::Fixed(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
             persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only \
             scripts.",
        ));
    }
    if let Some(reason) = cx.server.aof.refusal() {
        return Err(CommandError::Text(
            format!(
                "MISCONF Redis is configured to persist data to AOF, but it's currently unable to \
                 persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only \
                 scripts. AOF error: {reason}"
            )
            .into_boxed_str(),
        ));
    }
    Ok(())
}
