//! What the executor's thread has of TLS: what it is spoken with, the handshakes that are under
//! way, and what is said in the log of those that failed.

use super::handshake::{Answer, Handshakers, Order, Role};
use super::session::Tls;
use super::settings::Contexts;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::AbortHandle;

#[derive(Default)]
pub struct Desk {
    contexts: RefCell<Option<Arc<Contexts>>>,
    /// None before the first handshake: a server that speaks no TLS has no threads for it.
    handshakers: RefCell<Option<Handshakers>>,
    under_way: RefCell<UnderWay>,
    pub complaints: Complaints,
    /// Held by who reads the files of TLS and puts them into use, so that the last to read is the
    /// last to put.
    pub turn: Mutex<()>,
    /// Held by the thread that reads files, if there is one.
    reading: Arc<()>,
}

impl Desk {
    /// What the thread holds that is to read files; none while another one does, which may wait for
    /// a file system that does not answer.
    pub fn begin_reading(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.reading) == 1).then(|| Arc::clone(&self.reading))
    }

    /// What TLS is spoken with, if it is.
    pub fn contexts(&self) -> Option<Arc<Contexts>> {
        self.contexts.borrow().clone()
    }

    /// Speaks TLS by these from now on; what there was before.
    pub fn install(&self, contexts: Option<Arc<Contexts>>) -> Option<Arc<Contexts>> {
        if let Some(contexts) = &contexts {
            contexts.take_effect();
        }
        self.contexts.replace(contexts)
    }

    /// Has the server's side of a handshake made. Dropping the answer gives it up.
    pub fn accept(&self, socket: TcpStream) -> io::Result<oneshot::Receiver<Answer>> {
        let contexts = self.contexts().ok_or_else(not_configured)?;
        self.shake(socket, Role::Server(Arc::clone(&contexts.server)))
    }

    /// The same with who claims to be a node of the cluster.
    pub fn accept_node(&self, socket: TcpStream) -> io::Result<oneshot::Receiver<Answer>> {
        let bus = self.contexts().and_then(|contexts| contexts.bus.clone());
        self.shake(socket, Role::Server(bus.ok_or_else(not_configured)?))
    }

    /// Makes the client's side of a handshake.
    pub async fn connect(&self, socket: TcpStream) -> io::Result<Tls> {
        let contexts = self.contexts().ok_or_else(not_configured)?;
        self.connect_by(&contexts, socket).await
    }

    /// The same for who has no desk of the server's, but what TLS is spoken with.
    pub async fn connect_by(&self, contexts: &Contexts, socket: TcpStream) -> io::Result<Tls> {
        finish(self.shake(socket, Role::Client(Arc::clone(&contexts.client)))?).await
    }

    fn shake(&self, socket: TcpStream, role: Role) -> io::Result<oneshot::Receiver<Answer>> {
        let socket = socket.into_std()?;
        let (answer, outcome) = oneshot::channel();
        let mut handshakers = self.handshakers.borrow_mut();
        let handshakers = match &mut *handshakers {
            Some(started) => started,
            none => none.insert(Handshakers::start()?),
        };
        handshakers.shake(Order { socket, role, answer });
        Ok(outcome)
    }

    pub fn under_way(&self) -> &RefCell<UnderWay> {
        &self.under_way
    }
}

/// The connection that a handshake has led to.
pub async fn finish(outcome: oneshot::Receiver<Answer>) -> io::Result<Tls> {
    let shaken = outcome.await.map_err(io::Error::other)?;
    Tls::unpack(shaken.map_err(io::Error::other)?.parcel)
}

fn not_configured() -> io::Error {
    io::Error::other("TLS is not configured")
}

/// The handshakes with clients, oldest first, by the tasks that wait for their outcome.
#[derive(Default)]
pub struct UnderWay {
    tasks: VecDeque<(u64, AbortHandle)>,
    next: u64,
}

impl UnderWay {
    /// Gives up the oldest until there is place for one more; how many those were. By this nobody
    /// who connects and says nothing keeps others out.
    pub fn make_place(&mut self, most: usize) -> usize {
        let too_many = (self.tasks.len() + 1).saturating_sub(most).min(self.tasks.len());
        self.tasks.drain(..too_many).for_each(|(_, task)| task.abort());
        too_many
    }

    /// The number of the next one.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn add(&mut self, number: u64, task: AbortHandle) {
        self.tasks.push_back((number, task));
    }

    pub fn remove(&mut self, number: u64) {
        if let Ok(place) = self.tasks.binary_search_by_key(&number, |(number, _)| *number) {
            self.tasks.remove(place);
        }
    }
}

/// Lets a few complaints a second into the log, since whoever scans ports repeats them without end.
#[derive(Default)]
pub struct Complaints {
    /// When the second began, how many lines it has had, and how many there was no room for.
    second: Cell<Option<Instant>>,
    told: Cell<u32>,
    kept: Cell<u64>,
}

/// Lines of one second.
const COMPLAINTS_MAX: u32 = 5;

impl Complaints {
    /// Whether a line may be written; then how many were not since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let is_over = |begun| now.duration_since(begun) >= Duration::from_secs(1);
        if self.second.get().is_none_or(is_over) {
            self.second.set(Some(now));
            self.told.set(0);
        }
        if self.told.get() >= COMPLAINTS_MAX {
            self.kept.set(self.kept.get() + 1);
            return None;
        }
        self.told.set(self.told.get() + 1);
        Some(self.kept.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_complaints_a_second_are_told() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let told = (0..100).filter(|_| complaints.admit(start).is_some()).count();
        assert_eq!(told, COMPLAINTS_MAX as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(complaints.admit(later), Some(100 - u64::from(COMPLAINTS_MAX)));
        assert_eq!(complaints.admit(later), Some(0));
    }

    #[tokio::test]
    async fn the_oldest_make_place() {
        let mut under_way = UnderWay::default();
        let mut tasks = Vec::new();
        for _ in 0..5 {
            let number = under_way.number();
            let task = tokio::spawn(std::future::pending::<()>());
            under_way.add(number, task.abort_handle());
            tasks.push(task);
        }
        under_way.remove(3);
        assert_eq!(under_way.make_place(10), 0);
        assert_eq!(under_way.make_place(3), 2);
        assert!(tasks.remove(0).await.is_err_and(|end| end.is_cancelled()));
        assert!(tasks.remove(0).await.is_err_and(|end| end.is_cancelled()));
        assert_eq!(under_way.make_place(0), 2);
        assert_eq!(under_way.make_place(0), 0);
    }
}
