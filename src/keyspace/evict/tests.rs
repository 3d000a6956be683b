//! Eviction against models: which keys may go, and how good the choice is beside an ideal one and
//! beside Redis's way of choosing.

use super::*;
use crate::keyspace::entry::NewValue;
use crate::keyspace::{Expiry, HashSecret};
use crate::types::Encoding;
use std::collections::BTreeMap;

const ALL: [EvictionPolicy; 8] = [
    EvictionPolicy::VolatileLru,
    EvictionPolicy::VolatileLfu,
    EvictionPolicy::VolatileRandom,
    EvictionPolicy::VolatileTtl,
    EvictionPolicy::AllkeysLru,
    EvictionPolicy::AllkeysLfu,
    EvictionPolicy::AllkeysRandom,
    EvictionPolicy::NoEviction,
];

const START_MS: u64 = 1_700_000_000_000;

fn keyspace(seed: u64) -> Keyspace {
    let mut space = Keyspace::new(4, HashSecret::new([7; 16]), Prng::seeded(seed));
    set_time(&mut space, START_MS);
    space
}

fn set_time(space: &mut Keyspace, now_ms: u64) {
    space.now_ms = now_ms;
    space.access.set_now(now_ms);
}

fn name(n: u64) -> Vec<u8> {
    format!("key:{n:08}").into_bytes()
}

fn set(space: &mut Keyspace, db: usize, n: u64, expiry: Expiry) {
    let bytes = name(n);
    let key = space.key(&bytes);
    space.keys(db).set_string(&key, NewValue::Bytes(b"v"), Encoding::Embstr, expiry);
}

fn has(space: &Keyspace, db: usize, n: u64) -> bool {
    space.db(db).contains(&name(n))
}

#[test]
fn only_keys_that_may_go_do() {
    for policy in ALL {
        let mut space = keyspace(1);
        for n in 0..300 {
            let db = (n % 3) as usize;
            let expiry = if n % 2 == 0 { Expiry::Never } else { Expiry::AtMs(START_MS + 60_000) };
            set(&mut space, db, n, expiry);
        }
        let (mut done, mut searches) = (0, 0);
        loop {
            match space.evict_one(policy, 5) {
                Eviction::Done => done += 1,
                Eviction::Searching => searches += 1,
                Eviction::Nothing => break,
            }
            assert!(searches < 1000, "{policy:?} does not get on");
        }
        let expected = match policy {
            EvictionPolicy::NoEviction => 0,
            policy if policy.is_volatile() => 150,
            _ => 300,
        };
        assert_eq!((done, space.stats.evicted), (expected, expected), "{policy:?}");
        let left = space.dbs().iter().map(|db| db.len() as u64).sum::<u64>();
        assert_eq!(left, 300 - expected);
        let steady = (0..300).step_by(2).all(|n| has(&space, (n % 3) as usize, n));
        assert_eq!(steady, !matches!(expected, 300), "{policy:?}");
    }
}

#[test]
fn the_first_to_expire_goes_first() {
    let mut space = keyspace(2);
    let mut model = BTreeMap::new();
    let mut prng = Prng::seeded(3);
    for n in 0..5000 {
        let at_ms = START_MS + 1000 + prng.below(1 << 40);
        set(&mut space, (n % 4) as usize, n, Expiry::AtMs(at_ms));
        model.insert(at_ms, n);
        // Expiries that move and go leave bounds behind that promise too much.
        if n % 3 == 0 {
            set(&mut space, (n % 4) as usize, n, Expiry::Never);
            model.remove(&at_ms);
        }
        // They are put off, and brought forward.
        if n % 3 == 1 {
            let moved_ms = START_MS + 1000 + prng.below(1 << 40);
            set(&mut space, (n % 4) as usize, n, Expiry::AtMs(moved_ms));
            model.remove(&at_ms);
            model.insert(moved_ms, n);
        }
    }
    while let Some((_, n)) = model.pop_first() {
        let mut evict = || space.evict_one(EvictionPolicy::VolatileTtl, 5);
        let searched = (0..10_000).any(|_| evict() != Eviction::Searching);
        assert!(searched, "{n} is not found");
        assert!(!has(&space, (n % 4) as usize, n), "{n} expires first");
    }
    assert_eq!(space.evict_one(EvictionPolicy::VolatileTtl, 5), Eviction::Nothing);
}

#[test]
fn few_expiring_keys_among_many_are_found_soon() {
    for policy in ALL.into_iter().filter(|policy| policy.is_volatile()) {
        let mut space = keyspace(4);
        for n in 0..100_000 {
            let expires = n % 10_000 == 77;
            let expiry = if expires { Expiry::AtMs(START_MS + 5000) } else { Expiry::Never };
            set(&mut space, 0, n, expiry);
        }
        // Segments have been split after the keys came, so many promise a key and have none. What
        // was found out of them once is not looked at again.
        let mut searches = 0;
        for left in (0..10).rev() {
            while space.evict_one(policy, 5) == Eviction::Searching {
                searches += 1;
                assert!(searches <= 64, "{policy:?} does not find the last {left}");
            }
            assert_eq!(space.db(0).expiring(), left);
        }
    }
}

