//! Moves as an engine sees them, with the test in place of the target: what is sent, what goes when
//! it is acknowledged, and what becomes of everything that may happen in between.

use super::{Failure, MOVES_MAX, Order, Report, SENDS_MAX};
use crate::config::{Config, EventClasses};
use crate::engine::testing::{self, Bench, START_MS};
use crate::engine::{ClientId, Verdict};
use crate::keyspace::Entry;
use crate::resp::{OwnedRequest, ReplyBuf};

const OK: &str = "+OK|";

fn bench() -> Bench {
    with(Config::default())
}

fn with(config: Config) -> Bench {
    Bench::with(config).recording(EventClasses::GENERIC).holding_moves()
}

fn next(bench: &mut Bench) -> Order {
    bench.next_move().expect("something is to be sent")
}

fn keys(order: &Order) -> Vec<String> {
    let key = |entry: &Entry| String::from_utf8_lossy(entry.key()).into_owned();
    order.plan.entries.iter().map(key).collect()
}

/// The target has taken all.
fn acknowledge(bench: &mut Bench, order: &Order) {
    report(bench, order, true, None);
}

fn report(bench: &mut Bench, order: &Order, is_acked: bool, failure: Option<Failure>) {
    let acked = vec![is_acked; order.plan.entries.len()];
    bench.engine.finish_migration(Report { number: order.number, acked, failure });
    bench.turn();
}

/// Sends a request that is not to be answered at once.
fn send(bench: &mut Bench, client: ClientId, line: &str) -> Verdict {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = ReplyBuf::new();
    let verdict = bench.engine.run(client, OwnedRequest::from_args(&words).as_request(), &mut out);
    assert!(out.is_empty(), "{line}: {:?}", testing::text(&out.to_vec()));
    verdict
}

fn is_held_up(bench: &mut Bench, client: ClientId, line: &str) {
    assert_eq!(send(bench, client, line), Verdict::Postponed, "{line}");
    // It is not tried again before the move is over, and stands in no other line.
    bench.engine.wake(client);
    bench.turn();
    assert!(bench.has_woken(client));
}

#[test]
fn what_is_acknowledged_goes_by_one_del() {
    let mut bench = bench();
    bench.ask("MSET a 1 b 2 c 3");
    bench.ask("PEXPIRE b 70");
    bench.ask("SELECT 3");
    bench.ask("SET a 4");
    bench.ask("SELECT 0");
    bench.forget();
    let own = bench.client;
    bench.expect("MIGRATE h 1 '' 7 100 REPLACE AUTH2 u p KEYS a x b c", "");
    let order = next(&mut bench);
    assert_eq!(keys(&order), ["a", "b", "c"]);
    assert_eq!(order.plan.entries[1].expiry_ms(), Some(START_MS + 70));
    assert_eq!((&*order.target.host, &*order.target.port, order.plan.db), ("h", "1", 7));
    assert!(order.plan.replaces && !order.plan.is_asking && !order.target.is_secure);
    assert_eq!((order.timeout.as_millis(), order.plan.auth.is_some()), (100, true));
    bench.engine.finish_migration(Report {
        number: order.number,
        acked: vec![true, false, true],
        failure: Some(Failure::Refused((*b"BUSYKEY it is there").into())),
    });
    bench.turn();
    let error = "-ERR Target instance replied with error: BUSYKEY it is there|";
    assert_eq!(bench.heard(own), error);
    assert!(bench.has_woken(own));
    assert_eq!(bench.replayed(), ["DEL a c"]);
    assert_eq!(bench.told(), ["del a", "del c"]);
    bench.expect_all(&[("EXISTS a b c", ":1|"), ("SELECT 3", OK), ("GET a", "$1|4|")]);
    assert_eq!(bench.info("total_error_replies"), "1");
}

#[test]
fn a_copy_leaves_the_key() {
    let mut bench = bench();
    bench.ask("SET a 1");
    bench.forget();
    bench.expect("MIGRATE h 1 a 0 0 COPY", "");
    let (own, order) = (bench.client, next(&mut bench));
    assert_eq!(order.timeout.as_millis(), 1000);
    acknowledge(&mut bench, &order);
    assert_eq!((bench.heard(own).as_str(), bench.replayed().len()), (OK, 0));
    bench.expect("GET a", "$1|1|");
}

#[test]
fn nothing_goes_that_was_not_acknowledged() {
    let mut bench = bench();
    let failures = [
        (Failure::Connecting, "connecting to the client"),
        (Failure::Writing, "writing to target instance"),
        (Failure::Reading, "reading to target instance"),
    ];
    for (failure, doing) in failures {
        bench.ask("SET a 1");
        bench.expect("MIGRATE h 1 a 0 0", "");
        let (own, order) = (bench.client, next(&mut bench));
        report(&mut bench, &order, false, Some(failure));
        assert_eq!(bench.heard(own), format!("-IOERR error or timeout {doing}|"));
        bench.expect("GET a", "$1|1|");
    }
    assert!(bench.engine.server.moves.are_none() && bench.engine.server.moves.held.is_empty());
}

