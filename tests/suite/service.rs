//! The server as a service of its system: signals, the background, the pid file, systemd, crashes.

use crate::answer::Answer;
use crate::client::Client;
use crate::ports;
use crate::server::{RUFOUS, Server, wait_for};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const WAIT_MAX: Duration = Duration::from_secs(60);

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "{signal} {pid}");
}

/// A directory of the test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rufous-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Place(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test, however that ends: one that is left holds its output open.
struct Own(Child);

impl Own {
    fn start(command: &mut Command) -> Own {
        Own(command.spawn().expect("the binary can be run"))
    }

    fn wait(&mut self) -> Option<i32> {
        self.0.wait().expect("it is our child").code()
    }

    /// Reads what the server tells systemd until a line has come.
    fn expect_told(&mut self, socket: &UnixDatagram, wanted: &str) {
        let mut seen = Vec::new();
        while !seen.iter().any(|line| line == wanted) {
            let mut message = [0; 4096];
            let len = socket.recv(&mut message).unwrap_or_else(|_| {
                panic!("{wanted}: only {seen:?}, exit {:?}", self.0.try_wait());
            });
            let text = String::from_utf8_lossy(&message[..len]).into_owned();
            seen.extend(text.lines().map(str::to_owned));
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(port: u16) -> Client {
    wait_for("a connection", || Client::connect(port).ok())
}

fn info(client: &mut Client) -> String {
    match client.call(&["INFO"]) {
        Some(Answer::Bulk(text)) => String::from_utf8_lossy(&text).into_owned(),
        _ => panic!("INFO is a string"),
    }
}

#[test]
fn signals_that_say_nothing_to_a_server_do_not_end_it() {
    let mut server = Server::rufous();
    let mut client = server.connect();
    for signal in ["-HUP", "-USR1", "-USR2", "-ALRM", "-PIPE"] {
        send(signal, server.pid());
        assert!(client.call(&["PING"]).is_some(), "{signal}");
    }
    send("-TERM", server.pid());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_crash_leaves_a_report_and_ends_by_its_signal() {
    for (signal, number) in [("-SEGV", 11), ("-BUS", 7), ("-FPE", 8), ("-ILL", 4), ("-ABRT", 6)] {
        let mut server = Server::start(RUFOUS, &[("logfile".into(), "log".into())]);
        send(signal, server.pid());
        assert_eq!(server.wait(), None, "it ended by the signal");
        let log = server.file("log");
        let line = format!("=== RUFOUS BUG REPORT: crashed by signal: {number} (SIG");
        assert!(log.contains(&line), "{log}");
    }
    let quiet = [("logfile".into(), "log".into()), ("crash-log-enabled".into(), "no".into())];
    let mut server = Server::start(RUFOUS, &quiet);
    send("-SEGV", server.pid());
    assert_eq!(server.wait(), None);
    assert!(!server.file("log").contains("BUG REPORT"));
}

#[test]
fn a_daemon_leaves_its_terminal_and_names_itself() {
    let place = Place::new("daemon");
    let port = ports::free();
    let mut command = Command::new(RUFOUS);
    // What comes on standard input must reach the background, too.
    command.args(["-", "--daemonize", "yes", "--port", &port.to_string(), "--save", ""]);
    command.args(["--bind", "127.0.0.1", "--logfile", "log", "--dir", &place.path("")]);
    let mut starter = command.stdin(Stdio::piped()).spawn().expect("the binary can be run");
    let mut stdin = starter.stdin.take().expect("it is piped");
    let line = format!("pidfile {}\nmaxclients 77\n", place.path("pid"));
    std::io::Write::write_all(&mut stdin, line.as_bytes()).expect("it reads");
    drop(stdin);
    assert_eq!(starter.wait().expect("it is our child").code(), Some(0));
    let mut client = connect(port);
    let pid = std::fs::read_to_string(place.path("pid")).expect("the daemon names itself");
    let pid: u32 = pid.trim().parse().expect("a number");
    assert_ne!(pid, starter.id());
    let info = info(&mut client);
    assert!(info.contains(&format!("process_id:{pid}\r")), "{pid}: {}", &info[..600]);
    assert!(info.contains("maxclients:77\r"));
    let _ = client.call(&["SHUTDOWN", "NOSAVE"]);
    let process = format!("/proc/{pid}/stat");
    wait_for("the end of the daemon", || (!Path::new(&process).exists()).then_some(()));
    assert!(!Path::new(&place.path("pid")).exists(), "the file goes with the process");
    assert!(place.0.join("log").exists());
}

#[test]
fn a_daemon_reads_its_arguments_from_where_it_was_started() {
    let place = Place::new("origin");
    std::fs::create_dir_all(place.path("etc")).expect("the directory is ours");
    std::fs::create_dir_all(place.path("data")).expect("the directory is ours");
    let port = ports::free();
    let text = format!("port {port}\nbind 127.0.0.1\nsave \"\"\ndir data\npidfile pid\n");
    std::fs::write(place.path("etc/redis.conf"), text).expect("the directory is ours");
    let mut starter = Command::new(RUFOUS)
        .args(["etc/redis.conf", "--daemonize", "yes", "--logfile", "log"])
        .current_dir(&place.0)
        .spawn()
        .expect("the binary can be run");
    assert_eq!(starter.wait().expect("it is our child").code(), Some(0));
    let mut client = connect(port);
    assert!(info(&mut client).contains(&format!("config_file:{}", place.path("etc/redis.conf"))));
    let pid = std::fs::read_to_string(place.path("data/pid")).expect("the daemon names itself");
    assert!(Path::new(&place.path("data/log")).exists());
    let _ = client.call(&["SHUTDOWN", "NOSAVE"]);
    let process = format!("/proc/{}/stat", pid.trim());
    wait_for("the end of the daemon", || (!Path::new(&process).exists()).then_some(()));
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_ends() {
    for supervised in ["systemd", "auto"] {
        let place = Place::new(&format!("notify-{supervised}"));
        let socket = UnixDatagram::bind(place.path("notify")).expect("the directory is ours");
        socket.set_read_timeout(Some(WAIT_MAX)).expect("it is a socket");
        let port = ports::free().to_string();
        let mut command = Command::new(RUFOUS);
        command.args(["--supervised", supervised, "--daemonize", "yes", "--save", "3600 1"]);
        command.args(["--bind", "127.0.0.1", "--port", &port, "--dir", &place.path("")]);
        command.args(["--pidfile", &place.path("pid")]);
        command.env("NOTIFY_SOCKET", place.path("notify")).stdout(Stdio::null());
        let mut server = Own::start(&mut command);
        server.expect_told(&socket, "STATUS=Rufous is loading...");
        server.expect_told(&socket, "READY=1");
        let port = port.parse().expect("it was a number");
        assert!(info(&mut connect(port)).contains("process_supervised:systemd\r"));
        let pid = std::fs::read_to_string(place.path("pid")).expect("it was asked for");
        assert_eq!(pid.trim(), server.0.id().to_string(), "who is watched stays in the foreground");
        send("-TERM", server.0.id());
        server.expect_told(&socket, "STOPPING=1");
        server.expect_told(&socket, "STATUS=Saving the final RDB snapshot");
        assert_eq!(server.wait(), Some(0));
        assert!(!Path::new(&place.path("pid")).exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_told_through_a_socket_without_a_file_too() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let place = Place::new("abstract");
    let name = format!("rufous-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("it is short");
    let socket = UnixDatagram::bind_addr(&address).expect("nobody else has the name");
    socket.set_read_timeout(Some(WAIT_MAX)).expect("it is a socket");
    let mut command = Command::new(RUFOUS);
    command.args(["--supervised", "systemd", "--save", "", "--dir", &place.path("")]);
    command.args(["--bind", "127.0.0.1", "--port", &ports::free().to_string()]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).stdout(Stdio::null());
    let mut server = Own::start(&mut command);
    server.expect_told(&socket, "READY=1");
    send("-TERM", server.0.id());
    server.expect_told(&socket, "STOPPING=1");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_server_without_a_manager_starts_all_the_same() {
    let mut server = Server::start(
        RUFOUS,
        &[
            ("supervised".into(), "systemd".into()),
            ("logfile".into(), "log".into()),
            ("pidfile".into(), "/nowhere/pid".into()),
        ],
    );
    let log = server.file("log");
    assert!(log.contains("systemd supervision error: NOTIFY_SOCKET not found!"), "{log}");
    assert!(log.contains("Failed to write PID file: No such file or directory"), "{log}");
    send("-TERM", server.pid());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_configuration_that_redis_rewrote_is_taken() {
    let line = "user default on nopass sanitize-payload ~* &* +@all\nlatency-tracking yes";
    let server = Server::with_file(line);
    let mut client = server.connect();
    let _ = client.call(&["CONFIG", "REWRITE"]);
    assert!(server.config_file().contains("user default on nopass"));
}

#[test]
fn log_lines_have_the_local_time() {
    let hour = |zone: &str| {
        let place = Place::new("zone");
        let mut command = Command::new(RUFOUS);
        command.env("TZ", zone).args(["--port", "0", "--logfile", &place.path("log")]);
        let output = command.output().expect("the binary can be run");
        assert_eq!(output.status.code(), Some(1), "it listens nowhere");
        let log = std::fs::read_to_string(place.path("log")).expect("it was written");
        let line = log.lines().last().expect("it has lines").to_owned();
        let time = line.split(' ').nth(4).expect("pid, day, month, year, time").to_owned();
        let parts: Vec<u32> =
            time.split([':', '.']).map(|n| n.parse().expect("a number")).collect();
        (parts[0] * 3600 + parts[1] * 60 + parts[2], line)
    };
    let (utc, _) = hour("UTC0");
    let (east, line) = hour("XYZ-5:30");
    // A few seconds may pass between the two, and midnight.
    let ahead = (east + 86_400 - utc) % 86_400;
    assert!((19_800..19_830).contains(&ahead), "{ahead}: {line}");
}
