//! What other threads have done comes back to the executor's.

use super::hands;
use super::jobs::Finished;
use super::sender::Told;
use super::shared::Net;
use super::transfer;
use crate::persist::aof::SyncOutcome;
use std::rc::Rc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Tells the engine what the threads have done.
pub async fn collect_jobs(net: Rc<Net>, mut answers: UnboundedReceiver<Finished>) {
    while let Some(finished) = answers.recv().await {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        match finished {
            Finished::Job { client, reply } => engine.finish_job(client, reply),
            Finished::Save(outcome) => engine.finish_save(outcome),
        }
        net.executor.notify_one();
    }
}

/// Tells the engine which syncs have ended.
pub async fn collect_syncs(net: Rc<Net>, mut outcomes: UnboundedReceiver<SyncOutcome>) {
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

/// Tells the engine what has become of snapshots for replicas.
pub async fn collect_transfers(net: Rc<Net>, mut told: UnboundedReceiver<Told>) {
    while let Some(told) = told.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            let to_close = transfer::take_back(&net, &told);
            engine.finish_transfer(told.report);
            hands::carry_out(&net, &mut engine);
            if let Some(connection) = to_close {
                net.close(&connection);
            }
        }
        net.executor.notify_one();
    }
}
