//! Clusters of machines, on simulated networks.

mod elections;
mod hostile;
mod links;
mod moves;
mod pains;
mod seeds;
mod slots;
mod world;

use self::world::{TIMEOUT_MS, World, view};
use super::admin::{Done, Refusal, Request};
use super::flags::Flags;
use super::machine::{Cx, Facts};
use super::table::{Node, NodeKey};
use super::time::Now;
use crate::keyspace::slot::Slot;
use crate::structs::prng::Prng;

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("in range")
}

impl World {
    fn sees(&self, number: usize, other: usize) -> Option<(NodeKey, &Node)> {
        let table = self.peers[number].cluster.table();
        table.find(self.id(other)).map(|key| (key, table.node(key)))
    }

    fn all_see(&self, other: usize, is_so: impl Fn(&Node) -> bool) -> bool {
        let others = (0..self.peers.len()).filter(|number| *number != other);
        others
            .into_iter()
            .all(|number| self.sees(number, other).is_some_and(|(_, node)| is_so(node)))
    }
}

#[test]
fn one_node_with_all_slots_is_a_cluster() {
    let mut world = World::formed(1, 1);
    assert!(world.peers[0].cluster.is_up());
    assert_eq!(world.ask(0, Request::BumpEpoch), Ok(Done::Still(1)));
}

#[test]
fn nodes_that_meet_one_by_one_come_to_know_all() {
    for seed in 0..5 {
        let mut world = World::formed(7, seed);
        for number in 0..7 {
            let log = world.peers[number].log.join("\n");
            assert!(log.contains("Cluster state changed: ok"), "{log}");
            assert!(!world.peers[number].cluster.table().iter().any(|(_, n)| n.has(Flags::MEET)));
        }
        world.run_for(30_000);
        assert!(world.agrees());
    }
}

#[test]
fn packets_may_be_lost() {
    for seed in 0..3 {
        let mut world = World::formed(5, seed);
        world.loss = 8;
        world.delay_ms = 200;
        world.run_for(60_000);
        world.loss = 0;
        world.run_until(4 * TIMEOUT_MS, World::agrees);
    }
}

#[test]
fn a_node_that_is_cut_off_fails_for_all_and_comes_back() {
    let mut world = World::formed(5, 3);
    world.cut_off(2);
    let took_ms =
        world.run_until(10 * TIMEOUT_MS, |world| world.all_see(2, |n| n.has(Flags::FAIL)));
    assert!(took_ms > TIMEOUT_MS, "{took_ms}");
    assert!(!world.peers[0].cluster.is_up(), "its slots are served by nobody");
    // Alone it cannot know what the others decide.
    world.run_until(4 * TIMEOUT_MS, |world| !world.peers[2].cluster.is_up());
    assert!(
        (0..5).all(|other| other == 2 || !world.sees(2, other).expect("known").1.has(Flags::FAIL))
    );
    world.cuts.clear();
    world.run_until(10 * TIMEOUT_MS, World::agrees);
}

#[test]
fn a_node_that_one_other_cannot_reach_does_not_fail() {
    let mut world = World::formed(5, 4);
    world.cuts.extend([(0, 1), (1, 0)]);
    world.run_until(4 * TIMEOUT_MS, |world| {
        world.sees(0, 1).is_some_and(|(_, node)| node.has(Flags::PFAIL))
    });
    world.run_for(10 * TIMEOUT_MS);
    assert!((0..5).all(|number| world.all_see(number, |node| !node.has(Flags::FAIL))));
    assert!(world.peers.iter().all(|peer| peer.cluster.is_up()));
    world.cuts.clear();
    world.run_until(4 * TIMEOUT_MS, World::agrees);
}

#[test]
fn replicas_are_seen_by_all_and_share_a_shard() {
    let mut world = World::formed(3, 5);
    world.ask(2, Request::Replicate(world.id(0))).expect_err("it has slots");
    let slots: Vec<Slot> = world.peers[2].cluster.table().myself().slots().iter().collect();
    world.ask(2, Request::DelSlots(slots.clone())).expect("they are assigned");
    assert_eq!(world.ask(2, Request::Replicate(world.id(0))), Ok(Done::Ok));
    assert_eq!(world.peers[2].replicates, Some(("10.0.0.0".to_owned(), false)));
    let primary = world.id(0);
    world.run_until(10 * TIMEOUT_MS, |world| {
        (0..2).all(|number| {
            let table = world.peers[number].cluster.table();
            world.sees(number, 2).is_some_and(|(_, node)| {
                node.primary().is_some_and(|key| {
                    table.node(key).id() == primary && table.node(key).shard() == node.shard()
                })
            })
        })
    });
    // Its slots are not its own any more, and it is where they are claimed.
    world.ask(0, Request::BumpEpoch).expect("it is never refused");
    let free =
        slots.iter().copied().filter(|slot| world.peers[0].cluster.table().owner(*slot).is_none());
    let free: Vec<Slot> = free.collect();
    assert_eq!(free.len(), slots.len());
    world.ask(0, Request::AddSlots(free)).expect("they are free");
    world.run_until(10 * TIMEOUT_MS, World::agrees);
}

