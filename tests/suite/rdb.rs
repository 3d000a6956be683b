//! Values and files that a real Redis wrote, and ours in a real Redis.
//!
//! tests/fixtures/rdb has what a Redis 7.0 recorded, so that most of this needs none; the checks
//! that ask a running one are left out where there is none.

use crate::answer::Answer;
use crate::local::Local;
use crate::server::{RUFOUS, Server};
use rufous::engine::ClientId;
use rufous::persist::rdb::{self, Dataset, LoadOptions, Loader, Record, SaveOptions, SaveVersion};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A value as a real Redis has it.
pub struct Case {
    pub name: String,
    pub commands: Vec<Vec<Vec<u8>>>,
    encoding: String,
    digest: String,
    payload: Vec<u8>,
    /// The same commands must yield the same payload.
    is_exact: bool,
    /// A value that was restored must yield the same payload.
    is_same: bool,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb").join(name)
}

pub fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixture("payloads.txt")).expect("it is in the repository");
    text.split("\n\n").filter(|part| !part.trim().is_empty()).map(read_case).collect()
}

fn read_case(text: &str) -> Case {
    let lines = |head: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix(head)).collect()
    };
    let words = |line: &&str| rufous::structs::words::split(line.as_bytes()).expect("balanced");
    let payload: Vec<&str> = lines("payload ")[0].split(' ').collect();
    let hex = payload[payload.len() - 1].as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("it is hexadecimal") as u8;
    Case {
        name: lines("case ")[0].to_owned(),
        commands: lines("> ").iter().map(words).collect(),
        encoding: lines("encoding ")[0].to_owned(),
        digest: lines("digest ")[0].to_owned(),
        payload: hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect(),
        is_exact: payload.contains(&"exact"),
        is_same: payload.contains(&"same"),
    }
}

/// An engine that writes what a Redis 7.0 writes.
fn local() -> (Local, ClientId) {
    let mut local = Local::start(&[("rdb-save-version".into(), "10".into())]);
    let client = local.connect();
    (local, client)
}

fn call(local: &mut Local, client: ClientId, words: &[&[u8]]) -> Answer {
    let answer = local.call(client, words).expect("it is answered at once");
    assert!(!matches!(answer, Answer::Error(_)), "{words:?}: {answer:?}");
    answer
}

fn text_of(answer: Answer) -> String {
    match answer {
        Answer::Bulk(text) | Answer::Simple(text) => String::from_utf8_lossy(&text).into_owned(),
        Answer::Array(mut answers) => text_of(answers.remove(0)),
        other => panic!("{other:?} is no text"),
    }
}

fn bytes_of(answer: Answer) -> Vec<u8> {
    let Answer::Bulk(bytes) = answer else { panic!("{answer:?} are no bytes") };
    bytes
}

/// What is wrong with a key that should hold the value of a case.
fn faults(local: &mut Local, client: ClientId, key: &[u8], case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    let digest = text_of(call(local, client, &[b"DEBUG", b"DIGEST-VALUE", key]));
    if digest != case.digest {
        faults.push(format!("{}: its digest is {digest}, not {}", case.name, case.digest));
    }
    let encoding = text_of(call(local, client, &[b"OBJECT", b"ENCODING", key]));
    if encoding != case.encoding {
        faults.push(format!("{}: it is {encoding}, not {}", case.name, case.encoding));
    }
    faults
}

/// Expiry belongs to the key: the digest of a restored value would lack it.
fn ttl_of(case: &Case) -> Vec<u8> {
    let words = case.commands.iter().flatten();
    let expiry = words.clone().zip(words.skip(1)).find(|(word, _)| word.as_slice() == b"PXAT");
    expiry.map_or(b"0".to_vec(), |(_, time)| time.clone())
}

