//! A Sentinel as its clients see it: answers that wait, and what they hear.

use crate::engine::ServerParts;
use crate::engine::testing::Bench;
use crate::sentinel::{Event, Surroundings};

fn bench(lines: &[&str], parts: ServerParts) -> Bench {
    let mut bench = Bench::over(crate::config::Config::default(), parts);
    let split = |line: &&str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let lines: Vec<Vec<Vec<u8>>> = lines.iter().map(split).collect();
    bench.engine.become_sentinel(Surroundings::default(), &lines).expect("the lines are sound");
    bench.engine.cron();
    bench
}

fn resolve(bench: &mut Bench, ip: Option<&str>) {
    let ip = ip.map(str::to_owned);
    bench.engine.tell_sentinel(Event::Resolved { host: "some.host".to_owned(), ip });
    bench.turn();
}

#[test]
fn who_names_a_host_waits_until_it_is_found() {
    let mut bench = bench(&["resolve-hostnames yes"], ServerParts::default());
    let client = bench.client;
    bench.expect("SENTINEL MONITOR m some.host 6379 1", "");
    resolve(&mut bench, Some("10.0.0.1"));
    assert_eq!(bench.heard(client), "+OK|");
    bench.expect("SENTINEL GET-MASTER-ADDR-BY-NAME m", "*2|$8|10.0.0.1|$4|6379|");
}

#[test]
fn who_names_a_host_that_is_not_found_is_told_so() {
    let mut bench = bench(&["resolve-hostnames yes"], ServerParts::default());
    let client = bench.client;
    bench.expect("SENTINEL MONITOR m some.host 6379 1", "");
    resolve(&mut bench, None);
    assert_eq!(bench.heard(client), "-ERR Invalid IP address or hostname specified|");
    bench.expect("SENTINEL MASTERS", "*0|");
}

#[test]
fn what_somebody_asked_who_has_gone_meanwhile_is_done() {
    let mut bench = bench(&["resolve-hostnames yes"], ServerParts::default());
    let client = bench.connect();
    bench.expect("SENTINEL MONITOR m some.host 6379 1", "");
    bench.engine.disconnect(client);
    resolve(&mut bench, Some("10.0.0.1"));
    bench.connect();
    bench.expect("SENTINEL GET-MASTER-ADDR-BY-NAME m", "*2|$8|10.0.0.1|$4|6379|");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_no_vote() {
    let path = Some("/no/such/directory/sentinel.conf".into());
    let parts = ServerParts { config_path: path, ..ServerParts::default() };
    let mut bench = bench(&["monitor m 10.0.0.1 6379 2"], parts);
    let failed = "-ERR Failed to save config file. Check server logs.|";
    bench.expect("SENTINEL FLUSHCONFIG", failed);
    bench.expect("SENTINEL SET m quorum 3", failed);
    bench.expect("SENTINEL IS-MASTER-DOWN-BY-ADDR 10.0.0.1 6379 7 x", "*3|:0|$1|*|:0|");
    bench.expect("SENTINEL IS-MASTER-DOWN-BY-ADDR 10.0.0.1 6379 7 *", "*3|:0|$1|*|:0|");
}

#[test]
fn a_vote_is_told_when_the_file_is_written() {
    let mut bench = bench(&["monitor m 10.0.0.1 6379 2"], ServerParts::default());
    bench.expect("SENTINEL IS-MASTER-DOWN-BY-ADDR 10.0.0.1 6379 7 x", "*3|:0|$1|x|:7|");
    bench.expect("SENTINEL IS-MASTER-DOWN-BY-ADDR 10.0.0.1 6379 7 y", "*3|:0|$1|x|:7|");
}

#[test]
fn listeners_hear_events_and_who_causes_one_hears_it_behind_the_reply() {
    let mut bench = bench(&[], ServerParts::default());
    let listener = bench.connect();
    bench.ask("PSUBSCRIBE +*");
    bench.connect();
    bench.expect("SENTINEL MONITOR m 10.0.0.1 6379 2", "+OK|");
    let message = "*4|$8|pmessage|$2|+*|$8|+monitor|$31|master m 10.0.0.1 6379 quorum 2|";
    assert_eq!(bench.heard(listener), message);
}

#[test]
fn a_sentinel_has_no_data_to_save() {
    let mut bench = bench(&[], ServerParts::default());
    bench.ask("SHUTDOWN");
    assert_eq!((bench.exit_code(), bench.jobs()), (Some(0), 0));
}
