//! The HELP subcommand of every container, worded from the records.

use super::docs::syntax;
use super::{Args, CommandResult};
use crate::engine::Cx;

/// Lists the subcommands of the running container: each one's syntax, and what it does.
pub fn subcommands(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.request().arg(0);
    let table = &cx.server.table;
    let container = table.by_name(name).expect("the request was looked up by this name");
    let mut lines = vec![format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        table.row(container).command.name.to_ascii_uppercase()
    )];
    for row in table.children(container).filter(|row| row.command.name != "help") {
        lines.push(syntax(row.command));
        lines.push(format!("    {}", row.command.summary));
    }
    lines.push("HELP".to_owned());
    lines.push("    Print this help.".to_owned());
    cx.reply.array(lines.len());
    for line in lines {
        cx.reply.simple(line.as_bytes());
    }
    Ok(())
}
