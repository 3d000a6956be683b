//! Connections on threads of their own (`io-threads`): nothing is lost, mixed up or left behind,
//! whoever vanishes when, and wherever a connection goes meanwhile.

use crate::answer::{Answer, encode};
use crate::client::Client;
use crate::server::{RUFOUS, Server, wait_for};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn directive(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A server all of whose connections go to one of two threads after their first reply.
fn start(more: &[(&str, &str)]) -> Server {
    let threads = [("io-threads", "3"), ("events-per-io-thread", "0")];
    let all = threads.iter().chain(more).map(|(name, value)| directive(name, value));
    Server::start(RUFOUS, &all.collect::<Vec<_>>())
}

fn ok() -> Answer {
    Answer::Simple(b"OK".to_vec())
}

fn bulk(bytes: impl AsRef<[u8]>) -> Answer {
    Answer::Bulk(bytes.as_ref().to_vec())
}

fn info(observer: &mut Client, section: &str) -> String {
    let answer = observer.run(&format!("INFO {section}"));
    let Answer::Bulk(text) = answer else { panic!("{answer:?}") };
    String::from_utf8_lossy(&text).into_owned()
}

fn figure(observer: &mut Client, section: &str, name: &str) -> u64 {
    let text = info(observer, section);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The clients on all threads, as INFO counts them thread by thread.
fn clients_by_thread(observer: &mut Client) -> u64 {
    let text = info(observer, "threads");
    let of_line = |line: &str| {
        let (_, rest) = line.split_once("clients=")?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(of_line).sum()
}

fn sockets(server: &Server) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs");
    let targets = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Random numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// One who does as clients do, over keys of its own.
struct Actor<'s> {
    server: &'s Server,
    dice: Dice,
    name: usize,
    value: Option<Vec<u8>>,
    count: i64,
    waits: usize,
}

impl Actor<'_> {
    fn key(&self, kind: &str) -> String {
        format!("{kind}:{}", self.name)
    }

    fn act(&mut self) {
        match self.dice.below(12) {
            0 | 1 => self.pipeline(),
            2 => self.big_values(),
            3 => self.vanish(),
            4 => self.vanish_from_a_big_reply(),
            5 => self.wait_for_a_key(),
            6 => self.listen(),
            7 => self.is_killed(),
            8 => self.transaction(),
            9 => self.silence(),
            10 => self.broken_protocol(),
            _ => self.pause(),
        }
    }

    /// A pipeline in pieces, whose replies come in order and are those of a model.
    fn pipeline(&mut self) {
        let mut client = self.server.connect();
        let (key, counter) = (self.key("value"), self.key("count"));
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for i in 0..1 + self.dice.below(300) {
            match self.dice.below(4) {
                0 => {
                    let value = vec![b'v'; self.dice.below(200)];
                    sent.extend(encode(&[b"SET", key.as_bytes(), &value]));
                    expected.push(ok());
                    self.value = Some(value);
                }
                1 => {
                    sent.extend(encode(&["GET", &key]));
                    expected.push(self.value.as_ref().map_or(Answer::Null, bulk));
                }
                2 => {
                    sent.extend(encode(&["INCR", &counter]));
                    self.count += 1;
                    expected.push(Answer::Integer(self.count));
                }
                _ => {
                    sent.extend(encode(&["ECHO", &i.to_string()]));
                    expected.push(bulk(i.to_string()));
                }
            }
        }
        let piece = 1 + self.dice.below(sent.len());
        sent.chunks(piece.max(sent.len() / 8)).for_each(|piece| client.send(piece));
        for (i, answer) in expected.into_iter().enumerate() {
            assert_eq!(client.receive(), Some(answer), "reply {i} of {}", self.name);
        }
    }

    fn big_values(&mut self) {
        let mut client = self.server.connect();
        let value = vec![b'a' + self.dice.below(26) as u8; 100_000 + self.dice.below(900_000)];
        let key = self.key("big");
        assert_eq!(client.call(&[b"SET", key.as_bytes(), &value]), Some(ok()));
        for _ in 0..3 {
            client.send(&encode(&["GET", &key]));
        }
        for _ in 0..3 {
            assert!(client.receive() == Some(bulk(&value)), "it comes back whole");
        }
    }

    /// Goes before its request is whole, or before its replies are read: with these unread, the
    /// kernel resets the connection.
    fn vanish(&mut self) {
        let mut client = self.server.connect();
        client.run("PING");
        let mut sent = Vec::new();
        let value = vec![b'x'; self.dice.below(5_000)];
        for _ in 0..1 + self.dice.below(100) {
            sent.extend(encode(&[b"ECHO", &*value]));
        }
        sent.truncate(1 + self.dice.below(sent.len()));
        client.send(&sent);
        match self.dice.below(3) {
            0 => client.finish(),
            1 => drop(client.receive_raw(|_| true)),
            _ => {}
        }
    }

    fn vanish_from_a_big_reply(&mut self) {
        let mut client = self.server.connect();
        let key = self.key("huge");
        client.call(&["SETRANGE", &key, "3000000", "x"]);
        for _ in 0..1 + self.dice.below(4) {
            client.send(&encode(&["GET", &key]));
        }
        let enough = 1 + self.dice.below(2_000_000);
        client.receive_raw(|come| come.len() >= enough);
        if self.dice.below(2) == 0 {
            client.finish();
            client.receive_raw(|come| come.len() > 100_000);
        }
    }

    /// Waits for a key that another one brings, or vanishes while it waits.
    fn wait_for_a_key(&mut self) {
        let (mut waiting, mut other) = (self.server.connect(), self.server.connect());
        // What one who has vanished had sent is run when its thread comes to it: it takes only what
        // was brought for this act.
        self.waits += 1;
        let key = self.key(&format!("list:{}", self.waits));
        waiting.run("PING");
        for i in 0..20 {
            waiting.send(&encode(&["BLPOP", &key, "0"]));
            (0..self.dice.below(2_000)).for_each(|_| std::hint::spin_loop());
            other.send(&encode(&["RPUSH", &key, &i.to_string()]));
            let expected = Answer::Array(vec![bulk(&key), bulk(i.to_string())]);
            assert_eq!(waiting.receive(), Some(expected));
            assert!(matches!(other.receive(), Some(Answer::Integer(_))));
            assert_eq!(waiting.run("ECHO on"), bulk("on"));
        }
        waiting.send(&encode(&["BLPOP", &key, "0"]));
        if self.dice.below(2) == 0 {
            waiting.send(&encode(&["PING"]));
        }
        drop(waiting);
        wait_for("nobody is left who waits", || {
            other.run(&format!("RPUSH {key} left"));
            let Answer::Integer(len) = other.run(&format!("LLEN {key}")) else { panic!() };
            other.run(&format!("DEL {key}"));
            (len > 0).then_some(())
        });
    }

    /// One listener reads, one does not and vanishes.
    fn listen(&mut self) {
        let (mut good, mut slow) = (self.server.connect(), self.server.connect());
        let mut publisher = self.server.connect();
        let channel = self.key("channel");
        good.run(&format!("SUBSCRIBE {channel}"));
        slow.run(&format!("SUBSCRIBE {channel}"));
        let message = vec![b'm'; self.dice.below(20_000)];
        let count = 1 + self.dice.below(100);
        for i in 0..count {
            let text = [i.to_string().as_bytes(), &message].concat();
            publisher.send(&encode(&[b"PUBLISH", channel.as_bytes(), &text]));
        }
        for i in 0..count {
            let text = [i.to_string().as_bytes(), &message].concat();
            let expected = Answer::Array(vec![bulk("message"), bulk(&channel), bulk(text)]);
            assert!(good.receive() == Some(expected), "message {i} of {count} comes whole");
        }
        drop(slow);
        (0..count).for_each(|_| drop(publisher.receive()));
    }

    fn is_killed(&mut self) {
        let (mut victim, mut other) = (self.server.connect(), self.server.connect());
        let Answer::Integer(id) = victim.run("CLIENT ID") else { panic!("it has a number") };
        (0..self.dice.below(50)).for_each(|_| victim.send(&encode(&["PING"])));
        assert_eq!(other.run(&format!("CLIENT KILL ID {id}")), Answer::Integer(1));
        let (_, ended) = victim.receive_raw(|_| false);
        assert!(ended, "it is closed");
    }

    fn transaction(&mut self) {
        let mut client = self.server.connect();
        let key = self.key("count");
        let count = 1 + self.dice.below(50);
        assert_eq!(client.run("MULTI"), ok());
        for _ in 0..count {
            let queued = Answer::Simple(b"QUEUED".to_vec());
            assert_eq!(client.run(&format!("INCR {key}")), queued);
        }
        let expected = (1..=count as i64).map(|i| Answer::Integer(self.count + i));
        assert_eq!(client.run("EXEC"), Answer::Array(expected.collect()));
        self.count += count as i64;
    }

    fn silence(&mut self) {
        let mut client = self.server.connect();
        client.send(&encode(&["CLIENT", "REPLY", "SKIP"]));
        client.send(&encode(&["ECHO", "unheard"]));
        assert_eq!(client.run("ECHO heard"), bulk("heard"));
        client.send(&encode(&["CLIENT", "REPLY", "OFF"]));
        (0..self.dice.below(100)).for_each(|_| client.send(&encode(&["ECHO", "unheard"])));
        assert_eq!(client.run("CLIENT REPLY ON"), ok());
        assert_eq!(client.run("ECHO heard"), bulk("heard"));
    }

    fn broken_protocol(&mut self) {
        let mut client = self.server.connect();
        client.run("PING");
        let count = self.dice.below(100);
        let mut sent = encode(&["PING"]).repeat(count);
        sent.extend(b"*1\r\n$abc\r\n");
        client.send(&sent);
        let (come, ended) = client.receive_raw(|_| false);
        let told = "-ERR Protocol error: invalid bulk length\r\n";
        assert_eq!(String::from_utf8_lossy(&come), "+PONG\r\n".repeat(count) + told);
        assert!(ended);
    }

    fn pause(&mut self) {
        let mut client = self.server.connect();
        let kind = ["WRITE", "ALL"][self.dice.below(2)];
        assert_eq!(client.run(&format!("CLIENT PAUSE 3 {kind}")), ok());
        let key = self.key("count");
        self.count += 1;
        assert_eq!(client.run(&format!("INCR {key}")), Answer::Integer(self.count));
    }
}

const ACTORS: usize = 6;
const ACTS: usize = 40;

/// Lets actors act, and something else happen all the while. Then nothing is left of them.
fn act_all(server: &Server, meanwhile: impl Fn(&mut Client) + Send) {
    let mut observer = server.connect();
    wait_for("whoever has seen the server start is gone", || {
        (figure(&mut observer, "clients", "connected_clients") == 1).then_some(())
    });
    let memory = figure(&mut observer, "memory", "mem_clients_normal");
    let before = sockets(server);
    let (left, is_over) = (AtomicU64::new(ACTORS as u64), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for name in 0..ACTORS {
            let left = &left;
            scope.spawn(move || {
                let dice = Dice(0x9e37_79b9 + name as u64 * 7919);
                let mut actor = Actor { server, dice, name, value: None, count: 0, waits: 0 };
                (0..ACTS).for_each(|_| actor.act());
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let is_over = &is_over;
        scope.spawn(move || {
            let mut client = server.connect();
            while !is_over.load(Ordering::Relaxed) {
                meanwhile(&mut client);
            }
        });
        let start = std::time::Instant::now();
        while left.load(Ordering::Relaxed) > 0 && start.elapsed().as_secs() < 120 {
            assert_eq!(observer.run("ECHO served"), bulk("served"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    wait_for("only the observer is left", || {
        (figure(&mut observer, "clients", "connected_clients") == 1).then_some(())
    });
    assert_eq!(clients_by_thread(&mut observer), 1);
    wait_for("no socket is left", || (sockets(server) == before).then_some(()));
    let after = figure(&mut observer, "memory", "mem_clients_normal");
    assert!(after <= memory + 20_000, "{memory} before, {after} after");
    assert_eq!(figure(&mut observer, "clients", "blocked_clients"), 0);
}

#[test]
fn clients_that_come_and_vanish_leave_nothing_behind() {
    let server = start(&[]);
    act_all(&server, |client| {
        client.run("CLIENT LIST");
    });
}

/// The same while threads are taken into service and out of it all the time.
#[test]
fn connections_lose_nothing_as_they_come_and_go_between_threads() {
    let server = start(&[("hz", "500")]);
    act_all(&server, |client| {
        for count in ["1000000", "0"] {
            client.run(&format!("CONFIG SET events-per-io-thread {count}"));
            (0..50).for_each(|_| drop(client.run("PING")));
        }
    });
}

/// One who waits is woken wherever its connection is, though its thread is given up just then.
#[test]
fn who_waits_on_a_thread_that_is_given_up_is_woken() {
    let server = start(&[("hz", "500")]);
    let mut other = server.connect();
    other.run("PING");
    for round in 0..20 {
        assert_eq!(other.run("CONFIG SET events-per-io-thread 0"), ok());
        let mut waiting: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        wait_for("all are on threads", || {
            waiting.iter_mut().for_each(|client| drop(client.run("PING")));
            info(&mut other, "threads").contains("io_thread_0:clients=0,").then_some(())
        });
        assert_eq!(other.run("CONFIG SET events-per-io-thread 1000000"), ok());
        // Until the threads are given up one of these goes home with each request.
        for i in 0..40 {
            for (n, client) in waiting.iter_mut().enumerate() {
                client.send(&encode(&["BLPOP", &format!("list:{n}"), "0"]));
            }
            (0..i * 100).for_each(|_| std::hint::spin_loop());
            let pushes = (0..8).map(|n| encode(&["RPUSH", &format!("list:{n}"), "x"]));
            other.send(&pushes.collect::<Vec<_>>().concat());
            for client in &mut waiting {
                let Some(Answer::Array(_)) = client.receive() else { panic!("round {round}") };
                assert_eq!(client.run("PING"), Answer::Simple(b"PONG".to_vec()));
            }
            (0..8).for_each(|_| drop(other.receive()));
        }
    }
}

/// What has been said before the end arrives, more than a thread writes in one go.
#[test]
fn what_was_promised_arrives_before_the_end() {
    let mut server = start(&[]);
    let mut listeners: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    listeners.iter_mut().for_each(|listener| drop(listener.run("SUBSCRIBE c")));
    let message = vec![b'm'; 600_000];
    let mut client = server.connect();
    client.run("PING");
    let publish = encode(&[b"PUBLISH".as_slice(), b"c", &message]);
    client.send(&[publish, encode(&["SHUTDOWN", "NOSAVE"])].concat());
    assert_eq!(client.receive(), Some(Answer::Integer(20)));
    assert_eq!(server.wait(), Some(0));
    for listener in &mut listeners {
        let expected = Answer::Array(vec![bulk("message"), bulk("c"), bulk(&message)]);
        assert!(listener.receive() == Some(expected), "it comes whole");
        assert_eq!(listener.receive(), None);
    }
}

/// Though its last reply must wait for the disk before the connection can end.
#[test]
fn nothing_runs_after_quit() {
    let server = start(&[("appendonly", "yes"), ("appendfsync", "always")]);
    let mut observer = server.connect();
    for _ in 0..200 {
        let mut client = server.connect();
        client.run("PING");
        let before = [encode(&["SET", "before", "x"]), encode(&["QUIT"])].concat();
        client.send(&before);
        client.send(&encode(&["SET", "after", "x"]));
        let (come, ended) = client.receive_raw(|_| false);
        assert!(come == b"+OK\r\n+OK\r\n" || come.is_empty(), "{come:?}");
        assert!(ended);
        assert_eq!(observer.run("EXISTS after"), Answer::Integer(0));
    }
}

/// While something long goes on piece by piece on the executor's thread, nothing has that thread
/// sleep, which is when it is told of others: who is on another thread is served all the same.
#[test]
fn threads_are_served_while_a_log_is_loaded() {
    let file = "io-threads 3\nevents-per-io-thread 0\nappendonly yes";
    let server = Server::with_file(file);
    let mut client = server.connect();
    let mut words = vec!["SADD".to_owned(), "set".to_owned()];
    words.extend((0..200).map(|i| format!("member:{i}")));
    assert_eq!(client.call(&words), Some(Answer::Integer(200)));
    drop(client);
    let log = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let mut log = std::fs::OpenOptions::new().append(true).open(log).expect("it is there");
    let slow = encode(&["SORT", "set", "ALPHA", "STORE", "sorted"]).repeat(20_000);
    std::io::Write::write_all(&mut log, &slow).expect("the directory is ours");
    let server = server.restart();
    let mut client = server.connect();
    let mut told = 0;
    let is_loading =
        |answer: &Answer| matches!(answer, Answer::Error(text) if text.starts_with(b"LOADING"));
    while is_loading(&client.run("GET x")) {
        told += 1;
    }
    assert!(told > 3, "told {told} times of a load of 20 slow steps");
}

/// An unread output is somebody's memory, also while the socket takes nothing.
#[test]
fn a_listener_that_does_not_read_is_counted_and_evicted() {
    let unlimited = ("client-output-buffer-limit", "pubsub 0 0 0");
    let server = start(&[unlimited, ("maxmemory-clients", "20mb")]);
    let mut listener = server.connect();
    listener.run("SUBSCRIBE c");
    let mut publisher = server.connect();
    let message = "x".repeat(100_000);
    for sent in 0.. {
        if publisher.call(&["PUBLISH", "c", &message]) == Some(Answer::Integer(0)) {
            break;
        }
        assert!(sent < 2000, "it is never evicted");
    }
    assert_eq!(figure(&mut publisher, "stats", "evicted_clients"), 1);
}

/// A listener's connection is reset in the midst of what it is told.
#[test]
fn a_reset_ends_a_connection_on_a_thread() {
    let server = start(&[]);
    let mut observer = server.connect();
    for _ in 0..20 {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).expect("it listens");
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("tcp");
        let mut writer = &stream;
        std::io::Write::write_all(&mut writer, &encode(&["SUBSCRIBE", "c"])).expect("it is open");
        observer.call(&[b"PUBLISH".as_slice(), b"c", &[b'x'; 100_000]]);
        drop(stream);
    }
    wait_for("only the observer is left", || {
        (figure(&mut observer, "clients", "connected_clients") == 1).then_some(())
    });
}

/// What a listener has been sent shows at once, though it asks for nothing.
#[test]
fn what_listeners_were_sent_is_counted_as_it_is_sent() {
    let server = start(&[]);
    let (mut listener, mut other) = (server.connect(), server.connect());
    let Answer::Integer(id) = listener.run("CLIENT ID") else { panic!("it has a number") };
    listener.run("SUBSCRIBE channel");
    let sent = |other: &mut Client| {
        let Answer::Bulk(line) = other.run(&format!("CLIENT LIST ID {id}")) else { panic!() };
        let line = String::from_utf8(line).expect("it is a text");
        let (_, rest) = line.split_once("tot-net-out=").expect("it is shown");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().expect("it is a number")
    };
    let before = sent(&mut other);
    let message = "m".repeat(10_000);
    for _ in 0..10 {
        assert_eq!(other.run(&format!("PUBLISH channel {message}")), Answer::Integer(1));
    }
    assert!(sent(&mut other) > before + 100_000);
    (0..10).for_each(|_| drop(listener.receive()));
}

/// As many as may be asked for, with files to be read at the start, too.
#[test]
fn as_many_threads_as_may_be_asked_for_serve() {
    let lines = "io-threads 128\nevents-per-io-thread 0\nappendonly yes\n";
    let server = Server::with_file(lines);
    assert_eq!(server.connect().run("SET k v"), ok());
    let server = server.restart();
    let mut clients: Vec<Client> = (0..130).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.run("GET k"), bulk("v"));
    }
    for client in &mut clients {
        assert_eq!(client.run("GET k"), bulk("v"));
    }
    // Where all servers of a run have a number of threads, this one has it, too.
    let count = std::env::var("RUFOUS_IO_THREADS").map_or(128, |text| text.parse().expect("one"));
    let last = info(&mut clients[0], "threads").lines().last().map(str::to_owned);
    let expected = format!("io_thread_{}:", count - 1);
    assert!(last.as_ref().is_some_and(|line| line.starts_with(&expected)), "{last:?}");
}

/// INFO and CLIENT LIST say who is served where, and how much was done there.
#[test]
fn what_threads_do_is_shown() {
    let server = start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    (0..5).for_each(|_| drop(client.run("PING")));
    let line = wait_for("it is served by a thread", || {
        let Answer::Bulk(line) = client.run("CLIENT INFO") else { panic!("it is a text") };
        let line = String::from_utf8(line).expect("it is a text");
        (!line.contains(" io-thread=0 ")).then_some(line)
    });
    assert!(line.contains(" io-thread=1 ") || line.contains(" io-thread=2 "), "{line}");
    assert_eq!(figure(&mut other, "server", "io_threads_active"), 1);
    for name in ["io_threaded_reads_processed", "io_threaded_writes_processed"] {
        let before = figure(&mut other, "stats", name);
        (0..5).for_each(|_| drop(client.run("PING")));
        assert!(figure(&mut other, "stats", name) >= before + 5, "{name}");
    }
    let Answer::Error(refusal) = other.run("CONFIG SET io-threads 4") else {
        panic!("it is fixed")
    };
    assert!(String::from_utf8_lossy(&refusal).ends_with("can't set immutable config"));
}

/// Each thread has files of its own, which leave fewer for clients.
#[test]
fn files_of_threads_are_not_promised_to_clients() {
    let server = Server::with_file("io-threads 16\n").restart_under("ulimit -n 128");
    let promised = |clients| Answer::Array(vec![bulk("maxclients"), bulk(clients)]);
    let maxclients = server.connect().run("CONFIG GET maxclients");
    // Whoever may raise the limit has it raised.
    let is_raised = maxclients == promised("10000");
    assert!(is_raised || maxclients == promised("36"), "{maxclients:?}");
    let mut clients: Vec<Client> = (0..36).map(|_| server.connect()).collect();
    wait_for("all are served", || {
        let pong = Answer::Simple(b"PONG".to_vec());
        clients.iter_mut().all(|client| client.run("PING") == pong).then_some(())
    });
    assert_eq!(clients[0].run("SAVE"), ok());
}
