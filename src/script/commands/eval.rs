//! EVAL and its kin.

use crate::command::{
    Arg, Args, Arity, Categories, Command, CommandError, CommandResult, Flags, Group, KeyFlags,
    KeySpec, Traits,
};
use crate::engine::Cx;
use crate::engine::scripting::{KeptScript, Kind, Name, Start};
use crate::script::cache;

const READS: Flags =
    Flags::NOSCRIPT.or(Flags::SKIP_MONITOR).or(Flags::NO_MANDATORY_KEYS).or(Flags::STALE);
const WRITES: Flags = READS.or(Flags::MAY_REPLICATE);
const KEYS: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);
const KEYS_RO: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const REST: [Arg; 3] = [
    Arg::integer("numkeys"),
    Arg::key("key").multiple().optional(),
    Arg::string("arg").multiple().optional(),
];

pub(super) static EVAL: Command = Command {
    name: "eval",
    since: "2.6.0",
    group: Group::Scripting,
    summary: "Runs a script.",
    complexity: "That of the script",
    arity: Arity::at_least(3),
    flags: WRITES,
    traits: Traits::RUNS_A_SCRIPT,
    acl: Categories::SCRIPTING,
    keys: &[KeySpec::counted(2, KEYS)],
    args: &[Arg::string("script"), REST[0], REST[1], REST[2]],
    example: "> EVAL \"return {KEYS[1], ARGV[1]}\" 1 k v\n1) \"k\"\n2) \"v\"",
    run: eval,
    ..Command::BASE
};

pub(super) static EVAL_RO: Command = Command {
    name: "eval_ro",
    since: "7.0.0",
    summary: "Runs a script that may write nothing.",
    flags: READS.or(Flags::READONLY),
    keys: &[KeySpec::counted(2, KEYS_RO)],
    example: "> EVAL_RO \"return redis.call('get', KEYS[1])\" 1 k\n(nil)",
    run: eval_ro,
    ..EVAL
};

pub(super) static EVALSHA: Command = Command {
    name: "evalsha",
    summary: "Runs the script of this SHA1 digest.",
    traits: Traits::RUNS_A_SCRIPT.or(Traits::NAMES_A_DIGEST),
    args: &[Arg::string("sha1"), REST[0], REST[1], REST[2]],
    example: "> SCRIPT LOAD \"return 1\"\n\"e0e1f9fabfc9d4800c877a703b823ac0578ff8db\"\n\
              > EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0\n(integer) 1",
    run: evalsha,
    ..EVAL
};

pub(super) static EVALSHA_RO: Command = Command {
    name: "evalsha_ro",
    since: "7.0.0",
    summary: "Runs the script of this SHA1 digest, which may write nothing.",
    flags: READS.or(Flags::READONLY),
    keys: &[KeySpec::counted(2, KEYS_RO)],
    run: evalsha_ro,
    ..EVALSHA
};

// Each is shown to those who watch before what it runs.

fn eval(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&EVAL, &args.request());
    run_body(cx, args, false)
}

fn eval_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&EVAL_RO, &args.request());
    run_body(cx, args, true)
}

fn evalsha(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&EVALSHA, &args.request());
    run_digest(cx, args, false)
}

fn evalsha_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.show_before(&EVALSHA_RO, &args.request());
    run_digest(cx, args, true)
}

fn run_body(cx: &mut Cx<'_>, args: &mut Args<'_>, is_read_only: bool) -> CommandResult {
    if !cx.is_debugged() {
        return start_body(cx, args, is_read_only);
    }
    cx.begin_debugging()?;
    if let Err(error) = start_body(cx, args, is_read_only) {
        cx.fail_debugging(error);
    }
    Ok(())
}

fn start_body(cx: &mut Cx<'_>, args: &mut Args<'_>, is_read_only: bool) -> CommandResult {
    let body = args.bytes();
    let keys = number_of_keys(args, CommandError::NotInteger)?;
    let script = cx.script_of(body, false)?;
    start(cx, args, &script, keys, is_read_only)
}

fn run_digest(cx: &mut Cx<'_>, args: &mut Args<'_>, is_read_only: bool) -> CommandResult {
    const UNKNOWN: CommandError =
        CommandError::Fixed("NOSCRIPT No matching script. Please use EVAL.");
    let word = args.bytes();
    if word.len() != cache::NAME_LEN {
        return Err(UNKNOWN);
    }
    if cx.is_debugged() {
        return Err(CommandError::Fixed("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    let keys = number_of_keys(args, CommandError::NotInteger)?;
    let script = cx.server.scripting.cache.run(word).ok_or(UNKNOWN)?;
    start(cx, args, &script, keys, is_read_only)
}

fn start(
    cx: &mut Cx<'_>,
    args: &Args<'_>,
    script: &KeptScript,
    keys: usize,
    is_read_only: bool,
) -> CommandResult {
    let start = Start {
        kind: Kind::Script,
        name: Name::Digest(script.digest),
        declared: script.compiled.declared,
        is_read_only,
    };
    cx.start_script(start, script, keys, args)
}

/// How many of the arguments behind it are keys.
pub(super) fn number_of_keys(
    args: &mut Args<'_>,
    not_a_number: CommandError,
) -> Result<usize, CommandError> {
    const TOO_MANY: CommandError =
        CommandError::Fixed("ERR Number of keys can't be greater than number of args");
    const NEGATIVE: CommandError = CommandError::Fixed("ERR Number of keys can't be negative");
    let count = args.integer_or(not_a_number);
    args.check()?;
    let count = usize::try_from(count).map_err(|_| NEGATIVE)?;
    if count > args.remaining() { Err(TOO_MANY) } else { Ok(count) }
}
