//! Snapshots to memory and back: many small values, and big ones of each structure.
//!
//! Loading is measured twice: decoding alone, and with inserting what was decoded, which the server
//! does on another thread.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rufous::config::Config;
use rufous::engine::{Engine, Now, Peer, Seed, ServerParts};
use rufous::keyspace::{HashSecret, Keyspace};
use rufous::persist::rdb::{self, Dataset, Limits, LoadOptions, Loader, Record, SaveOptions};
use rufous::resp::{OwnedRequest, ReplyBuf};
use rufous::structs::prng::Prng;
use std::hint::black_box;
use std::ops::ControlFlow;

/// A dataset by the commands that make it.
fn dataset(commands: impl Iterator<Item = Vec<String>>) -> Dataset {
    let mut engine = Engine::new(Config::default(), ServerParts::default(), Seed::default());
    engine.tick(Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000 });
    let client = engine.connect(Peer::internal());
    let mut out = ReplyBuf::new();
    for command in commands {
        engine.run(client, OwnedRequest::from_args(&command).as_request(), &mut out);
        out.clear();
    }
    Dataset { dbs: vec![(0, engine.keyspace.db(0).snapshot(0))], ..Dataset::default() }
}

fn words(line: String) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn datasets() -> Vec<(&'static str, u64, Dataset)> {
    let small = |count: u64| (0..count).map(|n| words(format!("SET key:{n:012} value:{n}")));
    let hash = |n: u64| words(format!("HSET h:{n} name user{n} age {} mail u{n}@x.org", n % 90));
    let text = "all work and no play makes jack a dull boy ".repeat(10).replace(' ', "_");
    vec![
        ("strings", 100_000, dataset(small(100_000))),
        ("texts", 20_000, dataset((0..20_000).map(|n| words(format!("SET t:{n} {n}{text}"))))),
        ("hashes", 100_000, dataset((0..100_000).map(hash))),
        ("zset", 100_000, {
            let member = |n: u64| words(format!("ZADD z {} member:{n}", n * 7919 % 100_003));
            dataset((0..100_000).map(member))
        }),
        ("hash", 100_000, {
            dataset((0..100_000).map(|n: u64| words(format!("HSET h field:{n} value:{n}"))))
        }),
        ("list", 100_000, dataset((0..100_000).map(|n| words(format!("RPUSH l element:{n}"))))),
        ("stream", 100_000, {
            dataset((0..100_000).map(|n: u64| words(format!("XADD s {}-1 a {n} b x{n}", n + 1))))
        }),
    ]
}

fn written(dataset: &Dataset) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut watch = |_| ControlFlow::Continue(());
    rdb::write(dataset, &SaveOptions::default(), &mut bytes, &mut watch).expect("memory takes it");
    bytes
}

fn secret() -> HashSecret {
    HashSecret::new([7; 16])
}

fn load(bytes: &[u8], mut take: impl FnMut(Record)) {
    let limits = Limits::of(&Config::default(), secret());
    let mut loader = Loader::new(bytes, LoadOptions::new(limits));
    while let Some(record) = loader.next_record().expect("it was just written") {
        take(record);
    }
}

fn snapshots(criterion: &mut Criterion) {
    for (name, elements, dataset) in datasets() {
        let mut group = criterion.benchmark_group(format!("rdb/{name}"));
        group.throughput(Throughput::Elements(elements)).sample_size(10);
        let bytes = written(&dataset);
        println!("rdb/{name}: {} bytes, {} an element", bytes.len(), bytes.len() as u64 / elements);
        group.bench_function("write", |bencher| bencher.iter(|| written(black_box(&dataset))));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| load(black_box(&bytes), |record| drop(black_box(record))));
        });
        group.bench_function("load", |bencher| {
            let space = || Keyspace::new(1, secret(), Prng::seeded(1));
            let fill = |space: &mut Keyspace| {
                load(black_box(&bytes), |record| {
                    if let Record::Entry { entry, hash } = record {
                        space.insert_loaded(0, hash, entry);
                    }
                });
            };
            bencher.iter_batched_ref(space, fill, BatchSize::PerIteration);
        });
        group.finish();
    }
}

criterion_group!(benches, snapshots);
criterion_main!(benches);
