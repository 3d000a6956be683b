//! The thread that syncs the append-only file, which can take a disk's time.
//!
//! It is one thread with a queue, and not one of those for jobs: a sync that replies wait for must
//! not stand behind a snapshot that is being written.

use crate::persist::aof::{SyncOutcome, SyncRequest};
use std::io;
use std::sync::mpsc;
use std::thread;
use tokio::sync::mpsc as async_mpsc;

/// The way to the thread.
pub struct Syncer(mpsc::Sender<SyncRequest>);

impl Syncer {
    /// Starts the thread; it ends with the process.
    pub fn start() -> io::Result<(Syncer, async_mpsc::UnboundedReceiver<SyncOutcome>)> {
        let (requests, queue) = mpsc::channel::<SyncRequest>();
        let (done, outcomes) = async_mpsc::unbounded_channel();
        thread::Builder::new().name("syncer".into()).spawn(move || {
            for request in queue {
                // Nobody is left to hear of it when the executor is gone.
                let _ = done.send(request.run());
            }
        })?;
        Ok((Syncer(requests), outcomes))
    }

    pub fn sync(&self, request: SyncRequest) {
        self.0.send(request).expect("the syncing thread lives as long as the process");
    }
}
