//! A Sentinel's errands: connections to those it watches, its file, names, and scripts.
//!
//! Each connection is a task: what it is to send comes through a channel, what it reads is decoded
//! reply by reply and told. Its file and names have a thread each, since both may take long; each
//! script has one that waits for it. So nothing of this holds up the Sentinel's round.
//!
//! What a peer sends is not to be trusted: a reply has a longest length, and no length that it
//! declares reserves anything.

use super::channel::{Channel, connect};
use super::hands;
use super::shared::Net;
use crate::config::os_reason;
use crate::engine::Errand;
use crate::engine::sentinel::Saving;
use crate::observe::memory;
use crate::resp::Protocol;
use crate::resp::frame::{self, Frame};
use crate::sentinel::{Event, ScriptEnd, WireId};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc as async_mpsc;
use tokio::task::JoinHandle;

/// An answer to INFO has some tens of kilobytes.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// What a shell says of a program that it cannot start: it is not tried again.
const SCRIPT_NOT_STARTED: i32 = 2;

/// A connection's task, and what it is to send.
struct Wire {
    task: JoinHandle<()>,
    out: async_mpsc::UnboundedSender<Vec<u8>>,
}

/// The task that writes; it ends with the connection.
struct Writer(JoinHandle<()>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a Sentinel has in the world.
struct Outside {
    net: Rc<Net>,
    wires: RefCell<HashMap<WireId, Wire>>,
    told: async_mpsc::UnboundedSender<Event>,
    savings: mpsc::Sender<(u64, Saving)>,
    names: mpsc::Sender<String>,
    scripts: RefCell<HashMap<u64, Arc<Mutex<Option<Child>>>>>,
}

/// Runs the errands as they come. Servers that are no Sentinels have none.
pub async fn run(net: Rc<Net>, mut errands: async_mpsc::UnboundedReceiver<Errand>) {
    let Some(first) = errands.recv().await else { return };
    let (told, events) = async_mpsc::unbounded_channel();
    tokio::task::spawn_local(tell_all(Rc::clone(&net), events));
    let outside = match Outside::start(Rc::clone(&net), told) {
        Ok(outside) => Rc::new(outside),
        Err(error) => {
            tracing::warn!("Can't start the threads of the Sentinel: {}", os_reason(&error));
            net.exit_code.set(Some(1));
            return net.exit.notify_one();
        }
    };
    outside.run(first);
    while let Some(errand) = errands.recv().await {
        outside.run(errand);
    }
}

/// Tells the engine what has happened.
fn tell(net: &Rc<Net>, event: Event) {
    {
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        engine.tell_sentinel(event);
        hands::carry_out(net, &mut engine);
    }
    net.wake_executor();
}

/// The same with what threads have to tell.
async fn tell_all(net: Rc<Net>, mut events: async_mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        tell(&net, event);
    }
}

impl Outside {
    fn start(net: Rc<Net>, told: async_mpsc::UnboundedSender<Event>) -> io::Result<Outside> {
        let (savings, saving_queue) = mpsc::channel();
        let (names, name_queue) = mpsc::channel::<String>();
        let (saved, resolved) = (told.clone(), told.clone());
        thread::Builder::new().name("keeper".into()).spawn(move || {
            memory::count_this_thread();
            save_all(&saving_queue, &saved);
        })?;
        thread::Builder::new().name("resolver".into()).spawn(move || {
            memory::count_this_thread();
            for host in name_queue {
                let ip = resolve(&host);
                // Nobody is left to be told when the executor is gone.
                let _ = resolved.send(Event::Resolved { host, ip });
            }
        })?;
        let (wires, scripts) = (RefCell::default(), RefCell::default());
        Ok(Outside { net, wires, told, savings, names, scripts })
    }

    fn run(self: &Rc<Self>, errand: Errand) {
        match errand {
            Errand::Dial { wire, ip, port, source } => self.dial(wire, &ip, port, source),
            Errand::Close { wire } => {
                if let Some(wire) = self.wires.borrow_mut().remove(&wire) {
                    wire.task.abort();
                }
            }
            Errand::Send { wire, bytes } => {
                if let Some(wire) = self.wires.borrow().get(&wire) {
                    // A task that has ended has told so.
                    let _ = wire.out.send(bytes);
                }
            }
            Errand::Save { generation, saving } => {
                let sent = self.savings.send((generation, saving));
                sent.expect("the thread lives as long as the process");
            }
            Errand::Resolve { host } => {
                self.names.send(host).expect("the thread lives as long as the process");
            }
            Errand::Run { job, argv } => self.start_script(job, &argv),
            Errand::Kill { job } => self.kill_script(job),
        }
    }

    fn dial(self: &Rc<Self>, id: WireId, ip: &str, port: u16, source: Option<String>) {
        let (out, outgoing) = async_mpsc::unbounded_channel();
        let outside = Rc::clone(self);
        let address = ip.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        let task = tokio::task::spawn_local(async move {
            let reason = match address {
                Ok(address) => outside.talk(id, address, source, outgoing).await,
                Err(_) => Err(io::Error::other("Invalid address")),
            };
            outside.wires.borrow_mut().remove(&id);
            let reason = match reason {
                Ok(()) => "Server closed the connection".to_owned(),
                Err(error) => os_reason(&error),
            };
            tell(&outside.net, Event::WireDown { wire: id, reason });
        });
        self.wires.borrow_mut().insert(id, Wire { task, out });
    }

