//! The world around the engine: sockets, turns, threads, signals. The only room that knows tokio.
//!
//! One thread runs everything: a tokio current-thread runtime whose local tasks are the listeners,
//! one small task a connection, the timer, and the executor. A connection's task only reads and
//! parses; the executor task runs after all connections that were ready, so that one turn's
//! requests are prefetched and executed as a batch ([`turn`]).

mod admission;
mod bus;
mod channel;
mod connection;
mod ending;
pub mod fatal;
mod hands;
pub mod healthcheck;
mod holds;
mod inbox;
mod inflow;
mod intake;
mod jobs;
pub mod limits;
mod link;
mod listener;
mod loader;
pub mod logging;
mod metrics;
mod mover;
mod outbox;
mod outcomes;
mod output_limits;
mod pool;
mod port;
mod reading;
mod relay;
mod secure;
mod sender;
mod sentinel;
pub mod service;
mod shared;
mod signals;
mod slot_mover;
mod stream;
mod syncer;
mod threads;
mod timer;
mod tls;
mod transfer;
mod turn;

use crate::engine::{Engine, Standing};
use service::Service;
use shared::Net;
use std::rc::Rc;
use std::sync::Arc;
use threads::fleet::{self, Fleet, Home};
use threads::worker;
use tokio::sync::Notify;

/// Serves until a shutdown; the process's exit code.
pub fn serve(engine: Engine, service: Service) -> std::io::Result<i32> {
    let executor = Arc::new(Notify::new());
    let now_ns = engine.ticks();
    let home = Home { bell: fleet::new_bell(&executor), idle: Arc::default() };
    let runtime = worker::runtime(&home.bell, &home.idle, now_ns)?;
    let per_thread = engine.config().events_per_io_thread;
    let fleet = Fleet::start(home, &engine.reading(), engine.traffic(), per_thread, now_ns)?;
    let (jobs, finished) = jobs::Threads::start()?;
    let (syncer, syncs) = syncer::Syncer::start()?;
    let (senders, told) = sender::Senders::new(engine.sender_traffic());
    let (errands, errand_queue) = tokio::sync::mpsc::unbounded_channel();
    let (moves, moving) = tokio::sync::mpsc::unbounded_channel();
    let (slot_orders, ordered) = tokio::sync::mpsc::unbounded_channel();
    let tls = tls::desk::Desk::default();
    let threads =
        shared::Threads { fleet, jobs, syncer, senders, moves, slot_orders, tls, errands };
    let net = Rc::new(Net::new(engine, executor, threads, service));
    let ended = Rc::clone(&net);
    let code = runtime.block_on(async move {
        net.engine.borrow_mut().tick(net.now());
        if bus::join(&net).is_err() {
            return Ok(1);
        }
        if secure::begin(&net).is_err() {
            return Ok(1);
        }
        let Ok(listeners) = listener::Listeners::bind(&net) else { return Ok(1) };
        if listeners.is_empty() {
            tracing::warn!("Configured to not listen anywhere, exiting.");
            return Ok(1);
        }
        let listening = listeners.kinds();
        let Ok(bus_listeners) = bus::listen(&net) else { return Ok(1) };
        tokio::task::spawn_local(turn::executor(Rc::clone(&net)));
        tokio::task::spawn_local(reading::welcome(Rc::clone(&net)));
        tokio::task::spawn_local(timer::run(Rc::clone(&net)));
        tokio::task::spawn_local(outcomes::collect_jobs(Rc::clone(&net), finished));
        tokio::task::spawn_local(outcomes::collect_syncs(Rc::clone(&net), syncs));
        tokio::task::spawn_local(outcomes::collect_transfers(Rc::clone(&net), told));
        tokio::task::spawn_local(mover::run(Rc::clone(&net), moving));
        tokio::task::spawn_local(slot_mover::run(Rc::clone(&net), ordered));
        tokio::task::spawn_local(secure::watch(Rc::clone(&net)));
        tokio::task::spawn_local(sentinel::run(Rc::clone(&net), errand_queue));
        signals::watch(&net)?;
        tokio::task::spawn_local(listener::keep(Rc::clone(&net), listeners));
        tracing::info!("Server initialized");
        net.service.tell(Standing::Loading);
        net.engine.borrow_mut().remove_leftovers(&limits::is_running);
        if loader::load(&net).await.is_err() {
            return Ok(net.exit_code.get().unwrap_or(1));
        }
        bus::start(&net, bus_listeners);
        for kind in listening {
            tracing::info!("Ready to accept connections {kind}");
        }
        net.service.tell(Standing::Ready);
        net.exit.notified().await;
        let is_closed = net.engine.borrow_mut().close_aof();
        turn::flush_everything(&net);
        let code = net.exit_code.get().unwrap_or(0);
        Ok(if is_closed { code } else { code.max(1) })
    });
    ended.bus.finish();
    ended.service.end();
    code
}
