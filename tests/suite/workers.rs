//! A consumer group as its workers see it, through a client library that people use: who dies with
//! entries in its hands loses none of them, and none that was acknowledged comes back.

use crate::server::Server;
use redis::{Client, Connection, Value, cmd};
use std::collections::BTreeSet;
use std::thread;

const ENTRIES: usize = 400;
const WORKERS: usize = 3;
/// What a worker acknowledges before it dies, in the middle of what it was given.
const BEFORE_DEATH: usize = 37;

fn connect(server: &Server) -> Connection {
    let url = format!("redis://127.0.0.1:{}/", server.port);
    Client::open(url).expect("a URL").get_connection().expect("the server is up")
}

/// Reads as one consumer: the IDs it was given. From `0`, those that it has not acknowledged.
fn read(connection: &mut Connection, consumer: &str, from: &str) -> Vec<String> {
    let mut command = cmd("XREADGROUP");
    command.arg(&["GROUP", "g", consumer, "COUNT", "10"]);
    if from == ">" {
        command.arg(&["BLOCK", "50"]);
    }
    let reply: Value =
        command.arg(&["STREAMS", "jobs", from]).query(connection).expect("XREADGROUP");
    let Value::Array(streams) = reply else { return Vec::new() };
    let Value::Array(stream) = &streams[0] else { panic!("a stream is a pair") };
    let Value::Array(entries) = &stream[1] else { panic!("its entries are a list") };
    let id = |entry: &Value| {
        let Value::Array(entry) = entry else { panic!("an entry is a pair") };
        redis::from_redis_value(entry[0].clone()).expect("an ID is a string")
    };
    entries.iter().map(id).collect()
}

/// A worker's life: first what its former self left, then what is new, until there is nothing or
/// it has acknowledged so many. The connection drops with it.
fn live(server: &Server, consumer: &str, acknowledged_max: usize) -> Vec<String> {
    let mut connection = connect(server);
    let mut acknowledged = Vec::new();
    for from in ["0", ">"] {
        loop {
            let ids = read(&mut connection, consumer, from);
            if ids.is_empty() {
                break;
            }
            for id in ids {
                if acknowledged.len() == acknowledged_max {
                    return acknowledged;
                }
                let count: usize =
                    cmd("XACK").arg(&["jobs", "g", &id]).query(&mut connection).expect("XACK");
                assert_eq!(count, 1, "{id} was acknowledged before");
                acknowledged.push(id);
            }
        }
    }
    acknowledged
}

fn all_live(server: &Server, acknowledged_max: usize) -> Vec<String> {
    thread::scope(|scope| {
        let start = |number| {
            scope.spawn(move || live(server, &format!("worker:{number}"), acknowledged_max))
        };
        let workers: Vec<_> = (0..WORKERS).map(start).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it ends")).collect()
    })
}

fn fill(server: &Server) -> BTreeSet<String> {
    let mut producer = connect(server);
    let _: () = cmd("XGROUP")
        .arg(&["CREATE", "jobs", "g", "0", "MKSTREAM"])
        .query(&mut producer)
        .expect("XGROUP");
    let mut add = |number: usize| -> String {
        cmd("XADD").arg("jobs").arg("*").arg("job").arg(number).query(&mut producer).expect("XADD")
    };
    (0..ENTRIES).map(&mut add).collect()
}

fn pending(server: &Server) -> usize {
    let mut connection = connect(server);
    let reply: Vec<Value> =
        cmd("XPENDING").arg(&["jobs", "g"]).query(&mut connection).expect("XPENDING");
    redis::from_redis_value(reply[0].clone()).expect("a count")
}

#[test]
fn killed_workers_that_come_back_lose_and_repeat_nothing() {
    let server = Server::rufous();
    let given = fill(&server);
    let mut done = all_live(&server, BEFORE_DEATH);
    assert_eq!(done.len(), WORKERS * BEFORE_DEATH);
    assert!(pending(&server) > 0, "they died with entries in their hands");
    done.extend(all_live(&server, usize::MAX));
    assert_eq!(done.len(), ENTRIES);
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), given);
    assert_eq!(pending(&server), 0);
}

/// Workers that do not come back are inherited from.
#[test]
fn others_claim_what_dead_workers_left() {
    let server = Server::rufous();
    let given = fill(&server);
    let mut done = all_live(&server, BEFORE_DEATH);
    let mut heir = connect(&server);
    let mut from = "0-0".to_owned();
    let mut claimed = 0;
    loop {
        let (next, ids, deleted): (String, Vec<String>, Vec<String>) = cmd("XAUTOCLAIM")
            .arg(&["jobs", "g", "heir", "0", &from, "COUNT", "7", "JUSTID"])
            .query(&mut heir)
            .expect("XAUTOCLAIM");
        assert!(deleted.is_empty());
        claimed += ids.len();
        from = next;
        if from == "0-0" {
            break;
        }
    }
    assert_eq!(claimed, pending(&server));
    done.extend(live(&server, "heir", usize::MAX));
    assert_eq!(done.len(), ENTRIES);
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), given);
    assert_eq!(pending(&server), 0);
}
