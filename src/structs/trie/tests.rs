//! The trie against naive models, seeded: a `BTreeMap` of what should be there, held snapshots with
//! copies of what they should show, and laws for SCAN, expiry and random choice. Hash keys are
//! fixed. Weak hashes, which no honest table meets, force deep paths and overflow lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc as StdArc;

use super::inner::{CELLS, Inner, LEVEL_BITS, Node};
use super::segment::{CAPACITY, MAX_DEPTH};
use super::{HashSecret, Item, ItemHash, Prefix, Slot, Trie};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tiny(StdArc<(Vec<u8>, u64, u64)>);

impl Tiny {
    fn new(key: u64, value: u64, deadline_ms: u64) -> Tiny {
        Tiny(StdArc::new((key_of(key), value, deadline_ms)))
    }

    fn value(&self) -> u64 {
        self.0.1
    }

    fn set_value(&mut self, value: u64) {
        StdArc::make_mut(&mut self.0).1 = value;
    }

    fn set_deadline(&mut self, deadline_ms: u64) {
        StdArc::make_mut(&mut self.0).2 = deadline_ms;
    }
}

impl ItemHash for u64 {
    fn of(secret: HashSecret, key: &[u8]) -> u64 {
        secret.sip13(key)
    }

    fn bits(self) -> u64 {
        self
    }

    fn cursor_bits(secret: HashSecret) -> u32 {
        if secret.is_of_cluster() { WIDE } else { NARROW }
    }
}

/// How many bits cursors have, in the one trie and in the other.
const WIDE: u32 = 48;
const NARROW: u32 = 31;

impl Item for Tiny {
    type Hash = u64;

    fn key(&self) -> &[u8] {
        &self.0.0
    }

    fn deadline_ms(&self) -> u64 {
        self.0.2
    }

