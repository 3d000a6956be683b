//! What moves of slots say to other nodes: a thread with a task for each connection.
//!
//! It is another thread than the executor's because all keys of the slots are encoded there. Keys
//! go in pieces of some kilobytes, so that each is a short turn at the target, and no more of them
//! than a window are on their way, so that neither side keeps much. What is written meanwhile waits
//! behind the keys.

use super::channel::Channel;
use super::hands;
use super::jobs::give_way;
use super::shared::{Net, SlotOrder};
use super::tls::desk::Desk;
use super::tls::settings::Contexts;
use crate::config::os_reason;
use crate::engine::migrate::Target;
use crate::engine::slot_move::{LinkId, News, Order, Pour, Said};
use crate::observe::memory;
use bytes::Bytes;
use memchr::memchr;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

/// Pieces that were sent and are not acknowledged.
const WINDOW_BYTES: usize = 512 * 1024;
/// An answer is a line, and no long one.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// What is still to be said when a connection is to be closed has so long.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// Has a thread carry out the orders as they come, which begins with the first one.
pub async fn run(net: Rc<Net>, mut queue: mpsc::UnboundedReceiver<SlotOrder>) {
    let (news, told) = mpsc::unbounded_channel();
    spawn_local(collect(Rc::clone(&net), told));
    let mut thread = None;
    while let Some(order) = queue.recv().await {
        if thread.is_none() {
            thread = start(news.clone()).inspect_err(warn_of_thread).ok();
        }
        // Who takes either lives as long as the process.
        match (&thread, &order.order) {
            (Some(orders), _) => _ = orders.send(order),
            (None, Order::Open { link, .. }) => {
                _ = news.send((*link, News::Closed("There is no thread for it".into())));
            }
            (None, _) => {}
        }
    }
}

fn warn_of_thread(error: &io::Error) {
    tracing::warn!("Can't start a thread for moves of slots: {}", os_reason(error));
}

type Told = mpsc::UnboundedSender<(LinkId, News)>;

fn start(news: Told) -> io::Result<mpsc::UnboundedSender<SlotOrder>> {
    let (orders, queue) = mpsc::unbounded_channel();
    thread::Builder::new().name("slot mover".into()).spawn(move || {
        memory::count_this_thread();
        give_way();
        serve(queue, news);
    })?;
    Ok(orders)
}

/// Tells the engine what has become of orders.
async fn collect(net: Rc<Net>, mut told: mpsc::UnboundedReceiver<(LinkId, News)>) {
    while let Some((link, news)) = told.recv().await {
        {
            let mut engine = net.engine.borrow_mut();
            engine.tick(net.now());
            engine.tell_slot_link(link, news);
            hands::carry_out(&net, &mut engine);
        }
        net.executor.notify_one();
    }
}

/// What a connection is to do.
enum Letter {
    Say(Said, Bytes),
    Pour(Box<Pour>),
    Close,
}

fn serve(mut queue: mpsc::UnboundedReceiver<SlotOrder>, news: Told) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    let runtime = runtime.expect("a runtime can be made as others were");
    let desk = Rc::new(Desk::default());
    runtime.block_on(async move {
        let mut links: BTreeMap<LinkId, (mpsc::UnboundedSender<Letter>, JoinHandle<()>)> =
            BTreeMap::new();
        while let Some(SlotOrder { order, contexts }) = queue.recv().await {
            links.retain(|_, (_, task)| !task.is_finished());
            let letter = match order {
                Order::Open { link, target, timeout } => {
                    let (letters, inbox) = mpsc::unbounded_channel();
                    let dial = Dial { target, timeout, contexts, desk: Rc::clone(&desk) };
                    let task = spawn_local(serve_link(link, dial, inbox, news.clone()));
                    links.insert(link, (letters, task));
                    continue;
                }
                Order::Say { link, what, bytes } => (link, Letter::Say(what, bytes)),
                Order::Pour { link, pour } => (link, Letter::Pour(pour)),
                Order::Close(link) => {
                    let Some((letters, task)) = links.remove(&link) else { continue };
                    let _ = letters.send(Letter::Close);
                    spawn_local(async move {
                        let end = task.abort_handle();
                        if timeout(CLOSING_TIME, task).await.is_err() {
                            end.abort();
                        }
                    });
                    continue;
                }
            };
            if let Some((letters, _)) = links.get(&letter.0) {
                let _ = letters.send(letter.1);
            }
        }
    });
}

struct Dial {
    target: Target,
    timeout: Duration,
    contexts: Option<Arc<Contexts>>,
    desk: Rc<Desk>,
}

impl Dial {
    async fn connect(&self) -> io::Result<Channel> {
        let port = self.target.port.parse::<u16>().unwrap_or(0);
        let found = tokio::net::lookup_host((&*self.target.host, port)).await?;
        let addresses: Vec<SocketAddr> = found.collect();
        let socket = TcpStream::connect(&addresses[..]).await?;
        socket.set_nodelay(true)?;
        match (self.target.is_secure, self.contexts.as_deref()) {
            (false, _) => Ok(socket.into()),
            (true, Some(contexts)) => Ok(self.desk.connect_by(contexts, socket).await?.into()),
            (true, None) => Err(io::Error::other("TLS is not configured")),
        }
    }
}

