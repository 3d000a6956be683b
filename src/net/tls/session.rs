//! A connection that speaks TLS: [`Session::open`] takes records apart, [`Session::seal`] makes
//! them.
//!
//! rustls keeps what was sealed until the socket has taken it. Until then it also stays where it
//! came from: of a connection's output only that is gone which the socket has, so everything that
//! counts output counts this too. The same bytes are never sealed twice, since it is known how much
//! of the front of the output was.
//!
//! The session stands behind a lock because a sender of snapshots shares it for a while: sealing
//! gigabytes is for that thread and not for the executor's. Whoever writes to the socket has the
//! lock, so records leave in the order in which they were made. Nobody waits for the lock while
//! reading: the sender may be kept from the processor while it holds it.

use crate::engine::CertificateNames;
use crate::net::tls::certificate::Facts;
use crate::resp::{ReplyBuf, Room};
use bytes::BufMut;
use rustls::{Connection, HandshakeKind};
use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Most of an output that is sealed before the socket has taken what was sealed earlier. It stays
/// in memory twice until then.
const PORTION: usize = 64 * 1024;

/// Most slices of an output that are sealed together.
const SLICES: usize = 64;

/// What one read takes from a socket: a record of the greatest length, and some.
const READ_BYTES: usize = 32 * 1024;

/// Records that hold nothing are looked at up to so many bytes of them before others have their
/// turn.
const EMPTY_BYTES_MAX: usize = 128 * 1024;

