//! What has hurt people who run clusters, one test for each kind. Those of elections, of slots that
//! move and of links are where these are tested.

use super::slot;
use super::world::{TIMEOUT_MS, World};
use crate::cluster::admin::{Done, Request};
use crate::cluster::file;
use crate::cluster::id::{NodeId, ShardId};
use crate::cluster::machine::{Cluster, Settings};
use crate::cluster::manual::Failover;
use crate::cluster::setslot::{By, SetSlot};
use crate::cluster::table::Way;

#[test]
fn a_primary_that_lost_its_replicas_is_given_one() {
    for seed in 0..6 {
        let mut world = World::with_replicas(3, 2, seed);
        [4, 7].into_iter().for_each(|number| world.peers[number].is_paused = true);
        let orphan = world.id(1);
        let has_come = |world: &World, number: usize| {
            let table = world.peers[number].cluster.table();
            table.myself().primary().map(|key| table.node(key).id()) == Some(orphan)
        };
        let took_ms = world.run_until(TIMEOUT_MS * 3 + 6000, |world| {
            [3, 6, 5, 8].into_iter().any(|number| has_come(world, number))
        });
        assert!(took_ms > 5000, "{took_ms}");
        let first = [3, 6, 5, 8].into_iter().min_by_key(|number| world.id(*number));
        world.run_for(10_000);
        let moved: Vec<usize> =
            [3, 6, 5, 8].into_iter().filter(|number| has_come(&world, *number)).collect();
        assert_eq!(moved, Vec::from_iter(first), "seed {seed}");
        assert_eq!(world.peers[moved[0]].replicates, Some(("10.0.0.1".to_owned(), false)));
        [4, 7].into_iter().for_each(|number| world.peers[number].is_paused = false);
        world.run_until(TIMEOUT_MS * 6, World::agrees);
    }
}

#[test]
fn replicas_stay_where_they_are_too_few_or_not_allowed_to_go() {
    for (barrier, allowed, replicas) in [(999, true, 2), (1, false, 2), (1, true, 1)] {
        let mut world = World::with_replicas(3, replicas, 7);
        let settings = Settings {
            migration_barrier: barrier,
            allows_replica_migration: allowed,
            ..world.settings.clone()
        };
        world.configure(settings);
        [4, 7].into_iter().for_each(|number| {
            if let Some(peer) = world.peers.get_mut(number) {
                peer.is_paused = true;
            }
        });
        world.run_for(30_000);
        let said = world.peers.iter().flat_map(|peer| &peer.log);
        assert_eq!(said.filter(|line| line.starts_with("Migrating to orphaned")).count(), 0);
    }
}

/// Files of which each says something else of who is in which shard.
#[test]
fn nodes_that_disagree_about_shards_start_and_come_to_agree() {
    let mut world = World::with_replicas(3, 1, 8);
    for number in 0..6 {
        let text = world.peers[number].saved.clone();
        let words = text.split_inclusive([' ', ',']);
        let other = |at: usize| ShardId::from_random([(number * 16 + at) as u8; 20]);
        let mut count = 0;
        let mangled: String = words
            .map(|word| match word.strip_prefix("shard-id=") {
                Some(_) => {
                    count += 1;
                    format!("shard-id={} ", other(count))
                }
                None => word.to_owned(),
            })
            .collect();
        assert_eq!(count, 6);
        world.peers[number].saved = mangled;
        let ip = world.peers[number].ip.clone();
        world.restart(number, &ip);
    }
    let shards = |world: &World, number: usize| -> Vec<(NodeId, ShardId)> {
        let table = world.peers[number].cluster.table();
        table.iter().map(|(_, node)| (node.id(), node.shard())).collect()
    };
    world.run_until(TIMEOUT_MS * 8, |world| {
        let first = shards(world, 0);
        world.agrees() && (1..6).all(|number| shards(world, number) == first)
    });
    let table = world.peers[0].cluster.table();
    assert!(table.shards().len() == 3 && table.shards().values().all(|keys| keys.len() == 2));
}

