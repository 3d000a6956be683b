//! The world around the engine: sockets, turns, threads, signals. The only room that knows tokio.
//!
//! One thread runs everything: a tokio current-thread runtime whose local tasks are the listeners,
//! one small task a connection, the timer, and the executor. A connection's task only reads and
//! parses; the executor task runs after all connections that were ready, so that one turn's
//! requests are prefetched and executed as a batch ([`turn`]).

mod connection;
mod jobs;
mod listener;
pub mod logging;
mod pool;
mod signals;
mod stream;
mod timer;
mod turn;

use crate::engine::{ClientId, Engine, Now};
use crate::resp::Limits;
use connection::Connection;
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
    /// Connections with output to write at the end of the turn.
    dirty: RefCell<Vec<Rc<Connection>>>,
    buffers: pool::BufferPool,
    executor: Notify,
    listeners_changed: Notify,
    jobs: jobs::Threads,
    started: Instant,
    exit_code: Cell<Option<i32>>,
    exit: Notify,
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

    fn limits(&self, connection: &Connection) -> Limits {
        let engine = self.engine.borrow();
        let session = engine.clients.get(connection.client);
        Limits {
            bulk_len_max: u64::try_from(engine.server.config.proto_max_bulk_len).unwrap_or(u64::MAX),
            authenticated: session.is_none_or(|s| !engine.server.requires_auth(s)),
        }
    }
}

/// Serves until a shutdown; the process's exit code.
pub fn serve(engine: Engine) -> std::io::Result<i32> {
    let options = tokio::runtime::LocalOptions::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)?;
    let (jobs, finished) = jobs::Threads::start()?;
    let net = Rc::new(Net {
        engine: RefCell::new(engine),
        connections: RefCell::default(),
        ready: RefCell::default(),
        dirty: RefCell::default(),
        buffers: pool::BufferPool::default(),
        executor: Notify::new(),
        listeners_changed: Notify::new(),
        jobs,
        started: Instant::now(),
        exit_code: Cell::new(None),
        exit: Notify::new(),
    });
    runtime.block_on(async move {
        net.engine.borrow_mut().tick(net.now());
        let listeners = listener::Listeners::bind(&net)?;
        tokio::task::spawn_local(turn::executor(Rc::clone(&net)));
        tokio::task::spawn_local(timer::run(Rc::clone(&net)));
        tokio::task::spawn_local(jobs::collect(Rc::clone(&net), finished));
        signals::watch(&net)?;
        tokio::task::spawn_local(listener::keep(Rc::clone(&net), listeners));
        tracing::info!("Ready to accept connections tcp");
        net.exit.notified().await;
        turn::flush_everything(&net);
        Ok(net.exit_code.get().unwrap_or(0))
    })
}
