//! The plain threads beside the executor: one runs jobs (long reads over snapshots, file writes),
//! one saves, one frees what is big.
//!
//! They share nothing with the engine. What a job answers comes back through a channel that a
//! task of the executor's thread drains.

use super::priority::Hunger;
use super::{Net, priority};
use crate::engine::{ClientId, Job, JobReply, SaveJob, SaveOutcome};
use crate::keyspace::Garbage;
use crate::observe::memory;
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// What a thread has done, on its way back.
pub enum Finished {
    Job { client: ClientId, reply: JobReply },
    Save(SaveOutcome),
}

/// What the saving thread tells of itself, and what is thought of it.
#[derive(Default)]
struct Saver {
    shared: Arc<SaverFigures>,
    hunger: RefCell<Option<Hunger>>,
}

#[derive(Default)]
struct SaverFigures {
    is_busy: AtomicBool,
    directory: OnceLock<Option<PathBuf>>,
}

pub struct Threads {
    jobs: mpsc::Sender<(ClientId, Job)>,
    saves: mpsc::Sender<SaveJob>,
    garbage: mpsc::Sender<Garbage>,
    saver: Saver,
    freed_objects: Arc<AtomicU64>,
    freed_bytes: Arc<AtomicU64>,
}

impl Threads {
    /// Starts the threads; they end with the process.
    pub fn start() -> io::Result<(Threads, async_mpsc::UnboundedReceiver<Finished>)> {
        let (jobs, job_queue) = mpsc::channel::<(ClientId, Job)>();
        let (saves, save_queue) = mpsc::channel::<SaveJob>();
        let (garbage, garbage_queue) = mpsc::channel::<Garbage>();
        let (finished, answers) = async_mpsc::unbounded_channel();
        let freed_objects = Arc::new(AtomicU64::new(0));
        let freed_bytes = Arc::new(AtomicU64::new(0));
        let saved = finished.clone();
        let saver = Saver::default();
        let shared = Arc::clone(&saver.shared);
        let freed = (Arc::clone(&freed_objects), Arc::clone(&freed_bytes));
        thread::Builder::new().name("reader".into()).spawn(move || {
            memory::count_this_thread();
            for (client, job) in job_queue {
                // Nobody is left to answer when the executor is gone.
                let _ = finished.send(Finished::Job { client, reply: job() });
            }
        })?;
        thread::Builder::new().name("saver".into()).spawn(move || {
            memory::count_this_thread();
            priority::yield_to_others();
            let _ = shared.directory.set(priority::own_directory());
            for job in save_queue {
                shared.is_busy.store(true, Ordering::Relaxed);
                let _ = saved.send(Finished::Save(job()));
                shared.is_busy.store(false, Ordering::Relaxed);
            }
        })?;
        thread::Builder::new().name("reaper".into()).spawn(move || {
            memory::count_this_thread();
            for garbage in garbage_queue {
                let (objects, bytes) = (garbage.objects(), garbage.bytes());
                drop(garbage);
                freed.0.fetch_add(objects, Ordering::Relaxed);
                freed.1.fetch_add(bytes, Ordering::Relaxed);
            }
        })?;
        Ok((Threads { jobs, saves, garbage, saver, freed_objects, freed_bytes }, answers))
    }

    pub fn run(&self, client: ClientId, job: Job) {
        self.jobs.send((client, job)).expect("the job thread lives as long as the process");
    }

    pub fn save(&self, job: SaveJob) {
        self.saves.send(job).expect("the saving thread lives as long as the process");
    }

    pub fn free(&self, garbage: Garbage) {
        self.garbage.send(garbage).expect("the freeing thread lives as long as the process");
    }

    /// Whether the executor is to rest, so that a save comes to its end.
    pub fn is_saver_starving(&self) -> bool {
        let directory = self.saver.shared.directory.get().cloned().flatten();
        let Some(directory) = directory else { return false };
        let mut hunger = self.saver.hunger.borrow_mut();
        let hunger = hunger.get_or_insert_with(|| Hunger::new(directory));
        if self.saver.shared.is_busy.load(Ordering::Relaxed) {
            return hunger.starves();
        }
        hunger.rest();
        false
    }

    /// Bytes of the entries freed so far.
    pub fn freed_bytes(&self) -> u64 {
        self.freed_bytes.load(Ordering::Relaxed)
    }

    /// Objects freed so far.
    pub fn freed_objects(&self) -> u64 {
        self.freed_objects.load(Ordering::Relaxed)
    }
}

/// Tells the engine what the threads have done.
pub async fn collect(net: Rc<Net>, mut answers: async_mpsc::UnboundedReceiver<Finished>) {
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
