//! Laws of rules, and of what they allow, for random users and requests.

use super::{Beginning, User, Users, file};
use crate::command::table::Row;
use crate::command::{Flags, Table, Traits};
use crate::engine::testing::Bench;
use crate::keyspace::digest::Digest;
use crate::structs::prng::Prng;
use crate::structs::words;
use proptest::prelude::*;
use std::sync::LazyLock;

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    ">a",
    ">b c",
    "<a",
    "sanitize-payload",
    "skip-sanitize-payload",
    "clearselectors",
    "reset",
    "allkeys",
    "~*",
    "resetkeys",
    "~a",
    "~b*",
    "%R~a",
    "%W~a",
    "%r~b*",
    "%RW~c?[d-f]",
    "~'q",
    "~\"q",
    "~\\q",
    "~(",
    "~x)",
    "~",
    "allchannels",
    "&*",
    "resetchannels",
    "&a",
    "&a*",
    "&\"",
    "+@all",
    "-@all",
    "allcommands",
    "nocommands",
    "+@read",
    "-@write",
    "+@Admin",
    "-@dangerous",
    "+get",
    "-get",
    "+CONFIG",
    "-config",
    "+config|get",
    "-config|SET",
    "+client|id",
    "+select|0",
    "+debug|a",
    "+debug|B",
    "+debug",
    "-debug",
    "alldbs",
    "resetdbs",
    "db=0",
    "db=2,1",
    "()",
    "(~a +get)",
    "(%R~b* +@read -get)",
    "(&x db=3 +@all)",
    "(resetchannels -@all +config +config|get)",
    "(\"~a\\\"b\" ~c'd)",
    "('&a\"' \"+select|'\")",
    "",
];

fn beginning() -> impl Strategy<Value = Beginning> {
    prop_oneof![Just(Beginning::AllChannels), Just(Beginning::NoChannels)]
}

/// A user to whom these rules were applied, those that can be.
fn user_of(rules: &[&str], beginning: Beginning) -> User {
    let mut user = User::new(b"u", &TABLE, beginning);
    for rule in rules {
        // Some take back what is not there.
        let _ = user.apply(rule.as_bytes(), &TABLE, beginning);
    }
    user
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_described_is_read_back_as_it_was(
        rules in prop::collection::vec(prop::sample::select(RULES), 0..14),
        before in beginning(),
        after in beginning(),
    ) {
        let user = user_of(&rules, before);
        let mut users = Users::new(&TABLE);
        users.put(user.clone());
        let text = file::write(&users);
        let read = file::parse(&text, "f", &TABLE, after).expect("it was written so");
        prop_assert_eq!(&**read.find(b"u").expect("it was written"), &user);
        prop_assert_eq!(file::write(&read), text);

        let line = file::config_line(&user);
        let line = words::split(&line).expect("it was written so");
        let lines = [line];
        prop_assert_eq!(file::check_lines(&lines, &TABLE, after), Ok(()));
        let mut users = Users::new(&TABLE);
        file::take(&mut users, &lines, &TABLE, after).expect("it was written so");
        prop_assert_eq!(&**users.find(b"u").expect("it was defined"), &user);
    }

    #[test]
    fn any_bytes_make_a_file_or_are_refused(
        text in "(user |default|u|on |\\PC| |\n|[()~+>#\"]){0,60}",
    ) {
        let _ = file::parse(text.as_bytes(), "f", &TABLE, Beginning::NoChannels);
    }
}

#[test]
fn rules_about_commands_take_the_place_of_those_they_make_void() {
    for (rules, shown) in [
        ("-@all +config +config|get -config|set +config", "-@all +config"),
        ("+@all -config +config|get -config", "+@all -config"),
        ("+@all -@hash -@slow +hget -@hash", "+@all -@slow +hget -@hash"),
        ("-@all +@HASH +@hash +HGET +hGeT", "-@all +@hash +hget"),
        (
            "-@all +client|list +client|list +config|get +config +acl|list -acl",
            "-@all +client|list +config -acl",
        ),
        ("-@all +select|0 +SELECT|0 +debug|segfault +debug", "-@all +select|0 +debug"),
        ("-@all +get +getex -get", "-@all +getex -get"),
        ("-@string -@slow +@all", "+@all"),
    ] {
        let rules: Vec<&str> = rules.split(' ').collect();
        let user = user_of(&rules, Beginning::NoChannels);
        let words = user.root().command_words();
        assert_eq!(String::from_utf8_lossy(&words.join(&b' ')), shown);
    }
}

