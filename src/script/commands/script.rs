//! SCRIPT and its subcommands.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Shape,
    Traits, help,
};
use crate::engine::Cx;
use crate::engine::scripting::Kind;
use crate::engine::scripting::debugged::DebugMode;
use crate::script::cache::print_digest;

pub(super) static SCRIPT: Command = Command {
    name: "script",
    since: "2.6.0",
    group: Group::Scripting,
    summary: "Looks after the scripts that are kept.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&DEBUG, &EXISTS, &FLUSH, &HELP, &KILL, &LOAD, &SHOW],
    ..Command::BASE
};

const OWN: Command = Command {
    since: "2.6.0",
    group: Group::Scripting,
    flags: Flags::NOSCRIPT,
    acl: Categories::SCRIPTING,
    ..Command::BASE
};

static EXISTS: Command = Command {
    name: "exists",
    summary: "Says which of these scripts are kept.",
    complexity: "O(N) with N digests",
    arity: Arity::at_least(3),
    tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
    args: &[Arg::string("sha1").multiple()],
    reply: Shape::Array,
    example: "> SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db\n1) (integer) 0",
    run: exists,
    ..OWN
};

fn exists(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.array(args.remaining());
    while !args.is_empty() {
        let is_there = cx.server.scripting.cache.named(args.bytes()).is_some();
        cx.reply.integer(i64::from(is_there));
    }
    Ok(())
}

static FLUSH: Command = Command {
    name: "flush",
    summary: "Forgets all scripts.",
    complexity: "O(N) with N scripts",
    arity: Arity::at_least(2),
    traits: Traits::FITS_STREAM,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    history: &[("6.2.0", "Took ASYNC and SYNC.")],
    args: &[Arg::one_of("flush-type", &[Arg::flag("async", "ASYNC"), Arg::flag("sync", "SYNC")])
        .optional()
        .since("6.2.0")],
    reply: Shape::Ok,
    example: "> SCRIPT FLUSH\nOK",
    run: flush,
    ..OWN
};

fn flush(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if !super::is_flush(args) {
        return Err(CommandError::Fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    cx.server.scripting.flush();
    cx.reply.ok();
    Ok(())
}

static HELP: Command = Command {
    name: "help",
    since: "5.0.0",
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..OWN
};

static KILL: Command = Command {
    name: "kill",
    summary: "Ends the script that runs, unless it has written.",
    arity: Arity::exactly(2),
    flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    reply: Shape::Ok,
    example: "> SCRIPT KILL\n(error) NOTBUSY No scripts in execution right now.",
    run: kill,
    ..OWN
};

fn kill(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.server.kill_script(Kind::Script)?;
    cx.reply.ok();
    Ok(())
}

static LOAD: Command = Command {
    name: "load",
    summary: "Keeps a script, and returns its SHA1 digest.",
    complexity: "O(N) with N bytes of the script",
    arity: Arity::exactly(3),
    flags: Flags::NOSCRIPT.or(Flags::STALE),
    traits: Traits::FITS_STREAM,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    args: &[Arg::string("script")],
    reply: Shape::Bulk,
    example: "> SCRIPT LOAD \"return 1\"\n\"e0e1f9fabfc9d4800c877a703b823ac0578ff8db\"",
    run: load,
    ..OWN
};

fn load(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let body = args.bytes();
    args.done()?;
    let script = cx.script_of(body, true)?;
    cx.reply.bulk(print_digest(&script.digest).as_bytes());
    Ok(())
}

static SHOW: Command = Command {
    name: "show",
    since: "8.0.0",
    summary: "Returns the script of a SHA1 digest.",
    arity: Arity::exactly(3),
    args: &[Arg::string("sha1")],
    reply: Shape::Bulk,
    example: "> SCRIPT LOAD \"return 1\"\n\"e0e1f9fabfc9d4800c877a703b823ac0578ff8db\"\n\
              > SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db\n\"return 1\"",
    run: show,
    ..OWN
};

fn show(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = args.bytes();
    args.done()?;
    let script = cx.server.scripting.cache.named(name);
    let script = script.ok_or(CommandError::Fixed("NOSCRIPT No matching script."))?;
    cx.reply.bulk(&script.body);
    Ok(())
}

static DEBUG: Command = Command {
    name: "debug",
    since: "3.2.0",
    summary: "Says whether the scripts of this connection run in the debugger.",
    arity: Arity::exactly(3),
    args: &[Arg::one_of(
        "mode",
        &[Arg::flag("yes", "YES"), Arg::flag("sync", "SYNC"), Arg::flag("no", "NO")],
    )],
    reply: Shape::Ok,
    example: "> SCRIPT DEBUG NO\nOK",
    run: debug,
    ..OWN
};

fn debug(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    // Whoever debugs talks with a script: what is still on its way would be taken for its answers.
    if !cx.reply.buffer().is_empty() {
        return Err(CommandError::Fixed("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    let modes = [("no", DebugMode::Off), ("yes", DebugMode::Aside), ("sync", DebugMode::Sync)];
    let found = modes.into_iter().find(|(name, _)| args.option(name));
    let Some((_, mode)) = found else {
        return Err(CommandError::Fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"));
    };
    cx.session_mut().debug_mode = mode;
    cx.reply.ok();
    Ok(())
}
