//! Slots that leave and come one by one, and nodes that begin anew.

use super::slot;
use super::world::{TIMEOUT_MS, World};
use crate::cluster::admin::{Done, Refusal, Request, Reset};
use crate::cluster::id::NodeId;
use crate::cluster::machine::{Event, Settings};
use crate::cluster::manual::Failover;
use crate::cluster::setslot::{By, SetSlot};
use crate::cluster::table::Way;

impl World {
    pub fn set_slot(
        &mut self,
        number: usize,
        of: u64,
        how: SetSlot,
        by: By,
    ) -> Result<Done, Refusal> {
        self.ask(number, Request::SetSlot { slot: slot(of), how, by })
    }

    fn refused(&mut self, number: usize, of: u64, how: SetSlot) -> String {
        let refusal = self.set_slot(number, of, how, By::Client).expect_err("it cannot be");
        refusal.to_string()
    }

    fn way(&self, number: usize, of: u64) -> Option<(&'static str, NodeId)> {
        let table = self.peers[number].cluster.table();
        let way = table.way(slot(of))?;
        let word = if matches!(way, Way::LeavesTo(_)) { "leaves" } else { "comes" };
        Some((word, table.node(way.other()).id()))
    }

    /// Opens a slot of node 0 to node 1, in the order in which tools do.
    fn open(&mut self, of: u64) {
        let [source, target] = [0, 1].map(|number| self.id(number));
        for number in [4, 1] {
            let by = if number == 1 { By::Client } else { By::Stream };
            self.set_slot(number, of, SetSlot::Importing(source), by).expect("it is another's");
        }
        for number in [3, 0] {
            let by = if number == 0 { By::Client } else { By::Stream };
            self.set_slot(number, of, SetSlot::Migrating(target), by).expect("it is its own");
        }
    }
}

#[test]
fn what_cannot_be_done_with_a_slot_is_refused_as_in_redis() {
    let mut world = World::with_replicas(3, 1, 1);
    let ids: Vec<NodeId> = (0..6).map(|number| world.id(number)).collect();
    let unknown = NodeId::from_random([7; 20]);
    let rows = [
        (3, 0, SetSlot::Stable, "Please use SETSLOT only with masters.".to_owned()),
        (1, 0, SetSlot::Migrating(ids[0]), "I'm not the owner of hash slot 0".to_owned()),
        (0, 0, SetSlot::Migrating(unknown), format!("I don't know about node {unknown}")),
        (0, 0, SetSlot::Migrating(ids[4]), "Target node is not a master".to_owned()),
        (0, 0, SetSlot::Importing(ids[1]), "I'm already the owner of hash slot 0".to_owned()),
        (1, 0, SetSlot::Importing(ids[1]), "I'm not the owner of hash slot 0".to_owned()),
        (1, 0, SetSlot::Importing(unknown), format!("I don't know about node {unknown}")),
        (1, 0, SetSlot::Importing(ids[3]), "Target node is not a master".to_owned()),
        (0, 0, SetSlot::Node(unknown), format!("Unknown node {unknown}")),
        (0, 0, SetSlot::Node(ids[4]), "Target node is not a master".to_owned()),
    ];
    for (number, of, how, text) in rows {
        assert_eq!(world.refused(number, of, how), text);
    }
    world.write(slot(0)).expect("it is served");
    assert_eq!(
        world.refused(0, 0, SetSlot::Node(ids[1])),
        "Can't assign hashslot 0 to a different node while I still hold keys for this hash slot."
    );
    let table = world.peers[0].cluster.table();
    assert_eq!(table.owner(slot(0)), Some(table.me()));
}

#[test]
fn a_slot_goes_from_one_node_to_another() {
    let mut world = World::with_replicas(3, 1, 2);
    world.open(5);
    let ids: Vec<NodeId> = (0..6).map(|number| world.id(number)).collect();
    for (number, way) in [(0, "leaves"), (3, "leaves"), (1, "comes"), (4, "comes")] {
        let other = if way == "leaves" { ids[1] } else { ids[0] };
        assert_eq!(world.way(number, 5), Some((way, other)), "node {number}");
    }
    let before = world.peers[1].cluster.table().myself().config_epoch();
    world.set_slot(4, 5, SetSlot::Node(ids[1]), By::Stream).expect("it is known");
    world.set_slot(1, 5, SetSlot::Node(ids[1]), By::Client).expect("it is known");
    assert!(world.peers[1].cluster.table().myself().config_epoch() > before);
    // The source hears of it, and so does its replica.
    world.run_until(TIMEOUT_MS, |world| {
        (0..6).all(|number| {
            let table = world.peers[number].cluster.table();
            table.owner(slot(5)).map(|key| table.node(key).id()) == Some(ids[1])
        })
    });
    world.run_until(TIMEOUT_MS, |world| (0..6).all(|number| world.way(number, 5).is_none()));
    world.set_slot(0, 5, SetSlot::Node(ids[1]), By::Client).expect("it is so already");
    world.run_until(TIMEOUT_MS * 2, World::agrees);
}