#[test]
fn a_forgotten_node_stays_forgotten() {
    let mut world = World::formed(5, 6);
    let slots: Vec<Slot> = world.peers[4].cluster.table().myself().slots().iter().collect();
    let gone = world.id(4);
    world.peers[4].is_paused = true;
    assert_eq!(world.ask(0, Request::Forget(world.id(0))), Err(Refusal::ForgetMyself));
    for number in 0..2 {
        assert_eq!(world.ask(number, Request::Forget(gone)), Ok(Done::Ok));
        assert_eq!(world.ask(number, Request::Forget(gone)), Ok(Done::Ok));
    }
    // The others hear of it.
    world.run_until(10 * TIMEOUT_MS, |world| {
        (0..4).all(|number| world.peers[number].cluster.table().find(gone).is_none())
    });
    world.run_for(70_000);
    assert!((0..4).all(|number| world.peers[number].cluster.table().find(gone).is_none()));
    world.ask(0, Request::AddSlots(slots)).expect("they are nobody's");
}

#[test]
fn two_that_claim_a_slot_come_to_one_owner() {
    let mut world = World::formed(4, 7);
    world.is_misled = true;
    for number in [1, 2] {
        // Each takes a slot of node 0 while they do not hear each other.
        world.cut_off(number);
        world.ask(number, Request::DelSlots(vec![slot(0)])).expect("it is assigned");
        world.ask(number, Request::AddSlots(vec![slot(0)])).expect("it is free");
        world.ask(number, Request::BumpEpoch).expect("it is never refused");
    }
    world.cuts.clear();
    world.run_until(20 * TIMEOUT_MS, World::agrees);
    let epochs: std::collections::BTreeSet<u64> =
        world.peers.iter().map(|peer| peer.cluster.table().myself().config_epoch()).collect();
    assert_eq!(epochs.len(), 4);
}

#[test]
fn strangers_leave_nothing_behind() {
    let mut world = World::formed(3, 8);
    let before = world.peers[0].cluster.table().count();
    // Nobody is there.
    for number in 0..100 {
        let request = Request::Meet { ip: format!("192.0.2.{number}"), port: 1, bus_port: 2 };
        world.ask(0, request).expect("it is never refused");
    }
    assert!(world.peers[0].cluster.table().count() <= before + 64);
    world.run_until(10 * TIMEOUT_MS, World::agrees);
}

#[test]
fn a_node_that_begins_again_is_known_by_its_file() {
    let mut world = World::formed(4, 9);
    let before = (world.id(1), view(world.peers[1].cluster.table()));
    world.restart(1, "10.0.0.1");
    assert_eq!((world.id(1), view(world.peers[1].cluster.table())), before);
    // A primary hears first what others have decided.
    world.run_for(1000);
    assert!(!world.peers[1].cluster.is_up());
    world.run_until(10 * TIMEOUT_MS, World::agrees);
}

#[test]
fn a_node_that_is_somewhere_else_now_is_found() {
    let mut world = World::formed(4, 10);
    world.restart(1, "10.0.0.77");
    world.run_until(20 * TIMEOUT_MS, |world| {
        world.all_see(1, |node| node.place().ip == "10.0.0.77") && world.agrees()
    });
    let log = world.peers[0].log.join("\n");
    assert!(log.contains(", now 10.0.0.77:7000"), "{log}");
}

#[test]
fn an_address_that_is_another_clusters_now_does_not_merge_them() {
    let mut world = World::formed(4, 11);
    // Node 3 goes away from the others, with a cluster of its own, and takes the address of node 2.
    let gone = world.id(3);
    for number in 0..3 {
        world.ask(number, Request::Forget(gone)).expect("it is known");
        let id = world.id(number);
        world.ask(3, Request::Forget(id)).expect("it is known");
    }
    world.run_for(100);
    world.peers[2].is_paused = true;
    world.restart(3, "10.0.0.3");
    world.peers[2].ip = "10.0.0.99".to_owned();
    world.restart(3, "10.0.0.2");
    world.run_for(80_000);
    for number in 0..2 {
        assert!(world.sees(number, 3).is_none());
        assert!(world.sees(number, 2).is_some_and(|(_, node)| node.has(Flags::NOADDR)));
        let log = world.peers[number].log.join("\n");
        assert!(log.contains("PONG contains mismatching sender ID."), "{log}");
    }
    assert_eq!(world.peers[3].cluster.table().count(), 1);
}

