//! A client's socket, whichever family it is of, and whether or not TLS is spoken on it.

use super::tls::session::{Lent, Parcel, Tls};
use crate::resp::{ReplyBuf, Room};
use bytes::BufMut;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

/// A socket on its way from one thread to another, where nobody waits for it.
pub enum Luggage {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(Box<Parcel>),
}

/// A socket as somebody else has it who writes what follows.
pub enum Outlet {
    Plain(OwnedFd),
    Tls(Lent),
}

/// Most pieces one write hands to the kernel.
const SLICES: usize = 64;

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Tls>),
}

impl Stream {
    /// Reads into this room, which is not made into zeros first; 0 bytes mean the end.
    ///
    /// This goes through `AsyncRead` and not through `try_read`, because only the former notes
    /// that a short read has drained the socket and so saves a second system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: Room<'_>) -> Poll<io::Result<usize>> {
        if let Stream::Tls(tls) = self {
            return tls.poll_read(cx, room);
        }
        let mut room = room.buffer.limit(room.len);
        match self {
            Stream::Tcp(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
            Stream::Unix(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
            Stream::Tls(_) => unreachable!("it was just seen"),
        }
    }

    /// Writes at most so much of an output; how much the socket has taken. `count` is told of each
    /// system call.
    pub fn write_some(
        &mut self,
        out: &mut ReplyBuf,
        most: usize,
        count: impl Fn(usize),
    ) -> io::Result<usize> {
        if let Stream::Tls(tls) = self {
            return tls.write_some(out, most, count);
        }
        let mut written = 0;
        while !out.is_empty() && written < most {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = out.slices(&mut slices, most - written);
            match self.try_write(&slices[..filled]) {
                Ok(taken) => {
                    out.advance(taken);
                    written += taken;
                    count(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Whether something is to go out that is no part of any output any more.
    pub fn has_unsent(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.has_unsent())
    }

    /// Lets small packets wait for more to come, or not.
    pub fn set_delay(&self, delays: bool) {
        let socket = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(tls) => tls.socket(),
            Stream::Unix(_) => return,
        };
        // A connection that is gone fails at its next use.
        let _ = socket.set_nodelay(!delays);
    }

    /// Takes the socket from this thread, for another one.
    pub fn pack(self) -> io::Result<Luggage> {
        Ok(match self {
            Stream::Tcp(stream) => Luggage::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Luggage::Unix(stream.into_std()?),
            Stream::Tls(tls) => Luggage::Tls(Box::new(tls.pack()?)),
        })
    }

    /// The same socket once more, for a thread that writes to it while this one reads; and how much
    /// of the front of the output is on its way there already.
    pub fn lend(&mut self) -> io::Result<(Outlet, usize)> {
        let plain = |socket: BorrowedFd<'_>| Ok((Outlet::Plain(socket.try_clone_to_owned()?), 0));
        match self {
            Stream::Tcp(stream) => plain((*stream).as_fd()),
            Stream::Unix(stream) => plain((*stream).as_fd()),
            Stream::Tls(tls) => {
                let (lent, sealed) = tls.lend()?;
                Ok((Outlet::Tls(lent), sealed))
            }
        }
    }

    /// Says a last word, if the socket takes it, and that nothing follows.
    pub fn end_with(&mut self, word: &[u8]) {
        let mut out = ReplyBuf::with_written(word.to_vec());
        // Whoever does not read this learns it from the closed connection.
        let _ = self.write_some(&mut out, usize::MAX, |_| {});
        self.say_farewell();
    }

    /// Says that nothing follows, where there is a way to.
    pub fn say_farewell(&mut self) {
        if let Stream::Tls(tls) = self {
            tls.say_farewell();
        }
    }

    /// Ends the connection whoever else has the socket.
    pub fn shut_down(&self) {
        // It fails for one that the peer has ended already.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Stream::Tls(tls) => SockRef::from(tls.socket()).shutdown(Shutdown::Both),
        };
    }

    /// Takes a socket in that comes from another thread.
    pub fn unpack(luggage: Luggage) -> io::Result<Stream> {
        Ok(match luggage {
            Luggage::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Luggage::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            Luggage::Tls(parcel) => Stream::Tls(Box::new(Tls::unpack(*parcel)?)),
        })
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Stream::Tcp(stream), [one]) => stream.try_write(one),
            (Stream::Tcp(stream), many) => stream.try_write_vectored(many),
            (Stream::Unix(stream), [one]) => stream.try_write(one),
            (Stream::Unix(stream), many) => stream.try_write_vectored(many),
            (Stream::Tls(_), _) => unreachable!("it seals what it writes"),
        }
    }

    /// Whether something can be read, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
            Stream::Tls(tls) => tls.poll_write_ready(cx),
        }
    }
}
