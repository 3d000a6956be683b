//! What scripts may do, and which gates they pass by what they say of themselves.

use super::*;

#[test]
fn some_commands_are_not_for_scripts() {
    let mut bench = bench();
    for call in [
        "'subscribe','x'",
        "'multi'",
        "'exec'",
        "'eval','return 1',0",
        "'auth','x'",
        "'shutdown'",
        "'script','flush'",
        "'function','flush'",
        "'config','get','save'",
        "'save'",
        "'monitor'",
        "'debug','sleep','0'",
        "'client','reply','off'",
    ] {
        let reply = eval(&mut bench, &format!("return redis.call({call})"));
        let expected = "-ERR This Redis command is not allowed from script script: ";
        assert!(reply.starts_with(expected), "{call}: {reply}");
    }
}

/// For tests of old there is a way, which is to harm nobody.
#[test]
fn a_script_starts_no_other_script() {
    let mut bench = bench();
    load_library(&mut bench, "redis.register_function('f', function() return 1 end)");
    bench.expect("DEBUG SET-DISABLE-DENY-SCRIPTS 1", "+OK|");
    for call in [
        "'eval','return KEYS[1]',1,'x'",
        "'fcall','f',0",
        "'eval_ro','return 1',0",
        "'script','flush'",
        "'function','flush'",
        "'function','load','#!lua name=x\\nredis.register_function(\"g\",function() end)'",
    ] {
        for _ in 0..3 {
            let body = format!(
                "local t = {{'kept'}} local r = redis.pcall({call}) \
                 return {{t[1], KEYS[1], ARGV[1], type(r)}}"
            );
            let reply = bench.run(&[b"EVAL", body.as_bytes(), b"1", b"key", b"arg"]);
            let reply = testing::text(&reply);
            assert!(reply.starts_with("*4|$4|kept|$3|key|$3|arg|"), "{call}: {reply}");
        }
    }
    let call = "return redis.call('eval','while true do end',0)";
    assert!(eval(&mut bench, call).starts_with('-'));
    assert_eq!(eval(&mut bench, "return 1"), ":1|");
}

thread_local! {
    static USED: Cell<usize> = const { Cell::new(50) };
}

/// A server whose memory is full when [`USED`] says so.
fn bench_of_memory() -> Bench {
    USED.set(50);
    let parts = ServerParts { used_memory: || USED.get(), ..ServerParts::default() };
    Bench::over(testing::config(&[("maxmemory", "100000")]), parts).stepping()
}

const FULL: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

#[test]
fn a_script_writes_nothing_more_when_memory_was_full_at_its_begin() {
    let mut bench = bench_of_memory();
    bench.ask("SET k v");
    USED.set(1_000_000);
    assert!(eval(&mut bench, "return redis.call('set','k','v')").starts_with(FULL));
    assert_eq!(eval(&mut bench, "return redis.call('get','k')"), "$1|v|");
    // One that has changed something goes on, or it would be there by half.
    let both = "redis.call('del','k') return redis.call('set','k','w')";
    assert_eq!(eval(&mut bench, both), "+OK|");
    let reply = eval(&mut bench, "redis.pcall('set','k','x') return redis.call('del','none')");
    assert_eq!(reply, ":0|");
    bench.expect("GET k", "$1|w|");
}

#[test]
fn memory_that_becomes_full_stops_no_script() {
    let mut bench = bench_of_memory();
    start(&mut bench, &format!("{A_WHILE} redis.call('set','k','v')"));
    USED.set(1_000_000);
    finish(&mut bench);
    bench.expect("GET k", "$1|v|");
}

#[test]
fn what_a_script_says_of_itself_decides_when_memory_is_full() {
    let mut bench = bench_of_memory();
    USED.set(1_000_000);
    let library = "redis.register_function('f', function() return 1 end) \
                   redis.register_function{function_name='g', callback=function() return \
                   redis.call('set','k','v') end, flags={'allow-oom'}} \
                   redis.register_function{function_name='r', callback=function() return 1 end, \
                   flags={'no-writes'}}";
    assert!(bench.ask("FUNCTION LOAD x").starts_with(FULL));
    USED.set(50);
    load_library(&mut bench, library);
    USED.set(1_000_000);
    for (header, is_let_in) in [
        ("#!lua", false),
        ("#!lua flags=no-writes", true),
        ("#!lua flags=allow-oom", true),
        ("#!lua flags=allow-stale", false),
    ] {
        let reply = eval(&mut bench, &format!("{header}\nreturn 1"));
        assert_eq!(reply == ":1|", is_let_in, "{header}: {reply}");
        assert!(is_let_in || reply.starts_with("-OOM "), "{header}: {reply}");
        // The same in a transaction.
        bench.expect("MULTI", "+OK|");
        let reply = eval(&mut bench, &format!("{header}\nreturn 1"));
        assert_eq!(reply == "+QUEUED|", is_let_in, "{header}: {reply}");
        let executed = bench.ask("EXEC");
        assert_eq!(executed == "*1|:1|", is_let_in, "{header}: {executed}");
    }
    assert!(bench.ask("FCALL f 0").starts_with("-OOM "));
    bench.expect_all(&[("FCALL g 0", "+OK|"), ("FCALL r 0", ":1|")]);
}

