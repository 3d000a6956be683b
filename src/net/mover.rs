//! What MIGRATE sends: a thread that dials other servers, encodes values for them, and listens to
//! what they say.
//!
//! It is another thread than the executor's because there is much to be done for a large value:
//! it is encoded, cut up and, by TLS, sealed. Each move is a task there, so none waits for the
//! target of another one. A target has as long as the command says to take the next piece or to
//! end the next line, so one that hangs, or says something without end, is left.
//!
//! A connection is kept for a few seconds, since who moves keys moves many. It is used again only
//! for who has proved to be the same user by the same password. Redis asks for the address alone,
//! and lets whoever comes next act as who came before.

use super::channel::Channel;
use super::hands;
use super::shared::{Moving, Net};
use super::tls::desk::Desk;
use super::tls::settings::Contexts;
use crate::engine::migrate::exchange::Exchange;
use crate::engine::migrate::{Failure, Order, Report, Target};
use crate::keyspace::Entry;
use crate::observe::memory;
use crate::persist::rdb;
use crate::structs::memory::is_there_for;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

/// So many connections are kept, and so long.
const KEPT_MAX: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A piece that the target has to take in its time.
const PIECE_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 4096;

/// A value with more heap bytes is encoded where it holds up no other move.
const ENCODE_INLINE_BYTES_MAX: usize = 64 * 1024;

/// So many values are encoded, and names looked up, at a time.
const BLOCKING_MAX: usize = 16;

/// Has a thread carry out the orders as they come, which begins with the first one.
pub async fn run(net: Rc<Net>, mut queue: mpsc::UnboundedReceiver<Moving>) {
    let (reports, told) = mpsc::unbounded_channel();
    spawn_local(collect(Rc::clone(&net), told));
    let mut thread = None;
    while let Some(moving) = queue.recv().await {
        if thread.is_none() {
            let cached = net.engine.borrow().cached_sockets();
            thread = start(reports.clone(), cached).inspect_err(warn_of_thread).ok();
        }
        // Who takes either lives as long as the process.
        match &thread {
            Some(orders) => _ = orders.send(moving),
            None => _ = reports.send(moving.order.failed(Failure::Connecting)),
        }
    }
}

fn start(
    reports: mpsc::UnboundedSender<Report>,
    cached: Arc<AtomicUsize>,
) -> io::Result<mpsc::UnboundedSender<Moving>> {
    let (orders, queue) = mpsc::unbounded_channel();
    thread::Builder::new().name("mover".into()).spawn(move || {
        memory::count_this_thread();
        serve(queue, reports, cached);
    })?;
    Ok(orders)
}

fn warn_of_thread(error: &io::Error) {
    tracing::warn!("Can't start a thread for MIGRATE: {}", crate::config::os_reason(error));
}

/// Tells the engine what has become of moves.
async fn collect(net: Rc<Net>, mut told: mpsc::UnboundedReceiver<Report>) {
    while let Some(report) = told.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.finish_migration(report);
            hands::carry_out(&net, &mut engine);
        }
        net.executor.notify_one();
    }
}

fn serve(
    mut queue: mpsc::UnboundedReceiver<Moving>,
    reports: mpsc::UnboundedSender<Report>,
    cached: Arc<AtomicUsize>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX)
        .build_local(LocalOptions::default());
    let runtime = runtime.expect("a runtime can be made as others were");
    let room = Rc::new(Room { kept: RefCell::default(), cached, desk: Desk::default() });
    runtime.block_on(async move {
        while let Some(Moving { order, contexts }) = queue.recv().await {
            let (room, reports) = (Rc::clone(&room), reports.clone());
            spawn_local(async move {
                let report = carry_out(&room, &order, contexts.as_deref()).await;
                // What this thread holds of large values is gone before the executor lets go.
                drop(order);
                let _ = reports.send(report);
            });
        }
    });
}

/// What the moves of the thread share.
struct Room {
    kept: RefCell<Vec<Kept>>,
    cached: Arc<AtomicUsize>,
    desk: Desk,
}

/// A connection with the database that it is in, if that is known.
struct Wire {
    channel: Channel,
    db: Option<i64>,
}

struct Kept {
    target: Target,
    wire: Wire,
    since: Instant,
}

impl Room {
    fn take(&self, target: &Target) -> Option<Wire> {
        self.forget_old();
        let mut kept = self.kept.borrow_mut();
        let mut found = None;
        while let Some(at) = kept.iter().rposition(|kept| kept.target == *target)
            && found.is_none()
        {
            found = Some(kept.remove(at).wire).filter(|wire| is_quiet(wire.channel.socket()));
        }
        self.cached.store(kept.len(), Ordering::Relaxed);
        found
    }

