//! Loading at the start: a thread reads and decodes, the executor's thread puts in and goes on
//! answering its clients.

use super::{Net, hands};
use crate::config::os_reason;
use crate::engine::Engine;
use crate::engine::loading::{Load, Step};
use crate::observe::memory;
use crate::persist::aof::{AofEnd, Unloadable};
use crate::persist::load::{LoadError, SnapshotSource};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Batches that may wait for the executor: enough to keep the other thread busy.
const BATCHES_AHEAD: usize = 16;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Loading failed; the log has been told why.
pub struct NotLoaded;

/// Loads what the data directory holds, if it holds anything, while clients are answered that they
/// have to wait; an AOF is then open for appending.
pub async fn load(net: &Rc<Net>) -> Result<(), NotLoaded> {
    let begun = {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        engine.first_load()
    };
    let end = match begun.map_err(|Unloadable| NotLoaded)? {
        Some(load) => drive(net, load).await?,
        None => AofEnd::default(),
    };
    let mut engine = net.engine.borrow_mut();
    engine.tick(net.now());
    engine.start_replication(end.origin);
    if !engine.config().appendonly {
        return Ok(());
    }
    engine.open_aof(&end).map_err(|error| {
        tracing::warn!("Can't open the append-only file: {}", os_reason(&error));
        NotLoaded
    })
}

/// Drives a load to its end, and lets others run between its steps.
async fn drive(net: &Rc<Net>, mut load: Load) -> Result<AofEnd, NotLoaded> {
    loop {
        let step = {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            let step = load.step(&mut engine.core());
            hands::carry_out(net, &mut engine);
            step
        };
        match step {
            _ if net.exit_code.get().is_some() => return Err(NotLoaded),
            Step::More => net.yield_now().await,
            Step::NeedFile(source) => read(net, &mut load, source).await,
            Step::Done(end) => return Ok(end),
            Step::Failed => {
                if !net.engine.borrow().config().appendonly {
                    tracing::warn!("Fatal error loading the DB, check server logs. Exiting.");
                }
                return Err(NotLoaded);
            }
        }
    }
}

/// Has a snapshot read on a thread of its own, and puts in what it reads.
async fn read(net: &Rc<Net>, load: &mut Load, source: Box<SnapshotSource>) {
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let path = source.path.clone();
    let reader = thread::Builder::new().name("loader".into()).spawn(move || {
        memory::count_passing_thread();
        source.read(&mut |batch| {
            memory::count_passing_thread();
            match sender.blocking_send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })
    });
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return load.finish_file(Err(SnapshotSource::failure(&path, error))),
    };
    let mut progress = ProgressLine { told: Instant::now() };
    while let Some(batch) = batches.recv().await {
        let taken = {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            let taken = load.take_in(&mut engine.core(), batch);
            progress.tell(&engine);
            taken
        };
        if taken.is_break() || net.exit_code.get().is_some() {
            break;
        }
        net.yield_now().await;
    }
    drop(batches);
    load.finish_file(reader.join().unwrap_or(Err(LoadError::CalledOff)));
}

/// The line that says how far loading has come.
struct ProgressLine {
    told: Instant,
}

impl ProgressLine {
    fn tell(&mut self, engine: &Engine) {
        let Some(progress) = engine.loading_progress() else { return };
        if self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        tracing::info!("Loading: {progress}");
    }
}