/// A replica that asks for votes with slots that have gone to somebody else long ago.
#[test]
fn who_is_denied_votes_for_old_claims_is_told_of_the_new_ones() {
    let mut world = World::with_replicas(3, 1, 9);
    let target = world.id(1);
    // Neither node 0 nor its replica hears of it.
    for number in [0, 3] {
        world.cut_off(number);
    }
    world.cuts.remove(&(0, 3));
    world.cuts.remove(&(3, 0));
    world.is_misled = true;
    world.ask(1, Request::BumpEpoch).expect("it is never refused");
    world.set_slot(1, 5, SetSlot::Importing(world.id(0)), By::Client).expect("it is another's");
    world.set_slot(1, 5, SetSlot::Node(target), By::Client).expect("it is known");
    world.run_for(TIMEOUT_MS * 3);
    world.peers[0].is_paused = true;
    world.cuts.clear();
    world.run_until(TIMEOUT_MS * 8, |world| world.peers[3].is_primary());
    let table = world.peers[3].cluster.table();
    assert_eq!(table.owner(slot(5)).map(|key| table.node(key).id()), Some(target));
    world.peers[0].is_paused = false;
    world.run_until(TIMEOUT_MS * 8, World::agrees);
}

/// Its primary has given a slot away, and has come to a greater epoch since by others: the epoch
/// alone would have the replica take the slot back, of which it has no keys.
#[test]
fn who_has_not_heard_that_a_slot_was_given_away_does_not_get_it_back() {
    let mut world = World::with_replicas(3, 1, 9);
    let (from, to) = (world.id(0), world.id(1));
    world.cuts.insert((1, 3));
    world.peers[3].lag_ms = u64::from(u32::MAX);
    let slots = vec![slot(5)];
    let epoch = world.peers[0].cluster.hand_over(to, slots.iter().copied().collect());
    let take = Request::TakeSlots { slots: slots.clone(), from, until_ms: u64::MAX, epoch };
    let Ok(Done::Taken(epoch)) = world.ask(1, take) else { panic!("it may") };
    world.ask(0, Request::ConcedeSlots { slots, to, epoch }).expect("it is known");
    world.peers[0].cluster.end_hand_over();
    world.run_for(TIMEOUT_MS);
    world.ask(0, Request::BumpEpoch).expect("it is never refused");
    world.run_for(TIMEOUT_MS);
    assert_eq!(world.owner_of(3, 5), Some(from));
    let force = Request::Failover { how: Failover::Force, user: String::new() };
    world.ask(3, force).expect("it is a replica");
    world.run_until(TIMEOUT_MS * 2, |world| world.peers[3].is_primary());
    // By those who denied their votes.
    assert_eq!(world.owner_of(3, 5), Some(to));
    world.cuts.clear();
    world.run_until(TIMEOUT_MS * 8, World::agrees);
    assert!((0..6).all(|number| world.owner_of(number, 5) == Some(to)));
}

/// A primary that comes back after its replica took over, and one that follows it in the meantime.
#[test]
fn nobody_stays_a_replica_of_a_replica() {
    for seed in 0..6 {
        let mut world = World::with_replicas(3, 2, seed);
        // Node 6 hears of nobody while node 3 takes over.
        world.cut_off(6);
        let failover = Request::Failover { how: Failover::Plain, user: String::new() };
        world.ask(3, failover).expect("it is a replica");
        world.run_until(TIMEOUT_MS * 2, |world| {
            world.peers[3].is_primary() && !world.peers[0].is_primary()
        });
        world.cuts.clear();
        let primary = world.id(3);
        world.run_until(TIMEOUT_MS * 6, |world| {
            let table = world.peers[6].cluster.table();
            table.myself().primary().map(|key| table.node(key).id()) == Some(primary)
        });
        world.run_until(TIMEOUT_MS * 6, World::agrees);
    }
}

impl World {
    fn ways(&self, of: u64) -> Vec<(usize, Way)> {
        let way = |number: usize| {
            let peer = &self.peers[number];
            let way = peer.cluster.table().way(slot(of)).filter(|_| peer.is_primary())?;
            Some((number, way))
        };
        (0..self.peers.len()).filter_map(way).collect()
    }

