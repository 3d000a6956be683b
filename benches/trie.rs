//! The trie with entries of 16-byte keys and 3-byte values: the figures of DESIGN.md, section 3.
//!
//! `cargo bench --bench trie` prints figures first (minima over rounds, worst cases, bytes a key by
//! jemalloc's count), then lets criterion time the operations. `RUFOUS_BENCH_KEYS` sets the number
//! of keys; `RUFOUS_BENCH_FIGURES=only` stops after the figures, `=none` leaves them out, `=sizes`
//! prints only bytes a key, at several sizes.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use rufous::keyspace::KeyHash;
use rufous::keyspace::entry::{Entry, NewValue};
use rufous::structs::trie::{HashSecret, Slot, Trie};
use rufous::types::Encoding;
use smallvec::SmallVec;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH: usize = 16;
const QUERIES: usize = 1 << 20;
const ROUNDS: usize = 5;

type Key = [u8; 16];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn key(n: u64) -> Key {
    let mut key = *b"key:000000000000";
    let mut rest = n;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn entry(key: &Key) -> Entry {
    Entry::new(key, NewValue::Bytes(b"xxx"), Encoding::Embstr, None)
}

fn empty() -> Trie<Entry> {
    Trie::new(HashSecret::new(*b"0123456789abcdef"))
}

fn filled(keys: u64) -> Trie<Entry> {
    let mut trie = empty();
    for n in 0..keys {
        set(&mut trie, &key(n));
    }
    trie
}

/// What SET does.
fn set(trie: &mut Trie<Entry>, key: &Key) {
    let hash = trie.hash(key);
    match trie.slot(hash, key) {
        Slot::Occupied(entry) => entry.set_string(b"yyy", Encoding::Embstr),
        Slot::Vacant(place) => drop(black_box(place.insert(entry(key)))),
    }
}

fn get(trie: &Trie<Entry>, key: &Key) -> usize {
    trie.get(trie.hash(key), key).and_then(Entry::string).map_or(0, <[u8]>::len)
}

/// Prefetches a batch, and then does something with each key and its hash.
fn batch(
    trie: &mut Trie<Entry>,
    keys: &[Key],
    mut act: impl FnMut(&mut Trie<Entry>, KeyHash, &Key),
) {
    let hashes: SmallVec<[KeyHash; BATCH]> = keys.iter().map(|key| trie.hash(key)).collect();
    trie.prefetch(&hashes);
    for (hash, key) in hashes.iter().zip(keys) {
        act(trie, *hash, key);
    }
}

fn batched_get(trie: &mut Trie<Entry>, keys: &[Key]) {
    batch(trie, keys, |trie, hash, key| {
        black_box(trie.get(hash, key).and_then(Entry::string));
    });
}

fn batched_overwrite(trie: &mut Trie<Entry>, keys: &[Key]) {
    batch(trie, keys, |trie, hash, key| {
        if let Some(entry) = trie.get_mut(hash, key) {
            entry.set_string(b"yyy", Encoding::Embstr);
        }
    });
}

fn queries(keys: u64, from: u64) -> Vec<Key> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..QUERIES).map(|_| key(from + random.below(keys))).collect()
}

/// The bytes in live allocations.
fn allocated() -> usize {
    let mut epoch = 1u64;
    let mut allocated = 0usize;
    let mut len = size_of::<usize>();
    // SAFETY: the names are zero-terminated and of controls of these types, and the lengths are
    // those of the variables behind the pointers.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            c"epoch".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw mut epoch).cast(),
            size_of::<u64>(),
        );
        tikv_jemalloc_sys::mallctl(
            c"stats.allocated".as_ptr(),
            (&raw mut allocated).cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        );
    }
    allocated
}

/// The least time of an operation over some rounds, in nanoseconds.
fn least(ops: usize, mut round: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    times.min().unwrap_or_default().as_nanos() as f64 / ops as f64
}

