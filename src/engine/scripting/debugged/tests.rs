//! Conversations with scripts that stand, and what others have of that. What is said in them is in
//! `tests/transcripts/script/debugger.rt`.

use crate::config::EventClasses;
use crate::engine::testing::{Bench, text};
use crate::engine::{ClientId, Effect, Peer};

const SCRIPT: &str = "local a = redis.call('set', KEYS[1], ARGV[1])\n\
                      local b = redis.call('get', KEYS[1])\n\
                      return {a, b}";
const LOOP: &str = "local a = 1\nwhile true do a = a + 1 end";

/// Has a client of its own debug a script.
fn begin(bench: &mut Bench, mode: &str, script: &str) -> ClientId {
    bench.client = bench.engine.connect(Peer::internal());
    bench.expect(&format!("SCRIPT DEBUG {mode}"), "+OK|");
    let reply = text(&bench.run(&[b"EVAL", script.as_bytes(), b"1", b"k", b"new"]));
    assert!(reply.starts_with("*2|+* Stopped at 1, stop reason = step over|"), "{reply}");
    bench.client
}

/// Goes on with what is under way; what its client is told meanwhile.
fn go_on(bench: &mut Bench) -> String {
    bench.engine.go_on();
    let mut told = Vec::new();
    for effect in bench.engine.take_effects() {
        if let Effect::Push { bytes, .. } = effect {
            told.extend(bytes.to_vec());
        }
    }
    text(&told)
}

#[test]
fn whoever_debugs_over_the_data_has_others_wait_and_then_told_so() {
    let mut bench = Bench::new();
    let other = bench.client;
    bench.expect("SET k old", "+OK|");
    begin(&mut bench, "SYNC", SCRIPT);
    assert!(!bench.engine.is_under_way(), "a script that stands gives nothing to do");
    bench.client = other;
    bench.expect("GET k", "");
    bench.advance(4999);
    bench.engine.cron();
    bench.expect("GET k", "");
    bench.advance(1);
    bench.engine.cron();
    assert!(bench.ask("GET k").starts_with("-BUSY "));
    bench.expect("SCRIPT KILL", "+OK|");
    bench.expect("GET k", "$3|old|");
    assert!(bench.engine.server.under_way.is_none());
}

#[test]
fn what_a_script_writes_over_the_data_stays_and_is_replayed_as_a_whole() {
    let mut bench = Bench::new().recording(EventClasses::NONE);
    begin(&mut bench, "SYNC", SCRIPT);
    assert!(bench.ask("s").contains("+<redis> set k new|+<reply> \"+OK\"|"));
    bench.expect("r set other v", "*2|+<redis> set other v|+<reply> \"+OK\"|");
    bench.expect("c", "*1|+<endsession>|*2|+OK|$3|new|");
    assert!(bench.engine.clients.get(bench.client).is_some_and(|own| own.closes_after_reply));
    let replayed = ["MULTI", "set k new", "set other v", "EXEC"];
    let own = bench.replayed();
    assert_eq!(own.len(), replayed.len(), "{own:?}");
    assert!(own.iter().zip(replayed).all(|(a, b)| a.eq_ignore_ascii_case(b)), "{own:?}");
}

#[test]
fn nothing_comes_of_a_script_that_is_debugged_over_a_copy() {
    let mut bench = Bench::new().recording(EventClasses::ALL);
    let other = bench.client;
    bench.expect("SET k old", "+OK|");
    bench.expect("WATCH k", "+OK|");
    bench.forget();
    let dirty = bench.dirty();
    let own = begin(&mut bench, "YES", SCRIPT);
    assert!(bench.ask("s").contains("+<redis> set k new|"));
    bench.expect("r get k", "*2|+<redis> get k|+<reply> \"new\"|");
    bench.expect("r flushall", "*2|+<redis> flushall|+<reply> \"+OK\"|");
    bench.expect("r set k again", "*2|+<redis> set k again|+<reply> \"+OK\"|");
    bench.expect("r publish channel m", "*2|+<redis> publish channel m|+<reply> 0|");
    assert_eq!((bench.replayed(), bench.told(), bench.dirty()), (vec![], vec![], dirty));
    bench.client = other;
    bench.expect("MULTI", "+OK|");
    bench.expect("GET k", "+QUEUED|");
    bench.expect("EXEC", "*1|$3|old|");
    bench.expect("SET k later", "+OK|");
    bench.client = own;
    bench.expect("c", "*1|+<endsession>|*2|+OK|$5|again|");
    bench.client = other;
    bench.expect("GET k", "$5|later|");
    assert!(bench.engine.server.asides.is_empty());
}

/// What is done to the copy makes nobody forget who has read what of the data.
#[test]
fn clients_that_cache_hear_of_what_changes_after_a_script_that_was_debugged_over_a_copy() {
    let mut bench = Bench::new();
    let caching = bench.client;
    bench.ask("HELLO 3");
    bench.expect("SET k old", "+OK|");
    bench.expect("CLIENT TRACKING ON", "+OK|");
    bench.expect("GET k", "$3|old|");
    begin(&mut bench, "YES", SCRIPT);
    for command in ["r set k new", "r flushall", "r get k"] {
        bench.ask(command);
    }
    bench.ask("a");
    assert_eq!(bench.heard(caching), "");
    bench.client = bench.engine.connect(Peer::internal());
    bench.expect("SET k later", "+OK|");
    assert_eq!(bench.heard(caching), ">2|$10|invalidate|*1|$1|k|");
}

