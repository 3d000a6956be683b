//! Handshakes, on threads of their own: a signature by RSA takes as long as a thousand GETs.
//!
//! A socket comes in an order and goes back in an answer, with its session or a word why there is
//! none. In between it costs little: nothing of TLS is made before the first bytes have come that
//! look like it, and every handshake has a time in which it must end.
//!
//! Who does not speak TLS at all is told so in plain text, as it would read that.

use super::session::{Parcel, Ready, Session};
use crate::engine::CertificateNames;
use crate::net::jobs::give_way;
use crate::observe::memory;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::cell::Cell;
use std::io::{self, Read};
use std::net;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

/// How long a handshake may take, and how long a plain client has to read that it is one.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const HINT_MAX: Duration = Duration::from_secs(1);

/// What a plain client on the port for TLS is told.
const HINT: &[u8] = b"-ERR Bad TLS header, double check if you enabled TLS for your client.\r\n";

/// How much a plain client may still send while it is told so.
const HINT_READ_BYTES_MAX: usize = 64 * 1024;

/// What the first record of a handshake begins with: its kind, the version, the length.
const HEADER_BYTES: usize = 5;

/// A handshake that is to be made.
pub struct Order {
    pub socket: net::TcpStream,
    pub role: Role,
    /// Who wants to know; once it is gone the handshake is given up.
    pub answer: oneshot::Sender<Answer>,
}

pub enum Role {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>),
}

pub type Answer = Result<Shaken, String>;

/// A handshake that was made.
pub struct Shaken {
    pub parcel: Parcel,
    pub names: Option<CertificateNames>,
    pub is_resumed: bool,
}

/// The threads; they end with the process.
pub struct Handshakers {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    next: Cell<usize>,
}

/// Most threads that shake hands.
const THREADS_MAX: usize = 2;

impl Handshakers {
    /// Starts the threads, which are fewer than there are processors.
    pub fn start() -> io::Result<Handshakers> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors - 1).clamp(1, THREADS_MAX);
        let orders = (0..threads).map(|_| start_thread()).collect::<io::Result<_>>()?;
        Ok(Handshakers { orders, next: Cell::new(0) })
    }

    pub fn shake(&self, order: Order) {
        let next = self.next.get();
        self.next.set((next + 1) % self.orders.len());
        let sent = self.orders[next].send(order);
        sent.unwrap_or_else(|_| unreachable!("the thread lives as long as the process"));
    }
}

fn start_thread() -> io::Result<mpsc::UnboundedSender<Order>> {
    let (orders, mut queue) = mpsc::unbounded_channel::<Order>();
    thread::Builder::new().name("handshaker".into()).spawn(move || {
        memory::count_this_thread();
        give_way();
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.expect("a runtime can be made as others were");
        runtime.block_on(async move {
            while let Some(order) = queue.recv().await {
                tokio::task::spawn_local(carry_out(order));
            }
        });
    })?;
    Ok(orders)
}

async fn carry_out(order: Order) {
    let Order { socket, role, mut answer } = order;
    let shaken = async {
        tokio::time::timeout(HANDSHAKE_MAX, shake(socket, role))
            .await
            .unwrap_or_else(|_| Err("handshake timed out".to_owned()))
    };
    tokio::select! {
        // Whoever asked may just have gone.
        shaken = shaken => drop(answer.send(shaken)),
        () = answer.closed() => {}
    }
}

async fn shake(socket: net::TcpStream, role: Role) -> Answer {
    let text = |error: io::Error| crate::config::os_reason(&error);
    let mut socket = TcpStream::from_std(socket).map_err(text)?;
    let connection = match role {
        Role::Client(config) => client(config),
        Role::Server(config) => {
            let header = read_header(&mut socket).await?;
            server(config, &header)
        }
    };
    let connection = finish(&socket, connection?).await?;
    let session = Session::new(connection);
    let (names, is_resumed) = (session.names(), session.is_resumed());
    let parcel = Parcel::new(socket.into_std().map_err(text)?, session);
    Ok(Shaken { parcel, names, is_resumed })
}

