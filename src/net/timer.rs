//! The engine's sense of time: the cron ticks, and the moment the next key expires.

use super::shared::Net;
use super::{hands, holds, output_limits};
use crate::engine::Engine;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

pub async fn run(net: Rc<Net>) {
    let mut cron_at = Instant::now();
    loop {
        let wake_at = next_deadline(&net).map_or(cron_at, |at| at.min(cron_at));
        let moved = net.deadline_moved.notified();
        if tokio::time::timeout_at(wake_at, moved).await.is_ok() {
            continue;
        }
        run_cron(&net);
        // A burst of expiries is spread over turns, between which clients are served.
        while expire_some(&net) | evict_some(&net) {
            net.yield_now().await;
        }
        let hz = net.engine.borrow_mut().cron_hz();
        cron_at = Instant::now() + Duration::from_millis(1000 / hz);
    }
}

fn run_cron(net: &Rc<Net>) {
    let started = Instant::now();
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    net.fleet.adapt(engine.config().events_per_io_thread);
    engine.note_freed_objects(net.jobs.freed_objects());
    engine.cron();
    engine.end_waits();
    end(net, &mut engine);
    if net.link.inlet.borrow().has_work() {
        net.executor.notify_one();
    }
    output_limits::check_all(net, &mut engine);
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(0);
    engine.count_cron(elapsed_us);
}

/// Takes some expired keys away; true if more are due.
fn expire_some(net: &Rc<Net>) -> bool {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    let more = engine.expire_due();
    end(net, &mut engine);
    more
}

/// Makes keys go that have to make room; true if more have to.
fn evict_some(net: &Rc<Net>) -> bool {
    let mut engine = net.engine.borrow_mut();
    if !engine.is_evicting() {
        return false;
    }
    engine.tick(net.now());
    engine.note_freed_bytes(net.jobs.freed_bytes());
    let more = engine.evict_more();
    end(net, &mut engine);
    more
}

/// Ends a turn in which nobody has asked for anything. The log may have got on in it, and whoever
/// waited for that is not to wait for the next request.
fn end(net: &Rc<Net>, engine: &mut Engine) {
    engine.end_turn();
    hands::carry_out(net, engine);
    holds::release_held(net, engine);
}

/// When the engine has something to do by itself, if that is to come.
fn next_deadline(net: &Net) -> Option<Instant> {
    let wait_ms = net.engine.borrow().ms_until_deadline(net.now())?;
    Instant::now().checked_add(Duration::from_millis(wait_ms))
}
