//! Transfers of a whole net, whose connections begin on threads of their own.

use super::*;
use crate::config::{Config, ThreadCount};
use crate::engine::{Peer, Seed, ServerParts};
use crate::net::inbox::Inbox;
use crate::net::sender::Senders;
use crate::net::sender::tests::{content, whole};
use crate::net::service::Service;
use crate::net::shared::Threads;
use crate::net::stream::Stream;
use crate::net::threads::fleet::{self, Fleet, Home};
use crate::net::threads::worker;
use crate::net::tls::desk::Desk;
use crate::net::{jobs, outcomes, reading, syncer, turn};
use crate::persist::fan::{Content, Framing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;

const PRELUDE: &[u8] = b"+FULLRESYNC\r\n";
const FRAMING: Framing = Framing::EndMark([b'm'; 40]);

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays with a net that has so many threads for sockets, its own included.
fn with_net<F: Future<Output = ()>>(threads: u32, play: impl FnOnce(Rc<Net>) -> F) {
    let config = Config { io_threads: ThreadCount::Fixed(threads), ..Config::default() };
    let engine = Engine::new(config, ServerParts::default(), Seed::default());
    let executor = Arc::new(Notify::new());
    let (now_ns, traffic) = (engine.ticks(), engine.traffic());
    let home = Home { bell: fleet::new_bell(&executor), idle: Arc::default() };
    let runtime = worker::runtime(&home.bell, &home.idle, now_ns).expect("it can be had");
    let fleet = Fleet::start(home, &engine.reading(), traffic, 0, now_ns).expect("threads start");
    let (jobs, _) = jobs::Threads::start().expect("threads start");
    let (syncer, _) = syncer::Syncer::start().expect("a thread starts");
    let (senders, told) = Senders::new(engine.sender_traffic());
    let service = Service::begin(engine.config());
    let (errands, _) = tokio::sync::mpsc::unbounded_channel();
    let tls = Desk::default();
    let (moves, _) = tokio::sync::mpsc::unbounded_channel();
    let (slot_orders, _) = tokio::sync::mpsc::unbounded_channel();
    let threads = Threads { fleet, jobs, syncer, senders, moves, slot_orders, tls, errands };
    let net = Rc::new(Net::new(engine, executor, threads, service));
    runtime.block_on(async move {
        tokio::task::spawn_local(turn::executor(Rc::clone(&net)));
        tokio::task::spawn_local(reading::welcome(Rc::clone(&net)));
        tokio::task::spawn_local(outcomes::collect_transfers(Rc::clone(&net), told));
        tokio::time::timeout(PATIENCE, play(net)).await.expect("nothing hangs");
    });
}

/// A client of the net, as it sees itself.
struct Caller {
    client: ClientId,
    socket: UnixStream,
}

impl Caller {
    fn connect(net: &Rc<Net>) -> Caller {
        let (own, socket) = UnixStream::pair().expect("there are some");
        let mut engine = net.engine.borrow_mut();
        engine.tick(net.now());
        let client = engine.admit(Peer::internal()).expect("there is room");
        let connection = Connection::new(client, Stream::Unix(own), Box::new(Inbox::new(true)));
        let connection = Rc::new(connection);
        net.remember(&connection);
        tokio::task::spawn_local(reading::serve(Rc::clone(net), connection, 0));
        Caller { client, socket }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("it is open");
    }

    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.socket.read_exact(&mut bytes).await.expect("it is open");
        bytes
    }

    /// Has a command answered, which moves the connection to a thread if there are any.
    async fn ping(&mut self) {
        self.send(b"PING\r\n").await;
        assert_eq!(self.read(7).await, b"+PONG\r\n");
    }
}

async fn until(net: &Net, is_so: impl Fn() -> bool) {
    while !is_so() {
        net.yield_now().await;
    }
}

fn is_away(net: &Net, caller: &Caller) -> bool {
    net.connection(caller.client).is_some_and(|connection| connection.thread().is_some())
}

fn is_lent(net: &Net, caller: &Caller) -> bool {
    net.connection(caller.client).is_some_and(|connection| connection.is_lent.get())
}

fn transfer(callers: &[&Caller], content: &Content) -> Transfer {
    let recipient = |caller: &&Caller| transfer::Recipient {
        client: caller.client,
        prelude: PRELUDE.to_vec(),
        is_gone: Arc::default(),
    };
    let recipients = callers.iter().map(recipient).collect();
    Transfer { number: 1, recipients, content: content.clone() }
}

fn begin_now(net: &Rc<Net>, transfer: Transfer) {
    let mut engine = net.engine.borrow_mut();
    begin(net, &mut engine, transfer);
}