    /// As tools mend a slot that a move has left open: it goes to its target if both ends still
    /// know of it, and else it stays.
    fn mend(&mut self, of: u64, target: usize) {
        let ways = self.ways(of);
        let is_open = |word: fn(&Way) -> bool| ways.iter().any(|(_, way)| word(way));
        let leaves = is_open(|way| matches!(way, Way::LeavesTo(_)));
        let comes = is_open(|way| matches!(way, Way::ComesFrom(_)));
        let id = self.id(target);
        if leaves && comes {
            for number in [target, 0, 1, 2] {
                _ = self.set_slot(number, of, SetSlot::Node(id), By::Client);
            }
        } else {
            for (number, _) in ways {
                self.set_slot(number, of, SetSlot::Stable, By::Client).expect("it is a primary");
            }
        }
    }
}

/// Source or target begin again between any two steps of a move.
#[test]
fn a_move_that_ends_anywhere_can_be_mended() {
    for step in 0..4 {
        for gone in [0, 1] {
            let mut world = World::formed(3, 10);
            let [source, target] = [0, 1].map(|number| world.id(number));
            let steps = [
                (1, SetSlot::Importing(source)),
                (0, SetSlot::Migrating(target)),
                (1, SetSlot::Node(target)),
                (0, SetSlot::Node(target)),
            ];
            for (number, how) in &steps[..=step] {
                // Tools wait for the answer, and that for the file.
                world.run_until(1000, |world| {
                    world.peers.iter().all(|peer| peer.cluster.awaited_save().is_none())
                });
                world.set_slot(*number, 5, *how, By::Client).expect("it may be");
            }
            // Of the last step nobody knows whether it is in the file already.
            let ip = world.peers[gone].ip.clone();
            world.restart(gone, &ip);
            world.run_until(TIMEOUT_MS * 6, World::agrees);
            world.mend(5, 1);
            world.run_until(TIMEOUT_MS * 6, |world| world.agrees() && world.ways(5).is_empty());
            let owners: Vec<usize> = (0..3)
                .filter(|number| {
                    let table = world.peers[*number].cluster.table();
                    table.owner(slot(5)) == Some(table.me())
                })
                .collect();
            assert_eq!(owners.len(), 1, "{gone} after {step}");
        }
    }
}

/// Two servers run with one file: both say that they are the same node.
#[test]
fn two_with_one_name_do_not_bring_others_down() {
    let mut world = World::formed(4, 11);
    let text = world.peers[1].saved.clone().into_bytes();
    let mut fresh = || ShardId::from_random([9; 20]);
    let twin = file::parse(&text, world.now(), false, &mut fresh).expect("it is a file");
    // Node 3 begins again as node 1; its own slots are served by nobody then.
    world.is_misled = true;
    world.peers[3].cluster = Cluster::new(world.settings.clone(), twin.table);
    world.peers[3].life += 1;
    for _ in 0..60 {
        world.run_for(1000);
        for number in [0, 2] {
            assert!(world.peers[number].cluster.table().count() <= 5);
        }
    }
    assert_eq!(world.id(1), world.id(3));
}

/// Whoever sets the clock of a machine sets only what is shown.
#[test]
fn clocks_that_step_disturb_nobody() {
    for seed in 0..3 {
        let mut world = World::with_replicas(3, 1, seed);
        for step in 0..40 {
            let number = world.draw(6);
            let sign = if step % 2 == 0 { 1 } else { -1 };
            world.peers[number].clock_ms = sign * (step + 1) * 3_600_000 * 24;
            world.run_for(500);
            assert!(world.peers.iter().all(|peer| peer.cluster.is_up()));
        }
        assert!(world.agrees());
        let said = world.peers.iter().flat_map(|peer| &peer.log);
        assert_eq!(said.filter(|line| line.contains("failing")).count(), 0);
    }
}

#[test]
fn reports_of_failure_are_counted() {
    let mut world = World::formed(5, 12);
    let unknown = NodeId::from_random([1; 20]);
    let now = world.now();
    let gone = world.id(4);
    let count = |world: &mut World, id| {
        world.peers[0].cluster.count_failure_reports(id, now).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(count(&mut world, gone), Ok(0));
    assert_eq!(count(&mut world, unknown), Err(format!("Unknown node {unknown}")));
    world.peers[4].is_paused = true;
    world.run_for(TIMEOUT_MS * 3);
    let now = world.now();
    let reports = world.peers[0].cluster.count_failure_reports(gone, now).expect("it is known");
    assert!((2..=3).contains(&reports), "{reports}");
}