fn faults(text: &str) -> String {
    let parsed = file::parse(text.as_bytes(), "users.acl", &TABLE, Beginning::NoChannels);
    parsed.map(|_| ()).expect_err("it has a fault")
}

#[test]
fn a_file_is_taken_whole_or_not_at_all() {
    const END: &str =
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    for (text, told) in [
        ("user a on\n\nuser a off", "WARNING: Duplicate user 'a' found on line 3. "),
        ("user default on\nuser default on", "WARNING: Duplicate user 'default' found on line 2. "),
        (
            "user\n# no comments\nuse x on",
            "users.acl:1 should start with user keyword followed by the username. users.acl:2 \
             should start with user keyword followed by the username. users.acl:3 should start \
             with user keyword followed by the username. ",
        ),
        ("user a\tb on", "'users.acl:1: username 'a\tb' contains invalid characters. "),
        ("user a (+get", "users.acl:1: Unmatched parenthesis in selector definition."),
        (
            "user a +nosuch %x >s +@nothing !1",
            "users.acl:1: Error in applying operation '+nosuch': Unknown command or category name \
             in ACL. users.acl:1: Syntax error. users.acl:1: Error in applying operation \
             '+@nothing': Unknown command or category name in ACL. ",
        ),
        // A torn end: a hash that is too short.
        (
            "user a on\nuser b on #ba7816bf8f01cfea41",
            "users.acl:2: The password hash must be exactly 64 characters and contain only \
             lowercase hexadecimal characters. ",
        ),
    ] {
        assert_eq!(faults(text), format!("{told}{END}"));
    }
    let text = b"  user a on  nopass \r\n\t\nUSER b off\n";
    let users = file::parse(text, "f", &TABLE, Beginning::NoChannels).expect("it is right");
    let names: Vec<_> = users.iter().map(|user| user.shown_name().into_owned()).collect();
    assert_eq!(names, ["a", "b", "default"]);
    assert!(users.default().may_all() && users.default().needs_no_password());
}

#[test]
fn a_command_says_who_may_use_it_by_all_its_categories() {
    // Scripts are a right of their own, however little they may do.
    let user = user_of(&["+@read", "~*"], Beginning::NoChannels);
    for name in ["eval_ro", "evalsha_ro", "fcall_ro", "eval", "set"] {
        let id = TABLE.by_true_name(name.as_bytes()).expect("a command");
        assert!(!user.root().allows_command(id, || None), "{name}");
    }
}

/// The first of the words are keys that may be used.
const OWN_KEYS: usize = 8;

/// Words of which requests are made: keys of every kind, allowed and not, and what options are.
const WORDS: &[&str] = &[
    "ok:s",
    "ok:l",
    "ok:h",
    "ok:e",
    "ok:z",
    "ok:x",
    "ok:g",
    "ok:new",
    "no:s",
    "no:l",
    "no:h",
    "no:e",
    "no:z",
    "no:x",
    "no:g",
    "no:new",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "10",
    "5",
    "0-0",
    "$",
    ">",
    "*",
    "+",
    "-",
    "(1",
    "[a",
    "a",
    "b",
    "f1",
    "f2",
    "store",
    "STOREDIST",
    "by",
    "get",
    "BY",
    "GET",
    "streams",
    "KEYS",
    "limit",
    "count",
    "COUNT",
    "left",
    "RIGHT",
    "min",
    "u8",
    "set",
    "incrby",
    "overflow",
    "wrap",
    "withscores",
    "WEIGHTS",
    "aggregate",
    "REPLACE",
    "db",
    "ex",
    "nx",
    "xx",
    "group",
    "mygroup",
    "c",
    "fields",
    "FIELDS",
    "match",
    "and",
    "not",
    "asc",
    "alpha",
    "#",
    "nosort",
    "no:*",
    "ok:*",
    "*->f1",
    "idle",
    "maxlen",
    "minid",
    "byscore",
    "rev",
    "fromlonlat",
    "frommember",
    "byradius",
    "BYBOX",
    "m",
    "km",
    "p",
    "13",
    "37",
    "usage",
    "encoding",
    "stream",
    "create",
    "mkstream",
    "return redis.call('get', KEYS[1])",
    "return redis.call('get', 'no:s')",
    "return redis.call('sunionstore', 'ok:new', 'no:e', 'ok:e')",
    "",
    "1.5",
    "100",
];

