//! `rufous-server --healthcheck`: asks a running server how it is, for containers and supervisors.
//!
//! The answer is the exit code, so no shell has to compare texts: redis-cli exits with 0 for error
//! replies too, and a check by `redis-cli ping` passes while the server loads or wants a password.
//! A server is well when it answers PONG in time; one that loads answers an error instead. Plain
//! blocking sockets do for one question, so no runtime is started.

use super::tls::blocking;
use super::tls::settings::Outgoing;
use crate::config::{self, Config, Mode};
use clap::{Arg, ArgAction, Command, value_parser};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The word that asks for the check, at any place of the command line.
pub const OPTION: &str = "--healthcheck";

/// How long connecting may take, and how long answering.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An answer is two short lines; whoever sends more is no such server.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    socket: Option<String>,
    /// Who asks, if not the default user.
    user: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    /// By what TLS is spoken, if it is.
    tls: Option<Outgoing>,
}

/// Runs the check that a command line asks for; the error is one line that says what is wrong.
pub fn run(words: &[OsString], password_of_environment: Option<Vec<u8>>) -> Result<(), String> {
    let target = target(words, password_of_environment)?;
    match &target.socket {
        Some(path) => {
            let stream = UnixStream::connect(path).map_err(|error| unreachable_by(path, &error))?;
            let deadline = |left| {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            };
            ask(&target, &stream, deadline)
        }
        None => {
            let stream = connect(&target.host, target.port)?;
            let deadline = |left| {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            };
            match &target.tls {
                None => ask(&target, &stream, deadline),
                Some(outgoing) => ask(&target, blocking::connect(&stream, outgoing)?, deadline),
            }
        }
    }
}

/// A file, if one is named, then options that overrule it.
fn target(words: &[OsString], password: Option<Vec<u8>>) -> Result<Target, String> {
    let found = command().try_get_matches_from(words).map_err(|error| one_line(&error))?;
    let text = |name: &str| found.get_one::<String>(name).cloned();
    let bytes = |name: &str| found.get_one::<OsString>(name).map(|word| word.as_bytes().to_vec());
    let file: Vec<Vec<u8>> = bytes("FILE").into_iter().collect();
    let mode = if found.get_count("sentinel") > 0 { Mode::Sentinel } else { Mode::Server };
    let loaded = config::load_as(mode, &file, &mut config::Disk::default())
        .map_err(|error| error.to_string())?;
    let mut target = Target::of_config(&loaded.config);
    let mut outgoing = target.tls.take();
    if found.get_flag("tls") {
        outgoing.get_or_insert_with(|| Outgoing::of(&loaded.config));
        target.port = Some(loaded.config.tls_port).filter(|port| *port != 0).unwrap_or(target.port);
    }
    if let Some(outgoing) = &mut outgoing {
        let path = |name: &str| found.get_one::<OsString>(name).map(PathBuf::from);
        outgoing.ca_file = path("cacert").or(outgoing.ca_file.take());
        outgoing.ca_directory = path("cacertdir").or(outgoing.ca_directory.take());
        outgoing.certificate = path("cert").or(outgoing.certificate.take());
        outgoing.key = path("key").or(outgoing.key.take());
        outgoing.is_insecure = found.get_flag("insecure");
    }
    target.tls = outgoing;
    target.user = bytes("user");
    target.password = bytes("pass").or(password).or(target.password);
    let port = found.get_one::<u16>("port").copied();
    let host = text("host");
    if port.is_some() || host.is_some() {
        target.socket = None;
    }
    target.port = port.unwrap_or(target.port);
    target.host = host.unwrap_or(target.host);
    target.socket = text("unixsocket").or(target.socket);
    Ok(target)
}

