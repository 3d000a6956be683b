//! A connection of this server's own, to its primary, from a Sentinel, between nodes of a cluster
//! or with a scraper: plain or by TLS, to be read and written as any stream.

use super::shared::Net;
use super::tls::desk;
use super::tls::session::Tls;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

/// Connects to another server, from an address of this machine if one is wanted and is of the same
/// kind.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(ip) = source.filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub enum Channel {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Channel {
    /// Speaks over a socket that we have connected to another server, by TLS if such links do.
    pub async fn open(net: &Net, socket: TcpStream) -> io::Result<Channel> {
        let is_secure = net.engine.borrow().config().tls_replication;
        if is_secure { Channel::secure(net, socket).await } else { Ok(socket.into()) }
    }

    /// The same, by TLS.
    pub async fn secure(net: &Net, socket: TcpStream) -> io::Result<Channel> {
        Ok(net.tls.connect(socket).await?.into())
    }

    /// Speaks by TLS over a socket that a node of the cluster has connected to us.
    pub async fn receive_node(net: &Net, socket: TcpStream) -> io::Result<Channel> {
        Ok(desk::finish(net.tls.accept_node(socket)?).await?.into())
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Channel::Plain(socket) => socket,
            Channel::Tls(tls) => tls.socket(),
        }
    }

    /// Whether something that was written is still to go out.
    pub fn has_unsent(&self) -> bool {
        matches!(self, Channel::Tls(tls) if tls.has_unsent())
    }
}

impl From<TcpStream> for Channel {
    fn from(socket: TcpStream) -> Channel {
        Channel::Plain(socket)
    }
}

impl From<Tls> for Channel {
    fn from(tls: Tls) -> Channel {
        Channel::Tls(Box::new(tls))
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Channel::Tls(tls) => AsyncRead::poll_read(Pin::new(&mut **tls), cx, buffer),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Channel::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Channel::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Channel::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Channel::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
