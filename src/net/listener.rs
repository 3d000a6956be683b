//! Listening sockets, and whom they let in.

use super::connection::Connection;
use super::inbox::Inbox;
use super::reading::serve;
use super::shared::Net;
use super::stream::Stream;
use super::{limits, metrics};
use crate::config::{Config, os_reason};
use crate::engine::Peer;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The accept tasks; dropping it closes the sockets.
pub struct Listeners {
    tasks: Vec<JoinHandle<()>>,
    /// Those of the endpoint for metrics, where no client connects.
    metrics: Vec<JoinHandle<()>>,
    unix_path: Option<PathBuf>,
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for task in self.tasks.iter().chain(&self.metrics) {
            task.abort();
        }
        if let Some(path) = &self.unix_path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// An address could not be opened; the log says which and why.
#[derive(Debug)]
pub struct Unopened;

impl Listeners {
    /// Opens every address of the configuration; that may be none.
    pub fn bind(net: &Rc<Net>) -> Result<Listeners, Unopened> {
        let mut listeners = Listeners { tasks: Vec::new(), metrics: Vec::new(), unix_path: None };
        let engine = net.engine.borrow();
        let config = engine.config();
        if config.port != 0 {
            for listener in bind_tcp(config, config.port)? {
                let task = tokio::task::spawn_local(accept_tcp(Rc::clone(net), listener));
                listeners.tasks.push(task);
            }
        }
        if let Some(path) = config.unixsocket.as_ref().filter(|path| !path.is_empty()) {
            let listener = bind_unix(path.as_path(), config).map_err(|refusal| {
                tracing::warn!("Failed opening Unix socket: {refusal}");
                Unopened
            })?;
            listeners.unix_path = Some(path.as_path().to_owned());
            listeners.tasks.push(tokio::task::spawn_local(accept_unix(Rc::clone(net), listener)));
        }
        if config.metrics_port != 0 {
            let open = metrics::Open::default();
            for listener in bind_tcp(config, config.metrics_port)? {
                let serve = metrics::serve(Rc::clone(net), listener, Rc::clone(&open));
                listeners.metrics.push(tokio::task::spawn_local(serve));
            }
        }
        Ok(listeners)
    }

    /// Whether nobody can connect.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The kinds of addresses that are open, as the log names them.
    pub fn kinds(&self) -> Vec<&'static str> {
        let has_unix = self.unix_path.is_some();
        let has_tcp = self.tasks.len() > usize::from(has_unix);
        let kinds = [(has_tcp, "tcp"), (has_unix, "unix")];
        kinds.iter().filter(|(is_there, _)| *is_there).map(|(_, kind)| *kind).collect()
    }
}

/// Why an address could not be opened, in Redis's words.
struct Refusal {
    text: String,
    /// The system's number for it, if the system refused.
    code: Option<Errno>,
}

impl Refusal {
    /// The refusal of a call, which its text names.
    fn of(call: &'static str) -> impl FnOnce(io::Error) -> Refusal {
        move |error| Refusal {
            text: format!("{call}: {}", os_reason(&error)),
            code: Errno::from_io_error(&error),
        }
    }

    fn is_one_of(&self, codes: &[Errno]) -> bool {
        self.code.is_some_and(|code| codes.contains(&code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Keeps the listeners, and opens others when the configuration changes.
pub async fn keep(net: Rc<Net>, listeners: Listeners) {
    let mut open = Some(listeners);
    loop {
        net.listeners_changed.notified().await;
        loop {
            let Some(change) = net.listen_changes.borrow_mut().pop_front() else { break };
            // The same port on other addresses can only be opened when the old one is closed.
            let unchanged = change.previous.port == net.engine.borrow().config().port;
            if unchanged {
                open = None;
                tokio::task::yield_now().await;
            }
            let bound = Listeners::bind(&net);
            let opened = bound.is_ok();
            if let Ok(fresh) = bound {
                open = Some(fresh);
            }
            net.engine.borrow_mut().finish_listening(change, opened);
            if open.is_none() {
                open = Listeners::bind(&net).ok();
            }
            net.executor.notify_one();
        }
    }
}

/// Opens the TCP sockets of a configuration. An address with a dash may be missing here, and an
/// address family may be missing anyway.
pub fn bind_tcp(config: &Config, port: u16) -> Result<Vec<TcpListener>, Unopened> {
    const NO_FAMILY: &[Errno] = &[
        Errno::AFNOSUPPORT,
        Errno::PFNOSUPPORT,
        Errno::PROTONOSUPPORT,
        Errno::SOCKTNOSUPPORT,
        Errno::NOPROTOOPT,
    ];
    let mut opened = Vec::new();
    for text in &config.bind.0 {
        let text = text.to_string_lossy();
        let (optional, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, &*text),
        };
        match resolve(text).and_then(|ip| bind_one(SocketAddr::new(ip, port), config)) {
            Ok(listener) => opened.push(listener),
            Err(refusal) => {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket {text}:{port}: \
                     {refusal}"
                );
                let is_missing = optional && refusal.is_one_of(&[Errno::ADDRNOTAVAIL]);
                if !is_missing && !refusal.is_one_of(NO_FAMILY) {
                    tracing::warn!("Failed listening on port {port} (tcp), aborting.");
                    return Err(Unopened);
                }
            }
        }
    }
    Ok(opened)
}

/// A name with a colon is looked up among the IPv6 addresses, any other among those of IPv4.
fn resolve(text: &str) -> Result<IpAddr, Refusal> {
    match text {
        "*" => return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "::*" => return Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => {}
    }
    if let Ok(ip) = text.parse() {
        return Ok(ip);
    }
    let unknown = |text: &str| Refusal { text: text.to_owned(), code: None };
    let mut found = (text, 0).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        unknown(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text))
    })?;
    let found = found.find(|address| address.is_ipv6() == text.contains(':'));
    found.map(|address| address.ip()).ok_or_else(|| unknown("Name or service not known"))
}

