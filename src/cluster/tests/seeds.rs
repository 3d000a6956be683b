//! Many clusters for a short time, and a big one for a long time.
//!
//! CLUSTER_SEED and CLUSTER_SEEDS say with which seed to begin and how many to try, CLUSTER_NODES
//! and CLUSTER_SECONDS how big the big one is and how long it runs.

use super::slot;
use super::world::{TIMEOUT_MS, World};
use crate::cluster::admin::Request;
use crate::cluster::machine::Settings;
use crate::cluster::manual::Failover;
use crate::cluster::setslot::{By, SetSlot};
use crate::cluster::wire::Kind;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a seed says when it fails, and only then.
pub struct Named(pub u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was CLUSTER_SEED={}", self.0);
        }
    }
}

impl World {
    /// Somebody who administers it does something; whether that may be done the nodes say.
    fn administer(&mut self) {
        let number = self.draw(self.peers.len());
        let other = self.draw(self.peers.len());
        let other = self.id(other);
        if self.peers[number].is_paused {
            return;
        }
        let of = self.draw(16384) as u64;
        let request = match self.draw(8) {
            0 => Request::Failover { how: Failover::Force, user: String::new() },
            1 | 2 => Request::Failover { how: Failover::Plain, user: String::new() },
            3 => Request::Replicate(other),
            4 => {
                Request::SetSlot { slot: slot(of), how: SetSlot::Migrating(other), by: By::Client }
            }
            5 => {
                Request::SetSlot { slot: slot(of), how: SetSlot::Importing(other), by: By::Client }
            }
            6 => Request::SetSlot { slot: slot(of), how: SetSlot::Stable, by: By::Client },
            _ => return,
        };
        _ = self.ask(number, request);
    }
}

/// Whatever happens no vote is given twice, no slot has two owners of one epoch, no minority serves
/// for long ([`World`] looks for these at each step), and when it is over all agree.
#[test]
fn whatever_happens_all_agree_when_it_is_over() {
    let (first, count) = (setting("CLUSTER_SEED", 0), setting("CLUSTER_SEEDS", 1000));
    for seed in first..first + count {
        let _named = Named(seed);
        let (primaries, replicas) = (3 + seed as usize % 3, 1 + seed as usize % 2);
        let mut world = World::with_replicas(primaries, replicas, seed);
        world.loss = 30;
        world.delay_ms = 100;
        world.disk_ms = [5, 50, 300][seed as usize % 3];
        for _ in 0..40 {
            world.hurt();
            world.administer();
            (0..4).for_each(|_| _ = world.write(slot(1)));
            world.run_for(500 + 20 * seed % 1000);
        }
        world.heal();
        world.run_until(TIMEOUT_MS * 30, World::agrees);
    }
}

#[test]
fn a_big_cluster_runs_for_long() {
    let (count, seconds) = (setting("CLUSTER_NODES", 60), setting("CLUSTER_SECONDS", 60));
    let began = std::time::Instant::now();
    let mut world = World::known(count as usize, 1);
    world.configure(Settings { node_timeout_ms: 15_000, ..world.settings.clone() });
    world.check_ms = u64::MAX;
    world.run_for(seconds * 1000);
    assert!(world.agrees());
    let sent = |world: &World, kind| {
        world.peers.iter().map(|peer| peer.cluster.traffic().sent(kind)).sum::<u64>()
    };
    let packets: u64 = Kind::ALL.iter().map(|kind| sent(&world, *kind)).sum();
    let took = began.elapsed();
    eprintln!("{count} nodes, {seconds} s, {packets} packets: {took:?}");
}
