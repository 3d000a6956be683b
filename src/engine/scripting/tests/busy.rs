//! Who waits for a script, who is told that it is late, and who is let through.

use super::*;

#[test]
fn others_wait_until_a_script_is_late_and_are_then_told_so() {
    let mut bench = bench();
    start(&mut bench, "while true do end");
    let other = bench.connect();
    bench.expect("GET k", "");
    bench.advance(99);
    bench.turn();
    assert!(!bench.has_woken(other), "it may end yet");
    bench.advance(2);
    bench.turn();
    assert!(bench.has_woken(other));
    for line in ["GET k", "PING", "SET k v", "EVAL return 0", "CONFIG GET save", "INFO"] {
        bench.expect(line, BUSY);
    }
    bench.expect("SCRIPT KILL", "+OK|");
    finish(&mut bench);
    bench.expect("PING", "+PONG|");
}

#[test]
fn those_who_wait_are_served_in_order_when_it_ends() {
    let mut bench = bench();
    let own = start(&mut bench, &format!("{A_WHILE} redis.call('rpush','k','script')"));
    let others = [0; 3].map(|_| bench.connect());
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(bench.ask_as(other, &format!("RPUSH k {n}")), "");
    }
    finish(&mut bench);
    assert_eq!(bench.heard(own), "$-1|");
    for (n, other) in others.into_iter().enumerate() {
        assert!(bench.has_woken(other));
        assert_eq!(bench.ask_as(other, &format!("RPUSH k {n}")), format!(":{}|", n + 2));
    }
    assert_eq!(bench.list("LRANGE k 0 -1"), ["script", "0", "1", "2"]);
}

#[test]
fn without_a_threshold_nobody_is_told_and_the_script_can_be_ended() {
    let mut bench = with(testing::config(&[("busy-reply-threshold", "0")]));
    let own = start(&mut bench, "while true do end");
    let other = bench.connect();
    bench.expect("GET k", "");
    bench.advance(1_000_000);
    bench.turn();
    assert!(!bench.has_woken(other));
    let killer = bench.connect();
    assert_eq!(bench.ask_as(killer, "SCRIPT KILL"), "+OK|");
    finish(&mut bench);
    assert!(bench.heard(own).starts_with("-ERR Script killed by user with SCRIPT KILL..."));
    assert!(bench.has_woken(other));
}

#[test]
fn what_needs_no_data_runs_beside_a_late_script() {
    let mut bench = bench();
    start(&mut bench, "while true do end");
    make_late(&mut bench);
    let other = bench.connect();
    bench.expect_all(&[
        ("WATCH k", "+OK|"),
        ("UNWATCH", "+OK|"),
        ("MULTI", "+OK|"),
        ("DISCARD", "+OK|"),
        ("FUNCTION KILL", BUSY),
        ("FUNCTION STATS", BUSY),
        ("RESET", "+RESET|"),
        ("SHUTDOWN", BUSY),
    ]);
    assert!(bench.ask("HELLO 2 SETNAME me").starts_with("*14|"));
    assert!(bench.ask("AUTH secret").starts_with("-ERR AUTH <password> called without any"));
    bench.expect("QUIT", "+OK|");
    assert_eq!(bench.exit_code(), None);
    let _ = other;
}

/// A transaction is not begun by half.
#[test]
fn a_late_script_spoils_the_transactions_of_others() {
    let mut bench = bench();
    start(&mut bench, "while true do end");
    make_late(&mut bench);
    let other = bench.connect();
    bench.expect_all(&[("MULTI", "+OK|"), ("SET k v", BUSY)]);
    let text = BUSY.trim_start_matches('-');
    bench.expect("EXEC", &format!("-EXECABORT Transaction discarded because of: {text}"));
    bench.expect_all(&[("MULTI", "+OK|"), ("SET k v", BUSY), ("SCRIPT KILL", "+QUEUED|")]);
    let killer = bench.connect();
    bench.expect("SCRIPT KILL", "+OK|");
    finish(&mut bench);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.|";
    assert_eq!(bench.ask_as(other, "EXEC"), aborted);
    bench.expect("EXISTS k", ":0|");
    let _ = killer;
}

#[test]
fn a_client_queues_when_the_script_has_ended() {
    let mut bench = bench();
    start(&mut bench, A_WHILE);
    let other = bench.connect();
    bench.expect_all(&[("MULTI", "+OK|"), ("SET k v", "")]);
    finish(&mut bench);
    assert!(bench.has_woken(other));
    bench.expect_all(&[("SET k v", "+QUEUED|"), ("EXEC", "*1|+OK|")]);
}

