//! Snapshots through real sockets.

use super::*;
use crate::engine::{Engine, Peer, Seed, ServerParts};
use crate::keyspace::{Entry, HashSecret, Keyspace, NewValue};
use crate::persist::fan::Framing;
use crate::persist::rdb::{self, Dataset, SaveOptions};
use crate::structs::prng::Prng;
use crate::types::Encoding;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

const MARK: [u8; 40] = [b'm'; 40];

/// A snapshot that neither the sockets nor the ring hold as a whole.
pub fn content(megabytes: u32, framing: Framing) -> Content {
    let mut space = Keyspace::new(1, HashSecret::new([1; 16]), Prng::seeded(1));
    for number in 0..megabytes {
        let key = format!("key {number}").into_bytes();
        let value = number.to_le_bytes().repeat(1 << 18);
        let entry = Entry::new(&key, NewValue::Bytes(&value), Encoding::of_whole(&value), None);
        space.insert_loaded(0, space.key(&key).hash(), entry);
    }
    let dataset = Dataset { dbs: vec![(0, space.db(0).snapshot(0))], ..Dataset::default() };
    Content {
        dataset,
        options: SaveOptions { compresses: false, has_checksum: false, ..SaveOptions::default() },
        framing,
        timeout: crate::persist::fan::Timeout::of(Duration::from_secs(60)),
        key_delay: crate::persist::snapshot::KeyDelay::default(),
        progress: Arc::default(),
    }
}

/// What a replica is sent that was promised this.
pub fn whole(prelude: &[u8], content: &Content) -> Vec<u8> {
    let mut snapshot = Vec::new();
    let mut watch = |_| ControlFlow::Continue(());
    rdb::write(&content.dataset, &content.options, &mut snapshot, &mut watch)
        .expect("memory takes it");
    match &content.framing {
        Framing::EndMark(mark) => [prelude, b"$EOF:", mark, b"\r\n", &snapshot, mark].concat(),
        Framing::Length => {
            [prelude, format!("${}\r\n", snapshot.len()).as_bytes(), &snapshot].concat()
        }
    }
}

/// Senders, with clients to name to them.
struct Office {
    senders: Senders,
    told: UnboundedReceiver<Told>,
    engine: Engine,
}

impl Office {
    fn open() -> Office {
        let (senders, told) = Senders::new(Arc::default());
        let engine = Engine::new(Default::default(), ServerParts::default(), Seed::default());
        Office { senders, told, engine }
    }

    fn recipient(&mut self, socket: impl Into<OwnedFd>) -> Recipient<ClientId, Socket> {
        let socket = socket.into();
        rustix::io::ioctl_fionbio(&socket, true).expect("it is a socket");
        Recipient {
            key: self.engine.connect(Peer::internal()),
            outlet: self.senders.socket(stream::Outlet::Plain(socket)),
            head: b"+FULLRESYNC\r\n".to_vec(),
            is_gone: Arc::default(),
        }
    }

    /// The next report.
    fn hear(&mut self) -> Told {
        self.told.blocking_recv().expect("the senders live")
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (near, listener.accept().expect("somebody came").0)
}

fn read_all(mut socket: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).expect("it is sent in good order");
    all
}

/// The slow one reads nothing before the fast one has been sent all; by then it has fallen out.
#[test]
fn a_slow_reader_gets_all_of_it_when_it_reads_and_delays_nobody() {
    for framing in [Framing::EndMark(MARK), Framing::Length] {
        let mut office = Office::open();
        let content = content(40, framing);
        let ((near, fast), (own, slow)) = (tcp_pair(), UnixStream::pair().expect("there are some"));
        let recipients = vec![office.recipient(near), office.recipient(own)];
        let [first, second] = [recipients[0].key, recipients[1].key];
        office.senders.send(7, recipients, content.clone());
        let expected = whole(b"+FULLRESYNC\r\n", &content);
        assert!(read_all(fast) == expected);
        let told = office.hear();
        assert_eq!(told.report, TransferReport::Sent { client: first });
        assert_eq!(told.written, expected.len() as u64);
        assert!(read_all(slow) == expected);
        assert_eq!(office.hear().report, TransferReport::Sent { client: second });
        let ended = TransferReport::Ended { number: 7, failure: None };
        assert_eq!(office.hear().report, ended);
        let written = office.senders.traffic.totals().written_bytes;
        assert_eq!(written, 2 * expected.len() as u64);
    }
}

#[test]
fn who_is_gone_or_takes_nothing_is_dropped_alone() {
    let mut office = Office::open();
    let content = content(20, Framing::EndMark(MARK));
    content.timeout.set(Duration::from_secs(1));
    let [(own, reader), (stuck, stalled), (lost, hung_up)] =
        [(); 3].map(|()| UnixStream::pair().expect("there are some"));
    drop(hung_up);
    let recipients = [own, stuck, lost].map(|socket| office.recipient(socket));
    let [first, second, third] = [&recipients[0], &recipients[1], &recipients[2]].map(|r| r.key);
    office.senders.send(7, recipients.into(), content.clone());
    assert!(read_all(reader) == whole(b"+FULLRESYNC\r\n", &content));
    let heard: Vec<TransferReport> = (0..4).map(|_| office.hear().report).collect();
    let reason = "Broken pipe".to_owned();
    assert!(heard.contains(&TransferReport::Sent { client: first }), "{heard:?}");
    assert!(heard.contains(&TransferReport::TimedOut { client: second }), "{heard:?}");
    assert!(heard.contains(&TransferReport::Lost { client: third, reason }), "{heard:?}");
    assert_eq!(heard[3], TransferReport::Ended { number: 7, failure: None });
    drop(stalled);
}

#[test]
fn nobody_to_send_to_ends_at_once() {
    let mut office = Office::open();
    office.senders.send(9, Vec::new(), content(1, Framing::Length));
    assert_eq!(office.hear().report, TransferReport::Ended { number: 9, failure: None });
}
