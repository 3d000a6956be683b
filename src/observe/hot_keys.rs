//! The keys that are used most, and the largest ones, from a sample of what goes by.
//!
//! Three rankings (calls, executor time, bytes on the wire) each hold a few counters. A key that
//! has one is counted; another takes the place of the least with a chance that grows with its own
//! weight and shrinks with what that counter has reached. So keys that are seldom used hardly ever
//! push one out, and those that are used often soon stay. Exact counts for all keys were refused:
//! they would cost a second keyspace. So was
//! space-saving, which gives every rare key a counter, with a copy of the key, as it goes by.
//!
//! Commands are sampled at random distances, each standing for all between it and the one before;
//! those that take long are all counted, each for itself, so that a heavy command that comes once a
//! second is not missed. What is seen fades by half in a minute.
//!
//! Invariant: a ranking never holds a key twice, and never more than its room.

use crate::keyspace::Key;
use crate::structs::prng::Prng;
use crate::structs::trie::ItemHash as _;
use crate::types::Kind;

/// One command in so many is looked at.
pub const SAMPLE_MEAN: u32 = 32;

/// A command that takes so long is always looked at.
const HEAVY_NS: u64 = 50_000;

/// Counters of a ranking: twice what anybody asks for, since those at the end change places.
const ROOM: usize = 128;

/// What is seen loses half its weight in this time.
pub const HALF_LIFE_SECONDS: u64 = 60;
const FADE_INTERVAL_MS: u64 = 5_000;

/// The largest keys of a type that are remembered.
pub const BIG_PER_KIND: usize = 8;

/// A key below this many bytes is not large, whatever the others are.
const BIG_BYTES_MIN: usize = 1024;

/// A key and the database that it lies in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedKey {
    pub db: usize,
    pub key: Box<[u8]>,
}

/// A key as it is named by a command, with its hash.
#[derive(Clone, Copy)]
pub struct UsedKey<'k> {
    pub db: usize,
    pub key: Key<'k>,
}

/// What one command cost for one key.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    pub calls: f64,
    pub ns: f64,
    pub bytes: f64,
}

impl Cost {
    fn times(self, weight: f64) -> Cost {
        Cost { calls: self.calls * weight, ns: self.ns * weight, bytes: self.bytes * weight }
    }

    fn add(&mut self, other: Cost) {
        self.calls += other.calls;
        self.ns += other.ns;
        self.bytes += other.bytes;
    }
}

/// The keys with the most weight by one measure.
#[derive(Default)]
pub struct Ranking {
    hashes: Vec<u64>,
    weights: Vec<f64>,
    keys: Vec<PlacedKey>,
    /// Where the least weight is, when all room is taken.
    least: usize,
}

impl Ranking {
    fn add(&mut self, used: UsedKey<'_>, weight: f64, prng: &mut Prng) {
        let hash = used.key.hash().bits() ^ (used.db as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let is_it = |at: &usize| {
            let held = &self.keys[*at];
            held.db == used.db && *held.key == *used.key.bytes
        };
        let found = position(&self.hashes, hash).filter(is_it);
        if let Some(at) = found {
            self.weights[at] += weight;
            if at == self.least {
                self.find_least();
            }
        } else if self.keys.len() < ROOM {
            self.hashes.push(hash);
            self.weights.push(weight);
            self.keys.push(PlacedKey { db: used.db, key: used.key.bytes.into() });
            self.find_least();
        } else {
            let sum = self.weights[self.least] + weight;
            if prng.f64_unit() * sum < weight {
                self.hashes[self.least] = hash;
                self.weights[self.least] = sum;
                self.keys[self.least] = PlacedKey { db: used.db, key: used.key.bytes.into() };
                self.find_least();
            }
        }
    }

    fn find_least(&mut self) {
        // Of numbers that are not negative, bits have the order.
        let least = self.weights.iter().enumerate().min_by_key(|(_, weight)| weight.to_bits());
        self.least = least.map_or(0, |(at, _)| at);
    }

    fn fade(&mut self, factor: f64) {
        self.weights.iter_mut().for_each(|weight| *weight *= factor);
    }

    /// The first `count` keys with their weights, the most first.
    pub fn top(&self, count: usize) -> Vec<(&PlacedKey, f64)> {
        let mut all: Vec<(&PlacedKey, f64)> =
            self.keys.iter().zip(self.weights.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.key.cmp(&b.0.key)));
        all.truncate(count);
        all
    }
}

/// Where a hash is. Without a way out in the middle of a row, one instruction compares several.
fn position(hashes: &[u64], hash: u64) -> Option<usize> {
    const ROW: usize = 16;
    let is_in = |row: &[u64]| row.iter().fold(false, |is_in, held| is_in | (*held == hash));
    let row = hashes.chunks(ROW).position(is_in)?;
    let behind = &hashes[row * ROW..];
    behind.iter().position(|held| *held == hash).map(|at| row * ROW + at)
}

