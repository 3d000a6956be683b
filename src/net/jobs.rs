//! The plain threads beside the executor: one runs jobs (long reads over snapshots, file writes),
//! one saves, one frees what is big.
//!
//! They share nothing with the engine. What a job answers comes back through a channel that a
//! task of the executor's thread drains.

use crate::engine::{ClientId, Job, JobReply, SaveJob, SaveOutcome};
use crate::keyspace::Garbage;
use crate::observe::memory;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// What a thread has done, on its way back.
pub enum Finished {
    Job { client: ClientId, reply: JobReply },
    Save(SaveOutcome),
}

pub struct Threads {
    jobs: mpsc::Sender<(ClientId, Job)>,
    saves: mpsc::Sender<SaveJob>,
    garbage: mpsc::Sender<Garbage>,
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
            give_way();
            for job in save_queue {
                let _ = saved.send(Finished::Save(job()));
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
        Ok((Threads { jobs, saves, garbage, freed_objects, freed_bytes }, answers))
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

    /// Bytes of the entries freed so far.
    pub fn freed_bytes(&self) -> u64 {
        self.freed_bytes.load(Ordering::Relaxed)
    }

    /// Objects freed so far.
    pub fn freed_objects(&self) -> u64 {
        self.freed_objects.load(Ordering::Relaxed)
    }
}

/// How much less of a processor a thread asks for that encodes snapshots, in the scheduler's steps:
/// about a third of what the executor gets where both want the same one. With less, a save hardly
/// got on at all where others kept the machine busy.
const SAVER_NICENESS: i32 = 5;

/// Lets the executor go first: a save may take longer, a client may not.
pub fn give_way() {
    // On Linux this concerns the calling thread alone. Where it is refused, saving is not nicer.
    let _ = rustix::process::setpriority_process(None, SAVER_NICENESS);
}
