//! Which key goes when there is no room: samples, and a pool of the best that samples have shown.
//!
//! A sample is a whole segment of the trie, some thirty entries for the cost of a few, so the key
//! that goes is older, or less used, than with the five keys that Redis draws; what a sample shows
//! beyond its best stays in the pool for later. A candidate is named by its key and by the stamp
//! that it was seen with. If it has been used since, its stamp is another one, and it is no
//! candidate any more: nobody has to tell the pool of uses and deletions. The alternative refused
//! is an exact list in the order of use: two pointers a key, and two cache misses a read.
//!
//! Keys that expire are found by the index that the active cycle uses, so policies that leave
//! other keys alone need not search for them, and `volatile-ttl` takes exactly the first to
//! expire.

use super::{AccessClock, Db, Entry, Keyspace};
use crate::config::EvictionPolicy;
use crate::structs::prng::Prng;

/// How many candidates are remembered.
const POOL_SIZE: usize = 16;
/// At most so many entries are looked at for one that goes, however many are asked for.
const SAMPLES_MAX: usize = 1024;

/// What became of an attempt to evict a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eviction {
    /// A key is gone.
    Done,
    /// There are keys that may go, and the search for one has come nearer to them.
    Searching,
    /// No key may go.
    Nothing,
}

struct Candidate {
    db: usize,
    key: Vec<u8>,
    /// The access clock of the entry as it was seen.
    stamp: u32,
    is_frequency: bool,
}

/// Candidates, the best one last.
#[derive(Default)]
pub(super) struct Pool {
    candidates: Vec<Candidate>,
}

impl Pool {
    /// Remembers an entry if it is better than some candidate.
    fn offer(&mut self, access: &AccessClock, is_frequency: bool, db: usize, entry: &Entry) {
        let stamp = entry.clock();
        let rank = rank(access, is_frequency, stamp);
        let rank_of = |c: &Candidate| rank_of(access, is_frequency, c);
        let is_full = self.candidates.len() == POOL_SIZE;
        if is_full && self.candidates.first().is_some_and(|worst| rank_of(worst) >= rank) {
            return;
        }
        let is_same = |c: &Candidate| c.stamp == stamp && c.db == db && c.key == entry.key();
        if self.candidates.iter().any(is_same) {
            return;
        }
        // The worst one's memory is used again.
        let mut key = if is_full { self.candidates.remove(0).key } else { Vec::new() };
        key.clear();
        key.extend_from_slice(entry.key());
        let place = self.candidates.partition_point(|c| rank_of(c) < rank);
        self.candidates.insert(place, Candidate { db, key, stamp, is_frequency });
    }
}

/// How good it is that an entry with this stamp goes: seconds since its last use, or how seldom it
/// was used and, among equals, how long ago.
fn rank(access: &AccessClock, is_frequency: bool, stamp: u32) -> u64 {
    if is_frequency { access.disuse(stamp) } else { access.idle_seconds(stamp) }
}

/// The same for a candidate; one that was seen under another policy is the worst.
fn rank_of(access: &AccessClock, is_frequency: bool, candidate: &Candidate) -> u64 {
    if candidate.is_frequency == is_frequency {
        rank(access, is_frequency, candidate.stamp)
    } else {
        0
    }
}

impl Keyspace {
    /// Takes one key away by this policy, looking at `samples` keys or more.
    pub fn evict_one(&mut self, policy: EvictionPolicy, samples: usize) -> Eviction {
        use EvictionPolicy::{AllkeysRandom, NoEviction, VolatileRandom, VolatileTtl};
        if policy == NoEviction || self.eligible(policy) == 0 {
            return Eviction::Nothing;
        }
        let victim = match policy {
            AllkeysRandom => self.any_key(policy),
            VolatileRandom => self.any_expiring_key(policy),
            VolatileTtl => self.first_to_expire(),
            _ => self.least_used(policy, samples.min(SAMPLES_MAX)),
        };
        let Some((db, key)) = victim else { return Eviction::Searching };
        self.evict(db, &key);
        Eviction::Done
    }

