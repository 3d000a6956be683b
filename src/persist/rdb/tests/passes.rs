//! A snapshot that is written more than once comes out the same each time, whatever happens to the
//! keyspace meanwhile.

use super::*;
use crate::engine::testing::{Bench, config};
use std::fmt::Write as _;

/// Values of all types, each in all of its encodings.
const BUILDERS: &[&str] = &[
    "SET number 12345",
    "SET short text",
    "APPEND raw abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "SET volatile soon PX 100000",
    "RPUSH list:packed a b 3",
    "SADD set:intset 1 2 3",
    "SADD set:listpack a b 3",
    "ZADD zset:listpack 1 a 2.5 b",
    "HSET hash:listpack a 1 b two",
    "XADD stream 1-1 field value",
    "XADD stream 1-2 field value",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
    "XREADGROUP GROUP group two COUNT 1 STREAMS stream >",
    "PFADD hyperloglog a b c",
    "HSET hash:volatile a 1 b 2",
    "HPEXPIRE hash:volatile 100000 FIELDS 1 a",
];

/// The same of the encodings for many elements.
const MANY: &[&str] = &["RPUSH list", "SADD set", "HSET hash", "ZADD zset"];

/// A bench with all types in it, in more than one database.
fn bench(policy: &str) -> Bench {
    let mut bench = Bench::with(config(&[("maxmemory-policy", policy)]));
    for db in ["0", "3"] {
        bench.ask(&format!("SELECT {db}"));
        BUILDERS.iter().for_each(|line| assert!(!bench.ask(line).starts_with('-'), "{line}"));
        for command in MANY {
            let mut line = (*command).to_owned();
            for number in 0..600 {
                write!(line, " {} member:{}", number * 7, number).expect("it is memory");
            }
            bench.ask(&line);
        }
        bench.ask("HPEXPIRE hash 100000 FIELDS 2 0 7");
    }
    bench
}

/// Uses and changes everything, so that a later snapshot would be another one.
fn stir(bench: &mut Bench) {
    bench.advance(50_000);
    for db in ["0", "3"] {
        bench.ask(&format!("SELECT {db}"));
        for line in BUILDERS.iter().filter(|line| !line.starts_with('X')) {
            let key = line.split(' ').nth(1).expect("each has a key");
            bench.ask(&format!("OBJECT ENCODING {key}"));
            bench.ask(&format!("TYPE {key}"));
            bench.ask(&format!("GETEX {key} PERSIST"));
        }
        for line in ["HSET hash 0 new", "SREM set 0", "XACK stream group 1-1", "DEL list"] {
            bench.ask(line);
        }
        bench.ask("XCLAIM stream group two 0 1-1");
    }
}

fn pass(dataset: &Dataset, options: &SaveOptions) -> Vec<u8> {
    let mut out = Vec::new();
    write_repeatably(dataset, options, &mut out, &mut |_| ControlFlow::Continue(()))
        .expect("memory takes it");
    out
}

/// The same on a thread that has compressed other things before.
fn pass_elsewhere(dataset: &Dataset, options: &SaveOptions) -> Vec<u8> {
    let (dataset, options) = (dataset.clone(), options.clone());
    let thread = std::thread::spawn(move || {
        let noise: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(i) >> 5) as u8 & 7).collect();
        crate::persist::lzf::compress(&noise, |_| ());
        pass(&dataset, &options)
    });
    thread.join().expect("it does not panic")
}

fn snapshot(bench: &Bench) -> (Dataset, SaveOptions) {
    let engine = &bench.engine;
    let options = SaveOptions::of(engine.config(), &engine.keyspace.access);
    (engine.server.dataset(&engine.keyspace), options)
}

#[test]
fn passes_over_one_dataset_are_the_same() {
    for version in [SaveVersion::V10, SaveVersion::V11, SaveVersion::V12] {
        let mut bench = bench("noeviction");
        let (dataset, mut options) = snapshot(&bench);
        options.version = version;
        let first = pass(&dataset, &options);
        stir(&mut bench);
        assert!(pass_elsewhere(&dataset, &options) == first, "{version:?}");
        assert!(pass(&snapshot(&bench).0, &options) != first, "the dataset was changed at all");
        let plain = written(&dataset, &options);
        assert!(plain == first, "it is the file that is written once");
    }
}

/// What one pass begins another one ends, though the keys have been used between them.
#[test]
fn passes_may_be_joined_though_entries_are_stamped_meanwhile() {
    for policy in ["allkeys-lru", "allkeys-lfu"] {
        let mut bench = bench(policy);
        bench.advance(60_000);
        let (dataset, options) = snapshot(&bench);
        let first = pass(&dataset, &options);
        stir(&mut bench);
        let second = pass_elsewhere(&dataset, &options);
        assert!(first != second, "the stamps have changed");
        assert_eq!(first.len(), second.len());
        let expected = loaded(&first).expect("it is whole").len();
        let stamped: Vec<usize> = (0..first.len()).filter(|at| first[*at] != second[*at]).collect();
        for cut in stamped.iter().flat_map(|at| [*at, at + 1]) {
            let joined = [&first[..cut], &second[cut..]].concat();
            assert_eq!(loaded(&joined).expect("it is whole").len(), expected, "{cut}");
        }
    }
}