async fn serve_link(
    link: LinkId,
    dial: Dial,
    letters: mpsc::UnboundedReceiver<Letter>,
    news: Told,
) {
    let tell = |what: News| _ = news.send((link, what));
    let channel = match timeout(dial.timeout, dial.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            let reason = format!("Can't connect to the node: {}", os_reason(&error));
            return tell(News::Closed(reason.into()));
        }
        Err(_) => return tell(News::Closed("Can't connect to the node: timeout".into())),
    };
    tell(News::Connected);
    let (mut reading, mut writing) = tokio::io::split(channel);
    let talk = Talk::default();
    let reason = tokio::select! {
        said = talk.say_all(&mut writing, letters) => match said {
            Ok(()) => return,
            Err(error) => format!("Can't write to the node: {}", os_reason(&error)),
        },
        error = talk.hear_all(&mut reading, &tell) => {
            format!("The connection to the node has ended: {}", os_reason(&error))
        }
        () = talk.watch(dial.timeout) => "The node does not answer".to_owned(),
    };
    tell(News::Closed(reason.into()));
}

/// What an answer is to.
#[derive(Clone, Copy)]
enum Asked {
    Said(Said),
    /// A piece of the keys; the last one, perhaps.
    Piece {
        is_last: bool,
    },
}

/// A conversation: what was said and not answered yet.
#[derive(Default)]
struct Talk {
    asked: RefCell<VecDeque<(Asked, usize)>>,
    unanswered_bytes: Cell<usize>,
    /// When something was last written or heard.
    moved_at: Cell<Option<Instant>>,
    answered: Notify,
}

impl Talk {
    fn ask(&self, what: Asked, bytes: usize) {
        self.asked.borrow_mut().push_back((what, bytes));
        self.unanswered_bytes.set(self.unanswered_bytes.get() + bytes);
        self.moved_at.set(Some(Instant::now()));
    }

    async fn say_all(
        &self,
        writing: &mut WriteHalf<Channel>,
        mut letters: mpsc::UnboundedReceiver<Letter>,
    ) -> io::Result<()> {
        while let Some(letter) = letters.recv().await {
            match letter {
                Letter::Close => break,
                Letter::Say(what, bytes) => {
                    self.ask(Asked::Said(what), bytes.len());
                    self.write(writing, &bytes).await?;
                }
                Letter::Pour(pour) => self.pour(writing, &pour).await?,
            }
        }
        writing.shutdown().await
    }

    async fn write(&self, writing: &mut WriteHalf<Channel>, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(WINDOW_BYTES) {
            writing.write_all(piece).await?;
            self.moved_at.set(Some(Instant::now()));
        }
        writing.flush().await
    }

    async fn pour(&self, writing: &mut WriteHalf<Channel>, pour: &Pour) -> io::Result<()> {
        for bytes in pour.pieces() {
            while self.unanswered_bytes.get() > WINDOW_BYTES {
                self.answered.notified().await;
            }
            self.ask(Asked::Piece { is_last: false }, bytes.len());
            self.write(writing, &bytes).await?;
        }
        let end = pour.end();
        self.ask(Asked::Piece { is_last: true }, end.len());
        self.write(writing, &end).await
    }

    /// Hears answers until there can be no more; why.
    async fn hear_all(&self, reading: &mut ReadHalf<Channel>, tell: &impl Fn(News)) -> io::Error {
        let mut heard = Vec::new();
        loop {
            match reading.read_buf(&mut heard).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => self.moved_at.set(Some(Instant::now())),
                Err(error) => return error,
            }
            while let Some(end) = memchr(b'\n', &heard) {
                let line: Vec<u8> = heard.drain(..=end).collect();
                if !self.take_answer(line.trim_ascii_end(), tell) {
                    return io::Error::other("it says what it was not asked");
                }
            }
            if heard.len() > LINE_BYTES_MAX {
                return io::Error::other("it says what is no answer");
            }
        }
    }

    /// False if it was not asked for anything, or this is no answer.
    fn take_answer(&self, line: &[u8], tell: &impl Fn(News)) -> bool {
        let Some((kind, text)) = line.split_first() else { return false };
        let text: Box<str> = String::from_utf8_lossy(text).into();
        let answer = match kind {
            b'+' => Ok(text),
            b'-' => Err(text.strip_prefix("ERR ").map_or_else(|| text.clone(), Into::into)),
            _ => return false,
        };
        let Some((asked, bytes)) = self.asked.borrow_mut().pop_front() else { return false };
        self.unanswered_bytes.set(self.unanswered_bytes.get() - bytes);
        self.answered.notify_one();
        match (asked, answer) {
            (Asked::Piece { .. }, Err(reason)) => tell(News::Closed(reason)),
            (Asked::Piece { is_last: true }, Ok(_)) => tell(News::Poured),
            (Asked::Piece { is_last: false }, Ok(_)) => {}
            (Asked::Said(what), answer) => tell(News::Answered(what, answer)),
        }
        true
    }

    /// Ends when the node has owed an answer for too long.
    async fn watch(&self, longest: Duration) {
        loop {
            let since = self.moved_at.get().filter(|_| !self.asked.borrow().is_empty());
            let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
            match longest.checked_sub(waited).filter(|left| !left.is_zero()) {
                Some(left) => sleep(left).await,
                None => return,
            }
        }
    }
}
