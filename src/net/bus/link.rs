//! The life of a connection of the bus, from the dial or the welcome to its end.
//!
//! Packets are handed over a few at a time, one connection after the other, with a turn of the
//! executor and a look for input between: so many peers that flood cost clients no more than one.
//! Who does not take answers is not read from, so none pile up.

use super::packets::{Caps, Input};
use super::port::Wire;
use crate::cluster::links::LinkId;
use crate::cluster::machine::Event;
use crate::cluster::wire::Fault;
use crate::config::os_reason;
use crate::engine::Engine;
use crate::net::channel::{Channel, connect};
use crate::net::listener::keep_alive;
use crate::net::shared::Net;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// So many packets are looked at before others have their turn.
const PACKETS_AT_A_STRETCH: usize = 64;

/// Nothing is read of an accepted connection that has so much to take.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long the first packet of an accepted connection may take, if not as long as a node may be
/// silent: nodes send it at once.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long a packet of somebody may be of whom nobody knows. It has room for what one says who
/// has all of some thousand nodes for failing.
const STRANGE_BYTES_MAX: usize = 256 * 1024;

/// Who has made the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    We,
    They,
}

/// Why a connection has ended.
enum Ended {
    Socket(io::Error),
    /// What came is no packet.
    NoPacket(Fault),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Socket(error)
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Ended {
        Ended::NoPacket(fault)
    }
}

/// Connects to a node.
pub fn dial(net: &Rc<Net>, engine: &Engine, link: LinkId, ip: String, port: u16) {
    let source = engine.config().bind_source_addr.as_ref();
    let source = source.and_then(|text| text.to_string_lossy().parse().ok());
    let wire = net.bus.add(link);
    tokio::task::spawn_local(run_dialled(Rc::clone(net), wire, ip, port, source));
}

async fn run_dialled(net: Rc<Net>, wire: Rc<Wire>, ip: String, port: u16, source: Option<IpAddr>) {
    let opened = tokio::select! {
        opened = open(&net, &ip, port, source) => opened,
        () = wire.ended() => return,
    };
    match opened {
        Ok(channel) => {
            let own_ip = own_ip(channel.socket());
            tell(&net, Event::Connected { link: wire.link, own_ip: &own_ip });
            run(&net, &wire, channel, Side::We).await;
        }
        Err(error) => {
            let reason = os_reason(&error);
            tracing::debug!("Connection with a node at {ip}:{port} failed: {reason}");
        }
    }
    end(&net, &wire);
}

async fn open(net: &Net, ip: &str, port: u16, source: Option<IpAddr>) -> io::Result<Channel> {
    let addresses: Vec<SocketAddr> = match ip.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        // Somebody has his nodes announce names.
        Err(_) => tokio::net::lookup_host((ip, port)).await?.collect(),
    };
    let mut connected = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        connected = connect(address, source).await;
        if connected.is_ok() {
            break;
        }
    }
    let socket = connected?;
    let by_tls = {
        let engine = net.engine.borrow();
        keep_alive(&socket, keepalive(&engine));
        engine.config().tls_cluster
    };
    if by_tls { Channel::secure(net, socket).await } else { Ok(socket.into()) }
}

/// How often it is asked whether a silent peer is still there.
pub fn keepalive(engine: &Engine) -> Duration {
    Duration::from_secs(engine.config().cluster_node_timeout / 1000 * 2)
}

/// Serves a connection that somebody has made.
pub async fn serve(net: Rc<Net>, wire: Rc<Wire>, socket: TcpStream, peer: SocketAddr) {
    let own_ip = own_ip(&socket);
    let opened = tokio::select! {
        opened = receive(&net, socket) => opened,
        () = wire.ended() => return end(&net, &wire),
    };
    match opened {
        Ok(channel) => {
            let (peer_ip, peer_port) = (peer.ip().to_canonical().to_string(), peer.port());
            let (link, peer_ip, own_ip) = (wire.link, &*peer_ip, &*own_ip);
            tell(&net, Event::Accepted { link, peer_ip, peer_port, own_ip });
            run(&net, &wire, channel, Side::They).await;
        }
        Err(error) => {
            tracing::debug!("Error accepting cluster node connection: {}", os_reason(&error));
        }
    }
    end(&net, &wire);
}

async fn receive(net: &Net, socket: TcpStream) -> io::Result<Channel> {
    let by_tls = net.engine.borrow().config().tls_cluster;
    if by_tls { Channel::receive_node(net, socket).await } else { Ok(socket.into()) }
}

fn own_ip(socket: &TcpStream) -> String {
    let own = socket.local_addr();
    own.map_or_else(|_| String::new(), |own| own.ip().to_canonical().to_string())
}

