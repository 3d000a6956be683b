//! The command line: what the program is asked to do.
//!
//! The first argument decides: `--version`, `--help` and the two checks are read by clap, which
//! also prints the help. Whatever else it begins with is for a server: a file, `-`, and directives
//! of redis.conf with any number of values each. That is a grammar of Redis's own, in which values
//! may begin with dashes, and [`crate::config`] reads it; clap only learns to leave it alone.

use crate::net::healthcheck;
use crate::persist::aof::check::Repair;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const CHECK_AOF: &str = "--check-aof";
const CHECK_RDB: &str = "--check-rdb";

/// What the program is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    TellVersion,
    Help(String),
    CheckAof {
        path: PathBuf,
        repair: Repair,
    },
    CheckRdb(PathBuf),
    /// To say what is wrong with the words of one of the checks.
    Complain(Complaint),
    /// To ask a running server how it is.
    CheckHealth(Vec<OsString>),
    /// To serve, as these words configure it.
    Serve(Vec<Vec<u8>>),
    /// To watch over servers, as these words configure it.
    Watch(Vec<Vec<u8>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    AofUsage,
    AofTimestamp,
    RdbUsage,
}

/// What makes a server a Sentinel.
const SENTINEL: &str = "--sentinel";

/// Reads the words of the command line, the program's name first: under the names of Redis's
/// checks it is that check, and under one that ends in `-sentinel` a Sentinel, so links under these
/// names do.
pub fn read(mut words: Vec<OsString>) -> Task {
    let name = words.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    let is_sentinel = name.is_some_and(|name| name.ends_with("-sentinel"));
    match name {
        Some("redis-check-aof") => words.insert(1, CHECK_AOF.into()),
        Some("redis-check-rdb") => words.insert(1, CHECK_RDB.into()),
        _ => {}
    }
    let first = words.get(1).cloned().unwrap_or_default();
    match &command().try_get_matches_from(&words) {
        Ok(found) if found.get_flag("version") => Task::TellVersion,
        Ok(found) if found.get_flag("help") => Task::Help(command().render_help().to_string()),
        Ok(found) if let Some((check, found)) = found.subcommand() => task_of_check(check, found),
        Err(error) if first == CHECK_AOF => Task::Complain(complaint_of(error)),
        Err(_) if first == CHECK_RDB => Task::Complain(Complaint::RdbUsage),
        // ORDER: what no clap reads is no fault yet; the lines of the configuration tell those.
        _ => task_of_server(words.split_off(1.min(words.len())), is_sentinel),
    }
}

/// What a check of files is asked for.
fn task_of_check(name: &str, found: &ArgMatches) -> Task {
    let path: PathBuf = found.get_one("FILE").cloned().expect("clap requires it");
    if name == CHECK_RDB {
        return Task::CheckRdb(path);
    }
    let time = found.get_one("truncate-to-timestamp").map(|seconds| Repair::TruncateTo(*seconds));
    let fix = found.get_flag("fix").then_some(Repair::Fix);
    Task::CheckAof { path, repair: time.or(fix).unwrap_or(Repair::None) }
}

fn complaint_of(error: &clap::Error) -> Complaint {
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Complaint::AofTimestamp,
        _ => Complaint::AofUsage,
    }
}

fn task_of_server(mut words: Vec<OsString>, is_sentinel: bool) -> Task {
    if words.iter().any(|word| word == healthcheck::OPTION) {
        words.extend(is_sentinel.then(|| SENTINEL.into()));
        return Task::CheckHealth(words);
    }
    let option = words.iter().position(|word| word == SENTINEL);
    if let Some(at) = option {
        // With values it is a line of the configuration, as any other directive.
        let next = words.get(at + 1).map(|word| word.as_encoded_bytes());
        if at == 0 || next.is_none_or(|next| next.starts_with(b"--")) {
            words.remove(at);
        }
    }
    let is_sentinel = is_sentinel || option.is_some();
    let words = words.into_iter().map(OsString::into_vec).collect();
    if is_sentinel { Task::Watch(words) } else { Task::Serve(words) }
}

fn command() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("rufous-server")
        .about("A Redis-compatible in-memory data structure server")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .override_usage("rufous-server [FILE] [--DIRECTIVE VALUE ...] [-]")
        .arg(
            Arg::new("FILE")
                .help("A redis.conf file")
                .value_parser(value_parser!(OsString))
                .num_args(0..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true),
        )
        .arg(
            Arg::new("DIRECTIVE")
                .long("DIRECTIVE")
                .help("Any directive of redis.conf, with its values; overrules the file"),
        )
        .arg(flag("healthcheck").help(
            "Exits with 0 if a server answers PONG at --host, --port or --unixsocket (with --pass \
             or REDISCLI_AUTH, and --user, or as the FILE says; by --tls with --cacert, \
             --cacertdir, --cert, --key, --insecure), with 1 if not",
        ))
        .arg(flag("sentinel").help(
            "Watches over the servers that FILE names, and fails them over; the same under a name \
             that ends in -sentinel",
        ))
        .arg(flag("version").short('v').help("Prints the version"))
        .arg(flag("help").short('h').help("Prints this"))
        .subcommand(check_aof())
        .subcommand(check_rdb())
        .after_help("A lone - reads configuration lines from standard input.")
}