#[test]
fn a_candidate_that_was_used_since_stays() {
    let mut space = keyspace(5);
    for n in 0..20 {
        set(&mut space, 0, n, Expiry::Never);
        set_time(&mut space, START_MS + 10_000 * (n + 1));
    }
    assert_eq!(space.evict_one(EvictionPolicy::AllkeysLru, 5), Eviction::Done);
    assert!(!has(&space, 0, 0));
    // Its successors are in the pool by now; they are used again.
    for n in 1..10 {
        let bytes = name(n);
        let key = space.key(&bytes);
        assert!(space.keys(0).read(&key).is_some());
    }
    for n in 10..20 {
        assert_eq!(space.evict_one(EvictionPolicy::AllkeysLru, 5), Eviction::Done);
        assert!(!has(&space, 0, n), "{n} is the least recently used");
    }
}

#[test]
fn a_key_whose_time_has_come_expires_instead() {
    let mut space = keyspace(6);
    set(&mut space, 0, 1, Expiry::AtMs(START_MS + 1));
    set_time(&mut space, START_MS + 1000);
    assert_eq!(space.evict_one(EvictionPolicy::AllkeysLru, 5), Eviction::Done);
    assert_eq!((space.stats.evicted, space.stats.expired), (0, 1));
}

/// Redis's choice, by description: five keys a time, and a pool of sixteen from which the oldest
/// goes. Keys are their own last use.
struct Reference {
    pool: Vec<u64>,
}

impl Reference {
    fn evict(&mut self, keys: &mut Vec<u64>, prng: &mut Prng) -> u64 {
        for _ in 0..5 {
            let key = keys[prng.below(keys.len() as u64) as usize];
            if !self.pool.contains(&key) {
                self.pool.push(key);
            }
        }
        self.pool.sort_unstable();
        self.pool.truncate(16);
        let oldest = self.pool.remove(0);
        let place = keys.iter().position(|key| *key == oldest).expect("nobody else deletes");
        keys.swap_remove(place);
        oldest
    }
}

/// How far down the order of use the victims stand: 0 for the oldest, 1 for the newest.
fn mean_rank(victims: &[u64], count: u64) -> f64 {
    let mut left: Vec<u64> = (0..count).collect();
    let ranks = victims.iter().map(|victim| {
        let rank = left.binary_search(victim).expect("each key goes once");
        left.remove(rank);
        rank as f64 / left.len() as f64
    });
    ranks.sum::<f64>() / victims.len() as f64
}

#[test]
fn victims_are_older_than_those_of_five_samples() {
    const COUNT: u64 = 20_000;
    const VICTIMS: usize = 5000;
    let mut prng = Prng::seeded(8);
    let mut keys: Vec<u64> = (0..COUNT).collect();
    let mut reference = Reference { pool: Vec::new() };
    let theirs: Vec<u64> = (0..VICTIMS).map(|_| reference.evict(&mut keys, &mut prng)).collect();

    let mut space = keyspace(9);
    for n in 0..COUNT {
        set_time(&mut space, START_MS + n * 1000);
        set(&mut space, 0, n, Expiry::Never);
    }
    let mut ours = Vec::new();
    for _ in 0..VICTIMS {
        let victim = space.least_used(EvictionPolicy::AllkeysLru, 5).expect("there are keys");
        let digits = std::str::from_utf8(&victim.1[4..]).expect("digits");
        ours.push(digits.parse().expect("digits"));
        space.evict(victim.0, &victim.1);
    }
    let (ours, theirs) = (mean_rank(&ours, COUNT), mean_rank(&theirs, COUNT));
    assert!(ours < 0.03, "far better than one of twenty: {ours}");
    assert!(ours < theirs, "{ours} beside {theirs}");
}

#[test]
fn the_seldom_used_go_before_the_often_used() {
    let mut space = keyspace(10);
    space.access.policy = crate::keyspace::AccessPolicy::Frequency;
    for n in 0..2000 {
        set(&mut space, 0, n, Expiry::Never);
    }
    // Every tenth key is used a hundred times.
    for n in (0..2000).step_by(10) {
        let bytes = name(n);
        let key = space.key(&bytes);
        for _ in 0..100 {
            space.keys(0).read(&key);
        }
    }
    for _ in 0..1000 {
        assert_eq!(space.evict_one(EvictionPolicy::AllkeysLfu, 5), Eviction::Done);
    }
    let kept = (0..2000).step_by(10).filter(|n| has(&space, 0, *n)).count();
    assert_eq!(kept, 200, "all of the often used keys are there");
}
