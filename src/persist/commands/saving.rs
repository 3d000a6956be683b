//! SAVE, BGSAVE, LASTSAVE.
//!
//! Neither of the first two stops the server: for SAVE the caller waits, for BGSAVE nobody.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Shape,
};
use crate::engine::Cx;

const FLAGS: Flags = Flags::ADMIN.or(Flags::NOSCRIPT);
const IN_PROGRESS: CommandError = CommandError::Fixed("ERR Background save already in progress");

pub(super) static SAVE: Command = Command {
    name: "save",
    group: Group::Server,
    summary: "Writes a snapshot of all databases to disk and answers when it is there.",
    complexity: "O(N) with N keys in all databases, on another thread",
    arity: Arity::exactly(1),
    flags: FLAGS.or(Flags::NO_MULTI),
    reply: Shape::Ok,
    example: "> SET k v\nOK\n> SAVE\nOK",
    run: save,
    ..Command::BASE
};

fn save(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.server.saving.is_running() {
        return Err(IN_PROGRESS);
    }
    let client = cx.client;
    cx.wait_for_answer();
    cx.server.save_for(cx.keys.space(), client);
    Ok(())
}

pub(super) static BGSAVE: Command = Command {
    name: "bgsave",
    group: Group::Server,
    summary: "Writes a snapshot of all databases to disk and does not wait for it.",
    complexity: "O(1); the snapshot is written by another thread",
    arity: Arity::at_least(1),
    flags: FLAGS,
    history: &[("3.2.2", "Took SCHEDULE.")],
    args: &[Arg::one_of(
        "operation",
        &[
            Arg::flag("schedule", "SCHEDULE").since("3.2.2"),
            Arg::flag("cancel", "CANCEL").since("8.1.0"),
        ],
    )
    .optional()],
    reply: Shape::Any,
    example: "> BGSAVE\nBackground saving started",
    run: bgsave,
    ..Command::BASE
};

fn bgsave(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let cancels = args.option("cancel");
    let schedules = !cancels && args.option("schedule");
    if !args.is_empty() {
        return Err(CommandError::Syntax);
    }
    if cancels {
        return cancel(cx);
    }
    if cx.server.saving.is_running() {
        return Err(IN_PROGRESS);
    }
    if cx.server.is_rewriting() && !schedules {
        return Err(CommandError::Fixed(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
             SCHEDULE in order to schedule a BGSAVE whenever possible.",
        ));
    }
    // A transaction is saved whole or not at all.
    if cx.caller.is_within_transaction() || cx.server.is_rewriting() {
        cx.server.saving.is_scheduled = true;
        cx.reply.simple(b"Background saving scheduled");
        return Ok(());
    }
    cx.server.save_in_background(cx.keys.space());
    cx.reply.simple(b"Background saving started");
    Ok(())
}

/// Stops the running save and forgets the scheduled one.
fn cancel(cx: &mut Cx<'_>) -> CommandResult {
    let saving = &mut cx.server.saving;
    let was_scheduled = std::mem::take(&mut saving.is_scheduled);
    if saving.cancel() {
        cx.reply.simple(b"Background saving cancelled");
    } else if was_scheduled {
        cx.reply.simple(b"Scheduled background saving cancelled");
    } else {
        return Err(CommandError::Fixed(
            "ERR Background saving is currently not in progress or scheduled",
        ));
    }
    Ok(())
}

pub(super) static LASTSAVE: Command = Command {
    name: "lastsave",
    group: Group::Server,
    summary: "Returns the Unix time in seconds of the last snapshot that is on disk.",
    arity: Arity::exactly(1),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
    acl: Categories::ADMIN.or(Categories::DANGEROUS),
    tips: &["nondeterministic_output"],
    reply: Shape::Integer,
    run: lastsave,
    ..Command::BASE
};

fn lastsave(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.reply.integer(cx.server.saving.last_save_unix_seconds().cast_signed());
    Ok(())
}
