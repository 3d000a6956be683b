//! The wire protocol in process: 16 pipelined requests parsed, and replies written.
//!
//! Figures to reach: 15 ns per SET parsed, 10 ns per bulk reply.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rufous::resp::reply::{Protocol, ReplyBuf, SharedBytes};
use rufous::resp::request::{Limits, RequestReader};
use rufous::structs::number::{F64Buf, format_f64, parse_f64, parse_i64};

const DEPTH: u64 = 16;
const LIMITS: Limits = Limits { bulk_len_max: 512 << 20, authenticated: true };

fn parse(criterion: &mut Criterion) {
    let set = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n\
                $32\r\n0123456789abcdef0123456789abcdef\r\n";
    let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(DEPTH));
    for (name, request) in
        [("set", &set[..]), ("get", get), ("inline", b"GET key:000000000001\r\n")]
    {
        let pipeline = request.repeat(16);
        let mut reader = RequestReader::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                reader.feed(&pipeline);
                let parsed = reader.parse(&LIMITS).expect("valid requests");
                for _ in 0..parsed {
                    black_box(reader.request(0).arg(1));
                    reader.pop_front();
                }
            });
        });
    }
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(DEPTH));
    let mut out = ReplyBuf::new();
    let mut bench = |name: &str, write: &dyn Fn(&mut ReplyBuf)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..DEPTH {
                    write(&mut out);
                }
                let len = out.len();
                out.advance(black_box(len));
            });
        });
    };
    let payload = black_box(*b"0123456789abcdef0123456789abcdef");
    let shared = SharedBytes::new(vec![b'v'; 100_000]);
    bench("bulk_3", &|out| out.writer(Protocol::Resp2).bulk(&payload[..3]));
    bench("bulk_32", &|out| out.writer(Protocol::Resp2).bulk(&payload));
    bench("integer_small", &|out| out.writer(Protocol::Resp2).integer(black_box(1)));
    bench("integer_large", &|out| out.writer(Protocol::Resp2).integer(black_box(1_234_567)));
    bench("ok", &|out| out.writer(Protocol::Resp2).ok());
    bench("null", &|out| out.writer(Protocol::Resp3).null());
    bench("double", &|out| out.writer(Protocol::Resp3).double(black_box(2.567_891_234)));
    bench("shared_100k", &|out| out.writer(Protocol::Resp2).bulk_shared(&shared));
    group.finish();
}

fn number(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("number");
    group.bench_function("parse_i64", |bencher| {
        bencher.iter(|| parse_i64(black_box(b"12345678")));
    });
    group.bench_function("parse_f64", |bencher| bencher.iter(|| parse_f64(black_box(b"3.14159"))));
    group.bench_function("format_f64", |bencher| {
        bencher.iter(|| format_f64(black_box(2.56789), &mut F64Buf::new()).len());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30);
    targets = parse, write, number
}
criterion_main!(benches);
