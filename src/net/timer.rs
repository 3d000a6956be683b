//! The engine's sense of time: the cron ticks, and the moment the next key expires.

use super::{Net, turn};
use std::rc::Rc;
use std::time::Duration;

pub async fn run(net: Rc<Net>) {
    loop {
        tokio::time::sleep(next_wait(&net)).await;
        run_cron(&net);
        // A burst of expiries is spread over turns, between which clients are served.
        while expire_some(&net) {
            tokio::task::yield_now().await;
        }
    }
}

fn run_cron(net: &Rc<Net>) {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.server.stats.lazy_freed_objects = net.jobs.freed_objects();
    engine.cron();
    turn::carry_out(net, &mut engine);
}

/// Takes some expired keys away; true if more are due.
fn expire_some(net: &Rc<Net>) -> bool {
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    let more = engine.expire_due();
    turn::carry_out(net, &mut engine);
    more
}

/// Until the next cron tick, or sooner when a key expires or a pause ends before it.
fn next_wait(net: &Net) -> Duration {
    let engine = net.engine.borrow();
    let hz = u64::from(engine.server.config.hz.clamp(1, 500));
    let now = net.now();
    let mut wait_ms = 1000 / hz;
    if let Some(at_ms) = engine.next_expiry_unix_ms() {
        wait_ms = wait_ms.min(at_ms.saturating_sub(now.unix_us / 1000) + 1);
    }
    if let Some(until_ms) = engine.server.pause.until_ms() {
        wait_ms = wait_ms.min(until_ms.saturating_sub(now.mono_us / 1000) + 1);
    }
    Duration::from_millis(wait_ms.max(1))
}
