//! How a script is ended, at whatever point it is.

use super::*;

const KILLED: &str = "-ERR Script killed by user with SCRIPT KILL... script: ";
const UNKILLABLE: &str = "-UNKILLABLE Sorry the script already executed write commands against the \
                          dataset. You can either wait the script termination or kill the server \
                          in a hard way using the SHUTDOWN NOSAVE command.|";

#[test]
fn nothing_runs_that_could_be_killed() {
    let mut bench = bench();
    for line in ["SCRIPT KILL", "FUNCTION KILL"] {
        bench.expect(line, "-NOTBUSY No scripts in execution right now.|");
    }
}

/// Scripts that never end, or not for a long time, each at another kind of place.
const ENDLESS: &[&str] = &[
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() while true do end end, function() end) end",
    "while true do pcall(redis.call, 'get', 'k') end",
    "local function f() return pcall(f) end while true do pcall(f) end",
    "coroutine.wrap(function() while true do end end)()",
    "while true do local c = coroutine.create(function() while true do end end) \
     coroutine.resume(c) end",
    "while true do table.sort({3, 2, 1, 5}, function(a, b) while true do end end) end",
    "while true do string.gsub('aaaa', 'a', function() while true do end end) end",
    "('a'):rep(100000):find('.-.-.-.-b')",
    "while true do redis.pcall('get', 'k') end",
    "while true do redis.call('lrange', 'long', 0, -1) end",
    "while true do cjson.decode('[1,2,3]') end",
    "while true do setmetatable({}, {__index = function() while true do end end}).x() end",
    "local t = {} for i = 1, 1e9 do t[i % 10] = i end",
    "load(function() while true do end end)",
    "while true do error(setmetatable({}, {__tostring = function() while true do end end})) end",
    "return setmetatable({}, {__index = function() while true do end end}).x",
];

#[test]
fn a_script_is_ended_at_every_point() {
    let mut bench = bench();
    for n in 0..2000 {
        bench.ask(&format!("RPUSH long {n}"));
    }
    for body in ENDLESS {
        let own = bench.connect();
        let reply = eval(&mut bench, body);
        if !bench.engine.is_under_way() {
            assert!(reply.starts_with("-ERR"), "{body}: {reply}");
            continue;
        }
        bench.turn();
        let killer = bench.connect();
        assert_eq!(bench.ask("SCRIPT KILL"), "+OK|", "{body}");
        finish(&mut bench);
        let heard = bench.heard(own);
        assert!(heard.starts_with(KILLED), "{body}: {heard}");
        assert!(heard.contains(", on @user_script:1."), "{body}: {heard}");
        assert_eq!(bench.ask_as(own, "PING"), "+PONG|");
        assert_eq!(eval(&mut bench, "return {KEYS, 1}"), "*2|*0|:1|", "{body}");
        let _ = killer;
    }
}

/// What it has written of its reply is gone.
#[test]
fn a_script_is_ended_while_its_value_is_written() {
    let mut bench = bench();
    let body = "local t = {} for i = 1, 900000 do t[i] = {i, 'x', {i}} end return t";
    let own = start(&mut bench, body);
    // Wherever it is then, making the table or writing it.
    for turns in [0, 1, 3, 6, 10, 15] {
        if !bench.engine.is_under_way() {
            bench.client = own;
            assert_eq!(eval(&mut bench, body), "");
        }
        (0..turns).for_each(|_| bench.turn());
        if !bench.engine.is_under_way() {
            assert!(bench.heard(own).starts_with("*900000|"));
            continue;
        }
        let killer = bench.connect();
        assert_eq!(bench.ask_as(killer, "SCRIPT KILL"), "+OK|");
        finish(&mut bench);
        let heard = bench.heard(own);
        assert!(
            heard.starts_with("-ERR Script killed by user with SCRIPT KILL..."),
            "{heard:.100}"
        );
    }
}

#[test]
fn one_that_has_written_is_not_ended() {
    let mut bench = bench();
    let own = start(&mut bench, &format!("redis.call('set','k','v') {A_WHILE} return 1"));
    make_late(&mut bench);
    bench.connect();
    bench.expect("SCRIPT KILL", UNKILLABLE);
    bench.expect("FUNCTION KILL", UNKILLABLE);
    finish(&mut bench);
    assert_eq!(bench.heard(own), ":1|");
    bench.expect("GET k", "$1|v|");
}