fn bind_one(address: SocketAddr, config: &Config) -> Result<TcpListener, Refusal> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(|error| {
        let code = Errno::from_io_error(&error);
        let number = code.map_or(0, Errno::raw_os_error);
        Refusal { text: format!("unable to bind socket, errno: {number}"), code }
    })?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(Refusal::of("setsockopt"))?;
    }
    socket.set_reuse_address(true).map_err(Refusal::of("setsockopt SO_REUSEADDR"))?;
    socket.set_nonblocking(true).map_err(Refusal::of("fcntl"))?;
    socket.bind(&SockAddr::from(address)).map_err(Refusal::of("bind"))?;
    socket.listen(config.tcp_backlog).map_err(Refusal::of("listen"))?;
    TcpListener::from_std(socket.into()).map_err(Refusal::of("poll"))
}

/// The kernel's room for the path of a Unix socket, its final zero included.
const UNIX_PATH_BYTES: usize = 108;

/// Opens the Unix socket. Its permissions are set between bind and listen, so that nobody can
/// connect while they are wider than they should be.
fn bind_unix(path: &Path, config: &Config) -> Result<UnixListener, Refusal> {
    let len = path.as_os_str().len();
    if len >= UNIX_PATH_BYTES {
        let text = format!("unix socket path too long ({len}), must be under {UNIX_PATH_BYTES}");
        return Err(Refusal { text, code: None });
    }
    let _ = std::fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
    let socket = socket.map_err(Refusal::of("creating socket"))?;
    socket.set_nonblocking(true).map_err(Refusal::of("fcntl"))?;
    let address = SockAddr::unix(path).map_err(Refusal::of("bind"))?;
    socket.bind(&address).map_err(Refusal::of("bind"))?;
    if config.unixsocketperm != 0 {
        let permissions = std::fs::Permissions::from_mode(config.unixsocketperm);
        std::fs::set_permissions(path, permissions).map_err(Refusal::of("chmod"))?;
    }
    socket.listen(config.tcp_backlog).map_err(Refusal::of("listen"))?;
    UnixListener::from_std(socket.into()).map_err(Refusal::of("poll"))
}

async fn accept_tcp(net: Rc<Net>, listener: TcpListener) {
    let mut accepted = 0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                prepare_tcp(&stream, net.engine.borrow().config());
                let local = stream.local_addr().map_or_else(|_| String::new(), |a| a.to_string());
                let peer = Peer {
                    address: display_address(&address).into(),
                    local_address: local.replace(['[', ']'], "").into(),
                    fd: stream.as_raw_fd(),
                    unix_socket: false,
                    is_local: address.ip().to_canonical().is_loopback(),
                };
                admit(&net, Stream::Tcp(stream), peer);
                let_others_in(&net, &mut accepted).await;
            }
            Err(error) => limits::back_off(&error).await,
        }
    }
}

/// A burst of connections is accepted in portions (`max-new-connections-per-cycle`): between them
/// the runtime looks for input, and those who are there already have their turn.
async fn let_others_in(net: &Net, accepted: &mut u32) {
    *accepted += 1;
    if *accepted >= net.engine.borrow().config().max_new_connections_per_cycle {
        *accepted = 0;
        net.yield_now().await;
    }
}

/// IPv6 addresses stand without brackets, as Redis prints them.
fn display_address(address: &SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

async fn accept_unix(net: Rc<Net>, listener: UnixListener) {
    let mut accepted = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let path = unix_path(&stream);
                let peer = Peer {
                    address: format!("{path}:0").into(),
                    local_address: format!("{path}:0").into(),
                    fd: stream.as_raw_fd(),
                    unix_socket: true,
                    is_local: true,
                };
                admit(&net, Stream::Unix(stream), peer);
                let_others_in(&net, &mut accepted).await;
            }
            Err(error) => limits::back_off(&error).await,
        }
    }
}

fn unix_path(stream: &UnixStream) -> String {
    let address = stream.local_addr().ok();
    let path = address.as_ref().and_then(|address| address.as_pathname());
    path.map_or_else(String::new, |path| path.display().to_string())
}

fn prepare_tcp(stream: &TcpStream, config: &Config) {
    // A connection that is gone already fails here, and again at its first read.
    let _ = stream.set_nodelay(true);
    if config.tcp_keepalive > 0 {
        let interval = Duration::from_secs(u64::from(config.tcp_keepalive));
        let probes = TcpKeepalive::new()
            .with_time(interval)
            .with_interval((interval / 3).max(Duration::from_secs(1)))
            .with_retries(3);
        let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    }
}

/// Takes a connection in, or turns it away with a word why.
fn admit(net: &Rc<Net>, stream: Stream, peer: Peer) {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    let client = match engine.admit(peer) {
        Ok(client) => client,
        Err(text) => {
            // Whoever does not read this one line learns it from the closed connection.
            let _ = stream.try_write(&[io::IoSlice::new(text.as_bytes())]);
            return;
        }
    };
    let is_authenticated = engine.is_authenticated(client);
    drop(engine);
    let inbox = Box::new(Inbox::new(is_authenticated));
    let connection = Rc::new(Connection::new(client, stream, inbox));
    net.remember(&connection);
    tokio::task::spawn_local(serve(Rc::clone(net), connection, 0));
}