/// Connections come from where they are; what is sent to them meanwhile comes behind the snapshot,
/// and then all is as before.
#[test]
fn connections_come_home_and_answer_again_when_they_have_the_snapshot() {
    for threads in [1, 3] {
        with_net(threads, async |net| {
            let content = content(4, FRAMING);
            let expected = whole(PRELUDE, &content);
            let mut callers = [(); 3].map(|()| Caller::connect(&net));
            for caller in &mut callers {
                caller.ping().await;
                until(&net, || threads == 1 || is_away(&net, caller)).await;
            }
            let [first, second, third] = &mut callers;
            begin_now(&net, transfer(&[first, second], &content));
            for caller in [first, second] {
                assert_eq!(caller.read(PRELUDE.len()).await, PRELUDE);
                assert!(is_lent(&net, caller) && !is_away(&net, caller));
                caller.send(b"PING\r\n").await;
                third.ping().await;
                let rest = caller.read(expected.len() - PRELUDE.len()).await;
                assert!(rest == expected[PRELUDE.len()..]);
                assert_eq!(caller.read(7).await, b"+PONG\r\n");
                assert!(!is_lent(&net, caller));
                caller.ping().await;
            }
            until(&net, || net.lent.borrow().is_empty()).await;
        });
    }
}

/// What a socket does not take comes home with it, and goes before everything else.
#[test]
fn unread_replies_come_before_the_snapshot() {
    for threads in [1, 2] {
        with_net(threads, async |net| {
            let content = content(1, FRAMING);
            let mut caller = Caller::connect(&net);
            caller.ping().await;
            let message = vec![b'x'; 1 << 20];
            let header = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", message.len());
            for _ in 0..2 {
                caller.send(&[header.as_bytes(), &message, b"\r\n"].concat()).await;
            }
            // The second one has been run when something is left of the replies.
            let connection = net.connection(caller.client).expect("it is there");
            let echoed = 2 * (1 << 20);
            until(&net, || connection.outbox.borrow_mut().waiting(0) > echoed / 2).await;
            begin_now(&net, transfer(&[&caller], &content));
            for _ in 0..2 {
                let header = format!("${}\r\n", message.len());
                assert_eq!(caller.read(header.len()).await, header.as_bytes());
                assert!(caller.read(message.len()).await == message);
                assert_eq!(caller.read(2).await, b"\r\n");
            }
            let expected = whole(PRELUDE, &content);
            assert!(caller.read(expected.len()).await == expected);
            caller.ping().await;
        });
    }
}

/// Who hangs up, or does not read, is forgotten, and the others do not notice.
#[test]
fn connections_that_end_are_taken_from_the_sender() {
    with_net(2, async |net| {
        let content = content(4, FRAMING);
        content.timeout.set(Duration::from_secs(1));
        let mut callers = [(); 3].map(|()| Caller::connect(&net));
        for caller in &mut callers {
            caller.ping().await;
        }
        let [mut reader, leaver, mut stalled] = callers;
        begin_now(&net, transfer(&[&reader, &leaver, &stalled], &content));
        until(&net, || is_lent(&net, &leaver)).await;
        let gone = leaver.client;
        drop(leaver);
        let expected = whole(PRELUDE, &content);
        assert!(reader.read(expected.len()).await == expected);
        reader.ping().await;
        until(&net, || net.connection(gone).is_none()).await;
        until(&net, || net.connection(stalled.client).is_none()).await;
        let mut got = Vec::new();
        stalled.socket.read_to_end(&mut got).await.expect("it is closed in good order");
        assert!(got.len() < expected.len() && expected.starts_with(&got));
        until(&net, || net.lent.borrow().is_empty()).await;
    });
}

/// Who waits for something when it is asked for comes when that is over.
#[test]
fn who_waits_is_waited_for() {
    with_net(2, async |net| {
        let content = content(1, FRAMING);
        let mut callers = [(); 2].map(|()| Caller::connect(&net));
        for caller in &mut callers {
            caller.ping().await;
        }
        let [waiter, pusher] = &mut callers;
        waiter.send(b"BLPOP list 0\r\n").await;
        let connection = net.connection(waiter.client).expect("it is there");
        until(&net, || connection.is_suspended.get() && connection.inbox.borrow().is_none()).await;
        begin_now(&net, transfer(&[waiter], &content));
        // It has been asked for, and stays.
        until(&net, || matches!(*connection.place.borrow(), Place::Returning(_))).await;
        until(&net, || matches!(*connection.place.borrow(), Place::There(_))).await;
        pusher.send(b"RPUSH list value\r\n").await;
        assert_eq!(pusher.read(4).await, b":1\r\n");
        let popped = b"*2\r\n$4\r\nlist\r\n$5\r\nvalue\r\n";
        assert_eq!(waiter.read(popped.len()).await, popped);
        let expected = whole(PRELUDE, &content);
        assert!(waiter.read(expected.len()).await == expected);
        waiter.ping().await;
    });
}
