//! Job queues as they are built on lists and sorted sets, through a client library that people use.
//!
//! One is of the kind of Sidekiq: jobs wait in a sorted set until they are due, a poller moves them
//! to a list, workers take them with a blocking pop. The other is of the kind of BullMQ: a worker
//! moves a job with a blocking move into a list of its own, so that a job whose worker dies is not
//! lost. Each job must be done once, whoever dies meanwhile.

use crate::server::Server;
use redis::{Client, Commands, Connection, Direction, RedisResult};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const JOBS: usize = 300;
const WORKERS: usize = 3;

/// Every other connection speaks RESP3.
pub fn connect(server: &Server) -> Connection {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let protocol = 2 + CONNECTIONS.fetch_add(1, Ordering::Relaxed) % 2;
    let url = format!("redis://127.0.0.1:{}/?protocol=resp{protocol}", server.port);
    let client = Client::open(url).expect("a URL");
    client.get_connection().expect("the server is up")
}

fn names() -> BTreeSet<String> {
    (0..JOBS).map(|number| format!("job:{number}")).collect()
}

/// Runs workers until they end, and what they did, in order.
fn work(server: &Server, worker: impl Fn(Connection, usize) -> Vec<String> + Sync) -> Vec<String> {
    thread::scope(|scope| {
        let worker = &worker;
        let start = |number| scope.spawn(move || worker(connect(server), number));
        let workers: Vec<_> = (0..WORKERS).map(start).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it ends")).collect()
    })
}

#[test]
fn scheduled_jobs_are_done_once_when_they_are_due() {
    let server = Server::rufous();
    let mut producer = connect(&server);
    for (number, job) in names().iter().enumerate() {
        let due = number as f64 / 10.0;
        let added: usize = producer.zadd("schedule", job, due).expect("ZADD");
        assert_eq!(added, 1);
    }
    let done = thread::scope(|scope| {
        let workers = scope.spawn(|| {
            work(&server, |mut connection, _| {
                let mut done = Vec::new();
                loop {
                    let (_, job): (String, String) = connection.brpop("queue", 0.0).expect("BRPOP");
                    if job == "stop" {
                        return done;
                    }
                    done.push(job);
                }
            })
        });
        let mut poller = connect(&server);
        let mut now = -1.0;
        while poller.zcard::<_, usize>("schedule").expect("ZCARD") > 0 {
            now += 1.0;
            let due: Vec<String> = poller.zrangebyscore("schedule", "-inf", now).expect("due jobs");
            for job in due {
                // Only who takes it out of the schedule may queue it: pollers may be several.
                if poller.zrem::<_, _, usize>("schedule", &job).expect("ZREM") == 1 {
                    poller.lpush::<_, _, usize>("queue", &job).expect("LPUSH");
                }
            }
        }
        for _ in 0..WORKERS {
            poller.lpush::<_, _, usize>("queue", "stop").expect("LPUSH");
        }
        workers.join().expect("the workers end")
    });
    assert_eq!(done.len(), JOBS);
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), names());
}

/// Moves a job to the worker's own list; `None` when none came in time.
fn take(connection: &mut Connection, own: &str) -> RedisResult<Option<String>> {
    connection.blmove("queue", own, Direction::Right, Direction::Left, 0.05)
}

#[test]
fn a_job_outlives_the_worker_that_dies_with_it() {
    let server = Server::rufous();
    let mut producer = connect(&server);
    let jobs: Vec<String> = names().into_iter().collect();
    producer.lpush::<_, _, usize>("queue", &jobs).expect("LPUSH");
    // Each worker dies with a job in its hands that it has not told done.
    let finished = work(&server, |mut connection, number| {
        let own = format!("active:{number}");
        let mut finished = Vec::new();
        while let Some(job) = take(&mut connection, &own).expect("BLMOVE") {
            if finished.len() == JOBS / 10 {
                return finished;
            }
            let removed: usize = connection.lrem(&own, 1, &job).expect("LREM");
            assert_eq!(removed, 1, "{job} is in its worker's list");
            finished.push(job);
        }
        finished
    });
    assert_eq!(finished.len(), WORKERS * (JOBS / 10));
    // Whoever comes after them puts back what they left and goes on.
    for number in 0..WORKERS {
        let own = format!("active:{number}");
        let back: Option<String> =
            producer.lmove(&own, "queue", Direction::Right, Direction::Right).expect("LMOVE");
        assert!(back.is_some(), "worker {number} died with a job");
    }
    let rest = work(&server, |mut connection, number| {
        let own = format!("active:{number}");
        let mut finished = Vec::new();
        while let Some(job) = take(&mut connection, &own).expect("BLMOVE") {
            connection.lrem::<_, _, usize>(&own, 1, &job).expect("LREM");
            finished.push(job);
        }
        finished
    });
    let all: Vec<String> = finished.into_iter().chain(rest).collect();
    assert_eq!(all.len(), JOBS);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), names());
    let left: Vec<String> = producer.keys("*").expect("KEYS");
    assert!(left.is_empty(), "{left:?}");
}
