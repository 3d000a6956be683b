//! What the tasks of the executor's thread share, and the lists of connections they wait in.

use super::connection::Connection;
use super::service::Service;
use super::threads::fleet::Fleet;
use super::threads::letters::{Order, Report};
use super::tls::desk::Desk;
use super::tls::settings::Contexts;
use super::{bus, jobs, pool, port, sender, syncer};
use crate::engine::hold::Release;
use crate::engine::migrate;
use crate::engine::slot_move;
use crate::engine::{ClientId, Engine, Errand, ListenChange, Now, Reading};
use crate::observe::traffic::ThreadTraffic;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// So many of those who send much read on between two turns.
const HEAVY_MAX: usize = 8;

/// Keys that are to go to another server, with what TLS is spoken with if it is.
pub struct Moving {
    pub order: Box<migrate::Order>,
    pub contexts: Option<Arc<Contexts>>,
}

/// What is to be done about a connection for a move of slots, with what TLS is spoken with.
pub struct SlotOrder {
    pub order: slot_move::Order,
    pub contexts: Option<Arc<Contexts>>,
}

/// What all tasks of the executor's thread share.
pub struct Net {
    pub engine: RefCell<Engine>,
    pub connections: RefCell<Vec<Option<Rc<Connection>>>>,
    /// Connections with parsed requests, in the order in which they came.
    pub ready: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections that have used up a turn and have more to run.
    pub tired: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections that have used up a turn and may read on when new input has been looked for.
    pub resting: RefCell<Vec<Rc<Connection>>>,
    /// Connections that have taken in much and may go on, a few at a time, when those who sent
    /// little were served.
    pub heavy: RefCell<VecDeque<Rc<Connection>>>,
    /// A turn has passed in which the tired were not served.
    pub tired_have_waited: Cell<bool>,
    /// Connections with output to write at the end of the turn.
    pub dirty: RefCell<Vec<Rc<Connection>>>,
    /// Connections with output that waits for the AOF.
    pub held: RefCell<Vec<Rc<Connection>>>,
    /// What the AOF had released when they were last looked at.
    pub released: Cell<Option<Release>>,
    pub buffers: pool::BufferPool,
    /// What requests are read with.
    pub reading: Reading,
    traffic: Arc<[ThreadTraffic]>,
    pub executor: Arc<Notify>,
    /// The executor is at work: it looks at all lists before it waits.
    pub is_in_turn: Cell<bool>,
    /// The threads that serve sockets, and the memory of what they report.
    pub fleet: Fleet,
    pub reports: RefCell<Vec<Report>>,
    /// Connections that have come back from them, and which stay here that is.
    pub arrivals: RefCell<Vec<(Rc<Connection>, u32)>>,
    pub has_arrivals: Notify,
    pub listeners_changed: Notify,
    pub listen_changes: RefCell<VecDeque<ListenChange>>,
    /// The timer's next moment may have come closer.
    pub deadline_moved: Notify,
    /// The connection to our primary.
    pub link: port::Port,
    pub jobs: jobs::Threads,
    pub syncer: syncer::Syncer,
    pub senders: sender::Senders,
    pub moves: UnboundedSender<Moving>,
    pub slot_orders: UnboundedSender<SlotOrder>,
    pub tls: Desk,
    /// Whose sockets a sender writes to, and what tells it that the connection has ended.
    pub lent: RefCell<Vec<(ClientId, Arc<AtomicBool>)>>,
    /// What a Sentinel wants done.
    pub errands: UnboundedSender<Errand>,
    /// The connections to other nodes of the cluster.
    pub bus: bus::port::Port,
    pub started: Instant,
    pub exit_code: Cell<Option<i32>>,
    pub exit: Notify,
    pub service: Service,
}

/// What works beside the executor.
pub struct Threads {
    pub fleet: Fleet,
    pub jobs: jobs::Threads,
    pub syncer: syncer::Syncer,
    pub senders: sender::Senders,
    pub moves: UnboundedSender<Moving>,
    pub slot_orders: UnboundedSender<SlotOrder>,
    pub tls: Desk,
    pub errands: UnboundedSender<Errand>,
}

