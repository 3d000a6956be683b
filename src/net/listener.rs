//! Listening sockets, and whom they let in.

use super::shared::Net;
use super::stream::Stream;
use super::{admission, limits, metrics, secure};
use crate::config::{Apply, BindAddresses, Config, os_reason};
use crate::engine::{ListenChange, Peer};
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

/// What is spoken at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tcp,
    Tls,
    /// That of the endpoint for metrics, where no client connects.
    Metrics,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Tcp, Kind::Tls, Kind::Metrics];

    /// As the log names it.
    fn word(self) -> &'static str {
        if self == Kind::Tls { "tls" } else { "tcp" }
    }

    fn port(self, config: &Config) -> u16 {
        match self {
            Kind::Tcp => config.port,
            Kind::Tls => config.tls_port,
            Kind::Metrics => config.metrics_port,
        }
    }

    /// How many are accepted before others have their turn.
    fn portion(self, config: &Config) -> u32 {
        match self {
            Kind::Tls => config.max_new_tls_connections_per_cycle,
            Kind::Tcp | Kind::Metrics => config.max_new_connections_per_cycle,
        }
    }

    fn serve(self, net: &Rc<Net>, listeners: Vec<TcpListener>) -> Vec<JoinHandle<()>> {
        let net = || Rc::clone(net);
        let open = metrics::Open::default();
        let serve = |listener| match self {
            Kind::Tcp | Kind::Tls => tokio::task::spawn_local(accept_tcp(net(), listener, self)),
            Kind::Metrics => {
                tokio::task::spawn_local(metrics::serve(net(), listener, Rc::clone(&open)))
            }
        };
        listeners.into_iter().map(serve).collect()
    }
}

/// The accept tasks of one port; dropping them closes its sockets.
struct Group {
    kind: Kind,
    addresses: BindAddresses,
    port: u16,
    tasks: Vec<JoinHandle<()>>,
}

impl Group {
    fn open(net: &Rc<Net>, kind: Kind, config: &Config) -> Result<Group, Unopened> {
        let (addresses, port) = (config.bind.clone(), kind.port(config));
        let tasks = kind.serve(net, bind_tcp(config, port, kind.word())?);
        Ok(Group { kind, addresses, port, tasks })
    }