fn client(config: Arc<ClientConfig>) -> Result<Connection, String> {
    // No name is compared and none is sent, but one has to be said.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
    let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
    Ok(connection.into())
}

/// A server's side, which has read the header of the first record.
fn server(config: Arc<ServerConfig>, header: &[u8]) -> Result<Connection, String> {
    let connection = ServerConnection::new(config).map_err(|error| error.to_string())?;
    let mut connection = Connection::from(connection);
    let taken = connection.read_tls(&mut &header[..]).map_err(|error| error.to_string())?;
    debug_assert_eq!(taken, header.len());
    Ok(connection)
}

/// Reads what a record begins with, and no more. Whoever begins otherwise is told so.
async fn read_header(socket: &mut TcpStream) -> Result<[u8; HEADER_BYTES], String> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while have < HEADER_BYTES {
        match read_some(socket, &mut header[have..]).await? {
            0 => return Err(CLOSED.to_owned()),
            read => have += read,
        }
        if !may_be_hello(&header[..have]) {
            // Whoever does not read it learns it from the closed connection.
            let _ = tokio::time::timeout(HINT_MAX, give_hint(socket)).await;
            return Err("the client does not speak TLS".to_owned());
        }
    }
    Ok(header)
}

const CLOSED: &str = "the peer has closed the connection";

/// Whether a connection that begins like this may be one by TLS.
fn may_be_hello(header: &[u8]) -> bool {
    let expected: [fn(u8) -> bool; 3] =
        [|kind| kind == 0x16, |major| major == 3, |minor| minor <= 4];
    header.iter().zip(expected).all(|(byte, is_right)| is_right(*byte))
}

/// A socket that is closed while there is something to read is reset, and what was written last is
/// lost: so it is read from until the other side has done.
async fn give_hint(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(HINT).await?;
    socket.shutdown().await?;
    let mut read = 0;
    let mut bytes = [0; 1024];
    while read < HINT_READ_BYTES_MAX {
        match read_some(socket, &mut bytes).await.map_err(io::Error::other)? {
            0 => break,
            some => read += some,
        }
    }
    Ok(())
}

/// Reads what there is as soon as there is some.
async fn read_some(socket: &TcpStream, bytes: &mut [u8]) -> Result<usize, String> {
    let text = |error: io::Error| crate::config::os_reason(&error);
    loop {
        socket.readable().await.map_err(text)?;
        match Ready(socket).read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map_err(text),
        }
    }
}

/// Goes on until nothing of the handshake is left to be said.
async fn finish(socket: &TcpStream, mut connection: Connection) -> Result<Connection, String> {
    let text = |error: io::Error| crate::config::os_reason(&error);
    loop {
        while connection.wants_write() {
            socket.writable().await.map_err(text)?;
            match connection.write_tls(&mut Ready(socket)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(text(error)),
                _ => {}
            }
        }
        if !connection.is_handshaking() {
            return Ok(connection);
        }
        socket.readable().await.map_err(text)?;
        match connection.read_tls(&mut Ready(socket)) {
            Ok(0) => return Err(CLOSED.to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(text(error)),
        }
        if let Err(error) = connection.process_new_packets() {
            // The alert says as much to the other side, if it fits into the socket.
            let _ = connection.write_tls(&mut Ready(socket));
            return Err(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_known_by_its_first_bytes() {
        for hello in [&b"\x16"[..], b"\x16\x03", b"\x16\x03\x01\x02\x00", b"\x16\x03\x04", b""] {
            assert!(may_be_hello(hello), "{hello:?}");
        }
        for other in [&b"*"[..], b"PING\r", b"\x16\x02", b"\x16\x03\x05", b"\x15\x03\x01", b"\0"] {
            assert!(!may_be_hello(other), "{other:?}");
        }
    }
}
