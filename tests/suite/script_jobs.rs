//! Locks and job queues as they are built on scripts, through a client library that people use.
//!
//! The locks are of the kind of redis-py and Redlock: a key with a token that only its holder may
//! prolong or remove. The queue is of the kind of BullMQ: all that happens to a job is a script,
//! which gets options by cmsgpack, keeps documents by cjson, computes names of keys that it never
//! declared, and tells what it did in a stream. Each job must be done once, in its turn.
//!
//! Real libraries played the same when these were written: BullMQ, Bull, bee-queue, ioredis,
//! rate-limiter-flexible, redis-py, RQ, huey and limits. None of them is needed here.

use crate::queue::connect;
use crate::server::Server;
use redis::{Commands, Connection, RedisResult, Script};
use std::collections::HashMap;
use std::thread;

const WORKERS: usize = 3;
const JOBS: usize = 120;

const RELEASE: &str = "
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then
        return 0
    end
    return redis.call('DEL', KEYS[1])";

const EXTEND: &str = "
    local left = redis.call('PTTL', KEYS[1])
    if redis.call('GET', KEYS[1]) ~= ARGV[1] or left < 0 then
        return 0
    end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2] + (ARGV[3] == 'more' and left or 0))";

fn acquire(connection: &mut Connection, token: &str) -> bool {
    let set = redis::cmd("SET").arg("lock").arg(token).arg("NX").arg("PX").arg(60_000).to_owned();
    set.query::<Option<String>>(connection).expect("SET").is_some()
}

fn run(connection: &mut Connection, script: &str, args: &[&str]) -> usize {
    let script = Script::new(script);
    let mut invocation = script.key("lock");
    for arg in args {
        invocation.arg(*arg);
    }
    invocation.invoke(connection).expect("the script is right")
}

#[test]
fn a_lock_obeys_its_holder_alone() {
    let server = Server::rufous();
    let mut connection = connect(&server);
    assert!(acquire(&mut connection, "mine") && !acquire(&mut connection, "other"));
    assert_eq!(run(&mut connection, EXTEND, &["other", "1000", "more"]), 0);
    assert_eq!(run(&mut connection, RELEASE, &["other"]), 0);
    assert_eq!(run(&mut connection, EXTEND, &["mine", "60000", "more"]), 1);
    let left: usize = connection.pttl("lock").expect("PTTL");
    assert!(left > 60_000, "{left}");
    assert_eq!(run(&mut connection, EXTEND, &["mine", "60000", "anew"]), 1);
    let left: usize = connection.pttl("lock").expect("PTTL");
    assert!(left <= 60_000, "{left}");
    // The library loads the script again when the server does not know it any more.
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).expect("SCRIPT FLUSH");
    assert_eq!(run(&mut connection, RELEASE, &["mine"]), 1);
    assert_eq!(run(&mut connection, RELEASE, &["mine"]), 0);
}

#[test]
fn who_holds_the_lock_is_alone() {
    const ROUNDS: usize = 30;
    let server = Server::rufous();
    let count = |token: String| {
        let mut connection = connect(&server);
        for _ in 0..ROUNDS {
            while !acquire(&mut connection, &token) {
                thread::yield_now();
            }
            let seen: Option<usize> = connection.get("count").expect("GET");
            connection.set::<_, _, ()>("count", seen.unwrap_or(0) + 1).expect("SET");
            assert_eq!(run(&mut connection, RELEASE, &[&token]), 1);
        }
    };
    thread::scope(|scope| {
        for number in 0..WORKERS {
            scope.spawn(move || count(format!("token:{number}")));
        }
    });
    let count: usize = connect(&server).get("count").expect("GET");
    assert_eq!(count, WORKERS * ROUNDS);
}

const ADD: &str = "
    local rcall = redis.call
    local options = cmsgpack.unpack(ARGV[1])
    local id = rcall('INCR', KEYS[1] .. 'id')
    local priority = options['priority'] or 0
    rcall('HMSET', KEYS[1] .. id, 'data', ARGV[2], 'options', cjson.encode(options))
    if options['due'] then
        rcall('ZADD', KEYS[1] .. 'delayed', options['due'], id)
    elseif priority > 0 then
        rcall('ZADD', KEYS[1] .. 'prioritized', priority * 0x100000000 + id, id)
    else
        rcall('LPUSH', KEYS[1] .. 'wait', id)
    end
    rcall('XADD', KEYS[1] .. 'events', 'MAXLEN', '~', 10000, '*', 'event', 'added', 'job', id)
    return tostring(id)";

const TAKE: &str = "
    local rcall = redis.call
    local wait, active = KEYS[1] .. 'wait', KEYS[1] .. 'active'
    local due = rcall('ZRANGEBYSCORE', KEYS[1] .. 'delayed', 0, ARGV[2], 'LIMIT', 0, 1000)
    if #due > 0 then
        rcall('ZREM', KEYS[1] .. 'delayed', unpack(due))
        rcall('LPUSH', wait, unpack(due))
    end
    local id = rcall('RPOPLPUSH', wait, active)
    if not id then
        id = rcall('ZPOPMIN', KEYS[1] .. 'prioritized')[1]
        if not id then
            return false
        end
        rcall('LPUSH', active, id)
    end
    rcall('SET', KEYS[1] .. id .. ':lock', ARGV[1], 'PX', 60000)
    rcall('HINCRBY', KEYS[1] .. id, 'attempts', 1)
    return {id, rcall('HGETALL', KEYS[1] .. id)}";