/// One that reads, and one whose write was refused, has not.
#[test]
fn one_that_has_not_come_to_write_is_ended() {
    let mut bench = bench();
    for body in [
        "redis.call('get','k') redis.pcall('set') redis.pcall('nothing') while true do end",
        "#!lua flags=no-writes\nredis.pcall('set','k','v') while true do end",
    ] {
        let own = start(&mut bench, body);
        bench.connect();
        bench.expect("SCRIPT KILL", "+OK|");
        finish(&mut bench);
        assert!(bench.heard(own).starts_with(KILLED));
    }
    bench.expect("EXISTS k", ":0|");
}

#[test]
fn a_function_is_ended_by_its_own_command() {
    let mut bench = bench();
    let code = "redis.register_function('f', function() while true do end end)";
    load_library(&mut bench, code);
    let own = bench.connect();
    bench.expect("FCALL f 0", "");
    bench.connect();
    bench.expect("SCRIPT KILL", BUSY_FUNCTION);
    bench.expect("FUNCTION KILL", "+OK|");
    finish(&mut bench);
    let killed = "-ERR Script killed by user with FUNCTION KILL... script: f, on @user_function:";
    let heard = bench.heard(own);
    assert!(heard.starts_with(killed), "{heard}");
}

#[test]
fn a_killed_script_of_a_transaction_is_one_of_its_errors() {
    let mut bench = bench();
    let own = bench.client;
    bench.expect("MULTI", "+OK|");
    assert_eq!(eval(&mut bench, "while true do end"), "+QUEUED|");
    bench.expect_all(&[("SET k v", "+QUEUED|"), ("EXEC", "")]);
    bench.connect();
    bench.expect("SCRIPT KILL", "+OK|");
    finish(&mut bench);
    let heard = bench.heard(own);
    assert!(heard.starts_with("*2|-ERR Script killed by user"), "{heard}");
    assert!(heard.ends_with("|+OK|"), "{heard}");
    bench.expect("GET k", "$1|v|");
}

/// What a script does is done as a whole, whoever is still there to hear of it.
#[test]
fn a_script_whose_client_has_left_runs_to_its_end() {
    let mut bench = bench();
    let clients = bench.engine.clients.iter().count();
    let body = format!("redis.call('set','a','1') {A_WHILE} redis.call('set','b','2') return 1");
    let own = start(&mut bench, &body);
    bench.engine.disconnect(own);
    bench.turn();
    bench.connect();
    finish(&mut bench);
    bench.expect("MGET a b", "*2|$1|1|$1|2|");
    assert!(bench.engine.clients.get(own).is_none(), "nothing is kept of it");
    assert_eq!(bench.engine.clients.iter().count(), clients + 1);
}

#[test]
fn a_script_whose_client_has_left_can_be_ended() {
    let mut bench = bench();
    let own = start(&mut bench, "while true do end");
    bench.engine.disconnect(own);
    bench.connect();
    bench.expect("SCRIPT KILL", "+OK|");
    finish(&mut bench);
    assert!(bench.engine.clients.get(own).is_none());
    bench.expect("PING", "+PONG|");
}

#[test]
fn nobody_has_to_wait_for_a_script_to_end_the_server() {
    let mut bench = bench();
    start(&mut bench, "redis.call('set','k','v') while true do end");
    make_late(&mut bench);
    bench.connect();
    for line in ["SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN FORCE", "SHUTDOWN NOW"] {
        bench.expect(line, BUSY);
    }
    assert_eq!(bench.exit_code(), None);
    bench.ask("SHUTDOWN NOSAVE");
    assert_eq!(bench.exit_code(), Some(0));
}

#[test]
fn a_signal_ends_the_script_and_then_the_server() {
    let mut bench = bench();
    let own = start(&mut bench, "while true do end");
    bench.engine.shut_down_by_signal(Default::default());
    bench.turn();
    bench.turn();
    assert!(bench.heard(own).starts_with(KILLED));
    assert_eq!(bench.exit_code(), Some(0));
}

#[test]
fn a_signal_waits_for_a_script_that_has_written() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[("appendonly", "yes")]);
    let body = format!("redis.call('set','a','1') {A_WHILE} redis.call('set','b','2') return 1");
    start(&mut bench, &body);
    bench.engine.shut_down_by_signal(Default::default());
    bench.turn();
    assert_eq!(bench.exit_code(), None);
    finish(&mut bench);
    assert_eq!(bench.exit_code(), Some(0));
    assert!(bench.engine.close_aof());
    let mut again = restarted(bench, &disk, &[("appendonly", "yes")]);
    again.expect("MGET a b", "*2|$1|1|$1|2|");
}
