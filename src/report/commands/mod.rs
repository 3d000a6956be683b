//! INFO, HOTKEYS ([`hotkeys`]), LATENCY ([`latency`]), MEMORY ([`memory`]), MONITOR ([`monitor`])
//! and SLOWLOG ([`slowlog`]).

mod hotkeys;
mod latency;
mod memory;
mod monitor;
mod slowlog;
#[cfg(test)]
mod tests;

use super::info::{self, View};
use crate::command::{Arg, Args, Arity, Categories, Command, CommandResult, Flags, Group, Shape};
use crate::engine::Cx;

pub static COMMANDS: &[&Command] = &[
    &hotkeys::HOTKEYS,
    &INFO,
    &latency::LATENCY,
    &memory::MEMORY,
    &monitor::MONITOR,
    &slowlog::SLOWLOG,
];

static INFO: Command = Command {
    name: "info",
    group: Group::Server,
    summary: "Reports the state of the server as lines of fields, in sections.",
    arity: Arity::at_least(1),
    flags: Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL),
    acl: Categories::DANGEROUS,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    history: &[("7.0.0", "Took several sections.")],
    args: &[Arg::string("section").optional().multiple()],
    reply: Shape::Bulk,
    run: info,
    ..Command::BASE
};

fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut asked = Vec::new();
    while !args.is_empty() {
        asked.push(args.bytes());
    }
    let text = info::report(&view(cx), &asked);
    cx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// The state of the server, as it is now.
fn view<'v>(cx: &'v mut Cx<'_>) -> View<'v> {
    View::new(cx.server, cx.keys.space(), cx.clients)
}
