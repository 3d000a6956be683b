//! What tests do to a node's connections with others.

use crate::cluster::debug::KillRefusal;
use crate::cluster::id::NodeId;
use crate::cluster::links::Direction;
use crate::cluster::machine::Cluster;
use crate::command::{Args, CommandError, CommandResult};
use crate::engine::Cx;

fn machine<'c>(cx: &'c mut Cx<'_>) -> Result<&'c mut Cluster, CommandError> {
    match cx.server.cluster.as_deref_mut() {
        Some(member) => Ok(&mut member.machine),
        None => Err(CommandError::Fixed(
            "ERR Debug option only available for cluster mode enabled setup!",
        )),
    }
}

pub(super) fn drop_packets(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let number = args.integer();
    args.done()?;
    machine(cx)?.drop_packets(number);
    cx.reply.ok();
    Ok(())
}

pub(super) fn close_on_drop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let closes = args.integer() != 0;
    args.done()?;
    machine(cx)?.close_on_drop(closes);
    cx.reply.ok();
    Ok(())
}

pub(super) fn kill_links(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    machine(cx)?;
    if !args.option("kill") {
        return Err(CommandError::Syntax);
    }
    let direction = match args.bytes().to_ascii_lowercase().as_slice() {
        b"to" => Some(Direction::To),
        b"from" => Some(Direction::From),
        b"all" => None,
        other => {
            let text = [b"ERR Unknown direction ", other].concat();
            return Err(CommandError::Bytes(text.into_boxed_slice()));
        }
    };
    let word = args.bytes();
    let unknown = || {
        let text = [b"ERR Unknown node ", word].concat();
        CommandError::Bytes(text.into_boxed_slice())
    };
    let id = NodeId::parse(word).ok_or_else(unknown)?;
    cx.core()
        .kill_bus_links(direction, id)
        .map_err(|refusal: KillRefusal| CommandError::err(format_args!("{refusal}")))?;
    cx.reply.ok();
    Ok(())
}
