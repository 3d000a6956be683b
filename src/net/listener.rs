//! Listening sockets, and what is decided about a connection before and after it lives.

use super::connection::{Connection, Io, serve};
use super::stream::Stream;
use super::{Net, READ_OUTPUT_UNAUTHENTICATED_MAX};
use crate::config::{Config, OutputLimit};
use crate::engine::session::ClientKind;
use crate::engine::{Engine, Peer};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The accept tasks; dropping it closes the sockets.
pub struct Listeners {
    tasks: Vec<JoinHandle<()>>,
    unix_path: Option<PathBuf>,
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(path) = &self.unix_path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listeners {
    /// Opens every address of the configuration.
    pub fn bind(net: &Rc<Net>) -> io::Result<Listeners> {
        let mut listeners = Listeners { tasks: Vec::new(), unix_path: None };
        let engine = net.engine.borrow();
        let config = &engine.server.config;
        let mut opened = 0;
        if config.port != 0 {
            for listener in bind_tcp(config)? {
                opened += 1;
                listeners
                    .tasks
                    .push(tokio::task::spawn_local(accept_tcp(Rc::clone(net), listener)));
            }
        }
        if let Some(path) = config.unixsocket.as_ref().filter(|path| !path.is_empty()) {
            let listener = bind_unix(path.as_path(), config)?;
            opened += 1;
            listeners.unix_path = Some(path.as_path().to_owned());
            listeners.tasks.push(tokio::task::spawn_local(accept_unix(Rc::clone(net), listener)));
        }
        if opened == 0 {
            tracing::warn!("Configured to not listen anywhere, exiting.");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to listen on"));
        }
        Ok(listeners)
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
            let unchanged = change.previous.port == net.engine.borrow().server.config.port;
            if unchanged {
                open = None;
                tokio::task::yield_now().await;
            }
            let bound = Listeners::bind(&net);
            let opened = bound.is_ok();
            match bound {
                Ok(fresh) => open = Some(fresh),
                Err(error) => tracing::warn!("Failed to listen: {error}"),
            }
            net.engine.borrow_mut().finish_listening(change, opened);
            if open.is_none() {
                open = Listeners::bind(&net).ok();
            }
            net.executor.notify_one();
        }
    }
}

/// Opens the TCP sockets of a configuration; an address with a dash may be missing here.
fn bind_tcp(config: &Config) -> io::Result<Vec<TcpListener>> {
    let mut opened = Vec::new();
    for text in &config.bind.0 {
        let text = text.to_string_lossy();
        let (optional, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, &*text),
        };
        match resolve(text).and_then(|ip| bind_one(SocketAddr::new(ip, config.port), config)) {
            Ok(listener) => opened.push(listener),
            Err(error) if optional && is_missing(&error) => {}
            Err(error) => {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket {text}:{}: {error}",
                    config.port
                );
                tracing::warn!("Failed listening on port {} (tcp), aborting.", config.port);
                return Err(error);
            }
        }
    }
    Ok(opened)
}

fn resolve(text: &str) -> io::Result<IpAddr> {
    match text {
        "*" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "::*" => Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => match text.parse() {
            Ok(ip) => Ok(ip),
            Err(_) => {
                let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(text, 0))?;
                let first = found.next().map(|address| address.ip());
                first.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
            }
        },
    }
}

/// The address or its whole family is not there on this machine.
fn is_missing(error: &io::Error) -> bool {
    const MISSING: [i32; 6] = [
        libc::EADDRNOTAVAIL,
        libc::EAFNOSUPPORT,
        libc::EPFNOSUPPORT,
        libc::EPROTONOSUPPORT,
        libc::ESOCKTNOSUPPORT,
        libc::ENOPROTOOPT,
    ];
    error.raw_os_error().is_some_and(|code| MISSING.contains(&code))
}

fn bind_one(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(config.tcp_backlog)?;
    TcpListener::from_std(socket.into())
}

/// Opens the Unix socket. Its permissions are set between bind and listen, so that nobody can
/// connect while they are wider than they should be.
fn bind_unix(path: &Path, config: &Config) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if config.unixsocketperm != 0 {
        let permissions = std::fs::Permissions::from_mode(config.unixsocketperm);
        std::fs::set_permissions(path, permissions)?;
    }
    socket.listen(config.tcp_backlog)?;
    UnixListener::from_std(socket.into())
}

