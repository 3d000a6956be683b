//! What a run of a script costs, without the commands that it calls.

use criterion::{Criterion, criterion_group, criterion_main};
use rufous::resp::{Protocol, ReplyBuf};
use rufous::script::run::{Answer, Asked, Run};
use rufous::script::vm::{Compiled, Role, Vm};
use std::hint::black_box;

const TOKEN_BUCKET: &str = "
    local tokens_key, time_key = KEYS[1], KEYS[2]
    local rate = tonumber(ARGV[1])
    local capacity = tonumber(ARGV[2])
    local now = tonumber(ARGV[3])
    local requested = tonumber(ARGV[4])
    local fill_time = capacity / rate
    local ttl = math.floor(fill_time * 2)
    local last_tokens = tonumber(redis.call('get', tokens_key))
    if last_tokens == nil then
        last_tokens = capacity
    end
    local last = tonumber(redis.call('get', time_key))
    if last == nil then
        last = 0
    end
    local delta = math.max(0, now - last)
    local filled = math.min(capacity, last_tokens + delta * rate)
    local allowed = filled >= requested
    local new_tokens = filled
    if allowed then
        new_tokens = filled - requested
    end
    redis.call('setex', tokens_key, ttl, new_tokens)
    redis.call('setex', time_key, ttl, now)
    return { allowed, new_tokens }";

/// One whole run, whose calls are all answered so.
fn run(vm: &Vm, script: &Compiled, answer: &[u8], out: &mut ReplyBuf) {
    let keys: [&[u8]; 2] = [b"key:000000000001:tokens", b"key:000000000001:time"];
    let args: [&[u8]; 4] = [b"10", b"100", b"1700000000", b"1"];
    let mut run = Run::new(vm, script, keys, args, Protocol::Resp2).expect("there is memory");
    while run.resume(Answer::Go) != Asked::Done {
        black_box(run.request().as_request().len());
        let mut reply = run.reply();
        reply.clear();
        reply.append_raw(answer);
    }
    run.write_result(&mut out.writer(Protocol::Resp2)).expect("it does not fail");
    out.clear();
}

fn scripts(c: &mut Criterion) {
    let vm = Vm::new(Role::Scripts, 1, &[]).expect("it is right");
    let mut out = ReplyBuf::new();
    for (name, body, answer) in [
        ("return 1", "return 1", "+OK\r\n"),
        ("one call", "return redis.call('get',KEYS[1])", "$5\r\nvalue\r\n"),
        (
            "a lock that is let go",
            "if redis.call('get',KEYS[1]) == ARGV[1] then return \
         redis.call('del',KEYS[1]) else return 0 end",
            "$2\r\n10\r\n",
        ),
        ("token bucket", TOKEN_BUCKET, "$2\r\n10\r\n"),
    ] {
        let script = vm.compile(body.as_bytes()).expect("it is right");
        c.bench_function(&format!("script/{name}"), |b| {
            b.iter(|| run(&vm, &script, answer.as_bytes(), &mut out));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = scripts
}
criterion_main!(benches);
