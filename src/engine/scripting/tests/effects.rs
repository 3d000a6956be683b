//! What scripts leave behind: in the write stream, in the figures, in the logs.

use super::*;
use crate::config::EventClasses;

fn recording() -> Bench {
    bench().recording(EventClasses::default())
}

fn replayed(bench: &mut Bench, body: &str) -> Vec<String> {
    bench.forget();
    let reply = eval(bench, body);
    assert!(!reply.starts_with('-'), "{body}: {reply}");
    bench.replayed()
}

#[test]
fn what_a_script_writes_is_one_group() {
    let mut bench = recording();
    for (body, expected) in [
        ("return redis.call('get','k')", &[][..]),
        ("redis.call('set','k','1')", &["set k 1"]),
        ("redis.call('set','k','1') redis.call('del','none')", &["set k 1"]),
        (
            "redis.call('incr','k') redis.call('get','k') redis.call('del','k')",
            &["MULTI", "incr k", "del k", "EXEC"],
        ),
        ("redis.pcall('incr','k','x') redis.call('set','k','v')", &["set k v"]),
        ("redis.call('set','k','v','px',100)", &["SET k v PXAT 1700000000100"]),
        (
            "redis.call('sadd','s','a') redis.call('spop','s')",
            &["MULTI", "sadd s a", "SREM s a", "EXEC"],
        ),
    ] {
        let found = replayed(&mut bench, body);
        let found: Vec<String> = found.iter().map(|line| line.to_lowercase()).collect();
        let expected: Vec<String> = expected.iter().map(|line| line.to_lowercase()).collect();
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn a_script_says_where_its_writes_go() {
    let mut bench = recording();
    for (mask, is_logged) in [
        ("redis.REPL_NONE", false),
        ("redis.REPL_AOF", true),
        ("redis.REPL_SLAVE", false),
        ("redis.REPL_REPLICA", false),
        ("redis.REPL_ALL", true),
    ] {
        let body = format!("redis.set_repl({mask}) redis.call('set','k','v')");
        let expected: &[&str] = if is_logged { &["set k v"] } else { &[] };
        assert_eq!(replayed(&mut bench, &body), expected, "{mask}");
    }
    // It holds until it is said otherwise, and for this script.
    let body = "redis.call('set','a','1') redis.set_repl(redis.REPL_NONE) \
                redis.call('set','b','2') redis.call('set','c','p','px',5) \
                redis.call('sadd','s','1','2') redis.call('spop','s',2) \
                redis.set_repl(redis.REPL_ALL) redis.call('set','d','3')";
    assert_eq!(replayed(&mut bench, body), ["MULTI", "set a 1", "set d 3", "EXEC"]);
    assert_eq!(replayed(&mut bench, "redis.call('set','e','4')"), ["set e 4"]);
    bench.forget();
    bench.ask("SET f 5");
    assert_eq!(bench.replayed(), ["SET f 5"]);
}

#[test]
fn a_mask_holds_though_the_script_is_put_aside_or_fails() {
    let mut bench = recording();
    bench.forget();
    let body = "redis.set_repl(redis.REPL_NONE) redis.call('set','a','1')";
    start(&mut bench, &format!("{body} {A_WHILE} redis.call('set','b','1')"));
    finish(&mut bench);
    assert_eq!(bench.replayed(), [""; 0]);
    assert!(eval(&mut bench, &format!("{body} error('x')")).starts_with("-ERR"));
    bench.ask("SET c 1");
    assert_eq!(bench.replayed(), ["SET c 1"]);
    // In a transaction the others are written.
    bench.expect_all(&[("MULTI", "+OK|"), ("SET a 1", "+QUEUED|")]);
    eval(&mut bench, body);
    bench.expect_all(&[("SET b 1", "+QUEUED|"), ("EXEC", "*3|+OK|$-1|+OK|")]);
    assert_eq!(bench.replayed(), ["MULTI", "SET a 1", "SET b 1", "EXEC"]);
}

/// That its time has come is so wherever the data is.
#[test]
fn keys_that_a_script_finds_expired_are_deleted_everywhere() {
    let mut bench = recording();
    bench.ask("SET k v PX 5");
    bench.ask("SET l v PX 5");
    bench.advance(10);
    let body = "redis.set_repl(redis.REPL_NONE) redis.call('get','k') redis.call('set','l','v')";
    let found = replayed(&mut bench, body);
    assert_eq!(found, ["MULTI", "DEL k", "DEL l", "EXEC"]);
}

/// What nobody else hears of has changed the data all the same.
#[test]
fn writes_that_go_nowhere_change_the_data() {
    let mut bench = recording();
    let watcher = bench.connect();
    bench.ask("WATCH k");
    let dirty = bench.dirty();
    bench.connect();
    eval(&mut bench, "redis.set_repl(redis.REPL_NONE) redis.call('set','k','v')");
    assert_eq!(bench.dirty(), dirty + 1);
    bench.ask_as(watcher, "MULTI");
    bench.expect("EXEC", "*-1|");
}

#[test]
fn a_script_selects_a_database_for_itself() {
    let mut bench = recording();
    bench.ask("SELECT 2");
    bench.forget();
    eval(&mut bench, "redis.call('select',5) redis.call('set','k','v')");
    let commands = bench.engine.server.propagation.drain();
    assert_eq!(commands.iter().map(|command| command.db).collect::<Vec<_>>(), [5]);
    bench.expect("EXISTS k", ":0|");
    // Also one that is put aside, fails, or is ended.
    start(&mut bench, &format!("redis.call('select',7) {A_WHILE} redis.call('set','k','v')"));
    finish(&mut bench);
    bench.expect("EXISTS k", ":0|");
    eval(&mut bench, "redis.call('select',5) error('x')");
    bench.expect("EXISTS k", ":0|");
    let own = start(&mut bench, "redis.call('select',5) while true do end");
    bench.connect();
    bench.expect("SCRIPT KILL", "+OK|");
    finish(&mut bench);
    assert_eq!(bench.ask_as(own, "EXISTS k"), ":0|");
}

fn stat(bench: &mut Bench, section: &str, name: &str) -> String {
    bench.client = bench.engine.connect(crate::engine::Peer::internal());
    bench.info_lines(section, name).join("|")
}

#[test]
fn inner_and_outer_commands_are_counted_each_by_itself() {
    let mut bench = bench();
    eval(&mut bench, "redis.call('set','k','v') redis.call('set','k','v') return 1");
    let zero = "usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0";
    assert_eq!(
        stat(&mut bench, "commandstats", "cmdstat_eval:"),
        format!("cmdstat_eval:calls=1,{zero}")
    );
    assert_eq!(
        stat(&mut bench, "commandstats", "cmdstat_set:"),
        format!("cmdstat_set:calls=2,{zero}")
    );
    start(&mut bench, &format!("redis.call('set','k','v') {A_WHILE}"));
    finish(&mut bench);
    assert_eq!(
        stat(&mut bench, "commandstats", "cmdstat_eval:"),
        format!("cmdstat_eval:calls=2,{zero}")
    );
    assert_eq!(
        stat(&mut bench, "commandstats", "cmdstat_set:"),
        format!("cmdstat_set:calls=3,{zero}")
    );
}

/// An error is counted once, for the command that it is of.
#[test]
fn errors_are_counted_once() {
    // A script, which commands have been called, rejected or have failed, and which errors counted.
    /// A command with its calls, and how many were rejected or failed.
    type Counted = (&'static str, u8, u8, u8);
    let cases: &[(&str, &[Counted], &str)] = &[
        ("return redis.call('incr','s')", &[("incr", 1, 0, 1), ("eval", 1, 0, 1)], "WRONGTYPE"),
        ("return redis.pcall('incr','s')", &[("incr", 1, 0, 1), ("eval", 1, 0, 1)], "WRONGTYPE"),
        ("redis.pcall('incr','s') return 1", &[("incr", 1, 0, 1), ("eval", 1, 0, 0)], "WRONGTYPE"),
        ("return redis.call('get')", &[("get", 0, 1, 0), ("eval", 1, 0, 1)], "ERR"),
        ("return redis.call('subscribe','x')", &[("subscribe", 0, 1, 0), ("eval", 1, 0, 1)], "ERR"),
        ("redis.pcall('subscribe','x')", &[("subscribe", 0, 1, 0), ("eval", 1, 0, 0)], "ERR"),
        ("return redis.call('nothing')", &[("eval", 1, 0, 1)], "ERR"),
        ("return redis.error_reply('MY x')", &[("eval", 1, 0, 1)], "MY"),
        ("return {err='MY x'}", &[("eval", 1, 0, 1)], "MY"),
        ("error('x')", &[("eval", 1, 0, 1)], "ERR"),
        ("error({err='MY x'})", &[("eval", 1, 0, 1)], "MY"),
        ("return redis.call()", &[("eval", 1, 0, 1)], "ERR"),
        ("this is no script", &[("eval", 1, 0, 1)], "ERR"),
    ];
    for (body, counts, error) in cases {
        let mut bench = bench();
        bench.ask("RPUSH s x");
        bench.ask("CONFIG RESETSTAT");
        eval(&mut bench, body);
        for (name, calls, rejected, failed) in *counts {
            let found = stat(&mut bench, "commandstats", &format!("cmdstat_{name}:"));
            let expected = format!("rejected_calls={rejected},failed_calls={failed}");
            assert!(found.contains(&format!("calls={calls},usec")), "{body}: {found}");
            assert!(found.ends_with(&expected), "{body}: {found}");
        }
        let found = stat(&mut bench, "errorstats", "errorstat_");
        assert_eq!(found, format!("errorstat_{error}:count=1"), "{body}");
        assert_eq!(bench.info("total_error_replies"), "1", "{body}");
    }
}

#[test]
fn a_slow_script_is_in_the_slow_log_with_its_own_time() {
    let mut bench = ticking(&[("slowlog-log-slower-than", "3000")]);
    bench.ask("PING");
    let own = bench.connect();
    bench.ask("CLIENT SETNAME slow");
    let body = format!("redis.call('get','k') {A_WHILE} return 1");
    assert_eq!(eval(&mut bench, &body), "");
    finish(&mut bench);
    assert_eq!(bench.heard(own), ":1|");
    bench.connect();
    let log = bench.ask("SLOWLOG GET");
    assert!(log.starts_with("*1|*6|:0|"), "only the script was slow: {log}");
    assert!(log.contains("$4|EVAL|") && log.contains("$4|slow|"), "{log}");
}

/// How long the server did something else meanwhile is not its time.
#[test]
fn a_script_is_not_charged_for_the_work_of_others() {
    // The script reads the clock, too, as often as it is looked at.
    let mut bench = ticking_by(10_000, &[("busy-reply-threshold", "0")]);
    start(&mut bench, A_WHILE);
    bench.connect();
    while bench.engine.is_under_way() {
        for _ in 0..2000 {
            bench.ask("FUNCTION STATS");
        }
        bench.turn();
    }
    let found = stat(&mut bench, "commandstats", "cmdstat_eval:");
    let usec = found.split("usec=").nth(1).and_then(|rest| rest.split(',').next());
    let usec: u64 = usec.and_then(|text| text.parse().ok()).expect("a number");
    let all_usec = TICKS.get() / 1000;
    assert!((1000..all_usec / 4).contains(&usec), "{found} of {all_usec}");
}

#[test]
fn a_slow_script_is_an_event_of_latency() {
    let mut bench = ticking(&[("latency-monitor-threshold", "3")]);
    start(&mut bench, A_WHILE);
    finish(&mut bench);
    bench.connect();
    let latest = bench.ask("LATENCY LATEST");
    assert!(latest.starts_with("*1|*4|$7|command|"), "{latest}");
    let histogram = bench.ask("LATENCY HISTOGRAM eval");
    assert!(histogram.contains("$5|calls|:1|"), "{histogram}");
}

#[test]
fn what_scripts_cost_is_shown() {
    let mut bench = bench();
    for name in [
        "used_memory_vm_eval",
        "used_memory_lua",
        "used_memory_scripts_eval",
        "used_memory_vm_functions",
        "used_memory_functions",
        "number_of_cached_scripts",
        "number_of_functions",
        "number_of_libraries",
        "used_memory_vm_total",
        "used_memory_scripts",
    ] {
        assert_eq!(bench.info(name), "0", "{name}: nothing has run");
    }
    eval(&mut bench, "return 1");
    load_library(&mut bench, "redis.register_function('f', function() return 1 end)");
    let number = |bench: &mut Bench, name: &str| bench.info(name).parse::<u64>().expect("a number");
    assert!(number(&mut bench, "used_memory_vm_eval") > 10_000);
    assert_eq!(bench.info("used_memory_lua"), bench.info("used_memory_vm_eval"));
    let total = number(&mut bench, "used_memory_vm_total");
    let parts = ["used_memory_vm_eval", "used_memory_vm_functions"];
    assert_eq!(total, parts.map(|name| number(&mut bench, name)).iter().sum::<u64>());
    let total = number(&mut bench, "used_memory_scripts");
    let parts = ["used_memory_scripts_eval", "used_memory_functions"];
    assert_eq!(total, parts.map(|name| number(&mut bench, name)).iter().sum::<u64>());
    for name in ["number_of_cached_scripts", "number_of_functions", "number_of_libraries"] {
        assert_eq!(bench.info(name), "1");
    }
    bench.expect_all(&[("SCRIPT FLUSH", "+OK|"), ("FUNCTION FLUSH", "+OK|")]);
    for name in ["used_memory_vm_total", "used_memory_scripts"] {
        assert_eq!(bench.info(name), "0");
    }
}

#[test]
fn the_oldest_of_five_hundred_scripts_goes() {
    let mut bench = bench();
    let load = bench.run(&[b"SCRIPT", b"LOAD", b"return 'loaded'"]);
    let loaded = testing::text(&load);
    let digest = loaded.split('|').nth(1).expect("a digest").to_owned();
    for n in 0..=500 {
        eval(&mut bench, &format!("return {n}"));
    }
    assert_eq!(bench.info("evicted_scripts"), "1");
    bench.expect("CONFIG RESETSTAT", "+OK|");
    assert_eq!(bench.info("evicted_scripts"), "0");
    assert_eq!(bench.info("number_of_cached_scripts"), "501");
    bench.expect(&format!("EVALSHA {digest} 0"), "$6|loaded|");
}
