//! A thread that serves sockets: it reads, parses and prepares requests for the executor, and
//! writes the replies.
//!
//! It runs a tokio runtime of its own with one small task a connection, and one, the courier, that
//! carries letters. A connection's inbox is here while there is something to read for it, and with
//! the executor while there is something to run; whoever has it needs nobody else. The output that
//! a socket does not take stays here, and the executor is told how much that is.

use super::bell::Bell;
use super::letters::{Order, Report, Then};
use super::mail::{Receiver, Sender, Wake};
use crate::engine::turn::OutputFigures;
use crate::engine::{ClientId, Reading};
use crate::net::inbox::Inbox;
use crate::net::pool::BufferPool;
use crate::net::stream::{Luggage, Stream};
use crate::observe::memory;
use crate::observe::traffic::ThreadTraffic;
use crate::resp::ReplyBuf;
use crate::structs::SharedBytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// What a connection takes in before others have their turn.
const TAKEN_MAX: usize = 64 * 1024;

/// While the executor has so many inboxes of a thread, no more is read: each holds a buffer, and
/// thousands of clients that wake up at once would hold thousands.
const LENT_MAX: u32 = 256;

/// How often a thread lets others run while the executor has something of it.
const LINGER: u32 = 20;

/// What a thread starts with.
pub struct Outfit {
    pub index: usize,
    pub orders: Receiver<Order>,
    pub reports: Sender<Report>,
    pub bell: Arc<Bell<Wake>>,
    /// What the bell wakes.
    pub courier: Arc<Notify>,
    pub reading: Reading,
    pub traffic: Arc<[ThreadTraffic]>,
    pub idle: Arc<IdleTime>,
}

/// For how long a thread has slept, and how long it lingers before it does.
#[derive(Default)]
pub struct IdleTime {
    total_ns: AtomicU64,
    since: AtomicU64,
    patience: AtomicU32,
}

impl IdleTime {
    /// So many times the thread lets others run before it sleeps, in case they bring something: to
    /// be woken costs them a system call, and it a way through the kernel.
    pub fn linger(&self, times: u32) {
        self.patience.store(times, Ordering::Relaxed);
    }

    fn wait_for(&self, bell: &Bell<Wake>) {
        for _ in 0..self.patience.load(Ordering::Relaxed) {
            if bell.has_rung() {
                return;
            }
            std::thread::yield_now();
        }
    }

    pub fn begin(&self, now_ns: u64) {
        self.since.store(now_ns, Ordering::Relaxed);
    }

    pub fn end(&self, now_ns: u64) {
        let slept = now_ns.saturating_sub(self.since.swap(0, Ordering::Relaxed));
        self.total_ns.store(self.total_ns.load(Ordering::Relaxed) + slept, Ordering::Relaxed);
    }

    /// All of it up to now.
    pub fn total_ns(&self, now_ns: u64) -> u64 {
        let since = self.since.load(Ordering::Relaxed);
        let slept = if since == 0 { 0 } else { now_ns.saturating_sub(since) };
        self.total_ns.load(Ordering::Relaxed) + slept
    }
}

/// Starts a runtime whose thread rings no bell in vain: it says when it sleeps.
pub fn runtime(
    bell: &Arc<Bell<Wake>>,
    idle: &Arc<IdleTime>,
    now_ns: fn() -> u64,
) -> io::Result<tokio::runtime::LocalRuntime> {
    let (sleeper, riser) = (Arc::clone(bell), Arc::clone(bell));
    let (sleeping, rising) = (Arc::clone(idle), Arc::clone(idle));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            sleeping.wait_for(&sleeper);
            sleeper.fall_asleep();
            sleeping.begin(now_ns());
        })
        .on_thread_unpark(move || {
            rising.end(now_ns());
            riser.get_up();
        })
        .build_local(tokio::runtime::LocalOptions::default())
}