#[test]
fn what_cannot_be_saved_is_not_written_by_scripts() {
    let mut bench = with(testing::config(&[("save", "60 1")]));
    bench.ask("SET k v");
    bench.engine.server.saving.last_succeeded = false;
    let misconf = "-MISCONF Redis is configured to save RDB snapshots";
    assert!(eval(&mut bench, "return redis.call('set','k','w')").starts_with(misconf));
    assert!(eval(&mut bench, "return redis.call('del','k')").starts_with(misconf));
    assert_eq!(eval(&mut bench, "return redis.call('get','k')"), "$1|v|");
    assert_eq!(eval(&mut bench, "#!lua flags=no-writes\nreturn redis.call('get','k')"), "$1|v|");
    assert!(eval(&mut bench, "#!lua\nreturn 1").starts_with(misconf));
    bench.expect("GET k", "$1|v|");
}

#[test]
fn scripts_that_only_read_write_nothing() {
    let mut bench = bench();
    load_library(
        &mut bench,
        "redis.register_function{function_name='r', callback=function() return \
         redis.call('set','k','v') end, flags={'no-writes'}} \
         redis.register_function('w', function() return 1 end)",
    );
    let refused = "-ERR Write commands are not allowed from read-only scripts. script: ";
    for call in ["'set','k','v'", "'del','none'", "'publish','c','m'", "'pfcount','h'"] {
        let body = format!("return redis.call({call})");
        let reply = testing::text(&bench.run(&[b"EVAL_RO", body.as_bytes(), b"0"]));
        assert!(reply.starts_with(refused), "{call}: {reply}");
        let reply = eval(&mut bench, &format!("#!lua flags=no-writes\n{body}"));
        assert!(reply.starts_with(refused), "{call}: {reply}");
    }
    for line in ["FCALL r 0", "FCALL_RO r 0"] {
        assert!(bench.ask(line).starts_with(refused));
    }
    let refused = "-ERR Can not execute a script with write flag using *_ro command.";
    assert!(bench.ask("FCALL_RO w 0").starts_with(refused));
    let reply = testing::text(&bench.run(&[b"EVAL_RO", b"#!lua\nreturn 1", b"0"]));
    assert!(reply.starts_with(refused), "{reply}");
}

#[test]
fn a_pause_of_writes_lets_those_in_that_say_they_only_read() {
    let mut bench = bench();
    load_library(
        &mut bench,
        "redis.register_function{function_name='r', callback=function() return 1 end, \
         flags={'no-writes'}} redis.register_function('w', function() return 1 end)",
    );
    let digest = |bench: &mut Bench, body: &str| {
        let reply = testing::text(&bench.run(&[b"SCRIPT", b"LOAD", body.as_bytes()]));
        reply.split('|').nth(1).expect("a digest").to_owned()
    };
    let reads = digest(&mut bench, "#!lua flags=no-writes\nreturn 1");
    let writes = digest(&mut bench, "#!lua\nreturn 1");
    bench.expect("CLIENT PAUSE 100000 WRITE", "+OK|");
    let ask = |bench: &mut Bench, words: &[&[u8]]| {
        bench.connect();
        testing::text(&bench.run(words))
    };
    for words in [
        [b"EVAL_RO", &b"return 1"[..], b"0"],
        [b"EVAL", b"#!lua flags=no-writes\nreturn 1", b"0"],
        [b"EVALSHA", reads.as_bytes(), b"0"],
        [b"FCALL", b"r", b"0"],
        [b"FCALL_RO", b"r", b"0"],
    ] {
        assert_eq!(ask(&mut bench, &words), ":1|", "{words:?}");
    }
    for words in [
        [b"EVAL", &b"return 1"[..], b"0"],
        [b"EVAL", b"#!lua\nreturn 1", b"0"],
        [b"EVALSHA", writes.as_bytes(), b"0"],
        [b"FCALL", b"w", b"0"],
    ] {
        assert_eq!(ask(&mut bench, &words), "", "{words:?}");
    }
    // A transaction is what is in it.
    bench.connect();
    bench.expect("MULTI", "+OK|");
    assert_eq!(eval(&mut bench, "#!lua flags=no-writes\nreturn 1"), "+QUEUED|");
    bench.expect("EXEC", "*1|:1|");
    let own = bench.client;
    bench.expect("CLIENT UNPAUSE", "+OK|");
    bench.expect("MULTI", "+OK|");
    assert_eq!(eval(&mut bench, "#!lua\nreturn 1"), "+QUEUED|");
    bench.connect();
    bench.expect("CLIENT PAUSE 100000 WRITE", "+OK|");
    assert_eq!(bench.ask_as(own, "EXEC"), "");
}

/// What was allowed when a command was queued is asked of the script that is run.
#[test]
fn a_script_may_be_forgotten_between_multi_and_exec() {
    let mut bench = bench();
    eval(&mut bench, "return 1");
    let digest = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    bench.expect("MULTI", "+OK|");
    bench.expect(&format!("EVALSHA {digest} 0"), "+QUEUED|");
    let own = bench.client;
    bench.connect();
    bench.ask("SCRIPT FLUSH");
    bench.client = own;
    bench.expect("EXEC", "*1|-NOSCRIPT No matching script. Please use EVAL.|");
}

#[test]
fn a_library_that_is_loaded_and_a_script_keep_to_the_memory_there_is() {
    const FILLS: &str = "local t = {} while true do t[#t + 1] = {} end";
    let mut bench = with(testing::config(&[("script-memory-limit", "2mb")]));
    let library = format!("#!lua name=l\n{FILLS}");
    let reply = testing::text(&bench.run(&[b"FUNCTION", b"LOAD", library.as_bytes()]));
    assert!(reply.contains("not enough memory"), "{reply}");
    // It ends within its first slice.
    let reply = eval(&mut bench, FILLS);
    assert!(reply.contains("not enough memory"), "{reply}");
}
