//! Connections: how they are shown, what is sent on them for subscribers, and what ends them.

use super::world::{TIMEOUT_MS, World, settings};
use crate::cluster::debug::KillRefusal;
use crate::cluster::id::NodeId;
use crate::cluster::links::{Direction, LinkId};
use crate::cluster::machine::{Action, Event, Facts, Settings};
use crate::cluster::show;
use crate::cluster::wire::{Kind, Packet};
use crate::structs::prng::Prng;

impl World {
    /// What a node does when it is told something, without that it is done.
    pub fn told(&mut self, number: usize, event: Event) -> Vec<Action> {
        let facts =
            Facts { offset: 1, stream_age_ms: 0, paused_offset: None, has_keys: &|_| false };
        let (now, mut actions) = (self.now(), Vec::new());
        let mut prng = Prng::seeded(self.draw(usize::MAX) as u64);
        let cluster = &mut self.peers[number].cluster;
        cluster.handle(event, &facts, now, &mut prng, &mut actions);
        actions
    }

    fn links_of(&self, number: usize) -> Vec<show::LinkShown> {
        let cluster = &self.peers[number].cluster;
        show::links(cluster.table(), cluster.links(), self.now())
    }

    pub fn link(&self, number: usize, other: usize, direction: Direction) -> LinkId {
        let cluster = &self.peers[number].cluster;
        let key = cluster.table().find(self.id(other)).expect("it is known");
        match direction {
            Direction::To => cluster.links().to(key).expect("it is connected"),
            Direction::From => cluster.links().from(key).expect("it is connected"),
        }
    }
}

#[test]
fn each_node_is_shown_with_two_connections() {
    let mut world = World::formed(3, 1);
    let shown = world.links_of(0);
    assert_eq!(shown.len(), 4);
    let directions: Vec<&str> = shown.iter().map(|link| link.direction).collect();
    assert_eq!(directions, ["to", "from", "to", "from"]);
    assert!(shown.iter().all(|link| link.events == "r" && link.queued_bytes == 0));
    let unix_ms = world.now().unix_ms;
    assert!(shown.iter().all(|link| link.create_time_ms < unix_ms));
    let link = world.link(0, 1, Direction::To);
    world.peers[0].cluster.set_queued(link, 77);
    let queued: Vec<(NodeId, &str, usize)> = world
        .links_of(0)
        .iter()
        .filter(|link| link.queued_bytes > 0)
        .map(|link| (link.node, link.events, link.queued_bytes))
        .collect();
    assert_eq!(queued, [(world.id(1), "rw", 77)]);
}

#[test]
fn a_connection_that_nobody_reads_is_ended() {
    let mut world = World::formed(3, 2);
    let limited = Settings { link_bytes_max: 1000, ..settings() };
    world.peers[0].cluster.set_settings(limited);
    let [to, from] = [Direction::To, Direction::From].map(|direction| world.link(0, 1, direction));
    world.peers[0].cluster.set_queued(to, 1000);
    world.peers[0].cluster.set_queued(from, 1001);
    world.tell(0, Event::Tick);
    let cluster = &world.peers[0].cluster;
    assert!(cluster.links().find(to).is_some() && cluster.links().find(from).is_none());
    assert_eq!(cluster.traffic().limit_exceeded, 1);
    let line = format!(
        "Freeing cluster link(from node {}, used memory: 1001) due to exceeding send buffer memory \
         limit.",
        world.id(1)
    );
    assert!(world.peers[0].log.contains(&line), "{:?}", world.peers[0].log);
    world.run_until(TIMEOUT_MS * 3, World::agrees);
}

#[test]
fn messages_go_to_all_or_to_the_shard() {
    let mut world = World::with_replicas(3, 1, 3);
    for (is_sharded, count) in [(false, 5), (true, 1)] {
        let event = Event::Publish { channel: b"news", message: b"hello", is_sharded };
        let kind = if is_sharded { Kind::PublishShard } else { Kind::Publish };
        let before = world.peers[0].cluster.traffic().sent(kind);
        let actions = world.told(0, event);
        let sent: Vec<&Vec<u8>> = actions
            .iter()
            .map(|action| match action {
                Action::Send { bytes, .. } => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sent.len(), count);
        for bytes in sent {
            assert!(matches!(Packet::parse(bytes), Ok(Packet::Light(m)) if m.message == b"hello"));
        }
        assert_eq!(world.peers[0].cluster.traffic().sent(kind), before + count as u64);
    }
}

#[test]
fn a_message_arrives_once_at_each_node() {
    let mut world = World::with_replicas(3, 1, 4);
    world.tell(2, Event::Publish { channel: b"a", message: b"all", is_sharded: false });
    world.tell(2, Event::Publish { channel: b"a", message: b"shard", is_sharded: true });
    world.run_for(1000);
    let heard: Vec<usize> = world.peers.iter().map(|peer| peer.heard.len()).collect();
    assert_eq!(heard, [1, 1, 0, 1, 1, 2]);
}

#[test]
fn connections_end_when_tests_want_it() {
    let mut world = World::formed(3, 5);
    let [me, other] = [0, 1].map(|number| world.id(number));
    let unknown = NodeId::from_random([1; 20]);
    let mut actions = Vec::new();
    let cluster = &mut world.peers[0].cluster;
    assert_eq!(cluster.kill_links(None, me, &mut actions), Err(KillRefusal::Myself));
    let refusal = cluster.kill_links(None, unknown, &mut actions).expect_err("it is unknown");
    assert_eq!(refusal.to_string(), format!("Unknown node {unknown}"));
    assert_eq!(cluster.kill_links(Some(Direction::To), other, &mut actions), Ok(()));
    assert_eq!((actions.len(), cluster.links().iter().count()), (1, 3));
    assert_eq!(cluster.kill_links(None, other, &mut actions), Ok(()));
    assert_eq!((actions.len(), cluster.links().iter().count()), (2, 2));
    // The other one has not heard of it, and finds out.
    world.run_until(TIMEOUT_MS * 4, World::agrees);
}

#[test]
fn packets_are_dropped_when_tests_want_it() {
    let mut world = World::formed(3, 6);
    world.peers[0].cluster.drop_packets(i64::from(Kind::Pong.number()));
    world.run_for(TIMEOUT_MS * 3);
    let fails = |world: &World| {
        let table = world.peers[0].cluster.table();
        table.iter().filter(|(_, node)| node.has(crate::cluster::flags::Flags::PFAIL)).count()
    };
    // They are still heard of by their own pings.
    assert_eq!(fails(&world), 0);
    let log = world.peers[0].log.join("\n");
    assert!(log.contains("Dropping packet that matches debug drop filter"));
    assert!(!log.contains("Closing link for matching packet type"));
    world.peers[0].cluster.close_on_drop(true);
    world.run_for(TIMEOUT_MS * 2);
    assert!(world.peers[0].log.join("\n").contains("Closing link for matching packet type 1"));
    world.peers[0].cluster.drop_packets(-1);
    world.run_until(TIMEOUT_MS * 4, World::agrees);
}

#[test]
fn noise_ends_a_connection_and_is_told_with_its_address() {
    let mut world = World::formed(2, 7);
    let link = world.link(0, 1, Direction::From);
    let actions = world.told(0, Event::Packet(link, &[b'x'; 3000]));
    assert!(actions.contains(&Action::Close(link)));
    let text = "Bad message length or signature received on the Cluster bus from 10.0.0.1:1";
    let is_it = |action: &Action| matches!(action, Action::Log(_, line) if line == text);
    assert!(actions.iter().any(is_it), "{actions:?}");
}
