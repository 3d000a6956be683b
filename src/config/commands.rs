//! CONFIG: reading, changing and writing back the configuration of a running server.

use super::{Apply, Changed, Config, Directive, Extent, SetBy, SetError, os_reason};
use crate::command::{
    Arg, Args, Arity, Command, CommandError, CommandResult, Flags, Group, Shape, help,
};
use crate::engine::Core;
use crate::engine::{Cx, Effect, Server, eviction};
use crate::resp::Request;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

pub static COMMANDS: &[&Command] = &[&CONFIG];

const COMMON: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE);

static CONFIG: Command = Command {
    name: "config",
    since: "2.0.0",
    group: Group::Server,
    summary: "Holds the commands about the configuration.",
    complexity: "Depends on the subcommand",
    arity: Arity::at_least(2),
    subcommands: &[&GET, &HELP, &RESETSTAT, &REWRITE, &SET],
    ..Command::BASE
};

static HELP: Command = Command {
    name: "help",
    since: "5.0.0",
    group: Group::Server,
    summary: "Lists the subcommands.",
    arity: Arity::exactly(2),
    flags: Flags::LOADING.or(Flags::STALE),
    reply: Shape::Array,
    run: help::subcommands,
    ..Command::BASE
};

static GET: Command = Command {
    name: "get",
    since: "2.0.0",
    group: Group::Server,
    summary: "Returns the directives whose names match, with their values.",
    complexity: "O(N) with N directives",
    arity: Arity::at_least(3),
    flags: COMMON,
    history: &[("7.0.0", "Took several patterns.")],
    args: &[Arg::string("parameter").multiple()],
    reply: Shape::Map,
    example: "> CONFIG GET maxclients\n1) \"maxclients\"\n2) \"10000\"",
    run: get,
    ..Command::BASE
};

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut patterns = Vec::new();
    while !args.is_empty() {
        patterns.push(args.bytes());
    }
    let found = cx.server.config.matching(&patterns);
    cx.reply.map(found.len());
    for (name, value) in found {
        cx.reply.bulk(&name);
        cx.reply.bulk(&value);
    }
    Ok(())
}

static SET: Command = Command {
    name: "set",
    since: "2.0.0",
    group: Group::Server,
    summary: "Changes directives, all of those named or none.",
    complexity: "O(N) with N directives named",
    arity: Arity::at_least(4),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    history: &[("7.0.0", "Took several directives.")],
    secrets: is_sensitive_value,
    args: &[Arg::block("data", &[Arg::string("parameter"), Arg::string("value")]).multiple()],
    reply: Shape::Ok,
    example: "> CONFIG SET maxclients 500 timeout 10\nOK\n\
              > CONFIG GET timeout\n1) \"timeout\"\n2) \"10\"",
    run: set,
    ..Command::BASE
};

/// The value behind the name of a directive that is a secret.
fn is_sensitive_value(request: &Request<'_>, place: usize) -> bool {
    let is_sensitive = |name: &[u8]| Directive::find(name).is_some_and(Directive::is_sensitive);
    place > 2 && place % 2 == 1 && is_sensitive(request.arg(place - 1))
}

fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.remaining() % 2 == 1 {
        return Err(CommandError::Syntax);
    }
    let mut pairs = Vec::with_capacity(args.remaining() / 2);
    while !args.is_empty() {
        pairs.push((args.bytes(), args.bytes()));
    }
    let loading = cx.server.loading.is_some() || cx.server.is_loading_aside();
    let by = SetBy { loading, local: cx.session().peer.is_local };
    let changed = cx.server.config.set(&pairs, by).map_err(|error| wire(&error))?;
    apply(cx, changed)
}

fn wire(error: &SetError) -> CommandError {
    CommandError::Bytes(error.to_wire().into_boxed_slice())
}

/// Follows a change. What can fail is done first; if it does, everything goes back.
fn apply(cx: &mut Cx<'_>, changed: Changed) -> CommandResult {
    let Changed { directives, previous } = changed;
    let mut acts: Vec<Apply> = directives.iter().map(|directive| directive.apply).collect();
    acts.sort_unstable();
    acts.dedup();
    for directive in &directives {
        if let Err(reason) = try_out(cx, directive) {
            take_back(&mut cx.core(), previous, &acts);
            return Err(wire(&SetError::not_applied(directive, reason)));
        }
    }
    cx.server.follow_config(cx.keys.space());
    if directives.iter().any(|directive| is_for_driver(directive, &cx.server.config)) {
        // Sockets and certificates belong to the driver, which may fail: the other acts wait for
        // it.
        cx.answer_by_listening(directives, previous, acts);
        return Ok(());
    }
    let may_begin = !cx.caller.is_within_transaction();
    follow(&mut cx.core(), &acts, may_begin);
    cx.reply.ok();
    Ok(())
}

/// Whether the driver has to follow the change of a directive. As long as TLS is not spoken, what
/// it would be spoken with is only kept.
fn is_for_driver(directive: &Directive, config: &Config) -> bool {
    match directive.apply {
        Apply::Listen => true,
        Apply::Tls => config.uses_tls(),
        _ => false,
    }
}

/// Goes back to what there was before a change of which some part is not possible.
pub fn take_back(core: &mut Core<'_>, previous: Config, acts: &[Apply]) {
    core.server.config = previous;
    if acts.contains(&Apply::Directory) {
        // If this fails the directory that was left is gone, with all there was to go back to.
        let _ = (core.server.parts.change_directory)(core.server.config.dir.0.as_path());
    }
    core.server.release_unused_aof();
    core.server.follow_config(core.space);
}

