//! The process as whoever runs it sees it: in the background, with a file that names it, and with a
//! service manager that is told when it is ready.
//!
//! To go to the background is to start the program again, in a session of its own and with nothing
//! on its standard streams, and to end. A fork would do the same and need code that the compiler
//! cannot check, in a process whose allocator may have threads by then.

use crate::config::{Config, Supervised, os_reason};
use crate::engine::Standing;
use rustix::process::{Signal, getpid, kill_process, setsid};
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells a process that it is the one in the background.
const DETACHED: &str = "RUFOUS_DETACHED";

/// Where the process id is written if it is to be written and no place is named.
const DEFAULT_PID_FILE: &str = "/var/run/redis.pid";

/// Who watches over the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manager {
    Nobody,
    Systemd,
    Upstart,
}

/// The process's standing in the system, from its start to its end.
pub struct Service {
    manager: Manager,
    pid_file: Option<PathBuf>,
}

/// Who watches, by the directive and, for `auto`, by what the environment says.
fn manager(supervised: Supervised, variable: impl Fn(&str) -> bool) -> Manager {
    match supervised {
        Supervised::Systemd => Manager::Systemd,
        Supervised::Upstart => Manager::Upstart,
        Supervised::Auto if variable("UPSTART_JOB") => Manager::Upstart,
        Supervised::Auto if variable("NOTIFY_SOCKET") => Manager::Systemd,
        Supervised::Auto | Supervised::No => Manager::Nobody,
    }
}

fn has_variable(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// Whether the process is to go to the background and is not there yet. A service manager wants to
/// keep the process that it started.
pub fn is_to_detach(config: &Config) -> bool {
    let is_watched = manager(config.supervised, has_variable) != Manager::Nobody;
    config.daemonize && !is_watched && !has_variable(DETACHED)
}

/// Starts the program again in the background, with the configuration that came on its standard
/// input. It begins where this process began, and not in the `dir` that the configuration led to:
/// relative paths in its arguments are to mean the same. The caller ends.
pub fn detach(stdin: &[u8], origin: &Path) -> io::Result<()> {
    let mut args = std::env::args_os();
    let program = std::env::current_exe()?;
    let mut command = Command::new(&program);
    command
        .arg0(args.next().as_deref().unwrap_or(OsStr::new("rufous-server")))
        .args(args)
        .env(DETACHED, "1")
        .current_dir(origin)
        .stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(stdin),
        None => Ok(()),
    }
}

impl Service {
    /// Takes the process's place: its session, its file, its manager.
    pub fn begin(config: &Config) -> Service {
        let is_background = config.daemonize && has_variable(DETACHED);
        if is_background {
            // It fails only for one that leads a session already, which is as well.
            let _ = setsid();
        }
        let named = config.pidfile.as_ref().filter(|path| !path.is_empty());
        let named = named.map(|path| path.as_path().to_owned());
        let default = is_background.then(|| PathBuf::from(DEFAULT_PID_FILE));
        let pid_file = named.or(default).filter(|path| write_pid(path));
        let manager = meet(manager(config.supervised, has_variable));
        Service { manager, pid_file }
    }

    /// The manager, as INFO names it.
    pub fn manager_name(&self) -> &'static str {
        match self.manager {
            Manager::Nobody => "no",
            Manager::Systemd => "systemd",
            Manager::Upstart => "upstart",
        }
    }

    /// Tells the manager how things stand.
    pub fn tell(&self, standing: Standing) {
        if self.manager != Manager::Systemd {
            return;
        }
        let status = NotifyState::Status(status(standing));
        let told = match standing {
            Standing::Ready => notify(&[status, NotifyState::Ready]),
            Standing::Stopping => notify(&[status, NotifyState::Stopping]),
            _ => notify(&[status]),
        };
        if let Err(error) = told {
            tracing::warn!("systemd supervision error: sd_notify: {}", os_reason(&error));
        }
    }

    /// The process ends.
    pub fn end(&self) {
        if let Some(path) = &self.pid_file {
            tracing::info!("Removing the pid file.");
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Sends states to the manager. Sockets without a file, which older systemds and some containers
/// have, begin with `@`; the crate takes that for a file's name.
fn notify(states: &[NotifyState<'_>]) -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET");
    match path.as_ref().and_then(|path| path.as_encoded_bytes().strip_prefix(b"@")) {
        Some(name) => send_to_abstract(name, states),
        None => sd_notify::notify(states),
    }
}

#[cfg(target_os = "linux")]
fn send_to_abstract(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(lines.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send_to_abstract(_: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    sd_notify::notify(states)
}

fn status(standing: Standing) -> &'static str {
    match standing {
        Standing::Loading => "Rufous is loading...",
        Standing::Ready => "Ready to accept connections",
        Standing::Stopping => "Ending",
        Standing::SavingLast => "Saving the final RDB snapshot",
        Standing::CannotEnd(reason) => reason,
    }
}

/// Writes the process id, as well as it goes: a server without the file is better than none.
fn write_pid(path: &Path) -> bool {
    let written = std::fs::write(path, format!("{}\n", std::process::id()));
    if let Err(error) = &written {
        tracing::warn!("Failed to write PID file: {}", os_reason(error));
    }
    written.is_ok()
}

/// Makes contact with the manager; it is nobody if there is none.
fn meet(manager: Manager) -> Manager {
    match manager {
        Manager::Systemd if !has_variable("NOTIFY_SOCKET") => {
            tracing::warn!("systemd supervision error: NOTIFY_SOCKET not found!");
            Manager::Nobody
        }
        Manager::Systemd => {
            tracing::info!(
                "Supervised by systemd. TimeoutStartSec and TimeoutStopSec of the service unit \
                 have to be long enough for loading and saving."
            );
            manager
        }
        Manager::Upstart if !has_variable("UPSTART_JOB") => {
            tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
            Manager::Nobody
        }
        Manager::Upstart => {
            tracing::info!("supervised by upstart, will stop to signal readiness.");
            let _ = kill_process(getpid(), Signal::STOP);
            manager
        }
        Manager::Nobody => manager,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_is_what_the_directive_says_or_the_environment() {
        let with = |names: &'static [&str]| move |name: &str| names.contains(&name);
        assert_eq!(manager(Supervised::No, with(&["NOTIFY_SOCKET"])), Manager::Nobody);
        assert_eq!(manager(Supervised::Auto, with(&[])), Manager::Nobody);
        assert_eq!(manager(Supervised::Auto, with(&["NOTIFY_SOCKET"])), Manager::Systemd);
        assert_eq!(manager(Supervised::Systemd, with(&[])), Manager::Systemd);
        let both = with(&["NOTIFY_SOCKET", "UPSTART_JOB"]);
        assert_eq!(manager(Supervised::Auto, both), Manager::Upstart);
    }
}
