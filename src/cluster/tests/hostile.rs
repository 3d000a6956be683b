//! Packets of those who mean harm, or know no better.

use super::world::{TIMEOUT_MS, World};
use crate::cluster::admin::Request;
use crate::cluster::flags::Flags;
use crate::cluster::id::NodeId;
use crate::cluster::links::Direction;
use crate::cluster::machine::{Action, Event};
use crate::cluster::manual::Failover;
use crate::cluster::slot_set::SlotBits;
use crate::cluster::wire::{Gossip, Header, IpText, Kind, Ports};

fn header<'h>(sender: NodeId, flags: Flags, epoch: u64) -> Header<'h> {
    Header {
        sender,
        flags,
        current_epoch: epoch,
        config_epoch: epoch,
        slots: SlotBits::EMPTY,
        offset: 1,
        primary: None,
        ip: None,
        ports: Ports { client: 7000, other: 0, bus: 17000 },
        is_down: false,
        is_paused: false,
        forces_ack: false,
    }
}

/// Of the accepted connections of node 0 the one with node 3, which has no slots.
fn with_empty_node(seed: u64) -> World {
    let mut world = World::formed(3, seed);
    world.add_empty();
    world.meet(3, 0);
    world.run_until(TIMEOUT_MS * 4, World::agrees);
    world
}

#[test]
fn nobody_without_a_vote_takes_all_epochs_away() {
    let mut world = with_empty_node(1);
    let before = world.peers[0].cluster.table().current_epoch();
    let link = world.link(0, 3, Direction::From);
    let id = world.id(3);
    for (far, is_believed) in
        [((1 << 48) + 1, false), (i64::MAX as u64 / 2, false), (1 << 48, true)]
    {
        let ping = header(id, Flags::PRIMARY, before + far).ping(Kind::Ping, &[], &[]);
        let actions = world.told(0, Event::Packet(link, &ping));
        let warns = |action: &Action| match action {
            Action::Log(_, line) => line.starts_with("Ignoring a packet"),
            _ => false,
        };
        assert_eq!(actions.iter().any(warns), !is_believed);
        let is_raised = world.peers[0].cluster.table().current_epoch() > before;
        assert_eq!(is_raised, is_believed, "{far}");
    }
}

#[test]
fn strangers_are_answered_and_leave_nothing() {
    let mut world = World::formed(3, 2);
    let link = world.link(0, 1, Direction::From);
    let stranger = |number: u8| NodeId::from_random([number; 20]);
    let gossip = Gossip {
        node: stranger(99),
        ping_sent_s: 0,
        pong_received_s: 0,
        ip: IpText::of("10.9.9.9"),
        ports: Ports { client: 1, other: 0, bus: 2 },
        flags: Flags::PRIMARY,
    };
    let before = world.peers[0].cluster.table().generation();
    for number in 0..200 {
        let header = Header {
            slots: SlotBits(&[0xff; 2048]),
            ..header(stranger(number), Flags::PRIMARY, 1 << 40)
        };
        let packets = [
            header.ping(Kind::Ping, &[gossip], &[]),
            header.ping(Kind::Pong, &[gossip], &[]),
            header.bare(Kind::AuthRequest),
            header.bare(Kind::AuthAck),
            header.bare(Kind::ManualFailoverStart),
            header.fail(world.id(1)),
        ];
        for packet in &packets {
            world.told(0, Event::Packet(link, packet));
        }
    }
    let table = world.peers[0].cluster.table();
    assert_eq!((table.count(), table.generation()), (3, before));
    assert_eq!(world.peers[0].cluster.links().iter().count(), 4);
}

#[test]
fn of_all_who_want_to_be_met_a_few_are_at_a_time() {
    let mut world = World::formed(3, 3);
    let link = world.link(0, 1, Direction::From);
    for number in 0..1000u64 {
        let id = NodeId::from_random(std::array::from_fn(|at| (number >> (8 * (at % 8))) as u8));
        let ip = format!("10.7.{}.{}", number / 250, number % 250);
        let header = Header { ip: Some(&ip), ..header(id, Flags::PRIMARY, 1) };
        world.told(0, Event::Packet(link, &header.ping(Kind::Meet, &[], &[])));
    }
    assert_eq!(world.peers[0].cluster.table().count(), 3 + 64);
    world.run_until(TIMEOUT_MS * 8, World::agrees);
}

/// It was saved before another one took over.
#[test]
fn an_old_file_takes_nothing_back() {
    for seed in 0..6 {
        let mut world = World::with_replicas(3, 1, seed);
        let old = world.peers[0].saved.clone();
        let failover = Request::Failover { how: Failover::Plain, user: String::new() };
        world.ask(3, failover).expect("it is a replica");
        world.run_until(TIMEOUT_MS * 4, |world| world.peers[3].is_primary() && world.agrees());
        world.peers[0].saved = old;
        world.peers[0].log.clear();
        let ip = world.peers[0].ip.clone();
        world.restart(0, &ip);
        world.run_until(TIMEOUT_MS * 8, World::agrees);
        assert!(world.peers[3].is_primary() && !world.peers[0].is_primary());
        // It was up as a replica only.
        let at = |what: &str| world.peers[0].log.iter().position(|line| line.starts_with(what));
        assert!(at("Configuration change detected.") < at("Cluster state changed: ok"));
    }
}

/// Addresses of two voters have become somebody else's: nobody knows what they have decided.
#[test]
fn voters_that_are_nowhere_are_no_majority() {
    let mut world = World::formed(3, 4);
    for number in [1, 2] {
        assert!(world.peers[0].cluster.is_up());
        let link = world.link(0, number, Direction::To);
        let other = header(NodeId::from_random([number as u8; 20]), Flags::PRIMARY, 1);
        world.told(0, Event::Packet(link, &other.ping(Kind::Pong, &[], &[])));
    }
    assert!(!world.peers[0].cluster.is_up());
    world.run_until(TIMEOUT_MS * 8, World::agrees);
}

/// It was saved before the node itself was elected.
#[test]
fn who_forgot_that_it_was_elected_is_reminded() {
    for seed in 0..6 {
        let mut world = World::with_replicas(3, 1, seed);
        let old = world.peers[3].saved.clone();
        let failover = Request::Failover { how: Failover::Plain, user: String::new() };
        world.ask(3, failover).expect("it is a replica");
        world.run_until(TIMEOUT_MS * 4, |world| world.peers[3].is_primary() && world.agrees());
        world.peers[3].saved = old;
        let ip = world.peers[3].ip.clone();
        world.restart(3, &ip);
        assert!(!world.peers[3].is_primary());
        world.run_until(TIMEOUT_MS * 8, World::agrees);
        assert!(world.peers[3].is_primary());
    }
}