/// Starts the thread, which ends with the process; it serves when this returns.
pub fn start(outfit: Outfit, now_ns: fn() -> u64) -> io::Result<()> {
    let name = format!("io_thd_{}", outfit.index);
    let (started, outcome) = mpsc::channel();
    std::thread::Builder::new().name(name).spawn(move || {
        memory::count_this_thread();
        match runtime(&outfit.bell, &outfit.idle, now_ns) {
            Err(error) => _ = started.send(Err(error)),
            Ok(runtime) => {
                _ = started.send(Ok(()));
                let worker = Rc::new(Worker::new(outfit));
                runtime.block_on(carry_letters(worker));
            }
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
}

/// What the tasks of one thread share.
struct Worker {
    index: usize,
    wires: RefCell<Vec<Option<Rc<Wire>>>>,
    orders: RefCell<Receiver<Order>>,
    reports: RefCell<Sender<Report>>,
    bell: Arc<Bell<Wake>>,
    courier: Arc<Notify>,
    reading: Reading,
    traffic: Arc<[ThreadTraffic]>,
    buffers: BufferPool,
    idle: Arc<IdleTime>,
    /// How many inboxes the executor has.
    lent: Cell<u32>,
    /// Who reads on when the executor has fewer.
    queue: RefCell<VecDeque<Rc<Wire>>>,
}

/// A connection on its thread.
struct Wire {
    client: ClientId,
    /// Not there any more when the connection has gone to another thread.
    stream: RefCell<Option<Stream>>,
    /// Not there while the executor has it.
    inbox: RefCell<Option<Box<Inbox>>>,
    out: RefCell<ReplyBuf>,
    /// How much the socket has taken, for the executor to see.
    written: Arc<AtomicU64>,
    /// The client waits for something: requests are not handed over.
    is_suspended: Cell<bool>,
    /// Ends when the output has left; nothing more is read.
    is_closing: Cell<bool>,
    is_closed: Cell<bool>,
    /// Input has come while the executor had the inbox.
    is_hungry: Cell<bool>,
    /// It waits until the executor has fewer inboxes.
    is_queued: Cell<bool>,
    /// The socket would not take all output.
    wants_write: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Wire {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn close(&self) {
        self.is_closed.set(true);
        self.wake();
    }

    fn remember_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn output_figures(&self) -> OutputFigures {
        let out = self.out.borrow();
        OutputFigures {
            bytes: out.len(),
            own_bytes: out.own_memory(),
            written_bytes_total: self.written.load(Ordering::Relaxed),
        }
    }
}

/// The courier: carries out orders, and hands over what the connections have to report.
async fn carry_letters(worker: Rc<Worker>) {
    let mut orders = Vec::new();
    loop {
        if worker.bell.answer() {
            worker.orders.borrow_mut().take(&mut orders);
            for order in orders.drain(..) {
                worker.carry_out(order);
            }
        }
        worker.reports.borrow_mut().send();
        worker.courier.notified().await;
    }
}

impl Worker {
    fn new(outfit: Outfit) -> Worker {
        Worker {
            index: outfit.index,
            wires: RefCell::default(),
            orders: RefCell::new(outfit.orders),
            reports: RefCell::new(outfit.reports),
            bell: outfit.bell,
            courier: outfit.courier,
            reading: outfit.reading,
            traffic: outfit.traffic,
            buffers: BufferPool::default(),
            idle: outfit.idle,
            lent: Cell::new(0),
            queue: RefCell::default(),
        }
    }

    /// The executor has one inbox more, or less.
    fn count_lent(&self, lent: u32) {
        self.lent.set(lent);
        self.idle.linger(if lent > 0 { LINGER } else { 0 });
        let free = LENT_MAX.saturating_sub(lent) as usize;
        let mut queue = self.queue.borrow_mut();
        let count = queue.len().min(free);
        for wire in queue.drain(..count) {
            wire.is_queued.set(false);
            wire.wake();
        }
    }

    /// Has a connection read on later.
    fn put_off(&self, wire: &Rc<Wire>) {
        if !wire.is_queued.replace(true) {
            self.queue.borrow_mut().push_back(Rc::clone(wire));
        }
    }

    fn traffic(&self) -> &ThreadTraffic {
        &self.traffic[self.index]
    }

    fn report(&self, report: Report) {
        self.reports.borrow_mut().push(report);
        self.courier.notify_one();
    }

    fn wire(&self, client: ClientId) -> Option<Rc<Wire>> {
        let wires = self.wires.borrow();
        let found = wires.get(client.slot())?.as_ref()?;
        (found.client == client).then(|| Rc::clone(found))
    }

    /// Whatever concerns a connection that has ended meanwhile is dropped: the executor will hear
    /// of its end.
    fn carry_out(self: &Rc<Self>, order: Order) {
        match order {
            Order::Take { client, socket, inbox, written } => {
                self.take_in(client, socket, inbox, written);
            }
            Order::Return { client, inbox, bytes, then } => {
                if let Some(wire) = self.wire(client) {
                    self.count_lent(self.lent.get() - 1);
                    self.read_on(&wire, inbox, bytes, then);
                }
            }
            Order::Send { client, bytes, closes } => {
                if let Some(wire) = self.wire(client) {
                    wire.is_closing.set(wire.is_closing.get() || closes);
                    wire.out.borrow_mut().append(*bytes);
                    self.write(&wire);
                }
            }
            Order::Broadcast { clients, bytes } => self.broadcast(&clients, &bytes),
            Order::Wake { client } => {
                if let Some(wire) = self.wire(client) {
                    wire.is_suspended.set(false);
                    self.hand_over(&wire);
                }
            }
            Order::Recall { client } => {
                if let Some(wire) = self.wire(client) {
                    self.send_home(&wire);
                }
            }
            Order::Close { client } => {
                if let Some(wire) = self.wire(client) {
                    wire.close();
                }
            }
            Order::Finish(done) => {
                for wire in self.wires.borrow().iter().flatten() {
                    self.write_at_most(wire, usize::MAX);
                }
                // Who has just been given back is the executor's to write to.
                self.reports.borrow_mut().send();
                drop(done);
            }
        }
    }

    fn take_in(
        self: &Rc<Self>,
        client: ClientId,
        socket: Luggage,
        inbox: Box<Inbox>,
        written: Arc<AtomicU64>,
    ) {
        let Ok(stream) = Stream::unpack(socket) else {
            return self.report(Report::Ended { client });
        };
        let wire = Rc::new(Wire {
            client,
            stream: RefCell::new(Some(stream)),
            inbox: RefCell::new(Some(inbox)),
            out: RefCell::default(),
            written,
            is_suspended: Cell::new(false),
            is_closing: Cell::new(false),
            is_closed: Cell::new(false),
            is_hungry: Cell::new(false),
            is_queued: Cell::new(false),
            wants_write: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut wires = self.wires.borrow_mut();
        if wires.len() <= client.slot() {
            wires.resize(client.slot() + 1, None);
        }
        wires[client.slot()] = Some(Rc::clone(&wire));
        tokio::task::spawn_local(serve(Rc::clone(self), wire));
    }

    /// The executor has run what was in the inbox.
    fn read_on(
        self: &Rc<Self>,
        wire: &Rc<Wire>,
        mut inbox: Box<Inbox>,
        bytes: ReplyBuf,
        then: Then,
    ) {
        {
            let mut out = wire.out.borrow_mut();
            match out.is_empty() {
                true => *out = bytes,
                false => out.append(bytes),
            }
        }
        // It was not needed.
        self.buffers.give_output(std::mem::take(&mut inbox.reply));
        inbox.give_back(&self.buffers);
        *wire.inbox.borrow_mut() = Some(inbox);
        wire.is_suspended.set(then.suspends);
        self.write(wire);
        if then.goes_home {
            self.send_home(wire);
        } else if wire.is_hungry.take() {
            wire.wake();
        }
    }

    fn broadcast(&self, clients: &[ClientId], bytes: &SharedBytes) {
        for client in clients {
            let Some(wire) = self.wire(*client) else { continue };
            {
                let mut out = wire.out.borrow_mut();
                if out.is_empty() {
                    *out = ReplyBuf::with_bytes(self.buffers.output());
                }
                out.append_shared(bytes);
                out.set_aside_if_full();
            }
            self.write(&wire);
        }
    }

    /// Gives the connection to the executor's thread, unless something is under way.
    fn send_home(&self, wire: &Wire) {
        let client = wire.client;
        let is_busy = wire.is_suspended.get() || wire.is_closing.get() || wire.is_closed.get();
        // The executor that has the inbox tells what is to become of it when it gives it back.
        if is_busy || wire.inbox.borrow().is_none() {
            wire.wake();
            return self.report(Report::Stays { client });
        }
        let (stream, inbox) = (wire.stream.take(), wire.inbox.take());
        let (Some(stream), Some(inbox)) = (stream, inbox) else { return wire.close() };
        let rest = wire.out.take();
        self.wires.borrow_mut()[client.slot()] = None;
        // The task finds nothing to serve any more.
        wire.wake();
        match stream.pack() {
            Ok(socket) => self.report(Report::Home { client, socket, inbox, rest }),
            Err(_) => self.report(Report::Ended { client }),
        }
    }

    /// Hands the inbox over if there is something to run.
    fn hand_over(&self, wire: &Wire) {
        let mut place = wire.inbox.borrow_mut();
        let is_free = !wire.is_suspended.get() && !wire.is_closing.get();
        if let Some(mut inbox) = place.take_if(|inbox| is_free && inbox.has_work()) {
            inbox.prepare(&self.reading, usize::MAX);
            inbox.reply = self.buffers.output();
            self.count_lent(self.lent.get() + 1);
            self.report(Report::Requests { client: wire.client, inbox });
        }
    }

    /// Writes as much as the socket takes, and no more in one go than is fair.
    fn write(&self, wire: &Wire) {
        const SHARE_BYTES: usize = 256 * 1024;
        if !wire.wants_write.get() {
            self.write_at_most(wire, SHARE_BYTES);
        }
    }

    fn write_at_most(&self, wire: &Wire, most: usize) {
        if wire.is_closed.get() {
            return;
        }
        let Some(stream) = &mut *wire.stream.borrow_mut() else { return };
        let before = wire.written.load(Ordering::Relaxed);
        let count = |bytes| self.traffic().count_write(bytes);
        let written = stream.write_some(&mut wire.out.borrow_mut(), most, count);
        let Ok(written) = written else { return wire.close() };
        wire.written.store(before + written as u64, Ordering::Relaxed);
        if wire.out.borrow().is_empty() && !stream.has_unsent() {
            self.buffers.give_output(wire.out.borrow_mut().take_bytes());
            if wire.is_closing.get() {
                wire.close();
            }
            return;
        }
        // The task asks for the next writability when it is polled.
        wire.wants_write.set(true);
        wire.wake();
        self.report(Report::Output { client: wire.client, figures: wire.output_figures() });
    }
}

/// The task of a connection.
async fn serve(worker: Rc<Worker>, wire: Rc<Wire>) {
    std::future::poll_fn(|cx| {
        let polled = poll(&worker, &wire, cx);
        if worker.bell.has_rung() {
            worker.courier.notify_one();
        }
        polled
    })
    .await;
    if wire.stream.borrow().is_none() {
        return;
    }
    match wire.inbox.take() {
        Some(mut inbox) => inbox.give_back(&worker.buffers),
        // The executor keeps it.
        None => worker.count_lent(worker.lent.get() - 1),
    }
    worker.wires.borrow_mut()[wire.client.slot()] = None;
    // Who hears that the client is gone may count descriptors.
    if let Some(mut stream) = wire.stream.take() {
        stream.say_farewell();
    }
    worker.report(Report::Ended { client: wire.client });
}

fn poll(worker: &Worker, wire: &Rc<Wire>, cx: &mut Context<'_>) -> Poll<()> {
    wire.remember_waker(cx);
    if wire.is_closed.get() {
        return Poll::Ready(());
    }
    if wire.wants_write.get() && poll_write(worker, wire, cx).is_err() {
        return Poll::Ready(());
    }
    let mut taken = 0;
    loop {
        if wire.is_closed.get() {
            return Poll::Ready(());
        }
        let (mut place, mut kept) = (wire.stream.borrow_mut(), wire.inbox.borrow_mut());
        let Some(stream) = &mut *place else { return Poll::Ready(()) };
        let Some(inbox) = kept.as_mut().filter(|_| !wire.is_closing.get()) else {
            // Ordinarily nothing comes before the replies: then the next arrival is what has the
            // task polled again.
            wire.is_hungry.set(stream.poll_read_ready(cx).is_ready());
            return Poll::Pending;
        };
        if taken >= TAKEN_MAX {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if worker.lent.get() >= LENT_MAX {
            worker.put_off(wire);
            return Poll::Pending;
        }
        match inbox.poll_read(stream, &worker.buffers, cx) {
            Poll::Pending => return Poll::Pending,
            // It is told so before it is closed.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::OutOfMemory => {}
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(read)) => {
                taken += read;
                worker.traffic().count_read(read);
                inbox.parse(&worker.reading);
            }
        }
        let (client, is_too_long) = (wire.client, inbox.is_too_long(&worker.reading));
        if is_too_long || wire.is_suspended.get() || !inbox.has_work() {
            let figures = inbox.figures();
            worker.report(Report::Input { client, figures, is_too_long });
            wire.is_closing.set(wire.is_closing.get() || is_too_long);
        } else {
            drop((place, kept));
            worker.hand_over(wire);
        }
    }
}

/// Writes on if the socket takes more; an error if it is gone.
fn poll_write(worker: &Worker, wire: &Wire, cx: &mut Context<'_>) -> Result<(), io::Error> {
    let polled = match &*wire.stream.borrow() {
        Some(stream) => stream.poll_write_ready(cx),
        None => return Ok(()),
    };
    match polled {
        Poll::Pending => Ok(()),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) => {
            wire.wants_write.set(false);
            worker.write(wire);
            if !wire.wants_write.get() {
                let figures = wire.output_figures();
                worker.report(Report::Output { client: wire.client, figures });
            }
            Ok(())
        }
    }
}
