//! Replicas that take over, by votes and when they are told to.

use super::slot;
use super::world::{TIMEOUT_MS, World};
use crate::cluster::admin::{Done, Refusal, Request};
use crate::cluster::flags::Flags;
use crate::cluster::id::NodeId;
use crate::cluster::machine::Settings;
use crate::cluster::manual::Failover;

impl World {
    fn fail_over(&mut self, number: usize, how: Failover) -> Result<Done, Refusal> {
        self.ask(number, Request::Failover { how, user: "id=3".to_owned() })
    }

    pub fn owner_of(&self, number: usize, of: u64) -> Option<NodeId> {
        let table = self.peers[number].cluster.table();
        table.owner(slot(of)).map(|key| table.node(key).id())
    }

    /// All who run see that `owner` has the slot, and serve.
    fn all_have_owner(&self, of: u64, owner: usize) -> bool {
        let id = self.id(owner);
        let running = (0..self.peers.len()).filter(|number| !self.peers[*number].is_paused);
        let sees = |number: usize| {
            self.owner_of(number, of) == Some(id) && self.peers[number].cluster.is_up()
        };
        running.into_iter().all(sees)
    }

    fn said(&self, number: usize, what: &str) -> usize {
        self.peers[number].log.iter().filter(|line| line.contains(what)).count()
    }
}

#[test]
fn a_replica_takes_over_from_a_primary_that_is_down() {
    for seed in 0..8 {
        let mut world = World::with_replicas(3, 1, seed);
        world.write(slot(1)).expect("it is served");
        world.run_for(500);
        world.peers[0].is_paused = true;
        world.run_until(TIMEOUT_MS * 4, |world| world.all_have_owner(1, 3));
        assert!(world.said(3, "Failover election won: I'm the new primary.") == 1);
        assert_eq!(world.writes_of(3, slot(1)).len(), 1);
        // The old one finds itself a replica.
        world.peers[0].is_paused = false;
        world.run_until(TIMEOUT_MS * 6, World::agrees);
        assert!(!world.peers[0].is_primary() && world.peers[3].is_primary());
        assert_eq!(world.peers[0].replicates, Some(("10.0.0.3".to_owned(), true)));
    }
}

impl World {
    /// How long its slots are served by nobody when node 0 goes, be it that its connections end
    /// or that it only says nothing any more.
    fn time_to_take_over(&mut self, go: fn(&mut World, usize)) -> u64 {
        let primaries = self.peers.iter().filter(|peer| peer.is_primary()).count();
        let moment_ms = self.draw(2000) as u64;
        self.run_for(moment_ms);
        go(self, 0);
        self.run_until(TIMEOUT_MS * 4, |world| {
            let heirs = (primaries..world.peers.len()).step_by(primaries);
            heirs.into_iter().any(|heir| world.all_have_owner(1, heir))
        })
    }
}

/// A ping goes out when the last pong is half a timeout old, and is open for a timeout. What comes
/// after that is agreed upon and elected at once.
#[test]
fn a_primary_that_is_gone_is_replaced_in_time() {
    for seed in 0..60 {
        let replicas = 1 + seed as usize % 2;
        let with_disk = |disk_ms| {
            let mut world = World::with_replicas(3, replicas, seed);
            world.disk_ms = disk_ms;
            world
        };
        let disk_ms = [5, 20, 60][seed as usize % 3];
        let hung_ms = with_disk(disk_ms).time_to_take_over(|world, number| {
            world.peers[number].is_paused = true;
        });
        assert!(hung_ms <= TIMEOUT_MS * 3 / 2 + 500, "{hung_ms} ms, seed {seed}");
        // That its connections have ended is seen at once.
        let killed_ms = with_disk(disk_ms).time_to_take_over(World::kill);
        assert!(killed_ms <= TIMEOUT_MS + 700, "{killed_ms} ms, seed {seed}");
    }
}

/// Who was down as a replica and takes over is heard to be up.
#[test]
fn who_takes_over_while_it_is_held_to_be_down_stays_primary() {
    for seed in 0..20 {
        let mut world = World::with_replicas(3, 2, seed);
        world.kill(3);
        world.run_until(TIMEOUT_MS * 4, |world| world.all_see(3, |node| node.has(Flags::FAIL)));
        world.peers[3].is_paused = false;
        let ip = world.peers[3].ip.clone();
        world.restart(3, &ip);
        // By now it speaks to the others, who have yet to reach it.
        world.run_for(200);
        world.fail_over(3, Failover::Takeover).expect("it is a replica");
        world.run_until(TIMEOUT_MS * 6, World::agrees);
        assert!(world.peers[3].is_primary());
        let asked = world.peers.iter().flat_map(|peer| &peer.log);
        assert_eq!(asked.filter(|line| line.contains("Starting a failover election")).count(), 0);
    }
}