    /// Whether it is open as the configuration wants it.
    fn fits(&self, config: &Config) -> bool {
        self.port == self.kind.port(config) && self.addresses == config.bind
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The Unix socket, which stays as it is; dropping it removes it.
struct UnixGroup {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for UnixGroup {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// All that is open.
#[derive(Default)]
pub struct Listeners {
    groups: Vec<Group>,
    unix: Option<UnixGroup>,
}

/// An address could not be opened; the log says which and why.
#[derive(Debug)]
pub struct Unopened;

impl Listeners {
    /// Opens every address of the configuration; that may be none.
    pub fn bind(net: &Rc<Net>) -> Result<Listeners, Unopened> {
        let mut listeners = Listeners::default();
        listeners.open_missing(net)?;
        let engine = net.engine.borrow();
        let config = engine.config();
        if let Some(path) = config.unixsocket.as_ref().filter(|path| !path.is_empty()) {
            let listener = bind_unix(path.as_path(), config).map_err(|refusal| {
                tracing::warn!("Failed opening Unix socket: {refusal}");
                Unopened
            })?;
            let task = tokio::task::spawn_local(accept_unix(Rc::clone(net), listener));
            listeners.unix = Some(UnixGroup { path: path.as_path().to_owned(), task });
        }
        Ok(listeners)
    }

    /// Opens what the configuration wants and is not open.
    fn open_missing(&mut self, net: &Rc<Net>) -> Result<(), Unopened> {
        let engine = net.engine.borrow();
        let config = engine.config();
        for kind in Kind::ALL {
            let is_open = self.groups.iter().any(|group| group.kind == kind && group.fits(config));
            if kind.port(config) != 0 && !is_open {
                self.groups.push(Group::open(net, kind, config)?);
            }
        }
        Ok(())
    }

    /// Opens what is wanted now, then closes what is not. If something cannot be opened, what was
    /// open before is.
    async fn follow(&mut self, net: &Rc<Net>) -> Result<(), Unopened> {
        let config = net.engine.borrow().config().clone();
        let (kept, stale) = self.groups.drain(..).partition(|group| group.fits(&config));
        self.groups = kept;
        let mut stale: Vec<Group> = stale;
        let is_wanted = |port| Kind::ALL.iter().any(|kind| kind.port(&config) == port);
        let before: Vec<(Kind, BindAddresses, u16)> =
            stale.iter().map(|group| (group.kind, group.addresses.clone(), group.port)).collect();
        if stale.iter().any(|group| is_wanted(group.port)) {
            // The same port, on other addresses or for something else, can only be opened when the
            // old one is closed.
            stale.clear();
            tokio::task::yield_now().await;
        }
        let known = self.groups.len();
        let opened = self.open_missing(net);
        if opened.is_err() {
            self.groups.truncate(known);
            tokio::task::yield_now().await;
            if stale.is_empty() {
                self.reopen(net, &config, before);
            }
            self.groups.append(&mut stale);
        }
        opened
    }

    fn reopen(&mut self, net: &Rc<Net>, config: &Config, before: Vec<(Kind, BindAddresses, u16)>) {
        for (kind, addresses, port) in before {
            let config = Config { bind: addresses.clone(), ..config.clone() };
            // The log says so if somebody else has taken it meanwhile.
            if let Ok(listeners) = bind_tcp(&config, port, kind.word()) {
                let tasks = kind.serve(net, listeners);
                self.groups.push(Group { kind, addresses, port, tasks });
            }
        }
    }

    /// Whether nobody can connect.
    pub fn is_empty(&self) -> bool {
        self.kinds().is_empty()
    }

    /// The kinds of addresses that are open, as the log names them.
    pub fn kinds(&self) -> Vec<&'static str> {
        // Addresses that may be missing are, and nothing else is there then.
        let is_open = |group: &&Group| !group.tasks.is_empty();
        let has = |kind| self.groups.iter().filter(is_open).any(|group| group.kind == kind);
        let kinds =
            [(has(Kind::Tcp), "tcp"), (self.unix.is_some(), "unix"), (has(Kind::Tls), "tls")];
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

/// Keeps the listeners, and follows changes of the configuration: certificates first, which new
/// addresses may need.
pub async fn keep(net: Rc<Net>, mut listeners: Listeners) {
    loop {
        net.listeners_changed.notified().await;
        loop {
            let Some(change) = net.listen_changes.borrow_mut().pop_front() else { break };
            let outcome = follow(&net, &mut listeners, &change).await;
            net.engine.borrow_mut().finish_listening(change, outcome);
            net.executor.notify_one();
        }
    }
}

/// Follows a change, wholly or not at all; the error is what could not be done.
async fn follow(
    net: &Rc<Net>,
    listeners: &mut Listeners,
    change: &ListenChange,
) -> Result<(), Apply> {
    let is_asked_for = change.acts.contains(&Apply::Tls);
    let concerns_tls =
        secure::concerns(net.engine.borrow().config(), &change.previous, is_asked_for);
    let mut before = None;
    if concerns_tls {
        before = Some(secure::reload(net).await.map_err(|_| Apply::Tls)?);
    }
    let followed = listeners.follow(net).await;
    if let Some(before) = before.filter(|_| followed.is_err()) {
        secure::install(net, before);
    }
    followed.map_err(|Unopened| Apply::Listen)
}

/// Opens a port on all addresses of a configuration, for what the log calls by this name. An
/// address with a dash may be missing here, and an address family may be missing anyway.
pub fn bind_tcp(config: &Config, port: u16, name: &str) -> Result<Vec<TcpListener>, Unopened> {
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
                    tracing::warn!("Failed listening on port {port} ({name}), aborting.");
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

async fn accept_tcp(net: Rc<Net>, listener: TcpListener, kind: Kind) {
    let mut accepted = 0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                prepare_tcp(&stream, net.engine.borrow().config());
                let peer = peer_of(&stream, &address);
                match kind {
                    // Whoever connects there is not yet a client.
                    Kind::Tls => secure::welcome(&net, stream, peer),
                    Kind::Tcp | Kind::Metrics => {
                        admission::admit(&net, Stream::Tcp(stream), peer);
                    }
                }
                let most = kind.portion(net.engine.borrow().config());
                let_others_in(&net, &mut accepted, most).await;
            }
            Err(error) => limits::back_off(&error).await,
        }
    }
}

fn peer_of(stream: &TcpStream, address: &SocketAddr) -> Peer {
    let local = stream.local_addr().map_or_else(|_| String::new(), |a| a.to_string());
    Peer {
        address: display_address(address).into(),
        local_address: local.replace(['[', ']'], "").into(),
        fd: stream.as_raw_fd(),
        unix_socket: false,
        is_tls: false,
        is_local: address.ip().to_canonical().is_loopback(),
        certificate: None,
    }
}

/// A burst of connections is accepted in portions of so many: between them the runtime looks for
/// input, and those who are there already have their turn.
async fn let_others_in(net: &Net, accepted: &mut u32, most: u32) {
    *accepted += 1;
    if *accepted >= most {
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
                    is_tls: false,
                    is_local: true,
                    certificate: None,
                };
                admission::admit(&net, Stream::Unix(stream), peer);
                let most = Kind::Tcp.portion(net.engine.borrow().config());
                let_others_in(&net, &mut accepted, most).await;
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
    keep_alive(stream, Duration::from_secs(u64::from(config.tcp_keepalive)));
}

/// Has the system ask a silent peer whether it is still there, so often; never if that is zero.
pub fn keep_alive(stream: &TcpStream, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    let probes = TcpKeepalive::new()
        .with_time(interval)
        .with_interval((interval / 3).max(Duration::from_secs(1)))
        .with_retries(3);
    // As above.
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}
