//! The plain threads beside the executor: one runs jobs (long reads over snapshots, file writes),
//! one frees what is big.
//!
//! They share nothing with the engine. What a job answers comes back through a channel that a
//! task of the executor's thread drains.

use super::Net;
use crate::engine::{ClientId, Job, JobReply};
use crate::keyspace::Garbage;
use crate::observe::memory;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// A job's answer on its way back.
pub struct Finished {
    client: ClientId,
    reply: JobReply,
}

pub struct Threads {
    jobs: mpsc::Sender<(ClientId, Job)>,
    garbage: mpsc::Sender<Garbage>,
    freed_objects: Arc<AtomicU64>,
    freed_bytes: Arc<AtomicU64>,
}

impl Threads {
    /// Starts the threads; they end with the process.
    pub fn start() -> io::Result<(Threads, async_mpsc::UnboundedReceiver<Finished>)> {
        let (jobs, job_queue) = mpsc::channel::<(ClientId, Job)>();
        let (garbage, garbage_queue) = mpsc::channel::<Garbage>();
        let (finished, answers) = async_mpsc::unbounded_channel();
        let freed_objects = Arc::new(AtomicU64::new(0));
        let freed_bytes = Arc::new(AtomicU64::new(0));
        let freed = (Arc::clone(&freed_objects), Arc::clone(&freed_bytes));
        thread::Builder::new().name("reader".into()).spawn(move || {
            memory::count_this_thread();
            for (client, job) in job_queue {
                // Nobody is left to answer when the executor is gone.
                let _ = finished.send(Finished { client, reply: job() });
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
        Ok((Threads { jobs, garbage, freed_objects, freed_bytes }, answers))
    }

    pub fn run(&self, client: ClientId, job: Job) {
        self.jobs.send((client, job)).expect("the job thread lives as long as the process");
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

/// Hands finished jobs' answers to their clients.
pub async fn collect(net: Rc<Net>, mut answers: async_mpsc::UnboundedReceiver<Finished>) {
    while let Some(Finished { client, reply }) = answers.recv().await {
        net.engine.borrow_mut().finish_job(client, reply);
        net.executor.notify_one();
    }
}
