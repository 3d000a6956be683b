//! The world around the engine: sockets, turns, threads, signals. The only room that knows tokio.
//!
//! One thread runs everything: a tokio current-thread runtime whose local tasks are the listeners,
//! one small task a connection, the timer, and the executor. A connection's task only reads and
//! parses; the executor task runs after all connections that were ready, so that one turn's
//! requests are prefetched and executed as a batch ([`turn`]).

mod append;
mod connection;
pub mod fatal;
mod hands;
pub mod healthcheck;
mod jobs;
pub mod limits;
mod listener;
mod loader;
pub mod logging;
mod metrics;
mod pool;
pub mod service;
mod signals;
mod stream;
mod timer;
mod turn;

use crate::engine::hold::Release;
use crate::engine::{ClientId, Engine, ListenChange, Now, Standing};
use connection::Connection;
use service::Service;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// What all tasks of the executor's thread share.
pub struct Net {
    pub(crate) engine: RefCell<Engine>,
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    /// Connections with parsed requests, in the order in which they came.
    ready: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections that have used up a turn and have more to run.
    tired: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections that have used up a turn and may read on when new input has been looked for.
    resting: RefCell<Vec<Rc<Connection>>>,
    /// Connections that have taken in much and may go on, a few at a time, when those who sent
    /// little were served.
    heavy: RefCell<VecDeque<Rc<Connection>>>,
    /// A turn has passed in which the tired were not served.
    tired_have_waited: Cell<bool>,
    /// Connections with output to write at the end of the turn.
    dirty: RefCell<Vec<Rc<Connection>>>,
    /// Connections with output that waits for the log.
    held: RefCell<Vec<Rc<Connection>>>,
    /// What the log had released when they were last looked at.
    released: Cell<Option<Release>>,
    buffers: pool::BufferPool,
    executor: Notify,
    listeners_changed: Notify,
    listen_changes: RefCell<VecDeque<ListenChange>>,
    /// The timer's next moment may have come closer.
    deadline_moved: Notify,
    jobs: jobs::Threads,
    syncer: append::Syncer,
    started: Instant,
    exit_code: Cell<Option<i32>>,
    exit: Notify,
    service: Service,
}

impl Net {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            unix_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX),
            // Never zero, which means "not yet" in a few places.
            mono_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX) + 1_000,
        }
    }

    fn connection(&self, client: ClientId) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let found = connections.get(client.slot())?.as_ref()?;
        (found.client == client).then(|| Rc::clone(found))
    }
}

/// So many of those who send much read on between two turns.
const HEAVY_MAX: usize = 8;

/// A client that has not authenticated is closed when so many bytes of replies wait for it.
const READ_OUTPUT_UNAUTHENTICATED_MAX: u64 = 256 * 1024;

/// Serves until a shutdown; the process's exit code.
pub fn serve(engine: Engine, service: Service) -> std::io::Result<i32> {
    let options = tokio::runtime::LocalOptions::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)?;
    let (jobs, finished) = jobs::Threads::start()?;
    let (syncer, syncs) = append::Syncer::start()?;
    let net = Rc::new(Net {
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
        executor: Notify::new(),
        listeners_changed: Notify::new(),
        listen_changes: RefCell::default(),
        deadline_moved: Notify::new(),
        jobs,
        syncer,
        started: Instant::now(),
        exit_code: Cell::new(None),
        exit: Notify::new(),
        service,
    });
    let ended = Rc::clone(&net);
    let code = runtime.block_on(async move {
        net.engine.borrow_mut().tick(net.now());
        let Ok(listeners) = listener::Listeners::bind(&net) else { return Ok(1) };
        if listeners.is_empty() {
            tracing::warn!("Configured to not listen anywhere, exiting.");
            return Ok(1);
        }
        let listening = listeners.kinds();
        tokio::task::spawn_local(turn::executor(Rc::clone(&net)));
        tokio::task::spawn_local(timer::run(Rc::clone(&net)));
        tokio::task::spawn_local(jobs::collect(Rc::clone(&net), finished));
        tokio::task::spawn_local(append::collect(Rc::clone(&net), syncs));
        signals::watch(&net)?;
        tokio::task::spawn_local(listener::keep(Rc::clone(&net), listeners));
        tracing::info!("Server initialized");
        net.service.tell(Standing::Loading);
        net.engine.borrow_mut().server.remove_leftovers(&limits::is_running);
        if loader::load(&net).await.is_err() {
            return Ok(net.exit_code.get().unwrap_or(1));
        }
        for kind in listening {
            tracing::info!("Ready to accept connections {kind}");
        }
        net.service.tell(Standing::Ready);
        net.exit.notified().await;
        let is_closed = net.engine.borrow_mut().close_log();
        turn::flush_everything(&net);
        let code = net.exit_code.get().unwrap_or(0);
        Ok(if is_closed { code } else { code.max(1) })
    });
    ended.service.end();
    code
}