#[test]
fn a_script_whose_client_has_left_goes_on_over_the_data() {
    let mut bench = Bench::new();
    let other = bench.client;
    let own = begin(&mut bench, "SYNC", SCRIPT);
    bench.ask("b 3");
    bench.client = other;
    bench.engine.disconnect(own);
    assert!(bench.engine.is_under_way());
    go_on(&mut bench);
    bench.expect("GET k", "$3|new|");
    assert!(bench.engine.clients.get(own).is_none());
}

#[test]
fn a_loop_whose_client_has_left_ends_when_it_has_taken_long() {
    let mut bench = Bench::new().stepping();
    let other = bench.client;
    let own = begin(&mut bench, "SYNC", LOOP);
    bench.client = other;
    bench.engine.disconnect(own);
    go_on(&mut bench);
    assert!(bench.engine.is_under_way());
    bench.advance(5000);
    for _ in 0..10 {
        go_on(&mut bench);
    }
    assert!(bench.engine.server.under_way.is_none());
    assert!(bench.engine.clients.get(own).is_none());
}

#[test]
fn a_copy_goes_with_its_client() {
    let mut bench = Bench::new();
    let own = begin(&mut bench, "YES", SCRIPT);
    bench.engine.disconnect(own);
    assert!(bench.engine.server.asides.is_empty());
    assert!(bench.engine.clients.get(own).is_none());
}

#[test]
fn what_takes_long_is_stopped() {
    for mode in ["SYNC", "YES"] {
        let mut bench = Bench::new().stepping();
        begin(&mut bench, mode, LOOP);
        bench.expect("c", "");
        assert_eq!(go_on(&mut bench), "");
        bench.advance(5000);
        let stopped = "*2|+* Stopped at 2, stop reason = timeout reached, infinite loop?|\
                       +-> 2   while true do a = a + 1 end|";
        assert_eq!(go_on(&mut bench), stopped);
        assert!(!bench.engine.is_under_way());
        // So is what is evaluated, which no hook would be called in.
        bench.expect("e while true do end", "");
        bench.advance(5000);
        assert_eq!(go_on(&mut bench), "*1|+<error> timeout reached, infinite loop?|");
        bench.expect("e KEYS[1]", "*1|+<retval> \"k\"|");
        let end = bench.ask("a");
        assert!(end.starts_with("*1|+<endsession>|-ERR script aborted for user request"), "{end}");
    }
}

#[test]
fn an_end_that_comes_late_closes_the_connection() {
    let mut bench = Bench::new().stepping();
    begin(&mut bench, "SYNC", "local a = 1\nfor i = 1, 1e6 do a = a + 1 end\nreturn a");
    bench.expect("c", "");
    let mut has_closed = false;
    for _ in 0..100 {
        bench.engine.go_on();
        let effects = bench.engine.take_effects();
        has_closed |= effects.iter().any(|own| matches!(own, Effect::CloseWhenSent { .. }));
    }
    assert!(has_closed);
}

#[test]
fn what_a_client_can_ask_for_has_limits() {
    let mut bench = Bench::new();
    let script = format!("{}return 1", "local a\n".repeat(70));
    begin(&mut bench, "SYNC", &script);
    for line in 1..=70 {
        let reply = bench.ask(&format!("b {line}"));
        assert_eq!(reply == "*1|+Too many breakpoints set.|", line > 64, "{line}: {reply}");
    }
    let long = "x".repeat((1 << 20) + 1);
    let reply = text(&bench.run(&[b"print", long.as_bytes()]));
    assert!(reply.starts_with("*1|+<endsession>|-ERR max client buffer reached"), "{reply}");
    begin(&mut bench, "SYNC", SCRIPT);
    let words = vec![&b"b"[..]; 1025];
    let reply = text(&bench.run(&words));
    assert!(reply.starts_with("*1|+<endsession>|-ERR protocol error"), "{reply}");
    let talkative = "while true do redis.debug(('x'):rep(1000)) end";
    let mut bench = Bench::new().stepping();
    begin(&mut bench, "SYNC", talkative);
    bench.expect("c", "");
    for _ in 0..100 {
        go_on(&mut bench);
    }
    bench.advance(5000);
    let told = go_on(&mut bench);
    assert!(told.len() < 2 << 20, "{}", told.len());
    assert!(told.contains("+<hint> There is more, which is not shown.|"));
}

#[test]
fn a_copy_is_not_made_in_the_middle_of_a_transaction() {
    let mut bench = Bench::new();
    bench.expect("SCRIPT DEBUG YES", "+OK|");
    bench.expect("MULTI", "+OK|");
    bench.expect("EVAL return 0", "+QUEUED|");
    assert!(bench.ask("EXEC").starts_with("*1|-ERR A script of a transaction"));
}