    /// A connection's life, from the dial to its end.
    async fn talk(
        &self,
        id: WireId,
        address: SocketAddr,
        source: Option<String>,
        mut outgoing: async_mpsc::UnboundedReceiver<Vec<u8>>,
    ) -> io::Result<()> {
        let source = source.and_then(|source| source.parse().ok());
        let channel = Channel::open(&self.net, connect(address, source).await?).await?;
        let local_ip = channel.socket().local_addr()?.ip().to_canonical().to_string();
        tell(&self.net, Event::WireUp { wire: id, local_ip });
        let (reading, mut writing) = tokio::io::split(channel);
        // What cannot be written shows in that nothing more can be read.
        let _writer = Writer(tokio::task::spawn_local(async move {
            let _ = write_all(&mut outgoing, &mut writing).await;
        }));
        self.read_all(id, reading).await
    }

    async fn read_all(&self, id: WireId, mut reading: ReadHalf<Channel>) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.reserve(READ_BYTES);
            if reading.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            let (frames, used) = take_frames(&bytes)?;
            bytes.drain(..used);
            if bytes.len() > REPLY_BYTES_MAX {
                return Err(io::Error::other("A reply is too long"));
            }
            for frame in frames {
                tell(&self.net, Event::Reply { wire: id, frame });
                // What was told may have led to the end of this very connection.
                if !self.wires.borrow().contains_key(&id) {
                    return Ok(());
                }
            }
        }
    }

    fn start_script(&self, job: u64, argv: &[String]) {
        let Some((program, args)) = argv.split_first() else { return };
        let told = self.told.clone();
        match Command::new(program).args(args).spawn() {
            Err(error) => {
                tracing::warn!("Can't run {program}: {}", os_reason(&error));
                let end = ScriptEnd::Exit(SCRIPT_NOT_STARTED);
                let _ = told.send(Event::ScriptEnded { job, end });
            }
            Ok(child) => {
                let pid = child.id();
                let _ = told.send(Event::ScriptStarted { job, pid });
                let shared = Arc::new(Mutex::new(Some(child)));
                self.scripts.borrow_mut().retain(|_, child| is_alive(child));
                self.scripts.borrow_mut().insert(job, Arc::clone(&shared));
                let waits = thread::Builder::new().name("script".into());
                let waiting = waits.spawn(move || {
                    let end = wait_for(pid, &shared);
                    let _ = told.send(Event::ScriptEnded { job, end });
                });
                if let Err(error) = waiting {
                    tracing::warn!("Can't wait for a script: {}", os_reason(&error));
                }
            }
        }
    }

    fn kill_script(&self, job: u64) {
        let scripts = self.scripts.borrow();
        let Some(child) = scripts.get(&job) else { return };
        if let Some(child) = &mut *child.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that has just ended by itself is as good.
            let _ = child.kill();
        }
    }
}

fn is_alive(child: &Arc<Mutex<Option<Child>>>) -> bool {
    child.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Waits for a script, which may be killed meanwhile: its number is its own until it is collected,
/// and that is done under the lock.
fn wait_for(pid: u32, shared: &Mutex<Option<Child>>) -> ScriptEnd {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
    }
    let child = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    match child.map(|mut child| child.wait()) {
        Some(Ok(status)) => end_of(status),
        _ => ScriptEnd::Exit(SCRIPT_NOT_STARTED),
    }
}

fn end_of(status: ExitStatus) -> ScriptEnd {
    match status.signal() {
        Some(signal) => ScriptEnd::Signal(signal),
        None => ScriptEnd::Exit(status.code().unwrap_or(0)),
    }
}

/// Writes the file as often as it changes; what is newer makes what is older needless.
fn save_all(queue: &mpsc::Receiver<(u64, Saving)>, told: &async_mpsc::UnboundedSender<Event>) {
    while let Ok(mut latest) = queue.recv() {
        latest = queue.try_iter().last().unwrap_or(latest);
        let (generation, saving) = latest;
        let _ = told.send(Event::Saved { generation, result: saving() });
    }
}

fn resolve(host: &str) -> Option<String> {
    let found: Vec<IpAddr> = (host, 0).to_socket_addrs().ok()?.map(|found| found.ip()).collect();
    let first = found.iter().find(|ip| ip.is_ipv4()).or(found.first())?;
    Some(first.to_string())
}

async fn write_all(
    outgoing: &mut async_mpsc::UnboundedReceiver<Vec<u8>>,
    writing: &mut WriteHalf<Channel>,
) -> io::Result<()> {
    while let Some(bytes) = outgoing.recv().await {
        writing.write_all(&bytes).await?;
        writing.flush().await?;
    }
    Ok(())
}

/// The whole replies at the front of what was read, and how long they are.
fn take_frames(bytes: &[u8]) -> io::Result<(Vec<Frame>, usize)> {
    let mut frames = Vec::new();
    let mut used = 0;
    loop {
        match frame::decode(&bytes[used..], Protocol::Resp2) {
            Ok(Some((frame, len))) => {
                frames.push(frame);
                used += len;
            }
            Ok(None) => return Ok((frames, used)),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}
