//! A client's socket, whichever family it is of.

use crate::resp::Room;
use bytes::BufMut;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Reads into this room, which is not made into zeros first; 0 bytes mean the end.
    ///
    /// This goes through `AsyncRead` and not through `try_read`, because only the former notes
    /// that a short read has drained the socket and so saves a second system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: Room<'_>) -> Poll<io::Result<usize>> {
        let mut room = room.buffer.limit(room.len);
        match self {
            Stream::Tcp(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
            Stream::Unix(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
        }
    }

    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Stream::Tcp(stream), [one]) => stream.try_write(one),
            (Stream::Tcp(stream), many) => stream.try_write_vectored(many),
            (Stream::Unix(stream), [one]) => stream.try_write(one),
            (Stream::Unix(stream), many) => stream.try_write_vectored(many),
        }
    }

    /// Whether something can be read, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
        }
    }
}