#[test]
fn payloads_of_a_real_redis_are_restored() {
    let (mut local, client) = local();
    let mut all = Vec::new();
    for case in cases() {
        let words: [&[u8]; 6] =
            [b"RESTORE", b"k", &ttl_of(&case), &case.payload, b"REPLACE", b"ABSTTL"];
        call(&mut local, client, &words);
        all.extend(faults(&mut local, client, b"k", &case));
        let payload = bytes_of(call(&mut local, client, &[b"DUMP", b"k"]));
        if case.is_same && payload != case.payload {
            all.push(format!("{}: it is dumped otherwise than it came", case.name));
        }
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn the_same_commands_yield_the_same_payloads() {
    let (mut local, client) = local();
    let mut all = Vec::new();
    for case in cases() {
        call(&mut local, client, &[b"DEL", b"k"]);
        for command in &case.commands {
            local.call(client, command).expect("it is answered at once");
        }
        all.extend(faults(&mut local, client, b"k", &case));
        let payload = bytes_of(call(&mut local, client, &[b"DUMP", b"k"]));
        if case.is_exact && payload != case.payload {
            let (ours, theirs) = (payload.escape_ascii(), case.payload.escape_ascii());
            all.push(format!("{}: the payload is\n{ours}\nand not\n{theirs}", case.name));
        }
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

/// Loads a file into an engine.
fn load(local: &mut Local, bytes: &[u8]) -> rdb::Counts {
    let options = LoadOptions::of(&local.engine.server.config, &local.engine.keyspace);
    let mut loader = Loader::new(bytes, options);
    let mut db = 0;
    while let Some(record) = loader.next_record().expect("the file is fine") {
        match record {
            Record::SelectDb(index) => db = index,
            Record::Entry { entry, hash } => {
                let replaced = local.engine.keyspace.insert_loaded(db, hash, entry);
                assert!(replaced.is_none(), "a key comes twice");
            }
            Record::Function(source) => assert!(source.starts_with(b"#!lua name=lib")),
            _ => {}
        }
    }
    loader.counts()
}

#[test]
fn files_of_a_real_redis_are_loaded() {
    for name in ["every-type", "idle-times", "frequencies"] {
        let (mut local, client) = local();
        if name == "frequencies" {
            local.call(client, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
        }
        let bytes = std::fs::read(fixture(&format!("{name}.rdb"))).expect("it is there");
        let counts = load(&mut local, &bytes);
        let digest = std::fs::read_to_string(fixture(&format!("{name}.digest"))).expect("it is");
        let ours = text_of(call(&mut local, client, &[b"DEBUG", b"DIGEST"]));
        assert_eq!(ours, digest.trim(), "{name}");
        match name {
            "every-type" => assert_eq!(counts.loaded, cases().len() as u64),
            "idle-times" => {
                let idle = call(&mut local, client, &[b"OBJECT", b"IDLETIME", b"k"]);
                assert!(matches!(idle, Answer::Integer(1000..1100)), "{idle:?}");
            }
            _ => {
                let frequency = call(&mut local, client, &[b"OBJECT", b"FREQ", b"k"]);
                assert_eq!(frequency, Answer::Integer(200));
            }
        }
    }
}

/// An engine with a key for each case in three databases, some of which expire.
fn filled() -> (Local, ClientId) {
    let (mut local, client) = local();
    for (number, case) in cases().iter().enumerate() {
        let key = case.name.as_bytes();
        call(&mut local, client, &[b"SELECT", (number % 3).to_string().as_bytes()]);
        call(&mut local, client, &[b"RESTORE", key, b"0", &case.payload]);
        if number % 4 == 0 {
            call(&mut local, client, &[b"PEXPIREAT", key, b"33177117420000"]);
        }
    }
    (local, client)
}

fn saved(local: &Local, version: SaveVersion) -> Vec<u8> {
    let dbs = local.engine.keyspace.dbs().iter().map(|db| db.snapshot(0)).enumerate().collect();
    let dataset = Dataset { dbs, ..Dataset::default() };
    let options = SaveOptions { version, ..SaveOptions::default() };
    let mut bytes = Vec::new();
    rdb::write(&dataset, &options, &mut bytes, &mut |_| ControlFlow::Continue(())).expect("it is");
    bytes
}

#[test]
fn a_file_of_ours_is_what_was_saved() {
    let (mut local, client) = filled();
    let digest = text_of(call(&mut local, client, &[b"DEBUG", b"DIGEST"]));
    for version in [SaveVersion::V10, SaveVersion::V11, SaveVersion::V12] {
        let (mut other, client) = self::local();
        load(&mut other, &saved(&local, version));
        assert_eq!(text_of(call(&mut other, client, &[b"DEBUG", b"DIGEST"])), digest);
    }
}

#[test]
fn a_real_redis_loads_our_file() {
    if !crate::play::redis_is_there() {
        return;
    }
    let (mut local, client) = filled();
    let digest = text_of(call(&mut local, client, &[b"DEBUG", b"DIGEST"]));
    let directory = std::env::temp_dir().join(format!("rufous-rdb-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let path = directory.join("ours.rdb");
    std::fs::write(&path, saved(&local, SaveVersion::V10)).expect("it is writable");
    let directives = [
        ("dir".to_owned(), directory.to_string_lossy().into_owned()),
        ("dbfilename".to_owned(), "ours.rdb".to_owned()),
    ];
    let server = Server::start("redis-server", &directives);
    assert_eq!(text_of(server.connect().run("DEBUG DIGEST")), digest);
    let checked = Command::new(RUFOUS).arg("--check-rdb").arg(&path).output().expect("it runs");
    std::fs::remove_dir_all(&directory).expect("it is ours");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("\\o/ RDB looks OK! \\o/"), "{said}");
    assert!(said.contains(&format!("[info] {} keys read", cases().len())), "{said}");
}

#[test]
fn a_real_redis_restores_our_payloads() {
    if !crate::play::redis_is_there() {
        return;
    }
    let (mut local, client) = local();
    let server = Server::start("redis-server", &[]);
    let mut redis = server.connect();
    for case in cases() {
        call(&mut local, client, &[b"DEL", b"k"]);
        for command in &case.commands {
            local.call(client, command).expect("it is answered at once");
        }
        let payload = bytes_of(call(&mut local, client, &[b"DUMP", b"k"]));
        let ttl = ttl_of(&case);
        let words: [&[u8]; 6] = [b"RESTORE", b"k", &ttl, &payload, b"REPLACE", b"ABSTTL"];
        assert_eq!(redis.call(&words), Some(Answer::Simple(b"OK".to_vec())), "{}", case.name);
        assert_eq!(text_of(redis.run("DEBUG DIGEST-VALUE k")), case.digest, "{}", case.name);
    }
}

/// Libraries with a long one among them, which is compressed.
fn libraries() -> [String; 3] {
    let code = |name: &str, line: &str| {
        let register = format!("redis.register_function('{name}', function() return 1 end)");
        format!("#!lua name={name}\n{line}{register}")
    };
    [code("a", ""), code("b", &"-- a long comment\n".repeat(500)), code("c_3", "\n")]
}

/// What FUNCTION DUMP of a server holds.
fn dumped(answer: Option<Answer>) -> Vec<String> {
    let payload = bytes_of(answer.expect("it is connected"));
    let verified = rdb::verify(&payload, false).expect("a real Redis has written it");
    let codes = rdb::functions_of(verified).map(|code| code.expect("a real Redis has written it"));
    let mut codes: Vec<_> = codes.map(|code| String::from_utf8(code).expect("it is")).collect();
    codes.sort();
    codes
}

/// Has a server dump libraries that it was sent, and restore them as we dump them.
fn trade_functions(binary: &str) {
    let server = Server::start(binary, &[]);
    let mut redis = server.connect();
    for code in libraries() {
        let answer = redis.call(&["FUNCTION", "LOAD", &code]);
        assert!(matches!(answer, Some(Answer::Bulk(_))), "{answer:?}");
    }
    assert_eq!(dumped(redis.call(&["FUNCTION", "DUMP"])), libraries());
    for compresses in [true, false] {
        let codes = libraries();
        let codes = codes.iter().map(|code| code.as_bytes());
        let payload = rdb::dump_functions(codes, SaveVersion::V10, compresses);
        let words: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &payload, b"FLUSH"];
        assert_eq!(redis.call(&words), Some(Answer::Simple(b"OK".to_vec())));
        assert_eq!(dumped(redis.call(&["FUNCTION", "DUMP"])), libraries());
    }
}

#[test]
fn functions_are_traded_with_a_real_redis() {
    if crate::play::redis_is_there() {
        trade_functions("redis-server");
    }
    if crate::play::redis8_is_there() {
        trade_functions(&crate::play::redis8().expect("it was just looked for"));
    }
}

#[test]
fn a_damaged_file_fails_the_check() {
    let mut bytes = std::fs::read(fixture("every-type.rdb")).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let name = format!("rufous-damaged-{}.rdb", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the temporary directory is writable");
    let mut command = Command::new(RUFOUS);
    let checked = command.arg("--check-rdb").arg(&path).stdin(Stdio::null()).output();
    let checked = checked.expect("it runs");
    std::fs::remove_file(&path).expect("it is ours");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("--- RDB ERROR DETECTED ---"), "{said}");
}

/// Commands that go through a value of any kind, and that change it.
fn uses_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" => &["STRLEN k", "APPEND k x", "GETRANGE k 0 -1", "PFCOUNT k", "BITCOUNT k"],
        "list" => &["LRANGE k 0 -1", "LPUSH k x", "LINSERT k BEFORE x y", "LPOP k", "RPOP k 3"],
        "set" => &["SMEMBERS k", "SADD k x 7", "SRANDMEMBER k", "SREM k x", "SPOP k 2"],
        "zset" => &["ZRANGE k 0 -1", "ZADD k 3 x", "ZRANK k x", "ZPOPMIN k", "ZREVRANGE k 0 1"],
        "hash" => &["HGETALL k", "HSET k x y", "HRANDFIELD k", "HDEL k x", "HSCAN k 0"],
        _ => &[
            "XRANGE k - +",
            "XREVRANGE k + - COUNT 3",
            "XINFO STREAM k FULL",
            "XADD k * a b",
            "XREADGROUP GROUP readers new COUNT 2 STREAMS k >",
            "XAUTOCLAIM k readers new 0 0",
            "XTRIM k MAXLEN 3",
            "XACK k readers 5-1",
        ],
    }
}

#[test]
fn what_was_let_in_can_be_used() {
    let (mut local, client) = local();
    call(&mut local, client, &[b"DEBUG", b"SET-SKIP-CHECKSUM-VALIDATION", b"1"]);
    let mut prng = rufous::structs::prng::Prng::seeded(17);
    let mut used = 0;
    for case in cases() {
        for _ in 0..60 {
            let mut payload = case.payload.clone();
            for _ in 0..=prng.below(2) {
                let at = prng.below(payload.len() as u64 - 10) as usize;
                payload[at] = prng.next_u64() as u8;
            }
            let words: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &payload, b"REPLACE"];
            let answer = local.call(client, &words).expect("it is answered at once");
            if matches!(answer, Answer::Error(_)) {
                continue;
            }
            used += 1;
            let kind = text_of(call(&mut local, client, &[b"TYPE", b"k"]));
            for line in uses_of(&kind) {
                let words: Vec<&str> = line.split(' ').collect();
                local.call(client, &words).expect("it is answered at once");
            }
        }
    }
    assert!(used > 200, "{used}");
}
