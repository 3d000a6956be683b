//! CLIENT CAPA (of Valkey): what a client can do beyond the ordinary.

use super::COMMON;
use crate::command::Group;
use crate::command::{Arg, Args, Arity, Categories, Command, CommandResult, Shape};
use crate::engine::Cx;

pub(super) static CAPA: Command = Command {
    name: "capa",
    since: "8.0.0",
    group: Group::Connection,
    summary: "Says what the client can do: with `redirect` it goes to the primary when told to.",
    arity: Arity::at_least(3),
    flags: COMMON,
    acl: Categories::CONNECTION,
    args: &[Arg::string("capability").multiple()],
    reply: Shape::Ok,
    example: "> CLIENT CAPA redirect\nOK",
    run: capa,
    ..Command::BASE
};

/// What is not known here may be known elsewhere, and is no error.
fn capa(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    while !args.is_empty() {
        if args.bytes().eq_ignore_ascii_case(b"redirect") {
            cx.session_mut().is_redirected = true;
        }
    }
    cx.reply.ok();
    Ok(())
}