/// Rankings by every measure.
#[derive(Default)]
pub struct Rankings {
    pub by_calls: Ranking,
    pub by_time: Ranking,
    pub by_bytes: Ranking,
    /// What all keys together have cost.
    pub total: Cost,
}

impl Rankings {
    fn add(&mut self, used: UsedKey<'_>, cost: Cost, prng: &mut Prng) {
        self.total.add(cost);
        for (ranking, weight) in [
            (&mut self.by_calls, cost.calls),
            (&mut self.by_time, cost.ns),
            (&mut self.by_bytes, cost.bytes),
        ] {
            if weight > 0.0 {
                ranking.add(used, weight, prng);
            }
        }
    }

    fn fade(&mut self, factor: f64) {
        self.total = self.total.times(factor);
        for ranking in [&mut self.by_calls, &mut self.by_time, &mut self.by_bytes] {
            ranking.fade(factor);
        }
    }
}

/// A measurement that somebody started (HOTKEYS START).
pub struct Session {
    pub rankings: Rankings,
    pub has_time: bool,
    pub has_bytes: bool,
    /// How many keys it shows.
    pub count: usize,
    /// A command in so many is looked at.
    pub ratio: u64,
    pub started_unix_ms: u64,
    pub started_mono_ms: u64,
    /// When it ends by itself.
    pub until_mono_ms: Option<u64>,
    /// The server's totals at its start, and then what they have grown by when it ended.
    pub totals: Totals,
    pub ended: Option<Ended>,
}

/// What the whole process has spent.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Totals {
    pub command_us: u64,
    pub net_bytes: u64,
    pub user_ms: u64,
    pub system_ms: u64,
}

impl Totals {
    pub fn since(self, start: Totals) -> Totals {
        Totals {
            command_us: self.command_us.saturating_sub(start.command_us),
            net_bytes: self.net_bytes.saturating_sub(start.net_bytes),
            user_ms: self.user_ms.saturating_sub(start.user_ms),
            system_ms: self.system_ms.saturating_sub(start.system_ms),
        }
    }
}

/// How a measurement stood when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub mono_ms: u64,
    pub spent: Totals,
}

/// A key that was seen to be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigKey {
    pub key: PlacedKey,
    pub bytes: usize,
}

/// The largest keys seen, by type.
#[derive(Default)]
pub struct BigKeys {
    of_kind: [Vec<BigKey>; Kind::ALL.len()],
}

impl BigKeys {
    /// A key has so many bytes now.
    pub fn see(&mut self, kind: Kind, db: usize, key: &[u8], bytes: usize) {
        let held = &mut self.of_kind[kind as usize];
        let is_it = |big: &BigKey| big.key.db == db && *big.key.key == *key;
        if let Some(at) = held.iter().position(is_it) {
            held[at].bytes = bytes;
            if bytes < BIG_BYTES_MIN {
                held.swap_remove(at);
            }
            return;
        }
        if bytes < BIG_BYTES_MIN {
            return;
        }
        let big = || BigKey { key: PlacedKey { db, key: key.into() }, bytes };
        if held.len() < BIG_PER_KIND {
            held.push(big());
        } else if let Some(least) = held.iter_mut().min_by_key(|big| big.bytes)
            && least.bytes < bytes
        {
            *least = big();
        }
    }

    /// Looks at all keys again: `bytes_of` tells their sizes now, `None` for one that is gone or
    /// of another type.
    pub fn refresh(&mut self, bytes_of: impl Fn(Kind, &PlacedKey) -> Option<usize>) {
        for kind in Kind::ALL {
            self.of_kind[kind as usize].retain_mut(|big| match bytes_of(kind, &big.key) {
                Some(bytes) => {
                    big.bytes = bytes;
                    bytes >= BIG_BYTES_MIN
                }
                None => false,
            });
        }
    }

    /// The keys of a type, the largest first.
    pub fn top(&self, kind: Kind) -> Vec<&BigKey> {
        let mut all: Vec<&BigKey> = self.of_kind[kind as usize].iter().collect();
        all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.key.key.cmp(&b.key.key)));
        all
    }
}

/// What one looked-at command stands for, in the two records; zero where it is not recorded.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Sample {
    weight: f64,
    session_weight: f64,
}

pub struct HotKeys {
    pub rankings: Rankings,
    pub session: Option<Box<Session>>,
    pub big: BigKeys,
    until_next: u32,
    /// Somebody measures and the measurement has not ended.
    measures: bool,
    faded_mono_ms: u64,
    /// Since when the record is kept.
    since_mono_ms: u64,
    prng: Prng,
}