fn check_aof() -> Command {
    Command::new(CHECK_AOF)
        .about("Checks an append-only file, or all that a manifest lists, and ends")
        .disable_help_flag(true)
        .arg(Arg::new("fix").long("fix").action(ArgAction::SetTrue))
        .arg(
            Arg::new("truncate-to-timestamp")
                .long("truncate-to-timestamp")
                .value_parser(value_parser!(u64))
                .allow_hyphen_values(true)
                .conflicts_with("fix"),
        )
        .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)))
}

fn check_rdb() -> Command {
    let file = Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf));
    Command::new(CHECK_RDB)
        .about("Checks a snapshot file and ends")
        .disable_help_flag(true)
        .arg(file.allow_hyphen_values(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Task {
        read(line.split(' ').map(OsString::from).collect())
    }

    fn serve(line: &str) -> Task {
        Task::Serve(line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect())
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_first_word_decides() {
        assert_eq!(task("r -v"), Task::TellVersion);
        assert_eq!(task("r --version --port 1"), Task::TellVersion);
        assert!(matches!(task("r -h"), Task::Help(_)));
        assert_eq!(task("r"), serve(""));
        for line in [
            "a.conf --version",
            "--port --help",
            "--port --check-aof f",
            "--port 1 --fix",
            "- --port 1 -",
            "-- a.conf",
            "-x",
            "--versions",
            "--version=1",
            "check-aof f",
            "a.conf --save --hz 9 -",
        ] {
            assert_eq!(task(&format!("r {line}")), serve(line), "{line}");
        }
    }

    #[test]
    fn a_sentinel_is_asked_for_by_option_or_by_name() {
        let watch = |line: &str| {
            Task::Watch(line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect())
        };
        for (line, words) in [
            ("r --sentinel a.conf", "a.conf"),
            ("r a.conf --sentinel", "a.conf"),
            ("r a.conf --sentinel --port 1", "a.conf --port 1"),
            ("r a.conf --sentinel myid x", "a.conf --sentinel myid x"),
            ("/bin/redis-sentinel a.conf", "a.conf"),
            ("valkey-sentinel a.conf --port 1", "a.conf --port 1"),
            ("redis-sentinel", ""),
        ] {
            assert_eq!(task(line), watch(words), "{line}");
        }
        assert_eq!(task("redis-sentinel --version"), Task::TellVersion);
        let words = ["--healthcheck", "--sentinel"].map(OsString::from).into();
        assert_eq!(task("redis-sentinel --healthcheck"), Task::CheckHealth(words));
        assert_eq!(task("/redis-sentinel/redis-server a.conf"), serve("a.conf"));
    }

    #[test]
    fn checks_are_asked_for_by_option_or_by_name() {
        let aof = |repair| Task::CheckAof { path: "f".into(), repair };
        for (line, repair) in [
            ("r --check-aof f", Repair::None),
            ("r --check-aof f --fix", Repair::Fix),
            ("/bin/redis-check-aof --fix f", Repair::Fix),
            ("redis-check-aof --truncate-to-timestamp 17 f", Repair::TruncateTo(17)),
        ] {
            assert_eq!(task(line), aof(repair), "{line}");
        }
        assert_eq!(task("r --check-rdb --x"), Task::CheckRdb("--x".into()));
        assert_eq!(task("/bin/redis-check-rdb f"), Task::CheckRdb("f".into()));
    }

    #[test]
    fn checks_complain_in_the_words_of_theirs() {
        for (line, complaint) in [
            ("r --check-aof", Complaint::AofUsage),
            ("r --check-aof f g", Complaint::AofUsage),
            ("r --check-aof --fix --fix f", Complaint::AofUsage),
            ("r --check-aof --fix --truncate-to-timestamp 1 f", Complaint::AofUsage),
            ("r --check-aof --help", Complaint::AofUsage),
            ("r --check-aof --truncate-to-timestamp x f", Complaint::AofTimestamp),
            ("r --check-aof --truncate-to-timestamp -1 f", Complaint::AofTimestamp),
            ("r --check-aof f --truncate-to-timestamp", Complaint::AofTimestamp),
            ("r --check-rdb", Complaint::RdbUsage),
            ("redis-check-rdb f g", Complaint::RdbUsage),
        ] {
            assert_eq!(task(line), Task::Complain(complaint), "{line}");
        }
    }

    #[test]
    fn a_check_of_health_is_asked_for_anywhere() {
        for line in ["--healthcheck", "a.conf --healthcheck", "--port 1 --healthcheck"] {
            let words = line.split(' ').map(OsString::from).collect();
            assert_eq!(task(&format!("r {line}")), Task::CheckHealth(words), "{line}");
        }
    }
}