/// Does what follows from a change that holds; `may_begin` says whether the dataset may be
/// photographed at once.
pub fn follow(core: &mut Core<'_>, acts: &[Apply], may_begin: bool) {
    for act in acts {
        match act {
            // There is nothing to do, or it was done when it was tried, or the driver does it.
            Apply::Nothing | Apply::Directory | Apply::Clients | Apply::Tls | Apply::Listen => {}
            Apply::Log => core.server.effects.push(Effect::Log),
            Apply::Password => core.follow_requirepass(),
            Apply::MaxMemory => eviction::follow_limit(core.space, core.clients, core.server),
            Apply::AofHistory => core.server.drop_history(),
            Apply::AppendOnly => core.server.switch_aof(core.space, may_begin),
        }
    }
}

/// Does what the system may refuse.
fn try_out(cx: &mut Cx<'_>, directive: &Directive) -> Result<(), String> {
    let may_answer_late = cx.caller.may_answer_late();
    if directive.apply == Apply::AppendOnly && cx.server.config.appendonly && !cx.server.claim_aof()
    {
        return Err("Unable to turn on AOF. Check server logs.".to_owned());
    }
    if directive.apply == Apply::Directory && !cx.server.may_leave_directory() {
        return Err("The append only file is in use: switch it off first".to_owned());
    }
    let Server { config, parts, .. } = &mut *cx.server;
    match directive.apply {
        Apply::Directory => {
            let now = (parts.change_directory)(config.dir.0.as_path());
            config.dir.0 = now.map_err(|error| os_reason(&error))?.as_path().into();
        }
        Apply::Clients => {
            let room = (parts.room_for_clients)(
                config.maxclients,
                config.io_threads.resolve(parts.processors),
            );
            if room < config.maxclients {
                return Err(format!(
                    "The operating system is not able to handle the specified number of clients, \
                     try with {room}"
                ));
            }
        }
        // The sockets are opened by the driver, when the commands of a transaction are over.
        Apply::Listen if !may_answer_late => {
            return Err("Listening addresses cannot be changed inside a transaction".to_owned());
        }
        Apply::Tls if !may_answer_late && config.uses_tls() => {
            return Err("TLS cannot be configured inside a transaction".to_owned());
        }
        Apply::Nothing
        | Apply::Tls
        | Apply::Listen
        | Apply::Log
        | Apply::Password
        | Apply::MaxMemory
        | Apply::AofHistory
        | Apply::AppendOnly => {}
    }
    Ok(())
}

/// What a client is told when the driver could not follow a change: the new addresses could not be
/// opened, or TLS cannot be spoken like that.
pub fn driver_failure(directives: &[&'static Directive], failed: Apply) -> CommandError {
    let of = |apply: Apply| directives.iter().find(|directive| directive.apply == apply);
    // A port for TLS that is opened needs certificates which may have been set long before.
    let directive = of(failed).or_else(|| of(Apply::Listen)).expect("one of them asked for it");
    let reason = match (failed, directive.name) {
        (Apply::Tls, _) => "Unable to update TLS configuration. Check server logs.",
        (_, "bind") => "Failed to bind to specified addresses.",
        _ => "Unable to listen on this port. Check server logs.",
    };
    wire(&SetError::not_applied(directive, reason))
}

static RESETSTAT: Command = Command {
    name: "resetstat",
    since: "2.0.0",
    group: Group::Server,
    summary: "Sets the counters of INFO back.",
    arity: Arity::exactly(2),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    reply: Shape::Ok,
    example: "> CONFIG RESETSTAT\nOK",
    run: resetstat,
    ..Command::BASE
};

fn resetstat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    cx.server.reset_stats();
    cx.keys.space().stats = Default::default();
    cx.reply.ok();
    Ok(())
}

static REWRITE: Command = Command {
    name: "rewrite",
    since: "2.8.0",
    group: Group::Server,
    summary: "Writes the configuration back into its file.",
    arity: Arity::exactly(2),
    flags: COMMON,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    reply: Shape::Ok,
    example: "> CONFIG REWRITE\n(error) ERR The server is running without a config file",
    run: rewrite,
    ..Command::BASE
};

fn rewrite(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    rewrite_file_of(cx, args, Extent::Changed)
}

/// Writes the running configuration back; DEBUG does it to the full extent.
pub fn rewrite_file_of(cx: &mut Cx<'_>, args: &mut Args<'_>, extent: Extent) -> CommandResult {
    args.done()?;
    let Some(path) = cx.server.parts.config_path.clone() else {
        return Err(CommandError::Fixed("ERR The server is running without a config file"));
    };
    let config = cx.server.config.clone();
    let users = cx.server.user_lines();
    let rewrite = move |old: &[u8]| config.rewrite(old, Some(&users), extent);
    cx.answer_by(move |reply| match rewrite_file(&path, rewrite) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            reply.ok();
            Ok(())
        }
        Err(error) => {
            let reason = os_reason(&error);
            tracing::warn!("CONFIG REWRITE failed: {reason}");
            Err(CommandError::err(format_args!("Rewriting config file: {reason}")))
        }
    })
}

/// Replaces the file at once: whoever reads it sees the old text or the new one.
pub fn rewrite_file(path: &Path, rewrite: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let old = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let text = rewrite(&old);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory.join(name);
    let written =
        write_and_rename(&text, &temporary, path).and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(text: &[u8], temporary: &Path, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    if let Ok(metadata) = fs::metadata(path) {
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
