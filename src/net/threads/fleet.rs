//! The threads of sockets, as the executor sees them: who serves which connection, and how many are
//! at work.
//!
//! At low load the executor serves alone, since to hand a lone request over costs more than to run
//! it. When it has little time left to sleep, connections go to threads as they send something, and
//! come home in the same way when it has. A thread that nobody needs sleeps.

use super::bell::Bell;
use super::letters::{Order, Report};
use super::mail::{self, Receiver, Sender, Wake};
use super::worker::{self, IdleTime, Outfit};
use crate::engine::Reading;
use crate::observe::traffic::ThreadTraffic;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Of a thousand: awake so much of the time, a thread is busy, or has little to do.
const BUSY: u64 = 700;
const IDLE: u64 = 300;

/// Looks in a row that must find too many threads before one is given up: a load that comes and
/// goes is not followed.
const IDLE_LOOKS: u32 = 20;

/// How often the executor lets others run before it sleeps, when they have brought something.
const LINGER: u32 = 20;

/// The executor's own bell and idleness, with which its runtime was made.
pub struct Home {
    pub bell: Arc<Bell<Wake>>,
    pub idle: Arc<IdleTime>,
}

struct Link {
    orders: RefCell<Sender<Order>>,
    reports: RefCell<Receiver<Report>>,
    idle: Arc<IdleTime>,
    clients: Cell<u64>,
    /// How long it had been idle at the last look.
    idle_before_ns: Cell<u64>,
}

pub struct Fleet {
    home: Home,
    links: Vec<Link>,
    /// How many threads are at work.
    active: Cell<usize>,
    traffic: Arc<[ThreadTraffic]>,
    looked_ns: Cell<u64>,
    idle_before_ns: Cell<u64>,
    /// Looks in a row that have found too many threads.
    idle_looks: Cell<u32>,
    /// Most connections that had requests in one turn, since the last look.
    together: Cell<u64>,
    now_ns: fn() -> u64,
}

impl Fleet {
    /// Starts so many threads as the traffic is counted for, the executor's own not counted.
    /// `clients_per_thread` as in [`Fleet::adapt`].
    pub fn start(
        home: Home,
        reading: &Reading,
        traffic: Arc<[ThreadTraffic]>,
        clients_per_thread: u32,
        now_ns: fn() -> u64,
    ) -> io::Result<Fleet> {
        let threads = 1..traffic.len();
        let links = threads.map(|index| Link::start(&home, index, reading, &traffic, now_ns));
        let links = links.collect::<io::Result<Vec<Link>>>().inspect_err(|error| {
            tracing::warn!("Can't start the {} threads of io-threads: {error}", traffic.len());
        })?;
        let active = if clients_per_thread == 0 { links.len() } else { 0 };
        Ok(Fleet {
            home,
            links,
            active: Cell::new(active),
            traffic,
            looked_ns: Cell::new(now_ns()),
            idle_before_ns: Cell::new(0),
            idle_looks: Cell::new(0),
            together: Cell::new(0),
            now_ns,
        })
    }

    /// Whether a thread has something for the executor.
    pub fn has_mail(&self) -> bool {
        self.home.bell.has_rung()
    }

    /// Takes what the threads have reported.
    pub fn collect(&self, into: &mut Vec<Report>) {
        if self.home.bell.answer() {
            for link in &self.links {
                link.reports.borrow_mut().take(into);
            }
            self.home.idle.linger(if into.is_empty() { 0 } else { LINGER });
        } else {
            self.home.idle.linger(0);
        }
    }

    /// Tells a thread something with the next batch.
    pub fn order(&self, thread: usize, order: Order) {
        self.links[thread].orders.borrow_mut().push(order);
    }

    /// Hands over what was to be told.
    pub fn send(&self) {
        for link in &self.links {
            let mut orders = link.orders.borrow_mut();
            if !orders.is_empty() {
                orders.send();
            }
        }
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.links.len()
    }

    /// Has the threads write what sockets take, before the process ends.
    pub fn finish(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const STEP: Duration = Duration::from_millis(1);
        let (done, finished) = mpsc::channel();
        for link in &self.links {
            link.orders.borrow_mut().push(Order::Finish(done.clone()));
        }
        drop(done);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            // Again and again: what waited for room with us goes when there is some.
            self.send();
            // Nothing is ever sent: it ends when the last thread has let its end go.
            if finished.recv_timeout(STEP) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    }

    /// Which thread a connection is to go to that is on the executor's.
    pub fn next_thread(&self) -> Option<usize> {
        (0..self.active.get()).min_by_key(|thread| self.links[*thread].clients.get())
    }

    /// Whether a connection is to leave its thread: it is not at work any more, or has many more
    /// than another one.
    pub fn is_to_leave(&self, thread: usize) -> bool {
        let own = self.links[thread].clients.get();
        let least = self.next_thread().map(|next| self.links[next].clients.get());
        thread >= self.active.get() || least.is_some_and(|least| own > least + 1 + least / 4)
    }

    pub fn count_in(&self, thread: usize) {
        self.count(thread, 1);
    }

