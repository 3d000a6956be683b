//! Loading at the start: a thread reads and decodes, the executor's thread puts in and goes on
//! answering its clients.

use super::Net;
use crate::engine::Engine;
use crate::observe::memory;
use crate::persist::load::{Batch, LoadError};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Batches that may wait for the executor: enough to keep the other thread busy.
const BATCHES_AHEAD: usize = 16;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Loading failed; the log has been told why.
pub struct NotLoaded;

/// Loads what the data directory holds, if it holds anything.
pub async fn load(net: &Rc<Net>) -> Result<(), NotLoaded> {
    let started = Instant::now();
    let Some(mut source) = begin(&mut net.engine.borrow_mut()) else { return Ok(()) };
    let mut progress = ProgressLine { told: started };
    let mut outcome = Ok(());
    while let Some(batch) = source.batches.recv().await {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        outcome = engine.load(batch);
        if outcome.is_err() || net.exit_code.get().is_some() {
            break;
        }
        progress.tell(&engine);
        drop(engine);
        tokio::task::yield_now().await;
    }
    drop(source.batches);
    let read = source.reader.join().unwrap_or(Err(LoadError::CalledOff));
    let mut engine = net.engine.borrow_mut();
    match outcome.and(read) {
        Ok(_) => {
            engine.tick(net.now());
            engine.end_loading();
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!("DB loaded from disk: {seconds:.3} seconds");
            Ok(())
        }
        // The process ends; what is left of the dataset does not matter.
        Err(LoadError::CalledOff) => Err(NotLoaded),
        Err(error) => {
            error.tell();
            tracing::warn!("Fatal error loading the DB, check server logs. Exiting.");
            Err(NotLoaded)
        }
    }
}

/// A file that is being read.
struct Source {
    batches: mpsc::Receiver<Batch>,
    reader: thread::JoinHandle<Result<(), LoadError>>,
}

/// Starts reading the snapshot file, unless there is none.
fn begin(engine: &mut Engine) -> Option<Source> {
    let path = engine.server.snapshot_path();
    let disk = Arc::clone(&engine.server.parts.disk);
    let len = disk.len(&path).ok()?;
    engine.begin_loading(len);
    let reading = engine.reading();
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let reader = thread::Builder::new().name("loader".into()).spawn(move || {
        memory::count_this_thread();
        reading.read_file(&*disk, &path, &mut |batch| match sender.blocking_send(batch) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    Some(Source { batches, reader: reader.ok()? })
}

/// The line that says how far loading has come.
struct ProgressLine {
    told: Instant,
}

impl ProgressLine {
    fn tell(&mut self, engine: &Engine) {
        let Some(loading) = &engine.server.loading else { return };
        if self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        let seconds = engine.server.clock.unix_seconds() - loading.started_unix_seconds;
        let keys = engine.server.last_load.keys_loaded;
        tracing::info!(
            "Loading: {:.1}% of {} bytes, {keys} keys, {} keys per second",
            loading.percent(),
            loading.total_bytes,
            keys / seconds.max(1),
        );
    }
}
