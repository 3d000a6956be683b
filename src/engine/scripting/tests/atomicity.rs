//! Nobody sees half of what a script does, and nothing happens by itself while it runs.

use super::*;

/// Writes, goes on for a while, and writes again.
fn in_halves() -> String {
    format!("redis.call('set','a','1') {A_WHILE} redis.call('set','b','2') return 'done'")
}

#[test]
fn the_aof_gets_all_of_a_script_or_nothing() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[("appendonly", "yes"), ("appendfsync", "always")]);
    bench.expect("SET before 1", "+OK|");
    let own = start(&mut bench, &in_halves());
    let mut turns = 0;
    while bench.engine.is_under_way() {
        let text = logged(&disk, &bench);
        assert!(text.ends_with("*3|$3|SET|$6|before|$1|1|") || turns == 0, "{text}");
        bench.turn();
        turns += 1;
    }
    assert!(turns > 2, "it was put aside");
    bench.turn();
    assert_eq!(bench.heard(own), "$4|done|");
    let whole = "*1|$5|MULTI|*3|$3|set|$1|a|$1|1|*3|$3|set|$1|b|$1|2|*1|$4|EXEC|";
    let text = logged(&disk, &bench);
    assert!(text.ends_with(whole), "{text}");
}

/// A crash in the middle leaves nothing of it.
#[test]
fn what_a_script_has_done_by_half_is_not_loaded() {
    let disk = Arc::new(MemoryDisk::default());
    let directives = [("appendonly", "yes"), ("appendfsync", "always")];
    let mut bench = bench_on(&disk, &directives);
    bench.expect("SET before 1", "+OK|");
    start(&mut bench, &in_halves());
    bench.turn();
    bench.turn();
    // SHUTDOWN NOSAVE does not wait for it either.
    bench.connect();
    bench.ask("SHUTDOWN NOSAVE");
    assert_eq!(bench.exit_code(), Some(0));
    bench.engine.close_aof();
    let mut again = restarted(bench, &disk, &directives);
    again.expect("MGET before a b", "*3|$1|1|$-1|$-1|");
}

#[test]
fn replies_to_others_do_not_wait_for_what_a_script_writes() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[("appendonly", "yes"), ("appendfsync", "always")]);
    bench.turn();
    start(&mut bench, &in_halves());
    let before = bench.engine.told();
    bench.turn();
    let told = bench.engine.told();
    assert_eq!((told.offset, told.of_writes), (before.offset, false));
    finish(&mut bench);
    assert!(bench.engine.server.propagation.offset() > told.offset);
}

/// The base of a rewrite and the increment behind it meet where no script is in its middle.
#[test]
fn the_aof_is_not_turned_to_the_next_increment_within_a_script() {
    let disk = Arc::new(MemoryDisk::default());
    let directives = [("appendonly", "yes")];
    let mut bench = bench_on(&disk, &directives).holding_saves();
    bench.expect_all(&[("SELECT 3", "+OK|"), ("SET before 1", "+OK|")]);
    assert!(bench.ask("BGREWRITEAOF").starts_with("+Background append only file rewriting"));
    let own = bench.connect();
    bench.expect("SELECT 3", "+OK|");
    let body = format!("redis.call('incr','a') {A_WHILE} redis.call('incr','b')");
    assert_eq!(eval(&mut bench, &body), "");
    assert!(bench.engine.is_under_way() && bench.client == own);
    let mut jobs = 0;
    while bench.run_held_save() {
        jobs += 1;
    }
    bench.turn();
    finish(&mut bench);
    while bench.run_held_save() {
        jobs += 1;
    }
    assert_eq!(jobs, 2, "the increment is opened, and the base is written");
    bench.turn();
    let mut again = restarted(bench, &disk, &directives);
    again.expect_all(&[("DBSIZE", ":0|"), ("SELECT 3", "+OK|")]);
    again.expect("MGET before a b", "*3|$1|1|$1|1|$1|1|");
}

#[test]
fn no_snapshot_is_taken_within_a_script() {
    let config = testing::config(&[("save", "1 1"), ("busy-reply-threshold", "100")]);
    let mut bench = with(config).holding_saves();
    bench.advance(10_000);
    start(&mut bench, &in_halves());
    make_late(&mut bench);
    bench.connect();
    for line in ["SAVE", "BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF", "DEBUG RELOAD"] {
        bench.expect(line, BUSY);
    }
    bench.advance(5000);
    bench.engine.cron();
    bench.turn();
    assert!(!bench.engine.server.saving.is_running(), "half of it is not to be saved");
    finish(&mut bench);
    bench.engine.cron();
    assert!(bench.engine.server.saving.is_running());
}

