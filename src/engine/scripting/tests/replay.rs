//! Scripts and libraries in the files of a dataset.

use super::*;

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function(keys, args) return \
                       redis.call('incrby', keys[1], args[1]) end)";

/// A server that has not loaded an AOF of one old file with these commands.
fn holding(disk: &Arc<MemoryDisk>, commands: &[&[&str]]) -> Bench {
    let parts = ServerParts { disk: Arc::clone(disk) as _, ..ServerParts::default() };
    let mut text = Vec::new();
    for words in commands {
        crate::resp::command::put(&mut text, words.iter().map(|word| word.as_bytes()));
    }
    let bench = Bench::over(debugging(testing::config(&[("appendonly", "yes")])), parts);
    let place = bench.engine.server.aof.place.clone();
    let file = disk.create(&place.parent().join(&place.prefix)).expect("memory takes all");
    file.append(&text).expect("memory takes all");
    bench
}

/// The same when it has loaded it.
fn loaded(commands: &[&[&str]]) -> Bench {
    let mut bench = holding(&Arc::default(), commands);
    let end = bench.engine.load_here().expect("it loads");
    bench.engine.open_aof(&end).expect("the disk is whole");
    bench
}

/// Servers before Redis 7 wrote down scripts, not what they did.
#[test]
fn scripts_of_old_aofs_run_again() {
    let incr = "redis.call('incr',KEYS[1]) return redis.call('rpush','l',unpack(ARGV))";
    let digest =
        crate::script::cache::print_digest(&crate::script::cache::digest_of(incr.as_bytes()));
    let mut bench = loaded(&[
        &["EVAL", incr, "1", "k", "a", "b"],
        &["EVALSHA", &digest, "1", "k", "c"],
        &["SELECT", "3"],
        &[
            "EVAL",
            "redis.call('set','in','3') redis.call('select',5) redis.call('set','in','5')",
            "0",
        ],
        &["SET", "behind", "it"],
        &["SCRIPT", "LOAD", "return redis.call('set','by','load')"],
        &["MULTI"],
        &["EVALSHA", "15ec1d3a7444982030302ec24bd7210a4f173488", "0"],
        &["EVAL", "redis.call('set','in','multi') error('it failed, and does')", "0"],
        &["EXEC"],
        &["EVAL", "#!lua flags=no-writes\nredis.call('set','not','written')", "0"],
        &["EVAL", "this is no script", "0"],
        &["SET", "last", "1"],
    ]);
    bench.expect_all(&[
        ("GET k", "$1|2|"),
        ("LRANGE l 0 -1", "*3|$1|a|$1|b|$1|c|"),
        ("SELECT 5", "+OK|"),
        ("GET in", "$1|5|"),
        ("SELECT 3", "+OK|"),
        ("MGET in behind last not", "*4|$5|multi|$2|it|$1|1|$-1|"),
        ("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.|"),
    ]);
}

/// A script that asked for what scripts may not have was refused when it was written down, too.
#[test]
fn scripts_of_old_aofs_are_refused_what_they_were() {
    let body = "local r = redis.pcall('eval','return redis.call(\"set\",\"inner\",1)',0) \
                redis.call('set','kept',KEYS[1] .. ARGV[1]) return r";
    let mut bench = loaded(&[
        &["EVAL", body, "1", "key", "arg"],
        &["EVAL", "redis.pcall('multi') redis.call('set','a','1')", "0"],
        &["EVAL", "redis.pcall('subscribe','x') redis.pcall('monitor')", "0"],
        &["EVAL", "redis.pcall('shutdown','nosave') redis.pcall('script','flush')", "0"],
        &["EVAL", "redis.pcall('blpop','none',0) redis.call('set','b','2')", "0"],
        &["SET", "last", "1"],
    ]);
    bench.expect("MGET kept inner a b last", "*5|$6|keyarg|$-1|$1|1|$1|2|$1|1|");
    assert_eq!(bench.exit_code(), None);
}

#[test]
fn a_script_of_an_aof_takes_as_long_as_it_takes() {
    let body = format!("redis.call('set','a','1') {A_WHILE} redis.call('set','b','2')");
    let mut bench = loaded(&[&["EVAL", &body, "0"]]);
    bench.expect("MGET a b", "*2|$1|1|$1|2|");
}

#[test]
fn an_aof_is_loaded_anew_with_its_scripts() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = holding(&disk, &[&["EVAL", "redis.call('set','k','v','px',100000)", "0"]]);
    let end = bench.engine.load_here().expect("it loads");
    bench.engine.open_aof(&end).expect("the disk is whole");
    bench.expect("DEBUG LOADAOF", "+OK|");
    bench.expect("SET other 1", "+OK|");
    bench.turn();
    let text = logged(&disk, &bench);
    assert!(text.ends_with("*3|$3|SET|$5|other|$1|1|"), "{text}");
    bench.expect_all(&[("GET k", "$1|v|"), ("DEBUG LOADAOF", "+OK|")]);
    bench.expect("MGET k other", "*2|$1|v|$1|1|");
}

fn load(bench: &mut Bench, code: &str) -> String {
    testing::text(&bench.run(&[b"FUNCTION", b"LOAD", code.as_bytes()]))
}