#[test]
fn the_replica_with_most_data_takes_over() {
    for seed in 0..8 {
        let mut world = World::with_replicas(3, 3, seed);
        // Of the three replicas of node 0 only node 6 is up to date.
        for (replica, lag_ms) in [(3, 60_000), (9, 60_000)] {
            world.peers[replica].lag_ms = lag_ms;
        }
        world.run_for(200);
        (0..5).for_each(|_| _ = world.write(slot(1)));
        world.run_for(4000);
        world.peers[0].is_paused = true;
        world.run_until(TIMEOUT_MS * 5, |world| world.all_have_owner(1, 6));
        assert_eq!(world.writes_of(6, slot(1)).len(), 5);
        assert!(world.said(6, "(rank #0, offset 6)") == 1, "{:?}", world.peers[6].log);
        world.peers[0].is_paused = false;
        world.run_until(TIMEOUT_MS * 6, World::agrees);
    }
}

#[test]
fn data_that_is_too_old_is_no_reason_to_take_over() {
    let mut world = World::with_replicas(3, 1, 1);
    world.configure(Settings { replica_validity_factor: 1, ..world.settings.clone() });
    // The stream is broken for longer than 10 s + T + T.
    world.peers[3].replicates = None;
    world.run_for(20_000);
    world.peers[0].is_paused = true;
    world.run_for(TIMEOUT_MS * 10);
    assert!(!world.peers[3].is_primary());
    let said = world.said(3, "Disconnected from primary for longer than allowed.");
    assert!((1..=3).contains(&said), "{said}");
    world.configure(Settings { replica_validity_factor: 0, ..world.settings.clone() });
    world.run_until(TIMEOUT_MS * 4, |world| world.all_have_owner(1, 3));
}

#[test]
fn a_replica_that_never_takes_over_is_known_to_others() {
    let mut world = World::with_replicas(3, 2, 2);
    let never = Settings { never_fails_over: true, ..world.settings.clone() };
    world.peers[3].cluster.set_settings(never);
    world.run_for(3000);
    assert!(world.peers[6].cluster.table().iter().any(|(_, node)| node.has(Flags::NOFAILOVER)));
    world.peers[0].is_paused = true;
    world.run_until(TIMEOUT_MS * 4, |world| world.all_have_owner(1, 6));
    // Who is asked by hand does it all the same.
    world.peers[0].is_paused = false;
    world.run_until(TIMEOUT_MS * 6, World::agrees);
    world.fail_over(3, Failover::Plain).expect("it is a replica");
    world.run_until(5000, |world| world.all_have_owner(1, 3));
}

#[test]
fn without_the_majority_nobody_takes_over() {
    let mut world = World::with_replicas(3, 1, 3);
    [0, 1].into_iter().for_each(|number| world.peers[number].is_paused = true);
    world.run_for(TIMEOUT_MS * 20);
    assert!(!world.peers[3].is_primary() && !world.peers[4].is_primary());
    assert!(!world.peers[2].cluster.is_up());
    [0, 1].into_iter().for_each(|number| world.peers[number].is_paused = false);
    world.run_until(TIMEOUT_MS * 10, World::agrees);
}

/// Several primaries go at once: their replicas ask for the same votes.
#[test]
fn split_votes_are_tried_again_at_once() {
    let mut slow = Vec::new();
    for seed in 0..12 {
        let mut world = World::with_replicas(5, 2, seed);
        world.delay_ms = 400;
        [0, 1].into_iter().for_each(|number| world.peers[number].is_paused = true);
        let is_served = |world: &World, of: u64, first: usize| {
            world.all_have_owner(of, first + 5) || world.all_have_owner(of, first + 10)
        };
        let took_ms = world.run_until(TIMEOUT_MS * 20, |world| {
            is_served(world, 1, 0) && is_served(world, 4000, 1)
        });
        if took_ms > TIMEOUT_MS * 3 / 2 + 6 * 1000 {
            slow.push((seed, took_ms));
        }
    }
    assert!(slow.len() <= 2, "{slow:?}");
}

#[test]
fn a_failover_by_hand_loses_no_write() {
    for seed in 0..10 {
        let mut world = World::with_replicas(3, 1, seed);
        let (mut accepted, mut gap_ms) = (0, 0);
        world.fail_over(3, Failover::Plain).expect("it is a replica");
        for _ in 0..300 {
            world.run_for(10);
            match world.write(slot(1)) {
                Some(_) => accepted += 1,
                None => gap_ms += 10,
            }
        }
        assert!(world.all_have_owner(1, 3), "seed {seed}");
        assert_eq!(world.writes_of(3, slot(1)).len(), accepted, "seed {seed}");
        assert!(gap_ms < 600, "{gap_ms} ms");
        // Who was paused is not any more.
        assert_eq!(world.peers[0].writes_paused_until_ms, 0);
        assert!(world.said(3, "All primary replication stream processed") == 1);
        world.run_until(TIMEOUT_MS * 3, World::agrees);
    }
}