/// As after a failover that it did not see.
#[test]
fn a_primary_that_was_away_while_its_slots_were_taken_follows_who_has_them() {
    let mut world = World::formed(4, 12);
    let slots: Vec<Slot> = world.peers[0].cluster.table().myself().slots().iter().collect();
    world.cut_off(0);
    world.ask(1, Request::DelSlots(slots.clone())).expect("they are assigned");
    world.ask(1, Request::AddSlots(slots)).expect("they are free");
    world.ask(1, Request::BumpEpoch).expect("it is never refused");
    world.run_for(5 * TIMEOUT_MS);
    world.cuts.clear();
    world.run_until(20 * TIMEOUT_MS, World::agrees);
    let table = world.peers[0].cluster.table();
    assert_eq!(table.myself().primary().map(|key| table.node(key).id()), Some(world.id(1)));
    // Of another shard's stream no part is of use.
    assert_eq!(world.peers[0].replicates, Some(("10.0.0.1".to_owned(), false)));
}

#[test]
fn a_slot_that_its_owner_lets_go_of_is_his_until_another_has_it() {
    let mut world = World::formed(3, 13);
    world.ask(0, Request::DelSlots(vec![slot(0)])).expect("it is assigned");
    world.run_for(5 * TIMEOUT_MS);
    for number in 1..3 {
        let table = world.peers[number].cluster.table();
        let owner = table.owner(slot(0)).map(|key| table.node(key).id());
        assert_eq!((owner, table.is_unclaimed(slot(0))), (Some(world.id(0)), true));
        assert!(world.peers[number].cluster.is_up());
    }
    // Its epoch is the smallest, and anybody may have the slot.
    world.ask(0, Request::BumpEpoch).expect("it is never refused");
    world.ask(1, Request::DelSlots(vec![slot(0)])).expect("it is assigned");
    world.ask(1, Request::AddSlots(vec![slot(0)])).expect("it is free");
    world.run_until(10 * TIMEOUT_MS, World::agrees);
    let table = world.peers[2].cluster.table();
    let owner = table.owner(slot(0)).map(|key| table.node(key).id());
    assert_eq!((owner, table.is_unclaimed(slot(0))), (Some(world.id(1)), false));
}

#[test]
fn gossip_does_not_bring_back_who_was_forgotten() {
    let mut world = World::formed(5, 14);
    let gone = world.id(4);
    world.peers[4].is_paused = true;
    // Node 2 goes on speaking, and hears nothing of it.
    world.cuts.extend([(0, 2), (1, 2), (3, 2)]);
    world.ask(0, Request::Forget(gone)).expect("it is known");
    for _ in 0..40 {
        world.run_for(100);
        assert!(world.sees(2, 4).is_some() && world.sees(0, 4).is_none());
    }
}

#[test]
fn a_claim_wins_by_a_greater_epoch_only() {
    let mut world = World::formed(3, 15);
    let cluster = &mut world.peers[1].cluster;
    let owner = cluster.table().owner(slot(0)).expect("all slots are assigned");
    let own = cluster.table().node(owner).config_epoch();
    let other = cluster.table().owner(slot(16383)).expect("all slots are assigned");
    let mut slots = cluster.table().claimed_by(other);
    slots.insert(slot(0));
    for (epoch, winner) in [(own - 1, owner), (own, owner), (own + 1, other)] {
        let facts =
            &Facts { offset: 1, stream_age_ms: 0, paused_offset: None, has_keys: &|_| false };
        let (mut prng, mut actions) = (Prng::seeded(1), Vec::new());
        let now = Now { ms: world.now_ms, unix_ms: world.now_ms };
        let cx = &mut Cx::new(facts, now, &mut prng, &mut actions);
        cluster.take_claims(other, epoch, slots.bits(), cx);
        assert_eq!(cluster.table().owner(slot(0)), Some(winner), "{epoch} against {own}");
    }
}

/// As tools do it: every node is told to meet the first.
#[test]
fn more_may_meet_one_than_it_meets_at_a_time() {
    let mut world = World::new(100, 16);
    world.form_at_once();
    assert!(world.peers.iter().all(|peer| peer.cluster.table().count() == 100));
}
