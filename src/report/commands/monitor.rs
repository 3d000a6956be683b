//! MONITOR: shows a client every command that the server runs.

use crate::command::{Args, Arity, Command, CommandError, CommandResult, Flags, Group};
use crate::engine::Cx;

pub(super) static MONITOR: Command = Command {
    name: "monitor",
    group: Group::Server,
    summary: "Shows all commands that the server runs, as they are run, but for dangerous ones.",
    complexity: "O(1), and O(N) with N watchers for each command from then on",
    arity: Arity::exactly(1),
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    example: "> MONITOR\nOK",
    run: monitor,
    ..Command::BASE
};

fn monitor(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    if !cx.caller.may_answer_late() {
        return Err(CommandError::Fixed("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    // Redis does not answer who watches already, or is a replica.
    if !cx.session().is_fed() {
        cx.session_mut().is_monitor = true;
        let client = cx.client;
        cx.server.monitors.push(client);
        cx.reply.ok();
    }
    Ok(())
}