#[test]
fn failovers_by_hand_may_follow_each_other() {
    let mut world = World::with_replicas(3, 1, 4);
    for (new, old) in [(3, 0), (0, 3), (3, 0)] {
        world.fail_over(new, Failover::Plain).expect("it is a replica");
        world.run_until(TIMEOUT_MS, |world| {
            world.all_have_owner(1, new) && !world.peers[old].is_primary()
        });
    }
}

/// Its heir may not have heard yet that it is its replica.
#[test]
fn who_has_just_turned_to_its_heir_may_take_over_from_it() {
    for seed in 0..8 {
        let mut world = World::with_replicas(3, 1, seed);
        world.fail_over(3, Failover::Takeover).expect("it is a replica");
        world.run_until(TIMEOUT_MS, |world| !world.peers[0].is_primary());
        world.fail_over(0, Failover::Plain).expect("it is a replica");
        world.run_until(TIMEOUT_MS, |world| world.all_have_owner(1, 0));
    }
}

#[test]
fn a_failover_by_hand_that_takes_too_long_is_given_up_by_both() {
    let mut world = World::with_replicas(3, 1, 5);
    world.peers[3].lag_ms = 60_000;
    world.write(slot(1)).expect("it is served");
    assert_eq!(world.fail_over(3, Failover::Plain), Ok(Done::Ok));
    world.run_for(3000);
    assert_eq!(world.write(slot(1)), None);
    // To ask again does not begin it anew.
    assert_eq!(world.fail_over(3, Failover::Plain), Ok(Done::Ok));
    world.run_for(3000);
    for number in [0, 3] {
        assert_eq!(world.said(number, "Manual failover timed out."), 1);
    }
    assert_eq!(world.write(slot(1)), Some(0));
    assert_eq!(world.said(3, "Start of election"), 0);
    // With the offset of nobody but itself it need not wait.
    world.fail_over(3, Failover::Force).expect("it is a replica");
    world.run_until(TIMEOUT_MS, |world| world.all_have_owner(1, 3));
}

#[test]
fn an_offset_of_nothing_is_an_offset() {
    let mut world = World::with_replicas(3, 1, 6);
    [0, 3].into_iter().for_each(|number| world.peers[number].offset = 0);
    world.fail_over(3, Failover::Plain).expect("it is a replica");
    world.run_until(TIMEOUT_MS, |world| world.all_have_owner(1, 3));
}

#[test]
fn a_takeover_needs_nobody() {
    let mut world = World::with_replicas(3, 1, 7);
    (0..3).for_each(|number| world.peers[number].is_paused = true);
    world.run_for(TIMEOUT_MS * 5);
    assert_eq!(world.fail_over(3, Failover::Plain), Err(Refusal::PrimaryDown));
    for number in 3..6 {
        world.fail_over(number, Failover::Takeover).expect("it is a replica");
    }
    world.is_misled = true;
    world.run_until(TIMEOUT_MS * 4, |world| world.all_have_owner(1, 3));
    (0..3).for_each(|number| world.peers[number].is_paused = false);
    world.run_until(TIMEOUT_MS * 8, World::agrees);
    assert!((0..3).all(|number| !world.peers[number].is_primary()));
}

#[test]
fn only_replicas_fail_over() {
    let mut world = World::with_replicas(1, 1, 8);
    for how in [Failover::Plain, Failover::Force, Failover::Takeover] {
        let refusal = world.fail_over(0, how).expect_err("it is a primary");
        assert_eq!(refusal.to_string(), "You should send CLUSTER FAILOVER to a replica");
    }
}

/// A vote that is not in the file was never given; [`World`] looks for two of one epoch.
#[test]
fn who_begins_again_does_not_vote_twice() {
    for seed in 0..20 {
        let mut world = World::with_replicas(3, 2, seed);
        world.disk_ms = 300;
        world.peers[0].is_paused = true;
        for _ in 0..60 {
            world.run_for(100);
            let number = 1 + world.draw(2);
            if world.draw(4) == 0 {
                let ip = world.peers[number].ip.clone();
                world.restart(number, &ip);
            }
        }
        world.peers[0].is_paused = false;
        world.run_until(TIMEOUT_MS * 20, World::agrees);
    }
}

/// One that has nothing yet says so, and does not come before one that has.
#[test]
fn an_empty_replica_does_not_take_over_before_a_full_one() {
    for seed in 0..8 {
        let mut world = World::with_replicas(3, 2, seed);
        world.configure(Settings { replica_validity_factor: 0, ..world.settings.clone() });
        (0..5).for_each(|_| _ = world.write(slot(1)));
        world.run_for(1000);
        world.peers[0].is_paused = true;
        let ip = world.peers[3].ip.clone();
        world.restart(3, &ip);
        world.run_until(TIMEOUT_MS * 5, |world| world.all_have_owner(1, 6));
        assert_eq!(world.writes_of(6, slot(1)).len(), 5);
    }
}