/// The last one of the options for a socket and for an address is the one that counts.
fn command() -> Command {
    let option = |name: &'static str| {
        Arg::new(name).long(name).allow_hyphen_values(true).overrides_with(name)
    };
    Command::new("rufous-server --healthcheck")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(Arg::new("healthcheck").long("healthcheck").action(ArgAction::Count))
        .arg(Arg::new("sentinel").long("sentinel").action(ArgAction::Count))
        .arg(Arg::new("FILE").value_parser(value_parser!(OsString)))
        .arg(option("host").overrides_with("unixsocket"))
        .arg(option("port").overrides_with("unixsocket").value_parser(value_parser!(u16)))
        .arg(option("unixsocket").overrides_with_all(["host", "port"]))
        .arg(option("user").value_parser(value_parser!(OsString)))
        .arg(option("pass").value_parser(value_parser!(OsString)))
        .arg(Arg::new("tls").long("tls").action(ArgAction::SetTrue))
        .arg(Arg::new("insecure").long("insecure").action(ArgAction::SetTrue).requires("tls"))
        .args(
            ["cacert", "cacertdir", "cert", "key"]
                .map(|name| option(name).value_parser(value_parser!(OsString)).requires("tls")),
        )
}

/// What is wrong with the command line, without the advice that follows.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let known = "--healthcheck knows --host, --port, --unixsocket, --user, --pass, and \
                 with --tls also --cacert, --cacertdir, --cert, --key, --insecure";
    format!("{}; {known}", line.trim_start_matches("error: "))
}

impl Target {
    fn of_config(config: &Config) -> Target {
        let binds = config.bind.0.iter().map(|text| text.to_string_lossy());
        let named = binds
            .map(|text| text.strip_prefix('-').unwrap_or(&text).to_owned())
            .find(|text| !matches!(text.as_str(), "*" | "::*" | "0.0.0.0" | "::"));
        let socket = config.unixsocket.as_ref().filter(|path| !path.is_empty());
        let password = config.requirepass.as_ref().filter(|password| !password.is_empty());
        // A server that only speaks TLS is asked by it.
        let has_tls_alone = config.port == 0 && config.tls_port != 0;
        Target {
            host: named.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: if has_tls_alone { config.tls_port } else { config.port },
            socket: socket
                .filter(|_| config.port == 0 && !has_tls_alone)
                .map(|path| path.to_string_lossy().into_owned()),
            user: None,
            password: password.map(|password| password.as_bytes().to_vec()),
            tls: has_tls_alone.then(|| Outgoing::of(config)),
        }
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let place = format!("{host}:{port}");
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| unreachable_by(&place, &error))?;
    let mut failure = format!("{place} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, WAIT_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = unreachable_by(&place, &error),
        }
    }
    Err(failure)
}

fn unreachable_by(place: &str, error: &io::Error) -> String {
    format!("Could not connect to {place}: {error}")
}

/// Asks, and reads until the last answer has come.
fn ask(
    target: &Target,
    mut stream: impl Read + Write,
    set_timeout: impl Fn(Duration) -> io::Result<()>,
) -> Result<(), String> {
    let silent = |error: io::Error| format!("No answer in time: {error}");
    let started = Instant::now();
    let mut question = Vec::new();
    let mut wanted = 1;
    let password = target.password.as_deref();
    match (&target.user, password) {
        (None, None) => {}
        (None, Some(password)) => put(&mut question, &[b"AUTH", password]),
        // One without a password takes any.
        (Some(user), _) => put(&mut question, &[b"AUTH", user, password.unwrap_or_default()]),
    }
    wanted += usize::from(!question.is_empty());
    put(&mut question, &[b"PING"]);
    set_timeout(WAIT_MAX).map_err(silent)?;
    stream.write_all(&question).map_err(silent)?;
    let mut answer = Vec::new();
    while answer.iter().filter(|byte| **byte == b'\n').count() < wanted {
        let left = WAIT_MAX.saturating_sub(started.elapsed());
        if left.is_zero() || answer.len() > ANSWER_BYTES_MAX {
            return Err("No answer in time".to_owned());
        }
        set_timeout(left).map_err(silent)?;
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).map_err(silent)? {
            0 => break,
            read => answer.extend_from_slice(&bytes[..read]),
        }
    }
    judge(&answer, wanted)
}