impl Net {
    pub fn new(engine: Engine, executor: Arc<Notify>, threads: Threads, service: Service) -> Net {
        let Threads { fleet, jobs, syncer, senders, moves, slot_orders, tls, errands } = threads;
        Net {
            reading: engine.reading(),
            traffic: engine.traffic(),
            engine: RefCell::new(engine),
            connections: RefCell::default(),
            ready: RefCell::default(),
            tired: RefCell::default(),
            resting: RefCell::default(),
            heavy: RefCell::default(),
            tired_have_waited: Cell::new(false),
            dirty: RefCell::default(),
            held: RefCell::default(),
            released: Cell::new(None),
            buffers: pool::BufferPool::default(),
            executor,
            is_in_turn: Cell::new(false),
            fleet,
            reports: RefCell::default(),
            arrivals: RefCell::default(),
            has_arrivals: Notify::new(),
            listeners_changed: Notify::new(),
            listen_changes: RefCell::default(),
            deadline_moved: Notify::new(),
            link: port::Port::default(),
            jobs,
            syncer,
            senders,
            moves,
            slot_orders,
            tls,
            lent: RefCell::default(),
            errands,
            bus: bus::port::Port::default(),
            started: Instant::now(),
            exit_code: Cell::new(None),
            exit: Notify::new(),
            service,
        }
    }

    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            unix_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX),
            // Never zero, which means "not yet" in a few places.
            mono_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX) + 1_000,
        }
    }

    /// What goes through the sockets of this thread.
    pub fn traffic(&self) -> &ThreadTraffic {
        &self.traffic[0]
    }

    pub fn connection(&self, client: ClientId) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let found = connections.get(client.slot())?.as_ref()?;
        (found.client == client).then(|| Rc::clone(found))
    }
}

impl Net {
    /// Has a turn follow, if this is not one.
    pub fn wake_executor(&self) {
        if !self.is_in_turn.get() {
            self.executor.notify_one();
        }
    }

    /// Lets the other tasks run. As long as somebody does only this the runtime never sleeps, and
    /// nothing but its sleep has the executor look at what the threads have brought.
    pub async fn yield_now(&self) {
        if self.fleet.has_mail() {
            self.executor.notify_one();
        }
        tokio::task::yield_now().await;
    }

    /// Tells a thread something when the turn ends.
    pub fn order(&self, thread: usize, order: Order) {
        self.fleet.order(thread, order);
        self.wake_executor();
    }

    /// Ends a connection; what is buffered is dropped.
    pub fn close(&self, connection: &Connection) {
        connection.is_closed.set(true);
        match connection.thread() {
            None => connection.wake(),
            Some(thread) => self.order(thread, Order::Close { client: connection.client }),
        }
    }

    /// Gives the connection's requests their turn.
    pub fn mark_ready(&self, connection: &Rc<Connection>) {
        if !connection.is_ready.replace(true) {
            self.ready.borrow_mut().push_back(Rc::clone(connection));
            self.wake_executor();
        }
    }

    /// The same for one that has used up a turn: those who have come meanwhile go first.
    pub fn mark_tired(&self, connection: &Rc<Connection>) {
        if !connection.is_ready.replace(true) {
            self.tired.borrow_mut().push_back(Rc::clone(connection));
        }
    }

    /// Has the connection read on when others have had their turn.
    pub fn mark_heavy(&self, connection: &Rc<Connection>) {
        if !connection.is_heavy.replace(true) {
            self.heavy.borrow_mut().push_back(Rc::clone(connection));
            self.wake_executor();
        }
    }

    /// Lets a few of those read on.
    pub fn let_heavy_read(&self) {
        let mut heavy = self.heavy.borrow_mut();
        let count = heavy.len().min(HEAVY_MAX);
        for connection in heavy.drain(..count) {
            connection.is_heavy.set(false);
            connection.wake();
        }
    }

    /// Lets those in again who have used up a turn, unless others are there and were not served
    /// before them: these are answered at once, and not behind the next long command.
    pub fn let_tired_in(&self) {
        let mut ready = self.ready.borrow_mut();
        let mut tired = self.tired.borrow_mut();
        let must_wait = !ready.is_empty() && !self.tired_have_waited.get();
        self.tired_have_waited.set(must_wait && !tired.is_empty());
        if !must_wait {
            ready.append(&mut tired);
        }
    }

    /// Has the connection's output written at the end of the turn.
    pub fn mark_dirty(&self, connection: &Rc<Connection>) {
        if !connection.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(connection));
            self.wake_executor();
        }
    }

    pub fn remember(&self, connection: &Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let slot = connection.client.slot();
        if connections.len() <= slot {
            connections.resize(slot + 1, None);
        }
        connections[slot] = Some(Rc::clone(connection));
    }

    /// The connection has ended.
    pub fn forget(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut()[connection.client.slot()] = None;
    }
}
