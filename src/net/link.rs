//! The connection to our primary: a task that dials and reads, a thread that decodes a snapshot.
//!
//! The task only moves bytes: what they mean is the engine's to say, which looks at them in the
//! executor's turns ([`super::inflow`]), as at what clients have sent. A task belongs to one
//! attempt and ends when that is no longer the present one. What arrives faster than it is looked
//! at stays in the socket.

use super::port::Port;
use super::shared::Net;
use crate::engine::Engine;
use crate::engine::replication::LinkOrder;
use crate::observe::memory;
use crate::persist::load::{Batch, LoadError, Reading, SnapshotSource};
use crate::repl::link::{Attempt, LinkEvent};
use bytes::Bytes;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};

/// What one read takes from the socket at most.
const READ_BYTES: usize = 256 * 1024;
/// Parts of a snapshot that may wait to be decoded, and batches that may wait for the executor.
const PIECES_AHEAD: usize = 16;
const BATCHES_AHEAD: usize = 16;

/// Does what the engine wants done with the connection.
pub fn carry_out(net: &Rc<Net>, engine: &mut Engine, order: LinkOrder) {
    let port = &net.link;
    match order {
        LinkOrder::Dial { attempt, host, port: number } => {
            port.end();
            port.attempt.set(Some(attempt));
            port.inlet.borrow_mut().begin(attempt);
            let source = engine.config().bind_source_addr.as_ref();
            let source = source.and_then(|text| text.to_string_lossy().parse().ok());
            tokio::task::spawn_local(run(Rc::clone(net), attempt, host, number, source));
        }
        LinkOrder::Send(bytes) => {
            port.outgoing.borrow_mut().extend_from_slice(&bytes);
            port.wake.notify_one();
        }
        LinkOrder::Read { attempt, reading } => read_snapshot(net, attempt, *reading),
        LinkOrder::Close => port.end(),
        LinkOrder::StopReading => port.stop_reading(),
    }
}

/// The life of one connection.
async fn run(net: Rc<Net>, attempt: Attempt, host: String, number: u16, source: Option<IpAddr>) {
    let is_over = || net.link.attempt.get() != Some(attempt);
    let dialled = {
        let dial = dial(&host, number, source);
        tokio::pin!(dial);
        loop {
            tokio::select! {
                dialled = &mut dial => break dialled,
                () = net.link.wake.notified() => if is_over() { return },
            }
        }
    };
    let stream = match dialled {
        _ if is_over() => return,
        Ok(stream) => stream,
        Err(Undialled::NoAddress(text)) => {
            return tell(&net, attempt, LinkEvent::DialFailed(&text));
        }
        Err(Undialled::Refused(text)) => {
            return tell(&net, attempt, LinkEvent::ConnectFailed(&text));
        }
    };
    tell(&net, attempt, LinkEvent::Connected);
    let ended = exchange(&net, &stream, attempt).await;
    if !is_over() {
        *net.link.ended.borrow_mut() = Some(ended);
        net.executor.notify_one();
    }
}

enum Undialled {
    NoAddress(String),
    Refused(String),
}

async fn dial(host: &str, number: u16, source: Option<IpAddr>) -> Result<TcpStream, Undialled> {
    let text = |error: io::Error| crate::config::os_reason(&error);
    let found = tokio::net::lookup_host((host, number)).await;
    let addresses = found.map_err(|error| Undialled::NoAddress(text(error)))?;
    let mut last = Undialled::NoAddress("no address of that name".to_owned());
    for address in addresses {
        match connect(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Undialled::Refused(text(error)),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(ip) = source.filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Moves bytes both ways until the connection ends, for the reason that is returned, or the
/// attempt does.
async fn exchange(net: &Rc<Net>, stream: &TcpStream, attempt: Attempt) -> String {
    let port = &net.link;
    loop {
        if port.attempt.get() != Some(attempt) {
            return String::new();
        }
        let may_read = !port.inlet.borrow().is_full() && port.piece.borrow().is_none();
        let has_output = !port.outgoing.borrow().is_empty();
        tokio::select! {
            () = port.wake.notified() => {}
            ready = stream.readable(), if may_read => {
                if let Err(error) = ready.and_then(|()| read(net, stream)) {
                    return crate::config::os_reason(&error);
                }
            }
            ready = stream.writable(), if has_output => {
                if let Err(error) = ready.and_then(|()| write(port, stream)) {
                    return crate::config::os_reason(&error);
                }
            }
        }
    }
}

fn read(net: &Net, stream: &TcpStream) -> io::Result<()> {
    let mut inlet = net.link.inlet.borrow_mut();
    match stream.try_read_buf(inlet.room(READ_BYTES)) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            net.engine.borrow_mut().count_link_input(count);
            net.executor.notify_one();
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn write(port: &Port, stream: &TcpStream) -> io::Result<()> {
    let mut outgoing = port.outgoing.borrow_mut();
    match stream.try_write(&outgoing) {
        Ok(count) => _ = outgoing.drain(..count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn tell(net: &Rc<Net>, attempt: Attempt, event: LinkEvent<'_>) {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.tell_link_of(attempt, event);
    // What follows is done when the executor's turn begins.
    net.executor.notify_one();
}

/// Has a thread decode the snapshot that arrives, and puts in what it decodes.
fn read_snapshot(net: &Rc<Net>, attempt: Attempt, reading: Reading) {
    let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    *net.link.snapshot.borrow_mut() = Some(pieces);
    let executor = Arc::clone(&net.executor);
    let (ending, ended) = oneshot::channel();
    let begun = thread::Builder::new().name("loader".into()).spawn(move || {
        memory::count_passing_thread();
        let arriving = Arriving { pieces: arriving, piece: Bytes::new(), executor };
        let read = reading.read(arriving, &mut |batch| {
            memory::count_passing_thread();
            match sender.blocking_send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        // Nobody is left to hear it when the process ends.
        let _ = ending.send(read);
    });
    let begun = begun.map(|_| ended);
    tokio::task::spawn_local(take_in(Rc::clone(net), attempt, batches, begun));
}

async fn take_in(
    net: Rc<Net>,
    attempt: Attempt,
    mut batches: mpsc::Receiver<Batch>,
    begun: io::Result<oneshot::Receiver<Result<(), LoadError>>>,
) {
    while let Some(batch) = batches.recv().await {
        let taken = {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.take_in_snapshot(attempt, batch)
        };
        if taken.is_break() {
            break;
        }
        net.yield_now().await;
    }
    drop(batches);
    let read = match begun {
        Err(error) => Err(SnapshotSource::failure(Path::new("the link"), error)),
        Ok(ended) => ended.await.unwrap_or(Err(LoadError::CalledOff)),
    };
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.end_snapshot(attempt, read);
    net.executor.notify_one();
}

/// The snapshot as the thread reads it.
struct Arriving {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    executor: Arc<Notify>,
}

impl Read for Arriving {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            self.piece = piece;
            // There is room for another one.
            self.executor.notify_one();
        }
        let count = out.len().min(self.piece.len());
        out[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