impl HotKeys {
    pub fn new(prng: Prng) -> HotKeys {
        HotKeys {
            rankings: Rankings::default(),
            session: None,
            big: BigKeys::default(),
            until_next: 1,
            measures: false,
            faded_mono_ms: 0,
            since_mono_ms: 0,
            prng,
        }
    }

    /// Whether the command that took so long is to be looked at, and for how many it stands.
    #[inline]
    pub fn sample(&mut self, elapsed_ns: u64) -> Option<Sample> {
        self.until_next -= 1;
        if self.until_next == 0 || elapsed_ns >= HEAVY_NS || self.measures {
            return self.draw(elapsed_ns);
        }
        None
    }

    #[cold]
    fn draw(&mut self, elapsed_ns: u64) -> Option<Sample> {
        let mut sample = Sample::default();
        if self.until_next == 0 {
            sample.weight = f64::from(SAMPLE_MEAN);
            // Random distances: a fixed one would always meet the same command of a pipeline.
            self.until_next = 1 + self.prng.below(u64::from(2 * SAMPLE_MEAN - 1)) as u32;
        }
        if elapsed_ns >= HEAVY_NS {
            sample.weight = 1.0;
        }
        if self.measures
            && let Some(session) = &self.session
            && self.prng.below(session.ratio) == 0
        {
            sample.session_weight = 1.0;
        }
        (sample != Sample::default()).then_some(sample)
    }

    /// Records what a looked-at command cost for one of its keys.
    pub fn record(&mut self, used: UsedKey<'_>, cost: Cost, sample: Sample) {
        if sample.weight > 0.0 {
            self.rankings.add(used, cost.times(sample.weight), &mut self.prng);
        }
        if sample.session_weight > 0.0
            && let Some(session) = &mut self.session
        {
            session.rankings.add(used, cost.times(sample.session_weight), &mut self.prng);
        }
    }

    /// Lets what was seen fade; true each time that something did.
    pub fn fade(&mut self, mono_ms: u64) -> bool {
        if self.since_mono_ms == 0 {
            (self.since_mono_ms, self.faded_mono_ms) = (mono_ms, mono_ms);
        }
        let elapsed_ms = mono_ms.saturating_sub(self.faded_mono_ms);
        if elapsed_ms < FADE_INTERVAL_MS {
            return false;
        }
        self.faded_mono_ms = mono_ms;
        self.rankings.fade(0.5f64.powf(elapsed_ms as f64 / 1000.0 / HALF_LIFE_SECONDS as f64));
        true
    }

    /// What a weight is in units a second.
    pub fn per_second(&self, weight: f64, mono_ms: u64) -> f64 {
        let half_life = HALF_LIFE_SECONDS as f64;
        let age = mono_ms.saturating_sub(self.since_mono_ms).max(1000) as f64 / 1000.0;
        let seconds = half_life / std::f64::consts::LN_2 * (1.0 - 0.5f64.powf(age / half_life));
        weight / seconds
    }

    /// Begins a measurement; false if one is under way.
    pub fn start(&mut self, session: Session) -> bool {
        if self.measures {
            return false;
        }
        self.session = Some(Box::new(session));
        self.measures = true;
        true
    }

    /// Ends the measurement, whose result stays; false if none is under way.
    pub fn stop(&mut self, ended: impl FnOnce(&Session) -> Ended) -> bool {
        let is_stopped = std::mem::take(&mut self.measures);
        if is_stopped && let Some(session) = &mut self.session {
            session.ended = Some(ended(session));
        }
        is_stopped
    }

    /// Whether a measurement is under way.
    pub fn is_measuring(&self) -> bool {
        self.measures
    }