fn tell(net: &Rc<Net>, event: Event<'_>) {
    {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        engine.tell_cluster(event);
    }
    // What follows is done when the executor's turn begins.
    net.wake_executor();
}

fn end(net: &Rc<Net>, wire: &Wire) {
    if net.bus.forget(wire) {
        tell(net, Event::Closed(wire.link));
    }
}

/// Moves packets both ways until the connection ends.
async fn run(net: &Rc<Net>, wire: &Wire, mut channel: Channel, side: Side) {
    match exchange(net, wire, &mut channel, side).await {
        Ok(()) => {}
        Err(Ended::Socket(error)) => {
            tracing::trace!("I/O error reading from node link: {}", os_reason(&error));
        }
        Err(Ended::NoPacket(fault)) => complain(net, &channel, fault),
    }
}

/// Says in the log that somebody does not speak as nodes do, unless much is said already.
fn complain(net: &Net, channel: &Channel, fault: Fault) {
    let Some(left_out) = net.bus.complaints.admit(Instant::now()) else { return };
    let peer = channel.socket().peer_addr().ok();
    let from = peer.map(|peer| format!(" from {}:{}", peer.ip().to_canonical(), peer.port()));
    let from = from.unwrap_or_default();
    tracing::warn!("Bad message length or signature received on the Cluster bus{from}: {fault}");
    if left_out > 0 {
        tracing::warn!("{left_out} more connections on the Cluster bus were closed for this");
    }
}

async fn exchange(
    net: &Rc<Net>,
    wire: &Wire,
    channel: &mut Channel,
    side: Side,
) -> Result<(), Ended> {
    let mut input = Input::default();
    let timeout_ms = net.engine.borrow().config().cluster_node_timeout;
    let silence_max = Duration::from_millis(timeout_ms).max(SILENCE_MAX);
    let mut silence = pin!(tokio::time::sleep(silence_max));
    while !wire.is_over() {
        let may_read = side == Side::We || wire.outgoing.borrow().len() <= ANSWER_BYTES_MAX;
        let moved = poll_fn(|cx| {
            // Both are asked, so that either has the task polled again.
            let read = if may_read { poll_read(channel, &mut input, cx) } else { Poll::Pending };
            let written = poll_write(wire, channel, cx);
            if read.is_ready() { read } else { written }
        });
        tokio::select! {
            () = wire.wake.notified() => continue,
            moved = moved => moved?,
            () = &mut silence, if side == Side::They && !wire.has_spoken.get() => {
                return Err(Ended::Socket(io::ErrorKind::TimedOut.into()));
            }
        }
        hand_over(net, wire, &mut input).await?;
        wire.input_bytes.set(input.allocated_bytes());
    }
    Ok(())
}

fn poll_read(
    channel: &mut Channel,
    input: &mut Input,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match ready!(pin!(channel.read_buf(input.room()?)).poll(cx))? {
        0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        _ => Poll::Ready(Ok(())),
    }
}

/// Writes what there is to be written; not ready if that is nothing.
fn poll_write(wire: &Wire, channel: &mut Channel, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut outgoing = wire.outgoing.borrow_mut();
    if let Some(front) = outgoing.front() {
        let count = ready!(pin!(channel.write(front)).poll(cx))?;
        outgoing.advance(count);
        return Poll::Ready(Ok(()));
    }
    if channel.has_unsent() { pin!(channel.flush()).poll(cx) } else { Poll::Pending }
}

/// Tells the machine what has come, a few packets at a time.
async fn hand_over(net: &Rc<Net>, wire: &Wire, input: &mut Input) -> Result<(), Fault> {
    while !wire.is_over() && input.next(caps(net, wire))?.is_some() {
        let _turn = net.bus.turn.lock().await;
        hand_over_some(net, wire, input)?;
        net.wake_executor();
        net.yield_now().await;
    }
    Ok(())
}

fn hand_over_some(net: &Net, wire: &Wire, input: &mut Input) -> Result<(), Fault> {
    let caps = caps(net, wire);
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    for _ in 0..PACKETS_AT_A_STRETCH {
        let Some(packet) = input.next(caps)? else { break };
        engine.tell_cluster(Event::Packet(wire.link, packet));
        let len = packet.len();
        input.pass(len);
    }
    wire.has_spoken.set(true);
    if wire.is_stranger() && engine.knows_bus_link(wire.link) {
        net.bus.befriend(wire);
    }
    Ok(())
}

fn caps(net: &Net, wire: &Wire) -> Caps {
    let message_bytes = net.engine.borrow().config().proto_max_bulk_len.saturating_mul(2);
    let packet_bytes = if wire.is_stranger() { STRANGE_BYTES_MAX } else { usize::MAX };
    Caps { message_bytes, packet_bytes }
}