#[test]
fn libraries_are_in_every_kind_of_file() {
    for form in ["yes", "no"] {
        let disk = Arc::new(MemoryDisk::default());
        let directives =
            [("appendonly", "yes"), ("aof-use-rdb-preamble", form), ("appendfsync", "always")];
        let mut bench = bench_on(&disk, &directives);
        // As an increment.
        assert_eq!(load(&mut bench, LIBRARY), "$3|lib|");
        bench.expect("FCALL f 1 k 5", ":5|");
        bench.turn();
        let mut bench = restarted(bench, &disk, &directives);
        bench.expect("FCALL f 1 k 5", ":10|");
        // As a base.
        bench.turn();
        assert!(bench.ask("BGREWRITEAOF").starts_with("+Background"));
        (0..5).for_each(|_| bench.turn());
        let text = logged(&disk, &bench);
        assert!(!text.contains("#!lua"), "it is in the base: {text}");
        let mut bench = restarted(bench, &disk, &directives);
        bench.expect("FCALL f 1 k 5", ":15|");
        // What becomes of them stands behind it.
        bench.expect("FUNCTION DELETE lib", "+OK|");
        bench.turn();
        let mut bench = restarted(bench, &disk, &directives);
        bench.expect("FCALL f 1 k 5", "-ERR Function not found|");
        bench.expect("GET k", "$2|15|");
    }
}

#[test]
fn libraries_are_in_the_snapshot() {
    let disk = Arc::new(MemoryDisk::default());
    let directives = [];
    let mut bench = bench_on(&disk, &directives);
    load(&mut bench, LIBRARY);
    bench.expect_all(&[("FCALL f 1 k 5", ":5|"), ("SAVE", "+OK|")]);
    let mut bench = restarted(bench, &disk, &directives);
    bench.expect_all(&[("FCALL f 1 k 5", ":10|"), ("DEBUG RELOAD", "+OK|")]);
    bench.expect("FCALL f 1 k 5", ":15|");
    // What is there stays, and must not be there twice.
    bench.expect("SAVE", "+OK|");
    let failed = "-ERR Error trying to load the RDB dump, check server logs.|";
    bench.expect("DEBUG RELOAD NOFLUSH NOSAVE", failed);
    bench.expect("FCALL f 1 k 0", ":15|");
    bench.expect("DEBUG RELOAD NOFLUSH MERGE NOSAVE", "+OK|");
    bench.expect_all(&[("FCALL f 1 k 0", ":15|"), ("FUNCTION FLUSH", "+OK|")]);
    bench.expect("DEBUG RELOAD NOFLUSH MERGE NOSAVE", "+OK|");
    bench.expect("FCALL f 1 k 0", ":15|");
}

#[test]
fn a_reload_that_fails_leaves_the_libraries_as_they_were() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[]);
    load(&mut bench, LIBRARY);
    bench.expect_all(&[("SET there v", "+OK|"), ("SAVE", "+OK|"), ("FUNCTION FLUSH", "+OK|")]);
    let failed = "-ERR Error trying to load the RDB dump, check server logs.|";
    bench.expect("DEBUG RELOAD NOFLUSH NOSAVE", failed);
    bench.expect("FCALL f 1 k 0", "-ERR Function not found|");
    bench.expect_all(&[("DEL there", ":1|"), ("DEBUG RELOAD NOFLUSH NOSAVE", "+OK|")]);
    bench.expect_all(&[("FCALL f 1 k 0", ":0|"), ("GET there", "$1|v|")]);
}

/// A running script's state is not the one that a reload takes away.
#[test]
fn a_dataset_that_takes_the_place_brings_its_own_libraries() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[]);
    bench.expect("SAVE", "+OK|");
    load(&mut bench, LIBRARY);
    bench.expect("DEBUG RELOAD NOSAVE", "+OK|");
    bench.expect("FCALL f 1 k 5", "-ERR Function not found|");
    assert_eq!(load(&mut bench, LIBRARY), "$3|lib|");
    bench.expect("FCALL f 1 k 5", ":5|");
}

#[test]
fn an_increment_with_a_library_that_fails_is_loaded_without_it() {
    let mut bench = loaded(&[
        &["FUNCTION", "LOAD", "#!lua name=bad\nthis is no code"],
        &["FUNCTION", "LOAD", LIBRARY],
        &["FUNCTION", "LOAD", "REPLACE", LIBRARY],
        &["SET", "k", "1"],
    ]);
    bench.expect_all(&[("FCALL f 1 k 5", ":6|"), ("FUNCTION DELETE lib", "+OK|")]);
}

#[test]
fn a_snapshot_with_a_library_that_fails_is_refused() {
    let disk = Arc::new(MemoryDisk::default());
    let mut bench = bench_on(&disk, &[]);
    let path = bench.engine.server.snapshot_path();
    bench.ask("SET k v");
    load(&mut bench, LIBRARY);
    let mut dataset = bench.engine.server.dataset(&bench.engine.keyspace);
    dataset.functions = vec![b"#!lua name=bad\nthis is no code".to_vec()];
    let options = crate::persist::rdb::SaveOptions::of(
        &bench.engine.server.config,
        &bench.engine.keyspace.access,
    );
    let mut bytes = Vec::new();
    let watch = &mut |_| std::ops::ControlFlow::Continue(());
    crate::persist::rdb::write(&dataset, &options, &mut bytes, watch).expect("it is memory");
    let file = disk.create(&path).expect("memory takes all");
    file.append(&bytes).expect("memory takes all");
    let parts = ServerParts { disk: Arc::clone(&disk) as _, ..ServerParts::default() };
    let mut again = Bench::over(testing::config(&[]), parts);
    assert!(again.engine.load_here().is_err());
}
