//! The connection to our primary: a task that dials and reads, a thread that decodes a snapshot.
//!
//! The task only moves bytes: what they mean is the engine's to say, which looks at them in the
//! executor's turns ([`super::inflow`]), as at what clients have sent. A task belongs to one
//! attempt and ends when that is no longer the present one. What arrives faster than it is looked
//! at stays in the socket.

use super::channel::{Channel, connect};
use super::port::Port;
use super::shared::Net;
use crate::engine::Engine;
use crate::engine::replication::LinkOrder;
use crate::observe::memory;
use crate::persist::load::{Batch, LoadError, Reading, SnapshotSource};
use crate::repl::link::{Attempt, LinkEvent};
use bytes::Bytes;
use std::future::poll_fn;
use std::io::{self, Read};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let dial = dial(&net, &host, number, source);
        tokio::pin!(dial);
        loop {
            tokio::select! {
                dialled = &mut dial => break dialled,
                () = net.link.wake.notified() => if is_over() { return },
            }
        }
    };
    let mut channel = match dialled {
        _ if is_over() => return,
        Ok(channel) => channel,
        Err(Undialled::NoAddress(text)) => {
            return tell(&net, attempt, LinkEvent::DialFailed(&text));
        }
        Err(Undialled::Refused(text)) => {
            return tell(&net, attempt, LinkEvent::ConnectFailed(&text));
        }
    };
    tell(&net, attempt, LinkEvent::Connected);
    let ended = exchange(&net, &mut channel, attempt).await;
    if !is_over() {
        *net.link.ended.borrow_mut() = Some(ended);
        net.executor.notify_one();
    }
}

enum Undialled {
    NoAddress(String),
    Refused(String),
}

async fn dial(
    net: &Net,
    host: &str,
    number: u16,
    source: Option<IpAddr>,
) -> Result<Channel, Undialled> {
    let text = |error: io::Error| crate::config::os_reason(&error);
    let found = tokio::net::lookup_host((host, number)).await;
    let addresses = found.map_err(|error| Undialled::NoAddress(text(error)))?;
    let mut last = Undialled::NoAddress("no address of that name".to_owned());
    for address in addresses {
        let opened = async { Channel::open(net, connect(address, source).await?).await };
        match opened.await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = Undialled::Refused(text(error)),
        }
    }
    Err(last)
}

/// Moves bytes both ways until the connection ends, for the reason that is returned, or the
/// attempt does.
async fn exchange(net: &Rc<Net>, channel: &mut Channel, attempt: Attempt) -> String {
    let port = &net.link;
    loop {
        if port.attempt.get() != Some(attempt) {
            return String::new();
        }
        let may_read = !port.inlet.borrow().is_full() && port.piece.borrow().is_none();
        let moved = poll_fn(|cx| {
            // Both are asked, so that either has the task polled again.
            let read = if may_read { poll_read(net, channel, cx) } else { Poll::Pending };
            let written = poll_write(port, channel, cx);
            if read.is_ready() { read } else { written }
        });
        tokio::select! {
            () = port.wake.notified() => {}
            moved = moved => if let Err(error) = moved {
                return crate::config::os_reason(&error);
            }
        }
    }
}

fn poll_read(net: &Net, channel: &mut Channel, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut inlet = net.link.inlet.borrow_mut();
    match ready!(pin!(channel.read_buf(inlet.room(READ_BYTES))).poll(cx))? {
        0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        count => {
            net.engine.borrow_mut().count_link_input(count);
            net.executor.notify_one();
            Poll::Ready(Ok(()))
        }
    }
}

/// Writes what there is to be written; not ready if that is nothing.
fn poll_write(port: &Port, channel: &mut Channel, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut outgoing = port.outgoing.borrow_mut();
    if !outgoing.is_empty() {
        let count = ready!(pin!(channel.write(&outgoing)).poll(cx))?;
        outgoing.drain(..count);
        return Poll::Ready(Ok(()));
    }
    if channel.has_unsent() { pin!(channel.flush()).poll(cx) } else { Poll::Pending }
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