#[test]
fn a_function_that_runs_is_shown_with_its_command() {
    let mut bench = bench();
    let code = "redis.register_function('f', function(k) while true do end end)";
    load_library(&mut bench, code);
    bench.connect();
    bench.expect("FCALL f 1 key", "");
    bench.advance(50);
    bench.turn();
    bench.connect();
    let shown = "*4|$14|running_script|*6|$4|name|$1|f|$7|command|*4|$5|FCALL|$1|f|$1|1|$3|key|\
                 $11|duration_ms|:50|";
    let stats = bench.ask("FUNCTION STATS");
    assert!(stats.starts_with(shown), "{stats}");
    make_late(&mut bench);
    bench.expect("PING", BUSY_FUNCTION);
    bench.expect("SCRIPT KILL", BUSY_FUNCTION);
    bench.expect("FUNCTION KILL", "+OK|");
    finish(&mut bench);
    assert!(bench.ask("FUNCTION STATS").starts_with("*4|$14|running_script|$-1|"));
}

#[test]
fn a_function_that_a_transaction_runs_is_shown_with_its_own_command() {
    let mut bench = bench();
    let code = "redis.register_function('f', function(k) while true do end end)";
    load_library(&mut bench, code);
    bench.connect();
    bench.expect_all(&[("MULTI", "+OK|"), ("PING", "+QUEUED|"), ("FCALL f 1 key a", "+QUEUED|")]);
    bench.expect("EXEC", "");
    bench.connect();
    let shown = "*4|$14|running_script|*6|$4|name|$1|f|$7|command|*5|$5|FCALL|$1|f|$1|1|$3|key|\
                 $1|a|$11|duration_ms|";
    let stats = bench.ask("FUNCTION STATS");
    assert!(stats.starts_with(shown), "{stats}");
    bench.expect("FUNCTION KILL", "+OK|");
    finish(&mut bench);
}

/// A script that takes some slices is no reason to refuse anything.
#[test]
fn nothing_is_refused_for_a_script_before_it_is_late() {
    let mut bench = bench();
    start(&mut bench, A_WHILE);
    let other = bench.connect();
    assert!(bench.ask("FUNCTION STATS").starts_with("*4|$14|running_script|$-1|"));
    bench.expect("SHUTDOWN SAVE", "");
    assert_eq!(bench.exit_code(), None);
    finish(&mut bench);
    assert!(bench.has_woken(other));
    bench.ask("SHUTDOWN");
    assert_eq!(bench.exit_code(), Some(0));
}

/// Whatever else there is to say, a late script is the reason.
#[test]
fn a_late_script_comes_before_full_memory() {
    let parts = ServerParts { used_memory: || 1000, ..ServerParts::default() };
    let config = testing::config(&[("busy-reply-threshold", "100"), ("maxmemory", "100")]);
    let mut bench = Bench::over(config, parts).stepping();
    start(&mut bench, "while true do end");
    make_late(&mut bench);
    bench.connect();
    bench.expect("SET k v", BUSY);
}

#[test]
fn a_transaction_with_a_slow_script_is_one_for_all_others() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[("appendonly", "yes"), ("appendfsync", "always")]);
    let own = bench.client;
    let script = format!("redis.call('set','b','2') {A_WHILE} redis.call('set','c','3')");
    bench.expect_all(&[("MULTI", "+OK|"), ("SET a 1", "+QUEUED|")]);
    assert_eq!(eval(&mut bench, &script), "+QUEUED|");
    bench.expect_all(&[("SET d 4", "+QUEUED|"), ("EXEC", "")]);
    let other = bench.connect();
    bench.expect("SET a other", "");
    finish(&mut bench);
    assert_eq!(bench.heard(own), "*3|+OK|$-1|+OK|");
    assert!(bench.has_woken(other));
    bench.expect("MGET a b c d", "*4|$1|1|$1|2|$1|3|$1|4|");
    let expected = "*1|$5|MULTI|*2|$6|SELECT|$1|0|*3|$3|SET|$1|a|$1|1|*3|$3|set|$1|b|$1|2|\
                    *3|$3|set|$1|c|$1|3|*3|$3|SET|$1|d|$1|4|*1|$4|EXEC|";
    let found = logged(&disk, &bench);
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn a_script_whose_commands_take_long_is_put_aside() {
    let mut bench = ticking(&[]);
    bench.expect("EVAL return(redis.call('incr','k')) 0", ":1|");
    let body = "for i=1,20 do redis.call('incr','k') end return(redis.call('get','k'))";
    assert_eq!(testing::text(&bench.run(&[b"EVAL", body.as_bytes(), b"0"])), "");
    let turns = finish(&mut bench);
    assert!((3..20).contains(&turns), "{turns}");
    bench.expect("GET k", "$2|21|");
}
