//! BGREWRITEAOF.

use crate::command::{Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape};
use crate::engine::Cx;

pub static COMMANDS: &[&Command] = &[&BGREWRITEAOF];

static BGREWRITEAOF: Command = Command {
    name: "bgrewriteaof",
    group: Group::Server,
    summary: "Writes the append-only file anew, as short as the dataset allows.",
    complexity: "O(1); the file is written by another thread",
    arity: Arity::exactly(1),
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_ASYNC_LOADING),
    reply: Shape::Simple,
    example: "> BGREWRITEAOF\nBackground append only file rewriting started",
    run: bgrewriteaof,
    ..Command::BASE
};

fn bgrewriteaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if cx.server.is_rewriting() {
        return Err(CommandError::Fixed(
            "ERR Background append only file rewriting already in progress",
        ));
    }
    if cx.server.saving.is_running() || cx.caller.is_within_transaction() {
        cx.server.rewrites.is_scheduled = true;
        cx.server.rewrites.consecutive_failures = 0;
        tracing::info!("Background append only file rewriting scheduled.");
        cx.reply.simple(b"Background append only file rewriting scheduled");
    } else if cx.server.begin_rewrite() {
        cx.reply.simple(b"Background append only file rewriting started");
    } else {
        return Err(CommandError::Fixed(
            "ERR Can't execute an AOF background rewriting. Please check the server logs for more \
             information.",
        ));
    }
    Ok(())
}