fn print_sizes() {
    for keys in [10_000, 100_000, 500_000, 700_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000] {
        print_size(keys);
    }
    print_size(5_000_000);
    print_size(7_000_000);
    print_size(10_000_000);
}

fn print_size(keys: u64) {
    let before = allocated();
    let trie = filled(keys);
    let bytes = (allocated() - before) as f64 / keys as f64;
    let estimate = trie.memory_bytes() as f64 / keys as f64 + 32.0;
    println!(
        "{keys:>10} keys: {bytes:.1} bytes a key, {estimate:.1} estimated, {:?}",
        trie.stats()
    );
}

fn print_figures(keys: u64) {
    let before = allocated();
    let start = Instant::now();
    let mut trie = filled(keys);
    let took = start.elapsed().as_nanos() as f64 / keys as f64;
    println!("{keys} keys, {:?}", trie.stats());
    println!("bytes a key         {:.1}", (allocated() - before) as f64 / keys as f64);
    println!("insert in order     {took:.0} ns (key made and entry allocated included)");
    let hits = queries(keys, 0);
    let misses = queries(keys, keys);
    let print = |name: &str, ns: f64| println!("{name:<20}{ns:.1} ns");
    print(
        "hash",
        least(QUERIES, || {
            hits.iter().for_each(|key| {
                black_box(trie.hash(key));
            })
        }),
    );
    print(
        "hit",
        least(QUERIES, || {
            hits.iter().for_each(|key| {
                black_box(get(&trie, key));
            })
        }),
    );
    print(
        "miss",
        least(QUERIES, || {
            misses.iter().for_each(|key| {
                black_box(get(&trie, key));
            })
        }),
    );
    print(
        "hit, batch of 16",
        least(QUERIES, || {
            hits.chunks(BATCH).for_each(|keys| batched_get(&mut trie, keys));
        }),
    );
    print(
        "miss, batch of 16",
        least(QUERIES, || {
            misses.chunks(BATCH).for_each(|keys| batched_get(&mut trie, keys));
        }),
    );
    print("overwrite", least(QUERIES, || hits.iter().for_each(|key| set(&mut trie, key))));
    print(
        "overwrite, batch",
        least(QUERIES, || {
            hits.chunks(BATCH).for_each(|keys| batched_overwrite(&mut trie, keys));
        }),
    );
    let mut random = Random(3);
    print(
        "random",
        least(QUERIES / 4, || {
            for _ in 0..QUERIES / 4 {
                black_box(trie.random(&mut |bound| random.below(bound)));
            }
        }),
    );
    print("iterate", least(trie.len(), || assert_eq!(trie.iter().count(), trie.len())));
    print(
        "scan by 10",
        least(trie.len(), || {
            let (mut seen, mut position) = (0, 0);
            loop {
                position = trie.scan(position, 10, |_| seen += 1);
                if position == 0 {
                    break;
                }
            }
            assert_eq!(seen, trie.len());
        }),
    );
    print_snapshot_figures(&mut trie, &hits);
    print_change_figures(&mut trie, keys);
}

fn print_snapshot_figures(trie: &mut Trie<Entry>, hits: &[Key]) {
    let mut least_start = Duration::MAX;
    let mut least_typical = Duration::MAX;
    let mut least_total = Duration::MAX;
    let mut least_first = Duration::MAX;
    let mut least_worst = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let snapshot = trie.clone();
        least_start = least_start.min(start.elapsed());
        let mut times = Vec::with_capacity(hits.len());
        for key in hits {
            let start = Instant::now();
            set(trie, key);
            times.push(start.elapsed());
        }
        least_first = least_first.min(times[0]);
        least_total = least_total.min(times.iter().sum());
        let early = &mut times[1..1 + QUERIES / 64];
        early.sort_unstable();
        least_typical = least_typical.min(early[early.len() / 2]);
        least_worst = least_worst.min(early[early.len() - 1]);
        drop(snapshot);
    }
    println!("snapshot            {least_start:?}");
    println!("first write after   {least_first:?}");
    println!("then, early median  {least_typical:?}, worst {least_worst:?}");
    println!("mean of {} {:?}", hits.len(), least_total / hits.len() as u32);
}