    /// Forgets a measurement that has ended; false if one is under way.
    pub fn forget_session(&mut self) -> bool {
        if !self.measures {
            self.session = None;
        }
        !self.measures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::KeyHash;

    fn sketch() -> HotKeys {
        HotKeys::new(Prng::seeded(7))
    }

    fn used(key: &[u8]) -> UsedKey<'_> {
        let hash = key.iter().fold(11u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3).rotate_left(23)
        });
        UsedKey { db: 0, key: Key::hashed(key, KeyHash::poor(hash)) }
    }

    /// Feeds `count` commands whose keys follow Zipf's law.
    fn feed_zipf(hot: &mut HotKeys, keys: usize, count: usize, seed: u64) {
        let mut sums = Vec::with_capacity(keys);
        let mut sum = 0.0;
        for rank in 1..=keys {
            sum += 1.0 / (rank as f64).powf(0.99);
            sums.push(sum);
        }
        let mut prng = Prng::seeded(seed);
        for _ in 0..count {
            let point = prng.f64_unit() * sum;
            let rank = sums.partition_point(|reached| *reached < point);
            if let Some(sample) = hot.sample(300) {
                let key = format!("key:{rank}");
                let cost = Cost { calls: 1.0, ns: 300.0, bytes: 40.0 };
                hot.record(used(key.as_bytes()), cost, sample);
            }
        }
    }

    #[test]
    fn the_ten_hottest_of_many_keys_are_found() {
        for seed in 0..3 {
            let mut hot = sketch();
            feed_zipf(&mut hot, 100_000, 500_000, seed);
            let top: Vec<String> = (hot.rankings.by_calls.top(16).iter())
                .map(|(key, _)| String::from_utf8_lossy(&key.key).into_owned())
                .collect();
            for rank in 0..10 {
                assert!(top.contains(&format!("key:{rank}")), "seed {seed}: {rank} not in {top:?}");
            }
            assert_eq!(top[0], "key:0");
            // About 500,000 / 12.8 calls.
            let calls = hot.rankings.by_calls.top(1)[0].1;
            assert!((34_000.0..45_000.0).contains(&calls), "{calls}");
        }
    }

    #[test]
    fn a_heavy_command_that_comes_seldom_leads_by_time() {
        let mut hot = sketch();
        let mut prng = Prng::seeded(1);
        for n in 0..200_000 {
            let (key, ns) = if n % 10_000 == 0 {
                ("heavy".to_owned(), 20_000_000)
            } else {
                (format!("light:{}", prng.below(1000)), 500)
            };
            if let Some(sample) = hot.sample(ns) {
                let cost = Cost { calls: 1.0, ns: ns as f64, bytes: 10.0 };
                hot.record(used(key.as_bytes()), cost, sample);
            }
        }
        let (first, ns) = hot.rankings.by_time.top(1)[0];
        assert_eq!((&*first.key, ns), (&b"heavy"[..], 400_000_000.0));
    }

    #[test]
    fn what_was_hot_fades() {
        let mut hot = sketch();
        let sample = Sample { weight: 1024.0, session_weight: 0.0 };
        hot.record(used(b"old"), Cost { calls: 1.0, ns: 1.0, bytes: 1.0 }, sample);
        assert!(!hot.fade(1000));
        assert!(hot.fade(61_000));
        assert_eq!(hot.rankings.by_calls.top(1)[0].1, 512.0);
        assert_eq!(hot.rankings.total.calls, 512.0);
        // 512 calls of weight are left of what came in a minute.
        let rate = hot.per_second(512.0, 61_000);
        assert!((11.0..12.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_measurement_counts_what_it_is_to_and_ends() {
        let mut hot = sketch();
        let session = || Session {
            rankings: Rankings::default(),
            has_time: true,
            has_bytes: false,
            count: 10,
            ratio: 1,
            started_unix_ms: 5,
            started_mono_ms: 5,
            until_mono_ms: None,
            totals: Totals::default(),
            ended: None,
        };
        assert!(hot.start(session()) && !hot.start(session()));
        for _ in 0..100 {
            let sample = hot.sample(10).expect("every command is measured");
            hot.record(used(b"k"), Cost { calls: 1.0, ns: 10.0, bytes: 1.0 }, sample);
        }
        assert!(!hot.forget_session());
        let ended = Ended { mono_ms: 9, spent: Totals::default() };
        assert!(hot.stop(|_| ended) && !hot.stop(|_| ended));
        let session = hot.session.as_ref().expect("its result stays");
        assert_eq!(session.rankings.by_time.top(1)[0].1, 1000.0);
        assert_eq!(session.ended, Some(ended));
        assert!(hot.forget_session() && hot.session.is_none());
    }

    #[test]
    fn the_largest_of_a_type_are_kept() {
        let mut big = BigKeys::default();
        for n in 0..100usize {
            big.see(Kind::List, 0, format!("k{n}").as_bytes(), (n * 7919) % 100 * 1000);
        }
        big.see(Kind::Set, 0, b"small", 1000);
        let sizes = |big: &BigKeys| -> Vec<usize> {
            big.top(Kind::List).iter().map(|big| big.bytes / 1000).collect()
        };
        assert_eq!(sizes(&big), [99, 98, 97, 96, 95, 94, 93, 92]);
        assert!(big.top(Kind::Set).is_empty());
        big.refresh(|_, key| (*key.key != *b"k1").then_some(5000));
        assert!(big.top(Kind::List).iter().all(|big| big.bytes == 5000));
        let first = big.top(Kind::List)[0].key.key.clone();
        big.see(Kind::List, 0, &first, 10);
        assert_eq!(big.top(Kind::List).len(), 7);
    }
}