#[test]
fn open_slots_follow_failovers() {
    for seed in 0..6 {
        let mut world = World::with_replicas(3, 1, seed);
        world.open(5);
        for (old, new) in [(0, 3), (1, 4)] {
            let failover = Request::Failover { how: Failover::Plain, user: String::new() };
            world.ask(new, failover).expect("it is a replica");
            world.run_until(TIMEOUT_MS * 2, |world| {
                world.peers[new].is_primary() && !world.peers[old].is_primary() && world.agrees()
            });
        }
        let [source, target] = [3, 4].map(|number| world.id(number));
        assert_eq!(world.way(3, 5), Some(("leaves", target)), "seed {seed}");
        assert_eq!(world.way(4, 5), Some(("comes", source)), "seed {seed}");
    }
}

/// The primary that was to have the slot is gone before it has said so to anybody but its replica.
#[test]
fn a_slot_whose_target_is_gone_after_its_replica_knew_is_not_lost() {
    let mut world = World::with_replicas(3, 1, 4);
    world.open(5);
    let target = world.id(1);
    world.set_slot(4, 5, SetSlot::Node(target), By::Stream).expect("it is known");
    world.peers[1].is_paused = true;
    world.run_until(TIMEOUT_MS * 5, |world| world.peers[4].is_primary());
    let heir = world.id(4);
    world.run_until(TIMEOUT_MS * 5, |world| {
        [0, 2, 3, 4, 5].into_iter().all(|number| {
            let table = world.peers[number].cluster.table();
            let owner = table.owner(slot(5)).map(|key| table.node(key).id());
            owner == Some(heir) && world.way(number, 5).is_none()
        })
    });
}

/// The source was told first that the slot has gone.
#[test]
fn a_source_that_lets_go_first_leaves_the_slot_to_its_target() {
    let mut world = World::with_replicas(3, 1, 5);
    world.open(5);
    let target = world.id(1);
    world.set_slot(0, 5, SetSlot::Node(target), By::Client).expect("it has no keys");
    world.run_until(TIMEOUT_MS * 3, |world| {
        (0..6).all(|number| {
            let table = world.peers[number].cluster.table();
            table.owner(slot(5)).map(|key| table.node(key).id()) == Some(target)
        })
    });
    assert_eq!(world.way(1, 5), None);
}

#[test]
fn a_replica_that_was_away_is_not_left_with_an_open_slot() {
    let mut world = World::with_replicas(3, 1, 6);
    world.open(5);
    let target = world.id(1);
    world.peers[4].is_paused = true;
    world.run_for(TIMEOUT_MS * 2);
    world.set_slot(1, 5, SetSlot::Node(target), By::Client).expect("it is known");
    world.run_for(TIMEOUT_MS);
    assert!(world.way(4, 5).is_some());
    world.peers[4].is_paused = false;
    world.run_until(TIMEOUT_MS * 4, |world| world.way(4, 5).is_none());
}

#[test]
fn open_slots_are_told_in_snapshots() {
    let mut world = World::with_replicas(3, 1, 7);
    let [source, target] = [0, 1].map(|number| world.id(number));
    for (number, of, how) in [
        (1, 5, SetSlot::Importing(source)),
        (1, 8000, SetSlot::Migrating(source)),
        (1, 6, SetSlot::Importing(source)),
    ] {
        world.set_slot(number, of, how, By::Client).expect("it may be");
    }
    let text = world.peers[1].cluster.ways_text().expect("there are some");
    assert_eq!(text, format!("5<{source},6<{source},8000>{source},"));
    let cluster = &mut world.peers[4].cluster;
    assert!(cluster.take_ways_text(text.as_bytes()));
    assert_eq!(cluster.ways_text(), Some(text));
    for malformed in ["5<", "5", "x<x", "99999<", "5?5"] {
        assert!(!cluster.take_ways_text(malformed.as_bytes()), "{malformed}");
    }
    assert!(!cluster.take_ways_text(format!("5<{target}0,").as_bytes()));
    assert!(cluster.take_ways_text(b"") && cluster.ways_text().is_none());
    assert_eq!(world.peers[0].cluster.ways_text(), None);
}

#[test]
fn who_loses_its_last_slot_follows_who_has_it() {
    for follows in [true, false] {
        let mut world = World::with_replicas(2, 1, 8);
        let settings = Settings { allows_replica_migration: follows, ..world.settings.clone() };
        world.configure(settings);
        let target = world.id(1);
        for of in 0..8192 {
            world.set_slot(0, of, SetSlot::Node(target), By::Client).expect("it has no keys");
        }
        let is_alone = world.peers[0].is_primary();
        assert_eq!(is_alone, !follows);
        assert_eq!(world.peers[0].replicates.is_some(), follows);
    }
}

