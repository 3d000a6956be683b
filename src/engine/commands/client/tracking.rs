//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: what a client that caches wants to be told.

use super::COMMON;
use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, Shape,
};
use crate::engine::tracking::{Interest, Mode};
use crate::engine::{ClientId, Cx};
use std::collections::BTreeSet;

const FLAGS: Flags = COMMON;

pub(super) static TRACKING: Command = Command {
    name: "tracking",
    since: "6.0.0",
    group: Group::Connection,
    summary: "Turns on or off that the connection is told when keys it may have cached change.",
    complexity: "O(N) with N prefixes",
    arity: Arity::at_least(3),
    flags: FLAGS,
    acl: Categories::CONNECTION,
    args: &[
        Arg::one_of("status", &[Arg::flag("on", "ON"), Arg::flag("off", "OFF")]),
        Arg::integer("client-id").token("REDIRECT").optional(),
        Arg::string("prefix").token("PREFIX").optional().multiple_token(),
        Arg::flag("bcast", "BCAST").optional(),
        Arg::flag("optin", "OPTIN").optional(),
        Arg::flag("optout", "OPTOUT").optional(),
        Arg::flag("noloop", "NOLOOP").optional(),
    ],
    reply: Shape::Ok,
    example: "> CLIENT TRACKING ON BCAST PREFIX user:\nOK\n> CLIENT TRACKING OFF\nOK",
    run: tracking,
    ..Command::BASE
};

#[derive(Default)]
struct Options<'a> {
    redirect: Option<ClientId>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

