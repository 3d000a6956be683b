//! A server process of the test's own, on a loopback port of its own, ended with the test.
//!
//! Another process may snatch the port before the server has it; then the server ends at once and
//! another port is tried. Nothing here sleeps: waiting is connecting until it works, and each
//! attempt waits for the kernel, bounded in number.

use crate::answer::Answer;
use crate::client::Client;
use crate::ports;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const RUFOUS: &str = env!("CARGO_BIN_EXE_rufous-server");

/// With `RUFOUS_IO_THREADS` in the environment our server has so many threads, and they serve
/// however low the load is: every test that plays over TCP then plays over them.
fn thread_arguments() -> Vec<String> {
    let Ok(count) = std::env::var("RUFOUS_IO_THREADS") else { return Vec::new() };
    let words = ["--io-threads", &count, "--events-per-io-thread", "0"];
    words.map(str::to_owned).to_vec()
}

const START_MAX: Duration = Duration::from_secs(20);

pub struct Server {
    process: Child,
    pub port: u16,
    directory: PathBuf,
}

const CONFIG_FILE: &str = "redis.conf";

/// A port that is free and a directory for whoever takes it.
fn place() -> (u16, PathBuf) {
    let port = ports::free();
    let directory = std::env::temp_dir().join(format!("rufous-suite-{port}"));
    // Whoever had the port before may have left files that would be loaded.
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    (port, directory)
}

impl Server {
    /// Starts `binary` with directives as on its command line.
    pub fn start(binary: &str, directives: &[(String, String)]) -> Server {
        for _ in 0..10 {
            if let Some(server) = Server::try_start(binary, directives) {
                return server;
            }
        }
        panic!("{binary} does not start with {directives:?}");
    }

    pub fn rufous() -> Server {
        Server::start(RUFOUS, &[])
    }

    /// Starts our binary with a configuration file of this text, to which the port is added.
    pub fn with_file(text: &str) -> Server {
        Server::of_file(RUFOUS, text)
    }

    /// The same with any binary.
    pub fn of_file(binary: &str, text: &str) -> Server {
        let start = || {
            let (port, directory) = place();
            let text = format!("{text}\nbind 127.0.0.1\nport {port}\n");
            std::fs::write(directory.join(CONFIG_FILE), text).expect("the directory is ours");
            Server::from_file(binary, port, directory)
        };
        (0..10).find_map(|_| start()).expect("the server starts")
    }

    /// Starts a Sentinel, ours or a real one, with a file of this text.
    pub fn sentinel(program: &str, text: &str) -> Server {
        let start = || {
            let (port, directory) = place();
            let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{text}", directory.display());
            std::fs::write(directory.join(CONFIG_FILE), text).expect("the directory is ours");
            Server::watch(program, port, directory)
        };
        (0..10).find_map(|_| start()).expect("the Sentinel starts")
    }

    /// Ends a Sentinel and starts one, perhaps another, with the file as it is now.
    pub fn restart_sentinel(mut self, program: &str) -> Server {
        self.kill();
        let directory = std::mem::take(&mut self.directory);
        Server::watch(program, self.port, directory).expect("the Sentinel starts again")
    }

    fn watch(program: &str, port: u16, directory: PathBuf) -> Option<Server> {
        let mut command = Command::new(program);
        command.args([CONFIG_FILE, "--sentinel"]);
        Server::run(command, port, directory)
    }

    /// Starts another server in the directory of this one.
    pub fn beside(&self, directives: &[&str]) -> Beside {
        let port = ports::free();
        let mut command = Command::new(RUFOUS);
        command.current_dir(&self.directory).stdin(Stdio::null()).stderr(Stdio::null());
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        let process = command.args(directives).stdout(Stdio::piped()).spawn();
        let process = process.expect("the binary can be run");
        Beside { process, port }
    }

    /// Ends the process as nobody could foresee.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends the server and starts it anew with the file as it is now.
    pub fn restart(self) -> Server {
        self.restart_as(RUFOUS)
    }

    /// The same with another binary.
    pub fn restart_as(mut self, binary: &str) -> Server {
        self.kill();
        let directory = std::mem::take(&mut self.directory);
        Server::from_file(binary, self.port, directory).expect("the server starts again")
    }