thread_local! {
    /// Where records stay between socket and session. Nothing is left in it.
    static RECORDS: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The state of the protocol, after the handshake.
pub struct Session(Connection);

impl Session {
    /// What came of a handshake.
    pub fn new(mut connection: Connection) -> Session {
        // What is sealed at a time is limited here.
        connection.set_buffer_limit(None);
        Session(connection)
    }

    /// Whether an earlier session was taken up.
    pub fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whom the peer's certificate names, if it has shown one.
    pub fn names(&self) -> Option<CertificateNames> {
        let certificate = self.0.peer_certificates()?.first()?;
        Facts::read(certificate).map(|facts| facts.names())
    }

    /// Takes records apart and puts what they hold into the room, as far as there is some; how many
    /// bytes of them were used up.
    fn open(&mut self, records: &[u8], room: &mut impl BufMut) -> io::Result<usize> {
        let mut used = 0;
        loop {
            self.hand_out(room);
            if used == records.len() || !room.has_remaining_mut() || self.has_ended() {
                return Ok(used);
            }
            used += self.0.read_tls(&mut &records[used..])?;
            self.0.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Puts what was opened into the room.
    fn hand_out(&mut self, room: &mut impl BufMut) {
        let mut reader = self.0.reader();
        while room.has_remaining_mut() {
            // Without anything it is an error, or the end, which is asked for elsewhere.
            let Ok(opened) = reader.fill_buf() else { return };
            let count = opened.len().min(room.remaining_mut());
            if count == 0 {
                return;
            }
            room.put_slice(&opened[..count]);
            reader.consume(count);
        }
    }

    /// Whether something was opened that nobody has taken yet.
    fn has_opened(&mut self) -> bool {
        self.0.reader().fill_buf().is_ok_and(|opened| !opened.is_empty())
    }

    /// Whether the peer has said that nothing more comes, and all before was taken.
    fn has_ended(&mut self) -> bool {
        self.0.reader().fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    /// Makes records of the pieces, up to so much of them; how much that was.
    fn seal(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [one] => self.0.writer().write(one),
            many => self.0.writer().write_vectored(many),
        }
    }

    /// Writes what was sealed; false if the socket does not take all of it.
    fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn has_unsent(&self) -> bool {
        self.0.wants_write()
    }
}

/// A socket that does not wait, as rustls reads from it and writes to it.
pub struct Ready<'s>(pub &'s TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket and its session.
pub struct Tls {
    socket: TcpStream,
    state: State,
}

/// All of it but the socket.
struct State {
    session: Arc<Mutex<Session>>,
    /// Records for whose content there was no room.
    unopened: Vec<u8>,
    /// How much of the front of the output was sealed and is not yet all with the socket.
    sealed: usize,
}

/// The same on its way from one thread to another.
pub struct Parcel {
    socket: std::net::TcpStream,
    state: State,
}

impl Parcel {
    pub fn new(socket: std::net::TcpStream, session: Session) -> Parcel {
        let session = Arc::new(Mutex::new(session));
        Parcel { socket, state: State { session, unopened: Vec::new(), sealed: 0 } }
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tls {
    pub fn unpack(parcel: Parcel) -> io::Result<Tls> {
        Ok(Tls { socket: TcpStream::from_std(parcel.socket)?, state: parcel.state })
    }

    pub fn pack(self) -> io::Result<Parcel> {
        Ok(Parcel { socket: self.socket.into_std()?, state: self.state })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads into this room; 0 bytes mean the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: Room<'_>) -> Poll<io::Result<usize>> {
        let before = room.buffer.len();
        let mut limited = room.buffer.limit(room.len);
        let polled = self.poll_open(cx, &mut limited);
        let read = limited.get_ref().len() - before;
        // What was opened before a failure is still handed out; the failure is met again.
        if read > 0 { Poll::Ready(Ok(read)) } else { polled.map_ok(|()| 0) }
    }

    /// Reads until there is something in the room, or the end has come.
    fn poll_open(&mut self, cx: &mut Context<'_>, room: &mut impl BufMut) -> Poll<io::Result<()>> {
        let Tls { socket, state } = self;
        let Ok(mut session) = state.session.try_lock() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let room_before = room.remaining_mut();
        let unopened = std::mem::take(&mut state.unopened);
        let used = open(&mut session, socket, &unopened, room)?;
        state.unopened.extend_from_slice(&unopened[used..]);
        let mut looked_at = 0;
        while room.remaining_mut() == room_before && !session.has_ended() {
            if looked_at >= EMPTY_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = RECORDS.with_borrow_mut(|records| {
                let mut buffer = ReadBuf::new(records);
                std::task::ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
                let records = buffer.filled();
                let used = open(&mut session, socket, records, room)?;
                state.unopened.extend_from_slice(&records[used..]);
                Poll::Ready(io::Result::Ok(records.len()))
            });
            match std::task::ready!(read)? {
                0 => break,
                read => looked_at += read,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether something can be read, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_left = !self.state.unopened.is_empty()
            || self
                .state
                .session
                .try_lock()
                .is_ok_and(|mut session| session.has_opened() || session.has_ended());
        if is_left { Poll::Ready(Ok(())) } else { self.socket.poll_read_ready(cx) }
    }

    /// Seals and writes at most so much of an output; how much of it the socket has taken. `count`
    /// is told of that.
    pub fn write_some(
        &mut self,
        out: &mut ReplyBuf,
        most: usize,
        count: impl Fn(usize),
    ) -> io::Result<usize> {
        let State { session, sealed, .. } = &mut self.state;
        let mut session = lock(session);
        let mut written = 0;
        while session.flush(&mut Ready(&self.socket))? {
            let gone = std::mem::take(sealed);
            if gone > 0 {
                out.advance(gone);
                written += gone;
                count(gone);
            }
            if out.is_empty() || written >= most {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = out.slices(&mut slices, PORTION.min(most - written));
            *sealed = session.seal(&slices[..filled])?;
        }
        Ok(written)
    }

    /// Whether the session has something for the socket. Of an output nothing is left then that
    /// was not counted.
    pub fn has_unsent(&self) -> bool {
        lock(&self.state.session).has_unsent()
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Lends the session to another thread, which seals what follows. So much of the front of the
    /// output was sealed and belongs to the session from now on.
    pub fn lend(&mut self) -> io::Result<(Lent, usize)> {
        let socket = self.socket.as_fd().try_clone_to_owned()?;
        let lent = Lent { socket, session: Arc::clone(&self.state.session) };
        Ok((lent, std::mem::take(&mut self.state.sealed)))
    }

    /// Tells the peer that the connection ends here, if nothing is left that has to go out before.
    pub fn say_farewell(&mut self) {
        let Ok(mut session) = self.state.session.try_lock() else { return };
        if session.has_unsent() {
            return;
        }
        session.0.send_close_notify();
        // Who has gone already need not be told.
        let _ = session.flush(&mut Ready(&self.socket));
    }
}

/// Opens records. What the session has to say to that is written as far as the socket takes it: an
/// alert above all.
fn open(
    session: &mut Session,
    socket: &TcpStream,
    records: &[u8],
    room: &mut impl BufMut,
) -> io::Result<usize> {
    let opened = session.open(records, room);
    if session.has_unsent() {
        let flushed = session.flush(&mut Ready(socket));
        return opened.and_then(|used| flushed.map(|_| used));
    }
    opened
}

/// A session that is lent to a thread, with a socket of its own to write to.
pub struct Lent {
    socket: OwnedFd,
    session: Arc<Mutex<Session>>,
}

impl Lent {
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Seals some of the pieces; how much that was. It is written by and by, at the latest when the
    /// session is no longer lent.
    pub fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = lock(&self.session);
        let mut socket = Descriptor(&self.socket);
        if !session.flush(&mut socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken: Vec<IoSlice<'_>> = Vec::with_capacity(pieces.len());
        let mut room = PORTION;
        for piece in pieces {
            let count = piece.len().min(room);
            taken.push(IoSlice::new(&piece[..count]));
            room -= count;
        }
        let sealed = session.seal(&taken)?;
        session.flush(&mut socket)?;
        Ok(sealed)
    }
}

/// A socket outside of any runtime.
struct Descriptor<'d>(&'d OwnedFd);

impl Write for Descriptor<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, pieces)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_open(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut tls = self;
        std::task::ready!(tls.as_mut().poll_flush(cx))?;
        let taken = bytes.len().min(PORTION);
        let sealed = lock(&tls.state.session).seal(&[IoSlice::new(&bytes[..taken])])?;
        // What the socket does not take now goes before whatever is written next.
        let _ = tls.poll_flush(cx)?;
        Poll::Ready(Ok(sealed))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = lock(&self.state.session);
        while !session.flush(&mut Ready(&self.socket))? {
            std::task::ready!(self.socket.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_farewell();
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