fn options<'a>(cx: &Cx<'_>, args: &mut Args<'a>) -> Result<Options<'a>, CommandError> {
    let mut options = Options::default();
    while !args.is_empty() {
        if args.option_with_value("redirect") {
            if options.redirect.is_some() {
                let text = "ERR A client can only redirect to a single other client";
                return Err(CommandError::Fixed(text));
            }
            let number = args.integer();
            args.check()?;
            let found = u64::try_from(number).ok().and_then(|n| cx.clients.by_number(n));
            let text = "ERR The client ID you want redirect to does not exist";
            let found = found.filter(|session| !session.is_leaving);
            options.redirect = Some(found.ok_or(CommandError::Fixed(text))?.id);
        } else if args.option("bcast") {
            options.broadcast = true;
        } else if args.option("optin") {
            options.opt_in = true;
        } else if args.option("optout") {
            options.opt_out = true;
        } else if args.option("noloop") {
            options.no_loop = true;
        } else if args.option_with_value("prefix") {
            options.prefixes.push(args.bytes());
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(options)
}

fn tracking(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let status = args.bytes();
    let options = options(cx, args)?;
    if status.eq_ignore_ascii_case(b"off") {
        let session = cx.clients.get_mut(cx.client).expect("the running client is connected");
        cx.server.tracking.stop(session);
        cx.reply.ok();
        return Ok(());
    }
    if !status.eq_ignore_ascii_case(b"on") {
        return Err(CommandError::Syntax);
    }
    let known = cx.session().tracking.as_deref();
    let mode = mode(&options, known.map(|interest| interest.mode))?;
    check_overlaps(&options.prefixes, known.map(|interest| &interest.prefixes))?;
    let mut prefixes: BTreeSet<Box<[u8]>> = options.prefixes.into_iter().map(Into::into).collect();
    if mode == Mode::Broadcast && prefixes.is_empty() {
        prefixes.insert(Box::default());
    }
    // To be told that a key has changed is to read of it.
    for prefix in &prefixes {
        cx.may_follow(prefix)?;
    }
    let interest = Interest {
        mode,
        redirect: options.redirect,
        is_redirect_broken: false,
        skips_own: options.no_loop,
        is_caching_given: false,
        prefixes,
    };
    let session = cx.clients.get_mut(cx.client).expect("the running client is connected");
    cx.server.tracking.start(session, interest);
    cx.keys.space().changes.observers.touched_keys = true;
    cx.reply.ok();
    Ok(())
}

/// The mode that the options ask for, if they fit each other and the present mode.
fn mode(options: &Options<'_>, known: Option<Mode>) -> Result<Mode, CommandError> {
    let refuse = |text| Err(CommandError::Fixed(text));
    if !options.broadcast && !options.prefixes.is_empty() {
        return refuse("ERR PREFIX option requires BCAST mode to be enabled");
    }
    // What is remembered for the client differs by mode: keys that it has read, or prefixes.
    if known.is_some_and(|mode| (mode == Mode::Broadcast) != options.broadcast) {
        return refuse(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
             and then re-enabling it with a different mode.",
        );
    }
    if options.broadcast && (options.opt_in || options.opt_out) {
        return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
    }
    if options.opt_in && options.opt_out {
        return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
    }
    let switches = (options.opt_in && known == Some(Mode::OptOut))
        || (options.opt_out && known == Some(Mode::OptIn));
    if switches {
        return refuse(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
             and then re-enabling it with a different mode.",
        );
    }
    Ok(match options {
        Options { broadcast: true, .. } => Mode::Broadcast,
        Options { opt_in: true, .. } => Mode::OptIn,
        Options { opt_out: true, .. } => Mode::OptOut,
        _ => Mode::Read,
    })
}

/// No key may have two of a client's prefixes.
fn check_overlaps(given: &[&[u8]], known: Option<&BTreeSet<Box<[u8]>>>) -> CommandResult {
    let overlap = |a: &[u8], kind: &str, b: &[u8]| {
        let text = [
            b"ERR Prefix '",
            a,
            b"' overlaps with ",
            kind.as_bytes(),
            b" prefix '",
            b,
            b"'. Prefixes for a single client must not overlap.",
        ];
        Err(CommandError::Bytes(text.concat().into_boxed_slice()))
    };
    // Else one change would be told twice to the same client.
    let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (place, prefix) in given.iter().enumerate() {
        if let Some(other) = known.into_iter().flatten().find(|other| overlaps(prefix, other)) {
            return overlap(prefix, "an existing", other);
        }
        if let Some(other) = given[place + 1..].iter().find(|other| overlaps(prefix, other)) {
            return overlap(prefix, "another provided", other);
        }
    }
    Ok(())
}

pub(super) static CACHING: Command = Command {
    name: "caching",
    since: "6.0.0",
    group: Group::Connection,
    summary: "Says whether the keys read by the next command are cached.",
    arity: Arity::exactly(3),
    flags: FLAGS,
    acl: Categories::CONNECTION,
    args: &[Arg::one_of("mode", &[Arg::flag("yes", "YES"), Arg::flag("no", "NO")])],
    reply: Shape::Ok,
    example: "> CLIENT TRACKING ON OPTIN\nOK\n> CLIENT CACHING YES\nOK",
    run: caching,
    ..Command::BASE
};

fn caching(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let Some(interest) = cx.session_mut().tracking.as_deref_mut() else {
        return Err(CommandError::Fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ));
    };
    if args.option("yes") {
        if interest.mode != Mode::OptIn {
            return Err(CommandError::Fixed(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if args.option("no") {
        if interest.mode != Mode::OptOut {
            return Err(CommandError::Fixed(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(CommandError::Syntax);
    }
    interest.is_caching_given = true;
    cx.reply.ok();
    Ok(())
}

pub(super) static GETREDIR: Command = Command {
    name: "getredir",
    since: "6.0.0",
    group: Group::Connection,
    summary: "Returns the id of the connection that is told of changed keys instead of this one.",
    arity: Arity::exactly(2),
    flags: FLAGS,
    acl: Categories::CONNECTION,
    reply: Shape::Integer,
    example: "> CLIENT GETREDIR\n(integer) -1\n> CLIENT TRACKING ON\nOK\n\
              > CLIENT GETREDIR\n(integer) 0",
    run: getredir,
    ..Command::BASE
};

fn getredir(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let redirect = cx.session().redirect_number();
    cx.reply.integer(redirect);
    Ok(())
}

pub(super) static TRACKINGINFO: Command = Command {
    name: "trackinginfo",
    since: "6.2.0",
    group: Group::Connection,
    summary: "Returns what the connection is told of changed keys.",
    arity: Arity::exactly(2),
    flags: FLAGS,
    acl: Categories::CONNECTION,
    reply: Shape::Map,
    example: "> CLIENT TRACKINGINFO\n1) \"flags\"\n2) 1) \"off\"\n3) \"redirect\"\n\
              4) (integer) -1\n5) \"prefixes\"\n6) (empty array)",
    run: trackinginfo,
    ..Command::BASE
};

fn trackinginfo(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    args.done()?;
    let session = cx.clients.get(cx.client).expect("the running client is connected");
    let interest = session.tracking.as_deref();
    let reply = &mut cx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    let flags = interest.map_or_else(|| vec!["off"], flags);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(session.redirect_number());
    reply.bulk(b"prefixes");
    let prefixes = interest.map(|interest| &interest.prefixes);
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

fn flags(interest: &Interest) -> Vec<&'static str> {
    let mut flags = vec!["on"];
    match interest.mode {
        Mode::Read => {}
        Mode::Broadcast => flags.push("bcast"),
        Mode::OptIn => flags.push("optin"),
        Mode::OptOut => flags.push("optout"),
    }
    match interest.mode {
        Mode::OptIn if interest.is_caching_given => flags.push("caching-yes"),
        Mode::OptOut if interest.is_caching_given => flags.push("caching-no"),
        _ => {}
    }
    if interest.skips_own {
        flags.push("noloop");
    }
    if interest.is_redirect_broken {
        flags.push("broken_redirect");
    }
    flags
}