    /// How many keys may go by this policy.
    fn eligible(&self, policy: EvictionPolicy) -> u64 {
        self.dbs.iter().map(|db| eligible_in(db, policy)).sum()
    }

    /// A database, each with the chance of its share of the keys that may go.
    fn pick_db(&mut self, policy: EvictionPolicy) -> usize {
        let mut place = self.prng.below(self.eligible(policy));
        for (index, db) in self.dbs.iter().enumerate() {
            let count = eligible_in(db, policy);
            if place < count {
                return index;
            }
            place -= count;
        }
        unreachable!("the place is among the keys that were counted")
    }

    fn any_key(&mut self, policy: EvictionPolicy) -> Option<(usize, Vec<u8>)> {
        let index = self.pick_db(policy);
        let entry = self.dbs[index].random(&mut self.prng)?;
        Some((index, entry.key().to_vec()))
    }

    fn any_expiring_key(&mut self, policy: EvictionPolicy) -> Option<(usize, Vec<u8>)> {
        let index = self.pick_db(policy);
        let mut choice = Prng::seeded(self.prng.next_u64());
        let (mut seen, mut chosen) = (0, None);
        self.dbs[index].sample_expiring(1, &mut self.prng, |entry| {
            seen += 1;
            if choice.below(seen) == 0 {
                chosen = Some(entry.key().to_vec());
            }
        });
        Some((index, chosen?))
    }

    fn first_to_expire(&mut self) -> Option<(usize, Vec<u8>)> {
        // What a database says of its first expiry may be too early until it has been looked at.
        for _ in 0..=self.dbs.len() {
            let all = 0..self.dbs.len();
            let index = all.min_by_key(|index| self.dbs[*index].earliest_deadline_ms())?;
            let entry = self.dbs[index].first_to_expire()?;
            let at_ms = entry.expiry_ms().unwrap_or(u64::MAX);
            let key = entry.key().to_vec();
            if self.dbs.iter().all(|db| db.earliest_deadline_ms() >= at_ms) {
                return Some((index, key));
            }
        }
        None
    }

    /// The best candidate, after one more sample.
    fn least_used(&mut self, policy: EvictionPolicy, samples: usize) -> Option<(usize, Vec<u8>)> {
        let index = self.pick_db(policy);
        let Keyspace { dbs, access, prng, eviction, .. } = self;
        let is_frequency = policy.is_lfu();
        let offer = |entry: &Entry| eviction.offer(access, is_frequency, index, entry);
        if policy.is_volatile() {
            dbs[index].sample_expiring(samples, prng, offer);
        } else {
            dbs[index].sample(samples, prng, offer);
        }
        if self.eviction.candidates.is_empty() && !policy.is_volatile() {
            // The place was empty, as it may be in a table that has shrunk.
            return self.any_key(policy);
        }
        while let Some(candidate) = self.eviction.candidates.pop() {
            if self.is_unchanged(&candidate, policy) {
                return Some((candidate.db, candidate.key));
            }
        }
        None
    }

    /// Whether the key is still there as it was seen.
    fn is_unchanged(&self, candidate: &Candidate, policy: EvictionPolicy) -> bool {
        let entry = self.dbs[candidate.db].get(&self.key(&candidate.key));
        candidate.is_frequency == policy.is_lfu()
            && entry.is_some_and(|entry| {
                let may_go = !policy.is_volatile() || entry.expiry_ms().is_some();
                may_go && entry.clock() == candidate.stamp
            })
    }

    fn evict(&mut self, db: usize, key: &[u8]) {
        let key = self.key(key);
        if self.remove_if_expired(db, &key) {
            return;
        }
        let entry = self.take_out(db, &key).expect("the victim was just seen");
        self.stats.evicted += 1;
        self.changes.evicted(db, key.bytes);
        self.changes.discard(entry);
    }
}

fn eligible_in(db: &Db, policy: EvictionPolicy) -> u64 {
    if policy.is_volatile() { db.expiring() } else { db.len() as u64 }
}

#[cfg(test)]
mod tests;