impl Net {
    /// Gives the connection's requests their turn.
    fn mark_ready(&self, connection: &Rc<Connection>) {
        if !connection.is_ready.replace(true) {
            self.ready.borrow_mut().push_back(Rc::clone(connection));
            self.executor.notify_one();
        }
    }

    /// The same for one that has used up a turn: those who have come meanwhile go first.
    fn mark_tired(&self, connection: &Rc<Connection>) {
        if !connection.is_ready.replace(true) {
            self.tired.borrow_mut().push_back(Rc::clone(connection));
        }
    }

    /// Has the connection read on when others have had their turn.
    fn mark_heavy(&self, connection: &Rc<Connection>) {
        if !connection.is_heavy.replace(true) {
            self.heavy.borrow_mut().push_back(Rc::clone(connection));
            self.executor.notify_one();
        }
    }

    /// Lets a few of those read on.
    fn let_heavy_read(&self) {
        let mut heavy = self.heavy.borrow_mut();
        let count = heavy.len().min(HEAVY_MAX);
        for connection in heavy.drain(..count) {
            connection.is_heavy.set(false);
            connection.wake();
        }
    }

    /// Lets those in again who have used up a turn, unless others are there and were not served
    /// before them: these are answered at once, and not behind the next long command.
    fn let_tired_in(&self) {
        let mut ready = self.ready.borrow_mut();
        let mut tired = self.tired.borrow_mut();
        let must_wait = !ready.is_empty() && !self.tired_have_waited.get();
        self.tired_have_waited.set(must_wait && !tired.is_empty());
        if !must_wait {
            ready.append(&mut tired);
        }
    }

    /// Has the connection's output written at the end of the turn.
    fn mark_dirty(&self, connection: &Rc<Connection>) {
        if !connection.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(connection));
            self.executor.notify_one();
        }
    }

    fn remember(&self, connection: &Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let slot = connection.client.slot();
        if connections.len() <= slot {
            connections.resize(slot + 1, None);
        }
        connections[slot] = Some(Rc::clone(connection));
    }

    /// The connection has ended: its client is gone.
    fn forget(&self, connection: &Rc<Connection>) {
        connection.is_closed.set(true);
        append::let_go(self, connection);
        self.connections.borrow_mut()[connection.client.slot()] = None;
        let mut engine = self.engine.borrow_mut();
        engine.disconnect(connection.client);
        if let Some(buffer) = connection.io.borrow_mut().reader.detach_buffer() {
            self.buffers.give_input(buffer);
        }
    }

    /// Counts what was read; true if the client has sent more than it may before any of it is
    /// executed.
    fn count_input(&self, connection: &Rc<Connection>, read: usize) -> bool {
        let held = connection.io.borrow().reader.buffered_len();
        let mut engine = self.engine.borrow_mut();
        engine.server.stats.reads_total += 1;
        engine.server.stats.net_input_bytes += read as u64;
        turn::leave_figures(&mut engine, connection.client, &connection.io.borrow());
        if engine.has_too_large_clients() {
            self.executor.notify_one();
        }
        if held <= engine.server.config.client_query_buffer_limit {
            return false;
        }
        if let Some(session) = engine.clients.get(connection.client) {
            let line = crate::engine::client_line::describe(&engine.server, session);
            tracing::warn!("Closing client that reached max query buffer length: {line}");
        }
        engine.server.stats.query_limit_disconnections += 1;
        engine.clients.count_out(connection.client);
        true
    }
}
