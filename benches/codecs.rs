//! What documents cost a script: one of 2 KB, decoded and encoded, through the libraries.

use criterion::{Criterion, criterion_group, criterion_main};
use rufous::resp::Protocol;
use rufous::script::run::{Answer, Asked, Run};
use rufous::script::vm::{Role, Vm};
use std::hint::black_box;

/// So many times a script does what is measured, so that its start does not count.
const REPEATS: usize = 1000;

/// Records as applications keep them: short strings, numbers with and without a fraction.
fn document() -> String {
    let records: Vec<String> = (0..15)
        .map(|id| {
            let score = f64::from(id) * 63.37;
            format!(
                "{{\"id\":{id},\"name\":\"user {id}\",\"email\":\"user{id}@example.com\",\
                 \"score\":{score:.2},\"tags\":[\"a\",\"bb\",\"ccc\"],\"active\":true,\"n\":null}}"
            )
        })
        .collect();
    format!("{{\"items\":[{}],\"total\":15}}", records.join(","))
}

fn measure(criterion: &mut Criterion, name: &str, before: &str, repeated: &str) {
    let vm = Vm::new(Role::Scripts, 7, &[]).expect("there is memory");
    let body = format!("{before} for i = 1, {REPEATS} do {repeated} end");
    let script = vm.compile(body.as_bytes()).expect("it is a script");
    let document = document();
    criterion.bench_function(&format!("{name} x {REPEATS}"), |bencher| {
        bencher.iter(|| {
            let args = [document.as_bytes()];
            let run = Run::new(&vm, &script, [], args, Protocol::Resp2);
            let mut run = run.expect("there is memory");
            while run.resume(Answer::Go) != Asked::Done {}
            black_box(run.protocol());
        });
    });
}

fn codecs(criterion: &mut Criterion) {
    let decoded = "local v = cjson.decode(ARGV[1])";
    let packed = "local s = cmsgpack.pack(cjson.decode(ARGV[1]))";
    measure(criterion, "json there and back", "", "cjson.encode(cjson.decode(ARGV[1]))");
    measure(criterion, "json decode", "", "cjson.decode(ARGV[1])");
    measure(criterion, "json encode", decoded, "cjson.encode(v)");
    measure(criterion, "message unpack", packed, "cmsgpack.unpack(s)");
    measure(criterion, "message pack", decoded, "cmsgpack.pack(v)");
}

criterion_group!(benches, codecs);
criterion_main!(benches);