    pub fn count_out(&self, thread: usize) {
        self.count(thread, u64::MAX);
    }

    fn count(&self, thread: usize, by: u64) {
        let clients = &self.links[thread].clients;
        clients.set(clients.get().wrapping_add(by));
        self.traffic[thread + 1].set_clients(clients.get());
    }

    /// So many connections had requests in one turn.
    pub fn note_turn(&self, connections: usize) {
        self.together.set(self.together.get().max(connections as u64));
    }

    /// Has more or fewer threads work, as the load is; called a few times a second. So many
    /// connections must have something to run at once for each thread that works; 0 has all work
    /// whatever the load is.
    pub fn adapt(&self, clients_per_thread: u32) {
        if clients_per_thread == 0 || self.links.is_empty() {
            return self.active.set(self.links.len());
        }
        let now_ns = (self.now_ns)();
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns.replace(now_ns)).max(1);
        let awake = |idle: &IdleTime, before: &Cell<u64>| {
            let total = idle.total_ns(now_ns);
            let slept = total.saturating_sub(before.replace(total)).min(elapsed_ns);
            1000 - slept * 1000 / elapsed_ns
        };
        let executor = awake(&self.home.idle, &self.idle_before_ns);
        let threads: Vec<u64> =
            self.links.iter().map(|link| awake(&link.idle, &link.idle_before_ns)).collect();
        let active = self.active.get();
        let at_work = &threads[..active];
        let together = self.together.replace(0);
        let busiest = at_work.iter().copied().max().unwrap_or(0);
        let clients_per_thread = u64::from(clients_per_thread);
        let load = Load { executor, busiest, together, clients_per_thread };
        let wanted = load.threads(active, self.links.len());
        let is_less = wanted < active;
        self.idle_looks.set(if is_less { self.idle_looks.get() + 1 } else { 0 });
        if !is_less || self.idle_looks.get() >= IDLE_LOOKS {
            self.idle_looks.set(0);
            self.active.set(wanted);
        }
    }
}

/// How busy everybody was since the last look, of a thousand, and how many connections had
/// something to run at once.
struct Load {
    executor: u64,
    busiest: u64,
    together: u64,
    clients_per_thread: u64,
}

impl Load {
    /// How many threads are to work, given how many do and how many there are.
    fn threads(&self, active: usize, most: usize) -> usize {
        let enough_for = |threads: usize| self.together >= self.clients_per_thread * threads as u64;
        let busy = if active == 0 { self.executor } else { self.busiest };
        if busy >= BUSY && enough_for(active + 1) {
            return (active + 1).min(most);
        }
        let has_time = self.executor + self.busiest < BUSY || active > 1;
        if active > 0 && ((self.busiest < IDLE && has_time) || !enough_for(active)) {
            return active - 1;
        }
        active
    }
}

impl Link {
    fn start(
        home: &Home,
        index: usize,
        reading: &Reading,
        traffic: &Arc<[ThreadTraffic]>,
        now_ns: fn() -> u64,
    ) -> io::Result<Link> {
        let courier = Arc::new(Notify::new());
        let bell = new_bell(&courier);
        let (orders, received) = mail::pair(&home.bell, &bell);
        let (reports, collected) = mail::pair(&bell, &home.bell);
        let idle = Arc::new(IdleTime::default());
        let outfit = Outfit {
            index,
            orders: received,
            reports,
            bell,
            courier,
            reading: reading.clone(),
            traffic: Arc::clone(traffic),
            idle: Arc::clone(&idle),
        };
        worker::start(outfit, now_ns)?;
        Ok(Link {
            orders: RefCell::new(orders),
            reports: RefCell::new(collected),
            idle,
            clients: Cell::new(0),
            idle_before_ns: Cell::new(0),
        })
    }
}

/// A bell that has a task of a runtime polled.
pub fn new_bell(notify: &Arc<Notify>) -> Arc<Bell<Wake>> {
    let notify = Arc::clone(notify);
    Arc::new(Bell::new(Box::new(move || notify.notify_one())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(executor: u64, busiest: u64, together: u64, active: usize) -> usize {
        Load { executor, busiest, together, clients_per_thread: 2 }.threads(active, 3)
    }

    #[test]
    fn threads_work_when_many_ask_and_no_time_is_left() {
        assert_eq!(threads(400, 0, 50, 0), 0, "there is time");
        assert_eq!(threads(990, 0, 1, 0), 0, "one client would only wait longer");
        assert_eq!(threads(990, 0, 50, 0), 1);
        assert_eq!(threads(990, 990, 50, 1), 2);
        assert_eq!(threads(990, 400, 50, 1), 1, "the thread is not what they wait for");
        assert_eq!(threads(990, 990, 50, 3), 3, "there are no more");
        assert_eq!(threads(300, 200, 50, 2), 1);
        assert_eq!(threads(300, 200, 50, 1), 0);
        assert_eq!(threads(900, 200, 50, 1), 1, "the executor alone would be too busy");
        assert_eq!(threads(900, 900, 1, 1), 0, "but one client is no load");
    }
}