#[test]
fn a_reset_node_is_alone_and_without_slots() {
    let mut world = World::with_replicas(3, 1, 9);
    let ids: Vec<NodeId> = (0..6).map(|number| world.id(number)).collect();
    world.write(slot(0)).expect("it is served");
    let refusal = world.ask(0, Request::Reset(Reset::Soft)).expect_err("it has keys");
    assert_eq!(
        refusal.to_string(),
        "CLUSTER RESET can't be called with master nodes containing keys"
    );
    world.ask(1, Request::Reset(Reset::Soft)).expect("it has none");
    world.run_for(100);
    world.ask(3, Request::Reset(Reset::Hard)).expect("it is a replica");
    let (soft, hard) = (world.peers[1].cluster.table(), world.peers[3].cluster.table());
    for table in [soft, hard] {
        assert_eq!((table.count(), table.assigned_count()), (1, 0));
        assert!(table.myself().is_primary());
        table.check().expect("it is whole");
    }
    assert_eq!((world.id(1), soft.myself().config_epoch()), (ids[1], 2));
    assert_ne!(world.id(3), ids[3]);
    assert_eq!((hard.current_epoch(), hard.myself().config_epoch()), (0, 0));
    assert_eq!((world.peers[3].replicates.clone(), world.peers[3].writes.len()), (None, 0));
    // It may be met again.
    world.meet(3, 0);
    let met = world.id(3);
    world.run_until(10_000, |world| world.peers[0].cluster.table().find(met).is_some());
}

/// Alone it was a primary for a while, with an epoch above its old primary's: that it follows it
/// again is no old news.
#[test]
fn a_replica_that_was_reset_may_come_back_to_its_primary() {
    let mut world = World::with_replicas(3, 1, 11);
    world.ask(3, Request::Reset(Reset::Soft)).expect("it is a replica");
    world.ask(3, Request::BumpEpoch).expect("anybody may");
    world.meet(3, 0);
    let id = world.id(3);
    world.run_until(10_000, |world| {
        let seen = |peer: usize| {
            let table = world.peers[peer].cluster.table();
            table.find(id).is_some_and(|key| table.node(key).is_primary())
        };
        let table = world.peers[3].cluster.table();
        (0..3).all(seen) && (0..3).all(|peer| table.find(world.id(peer)).is_some())
    });
    world.ask(3, Request::BumpEpoch).expect("anybody may");
    world.run_for(5_000);
    world.ask(3, Request::Replicate(world.id(0))).expect("it is empty");
    world.run_until(10_000, World::agrees);
    assert!(!world.peers[3].is_primary());
}

#[test]
fn keys_that_are_found_at_the_start_claim_free_slots_only() {
    let mut world = World::formed(3, 10);
    let free = vec![slot(1), slot(2)];
    for number in 0..3 {
        world.ask(number, Request::DelSlots(free.clone())).expect("they are assigned");
    }
    world.run_for(3000);
    let own = world.peers[0].cluster.table().myself().slots().len();
    world.peers[0].writes = vec![(slot(1), 1), (slot(0), 2), (slot(16000), 3)];
    world.peers[1].writes = vec![(slot(3), 4)];
    let source = world.id(0);
    world.set_slot(1, 3, SetSlot::Importing(source), By::Client).expect("it is another's");
    for number in 0..2 {
        world.tell(number, Event::Loaded);
    }
    assert_eq!(world.peers[0].writes, [(slot(1), 1), (slot(0), 2)]);
    assert_eq!(world.peers[0].cluster.table().myself().slots().len(), own + 1);
    assert_eq!(world.peers[1].writes.len(), 1, "they are on their way");
    let log = world.peers[0].log.join("\n");
    assert!(log.contains("I have keys for unassigned slot 1. Taking responsibility for it."));
}

/// To turn at once would end the stream by which it is told.
#[test]
fn a_replica_goes_with_the_last_slot_when_it_has_been_told() {
    let mut world = World::with_replicas(3, 1, 1);
    let [source, target] = [0, 1].map(|number| world.id(number));
    let primary = |world: &World| {
        let table = world.peers[3].cluster.table();
        table.myself().primary().map(|key| table.node(key).id())
    };
    let own: Vec<u64> = (world.peers[0].cluster.table().myself().slots().iter())
        .map(|slot| slot.number().into())
        .collect();
    for of in own {
        world.set_slot(3, of, SetSlot::Node(target), By::Stream).expect("it is known");
    }
    assert_eq!(primary(&world), Some(source));
    world.run_for(200);
    assert_eq!(primary(&world), Some(target));
}
