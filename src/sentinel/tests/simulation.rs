//! What must hold of a group of Sentinels, whatever happens to it; see [`super::world`].
//!
//! `RUFOUS_SENTINEL_SEEDS` sets how many histories are played, `RUFOUS_SEED` the first one's seed.

use super::world::{Peer, World};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How long the group has to agree again once all is well: a failover that was refused is tried
/// again after twice its time, and a replica that is somewhere else is called back after it.
const HEALING_MS: u64 = 120_000;

#[test]
fn a_group_fails_a_dead_master_over_and_takes_it_back_as_a_replica() {
    let mut world = World::new(1, 3, 3, 2);
    world.run(15_000);
    assert_eq!(world.disagreement(), None);
    world.kill_server(0);
    world.run(15_000);
    assert_ne!(world.master_told(0), 7000, "somebody else is the master");
    world.start_server(0);
    world.run(HEALING_MS);
    assert_eq!((world.disagreement(), world.failovers()), (None, 1));
    assert_eq!(world.faults, Vec::<String>::new());
}

#[test]
fn without_a_majority_nobody_fails_over() {
    let mut world = World::new(2, 5, 3, 2);
    world.run(15_000);
    (0..3).for_each(|index| world.kill(index));
    world.kill_server(0);
    world.run(60_000);
    assert_eq!((world.master_told(3), world.master_told(4), world.failovers()), (7000, 7000, 0));
    (0..3).for_each(|index| world.start(index));
    world.run(60_000);
    assert_eq!(world.failovers(), 1);
    world.start_server(0);
    world.run(HEALING_MS);
    assert_eq!((world.disagreement(), &world.faults), (None, &Vec::new()));
}

#[test]
fn who_cannot_write_its_votes_gives_none() {
    let mut world = World::new(3, 3, 3, 2);
    world.run(15_000);
    world.nodes[1].can_save = false;
    world.nodes[2].can_save = false;
    world.kill_server(0);
    world.run(60_000);
    assert_eq!(world.failovers(), 0, "one vote of three is no majority");
    world.nodes[1].can_save = true;
    world.run(60_000);
    assert_eq!((world.failovers(), &world.faults), (1, &Vec::new()));
}

/// Something bad, or the end of it.
fn disturb(world: &mut World) {
    let sentinels = world.nodes.len() as u64;
    let servers = world.servers.len() as u64;
    let (node, server) = (world.prng.below(sentinels) as usize, world.prng.below(servers) as usize);
    match world.prng.below(10) {
        0 if world.nodes[node].machine.is_some() => world.kill(node),
        0 | 1 if world.nodes[node].machine.is_none() => world.start(node),
        2 | 3 if world.servers[server].is_up => world.kill_server(server),
        2..=4 if !world.servers[server].is_up => world.start_server(server),
        5 => _ = world.deaf.insert((node, Peer::Server(server))),
        6 => {
            let other = world.prng.below(sentinels) as usize;
            world.deaf.insert((node, Peer::Sentinel(other)));
        }
        7 => world.deaf.clear(),
        8 => world.cut_some(),
        9 => world.nodes[node].stalls_until_ms = world.now_ms + world.prng.below(6000),
        _ => world.nodes[node].can_save = !world.nodes[node].can_save,
    }
}

fn heal(world: &mut World) {
    world.deaf.clear();
    world.delay_ms = 20;
    for index in 0..world.nodes.len() {
        world.nodes[index].can_save = true;
        if world.nodes[index].machine.is_none() {
            world.start(index);
        }
    }
    for index in 0..world.servers.len() {
        if !world.servers[index].is_up {
            world.start_server(index);
        }
    }
}

/// Plays one history; how many failovers it had.
fn play(seed: u64) -> usize {
    let sentinels = [3, 3, 5][seed as usize % 3];
    let mut world = World::new(seed, sentinels, 3, (sentinels / 2 + 1) as u32);
    world.run(12_000);
    world.delay_ms = [20, 100, 700][seed as usize % 3];
    for _ in 0..12 {
        disturb(&mut world);
        let ms = 500 + world.prng.below(6000);
        world.run(ms);
    }
    heal(&mut world);
    let mut left_ms = HEALING_MS * 2;
    while world.disagreement().is_some() && left_ms > 0 {
        world.run(2000);
        left_ms -= 2000;
    }
    assert_eq!(world.disagreement(), None, "seed {seed}");
    assert_eq!(world.faults, Vec::<String>::new(), "seed {seed}");
    world.failovers()
}

#[test]
fn groups_stay_of_one_mind_through_all_that_happens() {
    let (first, count) = (setting("RUFOUS_SEED", 1), setting("RUFOUS_SENTINEL_SEEDS", 40));
    let failovers: usize = (first..first + count).map(play).sum();
    assert!(count < 20 || failovers > 0, "histories without a failover show nothing");
}