async fn accept_tcp(net: Rc<Net>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                prepare_tcp(&stream, &net.engine.borrow().server.config);
                let local = stream.local_addr().map_or_else(|_| String::new(), |a| a.to_string());
                let peer = Peer {
                    address: display_address(&address).into(),
                    local_address: local.replace(['[', ']'], "").into(),
                    fd: stream.as_raw_fd(),
                    unix_socket: false,
                    is_local: address.ip().to_canonical().is_loopback(),
                };
                admit(&net, Stream::Tcp(stream), peer);
            }
            Err(error) => back_off(&error).await,
        }
    }
}

/// IPv6 addresses stand without brackets, as Redis prints them.
fn display_address(address: &SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

async fn accept_unix(net: Rc<Net>, listener: UnixListener) {
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
            }
            Err(error) => back_off(&error).await,
        }
    }
}

fn unix_path(stream: &UnixStream) -> String {
    let address = stream.local_addr().ok();
    let path = address.as_ref().and_then(|address| address.as_pathname());
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// One failed accept concerns one client; only a lack of descriptors is worth a pause.
async fn back_off(error: &io::Error) {
    let is_exhausted = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    tracing::warn!("Accepting client connection: {error}");
    if is_exhausted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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

const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Redis you may \
adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG \
SET protected-mode no' from the loopback interface by connecting to Redis from the same host the \
server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. \
Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the \
protected mode by editing the Redis configuration file, and setting the protected mode option to \
'no', and then restarting the server. 3) If you started the server manually just for testing, \
restart it with the '--protected-mode no' option. 4) Set up an authentication password for the \
default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

/// Takes a connection in, or turns it away with a word why.
fn admit(net: &Rc<Net>, stream: Stream, peer: Peer) {
    let mut engine = net.engine.borrow_mut();
    let config = &engine.server.config;
    let refusal = if engine.clients.len() >= config.maxclients as usize {
        Some(TOO_MANY_CLIENTS)
    } else if config.protected_mode && !peer.is_local && !engine.server.has_password() {
        Some(PROTECTED)
    } else {
        None
    };
    if let Some(text) = refusal {
        engine.server.stats.connections_rejected += 1;
        // Whoever does not read this one line learns it from the closed connection.
        let _ = stream.try_write(&[io::IoSlice::new(text)]);
        return;
    }
    tracing::trace!("Accepted {}", peer.address);
    engine.tick(net.now());
    let client = engine.connect(peer);
    drop(engine);
    let connection = Rc::new(Connection::new(client, stream));
    net.remember(&connection);
    tokio::task::spawn_local(serve(Rc::clone(net), connection));
}

/// This much output is nobody's business, however low the limits are.
pub const OUTPUT_FREE_BYTES: usize = 16 * 1024;

/// Closes a client whose unread output is over its limits.
pub fn check_output_limit(engine: &mut Engine, connection: &Connection, io: &mut Io) {
    let Some(session) = engine.clients.get(connection.client) else { return };
    let config = &engine.server.config;
    let waiting = io.out.len().saturating_sub(OUTPUT_FREE_BYTES) as u64;
    let limit = match session.kind {
        ClientKind::Normal if engine.server.requires_auth(session) => {
            let unread = READ_OUTPUT_UNAUTHENTICATED_MAX;
            OutputLimit { hard_bytes: unread, ..OutputLimit::default() }
        }
        ClientKind::Normal => config.client_output_buffer_limit.normal,
        ClientKind::Replica => config.client_output_buffer_limit.replica,
        ClientKind::Pubsub => config.client_output_buffer_limit.pubsub,
        ClientKind::Primary => OutputLimit::default(),
    };
    let over_hard = limit.hard_bytes > 0 && waiting >= limit.hard_bytes;
    let over_soft = limit.soft_bytes > 0 && waiting >= limit.soft_bytes;
    let now = Instant::now();
    let since = if over_soft { *io.over_soft_limit.get_or_insert(now) } else { now };
    if !over_soft {
        io.over_soft_limit = None;
    }
    let too_long = over_soft && (now - since).as_secs() >= limit.soft_seconds.max(1);
    if over_hard || too_long {
        let line = crate::observe::clients::describe(&engine.server, session);
        tracing::warn!(
            "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
        );
        engine.server.stats.output_limit_disconnections += 1;
        connection.close();
    }
}