/// A dataset with keys of every kind that may be used, and as many that may not, which differ from
/// one world to the other.
fn fill(bench: &mut Bench, world: usize) {
    bench.ask("FLUSHALL");
    for name in ["ok", "no"] {
        let other = if name == "no" && world == 1 { "other" } else { "a" };
        for line in [
            format!("SET {name}:s {other}"),
            format!("RPUSH {name}:l {other} b 3"),
            format!("HSET {name}:h f1 {other} f2 2"),
            format!("SADD {name}:e {other} b 1"),
            format!("ZADD {name}:z 1 {other} 2 b"),
            format!("XADD {name}:x 1-1 f1 {other}"),
            format!("XGROUP CREATE {name}:x mygroup 0"),
            format!("GEOADD {name}:g 13 37 {other}"),
        ] {
            bench.ask(&line);
        }
    }
    if world == 1 {
        bench.ask("DEL no:l no:z");
        bench.ask("RPUSH no:h x y");
        bench.ask("SET no:new 1");
    }
}

fn random_request(prng: &mut Prng, row: &Row) -> Vec<&'static str> {
    let mut words: Vec<&str> = row.full_name.split('|').collect();
    let least = usize::try_from(row.command.arity.as_i64().unsigned_abs()).expect("a few");
    let count = least.max(words.len()) + prng.below(6) as usize;
    while words.len() < count {
        // Every other word is a key that may be used, or little would come to pass.
        let among = if prng.below(2) == 0 { OWN_KEYS } else { WORDS.len() };
        words.push(WORDS[prng.below(among as u64) as usize]);
    }
    if row.command.arity.as_i64() > 0 {
        words.truncate(least);
    }
    words
}

fn run(bench: &mut Bench, words: &[&str]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    bench.run(&words)
}

fn is_denied(reply: &[u8]) -> bool {
    reply.starts_with(b"-NOPERM")
}

/// What a request does is found out by what it tells, and by what it changes: whatever it does
/// with keys that its user may not use would be seen in one of the two.
#[test]
fn no_request_sees_or_changes_a_key_that_was_not_asked_for() {
    let mut prng = Prng::seeded(23);
    let mut worlds = [Bench::new(), Bench::new()];
    let mut passed = 0;
    for row in TABLE.rows().iter().filter(|row| row.command.has_keys()) {
        for (world, bench) in worlds.iter_mut().enumerate() {
            fill(bench, world);
        }
        for _ in 0..150 {
            let words = random_request(&mut prng, row);
            let replies: Vec<Vec<u8>> = worlds
                .iter_mut()
                .map(|bench| {
                    let admin = bench.client;
                    bench.ask("ACL SETUSER u on nopass resetkeys ~ok:* &* +@all");
                    let client = bench.connect();
                    bench.expect("AUTH u x", "+OK|");
                    let before = secrets(bench);
                    let reply = run(bench, &words);
                    assert_eq!(secrets(bench), before, "{words:?} has changed what it may not");
                    bench.engine.disconnect(client);
                    bench.client = admin;
                    reply
                })
                .collect();
            passed += usize::from(!is_denied(&replies[0]) && !replies[0].starts_with(b"-"));
            // Of the memory of tables each key has its share, so it depends on all.
            if row.full_name == "memory|usage" {
                continue;
            }
            let [one, other] = [0, 1].map(|at| String::from_utf8_lossy(&replies[at]).into_owned());
            assert_eq!(one, other, "{words:?} tells of what it may not");
        }
    }
    assert!(passed > 500, "{passed} requests did anything");
}