    fn keep(self: &Rc<Self>, target: Target, wire: Wire) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push(Kept { target, wire, since: Instant::now() });
        self.cached.store(kept.len(), Ordering::Relaxed);
        let room = Rc::clone(self);
        spawn_local(async move {
            sleep(KEPT_FOR).await;
            room.forget_old();
        });
    }

    fn forget_old(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|kept| kept.since.elapsed() < KEPT_FOR);
        self.cached.store(kept.len(), Ordering::Relaxed);
    }
}

/// Whether nothing has come that was not asked for, the end of the connection included: it would be
/// taken for an answer.
fn is_quiet(socket: &TcpStream) -> bool {
    let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// How a conversation was broken off.
struct Broken {
    failure: Failure,
    has_timed_out: bool,
}

impl Broken {
    fn by(failure: Failure) -> Broken {
        Broken { failure, has_timed_out: false }
    }
}

async fn carry_out(room: &Rc<Room>, order: &Order, contexts: Option<&Contexts>) -> Report {
    let began = Instant::now();
    let mut kept = room.take(&order.target);
    loop {
        let was_kept = kept.is_some();
        let opened = match kept.take() {
            Some(wire) => Ok(wire),
            None => open(room, order, contexts).await,
        };
        let Wire { channel, db } = match opened {
            Ok(wire) => wire,
            Err(failure) => return order.failed(failure),
        };
        let exchange = RefCell::new(Exchange::new(&order.plan, db));
        let ended = converse(channel, &exchange, order, began).await;
        let exchange = exchange.into_inner();
        let failure = match ended {
            Ok(channel) => {
                let db = exchange.connection_db();
                room.keep(order.target.clone(), Wire { channel, db });
                None
            }
            // The target has closed it meanwhile, and nothing of what was said was heard.
            Err(broken) if was_kept && !broken.has_timed_out && exchange.has_heard_nothing() => {
                continue;
            }
            Err(broken) => Some(broken.failure),
        };
        let (acked, refusal) = exchange.end();
        let failure = refusal.map(Failure::Refused).or(failure);
        return Report { number: order.number, acked, failure };
    }
}

/// Dials. Redis finds out that it is refused when it writes, and so it tells that.
async fn open(room: &Room, order: &Order, contexts: Option<&Contexts>) -> Result<Wire, Failure> {
    let target = &order.target;
    let port = target.port.parse::<u16>().unwrap_or(0);
    let dial = async {
        let found = tokio::net::lookup_host((&*target.host, port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| Failure::Connecting)?.collect();
        let socket = TcpStream::connect(&addresses[..]).await.map_err(|_| Failure::Writing)?;
        channel(room, target, contexts, socket).await.map_err(|_| Failure::Connecting)
    };
    let dialled = tokio::time::timeout(order.timeout, dial).await;
    Ok(Wire { channel: dialled.unwrap_or(Err(Failure::Connecting))?, db: None })
}

async fn channel(
    room: &Room,
    target: &Target,
    contexts: Option<&Contexts>,
    socket: TcpStream,
) -> io::Result<Channel> {
    socket.set_nodelay(true)?;
    match (target.is_secure, contexts) {
        (false, _) => Ok(socket.into()),
        (true, Some(contexts)) => Ok(room.desk.connect_by(contexts, socket).await?.into()),
        (true, None) => Err(io::Error::other("TLS is not configured")),
    }
}

/// Has the conversation to its end; the connection, if it may be used again.
async fn converse(
    channel: Channel,
    exchange: &RefCell<Exchange<'_>>,
    order: &Order,
    began: Instant,
) -> Result<Channel, Broken> {
    let (mut reading, mut writing) = tokio::io::split(channel);
    let progress = Progress::begin(began);
    let said = say_all(&mut writing, exchange, order, &progress);
    let heard = hear_all(&mut reading, exchange, &progress);
    tokio::select! {
        biased;
        talked = async { tokio::try_join!(said, heard) } => talked.map(|_| ())?,
        broken = watch(&progress, order.timeout) => return Err(broken),
    }
    Ok(reading.unsplit(writing))
}

/// When the target has last taken or said something, and whether all was said to it.
struct Progress {
    at: Cell<Instant>,
    /// A value is being encoded, for which the target cannot be blamed.
    is_encoding: Cell<bool>,
    is_said: Cell<bool>,
    said: Notify,
    /// When the order came: the times to live are those of then.
    began: Instant,
}

impl Progress {
    fn begin(began: Instant) -> Progress {
        Progress {
            at: Cell::new(Instant::now()),
            is_encoding: Cell::new(false),
            is_said: Cell::new(false),
            said: Notify::new(),
            began,
        }
    }

    fn note(&self) {
        self.at.set(Instant::now());
    }
}

/// Ends when nothing has got on for too long.
async fn watch(progress: &Progress, timeout: Duration) -> Broken {
    loop {
        let since = if progress.is_encoding.get() { Instant::now() } else { progress.at.get() };
        let Some(end) = since.checked_add(timeout) else { std::future::pending().await };
        if end <= Instant::now() {
            let failure = if progress.is_said.get() { Failure::Reading } else { Failure::Writing };
            return Broken { failure, has_timed_out: true };
        }
        sleep_until(end).await;
    }
}

async fn say_all(
    writing: &mut WriteHalf<Channel>,
    exchange: &RefCell<Exchange<'_>>,
    order: &Order,
    progress: &Progress,
) -> Result<(), Broken> {
    let mut buffer = Vec::new();
    exchange.borrow().open(&mut buffer);
    loop {
        let elapsed_ms = u64::try_from(progress.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = exchange.borrow_mut().next(order.plan.now_ms.saturating_add(elapsed_ms));
        let Some((entry, ttl_ms)) = next else { break };
        progress.is_encoding.set(true);
        let payload = encode(entry, order).await?;
        progress.is_encoding.set(false);
        progress.note();
        let (head, tail) = exchange.borrow().wrap(entry, ttl_ms, payload.len());
        buffer.extend_from_slice(&head);
        if payload.len() < PIECE_BYTES {
            buffer.extend_from_slice(&payload);
        } else {
            say(writing, &mut buffer, progress).await?;
            say_piece_by_piece(writing, &payload, progress).await?;
        }
        buffer.extend_from_slice(tail);
        if buffer.len() >= PIECE_BYTES {
            say(writing, &mut buffer, progress).await?;
        }
    }
    say(writing, &mut buffer, progress).await?;
    progress.is_said.set(true);
    progress.said.notify_one();
    Ok(())
}

async fn say(
    writing: &mut WriteHalf<Channel>,
    buffer: &mut Vec<u8>,
    progress: &Progress,
) -> Result<(), Broken> {
    say_piece_by_piece(writing, buffer, progress).await?;
    buffer.clear();
    Ok(())
}

async fn say_piece_by_piece(
    writing: &mut WriteHalf<Channel>,
    bytes: &[u8],
    progress: &Progress,
) -> Result<(), Broken> {
    let broken = |_| Broken::by(Failure::Writing);
    for piece in bytes.chunks(PIECE_BYTES) {
        progress.note();
        writing.write_all(piece).await.map_err(broken)?;
        writing.flush().await.map_err(broken)?;
    }
    progress.note();
    Ok(())
}

/// The payload of an entry.
async fn encode(entry: &Entry, order: &Order) -> Result<Vec<u8>, Broken> {
    let (version, compresses) = (order.plan.version, order.plan.compresses);
    if entry.heap_bytes() <= ENCODE_INLINE_BYTES_MAX {
        return Ok(rdb::dump(entry, version, compresses));
    }
    let entry = entry.clone();
    let encoded = tokio::task::spawn_blocking(move || {
        memory::count_passing_thread();
        // The payload while it grows, and what a long string is compressed into.
        let fits = is_there_for(3 * entry.heap_bytes());
        let payload = fits.then(|| rdb::dump(&entry, version, compresses));
        drop(entry);
        memory::count_passing_thread();
        payload
    });
    encoded.await.ok().flatten().ok_or_else(|| Broken::by(Failure::NoMemory))
}

async fn hear_all(
    reading: &mut ReadHalf<Channel>,
    exchange: &RefCell<Exchange<'_>>,
    progress: &Progress,
) -> Result<(), Broken> {
    let broken = || Broken::by(Failure::Reading);
    let mut bytes = [0; READ_BYTES];
    while !exchange.borrow().is_complete() {
        let count = tokio::select! {
            count = reading.read(&mut bytes) => count.map_err(|_| broken())?,
            // Nothing may be left to be heard, if the time of all keys has come.
            () = progress.said.notified() => continue,
        };
        if count == 0 {
            return Err(broken());
        }
        let has_ended = exchange.borrow_mut().take(&bytes[..count]);
        if has_ended.map_err(|_| broken())? {
            progress.note();
        }
    }
    Ok(())
}