fn put(question: &mut Vec<u8>, words: &[&[u8]]) {
    question.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        question.extend(format!("${}\r\n", word.len()).into_bytes());
        question.extend_from_slice(word);
        question.extend(b"\r\n");
    }
}

/// The last line decides: a password that the server does not want is no harm.
fn judge(answer: &[u8], wanted: usize) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let mut lines: Vec<&str> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    match lines.pop() {
        Some("+PONG") if lines.len() + 1 == wanted => Ok(()),
        Some(_) if lines.len() + 1 == wanted => {
            let told = text.split("\r\n").find(|line| line.starts_with('-')).unwrap_or("-no PONG");
            // What a stranger sent is not to play tricks with the terminal.
            let told: String = told.chars().skip(1).filter(|c| !c.is_control()).take(200).collect();
            Err(format!("The server answers: {told}"))
        }
        Some(line) if line.starts_with('-') => Err(format!("The server answers: {}", &line[1..])),
        _ => Err("The server closed the connection".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn options_say_whom_to_ask() {
        let plain = target(&words("--healthcheck"), None).expect("it is complete");
        assert_eq!((plain.host.as_str(), plain.port, plain.password), ("127.0.0.1", 6379, None));
        let sentinel = target(&words("--healthcheck --sentinel"), None).expect("it is complete");
        assert_eq!(sentinel.port, 26379);
        let line = "--healthcheck --port 1 --host h --pass p";
        let named = target(&words(line), Some(b"env".to_vec())).expect("it is complete");
        assert_eq!((named.host.as_str(), named.port), ("h", 1));
        assert_eq!(named.password, Some(b"p".to_vec()));
        let socket = target(&words("--unixsocket /s --healthcheck"), Some(b"env".to_vec()));
        let socket = socket.expect("it is complete");
        assert_eq!(socket.socket.as_deref(), Some("/s"));
        assert_eq!(socket.password, Some(b"env".to_vec()));
        let last = |line| target(&words(line), None).expect("it is complete");
        let address = last("--healthcheck --unixsocket /s --port 7 --port 8 --pass --x");
        assert_eq!((address.socket, address.port), (None, 8));
        assert_eq!(address.password, Some(b"--x".to_vec()));
        let socket = last("--port 7 --unixsocket /s --healthcheck");
        assert_eq!((socket.socket.as_deref(), socket.port), (Some("/s"), 6379));
        for bad in ["--healthcheck --port", "--healthcheck --port 70000", "--healthcheck --x 1"] {
            assert!(target(&words(bad), None).is_err(), "{bad}");
        }
        assert!(target(&words("/no/such/file --healthcheck"), None).is_err());
    }

    #[test]
    fn only_pong_is_well() {
        assert_eq!(judge(b"+PONG\r\n", 1), Ok(()));
        assert_eq!(judge(b"+OK\r\n+PONG\r\n", 2), Ok(()));
        assert_eq!(judge(b"-ERR AUTH not needed\r\n+PONG\r\n", 2), Ok(()));
        let loading = b"-LOADING Redis is loading the dataset in memory\r\n";
        let told = judge(loading, 1).expect_err("it loads");
        assert_eq!(told, "The server answers: LOADING Redis is loading the dataset in memory");
        for bad in [&b""[..], b"+PONG", b"HTTP/1.1 400 Bad Request\r\n", b"+OK\r\n"] {
            assert!(judge(bad, 2).is_err());
        }
        let denied = b"-WRONGPASS no\r\n-NOAUTH Authentication required.\r\n";
        assert_eq!(judge(denied, 2), Err("The server answers: WRONGPASS no".to_owned()));
    }
}
