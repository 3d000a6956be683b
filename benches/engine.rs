//! Batches through the whole engine without a socket: prepare, prefetch, execute.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rufous::config::Config;
use rufous::engine::{ClientId, Engine, Now, Peer, Prepared, Seed, ServerParts};
use rufous::keyspace::KeyHash;
use rufous::resp::{OwnedRequest, ReplyBuf};
use std::hint::black_box;

const KEYS: u64 = 1_000_000;

struct Bed {
    engine: Engine,
    client: ClientId,
    hashes: Vec<KeyHash>,
    prepared: Vec<Prepared>,
    random: u64,
}

impl Bed {
    fn new() -> Bed {
        let mut engine = Engine::new(Config::default(), ServerParts::default(), Seed::default());
        engine.tick(Now { unix_us: 1_700_000_000_000_000, mono_us: 1_000 });
        let client = engine.connect(Peer::internal());
        let mut bed =
            Bed { engine, client, hashes: Vec::new(), prepared: Vec::new(), random: 12_345 };
        let mut out = ReplyBuf::new();
        for number in 0..KEYS {
            let request = OwnedRequest::from_args(&["SET", &key(number), "xxx"]);
            bed.engine.run(bed.client, request.as_request(), &mut out);
            out.clear();
        }
        bed
    }

    fn requests(&mut self, count: usize, make: fn(&str) -> Vec<String>) -> Vec<OwnedRequest> {
        let mut request = || {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            OwnedRequest::from_args(&make(&key((self.random >> 33) % KEYS)))
        };
        (0..count).map(|_| request()).collect()
    }

    /// What a turn does with a window of requests.
    fn run(&mut self, requests: &[OwnedRequest], out: &mut ReplyBuf) {
        self.hashes.clear();
        self.prepared.clear();
        for request in requests {
            let prepared = self.engine.prepare(&request.as_request(), &mut self.hashes);
            self.prepared.push(prepared);
        }
        let db = self.engine.database_of(self.client);
        self.engine.prefetch(db, &self.hashes);
        for (request, prepared) in requests.iter().zip(&self.prepared) {
            self.engine.execute(self.client, prepared, request.as_request(), &self.hashes, out);
        }
    }
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn get(key: &str) -> Vec<String> {
    vec!["GET".into(), key.into()]
}

fn set(key: &str) -> Vec<String> {
    vec!["SET".into(), key.into(), "yyy".into()]
}

fn incr(key: &str) -> Vec<String> {
    vec!["INCR".into(), format!("n{key}")]
}

fn batches(criterion: &mut Criterion) {
    let mut bed = Bed::new();
    for (name, make) in [("get", get as fn(&str) -> Vec<String>), ("set", set), ("incr", incr)] {
        for count in [1, 16, 256] {
            let mut group = criterion.benchmark_group(format!("engine/{name}"));
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(format!("{count}"), |bencher| {
                let mut out = ReplyBuf::new();
                let pool: Vec<_> = (0..64).map(|_| bed.requests(count, make)).collect();
                let mut next = 0;
                bencher.iter_batched_ref(
                    || (),
                    |()| {
                        next = (next + 1) % pool.len();
                        bed.run(black_box(&pool[next]), &mut out);
                        out.clear();
                    },
                    BatchSize::SmallInput,
                );
            });
            group.finish();
        }
    }
}

/// A user with as many rules as a careful operator gives it: some of them about parts of commands,
/// and the patterns of an application, of which the last one is ours.
const LIMITED: &str = concat!(
    "ACL SETUSER app on nopass +@read +@write +@fast -@dangerous -flushdb -swapdb +info ",
    "+client|id +client|setname +select|0 ~user:* ~session:* ~cart:* ~order:* %R~catalog:* ",
    "%R~price:* ~lock:* ~queue:* ~job:* ~rate:* ~cache:* ~tmp:* ~score:* ~geo:* ~feed:* ~seen:* ",
    "%W~log:* ~flag:* ~kit:* ~key:*",
);

/// What rights cost: the same requests by one who may do everything, and by one who may not.
fn rights(criterion: &mut Criterion) {
    let mut bed = Bed::new();
    let all = bed.client;
    let words: Vec<&str> = LIMITED.split_ascii_whitespace().collect();
    let limited = bed.engine.connect(Peer::internal());
    let mut out = ReplyBuf::new();
    for (client, words) in [(all, &words[..]), (limited, &["AUTH", "app", "x"])] {
        bed.engine.run(client, OwnedRequest::from_args(words).as_request(), &mut out);
    }
    assert_eq!(out.to_vec(), b"+OK\r\n+OK\r\n");
    for (name, client) in [("all", all), ("limited", limited)] {
        bed.client = client;
        let mut group = criterion.benchmark_group("engine/rights");
        group.throughput(Throughput::Elements(16));
        group.bench_function(format!("get/{name}"), |bencher| {
            let pool: Vec<_> = (0..64).map(|_| bed.requests(16, get)).collect();
            let mut next = 0;
            bencher.iter(|| {
                next = (next + 1) % pool.len();
                bed.run(black_box(&pool[next]), &mut out);
                assert_eq!(out.first_byte(), Some(b'$'));
                out.clear();
            });
        });
        group.finish();
    }
}

criterion_group!(benches, batches, rights);
criterion_main!(benches);
