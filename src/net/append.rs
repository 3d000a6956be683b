//! The append-only log in the world: the thread that syncs, and replies that wait until what they
//! promise is on disk.

use super::connection::{Connection, Io};
use super::{Net, hands};
use crate::engine::Engine;
use crate::engine::hold::{Release, Told};
use crate::persist::aof::{SyncOutcome, SyncRequest};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// The turn's output tells of what was written so far: the replies of its commands, that is; what
/// came by effects has been marked already.
pub fn mark_output(net: &Net, engine: &mut Engine) {
    let (told, release) = (engine.told(), engine.release());
    let told = Told { of_writes: false, ..told };
    for connection in net.dirty.borrow().iter() {
        mark(connection, &mut connection.io.borrow_mut(), told, release);
        connection.has_written.set(false);
    }
}

/// What has been added to a connection's output tells of this.
pub fn mark(connection: &Connection, io: &mut Io, told: Told, release: Release) {
    let told = told.of_writes_if(connection.has_written.get());
    let end = io.written_bytes + io.out.len() as u64;
    io.holds.tell(told, release, io.written_bytes, end);
}

/// Has the output written of the connections whose first mark has been reached.
pub fn release_held(net: &Net, engine: &Engine) {
    let release = engine.release();
    if net.released.replace(Some(release)) == Some(release) || net.held.borrow().is_empty() {
        return;
    }
    let mut held = net.held.borrow_mut();
    held.retain(|connection| {
        if !connection.io.borrow().holds.may_go_on(release) {
            return true;
        }
        connection.is_held.set(false);
        net.mark_dirty(connection);
        false
    });
}

/// Keeps in mind that a connection has output that waits for the log.
pub fn hold(net: &Net, connection: &Rc<Connection>) {
    if !connection.is_held.replace(true) {
        net.held.borrow_mut().push(Rc::clone(connection));
    }
}

/// Drops what a closed connection waited with.
pub fn let_go(net: &Net, connection: &Rc<Connection>) {
    if connection.is_held.take() {
        net.held.borrow_mut().retain(|held| !Rc::ptr_eq(held, connection));
    }
}

/// How much of a connection's output may leave now.
pub fn free_output(engine: &Engine, io: &mut Io) -> usize {
    if io.holds.is_empty() {
        return usize::MAX;
    }
    io.holds.free(io.written_bytes, engine.release())
}

/// The thread that syncs the log.
pub struct Syncer(mpsc::Sender<SyncRequest>);

impl Syncer {
    /// Starts the thread; it ends with the process.
    pub fn start() -> io::Result<(Syncer, async_mpsc::UnboundedReceiver<SyncOutcome>)> {
        let (requests, queue) = mpsc::channel::<SyncRequest>();
        let (done, outcomes) = async_mpsc::unbounded_channel();
        thread::Builder::new().name("syncer".into()).spawn(move || {
            for request in queue {
                // Nobody is left to hear of it when the executor is gone.
                let _ = done.send(request.run());
            }
        })?;
        Ok((Syncer(requests), outcomes))
    }

    pub fn sync(&self, request: SyncRequest) {
        self.0.send(request).expect("the syncing thread lives as long as the process");
    }
}

/// Tells the engine which syncs have ended.
pub async fn collect(net: Rc<Net>, mut outcomes: async_mpsc::UnboundedReceiver<SyncOutcome>) {
    while let Some(outcome) = outcomes.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.finish_sync(outcome);
            hands::carry_out(&net, &mut engine);
        }
        net.executor.notify_one();
    }
}