#[test]
fn writers_wait_and_readers_do_not() {
    let mut bench = bench();
    bench.expect_all(&[("SET a 1", OK), ("SET b 1", OK), ("RPUSH l 1", ":1|")]);
    let own = bench.client;
    bench.expect("MIGRATE h 1 '' 0 0 KEYS a l", "");
    let order = next(&mut bench);
    let other = bench.connect();
    for line in [
        "SET a 2",
        "MSET b 2 a 2",
        "DEL a",
        "RENAME b a",
        "RPOPLPUSH l m",
        "EXPIRE a 100",
        "BLPOP l 0",
        "MIGRATE h 1 a 0 0",
        "SORT l STORE a",
        "EVAL redis.call('get',KEYS[1]) 1 a",
    ] {
        is_held_up(&mut bench, other, line);
    }
    for (line, reply) in [
        ("GET a", "$1|1|"),
        ("LRANGE l 0 -1", "*1|$1|1|"),
        ("TTL a", ":-1|"),
        ("SET b 2", OK),
        ("COPY a c", ":1|"),
        ("SUNIONSTORE d e", ":0|"),
        ("EVAL_RO return(redis.call('get',KEYS[1])) 1 a", "$1|1|"),
    ] {
        assert_eq!(bench.ask_as(other, line), reply, "{line}");
    }
    // A transaction waits as a whole.
    for line in ["MULTI", "INCR b", "GET a", "INCR a"] {
        bench.ask_as(other, line);
    }
    assert_eq!(send(&mut bench, other, "EXEC"), Verdict::Postponed);
    acknowledge(&mut bench, &order);
    assert!(bench.has_woken(other));
    assert_eq!(bench.heard(own), OK);
    assert_eq!(bench.ask_as(other, "EXEC"), "*3|:3|$-1|:1|");
}

/// A script may write a key that it has not named. The write wins: the key stays until the target
/// has what it holds now.
#[test]
fn what_has_changed_meanwhile_is_sent_again() {
    let mut bench = bench();
    bench.expect_all(&[("SET a 1", OK), ("SET b 1", OK)]);
    let own = bench.client;
    bench.expect("MIGRATE h 1 '' 0 0 KEYS a b", "");
    let order = next(&mut bench);
    let other = bench.connect();
    bench.forget();
    bench.expect("EVAL return(redis.call('incr','a')) 0", ":2|");
    acknowledge(&mut bench, &order);
    assert_eq!(bench.heard(own), "", "it is not over");
    assert_eq!(bench.ask_as(other, "MGET a b"), "*2|$1|2|$-1|");
    let again = next(&mut bench);
    assert_eq!((keys(&again), again.plan.replaces), (vec!["a".to_owned()], true));
    is_held_up(&mut bench, other, "SET a 3");
    acknowledge(&mut bench, &again);
    assert_eq!(bench.heard(own), OK);
    assert_eq!(bench.replayed(), ["incr a", "DEL b", "DEL a"]);
    assert_eq!(bench.ask_as(other, "EXISTS a b"), ":0|");
}

#[test]
fn what_changes_again_and_again_stays() {
    let mut bench = bench();
    bench.ask("SET a 1");
    let own = bench.client;
    bench.expect("MIGRATE h 1 a 0 0", "");
    let other = bench.connect();
    let mut sends = 0;
    while let Some(order) = bench.next_move() {
        bench.ask_as(other, "EVAL return(redis.call('incr','a')) 0");
        acknowledge(&mut bench, &order);
        sends += 1;
    }
    assert_eq!(sends, SENDS_MAX);
    assert!(bench.heard(own).starts_with("-ERR A key has changed"));
    assert_eq!(bench.ask_as(other, "GET a"), format!("$1|{}|", sends + 1));
    assert_eq!(bench.ask_as(other, "DEL a"), ":1|", "nobody holds it");
}

#[test]
fn keys_that_are_gone_meanwhile_are_gone() {
    let ways = ["FLUSHALL", "FLUSHDB", "EVAL return(redis.call('del','a','b')) 0", "SWAPDB 0 1"];
    for way in ways {
        let mut bench = bench();
        bench.expect_all(&[("SET a 1", OK), ("SET b 1", OK)]);
        let own = bench.client;
        bench.expect("MIGRATE h 1 '' 0 0 KEYS a b", "");
        let order = next(&mut bench);
        let other = bench.connect();
        bench.ask_as(other, way);
        bench.forget();
        acknowledge(&mut bench, &order);
        assert_eq!((bench.heard(own).as_str(), bench.replayed().len()), (OK, 0), "{way}");
        bench.ask_as(other, "SELECT 1");
        let stay = if way == "SWAPDB 0 1" { ":2|" } else { ":0|" };
        assert_eq!(bench.ask_as(other, "DBSIZE"), stay, "{way}");
    }
}

