//! Loading at the start: a thread reads and decodes, the executor's thread puts in and goes on
//! answering its clients.

use super::{Net, hands};
use crate::config::os_reason;
use crate::engine::{Engine, Replay, ReplayStep, Unloadable};
use crate::observe::memory;
use crate::persist::load::{Batch, LoadError, Reading};
use std::ops::ControlFlow;
use std::path::PathBuf;
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
pub async fn load_snapshot(net: &Rc<Net>) -> Result<(), NotLoaded> {
    let started = Instant::now();
    let Some(source) = begin(&mut net.engine.borrow_mut()) else { return Ok(()) };
    let outcome = source.load(net).await;
    let mut engine = net.engine.borrow_mut();
    match outcome {
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

impl Source {
    /// Starts reading a file on a thread of its own.
    fn open(engine: &Engine, reading: Reading, path: PathBuf) -> Option<Source> {
        let disk = Arc::clone(&engine.server.parts.disk);
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

    /// Puts in what is read; how many bytes it was.
    async fn load(mut self, net: &Rc<Net>) -> Result<u64, LoadError> {
        let mut progress = ProgressLine { told: Instant::now() };
        let mut outcome = Ok(());
        let mut bytes = 0;
        while let Some(batch) = self.batches.recv().await {
            bytes = batch.bytes_read;
            {
                let mut engine = net.engine.borrow_mut();
                engine.tick(net.now());
                outcome = engine.load(batch);
                progress.tell(&engine);
            }
            if outcome.is_err() || net.exit_code.get().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(self.batches);
        let read = self.reader.join().unwrap_or(Err(LoadError::CalledOff));
        outcome.and(read).map(|()| bytes)
    }
}

/// Starts reading the snapshot file, unless there is none.
fn begin(engine: &mut Engine) -> Option<Source> {
    let path = engine.server.snapshot_path();
    let disk = Arc::clone(&engine.server.parts.disk);
    let len = disk.len(&path).ok()?;
    engine.begin_loading(len);
    Source::open(engine, engine.reading(), path)
}

/// Loads the append-only log, while clients are answered that they have to
/// wait, and opens it.
pub async fn load_log(net: &Rc<Net>) -> Result<(), Unloadable> {
    let mut end = Default::default();
    let begun = net.engine.borrow_mut().find_log()?;
    if let Some(mut replay) = begun {
        loop {
            let step = {
                let mut engine = net.engine.borrow_mut();
                engine.tick(net.now());
                let step = engine.step_replay(&mut replay);
                hands::carry_out(net, &mut engine);
                step
            };
            match step {
                _ if net.exit_code.get().is_some() => return Err(Unloadable),
                ReplayStep::More => tokio::task::yield_now().await,
                ReplayStep::Snapshot(path) => load_base(net, &mut replay, path).await?,
                ReplayStep::Failed => return Err(Unloadable),
                ReplayStep::Done(done) => {
                    end = done;
                    break;
                }
            }
        }
    }
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.open_log(&end).map_err(|error| {
        tracing::warn!("Can't open the append-only file: {}", os_reason(&error));
        Unloadable
    })
}

/// Loads the snapshot at the front of the log.
async fn load_base(net: &Rc<Net>, replay: &mut Replay, path: PathBuf) -> Result<(), Unloadable> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let source = {
        let engine = net.engine.borrow();
        Source::open(&engine, engine.reading_of_log(), path).ok_or(Unloadable)?
    };
    match source.load(net).await {
        Ok(bytes) if net.engine.borrow_mut().finish_snapshot_of(replay, bytes) => Ok(()),
        Ok(_) | Err(LoadError::CalledOff) => Err(Unloadable),
        Err(error) => {
            tracing::warn!("{error}");
            tracing::warn!("Error reading the RDB base file {name}, AOF loading aborted");
            Err(Unloadable)
        }
    }
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
        let seconds = loading.elapsed_seconds(engine.server.clock.now());
        let keys = engine.server.last_load.keys_loaded;
        tracing::info!(
            "Loading: {:.1}% of {} bytes, {keys} keys, {} keys per second",
            loading.percent(),
            loading.total_bytes,
            keys / seconds.max(1),
        );
    }
}