#[test]
fn messages_events_and_commands_are_shown_when_all_is_done() {
    let mut bench = with(testing::config(&[("notify-keyspace-events", "KEA")]));
    let [listener, monitor] = [0; 2].map(|_| bench.connect());
    bench.ask_as(listener, "SUBSCRIBE ch __keyspace@0__:a __keyspace@0__:b");
    bench.ask_as(monitor, "MONITOR");
    let body = format!("redis.call('publish','ch','x') {}", in_halves());
    let own = start(&mut bench, &body);
    bench.turn();
    for client in [listener, monitor, own] {
        assert_eq!(bench.heard(client), "");
    }
    finish(&mut bench);
    assert_eq!(bench.heard(own), "$4|done|");
    let heard = bench.heard(listener);
    let order = ["$2|ch|$1|x|", "$16|__keyspace@0__:a|$3|set|", "$16|__keyspace@0__:b|$3|set|"];
    let places = order.map(|part| heard.find(part).expect("it is told"));
    assert!(places.is_sorted(), "{heard}");
    let shown = bench.heard(monitor);
    let lines: Vec<&str> = shown.split('|').collect();
    let is_shown = [
        "\"EVAL\" \"redis.call('publish",
        "[0 lua] \"publish\" \"ch\" \"x\"",
        "[0 lua] \"set\" \"a\" \"1\"",
        "[0 lua] \"set\" \"b\" \"2\"",
    ];
    assert_eq!(lines.len(), is_shown.len() + 1, "{shown}");
    for (line, part) in lines.iter().zip(is_shown) {
        assert!(line.contains(part), "{line} {part}");
    }
}

#[test]
fn time_stands_still_for_a_script() {
    let mut bench = bench();
    bench.ask("SET k v PX 50");
    bench.ask("HSET h f v");
    bench.ask("HPEXPIRE h 50 FIELDS 1 f");
    let body = format!(
        "local t = redis.call('time') {A_WHILE} local u = redis.call('time') \
         return {{t[1] == u[1] and t[2] == u[2], redis.call('get','k'), \
         redis.call('pttl','k'), redis.call('hget','h','f')}}"
    );
    let own = start(&mut bench, &body);
    bench.advance(90);
    bench.engine.expire_due();
    assert_eq!(bench.engine.next_expiry_unix_ms(), None);
    finish(&mut bench);
    assert_eq!(bench.heard(own), "*4|:1|$1|v|:50|$1|v|");
    bench.expect_all(&[("GET k", "$-1|"), ("HGET h f", "$-1|")]);
    assert_eq!(bench.engine.keyspace.now_ms, testing::START_MS + 90);
}

/// A time that a script sets counts from its begin.
#[test]
fn deadlines_of_a_script_count_from_its_begin() {
    let mut bench = bench();
    start(&mut bench, &format!("{A_WHILE} redis.call('set','k','v','px',50)"));
    bench.advance(49);
    finish(&mut bench);
    bench.expect("PTTL k", ":1|");
}

#[test]
fn no_key_goes_to_make_room_within_a_script() {
    thread_local! {
        static USED: std::cell::Cell<usize> = const { std::cell::Cell::new(50) };
    }
    let parts = ServerParts { used_memory: || USED.get(), ..ServerParts::default() };
    let config = [("maxmemory", "100000"), ("maxmemory-policy", "allkeys-random")];
    let mut bench = Bench::over(testing::config(&config), parts).stepping();
    for n in 0..100 {
        bench.ask(&format!("SET key:{n} v"));
    }
    let own = start(&mut bench, &format!("{A_WHILE} return redis.call('dbsize')"));
    USED.set(1_000_000);
    bench.engine.evict_more();
    bench.connect();
    bench.expect("SET k v", "");
    finish(&mut bench);
    assert_eq!(bench.heard(own), ":100|");
    bench.expect("SET k v", "-OOM command not allowed when used memory > 'maxmemory'.|");
    assert!(bench.engine.keyspace.stats.evicted > 0);
}

/// Nor for what it has left, which is no data.
#[test]
fn no_key_goes_for_the_garbage_of_a_script() {
    thread_local! {
        static USED: std::cell::Cell<usize> = const { std::cell::Cell::new(50) };
    }
    let parts = ServerParts { used_memory: || USED.get(), ..ServerParts::default() };
    let config = [("maxmemory", "1000000"), ("maxmemory-policy", "allkeys-random")];
    let mut bench = Bench::over(testing::config(&config), parts);
    for n in 0..100 {
        bench.ask(&format!("SET key:{n} v"));
    }
    let code = "local t = {} for i = 1, 50000 do t[i] = 'text' .. i end return #t";
    assert_eq!(super::eval(&mut bench, code), ":50000|");
    USED.set(2_000_000);
    bench.expect_all(&[("SET key:0 v", "+OK|"), ("DBSIZE", ":100|")]);
    while bench.engine.server.scripting.garbage_bytes() > 0 {
        bench.engine.cron();
    }
    bench.expect("SET key:0 v", "-OOM command not allowed when used memory > 'maxmemory'.|");
    bench.expect("DBSIZE", ":0|");
}