/// Inserts and removes keys in turns. The worst cases are of processor time, on which a busy
/// machine has no influence, and so are taken in a round of their own, the first, which splits.
fn print_change_figures(trie: &mut Trie<Entry>, keys: u64) {
    let fresh = keys..keys + keys.min(QUERIES as u64);
    let worst_insert = fresh.clone().map(|n| processor_time(|| set(trie, &key(n)))).max();
    let worst_remove = fresh.clone().map(|n| processor_time(|| remove(trie, &key(n)))).max();
    let (mut insert, mut removal) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        fresh.clone().for_each(|n| set(trie, &key(n)));
        insert = insert.min(start.elapsed());
        let start = Instant::now();
        fresh.clone().for_each(|n| remove(trie, &key(n)));
        removal = removal.min(start.elapsed());
    }
    let count = (fresh.end - fresh.start) as u32;
    println!(
        "insert              {:?}, worst {:?}",
        insert / count,
        worst_insert.unwrap_or_default()
    );
    println!(
        "remove              {:?}, worst {:?}",
        removal / count,
        worst_remove.unwrap_or_default()
    );
}

fn remove(trie: &mut Trie<Entry>, key: &Key) {
    drop(trie.remove(trie.hash(key), key));
}

/// The time that this thread spends on something, system calls and page faults included.
fn processor_time(act: impl FnOnce()) -> Duration {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    act();
    now() - start
}

fn time_operations(keys: u64) {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("trie");
    group.throughput(criterion::Throughput::Elements(BATCH as u64));
    let mut trie = filled(keys);
    let hits = queries(keys, 0);
    let misses = queries(keys, keys);
    let mut next = (0..QUERIES / BATCH).cycle().map(|n| n * BATCH..(n + 1) * BATCH);
    let mut at = || next.next().expect("it cycles");
    group.bench_function("hit", |b| {
        b.iter(|| hits[at()].iter().map(|key| get(&trie, key)).sum::<usize>());
    });
    group.bench_function("miss", |b| {
        b.iter(|| misses[at()].iter().map(|key| get(&trie, key)).sum::<usize>());
    });
    group.bench_function("hit_batched", |b| b.iter(|| batched_get(&mut trie, &hits[at()])));
    group.bench_function("miss_batched", |b| b.iter(|| batched_get(&mut trie, &misses[at()])));
    group.bench_function("overwrite", |b| {
        b.iter(|| hits[at()].iter().for_each(|key| set(&mut trie, key)));
    });
    group.bench_function("overwrite_batched", |b| {
        b.iter(|| batched_overwrite(&mut trie, &hits[at()]));
    });
    group.bench_function("insert_and_remove", |b| {
        b.iter(|| {
            let range = at();
            misses[range.clone()].iter().for_each(|key| set(&mut trie, key));
            misses[range].iter().for_each(|key| remove(&mut trie, key));
        });
    });
    group.bench_function("overwrite_under_snapshots", |b| {
        b.iter(|| {
            let snapshot = trie.clone();
            hits[at()].iter().for_each(|key| set(&mut trie, key));
            snapshot
        });
    });
    group.finish();
    criterion.final_summary();
}

fn main() {
    let figures = std::env::var("RUFOUS_BENCH_FIGURES").unwrap_or_default();
    let keys = std::env::var("RUFOUS_BENCH_KEYS").ok().and_then(|text| text.parse().ok());
    let keys = keys.unwrap_or(1_000_000);
    match figures.as_str() {
        "sizes" => print_sizes(),
        "only" => print_figures(keys),
        "none" => time_operations(keys),
        _ => {
            print_figures(keys);
            time_operations(keys);
        }
    }
}
