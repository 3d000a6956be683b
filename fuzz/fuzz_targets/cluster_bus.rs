//! No packet of the cluster bus panics a node or leaves its table torn, whoever sends it; and no
//! file of a node is read as anything that is not written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rufous::cluster::file;
use rufous::cluster::id::{NodeId, ShardId};
use rufous::cluster::machine::{Action, Cluster, Event, Facts, Settings};
use rufous::cluster::table::Table;
use rufous::cluster::time::Now;
use rufous::cluster::wire::{self, HEAD_LEN, Packet};
use rufous::structs::prng::Prng;

/// As many bytes as the greatest message for subscribers may have here.
const MESSAGE_BYTES_MAX: usize = 1 << 16;

const FILE: &[u8] = b"\
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 10.0.0.1:7000@17000,,tls-port=0,\
shard-id=1111111111111111111111111111111111111111 myself,slave \
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0 0 1 connected\n\
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 10.0.0.2:7000@17000,,tls-port=0,\
shard-id=1111111111111111111111111111111111111111 master - 0 0 1 connected 0-8000\n\
cccccccccccccccccccccccccccccccccccccccc 10.0.0.3:7000@17000,,tls-port=0,\
shard-id=2222222222222222222222222222222222222222 master - 0 0 2 connected 8001-16383\n\
vars currentEpoch 2 lastVoteEpoch 0\n";

fn settings() -> Settings {
    Settings { node_timeout_ms: 1000, port: 7000, bus_port: 17000, ..Settings::default() }
}

fn now(ms: u64) -> Now {
    Now { ms, unix_ms: 1_700_000_000_000 + ms }
}

fn load(text: &[u8]) -> Option<Table> {
    let mut fresh = || ShardId::from_random([7; 20]);
    let loaded = file::parse(text, now(1), false, &mut fresh);
    loaded.map_err(|error| assert!(!error.to_string().is_empty())).ok().map(|loaded| loaded.table)
}

/// A file: what can be read is whole, and comes back from what is written of it.
fn read_file(text: &[u8]) {
    let Some(table) = load(text) else { return };
    table.check().expect("it is whole");
    let written = file::print(&table, now(1));
    let again = load(written.as_bytes()).expect("what was written is read");
    again.check().expect("it is whole");
    assert_eq!(file::print(&again, now(1)), written);
}

/// Packets, one after another, with the time that passes between them, to a node that has been
/// connected to by whoever sends them.
fn send_packets(bytes: &[u8]) {
    let mut cluster = Cluster::new(settings(), load(FILE).expect("it is a file"));
    let facts =
        Facts { offset: 1, stream_age_ms: 0, paused_offset: None, has_keys: &|_| false };
    let (mut prng, mut actions, mut ms) = (Prng::seeded(1), Vec::new(), 1000);
    let link = cluster.number_link();
    let accepted =
        Event::Accepted { link, peer_ip: "10.0.0.9", peer_port: 1, own_ip: "10.0.0.1" };
    cluster.handle(accepted, &facts, now(ms), &mut prng, &mut actions);
    let mut rest = bytes;
    while let Some((head, _)) = rest.split_first_chunk::<HEAD_LEN>() {
        let Ok(len) = wire::length(head, MESSAGE_BYTES_MAX) else { break };
        let Some((packet, behind)) = rest.split_at_checked(len) else { break };
        _ = Packet::parse(packet).map_err(|fault| assert!(!fault.to_string().is_empty()));
        for event in [Event::Packet(link, packet), Event::Tick] {
            cluster.handle(event, &facts, now(ms), &mut prng, &mut actions);
            ms += 100;
        }
        cluster.table().check().expect("it is whole");
        rest = behind;
    }
    for action in actions.drain(..) {
        if let Action::Save { text, .. } = action {
            read_file(text.as_bytes());
        }
    }
    assert!(cluster.table().find(NodeId::parse(&[b'a'; 40]).expect("a name")).is_some());
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, text)) => read_file(text),
        Some((_, packets)) => send_packets(packets),
        None => {}
    }
});