#[test]
fn a_key_may_expire_meanwhile() {
    for looks in [true, false] {
        let mut bench = bench();
        bench.expect("SET a 1 PX 50", OK);
        let own = bench.client;
        bench.expect("MIGRATE h 1 a 0 0", "");
        let order = next(&mut bench);
        let other = bench.connect();
        bench.forget();
        bench.advance(51);
        if looks {
            assert_eq!(bench.ask_as(other, "EXISTS a"), ":0|");
        }
        acknowledge(&mut bench, &order);
        assert_eq!(bench.heard(own), OK);
        assert_eq!(bench.replayed(), ["DEL a"], "once");
        assert_eq!(bench.keys(), 0);
    }
}

/// A key whose time came between its command and the answer is no key that is missed.
#[test]
fn a_missing_key_is_none() {
    let mut bench = bench();
    bench.ask("SET a 1 PX 5");
    bench.advance(6);
    bench.expect_all(&[
        ("MIGRATE h 1 a 0 0", "+NOKEY|"),
        ("MIGRATE h 1 '' 0 0 KEYS a b", "+NOKEY|"),
        ("MIGRATE h 1 '' 0 0 KEYS", "+NOKEY|"),
        ("MIGRATE h 1 '' 0 0", "+NOKEY|"),
    ]);
    assert!(bench.next_move().is_none());
}

#[test]
fn a_move_goes_on_without_the_client_that_asked() {
    let mut bench = bench();
    bench.ask("SET a 1");
    let own = bench.client;
    bench.expect("MIGRATE h 1 a 0 0", "");
    let order = next(&mut bench);
    let other = bench.connect();
    bench.engine.disconnect(own);
    is_held_up(&mut bench, other, "SET a 2");
    bench.forget();
    acknowledge(&mut bench, &order);
    assert_eq!(bench.replayed(), ["DEL a"]);
    assert_eq!(bench.ask_as(other, "EXISTS a"), ":0|");
}

#[test]
fn nothing_goes_while_the_data_is_to_stay() {
    let mut bench = bench();
    bench.ask("SET a 1");
    let own = bench.client;
    bench.expect("MIGRATE h 1 a 0 0", "");
    let order = next(&mut bench);
    let other = bench.connect();
    assert_eq!(bench.ask_as(other, "CLIENT PAUSE 100 WRITE"), OK);
    acknowledge(&mut bench, &order);
    assert_eq!(bench.heard(own), "");
    assert_eq!(bench.ask_as(other, "GET a"), "$1|1|");
    bench.advance(101);
    bench.engine.cron();
    bench.turn();
    assert_eq!(bench.heard(own), OK);
    assert_eq!(bench.ask_as(other, "EXISTS a"), ":0|");
}

#[test]
fn a_replica_leaves_keys_to_its_primary() {
    let mut bench = bench();
    bench.ask("SET a 1");
    let own = bench.client;
    bench.expect("MIGRATE h 1 a 0 0", "");
    let order = next(&mut bench);
    let other = bench.connect();
    assert_eq!(bench.ask_as(other, "REPLICAOF 127.0.0.1 1"), OK);
    bench.forget();
    acknowledge(&mut bench, &order);
    assert_eq!(bench.heard(own), "-READONLY You can't write against a read only replica.|");
    assert_eq!(bench.ask_as(other, "GET a"), "$1|1|");
    assert!(bench.replayed().is_empty());
}

#[test]
fn a_flood_of_moves_is_bounded() {
    let mut bench = bench();
    let mut orders = Vec::new();
    for n in 0..MOVES_MAX {
        bench.ask(&format!("SET k{n} 1"));
        bench.connect();
        bench.expect(&format!("MIGRATE h 1 k{n} 0 0"), "");
        orders.push(next(&mut bench));
    }
    let late = bench.connect();
    bench.ask("SET late 1");
    assert_eq!(send(&mut bench, late, "MIGRATE h 1 late 0 0"), Verdict::Postponed);
    let other = bench.connect();
    assert_eq!(bench.ask_as(other, "SET late 2"), OK, "who only waits to move holds nothing");
    acknowledge(&mut bench, &orders[7]);
    assert!(bench.has_woken(late));
    assert_eq!(send(&mut bench, late, "MIGRATE h 1 late 0 0"), Verdict::Suspended);
    assert_eq!(keys(&next(&mut bench)), ["late"]);
}