    /// Ends the server in good order and starts it anew with the file as it is now.
    pub fn end_and_restart(mut self) -> Server {
        let pid = self.pid().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.is_ok_and(|status| status.success()), "it runs");
        assert_eq!(self.wait(), Some(0));
        self.restart()
    }

    /// The same from a shell that has run a command before.
    pub fn restart_under(mut self, shell: &str) -> Server {
        self.kill();
        let directory = std::mem::take(&mut self.directory);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$1\"")).args([RUFOUS, CONFIG_FILE]);
        Server::run(command, self.port, directory).expect("the server starts again")
    }

    /// The same with more lines in the file.
    pub fn restart_with(self, lines: &str) -> Server {
        let text = format!("{}{lines}", self.config_file());
        std::fs::write(self.directory.join(CONFIG_FILE), text).expect("the directory is ours");
        self.restart()
    }

    /// Ends the server, changes one of its files and tries to start it: the exit code, and what
    /// it says.
    pub fn restart_expecting_failure(
        mut self,
        name: &str,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> (Option<i32>, String) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let path = self.directory.join(name);
        let mut bytes = std::fs::read(&path).expect("the server has written it");
        damage(&mut bytes);
        std::fs::write(&path, bytes).expect("the directory is ours");
        let mut command = Command::new(RUFOUS);
        command.current_dir(&self.directory).arg(CONFIG_FILE).stdin(Stdio::null());
        let output = command.output().expect("the binary can be run");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The names of the files in the server's directory.
    pub fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.directory).expect("the directory is there");
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        names.map(|entry| name(entry.expect("it can be read"))).collect()
    }

    /// Gives the directory another name, so that the server finds no place for its files.
    pub fn hide_directory(&self) {
        std::fs::rename(&self.directory, self.hidden()).expect("the directory is ours");
    }

    pub fn show_directory(&self) {
        std::fs::rename(self.hidden(), &self.directory).expect("the directory is ours");
    }

    fn hidden(&self) -> PathBuf {
        self.directory.with_extension("hidden")
    }

    /// A file of the server's directory.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).expect("the server has written it")
    }

    /// Where a file of the server's directory is.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    pub fn config_file(&self) -> String {
        let path = self.directory.join(CONFIG_FILE);
        std::fs::read_to_string(path).expect("the server was started with it")
    }

    fn from_file(binary: &str, port: u16, directory: PathBuf) -> Option<Server> {
        let mut command = Command::new(binary);
        command.arg(CONFIG_FILE);
        if binary == RUFOUS {
            command.args(thread_arguments());
        }
        Server::run(command, port, directory)
    }

    fn run(mut command: Command, port: u16, directory: PathBuf) -> Option<Server> {
        command.current_dir(&directory).stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("the binary can be run");
        let mut server = Server { process, port, directory };
        server.answers().then_some(server)
    }

    fn try_start(binary: &str, directives: &[(String, String)]) -> Option<Server> {
        let (port, directory) = place();
        let mut command = Command::new(binary);
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null());
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--enable-debug-command", "yes"]);
        if binary == RUFOUS {
            command.args(thread_arguments());
        }
        for (name, value) in directives {
            command.arg(format!("--{name}"));
            command.args(rufous::structs::words::split(value.as_bytes()).map_or_else(
                |_| vec![value.clone()],
                |words| words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect(),
            ));
        }
        let process = command.stderr(Stdio::null()).spawn().expect("the binary can be run");
        let mut server = Server { process, port, directory };
        server.answers().then_some(server)
    }

    /// Connects until somebody answers; false if the process ended first.
    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START_MAX {
            if self.process.try_wait().expect("it is our child").is_some() {
                return false;
            }
            if let Ok(mut client) = Client::connect(self.port) {
                let is_ours =
                    client.call(&["INFO", "server"]).is_some_and(|info| self.is_ours(&info));
                // Nobody is to find this client among those of the test. A Sentinel knows no QUIT.
                if let Some(Answer::Simple(_)) = client.call(&["QUIT"]) {
                    client.receive_raw(|_| false);
                }
                return is_ours;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Whether it was our child that answered, and not whoever snatched the port while our child
    /// had not noticed yet. A server that wants a password does not say who it is.
    fn is_ours(&mut self, info: &Answer) -> bool {
        let Answer::Bulk(info) = info else { return self.is_running() };
        let line = format!("\nprocess_id:{}\r", self.pid());
        String::from_utf8_lossy(info).contains(&line) && self.is_running()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_none()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.port).expect("the server accepts connections")
    }

    /// Waits for the process to end; its exit code. The caller has told it to.
    pub fn wait(&mut self) -> Option<i32> {
        self.process.wait().expect("it is our child").code()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A server in the directory of another one.
pub struct Beside {
    process: Child,
    port: u16,
}

impl Beside {
    /// A connection, when it has loaded what it loads.
    pub fn connect(&self) -> Client {
        wait_for("the other server answers", || {
            let mut client = Client::connect(self.port).ok()?;
            (client.call(&["PING"]) == Some(Answer::Simple(b"PONG".to_vec()))).then_some(client)
        })
    }

    /// Waits for the process to end by itself: the exit code, and what it says.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let out = self.process.stdout.take().expect("it is piped");
        std::io::BufReader::new(out).read_to_string(&mut said).expect("logs are text");
        (self.process.wait().expect("it is our child").code(), said)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How long anything that a test waits for may take.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Asks until there is an answer; fails in the name of what is awaited.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} in vain: {what}");
        std::thread::yield_now();
    }
}

/// Whether a program is installed: not all of them know how to tell their version.
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
