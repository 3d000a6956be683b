//! The threads that send snapshots to replicas: one a transfer, and one for each group that has
//! fallen behind the others ([`crate::persist::fan`]).
//!
//! A thread has duplicates of the sockets, to which nobody else writes meanwhile; their
//! connections go on to read. It lives as long as somebody is sent something, but does not keep
//! the process from ending.

use super::jobs::give_way;
use super::stream;
use crate::config::os_reason;
use crate::engine::ClientId;
use crate::engine::transfer::TransferReport;
use crate::observe::memory;
use crate::observe::traffic::SenderTraffic;
use crate::persist::fan::{Content, Fan, Fate, Outlet, Recipient, Sizes, World};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as async_mpsc;

/// What is told of a transfer.
pub struct Told {
    pub report: TransferReport,
    /// How many bytes its client was sent, if it is about one.
    pub written: u64,
}

/// One transfer has no more threads than this. Those who go apart do so in groups, so that it needs
/// many replicas, each slower than the other, to want more.
const THREADS_MAX: usize = 8;

/// Starts the threads.
pub struct Senders {
    told: async_mpsc::UnboundedSender<Told>,
    traffic: Arc<SenderTraffic>,
}

impl Senders {
    pub fn new(traffic: Arc<SenderTraffic>) -> (Senders, async_mpsc::UnboundedReceiver<Told>) {
        let (told, reports) = async_mpsc::unbounded_channel();
        (Senders { told, traffic }, reports)
    }

    /// A socket as a sender writes to it.
    pub fn socket(&self, outlet: stream::Outlet) -> Socket {
        Socket { outlet, written: 0, traffic: Arc::clone(&self.traffic) }
    }

    pub fn tell(&self, report: TransferReport) {
        // Nobody is left to hear of it when the executor is gone.
        let _ = self.told.send(Told { report, written: 0 });
    }

    /// Sends what there is to all of them, on a thread of its own.
    pub fn send(
        &self,
        number: u64,
        recipients: Vec<Recipient<ClientId, Socket>>,
        content: Content,
    ) {
        let (told, failure) = (self.told.clone(), Mutex::default());
        let desk = Arc::new(Desk { number, told, failure });
        Station { content, desk }.start(Fan::new(recipients, Sizes::default()), Fan::send);
    }
}

/// A replica's socket, and how much has been written to it.
pub struct Socket {
    outlet: stream::Outlet,
    written: u64,
    traffic: Arc<SenderTraffic>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.outlet {
            stream::Outlet::Plain(socket) => socket.as_fd(),
            stream::Outlet::Tls(lent) => lent.socket().as_fd(),
        }
    }
}

impl Outlet for Socket {
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match &self.outlet {
            stream::Outlet::Plain(socket) => rustix::io::writev(socket, pieces)?,
            stream::Outlet::Tls(lent) => lent.try_write(pieces)?,
        };
        self.written += written as u64;
        self.traffic.count_write(written);
        // Whoever waits for this processor need not wait for the end of a time slice.
        thread::yield_now();
        Ok(written)
    }
}

/// Where the threads of one transfer report. When the last of them lets it go, all is over.
struct Desk {
    number: u64,
    told: async_mpsc::UnboundedSender<Told>,
    failure: Mutex<Option<String>>,
}

impl Desk {
    fn note_failure(&self, reason: &str) {
        let mut failure = self.failure.lock().expect("nobody panics while holding it");
        failure.get_or_insert_with(|| reason.to_owned());
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let failure = self.failure.lock().expect("nobody panics while holding it").take();
        let report = TransferReport::Ended { number: self.number, failure };
        let _ = self.told.send(Told { report, written: 0 });
    }
}

type SocketFan = Fan<ClientId, Socket>;

/// What a thread needs. The dataset is let go before the end is reported.
struct Station {
    content: Content,
    desk: Arc<Desk>,
}

impl Station {
    /// Has a fan served on another thread. If there is none, nobody in it is sent anything.
    fn start(
        self,
        fan: SocketFan,
        serve: fn(SocketFan, &Content, &mut dyn World<ClientId, Socket>),
    ) {
        let (handed, order) = mpsc::channel::<(SocketFan, Content, Arc<Desk>)>();
        let started = thread::Builder::new().name("sender".into()).spawn(move || {
            memory::count_passing_thread();
            give_way();
            let Ok((fan, content, desk)) = order.recv() else { return };
            let mut sockets = Sockets { content: content.clone(), desk, started: Instant::now() };
            serve(fan, &content, &mut sockets);
            drop(content);
        });
        let Station { content, desk } = self;
        match started {
            Ok(_) => handed.send((fan, content, desk)).expect("it waits for this"),
            Err(error) => {
                let reason = format!("Can't start a thread: {}", os_reason(&error));
                desk.note_failure(&reason);
                let mut sockets = Sockets { content, desk, started: Instant::now() };
                fan.give_up(&reason, &mut sockets);
            }
        }
    }
}

/// Sockets and clock of a thread.
struct Sockets {
    content: Content,
    desk: Arc<Desk>,
    started: Instant,
}

impl World<ClientId, Socket> for Sockets {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait(&mut self, outlets: &[&Socket], at_most: Duration) {
        let watched = outlets.iter().map(|outlet| PollFd::new(*outlet, PollFlags::OUT));
        let mut watched: Vec<PollFd<'_>> = watched.collect();
        let at_most = Timespec::try_from(at_most).expect("it is short");
        // Whatever has ended it, all is looked at again.
        let _ = poll(&mut watched, Some(&at_most));
    }

    fn report(&mut self, client: ClientId, outlet: Socket, fate: Fate) {
        let report = match fate {
            Fate::Sent => TransferReport::Sent { client },
            Fate::Lost(reason) => TransferReport::Lost { client, reason },
            Fate::TimedOut => TransferReport::TimedOut { client },
        };
        let _ = self.desk.told.send(Told { report, written: outlet.written });
    }

    fn go_apart(&mut self, fan: SocketFan) {
        // Each of them holds the desk.
        if Arc::strong_count(&self.desk) >= THREADS_MAX {
            return fan.give_up("too many others are slow, too", self);
        }
        let (content, desk) = (self.content.clone(), Arc::clone(&self.desk));
        Station { content, desk }.start(fan, Fan::go_on);
    }
}

#[cfg(test)]
pub mod tests;