/// Within a transaction the reply is a part of another one, and what is seen is whole.
#[test]
fn a_transaction_stands_until_its_keys_have_gone() {
    let mut bench = bench().stepping();
    bench.ask("SET a 1");
    bench.forget();
    let own = bench.client;
    for line in ["MULTI", "INCR b", "MIGRATE h 1 a 0 0", "INCR b"] {
        bench.ask(line);
    }
    bench.expect("EXEC", "");
    let order = next(&mut bench);
    assert!(!bench.engine.is_under_way(), "there is nothing to do for it");
    let other = bench.connect();
    assert_eq!(send(&mut bench, other, "GET b"), Verdict::Postponed);
    acknowledge(&mut bench, &order);
    while bench.engine.is_under_way() {
        bench.turn();
    }
    assert_eq!(bench.heard(own), "*3|:1|+OK|:2|");
    assert!(bench.has_woken(other));
    assert_eq!(bench.ask_as(other, "MGET a b"), "*2|$-1|$1|2|");
    assert_eq!(bench.replayed(), ["MULTI", "INCR b", "DEL a", "INCR b", "EXEC"]);
}

#[test]
fn a_script_gets_the_outcome_of_its_moves() {
    let mut bench = bench().stepping();
    bench.ask("SET a 1");
    let own = bench.client;
    let body = "return({redis.call('migrate','h',1,'a',0,0),redis.call('exists','a')})";
    bench.expect(&format!("EVAL {body} 0"), "");
    let order = next(&mut bench);
    acknowledge(&mut bench, &order);
    while bench.engine.is_under_way() {
        bench.turn();
    }
    assert_eq!(bench.heard(own), "*2|+OK|:0|");
    bench.ask_as(own, "SET a 1");
    let body = "return(redis.pcall('migrate','h',1,'a',0,0)['err'])";
    bench.expect(&format!("EVAL {body} 0"), "");
    let order = next(&mut bench);
    report(&mut bench, &order, false, Some(Failure::Reading));
    while bench.engine.is_under_way() {
        bench.turn();
    }
    assert!(bench.heard(own).contains("IOERR error or timeout reading to target instance"));
    assert_eq!(bench.ask_as(own, "GET a"), "$1|1|");
}

/// A password may be any word, that of an option too.
#[test]
fn credentials_are_no_keys_and_are_not_shown() {
    let mut bench = bench();
    let monitor = bench.connect();
    bench.ask("MONITOR");
    bench.connect();
    bench.ask("MIGRATE h 1 '' 0 0 AUTH keys KEYS k auth");
    bench.ask("MIGRATE h 1 k 0 0 AUTH2 name secret COPY");
    let heard = bench.heard(monitor);
    assert!(!heard.contains("secret") && !heard.contains("name"), "{heard}");
    assert_eq!(heard.matches("(redacted)").count(), 3, "{heard}");
    assert!(heard.contains("\"k\" \"auth\""), "{heard}");
    bench.expect_all(&[
        ("COMMAND GETKEYS MIGRATE h 1 '' 0 0 AUTH keys KEYS k auth", "*2|$1|k|$4|auth|"),
        ("COMMAND GETKEYS MIGRATE h 1 k 0 0 AUTH2 KEYS KEYS COPY", "*1|$1|k|"),
        ("COMMAND GETKEYS MIGRATE h 1 k 0 0 COPY", "*1|$1|k|"),
    ]);
}

#[test]
fn a_script_that_is_debugged_over_a_copy_sends_nothing() {
    let mut bench = bench();
    bench.expect("SET a 1", OK);
    let other = bench.client;
    let debugs = bench.connect();
    bench.expect("SCRIPT DEBUG YES", OK);
    let script = "local r = redis.pcall('migrate','h',1,'a',0,0)\nreturn r['err']";
    bench.run(&[b"EVAL", script.as_bytes(), b"0"]);
    let said = bench.ask("c") + &bench.heard(debugs);
    assert!(said.contains("IOERR error or timeout connecting"), "{said}");
    assert!(bench.next_move().is_none() && bench.engine.server.moves.are_none());
    assert_eq!(bench.ask_as(other, "SET a 2"), OK);
}

/// Nobody is left to take the outcome, and the keys are nobody's to hold.
#[test]
fn a_move_whose_transaction_is_no_more_ends_all_the_same() {
    let mut bench = bench().stepping();
    bench.ask("SET a 1");
    for line in ["MULTI", "MIGRATE h 1 a 0 0", "EXEC"] {
        bench.ask(line);
    }
    let order = next(&mut bench);
    bench.engine.server.under_way = None;
    let other = bench.connect();
    acknowledge(&mut bench, &order);
    assert!(bench.engine.server.moves.are_none());
    assert_eq!(bench.ask_as(other, "SET a 2"), OK);
}