const FINISH: &str = "
    local rcall = redis.call
    local id, job = ARGV[2], KEYS[1] .. ARGV[2]
    if rcall('GET', job .. ':lock') ~= ARGV[1] then
        return redis.error_reply('NOLOCK The job ' .. id .. ' is not yours')
    end
    rcall('DEL', job .. ':lock')
    assert(rcall('LREM', KEYS[1] .. 'active', -1, id) == 1, 'the job is active')
    if ARGV[3] == 'failed' then
        rcall('LPUSH', KEYS[1] .. 'wait', id)
    else
        rcall('HSET', job, 'result', cjson.encode({id = id, of = cjson.decode(ARGV[4])}))
        rcall('ZADD', KEYS[1] .. 'completed', rcall('ZCARD', KEYS[1] .. 'completed'), id)
    end
    rcall('XADD', KEYS[1] .. 'events', 'MAXLEN', '~', 10000, '*', 'event', ARGV[3], 'job', id)
    return rcall('LLEN', KEYS[1] .. 'active')";

type Job = (String, HashMap<String, String>);

fn add(connection: &mut Connection, options: &[u8], data: &str) -> String {
    let script = Script::new(ADD);
    script.key("q:").arg(options).arg(data).invoke(connection).expect("a job is added")
}

fn take(connection: &mut Connection, token: &str, now: usize) -> Option<Job> {
    let script = Script::new(TAKE);
    script.key("q:").arg(token).arg(now).invoke(connection).expect("a job may be taken")
}

fn finish(connection: &mut Connection, token: &str, id: &str, how: &str) -> RedisResult<usize> {
    let script = Script::new(FINISH);
    script.key("q:").arg(token).arg(id).arg(how).arg(r#"{"a":[1,null]}"#).invoke(connection)
}

/// Options as cmsgpack writes them: none, or one small number.
fn options(of: Option<(&str, u8)>) -> Vec<u8> {
    let Some((name, number)) = of else { return vec![0x80] };
    [&[0x81, 0xa0 + name.len() as u8], name.as_bytes(), &[number]].concat()
}

#[test]
fn jobs_come_in_their_turn() {
    let server = Server::rufous();
    let mut connection = connect(&server);
    for of in [Some(("priority", 9)), Some(("due", 7)), None, Some(("priority", 2)), None] {
        add(&mut connection, &options(of), "{}");
    }
    let mut order = Vec::new();
    for now in [0, 0, 0, 7, 7, 7] {
        order.extend(take(&mut connection, "t", now).map(|(id, _)| id));
    }
    assert_eq!(order, ["3", "5", "4", "2", "1"]);
    let foreign = finish(&mut connection, "other", "3", "completed").expect_err("a foreign job");
    assert_eq!(foreign.code(), Some("NOLOCK"));
    assert_eq!(finish(&mut connection, "t", "3", "completed").expect("it is mine"), 4);
    let result: String = connection.hget("q:3", "result").expect("HGET");
    assert!(
        result.contains(r#""of":{"a":[1,null]}"#) && result.contains(r#""id":"3""#),
        "{result}"
    );
}

/// Takes jobs until there are none; every third fails when it is tried first.
fn work(server: &Server, token: &str) {
    let mut connection = connect(server);
    while let Some((id, job)) = take(&mut connection, token, 127) {
        let is_third = id.parse::<usize>().expect("a number").is_multiple_of(3);
        let how = if is_third && job["attempts"] == "1" { "failed" } else { "completed" };
        finish(&mut connection, token, &id, how).expect("it is mine");
    }
}

#[test]
fn each_job_is_done_once_whoever_takes_it() {
    let server = Server::rufous();
    let mut connection = connect(&server);
    for number in 0..JOBS {
        let of = [None, Some(("priority", 1 + number as u8 % 5)), Some(("due", number as u8))];
        add(&mut connection, &options(of[number % 3]), &format!("{{\"n\":{number}}}"));
    }
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let server = &server;
            scope.spawn(move || work(server, &format!("worker:{number}")));
        }
    });
    let mut completed: Vec<usize> = connection.zrange("q:completed", 0, -1).expect("ZRANGE");
    completed.sort_unstable();
    assert_eq!(completed, (1..=JOBS).collect::<Vec<_>>());
    for id in completed {
        let attempts: usize = connection.hget(format!("q:{id}"), "attempts").expect("HGET");
        assert_eq!(attempts, 1 + usize::from(id % 3 == 0), "job {id}");
    }
    let events: usize = redis::cmd("XLEN").arg("q:events").query(&mut connection).expect("XLEN");
    assert_eq!(events, 2 * JOBS + JOBS / 3);
    let left: usize = connection.exists(&["q:wait", "q:active", "q:delayed"][..]).expect("EXISTS");
    assert_eq!(left, 0);
}