/// What has got past other servers: one key was asked for and another one used.
#[test]
fn no_word_in_the_wrong_place_leads_to_a_key_that_was_not_asked_for() {
    let mut bench = Bench::new();
    fill(&mut bench, 0);
    bench.ask("ACL SETUSER u on nopass ~ok:* +@all");
    bench.connect();
    bench.expect("AUTH u x", "+OK|");
    let before = secrets(&mut bench);
    for line in [
        "GEORADIUS ok:g 13 37 9 km STORE ok:new STORE no:s",
        "GEORADIUS ok:g 13 37 9 km STORE ok:new STOREDIST no:s",
        "GEORADIUS ok:g 13 37 9 km STOREDIST ok:new STORE no:s",
        "GEORADIUS ok:g 13 37 9 km STORE STORE STORE no:s",
        "GEORADIUSBYMEMBER ok:g a 9 km STORE ok:new STORE no:s",
        "GEORADIUSBYMEMBER ok:g a 9 km COUNT 1 STORE ok:new ASC STOREDIST no:s",
        "GEORADIUSBYMEMBER ok:g STORE 9 km STORE no:s",
        "SORT ok:e STORE ok:new STORE no:s",
        "SORT ok:e BY STORE ok:new STORE no:s",
        "SORT ok:e GET STORE STORE no:s",
        "SORT ok:e BY no:*",
        "SORT ok:e GET no:*",
        "SORT_RO ok:e GET no:*",
        "XREADGROUP GROUP STREAMS ok:x STREAMS no:x >",
        "XREADGROUP GROUP mygroup STREAMS STREAMS no:x >",
        "XREADGROUP GROUP STREAMS STREAMS COUNT 1 STREAMS no:x >",
        "XREAD COUNT 1 STREAMS ok:x no:x 0 0",
        "ZUNIONSTORE ok:new 2 ok:z no:z",
        "ZUNIONSTORE ok:new 1 ok:z WEIGHTS 1 no:z",
        "MSET ok:new 1 no:s 2",
        "COPY no:s ok:new",
        "COPY ok:s no:s REPLACE",
        "EVAL return(redis.call('get','no:s')) 0",
        "EVAL return(redis.call('set',KEYS[1],1)) 1 no:s",
        "BITOP AND ok:new ok:s no:s",
        "LMPOP 2 ok:new no:l LEFT",
        "SMOVE ok:e no:e b",
        "SINTERCARD 2 ok:e no:e LIMIT 0",
    ] {
        let reply = bench.ask(line);
        assert!(reply.starts_with('-'), "{line}: {reply}");
        assert_eq!(secrets(&mut bench), before, "{line}");
    }
    // The last one is the one that is written.
    bench.expect("GEORADIUS ok:g 13 37 9 km STORE no:s STORE ok:new", ":1|");
    bench.expect("SORT ok:l STORE no:s ALPHA STORE ok:new", ":3|");
    assert_eq!(secrets(&mut bench), before);
}

/// The values of all keys that may not be used.
fn secrets(bench: &mut Bench) -> Vec<Option<String>> {
    let keys = ["s", "l", "h", "e", "z", "x", "g", "new"];
    let space = &mut bench.engine.keyspace;
    keys.map(|name| {
        let key = format!("no:{name}");
        let key = space.key(key.as_bytes());
        space.db(0).get(&key).map(|entry| {
            let mut digest = Digest::default();
            digest.mix_value(entry);
            digest.to_hex()
        })
    })
    .to_vec()
}