#[test]
fn clients_who_wait_for_keys_are_served_behind_a_script() {
    let mut bench = bench();
    let [first, second] = [0; 2].map(|_| bench.connect());
    assert_eq!(bench.ask_as(first, "BLPOP k 0"), "");
    assert_eq!(bench.ask_as(second, "BLPOP k 0"), "");
    let body = format!(
        "redis.call('rpush','k','x') {A_WHILE} redis.call('rpush','k','y','z') \
                        return redis.call('lpop','k')"
    );
    let own = start(&mut bench, &body);
    bench.turn();
    bench.engine.serve_waits();
    bench.turn();
    assert_eq!(bench.heard(first), "");
    finish(&mut bench);
    assert_eq!(bench.heard(own), "$1|x|");
    assert_eq!(bench.heard(first), "*2|$1|k|$1|y|");
    assert_eq!(bench.heard(second), "*2|$1|k|$1|z|");
}

/// Who waits when a script begins gets what it brings, though the time is over before it ends.
#[test]
fn a_wait_ends_by_its_time_only_behind_a_script() {
    let mut bench = bench();
    let [served, unlucky] = [0; 2].map(|_| bench.connect());
    assert_eq!(bench.ask_as(served, "BLPOP k 0.05"), "");
    assert_eq!(bench.ask_as(unlucky, "BLPOP other 0.05"), "");
    assert!(bench.engine.next_time_out_ms().is_some());
    start(&mut bench, &format!("{A_WHILE} redis.call('rpush','k','x')"));
    bench.advance(60);
    bench.engine.end_waits();
    bench.turn();
    assert_eq!((bench.heard(served), bench.heard(unlucky)), (String::new(), String::new()));
    assert_eq!(bench.engine.next_time_out_ms(), None);
    finish(&mut bench);
    assert_eq!(bench.heard(served), "*2|$1|k|$1|x|");
    bench.engine.end_waits();
    bench.turn();
    assert_eq!(bench.heard(unlucky), "*-1|");
    bench.expect("EXISTS k", ":0|");
}

#[test]
fn watches_and_caches_are_told_of_what_a_script_changes() {
    let mut bench = bench();
    let [watcher, cacher] = [0; 2].map(|_| bench.connect());
    bench.ask_as(watcher, "WATCH a");
    bench.ask_as(cacher, "HELLO 3");
    bench.ask_as(cacher, "CLIENT TRACKING ON");
    bench.ask_as(cacher, "GET a");
    start(&mut bench, &in_halves());
    bench.turn();
    assert_eq!(bench.heard(cacher), "", "it would read it anew, and wait");
    finish(&mut bench);
    assert_eq!(bench.heard(cacher), ">2|$10|invalidate|*1|$1|a|");
    assert_eq!(bench.ask_as(watcher, "MULTI"), "+OK|");
    assert_eq!(bench.ask_as(watcher, "PING"), "+QUEUED|");
    assert_eq!(bench.ask_as(watcher, "EXEC"), "*-1|");
}

#[test]
fn what_a_script_reads_is_tracked_for_its_client() {
    let mut bench = bench();
    let own = bench.connect();
    bench.ask("HELLO 3");
    bench.ask("CLIENT TRACKING ON");
    let body = format!("redis.call('get','a') {A_WHILE} redis.call('get','b')");
    assert_eq!(eval(&mut bench, &body), "");
    finish(&mut bench);
    bench.heard(own);
    bench.connect();
    bench.ask("MSET a 1 b 2 c 3");
    let heard = bench.heard(own);
    assert!(heard.contains("$1|a|") && heard.contains("$1|b|"), "{heard}");
}

/// A client that is looked at by a script may be another one that comes at that moment.
#[test]
fn a_script_sees_clients_that_have_come_since() {
    let mut bench = bench();
    let body = format!("{A_WHILE} return redis.call('client','list')");
    bench.expect("DEBUG SET-DISABLE-DENY-SCRIPTS 1", "+OK|");
    let own = start(&mut bench, &body);
    bench.connect();
    bench.ask("HELLO 2 SETNAME newcomer");
    finish(&mut bench);
    let heard = bench.heard(own);
    assert!(heard.contains("name=newcomer"), "{heard}");
    assert!(heard.contains("cmd=eval"), "{heard}");
}

#[test]
fn a_client_with_a_script_does_not_idle() {
    let mut bench = with(testing::config(&[("timeout", "1"), ("busy-reply-threshold", "100")]));
    let own = start(&mut bench, "while true do end");
    bench.advance(10_000);
    bench.engine.cron();
    bench.turn();
    assert!(!bench.has_closed(own));
}