    fn prefetch(&self) {}
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn key_of(n: u64) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

fn trie() -> Trie<Tiny> {
    weak_trie(|hash| hash)
}

fn weak_trie(weaken: fn(u64) -> u64) -> Trie<Tiny> {
    Trie::new(HashSecret::weak(*b"0123456789abcdef", weaken))
}

/// Few distinct hashes, far apart or close together, and all the same.
const WEAKNESSES: [fn(u64) -> u64; 5] =
    [|hash| hash & !0 << 61, |hash| hash >> 40, |hash| hash >> 20 << 10, |_| 0, |_| u64::MAX];

/// One whose cursors have so many bits.
fn trie_of(bits: u32, weaken: fn(u64) -> u64) -> Trie<Tiny> {
    let secret = HashSecret::weak(*b"0123456789abcdef", weaken);
    Trie::new(if bits == WIDE { secret.of_cluster() } else { secret })
}

/// The same, proper for the first numbers, then one for each weakness.
fn of_weakness(bits: u32, number: u64) -> Trie<Tiny> {
    let weakness = (number as usize).checked_sub(3).and_then(|n| WEAKNESSES.get(n));
    trie_of(bits, weakness.copied().unwrap_or(|hash| hash))
}

/// A proper trie for the first seeds, then one for each weakness.
fn trie_or_weak(seed: u64) -> Trie<Tiny> {
    let weakness = (seed as usize).checked_sub(3).and_then(|n| WEAKNESSES.get(n));
    weakness.map_or_else(trie, |weaken| weak_trie(*weaken))
}

/// Inserts keys `0..n` with their number as value and no deadline.
fn filled(n: u64) -> Trie<Tiny> {
    filled_into(trie(), n)
}

fn filled_into(mut trie: Trie<Tiny>, n: u64) -> Trie<Tiny> {
    for key in 0..n {
        trie.insert(trie.hash(&key_of(key)), Tiny::new(key, key, u64::MAX));
    }
    trie
}

fn remove(trie: &mut Trie<Tiny>, key: u64) -> Option<Tiny> {
    let key = key_of(key);
    trie.remove(trie.hash(&key), &key)
}

/// Checks what every node promises, and that the figures kept on the side are right.
fn check(trie: &Trie<Tiny>) {
    let mut found = (0, 0, 0, 0);
    let earliest_ms = check_inner(&trie.root, 0, &mut found);
    let (len, segments, inner_nodes, bytes) = found;
    assert_eq!(len, trie.len());
    assert_eq!(segments, trie.stats().segments);
    assert_eq!(inner_nodes, trie.stats().inner_nodes);
    assert_eq!(bytes, trie.shape.segment_bytes);
    assert!(trie.earliest_deadline() <= earliest_ms);
}

type Found = (usize, usize, usize, usize);

/// Checks a node and returns the lower bound of the deadlines that its kids claim.
fn check_inner(inner: &Inner<Tiny>, level: usize, found: &mut Found) -> u64 {
    let mut cell = 0;
    let mut bound = u64::MAX;
    found.2 += 1;
    for (at, kid) in inner.kids.iter().enumerate() {
        let end = inner.next_start(cell + 1);
        let run = end - cell;
        assert_eq!((inner.rank(cell), inner.rank(end - 1)), (at, at));
        assert_eq!((inner.run_start(cell), inner.run_start(end - 1)), (cell, cell));
        assert!(run.is_power_of_two() && cell % run == 0);
        bound = bound.min(inner.bound(at));
        match kid {
            Node::Inner(child) => {
                assert_eq!(run, 1);
                let below = check_inner(child, level + 1, found);
                assert!(inner.bound(at) <= below);
            }
            Node::Leaf(leaf) => {
                let view = leaf.view();
                let depth = LEVEL_BITS * (level as u32 + 1) - run.trailing_zeros();
                assert_eq!(u32::from(view.depth()), depth);
                let filled = view.slots().iter().flatten().count();
                assert_eq!(filled + view.overflow().len(), view.len());
                let full = filled == CAPACITY && view.depth() == MAX_DEPTH;
                assert!(view.overflow().is_empty() || full);
                assert!(view.items().all(|item| inner.bound(at) <= item.deadline_ms()));
                found.0 += view.items().count();
                found.1 += 1;
                found.3 += leaf.bytes();
            }
        }
        cell = end;
    }
    assert_eq!(cell, CELLS);
    bound
}

/// What a trie shows, sorted.
fn contents(trie: &Trie<Tiny>) -> Vec<Tiny> {
    let mut items: Vec<Tiny> = trie.iter().cloned().collect();
    items.sort_by(|a, b| a.key().cmp(b.key()));
    items
}

type Model = BTreeMap<u64, Tiny>;

fn assert_same(trie: &Trie<Tiny>, model: &Model) {
    assert_eq!(trie.len(), model.len());
    assert!(contents(trie).iter().eq(model.values()));
}

/// One random change of a trie and its model.
fn change(
    trie: &mut Trie<Tiny>,
    model: &mut Model,
    random: &mut Random,
    keys: u64,
    shrinking: bool,
) {
    let n = random.below(keys);
    let key = key_of(n);
    let h = trie.hash(&key);
    let value = random.next();
    let deadline_ms = if random.one_in(4) { random.below(1_000_000) } else { u64::MAX };
    match random.below(8) {
        0 | 1 if !shrinking => {
            let item = Tiny::new(n, value, deadline_ms);
            assert_eq!(trie.insert(h, item.clone()), model.insert(n, item));
        }
        2 | 3 if !shrinking => match trie.slot(h, &key) {
            Slot::Occupied(item) => {
                assert_eq!(Some(&*item), model.get(&n));
                item.set_value(value);
                model.get_mut(&n).expect("the trie has it").set_value(value);
            }
            Slot::Vacant(place) => {
                let item = Tiny::new(n, value, deadline_ms);
                assert_eq!(place.insert(item.clone()).value(), value);
                assert!(model.insert(n, item).is_none());
            }
        },
        4 => {
            assert_eq!(trie.get_mut(h, &key).map(|item| item.clone()), model.get(&n).cloned());
            if let Some(item) = trie.get_mut(h, &key) {
                item.set_deadline(deadline_ms);
                trie.lower_deadline(h, deadline_ms);
                model.get_mut(&n).expect("the trie has it").set_deadline(deadline_ms);
            }
        }
        _ if shrinking || random.one_in(2) => {
            assert_eq!(trie.remove(h, &key), model.remove(&n));
        }
        _ => assert_eq!(trie.get(h, &key), model.get(&n)),
    }
}

/// Grows and shrinks a trie in waves, with snapshots held that must not change.
fn run_model(mut trie: Trie<Tiny>, seed: u64, keys: u64, steps: u64) {
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut snapshots: Vec<(Trie<Tiny>, Model)> = Vec::new();
    for step in 0..steps {
        let shrinking = step * 4 / steps % 2 == 1;
        change(&mut trie, &mut model, &mut random, keys, shrinking);
        if random.one_in(steps / 12) {
            snapshots.push((trie.clone(), model.clone()));
            check(&trie);
        }
        if snapshots.len() > 3 {
            let (snapshot, then) = snapshots.swap_remove(random.below(4) as usize);
            check(&snapshot);
            assert_same(&snapshot, &then);
        }
    }
    check(&trie);
    assert_same(&trie, &model);
    let hashes: Vec<u64> = model.values().map(|item| trie.hash(item.key())).collect();
    trie.prefetch(&hashes);
    for (item, h) in model.values().zip(&hashes) {
        assert_eq!(trie.get(*h, item.key()), Some(item));
    }
    for (item, h) in model.values().zip(&hashes) {
        assert_eq!(trie.remove(*h, item.key()).as_ref(), Some(item));
    }
    check(&trie);
    assert_eq!((trie.stats().segments, trie.stats().inner_nodes), (1, 1));
    for (snapshot, then) in &snapshots {
        check(snapshot);
        assert_same(snapshot, then);
    }
}

#[test]
fn changes_agree_with_a_map() {
    run_model(trie(), 1, 100, 20_000);
    run_model(trie(), 2, 3_000, 60_000);
    run_model(trie(), 3, 60_000, 400_000);
}

#[test]
fn weak_hashes_only_make_it_deep() {
    for (seed, weaken) in WEAKNESSES.into_iter().enumerate() {
        run_model(weak_trie(weaken), seed as u64, 2_000, 40_000);
    }
}

#[test]
fn a_write_copies_one_segment_of_what_a_snapshot_shares() {
    let mut trie = filled(20_000);
    let held = trie.clone();
    let changed = [17, 4_711];
    for key in changed.map(key_of) {
        trie.get_mut(trie.hash(&key), &key).expect("it is there").set_value(0);
    }
    let unshared = held.iter().filter(|item| {
        let now = trie.get(trie.hash(item.key()), item.key()).expect("it is still there");
        !std::ptr::eq(*item, now)
    });
    assert!((2..=2 * CAPACITY).contains(&unshared.count()));
    assert!(held.get(held.hash(&key_of(17)), &key_of(17)).is_some_and(|item| item.value() == 17));
    // What is not there is not copied either.
    let other = trie.clone();
    assert!(trie.get_mut(trie.hash(b"none"), b"none").is_none());
    assert!(trie.remove(trie.hash(b"none"), b"none").is_none());
    assert!(triomphe::Arc::ptr_eq(&trie.root, &other.root));
}

#[test]
fn a_scan_goes_in_order_and_keeps_to_its_budget() {
    for bits in [NARROW, WIDE] {
        let trie = filled_into(trie_of(bits, |hash| hash), 5_000);
        let mut cells = Vec::new();
        let mut cursor = 0;
        for scans in 0.. {
            assert!(scans <= 5_000, "the scan does not end");
            let before = cells.len();
            cursor = trie.scan(cursor, 10, |item| cells.push(trie.hash(item.key()) >> (64 - bits)));
            assert!(cursor == 0 || (10..12).contains(&(cells.len() - before)));
            assert!(cursor == 0 || cells[cells.len() - 1] < cursor);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(cells.len(), 5_000);
        for beyond in [1 << bits, u64::MAX] {
            assert!(trie.scan(beyond, 10, |_| panic!("nothing is there")) == 0);
        }
    }
}

/// Programs keep the cursors of a server that is no node of a cluster in numbers of 31 bits and a
/// sign, those of others in numbers of 53 bits.
#[test]
fn cursors_have_few_bits_and_pages_end_between_their_cells() {
    let last_bits = |hash: u64| hash | !0 << 40;
    for (bits, weaken) in [(NARROW, WEAKNESSES[0]), (NARROW, last_bits), (WIDE, last_bits)] {
        let trie = filled_into(trie_of(bits, weaken), 1_000);
        let (mut cursor, mut seen, mut cells) = (0, 0, BTreeSet::new());
        loop {
            let mut page = BTreeSet::new();
            cursor = trie.scan(cursor, 1, |item| {
                seen += 1;
                page.insert(trie.hash(item.key()) >> (64 - bits));
            });
            assert!(cursor < 1 << bits);
            assert!(page.iter().all(|cell| cells.insert(*cell)), "a cell is on two pages");
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen, 1_000);
    }
}

/// What is there throughout is visited exactly once, and nothing is visited twice, while the trie
/// grows by a factor and shrinks again.
#[test]
fn a_scan_sees_what_stays_exactly_once() {
    for seed in 0..16 {
        let (bits, weakness) = if seed % 2 == 0 { (NARROW, seed / 2) } else { (WIDE, seed / 2) };
        let trie = filled_into(of_weakness(bits, weakness), 2_000);
        let all = |trie: &Trie<Tiny>, from, budget, seen: &mut BTreeSet<u64>| {
            trie.scan(from, budget, |item| assert!(seen.insert(item.value())))
        };
        let seen = scan_while_it_changes(trie, seed, all);
        assert!((0..2_000).all(|key| seen.contains(&key)));
    }
}

/// The same of the items of a prefix, and no others.
#[test]
fn a_scan_of_a_prefix_sees_what_stays_there_exactly_once() {
    for seed in 0..16 {
        let (bits, weakness) = if seed % 2 == 0 { (NARROW, seed / 2) } else { (WIDE, seed / 2) };
        let trie = filled_into(of_weakness(bits, weakness), 2_000);
        for (first, len) in [(0, 14), (u64::MAX, 14), (5 << 60, 3), (trie.hash(&key_of(7)), 14)] {
            let prefix = Prefix::of(first, len);
            let is_below = |trie: &Trie<Tiny>, key: u64| {
                let differing = trie.hash(&key_of(key)) ^ first;
                differing >> (64 - len) == 0
            };
            let wanted: Vec<u64> = (0..2_000).filter(|key| is_below(&trie, *key)).collect();
            let below = |trie: &Trie<Tiny>, from, budget, seen: &mut BTreeSet<u64>| {
                trie.scan_prefix(prefix, from, budget, |item| {
                    assert!(is_below(trie, item.value()) && seen.insert(item.value()));
                })
            };
            let seen = scan_while_it_changes(trie.clone(), seed, below);
            assert!(wanted.iter().all(|key| seen.contains(key)));
        }
    }
}

/// Scans a trie to the end, which changes between the pages, but for what it holds at the begin;
/// what `scan` has seen.
fn scan_while_it_changes(
    mut trie: Trie<Tiny>,
    seed: u64,
    scan: impl Fn(&Trie<Tiny>, u64, usize, &mut BTreeSet<u64>) -> u64,
) -> BTreeSet<u64> {
    let most_others = if seed < 6 { 20_000 } else { 2_000 };
    let mut random = Random(seed);
    let mut others: Vec<u64> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut cursor = 0;
    let mut next_key = 1_000_000;
    for scans in 0.. {
        assert!(scans < 1_000_000, "the scan of seed {seed} does not end");
        let budget = 1 + random.below(60) as usize;
        cursor = scan(&trie, cursor, budget, &mut seen);
        if cursor == 0 {
            break;
        }
        let growing = others.len() < most_others && seen.len() % 2_000 < 1_000;
        for _ in 0..random.below(3_000) {
            if growing || others.is_empty() {
                trie.insert(trie.hash(&key_of(next_key)), Tiny::new(next_key, next_key, 0));
                others.push(next_key);
                next_key += 1;
            } else {
                let at = random.below(others.len() as u64) as usize;
                assert!(remove(&mut trie, others.swap_remove(at)).is_some());
            }
        }
    }
    check(&trie);
    seen
}

#[test]
fn expired_items_are_taken_and_no_others() {
    let maxima = [1, 7, 1 << 20, 100, 100, 100, 100, 100];
    for (seed, max) in maxima.into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let mut trie = trie_or_weak(seed as u64);
        let mut model = Model::new();
        for n in 0..8_000 {
            let volatile = random.one_in(if n < 4_000 { 2 } else { 20 });
            let deadline_ms = if volatile { 1 + random.below(1_000) } else { u64::MAX };
            let item = Tiny::new(n, n, deadline_ms);
            trie.insert(trie.hash(item.key()), item.clone());
            model.insert(n, item);
        }
        let held = trie.clone();
        for now_ms in [0, 1, 500, 501, 2_000, u64::MAX - 1] {
            let due = model.extract_if(.., |_, item| item.deadline_ms() <= now_ms);
            let mut due: Vec<Tiny> = due.map(|(_, item)| item).collect();
            assert_eq!(trie.count_due(now_ms), due.len());
            let mut out = Vec::new();
            let mut before = 0;
            let mut runs = 0;
            while trie.take_expired(now_ms, max, &mut out) {
                // Segments whose bound was too low count, too, once each.
                assert!(out.len() - before <= max);
                before = out.len();
                runs += 1;
                assert!(runs <= due.len() / max + trie.stats().segments, "{runs} runs");
            }
            out.sort_by_key(Tiny::value);
            due.sort_by_key(Tiny::value);
            assert_eq!(out, due);
            check(&trie);
            let earliest_ms = model.values().map(Item::deadline_ms).min();
            assert_eq!(trie.earliest_deadline(), earliest_ms.unwrap_or(u64::MAX));
        }
        assert_same(&trie, &model);
        assert_eq!(held.len(), 8_000);
        check(&held);
    }
}

#[test]
fn a_stale_deadline_is_put_right_without_copying() {
    let mut trie = filled(10_000);
    let key = key_of(77);
    let hash = trie.hash(&key);
    trie.get_mut(hash, &key).expect("it is there").set_deadline(5);
    trie.lower_deadline(hash, 5);
    assert_eq!(trie.earliest_deadline(), 5);
    trie.get_mut(hash, &key).expect("it is there").set_deadline(900);
    let held = trie.clone();
    assert!(!trie.take_expired(10, 100, &mut Vec::new()));
    assert_eq!(trie.earliest_deadline(), 900);
    let first = |trie: &Trie<Tiny>| std::ptr::from_ref(trie.get(hash, &key).expect("still there"));
    assert_eq!(first(&trie), first(&held));
}

/// Pearson's statistic stays within five standard deviations of its mean.
fn assert_uniform(counts: &BTreeMap<u64, u64>, cells: u64, draws: u64) {
    let expected = draws as f64 / cells as f64;
    let seen: f64 = counts.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    let chi_square = seen + (cells - counts.len() as u64) as f64 * expected;
    let freedom = (cells - 1) as f64;
    let distance = (chi_square - freedom).abs() / (2.0 * freedom).sqrt();
    assert!(distance < 5.0, "chi square {chi_square} at {freedom} degrees of freedom");
}

#[test]
fn a_random_choice_is_uniform() {
    let mut random = Random(9);
    assert_eq!(trie().random(&mut |bound| random.below(bound)), None);
    // Some sizes leave segments of two depths, and removals make some of them sparse.
    for (n, removed) in [(2, 0), (64, 0), (90, 0), (1_000, 0), (3_000, 0), (5_000, 3_500)] {
        let mut trie = filled(n);
        (0..removed).for_each(|key| assert!(remove(&mut trie, key).is_some()));
        let mut counts = BTreeMap::new();
        let draws = (n - removed) * 60;
        for _ in 0..draws {
            let item = trie.random(&mut |bound| random.below(bound)).expect("not empty");
            *counts.entry(item.value()).or_default() += 1;
        }
        assert_uniform(&counts, n - removed, draws);
    }
}

#[test]
fn a_random_choice_ends_with_the_worst_hash_too() {
    for weaken in WEAKNESSES {
        let mut random = Random(10);
        let mut trie = weak_trie(weaken);
        for key in 0..100 {
            trie.insert(trie.hash(&key_of(key)), Tiny::new(key, key, u64::MAX));
        }
        let mut counts = BTreeMap::new();
        for _ in 0..6_000 {
            let item = trie.random(&mut |bound| random.below(bound)).expect("not empty");
            *counts.entry(item.value()).or_default() += 1;
        }
        assert_uniform(&counts, 100, 6_000);
    }
}

#[test]
fn memory_is_estimated_by_what_is_there() {
    let empty = trie().memory_bytes();
    let full = filled(100_000).memory_bytes();
    assert!(empty < 600, "an empty trie takes {empty} bytes");
    assert!((1_000_000..2_000_000).contains(&full), "100 000 keys take {full} bytes of nodes");
}

#[test]
fn samples_find_what_is_there_whatever_the_hashes() {
    for weaken in WEAKNESSES.into_iter().chain([(|hash| hash) as fn(u64) -> u64]) {
        let mut random = Random(11);
        let mut trie = weak_trie(weaken);
        let mut deadlines = BTreeSet::new();
        for key in 0..3_000 {
            let deadline_ms = if random.one_in(50) { 1 + random.below(1 << 40) } else { u64::MAX };
            trie.insert(trie.hash(&key_of(key)), Tiny::new(key, key, deadline_ms));
            if deadline_ms != u64::MAX {
                deadlines.insert((deadline_ms, key));
            }
        }
        for _ in 0..100 {
            let mut seen = 0;
            trie.sample(random.next(), 5, |_| seen += 1);
            assert!(seen >= 5 || trie.stats().depth > 12, "only weak hashes leave segments empty");
        }
        // The one that expires first goes, and after it any other with a deadline.
        while let Some((deadline_ms, key)) = deadlines.pop_first() {
            // A look that finds nothing has brought the bounds nearer to what is there.
            let mut look = || trie.earliest().map(|item| (item.deadline_ms(), item.value()));
            let first = (0..100_000).find_map(|_| look());
            assert_eq!(first, Some((deadline_ms, key)));
            trie.remove(trie.hash(&key_of(key)), &key_of(key));
            let mut found = None;
            let mut samples = 0;
            while found.is_none() && !deadlines.is_empty() {
                samples += 1;
                assert!(samples < 1_000_000, "samples find none of {}", deadlines.len());
                let hash = random.next();
                trie.sample_with_deadlines(hash, 1, |item| {
                    found = Some((item.deadline_ms(), item.value()));
                });
            }
            if let Some(found) = found {
                assert!(deadlines.remove(&found));
                trie.remove(trie.hash(&key_of(found.1)), &key_of(found.1));
            }
        }
        for _ in 0..10_000 {
            assert!(trie.earliest().is_none());
            trie.sample_with_deadlines(random.next(), 5, |_| panic!("there are no deadlines"));
            if trie.earliest_deadline() == u64::MAX {
                break;
            }
        }
        assert_eq!(trie.earliest_deadline(), u64::MAX, "all bounds have been put right");
    }
}

/// Takes parts out of one trie and puts them into another and back, between other changes, with
/// snapshots held.
#[test]
fn parts_leave_and_come_whole() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let (mut left, mut right) = (trie_or_weak(seed), trie_or_weak(seed));
        let (mut of_left, mut of_right) = (Model::new(), Model::new());
        let mut held = Vec::new();
        let keys = [60, 400, 9_000][random.below(3) as usize];
        for _ in 0..120 {
            for _ in 0..random.below(keys / 4) {
                let key = random.below(keys);
                let deadline_ms = if random.one_in(3) { random.below(1_000) } else { u64::MAX };
                let item = Tiny::new(key, random.next(), deadline_ms);
                let hash = left.hash(&key_of(key));
                if random.one_in(3) {
                    left.remove(hash, &key_of(key));
                    of_left.remove(&key);
                } else if !of_right.contains_key(&key) {
                    left.insert(hash, item.clone());
                    of_left.insert(key, item);
                }
            }
            if random.one_in(4) {
                held.push((left.clone(), of_left.clone()));
            }
            let hash = left.hash(&key_of(random.below(keys)));
            let prefix = Prefix::of(hash, 1 + random.below(24) as u32);
            let (from, to, of_from, of_to) = match random.one_in(3) {
                false => (&mut left, &mut right, &mut of_left, &mut of_right),
                true => (&mut right, &mut left, &mut of_right, &mut of_left),
            };
            let secret = from.secret();
            let hash_of = |key: &u64| u64::of(secret, &key_of(*key));
            let is_in = |key: &u64| Prefix::of(hash_of(key), prefix.len()) == prefix;
            let moved: Model = of_from.extract_if(.., |key, _| is_in(key)).collect();
            let seen: BTreeSet<Vec<u8>> =
                from.iter_prefix(prefix).map(|item| item.key().to_vec()).collect();
            assert_eq!(seen, moved.values().map(|item| item.key().to_vec()).collect());
            let part = from.take_prefix(prefix);
            check(&part);
            assert_same(&part, &moved);
            let replaced = to.put_prefix(prefix, part);
            check(&replaced);
            let lost: Model = of_to.extract_if(.., |key, _| is_in(key)).collect();
            assert_same(&replaced, &lost);
            of_to.extend(moved);
            for (trie, model) in [(&left, &of_left), (&right, &of_right)] {
                check(trie);
                assert_same(trie, model);
            }
        }
        for (snapshot, model) in &held {
            assert_same(snapshot, model);
        }
    }
}

/// Some parts are big and some small; the choice in each is as uniform as in the whole.
#[test]
fn a_random_choice_in_a_part_is_uniform() {
    let mut random = Random(9);
    for keys in [300, 3_000, 60_000] {
        let trie = filled(keys);
        let prefix = Prefix::of(random.next(), 3);
        let expected: BTreeSet<u64> = trie.iter_prefix(prefix).map(Tiny::value).collect();
        let draws = 60 * expected.len();
        let mut counts = BTreeMap::new();
        for _ in 0..draws {
            let item = trie.random_in(prefix, expected.len(), &mut |bound| random.below(bound));
            *counts.entry(item.expect("there are some").value()).or_insert(0u64) += 1;
        }
        assert!(counts.keys().all(|value| expected.contains(value)));
        // Chi-squared is the number of keys on the average, with a deviation of the root of twice
        // that.
        let absent = (expected.len() - counts.len()) as f64 * 60.0;
        let squares: f64 = counts.values().map(|count| (*count as f64 - 60.0).powi(2) / 60.0).sum();
        let (chi_squared, mean) = (squares + absent, expected.len() as f64);
        assert!(chi_squared < mean + 6.0 * (2.0 * mean).sqrt(), "{keys}: {chi_squared} of {mean}");
    }
}