/// Those whose run tells nothing that a law could be about, or ends what it is about.
fn is_tame(row: &Row) -> bool {
    const WILD: Flags = Flags::ADMIN.or(Flags::BLOCKING).or(Flags::NO_AUTH);
    let command = row.command;
    !command.flags.intersects(WILD)
        && !command.traits.has(Traits::RUNS_IN_MULTI)
        && !command.is_container()
        && command.guard.is_none()
}

#[test]
fn a_dry_run_says_what_the_call_itself_does() {
    let mut prng = Prng::seeded(5);
    let mut bench = Bench::new();
    let admin = bench.client;
    let rows: Vec<&Row> = TABLE.rows().iter().filter(|row| is_tame(row)).collect();
    let (mut denied, mut allowed) = (0, 0);
    for _ in 0..40 {
        bench.client = admin;
        fill(&mut bench, 0);
        let mut rules: Vec<&str> = vec!["reset", "+client|reply"];
        for _ in 0..prng.below(12) {
            rules.push(RULES[prng.below(RULES.len() as u64) as usize]);
        }
        for rule in ["~ok:*", "+@all", "-@read", "(+@write ~no:* &a)", "%R~no:*"] {
            if prng.below(2) == 0 {
                rules.push(rule);
            }
        }
        bench.ask("ACL SETUSER u");
        for rule in rules.iter().chain(&["on", "nopass"]) {
            run(&mut bench, &["ACL", "SETUSER", "u", rule]);
        }
        for _ in 0..120 {
            let row = rows[prng.below(rows.len() as u64) as usize];
            let words = random_request(&mut prng, row);
            bench.client = admin;
            let dry = run(&mut bench, &[&["ACL", "DRYRUN", "u"][..], &words].concat());
            let client = bench.connect();
            bench.expect("AUTH u x", "+OK|");
            let reply = run(&mut bench, &words);
            bench.engine.disconnect(client);
            let (says_no, does_not) = (dry.starts_with(b"$"), is_denied(&reply));
            denied += usize::from(does_not);
            allowed += usize::from(!does_not);
            assert_eq!(says_no, does_not, "{rules:?}: {words:?}: {reply:?}");
        }
    }
    assert!(denied > 200 && allowed > 200, "{denied} {allowed}");
}

#[test]
fn who_may_do_nothing_does_nothing_but_log_in() {
    let mut bench = Bench::new();
    let admin = bench.client;
    bench.expect("ACL SETUSER u on nopass ~* &*", "+OK|");
    for row in TABLE.rows() {
        let mut words: Vec<&str> = row.full_name.split('|').collect();
        let least = usize::try_from(row.command.arity.as_i64().unsigned_abs()).expect("a few");
        words.resize(least.max(words.len()), "1");
        if row.command.is_container() {
            continue;
        }
        bench.client = admin;
        bench.connect();
        bench.expect("AUTH u x", "+OK|");
        let reply = run(&mut bench, &words);
        let is_open = row.command.flags.has(Flags::NO_AUTH);
        let is_guarded = row.command.guard.is_some() && reply.starts_with(b"-ERR DEBUG command");
        let expected = format!("has no permissions to run the '{}' command", row.full_name);
        let says_so = String::from_utf8_lossy(&reply).contains(&expected);
        // Who sends EXEC is told that there is no transaction any more, whatever else there is.
        let is_denied = is_denied(&reply) || reply.starts_with(b"-EXECABORT");
        assert!(is_guarded || is_denied != is_open, "{words:?}: {reply:?}");
        assert!(is_guarded || says_so != is_open, "{words:?}: {reply:?}");
    }
}

/// A file of something else may have a fault in every line.
#[test]
fn so_many_faults_are_told_and_the_others_counted() {
    let told = faults(&"garbage\n".repeat(100_000));
    assert!(told.len() < 20_000, "{}", told.len());
    assert!(told.starts_with("users.acl:1 should start"), "{told}");
    let end = told.split_once("There are ").expect("some are left out").1;
    assert!(end.contains(" more errors. WARNING: ACL errors detected"), "{end}");
}
